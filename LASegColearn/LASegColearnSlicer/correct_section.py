"""The panel's section Correct: what to annotate next, Slicer's Segment Editor, and figures while one edits."""

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
        Context in which errors become the section's message.
    showCase
        Shows a case in the views, by its id, and returns what of it cannot be shown; raises :class:`InputError` where
        its scan cannot.
    shownCase
        The id of the case that is shown, None if there is none.
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
        """What is edited is compared with the newest prediction."""
        self._follow()

    def onStudyChanged(self) -> None:
        """Nobody goes on painting into a case of the study that was left."""
        self._logic.unfollowSegment(self._show)
        self._show(None)
        self.editor.leave()

    def onShow(self, caseId: str) -> None:
        """Before a case is shown: nobody paints into another case's segment over its scan."""
        if self.editor.chosen[2] is not self._logic.cases.volumeNode(caseId):
            self.editor.leave()

    @property
    def isAtWork(self) -> bool:
        """Whether an effect is active."""
        return self._widget.activeEffect() is not None

    def isAtWorkOn(self, caseId: str) -> bool:
        """Whether an effect is active on the scan of this case."""
        # Not the node's name of it, which stays where the editor asks about a segmentation of surfaces and gets a no.
        return self.isAtWork and self.editor.chosen[2] is self._logic.cases.volumeNode(caseId)

    def correct(self, caseId: str) -> None:
        """Show a case, and edit its label, or a copy of the teacher's segmentation, beside the teacher's outline.

        Of a case that has neither an empty segment is edited.

        Raises
        ------
        InputError
            If a file is gone.
        """
        # Where it raises, another case's scan is still shown: nobody shall paint into this case over that.
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
        """Make the edited segment the label of its case; returns what is to be said.

        Raises
        ------
        InputError
            If nothing is edited, the scan is no case, or the segment cannot be used.
        """
        segmentation, segmentId, volume = self.editor.chosen
        if segmentation is None or volume is None:
            raise InputError(Problem(_("Label"), _("Nothing is edited."), _("Select a case and press Correct.")))
        case = self._logic.cases.caseOf(volume)
        if case is None:
            cause = _("The scan is no case of the study.")
            raise InputError(Problem(volume.GetName(), cause, _("Add it under Inputs first.")))
        used = self._logic.useAsLabel(case.id, segmentation, segmentId)
        text = _("{name} is labeled now. Label a few more cases, then retrain.")
        if used.role == "validation":
            text = _("{name} is labeled now. It stays a validation case, which is not trained on.")
        return text.format(name=used.name)

    def suggest(self, device: str, onEvent: Callable[[dict[str, Any]], None], onDone: Any) -> None:
        """Ask the model which case to annotate next. Raises :class:`InputError` if there is none, or no model."""

        def tell(event: dict[str, Any]) -> None:
            if event["event"] == "predicting":
                text = _("Looking at the scans: {done} of {of}")
                self._ui.statusLabel.text = text.format(done=event["done"], of=event["of"])
            onEvent(event)

        self._logic.suggest(device=device, onEvent=tell, onDone=onDone)

    def suggestion(self, outcome: EngineOutcome) -> str:
        """What the model asks for first, as a sentence; empty if it could not say."""
        # Some may have got a label since the model was asked.
        asked = [case for case in self._logic.study.cases if case.suggested is not None and case.role == "unlabeled"]
        if outcome.state is not EngineState.FINISHED or not asked:
            return ""
        first = min(asked, key=lambda case: case.suggested.place)
        return _("Annotate {name} next. {reason}").format(name=first.name, reason=first.suggested.reason)

    def _onChosen(self) -> None:
        """Another case may be chosen in the editor's own lists: nobody shall paint into it over this one's scan."""
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
        """Show the figures of what is edited now."""
        if not self._isEntered:
            return
        segmentation, segmentId, volume = self.editor.chosen
        if segmentation is None or volume is None or not segmentId:
            self._logic.unfollowSegment(self._show)
            self._show(None)
            return
        try:
            self._logic.followSegment(self._show, segmentation, segmentId, volume)
        except Exception as error:  # noqa: BLE001 - it is told; what was told before stays where nothing is wrong
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
