"""A case's latest prediction: as a node of the scene, as masks, and where it is doubtful."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.segmentation_files import network_file
from LASegColearnSlicer.doubtful_places import doubtfulPlaces
from LASegColearnSlicer.open_study import OpenStudy
from LASegColearnSlicer.results import MODEL_ATTRIBUTE

_SEGMENTATION = "segmentation.seg.nrrd"


class CasePredictions:
    """Reads the predictions of the open study."""

    def __init__(self, opened: OpenStudy) -> None:
        self._opened = opened
        # Cache for the last case: the modification times of its files, and their masks.
        self._masks: tuple[tuple[tuple[Path, int], ...], dict[str, np.ndarray]] | None = None

    def exists(self, caseId: str) -> bool:
        """Whether the case has a complete prediction: the engine writes the segmentation last."""
        return (self._opened.study.predictions / caseId / _SEGMENTATION).exists()

    def masks(self, caseId: str) -> dict[str, np.ndarray]:
        """The masks by network, the teacher first; read-only, bool (k, j, i) on the scan's grid.

        Raises
        ------
        InputError
            If the case was not predicted, or a file of the prediction is damaged.
        """
        if not self.exists(caseId):
            raise InputError(Problem(caseId, "It has not been predicted yet.", "Predict the case first."))
        folder = self._opened.study.predictions / caseId
        files = {"teacher": folder / _SEGMENTATION}
        for file in sorted(folder.glob(network_file("*"))):
            files[file.name.removeprefix("network-").removesuffix(".seg.nrrd")] = file
        written = tuple((file, file.stat().st_mtime_ns) for file in files.values() if file.exists())
        # Cached, because choosing a segment requests them several times, and large ones take a second to read.
        if self._masks is None or self._masks[0] != written:
            try:
                masks = {name: sitk.GetArrayFromImage(sitk.ReadImage(file)) > 0 for name, file in files.items()}
            except RuntimeError as error:
                raise InputError(Problem(caseId, "Its prediction is damaged.", "Predict the case again.")) from error
            for mask in masks.values():
                mask.setflags(write=False)
            self._masks = written, masks
        return dict(self._masks[1])

    def masksOfScan(self, volumeNode: Any, segmentationNode: Any) -> dict[str, np.ndarray]:
        """The masks of a scan; empty if the scan is not a case, or was not predicted.

        Raises
        ------
        InputError
            If a file of the prediction is damaged, or the segmentation belongs to another case.
        """
        case = self._opened.cases.caseOf(volumeNode) if self._opened.exists and volumeNode is not None else None
        if case is not None:
            self._opened.cases.checkOwner(case.id, segmentationNode)
        return {} if case is None or not self.exists(case.id) else self.masks(case.id)

    def show(self, caseId: str, *, surface: bool = True) -> Any:
        """The segmentation node of the prediction; loaded unless it is already in the scene.

        Raises
        ------
        InputError
            If the case was not predicted, or its scan cannot be loaded.
        """
        display = self._opened.display
        model = str(self._opened.study.case(caseId).figures.get("run", ""))
        folder = self._opened.study.predictions / caseId
        present = display.teacherNode(caseId)
        same = present is not None and present.GetAttribute(MODEL_ATTRIBUTE) == model
        if same and display.isCurrent(caseId, folder):
            return present
        volume = self._opened.cases.load(caseId)
        try:
            node = display.show(volume, caseId, folder, surface=surface)
        except RuntimeError as error:
            raise InputError(Problem(caseId, "Its prediction cannot be shown.", "Predict the case again.")) from error
        node.SetAttribute(MODEL_ATTRIBUTE, model)
        return node

    def doubtfulPlaces(self, caseId: str) -> list[tuple[float, float, float]]:
        """Places (R, A, S in mm) of high uncertainty, one per region, largest region first.

        Raises
        ------
        InputError
            If the case was not predicted.
        """
        import slicer
        import vtk

        self.show(caseId)
        node = self._opened.display.uncertaintyNode(caseId)
        if node is None:
            raise InputError(Problem(caseId, "Its prediction has no uncertainty.", "Predict the case again."))
        matrix = vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(matrix)
        # Arrays are k, j, i.
        found = doubtfulPlaces(slicer.util.arrayFromVolume(node), node.GetSpacing()[::-1])
        return [tuple(matrix.MultiplyPoint((*place[::-1], 1.0))[:3]) for place in found]
