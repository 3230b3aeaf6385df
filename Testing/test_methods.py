"""What holds for every method there is: the trainer, checkpoints, resumption and prediction serve all alike."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from batches import noise_batch
from LASegColearnLib.case_cache import CachedCase
from LASegColearnLib.checkpoints import load_checkpoint, load_model
from LASegColearnLib.device import choose_device
from LASegColearnLib.errors import InputError
from LASegColearnLib.events import EventLog
from LASegColearnLib.losses import foreground_probability
from LASegColearnLib.methods import METHODS, create_method, method_class, method_names, method_titles
from LASegColearnLib.methods.base import gaussian_ramp
from LASegColearnLib.phantom import write_phantom_cohort
from LASegColearnLib.predictor import Predictor
from LASegColearnLib.run_folder import RunFolder
from LASegColearnLib.settings import Settings, preset
from LASegColearnLib.trainer import Trainer, TrainingCases
from LASegColearnLib.training import train
from LASegColearnLib.training_step import TrainingStep

ENGINE = Path(__file__).parents[1] / "LASegColearn"
PLACE = choose_device("cpu", "float32")
SIDE = (32, 16, 16)
TINY = Settings(
    patch_size=SIDE,
    axial_rotations=False,
    filters=2,
    dropout=0.2,
    learning_rate=0.02,
    iterations=6,
    validations=1,
    pretraining=0.34,
    precision="float32",
)
every_method = pytest.mark.parametrize("name", method_names())


def _case(folder: Path, seed: int, labeled: bool = True) -> CachedCase:
    """A bright box on noise."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 0.5, (36, 20, 20)).astype(np.float32)
    box = tuple(slice(start, start + 9) for start in rng.integers(2, 9, 3))
    image[box] += 2
    label = np.zeros(image.shape, np.uint8)
    label[box] = 1
    np.save(folder / f"{seed}.image.npy", image)
    np.save(folder / f"{seed}.label.npy", label)
    return CachedCase(str(seed), folder / f"{seed}.image.npy", folder / f"{seed}.label.npy" if labeled else None)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> TrainingCases:
    folder = tmp_path_factory.mktemp("cache")
    return TrainingCases(
        [_case(folder, n) for n in range(3)],
        [_case(folder, n, labeled=False) for n in range(3, 6)],
        [_case(folder, 6)],
        {"trained": [], "validated": []},
    )


def _trainer(run: Path, cases: TrainingCases, settings: Settings, stop: Callable[[], bool] = lambda: False) -> Trainer:
    return Trainer(RunFolder(run), settings, cases, PLACE, EventLog(run / "events.jsonl"), stop)


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Tensors and plain values of nested dicts and lists, by the path to them."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in _flat(item, f"{name}.{key}").items()}
    if isinstance(value, (list, tuple)):
        return {k: v for key, item in enumerate(value) for k, v in _flat(item, f"{name}.{key}").items()}
    return {name: value}


def _learned(run: Path) -> dict[str, Any]:
    content = load_checkpoint(run / "checkpoints" / "last.pt")
    return _flat({key: content[key] for key in ("networks", "auxiliary", "method_state", "optimizer")})


@every_method
@pytest.mark.parametrize("stop_after", [1, 4])
def test_a_stopped_and_resumed_run_of_any_method_equals_an_unbroken_one_to_the_bit(
    tmp_path: Path, cases: TrainingCases, name: str, stop_after: int
) -> None:
    settings = replace(TINY, method=name)
    assert _trainer(tmp_path / "whole", cases, settings).train()
    count = iter(range(100))
    assert not _trainer(tmp_path / "broken", cases, settings, lambda: next(count) == stop_after - 1).train()
    resumed = _trainer(tmp_path / "broken", cases, settings)
    resumed.resume()
    assert resumed.iteration == stop_after
    assert resumed.train()
    expected, found = _learned(tmp_path / "whole"), _learned(tmp_path / "broken")
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        same = torch.equal(value, found[key]) if isinstance(value, torch.Tensor) else value == found[key]
        assert same, key


