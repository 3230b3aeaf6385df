"""A case in the slice and 3D views."""

from __future__ import annotations

from typing import Any

import slicer

from LASegColearnLib.errors import InputError, Problem
from LASegColearnSlicer.results import isOfACase


class CaseViews:
    """Shows one case at a time; all other cases' segmentations are hidden.

    Parameters
    ----------
    session
        The module's logic, whose study has the cases.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        # The case whose surface the 3D views were moved to last.
        self._centeredSurface: str | None = None

    def show(self, caseId: str, *, surface: bool, uncertainty: bool) -> tuple[Any, InputError | None]:
        """Show a case's scan, label, prediction and uncertainty.

        Returns
        -------
        tuple
            The volume node, and an error in the label's or prediction's files, or None.

        Raises
        ------
        InputError
            If the scan cannot be loaded.
        """
        session = self._session
        volume = session.cases.load(caseId)
        shown = [(session.cases.correctedSegment(caseId) or (None,))[0]]
        wrong: list[Problem] = []
        try:
            shown.append(session.cases.loadLabel(caseId))
        except InputError as error:
            wrong += error.problems
        teacher = None
        if session.isPredicted(caseId):
            try:
                teacher = session.showPrediction(caseId, surface=surface)
                session.display.showSurface(teacher, surface)
                shown.append(teacher)
            except InputError as error:
                wrong += error.problems
        doubt = session.display.uncertaintyNode(caseId) if uncertainty else None
        # Also hide those of other studies and of removed cases: the user could take them for this case's.
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
            if isOfACase(node) and node.GetDisplayNode() is not None:
                node.GetDisplayNode().SetVisibility(node in shown)
        _showLegend(doubt)
        wasShown = _isBackground(volume)
        slicer.util.setSliceViewerLayers(background=volume, foreground=doubt, foregroundOpacity=0.5)
        self._center(caseId, wasShown, surface and teacher is not None)
        return volume, InputError(wrong) if wrong else None

    def _center(self, caseId: str, wasShown: bool, hasSurface: bool) -> None:
        """Move the views to a case, unless it was already shown.

        The 3D views are empty until there is a first surface, so they are moved when it appears.
        """
        views = slicer.app.layoutManager()
        # There is no layout manager without a main window.
        if views is None:
            return
        if not wasShown:
            views.resetSliceViews()
            self._centeredSurface = None
        if not wasShown or (hasSurface and self._centeredSurface != caseId):
            views.resetThreeDViews()
        if hasSurface:
            self._centeredSurface = caseId


def _showLegend(shown: Any | None) -> None:
    for node in filter(isOfACase, slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")):
        legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(node)
        if legend is not None:
            legend.SetVisibility(node is shown)


def _isBackground(volumeNode: Any) -> bool:
    """Whether a volume is the background of all slice views."""
    views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    return {view.GetBackgroundVolumeID() for view in views} == {volumeNode.GetID()}
