"""Predictions in Slicer's real MRML: on the scan's grid, under the scan, replacing only what was predicted before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from LASegColearnLib.phantom import make_phantom
from LASegColearnLib.segmentation_files import write_segmentation, write_volume
from LASegColearnSlicer.results import CASE_ATTRIBUTE, KIND_ATTRIBUTE, PredictionDisplay
from LASegColearnSlicer.session import Session
from mrml_scene import SlicerCore


@pytest.fixture
def display(core: SlicerCore) -> PredictionDisplay:
    return PredictionDisplay(core.scene, core.loadSegmentation, core.loadVolume)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan, and what the engine writes for it."""
    folder = tmp_path_factory.mktemp("Vorhof")
    scan, label = make_phantom(5)
    sitk.WriteImage(scan, folder / "scan.nrrd")
    write_segmentation(folder / "segmentation.seg.nrrd", label)
    write_volume(folder / "uncertainty.nrrd", sitk.Cast(label, sitk.sitkFloat32) * 0.5)
    (folder / "figures.json").write_text(json.dumps({"volume_ml": 70.25}), encoding="utf-8")
    return folder


def test_a_prediction_lies_on_the_scan_with_name_surface_and_terminology(
    core: SlicerCore, display: PredictionDisplay, files: Path
) -> None:
    volume = core.loadVolume(files / "scan.nrrd")
    node = display.show(volume, "case_001", files)
    assert node.GetName() == f"{volume.GetName()} teacher"
    segment = node.GetSegmentation().GetNthSegment(0)
    assert segment.GetName() == "Left atrium"
    assert "SCT^82471001^Left atrium" in segment.GetTerminology()
    assert node.GetSegmentation().ContainsRepresentation("Closed surface")
    surface = segment.GetRepresentation("Closed surface")
    assert surface.GetNumberOfPoints() > 100
    hierarchy = core.scene.GetSubjectHierarchyNode()
    parent = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node))
    assert parent == hierarchy.GetItemByDataNode(volume)


def test_the_voxels_are_those_that_the_engine_wrote(core: SlicerCore, display: PredictionDisplay, files: Path) -> None:
    from vtk.util.numpy_support import vtk_to_numpy

    volume = core.loadVolume(files / "scan.nrrd")
    node = display.show(volume, "case_001", files, surface=False)
    labelmap = node.GetBinaryLabelmapInternalRepresentation(node.GetSegmentation().GetNthSegmentID(0))
    x0, x1, y0, y1, z0, z1 = labelmap.GetExtent()
    written = sitk.GetArrayFromImage(make_phantom(5)[1]) > 0
    shown = np.zeros_like(written)
    voxels = vtk_to_numpy(labelmap.GetPointData().GetScalars()) > 0
    shown[z0 : z1 + 1, y0 : y1 + 1, x0 : x1 + 1] = voxels.reshape(z1 - z0 + 1, y1 - y0 + 1, x1 - x0 + 1)
    assert np.array_equal(shown, written)
    assert not node.GetSegmentation().ContainsRepresentation("Closed surface")


def test_the_surface_of_a_prediction_in_the_scene_can_be_shown_and_hidden(
    core: SlicerCore, display: PredictionDisplay, files: Path
) -> None:
    node = display.show(core.loadVolume(files / "scan.nrrd"), "case_001", files, surface=False)
    display.showSurface(node, False)
    assert not node.GetSegmentation().ContainsRepresentation("Closed surface")
    display.showSurface(node, True)
    assert node.GetSegmentation().ContainsRepresentation("Closed surface")
    assert node.GetDisplayNode().GetVisibility3D()
    display.showSurface(node, False)
    assert not node.GetDisplayNode().GetVisibility3D()


def test_uncertainty_is_an_overlay_from_0_to_1_without_its_low_values(
    core: SlicerCore, display: PredictionDisplay, files: Path
) -> None:
    volume = core.loadVolume(files / "scan.nrrd")
    display.show(volume, "case_001", files, surface=False)
    shown = display.uncertaintyNode("case_001").GetDisplayNode()
    assert (shown.GetWindowLevelMin(), shown.GetWindowLevelMax()) == (0.0, 1.0)
    assert shown.GetApplyThreshold()
    assert shown.GetLowerThreshold() == pytest.approx(0.3)
    assert shown.GetColorNode() is not None
    assert display.uncertaintyNode("case_002") is None


def test_a_new_prediction_replaces_the_earlier_one_and_nothing_else(
    core: SlicerCore, display: PredictionDisplay, files: Path
) -> None:
    volume = core.loadVolume(files / "scan.nrrd")
    mine = core.loadSegmentation(files / "segmentation.seg.nrrd")
    mine.SetName(f"{volume.GetName()} teacher")
    mine.SetAttribute(CASE_ATTRIBUTE, "case_001")
    mine.SetAttribute(KIND_ATTRIBUTE, "label")
    other = display.show(volume, "case_002", files, surface=False)
    first = display.show(volume, "case_001", files, surface=False)
    firstId = first.GetID()
    second = display.show(volume, "case_001", files, surface=False)
    assert core.scene.GetNodeByID(firstId) is None
    assert all(core.scene.IsNodePresent(node) for node in (volume, mine, other, second))
    assert core.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 3
    display.remove("case_001")
    assert core.scene.IsNodePresent(mine)
    assert not core.scene.IsNodePresent(second)


