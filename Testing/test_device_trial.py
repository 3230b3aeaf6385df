"""Trying a device: what is right passes in each precision, what is wrong or not there does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from LASegColearnLib.device import Device
from LASegColearnLib.device_trial import computes_rightly, seconds_of_a_pass

PROCESSOR = Device(torch.device("cpu"), torch.float32, "")


@dataclass(frozen=True)
class _Faulty(Device):
    """A processor on which one kind of layer gives something else."""

    kind: type[nn.Module] = nn.Conv3d
    fault: Callable[[torch.Tensor], torch.Tensor] = torch.clone

    def place(self, network: nn.Module) -> nn.Module:
        for layer in network.modules():
            if isinstance(layer, self.kind):
                layer.register_forward_hook(lambda _layer, _entering, found: self.fault(found))
        return super().place(network)


def _one_voxel_further(found: torch.Tensor) -> torch.Tensor:
    return found.roll(1, 2)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_processor_computes_rightly(precision: torch.dtype) -> None:
    before = torch.random.get_rng_state()
    assert computes_rightly(Device(torch.device("cpu"), precision, ""), PROCESSOR)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("kind", [nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d])
@pytest.mark.parametrize(
    "fault",
    [lambda found: found * torch.nan, lambda found: found * torch.inf, lambda found: found * 0, _one_voxel_further],
)
def test_a_layer_that_answers_wrongly_is_found(
    kind: type[nn.Module], fault: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    assert computes_rightly(_Faulty(torch.device("cpu"), torch.float32, "", kind), PROCESSOR)
    assert not computes_rightly(_Faulty(torch.device("cpu"), torch.float32, "", kind, fault), PROCESSOR)


@pytest.mark.parametrize("width", [8, 16, 32, 64, 128, 256])
def test_a_width_that_is_computed_wrongly_is_found(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    convolve = nn.Conv3d.forward

    def wrong(layer: nn.Conv3d, images: torch.Tensor) -> torch.Tensor:
        found = convolve(layer, images)
        is_wrong = layer.place == "gpu" and layer.in_channels == layer.out_channels == width
        return _one_voxel_further(found) if is_wrong else found

    class Placed(Device):
        def place(self, network: nn.Module) -> nn.Module:
            for layer in network.modules():
                layer.place = self.description
            return super().place(network)

    monkeypatch.setattr(nn.Conv3d, "forward", wrong)
    gpu, processor = (Placed(torch.device("cpu"), torch.float32, name) for name in ("gpu", "processor"))
    assert computes_rightly(processor, processor)
    assert not computes_rightly(gpu, processor)


def test_a_wrong_gradient_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Faulty(_Faulty):
        def place(self, network: nn.Module) -> nn.Module:
            for layer in network.modules():
                if isinstance(layer, nn.BatchNorm3d):
                    layer.register_full_backward_hook(lambda _layer, found, _leaving: (found[0] * 2,))
            return network

    assert not computes_rightly(Faulty(torch.device("cpu"), torch.float32, ""), PROCESSOR)


def test_a_gpu_without_kernels_is_found_and_one_without_memory_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(text: str):
        def convolve(_layer: nn.Module, _images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError(text)

        return convolve

    monkeypatch.setattr(nn.ConvTranspose3d, "forward", fails("no kernel image is available for execution"))
    assert not computes_rightly(PROCESSOR, PROCESSOR)
    monkeypatch.setattr(nn.ConvTranspose3d, "forward", fails("CUDA out of memory"))
    with pytest.raises(RuntimeError, match="out of memory"):
        computes_rightly(PROCESSOR, PROCESSOR)


def test_the_slower_of_two_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = seconds_of_a_pass(PROCESSOR)
    convolve = nn.Conv3d.forward

    def twice(layer: nn.Conv3d, images: torch.Tensor) -> torch.Tensor:
        for _ in range(9):
            convolve(layer, images)
        return convolve(layer, images)

    monkeypatch.setattr(nn.Conv3d, "forward", twice)
    assert seconds_of_a_pass(PROCESSOR) > alone
