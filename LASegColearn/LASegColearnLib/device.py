"""The device to compute on, and its precision."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from LASegColearnLib.device_trial import computes_rightly, seconds_of_a_pass
from LASegColearnLib.errors import InputError, Problem

_PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Largest time of bfloat16 on the CPU, as a multiple of float32's, with which a training chooses it, and with which one
# that was begun in bfloat16 continues in it.
_SLOWEST_TO_BEGIN = 0.8
_SLOWEST_TO_CONTINUE = 1.25


@dataclass(frozen=True)
class Device:
    """A device with the precision chosen for it.

    Attributes
    ----------
    device
        The PyTorch device.
    precision
        Data type of the networks' convolutions; weights and losses stay float32.
    description
        Text for the user: the device, and why it was chosen.
    """

    device: torch.device
    precision: torch.dtype
    description: str

    def autocast(self) -> AbstractContextManager[object]:
        """Context in which a network's forward pass runs in the chosen precision."""
        if self.precision == torch.float32:
            # Not every PyTorch version has autocast for every device.
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.precision)

    def place(self, network: nn.Module) -> nn.Module:
        """Move a network to the device, in the memory layout that is fast for convolutions there."""
        if self.device.type == "mps":
            return network.to(self.device)
        return network.to(self.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    @property
    def record(self) -> dict[str, str]:
        """The kind of device and the precision, for a checkpoint; see :func:`device_of_resumed`."""
        return {"device": self.device.type, "precision": _text(self.precision)}

    @property
    def scales_gradients(self) -> bool:
        """Whether gradients are scaled, because the range of float16 is too small for them."""
        return self.precision == torch.float16


def choose_device(wanted: str = "auto", precision: str = "auto") -> Device:
    """Choose the device: CUDA, else Apple's MPS if it is faster than the CPU, else the CPU.

    A GPU is tested first (:mod:`~LASegColearnLib.device_trial`) and not chosen if it gives wrong results.

    Parameters
    ----------
    wanted
        ``auto``, ``cuda``, ``cuda:N``, ``mps`` or ``cpu``. A device given by name is never replaced by another.
    precision
        ``auto``, ``float32``, ``bfloat16`` or ``float16``.

    Raises
    ------
    InputError
        If the device is not available, or cannot compute in the precision.
    """
    kind = wanted.partition(":")[0]
    if kind not in ("auto", "cuda", "mps", "cpu"):
        raise InputError(
            Problem("--device", f"Wanted auto, cuda, cuda:N, mps or cpu, found {wanted!r}.", "Choose one.")
        )
    if kind == "cpu":
        return _processor(precision)
    if kind != "auto":
        return _named_gpu(wanted, precision)
    why = "this build of PyTorch has no CUDA" if torch.version.cuda is None else "PyTorch finds no GPU that it can use"
    for gpu in _gpus():
        found = _tried(gpu, precision)
        if found is None:
            why = f"{_name(gpu)} is there, but {_MISCOMPUTES}"
        elif gpu.type == "mps" and seconds_of_a_pass(found) > seconds_of_a_pass(_float32_processor()):
            why = f"{_name(gpu)} is there, but slower with PyTorch {torch.__version__}"
        else:
            return found
    return _processor(precision, why)


_MISCOMPUTES = f"PyTorch {torch.__version__} gives wrong results on it"


def _gpus() -> list[torch.device]:
    """The available kinds of GPU, the better one first."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [torch.device(name) for name, is_there in there.items() if is_there]


def _named_gpu(wanted: str, precision: str) -> Device:
    kind = wanted.partition(":")[0]
    if kind == "cuda" and not torch.cuda.is_available():
        why = "this build of PyTorch has no CUDA" if torch.version.cuda is None else "PyTorch finds no CUDA GPU"
        raise InputError(
            Problem(
                "--device", f"cuda was asked for, but {why}.", "Install a CUDA build and driver, or use --device cpu."
            )
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError(Problem("--device", "mps was asked for, but PyTorch finds no Apple GPU.", "Use --device cpu."))
    gpu = _cuda(wanted) if kind == "cuda" else torch.device(wanted)
    found = _tried(gpu, precision)
    if found is None:
        in_this = "" if precision == "auto" else f" in {precision}"
        remedy = "Install a PyTorch that is built for it, or use --device cpu."
        if precision not in ("auto", "float32"):
            remedy = f"Set precision=float32. {remedy}"
        built_for = f"; it is built for {', '.join(torch.cuda.get_arch_list())}" if kind == "cuda" else ""
        raise InputError(
            Problem(
                "--device",
                f"{wanted} was asked for, but {_MISCOMPUTES}{in_this} ({_name(gpu)}{built_for}).",
                remedy,
            )
        )
    return found


def _tried(gpu: torch.device, precision: str) -> Device | None:
    """The GPU with the first precision in which its results are right; None if there is none."""
    for dtype in _gpu_precisions(gpu, precision):
        found = Device(gpu, dtype, _description(gpu, dtype))
        if computes_rightly(found, _float32_processor()):
            return found
    return None


def _processor(precision: str, why: str = "") -> Device:
    """The CPU; ``why`` is the reason for not using a GPU."""
    cpu = torch.device("cpu")
    dtype = _cpu_precision(precision)
    return Device(cpu, dtype, _description(cpu, dtype, why))


def _float32_processor() -> Device:
    return Device(torch.device("cpu"), torch.float32, "")


def device_for_model(wanted: str, precision: str) -> Device:
    """Like :func:`choose_device`, for a model that may have been trained on another device.

    The precision is that of its training or, if the device does not support that, the device's own choice.
    """
    try:
        return choose_device(wanted, precision)
    except InputError:
        return choose_device(wanted)


def device_of_resumed(wanted: str, begun_on: Mapping[str, Any]) -> tuple[Device, str | None]:
    """Like :func:`choose_device` with precision ``auto``, for a training that continues in the precision that it had.

    The choice of a precision depends on a measurement, which would otherwise change a training for no reason.

    Parameters
    ----------
    wanted
        As for :func:`choose_device`.
    begun_on
        The device's :attr:`Device.record` when the training was saved; empty if it is not known.

    Returns
    -------
    tuple
        The device, and a message if the precision had to be changed. On another kind of device it is chosen anew,
        without a message.
    """
    found = choose_device(wanted)
    had = begun_on.get("precision")
    if begun_on.get("device") != found.device.type or had not in _PRECISIONS or had == _text(found.precision):
        return found, None
    # With bfloat16 a processor without instructions for it takes fifty times as long, so a training of some minutes
    # would hardly learn. Its accuracy does not suffer from the change: weights and losses are float32 in any case.
    if found.device.type == "cpu":
        why = "is slow on this processor"
        can = had == "float32" or (had == "bfloat16" and _bfloat16_is_faster_on_cpu(_SLOWEST_TO_CONTINUE))
    else:
        why = "this device does not support"
        try:
            can = _tried(found.device, had) is not None
        except InputError:
            can = False
    if not can:
        return found, f"The training was begun in {had}, which {why}. It continues in {_text(found.precision)}."
    description = found.description.removesuffix(_text(found.precision)) + had
    return replace(found, precision=_PRECISIONS[had], description=description), None


def _cuda(wanted: str) -> torch.device:
    """The GPU named ``cuda`` or ``cuda:N``. Raises :class:`InputError` if there is none with this number."""
    number, there = wanted.partition(":")[2], torch.cuda.device_count()
    if number and not (number.isdecimal() and int(number) < there):
        known = "cuda:0" if there == 1 else f"cuda:0 to cuda:{there - 1}"
        raise InputError(Problem("--device", f"Wanted one of {there} GPUs, found {wanted}.", f"Use {known}."))
    return torch.device(wanted)


def _gpu_precisions(gpu: torch.device, wanted: str) -> list[torch.dtype]:
    """Precisions to try on a GPU, the fastest first. Raises :class:`InputError` if it lacks the wanted one."""
    if gpu.type == "mps":
        if wanted == "bfloat16":
            raise _not_there("bfloat16", "mps, which does not support it")
        if wanted == "float16":
            raise _not_there("float16", "mps; it is for CUDA")
        return [torch.float32]
    # AMD's GPUs number their capabilities differently; those that PyTorch supports have both types.
    capability = (8, 0) if torch.version.hip else torch.cuda.get_device_capability(gpu)
    has_bfloat16 = capability >= _FIRST_WITH_BFLOAT16
    if wanted == "bfloat16" and not has_bfloat16:
        raise _not_there("bfloat16", f"{_name(gpu)}, which does not support it")
    if wanted != "auto":
        return [getattr(torch, wanted)]
    if capability < _FIRST_WITH_FAST_FLOAT16:
        return [torch.float32]
    return [torch.bfloat16 if has_bfloat16 else torch.float16, torch.float32]


# Compute capabilities of Ampere and Volta. Older GPUs emulate or lack bfloat16, and are slower in float16.
_FIRST_WITH_BFLOAT16 = (8, 0)
_FIRST_WITH_FAST_FLOAT16 = (7, 0)


def _cpu_precision(wanted: str) -> torch.dtype:
    if wanted == "float16":
        raise _not_there("float16", "cpu; it is for CUDA")
    if wanted != "auto":
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype
    return torch.bfloat16 if _bfloat16_is_faster_on_cpu() else torch.float32


def _not_there(precision: str, on: str) -> InputError:
    return InputError(Problem("precision", f"{precision} was asked for on {on}.", "Set precision=auto."))


def _bfloat16_is_faster_on_cpu(limit: float = _SLOWEST_TO_BEGIN) -> bool:
    """Whether bfloat16 takes less than ``limit`` times as long as float32, by measuring a convolution.

    With AMX bfloat16 is faster, with AVX-512 alone it may be slower, on others much slower.

    Two images, since PyTorch convolves a single one in float32 by an algorithm that is several times slower. Smaller
    images would give a ratio that varies around the limit when other programs run. Still, much smaller ones are tried
    first: a CPU without bfloat16 instructions takes fifty times as long, half a minute for the larger ones.
    """
    layer = nn.Conv3d(16, 16, 3, padding=1).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    # A thread's own computing time does not depend on other programs; Windows measures it too coarsely.
    clock = time.perf_counter if sys.platform == "win32" else time.thread_time

    def seconds(images: torch.Tensor, dtype: torch.dtype) -> float:
        start = clock()
        with torch.enable_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            layer(images).float().sum().backward()
        return clock() - start

    def times_of_float32(side: int, turns: int) -> float:
        """Time of bfloat16 as a multiple of float32's: the fastest of alternating runs, as other programs interfere."""
        images = torch.ones(2, 16, side, side, side).contiguous(memory_format=torch.channels_last_3d).requires_grad_()
        taken = [(seconds(images, torch.float32), seconds(images, torch.bfloat16)) for _ in range(turns)]
        as_float32, as_bfloat16 = (min(of_each) for of_each in zip(*taken, strict=True))
        return as_bfloat16 / max(as_float32, 1e-9)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return times_of_float32(12, 3) < 4.0 and times_of_float32(32, 10) < limit
    finally:
        torch.set_num_threads(threads)


def _description(device: torch.device, dtype: torch.dtype, why: str = "") -> str:
    return f"{_name(device)}{why and f'; {why}'}, {_text(dtype)}"


def _text(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"CUDA: {properties.name}, {properties.total_memory / 2**30:.0f} GB"
    if device.type == "mps":
        return "MPS: Apple GPU"
    threads = torch.get_num_threads()
    return f"CPU: {threads} thread{'s' if threads != 1 else ''}, {platform.machine()}"
