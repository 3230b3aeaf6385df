"""Writes scans and segments of the scene as files for the engine: voxels and grid, no other header fields."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.itk_names import image_reader
from LASegColearnLib.segmentation_files import write_segmentation, write_volume

# A label with a smaller share inside the scan was drawn on another scan.
_LEAST_INSIDE = 0.5
# How far rounding in a header can move a corner of a scan, in mm.
GRID_TOLERANCE = 0.01


def checkScan(volumeNode: Any) -> None:
    """Raise :class:`InputError` if a volume of the scene cannot be a case's scan."""
    if volumeNode is None:
        raise InputError(Problem("Scan", "No volume is chosen.", "Load a scan and choose it."))
    name = volumeNode.GetName()
    if volumeNode.GetImageData() is None or volumeNode.GetImageData().GetNumberOfPoints() == 0:
        raise InputError(Problem(name, "The volume is empty.", "Load the scan again."))
    if volumeNode.GetImageData().GetNumberOfScalarComponents() != 1:
        raise InputError(
            Problem(name, "Wanted one value per voxel, found a color image.", "Choose the MR scan itself.")
        )
    if volumeNode.IsA("vtkMRMLLabelMapVolumeNode"):
        raise InputError(
            Problem(
                name, "Wanted a scan, found a labelmap.", "In Data, right-click it and convert it to a segmentation."
            )
        )
    if isFrameOfSequence(volumeNode):
        cause = "It shows the current frame of a sequence, so its voxels change with the frame."
        raise InputError(Problem(name, cause, "In Data, clone it at the frame that you want, and choose the clone."))
    checkTransform(volumeNode)


def isFrameOfSequence(volumeNode: Any) -> bool:
    """Whether a volume shows the current frame of a sequence (vtkMRMLSequenceBrowserNode)."""
    scene = volumeNode.GetScene()
    count = 0 if scene is None else scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode")
    browsers = [scene.GetNthNodeByClass(number, "vtkMRMLSequenceBrowserNode") for number in range(count)]
    return any(browser.IsProxyNodeID(volumeNode.GetID()) for browser in browsers)


def scanImage(volumeNode: Any) -> sitk.Image:
    """A volume's voxels on its grid, without other header fields.

    Raises
    ------
    InputError
        See :func:`checkScan`.
    """
    import slicer

    checkScan(volumeNode)
    return _image(slicer.util.arrayFromVolume(volumeNode), volumeNode)


def labelImage(segmentationNode: Any, segmentId: str, volumeNode: Any) -> sitk.Image:
    """One segment as 0 and 1 on the grid of its scan.

    Raises
    ------
    InputError
        If the segment is missing, is empty, lies outside of the scan, or is in a transform that is not hardened.
    """
    import slicer

    checkScan(volumeNode)
    if segmentationNode is None:
        raise InputError(Problem(volumeNode.GetName(), "No segmentation is chosen.", "Choose the one with the label."))
    checkTransform(segmentationNode)
    name = segmentationNode.GetName()
    if not segmentId:
        raise InputError(Problem(name, "No segment is chosen.", "Choose the segment of the left atrium."))
    segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
    if segment is None:
        raise InputError(Problem(name, "The segment no longer exists.", "Choose another segment."))
    checkVoxels(segmentationNode, segmentId)
    drawnVoxels = voxelCount(segmentationNode, segmentId)
    if not drawnVoxels:
        raise InputError(
            Problem(
                name,
                f"The segment {segment.GetName()} is empty.",
                "Outline the left atrium, or choose another segment.",
            )
        )
    onScan = slicer.util.arrayFromSegmentBinaryLabelmap(segmentationNode, segmentId, volumeNode) > 0
    drawn = voxelVolume(segmentationNode, segmentId) * drawnVoxels
    inside = np.count_nonzero(onScan) * float(np.prod(volumeNode.GetSpacing()))
    checkInside(segmentationNode, segmentId, volumeNode, drawn, inside)
    return _image(onScan.astype(np.uint8), volumeNode)


def writeScan(volumeNode: Any, file: Path) -> None:
    """Write a volume as NRRD, completely or not at all.

    Raises
    ------
    InputError
        Like :func:`scanImage`, or if the file cannot be written.
    """
    image = scanImage(volumeNode)
    _written(file, lambda: write_volume(file, image))


def writeLabel(segmentationNode: Any, segmentId: str, volumeNode: Any, file: Path) -> None:
    """Write one segment on its scan's grid.

    Raises
    ------
    InputError
        Like :func:`labelImage`, or if the file cannot be written.
    """
    image = labelImage(segmentationNode, segmentId, volumeNode)
    _written(file, lambda: write_segmentation(file, image))


