"""The command `lasegcolearn`: parsing, progress in a terminal or as events, errors as sentences.

Nothing heavy is imported here, so that `--help` answers at once; each verb imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from LASegColearnLib.errors import (
    InputError,
    Problem,
    TrainingError,
    UserError,
    for_terminal,
    is_the_systems_refusal,
    sentence_for,
)
from LASegColearnLib.methods import method_names
from LASegColearnLib.quoting import unquoted
from LASegColearnLib.version import __version__

if TYPE_CHECKING:
    from LASegColearnLib.settings import Settings
    from LASegColearnLib.stopping import StopRequest

_PRESET = "cpu"
_DEVICE: dict[str, Any] = {
    "default": "auto",
    "metavar": "NAME",
    "help": "auto, cuda, cuda:N, mps or cpu (default: auto)",
}
# What the system says of a file, before it names it.
_SYSTEM_ERROR = re.compile(r"(\[(?:Errno|WinError) -?\d+\][^:\n]*):.*")
# The beginning of a whole path, as PyTorch puts it into its sentences.
_PATH = re.compile(r"(?:^|[\s'\"(=])(?:/|\\\\|[A-Za-z]:[\\/])\S")
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 stopped or failed, 2 wrong input."""
    _use_utf8()
    parser = build_parser()
    given = unquoted(sys.argv[1:] if arguments is None else arguments)
    # torchrun wants "--" before options that it could take for its own; Python's versions differ in who removes it.
    options = parser.parse_args(given[1:] if given[:1] == ["--"] else given)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_TerminalFormatter("%(levelname)s: %(message)s"))
    # Libraries' own remarks are not for the person, as PyTorch's are when Ctrl-C breaks off its loading.
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("LASegColearnLib").setLevel(logging.INFO)
    if getattr(options, "events", False):
        _close_standard_input()
    code = _carried_out(options)
    if code and "WORLD_SIZE" in os.environ:
        from LASegColearnLib.processes import end_where_it_failed

        end_where_it_failed(code)
    return code


def _carried_out(options: argparse.Namespace) -> int:
    """The exit code of the verb that was given; what goes wrong is told."""
    try:
        code = int(options.verb(options))
        # Here, where it can be said what goes wrong, and not at the interpreter's end.
        sys.stdout.flush()
        return code
    except UserError as error:
        _tell_failure(options, error)
        return 1 if isinstance(error, TrainingError) else 2
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        return 1
    except SystemExit as ended:
        # Of a process whose first one has said why.
        return ended.code if isinstance(ended.code, int) else 1
    except BrokenPipeError:
        # Who reads has heard enough, as `head` does. What the interpreter would write at its end goes nowhere.
        from LASegColearnLib.stopping import write_nowhere

        write_nowhere((1,))
        return 1
    except Exception as error:  # noqa: BLE001 - a person gets a sentence, the log gets the rest
        return _tell_unexpected(options, error)


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
        _cohort,
        "say which scans are labeled, unlabeled and for validation",
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
    parser.add_argument("--image-pattern", metavar="GLOB", help='which files are scans, for example "*/image.nrrd"')
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
    parser.add_argument("--seed", type=int, default=0, help="which cases that are (default: 0)")
    parser.add_argument("--monai", action="store_true", help="write a MONAI datalist instead")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="file to write")


def _add_train(verbs: Any) -> None:
    parser = _verb(
        verbs,
        "train",
        _train,
        "train on a cohort",
        """\
Trains on a cohort and keeps everything in a run folder. All cases are checked before training starts.

  lasegcolearn train --cohort cohort.json --run my-run --preset cpu --minutes 60
  lasegcolearn train --run my-run --resume            go on after a stop or a crash
  lasegcolearn train --cohort c2.json --run round-2 --init my-run/checkpoints/last.pt

Ctrl-C, or a lost connection, saves and stops. Presets: `paper` (the published settings; wants a GPU), `cpu` (1.25 mm;
any computer), `demo` (minutes, for phantoms). Any setting can be changed with --set; they are listed by
`lasegcolearn train --settings`.
""",
    )
    parser.add_argument("--cohort", type=Path, metavar="FILE", help="cohort file")
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="run folder")
    parser.add_argument("--preset", metavar="NAME", help=f"paper, cpu or demo (default: {_PRESET})")
    names = method_names()
    parser.add_argument("--method", metavar="NAME", help=f"{', '.join(names)} (default: {names[0]})")
    parser.add_argument("--device", **_DEVICE)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--iterations", type=int, metavar="N", help="length of the run in iterations")
    length.add_argument("--minutes", type=float, metavar="M", help="length of the whole run; the schedule fits it")
    parser.add_argument(
        "--labeled", type=int, metavar="N", help="use the first N labels; other scans count as unlabeled"
    )
    parser.add_argument("--init", type=Path, metavar="CHECKPOINT", help="start from an earlier model's weights")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="change a setting")
    parser.add_argument("--settings", action="store_true", help="print all settings, as they would be, and end")
    parser.add_argument("--seed", type=int, metavar="S", help="seed of everything random (default: 0)")
    _add_events(parser)


