"""The panel's lines about the engine's work: its status and progress, and what it has written."""

from __future__ import annotations

from typing import Any

import slicer
from slicer.i18n import tr as _

from LASegColearnSlicer.engine_process import EngineOutcome, EngineState
from LASegColearnSlicer.panel_texts import withNames
from LASegColearnSlicer.session import Session
from LASegColearnSlicer.shown_text import asItIs

_MOST_WARNINGS = 3


class WorkStatus:
    """Shows how the work of the engine goes and how it ended.

    Parameters
    ----------
    ui
        The panel's widgets.
    logic
        The module's logic.

    Attributes
    ----------
    details
        What the engine has written besides its events.
    """

    def __init__(self, ui: Any, logic: Session) -> None:
        self._ui = ui
        self._logic = logic
        self.details = ""
        ui.detailsButton.connect("clicked()", self.showDetails)

    def say(self, text: str) -> None:
        self._ui.statusLabel.text = text

    def clear(self) -> None:
        """Forget the previous work, because other work is about to start."""
        self.details = ""
        self._ui.logTextEdit.clear()
        self._ui.progressBar.value = 0

    def log(self, event: dict[str, Any]) -> None:
        """Add an event of the engine to the log."""
        if event["event"] not in ("progress", "labeling"):
            content = ", ".join(f"{name} {value}" for name, value in event.items() if name != "event")
            self._ui.logTextEdit.appendPlainText(f"{event['event']}: {content}")

    def showShare(self, share: float) -> None:
        """Show the completed part of the work, 0 to 1."""
        self._ui.progressBar.value = round(1000 * share)

    def update(self) -> None:
        """Show the progress bar while there is any progress."""
        self._ui.progressBar.setVisible(self._logic.isRunning or self._ui.progressBar.value > 0)

    def showEnd(self, outcome: EngineOutcome) -> None:
        """Show how the engine ended."""
        self.details = outcome.details
        if outcome.state is EngineState.FAILED:
            self.say(self._withNames(outcome.message))
        elif outcome.state is EngineState.STOPPED:
            self.say(_("Stopped; it can be resumed") if self._logic.canResume else _("Stopped"))

    def keepDetails(self, details: str) -> None:
        """Keep the output of the engine for :meth:`showDetails`."""
        self.details = details

    def showDetails(self) -> None:
        text = self.details or _("The engine has written nothing.")
        slicer.util.infoDisplay(asItIs(self._ui.statusLabel.text) or _("Nothing has run yet."), detailedText=text)

    def latestWarnings(self) -> str:
        """The last warnings of the training, one a line."""
        return "\n".join(self._withNames(warning) for warning in self._logic.progress.warnings[-_MOST_WARNINGS:])

    def _withNames(self, text: str) -> str:
        return withNames(text, self._logic.study.cases if self._logic.hasStudy else ())
