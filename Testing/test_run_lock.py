"""Waiting for a run folder in which another process still trains."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import LASegColearnLib
from LASegColearnLib.run_lock import alone_in, wait_until_free

_HOLD = """
import sys
from pathlib import Path
from LASegColearnLib.run_lock import alone_in
with alone_in(Path(sys.argv[1])):
    print("in it", flush=True)
    sys.stdin.readline()
"""


def _process_in(folder: Path) -> subprocess.Popen[str]:
    """A process that stays alone in the folder until its input ends."""
    path = os.pathsep.join([str(Path(LASegColearnLib.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stdout and process.stdout.readline() == "in it\n"
    return process


def test_who_waits_goes_on_when_the_other_process_has_ended(tmp_path: Path) -> None:
    with _process_in(tmp_path) as process:
        assert process.stdin
        ending = threading.Timer(0.5, process.stdin.close)
        ending.start()
        start = time.monotonic()
        wait_until_free(tmp_path, 60)
        assert 0.5 <= time.monotonic() - start < 50
        ending.join()
        # Having looked is not having taken it.
        with alone_in(tmp_path):
            pass


def test_nobody_waits_for_ever(tmp_path: Path) -> None:
    with _process_in(tmp_path) as process:
        start = time.monotonic()
        wait_until_free(tmp_path, 0.5)
        assert time.monotonic() - start >= 0.5 and process.poll() is None
        assert process.stdin
        process.stdin.close()
