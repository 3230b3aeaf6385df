"""The verb `evaluate`: predictions against the cohort's labels."""

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
    """One prediction's metrics: which case, made by which network (empty if unknown), distances in which unit."""

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
        Cases that it is the mean of, and cases in which it is not defined (empty masks have no distances).
    """

    mean: float
    deviation: float
    count: int
    undefined: int


def evaluate(
    cohort: Cohort, predictions: Path, *, split: str = "validation", unit: str = "mm", network: str = ""
) -> list[EvaluatedCase]:
    """Compare the predictions in a folder with the labels of a cohort, each on its scan's own grid.

    Parameters
    ----------
    cohort
        The cohort.
    predictions
        Folder as `predict` writes it: ``<id>/segmentation.seg.nrrd``, or label maps named ``<id>``. Of several segments
        the one named "Left atrium" is compared.
    split
        ``validation`` or ``labeled``; ``unlabeled`` where those cases have labels to compare with.
    unit
        ``mm``, or ``voxel`` for distances in voxels.
    network
        Name of the network that predicted, for the table.

    Raises
    ------
    InputError
        If split or unit is none of these, if the split has no cases, or naming all cases at once that have no label or
        no prediction, or whose files cannot be read.
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
    """Mean and standard deviation of the figures that are defined (finite)."""
    values = np.array(figures, dtype=float)
    defined = values[np.isfinite(values)]
    return Summary(
        mean=float(defined.mean()) if len(defined) else math.nan,
        deviation=float(defined.std(ddof=1)) if len(defined) > 1 else math.nan,
        count=len(defined),
        undefined=len(values) - len(defined),
    )


def write_metrics_csv(rows: Sequence[EvaluatedCase], path: Path) -> None:
    """Write a line a case; a measure that is not defined is left empty."""
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
    """A line for each network with mean and standard deviation over the cases, for a terminal."""
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
    """What to say of a case without a label where one is needed."""
    return Problem(case_id, "Wanted a label to compare with, found none.", "Add it to the cohort.")


def _prediction_of(case: Case, folder: Path) -> Path | None:
    candidates = (folder / name.format(id=case.id) for name in _PREDICTION_NAMES)
    return next((path for path in candidates if path.is_file()), None)


def _read_prediction(path: Path, scan: sitk.Image, case_id: str) -> tuple[sitk.Image, list[str]]:
    """The only segment, whatever its name; of several, the left atrium."""
    try:
        return read_label(path, None, scan, case_id, may_be_empty=True)
    except InputError as error:
        first = error
    try:
        return read_label(path, SEGMENT_NAME, scan, case_id, may_be_empty=True)
    except InputError:
        # What is wrong with the file itself, not that no segment of this name was found in it.
        raise InputError(
            [
                Problem(problem.case, f"In its prediction {path.name}: {problem.cause}", problem.remedy)
                for problem in first.problems
            ]
        ) from None
