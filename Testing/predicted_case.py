"""A study with one predicted case, without a training: what the effect's tests and pictures start from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from LASegColearnLib.segmentation_files import write_segmentation, write_volume

# Voxels of the teacher's segment and of the person's in the scan's grid, (k, j, i).
TEACHER_BOX = (slice(4, 12), slice(6, 18), slice(8, 22))
OWN_BOX = (slice(6, 15), slice(4, 14), slice(6, 16))
SHAPE = (20, 26, 30)


@dataclass
class PredictedCase:
    """A scan of the scene that is a case, its prediction's arrays (k, j, i), and a segment that a person edits."""

    logic: Any
    caseId: str
    volume: Any
    teacher: np.ndarray
    uncertainty: np.ndarray
    probability: np.ndarray
    node: Any
    segmentId: str

    def voxels(self, segmentId: str | None = None) -> np.ndarray:
        """The edited segment, or another of its node, on the scan's grid."""
        import slicer

        found = slicer.util.arrayFromSegmentBinaryLabelmap(self.node, segmentId or self.segmentId, self.volume)
        return np.zeros(SHAPE, bool) if found is None else found > 0


def makePredictedCase(logic: Any, folder: Path, *, oblique: bool = True, uncertain: bool = True) -> PredictedCase:
    """Put a scan into the scene and a study, write its prediction, and make a segment to edit.

    Parameters
    ----------
    logic
        The module's logic.
    folder
        New study's folder.
    oblique
        Rotated and anisotropic grid, or the plain one.
    uncertain
        Whether the prediction comes with uncertainty and probability.
    """
    import slicer
    import vtk

    rng = np.random.default_rng(4)
    volume = slicer.util.addVolumeFromArray(rng.integers(0, 900, SHAPE, dtype=np.int16), name="Scan")
    if oblique:
        turn = vtk.vtkTransform()
        turn.RotateWXYZ(25, 1, 0.4, 0.2)
        turn.Scale(0.9, 1.2, 2.2)
        matrix = vtk.vtkMatrix4x4()
        matrix.DeepCopy(turn.GetMatrix())
        for row, value in enumerate((-20.0, 12.0, 31.0)):
            matrix.SetElement(row, 3, value)
        volume.SetIJKToRASMatrix(matrix)
    logic.openStudy(folder)
    case = logic.cases.add(volume)
    teacher = np.zeros(SHAPE, bool)
    teacher[TEACHER_BOX] = True
    uncertainty = rng.random(SHAPE, dtype=np.float32) * 0.6
    uncertainty[8:12, 10:16, 12:18] = 0.9
    uncertainty[15:18, 3:6, 3:6] = 0.8
    probability = probabilityOf(teacher)
    volumes = (uncertainty, probability) if uncertain else (None, None)
    writePrediction(logic, case.id, case.scan, teacher, *volumes)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Mine")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segmentId = node.GetSegmentation().AddEmptySegment("la", "LA", (0.8, 0.4, 0.3))
    own = np.zeros(SHAPE, np.uint8)
    own[OWN_BOX] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(own, node, segmentId, volume)
    return PredictedCase(logic, case.id, volume, teacher, uncertainty, probability, node, segmentId)


def probabilityOf(teacher: np.ndarray) -> np.ndarray:
    """0.9 inside and 0.7 in the outermost voxels, 0.4 in those around it, and in a part of its own; float32."""
    grown, shrunk = ndimage.binary_dilation(teacher), ndimage.binary_erosion(teacher)
    probability = np.select([shrunk, teacher, grown], [0.9, 0.7, 0.4], 0.02).astype(np.float32)
    probability[18:20, 24:26, 27:30] = 0.45
    return probability


def writePrediction(
    logic: Any,
    caseId: str,
    scan: Path,
    teacher: np.ndarray,
    uncertainty: np.ndarray | None,
    probability: np.ndarray | None = None,
    run: str = "001",
) -> None:
    """Write what the engine writes for a case, on its scan's grid; arrays (k, j, i)."""
    folder = logic.study.predictions / caseId
    folder.mkdir(parents=True, exist_ok=True)
    grid = sitk.ReadImage(str(scan))

    def image(array: np.ndarray) -> sitk.Image:
        made = sitk.GetImageFromArray(array)
        made.CopyInformation(grid)
        return made

    write_segmentation(folder / "segmentation.seg.nrrd", image(teacher.astype(np.uint8)))
    if uncertainty is not None:
        write_volume(folder / "uncertainty.nrrd", image(uncertainty))
    (folder / "probability.nrrd").unlink(missing_ok=True)
    if probability is not None:
        write_volume(folder / "probability.nrrd", image(probability))
    figures = {"volume_ml": 1.0}
    (folder / "figures.json").write_text(json.dumps(figures), encoding="utf-8")
    logic.study.setFigures(caseId, {**figures, "run": run})
