"""What the setting `zoom` brings and costs: a trained model shown scans as they are, enlarged and reduced.

    .venv/bin/python benchmarks/zoom.py --run RUN --zooms 1 1.18 1.25 1.33
    .venv/bin/python benchmarks/zoom.py --run RUN --zooms 1 1.25 --first 61 --last 80 --published

Prints the mean Dice of the network that predicts for each factor, its difference to the first factor by case with a
95 % interval, and seconds a scan. By default on la_041-la_060, as `predict` segments (largest component), with
--published by the literature's protocol. The factor is chosen on la_041-la_060, never on la_061-la_080.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean

from LASegColearnLib.checkpoints import Model, load_model
from LASegColearnLib.cohort import Case
from LASegColearnLib.device import Device, device_for_model
from LASegColearnLib.metrics import segmentation_metrics
from LASegColearnLib.paired_comparison import compare_paired
from LASegColearnLib.predictor import Predictor
from LASegColearnLib.preprocessing import to_array
from LASegColearnLib.published_protocol import evaluate_as_published
from LASegColearnLib.scan_files import read_label, read_scan
from left_atrium import case

_ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, default=_ROOT.parent / "shared" / "la")
    parser.add_argument("--run", type=Path, required=True, help="run folder")
    parser.add_argument("--zooms", type=float, nargs="+", default=[1.0, 1.25], help="factors; 1: the scan as it is")
    parser.add_argument("--first", type=int, default=41, help="number of the first scan")
    parser.add_argument("--last", type=int, default=60, help="number of the last scan")
    parser.add_argument("--published", action="store_true", help="by the literature's protocol")
    options = parser.parse_args()
    model = load_model(options.run / "checkpoints" / "last.pt")
    device = device_for_model("cpu", model.settings.precision)
    cases = [case(options.scans, number, True) for number in range(options.first, options.last + 1)]
    reference: list[float] = []
    for zoom in options.zooms:
        started = time.perf_counter()
        own = replace(model, settings=replace(model.settings, zoom=zoom))
        found = _published(own, cases, device) if options.published else _predicted(own, cases, device)
        seconds = (time.perf_counter() - started) / len(cases)
        reference = reference or found
        apart = compare_paired(found, reference)
        interval = "" if apart.low is None else f" ({100 * apart.low:+.2f} to {100 * (apart.high or 0.0):+.2f})"
        better = sum(one > other for one, other in zip(found, reference, strict=True))
        sys.stdout.write(
            f"zoom {zoom:g}: Dice {100 * mean(found):.2f} %, {100 * apart.mean:+.2f}{interval}, better in {better} of "
            f"{len(cases)}, {seconds:.1f} s a scan\n"
        )


def _predicted(model: Model, cases: list[Case], device: Device) -> list[float]:
    predictor = Predictor(model, device=device)
    found = []
    for one in cases:
        scan = read_scan(one.image, one.id)
        assert one.label is not None
        label, _ = read_label(one.label, one.segment, scan, one.id)
        mask = to_array(predictor.predict(scan, figures=False).mask)
        found.append(segmentation_metrics(mask, to_array(label), scan.GetSpacing()).dice)
    return found


def _published(model: Model, cases: list[Case], device: Device) -> list[float]:
    return [row.metrics.dice for row in evaluate_as_published(model, cases, device)]


if __name__ == "__main__":
    main()
