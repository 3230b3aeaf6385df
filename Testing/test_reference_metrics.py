"""One mask against several references gives what each pair gives alone, and what medpy gives."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from medpy.metric import binary

from LASegColearnLib import metrics, reference_metrics
from LASegColearnLib.metrics import Metrics, segmentation_metrics
from LASegColearnLib.phantom import make_phantom
from LASegColearnLib.preprocessing import to_array
from LASegColearnLib.reference_metrics import Change, ReferenceMetrics

SPACING = (1.25, 0.6, 2.5)


def _blob(center=(12, 10, 9), radius=6.0, shape=(26, 22, 20)) -> np.ndarray:
    places = np.ogrid[tuple(slice(side) for side in shape)]
    return sum((place - middle) ** 2 for place, middle in zip(places, center, strict=True)) < radius**2


def _noise(seed: int, share: float, shape=(26, 22, 20)) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < share


MASKS = {
    "blob": _blob(),
    "neighbor": _blob((14, 9, 10), 5.0),
    "single voxel": _blob(radius=0.5),
    "corner": _blob((0, 0, 0), 4.0),
    "two parts": _blob((5, 5, 5), 3.0) | _blob((20, 16, 15), 3.0),
    "sparse noise": _noise(0, 0.02),
    "dense noise": _noise(1, 0.6),
    "everything": np.ones((26, 22, 20), bool),
    "empty": np.zeros((26, 22, 20), bool),
}


def _assert_equal(found: Metrics, wanted: Metrics) -> None:
    for field in dataclasses.fields(Metrics):
        a, b = getattr(found, field.name), getattr(wanted, field.name)
        assert a == b if field.name == "note" else a == pytest.approx(b, abs=1e-9, nan_ok=True), field.name


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), SPACING])
@pytest.mark.parametrize("name", MASKS)
def test_each_reference_gets_the_values_of_its_pair_alone(name: str, spacing: tuple[float, float, float]) -> None:
    found = ReferenceMetrics(MASKS, spacing).compare(MASKS[name])
    assert list(found) == list(MASKS)
    for reference, mask in MASKS.items():
        _assert_equal(found[reference], segmentation_metrics(MASKS[name], mask, spacing))


def test_values_stay_the_same_whatever_was_compared_before() -> None:
    compared = ReferenceMetrics(MASKS, SPACING)
    for _ in range(2):
        for mask in MASKS.values():
            for reference, found in compared.compare(mask).items():
                _assert_equal(found, segmentation_metrics(mask, MASKS[reference], SPACING))


@pytest.mark.parametrize("seed", range(3))
def test_values_follow_a_mask_from_stroke_to_stroke(seed: int) -> None:
    rng, shape = np.random.default_rng(seed), (60, 50, 55)
    references = {
        "teacher": _blob((30, 25, 27), 16, shape),
        "student_1": _blob((32, 25, 24), 15, shape),
        "student_2": _blob((20, 20, 20), 8, shape) | _blob((40, 30, 30), 9, shape),
    }
    compared, mask = ReferenceMetrics(references, SPACING), references["teacher"].copy()
    searched = []
    for stroke in range(24):
        found = compared.compare(mask)
        for name, reference in references.items():
            _assert_equal(found[name], segmentation_metrics(mask, reference, SPACING))
        searched.append(compared._followers["teacher"]._known is not None)
        place = np.argwhere(mask)[rng.integers(np.count_nonzero(mask))] if mask.any() else np.array(shape) // 2
        ball = _blob(tuple(place + rng.integers(-6, 7, 3)), rng.uniform(1, 7), shape)
        mask = mask & ~ball if stroke % 3 == 0 else np.roll(mask, 3, 1) if stroke % 10 == 9 else mask | ball
    assert all(searched)


def test_a_mask_that_is_empty_for_a_while_is_followed_again() -> None:
    compared = ReferenceMetrics(MASKS, SPACING)
    before = compared.compare(MASKS["blob"])
    compared.compare(MASKS["empty"])
    for name, found in compared.compare(MASKS["neighbor"]).items():
        _assert_equal(found, segmentation_metrics(MASKS["neighbor"], MASKS[name], SPACING))
    for name, found in compared.compare(MASKS["blob"]).items():
        _assert_equal(found, before[name])


@pytest.mark.parametrize("fewest_voxels", [0, 10**9])
def test_search_and_distance_transform_give_the_same(fewest_voxels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {name: segmentation_metrics(MASKS["blob"], mask, SPACING) for name, mask in MASKS.items()}
    monkeypatch.setattr(metrics, "_FEWEST_VOXELS_FOR_SEARCH", fewest_voxels)
    monkeypatch.setattr(reference_metrics, "_FEWEST_VOXELS_TO_FOLLOW", fewest_voxels)
    for name, found in ReferenceMetrics(MASKS, SPACING).compare(MASKS["blob"]).items():
        _assert_equal(found, wanted[name])


def test_values_equal_medpys_where_neither_mask_is_empty() -> None:
    masks = {name: mask for name, mask in MASKS.items() if mask.any()}
    phantom = to_array(make_phantom(1, "plain")[1]) > 0
    pairs = [(mask, masks) for mask in masks.values()]
    pairs.append((np.roll(phantom, (2, -1, 1), (0, 1, 2)), {"teacher": phantom}))
    for mask, references in pairs:
        for name, found in ReferenceMetrics(references, SPACING).compare(mask).items():
            reference = references[name]
            assert found.dice == pytest.approx(binary.dc(mask, reference), abs=1e-9)
            assert found.jaccard == pytest.approx(binary.jc(mask, reference), abs=1e-9)
            assert found.hd95 == pytest.approx(binary.hd95(mask, reference, SPACING), abs=1e-9)
            assert found.asd == pytest.approx(binary.asd(mask, reference, SPACING), abs=1e-9)


def test_the_change_of_a_reference_is_in_ml_and_a_share_of_it() -> None:
    reference = _blob()
    edited = reference.copy()
    edited[12, 10, 7:11] = False
    edited[0, 0, :3] = True
    compared = ReferenceMetrics({"teacher": reference, "student_1": MASKS["empty"]}, SPACING)
    voxel = math.prod(SPACING) / 1000
    change = compared.change(edited, "teacher")
    assert change.ml == pytest.approx(7 * voxel)
    assert change.share == pytest.approx(7 / np.count_nonzero(reference))
    assert compared.change(reference, "teacher") == Change(0.0, 0.0)
    assert compared.change(edited, "student_1").share is None
    assert compared.volume_ml(edited) == pytest.approx(np.count_nonzero(edited) * voxel)
    assert compared.volume_ml(MASKS["empty"]) == 0


def test_references_are_copies_and_labels_count_as_inside() -> None:
    labels = _blob().astype(np.uint8) * 3
    compared = ReferenceMetrics({"teacher": labels}, SPACING)
    before = compared.compare(MASKS["neighbor"])
    labels[:] = 0
    assert compared.compare(MASKS["neighbor"]) == before
    assert before["teacher"].reference_volume_ml == pytest.approx(compared.volume_ml(_blob()))


def test_a_box_of_the_array_gives_what_the_whole_mask_gives() -> None:
    references = {"teacher": _blob((8, 8, 8), 3), "student_1": MASKS["empty"]}
    for name, mask in MASKS.items():
        for start, stop in (((0, 0, 0), mask.shape), ((3, 2, 1), (25, 20, 19)), ((2, 2, 2), (2, 2, 2))):
            box = tuple(slice(*side) for side in zip(start, stop, strict=True))
            whole = np.zeros_like(mask)
            whole[box] = mask[box]
            boxed, compared = ReferenceMetrics(references, SPACING), ReferenceMetrics(references, SPACING)
            wanted = compared.compare(whole)
            for reference, found in boxed.compare(mask[box], start).items():
                _assert_equal(found, wanted[reference])
                _assert_equal(found, segmentation_metrics(whole, references[reference], SPACING))
            assert boxed.change(mask[box], "teacher", start) == compared.change(whole, "teacher"), name


def test_a_box_that_reaches_out_of_the_array_is_refused() -> None:
    compared = ReferenceMetrics({"teacher": _blob()}, SPACING)
    for start in ((-1, 0, 0), (25, 0, 0)):
        with pytest.raises(ValueError, match="different shapes"):
            compared.compare(np.ones((2, 2, 2), bool), start)


def test_without_references_there_is_the_volume_alone() -> None:
    compared = ReferenceMetrics({}, SPACING)
    assert compared.compare(_blob()) == {}
    assert compared.volume_ml(_blob()) > 0
    with pytest.raises(KeyError):
        compared.change(_blob(), "teacher")


def test_masks_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="different shapes"):
        ReferenceMetrics({"teacher": np.zeros((2, 2, 2)), "student_1": np.zeros((2, 2, 3))}, SPACING)
    compared = ReferenceMetrics({"teacher": _blob()}, SPACING)
    for call in (compared.compare, lambda mask: compared.change(mask, "teacher")):
        with pytest.raises(ValueError, match="different shapes"):
            call(np.ones((2, 2, 3)))
