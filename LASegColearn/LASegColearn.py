"""LASegColearn in 3D Slicer: the module, its panel, its logic and its test."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from LASegColearnLib.errors import InputError, Problem, sentence_for
from LASegColearnSlicer.added_paths import addPaths, namedLikeLabels, notUsedAsLabels
from LASegColearnSlicer.case_table import CaseTable
from LASegColearnSlicer.case_views import CaseViews
from LASegColearnSlicer.chart_view import ChartView
from LASegColearnSlicer.correct_section import CorrectSection
from LASegColearnSlicer.dependencies import Dependencies
from LASegColearnSlicer.device_probe import DeviceProbe
from LASegColearnSlicer.doubt_tour import DoubtTour
from LASegColearnSlicer.engine_process import EngineOutcome, EngineState
from LASegColearnSlicer.installation_section import InstallationSection
from LASegColearnSlicer.panel_messages import PanelMessages
from LASegColearnSlicer.panel_parameters import PanelParameters, replaceUnknownChoices
from LASegColearnSlicer.panel_texts import modelText, notEvaluatedYet
from LASegColearnSlicer.rounds_table import RoundsTable
from LASegColearnSlicer.sample_data import makePhantoms, registerSampleData
from LASegColearnSlicer.scene_cases import leftAtriumSegment
from LASegColearnSlicer.session import Session
from LASegColearnSlicer.training_options import TrainingOptions
from LASegColearnSlicer.training_plots import TrainingPlots
from LASegColearnSlicer.training_progress import knownProgress, progressOf
from LASegColearnSlicer.training_section import TrainingSection
from LASegColearnSlicer.work_status import WorkStatus

# Key in Slicer's own settings, which are per user and computer.
_LAST_STUDY = "LASegColearn/StudyFolder"
_USER_GUIDE = "https://github.com/LASegColearn/SlicerLASegColearn/blob/main/docs/user-guide.md"


class LASegColearn(ScriptedLoadableModule):
    """What Slicer lists: title, category, help and thanks."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Left Atrium Co-Learning")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = ["Segmentations"]
        parent.contributors = ["LASegColearn contributors"]
        parent.helpText = _(
            "Learns to segment the left atrium from a few labeled and many unlabeled MR scans together, shows the "
            "segmentations and how far to trust them, and learns again from corrections. Choose a study folder, add "
            "scans, press Train, then Predict. For research, not for diagnosis. Nothing leaves this computer."
        )
        parent.helpText += f'<p><a href="{_USER_GUIDE}">{_("User guide")}</a></p>'
        parent.acknowledgementText = _(
            "The method: Ziyuan Zhang, Semi-supervised Medical Image Segmentation with Hybrid Cropping in a "
            "Multi-Model Co-learning Framework, 2024. "
            "If you use this module in your work, please cite that paper and 3D Slicer."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)
        slicer.app.connect("startupCompleted()", registerEffect)


def registerEffect() -> None:
    """Offer the effect Co-learning in every Segment Editor."""
    import qSlicerSegmentationsEditorEffectsPythonQt as effects

    effect = effects.qSlicerSegmentEditorScriptedEffect(None)
    source = Path(__file__).resolve().parent / "SegmentEditorColearningLib" / "SegmentEditorEffect.py"
    effect.setPythonSource(source.as_posix())
    effect.self().register()


