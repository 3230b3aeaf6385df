"""The segments in which a user corrects the teacher, and the labels that they become."""

from __future__ import annotations

from typing import Any

from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.segmentation_files import SEGMENT_NAME, TERMINOLOGY
from LASegColearnSlicer.case_predictions import CasePredictions
from LASegColearnSlicer.open_study import OpenStudy
from LASegColearnSlicer.results import MODEL_ATTRIBUTE, isOurs, markModel
from LASegColearnSlicer.scene_export import voxelCount
from LASegColearnSlicer.study import StudyCase


class Correction:
    """Makes segments to correct, and labels of them.

    Parameters
    ----------
    opened
        The open study.
    predictions
        The study's predictions.
    """

    def __init__(self, opened: OpenStudy, predictions: CasePredictions) -> None:
        self._opened = opened
        self._predictions = predictions

    def segment(self, caseId: str) -> tuple[Any, str]:
        """Node and id of the segment for correcting a case; see :meth:`Session.segmentToCorrect`."""
        study, cases = self._opened.study, self._opened.cases
        if study.case(caseId).label is not None:
            cases.loadLabel(caseId)
        isPredicted = self._predictions.exists(caseId)
        begun = cases.correctedSegment(caseId)
        if begun is not None and isPredicted and not voxelCount(*begun):
            # The empty segment was made before there was a prediction.
            cases.forgetCorrected(caseId)
            begun = None
        found = cases.labelSource(caseId) or begun
        if found is None:
            found = self.copyPrediction(caseId) if isPredicted else self._emptySegment(caseId)
        if study.case(caseId).state in ("not started", "predicted"):
            cases.setState(caseId, "in progress")
        _hide(self._opened.display.teacherNode(caseId))
        return found

    def useAsLabel(self, caseId: str, segmentationNode: Any, segmentId: str) -> StudyCase:
        """Make a segment, or a copy of the prediction, a case's label; see :meth:`Session.useAsLabel`."""
        study, cases, display = self._opened.study, self._opened.cases, self._opened.display
        # Check before a copy is made.
        study.checkUnchanged()
        cases.readStates()
        display.releaseClones(caseId)
        if segmentationNode is not None and isOurs(segmentationNode):
            if segmentationNode is not display.teacherNode(caseId):
                cause = f"The prediction {segmentationNode.GetName()} belongs to another case."
                raise InputError(Problem(caseId, cause, "Choose this case's own prediction or segmentation."))
            # Copy the chosen node as it is: it may have been edited, or be older than the latest prediction.
            segmentationNode, segmentId = self._copy(caseId, segmentationNode, segmentId)
        cases.setLabel(caseId, segmentationNode, segmentId)
        if study.case(caseId).role not in ("labeled", "validation"):
            study.setRole(caseId, "labeled")
        return study.case(caseId)

    def copyPrediction(self, caseId: str) -> tuple[Any, str]:
        """Copy the teacher's segmentation into a new node for editing; see :meth:`Session.copyPrediction`."""
        teacher = self._predictions.show(caseId)
        return self._copy(caseId, teacher, str(teacher.GetSegmentation().GetNthSegmentID(0)))

    def _copy(self, caseId: str, teacher: Any, segmentId: str) -> tuple[Any, str]:
        if teacher.GetSegmentation().GetSegment(segmentId) is None:
            raise InputError(Problem(teacher.GetName(), "No segment is chosen.", "Choose one of its segments."))
        node = self._newSegmentation(caseId, "corrected")
        node.GetSegmentation().CopySegmentFromSegmentation(teacher.GetSegmentation(), segmentId)
        markModel(node, segmentId, teacher.GetAttribute(MODEL_ATTRIBUTE))
        self._opened.cases.markCorrected(node, caseId, segmentId)
        _hide(teacher)
        return node, segmentId

    def _emptySegment(self, caseId: str) -> tuple[Any, str]:
        node = self._newSegmentation(caseId, "outlined")
        segmentId = str(node.GetSegmentation().AddEmptySegment("", SEGMENT_NAME))
        node.GetSegmentation().GetSegment(segmentId).SetTerminology(TERMINOLOGY)
        self._opened.cases.markCorrected(node, caseId, segmentId)
        return node, segmentId

    def _newSegmentation(self, caseId: str, what: str) -> Any:
        """A segmentation without segments on the grid of the case's scan, under the scan in the subject hierarchy."""
        volume, scene = self._opened.cases.load(caseId), self._opened.scene
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{volume.GetName()} {what}")
        node.CreateDefaultDisplayNodes()
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        hierarchy = scene.GetSubjectHierarchyNode()
        if hierarchy is not None:
            hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), hierarchy.GetItemByDataNode(volume))
        return node


def _hide(teacher: Any | None) -> None:
    if teacher is not None and teacher.GetDisplayNode() is not None:
        teacher.GetDisplayNode().SetVisibility(False)