def hasGridOf(file: Path, volumeNode: Any) -> bool:
    """Whether a file and a volume have the same grid; False if the file's header, or its name, cannot be read."""
    try:
        reader = image_reader(file)
        reader.ReadImageInformation()
    except (RuntimeError, InputError):
        return False
    size = volumeNode.GetImageData().GetDimensions()
    if tuple(reader.GetSize()) != size:
        return False
    direction = np.reshape(reader.GetDirection(), (3, 3))
    signs = np.array([-1.0, -1.0, 1.0])
    for corner in itertools.product(*((0, side - 1) for side in size)):
        inFile = signs * (np.array(reader.GetOrigin()) + direction @ (np.array(reader.GetSpacing()) * corner))
        if np.abs(inFile - _toRAS(volumeNode, corner)).max() > GRID_TOLERANCE:
            return False
    return True


def gridOf(volumeNode: Any) -> list[list[float]]:
    """Positions of the first voxel of a volume and of the last one along each axis, in RAS and mm."""
    sides = volumeNode.GetImageData().GetDimensions()
    corners = [(0, 0, 0), *(tuple(side - 1 if a == axis else 0 for a in range(3)) for axis, side in enumerate(sides))]
    return [_toRAS(volumeNode, corner).tolist() for corner in corners]


def _toRAS(volumeNode: Any, index: tuple[int, ...]) -> np.ndarray:
    """Position of a voxel (i, j, k) of a volume, in RAS and mm."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return np.array(matrix.MultiplyPoint((*index, 1.0))[:3])


def _image(array: np.ndarray, volumeNode: Any) -> sitk.Image:
    """Voxels (k, j, i) on the volume's grid, converted from RAS in the scene to LPS in files."""
    import vtk

    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASDirectionMatrix(matrix)
    signs = (-1.0, -1.0, 1.0)
    # Adding 0 turns -0 into 0.
    image.SetOrigin([sign * value + 0.0 for sign, value in zip(signs, volumeNode.GetOrigin(), strict=True)])
    image.SetSpacing(volumeNode.GetSpacing())
    image.SetDirection([signs[row] * matrix.GetElement(row, column) + 0.0 for row in range(3) for column in range(3)])
    return image


def voxelCount(segmentationNode: Any, segmentId: str) -> int:
    """Number of voxels of a segment on its own grid, so that its scan need not be in the scene."""
    import slicer
    from vtk.util.numpy_support import vtk_to_numpy

    own = slicer.vtkOrientedImageData()
    segmentationNode.GetBinaryLabelmapRepresentation(segmentId, own)
    scalars = own.GetPointData().GetScalars()
    return 0 if scalars is None else int(np.count_nonzero(vtk_to_numpy(scalars)))


def checkInside(segmentationNode: Any, segmentId: str, volumeNode: Any, drawn: float, inside: float) -> None:
    """Raise :class:`InputError` if too little of a segment's volume lies inside the scan.

    ``drawn`` is the volume of the whole segment and ``inside`` that of its part in the scan, in the same unit.
    """
    if inside < _LEAST_INSIDE * drawn:
        segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
        cause = f"Most of the segment {segment.GetName()} lies outside of the scan {volumeNode.GetName()}."
        remedy = "It belongs to another scan, or one of the two was moved. Choose again."
        raise InputError(Problem(segmentationNode.GetName(), cause, remedy))


def voxelVolume(segmentationNode: Any, segmentId: str) -> float:
    """Volume of one voxel of a segment's own labelmap, in cubic mm."""
    import vtk

    labelmap = segmentationNode.GetBinaryLabelmapInternalRepresentation(segmentId)
    matrix = vtk.vtkMatrix4x4()
    labelmap.GetImageToWorldMatrix(matrix)
    return abs(matrix.Determinant())


def checkVoxels(segmentationNode: Any, segmentId: str) -> None:
    """Raise :class:`InputError` if a segment is stored as a surface instead of voxels."""
    if segmentationNode.GetBinaryLabelmapInternalRepresentation(segmentId) is None:
        segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
        cause = f"The segment {segment.GetName()} is a surface, not voxels."
        remedy = "In the module Segmentations, under Representations, make the binary labelmap the source."
        raise InputError(Problem(segmentationNode.GetName(), cause, remedy))


def checkTransform(node: Any) -> None:
    """Raise :class:`InputError` if a node is in a transform, which its voxels do not include."""
    if node.GetParentTransformNode() is not None:
        raise InputError(
            Problem(
                node.GetName(),
                "It is inside a transform that is not hardened.",
                "In Data, move it out of the transform. If it is not a case yet, you can also harden it there.",
            )
        )


def _written(file: Path, write: Any) -> None:
    try:
        write()
    except (OSError, RuntimeError) as error:
        cause = f"{file.name} cannot be written into the study's folder."
        remedy = "Check the free disk space, and that you may write to the folder."
        raise InputError(Problem(file.parent.parent.name, cause, remedy)) from error