class LASegColearnLogic(Session, ScriptedLoadableModuleLogic):
    """Studies, training, prediction and evaluation without a widget; its methods are those of `Session`.

    >>> logic = slicer.util.getModuleLogic("LASegColearn")  # doctest: +SKIP
    >>> logic.openStudy("/data/my-study")  # doctest: +SKIP
    >>> logic.addFromScene()  # doctest: +SKIP
    >>> logic.train(wait=True).state.value  # doctest: +SKIP
    'finished'
    >>> logic.predict(wait=True)  # doctest: +SKIP
    >>> logic.showPrediction("case_003")  # doctest: +SKIP
    """

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        Session.__init__(
            self,
            slicer.mrmlScene,
            # Only showCase decides what is visible: a loaded uncertainty volume must not replace the scan in the views.
            lambda path: _loaded(slicer.util.loadVolume, path, {"show": False}),
            lambda path: _loaded(slicer.util.loadSegmentation, path, {}),
            qt.QTimer,
            slicer.app.processEvents,
        )
        self._views = CaseViews(self)

    def getParameterNode(self) -> PanelParameters:
        # The decorator gives the class this constructor.
        return PanelParameters(super().getParameterNode())  # type: ignore[call-arg]

    def showCase(self, caseId: str, *, surface: bool = True, uncertainty: bool = True) -> Any:
        """Show a case in the slice and 3D views: its scan, label, prediction and uncertainty; others are hidden.

        Raises
        ------
        InputError
            If a file of the case is missing or cannot be read. Unless it is the scan, everything else is shown first.
        """
        volume, wrong = self.showWhatIsThere(caseId, surface=surface, uncertainty=uncertainty)
        if wrong is not None:
            raise wrong
        return volume

    def showWhatIsThere(self, caseId: str, *, surface: bool, uncertainty: bool) -> tuple[Any, InputError | None]:
        """Like :meth:`showCase`, but return errors in the label's or prediction's files together with the scan."""
        return self._views.show(caseId, surface=surface, uncertainty=uncertainty)


class LASegColearnWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel. It shows the state of the logic and passes user actions to it; it computes nothing itself."""

    def __init__(self, parent: Any = None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic: LASegColearnLogic | None = None
        # Any, because the decorator adds methods: connectParametersToGui and disconnectGui.
        self._parameterNode: Any = None
        self._parameterNodeGuiTag: int | None = None
        self._shownCase: str | None = None
        # Whether the scene may choose the study: an opened scene may, one that is added to the current scene may not.
        self._sceneChoosesStudy = True
        self._hearsQuit = False

    def setup(self) -> None:
        """Build the panel; called once, when the module is first opened."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/LASegColearn.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = LASegColearnLogic()
        self.messages = PanelMessages(self.ui)
        self.workStatus = WorkStatus(self.ui, self.logic)
        self.plots = TrainingPlots(slicer.mrmlScene)
        self.installation = InstallationSection(
            self.ui, Path(self.resourcePath("requirements.txt")), self.onInstallationChanged
        )
        self.deviceProbe = DeviceProbe(
            self.ui.deviceComboBox, self.ui.deviceLabel, self.logic.probe, self.workStatus.keepDetails
        )
        self.doubtTour = DoubtTour(self.logic.doubtfulPlaces)
        self.caseTable = CaseTable(self.ui.casesTable, self.onRoleChosen, self.onStateChosen)
        self.roundsTable = RoundsTable(self.ui.roundsTable)
        self.correctSection = CorrectSection(
            self.ui,
            self.logic,
            lambda: self.messages.tellingErrors("correct"),
            lambda caseId: self._showCase(caseId),
            lambda: self._shownCase,
        )
        self.chartView = ChartView(
            self.ui.curvesComboBox,
            self.plots,
            lambda: self.parent.isEntered and not self.correctSection.isAtWork,
        )
        self.trainingSection = TrainingSection(
            self.ui,
            self.logic,
            self.messages,
            self.workStatus,
            self.chartView,
            lambda: self._parameterNode,
            self.update,
            self.onDone,
        )
        self.logic.onStudyChanged(self.onStudyChanged)
        # Also reports work that was started in the Python console.
        self.logic.onWorkChanged(self.update)
        self.ui.studyFolderButton.text = _("Choose a study folder ...")
        self.ui.studyFolderButton.caption = _("Study folder")
        self._dropFilter = _DropFilter()
        self._dropFilter.onPaths = self.onDropped
        self.ui.casesTable.viewport().installEventFilter(self._dropFilter)
        self._connect()
        self.initializeParameterNode()
        self._openStudyOfLastTime()
        self.trainingSection.onMethodChosen()

    def _openStudyOfLastTime(self) -> None:
        """If the scene names no study, open the last one used on this computer, if it still exists."""
        assert self.logic is not None
        folder = slicer.util.settingsValue(_LAST_STUDY, "")
        named = self._parameterNode is not None and self._parameterNode.studyFolder
        if folder and not named and not self.logic.hasStudy and _isStudy(folder):
            self.openStudy(folder)

    def cleanup(self) -> None:
        """Save and stop running work before the module is unloaded or Slicer exits."""
        if self.logic is not None:
            self.logic.close()
            self.deviceProbe.end()
        if self._hearsQuit:
            self.correctSection.exit()
            self.correctSection.cleanup()
            slicer.app.disconnect("aboutToQuit()", self.cleanup)
            slicer.app.disconnect("lastWindowClosed()", self.onLastWindowClosed)
            self._hearsQuit = False
        self.removeObservers()
        # Without a logic, the panel was never set up.
        if self.logic is not None:
            self.setParameterNode(None)

    def onLastWindowClosed(self) -> None:
        """Stop running work: Slicer cannot exit while the Python console waits for a training."""
        if self.logic is not None:
            self.logic.close()

    def onReload(self) -> None:
        """For developers: also reload the helper modules; Slicer reloads only this file."""
        packages = ("LASegColearnLib", "LASegColearnSlicer", "SegmentEditorColearningLib")
        for name in [name for name in sys.modules if name.startswith(packages)]:
            del sys.modules[name]
        super().onReload()

    def enter(self) -> None:
        self.initializeParameterNode()
        self.correctSection.enter()
        if self.logic is not None and self.logic.hasStudy:
            # The states may have been changed in the Segment Editor.
            try:
                self.logic.cases.readStates()
            except (InputError, OSError) as error:
                self.messages.say("inputs", sentence_for(error))
        self.showDependencies()
        self.update()

    def exit(self) -> None:
        self.correctSection.exit()
        # Running work continues. The parameter node is bound again when the panel is entered.
        self.setParameterNode(None)

    def onSceneStartClose(self, _caller: Any, _event: Any) -> None:
        self.correctSection.onSceneStartClose()
        self.setParameterNode(None)

    def onSceneEndClose(self, _caller: Any, _event: Any) -> None:
        """Keep the study open when the scene is closed: training continues, and scans are loaded again when shown."""
        self._shownCase = None
        if self.parent.isEntered:
            self.correctSection.onSceneEndClose()
            self.initializeParameterNode()
            self.update()
        # Another scene may be opened next.
        self._sceneChoosesStudy = True

    def onSceneEndImport(self, _caller: Any, _event: Any) -> None:
        # Even if the panel is hidden: otherwise an effect that was active when the scene was saved would become active
        # again unnoticed.
        self.correctSection.onSceneEndImport()
        if self.parent.isEntered:
            self.initializeParameterNode()
            self.update()

    def initializeParameterNode(self) -> None:
        assert self.logic is not None
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, node: Any) -> None:
        """Bind the panel to another parameter node, and open the study it names if the scene may choose the study."""
        assert self.logic is not None
        if self._parameterNode is not None and self._parameterNodeGuiTag is not None:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self._parameterNodeGuiTag = None
        self._parameterNode = node
        if node is None:
            return
        unknown = replaceUnknownChoices(node)
        # Not connectGui: it does not return the tag (Slicer issue 7547), and a node left bound writes old choices.
        self._parameterNodeGuiTag = node.connectParametersToGui(self._boundWidgets())
        self.trainingSection.showSettings()
        chooses = self._sceneChoosesStudy or not self.logic.hasStudy
        self._sceneChoosesStudy = False
        isOpen = self.logic.hasStudy and str(self.logic.study.folder) == node.studyFolder
        if node.studyFolder and chooses and not isOpen:
            # Opening a scene must not create a missing study folder.
            if _isStudy(node.studyFolder):
                self.openStudy(node.studyFolder)
                # While the engine runs, the study stays open. The scene may choose its study afterwards.
                self._sceneChoosesStudy = not self.logic.hasStudy or str(self.logic.study.folder) != node.studyFolder
            else:
                if self.logic.hasStudy and not self.logic.isRunning:
                    # Otherwise the next action would change a study that this scene does not refer to.
                    self.logic.closeStudy()
                self.messages.say(
                    "inputs", _("The study folder that this scene names was not found. Choose the folder again.")
                )
        elif self.logic.hasStudy:
            node.studyFolder = str(self.logic.study.folder)
        if unknown:
            told = _("Not available here: {names}, which this scene asks for. The defaults are used instead.")
            self.messages.say("train", told.format(names=", ".join(unknown)))

    def _boundWidgets(self) -> dict[str, Any]:
        """The panel's widgets by the name of the parameter that the .ui file assigns to each."""
        named = {widget.property("SlicerParameterName"): widget for widget in vars(self.ui).values()}
        return {name: widget for name, widget in named.items() if name}

    def openStudy(self, folder: str) -> None:
        """Open the study in this folder, or make one."""
        assert self.logic is not None
        with self.messages.tellingErrors("inputs"):
            if not folder:
                raise InputError(Problem(_("Study"), _("No folder is chosen."), _("Choose one.")))
            self._sceneChoosesStudy = False
            study = self.logic.openStudy(folder)
            if self._parameterNode is not None:
                self._parameterNode.studyFolder = str(study.folder)
            self._showStudyFolder(str(study.folder))
            qt.QSettings().setValue(_LAST_STUDY, str(study.folder))
            self.logic.cases.readStates()
            run = study.resumableRun
            if run is not None and not self.logic.isRunning:
                self.logic.progress = progressOf(run)
                self.messages.say("train", _("The last training did not finish. Press Resume to continue it."))
            elif not self.logic.isRunning:
                self.messages.say("train", notEvaluatedYet(self.logic))
        self.update()

    def onStudyChanged(self) -> None:
        """Forget the previous study: case ids are not unique across studies.

        Called when a study was opened, here or in the Python console, or closed.
        """
        assert self.logic is not None
        self._shownCase = None
        self.doubtTour.startAnew()
        # Otherwise it could become the label of a case of this study.
        self.ui.labelSelector.setCurrentNode(None)
        self.correctSection.onStudyChanged()
        self.plots.update(self.logic.progress)
        if self.logic.hasStudy:
            folder = str(self.logic.study.folder)
            if self._parameterNode is not None:
                self._parameterNode.studyFolder = folder
            self._showStudyFolder(folder)
        else:
            self.ui.studyFolderButton.text = _("Choose a study folder ...")
        self.update()

    def _showStudyFolder(self, folder: str) -> None:
        button = self.ui.studyFolderButton
        # Setting the folder emits the same signal as choosing one.
        blocked = button.blockSignals(True)
        button.directory = folder
        button.text = folder
        button.blockSignals(blocked)

    def onDropped(self, paths: list[str]) -> None:
        """Add folders, cohort files and scans that were dropped onto the table."""
        assert self.logic is not None
        with self.messages.tellingErrors("inputs"):
            self.messages.say("inputs", addPaths(self.logic.study, [Path(path) for path in paths]))
        self.update()

    def onAddFromScene(self) -> None:
        assert self.logic is not None
        # A scan without its own file, such as a DICOM series, is written into the study, which takes about a second.
        with self.messages.tellingErrors("inputs"), slicer.util.WaitCursor():
            added = self.logic.addFromScene()
            notes = [namedLikeLabels(added), notUsedAsLabels(self.logic.cases.unusedLabels())]
            self.messages.say("inputs", "\n".join(filter(None, notes)))
        self.update()

    def onAddFolder(self) -> None:
        folder = qt.QFileDialog.getExistingDirectory(self.parent, _("Folder with scans"))
        if folder:
            self.onDropped([folder])

    def onAddCohort(self) -> None:
        file = qt.QFileDialog.getOpenFileName(self.parent, _("Cohort file"), "", "*.json")
        file = file[0] if isinstance(file, tuple) else file
        if file:
            self.onDropped([file])

    def onRemove(self) -> None:
        assert self.logic is not None
        chosen = self.caseTable.selectedIds()
        if not chosen:
            self.messages.say("inputs", _("No case is selected. Select cases in the table."))
            return
        question = _("Remove {n} case(s) from the study? No file is deleted.").format(n=len(chosen))
        if slicer.util.confirmOkCancelDisplay(question):
            with self.messages.tellingErrors("inputs"):
                for caseId in chosen:
                    self.logic.study.remove(caseId)
            if self._shownCase in chosen:
                self._shownCase = None
                self.doubtTour.startAnew()
            self.update()

    def onRoleChosen(self, caseId: str, role: Any) -> None:
        assert self.logic is not None
        with self.messages.tellingErrors("inputs"):
            self.logic.study.setRole(caseId, role)
            if role == "validation" and self.logic.wasTrainedOn(caseId):
                text = _("{case}: A model of this study was trained on this case, so it cannot validate that model.")
                refused = _("Training will refuse it as a validation case. Give it another role.")
                self.messages.say("inputs", f"{text.format(case=self.logic.study.case(caseId).name)} {refused}")
        self.update()

    def onStateChosen(self, caseId: str, state: Any) -> None:
        assert self.logic is not None
        with self.messages.tellingErrors("inputs"):
            self.logic.cases.setState(caseId, state)
        self.update()

    def onLabelSegmentationChosen(self, node: Any) -> None:
        """Choose the left atrium segment if it can be identified: the selector chooses none in a new segmentation."""
        selector = self.ui.labelSelector
        if node is not None and node.GetSegmentation().GetSegment(selector.currentSegmentID()) is None:
            selector.setCurrentSegmentID(leftAtriumSegment(node) or "")

    def onUseLabel(self) -> None:
        assert self.logic is not None
        with self.messages.tellingErrors("inputs"):
            node = self.ui.labelSelector.currentNode()
            self.logic.useAsLabel(self._selectedCase(_("Label")), node, self.ui.labelSelector.currentSegmentID())
        self.update()

    def onCorrect(self) -> None:
        """Edit the label of the selected case, or a copy of the teacher's segmentation, in the editor below."""
        with self.messages.tellingErrors("correct"):
            self.correctSection.correct(self._selectedCase(_("Correct")))
        self.update()

    def onUseEdited(self) -> None:
        said = ""
        with self.messages.tellingErrors("correct"):
            said = self.correctSection.useEdited()
        if said:
            self.messages.say("correct", said)
        self.update()

    def onSuggest(self) -> None:
        """Ask the current model which unlabeled case to annotate next."""
        assert self.logic is not None and self._parameterNode is not None
        with self.messages.tellingErrors("correct"):
            self.workStatus.clear()
            self.logic.suggest(device=self._parameterNode.device, onEvent=self._onSuggestEvent, onDone=self.onSuggested)
        self.update()

    def _onSuggestEvent(self, event: dict[str, Any]) -> None:
        self.workStatus.log(event)
        if event["event"] == "predicting":
            self.workStatus.showShare(event["done"] / max(event["of"], 1))
            text = _("Looking at the scans: {done} of {of}")
            self.workStatus.say(text.format(done=event["done"], of=event["of"]))

    def onSuggested(self, outcome: EngineOutcome) -> None:
        self.workStatus.say("")
        self.onDone(outcome)
        if outcome.state is EngineState.STOPPED:
            self.workStatus.say(_("Stopped"))
        self.messages.say("correct", self.correctSection.suggestion(outcome))

    def _selectedCase(self, what: str) -> str:
        """Id of the case selected in the table. Raises :class:`InputError` unless exactly one is selected."""
        chosen = self.caseTable.selectedIds()
        if len(chosen) != 1:
            raise InputError(Problem(what, _("Wanted one case."), _("Select it in the table under Inputs.")))
        return chosen[0]

    def onShowCase(self) -> None:
        chosen = self.caseTable.selectedIds()
        if chosen:
            self.showCase(chosen[0])
        else:
            self.messages.say("inputs", _("No case is selected. Select one in the table."))

    def showCase(self, caseId: str) -> None:
        """Show a case in the views and its label in the selector; report errors below the table."""
        with self.messages.tellingErrors("inputs"):
            wrong = self._showCase(caseId)
            if wrong is not None:
                raise wrong
        self.update()

    def _showCase(self, caseId: str) -> InputError | None:
        """Like :meth:`showCase`, but return the error; raises :class:`InputError` if the scan cannot be shown."""
        assert self.logic is not None
        surface, uncertainty = self.ui.showSurfaceCheckBox.checked, self.ui.showUncertaintyCheckBox.checked
        self.correctSection.onShow(caseId)
        _volume, wrong = self.logic.showWhatIsThere(caseId, surface=surface, uncertainty=uncertainty)
        self._sceneChoosesStudy = False
        before, self._shownCase = self._shownCase, caseId
        self.doubtTour.startAnew()
        if caseId != before:
            self._chooseLabelOf(caseId)
        return wrong

    def _chooseLabelOf(self, caseId: str) -> None:
        """Choose the case's own segment under Label, or none, so that another case's segment does not stay chosen."""
        assert self.logic is not None
        source = self.logic.cases.labelSource(caseId) or self.logic.cases.correctedSegment(caseId) or (None, "")
        self.ui.labelSelector.setCurrentNode(source[0])
        if source[0] is not None:
            self.ui.labelSelector.setCurrentSegmentID(source[1])

    def onShowOption(self) -> None:
        """Show or hide the surface or the uncertainty of the shown case."""
        if self._shownCase is not None:
            self.showCase(self._shownCase)

    def onMakeCurrent(self) -> None:
        assert self.logic is not None
        with self.messages.tellingErrors("rounds"):
            run = self.roundsTable.selected()
            if run is None:
                raise InputError(Problem(_("Model"), _("None is selected."), _("Select one in the table.")))
            self.logic.makeCurrent(run)
        self.update()

    def onPredict(self, caseIds: list[str] | None) -> None:
        """Predict these cases; None: all."""
        assert self.logic is not None and self._parameterNode is not None
        with self.messages.tellingErrors("predict"):
            self.workStatus.clear()
            self.logic.predict(
                caseIds, device=self._parameterNode.device, onEvent=self.onPredictionEvent, onDone=self.onPredicted
            )
            self.messages.say("predict", "")
        self.update()

    def onPredictShown(self) -> None:
        if self._shownCase is None:
            self.messages.say("predict", _("No case is shown. Double-click one in the table."))
        else:
            self.onPredict([self._shownCase])

    def onNextDoubt(self) -> None:
        """Move the slice views to the next doubtful place of the shown case, then start over after the last."""
        assert self.logic is not None
        with self.messages.tellingErrors("predict"):
            if self._shownCase is None:
                raise InputError(Problem(_("Doubt"), _("No case is shown."), _("Double-click one in the table.")))
            said = self.doubtTour.step(self._shownCase)
            if not said:
                nothing = _("No region of this case is uncertain.")
                raise InputError(Problem(self._shownCase, nothing, _("Look at another case.")))
            self.workStatus.say(said)

    def onPredictionEvent(self, event: dict[str, Any]) -> None:
        assert self.logic is not None
        self.workStatus.log(event)
        if event["event"] == "predicting":
            self.workStatus.showShare(event["done"] / max(event["of"], 1))
            text = _("Predicting: {done} of {of}")
            self.workStatus.say(text.format(done=event["done"], of=event["of"]))
        elif event["event"] == "predicted":
            if event["case"] == self._shownCase:
                self.doubtTour.startAnew()
            self.update()
            # Do not disturb a user who is in another module or edits this case; the prediction can be shown later.
            isLookedAt = event["case"] == self._shownCase and self.parent.isEntered
            if isLookedAt and not self.correctSection.isAtWorkOn(event["case"]):
                self.showCase(event["case"])

    def onPredicted(self, outcome: EngineOutcome) -> None:
        self.onDone(outcome)
        self.correctSection.onPredicted()
        if outcome.state is EngineState.FINISHED:
            self.workStatus.say(_("Predicted. Double-click a case to see it."))
        elif outcome.state is EngineState.STOPPED:
            self.workStatus.say(_("Stopped. The predictions made so far are kept."))

    def onDone(self, outcome: EngineOutcome) -> None:
        """Show how the engine ended."""
        assert self.logic is not None
        self.workStatus.showEnd(outcome)
        self.plots.update(self.logic.progress)
        self.update()

    def onDeviceChosen(self) -> None:
        """Probe the device after a delay, because connecting the parameter node changes the choice as well."""
        if not self.installation.dependencies.missing():
            self.deviceProbe.probeSoon()

    def onInstallationChanged(self) -> None:
        self.showDependencies()
        self.update()

    def showDependencies(self) -> None:
        """Show missing software, or hide the section and probe the device."""
        if self.installation.show():
            self.deviceProbe.showInstead(_("PyTorch is not installed yet"))
        else:
            self.onDeviceChosen()

    def update(self) -> None:
        """Update every widget from the study and the running work."""
        if self.logic is None:
            return
        try:
            self._showAll()
        except OSError as error:
            # The study's disk does not respond. Caught here, because nearly every handler calls this.
            logging.exception("LASegColearn")
            self.messages.say("inputs", sentence_for(error))

    def _showAll(self) -> None:
        assert self.logic is not None
        cases = self.logic.study.cases if self.logic.hasStudy else ()
        model = self.logic.study.currentRun if self.logic.hasStudy else None
        name = None if model is None else model.path.name
        self.caseTable.show(cases, name, self.logic.learnedFrom if self.logic.hasStudy else ())
        rounds = self.logic.rounds if self.logic.hasStudy else []
        self.roundsTable.show(rounds, name)
        self.plots.updateRounds(rounds)
        running = self.logic.isRunning
        self.ui.modelLabel.text = _("None yet") if model is None else modelText(knownProgress(model), model.path.name)
        self.trainingSection.show(cases, model, not self.installation.dependencies.missing())
        for button in (self.ui.predictShownButton, self.ui.predictSelectedButton, self.ui.predictAllButton):
            button.enabled = model is not None and not running
        self.ui.suggestButton.enabled = model is not None and not running
        self.ui.correctButton.enabled = bool(cases)
        self.ui.useEditedButton.enabled = bool(cases)
        self.ui.makeCurrentButton.enabled = bool(rounds) and not running
        self.ui.nextDoubtButton.enabled = model is not None
        for button in (self.ui.addFromSceneButton, self.ui.addFolderButton, self.ui.addCohortButton):
            button.enabled = self.logic.hasStudy
        self.ui.studyFolderButton.enabled = not running
        self.ui.removeButton.enabled = bool(cases) and not running
        self.ui.showCaseButton.enabled = bool(cases)
        self.workStatus.update()

    def _connect(self) -> None:
        ui = self.ui
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        ui.studyFolderButton.connect("directorySelected(QString)", self.openStudy)
        ui.casesTable.connect(
            "cellDoubleClicked(int,int)", lambda row, _column: self.showCase(self.caseTable.idOfRow(row))
        )
        for button, receiver in (
            (ui.addFromSceneButton, self.onAddFromScene),
            (ui.addFolderButton, self.onAddFolder),
            (ui.addCohortButton, self.onAddCohort),
            (ui.showCaseButton, self.onShowCase),
            (ui.removeButton, self.onRemove),
            (ui.correctButton, self.onCorrect),
            (ui.useLabelButton, self.onUseLabel),
            (ui.useEditedButton, self.onUseEdited),
            (ui.suggestButton, self.onSuggest),
            (ui.makeCurrentButton, self.onMakeCurrent),
            (ui.predictShownButton, self.onPredictShown),
            (ui.predictSelectedButton, lambda: self.onPredict(self.caseTable.selectedIds())),
            (ui.predictAllButton, lambda: self.onPredict(None)),
            (ui.nextDoubtButton, self.onNextDoubt),
        ):
            button.connect("clicked()", receiver)
        ui.deviceComboBox.connect("currentIndexChanged(int)", lambda index: self.onDeviceChosen())
        # Not toggled: it is also emitted when the panel is bound.
        for checkBox in (ui.showSurfaceCheckBox, ui.showUncertaintyCheckBox):
            checkBox.connect("clicked(bool)", lambda checked: self.onShowOption())
        ui.labelSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onLabelSegmentationChosen)
        slicer.app.connect("aboutToQuit()", self.cleanup)
        slicer.app.connect("lastWindowClosed()", self.onLastWindowClosed)
        self._hearsQuit = True


