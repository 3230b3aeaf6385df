"""The Segment Editor's effect Co-learning, on real MRML segmentations with Slicer's own masks and undo."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from predicted_case import SHAPE, PredictedCase, makePredictedCase, writePrediction
from slicer_stand_in.application import startSlicer
from slicer_stand_in.pythonqt import bare

# A closed scene keeps slice nodes: one name a view.
_NUMBERS = itertools.count(1)


@dataclass
class Editor:
    """An embedded editor, its active effect, and the case that is edited in it."""

    embedded: Any
    widget: Any
    effect: Any
    case: PredictedCase

    @property
    def message(self) -> str:
        return str(self.effect.messageLabel.text)

    @property
    def node(self) -> Any:
        return self.widget.mrmlSegmentEditorNode()

    def close(self) -> None:
        """As when the panel is deleted."""
        self.embedded.exit()
        self.effect.scriptedEffect.cleanup()
        self.widget.setMRMLScene(None)
        self.widget.setMRMLSegmentEditorNode(None)

    def moveSlider(self, value: float, slider: str = "confidenceSlider") -> None:
        import slicer

        getattr(self.effect, slider).value = value
        until = time.monotonic() + 5
        while self.effect._timer.active and time.monotonic() < until:
            slicer.app.processEvents()

    def send(self, view: Any, event: str, place: tuple[float, float], **keys: bool) -> bool:
        """What happens in a slice view, as the editor's observers hand it on."""
        import vtk

        interactor = vtk.vtkRenderWindowInteractor()
        interactor.SetEventPosition(round(place[0]), round(place[1]))
        interactor.SetShiftKey(keys.get("shift", False))
        interactor.SetControlKey(keys.get("control", False))
        interactor.SetAltKey(keys.get("alt", False))
        return bool(
            self.effect.scriptedEffect.processInteractionEvents(interactor, getattr(vtk.vtkCommand, event), view)
        )

    def drag(self, view: Any, places: list[tuple[float, float]], begin: str = "LeftButtonPressEvent") -> None:
        assert self.send(view, begin, places[0])
        for place in places[1:]:
            assert self.send(view, "MouseMoveEvent", place)
        assert self.send(view, "LeftButtonReleaseEvent", places[-1])


def _open(folder: Path, monkeypatch: pytest.MonkeyPatch, *, tag: str | None = None, **options: bool) -> Editor:
    core = startSlicer()
    core.scene.Clear(0)
    import slicer

    import LASegColearn
    from LASegColearnSlicer.embedded_editor import PANEL_EDITOR, EmbeddedEditor

    slicer.qSlicerSegmentEditorEffectFactory._instance = None
    LASegColearn.registerEffect()
    logic = LASegColearn.LASegColearnLogic()
    monkeypatch.setattr(slicer.util, "getModuleLogic", lambda name: {"LASegColearn": logic}[name])
    case = makePredictedCase(logic, folder / "Studie Vorhöfe", **options)
    widget = slicer.qMRMLSegmentEditorWidget()
    embedded = EmbeddedEditor(widget, slicer.mrmlScene, tag or PANEL_EDITOR)
    embedded.setup()
    embedded.enter()
    embedded.edit(case.node, case.segmentId, case.volume)
    embedded.activateColearning()
    return Editor(embedded, widget, widget.activeEffect().self(), case)


@pytest.fixture
def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Editor]:
    editor = _open(tmp_path, monkeypatch)
    yield editor
    editor.close()


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Editor]:
    """On a grid of 1 mm along the body's axes, so that places in a view are voxels."""
    editor = _open(tmp_path, monkeypatch, oblique=False)
    yield editor
    editor.close()


def _view(editor: Editor, k: int = 10) -> Any:
    """An axial view of a plain case at one of its layers, and the way from voxel i, j to the view's x, y."""
    from slicer_stand_in.segment_editor import sliceWidget

    view = sliceWidget(startSlicer(), editor.case.volume, f"View{next(_NUMBERS)}")
    view.sliceLogic().SetSliceOffset(float(k))

    def xy(i: float, j: float) -> tuple[float, float]:
        import vtk

        toXy = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(view.sliceLogic().GetSliceNode().GetXYToRAS(), toXy)
        return toXy.MultiplyPoint((i, j, k, 1))[:2]

    return view, xy


def _other(case: PredictedCase, box: tuple[slice, ...]) -> tuple[str, np.ndarray]:
    """Another segment of the edited node."""
    import slicer

    segmentId = case.node.GetSegmentation().AddEmptySegment("other", "Other")
    mask = np.zeros(SHAPE, np.uint8)
    mask[box] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, case.node, segmentId, case.volume)
    return segmentId, mask > 0


def test_accept_takes_the_teachers_segment_whole_and_one_undo_brings_back_what_was(editor: Editor) -> None:
    before = editor.case.voxels()
    assert editor.message == ""
    editor.effect.acceptButton.click()
    assert editor.message == ""
    assert np.array_equal(editor.case.voxels(), editor.case.teacher)
    editor.widget.undo()
    assert np.array_equal(editor.case.voxels(), before)
    editor.widget.redo()
    assert np.array_equal(editor.case.voxels(), editor.case.teacher)
    editor.effect.acceptButton.click()
    assert editor.message == "Nothing to change: the segment already agrees with the teacher there."
    # Saying so is not a step of its own.
    editor.widget.undo()
    assert np.array_equal(editor.case.voxels(), before)


def test_accept_fills_a_segment_that_is_still_empty(editor: Editor) -> None:
    segmentId = editor.case.node.GetSegmentation().AddEmptySegment("new", "New")
    editor.widget.setCurrentSegmentID(segmentId)
    editor.effect.onAccept()
    assert np.array_equal(editor.case.voxels(segmentId), editor.case.teacher)
    editor.widget.undo()
    assert not editor.case.voxels(segmentId).any()


