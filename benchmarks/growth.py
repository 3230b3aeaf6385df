"""What an iteration costs with 10, 100 and 1000 scans, and a prediction with more voxels; writes a picture.

.venv/bin/python benchmarks/growth.py --output docs/pictures/growth.png
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import torch

from LASegColearnLib.allocation import keep_freed_memory
from LASegColearnLib.device import choose_device
from LASegColearnLib.patches import BatchesAhead, PatchSource
from LASegColearnLib.settings import Settings, preset
from LASegColearnLib.training_step import TrainingStep
from LASegColearnLib.windows import foreground_by_windows
from measuring import interleaved, machine
from synthetic_cases import shape_at, write_cases

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402 - the backend first

_SCANS = (10, 100, 1000)
_SCALES = (1.0, 1.5, 2.0, 3.0, 4.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--repetitions", type=int, default=10)
    options = parser.parse_args()
    keep_freed_memory()
    settings = replace(preset("cpu"), pretraining=0.0)
    sys.stdout.write(f"{machine()}\ncpu preset\n")
    iterations = _iterations(settings, options.repetitions)
    for scans, seconds in iterations.items():
        sys.stdout.write(f"{scans:5} scans {seconds:6.2f} s an iteration\n")
    predictions = _predictions(settings)
    for voxels, seconds in predictions.items():
        sys.stdout.write(f"{voxels:9} voxels at 1.25 mm {seconds:6.2f} s a prediction\n")
    if options.output is not None:
        _draw(iterations, predictions, options.output)


def _iterations(settings: Settings, repetitions: int) -> dict[int, float]:
    """Median seconds of taking a batch and making an iteration, by the number of scans."""
    step = TrainingStep(settings, choose_device("cpu", settings.precision))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = write_cases(folder, settings, labeled=8, unlabeled=max(_SCANS) - 8)
        batches = {n: BatchesAhead(PatchSource(cases.labeled, cases.unlabeled[: n - 8], settings)) for n in _SCANS}
        made = dict.fromkeys(_SCANS, 0)

        def iterate(scans: int) -> None:
            parts = batches[scans].take(made[scans], settings.labeled_batch, settings.unlabeled_batch)
            step(parts, 0.5, settings.learning_rate)
            made[scans] += 1

        seconds = interleaved({str(n): lambda n=n: iterate(n) for n in _SCANS}, repetitions)
        for ahead in batches.values():
            ahead.close()
    return {n: statistics.median(seconds[str(n)]) for n in _SCANS}


def _predictions(settings: Settings) -> dict[int, float]:
    place = choose_device("cpu", settings.precision)
    network = TrainingStep(settings, place).method.networks["teacher"].eval()
    x, y, z = shape_at(settings.spacing_mm)
    shapes = [(round(x * scale), y, z) for scale in _SCALES]
    images = {int(np.prod(shape)): torch.randn(1, 1, *shape) for shape in shapes}
    seconds = interleaved(
        {
            str(voxels): lambda i=image: foreground_by_windows(network, i, settings, place)
            for voxels, image in images.items()
        },
        repetitions=5,
    )
    return {int(voxels): statistics.median(values) for voxels, values in seconds.items()}


def _draw(iterations: dict[int, float], predictions: dict[int, float], path: Path) -> None:
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3), layout="constrained")
    left.semilogx(list(iterations), list(iterations.values()), "o-")
    left.set(xlabel="scans in the cohort", ylabel="seconds an iteration", ylim=(0, None))
    right.plot([voxels / 1e6 for voxels in predictions], list(predictions.values()), "o-")
    right.set(xlabel="million voxels at 1.25 mm", ylabel="seconds a prediction", xlim=(0, None), ylim=(0, None))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
