"""The verb `judge`: evaluates a run's model on the validation cases and compares it with an earlier one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from LASegColearnLib.checkpoints import load_checkpoint
from LASegColearnLib.cohort import Cohort, load_cohort
from LASegColearnLib.cohort_checks import check_cohort
from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.evaluation import EvaluatedCase, evaluate, summarize, write_metrics_csv
from LASegColearnLib.events import EventLog, Listener
from LASegColearnLib.paired_comparison import PairedComparison, compare_paired
from LASegColearnLib.prediction import predict
from LASegColearnLib.run_folder import RunFolder

_MEASURES = ("dice", "jaccard", "hd95", "asd")
_FOLDER = "judged"


@dataclass(frozen=True)
class Judgement:
    """The metrics of a model on cases that it was not trained on.

    Attributes
    ----------
    rows
        The model's metrics, one row per case; distances in mm.
    earlier
        The same for the earlier model, in the same order; empty without one.
    comparison
        Comparison of the two models' Dice; None without an earlier model.
    left_out
        Ids of validation cases that one of the models was trained on, and that are therefore not used.
    """

    rows: list[EvaluatedCase]
    earlier: list[EvaluatedCase]
    comparison: PairedComparison | None
    left_out: list[str]


def judge(
    run: Path,
    *,
    against: Path | None = None,
    cohort: Path | None = None,
    device: str = "auto",
    listeners: Sequence[Listener] = (),
) -> Judgement:
    """Predict the validation cases with the last model of a run, and of an earlier run, and compare with their labels.

    Segmentations and ``metrics.csv`` are written to the folder ``judged`` of each run, which is recreated each time.
    The run's own predictions and metrics, which may have been corrected, are not changed.

    Parameters
    ----------
    run
        Run folder of the model.
    against
        Run folder of the earlier model; None to evaluate one model alone.
    cohort
        Cohort file with the validation cases; the run's own by default.
    device
        ``auto``, ``cuda``, ``cuda:N``, ``mps`` or ``cpu``.
    listeners
        Called with each event: ``predicting``, and ``judged`` at the end.

    Raises
    ------
    InputError
        If a run has no intact checkpoint, the scan or label of a validation case cannot be used, or every validation
        case was trained on by one of the models.
    """
    events = EventLog(None, *listeners)
    with events.telling_failure():
        runs = [RunFolder(run), *([] if against is None else [RunFolder(against)])]
        trained = [
            set(load_checkpoint(one.last_checkpoint, needed=("networks", "lineage"))["lineage"]["trained"])
            for one in runs
        ]
        members = load_cohort(cohort or runs[0].cohort).validation
        # All checks come before the earlier results are removed, and before minutes of prediction.
        hashes = check_cohort(Cohort((), (), members), min_labeled=0, min_unlabeled=0).content_hashes
        unseen = [case for case in members if hashes[case.id] not in set().union(*trained)]
        left_out = [case.id for case in members if case not in unseen]
        if not unseen:
            raise InputError(_no_cases(left_out))
        rows = [_rows(one, Cohort((), (), tuple(unseen)), device, events, n, len(runs)) for n, one in enumerate(runs)]
        dice = [[row.metrics.dice for row in found] for found in rows]
        comparison = compare_paired(dice[0], dice[1]) if against is not None else None
        judgement = Judgement(rows[0], rows[1] if against is not None else [], comparison, left_out)
        events.emit("judged", **figures_of(judgement))
    return judgement


def figures_of(judgement: Judgement) -> dict[str, Any]:
    """A judgement as plain values: the mean of each measure, the Dice of each case, and the comparison."""

    def means(rows: list[EvaluatedCase]) -> dict[str, float] | None:
        found = summarize(rows)
        return {name: found[name].mean for name in _MEASURES} if rows else None

    return {
        "cases": len(judgement.rows),
        "means": means(judgement.rows),
        "earlier_means": means(judgement.earlier),
        "dice": {row.case: row.metrics.dice for row in judgement.rows},
        "comparison": None if judgement.comparison is None else asdict(judgement.comparison),
        "left_out": judgement.left_out,
        # Number of empty predictions, which have no distances and are not in the means of these.
        "undefined": summarize(judgement.rows)["hd95"].undefined,
        "earlier_undefined": summarize(judgement.earlier)["hd95"].undefined,
    }


def _rows(run: RunFolder, cohort: Cohort, device: str, events: EventLog, number: int, runs: int) -> list[EvaluatedCase]:
    """The metrics of one run's model; progress is counted over the cases of all runs."""
    of = len(cohort.validation)

    def tell(event: dict[str, Any]) -> None:
        if event["event"] == "predicting":
            events.emit("predicting", done=number * of + event["done"], of=runs * of)

    scans = [(case.id, case.image) for case in cohort.validation]
    folder = run.path / _FOLDER
    # Files that cannot be removed, since another program has them open, are replaced below or belong to other cases.
    shutil.rmtree(folder, ignore_errors=True)
    found = predict(run.last_checkpoint, scans, folder, figures=False, overwrite=True, device=device, listeners=[tell])
    network = found[0].figures["network"] if found else ""
    rows = evaluate(cohort, folder, network=network)
    try:
        write_metrics_csv(rows, folder / run.metrics.name)
    except PermissionError:
        events.emit(
            "warning",
            message=f"The table {_FOLDER}/{run.metrics.name} could not be replaced, perhaps because another program "
            "has it open. It still holds the earlier figures.",
        )
    return rows


def _no_cases(left_out: list[str]) -> Problem:
    remedy = "Give at least three labeled cases the role validation before the first training."
    if left_out:
        return Problem("judge", "All validation cases were trained on by one of the two models.", remedy)
    return Problem("judge", "There is no validation case to evaluate the model on.", remedy)
