"""The panel's table of cases: one row per case, with role and state to choose, and the teacher's figures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

import qt
from slicer.i18n import tr as _

from LASegColearnSlicer.shown_text import asItIs
from LASegColearnSlicer.study import Role, State, StudyCase

_SCAN, _ROLE, _LABEL, _STATE, _FIRST_FIGURE = range(5)


# Each text is written out, so that translation tools find it.
@lru_cache
def _roleTexts() -> dict[Role, str]:
    return {
        "labeled": _("labeled"),
        "unlabeled": _("unlabeled"),
        "validation": _("validation"),
        "left out": _("left out"),
    }


@lru_cache
def _stateTexts() -> dict[State, str]:
    return {
        "not started": _("not started"),
        "in progress": _("in progress"),
        "completed": _("completed"),
        "flagged": _("flagged"),
        "predicted": _("predicted"),
    }


class CaseTable:
    """Fills a QTableWidget and reports the choices made in it.

    Parameters
    ----------
    table
        The widget, with ten columns.
    onRole, onState
        Called with a case's id and the choice. They raise nothing, and call :meth:`show` if the choice was refused.
    """

    def __init__(self, table: Any, onRole: Callable[[str, str], None], onState: Callable[[str, str], None]) -> None:
        self._table = table
        self._onRole = onRole
        self._onState = onState
        self._ids: list[str] = []
        # What each row shows now.
        self._shown: dict[int, tuple[StudyCase, str | None, bool]] = {}
        self._wheel = _WheelFilter()
        table.verticalHeader().setVisible(False)
        table.horizontalHeader().setStretchLastSection(True)
        table.setWordWrap(False)

    def show(
        self, cases: Sequence[StudyCase], model: str | None = None, learned: Collection[str] = frozenset()
    ) -> None:
        """Show these cases; rows are only rebuilt if the cases are different.

        Parameters
        ----------
        model
            Name of the run with the current model; suggestions of other models are marked.
        learned
            Ids of the cases that were predicted by a model that has learned from their labels.
        """
        ids = [case.id for case in cases]
        if ids != self._ids:
            selected = self.selectedIds()
            self._build(ids)
            self.select(selected)
        for row, case in enumerate(cases):
            self._fill(row, case, model, case.id in learned)
        self._table.resizeColumnsToContents()

    def selectedIds(self) -> list[str]:
        """Ids of the selected rows, from top to bottom."""
        rows = sorted({index.row() for index in self._table.selectionModel().selectedRows()})
        return [self._ids[row] for row in rows if row < len(self._ids)]

    def idOfRow(self, row: int) -> str:
        return self._ids[row]

    def select(self, ids: Sequence[str]) -> None:
        """Select these cases' rows, and no others."""
        self._table.clearSelection()
        model, selection = self._table.model(), self._table.selectionModel()
        flags = qt.QItemSelectionModel.Select | qt.QItemSelectionModel.Rows
        for row, caseId in enumerate(self._ids):
            if caseId in ids:
                selection.select(model.index(row, 0), flags)

    def _build(self, ids: list[str]) -> None:
        self._ids, self._shown = ids, {}
        self._table.setRowCount(0)
        self._table.setRowCount(len(ids))
        for row, caseId in enumerate(ids):
            for column in range(self._table.columnCount):
                if column not in (_ROLE, _STATE):
                    self._table.setItem(row, column, qt.QTableWidgetItem(""))
            self._addChoice(row, _ROLE, caseId, _roleTexts(), self._onRole)
            self._addChoice(row, _STATE, caseId, _stateTexts(), self._onState)

    def _addChoice(
        self, row: int, column: int, caseId: str, texts: Mapping[Any, str], onChosen: Callable[[str, str], None]
    ) -> None:
        combo = qt.QComboBox()
        for choice, text in texts.items():
            combo.addItem(text, choice)
        combo.connect("activated(int)", lambda index: onChosen(caseId, list(texts)[index]))
        combo.installEventFilter(self._wheel)
        self._table.setCellWidget(row, column, combo)

    def _fill(self, row: int, case: StudyCase, model: str | None, isLearnedFrom: bool) -> None:
        self._table.cellWidget(row, _ROLE).setCurrentIndex(list(_roleTexts()).index(case.role))
        self._table.cellWidget(row, _STATE).setCurrentIndex(list(_stateTexts()).index(case.state))
        # Updating hundreds of rows takes a while, and nearly every action calls this.
        shown = (case, model, isLearnedFrom)
        if self._shown.get(row) == shown:
            return
        self._shown[row] = shown
        self._text(row, _SCAN, case.name, f"{case.id}: {case.scan.name}")
        label = "" if case.label is None else case.label.segment or case.label.file.name
        self._text(row, _LABEL, label, _labelTip(case))
        for number, (text, tip) in enumerate([*figureTexts(case, isLearnedFrom), _suggestionTexts(case, model)]):
            self._text(row, _FIRST_FIGURE + number, text, tip)

    def _text(self, row: int, column: int, text: str, tip: str) -> None:
        item = self._table.item(row, column)
        item.setText(text)
        item.setToolTip(asItIs(tip))


class _WheelFilter(qt.QWidget):
    """Ignores the mouse wheel, so that scrolling through the table does not change roles and states."""

    def eventFilter(self, _watched: Any, event: Any) -> bool:
        if event.type() == qt.QEvent.Wheel:
            event.ignore()
            return True
        return False


def figureTexts(case: StudyCase, isLearnedFrom: bool = False) -> list[tuple[str, str]]:
    """Volume, uncertainty, agreement, Dice and 95HD of a case as text, each with its explanation.

    Parameters
    ----------
    isLearnedFrom
        Whether the model that predicted the case has learned from its label, regardless of its current role.
    """
    figures = case.figures
    agreement = (figures.get("agreement") or {}).get("mean")
    trainedOn = " " + _("The model was trained on this case.") if isLearnedFrom else ""
    return [
        (numberText(figures.get("volume_ml"), 1), _("Volume of the teacher's segmentation in mL")),
        (
            numberText(figures.get("mean_uncertainty_near_surface"), 2),
            _("Mean uncertainty near the surface, 0 (sure) to 1 (undecided)"),
        ),
        (numberText(agreement, 3), _("Mean pairwise Dice of the three networks")),
        (numberText(figures.get("dice"), 3), _("Dice of teacher and label.") + trainedOn),
        (numberText(figures.get("hd95_mm"), 1), _("95 % Hausdorff distance of teacher and label in mm.") + trainedOn),
    ]


def _labelTip(case: StudyCase) -> str:
    """The label's file, when it became the label, and which model it was made from."""
    if case.label is None:
        return ""
    lines = [case.label.file.name]
    if case.origin is not None:
        lines.append(_("Label since {when}").format(when=case.origin.when.replace("T", " ")))
        if case.origin.model:
            lines.append(_("Made from the prediction of model {model}").format(model=case.origin.model))
    return "\n".join(lines)


def _suggestionTexts(case: StudyCase, model: str | None) -> tuple[str, str]:
    """Place in the suggested order of annotation, and the reason."""
    if case.suggested is None or case.role != "unlabeled":
        return "", ""
    if case.suggested.run == model:
        return str(case.suggested.place), case.suggested.reason
    earlier = _("This rank is from model {model}, which is not the current one.").format(model=case.suggested.run)
    return f"({case.suggested.place})", f"{case.suggested.reason} {earlier}"


def numberText(value: float | None, digits: int) -> str:
    """A figure for a table; empty if there is none."""
    return "" if value is None else f"{value:.{digits}f}"
