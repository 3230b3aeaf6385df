"""The teacher's opinion of a case on the edited grid, and the regions in which it is accepted. No Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from LASegColearnLib.components import component_around, largest_component
from LASegColearnLib.errors import InputError, Problem
from LASegColearnSlicer.results import PREDICTION_ATTRIBUTE, isOurs

MODULE_TITLE = "Left Atrium Co-Learning"
# The probability threshold of a prediction's segment.
USUAL_CUT = 0.5
# For rounding of float32, so that a confidence of 0.7 counts as 0.7.
_TOLERANCE = 1e-6
# A segmentation that contains a smaller share of the teacher's voxels belongs to another scan.
_LEAST_HELD = 0.5
# A drawn loop is rasterized with this many pixels per pixel of the view.
_FINER = 4
# Points of a stroke that are closer than this share of the brush's radius are merged.
_THINNED = 0.05
_LAYERS_AT_ONCE = 16


@dataclass(frozen=True)
class Change:
    """Voxels to add to a segment, and voxels to remove from it; boolean arrays (k, j, i)."""

    add: np.ndarray
    remove: np.ndarray


class TeacherOpinion:
    """Whether each voxel of a case is inside or outside, and with which confidence.

    Parameters
    ----------
    caseId, caseName
        The case.
    segmentationNode
        The teacher's segmentation, with one segment.
    uncertaintyNode
        0 (certain) to 1 in each voxel of the scan; None if the prediction has no uncertainty.
    study
        Identity of the case's study.
    probabilityFile
        File with the teacher's probability, 0 to 1 in each voxel of the scan, read only when needed; None if the
        prediction has no probability.
    """

    def __init__(
        self,
        caseId: str,
        caseName: str,
        segmentationNode: Any,
        uncertaintyNode: Any | None,
        study: str = "",
        probabilityFile: Path | None = None,
    ) -> None:
        self.study = study
        self._probabilityFile = probabilityFile
        self._probabilityImage: Any | None = None
        self._probability: np.ndarray | None = None
        self.caseId = caseId
        self.caseName = caseName
        self.segmentationNode = segmentationNode
        self.uncertaintyNode = uncertaintyNode
        self.segmentId = str(segmentationNode.GetSegmentation().GetNthSegmentID(0))
        # Distinguishes it from the opinions of other predictions of the case.
        self.prediction = segmentationNode.GetAttribute(PREDICTION_ATTRIBUTE) or ""
        self._key: tuple[Any, ...] = ()
        self._inside = np.zeros(0, bool)
        self._confidence: np.ndarray | None = None

    def isNewest(self, logic: Any) -> bool:
        """Whether it shows the newest prediction of a case of the open study and is still in the scene."""
        nodes = (self.segmentationNode, self.uncertaintyNode)
        if any(node is not None and (node.GetScene() is None or node.GetParentTransformNode()) for node in nodes):
            return False
        segment = self.segmentationNode.GetSegmentation().GetSegment(self.segmentId)
        if segment is None or segment.GetRepresentation("Binary labelmap") is None:
            return False
        # A case of another study may have the same id.
        if not logic.hasStudy or logic.study.identity != self.study:
            return False
        if all(case.id != self.caseId for case in logic.study.cases):
            return False
        return bool(logic.display.isNewest(self.caseId, logic.study.predictions / self.caseId))

    @property
    def hasProbability(self) -> bool:
        """Whether another probability threshold can be used."""
        return self._probabilityFile is not None

    def inside(self, image: Any, cut: float = USUAL_CUT) -> np.ndarray:
        """Where the teacher sees the left atrium, on the grid of an oriented image: boolean, (k, j, i).

        Parameters
        ----------
        image
            The grid.
        cut
            Probability threshold. Below 0.5, the result is the prediction and what is connected to it; above 0.5, the
            largest remaining part of the prediction.

        Raises
        ------
        InputError
            If `cut` is not between 0 and 1. If it is not 0.5: also if the prediction has no probability, its file is
            damaged, or no voxel is above the threshold.
        """
        self._bringOnto(image)
        if not 0 < cut < 1:
            cause = f"Wanted a probability between 0 and 1, found {cut:g}."
            raise InputError(Problem("cut", cause, "0.5 takes the prediction as it is."))
        if abs(cut - USUAL_CUT) < _TOLERANCE:
            return self._inside
        if self._probability is None:
            self._probability = resampled(self._readProbability(), image, linear=True)
        # Not simply the largest part above the threshold: that could be another structure.
        if cut < USUAL_CUT:
            return component_around((self._probability > cut) | self._inside, self._inside)
        found = largest_component((self._probability > cut) & self._inside)
        if not found.any():
            cause = f"With a threshold of {cut:.2f}, the teacher's segment is empty."
            raise InputError(Problem(self.caseName, cause, "Move Wider or tighter towards 0.5."))
        return found

    def confidence(self, image: Any) -> np.ndarray:
        """1 - uncertainty on the grid of an oriented image: float32, (k, j, i); 0 outside the scan.

        Raises
        ------
        InputError
            If the prediction has no uncertainty.
        """
        self._bringOnto(image)
        if self._confidence is None:
            raise InputError(Problem(self.caseName, "Its prediction has no uncertainty.", "Predict the case again."))
        return self._confidence

    def taken(self, image: Any, *, least: float | None = None, region: np.ndarray | None = None) -> np.ndarray:
        """Voxels in which the opinion, inside or outside, is accepted.

        Parameters
        ----------
        image
            The grid.
        least
            Minimum confidence; 0 means everywhere.
        region
            Accept only here; boolean, with the grid's shape.

        Raises
        ------
        InputError
            If `least` is given and the prediction has no uncertainty.
        """
        taken = np.ones(arrayOf(image).shape, bool) if region is None else region
        return taken if least is None else taken & (self.confidence(image) >= least - _TOLERANCE)

    def change(self, image: Any, current: np.ndarray, taken: np.ndarray, cut: float = USUAL_CUT) -> Change:
        """How accepting the opinion in `taken` changes a segment with the voxels `current`; arrays of the grid's shape.

        For `cut` and the errors raised, see :meth:`inside`.
        """
        inside = self.inside(image, cut)
        return Change(taken & inside, taken & ~inside & current)

    def checkGeometry(self, image: Any, name: str) -> str:
        """A sentence about the part of the teacher's segment outside the grid; empty if all of it is inside.

        Parameters
        ----------
        image
            The grid.
        name
            Name of the segmentation.

        Raises
        ------
        InputError
            If less than half is inside.
        """
        own = self._labelmap()
        indices = np.argwhere(arrayOf(own))[:, ::-1] + np.array(own.GetExtent()[::2])
        toGrid = np.linalg.inv(imageToWorld(image)) @ imageToWorld(own)
        places = indices @ toGrid[:3, :3].T + toGrid[:3, 3]
        low, high = np.array(image.GetExtent()[::2]) - 0.5, np.array(image.GetExtent()[1::2]) + 0.5
        held = float(np.mean(np.all((places >= low - _TOLERANCE) & (places <= high + _TOLERANCE), axis=1)))
        if held < _LEAST_HELD:
            cause = f"Most of the teacher's segment of {self.caseName} lies outside of this segmentation's geometry."
            remedy = "It belongs to another scan: choose the segmentation of this one, or make a new one."
            raise InputError(Problem(name, cause, remedy))
        if held < 1:
            text = "{share:.0%} of the teacher's segment lies outside of this segmentation's geometry and is ignored."
            return text.format(share=max(1 - held, 0.01))
        return ""

    def _labelmap(self) -> Any:
        import slicer

        image = slicer.vtkOrientedImageData()
        self.segmentationNode.GetBinaryLabelmapRepresentation(self.segmentId, image)
        return image

    def _readProbability(self) -> Any:
        if self._probabilityFile is None:
            raise InputError(Problem(self.caseName, "Its prediction has no probability.", "Predict the case again."))
        if self._probabilityImage is None:
            try:
                self._probabilityImage = _readVolume(self._probabilityFile)
            except RuntimeError as error:
                cause = "The probability of its prediction cannot be read."
                raise InputError(Problem(self.caseName, cause, "Predict the case again.")) from error
        return self._probabilityImage

    def _bringOnto(self, image: Any) -> None:
        segment = self.segmentationNode.GetSegmentation().GetSegment(self.segmentId)
        uncertainty = self.uncertaintyNode
        key = (
            image.GetExtent(),
            imageToWorld(image).tobytes(),
            segment.GetMTime(),
            segment.GetRepresentation("Binary labelmap").GetMTime(),
            0 if uncertainty is None else uncertainty.GetImageData().GetMTime(),
        )
        if key == self._key:
            return
        self._inside = resampled(self._labelmap(), image) > 0
        self._confidence = self._probability = None
        if uncertainty is not None:
            values = resampled(imageOf(uncertainty), image, linear=True, outside=1.0)
            self._confidence = 1 - np.clip(values, 0, 1)
        self._key = key


def findOpinion(logic: Any, volumeNode: Any | None, segmentationNode: Any | None) -> TeacherOpinion:
    """The teacher's opinion of the edited scan, loaded unless it is already in the scene.

    Parameters
    ----------
    logic
        The module's logic, a `Session`.
    volumeNode, segmentationNode
        The nodes chosen in the editor.

    Raises
    ------
    InputError
        If there is none, or it does not fit the edited segmentation; the message says what to do.
    """
    if not logic.hasStudy:
        raise InputError(Problem("Study", "No study is open.", f"Open one in the module {MODULE_TITLE}."))
    if segmentationNode is None:
        raise InputError(Problem("Segmentation", "None is chosen.", "Choose the one to edit."))
    if volumeNode is None:
        raise InputError(Problem("Scan", "No source volume is chosen.", "Choose the scan of this segmentation."))
    case = logic.cases.caseOf(volumeNode)
    if case is not None:
        logic.display.releaseClones(case.id)
    # Check before the prediction is shown: a newer prediction would replace this segmentation.
    if isOurs(segmentationNode):
        cause = "This segmentation is a prediction, which cannot be edited."
        remedy = f"Edit a copy: press Correct in the module {MODULE_TITLE}."
        raise InputError(Problem(segmentationNode.GetName(), cause, remedy))
    if case is None:
        cause = "The scan is not a case of the study that is open."
        raise InputError(Problem(volumeNode.GetName(), cause, f"Add it in the module {MODULE_TITLE}."))
    logic.cases.checkOwner(case.id, segmentationNode)
    if not logic.isPredicted(case.id):
        # The prediction may only seem missing because the study's folder is gone.
        logic.study.checkUnchanged()
        cause = "The case has not been predicted yet."
        raise InputError(Problem(case.name, cause, f"Predict it in the module {MODULE_TITLE}."))
    checkOutsideOfTransforms(volumeNode, segmentationNode)
    wasThere = logic.display.teacherNode(case.id) is not None
    teacher = logic.showPrediction(case.id, surface=False)
    if not wasThere:
        # Hide it, because the user did not ask for it. Its outline is shown while the effect is active.
        teacher.CreateDefaultDisplayNodes()
        teacher.GetDisplayNode().SetVisibility(False)
    doubt = logic.display.uncertaintyNode(case.id)
    probability = logic.study.predictions / case.id / "probability.nrrd"
    opinion = TeacherOpinion(
        case.id, case.name, teacher, doubt, logic.study.identity, probability if probability.exists() else None
    )
    if not arrayOf(opinion._labelmap()).any():
        cause = "The teacher found no left atrium in this case."
        raise InputError(Problem(case.name, cause, "Outline it with the other effects."))
    return opinion


def checkOutsideOfTransforms(*nodes: Any) -> None:
    """Raise :class:`InputError` if a node is in a transform that is not hardened: an opinion does not follow it."""
    for node in nodes:
        if node is not None and node.GetParentTransformNode() is not None:
            cause = "It is inside a transform that is not hardened, so the teacher's segment does not lie on it."
            raise InputError(Problem(node.GetName(), cause, "In Data, move it out of the transform."))


def takeInto(
    segmentationNode: Any, segmentId: str, opinion: TeacherOpinion, scan: Any, *, least: float | None, cut: float
) -> None:
    """Copy an opinion into a segment on the segment's own grid, so that nothing else in it changes.

    Parameters
    ----------
    segmentationNode, segmentId
        The segment to change; an empty one gets the scan's grid.
    scan
        The scan as an oriented image.
    least, cut
        See :meth:`TeacherOpinion.taken` and :meth:`TeacherOpinion.change`.
    """
    import slicer
    import vtk

    own, grid = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    segmentationNode.GetBinaryLabelmapRepresentation(segmentId, own)
    if min(own.GetDimensions()) < 1:
        matrix = vtk.vtkMatrix4x4()
        scan.GetImageToWorldMatrix(matrix)
        own.SetExtent(scan.GetExtent())
        own.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        own.SetGeometryFromImageToWorldMatrix(matrix)
        arrayOf(own)[:] = 0
    slicer.vtkOrientedImageDataResample.PadImageToContainImage(own, scan, grid)
    current = arrayOf(grid) > 0
    change = opinion.change(grid, current, opinion.taken(grid, least=least), cut)
    if (change.add & ~current).any() or change.remove.any():
        arrayOf(grid)[:] = (current | change.add) & ~change.remove
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        logic.SetBinaryLabelmapToSegment(grid, segmentationNode, segmentId, logic.MODE_REPLACE)


def strokeRegion(
    image: Any,
    points: Sequence[Sequence[float]],
    radius: float,
    *,
    normal: Sequence[float] | np.ndarray | None = None,
    thickness: float = 0.0,
) -> np.ndarray:
    """Voxels whose centers a brush has passed over.

    Parameters
    ----------
    image
        The grid.
    points
        Path of the brush, in R, A, S and mm, with straight lines between the points. Points that are closer to the
        previous one than half a voxel or a twentieth of the radius are ignored.
    radius
        Radius of the brush, in mm.
    normal
        Normal of the slice, for a flat brush; None for a sphere.
    thickness
        Thickness of the slice in mm, for a flat brush; at least one layer of the grid's voxels is painted.

    Returns
    -------
    numpy.ndarray
        Boolean, (k, j, i).
    """
    region = np.zeros(arrayOf(image).shape, bool)
    toWorld = imageToWorld(image)
    voxel = float(np.linalg.norm(toWorld[:3, :3], axis=0).min())
    path = _thinned(np.asarray(points, float), max(voxel / 2, _THINNED * radius))
    steps = list(zip(path[:-1], path[1:], strict=True)) if len(path) > 1 else [(path[0], path[0])]
    if normal is None:
        for start, end in steps:
            box, ijk = _voxelsNear(image, np.array([start, end]), radius)
            if ijk is not None:
                places = tuple(_along(row, ijk) for row in toWorld[:3])
                region[box] |= _isNear(places, start, end, radius)
        return region
    axis = np.asarray(normal, float) / np.linalg.norm(normal)
    half = _halfLayer(image, axis, thickness)
    box, ijk = _voxelsNear(image, path, max(radius, half))
    if ijk is None:
        return region
    depth = _along(axis @ toWorld[:3], ijk) - axis @ path[0]
    # A plane exactly between two layers paints only one of them.
    layer = np.nonzero((depth > -half + _TOLERANCE) & (depth <= half + _TOLERANCE))
    flat = np.eye(3) - np.outer(axis, axis)
    indices = np.stack([n + ijk[place].min() for n, place in zip(layer, (2, 1, 0), strict=True)][::-1])
    places = tuple(flat @ (toWorld[:3, :3] @ indices + toWorld[:3, 3:]))
    near = np.zeros(len(layer[0]), bool)
    for start, end in steps:
        near |= _isNear(places, flat @ start, flat @ end, radius)
    region[box][layer] = near
    return region


def loopRegion(
    image: Any, loop: Sequence[Sequence[float]], xyToRas: np.ndarray, *, thickness: float | None = None
) -> np.ndarray:
    """Voxels whose centers lie inside a loop that was drawn in a slice view.

    Parameters
    ----------
    image
        The grid.
    loop
        Points x, y in pixels of the view; the last point is joined to the first.
    xyToRas
        Matrix from the view to R, A, S, 4 x 4.
    thickness
        Thickness of the slice in mm, at least one layer of the grid's voxels; None: through the whole volume.

    Returns
    -------
    numpy.ndarray
        Boolean, (k, j, i).
    """
    region = np.zeros(arrayOf(image).shape, bool)
    drawn = np.asarray(loop, float)[:, :2]
    if len(drawn) < 3:
        return region
    mask, origin = _filled(drawn)
    axis = np.cross(xyToRas[:3, 0], xyToRas[:3, 1])
    axis /= np.linalg.norm(axis)
    corners = np.array([(x, y, 0, 1) for x in (drawn[:, 0].min(), drawn[:, 0].max()) for y in _range(drawn[:, 1])])
    half = None if thickness is None else _halfLayer(image, axis, thickness)
    box, ijk = _voxelsNear(image, None if half is None else (corners @ xyToRas.T)[:, :3], half or 0.0)
    if ijk is None:
        return region
    toXy = np.linalg.inv(xyToRas) @ imageToWorld(image)
    i, j, layers = ijk
    # All layers at once would need a gigabyte for a large scan.
    for first in range(0, len(layers), _LAYERS_AT_ONCE):
        part = (i, j, layers[first : first + _LAYERS_AT_ONCE])
        column, row = (np.rint((_along(toXy[n], part) - origin[n]) * _FINER).astype(np.int32) for n in (0, 1))
        within = (column >= 0) & (row >= 0) & (column < mask.shape[1]) & (row < mask.shape[0])
        found = within & mask[np.where(within, row, 0), np.where(within, column, 0)]
        if half is not None:
            depth = _along(axis @ imageToWorld(image)[:3], part) - axis @ xyToRas[:3, 3]
            found &= (depth > -half + _TOLERANCE) & (depth <= half + _TOLERANCE)
        region[box][first : first + _LAYERS_AT_ONCE] = found
    return region


def arrayOf(image: Any) -> np.ndarray:
    """An image's voxels (k, j, i), not copied; empty for an empty image."""
    from vtk.util.numpy_support import vtk_to_numpy

    scalars = image.GetPointData().GetScalars()
    if scalars is None or min(image.GetDimensions()) < 1:
        return np.zeros((0, 0, 0), np.uint8)
    return vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1])


