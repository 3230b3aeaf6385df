"""Links nodes of the scene with cases of the study, by attributes, which a saved scene keeps."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from LASegColearnLib.errors import InputError, Problem, sentence_for
from LASegColearnLib.run_folder import replacing
from LASegColearnLib.scan_files import read_label
from LASegColearnLib.scan_names import stem
from LASegColearnLib.segmentation_files import SEGMENT_NAME, write_segmentation
from LASegColearnSlicer.results import (
    CASE_ATTRIBUTE,
    CLONE,
    GRID_ATTRIBUTE,
    KIND_ATTRIBUTE,
    SCAN,
    STUDY_ATTRIBUTE,
    forgetFile,
    hasVoxels,
    isOurs,
    liesWhere,
    markNode,
    modelOf,
    nodesOf,
    removeNode,
)
from LASegColearnSlicer.scene_export import (
    checkScan,
    gridOf,
    hasGridOf,
    isFrameOfSequence,
    labelImage,
    scanImage,
    writeLabel,
    writeScan,
)
from LASegColearnSlicer.segment_voxels import placedVoxelsDigest
from LASegColearnSlicer.study import LabelSource, State, Study, StudyCase

_LABEL, _CORRECTED = "label", "corrected"
_SEGMENT_ATTRIBUTE = "LASegColearn.segment"
# Digest of the label's file when the node and the file had the same content.
_FILE_ATTRIBUTE = "LASegColearn.labelFile"
# Digest of the node's voxels when the node and the file had the same content.
_VOXELS_ATTRIBUTE = "LASegColearn.labelVoxels"
# The segment's state when the segment and the study had the same state.
_STATE_ATTRIBUTE = "LASegColearn.labelState"
_LEFT_ATRIUM_CODE, _TISSUE_CODE = "SCT^82471001", "SCT^85756007"
# Formats that the engine reads in place; others (DICOM series) are exported.
READABLE_SUFFIXES = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd")
# Of these, the formats that Slicer reads as segmentations (qSlicerSegmentationsReader).
_SLICERS_SEGMENTATIONS = (".nrrd", ".nii", ".nii.gz")
# In the order of Slicer's numbers for segment states.
_STATES: tuple[State, ...] = ("not started", "in progress", "completed", "flagged")


@dataclass(frozen=True)
class Candidate:
    """A volume of the scene that could be a case, with the segment that is its label if there is one."""

    volume: Any
    segmentation: Any | None
    segmentId: str | None


class SceneCases:
    """Adds scans and labels of the scene to a study, and loads a study's scans and labels into the scene.

    Parameters
    ----------
    scene
        The scene.
    study
        The study.
    loadVolume, loadSegmentation
        Load a file as a scalar volume node, and as a segmentation node.
    """

    def __init__(self, scene: Any, study: Study, loadVolume: Any, loadSegmentation: Any) -> None:
        self._scene = scene
        self._study = study
        self._loadVolume = loadVolume
        self._loadSegmentation = loadSegmentation

    def volumeNode(self, caseId: str) -> Any | None:
        """The case's scan, if it is in the scene."""
        return next(filter(hasVoxels, nodesOf(self._scene, self._study.identity, caseId, SCAN)), None)

    def caseOf(self, volumeNode: Any) -> StudyCase | None:
        """The case whose scan a volume is."""
        marked = volumeNode.GetAttribute(CASE_ATTRIBUTE)
        case = next((case for case in self._study.cases if case.id == marked), None)
        # A clone of the volume has the same attribute.
        return case if case is not None and self.volumeNode(case.id) is volumeNode else None

    def labelSource(self, caseId: str) -> tuple[Any, str] | None:
        """Segmentation node and segment id of the case's label, if they are in the scene."""
        for node in nodesOf(self._scene, self._study.identity, caseId, _LABEL):
            segmentId = node.GetAttribute(_SEGMENT_ATTRIBUTE) or ""
            if node.GetSegmentation().GetSegment(segmentId) is not None:
                return node, segmentId
        return None

    def correctedSegment(self, caseId: str) -> tuple[Any, str] | None:
        """Segmentation node and segment id in which the case is being corrected, if they are in the scene."""
        for node in nodesOf(self._scene, self._study.identity, caseId, _CORRECTED):
            segmentId = node.GetAttribute(_SEGMENT_ATTRIBUTE) or ""
            if node.GetSegmentation().GetSegment(segmentId) is not None:
                return node, segmentId
        return None

    def markCorrected(self, segmentationNode: Any, caseId: str, segmentId: str) -> None:
        """Record that the case is corrected in this segment."""
        markNode(segmentationNode, self._study.identity, caseId, _CORRECTED)
        segmentationNode.SetAttribute(_SEGMENT_ATTRIBUTE, segmentId)

    def forgetCorrected(self, caseId: str) -> None:
        """Treat the segment in which the case was corrected, if there is one, like any other from now on."""
        for node in nodesOf(self._scene, self._study.identity, caseId, _CORRECTED):
            node.RemoveAttribute(KIND_ATTRIBUTE)

    def candidates(self) -> list[Candidate]:
        """The scene's scans that are not in the study yet."""
        volumes = [node for node in self._nodes("vtkMRMLScalarVolumeNode") if self._isScan(node)]
        return [self._candidate(volume) for volume in volumes if self.caseOf(volume) is None]

    def unusedLabels(self) -> list[str]:
        """Names of the scene's label map volumes, and of its segmentations that belong to no case."""
        labelMaps = self._nodes("vtkMRMLLabelMapVolumeNode")
        segmentations = [node for node in self._nodes("vtkMRMLSegmentationNode") if not isOurs(node)]
        unused = [node for node in (*labelMaps, *segmentations) if node.GetAttribute(CASE_ATTRIBUTE) is None]
        return [node.GetName() for node in unused if not node.GetHideFromEditors()]

    def add(self, volumeNode: Any, segmentationNode: Any | None = None, segmentId: str | None = None) -> StudyCase:
        """Add a volume of the scene as a case, with or without a segment as its label.

        Raises
        ------
        InputError
            If the volume or the segment cannot be used; nothing is added then.
        """
        checkScan(volumeNode)
        present = self.caseOf(volumeNode)
        if present is not None:
            raise InputError(Problem(present.id, "The scan is already in the study.", "Use the existing case."))
        # Check before anything is written.
        self._study.checkUnchanged()
        caseId = self._study.nextId
        if segmentationNode is not None:
            self.checkOwner(caseId, segmentationNode)
            labelImage(segmentationNode, segmentId or "", volumeNode)
        file = _unchangedFile(volumeNode)
        if file is None:
            file = self._study.folder / "scans" / f"{caseId}.nrrd"
            writeScan(volumeNode, file)
        case = self._study.addScan(file, name=volumeNode.GetName(), caseId=caseId)
        self._markScan(volumeNode, case.id)
        if segmentationNode is not None and segmentId is not None:
            self.setLabel(case.id, segmentationNode, segmentId)
            self._study.setRole(case.id, "labeled")
        return self._study.case(case.id)

    def setLabel(self, caseId: str, segmentationNode: Any, segmentId: str) -> None:
        """Make a segment the label of a case; the previous label is kept in ``labels/earlier``.

        Raises
        ------
        InputError
            If the segment cannot be used, its segmentation belongs to another case, or the study was moved or changed
            by another Slicer; nothing is changed then.
        """
        self.checkOwner(caseId, segmentationNode)
        # Check before the label's file is replaced: another Slicer may have written it.
        self._study.checkUnchanged()
        volume = self.load(caseId)
        file = self._study.folder / "labels" / f"{caseId}.seg.nrrd"
        content = labelImage(segmentationNode, segmentId, volume)
        if file.exists() and not _sameVoxels(file, content):
            earlier = self._study.folder / "labels" / "earlier"
            earlier.mkdir(exist_ok=True)
            kept = earlier / f"{caseId}-{_lastNumber(earlier, caseId) + 1:03}.seg.nrrd"
            # Completely or not at all: the disk may be full.
            with replacing(kept) as temporary:
                shutil.copy2(file, temporary)
        writeLabel(segmentationNode, segmentId, volume, file)
        source = LabelSource(file.absolute(), SEGMENT_NAME)
        self._study.setLabel(caseId, source, modelOf(segmentationNode, segmentId))
        # Only after the study has the label: otherwise the scene could have a label that hides the study's own.
        for node in nodesOf(self._scene, self._study.identity, caseId, _LABEL):
            node.RemoveAttribute(KIND_ATTRIBUTE)
        # Nodes loaded from this file would otherwise overwrite the new label when the scene is saved.
        for node in self._nodes("vtkMRMLSegmentationNode"):
            if _isStoredIn(node, file):
                forgetFile(node)
        markNode(segmentationNode, self._study.identity, caseId, _LABEL)
        segmentationNode.SetAttribute(_SEGMENT_ATTRIBUTE, segmentId)
        segmentationNode.SetAttribute(_FILE_ATTRIBUTE, _voxelsHash(file))
        segmentationNode.SetAttribute(_VOXELS_ATTRIBUTE, placedVoxelsDigest(segmentationNode))
        self.setState(caseId, "flagged" if self._isFlagged(caseId) else "completed")

    def _isFlagged(self, caseId: str) -> bool:
        """Whether a case is flagged, or its label's segment in Slicer's list of segments."""
        import slicer

        source = self.labelSource(caseId)
        segment = None if source is None else source[0].GetSegmentation().GetSegment(source[1])
        status = 0 if segment is None else slicer.vtkSlicerSegmentationsModuleLogic.GetSegmentStatus(segment)
        return self._study.case(caseId).state == "flagged" or status == _STATES.index("flagged")

    def checkOwner(self, caseId: str, segmentationNode: Any) -> None:
        """Refuse another case's segmentation: scans of two patients overlap, so the mistake would go unnoticed.

        Raises
        ------
        InputError
            If it is the label, or the corrected copy, of another case of the study.
        """
        if segmentationNode is None or segmentationNode.GetAttribute(STUDY_ATTRIBUTE) != self._study.identity:
            return
        owner = segmentationNode.GetAttribute(CASE_ATTRIBUTE)
        if segmentationNode.GetAttribute(KIND_ATTRIBUTE) not in (_LABEL, _CORRECTED) or owner == caseId:
            return
        name = next((case.name for case in self._study.cases if case.id == owner), None)
        if name is not None:
            raise InputError(
                Problem(
                    caseId,
                    f"The segmentation {segmentationNode.GetName()} belongs to the case {name}.",
                    "Choose this case's own segmentation, or outline the left atrium in a new one.",
                )
            )

    def refreshLabels(self, caseIds: Collection[str] | None = None) -> list[str]:
        """Write labels that were edited in the scene since they were written; return the ids of their cases.

        Parameters
        ----------
        caseIds
            Only the labels of these cases; None: all.

        Raises
        ------
        InputError
            Names all cases whose label cannot be written, after the others were written: the label can no longer be
            used, for example because its segment is empty, or its file is newer than the scene.
        """
        changed: list[str] = []
        problems: list[Problem] = []
        for case in self._study.cases:
            if caseIds is None or case.id in caseIds:
                try:
                    if self._refreshLabel(case):
                        changed.append(case.id)
                except InputError as error:
                    problems += error.problems
                except OSError as error:
                    # Still write the edited labels of the other cases.
                    problems.append(Problem(case.id, sentence_for(error), "Its edited label was not written."))
        if problems:
            raise InputError(problems)
        return changed

    def _refreshLabel(self, case: StudyCase) -> bool:
        """Write a case's label if it was edited in the scene; raises InputError if it cannot be written."""
        source = self.labelSource(case.id)
        if source is None or case.label is None or case.role not in ("labeled", "validation"):
            return False
        image = labelImage(*source, self.load(case.id))
        newer = _isNewer(case.label.file, source[0])
        # Compared by digest, because the file may have more segments, or another grid.
        untouched = not newer and source[0].GetAttribute(_VOXELS_ATTRIBUTE) == placedVoxelsDigest(source[0])
        if case.label.file.exists() and (untouched or _sameVoxels(case.label.file, image)):
            return False
        if newer:
            cause = f"The label of {case.name} in the study's folder is newer than the one in the scene."
            remedy = (
                "To keep the label in the scene, choose it under Label and press Use as label. To keep the one in the "
                f"folder, remove the segmentation {source[0].GetName()} from the scene."
            )
            raise InputError(Problem(case.id, cause, remedy))
        self.setLabel(case.id, *source)
        return True

    def readStates(self) -> None:
        """Copy segment states that were changed in Slicer's Segment Editor into the study.

        Other segments, for example those of an older scene, get the study's state.
        """
        import slicer

        for case in self._study.cases:
            source = self.labelSource(case.id)
            if source is None:
                continue
            segment = source[0].GetSegmentation().GetSegment(source[1])
            number = slicer.vtkSlicerSegmentationsModuleLogic.GetSegmentStatus(segment)
            known = source[0].GetAttribute(_STATE_ATTRIBUTE)
            if known == str(number):
                self._tellSegment(case.id, case.state)
            # 0 means that the segment was never given a state.
            elif 0 < number < len(_STATES):
                self.setState(case.id, _STATES[number])

    def setState(self, caseId: str, state: State) -> None:
        """Change the state of a case and of its segment in the scene."""
        if self._study.case(caseId).state != state:
            self._study.setState(caseId, state)
        self._tellSegment(caseId, state)

    def _tellSegment(self, caseId: str, state: State) -> None:
        import slicer

        source = self.labelSource(caseId)
        if source is None or state not in _STATES:
            return
        node, number = source[0], _STATES.index(state)
        segment = node.GetSegmentation().GetSegment(source[1])
        if slicer.vtkSlicerSegmentationsModuleLogic.GetSegmentStatus(segment) != number:
            slicer.vtkSlicerSegmentationsModuleLogic.SetSegmentStatus(segment, number)
        node.SetAttribute(_STATE_ATTRIBUTE, str(number))

    def load(self, caseId: str) -> Any:
        """The case's scan as a node; loaded if it is not in the scene.

        Raises
        ------
        InputError
            If its file is missing or cannot be read, or the node was moved since it became the case.
        """
        node, case = self.volumeNode(caseId), self._study.case(caseId)
        if node is not None:
            known = node.GetAttribute(GRID_ATTRIBUTE)
            # Scenes of early versions do not have this attribute.
            if known and not liesWhere(node, known):
                raise InputError(
                    Problem(
                        case.name,
                        "The scan was moved or resampled in the scene, but its file was not: labels would not match "
                        "it.",
                        "Remove the scan from the scene, then show the case again.",
                    )
                )
            return node
        if not case.scan.exists():
            raise InputError(
                Problem(
                    caseId,
                    f"The scan's file {case.scan.name} was not found.",
                    "Put it back, or put a copy into the study's folder scans and open the study again, or remove the "
                    "case.",
                )
            )
        node = self._loadVolume(case.scan)
        if node is None:
            raise InputError(Problem(caseId, f"Slicer cannot read {case.scan.name}.", "Convert it to NRRD."))
        empty = next(iter(nodesOf(self._scene, self._study.identity, caseId, SCAN)), None)
        if empty is not None:
            # A saved scene refers to an earlier location of the file. Fill its node, to keep references to it valid.
            _takeVoxels(empty, node)
            removeNode(node)
            node = empty
        # Early versions used the file name with its suffix.
        node.SetName(stem(case.scan) if case.name == case.scan.name else case.name)
        if node.GetName() != stem(case.scan):
            # Otherwise Slicer would save the node again next to its file, under its name in the scene.
            forgetFile(node)
        self._markScan(node, caseId)
        return node

    def _markScan(self, volumeNode: Any, caseId: str) -> None:
        markNode(volumeNode, self._study.identity, caseId, SCAN)
        volumeNode.SetAttribute(GRID_ATTRIBUTE, json.dumps(gridOf(volumeNode)))

    def loadLabel(self, caseId: str) -> Any | None:
        """The segmentation node with the case's label; loaded if it is not in the scene, None if there is no label.

        Raises
        ------
        InputError
            If its file is missing or cannot be read, or it is unclear which segment is the label.
        """
        source, case = self.labelSource(caseId), self._study.case(caseId)
        if source is not None or case.label is None:
            return None if source is None else source[0]
        file, segment = case.label.file, case.label.segment
        if not file.exists():
            cause = f"The label's file {file.name} was not found."
            raise InputError(Problem(caseId, cause, "Put it back, or choose another label."))
        volume = self.load(caseId)
        node, segmentId = self._labelOfSlicer(file, segment) or self._labelOfEngine(caseId, file, segment, volume)
        # Otherwise Slicer would overwrite the file without the study's knowledge, or save a copy next to it.
        forgetFile(node)
        node.SetName(f"{volume.GetName()} label")
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        markNode(node, self._study.identity, caseId, _LABEL)
        node.SetAttribute(_SEGMENT_ATTRIBUTE, segmentId)
        node.SetAttribute(_FILE_ATTRIBUTE, _voxelsHash(file))
        node.SetAttribute(_VOXELS_ATTRIBUTE, placedVoxelsDigest(node))
        self._tellSegment(caseId, case.state)
        return node

    def _labelOfSlicer(self, file: Path, segment: str | None) -> tuple[Any, str] | None:
        """A label as Slicer reads it, with everything else in the file; None if the segment is ambiguous."""
        node = self._loadSegmentation(file) if file.name.lower().endswith(_SLICERS_SEGMENTATIONS) else None
        if node is None:
            return None
        segmentId = _segmentNamed(node, segment)
        if segmentId is None:
            removeNode(node)
            return None
        return node, segmentId

    def _labelOfEngine(self, caseId: str, file: Path, segment: str | None, volumeNode: Any) -> tuple[Any, str]:
        """A label as the engine reads it: from formats that Slicer cannot read as segmentations, or by value or id."""
        mask, _ = read_label(file, segment, scanImage(volumeNode), caseId)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "label.seg.nrrd"
            write_segmentation(copy, mask)
            node = self._loadSegmentation(copy)
        if node is None:
            raise InputError(
                Problem(caseId, f"Slicer cannot load the label's file {file.name}.", "Convert it to NRRD.")
            )
        return node, str(node.GetSegmentation().GetNthSegmentID(0))

    def _candidate(self, volume: Any) -> Candidate:
        for segmentation in self._nodes("vtkMRMLSegmentationNode"):
            if not isOurs(segmentation) and self._belongs(segmentation, volume):
                segmentId = leftAtriumSegment(segmentation)
                if segmentId is not None:
                    return Candidate(volume, segmentation, segmentId)
        return Candidate(volume, None, None)

    def _belongs(self, segmentation: Any, volume: Any) -> bool:
        reference = segmentation.GetNodeReference(segmentation.GetReferenceImageGeometryReferenceRole())
        if reference is not None:
            return reference is volume
        hierarchy = self._scene.GetSubjectHierarchyNode()
        item = 0 if hierarchy is None else hierarchy.GetItemByDataNode(segmentation)
        parent = hierarchy.GetItemDataNode(hierarchy.GetItemParent(item)) if item else None
        return (parent or self._namesake(segmentation)) is volume

    def _namesake(self, segmentation: Any) -> Any | None:
        """The scan that a segmentation is named after, e.g. scan A for A.seg, A_label or A-la; None if ambiguous."""
        name = segmentation.GetName() or ""
        scans = [
            node
            for node in self._nodes("vtkMRMLScalarVolumeNode")
            if self._isScan(node) and re.fullmatch(re.escape(node.GetName() or " ") + "([ ._-].*)?", name)
        ]
        longest = max((len(node.GetName()) for node in scans), default=0)
        nearest = [node for node in scans if len(node.GetName()) == longest]
        return nearest[0] if len(nearest) == 1 else None

    def _isScan(self, node: Any) -> bool:
        image = node.GetImageData()
        return (
            not node.IsA("vtkMRMLLabelMapVolumeNode")
            and node.GetAttribute(KIND_ATTRIBUTE) != CLONE
            and not isOurs(node)
            and not isFrameOfSequence(node)
            and image is not None
            and image.GetNumberOfScalarComponents() == 1
        )

    def _nodes(self, kind: str) -> list[Any]:
        return [self._scene.GetNthNodeByClass(n, kind) for n in range(self._scene.GetNumberOfNodesByClass(kind))]


