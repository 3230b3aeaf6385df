"""Which difference between the students keeps the teacher on top while the students still disagree?

    .venv/bin/python benchmarks/student_difference.py --minutes 3

Trains co-learning with each difference on phantoms, from the same start and for the same time, and prints the Dice of
teacher and students on unseen phantoms and the students' mean disagreement over the last quarter of the run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from LASegColearnLib.allocation import keep_freed_memory
from LASegColearnLib.phantom import write_phantom_cohort
from LASegColearnLib.run_folder import RunFolder
from LASegColearnLib.settings import preset
from LASegColearnLib.terminal import TerminalProgress
from LASegColearnLib.training import train

_DIFFERENCES = ("residual", "activation", "dropout", "none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=0, help="processor threads; 0: all")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    base = replace(preset("demo"), minutes=options.minutes, validations=1).with_text(options.set)
    sys.stdout.write("difference  seed  teacher  student_1  student_2  disagreement  iterations\n")
    with tempfile.TemporaryDirectory() as folder:
        cohort = write_phantom_cohort(Path(folder) / "cohort", labeled=4, unlabeled=12, validation=8, seed=1)
        for seed in options.seeds:
            for difference in _DIFFERENCES:
                run = Path(folder) / f"{difference}-{seed}"
                settings = replace(base, student_difference=difference, seed=seed)
                result = train(cohort, run, settings, listeners=[TerminalProgress()])
                dice, disagreement = _read(RunFolder(run))
                sys.stdout.write(
                    f"{difference:10}  {seed:4}  {dice['teacher']:7.3f}  {dice['student_1']:9.3f}  "
                    f"{dice['student_2']:9.3f}  {disagreement:12.4f}  {result.iterations:10}\n"
                )
                sys.stdout.flush()


def _read(run: RunFolder) -> tuple[dict[str, float], float]:
    events = [json.loads(line) for line in run.events.read_text(encoding="utf-8").splitlines()]
    dice = next(event["dice"] for event in reversed(events) if event["event"] == "validated")
    seen = [event["losses"].get("disagreement") for event in events if event["event"] == "progress"]
    late = [value for value in seen if value is not None][-max(len(seen) // 4, 1) :]
    return dice, float(np.mean(late))


if __name__ == "__main__":
    main()
