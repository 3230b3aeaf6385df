"""Prediction with networks whose answer is known: they threshold the intensity or return a constant."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import nn

from LASegColearnLib.checkpoints import Model
from LASegColearnLib.components import component_around, largest_component
from LASegColearnLib.device import choose_device
from LASegColearnLib.errors import InputError, PredictionError
from LASegColearnLib.prediction import predict
from LASegColearnLib.prediction_files import PredictedCase, case_ids, predict_files, without_results
from LASegColearnLib.predictor import Predictor
from LASegColearnLib.preprocessing import prepare_scan
from LASegColearnLib.settings import Settings

CPU = choose_device("cpu", "float32")
SETTINGS = Settings(spacing_mm=(1.25, 1.25, 1.25), patch_size=(16, 16, 16), preset="demo")


class Constant(nn.Module):
    """Foreground probability ``p`` everywhere; counts its calls."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.logit = float(np.log(p / (1 - p)))
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return torch.cat([torch.zeros_like(x), torch.full_like(x, self.logit)], dim=1)


class Threshold(nn.Module):
    """Foreground where the normalized intensity is above ``threshold``."""

    def __init__(self, threshold: float, steepness: float = 20.0) -> None:
        super().__init__()
        self.threshold, self.steepness = threshold, steepness

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(x), self.steepness * (x - self.threshold)], dim=1)


class Sided(nn.Module):
    """An answer that depends on where in the window a voxel is, and which neighbor it has."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ramp = torch.linspace(-2, 2, x.shape[2]).reshape(1, 1, -1, 1, 1)
        return torch.cat([torch.zeros_like(x), torch.roll(x, (1, 1), dims=(3, 4)) + ramp], dim=1)


def model(predictor: str = "teacher", settings: Settings = SETTINGS, **networks: nn.Module) -> Model:
    return Model(settings, networks, predictor, 7)


def scan_and_truth(
    size: tuple[int, int, int], spacing: tuple[float, float, float], matrix: np.ndarray, noise: float = 0.0
) -> tuple[sitk.Image, np.ndarray]:
    """An off-center ellipsoid, half axes of 8 x 12 x 6 mm along the patient's axes; its truth is (z, y, x)."""
    image = sitk.Image(size, sitk.sitkInt16)
    image.SetSpacing(spacing)
    image.SetDirection(matrix.ravel().tolist())
    image.SetOrigin((20.0, -30.0, 5.0))
    center = np.array(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in size])) + (3.0, -2.0, 2.5)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), axis=-1) * spacing
    points = index @ matrix.T + image.GetOrigin()
    inside = (((points - center) / (8.0, 12.0, 6.0)) ** 2).sum(axis=-1) <= 1
    voxels = np.where(inside, 400, 100) + noise * np.random.default_rng(0).normal(size=inside.shape)
    filled = sitk.GetImageFromArray(voxels.transpose(2, 1, 0).astype(np.int16))
    filled.CopyInformation(image)
    return filled, inside.transpose(2, 1, 0)


def halfway(scan: sitk.Image, settings: Settings = SETTINGS) -> float:
    array = prepare_scan(scan, settings.spacing_mm, settings.region_mm).array
    return float(array.min() + array.max()) / 2


PERMUTED = np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
OBLIQUE = np.array(sitk.VersorTransform((1.0, 0.3, 0.6), 0.5).GetMatrix()).reshape(3, 3)


