"""Trains the further models of a committee, each in its own process, at the same time as the run's first model."""

from __future__ import annotations

import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any

import torch

from LASegColearnLib.cache_index import load_cache_index, save_cache_index
from LASegColearnLib.case_cache import CachedCase, linked
from LASegColearnLib.child_process import event_in, start_training
from LASegColearnLib.cohort import Cohort, save_cohort
from LASegColearnLib.device import Device
from LASegColearnLib.errors import InputError
from LASegColearnLib.events import EventLog
from LASegColearnLib.memory import memory_of_a_training, memory_of_the_computer
from LASegColearnLib.run_folder import RunFolder, write_json_atomically
from LASegColearnLib.run_lock import wait_until_free
from LASegColearnLib.settings import Settings
from LASegColearnLib.trainer import Trainer, TrainingCases

# A training that is asked to stop saves after its current iteration or scan.
_SECONDS_TO_SAVE = 60.0
_ITERATIONS_TO_SAVE = 3.0
_SECONDS_BETWEEN_LOOKS = 0.1
_SECONDS_BETWEEN_EVENTS = 1.0
# The run starts without a model that is not ready by then; that model catches up.
_SECONDS_TO_MAKE_READY = 300.0
_WITHOUT = "Its training did not finish, so the other models predict without it."
# Slicer and other programs need the rest.
_SHARE_OF_MEMORY = 0.6
# The seeds of the further models are this far apart, so that they do not coincide with the seeds 1, 2, ... of a user.
_BETWEEN_SEEDS = 1_000_003


def with_possible_committee(settings: Settings, device: Device, processes: int) -> tuple[Settings, list[str]]:
    """Settings with at most as many models as can be trained at the same time here, and messages about a change.

    Parameters
    ----------
    processes
        Number of processes that train together; several processes train a single model.
    """
    wanted = settings.committee
    if wanted == 1:
        return settings, []
    if processes > 1:
        return replace(settings, committee=1), [f"Several processes train one model together, instead of {wanted}."]
    if device.device.type != "cpu":
        return settings, []
    possible = {
        "each needs a processor core of its own": torch.get_num_threads(),
        "the computer's memory has room for no more": _models_that_memory_holds(settings),
    }
    why, models = min(possible.items(), key=lambda one: one[1])
    if models >= wanted:
        return settings, []
    count = f"{models} are" if models > 1 else "one is"
    return replace(settings, committee=models), [f"Of {wanted} models that predict together {count} trained: {why}."]


def _models_that_memory_holds(settings: Settings) -> int:
    there_is = memory_of_the_computer()
    if there_is is None:
        return settings.committee
    return max(1, int(_SHARE_OF_MEMORY * there_is / memory_of_a_training(settings)))


def prepare_committee(
    run: RunFolder,
    settings: Settings,
    cohort: Cohort,
    cases: TrainingCases,
    device: Device,
    initial: dict[str, Any] | None,
) -> None:
    """Create a run for each further model in the run's folder, with a checkpoint of its untrained state to resume from.

    These runs share the preprocessed scans of the main run and differ from it in the seed. Only the main run's model is
    validated during training.

    Parameters
    ----------
    cohort, cases
        The main run's cases.
    initial
        Checkpoint from which all models start, if any.

    Raises
    ------
    InputError
        As :meth:`Trainer.start_from` does.
    """
    for number in range(2, settings.committee + 1):
        beside = run.trained_beside(number)
        beside.path.mkdir(parents=True, exist_ok=True)
        # A process left from a training that was killed could still overwrite these files.
        wait_until_free(beside.path, _SECONDS_TO_SAVE)
        own = _settings_of(number, settings)
        write_json_atomically(beside.settings, own.to_dict())
        save_cohort(cohort, beside.cohort)
        trainer = Trainer(beside, own, _share(cases, beside), device, EventLog(None))
        if initial is not None:
            trainer.start_from(initial)
        trainer.save(beside.last_checkpoint)


def go_on_with_committee(run: RunFolder, settings: Settings, cases: TrainingCases) -> None:
    """Give the further models of a resumed run its settings, which may have changed, and its prepared scans."""
    for number in range(2, settings.committee + 1):
        beside = run.trained_beside(number)
        if not beside.last_checkpoint.exists():
            continue
        write_json_atomically(beside.settings, _settings_of(number, settings).to_dict())
        if load_cache_index(beside, {}) is None:
            _share(cases, beside)


