"""Tests whether a device gives the same results as the CPU, and how fast it is.

PyTorch may find a GPU that it was not built for, that lacks some layers, or that gives wrong results: on some GPUs a
convolution in float16 returns NaN.
"""

from __future__ import annotations

import copy
import time
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import nn

from LASegColearnLib.errors import is_out_of_memory
from LASegColearnLib.networks import stop_dropout

# Largest difference from the CPU's float32 result, relative to its norm. A GPU may round the inputs of a float32
# convolution to TF32; the error of a wrong kernel is far larger than any rounding.
_TOLERANCE = {torch.float32: 0.01, torch.float16: 0.05, torch.bfloat16: 0.1}
_PASSES = 3
# Input and output channels of the V-Net's convolutions. Apple's GPUs gave wrong results only for some widths (PyTorch
# issue 197114).
_WIDTHS = ((1, 8), (1, 16), (8, 8), (16, 16), (32, 32), (64, 64), (128, 128), (256, 256), (8, 2), (16, 2))
_WIDTHS_SIDE = 8


class Place(Protocol):
    """The part of :class:`~LASegColearnLib.device.Device` that is used here."""

    @property
    def device(self) -> torch.device: ...

    @property
    def precision(self) -> torch.dtype: ...

    def autocast(self) -> AbstractContextManager[object]: ...

    def place(self, network: nn.Module) -> nn.Module: ...


def computes_rightly(place: Place, processor: Place) -> bool:
    """Whether the V-Net's kinds of layers, and their gradients, agree with the CPU's float32 results.

    Raises
    ------
    RuntimeError
        If there is not enough free memory even for this test.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trials = [(_layers(8), torch.randn(2, 8, 16, 16, 16))]
        for entering, leaving in _WIDTHS:
            trials.append((nn.Conv3d(entering, leaving, 3, padding=1), torch.randn(2, entering, *[_WIDTHS_SIDE] * 3)))
    return all(_is_right(place, processor, layers, images) for layers, images in trials)


def _is_right(place: Place, processor: Place, layers: nn.Module, images: torch.Tensor) -> bool:
    try:
        found = _answer(place, layers, images)
    except (RuntimeError, NotImplementedError) as error:
        if is_out_of_memory(error):
            raise
        return False
    return _are_alike(found, _answer(processor, layers, images), place.precision)


def compiles_rightly(place: Place, network: nn.Module, images: torch.Tensor) -> bool:
    """Whether `torch.compile` preserves a network's output for images (N, 1, X, Y, Z) and gives finite gradients.

    Exceptions of the compiler are passed on. The network itself is not changed. It is tried in training mode without
    dropout, for which a compiled network draws other random numbers.
    """
    plain = copy.deepcopy(network).requires_grad_(True).train()
    stop_dropout(plain)
    fused = copy.deepcopy(plain)
    fused.compile()
    shown = images.to(place.device)
    with torch.enable_grad(), place.autocast():
        found, wanted = fused(shown), plain(shown)
    found.float().mean().backward()
    # The gradients of a whole network are not compared, since in bfloat16 their rounding errors are too large.
    gradients = [parameter.grad for parameter in fused.parameters() if parameter.grad is not None]
    finite = bool(gradients) and all(bool(gradient.isfinite().all()) for gradient in gradients)
    return finite and _are_alike([found.detach().float()], [wanted.detach().float()], place.precision)


def _are_alike(found: list[torch.Tensor], wanted: list[torch.Tensor], precision: torch.dtype) -> bool:
    # A comparison with NaN is false.
    return all(
        float((one - other).norm()) <= _TOLERANCE[precision] * float(other.norm())
        for one, other in zip(found, wanted, strict=True)
    )


def seconds_of_a_pass(place: Place) -> float:
    """Seconds of a forward and backward pass of such layers: the fastest of some, after one to warm up."""
    with torch.random.fork_rng(devices=[]):
        layers = _layers(16)
        images = torch.randn(2, 16, 32, 32, 32)

    def seconds() -> float:
        start = time.perf_counter()
        # This waits for the result, since it copies it to the CPU.
        _answer(place, layers, images)
        return time.perf_counter() - start

    seconds()
    return min(seconds() for _ in range(_PASSES))


def _layers(channels: int) -> nn.Module:
    """Convolution, normalization, downsampling and upsampling."""
    return nn.Sequential(
        nn.Conv3d(channels, channels, 3, padding=1),
        nn.BatchNorm3d(channels),
        nn.ReLU(),
        nn.Conv3d(channels, 2 * channels, 2, stride=2),
        nn.Conv3d(2 * channels, 2 * channels, 3, padding=1),
        nn.BatchNorm3d(2 * channels),
        nn.ReLU(),
        nn.ConvTranspose3d(2 * channels, channels, 2, stride=2),
    )


def _answer(place: Place, layers: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """Output of the layers and gradients of images and weights, copied to the CPU in float32."""
    network = place.place(copy.deepcopy(layers)).train()
    shown = images.to(place.device, copy=True).requires_grad_()
    with torch.enable_grad():
        with place.autocast():
            output = network(shown)
        # Not the mean, whose gradient would be too small for float16.
        output.float().square().sum().backward()
    assert shown.grad is not None
    gradients = [parameter.grad for parameter in network.parameters() if parameter.ndim > 1]
    return [tensor.detach().float().cpu() for tensor in (output, shown.grad, *gradients) if tensor is not None]
