"""Does the suggested order of annotation help? Labels added in our order against labels added in random order.

    .venv/bin/python benchmarks/annotation_order.py --seeds 0 1 2

For each seed two of la_001-la_060 are labeled to start with; two more are added in each round until there are eight,
by the model's suggestion or at random, and training goes on from the last model. Both orders share the first round.
Reported is the teacher's mean Dice on la_061-la_080 after each round. It goes on where it was broken off.
"""

from __future__ import annotations

import argparse
import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from LASegColearnLib.allocation import keep_freed_memory
from LASegColearnLib.settings import preset
from loop_rounds import POOL, Record, number_of, reported_dice, suggested, train_round
from measuring import machine

ORDERS = ("suggested", "random")


def main() -> None:
    options = _options()
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    record = Record(options.output / "rounds.json")
    for seed in options.seeds:
        for order in ORDERS:
            _rounds(order, seed, record, options)
    sys.stdout.write(f"{machine()}\n{_table(record, options)}\n")


def _options() -> argparse.Namespace:
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, default=root.parent / "shared" / "la")
    parser.add_argument("--output", type=Path, default=root / "runs" / "annotation_order")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--start", type=int, default=2, help="labels to start with")
    parser.add_argument("--step", type=int, default=2, help="labels added in a round")
    parser.add_argument("--until", type=int, default=8, help="labels at the end")
    parser.add_argument("--preset", default="demo", help="demo (default) trains at 2.5 mm")
    parser.add_argument("--iterations", type=int, default=400, help="of the first round")
    parser.add_argument("--more-iterations", type=int, default=200, help="of each later round")
    parser.add_argument("--threads", type=int, default=0, help="processor threads; 0: all")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def _rounds(order: str, seed: int, record: Record, options: argparse.Namespace) -> None:
    """All rounds of one order from one start."""
    labeled = random.Random(seed).sample(POOL, options.start)
    # Another stream than the one that drew the start.
    at_random = random.Random(f"order {seed}")
    run = None
    while True:
        name = f"{order if run is not None else 'start'}-{seed}-{len(labeled)}"
        iterations = options.iterations if run is None else options.more_iterations
        settings = replace(preset(options.preset), minutes=None, iterations=iterations, seed=seed)
        init = None if run is None else run.last_checkpoint
        run = train_round(options.output / name, options.scans, labeled, settings, init, options.device)
        if record.get(name) is None:
            dice = reported_dice(run, options.scans, options.device)
            record.put(name, {"labeled": labeled, "dice": dice})
            sys.stdout.write(f"{name}: {dice:.2f}\n")
        if len(labeled) >= options.until:
            return
        left = [n for n in POOL if n not in labeled]
        if order == "random":
            added = at_random.sample(left, options.step)
        else:
            kept = record.get(f"{name} asks for") or record.put(
                f"{name} asks for",
                {"cases": [number_of(s) for s in suggested(run, options.scans, labeled, options.device)]},
            )
            added = kept["cases"][: options.step]
        labeled = [*labeled, *added]


def _table(record: Record, options: argparse.Namespace) -> str:
    counts = range(options.start, options.until + 1, options.step)
    lines = [f"{'labels':22}" + "".join(f"{count:>16}" for count in counts)]
    for order in ORDERS:
        cells = []
        for count in counts:
            found = [_dice(record, order, seed, count, options) for seed in options.seeds]
            spread = np.std(found, ddof=1) if len(found) > 1 else 0.0
            cells.append(f"{f'{np.mean(found):.2f} ± {spread:.2f}':>16}")
        lines.append(f"{order:22}" + "".join(cells))
    for seed in options.seeds:
        apart = [
            _dice(record, "suggested", seed, count, options) - _dice(record, "random", seed, count, options)
            for count in counts
        ]
        lines.append(f"{f'difference, seed {seed}':22}" + "".join(f"{value:>+16.2f}" for value in apart))
    return "\n".join(lines)


def _dice(record: Record, order: str, seed: int, count: int, options: argparse.Namespace) -> float:
    found = record.get(f"{'start' if count == options.start else order}-{seed}-{count}")
    assert found is not None
    return float(found["dice"])


if __name__ == "__main__":
    main()
