"""The V-Net, in the layout that the methods of the left atrium benchmark share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import nn

from LASegColearnLib.convolutions import Convolution

# Number of convolutions in a block, from full resolution to the coarsest level.
CONVOLUTIONS = (1, 2, 3, 3, 3)
_GROUPS = 16


def _normalization(kind: str, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm3d(channels)
    if kind == "instance":
        return nn.InstanceNorm3d(channels)
    return nn.GroupNorm(math.gcd(_GROUPS, channels), channels)


class Block(nn.Module):
    """``count`` times convolution, normalization, activation; residual: the input is added before the last activation.

    A residual block has the same tensors as a plain one; in the first block the scan's single channel is added to all.
    """

    def __init__(
        self,
        channels_in: int,
        channels: int,
        count: int,
        normalization: str,
        activation: Callable[[], nn.Module],
        residual: bool,
    ) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            Convolution(channels_in if i == 0 else channels, channels) for i in range(count)
        )
        self.normalizations = nn.ModuleList(_normalization(normalization, channels) for _ in range(count))
        self.activation = activation()
        self.residual = residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        entering = x
        last = len(self.convolutions) - 1
        for index, (convolution, normalization) in enumerate(zip(self.convolutions, self.normalizations, strict=True)):
            x = normalization(convolution(x))
            if self.residual and index == last:
                x = x + entering
            x = self.activation(x)
        return x


class Resampling(nn.Module):
    """Downsampling by a strided or upsampling by a transposed convolution, then normalization and activation."""

    def __init__(self, convolution: nn.Module, channels: int, normalization: str, activation: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution
        self.normalization = _normalization(normalization, channels)
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.normalization(self.convolution(x)))


class VNet(nn.Module):
    """V-Net for two classes (background, left atrium) whose skip connections are added, not concatenated.

    The layout is UA-MT's published V-Net (Yu et al., MICCAI 2019), after Milletari et al., 3DV 2016. With 16 filters
    and batch normalization it has 9,448,866 parameters.

    Parameters
    ----------
    filters
        Channels at full resolution; doubled at each of the four coarser levels.
    normalization
        ``batch``, ``instance`` (without parameters) or ``group``.
    dropout
        Dropout rate of whole channels after the coarsest and after the last block, in training.
    residual
        Residual blocks instead of plain ones. Names and shapes of all tensors stay the same.
    negative_slope
        Slope of the activation below zero; 0 is ReLU. Changes no tensor.
    """

    def __init__(
        self,
        filters: int = 16,
        normalization: str = "batch",
        dropout: float = 0.5,
        residual: bool = False,
        negative_slope: float = 0.0,
    ) -> None:
        super().__init__()

        def activation() -> nn.Module:
            return nn.LeakyReLU(negative_slope, inplace=True) if negative_slope else nn.ReLU(inplace=True)

        channels = [filters * 2**level for level in range(5)]

        def block(channels_in: int, level: int) -> Block:
            count = CONVOLUTIONS[level]
            return Block(channels_in, channels[level], count, normalization, activation, residual)

        self.encoder = nn.ModuleList(block(1 if level == 0 else channels[level], level) for level in range(5))
        self.down = nn.ModuleList(
            Resampling(nn.Conv3d(fine, coarse, 2, stride=2), coarse, normalization, activation())
            for fine, coarse in zip(channels[:-1], channels[1:], strict=True)
        )
        self.up = nn.ModuleList(
            Resampling(nn.ConvTranspose3d(coarse, fine, 2, stride=2), fine, normalization, activation())
            for fine, coarse in zip(channels[:-1], channels[1:], strict=True)
        )
        self.decoder = nn.ModuleList(block(channels[level], level) for level in range(4))
        self.bottom_dropout = nn.Dropout3d(dropout)
        self.head_dropout = nn.Dropout3d(dropout)
        self.head = nn.Conv3d(filters, 2, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, 2, X, Y, Z) of patches (N, 1, X, Y, Z); X, Y, Z multiples of 16."""
        return self.head(self.features(x))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Input of the head (N, filters, X, Y, Z) for patches (N, 1, X, Y, Z)."""
        bottom, skips = self.encode(x)
        return self.head_dropout(self.decode(self.bottom_dropout(bottom), skips))

    def decode(self, x: torch.Tensor, skips: list[torch.Tensor]) -> torch.Tensor:
        """Features (N, filters, X, Y, Z) from the output of :meth:`encode`."""
        for level in reversed(range(4)):
            x = self.decoder[level](self.up[level](x) + skips[level])
        return x

    def bottom_features(self, x: torch.Tensor) -> torch.Tensor:
        """Output of the coarsest level (N, 16 filters, X/16, Y/16, Z/16) for images (N, 1, X, Y, Z)."""
        return self.encode(x)[0]

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Output of the coarsest level for patches (N, 1, X, Y, Z), and of the finer levels, full resolution first."""
        skips: list[torch.Tensor] = []
        for level, down in enumerate(self.down):
            x = self.encoder[level](x)
            skips.append(x)
            x = down(x)
        return self.encoder[-1](x), skips


def stop_dropout(network: nn.Module) -> None:
    """Switch off dropout in a network in training mode, until it is set to training mode again."""
    for module in network.modules():
        if isinstance(module, nn.Dropout3d):
            module.eval()


@torch.no_grad()
def average_into(teacher: nn.Module, students: Mapping[nn.Module, float], keep: float, statistics: bool = True) -> None:
    """Move the teacher's weights towards the students': theta_t <- keep * theta_t + sum(weight * theta_s), eq. 1.

    Parameters
    ----------
    teacher
        Changed in place.
    students
        Each student with its weight; the weights and ``keep`` add up to 1.
    keep
        Weight of the teacher itself.
    statistics
        Average floating-point buffers (batch-norm running statistics) too.

    Raises
    ------
    ValueError
        If names or shapes of the tensors differ, so that an average would be meaningless.
    """
    own = _averaged_tensors(teacher, statistics)
    theirs = [(_averaged_tensors(student, statistics), weight) for student, weight in students.items()]
    for tensors, _ in theirs:
        if tensors.keys() != own.keys() or any(tensors[n].shape != own[n].shape for n in own):
            raise ValueError("Teacher and students must have the same tensors, by name and shape.")
    targets = list(own.values())
    torch._foreach_mul_(targets, keep)
    for tensors, weight in theirs:
        torch._foreach_add_(targets, [tensors[name] for name in own], alpha=weight)


def _averaged_tensors(network: nn.Module, statistics: bool) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = dict(network.named_parameters())
    if statistics:
        tensors.update((name, buffer) for name, buffer in network.named_buffers() if buffer.is_floating_point())
    return tensors
