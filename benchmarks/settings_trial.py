"""Try settings on real scans that are not reported on.

    .venv/bin/python benchmarks/settings_trial.py --method supervised --minutes 6 --threads 1 --set learning_rate=0.03

Trains on the first N scans with labels and the others up to la_040 without, and prints the Dice of each network on
la_041-la_060: in the course of the training at the networks' spacing, for the last checkpoint on the scans' own grid.
With --first 51 it is judged by la_051-la_060 alone, and la_041-la_050 are unlabeled too. Settings are chosen here,
never on la_061-la_080, which the docs report on.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch

from LASegColearnLib.allocation import keep_freed_memory
from LASegColearnLib.cohort import Cohort, save_cohort
from LASegColearnLib.network_comparison import compare_networks
from LASegColearnLib.run_folder import RunFolder
from LASegColearnLib.settings import preset
from LASegColearnLib.terminal import TerminalProgress
from LASegColearnLib.training import train
from left_atrium import case

_ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, default=_ROOT.parent / "shared" / "la")
    parser.add_argument("--method", default="colearning")
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--labeled", type=int, default=8)
    parser.add_argument("--labels", type=int, nargs="+", help="numbers of the labeled scans, instead of the first N")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--threads", type=int, default=0, help="processor threads; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=41, help="first of the scans that the trial is judged by")
    parser.add_argument("--init", type=Path, help="checkpoint to go on from")
    parser.add_argument("--keep", type=Path, help="new folder to keep the run in")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    settings = replace(
        preset(options.preset),
        method=options.method,
        minutes=options.minutes,
        seed=options.seed,
        validations=4,
        validation_cases=0,
    ).with_text(options.set)
    labels = options.labels or list(range(1, options.labeled + 1))
    cohort = Cohort(
        labeled=tuple(case(options.scans, n, True) for n in labels),
        unlabeled=tuple(case(options.scans, n, False) for n in range(1, options.first) if n not in labels),
        validation=tuple(case(options.scans, n, True) for n in range(options.first, 61)),
    )
    with tempfile.TemporaryDirectory() as folder:
        save_cohort(cohort, Path(folder) / "cohort.json")
        run = options.keep or Path(folder) / "run"
        train(Path(folder) / "cohort.json", run, settings, init=options.init, listeners=[TerminalProgress()])
        compare_networks(RunFolder(run), cohort)
        figures = RunFolder(run).metrics.read_text("utf-8").splitlines()
        events = [json.loads(line) for line in (run / "events.jsonl").read_text("utf-8").splitlines()]
    for event in events:
        if event["event"] == "validated":
            dice = "  ".join(f"{name} {100 * value:.2f}" for name, value in event["dice"].items())
            sys.stdout.write(
                f"{event['elapsed_seconds'] / 60:5.1f} min  {event['iteration']:5} iterations  Dice %  {dice}\n"
            )
    rows = list(csv.DictReader(figures))
    for name in dict.fromkeys(row["network"] for row in rows):
        found = {row["case"]: 100 * float(row["dice"]) for row in rows if row["network"] == name}
        last_ten = [value for case_id, value in found.items() if case_id >= "la_051"]
        worst = ", ".join(f"{case_id} {found[case_id]:.1f}" for case_id in sorted(found, key=found.__getitem__)[:3])
        sys.stdout.write(
            f"{name:10}  last: {mean(found.values()):.2f}  la_051-la_060: {mean(last_ten):.2f}  worst: {worst}\n"
        )


if __name__ == "__main__":
    main()
