"""The verbs and options of the command `lasegcolearn`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from LASegColearnLib import commands
from LASegColearnLib.methods import method_names
from LASegColearnLib.version import __version__

_DEVICE: dict[str, Any] = {
    "default": "auto",
    "metavar": "NAME",
    "help": "auto, cuda, cuda:N, mps or cpu (default: auto)",
}
_DESCRIPTION = """\
Learns to segment the left atrium from a few labeled and many unlabeled MR scans.

The usual way:
  lasegcolearn demo                                        see it work, without any data
  lasegcolearn cohort --images scans --labels labels --validation 3 --output cohort.json
  lasegcolearn train --cohort cohort.json --run my-run --preset cpu --minutes 60
  lasegcolearn predict --run my-run --output results new-scan.nrrd
  lasegcolearn predict --run my-run --cohort cohort.json --output my-run/predictions
  lasegcolearn evaluate --cohort cohort.json --predictions my-run/predictions --output my-run/metrics.csv
  lasegcolearn report --run my-run
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser with all verbs."""
    parser = argparse.ArgumentParser(
        prog="lasegcolearn", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"lasegcolearn {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB", title="verbs")
    _add_cohort(verbs)
    _add_train(verbs)
    _add_predict(verbs)
    _add_suggest(verbs)
    _add_evaluate(verbs)
    _add_judge(verbs)
    _add_compare(verbs)
    _add_device(verbs)
    _add_report(verbs)
    _add_demo(verbs)
    return parser


def _verb(verbs: Any, name: str, run: Callable[[argparse.Namespace], int], summary: str, text: str) -> Any:
    parser = verbs.add_parser(
        name, help=summary, description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(verb=run)
    return parser


def _add_cohort(verbs: Any) -> None:
    parser = _verb(
        verbs,
        "cohort",
        commands.do_cohort,
        "list which scans are labeled, unlabeled and for validation",
        """\
Writes a cohort file: which scans are labeled, which are not, and which are kept for validation.

From folders:         lasegcolearn cohort --images scans --labels labels --output cohort.json
  One folder a case:  lasegcolearn cohort --images data --image-pattern "*/image.nrrd" \\
                        --label-pattern "{folder}/label.nrrd" --output cohort.json
From an MSD or nnU-Net folder, or a MONAI datalist, as it is (`training` becomes labeled, `test` unlabeled):
                      lasegcolearn cohort --from Task02_Heart --output cohort.json
For other tools:      lasegcolearn cohort --from cohort.json --monai --output datalist.json
""",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, nargs="+", metavar="PATH", help="folders of scans, or scan files")
    source.add_argument(
        "--from", dest="source", type=Path, metavar="PATH", help="MSD or nnU-Net folder, MONAI datalist, or cohort file"
    )
    parser.add_argument(
        "--image-pattern",
        metavar="GLOB",
        help='which files are scans, for example "*/image.nrrd", or with the id in it "{id}_image.nii.gz"',
    )
    parser.add_argument("--labels", type=Path, metavar="FOLDER", help="folder of labels named like their scans")
    parser.add_argument(
        "--label-pattern",
        metavar="PATTERN",
        help='where a scan\'s label is: {id}, {folder}, for example "{id}_la.nrrd"',
    )
    parser.add_argument("--segment", metavar="NAME", help="segment's name, or label value, where a label has several")
    parser.add_argument(
        "--validation", type=int, default=0, metavar="N", help="keep N labeled cases for validation (default: 0)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed that chooses the validation cases (default: 0)"
    )
    parser.add_argument("--monai", action="store_true", help="write a MONAI datalist instead")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="file to write")


def _add_train(verbs: Any) -> None:
    parser = _verb(
        verbs,
        "train",
        commands.do_train,
        "train on a cohort",
        """\
Trains on a cohort and keeps everything in a run folder. All cases are checked before training starts.

  lasegcolearn train --cohort cohort.json --run my-run --preset cpu --minutes 60
  lasegcolearn train --run my-run --resume            continue after a stop or a crash
  lasegcolearn train --cohort c2.json --run round-2 --init my-run/checkpoints/last.pt