def leftAtriumSegment(segmentationNode: Any) -> str | None:
    """The left atrium segment: by terminology, by name, or the only segment unless it is something else."""
    segmentation = segmentationNode.GetSegmentation()
    ids = [segmentation.GetNthSegmentID(index) for index in range(segmentation.GetNumberOfSegments())]
    for segmentId in ids:
        if _LEFT_ATRIUM_CODE in (segmentation.GetSegment(segmentId).GetTerminology() or ""):
            return str(segmentId)
    for segmentId in ids:
        if segmentation.GetSegment(segmentId).GetName().casefold().replace("_", " ") in ("left atrium", "la"):
            return str(segmentId)
    if len(ids) != 1:
        return None
    terminology = segmentation.GetSegment(ids[0]).GetTerminology() or ""
    # Tissue is Slicer's default terminology.
    return None if "SCT^" in terminology and _TISSUE_CODE not in terminology else str(ids[0])


def _segmentNamed(segmentationNode: Any, name: str | None) -> str | None:
    """The segment with this name, or the only one; None if the engine has to decide."""
    segmentation = segmentationNode.GetSegmentation()
    ids = [segmentation.GetNthSegmentID(index) for index in range(segmentation.GetNumberOfSegments())]
    found = [str(one) for one in ids if name is None or segmentation.GetSegment(one).GetName() == name]
    return found[0] if len(found) == 1 else None


