"""To the networks' grid and back, whatever the header says."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from LASegColearnLib.preprocessing import Grid, prepare_label, prepare_scan, restore_to_scan, to_array, to_image

_OBLIQUE = (0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, 1.0)
_PERMUTED = (0.0, 0.0, 1.0, -1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
_FLIPPED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def _ball(size=(40, 36, 30), spacing=(1.0, 1.2, 1.5), direction=_IDENTITY, radius_mm=11.0, offset_mm=(3.0, -2.0, 1.0)):
    """A scan whose bright ball lies at a known place in the patient, and its label."""
    image = sitk.Image(size, sitk.sitkFloat32)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    image.SetOrigin((12.0, -30.0, 7.0))
    middle = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in size])
    center = np.add(middle, offset_mm)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"), -1).astype(float)
    points = index * spacing @ np.array(direction).reshape(3, 3).T + image.GetOrigin()
    inside = np.linalg.norm(points - center, axis=-1) <= radius_mm
    grid = Grid.of(image)
    return to_image(inside.astype(np.float32) * 100 + 5, grid), to_image(inside.astype(np.uint8), grid), center


@pytest.mark.parametrize("direction", [_IDENTITY, _OBLIQUE, _PERMUTED, _FLIPPED])
def test_prepared_scan_is_normalized_oriented_and_spaced(direction) -> None:
    scan, _, center = _ball(direction=direction)
    prepared = prepare_scan(scan, (1.5, 1.5, 1.5))
    assert prepared.array.dtype == np.float32
    assert abs(float(prepared.array.mean())) < 1e-4
    assert float(prepared.array.std()) == pytest.approx(1.0, abs=1e-4)
    # Canonical: the axes of the array point as nearly left, posterior and superior as the scan's do.
    assert np.abs(np.array(prepared.grid.direction).reshape(3, 3) - np.eye(3)).max() < 0.3
    image = to_image(prepared.array, prepared.grid)
    inside = np.argwhere(prepared.array > prepared.array.max() / 2)
    found = image.TransformContinuousIndexToPhysicalPoint(inside.mean(0).tolist())
    assert np.linalg.norm(np.subtract(found, center)) < 0.75


@pytest.mark.parametrize("direction", [_IDENTITY, _OBLIQUE, _PERMUTED, _FLIPPED])
@pytest.mark.parametrize("spacing", [(1.5, 1.5, 1.5), (0.8, 0.8, 0.8)])
def test_label_there_and_back_stays_within_a_voxel(direction, spacing) -> None:
    scan, label, _ = _ball(direction=direction)
    grid = prepare_scan(scan, spacing).grid
    there = prepare_label(label, grid)
    assert there.shape == grid.size
    back = restore_to_scan(there.astype(np.float32), grid, scan)
    assert back.GetSize() == scan.GetSize()
    assert back.GetOrigin() == scan.GetOrigin()
    assert back.GetDirection() == scan.GetDirection()
    before, after = to_array(label) > 0, to_array(back) > 0.5
    dilated = sitk.GetArrayFromImage(sitk.BinaryDilate(label, [1, 1, 1])).transpose(2, 1, 0) > 0
    eroded = sitk.GetArrayFromImage(sitk.BinaryErode(label, [1, 1, 1])).transpose(2, 1, 0) > 0
    assert not (after & ~dilated).any()
    assert not (eroded & ~after).any()
    assert 2 * (before & after).sum() / (before.sum() + after.sum()) > 0.96


def test_working_grid_covers_the_scan_when_sizes_do_not_divide() -> None:
    scan, _, _ = _ball(size=(41, 37, 31))
    prepared = prepare_scan(scan, (1.7, 1.7, 1.7))
    ones = np.ones(prepared.grid.size, dtype=np.float32)
    assert to_array(restore_to_scan(ones, prepared.grid, scan)).min() == pytest.approx(1.0)


def test_region_of_interest_is_the_center_and_is_zero_outside_on_the_way_back() -> None:
    scan, _, _ = _ball(size=(60, 60, 40), spacing=(1.0, 1.0, 1.0))
    prepared = prepare_scan(scan, (1.0, 1.0, 1.0), region_mm=(30.0, 30.0, 100.0))
    assert prepared.grid.size == (30, 30, 40)
    back = to_array(restore_to_scan(np.ones(prepared.grid.size, np.float32), prepared.grid, scan))
    assert back[30, 30].min() == 1.0
    assert back[5, 30].max() == 0.0
    assert back.sum() == pytest.approx(30 * 30 * 40)


@pytest.mark.parametrize("kind", [sitk.sitkUInt8, sitk.sitkInt16, sitk.sitkUInt16, sitk.sitkFloat64])
def test_scalar_type_does_not_change_what_the_networks_see(kind) -> None:
    scan, _, _ = _ball()
    expected = prepare_scan(scan, (1.5, 1.5, 1.5)).array
    np.testing.assert_allclose(prepare_scan(sitk.Cast(scan, kind), (1.5, 1.5, 1.5)).array, expected, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1, 7), (1, 5, 1), (6, 1, 1), (1, 1, 1)])
def test_a_scan_of_one_voxel_along_two_axes_is_prepared(size: tuple[int, int, int]) -> None:
    scan = sitk.GetImageFromArray(np.arange(np.prod(size), dtype=np.float32).reshape(size[::-1]))
    array = to_array(scan)
    array += 1.0
    assert sitk.GetArrayViewFromImage(scan).min() == 0.0
    assert prepare_scan(scan, (1.0, 1.0, 1.0)).array.shape == size
