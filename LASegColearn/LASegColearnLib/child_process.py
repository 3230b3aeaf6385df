"""Trainings as processes of their own, by the same Python: started, and listened to."""

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
    """Start the verb `train` in a process that prints its events, and saves and ends when this one dies.

    Parameters
    ----------
    arguments
        As they follow the verb.
    threads
        Of the processor, that it may compute with; as many as this process was told by default.
    quiet
        Let what it writes besides its events be lost, instead of writing it where this process does.
    """
    given = ["train", *arguments, "--events", f"--parent={os.getpid()}"]
    command = [sys.executable, "-m", "LASegColearnLib", QUOTED, *map(quote, given)]
    # Python looks for modules where it is started first, which may be a folder of somebody else's files.
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
    """An event that a process has printed; None for what a library wrote among them."""
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return content if isinstance(content, dict) and "event" in content else None
