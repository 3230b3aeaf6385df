"""Time that making a training batch takes of one core, and what a moved patch takes of that.

    .venv/bin/python benchmarks/batch_time.py

Four labeled patches of synthetic scans, `cpu` preset; processor time, so that other work does not count.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from LASegColearnLib.augmentation import affine_elastic_patch
from LASegColearnLib.patches import PatchSource
from LASegColearnLib.settings import preset
from measuring import machine
from synthetic_cases import write_cases

_PATCHES = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=50)
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = preset("cpu")
    sys.stdout.write(f"{machine()}\nmedians of {options.repetitions}\n")
    with tempfile.TemporaryDirectory() as name:
        cases = write_cases(Path(name), settings, labeled=_PATCHES, unlabeled=2)
        source = PatchSource(cases.labeled, cases.unlabeled, settings)
        batch = _milliseconds(lambda number: source.batch(number, _PATCHES, 0), options.repetitions)
        image, label = cases.labeled[0].image(), cases.labeled[0].label()
        middle = [(side - wanted) // 2 for side, wanted in zip(image.shape, settings.patch_size, strict=True)]
        rng = np.random.default_rng(0)
        patch = _milliseconds(
            lambda _: affine_elastic_patch(image, label, middle, settings.patch_size, settings.spacing_mm, rng),
            options.repetitions,
        )
    sys.stdout.write(f"a batch of {_PATCHES} patches  {batch:6.1f} ms\na moved patch         {patch:6.1f} ms\n")


def _milliseconds(work: Callable[[int], object], repetitions: int) -> float:
    """Processor time of this process for one call, which gets its number; the first is not counted."""
    taken = []
    for number in range(repetitions + 1):
        start = time.process_time()
        work(number)
        taken.append(time.process_time() - start)
    return 1000.0 * median(taken[1:])


if __name__ == "__main__":
    main()
