"""Whether a model is better than an earlier one: on cases neither was trained on, with how sure that is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from LASegColearnLib.cohort import Cohort, load_cohort, save_cohort
from LASegColearnLib.command_line import main
from LASegColearnLib.errors import InputError
from LASegColearnLib.judging import figures_of, judge
from LASegColearnLib.paired_comparison import compare_paired, sentence
from LASegColearnLib.phantom import write_phantom_cohort
from LASegColearnLib.settings import PRESETS, Settings, preset
from LASegColearnLib.training import train

SETTINGS = Settings(
    spacing_mm=(5.0, 5.0, 5.0),
    patch_size=(16, 16, 16),
    filters=2,
    normalization="group",
    iterations=2,
    validations=0,
    precision="float32",
)


def test_the_interval_is_students_and_decides_only_where_it_leaves_out_zero() -> None:
    rng = np.random.default_rng(0)
    earlier = rng.uniform(0.7, 0.9, 12)
    gains = rng.normal(0.02, 0.01, 12)
    better = compare_paired(list(earlier + gains), list(earlier))
    low, high = stats.t.interval(0.95, 11, gains.mean(), stats.sem(gains))
    assert (better.cases, better.verdict) == (12, "better")
    np.testing.assert_allclose([better.mean, better.low, better.high], [gains.mean(), low, high])
    assert compare_paired(list(earlier), list(earlier + gains)).verdict == "worse"
    assert compare_paired(list(earlier), list(earlier[::-1])).verdict == "undecided"


def test_too_few_cases_decide_nothing_and_say_so() -> None:
    found = compare_paired([0.9, 0.9], [0.5, 0.5])
    assert (found.verdict, found.low) == ("undecided", None)
    assert sentence(found, "the new model", "the earlier one") == (
        "Too few cases to tell which is better: Dice +40.0 points on 2 cases not trained on."
    )
    assert compare_paired([0.9] * 4, [0.9] * 4).verdict == "undecided"
    with pytest.raises(ValueError, match="same cases"):
        compare_paired([], [])


def test_the_verdict_is_a_sentence_with_its_figures() -> None:
    found = compare_paired([0.91, 0.92, 0.90, 0.93], [0.89, 0.91, 0.88, 0.90])
    text = sentence(found, "the new model", "the earlier one")
    assert text.startswith("The new model is better than the earlier one: Dice +2.0 points on 4 cases not trained on,")
    assert "95 % interval +0.7 to +3.3" in text
    same = sentence(compare_paired([0.9, 0.8, 0.7], [0.8, 0.9, 0.7]), "the new model", "the earlier one")
    assert same.startswith("No clear difference between the new model and the earlier one: Dice +0.0 points")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rounds on phantoms: the second has another label."""
    folder = tmp_path_factory.mktemp("study")
    whole = load_cohort(write_phantom_cohort(folder / "scans", labeled=3, unlabeled=2, validation=3, seed=3))
    first = Cohort(whole.labeled[:2], (*whole.unlabeled, replace(whole.labeled[2], label=None)), whole.validation)
    save_cohort(first, folder / "cohort.json")
    train(folder / "cohort.json", folder / "1", SETTINGS)
    save_cohort(whole, folder / "cohort.json")
    train(folder / "cohort.json", folder / "2", SETTINGS, init=folder / "1" / "checkpoints" / "last.pt")
    return folder


def test_both_models_are_judged_on_the_same_cases_and_each_run_keeps_its_metrics(runs: Path) -> None:
    told: list[dict] = []
    found = judge(runs / "2", against=runs / "1", device="cpu", listeners=[told.append])
    assert [row.case for row in found.rows] == [row.case for row in found.earlier]
    assert len(found.rows) == 3 and found.left_out == []
    for one in ("1", "2"):
        assert (runs / one / "judged" / "metrics.csv").exists()
        assert not (runs / one / "metrics.csv").exists() and not (runs / one / "predictions").exists()
    assert [e["done"] for e in told if e["event"] == "predicting"] == [0, 1, 2, 3, 3, 4, 5, 6]
    assert told[-1]["event"] == "judged"
    assert told[-1]["comparison"]["cases"] == 3
    alone = figures_of(judge(runs / "1", device="cpu"))
    assert alone["comparison"] is None and alone["earlier_means"] is None
    assert alone["means"]["dice"] == pytest.approx(np.mean(list(alone["dice"].values())))


