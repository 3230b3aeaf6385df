"""Where to compute, and in which precision."""

from __future__ import annotations

import platform
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from LASegColearnLib.errors import InputError, Problem


@dataclass(frozen=True)
class Device:
    """A device with the precision chosen for it.

    Attributes
    ----------
    device
        The PyTorch device.
    precision
        Type that the networks' convolutions run in; weights and losses stay float32.
    description
        For a person: what is used, and why.
    """

    device: torch.device
    precision: torch.dtype
    description: str

    def autocast(self) -> AbstractContextManager[object]:
        """Context in which a network's forward pass runs in the chosen precision."""
        if self.precision == torch.float32:
            # Not every PyTorch knows an autocast of every device.
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.precision)

    def place(self, network: nn.Module) -> nn.Module:
        """Move a network to the device, in the layout that convolutions are fast in there."""
        if self.device.type == "mps":
            return network.to(self.device)
        return network.to(self.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    @property
    def scales_gradients(self) -> bool:
        """float16's range is too small for gradients: they are scaled."""
        return self.precision == torch.float16


def choose_device(wanted: str = "auto", precision: str = "auto") -> Device:
    """Choose where to compute: CUDA, then Apple's MPS, then the CPU.

    Parameters
    ----------
    wanted
        ``auto``, ``cuda``, ``cuda:N``, ``mps`` or ``cpu``. A device asked for by name is never replaced by another.
    precision
        ``auto``, ``float32``, ``bfloat16`` or ``float16``.

    Raises
    ------
    InputError
        If the device is not there, or cannot compute in the precision.
    """
    kind = wanted.partition(":")[0]
    if kind not in ("auto", "cuda", "mps", "cpu"):
        raise InputError(Problem("--device", f"Wanted auto, cuda, mps or cpu, found {wanted!r}.", "Choose one."))
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if has_mps and kind in ("auto", "mps") and not _mps_has_what_is_needed():
        if kind == "mps":
            cause = f"mps was asked for, but PyTorch {torch.__version__} cannot compute all of a V-Net on it."
            raise InputError(Problem("--device", cause, "Install PyTorch 2.8 or newer, or use --device cpu."))
        has_mps = False
    if kind == "cuda" and not has_cuda:
        why = "this build of PyTorch has no CUDA" if torch.version.cuda is None else "PyTorch finds no CUDA GPU"
        raise InputError(
            Problem(
                "--device", f"cuda was asked for, but {why}.", "Install a CUDA build and driver, or use --device cpu."
            )
        )
    if kind == "mps" and not has_mps:
        raise InputError(Problem("--device", "mps was asked for, but PyTorch finds no Apple GPU.", "Use --device cpu."))
    if kind == "auto":
        wanted = kind = "cuda" if has_cuda else "mps" if has_mps else "cpu"
    device = _gpu(wanted) if kind == "cuda" else torch.device(wanted)
    dtype = _precision(device, precision)
    return Device(device, dtype, f"{_name(device)}, {str(dtype).removeprefix('torch.')}")


def _mps_has_what_is_needed() -> bool:
    """Try the one layer that PyTorch had not written for Apple's GPUs before version 2.8."""
    try:
        nn.ConvTranspose3d(1, 1, 2, stride=2).to("mps")(torch.zeros(1, 1, 2, 2, 2, device="mps"))
    except (RuntimeError, NotImplementedError):
        return False
    return True


def device_for_model(wanted: str, precision: str) -> Device:
    """As :func:`choose_device`, for a model that may have been trained elsewhere.

    It computes in the precision that it was trained in, or where the device lacks that one, in what suits the device.
    """
    try:
        return choose_device(wanted, precision)
    except InputError:
        return choose_device(wanted)


def _gpu(wanted: str) -> torch.device:
    """The GPU called ``cuda`` or ``cuda:N``. Raises :class:`InputError` if there are not that many."""
    number, there = wanted.partition(":")[2], torch.cuda.device_count()
    if number and not (number.isdecimal() and int(number) < there):
        known = "cuda:0" if there == 1 else f"cuda:0 to cuda:{there - 1}"
        raise InputError(Problem("--device", f"Wanted one of {there} GPUs, found {wanted}.", f"Use {known}."))
    return torch.device(wanted)


def _precision(device: torch.device, wanted: str) -> torch.dtype:
    kind = device.type
    if wanted == "bfloat16" and kind == "mps":
        raise InputError(
            Problem("precision", "bfloat16 was asked for on mps, which has it not.", "Set precision=auto.")
        )
    if wanted == "float16" and kind != "cuda":
        raise InputError(
            Problem("precision", f"float16 was asked for on {kind}; it is for CUDA.", "Set precision=auto.")
        )
    if wanted != "auto":
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype
    if kind == "cuda":
        # PyTorch answers for the GPU that is selected.
        with torch.cuda.device(device):
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if kind == "cpu" and _bfloat16_is_faster_on_cpu():
        return torch.bfloat16
    return torch.float32


def _bfloat16_is_faster_on_cpu() -> bool:
    """Measure what trainings spend most time on: AMX gains by bfloat16, AVX-512 alone may lose, others lose much.

    Two images at least: one alone PyTorch convolves in float32 by a way of its own, five times as slowly.
    """
    layer = nn.Conv3d(16, 16, 3, padding=1).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    images = torch.ones(2, 16, 16, 16, 16).contiguous(memory_format=torch.channels_last_3d).requires_grad_()

    def seconds(dtype: torch.dtype) -> float:
        start = time.perf_counter()
        with torch.enable_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            layer(images).float().sum().backward()
        return time.perf_counter() - start

    # On one thread, in turns and the fastest of each, since other programs may take the processors for a while.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        turns = [(seconds(torch.float32), seconds(torch.bfloat16)) for _ in range(10)]
    finally:
        torch.set_num_threads(threads)
    as_float32, as_bfloat16 = (min(taken) for taken in zip(*turns, strict=True))
    return as_bfloat16 < 0.8 * as_float32


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"CUDA: {properties.name}, {properties.total_memory / 2**30:.0f} GB"
    if device.type == "mps":
        return "MPS: Apple GPU"
    why = "" if torch.version.cuda else "; this build of PyTorch has no CUDA"
    threads = torch.get_num_threads()
    return f"CPU: {threads} thread{'s' if threads != 1 else ''}, {platform.machine()}{why}"
