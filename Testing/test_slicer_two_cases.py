"""Two cases, or two studies, beside each other: what is shown, edited, measured and accepted is of one of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from LASegColearnLib.errors import InputError
from LASegColearnSlicer.engine_process import EngineOutcome, EngineState
from LASegColearnSlicer.study import Study
from predicted_case import SHAPE, PredictedCase, makePredictedCase, writePrediction
from slicer_stand_in.application import closePanel, leave, openPanel, startSlicer


@dataclass
class Two:
    """A panel with two predicted cases, each with a label of its own; the second has the first one's grid."""

    panel: Any
    first: PredictedCase
    second: Any
    secondVolume: Any
    secondLabel: Any

    def correct(self, caseId: str) -> None:
        self.panel.caseTable.select([caseId])
        self.panel.ui.correctButton.click()

    @property
    def edited(self) -> Any:
        return self.panel.correctSection.editor.node

    @property
    def background(self) -> str:
        import slicer

        views = slicer.mrmlScene.GetNodesByClass("vtkMRMLSliceCompositeNode")
        return str(slicer.mrmlScene.GetNodeByID(views.GetItemAsObject(0).GetBackgroundVolumeID()).GetName())


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Two]:
    core = startSlicer()
    core.scene.Clear(0)
    import qt
    import slicer
    import vtk

    import LASegColearn

    qt.QSettings().clear()
    slicer.qSlicerSegmentEditorEffectFactory._instance = None
    LASegColearn.registerEffect()
    panel, _frame = openPanel()
    panel.correctSection._widget.updateEffectList()
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    panel.openStudy(str(tmp_path / "S"))
    first = makePredictedCase(panel.logic, tmp_path / "S")
    panel.logic.useAsLabel(first.caseId, first.node, first.segmentId)
    volume = slicer.util.addVolumeFromArray(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE), name="Scan B")
    matrix = vtk.vtkMatrix4x4()
    first.volume.GetIJKToRASMatrix(matrix)
    volume.SetIJKToRASMatrix(matrix)
    second = panel.logic.cases.add(volume)
    teacher = np.zeros(SHAPE, bool)
    teacher[5:13, 7:19, 9:23] = True
    writePrediction(panel.logic, second.id, second.scan, teacher, np.zeros(SHAPE, np.float32))
    label = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "B label")
    label.CreateDefaultDisplayNodes()
    label.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segmentId = label.GetSegmentation().AddEmptySegment("lb", "LA")
    slicer.util.updateSegmentBinaryLabelmapFromArray(teacher[::-1].astype(np.uint8), label, segmentId, volume)
    panel.logic.useAsLabel(second.id, label, segmentId)
    panel.update()
    yield Two(panel, first, second, volume, label)
    panel.cleanup()
    closePanel()


def test_correct_stops_where_the_case_cannot_be_shown(two: Two) -> None:
    import slicer

    two.correct(two.first.caseId)
    slicer.mrmlScene.RemoveNode(two.secondVolume)
    two.second.scan.unlink()
    two.correct(two.second.id)
    assert two.background == "Scan"
    assert two.edited.GetSegmentationNode() is None
    assert two.panel.ui.correctMessageLabel.text


def test_of_a_case_that_is_shown_no_more_nothing_stays_in_the_editor(two: Two) -> None:
    two.correct(two.first.caseId)
    assert two.edited.GetSegmentationNode() is two.first.node
    two.panel.showCase(two.second.id)
    # A button or a key would start a tool on it, over the other scan.
    assert two.edited.GetSegmentationNode() is None


def test_a_case_that_is_chosen_in_the_editors_own_lists_is_shown(two: Two) -> None:
    import slicer

    two.correct(two.first.caseId)
    two.panel.showCase(two.first.caseId)
    assert two.background == "Scan"
    widget = two.panel.correctSection._widget
    widget.setSegmentationNode(two.secondLabel)
    widget.setSourceVolumeNode(two.secondVolume)
    end = time.monotonic() + 20
    while two.background != "Scan B":
        assert time.monotonic() < end
        slicer.app.processEvents()
    assert two.edited.GetSegmentationNode() is two.secondLabel
    assert two.panel._shownCase == two.second.id