@pytest.mark.parametrize("least", [0.0, 0.55, 0.7, 1.0])
def test_where_sure_the_opinion_is_taken_and_elsewhere_the_segment_stays(editor: Editor, least: float) -> None:
    before, case = editor.case.voxels(), editor.case
    editor.moveSlider(least)
    editor.effect.acceptSureButton.click()
    expected = np.where(1 - case.uncertainty >= least - 1e-6, case.teacher, before)
    assert np.array_equal(case.voxels(), expected)
    editor.widget.undo()
    assert np.array_equal(case.voxels(), before)


def test_the_slider_is_kept_in_the_editors_node(editor: Editor) -> None:
    assert editor.node.GetAttribute("Colearning.Confidence") == "0.7"
    editor.moveSlider(0.45)
    editor.effect.radiusSlider.value = 7.5
    editor.effect.sphereCheckBox.checked = True
    assert editor.node.GetAttribute("Colearning.Confidence") == "0.45"
    assert editor.node.GetAttribute("Colearning.BrushRadius") == "7.5"
    assert editor.node.GetAttribute("Colearning.BrushSphere") == "1"
    editor.effect.scriptedEffect.setParameter("Confidence", 0.9)
    assert editor.effect.confidenceSlider.value == pytest.approx(0.9)


def test_the_preview_follows_the_slider_and_the_edits_and_disappears(editor: Editor) -> None:
    import slicer

    case, effect = editor.case, editor.effect
    own = case.voxels()

    def shown() -> np.ndarray | None:
        node = slicer.mrmlScene.GetFirstNodeByName("Co-learning preview")
        if node is None:
            return None
        return slicer.util.arrayFromSegmentBinaryLabelmap(node, "preview", case.volume) > 0

    assert shown() is None
    for least in (0.5, 0.9):
        editor.moveSlider(least)
        assert np.array_equal(shown(), np.where(1 - case.uncertainty >= least - 1e-6, case.teacher, own))
    assert np.array_equal(case.voxels(), own)
    # An edit with another tool: a voxel that the teacher is not sure of.
    unsure = tuple(np.argwhere((case.uncertainty > 0.2) & ~own & ~case.teacher)[0])
    own = own.copy()
    own[unsure] = True
    slicer.util.updateSegmentBinaryLabelmapFromArray(own.astype(np.uint8), case.node, case.segmentId, case.volume)
    until = time.monotonic() + 5
    while not shown()[unsure] and time.monotonic() < until:  # type: ignore[index]
        slicer.app.processEvents()
    assert shown()[unsure]  # type: ignore[index]
    effect.onAcceptSure()
    assert shown() is None
    editor.moveSlider(0.6)
    assert shown() is not None
    editor.widget.setActiveEffect(None)
    assert shown() is None


def test_the_preview_is_made_once_the_slider_rests(editor: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(editor.effect._preview, "show", lambda *given: shown.append(given))
    for least in (0.5, 0.55, 0.6):
        editor.effect.confidenceSlider.value = least
    assert not shown
    editor.moveSlider(0.65)
    assert len(shown) == 1


def test_the_preview_shows_only_what_the_masks_allow(editor: Editor) -> None:
    import slicer

    case = editor.case
    own = case.voxels()
    voxels = slicer.util.arrayFromVolume(case.volume)
    editor.node.SetSourceVolumeIntensityMask(True)
    editor.node.SetSourceVolumeIntensityMaskRange(300, 600)
    editor.moveSlider(0.0)
    node = slicer.mrmlScene.GetFirstNodeByName("Co-learning preview")

    def shows(low: int, high: int) -> bool:
        shown = slicer.util.arrayFromSegmentBinaryLabelmap(node, "preview", case.volume) > 0
        return np.array_equal(shown, np.where((voxels >= low) & (voxels <= high), case.teacher, own))

    assert shows(300, 600)
    # And follows them when they change.
    editor.node.SetSourceVolumeIntensityMaskRange(100, 500)
    until = time.monotonic() + 5
    while not shows(100, 500):
        assert time.monotonic() < until
        slicer.app.processEvents()


def _preview(case: PredictedCase) -> np.ndarray | None:
    import slicer

    node = slicer.mrmlScene.GetFirstNodeByName("Co-learning preview")
    if node is None:
        return None
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, "preview", case.volume) > 0


@pytest.mark.parametrize("cut", [0.3, 0.55, 0.8])
def test_the_teacher_is_taken_wider_or_tighter_as_its_probability_says(editor: Editor, cut: float) -> None:
    case, before = editor.case, editor.case.voxels()
    expected = case.probability > cut
    # A part of its own is no atrium.
    expected[18:] = False
    assert editor.node.GetAttribute("Colearning.Probability") == "0.5"
    editor.moveSlider(cut, "cutSlider")
    assert editor.node.GetAttribute("Colearning.Probability") == f"{cut:g}"
    # Accept's, not that of Accept where sure.
    assert np.array_equal(_preview(case), expected)
    editor.effect.acceptButton.click()
    assert _preview(case) is None
    assert editor.message == f"Taken at a probability of {cut:.2f}."
    assert np.array_equal(case.voxels(), expected)
    editor.widget.undo()
    assert np.array_equal(case.voxels(), before)
    editor.moveSlider(0.65)
    sure = np.where(1 - case.uncertainty >= 0.65 - 1e-6, expected, before)
    assert np.array_equal(_preview(case), sure)
    editor.effect.acceptSureButton.click()
    assert np.array_equal(case.voxels(), sure)
    editor.moveSlider(0.5, "cutSlider")
    editor.effect.acceptButton.click()
    assert editor.message == ""
    assert np.array_equal(case.voxels(), case.teacher)


def test_a_folder_that_is_gone_is_said_and_nothing_can_be_painted(editor: Editor, tmp_path: Path) -> None:
    before = editor.case.voxels()
    editor.effect.brushButton.click()
    editor.case.logic.study.folder.rename(tmp_path / "gone")
    editor.moveSlider(0.3, "cutSlider")
    assert "The study's folder was not found. Move it back" in editor.message
    assert not editor.effect.brushButton.checked
    assert not (editor.effect.acceptButton.enabled or editor.effect.cutSlider.enabled)
    assert np.array_equal(editor.case.voxels(), before)


