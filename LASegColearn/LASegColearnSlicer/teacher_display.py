"""How the teacher's opinion is shown while a segment is edited: its outline, and a preview of what would be taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from LASegColearnSlicer.teacher_opinion import arrayOf

# The one that differs most from the edited segment's is taken.
_COLORS = ((0.0, 0.9, 1.0), (1.0, 0.9, 0.0), (1.0, 0.2, 0.9))
_OPACITY = 0.45
_PREVIEW_NAME = "Co-learning preview"


class TeacherOutline:
    """Shows the teacher's segment as an outline, and shows it again as it was shown before.

    Parameters
    ----------
    segmentationNode, segmentId
        The teacher's segment.
    beside
        Color of the segment it is compared with; red, green and blue, 0 to 1.
    """

    def __init__(self, segmentationNode: Any, segmentId: str, beside: Sequence[float]) -> None:
        segmentationNode.CreateDefaultDisplayNodes()
        self._node = segmentationNode
        self._segmentId = segmentId
        self._display = segmentationNode.GetDisplayNode()
        display, wasShown = self._display, bool(self._display.GetVisibility())
        self._before: list[tuple[Any, tuple[Any, ...]]] = [
            (display.SetVisibility, (display.GetVisibility(),)),
            (display.SetVisibility2D, (display.GetVisibility2D(),)),
            (display.SetVisibility3D, (display.GetVisibility3D(),)),
            (display.SetVisibility2DFill, (display.GetVisibility2DFill(),)),
            (display.SetVisibility2DOutline, (display.GetVisibility2DOutline(),)),
            (display.SetSegmentVisibility, (segmentId, display.GetSegmentVisibility(segmentId))),
            (display.SetSegmentVisibility2DOutline, (segmentId, display.GetSegmentVisibility2DOutline(segmentId))),
            (display.SetSegmentOverrideColor, (segmentId, *display.GetSegmentOverrideColor(segmentId))),
        ]
        display.SetVisibility(True)
        display.SetVisibility2D(True)
        # Who had hidden it does not want its surface now.
        display.SetVisibility3D(wasShown and display.GetVisibility3D())
        display.SetVisibility2DFill(False)
        display.SetVisibility2DOutline(True)
        display.SetSegmentVisibility(segmentId, True)
        display.SetSegmentVisibility2DOutline(segmentId, True)
        self.setBeside(beside)

    def setBeside(self, color: Sequence[float]) -> None:
        """Choose the outline's color for being compared with this one."""
        far = max(_COLORS, key=lambda own: sum((a - b) ** 2 for a, b in zip(own, color, strict=True)))
        self._display.SetSegmentOverrideColor(self._segmentId, *far)

    def restore(self) -> None:
        """Show it as before; a node that is gone is left alone."""
        if self._node.GetScene() is not None:
            for write, values in self._before:
                write(*values)


class Preview:
    """A translucent segment in a node of its own, which is neither listed, nor edited, nor saved.

    Parameters
    ----------
    scene
        The scene.
    """

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        self._node: Any | None = None

    @property
    def node(self) -> Any | None:
        """The segmentation node, while something is shown."""
        return self._node if self._node is not None and self._node.GetScene() is not None else None

    def show(self, image: Any, voxels: np.ndarray, color: Sequence[float]) -> None:
        """Show these voxels, boolean (k, j, i), on the grid of an oriented image; what was shown before is replaced."""
        import slicer

        shown = slicer.vtkOrientedImageData()
        shown.DeepCopy(image)
        arrayOf(shown)[:] = voxels
        node = self.node or self._make(color)
        slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(
            shown, node, "preview", slicer.vtkSlicerSegmentationsModuleLogic.MODE_REPLACE
        )

    def remove(self) -> None:
        """Take it out of the scene."""
        node, self._node = self.node, None
        if node is not None:
            for gone in (node.GetDisplayNode(), node):
                self._scene.RemoveNode(gone)

    def _make(self, color: Sequence[float]) -> Any:
        node = self._scene.CreateNodeByClass("vtkMRMLSegmentationNode")
        node.UnRegister(None)
        node.SetName(_PREVIEW_NAME)
        # Before it is added: the lists of nodes look at it then.
        node.SetHideFromEditors(True)
        node.SetSaveWithScene(False)
        node = self._scene.AddNode(node)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetSaveWithScene(False)
        display.SetVisibility3D(False)
        display.SetVisibility2DOutline(False)
        display.SetOpacity2DFill(_OPACITY)
        node.GetSegmentation().AddEmptySegment("preview", _PREVIEW_NAME, color)
        self._node = node
        return node