@pytest.mark.parametrize(
    ("size", "spacing", "matrix"),
    [
        ((36, 44, 30), (1.0, 1.0, 1.0), np.eye(3)),
        ((44, 46, 14), (0.8, 0.9, 2.5), np.eye(3)),
        ((44, 30, 36), (1.0, 1.0, 1.1), PERMUTED),
        ((46, 46, 18), (0.8, 0.9, 2.0), OBLIQUE),
        ((46, 18, 40), (0.8, 2.0, 1.0), OBLIQUE @ PERMUTED),
    ],
    ids=["plain", "anisotropic", "permuted", "oblique", "oblique and permuted"],
)
def test_a_blob_is_found_within_a_voxel_on_the_scans_own_grid(
    size: tuple[int, int, int], spacing: tuple[float, float, float], matrix: np.ndarray
) -> None:
    scan, truth = scan_and_truth(size, spacing, matrix)
    predictor = Predictor(model(teacher=Threshold(halfway(scan))), device=CPU)
    prediction = predictor.predict(scan, uncertainty=True)
    for image in (prediction.mask, prediction.probability, prediction.uncertainty):
        assert image is not None
        assert image.GetSize() == scan.GetSize()
        assert image.GetSpacing() == scan.GetSpacing()
        assert image.GetOrigin() == scan.GetOrigin()
        assert image.GetDirection() == scan.GetDirection()
    mask = sitk.GetArrayFromImage(prediction.mask)
    assert mask.dtype == np.uint8
    found = mask.astype(bool)
    # Within a voxel of the working or of the scan's grid, whichever is larger.
    wide = max(*spacing, 1.25) + 1e-6
    zyx = spacing[::-1]
    distance = np.where(truth, ndimage.distance_transform_edt(truth, zyx), ndimage.distance_transform_edt(~truth, zyx))
    assert distance[found != truth].max(initial=0.0) <= wide
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.9
    assert prediction.figures["volume_ml"] == pytest.approx(found.sum() * np.prod(spacing) / 1000)
    assert prediction.figures["volume_ml"] == pytest.approx(4 / 3 * np.pi * 8 * 12 * 6 / 1000, rel=0.12)


def test_the_probability_of_a_constant_network_is_that_constant_everywhere() -> None:
    scan, _ = scan_and_truth((30, 25, 20), (1.0, 1.1, 2.0), OBLIQUE, noise=10)
    prediction = Predictor(model(teacher=Constant(0.8)), device=CPU, overlap=0.6).predict(scan, uncertainty=True)
    assert sitk.GetArrayFromImage(prediction.probability) == pytest.approx(0.8, abs=1e-5)
    assert prediction.probability.GetPixelID() == sitk.sitkFloat32
    by_hand = -(0.8 * np.log2(0.8) + 0.2 * np.log2(0.2))
    assert sitk.GetArrayFromImage(prediction.uncertainty) == pytest.approx(by_hand, abs=1e-5)
    assert sitk.GetArrayFromImage(prediction.mask).all()


def test_a_scan_smaller_than_the_patch_is_predicted() -> None:
    scan, truth = scan_and_truth((30, 34, 26), (1.0, 1.0, 1.0), np.eye(3))
    settings = replace(SETTINGS, patch_size=(48, 48, 48))
    prediction = Predictor(model(settings=settings, teacher=Threshold(halfway(scan))), device=CPU).predict(scan)
    found = sitk.GetArrayFromImage(prediction.mask).astype(bool)
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.9


def test_outside_of_the_region_of_interest_nothing_is_found() -> None:
    scan, _ = scan_and_truth((40, 40, 40), (1.0, 1.0, 1.0), np.eye(3))
    settings = replace(SETTINGS, region_mm=(20.0, 30.0, 40.0))
    mask = sitk.GetArrayFromImage(
        Predictor(model(settings=settings, teacher=Constant(0.9)), device=CPU).predict(scan).mask
    )
    extents = [np.flatnonzero(mask.any(axis=axes)) for axes in ((0, 1), (0, 2), (1, 2))]
    assert [len(extent) for extent in extents] == [20, 30, 40]
    assert [int(extent[0]) for extent in extents] == [10, 5, 0]


def test_nothing_found_is_an_empty_mask_and_said() -> None:
    scan, _ = scan_and_truth((20, 20, 20), (1.0, 1.0, 1.0), np.eye(3))
    networks = {"student_1": Constant(0.1), "student_2": Constant(0.2), "teacher": Constant(0.3)}
    prediction = Predictor(model(**networks), device=CPU).predict(scan)
    assert not sitk.GetArrayFromImage(prediction.mask).any()
    assert prediction.figures["volume_ml"] == 0
    assert prediction.figures["mean_uncertainty_near_surface"] is None
    assert prediction.figures["agreement"]["mean"] == 1.0
    assert prediction.figures["note"] == "Nothing was found in this scan."


