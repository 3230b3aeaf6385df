"""Moves the slice views from one doubtful place of a case to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import slicer
from slicer.i18n import tr as _

Place = tuple[float, float, float]


class DoubtTour:
    """Moves the slice views from place to place, and starts over after the last.

    Parameters
    ----------
    find
        Returns the doubtful places of the case with this id, in RAS and mm, largest first.
    """

    def __init__(self, find: Callable[[str], Sequence[Place]]) -> None:
        self._find = find
        self._places: Sequence[Place] = ()
        self._at = -1

    def startAnew(self) -> None:
        """Find the places again at the next step, because another case or prediction is shown."""
        self._places, self._at = (), -1

    def step(self, caseId: str, by: int = 1) -> str:
        """Move the views by this many places and return a text on the place; empty if nothing is doubtful.

        Raises
        ------
        InputError
            If the case's uncertainty cannot be read.
        """
        if not self._places:
            self._places = self._find(caseId)
            self._at = -1 if by > 0 else 0
        if not self._places:
            return ""
        self._at = (self._at + by) % len(self._places)
        place = self._places[self._at]
        slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *place, slicer.vtkMRMLSliceNode.CenteredJumpSlice)
        return _("Doubtful place {n} of {of}").format(n=self._at + 1, of=len(self._places))
