"""Detects silent failures of learning from two students."""

from __future__ import annotations

from collections import deque

from LASegColearnLib.events import EventLog

_WINDOW = 50


class HealthWatch:
    """Warns once if the students agree everywhere, and once if the teacher predicts nothing.

    It watches the values ``disagreement`` (share of the voxels on which the students differ) and
    ``pseudo_label_volume`` (share of the voxels that the teacher labels left atrium), if a method reports them.
    """

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._seen: dict[str, deque[float]] = {}
        self._warned: set[str] = set()

    def watch(self, parts: dict[str, float]) -> None:
        """Take the values of one iteration."""
        self._warn_if_below("disagreement", parts, 1e-5, "The two students give identical predictions.")
        self._warn_if_below("pseudo_label_volume", parts, 1e-5, "The teacher predicts nothing on the unlabeled scans.")

    def _warn_if_below(self, name: str, parts: dict[str, float], limit: float, message: str) -> None:
        if name not in parts or name in self._warned:
            return
        seen = self._seen.setdefault(name, deque(maxlen=_WINDOW))
        seen.append(parts[name])
        if len(seen) == _WINDOW and sum(seen) / _WINDOW < limit:
            self._warned.add(name)
            self._events.emit(
                "warning",
                message=f"{message} Learning from the unlabeled scans has stopped; see `student_difference` and "
                "`pretraining` among the settings.",
            )