def test_a_case_that_is_chosen_in_the_editors_lists_and_cannot_be_shown_is_not_edited(two: Two) -> None:
    import slicer

    two.correct(two.first.caseId)
    two.secondVolume.SetSpacing(3, 3, 3)
    widget = two.panel.correctSection._widget
    widget.setSegmentationNode(two.secondLabel)
    widget.setSourceVolumeNode(two.secondVolume)
    end = time.monotonic() + 20
    while two.edited.GetSegmentationNode() is not None:
        assert time.monotonic() < end
        slicer.app.processEvents()
    assert "moved or resampled" in two.panel.ui.correctMessageLabel.text
    assert two.background == "Scan"


def test_while_a_scene_is_read_the_editor_shows_no_case(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer

    editor, told = two.panel.correctSection.editor, []
    monkeypatch.setattr(editor, "_onChosen", lambda: told.append(True))
    slicer.mrmlScene.StartState(slicer.vtkMRMLScene.BatchProcessState)
    editor._tell()
    slicer.app.processEvents()
    assert told == []
    slicer.mrmlScene.EndState(slicer.vtkMRMLScene.BatchProcessState)
    end = time.monotonic() + 20
    while not told:
        assert time.monotonic() < end
        slicer.app.processEvents()


def test_curves_are_shown_once_and_not_under_the_hands_of_somebody_who_edits(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel, shown = two.panel, []
    monkeypatch.setattr(panel.chartView, "show", lambda: shown.append(True))

    def progress() -> None:
        panel.chartView._drawn = 0.0
        panel.chartView.onEvent(panel.logic.progress, {"event": "progress"})

    progress()
    assert shown == [], "Of a training that nobody has asked for here."
    panel.chartView.showWithNextCurves()
    two.correct(two.first.caseId)
    progress()
    assert shown == []
    panel.correctSection._widget.setActiveEffect(None)
    progress()
    progress()
    assert shown == [True]


def test_a_case_whose_prediction_was_broken_off_is_shown_and_corrected(two: Two) -> None:
    two.panel.showCase(two.first.caseId)
    # The engine writes it last.
    (two.panel.logic.study.predictions / two.second.id / "segmentation.seg.nrrd").unlink()
    two.correct(two.second.id)
    assert two.background == "Scan B"
    assert two.edited.GetSegmentationNode() is two.secondLabel


def test_a_damaged_prediction_is_told_and_nothing_of_another_case_is(two: Two) -> None:
    two.correct(two.first.caseId)
    (two.panel.logic.study.predictions / two.second.id / "network-student_1.seg.nrrd").write_bytes(b"NRRD0004\n")
    two.correct(two.second.id)
    assert two.edited.GetSegmentationNode() is two.secondLabel
    assert "damaged" in two.panel.ui.correctMessageLabel.text
    assert two.panel.logic._following._readouts._watched is None
    assert two.panel.ui.readoutsLabel.text == ""


def test_figures_follow_the_segment_that_is_added_or_reached_by_a_key(two: Two) -> None:
    """As the editor does it: its logic chooses in the node, and no signal tells of it."""
    import slicer

    def until(wanted: tuple[Any, str] | None) -> None:
        end = time.monotonic() + 20
        while followed() != wanted:
            assert time.monotonic() < end
            slicer.app.processEvents()

    def followed() -> tuple[Any, str] | None:
        watched = two.panel.logic._following._readouts._watched
        return None if watched is None else (watched.segmentationNode, watched.segmentId)

    two.correct(two.first.caseId)
    until((two.first.node, two.first.segmentId))
    added = two.first.node.GetSegmentation().AddEmptySegment("other", "Other")
    two.edited.SetSelectedSegmentID(added)
    until((two.first.node, added))
    two.edited.SetSelectedSegmentID(two.first.segmentId)
    until((two.first.node, two.first.segmentId))
    # A new segmentation has no segment, and the editor's node keeps that of before.
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "new")
    two.panel.correctSection._widget.setSegmentationNode(empty)
    until(None)
    assert two.panel.ui.correctMessageLabel.text == ""
    assert two.panel.ui.readoutsLabel.text == ""


def test_another_cases_scan_does_not_lend_its_prediction(two: Two) -> None:
    logic, before = two.panel.logic, two.first.voxels()
    two.correct(two.first.caseId)
    two.panel.correctSection._widget.setSourceVolumeNode(two.secondVolume)
    two.panel.correctSection._widget.activeEffect().self().onAccept()
    assert np.array_equal(two.first.voxels(), before)
    with pytest.raises(InputError, match="belongs to the case Scan"):
        logic.accept(two.second.id, two.first.node, two.first.segmentId)
    with pytest.raises(InputError, match="belongs to the case Scan"):
        logic.measure(two.first.node, two.first.segmentId, two.secondVolume)


def test_a_prediction_that_comes_while_its_case_is_edited_is_the_one_that_counts(two: Two) -> None:
    panel, case = two.panel, two.first
    two.correct(case.caseId)
    newest = np.zeros(SHAPE, bool)
    newest[2:9, 3:12, 4:15] = True
    scan = panel.logic.study.case(case.caseId).scan
    writePrediction(panel.logic, case.caseId, scan, newest, case.uncertainty, run="002")
    panel.onPredictionEvent({"event": "predicted", "case": case.caseId})
    panel.onPredicted(EngineOutcome(EngineState.FINISHED, "", ""))
    assert np.array_equal(panel.logic._following._readouts._watched.comparison._references["teacher"], newest)
    # It has not been looked at yet: the first press shows it.
    before = case.voxels()
    panel.correctSection._widget.activeEffect().self().onAccept()
    assert np.array_equal(case.voxels(), before)
    panel.correctSection._widget.activeEffect().self().onAccept()
    assert np.array_equal(case.voxels(), newest)


def test_a_prediction_that_was_painted_into_is_loaded_anew(two: Two) -> None:
    import slicer

    logic, case = two.panel.logic, two.first
    teacher = logic.showPrediction(case.caseId)
    segmentId = teacher.GetSegmentation().GetNthSegmentID(0)
    painting = np.zeros(SHAPE, np.uint8)
    painting[15:18, 20:24, 20:24] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(painting, teacher, segmentId, case.volume)
    logic.accept(case.caseId, case.node, case.segmentId)
    assert np.array_equal(case.voxels(), case.teacher)
    # The painting is somebody's work.
    assert teacher.GetScene() is not None
    assert teacher.GetName().endswith("edited")
    logic.showPrediction(case.caseId).GetSegmentation().RemoveAllSegments()
    assert logic.showPrediction(case.caseId).GetSegmentation().GetNumberOfSegments() == 1


def test_another_study_ends_the_correction(two: Two, tmp_path: Path) -> None:
    two.correct(two.first.caseId)
    two.panel.openStudy(str(tmp_path / "B"))
    assert not two.edited.GetActiveEffectName()
    assert two.panel.logic._following._readouts._watched is None


def test_places_of_another_studys_case_of_the_same_id_are_not_jumped_to(two: Two, tmp_path: Path) -> None:
    two.correct(two.first.caseId)
    effect = two.panel.correctSection._widget.activeEffect().self()
    Study.at(tmp_path / "B")
    # Without the panel, which would end the correction.
    two.panel.logic._opened._listeners.clear()
    two.panel.logic.openStudy(tmp_path / "B")
    effect.onNextDoubt()
    assert not effect._tour._places
    assert "not a case of the study" in effect.messageLabel.text


def test_the_panel_follows_a_study_that_the_console_opens(two: Two, tmp_path: Path) -> None:
    panel = two.panel
    panel.showCase(two.first.caseId)
    panel.logic.openStudy(tmp_path / "console")
    assert panel._shownCase is None
    assert panel.ui.casesTable.rowCount == 0
    leave(panel)
    panel.logic.openStudy(tmp_path / "S")
    panel.enter()
    assert panel.logic.study.folder == tmp_path / "S"
    assert panel._parameterNode.studyFolder == str(tmp_path / "S")
    assert panel.ui.casesTable.rowCount == 2


def test_a_scene_that_is_added_leaves_the_study_open_and_one_that_is_opened_brings_its_own(
    two: Two, tmp_path: Path
) -> None:
    import slicer

    panel = two.panel
    Study.at(tmp_path / "colleague")
    panel._parameterNode.studyFolder = str(tmp_path / "colleague")
    slicer.mrmlScene.WriteToMRB(str(tmp_path / "colleague.mrb"))
    panel._parameterNode.studyFolder = str(tmp_path / "S")
    two.correct(two.first.caseId)
    slicer.mrmlScene.ReadFromMRB(str(tmp_path / "colleague.mrb"), False)
    assert panel.logic.study.folder == tmp_path / "S"
    assert panel._parameterNode.studyFolder == str(tmp_path / "S")
    slicer.mrmlScene.ReadFromMRB(str(tmp_path / "colleague.mrb"), True)
    assert panel.logic.study.folder == tmp_path / "colleague"


def test_an_edited_label_is_written_before_another_study_takes_its_scan(two: Two, tmp_path: Path) -> None:
    import SimpleITK as sitk
    import slicer

    panel, case = two.panel, two.first
    edit = np.zeros(SHAPE, np.uint8)
    edit[4:12, 4:12, 4:12] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(edit, case.node, case.segmentId, case.volume)
    panel.openStudy(str(tmp_path / "B"))
    panel.ui.addFromSceneButton.click()
    panel.openStudy(str(tmp_path / "S"))
    label = panel.logic.study.case(case.caseId).label
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(label.file))), edit)


