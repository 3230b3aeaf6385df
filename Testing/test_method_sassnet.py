"""SASSNet: its discriminator, whose step is its own, and the weight of what it says."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from batches import noise_batch
from LASegColearnLib.device import choose_device
from LASegColearnLib.losses import dice_loss
from LASegColearnLib.methods.sassnet import Discriminator, ShapeAware
from LASegColearnLib.settings import Settings
from LASegColearnLib.shape_network import mask_and_distance, signed_distance
from LASegColearnLib.training_step import TrainingStep

SIDE = (32, 16, 16)
PLAIN = Settings(patch_size=SIDE, filters=2, dropout=0.0, normalization="instance")


def _method(**changes) -> ShapeAware:
    torch.manual_seed(3)
    return ShapeAware(replace(PLAIN, **changes))


def _outspoken(discriminator: Discriminator) -> Discriminator:
    """With larger weights: a new discriminator says nearly the same of everything."""
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.mul_(3.0)
    return discriminator


def _weights(module: torch.nn.Module) -> list[torch.Tensor]:
    return [value.clone() for value in module.state_dict().values()]


def _same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_discriminator_has_the_published_number_of_parameters() -> None:
    assert sum(p.numel() for p in Discriminator(16).parameters()) == 11_020_290


def test_the_discriminator_takes_patches_of_any_size_and_tells_two_classes() -> None:
    assert Discriminator(2)(torch.randn(3, 1, *SIDE), torch.randn(3, 1, *SIDE)).shape == (3, 2)


def test_the_discriminator_looks_at_distance_and_image_and_drops_out_before_all_convolutions_but_the_first() -> None:
    discriminator = _outspoken(Discriminator(2)).eval()
    inputs = torch.randn(2, 1, *SIDE)
    verdict = discriminator(inputs, inputs)
    assert not torch.allclose(discriminator(inputs, -inputs), verdict, atol=0.01)
    assert not torch.allclose(discriminator(-inputs, inputs), verdict, atol=0.01)
    block = ["LeakyReLU", "Dropout3d", "SafeConv3d"]
    names = [type(layer).__name__ for layer in discriminator.layers]
    assert names == [*block, *block, *block, "LeakyReLU", "AdaptiveAvgPool3d", "Flatten"]
    for layer in discriminator.layers:
        assert getattr(layer, "negative_slope", 0.2) == 0.2
        assert getattr(layer, "p", 0.5) == 0.5


@pytest.mark.parametrize(("progress", "ramp"), [(0.0, math.exp(-5)), (0.5, math.exp(-1.25)), (1.0, 1.0)])
def test_the_loss_is_dice_three_tenths_of_the_distance_and_the_risen_verdict(progress: float, ramp: float) -> None:
    method, batch = _method(), noise_batch(SIDE)
    _outspoken(method.discriminator)
    loss = method.loss(batch, progress)
    mask, distance = mask_and_distance(method.network(torch.cat([batch.labeled, batch.unlabeled])))
    of_distance = ((distance[:2] - signed_distance(batch.labels)) ** 2).mean()
    verdict = method.discriminator.eval()(distance[2:, None], batch.unlabeled)
    # The network wants its unlabeled shapes to pass for labeled ones, which are class 1.
    adversarial = F.cross_entropy(verdict, torch.tensor([1, 1]))
    expected = dice_loss(mask[:2], batch.labels) + 0.3 * of_distance + 0.015 * ramp * adversarial
    torch.testing.assert_close(loss.total, expected)


def test_the_networks_loss_gives_the_network_a_gradient_and_the_discriminator_none() -> None:
    method = _method()
    method.loss(noise_batch(SIDE), 1.0).parts["adversarial"].backward()
    assert float(method.network.distance_head.weight.grad.abs().max()) > 0
    assert all(p.grad is None for p in method.discriminator.parameters())
    assert not any(p is q for p in method.parameters() for q in method.discriminator.parameters())


def test_each_of_the_two_learns_in_training_mode_from_the_other_in_evaluation_mode() -> None:
    method = _method()
    modes: list[tuple[str, bool]] = []
    method.network.head_dropout.register_forward_hook(lambda *_: modes.append(("network", method.network.training)))
    method.discriminator.register_forward_hook(lambda module, *_: modes.append(("discriminator", module.training)))
    method.loss(noise_batch(SIDE), 0.5)
    method.after_step(0.5)
    assert modes == [("network", True), ("discriminator", False), ("network", False), ("discriminator", True)]


def test_the_discriminators_step_is_made_in_the_precision_of_the_networks() -> None:
    kinds: list[torch.dtype] = []
    step = TrainingStep(replace(PLAIN, method="sassnet"), choose_device("cpu", "bfloat16"))
    discriminator = step.method.auxiliary["discriminator"]
    discriminator.layers[2].register_forward_hook(lambda _module, _inputs, output: kinds.append(output.dtype))
    step([noise_batch(SIDE)], 0.5, 0.01)
    assert kinds == [torch.bfloat16, torch.bfloat16]
    assert all(parameter.dtype == torch.float32 for parameter in discriminator.parameters())


def test_the_adversarial_step_changes_the_discriminator_alone() -> None:
    method = _method(normalization="batch")
    method.loss(noise_batch(SIDE), 0.5).total.backward()
    network, discriminator = _weights(method.network), _weights(method.discriminator)
    gradients = [p.grad.clone() for p in method.network.parameters()]
    method.after_step(0.5)
    assert _same(_weights(method.network), network)
    assert _same([p.grad for p in method.network.parameters()], gradients)
    assert not _same(_weights(method.discriminator), discriminator)


def test_the_discriminator_learns_that_labeled_is_1_and_unlabeled_0_by_adam() -> None:
    method, batch = _method(), noise_batch(SIDE)
    group = method.adam.param_groups[0]
    assert (group["lr"], group["betas"]) == (1e-4, (0.9, 0.99))
    group["lr"] = 1e-2
    for _ in range(30):
        method.loss(batch, 0.5)
        method.after_step(0.5)
    images = torch.cat([batch.labeled, batch.unlabeled])
    with torch.no_grad():
        verdict = method.discriminator.eval()(method.network.distance(images)[:, None], images)
    assert verdict.argmax(1).tolist() == [1, 1, 0, 0]


def test_patches_of_an_iteration_that_was_not_followed_are_not_learned_from() -> None:
    spoiled, method = _method(), _method()
    spoiled.loss(noise_batch(SIDE, 1), 0.5)
    for one in (spoiled, method):
        torch.manual_seed(0)
        one.loss(noise_batch(SIDE, 2), 0.5)
        one.after_step(0.5)
    assert _same(_weights(spoiled.discriminator), _weights(method.discriminator))


def test_the_discriminator_is_saved_but_neither_predicts_nor_is_validated() -> None:
    method = _method()
    assert list(method.auxiliary) == ["discriminator"]
    assert "discriminator" not in method.networks
    assert "discriminator" not in method.networks_in_training()