def _add_predict(verbs: Any) -> None:
    parser = _verb(
        verbs,
        "predict",
        _predict,
        "segment scans",
        """\
Segments scans with a trained model. For each scan a folder is written with `segmentation.seg.nrrd`, which 3D Slicer
opens as one segment named Left atrium, and `figures.json` (volume, uncertainty, agreement of the networks).

  lasegcolearn predict --run my-run --output results scan-1.nrrd scan-2.nii.gz
  lasegcolearn predict --run my-run --output results --cohort cohort.json      every case of it, under its id
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
        help="default: teacher, of several runs committee; or student_1, student_2, or mean: the average of all",
    )
    parser.add_argument("--overlap", type=float, metavar="SHARE", help="overlap of windows (default: the model's)")
    parser.add_argument(
        "--mirror",
        action=argparse.BooleanOptionalAction,
        help="average over mirrored copies, for models trained on such (default: the model's)",
    )
    parser.add_argument("--nifti", action="store_true", help="write a NIfTI label too")
    parser.add_argument("--volumes", action="store_true", help="write probability, uncertainty and other networks' too")
    present = parser.add_mutually_exclusive_group()
    present.add_argument("--overwrite", action="store_true", help="replace results that are in the folder already")
    present.add_argument("--only-missing", action="store_true", help="go on where a prediction was broken off")
    parser.add_argument("--device", **_DEVICE)
    scans = parser.add_mutually_exclusive_group(required=True)
    scans.add_argument("--cohort", type=Path, metavar="FILE", help="segment all cases of a cohort file")
    scans.add_argument("scans", type=Path, nargs="*", default=[], metavar="SCAN", help="scan files")
    _add_events(parser)


def _add_suggest(verbs: Any) -> None:
    parser = _verb(
        verbs,
        "suggest",
        _suggest,
        "say which unlabeled case to annotate next",
        """\
Orders a cohort's unlabeled cases by what a label for them is expected to bring, and says why: the scan stands for many
that no labeled one is like, the model is uncertain near the surface, or its students disagree. Printed are place, case,
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
        _evaluate,
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
        _judge,
        "say whether a model is better than an earlier one",
        """\
Predicts the validation cases, which were never trained on, with a run's model and with an earlier run's, and says
which is better: the difference in Dice case by case, with a 95 % confidence interval. What it predicts and measures
goes into a folder judged of each run.

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
        _compare,
        "train several methods alike and set them side by side",
        """\
Trains each method for the same time on the same scans, evaluates its last checkpoint on the validation cases, and
writes one page with tables, paired differences, curves, speed, memory and pictures. Broken off, it goes on.

  lasegcolearn compare --cohort cohort.json --methods colearning,supervised --labeled 4,8 --minutes 20 --output compared
""",
    )
    parser.add_argument("--cohort", type=Path, required=True, metavar="FILE", help="cohort file with validation cases")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder for the runs and the page")
    parser.add_argument("--methods", default="all", metavar="A,B", help="the first is set against each (default: all)")
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
        _device,
        "say what would be computed on",
        "Imports PyTorch and says which device a training would use, and why.",
    )
    parser.add_argument("--device", **_DEVICE)
    _add_events(parser)


def _add_report(verbs: Any) -> None:
    parser = _verb(
        verbs,
        "report",
        _report,
        "draw a run's report",
        """\
Writes report.html into a run folder, all in one file: what was trained, and its curves; and where they are there, the
tables of its metrics.csv and overlays of its predictions, which these write:

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
        _demo,
        "see it work on synthetic scans",
        "Makes synthetic scans, trains on 4 labeled and 12 unlabeled ones for some minutes, predicts unseen ones, and\n"
        "draws a report; the same time is spent on supervised training alone, for comparison.",
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
        "--parent", type=int, metavar="PID", help="with --events: end when this process has died (default: the caller)"
    )


