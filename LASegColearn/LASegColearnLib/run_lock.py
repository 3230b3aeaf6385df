"""A lock, so that only one process at a time trains in a run folder."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from LASegColearnLib.errors import InputError, Problem

_NAME = ".lock"
_SECONDS_BETWEEN_LOOKS = 0.2


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Within this block no other process trains in the folder, which is created. The lock ends with this process.

    Raises
    ------
    InputError
        If another process is training there: each would replace the other's checkpoints.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _NAME).open("ab") as file:
        if _is_taken(file):
            raise InputError(
                Problem(
                    folder.name,
                    "Another process is training in this folder.",
                    "Wait for it, stop it, or give another folder.",
                )
            )
        yield


def wait_until_free(folder: Path, seconds: float) -> None:
    """Wait until no process trains in the folder, or the time is over. One whose parent was killed may still save."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with (folder / _NAME).open("ab") as file:
            if not _is_taken(file):
                return
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _is_taken(file: IO[bytes]) -> bool:
    """Whether another process has locked this file; if not, it is now locked until it is closed."""
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError as error:
            # Other errors mean a disk without locks, which is no reason not to train.
            return error.errno in (errno.EACCES, errno.EDEADLK)
        return False
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        # A disk without locks is no reason not to train.
        return False
    return False
