"""Metrics against medpy, on phantoms and awkward shapes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from medpy.metric import binary

from LASegColearnLib import metrics
from LASegColearnLib.metrics import segmentation_metrics
from LASegColearnLib.phantom import make_phantom
from LASegColearnLib.preprocessing import to_array


def _blob(shape=(14, 12, 10), box=((3, 9), (2, 8), (3, 7))) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*side) for side in box)] = True
    return mask


def _voxel(place, shape=(14, 12, 10)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[place] = True
    return mask


def _noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((11, 9, 8)) > 0.6


def _phantoms() -> tuple[np.ndarray, np.ndarray]:
    label = to_array(make_phantom(1, "plain")[1]) > 0
    return np.roll(label, (2, -1, 1), (0, 1, 2)), label


PAIRS = {
    "blob and its neighbor": (_blob(), _blob(box=((4, 11), (2, 9), (2, 7)))),
    "identical": (_blob(), _blob()),
    "disjoint": (_blob(box=((0, 3), (0, 3), (0, 3))), _blob(box=((10, 14), (9, 12), (7, 10)))),
    "single voxels": (_voxel((0, 0, 0)), _voxel((13, 11, 9))),
    "voxel in a blob": (_voxel((5, 5, 5)), _blob()),
    "touching every border": (np.ones((6, 7, 5), bool), _blob((6, 7, 5), ((1, 4), (0, 7), (2, 5)))),
    "one slice": (_blob((9, 8, 1), ((2, 7), (1, 6), (0, 1))), _blob((9, 8, 1), ((3, 9), (1, 8), (0, 1)))),
    "several parts": (_noise(0), _noise(1)),
    "phantoms": _phantoms(),
    "phantoms far apart": (np.roll(_phantoms()[0], 40, 0), _phantoms()[1]),
    "single voxels far apart": (_voxel((0, 0, 0), (60, 50, 40)), _voxel((59, 49, 39), (60, 50, 40))),
    "phantom in all foreground": (np.ones_like(_phantoms()[1]), _phantoms()[1]),
    "phantom cut by the array's edge": tuple(mask[20:-20, 20:-20, 20:-20] for mask in _phantoms()),
    "all foreground twice": (np.ones((7, 6, 5), bool), np.ones((7, 6, 5), bool)),
}


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.625, 1.3, 2.5)])
@pytest.mark.parametrize("name", PAIRS)
def test_metrics_equal_medpys(name: str, spacing: tuple[float, float, float]) -> None:
    prediction, reference = PAIRS[name]
    found = segmentation_metrics(prediction, reference, spacing)
    assert found.dice == pytest.approx(binary.dc(prediction, reference), abs=1e-6)
    assert found.jaccard == pytest.approx(binary.jc(prediction, reference), abs=1e-6)
    assert found.hd95 == pytest.approx(binary.hd95(prediction, reference, spacing), abs=1e-6)
    assert found.asd == pytest.approx(binary.asd(prediction, reference, spacing), abs=1e-6)
    assert found.note == ""


@pytest.mark.parametrize("fewest_voxels", [0, 10**9])
def test_search_and_distance_transform_find_the_same_distances(
    fewest_voxels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    prediction, reference = PAIRS["phantoms"]
    spacing = (0.625, 1.3, 2.5)
    monkeypatch.setattr(metrics, "_FEWEST_VOXELS_FOR_SEARCH", fewest_voxels)
    found = segmentation_metrics(prediction, reference, spacing)
    assert found.hd95 == pytest.approx(binary.hd95(prediction, reference, spacing), abs=1e-6)
    assert found.asd == pytest.approx(binary.asd(prediction, reference, spacing), abs=1e-6)


def test_asd_goes_from_the_prediction_to_the_reference() -> None:
    small, large = _voxel((5, 5, 5)), _blob()
    assert segmentation_metrics(small, large, (1, 1, 1)).asd != segmentation_metrics(large, small, (1, 1, 1)).asd


def test_distances_in_voxels_ignore_the_spacing_and_volumes_do_not() -> None:
    a, b = PAIRS["blob and its neighbor"]
    found = segmentation_metrics(a, b, (0.5, 0.5, 2.0), in_voxels=True)
    assert found.hd95 == pytest.approx(binary.hd95(a, b))
    assert found.volume_ml == pytest.approx(a.sum() * 0.5 / 1000)
    assert found.volume_difference_ml == pytest.approx((int(a.sum()) - int(b.sum())) * 0.5 / 1000)


@pytest.mark.parametrize(
    ("prediction", "reference", "overlap", "note"),
    [
        (np.zeros((14, 12, 10)), _blob(), 0.0, "Nothing was predicted"),
        (_blob(), np.zeros((14, 12, 10)), 0.0, "The label is empty"),
        (np.zeros((14, 12, 10)), np.zeros((14, 12, 10)), 1.0, "Prediction and label are empty"),
    ],
)
def test_empty_masks_have_no_distances_and_it_is_said(prediction, reference, overlap: float, note: str) -> None:
    found = segmentation_metrics(prediction, reference, (1, 1, 1))
    assert (found.dice, found.jaccard) == (overlap, overlap)
    assert math.isnan(found.hd95)
    assert math.isnan(found.asd)
    assert found.note.startswith(note)


def test_masks_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="different shapes"):
        segmentation_metrics(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)), (1, 1, 1))


@pytest.mark.parametrize("seed", range(8))
def test_metrics_equal_medpys_on_random_shapes_and_spacings(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape, spacing = tuple(rng.integers(1, 13, 3)), tuple(rng.uniform(0.3, 4.0, 3))
    prediction, reference = (rng.random(shape) < rng.uniform(0.02, 0.95) for _ in range(2))
    # A voxel in corners of the array: neither mask is empty, and both touch the border.
    prediction[0, 0, 0] = reference[-1, -1, -1] = True
    found = segmentation_metrics(prediction, reference, spacing)
    assert found.dice == pytest.approx(binary.dc(prediction, reference), abs=1e-6)
    assert found.jaccard == pytest.approx(binary.jc(prediction, reference), abs=1e-6)
    assert found.hd95 == pytest.approx(binary.hd95(prediction, reference, spacing), abs=1e-6)
    assert found.asd == pytest.approx(binary.asd(prediction, reference, spacing), abs=1e-6)
