"""Batches of noise."""

from __future__ import annotations

import numpy as np
import torch

from LASegColearnLib.methods.base import Batch


def noise_batch(side: tuple[int, ...], number: int = 0, labeled: int = 2, unlabeled: int = 2) -> Batch:
    """Patches of noise under labels of noise; the same for the same number."""
    torch.manual_seed(number)
    return Batch(
        labeled=torch.randn(labeled, 1, *side),
        labels=(torch.rand(labeled, *side) > 0.6).float(),
        unlabeled=torch.randn(unlabeled, 1, *side),
        weakly_augmented=torch.randn(unlabeled, 1, *side),
        pseudo_labels=torch.empty(0, *side),
        number=number,
        rng=np.random.default_rng(number),
    )
