"""Overlap, surface distances and volumes of two masks, as medpy defines them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from LASegColearnLib.boxes import Box, bounding_box, union_of_boxes

# If more than one voxel in this many is on a surface, a distance transform can be faster than a search tree. Atria have
# one in 30 to 55 of the voxels of their box; a completely filled box one in 22.
_FEWEST_VOXELS_FOR_SEARCH = 25


@dataclass(frozen=True)
class Metrics:
    """Metrics of a prediction against a reference.

    Attributes
    ----------
    dice, jaccard
        0 to 1; 1 for two empty masks.
    hd95, asd
        95th percentile of the surface distances in both directions, and mean distance from the prediction's surface to
        the reference's, in the unit of the spacing. NaN if a mask is empty: the usual 0 would reward an empty
        prediction.
    volume_ml, reference_volume_ml, volume_difference_ml
        Volumes in mL; the difference is prediction minus reference.
    note
        A sentence for the user, or an empty text.
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

    The definitions are those of medpy 0.5.2 (``dc``, ``jc``, ``hd95``, ``asd(prediction, reference)``). The surface is
    the mask minus its erosion by the 6-neighborhood; voxels outside the array are background; distances are Euclidean.

    Parameters
    ----------
    prediction, reference
        Masks of the same shape; anything above 0 is inside.
    spacing_mm
        Voxel size along the array's axes.
    in_voxels
        Measure distances in voxels, as in the literature on the left atrium.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"Masks of different shapes: {prediction.shape} and {reference.shape}.")
    a, b = np.asarray(prediction) > 0, np.asarray(reference) > 0
    size_a, size_b, both = (int(np.count_nonzero(mask)) for mask in (a, b, a & b))
    distances = (math.nan, math.nan)
    if size_a and size_b:
        spacing = (1.0, 1.0, 1.0) if in_voxels else tuple(spacing_mm)
        distances = surface_distances(Surface(a, spacing), Surface(b, spacing))
    return metrics_of(size_a, size_b, both, distances, voxel_ml(spacing_mm))


def voxel_ml(spacing_mm: Sequence[float]) -> float:
    """Volume of a voxel in mL."""
    return float(np.prod(spacing_mm)) / 1000.0


def dice_of_counts(size_a: int, size_b: int, both: int) -> float:
    """Dice (0 to 1) of two masks by their numbers of voxels and those in both; two empty masks agree: 1."""
    return 2.0 * both / (size_a + size_b) if size_a + size_b else 1.0


def metrics_of(size_a: int, size_b: int, both: int, distances: tuple[float, float], ml: float) -> Metrics:
    """Metrics of a prediction and a reference from their voxel counts.

    Parameters
    ----------
    size_a, size_b, both
        Number of voxels of the prediction, of the reference, and in both.
    distances
        95HD and ASD; NaN if undefined.
    ml
        Volume of a voxel in mL.
    """
    empty = size_a + size_b == 0
    return Metrics(
        dice=dice_of_counts(size_a, size_b, both),
        jaccard=1.0 if empty else both / (size_a + size_b - both),
        hd95=distances[0],
        asd=distances[1],
        volume_ml=size_a * ml,
        reference_volume_ml=size_b * ml,
        volume_difference_ml=(size_a - size_b) * ml,
        note=_note(size_a, size_b),
    )


