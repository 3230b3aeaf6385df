"""The Segment Editor's Qt side on its real logic, vtkSlicerSegmentEditorLogic: masks and undo are Slicer's own.

Sources: qSlicerSegmentEditorAbstractEffect.h, qSlicerSegmentEditorScriptedEffect.cxx, qMRMLSegmentEditorWidget.h and
.cxx. What these lack raises.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

from PySide6.QtCore import Property, QObject, Signal, Slot
from PySide6.QtWidgets import (
    QFormLayout,
    QFrame,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLayout,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from slicer_stand_in.pythonqt import bare, wrap
from slicer_stand_in.widgets import qMRMLWidget


class qSlicerSegmentEditorAbstractEffect:
    """The numbers of the enumerations; how to change a segment, and what was answered about a hidden one."""

    ModificationModeSet, ModificationModeAdd, ModificationModeRemove, ModificationModeRemoveAll = range(4)
    NotConfirmed, ConfirmedWithoutDialog, ConfirmedWithDialog = range(3)


class qSlicerSegmentEditorScriptedEffect(qSlicerSegmentEditorAbstractEffect):
    """What an effect written in Python reaches as `self.scriptedEffect`."""

    _PROPERTIES = (
        "name",
        "title",
        "perSegment",
        "requireSegments",
        "showEffectCursorInSliceView",
        "showEffectCursorInThreeDView",
    )
    # To the question whether a hidden segment is to be shown: Yes, No or Cancel.
    _answer = "Yes"

    def __init__(self, parent: Any) -> None:
        assert parent is None
        self.name, self.title = "UnnamedScriptedEffect", ""
        self.perSegment = self.requireSegments = self.showEffectCursorInSliceView = True
        self.showEffectCursorInThreeDView = False
        self._frame = QFrame()
        self._frame.setLayout(QFormLayout())
        self._frame.setVisible(False)
        self._active = False
        self._node: Any = None
        self._logic: Any = None
        self._select: Any = None
        self._confirmed: Any = None
        self._python: Any = None
        self._file = ""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._PROPERTIES and not name.startswith("_"):
            raise AttributeError(f"An effect has no property {name}.")
        object.__setattr__(self, name, value)

    def setPythonSource(self, file: str) -> bool:
        assert "\\" not in file and file.endswith(".py")
        name = Path(file).parent.name
        className = Path(file).stem if file.endswith("Effect.py") else f"{Path(file).stem}Effect"
        module = sys.modules.get(name)
        if not hasattr(module, className):
            spec = importlib.util.spec_from_file_location(name, file)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)
        self._python = getattr(module, className)(self)
        self._file = file
        return True

    def pythonSource(self) -> str:
        return self._file

    def self(self) -> Any:
        return self._python

    def clone(self) -> Any:
        return self._python.clone()

    def icon(self) -> Any:
        return self._python.icon()

    def helpText(self) -> str:
        return str(self._python.helpText())

    def active(self) -> bool:
        return self._active

    def activate(self) -> None:
        self._frame.setVisible(True)
        self._active = True
        self.updateGUIFromMRML()
        self._call("activate")

    def deactivate(self) -> None:
        self._frame.setVisible(False)
        self._active = False
        self._call("deactivate")

    def cleanup(self) -> None:
        self._call("cleanup")

    def setupOptionsFrame(self) -> None:
        self._call("setupOptionsFrame")

    def setMRMLDefaults(self) -> None:
        self._call("setMRMLDefaults")

    def updateGUIFromMRML(self) -> None:
        if self._active:
            self._call("updateGUIFromMRML")

    def updateMRMLFromGUI(self) -> None:
        self._call("updateMRMLFromGUI")

    def sourceVolumeNodeChanged(self) -> None:
        self._call("sourceVolumeNodeChanged")

    def layoutChanged(self) -> None:
        self._call("layoutChanged")

    def processInteractionEvents(self, interactor: Any, event: int, viewWidget: Any) -> bool:
        used = self._call("processInteractionEvents", interactor, event, viewWidget)
        assert isinstance(used, bool)
        return used

    def processViewNodeEvents(self, viewNode: Any, event: int, viewWidget: Any) -> None:
        self._call("processViewNodeEvents", viewNode, event, viewWidget)

    def parameterSetNode(self) -> Any:
        return self._node

    def setParameterSetNode(self, node: Any) -> None:
        self._node = node

    def scene(self) -> Any:
        return None if self._node is None else self._node.GetScene()

    def selectEffect(self, name: str) -> None:
        self._select(name)

    def optionsFrame(self) -> Any:
        return wrap(self._frame)

    def addOptionsWidget(self, widget: Any) -> None:
        self._frame.layout().addRow(self._taken(widget))

    def addLabeledOptionsWidget(self, label: str, widget: Any) -> Any:
        text = QLabel(label)
        self._frame.layout().addRow(text, self._taken(widget))
        return wrap(text)

    def _taken(self, widget: Any) -> Any:
        own = bare(widget)
        if not isinstance(own, QLayout):
            own.setParent(self._frame)
            own.setSizePolicy(QSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.MinimumExpanding))
        # PySide6 would delete what Qt keeps.
        self._frame._kept = [*getattr(self._frame, "_kept", []), own, widget]
        return own

    def parameter(self, name: str) -> str:
        value = self._node.GetAttribute(f"{self.name}.{name}") or self._node.GetAttribute(name)
        if not value:
            raise KeyError(f"Parameter named {name} cannot be found for effect {self.name}")
        return str(value)

    def integerParameter(self, name: str) -> int:
        return int(self.parameter(name))

    def doubleParameter(self, name: str) -> float:
        return float(self.parameter(name))

    def parameterDefined(self, name: str) -> bool:
        return bool(self._node.GetAttribute(f"{self.name}.{name}"))

    def setParameter(self, name: str, value: Any) -> None:
        if not isinstance(value, (str, int, float)):
            raise TypeError(f"{name} does not take {value!r}.")
        attribute = f"{self.name}.{name}"
        # As QString::number writes it.
        text = f"{value:g}" if isinstance(value, float) else str(int(value)) if isinstance(value, int) else value
        if text != self._node.GetAttribute(attribute):
            disabled = self._node.GetDisableModifiedEvent()
            self._node.SetDisableModifiedEvent(1)
            self._node.SetAttribute(attribute, text)
            self._node.SetDisableModifiedEvent(disabled)
            self._node.InvokeCustomModifiedEvent(self._node.EffectParameterModified)

    def setParameterDefault(self, name: str, value: Any) -> None:
        if not self.parameterDefined(name):
            self.setParameter(name, value)

    def confirmCurrentSegmentVisible(self) -> int:
        segment = self._logic.GetSelectedSegment()
        if segment is None or segment is self._confirmed or self._logic.IsSelectedSegmentVisible():
            return self.ConfirmedWithoutDialog
        if self._answer == "Cancel":
            return self.NotConfirmed
        if self._answer == "Yes":
            display = self._node.GetSegmentationNode().GetDisplayNode()
            display.SetVisibility(True)
            display.SetSegmentVisibility(self._node.GetSelectedSegmentID(), True)
        else:
            self._confirmed = segment
        return self.ConfirmedWithDialog

    def defaultModifierLabelmap(self) -> Any:
        return self._logic.GetModifierLabelmap() if self._logic.ResetModifierLabelmapToDefault() else None

    def modifierLabelmap(self) -> Any:
        return self._logic.GetModifierLabelmap()

    def maskLabelmap(self) -> Any:
        return self._logic.GetMaskLabelmap() if self._logic.UpdateMaskLabelmap() else None

    def selectedSegmentLabelmap(self) -> Any:
        return self._logic.GetSelectedSegmentLabelmap() if self._logic.UpdateSelectedSegmentLabelmap() else None

    def referenceGeometryImage(self) -> Any:
        return self._logic.GetReferenceGeometryImage() if self._logic.UpdateReferenceGeometryImage() else None

    def sourceVolumeImageData(self) -> Any:
        return self._logic.GetAlignedSourceVolume() if self._logic.UpdateAlignedSourceVolume() else None

    def saveStateForUndo(self) -> None:
        self._logic.SaveStateForUndo()

    def modifySelectedSegmentByLabelmap(self, labelmap: Any, mode: int, bypassMasking: bool = False) -> None:
        logic = self._logic
        modes = (
            logic.ModificationModeSet,
            logic.ModificationModeAdd,
            logic.ModificationModeRemove,
            logic.ModificationModeRemoveAll,
        )
        logic.ModifySegmentByLabelmap(
            self._node.GetSegmentationNode(),
            self._node.GetSelectedSegmentID() or "",
            labelmap,
            modes[mode],
            self.perSegment,
            bypassMasking,
        )

    def renderer(self, viewWidget: Any) -> Any:
        return viewWidget.sliceView().renderWindow().GetRenderers().GetItemAsObject(0)

    def viewNode(self, viewWidget: Any) -> Any:
        return viewWidget.sliceLogic().GetSliceNode()

    def addActor2D(self, viewWidget: Any, actor: Any) -> None:
        self.renderer(viewWidget).AddViewProp(actor)

    def removeActor2D(self, viewWidget: Any, actor: Any) -> None:
        self.renderer(viewWidget).RemoveViewProp(actor)

    def scheduleRender(self, viewWidget: Any) -> None:
        viewWidget.sliceView().scheduleRender()

    def sliceSpacing(self, viewWidget: Any) -> float:
        logic = viewWidget.sliceLogic()
        return float(self._logic.GetSliceSpacing(logic.GetSliceNode(), logic))

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call the effect's own method; one that is left out does nothing."""
        method = getattr(self._python, name, None)
        return False if method is None else method(*arguments)


