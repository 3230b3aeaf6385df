"""Convolutions for CPUs that avoid wrong results of PyTorch's own ones, and are faster on some CPUs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.grad import conv2d_weight, conv3d_input

# The gradient by slices was measured to be faster for few channels on AVX2 without AVX-512 (docs/benchmarks.md).
_MOST_CHANNELS = 16
_CAPABILITY = "AVX2"

# Up to this side length a bfloat16 gradient cannot be trusted on CPUs.
_TOO_SHORT = 2


class SafeConv3d(nn.Conv3d):
    """A convolution that computes in float32 on CPUs if a side of its input has at most two voxels.

    On AVX-512 with bfloat16, oneDNN 3.12 (PyTorch 2.13) computes the weight gradient of a 3x3x3 convolution from
    uninitialized memory if the first side is 2, and crashes in a 4x4x4 one of stride 2 if the second side is 2.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type == "cpu" and min(x.shape[2:]) <= _TOO_SHORT and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        return super().forward(x)


class Convolution(SafeConv3d):
    """A 3x3x3 convolution with padding 1, whose weight gradient is computed by slices on some CPUs."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__(channels_in, channels, kernel_size=3, padding=1)
        self._by_slices = (
            1 < channels_in <= _MOST_CHANNELS
            and channels <= _MOST_CHANNELS
            and torch.backends.cpu.get_cpu_capability() == _CAPABILITY
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._by_slices and _is_plain_on_cpu(x) and self.weight.requires_grad and torch.is_grad_enabled():
            return _GradientBySlices.apply(x, self.weight, self.bias)
        return super().forward(x)


def _is_plain_on_cpu(x: torch.Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and x.is_contiguous(memory_format=torch.channels_last_3d)
    )


class _GradientBySlices(torch.autograd.Function):
    """The weight gradient as a sum of 2D gradients over the slices, for each x offset of the kernel.

    For few channels oneDNN computes 2D gradients twice as fast as 3D ones.
    """

    @staticmethod
    def forward(ctx, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:  # noqa: ANN001
        ctx.save_for_backward(x, weight)
        return F.conv3d(x, weight, bias, padding=1)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]:  # noqa: ANN001
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last_3d)
        of_x = conv3d_input(x.shape, weight, gradient, padding=1) if ctx.needs_input_grad[0] else None
        slices = [_weight_gradient(x, gradient, weight, offset) for offset in (-1, 0, 1)]
        return of_x, torch.stack(slices, dim=2), gradient.sum(dim=(0, 2, 3, 4))


def _weight_gradient(x: torch.Tensor, gradient: torch.Tensor, weight: torch.Tensor, offset: int) -> torch.Tensor:
    """Gradient (C_out, C_in, 3, 3) of the weights from the input slice at ``offset`` to each output slice."""
    length = x.shape[2]
    of_input = slice(max(0, offset), length + min(0, offset))
    of_output = slice(max(0, -offset), length + min(0, -offset))
    total = torch.zeros(*weight.shape[:2], 3, 3)
    for image, change in zip(x, gradient, strict=True):
        planes, changes = image[:, of_input].transpose(0, 1), change[:, of_output].transpose(0, 1)
        total += conv2d_weight(planes, total.shape, changes, padding=1)
    return total
