"""A training's curves in Slicer's own tables and plots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from LASegColearnSlicer.training_progress import Curve, TrainingProgress

CHARTS = ("Losses", "Dice")
_ATTRIBUTE = "LASegColearn.plot"
# Okabe and Ito's palette, which eyes of any kind can tell apart, then darker ones.
_COLORS = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (213, 94, 0),
    (86, 180, 233),
    (120, 120, 120),
    (0, 60, 95),
    (140, 90, 0),
    (0, 90, 65),
    (120, 50, 95),
)


class TrainingPlots:
    """One table, chart and set of series for the losses, one for Dice; the nodes are made once and then updated.

    Parameters
    ----------
    scene
        The scene.
    """

    def __init__(self, scene: Any) -> None:
        self._scene = scene

    def update(self, progress: TrainingProgress) -> None:
        """Bring tables and charts up to what is known of the training."""
        self._updateOne("Losses", "Loss", progress.losses)
        self._updateOne("Dice", "Dice of the validation cases", progress.dice)

    def chart(self, name: str) -> Any | None:
        """The chart node ``Losses`` or ``Dice``, if there is something in it."""
        return self._find("vtkMRMLPlotChartNode", name)

    def _updateOne(self, name: str, axis: str, curves: Mapping[str, Curve]) -> None:
        if not curves:
            return
        chart = self._node("vtkMRMLPlotChartNode", name)
        chart.SetTitle(name)
        chart.SetXAxisTitle("Iteration")
        chart.SetYAxisTitle(axis)
        for number, (label, curve) in enumerate(curves.items()):
            self._series(chart, f"{name} {label}", label, curve, _COLORS[number % len(_COLORS)])

    def _series(self, chart: Any, name: str, label: str, curve: Curve, color: tuple[int, int, int]) -> None:
        import slicer

        # A table for each curve: they do not have the same iterations.
        table = self._node("vtkMRMLTableNode", name)
        columns = [np.array(curve.iterations, np.int32), np.array(curve.values, np.float32)]
        slicer.util.updateTableFromArray(table, columns, ["iteration", label])
        series = self._node("vtkMRMLPlotSeriesNode", name)
        if series.GetTableNodeID() == table.GetID():
            return
        series.SetName(label)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName("iteration")
        series.SetYColumnName(label)
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        series.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone)
        series.SetColor(*(value / 255 for value in color))
        chart.AddAndObservePlotSeriesNodeID(series.GetID())

    def _node(self, kind: str, name: str) -> Any:
        node = self._find(kind, name)
        if node is None:
            node = self._scene.AddNewNodeByClass(kind, name)
            node.SetAttribute(_ATTRIBUTE, name)
            # Drawn again by the next training: not worth a question when the scene is closed.
            node.SetSaveWithScene(False)
        return node

    def _find(self, kind: str, name: str) -> Any | None:
        nodes = [self._scene.GetNthNodeByClass(n, kind) for n in range(self._scene.GetNumberOfNodesByClass(kind))]
        return next((node for node in nodes if node.GetAttribute(_ATTRIBUTE) == name), None)
