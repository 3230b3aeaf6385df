"""The V-Net's layout, and eq. 1."""

from __future__ import annotations

import pytest
import torch

from LASegColearnLib.networks import VNet, average_into


def _randomized(seed: int, **options) -> VNet:
    torch.manual_seed(seed)
    network = VNet(filters=2, **options)
    for buffer in network.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    return network


@pytest.mark.parametrize(
    ("normalization", "count"), [("batch", 9_448_866), ("group", 9_448_866), ("instance", 9_443_266)]
)
def test_vnet_with_16_filters_has_the_published_number_of_parameters(normalization: str, count: int) -> None:
    network = VNet(filters=16, normalization=normalization)
    assert sum(p.numel() for p in network.parameters()) == count


def test_any_number_of_filters_can_be_normalized_by_groups() -> None:
    assert VNet(filters=12, normalization="group")(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 2, 16, 16, 16)


def test_vnet_keeps_the_size_of_a_patch_and_gives_two_classes() -> None:
    assert VNet(filters=2)(torch.zeros(2, 1, 32, 16, 48)).shape == (2, 2, 32, 16, 48)


@pytest.mark.parametrize("difference", [{"residual": True}, {"negative_slope": 0.1}, {"dropout": 0.2}])
def test_differences_between_students_change_no_tensor(difference: dict) -> None:
    plain, other = VNet(filters=2), VNet(filters=2, **difference)
    assert {k: v.shape for k, v in plain.state_dict().items()} == {k: v.shape for k, v in other.state_dict().items()}


@pytest.mark.parametrize("difference", [{"residual": True}, {"negative_slope": 0.1}])
def test_structural_differences_change_the_output_of_equal_weights(difference: dict) -> None:
    plain, other = _randomized(0).eval(), VNet(filters=2, **difference).eval()
    other.load_state_dict(plain.state_dict())
    patch = torch.randn(1, 1, 16, 16, 16)
    assert not torch.allclose(plain(patch), other(patch))


def test_average_into_is_equation_1_for_every_weight_and_statistic() -> None:
    teacher, student_1, student_2 = _randomized(0), _randomized(1), _randomized(2, residual=True)
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    alpha, beta = 0.03, 0.2
    average_into(teacher, {student_1: alpha, student_2: beta}, keep=1 - alpha - beta)
    first, second = student_1.state_dict(), student_2.state_dict()
    for name, value in teacher.state_dict().items():
        if value.is_floating_point():
            expected = (1 - alpha - beta) * before[name] + alpha * first[name] + beta * second[name]
            torch.testing.assert_close(value, expected)


def test_average_into_can_leave_the_statistics_alone() -> None:
    teacher, student = _randomized(0), _randomized(1)
    mean = teacher.encoder[0].normalizations[0].running_mean.clone()
    weight = teacher.head.weight.clone()
    average_into(teacher, {student: 0.5}, keep=0.5, statistics=False)
    assert torch.equal(teacher.encoder[0].normalizations[0].running_mean, mean)
    assert not torch.equal(teacher.head.weight, weight)


def test_average_into_refuses_networks_of_another_shape() -> None:
    with pytest.raises(ValueError, match="same tensors"):
        average_into(VNet(filters=2), {VNet(filters=4): 0.5}, keep=0.5)
