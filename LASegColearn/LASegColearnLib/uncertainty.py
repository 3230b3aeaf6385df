"""Uncertainty of the networks about a segmentation, and their agreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.special import entr

from LASegColearnLib.boxes import bounding_box
from LASegColearnLib.metrics import dice_of_counts

_SURFACE_WIDTH_MM = 3.0


def normalized_entropy(probability: np.ndarray) -> np.ndarray:
    """Entropy of a foreground probability, normalized to its maximum: -(p ln p + q ln q) / ln 2 with q = 1 - p.

    Returns
    -------
    numpy.ndarray
        float32 of the same shape, from 0 (certain) to 1 (p = 0.5).
    """
    # Through rounding, blended windows may give a probability slightly outside 0 to 1, where entropy is undefined.
    p = np.clip(probability.astype(np.float32, copy=False), 0.0, 1.0)
    entropy: np.ndarray = (entr(p) + entr(1 - p)) / np.float32(np.log(2.0))
    return entropy


def disagreement(probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """Largest difference between the networks' foreground probabilities, for two |p_1 - p_2|. float32, 0 to 1."""
    highest = probabilities[0].astype(np.float32)
    lowest = highest.copy()
    for probability in probabilities[1:]:
        np.maximum(highest, probability, out=highest)
        np.minimum(lowest, probability, out=lowest)
    return highest - lowest


def combined_uncertainty(predicting: np.ndarray, students: Sequence[np.ndarray]) -> np.ndarray:
    """The larger of the predicting network's entropy and the students' disagreement, voxel by voxel.

    u = max(H(p) / ln 2, max_i p_i - min_i p_i): a voxel is uncertain if the predicting network is unsure, or if the
    students differ.

    Parameters
    ----------
    predicting
        Foreground probability of the network that makes the segmentation.
    students
        Foreground probabilities of the students; with fewer than two, the result is the entropy alone.

    Returns
    -------
    numpy.ndarray
        float32, 0 (certain) to 1.
    """
    entropy = normalized_entropy(predicting)
    return np.maximum(entropy, disagreement(students)) if len(students) > 1 else entropy


def mean_near_surface(values: np.ndarray, mask: np.ndarray, spacing_mm: Sequence[float]) -> float | None:
    """Mean of ``values`` over the voxels near the surface of ``mask``.

    A voxel is near if the nearest voxel on the other side of the surface is at most 3 mm away, center to center, or at
    most the largest side of a voxel, so that voxels at the surface always count. A mean over the whole scan would
    depend more on the size of the scan than on the segmentation.

    Parameters
    ----------
    values, mask
        Arrays of one shape; the mask is taken as true or false.
    spacing_mm
        Voxel size along each axis.

    Returns
    -------
    float or None
        None for a mask without a surface: empty, or filling the array.
    """
    mask = mask.astype(bool, copy=False)
    if not mask.any() or mask.all():
        return None
    width_mm = max(_SURFACE_WIDTH_MM, *spacing_mm)
    box = _box_around(mask, spacing_mm, width_mm)
    inside = mask[box]
    distance = np.where(
        inside,
        ndimage.distance_transform_edt(inside, sampling=spacing_mm),
        ndimage.distance_transform_edt(~inside, sampling=spacing_mm),
    )
    near = distance <= width_mm
    return float(values[box][near].mean(dtype=np.float64))


def pairwise_agreement(probabilities: Mapping[Any, np.ndarray]) -> dict[str, float]:
    """Pairwise Dice (0 to 1) of the networks' predictions (p > 0.5), by ``"one, other"``; 1 if both are empty."""
    masks = {name: probability > 0.5 for name, probability in probabilities.items()}
    agreement = {}
    for (one, a), (other, b) in combinations(masks.items(), 2):
        counts = (int(np.count_nonzero(voxels)) for voxels in (a, b, a & b))
        agreement[f"{one}, {other}"] = dice_of_counts(*counts)
    return agreement


def _box_around(mask: np.ndarray, spacing_mm: Sequence[float], width_mm: float) -> tuple[slice, ...]:
    """The mask's bounding box with a margin for all near voxels; distances in a whole scan would take much longer.

    The margin is at least one voxel, so that each voxel of the mask still has its nearest voxel outside.
    """
    margins = [int(width_mm / spacing) + 1 for spacing in spacing_mm]
    return tuple(slice(max(b.start - m, 0), b.stop + m) for b, m in zip(bounding_box(mask), margins, strict=True))