@every_method
def test_a_checkpoint_of_any_method_predicts_with_all_its_networks(
    tmp_path: Path, cases: TrainingCases, name: str
) -> None:
    settings = replace(TINY, method=name, iterations=2, pretraining=0.0)
    trainer = _trainer(tmp_path, cases, settings)
    trainer.train()
    model = load_model(tmp_path / "checkpoints" / "last.pt")
    assert model.networks.keys() == trainer.method.networks.keys()
    assert model.predictor in model.networks
    predictor = Predictor(model, device=PLACE)
    image = np.random.default_rng(0).standard_normal((36, 20, 20)).astype(np.float32)
    for probability in predictor.probabilities(image).values():
        assert probability.shape == image.shape
        assert 0 <= probability.min() < probability.max() <= 1
    assert predictor.descriptor(image).shape == (32,)
    with torch.no_grad():
        for network in model.networks.values():
            logits = network(torch.from_numpy(image[:32, :16, :16])[None, None])
            assert logits.shape == (1, 2, *SIDE)
            torch.testing.assert_close(foreground_probability(logits), torch.softmax(logits, 1)[:, 1])


@every_method
def test_a_new_model_of_any_method_goes_on_from_an_earlier_one_of_the_same(name: str) -> None:
    earlier, new = (create_method(replace(TINY, method=name, seed=seed, pretraining=0.0)) for seed in (0, 1))
    tensors = {key: network.state_dict() for key, network in earlier.networks.items()}
    new.warm_start(tensors, earlier.predictor, earlier.state())
    for key, network in new.networks.items():
        assert all(torch.equal(value, tensors[key][n]) for n, value in network.state_dict().items())


@every_method
def test_what_the_optimizer_changes_is_in_what_is_saved_and_gets_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    method = create_method(replace(TINY, method=name, pretraining=0.0))
    saved = {id(p) for module in method.modules.values() for p in module.parameters()}
    assert saved >= {id(p) for p in method.parameters()}
    loss = method.loss(noise_batch(SIDE, 0, *method.batch_sizes(0.5)), 0.5)
    loss.total.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in method.parameters())
    others = saved - {id(p) for p in method.parameters()}
    assert all(p.grad is None for m in method.modules.values() for p in m.parameters() if id(p) in others)


