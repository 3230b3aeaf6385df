"""INDMIX and OUTDMIX: copy-paste between two patches, and the targets for it (eqs. 11-14)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def mixing_mask(shape: Sequence[int], crop: float, rng: np.random.Generator) -> torch.Tensor:
    """A mask that is 1 outside a randomly placed box and 0 inside it.

    Parameters
    ----------
    shape
        Voxels (X, Y, Z) of the patch.
    crop
        Side of the box as a share of the patch's side along each axis: the paper's cropping parameter. 1 fills the
        patch.
    rng
        Generator for the box's position, uniform over all positions inside the patch.

    Returns
    -------
    torch.Tensor
        float32 (X, Y, Z).
    """
    return box_mask(shape, [min(max(round(side * crop), 1), side) for side in shape], rng)


def box_mask(shape: Sequence[int], lengths: Sequence[int], rng: np.random.Generator) -> torch.Tensor:
    """Like :func:`mixing_mask`, with the sides of the box in voxels."""
    mask = torch.ones(tuple(shape))
    box = []
    for side, length in zip(shape, lengths, strict=True):
        start = int(rng.integers(0, side - length + 1))
        box.append(slice(start, start + length))
    mask[tuple(box)] = 0.0
    return mask


def mix(outside: torch.Tensor, inside: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """``outside`` where the mask is 1, ``inside`` where it is 0: eqs. 11 and 12, and their targets.

    With a labeled patch outside and an unlabeled one inside this is Mixed_1 (eq. 11), the other way round Mixed_2
    (eq. 12). Targets are composed with the same mask, since a target must match its image; eq. 13 as printed has label
    and pseudo-label the other way round.
    """
    return torch.where(mask.bool(), outside, inside)
