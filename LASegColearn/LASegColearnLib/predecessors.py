"""The cases that a run's predecessors have learned from: the model that it was started from, and that one's.

The record is in the run's folder and not in its checkpoint, since a case's id may tell of a patient and a checkpoint is
what people give away.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from LASegColearnLib.cohort import load_cohort
from LASegColearnLib.errors import InputError
from LASegColearnLib.methods import method_class
from LASegColearnLib.run_folder import RunFolder, write_json_atomically
from LASegColearnLib.settings import Settings


@dataclass(frozen=True)
class LearnedCases:
    """Ids of the cases that models have learned from.

    Attributes
    ----------
    labeled, unlabeled
        The cases whose labels were learned from, and those that were learned from without a label. A case that was
        labeled for a later model is in both.
    """

    labeled: frozenset[str] = frozenset()
    unlabeled: frozenset[str] = frozenset()

    def __or__(self, other: LearnedCases) -> LearnedCases:
        return LearnedCases(self.labeled | other.labeled, self.unlabeled | other.unlabeled)

    @property
    def all(self) -> frozenset[str]:
        """The cases that were learned from in either way."""
        return self.labeled | self.unlabeled


def learned_by_model_in(checkpoint: Path) -> LearnedCases:
    """What a model and its predecessors have learned from; empty if its checkpoint is no longer in its run's folder."""
    learned = LearnedCases()
    # It may be named by a link to it, and its folder may be a link to another disk.
    for path in (checkpoint.absolute(), checkpoint.resolve()):
        run = RunFolder(path.parent.parent)
        if run.checkpoints == path.parent:
            learned |= _learned_in(run) | read_predecessors(run)
    return learned


def write_predecessors(run: RunFolder, learned: LearnedCases) -> None:
    """Record in a new run what its predecessors have learned from, since their folders may be gone later.

    Without predecessors, a record that an earlier attempt has left in the folder is removed.
    """
    if not learned.all:
        run.predecessors.unlink(missing_ok=True)
        return
    write_json_atomically(
        run.predecessors, {"labeled": sorted(learned.labeled), "unlabeled": sorted(learned.unlabeled)}
    )


def read_predecessors(run: RunFolder) -> LearnedCases:
    """What a run's predecessors have learned from; empty if there are none, or no intact record of it."""
    try:
        content = json.loads(run.predecessors.read_text(encoding="utf-8"))
        return LearnedCases(frozenset(map(str, content["labeled"])), frozenset(map(str, content["unlabeled"])))
    except (OSError, ValueError, KeyError, TypeError):
        return LearnedCases()


def _learned_in(run: RunFolder) -> LearnedCases:
    """What the run itself has learned from; empty if its cohort cannot be read."""
    try:
        cohort = load_cohort(run.cohort)
    except InputError:
        return LearnedCases()
    # A method that learns from labels alone never sees the unlabeled cases. If the method is unknown, assume that it
    # does.
    needs_unlabeled = True
    with suppress(OSError, InputError):
        needs_unlabeled = method_class(Settings.read(run.settings).method).needs_unlabeled
    unlabeled = cohort.unlabeled if needs_unlabeled else ()
    return LearnedCases(frozenset(case.id for case in cohort.labeled), frozenset(case.id for case in unlabeled))
