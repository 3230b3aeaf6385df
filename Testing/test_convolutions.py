"""Gradients of our convolutions: put together from slices, and in bfloat16 where sides are short."""

from __future__ import annotations

import pytest
import torch

from LASegColearnLib.convolutions import Convolution, SafeConv3d


@pytest.mark.parametrize(("channels_in", "channels"), [(2, 4), (8, 8), (16, 16)])
@pytest.mark.parametrize("shape", [(6, 5, 4), (1, 3, 3)])
def test_gradients_are_those_of_a_plain_convolution(
    channels_in: int, channels: int, shape: tuple[int, int, int]
) -> None:
    torch.manual_seed(0)
    by_slices = Convolution(channels_in, channels).to(memory_format=torch.channels_last_3d)
    by_slices._by_slices = True
    plain = torch.nn.Conv3d(channels_in, channels, 3, padding=1)
    plain.load_state_dict(by_slices.state_dict())
    x = torch.randn(3, channels_in, *shape).contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    other = x.detach().clone().requires_grad_()
    weight = torch.randn(3, channels, *shape)
    result, expected = by_slices(x), plain(other)
    torch.testing.assert_close(result, expected)
    assert "GradientBySlices" in type(result.grad_fn).__name__
    (result * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(x.grad, other.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(by_slices.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(by_slices.bias.grad, plain.bias.grad, rtol=1e-4, atol=1e-4)


def test_half_precision_and_prediction_take_pytorchs_own_way() -> None:
    layer = Convolution(8, 8).to(memory_format=torch.channels_last_3d)
    layer._by_slices = True
    x = torch.randn(1, 8, 4, 4, 4).contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert "GradientBySlices" not in type(layer(x).grad_fn).__name__
    with torch.no_grad():
        assert layer(x).grad_fn is None


@pytest.mark.parametrize("shape", [(2, 2, 2), (2, 3, 4), (4, 2, 6), (4, 4, 3)])
@pytest.mark.parametrize("halves", [False, True])
def test_gradients_in_bfloat16_are_those_in_float32_however_short_a_side_is(
    shape: tuple[int, int, int], halves: bool
) -> None:
    if halves and any(side % 2 for side in shape):
        pytest.skip("sides that cannot be halved")
    torch.manual_seed(0)
    layer = SafeConv3d(16, 32, 4, stride=2, padding=1) if halves else Convolution(16, 32)
    layer = layer.to(memory_format=torch.channels_last_3d)
    x = torch.randn(4, 16, *shape).contiguous(memory_format=torch.channels_last_3d)
    gradients = {}
    for half in (True, False):
        layer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            result = layer(x)
        (result.float() ** 2).sum().backward()
        gradients[half] = layer.weight.grad.clone()
    torch.testing.assert_close(gradients[True], gradients[False], rtol=0.05, atol=0.05 * float(gradients[False].max()))
