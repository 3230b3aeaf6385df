"""Connected parts of masks."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def component_around(mask: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """The connected part of a boolean mask (x, y, z) that has most voxels of a boolean seed; empty if none has any.

    Voxels touch by faces, edges or corners; of equals the first.
    """
    bounds = ndimage.find_objects(mask.astype(np.uint8))
    kept = np.zeros(mask.shape, dtype=bool)
    if not bounds:
        return kept
    # Labels are 32 bits a voxel: only around what was found, not for the whole scan.
    parts, _ = ndimage.label(mask[bounds[0]], structure=np.ones((3, 3, 3)))
    shared = np.bincount(parts[seed[bounds[0]].astype(bool, copy=False)])
    shared[:1] = 0
    if shared.any():
        kept[bounds[0]] = parts == shared.argmax()
    return kept


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a boolean mask (x, y, z), see :func:`component_around`."""
    return component_around(mask, mask)
