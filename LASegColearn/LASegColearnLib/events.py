"""The events of a run: one JSON object per line in a file of the run, and calls of listeners."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from LASegColearnLib.errors import InputError, Problem, recorded_sentence, sentence_for

Listener = Callable[[dict[str, Any]], None]

# Fields that readers of events rely on; foreign or damaged files may lack some.
_FIELDS: dict[str, dict[str, Any]] = {
    "started": {"device": str},
    "progress": {"iteration": int, "losses": dict},
    "validated": {"iteration": int, "elapsed_seconds": (int, float), "dice": dict},
    "finished": {"iteration": int, "complete": bool, "elapsed_seconds": (int, float)},
    "failed": {"message": str},
    "warning": {"message": str},
}


class EventLog:
    """Appends events to ``events.jsonl`` and hands each to the listeners.

    Parameters
    ----------
    path
        File to append to; none to keep no file.
    listeners
        Called with each event, in the thread that emits it.

    Raises
    ------
    InputError
        If the file is a link: in a foreign folder it may lead to any file of this computer.
    """

    def __init__(self, path: Path | None, *listeners: Listener) -> None:
        self._listeners = listeners
        self._file = None
        if path is not None:
            if path.is_symlink():
                cause = "It is a link, and the run's events would be added to the file that it leads to."
                raise InputError(Problem(path.name, cause, "Remove it, or put the file itself there."))
            path.parent.mkdir(parents=True, exist_ok=True)
            _end_last_line(path)
            self._file = path.open("a", encoding="utf-8")

    def emit(self, event: str, **values: Any) -> None:
        """Record an event. Numbers that JSON cannot hold (NaN, infinity) become null."""
        record = {"event": event, **_plain(values)}
        self._record(record)
        self._tell(record)

    def warn(self, message: str, recorded: str) -> None:
        """Emit a warning, but record another text for it: recorded texts must not name files."""
        self._record({"event": "warning", "message": recorded})
        self._tell({"event": "warning", "message": message})

    def _record(self, record: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(event_line(record))
            self._file.flush()

    def _tell(self, record: dict[str, Any]) -> None:
        for listener in self._listeners:
            listener(record)

    @contextmanager
    def telling_failure(self) -> Iterator[None]:
        """Report an exception of this block as a ``failed`` event and raise it again; always closes the file."""
        try:
            yield
        except Exception as error:
            record = {"event": "failed", "message": sentence_for(error), "cause": type(error).__name__}
            self._record({**record, "message": recorded_sentence(error)})
            self._tell(record)
            raise
        finally:
            self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def event_line(record: dict[str, Any]) -> str:
    """An event as a line of JSON."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def _end_last_line(path: Path) -> None:
    """End a line that a killed run has left incomplete, so that the next event starts a new line."""
    if path.exists() and path.stat().st_size:
        with path.open("rb+") as file:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")


def read_events(path: Path) -> list[dict[str, Any]]:
    """Read ``events.jsonl``; incomplete lines of a killed run are skipped.

    Events of iterations that were repeated after a kill replace the earlier ones.
    """
    events: list[dict[str, Any]] = []
    if not path.exists():
        return []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if _is_whole(event):
            events.append(event)
    # Going backwards, the smallest iteration seen so far, for each kind of event.
    later = {"progress": math.inf, "validated": math.inf}
    kept = []
    for event in reversed(events):
        kind = event["event"]
        if kind in later:
            if event["iteration"] >= later[kind]:
                continue
            later[kind] = event["iteration"]
        kept.append(event)
    return kept[::-1]


def _is_whole(event: Any) -> bool:
    """Whether it is an event with the fields that curves and reports need."""
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return False
    return all(isinstance(event.get(name), kind) for name, kind in _FIELDS.get(event["event"], {}).items())
