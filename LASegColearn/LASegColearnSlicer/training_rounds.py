"""Trains the models of a study one after the other, and judges each new one against the one before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.run_folder import RunFolder
from LASegColearnSlicer.engine_process import EngineOutcome, EngineState
from LASegColearnSlicer.engine_runner import EngineRunner, FirstError, OnDone, OnEvent, notify
from LASegColearnSlicer.open_study import OpenStudy
from LASegColearnSlicer.rounds import (
    isToBeJudged,
    judgeEarlier,
    judgeRound,
    learnedFrom,
    readRound,
    startRound,
    unjudgedRun,
)
from LASegColearnSlicer.study import reachedEnd
from LASegColearnSlicer.training_options import TrainingOptions
from LASegColearnSlicer.training_progress import TrainingProgress, progressOf


class TrainingRounds:
    """Starts the engine for trainings, and makes each new model current unless it is worse.

    Parameters
    ----------
    opened
        The open study.
    runner
        Runs the engine.

    Attributes
    ----------
    progress
        Of the last training of this study that was started or resumed.
    """

    def __init__(self, opened: OpenStudy, runner: EngineRunner) -> None:
        self._opened = opened
        self._runner = runner
        # By run folder: ids of the cases that its model has learned from.
        self._learned: dict[Path, set[str]] = {}
        self.progress = TrainingProgress()
        opened.onChanged(self._forgetProgress)

    def start(self, options: TrainingOptions, onEvent: OnEvent | None, onDone: OnDone | None) -> None:
        """Train a new model.

        Raises
        ------
        InputError
            If an option is invalid, or the study or its labels cannot be written.
        """
        arguments = options.arguments()
        study = self._opened.study
        model = study.currentRun
        startedFrom = model if options.warmStart else None
        if startedFrom is not None:
            arguments += ["--init", str(startedFrom.last_checkpoint)]
        self._opened.cases.readStates()
        self._opened.cases.refreshLabels()
        cohort = study.writeCohort()
        run = study.newRun()
        labeled = [case.id for case in study.cases if case.role == "labeled"]
        study.noteRun(run)
        startRound(run, startedFrom, model, labeled, sum(case.role == "unlabeled" for case in study.cases))
        self.progress = TrainingProgress()
        self._train(["train", "--cohort", str(cohort), "--run", str(run.path), *arguments], run, onEvent, onDone)

    def resume(self, device: str, onEvent: OnEvent | None, onDone: OnDone | None) -> None:
        """Resume the last training if it did not finish, or judging its model.

        Raises
        ------
        InputError
            If there is nothing to resume.
        """
        run, unjudged = self._opened.study.resumableRun, unjudgedRun(self._opened.study)
        if unjudged is not None:
            self.progress = progressOf(unjudged)
            self._judge(unjudged, None, onEvent, onDone)
            return
        if run is None:
            raise InputError(Problem("Resume", "No training of this study can be resumed.", "Start a new one."))
        self.progress = progressOf(run)
        self._train(["train", "--run", str(run.path), "--resume", "--device", device], run, onEvent, onDone)

    @property
    def learnedFrom(self) -> set[str]:
        """Ids of the cases that were predicted by a model that has learned from their labels."""
        study = self._opened.study
        models = {case.id: str(case.figures.get("run", "")) for case in study.cases if case.figures}
        runs = {name: study.folder / "runs" / name for name in set(models.values())}
        return {caseId for caseId, name in models.items() if caseId in self._learnedBy(runs[name])}

    def _learnedBy(self, run: Path) -> set[str]:
        # A finished model learns from no more cases, so the result is cached, unless nothing could be read.
        if not self._learned.get(run):
            self._learned[run] = learnedFrom(RunFolder(run))
        return self._learned[run]

    def _forgetProgress(self) -> None:
        # The old progress belongs to the previous study.
        self.progress = TrainingProgress()

    def _train(self, arguments: list[str], run: RunFolder, onEvent: OnEvent | None, onDone: OnDone | None) -> None:
        def take(event: dict[str, Any]) -> None:
            self.progress.follow(event)
            notify(onEvent, event)

        def done(outcome: EngineOutcome) -> None:
            self._trained(run, outcome, onEvent, onDone)

        self._runner.start(arguments, take, done, stopFile=run.stop_file)

    def _trained(self, run: RunFolder, outcome: EngineOutcome, onEvent: OnEvent | None, onDone: OnDone | None) -> None:
        """Make the new model of a complete training current: immediately if it cannot be judged, or after judging."""
        # A training that was asked to stop at the last moment may be complete, with nothing to resume.
        late = outcome.state is EngineState.STOPPED and reachedEnd(run)
        if outcome.state is not EngineState.FINISHED and not late:
            self._runner.end(onDone, outcome)
            return
        outcome = EngineOutcome(EngineState.FINISHED, "", outcome.details)
        kept, validated = FirstError(), isToBeJudged(run)
        with kept:
            rival = self._rivalOf(run)
            self._prefer(*((rival, run) if validated else (run, rival)))
        # A user who pressed Pause or Cancel does not want an evaluation to start.
        if validated and not late:
            self._judge(run, kept.changed(outcome), onEvent, onDone)
        else:
            self._runner.end(onDone, kept.changed(outcome))

    def _judge(
        self, run: RunFolder, trained: EngineOutcome | None, onEvent: OnEvent | None, onDone: OnDone | None
    ) -> None:
        """Compare a new model with the previous one on cases that neither was trained on; the better becomes current.

        ``onDone`` gets the outcome of the training (``trained``), or of this evaluation if no training preceded it.
        """
        against = self._rivalOf(run)
        arguments = ["judge", "--run", str(run.path)]
        kept = FirstError()
        if against is not None:
            arguments += ["--against", str(against.path)]

        def take(event: dict[str, Any]) -> None:
            if event["event"] == "judged":
                with kept:
                    self._keepVerdict(run, against, event)
            notify(onEvent, event)

        def done(outcome: EngineOutcome) -> None:
            outcome = kept.changed(outcome)
            if outcome.state is EngineState.FAILED and trained is not None:
                # The training itself succeeded and is saved.
                self.progress.warnings.append(outcome.message)
                with kept:
                    self._prefer(run, against)
            self._runner.end(onDone, trained or outcome)

        try:
            self._runner.start(arguments, take, done, stopFile=None)
        except InputError as error:
            done(EngineOutcome(EngineState.FAILED, str(error), ""))

    def _keepVerdict(self, run: RunFolder, against: RunFolder | None, event: dict[str, Any]) -> None:
        """Record the engine's event ``judged`` for both models, and make the better one current."""
        judged = judgeRound(run, event)
        if against is not None:
            judgeEarlier(against, event)
        found = None if judged is None else judged.comparison
        worse = found is not None and found.verdict == "worse"
        self._prefer(*((against, run) if worse else (run, against)))

    def _rivalOf(self, run: RunFolder) -> RunFolder | None:
        """The run whose model was current when this run was started, if it still exists."""
        known = readRound(run)
        name = None if known is None else known.against
        return next((model for model in self._opened.study.models if model.path.name == name), None)

    def _prefer(self, better: RunFolder | None, other: RunFolder | None) -> None:
        """Make one model current instead of the other; keep a third one that the user has chosen meanwhile."""
        study = self._opened.study
        if study.currentRun == other:
            study.chooseRun(None if better == study.runs[-1] else better)
