"""The cases that a run's predecessors have learned from: the model that it was started from, and that one's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from LASegColearnLib.run_folder import RunFolder, write_json_atomically

# In a checkpoint's lineage: the cases that its model and the model's predecessors have learned from.
_LABELED, _UNLABELED = "labeled_ids", "unlabeled_ids"


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

    def to_lineage(self) -> dict[str, list[str]]:
        """These ids as entries of a checkpoint's lineage."""
        return {_LABELED: sorted(self.labeled), _UNLABELED: sorted(self.unlabeled)}

    @classmethod
    def from_lineage(cls, lineage: Mapping[str, Any]) -> LearnedCases:
        """The reverse; empty for a lineage of earlier versions, which has no ids."""
        return cls(frozenset(lineage.get(_LABELED, ())), frozenset(lineage.get(_UNLABELED, ())))


def write_predecessors(run: RunFolder, initial: Mapping[str, Any] | None) -> None:
    """Record in a new run what its predecessors have learned from, since their folders may be gone later.

    Parameters
    ----------
    initial
        The checkpoint that the run starts from; None if it starts from scratch, where a record that an earlier attempt
        has left in the folder is removed.
    """
    if initial is None:
        run.predecessors.unlink(missing_ok=True)
        return
    learned = LearnedCases.from_lineage(initial["lineage"])
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