def test_a_teacher_that_the_effect_has_loaded_is_not_shown_without_it(editor: Editor) -> None:
    display = editor.case.logic.display.teacherNode(editor.case.caseId).GetDisplayNode()
    assert display.GetVisibility() and not display.GetVisibility2DFill()
    editor.widget.setActiveEffect(None)
    assert not display.GetVisibility()


def test_a_transform_that_comes_later_moves_no_opinion(editor: Editor) -> None:
    """Of the scan or the segmentation it is said; the teacher is loaded anew where it belongs."""
    import slicer
    import vtk

    move = vtk.vtkTransform()
    move.Translate(0, 0, 6)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(move.GetMatrix())
    case, before = editor.case, editor.case.voxels()
    for node in (case.node, case.volume):
        node.SetAndObserveTransformNodeID(transform.GetID())
        editor.effect.onAccept()
        assert f"{node.GetName()}: It is inside a transform that is not hardened" in editor.message
        node.SetAndObserveTransformNodeID(None)
        assert np.array_equal(case.voxels(), before)
    moved = case.logic.display.teacherNode(case.caseId)
    moved.SetAndObserveTransformNodeID(transform.GetID())
    editor.effect.onAccept()
    assert case.logic.display.teacherNode(case.caseId).GetParentTransformNode() is None
    assert np.array_equal(case.voxels(), case.teacher)


def test_a_case_that_was_removed_is_said(editor: Editor) -> None:
    before = editor.case.voxels()
    editor.case.logic.study.remove(editor.case.caseId)
    for press in (editor.effect.onNextDoubt, editor.effect.onAccept):
        press()
        assert editor.message.startswith("Scan: The scan is not a case of the study that is open.")
    assert np.array_equal(editor.case.voxels(), before)


def test_the_next_scan_is_taken_as_predicted_until_its_own_outline_is_moved(editor: Editor) -> None:
    import slicer

    editor.moveSlider(0.3, "cutSlider")
    editor.widget.setActiveEffect(None)
    editor.embedded.activateColearning()
    assert editor.effect.cutSlider.value == pytest.approx(0.3)
    another = slicer.util.addVolumeFromArray(np.zeros(SHAPE, np.int16), name="Another")
    editor.widget.setSourceVolumeNode(another)
    assert editor.effect.cutSlider.value == 0.5
    editor.widget.setSourceVolumeNode(editor.case.volume)
    editor.effect.onAccept()
    assert np.array_equal(editor.case.voxels(), editor.case.teacher)


def test_parameters_that_a_saved_scene_has_not_get_their_defaults(editor: Editor) -> None:
    editor.widget.setActiveEffect(None)
    for name in ("Confidence", "Probability", "BrushRadius", "BrushSphere", "ThroughAll"):
        editor.node.RemoveAttribute(f"Colearning.{name}")
    editor.embedded.activateColearning()
    assert editor.effect.cutSlider.value == 0.5
    assert editor.effect.confidenceSlider.value == pytest.approx(0.7)
    editor.effect.acceptButton.click()
    assert np.array_equal(editor.case.voxels(), editor.case.teacher)


def test_the_brush_takes_the_wider_opinion_too(plain: Editor) -> None:
    case, before = plain.case, plain.case.voxels()
    plain.moveSlider(0.3, "cutSlider")
    view, xy = _view(plain, k=10)
    plain.effect.radiusSlider.value = 3.0
    plain.effect.brushButton.click()
    plain.drag(view, [xy(21, 12)])
    j, i = np.mgrid[: SHAPE[1], : SHAPE[2]]
    under = np.hypot(j - 12, i - 21) < 2.9
    wider = case.probability[10] > 0.3
    assert (wider & ~case.teacher[10] & under).any()
    assert np.array_equal(case.voxels()[10][under], wider[under])
    assert np.array_equal(case.voxels()[:10], before[:10])


def test_a_probability_that_cannot_be_read_is_said(editor: Editor) -> None:
    case, before = editor.case, editor.case.voxels()
    (case.logic.study.predictions / case.caseId / "probability.nrrd").write_bytes(b"NRRD0004\n")
    editor.moveSlider(0.7, "cutSlider")
    told = "Scan: The probability of its prediction cannot be read. Predict the case again."
    assert editor.message == told
    editor.effect.messageLabel.text = ""
    editor.effect.acceptButton.click()
    assert editor.message == told
    assert np.array_equal(case.voxels(), before)


def test_an_intensity_range_is_respected(editor: Editor) -> None:
    import slicer

    before, case = editor.case.voxels(), editor.case
    editor.node.SetSourceVolumeIntensityMask(True)
    editor.node.SetSourceVolumeIntensityMaskRange(300, 600)
    editor.effect.onAccept()
    voxels = slicer.util.arrayFromVolume(case.volume)
    editable = (voxels >= 300) & (voxels <= 600)
    assert np.array_equal(case.voxels(), np.where(editable, case.teacher, before))
    editor.widget.undo()
    assert np.array_equal(case.voxels(), before)


@pytest.mark.parametrize(
    "mode", ["EditAllowedOutsideAllSegments", "EditAllowedInsideSingleSegment", "EditAllowedInsideAllSegments"]
)
def test_a_segment_mask_is_respected_and_the_other_segment_stays_outside_of_it(editor: Editor, mode: str) -> None:
    case = editor.case
    before = case.voxels()
    otherId, other = _other(case, (slice(3, 9), slice(10, 20), slice(12, 28)))
    assert (other & case.teacher & ~before).any() and (case.teacher & ~other).any()
    before = case.voxels()
    editor.node.SetMaskSegmentID(otherId)
    editor.node.SetMaskMode(getattr(case.node, mode))
    editor.effect.onAccept()
    editable = {
        "EditAllowedOutsideAllSegments": ~other,
        "EditAllowedInsideSingleSegment": other,
        "EditAllowedInsideAllSegments": other | before,
    }[mode]
    assert np.array_equal(case.voxels(), np.where(editable, case.teacher, before))
    assert not ((case.voxels(otherId) != other) & ~(case.teacher & editable)).any()
    editor.widget.undo()
    assert np.array_equal(case.voxels(), before)
    assert np.array_equal(case.voxels(otherId), other)


