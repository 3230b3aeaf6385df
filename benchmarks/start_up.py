"""How long it takes until something happens: help, preparing scans, the first iteration of a prepared cohort.

    .venv/bin/python benchmarks/start_up.py --cohort cohort.json

Without a cohort, one of 60 phantoms is made. Each figure is of a process of its own, from its start.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from LASegColearnLib import cohort_checks
from LASegColearnLib.cohort import load_cohort
from LASegColearnLib.phantom import write_phantom_cohort
from measuring import machine

_ENGINE = [sys.executable, "-m", "LASegColearnLib"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", type=Path)
    options = parser.parse_args()
    say = sys.stdout.write
    say(f"{machine()}\n")
    help_seconds = statistics.median(_seconds([*_ENGINE, "--help"]) for _ in range(5))
    say(f"--help {help_seconds:.2f} s\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cohort = options.cohort or write_phantom_cohort(folder / "phantoms", labeled=8, unlabeled=52, validation=0)
        scans = len(load_cohort(cohort).cases)
        for readers in (1, cohort_checks._READERS):
            start = time.perf_counter()
            cohort_checks._READERS = readers
            cohort_checks.check_cohort(load_cohort(cohort))
            say(f"reading and checking {scans} scans, {readers} at a time: {time.perf_counter() - start:.1f} s\n")
        common = ["--run", str(folder / "run"), "--device", "cpu", "--events"]
        fresh = _until([*_ENGINE, "train", "--cohort", str(cohort), "--iterations", "2", *common])
        say(f"first training of {scans} scans: started after {fresh['started']:.1f} s, ")
        say(f"first iteration after {fresh['progress']:.1f} s\n")
        again = _until([*_ENGINE, "train", "--resume", "--iterations", "4", *common])
        say(f"the same, prepared: started after {again['started']:.1f} s, ")
        say(f"first iteration after {again['progress']:.1f} s\n")


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _until(command: list[str]) -> dict[str, float]:
    """Seconds until the first event of each kind."""
    start = time.perf_counter()
    first: dict[str, float] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            first.setdefault(json.loads(line)["event"], time.perf_counter() - start)
    return first


if __name__ == "__main__":
    main()
