"""The verb `train`: from a cohort file to a run folder with trained networks."""

from __future__ import annotations

import logging
import math
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from LASegColearnLib.awake import kept_awake
from LASegColearnLib.cache_index import ROLES, load_cache_index, save_cache_index
from LASegColearnLib.case_cache import CachedCase, CaseCache
from LASegColearnLib.checkpoints import (
    committee_of,
    load_checkpoint,
    load_model,
    other_layout,
    predict_together,
    predicting_tensors,
)
from LASegColearnLib.cohort import Case, Cohort, load_cohort, save_cohort
from LASegColearnLib.cohort_checks import CheckedCohort, check_cohort
from LASegColearnLib.committee_training import (
    CommitteeTraining,
    go_on_with_committee,
    prepare_committee,
    with_possible_committee,
)
from LASegColearnLib.device import Device, choose_device
from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.events import EventLog, Listener
from LASegColearnLib.methods import create_method, fewest_cases, method_class
from LASegColearnLib.processes import Processes, joined, own_device, started_together
from LASegColearnLib.roles import RoleLedger
from LASegColearnLib.run_folder import RunFolder, write_json_atomically
from LASegColearnLib.run_lock import alone_in
from LASegColearnLib.settings import Settings, setting_text
from LASegColearnLib.stopping import Stopped
from LASegColearnLib.trainer import Trainer, TrainingCases

# With fewer labeled cases than this, each is worth more as a label than as a check.
_FEWEST_FOR_HOLDOUT = 5
_LEDGER_NAME = "lasegcolearn-roles.json"
# Of a checkpoint, by a run that is resumed or starts from another's model.
_TO_GO_ON_FROM = ("networks", "settings", "lineage")
_ANOTHER_RUN = "Leave it out, or start a new run; with the same networks and voxel size --init starts it from this one."
_PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)
# Networks and optimizer fit a run whatever these are.
_CHANGED_ON_THE_WAY = ("learning_rate", "batch_parts", "precision", "gradient_clip", "compile")


