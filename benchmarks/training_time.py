"""Time of a co-learning iteration, ours against one written as published trainers are (plain_colearning.py).

    .venv/bin/python benchmarks/training_time.py --preset cpu
    .venv/bin/python benchmarks/training_time.py --preset paper --repetitions 3

Each runs in a process of its own, as it would, and they take turns in making an iteration on the same batches. Beside
it: what share of the machine's own rate of matrix products the networks reach, and what making a batch costs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from LASegColearnLib.allocation import keep_freed_memory
from LASegColearnLib.case_cache import CachedCase
from LASegColearnLib.device import choose_device
from LASegColearnLib.networks import VNet
from LASegColearnLib.patches import PatchSource
from LASegColearnLib.settings import Settings, preset
from LASegColearnLib.training_step import TrainingStep
from measuring import machine
from plain_colearning import PlainCoLearning

_PROGRESS = 0.9
_MATRIX = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = replace(preset(options.preset), pretraining=0.0, ramp_up=0.0)
    say = sys.stdout.write
    say(f"{machine()}\n{options.preset} preset, {settings.filters} filters, patches {settings.patch_size}\n")
    workers = {name: _Worker(name, settings, options.threads) for name in ("plain", "ours")}
    # The first round warms up; after that the two take turns, so that a busy moment does not fall on one of them.
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    for repetition in range(options.repetitions + 1):
        for name, worker in workers.items():
            taken = worker.step()
            if repetition >= 1:
                seconds[name].append(taken)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name, worker in workers.items():
        spread = f"{min(seconds[name]):.2f}-{max(seconds[name]):.2f}"
        say(f"{name:6} {median[name]:6.2f} s an iteration ({spread}), peak {worker.close():.2f} GB\n")
    say(f"ratio  {median['plain'] / median['ours']:6.2f}\n")
    _say_rates(settings, median["ours"])


class _Worker:
    """A process that makes one iteration whenever it is asked to."""

    def __init__(self, name: str, settings: Settings, threads: int) -> None:
        self._connection, other = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_work, args=(other, name, settings, threads), daemon=True)
        self._process.start()

    def step(self) -> float:
        self._connection.send("step")
        return self._connection.recv()

    def close(self) -> float:
        """End the process; its peak memory in GB."""
        self._connection.send("end")
        peak: float = self._connection.recv()
        self._process.join()
        return peak


def _work(connection: Connection, name: str, settings: Settings, threads: int) -> None:
    if name == "ours":
        keep_freed_memory()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        batch = _source(settings, Path(folder)).batch(0, settings.labeled_batch, settings.unlabeled_batch)
        step = _plain(settings) if name == "plain" else _ours(settings)
        while connection.recv() == "step":
            batch.rng = np.random.default_rng(0)
            start = time.perf_counter()
            step(batch)
            connection.send(time.perf_counter() - start)
        connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def _plain(settings: Settings) -> Callable:
    return PlainCoLearning(settings).step


def _ours(settings: Settings) -> Callable:
    step = TrainingStep(settings, choose_device("cpu", settings.precision))
    return lambda batch: step([batch], _PROGRESS, settings.learning_rate)


def _source(settings: Settings, folder: Path) -> PatchSource:
    """Cases of noise of the size that scans have at the preset's spacing."""
    rng = np.random.default_rng(0)
    shape = [round(side * 0.625 / spacing) for side, spacing in zip((200, 150, 88), settings.spacing_mm, strict=True)]
    np.save(folder / "image.npy", rng.standard_normal(shape, dtype=np.float32))
    np.save(folder / "label.npy", (rng.random(shape) < 0.1).astype(np.uint8))
    case = CachedCase("case", folder / "image.npy", folder / "label.npy")
    return PatchSource([case], [case], settings)


def _say_rates(settings: Settings, iteration: float) -> None:
    """What the networks' share reaches of the machine's rate, and what a batch costs beside the iteration."""
    keep_freed_memory()
    place = choose_device("cpu", settings.precision)
    matrix = torch.randn(_MATRIX, _MATRIX).to(place.precision)
    rate = 2 * _MATRIX**3 / _fastest(lambda: matrix @ matrix)
    network = place.place(VNet(settings.filters, settings.normalization, settings.dropout))
    patches = torch.randn(settings.labeled_batch + settings.unlabeled_batch + 1, 1, *settings.patch_size)

    def forward_and_backward() -> None:
        with place.autocast():
            result = network(patches)
        result.float().mean().backward()

    with FlopCounterMode(display=False) as counter:
        forward_and_backward()
    seconds = _fastest(forward_and_backward)
    reached = counter.get_total_flops() / seconds
    sys.stdout.write(
        f"one student's forward and backward pass {seconds:.2f} s in {place.precision}: {reached / 1e9:.0f} GFLOP/s, "
        f"{reached / rate:.0%} of the machine's matrix products ({rate / 1e9:.0f} GFLOP/s)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        source = _source(settings, Path(folder))
        batch = statistics.median(
            _timed(lambda i=i: source.batch(i, settings.labeled_batch, settings.unlabeled_batch)) for i in range(20)
        )
    sys.stdout.write(
        f"making a batch {batch * 1e3:.0f} ms, {batch / iteration:.1%} of an iteration, in another thread\n"
    )


def _fastest(work: Callable[[], object]) -> float:
    return min(_timed(work) for _ in range(3))


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
