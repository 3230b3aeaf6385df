"""URPC: predictions at four scales of one network agree, with less weight where they differ much."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss
from torch import nn

from LASegColearnLib.losses import cross_entropy, foreground_probability
from LASegColearnLib.methods.base import Batch, Loss, Method, gaussian_ramp
from LASegColearnLib.networks import VNet
from LASegColearnLib.settings import Settings

# All from the published code, train_uncertainty_rectified_pyramid_consistency_3D.py.
_WEIGHT = 0.1
_SCALES = 4
# Dropout rates after the decoder's levels, from full resolution down, as shares of the coarsest level's: published are
# 0.1, 0.2, 0.3 and 0.5.
_DROPOUT_SHARES = (0.2, 0.4, 0.6, 1.0)
_dice_of_both = DiceLoss(include_background=True, squared_pred=True, batch=True, smooth_nr=1e-5, smooth_dr=1e-5)


class PyramidVNet(VNet):
    """The V-Net with a head after each level of its decoder; the coarser outputs are interpolated to full size.

    Dropout is after each level of the decoder, not after the encoder.
    """

    def __init__(self, filters: int = 16, normalization: str = "batch", dropout: float = 0.5) -> None:
        super().__init__(filters, normalization, dropout=0.0)
        self.coarse_heads = nn.ModuleList(nn.Conv3d(filters * 2**level, 2, 1) for level in range(1, _SCALES))
        self.dropouts = nn.ModuleList(nn.Dropout3d(dropout * share) for share in _DROPOUT_SHARES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, 2, X, Y, Z) of full resolution; in training the coarser levels' follow, (N, 8, X, Y, Z)."""
        x, skips = self.encode(x)
        coarse: list[torch.Tensor] = []
        for level in reversed(range(_SCALES)):
            x = self.dropouts[level](self.decoder[level](self.up[level](x) + skips[level]))
            if self.training and level > 0:
                coarse.insert(0, self._enlarged(self.coarse_heads[level - 1](x), 2**level))
        return torch.cat([self.head(x), *coarse], dim=1)

    @staticmethod
    def _enlarged(logits: torch.Tensor, factor: int) -> torch.Tensor:
        # In float32: CUDA's backward pass sums hundreds of gradients per voxel in the input's type.
        return F.interpolate(logits.float(), scale_factor=factor, mode="trilinear")


class UncertaintyRectifiedPyramid(Method):
    """Each of four scales agrees with their mean, with less weight where it is far from it (Luo et al., MICCAI 2021).

    Losses and weights are those of the published code, in which nothing is detached. The full resolution predicts. The
    ramp-up lasts 60000 of 60000 iterations in the paper, so the whole run here.

    Differences: the four heads are on the V-Net that all methods here share, with its initialization, instead of a
    U-Net; the dropout rates after the decoder's levels have the published proportions, scaled to the settings' rate.
    For all methods here, optimizer, learning rate, patches, augmentation, batch and normalization come from the
    settings.
    """

    title = "URPC: the outputs of four scales must agree on unlabeled scans, less where one is unsure"
    citation = (
        "X. Luo, W. Liao, J. Chen, T. Song, Y. Chen, S. Zhang, N. Chen, G. Wang, S. Zhang. Efficient semi-supervised "
        "gross target volume of nasopharyngeal carcinoma segmentation via uncertainty rectified pyramid consistency. "
        "MICCAI 2021."
    )
    needs_unlabeled = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.network = PyramidVNet(settings.filters, settings.normalization, settings.dropout)
        self.networks = {"network": self.network}
        self.predictor = "network"

    def parameters(self) -> list[nn.Parameter]:
        return list(self.network.parameters())

    def phase(self, progress: float) -> str:
        return "pyramid consistency"

    def loss(self, batch: Batch, progress: float) -> Loss:
        self.network.train()
        output = self.network(torch.cat([batch.labeled, batch.unlabeled]))
        labeled, unlabeled = output.split([len(batch.labeled), len(batch.unlabeled)])
        supervised = torch.stack(
            [
                cross_entropy(logits, batch.labels) + _dice_loss(foreground_probability(logits), batch.labels)
                for logits in labeled.split(2, dim=1)
            ]
        ).sum() / (2 * _SCALES)
        consistency = rectified_consistency(unlabeled.split(2, dim=1))
        total = supervised + _WEIGHT * gaussian_ramp(self.furthest(progress)) * consistency
        return Loss(total, {"labeled": supervised, "consistency": consistency})


def rectified_consistency(scales: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean over the scales of the weighted squared distance from the mean softmax, plus the divergence from it.

    D_s = KL(mean || p_s) in each voxel is a scale's uncertainty, exp(-D_s) its weight. Log-probabilities are computed
    from logits, so that they stay finite.

    Parameters
    ----------
    scales
        Logits (N, 2, X, Y, Z) of each scale.
    """
    differences = torch.stack([logits[:, 1].float() - logits[:, 0].float() for logits in scales])
    # (scales, classes, N, X, Y, Z)
    logs = torch.stack([F.logsigmoid(-differences), F.logsigmoid(differences)], dim=1)
    probabilities = logs.exp()
    mean = probabilities.mean(0)
    log_of_mean = torch.logsumexp(logs, dim=0) - torch.log(torch.tensor(float(len(scales))))
    divergence = (mean * (log_of_mean - logs)).sum(1)
    weights = torch.exp(-divergence)
    # Both classes are equally far from their means, so the foreground's error is the mean over both.
    errors = (mean[1] - probabilities[:, 1]) ** 2
    of_each = (1, 2, 3, 4)
    rectified = (errors * weights).mean(of_each) / (weights.mean(of_each) + 1e-8)
    return (rectified + divergence.mean(of_each)).mean()


def _dice_loss(probability: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Dice loss with squared denominators: the mean over both classes, with sums over the whole batch."""
    return _dice_of_both(
        torch.stack([1.0 - probability, probability], dim=1), torch.stack([1.0 - labels, labels], dim=1)
    )