@dataclass(frozen=True)
class TrainingResult:
    """What a run came to.

    Attributes
    ----------
    run
        The run folder.
    finished
        False when it was stopped; it can then be resumed, unless that was before its first iteration.
    iterations
        Iterations made in all.
    best_dice
        Best mean Dice (0 to 1) of the predicting network on the validation cases; None if there were none.
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
        Folder of the run; made if it is missing, refused if a run is in it already, or the cohort file where its copy
        would be put.
    settings
        A preset, changed as wanted.
    device
        ``auto``, ``cuda``, ``cuda:N``, ``mps`` or ``cpu``.
    labeled
        Use only the first so many labeled cases as labeled; the others count as unlabeled, their labels unread.
    init
        Checkpoint to go on from (warm start): its students and teacher, a new optimizer, no pretraining. A model of
        another method gives all networks the weights of the one that predicted, if it has the same tensors.
    listeners
        Called with each event.
    should_stop
        Asked after each iteration; when true, the run saves and ends. While scans are prepared it is asked after each
        of them, and the run ends with nothing to save; a training into the same folder finds them prepared.

    Raises
    ------
    InputError
        With everything that is wrong with the cohort and the settings, before training.
    TrainingError
        When the losses stay non-finite.

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
    if run.exists() and not run.is_dir():
        raise InputError(Problem(run.name, "Wanted a folder for the run, found a file.", "Give another name."))
    if folder.last_checkpoint.exists():
        raise InputError(
            Problem(run.name, "There is a run in this folder already.", "Give another folder, or go on with --resume.")
        )
    # Links and the upper and lower case of some disks make one file of two paths.
    if folder.cohort.exists() and cohort.exists() and cohort.samefile(folder.cohort):
        raise InputError(
            Problem(
                run.name,
                "The cohort file lies in this folder and would be replaced.",
                "Give a folder of its own for the run.",
            )
        )
    for file in (folder.settings, folder.cohort, folder.best_checkpoint, folder.committee):
        if file.exists() and not folder.was_begun:
            raise InputError(
                Problem(
                    run.name,
                    f"{file.name} lies in this folder, is not of a run and would be replaced.",
                    "Give a folder of its own for the run.",
                )
            )
    place = choose_device(own_device(device), settings.precision)
    settings, note = _shared_out(settings, started_together().count)
    settings, fewer = with_possible_committee(settings, place, started_together().count)
    initial = load_checkpoint(init, needed=_TO_GO_ON_FROM) if init is not None else None
    if initial is not None:
        settings = _warm_start_settings(settings, initial["settings"])
        _refuse_other_networks(settings, initial)
    members = load_cohort(cohort)
    if labeled is not None:
        members = members.take_labeled(labeled)
    needs_unlabeled = method_class(settings.method).needs_unlabeled
    cache = CaseCache(folder.cache, settings)

    def prepare(events: EventLog) -> TrainingCases:
        checked, cached = _prepare(members, settings, cache, events, should_stop)
        ledger = RoleLedger.load(cohort.parent / _LEDGER_NAME)
        earlier = _earlier_roles(ledger, initial)
        fewest_labeled, fewest = fewest_cases(settings.method)
        chosen, left_out = (members, []) if labeled is None else _without_held_out(members, checked, earlier, fewest)
        kept, notes = _with_holdout(chosen, checked.content_hashes, settings, earlier, fewest_labeled)
        cases = _training_cases(kept, checked.content_hashes, cached, earlier, needs_unlabeled)
        write_json_atomically(folder.settings, settings.to_dict())
        save_cohort(kept, folder.cohort)
        save_cache_index(folder, cases)
        prepare_committee(folder, settings, kept, cases, place, initial)
        for message in [*note, *fewer, *left_out, *_untrained_start(settings, initial), *checked.warnings, *notes]:
            events.emit("warning", message=message)
        _record_roles(ledger, cases.lineage, events)
        return cases

    with joined(place.device) as processes, _events(folder, listeners, processes) as events, kept_awake():
        _require_one_precision(processes, place)
        try:
            cases = _prepared_by_first(processes, folder, lambda: prepare(events))
        except Stopped:
            return _stopped_before(folder, 0, 0.0, events)
        with CommitteeTraining(folder, settings, place, events) as others:
            asked = others.passing_on(should_stop)
            others.wait_until_begun(asked)
            trainer = Trainer(folder, settings, cases, place, events, asked, processes)
            if initial is not None:
                trainer.start_from(initial)
            with closing(trainer):
                return _run(trainer, others, events)


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
    """Go on with a run from its last checkpoint, as if it had not been stopped.

    The preprocessed scans in the run are enough: it may have been moved to where the scans are not.

    Parameters
    ----------
    run
        Folder of the run.
    minutes, iterations
        Another length of the whole run than it was started with.
    changes
        Settings as ``name=value``. What differs from the run's own must be one of those that a run may change on its
        way: learning rate, parts of the batch, precision, limit of the gradient, compiling, fewer models at once.

    Raises
    ------
    InputError
        If there is no checkpoint, a length is given that the run is past, another setting is to be changed, or scans
        must be preprocessed again and are not there.
    """
    folder = RunFolder(run)
    if not folder.last_checkpoint.exists():
        raise InputError(
            Problem(run.name, "There is no checkpoint to go on from.", "Start the run anew, without --resume.")
        )
    settings = _changed_on_the_way(Settings.read(folder.settings), changes)
    if minutes is not None:
        settings = replace(settings, minutes=minutes)
    if iterations is not None:
        settings = replace(settings, iterations=iterations, minutes=None)
    place = choose_device(own_device(device), settings.checked().precision)
    kept = settings
    settings, note = _shared_out(settings, started_together().count)
    if started_together().count > 1:
        settings, fewer = with_possible_committee(settings, place, started_together().count)
        note = [*note, *fewer]
    content = load_checkpoint(folder.last_checkpoint, needed=_TO_GO_ON_FROM)
    for trained in (content, *_of_further_models(folder, settings)):
        _check_length(trained, minutes, iterations)
    members = load_cohort(folder.cohort)

    def prepare(events: EventLog) -> TrainingCases:
        write_json_atomically(folder.settings, kept.to_dict())
        for message in note:
            events.emit("warning", message=message)
        cases = load_cache_index(folder, content["lineage"])
        if cases is None:
            cache = CaseCache(folder.cache, settings)
            _, cached = _prepare(members, settings, cache, events, should_stop)
            cases = TrainingCases(**_by_role(members, cached), lineage=content["lineage"])
            save_cache_index(folder, cases)
        go_on_with_committee(folder, settings, cases)
        return cases

    with joined(place.device) as processes, _events(folder, listeners, processes) as events, kept_awake():
        _require_one_precision(processes, place)
        try:
            cases = _prepared_by_first(processes, folder, lambda: prepare(events))
        except Stopped:
            return _stopped_before(folder, content["iteration"], content["elapsed_seconds"], events)
        with CommitteeTraining(folder, settings, place, events) as others:
            asked = others.passing_on(should_stop)
            others.wait_until_begun(asked)
            trainer = Trainer(folder, settings, cases, place, events, asked, processes)
            trainer.resume()
            with closing(trainer):
                earlier = committee_of(content)[: kept.committee - 1] if content.get("complete") else []
                return _run(trainer, others, events, earlier)


def _of_further_models(run: RunFolder, settings: Settings) -> Iterator[dict[str, Any]]:
    """The checkpoints of the models that are trained at once with a run's; one that cannot be read is told later."""
    for number in range(2, settings.committee + 1):
        with suppress(InputError):
            yield load_checkpoint(run.trained_beside(number).last_checkpoint, needed=_TO_GO_ON_FROM)


