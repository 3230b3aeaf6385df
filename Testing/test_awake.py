"""A training's time is that in which the computer is awake; it is kept awake where the system would not."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from LASegColearnLib import awake
from LASegColearnLib.awake import awake_seconds, kept_awake


class _Kernel:
    """What is used of Windows' kernel32."""

    def __init__(self, counts: bool = True) -> None:
        self.counts = counts
        self.asked: list[int] = []

    def QueryUnbiasedInterruptTime(self, counted: Any) -> int:
        counted._obj.value = 25_000_000
        return int(self.counts)

    def SetThreadExecutionState(self, state: int) -> int:
        self.asked.append(state)
        return 0x80000000


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> _Kernel:
    kernel = _Kernel()
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    return kernel


def test_on_windows_it_is_the_clock_that_stands_still_in_sleep(kernel: _Kernel) -> None:
    assert awake_seconds() == 2.5
    kernel.counts = False
    assert abs(awake_seconds() - time.monotonic()) < 1


def test_elsewhere_it_is_the_monotonic_clock() -> None:
    assert abs(awake_seconds() - time.monotonic()) < 1


def test_windows_is_asked_to_stay_awake_and_told_when_it_need_not(kernel: _Kernel) -> None:
    def fails() -> None:
        with kept_awake():
            assert kernel.asked == [0x80000001]
            raise ValueError

    with pytest.raises(ValueError):
        fails()
    assert kernel.asked == [0x80000001, 0x80000000]


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_a_mac_is_kept_awake_by_its_program_for_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "caffeinate"
    program.write_text(f"#!/bin/sh\necho $@ > {tmp_path}/asked\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(awake, "_CAFFEINATE", program)
    kept: list[subprocess.Popen[str]] = []
    start = subprocess.Popen

    def started(*arguments: Any, **options: Any) -> subprocess.Popen[str]:
        kept.append(start(*arguments, **options))
        return kept[-1]

    monkeypatch.setattr(subprocess, "Popen", started)
    with kept_awake():
        assert kept[0].poll() is None
        assert kept[0].args[1:3] == ["-i", "-w"]
    assert kept[0].poll() is not None
    # Without the program a training goes on all the same.
    monkeypatch.setattr(awake, "_CAFFEINATE", tmp_path / "none")
    with kept_awake():
        assert len(kept) == 1
