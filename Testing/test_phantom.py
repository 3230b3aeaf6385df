"""Phantoms: the same for the same seed, the same anatomy under any header, and not solved by a threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from LASegColearnLib.cohort import load_cohort
from LASegColearnLib.cohort_checks import check_cohort
from LASegColearnLib.phantom import make_phantom, write_phantom_cohort
from LASegColearnLib.preprocessing import to_array


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_the_same_seed_gives_the_same_scan_and_another_one_another() -> None:
    first, again, other = (to_array(make_phantom(seed)[0]) for seed in (4, 4, 5))
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)


def test_every_seed_has_an_anatomy_of_its_own() -> None:
    masks = [to_array(make_phantom(seed, "plain")[1]) > 0 for seed in range(4)]
    for number, mask in enumerate(masks):
        assert all(_dice(mask, other) < 0.95 for other in masks[:number])


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b", "another seed")]
    for folder, seed in zip(folders, (3, 3, 4), strict=True):
        write_phantom_cohort(folder, labeled=1, unlabeled=1, validation=1, seed=seed)
    first, again, other = (
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in folders
    )
    assert first == again
    assert any(first[name] != other[name] for name in first)


@pytest.mark.parametrize("seed", [2, 9])
@pytest.mark.parametrize("header", ["anisotropic", "oblique", "permuted", "flipped"])
def test_the_anatomy_is_at_the_same_place_in_the_patient_under_every_header(header: str, seed: int) -> None:
    scan, label = make_phantom(seed, "plain")
    other_scan, other_label = make_phantom(seed, header)
    assert other_scan.GetDirection() != scan.GetDirection() or other_scan.GetSpacing() != scan.GetSpacing()
    there = sitk.Resample(other_label, label, sitk.Transform(), sitk.sitkNearestNeighbor)
    a, b = to_array(label) > 0, to_array(there) > 0
    assert _dice(a, b) > 0.93
    # The neighbors, lungs and bias field are there too; the noise is each scan's own.
    outside = -1.0
    moved = to_array(
        sitk.Resample(sitk.Cast(other_scan, sitk.sitkFloat32), scan, sitk.Transform(), sitk.sitkLinear, outside)
    )
    fixed = to_array(scan).astype(float)
    common = moved != outside
    assert common.mean() > 0.6
    smooth = [ndimage.gaussian_filter(values, 1.0)[common] for values in (moved, fixed)]
    assert np.corrcoef(smooth)[0, 1] > 0.9


def test_no_threshold_finds_the_atrium() -> None:
    best_alone, best_part = [], []
    for seed in (*range(6), 30_000, 30_001):
        scan, label = make_phantom(seed)
        values, inside = to_array(scan).astype(float), to_array(label) > 0
        alone, part = 0.0, 0.0
        for threshold in np.percentile(values, range(20, 99, 4)):
            above = values > threshold
            parts, _ = ndimage.label(above)
            largest = parts == np.bincount(parts.ravel())[1:].argmax() + 1
            alone, part = max(alone, _dice(above, inside)), max(part, _dice(largest, inside))
        best_alone.append(alone)
        best_part.append(part)
    # Even the threshold that suits each scan best, which nobody could know.
    assert max(best_alone) < 0.6
    assert np.mean(best_part) < 0.6


def test_the_atrium_is_open_to_the_ventricle_and_one_piece() -> None:
    for seed in range(4):
        scan, label = make_phantom(seed, "plain")
        inside = to_array(label) > 0
        assert ndimage.label(inside, np.ones((3, 3, 3)))[1] == 1
        values = ndimage.gaussian_filter(to_array(scan).astype(float), 1.0)
        blood = np.median(values[ndimage.binary_erosion(inside, iterations=3)])
        # In front, below and to the left, along the way to the ventricle, no wall darkens the blood.
        heading = np.array([0.45, -0.62, -0.64])
        middle = np.argwhere(inside).mean(0)
        way = [middle + step * heading for step in np.arange(0, 22, 0.5)]
        way = np.round([place for place in way if all(0 <= p < n for p, n in zip(place, inside.shape, strict=True))])
        index = tuple(way.astype(int).T)
        leaves = int(np.argmin(inside[index]))
        assert values[index][leaves - 2 : leaves + 4].min() > 0.7 * blood


def test_headers_are_of_all_kinds_in_a_cohort() -> None:
    scans = [make_phantom(seed)[0] for seed in range(14)]
    directions = {np.round(scan.GetDirection(), 1).tobytes() for scan in scans}
    assert len(directions) >= 4
    assert any(max(scan.GetSpacing()) > 1.5 * min(scan.GetSpacing()) for scan in scans)


def test_a_phantom_cohort_is_in_order_and_has_no_label_for_unlabeled_cases(tmp_path: Path) -> None:
    cohort = load_cohort(write_phantom_cohort(tmp_path / "p", labeled=2, unlabeled=2, validation=1, seed=8))
    checked = check_cohort(cohort)
    assert checked.warnings == []
    assert len(set(checked.content_hashes.values())) == 5
    for case in cohort.unlabeled:
        assert [path.name.split(".")[0] for path in case.image.parent.iterdir()] == ["image"]
    labeled = sitk.ReadImage(str(cohort.labeled[0].label))
    assert 25 < to_array(labeled).sum() * np.prod(labeled.GetSpacing()) / 1000 < 150