def _check_length(content: dict[str, Any], minutes: float | None, iterations: int | None) -> None:
    """Raise :class:`InputError` for a new length that a run is past: its rate could not fall to the end any more."""
    if iterations is not None and iterations < content["iteration"]:
        name, found = "--iterations", f"{content['iteration']} iterations"
    elif minutes is not None and 60 * minutes < content["elapsed_seconds"]:
        name, found = "--minutes", f"{content['elapsed_seconds'] / 60:.1f} minutes"
    else:
        return
    raise InputError(
        Problem(name, f"Wanted more than the run has had, found {found} behind it.", "Give more, or leave it out.")
    )


def _changed_on_the_way(settings: Settings, changes: Sequence[str]) -> Settings:
    """The settings of a run that goes on, with changes. Raises :class:`InputError` naming those that cannot be made."""
    changed = settings.with_text(changes)
    own, wanted = settings.to_dict(), changed.to_dict()
    # A model that is trained already may be left out, and none added.
    allowed = {*_CHANGED_ON_THE_WAY, *(["committee"] if wanted["committee"] < own["committee"] else [])}
    problems = [
        Problem(
            name,
            f"The run has {setting_text(own[name])}, and goes on with it; {setting_text(wanted[name])} was asked for.",
            f"Use --{name}." if name in ("minutes", "iterations") else _ANOTHER_RUN,
        )
        for name in own
        if own[name] != wanted[name] and name not in allowed
    ]
    if problems:
        raise InputError(problems)
    return changed


def _untrained_start(settings: Settings, initial: dict[str, Any] | None) -> list[str]:
    """What is to be said where a method is trained without the first stage that its publication has."""
    share = method_class(settings.method).published_pretraining
    if share == 0 or settings.pretraining > 0 or initial is not None:
        return []
    return [
        f"As published, {settings.method} spends {100 * share:.0f} % of its training on labeled patches alone, and its "
        f"teacher starts from that. This training leaves it out: set pretraining={share:g} for it."
    ]