def test_the_overwrite_modes_are_respected(editor: Editor) -> None:
    case = editor.case
    before = case.voxels()
    otherId, other = _other(case, (slice(3, 9), slice(10, 20), slice(12, 28)))
    display = case.node.GetDisplayNode()
    for mode, visible, erased in (
        ("OverwriteAllSegments", True, True),
        ("OverwriteVisibleSegments", True, True),
        ("OverwriteVisibleSegments", False, False),
        ("OverwriteNone", True, False),
    ):
        display.SetSegmentVisibility(otherId, visible)
        editor.node.SetOverwriteMode(getattr(editor.node, mode))
        editor.effect.onAccept()
        assert np.array_equal(case.voxels(), case.teacher), mode
        # Where the edited segment was before, nothing changes.
        taken = case.teacher & ~before
        assert np.array_equal(case.voxels(otherId), other & ~taken if erased else other), mode
        editor.widget.undo()
        assert np.array_equal(case.voxels(otherId), other), mode


def test_where_little_is_taken_an_overlapping_segment_stays(plain: Editor) -> None:
    """Slicer's Set would erase it wherever the edited segment is, changed or not."""
    case = plain.case
    plain.node.SetOverwriteMode(plain.node.OverwriteNone)
    otherId, other = _other(case, (slice(12, 15), slice(4, 10), slice(6, 12)))
    assert (other & case.voxels()).any()
    plain.node.SetOverwriteMode(plain.node.OverwriteAllSegments)
    view, xy = _view(plain)
    plain.effect.brushButton.click()
    plain.drag(view, [xy(18, 12), xy(19, 12)])
    assert np.array_equal(case.voxels(otherId), other)


def test_the_brush_takes_the_opinion_only_under_its_disc_in_one_undo_state(plain: Editor) -> None:
    case = plain.case
    before = case.voxels()
    view, xy = _view(plain, k=10)
    plain.effect.radiusSlider.value = 3.0
    plain.effect.brushButton.click()
    plain.drag(view, [xy(10, 8), xy(13, 8), xy(17, 8)])
    after = case.voxels()
    changed = after != before
    assert np.flatnonzero(changed.any((1, 2))).tolist() == [10]
    j, i = np.mgrid[: SHAPE[1], : SHAPE[2]]
    distance = np.hypot(j - 8, np.maximum(np.maximum(10 - i, i - 17), 0))
    # A pixel of the view is less than a tenth of a voxel.
    assert np.array_equal(after[10][distance < 2.9], case.teacher[10][distance < 2.9])
    assert np.array_equal(after[10][distance > 3.1], before[10][distance > 3.1])
    assert (after & ~before).any() and (before & ~after).any()
    plain.widget.undo()
    assert np.array_equal(case.voxels(), before)


def test_a_sphere_goes_through_neighboring_slices(plain: Editor) -> None:
    case = plain.case
    before = case.voxels()
    view, xy = _view(plain, k=10)
    plain.effect.radiusSlider.value = 3.0
    plain.effect.sphereCheckBox.checked = True
    plain.effect.brushButton.click()
    plain.drag(view, [xy(16, 10)])
    after = case.voxels()
    k, j, i = np.indices(SHAPE)
    distance = np.sqrt((k - 10) ** 2 + (j - 10) ** 2 + (i - 16) ** 2)
    assert np.array_equal(after[distance < 2.9], case.teacher[distance < 2.9])
    assert np.array_equal(after[distance > 3.1], before[distance > 3.1])
    assert len(np.flatnonzero((after != before).any((1, 2)))) > 2


@pytest.mark.parametrize("through", [False, True])
def test_in_a_loop_the_opinion_is_taken_in_this_slice_or_in_all(plain: Editor, through: bool) -> None:
    case = plain.case
    before = case.voxels()
    view, xy = _view(plain, k=10)
    plain.effect.throughAllCheckBox.checked = through
    plain.effect.regionButton.click()
    corners = [(7.5, 7.5), (18.5, 7.5), (18.5, 15.5), (7.5, 15.5)]
    plain.drag(view, [xy(*corner) for corner in corners])
    region = np.zeros(SHAPE, bool)
    region[slice(None) if through else 10, 8:16, 8:19] = True
    assert np.array_equal(case.voxels(), np.where(region, case.teacher, before))
    plain.widget.undo()
    assert np.array_equal(case.voxels(), before)
    assert plain.effect.regionButton.checked
    plain.drag(view, [xy(9, 9), xy(10, 10)])
    assert np.array_equal(case.voxels(), before)


def test_the_second_of_two_quick_strokes_paints_too(plain: Editor) -> None:
    """Qt makes its press a double click, and VTK's adapter hands that on alone."""
    view, xy = _view(plain)
    plain.effect.brushButton.click()
    before = plain.case.voxels()
    plain.drag(view, [xy(16, 10)], begin="LeftButtonDoubleClickEvent")
    assert (plain.case.voxels() != before).any()


def test_a_stroke_on_an_oblique_scan_changes_only_what_is_near_it(editor: Editor) -> None:
    from slicer_stand_in.segment_editor import sliceWidget

    case, effect = editor.case, editor.effect
    before = case.voxels()
    view = sliceWidget(startSlicer(), case.volume, f"View{next(_NUMBERS)}", "Coronal")
    node = view.sliceLogic().GetSliceNode()
    import slicer
    import vtk

    toRas = vtk.vtkMatrix4x4()
    case.volume.GetIJKToRASMatrix(toRas)
    place = np.array(toRas.MultiplyPoint((16, 12, 7, 1))[:3])
    node.JumpSliceByCentering(*place)
    toXy = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(node.GetXYToRAS(), toXy)
    effect.radiusSlider.value = 4.0
    effect.sphereCheckBox.checked = True
    effect.brushButton.click()
    editor.drag(view, [toXy.MultiplyPoint((*place, 1))[:2]])
    after = case.voxels()
    places = np.argwhere(np.ones(SHAPE))[:, ::-1]
    ras = np.array([toRas.MultiplyPoint((*map(float, p), 1))[:3] for p in places])
    distance = np.linalg.norm(ras - place, axis=1).reshape(SHAPE)
    assert np.array_equal(after[distance < 3.7], case.teacher[distance < 3.7])
    assert np.array_equal(after[distance > 4.3], before[distance > 4.3])
    assert (after != before).any()
    assert slicer.mrmlScene.IsNodePresent(node)


