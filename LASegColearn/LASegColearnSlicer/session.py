"""What a user can do with a study in Slicer, without widgets: cases, training, prediction, correction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.run_folder import RunFolder
from LASegColearnSlicer.case_predictions import CasePredictions
from LASegColearnSlicer.correction import Correction
from LASegColearnSlicer.current_model import CurrentModel
from LASegColearnSlicer.engine_process import EngineOutcome, EngineProcess, EngineTimer
from LASegColearnSlicer.engine_runner import EngineRunner, OnDone, OnEvent
from LASegColearnSlicer.live_readouts import Listener, Readouts, readoutsOf
from LASegColearnSlicer.open_study import OpenStudy
from LASegColearnSlicer.results import MODEL_ATTRIBUTE, PredictionDisplay, markModel
from LASegColearnSlicer.rounds import Round, roundsOf, trainedOn, unjudgedRun
from LASegColearnSlicer.scene_cases import SceneCases
from LASegColearnSlicer.segment_following import SegmentFollowing
from LASegColearnSlicer.study import Study, StudyCase
from LASegColearnSlicer.teacher_opinion import USUAL_CUT, findOpinion, imageOf, takeInto
from LASegColearnSlicer.training_options import TrainingOptions, retrainingOptions
from LASegColearnSlicer.training_progress import TrainingProgress
from LASegColearnSlicer.training_rounds import TrainingRounds

# A volume node, and the segmentation node and segment id of its label.
LabeledScan = tuple[Any, Any, str]


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
        self._opened = OpenStudy(scene, loadVolume, loadSegmentation)
        self._runner = EngineRunner(scene.IsBatchProcessing, makeTimer, idle)
        self._predictions = CasePredictions(self._opened)
        self._training = TrainingRounds(self._opened, self._runner)
        self._model = CurrentModel(self._opened, self._runner, self._predictions)
        self._correction = Correction(self._opened, self._predictions)
        self._following = SegmentFollowing(makeTimer)

    @property
    def study(self) -> Study:
        """The open study. Raises :class:`InputError` if there is none."""
        return self._opened.study

    @property
    def hasStudy(self) -> bool:
        return self._opened.exists

    def openStudy(self, folder: Path | str) -> Study:
        """Open the study in a folder, or make a new one there. Raises :class:`InputError` if it cannot."""
        if self.isRunning and (not self.hasStudy or Path(folder) != self.study.folder):
            raise InputError(Problem("Study", "A task of this study is still running.", "Cancel it or wait for it."))
        return self._opened.open(Path(folder))

    def closeStudy(self) -> None:
        """Close the study. Running work is stopped; a training can be resumed."""
        self.close()
        self._opened.close()

    def onStudyChanged(self, listener: Callable[[], None]) -> None:
        """Register a listener that is called whenever another study was opened, or the study was closed."""
        self._opened.onChanged(listener)

    @property
    def cases(self) -> SceneCases:
        """The link between the study and the scene."""
        return self._opened.cases

    @property
    def display(self) -> PredictionDisplay:
        """Shows predictions of this study in the scene."""
        return self._opened.display

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
        self._training.start(options or TrainingOptions(), onEvent, onDone)
        return self._runner.awaited(wait)

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
        return retrainingOptions(self.study.currentRun, minutes, iterations, device)

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
        self._training.resume(device, onEvent, onDone)
        return self._runner.awaited(wait)

    @property
    def canResume(self) -> bool:
        """Whether a training, or the evaluation of its model, can be resumed."""
        return self.hasStudy and (self.study.resumableRun is not None or self.unjudgedRun is not None)

    @property
    def progress(self) -> TrainingProgress:
        """The progress of the last training that was started or resumed."""
        return self._training.progress

    @progress.setter
    def progress(self, progress: TrainingProgress) -> None:
        self._training.progress = progress

    @property
    def rounds(self) -> list[Round]:
        """The trainings that made a model, oldest first, without those made elsewhere."""
        return roundsOf(self.study)

    @property
    def unjudgedRun(self) -> RunFolder | None:
        """The newest run whose model can be judged but was not; None if a training has to be resumed first.

        :meth:`resume` judges it.
        """
        return unjudgedRun(self.study)

    def makeCurrent(self, run: str) -> None:
        """Use the model of the run with this name from now on. Raises :class:`InputError` if there is none."""
        found = [model for model in self.study.models if model.path.name == run]
        if not found:
            raise InputError(Problem(run, "There is no model with this name.", "Choose one of the rounds."))
        self.study.chooseRun(found[0])

    @property
    def learnedFrom(self) -> set[str]:
        """Ids of the cases that were predicted by a model that has learned from their labels."""
        return self._training.learnedFrom

    def wasTrainedOn(self, caseId: str) -> bool:
        """Whether any model of the study was trained on the case, with or without its label."""
        return any(caseId in trainedOn(run) for run in self.study.models)

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
        self._model.predict(caseIds, device, onEvent, onDone)
        return self._runner.awaited(wait)

    def isPredicted(self, caseId: str) -> bool:
        """Whether the case has a complete prediction: the engine writes the segmentation last."""
        return self._predictions.exists(caseId)

    def showPrediction(self, caseId: str, *, surface: bool = True) -> Any:
        """The segmentation node of a case's latest prediction; loaded unless it is already in the scene.

        Raises
        ------
        InputError
            If the case was not predicted, or its scan cannot be loaded.
        """
        return self._predictions.show(caseId, surface=surface)

    def networkMasks(self, caseId: str) -> dict[str, Any]:
        """The latest prediction's masks by network, the teacher first; read-only, bool (k, j, i) on the scan's grid.

        Raises
        ------
        InputError
            If the case was not predicted, or a file of the prediction is damaged.
        """
        return self._predictions.masks(caseId)

    def doubtfulPlaces(self, caseId: str) -> list[tuple[float, float, float]]:
        """Places (R, A, S in mm) of high uncertainty in a case's prediction, one per region, largest region first.

        Raises
        ------
        InputError
            If the case was not predicted.
        """
        return self._predictions.doubtfulPlaces(caseId)

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
        self._model.suggest(device, onEvent, onDone)
        return self._runner.awaited(wait)

    def segmentToCorrect(self, caseId: str) -> tuple[Any, str]:
        """Node and id of the segment for correcting a case: its label, or a copy of the teacher's segmentation.

        The segment is empty if the case was not predicted. A correction that was started earlier is continued, so that
        no work is lost. The state of the case becomes in progress, unless it was completed or flagged.

        Raises
        ------
        InputError
            If a file of the case is missing.
        """
        return self._correction.segment(caseId)

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

    def copyPrediction(self, caseId: str) -> tuple[Any, str]:
        """Copy the teacher's segmentation of a case into a new node for editing; return node and segment id.

        The copy is not a label yet. A tag of the segment names the model that made it.

        Raises
        ------
        InputError
            If the case was not predicted, or its scan cannot be loaded.
        """
        return self._correction.copyPrediction(caseId)

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
        return self._correction.useAsLabel(caseId, segmentationNode, segmentId)

    def measure(self, segmentationNode: Any, segmentId: str, volumeNode: Any) -> Readouts:
        """A segment's volume, and Dice, Jaccard, 95HD and ASD against each network's segmentation of the same scan.

        Raises
        ------
        InputError
            If the segment cannot be compared.
        """
        references = self._predictions.masksOfScan(volumeNode, segmentationNode)
        return readoutsOf(segmentationNode, segmentId, volumeNode, references)

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
            lambda: self._predictions.masksOfScan(volumeNode, segmentationNode),
        )

    def unfollowSegment(self, listener: Listener) -> None:
        """Stop calling this listener; without listeners, nothing is computed."""
        self._following.unfollow(listener)

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

    def onWorkChanged(self, listener: Callable[[], None]) -> None:
        """Register a listener that is called whenever the engine was started or has ended."""
        self._runner.onChanged(listener)

    def probe(self, device: str, onEvent: OnEvent, onDone: OnDone) -> EngineProcess:
        """Ask a child process whether PyTorch works and which device it would use; also possible during other work."""
        return self._runner.probe(device, onEvent, onDone)

    def _checkReady(self) -> None:
        self._runner.checkIdle()
        # If the folder was renamed or its disk unplugged, the engine would create a new one at the old place, and hours
        # of work would end up there.
        self.study.checkUnchanged()
