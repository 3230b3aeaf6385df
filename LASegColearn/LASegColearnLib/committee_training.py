"""The further models of a committee: each is trained by a process of its own, at once with the run's first model."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from LASegColearnLib.cache_index import save_cache_index
from LASegColearnLib.case_cache import CachedCase
from LASegColearnLib.child_process import event_in, start_training
from LASegColearnLib.cohort import Cohort, save_cohort
from LASegColearnLib.device import Device
from LASegColearnLib.events import EventLog
from LASegColearnLib.run_folder import RunFolder, replacing, write_json_atomically
from LASegColearnLib.settings import Settings
from LASegColearnLib.trainer import Trainer, TrainingCases

# A training that is asked to save does so after the iteration, or the scan, that it is at.
_SECONDS_TO_SAVE = 60.0
_SECONDS_BETWEEN_LOOKS = 0.1


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
    threads = torch.get_num_threads()
    if device.device.type != "cpu" or threads >= wanted:
        return settings, []
    count = f"{threads} are" if threads > 1 else "one is"
    return replace(settings, committee=threads), [
        f"Of {wanted} models that predict together {count} trained: each needs a processor core of its own."
    ]


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
        own = replace(settings, committee=1, seed=(settings.seed + number - 1) % (1 << 63), validations=0)
        write_json_atomically(beside.settings, own.to_dict())
        save_cohort(cohort, beside.cohort)
        shared = _shared(cases, beside.cache)
        save_cache_index(beside, shared)
        trainer = Trainer(beside, own, shared, device, EventLog(None))
        if initial is not None:
            trainer.start_from(initial)
        trainer.save(beside.last_checkpoint)


def _shared(cases: TrainingCases, cache: Path) -> TrainingCases:
    def here(case: CachedCase) -> CachedCase:
        label = None if case.label_file is None else _linked(case.label_file, cache)
        return replace(case, image_file=_linked(case.image_file, cache), label_file=label)

    return TrainingCases(
        [here(case) for case in cases.labeled],
        [here(case) for case in cases.unlabeled],
        [here(case) for case in cases.validation],
        cases.lineage,
    )


def _linked(file: Path, folder: Path) -> Path:
    """The same file in another folder of the disk, or a copy where the disk has no links."""
    target = folder / file.name
    if not target.exists():
        with replacing(target) as temporary:
            try:
                os.link(file, temporary)
            except OSError:
                shutil.copyfile(file, temporary)
    return target


class CommitteeTraining:
    """The further models' trainings, from the start of the block in which this is used to its end.

    Processes that still train at the end are asked to save, and waited for. On processors this process computes with
    its share of the threads within the block.

    Parameters
    ----------
    run
        The run, in whose folder :func:`prepare_committee` has made theirs.
    settings, device
        The run's; a committee of one is no further process.
    changes
        Arguments of the verb `train` besides: another length, or other settings, of the whole.
    """

    def __init__(self, run: RunFolder, settings: Settings, device: Device, changes: Sequence[str] = ()) -> None:
        self._runs = {number: run.trained_beside(number) for number in range(2, settings.committee + 1)}
        self._threads = torch.get_num_threads()
        self._share: int | None = None
        if self._runs and device.device.type == "cpu":
            self._share = max(1, self._threads // settings.committee)
        self._arguments = ["--resume", "--device", str(device.device), *changes]
        self._trainings: dict[int, _Training] = {}

    def __enter__(self) -> CommitteeTraining:
        for number, run in self._runs.items():
            if run.last_checkpoint.exists():
                self._trainings[number] = _Training(run, self._arguments, self._share)
        if self._share is not None:
            torch.set_num_threads(self._share)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        torch.set_num_threads(self._threads)
        self._ask_to_stop()
        for training in self._trainings.values():
            training.end(_SECONDS_TO_SAVE)

    def passing_on(self, should_stop: Callable[[], bool]) -> Callable[[], bool]:
        """The same question, which also asks the other trainings to stop, so that all save at once."""

        def asked() -> bool:
            stop = should_stop()
            if stop:
                self._ask_to_stop()
            return stop

        return asked

    def wait_until_begun(self, should_stop: Callable[[], bool]) -> None:
        """Return when all other trainings have made ready and train, or somebody asks to stop."""
        self._wait(lambda training: training.begun.is_set(), should_stop)

    def wait_until_ended(self, should_stop: Callable[[], bool]) -> bool:
        """Return when all other trainings have ended; whether nobody has asked to stop before that."""
        return self._wait(lambda training: training.ended.is_set(), should_stop)

    def _wait(self, done: Callable[[_Training], bool], should_stop: Callable[[], bool]) -> bool:
        while not all(done(training) for training in self._trainings.values()):
            if should_stop():
                return False
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        return True

    @property
    def complete(self) -> list[RunFolder]:
        """The runs of the further models that were trained to their end."""
        return [training.run for training in self._trainings.values() if training.complete]

    @property
    def problems(self) -> list[str]:
        """What is to be said of those that were not."""
        found = []
        for number, run in self._runs.items():
            training = self._trainings.get(number)
            if training is None:
                cause = "its folder is not there"
            elif not training.complete:
                cause = training.failure or "it ended without a word"
            else:
                continue
            where = f"{run.path.parent.name}/{run.path.name}"
            found.append(f"Model {number} ({where}) predicts nothing, the others do without it: {cause.rstrip('.')}.")
        return found

    def _ask_to_stop(self) -> None:
        for training in self._trainings.values():
            training.ask_to_stop()


class _Training:
    """A process that trains, and the thread that listens to it."""

    def __init__(self, run: RunFolder, arguments: Sequence[str], threads: int | None) -> None:
        self.run = run
        self.complete = False
        self.failure = ""
        self.begun = threading.Event()
        self.ended = threading.Event()
        self._asked = False
        self._process: subprocess.Popen[str] | None = None
        self._listener: threading.Thread | None = None
        # Of a run that was ended before it had seen it.
        run.stop_file.unlink(missing_ok=True)
        try:
            self._process = start_training(["--run", str(run.path.absolute()), *arguments], threads)
        except OSError as error:
            # As where rules of the machine forbid it, or it has no memory left for one.
            self.failure = f"its process could not be started ({error.strerror})"
            self._end()
            return
        self._listener = threading.Thread(
            target=self._listen, args=(self._process,), name=f"model {run.path.name}", daemon=True
        )
        self._listener.start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            event = event_in(line)
            if event is None:
                continue
            if event["event"] == "started":
                self.begun.set()
            elif event["event"] == "failed":
                self.failure = str(event["message"])
            elif event["event"] == "finished":
                self.complete = bool(event["complete"])
        process.wait()
        self._end()

    def _end(self) -> None:
        # Who waits for the beginning of one that has ended would wait for ever.
        self.begun.set()
        self.ended.set()

    def ask_to_stop(self) -> None:
        if not self._asked and not self.ended.is_set():
            self._asked = True
            self.run.stop_file.touch()

    def end(self, patience: float) -> None:
        """Wait for the process, and end it if that takes longer than so many seconds."""
        if self._process is None or self._listener is None:
            return
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._listener.join()
        with suppress(OSError):
            self.run.stop_file.unlink(missing_ok=True)