def _settings_of(number: int, settings: Settings) -> Settings:
    seed = (settings.seed + (number - 1) * _BETWEEN_SEEDS) % (1 << 63)
    return replace(settings, committee=1, seed=seed, validations=0)


def _share(cases: TrainingCases, beside: RunFolder) -> TrainingCases:
    def here(case: CachedCase) -> CachedCase:
        label = None if case.label_file is None else linked(case.label_file, beside.cache)
        return replace(case, image_file=linked(case.image_file, beside.cache), label_file=label, pseudo_label_file=None)

    shared = TrainingCases(
        [here(case) for case in cases.labeled],
        [here(case) for case in cases.unlabeled],
        [here(case) for case in cases.validation],
        cases.lineage,
    )
    save_cache_index(beside, shared)
    return shared


class CommitteeTraining:
    """Context manager that runs the further models' trainings.

    Trainings that still run at the end of the block are asked to save, and awaited. On a CPU this process uses only its
    share of the threads while they run.

    Parameters
    ----------
    run
        The main run; :func:`prepare_committee` has created the others in its folder.
    settings, device
        The main run's; a committee of one starts no further process.
    events
        Receives the warnings of the other trainings whenever this process checks for them.
    """

    def __init__(self, run: RunFolder, settings: Settings, device: Device, events: EventLog) -> None:
        self._runs = {number: run.trained_beside(number) for number in range(2, settings.committee + 1)}
        self._events = events
        self._threads = torch.get_num_threads()
        self._divides = bool(self._runs) and device.device.type == "cpu"
        self._arguments = ["--resume", "--device", str(device.device)]
        self._trainings: list[_Training] = []

    def __enter__(self) -> CommitteeTraining:
        share = max(1, self._threads // (1 + len(self._runs))) if self._divides else None
        try:
            for number, run in self._runs.items():
                if run.last_checkpoint.exists():
                    self._trainings.append(_Training(number, run, self._arguments, share))
                else:
                    self._warn(number, "Its folder is not there, so it is not trained further.")
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        torch.set_num_threads(self._threads)
        self.end()

    def end(self) -> None:
        """Ask the running trainings to save, and return when all have ended."""
        for training in self._trainings:
            training.ask_to_stop()
        for training in self._trainings:
            training.end()
        # Report how the trainings that were asked to save have ended.
        self._tell_news()

    def passing_on(self, should_stop: Callable[[], bool]) -> Callable[[], bool]:
        """Wrap ``should_stop`` so that a stop is passed on to the other trainings and all save at the same time.

        Each call also reports the others' warnings, and takes over the threads of trainings that have ended.
        """

        def asked() -> bool:
            stop = should_stop()
            if stop:
                for training in self._trainings:
                    training.ask_to_stop()
            self._look()
            return stop

        return asked

    def wait_until_begun(self, should_stop: Callable[[], bool]) -> None:
        """Return when all other trainings have started, after a time limit, or at a stop."""
        until = time.monotonic() + _SECONDS_TO_MAKE_READY
        self._wait(lambda training: training.begun.is_set() or time.monotonic() > until, should_stop)

    def wait_until_ended(self, should_stop: Callable[[], bool]) -> bool:
        """Wait until all other trainings have ended; returns false if this or any of them was stopped early."""
        ended = self._wait(lambda training: training.ended.is_set(), should_stop)
        return ended and not any(training.stopped for training in self._trainings)

    def _wait(self, done: Callable[[_Training], bool], should_stop: Callable[[], bool]) -> bool:
        told = time.monotonic()
        while not all(done(training) for training in self._trainings):
            if should_stop():
                return False
            if time.monotonic() - told > _SECONDS_BETWEEN_EVENTS:
                told = time.monotonic()
                waited_for = [training for training in self._trainings if not done(training)]
                left = [one.seconds_left for one in waited_for if one.seconds_left is not None]
                models = [one.number for one in waited_for]
                self._events.emit("waiting", models=models, seconds_left=max(left, default=None))
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        self._look()
        return True

    @property
    def complete(self) -> list[RunFolder]:
        """The runs of the further models that were trained to their end."""
        return [training.run for training in self._trainings if training.complete]

    def _look(self) -> None:
        self._tell_news()
        if self._divides:
            at_work = 1 + sum(not training.ended.is_set() for training in self._trainings)
            threads = max(1, self._threads // at_work)
            if threads != torch.get_num_threads():
                torch.set_num_threads(threads)

    def _tell_news(self) -> None:
        for training in self._trainings:
            for message, recorded in training.news():
                self._warn(training.number, message, recorded)

    def _warn(self, number: int, message: str, recorded: str | None = None) -> None:
        where = f"Model {number} (committee/{number})"
        self._events.warn(f"{where}: {message}", f"{where}: {recorded or message}")


class _Training:
    """A process that trains a further model, and the thread that reads its events."""

    def __init__(self, number: int, run: RunFolder, arguments: Sequence[str], threads: int | None) -> None:
        self.number = number
        self.run = run
        self.complete = False
        # Whether it was stopped early, by this process or together with it, as by Ctrl-C in a terminal.
        self.stopped = False
        self.seconds_left: float | None = None
        self.begun = threading.Event()
        self.ended = threading.Event()
        self._news: queue.SimpleQueue[tuple[str, str | None]] = queue.SimpleQueue()
        self._asked = False
        self._seconds_an_iteration = 0.0
        self._process: subprocess.Popen[str] | None = None
        self._listener: threading.Thread | None = None
        try:
            # A process left from a training that was killed saves before it ends.
            wait_until_free(run.path, _SECONDS_TO_SAVE)
            run.remove_late_stop()
            self._process = start_training(["--run", str(run.path.absolute()), *arguments], threads, quiet=True)
        except (OSError, InputError) as error:
            # For example if a policy forbids new processes, or no memory is left for one.
            cause = error.strerror if isinstance(error, OSError) else str(error)
            self._news.put((f"Its process could not be started ({cause}). {_WITHOUT}", None))
            self._end()
            return
        self._listener = threading.Thread(
            target=self._listen, args=(self._process,), name=f"model {number}", daemon=True
        )
        self._listener.start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        failure = ""
        for line in process.stdout or ():
            event = event_in(line)
            if event is None:
                continue
            if event["event"] == "started":
                self.begun.set()
            elif event["event"] == "progress":
                self.seconds_left = event["seconds_left"]
                self._seconds_an_iteration = event["elapsed_seconds"] / max(event["iteration"], 1)
            elif event["event"] == "warning":
                # The message may name files, which must not be recorded.
                self._news.put((str(event["message"]), "It gave a warning, shown where the training was started."))
            elif event["event"] == "failed":
                failure = str(event["message"])
            elif event["event"] == "finished":
                self.complete = bool(event["complete"])
                self.stopped = not self.complete
        process.wait()
        self.stopped |= self._asked and not self.complete
        if failure:
            consequence = "It continues from what it saved before." if self.stopped else _WITHOUT
            self._news.put((f"{failure} {consequence}", f"It failed. {consequence}"))
        elif not self.complete and not self.stopped:
            self._news.put((f"Its process ended without giving a reason. {_WITHOUT}", None))
        self._end()

    def _end(self) -> None:
        # Also set `begun`, so that nobody waits for ever for a training that has ended before.
        self.begun.set()
        self.ended.set()

    def news(self) -> Iterator[tuple[str, str | None]]:
        """Its warnings since the last call, each with the text to record if that differs."""
        while not self._news.empty():
            yield self._news.get()

    def ask_to_stop(self) -> None:
        """Ask it to save and end. A training that has not begun has nothing to save and is ended at once."""
        if self._process is None or self._asked or self.ended.is_set():
            return
        self._asked = True
        if not self.begun.is_set():
            self._process.kill()
            return
        try:
            self.run.stop_file.touch()
        except OSError:
            self._process.terminate()

    def end(self) -> None:
        """Wait for the process, and kill it if saving takes too long."""
        if self._process is None or self._listener is None:
            return
        try:
            self._process.wait(max(_SECONDS_TO_SAVE, _ITERATIONS_TO_SAVE * self._seconds_an_iteration))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._news.put(("It took too long to save and was ended. It continues from what it saved before.", None))
        # With a time limit: a child of the process may keep its output open.
        self._listener.join(_SECONDS_TO_SAVE)
        with suppress(OSError):
            self.run.stop_file.unlink(missing_ok=True)