def _shared_out(settings: Settings, processes: int) -> tuple[Settings, list[str]]:
    """Settings with a part of the batch for each process, and what is to be said about it.

    Raises
    ------
    InputError
        If the patches of a batch cannot be shared out evenly, or the method is one for a single process.
    """
    if processes > 1 and not method_class(settings.method).several_processes:
        raise InputError(
            Problem(
                "torchrun",
                f"Wanted a method that several processes can train together, found {settings.method}.",
                "Start it without torchrun.",
            )
        )
    if settings.batch_parts % processes == 0:
        return settings, []
    shared = replace(settings, batch_parts=math.lcm(settings.batch_parts, processes))
    if shared.problems():
        raise InputError(
            Problem(
                "torchrun",
                f"Wanted a batch that {processes} processes can share evenly, found {settings.labeled_batch} labeled "
                f"and {settings.unlabeled_batch} unlabeled patches.",
                f"Start fewer processes, or train with --set labeled_batch={processes} "
                f"--set unlabeled_batch={processes}.",
            )
        )
    return shared, [f"The batch is computed in {shared.batch_parts} parts, shared by {processes} processes."]


def _require_one_precision(processes: Processes, place: Device) -> None:
    """Raise :class:`InputError` where unlike GPUs chose unlike precisions: only float16's gradients are scaled."""
    if len(set(processes.of_each(_PRECISIONS.index(place.precision)))) > 1:
        cause = "Wanted one precision for all processes, found several, as unlike GPUs choose them."
        raise InputError(Problem("torchrun", cause, "Train with --set precision=float32."))


@contextmanager
def _events(folder: RunFolder, listeners: Sequence[Listener], processes: Processes) -> Iterator[EventLog]:
    """The run's events, which the first process alone records and tells; no other run writes into the folder."""
    with alone_in(folder.path) if processes.is_first else nullcontext():
        if processes.is_first:
            folder.remove_unfinished()
        events = EventLog(folder.events, *listeners) if processes.is_first else EventLog(None)
        with events.telling_failure():
            yield events


def _prepared_by_first(processes: Processes, folder: RunFolder, prepare: Callable[[], TrainingCases]) -> TrainingCases:
    """The first process prepares the scans; the others wait, and take them from the run's cache."""
    if processes.is_first:
        cases = None
        try:
            cases = prepare()
        finally:
            processes.as_first_says([float(cases is not None)])
        return cases
    (ready,) = processes.as_first_says([0.0])
    if not ready:
        raise SystemExit(1)  # The first process has said why.
    # Who the model's forebears were is kept by the first process, which writes the checkpoints.
    prepared = load_cache_index(folder, {})
    if prepared is None:
        raise InputError(
            Problem("torchrun", "This process has no prepared scans.", "Put the run on a disk that all machines share.")
        )
    return prepared


def _run(
    trainer: Trainer, others: CommitteeTraining, events: EventLog, earlier: Sequence[dict[str, Any]] = ()
) -> TrainingResult:
    """Train, and let the models that were trained at once predict together.

    Parameters
    ----------
    earlier
        Tensors of those that have predicted with this run's model, which still do if nothing is left to train.
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
        # Before it is said that all is saved.
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
    """Let the models that were trained at once with the run's predict with it from now on; returns how many."""
    tensors = [predicting_tensors(run.last_checkpoint) for run in others]
    if len(tensors) < len(earlier):
        # One of them is not there any more, and none has changed.
        tensors = list(earlier)
    if not tensors:
        return 0
    predict_together(trainer.run.last_checkpoint, tensors)
    for run in others:
        # Links to the run's own, mostly, and made anew when the training goes on; a person need not look after them.
        shutil.rmtree(run.cache, ignore_errors=True)
    trainer.validate_again(load_model(trainer.run.last_checkpoint))
    return len(tensors)


def _stopped_before(folder: RunFolder, iteration: int, elapsed_seconds: float, events: EventLog) -> TrainingResult:
    """A run that ended while its scans were prepared is where it was before."""
    events.emit("finished", complete=False, iteration=iteration, elapsed_seconds=elapsed_seconds, best_dice=None)
    return TrainingResult(folder, False, iteration, None)


