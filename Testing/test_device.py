"""Choosing where to compute: never another device than the one asked for."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

import pytest
import torch

from LASegColearnLib.device import Device, choose_device, device_for_model, device_of_resumed
from LASegColearnLib.errors import InputError


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> _Machine:
    """A machine with an NVIDIA GPU, as PyTorch tells of it; what it computes in rightly can be set."""
    machine = _Machine()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _gpu: machine.capability)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _gpu: SimpleNamespace(name="G", total_memory=1))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90"])
    monkeypatch.setattr("LASegColearnLib.device.computes_rightly", lambda place, _: place.precision in machine.right)
    return machine


class _Machine:
    capability = (8, 6)
    right: tuple[torch.dtype, ...] = (torch.float32, torch.float16, torch.bfloat16)


def test_auto_takes_cuda_then_mps_then_the_cpu(monkeypatch: pytest.MonkeyPatch, a_gpu: _Machine) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr("LASegColearnLib.device.seconds_of_a_pass", lambda place: 1.0 if _is_cpu(place) else 0.5)
    assert choose_device().device.type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device().device.type == "mps"
    monkeypatch.setattr("LASegColearnLib.device.seconds_of_a_pass", lambda place: 0.5 if _is_cpu(place) else 1.0)
    slower = choose_device()
    assert slower.device.type == "cpu"
    assert "Apple GPU is there, but slower" in slower.description
    assert choose_device("mps").device.type == "mps"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto", "float32").device.type == "cpu"


@pytest.mark.parametrize(
    ("capability", "wanted", "chosen"),
    [
        ((6, 1), "auto", torch.float32),
        ((7, 5), "auto", torch.float16),
        ((8, 6), "auto", torch.bfloat16),
        ((12, 0), "auto", torch.bfloat16),
        ((6, 1), "float16", torch.float16),
    ],
)
def test_a_gpu_computes_in_what_is_fast_there(
    capability: tuple[int, int], wanted: str, chosen: torch.dtype, a_gpu: _Machine
) -> None:
    a_gpu.capability = capability
    assert choose_device("auto", wanted).precision == chosen


def test_a_gpu_that_emulates_bfloat16_is_not_made_to(a_gpu: _Machine) -> None:
    a_gpu.capability = (7, 5)
    with pytest.raises(InputError, match="bfloat16 was asked for on CUDA: G"):
        choose_device("cuda", "bfloat16")
    # A model that was trained in bfloat16 elsewhere predicts here all the same.
    assert device_for_model("auto", "bfloat16").precision == torch.float16


def test_a_gpu_that_answers_wrongly_in_float16_computes_in_float32(a_gpu: _Machine) -> None:
    a_gpu.capability, a_gpu.right = (7, 5), (torch.float32,)
    assert choose_device().precision == torch.float32
    with pytest.raises(InputError, match="gives wrong results on it in float16 .*Set precision=float32. Inst"):
        choose_device("cuda", "float16")
    assert device_for_model("cuda", "float16").precision == torch.float32


def test_a_gpu_that_computes_nothing_is_not_chosen_and_its_name_refused(a_gpu: _Machine) -> None:
    a_gpu.right = ()
    found = choose_device("auto", "float32")
    assert found.device.type == "cpu"
    assert "CUDA: G, 0 GB is there, but PyTorch" in found.description
    with pytest.raises(InputError, match="built for sm_75, sm_90.*Install a PyTorch that is built for it"):
        choose_device("cuda")


def test_bfloat16_and_float16_are_refused_on_an_apple_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for precision in ("bfloat16", "float16"):
        with pytest.raises(InputError, match=f"{precision} was asked for on mps"):
            choose_device("mps", precision)


def _is_cpu(place: Device) -> bool:
    return place.device.type == "cpu"


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


def _converted(x: torch.Tensor) -> torch.Tensor:
    """In what a layer would compute in; without the layer, since processors differ in what it takes them."""
    return x.to(torch.bfloat16 if torch.is_autocast_enabled("cpu") else torch.float32)


def test_a_processor_that_emulates_bfloat16_is_not_made_to_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = 0

    def emulated(layer: torch.nn.Conv3d, x: torch.Tensor) -> torch.Tensor:
        nonlocal computed
        computed += x.numel()
        until = time.perf_counter() + (0.02 if torch.is_autocast_enabled("cpu") else 0.0)
        while time.perf_counter() < until:
            pass
        return _converted(x)

    monkeypatch.setattr(torch.nn.Conv3d, "forward", emulated)
    assert choose_device("cpu", "auto").precision == torch.float32
    assert computed < 1_000_000


@pytest.mark.parametrize(("slow", "faster"), [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)])
def test_the_cpu_computes_in_what_is_faster_there(slow: torch.dtype, faster: torch.dtype, monkeypatch) -> None:
    def slowed(layer: torch.nn.Conv3d, x: torch.Tensor) -> torch.Tensor:
        found = _converted(x)
        until = time.thread_time() + (0.05 if found.dtype == slow else 0.0)
        while time.thread_time() < until:
            pass
        return found

    monkeypatch.setattr(torch.nn.Conv3d, "forward", slowed)
    threads = torch.get_num_threads()
    assert choose_device("cpu", "auto").precision == faster
    assert torch.get_num_threads() == threads


@pytest.mark.skipif(sys.platform == "win32", reason="Windows counts a thread's time too coarsely.")
def test_that_other_programs_take_the_processor_does_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(layer: torch.nn.Conv3d, x: torch.Tensor) -> torch.Tensor:
        found = _converted(x)
        if found.dtype == torch.float32:
            # So long would bfloat16 seem to be the faster one.
            time.sleep(0.05)
        else:
            until = time.thread_time() + 0.03
            while time.thread_time() < until:
                pass
        return found

    monkeypatch.setattr(torch.nn.Conv3d, "forward", interrupted)
    assert choose_device("cpu", "auto").precision == torch.float32


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


@pytest.mark.parametrize(
    ("times", "begun_in", "continues_in", "told"),
    [
        (1.0, "bfloat16", torch.bfloat16, ""),
        (0.5, "float32", torch.float32, ""),
        (
            50.0,
            "bfloat16",
            torch.float32,
            "begun in bfloat16, which is slow on this processor. It continues in float32",
        ),
        (1.0, "nonsense", torch.float32, ""),
    ],
)
def test_a_resumed_training_keeps_its_precision_on_a_processor_that_is_not_slow_with_it(
    times: float, begun_in: str, continues_in: torch.dtype, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``times``: how long bfloat16 takes there, compared with float32."""
    monkeypatch.setattr("LASegColearnLib.device._bfloat16_is_faster_on_cpu", lambda limit=0.8: times < limit)
    found, message = device_of_resumed("cpu", {"device": "cpu", "precision": begun_in})
    assert found.precision == continues_in
    assert found.description.endswith(f", {str(continues_in).removeprefix('torch.')}")
    assert told in (message or "") and (message is None) == (told == "")


def test_a_resumed_training_keeps_its_precision_on_a_gpu_that_has_it(
    a_gpu: _Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = Device(torch.device("cuda:1"), torch.float16, "").record
    found, message = device_of_resumed("auto", begun)
    assert (found.device.type, found.precision, message) == ("cuda", torch.float16, None)
    a_gpu.capability = (7, 5)
    found, message = device_of_resumed("auto", {**begun, "precision": "bfloat16"})
    assert found.precision == torch.float16
    assert message == (
        "The training was begun in bfloat16, which this device does not support. It continues in float16."
    )
    a_gpu.right = (torch.float32,)
    found, message = device_of_resumed("auto", begun)
    assert found.precision == torch.float32 and message is not None
    # On another kind of device it is chosen anew.
    monkeypatch.setattr("LASegColearnLib.device._bfloat16_is_faster_on_cpu", lambda: True)
    found, message = device_of_resumed("cpu", {**begun, "precision": "float32"})
    assert (found.precision, message) == (torch.bfloat16, None)
