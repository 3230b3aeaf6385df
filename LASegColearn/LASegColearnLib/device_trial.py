"""Trying a device before a training is trusted to it: whether it computes what a processor does, and how fast.

That PyTorch finds a GPU does not say that it has been built for it, that all layers are written for it, or that their
results are right: some GPUs answer a convolution in float16 with NaN.
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

# Largest difference from the processor's float32, as a share of its norm. A convolution in float32 on a GPU may round
# its inputs to TF32; a wrong kernel is wrong by far more than any precision.
_TOLERANCE = {torch.float32: 0.01, torch.float16: 0.05, torch.bfloat16: 0.1}
_PASSES = 3
# Channels into and out of the V-Net's convolutions. Apple's GPUs have computed some widths wrongly and others rightly
# (PyTorch issue 197114).
_WIDTHS = ((1, 8), (1, 16), (8, 8), (16, 16), (32, 32), (64, 64), (128, 128), (256, 256), (8, 2), (16, 2))
_WIDTHS_SIDE = 8


class Place(Protocol):
    """What is used of :class:`~LASegColearnLib.device.Device`."""

    @property
    def device(self) -> torch.device: ...

    @property
    def precision(self) -> torch.dtype: ...

    def autocast(self) -> AbstractContextManager[object]: ...

    def place(self, network: nn.Module) -> nn.Module: ...


def computes_rightly(place: Place, processor: Place) -> bool:
    """Whether the V-Net's kinds of layers give there what they do on the processor in float32, and so the gradients.

    Raises
    ------
    RuntimeError
        If there is not enough memory free for even that.
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
    """Whether `torch.compile` keeps what a network says of images (N, 1, X, Y, Z) there; of gradients that they exist.

    Whatever a compiler raises passes through. The network itself is not changed; it is tried in training, without
    dropout, which a compiled network draws otherwise.
    """
    plain = copy.deepcopy(network).requires_grad_(True).train()
    stop_dropout(plain)
    fused = copy.deepcopy(plain)
    fused.compile()
    shown = images.to(place.device)
    with torch.enable_grad(), place.autocast():
        found, wanted = fused(shown), plain(shown)
    found.float().mean().backward()
    # A whole network's gradients are not compared: in bfloat16 they are rounded differently by most of their length.
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
    """Time of a forward and a backward pass of such layers, the fastest of some, without the first."""
    with torch.random.fork_rng(devices=[]):
        layers = _layers(16)
        images = torch.randn(2, 16, 32, 32, 32)

    def seconds() -> float:
        start = time.perf_counter()
        # The result is waited for, since it is copied.
        _answer(place, layers, images)
        return time.perf_counter() - start

    seconds()
    return min(seconds() for _ in range(_PASSES))


def _layers(channels: int) -> nn.Module:
    """Convolution, normalization, halving and doubling."""
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
    """Output of the layers, and the gradients of images and weights, on the processor in float32."""
    network = place.place(copy.deepcopy(layers)).train()
    shown = images.to(place.device, copy=True).requires_grad_()
    with torch.enable_grad():
        with place.autocast():
            output = network(shown)
        # Not the mean, whose gradient is too small a number for float16.
        output.float().square().sum().backward()
    assert shown.grad is not None
    gradients = [parameter.grad for parameter in network.parameters() if parameter.ndim > 1]
    return [tensor.detach().float().cpu() for tensor in (output, shown.grad, *gradients) if tensor is not None]
