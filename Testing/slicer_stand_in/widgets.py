"""The widgets of CTK and qMRML that the panel uses, with the properties, signals and slots of the real ones.

Sources: CTK's Libs/Widgets, Slicer's Libs/MRML/Widgets and Base/QTGUI. Only what is decorated can be reached.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from PySide6.QtCore import Property, QDir, QObject, QSize, Qt, Signal, Slot
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import (
    QAbstractButton,
    QApplication,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QHBoxLayout,
    QPushButton,
    QSizePolicy,
    QSlider,
    QStyle,
    QStyleOptionButton,
    QWidget,
)


class qMRMLWidget(QWidget):
    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._scene: Any = None

    @Slot(object)
    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)

    @Slot(result=object)
    def mrmlScene(self) -> Any:
        return self._scene


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """Holds the panel; Slicer's frame sets isEntered."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.entered = False

    isEntered = Property(bool, lambda self: self.entered)


class ctkCollapsibleButton(QAbstractButton):
    contentsCollapsed = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._collapsed = False
        self.clicked.connect(lambda: self._setCollapsed(not self._collapsed))
        self.setContentsMargins(0, 26, 0, 0)

    def _setCollapsed(self, collapsed: bool) -> None:
        self._collapsed = collapsed
        height = QSizePolicy.Policy.Fixed if collapsed else QSizePolicy.Policy.Preferred
        self.setSizePolicy(QSizePolicy.Policy.Preferred, height)
        for child in self.children():
            if isinstance(child, QWidget):
                child.setVisible(not collapsed)
        self.updateGeometry()
        self.contentsCollapsed.emit(collapsed)

    collapsed = Property(bool, lambda self: self._collapsed, _setCollapsed)

    def showEvent(self, event: Any) -> None:
        if self._collapsed:
            self._setCollapsed(True)

    def sizeHint(self) -> QSize:
        return QSize(100, 26) if self._collapsed else super().sizeHint().expandedTo(self._contents())

    def minimumSizeHint(self) -> QSize:
        return QSize(100, 26) if self._collapsed else self._contents()

    def _contents(self) -> QSize:
        return QSize(100, 26) if self.layout() is None else self.layout().totalSizeHint()

    def hitButton(self, position: Any) -> bool:
        return bool(position.y() < 26)

    def paintEvent(self, event: Any) -> None:
        option = QStyleOptionButton()
        option.initFrom(self)
        option.rect.setHeight(24)
        painter = QPainter(self)
        self.style().drawControl(QStyle.ControlElement.CE_PushButtonBevel, option, painter, self)
        arrow = "\u25b8" if self._collapsed else "\u25be"
        painter.drawText(option.rect.adjusted(8, 0, 0, 0), Qt.AlignmentFlag.AlignVCenter, f"{arrow}  {self.text()}")
        painter.end()


class ctkDirectoryButton(QWidget):
    """Shows its text, or the directory while it has none; tells of every directory it is given, also the same again."""

    directorySelected = Signal(str)
    directoryChanged = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._directory, self._text, self._caption = QDir(), None, ""
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._button = QPushButton(self._directory.absolutePath())
        self._button.setIcon(self.style().standardIcon(QStyle.StandardPixmap.SP_DirIcon))
        self._button.clicked.connect(self.browse)
        layout.addWidget(self._button)

    def _setDirectory(self, path: str) -> None:
        directory = QDir(path)
        changed = directory != self._directory
        self._directory = QDir(directory.absolutePath())
        self._button.setText(self._directory.absolutePath() if self._text is None else self._text)
        self.directorySelected.emit(directory.absolutePath())
        if changed:
            self.directoryChanged.emit(directory.absolutePath())

    def _setText(self, text: str) -> None:
        self._text = text
        self._button.setText(text)

    def _setCaption(self, caption: str) -> None:
        self._caption = caption

    directory = Property(str, lambda self: self._directory.path(), _setDirectory)
    text = Property(str, lambda self: self._text or "", _setText)
    caption = Property(str, lambda self: self._caption, _setCaption)

    @Slot(result=str)
    def browse(self) -> str:
        chosen = QFileDialog.getExistingDirectory(self, self._caption, self._directory.path())
        if chosen:
            self._setDirectory(chosen)
        return chosen


class ctkSliderWidget(QWidget):
    """A slider with a spin box."""

    valueChanged = Signal(float)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._slider, self._box = QSlider(), QDoubleSpinBox()
        self._slider.setOrientation(Qt.Orientation.Horizontal)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._box)
        self._slider.setRange(0, 1000)
        self._slider.valueChanged.connect(self._fromSlider)
        self._box.valueChanged.connect(self._fromBox)

    def _fromSlider(self, place: int) -> None:
        low, high = self._box.minimum(), self._box.maximum()
        self._box.setValue(low + place / 1000 * (high - low))

    def _fromBox(self, value: float) -> None:
        low, high = self._box.minimum(), self._box.maximum()
        blocked = self._slider.blockSignals(True)
        self._slider.setValue(round(1000 * (value - low) / max(high - low, 1e-9)))
        self._slider.blockSignals(blocked)
        self.valueChanged.emit(value)

    value = Property(float, lambda s: s._box.value(), lambda s, v: s._box.setValue(v))
    minimum = Property(float, lambda s: s._box.minimum(), lambda s, v: s._box.setMinimum(v))
    maximum = Property(float, lambda s: s._box.maximum(), lambda s, v: s._box.setMaximum(v))
    singleStep = Property(float, lambda s: s._box.singleStep(), lambda s, v: s._box.setSingleStep(v))
    decimals = Property(int, lambda s: s._box.decimals(), lambda s, v: s._box.setDecimals(v))
    suffix = Property(str, lambda s: s._box.suffix(), lambda s, v: s._box.setSuffix(v))


