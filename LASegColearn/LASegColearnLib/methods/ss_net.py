"""SS-Net: output that is robust to adversarial noise, and features near those of well-segmented voxels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from LASegColearnLib.losses import foreground_probability, linear_dice_loss
from LASegColearnLib.methods.base import Batch, Loss, Method, gaussian_ramp
from LASegColearnLib.networks import VNet
from LASegColearnLib.settings import Settings

# All from the published code, train_ss_3d.py: the ramp-up lasts 6000 of its 15000 iterations.
_CONTRAST_WEIGHT = 0.1
_RAMP_UP = 0.4
_NOISE_NORM = 10.0
# Not from the published code: the noise's gradient is normalized later, so this only keeps it in float16's range.
_GRADIENT_SCALE = 2.0**14
_MEMORY_SIZE = 32
_WIDTH = 32
_SLOPE = 0.2
_CLASSES = 2


class FeatureVNet(VNet):
    """The V-Net that in training also returns the features before its head."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, 2, X, Y, Z); in training the features follow, (N, 2 + filters, X, Y, Z)."""
        features = self.features(x)
        logits = self.head(features)
        return torch.cat([logits, features], dim=1) if self.training else logits


class ContrastHeads(nn.Module):
    """Maps a voxel's features to a vector for comparison, and gives its weight.

    The layout is SS-Net's, but only with the selector of the foreground's features. Its other selectors never learn:
    no background enters the memory, and the weights of the vectors in memory cancel.
    """

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.projection = nn.Sequential(
            nn.Linear(filters, _WIDTH), nn.BatchNorm1d(_WIDTH), nn.ReLU(), nn.Linear(_WIDTH, _WIDTH)
        )
        self.prediction = nn.Sequential(
            nn.Linear(_WIDTH, _WIDTH), nn.BatchNorm1d(_WIDTH), nn.ReLU(), nn.Linear(_WIDTH, _WIDTH)
        )
        self.selector = nn.Sequential(
            nn.Linear(_WIDTH, _WIDTH), nn.BatchNorm1d(_WIDTH), nn.LeakyReLU(_SLOPE), nn.Linear(_WIDTH, 1)
        )

    def weights(self, vectors: torch.Tensor) -> torch.Tensor:
        """Weights (V,), 0 to 1, of vectors (V, 32)."""
        return torch.sigmoid(self.selector(vectors)[:, 0])


