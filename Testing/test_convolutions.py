"""The convolution whose gradient is put together from slices has the gradients that PyTorch's own has."""

from __future__ import annotations

import pytest
import torch

from LASegColearnLib.convolutions import Convolution


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
