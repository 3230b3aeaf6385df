"""The annotation loop with the true label standing in for a clinician's corrections.

    .venv/bin/python benchmarks/annotation_loop.py

Starts with la_001-la_004 labeled. In each round the model asks for the next cases; what would have to be changed in its
predictions to get the true labels is measured, the labels are added, and training goes on from the last model. The same
is measured in each round on la_061-la_080, which nothing is trained on. It goes on where it was broken off.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from LASegColearnLib.allocation import keep_freed_memory
from LASegColearnLib.run_folder import RunFolder
from LASegColearnLib.settings import preset
from loop_rounds import (
    REPORTED,
    TOLERANCE_MM,
    Record,
    corrections,
    iterations_of,
    number_of,
    reported_dice,
    suggested,
    train_round,
)
from measuring import machine


def main() -> None:
    options = _options()
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    record = Record(options.output / "rounds.json")
    labeled = list(range(1, options.start + 1))
    init = None
    for number in range(1, options.rounds + 1):
        found = _round(number, labeled, init, record, options)
        init = options.output / f"round-{number}" / "checkpoints" / "last.pt"
        labeled = [*labeled, *found["asked for"]]
    sys.stdout.write(f"{machine()}\n{_table(record, options)}\n")


def _options() -> argparse.Namespace:
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, default=root.parent / "shared" / "la")
    parser.add_argument("--output", type=Path, default=root / "runs" / "annotation_loop")
    parser.add_argument("--start", type=int, default=4, help="labels to start with")
    parser.add_argument("--step", type=int, default=4, help="cases corrected in a round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--minutes", type=float, default=20.0, help="of the first training")
    parser.add_argument("--more-minutes", type=float, default=8.0, help="of each later training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="processor threads; 0: all")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def _round(number: int, labeled: list[int], init: Path | None, record: Record, options: argparse.Namespace) -> dict:
    """Train, ask, and measure what was asked for and what is reported on."""
    key = f"round {number}"
    done = record.get(key)
    if done is not None:
        return done
    minutes = options.minutes if init is None else options.more_minutes
    settings = replace(preset(options.preset), minutes=minutes, seed=options.seed)
    run = train_round(options.output / f"round-{number}", options.scans, labeled, settings, init, options.device)
    start = time.monotonic()
    order = suggested(run, options.scans, labeled, options.device)
    asked = [number_of(suggestion) for suggestion in order[: options.step]]
    seconds = time.monotonic() - start
    result = {
        "labels": len(labeled),
        "minutes": minutes,
        "seconds to suggest": seconds,
        "asked for": asked,
        "reasons": [suggestion.reason for suggestion in order[: options.step]],
        "corrected": [asdict(c) for c in corrections(run, options.scans, asked, options.device)],
        "unseen": [asdict(c) for c in corrections(run, options.scans, REPORTED, options.device)],
        "dice": reported_dice(run, options.scans, options.device),
    }
    sys.stdout.write(f"round {number}: Dice {result['dice']:.2f}\n")
    return record.put(key, result)


def _table(record: Record, options: argparse.Namespace) -> str:
    lines = [
        f"Surface: share farther than {TOLERANCE_MM} mm from the prediction's.",
        "                                    asked for                          la_061-la_080",
        "round  labels  minutes  iterations  voxels changed   surface %         Dice %  voxels changed   surface %",
    ]
    for number in range(1, options.rounds + 1):
        found = record.get(f"round {number}")
        assert found is not None
        cells = []
        for group in ("corrected", "unseen"):
            voxels = np.mean([c["voxels"] for c in found[group]])
            share = 100 * np.mean([c["share"] for c in found[group]])
            far = 100 * np.mean([c["surface"] for c in found[group]])
            cells.append(f"{f'{voxels:.0f} ({share:.1f} %)':>16} {far:>11.1f}")
        made = iterations_of(RunFolder(options.output / f"round-{number}"))
        lines.append(
            f"{number:5} {found['labels']:7} {found['minutes']:8g}{made:12}{cells[0]}     {found['dice']:10.2f}"
            + cells[1]
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
