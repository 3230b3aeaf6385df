"""Train models of several seeds at once, a share of the processor each, and report what they predict together.

    .venv/bin/python benchmarks/two_at_once.py --labeled 4 --seeds 0 1 --minutes 50

Two trainings side by side make more iterations than one with all of the processor, and two models that were trained
apart have different errors. Scans, roles and protocols are those of left_atrium.py: trained on the first labeled scans
and la_(N+1)-la_060 without their labels, reported on la_061-la_080. A run that reached its end is not
made again, one that was broken off is gone on with.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from LASegColearnLib.allocation import keep_freed_memory
from LASegColearnLib.checkpoints import Model, load_model
from LASegColearnLib.cohort import Cohort, save_cohort
from LASegColearnLib.committee import combined_model
from LASegColearnLib.device import device_for_model
from LASegColearnLib.evaluation import EvaluatedCase
from LASegColearnLib.events import read_events
from LASegColearnLib.published_protocol import evaluate_as_published
from LASegColearnLib.run_folder import RunFolder
from left_atrium import left_atrium_cohort

_MEASURES = {"dice": 100.0, "jaccard": 100.0, "hd95": 1.0, "asd": 1.0}


def main() -> None:
    options = _options()
    keep_freed_memory()
    options.output.mkdir(parents=True, exist_ok=True)
    cohort = left_atrium_cohort(options.scans, options.labeled)
    runs = {seed: RunFolder(options.output / f"colearning-{options.labeled}-seed{seed}") for seed in options.seeds}
    _train(cohort, runs, options)
    models = {str(seed): load_model(run.last_checkpoint) for seed, run in runs.items()}
    models["+".join(models)] = combined_model(list(models.values()))
    rows = {name: _evaluated(model, cohort, options.device) for name, model in models.items()}
    sys.stdout.write("seed | iterations | Dice % | Jaccard % | 95HD | ASD, voxels, published protocol\n")
    for name, found in rows.items():
        cells = []
        for measure, factor in _MEASURES.items():
            values = np.array([factor * getattr(row.metrics, measure) for row in found])
            # Where a network finds nothing there is no distance.
            with np.errstate(invalid="ignore"):
                cells.append(f"{values.mean():.2f} ± {values.std(ddof=1):.2f}")
        sys.stdout.write(f"{name} | {models[name].iteration} | {' | '.join(cells)}\n")
    if options.csv:
        _write(options.csv, options.labeled, rows)


def _options() -> argparse.Namespace:
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, default=root.parent / "shared" / "la")
    parser.add_argument("--output", type=Path, default=root / "runs" / "two_at_once")
    parser.add_argument("--labeled", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--minutes", type=float, default=50.0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--csv", type=Path, help="file for the figures of each case")
    return parser.parse_args()


def _train(cohort: Cohort, runs: dict[int, RunFolder], options: argparse.Namespace) -> None:
    """Train those that have not reached their end, all at once."""
    file = options.output / f"cohort-{options.labeled}.json"
    # Nothing is looked at on the way: validation takes time, and these are the scans that are reported on.
    save_cohort(Cohort(cohort.labeled, cohort.unlabeled, ()), file)
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // len(runs)))}
    started = []
    for seed, run in runs.items():
        if _is_complete(run):
            continue
        command = [sys.executable, "-m", "LASegColearnLib", "train", "--run", str(run.path), "--device", options.device]
        if run.last_checkpoint.exists():
            command += ["--resume"]
        else:
            command += ["--cohort", str(file), "--preset", options.preset, "--minutes", str(options.minutes)]
            command += ["--seed", str(seed), "--set", "holdout=0", "committee=1"]
        started.append(subprocess.Popen(command, env=environment))
    ends = [process.wait() for process in started]
    if any(ends):
        raise SystemExit("A training has failed; its log is in its folder.")


def _is_complete(run: RunFolder) -> bool:
    ends = [event for event in read_events(run.events) if event["event"] == "finished"] if run.events.exists() else []
    return bool(ends) and bool(ends[-1]["complete"])


def _evaluated(model: Model, cohort: Cohort, device: str) -> list[EvaluatedCase]:
    return evaluate_as_published(model, cohort.validation, device_for_model(device, model.settings.precision))


def _write(path: Path, labels: int, rows: dict[str, list[EvaluatedCase]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["labels", "seeds", "case", *_MEASURES])
        for name, found in rows.items():
            for row in found:
                figures = [f"{getattr(row.metrics, measure):.4f}" for measure in _MEASURES]
                table.writerow([labels, name, row.case, *figures])


if __name__ == "__main__":
    main()