def _lastNumber(folder: Path, caseId: str) -> int:
    """The largest number of a case's files in this folder; 0 if there is none."""
    # Not the count: if the oldest file was deleted, the count is already the number of the newest one.
    numbers = (file.name.removeprefix(f"{caseId}-").partition(".")[0] for file in folder.glob(f"{caseId}-*"))
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def _unchangedFile(volumeNode: Any) -> Path | None:
    """The file a volume was loaded from, if the engine can read it and the volume is unchanged."""
    storage = volumeNode.GetStorageNode()
    if storage is None or not storage.GetFileName() or volumeNode.GetModifiedSinceRead():
        return None
    file = Path(storage.GetFileName())
    readable = file.name.lower().endswith(READABLE_SUFFIXES) and storage.GetNumberOfFileNames() <= 1
    if not readable or not file.is_file() or _isTemporary(file):
        return None
    # A scan can be loaded centered, or without its axes. Labels refer to its position in the scene.
    return file if hasGridOf(file, volumeNode) else None


def _isTemporary(file: Path) -> bool:
    """Whether the file is in Slicer's temporary folder, which Slicer empties."""
    import slicer

    application = getattr(slicer, "app", None)
    return application is not None and file.resolve().is_relative_to(Path(application.temporaryPath).resolve())


