"""The supervised baseline: as many patches as a semi-supervised method, and co-learning's loss on labels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from batches import noise_batch
from LASegColearnLib.losses import cross_entropy, dice_loss, foreground_probability
from LASegColearnLib.methods.supervised import Supervised
from LASegColearnLib.settings import Settings

SIDE = (32, 16, 16)
PLAIN = Settings(patch_size=SIDE, filters=2, dropout=0.0, normalization="instance")


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_the_loss_is_dice_and_the_settings_share_of_cross_entropy(weight: float) -> None:
    torch.manual_seed(3)
    method = Supervised(replace(PLAIN, cross_entropy_weight=weight))
    assert method.batch_sizes(0.5) == (4, 0)
    batch = noise_batch(SIDE, labeled=4, unlabeled=0)
    logits = method.network(batch.labeled)
    dice, entropy = dice_loss(foreground_probability(logits), batch.labels), cross_entropy(logits, batch.labels)
    torch.testing.assert_close(method.loss(batch, 0.5).total, dice + weight * entropy)


def test_channels_are_dropped_in_training() -> None:
    method = Supervised(replace(PLAIN, dropout=0.3))
    method.network.eval()
    method.loss(noise_batch(SIDE, labeled=4, unlabeled=0), 0.5)
    assert method.network.training
    assert method.network.bottom_dropout.p == method.network.head_dropout.p == 0.3
