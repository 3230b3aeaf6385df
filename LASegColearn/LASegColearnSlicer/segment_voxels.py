"""A segment's voxels on its scan's grid: fast enough for each stroke, without adding a node to the scene."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from LASegColearnLib.errors import InputError, Problem
from LASegColearnSlicer.scene_export import checkInside, checkScan, checkTransform, checkVoxels, voxelVolume

# Allowed difference between a labelmap's grid and the scan's, in voxels, for rounding in files.
_GRID_TOLERANCE = 0.02


@dataclass(frozen=True)
class SegmentVoxels:
    """A copy of a segment's voxels, which another thread can use.

    Attributes
    ----------
    mask
        Boolean, (k, j, i): the box of the scan's grid that the segment's labelmap covers.
    start
        First voxel of the box, (k, j, i).
    shape
        Shape of the scan, (k, j, i).
    spacing
        Spacing of the scan, in mm along k, j and i.
    sameGrid
        Whether the labelmap has the scan's grid; if not, each voxel of the scan has the nearest label.
    """

    mask: np.ndarray
    start: tuple[int, int, int]
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    sameGrid: bool

    def isSame(self, other: SegmentVoxels) -> bool:
        """Whether another copy has the same voxels."""
        return (self.start, self.shape, self.spacing, self.sameGrid) == (
            other.start,
            other.shape,
            other.spacing,
            other.sameGrid,
        ) and np.array_equal(self.mask, other.mask)


def segmentVoxels(segmentationNode: Any, segmentId: str, volumeNode: Any) -> SegmentVoxels:
    """Copy a segment's voxels on the grid of its scan; none for an empty segment.

    Raises
    ------
    InputError
        If a node or the segment is missing, is in a transform, is a surface instead of voxels, or lies outside of the
        scan.
    """
    checkScan(volumeNode)
    if segmentationNode is None:
        raise InputError(Problem(volumeNode.GetName(), "No segmentation is chosen.", "Choose one."))
    checkTransform(segmentationNode)
    segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
    if segment is None:
        cause = "The segment no longer exists."
        raise InputError(Problem(segmentationNode.GetName(), cause, "Choose another segment."))
    checkVoxels(segmentationNode, segmentId)
    labelmap = segmentationNode.GetBinaryLabelmapInternalRepresentation(segmentId)
    return _onGrid(segmentationNode, segmentId, labelmap, volumeNode)


def voxelsDigest(segmentationNode: Any) -> str:
    """A digest of the voxels of all segments of a node, independent of the extents of their arrays."""
    digest = hashlib.sha256()
    segmentation = segmentationNode.GetSegmentation()
    for index in range(segmentation.GetNumberOfSegments()):
        segmentId = segmentation.GetNthSegmentID(index)
        labelmap = segmentationNode.GetBinaryLabelmapInternalRepresentation(segmentId)
        mask = (
            np.zeros((0, 0, 0), bool)
            if labelmap is None
            else _equal(labelmap, segmentation.GetSegment(segmentId).GetLabelValue())
        )
        sides = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
        if not mask.any():
            digest.update(b"empty")
            continue
        box = tuple(slice(side[0], side[-1] + 1) for side in sides)
        start = [int(side[0]) + first for side, first in zip(sides, labelmap.GetExtent()[::2][::-1], strict=True)]
        digest.update(repr((start, mask[box].shape)).encode() + np.packbits(mask[box]).tobytes())
    return digest.hexdigest()[:16]


def placedVoxelsDigest(segmentationNode: Any) -> str:
    """Like :func:`voxelsDigest`, but also depends on the position, which hardening a transform changes."""
    import vtk

    digest = hashlib.sha256(voxelsDigest(segmentationNode).encode())
    segmentation = segmentationNode.GetSegmentation()
    for index in range(segmentation.GetNumberOfSegments()):
        labelmap = segmentationNode.GetBinaryLabelmapInternalRepresentation(segmentation.GetNthSegmentID(index))
        if labelmap is not None:
            matrix = vtk.vtkMatrix4x4()
            labelmap.GetImageToWorldMatrix(matrix)
            places = [round(matrix.GetElement(row, column), 3) + 0.0 for row in range(3) for column in range(4)]
            digest.update(repr(places).encode())
    return digest.hexdigest()[:16]


def _onGrid(segmentationNode: Any, segmentId: str, labelmap: Any, volumeNode: Any) -> SegmentVoxels:
    value = segmentationNode.GetSegmentation().GetSegment(segmentId).GetLabelValue()
    size = volumeNode.GetImageData().GetDimensions()
    own = _equal(labelmap, value)
    toScan = _indexToIndex(labelmap, volumeNode)
    shift = np.rint(toScan[:3, 3])
    reach = np.abs(labelmap.GetExtent()).max() + 1
    moved = np.abs(toScan[:3, :3] - np.eye(3)).max() * reach + np.abs(toScan[:3, 3] - shift).max()
    sameGrid = bool(moved < _GRID_TOLERANCE) or own.size == 0
    if sameGrid:
        # In the array's order: k, j, i.
        first = (np.array(labelmap.GetExtent()[::2]) + shift).astype(int)[::-1]
        low, high = np.maximum(first, 0), np.minimum(first + own.shape, size[::-1])
        high = np.maximum(low, high)
        mask = own[tuple(slice(*side) for side in zip(low - first, high - first, strict=True))]
    else:
        low, mask = _resampled(labelmap, value, toScan, volumeNode)
    drawn, inside = np.count_nonzero(own) * voxelVolume(segmentationNode, segmentId), np.count_nonzero(mask)
    checkInside(segmentationNode, segmentId, volumeNode, drawn, inside * float(np.prod(volumeNode.GetSpacing())))
    k, j, i = (int(side) for side in (low if mask.size else np.zeros(3)))
    return SegmentVoxels(mask, (k, j, i), size[::-1], volumeNode.GetSpacing()[::-1], sameGrid)


def _equal(labelmap: Any, value: int) -> np.ndarray:
    """Where a labelmap, which several segments may share, has this value: a boolean copy (k, j, i)."""
    from vtk.util.numpy_support import vtk_to_numpy

    shape = labelmap.GetDimensions()[::-1]
    if labelmap.GetPointData().GetScalars() is None or 0 in shape:
        return np.zeros((0, 0, 0), bool)
    return vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape(shape) == value


def _indexToIndex(labelmap: Any, volumeNode: Any) -> np.ndarray:
    """Matrix from a labelmap's voxel (i, j, k) to the scan's, 4x4."""
    import slicer
    import vtk

    labelToWorld, scanToWorld = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    labelmap.GetImageToWorldMatrix(labelToWorld)
    volumeNode.GetIJKToRASMatrix(scanToWorld)
    toWorld, fromWorld = (slicer.util.arrayFromVTKMatrix(matrix) for matrix in (labelToWorld, scanToWorld))
    return np.linalg.inv(fromWorld) @ toWorld


def _resampled(labelmap: Any, value: int, toScan: np.ndarray, volumeNode: Any) -> tuple[np.ndarray, np.ndarray]:
    """First voxel and mask, (k, j, i), of the part of the scan that the labelmap's labels can reach.

    Same result as Slicer's export of a segment to a scan's grid, but only for this part.
    """
    import slicer
    import vtk

    extent = [0] * 6
    slicer.vtkOrientedImageDataResample.CalculateEffectiveExtent(labelmap, extent)
    corners = np.array(list(itertools.product(*np.reshape(extent, (3, 2)) + (-0.5, 0.5), [1.0])))
    reached = corners @ toScan[:3].T
    low = np.maximum(np.floor(reached.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(reached.max(axis=0)).astype(int), np.array(volumeNode.GetImageData().GetDimensions()) - 1)
    if (high < low).any():
        return np.zeros(3, int), np.zeros((0, 0, 0), bool)
    matrix, grid, found = vtk.vtkMatrix4x4(), slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    volumeNode.GetIJKToRASMatrix(matrix)
    grid.SetGeometryFromImageToWorldMatrix(matrix)
    grid.SetExtent(*(int(end) for side in zip(low, high, strict=True) for end in side))
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(labelmap, grid, found)
    return low[::-1], _equal(found, value)
