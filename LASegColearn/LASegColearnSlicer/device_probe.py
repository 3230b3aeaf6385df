"""The line *Will use* of the panel: the device that a training would use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from LASegColearnSlicer.engine_process import EngineOutcome, EngineProcess, EngineState

# Connecting the parameter node changes the device selector several times; only the last value is probed.
_MILLISECONDS_BEFORE_PROBE = 300


class DeviceProbe:
    """Asks a child process which device would be used; PyTorch is never imported in Slicer.

    Parameters
    ----------
    comboBox
        Combo box to choose the device.
    label
        Shows the answer.
    probe
        The logic's method `probe`.
    onFailed
        Called with the engine's output if the check failed.
    """

    def __init__(
        self, comboBox: Any, label: Any, probe: Callable[..., EngineProcess], onFailed: Callable[[str], None]
    ) -> None:
        self._comboBox = comboBox
        self._label = label
        self._probe = probe
        self._onFailed = onFailed
        self._process: EngineProcess | None = None
        # The device whose description is shown or requested.
        self._described = ""
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_MILLISECONDS_BEFORE_PROBE)
        self._timer.connect("timeout()", self.probe)

    def probeSoon(self) -> None:
        """Ask after a short delay, when the choice has settled."""
        self._timer.start()

    def probe(self) -> None:
        """Ask now, unless the answer is already shown."""
        device = self._comboBox.currentText
        if device in ("", self._described):
            return
        self.end()
        self._described = device
        self._label.text = _("Checking the device ...")
        try:
            self._process = self._probe(device, self._onEvent, self._onDone)
        except OSError:
            self._described = ""
            self._label.text = _("Unknown: Slicer's Python cannot be started.")

    def end(self) -> None:
        """End the process and handle its last events now, so that they cannot overwrite what is shown next."""
        self._timer.stop()
        if self._process is not None:
            self._process.kill()
            self._process.wait(1)
        self._process = None

    def showInstead(self, text: str) -> None:
        """Show another text, and ask for the device again next time."""
        self.end()
        self._described = ""
        self._label.text = text

    def _onEvent(self, event: dict[str, Any]) -> None:
        self._label.text = event.get("description") or event.get("message") or ""

    def _onDone(self, outcome: EngineOutcome) -> None:
        if outcome.state is EngineState.FAILED:
            # Ask again next time.
            self._described = ""
            self._label.text = outcome.message or _("The check failed, see Details")
            self._onFailed(outcome.details)
