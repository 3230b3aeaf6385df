"""Figures of the segment that is edited, for all who show them."""

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
        Makes a timer, ``qt.QTimer`` in Slicer; without one nothing can be followed.
    """

    def __init__(self, makeTimer: Callable[[], Any] | None) -> None:
        self._makeTimer = makeTimer
        self._readouts: LiveReadouts | None = None
        self._listeners: list[Listener] = []

    def follow(
        self, listener: Listener, segmentationNode: Any, segmentId: str, volumeNode: Any, references: Callable[[], Any]
    ) -> None:
        """Tell a listener the segment's figures now and after each change.

        Parameters
        ----------
        references
            Returns the networks' masks of the scan, by name.

        Raises
        ------
        InputError
            If there is no timer, and what ``references`` raises.
        """
        if self._makeTimer is None:
            raise InputError(Problem("Readouts", "Nothing is followed without a timer.", "Call measure instead."))
        if self._readouts is None:
            self._readouts = LiveReadouts(self._makeTimer)
        if listener not in self._listeners:
            self._readouts.addListener(listener)
            self._listeners.append(listener)
        # If this fails, what was followed before must not go on being told as this segment's.
        self._readouts.stop()
        self._readouts.watch(segmentationNode, segmentId, volumeNode, references())

    def unfollow(self, listener: Listener) -> None:
        """Tell this listener no more; with the last one, nothing is computed any more."""
        self._listeners = [one for one in self._listeners if one != listener]
        if self._readouts is not None:
            self._readouts.removeListener(listener)
            if not self._listeners:
                self._readouts.stop()

    def stop(self) -> None:
        """Follow nothing."""
        if self._readouts is not None:
            self._readouts.stop()
