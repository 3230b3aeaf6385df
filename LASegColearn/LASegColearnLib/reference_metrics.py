"""Compares one changing mask with several fixed ones, fast enough to update with every stroke of a user."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from scipy.spatial import KDTree

from LASegColearnLib.boxes import Box, bounding_box, union_of_boxes
from LASegColearnLib.metrics import (
    Metrics,
    Surface,
    hd95_and_asd,
    metrics_of,
    surface_distances,
    voxel_ml,
)

# Less than for a single comparison, since the following ones search for few voxels.
_FEWEST_VOXELS_TO_FOLLOW = 5
# Margin around the masks so far, so that a growing mask does not require everything to be recomputed each time.
_MARGIN_VOXELS = 10
# If a larger part of the surface has changed, an incremental update does not pay.
_LARGEST_EDIT = 0.5


@dataclass(frozen=True)
class Change:
    """The difference between a mask and a reference.

    Attributes
    ----------
    ml
        Volume in mL of the voxels that are in exactly one of the two masks.
    share
        The same as a share of the reference's volume (it may exceed 1); None if the reference is empty.
    """

    ml: float
    share: float | None


class ReferenceMetrics:
    """Compares masks repeatedly with the same references.

    Data of a reference is computed once for all masks, and data of a mask once for all references. For a mask similar
    to the one before, only the changes are computed. Not thread-safe.

    Parameters
    ----------
    references
        Masks of the same shape by name, in any order of axes; anything above 0 is inside. They are copied.
    spacing_mm
        Voxel size along the arrays' axes.

    Raises
    ------
    ValueError
        If the references' shapes differ.

    Examples
    --------
    >>> reference = np.zeros((5, 5, 5), bool)
    >>> reference[1:4, 1:4, 1:4] = True
    >>> compared = ReferenceMetrics({"teacher": reference}, (1.0, 1.0, 2.0))
    >>> compared.compare(reference)["teacher"].dice
    1.0
    """

    def __init__(self, references: Mapping[str, np.ndarray], spacing_mm: Sequence[float]) -> None:
        self._spacing = tuple(float(side) for side in spacing_mm)
        self._voxel_ml = voxel_ml(self._spacing)
        self._masks = {name: np.asarray(mask) > 0 for name, mask in references.items()}
        shapes = {mask.shape for mask in self._masks.values()}
        if len(shapes) > 1:
            raise ValueError(f"Masks of different shapes: {', '.join(str(shape) for shape in sorted(shapes))}.")
        self._shape = next(iter(shapes), ())
        # Only this box is processed, since a scan is much larger than the segmentations in it.
        self._box: Box | None = None
        self._references: dict[str, _Prepared] = {}
        self._followers: dict[str, _Follower] = {}

    def compare(self, mask: np.ndarray, start: Sequence[int] | None = None) -> dict[str, Metrics]:
        """The mask as prediction against each reference: the values of ``segmentation_metrics`` in mm.

        Parameters
        ----------
        mask
            Anything above 0 is inside.
        start
            First voxel of the mask, if it covers only a box of the references' array and is empty outside.

        Raises
        ------
        ValueError
            If the mask has another shape than the references, or reaches beyond their array.
        """
        if not self._masks:
            return {}
        prepared = _Prepared(self._cropped(mask, start), self._spacing)
        found = {}
        for name, reference in self._references.items():
            both = int(np.count_nonzero(prepared.mask & reference.mask))
            distances = (math.nan, math.nan)
            if prepared.surface is not None and name in self._followers:
                distances = self._followers[name].distances(prepared.surface)
            found[name] = metrics_of(prepared.size, reference.size, both, distances, self._voxel_ml)
        return found

    def change(self, mask: np.ndarray, name: str, start: Sequence[int] | None = None) -> Change:
        """The difference between the mask, given as to :meth:`compare`, and a reference.

        Raises
        ------
        KeyError
            If there is no reference with this name.
        ValueError
            As :meth:`compare`.
        """
        if name not in self._masks:
            raise KeyError(name)
        cropped = self._cropped(mask, start)
        reference = self._references[name]
        changed = int(np.count_nonzero(cropped ^ reference.mask))
        return Change(changed * self._voxel_ml, changed / reference.size if reference.size else None)

    def volume_ml(self, mask: np.ndarray) -> float:
        """Volume of a mask in mL."""
        return int(np.count_nonzero(np.asarray(mask) > 0)) * self._voxel_ml

    def _cropped(self, mask: np.ndarray, start: Sequence[int] | None) -> np.ndarray:
        """The mask cropped to the processed box, which is enlarged if necessary."""
        first = (0,) * len(self._shape) if start is None else tuple(start)
        fits = len(mask.shape) == len(first) == len(self._shape) and all(
            low >= 0 and low + side <= whole for low, side, whole in zip(first, mask.shape, self._shape, strict=True)
        )
        if not fits or (start is None and mask.shape != self._shape):
            raise ValueError(f"Masks of different shapes: {mask.shape} and {self._shape}.")
        inside = np.asarray(mask) > 0
        occupied = bounding_box(inside) if inside.any() else None
        place = None if occupied is None else _moved(occupied, first)
        box = self._box_with(place)
        cropped = np.zeros([side.stop - side.start for side in box], bool)
        if occupied is not None and place is not None:
            cropped[_moved(place, [-side.start for side in box])] = inside[occupied]
        return cropped

    def _box_with(self, place: Box | None) -> Box:
        if self._box is not None and (place is None or union_of_boxes(self._box, place) == self._box):
            return self._box
        boxes = [bounding_box(mask) for mask in self._masks.values() if mask.any()]
        boxes += [box for box in (place, self._box) if box is not None]
        around = reduce(union_of_boxes, boxes) if boxes else (slice(0, 1),) * len(self._shape)
        self._box = tuple(
            slice(max(side.start - _MARGIN_VOXELS, 0), min(side.stop + _MARGIN_VOXELS, whole))
            for side, whole in zip(around, self._shape, strict=True)
        )
        self._references = {name: _Prepared(mask[self._box], self._spacing) for name, mask in self._masks.items()}
        self._followers = {
            name: _Follower(reference.surface)
            for name, reference in self._references.items()
            if reference.surface is not None
        }
        return self._box


def _moved(box: Box, by: Sequence[int]) -> Box:
    return tuple(slice(side.start + shift, side.stop + shift) for side, shift in zip(box, by, strict=True))


class _Prepared:
    """A boolean mask with its number of voxels and, unless it is empty, its surface."""

    def __init__(self, mask: np.ndarray, spacing: Sequence[float]) -> None:
        self.mask = mask
        self.size = int(np.count_nonzero(mask))
        self.surface = Surface(mask, spacing) if self.size else None


class _Follower:
    """95HD and ASD between a changing surface and a fixed one, updated incrementally.

    A stroke adds voxels to the surface and removes others. Distances of the remaining voxels are known. A voxel of the
    reference can only be nearer to an added voxel, and is farther only if its nearest voxel was removed.
    """

    def __init__(self, reference: Surface) -> None:
        self._reference = reference
        self._known: _Known | None = None

    def distances(self, surface: Surface) -> tuple[float, float]:
        reference = self._reference
        count = max(surface.numbers.size, reference.numbers.size)
        if not surface.is_smooth_for(reference, count, _FEWEST_VOXELS_TO_FOLLOW):
            self._known = None
            return surface_distances(surface, reference)
        known = self._known
        if known is not None:
            added = surface.numbers[~known.surface.has(surface.numbers)]
            known = self._updated(known, surface, added) if added.size < _LARGEST_EDIT * count else None
        if known is None:
            outward, (inward, nearest) = reference.nearest(surface.numbers)[0], surface.nearest(reference.numbers)
            known = _Known(surface, outward, inward, nearest, reference.places(reference.numbers))
        self._known = known
        return hd95_and_asd(known.outward, known.inward)

    def _updated(self, known: _Known, surface: Surface, added: np.ndarray) -> _Known:
        reference = self._reference
        outward, stayed = np.empty(surface.numbers.size), known.surface.has(surface.numbers)
        outward[stayed] = known.outward[np.searchsorted(known.surface.numbers, surface.numbers[stayed])]
        inward, nearest = known.inward.copy(), known.nearest.copy()
        if added.size:
            outward[~stayed] = reference.nearest(added)[0]
            places = surface.places(added)
            # Only voxels nearer to the box around the added voxels than to the surface so far can be nearer to one.
            from_box = np.maximum(places.min(axis=0) - known.places, known.places - places.max(axis=0)).clip(0)
            near = np.flatnonzero((from_box**2).sum(axis=1) < inward**2)
            distances, rows = KDTree(places).query(known.places[near])
            closer = distances < inward[near]
            inward[near[closer]], nearest[near[closer]] = distances[closer], added[rows[closer]]
        lost = np.flatnonzero(~surface.has(nearest))
        if lost.size:
            inward[lost], nearest[lost] = surface.nearest(reference.numbers[lost])
        return _Known(surface, outward, inward, nearest, known.places)


@dataclass(frozen=True)
class _Known:
    """Results of the last comparison.

    Attributes
    ----------
    surface
        The mask's surface.
    outward
        Distance of each of its voxels to the reference's surface.
    inward, nearest
        Distance of each surface voxel of the reference to the mask's surface, and the nearest voxel there.
    places
        Positions of the reference's surface voxels.
    """

    surface: Surface
    outward: np.ndarray
    inward: np.ndarray
    nearest: np.ndarray
    places: np.ndarray