class qMRMLSegmentSelectorWidget(qMRMLWidget):
    currentNodeChanged = Signal(object)
    currentSegmentChanged = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._flags = {"noneEnabled": False, "horizontalLayout": False}
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._nodes, self._segments = QComboBox(), QComboBox()
        layout.addWidget(self._nodes)
        layout.addWidget(self._segments)
        self._nodes.activated.connect(lambda: self.setCurrentNodeID(self._nodes.currentData()))
        self._segments.activated.connect(lambda: self.currentSegmentChanged.emit(self.currentSegmentID()))
        self.mrmlSceneChanged.connect(self._fillNodes)

    def _set(self, name: str, value: bool) -> None:
        self._flags[name] = value

    noneEnabled = Property(bool, lambda s: s._flags["noneEnabled"], lambda s, v: s._set("noneEnabled", v))
    horizontalLayout = Property(
        bool, lambda s: s._flags["horizontalLayout"], lambda s, v: s._set("horizontalLayout", v)
    )

    @Slot(result=object)
    def currentNode(self) -> Any:
        identifier = self._nodes.currentData()
        return self._scene.GetNodeByID(identifier) if self._scene is not None and identifier else None

    @Slot(result=str)
    def currentNodeID(self) -> str:
        return self._nodes.currentData() or ""

    @Slot(result=str)
    def currentSegmentID(self) -> str:
        return self._segments.currentData() or ""

    @Slot(object)
    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID("" if node is None else node.GetID())

    @Slot(str)
    def setCurrentNodeID(self, identifier: str) -> None:
        self._fillNodes(self._scene)
        self._nodes.setCurrentIndex(max(self._nodes.findData(identifier or ""), 0))
        before = self.currentSegmentID()
        self._segments.clear()
        node = self.currentNode()
        if node is not None:
            segmentation = node.GetSegmentation()
            if self._flags["noneEnabled"]:
                self._segments.addItem("None", "")
            for index in range(segmentation.GetNumberOfSegments()):
                segmentId = segmentation.GetNthSegmentID(index)
                self._segments.addItem(segmentation.GetSegment(segmentId).GetName(), segmentId)
            # As in Slicer 5.10: with None where no segment was chosen before.
            self._segments.setCurrentIndex(max(self._segments.findData(before), 0))
        self.currentNodeChanged.emit(node)

    @Slot(str)
    def setCurrentSegmentID(self, identifier: str) -> None:
        index = self._segments.findData(identifier)
        if index >= 0:
            self._segments.setCurrentIndex(index)
            self.currentSegmentChanged.emit(identifier)

    def _fillNodes(self, scene: Any) -> None:
        current = self._nodes.currentData()
        self._nodes.clear()
        if self._flags["noneEnabled"]:
            self._nodes.addItem("None", "")
        for number in range(0 if scene is None else scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")):
            node = scene.GetNthNodeByClass(number, "vtkMRMLSegmentationNode")
            self._nodes.addItem(node.GetName(), node.GetID())
        self._nodes.setCurrentIndex(max(self._nodes.findData(current), 0))


class qSlicerLayoutManager(QObject):
    """Counts what was asked of it; the views themselves are drawn by MRML's own displayable managers."""

    layoutChanged = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.sliceResets = 0
        self.threeDResets = 0

    @Slot()
    def resetSliceViews(self) -> None:
        self.sliceResets += 1

    @Slot()
    def resetThreeDViews(self) -> None:
        self.threeDResets += 1


class qSlicerModuleManager(QObject):
    moduleAboutToBeUnloaded = Signal(str)


class qSlicerApplication(QApplication):
    startupCompleted = Signal()

    def __init__(self) -> None:
        super().__init__(["Slicer", "-platform", "offscreen"])
        self._layoutManager, self._moduleManager = qSlicerLayoutManager(), qSlicerModuleManager()
        self._temporaryPath = str(Path(tempfile.gettempdir()) / "Slicer")
        self.setStyle("Fusion")

    def _setTemporaryPath(self, path: str) -> None:
        self._temporaryPath = path

    temporaryPath = Property(str, lambda self: self._temporaryPath, _setTemporaryPath)

    @Slot(result=bool)
    def testingEnabled(self) -> bool:
        return True

    @Slot(result=QObject)
    def layoutManager(self) -> QObject:
        return self._layoutManager

    @Slot(result=QObject)
    def moduleManager(self) -> QObject:
        return self._moduleManager


CTK = {
    "ctkCollapsibleButton": ctkCollapsibleButton,
    "ctkDirectoryButton": ctkDirectoryButton,
    "ctkSliderWidget": ctkSliderWidget,
}
SLICER = {
    "qMRMLWidget": qMRMLWidget,
    "qMRMLSegmentSelectorWidget": qMRMLSegmentSelectorWidget,
    "qSlicerScriptedLoadableModuleWidget": qSlicerScriptedLoadableModuleWidget,
}