class SmoothAndSeparate(Method):
    """A V-Net robust to adversarial noise, with features near remembered ones (Wu et al., MICCAI 2022).

    Losses, weights, noise and memory are those of the published code, even where it does less than the paper
    describes: only the foreground is remembered, so features are pulled together but not apart. The ramp-up lasts 0.4
    of the run, as in the paper. The noise has norm 10 for every patch size: for 64×64×48 voxels that is more than twice
    as much per voxel as for the published 112×112×80. Also, at the end of the ramp-up a cosine schedule has not fallen
    as far as the published steps. Both give smoothness more weight with the preset ``cpu`` than published.

    Different from the paper, for all methods here: optimizer, learning rate, patches, augmentation, batch,
    normalization and dropout come from the settings.
    """

    title = "SS-Net: the output withstands adversarial noise, and features stay near those of voxels known well"
    citation = (
        "Y. Wu, Z. Wu, Q. Wu, Z. Ge, J. Cai. Exploring smoothness and class-separation for semi-supervised medical "
        "image segmentation. MICCAI 2022."
    )
    needs_unlabeled = True
    several_processes = False
    # The heads keep vectors of 32 numbers for each voxel. Measured (docs/benchmarks.md, "Methods side by side").
    feature_maps_of_a_step = 176.0

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.network = FeatureVNet(settings.filters, settings.normalization, settings.dropout)
        self.heads = ContrastHeads(settings.filters)
        self.networks = {"network": self.network}
        self.auxiliary = {"heads": self.heads}
        self.predictor = "network"
        # Vectors (at most 32, 32) of the foreground; a batch's vectors are kept only if its step is made.
        self.memory: torch.Tensor | None = None
        self._new_memory: torch.Tensor | None = None

    def parameters(self) -> list[nn.Parameter]:
        return [*self.network.parameters(), *self.heads.parameters()]

    def phase(self, progress: float) -> str:
        return "smoothness and separation"

    def loss(self, batch: Batch, progress: float) -> Loss:
        self.network.train()
        self.heads.train()
        images = torch.cat([batch.labeled, batch.unlabeled])
        output = self.network(images)
        logits, features = output[:, :2], output[:, 2:].float()
        labeled = slice(len(batch.labeled))
        unlabeled = slice(len(batch.labeled), None)
        probability = foreground_probability(logits)
        found = (probability > 0.5).detach()
        inside = batch.labels > 0.5
        memory = self._remembered(features[labeled], inside & found[labeled])
        parts = {
            "labeled": linear_dice_loss(probability[labeled], batch.labels),
            "smoothness": self.smoothness(images),
            "contrast_labeled": self.contrast(features[labeled], inside, memory),
            "contrast_unlabeled": self.contrast(features[unlabeled], found[unlabeled], memory),
        }
        contrast = parts["contrast_labeled"] + parts["contrast_unlabeled"]
        ramp = gaussian_ramp(self.furthest(progress) / _RAMP_UP)
        total = parts["labeled"] + ramp * (parts["smoothness"] + _CONTRAST_WEIGHT * contrast)
        return Loss(total, parts)

    def after_step(self, progress: float) -> None:
        """Keep the vectors that the batch has put into the memory."""
        self.memory = self._new_memory

    def state(self) -> dict[str, Any]:
        return {"memory": self.memory, **super().state()}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        memory = state["memory"]
        self.memory = None if memory is None else memory.to(next(self.heads.parameters()).device)

    def smoothness(self, images: torch.Tensor) -> torch.Tensor:
        """Linear Dice loss over both classes between the output with adversarial noise and without.

        One step of the power method finds the noise, of norm 10 for each patch (N, 1, X, Y, Z). The Dice of a soft
        output with itself is below 1, so this also makes the output more confident, as in the published code.
        """
        with torch.no_grad():
            target = _both(self.network(images))
        direction = _normalized(torch.rand_like(images) - 0.5)
        with _statistics_untouched(self.network):
            noise = direction.requires_grad_(True)
            apart = linear_dice_loss(_both(self.network(images + _NOISE_NORM * noise)), target)
            (gradient,) = torch.autograd.grad(_GRADIENT_SCALE * apart, noise)
            direction = _normalized(gradient)
            return linear_dice_loss(_both(self.network(images + _NOISE_NORM * direction)), target)

    @torch.no_grad()
    def _remembered(self, features: torch.Tensor, correct: torch.Tensor) -> torch.Tensor | None:
        """The memory after this batch: of the correctly found foreground voxels, the 32 with the smallest weights.

        Parameters
        ----------
        features
            (N_l, filters, X, Y, Z).
        correct
            (N_l, X, Y, Z): left atrium, and found.
        """
        self._new_memory = self.memory
        chosen = features.movedim(1, -1)[correct]
        if len(chosen):
            self.heads.eval()
            # Without autocast: PyTorch 2.10 would cache its cast copy of the weights, made here without gradient, and
            # use it for the losses of the same batch (PyTorch issue 112583).
            with torch.autocast(chosen.device.type, enabled=False):
                vectors = self.heads.projection(chosen.float())
            # In the published code the selector ranks in training mode, by these vectors' own statistics.
            self.heads.train()
            if len(vectors) > _MEMORY_SIZE:
                with torch.autocast(chosen.device.type, enabled=False):
                    weights = self.heads.weights(vectors)
                vectors = vectors[torch.argsort(weights, stable=True)[:_MEMORY_SIZE]]
            self._new_memory = vectors
        return self._new_memory

    def contrast(self, features: torch.Tensor, inside: torch.Tensor, memory: torch.Tensor | None) -> torch.Tensor:
        """Weighted mean cosine distance of the foreground's vectors from the remembered ones, over two classes.

        The background has no memory and adds nothing.

        Parameters
        ----------
        features
            (N, filters, X, Y, Z).
        inside
            (N, X, Y, Z): left atrium, by label or output.
        memory
            Vectors (at most 32, 32).
        """
        # All voxels pass through the heads, since their batch normalization is over all of them.
        vectors = self.heads.prediction(self.heads.projection(features.movedim(1, -1).flatten(0, -2)))
        own = vectors[inside.flatten()].float()
        if memory is None or min(len(own), len(memory)) < 2:
            return vectors.sum() * 0.0
        distances = 1.0 - F.normalize(own, dim=1) @ F.normalize(memory, dim=1).T
        weights = self.heads.weights(own.detach())
        weights = len(own) / weights.sum() * weights
        return (distances * weights[:, None]).mean() / _CLASSES


def _both(output: torch.Tensor) -> torch.Tensor:
    """Probabilities of both classes (2, N, X, Y, Z)."""
    probability = foreground_probability(output)
    return torch.stack([1.0 - probability, probability])


def _normalized(noise: torch.Tensor) -> torch.Tensor:
    """The noise (N, 1, X, Y, Z), scaled to norm 1 in each patch."""
    return noise / (torch.linalg.vector_norm(noise, dim=(1, 2, 3, 4), keepdim=True) + 1e-8)


@contextmanager
def _statistics_untouched(network: nn.Module) -> Iterator[None]:
    """Within this block batch normalization uses each batch's statistics without updating the running ones."""
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