def _refuse_to_replace(file: Path, remedy: str) -> None:
    if file.exists():
        raise InputError(Problem(file.name, "There is a file of this name already.", remedy))


def _refuse(given: dict[str, object], cause: str, remedy: str) -> None:
    """Raise :class:`InputError` naming those of the options that were given, where they would do nothing."""
    problems = [Problem(name, cause, remedy) for name, value in given.items() if value is not None]
    if problems:
        raise InputError(problems)


def _refuse_in_set(options: argparse.Namespace, own_option: dict[str, str]) -> None:
    """Raise :class:`InputError` for what ``--set`` would not change, since an option of its own does, by its name."""
    problems = [
        Problem("--set", f"{name} is not set by this here.", f"Use {own_option[name]}.")
        for name in _names_set(options)
        if name in own_option
    ]
    if problems:
        raise InputError(problems)


def _names_set(options: argparse.Namespace) -> list[str]:
    return list(dict.fromkeys(assignment.partition("=")[0].strip() for assignment in options.set))


def _cohort(options: argparse.Namespace) -> int:
    from LASegColearnLib.cohort import save_cohort, save_monai_datalist
    from LASegColearnLib.cohort_import import cohort_from_folders, import_cohort, is_named_like_a_label

    _refuse_to_replace(options.output, "Give another --output.")
    if options.source is not None:
        _refuse(
            {
                "--labels": options.labels,
                "--label-pattern": options.label_pattern,
                "--image-pattern": options.image_pattern,
            },
            "What is read with --from says itself where its scans and labels are.",
            "Leave it out, or name the scans with --images instead of --from.",
        )
        cohort = import_cohort(
            options.source, segment=options.segment, validation=options.validation, seed=options.seed
        )
    else:
        cohort = cohort_from_folders(
            options.images,
            labels=options.labels,
            image_pattern=options.image_pattern,
            label_pattern=options.label_pattern,
            segment=options.segment,
            validation=options.validation,
            seed=options.seed,
        )
    (save_monai_datalist if options.monai else save_cohort)(cohort, options.output)
    sys.stdout.write(
        f"{len(cohort.labeled)} labeled, {len(cohort.unlabeled)} unlabeled, {len(cohort.validation)} for validation.\n"
    )
    doubtful = [case.id for case in cohort.unlabeled if is_named_like_a_label(case.image)]
    if doubtful and options.source is None:
        sys.stdout.write(
            f"Taken for scans, though named like labels: {', '.join(doubtful[:4])}"
            f"{f' and {len(doubtful) - 4} more' if len(doubtful) > 4 else ''}. "
            "If they are labels, name them with --labels or --label-pattern.\n"
        )
    return 0


def _train(options: argparse.Namespace) -> int:
    _refuse_in_set(options, {"preset": "--preset"})
    if options.settings:
        _refuse(
            {"--resume": options.resume or None},
            "The settings of a run are in its settings.json.",
            "Leave it out, to see those of a new run.",
        )
        from LASegColearnLib.settings import setting_text

        for name, value in _settings(options).to_dict().items():
            sys.stdout.write(f"{name}={setting_text(value)}\n")
        return 0
    if options.run is None:
        raise InputError(Problem("--run", "Wanted a run folder, found none.", "Give the folder for the run."))

    from LASegColearnLib.run_folder import RunFolder

    folder = RunFolder(options.run)
    # What follows takes seconds, in which this training may be asked to stop. Who starts one as a process has removed
    # such a request before, and one that lies here by now is meant for this training.
    if options.parent is None:
        folder.remove_late_stop()

    from LASegColearnLib.allocation import keep_freed_memory
    from LASegColearnLib.training import resume, train

    keep_freed_memory()
    stop = _stop_request(options, folder.stop_file)
    listener = _listener(options, when_lost=stop.ask)
    with stop.on_signals():
        if options.resume:
            _refuse(
                {"--cohort": options.cohort, "--labeled": options.labeled, "--init": options.init},
                "A run that is resumed goes on with its own cases and networks.",
                "Leave it out, or start a new run, with --init to go on from this one's model.",
            )
            given = {"preset": options.preset, "method": options.method, "seed": options.seed}
            changes = [f"{name}={value}" for name, value in given.items() if value is not None]
            result = resume(
                options.run,
                device=options.device,
                minutes=options.minutes,
                iterations=options.iterations,
                changes=[*changes, *options.set],
                listeners=[listener],
                should_stop=stop,
            )
        else:
            result = train(
                options.cohort,
                options.run,
                _settings(options),
                device=options.device,
                labeled=options.labeled,
                init=options.init,
                listeners=[listener],
                should_stop=stop,
            )
    return 0 if result.finished else 1


