"""What the benchmark scripts share: the line about the machine, and measuring variants in turns."""

from __future__ import annotations

import datetime
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch


def machine() -> str:
    """The processor, its instructions as PyTorch uses them, threads, versions and date, in one line."""
    return (
        f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}; Python {platform.python_version()}, PyTorch {torch.__version__}; "
        f"{datetime.date.today():%Y-%m-%d}"
    )


def interleaved(
    variants: dict[str, Callable[[], object]], repetitions: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of each repetition of each variant; they take turns, so that a busy moment does not fall on one."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for repetition in range(repetitions + warm_up):
        for name, work in variants.items():
            start = time.perf_counter()
            work()
            if repetition >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
