"""SS-Net: the adversarial noise, the memory of features, and the distance from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from batches import noise_batch
from LASegColearnLib.losses import foreground_probability, linear_dice_loss
from LASegColearnLib.methods import ss_net
from LASegColearnLib.methods.ss_net import SmoothAndSeparate
from LASegColearnLib.settings import Settings

SIDE = (32, 16, 16)
PLAIN = Settings(patch_size=SIDE, filters=2, dropout=0.0, normalization="instance")


def _method(**changes) -> SmoothAndSeparate:
    torch.manual_seed(3)
    return SmoothAndSeparate(replace(PLAIN, **changes))


def _both(output: torch.Tensor) -> torch.Tensor:
    p = foreground_probability(output)
    return torch.stack([1 - p, p])


def test_two_passes_have_noise_of_norm_10_in_each_patch_and_the_second_is_the_worse() -> None:
    method = _method()
    method.network.train()
    images = noise_batch(SIDE).labeled
    seen: list[torch.Tensor] = []
    method.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    method.smoothness(images)
    assert len(seen) == 3
    assert torch.equal(seen[0], images)
    noises = [(inputs - images) for inputs in seen[1:]]
    for noise in noises:
        assert noise.flatten(1).norm(dim=1).tolist() == pytest.approx([10.0, 10.0], rel=1e-3)
    with torch.no_grad():
        target = _both(method.network(images))
        random, adversarial = (linear_dice_loss(_both(method.network(images + n)), target) for n in noises)
    assert float(adversarial) > float(random)


def test_float16_holds_the_noises_gradient_of_a_patch_with_many_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    method = _method()
    method.network.train()
    images = noise_batch(SIDE).labeled
    seen: list[torch.Tensor] = []
    method.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    # A voxel's share of the loss is the smaller the more of them there are.
    monkeypatch.setattr(ss_net, "linear_dice_loss", lambda *inputs: 1e-4 * linear_dice_loss(*inputs))
    with torch.autocast("cpu", dtype=torch.float16):
        method.smoothness(images)
    assert (seen[2] - images).flatten(1).norm(dim=1).tolist() == pytest.approx([10.0, 10.0], rel=1e-3)


def test_the_noise_is_one_step_of_the_power_method_from_uniform_noise() -> None:
    method = _method()
    method.network.train()
    images = noise_batch(SIDE).labeled
    torch.manual_seed(5)
    found = method.smoothness(images)
    torch.manual_seed(5)
    target = _both(method.network(images)).detach()
    d = torch.rand_like(images) - 0.5
    d = (d / d.flatten(1).norm(dim=1)[:, None, None, None, None]).requires_grad_(True)

    def dice(noise: torch.Tensor) -> torch.Tensor:
        p = _both(method.network(images + 10 * noise))
        return 1 - (2 * (p * target).sum() + 1e-8) / (p.sum() + target.sum() + 1e-8)

    (g,) = torch.autograd.grad(dice(d), d)
    torch.testing.assert_close(found, dice(g / g.flatten(1).norm(dim=1)[:, None, None, None, None]), rtol=1e-4, atol=0)


def test_passes_with_noise_leave_no_trace_in_the_statistics_and_the_others_do() -> None:
    method = _method(normalization="batch")
    method.network.train()
    normalization = method.network.encoder[0].normalizations[0]
    images = noise_batch(SIDE).labeled
    method.smoothness(images)
    # The pass without noise, and no other.
    assert int(normalization.num_batches_tracked) == 1
    assert normalization.track_running_stats


def test_noise_gives_the_weights_a_gradient_only_through_the_last_pass() -> None:
    method = _method()
    method.network.train()
    loss = method.smoothness(noise_batch(SIDE).labeled)
    assert all(p.grad is None for p in method.network.parameters())
    loss.backward()
    assert all(p.grad is not None for p in method.network.parameters())


def test_of_found_voxels_of_the_foreground_the_32_that_count_least_are_remembered() -> None:
    method = _method()
    features, correct = torch.randn(2, 2, *SIDE), torch.rand(2, *SIDE) > 0.9
    with torch.no_grad():
        # So that the vectors' own statistics are unlike those that the selector has seen before.
        method.heads.selector[0].bias.normal_(0, 3)
    memory = method._remembered(features, correct)
    assert memory is not None
    with torch.no_grad():
        # The projection predicts and the selector trains, as in the published code.
        vectors = method.heads.projection.eval()(features.movedim(1, -1)[correct])
        weights = torch.sigmoid(method.heads.selector.train()(vectors))[:, 0]
    assert memory.shape == (32, 32)
    assert not memory.requires_grad
    torch.testing.assert_close(memory, vectors[weights.argsort(stable=True)[:32]])


def test_what_is_remembered_leaves_autocast_no_weights_without_gradient() -> None:
    """PyTorch 2.10 would give the losses of the same batch the copies that were made for the memory."""
    method = _method()
    features, correct = torch.randn(2, 2, *SIDE), torch.rand(2, *SIDE) > 0.9
    exact = method._remembered(features, correct)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = method._remembered(features, correct)
        method.heads.weights(method.heads.projection(features.movedim(1, -1)[correct]).float()).sum().backward()
    assert torch.equal(cast, exact)
    learned = [*method.heads.projection.parameters(), *method.heads.selector.parameters()]
    assert all(parameter.grad is not None for parameter in learned)


def test_the_memory_is_replaced_by_few_vectors_and_kept_when_there_are_none() -> None:
    method = _method()
    correct = torch.zeros(1, *SIDE, dtype=torch.bool)
    correct[0, 3, 3, 3:8] = True
    few = method._remembered(torch.randn(1, 2, *SIDE), correct)
    assert few is not None
    assert few.shape == (5, 32)
    method.after_step(0.0)
    assert method._remembered(torch.randn(1, 2, *SIDE), torch.zeros_like(correct)) is few


def test_what_a_batch_puts_into_the_memory_stays_only_after_its_step() -> None:
    method = _method()
    method.loss(noise_batch(SIDE), 0.5)
    assert method.state()["memory"] is None
    method.after_step(0.5)
    assert method.memory is not None
    other = _method()
    other.load_state(method.state())
    assert torch.equal(other.memory, method.memory)


def test_the_contrast_is_half_the_weighted_mean_cosine_distance_from_the_memory() -> None:
    method = _method()
    method.heads.train()
    features, inside = torch.randn(1, 2, *SIDE), torch.rand(1, *SIDE) > 0.8
    memory = torch.randn(7, 32)
    found = method.contrast(features, inside, memory)
    vectors = method.heads.prediction(method.heads.projection(features.movedim(1, -1).reshape(-1, 2)))
    z = vectors[inside.reshape(-1)]
    distance = 1 - F.cosine_similarity(z[:, None], memory[None], dim=2)
    a = torch.sigmoid(method.heads.selector(z.detach()))
    a = len(z) * a / a.sum()
    torch.testing.assert_close(found, (distance * a).mean() / 2)


def test_the_selector_learns_and_passes_no_gradient_to_the_features() -> None:
    method = _method()
    method.heads.train()
    features = torch.randn(1, 2, *SIDE, requires_grad=True)
    inside = torch.rand(1, *SIDE) > 0.8
    vectors: list[torch.Tensor] = []
    method.heads.selector.register_forward_pre_hook(lambda _, inputs: vectors.append(inputs[0]))
    method.contrast(features, inside, torch.randn(7, 32)).backward()
    assert not vectors[0].requires_grad
    assert all(p.grad is not None for p in method.heads.parameters())
    assert float(features.grad.abs().max()) > 0


@pytest.mark.parametrize("memory", [None, torch.ones(1, 32)])
def test_without_a_memory_to_compare_with_the_contrast_is_zero(memory: torch.Tensor | None) -> None:
    method = _method()
    assert float(method.contrast(torch.randn(1, 2, *SIDE), torch.rand(1, *SIDE) > 0.5, memory).detach()) == 0.0


def test_labels_say_what_is_foreground_of_labeled_patches_and_the_output_of_unlabeled_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method, batch = _method(), noise_batch(SIDE)
    seen: dict[str, list[tuple]] = {"smoothness": [], "_remembered": [], "contrast": []}

    def recorded(name: str) -> Callable:
        own = getattr(method, name)

        def record(*inputs):
            seen[name].append(inputs)
            return own(*inputs)

        return record

    for name in seen:
        monkeypatch.setattr(method, name, recorded(name))
    method.loss(batch, 0.5)
    images = torch.cat([batch.labeled, batch.unlabeled])
    output = method.network(images)
    features, found, inside = output[:, 2:], output[:, 1] > output[:, 0], batch.labels == 1
    ((smoothed,),) = seen["smoothness"]
    assert torch.equal(smoothed, images)
    ((remembered, correct),) = seen["_remembered"]
    torch.testing.assert_close(remembered, features[:2])
    assert torch.equal(correct, inside & found[:2])
    (labeled, truly, memory), (unlabeled, presumably, same_memory) = seen["contrast"]
    torch.testing.assert_close(labeled, features[:2])
    assert torch.equal(truly, inside)
    torch.testing.assert_close(unlabeled, features[2:])
    assert torch.equal(presumably, found[2:])
    assert memory is same_memory
    assert labeled.requires_grad
    assert unlabeled.requires_grad


@pytest.mark.parametrize(("progress", "ramp"), [(0.0, math.exp(-5)), (0.2, math.exp(-1.25)), (0.4, 1.0), (1.0, 1.0)])
def test_the_total_is_linear_dice_and_the_risen_smoothness_and_contrast(progress: float, ramp: float) -> None:
    method, batch = _method(), noise_batch(SIDE)
    loss = method.loss(batch, progress)
    parts, p, g = loss.parts, foreground_probability(method.network(batch.labeled)), batch.labels
    torch.testing.assert_close(parts["labeled"], 1 - (2 * (p * g).sum() + 1e-8) / (p.sum() + g.sum() + 1e-8))
    assert all(bool(value > 0) for value in parts.values())
    contrast = parts["contrast_labeled"] + parts["contrast_unlabeled"]
    torch.testing.assert_close(loss.total, parts["labeled"] + ramp * (parts["smoothness"] + 0.1 * contrast))
