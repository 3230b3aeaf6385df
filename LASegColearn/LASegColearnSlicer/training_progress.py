"""What a panel shows of a training, made from the engine's events."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from LASegColearnLib.events import read_events
from LASegColearnLib.run_folder import RunFolder

# So many points a curve: a chart of more is slow to draw and shows nothing more.
_MOST_POINTS = 500


@dataclass
class Curve:
    """Values over the iterations, thinned evenly when there are too many to draw."""

    iterations: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, iteration: int, value: float) -> None:
        self.iterations.append(iteration)
        self.values.append(value)
        if len(self.iterations) > _MOST_POINTS:
            # Every second one of the older half goes, so that the newest are all kept.
            half = len(self.iterations) // 2
            self.iterations[:half] = self.iterations[:half:2]
            self.values[:half] = self.values[:half:2]


class TrainingProgress:
    """Follows a training's events; a resumed training goes on where the earlier one was.

    Attributes
    ----------
    device
        What is used, and why, in the engine's words; empty until it has said so.
    share
        Part of the training that is done, 0 to 1; never goes back.
    iteration
        Iterations made.
    losses, dice
        Curves by the name of the loss, and by the name of the network (Dice 0 to 1).
    validationCases
        On how many cases Dice was measured.
    secondsAnIteration
        Mean time of an iteration so far, None before the first.
    warnings
        Sentences, the newest last.
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
        # Early versions do not say which network predicts; most of their trainings have a teacher that does.
        self._predictor = "teacher"
        self._status = ""

    @property
    def status(self) -> str:
        """One line for the person."""
        return self._status

    @property
    def lastDice(self) -> float | None:
        """Dice of the network that predicts, as it was last validated; None before the first time."""
        # Not the best on the way: the model that predicts is the one at the end.
        curve = self.dice.get(self._predictor) or next(iter(self.dice.values()), None)
        return None if curve is None else curve.values[-1]

    def follow(self, event: dict[str, Any]) -> None:
        """Take in an event; one of a kind that is not known changes nothing."""
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
    """The time left, as precise as it can be known."""
    if seconds is None:
        return "time left not known yet"
    if seconds < 60:
        return "less than a minute left"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min left"
    return f"{minutes // 60} h {minutes % 60:02} min left"


def progressOf(run: RunFolder) -> TrainingProgress:
    """A run's curves so far, from its own events, to follow it from there; what cannot be read is left out."""
    return _progressIn(run.events)


def knownProgress(run: RunFolder) -> TrainingProgress:
    """As :func:`progressOf`, cached and read-only: reading the events of a long training takes half a second."""
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