def test_a_scene_that_is_saved_while_a_case_is_corrected_shows_its_prediction_as_before(
    two: Two, tmp_path: Path
) -> None:
    import slicer

    def look() -> tuple[bool, tuple[float, ...]]:
        teacher = two.panel.logic.display.teacherNode(two.first.caseId)
        color = teacher.GetDisplayNode().GetSegmentOverrideColor(teacher.GetSegmentation().GetNthSegmentID(0))
        return bool(teacher.GetDisplayNode().GetVisibility2DFill()), tuple(color)

    two.panel.showCase(two.first.caseId)
    before = look()
    two.correct(two.first.caseId)
    outline = look()
    assert outline != before
    slicer.mrmlScene.WriteToMRB(str(tmp_path / "saved.mrb"))
    # Who goes on sees the outline still.
    assert look() == outline
    slicer.mrmlScene.Clear(0)
    slicer.mrmlScene.ReadFromMRB(str(tmp_path / "saved.mrb"), True)
    two.panel.showCase(two.first.caseId)
    assert look() == before


@pytest.mark.parametrize("kept", ["{", "[]", "{}", '"fill"'])
def test_a_scene_from_elsewhere_cannot_say_that_anything_was_shown_before(two: Two, kept: str) -> None:
    from LASegColearnSlicer.teacher_display import TeacherOutline

    display = two.panel.logic.showPrediction(two.first.caseId).GetDisplayNode()
    display.SetAttribute("LASegColearn.shownBefore", kept)
    import slicer

    TeacherOutline.restoreSaved(slicer.mrmlScene)
    assert display.GetVisibility2DFill()


