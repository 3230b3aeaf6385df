"""The teacher's opinion on any grid, the regions in which it is taken, and how it is shown; on Slicer's real MRML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from LASegColearnLib.errors import InputError
from LASegColearnSlicer.session import Session
from LASegColearnSlicer.teacher_display import Preview, TeacherOutline
from LASegColearnSlicer.teacher_opinion import (
    TeacherOpinion,
    arrayOf,
    findOpinion,
    imageToWorld,
    loopRegion,
    resampled,
    strokeRegion,
)
from mrml_scene import startSlicerCore
from predicted_case import SHAPE, PredictedCase, makePredictedCase, writePrediction


@pytest.fixture
def case(tmp_path: Path) -> PredictedCase:
    core = startSlicerCore()
    core.scene.Clear(0)
    return makePredictedCase(Session(core.scene, core.loadVolume, core.loadSegmentation), tmp_path / "Studie ü")


@pytest.fixture
def opinion(case: PredictedCase) -> TeacherOpinion:
    return findOpinion(case.logic, case.volume, case.node)


def _grid(
    shape: tuple[int, int, int] = SHAPE,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    start: tuple[int, int, int] = (0, 0, 0),
    turn: float = 0.0,
) -> Any:
    """An empty oriented image of this shape (k, j, i); spacing and first voxel are i, j, k."""
    import slicer
    import vtk

    image = slicer.vtkOrientedImageData()
    k, j, i = shape
    image.SetExtent(start[0], start[0] + i - 1, start[1], start[1] + j - 1, start[2], start[2] + k - 1)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    arrayOf(image)[:] = 0
    transform = vtk.vtkTransform()
    transform.RotateWXYZ(turn, 1, 2, 3)
    transform.Scale(*spacing)
    image.SetGeometryFromImageToWorldMatrix(transform.GetMatrix())
    return image


def _gridOf(case: PredictedCase) -> Any:
    """An oriented image on the scan's grid."""
    import slicer

    image = slicer.vtkOrientedImageData()
    geometry = case.node.GetSegmentation().GetConversionParameter("Reference image geometry")
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(geometry, image)
    return image


def _centers(image: Any) -> np.ndarray:
    """R, A, S of each voxel's center, computed one by one."""
    first, matrix = image.GetExtent()[::2], imageToWorld(image)
    centers = np.zeros((*arrayOf(image).shape, 3))
    for k, j, i in np.ndindex(arrayOf(image).shape):
        centers[k, j, i] = (matrix @ (i + first[0], j + first[1], k + first[2], 1))[:3]
    return centers


def test_on_the_scans_own_grid_the_opinion_is_what_the_engine_wrote(
    case: PredictedCase, opinion: TeacherOpinion
) -> None:
    image = _gridOf(case)
    assert np.array_equal(opinion.inside(image), case.teacher)
    assert np.allclose(opinion.confidence(image), 1 - case.uncertainty, atol=1e-6)


def test_sure_voxels_are_those_of_the_formula_and_at_zero_all(case: PredictedCase, opinion: TeacherOpinion) -> None:
    image = _gridOf(case)
    for least in (0.3, 0.7, 0.95):
        assert np.array_equal(opinion.taken(image, least=least), 1 - case.uncertainty >= least)
    assert opinion.taken(image, least=0.0).all()
    assert opinion.taken(_grid((40, 40, 40), (9, 9, 9)), least=0.0).all()
    region = np.zeros(SHAPE, bool)
    region[5:9] = True
    assert np.array_equal(opinion.taken(image, least=0.7, region=region), region & (1 - case.uncertainty >= 0.7))


def test_on_a_finer_and_shifted_grid_each_voxel_has_the_opinion_of_its_place(
    case: PredictedCase, opinion: TeacherOpinion
) -> None:
    """Half the voxel size, so that places well inside and well outside are known."""
    image = _gridOf(case)
    matrix = imageToWorld(image)
    matrix[:3, :3] /= 2
    fine = _grid((40, 52, 60))
    fine.SetGeometryFromImageToWorldMatrix(_vtkMatrix(matrix))
    inside, confidence = opinion.inside(fine), opinion.confidence(fine)
    assert np.array_equal(inside[::2, ::2, ::2], case.teacher)
    assert np.allclose(confidence[::2, ::2, ::2], 1 - case.uncertainty, atol=1e-5)
    assert opinion.checkGeometry(fine, "Mine") == ""