def resampled(image: Any, reference: Any, *, linear: bool = False, outside: float = 0.0) -> np.ndarray:
    """An oriented image's voxels on the grid of another, (k, j, i); `outside` where it has no voxels."""
    import slicer

    if min(image.GetDimensions()) < 1:
        return np.full(arrayOf(reference).shape, outside, np.float32)
    result = slicer.vtkOrientedImageData()
    resample = slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage
    resample(image, reference, result, linear, False, None, outside)
    return arrayOf(result).copy()


def imageToWorld(image: Any) -> np.ndarray:
    """Matrix from i, j, k of an oriented image to R, A, S, 4 x 4."""
    import vtk

    return _array(image.GetImageToWorldMatrix, vtk.vtkMatrix4x4())


def imageOf(volumeNode: Any) -> Any:
    """A volume's voxels as an oriented image, not copied."""
    import slicer
    import vtk

    image = slicer.vtkOrientedImageData()
    image.ShallowCopy(volumeNode.GetImageData())
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    image.SetGeometryFromImageToWorldMatrix(matrix)
    return image


def _readVolume(file: Path) -> Any:
    """A volume on disk as an oriented image, without a node in the scene; RuntimeError if it cannot be read."""
    import SimpleITK as sitk
    import slicer
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    read = sitk.ReadImage(file, sitk.sitkFloat32)
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(read.GetSize())
    image.GetPointData().SetScalars(numpy_to_vtk(sitk.GetArrayViewFromImage(read).ravel(), deep=True))
    toLps = np.eye(4)
    toLps[:3, :3] = np.reshape(read.GetDirection(), (3, 3)) * read.GetSpacing()
    toLps[:3, 3] = read.GetOrigin()
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy((np.diag((-1.0, -1.0, 1.0, 1.0)) @ toLps).ravel())
    image.SetGeometryFromImageToWorldMatrix(matrix)
    return image


