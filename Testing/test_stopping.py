"""Asking a run to end: by file, by signal, by the death of its parent."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from LASegColearnLib.checkpoints import load_checkpoint
from LASegColearnLib.phantom import write_phantom_cohort
from LASegColearnLib.run_folder import RunFolder
from LASegColearnLib.stopping import StopRequest, is_alive

ENGINE = Path(__file__).parents[1] / "LASegColearn"


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


def test_a_disk_that_does_not_answer_has_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(self: Path, **_options: object) -> bool:
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "exists", stale)
        stop = StopRequest(tmp_path / "stop")
        assert not stop()
    (tmp_path / "stop").touch()
    time.sleep(0.3)
    assert stop()


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send itself these signals")
def test_the_first_signal_asks_and_the_second_ends() -> None:
    stop = StopRequest()
    with stop.on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
def test_the_terminals_end_asks_however_often_it_is_told() -> None:
    earlier = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        stop = StopRequest()
        with stop.on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop()
            for number in (signal.SIGTERM, signal.SIGHUP):
                os.kill(os.getpid(), number)
    finally:
        signal.signal(signal.SIGHUP, earlier)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
def test_what_is_written_into_a_pipe_that_ends_with_the_terminal_is_lost_and_does_not_fail(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from LASegColearnLib.stopping import StopRequest\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "stop = StopRequest()\n"
        "with stop.on_signals():\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    assert stop()\n"
        "    sys.stderr.write('lost')\n"
        "    sys.stderr.flush()\n"
        "    open(sys.argv[1], 'w').close()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "reached")]
    read, written = os.pipe()
    os.close(read)
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ENGINE)}, stdout=written, stderr=written, timeout=60)
    os.close(written)
    assert (tmp_path / "reached").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal")
def test_the_terminals_end_is_passed_over_under_nohup() -> None:
    stop = StopRequest()
    earlier = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop.on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop()
    finally:
        signal.signal(signal.SIGHUP, earlier)


@pytest.mark.skipif(sys.platform != "linux", reason="How a terminal ends differs between systems")
def test_a_training_whose_terminal_ends_is_saved(tmp_path: Path) -> None:
    import pty

    phantoms = write_phantom_cohort(tmp_path / "phantoms", labeled=2, unlabeled=2)
    run = RunFolder(tmp_path / "run")
    settings = ("spacing_mm=5,5,5", "patch_size=16,16,16", "filters=2", "validations=0")
    process, terminal = pty.fork()
    if process == 0:
        # The tests themselves may have been started with nohup.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        arguments = ("train", "--cohort", str(phantoms), "--run", str(run.path), "--device", "cpu", "--minutes", "5")
        os.execve(
            sys.executable,
            [sys.executable, "-m", "LASegColearnLib", *arguments, "--set", *settings],
            {**os.environ, "PYTHONPATH": str(ENGINE)},
        )
    try:
        deadline = time.monotonic() + 120
        while not (run.events.exists() and '"progress"' in run.events.read_text("utf-8")):
            assert time.monotonic() < deadline, "It does not train."
            if select.select([terminal], [], [], 0.1)[0]:
                os.read(terminal, 65536)
        os.close(terminal)
        while (ended := os.waitpid(process, os.WNOHANG)) == (0, 0):
            assert time.monotonic() < deadline, "It does not end."
            time.sleep(0.1)
    finally:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    last = json.loads(run.events.read_text("utf-8").splitlines()[-1])
    assert (last["event"], last["complete"]) == ("finished", False)
    assert load_checkpoint(run.last_checkpoint)["iteration"] == last["iteration"] > 0
    assert os.waitstatus_to_exitcode(ended[1]) == 1
    assert not run.log.exists()


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
