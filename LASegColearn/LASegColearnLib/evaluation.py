"""The verb `evaluate`: compares predictions with the cohort's labels."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LASegColearnLib.cohort import Case, Cohort
from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.metrics import Metrics, segmentation_metrics
from LASegColearnLib.preprocessing import to_array
from LASegColearnLib.run_folder import write_text_atomically
from LASegColearnLib.scan_files import read_label, read_scan
from LASegColearnLib.segmentation_files import SEGMENT_NAME

MEASURES = ("dice", "jaccard", "hd95", "asd", "volume_ml", "reference_volume_ml", "volume_difference_ml")
SPLITS = ("validation", "labeled", "unlabeled")
UNITS = ("mm", "voxel")
_PREDICTION_NAMES = (
    "{id}/segmentation.seg.nrrd",
    "{id}/segmentation.nii.gz",
    "{id}.seg.nrrd",
    "{id}.nii.gz",
    "{id}.nrrd",
)


@dataclass(frozen=True)
class EvaluatedCase:
    """One prediction's metrics, its case, the network that made it (empty if unknown) and the unit of distances."""

    case: str
    network: str
    unit: str
    metrics: Metrics


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation of a measure over the cases in which it is defined.

    Attributes
    ----------
    count, undefined
        Number of cases with a defined value, and without one (empty masks have no distances).
    """

    mean: float
    deviation: float
    count: int
    undefined: int


def evaluate(
    cohort: Cohort, predictions: Path, *, split: str = "validation", unit: str = "mm", network: str = ""
) -> list[EvaluatedCase]:
    """Compare the predictions in a folder with the labels of a cohort, each on the grid of its scan.

    Parameters
    ----------
    cohort
        The cohort.
    predictions
        Folder as `predict` writes it: ``<id>/segmentation.seg.nrrd``, or label maps named ``<id>``. If a file has
        several segments, the one named "Left atrium" is compared.
    split
        ``validation`` or ``labeled``; ``unlabeled`` if those cases have labels.
    unit
        ``mm``, or ``voxel`` for distances in voxels.
    network
        Name of the network that predicted, for the table.

    Raises
    ------
    InputError
        If split or unit is unknown or the split has no cases; or naming all cases without a label or prediction, or
        with files that cannot be read.
    """
    _require("split", split, SPLITS)
    _require("unit", unit, UNITS)
    cases: tuple[Case, ...] = getattr(cohort, split)
    if not cases:
        remedy = "Choose another --split."
        if split == "validation":
            remedy = (
                "Cases that a training has held out are in its own cohort file: --cohort <run>/cohort.json. Or choose "
                "another --split."
            )
        raise InputError(Problem(split, f"Wanted {split} cases in the cohort, found none.", remedy))
    rows: list[EvaluatedCase] = []
    problems: list[Problem] = []
    for case in cases:
        try:
            rows.append(EvaluatedCase(case.id, network, unit, _compare(case, predictions, unit)))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return rows


def summarize(rows: Sequence[EvaluatedCase]) -> dict[str, Summary]:
    """Mean and standard deviation of each measure over the cases."""
    return {measure: summary_of([getattr(row.metrics, measure) for row in rows]) for measure in MEASURES}


def summary_of(figures: Sequence[float]) -> Summary:
    """Mean and standard deviation of the finite figures."""
    values = np.array(figures, dtype=float)
    defined = values[np.isfinite(values)]
    return Summary(
        mean=float(defined.mean()) if len(defined) else math.nan,
        deviation=float(defined.std(ddof=1)) if len(defined) > 1 else math.nan,
        count=len(defined),
        undefined=len(values) - len(defined),
    )


def write_metrics_csv(rows: Sequence[EvaluatedCase], path: Path) -> None:
    """Write one line per case; undefined measures are left empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "network", "unit", *MEASURES, "note"])
    for row in rows:
        values = [getattr(row.metrics, measure) for measure in MEASURES]
        writer.writerow(
            [
                row.case,
                row.network,
                row.unit,
                *[f"{v:.6g}" if math.isfinite(v) else "" for v in values],
                row.metrics.note,
            ]
        )
    write_text_atomically(path, text.getvalue())


