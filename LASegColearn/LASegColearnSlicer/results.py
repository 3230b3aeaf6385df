"""A case's prediction in the scene: the teacher's segmentation and its uncertainty, placed on their scan."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from LASegColearnSlicer.scene_export import GRID_TOLERANCE, gridOf
from LASegColearnSlicer.segment_voxels import placedVoxelsDigest, voxelsDigest

CASE_ATTRIBUTE = "LASegColearn.caseId"
KIND_ATTRIBUTE = "LASegColearn.kind"
STUDY_ATTRIBUTE = "LASegColearn.study"
# Name of the run whose model made a segmentation. Segments made from it carry the name as a tag.
MODEL_ATTRIBUTE = "LASegColearn.model"
# Which prediction a segmentation shows, and a digest of its voxels and their positions when it was loaded.
PREDICTION_ATTRIBUTE = "LASegColearn.prediction"
_PLACED_ATTRIBUTE = "LASegColearn.placedVoxels"
# The same without the positions, in scenes of early versions.
_VOXELS_ATTRIBUTE = "LASegColearn.voxels"
# Position of a scan when it became the case, or of an uncertainty volume when it was loaded.
GRID_ATTRIBUTE = "LASegColearn.grid"
SCAN, _TEACHER, _UNCERTAINTY = "scan", "teacher", "uncertainty"
# A copy of one of these that the user made in Data.
CLONE = "clone"
# Below this uncertainty, the scan is not colored; 1 means undecided.
_LEAST_SHOWN = 0.3
_COLORS = ("vtkMRMLColorTableNodeFileInferno.txt", "vtkMRMLColorTableNodeIron")


class PredictionDisplay:
    """Shows what the engine has written for a case, and removes it again.

    Only nodes that this class made are replaced or removed. An edited one becomes a segmentation of the user and is
    never touched again.

    Parameters
    ----------
    scene
        The scene, ``slicer.mrmlScene`` in Slicer.
    loadSegmentation
        Loads a file as a segmentation node; ``slicer.util.loadSegmentation`` in Slicer.
    loadVolume
        Loads a file as a scalar volume node; ``slicer.util.loadVolume`` in Slicer.
    study
        Identity of the study, to distinguish cases of different studies with the same id.
    """

    def __init__(self, scene: Any, loadSegmentation: Any, loadVolume: Any, study: str = "") -> None:
        self._study = study
        self._scene = scene
        self._loadSegmentation = loadSegmentation
        self._loadVolume = loadVolume

    def show(self, volumeNode: Any, caseId: str, folder: Path, *, surface: bool = True) -> Any:
        """Show a case's prediction; an earlier one of the same case is replaced.

        Parameters
        ----------
        volumeNode
            The case's scan.
        caseId
            The case's id in the study.
        folder
            Folder with ``segmentation.seg.nrrd``, ``figures.json`` and, if requested, ``uncertainty.nrrd``.
        surface
            Make the closed surface for the 3D view.

        Returns
        -------
        vtkMRMLSegmentationNode
            The prediction.

        Raises
        ------
        RuntimeError
            If the prediction is missing, or Slicer cannot load it.
        """
        file, figures = folder / "segmentation.seg.nrrd", folder / "figures.json"
        # A truncated file would crash Slicer. The engine writes the segmentation last and completely.
        segmentation = self._loadSegmentation(file) if file.exists() and figures.exists() else None
        if segmentation is None:
            raise RuntimeError(f"{caseId}: The prediction is missing or incomplete. Predict the case again.")
        forgetFile(segmentation)
        self.releaseClones(caseId)
        earlier = self._nodes(caseId)
        self._mark(segmentation, caseId, _TEACHER)
        segmentation.SetName(f"{volumeNode.GetName()} teacher")
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
        segmentation.CreateDefaultDisplayNodes()
        if surface:
            segmentation.CreateClosedSurfaceRepresentation()
        segmentation.SetAttribute(PREDICTION_ATTRIBUTE, _identity(folder))
        voxels = placedVoxelsDigest(segmentation)
        segmentation.SetAttribute(_PLACED_ATTRIBUTE, voxels)
        self._putUnder(segmentation, volumeNode)
        uncertainty = folder / "uncertainty.nrrd"
        if uncertainty.exists():
            try:
                self._showUncertainty(uncertainty, volumeNode, caseId)
            except RuntimeError:
                removeNode(segmentation)
                raise
        # Only after the new nodes were loaded.
        for node in earlier:
            self._takeAway(node, voxels)
        return segmentation

    def showSurface(self, segmentation: Any, wanted: bool) -> None:
        """Show a prediction's closed surface in the 3D views, or hide it."""
        if wanted:
            segmentation.CreateClosedSurfaceRepresentation()
        segmentation.GetDisplayNode().SetVisibility3D(wanted)

    def remove(self, caseId: str) -> None:
        """Remove the case's prediction from the scene; its files stay."""
        self.releaseClones(caseId)
        for node in self._nodes(caseId):
            self._takeAway(node, None)

    def releaseClones(self, caseId: str) -> None:
        """Mark clones of a prediction as the user's own: Slicer copies the prediction's attributes to them."""
        for kind in (_TEACHER, _UNCERTAINTY):
            for clone in nodesOf(self._scene, self._study, caseId, kind)[1:]:
                clone.SetAttribute(KIND_ATTRIBUTE, CLONE)

    def isCurrent(self, caseId: str, folder: Path) -> bool:
        """Whether the prediction in this folder is in the scene, complete, unedited and not moved."""
        # Hardening a scan's transform also moves everything under the scan in the subject hierarchy.
        teacher = self.teacherNode(caseId)
        if not self.isNewest(caseId, folder) or _wasEdited(teacher, None):
            return False
        scan = next(iter(nodesOf(self._scene, self._study, caseId, SCAN)), None)
        shown = (teacher, self.uncertaintyNode(caseId))
        return not any(_wasMoved(node, scan) for node in shown if node is not None)

    def isNewest(self, caseId: str, folder: Path) -> bool:
        """Whether the scene contains all nodes of the prediction in this folder."""
        teacher = self.teacherNode(caseId)
        if teacher is None or (teacher.GetAttribute(PREDICTION_ATTRIBUTE) or "") != _identity(folder):
            return False
        return self.uncertaintyNode(caseId) is not None or not (folder / "uncertainty.nrrd").exists()

    def uncertaintyNode(self, caseId: str) -> Any | None:
        """The case's uncertainty as a volume node, for the foreground of the slice views."""
        return next(filter(hasVoxels, nodesOf(self._scene, self._study, caseId, _UNCERTAINTY)), None)

    def teacherNode(self, caseId: str) -> Any | None:
        """The teacher's segmentation of the case, if it is in the scene."""
        return next(iter(nodesOf(self._scene, self._study, caseId, _TEACHER)), None)

    def _showUncertainty(self, file: Path, volumeNode: Any, caseId: str) -> None:
        node = self._loadVolume(file)
        if node is None:
            raise RuntimeError(f"{caseId}: The uncertainty cannot be loaded. Predict the case again.")
        # Otherwise Slicer would save the node again next to its file, under its name in the scene.
        forgetFile(node)
        self._mark(node, caseId, _UNCERTAINTY)
        node.SetAttribute(GRID_ATTRIBUTE, json.dumps(gridOf(node)))
        node.SetName(f"{volumeNode.GetName()} uncertainty")
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        color = next((c for c in _COLORS if self._scene.GetNodeByID(c) is not None), None)
        if color is not None:
            display.SetAndObserveColorNodeID(color)
        self._addLegend(display)
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(0.0, 1.0)
        display.SetThreshold(_LEAST_SHOWN, 1e9)
        display.SetApplyThreshold(True)
        self._putUnder(node, volumeNode)

    def _addLegend(self, display: Any) -> None:
        import slicer

        legend = slicer.modules.colors.logic().AddDefaultColorLegendDisplayNode(display)
        legend.SetVisibility(False)
        legend.SetTitleText("Uncertainty")
        legend.SetMaxNumberOfColors(64)
        legend.SetNumberOfLabels(3)

    def _takeAway(self, node: Any, successor: str | None) -> None:
        """Remove a node, but keep an edited segmentation; one with the voxels of its successor counts as unedited."""
        if node.GetAttribute(KIND_ATTRIBUTE) != _TEACHER or not _wasEdited(node, successor):
            removeNode(node)
            return
        node.RemoveAttribute(KIND_ATTRIBUTE)
        # After its scene was saved, the node has a file. The successor gets the same name and would be saved there.
        forgetFile(node)
        node.SetName(f"{node.GetName()} edited")
        # The user can find it in Data. Shown over the new one, it would only be in the way.
        if node.GetDisplayNode() is not None:
            node.GetDisplayNode().SetVisibility(False)

    def _mark(self, node: Any, caseId: str, kind: str) -> None:
        markNode(node, self._study, caseId, kind)

    def _nodes(self, caseId: str) -> list[Any]:
        return [node for kind in (_TEACHER, _UNCERTAINTY) for node in nodesOf(self._scene, self._study, caseId, kind)]

    def _putUnder(self, node: Any, volumeNode: Any) -> None:
        node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        hierarchy = self._scene.GetSubjectHierarchyNode()
        if hierarchy is not None:
            hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), hierarchy.GetItemByDataNode(volumeNode))


