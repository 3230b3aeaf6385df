"""Moved patches are what a moved scan would show there; other intensities leave a patch recognizable."""

from __future__ import annotations

import numpy as np
import pytest

from LASegColearnLib import augmentation
from LASegColearnLib.augmentation import affine_elastic_patch, augmented_intensities

SPACING = (1.25, 1.25, 1.25)


def _ball(shape: tuple[int, int, int], middle: tuple[float, float, float], radius: float) -> np.ndarray:
    distance = sum((axis - m) ** 2 for axis, m in zip(np.indices(shape), middle, strict=True))
    return (distance <= radius**2).astype(np.uint8)


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is turned, scaled, stretched or bent, until a test says otherwise."""
    for name in ("_MOST_TURN", "_MOST_SCALE", "_MOST_STRETCH", "_BEND_MM"):
        monkeypatch.setattr(augmentation, name, 0.0)


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("start", [(3, 2, 1), (0, 0, 0), (-2, 5, 9), (12, 10, 8)])
def test_a_patch_that_is_not_moved_is_the_scans_with_zeros_where_that_ends(start: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(5, 1, (20, 18, 16)).astype(np.float32)
    label = (rng.random(image.shape) < 0.3).astype(np.uint8)
    size = (12, 10, 11)
    patch, label_patch = affine_elastic_patch(image, label, start, size, SPACING, rng)
    around = [(16, 16)] * 3
    box = tuple(slice(first + 16, first + 16 + side) for first, side in zip(start, size, strict=True))
    np.testing.assert_allclose(patch, np.pad(image, around)[box], atol=1e-4)
    np.testing.assert_array_equal(label_patch, np.pad(label, around)[box])


@pytest.mark.usefixtures("still")
def test_turns_are_turns_in_mm_however_long_voxels_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "_MOST_TURN", 0.5)
    # A ball in mm on voxels of 1 x 1 x 2.5 mm stays that ball, whatever it is turned by.
    indices = np.indices((60, 60, 24)).astype(float)
    distance = sum(((axis - m) * mm) ** 2 for axis, m, mm in zip(indices, (29.5, 29.5, 11.5), (1, 1, 2.5), strict=True))
    ball = (distance <= 20**2).astype(np.uint8)
    for seed in range(5):
        _, found = affine_elastic_patch(
            ball.astype(np.float32), ball, (0, 0, 0), ball.shape, (1.0, 1.0, 2.5), _rng(seed)
        )
        overlap = 2 * np.count_nonzero(found & ball) / (np.count_nonzero(found) + np.count_nonzero(ball))
        assert overlap > 0.97


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize(("name", "value", "least"), [("_MOST_SCALE", 0.3, 0.1), ("_MOST_STRETCH", 0.3, 0.1)])
def test_scale_and_stretch_change_the_volume(
    monkeypatch: pytest.MonkeyPatch, name: str, value: float, least: float
) -> None:
    monkeypatch.setattr(augmentation, name, value)
    ball = _ball((40, 40, 40), (19.5, 19.5, 19.5), 10)
    volumes = [
        np.count_nonzero(affine_elastic_patch(ball, ball, (0, 0, 0), ball.shape, SPACING, _rng(seed))[1])
        for seed in range(20)
    ]
    logs = np.log(np.array(volumes) / np.count_nonzero(ball))
    assert logs.min() < -least < least < logs.max()
    assert np.abs(logs).max() <= 3 * value + 0.05


@pytest.mark.usefixtures("still")
def test_bending_moves_places_by_a_few_mm_and_smoothly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "_BEND_MM", 3.0)
    ramp = np.indices((64, 64, 48))[0].astype(np.float32)
    patch, _ = affine_elastic_patch(ramp, None, (0, 0, 0), ramp.shape, SPACING, _rng(1))
    moved = (patch - ramp)[16:-16, 16:-16, 12:-12]
    assert 0.3 < moved.std() * SPACING[0] < 5
    assert np.abs(np.diff(moved, axis=0)).max() < 1


def test_image_and_label_are_moved_alike_and_without_a_label_there_is_an_empty_one() -> None:
    ball = _ball((50, 48, 40), (22, 25, 19), 11)
    for seed in range(10):
        patch, found = affine_elastic_patch(ball.astype(np.float32), ball, (4, 4, 2), (40, 40, 36), SPACING, _rng(seed))
        np.testing.assert_array_equal(found, patch >= 0.5)
        assert (patch.dtype, found.dtype) == (np.float32, np.uint8)
        alone, nothing = affine_elastic_patch(
            ball.astype(np.float32), None, (4, 4, 2), (40, 40, 36), SPACING, _rng(seed)
        )
        np.testing.assert_array_equal(alone, patch)
        assert nothing.shape == (40, 40, 36)
        assert not nothing.any()


def test_only_the_part_around_the_patch_is_read() -> None:
    class Watched(np.ndarray):
        largest = 0

        def __getitem__(self, key):  # noqa: ANN001, ANN204
            part = super().__getitem__(key)
            Watched.largest = max(Watched.largest, part.size)
            return part

    scan = np.zeros((200, 200, 100), np.float32).view(Watched)
    affine_elastic_patch(scan, None, (80, 80, 40), (32, 32, 32), SPACING, _rng(0))
    assert 0 < Watched.largest < 80**3


def test_other_intensities_keep_the_order_of_tissues_and_differ_from_each_other() -> None:
    tissue = np.where(_ball((32, 32, 32), (16, 16, 16), 10) > 0, 1.0, -1.0).astype(np.float32)
    seen = [augmented_intensities(tissue, _rng(seed)) for seed in range(30)]
    for patch in seen:
        assert patch.dtype == np.float32
        assert patch[tissue > 0].mean() > patch[tissue < 0].mean() + 0.8
    assert np.std([patch[tissue > 0].mean() for patch in seen]) > 0.1
    # The coil's field: the same tissue is brighter at one side.
    sides = tissue > 0, tissue > 0
    sides[0][16:], sides[1][:16] = False, False
    assert max(abs(patch[sides[0]].mean() - patch[sides[1]].mean()) for patch in seen) > 0.1


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)
