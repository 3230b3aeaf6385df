"""Compares the edited segment with the networks' segmentations, soon after each stroke."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np

from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.metrics import Metrics
from LASegColearnLib.reference_metrics import ReferenceMetrics
from LASegColearnSlicer.engine_process import Timer
from LASegColearnSlicer.segment_voxels import SegmentVoxels, segmentVoxels

TEACHER = "teacher"
# One stroke causes several events.
_MILLISECONDS_OF_QUIET = 30
_MILLISECONDS_BETWEEN_POLLS = 5
# If the application holds Python's lock while it waits for events, the thread would never run. So each poll gives it
# this much time.
_SECONDS_FOR_THE_THREAD = 0.003


@dataclass(frozen=True)
class NetworkReadout:
    """The edited segment compared with one network's segmentation.

    Attributes
    ----------
    name
        Name of the reference: ``teacher``, ``student_1``, ``student_2``.
    dice, jaccard
        0 to 1, or None if there is nothing to compare.
    hd95Mm, asdMm
        In mm, ASD from the edited segment's surface to the network's; None if one of them is empty.
    """

    name: str
    dice: float | None
    jaccard: float | None
    hd95Mm: float | None
    asdMm: float | None


@dataclass(frozen=True)
class Readouts:
    """All figures of the edited segment at one moment; missing figures are None, never NaN.

    Attributes
    ----------
    volumeMl
        Volume of the segment on the scan's grid, in mL.
    changedShare, changedMl
        What is in only one of the segment and the teacher's segmentation: as a share of the teacher's volume, and in
        mL.
    networks
        One for each reference, in the same order.
    message
        A sentence for the user, or an empty text.
    """

    volumeMl: float | None
    changedShare: float | None
    changedMl: float | None
    networks: tuple[NetworkReadout, ...]
    message: str


Listener = Callable[[Readouts], None]


class LiveReadouts:
    """Follows one segment and reports its figures some hundredths of a second after each change.

    Voxels are copied in the main thread, figures are computed in one other thread, and listeners are called in the main
    thread. Only the figures of the newest change are reported. Call all methods in the main thread.

    Parameters
    ----------
    makeTimer
        Makes a repeating timer, ``qt.QTimer`` in Slicer.

    Examples
    --------
    >>> readouts = LiveReadouts(qt.QTimer)  # doctest: +SKIP
    >>> readouts.addListener(lambda r: print(r.volumeMl))  # doctest: +SKIP
    >>> readouts.watch(segmentationNode, segmentId, volumeNode, {"teacher": teacherArray})  # doctest: +SKIP
    """

    def __init__(self, makeTimer: Callable[[], Timer]) -> None:
        self._quiet = _timer(makeTimer, _MILLISECONDS_OF_QUIET, self._take)
        self._poll = _timer(makeTimer, _MILLISECONDS_BETWEEN_POLLS, self._handOver)
        self._listeners: list[Listener] = []
        self._observers: list[tuple[Any, int]] = []
        self._watched: _Watched | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._job: Future[Readouts] | None = None
        # The voxels whose figures were reported last, or are being computed.
        self._voxels: SegmentVoxels | None = None
        self.current: Readouts | None = None

    @property
    def isWatching(self) -> bool:
        return self._watched is not None

    def addListener(self, listener: Listener) -> None:
        """Register a listener that is called with each new :class:`Readouts`, in the main thread."""
        self._listeners.append(listener)

    def removeListener(self, listener: Listener) -> None:
        """Remove a listener; one that was not added is ignored."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def watch(
        self, segmentationNode: Any, segmentId: str, volumeNode: Any, references: Mapping[str, np.ndarray]
    ) -> None:
        """Follow only this segment from now on. Errors are reported to the listeners, not raised.

        Parameters
        ----------
        segmentationNode, segmentId
            The edited segment.
        volumeNode
            Its scan.
        references
            The networks' segmentations on the scan's grid, (k, j, i), 0 outside; the teacher's is named ``teacher``.
            They are copied. Without any, only the volume is reported.
        """
        self._forget()
        copies = {name: np.asarray(mask) > 0 for name, mask in references.items()}
        self._watched = _Watched(segmentationNode, segmentId, volumeNode, _Comparison(copies))
        if segmentationNode is not None and volumeNode is not None:
            self._observe(segmentationNode, volumeNode)
        self._quiet.start()

    def stop(self) -> None:
        """Stop following. The thread ends, at the latest after its current computation."""
        self._forget()
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None

    def _forget(self) -> None:
        self._quiet.stop()
        self._drop()
        for subject, tag in self._observers:
            subject.RemoveObserver(tag)
        self._observers = []
        self._watched = self.current = None

    def _observe(self, segmentationNode: Any, volumeNode: Any) -> None:
        import slicer

        segmentation, transformed = slicer.vtkSegmentation, slicer.vtkMRMLTransformableNode.TransformModifiedEvent
        # The first stroke in an empty segment and Undo do not cause SourceRepresentationModified. The node's events
        # wait for the end of a batch, those of its segmentation do not.
        edits = (
            segmentation.SourceRepresentationModified,
            segmentation.SegmentModified,
            segmentation.SegmentAdded,
            segmentation.SegmentRemoved,
        )
        for event in (*edits, transformed):
            self._add(segmentationNode, event, self._onEdited)
        self._add(volumeNode, transformed, self._onEdited)
        self._add(slicer.mrmlScene, slicer.mrmlScene.NodeRemovedEvent, self._onNodeRemoved)
        self._add(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self._onSceneClosed)

    def _add(self, subject: Any, event: int, receiver: Callable[[Any, Any], None]) -> None:
        self._observers.append((subject, subject.AddObserver(event, receiver)))

    def _onEdited(self, _caller: Any, _event: Any) -> None:
        # Starting a running timer restarts it, so the last event counts.
        self._quiet.start()

    def _onNodeRemoved(self, _caller: Any, _event: Any) -> None:
        watched = self._watched
        if watched is None:
            return
        for node, what in ((watched.segmentationNode, "segmentation"), (watched.volumeNode, "scan")):
            if node.GetScene() is None:
                cause = f"The {what} is no longer in the scene."
                self._end(str(Problem(node.GetName(), cause, "Choose another one.")))
                return

    def _onSceneClosed(self, _caller: Any, _event: Any) -> None:
        self._end("The scene was closed, so the figures are no longer updated.")

    def _end(self, message: str) -> None:
        names = () if self._watched is None else self._watched.comparison.names
        self.stop()
        self._tell(_without(names, message))

    def _take(self) -> None:
        """Copy the voxels and start the comparison when no further events arrive."""
        self._quiet.stop()
        watched = self._watched
        if watched is None:
            return
        try:
            voxels = segmentVoxels(watched.segmentationNode, watched.segmentId, watched.volumeNode)
            watched.comparison.check(voxels)
        except InputError as error:
            self._drop()
            said = _without(watched.comparison.names, str(error))
            if said != self.current:
                self._tell(said)
            return
        if self._voxels is not None and voxels.isSame(self._voxels):
            # Unchanged: a new color also causes an event, and so does an export to an array by a listener.
            return
        self._drop()
        self._voxels = voxels
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="readouts")
        self._job = self._thread.submit(watched.comparison.readouts, voxels)
        self._poll.start()

    def _drop(self) -> None:
        """Discard the current computation: cancel it if it has not started, otherwise ignore its result."""
        self._poll.stop()
        if self._job is not None:
            self._job.cancel()
        self._job = self._voxels = None

    def _handOver(self) -> None:
        if self._job is None:
            self._poll.stop()
            return
        wait([self._job], timeout=_SECONDS_FOR_THE_THREAD)
        if not self._job.done():
            return
        job, self._job = self._job, None
        self._poll.stop()
        error = job.exception()
        if error is None:
            self._tell(job.result())
        elif self._watched is not None:
            self._voxels = None
            # For example too little memory. The segment can still be edited, and the next stroke tries again.
            logging.error("The readouts cannot be computed.", exc_info=error)
            message = f"The figures cannot be computed ({type(error).__name__}); Slicer's log has the details."
            self._tell(_without(self._watched.comparison.names, message))

    def _tell(self, readouts: Readouts) -> None:
        self.current = readouts
        for listener in list(self._listeners):
            listener(readouts)


