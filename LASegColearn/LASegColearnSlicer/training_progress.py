"""The progress of a training for the panel, collected from the engine's events."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from LASegColearnLib.events import read_events
from LASegColearnLib.run_folder import RunFolder

# Maximum number of points per curve: more are slow to draw and show no more detail.
_MOST_POINTS = 500


@dataclass
class Curve:
    """Values over the iterations, thinned if there are too many to draw."""

    iterations: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, iteration: int, value: float) -> None:
        self.iterations.append(iteration)
        self.values.append(value)
        if len(self.iterations) > _MOST_POINTS:
            # Drop every second value of the older half, so that all of the newest values stay.
            half = len(self.iterations) // 2
            self.iterations[:half] = self.iterations[:half:2]
            self.values[:half] = self.values[:half:2]


class TrainingProgress:
    """Follows a training's events; a resumed training continues where it stopped.

    Attributes
    ----------
    device
        The engine's description of the device and why it was chosen; empty until known.
    share
        Completed part of the training, 0 to 1; never decreases.
    iteration
        Completed iterations.
    losses, dice
        Curves by name of the loss, and by name of the network (Dice, 0 to 1).
    validationCases
        Number of cases on which Dice was measured.
    secondsAnIteration
        Mean time of an iteration so far; None before the first.
    warnings
        Sentences, newest last.
    """

    def __init__(self) -> None:
        self.device = ""
        self.share = 0.0
        self.iteration = 0
        self.losses: dict[str, Curve] = {}
        self.dice: dict[str, Curve] = {}
        self.validationCases = 0
        self.secondsAnIteration: float | None = None
        self.warnings: list[str] = []
        # Events of early versions do not name the network that predicts; in most of their trainings it is the teacher.
        self._predictor = "teacher"
        self._status = ""

    @property
    def status(self) -> str:
        """One line for the user."""
        return self._status

    @property
    def lastDice(self) -> float | None:
        """Dice of the network that predicts at the last validation; None before the first."""
        # Not the best Dice during the training, because the model at the end is the one that predicts.
        curve = self.dice.get(self._predictor) or next(iter(self.dice.values()), None)
        return None if curve is None else curve.values[-1]

    def follow(self, event: dict[str, Any]) -> None:
        """Process an event; unknown kinds are ignored."""
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is not None:
            handler(event)

    def _on_preparing(self, event: dict[str, Any]) -> None:
        self._status = f"Preparing scans: {event['done']} of {event['of']}"

    def _on_started(self, event: dict[str, Any]) -> None:
        self.device = event["device"]
        self.iteration = event["iteration"]
        models = event.get("committee", 1)
        self._status = "Training has started" + (f", {models} models at once" if models > 1 else "")

    def _on_progress(self, event: dict[str, Any]) -> None:
        self.iteration = event["iteration"]
        of = event.get("of")
        if of:
            self.share = max(self.share, min(event["iteration"] / of, 1.0))
        for name, value in event["losses"].items():
            if value is not None:
                self.losses.setdefault(name, Curve()).add(self.iteration, value)
        if self.iteration and event.get("elapsed_seconds"):
            self.secondsAnIteration = event["elapsed_seconds"] / self.iteration
        self._status = f"{event['phase'].capitalize()}, {timeLeft(event.get('seconds_left'))}"

    def _on_labeling(self, event: dict[str, Any]) -> None:
        self._status = f"Labeling unlabeled scans: {event['done']} of {event['of']}"

    def _on_waiting(self, event: dict[str, Any]) -> None:
        models = ", ".join(map(str, event["models"]))
        self._status = f"Waiting for model {models}, {timeLeft(event['seconds_left'])}"

    def _on_validated(self, event: dict[str, Any]) -> None:
        self.validationCases = event["cases"]
        self._predictor = event.get("predictor", self._predictor)
        for name, value in event["dice"].items():
            if value is not None:
                self.dice.setdefault(name, Curve()).add(event["iteration"], value)

    def _on_warning(self, event: dict[str, Any]) -> None:
        self.warnings.append(event["message"])

    def _on_failed(self, event: dict[str, Any]) -> None:
        self._status = event["message"]

    def _on_finished(self, event: dict[str, Any]) -> None:
        self.iteration = event["iteration"]
        if not event["complete"]:
            self._status = (
                f"Stopped after {self.iteration} iterations; it can be resumed"
                if self.iteration
                else "Stopped before anything was learned"
            )
            return
        self.share = 1.0
        dice = self.lastDice
        measured = "" if dice is None else f"; Dice {dice:.3f} on {self.validationCases} validation cases"
        self._status = f"Finished after {self.iteration} iterations{measured}"


def timeLeft(seconds: float | None) -> str:
    """The time left as text, as precisely as it is known."""
    if seconds is None:
        return "time left not known yet"
    if seconds < 60:
        return "less than a minute left"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min left"
    return f"{minutes // 60} h {minutes % 60:02} min left"


def progressOf(run: RunFolder) -> TrainingProgress:
    """A run's progress so far, from its own events, to follow it from there; unreadable events are ignored."""
    return _progressIn(run.events)


def knownProgress(run: RunFolder) -> TrainingProgress:
    """Like :func:`progressOf`, but cached and read-only: reading a long training's events takes half a second."""
    known = run.events.stat() if run.events.exists() else None
    return _progressAsOf(run.events, *((known.st_mtime_ns, known.st_size) if known is not None else (0, 0)))


@lru_cache(maxsize=4)
def _progressAsOf(events: Path, _written: int, _size: int) -> TrainingProgress:
    return _progressIn(events)


def _progressIn(events: Path) -> TrainingProgress:
    progress = TrainingProgress()
    for event in read_events(events):
        with suppress(KeyError, TypeError):
            progress.follow(event)
    return progress
