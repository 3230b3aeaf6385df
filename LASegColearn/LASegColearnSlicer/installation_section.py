"""The panel's section for software that training needs and Slicer does not ship."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from LASegColearnLib.errors import InputError
from LASegColearnSlicer.dependencies import TORCH_VERSION, Dependencies


class InstallationSection:
    """Shows what is missing and installs it; hidden if nothing is missing.

    Parameters
    ----------
    ui
        The panel's widgets.
    requirements
        The requirements file.
    onChanged
        Called after an installation, whether it succeeded or not.
    """

    def __init__(self, ui: Any, requirements: Path, onChanged: Callable[[], None]) -> None:
        self._ui = ui
        self._onChanged = onChanged
        self.dependencies = Dependencies(
            requirements, lambda options: slicer.util.pip_install(options), _torchInstaller()
        )
        ui.installButton.connect("clicked()", self.onInstall)
        ui.installOfflineButton.connect("clicked()", self.onInstallOffline)
        ui.wheelsButton.connect("clicked()", self.onWheels)

    def show(self) -> str:
        """Show what is missing, or hide the section; return the shown text."""
        sentence = self.dependencies.sentence()
        self._ui.dependenciesCollapsibleButton.setVisible(bool(sentence))
        self._ui.dependenciesLabel.text = sentence
        possible = not self.dependencies.impossible()
        self._ui.installButton.enabled = possible
        self._ui.installOfflineButton.enabled = possible
        return sentence

    def onInstall(self) -> None:
        question = _("Install it now? Slicer does not respond until the installation has finished.")
        if slicer.util.confirmOkCancelDisplay(f"{self.dependencies.sentence()} {question}"):
            self._install(self.dependencies.install)

    def onInstallOffline(self) -> None:
        folder = qt.QFileDialog.getExistingDirectory(self._ui.installOfflineButton, _("Folder with wheels"))
        if folder:
            self._install(lambda: self.dependencies.installFrom(Path(folder)))

    def onWheels(self) -> None:
        slicer.util.infoDisplay(
            _("Files for a computer without internet access"), detailedText=self.dependencies.howToGetWheels()
        )

    def _install(self, install: Callable[[], None]) -> None:
        message = ""
        try:
            install()
        except InputError as error:
            message = str(error)
        self._onChanged()
        if message:
            self._ui.dependenciesLabel.text = message


def _torchInstaller() -> Callable[[], Any] | None:
    """The installer of Slicer's extension PyTorch, which knows the build for this machine; None if not installed."""
    try:
        import PyTorchUtils
    except ImportError:
        return None
    return lambda: PyTorchUtils.PyTorchUtilsLogic().installTorch(
        askConfirmation=False, torchVersionRequirement=TORCH_VERSION
    )
