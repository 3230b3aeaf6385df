"""One changing mask compared with several fixed ones, fast enough to follow a person's strokes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from LASegColearnLib.metrics import Metrics, Surface, metrics_of, surface_distances, voxel_ml


@dataclass(frozen=True)
class Change:
    """What was changed of a reference.

    Attributes
    ----------
    ml
        Volume, in mL, of what is in one of the two masks and not in the other.
    share
        The same as a share of the reference's volume, 0 or more (above 1 where more was changed than there was); None
        if the reference is empty.
    """

    ml: float
    share: float | None


class ReferenceMetrics:
    """Compares masks with the same references again and again.

    What belongs to a reference is computed once for all masks, and what belongs to a mask once for all references. Not
    to be used by two threads at a time.

    Parameters
    ----------
    references
        Masks of one shape by name, in any order of axes; anything above 0 is inside. They are copied.
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
        self._references = {name: _Prepared(mask, self._spacing) for name, mask in references.items()}
        for reference in self._references.values():
            self._check(reference.mask)

    def compare(self, mask: np.ndarray) -> dict[str, Metrics]:
        """The mask as prediction against each reference: the values of ``segmentation_metrics`` in mm.

        Raises
        ------
        ValueError
            If the mask is of another shape than the references.
        """
        self._check(mask)
        prepared = _Prepared(mask, self._spacing)
        found = {}
        for name, reference in self._references.items():
            both = int(np.count_nonzero(prepared.mask & reference.mask))
            distances = (math.nan, math.nan)
            if prepared.surface is not None and reference.surface is not None:
                distances = surface_distances(prepared.surface, reference.surface)
            found[name] = metrics_of(prepared.size, reference.size, both, distances, self._voxel_ml)
        return found

    def change(self, mask: np.ndarray, name: str) -> Change:
        """What the mask has more and less than a reference.

        Raises
        ------
        KeyError
            If there is no reference of this name.
        ValueError
            If the mask is of another shape than the references.
        """
        self._check(mask)
        reference = self._references[name]
        changed = int(np.count_nonzero((np.asarray(mask) > 0) ^ reference.mask))
        return Change(changed * self._voxel_ml, changed / reference.size if reference.size else None)

    def volume_ml(self, mask: np.ndarray) -> float:
        """Volume of a mask in mL."""
        return int(np.count_nonzero(np.asarray(mask) > 0)) * self._voxel_ml

    def _check(self, mask: np.ndarray) -> None:
        for reference in self._references.values():
            if mask.shape != reference.mask.shape:
                raise ValueError(f"Masks of different shapes: {mask.shape} and {reference.mask.shape}.")


class _Prepared:
    """A mask, its voxels' count and, unless it is empty, its surface."""

    def __init__(self, mask: np.ndarray, spacing: Sequence[float]) -> None:
        self.mask = np.asarray(mask) > 0
        self.size = int(np.count_nonzero(self.mask))
        self.surface = Surface(self.mask, spacing) if self.size else None
