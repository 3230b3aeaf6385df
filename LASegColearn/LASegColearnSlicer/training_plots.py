"""Curves of a training and of the rounds in Slicer's tables and plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from LASegColearnSlicer.rounds import Round
from LASegColearnSlicer.training_progress import Curve, TrainingProgress

CHARTS = ("Losses", "Dice", "Overlap by round", "Distances by round")
_ATTRIBUTE = "LASegColearn.plot"
# Okabe and Ito's palette, which is safe for color-blind users, then darker colors.
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
    """Four charts: losses and Dice of a training, overlap and distances of the rounds.

    The nodes are made once and then updated; curves of earlier trainings or studies are removed.

    Parameters
    ----------
    scene
        The scene.
    """

    def __init__(self, scene: Any) -> None:
        self._scene = scene

    def update(self, progress: TrainingProgress) -> None:
        """Update tables and charts from the progress of the training."""
        self._updateOne("Losses", "Iteration", "Loss", progress.losses)
        self._updateOne("Dice", "Iteration", "Dice of the validation cases", progress.dice)

    def updateRounds(self, rounds: Sequence[Round]) -> None:
        """Update the charts of the rounds: figures on the validation cases for the rounds that have them."""
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
        """The chart node with this name, one of `CHARTS`; None if it is missing or empty."""
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
        """Empty a chart that has a curve of an earlier training or study; the chart itself stays in the views."""
        chart = self.chart(name)
        if chart is None:
            return
        shown = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
        if all(series.GetAttribute(_ATTRIBUTE) in wanted for series in shown):
            return
        # Remove all curves, because their colors depend on their order.
        chart.RemoveAllPlotSeriesNodeIDs()
        for series in shown:
            for gone in (series.GetTableNode(), series):
                if gone is not None:
                    self._scene.RemoveNode(gone)

    def _series(
        self, chart: Any, name: str, label: str, curve: Curve, across: str, color: tuple[int, int, int], points: bool
    ) -> None:
        import slicer

        # One table per curve, because they have different iterations.
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
        # Each round is a point; a line through only one round would be invisible.
        series.SetMarkerStyle(styles.MarkerStyleCircle if points else styles.MarkerStyleNone)
        series.SetColor(*(value / 255 for value in color))
        chart.AddAndObservePlotSeriesNodeID(series.GetID())

    def _node(self, kind: str, name: str) -> Any:
        node = self._find(kind, name)
        if node is None:
            node = self._scene.AddNewNodeByClass(kind, name)
            node.SetAttribute(_ATTRIBUTE, name)
            # Not saved, so that Slicer does not ask about unsaved plots when the scene is closed.
            node.SetSaveWithScene(False)
        return node

    def _find(self, kind: str, name: str) -> Any | None:
        nodes = [self._scene.GetNthNodeByClass(n, kind) for n in range(self._scene.GetNumberOfNodesByClass(kind))]
        return next((node for node in nodes if node.GetAttribute(_ATTRIBUTE) == name), None)
