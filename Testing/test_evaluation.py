"""Evaluation: on the scan's own grid, what is missing is named, what is undefined is said."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from LASegColearnLib.cohort import Cohort, load_cohort
from LASegColearnLib.errors import InputError
from LASegColearnLib.evaluation import evaluate, format_table, summarize, write_metrics_csv
from LASegColearnLib.metrics import segmentation_metrics
from LASegColearnLib.phantom import write_phantom_cohort
from LASegColearnLib.preprocessing import to_array
from LASegColearnLib.segmentation_files import write_segmentation


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return load_cohort(write_phantom_cohort(tmp_path_factory.mktemp("p"), labeled=1, unlabeled=1, validation=2, seed=2))


def _predict(cohort: Cohort, folder: Path, empty: int = 0) -> None:
    """The label, grown by a voxel, as a prediction."""
    for number, case in enumerate(cohort.validation):
        label = sitk.ReadImage(str(case.label))
        grown = sitk.BinaryDilate(label, [1, 1, 1]) if number >= empty else label * 0
        write_segmentation(folder / case.id / "segmentation.seg.nrrd", grown)


def test_metrics_are_those_of_the_masks_on_the_scans_grid(cohort: Cohort, tmp_path: Path) -> None:
    _predict(cohort, tmp_path)
    for unit in ("mm", "voxel"):
        for row, case in zip(evaluate(cohort, tmp_path, unit=unit), cohort.validation, strict=True):
            label = sitk.ReadImage(str(case.label))
            grown = sitk.BinaryDilate(label, [1, 1, 1])
            spacing = label.GetSpacing()
            expected = segmentation_metrics(to_array(grown), to_array(label), spacing, in_voxels=unit == "voxel")
            assert row.metrics == expected
            assert (row.case, row.unit) == (case.id, unit)


def test_missing_predictions_are_named_all_at_once(cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        evaluate(cohort, tmp_path)
    assert [problem.case for problem in caught.value.problems] == [case.id for case in cohort.validation]


def test_a_split_without_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found none"):
        evaluate(Cohort((), (), ()), tmp_path)


def test_an_empty_prediction_counts_in_dice_and_is_said_for_distances(cohort: Cohort, tmp_path: Path) -> None:
    _predict(cohort, tmp_path, empty=1)
    rows = evaluate(cohort, tmp_path, network="teacher")
    means = summarize(rows)
    assert (means["dice"].count, means["dice"].undefined) == (2, 0)
    assert (means["hd95"].count, means["hd95"].undefined) == (1, 1)
    assert means["dice"].mean == pytest.approx(np.mean([row.metrics.dice for row in rows]))
    assert rows[0].metrics.dice == 0
    assert "1 empty predictions or labels" in format_table(rows)
    write_metrics_csv(rows, tmp_path / "metrics.csv")
    with (tmp_path / "metrics.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["network"] for line in lines] == ["teacher", "teacher"]
    assert (lines[0]["hd95"], lines[0]["note"]) == ("", "Nothing was predicted: no distances.")
    assert float(lines[1]["dice"]) == pytest.approx(rows[1].metrics.dice, abs=1e-5)
