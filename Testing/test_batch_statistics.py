"""Statistics taken anew: those of plain patches of all cases, at the end of a training, the weights untouched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from LASegColearnLib.batch_statistics import recompute_batch_norm_statistics
from LASegColearnLib.case_cache import CachedCase
from LASegColearnLib.device import choose_device
from LASegColearnLib.networks import VNet
from LASegColearnLib.settings import Settings

SETTINGS = Settings(
    patch_size=(16, 16, 16), affine_augmentation=1.0, intensity_augmentation=1.0, statistics_batches=3, labeled_batch=1
)
DEVICE = choose_device("cpu", "float32")


@pytest.fixture
def cases(tmp_path: Path) -> list[CachedCase]:
    """Scans as large as a patch, of means 1, 2 and 3, each half one above and half one below its mean."""
    made = []
    for number, value in enumerate((1.0, 2.0, 3.0)):
        image = np.full((16, 16, 16), value, np.float32)
        image[:8] -= 1.0
        image[8:] += 1.0
        np.save(tmp_path / f"{number}.npy", image)
        made.append(CachedCase(str(number), tmp_path / f"{number}.npy", None))
    return made


def test_statistics_are_those_of_all_cases_as_they_are(cases: list[CachedCase]) -> None:
    layer = nn.BatchNorm3d(1)
    layer.running_mean.fill_(7.0)
    # Batches of three patches: each holds every case once.
    recompute_batch_norm_statistics([layer], cases, SETTINGS, DEVICE)
    assert layer.running_mean.item() == pytest.approx(2.0)
    assert layer.running_var.item() == pytest.approx(1.0 + 2.0 / 3.0, rel=1e-3)
    assert layer.num_batches_tracked.item() == 3


class _TooLarge(nn.Module):
    """Gives to its normalization, in half precision, what is no number."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.BatchNorm3d(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x * (torch.inf if torch.is_autocast_enabled("cpu") else 1.0))


def test_statistics_that_are_no_numbers_in_half_precision_are_taken_in_float32(cases: list[CachedCase]) -> None:
    network = _TooLarge()
    recompute_batch_norm_statistics([network], cases, SETTINGS, choose_device("cpu", "bfloat16"))
    assert network.layer.running_mean.item() == pytest.approx(2.0)
    assert network.layer.running_var.item() == pytest.approx(1.0 + 2.0 / 3.0, rel=1e-3)
    assert network.layer.num_batches_tracked.item() == 3


def test_weights_modes_and_momentum_stay(cases: list[CachedCase]) -> None:
    network = VNet(filters=2, normalization="batch").eval()
    before = {name: value.clone() for name, value in network.named_parameters()}
    means = [module.running_mean.clone() for module in network.modules() if isinstance(module, nn.BatchNorm3d)]
    recompute_batch_norm_statistics([network], cases, SETTINGS, DEVICE)
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]
    assert not any(torch.equal(layer.running_mean, mean) for layer, mean in zip(layers, means, strict=True))
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())
    assert not any(module.training for module in network.modules())
    assert {layer.momentum for layer in layers} == {0.1}


def test_nothing_is_done_where_it_is_not_wanted(cases: list[CachedCase]) -> None:
    layer = nn.BatchNorm3d(1)
    layer.running_mean.fill_(7.0)
    recompute_batch_norm_statistics([layer], cases, replace(SETTINGS, statistics_batches=0), DEVICE)
    assert layer.running_mean.item() == 7.0
    network = VNet(filters=2, normalization="group")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    recompute_batch_norm_statistics([network], cases, SETTINGS, DEVICE)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