def test_a_prediction_that_was_edited_is_kept_when_the_next_one_comes(
    core: SlicerCore, display: PredictionDisplay, files: Path
) -> None:
    import slicer

    volume = core.loadVolume(files / "scan.nrrd")
    first = display.show(volume, "case_001", files, surface=False)
    segmentId = first.GetSegmentation().GetNthSegmentID(0)
    # How it is shown and named is no edit.
    first.SetName("Another name")
    first.CreateClosedSurfaceRepresentation()
    display.show(volume, "case_001", files, surface=False)
    assert not core.scene.IsNodePresent(first)
    second = display.teacherNode("case_001")
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(second, segmentId, volume).copy()
    voxels[:2] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, second, segmentId, volume)
    third = display.show(volume, "case_001", files, surface=False)
    assert core.scene.IsNodePresent(second) and not second.GetDisplayNode().GetVisibility()
    assert second.GetName() == f"{volume.GetName()} teacher edited"
    assert np.array_equal(slicer.util.arrayFromSegmentBinaryLabelmap(second, segmentId, volume), voxels)
    assert display.teacherNode("case_001") is third
    # Of a scene that was saved before edits were noted.
    third.RemoveAttribute("LASegColearn.placedVoxels")
    fourth = display.show(volume, "case_001", files, surface=False)
    assert not core.scene.IsNodePresent(third)
    fourth.RemoveAttribute("LASegColearn.placedVoxels")
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, fourth, segmentId, volume)
    fifth = display.show(volume, "case_001", files, surface=False)
    assert core.scene.IsNodePresent(fourth) and fourth.GetAttribute(KIND_ATTRIBUTE) is None
    display.remove("case_001")
    assert core.scene.IsNodePresent(second) and not core.scene.IsNodePresent(fifth)


@pytest.mark.parametrize("which", ["teacher", "uncertainty"])
@pytest.mark.parametrize("hardened", [True, False])
def test_a_prediction_that_was_moved_is_loaded_anew(
    core: SlicerCore, display: PredictionDisplay, files: Path, which: str, hardened: bool
) -> None:
    """Slicer hardens a scan's transform for all that is under it in Data; the scan's file lies where it was."""
    import slicer
    import vtk

    volume = core.loadVolume(files / "scan.nrrd")
    teacher = display.show(volume, "case_001", files, surface=False)
    assert display.isCurrent("case_001", files)
    moved = teacher if which == "teacher" else display.uncertaintyNode("case_001")
    move = vtk.vtkTransform()
    move.Translate(0, 0, 6)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(move.GetMatrix())
    moved.SetAndObserveTransformNodeID(transform.GetID())
    assert not hardened or moved.HardenTransform()
    assert not display.isCurrent("case_001", files)
    display.show(volume, "case_001", files, surface=False)
    assert display.isCurrent("case_001", files)
    # Nobody's work is lost: what was hardened may be wanted there.
    assert bool(core.scene.IsNodePresent(moved)) == (hardened and which == "teacher")


def test_a_prediction_in_its_scans_transform_stays_with_it(
    core: SlicerCore, display: PredictionDisplay, files: Path
) -> None:
    import slicer
    import vtk

    from LASegColearnSlicer.results import SCAN, markNode

    volume = core.loadVolume(files / "scan.nrrd")
    markNode(volume, "", "case_001", SCAN)
    teacher = display.show(volume, "case_001", files, surface=False)
    move = vtk.vtkTransform()
    move.Translate(0, 0, 30)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(move.GetMatrix())
    nodes = (volume, teacher, display.uncertaintyNode("case_001"))
    for node in nodes:
        node.SetAndObserveTransformNodeID(transform.GetID())
    assert display.isCurrent("case_001", files)
    # One that comes later lies where its scan is shown.
    (files / "figures.json").touch()
    newer = display.show(volume, "case_001", files, surface=False)
    assert newer.GetParentTransformNode() is transform
    assert display.uncertaintyNode("case_001").GetParentTransformNode() is transform
    volume.SetAndObserveTransformNodeID(None)
    assert not display.isCurrent("case_001", files)


def test_a_prediction_of_a_scene_of_an_early_version_is_compared_without_its_place(
    core: SlicerCore, display: PredictionDisplay, files: Path
) -> None:
    from LASegColearnSlicer.segment_voxels import voxelsDigest

    teacher = display.show(core.loadVolume(files / "scan.nrrd"), "case_001", files, surface=False)
    teacher.RemoveAttribute("LASegColearn.placedVoxels")
    teacher.SetAttribute("LASegColearn.voxels", voxelsDigest(teacher))
    assert display.isCurrent("case_001", files)
    teacher.SetAttribute("LASegColearn.voxels", "others")
    assert not display.isCurrent("case_001", files)


