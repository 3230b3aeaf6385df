"""Which case to annotate next: the doubtful ones, the ones that are unlike what is labeled, and not two alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from LASegColearnLib.annotation_order import annotation_order, suggest_cases
from LASegColearnLib.checkpoints import Model
from LASegColearnLib.cohort import Case, Cohort, load_cohort
from LASegColearnLib.device import choose_device
from LASegColearnLib.errors import InputError
from LASegColearnLib.methods import create_method
from LASegColearnLib.phantom import write_phantom_cohort
from LASegColearnLib.predictor import Opinion, Predictor
from LASegColearnLib.settings import Settings

SETTINGS = Settings(spacing_mm=(5.0, 5.0, 5.0), patch_size=(16, 16, 16), filters=2, normalization="group")


def _opinion(uncertainty: float | None, disagreement: float | None, *descriptor: float) -> Opinion:
    return Opinion(uncertainty, disagreement, np.array(descriptor, np.float32))


def _order(unlabeled: dict[str, Opinion], *labeled: tuple[float, ...]) -> list[str]:
    return [s.case for s in annotation_order(unlabeled, [np.array(values, np.float32) for values in labeled])]


def test_the_more_doubtful_of_scans_that_are_alike_comes_first() -> None:
    cases = {
        "sure": _opinion(0.1, 0.1, 1, 0),
        "doubtful": _opinion(0.6, 0.3, 1, 0),
        "between": _opinion(0.3, 0.2, 1, 0),
    }
    assert _order(cases, (0, 0)) == ["doubtful", "between", "sure"]


def test_of_scans_that_are_equally_doubtful_the_one_unlike_the_labeled_comes_first() -> None:
    cases = {"near": _opinion(0.3, 0.1, 0.1, 0), "far": _opinion(0.3, 0.1, 5, 5), "middle": _opinion(0.3, 0.1, 1, 1)}
    assert _order(cases, (0, 0)) == ["far", "middle", "near"]


def test_two_that_are_alike_are_not_both_asked_for() -> None:
    cases = {
        "far": _opinion(0.50, 0.20, 9, 0),
        "its twin": _opinion(0.49, 0.19, 9, 0),
        "other": _opinion(0.40, 0.15, 0, 6),
        "known": _opinion(0.10, 0.01, 0, 0),
    }
    assert _order(cases, (0, 0))[:2] == ["far", "other"]
    assert _order({name: opinion for name, opinion in cases.items() if name != "far"}, (0, 0))[0] == "its twin"


def test_a_feature_of_large_values_does_not_outweigh_the_others() -> None:
    cases = {"a": _opinion(0.3, 0.1, 1001, 0), "b": _opinion(0.3, 0.1, 1000, 4), "c": _opinion(0.3, 0.1, 1000, 0)}
    assert annotation_order(cases, [np.array([1000, 0], np.float32)])[2].case == "c"


def test_a_scan_in_which_nothing_was_found_is_asked_for_first_and_says_so() -> None:
    cases = {"empty": _opinion(None, 1.0, 0, 0), "found": _opinion(0.9, 0.4, 0, 0), "other": _opinion(0.2, 0.1, 0, 0)}
    first = annotation_order(cases, [])[0]
    assert (first.case, first.reason) == ("empty", "Nothing was found in it.")


def test_the_reason_names_what_speaks_for_a_case_and_nothing_else() -> None:
    cases = {
        "doubtful": _opinion(0.62, 0.01, 0, 0),
        "split": _opinion(0.05, 0.25, 0.1, 0),
        "new": _opinion(0.10, 0.02, 9, 9),
    }
    reasons = {s.case: s.reason for s in annotation_order(cases, [np.zeros(2, np.float32)])}
    assert reasons["doubtful"] == "Uncertain near the surface (0.62)."
    assert "The students disagree (Dice 0.75)" in reasons["split"]
    assert reasons["new"].startswith("Unlike the scans that are labeled")


def test_a_model_with_one_network_is_judged_by_uncertainty_and_difference() -> None:
    cases = {"sure": _opinion(0.1, None, 0, 0), "doubtful": _opinion(0.6, None, 0, 0)}
    assert _order(cases, (0, 0)) == ["doubtful", "sure"]
    assert annotation_order({}, []) == []


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom_cohort(tmp_path_factory.mktemp("phantoms"), labeled=2, unlabeled=3, validation=0, seed=5)


@pytest.fixture
def predictor() -> Predictor:
    method = create_method(SETTINGS)
    return Predictor(Model(SETTINGS, method.networks, method.predictor, 0), device=choose_device("cpu", "float32"))


def test_a_cohorts_unlabeled_scans_are_looked_at_once_each(phantoms: Path, predictor: Predictor) -> None:
    told: list[tuple[int, int]] = []
    found = suggest_cases(predictor, load_cohort(phantoms), lambda done, of: told.append((done, of)))
    assert sorted(s.case for s in found) == sorted(case.id for case in load_cohort(phantoms).unlabeled)
    assert told == [(done, 5) for done in range(6)]
    assert all(np.isfinite(s.difference) for s in found)


def test_a_descriptor_is_the_mean_of_the_coarsest_features_whatever_the_scans_size(predictor: Predictor) -> None:
    array = np.random.default_rng(0).normal(size=(32, 32, 17)).astype(np.float32)
    assert predictor.descriptor(array).shape == (32,)
    # What is missing to a multiple of 16 is filled with the scan's mean, 0.
    whole = np.pad(array, ((0, 0), (0, 0), (0, 15)))
    np.testing.assert_allclose(predictor.descriptor(array), predictor.descriptor(whole), rtol=1e-5)


def test_all_scans_that_cannot_be_read_are_named(phantoms: Path, predictor: Predictor, tmp_path: Path) -> None:
    cohort = load_cohort(phantoms)
    gone = tuple(Case(name, tmp_path / f"{name}.nrrd") for name in ("gone-1", "gone-2"))
    with pytest.raises(InputError) as raised:
        suggest_cases(predictor, Cohort(cohort.labeled, (*cohort.unlabeled, *gone)))
    assert [problem.case for problem in raised.value.problems] == ["gone-1", "gone-2"]
    with pytest.raises(InputError, match="Wanted unlabeled cases"):
        suggest_cases(predictor, Cohort(cohort.labeled, ()))