def test_only_the_largest_part_is_kept() -> None:
    scan, truth = scan_and_truth((40, 46, 32), (1.0, 1.0, 1.0), np.eye(3))
    voxels = sitk.GetArrayFromImage(scan)
    voxels[1:5, 1:5, 1:5] = 400
    with_speck = sitk.GetImageFromArray(voxels)
    with_speck.CopyInformation(scan)
    prediction = Predictor(model(teacher=Threshold(halfway(with_speck))), device=CPU).predict(with_speck)
    found = sitk.GetArrayFromImage(prediction.mask).astype(bool)
    assert sitk.GetArrayFromImage(prediction.probability)[2, 2, 2] > 0.5
    assert not found[:6, :6, :6].any()
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.9


def test_largest_component_joins_corners_and_takes_the_first_of_equals() -> None:
    mask = np.zeros((6, 5, 5), dtype=bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 2, 2] = True  # one part of 3 through corners
    mask[4, 0:2, 0] = True  # a part of 2
    kept = largest_component(mask)
    assert np.argwhere(kept).tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]
    mask[4, 2, 0] = True  # now 3 as well
    assert np.array_equal(largest_component(mask), kept)
    mask[4, 3, 0] = True
    assert np.argwhere(largest_component(mask))[:, 0].tolist() == [4] * 4
    assert not largest_component(np.zeros((3, 3, 3), dtype=bool)).any()


def test_the_component_around_a_seed_is_that_which_shares_most_with_it() -> None:
    mask = np.zeros((9, 5, 5), dtype=bool)
    mask[0:4] = mask[5:7] = True
    seed = np.zeros_like(mask)
    seed[3:7, 2, 2] = True
    kept = component_around(mask, seed)
    assert np.flatnonzero(kept.any((1, 2))).tolist() == [5, 6]
    assert np.array_equal(component_around(mask.astype(np.uint8), seed.astype(np.uint8)), kept)
    seed[:] = False
    assert not component_around(mask, seed).any()


def test_mirroring_makes_the_answer_independent_of_the_scans_axial_orientation() -> None:
    array = np.random.default_rng(0).normal(size=(22, 19, 18)).astype(np.float32)
    mirrored = Predictor(model(teacher=Sided()), device=CPU, mirror=True)
    plain = Predictor(model(teacher=Sided()), device=CPU)
    for axes in ((0,), (1,), (0, 1)):
        flipped = np.flip(array, axes).copy()
        expected = np.flip(mirrored.probabilities(array)["teacher"], axes)
        assert mirrored.probabilities(flipped)["teacher"] == pytest.approx(expected, abs=1e-6)
        different = plain.probabilities(flipped)["teacher"] - np.flip(plain.probabilities(array)["teacher"], axes)
        assert np.abs(different).max() > 0.1
    copies = [np.flip(plain.probabilities(np.flip(array, a).copy())["teacher"], a) for a in ((), (0,), (1,), (0, 1))]
    assert mirrored.probabilities(array)["teacher"] == pytest.approx(np.mean(copies, axis=0), abs=1e-6)


def test_only_mirrored_copies_that_training_shows_are_averaged() -> None:
    """Without quarter turns a patch is only ever flipped along its first axis."""
    array = np.random.default_rng(0).normal(size=(22, 19, 18)).astype(np.float32)
    unturned = replace(SETTINGS, axial_rotations=False)
    mirrored = Predictor(model(teacher=Sided(), settings=unturned), device=CPU, mirror=True)
    plain = Predictor(model(teacher=Sided()), device=CPU)
    copies = [np.flip(plain.probabilities(np.flip(array, a).copy())["teacher"], a) for a in ((), (0,))]
    assert mirrored.probabilities(array)["teacher"] == pytest.approx(np.mean(copies, axis=0), abs=1e-6)


