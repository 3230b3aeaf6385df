"""What the benchmark scripts share: the line about the machine, measuring in turns, and which model is looked at."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

from LASegColearnLib.checkpoints import load_model
from LASegColearnLib.cohort import Case, load_cohort
from LASegColearnLib.device import choose_device
from LASegColearnLib.predictor import Predictor
from LASegColearnLib.run_folder import RunFolder


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


def model_parser(description: str | None) -> argparse.ArgumentParser:
    """Options that say which model is looked at, on which cases."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="run folder")
    parser.add_argument("--cohort", type=Path, help="cohort file whose validation cases are used (default: the run's)")
    parser.add_argument("--network", help="default: the one that predicts")
    return parser


def model_and_cases(options: argparse.Namespace) -> tuple[Predictor, tuple[Case, ...]]:
    """The run's last checkpoint, and the validation cases, of :func:`model_parser`'s options."""
    run = RunFolder(options.run)
    predictor = Predictor(load_model(run.last_checkpoint), device=choose_device("cpu"), network=options.network)
    return predictor, load_cohort(options.cohort or run.cohort).validation


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
