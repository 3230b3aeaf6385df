"""Boxes of voxels along an array's axes."""

from __future__ import annotations

import numpy as np

# A part of an array: a slice for each axis.
Box = tuple[slice, ...]


def bounding_box(mask: np.ndarray) -> Box:
    """The smallest box that holds all nonzero voxels of a mask of three axes, which must not be empty."""
    # SciPy's find_objects takes three to nine times as long on a scan's mask.
    box = []
    for others in ((1, 2), (0, 2), (0, 1)):
        occupied = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return tuple(box)


def union_of_boxes(a: Box, b: Box) -> Box:
    """The smallest box that holds both boxes."""
    return tuple(slice(min(p.start, q.start), max(p.stop, q.stop)) for p, q in zip(a, b, strict=True))
