"""What the study's current model is asked: to segment cases, and which case to annotate next."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from LASegColearnLib.cohort import Case, Cohort, save_cohort
from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.run_folder import RunFolder
from LASegColearnSlicer.case_predictions import CasePredictions
from LASegColearnSlicer.engine_process import EngineOutcome, EngineState
from LASegColearnSlicer.engine_runner import EngineRunner, FirstError, OnDone, OnEvent, notify
from LASegColearnSlicer.open_study import OpenStudy
from LASegColearnSlicer.study import StudyCase


class CurrentModel:
    """Starts the engine with the current model, and stores its answers in the study.

    Parameters
    ----------
    opened
        The open study.
    runner
        Runs the engine.
    predictions
        The study's predictions.
    """

    def __init__(self, opened: OpenStudy, runner: EngineRunner, predictions: CasePredictions) -> None:
        self._opened = opened
        self._runner = runner
        self._predictions = predictions

    def predict(
        self, caseIds: Sequence[str] | None, device: str, onEvent: OnEvent | None, onDone: OnDone | None
    ) -> None:
        """Segment cases (None: all), then compare those that have a label with it.

        Raises
        ------
        InputError
            If there is no model yet, or no such case.
        """
        study, run = self._opened.study, self._runFor("Predict")
        chosen = [case for case in study.cases if caseIds is None or case.id in caseIds]
        if not chosen:
            raise InputError(Problem("Predict", "No case is chosen.", "Select cases in the table."))
        cohort = self._temporaryCohort("predict", Cohort((), tuple(Case(c.id, c.scan) for c in chosen), ()))
        arguments = ["predict", "--run", str(run.path), "--cohort", str(cohort), "--output", str(study.predictions)]
        arguments += ["--volumes", "--overwrite", "--device", device]
        kept = FirstError()

        def take(event: dict[str, Any]) -> None:
            if event["event"] == "predicted" and event["case"] in self._present():
                with kept:
                    figures = self._opened.study.predictions / event["case"] / "figures.json"
                    content = json.loads(figures.read_text(encoding="utf-8"))
                    self._opened.study.setFigures(event["case"], {**content, "run": run.path.name})
            notify(onEvent, event)

        def done(outcome: EngineOutcome) -> None:
            present = self._present()
            predicted = [present[case.id] for case in chosen if case.id in present]
            labeled = [case.id for case in predicted if case.label is not None and self._predictions.exists(case.id)]
            outcome, comparing = kept.changed(outcome), False
            with kept:
                cohort.unlink(missing_ok=True)
                if outcome.state is EngineState.FINISHED and labeled:
                    # The label may have been edited since it was written.
                    self._opened.cases.refreshLabels(labeled)
                    self._compareWithLabels(labeled, onEvent, onDone)
                    comparing = True
            if not comparing:
                self._runner.end(onDone, kept.changed(outcome))

        self._runner.start(arguments, take, done, stopFile=None)

    def _compareWithLabels(self, caseIds: list[str], onEvent: OnEvent | None, onDone: OnDone | None) -> None:
        """Add Dice, and 95HD and ASD in mm, to the figures of these predicted cases."""
        study = self._opened.study
        chosen = {caseId: study.case(caseId) for caseId in caseIds}
        members = tuple(
            Case(c.id, c.scan, c.label.file, c.label.segment) for c in chosen.values() if c.label is not None
        )
        cohort = self._temporaryCohort("evaluate", Cohort((), (), members))
        arguments = ["evaluate", "--cohort", str(cohort), "--predictions", str(study.predictions)]
        arguments += ["--output", str(study.folder / "metrics.csv"), "--overwrite"]
        kept = FirstError()

        def take(event: dict[str, Any]) -> None:
            if event["event"] == "evaluated":
                figures = {"dice": event["dice"], "hd95_mm": event["hd95"], "asd_mm": event["asd"]}
                measured, present = chosen[event["case"]], self._present().get(event["case"])
                # Meanwhile, the case may have another label, or be removed from the study.
                if present is not None and (present.label, present.origin) == (measured.label, measured.origin):
                    with kept:
                        self._opened.study.addFigures(measured.id, figures)
            notify(onEvent, event)

        def done(outcome: EngineOutcome) -> None:
            with kept:
                cohort.unlink(missing_ok=True)
            self._runner.end(onDone, kept.changed(outcome))

        self._runner.start(arguments, take, done, stopFile=None)

    def suggest(self, device: str, onEvent: OnEvent | None, onDone: OnDone | None) -> None:
        """Ask which unlabeled case to annotate next.

        Raises
        ------
        InputError
            If there is no model yet, or no unlabeled case.
        """
        study, run = self._opened.study, self._runFor("Suggest")
        if not any(case.role == "unlabeled" for case in study.cases):
            raise InputError(Problem("Suggest", "There is no unlabeled case to choose from.", "Add scans."))
        cohort = self._temporaryCohort("suggest", study.cohort)
        reasons: dict[str, str] = {}
        kept = FirstError()

        def take(event: dict[str, Any]) -> None:
            if event["event"] == "suggested":
                reasons[event["case"]] = event["reason"]
            notify(onEvent, event)

        def done(outcome: EngineOutcome) -> None:
            with kept:
                cohort.unlink(missing_ok=True)
                if outcome.state is EngineState.FINISHED:
                    self._opened.study.setSuggestions(run.path.name, reasons)
            self._runner.end(onDone, kept.changed(outcome))

        arguments = ["suggest", "--run", str(run.path), "--cohort", str(cohort), "--count", "0", "--device", device]
        self._runner.start(arguments, take, done, stopFile=None)

    def _runFor(self, verb: str) -> RunFolder:
        """The run that made the model. Raises :class:`InputError` if there is none."""
        run = self._opened.study.currentRun
        if run is None:
            raise InputError(Problem(verb, "There is no model yet.", "Train one first."))
        return run

    def _temporaryCohort(self, verb: str, cohort: Cohort) -> Path:
        study = self._opened.study
        # The folder may have disappeared since the previous verb, which this one follows.
        study.checkUnchanged()
        path = study.folder / f"{verb}.json"
        save_cohort(cohort, path)
        return path

    def _present(self) -> dict[str, StudyCase]:
        """The cases by id as they are now: some may have been removed while the engine ran, or the study closed."""
        return {case.id: case for case in self._opened.study.cases} if self._opened.exists else {}