def _warm_start_settings(settings: Settings, earlier: Mapping[str, Any]) -> Settings:
    """Settings for a training that goes on from an earlier model, which has its pretraining behind it.

    Raises
    ------
    InputError
        If the earlier model sees scans at another voxel size: what it has learned would not be there any more.
    """
    spacing = tuple(earlier["spacing_mm"])
    if spacing != settings.spacing_mm:
        own, found = (" x ".join(f"{side:g}" for side in sides) for sides in (settings.spacing_mm, spacing))
        raise InputError(
            Problem(
                "--init",
                f"Wanted a model trained at {own} mm, as these settings ask for, found one trained at {found} mm.",
                "Train with that model's settings (--preset, or --set spacing_mm=...), or start anew without it.",
            )
        )
    return replace(settings, pretraining=0.0, self_training=0.0)


def _refuse_other_networks(settings: Settings, initial: dict[str, Any]) -> None:
    """Raise :class:`InputError` if these settings' method cannot go on from this checkpoint."""
    method = create_method(settings)
    try:
        method.warm_start(initial["networks"], initial["predictor"], initial["method_state"])
    except (KeyError, RuntimeError):
        earlier = initial["settings"].get("method", settings.method)
        if earlier == settings.method:
            raise other_layout("--init") from None
        cause = f"The networks of {settings.method} cannot start from those of {earlier}, which have other parts."
        raise InputError(
            Problem("--init", cause, f"Train with --method {earlier}, or start anew without --init.")
        ) from None


def _earlier_roles(ledger: RoleLedger, initial: dict[str, Any] | None) -> RoleLedger:
    """What was trained and validated on before, in this study and by the model to start from."""
    if initial is None:
        return RoleLedger(ledger.trained, ledger.validated)
    lineage = initial["lineage"]
    return RoleLedger(ledger.trained | set(lineage["trained"]), ledger.validated | set(lineage["validated"]))


def _without_held_out(
    members: Cohort, checked: CheckedCohort, earlier: RoleLedger, min_unlabeled: int
) -> tuple[Cohort, list[str]]:
    """Leave out the unlabeled cases that earlier rounds have validated on; says which.

    With fewer labels than there are, such a case counts as unlabeled, and nobody has chosen it for that.

    Raises
    ------
    InputError
        If fewer unlabeled cases than ``min_unlabeled`` are left.
    """
    held = [case.id for case in members.unlabeled if checked.content_hashes[case.id] in earlier.validated]
    if not held:
        return members, []
    rest = tuple(case for case in members.unlabeled if case.id not in held)
    if len(rest) < min_unlabeled:
        raise InputError(
            Problem(
                "cohort",
                f"Wanted at least {min_unlabeled} unlabeled cases to train on, found {len(rest)}: "
                f"{', '.join(sorted(held))} were held out for validation in earlier rounds.",
                "Add scans without labels, or use --method supervised.",
            )
        )
    message = f"Left out, since earlier rounds have held them out for validation: {', '.join(sorted(held))}."
    return replace(members, unlabeled=rest), [message]


def _with_holdout(
    members: Cohort, hashes: dict[str, str], settings: Settings, earlier: RoleLedger, min_labeled: int
) -> tuple[Cohort, list[str]]:
    """Hold out some labeled cases for validation if the cohort has none; says what was done.

    Cases that an earlier round held out are held out again, and none that it trained on.

    Raises
    ------
    InputError
        If fewer labeled cases than ``min_labeled`` are left to train on.
    """
    if members.validation:
        return members, []
    held = {case.id for case in members.labeled if hashes[case.id] in earlier.validated}
    count = round(settings.holdout * len(members.labeled))
    if not held and count and len(members.labeled) >= _FEWEST_FOR_HOLDOUT:
        fresh = [case.id for case in members.labeled if hashes[case.id] not in earlier.trained]
        most = min(count, len(fresh), len(members.labeled) - min_labeled)
        held = set(random.Random(settings.seed).sample(fresh, most))
    if not held:
        return members, ["No case is used for validation, so there is no Dice to follow and no best checkpoint."]
    kept = tuple(case for case in members.labeled if case.id not in held)
    if len(kept) < min_labeled:
        raise InputError(
            Problem(
                "cohort",
                f"Wanted at least {min_labeled} labeled cases to train on, found {len(kept)}: the others were held out "
                "for validation in earlier rounds.",
                "Add labeled cases.",
            )
        )
    return (
        Cohort(kept, members.unlabeled, tuple(case for case in members.labeled if case.id in held)),
        [f"Held out of the labeled cases for validation, and not trained on: {', '.join(sorted(held))}."],
    )


