"""Slicer's real MRML from the wheel slicer-core: a scene with the logics that the Slicer side uses. No Qt."""

from __future__ import annotations

import functools
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass
class SlicerCore:
    """A scene, and loading into it as Slicer does."""

    scene: Any
    logics: dict[str, Any]

    def loadSegmentation(self, path: Path) -> Any:
        return self.logics["Segmentations"].LoadSegmentationFromFile(str(path), False, path.stem)

    def loadVolume(self, path: Path) -> Any:
        return self.logics["Volumes"].AddArchetypeVolume(str(path), path.stem)


@functools.cache
def startSlicerCore() -> SlicerCore:
    """The scene of this process, since Slicer has one as well; skips the test where slicer-core is not installed."""
    slicer = pytest.importorskip("slicer", reason="the wheel slicer-core is not installed")
    scene = slicer.vtkMRMLScene()
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    colors = application.GetColorLogic()
    colors.SetMRMLScene(scene)
    colors.AddDefaultColorNodes()
    application.SetModuleLogic("Colors", colors)
    logics = {"application": application}
    for name, kind in (
        ("SubjectHierarchy", slicer.vtkSlicerSubjectHierarchyModuleLogic),
        ("Volumes", slicer.vtkSlicerVolumesLogic),
        ("Segmentations", slicer.vtkSlicerSegmentationsModuleLogic),
        ("Tables", slicer.vtkSlicerTablesLogic),
        ("Plots", slicer.vtkSlicerPlotsLogic),
    ):
        logic = kind()
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
        application.SetModuleLogic(name, logic)
        logics[name] = logic
    slicer.mrmlScene = scene
    slicer.modules = types.SimpleNamespace(
        **{name.lower(): types.SimpleNamespace(logic=lambda logic=logic: logic) for name, logic in logics.items()}
    )
    return SlicerCore(scene, logics)
