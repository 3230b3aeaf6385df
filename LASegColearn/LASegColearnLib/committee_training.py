"""The further models of a committee: each is trained by a process of its own, at once with the run's first model."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from LASegColearnLib.cache_index import load_cache_index, save_cache_index
from LASegColearnLib.case_cache import CachedCase, stored_array
from LASegColearnLib.child_process import event_in, start_training
from LASegColearnLib.cohort import Cohort, save_cohort
from LASegColearnLib.device import Device
from LASegColearnLib.errors import InputError
from LASegColearnLib.events import EventLog
from LASegColearnLib.memory import memory_of_a_training, memory_of_the_computer
from LASegColearnLib.run_folder import RunFolder, replacing, write_json_atomically
from LASegColearnLib.run_lock import wait_until_free
from LASegColearnLib.settings import Settings
from LASegColearnLib.trainer import Trainer, TrainingCases

# A training that is asked to save does so after the iteration, or the scan, that it is at.
_SECONDS_TO_SAVE = 60.0
_ITERATIONS_TO_SAVE = 3.0
_SECONDS_BETWEEN_LOOKS = 0.1
_SECONDS_BETWEEN_EVENTS = 1.0
# One that has not made ready by then is gone on without, and catches up.
_SECONDS_TO_MAKE_READY = 300.0
_WITHOUT = "Its training did not finish, so the other models predict without it."
# Slicer and what else is open need the rest.
_SHARE_OF_MEMORY = 0.6
# The others' seeds are this far apart, so that those of a person's next seeds are not among them.
_BETWEEN_SEEDS = 1_000_003


def with_possible_committee(settings: Settings, device: Device, processes: int) -> tuple[Settings, list[str]]:
    """Settings with as many models as can be trained at once here, and what is to be said about it.

    Parameters
    ----------
    processes
        How many train together; they train one model.
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
    """Make a run of each further model in the run's folder, ready to be gone on with from its first iteration.

    They share the run's preprocessed scans, and differ from it in the seed. Only the run's own model is validated on
    its way.

    Parameters
    ----------
    cohort, cases
        What is trained and validated on, as the run has it.
    initial
        Checkpoint from which all of them go on; none to start anew.

    Raises
    ------
    InputError
        As :meth:`Trainer.start_from` does.
    """
    for number in range(2, settings.committee + 1):
        beside = run.trained_beside(number)
        beside.path.mkdir(parents=True, exist_ok=True)
        # One of a training that was killed would save over what is written now.
        wait_until_free(beside.path, _SECONDS_TO_SAVE)
        own = _settings_of(number, settings)
        write_json_atomically(beside.settings, own.to_dict())
        save_cohort(cohort, beside.cohort)
        trainer = Trainer(beside, own, _share(cases, beside), device, EventLog(None))
        if initial is not None:
            trainer.start_from(initial)
        trainer.save(beside.last_checkpoint)


def go_on_with_committee(run: RunFolder, settings: Settings, cases: TrainingCases) -> None:
    """Give the further models of a run that goes on its settings, which may have changed, and its prepared scans."""
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
        label = None if case.label_file is None else _linked(case.label_file, beside.cache)
        return replace(
            case, image_file=_linked(case.image_file, beside.cache), label_file=label, pseudo_label_file=None
        )

    shared = TrainingCases(
        [here(case) for case in cases.labeled],
        [here(case) for case in cases.unlabeled],
        [here(case) for case in cases.validation],
        cases.lineage,
    )
    save_cache_index(beside, shared)
    return shared


def _linked(file: Path, folder: Path) -> Path:
    """The same file in another folder of the disk, or a copy where the disk has no links."""
    target = folder / file.name
    if stored_array(target) is None:
        with replacing(target) as temporary:
            try:
                os.link(file, temporary)
            except OSError:
                shutil.copyfile(file, temporary)
    return target


class CommitteeTraining:
    """The further models' trainings, from the start of the block in which this is used to its end.

    Processes that still train at the end are asked to save, and waited for. On processors this process computes with
    its share of the threads while they train.

    Parameters
    ----------
    run
        The run, in whose folder :func:`prepare_committee` has made theirs.
    settings, device
        The run's; a committee of one is no further process.
    events
        Told what the others warn of, when this process looks.
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
        """Ask the trainings that go on to save, and return when all have ended."""
        for training in self._trainings:
            training.ask_to_stop()
        for training in self._trainings:
            training.end()
        # How those have ended that were asked to save.
        self._tell_news()

    def passing_on(self, should_stop: Callable[[], bool]) -> Callable[[], bool]:
        """The same question, which also asks the other trainings to stop, so that all save at once.

        Whenever it is asked, what the others warn of is told, and threads of those that have ended are taken back.
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
        """Return when all other trainings have made ready and train, when that takes too long, or at a stop."""
        until = time.monotonic() + _SECONDS_TO_MAKE_READY
        self._wait(lambda training: training.begun.is_set() or time.monotonic() > until, should_stop)

    def wait_until_ended(self, should_stop: Callable[[], bool]) -> bool:
        """Return when all other trainings have ended; whether none of them was stopped, by whomever, before its end."""
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
    """A process that trains a further model, and the thread that listens to it."""

    def __init__(self, number: int, run: RunFolder, arguments: Sequence[str], threads: int | None) -> None:
        self.number = number
        self.run = run
        self.complete = False
        # Whether it was asked to end before its end, by this process or, as by Ctrl-C in a terminal, at once with it.
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
            # One of a training that was killed, which saves before it ends.
            wait_until_free(run.path, _SECONDS_TO_SAVE)
            run.remove_late_stop()
            self._process = start_training(["--run", str(run.path.absolute()), *arguments], threads, quiet=True)
        except (OSError, InputError) as error:
            # As where rules of the machine forbid it, or it has no memory left for one.
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
                # What it says may name files, which no record keeps.
                self._news.put((str(event["message"]), "It gave a warning, told where the training was started."))
            elif event["event"] == "failed":
                failure = str(event["message"])
            elif event["event"] == "finished":
                self.complete = bool(event["complete"])
                self.stopped = not self.complete
        process.wait()
        self.stopped |= self._asked and not self.complete
        if failure:
            consequence = "It goes on from what it saved before." if self.stopped else _WITHOUT
            self._news.put((f"{failure} {consequence}", f"It failed. {consequence}"))
        elif not self.complete and not self.stopped:
            self._news.put((f"Its process ended without a word. {_WITHOUT}", None))
        self._end()

    def _end(self) -> None:
        # Who waits for the beginning of one that has ended would wait for ever.
        self.begun.set()
        self.ended.set()

    def news(self) -> Iterator[tuple[str, str | None]]:
        """What it has warned of since this was last asked, and what is recorded of it where that is something else."""
        while not self._news.empty():
            yield self._news.get()

    def ask_to_stop(self) -> None:
        """Ask it to save and end. One that has not begun has nothing to save, and is ended at once."""
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
        """Wait for the process, and end it if it takes longer than it should to save."""
        if self._process is None or self._listener is None:
            return
        try:
            self._process.wait(max(_SECONDS_TO_SAVE, _ITERATIONS_TO_SAVE * self._seconds_an_iteration))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._news.put(("It took too long to save and was ended. It goes on from what it saved before.", None))
        # Not for ever: what the process has started may hold its output open.
        self._listener.join(_SECONDS_TO_SAVE)
        with suppress(OSError):
            self.run.stop_file.unlink(missing_ok=True)