def matrixArray(matrix: Any) -> np.ndarray:
    """A vtkMatrix4x4 as an array."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def _array(read: Any, matrix: Any) -> np.ndarray:
    read(matrix)
    return matrixArray(matrix)


def _halfLayer(image: Any, axis: np.ndarray, thickness: float) -> float:
    """Half of the thickness of a slice, or of the grid's voxels along its normal if they are thicker; in mm."""
    voxel = np.max(np.abs(axis @ imageToWorld(image)[:3, :3]))
    return max(thickness, float(voxel)) / 2


def _voxelsNear(image: Any, points: np.ndarray | None, reach: float) -> tuple[Any, Any]:
    """Slices of the array, and i, j, k of their voxels, that contain all voxels within `reach` of the points' box.

    Both are None if there are no such voxels. Without points, all voxels are returned.
    """
    toWorld = imageToWorld(image)
    first, last = np.array(image.GetExtent()[::2]), np.array(image.GetExtent()[1::2])
    low, high = first, last
    if points is not None:
        toIjk = np.linalg.inv(toWorld)
        places = points @ toIjk[:3, :3].T + toIjk[:3, 3]
        margin = reach * np.linalg.norm(toIjk[:3, :3], axis=1) + _TOLERANCE
        low = np.maximum(first, np.ceil(places.min(0) - margin).astype(int))
        high = np.minimum(last, np.floor(places.max(0) + margin).astype(int))
    if np.any(low > high):
        return None, None
    i, j, k = (np.arange(low[n], high[n] + 1) for n in range(3))
    box = tuple(slice(low[n] - first[n], high[n] - first[n] + 1) for n in (2, 1, 0))
    return box, (i[None, None, :], j[None, :, None], k[:, None, None])


