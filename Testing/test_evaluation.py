"""Evaluation: on the scan's own grid, what is missing is named, what is undefined is said."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from LASegColearnLib.cohort import Case, Cohort, load_cohort
from LASegColearnLib.errors import InputError
from LASegColearnLib.evaluation import evaluate, format_table, summarize, write_metrics_csv
from LASegColearnLib.metrics import segmentation_metrics
from LASegColearnLib.phantom import write_phantom_cohort
from LASegColearnLib.preprocessing import to_array
from LASegColearnLib.segmentation_files import write_mask, write_segmentation


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
    with pytest.raises(InputError, match="found none.*--cohort <run>/cohort.json"):
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


def test_a_case_without_a_label_or_with_a_broken_prediction_is_named_with_the_missing_ones(
    cohort: Cohort, tmp_path: Path
) -> None:
    first, second = cohort.validation
    (tmp_path / f"{first.id}.nrrd").write_bytes(b"not an image")
    cases = (first, second, Case("no-label", first.image, None))
    with pytest.raises(InputError) as caught:
        evaluate(replace(cohort, validation=cases), tmp_path)
    problems = [(problem.case, problem.cause) for problem in caught.value.problems]
    assert [case for case, _ in problems] == [first.id, second.id, "no-label", "no-label"]
    assert problems[0][1].startswith(f"In its prediction {first.id}.nrrd: ")
    assert "Wanted a prediction" in problems[1][1]
    assert "Wanted a label" in problems[2][1]
    assert "Wanted a prediction" in problems[3][1]


@pytest.mark.parametrize(("option", "wrong"), [("unit", "voxels"), ("split", "test")])
def test_an_unknown_unit_or_split_is_refused_and_not_taken_for_another(
    cohort: Cohort, tmp_path: Path, option: str, wrong: str
) -> None:
    _predict(cohort, tmp_path)
    with pytest.raises(InputError, match=f"{option}: Wanted one of .* found '{wrong}'"):
        evaluate(cohort, tmp_path, **{option: wrong})


@pytest.mark.parametrize("place", ["{}.seg.nrrd", "{}.nii.gz", "{}.nrrd", "{}/segmentation.nii.gz"])
def test_predictions_are_found_under_each_name(cohort: Cohort, tmp_path: Path, place: str) -> None:
    for case in cohort.validation:
        target = tmp_path / place.format(case.id)
        target.parent.mkdir(exist_ok=True)
        sitk.WriteImage(sitk.ReadImage(str(case.label)), str(target))
    assert [row.metrics.dice for row in evaluate(cohort, tmp_path)] == [1.0, 1.0]


def _two_segments(cohort: Cohort, folder: Path, names: tuple[str, str]) -> None:
    for case in cohort.validation:
        label = sitk.ReadImage(str(case.label))
        ring = sitk.And(sitk.BinaryDilate(label, [2, 2, 2]), label == 0)
        both = sitk.Cast(label * 2 + ring, sitk.sitkUInt8)
        for number, (value, name) in enumerate(zip((1, 2), names, strict=True)):
            for key, text in {"ID": f"s{number}", "Name": name, "LabelValue": str(value), "Layer": "0"}.items():
                both.SetMetaData(f"Segment{number}_{key}", text)
        sitk.WriteImage(both, str(folder / f"{case.id}.seg.nrrd"))


def test_of_several_segments_the_left_atrium_is_compared(cohort: Cohort, tmp_path: Path) -> None:
    _two_segments(cohort, tmp_path, ("Wall", "Left atrium"))
    assert [row.metrics.dice for row in evaluate(cohort, tmp_path)] == [1.0, 1.0]


def test_several_segments_none_of_them_the_left_atrium_are_refused_by_their_names(
    cohort: Cohort, tmp_path: Path
) -> None:
    _two_segments(cohort, tmp_path, ("Wall", "Cavity"))
    with pytest.raises(InputError, match="found 2: Wall, Cavity"):
        evaluate(cohort, tmp_path)


def test_a_prediction_on_another_grid_is_compared_on_the_scans_and_it_is_noted(cohort: Cohort, tmp_path: Path) -> None:
    for case in cohort.validation:
        label = sitk.ReadImage(str(case.label))
        finer = sitk.Expand(label, [2, 2, 2], sitk.sitkNearestNeighbor)
        sitk.WriteImage(finer, str(tmp_path / f"{case.id}.nrrd"))
    for row, case in zip(evaluate(cohort, tmp_path), cohort.validation, strict=True):
        voxels = int((to_array(sitk.ReadImage(str(case.label))) > 0).sum())
        spacing = sitk.ReadImage(str(case.image)).GetSpacing()
        assert row.metrics.dice > 0.98
        assert row.metrics.reference_volume_ml == pytest.approx(voxels * np.prod(spacing) / 1000)
        assert row.metrics.note.startswith("Of the prediction: ")
        assert "another grid" in row.metrics.note


@pytest.mark.parametrize("suffix", ["nii.gz", "seg.nrrd"])
def test_an_empty_prediction_is_compared_whatever_its_format(cohort: Cohort, tmp_path: Path, suffix: str) -> None:
    for case in cohort.validation:
        write_mask(tmp_path / f"{case.id}.{suffix}", sitk.ReadImage(str(case.label)) * 0)
    assert [row.metrics.dice for row in evaluate(cohort, tmp_path)] == [0.0, 0.0]
