"""Uncertainty and agreement against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from LASegColearnLib.uncertainty import (
    combined_uncertainty,
    disagreement,
    mean_near_surface,
    normalized_entropy,
    pairwise_agreement,
)


def test_entropy_is_zero_where_certain_and_one_at_a_half() -> None:
    entropy = normalized_entropy(np.array([0.0, 1.0, 0.5, 0.25], dtype=np.float32))
    by_hand = -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))
    assert entropy == pytest.approx([0.0, 0.0, 1.0, by_hand], abs=1e-6)
    assert entropy.dtype == np.float32


def test_entropy_of_a_probability_a_rounding_error_out_of_range_is_zero() -> None:
    entropy = normalized_entropy(np.array([-1e-7, 1.0 + 1e-6], dtype=np.float32))
    assert entropy.tolist() == [0.0, 0.0]


def test_disagreement_of_two_students_is_the_size_of_their_difference() -> None:
    one, other = np.array([0.9, 0.2], dtype=np.float32), np.array([0.6, 0.7], dtype=np.float32)
    assert disagreement([one, other]) == pytest.approx([0.3, 0.5])
    assert one == pytest.approx([0.9, 0.2])  # what was given stays as it was


def test_uncertainty_is_the_larger_of_entropy_and_disagreement() -> None:
    teacher = np.array([0.5, 1.0, 0.0], dtype=np.float32)
    students = [np.array([0.4, 0.9, 0.0], dtype=np.float32), np.array([0.5, 0.2, 0.0], dtype=np.float32)]
    assert combined_uncertainty(teacher, students) == pytest.approx([1.0, 0.7, 0.0])


def test_uncertainty_of_a_lone_network_is_its_entropy() -> None:
    teacher = np.array([0.5, 1.0], dtype=np.float32)
    assert combined_uncertainty(teacher, [teacher]).tolist() == [1.0, 0.0]


def test_mean_near_the_surface_counts_distances_in_mm_on_both_sides() -> None:
    # A slab of voxels 4 to 7 along z, voxels of 1 x 1 x 2 mm: within 3 mm are one voxel on each side of each face.
    mask = np.zeros((3, 3, 12), dtype=bool)
    mask[:, :, 4:8] = True
    values = np.broadcast_to(np.arange(12, dtype=np.float32) ** 2, mask.shape)
    assert mean_near_surface(values, mask, (1.0, 1.0, 2.0)) == pytest.approx((9 + 16 + 49 + 64) / 4)
    # With voxels of 1 mm there are three on each side: 1 to 3, 4 to 7 (4 mm thick, all near), 8 to 10.
    assert mean_near_surface(values, mask, (1.0, 1.0, 1.0)) == pytest.approx(sum(i * i for i in range(1, 11)) / 10)


def test_mean_near_the_surface_of_a_part_of_a_scan_equals_that_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    values = rng.random((24, 22, 20), dtype=np.float32)
    mask = np.zeros(values.shape, dtype=bool)
    mask[8:12, 0:9, 7:11] = rng.random((4, 9, 4)) > 0.3
    spacing = np.array([0.7, 1.0, 1.9])
    # Reference: each voxel's distance to the nearest voxel of the other kind, all pairs.
    points = np.argwhere(np.ones_like(mask)) * spacing
    inside = mask.ravel()
    near = np.zeros(inside.shape, dtype=bool)
    for kind in (True, False):
        others = points[inside != kind]
        near[inside == kind] = [np.linalg.norm(others - p, axis=1).min() <= 3.0 for p in points[inside == kind]]
    assert mean_near_surface(values, mask, spacing) == pytest.approx(values.ravel()[near].mean(), rel=1e-6)


@pytest.mark.parametrize("fill", [False, True])
def test_a_mask_without_surface_has_no_mean(fill: bool) -> None:
    assert mean_near_surface(np.ones((4, 4, 4)), np.full((4, 4, 4), fill), (1.0, 1.0, 1.0)) is None


def test_voxels_wider_than_the_surface_are_near_it_where_they_touch_it() -> None:
    mask = np.zeros((6, 6, 6), bool)
    mask[2:4, 2:4, 2:4] = True
    values = np.zeros((6, 6, 6), np.float32)
    values[mask] = 1.0
    found = mean_near_surface(values, mask, (5.0, 5.0, 5.0))
    # 8 inside, and on each of the six faces 4 outside.
    assert found == pytest.approx(8 / 32)


def test_agreement_is_the_dice_of_each_pair() -> None:
    probabilities = {
        "student_1": np.array([0.9, 0.9, 0.1, 0.1]),
        "student_2": np.array([0.1, 0.6, 0.7, 0.1]),
        "teacher": np.array([0.9, 0.9, 0.9, 0.5]),  # 0.5 itself is background
    }
    assert pairwise_agreement(probabilities) == pytest.approx(
        {"student_1, student_2": 2 / 4, "student_1, teacher": 4 / 5, "student_2, teacher": 4 / 5}
    )


def test_networks_that_both_find_nothing_agree() -> None:
    nothing = np.zeros(5)
    assert pairwise_agreement({"a": nothing, "b": nothing, "c": np.ones(5)}) == {"a, b": 1.0, "a, c": 0.0, "b, c": 0.0}
