"""Peak memory (RSS) of training, and whether it grows.

    .venv/bin/python benchmarks/training_memory.py --preset cpu --iterations 10
    .venv/bin/python benchmarks/training_memory.py --preset paper --iterations 3
    .venv/bin/python benchmarks/training_memory.py --preset paper --iterations 3 --set batch_parts=2
    .venv/bin/python benchmarks/training_memory.py --preset demo --iterations 1000

80 synthetic scans, all of the trainer: pretraining and co-learning, validation, checkpoints. Linux.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from LASegColearnLib.allocation import keep_freed_memory
from LASegColearnLib.device import choose_device
from LASegColearnLib.events import EventLog
from LASegColearnLib.run_folder import RunFolder
from LASegColearnLib.settings import preset
from LASegColearnLib.trainer import Trainer
from measuring import machine
from synthetic_cases import write_cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    keep_freed_memory()
    settings = replace(
        preset(options.preset).with_text(options.set), minutes=None, iterations=options.iterations, validations=2
    )
    changes = " ".join([options.preset, "preset", *options.set])
    sys.stdout.write(f"{machine()}\n{changes}, {options.iterations} iterations, 8 + 70 + 2 scans\n")
    resident: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = write_cases(folder, settings, labeled=8, unlabeled=70, validation=2)

        def listen(event: dict[str, Any]) -> None:
            if event["event"] == "progress":
                resident[event["iteration"]] = _resident_gb()

        events = EventLog(None, listen)
        place = choose_device("cpu", settings.precision)
        Trainer(RunFolder(folder / "run"), settings, cases, place, events).train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    sys.stdout.write(f"peak {peak:.2f} GB\n")
    # From the middle on: by then both phases, a validation and a checkpoint have taken what they need.
    marks = [mark for mark in resident if mark >= options.iterations // 2]
    for mark in (marks[0], marks[len(marks) // 2], marks[-1]) if marks else ():
        sys.stdout.write(f"after {mark:5} iterations {resident[mark]:.3f} GB\n")


def _resident_gb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**30


if __name__ == "__main__":
    main()