def _vtkMatrix(array: np.ndarray) -> Any:
    import vtk

    matrix = vtk.vtkMatrix4x4()
    for row, column in np.ndindex(4, 4):
        matrix.SetElement(row, column, array[row, column])
    return matrix


def test_outside_of_the_scan_the_confidence_is_zero(case: PredictedCase, opinion: TeacherOpinion) -> None:
    import slicer

    wide = slicer.vtkOrientedImageData()
    wide.DeepCopy(_gridOf(case))
    matrix = imageToWorld(wide)
    wide.SetExtent(-5, 34, -4, 29, -3, 22)
    wide.AllocateScalars(3, 1)
    wide.SetGeometryFromImageToWorldMatrix(_vtkMatrix(matrix))
    confidence = opinion.confidence(wide)
    assert np.allclose(confidence[3:23, 4:30, 5:35], 1 - case.uncertainty, atol=1e-6)
    confidence[3:23, 4:30, 5:35] = 0
    assert not confidence.any()


def test_a_change_adds_inside_and_removes_only_what_is_there(case: PredictedCase, opinion: TeacherOpinion) -> None:
    image, own = _gridOf(case), case.voxels()
    change = opinion.change(image, own, opinion.taken(image))
    assert np.array_equal((own | change.add) & ~change.remove, case.teacher)
    assert not (change.remove & ~own).any()


@pytest.mark.parametrize("turn", [0.0, 37.0])
def test_a_sphere_holds_the_voxels_whose_center_is_in_it(turn: float) -> None:
    image = _grid((12, 14, 16), (0.8, 1.1, 2.3), (3, -2, 5), turn)
    centers = _centers(image)
    place = centers[6, 7, 8] + 0.2
    expected = np.linalg.norm(centers - place, axis=-1) <= 3.5
    assert 20 < expected.sum() < expected.size / 2
    assert np.array_equal(strokeRegion(image, [place], 3.5), expected)


@pytest.mark.parametrize("turn", [0.0, 37.0])
def test_a_flat_brush_paints_one_layer_and_no_gap_between_two_places(turn: float) -> None:
    image = _grid((12, 14, 16), (0.8, 1.1, 2.3), (0, 0, 0), turn)
    centers, normal = _centers(image), imageToWorld(image)[:3, 2]
    start, end = centers[6, 3, 3], centers[6, 10, 12]
    region = strokeRegion(image, [start, end], 1.5, normal=normal, thickness=2.3)
    assert np.flatnonzero(region.any((1, 2))).tolist() == [6]
    along = end - start
    share = np.clip((centers - start) @ along / (along @ along), 0, 1)
    distance = np.linalg.norm(centers - start - share[..., None] * along, axis=-1)
    assert np.array_equal(region[6], distance[6] <= 1.5)
    # Right between two layers, and thinner than a voxel: still one layer.
    between = (centers[6, 5, 5] + centers[7, 5, 5]) / 2
    region = strokeRegion(image, [between], 1.5, normal=normal, thickness=0.1)
    assert len(np.flatnonzero(region.any((1, 2)))) == 1


