"""Where a prediction is doubtful: connected regions of high uncertainty, the largest first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

THRESHOLD = 0.5
# Every surface has a shell of doubt; only where it is thicker than this on both sides is there something to look at.
SHELL_MM = 1.5


def doubtfulPlaces(
    uncertainty: np.ndarray, spacing: Sequence[float], *, threshold: float = THRESHOLD, shell: float = SHELL_MM
) -> list[tuple[int, ...]]:
    """One voxel, the innermost, of each doubtful region.

    Parameters
    ----------
    uncertainty
        0 (certain) to 1.
    spacing
        Voxel size in mm, along the array's axes.
    threshold
        Uncertainty above which a voxel is doubtful.
    shell
        Voxels nearer than this, in mm, to one that is not doubtful count as the shell that every surface has. Where
        there is nothing else, the shell itself is taken.

    Returns
    -------
    list
        Indices of voxels, the one of the largest region first; none if nothing is doubtful.
    """
    doubtful = uncertainty > threshold
    if not doubtful.any():
        return []
    # Of a whole scan what follows would take gigabytes and many seconds. One voxel more on each side, and distances are
    # the same.
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
    """Index of the deepest voxel; where several are as deep, of the one in their middle."""
    deepest = np.argwhere(depth == depth.max())
    return np.asarray(deepest[np.argmin(((deepest - deepest.mean(axis=0)) ** 2).sum(axis=1))])