Ctrl-C, or a lost connection, saves and stops. Presets: `paper` (the published settings; needs a GPU), `cpu` (1.25 mm;
any computer), `demo` (minutes, for phantoms). Any setting can be changed with --set; `lasegcolearn train --settings`
lists them.
""",
    )
    parser.add_argument("--cohort", type=Path, metavar="FILE", help="cohort file")
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="run folder")
    parser.add_argument("--preset", metavar="NAME", help=f"paper, cpu or demo (default: {commands.PRESET})")
    names = method_names()
    parser.add_argument("--method", metavar="NAME", help=f"{', '.join(names)} (default: {names[0]})")
    parser.add_argument("--device", **_DEVICE)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--iterations", type=int, metavar="N", help="length of the run in iterations")
    length.add_argument("--minutes", type=float, metavar="M", help="length of the whole run; the schedule adapts to it")
    parser.add_argument(
        "--labeled", type=int, metavar="N", help="use the first N labels; other scans count as unlabeled"
    )
    parser.add_argument("--init", type=Path, metavar="CHECKPOINT", help="start from an earlier model's weights")
    parser.add_argument("--resume", action="store_true", help="continue the run in the folder")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="change a setting")
    parser.add_argument(
        "--settings", action="store_true", help="print all settings with the values this training would have, and exit"
    )
    parser.add_argument("--seed", type=int, metavar="S", help="seed of everything random (default: 0)")
    _add_events(parser)


def _add_predict(verbs: Any) -> None:
    parser = _verb(
        verbs,
        "predict",
        commands.do_predict,
        "segment scans",
        """\
Segments scans with a trained model. It writes a folder for each scan with `segmentation.seg.nrrd`, which 3D Slicer
opens as one segment named Left atrium, and `figures.json` (volume, uncertainty, agreement of the networks).

  lasegcolearn predict --run my-run --output results scan-1.nrrd scan-2.nii.gz
  lasegcolearn predict --run my-run --output results --cohort cohort.json      every case of the cohort, by its id
  lasegcolearn predict --run my-run --run other-run --output results scan-1.nrrd   the mean of both models
""",
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument(
        "--run",
        type=Path,
        action="append",
        metavar="FOLDER",
        help="run folder; its last checkpoint is used. Given more than once, the models predict together",
    )
    model.add_argument(
        "--checkpoint",
        type=Path,
        action="append",
        metavar="FILE",
        help="a checkpoint, such as my-run/checkpoints/best.pt (best Dice), or several likewise",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where results are written")
    parser.add_argument(
        "--network",
        metavar="NAME",
        help="network that segments: teacher, student_1, student_2 or mean (of all); default: teacher, or committee "
        "with several runs",
    )
    parser.add_argument("--overlap", type=float, metavar="SHARE", help="overlap of windows (default: the model's)")
    parser.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        help="average over mirrored copies, for models trained with axial_flips (default: the model's setting)",
    )
    parser.add_argument(
        "--zoom",
        type=float,
        metavar="FACTOR",
        help="average over the scan as it is, enlarged and reduced by this factor; 1: neither (default: the model's)",
    )
    parser.add_argument("--nifti", action="store_true", help="write a NIfTI label too")
    parser.add_argument("--volumes", action="store_true", help="write probability, uncertainty and other networks' too")
    present = parser.add_mutually_exclusive_group()
    present.add_argument("--overwrite", action="store_true", help="replace results that are in the folder already")
    present.add_argument("--only-missing", action="store_true", help="continue an interrupted prediction")
    parser.add_argument("--device", **_DEVICE)
    scans = parser.add_mutually_exclusive_group(required=True)
    scans.add_argument("--cohort", type=Path, metavar="FILE", help="segment all cases of a cohort file")
    scans.add_argument("scans", type=Path, nargs="*", default=[], metavar="SCAN", help="scan files")
    _add_events(parser)


def _add_suggest(verbs: Any) -> None:
    parser = _verb(
        verbs,
        "suggest",
        commands.do_suggest,
        "suggest which unlabeled case to annotate next",
        """\
Orders a cohort's unlabeled cases by the expected gain of a label, with the reason: the scan represents many that no
labeled scan resembles, the model is uncertain near the surface, or its students disagree. It prints rank, case,
expected gain (0 to 1) and reason.

  lasegcolearn suggest --run my-run --cohort cohort.json
""",
    )
    parser.add_argument("--run", type=Path, required=True, metavar="FOLDER", help="run folder with the model")
    parser.add_argument("--cohort", type=Path, required=True, metavar="FILE", help="cohort file")
    parser.add_argument("--count", type=int, default=10, metavar="N", help="how many to print (default: 10; 0: all)")
    parser.add_argument("--device", **_DEVICE)
    _add_events(parser)


def _add_evaluate(verbs: Any) -> None:
    parser = _verb(
        verbs,
        "evaluate",
        commands.do_evaluate,
        "compare predictions with labels",
        """\
Compares predictions with the cohort's labels: Dice, Jaccard, 95HD, ASD (medpy's definitions) and volumes.

  lasegcolearn evaluate --cohort cohort.json --predictions results --output metrics.csv
