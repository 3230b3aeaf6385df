"""Starts Slicer's real MRML with what stands in for its Qt: `qt`, `ctk`, `slicer.app`, modules' base classes."""

from __future__ import annotations

import functools
import sys
import tempfile
import types
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from mrml_scene import SlicerCore, startSlicerCore

MODULE_FOLDER = Path(__file__).resolve().parents[2] / "LASegColearn"


@functools.cache
def startSlicer() -> SlicerCore:
    """Slicer of this process; skips the test where slicer-core or PySide6 is not installed."""
    core = startSlicerCore()
    pytest.importorskip("PySide6.QtUiTools", reason="PySide6 is not installed")
    import slicer

    from slicer_stand_in import parameter_node, scripted_module, segment_editor, widgets
    from slicer_stand_in.pythonqt import QtModule, classFor, wrap

    sys.modules["qt"] = QtModule("qt")  # type: ignore[assignment]
    sys.modules["ctk"] = QtModule("ctk", widgets.CTK)  # type: ignore[assignment]
    slicer.app = wrap(widgets.qSlicerApplication())
    _keepSettingsIn(tempfile.mkdtemp())
    for name, kind in (widgets.SLICER | segment_editor.SLICER).items():
        setattr(slicer, name, classFor(kind))
    segment_editor.install()
    _addModule("slicer.i18n", tr=lambda text: text, translate=lambda context, text: text)
    _addModule("slicer.parameterNodeWrapper", **_public(parameter_node))
    _addModule("slicer.ScriptedLoadableModule", __all__=scripted_module.__all__, **_public(scripted_module))
    slicer.util.loadUI = _loadUI
    slicer.util.childWidgetVariables = _childWidgetVariables
    slicer.util.modulePath = lambda name: str(MODULE_FOLDER / f"{name}.py")
    slicer.util.loadVolume = functools.partial(_loadVolume, core)
    slicer.util.loadSegmentation = lambda path, properties=None: _loadedNode(core.loadSegmentation, path)
    slicer.util.getModuleLogic = _moduleLogic
    return core


def openPanel(width: int = 620, height: int = 1200) -> tuple[Any, Any]:
    """The module's widget as Slicer makes it when it is first opened, and the frame that it is in."""
    import qt
    import slicer

    import LASegColearn

    frame = slicer.qSlicerScriptedLoadableModuleWidget()
    frame.setLayout(qt.QVBoxLayout())
    frame.setMRMLScene(slicer.mrmlScene)
    widget = LASegColearn.LASegColearnWidget(frame)
    widget.setup()
    _panelLogic["LASegColearn"] = widget.logic
    frame.resize(width, height)
    frame.show()
    enter(widget, frame)
    return widget, frame


def closePanel() -> None:
    """Forget the panel that was opened last."""
    _panelLogic.clear()


def enter(widget: Any, frame: Any) -> None:
    """Switch to the module."""
    from slicer_stand_in.pythonqt import bare

    bare(frame).entered = True
    widget.enter()


def leave(widget: Any) -> None:
    """Switch to another module (qSlicerAbstractModuleWidget::exit)."""
    from slicer_stand_in.pythonqt import bare

    bare(widget.parent).entered = False
    widget.exit()


def _keepSettingsIn(folder: str) -> None:
    """Of this process alone, and empty."""
    from PySide6.QtCore import QCoreApplication, QSettings

    QCoreApplication.setOrganizationName("NA-MIC")
    QCoreApplication.setApplicationName("Slicer")
    QSettings.setDefaultFormat(QSettings.Format.IniFormat)
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, folder)


def _loadVolume(core: SlicerCore, path: str, properties: dict[str, Any] | None = None) -> Any:
    """As Slicer's reader of volumes: what it loads becomes the background of all slice views, unless told not to."""
    node = _loadedNode(core.loadVolume, path)
    if (properties or {}).get("show", True):
        for number in range(core.scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
            core.scene.GetNthNodeByClass(number, "vtkMRMLSliceCompositeNode").SetBackgroundVolumeID(node.GetID())
    return node


def _loadedNode(load: Any, path: str) -> Any:
    """As slicer.util.loadNodeFromFile: what cannot be loaded is an exception, never None."""
    node = load(Path(path))
    if node is None:
        raise RuntimeError(f"Failed to load node from file: {path}")
    return node


def _moduleLogic(name: str) -> Any:
    """Slicer opens the module's panel for it where it is not open yet, and returns that one's logic."""
    return _panelLogic.get(name) or sys.modules[name].LASegColearnLogic()


_panelLogic: dict[str, Any] = {}


def _addModule(name: str, **content: Any) -> None:
    import slicer

    module = types.ModuleType(name)
    module.__dict__.update(content)
    sys.modules[name] = module
    setattr(slicer, name.partition(".")[2], module)


def _public(module: types.ModuleType) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", "") == module.__name__
    }


def _loadUI(path: str) -> Any:
    from PySide6.QtCore import QBuffer, QByteArray
    from PySide6.QtUiTools import QUiLoader

    from slicer_stand_in import segment_editor, widgets
    from slicer_stand_in.pythonqt import wrap

    tree = ElementTree.parse(path)
    connections = tree.getroot().find("connections")
    assert connections is not None
    wanted = [tuple((c.findtext(k) or "") for k in ("sender", "signal", "receiver", "slot")) for c in connections]
    # The loader knows no types of VTK: what it cannot connect is connected below.
    connections.clear()
    loader = QUiLoader()
    for kind in (*widgets.CTK.values(), *widgets.SLICER.values(), *segment_editor.SLICER.values()):
        loader.registerCustomWidget(kind)
    buffer = QBuffer()
    buffer.setData(QByteArray(ElementTree.tostring(tree.getroot())))
    root = loader.load(buffer)
    if root is None:
        raise RuntimeError(f"Could not load UI file: {path}")
    byName = {child.objectName(): child for child in [root, *root.findChildren(object)]}
    unconnected = {n for n, child in byName.items() if isinstance(child, widgets.qMRMLWidget) and child is not root}
    for sender, signal, receiver, slot in wanted:
        assert (signal, slot) == ("mrmlSceneChanged(vtkMRMLScene*)", "setMRMLScene(vtkMRMLScene*)")
        byName[sender].mrmlSceneChanged.connect(byName[receiver].setMRMLScene)
        unconnected.discard(receiver)
    if unconnected:
        raise RuntimeError(f"These widgets would never get a scene: {unconnected}")
    root._loader = loader
    return wrap(root)


def _childWidgetVariables(root: Any) -> Any:
    from PySide6.QtCore import QObject

    from slicer_stand_in.pythonqt import bare, wrap

    children = [child for child in bare(root).findChildren(QObject) if child.objectName()]
    return types.SimpleNamespace(
        **{c.objectName(): wrap(c) for c in children if c.isWidgetType() and not c.objectName().startswith("qt_")}
    )
