"""The verbs of the command `lasegcolearn`; each function returns the exit code.

Nothing heavy is imported at the top, so that `--help` answers at once. Each verb imports what it needs.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from LASegColearnLib.command_output import listener
from LASegColearnLib.errors import InputError, Problem, first_of

if TYPE_CHECKING:
    from LASegColearnLib.events import Listener
    from LASegColearnLib.settings import Settings
    from LASegColearnLib.stopping import StopRequest
    from LASegColearnLib.training import TrainingResult

PRESET = "cpu"


def do_cohort(options: argparse.Namespace) -> int:
    """Write a cohort file."""
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
            "The source given with --from itself names its scans and labels.",
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
            f"Added as scans, although their names look like labels: {first_of(doubtful)}. "
            "If they are labels, name them with --labels or --label-pattern.\n"
        )
    return 0


def do_train(options: argparse.Namespace) -> int:
    """Train, resume a training, or print the settings."""
    _refuse_in_set(options, {"preset": "--preset"})
    if options.settings:
        return _print_settings(options)
    if options.run is None:
        raise InputError(Problem("--run", "Wanted a run folder, found none.", "Give the folder for the run."))

    from LASegColearnLib.run_folder import RunFolder

    folder = RunFolder(options.run)
    # The imports below take seconds, in which this training may already be asked to stop. A program that starts it as a
    # child process has removed old requests before, so that a request found here is meant for this training.
    if options.parent is None:
        folder.remove_late_stop()

    from LASegColearnLib.allocation import keep_freed_memory

    keep_freed_memory()
    stop = _stop_request(options, folder.stop_file)
    told_to = listener(options, when_lost=stop.ask)
    with stop.on_signals():
        result = (_resume if options.resume else _train)(options, told_to, stop)
    return 0 if result.finished else 1


def _print_settings(options: argparse.Namespace) -> int:
    """Print the settings that a new training would have."""
    from LASegColearnLib.settings import setting_text

    _refuse(
        {"--resume": options.resume or None},
        "The settings of a run are in its settings.json.",
        "Leave it out to see those of a new run.",
    )
    for name, value in _settings(options).to_dict().items():
        sys.stdout.write(f"{name}={setting_text(value)}\n")
    return 0


def _train(options: argparse.Namespace, told_to: Listener, stop: StopRequest) -> TrainingResult:
    from LASegColearnLib.training import train

    return train(
        options.cohort,
        options.run,
        _settings(options),
        device=options.device,
        labeled=options.labeled,
        init=options.init,
        listeners=[told_to],
        should_stop=stop,
    )


def _resume(options: argparse.Namespace, told_to: Listener, stop: StopRequest) -> TrainingResult:
    from LASegColearnLib.training import resume

    _refuse(
        {"--cohort": options.cohort, "--labeled": options.labeled, "--init": options.init},
        "A resumed run continues with its own cases and networks.",
        "Leave it out, or start a new run, with --init to start from this one's model.",
    )
    given = {"preset": options.preset, "method": options.method, "seed": options.seed}
    changes = [f"{name}={value}" for name, value in given.items() if value is not None]
    return resume(
        options.run,
        device=options.device,
        minutes=options.minutes,
        iterations=options.iterations,
        changes=[*changes, *options.set],
        listeners=[told_to],
        should_stop=stop,
    )


def _settings(options: argparse.Namespace) -> Settings:
    """The settings of a new training: the preset's, with the given options."""
    from LASegColearnLib.settings import preset

    settings = preset(options.preset or PRESET).with_text(options.set)
    given = {"method": options.method, "seed": options.seed, "minutes": options.minutes}
    set_to = _names_set(options)
    if options.iterations is not None:
        given["iterations"] = options.iterations
    if options.iterations is not None or ("iterations" in set_to and "minutes" not in set_to):
        # The preset's minutes would take precedence over them.
        settings = replace(settings, minutes=None)
    return replace(settings, **{name: value for name, value in given.items() if value is not None}).checked()


def do_predict(options: argparse.Namespace) -> int:
    """Segment scans."""
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
        zoom=options.zoom,
        nifti=options.nifti,
        volumes=options.volumes,
        overwrite=options.overwrite,
        only_missing=options.only_missing,
        device=options.device,
        listeners=[listener(options)],
    )
    return 0