def format_table(rows: Sequence[EvaluatedCase]) -> str:
    """A table for the terminal: mean and standard deviation over the cases, one line per network."""
    unit = rows[0].unit if rows else "mm"
    short = "mm" if unit == "mm" else "vox"
    lines = [
        f"{'network':12} {'Dice %':>12} {'Jaccard %':>12} {f'95HD {short}':>13} {f'ASD {short}':>12} {'volume mL':>14}"
        "  cases"
    ]
    undefined = 0
    for network in dict.fromkeys(row.network for row in rows):
        own = [row for row in rows if row.network == network]
        means = summarize(own)
        undefined += means["hd95"].undefined
        cells = [
            _cell(means["dice"], 100, 12),
            _cell(means["jaccard"], 100, 12),
            _cell(means["hd95"], 1, 13),
            _cell(means["asd"], 1, 12),
            _cell(means["volume_ml"], 1, 14),
        ]
        lines.append(f"{network or 'prediction':12} {' '.join(cells)}  {len(own)}")
    if undefined:
        lines.append(
            f"{undefined} empty predictions or labels have no distances and are not in the means of 95HD and ASD."
        )
    return "\n".join(lines)


def _cell(summary: Summary, factor: float, width: int) -> str:
    if not math.isfinite(summary.mean):
        return f"{'-':>{width}}"
    deviation = f" ± {summary.deviation * factor:.2f}" if math.isfinite(summary.deviation) else ""
    return f"{f'{summary.mean * factor:.2f}{deviation}':>{width}}"


def _require(name: str, found: str, known: Sequence[str]) -> None:
    if found not in known:
        raise InputError(
            Problem(name, f"Wanted one of {', '.join(known)}, found {found!r}.", f"Give one of these as the {name}.")
        )


def _compare(case: Case, predictions: Path, unit: str) -> Metrics:
    path = _prediction_of(case, predictions)
    problems = []
    if case.label is None:
        problems.append(missing_label(case.id))
    if path is None:
        problems.append(
            Problem(
                case.id,
                f"Wanted a prediction {_PREDICTION_NAMES[0].format(id=case.id)} in {predictions.name}, found none.",
                "Predict this case first.",
            )
        )
    if case.label is None or path is None:
        raise InputError(problems)
    scan = read_scan(case.image, case.id)
    label, about_label = read_label(case.label, case.segment, scan, case.id)
    predicted, about_prediction = _read_prediction(path, scan, case.id)
    metrics = segmentation_metrics(to_array(predicted), to_array(label), scan.GetSpacing(), in_voxels=unit == "voxel")
    notes = [metrics.note] if metrics.note else []
    notes += [warning.removeprefix(f"{case.id}: ") for warning in about_label]
    notes += [f"Of the prediction: {warning.removeprefix(f'{case.id}: ')}" for warning in about_prediction]
    return replace(metrics, note=" ".join(notes))


def missing_label(case_id: str) -> Problem:
    """The problem of a case without the label that evaluation needs."""
    return Problem(case_id, "Wanted a label to compare with, found none.", "Add it to the cohort.")


def _prediction_of(case: Case, folder: Path) -> Path | None:
    candidates = (folder / name.format(id=case.id) for name in _PREDICTION_NAMES)
    return next((path for path in candidates if path.is_file()), None)


def _read_prediction(path: Path, scan: sitk.Image, case_id: str) -> tuple[sitk.Image, list[str]]:
    """The only segment, whatever its name; if there are several, the one named "Left atrium"."""
    try:
        return read_label(path, None, scan, case_id, may_be_empty=True)
    except InputError as error:
        first = error
    try:
        return read_label(path, SEGMENT_NAME, scan, case_id, may_be_empty=True)
    except InputError:
        # Report the first error, about the file itself, not that it has no segment of this name.
        raise InputError(
            [
                Problem(problem.case, f"In its prediction {path.name}: {problem.cause}", problem.remedy)
                for problem in first.problems
            ]
        ) from None
