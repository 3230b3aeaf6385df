"""Slicer's Segment Editor inside of the module's panel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
import vtk
from slicer.util import VTKObservationMixin

EFFECT = "Colearning"
# Singleton tag of the node with the settings of the editor in our panel.
PANEL_EDITOR = "LASegColearn.SegmentEditor"
_UNDO_STATES = 10
_NODE_CLASS = "vtkMRMLSegmentEditorNode"


class EmbeddedEditor(VTKObservationMixin):
    """Keeps a segment editor widget to the rules that Slicer has for embedding one.

    Its settings are in a node of its own, not in the Segment Editor module's: two widgets that share a node both
    activate an effect that is chosen in one of them, shown or not, and each would paint and hear the keys.

    Parameters
    ----------
    widget
        A qMRMLSegmentEditorWidget without a scene.
    scene
        The scene, ``slicer.mrmlScene`` in Slicer.
    tag
        Singleton tag of its node.
    onChosen
        Called when another segmentation, segment or scan has been chosen, in the editor or by :meth:`edit`.
    """

    def __init__(
        self, widget: Any, scene: Any, tag: str = PANEL_EDITOR, onChosen: Callable[[], None] | None = None
    ) -> None:
        VTKObservationMixin.__init__(self)
        self._onChosen = onChosen
        self._told: tuple[Any, ...] = ()
        # The editor notes a segmentation, its segment and its scan one after another: they are told when all are.
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._tell)
        self._widget = widget
        self._scene = scene
        self._tag = tag
        self._effects = slicer.qSlicerSegmentEditorEffectFactory.instance()

    @property
    def node(self) -> Any | None:
        """The node with the editor's settings."""
        return self._widget.mrmlSegmentEditorNode()

    @property
    def chosen(self) -> tuple[Any | None, str, Any | None]:
        """Segmentation, segment and scan that are chosen; the segment is empty where the segmentation lacks it."""
        node = self.node
        if node is None:
            return None, "", None
        segmentation = node.GetSegmentationNode()
        if segmentation is None:
            return None, "", node.GetSourceVolumeNode()
        # The editor keeps the segment of before where a segmentation has none.
        segmentId = node.GetSelectedSegmentID() or ""
        there = bool(segmentId) and segmentation.GetSegmentation().GetSegment(segmentId) is not None
        return segmentation, segmentId if there else "", node.GetSourceVolumeNode()

    def setup(self) -> None:
        """Once, from the panel's `setup`."""
        # Before the scene: what the widget selects when it gets the scene is kept in the node.
        self._selectNode()
        self._widget.setMRMLScene(self._scene)
        self._widget.setMaximumNumberOfUndoStates(_UNDO_STATES)
        # The panel says which scan is shown. By itself the editor puts the one that was edited last into the views of
        # another case, with each new layout and each scene that is read.
        self._widget.setAutoShowSourceVolumeNode(False)
        # As the start-up module the panel is there before the effects of extensions are (Slicer's SegmentEditor.py).
        self._effects.connect("effectRegistered(QString)", self._onEffectRegistered)

    def cleanup(self) -> None:
        """Once, from the panel's `cleanup`."""
        self._effects.disconnect("effectRegistered(QString)", self._onEffectRegistered)
        self._timer.stop()
        self._timer.disconnect("timeout()", self._tell)
        self.removeObservers()
        # Reload keeps the hidden widget: it must not answer to the nodes beside the new one.
        self._widget.setSegmentationNode(None)
        self._widget.setMRMLSegmentEditorNode(None)

    def enter(self, *, hearKeys: bool = True) -> None:
        """When the panel is entered; without ``hearKeys`` where the editor is out of sight."""
        self._selectNode()
        self._widget.updateWidgetFromMRML()
        if hearKeys:
            self._widget.installKeyboardShortcuts()

    def onCollapsed(self, collapsed: bool) -> None:
        """When the editor is folded away, or opened, while the panel is entered: nobody paints unseen."""
        if collapsed:
            self._widget.setActiveEffect(None)
            self._widget.uninstallKeyboardShortcuts()
        else:
            self._widget.installKeyboardShortcuts()

    def exit(self) -> None:
        """When the panel is left: the views belong to another module."""
        self._widget.setActiveEffect(None)
        self._widget.uninstallKeyboardShortcuts()
        self._widget.removeViewObservations()

    def onSceneStartClose(self) -> None:
        """Before the scene is closed."""
        self._widget.setSegmentationNode(None)
        self._widget.removeViewObservations()

    def onSceneEndClose(self) -> None:
        """After the scene was closed, while the panel is entered; its node has lost what it held."""
        self._selectNode()
        self._widget.updateWidgetFromMRML()

    def onSceneEndImport(self) -> None:
        """After a scene was read, whether the panel is entered or not: it may have brought a node."""
        self._selectNode()

    def edit(self, segmentationNode: Any, segmentId: str, volumeNode: Any) -> None:
        """Choose what is edited, and on which scan; an effect that was active is not any more."""
        self._widget.setActiveEffect(None)
        self._widget.setSegmentationNode(segmentationNode)
        self._widget.setSourceVolumeNode(volumeNode)
        self._widget.setCurrentSegmentID(segmentId)

    def leave(self) -> None:
        """No effect is active any more, and nothing is chosen that one could be started on by a button or a key."""
        self._widget.setActiveEffect(None)
        self._widget.setSegmentationNode(None)

    def activateColearning(self) -> None:
        """Make Co-learning the active effect."""
        self._widget.setActiveEffectByName(EFFECT)

    def _onNode(self, _caller: Any, _event: str) -> None:
        # Its signals tell only of a segment that is clicked, not of one that is added or reached by a key.
        if self._scene.IsClosing():
            return
        segmentation, segmentId, volume = self.chosen
        # By their ids: nodes that are held here would stay after they are deleted.
        chosen = (segmentation and segmentation.GetID(), segmentId, volume and volume.GetID())
        if chosen != self._told:
            self._told = chosen
            self._timer.start()

    def _tell(self) -> None:
        if self._scene.IsBatchProcessing():
            # While a scene is read nothing is to be loaded.
            self._timer.start()
            return
        if self._onChosen is not None:
            self._onChosen()

    def _onEffectRegistered(self, _name: str = "") -> None:
        self._widget.updateEffectList()

    def _selectNode(self) -> None:
        node = self._scene.GetSingletonNode(self._tag, _NODE_CLASS)
        if node is None:
            node = self._scene.CreateNodeByClass(_NODE_CLASS)
            node.UnRegister(None)
            node.SetSingletonTag(self._tag)
            node = self._scene.AddNode(node)
        # It may be of a scene that was saved while an effect was active. Nobody has chosen it now, and the panel may be
        # out of sight or not be there yet. Before the widget sees it, which would activate the effect.
        node.SetActiveEffectName("")
        self._widget.setMRMLSegmentEditorNode(node)
        if not self.hasObserver(node, vtk.vtkCommand.ModifiedEvent, self._onNode):
            self.removeObservers()
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._onNode)
