"""The signed distance that SASSNet and DTC learn, and their network."""

from __future__ import annotations

import pytest
import torch

from LASegColearnLib.losses import foreground_probability
from LASegColearnLib.shape_network import ShapeVNet, mask_and_distance, signed_distance


def _ball(side: int = 24, radius: float = 7.0) -> torch.Tensor:
    axes = torch.arange(side) - side / 2
    squares = axes[:, None, None] ** 2 + axes[None, :, None] ** 2 + axes[None, None, :] ** 2
    return (squares <= radius**2).float()[None]


def test_the_distance_is_negative_inside_positive_outside_and_reaches_both_ends() -> None:
    label = _ball()
    distance = signed_distance(label)
    assert (float(distance.min()), float(distance.max())) == (-1.0, 1.0)
    assert bool((distance[label == 1] <= 0).all())
    assert bool((distance[label == 0] > 0).all())


def test_the_outermost_voxels_of_the_inside_are_zero_and_the_next_are_not() -> None:
    label = torch.zeros(1, 9, 9, 9)
    label[0, 2:7, 2:7, 2:7] = 1
    distance = signed_distance(label)[0]
    inside = label[0] == 1
    core = torch.zeros_like(inside)
    core[3:6, 3:6, 3:6] = True
    assert bool((distance[inside & ~core] == 0).all())
    assert bool((distance[core] < 0).all())
    # Two voxels deep of three at the center; two voxels out of the corner's two times the square root of three.
    assert float(distance[3, 4, 4]) == pytest.approx(-2 / 3)
    assert float(distance[0, 4, 4]) == pytest.approx(2 / 12**0.5)


def test_the_patchs_edge_is_no_surface() -> None:
    label = torch.zeros(1, 8, 8, 8)
    label[0, :4] = 1
    distance = signed_distance(label)[0]
    assert bool((distance[0] == -1).all())
    assert bool((distance[3] == 0).all())


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_patch_without_surface_is_zero_everywhere(value: float) -> None:
    assert float(signed_distance(torch.full((2, 8, 8, 8), value)).abs().max()) == 0.0


def test_each_patch_is_measured_alone() -> None:
    labels = torch.cat([_ball(24, 4.0), _ball(24, 9.0)])
    torch.testing.assert_close(signed_distance(labels)[1:], signed_distance(labels[1:]))


def test_the_network_has_the_published_number_of_parameters() -> None:
    assert sum(p.numel() for p in ShapeVNet(16).parameters()) == 9_448_866


def test_what_predicts_is_the_sigmoid_of_the_masks_head() -> None:
    network = ShapeVNet(2, dropout=0.0, normalization="instance")
    patch = torch.randn(1, 1, 32, 16, 16)
    mask, distance = mask_and_distance(network.train()(patch))
    logits = network.eval()(patch)
    assert logits.shape == (1, 2, 32, 16, 16)
    torch.testing.assert_close(torch.softmax(logits, dim=1)[:, 1], mask)
    torch.testing.assert_close(foreground_probability(logits), mask)
    torch.testing.assert_close(network.distance(patch), distance)
    assert float(distance.abs().max()) < 1
