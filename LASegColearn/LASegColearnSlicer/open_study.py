"""The study that is open now, and its links with the scene."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from LASegColearnLib.errors import InputError, Problem
from LASegColearnSlicer.results import PredictionDisplay
from LASegColearnSlicer.scene_cases import SceneCases
from LASegColearnSlicer.study import Study


class OpenStudy:
    """Holds the open study, of which there is one at most.

    Parameters
    ----------
    scene
        The scene, ``slicer.mrmlScene`` in Slicer.
    loadVolume, loadSegmentation
        Load a file as a node.
    """

    def __init__(self, scene: Any, loadVolume: Callable[[Path], Any], loadSegmentation: Callable[[Path], Any]) -> None:
        self.scene = scene
        self._loadVolume = loadVolume
        self._loadSegmentation = loadSegmentation
        self._study: Study | None = None
        self._listeners: list[Callable[[], None]] = []

    @property
    def exists(self) -> bool:
        """Whether a study is open."""
        return self._study is not None

    @property
    def study(self) -> Study:
        """The open study. Raises :class:`InputError` if there is none."""
        if self._study is None:
            raise InputError(Problem("Study", "No study is open.", "Choose a folder for it first."))
        return self._study

    @property
    def cases(self) -> SceneCases:
        """The link between the study and the scene."""
        return SceneCases(self.scene, self.study, self._loadVolume, self._loadSegmentation)

    @property
    def display(self) -> PredictionDisplay:
        """Shows predictions of this study in the scene."""
        return PredictionDisplay(self.scene, self._loadSegmentation, self._loadVolume, self.study.identity)

    def open(self, folder: Path) -> Study:
        """Open the study in a folder, or make a new one there. Raises :class:`InputError` if it cannot."""
        before, opened = self._study, Study.at(folder.absolute())
        # A copy of a study has the same identity.
        isOther = before is None or (before.identity, before.folder) != (opened.identity, opened.folder)
        if before is not None and isOther:
            # Save edited labels first: scene nodes may be added to the other study. What cannot be written stays in the
            # scene.
            with suppress(InputError, OSError):
                self.cases.refreshLabels()
        self._study = opened
        if isOther:
            self._tell()
        return opened

    def close(self) -> None:
        """Close the study."""
        self._study = None
        self._tell()

    def onChanged(self, listener: Callable[[], None]) -> None:
        """Register a listener that is called whenever another study was opened, or the study was closed."""
        self._listeners.append(listener)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
