"""Choosing where to compute: never another device than the one asked for."""

from __future__ import annotations

import time

import pytest
import torch

from LASegColearnLib.device import choose_device, device_for_model
from LASegColearnLib.errors import InputError


def test_auto_takes_cuda_then_mps_then_the_cpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto", "float32").device.type == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr("LASegColearnLib.device._mps_has_what_is_needed", lambda: True)
    assert choose_device("auto", "float32").device.type == "mps"


def test_an_apple_gpu_that_this_pytorch_cannot_use_whole_is_not_chosen_and_its_name_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)

    def unwritten(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("ConvTranspose 3D is not supported on MPS")

    monkeypatch.setattr(torch.nn.ConvTranspose3d, "to", unwritten)
    assert choose_device("auto", "float32").device.type == "cpu"
    with pytest.raises(InputError, match="Install PyTorch 2.8 or newer"):
        choose_device("mps")


def test_bfloat16_is_refused_on_an_apple_gpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr("LASegColearnLib.device._mps_has_what_is_needed", lambda: True)
    with pytest.raises(InputError, match="bfloat16 was asked for on mps"):
        choose_device("mps", "bfloat16")


@pytest.mark.parametrize(("name", "message"), [("cuda", "CUDA"), ("mps", "no Apple GPU"), ("gpu", "Wanted auto, cuda")])
def test_a_device_that_is_not_there_is_refused_not_replaced(name: str, message: str, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match=message):
        choose_device(name)


def test_float16_is_refused_on_the_cpu() -> None:
    with pytest.raises(InputError, match="float16 was asked for on cpu"):
        choose_device("cpu", "float16")


def test_the_description_says_what_is_used() -> None:
    assert choose_device("cpu", "float32").description.startswith("CPU: ")
    assert choose_device("cpu", "float32").description.endswith("float32")


@pytest.mark.parametrize(("slow", "faster"), [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)])
def test_the_cpu_computes_in_what_is_faster_there(slow: torch.dtype, faster: torch.dtype, monkeypatch) -> None:
    convolve = torch.nn.Conv3d.forward

    def slowed(layer: torch.nn.Conv3d, x: torch.Tensor) -> torch.Tensor:
        found = convolve(layer, x)
        time.sleep(0.05 if found.dtype == slow else 0.0)
        return found

    monkeypatch.setattr(torch.nn.Conv3d, "forward", slowed)
    threads = torch.get_num_threads()
    assert choose_device("cpu", "auto").precision == faster
    assert torch.get_num_threads() == threads


def test_a_model_computes_in_its_own_precision_where_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for faster, suits in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("LASegColearnLib.device._bfloat16_is_faster_on_cpu", lambda faster=faster: faster)
        assert device_for_model("cpu", "bfloat16").precision == torch.bfloat16
        assert device_for_model("cpu", "float32").precision == torch.float32
        # Trained on a GPU: this processor has not got it.
        assert device_for_model("cpu", "float16").precision == suits
    with pytest.raises(InputError, match="Wanted auto, cuda"):
        device_for_model("gpu", "float16")


@pytest.mark.parametrize(("name", "remedy"), [("cuda:2", "cuda:0 to cuda:1"), ("cuda:x", "cuda:0 to cuda:1")])
def test_a_gpu_that_is_not_there_is_refused_with_those_that_are(name: str, remedy: str, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match=f"Wanted one of 2 GPUs, found {name}. Use {remedy}"):
        choose_device(name, "float32")
