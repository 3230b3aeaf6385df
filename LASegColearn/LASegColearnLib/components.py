"""Connected parts of masks."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from LASegColearnLib.boxes import bounding_box


def component_around(mask: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """The connected part of a boolean mask (x, y, z) that has most voxels of a boolean seed; empty if none has any.

    Voxels touch by faces, edges or corners; of equals the first.
    """
    kept = np.zeros(mask.shape, dtype=bool)
    if not mask.any():
        return kept
    # Labels are 32 bits a voxel: only around what was found, not for the whole scan.
    box = bounding_box(mask)
    parts, _ = ndimage.label(mask[box], structure=np.ones((3, 3, 3)))
    shared = np.bincount(parts[seed[box].astype(bool, copy=False)])
    shared[:1] = 0
    if shared.any():
        kept[box] = parts == shared.argmax()
    return kept


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a boolean mask (x, y, z), see :func:`component_around`."""
    return component_around(mask, mask)