@pytest.mark.parametrize("flat", [False, True])
def test_a_stroke_of_many_points_is_what_was_passed_over_and_costs_few_of_them(
    flat: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from LASegColearnSlicer import teacher_opinion

    image = _grid((30, 40, 40), (1.0, 1.0, 1.0))
    normal = (0, 0, 1) if flat else None
    corners = np.array([(8.0, 8.0, 15.0), (30.0, 10.0, 15.0), (28.0, 31.0, 15.0)])
    share = np.linspace(0, 1, 1001)[:, None]
    dense = np.concatenate([a + share * (b - a) for a, b in zip(corners[:-1], corners[1:], strict=True)])
    steps = 0
    real = teacher_opinion._isNear

    def isNear(*arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        return real(*arguments)

    expected = strokeRegion(image, list(corners), 6.0, normal=normal, thickness=1.0)
    monkeypatch.setattr(teacher_opinion, "_isNear", isNear)
    found = strokeRegion(image, list(dense), 6.0, normal=normal, thickness=1.0)
    assert expected.sum() > 100
    # Around the corner half a voxel may be cut off.
    assert np.count_nonzero(found != expected) <= 0.005 * expected.sum()
    assert steps < 100


def test_a_brush_beside_the_grid_paints_nothing() -> None:
    assert not strokeRegion(_grid(), [(500, 0, 0)], 5.0).any()
    assert not strokeRegion(_grid(), [(500, 0, 0)], 5.0, normal=(0, 0, 1), thickness=1).any()


def test_a_loop_holds_the_voxels_inside_of_it_concave_as_it_may_be() -> None:
    image = _grid((6, 30, 30), (1.0, 1.0, 2.0))
    # 4 pixels of the view to the mm, the slice at S = 4.
    xyToRas = np.array([(0.25, 0, 0, 0), (0, 0.25, 0, 0), (0, 0, 1, 4), (0, 0, 0, 1)])
    # A U: the middle is left out.
    loop = [(18, 18), (98, 18), (98, 98), (78, 98), (78, 38), (38, 38), (38, 98), (18, 98)]
    expected = np.zeros((30, 30), bool)
    expected[5:25, 5:25] = True
    expected[10:25, 10:20] = False
    one = loopRegion(image, loop, xyToRas, thickness=2.0)
    assert np.flatnonzero(one.any((1, 2))).tolist() == [2]
    assert np.array_equal(one[2], expected)
    through = loopRegion(image, loop, xyToRas)
    assert all(np.array_equal(layer, expected) for layer in through)
    assert not loopRegion(image, loop[:2], xyToRas).any()


def test_a_loop_through_all_slices_of_a_large_scan_takes_little_memory() -> None:
    import tracemalloc

    image = _grid((160, 120, 120), (1.0, 1.0, 1.0))
    xyToRas = np.diag((0.25, 0.25, 1.0, 1.0))
    loop = [(40, 40), (400, 40), (400, 400), (40, 400)]
    tracemalloc.start()
    through = loopRegion(image, loop, xyToRas)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(through.any((1, 2)), np.ones(160, bool))
    assert (through == through[:1]).all() and through[0, 50, 50] and not through[0, 5, 50]
    assert peak < 8 * through.size


def test_a_loop_in_an_oblique_view_cuts_along_the_view() -> None:
    image = _grid((20, 24, 24), (1.0, 1.2, 1.5), (0, 0, 0), 33)
    xyToRas = np.eye(4)
    angle = np.deg2rad(50)
    xyToRas[:3, 1] = (0, np.cos(angle), np.sin(angle))
    xyToRas[:3, 2] = (0, -np.sin(angle), np.cos(angle))
    xyToRas[:3, :3] *= 0.5
    center = _centers(image)[10, 12, 12]
    xyToRas[:3, 3] = center - xyToRas[:3, :2] @ (50, 50)
    around = np.linspace(0, 2 * np.pi, 90)[:-1]
    loop = [(50 + 12 * np.cos(a), 50 + 12 * np.sin(a)) for a in around]
    offset = _centers(image) - center
    normal = xyToRas[:3, 2] / np.linalg.norm(xyToRas[:3, 2])
    depth = offset @ normal
    distance = np.linalg.norm(offset - depth[..., None] * normal, axis=-1)
    through = loopRegion(image, loop, xyToRas)
    assert through[distance < 5.8].all()
    assert not through[distance > 6.3].any()
    one = loopRegion(image, loop, xyToRas, thickness=3.0)
    assert np.array_equal(one, through & (depth > -1.5 + 1e-6) & (depth <= 1.5 + 1e-6))


def test_an_empty_image_is_the_outside_everywhere() -> None:
    import slicer

    assert (resampled(slicer.vtkOrientedImageData(), _grid(), outside=1.0) == 1).all()


def test_a_newer_prediction_is_noticed(case: PredictedCase, opinion: TeacherOpinion) -> None:
    assert opinion.isNewest(case.logic)
    scan = case.logic.study.case(case.caseId).scan
    writePrediction(case.logic, case.caseId, scan, ~case.teacher, case.uncertainty, run="002")
    newer = findOpinion(case.logic, case.volume, case.node)
    assert not opinion.isNewest(case.logic)
    assert np.array_equal(newer.inside(_gridOf(case)), ~case.teacher)


def test_what_cannot_be_found_is_said_in_a_sentence(case: PredictedCase, tmp_path: Path) -> None:
    import slicer

    logic = case.logic
    teacher = logic.showPrediction(case.caseId)
    for volume, node, sentence in (
        (None, case.node, "Scan: No source volume is chosen."),
        (case.volume, None, "Segmentation: None is chosen."),
        (case.volume, teacher, "a prediction, which cannot be edited."),
        (slicer.util.addVolumeFromArray(np.zeros((3, 3, 3), np.int16), name="Other"), case.node, "is not a case of"),
    ):
        with pytest.raises(InputError, match=sentence):
            findOpinion(logic, volume, node)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    case.node.SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(InputError, match="Mine: It is inside a transform"):
        findOpinion(logic, case.volume, case.node)
    case.node.SetAndObserveTransformNodeID(None)
    folder = logic.study.predictions / case.caseId
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(
        InputError, match="has not been predicted yet. Predict it in the module Left Atrium Co-Learning"
    ):
        findOpinion(logic, case.volume, case.node)
    logic.closeStudy()
    with pytest.raises(InputError, match="Study: No study is open."):
        findOpinion(logic, case.volume, case.node)


def test_a_teacher_that_found_nothing_is_said(case: PredictedCase) -> None:
    scan = case.logic.study.case(case.caseId).scan
    writePrediction(case.logic, case.caseId, scan, np.zeros(SHAPE, bool), case.uncertainty)
    with pytest.raises(InputError, match="The teacher found no left atrium in this case."):
        findOpinion(case.logic, case.volume, case.node)


@pytest.mark.parametrize("cut", [0.1, 0.3, 0.6, 0.8])
def test_cut_at_another_probability_the_opinion_is_the_largest_part_above_it(
    case: PredictedCase, opinion: TeacherOpinion, cut: float
) -> None:
    expected = case.probability > cut
    expected[18:] = False
    grid = _gridOf(case)
    assert opinion.hasProbability
    assert np.array_equal(opinion.inside(grid, cut), expected)
    # No node comes of the file that was read.
    assert not [node for node in _nodes() if "robability" in (node.GetName() or "")]
    current = case.voxels()
    change = opinion.change(grid, current, np.ones(SHAPE, bool), cut)
    assert np.array_equal((current | change.add) & ~change.remove, expected)
    assert np.array_equal(opinion.inside(grid), case.teacher)


@pytest.mark.parametrize(
    ("cut", "atrium", "elsewhere"), [(0.25, 0.9, 0.3), (0.75, 0.8, 0.95)], ids=["wider", "tighter"]
)
def test_wider_or_tighter_it_is_the_same_structure(
    case: PredictedCase, cut: float, atrium: float, elsewhere: float
) -> None:
    """However large or sure another one is."""
    probability = np.where(case.teacher, np.float32(atrium), np.float32(0.02))
    probability[14:, :, :] = elsewhere
    scan = case.logic.study.case(case.caseId).scan
    writePrediction(case.logic, case.caseId, scan, case.teacher, case.uncertainty, probability)
    opinion = findOpinion(case.logic, case.volume, case.node)
    assert np.array_equal(opinion.inside(_gridOf(case), cut), case.teacher)


def test_a_cut_that_leaves_nothing_or_is_no_probability_is_refused(
    case: PredictedCase, opinion: TeacherOpinion
) -> None:
    with pytest.raises(InputError, match="Scan: With a threshold of 0.95, the teacher's segment is empty"):
        opinion.inside(_gridOf(case), 0.95)
    for cut in (0.0, 1.0, -1.0, 30.0, float("nan")):
        with pytest.raises(InputError, match="Wanted a probability between 0 and 1"):
            opinion.inside(_gridOf(case), cut)


def test_an_opinion_is_of_a_case_and_a_segment_that_are_there(case: PredictedCase, opinion: TeacherOpinion) -> None:
    assert opinion.isNewest(case.logic)
    segmentation = opinion.segmentationNode.GetSegmentation()
    segment = segmentation.GetSegment(opinion.segmentId)
    segmentation.RemoveSegment(opinion.segmentId)
    assert not opinion.isNewest(case.logic)
    segmentation.AddSegment(segment, opinion.segmentId)
    assert opinion.isNewest(case.logic)
    case.logic.study.remove(case.caseId)
    assert not opinion.isNewest(case.logic)


def test_on_another_grid_it_is_cut_there(case: PredictedCase, opinion: TeacherOpinion) -> None:
    grid = _gridOf(case)
    assert np.array_equal(opinion.inside(grid, 0.3)[:, :, 5:25], _wider(case)[:, :, 5:25])
    part = _gridOf(case)
    matrix = imageToWorld(part)
    part.SetExtent(5, 24, 0, 25, 0, 19)
    part.SetGeometryFromImageToWorldMatrix(_vtkMatrix(matrix))
    assert np.array_equal(opinion.inside(part, 0.3), _wider(case)[:, :, 5:25])


def _wider(case: PredictedCase) -> np.ndarray:
    wider = case.probability > 0.3
    wider[18:] = False
    return wider


def _nodes() -> list[Any]:
    import slicer

    return [slicer.mrmlScene.GetNthNode(index) for index in range(slicer.mrmlScene.GetNumberOfNodes())]


def test_without_uncertainty_there_is_no_confidence(tmp_path: Path) -> None:
    core = startSlicerCore()
    core.scene.Clear(0)
    session = Session(core.scene, core.loadVolume, core.loadSegmentation)
    case = makePredictedCase(session, tmp_path / "s", uncertain=False)
    opinion = findOpinion(session, case.volume, case.node)
    assert opinion.uncertaintyNode is None
    assert np.array_equal(opinion.inside(_gridOf(case)), case.teacher)
    with pytest.raises(InputError, match="Its prediction has no uncertainty. Predict the case again."):
        opinion.confidence(_gridOf(case))
    with pytest.raises(InputError, match="Its prediction has no probability. Predict the case again."):
        opinion.inside(_gridOf(case), 0.6)


def test_a_geometry_that_cannot_hold_the_segment_is_said(case: PredictedCase, opinion: TeacherOpinion) -> None:
    assert opinion.checkGeometry(_gridOf(case), "Mine") == ""
    part = _gridOf(case)
    matrix = imageToWorld(part)
    part.SetExtent(0, 29, 0, 25, 0, 9)
    part.SetGeometryFromImageToWorldMatrix(_vtkMatrix(matrix))
    assert opinion.checkGeometry(part, "Mine").startswith("25% of the teacher's segment lies outside")
    matrix[0, 3] += 500
    part.SetGeometryFromImageToWorldMatrix(_vtkMatrix(matrix))
    with pytest.raises(InputError, match="Mine: Most of the teacher's segment of Scan lies outside"):
        opinion.checkGeometry(part, "Mine")


def test_the_outline_is_shown_in_another_color_and_taken_back(opinion: TeacherOpinion) -> None:
    node, segmentId = opinion.segmentationNode, opinion.segmentId
    display = node.GetDisplayNode()
    display.SetVisibility(False)
    display.SetVisibility2DFill(True)
    display.SetVisibility2DOutline(False)
    display.SetSegmentVisibility(segmentId, False)
    display.SetSegmentOverrideColor(segmentId, 0.1, 0.2, 0.3)

    def shown() -> tuple[Any, ...]:
        return (
            display.GetVisibility(),
            display.GetVisibility3D(),
            display.GetVisibility2DFill(),
            display.GetVisibility2DOutline(),
            display.GetSegmentVisibility(segmentId),
            tuple(display.GetSegmentOverrideColor(segmentId)),
        )

    before = shown()
    outline = TeacherOutline(node, segmentId, (0.0, 1.0, 1.0))
    assert shown()[:5] == (True, False, False, True, True)
    assert np.linalg.norm(np.subtract(shown()[5], (0.0, 1.0, 1.0))) > 1
    outline.restore()
    assert shown() == before
    node.GetScene().RemoveNode(node)
    outline.restore()


def test_a_preview_is_neither_listed_nor_saved_and_leaves_nothing(case: PredictedCase) -> None:
    scene = startSlicerCore().scene
    nodes = scene.GetNumberOfNodes()
    preview = Preview(scene)
    voxels = np.zeros(SHAPE, bool)
    voxels[3:9, 4:12, 5:15] = True
    for _ in range(2):
        preview.show(_gridOf(case), voxels, (0, 1, 0))
        assert preview.node.GetHideFromEditors()
        assert not preview.node.GetSaveWithScene()
        image = preview.node.GetBinaryLabelmapInternalRepresentation("preview")
        assert np.array_equal(resampled(image, _gridOf(case)) > 0, voxels)
        assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 2
        voxels = ~voxels
    preview.remove()
    assert preview.node is None
    assert scene.GetNumberOfNodes() == nodes
    preview.show(_gridOf(case), voxels, (0, 1, 0))
    scene.Clear(0)
    assert preview.node is None
    preview.remove()
