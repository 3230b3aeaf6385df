"""A scan's probability by windows: what the networks say, less the settings' shift."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from LASegColearnLib.device import choose_device
from LASegColearnLib.errors import InputError, PredictionError
from LASegColearnLib.settings import PRESETS, Settings, preset
from LASegColearnLib.windows import foreground_by_windows


class _Surely(torch.nn.Module):
    """Says the same of every voxel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.full_like(x, 0.25), torch.full_like(x, 1.25)], 1)


@pytest.mark.parametrize("shift", [0.0, 0.4, -1.0])
def test_the_foregrounds_logit_is_lowered_by_the_shift(shift: float) -> None:
    settings = Settings(patch_size=(16, 16, 16), logit_shift=shift)
    image = torch.zeros(1, 1, 20, 12, 16)
    found = foreground_by_windows(_Surely(), image, settings, choose_device("cpu", "float32"))
    expected = 1 / (1 + math.exp(-(1.0 - shift)))
    torch.testing.assert_close(found, torch.full((20, 12, 16), expected), rtol=1e-5, atol=1e-6)


class _TooLarge(torch.nn.Module):
    """Says in half precision what is no number, as some GPUs do."""

    def __init__(self, ever: bool) -> None:
        super().__init__()
        self.ever = ever

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wrong = self.ever or torch.is_autocast_enabled("cpu")
        return _Surely()(x) * (torch.nan if wrong else 1.0)


def test_windows_that_are_no_numbers_in_half_precision_are_computed_in_float32() -> None:
    settings = Settings(patch_size=(16, 16, 16))
    image = torch.zeros(1, 1, 20, 12, 16)
    place = choose_device("cpu", "bfloat16")
    found = foreground_by_windows(_TooLarge(ever=False), image, settings, place)
    torch.testing.assert_close(found, torch.full((20, 12, 16), 1 / (1 + math.exp(-1.0))), rtol=1e-5, atol=1e-6)
    with pytest.raises(PredictionError, match="contains NaN or infinity. Predict with --device cpu"):
        foreground_by_windows(_TooLarge(ever=True), image, settings, place)


def test_no_preset_shifts() -> None:
    """What suits the labels of some scans is wrong for others: docs/benchmarks.md."""
    assert {settings.logit_shift for settings in PRESETS.values()} == {0.0}


def test_a_shift_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match="logit_shift"):
        replace(preset("cpu"), logit_shift=float("nan")).checked()
