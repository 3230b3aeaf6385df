"""The training loop: schedule, validation, checkpoints, resumption. It knows no method by name."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from LASegColearnLib.awake import awake_seconds
from LASegColearnLib.batch_statistics import recompute_batch_norm_statistics
from LASegColearnLib.case_cache import CachedCase
from LASegColearnLib.checkpoints import Model, load_checkpoint, load_modules, save_checkpoint
from LASegColearnLib.device import Device
from LASegColearnLib.errors import TrainingError
from LASegColearnLib.events import EventLog
from LASegColearnLib.health import HealthWatch
from LASegColearnLib.methods.base import Method
from LASegColearnLib.patches import BatchesAhead, PatchSource
from LASegColearnLib.processes import ALONE, Processes
from LASegColearnLib.run_folder import RunFolder
from LASegColearnLib.scan_labeling import label_scans, labels_are_there, remove_other_labels, with_labels
from LASegColearnLib.settings import Settings
from LASegColearnLib.training_step import TrainingStep
from LASegColearnLib.validation import validate

# A non-finite loss skips its step; this many in a row end the run.
_MOST_SKIPPED = 5
_SECONDS_BETWEEN_PROGRESS = 1.0
# For runs whose length is given in minutes: the largest share of the run that one labeling of the scans may take, and
# the training time before the next labeling as a multiple of the last one's duration.
_LARGEST_LABELING_SHARE = 0.1
_TRAINING_PER_LABELING = 4.0


@dataclass(frozen=True)
class TrainingCases:
    """The preprocessed cases of a run by role, and the scans that its model has ever used.

    Attributes
    ----------
    labeled, unlabeled, validation
        Preprocessed cases.
    lineage
        Content hashes of the scans that this model and its predecessors were trained on and validated on.
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
        The run's folder, its settings, the cases to train on, where to compute, and the log for events.
    should_stop
        Called after each iteration; if it returns true, the run saves a checkpoint and ends.
    processes
        The processes that train together; only the first writes checkpoints.
    """

    def __init__(
        self,
        run: RunFolder,
        settings: Settings,
        cases: TrainingCases,
        device: Device,
        events: EventLog,
        should_stop: Callable[[], bool] = lambda: False,
        processes: Processes = ALONE,
    ) -> None:
        self.run = run
        self.settings = settings
        self.cases = cases
        self.device = device
        self.events = events
        self.should_stop = should_stop
        self.processes = processes
        self.step = TrainingStep(settings, device, processes)
        self.iteration = 0
        self.best: float | None = None
        self._earlier_seconds = 0.0
        # For each unlabeled scan's file, the iteration at which its current pseudo-label was made.
        self._labels: dict[str, int] = {}
        # Iteration and seconds of the run when the last labeling was due, the seconds before which there is no other,
        # and the index of the scan to label next.
        self._labeled_at: tuple[int, float] | None = None
        self._no_labeling_before = 0.0
        self._next_to_label = 0
        # Whether a validation is due and not yet done.
        self._to_validate = False
        # Whether the run has reached its end, including the work done there.
        self._complete = False
        self._started = awake_seconds()
        self._skipped = 0
        self._health = HealthWatch(events)

    @property
    def method(self) -> Method:
        return self.step.method

    @property
    def elapsed_seconds(self) -> float:
        """Time spent on this run, summed over all sessions."""
        return self._earlier_seconds + awake_seconds() - self._started

    @property
    def progress(self) -> float:
        """Completed share of the run, 0 to 1: by time if the length is given in minutes, else by iterations."""
        return self._share(self.iteration, self.elapsed_seconds)

    def _share(self, iteration: int, seconds: float) -> float:
        if self.settings.minutes is not None:
            return min(seconds / (60.0 * self.settings.minutes), 1.0)
        return iteration / self.settings.iterations

    def resume(self) -> None:
        """Continue from the run's last checkpoint. Raises :class:`InputError` if it cannot be read."""
        path = self.run.last_checkpoint
        content = load_checkpoint(path)
        load_modules(self.method.networks, content["networks"], path.name)
        # Older checkpoints have no entry for auxiliary modules, and had none.
        load_modules(self.method.auxiliary, content.get("auxiliary", {}), path.name)
        self.step.load_state(content)
        self.iteration = content["iteration"]
        self.best = content["best"]
        self._earlier_seconds = content["elapsed_seconds"]
        # Older checkpoints have no pseudo-labels; they are made when they are next due.
        kept = content.get("labels", {"of": {}, "at": None, "next": 0})
        if labels_are_there(self.cases.unlabeled, kept["of"]):
            self._labels, self._next_to_label = dict(kept["of"]), kept["next"]
            self._labeled_at = None if kept["at"] is None else (kept["at"][0], kept["at"][1])
            # Older checkpoints have the time to wait in the moment of the last labeling.
            self._no_labeling_before = kept.get("wait_until", 0.0)
        self._to_validate = content.get("to_validate", False)
        self._complete = content.get("complete", False)
        self._started = awake_seconds()

    def close(self) -> None:
        """Leave the process group; the trained weights stay."""
        self.step.close()

    def start_from(self, content: dict[str, Any]) -> None:
        """Warm start from an earlier checkpoint: its networks, a new optimizer. Raises as :meth:`Method.warm_start`."""
        self.method.warm_start(content["networks"], content["predictor"], content["method_state"])

    def train(self) -> bool:
        """Train to the end or until stopped; returns whether the end was reached.

        Raises
        ------
        TrainingError
            If the losses stay non-finite.
        """
        if self.settings.compile:
            self._compile()
        source = PatchSource(self.cases.labeled, self.cases.unlabeled, self.settings)
        of = self.settings.batch_parts
        batches = BatchesAhead(source, self.processes.parts(of), of, pinned=self.device.device.type == "cuda")
        record = _Record()
        (progress,) = self.processes.broadcast([self.progress])
        self._learn_from_scan_labels(source)
        self._complete &= progress >= 1.0
        if progress < 1.0 and not self._validate_if_due():
            return False
        try:
            while progress < 1.0:
                if not self._label_if_due(progress, source, batches):
                    return False
                now = self._iterate(progress, batches, record)
                if now is None:
                    return False
                progress = now
        finally:
            batches.close()
        return self._finish(record)

    def _label_if_due(self, progress: float, source: PatchSource, batches: BatchesAhead) -> bool:
        """Label the scans if that is due; returns false if a stop was requested in the meantime."""
        labeled_until = 0.0 if self._labeled_at is None else self._share(*self._labeled_at)
        # What falls due in the time that training is given between two labelings is done after it, not left out.
        waits = self.settings.minutes is not None and progress < self._share(self.iteration, self._no_labeling_before)
        if waits or not self.method.labels_scans(labeled_until, progress):
            return True
        batches.forget()
        if not self._label_scans(progress):
            # No step with half of the labels: the labeling is repeated when the run is resumed.
            self.save(self.run.last_checkpoint)
            self._wait_until_saved()
            return False
        self._learn_from_scan_labels(source)
        empty = len(self._labels) - sum(case.pseudo_label_file is not None for case in source.unlabeled)
        if self._labels and 2 * empty >= len(self._labels):
            self.events.emit(
                "warning",
                message=f"The teacher found nothing in {empty} of {len(self._labels)} unlabeled scans, which are not "
                "learned from until they are labeled again. Do they look like the labeled ones?",
            )
        return True

    def _iterate(self, progress: float, batches: BatchesAhead, record: _Record) -> float | None:
        """Make one iteration, validate and save if due; returns the progress after it, None at a stop."""
        phase = self.method.phase(progress)
        parts = batches.take(self.iteration, *self.method.batch_sizes(progress))
        on_device = [part.to(self.device.device) for part in parts]
        losses = self.step(on_device, progress, self.learning_rate(progress))
        self._check(losses)
        record.add(losses)
        self.iteration += 1
        if record.due():
            self._report_progress(record, phase)
        now, stopped = self._agreed()
        if now < 1.0:
            self._to_validate |= _crossed(progress, now, self.settings.validations)
            stopped = stopped or not self._validate_if_due()
            if stopped or _crossed(progress, now, self.settings.checkpoints):
                self.save(self.run.last_checkpoint)
            if stopped:
                self._wait_until_saved()
                return None
        return now

    def _finish(self, record: _Record) -> bool:
        """Do the work at the end of a run; returns false if a stop was requested in the meantime."""
        if record.parts:
            self._report_progress(record, self.method.phase(1.0))
        if not self._complete:
            self._recompute_batch_norm_statistics()
            self._to_validate = self.settings.validations > 0
            self._complete = self._validate_if_due()
        self.save(self.run.last_checkpoint)
        if not self._complete:
            self._wait_until_saved()
        return self._complete

    def _label_scans(self, progress: float) -> bool:
        """Let the predicting network label whole unlabeled scans, as many as time allows.

        Scans are labeled in turn: if there is not time for all, the next labeling begins with the remaining ones.
        Returns false, with nothing changed, if a stop was requested in the meantime.
        """
        started, minutes = self.elapsed_seconds, self.settings.minutes
        until = math.inf if minutes is None else started + _LARGEST_LABELING_SHARE * 60.0 * minutes
        first = self._next_to_label
        scans = [*self.cases.unlabeled[first:], *self.cases.unlabeled[:first]]
        done = label_scans(
            self.method.networks[self.method.predictor],
            scans,
            self.cases.labeled,
            self.settings,
            self.device,
            self.iteration,
            self.processes,
            lambda: self.should_stop() or self.elapsed_seconds > until,
            told=lambda done, of: self.events.emit("labeling", done=done, of=of),
        )
        _, stopped = self._agreed()
        if stopped:
            return False
        if done < len(scans) and not self._labels:
            self.events.emit(
                "warning",
                message=f"Labeling all {len(scans)} unlabeled scans would take more than a tenth of the training, so "
                f"{done} were labeled this time and the others will be later. A longer training labels more.",
            )
        self._labels |= {case.image_file.name: self.iteration for case in scans[:done]}
        self._next_to_label = (first + done) % len(scans)
        taken = self.elapsed_seconds - started
        # Clocks differ between the processes, and all must label at the same iteration.
        (self._no_labeling_before,) = self.processes.broadcast([self.elapsed_seconds + _TRAINING_PER_LABELING * taken])
        self._labeled_at = self.iteration, started if minutes is None else 60.0 * minutes * progress
        return True

    def _learn_from_scan_labels(self, source: PatchSource) -> None:
        """Draw unlabeled patches from the scans with a non-empty pseudo-label, or from all scans if there is none."""
        source.unlabeled = with_labels(self.cases.unlabeled, self._labels) or list(self.cases.unlabeled)

    def _recompute_batch_norm_statistics(self) -> None:
        """At the end of the training, so that predictions use the statistics of scans without augmentation.

        For a method that learns from labeled scans alone, only those are used.
        """
        cases = [*self.cases.labeled, *(self.cases.unlabeled if self.method.needs_unlabeled else [])]
        recompute_batch_norm_statistics(self.method.networks.values(), cases, self.settings, self.device)

    def _agreed(self) -> tuple[float, bool]:
        """Progress by the first process's clock, and whether any process was asked to stop.

        Every process looks for the stop file, and the first to see it removes it.
        """
        (progress,) = self.processes.broadcast([self.progress])
        return progress, any(self.processes.all_gather(float(self.should_stop())))

    def _compile(self) -> None:
        reason = self.step.compile_networks()
        if reason is not None:
            self.events.emit(
                "warning",
                message=f"torch.compile does not work here ({reason}), so training continues without it. It needs a "
                "C++ compiler; leave out the setting compile=true.",
            )

    def _wait_until_saved(self) -> None:
        """Make the other processes wait for the first: torchrun kills it half a minute after one of them has ended."""
        self.processes.broadcast([0.0])

    def save(self, path: Any) -> None:
        """Write a checkpoint, to resume this run or to start others from; only the first process writes it."""
        if not self.processes.is_first:
            return
        save_checkpoint(
            path,
            {
                "settings": self.settings.to_dict(),
                "predictor": self.method.predictor,
                "networks": {name: network.state_dict() for name, network in self.method.networks.items()},
                "auxiliary": {name: module.state_dict() for name, module in self.method.auxiliary.items()},
                **self.step.state(),
                "iteration": self.iteration,
                "elapsed_seconds": self.elapsed_seconds,
                "labels": {
                    "of": self._labels,
                    "at": self._labeled_at,
                    "wait_until": self._no_labeling_before,
                    "next": self._next_to_label,
                },
                "to_validate": self._to_validate,
                "complete": self._complete,
                "best": self.best,
                "lineage": self.cases.lineage,
                "computed_on": self.device.record,
            },
        )
        if path == self.run.last_checkpoint:
            # Only now: until this checkpoint is written, the run would be resumed from the earlier one.
            remove_other_labels(self.cases.unlabeled, self._labels, self.iteration)
        self.events.emit("checkpoint", name=path.stem, iteration=self.iteration)

    def _check(self, losses: dict[str, float]) -> None:
        """Warn of a non-finite loss, whose step was skipped; end the run after too many in a row."""
        if math.isfinite(losses["total"]):
            self._skipped = 0
            self._health.watch(losses)
            return
        self._skipped += 1
        wrong = ", ".join(name for name, value in losses.items() if not math.isfinite(value))
        if self._skipped >= _MOST_SKIPPED:
            raise TrainingError(
                f"Training stopped at iteration {self.iteration}: the losses ({wrong}) were not finite {_MOST_SKIPPED} "
                "times in a row. The last checkpoint is whole. Train again with a lower rate, for example the setting "
                f"learning_rate={self.settings.learning_rate / 10:g}, or with precision=float32."
            )
        self.events.emit("warning", message=f"Iteration {self.iteration} skipped: {wrong} not finite.")

    def learning_rate(self, progress: float) -> float:
        """The learning rate at this share of the run."""
        settings = self.settings
        if settings.schedule == "cosine":
            annealed = max(progress - settings.anneal_from, 0.0) / (1.0 - settings.anneal_from)
            return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * annealed))
        # If the length is given in minutes, the steps are at the same shares of the run as with the full iterations.
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

    def _validate_if_due(self) -> bool:
        """Validate if that is due; returns false, and the validation stays due, if a stop was requested meanwhile."""
        if not self.cases.validation or not self._to_validate:
            return True
        cases = self.cases.validation[: self.settings.validation_cases or None]
        networks = self.method.networks_in_training()
        dice = validate(networks, cases, self.settings, self.device, self.processes, self.should_stop)
        if dice is None:
            return False
        self._to_validate = False
        self._tell_validation(dice, self.method.predictor, len(cases))
        score = dice[self.method.predictor]
        if self.best is None or score > self.best:
            self.best = score
            self.save(self.run.best_checkpoint)
        return True

    def validate_again(self, model: Model) -> None:
        """Validate the model combined from this training's and others, unless a stop is requested."""
        cases = self.cases.validation[: self.settings.validation_cases or None]
        if not cases or not self.settings.validations:
            return
        networks = {name: self.device.place(network) for name, network in model.networks.items()}
        dice = validate(networks, cases, self.settings, self.device, should_stop=self.should_stop)
        if dice is not None:
            self._tell_validation(dice, model.predictor, len(cases))

    def _tell_validation(self, dice: dict[str, float], predictor: str, cases: int) -> None:
        self.events.emit(
            "validated",
            iteration=self.iteration,
            elapsed_seconds=self.elapsed_seconds,
            dice=dice,
            predictor=predictor,
            cases=cases,
        )


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
    """Whether the run passes one of ``times`` equally spaced marks between the two shares."""
    return math.floor(before * times + 1e-9) < math.floor(after * times + 1e-9)
