"""Time of Dice, Jaccard, 95HD and ASD of one scan, ours against medpy's, with the values of both.

    .venv/bin/python benchmarks/metrics_time.py [label.nrrd ...]

Without labels to read, phantoms' are used. The prediction is the label, moved by two voxels and smoothed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from medpy.metric import binary
from scipy import ndimage

from LASegColearnLib.metrics import segmentation_metrics
from LASegColearnLib.phantom import make_phantom
from measuring import interleaved, machine

_VOXELS = (1.0, 1.0, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path, nargs="*")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    say = sys.stdout.write
    say(f"{machine()}\n")
    for label in _labels(options.labels):
        moved = np.roll(label, 2, axis=0).astype(np.float32)
        prediction = ndimage.gaussian_filter(moved, 2) > 0.45
        ours = segmentation_metrics(prediction, label, _VOXELS)
        values = (ours.dice, ours.jaccard, ours.hd95, ours.asd)
        difference = max(abs(a - b) for a, b in zip(values, _by_medpy(prediction, label), strict=True))
        seconds = interleaved(
            {
                "ours": lambda p=prediction, r=label: segmentation_metrics(p, r, _VOXELS),
                "medpy": lambda p=prediction, r=label: _by_medpy(p, r),
            },
            options.repetitions,
        )
        median = {name: statistics.median(values) for name, values in seconds.items()}
        say(
            f"{'x'.join(str(side) for side in label.shape)} voxels, {np.count_nonzero(label)} inside: "
            f"ours {median['ours'] * 1e3:.0f} ms, medpy {median['medpy'] * 1e3:.0f} ms, "
            f"ratio {median['medpy'] / median['ours']:.1f}, largest difference of a value {difference:.1e}\n"
        )


def _labels(paths: list[Path]) -> list[np.ndarray]:
    images = [sitk.ReadImage(path) for path in paths] or [make_phantom(seed)[1] for seed in range(3)]
    return [sitk.GetArrayFromImage(image).transpose(2, 1, 0) > 0 for image in images]


def _by_medpy(prediction: np.ndarray, label: np.ndarray) -> tuple[float, float, float, float]:
    return (
        binary.dc(prediction, label),
        binary.jc(prediction, label),
        binary.hd95(prediction, label),
        binary.asd(prediction, label),
    )


if __name__ == "__main__":
    main()