def _identity(folder: Path) -> str:
    """Identifies a prediction of a case, since one run can make several; empty if there is none."""
    files = [folder / name for name in ("segmentation.seg.nrrd", "figures.json")]
    if not all(file.exists() for file in files):
        return ""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _wasMoved(node: Any, scan: Any | None) -> bool:
    """Whether a node has another transform than its scan, or an uncertainty volume was moved since it was loaded."""
    known = node.GetAttribute(GRID_ATTRIBUTE)
    apart = node.GetTransformNodeID() != (None if scan is None else scan.GetTransformNodeID())
    return apart or (bool(known) and not liesWhere(node, known))


def liesWhere(volumeNode: Any, grid: str) -> bool:
    """Whether a volume lies at the position in this attribute value."""
    return np.allclose(json.loads(grid), gridOf(volumeNode), rtol=0, atol=GRID_TOLERANCE)


def _wasEdited(segmentation: Any, successor: str | None) -> bool:
    placed = placedVoxelsDigest(segmentation)
    known = segmentation.GetAttribute(_PLACED_ATTRIBUTE)
    if placed == successor or known:
        return placed not in (successor, known)
    voxels = voxelsDigest(segmentation)
    # Scenes saved by versions that did not store the digest: compare with the new prediction, if there is one.
    loaded = segmentation.GetAttribute(_VOXELS_ATTRIBUTE) or (None if successor is not None else voxels)
    return loaded != voxels


