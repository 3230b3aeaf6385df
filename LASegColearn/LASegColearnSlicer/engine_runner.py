"""The running task of the engine for a study, and its listeners."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from LASegColearnLib.errors import InputError, Problem, sentence_for
from LASegColearnSlicer.engine_process import (
    SECONDS_TO_SAVE,
    EngineOutcome,
    EngineProcess,
    EngineState,
    EngineTimer,
)

OnEvent = Callable[[dict[str, Any]], None]
OnDone = Callable[[EngineOutcome], None]
# Slicer waits this long for its engine when it is closed.
_SECONDS_TO_CLOSE = 4.5


class EngineRunner:
    """Starts verbs of the engine, one at a time.

    Parameters
    ----------
    isBusy
        Whether a scene is being read: timers fire during Slicer's progress bar, but adding nodes then goes wrong.
    makeTimer
        Makes a timer that passes on the engine's events, ``qt.QTimer`` in Slicer. Without one, only waiting does.
    idle
        Called while waiting, so that Slicer stays responsive.
    """

    def __init__(
        self,
        isBusy: Callable[[], bool],
        makeTimer: Callable[[], EngineTimer] | None = None,
        idle: Callable[[], None] = lambda: None,
    ) -> None:
        self._isBusy = isBusy
        self._makeTimer = makeTimer
        self._idle = idle
        self._process: EngineProcess | None = None
        self._outcome: EngineOutcome | None = None
        self._listeners: list[Callable[[], None]] = []

    def onChanged(self, listener: Callable[[], None]) -> None:
        """Register a listener that is called whenever a task was started or has ended."""
        self._listeners.append(listener)

    @property
    def isRunning(self) -> bool:
        return self._process is not None and self._process.isRunning

    @property
    def canPause(self) -> bool:
        """Whether the running task can be paused: only a training that was not asked to stop yet."""
        return self._process is not None and self._process.state is EngineState.RUNNING and self._process.canSave

    def checkIdle(self) -> None:
        """Raise :class:`InputError` while a task runs."""
        if self.isRunning:
            raise InputError(Problem("Engine", "A task is still running.", "Cancel it or wait until it has ended."))

    def start(self, arguments: list[str], onEvent: OnEvent, onDone: OnDone, stopFile: Path | None = None) -> None:
        """Start a verb. Raises :class:`InputError` if Slicer's Python cannot be started."""
        self._process = self._engine(arguments, onEvent, onDone, stopFile)
        try:
            self._process.start()
        except OSError as error:
            self._process = None
            cause = "Slicer's Python cannot be started."
            raise InputError(Problem("Engine", cause, "Install Slicer again.")) from error
        self._notify()

    def probe(self, device: str, onEvent: OnEvent, onDone: OnDone) -> EngineProcess:
        """Ask a child process whether PyTorch works and which device it would use; also possible during a task."""
        process = self._engine(["device", "--device", device], onEvent, onDone)
        process.start()
        return process

    def end(self, onDone: OnDone | None, outcome: EngineOutcome) -> None:
        """Notify the caller and the listeners that a task has ended, including all tasks that it started."""
        self._outcome = outcome
        notify(onDone, outcome)
        self._notify()

    def awaited(self, wait: bool) -> EngineOutcome | None:
        """If ``wait``, wait for the task and return its outcome; otherwise return None immediately."""
        if not wait:
            return None
        self.wait()
        return self._outcome

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the task has ended or the time is over; return whether it has ended."""
        # One verb may start another when it ends.
        while self.isRunning:
            assert self._process is not None
            if not self._process.wait(seconds, self._idle):
                return False
        return True

    def pause(self) -> None:
        """Ask a training to save and stop after its iteration. Nothing else can be paused."""
        if self._process is not None and self.canPause:
            self._process.askToStop()

    def cancel(self, secondsAnIteration: float) -> None:
        """Ask the engine to save; end it and all its children after the time of three iterations, at least 3 s."""
        if self._process is not None:
            # The engine only checks for the request between iterations, which take long on a slow processor.
            self._process.cancel(max(SECONDS_TO_SAVE, 3.0 * secondsAnIteration))

    def close(self, secondsAnIteration: float) -> None:
        """Stop the running task, waiting less than 5 s; a training whose iteration takes longer saves later."""
        if self.isRunning:
            self.cancel(secondsAnIteration)
            self.wait(_SECONDS_TO_CLOSE)

    def _engine(
        self, arguments: list[str], onEvent: OnEvent, onDone: OnDone, stopFile: Path | None = None
    ) -> EngineProcess:
        timer = None if self._makeTimer is None else self._makeTimer()
        return EngineProcess(arguments, onEvent, onDone, stopFile=stopFile, timer=timer, isBusy=self._isBusy)

    def _notify(self) -> None:
        for listener in self._listeners:
            listener()


class FirstError:
    """Collects the first error while results are stored in the study, so that the task still ends and reports it."""

    def __init__(self) -> None:
        self._failure: str | None = None

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, (InputError, OSError)):
            return False
        self._failure = self._failure or sentence_for(error)
        return True

    def changed(self, outcome: EngineOutcome) -> EngineOutcome:
        """The outcome, failed if there was an error."""
        if self._failure is None or outcome.state is EngineState.FAILED:
            return outcome
        return EngineOutcome(EngineState.FAILED, self._failure, outcome.details)


def notify(listener: Callable[[Any], None] | None, value: Any) -> None:
    """Call a listener, if there is one."""
    if listener is not None:
        listener(value)