def readoutsOf(
    segmentationNode: Any, segmentId: str, volumeNode: Any, references: Mapping[str, np.ndarray]
) -> Readouts:
    """The figures of a segment as it is now; for the parameters, see :meth:`LiveReadouts.watch`.

    Raises
    ------
    InputError
        If the segment cannot be compared.
    """
    comparison = _Comparison(references)
    voxels = segmentVoxels(segmentationNode, segmentId, volumeNode)
    comparison.check(voxels)
    return comparison.readouts(voxels)


@dataclass(frozen=True)
class _Watched:
    segmentationNode: Any
    segmentId: str
    volumeNode: Any
    comparison: _Comparison


class _Comparison:
    """The references of one scan; prepared in the thread when the first voxels arrive."""

    def __init__(self, references: Mapping[str, np.ndarray]) -> None:
        self._references = references
        self._prepared: tuple[tuple[float, ...], ReferenceMetrics] | None = None
        self.names = tuple(references)

    def check(self, voxels: SegmentVoxels) -> None:
        """Raise :class:`InputError` if the references are not on the scan's grid."""
        for name, mask in self._references.items():
            if mask.shape != voxels.shape:
                cause = f"Wanted the scan's {_sizes(voxels.shape)} voxels, found {_sizes(mask.shape)}."
                raise InputError(Problem(_words(name), cause, "Predict the scan again."))

    def readouts(self, voxels: SegmentVoxels) -> Readouts:
        """Compute all figures; runs in the thread."""
        # A scan's spacing can change while it is watched.
        if self._prepared is None or self._prepared[0] != voxels.spacing:
            self._prepared = voxels.spacing, ReferenceMetrics(self._references, voxels.spacing)
        compared = self._prepared[1]
        mask, start = voxels.mask, voxels.start
        change = compared.change(mask, TEACHER, start) if TEACHER in self._references else None
        metrics = compared.compare(mask, start)
        return Readouts(
            volumeMl=compared.volume_ml(mask),
            changedShare=None if change is None else change.share,
            changedMl=None if change is None else change.ml,
            networks=tuple(_readout(name, found) for name, found in metrics.items()),
            message=_message(voxels, metrics),
        )


