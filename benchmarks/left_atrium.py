"""Train on real left-atrium scans and report on scans that were not trained on.

    .venv/bin/python benchmarks/left_atrium.py --labeled 8 4 --methods colearning supervised --minutes 60
    .venv/bin/python benchmarks/left_atrium.py --labeled 8 4 --methods all --minutes 20 --threads 1

Each method and number of labels is trained on the first N labeled scans and la_(N+1)-la_060 without their labels, by
`lasegcolearn compare`, which goes on where it was interrupted and writes a page. Reported is the last checkpoint, on
la_061-la_080, in voxels as the literature does; nothing is selected on those scans. The tables have the published
figures (published_figures.csv, with their sources) beside ours, and --csv keeps ours case by case.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from pathlib import Path

from LASegColearnLib.allocation import keep_freed_memory
from LASegColearnLib.cohort import Case, Cohort, load_cohort, save_cohort
from LASegColearnLib.comparison import Plan, Trained, compare, read_trained
from LASegColearnLib.comparison_page import cost_rows, difference_rows, table_rows
from LASegColearnLib.curves import dice_curves
from LASegColearnLib.errors import UserError
from LASegColearnLib.events import read_events
from LASegColearnLib.methods import method_names
from LASegColearnLib.network_comparison import compare_networks
from LASegColearnLib.page import MEASURES
from LASegColearnLib.terminal import TerminalProgress

_LAST_TRAINED, _LAST_REPORTED = 60, 80
_PUBLISHED = Path(__file__).with_name("published_figures.csv")


def main() -> None:
    options = _options()
    keep_freed_memory()
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    cohort = options.output / "cohort.json"
    save_cohort(left_atrium_cohort(options.scans, max(options.labeled)), cohort)
    methods = tuple(method_names() if options.methods == ["all"] else options.methods)
    plan = Plan(
        methods=methods,
        labeled=tuple(options.labeled),
        seeds=tuple(options.seeds),
        minutes=options.minutes,
        preset=options.preset,
        changes=tuple(options.set),
    )
    try:
        page = compare(cohort, options.output, plan, device=options.device, listeners=[TerminalProgress()])
    except UserError:
        # Told by the listener.
        sys.exit(2)
    trained = read_trained(options.output, plan)
    for labeled in plan.labeled:
        sys.stdout.write(_table([one for one in trained if one.labeled == labeled], methods, labeled))
    if options.csv:
        _write_cases(options.csv, trained)
    if options.curves:
        _draw_curves(options.curves, trained)
    if options.networks:
        for one in trained:
            table = compare_networks(one.run, load_cohort(one.run.cohort), device=options.device, unit="voxel")
            sys.stdout.write(f"\n{one.run.path.name}, all networks, largest component\n{table}\n")
    sys.stdout.write(f"\n{page}\n")


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
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--networks", action="store_true", help="a table of each run's students and teacher as well")
    parser.add_argument("--csv", type=Path, help="file for the figures of each case, by both protocols")
    parser.add_argument("--curves", type=Path, help="PNG of the predicting network's Dice over the minutes, by run")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


def _table(trained: list[Trained], methods: tuple[str, ...], labeled: int) -> str:
    """A Markdown table of the published protocol's figures, mean and standard deviation over cases and seeds.

    The difference is the first method's Dice minus the row's, case by case, with its 95 % interval.
    """
    titles = [title for title, _ in MEASURES.values()]
    header = ["method", "iterations", *titles, f"Dice of {methods[0]} minus it", "peak GB", "published"]
    lines = [f"\n{labeled} labels, la_061-la_080, distances in voxels\n", _line(header), "|---" * len(header) + "|"]
    differences = {row["method"]: f"{row['mean']} ({row['interval']})" for row in difference_rows(trained, methods)}
    costs = {row["method"]: row for row in cost_rows(trained, methods)}
    published = _published(labeled)
    for row in table_rows(trained, methods, "published"):
        name = row["method"]
        cost = costs[name]
        more = [differences.get(name, ""), cost["memory"], published.get(name, "")]
        lines.append(_line([name, cost["iterations"], *row["cells"], *more]))
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _published(labeled: int) -> dict[str, str]:
    """By method: Dice / Jaccard / 95HD / ASD as published for so many labels."""
    with _PUBLISHED.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["labels"] == str(labeled)]
    return {row["method"]: " / ".join(row[name] for name in MEASURES) for row in rows}


def _write_cases(path: Path, trained: list[Trained]) -> None:
    """A row for each training, protocol and case: distances in voxels as published, in mm as `predict` does."""
    measures = {"dice": 4, "jaccard": 4, "hd95": 3, "asd": 3}
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["method", "labels", "seed", "iterations", "protocol", "case", "network", *measures])
        for one in trained:
            for protocol, cases in (("published", one.published), ("own", one.own)):
                for row in cases:
                    figures = [f"{getattr(row.metrics, name):.{digits}f}" for name, digits in measures.items()]
                    own = [one.method, one.labeled, one.seed, one.iterations, protocol, row.case, row.network]
                    rows.writerow([*own, *figures])


def _draw_curves(path: Path, trained: list[Trained]) -> None:
    """On the scans that are looked at in the course of the training: seen, and not selected on."""
    runs = {}
    for one in trained:
        network = one.published[0].network
        events = [event for event in read_events(one.run.events) if event["event"] == "validated"]
        title = f"{one.method}, {one.labeled} labels, seed {one.seed}"
        runs[title] = [{**event, "dice": {network: event["dice"].get(network)}} for event in events]
    drawn = dice_curves(runs)
    if drawn is not None:
        path.write_bytes(drawn)


def case(scans: Path, number: int, with_label: bool) -> Case:
    """One scan of the folder, with its label only if that may be read."""
    folder = scans / f"la_{number:03d}"
    return Case(folder.name, folder / "image.nrrd", folder / "label.nrrd" if with_label else None)


def left_atrium_cohort(scans: Path, labeled: int) -> Cohort:
    """The published split's first labels; the labels of the other training scans are not even named."""
    return Cohort(
        labeled=tuple(case(scans, n, True) for n in range(1, labeled + 1)),
        unlabeled=tuple(case(scans, n, False) for n in range(labeled + 1, _LAST_TRAINED + 1)),
        validation=tuple(case(scans, n, True) for n in range(_LAST_TRAINED + 1, _LAST_REPORTED + 1)),
    )


if __name__ == "__main__":
    main()
