"""Doubtful places: thick regions before the shell that every surface has, the largest first."""

from __future__ import annotations

import tracemalloc

import numpy as np

from LASegColearnSlicer.doubtful_places import doubtfulPlaces

SPACING = (1.0, 1.0, 1.0)


def _shell(radius: float) -> np.ndarray:
    """Uncertainty of a ball: high within half a voxel of its surface."""
    axes = np.indices((40, 40, 40)) - 19.5
    distance = np.sqrt((axes**2).sum(axis=0))
    return np.where(np.abs(distance - radius) < 0.8, 0.9, 0.05)


def test_nothing_doubtful_gives_no_place() -> None:
    assert doubtfulPlaces(np.zeros((8, 8, 8)), SPACING) == []


def test_thick_regions_come_by_size_and_the_thin_shell_not_at_all() -> None:
    uncertainty = _shell(12)
    uncertainty[2:7, 2:7, 2:7] = 0.8
    uncertainty[30:39, 30:39, 30:39] = 0.7
    assert doubtfulPlaces(uncertainty, SPACING) == [(34, 34, 34), (4, 4, 4)]


def test_a_shell_alone_is_shown_where_there_is_nothing_else() -> None:
    uncertainty = _shell(12)
    (place,) = doubtfulPlaces(uncertainty, SPACING)
    assert uncertainty[place] > 0.5


def test_thickness_is_in_mm() -> None:
    uncertainty = np.zeros((20, 40, 40))
    uncertainty[5:8, 4:36, 4:36] = 1
    uncertainty[12:19, 2:5, 2:5] = 1
    # Three voxels of 3 mm are thick, three of 0.3 mm are not.
    places = doubtfulPlaces(uncertainty, (3.0, 0.3, 0.3))
    assert places[0][0] == 6


def test_a_large_scan_takes_little_memory_and_gives_the_same_places_wherever_they_lie() -> None:
    part = _shell(12)
    part[2:7, 2:7, 2:7] = 0.8
    places = doubtfulPlaces(part, SPACING)
    for start in ((0, 0, 0), (50, 60, 70), (110, 110, 110)):
        scan = np.zeros((150, 150, 150), np.float32)
        scan[tuple(slice(n, n + 40) for n in start)] = part
        tracemalloc.start()
        found = doubtfulPlaces(scan, SPACING)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found == [tuple(n + first for n, first in zip(place, start, strict=True)) for place in places]
        # What was found to be doubtful is a byte a voxel.
        assert peak < 4 * scan.size