def _takeVoxels(volumeNode: Any, loaded: Any) -> None:
    """Give a volume without voxels those of another volume, without its file."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    loaded.GetIJKToRASMatrix(matrix)
    forgetFile(volumeNode)
    volumeNode.SetAndObserveImageData(loaded.GetImageData())
    volumeNode.SetIJKToRASMatrix(matrix)
    volumeNode.CreateDefaultDisplayNodes()


def _isNewer(file: Path, segmentationNode: Any) -> bool:
    """Whether a label's file was changed since the node had the same voxels; False if unknown."""
    known = segmentationNode.GetAttribute(_FILE_ATTRIBUTE)
    if not known or not file.exists():
        return False
    # If Slicer saves this node to the file, the file's changes come from the node.
    return not _isStoredIn(segmentationNode, file) and _voxelsHash(file) != known


def _isStoredIn(node: Any, file: Path) -> bool:
    """Whether Slicer reads a node from this file, and saves it there with the scene."""
    storage = node.GetStorageNode()
    name = (storage.GetFileName() or "") if storage is not None else ""
    return bool(name) and Path(name).resolve() == file.resolve()


def _voxelsHash(file: Path) -> str:
    """A digest of the voxels in a label's file, independent of compression; empty if it cannot be read."""
    import SimpleITK as sitk

    try:
        mask = sitk.GetArrayFromImage(sitk.ReadImage(file)) > 0
    except RuntimeError:
        return ""
    return hashlib.sha256(repr(mask.shape).encode() + np.packbits(mask).tobytes()).hexdigest()


def _sameVoxels(file: Path, image: Any) -> bool:
    import SimpleITK as sitk

    try:
        return np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(file)) > 0, sitk.GetArrayFromImage(image) > 0)
    except RuntimeError:
        return False
