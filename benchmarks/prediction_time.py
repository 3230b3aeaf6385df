"""Time and Dice of segmenting a whole scan, ours against the published protocol.

    .venv/bin/python benchmarks/prediction_time.py --run runs/left_atrium/colearning-8-seed0 --cohort cohort.json

Published: windows of 112x112x80 at 0.625 mm, strides 18, 18 and 4, one window at a time, float32, default layout, 16
filters. Its time is taken with an untrained network of that size; its Dice with the run's own network, at the run's
spacing and window and with the same strides. Ours is what `lasegcolearn predict` does from the scan in memory to the
segmentation on the scan's grid. Distances between the two are in Dice on the cohort's validation cases.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from torch import nn

from LASegColearnLib.allocation import keep_freed_memory
from LASegColearnLib.checkpoints import load_model
from LASegColearnLib.cohort import load_cohort
from LASegColearnLib.device import choose_device
from LASegColearnLib.networks import VNet
from LASegColearnLib.predictor import Predictor, largest_component
from LASegColearnLib.preprocessing import prepare_scan, restore_to_scan
from LASegColearnLib.scan_files import read_label, read_scan
from measuring import interleaved, machine

_STRIDES = (18, 18, 4)
_PUBLISHED_WINDOW, _PUBLISHED_SPACING, _PUBLISHED_FILTERS = (112, 112, 80), (0.625, 0.625, 0.625), 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--cohort", type=Path, help="default: the run's own")
    parser.add_argument("--scans", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    keep_freed_memory()
    model = load_model(options.run / "checkpoints" / "last.pt")
    predictor = Predictor(model, device=choose_device("cpu", "auto"))
    network = model.networks[model.predictor]
    cases = load_cohort(options.cohort or options.run / "cohort.json").validation[: options.scans]
    say = sys.stdout.write
    say(f"{machine()}\n{model.settings.preset} preset, {predictor.device.description}\n")
    dice: dict[str, list[float]] = {"ours": [], "dense": []}
    for case in cases:
        scan = read_scan(case.image, case.id)
        label = sitk.GetArrayFromImage(read_label(case.label, case.segment, scan)[0]) > 0
        dice["ours"].append(_dice(sitk.GetArrayFromImage(predictor.predict(scan, figures=False).mask) > 0, label))
        dense = _published(network, scan, model.settings.spacing_mm, model.settings.patch_size)
        dice["dense"].append(_dice(dense, label))
    means = {name: statistics.mean(values) for name, values in dice.items()}
    say(f"Dice of {len(cases)} scans: ours {means['ours']:.4f}, with dense windows {means['dense']:.4f}, ")
    say(f"largest difference in a scan {max(abs(a - b) for a, b in zip(*dice.values(), strict=True)):.4f}\n")
    untrained = VNet(_PUBLISHED_FILTERS).eval()
    seconds = interleaved(
        {
            "ours, teacher": lambda: predictor.predict(scan, figures=False),
            "ours, teacher and students": lambda: predictor.predict(scan),
            "published": lambda: _published(untrained, scan, _PUBLISHED_SPACING, _PUBLISHED_WINDOW),
        },
        options.repetitions,
    )
    median = {name: statistics.median(values) for name, values in seconds.items()}
    say(f"a scan of {'x'.join(str(side) for side in scan.GetSize())} voxels:\n")
    for name, value in median.items():
        say(f"{name:28} {value:7.2f} s, {median['published'] / value:6.1f} times the published protocol's rate\n")


def _published(network: nn.Module, scan: sitk.Image, spacing: Sequence[float], window: Sequence[int]) -> np.ndarray:
    """Mask (z, y, x) on the scan's grid: the mean of the windows' softmax above 0.5, largest component."""
    prepared = prepare_scan(scan, spacing, None)
    missing = [max(wanted - side, 0) for side, wanted in zip(prepared.array.shape, window, strict=True)]
    before = [side // 2 for side in missing]
    padding = [(front, side - front) for front, side in zip(before, missing, strict=True)]
    image = torch.from_numpy(np.pad(prepared.array, padding))
    score, count = torch.zeros(image.shape), torch.zeros(image.shape)
    starts = [
        sorted({min(step, side - wanted) for step in range(0, side - wanted + stride, stride)})
        for side, wanted, stride in zip(image.shape, window, _STRIDES, strict=True)
    ]
    with torch.no_grad():
        for start in product(*starts):
            place = tuple(slice(first, first + side) for first, side in zip(start, window, strict=True))
            score[place] += torch.softmax(network(image[place][None, None].contiguous()), dim=1)[0, 1]
            count[place] += 1
    inside = tuple(slice(front, front + side) for front, side in zip(before, prepared.array.shape, strict=True))
    probability = restore_to_scan((score / count)[inside].numpy(), prepared.grid, scan)
    return largest_component(sitk.GetArrayViewFromImage(probability) > 0.5)


def _dice(prediction: np.ndarray, label: np.ndarray) -> float:
    return 2.0 * float((prediction & label).sum()) / float(prediction.sum() + label.sum())


if __name__ == "__main__":
    main()
