"""What each measure for speed brings by itself, and what did not help.

    .venv/bin/python benchmarks/what_helped.py

Layers: forward and backward, five patches of the `cpu` preset. Memory: a V-Net's whole pass in a process of its own, at
both presets' sizes, as the C library does it, with freed memory kept, and with huge pages.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

from LASegColearnLib.allocation import keep_freed_memory
from LASegColearnLib.convolutions import Convolution
from LASegColearnLib.networks import VNet
from measuring import interleaved, machine

_PATCHES, _SIDE = 5, (64, 64, 48)
_LAST = torch.channels_last_3d
_PASSES = {"cpu": (8, 5, (64, 64, 48)), "paper": (16, 2, (112, 112, 80))}
_MEMORY = ("as the C library does it", "freed memory kept", "huge pages")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pass-of", choices=_PASSES, help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pass_of:
        sys.stdout.write(f"{_seconds_of_a_pass(options.pass_of, options.keep)}\n")
        return
    sys.stdout.write(f"{machine()}\n")
    for size in _PASSES:
        for how in _MEMORY:
            sys.stdout.write(f"{size:5} {how:26} {_in_a_process(size, how):6.2f} s a pass\n")
    keep_freed_memory()
    for title, variants in _layers().items():
        seconds = interleaved(variants, repetitions=9, warm_up=2)
        figures = ", ".join(f"{name} {statistics.median(values) * 1e3:.0f} ms" for name, values in seconds.items())
        sys.stdout.write(f"{title}: {figures}\n")


def _layers() -> dict[str, dict[str, Callable[[], object]]]:
    """By title, what is compared by name: a forward and backward pass of each."""

    def pass_of(layer: nn.Module, channels: int, side: tuple[int, ...], last: bool = True) -> Callable[[], object]:
        layout = _LAST if last else torch.contiguous_format
        layer = layer.to(memory_format=layout)  # type: ignore[call-overload]
        x = torch.randn(_PATCHES, channels, *side).to(memory_format=layout).requires_grad_()
        weight = torch.randn_like(layer(x)).to(memory_format=layout)

        def work() -> None:
            x.grad = None
            layer.zero_grad(set_to_none=True)
            layer(x).backward(weight)

        return work

    def convolution(channels: int, by_slices: bool) -> nn.Module:
        layer = Convolution(channels, channels)
        layer._by_slices = by_slices
        return layer

    half = tuple(side // 2 for side in _SIDE)
    return {
        "convolution 8 to 8": {
            "default layout": pass_of(convolution(8, False), 8, _SIDE, last=False),
            "channels last": pass_of(convolution(8, False), 8, _SIDE),
            "and gradient by slices": pass_of(convolution(8, True), 8, _SIDE),
        },
        "convolution 16 to 16 at half the resolution": {
            "default layout": pass_of(convolution(16, False), 16, half, last=False),
            "channels last": pass_of(convolution(16, False), 16, half),
            "and gradient by slices": pass_of(convolution(16, True), 16, half),
        },
        "head": {
            "convolution": pass_of(nn.Conv3d(8, 2, 1), 8, _SIDE),
            "matrix product": pass_of(_HeadAsProduct(), 8, _SIDE),
        },
        "halving": {
            "strided convolution": pass_of(nn.Conv3d(8, 16, 2, stride=2), 8, _SIDE),
            "matrix product": pass_of(_HalvingAsProduct(), 8, _SIDE),
        },
    }


class _HeadAsProduct(nn.Module):
    """What the 1x1x1 convolution does, as a matrix product: no faster, so not used."""

    def __init__(self) -> None:
        super().__init__()
        self.product = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.product(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)


class _HalvingAsProduct(nn.Module):
    """What a convolution of stride 2 does, as a matrix product: no faster, so not used."""

    def __init__(self) -> None:
        super().__init__()
        self.product = nn.Linear(8 * 8, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, *side = x.shape
        split = [part for length in side for part in (length // 2, 2)]
        blocks = x.permute(0, 2, 3, 4, 1).reshape(n, *split, c).permute(0, 1, 3, 5, 2, 4, 6, 7)
        return self.product(blocks.reshape(n, *(length // 2 for length in side), 8 * c)).permute(0, 4, 1, 2, 3)


def _in_a_process(size: str, how: str) -> float:
    command = [sys.executable, __file__, "--pass-of", size, *(["--keep"] if how == _MEMORY[1] else [])]
    environment = {**os.environ, **({"THP_MEM_ALLOC_ENABLE": "1"} if how == _MEMORY[2] else {})}
    return float(subprocess.check_output(command, env=environment, text=True))


def _seconds_of_a_pass(size: str, keep: bool) -> float:
    if keep:
        keep_freed_memory()
    filters, patches, side = _PASSES[size]
    network = VNet(filters).to(memory_format=_LAST)  # type: ignore[call-overload]
    x = torch.randn(patches, 1, *side)
    seconds = []
    for _ in range(6):
        network.zero_grad(set_to_none=True)
        start = time.perf_counter()
        network(x).square().mean().backward()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])


if __name__ == "__main__":
    main()
