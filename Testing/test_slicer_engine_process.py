"""The Slicer side's child process is the real engine: it is heard, stopped, ended with its children, and resumed."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from LASegColearnLib.checkpoints import load_checkpoint
from LASegColearnLib.phantom import write_phantom_cohort
from LASegColearnLib.stopping import is_alive
from LASegColearnSlicer.engine_process import EngineOutcome, EngineProcess, EngineState

pytestmark = pytest.mark.skipif(os.name == "nt", reason="The launcher that these tests mimic is a shell script.")
SMALL = ["--set", "spacing_mm=5,5,5", "patch_size=16,16,16", "filters=2", "precision=float32"]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("Vorhöfe und mehr")
    return write_phantom_cohort(folder, labeled=2, unlabeled=2, validation=0, seed=3)


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PythonSlicer as Slicer has it: not the interpreter, but a program that starts it as its child and waits."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "PythonSlicer"
    script.write_text(
        f'#!/bin/sh\necho $$ > "{folder}/launcher"\n"{sys.executable}" "$@" &\necho $! > "{folder}/engine"\nwait $!\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return folder


class _Heard:
    """What a process told."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.outcomes: list[EngineOutcome] = []

    def names(self) -> list[str]:
        return [event["event"] for event in self.events]


def _training(cohort: Path, run: Path, *more: str, iterations: int = 3) -> tuple[EngineProcess, _Heard]:
    heard = _Heard()
    arguments = ["train", "--run", str(run), "--device", "cpu", "--iterations", str(iterations), *more]
    if "--resume" not in more:
        arguments += ["--cohort", str(cohort), *SMALL]
    process = EngineProcess(arguments, heard.events.append, heard.outcomes.append, stopFile=run / "stop")
    process.start()
    return process, heard


