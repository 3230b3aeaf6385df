"""The panel's table of rounds: one row per model, with its figures on cases it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from LASegColearnSlicer.case_table import numberText
from LASegColearnSlicer.rounds import Round
from LASegColearnSlicer.shown_text import asItIs


class RoundsTable:
    """Fills a QTableWidget with seven columns.

    Parameters
    ----------
    table
        The widget.
    """

    def __init__(self, table: Any) -> None:
        self._table = table
        self._runs: list[str] = []
        table.verticalHeader().setVisible(False)
        table.horizontalHeader().setStretchLastSection(True)
        table.setWordWrap(False)

    def show(self, rounds: Sequence[Round], current: str | None) -> None:
        """Show these rounds, with the one of the current model marked."""
        runs = [one.run for one in rounds]
        if runs != self._runs:
            self._table.setRowCount(0)
            self._table.setRowCount(len(runs))
            for row in range(len(runs)):
                for column in range(self._table.columnCount):
                    self._table.setItem(row, column, qt.QTableWidgetItem(""))
            self._runs = runs
        for row, one in enumerate(rounds):
            tip = asItIs(_tip(one))
            for column, text in enumerate(_texts(one, one.run == current)):
                item = self._table.item(row, column)
                item.setText(text)
                item.setToolTip(tip)
        self._table.resizeColumnsToContents()

    def selected(self) -> str | None:
        """Name of the run in the selected row."""
        rows = [index.row() for index in self._table.selectionModel().selectedRows()]
        return self._runs[rows[0]] if rows else None

    def select(self, run: str) -> None:
        """Select the row of this run."""
        self._table.selectRow(self._runs.index(run))


def _texts(one: Round, isCurrent: bool) -> list[str]:
    means = one.means or {}
    new = f" (+{len(one.newLabels)})" if one.newLabels else ""
    return [
        _("{run}, current").format(run=one.run) if isCurrent else one.run,
        one.startedFrom or "",
        f"{one.labeled}{new}",
        numberText(means.get("dice"), 3),
        numberText(means.get("hd95"), 1),
        numberText(means.get("asd"), 2),
        one.when.replace("T", " ")[:16],
    ]


def _tip(one: Round) -> str:
    lines = [_("Trained on {n} labeled and {m} unlabeled cases").format(n=one.labeled, m=one.unlabeled)]
    if one.newLabels:
        lines.append(_("New labels: {cases}").format(cases=", ".join(one.newLabels)))
    if one.cases:
        lines.append(_("Figures for {n} validation cases").format(n=one.cases))
    elif one.validation:
        lines.append(_("Not evaluated on its {n} validation cases yet").format(n=one.validation))
    else:
        lines.append(_("Accuracy unknown, because there are no validation cases"))
    if one.undefined:
        text = _("Empty segmentations: {n}. They are not included in the means of 95HD and ASD")
        lines.append(text.format(n=one.undefined))
    if one.leftOut:
        text = _("Left out, because one of the two models was trained on them: {cases}")
        lines.append(text.format(cases=", ".join(one.leftOut)))
    if one.verdict:
        lines.append(one.verdict)
    return "\n".join(lines)