class Surface:
    """The surface of a mask: its voxels with at least one of their 6 neighbors outside of it.

    The search tree for the nearest surface voxel is built at the first search and kept. Voxels are identified by their
    flat index into the array (C order).

    Parameters
    ----------
    mask
        Boolean, of three axes, not empty.
    spacing
        Voxel size along the mask's axes; the unit of all distances.
    """

    def __init__(self, mask: np.ndarray, spacing: Sequence[float]) -> None:
        self._spacing = np.asarray(spacing, float)
        self._shape = mask.shape
        self._box = bounding_box(mask)
        on = np.zeros(mask.shape, bool)
        on[self._box] = _surface(mask[self._box])
        self._on = on.ravel()
        # Flat indices into the whole array, in ascending order.
        self.numbers = np.flatnonzero(self._on)
        self._tree: KDTree | None = None
        self._map: tuple[Box, np.ndarray] | None = None

    def has(self, numbers: np.ndarray) -> np.ndarray:
        """Whether each of these voxels is on the surface."""
        return self._on[numbers]

    def places(self, numbers: np.ndarray) -> np.ndarray:
        """Positions of these voxels, one row each, in the unit of the spacing."""
        return np.column_stack(np.unravel_index(numbers, self._shape)) * self._spacing

    def is_smooth_for(self, other: Surface, count: int, voxels: int) -> bool:
        """Whether a search tree is likely to be faster than a distance transform.

        That is so if this surface, and the ``count`` voxels to search for, are at most one in ``voxels`` of the voxels
        in the box around both surfaces. A smooth surface has a hundredth of the voxels that a distance transform
        visits; for a rough one, as in noise, the transform is faster.
        """
        volume = math.prod(side.stop - side.start for side in union_of_boxes(self._box, other._box))
        return max(count, self.numbers.size) * voxels <= volume

    def nearest(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance of each of these voxels to the surface, and flat index of the nearest surface voxel."""
        if self._tree is None:
            # Positions on a grid are spread evenly, so an unbalanced tree suffices, which is built in half the time.
            self._tree = KDTree(self.places(self.numbers), balanced_tree=False, compact_nodes=False)
        distances, rows = self._tree.query(self.places(numbers))
        return distances, self.numbers[rows]

    def distances_to(self, other: Surface) -> np.ndarray:
        """Exact distance of each voxel of this surface to the nearest one of another, in no particular order."""
        # Voxels on both surfaces have distance 0 and need no search.
        apart = self.numbers[~other.has(self.numbers)]
        found = np.zeros(self.numbers.size)
        if other.is_smooth_for(self, apart.size, _FEWEST_VOXELS_FOR_SEARCH):
            found[: apart.size] = other.nearest(apart)[0]
        else:
            found[: apart.size] = other._from_map(union_of_boxes(self._box, other._box), apart)
        return found

    def _from_map(self, box: Box, numbers: np.ndarray) -> np.ndarray:
        if self._map is None or union_of_boxes(self._map[0], box) != self._map[0]:
            if self._map is not None:
                box = union_of_boxes(self._map[0], box)
            outside = ~self._on.reshape(self._shape)[box]
            self._map = box, ndimage.distance_transform_edt(outside, sampling=self._spacing)
        box, distances = self._map
        places = np.unravel_index(numbers, self._shape)
        return distances[tuple(place - side.start for place, side in zip(places, box, strict=True))]


def surface_distances(a: Surface, b: Surface) -> tuple[float, float]:
    """95HD of two surfaces, and ASD from the first to the second, in the unit of their spacing."""
    return hd95_and_asd(a.distances_to(b), b.distances_to(a))


def hd95_and_asd(from_a: np.ndarray, from_b: np.ndarray) -> tuple[float, float]:
    """95HD and ASD from the distances of each surface's voxels to the other surface."""
    return float(np.percentile(np.concatenate([from_a, from_b]), 95)), float(from_a.mean())


def _surface(mask: np.ndarray) -> np.ndarray:
    """The voxels of the mask with at least one of their 6 neighbors outside of it."""
    padded = np.pad(mask, 1)
    inside = mask.copy()
    for axis in range(3):
        for shifted in (slice(None, -2), slice(2, None)):
            inside &= padded[tuple(shifted if i == axis else slice(1, -1) for i in range(3))]
    return mask & ~inside


def _note(predicted: int, labeled: int) -> str:
    if not predicted and not labeled:
        return "Prediction and label are empty."
    if not predicted:
        return "Nothing was predicted: no distances."
    return "" if labeled else "The label is empty: no distances."
