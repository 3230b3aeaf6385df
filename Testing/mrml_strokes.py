"""Strokes in a real segmentation, made by the logic of Slicer's own Segment Editor, without its Qt."""

from __future__ import annotations

from typing import Any

import numpy as np


def scanAndSegment(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> tuple[Any, Any, str]:
    """A scan of this shape (k, j, i) and spacing (i, j, k) in mm, a segmentation on its grid, an empty segment's id."""
    import slicer

    voxels = np.zeros(shape, np.int16)
    volume = slicer.util.addVolumeFromArray(voxels, name="Scan", nodeClassName="vtkMRMLScalarVolumeNode")
    volume.SetSpacing(spacing)
    volume.SetOrigin(10.0, -20.0, 30.0)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Outlines")
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    return volume, segmentation, segmentation.GetSegmentation().AddEmptySegment("la", "Left atrium")


class Strokes:
    """Paints in one segment and takes it back.

    Parameters
    ----------
    segmentationNode, segmentId, volumeNode
        The segment, on the grid of its scan.
    """

    def __init__(self, segmentationNode: Any, segmentId: str, volumeNode: Any) -> None:
        import slicer

        self._node, self._segmentId = segmentationNode, segmentId
        self._spacing = np.array(volumeNode.GetSpacing()[::-1])
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._logic.SetSegmentEditorNode(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode"))
        self._logic.SetSegmentationNode(segmentationNode)
        self._logic.SetSourceVolumeNode(volumeNode)
        self._logic.SetCurrentSegmentID(segmentId)
        self._logic.SetMaximumNumberOfUndoStates(10)

    def paint(self, center: tuple[int, int, int], radius: float) -> None:
        """Add a sphere: its center as a voxel (k, j, i), its radius in mm."""
        self.prepare(center, radius)
        self.apply()

    def erase(self, center: tuple[int, int, int], radius: float) -> None:
        """Take a sphere away, as :meth:`paint` adds it."""
        self.prepare(center, radius)
        self.apply(erase=True)

    def prepare(self, center: tuple[int, int, int], radius: float) -> None:
        """Put a sphere into the editor's modifier labelmap, which a brush has done when the button is let go."""
        from vtk.util.numpy_support import vtk_to_numpy

        self._logic.ResetModifierLabelmapToDefault()
        modifier = self._logic.GetModifierLabelmap()
        shape = modifier.GetDimensions()[::-1]
        low = np.maximum(np.array(center) - np.ceil(radius / self._spacing).astype(int), 0)
        high = np.minimum(np.array(center) + np.ceil(radius / self._spacing).astype(int) + 1, shape)
        places = np.ogrid[tuple(slice(*side) for side in zip(low, high, strict=True))]
        away = sum(((p - c) * s) ** 2 for p, c, s in zip(places, center, self._spacing, strict=True))
        voxels = vtk_to_numpy(modifier.GetPointData().GetScalars()).reshape(shape)
        voxels[tuple(slice(*side) for side in zip(low, high, strict=True))] = away < radius**2
        modifier.Modified()

    def apply(self, erase: bool = False) -> None:
        """What the editor does when the button is let go."""
        mode = self._logic.ModificationModeRemove if erase else self._logic.ModificationModeAdd
        self._logic.SaveStateForUndo()
        modifier = self._logic.GetModifierLabelmap()
        self._logic.ModifySegmentByLabelmap(self._node, self._segmentId, modifier, mode, False, False)

    def undo(self) -> None:
        self._logic.Undo()