def _settings(options: argparse.Namespace) -> Settings:
    """Of a training that begins: the preset's, with what was given."""
    from LASegColearnLib.settings import preset

    settings = preset(options.preset or _PRESET).with_text(options.set)
    given = {"method": options.method, "seed": options.seed, "minutes": options.minutes}
    set_to = _names_set(options)
    if options.iterations is not None:
        given["iterations"] = options.iterations
    if options.iterations is not None or ("iterations" in set_to and "minutes" not in set_to):
        # The preset's minutes would go before them.
        settings = replace(settings, minutes=None)
    return replace(settings, **{name: value for name, value in given.items() if value is not None}).checked()


def _predict(options: argparse.Namespace) -> int:
    from LASegColearnLib.allocation import keep_freed_memory
    from LASegColearnLib.prediction import predict
    from LASegColearnLib.run_folder import RunFolder

    keep_freed_memory()
    predict(
        options.checkpoint or [RunFolder(run).last_checkpoint for run in options.run],
        options.scans if options.cohort is None else _scans_of(options.cohort),
        options.output,
        network=options.network,
        overlap=options.overlap,
        mirror=options.mirror,
        nifti=options.nifti,
        volumes=options.volumes,
        overwrite=options.overwrite,
        only_missing=options.only_missing,
        device=options.device,
        listeners=[_listener(options)],
    )
    return 0