def test_the_mean_of_the_scan_as_it_is_enlarged_and_reduced_predicts() -> None:
    array = np.random.default_rng(0).normal(size=(20, 24, 16)).astype(np.float32)
    networks = {"teacher": Sided(), "student_1": Sided()}
    plain = Predictor(model(**networks), device=CPU)
    zoomed = Predictor(model(**networks), device=CPU, zoom=1.25)

    def at(sides: tuple[int, int, int]) -> np.ndarray:
        image = torch.from_numpy(array)[None, None]
        resized = F.interpolate(image, size=sides, mode="trilinear", align_corners=False)[0, 0].numpy()
        found = torch.from_numpy(plain.probabilities(resized)["teacher"])[None, None]
        return F.interpolate(found, size=array.shape, mode="trilinear", align_corners=False)[0, 0].numpy()

    by_name, original = zoomed.probabilities(array), plain.probabilities(array)
    expected = (original["teacher"] + at((25, 30, 20)) + at((16, 19, 13))) / 3
    assert by_name["teacher"] == pytest.approx(expected, abs=1e-6)
    assert np.abs(expected - original["teacher"]).max() > 0.01
    assert np.array_equal(by_name["student_1"], original["student_1"]), "Only for the network that segments."
    with pytest.raises(InputError, match="--zoom: Wanted a factor from 1 to 2, found 0.5"):
        Predictor(model(**networks), device=CPU, zoom=0.5)


@pytest.mark.parametrize(("option", "other"), [("overlap", 0.0), ("mirror", False), ("zoom", 1.0)])
def test_overlap_mirroring_and_zoom_are_the_models_unless_given(option: str, other: float | bool) -> None:
    settings = replace(SETTINGS, overlap=0.5, mirror=True, zoom=1.5)
    array = np.random.default_rng(0).normal(size=(30, 16, 16)).astype(np.float32)

    def probability(changed: Settings, **options: float | bool) -> np.ndarray:
        predictor = Predictor(model(settings=changed, teacher=Sided()), device=CPU, **options)  # type: ignore[arg-type]
        return predictor.probabilities(array)["teacher"]

    of_model = probability(settings)
    given = probability(settings, **{option: other})
    assert np.abs(of_model - given).max() > 0.01
    assert given == pytest.approx(probability(replace(settings, **{option: other})), abs=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("network", "expected"), [(None, 0.9), ("teacher", 0.9), ("student_1", 0.6), ("mean", (0.6 + 0.3 + 0.9) / 3)]
)
def test_the_network_asked_for_predicts(network: str | None, expected: float) -> None:
    scan, _ = scan_and_truth((18, 18, 18), (1.0, 1.0, 1.0), np.eye(3))
    networks = {"student_1": Constant(0.6), "student_2": Constant(0.3), "teacher": Constant(0.9)}
    prediction = Predictor(model(**networks), device=CPU, network=network).predict(scan)
    assert sitk.GetArrayFromImage(prediction.probability) == pytest.approx(expected, abs=1e-5)
    assert prediction.figures["network"] == (network or "teacher")


def test_figures_are_those_worked_out_by_hand() -> None:
    scan, _ = scan_and_truth((40, 46, 32), (1.0, 1.0, 1.0), np.eye(3))
    networks = {"student_1": Constant(0.9), "student_2": Constant(0.2), "teacher": Threshold(halfway(scan), 1e4)}
    predictor = Predictor(model(**networks), device=CPU)
    prediction = predictor.predict(scan, uncertainty=True)
    figures = prediction.figures
    array = prepare_scan(scan, SETTINGS.spacing_mm).array
    share = (array > halfway(scan)).mean()
    agreement = figures["agreement"]
    assert agreement["student_1, student_2"] == 0.0  # everything against nothing
    assert agreement["student_2, teacher"] == 0.0
    assert agreement["student_1, teacher"] == pytest.approx(2 * share / (1 + share), rel=1e-4)
    assert agreement["mean"] == pytest.approx(agreement["student_1, teacher"] / 3)
    # The teacher is certain of nearly every voxel, so that the students' |0.9 - 0.2| is the uncertainty.
    assert figures["mean_uncertainty_near_surface"] == pytest.approx(0.7, abs=0.01)
    assert np.median(sitk.GetArrayFromImage(prediction.uncertainty)) == pytest.approx(0.7, abs=1e-4)
    assert figures["spacing_mm"] == [1.25, 1.25, 1.25]
    assert len(figures["model"].pop("weights")) == 12
    assert figures["model"] == {"method": "colearning", "preset": "demo", "iteration": 7}
    assert figures["note"] is None


def test_a_lone_network_has_no_agreement_but_an_uncertainty() -> None:
    scan, _ = scan_and_truth((40, 46, 32), (1.0, 1.0, 1.0), np.eye(3))
    predictor = Predictor(model("network", network=Threshold(halfway(scan), 0.5)), device=CPU)
    figures = predictor.predict(scan).figures
    assert figures["agreement"] is None
    assert 0.5 < figures["mean_uncertainty_near_surface"] <= 1


