"""One iteration: the same as the plainly written method, the same however its batch is split, whole or not at all."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from batches import noise_batch
from LASegColearnLib.case_cache import CachedCase
from LASegColearnLib.device import Device, choose_device
from LASegColearnLib.errors import TrainingError
from LASegColearnLib.methods.base import Batch
from LASegColearnLib.networks import VNet
from LASegColearnLib.patches import PatchSource
from LASegColearnLib.settings import Settings
from LASegColearnLib.training_step import TrainingStep
from plain_colearning import PlainCoLearning

SETTINGS = Settings(patch_size=(32, 16, 16), filters=2, normalization="instance", dropout=0.0, learning_rate=0.05)
PLACE = choose_device("cpu", "float32")


def _batch(number: int, labeled: int = 2, unlabeled: int = 2) -> Batch:
    return noise_batch(SETTINGS.patch_size, number, labeled, unlabeled)


def _weights(step: TrainingStep) -> dict[str, torch.Tensor]:
    networks = step.method.networks.items()
    return {f"{name}.{key}": value.clone() for name, network in networks for key, value in network.state_dict().items()}


def _batch_of_boxes(number: int, side: int) -> Batch:
    """Bright boxes in noise, two with and two without labels."""
    rng = np.random.default_rng(number)
    images = torch.from_numpy(rng.normal(0, 0.5, (4, 1, side, side, side)).astype(np.float32))
    labels = torch.zeros(2, side, side, side)
    for patch in range(4):
        box = tuple(slice(start, start + side // 3) for start in rng.integers(2, side // 2, 3))
        images[patch, 0][box] += 2
        if patch < 2:
            labels[patch][box] = 1
    return Batch(images[:2], labels, images[2:], images[2:], labels[:0], number, np.random.default_rng(number))


def _flat(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten().clone() for parameter in network.parameters()])


@pytest.mark.parametrize("cross_entropy_weight", [0.0, 1.0])
def test_fast_and_plainly_written_training_make_the_same_steps(cross_entropy_weight: float) -> None:
    """Each from the same weights, since many steps magnify rounding; relative to the step's own length."""
    settings = replace(SETTINGS, patch_size=(48, 48, 48), momentum=0.0, weight_decay=0.0)
    settings = replace(settings, cross_entropy_weight=cross_entropy_weight, unlabeled_weight=0.7, mix_weight=0.4)
    fast, plain = TrainingStep(settings, PLACE), PlainCoLearning(settings)
    networks, plain_networks = list(fast.method.networks.values()), [*plain.students, plain.teacher]
    for number in range(3):
        for network, other in zip(networks, plain_networks, strict=True):
            other.load_state_dict(network.state_dict())
        before = [_flat(network) for network in networks]
        loss = fast([_batch_of_boxes(number, 48)], 0.5, settings.learning_rate)["total"]
        assert loss == pytest.approx(plain.step(_batch_of_boxes(number, 48)), rel=2e-5)
        for start, network, other in zip(before, networks, plain_networks, strict=True):
            expected = _flat(other) - start
            assert (_flat(network) - start - expected).norm() < 0.02 * expected.norm()


def test_parts_of_a_batch_hold_the_patches_of_the_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in "abc":
        np.save(tmp_path / f"{name}.npy", rng.standard_normal((40, 24, 24), dtype=np.float32))
    np.save(tmp_path / "label.npy", (rng.random((40, 24, 24)) > 0.5).astype(np.uint8))
    cases = [CachedCase(name, tmp_path / f"{name}.npy", tmp_path / "label.npy") for name in "abc"]
    source = PatchSource(cases, cases, replace(SETTINGS, axial_rotations=False, intensity_augmentation=0.5))
    whole = source.batch(5, 4, 2)
    parts = [source.batch(number, 2, 1) for number in (10, 11)]
    for name in ("labeled", "labels", "unlabeled", "weakly_augmented"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts]))


def test_gradients_and_running_statistics_are_means_over_the_parts() -> None:
    settings = replace(SETTINGS, normalization="batch", momentum=0.0, weight_decay=0.0, method="supervised")
    together = TrainingStep(settings, PLACE)
    alone = [copy.deepcopy(together) for _ in range(2)]
    start = _weights(together)
    batches = [_batch(0), _batch(1)]
    losses = together(batches, 0.5, 0.1)
    parts = [step([batch], 0.5, 0.1) for step, batch in zip(alone, batches, strict=True)]
    assert losses["total"] == pytest.approx(sum(part["total"] for part in parts) / 2, rel=1e-6)
    ends = [_weights(step) for step in alone]
    for name, value in _weights(together).items():
        expected = sum(end[name] for end in ends) / 2
        torch.testing.assert_close(value.to(expected.dtype), expected, rtol=1e-5, atol=1e-6)
        changes = name.endswith(("running_mean", "head.weight"))
        assert not changes or not torch.equal(value, start[name])


