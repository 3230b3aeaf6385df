"""Slicer's real MRML from the wheel slicer-core: a scene with the logics that the Slicer side uses. No Qt."""

from __future__ import annotations

import functools
import tempfile
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

vtk = pytest.importorskip("vtk", reason="the wheel slicer-core is not installed")


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
        ("Colors", slicer.vtkSlicerColorLogic),
        ("Tables", slicer.vtkSlicerTablesLogic),
        ("Plots", slicer.vtkSlicerPlotsLogic),
    ):
        logic = kind()
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
        application.SetModuleLogic(name, logic)
        logics[name] = logic
    # Slicer's own application registers this one in a module that has Qt.
    scene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())
    scene.AddObserver(scene.NodeAddedEvent, _itemForNode)
    # To read a scene that was saved as .mrb.
    reader = slicer.vtkMRMLRemoteIOLogic()
    reader.SetMRMLApplicationLogic(application)
    reader.SetMRMLScene(scene)
    reader.GetCacheManager().SetRemoteCacheDirectory(tempfile.mkdtemp())
    reader.AddDataIOToScene()
    logics["reader"] = reader
    slicer.mrmlScene = scene
    slicer.modules = types.SimpleNamespace(
        **{name.lower(): types.SimpleNamespace(logic=lambda logic=logic: logic) for name, logic in logics.items()}
    )
    return SlicerCore(scene, logics)


@vtk.calldata_type(vtk.VTK_OBJECT)
def _itemForNode(scene: Any, _event: str, node: Any) -> None:
    """What Slicer's subject hierarchy plugins do, which need Qt: each volume and segmentation has an item."""
    hierarchy = scene.GetSubjectHierarchyNode()
    # A scene that is read brings its items.
    if hierarchy is not None and node.IsA("vtkMRMLDisplayableNode") and not scene.IsBatchProcessing():
        hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