def _along(row: np.ndarray, ijk: tuple[np.ndarray, ...]) -> np.ndarray:
    """One coordinate of each voxel: the row of a matrix applied to i, j, k, 1."""
    return np.asarray(row[0] * ijk[0] + row[1] * ijk[1] + (row[2] * ijk[2] + row[3]))


def _thinned(path: np.ndarray, least: float) -> np.ndarray:
    """The points of a path (N, 3) that are at least `least` mm from the previous point, and the last point."""
    kept = [path[0]]
    for point in path[1:]:
        if np.linalg.norm(point - kept[-1]) >= least:
            kept.append(point)
    if len(path) > 1 and not np.array_equal(kept[-1], path[-1]):
        kept.append(path[-1])
    return np.array(kept)


def _isNear(places: tuple[np.ndarray, ...], start: np.ndarray, end: np.ndarray, radius: float) -> np.ndarray:
    """Whether places, given by their coordinates, are within this distance of the line between two points."""
    offset = [place - start[n] for n, place in enumerate(places)]
    along = end - start
    length = float(along @ along)
    if length > 0:
        share = np.clip(sum(one * step for one, step in zip(offset, along, strict=True)) / length, 0, 1)
        offset = [one - share * step for one, step in zip(offset, along, strict=True)]
    return np.asarray(sum(one * one for one in offset) <= (radius + _TOLERANCE) ** 2)


def _filled(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inside of a loop as a boolean image (row, column), `_FINER` times finer; and x, y of its first pixel."""
    import vtk

    origin = np.floor(drawn.min(0)) - 1
    width, height = (np.ceil((drawn.max(0) - origin + 1) * _FINER)).astype(int)
    points = vtk.vtkPoints()
    for x, y in drawn:
        points.InsertNextPoint(x, y, 0)
    lasso = vtk.vtkLassoStencilSource()
    lasso.SetShapeToPolygon()
    lasso.SetPoints(points)
    lasso.SetOutputOrigin(origin[0], origin[1], 0)
    lasso.SetOutputSpacing(1 / _FINER, 1 / _FINER, 1)
    lasso.SetOutputWholeExtent(0, int(width) - 1, 0, int(height) - 1, 0, 0)
    toImage = vtk.vtkImageStencilToImage()
    toImage.SetInputConnection(lasso.GetOutputPort())
    toImage.SetOutputScalarTypeToUnsignedChar()
    toImage.Update()
    return arrayOf(toImage.GetOutput())[0] > 0, origin


def _range(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())
