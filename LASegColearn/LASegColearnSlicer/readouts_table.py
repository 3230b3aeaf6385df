"""The live readouts as a table with one row per network, and as a line of text."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from LASegColearnSlicer.live_readouts import NetworkReadout, Readouts


class ReadoutsTable:
    """Fills a QTableWidget with readouts and fits its height to the rows.

    Parameters
    ----------
    table
        The widget; this class makes its columns and headers.
    """

    def __init__(self, table: Any) -> None:
        self._table = table
        columns = _columns()
        table.setColumnCount(len(columns))
        for number, (name, tip) in enumerate(columns):
            header = qt.QTableWidgetItem(name)
            header.setToolTip(tip)
            table.setHorizontalHeaderItem(number, header)
        table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        table.setSelectionMode(qt.QAbstractItemView.NoSelection)
        table.setFocusPolicy(qt.Qt.NoFocus)
        table.setVerticalScrollBarPolicy(qt.Qt.ScrollBarAlwaysOff)
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        self._build(0)

    def show(self, readouts: Readouts | None) -> None:
        """Show these figures; None empties the table."""
        networks = () if readouts is None else readouts.networks
        if self._table.rowCount != len(networks):
            self._build(len(networks))
        for row, network in enumerate(networks):
            self._table.verticalHeaderItem(row).setText(_title(network.name))
            for column, text in enumerate(_texts(network)):
                self._table.item(row, column).setText(text)

    def summary(self, readouts: Readouts | None) -> str:
        """A line with the volume and the change from the teacher's segmentation, or the message instead."""
        if readouts is None or readouts.volumeMl is None:
            return "" if readouts is None else readouts.message
        text = _("{volume:.1f} mL").format(volume=readouts.volumeMl)
        if readouts.changedShare is not None:
            changed = _("{share:.1f} % of the teacher's volume changed ({volume:.1f} mL)")
            text += "; " + changed.format(share=100 * readouts.changedShare, volume=readouts.changedMl)
        return f"{text}. {readouts.message}" if readouts.message else text

    def _build(self, rows: int) -> None:
        self._table.setRowCount(0)
        self._table.setRowCount(rows)
        for row in range(rows):
            self._table.setVerticalHeaderItem(row, qt.QTableWidgetItem(""))
            for column in range(self._table.columnCount):
                item = qt.QTableWidgetItem("")
                item.setTextAlignment(qt.Qt.AlignCenter)
                self._table.setItem(row, column, item)
        heights = sum(self._table.rowHeight(row) for row in range(rows))
        header = self._table.horizontalHeader().sizeHint.height()
        self._table.setFixedHeight(header + heights + 2 * self._table.frameWidth)


def _columns() -> list[tuple[str, str]]:
    return [
        (_("Dice"), _("Overlap of the edited segment and the network's segmentation, 0 to 1")),
        (_("Jaccard"), _("Intersection over union, 0 to 1")),
        (_("95HD mm"), _("95 % of the distances between the two surfaces are smaller than this, in mm")),
        (_("ASD mm"), _("Mean distance from the edited segment's surface to the network's, in mm")),
    ]


def _title(name: str) -> str:
    titles = {"teacher": _("Teacher"), "student_1": _("Student 1"), "student_2": _("Student 2")}
    return titles.get(name, name)


def _texts(network: NetworkReadout) -> list[str]:
    values = [(network.dice, 3), (network.jaccard, 3), (network.hd95Mm, 1), (network.asdMm, 2)]
    return ["–" if value is None else f"{value:.{digits}f}" for value, digits in values]
