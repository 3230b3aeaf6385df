"""Where a prediction is doubtful: connected regions of high uncertainty, largest first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

THRESHOLD = 0.5
# Every surface has a shell of uncertain voxels. Only places deeper than this in a region are worth a look.
SHELL_MM = 1.5


def doubtfulPlaces(
    uncertainty: np.ndarray, spacing: Sequence[float], *, threshold: float = THRESHOLD, shell: float = SHELL_MM
) -> list[tuple[int, ...]]:
    """The innermost voxel of each doubtful region.

    Parameters
    ----------
    uncertainty
        0 (certain) to 1.
    spacing
        Voxel size in mm, along the array's axes.
    threshold
        Uncertainty above which a voxel is doubtful.
    shell
        Voxels closer than this, in mm, to a voxel that is not doubtful count as the shell that every surface has. The
        shell is used only if there is nothing else.

    Returns
    -------
    list
        Indices of the voxels, largest region first; empty if nothing is doubtful.
    """
    doubtful = uncertainty > threshold
    if not doubtful.any():
        return []
    # Crop first: on a whole scan, the rest would take gigabytes and many seconds. A margin of one voxel keeps the
    # distances the same.
    box = [slice(max(side.start - 1, 0), side.stop + 1) for side in ndimage.find_objects(doubtful.astype(np.uint8))[0]]
    doubtful = doubtful[tuple(box)]
    depth = ndimage.distance_transform_edt(doubtful, sampling=spacing)
    inner = depth > shell
    labels, _count = ndimage.label(inner if inner.any() else doubtful)
    sizes = np.bincount(labels.ravel())[1:]
    parts = ndimage.find_objects(labels)
    found = []
    for number in np.argsort(-sizes, kind="stable"):
        part = parts[number]
        place = _innermost(np.where(labels[part] == number + 1, depth[part], 0))
        found.append(tuple(int(n) + own.start + of.start for n, own, of in zip(place, part, box, strict=True)))
    return found


def _innermost(depth: np.ndarray) -> np.ndarray:
    """Index of the deepest voxel; of several, the one closest to their center."""
    deepest = np.argwhere(depth == depth.max())
    return np.asarray(deepest[np.argmin(((deepest - deepest.mean(axis=0)) ** 2).sum(axis=1))])
