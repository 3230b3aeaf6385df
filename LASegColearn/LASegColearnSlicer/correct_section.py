"""The panel's section Correct: what to annotate next, Slicer's Segment Editor, and figures during editing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import slicer
from slicer.i18n import tr as _

from LASegColearnLib.errors import InputError, Problem
from LASegColearnSlicer.embedded_editor import EmbeddedEditor
from LASegColearnSlicer.engine_process import EngineOutcome, EngineState
from LASegColearnSlicer.live_readouts import Readouts
from LASegColearnSlicer.readouts_table import ReadoutsTable
from LASegColearnSlicer.teacher_display import TeacherOutline


class CorrectSection:
    """Connects the section's widgets with the logic.

    Parameters
    ----------
    ui
        The panel's widgets.
    logic
        The module's logic.
    tellingErrors
        Context that shows errors as the section's message.
    showCase
        Shows the case with this id in the views and returns an error in its label or prediction; raises
        :class:`InputError` if its scan cannot be shown.
    shownCase
        Returns the id of the shown case; None if there is none.
    """

    def __init__(
        self,
        ui: Any,
        logic: Any,
        tellingErrors: Callable[[], AbstractContextManager[None]],
        showCase: Callable[[str], InputError | None],
        shownCase: Callable[[], str | None],
    ) -> None:
        self._ui = ui
        self._logic = logic
        self._tellingErrors = tellingErrors
        self._showCase = showCase
        self._shownCase = shownCase
        self._isEntered = False
        self._readouts = ReadoutsTable(ui.readoutsTable)
        self._widget = slicer.qMRMLSegmentEditorWidget()
        ui.editorFrame.layout().addWidget(self._widget)
        self.editor = EmbeddedEditor(self._widget, slicer.mrmlScene, onChosen=self._onChosen)
        self.editor.setup()
        TeacherOutline.restoreSaved(slicer.mrmlScene)
        ui.correctCollapsibleButton.connect("contentsCollapsed(bool)", self._onCollapsed)
        self._show(None)

    def enter(self) -> None:
        self._isEntered = True
        self.editor.enter(hearKeys=not self._ui.correctCollapsibleButton.collapsed)
        self._follow()

    def exit(self) -> None:
        self._isEntered = False
        self._logic.unfollowSegment(self._show)
        self.editor.exit()

    def cleanup(self) -> None:
        self.editor.cleanup()

    def _onCollapsed(self, collapsed: bool) -> None:
        if self._isEntered:
            self.editor.onCollapsed(collapsed)

    def onSceneStartClose(self) -> None:
        self._logic.unfollowSegment(self._show)
        self.editor.onSceneStartClose()
        self._show(None)

    def onSceneEndClose(self) -> None:
        self.editor.onSceneEndClose()

    def onSceneEndImport(self) -> None:
        self.editor.onSceneEndImport()
        TeacherOutline.restoreSaved(slicer.mrmlScene)

    def onPredicted(self) -> None:
        """Compare the edited segment with the newest prediction."""
        self._follow()

    def onStudyChanged(self) -> None:
        """Close the editor, so that nothing is painted into a case of the previous study."""
        self._logic.unfollowSegment(self._show)
        self._show(None)
        self.editor.leave()

    def onShow(self, caseId: str) -> None:
        """Close the editor before another case is shown, so that nothing is painted over the wrong scan."""
        if self.editor.chosen[2] is not self._logic.cases.volumeNode(caseId):
            self.editor.leave()

    @property
    def isAtWork(self) -> bool:
        """Whether an effect is active."""
        return self._widget.activeEffect() is not None

    def isAtWorkOn(self, caseId: str) -> bool:
        """Whether an effect is active on the scan of this case."""
        # Not the effect name in the node: it stays if the user declines to convert a segmentation of surfaces.
        return self.isAtWork and self.editor.chosen[2] is self._logic.cases.volumeNode(caseId)

    def correct(self, caseId: str) -> None:
        """Show a case and edit its label, or a copy of the teacher's segmentation, together with the teacher's outline.

        If the case has neither, an empty segment is edited.

        Raises
        ------
        InputError
            If a file is missing.
        """
        # If this raises, another case's scan is still shown: do not start editing this case over it.
        notShown = self._showCase(caseId)
        node, segmentId = self._logic.segmentToCorrect(caseId)
        node.GetDisplayNode().SetVisibility(True)
        if self._ui.showSurfaceCheckBox.checked:
            node.CreateClosedSurfaceRepresentation()
        self._ui.correctCollapsibleButton.collapsed = False
        self.editor.edit(node, segmentId, self._logic.cases.load(caseId))
        if self._logic.isPredicted(caseId):
            self.editor.activateColearning()
        self._follow()
        if notShown is not None:
            raise notShown

    def useEdited(self) -> str:
        """Make the edited segment the label of its case; return a message for the user.

        Raises
        ------
        InputError
            If nothing is edited, the scan is not a case, or the segment cannot be used.
        """
        segmentation, segmentId, volume = self.editor.chosen
        if segmentation is None or volume is None:
            raise InputError(Problem(_("Label"), _("Nothing is edited."), _("Select a case and press Correct.")))
        case = self._logic.cases.caseOf(volume)
        if case is None:
            cause = _("The scan is not a case of the study.")
            raise InputError(Problem(volume.GetName(), cause, _("Add it under Inputs first.")))
        used = self._logic.useAsLabel(case.id, segmentation, segmentId)
        text = _("{name} is labeled now. Label a few more cases, then retrain.")
        if used.role == "validation":
            text = _("{name} is labeled now. It stays a validation case and is not trained on.")
        return text.format(name=used.name)

    def suggestion(self, outcome: EngineOutcome) -> str:
        """The model's first suggestion as a sentence; empty if there is none."""
        # Some cases may have been labeled since.
        asked = [case for case in self._logic.study.cases if case.suggested is not None and case.role == "unlabeled"]
        if outcome.state is not EngineState.FINISHED or not asked:
            return ""
        first = min(asked, key=lambda case: case.suggested.place)
        return _("Annotate {name} next. {reason}").format(name=first.name, reason=first.suggested.reason)

    def _onChosen(self) -> None:
        """Show the case chosen in the editor's own lists, so that nothing is painted over the wrong scan."""
        segmentation, _segmentId, volume = self.editor.chosen
        if self._isEntered and segmentation is not None and volume is not None and self._logic.hasStudy:
            case = self._logic.cases.caseOf(volume)
            if case is not None and case.id != self._shownCase():
                isShown = False
                with self._tellingErrors():
                    notShown = self._showCase(case.id)
                    isShown = True
                    if notShown is not None:
                        raise notShown
                if not isShown:
                    self.editor.leave()
        self._follow()

    def _follow(self) -> None:
        """Show the figures of the edited segment."""
        if not self._isEntered:
            return
        segmentation, segmentId, volume = self.editor.chosen
        if segmentation is None or volume is None or not segmentId:
            self._logic.unfollowSegment(self._show)
            self._show(None)
            return
        try:
            self._logic.followSegment(self._show, segmentation, segmentId, volume)
        except Exception as error:  # noqa: BLE001 - shown to the user; otherwise the previous message stays
            self._logic.unfollowSegment(self._show)
            self._show(None)
            with self._tellingErrors():
                raise error

    def _show(self, readouts: Readouts | None) -> None:
        self._readouts.show(readouts)
        summary = self._readouts.summary(readouts)
        self._ui.readoutsLabel.text = summary
        self._ui.readoutsLabel.setVisible(bool(summary))
        self._ui.readoutsTable.setVisible(readouts is not None and bool(readouts.networks))
