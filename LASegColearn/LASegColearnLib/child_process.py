"""Starts trainings as child processes of the same Python, and reads their events."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from LASegColearnLib.quoting import QUOTED, quote


def start_training(arguments: Sequence[str], threads: int | None = None, quiet: bool = False) -> subprocess.Popen[str]:
    """Start the verb `train` in a process that prints its events, and that saves and ends if this process dies.

    Parameters
    ----------
    arguments
        The arguments after the verb.
    threads
        Number of CPU threads that it may use; by default as in this process.
    quiet
        Discard its standard error, instead of sharing this process's.
    """
    given = ["train", *arguments, "--events", f"--parent={os.getpid()}"]
    command = [sys.executable, "-m", "LASegColearnLib", QUOTED, *map(quote, given)]
    # Python first looks for modules in the folder where it is started, which may hold unrelated files.
    folder = Path(__file__).resolve().parent.parent
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"}
    if threads is not None:
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if quiet else None,
        encoding="utf-8",
        errors="replace",
        env=environment,
        cwd=folder,
    )


def event_in(line: str) -> dict[str, Any] | None:
    """The event in a line that the process has printed; None for other output, as of a library."""
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) and "event" in content else None