""",
    )
    parser.add_argument("--cohort", type=Path, required=True, metavar="FILE", help="cohort file")
    parser.add_argument(
        "--predictions", type=Path, required=True, metavar="FOLDER", help="output folder of predict, or ID.nii.gz files"
    )
    parser.add_argument("--split", choices=("validation", "labeled"), default="validation", help="default: validation")
    parser.add_argument("--unit", choices=("mm", "voxel"), default="mm", help="unit of distances (default: mm)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="CSV file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it is there already")
    _add_events(parser)


def _add_judge(verbs: Any) -> None:
    parser = _verb(
        verbs,
        "judge",
        commands.do_judge,
        "compare a model with an earlier one",
        """\
Predicts the validation cases, which were never trained on, with a run's model and with an earlier run's. It reports
which one is better: the mean difference in Dice with a 95 % confidence interval. Its predictions and metrics go into a
folder called judged in each run.

  lasegcolearn judge --run round-2 --against round-1
""",
    )
    parser.add_argument("--run", type=Path, required=True, metavar="FOLDER", help="run folder of the model")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="run of the earlier model (default: none)")
    parser.add_argument("--cohort", type=Path, metavar="FILE", help="cohort file (default: the run's own)")
    parser.add_argument("--device", **_DEVICE)
    _add_events(parser)


def _add_compare(verbs: Any) -> None:
    parser = _verb(
        verbs,
        "compare",
        commands.do_compare,
        "train several methods in the same way and compare them",
        """\
Trains each method for the same time on the same scans, evaluates its last checkpoint on the validation cases, and
writes one page with tables, paired differences, curves, speed, memory and pictures. Run it again to continue after an
interruption.

  lasegcolearn compare --cohort cohort.json --methods colearning,supervised --labeled 4,8 --minutes 20 --output compared
""",
    )
    parser.add_argument("--cohort", type=Path, required=True, metavar="FILE", help="cohort file with validation cases")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder for the runs and the page")
    parser.add_argument(
        "--methods",
        default="all",
        metavar="A,B",
        help="methods to train; the first is compared with each of the others (default: all)",
    )
    parser.add_argument("--labeled", metavar="N,M", help="numbers of labels (default: all)")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--iterations", type=int, metavar="N", help="length of each training in iterations")
    length.add_argument("--minutes", type=float, metavar="M", help="length of each training in minutes")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="trainings of each method (default: 1)")
    parser.add_argument("--preset", default="cpu", metavar="NAME", help="paper, cpu or demo (default: cpu)")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="change a setting")
    parser.add_argument("--device", **_DEVICE)
    _add_events(parser)


def _add_device(verbs: Any) -> None:
    parser = _verb(
        verbs,
        "device",
        commands.do_device,
        "show which device would be used",
        "Imports PyTorch and shows which device a training would use, and why.",
    )
    parser.add_argument("--device", **_DEVICE)
    _add_events(parser)


def _add_report(verbs: Any) -> None:
    parser = _verb(
        verbs,
        "report",
        commands.do_report,
        "write a run's report",
        """\
Writes report.html, a single file, into a run folder: what was trained and the curves. It also shows the tables of
metrics.csv and overlays of the predictions, if these commands were run before:

  lasegcolearn predict --run my-run --cohort my-run/cohort.json --output my-run/predictions
  lasegcolearn evaluate --cohort my-run/cohort.json --predictions my-run/predictions --output my-run/metrics.csv
""",
    )
    parser.add_argument("--run", type=Path, required=True, metavar="FOLDER", help="run folder")
    parser.add_argument("--compare-with", type=Path, metavar="FOLDER", help="another run to show beside it")


def _add_demo(verbs: Any) -> None:
    parser = _verb(
        verbs,
        "demo",
        commands.do_demo,
        "see it work on synthetic scans",
        "Makes synthetic scans, trains on 2 labeled and 14 unlabeled ones for some minutes, predicts unseen ones and\n"
        "writes a report. For comparison, the same time is spent on supervised training alone.",
    )
    parser.add_argument("--output", type=Path, default=Path("demo-run"), metavar="FOLDER", help="default: demo-run")
    parser.add_argument("--minutes", type=float, metavar="M", help="training time of each of the two runs")
    parser.add_argument("--seed", type=int, default=0, help="seed of scans and training (default: 0)")
    parser.add_argument("--device", **_DEVICE)
    _add_events(parser)


def _add_events(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--events", action="store_true", help="print events as JSON lines for a program, instead of a progress bar"
    )
    parser.add_argument(
        "--parent", type=int, metavar="PID", help="with --events: stop when this process ends (default: the caller)"
    )
