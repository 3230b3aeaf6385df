"""Connected components of masks."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from LASegColearnLib.boxes import bounding_box


def component_around(mask: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """The connected component of a boolean mask (x, y, z) that contains most voxels of a boolean seed.

    Empty if no component contains any; the first one in a tie. Voxels are connected by faces, edges or corners.
    """
    kept = np.zeros(mask.shape, dtype=bool)
    if not mask.any():
        return kept
    # Component labels take 32 bits per voxel, so they are computed only in the mask's bounding box.
    box = bounding_box(mask)
    parts, _ = ndimage.label(mask[box], structure=np.ones((3, 3, 3)))
    shared = np.bincount(parts[seed[box].astype(bool, copy=False)])
    shared[:1] = 0
    if shared.any():
        kept[box] = parts == np.argmax(shared)
    return kept


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest connected component of a boolean mask (x, y, z), see :func:`component_around`."""
    return component_around(mask, mask)
