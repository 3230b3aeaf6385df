"""Which chart Slicer's plot view shows, and when it appears automatically."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from LASegColearnSlicer.training_plots import CHARTS, TrainingPlots
from LASegColearnSlicer.training_progress import TrainingProgress

_SECONDS_BETWEEN_PLOTS = 1.0


class ChartView:
    """Draws the curves of a running training, and shows the chosen chart.

    Parameters
    ----------
    comboBox
        Combo box to choose the chart.
    plots
        Draws the charts.
    mayShow
        Whether the layout may change now: not while the user edits, or works in another module.
    """

    def __init__(self, comboBox: Any, plots: TrainingPlots, mayShow: Callable[[], bool]) -> None:
        self._comboBox = comboBox
        self._plots = plots
        self._mayShow = mayShow
        self._drawn = 0.0
        self._isWanted = False
        texts = (_("Losses"), _("Dice"), _("Overlap by round"), _("Distances by round"))
        for text, chart in zip(texts, CHARTS, strict=True):
            comboBox.addItem(text, chart)
        comboBox.connect("activated(int)", lambda index: self.show())

    def showWithNextCurves(self) -> None:
        """Show the curves of a new training once, as soon as there are some."""
        self._isWanted = True

    def onEvent(self, progress: TrainingProgress, event: dict[str, Any]) -> None:
        """Update the curves at each validation, and on progress at most once per second."""
        due = event["event"] == "progress" and time.monotonic() - self._drawn > _SECONDS_BETWEEN_PLOTS
        if not due and event["event"] != "validated":
            return
        self._drawn = time.monotonic()
        self._plots.update(progress)
        if self._isWanted and self._mayShow():
            self._isWanted = False
            self.show()

    def show(self) -> None:
        """Show the chosen chart in the layout."""
        chart = self._plots.chart(self._comboBox.currentData)
        if chart is not None:
            slicer.modules.plots.logic().ShowChartInLayout(chart)
