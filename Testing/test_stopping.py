"""Asking a run to end: by file, by signal, by the death of its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from LASegColearnLib.stopping import StopRequest, is_alive


def test_the_stop_file_asks_once_and_is_removed(tmp_path: Path) -> None:
    stop = StopRequest(tmp_path / "stop")
    assert not stop()
    (tmp_path / "stop").touch()
    time.sleep(0.3)
    assert stop()
    assert not (tmp_path / "stop").exists()


def test_a_stop_file_that_cannot_be_removed_yet_asks_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "The process cannot access the file")

    (tmp_path / "stop").touch()
    monkeypatch.setattr(Path, "unlink", locked)
    assert StopRequest(tmp_path / "stop")()


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send itself these signals")
def test_the_first_signal_asks_and_the_second_ends() -> None:
    stop = StopRequest()
    with stop.on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)


def test_the_death_of_the_parent_asks() -> None:
    parent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    stop = StopRequest(parent=parent.pid)
    time.sleep(0.2)
    assert is_alive(parent.pid)
    assert not stop()
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while not stop() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert stop()
