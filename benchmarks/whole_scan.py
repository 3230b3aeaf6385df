"""Time and memory (peak RSS) of `lasegcolearn predict` on a whole scan and on its cropped part, by `zoom`.

    .venv/bin/python benchmarks/whole_scan.py --run RUN --scan ../shared/la/la_061/image.nrrd

The whole scan is the given one continued by its mirror image to 640 voxels in i and j. Each command is a process of its
own, whose start is counted too. Linux.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from measuring import machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="run folder")
    parser.add_argument("--scan", type=Path, required=True, help="a cropped scan")
    parser.add_argument("--side", type=int, default=640, help="voxels of the whole scan in i and j")
    parser.add_argument("--zooms", type=float, nargs="+", default=[1.0, 1.25], help="factors; 1: the scan as it is")
    options = parser.parse_args()
    sys.stdout.write(f"{machine()}\n")
    cropped = sitk.ReadImage(str(options.scan))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for scan, zoom in product((cropped, _whole(cropped, options.side)), options.zooms):
            file = folder / "scan.nrrd"
            sitk.WriteImage(scan, str(file))
            seconds, peak = _predicted(options.run, file, folder / "results", zoom)
            size = "×".join(map(str, scan.GetSize()))
            sys.stdout.write(f"{size}, zoom {zoom:g}: {seconds:.1f} s, {peak:.2f} GB\n")


def _whole(cropped: sitk.Image, side: int) -> sitk.Image:
    array = sitk.GetArrayFromImage(cropped)
    missing = [max(0, side - length) for length in array.shape[1:]]
    margins = [(0, 0), *((length // 2, length - length // 2) for length in missing)]
    whole = sitk.GetImageFromArray(np.pad(array, margins, mode="symmetric"))
    whole.SetSpacing(cropped.GetSpacing())
    return whole


def _predicted(run: Path, scan: Path, results: Path, zoom: float) -> tuple[float, float]:
    """Seconds and peak GB of one command."""
    started = time.perf_counter()
    command = ["predict", "--run", run, "--output", results, "--overwrite", "--zoom", f"{zoom:g}", "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "LASegColearnLib", *map(str, command), str(scan)], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit("The prediction did not work.")
    return time.perf_counter() - started, usage.ru_maxrss / 2**20


if __name__ == "__main__":
    main()
