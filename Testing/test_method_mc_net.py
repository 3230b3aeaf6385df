"""MC-Net: its two decoders, the sharpening, and that nothing is detached."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from batches import noise_batch
from LASegColearnLib.losses import foreground_probability
from LASegColearnLib.methods.mc_net import MutualConsistency, TwoDecoderVNet, sharpen
from LASegColearnLib.settings import Settings

SIDE = (32, 16, 16)


def _method() -> MutualConsistency:
    torch.manual_seed(3)
    return MutualConsistency(Settings(patch_size=SIDE, filters=2, dropout=0.0, normalization="instance"))


def test_the_network_has_the_published_number_of_parameters() -> None:
    assert sum(p.numel() for p in TwoDecoderVNet(16).parameters()) == 12_347_716


def test_the_first_decoder_has_transposed_convolutions_and_the_second_interpolates() -> None:
    network = TwoDecoderVNet(2)
    assert all(isinstance(up.convolution, nn.ConvTranspose3d) for up in network.up)
    for up in network.second_up:
        interpolation, convolution = up.convolution
        assert (interpolation.mode, interpolation.scale_factor, interpolation.align_corners) == ("trilinear", 2, True)
        assert convolution.kernel_size == (3, 3, 3)


def test_the_first_decoder_predicts_alone() -> None:
    network, patch = _method().network, torch.randn(1, 1, *SIDE)
    both = network.train()(patch)
    assert both.shape == (1, 4, *SIDE)
    torch.testing.assert_close(network.eval()(patch), both[:, :2])
    assert not torch.allclose(both[:, :2], both[:, 2:])


def test_both_decoders_get_the_bottom_with_the_same_channels_dropped_once() -> None:
    network = TwoDecoderVNet(2, "instance", 0.5).train()
    calls: list[torch.Tensor] = []
    seen: list[torch.Tensor] = []
    network.bottom_dropout.register_forward_hook(lambda _, __, output: calls.append(output))
    for up in (network.up[-1], network.second_up[-1]):
        up.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(torch.randn(1, 1, 32, 32, 32))
    assert len(calls) == 1
    assert len(seen) == 2
    assert all(inputs is calls[0] for inputs in seen)


def test_each_decoder_drops_channels_of_its_own_before_its_head() -> None:
    network = TwoDecoderVNet(2, "instance", 0.4).train()
    dropped: list[torch.Tensor] = []
    seen: list[torch.Tensor] = []
    for dropout, head in (
        (network.head_dropout, network.head),
        (network.second_head_dropout, network.second_head),
    ):
        assert dropout.p == 0.4
        dropout.register_forward_hook(lambda _, __, output: dropped.append(output))
        head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(torch.randn(1, 1, 32, 32, 32))
    assert len(dropped) == 2
    assert all(one is other for one, other in zip(dropped, seen, strict=True))


@pytest.mark.parametrize("p", [0.1, 0.45, 0.5, 0.6, 0.99])
def test_sharpening_is_the_power_of_ten_of_both_classes(p: float) -> None:
    logits = torch.log(torch.tensor([1 - p, p]))[None, :, None]
    expected = p**10 / (p**10 + (1 - p) ** 10)
    assert float(sharpen(logits)) == pytest.approx(expected, rel=1e-4)


def test_sharpening_has_slope_ten_at_a_half_and_is_finite_for_the_surest() -> None:
    p = torch.tensor(0.5, requires_grad=True)
    sharpen(torch.stack([torch.log(1 - p), torch.log(p)])[None, :, None]).sum().backward()
    assert float(p.grad) == pytest.approx(10.0)
    assert sharpen(torch.tensor([[-200.0, 200.0], [200.0, -200.0]])).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("progress", "weight"), [(0.0, math.exp(-5)), (0.2, math.exp(-1.25)), (0.4, 1.0), (0.9, 1.0)])
def test_the_loss_is_half_of_both_linear_dices_and_the_risen_agreement(progress: float, weight: float) -> None:
    method, batch = _method(), noise_batch(SIDE)
    loss = method.loss(batch, progress)
    logits = method.network(torch.cat([batch.labeled, batch.unlabeled]))
    p, q = foreground_probability(logits[:, :2]), foreground_probability(logits[:, 2:])
    g = batch.labels
    dices = [1 - (2 * (x[:2] * g).sum() + 1e-8) / (x[:2].sum() + g.sum() + 1e-8) for x in (p, q)]
    sharp = [x**10 / (x**10 + (1 - x) ** 10) for x in (p, q)]
    both = [
        ((torch.stack([a, 1 - a]) - torch.stack([s, 1 - s])) ** 2).mean() for a, s in ((p, sharp[1]), (q, sharp[0]))
    ]
    torch.testing.assert_close(loss.total, 0.5 * sum(dices) + weight * sum(both), rtol=1e-4, atol=1e-6)


def test_the_sharpened_opinion_is_not_detached() -> None:
    method, batch = _method(), noise_batch(SIDE)
    logits = method.network(torch.cat([batch.labeled, batch.unlabeled])).detach().requires_grad_(True)
    method.network.register_forward_hook(lambda *_: logits)
    method.loss(batch, 1.0).parts["consistency"].backward()
    found = logits.grad[:, 3]
    p = foreground_probability(logits[:, :2]).detach()
    q = foreground_probability(logits[:, 2:]).detach()
    # Of decoder 2: as the one that follows, and through its sharpening as the one that is followed.
    own = 2 * (q - sharpen(logits[:, :2]).detach()) * q * (1 - q)
    s = sharpen(logits[:, 2:]).detach()
    as_target = -2 * (p - s) * 10 * s * (1 - s)
    torch.testing.assert_close(found, (own + as_target) / p.numel(), rtol=1e-3, atol=1e-8)
