"""Supervised training of one V-Net on labels alone: the baseline of every comparison."""

from __future__ import annotations

from torch import nn

from LASegColearnLib.losses import label_loss
from LASegColearnLib.methods.base import Batch, Loss, Method
from LASegColearnLib.networks import VNet
from LASegColearnLib.settings import Settings


class Supervised(Method):
    """One V-Net trained on labeled patches; its batch has as many patches as a semi-supervised one.

    The loss is that of co-learning on labels: Dice, plus cross-entropy with the weight in the settings. The benchmark's
    code, train_LA.py of UA-MT, has half of their sum instead. Optimizer, learning rate, patches, augmentation,
    normalization and dropout come from the settings.
    """

    title = "Supervised V-Net: learns from the labeled scans alone"
    citation = "F. Milletari, N. Navab, S.-A. Ahmadi. V-Net. 3DV 2016."
    needs_unlabeled = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.network = VNet(settings.filters, settings.normalization, settings.dropout)
        self.networks = {"network": self.network}
        self.predictor = "network"

    def parameters(self) -> list[nn.Parameter]:
        return list(self.network.parameters())

    def phase(self, progress: float) -> str:
        return "supervised"

    def batch_sizes(self, progress: float) -> tuple[int, int]:
        return self.settings.labeled_batch + self.settings.unlabeled_batch, 0

    def loss(self, batch: Batch, progress: float) -> Loss:
        self.network.train()
        loss = label_loss(self.network(batch.labeled), batch.labels, self.settings.cross_entropy_weight)
        return Loss(loss, {"labeled": loss})
