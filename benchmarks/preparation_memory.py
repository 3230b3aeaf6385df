"""Peak memory (RSS) of preparing large scans, by how many are read at a time, until training starts.

    .venv/bin/python benchmarks/preparation_memory.py

Eight made-up scans of 640×640×88 voxels, two of them labeled, `cpu` preset; each number in a process of its own. Linux.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from LASegColearnLib import cohort_checks
from LASegColearnLib.allocation import keep_freed_memory
from LASegColearnLib.cohort import Case, Cohort, save_cohort
from LASegColearnLib.settings import preset
from LASegColearnLib.training import train
from measuring import machine

_SIZE, _SPACING_MM = (640, 640, 88), (0.625, 0.625, 1.25)
_SCANS, _LABELED = 8, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--cohort", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cohort is not None:
        _prepare(options.cohort, *options.readers)
        return
    sys.stdout.write(f"{machine()}\n")
    with tempfile.TemporaryDirectory() as name:
        cohort = _written(Path(name))
        for readers in options.readers:
            command = [sys.executable, __file__, "--readers", str(readers), "--cohort", str(cohort)]
            sys.stdout.write(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _written(folder: Path) -> Path:
    """Write scans of noise with a box as label, and their cohort file."""
    rng = np.random.default_rng(0)
    cases = []
    for number in range(_SCANS):
        scan = sitk.GetImageFromArray(rng.integers(0, 500, _SIZE[::-1], dtype=np.int16))
        scan.SetSpacing(_SPACING_MM)
        sitk.WriteImage(scan, str(folder / f"{number}.nrrd"))
        label = None
        if number < _LABELED:
            box = np.zeros(_SIZE[::-1], np.uint8)
            box[30:60, 250:350, 250:350] = 1
            mask = sitk.GetImageFromArray(box)
            mask.CopyInformation(scan)
            label = folder / f"{number}-label.nrrd"
            sitk.WriteImage(mask, str(label), useCompression=True)
        cases.append(Case(str(number), folder / f"{number}.nrrd", label))
    save_cohort(Cohort(tuple(cases[:_LABELED]), tuple(cases[_LABELED:]), ()), folder / "cohort.json")
    return folder / "cohort.json"


def _prepare(cohort: Path, readers: int) -> None:
    cohort_checks._READERS = readers
    keep_freed_memory()
    started = time.monotonic()
    lines: list[str] = []

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "started":
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            lines.append(f"{readers} at a time  {peak:5.2f} GB  {time.monotonic() - started:5.1f} s\n")

    settings = replace(preset("cpu"), minutes=None, iterations=1, committee=1)
    with tempfile.TemporaryDirectory() as run:
        train(cohort, Path(run) / "run", settings, listeners=[listen], should_stop=lambda: bool(lines))
    sys.stdout.writelines(lines)


if __name__ == "__main__":
    main()
