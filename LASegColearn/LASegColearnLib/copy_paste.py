"""Bidirectional copy-paste between labeled and unlabeled patches, shared by BCP and SDCL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from monai.losses import MaskedDiceLoss

from LASegColearnLib.components import largest_component
from LASegColearnLib.losses import cross_entropy, foreground_probability, pseudo_label
from LASegColearnLib.methods.base import Batch
from LASegColearnLib.mixing import box_mask, mix

# All values are from BCP's published code, LA_BCP_train.py and BCP_utils.py.
_BOX = (2, 3)
_TRUE_WEIGHT, _PSEUDO_WEIGHT = 1.0, 0.5
# 1 - mean over patches and both classes of (2 sum(p g) + 1e-5) / (sum(p) + sum(g) + 1e-5), sums over the mask alone.
_dice_in_mask = MaskedDiceLoss(include_background=True, smooth_nr=1e-5, smooth_dr=1e-5)


@dataclass
class Mixture:
    """Patches composed of labeled and unlabeled ones.

    Attributes
    ----------
    images
        (N, 1, X, Y, Z).
    targets
        (N, X, Y, Z), 0 or 1: labels and pseudo-labels, composed like the images.
    true
        (X, Y, Z), 1 where the targets are labels, 0 where they are pseudo-labels.
    """

    images: torch.Tensor
    targets: torch.Tensor
    true: torch.Tensor

    @property
    def weights(self) -> torch.Tensor:
        """(X, Y, Z): 1 where the targets are labels, 0.5 where they are pseudo-labels."""
        return _TRUE_WEIGHT * self.true + _PSEUDO_WEIGHT * (1.0 - self.true)


def copy_paste_mask(shape: Sequence[int], rng: np.random.Generator) -> torch.Tensor:
    """Mask (X, Y, Z): 0 in a randomly placed box with two thirds of each side of the patch, rounded down; else 1."""
    return box_mask(shape, [side * _BOX[0] // _BOX[1] for side in shape], rng)


def mixtures(batch: Batch, pseudo_labels: torch.Tensor) -> tuple[Mixture, Mixture]:
    """Unlabeled boxes in labeled patches, and labeled boxes in unlabeled ones, with one mask for all.

    Boxes from the first half of the unlabeled patches are pasted into the first half of the labeled ones, and boxes
    from the second half of the labeled patches into the second half of the unlabeled ones. If there are fewer patches
    of one kind, they are repeated; a single patch counts as both halves.

    Parameters
    ----------
    batch
        At least one labeled and one unlabeled patch.
    pseudo_labels
        (N_u, X, Y, Z), 0 or 1: pseudo-labels of the unlabeled patches.
    """
    mask = copy_paste_mask(batch.labeled.shape[2:], batch.rng).to(batch.labeled.device)
    count = max(_half(len(batch.labeled)), _half(len(batch.unlabeled)))
    image_a, image_b = _halves(batch.labeled, count)
    label_a, label_b = _halves(batch.labels, count)
    other_a, other_b = _halves(batch.unlabeled, count)
    pseudo_a, pseudo_b = _halves(pseudo_labels, count)
    return (
        Mixture(mix(image_a, other_a, mask), mix(label_a, pseudo_a, mask), mask),
        Mixture(mix(other_b, image_b, mask), mix(pseudo_b, label_b, mask), 1.0 - mask),
    )


def labeled_mixture(batch: Batch) -> Mixture:
    """Boxes from the second half of the labeled patches pasted into the first half; all targets are labels."""
    mask = copy_paste_mask(batch.labeled.shape[2:], batch.rng).to(batch.labeled.device)
    count = _half(len(batch.labeled))
    images, labels = _halves(batch.labeled, count), _halves(batch.labels, count)
    return Mixture(mix(*images, mask), mix(*labels, mask), torch.ones_like(mask))


def _half(count: int) -> int:
    return (count + 1) // 2


def _halves(patches: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first and the second half of the patches, each repeated until there are ``count``."""
    half = _half(len(patches))
    places = torch.arange(count, device=patches.device) % half
    return patches[:half][places], patches[-half:][places]


@torch.no_grad()
def connected_pseudo_labels(logits: torch.Tensor) -> torch.Tensor:
    """The largest connected component of each patch's argmax: (N, 2, X, Y, Z) -> (N, X, Y, Z), 0 or 1."""
    masks = pseudo_label(logits).cpu().numpy() > 0
    return torch.from_numpy(np.stack([largest_component(mask) for mask in masks])).to(logits.device, torch.float32)


def labeled_loss(logits: torch.Tensor, mixture: Mixture) -> torch.Tensor:
    """The loss of the first stage: half the sum of cross-entropy and the Dice loss of both classes."""
    dice = _masked_dice(foreground_probability(logits), mixture.targets, torch.ones_like(mixture.true))
    return 0.5 * (dice + cross_entropy(logits, mixture.targets))


def mixture_loss(logits: torch.Tensor, mixture: Mixture) -> torch.Tensor:
    """The same over the voxels with labels, plus half as much over those with pseudo-labels."""
    probability = foreground_probability(logits)
    entropies = voxel_cross_entropy(logits, mixture.targets)
    total = torch.zeros((), device=logits.device)
    for region, weight in ((mixture.true, _TRUE_WEIGHT), (1.0 - mixture.true, _PSEUDO_WEIGHT)):
        voxels = region.sum() * len(logits)
        loss = _masked_dice(probability, mixture.targets, region) + (entropies * region).sum() / (voxels + 1e-16)
        total = total + 0.5 * weight * loss
    return total


def voxel_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each voxel: logits (N, 2, X, Y, Z) and targets (N, X, Y, Z), 0 or 1 -> (N, X, Y, Z)."""
    difference = logits[:, 1].float() - logits[:, 0].float()
    return F.binary_cross_entropy_with_logits(difference, targets, reduction="none")


def _masked_dice(probability: torch.Tensor, targets: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """Dice loss over the voxels where ``region`` (X, Y, Z) is 1: mean over patches and both classes."""
    both = torch.stack([1.0 - probability, probability], dim=1)
    targets_of_both = torch.stack([1.0 - targets, targets], dim=1)
    loss: torch.Tensor = _dice_in_mask(both, targets_of_both, region[None, None])
    return loss
