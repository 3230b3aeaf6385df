"""The engine as a child process: start it, read its events, ask it to stop, end it with all its children."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from LASegColearnLib.child_process import event_in
from LASegColearnLib.quoting import QUOTED, quote

# Limit for one poll of the queue, so that a child that writes a lot never blocks Slicer's window.
_SECONDS_A_POLL = 0.01
_MILLISECONDS_BETWEEN_POLLS = 100
_LINES_KEPT = 200
# A cancelled child has at least this long to save.
SECONDS_TO_SAVE = 3.0


class EngineState(Enum):
    """The state of a child process."""

    RUNNING = "running"
    STOPPING = "stopping"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


class Timer(Protocol):
    """The methods of `qt.QTimer` that are used."""

    def setInterval(self, milliseconds: int) -> None: ...

    def connect(self, signal: str, receiver: Callable[[], None]) -> object: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class EngineTimer(Timer, Protocol):
    """A timer that can also be disconnected when the process has ended."""

    def disconnect(self, signal: str, receiver: Callable[[], None]) -> object: ...


@dataclass(frozen=True)
class EngineOutcome:
    """How a child process ended.

    Attributes
    ----------
    state
        ``FINISHED``, ``STOPPED`` (on request; it can be resumed later) or ``FAILED``.
    message
        A sentence for the user if it failed, otherwise empty.
    details
        The last lines of its output, for the Details button.
    """

    state: EngineState
    message: str
    details: str


class EngineProcess:
    """One verb of the engine in a child process that cannot block or crash Slicer.

    A thread reads the lines. :meth:`poll`, usually called by a timer, passes them on in the thread of its caller.

    Parameters
    ----------
    arguments
        As on the command line, with absolute paths. ``--events`` and ``--parent`` are added.
    onEvent
        Called with each event, a dictionary with ``"event"``.
    onDone
        Called once with the outcome.
    stopFile
        File that asks the verb to save and end (``<run>/stop``); without one, only :meth:`kill` ends it.
    timer
        Calls :meth:`poll` in the main thread; ``qt.QTimer()`` in Slicer, None if the caller polls itself.
    isBusy
        While this returns True, the timer does not poll.

    Examples
    --------
    >>> process = EngineProcess(["train", "--cohort", "cohort.json", "--run", "run"], print, print)  # doctest: +SKIP
    >>> process.start()  # doctest: +SKIP
    >>> process.wait()  # doctest: +SKIP
    """

    def __init__(
        self,
        arguments: Sequence[str],
        onEvent: Callable[[dict[str, Any]], None],
        onDone: Callable[[EngineOutcome], None],
        *,
        stopFile: Path | None = None,
        timer: EngineTimer | None = None,
        isBusy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._arguments = [str(argument) for argument in arguments]
        self._onEvent = onEvent
        self._onDone = onDone
        self._stopFile = stopFile
        self._timer = timer
        self._isBusy = isBusy
        self._lines: queue.SimpleQueue[str | int] = queue.SimpleQueue()
        self._last: deque[str] = deque(maxlen=_LINES_KEPT)
        self._failure = ""
        self._deadline: float | None = None
        self._process: subprocess.Popen[str] | None = None
        self.state = EngineState.RUNNING
        self.outcome: EngineOutcome | None = None

    def start(self) -> None:
        """Start the child. Raises OSError if the interpreter cannot be run."""
        arguments = [*self._arguments, "--events", f"--parent={os.getpid()}"]
        options: dict[str, Any]
        if sys.platform == "win32":
            options = {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
        else:
            options = {"start_new_session": True}
        self._process = subprocess.Popen(
            [*_interpreter(), "-u", "-m", "LASegColearnLib", QUOTED, *map(quote, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env=_environment(),
            # Python first looks for modules in the working directory, which may otherwise contain other people's files.
            cwd=engineFolder(),
            **options,
        )
        threading.Thread(target=_read, args=(self._process, self._lines), name="engine", daemon=True).start()
        if self._timer is not None:
            self._timer.setInterval(_MILLISECONDS_BETWEEN_POLLS)
            self._timer.connect("timeout()", self._pollUnlessBusy)
            self._timer.start()

    def poll(self) -> None:
        """Pass on new lines, for some milliseconds at most; end the child if its time to save is over."""
        until = time.monotonic() + _SECONDS_A_POLL
        while time.monotonic() < until and self.isRunning:
            try:
                item = self._lines.get_nowait()
            except queue.Empty:
                break
            if isinstance(item, int):
                self._end(item)
            else:
                self._take(item)
        if self.isRunning and self._deadline is not None and time.monotonic() >= self._deadline:
            self._deadline = None
            self.kill()

    def _pollUnlessBusy(self) -> None:
        if not self._isBusy():
            self.poll()

    def wait(self, seconds: float | None = None, idle: Callable[[], None] = lambda: None) -> bool:
        """Poll until the child has ended or the time is over; return whether it has ended.

        ``idle`` is called between the polls, so that a window can be redrawn.
        """
        until = None if seconds is None else time.monotonic() + seconds
        while self.isRunning and (until is None or time.monotonic() < until):
            self.poll()
            idle()
            time.sleep(0.02)
        return not self.isRunning

    @property
    def isRunning(self) -> bool:
        return self.state in (EngineState.RUNNING, EngineState.STOPPING)

    @property
    def canSave(self) -> bool:
        """Whether the child saves its work when it is asked to stop."""
        return self._stopFile is not None

    def askToStop(self) -> None:
        """Ask the child to save and end after the current iteration; it can be resumed."""
        if not self.isRunning:
            return
        self.state = EngineState.STOPPING
        if self._stopFile is not None:
            try:
                self._stopFile.parent.mkdir(parents=True, exist_ok=True)
                self._stopFile.touch()
            except OSError:
                # A child that cannot be asked to stop cannot save either.
                self._deadline = time.monotonic()

    def cancel(self, seconds: float = SECONDS_TO_SAVE) -> None:
        """Ask the child to save and end; after this time, counted from the first call, end it with all its children."""
        self.askToStop()
        if self._deadline is None:
            self._deadline = time.monotonic() + (seconds if self._stopFile is not None else 0.0)

    def kill(self) -> None:
        """End the child and all its children now. Files that the engine has saved stay intact."""
        if self._process is None or not self.isRunning:
            return
        self.state = EngineState.STOPPING
        if os.name == "nt":
            command = ["taskkill", "/PID", str(self._process.pid), "/T", "/F"]
            # Otherwise a console window would appear for a moment.
            hidden = getattr(subprocess, "CREATE_NO_WINDOW", 0)
            subprocess.run(command, capture_output=True, check=False, creationflags=hidden)
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def _take(self, line: str) -> None:
        event = event_in(line)
        if event is None:
            self._last.append(line)
            return
        if event["event"] == "failed":
            self._failure = str(event.get("message", ""))
        self._onEvent(event)

    def _end(self, code: int) -> None:
        if self._timer is not None:
            self._timer.stop()
            # The connection would keep this object and its listeners alive as long as Slicer runs.
            self._timer.disconnect("timeout()", self._pollUnlessBusy)
            self._timer = None
        if self._stopFile is not None:
            # The engine removes the file when it sees it, but not if it was killed. The disk may be disconnected.
            with suppress(OSError):
                self._stopFile.unlink(missing_ok=True)
        asked = self.state is EngineState.STOPPING
        if self._failure or (code != 0 and not asked):
            self.state, message = EngineState.FAILED, self._failure or _sentence(code)
        else:
            self.state, message = EngineState.STOPPED if asked else EngineState.FINISHED, ""
        self.outcome = EngineOutcome(self.state, message, "\n".join(self._last))
        self._onDone(self.outcome)


def engineFolder() -> Path:
    """The folder that contains the engine's package."""
    return Path(__file__).resolve().parent.parent


def _interpreter() -> list[str]:
    """Slicer's Python: a launcher, which starts the interpreter as its child."""
    return [shutil.which("PythonSlicer") or sys.executable]


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(engineFolder()), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"}


def _read(process: subprocess.Popen[str], lines: queue.SimpleQueue[str | int]) -> None:
    """Put each line into the queue, then the exit code; runs in a thread."""
    for line in process.stdout or ():
        lines.put(line.rstrip("\n"))
    lines.put(process.wait())


def _sentence(code: int) -> str:
    if os.name != "nt" and code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return (
            "The operating system ended the training, most likely because memory ran out. Close other programs and "
            "press Resume. Or, under Advanced, set committee to 1, batch_parts to 2, or fewer filters, and press Train."
        )
    return f"The engine ended unexpectedly (exit code {code}). Everything saved before is intact; see Details."
