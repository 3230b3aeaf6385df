"""Which case to annotate next: the ones that stand for many, the doubtful ones, and not two alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

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


def _crowd(uncertainty: float = 0.3) -> dict[str, Opinion]:
    """Nine scans in a corner that no label is near, of which the middle one is nearest to all."""
    places = [(x, y) for x in (4.0, 5.0, 6.0) for y in (4.0, 5.0, 6.0)]
    return {f"{x:g} {y:g}": _opinion(uncertainty, 0.1, x, y) for x, y in places}


def test_of_scans_that_are_equally_doubtful_the_one_that_stands_for_the_most_comes_first() -> None:
    cases = {**_crowd(), "odd": _opinion(0.3, 0.1, 40, 0), "known": _opinion(0.3, 0.1, 0.1, 0)}
    order = _order(cases, (0, 0))
    assert order[0] == "5 5"
    assert order[-1] == "known"


def test_two_that_are_alike_are_not_both_asked_for() -> None:
    cases = {**_crowd(), "twin": _opinion(0.3, 0.1, 5, 5.01), "other": _opinion(0.3, 0.1, 0, 6)}
    order = _order(cases, (0, 0))
    assert order[0] in ("5 5", "twin")
    assert {"5 5", "twin"} & set(order[-2:]), "When one is taken, the other brings nothing."


def test_the_more_labels_there_are_the_more_the_models_doubt_counts() -> None:
    cases = {**_crowd(uncertainty=0.1), "odd": _opinion(0.9, 0.4, 40, 0)}
    assert _order(cases, (0, 0))[0] == "5 5"
    assert _order(cases, *[(0, 0)] * 60)[0] == "odd"


def test_a_feature_of_large_values_does_not_outweigh_the_others() -> None:
    places = np.random.default_rng(0).normal(size=(12, 2))
    cases = {str(n): _opinion(0.3, 0.1, *place) for n, place in enumerate(places)}
    large = {str(n): _opinion(0.3, 0.1, *place) for n, place in enumerate(places * [1000.0, 1.0])}
    assert _order(large, (0, 0)) == _order(cases, (0, 0))


def test_a_scan_in_which_nothing_was_found_is_asked_for_first_and_says_so() -> None:
    cases = {"found": _opinion(0.9, 0.4, 0, 0), "other": _opinion(0.2, 0.1, 0, 0), "sure": _opinion(0.1, 0.05, 0, 0)}
    # Networks that all find nothing agree.
    for disagreement in (1.0, 0.0):
        first = annotation_order({**cases, "empty": _opinion(None, disagreement, 0, 0)}, [])[0]
        assert (first.case, first.reason) == ("empty", "Nothing was found in it.")


def test_the_reason_names_what_speaks_for_a_case_and_nothing_else() -> None:
    cases = {
        **_crowd(uncertainty=0.1),
        "doubtful": _opinion(0.62, 0.01, 0, 0),
        "split": _opinion(0.05, 0.25, 0.1, 0),
    }
    reasons = {s.case: s.reason for s in annotation_order(cases, [np.zeros(2, np.float32)])}
    assert reasons["doubtful"] == "Uncertain near the surface (0.62)."
    assert reasons["split"] == "The students disagree (Dice 0.75)."
    assert "epresents many scans that no labeled scan resembles" in reasons["5 5"]
    assert "Uncertain" not in reasons["5 5"] or "0.10" in reasons["5 5"]


def test_a_model_with_one_network_is_judged_by_uncertainty_and_difference() -> None:
    cases = {"sure": _opinion(0.1, None, 0, 0), "doubtful": _opinion(0.6, None, 0, 0)}
    assert _order(cases, (0, 0)) == ["doubtful", "sure"]
    assert annotation_order({}, []) == []


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom_cohort(tmp_path_factory.mktemp("phantoms"), labeled=2, unlabeled=3, validation=0, seed=5)


@pytest.fixture
def predictor() -> Predictor:
    return _untrained(SETTINGS)


def _untrained(settings: Settings) -> Predictor:
    method = create_method(settings)
    return Predictor(Model(settings, method.networks, method.predictor, 0), device=choose_device("cpu", "float32"))


def test_a_cohorts_unlabeled_scans_are_looked_at_once_each(phantoms: Path, predictor: Predictor) -> None:
    told: list[tuple[int, int]] = []
    found = suggest_cases(predictor, load_cohort(phantoms), lambda done, of: told.append((done, of)))
    assert sorted(s.case for s in found) == sorted(case.id for case in load_cohort(phantoms).unlabeled)
    assert told == [(done, 5) for done in range(6)]
    assert all(s.closer >= 0 and 0 <= s.gain <= 1 for s in found)


def test_a_descriptor_is_the_mean_of_the_coarsest_features_whatever_the_scans_size(predictor: Predictor) -> None:
    array = np.random.default_rng(0).normal(size=(32, 32, 17)).astype(np.float32)
    assert predictor.descriptor(array).shape == (32,)
    # Windows overlap where the side is no multiple of theirs.
    windows = np.concatenate([array[:, :, :16], array[:, :, 1:]], axis=2)
    np.testing.assert_allclose(predictor.descriptor(array), predictor.descriptor(windows), rtol=1e-5)


def test_a_scan_smaller_than_the_windows_is_filled_with_its_mean() -> None:
    """As for its segmentation; of 16 voxels a side instance normalization would have a single value and refuse it."""
    settings = replace(SETTINGS, patch_size=(32, 32, 16), normalization="instance")
    predictor = _untrained(settings)
    array = np.random.default_rng(0).normal(size=(16, 12, 7)).astype(np.float32)
    whole = np.pad(array, ((0, 16), (0, 20), (0, 9)))
    np.testing.assert_allclose(predictor.descriptor(array), predictor.descriptor(whole), rtol=1e-5)


def test_a_scan_is_described_window_by_window(predictor: Predictor) -> None:
    """Of a scan of several windows the description is the mean of theirs; nothing larger or smaller goes through."""
    network = predictor.model.networks[predictor.model.predictor]
    seen: list[tuple[int, ...]] = []
    network.encoder[0].register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    side = SETTINGS.patch_size
    array = np.random.default_rng(1).normal(size=(2 * side[0] + 16, side[1], side[2])).astype(np.float32)
    found = predictor.descriptor(array)
    assert seen == [(2, 1, *side), (1, 1, *side)]
    windows = [array[start : start + side[0]] for start in (0, side[0], side[0] + 16)]
    expected = np.mean([predictor.descriptor(window) for window in windows], axis=0)
    # PyTorch convolves two windows in another order of sums than one, and normalizing little values makes much of that.
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=1e-4)


def test_a_description_that_is_no_number_in_half_precision_is_made_in_float32(predictor: Predictor) -> None:
    array = np.random.default_rng(1).normal(size=(20, 16, 16)).astype(np.float32)
    expected = predictor.descriptor(array)
    network = predictor.model.networks[predictor.model.predictor]
    network.encoder[0].register_forward_hook(
        lambda _module, _inputs, found: found * torch.inf if torch.is_autocast_enabled("cpu") else found
    )
    half = Predictor(predictor.model, device=choose_device("cpu", "bfloat16"))
    np.testing.assert_allclose(half.descriptor(array), expected, rtol=1e-5, atol=1e-6)


def test_all_scans_that_cannot_be_read_are_named(phantoms: Path, predictor: Predictor, tmp_path: Path) -> None:
    cohort = load_cohort(phantoms)
    gone = tuple(Case(name, tmp_path / f"{name}.nrrd") for name in ("gone-1", "gone-2"))
    with pytest.raises(InputError) as raised:
        suggest_cases(predictor, Cohort(cohort.labeled, (*cohort.unlabeled, *gone)))
    assert [problem.case for problem in raised.value.problems] == ["gone-1", "gone-2"]
    with pytest.raises(InputError, match="Wanted unlabeled cases"):
        suggest_cases(predictor, Cohort(cohort.labeled, ()))
