"""What the effect Co-learning computes in Slicer's window on a large scan: seconds, and memory at the peak.

    .venv/bin/python benchmarks/editing_time.py --baseline CHECKOUT

Doubtful places of a made-up uncertainty, strokes of 250 points along half a circle, and a loop through all slices, on
640 x 640 x 88 voxels of 0.625 mm; each in a process of its own, by this checkout and by another one.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from measuring import machine

_ROOT = Path(__file__).resolve().parent.parent
_SHAPE, _SPACING = (88, 640, 640), 0.625
_RADII = (5.0, 20.0, 50.0)
_TASKS = ("doubtful", *(f"{kind}-{radius:g}" for kind in ("flat", "sphere") for radius in _RADII), "loop")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", type=Path, help="another checkout")
    parser.add_argument("--task", choices=_TASKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        _measure(options.task)
        return
    sys.stdout.write(f"{machine()}\ntask: seconds, peak GB, of which the task's; this checkout, then the baseline\n")
    for task in _TASKS:
        checkouts = [_ROOT, *([options.baseline.resolve()] if options.baseline else [])]
        sys.stdout.write(f"{task}: {'   '.join(_run(task, checkout) for checkout in checkouts)}\n")


def _run(task: str, checkout: Path) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(
        str(folder) for folder in (checkout / "LASegColearn", _ROOT / "Testing")
    )
    command = [sys.executable, __file__, "--task", task]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def _measure(task: str) -> None:
    from LASegColearnSlicer.doubtful_places import doubtfulPlaces
    from LASegColearnSlicer.teacher_opinion import loopRegion, strokeRegion
    from mrml_scene import startSlicerCore

    startSlicerCore()
    kind, _, radius = task.partition("-")
    # Made before, so that it is not counted.
    uncertainty, image = (_uncertainty(), None) if kind == "doubtful" else (None, _image())
    turn = np.linspace(0, np.pi, 250)
    path = [(200 + 40 * np.cos(angle), 200 + 40 * np.sin(angle), 27.5) for angle in turn]
    before, started = _peak_gb(), time.perf_counter()
    if kind == "doubtful":
        doubtfulPlaces(uncertainty, (_SPACING,) * 3)
    elif kind == "loop":
        loopRegion(image, [(250, 250), (400, 250), (400, 400), (250, 400)], np.diag((_SPACING, _SPACING, 1, 1)))
    else:
        normal = (0, 0, 1) if kind == "flat" else None
        strokeRegion(image, path, float(radius), normal=normal, thickness=_SPACING)
    seconds = time.perf_counter() - started
    sys.stdout.write(f"{seconds:.2f} s, {_peak_gb():.2f}, {_peak_gb() - before:.2f}\n")


def _uncertainty() -> np.ndarray:
    """High in a shell of 3 mm around a ball of 25 mm, and in a box."""
    k, j, i = np.ogrid[: _SHAPE[0], : _SHAPE[1], : _SHAPE[2]]
    distance = _SPACING * np.sqrt((k - 44) ** 2 + (j - 320) ** 2 + (i - 320) ** 2, dtype=np.float32)
    found = np.where(np.abs(distance - 25) < 1.5, np.float32(0.9), np.float32(0))
    found[30:40, 300:320, 300:330] = 0.8
    return found


def _image() -> Any:
    import slicer
    import vtk

    image = slicer.vtkOrientedImageData()
    image.SetDimensions(_SHAPE[::-1])
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    image.SetSpacing(_SPACING, _SPACING, _SPACING)
    return image


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
