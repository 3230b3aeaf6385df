"""A training's curves, and those of the rounds, in Slicer's own tables and plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from LASegColearnSlicer.rounds import Round
from LASegColearnSlicer.training_progress import Curve, TrainingProgress

CHARTS = ("Losses", "Dice", "Overlap by round", "Distances by round")
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
    """A chart each for losses and Dice of a training and for overlap and distances of the rounds.

    The nodes are made once and then updated; curves that are not of this training or study any more are removed.

    Parameters
    ----------
    scene
        The scene.
    """

    def __init__(self, scene: Any) -> None:
        self._scene = scene

    def update(self, progress: TrainingProgress) -> None:
        """Bring tables and charts up to what is known of the training."""
        self._updateOne("Losses", "Iteration", "Loss", progress.losses)
        self._updateOne("Dice", "Iteration", "Dice of the validation cases", progress.dice)

    def updateRounds(self, rounds: Sequence[Round]) -> None:
        """Bring the charts of the rounds up to date: figures on the validation cases over the rounds that have some."""
        curves: dict[str, Curve] = {}
        for number, one in enumerate(rounds, start=1):
            for name, value in (one.means or {}).items():
                if value is not None:
                    curves.setdefault(name, Curve()).add(number, value)
        named = {"dice": "Dice", "jaccard": "Jaccard", "hd95": "95HD", "asd": "ASD"}
        overlap = {named[name]: curves[name] for name in ("dice", "jaccard") if name in curves}
        distances = {named[name]: curves[name] for name in ("hd95", "asd") if name in curves}
        self._updateOne("Overlap by round", "Round", "Mean of the validation cases", overlap, points=True)
        self._updateOne("Distances by round", "Round", "Mean of the validation cases in mm", distances, points=True)

    def chart(self, name: str) -> Any | None:
        """The chart node of this name, one of `CHARTS`, if there is something in it."""
        chart = self._find("vtkMRMLPlotChartNode", name)
        return chart if chart is not None and chart.GetNumberOfPlotSeriesNodes() else None

    def _updateOne(
        self, name: str, across: str, axis: str, curves: Mapping[str, Curve], *, points: bool = False
    ) -> None:
        self._clear(name, {f"{name} {label}" for label in curves})
        if not curves:
            return
        chart = self._node("vtkMRMLPlotChartNode", name)
        chart.SetTitle(name)
        chart.SetXAxisTitle(across)
        chart.SetYAxisTitle(axis)
        for number, (label, curve) in enumerate(curves.items()):
            self._series(chart, f"{name} {label}", label, curve, across, _COLORS[number % len(_COLORS)], points)

    def _clear(self, name: str, wanted: set[str]) -> None:
        """Empty a chart that has a curve of an earlier training or study; it stays where it is shown."""
        chart = self.chart(name)
        if chart is None:
            return
        shown = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
        if all(series.GetAttribute(_ATTRIBUTE) in wanted for series in shown):
            return
        # All of them: the colors are given by their order.
        chart.RemoveAllPlotSeriesNodeIDs()
        for series in shown:
            for gone in (series.GetTableNode(), series):
                if gone is not None:
                    self._scene.RemoveNode(gone)

    def _series(
        self, chart: Any, name: str, label: str, curve: Curve, across: str, color: tuple[int, int, int], points: bool
    ) -> None:
        import slicer

        # A table for each curve: they do not have the same iterations.
        table = self._node("vtkMRMLTableNode", name)
        columns = [np.array(curve.iterations, np.int32), np.array(curve.values, np.float32)]
        slicer.util.updateTableFromArray(table, columns, [across, label])
        series = self._node("vtkMRMLPlotSeriesNode", name)
        if series.GetTableNodeID() == table.GetID():
            return
        series.SetName(label)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName(across)
        series.SetYColumnName(label)
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        styles = slicer.vtkMRMLPlotSeriesNode
        # A round is a point of its own, and the first would not be seen as a line.
        series.SetMarkerStyle(styles.MarkerStyleCircle if points else styles.MarkerStyleNone)
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
