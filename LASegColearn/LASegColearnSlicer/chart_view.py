"""Which chart Slicer's plot view shows, and when it appears by itself."""

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
    """Draws the curves while a training runs, and shows the chart that is chosen.

    Parameters
    ----------
    comboBox
        Where the chart is chosen.
    plots
        What draws them.
    mayShow
        Whether the layout may change now: never under the hands of a person who edits, or works in another module.
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
        """A training was asked for: show its curves as soon as there are some, once."""
        self._isWanted = True

    def onEvent(self, progress: TrainingProgress, event: dict[str, Any]) -> None:
        """Draw what a training has reached, not more often than a person can see."""
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
