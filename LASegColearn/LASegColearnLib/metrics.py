"""Overlap, surface distances and volumes of two masks, by medpy's definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

# Where more than one voxel in so many is surface, a distance transform can be faster than a search tree. Atria have one
# in 30 to 55 of their box; a mask of everything, whose faces are far and all alike, one in 22.
_FEWEST_VOXELS_FOR_SEARCH = 25


@dataclass(frozen=True)
class Metrics:
    """How a prediction compares with a reference.

    Attributes
    ----------
    dice, jaccard
        0 to 1. Two empty masks agree: 1.
    hd95, asd
        95th percentile of the surface distances of both directions together, and mean distance from the prediction's
        surface to the reference's, in the unit of the spacing. NaN where either mask is empty: the usual 0 would reward
        an empty prediction.
    volume_ml, reference_volume_ml, volume_difference_ml
        In mL, by the spacing in mm; the difference is prediction minus reference.
    note
        What a person should know, or an empty text.
    """

    dice: float
    jaccard: float
    hd95: float
    asd: float
    volume_ml: float
    reference_volume_ml: float
    volume_difference_ml: float
    note: str


def segmentation_metrics(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing_mm: Sequence[float],
    *,
    in_voxels: bool = False,
) -> Metrics:
    """Compare two masks (x, y, z).

    Definitions are those of medpy 0.5.2 (``dc``, ``jc``, ``hd95``, ``asd(prediction, reference)``): the surface is the
    mask without its erosion by the 6-neighborhood, outside the array is background, distances are exact and Euclidean.

    Parameters
    ----------
    prediction, reference
        Of one shape; anything above 0 is inside.
    spacing_mm
        Voxel size along the array's axes.
    in_voxels
        Measure distances in voxels, as the literature on the left atrium does.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"Masks of different shapes: {prediction.shape} and {reference.shape}.")
    a, b = np.asarray(prediction) > 0, np.asarray(reference) > 0
    size_a, size_b, both = (int(np.count_nonzero(mask)) for mask in (a, b, a & b))
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    empty = size_a + size_b == 0
    hd95, asd = math.nan, math.nan
    if size_a and size_b:
        hd95, asd = _surface_distances(a, b, (1.0, 1.0, 1.0) if in_voxels else tuple(spacing_mm))
    return Metrics(
        dice=1.0 if empty else 2.0 * both / (size_a + size_b),
        jaccard=1.0 if empty else both / (size_a + size_b - both),
        hd95=hd95,
        asd=asd,
        volume_ml=size_a * voxel_ml,
        reference_volume_ml=size_b * voxel_ml,
        volume_difference_ml=(size_a - size_b) * voxel_ml,
        note=_note(size_a, size_b),
    )


def _surface_distances(a: np.ndarray, b: np.ndarray, spacing: Sequence[float]) -> tuple[float, float]:
    """95HD and ASD of two masks that are not empty."""
    box = _bounding_box(a | b)
    surface_a, surface_b = _surface(a[box]), _surface(b[box])
    from_a = _distances(surface_a, surface_b, spacing)
    from_b = _distances(surface_b, surface_a, spacing)
    return float(np.percentile(np.concatenate([from_a, from_b]), 95)), float(from_a.mean())


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box with all of a mask that is not empty."""
    box = []
    for others in ((1, 2), (0, 2), (0, 1)):
        occupied = np.flatnonzero(mask.any(axis=others))
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return tuple(box)


def _surface(mask: np.ndarray) -> np.ndarray:
    """The voxels of the mask with one of their 6 neighbors outside of it."""
    padded = np.pad(mask, 1)
    inside = mask.copy()
    for axis in range(3):
        for shifted in (slice(None, -2), slice(2, None)):
            inside &= padded[tuple(shifted if i == axis else slice(1, -1) for i in range(3))]
    return mask & ~inside


def _distances(surface: np.ndarray, other: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Distance of each voxel of a surface to the nearest one of another, in no particular order.

    Both ways are exact. Smooth surfaces have a hundredth of the voxels that a distance transform goes through, so a
    search tree is much faster; where there is much surface, as in noise, the transform is.
    """
    # What lies on both surfaces has a distance of 0 and is not searched for.
    apart = surface & ~other
    count = np.count_nonzero(apart)
    found = np.zeros(np.count_nonzero(surface))
    if max(count, np.count_nonzero(other)) * _FEWEST_VOXELS_FOR_SEARCH > apart.size:
        found[:count] = ndimage.distance_transform_edt(~other, sampling=spacing)[apart]
    else:
        # Places on a grid are spread evenly: a tree need not be balanced, and is made in half the time.
        tree = KDTree(_places(other, spacing), balanced_tree=False, compact_nodes=False)
        found[:count] = tree.query(_places(apart, spacing))[0]
    return found


def _places(voxels: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    return np.column_stack(np.unravel_index(np.flatnonzero(voxels), voxels.shape)) * np.asarray(spacing)


def _note(predicted: int, labeled: int) -> str:
    if not predicted and not labeled:
        return "Prediction and label are empty."
    if not predicted:
        return "Nothing was predicted: no distances."
    return "" if labeled else "The label is empty: no distances."