def _readout(name: str, found: Metrics) -> NetworkReadout:
    return NetworkReadout(name, found.dice, found.jaccard, _orNone(found.hd95), _orNone(found.asd))


def _orNone(value: float) -> float | None:
    return None if np.isnan(value) else value


def _message(voxels: SegmentVoxels, metrics: Mapping[str, Metrics]) -> str:
    if not voxels.mask.any():
        return "The segment is empty."
    empty = [_words(name) for name, found in metrics.items() if not found.reference_volume_ml]
    if empty:
        return f"These networks found nothing in this scan: {', '.join(empty)}."
    return "" if voxels.sameGrid else "The segmentation and the scan have different grids. The scan's grid is used."


def _without(names: tuple[str, ...], message: str) -> Readouts:
    return Readouts(None, None, None, tuple(NetworkReadout(name, None, None, None, None) for name in names), message)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _sizes(shape: tuple[int, ...]) -> str:
    """Size of an array (k, j, i) as text, in Slicer's order."""
    return "×".join(str(side) for side in reversed(shape))


def _timer(makeTimer: Callable[[], Timer], milliseconds: int, receiver: Callable[[], None]) -> Timer:
    timer = makeTimer()
    timer.setInterval(milliseconds)
    timer.connect("timeout()", receiver)
    return timer
