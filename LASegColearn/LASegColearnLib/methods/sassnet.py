"""SASSNet: a discriminator makes shapes in unlabeled scans resemble those in labeled scans."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import nn

from LASegColearnLib.convolutions import SafeConv3d
from LASegColearnLib.losses import dice_loss
from LASegColearnLib.methods.base import Batch, Loss, Method, gaussian_ramp
from LASegColearnLib.settings import Settings
from LASegColearnLib.shape_network import ShapeVNet, mask_and_distance, signed_distance

# All from the published code, train_gan_sdfloss.py; the adversarial weight is its README's for eight labels.
_DISTANCE_WEIGHT = 0.3
_ADVERSARIAL_WEIGHT = 0.015
_DISCRIMINATOR_RATE = 1e-4
_DISCRIMINATOR_BETAS = (0.9, 0.99)
_SLOPE = 0.2
_DROPOUT = 0.5
_UNLABELED, _LABELED = 0, 1


class Discriminator(nn.Module):
    """Logits (N, 2) for unlabeled (0) or labeled (1), from signed distance and image, each (N, 1, X, Y, Z).

    The layout is SASSNet's, starting with four times the V-Net's filters: 11,020,290 parameters for 16. A global mean
    replaces the published pooling window, which covers all that is left of the published patch.
    """

    def __init__(self, filters: int) -> None:
        super().__init__()
        channels = [4 * filters * 2**level for level in range(4)]
        self.of_distance = _halving(1, channels[0])
        self.of_image = _halving(1, channels[0])
        layers: list[nn.Module] = [nn.LeakyReLU(_SLOPE), nn.Dropout3d(_DROPOUT)]
        for level, (finer, coarser) in enumerate(zip(channels[:-1], channels[1:], strict=True)):
            layers += [_halving(finer, coarser), nn.LeakyReLU(_SLOPE)]
            if level < 2:
                layers.append(nn.Dropout3d(_DROPOUT))
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten())
        self.classes = nn.Linear(channels[-1], 2)

    def forward(self, distance: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return self.classes(self.layers(self.of_distance(distance) + self.of_image(image))).float()


def _halving(channels_in: int, channels: int) -> nn.Module:
    return SafeConv3d(channels_in, channels, kernel_size=4, stride=2, padding=1)


class ShapeAware(Method):
    """A V-Net with heads for mask and signed distance, and a discriminator of distances (Li et al., MICCAI 2020).

    Losses, weights, discriminator and its optimizer are those of the published code. The mask's head predicts. After
    each step of the network the discriminator makes one on the same patches. The ramp-up lasts 6000 of 6000 iterations
    in the paper, so the whole run here. The adversarial weight is the one for eight labels, whatever their number.

    Different from the paper, for all methods here: optimizer, learning rate, patches, augmentation, batch,
    normalization and dropout of the network come from the settings; the discriminator's width follows the network's.
    """

    title = "SASSNet: shapes found in unlabeled scans must look, to a discriminator, like those in labeled ones"
    citation = (
        "S. Li, C. Zhang, X. He. Shape-aware semi-supervised 3D semantic segmentation for medical images. MICCAI 2020."
    )
    needs_unlabeled = True
    several_processes = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.network = ShapeVNet(settings.filters, settings.normalization, settings.dropout)
        self.networks = {"network": self.network}
        self.predictor = "network"
        # The discriminator's weights get gradients only from its own loss, not from the network's.
        self.discriminator = Discriminator(settings.filters).requires_grad_(False)
        self.auxiliary = {"discriminator": self.discriminator}
        self.adam = torch.optim.Adam(self.discriminator.parameters(), _DISCRIMINATOR_RATE, _DISCRIMINATOR_BETAS)
        # Only the parts of the last iteration: a skipped one must not be learned from later.
        self._parts: deque[Batch] = deque(maxlen=settings.batch_parts)

    def parameters(self) -> list[nn.Parameter]:
        return list(self.network.parameters())

    def phase(self, progress: float) -> str:
        return "adversarial"

    def loss(self, batch: Batch, progress: float) -> Loss:
        self.network.train()
        self.discriminator.eval()
        self._parts.append(batch)
        mask, distance = mask_and_distance(self.network(torch.cat([batch.labeled, batch.unlabeled])))
        labeled, unlabeled = slice(len(batch.labeled)), slice(len(batch.labeled), None)
        verdict = self.discriminator(distance[unlabeled, None], batch.unlabeled)
        parts = {
            "labeled": dice_loss(mask[labeled], batch.labels),
            "distance": nn.functional.mse_loss(distance[labeled], signed_distance(batch.labels)),
            "adversarial": nn.functional.cross_entropy(verdict, _all(_LABELED, verdict)),
        }
        total = parts["labeled"] + _DISTANCE_WEIGHT * parts["distance"]
        return Loss(total + _ADVERSARIAL_WEIGHT * gaussian_ramp(self.furthest(progress)) * parts["adversarial"], parts)

    def after_step(self, progress: float) -> None:
        """The discriminator's step: learn to tell labeled from unlabeled patches by the network's current output."""
        self.network.eval()
        self.discriminator.train().requires_grad_(True)
        self.adam.zero_grad(set_to_none=True)
        for batch in self._parts:
            images = torch.cat([batch.labeled, batch.unlabeled])
            with self.autocast():
                with torch.no_grad():
                    distance = self.network.distance(images)
                verdict = self.discriminator(distance[:, None], images)
            truth = torch.cat(
                [_all(_LABELED, verdict[: len(batch.labeled)]), _all(_UNLABELED, verdict[len(batch.labeled) :])]
            )
            (nn.functional.cross_entropy(verdict, truth) / len(self._parts)).backward()
        self.adam.step()
        self.discriminator.requires_grad_(False)
        self._parts.clear()

    def state(self) -> dict[str, Any]:
        return {"adam": self.adam.state_dict(), **super().state()}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.adam.load_state_dict(state["adam"])


def _all(kind: int, verdict: torch.Tensor) -> torch.Tensor:
    return torch.full((len(verdict),), kind, device=verdict.device)
