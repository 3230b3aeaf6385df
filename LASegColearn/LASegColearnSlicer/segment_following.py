"""Reports the figures of the edited segment to all listeners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from LASegColearnLib.errors import InputError, Problem
from LASegColearnSlicer.live_readouts import Listener, LiveReadouts


class SegmentFollowing:
    """Follows one segment at a time, for any number of listeners.

    Parameters
    ----------
    makeTimer
        Makes a timer, ``qt.QTimer`` in Slicer; without one, nothing can be followed.
    """

    def __init__(self, makeTimer: Callable[[], Any] | None) -> None:
        self._makeTimer = makeTimer
        self._readouts: LiveReadouts | None = None
        self._listeners: list[Listener] = []

    def follow(
        self, listener: Listener, segmentationNode: Any, segmentId: str, volumeNode: Any, references: Callable[[], Any]
    ) -> None:
        """Call a listener with the segment's figures now and after each change.

        Parameters
        ----------
        references
            Returns the networks' masks of the scan, by name.

        Raises
        ------
        InputError
            If there is no timer, or if ``references`` raises it.
        """
        if self._makeTimer is None:
            raise InputError(
                Problem("Readouts", "A segment cannot be followed without a timer.", "Call measure instead.")
            )
        if self._readouts is None:
            self._readouts = LiveReadouts(self._makeTimer)
        if listener not in self._listeners:
            self._readouts.addListener(listener)
            self._listeners.append(listener)
        # Stop first: if the rest fails, the previous segment's figures must not be reported as this one's.
        self._readouts.stop()
        self._readouts.watch(segmentationNode, segmentId, volumeNode, references())

    def unfollow(self, listener: Listener) -> None:
        """Stop calling this listener; without listeners, nothing is computed."""
        self._listeners = [one for one in self._listeners if one != listener]
        if self._readouts is not None:
            self._readouts.removeListener(listener)
            if not self._listeners:
                self._readouts.stop()

    def stop(self) -> None:
        """Stop following."""
        if self._readouts is not None:
            self._readouts.stop()
