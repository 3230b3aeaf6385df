"""Boxes of voxels along an array's axes."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

# A part of an array: a slice for each axis.
Box = tuple[slice, ...]


def bounding_box(mask: np.ndarray) -> Box:
    """The smallest box that holds all of a mask, boolean or 0 and 1; the mask must not be empty."""
    return ndimage.find_objects(mask.astype(np.uint8, copy=False), max_label=1)[0]


def union_of_boxes(a: Box, b: Box) -> Box:
    """The smallest box that holds both boxes."""
    return tuple(slice(min(p.start, q.start), max(p.stop, q.stop)) for p, q in zip(a, b, strict=True))
