"""Shows the teacher's opinion while a segment is edited: its outline, and a preview of accepting it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from LASegColearnSlicer.teacher_opinion import arrayOf

# The color that differs most from the edited segment's is used.
_COLORS = ((0.0, 0.9, 1.0), (1.0, 0.9, 0.0), (1.0, 0.2, 0.9))
_OPACITY = 0.45
_PREVIEW_NAME = "Co-learning preview"
# How the teacher's segment was shown before. An attribute, so that a scene saved meanwhile keeps it.
_BEFORE_ATTRIBUTE = "LASegColearn.shownBefore"
_OF_NODE = ("Visibility", "Visibility2D", "Visibility3D", "Visibility2DFill", "Visibility2DOutline")
_OF_SEGMENT = ("SegmentVisibility", "SegmentVisibility2DOutline")


class TeacherOutline:
    """Shows the teacher's segment as an outline, and restores its previous look afterwards.

    Parameters
    ----------
    segmentationNode, segmentId
        The teacher's segment.
    beside
        Color of the edited segment; red, green and blue, 0 to 1.
    """

    # Display nodes of all outlines that are shown now.
    _shown: ClassVar[list[Any]] = []

    def __init__(self, segmentationNode: Any, segmentId: str, beside: Sequence[float]) -> None:
        segmentationNode.CreateDefaultDisplayNodes()
        self._node = segmentationNode
        self._segmentId = segmentId
        display = self._display = segmentationNode.GetDisplayNode()
        # If the scene was saved with the outline, the user did not choose the current look.
        self._before = _keptLook(display) or _look(display, segmentId)
        display.SetAttribute(_BEFORE_ATTRIBUTE, json.dumps(self._before))
        self._shown.append(display)
        display.SetVisibility(True)
        display.SetVisibility2D(True)
        # If the user had hidden it, do not show its surface now.
        display.SetVisibility3D(bool(self._before["Visibility"] and self._before["Visibility3D"]))
        display.SetVisibility2DFill(False)
        display.SetVisibility2DOutline(True)
        display.SetSegmentVisibility(segmentId, True)
        display.SetSegmentVisibility2DOutline(segmentId, True)
        self.setBeside(beside)

    def setBeside(self, color: Sequence[float]) -> None:
        """Choose an outline color that differs from this color."""
        far = max(_COLORS, key=lambda own: sum((a - b) ** 2 for a, b in zip(own, color, strict=True)))
        self._display.SetSegmentOverrideColor(self._segmentId, *far)

    def restore(self) -> None:
        """Restore the previous look; does nothing if the node is no longer in the scene."""
        if self._display in self._shown:
            self._shown.remove(self._display)
        if self._node.GetScene() is not None:
            _setLook(self._display, self._before)

    @classmethod
    def restoreSaved(cls, scene: Any) -> None:
        """Restore the look of segments in a scene that was saved with an outline, unless the outline is shown now."""
        for index in range(scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")):
            display = scene.GetNthNodeByClass(index, "vtkMRMLSegmentationNode").GetDisplayNode()
            kept = None if display is None else _keptLook(display)
            if kept is not None and display not in cls._shown:
                _setLook(display, kept)


def _look(display: Any, segmentId: str) -> dict[str, Any]:
    """How a segment is shown."""
    return {
        "segment": segmentId,
        **{name: int(getattr(display, f"Get{name}")()) for name in _OF_NODE},
        **{name: bool(getattr(display, f"Get{name}")(segmentId)) for name in _OF_SEGMENT},
        "color": list(display.GetSegmentOverrideColor(segmentId)),
    }


def _keptLook(display: Any) -> dict[str, Any] | None:
    """The look stored before; None if there is none, or if a scene from elsewhere has an invalid one."""
    try:
        kept = json.loads(display.GetAttribute(_BEFORE_ATTRIBUTE) or "null")
        known = {**dict.fromkeys((*_OF_NODE, *_OF_SEGMENT), 1), "segment": "", "color": [0.0, 0.0, 0.0]}
        fits = kept is not None and all(isinstance(kept[name], type(value)) for name, value in known.items())
        return kept if fits and [type(value) for value in kept["color"]] == [float] * 3 else None
    except (ValueError, KeyError, TypeError):
        return None


def _setLook(display: Any, look: dict[str, Any]) -> None:
    for name in _OF_NODE:
        getattr(display, f"Set{name}")(look[name])
    for name in _OF_SEGMENT:
        getattr(display, f"Set{name}")(look["segment"], look[name])
    display.SetSegmentOverrideColor(look["segment"], *look["color"])
    display.RemoveAttribute(_BEFORE_ATTRIBUTE)


class Preview:
    """A translucent segment in a separate node, which is not listed, edited or saved.

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
        """Show these voxels, boolean (k, j, i), on the grid of an oriented image, replacing an earlier preview."""
        import slicer

        shown = slicer.vtkOrientedImageData()
        shown.DeepCopy(image)
        arrayOf(shown)[:] = voxels
        node = self.node or self._make(color)
        slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(
            shown, node, "preview", slicer.vtkSlicerSegmentationsModuleLogic.MODE_REPLACE
        )

    def remove(self) -> None:
        """Remove the preview from the scene."""
        node, self._node = self.node, None
        if node is not None:
            for gone in (node.GetDisplayNode(), node):
                self._scene.RemoveNode(gone)

    def _make(self, color: Sequence[float]) -> Any:
        node = self._scene.CreateNodeByClass("vtkMRMLSegmentationNode")
        node.UnRegister(None)
        node.SetName(_PREVIEW_NAME)
        # Set before the node is added, because node lists check it then.
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