def do_suggest(options: argparse.Namespace) -> int:
    """Print the order in which unlabeled cases should be annotated."""
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
    events = EventLog(None, listener(options))
    model = load_model(RunFolder(options.run).last_checkpoint)
    with events.telling_failure():
        suggestions = suggest_cases(
            # Without the zoom, which would take twice the time: the order of many scans is wanted, not their outlines.
            Predictor(model, device=device_for_model(options.device, model.settings.precision), zoom=1.0),
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


def do_evaluate(options: argparse.Namespace) -> int:
    """Compare predictions with labels."""
    from LASegColearnLib.cohort import load_cohort
    from LASegColearnLib.evaluation import evaluate, format_table, write_metrics_csv
    from LASegColearnLib.events import EventLog

    if options.output.is_dir():
        raise InputError(Problem(options.output.name, "It is a folder.", "Give --output the name of a file in it."))
    if not options.overwrite:
        _refuse_to_replace(options.output, "Give another --output, or add --overwrite.")
    rows = evaluate(load_cohort(options.cohort), options.predictions, split=options.split, unit=options.unit)
    if options.events:
        events = EventLog(None, listener(options))
        for row in rows:
            metrics = row.metrics
            events.emit(
                "evaluated", case=row.case, unit=row.unit, dice=metrics.dice, hd95=metrics.hd95, asd=metrics.asd
            )
    else:
        sys.stdout.write(format_table(rows) + "\n")
    # Last, so that the figures are shown even if the table is open in Excel, where Windows cannot replace it.
    write_metrics_csv(rows, options.output)
    return 0


def do_judge(options: argparse.Namespace) -> int:
    """Compare a model with an earlier one."""
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
        listeners=[listener(options)],
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


def do_compare(options: argparse.Namespace) -> int:
    """Train several methods in the same way and write a page that compares them."""
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
            listeners=[listener(options)],
            should_stop=stop,
        )
    if page is not None and not options.events:
        sys.stdout.write(f"{page}\n")
    return 0 if page is not None else 1


def _remove_late_stop(output: Path) -> None:
    """Remove a stop request that came after a comparison had ended; raises InputError if the file is something else."""
    stop = output / "stop"
    if stop.exists():
        if stop.stat().st_size or not any(output.glob("*/settings.json")):
            cause = "A file called stop lies in the output folder, is not a comparison's and would be removed."
            raise InputError(Problem(output.name, cause, "Rename it, or give another folder."))
        stop.unlink()


def _numbers(text: str, name: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(Problem(name, f"Wanted whole numbers, found {text!r}.", "Give them as 4,8.")) from None


def do_device(options: argparse.Namespace) -> int:
    """Print the device that would be used."""
    import torch

    from LASegColearnLib.device import choose_device
    from LASegColearnLib.events import EventLog

    description = choose_device(options.device).description
    if options.events:
        EventLog(None, listener(options)).emit("device", description=description, torch=torch.__version__)
    else:
        sys.stdout.write(f"{description} (PyTorch {torch.__version__})\n")
    return 0


def do_report(options: argparse.Namespace) -> int:
    """Write a run's report."""
    from LASegColearnLib.report import write_report

    sys.stdout.write(f"{write_report(options.run, compare_with=options.compare_with)}\n")
    return 0


def do_demo(options: argparse.Namespace) -> int:
    """Train and predict on synthetic scans."""
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
            listeners=[listener(options, go_on="")],
            should_stop=stop,
            quiet=options.events,
        )
    return 0 if done else 1


def _stop_request(options: argparse.Namespace, file: Path | None) -> StopRequest:
    from LASegColearnLib.stopping import StopRequest

    parent = (options.parent or os.getppid()) if options.events else None
    return StopRequest(file=file, parent=parent)


def _refuse_to_replace(file: Path, remedy: str) -> None:
    if file.exists():
        raise InputError(Problem(file.name, "There is a file of this name already.", remedy))


def _refuse(given: dict[str, object], cause: str, remedy: str) -> None:
    """Raise :class:`InputError` naming the given options that would have no effect."""
    problems = [Problem(name, cause, remedy) for name, value in given.items() if value is not None]
    if problems:
        raise InputError(problems)


def _refuse_in_set(options: argparse.Namespace, own_option: dict[str, str]) -> None:
    """Raise :class:`InputError` for settings given with ``--set`` that have their own option instead."""
    problems = [
        Problem("--set", f"{name} cannot be set with it here.", f"Use {own_option[name]}.")
        for name in _names_set(options)
        if name in own_option
    ]
    if problems:
        raise InputError(problems)


def _names_set(options: argparse.Namespace) -> list[str]:
    return list(dict.fromkeys(assignment.partition("=")[0].strip() for assignment in options.set))
