"""The verb `evaluate`: predictions against the cohort's labels."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from LASegColearnLib.cohort import Case, Cohort
from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.metrics import Metrics, segmentation_metrics
from LASegColearnLib.preprocessing import to_array
from LASegColearnLib.run_folder import write_text_atomically
from LASegColearnLib.scan_files import read_label, read_scan

MEASURES = ("dice", "jaccard", "hd95", "asd", "volume_ml", "reference_volume_ml", "volume_difference_ml")
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
        Folder as `predict` writes it: ``<id>/segmentation.seg.nrrd``, or label maps named ``<id>``.
    split
        ``validation`` or ``labeled``.
    unit
        ``mm``, or ``voxel`` for distances in voxels.
    network
        Name of the network that predicted, for the table.

    Raises
    ------
    InputError
        If the split has no cases, or naming all cases whose prediction is missing or whose files cannot be read.
    """
    cases: tuple[Case, ...] = getattr(cohort, split)
    if not cases:
        raise InputError(Problem(split, f"Wanted {split} cases in the cohort, found none.", "Choose another --split."))
    found = {case.id: _prediction_of(case, predictions) for case in cases}
    missing = [case_id for case_id, path in found.items() if path is None]
    if missing:
        raise InputError(
            [
                Problem(
                    case_id,
                    f"Wanted a prediction {_PREDICTION_NAMES[0].format(id=case_id)} in {predictions.name}, found none.",
                    "Predict this case first.",
                )
                for case_id in missing
            ]
        )
    rows: list[EvaluatedCase] = []
    problems: list[Problem] = []
    for case in cases:
        path = found[case.id]
        try:
            if path is not None:
                rows.append(EvaluatedCase(case.id, network, unit, _compare(case, path, unit)))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return rows


def summarize(rows: Sequence[EvaluatedCase]) -> dict[str, Summary]:
    """Mean and standard deviation of each measure over the cases."""
    result = {}
    for measure in MEASURES:
        values = np.array([getattr(row.metrics, measure) for row in rows], dtype=float)
        defined = values[np.isfinite(values)]
        result[measure] = Summary(
            mean=float(defined.mean()) if len(defined) else math.nan,
            deviation=float(defined.std(ddof=1)) if len(defined) > 1 else 0.0 if len(defined) else math.nan,
            count=len(defined),
            undefined=len(values) - len(defined),
        )
    return result


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
    return f"{f'{summary.mean * factor:.2f} ± {summary.deviation * factor:.2f}':>{width}}"


def _prediction_of(case: Case, folder: Path) -> Path | None:
    candidates = (folder / name.format(id=case.id) for name in _PREDICTION_NAMES)
    return next((path for path in candidates if path.is_file()), None)


def _compare(case: Case, prediction: Path, unit: str) -> Metrics:
    scan = read_scan(case.image, case.id)
    if case.label is None:
        raise InputError(Problem(case.id, "Wanted a label to compare with, found none.", "Add it to the cohort."))
    label, _ = read_label(case.label, case.segment, scan, case.id)
    predicted, _ = read_label(prediction, None, scan, case.id, may_be_empty=True)
    return segmentation_metrics(to_array(predicted), to_array(label), scan.GetSpacing(), in_voxels=unit == "voxel")
