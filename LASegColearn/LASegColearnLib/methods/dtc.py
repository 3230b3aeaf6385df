"""DTC: the mask and the signed distance predicted by one network must agree."""

from __future__ import annotations

import torch
from torch import nn

from LASegColearnLib.losses import dice_loss
from LASegColearnLib.methods.base import Batch, Loss, Method, gaussian_ramp
from LASegColearnLib.settings import Settings
from LASegColearnLib.shape_network import ShapeVNet, mask_and_distance, signed_distance

# All from the published code, train_la_dtc.py.
_DISTANCE_WEIGHT = 0.3
_CONSISTENCY_WEIGHT = 1.0
_STEEPNESS = 1500.0


class DualTaskConsistency(Method):
    """A V-Net with a head for the mask and one for the signed distance, which must agree (Luo et al., AAAI 2021).

    Losses and weights are those of the published code; the consistency is computed on labeled and unlabeled patches,
    and its gradient flows through both heads. The mask's head predicts. The ramp-up lasts 6000 of 6000 iterations in
    the paper, so the whole run here. The mask's outermost voxels have distance 0, for which the task transform gives
    0.5: at 1.25 mm they are a tenth of an atrium, twice as much as at the published 0.625 mm.

    Different from the paper, for all methods here: optimizer, learning rate, patches, augmentation, batch,
    normalization and dropout come from the settings.
    """

    title = "DTC: mask and signed distance from one network must agree, on unlabeled scans too"
    citation = (
        "X. Luo, J. Chen, T. Song, G. Wang. Semi-supervised medical image segmentation through dual-task consistency. "
        "AAAI 2021."
    )
    needs_unlabeled = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.network = ShapeVNet(settings.filters, settings.normalization, settings.dropout)
        self.networks = {"network": self.network}
        self.predictor = "network"

    def parameters(self) -> list[nn.Parameter]:
        return list(self.network.parameters())

    def phase(self, progress: float) -> str:
        return "dual-task consistency"

    def loss(self, batch: Batch, progress: float) -> Loss:
        self.network.train()
        mask, distance = mask_and_distance(self.network(torch.cat([batch.labeled, batch.unlabeled])))
        labeled = slice(len(batch.labeled))
        parts = {
            "labeled": dice_loss(mask[labeled], batch.labels),
            "distance": nn.functional.mse_loss(distance[labeled], signed_distance(batch.labels)),
            "consistency": nn.functional.mse_loss(mask_of(distance), mask),
        }
        total = parts["labeled"] + _DISTANCE_WEIGHT * parts["distance"]
        return Loss(total + _CONSISTENCY_WEIGHT * gaussian_ramp(self.furthest(progress)) * parts["consistency"], parts)


def mask_of(distance: torch.Tensor) -> torch.Tensor:
    """The task transform: a nearly binary mask, 1 where the signed distance is negative."""
    return torch.sigmoid(-_STEEPNESS * distance)