def test_only_the_left_button_without_keys_and_a_chosen_mode_paints(plain: Editor) -> None:
    before = plain.case.voxels()
    view, xy = _view(plain)
    assert not plain.send(view, "LeftButtonPressEvent", xy(16, 10))
    plain.effect.brushButton.click()
    for key in ("shift", "control", "alt"):
        assert not plain.send(view, "LeftButtonPressEvent", xy(16, 10), **{key: True})
    assert not plain.send(view, "MouseMoveEvent", xy(17, 10))
    assert not plain.send(view, "LeftButtonReleaseEvent", xy(17, 10))
    assert plain.send(view, "LeftButtonDoubleClickEvent", xy(17, 10), shift=True)
    assert not plain.send(view, "LeftButtonReleaseEvent", xy(17, 10))
    assert np.array_equal(plain.case.voxels(), before)
    plain.effect.regionButton.click()
    assert plain.effect.regionButton.checked and not plain.effect.brushButton.checked
    plain.effect.regionButton.click()
    assert plain.effect._mode() is None


def test_a_stroke_ends_without_effect_when_the_layout_changes(plain: Editor) -> None:
    before = plain.case.voxels()
    view, xy = _view(plain)
    renderer = view.sliceView().renderWindow().GetRenderers().GetItemAsObject(0)
    empty = renderer.GetViewProps().GetNumberOfItems()
    plain.effect.brushButton.click()
    assert plain.send(view, "LeftButtonPressEvent", xy(16, 10))
    assert renderer.GetViewProps().GetNumberOfItems() > empty
    plain.effect.scriptedEffect.layoutChanged()
    assert renderer.GetViewProps().GetNumberOfItems() == empty
    assert not plain.send(view, "LeftButtonReleaseEvent", xy(16, 10))
    assert np.array_equal(plain.case.voxels(), before)


def test_the_brush_is_drawn_in_the_view_and_taken_out_again(plain: Editor) -> None:
    view, xy = _view(plain)
    renderer = view.sliceView().renderWindow().GetRenderers().GetItemAsObject(0)
    empty = renderer.GetViewProps().GetNumberOfItems()
    plain.effect.radiusSlider.value = 3.0
    plain.effect.brushButton.click()
    plain.send(view, "MouseMoveEvent", xy(16, 10))
    assert renderer.GetViewProps().GetNumberOfItems() == empty + 2
    line = renderer.GetViewProps().GetItemAsObject(empty + 1).GetMapper().GetInput()
    bounds, middle, edge = line.GetBounds(), xy(16, 10), xy(19, 10)
    assert (bounds[1] - bounds[0]) / 2 == pytest.approx(abs(edge[0] - middle[0]), rel=0.01)
    assert (bounds[0] + bounds[1]) / 2 == pytest.approx(middle[0], abs=1)
    plain.send(view, "LeaveEvent", xy(16, 10))
    assert line.GetNumberOfPoints() == 0
    plain.widget.setActiveEffect(None)
    assert renderer.GetViewProps().GetNumberOfItems() == empty


def test_another_slice_in_the_middle_ends_a_stroke_and_drops_a_loop(plain: Editor) -> None:
    case, effect = plain.case, plain.effect
    before = case.voxels()
    view, xy = _view(plain)
    node = view.sliceLogic().GetSliceNode()
    for button, changes in ((effect.brushButton, True), (effect.regionButton, False)):
        button.click()
        for event, place in zip(
            ("LeftButtonPressEvent", "MouseMoveEvent", "MouseMoveEvent"),
            (xy(16, 10), xy(18, 10), xy(18, 8)),
            strict=True,
        ):
            plain.send(view, event, place)
        effect.scriptedEffect.processViewNodeEvents(node, 0, view)
        assert np.array_equal(case.voxels(), before)
        view.sliceLogic().SetSliceOffset(12.0)
        effect.scriptedEffect.processViewNodeEvents(node, 0, view)
        assert (case.voxels() != before).any() == changes
        assert not plain.send(view, "LeftButtonReleaseEvent", xy(18, 10))
        view.sliceLogic().SetSliceOffset(10.0)
        plain.widget.undo()


def test_doubtful_places_are_gone_through_in_both_directions(plain: Editor) -> None:
    view, _ = _view(plain)
    node = view.sliceLogic().GetSliceNode()
    places = plain.case.logic.doubtfulPlaces(plain.case.caseId)
    assert len(places) == 2
    plain.effect.nextDoubtButton.click()
    assert plain.message == "Doubtful place 1 of 2"
    assert node.GetSliceOffset() == pytest.approx(places[0][2], abs=0.01)
    plain.effect.nextDoubtButton.click()
    assert plain.message == "Doubtful place 2 of 2"
    assert node.GetSliceOffset() == pytest.approx(places[1][2], abs=0.01)
    plain.effect.nextDoubtButton.click()
    assert plain.message == "Doubtful place 1 of 2"
    plain.effect.previousDoubtButton.click()
    assert plain.message == "Doubtful place 2 of 2"


def test_backwards_the_last_doubtful_place_comes_first(plain: Editor) -> None:
    plain.effect.onPreviousDoubt()
    assert plain.message == "Doubtful place 2 of 2"


