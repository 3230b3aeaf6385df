"""What a user can do with a study in Slicer, without widgets: cases, training, prediction, correction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from LASegColearnLib.cohort import Case, Cohort, save_cohort
from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.run_folder import RunFolder
from LASegColearnLib.segmentation_files import SEGMENT_NAME, TERMINOLOGY
from LASegColearnLib.settings import Settings
from LASegColearnSlicer.case_predictions import CasePredictions
from LASegColearnSlicer.engine_process import EngineOutcome, EngineProcess, EngineState, EngineTimer
from LASegColearnSlicer.engine_runner import EngineRunner, FirstError, OnDone, OnEvent, notify
from LASegColearnSlicer.live_readouts import Listener, Readouts, readoutsOf
from LASegColearnSlicer.results import MODEL_ATTRIBUTE, PredictionDisplay, isOurs, markModel
from LASegColearnSlicer.rounds import (
    Round,
    canBeJudged,
    isToBeJudged,
    judgeEarlier,
    judgeRound,
    learnedFrom,
    readRound,
    startRound,
    trainedOn,
)
from LASegColearnSlicer.scene_cases import SceneCases
from LASegColearnSlicer.scene_export import voxelCount
from LASegColearnSlicer.segment_following import SegmentFollowing
from LASegColearnSlicer.study import Study, StudyCase, reachedEnd
from LASegColearnSlicer.teacher_opinion import USUAL_CUT, findOpinion, imageOf, takeInto
from LASegColearnSlicer.training_options import TrainingOptions
from LASegColearnSlicer.training_progress import TrainingProgress, progressOf

# A volume node, and the segmentation node and segment id of its label.
LabeledScan = tuple[Any, Any, str]
# Training an existing model further needs less time than training it from scratch.
_RETRAINING_SHARE = 1 / 3


class Session:
    """A study and the engine that works on it. The engine runs one verb at a time.

    Parameters
    ----------
    scene
        The scene, ``slicer.mrmlScene`` in Slicer.
    loadVolume, loadSegmentation
        Load a file as a node.
    makeTimer
        Makes a timer that passes on the engine's events, ``qt.QTimer`` in Slicer. Without one, only ``wait=True`` does.
    idle
        Called while waiting, so that Slicer stays responsive.
    """

    def __init__(
        self,
        scene: Any,
        loadVolume: Callable[[Path], Any],
        loadSegmentation: Callable[[Path], Any],
        makeTimer: Callable[[], EngineTimer] | None = None,
        idle: Callable[[], None] = lambda: None,
    ) -> None:
        self._scene = scene
        self._loadVolume = loadVolume
        self._loadSegmentation = loadSegmentation
        self._study: Study | None = None
        self._studyListeners: list[Callable[[], None]] = []
        # By run folder: ids of the cases that its model has learned from.
        self._learned: dict[Path, set[str]] = {}
        self._runner = EngineRunner(scene.IsBatchProcessing, makeTimer, idle)
        self._following = SegmentFollowing(makeTimer)
        self._predictions = CasePredictions(lambda: self.study, lambda: self.cases, lambda: self.display)
        self.progress = TrainingProgress()

    @property
    def study(self) -> Study:
        """The open study. Raises :class:`InputError` if there is none."""
        if self._study is None:
            raise InputError(Problem("Study", "No study is open.", "Choose a folder for it first."))
        return self._study

    @property
    def hasStudy(self) -> bool:
        return self._study is not None

    def openStudy(self, folder: Path | str) -> Study:
        """Open the study in a folder, or make a new one there. Raises :class:`InputError` if it cannot."""
        if self.isRunning and (self._study is None or Path(folder) != self._study.folder):
            raise InputError(Problem("Study", "A task of this study is still running.", "Cancel it or wait for it."))
        before, opened = self._study, Study.at(Path(folder).absolute())
        # A copy of a study has the same identity.
        isOther = before is None or (before.identity, before.folder) != (opened.identity, opened.folder)
        if before is not None and isOther:
            # Save edited labels first: scene nodes may be added to the other study. What cannot be written stays in the
            # scene.
            with suppress(InputError, OSError):
                self.cases.refreshLabels()
        self._study = opened
        if isOther:
            self._tellOfStudy()
        return opened

    def closeStudy(self) -> None:
        """Close the study. Running work is stopped; a training can be resumed."""
        self.close()
        self._study = None
        self._tellOfStudy()

    def onStudyChanged(self, listener: Callable[[], None]) -> None:
        """Register a listener that is called whenever another study was opened, or the study was closed."""
        self._studyListeners.append(listener)

    def onWorkChanged(self, listener: Callable[[], None]) -> None:
        """Register a listener that is called whenever the engine was started or has ended."""
        self._runner.onChanged(listener)

    def _tellOfStudy(self) -> None:
        # The old progress belongs to the previous study.
        self.progress = TrainingProgress()
        for listener in self._studyListeners:
            listener()

    @property
    def cases(self) -> SceneCases:
        """The link between the study and the scene."""
        return SceneCases(self._scene, self.study, self._loadVolume, self._loadSegmentation)

    @property
    def display(self) -> PredictionDisplay:
        """Shows predictions of this study in the scene."""
        return PredictionDisplay(self._scene, self._loadSegmentation, self._loadVolume, self.study.identity)

    def setupCohort(
        self,
        folder: Path | str,
        *,
        labeled: Iterable[LabeledScan],
        unlabeled: Iterable[Any] = (),
        validation: Iterable[LabeledScan] = (),
    ) -> Study:
        """Make or open a study in this folder and add these volumes of the scene, unless they are already in it.

        Parameters
        ----------
        folder
            A new or empty folder, or a study's.
        labeled, validation
            Volume node, segmentation node and segment id of each case.
        unlabeled
            Volume nodes.

        Raises
        ------
        InputError
            Names all volumes and segments that cannot be used.
        """
        self.openStudy(folder)
        wanted: list[tuple[Any, Any, str | None, Any]] = [(*scan, "labeled") for scan in labeled]
        wanted += [(*scan, "validation") for scan in validation]
        wanted += [(volume, None, None, "unlabeled") for volume in unlabeled]
        problems: list[Problem] = []
        for volume, segmentation, segmentId, role in wanted:
            try:
                if volume is None or self.cases.caseOf(volume) is None:
                    case = self.cases.add(volume, segmentation, segmentId)
                    self.study.setRole(case.id, role)
            except InputError as error:
                problems += error.problems
        if problems:
            raise InputError(problems)
        return self.study

    def addFromScene(self) -> list[StudyCase]:
        """Add all scans of the scene that are not in the study, with their labels.

        Raises
        ------
        InputError
            Names the scans that cannot be used, after all others were added.
        """
        added: list[StudyCase] = []
        problems: list[Problem] = []
        for candidate in self.cases.candidates():
            try:
                added.append(self.cases.add(candidate.volume, candidate.segmentation, candidate.segmentId))
            except InputError as error:
                problems += error.problems
        if problems:
            raise InputError(problems)
        if not added:
            raise InputError(
                Problem("Scene", "Wanted scans that are not in the study yet, found none.", "Load scans first.")
            )
        return added

    def train(
        self,
        options: TrainingOptions | None = None,
        *,
        onEvent: OnEvent | None = None,
        onDone: OnDone | None = None,
        wait: bool = False,
    ) -> EngineOutcome | None:
        """Train a new model on the study in a child process.

        Parameters
        ----------
        options
            How to train.
        onEvent, onDone
            Called with each event of the engine, and once with the outcome, in the main thread.
        wait
            Wait until it has ended and return the outcome; Slicer stays responsive meanwhile.

        Raises
        ------
        InputError
            For problems found before the engine starts; those that the engine finds are in the outcome.
        """
        self._checkReady()
        options = options or TrainingOptions()
        arguments = options.arguments()
        model = self.study.currentRun
        startedFrom = model if options.warmStart else None
        if startedFrom is not None:
            arguments += ["--init", str(startedFrom.last_checkpoint)]
        self.cases.readStates()
        self.cases.refreshLabels()
        cohort = self.study.writeCohort()
        run = self.study.newRun()
        labeled = [case.id for case in self.study.cases if case.role == "labeled"]
        self.study.noteRun(run)
        startRound(run, startedFrom, model, labeled, sum(case.role == "unlabeled" for case in self.study.cases))
        self.progress = TrainingProgress()
        return self._train(
            ["train", "--cohort", str(cohort), "--run", str(run.path), *arguments], run, onEvent, onDone, wait
        )

    def retrain(
        self,
        *,
        minutes: float | None = None,
        iterations: int | None = None,
        device: str = "auto",
        onEvent: OnEvent | None = None,
        onDone: OnDone | None = None,
        wait: bool = False,
    ) -> EngineOutcome | None:
        """Train the current model further with its own settings and the latest labels; that model is kept.

        Afterwards, the two models are compared on the validation cases. The new one becomes current unless it is worse;
        :meth:`makeCurrent` chooses either. See :attr:`rounds`. If the comparison is interrupted, the earlier model
        stays current until :meth:`resume` has completed the comparison.

        Parameters
        ----------
        minutes, iterations
            Length; by default a third of the current model's training, or the same if that was a retraining.
        device, onEvent, onDone, wait
            As for :meth:`train`.

        Raises
        ------
        InputError
            If there is no current model, or its settings cannot be read.
        """
        self._checkReady()
        return self.train(
            self.retrainingOptions(minutes, iterations, device), onEvent=onEvent, onDone=onDone, wait=wait
        )

    def retrainingOptions(
        self, minutes: float | None = None, iterations: int | None = None, device: str = "auto"
    ) -> TrainingOptions:
        """The options that :meth:`retrain` uses. Raises the same :class:`InputError`."""
        run = self.study.currentRun
        if run is None:
            raise InputError(Problem("Retrain", "There is no model to retrain.", "Train one first."))
        try:
            settings = Settings.read(run.settings)
            changed = dict(text.split("=", 1) for text in settings.changes())
        except (OSError, ValueError, TypeError, InputError) as error:
            cause = f"The settings of model {run.path.name} cannot be read; a newer version may have made it."
            raise InputError(Problem("Retrain", cause, "Update the extension, or choose another model.")) from error
        if minutes is None and iterations is None:
            known = readRound(run)
            share = 1.0 if known is not None and known.startedFrom is not None else _RETRAINING_SHARE
            if settings.minutes is None:
                iterations = max(round(share * settings.iterations), 1)
            else:
                minutes = share * settings.minutes
        return TrainingOptions(settings.preset, settings.method, device, minutes, iterations, changed, warmStart=True)

    @property
    def rounds(self) -> list[Round]:
        """The trainings that made a model, oldest first, without those made elsewhere."""
        found = [readRound(run) for run in self.study.runs if run.last_checkpoint.exists()]
        return [one for one in found if one is not None]

    @property
    def learnedFrom(self) -> set[str]:
        """Ids of the cases that were predicted by a model that has learned from their labels."""
        models = {case.id: str(case.figures.get("run", "")) for case in self.study.cases if case.figures}
        runs = {name: self.study.folder / "runs" / name for name in set(models.values())}
        return {caseId for caseId, name in models.items() if caseId in self._learnedBy(runs[name])}

    def wasTrainedOn(self, caseId: str) -> bool:
        """Whether any model of the study was trained on the case, with or without its label."""
        return any(caseId in trainedOn(run) for run in self.study.runs if run.last_checkpoint.exists())

    def _learnedBy(self, run: Path) -> set[str]:
        # A finished model learns from no more cases, so the result is cached, unless nothing could be read.
        if not self._learned.get(run):
            self._learned[run] = learnedFrom(RunFolder(run))
        return self._learned[run]

    @property
    def unjudgedRun(self) -> RunFolder | None:
        """The newest run whose model can be judged but was not; None if a training has to be resumed first.

        :meth:`resume` judges it.
        """
        if self.study.resumableRun is not None:
            return None
        for run in reversed(self.study.runs):
            known = readRound(run) if run.last_checkpoint.exists() and reachedEnd(run) else None
            if known is not None and not known.cases and canBeJudged(run):
                return run
        return None

    def makeCurrent(self, run: str) -> None:
        """Use the model of the run with this name from now on. Raises :class:`InputError` if there is none."""
        found = [known for known in self.study.runs if known.path.name == run and known.last_checkpoint.exists()]
        if not found:
            raise InputError(Problem(run, "There is no model with this name.", "Choose one of the rounds."))
        self.study.chooseRun(found[0])

    def useAsLabel(self, caseId: str, segmentationNode: Any, segmentId: str) -> StudyCase:
        """Make a segment the label of a case and its role labeled; a validation case keeps its role.

        The segment can also be an unchanged prediction: it is copied, because the next prediction replaces it. The
        time, and the model that the segment was made from, are stored with the case.

        Raises
        ------
        InputError
            If the segment cannot be used, or is another case's label or prediction, or the study was moved or changed
            by another Slicer.
        """
        # Check before a copy is made.
        self.study.checkUnchanged()
        self.cases.readStates()
        self.display.releaseClones(caseId)
        if segmentationNode is not None and isOurs(segmentationNode):
            if segmentationNode is not self.display.teacherNode(caseId):
                cause = f"The prediction {segmentationNode.GetName()} belongs to another case."
                raise InputError(Problem(caseId, cause, "Choose this case's own prediction or segmentation."))
            # Copy the chosen node as it is: it may have been edited, or be older than the latest prediction.
            segmentationNode, segmentId = self._copy(caseId, segmentationNode, segmentId)
        self.cases.setLabel(caseId, segmentationNode, segmentId)
        if self.study.case(caseId).role not in ("labeled", "validation"):
            self.study.setRole(caseId, "labeled")
        return self.study.case(caseId)

    def suggest(
        self,
        *,
        device: str = "auto",
        onEvent: OnEvent | None = None,
        onDone: OnDone | None = None,
        wait: bool = False,
    ) -> EngineOutcome | None:
        """Ask the current model which unlabeled case to annotate next; see each case's ``suggested``.

        Raises
        ------
        InputError
            If there is no model yet, or no unlabeled case.
        """
        self._checkReady()
        run = self._modelFor("Suggest")
        if not any(case.role == "unlabeled" for case in self.study.cases):
            raise InputError(Problem("Suggest", "There is no unlabeled case to choose from.", "Add scans."))
        cohort = self._temporaryCohort("suggest", self.study.cohort)
        reasons: dict[str, str] = {}

        def take(event: dict[str, Any]) -> None:
            if event["event"] == "suggested":
                reasons[event["case"]] = event["reason"]
            notify(onEvent, event)

        kept = FirstError()

        def done(outcome: EngineOutcome) -> None:
            with kept:
                cohort.unlink(missing_ok=True)
                if outcome.state is EngineState.FINISHED:
                    self.study.setSuggestions(run.path.name, reasons)
            self._runner.end(onDone, kept.changed(outcome))

        arguments = ["suggest", "--run", str(run.path), "--cohort", str(cohort), "--count", "0", "--device", device]
        self._runner.start(arguments, take, done, stopFile=None)
        return self._runner.awaited(wait)

    def networkMasks(self, caseId: str) -> dict[str, Any]:
        """The latest prediction's masks by network, the teacher first; read-only, bool (k, j, i) on the scan's grid.

        Raises
        ------
        InputError
            If the case was not predicted, or a file of the prediction is damaged.
        """
        return self._predictions.masks(caseId)

    def resume(
        self,
        *,
        device: str = "auto",
        onEvent: OnEvent | None = None,
        onDone: OnDone | None = None,
        wait: bool = False,
    ) -> EngineOutcome | None:
        """Resume the last training if it did not finish, or the evaluation of its model.

        Raises
        ------
        InputError
            If there is nothing to resume.
        """
        self._checkReady()
        run, unjudged = self.study.resumableRun, self.unjudgedRun
        if unjudged is not None:
            self.progress = progressOf(unjudged)
            self._judge(unjudged, None, onEvent, onDone)
            return self._runner.awaited(wait)
        if run is None:
            raise InputError(Problem("Resume", "No training of this study can be resumed.", "Start a new one."))
        self.progress = progressOf(run)
        arguments = ["train", "--run", str(run.path), "--resume", "--device", device]
        return self._train(arguments, run, onEvent, onDone, wait)

    def predict(
        self,
        caseIds: Sequence[str] | None = None,
        *,
        device: str = "auto",
        onEvent: OnEvent | None = None,
        onDone: OnDone | None = None,
        wait: bool = False,
    ) -> EngineOutcome | None:
        """Segment cases with the current model, and compare each prediction with the case's label if there is one.

        Parameters
        ----------
        caseIds
            The cases; None: all.
        device, onEvent, onDone, wait
            As for :meth:`train`.

        Raises
        ------
        InputError
            If there is no model yet, or no such case.
        """
        self._checkReady()
        run = self._modelFor("Predict")
        chosen = [case for case in self.study.cases if caseIds is None or case.id in caseIds]
        if not chosen:
            raise InputError(Problem("Predict", "No case is chosen.", "Select cases in the table."))
        cohort = self._temporaryCohort("predict", Cohort((), tuple(Case(c.id, c.scan) for c in chosen), ()))
        arguments = [
            "predict",
            "--run",
            str(run.path),
            "--cohort",
            str(cohort),
            "--output",
            str(self.study.predictions),
        ]
        arguments += ["--volumes", "--overwrite", "--device", device]

        def present() -> dict[str, StudyCase]:
            # A case may be removed from the study meanwhile.
            return {case.id: case for case in self.study.cases} if self.hasStudy else {}

        kept = FirstError()

        def take(event: dict[str, Any]) -> None:
            if event["event"] == "predicted" and event["case"] in present():
                with kept:
                    figures = self.study.predictions / event["case"] / "figures.json"
                    content = json.loads(figures.read_text(encoding="utf-8"))
                    self.study.setFigures(event["case"], {**content, "run": run.path.name})
            notify(onEvent, event)

        def done(outcome: EngineOutcome) -> None:
            labeled = [case for case in present().values() if case.label is not None and self.isPredicted(case.id)]
            predicted = [case.id for case in labeled if case.id in {one.id for one in chosen}]
            outcome, evaluating = kept.changed(outcome), False
            with kept:
                cohort.unlink(missing_ok=True)
                if outcome.state is EngineState.FINISHED and predicted:
                    # The label may have been edited since it was written.
                    self.cases.refreshLabels(predicted)
                    self._evaluate(predicted, onEvent, onDone)
                    evaluating = True
            if not evaluating:
                self._runner.end(onDone, kept.changed(outcome))

        self._runner.start(arguments, take, done, stopFile=None)
        return self._runner.awaited(wait)

    def probe(self, device: str, onEvent: OnEvent, onDone: OnDone) -> EngineProcess:
        """Ask a child process whether PyTorch works and which device it would use; also possible during other work."""
        return self._runner.probe(device, onEvent, onDone)

    def showPrediction(self, caseId: str, *, surface: bool = True) -> Any:
        """The segmentation node of a case's latest prediction; loaded unless it is already in the scene.

        Raises
        ------
        InputError
            If the case was not predicted, or its scan cannot be loaded.
        """
        return self._predictions.show(caseId, surface=surface)

    def doubtfulPlaces(self, caseId: str) -> list[tuple[float, float, float]]:
        """Places (R, A, S in mm) of high uncertainty in a case's prediction, one per region, largest region first.

        Raises
        ------
        InputError
            If the case was not predicted.
        """
        return self._predictions.doubtfulPlaces(caseId)

    def segmentToCorrect(self, caseId: str) -> tuple[Any, str]:
        """Node and id of the segment for correcting a case: its label, or a copy of the teacher's segmentation.

        The segment is empty if the case was not predicted. A correction that was started earlier is continued, so that
        no work is lost. The state of the case becomes in progress, unless it was completed or flagged.

        Raises
        ------
        InputError
            If a file of the case is missing.
        """
        if self.study.case(caseId).label is not None:
            self.cases.loadLabel(caseId)
        begun = self.cases.correctedSegment(caseId)
        if begun is not None and self.isPredicted(caseId) and not voxelCount(*begun):
            # The empty segment was made before there was a prediction.
            self.cases.forgetCorrected(caseId)
            begun = None
        found = self.cases.labelSource(caseId) or begun
        if found is None:
            found = self.copyPrediction(caseId) if self.isPredicted(caseId) else self._emptySegment(caseId)
        if self.study.case(caseId).state in ("not started", "predicted"):
            self.cases.setState(caseId, "in progress")
        teacher = self.display.teacherNode(caseId)
        if teacher is not None and teacher.GetDisplayNode() is not None:
            teacher.GetDisplayNode().SetVisibility(False)
        return found

    def accept(
        self,
        caseId: str,
        segmentationNode: Any,
        segmentId: str,
        *,
        least: float | None = None,
        cut: float = USUAL_CUT,
    ) -> None:
        """Copy the teacher's opinion into a segment, like the effect Co-learning of the Segment Editor.

        Without the editor, there is no undo and no masking.

        Parameters
        ----------
        segmentationNode, segmentId
            The segment to change; not a prediction.
        least
            Change only voxels where the teacher's confidence, 0 to 1, is at least this; by default everywhere.
        cut
            Probability above which a voxel counts as left atrium: below 0.5 is wider than the prediction, above 0.5 is
            tighter.

        Raises
        ------
        InputError
            If there is no prediction, it does not fit this segmentation, or it has no uncertainty or probability for
            these options.
        """
        volume = self.cases.load(caseId)
        opinion = findOpinion(self, volume, segmentationNode)
        if segmentationNode.GetSegmentation().GetSegment(segmentId) is None:
            raise InputError(
                Problem(
                    segmentationNode.GetName(), "The segmentation has no such segment.", "Choose one of its segments."
                )
            )
        takeInto(segmentationNode, segmentId, opinion, imageOf(volume), least=least, cut=cut)
        markModel(segmentationNode, segmentId, opinion.segmentationNode.GetAttribute(MODEL_ATTRIBUTE))

    def measure(self, segmentationNode: Any, segmentId: str, volumeNode: Any) -> Readouts:
        """A segment's volume, and Dice, Jaccard, 95HD and ASD against each network's segmentation of the same scan.

        Raises
        ------
        InputError
            If the segment cannot be compared.
        """
        return readoutsOf(segmentationNode, segmentId, volumeNode, self._referencesFor(segmentationNode, volumeNode))

    def followSegment(self, listener: Listener, segmentationNode: Any, segmentId: str, volumeNode: Any) -> None:
        """Call a listener with the figures of :meth:`measure` now and after each change.

        Only one segment is followed at a time.

        Raises
        ------
        InputError
            If the scan's prediction is damaged, or the segmentation belongs to another case.
        """
        self._following.follow(
            listener,
            segmentationNode,
            segmentId,
            volumeNode,
            lambda: self._referencesFor(segmentationNode, volumeNode),
        )

    def unfollowSegment(self, listener: Listener) -> None:
        """Stop calling this listener; without listeners, nothing is computed."""
        self._following.unfollow(listener)

    def _referencesFor(self, segmentationNode: Any, volumeNode: Any) -> dict[str, Any]:
        """The networks' masks of a scan; empty if the scan is not a case, or was not predicted."""
        case = self.cases.caseOf(volumeNode) if self.hasStudy and volumeNode is not None else None
        if case is not None:
            self.cases.checkOwner(case.id, segmentationNode)
        return {} if case is None or not self.isPredicted(case.id) else self.networkMasks(case.id)

    def copyPrediction(self, caseId: str) -> tuple[Any, str]:
        """Copy the teacher's segmentation of a case into a new node for editing; return node and segment id.

        The copy is not a label yet. A tag of the segment names the model that made it.

        Raises
        ------
        InputError
            If the case was not predicted, or its scan cannot be loaded.
        """
        teacher = self.showPrediction(caseId)
        return self._copy(caseId, teacher, str(teacher.GetSegmentation().GetNthSegmentID(0)))

    def _copy(self, caseId: str, teacher: Any, segmentId: str) -> tuple[Any, str]:
        if teacher.GetSegmentation().GetSegment(segmentId) is None:
            raise InputError(Problem(teacher.GetName(), "No segment is chosen.", "Choose one of its segments."))
        node = self._newSegmentation(caseId, "corrected")
        node.GetSegmentation().CopySegmentFromSegmentation(teacher.GetSegmentation(), segmentId)
        markModel(node, segmentId, teacher.GetAttribute(MODEL_ATTRIBUTE))
        self.cases.markCorrected(node, caseId, segmentId)
        if teacher.GetDisplayNode() is not None:
            teacher.GetDisplayNode().SetVisibility(False)
        return node, segmentId

    def _emptySegment(self, caseId: str) -> tuple[Any, str]:
        node = self._newSegmentation(caseId, "outlined")
        segmentId = str(node.GetSegmentation().AddEmptySegment("", SEGMENT_NAME))
        node.GetSegmentation().GetSegment(segmentId).SetTerminology(TERMINOLOGY)
        self.cases.markCorrected(node, caseId, segmentId)
        return node, segmentId

    def _newSegmentation(self, caseId: str, what: str) -> Any:
        """A segmentation without segments on the grid of the case's scan, under the scan in the subject hierarchy."""
        volume = self.cases.load(caseId)
        node = self._scene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{volume.GetName()} {what}")
        node.CreateDefaultDisplayNodes()
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        hierarchy = self._scene.GetSubjectHierarchyNode()
        if hierarchy is not None:
            hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), hierarchy.GetItemByDataNode(volume))
        return node

    @property
    def isRunning(self) -> bool:
        return self._runner.isRunning

    @property
    def canPause(self) -> bool:
        """Whether the running work can be paused: only a training that was not asked to stop yet."""
        return self._runner.canPause

    def pause(self) -> None:
        """Ask a training to save and stop after its iteration; :meth:`resume` continues. Nothing else can be paused."""
        self._runner.pause()

    def cancel(self) -> None:
        """Ask the engine to save; end it and all its children after the time of three iterations, at least 3 s."""
        self._runner.cancel(self.progress.secondsAnIteration or 0.0)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the engine has ended or the time is over; return whether it has ended."""
        return self._runner.wait(seconds)

    def close(self) -> None:
        """Stop running work, waiting less than 5 s, and stop following a segment. A training can be resumed.

        A training whose iteration takes longer saves and ends by itself soon after.
        """
        self._following.stop()
        self._runner.close(self.progress.secondsAnIteration or 0.0)

    def _train(
        self, arguments: list[str], run: RunFolder, onEvent: OnEvent | None, onDone: OnDone | None, wait: bool
    ) -> EngineOutcome | None:
        def take(event: dict[str, Any]) -> None:
            self.progress.follow(event)
            notify(onEvent, event)

        def done(outcome: EngineOutcome) -> None:
            # A training that was asked to stop at the last moment may be complete, with nothing to resume.
            late = outcome.state is EngineState.STOPPED and reachedEnd(run)
            if outcome.state is not EngineState.FINISHED and not late:
                self._runner.end(onDone, outcome)
                return
            outcome = EngineOutcome(EngineState.FINISHED, "", outcome.details)
            kept, validated = FirstError(), isToBeJudged(run)
            with kept:
                # The new model becomes current: immediately if it cannot be judged, otherwise only after judging.
                self._prefer(*((self._rivalOf(run), run) if validated else (run, self._rivalOf(run))))
            # A user who pressed Pause or Cancel does not want an evaluation to start.
            if validated and not late:
                self._judge(run, kept.changed(outcome), onEvent, onDone)
            else:
                self._runner.end(onDone, kept.changed(outcome))

        self._runner.start(arguments, take, done, stopFile=run.stop_file)
        return self._runner.awaited(wait)

    def _rivalOf(self, run: RunFolder) -> RunFolder | None:
        """The run whose model was current when this run was started, if it still exists."""
        known = readRound(run)
        name = None if known is None else known.against
        return next((r for r in self.study.runs if r.path.name == name and r.last_checkpoint.exists()), None)

    def _prefer(self, better: RunFolder | None, other: RunFolder | None) -> None:
        """Make one model current instead of the other; keep a third one that the user has chosen meanwhile."""
        if self.study.currentRun == other:
            self.study.chooseRun(None if better == self.study.runs[-1] else better)

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
                    judged = judgeRound(run, event)
                    if against is not None:
                        judgeEarlier(against, event)
                    found = None if judged is None else judged.comparison
                    worse = found is not None and found.verdict == "worse"
                    self._prefer(*((against, run) if worse else (run, against)))
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

    def _evaluate(self, caseIds: list[str], onEvent: OnEvent | None, onDone: OnDone | None) -> None:
        chosen = [self.study.case(caseId) for caseId in caseIds]
        members = tuple(Case(c.id, c.scan, c.label.file, c.label.segment) for c in chosen if c.label is not None)
        cohort = self._temporaryCohort("evaluate", Cohort((), (), members))
        table = self.study.folder / "metrics.csv"
        kept = FirstError()
        arguments = ["evaluate", "--cohort", str(cohort), "--predictions", str(self.study.predictions)]

        def take(event: dict[str, Any]) -> None:
            if event["event"] == "evaluated":
                figures = {"dice": event["dice"], "hd95_mm": event["hd95"], "asd_mm": event["asd"]}
                measured = next(case for case in chosen if case.id == event["case"])
                present = next((case for case in self.study.cases if case.id == measured.id), None)
                # Meanwhile, the case may have another label, or be removed from the study.
                if present is not None and (present.label, present.origin) == (measured.label, measured.origin):
                    with kept:
                        self.study.addFigures(measured.id, figures)
            notify(onEvent, event)

        def done(outcome: EngineOutcome) -> None:
            with kept:
                cohort.unlink(missing_ok=True)
            self._runner.end(onDone, kept.changed(outcome))

        self._runner.start([*arguments, "--output", str(table), "--overwrite"], take, done, stopFile=None)

    def _temporaryCohort(self, verb: str, cohort: Cohort) -> Path:
        # The folder may have disappeared since the previous verb, which this one follows.
        self.study.checkUnchanged()
        path = self.study.folder / f"{verb}.json"
        save_cohort(cohort, path)
        return path

    def isPredicted(self, caseId: str) -> bool:
        """Whether the case has a complete prediction: the engine writes the segmentation last."""
        return self._predictions.exists(caseId)

    def _modelFor(self, verb: str) -> RunFolder:
        run = self.study.currentRun
        if run is None:
            raise InputError(Problem(verb, "There is no model yet.", "Train one first."))
        return run

    def _checkReady(self) -> None:
        self._runner.checkIdle()
        # If the folder was renamed or its disk unplugged, the engine would create a new one at the old place, and hours
        # of work would end up there.
        self.study.checkUnchanged()