class qSlicerSegmentEditorEffectFactory(QObject):
    """Holds one effect of each kind, of which each editor makes its own."""

    effectRegistered = Signal(str)
    _instance: Any = None

    def __init__(self) -> None:
        super().__init__()
        self._effects: dict[str, Any] = {}

    @classmethod
    def instance(cls) -> Any:
        cls._instance = cls._instance or cls()
        return wrap(cls._instance)

    @Slot(object)
    def registerEffect(self, effect: Any) -> bool:
        if effect.name in self._effects:
            return False
        self._effects[effect.name] = effect
        self.effectRegistered.emit(effect.name)
        return True

    @Slot()
    def registeredEffects(self) -> tuple[Any, ...]:
        return tuple(self._effects.values())


class AbstractScriptedSegmentEditorEffect:
    """Base class of effects written in Python."""

    def __init__(self, scriptedEffect: Any) -> None:
        self.scriptedEffect = scriptedEffect

    def register(self) -> None:
        qSlicerSegmentEditorEffectFactory.instance().registerEffect(self.scriptedEffect)

    def cleanup(self) -> None:
        pass


class qMRMLSliceView(qMRMLWidget):
    def __init__(self, parent: QWidget | None = None) -> None:
        import vtk

        super().__init__(parent)
        self._window = vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(1)
        self._window.AddRenderer(vtk.vtkRenderer())

    @Slot(result=object)
    def renderWindow(self) -> Any:
        return self._window

    @Slot()
    def scheduleRender(self) -> None:
        pass