def test_the_teachers_outline_is_shown_while_the_effect_is_active(editor: Editor) -> None:
    teacher = editor.case.logic.display.teacherNode(editor.case.caseId)
    display = teacher.GetDisplayNode()
    assert display.GetVisibility() and display.GetVisibility2DOutline() and not display.GetVisibility2DFill()
    assert tuple(display.GetSegmentOverrideColor(editor.effect._opinion.segmentId)) != (-1, -1, -1)
    editor.widget.setActiveEffect(None)
    assert display.GetVisibility2DFill()
    assert tuple(display.GetSegmentOverrideColor(teacher.GetSegmentation().GetNthSegmentID(0))) == (-1, -1, -1)


def test_keys_are_bound_while_the_effect_is_active(editor: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    import qt
    import slicer
    from PySide6.QtGui import QShortcut

    from slicer_stand_in.pythonqt import bare

    window = qt.QMainWindow()
    monkeypatch.setattr(slicer.util, "mainWindow", lambda: window)

    def keys() -> dict[str, Any]:
        return {shortcut.key().toString(): shortcut for shortcut in bare(window).findChildren(QShortcut)}

    editor.widget.setActiveEffect(None)
    editor.embedded.activateColearning()
    assert set(keys()) == {"A", "N", "Shift+N"}
    before = editor.case.voxels()
    keys()["A"].activated.emit()
    assert np.array_equal(editor.case.voxels(), before), "Nobody sees the editor."
    bare(editor.widget).show()
    keys()["N"].activated.emit()
    assert editor.message == "Doubtful place 1 of 2"
    keys()["Shift+N"].activated.emit()
    assert editor.message == "Doubtful place 2 of 2"
    keys()["A"].activated.emit()
    assert np.array_equal(editor.case.voxels(), editor.case.teacher)
    editor.widget.setActiveEffect(None)
    assert not keys()


def test_a_segmentation_with_a_geometry_of_its_own_gets_the_opinion_of_each_place(editor: Editor) -> None:
    import slicer
    import vtk

    case = editor.case
    matrix = vtk.vtkMatrix4x4()
    case.volume.GetIJKToRASMatrix(matrix)
    for row, column in np.ndindex(3, 3):
        matrix.SetElement(row, column, matrix.GetElement(row, column) / 2)
    fine = slicer.util.addVolumeFromArray(np.zeros((40, 52, 60), np.uint8), name="Fine")
    fine.SetIJKToRASMatrix(matrix)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Other grid")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(fine)
    segmentId = node.GetSegmentation().AddEmptySegment("la", "LA")
    editor.embedded.edit(node, segmentId, case.volume)
    editor.embedded.activateColearning()
    assert editor.message == ""
    editor.effect.onAccept()
    found = slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentId, fine) > 0
    assert np.array_equal(found[::2, ::2, ::2], case.teacher)


def test_a_geometry_elsewhere_is_said_and_nothing_can_be_pressed(editor: Editor) -> None:
    import slicer

    case = editor.case
    far = slicer.util.addVolumeFromArray(np.zeros((10, 10, 10), np.uint8), name="Far")
    far.SetOrigin(900, 900, 900)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Far away")
    node.SetReferenceImageGeometryParameterFromVolumeNode(far)
    segmentId = node.GetSegmentation().AddEmptySegment("la", "LA")
    editor.embedded.edit(node, segmentId, case.volume)
    editor.embedded.activateColearning()
    assert editor.message.startswith("Far away: Most of the teacher's segment of Scan lies outside")
    _assertDisabled(editor.effect)


def _assertDisabled(effect: Any) -> None:
    for name in ("accept", "acceptSure", "brush", "region", "previousDoubt", "nextDoubt"):
        assert not getattr(effect, f"{name}Button").enabled, name
    assert not effect.confidenceSlider.enabled


def test_without_a_study_a_case_or_a_prediction_a_sentence_says_so(editor: Editor, tmp_path: Path) -> None:
    import slicer

    case, effect = editor.case, editor.effect
    teacher = case.logic.display.teacherNode(case.caseId)
    display = teacher.GetDisplayNode()
    other = slicer.util.addVolumeFromArray(np.zeros(SHAPE, np.int16), name="Unknown scan")
    editor.widget.setSourceVolumeNode(other)
    assert editor.message.startswith(
        "Unknown scan: The scan is not a case of the study that is open. Add it in the module"
    )
    _assertDisabled(effect)
    assert display.GetVisibility2DFill()
    editor.widget.setSourceVolumeNode(case.volume)
    assert editor.message == "" and effect.acceptButton.enabled
    assert not display.GetVisibility2DFill()

    editor.embedded.edit(teacher, teacher.GetSegmentation().GetNthSegmentID(0), case.volume)
    editor.embedded.activateColearning()
    assert "a prediction, which cannot be edited." in editor.message
    _assertDisabled(effect)

    editor.embedded.edit(case.node, case.segmentId, case.volume)
    (case.logic.study.predictions / case.caseId).rename(tmp_path / "elsewhere")
    editor.embedded.activateColearning()
    assert editor.message.startswith("Scan: The case has not been predicted yet. Predict it")
    _assertDisabled(effect)

    case.logic.closeStudy()
    editor.widget.setActiveEffect(None)
    editor.embedded.activateColearning()
    assert editor.message.startswith("Study: No study is open.")
    _assertDisabled(effect)


def test_a_name_that_looks_like_html_is_shown_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PySide6.QtCore import Qt

    effect = _open(tmp_path, monkeypatch).effect
    for label in (effect.messageLabel, effect.readoutsLabel):
        assert bare(label).textFormat() == Qt.TextFormat.PlainText


def test_without_uncertainty_the_reason_is_in_the_tooltips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = _open(tmp_path, monkeypatch, uncertain=False)
    effect = editor.effect
    assert effect.acceptButton.enabled and effect.brushButton.enabled
    for button in (effect.acceptSureButton, effect.nextDoubtButton, effect.previousDoubtButton):
        assert not button.enabled
        assert button.toolTip == "This prediction has no uncertainty. Predict the case again."
    assert not effect.cutSlider.enabled
    assert effect.cutSlider.toolTip == "This prediction has no probability. Predict the case again."
    # As another case has left it: this one is taken as it is.
    effect.scriptedEffect.setParameter("Probability", 0.8)
    editor.moveSlider(0.3)
    assert editor.message == ""
    effect.onAccept()
    assert np.array_equal(editor.case.voxels(), editor.case.teacher)
    editor.close()


