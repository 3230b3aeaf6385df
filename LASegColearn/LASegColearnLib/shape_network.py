"""A V-Net that predicts mask and signed distance, and its target distance; shared by SASSNet and DTC."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from LASegColearnLib.networks import VNet


class ShapeVNet(VNet):
    """The V-Net with two heads of one channel instead of its own: signed distance and mask.

    With 16 filters it has 9,448,866 parameters like the V-Net, as in SASSNet's and DTC's code.
    """

    def __init__(self, filters: int = 16, normalization: str = "batch", dropout: float = 0.5) -> None:
        super().__init__(filters, normalization, dropout)
        del self.head
        self.distance_head = nn.Conv3d(filters, 1, kernel_size=1)
        self.mask_head = nn.Conv3d(filters, 1, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output for patches (N, 1, X, Y, Z): in training (N, 3, X, Y, Z), see :func:`mask_and_distance`; else logits.

        The logits (N, 2, X, Y, Z) are 0 and the mask's; their softmax is the mask's sigmoid.
        """
        features = self.features(x)
        mask = self.mask_head(features)
        logits = torch.cat([torch.zeros_like(mask), mask], dim=1)
        return torch.cat([logits, self.distance_head(features)], dim=1) if self.training else logits

    def distance(self, x: torch.Tensor) -> torch.Tensor:
        """Signed distance (N, X, Y, Z), -1 to 1, for patches (N, 1, X, Y, Z)."""
        return torch.tanh(self.distance_head(self.features(x))[:, 0].float())


def mask_and_distance(output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mask probability and signed distance (-1 to 1), each (N, X, Y, Z), from the network's output in training."""
    return torch.sigmoid(output[:, 1].float()), torch.tanh(output[:, 2].float())


def signed_distance(labels: torch.Tensor) -> torch.Tensor:
    """Signed distance to the surface of each label, negative inside, as in SASSNet's code.

    Parameters
    ----------
    labels
        (N, X, Y, Z), 0 or 1.

    Returns
    -------
    torch.Tensor
        float32 (N, X, Y, Z). Distances outside and inside are each divided by their maximum in the patch, so that all
        are in [-1, 1]; the outermost voxels of the mask are 0. A patch without a surface, empty or full, is all 0 (for
        a full one the published code divides by zero).
    """
    masks = labels.cpu().numpy() > 0.5
    return torch.from_numpy(np.stack([_signed_distance(mask) for mask in masks])).to(labels.device)


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    if not mask.any() or mask.all():
        return np.zeros(mask.shape, dtype=np.float32)
    outside = ndimage.distance_transform_edt(~mask)
    inside = ndimage.distance_transform_edt(mask)
    distance = outside / outside.max() - inside / inside.max()
    # The edge of the patch is not a surface.
    distance[mask & ~ndimage.binary_erosion(mask, border_value=1)] = 0.0
    return distance.astype(np.float32)
