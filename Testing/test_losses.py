"""Each loss against its formula, written out."""

from __future__ import annotations

import torch

from LASegColearnLib.losses import cross_entropy, dice_loss, foreground_probability, mix_loss, pseudo_label


def test_foreground_probability_is_the_softmax_of_channel_1() -> None:
    logits = torch.randn(2, 2, 3, 4, 5) * 4
    torch.testing.assert_close(foreground_probability(logits), torch.softmax(logits, dim=1)[:, 1])


def test_pseudo_label_is_the_argmax_and_has_no_gradient() -> None:
    logits = torch.randn(2, 2, 3, 4, 5, requires_grad=True)
    label = pseudo_label(logits)
    assert torch.equal(label, logits.argmax(dim=1).float())
    assert not label.requires_grad


def test_dice_loss_is_the_squared_foreground_dice_over_the_whole_batch() -> None:
    p, g = torch.rand(3, 4, 4, 4), (torch.rand(3, 4, 4, 4) > 0.7).float()
    expected = 1 - (2 * (p * g).sum() + 1e-5) / ((p**2).sum() + (g**2).sum() + 1e-5)
    torch.testing.assert_close(dice_loss(p, g), expected)


def test_dice_loss_of_nothing_against_nothing_is_zero() -> None:
    assert float(dice_loss(torch.zeros(1, 4, 4, 4), torch.zeros(1, 4, 4, 4))) == 0.0


def test_mix_loss_is_the_mean_squared_error_over_both_classes() -> None:
    logits, target = torch.randn(2, 2, 3, 3, 3), (torch.rand(2, 3, 3, 3) > 0.5).float()
    one_hot = torch.stack([1 - target, target], dim=1)
    expected = ((torch.softmax(logits, 1) - one_hot) ** 2).mean()
    torch.testing.assert_close(mix_loss(foreground_probability(logits), target), expected)


def test_cross_entropy_is_pytorchs() -> None:
    logits, target = torch.randn(2, 2, 3, 3, 3), (torch.rand(2, 3, 3, 3) > 0.5).float()
    torch.testing.assert_close(cross_entropy(logits, target), torch.nn.functional.cross_entropy(logits, target.long()))
