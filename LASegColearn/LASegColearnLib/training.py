"""The verb `train`: from a cohort file to a run folder with trained networks."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from LASegColearnLib.awake import kept_awake
from LASegColearnLib.cache_index import load_cache_index
from LASegColearnLib.checkpoints import (
    committee_of,
    load_checkpoint,
    load_model,
    predict_together,
    predicting_tensors,
)
from LASegColearnLib.cohort import load_cohort
from LASegColearnLib.committee_training import (
    CommitteeTraining,
    go_on_with_committee,
    with_possible_committee,
)
from LASegColearnLib.device import Device, choose_device, device_of_resumed
from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.events import EventLog, Listener
from LASegColearnLib.predecessors import LearnedCases, learned_by_model_in
from LASegColearnLib.processes import Processes, local_device, process_group, processes_from_environment
from LASegColearnLib.run_folder import RunFolder, write_json_atomically
from LASegColearnLib.run_lock import alone_in
from LASegColearnLib.run_settings import (
    check_length,
    refuse_other_networks,
    resumed_settings,
    split_batch_for_processes,
    warm_start_settings,
)
from LASegColearnLib.settings import Settings
from LASegColearnLib.stopping import Stopped
from LASegColearnLib.trainer import Trainer, TrainingCases
from LASegColearnLib.training_preparation import NewRunPreparation, cases_of_resumed

_LEDGER_NAME = "lasegcolearn-roles.json"
# The parts of a checkpoint that a resumed run, or one that starts from an earlier model, needs.
_NEEDED_TO_CONTINUE = ("networks", "settings", "lineage")
_PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class TrainingResult:
    """The result of a run.

    Attributes
    ----------
    run
        The run folder.
    finished
        False if the run was stopped. It can then be resumed, unless it was stopped before its first iteration.
    iterations
        Total number of iterations.
    best_dice
        Best mean Dice (0 to 1) of the predicting network on the validation cases; None without validation cases.
    """

    run: RunFolder
    finished: bool
    iterations: int
    best_dice: float | None


def train(
    cohort: Path | None,
    run: Path,
    settings: Settings,
    *,
    device: str = "auto",
    labeled: int | None = None,
    init: Path | None = None,
    listeners: Sequence[Listener] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainingResult:
    """Train on a cohort and keep everything in a run folder.

    Parameters
    ----------
    cohort
        The cohort file.
    run
        Folder of the run. It is created if it is missing. It is refused if it already holds a run, or the cohort file
        itself at the place of the run's copy.
    settings
        A preset, possibly with changes.
    device
        ``auto``, ``cuda``, ``cuda:N``, ``mps`` or ``cpu``.
    labeled
        Use only this many labeled cases, the first ones, as labeled. The others count as unlabeled and their labels
        are not read.
    init
        Checkpoint to start from (warm start): its students and teacher, a new optimizer, no pretraining. From a model
        of another method, all networks start with the weights of its predicting network, if the tensors fit.
    listeners
        Called with each event.
    should_stop
        Called after each iteration; if it returns true, the run saves and ends. During preparation it is called after
        each scan, and the run then ends without saving; a later training into the same folder reuses the prepared
        scans.

    Raises
    ------
    InputError
        With all problems of the cohort and the settings, before training.
    TrainingError
        If the losses stay non-finite.

    Examples
    --------
    >>> result = train(Path("cohort.json"), Path("run"), replace(preset("cpu"), minutes=30))  # doctest: +SKIP
    >>> result.best_dice  # doctest: +SKIP
    0.86
    """
    settings = settings.checked()
    folder = RunFolder(run)
    if cohort is None:
        raise InputError(Problem("--cohort", "Wanted a cohort file to train on, found none.", "Give one, or --resume."))
    _refuse_folder(folder, cohort)
    chosen_device = choose_device(local_device(device), settings.precision)
    settings, messages = _possible_settings(settings, chosen_device)
    initial = load_checkpoint(init, needed=_NEEDED_TO_CONTINUE) if init is not None else None
    if initial is not None:
        settings = warm_start_settings(settings, initial["settings"])
        refuse_other_networks(settings, initial)
    full_cohort = load_cohort(cohort)
    if labeled is not None:
        full_cohort = full_cohort.take_labeled(labeled)
    preparation = NewRunPreparation(
        folder,
        settings,
        chosen_device,
        full_cohort,
        ledger_file=cohort.parent / _LEDGER_NAME,
        initial=initial,
        predecessors=learned_by_model_in(init) if init is not None else LearnedCases(),
        fewer_labels=labeled is not None,
        messages=messages,
    )

    def start(trainer: Trainer) -> None:
        if initial is not None:
            trainer.start_from(initial)

    return _train_prepared(
        folder,
        settings,
        chosen_device,
        prepare=lambda events: preparation.prepare(events, should_stop),
        start=start,
        listeners=[preparation.record_roles_when_saved, *listeners],
        should_stop=should_stop,
    )


def resume(
    run: Path,
    *,
    device: str = "auto",
    minutes: float | None = None,
    iterations: int | None = None,
    changes: Sequence[str] = (),
    listeners: Sequence[Listener] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainingResult:
    """Continue a run from its last checkpoint, as if it had not been stopped.

    The run's preprocessed scans suffice: the run folder may be on another computer without the scans.

    Parameters
    ----------
    run
        Folder of the run.
    minutes, iterations
        New length of the whole run.
    changes
        Settings as ``name=value``. Only these may differ from the run's own: learning rate, parts of the batch,
        precision, gradient clipping, compilation, and a smaller number of models.

    Raises
    ------
    InputError
        If there is no checkpoint, the new length is shorter than what was already trained, another setting differs, or
        scans that must be preprocessed again are missing.
    """
    folder = RunFolder(run)
    if not folder.last_checkpoint.exists():
        raise InputError(
            Problem(run.name, "There is no checkpoint to continue from.", "Start a new run, without --resume.")
        )
    kept = _settings_of_resumed(folder, changes, minutes, iterations)
    checkpoint = load_checkpoint(folder.last_checkpoint, needed=_NEEDED_TO_CONTINUE)
    chosen_device, about_precision = _device_of_resumed(device, kept.checked(), checkpoint)
    settings, messages = _possible_settings_of_resumed(kept, chosen_device)
    for trained in (checkpoint, *_of_further_models(folder, settings)):
        check_length(trained, minutes, iterations)
    cohort = load_cohort(folder.cohort)

    def prepare(events: EventLog) -> TrainingCases:
        write_json_atomically(folder.settings, kept.to_dict())
        for message in [*about_precision, *messages]:
            events.emit("warning", message=message)
        cases = cases_of_resumed(folder, settings, cohort, checkpoint["lineage"], events, should_stop)
        go_on_with_committee(folder, settings, cases)
        return cases

    return _train_prepared(
        folder,
        settings,
        chosen_device,
        prepare=prepare,
        start=Trainer.resume,
        listeners=listeners,
        should_stop=should_stop,
        begun_at=(checkpoint["iteration"], checkpoint["elapsed_seconds"]),
        earlier=committee_of(checkpoint)[: kept.committee - 1] if checkpoint.get("complete") else (),
    )


def _refuse_folder(folder: RunFolder, cohort: Path) -> None:
    """Raise :class:`InputError` if a new run would replace another run, the cohort file or files of other programs."""
    run = folder.path
    if run.exists() and not run.is_dir():
        raise InputError(Problem(run.name, "Wanted a folder for the run, found a file.", "Give another name."))
    if folder.last_checkpoint.exists():
        raise InputError(
            Problem(run.name, "There is a run in this folder already.", "Give another folder, or --resume to continue.")
        )
    # Two different paths may name one file, through links or on disks that ignore upper and lower case.
    if folder.cohort.exists() and cohort.exists() and cohort.samefile(folder.cohort):
        raise InputError(
            Problem(
                run.name,
                "The cohort file lies in this folder and would be replaced.",
                "Give a folder of its own for the run.",
            )
        )
    for file in (folder.settings, folder.cohort, folder.predecessors, folder.best_checkpoint, folder.committee):
        if file.exists() and not folder.was_begun:
            raise InputError(
                Problem(
                    run.name,
                    f"{file.name} lies in this folder, is not a run's and would be replaced.",
                    "Give a folder of its own for the run.",
                )
            )


def _possible_settings(settings: Settings, device: Device) -> tuple[Settings, list[str]]:
    """Settings adapted to the number of processes and to this computer's memory, with messages about the changes."""
    processes = processes_from_environment().count
    settings, about_parts = split_batch_for_processes(settings, processes)
    settings, about_models = with_possible_committee(settings, device, processes)
    return settings, [*about_parts, *about_models]


