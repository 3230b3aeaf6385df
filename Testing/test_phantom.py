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


def test_the_same_seed_gives_the_same_scan_and_another_one_another() -> None:
    first, again, other = (to_array(make_phantom(seed)[0]) for seed in (4, 4, 5))
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)


@pytest.mark.parametrize("header", ["anisotropic", "oblique", "permuted", "flipped"])
def test_the_anatomy_is_the_same_under_every_header(header: str) -> None:
    def volume_and_extent(kind: str) -> tuple[float, np.ndarray]:
        _, label = make_phantom(2, kind)
        inside = np.argwhere(to_array(label))
        points = np.array([label.TransformIndexToPhysicalPoint(index.tolist()) for index in inside])
        size = label.GetSize()
        middle = label.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in size])
        return len(inside) * np.prod(label.GetSpacing()) / 1000, (points - middle).mean(0)

    expected, found = volume_and_extent("plain"), volume_and_extent(header)
    assert found[0] == pytest.approx(expected[0], rel=0.04)
    np.testing.assert_allclose(found[1], expected[1], atol=1.0)


@pytest.mark.parametrize("seed", range(3))
def test_no_threshold_finds_the_atrium(seed: int) -> None:
    scan, label = make_phantom(seed)
    values, inside = to_array(scan).astype(float), to_array(label) > 0
    for threshold in np.percentile(values, range(20, 99, 3)):
        above = values > threshold
        parts, _ = ndimage.label(above)
        largest = parts == np.bincount(parts.ravel())[1:].argmax() + 1
        for mask in (above, largest):
            assert 2 * (mask & inside).sum() / (mask.sum() + inside.sum()) < 0.7


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
