"""The rounds of a study: each training, the model it started from, and its figures on cases not trained on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from LASegColearnLib.cohort import load_cohort
from LASegColearnLib.errors import InputError
from LASegColearnLib.methods import fewest_cases
from LASegColearnLib.paired_comparison import PairedComparison, sentence
from LASegColearnLib.predecessors import read_predecessors
from LASegColearnLib.run_folder import RunFolder, write_json_atomically
from LASegColearnLib.settings import Settings
from LASegColearnSlicer.study import Study, reachedEnd

_FILE = "round.json"


@dataclass(frozen=True)
class Round:
    """One training of a study.

    Attributes
    ----------
    run
        Name of its run folder.
    when
        When it was started, local time, ISO 8601 to the second.
    startedFrom
        Name of the run whose model it started from; None if it started from scratch.
    labeled, unlabeled
        How many cases it was trained on.
    newLabels
        Ids of the labeled cases that were not labeled in the run it started from.
    cases
        Number of cases, not trained on, that its model was judged on; 0 if not judged yet.
    validation
        Number of validation cases in the training's cohort; stored only there.
    means
        Means over `cases`: ``dice`` and ``jaccard`` 0 to 1, ``hd95`` and ``asd`` in mm.
    against
        Name of the run whose model was current when it was started; None if there was none.
    comparison
        Its Dice compared with that model's on the same cases; None if not judged yet.
    leftOut
        Ids of the validation cases that could not be used, because one of the two models was trained on them.
    undefined
        Number of cases with an empty segmentation, which are not in the means of ``hd95`` and ``asd``.
    """

    run: str
    when: str
    startedFrom: str | None
    labeled: int
    unlabeled: int
    newLabels: tuple[str, ...] = ()
    cases: int = 0
    validation: int = 0
    means: dict[str, float | None] | None = None
    against: str | None = None
    comparison: PairedComparison | None = None
    leftOut: tuple[str, ...] = ()
    undefined: int = 0

    @property
    def verdict(self) -> str:
        """A sentence on whether it is better than the run it was compared with; empty if it was not compared."""
        if self.comparison is None:
            return ""
        return sentence(self.comparison, f"model {self.run}", f"model {self.against}")


def roundsOf(study: Study) -> list[Round]:
    """The trainings that made a model, oldest first, without those made elsewhere."""
    found = [readRound(run) for run in study.models]
    return [one for one in found if one is not None]


def unjudgedRun(study: Study) -> RunFolder | None:
    """The newest run whose model can be judged but was not; None if a training has to be resumed first."""
    if study.resumableRun is not None:
        return None
    for run in reversed(study.models):
        known = readRound(run) if reachedEnd(run) else None
        if known is not None and not known.cases and canBeJudged(run):
            return run
    return None


def startRound(
    run: RunFolder, startedFrom: RunFolder | None, against: RunFolder | None, labeled: Sequence[str], unlabeled: int
) -> Round:
    """Record a training that is about to start."""
    earlier = set() if startedFrom is None else _idsIn(startedFrom, "labeled")
    begun = Round(
        run=run.path.name,
        when=datetime.now().isoformat(timespec="seconds"),
        startedFrom=None if startedFrom is None else startedFrom.path.name,
        labeled=len(labeled),
        unlabeled=unlabeled,
        newLabels=tuple(caseId for caseId in labeled if startedFrom is not None and caseId not in earlier),
        against=None if against is None else against.path.name,
    )
    _write(run, begun)
    return begun


def judgeRound(run: RunFolder, event: dict[str, Any]) -> Round | None:
    """Record the results in the engine's event ``judged``; returns None if the run has no record."""
    begun = readRound(run)
    if begun is None:
        return None
    found = event["comparison"]
    judged = replace(
        begun,
        cases=event["cases"],
        means=event["means"],
        comparison=None if found is None else PairedComparison(**found),
        leftOut=tuple(event["left_out"]),
        undefined=event["undefined"],
    )
    _write(run, judged)
    return judged


def judgeEarlier(run: RunFolder, event: dict[str, Any]) -> None:
    """Record the results in the same event for the earlier model, so that both refer to the same cases and labels."""
    known = readRound(run)
    if known is not None and event["earlier_means"] is not None:
        means, undefined = event["earlier_means"], event["earlier_undefined"]
        leftOut = tuple(event["left_out"])
        _write(run, replace(known, cases=event["cases"], means=means, undefined=undefined, leftOut=leftOut))


def readRound(run: RunFolder) -> Round | None:
    """The record of a run; None if it was not made here, or its record is damaged."""
    try:
        content = json.loads((run.path / _FILE).read_text(encoding="utf-8"))
        comparison = content["comparison"]
        # The training may have held some labeled cases out for validation; its own cohort says which.
        used = _idsIn(run, "labeled")
        if used:
            content["labeled"] = len(used)
            content["newLabels"] = [caseId for caseId in content["newLabels"] if caseId in used]
        return Round(
            **{
                **content,
                "newLabels": tuple(content["newLabels"]),
                "leftOut": tuple(content.get("leftOut", ())),
                "validation": len(_idsIn(run, "validation")),
                "comparison": None if comparison is None else PairedComparison(**comparison),
            }
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def learnedFrom(run: RunFolder) -> set[str]:
    """Ids of the cases whose labels a run's model, or any model it was trained from, has learned from."""
    found: set[str] = set()
    for one in _withPredecessors(run):
        # The engine's record also has predecessors whose folders are gone or were never in this study.
        found |= _idsIn(one, "labeled") | read_predecessors(one).labeled
    return found


def trainedOn(run: RunFolder) -> set[str]:
    """Ids of all cases, with or without labels, that a run's model or any model it started from was trained on."""
    found = learnedFrom(run)
    for one in _withPredecessors(run):
        found |= read_predecessors(one).unlabeled
        # A method that needs only labels never sees the unlabeled cases. If the method is unknown, assume that it does.
        needsUnlabeled = True
        with suppress(OSError, InputError, KeyError):
            needsUnlabeled = fewest_cases(Settings.read(one.settings).method)[1] > 0
        if needsUnlabeled:
            found |= _idsIn(one, "unlabeled")
    return found


def _withPredecessors(run: RunFolder) -> Iterator[RunFolder]:
    """The run, the run whose model it started from, and so on."""
    seen: set[str] = set()
    while run.path.name not in seen:
        seen.add(run.path.name)
        yield run
        known = readRound(run)
        if known is None or known.startedFrom is None:
            return
        run = RunFolder(run.path.with_name(known.startedFrom))


def isToBeJudged(run: RunFolder) -> bool:
    """Whether a run has validation cases to judge its model on after the training."""
    return bool(_idsIn(run, "validation"))


def canBeJudged(run: RunFolder) -> bool:
    """Whether the files of these cases exist: those of a run from another computer may be missing."""
    try:
        validation = load_cohort(run.cohort).validation
        files = [file for case in validation for file in (case.image, case.label) if file is not None]
        return bool(files) and all(file.is_file() for file in files)
    except (InputError, OSError):
        return False


def _idsIn(run: RunFolder, role: str) -> set[str]:
    """Ids of the cases with this role in the run's own cohort, since the training may have held some out."""
    try:
        content = json.loads(run.cohort.read_text(encoding="utf-8"))
        return {case["id"] for case in content[role]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _write(run: RunFolder, content: Round) -> None:
    kept = asdict(content)
    del kept["validation"]
    write_json_atomically(run.path / _FILE, kept)
