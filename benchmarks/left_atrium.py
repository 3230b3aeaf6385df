"""Train on real left-atrium scans and report on scans that were not trained on.

    .venv/bin/python benchmarks/left_atrium.py --labeled 8 4 --methods colearning supervised --minutes 60

For each method and number of labels a run is trained in ``--output`` (resumed where it was interrupted, left alone
where it is complete) on the first N labeled scans and la_(N+1)-la_060 without their labels. Reported is the last
checkpoint, on la_061-la_080, in voxels as the literature does; nothing is selected on those scans.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from LASegColearnLib.allocation import keep_freed_memory
from LASegColearnLib.cohort import Case, Cohort, load_cohort, save_cohort
from LASegColearnLib.methods import method_names
from LASegColearnLib.network_comparison import compare_networks
from LASegColearnLib.run_folder import RunFolder
from LASegColearnLib.settings import preset
from LASegColearnLib.terminal import TerminalProgress
from LASegColearnLib.training import resume, train

_LAST_TRAINED, _LAST_REPORTED = 60, 80


def main() -> None:
    options = _options()
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    methods = method_names() if options.methods == ["all"] else options.methods
    for labeled in options.labeled:
        for method in methods:
            run = options.output / f"{method}-{labeled}-seed{options.seed}"
            _train(run, method, labeled, options)
            table = compare_networks(
                RunFolder(run), load_cohort(RunFolder(run).cohort), device=options.device, unit="voxel"
            )
            sys.stdout.write(f"\n{method}, {labeled} labels, la_061-la_080, distances in voxels\n{table}\n")


def _options() -> argparse.Namespace:
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--scans", type=Path, default=root.parent / "shared" / "la", help="folder with la_001 ... la_080"
    )
    parser.add_argument("--output", type=Path, default=root / "runs" / "left_atrium")
    parser.add_argument("--labeled", type=int, nargs="+", default=[8, 4])
    parser.add_argument("--methods", nargs="+", default=["colearning", "supervised"], help="names, or all")
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=0, help="processor threads; 0: all")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


def _train(run: Path, method: str, labeled: int, options: argparse.Namespace) -> None:
    folder = RunFolder(run)
    progress = TerminalProgress()
    if folder.last_checkpoint.exists():
        if not _is_complete(folder):
            resume(run, device=options.device, listeners=[progress])
        return
    cohort = options.output / f"cohort-{labeled}.json"
    save_cohort(_cohort(options.scans, labeled), cohort)
    settings = replace(preset(options.preset), method=method, minutes=options.minutes, seed=options.seed).with_text(
        options.set
    )
    train(cohort, run, settings, device=options.device, listeners=[progress])


def case(scans: Path, number: int, with_label: bool) -> Case:
    """One scan of the folder, with its label only if that may be read."""
    folder = scans / f"la_{number:03d}"
    return Case(folder.name, folder / "image.nrrd", folder / "label.nrrd" if with_label else None)


def _cohort(scans: Path, labeled: int) -> Cohort:
    """The published split's first labels; the labels of the other training scans are not even named."""
    return Cohort(
        labeled=tuple(case(scans, n, True) for n in range(1, labeled + 1)),
        unlabeled=tuple(case(scans, n, False) for n in range(labeled + 1, _LAST_TRAINED + 1)),
        validation=tuple(case(scans, n, True) for n in range(_LAST_TRAINED + 1, _LAST_REPORTED + 1)),
    )


def _is_complete(folder: RunFolder) -> bool:
    lines = folder.events.read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines if line.endswith("}")]
    return any(event["event"] == "finished" and event["complete"] for event in events)


if __name__ == "__main__":
    main()