class qMRMLSliceWidget(qMRMLWidget):
    """A slice view; `sliceWidget` makes one on a real slice logic."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._logic: Any = None
        self._view = qMRMLSliceView()
        wrapper = wrap(self)
        # The same wrapper each time, which effects use as a key.
        self._pythonqt = wrapper

    @Slot(result=str)
    def className(self) -> str:
        return "qMRMLSliceWidget"

    @Slot(result=object)
    def sliceLogic(self) -> Any:
        return self._logic

    @Slot(result=object)
    def sliceView(self) -> Any:
        return self._view


class qMRMLSegmentEditorWidget(qMRMLWidget):
    """An editor on Slicer's own logic, with buttons for the effects, the active one's options, and undo."""

    def __init__(self, parent: QWidget | None = None) -> None:
        import slicer

        super().__init__(parent)
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._node: Any = None
        self._observers: list[tuple[Any, int]] = []
        self._effect: Any = None
        self._source: Any = None
        self._terminologyKey = "Segmentations/DefaultTerminologyEntry"
        self._observing = self._shortcuts = False
        self._autoShowsSource = True
        self._sceneTag = 0
        self._effects = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._buttons, row = {}, QHBoxLayout()
        layout.addLayout(row)
        self._effectButtons = QHBoxLayout()
        row.addLayout(self._effectButtons)
        self._options = QGroupBox()
        self._options.setVisible(False)
        QVBoxLayout(self._options)
        self.updateEffectList()
        for text, slot in (("Undo", self.undo), ("Redo", self.redo)):
            button = QPushButton(text)
            button.clicked.connect(slot)
            row.addWidget(button)
        layout.addWidget(self._options)

    @Slot()
    def updateEffectList(self) -> None:
        """Add the effects that were registered since."""
        inside = self._options.layout()
        assert inside is not None
        for prototype in qSlicerSegmentEditorEffectFactory.instance().registeredEffects():
            if prototype.name in self._effects:
                continue
            effect = prototype.clone()
            effect._logic, effect._select = self._logic, self.setActiveEffectByName
            self._effects[effect.name] = effect
            effect.setupOptionsFrame()
            inside.addWidget(effect._frame)
            button = QPushButton(bare(effect.icon()), effect.title)
            button.setCheckable(True)
            button.clicked.connect(lambda _checked=False, effect=effect: self.setActiveEffect(effect))
            self._effectButtons.addWidget(button)
            self._buttons[effect.name] = button

    def _setStates(self, number: int) -> None:
        self._logic.SetMaximumNumberOfUndoStates(number)

    def _setKey(self, key: str) -> None:
        self._terminologyKey = key

    maximumNumberOfUndoStates = Property(int, lambda self: self._logic.GetMaximumNumberOfUndoStates(), _setStates)
    defaultTerminologyEntrySettingsKey = Property(str, lambda self: self._terminologyKey, _setKey)

    @Slot(int)
    def setMaximumNumberOfUndoStates(self, number: int) -> None:
        self._setStates(number)

    @Slot(object)
    def setMRMLScene(self, scene: Any) -> None:
        import slicer

        if self._node is None and scene is not None:
            raise RuntimeError("Set the segment editor node before the scene, or what is chosen first is not kept.")
        if self._scene is not None:
            self._scene.RemoveObserver(self._sceneTag)
        if scene is not None:
            self._sceneTag = scene.AddObserver(scene.EndCloseEvent, lambda *_: self._afterSceneClose())
        self._logic.SetMRMLApplicationLogic(slicer.modules.segmentations.logic().GetMRMLApplicationLogic())
        self._logic.SetMRMLScene(scene)
        super().setMRMLScene(scene)

    @Slot(object)
    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        import vtk

        if node is self._node:
            return
        for observed, tag in self._observers:
            observed.RemoveObserver(tag)
        self._observers, self._node = [], node
        self._logic.SetSegmentEditorNode(node)
        for effect in self._effects.values():
            effect.setParameterSetNode(node)
        if node is None:
            return
        self._setDefaults()
        for effect in self._effects.values():
            tag = node.AddObserver(node.EffectParameterModified, lambda *_, effect=effect: effect.updateGUIFromMRML())
            self._observers.append((node, tag))
        tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self.updateWidgetFromMRML())
        self._observers.append((node, tag))
        self.updateWidgetFromMRML()

    def _setDefaults(self) -> None:
        for effect in self._effects.values():
            effect.setMRMLDefaults()

    def _afterSceneClose(self) -> None:
        # A closed scene keeps singletons, without what they held.
        if self._node is not None:
            self._setDefaults()
            self.updateWidgetFromMRML()

    @Slot(result=object)
    def mrmlSegmentEditorNode(self) -> Any:
        return self._node

    @Slot(object)
    def setSegmentationNode(self, node: Any) -> None:
        if self._node is None:
            if node is not None:
                raise RuntimeError("Set the segment editor node first.")
            return
        if self._node.GetSegmentationNode() is not node:
            self.setActiveEffect(None)
            self._logic.SetSegmentationNode(node)
            # The real one leaves the segment of before where there is none to choose.
            if node is not None and node.GetSegmentation().GetNumberOfSegments():
                self._node.SetSelectedSegmentID(node.GetSegmentation().GetNthSegmentID(0))

    @Slot(result=object)
    def segmentationNode(self) -> Any:
        return None if self._node is None else self._node.GetSegmentationNode()

    @Slot(object)
    def setSourceVolumeNode(self, node: Any) -> None:
        if self.segmentationNode() is None:
            if node is not None:
                raise RuntimeError("Set the segment editor and segmentation nodes first.")
            return
        self._logic.SetSourceVolumeNode(node)

    @Slot(result=object)
    def sourceVolumeNode(self) -> Any:
        return None if self._node is None else self._node.GetSourceVolumeNode()

    @Slot(str)
    def setCurrentSegmentID(self, segmentId: str) -> None:
        self._node.SetSelectedSegmentID(segmentId)

    @Slot(result=str)
    def currentSegmentID(self) -> str:
        return self._node.GetSelectedSegmentID() or ""

    @Slot(object)
    def setActiveEffect(self, effect: Any) -> None:
        if self._node is None:
            if effect is not None:
                raise RuntimeError("Set the segment editor node first.")
            return
        self._node.SetActiveEffectName("" if effect is None else effect.name)

    @Slot(str)
    def setActiveEffectByName(self, name: str) -> None:
        self.setActiveEffect(self.effectByName(name))

    @Slot(result=object)
    def activeEffect(self) -> Any:
        return self._effect

    @Slot(str, result=object)
    def effectByName(self, name: str) -> Any:
        return self._effects.get(name)

    @Slot()
    def updateWidgetFromMRML(self) -> None:
        if self._node is None:
            return
        source = self._node.GetSourceVolumeNode()
        if source is not self._source:
            self._source = source
            for effect in self._effects.values():
                effect.sourceVolumeNodeChanged()
        effect = self._effects.get(self._node.GetActiveEffectName() or "")
        if effect is self._effect:
            return
        if self._effect is not None:
            self._effect.deactivate()
        if effect is not None:
            self.setupViewObservations()
            effect.activate()
        else:
            self.removeViewObservations()
        self._options.setVisible(effect is not None)
        self._options.setTitle("" if effect is None else effect.title)
        for name, button in self._buttons.items():
            button.setChecked(effect is not None and name == effect.name)
        self._effect = effect

    @Slot()
    def setupViewObservations(self) -> None:
        self._observing = True

    @Slot(bool)
    def setAutoShowSourceVolumeNode(self, show: bool) -> None:
        self._autoShowsSource = show

    @Slot()
    def removeViewObservations(self) -> None:
        self._observing = False

    @Slot()
    def installKeyboardShortcuts(self) -> None:
        self._shortcuts = True

    @Slot()
    def uninstallKeyboardShortcuts(self) -> None:
        self._shortcuts = False

    @Slot()
    def saveStateForUndo(self) -> None:
        self._logic.SaveStateForUndo()

    @Slot()
    def undo(self) -> None:
        self._logic.Undo()

    @Slot()
    def redo(self) -> None:
        self._logic.Redo()


def sliceWidget(core: Any, volume: Any, name: str = "Red", orientation: str = "Axial") -> Any:
    """A slice view of 400 x 400 pixels that shows a volume, on Slicer's real slice logic and slice node."""
    import slicer
    import vtk

    application = core.logics["application"]
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(core.scene, True)
    if not application.GetSliceLogics():
        application.SetSliceLogics(vtk.vtkCollection())
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(application)
    application.GetSliceLogics().AddItem(logic)
    logic.SetMRMLScene(core.scene)
    node = logic.AddSliceNode(name)
    node.SetOrientation(orientation)
    logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    logic.ResizeSliceNode(400, 400)
    logic.FitSliceToBackground()
    logic.SnapSliceOffsetToIJK()
    widget = slicer.qMRMLSliceWidget()
    bare(widget)._logic = logic
    return widget


def install() -> None:
    """Make the modules that effects import, and the classes they reach through `slicer`."""
    import slicer

    effects = types.ModuleType("qSlicerSegmentationsEditorEffectsPythonQt")
    effects.qSlicerSegmentEditorScriptedEffect = qSlicerSegmentEditorScriptedEffect  # type: ignore[attr-defined]
    sys.modules[effects.__name__] = effects
    base = types.ModuleType("SegmentEditorEffects")
    base.AbstractScriptedSegmentEditorEffect = AbstractScriptedSegmentEditorEffect  # type: ignore[attr-defined]
    sys.modules[base.__name__] = base
    slicer.qSlicerSegmentEditorAbstractEffect = qSlicerSegmentEditorAbstractEffect
    slicer.qSlicerSegmentEditorEffectFactory = qSlicerSegmentEditorEffectFactory
    slicer.util.mainWindow = lambda: None


SLICER = {
    "qMRMLSegmentEditorWidget": qMRMLSegmentEditorWidget,
    "qMRMLSliceView": qMRMLSliceView,
    "qMRMLSliceWidget": qMRMLSliceWidget,
}
