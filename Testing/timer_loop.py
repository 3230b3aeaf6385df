"""An event loop with timers and nothing else: what `qt.QTimer` does for code that only needs timers, without Qt."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

_SECONDS_A_TURN = 0.001


class TimerLoop:
    """Fires its timers in the thread that lets it run.

    Parameters
    ----------
    holdLock
        Wait for the next timer as an application written in C++ may: without giving Python's lock to other threads.
        They only run while a timer's receiver lets them.
    """

    def __init__(self, holdLock: bool = False) -> None:
        # Calls through PyDLL keep the lock, others do not.
        self._sleep = _sleepWithLock if holdLock else time.sleep
        self._timers: list[LoopTimer] = []
        self.turns: list[float] = []

    def makeTimer(self) -> LoopTimer:
        timer = LoopTimer()
        self._timers.append(timer)
        return timer

    def run(self, until: Callable[[], bool], seconds: float = 10.0) -> bool:
        """Let timers fire until then or until the time is over; returns whether it was reached.

        The seconds that each firing took are added to :attr:`turns`.
        """
        end = time.perf_counter() + seconds
        while not until():
            if time.perf_counter() > end:
                return False
            for timer in self._timers:
                start = time.perf_counter()
                if timer.fire(start):
                    self.turns.append(time.perf_counter() - start)
            self._sleep(_SECONDS_A_TURN)
        return True


class LoopTimer:
    """A repeating timer; starting it anew starts its interval anew."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._due: float | None = None
        self._receiver: Callable[[], None] | None = None

    def setInterval(self, milliseconds: int) -> None:
        self._seconds = milliseconds / 1000

    def connect(self, signal: str, receiver: Callable[[], None]) -> bool:
        if signal != "timeout()" or self._receiver is not None:
            raise ValueError(f"Wanted one receiver of timeout(), found {signal}.")
        self._receiver = receiver
        return True

    def start(self) -> None:
        self._due = time.perf_counter() + self._seconds

    def stop(self) -> None:
        self._due = None

    def fire(self, now: float) -> bool:
        if self._due is None or now < self._due or self._receiver is None:
            return False
        self._due = now + self._seconds
        self._receiver()
        return True


def _sleepWithLock(seconds: float) -> None:
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