def _file(two: Two, caseId: str) -> int:
    """Voxels of a case's label in the study's folder."""
    file = two.panel.logic.study.case(caseId).label.file
    return int((sitk.GetArrayFromImage(sitk.ReadImage(file)) > 0).sum())


def test_a_label_that_cannot_be_used_keeps_no_other_from_being_written(two: Two) -> None:
    import slicer

    first = two.first
    empty = np.zeros(SHAPE, np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(empty, first.node, first.segmentId, first.volume)
    node, segmentId = two.panel.logic.cases.labelSource(two.second.id)
    edited = slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentId, two.secondVolume)
    edited[np.flatnonzero(edited.any((1, 2)))[0]] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(edited, node, segmentId, two.secondVolume)
    assert _file(two, two.second.id) != edited.sum()
    with pytest.raises(InputError, match="The segment LA is empty") as told:
        two.panel.logic.cases.refreshLabels()
    assert len(told.value.problems) == 1
    assert _file(two, two.second.id) == edited.sum()


def test_what_was_drawn_in_a_removed_case_or_another_study_is_not_shown_over_a_scan(two: Two, tmp_path: Path) -> None:
    import slicer

    panel, first = two.panel, two.first
    panel.showCase(first.caseId)
    teacher = panel.logic.display.teacherNode(first.caseId)
    shown = (teacher, first.node)
    assert all(node.GetDisplayNode().GetVisibility() for node in shown)
    assert panel.ui.labelSelector.currentNode() is first.node
    panel.logic.study.remove(first.caseId)
    panel.showCase(two.second.id)
    assert not any(node.GetDisplayNode().GetVisibility() for node in shown)
    for node in shown:
        node.GetDisplayNode().SetVisibility(True)
    panel.openStudy(str(tmp_path / "T"))
    # It would become the label of another patient.
    assert panel.ui.labelSelector.currentNode() is None
    other = slicer.util.addVolumeFromArray(np.ones(SHAPE, np.int16), name="Patient X")
    panel.showCase(panel.logic.cases.add(other).id)
    assert two.background == "Patient X"
    assert not any(node.GetDisplayNode().GetVisibility() for node in shown)


