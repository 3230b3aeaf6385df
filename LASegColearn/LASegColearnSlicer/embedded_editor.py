"""Slicer's Segment Editor inside the module's panel."""

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
    """Embeds a segment editor widget according to Slicer's rules.

    Its settings are in a separate node, not in that of the Segment Editor module: if two widgets share a node, both
    activate an effect chosen in one of them, even if hidden, and both would paint and react to keys.

    Parameters
    ----------
    widget
        A qMRMLSegmentEditorWidget without a scene.
    scene
        The scene, ``slicer.mrmlScene`` in Slicer.
    tag
        Singleton tag of its node.
    onChosen
        Called when another segmentation, segment or scan was chosen, in the editor or with :meth:`edit`.
    """

    def __init__(
        self, widget: Any, scene: Any, tag: str = PANEL_EDITOR, onChosen: Callable[[], None] | None = None
    ) -> None:
        VTKObservationMixin.__init__(self)
        self._onChosen = onChosen
        self._told: tuple[Any, ...] = ()
        # The editor sets segmentation, segment and scan one after another. Report them when all are set.
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
        """The chosen segmentation, segment and scan; the segment is empty if it is not in the segmentation."""
        node = self.node
        if node is None:
            return None, "", None
        segmentation = node.GetSegmentationNode()
        if segmentation is None:
            return None, "", node.GetSourceVolumeNode()
        # If a segmentation has no segments, the editor keeps the previous segment id.
        segmentId = node.GetSelectedSegmentID() or ""
        there = bool(segmentId) and segmentation.GetSegmentation().GetSegment(segmentId) is not None
        return segmentation, segmentId if there else "", node.GetSourceVolumeNode()

    def setup(self) -> None:
        """Called once, by the panel's `setup`."""
        # Before setting the scene, because the widget then makes a choice, which is stored in the node.
        self._selectNode()
        self._widget.setMRMLScene(self._scene)
        self._widget.setMaximumNumberOfUndoStates(_UNDO_STATES)
        # The panel decides which scan is shown. The editor would show the last edited scan with each new layout and
        # each scene that is read, even over another case.
        self._widget.setAutoShowSourceVolumeNode(False)
        # If this is the start-up module, the panel exists before the effects of extensions (Slicer's SegmentEditor.py).
        self._effects.connect("effectRegistered(QString)", self._onEffectRegistered)

    def cleanup(self) -> None:
        """Called once, by the panel's `cleanup`."""
        self._effects.disconnect("effectRegistered(QString)", self._onEffectRegistered)
        self._timer.stop()
        self._timer.disconnect("timeout()", self._tell)
        self.removeObservers()
        # After Reload, the old widget still exists, hidden: it must not react to the nodes together with the new one.
        self._widget.setSegmentationNode(None)
        self._widget.setMRMLSegmentEditorNode(None)

    def enter(self, *, hearKeys: bool = True) -> None:
        """Called when the panel is entered; ``hearKeys`` is False if the editor is not visible."""
        self._selectNode()
        self._widget.updateWidgetFromMRML()
        if hearKeys:
            self._widget.installKeyboardShortcuts()

    def onCollapsed(self, collapsed: bool) -> None:
        """Called when the editor is collapsed or expanded in the entered panel: a hidden editor must not paint."""
        if collapsed:
            self._widget.setActiveEffect(None)
            self._widget.uninstallKeyboardShortcuts()
        else:
            self._widget.installKeyboardShortcuts()

    def exit(self) -> None:
        """Called when the panel is left: the views belong to another module."""
        self._widget.setActiveEffect(None)
        self._widget.uninstallKeyboardShortcuts()
        self._widget.removeViewObservations()

    def onSceneStartClose(self) -> None:
        """Called before the scene is closed."""
        self._widget.setSegmentationNode(None)
        self._widget.removeViewObservations()

    def onSceneEndClose(self) -> None:
        """Called after the scene was closed while the panel is entered; the node has lost its content."""
        self._selectNode()
        self._widget.updateWidgetFromMRML()

    def onSceneEndImport(self) -> None:
        """Called after a scene was read, even if the panel is not entered: it may contain a node of the editor."""
        self._selectNode()

    def edit(self, segmentationNode: Any, segmentId: str, volumeNode: Any) -> None:
        """Choose the segment to edit and its scan, and deactivate the active effect."""
        self._widget.setActiveEffect(None)
        self._widget.setSegmentationNode(segmentationNode)
        self._widget.setSourceVolumeNode(volumeNode)
        self._widget.setCurrentSegmentID(segmentId)

    def leave(self) -> None:
        """Deactivate the effect and choose no segmentation, so that no button or key can start another one."""
        self._widget.setActiveEffect(None)
        self._widget.setSegmentationNode(None)

    def activateColearning(self) -> None:
        """Make Co-learning the active effect."""
        self._widget.setActiveEffectByName(EFFECT)

    def _onNode(self, _caller: Any, _event: str) -> None:
        # The widget's signals only report a clicked segment, not one that was added or selected with a key.
        if self._scene.IsClosing():
            return
        segmentation, segmentId, volume = self.chosen
        # Compared by id: references would keep deleted nodes alive.
        chosen = (segmentation and segmentation.GetID(), segmentId, volume and volume.GetID())
        if chosen != self._told:
            self._told = chosen
            self._timer.start()

    def _tell(self) -> None:
        if self._scene.IsBatchProcessing():
            # Nothing must be loaded while a scene is being read.
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
        # The scene may have been saved with an active effect. The user did not choose it now, and the panel may be
        # hidden or not exist yet. Clear it before the widget gets the node, which would activate the effect.
        node.SetActiveEffectName("")
        self._widget.setMRMLSegmentEditorNode(node)
        if not self.hasObserver(node, vtk.vtkCommand.ModifiedEvent, self._onNode):
            self.removeObservers()
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._onNode)
