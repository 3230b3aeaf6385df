"""The training loop: schedule, validation, checkpoints, resumption. It knows no method by name."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from LASegColearnLib.case_cache import CachedCase
from LASegColearnLib.checkpoints import load_checkpoint, load_networks, save_checkpoint
from LASegColearnLib.device import Device
from LASegColearnLib.errors import TrainingError
from LASegColearnLib.events import EventLog
from LASegColearnLib.health import HealthWatch
from LASegColearnLib.methods import create_method
from LASegColearnLib.methods.base import Batch, Method
from LASegColearnLib.patches import BatchesAhead, PatchSource
from LASegColearnLib.run_folder import RunFolder
from LASegColearnLib.settings import Settings
from LASegColearnLib.validation import validate

# Losses that are not finite: each skips its step; this many in a row end the run.
_MOST_SKIPPED = 5
_SECONDS_BETWEEN_PROGRESS = 1.0


@dataclass(frozen=True)
class TrainingCases:
    """The preprocessed cases of a run by role, and what is kept with the model about where it comes from.

    Attributes
    ----------
    labeled, unlabeled, validation
        Preprocessed cases.
    lineage
        Content hashes of the scans that this model and those it started from were trained on and validated on.
    """

    labeled: Sequence[CachedCase]
    unlabeled: Sequence[CachedCase]
    validation: Sequence[CachedCase]
    lineage: dict[str, list[str]]


class Trainer:
    """Trains one method in one run folder.

    Parameters
    ----------
    run, settings, cases, device, events
        Where, how, on what and with what, and whom to tell.
    should_stop
        Asked after each iteration; when true the run saves a checkpoint and ends.
    """

    def __init__(
        self,
        run: RunFolder,
        settings: Settings,
        cases: TrainingCases,
        device: Device,
        events: EventLog,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.run = run
        self.settings = settings
        self.cases = cases
        self.device = device
        self.events = events
        self.should_stop = should_stop
        torch.manual_seed(settings.seed)
        self.method: Method = create_method(settings)
        for network in self.method.networks.values():
            device.place(network)
        self.optimizer = _optimizer(self.method, settings)
        self.scaler = torch.amp.GradScaler(device.device.type, enabled=device.scales_gradients)
        self.iteration = 0
        self.best: float | None = None
        self._earlier_seconds = 0.0
        self._started = time.monotonic()
        self._skipped = 0
        self._health = HealthWatch(events)

    @property
    def elapsed_seconds(self) -> float:
        """Time spent on this run, over all the times it was resumed."""
        return self._earlier_seconds + time.monotonic() - self._started

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1: by time if it was given in minutes, else by iterations."""
        if self.settings.minutes is not None:
            return min(self.elapsed_seconds / (60.0 * self.settings.minutes), 1.0)
        return self.iteration / self.settings.iterations

    def resume(self) -> None:
        """Go on from the run's last checkpoint. Raises :class:`InputError` if it cannot be read."""
        path = self.run.last_checkpoint
        content = load_checkpoint(path, self.device.device)
        load_networks(self.method.networks, content, path.name)
        self.method.load_state(content["method_state"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scaler.load_state_dict(content["scaler"])
        self.iteration = content["iteration"]
        self.best = content["best"]
        self._earlier_seconds = content["elapsed_seconds"]
        self._started = time.monotonic()

    def start_from(self, content: dict[str, Any]) -> None:
        """Warm start: all networks from the predicting network of an earlier checkpoint."""
        predictor = content["predictor"]
        load_networks({predictor: self.method.networks[self.method.predictor]}, content, "--init")
        self.method.start_from(self.method.networks[self.method.predictor].state_dict())

    def train(self) -> bool:
        """Train to the end or until stopped; returns whether the end was reached.

        Raises
        ------
        TrainingError
            When the losses stay non-finite.
        """
        batches = BatchesAhead(PatchSource(self.cases.labeled, self.cases.unlabeled, self.settings))
        record = _Record()
        try:
            while (progress := self.progress) < 1.0:
                phase = self.method.phase(progress)
                batch = batches.take(self.iteration, *self.method.batch_sizes(progress))
                record.add(self._step(self._on_device(batch), progress))
                self.iteration += 1
                if self.method.phase(progress) != phase:
                    # The networks have just been given other weights: momentum of the old ones would push them astray.
                    self.optimizer.state.clear()
                if record.due():
                    self._report_progress(record, phase)
                stopped = self.should_stop()
                if not stopped:
                    self._validate_if_due(progress)
                if stopped or _crossed(progress, self.progress, self.settings.checkpoints):
                    self.save(self.run.last_checkpoint)
                if stopped:
                    return False
        finally:
            batches.close()
        if record.parts:
            self._report_progress(record, self.method.phase(1.0))
        self.save(self.run.last_checkpoint)
        return True

    def save(self, path: Any) -> None:
        """Write a checkpoint, from which this run can be resumed and others started."""
        save_checkpoint(
            path,
            {
                "settings": self.settings.to_dict(),
                "predictor": self.method.predictor,
                "networks": {name: network.state_dict() for name, network in self.method.networks.items()},
                "method_state": self.method.state(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "iteration": self.iteration,
                "elapsed_seconds": self.elapsed_seconds,
                "best": self.best,
                "lineage": self.cases.lineage,
            },
        )
        self.events.emit("checkpoint", name=path.stem, iteration=self.iteration)

    def _on_device(self, batch: Batch) -> Batch:
        device = self.device.device
        return Batch(
            batch.labeled.to(device),
            batch.labels.to(device),
            batch.unlabeled.to(device),
            batch.plain.to(device),
            batch.rng,
        )

    def _step(self, batch: Batch, progress: float) -> dict[str, float]:
        """One iteration; returns the losses by name."""
        # Dropout draws as a function of seed and iteration, so that a resumed run goes on as an unbroken one.
        torch.manual_seed(hash((self.settings.seed, self.iteration)) % 2**63)
        rate = self.learning_rate(progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        with self.device.autocast():
            loss = self.method.loss(batch, progress)
        parts = {
            "total": float(loss.total.detach()),
            **{name: float(part.detach()) for name, part in loss.parts.items()},
        }
        if not math.isfinite(parts["total"]):
            self._skip(parts)
            return parts
        self._skipped = 0
        self.scaler.scale(loss.total).backward()
        if self.settings.gradient_clip:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.method.parameters(), self.settings.gradient_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.method.after_step(progress)
        self._health.watch(parts)
        return parts

    def _skip(self, parts: dict[str, float]) -> None:
        self._skipped += 1
        wrong = ", ".join(name for name, value in parts.items() if not math.isfinite(value))
        if self._skipped >= _MOST_SKIPPED:
            raise TrainingError(
                f"Training stopped at iteration {self.iteration}: the losses ({wrong}) were not finite {_MOST_SKIPPED} "
                "times in a row. The last checkpoint is whole. Resume with a lower rate, for example "
                f"--set learning_rate={self.settings.learning_rate / 10:g}, or with --set precision=float32."
            )
        self.events.emit("warning", message=f"Iteration {self.iteration} skipped: {wrong} not finite.")

    def learning_rate(self, progress: float) -> float:
        """The rate at this share of the run."""
        settings = self.settings
        if settings.schedule == "cosine":
            return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))
        # With minutes, the steps fall at the same shares of the run as they would in its full number of iterations.
        done = progress * settings.iterations if settings.minutes is not None else self.iteration
        return settings.learning_rate * settings.step_factor ** int(done // settings.step_iterations)

    def _report_progress(self, record: _Record, phase: str) -> None:
        elapsed, progress = self.elapsed_seconds, self.progress
        left = elapsed * (1.0 - progress) / progress if progress > 0 else None
        self.events.emit(
            "progress",
            iteration=self.iteration,
            of=round(self.iteration / progress) if progress > 0 else None,
            elapsed_seconds=elapsed,
            seconds_left=left,
            phase=phase,
            learning_rate=self.learning_rate(progress),
            losses=record.take(),
        )

    def _validate_if_due(self, before: float) -> None:
        if not self.cases.validation or not _crossed(before, self.progress, self.settings.validations):
            return
        cases = self.cases.validation[: self.settings.validation_cases or None]
        dice = validate(self.method.networks_in_training(), cases, self.settings, self.device)
        self.events.emit(
            "validated", iteration=self.iteration, elapsed_seconds=self.elapsed_seconds, dice=dice, cases=len(cases)
        )
        score = dice[self.method.predictor]
        if self.best is None or score > self.best:
            self.best = score
            self.save(self.run.best_checkpoint)


class _Record:
    """Means of the losses since the last report."""

    def __init__(self) -> None:
        self.parts: dict[str, list[float]] = {}
        self._reported = time.monotonic()

    def add(self, parts: dict[str, float]) -> None:
        for name, value in parts.items():
            self.parts.setdefault(name, []).append(value)

    def due(self) -> bool:
        return time.monotonic() - self._reported >= _SECONDS_BETWEEN_PROGRESS

    def take(self) -> dict[str, float]:
        means = {name: sum(values) / len(values) for name, values in self.parts.items()}
        self.parts = {}
        self._reported = time.monotonic()
        return means


def _crossed(before: float, after: float, times: int) -> bool:
    """Whether one of ``times`` equally spaced marks of the run lies between the two shares."""
    return math.floor(before * times + 1e-9) < math.floor(after * times + 1e-9)


def _optimizer(method: Method, settings: Settings) -> torch.optim.Optimizer:
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(
            method.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, foreach=True
        )
    return torch.optim.SGD(
        method.parameters(),
        settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        foreach=True,
    )