def _suggest(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from LASegColearnLib.allocation import keep_freed_memory
    from LASegColearnLib.annotation_order import suggest_cases
    from LASegColearnLib.checkpoints import load_model
    from LASegColearnLib.cohort import load_cohort
    from LASegColearnLib.device import device_for_model
    from LASegColearnLib.events import EventLog
    from LASegColearnLib.predictor import Predictor
    from LASegColearnLib.run_folder import RunFolder

    if options.count < 0:
        raise InputError(Problem("--count", f"Wanted 0 or more, found {options.count}.", "Give such a number."))
    keep_freed_memory()
    events = EventLog(None, _listener(options))
    model = load_model(RunFolder(options.run).last_checkpoint)
    with events.telling_failure():
        suggestions = suggest_cases(
            Predictor(model, device=device_for_model(options.device, model.settings.precision)),
            load_cohort(options.cohort),
            lambda done, of: events.emit("predicting", done=done, of=of),
        )
    for place, suggestion in enumerate(suggestions[: options.count or None], start=1):
        if options.events:
            events.emit("suggested", place=place, **asdict(suggestion))
        else:
            sys.stdout.write(f"{place:3}  {suggestion.case:20} {suggestion.gain:.2f}  {suggestion.reason}\n")
    return 0


def _scans_of(cohort: Path) -> list[tuple[str, Path]]:
    from LASegColearnLib.cohort import load_cohort

    return [(case.id, case.image) for case in load_cohort(cohort).cases]


def _evaluate(options: argparse.Namespace) -> int:
    from LASegColearnLib.cohort import load_cohort
    from LASegColearnLib.evaluation import evaluate, format_table, write_metrics_csv
    from LASegColearnLib.events import EventLog

    if options.output.is_dir():
        raise InputError(Problem(options.output.name, "It is a folder.", "Give --output the name of a file in it."))
    if not options.overwrite:
        _refuse_to_replace(options.output, "Give another --output, or add --overwrite.")
    rows = evaluate(load_cohort(options.cohort), options.predictions, split=options.split, unit=options.unit)
    if options.events:
        events = EventLog(None, _listener(options))
        for row in rows:
            metrics = row.metrics
            events.emit(
                "evaluated", case=row.case, unit=row.unit, dice=metrics.dice, hd95=metrics.hd95, asd=metrics.asd
            )
    else:
        sys.stdout.write(format_table(rows) + "\n")
    # Last: a table that is open in Excel cannot be replaced on Windows, but its figures are told.
    write_metrics_csv(rows, options.output)
    return 0


def _judge(options: argparse.Namespace) -> int:
    from LASegColearnLib.allocation import keep_freed_memory
    from LASegColearnLib.evaluation import format_table
    from LASegColearnLib.judging import judge
    from LASegColearnLib.paired_comparison import sentence

    keep_freed_memory()
    found = judge(
        options.run,
        against=options.against,
        cohort=options.cohort,
        device=options.device,
        listeners=[_listener(options)],
    )
    if options.events:
        return 0
    rows = [replace(row, network="this model") for row in found.rows]
    rows += [replace(row, network="earlier") for row in found.earlier]
    sys.stdout.write(format_table(rows) + "\n")
    if found.left_out:
        sys.stdout.write(f"Left out, since one of the two was trained on them: {', '.join(found.left_out)}.\n")
    if found.comparison is not None:
        sys.stdout.write(sentence(found.comparison, "this model", "the earlier one") + "\n")
    return 0


def _compare(options: argparse.Namespace) -> int:
    from LASegColearnLib.cohort import load_cohort
    from LASegColearnLib.comparison import Plan, compare
    from LASegColearnLib.methods import METHODS

    _refuse_in_set(
        options,
        {
            "preset": "--preset",
            "method": "--methods",
            "seed": "--seeds",
            "minutes": "--minutes",
            "iterations": "--iterations",
        },
    )
    methods = tuple(METHODS) if options.methods == "all" else tuple(options.methods.split(","))
    most = len(load_cohort(options.cohort).labeled)
    plan = Plan(
        methods=methods,
        labeled=_numbers(options.labeled, "--labeled") if options.labeled else (most,),
        seeds=tuple(range(options.seeds)),
        minutes=options.minutes,
        iterations=options.iterations,
        preset=options.preset,
        changes=tuple(options.set),
    )
    _remove_late_stop(options.output)
    stop = _stop_request(options, options.output / "stop")
    with stop.on_signals():
        page = compare(
            options.cohort,
            options.output,
            plan,
            device=options.device,
            listeners=[_listener(options)],
            should_stop=stop,
        )
    if page is not None and not options.events:
        sys.stdout.write(f"{page}\n")
    return 0 if page is not None else 1


def _remove_late_stop(output: Path) -> None:
    """Remove a request to stop that came after a comparison had ended; raises InputError if the file is another one."""
    stop = output / "stop"
    if stop.exists():
        if stop.stat().st_size or not any(output.glob("*/settings.json")):
            cause = "A file called stop lies in the output folder, is not of a comparison and would be removed."
            raise InputError(Problem(output.name, cause, "Rename it, or give another folder."))
        stop.unlink()


def _numbers(text: str, name: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(Problem(name, f"Wanted whole numbers, found {text!r}.", "Give them as 4,8.")) from None


def _device(options: argparse.Namespace) -> int:
    import torch

    from LASegColearnLib.device import choose_device
    from LASegColearnLib.events import EventLog

    description = choose_device(options.device).description
    if options.events:
        EventLog(None, _listener(options)).emit("device", description=description, torch=torch.__version__)
    else:
        sys.stdout.write(f"{description} (PyTorch {torch.__version__})\n")
    return 0


def _report(options: argparse.Namespace) -> int:
    from LASegColearnLib.report import write_report

    sys.stdout.write(f"{write_report(options.run, compare_with=options.compare_with)}\n")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from LASegColearnLib.allocation import keep_freed_memory
    from LASegColearnLib.demo import run_demo

    keep_freed_memory()
    stop = _stop_request(options, None)
    with stop.on_signals():
        done = run_demo(
            options.output,
            minutes=options.minutes,
            seed=options.seed,
            device=options.device,
            listeners=[_listener(options, go_on="")],
            should_stop=stop,
            quiet=options.events,
        )
    return 0 if done else 1


class _EventPrinter:
    """Prints each event as a line of JSON, and remembers whether a failure was among them.

    Parameters
    ----------
    when_lost
        Called when nobody reads any more, since the process that started this one has died. Without it that is raised.
    """

    def __init__(self, when_lost: Callable[[], None] | None = None) -> None:
        self.told_failure = False
        self._when_lost = when_lost

    def __call__(self, record: dict[str, Any]) -> None:
        from LASegColearnLib.events import event_line

        self.told_failure |= record["event"] == "failed"
        try:
            sys.stdout.write(event_line(record))
            sys.stdout.flush()
        except OSError:
            if self._when_lost is None:
                raise
            from LASegColearnLib.stopping import write_nowhere

            self._when_lost()
            write_nowhere()


def _listener(
    options: argparse.Namespace, when_lost: Callable[[], None] | None = None, go_on: str = "Go on with --resume."
) -> Callable[[dict[str, Any]], None]:
    if options.events:
        options.printer = _EventPrinter(when_lost)
        return options.printer  # type: ignore[no-any-return]
    if os.environ.get("RANK", "0") != "0":
        # One of several processes that torchrun started: the first shows the progress.
        return lambda record: None
    from LASegColearnLib.terminal import TerminalProgress

    return TerminalProgress(go_on)


def _stop_request(options: argparse.Namespace, file: Path | None) -> StopRequest:
    from LASegColearnLib.stopping import StopRequest

    parent = (options.parent or os.getppid()) if options.events else None
    return StopRequest(file=file, parent=parent)


def _tell_failure(options: argparse.Namespace, error: Exception) -> None:
    """A sentence for the person; as an event where events are wanted and none has told it yet."""
    message = sentence_for(error)
    if not getattr(options, "events", False):
        sys.stderr.write(f"{for_terminal(message)}\n")
        return
    printer = getattr(options, "printer", _EventPrinter())
    if not printer.told_failure:
        printer({"event": "failed", "message": message, "cause": type(error).__name__})


def _tell_unexpected(options: argparse.Namespace, error: Exception) -> int:
    """The sentence as for any failure; the traceback goes into the run's log, or to standard error without a run."""
    import traceback

    from LASegColearnLib.run_folder import RunFolder

    _tell_failure(options, error)
    details = _without_scans("".join(traceback.format_exception(error)))
    run = getattr(options, "run", None)
    # The verb `predict` takes several runs, and writes into none of them.
    log_file = RunFolder(run).log if isinstance(run, Path) else None
    try:
        # A link in a folder from elsewhere may lead to any file.
        if log_file is None or log_file.is_symlink():
            raise FileNotFoundError
        with log_file.open("a", encoding="utf-8") as log:
            log.write(details)
    except OSError:
        # No folder yet; or a full disk, or a folder that may not be used, is what went wrong in the first place, and
        # has been told.
        if not is_the_systems_refusal(error):
            sys.stderr.write(for_terminal(details))
    else:
        sys.stderr.write("The details are in log.txt in the run folder.\n")
    return 1


def _without_scans(text: str) -> str:
    """Without what names a scan, or a file that the system refused, which may name a patient; the log is handed on.

    Names may have blanks and quotes in them, so of such a line only its beginning, the kind of the error, is left.
    """
    from LASegColearnLib.scan_names import SUFFIXES

    names = re.compile("|".join(re.escape(suffix) for suffix in (*SUFFIXES, ".raw", ".zraw")), re.IGNORECASE)
    kept = []
    for line in _SYSTEM_ERROR.sub(r"\1", text).splitlines():
        scan = names.search(line)
        # The lines of the program itself are indented.
        if scan is None and (line.startswith(" ") or not _PATH.search(line)):
            kept.append(line)
            continue
        kind, separator, _ = line.partition(": ")
        is_kind = separator and not names.search(kind) and not _PATH.search(kind)
        kept.append(f"{kind if is_kind else ''}: (names {'a file' if scan is None else 'a scan'})")
    return "\n".join(kept) + "\n"


class _TerminalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return for_terminal(super().format(record))


def _use_utf8() -> None:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _close_standard_input() -> None:
    """A child of Slicer has nobody to type: a read must end at once instead of waiting for ever."""
    if sys.stdin is not None and not sys.stdin.closed:
        sys.stdin.close()
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115 - stays open as long as the process
