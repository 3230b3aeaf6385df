"""The panel's section for training: how to train, its buttons, and what a running training reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from slicer.i18n import tr as _

from LASegColearnLib.methods import method_titles
from LASegColearnLib.run_folder import RunFolder
from LASegColearnLib.settings import preset
from LASegColearnSlicer.chart_view import ChartView
from LASegColearnSlicer.engine_process import EngineOutcome, EngineState
from LASegColearnSlicer.panel_messages import PanelMessages
from LASegColearnSlicer.panel_texts import (
    notEvaluatedYet,
    timeEstimate,
    validationNote,
    verdictOnNewestModel,
    whyNotRetrain,
    whyNotTrain,
)
from LASegColearnSlicer.session import Session
from LASegColearnSlicer.settings_table import SettingsTable
from LASegColearnSlicer.study import StudyCase
from LASegColearnSlicer.training_options import TrainingOptions
from LASegColearnSlicer.work_status import WorkStatus


class TrainingSection:
    """Connects the section's widgets, and the button Retrain, with the logic.

    Parameters
    ----------
    ui
        The panel's widgets.
    logic
        The module's logic.
    messages, status, chartView
        Where the training is reported.
    parameters
        Returns the panel's parameter node; None while the panel is not bound to one.
    update
        Updates the whole panel.
    onEnded
        Called with the outcome of each training.
    """

    def __init__(
        self,
        ui: Any,
        logic: Session,
        messages: PanelMessages,
        status: WorkStatus,
        chartView: ChartView,
        parameters: Callable[[], Any],
        update: Callable[[], None],
        onEnded: Callable[[EngineOutcome], None],
    ) -> None:
        self._ui = ui
        self._logic = logic
        self._messages = messages
        self._status = status
        self._chartView = chartView
        self._parameters = parameters
        self._update = update
        self._onEnded = onEnded
        self._settings = SettingsTable(ui.settingsTable, self._presetName, self._onSettingChanged)
        self._connect()

    def _connect(self) -> None:
        ui = self._ui
        for button, receiver in (
            (ui.trainButton, self.onTrain),
            (ui.retrainButton, self.onRetrain),
            (ui.pauseButton, self.onPause),
            (ui.resumeButton, self.onResume),
            (ui.cancelButton, self.onCancel),
        ):
            button.connect("clicked()", receiver)
        ui.presetComboBox.connect("currentIndexChanged(int)", lambda index: self.showSettings())
        # Not currentIndexChanged: it is also emitted when the panel is bound, and the scene has its own length.
        ui.presetComboBox.connect("activated(int)", lambda index: self.onPresetChosen())
        ui.methodComboBox.connect("currentIndexChanged(int)", self.onMethodChosen)
        ui.minutesSpinBox.connect("valueChanged(double)", lambda value: self._update())
        ui.iterationsSpinBox.connect("valueChanged(int)", lambda value: self._update())
        ui.byIterationsCheckBox.connect("toggled(bool)", lambda checked: self._update())

    def options(self) -> TrainingOptions:
        """The training options chosen in the panel."""
        node = self._parameters()
        assert node is not None
        minutes = None if node.byIterations else node.minutes
        return TrainingOptions(
            node.preset, node.method, node.device, minutes, node.iterations, self._settings.changed()
        )

    def showSettings(self) -> None:
        """Fill the table with the preset's settings and the user's changes."""
        node = self._parameters()
        self._settings.show(node.changedSettings if node is not None else "")

    def _onSettingChanged(self) -> None:
        # Keep the changes in the scene, because the table is filled again whenever the panel is entered.
        node = self._parameters()
        if node is not None:
            node.changedSettings = self._settings.kept()

    def onPresetChosen(self) -> None:
        """Set the length of the training to that of the chosen preset."""
        node, chosen = self._parameters(), preset(self._ui.presetComboBox.currentText)
        if node is not None:
            node.byIterations = chosen.minutes is None
            if chosen.minutes is None:
                node.iterations = chosen.iterations
            else:
                node.minutes = chosen.minutes

    def onMethodChosen(self, index: int = 0) -> None:
        """Show what the chosen method does."""
        if index < 0:
            # Connecting the parameter node empties the box first.
            return
        self._ui.methodTitleLabel.text = method_titles().get(self._ui.methodComboBox.currentText, "")
        self._update()

    def onTrain(self) -> None:
        with self._messages.tellingErrors("train"):
            self._status.clear()
            self._logic.train(self.options(), onEvent=self.onEvent, onDone=self.onDone)
            self._chartView.showWithNextCurves()
        self._update()

    def onRetrain(self) -> None:
        """Train the current model further with the latest labels."""
        node = self._parameters()
        with self._messages.tellingErrors("rounds"):
            self._status.clear()
            self._logic.retrain(
                minutes=node.retrainMinutes or None,
                device=node.device,
                onEvent=self.onEvent,
                onDone=self.onDone,
            )
            self._chartView.showWithNextCurves()
        self._update()

    def onResume(self) -> None:
        with self._messages.tellingErrors("train"):
            self._status.clear()
            self._logic.resume(device=self._parameters().device, onEvent=self.onEvent, onDone=self.onDone)
            self._chartView.showWithNextCurves()
        self._update()

    def onPause(self) -> None:
        if self._logic.canPause:
            self._logic.pause()
            self._status.say(_("Saving ..."))
        self._update()

    def onCancel(self) -> None:
        saves = self._logic.canPause
        self._logic.cancel()
        self._status.say(_("Saving and ending ...") if saves else _("Ending ..."))
        self._update()

    def onEvent(self, event: dict[str, Any]) -> None:
        """Show an event of a running training."""
        progress = self._logic.progress
        self._status.log(event)
        self._status.showShare(progress.share)
        self._status.say(progress.status)
        # The evaluation of the model after the training cannot be paused.
        self._ui.pauseButton.enabled = self._logic.canPause
        if event["event"] == "warning":
            self._messages.say("train", self._status.latestWarnings())
        elif event["event"] == "predicting":
            text = _("Training finished. Evaluating the model: {done} of {of}")
            self._status.say(text.format(done=event["done"], of=event["of"]))
        elif event["event"] == "judged":
            verdict = verdictOnNewestModel(self._logic)
            if verdict:
                self._messages.say("rounds", verdict)
        if progress.device:
            self._ui.deviceLabel.text = progress.device
        self._chartView.onEvent(progress, event)

    def onDone(self, outcome: EngineOutcome) -> None:
        """Show how a training ended."""
        self._onEnded(outcome)
        warnings = ""
        if outcome.state is EngineState.FINISHED:
            self._status.say(self._logic.progress.status)
            warnings = self._status.latestWarnings()
        if outcome.state is not EngineState.FAILED:
            self._messages.say("train", "\n".join(filter(None, [warnings, notEvaluatedYet(self._logic)])))

    def show(self, cases: Sequence[StudyCase], model: RunFolder | None, isInstalled: bool) -> None:
        """Enable what is possible now, and show why a training is not, or how long it would take.

        Parameters
        ----------
        cases, model
            The study's cases, and the run of its current model.
        isInstalled
            Whether the software that a training needs is installed.
        """
        ui, running, method = self._ui, self._logic.isRunning, self._ui.methodComboBox.currentText
        reason = whyNotTrain(self._logic, isInstalled, method)
        ui.trainButton.enabled = not reason
        ui.trainButton.toolTip = reason or _("Train a new model on this study")
        noRetraining = whyNotRetrain(self._logic, isInstalled, method)
        ui.retrainButton.enabled = not noRetraining
        ui.retrainButton.toolTip = noRetraining or _(
            "Train the current model further with the latest labels. The current model is kept."
        )
        ui.resumeButton.enabled = not running and self._logic.canResume
        ui.pauseButton.enabled = self._logic.canPause
        ui.cancelButton.enabled = running
        self._showLength()
        # Shown as text, because users rarely hover over a disabled button to learn why.
        ui.estimateLabel.text = ("" if running else reason) or self._notes(cases, model)

    def _showLength(self) -> None:
        """Enable the chosen one of the two lengths, minutes or iterations."""
        ui, byIterations = self._ui, self._isByIterations
        ui.minutesSpinBox.enabled, ui.iterationsSpinBox.enabled = not byIterations, byIterations
        ui.minutesSpinBox.toolTip = (
            _("The length is set in iterations, under Advanced.")
            if byIterations
            else _("How long to train. The training schedule adapts to this time.")
        )

    def _notes(self, cases: Sequence[StudyCase], model: RunFolder | None) -> str:
        """How long a training takes, and what it means to have no validation cases."""
        minutes = None if self._isByIterations else self._ui.minutesSpinBox.value
        estimate = timeEstimate(cases, model, minutes, self._ui.iterationsSpinBox.value)
        consequence = "" if self._logic.isRunning else validationNote(cases, self._holdout())
        return "\n".join(filter(None, [estimate, consequence]))

    def _holdout(self) -> float:
        """The setting "holdout"; the preset's value if it was not changed to a number."""
        try:
            return float(self._settings.changed()["holdout"])
        except (KeyError, ValueError):
            return preset(self._presetName()).holdout

    @property
    def _isByIterations(self) -> bool:
        # Read from the widget: after a click, the parameter node is updated later than the panel.
        return bool(self._ui.byIterationsCheckBox.checked)

    def _presetName(self) -> str:
        return self._ui.presetComboBox.currentText or "cpu"