def test_a_scan_whose_file_a_scene_has_not_found_is_loaded_from_the_study(two: Two) -> None:
    import slicer

    panel, first = two.panel, two.first
    voxels = slicer.util.arrayFromVolume(first.volume).copy()
    uncertain = slicer.util.arrayFromVolume(_uncertainty(two)).copy()
    first.volume.SetAndObserveImageData(None)
    _uncertainty(two).SetAndObserveImageData(None)
    assert panel.logic.cases.refreshLabels() == []
    panel.showCase(first.caseId)
    assert panel.ui.inputsMessageLabel.text == ""
    assert panel.logic.cases.volumeNode(first.caseId) is first.volume
    assert np.array_equal(slicer.util.arrayFromVolume(first.volume), voxels)
    assert len(slicer.util.getNodes(f"{first.volume.GetName()}*", useLists=True)[first.volume.GetName()]) == 1
    two.correct(first.caseId)
    panel.correctSection._widget.activeEffect().self().onAccept()
    assert np.array_equal(first.voxels(), first.teacher)
    np.testing.assert_allclose(slicer.util.arrayFromVolume(_uncertainty(two)), uncertain)


def test_a_scene_that_was_saved_before_its_study_was_moved_shows_its_scans(two: Two, tmp_path: Path) -> None:
    import slicer

    panel, caseId, scene = two.panel, two.first.caseId, slicer.mrmlScene
    voxels = slicer.util.arrayFromVolume(two.first.volume).copy()
    for volume in (two.first.volume, two.secondVolume):
        scene.RemoveNode(volume)
    panel.showCase(caseId)
    # The scan is of the study's folder now; what is not saved to files of its own is left out.
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        node.SetSaveWithScene(False)
    file = str(tmp_path / "scene.mrml")
    scene.SetURL(file)
    scene.SetRootDirectory(str(tmp_path))
    scene.Commit(file)
    scene.Clear(0)
    folder = panel.logic.study.folder
    folder.rename(folder.with_name("S moved"))
    scene.SetURL(file)
    scene.SetRootDirectory(str(tmp_path))
    scene.Import()
    panel.openStudy(str(folder.with_name("S moved")))
    panel.showCase(caseId)
    assert panel.ui.inputsMessageLabel.text == ""
    assert np.array_equal(slicer.util.arrayFromVolume(panel.logic.cases.volumeNode(caseId)), voxels)
    assert panel.logic.cases.refreshLabels() == []


def _uncertainty(two: Two) -> Any:
    two.panel.logic.showPrediction(two.first.caseId)
    return two.panel.logic.display.uncertaintyNode(two.first.caseId)


def test_the_uncertainty_lies_over_its_own_scan_with_its_legend_and_can_be_taken_off(two: Two) -> None:
    import slicer

    panel, logic = two.panel, two.panel.logic
    view = slicer.mrmlScene.GetNodesByClass("vtkMRMLSliceCompositeNode").GetItemAsObject(0)
    legends = slicer.modules.colors.logic()
    for caseId, other in ((two.first.caseId, two.second.id), (two.second.id, two.first.caseId)):
        panel.showCase(caseId)
        doubt = logic.display.uncertaintyNode(caseId)
        assert view.GetForegroundVolumeID() == doubt.GetID()
        assert legends.GetColorLegendDisplayNode(doubt).GetVisibility()
        others = logic.display.uncertaintyNode(other)
        assert others is None or not legends.GetColorLegendDisplayNode(others).GetVisibility()
    panel.ui.showUncertaintyCheckBox.click()
    assert view.GetForegroundVolumeID() is None
    assert not legends.GetColorLegendDisplayNode(doubt).GetVisibility()


def test_the_panels_button_moves_the_views_to_the_doubtful_place(two: Two) -> None:
    import slicer

    panel, case = two.panel, two.first
    panel.showCase(case.caseId)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode")
    node.SetOrientationToAxial()
    place = panel.logic.doubtfulPlaces(case.caseId)[0]
    before = node.GetSliceOffset()
    panel.onNextDoubt()
    assert node.GetSliceOffset() == pytest.approx(place[2], abs=0.01) != before