def markNode(node: Any, study: str, caseId: str, kind: str) -> None:
    """Store in a node's attributes, which a saved scene keeps, the case and the kind of the node."""
    node.SetAttribute(STUDY_ATTRIBUTE, study)
    node.SetAttribute(CASE_ATTRIBUTE, caseId)
    node.SetAttribute(KIND_ATTRIBUTE, kind)


def nodesOf(scene: Any, study: str, caseId: str, kind: str) -> list[Any]:
    """The nodes of this kind that belong to the case."""
    wanted = {STUDY_ATTRIBUTE: study, CASE_ATTRIBUTE: caseId, KIND_ATTRIBUTE: kind}
    nodes = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
    return [node for node in nodes if all((node.GetAttribute(name) or "") == value for name, value in wanted.items())]


def hasVoxels(volumeNode: Any) -> bool:
    """Whether a volume has its image: if a scene is opened without the file, there is only the node."""
    return volumeNode.GetImageData() is not None


def removeNode(node: Any) -> None:
    """Remove a node from the scene, including its display and storage nodes, which would otherwise stay."""
    scene = node.GetScene()
    displays = [node.GetNthDisplayNode(index) for index in range(node.GetNumberOfDisplayNodes())]
    for gone in (*displays, node.GetStorageNode(), node):
        if gone is not None:
            scene.RemoveNode(gone)


def forgetFile(node: Any) -> None:
    """Make a saved scene store the node in a new file, instead of the file that it was loaded from."""
    storage = node.GetStorageNode()
    if storage is not None:
        node.GetScene().RemoveNode(storage)


def markModel(segmentationNode: Any, segmentId: str, model: str | None) -> None:
    """Store the model that a segment was made from. A tag of the segment, so that it is undone with the segment."""
    segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
    if model:
        segment.SetTag(MODEL_ATTRIBUTE, model)
    else:
        segment.RemoveTag(MODEL_ATTRIBUTE)


def modelOf(segmentationNode: Any, segmentId: str) -> str | None:
    """Name of the run whose model a segment was made from; None if it was drawn by hand."""
    import vtk

    model = vtk.reference("")
    if segmentationNode.GetSegmentation().GetSegment(segmentId).GetTag(MODEL_ATTRIBUTE, model):
        return str(model)
    # A prediction itself, or a copy made by an earlier version.
    return segmentationNode.GetAttribute(MODEL_ATTRIBUTE) or None


def isOfACase(node: Any) -> bool:
    """Whether a node is the scan, label, corrected copy or prediction of a case of any study."""
    return bool(node.GetAttribute(STUDY_ATTRIBUTE)) and node.GetAttribute(KIND_ATTRIBUTE) not in (None, CLONE)


def isOurs(node: Any) -> bool:
    """Whether a node belongs to a prediction."""
    return node.GetAttribute(KIND_ATTRIBUTE) in (_TEACHER, _UNCERTAINTY)
