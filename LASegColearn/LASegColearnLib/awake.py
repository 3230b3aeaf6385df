"""Keeps the computer awake during a training, and measures time without sleep."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# https://learn.microsoft.com/windows/win32/api/winbase/nf-winbase-setthreadexecutionstate
_CONTINUOUS, _SYSTEM_REQUIRED = 0x80000000, 0x00000001
# QueryUnbiasedInterruptTime counts in units of 100 ns.
_IN_A_SECOND = 10_000_000
_CAFFEINATE = Path("/usr/bin/caffeinate")


def awake_seconds() -> float:
    """Seconds since some moment, without the time in which the computer slept.

    `time.monotonic` is that on Linux and macOS. On Windows it advances while the computer sleeps, so that a training of
    an hour would be over when the computer wakes.
    """
    if sys.platform == "win32":
        import ctypes

        counted = ctypes.c_ulonglong()
        if ctypes.windll.kernel32.QueryUnbiasedInterruptTime(ctypes.byref(counted)):
            return counted.value / _IN_A_SECOND
    return time.monotonic()


@contextmanager
def kept_awake() -> Iterator[None]:
    """Within this block Windows and macOS do not put an idle computer to sleep; the screen may turn off.

    Closing the lid, an empty battery or the menu still do. On Linux it is left to the desktop.
    """
    if sys.platform == "win32":
        import ctypes

        ask = ctypes.windll.kernel32.SetThreadExecutionState
        ask(_CONTINUOUS | _SYSTEM_REQUIRED)
        try:
            yield
        finally:
            ask(_CONTINUOUS)
        return
    if sys.platform == "darwin" and _CAFFEINATE.exists():
        # caffeinate ends by itself when this process does.
        keeper = subprocess.Popen([str(_CAFFEINATE), "-i", "-w", str(os.getpid())])
        try:
            yield
        finally:
            keeper.terminate()
            keeper.wait()
        return
    yield
