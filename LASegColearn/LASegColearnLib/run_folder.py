"""The layout of a run folder, and atomic writing into it."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.settings import Settings

_Found = TypeVar("_Found")
_SECONDS_OF_PATIENCE = 2.0
_BYTES_OF_A_FULL_DISK = 1 << 20
_SECONDS_UNTIL_UNFINISHED = 3600.0
# Names of temporary files made by replacing().
_TEMPORARY = re.compile(r"\.[0-9a-f]{8}-.")


@contextmanager
def replacing(path: Path, patience: float = _SECONDS_OF_PATIENCE) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, and move it to ``path`` once the block has succeeded.

    The temporary name keeps the suffixes, since SimpleITK chooses the format by them. On Windows a file that another
    program reads cannot be replaced; it is tried again for ``patience`` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        yield temporary
        patiently(lambda: os.replace(temporary, path), patience)
    except (OSError, RuntimeError) as error:
        # PyTorch, NumPy and ITK report a full disk in different ways, and other refusals of the system not at all.
        if _is_full(path.parent):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        refusal = _refusal_to_write(path.parent) if getattr(error, "errno", None) is None else None
        if refusal is not None:
            raise refusal from error
        raise
    finally:
        # After a failure the file may still be open, so Windows does not remove it; remove_unfinished() does so later.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _BYTES_OF_A_FULL_DISK
    except OSError:
        return False


def _refusal_to_write(folder: Path) -> OSError | None:
    """The system's error if nothing more can be written here, for example because a quota is used up; else None."""
    probe = folder / f".{uuid.uuid4().hex[:8]}-probe"
    try:
        with probe.open("wb", buffering=0) as file:
            file.write(bytes(_BYTES_OF_A_FULL_DISK))
            os.fsync(file.fileno())
    except OSError as error:
        return error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return None


def patiently(change: Callable[[], _Found], patience: float = _SECONDS_OF_PATIENCE) -> _Found:
    """Replace, remove or read a file; retries for some seconds while Windows refuses since another program uses it."""
    until = time.monotonic() + patience
    while True:
        try:
            return change()
        except PermissionError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def write_text_atomically(path: Path, text: str) -> None:
    """Write UTF-8 ``text`` to ``path`` atomically, even if the power fails."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json_atomically(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON to ``path`` atomically."""
    write_text_atomically(path, json_text(value))


def json_text(value: Any) -> str:
    """``value`` as indented JSON, the format of all JSON files here."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class RunFolder:
    """The paths in a run folder; a run can be moved, zipped and resumed elsewhere.

    ```
    run/
      settings.json   cohort.json   events.jsonl   log.txt   metrics.csv   report.html
      predecessors.json   ids of the cases that its predecessors were trained on, if it was started with --init
      checkpoints/    last.pt, best.pt
      predictions/    one folder per case
      predictions-of-networks/   the same for each network, if they were compared
      judged/         segmentations and figures of a comparison with another run
      cache/          preprocessed scans, recreated if they are missing
      committee/      2/, 3/ and so on: the runs of the further models, trained at the same time
      stop            asks the training to save and end; the training removes it
    ```
    """

    path: Path

    @property
    def was_begun(self) -> bool:
        """Whether a training was begun in this folder; it writes its settings first."""
        try:
            Settings.read(self.settings)
        except (OSError, InputError):
            return False
        return True

    def remove_late_stop(self) -> None:
        """Remove a stop request that came only after the training had ended.

        Raises
        ------
        InputError
            If the file is something else: a stop request is empty, and is in a run folder or alone in a folder.
        """
        # With several processes, another one may be removing it.
        with suppress(OSError):
            if self.stop_file.stat().st_size or not (self.was_begun or set(self.path.iterdir()) <= {self.stop_file}):
                raise InputError(
                    Problem(
                        self.path.name,
                        "A file called stop lies in this folder, is not a run's and would be removed.",
                        "Rename it, or give a folder of its own for the run.",
                    )
                )
            self.stop_file.unlink()

    def remove_unfinished(self) -> None:
        """Remove temporary files that a killed process has left, if they are older than an hour.

        On a disk without locks another process may be using newer ones.
        """
        for folder in (self.checkpoints, self.cache):
            for file in folder.rglob(".*"):
                if _TEMPORARY.match(file.name):
                    with suppress(OSError):
                        if file.stat().st_mtime < time.time() - _SECONDS_UNTIL_UNFINISHED:
                            file.unlink()

    @property
    def settings(self) -> Path:
        return self.path / "settings.json"

    @property
    def cohort(self) -> Path:
        return self.path / "cohort.json"

    @property
    def predecessors(self) -> Path:
        """Ids of the cases that the run's predecessors have learned from; see :mod:`~LASegColearnLib.predecessors`."""
        return self.path / "predecessors.json"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def stop_file(self) -> Path:
        """When this file appears, the running training saves and ends."""
        return self.path / "stop"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        return self.checkpoints / "last.pt"

    @property
    def best_checkpoint(self) -> Path:
        return self.checkpoints / "best.pt"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions"

    def network_predictions(self, network: str) -> Path:
        """Folder of the segmentations by a network other than the predicting one."""
        return self.path / "predictions-of-networks" / network

    @property
    def cache(self) -> Path:
        return self.path / "cache"

    def other_caches(self) -> list[Path]:
        """The caches of the runs beside this one, such as those of earlier rounds, the last by name first."""
        found = []
        with suppress(OSError):
            for beside in sorted(self.path.absolute().parent.iterdir(), reverse=True):
                # A folder that may not be looked into, such as lost+found, does not hide the others.
                with suppress(OSError):
                    if beside.name != self.path.name and (beside / "cache").is_dir():
                        found.append(beside / "cache")
        return found

    @property
    def committee(self) -> Path:
        return self.path / "committee"

    def trained_beside(self, number: int) -> RunFolder:
        """The run of a further model (2, 3, ...) that is trained at the same time and predicts with this one."""
        return RunFolder(self.committee / str(number))

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def report(self) -> Path:
        return self.path / "report.html"