def test_a_saved_scene_keeps_a_prediction_that_was_painted_into_apart_from_the_engines_file(
    core: SlicerCore, files: Path, tmp_path: Path
) -> None:
    import slicer

    folder = tmp_path / "predictions" / "case_001"
    shutil.copytree(files, folder)
    file = folder / "segmentation.seg.nrrd"
    display = PredictionDisplay(core.scene, core.loadSegmentation, core.loadVolume, "study")
    volume = core.loadVolume(folder / "scan.nrrd")
    painted = display.show(volume, "case_001", folder, surface=False)
    segmentId = painted.GetSegmentation().GetNthSegmentID(0)
    assert painted.GetStorageNode() is None and painted.GetModifiedSinceRead(), "Slicer asks where to save it."
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(painted, segmentId, volume).copy()
    voxels[:2] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(voxels, painted, segmentId, volume)
    written = file.read_bytes()
    for number in (1, 2):
        assert core.scene.WriteToMRB(str(tmp_path / f"{number}.mrb"))
        core.scene.Clear(0)
        assert core.scene.ReadFromMRB(str(tmp_path / f"{number}.mrb"), True)
        assert file.read_bytes() == written
        if number == 1:
            # Found again as the same prediction, and as edited.
            assert display.isNewest("case_001", folder) and not display.isCurrent("case_001", folder)
            painted, volume = display.teacherNode("case_001"), core.scene.GetFirstNodeByName("scan")
            (folder / "figures.json").write_text(json.dumps({"volume_ml": 71.0}), encoding="utf-8")
            assert display.show(volume, "case_001", folder, surface=False) is not painted
            assert painted.GetStorageNode() is None and painted.GetModifiedSinceRead()
    painted, volume = core.scene.GetFirstNodeByName("scan teacher edited"), core.scene.GetFirstNodeByName("scan")
    assert np.array_equal(slicer.util.arrayFromSegmentBinaryLabelmap(painted, segmentId, volume), voxels)
    teacher = display.teacherNode("case_001")
    assert display.isCurrent("case_001", folder)
    display.show(volume, "case_001", folder, surface=False)
    assert not core.scene.IsNodePresent(teacher), "What was not painted into is replaced."
    assert core.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 2


def test_a_clone_of_a_prediction_is_the_users_own(core: SlicerCore, display: PredictionDisplay, files: Path) -> None:
    import slicer

    volume = core.loadVolume(files / "scan.nrrd")
    first = display.show(volume, "case_001", files, surface=False)
    hierarchy = core.scene.GetSubjectHierarchyNode()
    clones = slicer.vtkSlicerSubjectHierarchyModuleLogic.CloneSubjectHierarchyItem
    cloned = hierarchy.GetItemDataNode(clones(hierarchy, hierarchy.GetItemByDataNode(first)))
    assert cloned.GetAttribute(KIND_ATTRIBUTE) == "teacher", "Slicer copies attributes."
    second = display.show(volume, "case_001", files, surface=False)
    assert core.scene.IsNodePresent(cloned) and not core.scene.IsNodePresent(first)
    assert display.teacherNode("case_001") is second
    display.remove("case_001")
    assert core.scene.IsNodePresent(cloned) and not core.scene.IsNodePresent(second)


def test_a_clone_of_an_uncertainty_is_no_scan(session: Session, core: SlicerCore, files: Path, tmp_path: Path) -> None:
    import slicer

    session.openStudy(tmp_path / "study")
    volume = core.loadVolume(files / "scan.nrrd")
    session.display.show(volume, "case_001", files, surface=False)
    hierarchy = core.scene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(session.display.uncertaintyNode("case_001"))
    slicer.vtkSlicerSubjectHierarchyModuleLogic.CloneSubjectHierarchyItem(hierarchy, item)
    session.display.releaseClones("case_001")
    assert [candidate.volume for candidate in session.cases.candidates()] == [volume]


def test_a_prediction_that_is_missing_leaves_the_earlier_one(
    core: SlicerCore, display: PredictionDisplay, files: Path, tmp_path: Path
) -> None:
    volume = core.loadVolume(files / "scan.nrrd")
    earlier = display.show(volume, "case_001", files, surface=False)
    with pytest.raises(RuntimeError, match="case_001: The prediction is missing or incomplete"):
        display.show(volume, "case_001", tmp_path)
    assert core.scene.IsNodePresent(earlier)


def test_nothing_of_a_prediction_stays_in_the_scene(core: SlicerCore, display: PredictionDisplay, files: Path) -> None:
    volume = core.loadVolume(files / "scan.nrrd")
    before = core.scene.GetNumberOfNodes()
    display.show(volume, "case_001", files)
    display.remove("case_001")
    assert core.scene.GetNumberOfNodes() == before


def test_a_prediction_whose_uncertainty_cannot_be_loaded_is_not_left_half_shown(core: SlicerCore, files: Path) -> None:
    volume = core.loadVolume(files / "scan.nrrd")
    before = core.scene.GetNumberOfNodes()
    display = PredictionDisplay(core.scene, core.loadSegmentation, lambda path: None)
    with pytest.raises(RuntimeError, match="case_001: The uncertainty cannot be loaded"):
        display.show(volume, "case_001", files)
    assert core.scene.GetNumberOfNodes() == before
