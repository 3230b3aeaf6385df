"""Requests for a run to save and end: a signal, a file in its folder, or the end of the process that started it."""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

_SECONDS_BETWEEN_LOOKS = 1.0
# Standard output and standard error.
_OUTPUTS = (1, 2)


class Stopped(Exception):
    """A run was asked to stop before there was anything to save."""


class StopRequest:
    """Whether a run should save and end.

    Parameters
    ----------
    file
        The run ends when this file appears; it is then removed, so that the run can be resumed.
    parent
        Process id; the run ends when that process has ended. None: no process is watched.
    """

    def __init__(self, file: Path | None = None, parent: int | None = None) -> None:
        self._asked = threading.Event()
        self._file = file
        self._looked = 0.0
        if parent is not None:
            threading.Thread(target=self._watch, args=(parent, os.getppid()), name="parent", daemon=True).start()

    def ask(self) -> None:
        """Ask the run to end after its current iteration."""
        self._asked.set()

    def __call__(self) -> bool:
        now = time.monotonic()
        if self._file is not None and now - self._looked >= _SECONDS_BETWEEN_LOOKS / 4:
            self._looked = now
            # A network disk may fail to answer for a moment, which is not a stop request.
            with suppress(OSError):
                if self._file.exists():
                    self._asked.set()
                    # Windows refuses this while its writer or a virus scanner still has the file open.
                    self._file.unlink()
        return self._asked.is_set()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Within this block Ctrl-C, termination and closing the terminal request a stop; a second Ctrl-C ends at once.

        Closing the terminal, for example losing a connection to a server, is ignored if it was ignored before, as with
        nohup.
        """
        lost_with_terminal = [stream for stream in _OUTPUTS if _is_terminal_or_pipe(stream)]

        def handle(number: int, frame: FrameType | None) -> None:
            # The end of a session may send several signals at once, which count as one request.
            if number == signal.SIGINT and self._asked.is_set():
                raise KeyboardInterrupt
            self._asked.set()

        def hang_up(number: int, frame: FrameType | None) -> None:
            write_nowhere(lost_with_terminal)
            self._asked.set()

        handlers: dict[int, Callable[[int, FrameType | None], None]] = {signal.SIGINT: handle, signal.SIGTERM: handle}
        # Ctrl-Break on Windows, which has no SIGHUP.
        if sys.platform == "win32":
            handlers[signal.SIGBREAK] = handle
        if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            handlers[signal.SIGHUP] = hang_up
        earlier = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def _watch(self, parent: int, first_parent: int) -> None:
        while is_alive(parent) and (parent != first_parent or os.getppid() == first_parent):
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        self._asked.set()


def _is_terminal_or_pipe(stream: int) -> bool:
    """Whether the stream is a terminal or a pipe; the reader of a pipe, such as tee, ends with the terminal as well."""
    try:
        return os.isatty(stream) or stat.S_ISFIFO(os.fstat(stream).st_mode)
    except OSError:
        return False


def write_nowhere(streams: Iterable[int] = _OUTPUTS) -> None:
    """Discard further output to these file descriptors, which nobody reads any more, so that writing does not fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream)
    os.close(nowhere)


def is_alive(process: int) -> bool:
    """Whether a process with this id exists."""
    if sys.platform == "win32":
        import ctypes

        synchronize, still_running, access_denied = 0x00100000, 0x00000102, 5
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        handle = kernel.OpenProcess(synchronize, False, process)
        if not handle:
            # It belongs to another user, for example if the task scheduler started this process.
            return ctypes.get_last_error() == access_denied
        try:
            return bool(kernel.WaitForSingleObject(handle, 0) == still_running)
        finally:
            kernel.CloseHandle(handle)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