class _DropFilter(qt.QWidget):
    """Accepts files that are dropped onto the table."""

    onPaths: Callable[[list[str]], None]

    def eventFilter(self, _watched: Any, event: Any) -> bool:
        if event.type() in (qt.QEvent.DragEnter, qt.QEvent.DragMove) and event.mimeData().hasUrls():
            event.acceptProposedAction()
            return True
        if event.type() == qt.QEvent.Drop and event.mimeData().hasUrls():
            event.acceptProposedAction()
            self.onPaths([url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()])
            return True
        return False


class LASegColearnTest(ScriptedLoadableModuleTest):
    """The whole workflow in Slicer, for Reload and Test: phantoms, training, prediction."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear(0)

    def test_PhantomsAreLearned(self) -> None:
        """Train for 20 iterations on phantoms, predict one, and find the prediction in the scene."""
        import tempfile

        requirements = Path(__file__).parent / "Resources" / "requirements.txt"
        missing = Dependencies(requirements, lambda options: None, None).sentence()
        if missing:
            self.delayDisplay(missing)
            return
        with tempfile.TemporaryDirectory() as folder:
            self.delayDisplay("Making phantoms")
            makePhantoms(Path(folder) / "phantoms", labeled=2, unlabeled=2, validation=0)
            logic = LASegColearnLogic()
            logic.openStudy(Path(folder) / "study")
            added = logic.addFromScene()
            self.assertEqual([case.role for case in added].count("labeled"), 2)
            self.delayDisplay("Training")
            small = {"spacing_mm": "5,5,5", "patch_size": "16,16,16", "filters": "2"}
            outcome = logic.train(TrainingOptions("demo", minutes=None, iterations=20, settings=small), wait=True)
            assert outcome is not None
            self.assertEqual(outcome.state, EngineState.FINISHED, outcome.message)
            self.delayDisplay("Predicting")
            outcome = logic.predict([added[-1].id], wait=True)
            assert outcome is not None
            self.assertEqual(outcome.state, EngineState.FINISHED, outcome.message)
            logic.showCase(added[-1].id)
            self.assertIsNotNone(logic.display.teacherNode(added[-1].id))
            logic.closeStudy()


def _loaded(load: Callable[..., Any], path: Path, properties: dict[str, Any]) -> Any | None:
    """The node that Slicer loads from a file; None if its loader raises an error."""
    try:
        return load(str(path), properties)
    except RuntimeError:
        return None


def _isStudy(folder: str) -> bool:
    try:
        return (Path(folder) / "study.json").exists()
    except OSError:
        # Its disk does not respond.
        return False
