"""The Segment Editor's effect Co-learning: shows the teacher's opinion and copies it into the edited segment.

Slicer loads this file by its path and names the Python module after the folder, so no relative imports are possible.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import ctk
import numpy as np
import qt
import slicer
import vtk
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from LASegColearnLib.errors import InputError, Problem
from LASegColearnSlicer.doubt_tour import DoubtTour
from LASegColearnSlicer.embedded_editor import PANEL_EDITOR
from LASegColearnSlicer.live_readouts import Readouts
from LASegColearnSlicer.readouts_table import ReadoutsTable
from LASegColearnSlicer.reported_errors import reportingErrors
from LASegColearnSlicer.results import MODEL_ATTRIBUTE, markModel
from LASegColearnSlicer.slice_feedback import SliceFeedback
from LASegColearnSlicer.teacher_display import Preview, TeacherOutline
from LASegColearnSlicer.teacher_opinion import (
    USUAL_CUT,
    TeacherOpinion,
    arrayOf,
    checkOutsideOfTransforms,
    findOpinion,
    loopRegion,
    matrixArray,
    resampled,
    strokeRegion,
)

_MODULE = "LASegColearn"
_CONFIDENCE, _CUT = "Confidence", "Probability"
_RADIUS, _SPHERE, _THROUGH_ALL = "BrushRadius", "BrushSphere", "ThroughAll"
_PREVIEW_COLOR = (0.35, 0.95, 0.35)
# Delay before a visible preview is updated after an edit.
_PREVIEW_DELAY_MS = 150
# Delay before the editor is checked again if a choice changed while a scene was being read.
_SCENE_DELAY_MS = 100
_BRUSH, _REGION = "brush", "region"


class SegmentEditorEffect(AbstractScriptedSegmentEditorEffect, VTKObservationMixin):
    """Shows the teacher's segment as an outline; accepts it as a whole, where sure, or where painted.

    Derived from the plain effect: Slicer's paint effect exposes neither its brush nor the mouse to Python, so a loop
    could not be drawn with it.

    Attributes
    ----------
    readoutsTable
        Table with figures of the edited segment, in its own section, which is hidden until it is filled.
    """

    def __init__(self, scriptedEffect: Any) -> None:
        scriptedEffect.name = "Colearning"  # Modules find effects by this name: not translated.
        scriptedEffect.title = _("Co-learning")
        AbstractScriptedSegmentEditorEffect.__init__(self, scriptedEffect)
        VTKObservationMixin.__init__(self)
        self._isActive = False
        self._opinion: TeacherOpinion | None = None
        # The prediction of the chosen scan that was shown last.
        self._shown: str | None = None
        self._outline: TeacherOutline | None = None
        self._preview = Preview(slicer.mrmlScene)
        # Whether the preview shows the result of Accept where sure, or of Accept.
        self._previewsSure = True
        self._shortcuts: list[tuple[Any, Callable[[], None]]] = []
        # The logic that currently reports the figures.
        self._followed: Any | None = None
        self._source: tuple[str | None, ...] = ()
        # The scan that the slider Wider or tighter was set for; it is reset for each scan.
        self._cutScan: str | None = None
        self._tour = DoubtTour(lambda caseId: self._logic().doubtfulPlaces(caseId))
        self._views: dict[Any, SliceFeedback] = {}
        # The gesture: its view, the XY to RAS matrix of its slice, and its points (RAS for a stroke, XY for a loop).
        self._gestureView: Any | None = None
        self._gestureSlice = np.eye(4)
        self._gesture: list[tuple[float, ...]] = []
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PREVIEW_DELAY_MS)
        self._timer.connect("timeout()", self._showPreview)
        self._sceneTimer = qt.QTimer()
        self._sceneTimer.setSingleShot(True)
        self._sceneTimer.setInterval(_SCENE_DELAY_MS)
        self._sceneTimer.connect("timeout()", self._onEditorNode)

    def clone(self) -> Any:
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        cloned = effects.qSlicerSegmentEditorScriptedEffect(None)
        cloned.setPythonSource(__file__.replace("\\", "/"))
        return cloned

    def icon(self) -> Any:
        return qt.QIcon(str(Path(__file__).with_suffix(".png")))

    def helpText(self) -> str:
        return (
            "<html>"
            + _(
                "Copy the opinion of the teacher, the network that {module} predicts with, into the edited segment. "
                "The teacher's segment is shown as an outline and is never changed."
                "<p><ul style='margin: 0'>"
                "<li><b>Accept</b> (key a): take the whole segment of the teacher.</li>"
                "<li><b>Accept where sure</b>: change only voxels where the teacher's confidence is at least the "
                "slider's value. Moving the slider previews the result.</li>"
                "<li><b>Wider or tighter</b>: the probability above which a voxel belongs to the teacher's segment. "
                "0.5 is the shown outline; less is wider, more is tighter. Moving the slider previews the result of "
                "Accept. It has little effect on Accept where sure.</li>"
                "<li><b>Accept in brush</b>: paint the teacher's opinion with the left mouse button in a slice view; "
                "voxels that the teacher sees as outside are erased.</li>"
                "<li><b>Accept in region</b>: draw a loop in a slice view to take the teacher's opinion inside it, in "
                "this slice or through all slices.</li>"
                "<li><b>Next, previous doubtful place</b> (keys n, Shift+n): move the slice views to where the "
                "teacher is unsure, largest place first.</li>"
                "</ul><p>The editor's masking and Undo apply to all of them."
            ).format(module=_("Left Atrium Co-Learning"))
            + "</html>"
        )

    def setupOptionsFrame(self) -> None:
        """Build the options; called once, before the effect is activated for the first time."""
        add = self.scriptedEffect.addOptionsWidget
        self.messageLabel = qt.QLabel("")
        self.messageLabel.setWordWrap(True)
        # Names of segmentations and scans can look like HTML.
        self.messageLabel.setTextFormat(qt.Qt.PlainText)
        add(self.messageLabel)

        self.cutSlider = _slider(0.05, 0.95, 0.05, 2)
        self.cutSlider.connect("valueChanged(double)", self.onCut)
        self.scriptedEffect.addLabeledOptionsWidget(_("Wider or tighter:"), _row(self.cutSlider))

        self.acceptButton = self._button(_("Accept"), _("Take the whole segment of the teacher (key a)"))
        self.acceptButton.connect("clicked()", self.onAccept)
        add(_row(self.acceptButton))

        self.confidenceSlider = _slider(0.0, 1.0, 0.01, 2)
        self.confidenceSlider.setToolTip(_("1 is certain, 0 is undecided"))
        self.confidenceSlider.connect("valueChanged(double)", self.onConfidence)
        self.acceptSureButton = self._button(_("Accept where sure"), "")
        self.acceptSureButton.connect("clicked()", self.onAcceptSure)
        self.scriptedEffect.addLabeledOptionsWidget(_("Least confidence:"), _row(self.confidenceSlider))
        add(_row(self.acceptSureButton))

        self.brushButton = self._button(
            _("Accept in brush"), _("Paint the teacher's opinion: adds and erases under the brush"), mode=_BRUSH
        )
        self.radiusSlider = _slider(0.5, 50.0, 0.5, 1)
        self.radiusSlider.suffix = " mm"
        self.radiusSlider.setToolTip(_("Radius of the brush"))
        self.radiusSlider.connect("valueChanged(double)", self.updateMRMLFromGUI)
        self.sphereCheckBox = qt.QCheckBox(_("Sphere"))
        self.sphereCheckBox.setToolTip(_("Paint in neighboring slices, too"))
        self.sphereCheckBox.connect("toggled(bool)", self.updateMRMLFromGUI)
        add(_row(self.brushButton, self.sphereCheckBox))
        self.scriptedEffect.addLabeledOptionsWidget(_("Brush radius:"), _row(self.radiusSlider))

        self.regionButton = self._button(
            _("Accept in region"),
            _("Draw a loop in a slice view to take the teacher's opinion inside it"),
            mode=_REGION,
        )
        self.throughAllCheckBox = qt.QCheckBox(_("Through all slices"))
        self.throughAllCheckBox.connect("toggled(bool)", self.updateMRMLFromGUI)
        add(_row(self.regionButton, self.throughAllCheckBox))

        self.previousDoubtButton = self._button(_("Previous doubtful place"), _("Key Shift+n"))
        self.previousDoubtButton.connect("clicked()", self.onPreviousDoubt)
        self.nextDoubtButton = self._button(_("Next doubtful place"), _("Key n"))
        self.nextDoubtButton.connect("clicked()", self.onNextDoubt)
        add(_row(self.previousDoubtButton, self.nextDoubtButton))

        self.readoutsSection = ctk.ctkCollapsibleButton()
        self.readoutsSection.text = _("Readouts")
        self.readoutsTable = qt.QTableWidget()
        self._readouts = ReadoutsTable(self.readoutsTable)
        self.readoutsLabel = qt.QLabel("")
        self.readoutsLabel.setWordWrap(True)
        self.readoutsLabel.setTextFormat(qt.Qt.PlainText)
        layout = qt.QVBoxLayout()
        layout.addWidget(self.readoutsLabel)
        layout.addWidget(self.readoutsTable)
        self.readoutsSection.setLayout(layout)
        add(self.readoutsSection)
        self.readoutsSection.setVisible(False)

    def setMRMLDefaults(self) -> None:
        self.scriptedEffect.setParameterDefault(_CONFIDENCE, 0.7)
        self.scriptedEffect.setParameterDefault(_CUT, USUAL_CUT)
        self.scriptedEffect.setParameterDefault(_RADIUS, 5.0)
        self.scriptedEffect.setParameterDefault(_SPHERE, 0)
        self.scriptedEffect.setParameterDefault(_THROUGH_ALL, 0)

    def updateGUIFromMRML(self) -> None:
        # The node may come from a scene that was saved without this effect, or by a version with fewer parameters.
        # Slicer reads missing parameters as 0.
        self.setMRMLDefaults()
        effect = self.scriptedEffect
        for widget, name, value in (
            (self.confidenceSlider, "value", effect.doubleParameter(_CONFIDENCE)),
            (self.cutSlider, "value", effect.doubleParameter(_CUT)),
            (self.radiusSlider, "value", effect.doubleParameter(_RADIUS)),
            (self.sphereCheckBox, "checked", bool(effect.integerParameter(_SPHERE))),
            (self.throughAllCheckBox, "checked", bool(effect.integerParameter(_THROUGH_ALL))),
        ):
            blocked = widget.blockSignals(True)
            setattr(widget, name, value)
            widget.blockSignals(blocked)

    def updateMRMLFromGUI(self) -> None:
        effect = self.scriptedEffect
        # Read all values first: setting a parameter updates the widgets.
        values = (
            (_CONFIDENCE, self.confidenceSlider.value),
            (_CUT, self.cutSlider.value),
            (_RADIUS, self.radiusSlider.value),
            (_SPHERE, int(self.sphereCheckBox.checked)),
            (_THROUGH_ALL, int(self.throughAllCheckBox.checked)),
        )
        for name, value in values:
            effect.setParameter(name, value)

    def activate(self) -> None:
        if self._isActive:
            # The editor calls this again if the segmentation changes during activation.
            return
        self._isActive = True
        self.addObserver(self.scriptedEffect.parameterSetNode(), vtk.vtkCommand.ModifiedEvent, self._onEditorNode)
        self._installShortcuts()
        self._source = self._chosen()
        self._sourceChanged()

    def deactivate(self) -> None:
        self._isActive = False
        self._removeShortcuts()
        self._leaveSource()
        self.removeObservers()
        self._setMode(None)

    def cleanup(self) -> None:
        """Release timers and observers before the effect is deleted."""
        if self._isActive:
            self.deactivate()
        self._timer.stop()
        self._timer.disconnect("timeout()", self._showPreview)
        self._sceneTimer.stop()
        self._sceneTimer.disconnect("timeout()", self._onEditorNode)

    def sourceVolumeNodeChanged(self) -> None:
        self._onEditorNode()

    def layoutChanged(self) -> None:
        # Another layout has other views.
        self._dropGesture()
        self._removeFeedback()

    def onAccept(self) -> None:
        """Copy the whole segment of the teacher."""
        self._take()

    def onAcceptSure(self) -> None:
        """Copy the teacher's opinion where its confidence is at least the slider's value."""
        self._take(least=self.scriptedEffect.doubleParameter(_CONFIDENCE))

    def onConfidence(self, _value: float = 0.0) -> None:
        self._onSlider(previewsSure=True)

    def onCut(self, _value: float = 0.0) -> None:
        self._onSlider(previewsSure=False)

    def _onSlider(self, *, previewsSure: bool) -> None:
        self._previewsSure = previewsSure
        self.updateMRMLFromGUI()
        # Delayed, because a slider emits a signal for each step while it is dragged.
        self._timer.start()

    def onNextDoubt(self) -> None:
        """Move the slice views to the next doubtful place; after the last, start over."""
        self._jump(1)

    def onPreviousDoubt(self) -> None:
        """Move the slice views to the previous doubtful place; before the first, go to the last."""
        self._jump(-1)

    def processInteractionEvents(self, callerInteractor: Any, eventId: int, viewWidget: Any) -> bool:
        """Handle the brush and the loop; return whether the event was consumed."""
        mode = self._mode()
        if mode is None or self._opinion is None or viewWidget.className() != "qMRMLSliceWidget":
            return False
        x, y = callerInteractor.GetEventPosition()
        used = False
        if eventId in (vtk.vtkCommand.LeftButtonPressEvent, vtk.vtkCommand.LeftButtonDoubleClickEvent):
            # The second of two quick strokes starts with only a double click. Consume it in any case, so that it never
            # maximizes the view.
            used = eventId == vtk.vtkCommand.LeftButtonDoubleClickEvent
            modified = (
                callerInteractor.GetShiftKey() or callerInteractor.GetControlKey() or callerInteractor.GetAltKey()
            )
            if not modified:
                used = True
                self._startGesture(mode, viewWidget, x, y)
        elif eventId == vtk.vtkCommand.MouseMoveEvent and self._gestureView is viewWidget:
            used = True
            self._extendGesture(mode, x, y)
        elif eventId == vtk.vtkCommand.LeftButtonReleaseEvent and self._gestureView is viewWidget:
            used = True
            self._finishGesture(mode)
        self._showFeedback(mode, viewWidget, None if eventId == vtk.vtkCommand.LeaveEvent else (x, y))
        return used

    def processViewNodeEvents(self, callerViewNode: Any, eventId: int, viewWidget: Any) -> None:
        """If the slice changes during a gesture, finish a stroke and discard a loop."""
        if self._gestureView is not viewWidget or not callerViewNode.IsA("vtkMRMLSliceNode"):
            return
        if not np.allclose(matrixArray(callerViewNode.GetXYToRAS()), self._gestureSlice):
            if self._mode() == _BRUSH:
                self._finishGesture(_BRUSH)
            self._dropGesture()

    def _sourceChanged(self) -> None:
        """Find and show the teacher's opinion of the chosen scan, or the reason why there is none."""
        self._leaveSource()
        self._shown = None
        if self._source and self._source[1] != self._cutScan:
            self._cutScan = self._source[1]
            self.scriptedEffect.setParameter(_CUT, USUAL_CUT)
        with self._tellingErrors():
            self._say(self._find())
            self._followSegment()
        self._updateButtons()

    def _find(self) -> str:
        """Find the opinion, show its outline and return a note for the user; raises InputError."""
        node = self.scriptedEffect.parameterSetNode()
        segmentationNode = node.GetSegmentationNode()
        opinion = findOpinion(self._logic(), node.GetSourceVolumeNode(), segmentationNode)
        grid = self.scriptedEffect.referenceGeometryImage()
        note = "" if grid is None else opinion.checkGeometry(grid, segmentationNode.GetName())
        self._opinion, self._shown = opinion, opinion.prediction
        self._outline = TeacherOutline(opinion.segmentationNode, opinion.segmentId, self._segmentColor())
        for event in (
            slicer.vtkSegmentation.SourceRepresentationModified,
            slicer.vtkSegmentation.SegmentModified,
            slicer.vtkSegmentation.SegmentRemoved,
        ):
            self.addObserver(segmentationNode, event, self._onSegmentEdited)
        return note

    def _followSegment(self) -> None:
        """Show the figures of the edited segment after each change; raises InputError if there are none."""
        node = self.scriptedEffect.parameterSetNode()
        # Our own panel always shows these figures below its editor.
        if node.GetSingletonTag() != PANEL_EDITOR and self._selectedSegment() is not None:
            self._followed = self._logic()
            self._followed.followSegment(
                self._showReadouts,
                node.GetSegmentationNode(),
                node.GetSelectedSegmentID(),
                node.GetSourceVolumeNode(),
            )

    def _showReadouts(self, readouts: Readouts) -> None:
        self._readouts.show(readouts)
        self.readoutsLabel.text = self._readouts.summary(readouts)
        self.readoutsSection.setVisible(True)

    def _logic(self) -> Any:
        return slicer.util.getModuleLogic(_MODULE)

    def _leaveSource(self) -> None:
        """Remove everything that is shown for the previous scan from the views."""
        if self._followed is not None:
            self._followed.unfollowSegment(self._showReadouts)
            self.readoutsSection.setVisible(False)
        self._followed = None
        self._dropGesture()
        self._removeFeedback()
        self._timer.stop()
        self._preview.remove()
        self.removeObservers(self._onSegmentEdited)
        if self._outline is not None:
            self._outline.restore()
        self._outline = self._opinion = None
        self._tour.startAnew()

    def _opinionNow(self) -> TeacherOpinion:
        """The opinion of the newest prediction; raises InputError if nothing can be accepted."""
        if self._selectedSegment() is None:
            raise InputError(Problem(_("Segment"), _("None is selected."), _("Select the one to edit in the list.")))
        if self._opinion is None or not self._opinion.isNewest(self._logic()):
            self._leaveSource()
            try:
                self._find()
                self._followSegment()
            finally:
                self._updateButtons()
        assert self._opinion is not None
        return self._opinion

    def _shownOpinion(self) -> TeacherOpinion:
        """The shown opinion; raises InputError if there is none, or if this call had to load a newer one."""
        shown, opinion = self._shown, self._opinionNow()
        if opinion.prediction != shown:
            cause = _("A newer prediction of this case has just been loaded.")
            raise InputError(Problem(opinion.caseName, cause, _("Check its outline, then try again.")))
        return opinion

    def _take(self, *, least: float | None = None, region: Callable[[Any], np.ndarray] | None = None) -> None:
        """Copy the opinion where its confidence is at least this, in the region that is made for the edited grid."""
        with self._tellingErrors():
            opinion = self._shownOpinion()
            effect = self.scriptedEffect
            editorNode = effect.parameterSetNode()
            checkOutsideOfTransforms(editorNode.GetSourceVolumeNode(), editorNode.GetSegmentationNode())
            if effect.confirmCurrentSegmentVisible() == effect.NotConfirmed:
                return
            image = self._grid()
            note = opinion.checkGeometry(image, editorNode.GetSegmentationNode().GetName())
            current = self._current(image)
            taken = opinion.taken(image, least=least, region=None if region is None else region(image))
            cut = self._cut(opinion)
            change = opinion.change(image, current, taken & self._editable(image), cut)
            self._timer.stop()
            self._preview.remove()
            if (change.add & ~current).any() or change.remove.any():
                self._modify(image, change.add & ~current, change.remove)
                # A label that is made from this segment needs to know its model.
                model = opinion.segmentationNode.GetAttribute(MODEL_ATTRIBUTE)
                markModel(editorNode.GetSegmentationNode(), editorNode.GetSelectedSegmentID(), model)
                if cut != USUAL_CUT:
                    # Mentioned because the shown outline is different.
                    note = f"{_('Taken at a probability of {cut:.2f}.').format(cut=cut)} {note}".strip()
                self._say(note)
            else:
                self._say(_("Nothing to change: the segment already agrees with the teacher there."))
        self._updateButtons()

    def _modify(self, image: Any, add: np.ndarray, remove: np.ndarray) -> None:
        effect, modes = self.scriptedEffect, slicer.qSlicerSegmentEditorAbstractEffect
        effect.saveStateForUndo()
        # Do not replace the segment as a whole: that would erase other segments wherever it overlaps them.
        for voxels, mode in ((add, modes.ModificationModeAdd), (remove, modes.ModificationModeRemove)):
            if voxels.any():
                labelmap = slicer.vtkOrientedImageData()
                labelmap.DeepCopy(image)
                arrayOf(labelmap)[:] = voxels
                effect.modifySelectedSegmentByLabelmap(labelmap, mode)

    def _showPreview(self) -> None:
        """Preview the result of the button that belongs to the slider moved last."""
        with self._tellingErrors():
            opinion = self._opinionNow()
            if self._previewsSure and opinion.uncertaintyNode is None:
                return
            image = self._grid()
            current = self._current(image)
            least = self.scriptedEffect.doubleParameter(_CONFIDENCE) if self._previewsSure else None
            taken = opinion.taken(image, least=least)
            change = opinion.change(image, current, taken & self._editable(image), self._cut(opinion))
            self._preview.show(image, (current | change.add) & ~change.remove, _PREVIEW_COLOR)

    def _cut(self, opinion: TeacherOpinion) -> float:
        """The probability threshold; a prediction without probability is used as it is."""
        return self.scriptedEffect.doubleParameter(_CUT) if opinion.hasProbability else USUAL_CUT

    def _grid(self) -> Any:
        image = self.scriptedEffect.defaultModifierLabelmap()
        if image is None:
            cause = _("The geometry of the segmentation is unknown.")
            raise InputError(Problem(_("Segmentation"), cause, _("Choose the source volume again.")))
        return image

    def _editable(self, image: Any) -> np.ndarray:
        """Where the editor's masks allow editing, boolean, on this grid.

        The editor applies its masks itself, except if editing is allowed inside one segment only: then it also erases
        outside that segment, and adds what it erases to that segment. With this mask, nothing changes outside.
        """
        effect, node = self.scriptedEffect, self.scriptedEffect.parameterSetNode()
        editable = np.ones(arrayOf(image).shape, bool)
        if node.GetMaskMode() != slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere:
            editable &= resampled(effect.maskLabelmap(), image) == 0
        if node.GetSourceVolumeIntensityMask():
            values = resampled(effect.sourceVolumeImageData(), image)
            low, high = node.GetSourceVolumeIntensityMaskRange()
            editable &= (values >= low) & (values <= high)
        return editable

    def _current(self, image: Any) -> np.ndarray:
        """The edited segment on this grid."""
        labelmap = self.scriptedEffect.selectedSegmentLabelmap()
        return np.zeros(arrayOf(image).shape, bool) if labelmap is None else resampled(labelmap, image) > 0

    def _jump(self, step: int) -> None:
        with self._tellingErrors():
            opinion = self._opinionNow()
            self._say(self._tour.step(opinion.caseId, step) or _("No region of this case is uncertain."))

    def _startGesture(self, mode: str, viewWidget: Any, x: int, y: int) -> None:
        with self._tellingErrors():
            before = self._opinion
            if self._shownOpinion() is not before:
                # Reloading takes a while, and the mouse button may have been released meanwhile.
                return
            effect = self.scriptedEffect
            # After a dialog, the mouse button is released and the mouse is elsewhere.
            if effect.confirmCurrentSegmentVisible() == effect.ConfirmedWithoutDialog:
                self._gestureView = viewWidget
                self._gestureSlice = matrixArray(effect.viewNode(viewWidget).GetXYToRAS())
                self._gesture = []
                self._extendGesture(mode, x, y)

    def _extendGesture(self, mode: str, x: int, y: int) -> None:
        ras = self._gestureSlice @ (x, y, 0, 1)
        self._gesture.append(tuple(ras[:3]) if mode == _BRUSH else (x, y))

    def _finishGesture(self, mode: str) -> None:
        gesture, view, xyToRas, effect = self._gesture, self._gestureView, self._gestureSlice, self.scriptedEffect
        self._dropGesture()
        thickness = effect.sliceSpacing(view)
        if mode == _BRUSH:
            radius = effect.doubleParameter(_RADIUS)
            normal = None if effect.integerParameter(_SPHERE) else np.cross(xyToRas[:3, 0], xyToRas[:3, 1])
            self._take(
                region=lambda image: strokeRegion(image, gesture, radius, normal=normal, thickness=thickness),
            )
        elif len(gesture) > 2:
            depth = None if effect.integerParameter(_THROUGH_ALL) else thickness
            self._take(region=lambda image: loopRegion(image, gesture, xyToRas, thickness=depth))

    def _dropGesture(self) -> None:
        view, self._gestureView, self._gesture = self._gestureView, None, []
        if view in self._views:
            self._views[view].clear()
            self.scriptedEffect.scheduleRender(view)

    def _showFeedback(self, mode: str, viewWidget: Any, place: tuple[int, int] | None) -> None:
        if viewWidget not in self._views:
            self._views[viewWidget] = SliceFeedback()
            for actor in self._views[viewWidget].actors:
                self.scriptedEffect.addActor2D(viewWidget, actor)
        feedback = self._views[viewWidget]
        gesture = self._gesture if self._gestureView is viewWidget else []
        if mode == _BRUSH:
            radius = self.scriptedEffect.doubleParameter(_RADIUS)
            node = self.scriptedEffect.viewNode(viewWidget)
            feedback.showBrush(node, place, radius, np.array(gesture, float))
        else:
            feedback.showLoop(gesture)
        self.scriptedEffect.scheduleRender(viewWidget)

    def _removeFeedback(self) -> None:
        for view, feedback in self._views.items():
            for actor in feedback.actors:
                self.scriptedEffect.removeActor2D(view, actor)
        self._views = {}

    def _mode(self) -> str | None:
        """What the left mouse button does."""
        return _BRUSH if self.brushButton.checked else _REGION if self.regionButton.checked else None

    def _setMode(self, mode: str | None) -> None:
        self._dropGesture()
        self._removeFeedback()
        for button, own in ((self.brushButton, _BRUSH), (self.regionButton, _REGION)):
            blocked = button.blockSignals(True)
            button.checked = own == mode
            button.blockSignals(blocked)

    def _button(self, text: str, toolTip: str, mode: str | None = None) -> Any:
        button = qt.QPushButton(text)
        button.setToolTip(toolTip)
        if mode is not None:
            button.setCheckable(True)
            button.connect("toggled(bool)", lambda checked: self._setMode(mode if checked else None))
        return button

    def _updateButtons(self) -> None:
        found = self._opinion is not None
        sure = found and self._opinion.uncertaintyNode is not None  # type: ignore[union-attr]
        for button in (self.acceptButton, self.brushButton, self.regionButton):
            button.enabled = found
        if not found:
            self._setMode(None)
        why = _("This prediction has no uncertainty. Predict the case again.") if found and not sure else ""
        for widget in (self.acceptSureButton, self.confidenceSlider, self.previousDoubtButton, self.nextDoubtButton):
            widget.enabled = sure
        self.cutSlider.enabled = found and self._opinion.hasProbability  # type: ignore[union-attr]
        self.cutSlider.setToolTip(
            _("Probability above which a voxel counts as inside: 0.5 is the shown outline, less is wider")
            if self.cutSlider.enabled or not found
            else _("This prediction has no probability. Predict the case again.")
        )
        self.acceptSureButton.setToolTip(
            why or _("Take the teacher's opinion only where its confidence is at least this")
        )
        self.previousDoubtButton.setToolTip(why or _("Key Shift+n"))
        self.nextDoubtButton.setToolTip(why or _("Key n"))

    def _installShortcuts(self) -> None:
        window = slicer.util.mainWindow()
        if window is None:
            return
        for key, action in (("a", self.onAccept), ("n", self.onNextDoubt), ("Shift+n", self.onPreviousDoubt)):
            receiver = self._whenShown(action)
            shortcut = qt.QShortcut(window)
            shortcut.setKey(qt.QKeySequence(key))
            shortcut.connect("activated()", receiver)
            self._shortcuts.append((shortcut, receiver))

    def _whenShown(self, action: Callable[[], None]) -> Callable[[], None]:
        """Run an action only if the effect is visible.

        A scene can be opened with this effect active in a hidden editor; a key would then change it unnoticed.
        """

        def act() -> None:
            if self.acceptButton.visible:
                action()

        return act

    def _removeShortcuts(self) -> None:
        for shortcut, receiver in self._shortcuts:
            shortcut.disconnect("activated()", receiver)
            shortcut.setEnabled(False)
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts = []

    def _chosen(self) -> tuple[str | None, ...]:
        node = self.scriptedEffect.parameterSetNode()
        if node is None:
            return ()
        nodes = (node.GetSegmentationNode(), node.GetSourceVolumeNode())
        return (*(None if n is None else n.GetID() for n in nodes), node.GetSelectedSegmentID())

    def _onEditorNode(self, _caller: Any = None, _event: Any = None) -> None:
        """React to a new segmentation, segment, scan or mask in the editor."""
        if not self._isActive or slicer.mrmlScene.IsClosing():
            return
        if slicer.mrmlScene.IsBatchProcessing():
            # While a scene is being read, the nodes that this node refers to may not exist yet.
            self._sceneTimer.start()
            return
        if self._chosen() != self._source:
            self._source = self._chosen()
            self._sourceChanged()
        elif self._preview.node is not None:
            self._timer.start()

    def _onSegmentEdited(self, _caller: Any, _event: Any) -> None:
        if self._preview.node is not None:
            self._timer.start()

    def _selectedSegment(self) -> Any | None:
        node = self.scriptedEffect.parameterSetNode()
        segmentation = None if node is None else node.GetSegmentationNode()
        segmentId = "" if node is None else node.GetSelectedSegmentID() or ""
        return None if segmentation is None else segmentation.GetSegmentation().GetSegment(segmentId)

    def _segmentColor(self) -> tuple[float, ...]:
        segment = self._selectedSegment()
        return (0.5, 0.5, 0.5) if segment is None else tuple(segment.GetColor())

    def _tellingErrors(self) -> AbstractContextManager[None]:
        """Report errors as a sentence in the options."""
        return reportingErrors(self._say)

    def _say(self, text: str) -> None:
        self.messageLabel.text = text
        self.messageLabel.setVisible(bool(text))


def _slider(minimum: float, maximum: float, step: float, decimals: int) -> Any:
    slider = ctk.ctkSliderWidget()
    slider.decimals = decimals
    slider.singleStep = step
    slider.minimum = minimum
    slider.maximum = maximum
    return slider


def _row(*widgets: Any) -> Any:
    """Put widgets side by side at their own height: the editor stretches a widget that is added directly."""
    row = qt.QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row
