"""DTC: the task transform, the agreement of both heads, and the rise of its weight."""

from __future__ import annotations

import math

import pytest
import torch

from batches import noise_batch
from LASegColearnLib.losses import dice_loss
from LASegColearnLib.methods.dtc import DualTaskConsistency, mask_of
from LASegColearnLib.settings import Settings
from LASegColearnLib.shape_network import mask_and_distance, signed_distance

SIDE = (32, 16, 16)


def _method() -> DualTaskConsistency:
    torch.manual_seed(3)
    return DualTaskConsistency(Settings(patch_size=SIDE, filters=2, dropout=0.0, normalization="instance"))


def test_the_task_transform_is_a_sigmoid_of_minus_1500_times_the_distance() -> None:
    distance = torch.tensor([-1.0, -0.001, 0.0, 0.001, 1.0])
    expected = [1.0, 1 / (1 + math.exp(-1.5)), 0.5, 1 / (1 + math.exp(1.5)), 0.0]
    assert mask_of(distance).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("progress", "weight"), [(0.0, math.exp(-5)), (0.5, math.exp(-1.25)), (1.0, 1.0)])
def test_the_loss_is_dice_three_tenths_of_the_distance_and_the_risen_agreement(progress: float, weight: float) -> None:
    method, batch = _method(), noise_batch(SIDE)
    loss = method.loss(batch, progress)
    mask, distance = mask_and_distance(method.network(torch.cat([batch.labeled, batch.unlabeled])))
    dice = dice_loss(mask[:2], batch.labels)
    of_distance = ((distance[:2] - signed_distance(batch.labels)) ** 2).mean()
    agreement = ((torch.sigmoid(-1500 * distance) - mask) ** 2).mean()
    torch.testing.assert_close(loss.total, dice + 0.3 * of_distance + weight * agreement)


def test_the_agreement_has_a_gradient_into_both_heads_and_from_unlabeled_patches_too() -> None:
    method, batch = _method(), noise_batch(SIDE)
    with torch.no_grad():
        # The transform is flat but for the smallest distances.
        method.network.distance_head.weight.mul_(0.001)
        method.network.distance_head.bias.zero_()
    batch.unlabeled.requires_grad_(True)
    batch.labeled.requires_grad_(True)
    method.loss(batch, 1.0).parts["consistency"].backward()
    for head in (method.network.distance_head, method.network.mask_head):
        assert float(head.weight.grad.abs().max()) > 0
    for patches in (batch.labeled, batch.unlabeled):
        assert all(float(gradient.abs().max()) > 0 for gradient in patches.grad)