def _prepare(
    members: Cohort,
    settings: Settings,
    cache: CaseCache,
    events: EventLog,
    should_stop: Callable[[], bool],
) -> tuple[CheckedCohort, dict[str, CachedCase]]:
    """Check every case and preprocess it in the same pass; the preprocessed cases by id.

    Raises
    ------
    InputError
        As :func:`check_cohort` does.
    Stopped
        If the run is asked to end meanwhile.
    """
    cached: dict[str, CachedCase] = {}
    fewest_labeled, fewest_unlabeled = fewest_cases(settings.method)
    total = len(members.cases)
    done = 0
    # Of a run that is resumed with its cache lost.
    run = RunFolder(cache.folder.parent)
    runs = [run, *(run.trained_beside(number) for number in range(2, settings.committee + 1))]
    present = sum(file.stat().st_size for one in runs for file in one.checkpoints.glob("*.pt"))

    def keep(case: Case, content_hash: str, scan: Any, label: Any) -> None:
        cached[case.id] = cache.store(case.id, content_hash, scan, label)

    def tell(case: Case) -> None:
        nonlocal done
        done += 1
        events.emit("preparing", done=done, of=total)
        if should_stop():
            raise Stopped

    checked = check_cohort(
        members,
        min_labeled=fewest_labeled,
        min_unlabeled=fewest_unlabeled,
        cache_folder=cache.folder,
        spacing_mm=settings.spacing_mm,
        region_mm=settings.region_mm,
        checkpoint_bytes=max(0, _checkpoint_bytes(settings) - present),
        on_read=keep,
        progress=tell,
    )
    return checked, cached


def _checkpoint_bytes(settings: Settings) -> int:
    """Of the last checkpoint and the best, and of the next one, which is whole before it takes the last one's place.

    Of each model of a committee.
    """
    method = create_method(settings)
    tensors = [tensor for module in method.modules.values() for tensor in module.state_dict().values()]
    remembered = (2 if settings.optimizer == "adamw" else 1) * sum(one.nbytes for one in method.parameters())
    return 3 * settings.committee * (sum(tensor.nbytes for tensor in tensors) + remembered)


def _by_role(members: Cohort, cached: dict[str, CachedCase]) -> dict[str, list[CachedCase]]:
    return {role: [cached[case.id] for case in getattr(members, role)] for role in ROLES}


def _training_cases(
    members: Cohort, hashes: dict[str, str], cached: dict[str, CachedCase], earlier: RoleLedger, needs_unlabeled: bool
) -> TrainingCases:
    """The cases by role, with all that this model and its forebears have been trained and validated on.

    Raises
    ------
    InputError
        If a scan that was once for validation is to be trained on, or the other way round.
    """
    # A method that learns from labels alone never sees the others.
    learned_from = (*members.labeled, *(members.unlabeled if needs_unlabeled else ()))
    trained = {case.id: hashes[case.id] for case in learned_from}
    validated = {case.id: hashes[case.id] for case in members.validation}
    problems = earlier.conflicts(trained=trained, validated=validated)
    if problems:
        raise InputError(problems)
    lineage = {
        "trained": sorted({*trained.values(), *earlier.trained}),
        "validated": sorted({*validated.values(), *earlier.validated}),
    }
    return TrainingCases(**_by_role(members, cached), lineage=lineage)


def _record_roles(ledger: RoleLedger, lineage: dict[str, list[str]], events: EventLog) -> None:
    try:
        ledger.record(trained=lineage["trained"], validated=lineage["validated"])
    except OSError:
        logging.getLogger(__name__).debug("The ledger could not be written.", exc_info=True)
        events.emit(
            "warning",
            message="The cohort's folder cannot be written to, so the cases' roles are kept in the checkpoint alone.",
        )