def test_a_segment_that_is_deleted_in_the_middle_of_a_stroke_is_said(plain: Editor) -> None:
    case = plain.case
    otherId, other = _other(case, (slice(3, 9), slice(10, 20), slice(12, 28)))
    view, xy = _view(plain)
    plain.effect.brushButton.click()
    plain.send(view, "LeftButtonPressEvent", xy(16, 10))
    case.node.GetSegmentation().RemoveSegment(case.segmentId)
    plain.send(view, "LeftButtonReleaseEvent", xy(18, 10))
    assert plain.message == "Segment: None is selected. Select the one to edit in the list."
    plain.effect.onAccept()
    assert plain.message == "Segment: None is selected. Select the one to edit in the list."
    assert np.array_equal(case.voxels(otherId), other)


def test_a_hidden_segment_is_asked_about_and_left_if_so_answered(plain: Editor) -> None:
    case, host = plain.case, plain.effect.scriptedEffect
    before = case.voxels()
    display = case.node.GetDisplayNode()
    display.SetSegmentVisibility(case.segmentId, False)
    host._answer = "Cancel"
    plain.effect.onAccept()
    assert np.array_equal(case.voxels(), before)
    # After the question the mouse is elsewhere: this stroke does not begin, the next one does.
    host._answer = "Yes"
    view, xy = _view(plain)
    plain.effect.brushButton.click()
    assert plain.send(view, "LeftButtonPressEvent", xy(16, 10))
    assert not plain.send(view, "LeftButtonReleaseEvent", xy(17, 10))
    assert np.array_equal(case.voxels(), before)
    plain.drag(view, [xy(16, 10)])
    assert (case.voxels() != before).any()


def test_a_newer_prediction_is_shown_before_it_is_taken(editor: Editor) -> None:
    case, logic = editor.case, editor.case.logic
    before = case.voxels()
    newer = np.roll(case.teacher, 2, axis=2)
    writePrediction(logic, case.caseId, logic.study.case(case.caseId).scan, newer, case.uncertainty, run="002")
    logic.showPrediction(case.caseId, surface=False)
    editor.effect.onAccept()
    assert editor.message.endswith(
        "A newer prediction of this case has just been loaded. Check its outline, then try again."
    )
    assert np.array_equal(case.voxels(), before)
    assert editor.effect.acceptButton.enabled
    editor.effect.onAccept()
    assert editor.message == ""
    assert np.array_equal(case.voxels(), newer)
    display = logic.display.teacherNode(case.caseId).GetDisplayNode()
    assert not display.GetVisibility2DFill()


def test_a_scan_that_is_closed_is_said_and_a_prediction_that_was_deleted_is_loaded_again(editor: Editor) -> None:
    import slicer

    case = editor.case
    slicer.mrmlScene.RemoveNode(case.logic.display.teacherNode(case.caseId))
    editor.effect.onAccept()
    assert editor.message == ""
    assert np.array_equal(case.voxels(), case.teacher)
    editor.moveSlider(0.5)
    slicer.mrmlScene.RemoveNode(case.volume)
    assert editor.message == "Scan: No source volume is chosen. Choose the scan of this segmentation."
    _assertDisabled(editor.effect)
    assert slicer.mrmlScene.GetFirstNodeByName("Co-learning preview") is None