def test_a_removed_case_is_shown_no_more(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    import slicer

    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text: True)
    two.panel.showCase(two.first.caseId)
    two.panel.caseTable.select([two.first.caseId])
    two.panel.ui.removeButton.click()
    two.panel.ui.predictShownButton.enabled = True
    two.panel.ui.predictShownButton.click()
    assert "No case is shown" in two.panel.ui.predictMessageLabel.text


def test_a_prediction_that_comes_while_its_case_is_edited_is_not_put_over_it(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel, editor = two.panel, two.panel.correctSection.editor
    two.correct(two.first.caseId)
    assert editor.node.GetActiveEffectName() == "Colearning"
    shown: list[str] = []
    monkeypatch.setattr(panel, "showCase", shown.append)
    for active in (True, False):
        if not active:
            editor.leave()
            # Where the editor has asked about surfaces and got a no, its node goes on naming the effect.
            editor.node.SetDisableModifiedEvent(1)
            editor.node.SetActiveEffectName("Colearning")
            editor.node.SetDisableModifiedEvent(0)
        panel.onPredictionEvent({"event": "predicted", "case": two.first.caseId})
        assert shown == ([] if active else [two.first.caseId])


def test_who_has_left_the_module_sees_a_new_prediction_when_he_comes_back(two: Two) -> None:
    import slicer

    panel = two.panel
    panel.showCase(two.first.caseId)
    view = slicer.mrmlScene.GetNodesByClass("vtkMRMLSliceCompositeNode").GetItemAsObject(0)
    for entered in (True, False):
        if not entered:
            leave(panel)
        view.SetBackgroundVolumeID(two.secondVolume.GetID())
        panel.onPredictionEvent({"event": "predicted", "case": two.first.caseId})
        assert (view.GetBackgroundVolumeID() == two.first.volume.GetID()) == entered


def test_doubtful_places_are_those_of_the_newest_prediction(two: Two) -> None:
    panel, case = two.panel, two.first
    panel.showCase(case.caseId)
    two.correct(case.caseId)
    panel.onNextDoubt()
    assert panel.ui.statusLabel.text == "Doubtful place 1 of 2"
    uncertainty = np.zeros(SHAPE, np.float32)
    uncertainty[2:6, 20:25, 2:6] = 0.95
    scan = panel.logic.study.case(case.caseId).scan
    writePrediction(panel.logic, case.caseId, scan, case.teacher, uncertainty, run="002")
    assert panel.correctSection.isAtWorkOn(case.caseId)
    panel.onPredictionEvent({"event": "predicted", "case": case.caseId})
    panel.onNextDoubt()
    assert panel.ui.statusLabel.text == "Doubtful place 1 of 1"


def test_a_case_that_has_got_its_label_meanwhile_is_not_asked_for(two: Two) -> None:
    panel, study = two.panel, two.panel.logic.study
    for caseId in (two.first.caseId, two.second.id):
        study.setRole(caseId, "unlabeled")
    study.setSuggestions("001", {two.second.id: "It is unlike the others.", two.first.caseId: "It is doubtful."})
    finished = EngineOutcome(EngineState.FINISHED, "", "")
    assert panel.correctSection.suggestion(finished) == "Annotate Scan B next. It is unlike the others."
    study.setRole(two.second.id, "labeled")
    assert panel.correctSection.suggestion(finished) == "Annotate Scan next. It is doubtful."


def test_a_training_that_ends_after_its_study_was_closed_raises_nothing(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel, ends = two.panel, []
    monkeypatch.setattr(panel.logic._runner, "start", lambda arguments, onEvent, onDone, stopFile: ends.append(onDone))
    monkeypatch.setattr(panel.logic._model, "_runFor", lambda verb: panel.logic.study.newRun())
    run = panel.logic.study.newRun()
    panel.logic._training._train([], run, panel.trainingSection.onEvent, panel.trainingSection.onDone)
    panel.logic.predict(onDone=panel.onPredicted)
    panel.logic.closeStudy()
    for done in ends:
        done(EngineOutcome(EngineState.STOPPED, "", ""))
    assert panel.ui.statusLabel.text.startswith("Stopped")
