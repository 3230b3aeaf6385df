"""The verb `compare`: trains several methods in the same way on the same scans and writes a page that compares them."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from LASegColearnLib.checkpoints import load_model
from LASegColearnLib.child_process import event_in, start_training
from LASegColearnLib.cohort import Case, Cohort, load_cohort, save_cohort
from LASegColearnLib.comparison_page import write_comparison_page
from LASegColearnLib.device import choose_device, device_for_model
from LASegColearnLib.errors import InputError, Problem, TrainingError
from LASegColearnLib.evaluation import EvaluatedCase, evaluate
from LASegColearnLib.events import EventLog, Listener, read_events
from LASegColearnLib.methods import METHODS, fewest_cases
from LASegColearnLib.metrics import Metrics
from LASegColearnLib.prediction import predict
from LASegColearnLib.published_protocol import evaluate_as_published
from LASegColearnLib.run_folder import RunFolder, write_json_atomically
from LASegColearnLib.settings import preset

_RESULT = "comparison.json"
_KIBIBYTES_A_GIGABYTE = 1e6


@dataclass(frozen=True)
class Plan:
    """What is compared, and how each method is trained.

    Attributes
    ----------
    methods
        Names of the methods; all others are compared with the first.
    labeled
        Numbers of labels. For each, that many of the cohort's labeled cases are used, the first ones; the others count
        as unlabeled.
    seeds
        Random seeds; each is a separate training.
    minutes, iterations
        Length of each training; exactly one of the two is given.
    preset, changes
        Settings for all methods: the name of a preset, and changes as ``name=value``.
    """

    methods: tuple[str, ...]
    labeled: tuple[int, ...]
    seeds: tuple[int, ...] = (0,)
    minutes: float | None = None
    iterations: int | None = None
    preset: str = "cpu"
    changes: tuple[str, ...] = ()

    def problems(self, cohort: Cohort) -> list[Problem]:
        """What is wrong with the plan for these scans."""
        found = [
            Problem("--methods", f"There is no method {name}.", f"Choose of {', '.join(METHODS)}.")
            for name in self.methods
            if name not in METHODS
        ]
        for name, given in (("--methods", self.methods), ("--labeled", self.labeled), ("--seeds", self.seeds)):
            if not given:
                found.append(Problem(name, "Wanted at least one, found none.", "Give one or more."))
            for value in dict.fromkeys(value for value in given if given.count(value) > 1):
                found.append(Problem(name, f"Wanted each once, found {value} more than once.", "Give it once."))
        if (self.minutes is None) == (self.iterations is None):
            found.append(Problem("--minutes", "Wanted minutes or iterations, one of them.", "Give one length."))
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            cause = f"Wanted a finite time above 0, found {self.minutes:g}."
            found.append(Problem("--minutes", cause, "Give such a time."))
        if self.iterations is not None and self.iterations < 1:
            found.append(Problem("--iterations", f"Wanted at least 1, found {self.iterations}.", "Give such a number."))
        most = len(cohort.labeled)
        if not most:
            found.append(Problem("cohort", "Wanted labeled cases to learn from, found none.", "Give it some labels."))
        for count in self.labeled:
            if most and not 1 <= count <= most:
                found.append(
                    Problem("--labeled", f"Wanted between 1 and {most} labels, found {count}.", "Give such a number.")
                )
        found += self._too_few_cases(cohort)
        if not cohort.validation:
            remedy = "Give it some with `lasegcolearn cohort --validation`."
            found.append(Problem("cohort", "Wanted validation cases to compare on, found none.", remedy))
        return found

    def _too_few_cases(self, cohort: Cohort) -> Iterator[Problem]:
        """Problems that trainings on unlabeled scans would otherwise report only later."""
        learning = [name for name in self.methods if name in METHODS and METHODS[name].needs_unlabeled]
        if not learning:
            return
        names = ", ".join(dict.fromkeys(learning))
        fewest_labeled, fewest_unlabeled = (max(fewest) for fewest in zip(*map(fewest_cases, learning), strict=True))
        for count in dict.fromkeys(self.labeled):
            unlabeled = len(cohort.unlabeled) + len(cohort.labeled) - count
            if 1 <= count < fewest_labeled:
                cause = f"Wanted at least {fewest_labeled} labels for {names}, found {count}."
                yield Problem("--labeled", cause, "Give more, or compare other methods.")
            if 1 <= count <= len(cohort.labeled) and unlabeled < fewest_unlabeled:
                cause = f"Wanted at least {fewest_unlabeled} unlabeled scans for {names} with {count} labels, found "
                remedy = "Add scans without labels, or give a smaller --labeled."
                yield Problem("cohort", f"{cause}{unlabeled}.", remedy)


@dataclass(frozen=True)
class Trained:
    """A finished training with the metrics of its last checkpoint on the validation cases.

    Attributes
    ----------
    method, labeled, seed
        Method, number of labels and random seed.
    run
        Its run folder.
    iterations, seconds
        Number of iterations and training time.
    peak_memory_gb
        Largest resident memory of its processes; None if the system does not report it.
    device
        The device it was trained on.
    models
        Number of models that were trained to the end and predict together.
    published, own
        One row per case by the literature's protocol (distances in voxels) and by ours (in mm).
    """

    method: str
    labeled: int
    seed: int
    run: RunFolder
    iterations: int
    seconds: float
    peak_memory_gb: float | None
    device: str
    models: int
    published: list[EvaluatedCase]
    own: list[EvaluatedCase]


def compare(
    cohort: Path,
    output: Path,
    plan: Plan,
    *,
    device: str = "auto",
    listeners: Sequence[Listener] = (),
    should_stop: Callable[[], bool] = lambda: False,
) -> Path | None:
    """Train each method for the same time, evaluate it on the validation cases, and write one page.

    Each training is a separate process, so that its memory can be measured and does not affect the next one. Trainings
    that are finished in the output folder are not repeated; interrupted ones are resumed.

    Parameters
    ----------
    cohort
        Cohort file with validation cases. They are neither trained on nor used to choose a checkpoint.
    output
        Folder for the runs and the page.
    plan
        What is compared.
    device
        ``auto``, ``cuda``, ``mps`` or ``cpu``.
    listeners
        Called with the events of each training, with ``comparing`` (done, of, and the next training), and with
        ``stopped`` (done, of) at a stop.
    should_stop
        Called repeatedly; if it returns true, the current training saves and the comparison ends.

    Returns
    -------
    Path or None
        The page; None if the comparison was stopped.

    Raises
    ------
    InputError
        With all problems, before anything is trained; also for a run in the folder that was made in another way.
    TrainingError
        If a training fails.
    """
    events = EventLog(None, *listeners)
    with events.telling_failure():
        members = load_cohort(cohort)
        problems = plan.problems(members)
        if problems:
            raise InputError(problems)
        settings = preset(plan.preset).with_text(plan.changes)
        choose_device(device, settings.precision)
        wanted = [(m, n, s) for n in plan.labeled for s in plan.seeds for m in plan.methods]
        problems = [p for which in wanted for p in _problems_of_kept(_run_folder(output, *which), members, plan, which)]
        if problems:
            raise InputError(problems)
        for number, (method, labeled, seed) in enumerate(wanted):
            run = _run_folder(output, method, labeled, seed)
            trained = False
            if not should_stop():
                events.emit("comparing", done=number, of=len(wanted), method=method, labeled=labeled, seed=seed)
                trained = _train(run, members, plan, (method, labeled, seed), device, events, should_stop)
            if not trained or should_stop():
                events.emit("stopped", done=number, of=len(wanted))
                return None
            _evaluate(run, device)
        page = write_comparison_page(output / "comparison.html", read_trained(output, plan), members, plan)
        events.emit("comparing", done=len(wanted), of=len(wanted))
    return page


def read_trained(output: Path, plan: Plan) -> list[Trained]:
    """The trainings of a finished comparison, with their metrics."""
    return [_read(output, m, n, s) for n in plan.labeled for s in plan.seeds for m in plan.methods]


def _run_folder(output: Path, method: str, labeled: int, seed: int) -> RunFolder:
    return RunFolder(output / f"{method}-{labeled}-seed{seed}")


def _wanted(plan: Plan, which: tuple[str, int, int]) -> dict[str, Any]:
    models = preset(plan.preset).with_text(plan.changes).committee
    length = [plan.minutes, plan.iterations]
    return {"plan": [plan.preset, list(plan.changes), *length], "method": list(which), "committee": models}


def _kept(run: RunFolder) -> dict[str, Any] | None:
    """The note of a training that has begun; None if there is none."""
    note = run.path / _RESULT
    try:
        content = json.loads(note.read_text("utf-8"))
        whole = isinstance(content["wanted"], dict) and {"complete", "peak_memory_gb"} <= set(content)
        for row in (*content.get("published", ()), *content.get("own", ())):
            _row(row)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise InputError(
            Problem(
                run.path.name,
                f"Wanted the note of a training in {_RESULT}, found a damaged file.",
                "Restore it from a backup, or remove this folder to repeat the training.",
            )
        )
    return dict(content)


def _problems_of_kept(run: RunFolder, members: Cohort, plan: Plan, which: tuple[str, int, int]) -> Iterator[Problem]:
    """Problems if the folder holds a run other than the wanted one."""
    kept = _kept(run)
    if kept is None:
        return
    # Older notes do not have the number of models, which was one.
    if {"committee": 1, **kept["wanted"]} != _wanted(plan, which):
        cause = "The run in this folder was made with other settings or for another time."
        yield Problem(run.path.name, cause, "Give another --output, or the settings it was made with.")
    # Older notes do not have this digest; and a run without a checkpoint starts from the beginning.
    begun = kept["complete"] or run.last_checkpoint.exists()
    if begun and kept.get("files") not in (None, _digest(members.take_labeled(which[1]))):
        cause = "The cohort, or a file of it, has changed since the run in this folder was made."
        yield Problem(run.path.name, cause, "Give another --output, or the cohort it was made with.")


def _train(
    run: RunFolder,
    members: Cohort,
    plan: Plan,
    which: tuple[str, int, int],
    device: str,
    events: EventLog,
    should_stop: Callable[[], bool],
) -> bool:
    """Train in a child process unless that is done already; returns whether the training is complete."""
    method, labeled, seed = which
    members = members.take_labeled(labeled)
    note = run.path / _RESULT
    kept = _kept(run)
    if kept is not None and kept["complete"]:
        return True
    length = ["--minutes", f"{plan.minutes:g}"] if plan.minutes is not None else ["--iterations", f"{plan.iterations}"]
    arguments = ["--run", str(run.path.absolute())]
    if run.last_checkpoint.exists():
        arguments += ["--resume"]
    else:
        cohort = run.path.parent / f"{run.path.name}.cohort.json"
        save_cohort(members, cohort)
        arguments += ["--cohort", str(cohort.absolute()), "--preset", plan.preset, "--method", method]
        arguments += ["--seed", str(seed), *length]
        arguments += ["--set", *plan.changes] if plan.changes else []
    run.path.mkdir(parents=True, exist_ok=True)
    memory = kept["peak_memory_gb"] if kept is not None else None
    content: dict[str, Any] = {"wanted": _wanted(plan, which), "files": _digest(members)}
    if kept is not None and run.last_checkpoint.exists():
        content["files"] = kept.get("files")
    write_json_atomically(note, {**content, "complete": False, "peak_memory_gb": memory})
    complete, peak = _child([*arguments, "--device", device], run, events, should_stop)
    peaks = [value for value in (memory, peak) if value is not None]
    memory = max(peaks) if peaks else None
    write_json_atomically(note, {**content, "complete": complete, "peak_memory_gb": memory})
    return complete


def _digest(members: Cohort) -> str:
    """A hash that changes with the cohort: ids, roles, sizes of the scans, and the content of the labels.

    Without the files' times, which a copy on another disk may not have kept.
    """

    def of_scan(file: Path) -> int | None:
        return file.stat().st_size if file.is_file() else None

    def of_label(file: Path | None) -> str | None:
        return hashlib.sha256(file.read_bytes()).hexdigest() if file is not None and file.is_file() else None

    def of(case: Case) -> list[Any]:
        return [case.id, case.segment, of_scan(case.image), of_label(case.label)]

    roles = {"labeled": members.labeled, "unlabeled": members.unlabeled, "validation": members.validation}
    content = {role: sorted(map(of, cases), key=lambda entry: str(entry[0])) for role, cases in roles.items()}
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _child(
    arguments: list[str], run: RunFolder, events: EventLog, should_stop: Callable[[], bool]
) -> tuple[bool, float | None]:
    """Run the verb `train` in a process; returns whether it reached its end, and its peak memory in GB.

    Raises
    ------
    TrainingError
        With the child's own message, if it failed.
    """
    complete, failure, asked = False, "", False
    peak: float | None = None
    run.remove_late_stop()
    with start_training(arguments) as process:
        assert process.stdout is not None
        for line in process.stdout:
            record = event_in(line)
            if record is None:
                continue
            # Measured at each event, since the processes that it has started have ended by its last event.
            peak = max(filter(None, (peak, _high_water_gb(process.pid))), default=None)
            # Raised below. A failure before the run folder exists is in no file, so it is taken from this event.
            if record["event"] == "failed":
                failure = str(record["message"])
                continue
            if record["event"] == "finished":
                complete = record["complete"]
            events.emit(record.pop("event"), **record)
            if not asked and should_stop():
                # Only once: a leftover file would stop the training that is resumed later.
                asked = True
                run.stop_file.touch()
        waited = _peak_memory_gb(process)
        peak = waited if peak is None else peak
    if asked:
        run.stop_file.unlink(missing_ok=True)
    if failure or not (complete or should_stop()):
        raise TrainingError(f"{run.path.name}: {failure or 'The training ended without giving a reason.'}")
    return complete, peak


def _high_water_gb(process: int) -> float | None:
    """The peak memory of a running process and its children in GB; None if the system does not record it.

    Linux's figure for an ended process would include its parent's memory at the time of the start.
    """
    try:
        status = Path(f"/proc/{process}/status").read_text("utf-8")
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)
    if found is None:
        return None
    others: list[str] = []
    # Not every Linux lists the children of a process.
    with suppress(OSError):
        others = Path(f"/proc/{process}/task/{process}/children").read_text("utf-8").split()
    return int(found[1]) / _KIBIBYTES_A_GIGABYTE + sum(_high_water_gb(int(other)) or 0.0 for other in others)


def _peak_memory_gb(process: subprocess.Popen[str]) -> float | None:
    """Wait for a process and return its peak memory in GB as the system reports it."""
    if not hasattr(os, "wait4"):
        process.wait()
        return None
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    # macOS counts bytes, Linux kibibytes.
    return usage.ru_maxrss / (1e9 if sys.platform == "darwin" else _KIBIBYTES_A_GIGABYTE)


def _evaluate(run: RunFolder, device: str) -> None:
    """Add the metrics of a finished training to its note, unless they are there already."""
    note = run.path / _RESULT
    kept = _kept(run) or {}
    if "published" in kept:
        return
    members = load_cohort(run.cohort).validation
    model = load_model(run.last_checkpoint)
    place = device_for_model(device, model.settings.precision)
    scans = [(case.id, case.image) for case in members]
    predict(run.last_checkpoint, scans, run.predictions, figures=False, overwrite=True, device=device)
    own = evaluate(Cohort((), (), members), run.predictions, network=model.predictor)
    published = evaluate_as_published(model, members, place)
    kept |= {"own": [asdict(row) for row in own], "published": [asdict(row) for row in published]}
    write_json_atomically(note, kept)


def _read(output: Path, method: str, labeled: int, seed: int) -> Trained:
    run = _run_folder(output, method, labeled, seed)
    kept = _kept(run) or {}
    events = read_events(run.events)
    ended = [e for e in events if e["event"] == "finished" and e["complete"]]
    started = [e for e in events if e["event"] == "started"]
    if not (kept and ended and started):
        raise InputError(
            Problem(
                run.path.name,
                "Its events.jsonl does not say how the training ended.",
                "Remove this folder to repeat the training.",
            )
        )
    finished = ended[-1]
    return Trained(
        method,
        labeled,
        seed,
        run,
        finished["iteration"],
        finished["elapsed_seconds"],
        kept["peak_memory_gb"],
        started[-1]["device"],
        # Older events do not have the number of models, which was one.
        finished.get("committee", 1),
        [_row(row) for row in kept["published"]],
        [_row(row) for row in kept["own"]],
    )


def _row(content: dict[str, Any]) -> EvaluatedCase:
    return EvaluatedCase(**{**content, "metrics": Metrics(**content["metrics"])})
