"""The engine as a child process: started, listened to, asked to stop, ended with all its children."""

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

# What one look at the queue may take, so that Slicer's window never waits for a talkative child.
_SECONDS_A_POLL = 0.01
_MILLISECONDS_BETWEEN_POLLS = 100
_LINES_KEPT = 200
# What a child that is cancelled has at least.
SECONDS_TO_SAVE = 3.0


class EngineState(Enum):
    """Where a child process is in its life."""

    RUNNING = "running"
    STOPPING = "stopping"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


class Timer(Protocol):
    """What is used of `qt.QTimer`."""

    def setInterval(self, milliseconds: int) -> None: ...

    def connect(self, signal: str, receiver: Callable[[], None]) -> object: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class EngineTimer(Timer, Protocol):
    """What is used of it for a process that ends."""

    def disconnect(self, signal: str, receiver: Callable[[], None]) -> object: ...


@dataclass(frozen=True)
class EngineOutcome:
    """How a child process ended.

    Attributes
    ----------
    state
        ``FINISHED``, ``STOPPED`` (it was asked to, and can go on later) or ``FAILED``.
    message
        A sentence for the person where it failed, else empty.
    details
        The last lines of what it wrote, for the Details button.
    """

    state: EngineState
    message: str
    details: str


class EngineProcess:
    """One verb of the engine in a child process that cannot block or crash Slicer.

    Lines are read in a thread and handed on by :meth:`poll` in the thread that calls it, which a timer does.

    Parameters
    ----------
    arguments
        As on the command line, without ``--events`` and ``--parent``, which are added; paths are absolute.
    onEvent
        Called with each event, a dictionary with ``"event"``.
    onDone
        Called once with the outcome.
    stopFile
        File that asks the verb to save and end (``<run>/stop``); without one only :meth:`kill` ends it.
    timer
        Calls :meth:`poll` in the main thread; ``qt.QTimer()`` in Slicer, none for callers that poll themselves.
    isBusy
        While this is so, the timer hands nothing on.

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
            # Python looks for modules where it is started first, which may be a folder of somebody else's files.
            cwd=engineFolder(),
            **options,
        )
        threading.Thread(target=_read, args=(self._process, self._lines), name="engine", daemon=True).start()
        if self._timer is not None:
            self._timer.setInterval(_MILLISECONDS_BETWEEN_POLLS)
            self._timer.connect("timeout()", self._pollUnlessBusy)
            self._timer.start()

    def poll(self) -> None:
        """Hand on what has arrived since the last call, for some milliseconds at most; end what was given its time."""
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
        """Poll until the child has ended or the time is over; returns whether it has ended.

        ``idle`` is called between the polls, so that a window can be drawn meanwhile.
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
        """Whether the child saves what it has done when it is asked to stop."""
        return self._stopFile is not None

    def askToStop(self) -> None:
        """Ask the child to save and end after its iteration; it can be resumed."""
        if not self.isRunning:
            return
        self.state = EngineState.STOPPING
        if self._stopFile is not None:
            try:
                self._stopFile.parent.mkdir(parents=True, exist_ok=True)
                self._stopFile.touch()
            except OSError:
                # Where it cannot be asked it cannot save either.
                self._deadline = time.monotonic()

    def cancel(self, seconds: float = SECONDS_TO_SAVE) -> None:
        """Ask the child to save and end; so many seconds after the first time it is ended with all its children."""
        self.askToStop()
        if self._deadline is None:
            self._deadline = time.monotonic() + (seconds if self._stopFile is not None else 0.0)

    def kill(self) -> None:
        """End the child and all its children now. What the engine has saved stays whole."""
        if self._process is None or not self.isRunning:
            return
        self.state = EngineState.STOPPING
        if os.name == "nt":
            command = ["taskkill", "/PID", str(self._process.pid), "/T", "/F"]
            # Without a window of its own, which would show for a moment.
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
            # Its connection would keep this, and all that listens to it, as long as Slicer runs.
            self._timer.disconnect("timeout()", self._pollUnlessBusy)
            self._timer = None
        if self._stopFile is not None:
            # The engine removes it when it sees it; one that was killed has not. The disk may be gone.
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
    """The folder that the engine's package lies in."""
    return Path(__file__).resolve().parent.parent


def _interpreter() -> list[str]:
    """Slicer's Python; it is a launcher, whose child is the interpreter."""
    return [shutil.which("PythonSlicer") or sys.executable]


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(engineFolder()), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"}


def _read(process: subprocess.Popen[str], lines: queue.SimpleQueue[str | int]) -> None:
    """In a thread: each line, and the exit code as the last item."""
    for line in process.stdout or ():
        lines.put(line.rstrip("\n"))
    lines.put(process.wait())


def _sentence(code: int) -> str:
    if os.name != "nt" and code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return (
            "The operating system ended the training, most likely because memory ran out. Close other programs and "
            "press Resume; or set committee to 1, batch_parts to 2, or fewer filters, under Advanced and press Train."
        )
    return f"The engine ended unexpectedly (exit code {code}). Everything saved before is intact; see Details."
