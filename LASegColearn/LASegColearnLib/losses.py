"""The losses of the paper, implemented with MONAI and PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss

# Soft Dice of the foreground over the whole batch, squared denominators, smoothing 1e-5, as in the benchmark's methods:
# 1 - (2 sum(p g) + 1e-5) / (sum(p^2) + sum(g^2) + 1e-5), p the foreground's softmax, g the 0/1 target.
_foreground_dice = DiceLoss(sigmoid=False, squared_pred=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)

# The same without the squares, smoothing 1e-8: 1 - (2 sum(p g) + 1e-8) / (sum(p) + sum(g) + 1e-8).
_linear_dice = DiceLoss(sigmoid=False, batch=True, smooth_nr=1e-8, smooth_dr=1e-8)


def foreground_probability(logits: torch.Tensor) -> torch.Tensor:
    """Softmax of the left atrium's channel: (N, 2, X, Y, Z) -> (N, X, Y, Z) in float32.

    For two classes the softmax equals the sigmoid of the difference of the logits, which takes one pass, not three.
    """
    return torch.sigmoid(logits[:, 1].float() - logits[:, 0].float())


def pseudo_label(logits: torch.Tensor) -> torch.Tensor:
    """Argmax of the softmax without gradient: (N, 2, X, Y, Z) -> (N, X, Y, Z), 0 or 1 in float32."""
    with torch.no_grad():
        return (logits[:, 1] > logits[:, 0]).float()


def dice_loss(probability: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """L_dice of eqs. 3-8.

    Parameters
    ----------
    probability
        Foreground probability (N, X, Y, Z).
    target
        0/1 target of the same shape; never gets a gradient.
    """
    return _foreground_dice(probability[:, None], target[:, None].detach())


def linear_dice_loss(probability: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Soft Dice loss without squares in the denominator, with sums over the whole input, as in MC-Net and SS-Net.

    Parameters
    ----------
    probability
        Array of any shape.
    target
        Array of the same shape, 0 to 1; never gets a gradient.
    """
    return _linear_dice(probability.reshape(1, 1, -1), target.detach().reshape(1, 1, -1))


def mix_loss(probability: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """One term of eq. 17: mean squared error between softmax and one-hot target over all voxels and both classes.

    Both channels differ from their targets by the same amount, so the foreground's mean equals the mean over both.
    """
    return F.mse_loss(probability, target.detach())


def cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean voxel cross-entropy of logits (N, 2, X, Y, Z) against a 0/1 target (N, X, Y, Z)."""
    difference = logits[:, 1].float() - logits[:, 0].float()
    return F.binary_cross_entropy_with_logits(difference, target.detach())


def label_loss(logits: torch.Tensor, labels: torch.Tensor, cross_entropy_weight: float) -> torch.Tensor:
    """Loss on labeled patches: Dice (eq. 3), and cross-entropy where a preset adds it."""
    loss = dice_loss(foreground_probability(logits), labels)
    if cross_entropy_weight:
        loss = loss + cross_entropy_weight * cross_entropy(logits, labels)
    return loss