def test_what_is_unexpected_is_a_sentence_as_well(editor: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    before = editor.case.voxels()

    def fail(*_arguments: Any, **_keywords: Any) -> None:
        raise ValueError("inside")

    monkeypatch.setattr(type(editor.effect._opinion), "taken", fail)
    editor.effect.onAccept()
    assert editor.message == "Something unexpected went wrong (ValueError). Everything saved before is intact."
    assert np.array_equal(editor.case.voxels(), before)


def test_a_surface_that_is_shown_follows(editor: Editor) -> None:
    case = editor.case
    case.node.CreateClosedSurfaceRepresentation()
    before = case.node.GetClosedSurfaceInternalRepresentation(case.segmentId).GetBounds()
    editor.effect.onAccept()
    surface = case.node.GetClosedSurfaceInternalRepresentation(case.segmentId)
    assert surface is not None and surface.GetBounds() != before


def test_the_effect_is_offered_with_icon_and_help_and_made_anew_for_each_editor(editor: Editor) -> None:
    host = editor.effect.scriptedEffect
    assert (host.name, host.title) == ("Colearning", "Co-learning")
    assert not host.icon().isNull()
    for word in (
        "Accept where sure",
        "Accept in brush",
        "Accept in region",
        "doubtful place",
        "Left Atrium Co-Learning",
    ):
        assert word in host.helpText()
    assert host.clone().self() is not editor.effect
    assert not editor.effect.readoutsSection.isVisible()
    assert editor.effect.readoutsTable.rowCount == 0
    host.clone().cleanup()


def test_a_closed_scene_leaves_nothing_and_the_next_one_is_edited(editor: Editor, tmp_path: Path) -> None:
    import slicer

    editor.moveSlider(0.5)
    editor.embedded.onSceneStartClose()
    assert editor.widget.activeEffect() is None
    slicer.mrmlScene.Clear(0)
    editor.embedded.onSceneEndClose()
    assert editor.node is slicer.mrmlScene.GetSingletonNode("LASegColearn.SegmentEditor", "vtkMRMLSegmentEditorNode")
    case = makePredictedCase(editor.case.logic, tmp_path / "second")
    editor.embedded.edit(case.node, case.segmentId, case.volume)
    editor.embedded.activateColearning()
    editor.effect.onAccept()
    assert np.array_equal(case.voxels(), case.teacher)


def test_the_embedded_editor_keeps_to_slicers_rules(editor: Editor) -> None:
    import slicer

    from slicer_stand_in.pythonqt import bare

    widget = bare(editor.widget)
    assert editor.widget.maximumNumberOfUndoStates == 10
    assert widget._observing and widget._shortcuts
    # Which scan is shown is for the panel to say.
    assert not widget._autoShowsSource
    # The module Segment Editor activates what is chosen in its own node.
    assert editor.node is not slicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
    editor.embedded.exit()
    assert editor.widget.activeEffect() is None
    assert not widget._observing and not widget._shortcuts
    editor.embedded.enter(hearKeys=False)
    assert not widget._observing and not widget._shortcuts
    editor.embedded.onCollapsed(False)
    editor.embedded.activateColearning()
    assert widget._shortcuts and widget._observing and editor.widget.activeEffect() is not None
    editor.embedded.onCollapsed(True)
    assert not widget._shortcuts and editor.widget.activeEffect() is None
    editor.embedded.exit()
    editor.embedded.enter()
    assert widget._shortcuts
    assert editor.widget.segmentationNode() is editor.case.node
    assert editor.widget.currentSegmentID() == editor.case.segmentId


def test_an_effect_that_was_active_when_the_scene_was_saved_is_not_when_the_panel_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its figures are asked of the panel's logic, and the panel would be made again while it is being made."""
    editor = _open(tmp_path, monkeypatch)
    node, effect = editor.node, type(editor.effect)
    editor.close()
    node.SetActiveEffectName("Colearning")
    activated: list[bool] = []
    monkeypatch.setattr(effect, "activate", lambda _effect: activated.append(True))
    import slicer

    from LASegColearnSlicer.embedded_editor import EmbeddedEditor

    widget = slicer.qMRMLSegmentEditorWidget()
    embedded = EmbeddedEditor(widget, slicer.mrmlScene)
    embedded.setup()
    assert embedded.node is node
    assert not activated and widget.activeEffect() is None
    # As when a scene is added while another module is entered.
    embedded.enter()
    embedded.exit()
    widget.setMRMLSegmentEditorNode(None)
    node.SetActiveEffectName("Colearning")
    # Of an editor that an earlier test has left at the node.
    activated.clear()
    embedded.onSceneEndImport()
    assert not activated and not node.GetActiveEffectName()
    embedded.activateColearning()
    assert activated
    embedded.cleanup()


def test_activated_once_more_on_the_way_the_effect_hears_each_key_once(editor: Editor) -> None:
    """As the editor does when the segmentation is changed while the effect is being activated."""
    before = editor.effect._shortcuts[:]
    editor.effect.activate()
    assert editor.effect._shortcuts == before


def test_an_editor_that_was_there_before_the_effect_gets_it_when_it_is_registered() -> None:
    core = startSlicer()
    core.scene.Clear(0)
    import slicer

    import LASegColearn
    from LASegColearnSlicer.embedded_editor import EmbeddedEditor

    slicer.qSlicerSegmentEditorEffectFactory._instance = None
    widget = slicer.qMRMLSegmentEditorWidget()
    embedded = EmbeddedEditor(widget, slicer.mrmlScene)
    embedded.setup()
    assert widget.effectByName("Colearning") is None
    LASegColearn.registerEffect()
    assert widget.effectByName("Colearning") is not None
    embedded.cleanup()


def test_in_the_segment_editor_module_the_effect_shows_the_figures_of_each_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer

    def until(reached: Any) -> None:
        end = time.monotonic() + 20
        while not reached():
            assert time.monotonic() < end
            slicer.app.processEvents()

    editor = _open(tmp_path, monkeypatch, tag="SegmentEditor", oblique=False)
    effect, logic = editor.effect, editor.case.logic
    until(lambda: effect.readoutsTable.rowCount == 1)
    assert effect.readoutsTable.verticalHeaderItem(0).text() == "Teacher"
    assert effect.readoutsTable.item(0, 0).text() != "1.000"
    effect.onAccept()
    until(lambda: effect.readoutsTable.item(0, 0).text() == "1.000")
    assert effect.readoutsLabel.text.endswith("0.0 % of the teacher's volume changed (0.0 mL)")
    writePrediction(logic, editor.case.caseId, _scan(editor), editor.case.teacher, editor.case.uncertainty, run="002")
    effect.onAcceptSure()
    # A newer prediction takes the place of the one before, and the figures go on with it.
    assert not effect.readoutsSection.isHidden()
    until(lambda: logic._following._readouts.current is not None)
    editor.close()
    assert logic._following._listeners == [] and effect.readoutsSection.isHidden()


def test_in_our_panel_the_figures_are_left_to_the_panel(editor: Editor) -> None:
    assert editor.case.logic._following._listeners == []
    assert editor.effect.readoutsSection.isHidden()


def test_what_was_accepted_says_which_model_it_came_from_until_it_is_undone(editor: Editor) -> None:
    from LASegColearnSlicer.results import modelOf

    case = editor.case
    assert modelOf(case.node, case.segmentId) is None
    editor.effect.onAcceptSure()
    assert modelOf(case.node, case.segmentId) == "001"
    editor.widget.undo()
    assert modelOf(case.node, case.segmentId) is None
    editor.widget.redo()
    assert modelOf(case.node, case.segmentId) == "001"


def test_a_label_that_was_drawn_by_hand_names_no_model(editor: Editor) -> None:
    case = editor.case
    beside, _mask = _other(case, (slice(2, 4),) * 3)
    editor.effect.onAccept()
    assert case.logic.useAsLabel(case.caseId, case.node, case.segmentId).origin.model == "001"
    assert case.logic.useAsLabel(case.caseId, case.node, beside).origin.model is None


def test_a_label_whose_acceptance_was_undone_names_no_model(editor: Editor) -> None:
    case = editor.case
    editor.effect.onAccept()
    editor.widget.undo()
    assert case.logic.useAsLabel(case.caseId, case.node, case.segmentId).origin.model is None


def _scan(editor: Editor) -> Path:
    return Path(editor.case.logic.study.case(editor.case.caseId).scan)