def _possible_settings_of_resumed(settings: Settings, device: Device) -> tuple[Settings, list[str]]:
    """The same for a resumed run, whose further models are kept: they are already trained in part."""
    processes = processes_from_environment().count
    if processes > 1:
        return _possible_settings(settings, device)
    settings, messages = split_batch_for_processes(settings, processes)
    possible, about_models = with_possible_committee(settings, device, processes)
    if about_models:
        messages = [
            *messages,
            f"The run continues with all its models, which may be too many here. {about_models[0]} To continue with "
            f"that many, resume it with --set committee={possible.committee}.",
        ]
    return settings, messages


def _device_of_resumed(wanted: str, settings: Settings, checkpoint: dict[str, Any]) -> tuple[Device, list[str]]:
    """The device of a resumed run, and messages about a change of its precision."""
    if settings.precision != "auto":
        return choose_device(local_device(wanted), settings.precision), []
    # Older checkpoints have no record. If the setting was not `auto` until now, `auto` asks for a new choice.
    was_auto = checkpoint["settings"].get("precision") == "auto"
    found, message = device_of_resumed(local_device(wanted), checkpoint.get("computed_on", {}) if was_auto else {})
    return found, [] if message is None else [message]


def _settings_of_resumed(
    folder: RunFolder, changes: Sequence[str], minutes: float | None, iterations: int | None
) -> Settings:
    """The run's own settings with the requested changes and length."""
    settings = resumed_settings(Settings.read(folder.settings), changes)
    if minutes is not None:
        settings = replace(settings, minutes=minutes)
    if iterations is not None:
        settings = replace(settings, iterations=iterations, minutes=None)
    return settings