def test_without_figures_only_the_network_that_predicts_is_asked() -> None:
    scan, _ = scan_and_truth((18, 18, 18), (1.0, 1.0, 1.0), np.eye(3))
    students = Constant(0.6), Constant(0.3)
    networks = {"student_1": students[0], "student_2": students[1], "teacher": Constant(0.9)}
    predictor = Predictor(model(**networks), device=CPU)
    figures = predictor.predict(scan, figures=False).figures
    assert [student.calls for student in students] == [0, 0]
    assert (figures["agreement"], figures["mean_uncertainty_near_surface"]) == (None, None)
    assert figures["volume_ml"] == pytest.approx(18**3 / 1000)
    predictor.predict(scan)
    assert all(student.calls for student in students)


def test_a_wrong_network_and_overlap_are_refused_together() -> None:
    with pytest.raises(InputError) as refusal:
        Predictor(model(teacher=Constant(0.5)), device=CPU, network="student_3", overlap=0.96)
    assert str(refusal.value).splitlines() == [
        "--network: Wanted one of teacher, mean, found 'student_3'. Choose one.",
        "--overlap: Wanted a share between 0 and 0.95, found 0.96. Try 0.25.",
    ]


@pytest.fixture
def scan_file(tmp_path: Path) -> Path:
    scan, _ = scan_and_truth((20, 22, 18), (1.0, 1.0, 1.5), OBLIQUE, noise=2)
    path = tmp_path / "scans of Jane Doe" / "scan.nrrd"
    path.parent.mkdir()
    sitk.WriteImage(scan, str(path))
    return path


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(
        model(student_1=Constant(0.7), student_2=Constant(0.6), teacher=Threshold(1.0)),
        device=CPU,
    )


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_each_case_has_its_folder_with_segmentation_and_figures(
    tmp_path: Path, scan_file: Path, predictor: Predictor
) -> None:
    output = tmp_path / "output"
    announced: list[PredictedCase] = []
    done = predict_files(predictor, [("a", scan_file), ("b", scan_file)], output, on_done=announced.append)
    assert done == announced
    assert [(case.id, case.folder) for case in done] == [("a", output / "a"), ("b", output / "b")]
    assert contents(output) == ["a", "b"]
    assert contents(output / "a") == ["figures.json", "segmentation.seg.nrrd"]
    text = (output / "a" / "figures.json").read_text(encoding="utf-8")
    assert json.loads(text) == done[0].figures
    assert "Doe" not in text and str(tmp_path) not in text
    mask = sitk.ReadImage(str(output / "a" / "segmentation.seg.nrrd"))
    expected = predictor.predict(sitk.ReadImage(str(scan_file))).mask
    assert sitk.GetArrayFromImage(expected).any()
    assert np.array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(expected))


def test_nifti_and_volumes_are_written_on_request(tmp_path: Path, scan_file: Path, predictor: Predictor) -> None:
    predict_files(predictor, [("a", scan_file)], tmp_path / "output", nifti=True, volumes=True, figures=False)
    folder = tmp_path / "output" / "a"
    assert contents(folder) == [
        "figures.json",
        "network-student_1.seg.nrrd",
        "network-student_2.seg.nrrd",
        "probability.nrrd",
        "segmentation.nii.gz",
        "segmentation.seg.nrrd",
        "uncertainty.nrrd",
    ]
    images = {name: sitk.GetArrayFromImage(sitk.ReadImage(str(folder / name))) for name in contents(folder)[1:]}
    assert np.array_equal(images["segmentation.nii.gz"], images["segmentation.seg.nrrd"])
    expected = predictor.predict(sitk.ReadImage(str(scan_file)), uncertainty=True)
    assert np.array_equal(images["probability.nrrd"], sitk.GetArrayFromImage(expected.probability))
    assert np.array_equal(images["uncertainty.nrrd"], sitk.GetArrayFromImage(expected.uncertainty))
    student = Predictor(predictor.model, device=predictor.device, network="student_2").predict(
        sitk.ReadImage(str(scan_file))
    )
    assert np.array_equal(images["network-student_2.seg.nrrd"], sitk.GetArrayFromImage(student.mask))
    # A later prediction without them takes away those of the earlier model.
    predict_files(predictor, [("a", scan_file)], tmp_path / "output", overwrite=True)
    assert contents(folder) == ["figures.json", "segmentation.seg.nrrd"]