@every_method
def test_a_batch_in_two_parts_changes_nothing_when_it_is_not_finite_and_learns_when_it_is(name: str) -> None:
    settings = replace(TINY, method=name, batch_parts=2, pretraining=0.0)
    step = TrainingStep(settings, PLACE)
    counts = [count // 2 for count in step.method.batch_sizes(0.5)]
    before = {k: v.clone() for k, v in _flat({n: m.state_dict() for n, m in step.method.modules.items()}).items()}
    parts = [noise_batch(SIDE, number, *counts) for number in range(2)]
    parts[1].labeled[0, 0, 0, 0, 0] = float("nan")
    assert not np.isfinite(step(parts, 0.5, 0.01)["total"])
    after = _flat({n: m.state_dict() for n, m in step.method.modules.items()})
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert np.isfinite(step([noise_batch(SIDE, number, *counts) for number in (2, 3)], 0.5, 0.01)["total"])
    after = _flat({n: m.state_dict() for n, m in step.method.modules.items()})
    assert all(bool(value.isfinite().all()) for value in after.values())
    assert any(not torch.equal(value, after[key]) for key, value in before.items())


def test_names_and_titles_are_known_without_pytorch() -> None:
    code = (
        "import sys; from LASegColearnLib.methods import method_titles; titles = method_titles(); "
        "assert 'torch' not in sys.modules; print(','.join(titles))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ENGINE, capture_output=True, text=True, check=True)
    assert done.stdout.strip().split(",") == method_names()
    assert method_names()[0] == "colearning"


def test_every_method_says_what_it_does_in_a_sentence_and_where_it_is_from() -> None:
    assert {name: METHODS[name].title for name in METHODS} == method_titles()
    for method in METHODS.values():
        assert ": " in method.title
        assert re.search(r"\. .+ (19|20)\d\d\.$", method.citation), method.citation


@pytest.mark.parametrize("name", ["ua_mt", "bcp", "sdcl"])
@pytest.mark.parametrize("plain", [True, False])
def test_a_teacher_sees_patches_with_the_intensities_that_the_settings_say(name: str, plain: bool) -> None:
    settings = replace(TINY, method=name, dropout=0.0, pretraining=0.0, plain_for_teacher=plain)
    parts = []
    for spoiled in ("weakly_augmented", "unlabeled"):
        batch = noise_batch(SIDE)
        method = create_method(settings)
        seen: list[torch.Tensor] = []
        method.networks["teacher"].register_forward_pre_hook(lambda _module, inputs, seen=seen: seen.append(inputs[0]))
        setattr(batch, spoiled, getattr(batch, spoiled) + 1000.0)
        method.loss(batch, 0.5)
        parts.append(max(float(inputs.abs().max()) for inputs in seen))
    assert (parts[0] > 500) == plain
    assert (parts[1] > 500) != plain


def test_an_unknown_method_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(InputError, match="colearning, .*supervised"):
        method_class("unheard")


def test_a_model_that_asks_for_mirrored_copies_it_never_saw_predicts_without(
    tmp_path: Path, cases: TrainingCases
) -> None:
    _trainer(tmp_path, cases, replace(TINY, iterations=1, axial_flips=False)).train()
    path = tmp_path / "checkpoints" / "last.pt"
    content = torch.load(path, weights_only=True)
    content["settings"]["mirror"] = True
    torch.save(content, path)
    assert not load_model(path).settings.mirror


def test_a_checkpoint_from_before_there_were_auxiliary_modules_is_resumed(tmp_path: Path, cases: TrainingCases) -> None:
    _trainer(tmp_path, cases, replace(TINY, iterations=2)).train()
    path = tmp_path / "checkpoints" / "last.pt"
    content = torch.load(path, weights_only=True)
    del content["auxiliary"]
    torch.save(content, path)
    resumed = _trainer(tmp_path, cases, replace(TINY, iterations=3))
    resumed.resume()
    assert resumed.train()


@pytest.mark.parametrize("name", [name for name in method_names() if not METHODS[name].several_processes])
def test_several_processes_are_refused_before_anything_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="several processes can train together"):
        train(tmp_path / "cohort.json", tmp_path / "run", replace(TINY, method=name), device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("done", "expected"), [(0.0, 0.00674), (0.5, 0.28650), (1.0, 1.0), (2.0, 1.0)])
def test_the_common_ramp_is_the_gaussian_rise_of_the_published_methods(done: float, expected: float) -> None:
    assert gaussian_ramp(done) == pytest.approx(expected, abs=1e-5)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom_cohort(tmp_path_factory.mktemp("phantoms"), labeled=4, unlabeled=4, validation=3, seed=5)


@every_method
def test_every_method_learns_to_segment_unseen_phantoms(phantoms: Path, tmp_path: Path, name: str) -> None:
    settings = replace(
        preset("demo"),
        method=name,
        spacing_mm=(5.0, 5.0, 5.0),
        patch_size=(16, 16, 16),
        filters=4,
        # Patches so small have too few voxels at the coarsest level for statistics of a batch.
        normalization="group",
        foreground_patches=1.0,
        # Patches of all shapes and intensities take longer to learn from.
        affine_augmentation=0.0,
        intensity_augmentation=0.0,
        # A teacher that starts from a student that finds nothing never teaches it anything.
        pretraining=0.6,
        learning_rate=0.1,
        minutes=None,
        iterations=150,
        validations=1,
        precision="float32",
    )
    seen: list[dict[str, Any]] = []
    result = train(phantoms, tmp_path / "run", settings, device="cpu", listeners=[seen.append])
    predictor = load_model(result.run.last_checkpoint).predictor
    (dice,) = (event["dice"][predictor] for event in seen if event["event"] == "validated")
    # An untrained network calls everything left atrium, or nothing: a Dice of 0.1 at most.
    assert dice > 0.4


@pytest.mark.parametrize("name", ["dtc", "mc_net", "sassnet", "ss_net", "ua_mt", "urpc", "colearning"])
def test_what_has_risen_does_not_fall_in_a_run_that_is_resumed_to_be_longer(name: str) -> None:
    settings = Settings(method=name, filters=2, ramp_up=0.5, normalization="group", dropout=0.0)

    def total(progress: float, before: float) -> float:
        torch.manual_seed(0)
        method = create_method(settings)
        method.load_state({**method.state(), "furthest": before})
        found = float(method.loss(noise_batch((16, 16, 16)), progress).total.detach())
        assert method.state()["furthest"] == max(progress, before)
        return found

    assert total(0.05, 1.0) == pytest.approx(total(1.0, 0.0), rel=1e-5)
    assert total(0.05, 0.0) != pytest.approx(total(1.0, 0.0), rel=1e-5)