def _train_prepared(
    folder: RunFolder,
    settings: Settings,
    device: Device,
    *,
    prepare: Callable[[EventLog], TrainingCases],
    start: Callable[[Trainer], None],
    listeners: Sequence[Listener],
    should_stop: Callable[[], bool],
    begun_at: tuple[int, float] = (0, 0.0),
    earlier: Sequence[dict[str, Any]] = (),
) -> TrainingResult:
    """Prepare the scans, then train the run's model and its further models at the same time.

    Parameters
    ----------
    prepare
        Returns the cases to train on; only the first process calls it.
    start
        Loads the initial state into the new trainer.
    begun_at
        Iterations and seconds already trained in an earlier session.
    earlier
        See :func:`_run`.
    """
    with process_group(device.device) as processes, _events(folder, listeners, processes) as events, kept_awake():
        _require_one_precision(processes, device)
        try:
            cases = _prepared_by_first(processes, folder, lambda: prepare(events))
        except Stopped:
            return _stopped_before(folder, *begun_at, events)
        with CommitteeTraining(folder, settings, device, events) as others:
            asked = others.passing_on(should_stop)
            others.wait_until_begun(asked)
            trainer = Trainer(folder, settings, cases, device, events, asked, processes)
            start(trainer)
            with closing(trainer):
                return _run(trainer, others, events, earlier)


def _of_further_models(run: RunFolder, settings: Settings) -> Iterator[dict[str, Any]]:
    """The checkpoints of the run's further models; those that cannot be read are reported later."""
    for number in range(2, settings.committee + 1):
        with suppress(InputError):
            yield load_checkpoint(run.trained_beside(number).last_checkpoint, needed=_NEEDED_TO_CONTINUE)


