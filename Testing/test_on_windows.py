"""What is different on Windows, with stand-ins for its functions."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from LASegColearnLib.cohort import Case, Cohort, load_cohort, save_cohort
from LASegColearnLib.errors import InputError
from LASegColearnLib.run_lock import alone_in
from LASegColearnLib.stopping import StopRequest, is_alive

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has the functions themselves.")


@pytest.fixture(autouse=True)
def _on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")


@pytest.mark.parametrize(("number", "refused"), [(errno.EACCES, True), (errno.EDEADLK, True), (errno.EINVAL, False)])
def test_a_disk_without_locks_is_trained_on(
    number: int, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locking(_descriptor: int, _mode: int, _count: int) -> None:
        raise OSError(number, "not locked")

    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    if refused:
        with pytest.raises(InputError, match="Another process is training"), alone_in(tmp_path):
            pass
    else:
        with alone_in(tmp_path):
            pass


@pytest.mark.parametrize(("last_error", "alive"), [(5, True), (87, False)])
def test_a_process_of_another_user_is_alive(last_error: int, alive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = SimpleNamespace(OpenProcess=lambda _access, _inherited, _process: 0)
    monkeypatch.setattr(ctypes, "WinDLL", lambda _name, use_last_error: kernel, raising=False)
    monkeypatch.setattr(ctypes, "get_last_error", lambda: last_error, raising=False)
    assert is_alive(4) == alive


def test_ctrl_break_saves_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    stop = StopRequest()
    with stop.on_signals():
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop()


def test_a_path_that_windows_would_not_find_through_a_linked_folder_is_kept_whole(tmp_path: Path) -> None:
    """A drive letter for a folder of a share, or a junction: Windows takes .. from its name."""
    folder = tmp_path.resolve()
    for place in ("scans", "server/study", "server/study/own"):
        (folder / place).mkdir(parents=True)
    (folder / "study").symlink_to(folder / "server" / "study")
    beside, within = folder / "server" / "a.nrrd", folder / "server" / "study" / "own" / "b.nrrd"
    for file in (beside, within):
        file.touch()
    save_cohort(Cohort((), (Case("a", beside), Case("b", within)), ()), folder / "study" / "cohort.json")
    read = load_cohort(folder / "study" / "cohort.json").unlabeled
    assert read[0].image == beside
    assert (folder / "study" / "cohort.json").read_text("utf-8").count('"own/b.nrrd"') == 1