@pytest.mark.parametrize("alone", [True, False])
def test_what_is_not_finite_leaves_weights_and_statistics_as_they_were(alone: bool) -> None:
    step = TrainingStep(replace(SETTINGS, normalization="batch"), PLACE)
    before = _weights(step)
    broken = _batch(1)
    broken.labeled[0, 0, 0, 0, 0] = math.nan
    assert not math.isfinite(step([broken] if alone else [_batch(0), broken], 0.5, 0.1)["total"])
    assert all(torch.equal(value, before[name]) for name, value in _weights(step).items())
    assert math.isfinite(step([_batch(0), _batch(2)], 0.5, 0.1)["total"])
    after = _weights(step)
    for name in ("teacher.head.weight", "student_1.encoder.0.normalizations.0.running_mean"):
        assert not torch.equal(after[name], before[name])
        assert bool(after[name].isfinite().all())


def test_a_step_that_the_scaler_skips_is_none_for_the_method_either() -> None:
    step = TrainingStep(replace(SETTINGS, patch_size=(16, 16, 16)), Device(torch.device("cpu"), torch.float16, ""))
    broken = step.method.parameters()[-1].register_hook(lambda gradient: gradient * math.inf)
    before = _weights(step)
    step([_batch(0)], 0.5, 0.1)
    assert step.method.state()["steps"] == 0
    assert all(torch.equal(value, before[name]) for name, value in _weights(step).items())
    broken.remove()
    step([_batch(1)], 0.5, 0.1)
    assert step.method.state()["steps"] == 1


def test_a_gradient_that_is_not_finite_leaves_them_too_though_the_loss_is() -> None:
    step = TrainingStep(replace(SETTINGS, normalization="batch"), PLACE)
    before = _weights(step)
    broken = step.method.parameters()[-1].register_hook(lambda gradient: gradient * math.nan)
    losses = step([_batch(0)], 0.5, 0.1)
    assert math.isnan(losses["total"])
    assert math.isnan(losses["gradient"])
    assert all(torch.equal(value, before[name]) for name, value in _weights(step).items())
    broken.remove()
    assert math.isfinite(step([_batch(1)], 0.5, 0.1)["total"])


def test_float16_that_finds_no_scale_at_which_gradients_are_finite_says_so() -> None:
    step = TrainingStep(replace(SETTINGS, patch_size=(16, 16, 16)), Device(torch.device("cpu"), torch.float16, ""))
    broken = step.method.parameters()[-1].register_hook(lambda gradient: gradient * math.inf)
    before = _weights(step)["student_1.head.weight"]
    # Each halves the scale, which begins at 2 to the power of 16.
    assert all(math.isfinite(step([_batch(number)], 0.5, 0.1)["total"]) for number in range(16))
    losses = step([_batch(16)], 0.5, 0.1)
    assert math.isnan(losses["total"]) and math.isnan(losses["gradient"])
    assert torch.equal(_weights(step)["student_1.head.weight"], before)
    broken.remove()
    for number in range(3):
        losses = step([_batch(number)], 0.5, 0.1)
    assert not torch.equal(_weights(step)["student_1.head.weight"], before)


@pytest.mark.parametrize(
    ("changes", "labeled"),
    [
        ({"normalization": "instance"}, 2),
        ({"normalization": "batch", "method": "supervised"}, 1),
        ({"normalization": "batch", "method": "bcp", "pretraining": 0.4}, 2),
        ({"normalization": "group", "filters": 1, "method": "supervised"}, 1),
    ],
)
def test_patches_too_small_to_normalize_are_a_sentence(changes: dict[str, Any], labeled: int) -> None:
    step = TrainingStep(replace(SETTINGS, patch_size=(16, 16, 16), **changes), PLACE)
    with pytest.raises(TrainingError, match="Patches of 16,16,16 voxels are too small.*larger ones"):
        step([noise_batch((16, 16, 16), 0, labeled, labeled)], 0.1, 0.1)


@pytest.mark.parametrize(("factor", "reason"), [(1.0, None), (1.5, "its results are wrong"), (math.nan, "its results")])
def test_a_compiler_whose_networks_say_something_else_is_not_used(
    factor: float, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []

    def compile_otherwise(network: torch.nn.Module) -> None:
        compiled.append(network)
        network.register_forward_hook(lambda _module, _inputs, found: found * factor)

    monkeypatch.setattr(VNet, "compile", compile_otherwise)
    step = TrainingStep(replace(SETTINGS, normalization="batch", dropout=0.5), PLACE)
    before = _weights(step)
    found = step.compile_networks()
    assert found is None if reason is None else found is not None and reason in found
    own = list(step.method.networks.values())
    assert [network in own for network in compiled] == [False, *([True] * len(own) if reason is None else [])]
    assert all(torch.equal(value, before[name]) for name, value in _weights(step).items())
    assert any(module.p == 0.5 for network in own for module in network.modules() if hasattr(module, "p"))


def test_without_a_compiler_the_networks_run_as_they_were() -> None:
    from torch._inductor import config

    step = TrainingStep(SETTINGS, PLACE)
    with config.patch({"cpp.cxx": ("no-such-compiler",), "fx_graph_cache": False}):
        assert step.compile_networks() is not None
    assert math.isfinite(step([_batch(0)], 0.5, 0.1)["total"])