@pytest.mark.parametrize("present", ["segmentation.seg.nrrd", "probability.nrrd"])
def test_results_that_are_there_are_refused_before_anything_is_segmented(
    tmp_path: Path, scan_file: Path, predictor: Predictor, present: str
) -> None:
    output = tmp_path / "output"
    (output / "b").mkdir(parents=True)
    (output / "b" / present).write_text("corrected by hand")
    (output / "b" / "figures.json").write_text("{}")
    with pytest.raises(InputError) as refusal:
        predict_files(predictor, [("a", scan_file), ("b", scan_file)], output)
    assert str(refusal.value) == (
        "b: There are results in the output folder already. Give another output folder, replace them with "
        "--overwrite, or continue an interrupted prediction with --only-missing."
    )
    assert contents(output) == ["b"]
    assert (output / "b" / present).read_text() == "corrected by hand"


@pytest.mark.parametrize("own", ["segmentation.nii.gz", "segmentation.seg.nrrd"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_that_is_only_named_as_a_result_is_never_replaced(
    tmp_path: Path, scan_file: Path, predictor: Predictor, own: str, overwrite: bool
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / own).write_text("outlined by hand")
    with pytest.raises(InputError, match=r"a: .*are not results without figures.json"):
        predict_files(predictor, [("a", scan_file)], tmp_path, overwrite=overwrite)
    assert contents(tmp_path / "a") == [own]


def test_only_scans_without_a_segmentation_are_left_to_predict(
    tmp_path: Path, scan_file: Path, predictor: Predictor
) -> None:
    scans = [(case_id, scan_file) for case_id in "abc"]
    predict_files(predictor, scans[:2], tmp_path)
    (tmp_path / "b" / "segmentation.seg.nrrd").unlink()
    assert without_results(scans, tmp_path, predictor) == scans[1:]
    figures = json.loads((tmp_path / "a" / "figures.json").read_text())
    for other in ({"network": "student_1"}, {"overlap": 0.1}):
        with pytest.raises(InputError, match="a, b: There are files .* this model did not make, or"):
            without_results(scans, tmp_path, Predictor(predictor.model, device=predictor.device, **other))
    # As earlier versions wrote them.
    del figures["model"]["weights"], figures["overlap"], figures["mirror"], figures["zoom"]
    (tmp_path / "a" / "figures.json").write_text(json.dumps(figures))
    assert without_results(scans, tmp_path, predictor) == scans[1:]
    # Which had no zoom: their results are not mixed with others.
    with pytest.raises(InputError, match="a, b: There are files"):
        without_results(scans, tmp_path, Predictor(predictor.model, device=predictor.device, zoom=1.25))
    (tmp_path / "a" / "figures.json").unlink()
    with pytest.raises(InputError, match="a: There are files"):
        without_results(scans, tmp_path, predictor)


def test_a_segmentation_of_another_scan_with_the_same_id_is_not_taken_for_this_ones(
    tmp_path: Path, scan_file: Path, predictor: Predictor
) -> None:
    other = tmp_path / "other.nrrd"
    scan = sitk.ReadImage(str(scan_file))
    sitk.WriteImage(scan + 1, str(other))
    # The same scan in another format is the same scan.
    again = tmp_path / "again.nii.gz"
    sitk.WriteImage(scan, str(again))
    output = tmp_path / "output"
    predict_files(predictor, [("scan_1", scan_file), ("scan_2", other)], output)
    assert without_results([("scan_1", again), ("scan_2", other)], output, predictor) == []
    with pytest.raises(InputError) as refusal:
        without_results([("scan_1", other), ("scan_2", scan_file)], output, predictor)
    assert str(refusal.value) == (
        "scan_1, scan_2: The segmentation in the output folder is that of another scan. Give another output folder, "
        "or replace all with --overwrite."
    )


@pytest.mark.parametrize("name", ["segmentation.nii.gz", "figures.json", "network-student_1.seg.nrrd"])
def test_files_of_anothers_are_never_replaced_unasked(
    name: str, tmp_path: Path, scan_file: Path, predictor: Predictor
) -> None:
    own = tmp_path / "a" / name
    own.parent.mkdir()
    own.write_text("made by hand")
    with pytest.raises(InputError, match="a: (There are results|Files) in the output folder"):
        predict_files(predictor, [("a", scan_file)], tmp_path)
    with pytest.raises(InputError, match="a: There are files in the output folder that this model did not make"):
        without_results([("a", scan_file)], tmp_path, predictor)
    assert own.read_text() == "made by hand"


@pytest.mark.parametrize("rank", ["0", "1"])
def test_each_of_several_processes_sees_what_another_model_has_made(
    rank: str, tmp_path: Path, scan_file: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict_files(
        Predictor(predictor.model, device=predictor.device, network="student_1"), [("b", scan_file)], tmp_path
    )
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("LASegColearnLib.prediction.load_model", lambda _: predictor.model)
    with pytest.raises(InputError, match="b: There are files"):
        predict(tmp_path / "a.pt", [("a", scan_file), ("b", scan_file)], tmp_path, only_missing=True, device="cpu")
    assert not (tmp_path / "a").exists()


def test_other_weights_of_the_same_iteration_are_another_model(predictor: Predictor) -> None:
    networks = copy.deepcopy(predictor.model.networks)
    same = Predictor(replace(predictor.model, networks=networks), device=predictor.device)
    assert same.origin == predictor.origin
    networks["teacher"].register_buffer("weight", torch.ones(1))
    changed = Predictor(replace(predictor.model, networks=networks), device=predictor.device)
    assert changed.origin != predictor.origin


@pytest.mark.parametrize("rank", ["0", "1"])
def test_each_of_several_processes_refuses_an_id_of_two_scans(
    rank: str, tmp_path: Path, scan_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="a: "):
        predict(tmp_path / "none.pt", [("a", scan_file), ("a", scan_file)], tmp_path / "output")


def test_overwriting_leaves_nothing_of_the_earlier_prediction_and_all_else(
    tmp_path: Path, scan_file: Path, predictor: Predictor
) -> None:
    output = tmp_path / "output"
    predict_files(predictor, [("a", scan_file)], output, nifti=True, volumes=True)
    (output / "a" / "notes.txt").write_text("mine")
    (output / "a" / "figures.json").write_text("old")
    predict_files(predictor, [("a", scan_file)], output, overwrite=True)
    assert contents(output / "a") == ["figures.json", "notes.txt", "segmentation.seg.nrrd"]
    assert json.loads((output / "a" / "figures.json").read_text())["network"] == "teacher"


def test_an_overwriting_that_the_disk_has_no_room_for_leaves_what_was_there(
    tmp_path: Path, scan_file: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "output"
    predict_files(predictor, [("a", scan_file)], output, nifti=True)
    before = {file.name: file.read_bytes() for file in (output / "a").iterdir()}

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("LASegColearnLib.prediction_files.write_mask", full)
    with pytest.raises(OSError, match="No space"):
        predict_files(predictor, [("a", scan_file)], output, overwrite=True)
    assert {file.name: file.read_bytes() for file in (output / "a").iterdir()} == before


def test_what_a_prediction_that_was_ended_has_left_is_removed(
    tmp_path: Path, scan_file: Path, predictor: Predictor
) -> None:
    output = tmp_path / "output"
    predict_files(predictor, [("a", scan_file)], output)
    (output / "a" / ".new-0").mkdir()
    (output / "a" / ".new-0" / "probability.nrrd").write_bytes(b"NRRD0004\n")
    predict_files(predictor, [("a", scan_file)], output, overwrite=True)
    assert contents(output / "a") == ["figures.json", "segmentation.seg.nrrd"]


def test_an_overwriting_that_is_broken_off_as_it_is_put_in_place_leaves_no_segmentation_of_before(
    tmp_path: Path, scan_file: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    output = tmp_path / "output"
    predict_files(predictor, [("a", scan_file)], output)
    real = os.replace

    def broken_off(source: Any, target: Any) -> None:
        if Path(target).parent == output / "a" and Path(target).name == "segmentation.seg.nrrd":
            raise OSError(5, "Input/output error")
        real(source, target)

    monkeypatch.setattr(os, "replace", broken_off)
    with pytest.raises(OSError, match="Input/output"):
        predict_files(predictor, [("a", scan_file)], output, overwrite=True)
    assert [file.name for file in (output / "a").iterdir()] == ["figures.json"]


def test_ids_that_cannot_be_folders_are_refused_all_at_once(
    tmp_path: Path, scan_file: Path, predictor: Predictor
) -> None:
    ids = ["../a", ".b", "c.", "d", "D", "e e", ""]
    with pytest.raises(InputError) as refusal:
        predict_files(predictor, [(case_id, scan_file) for case_id in ids], tmp_path / "output")
    assert [problem.case for problem in refusal.value.problems] == ["../a", ".b", "c.", "D", "e e", ""]
    assert "Two cases have this id" in refusal.value.problems[3].cause
    assert not (tmp_path / "output").exists()


def test_an_output_that_is_a_file_is_refused(scan_file: Path, predictor: Predictor) -> None:
    with pytest.raises(InputError, match="Wanted a folder for the results, found a file"):
        predict_files(predictor, [("a", scan_file)], scan_file)


def test_scans_that_cannot_be_read_do_not_stop_the_others_and_are_named_together(
    tmp_path: Path, scan_file: Path, predictor: Predictor
) -> None:
    broken = tmp_path / "broken.nrrd"
    broken.write_text("NRRD0004\n")
    missing = tmp_path / "missing.nrrd"
    done: list[PredictedCase] = []
    with pytest.raises(InputError) as refusal:
        predict_files(
            predictor, [("x", broken), ("y", missing), ("z", scan_file)], tmp_path / "out", on_done=done.append
        )
    text = str(refusal.value)
    assert len(refusal.value.problems) == 2
    assert "x: The scan's file cannot be read" in text
    assert "missing.nrrd" in text
    assert [case.id for case in done] == ["z"]
    assert contents(tmp_path / "out") == ["z"]


@pytest.mark.parametrize("name", ["segmentation.seg.nrrd", "uncertainty.nrrd"])
def test_a_result_that_another_program_has_open_does_not_stop_the_others(
    tmp_path: Path, scan_file: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    scans = [("open", scan_file), ("z", scan_file)]
    predict_files(predictor, scans, tmp_path / "out", volumes=True)
    remove = Path.unlink

    def held(file: Path, missing_ok: bool = False) -> None:
        if file.parent.name == "open" and file.name == name and file.exists():
            raise PermissionError(13, "The process cannot access the file")
        remove(file, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", held)
    done: list[PredictedCase] = []
    with pytest.raises(InputError, match="^open: Its earlier result could not be replaced.*Close it there"):
        predict_files(predictor, scans, tmp_path / "out", overwrite=True, on_done=done.append)
    assert [case.id for case in done] == ["z"]


_NO_MEMORY = "There is not enough memory to segment it"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError, _NO_MEMORY),
        (torch.cuda.OutOfMemoryError, _NO_MEMORY),
        (lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory"), _NO_MEMORY),
        (
            lambda: PredictionError("No number."),
            "The network's output for this scan contains NaN or infinity.",
        ),
    ],
)
def test_a_scan_that_cannot_be_segmented_does_not_stop_the_others(
    tmp_path: Path,
    scan_file: Path,
    predictor: Predictor,
    monkeypatch: pytest.MonkeyPatch,
    error: Callable[[], Exception],
    said: str,
) -> None:
    predict = predictor.predict
    calls: list[bool] = []

    def fail_at_first(scan: sitk.Image, **options: bool) -> object:
        calls.append(True)
        if len(calls) == 1:
            raise error()
        return predict(scan, **options)

    monkeypatch.setattr(predictor, "predict", fail_at_first)
    with pytest.raises(InputError, match=f"^a: {said}"):
        predict_files(predictor, [("a", scan_file), ("b", scan_file)], tmp_path / "out")
    assert contents(tmp_path / "out") == ["b"]


def test_scans_without_ids_get_those_that_a_cohort_gives() -> None:
    paths = [Path("p1/mri_0000.nii.gz"), Path("p2/image.nrrd"), Path("p3/x.seg.nrrd")]
    assert case_ids(paths) == list(zip(["mri", "p2", "x"], paths, strict=True))
