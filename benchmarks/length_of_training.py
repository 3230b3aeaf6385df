"""What longer trainings bring: Dice on la_061-la_080 by iterations, of all co-learning runs that are kept case by case.

    .venv/bin/python benchmarks/length_of_training.py --output docs/pictures/length.png

Of results/left_atrium_headline.csv and left_atrium_methods.csv, 8 filters, by the published protocol; nothing is
trained. Prints a table of the runs as well.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure

from LASegColearnLib.curves import COLORS

_RESULTS = Path(__file__).with_name("results")
# Published on other scans of the same challenge: benchmarks.md, "In short".
_BEST_PUBLISHED = {8: 91.3, 4: 90.35}
_MARKERS = {"one model, earlier schedule": "x", "one model": "o", "two models": "D"}


@dataclass(frozen=True)
class Run:
    """A training, and its mean Dice in percent."""

    labels: int
    seed: int
    iterations: int
    kind: str
    dice: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="PNG")
    options = parser.parse_args()
    runs = sorted(_runs(), key=lambda run: (-run.labels, run.iterations))
    for run in runs:
        sys.stdout.write(
            f"{run.labels} labels, {run.iterations} iterations, seed {run.seed}, {run.kind}: {run.dice:.2f}\n"
        )
    _draw(runs, options.output)


def _runs() -> Iterator[Run]:
    dice: dict[tuple[int, int, int, str], list[float]] = defaultdict(list)
    for name in ("left_atrium_headline.csv", "left_atrium_methods.csv"):
        with (_RESULTS / name).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                usual = {"filters": "8", "logit_shift": "0", "zoom": "1"}
                plain = all(float(row.get(name, value)) == float(value) for name, value in usual.items())
                if row["method"] == "colearning" and row["protocol"] == "published" and plain:
                    run = (int(row["labels"]), int(row["seed"]), int(row["iterations"]), _kind(row))
                    dice[run].append(100 * float(row["dice"]))
    for (labels, seed, iterations, kind), of_cases in dice.items():
        yield Run(labels, seed, iterations, kind, mean(of_cases))


def _kind(row: dict[str, str]) -> str:
    if int(row.get("models", 1)) > 1:
        return "two models"
    return "one model" if float(row.get("anneal_from", 0)) else "one model, earlier schedule"


def _draw(runs: list[Run], output: Path) -> None:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for color, (labels, published) in zip(COLORS, _BEST_PUBLISHED.items(), strict=False):
        axes.axhline(published, color=color, linestyle=":", label=f"{labels} labels, best published")
        for kind, marker in _MARKERS.items():
            chosen = [run for run in runs if (run.labels, run.kind) == (labels, kind)]
            places = [run.iterations for run in chosen], [run.dice for run in chosen]
            if chosen:
                axes.plot(*places, marker, color=color, label=f"{labels} labels, {kind}")
    axes.set(xlabel="Iterations (of each model)", ylabel="Dice %", xscale="log")
    ticks = [1000, 2000, 4000, 8000]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(output, dpi=120)


if __name__ == "__main__":
    main()