def _until(process: EngineProcess, heard: _Heard, event: str, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while event not in heard.names():
        assert time.monotonic() < until and process.isRunning, heard.outcomes
        process.poll()
        time.sleep(0.02)


def _endless(cohort: Path, run: Path, launcher: Path, event: str) -> tuple[EngineProcess, _Heard, int]:
    """A training that does not end by itself and has told the event, what it told, and the engine's process number."""
    process, heard = _training(cohort, run, iterations=100000)
    _until(process, heard, event)
    return process, heard, int((launcher / "engine").read_text())


def test_nothing_in_the_folder_that_slicer_was_started_in_is_run(
    cohort: Path, tmp_path: Path, launcher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "argparse.py").write_text("raise SystemExit('run from here')")
    monkeypatch.chdir(tmp_path)
    process, heard = _training(cohort, tmp_path / "run")
    assert process.wait(120)
    assert heard.outcomes[0].state is EngineState.FINISHED, heard.outcomes


def test_a_launcher_that_hands_on_ascii_alone_finds_files_of_any_name(
    cohort: Path, tmp_path: Path, launcher: Path
) -> None:
    """Slicer's on Windows, before 2026, made ? of other characters in arguments."""
    script = launcher / "PythonSlicer"
    ascii_alone = "\"{}\" -c \"import os, sys; a = [x.encode('ascii', 'replace').decode() for x in sys.argv[1:]]; "
    ascii_alone += 'os.execv(sys.executable, [sys.executable, *a])" "$@"'
    script.write_text("#!/bin/sh\nexec " + ascii_alone.format(sys.executable) + "\n")
    process, heard = _training(cohort, tmp_path / "Lauf für 100 % ł")
    assert process.wait(120)
    assert heard.outcomes[0].state is EngineState.FINISHED, heard.outcomes
    assert (tmp_path / "Lauf für 100 % ł" / "checkpoints" / "last.pt").exists()


def test_a_training_tells_its_events_and_finishes(cohort: Path, tmp_path: Path, launcher: Path) -> None:
    process, heard = _training(cohort, tmp_path / "run with spaces")
    assert process.wait(120)
    assert heard.outcomes == [EngineOutcome(EngineState.FINISHED, "", heard.outcomes[0].details)]
    assert heard.names()[0] == "preparing"
    assert heard.names()[-1] == "finished"


@pytest.mark.alone
def test_cancel_ends_launcher_and_engine_within_5_seconds_and_the_run_resumes(
    cohort: Path, tmp_path: Path, launcher: Path
) -> None:
    run = tmp_path / "run"
    process, heard, engine = _endless(cohort, run, launcher, "progress")
    assert is_alive(engine)
    started = time.monotonic()
    process.cancel()
    assert process.wait(5)
    assert time.monotonic() - started < 5
    assert heard.outcomes[0].state is EngineState.STOPPED
    assert not is_alive(engine)
    iteration = load_checkpoint(run / "checkpoints" / "last.pt")["iteration"]
    assert iteration > 0
    assert not (run / "stop").exists()
    again, more = _training(cohort, run, "--resume", iterations=iteration + 2)
    assert again.wait(120)
    assert again.state is EngineState.FINISHED
    assert more.events[-1]["iteration"] == iteration + 2


@pytest.mark.alone
def test_an_engine_that_does_not_listen_is_ended_with_its_launcher(
    cohort: Path, tmp_path: Path, launcher: Path
) -> None:
    run = tmp_path / "run"
    process, heard, engine = _endless(cohort, run, launcher, "started")
    os.kill(engine, signal.SIGSTOP)
    process.cancel(seconds=0.5)
    assert process.wait(5)
    assert heard.outcomes[0].state is EngineState.STOPPED
    until = time.monotonic() + 2
    while is_alive(engine) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_alive(engine)
    assert not (run / "stop").exists()


def test_an_engine_that_cannot_be_asked_is_ended(cohort: Path, tmp_path: Path, launcher: Path) -> None:
    """As on a share that is gone: the file that asks cannot be made, nor taken away."""
    process, heard, _ = _endless(cohort, tmp_path / "run", launcher, "started")
    (tmp_path / "file").touch()
    process._stopFile = tmp_path / "file" / "stop"
    process.askToStop()
    assert process.wait(20)
    assert [outcome.state for outcome in heard.outcomes] == [EngineState.STOPPED]


def test_clicking_cancel_again_gives_no_more_time(cohort: Path, tmp_path: Path, launcher: Path) -> None:
    process, heard, _ = _endless(cohort, tmp_path / "run", launcher, "started")
    process._stopFile = tmp_path / "nobody-looks-here"
    started = time.monotonic()
    while process.isRunning and time.monotonic() - started < 20:
        process.cancel(2.0)
        process.poll()
        time.sleep(0.05)
    assert heard.outcomes and time.monotonic() - started < 10


def test_an_engine_that_the_system_kills_is_a_failure_with_a_remedy(
    cohort: Path, tmp_path: Path, launcher: Path
) -> None:
    process, heard, engine = _endless(cohort, tmp_path / "run", launcher, "started")
    os.kill(engine, signal.SIGKILL)
    assert process.wait(10)
    assert heard.outcomes[0].state is EngineState.FAILED
    assert "because memory ran out" in heard.outcomes[0].message


def test_what_is_wrong_with_the_cohort_arrives_as_one_sentence(tmp_path: Path, launcher: Path) -> None:
    wrong = tmp_path / "cohort.json"
    wrong.write_text('{"labeled": [], "unlabeled": [], "validation": []}', encoding="utf-8")
    process, heard = _training(wrong, tmp_path / "run")
    assert process.wait(60)
    assert heard.outcomes[0].state is EngineState.FAILED
    assert "Wanted at least 2 labeled cases, found 0." in heard.outcomes[0].message
    assert "Traceback" not in heard.outcomes[0].message


class _TimerByHand:
    """Fires when it is told to."""

    def __init__(self) -> None:
        self.running = False

    def setInterval(self, milliseconds: int) -> None:
        self.interval = milliseconds

    def connect(self, signal: str, receiver: Any) -> None:
        assert signal == "timeout()"
        self.fire = receiver

    def disconnect(self, signal: str, receiver: Any) -> None:
        assert (signal, receiver) == ("timeout()", self.fire)
        del self.fire

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False


def test_a_process_that_has_ended_is_let_go_by_its_timer(launcher: Path) -> None:
    timer, heard = _TimerByHand(), _Heard()
    process = EngineProcess(["no such verb"], heard.events.append, heard.outcomes.append, timer=timer)
    process.start()
    assert process.wait(60)
    assert not timer.running
    assert not hasattr(timer, "fire"), "A timer that is connected keeps the process and its listeners."


def test_while_slicer_is_busy_the_timer_hands_nothing_on(launcher: Path) -> None:
    timer, heard = _TimerByHand(), _Heard()
    busy = [True]
    process = EngineProcess(
        ["no such verb"], heard.events.append, heard.outcomes.append, timer=timer, isBusy=lambda: busy[0]
    )
    process.start()
    process._process.wait(60)
    for _turn in range(3):
        timer.fire()
    assert process.isRunning and not heard.outcomes
    busy[0] = False
    until = time.monotonic() + 60
    while not heard.outcomes and time.monotonic() < until:
        timer.fire()
        time.sleep(0.02)
    assert [outcome.state for outcome in heard.outcomes] == [EngineState.FAILED]


@pytest.mark.alone
def test_a_flood_of_lines_never_holds_a_poll_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "PythonSlicer"
    line = '{"event": "progress", "iteration": 1}'
    script.write_text(f"#!/bin/sh\nyes '{line}' | head -n 200000\necho not an event\necho '{{half'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    timer, heard = _TimerByHand(), _Heard()
    process = EngineProcess(["train"], heard.events.append, heard.outcomes.append, timer=timer)
    process.start()
    longest = 0.0
    until = time.monotonic() + 60
    while timer.running and time.monotonic() < until:
        start = time.monotonic()
        timer.fire()
        longest = max(longest, time.monotonic() - start)
    assert len(heard.events) == 200000
    assert heard.outcomes == [EngineOutcome(EngineState.FINISHED, "", "not an event\n{half")]
    assert longest < 0.1
