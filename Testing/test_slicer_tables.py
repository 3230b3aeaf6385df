"""The panel's and the effect's tables: each figure under its own title, whatever the others are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from LASegColearnSlicer.live_readouts import NetworkReadout, Readouts
from LASegColearnSlicer.rounds import Round
from LASegColearnSlicer.study import StudyCase, Suggested
from slicer_stand_in.application import startSlicer

CASE = StudyCase(
    "case_001",
    "A",
    Path("a.nrrd"),
    "unlabeled",
    figures={
        "volume_ml": 71.52,
        "mean_uncertainty_near_surface": 0.314,
        "agreement": {"mean": 0.9271},
        "dice": 0.9012,
        "hd95_mm": 3.04,
    },
)


@pytest.fixture(autouse=True)
def _slicer() -> None:
    startSlicer()


def _titles(table: Any) -> list[str]:
    return [table.horizontalHeaderItem(column).text() for column in range(table.columnCount)]


def _row(table: Any, row: int) -> list[str]:
    return [table.item(row, column).text() for column in range(table.columnCount)]


def test_each_readout_stands_under_its_title_beside_its_network() -> None:
    import qt

    from LASegColearnSlicer.readouts_table import ReadoutsTable

    widget = qt.QTableWidget()
    table = ReadoutsTable(widget)
    figures = Readouts(
        71.52,
        0.0421,
        3.012,
        (
            NetworkReadout("teacher", 0.8, 0.7, 5.0, 2.0),
            NetworkReadout("student_1", 0.9, 0.81, 3.04, 1.026),
            NetworkReadout("student_2", None, None, None, None),
        ),
        "",
    )
    table.show(figures)
    assert _titles(widget) == ["Dice", "Jaccard", "95HD mm", "ASD mm"]
    assert [widget.verticalHeaderItem(row).text() for row in range(3)] == ["Teacher", "Student 1", "Student 2"]
    assert _row(widget, 0) == ["0.800", "0.700", "5.0", "2.00"]
    assert _row(widget, 1) == ["0.900", "0.810", "3.0", "1.03"]
    assert _row(widget, 2) == ["–"] * 4
    assert table.summary(figures) == "71.5 mL; 4.2 % of the teacher's volume changed (3.0 mL)"


def test_each_figure_of_a_round_stands_in_its_column() -> None:
    import qt

    from LASegColearnSlicer.rounds_table import RoundsTable

    widget = qt.QTableWidget()
    widget.setColumnCount(7)
    means = {"dice": 0.9012, "jaccard": 0.8123, "hd95": 3.04, "asd": 1.026}
    first = Round("001", "2026-01-02T03:04:05", None, 4, 12, cases=3, means=means)
    second = Round(
        *("002", "2026-01-03T03:04:05", "001", 5, 11),
        newLabels=("case_007",),
        cases=2,
        leftOut=("case_009",),
        undefined=1,
    )
    RoundsTable(widget).show([first, second], "002")
    assert _row(widget, 0) == ["001", "", "4", "0.901", "3.0", "1.03", "2026-01-02 03:04"]
    assert _row(widget, 1) == ["002, current", "001", "5 (+1)", "", "", "", "2026-01-03 03:04"]
    tip = widget.item(1, 0).toolTip()
    assert "Empty segmentations: 1" in tip and "was trained on them: case_009" in tip
    assert "found nothing" not in widget.item(0, 0).toolTip()


def test_each_figure_of_a_case_stands_in_its_place_and_says_when_the_model_has_seen_its_label() -> None:
    from LASegColearnSlicer.case_table import figureTexts

    texts, tips = zip(*figureTexts(CASE), strict=True)
    assert texts == ("71.5", "0.31", "0.927", "0.901", "3.0")
    for tip, word in zip(tips, ("Volume", "uncertainty", "networks", "Dice", "Hausdorff"), strict=True):
        assert word in tip
    for seen in (True, False):
        tips = [tip for _text, tip in figureTexts(CASE, seen)]
        assert ["trained on this case" in tip for tip in tips] == [False, False, False, seen, seen]


def test_what_an_earlier_model_has_asked_for_is_marked() -> None:
    from LASegColearnSlicer.case_table import _suggestionTexts

    asked = replace(CASE, suggested=Suggested(3, "001", "Uncertain."))
    assert _suggestionTexts(asked, "001") == ("3", "Uncertain.")
    text, tip = _suggestionTexts(asked, "002")
    assert text == "(3)" and tip == "Uncertain. This rank is from model 001, which is not the current one."
    assert _suggestionTexts(CASE, "001") == ("", "")
