"""A stop in the middle of a training."""

from __future__ import annotations

from typing import Any


class StopAfter:
    """Asks a run to end after so many of its iterations, and not while it is prepared.

    Give :meth:`listen` as a listener and the object itself as ``should_stop``.
    """

    def __init__(self, iterations: int = 1) -> None:
        self._left = iterations
        self._begun = False

    def listen(self, event: dict[str, Any]) -> None:
        self._begun = self._begun or event["event"] == "started"

    def __call__(self) -> bool:
        self._left -= self._begun
        return self._begun and self._left <= 0
