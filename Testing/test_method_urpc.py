"""URPC: its four scales, and the rectified agreement against its formula."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from batches import noise_batch
from LASegColearnLib.methods.urpc import PyramidVNet, UncertaintyRectifiedPyramid, rectified_consistency
from LASegColearnLib.settings import Settings

SIDE = (32, 16, 16)


def _method() -> UncertaintyRectifiedPyramid:
    torch.manual_seed(3)
    return UncertaintyRectifiedPyramid(Settings(patch_size=SIDE, filters=2, dropout=0.0, normalization="instance"))


def _reference(scales: list[torch.Tensor]) -> torch.Tensor:
    """The agreement as it is published, one line for each of its formulas."""
    probabilities = [torch.softmax(logits, 1) for logits in scales]
    mean = sum(probabilities) / 4
    losses = []
    for p in probabilities:
        divergence = (mean * (mean.log() - p.log())).sum(1, keepdim=True)
        weight = torch.exp(-divergence)
        losses.append(((mean - p) ** 2 * weight).mean() / (weight.mean() + 1e-8) + divergence.mean())
    return sum(losses) / 4


def test_in_training_there_are_four_scales_of_full_size_and_in_prediction_the_finest_alone() -> None:
    network, patch = _method().network, torch.randn(1, 1, *SIDE)
    output = network.train()(patch)
    assert output.shape == (1, 8, *SIDE)
    torch.testing.assert_close(network.eval()(patch), output[:, :2])
    assert [head.in_channels for head in network.coarse_heads] == [4, 8, 16]
    sizes: list[tuple[int, ...]] = []
    for head in network.coarse_heads:
        head.register_forward_hook(lambda _, __, result: sizes.append(tuple(result.shape[2:])))
    network.train()(patch)
    assert sizes == [(4, 2, 2), (8, 4, 4), (16, 8, 8)]


def test_coarser_outputs_are_interpolated_linearly() -> None:
    network = _method().network.train()
    coarse: list[torch.Tensor] = []
    for head in network.coarse_heads:
        head.register_forward_hook(lambda _, __, result: coarse.insert(0, result))
    scales = network(torch.randn(1, 1, *SIDE)).split(2, dim=1)
    for logits, scale in zip(coarse, scales[1:], strict=True):
        torch.testing.assert_close(scale, F.interpolate(logits, SIDE, mode="trilinear", align_corners=False))


def test_interpolated_outputs_and_their_gradients_are_float32() -> None:
    """In bfloat16, CUDA would add hundreds of gradients to each voxel of a coarse output and lose most of them."""
    network = _method().network.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = torch.randn(1, 2, 2, 2, 2, dtype=torch.bfloat16, requires_grad=True)
        assert network._enlarged(coarse, 8).dtype == torch.float32
        assert network(torch.randn(1, 1, *SIDE)).dtype == torch.float32


def test_dropout_follows_each_level_in_the_published_proportion() -> None:
    network = PyramidVNet(2, dropout=0.5).train()
    assert [dropout.p for dropout in network.dropouts] == pytest.approx([0.1, 0.2, 0.3, 0.5])
    assert network.bottom_dropout.p == network.head_dropout.p == 0.0
    dropped: list[torch.Tensor] = []
    seen: list[torch.Tensor] = []
    for dropout in network.dropouts:
        dropout.register_forward_hook(lambda _, __, result: dropped.append(result))
    for head in (network.head, *network.coarse_heads):
        head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(torch.randn(1, 1, *SIDE))
    assert [result.shape[1] for result in dropped] == [16, 8, 4, 2]
    # What is dropped is missing from each head's input.
    assert all(one is other for one, other in zip(dropped, seen, strict=True))


def test_the_rectified_agreement_is_the_published_formula_with_its_gradient() -> None:
    torch.manual_seed(0)
    scales = [torch.randn(2, 2, 4, 4, 4, dtype=torch.float32, requires_grad=True) for _ in range(4)]
    found = rectified_consistency(scales)
    expected = _reference(scales)
    torch.testing.assert_close(found, expected)
    own, published = torch.autograd.grad(found, scales), torch.autograd.grad(expected, scales)
    # Through the mean and the weights too: nothing is detached.
    for one, other in zip(own, published, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_scales_that_are_sure_of_the_opposite_give_nothing_infinite() -> None:
    scales = [torch.zeros(1, 2, 2, 2, 2) for _ in range(4)]
    for number, logits in enumerate(scales):
        logits[:, number % 2] = 500.0
        logits.requires_grad_(True)
    loss = rectified_consistency(scales)
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert all(bool(logits.grad.isfinite().all()) for logits in scales)
    assert float(rectified_consistency([torch.ones(1, 2, 2, 2, 2)] * 4)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("progress", "weight"), [(0.0, 0.1 * math.exp(-5)), (0.5, 0.1 * math.exp(-1.25)), (1.0, 0.1)])
def test_labels_are_learned_at_all_scales_and_the_agreement_rises(progress: float, weight: float) -> None:
    method, batch = _method(), noise_batch(SIDE)
    loss = method.loss(batch, progress)
    scales = method.network(torch.cat([batch.labeled, batch.unlabeled])).split(2, dim=1)
    expected = torch.zeros(())
    for logits in scales:
        p = torch.softmax(logits[:2], 1)
        dices = []
        for c, g in ((0, 1 - batch.labels), (1, batch.labels)):
            squares = (p[:, c] ** 2).sum() + (g**2).sum()
            dices.append(1 - (2 * (p[:, c] * g).sum() + 1e-5) / (squares + 1e-5))
        expected = expected + F.cross_entropy(logits[:2], batch.labels.long()) + sum(dices) / 2
    agreement = _reference([logits[2:] for logits in scales])
    torch.testing.assert_close(loss.total, expected / 8 + weight * agreement)


def test_every_head_gets_a_gradient_from_the_agreement() -> None:
    method = _method()
    method.loss(noise_batch(SIDE), 1.0).parts["consistency"].backward()
    for head in (method.network.head, *method.network.coarse_heads):
        assert float(head.weight.grad.abs().max()) > 0