def _require_one_precision(processes: Processes, device: Device) -> None:
    """Raise :class:`InputError` if different GPUs chose different precisions: only float16 scales gradients."""
    if len(set(processes.all_gather(_PRECISIONS.index(device.precision)))) > 1:
        cause = "Wanted one precision for all processes, found several, as different GPUs choose them."
        raise InputError(Problem("torchrun", cause, "Train with --set precision=float32."))


@contextmanager
def _events(folder: RunFolder, listeners: Sequence[Listener], processes: Processes) -> Iterator[EventLog]:
    """The run's events, recorded and reported by the first process alone; the folder is locked against other runs."""
    with alone_in(folder.path) if processes.is_first else nullcontext():
        if processes.is_first:
            folder.remove_unfinished()
        events = EventLog(folder.events, *listeners) if processes.is_first else EventLog(None)
        with events.telling_failure():
            yield events


def _prepared_by_first(processes: Processes, folder: RunFolder, prepare: Callable[[], TrainingCases]) -> TrainingCases:
    """Let the first process prepare the scans; the others wait and then read them from the run's cache."""
    if processes.is_first:
        cases = None
        try:
            cases = prepare()
        finally:
            processes.broadcast([float(cases is not None)])
        return cases
    (ready,) = processes.broadcast([0.0])
    if not ready:
        raise SystemExit(1)  # The first process has reported the reason.
    # Only the first process needs the lineage, since it alone writes checkpoints.
    prepared = load_cache_index(folder, {})
    if prepared is None:
        raise InputError(
            Problem("torchrun", "This process has no prepared scans.", "Put the run on a disk that all machines share.")
        )
    return prepared


def _run(
    trainer: Trainer, others: CommitteeTraining, events: EventLog, earlier: Sequence[dict[str, Any]] = ()
) -> TrainingResult:
    """Train, then combine the models that were trained at the same time into one that predicts.

    Parameters
    ----------
    earlier
        Tensors of the further models that the checkpoint already contains. They are kept if nothing is left to train.
    """
    settings, cases, begun = trainer.settings, trainer.cases, trainer.iteration
    events.emit(
        "started",
        method=settings.method,
        preset=settings.preset,
        device=trainer.device.description,
        labeled=len(cases.labeled),
        unlabeled=len(cases.unlabeled),
        validation=len(cases.validation),
        committee=settings.committee,
        iterations=None if settings.minutes is not None else settings.iterations,
        minutes=settings.minutes,
        seed=settings.seed,
        iteration=trainer.iteration,
    )
    finished = trainer.train() and others.wait_until_ended(trainer.should_stop)
    if not finished:
        # Before the event that reports that everything is saved.
        others.end()
    complete = others.complete if finished else []
    models = 1 + _predict_together(trainer, complete, earlier if trainer.iteration == begun else ())
    events.emit(
        "finished",
        complete=finished,
        committee=models,
        iteration=trainer.iteration,
        elapsed_seconds=trainer.elapsed_seconds,
        best_dice=trainer.best,
    )
    return TrainingResult(trainer.run, finished, trainer.iteration, trainer.best)


def _predict_together(trainer: Trainer, others: Sequence[RunFolder], earlier: Sequence[dict[str, Any]]) -> int:
    """Add the further models to the run's checkpoint, so that they predict with it; returns how many were added."""
    tensors = [predicting_tensors(run.last_checkpoint) for run in others]
    if len(tensors) < len(earlier):
        # Some are missing now, and none has changed.
        tensors = list(earlier)
    if not tensors:
        return 0
    predict_together(trainer.run.last_checkpoint, tensors)
    for run in others:
        # Mostly links to the run's own files, and recreated when the training continues.
        shutil.rmtree(run.cache, ignore_errors=True)
    trainer.validate_again(load_model(trainer.run.last_checkpoint))
    return len(tensors)


def _stopped_before(folder: RunFolder, iteration: int, elapsed_seconds: float, events: EventLog) -> TrainingResult:
    """The result of a run that was stopped while its scans were prepared: no iteration was added."""
    events.emit("finished", complete=False, iteration=iteration, elapsed_seconds=elapsed_seconds, best_dice=None)
    return TrainingResult(folder, False, iteration, None)
