"""Scans and segments of the scene as the engine's files: the same voxels and grid, and every refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from LASegColearnLib.errors import InputError
from LASegColearnSlicer.scene_export import labelImage, scanImage, writeLabel, writeScan
from mrml_scene import SlicerCore


def _matrix(rows: Any) -> Any:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    for row in range(4):
        for column in range(4):
            matrix.SetElement(row, column, float(rows[row][column]))
    return matrix


def _rows(node: Any) -> np.ndarray:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


STRAIGHT = np.array([[0, -0.625, 0, 31.3], [0.625, 0, 0, -17.77], [0, 0, 1.25, 5.1], [0, 0, 0, 1]])
_ANGLE = np.deg2rad(23.4)
_TURN = np.array([[np.cos(_ANGLE), -np.sin(_ANGLE), 0], [np.sin(_ANGLE), np.cos(_ANGLE), 0], [0, 0, 1]])
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = _TURN @ np.diag([0.7, 0.9, 1.3])
OBLIQUE[:3, 3] = [3.1, -41.9, 12.7]


def volume(core: SlicerCore, rows: np.ndarray = STRAIGHT, name: str = "Scan") -> Any:
    import slicer

    voxels = np.random.default_rng(0).integers(0, 3000, (12, 14, 16), dtype=np.int16)
    node = slicer.util.addVolumeFromArray(voxels, name=name, nodeClassName="vtkMRMLScalarVolumeNode")
    node.SetIJKToRASMatrix(_matrix(rows))
    return node


def segmentation(volumeNode: Any, mask: np.ndarray) -> tuple[Any, str]:
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Outlines")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    segmentId = node.GetSegmentation().AddEmptySegment("la", "Left atrium")
    if mask.any():
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, segmentId, volumeNode)
    return node, segmentId


def _box() -> np.ndarray:
    mask = np.zeros((12, 14, 16), bool)
    mask[3:8, 4:10, 5:13] = True
    return mask


def test_an_exported_scan_has_the_grid_and_the_voxels_to_the_bit(core: SlicerCore, tmp_path: Path) -> None:
    import slicer

    node = volume(core)
    file = tmp_path / "Räume und Höfe" / "case_001.nrrd"
    writeScan(node, file)
    written = sitk.ReadImage(file)
    assert np.array_equal(sitk.GetArrayFromImage(written), slicer.util.arrayFromVolume(node))
    assert written.GetOrigin() == (-31.3, 17.77, 5.1)
    assert written.GetSpacing() == (0.625, 0.625, 1.25)
    assert written.GetDirection() == (0, 1, 0, -1, 0, 0, 0, 0, 1)
    # Slicer's own reader computes the origin anew.
    assert np.abs(_rows(core.loadVolume(file)) - _rows(node)).max() < 1e-12


def test_an_oblique_grid_is_kept_to_a_billionth_of_a_mm(core: SlicerCore, tmp_path: Path) -> None:
    node = volume(core, OBLIQUE)
    writeScan(node, tmp_path / "scan.nrrd")
    assert np.abs(_rows(core.loadVolume(tmp_path / "scan.nrrd")) - _rows(node)).max() < 1e-9


@pytest.mark.parametrize("rows", [STRAIGHT, OBLIQUE])
def test_an_exported_label_lies_on_its_scan(core: SlicerCore, tmp_path: Path, rows: np.ndarray) -> None:
    node = volume(core, rows)
    outlines, segmentId = segmentation(node, _box())
    writeScan(node, tmp_path / "scan.nrrd")
    writeLabel(outlines, segmentId, node, tmp_path / "label.seg.nrrd")
    scan, label = (sitk.ReadImage(tmp_path / name) for name in ("scan.nrrd", "label.seg.nrrd"))
    assert np.array_equal(sitk.GetArrayFromImage(label) > 0, _box())
    assert label.GetOrigin() == scan.GetOrigin()
    assert label.GetSpacing() == scan.GetSpacing()
    assert label.GetDirection() == scan.GetDirection()


def test_nothing_of_the_patient_is_in_an_exported_file(core: SlicerCore, tmp_path: Path) -> None:
    node = volume(core, name="Somebody^Known")
    node.SetAttribute("DICOM.PatientName", "Somebody^Known")
    outlines, segmentId = segmentation(node, _box())
    writeScan(node, tmp_path / "scan.nrrd")
    writeLabel(outlines, segmentId, node, tmp_path / "label.seg.nrrd")
    for name in ("scan.nrrd", "label.seg.nrrd"):
        assert b"Somebody" not in (tmp_path / name).read_bytes()


def test_no_volume_and_a_volume_in_a_transform_are_refused(core: SlicerCore) -> None:
    with pytest.raises(InputError, match="No volume is chosen. Load a scan"):
        scanImage(None)
    node = volume(core)
    transform = core.scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Moved")
    node.SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(
        InputError, match="Scan: It is inside a transform that is not hardened. .* move it out of the transform"
    ):
        scanImage(node)


def test_a_labelmap_and_a_volume_without_voxels_are_refused(core: SlicerCore) -> None:
    import slicer

    labelmap = slicer.util.addVolumeFromArray(np.zeros((4, 4, 4), np.uint8), nodeClassName="vtkMRMLLabelMapVolumeNode")
    with pytest.raises(InputError, match="Wanted a scan, found a labelmap"):
        scanImage(labelmap)
    empty = core.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Nothing")
    with pytest.raises(InputError, match="Nothing: The volume is empty"):
        scanImage(empty)


def test_an_empty_a_missing_and_a_foreign_segment_are_refused(core: SlicerCore) -> None:
    node = volume(core)
    outlines, segmentId = segmentation(node, np.zeros((12, 14, 16), bool))
    with pytest.raises(InputError, match="Outlines: The segment Left atrium is empty"):
        labelImage(outlines, segmentId, node)
    with pytest.raises(InputError, match="The segment no longer exists"):
        labelImage(outlines, "gone", node)
    with pytest.raises(InputError, match="No segmentation is chosen"):
        labelImage(None, "", node)
    elsewhere = STRAIGHT.copy()
    elsewhere[:3, 3] += 200
    other = volume(core, elsewhere, "Other patient")
    foreign, foreignId = segmentation(other, _box())
    with pytest.raises(InputError, match="Most of the segment Left atrium lies outside of the scan Scan"):
        labelImage(foreign, foreignId, node)


def test_a_segment_that_is_a_surface_is_told_as_such(core: SlicerCore) -> None:
    import slicer
    import vtk

    node = volume(core)
    surfaces = core.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Structures")
    surfaces.GetSegmentation().SetSourceRepresentationName(
        slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
    )
    sphere = vtk.vtkSphereSource()
    sphere.Update()
    segmentId = surfaces.AddSegmentFromClosedSurfaceRepresentation(sphere.GetOutput(), "Left atrium")
    with pytest.raises(InputError, match="Structures: The segment Left atrium is a surface, not voxels"):
        labelImage(surfaces, segmentId, node)


def test_a_label_can_still_be_written_when_the_scan_it_was_drawn_on_was_loaded_anew(core: SlicerCore) -> None:
    first = volume(core)
    mask = np.zeros((12, 14, 16), np.uint8)
    mask[3:6, 3:6, 3:6] = 1
    node, segmentId = segmentation(first, mask)
    core.scene.RemoveNode(first)
    image = labelImage(node, segmentId, volume(core))
    assert np.array_equal(sitk.GetArrayFromImage(image), mask)


def test_a_full_disk_is_a_sentence_and_leaves_no_half_file(core: SlicerCore, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="There are no such limits on this system.")
    node = volume(core)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may grow beyond this: to a writer the same as a disk without room.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(InputError, match="case_001.nrrd cannot be written .* Check the free disk space"):
            writeScan(node, tmp_path / "scans" / "case_001.nrrd")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "scans").iterdir()) == []


def test_the_frame_of_a_sequence_is_no_scan(core: SlicerCore) -> None:
    """slicer-core has no Sequences module: a scene with one browser stands in for it, of what the real one is asked."""
    from LASegColearnSlicer.scene_export import checkScan, isFrameOfSequence

    class Browser:
        def IsProxyNodeID(self, identifier: str) -> bool:
            return identifier == cine.GetID()

    class SceneOfSequences:
        def GetNumberOfNodesByClass(self, name: str) -> int:
            return 1 if name == "vtkMRMLSequenceBrowserNode" else 0

        def GetNthNodeByClass(self, number: int, name: str) -> Browser:
            return Browser()

    class InSequences:
        def __init__(self, node: Any) -> None:
            self._node = node

        def __getattr__(self, name: str) -> Any:
            return getattr(self._node, name)

        def GetScene(self) -> SceneOfSequences:
            return SceneOfSequences()

    cine = volume(core, name="Cine")
    frame, scan = InSequences(cine), InSequences(volume(core))
    assert isFrameOfSequence(frame) and not isFrameOfSequence(scan)
    assert not isFrameOfSequence(cine), "There is no browser in this scene."
    with pytest.raises(InputError, match="Cine: It shows the current frame of a sequence"):
        checkScan(frame)
    checkScan(scan)
