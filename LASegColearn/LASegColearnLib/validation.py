"""Dice of the networks on the validation cases, at the networks' own spacing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from monai.networks.utils import eval_mode
from torch import nn

from LASegColearnLib.case_cache import CachedCase
from LASegColearnLib.device import Device
from LASegColearnLib.metrics import dice_of_counts
from LASegColearnLib.processes import ALONE, Processes
from LASegColearnLib.settings import Settings
from LASegColearnLib.windows import foreground_by_windows


def validate(
    networks: Mapping[str, nn.Module],
    cases: Sequence[CachedCase],
    settings: Settings,
    device: Device,
    processes: Processes = ALONE,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """Mean Dice (0 to 1) of each network over ``cases``, which are divided among the processes.

    The networks' modes are restored afterwards. Returns None if ``should_stop``, which is called before each case, was
    true in any process.
    """
    dice: dict[str, list[float]] = {name: [] for name in networks}
    stopped = False
    with eval_mode(*networks.values()):
        for case in processes.share(cases):
            stopped = should_stop()
            if stopped:
                break
            image = torch.from_numpy(np.array(case.image()))[None, None].to(device.device)
            label = np.asarray(case.label()) > 0
            for name, network in networks.items():
                probability = foreground_by_windows(network, image, settings, device)
                dice[name].append(_dice(probability.cpu().numpy() > 0.5, label))
    if any(processes.all_gather(float(stopped))):
        return None
    sums = torch.tensor([sum(dice[name]) for name in networks], dtype=torch.float64)
    means = processes.all_reduce_mean(sums) * processes.count / len(cases)
    return dict(zip(networks, means.tolist(), strict=True))


def _dice(prediction: np.ndarray, label: np.ndarray) -> float:
    return dice_of_counts(int(prediction.sum()), int(label.sum()), int((prediction & label).sum()))