def test_judging_leaves_a_runs_own_predictions_and_metrics_alone(runs: Path, tmp_path: Path) -> None:
    run = shutil.copytree(runs / "1", tmp_path / "1")
    own = run / "predictions" / load_cohort(run / "cohort.json").validation[0].id / "segmentation.seg.nrrd"
    own.parent.mkdir(parents=True)
    for file in (own, run / "metrics.csv", run / "judged" / "of-before.txt"):
        file.parent.mkdir(exist_ok=True)
        file.write_text("corrected by hand", encoding="utf-8")
    judge(run, cohort=runs / "cohort.json", device="cpu")
    assert own.read_text("utf-8") == (run / "metrics.csv").read_text("utf-8") == "corrected by hand"
    assert not (run / "judged" / "of-before.txt").exists()


def test_a_label_that_cannot_be_used_is_told_before_anything_is_removed_or_predicted(
    runs: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(runs / "1", tmp_path / "1")
    before = run / "judged" / "metrics.csv"
    before.parent.mkdir(exist_ok=True)
    before.write_text("of before", encoding="utf-8")
    cases = load_cohort(runs / "cohort.json").validation
    missing = [replace(case, label=tmp_path / f"{case.id}.nrrd") for case in cases[1:]]
    save_cohort(Cohort((), (), (cases[0], *missing)), tmp_path / "cohort.json")
    told: list[dict] = []
    with pytest.raises(InputError) as refusal:
        judge(run, cohort=tmp_path / "cohort.json", device="cpu", listeners=[told.append])
    assert [problem.case for problem in refusal.value.problems] == [case.id for case in cases[1:]]
    assert before.read_text("utf-8") == "of before"
    assert "predicting" not in [event["event"] for event in told]


def test_a_table_that_another_program_has_open_does_not_stop_the_judging(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(runs / "1", tmp_path / "1")
    judge(run, cohort=runs / "cohort.json", device="cpu")
    table = run / "judged" / "metrics.csv"
    table.write_text("of before", encoding="utf-8")
    monkeypatch.setattr(shutil, "rmtree", _leaves(table, shutil.rmtree))
    monkeypatch.setattr(os, "replace", _leaves(table, os.replace))
    told: list[dict] = []
    judge(run, cohort=runs / "cohort.json", device="cpu", listeners=[told.append])
    (warning,) = [event["message"] for event in told if event["event"] == "warning"]
    assert warning.startswith("The table judged/metrics.csv could not be replaced")
    assert told[-1]["event"] == "judged"
    assert table.read_text("utf-8") == "of before"


def _leaves(table: Path, change: Callable[..., object]) -> Callable[..., object]:
    """Windows removes and replaces no file that Excel shows."""

    def refused(*paths: Path, ignore_errors: bool = False, **options: object) -> object:
        if table in paths or table.parent in paths:
            if ignore_errors:
                return None
            raise PermissionError(13, "The process cannot access the file")
        return change(*paths, **options)

    return refused


def test_a_case_that_either_model_was_trained_on_is_left_out(runs: Path, tmp_path: Path) -> None:
    whole = load_cohort(runs / "cohort.json")
    # In the first round it was unlabeled, and so trained on.
    save_cohort(Cohort((), (), (whole.labeled[2], *whole.validation)), tmp_path / "c.json")
    found = judge(runs / "2", against=runs / "1", cohort=tmp_path / "c.json", device="cpu")
    assert found.left_out == [whole.labeled[2].id]
    save_cohort(Cohort((), (), (whole.labeled[2],)), tmp_path / "d.json")
    with pytest.raises(InputError, match="trained on by one of the two"):
        judge(runs / "2", cohort=tmp_path / "d.json")
    save_cohort(Cohort(whole.labeled, (), ()), tmp_path / "e.json")
    with pytest.raises(InputError, match="There is no validation case"):
        judge(runs / "2", cohort=tmp_path / "e.json")


def test_the_command_says_which_is_better(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["judge", "--run", str(runs / "2"), "--against", str(runs / "1"), "--device", "cpu"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "this model" in printed and "earlier" in printed
    assert "3 cases not trained on" in printed
    checkpoint = runs / "1" / "checkpoints" / "last.pt"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2])
    try:
        assert main(arguments) == 2
        assert "cut short or damaged" in capsys.readouterr().err
    finally:
        checkpoint.write_bytes(whole)


@pytest.mark.parametrize("name", list(PRESETS))
def test_what_differs_from_a_preset_can_be_typed_again(name: str) -> None:
    changed = replace(preset(name), region_mm=(90.0, 90.0, 80.0), overlap=0.5, patch_size=(32, 32, 16), seed=5)
    changes = changed.changes()
    assert not any(text.startswith("seed") for text in changes)
    assert replace(preset(name).with_text(changes), seed=5) == changed
    assert preset(name).changes() == []
