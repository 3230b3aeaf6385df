"""MC-Net: two decoders on one encoder, each trained towards the other's sharpened prediction."""

from __future__ import annotations

import torch
from torch import nn

from LASegColearnLib.convolutions import Convolution
from LASegColearnLib.losses import foreground_probability, linear_dice_loss
from LASegColearnLib.methods.base import Batch, Loss, Method, gaussian_ramp
from LASegColearnLib.networks import CONVOLUTIONS, Block, Resampling, VNet
from LASegColearnLib.settings import Settings

# All from the published code, train_mcnet_3d.py: the ramp-up lasts 6000 of its 15000 iterations.
_TEMPERATURE = 0.1
_CONSISTENCY_WEIGHT = 1.0
_RAMP_UP = 0.4


class TwoDecoderVNet(VNet):
    """The V-Net with a second decoder, which upsamples by interpolation instead of transposed convolutions.

    The layout is MC-Net's, with 12,347,716 parameters for 16 filters and batch normalization. The first decoder
    predicts.
    """

    def __init__(self, filters: int = 16, normalization: str = "batch", dropout: float = 0.5) -> None:
        super().__init__(filters, normalization, dropout)
        channels = [filters * 2**level for level in range(5)]
        self.second_up = nn.ModuleList(
            Resampling(
                nn.Sequential(
                    nn.Upsample(scale_factor=2, mode="trilinear", align_corners=True), Convolution(coarse, fine)
                ),
                fine,
                normalization,
                nn.ReLU(inplace=True),
            )
            for fine, coarse in zip(channels[:-1], channels[1:], strict=True)
        )
        self.second_decoder = nn.ModuleList(
            Block(width, width, count, normalization, lambda: nn.ReLU(inplace=True), residual=False)
            for width, count in zip(channels[:-1], CONVOLUTIONS[:-1], strict=True)
        )
        self.second_head_dropout = nn.Dropout3d(dropout)
        self.second_head = nn.Conv3d(filters, 2, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, 2, X, Y, Z) of the first decoder; in training the second's follow, (N, 4, X, Y, Z)."""
        bottom, skips = self.encode(x)
        bottom = self.bottom_dropout(bottom)
        first = self.head(self.head_dropout(self.decode(bottom, skips)))
        if not self.training:
            return first
        x = bottom
        for level in reversed(range(4)):
            x = self.second_decoder[level](self.second_up[level](x) + skips[level])
        return torch.cat([first, self.second_head(self.second_head_dropout(x))], dim=1)


class MutualConsistency(Method):
    """One encoder, two decoders, each trained towards the other's sharpened prediction (Wu et al., MICCAI 2021).

    Losses and weights are those of the published code: linear Dice on labels, and the squared difference between each
    decoder's probability and the other's sharpened one, on labeled and unlabeled patches; the sharpened side is not
    detached. The first decoder predicts. The ramp-up lasts 0.4 of the run, as in the paper.

    Different from the paper, for all methods here: optimizer, learning rate, patches, augmentation, batch,
    normalization and dropout come from the settings.
    """

    title = "MC-Net: two unlike decoders on one encoder, each following the other's sharpened opinion"
    citation = (
        "Y. Wu, M. Xu, Z. Ge, J. Cai, L. Zhang. Semi-supervised left atrium segmentation with mutual consistency "
        "training. MICCAI 2021."
    )
    needs_unlabeled = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.network = TwoDecoderVNet(settings.filters, settings.normalization, settings.dropout)
        self.networks = {"network": self.network}
        self.predictor = "network"

    def parameters(self) -> list[nn.Parameter]:
        return list(self.network.parameters())

    def phase(self, progress: float) -> str:
        return "mutual consistency"

    def loss(self, batch: Batch, progress: float) -> Loss:
        self.network.train()
        both = self.network(torch.cat([batch.labeled, batch.unlabeled])).split(2, dim=1)
        probabilities = [foreground_probability(logits) for logits in both]
        sharpened = [sharpen(logits) for logits in both]
        labeled = slice(len(batch.labeled))
        parts = {
            "labeled_1": linear_dice_loss(probabilities[0][labeled], batch.labels),
            "labeled_2": linear_dice_loss(probabilities[1][labeled], batch.labels),
            # Both classes differ by the same amount, so the foreground's mean is the mean over both.
            "consistency": nn.functional.mse_loss(probabilities[0], sharpened[1])
            + nn.functional.mse_loss(probabilities[1], sharpened[0]),
        }
        with torch.no_grad():
            parts["disagreement"] = ((probabilities[0] > 0.5) != (probabilities[1] > 0.5)).float().mean()
        supervised = 0.5 * (parts["labeled_1"] + parts["labeled_2"])
        ramp = gaussian_ramp(self.furthest(progress) / _RAMP_UP)
        return Loss(supervised + _CONSISTENCY_WEIGHT * ramp * parts["consistency"], parts)


def sharpen(logits: torch.Tensor) -> torch.Tensor:
    """p^(1/T) / (p^(1/T) + (1-p)^(1/T)) with T = 0.1 of the foreground's softmax p: (N, 2, ...) -> (N, ...).

    For two classes this equals the sigmoid of the difference of logits divided by T, without powers of a small p.
    """
    return torch.sigmoid((logits[:, 1].float() - logits[:, 0].float()) / _TEMPERATURE)
