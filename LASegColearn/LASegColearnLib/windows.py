"""A network's opinion of a whole scan, window by window, by MONAI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from monai.inferers import sliding_window_inference
from torch import nn

from LASegColearnLib.device import Device
from LASegColearnLib.errors import PredictionError
from LASegColearnLib.losses import foreground_probability
from LASegColearnLib.settings import Settings

# Two, not one: a single one is convolved in float32 by a way of PyTorch's that is several times as slow.
WINDOWS_AT_ONCE = 2


def foreground_by_windows(
    network: nn.Module,
    image: torch.Tensor,
    settings: Settings,
    device: Device,
    overlap: float | Sequence[float] | None = None,
    weights: Literal["gaussian", "constant"] = "gaussian",
) -> torch.Tensor:
    """Foreground probability (X, Y, Z) of a scan (1, 1, X, Y, Z), by windows of the patch's size.

    A scan smaller than the window is padded with zeros, which are its mean. The foreground's logit is lowered by the
    settings' ``logit_shift``.

    Parameters
    ----------
    overlap
        Share by which windows overlap, of all axes or of each; the settings' by default.
    weights
        Of a window's voxels where windows overlap.

    Raises
    ------
    PredictionError
        If what the network says is no number, in float32 either.
    """

    shift = torch.tensor([0.0, settings.logit_shift], device=image.device).view(1, 2, 1, 1, 1)

    def probability(windows: torch.Tensor) -> torch.Tensor:
        with device.autocast():
            found = foreground_probability(network(windows) - shift)[:, None]
        if not found.isfinite().all() and device.precision != torch.float32:
            # What is too large for float16 need not be for float32.
            found = foreground_probability(network(windows) - shift)[:, None]
        if not found.isfinite().all():
            # NaN is not above 0.5 either: the scan would pass for one without an atrium.
            raise PredictionError(
                "The network's output contains NaN or infinity. Predict with --device cpu, or train a new model."
            )
        return found

    with torch.inference_mode():
        result = sliding_window_inference(
            image,
            roi_size=settings.patch_size,
            sw_batch_size=WINDOWS_AT_ONCE,
            predictor=probability,
            overlap=settings.overlap if overlap is None else overlap,
            mode=weights,
        )
    if not isinstance(result, torch.Tensor):
        raise TypeError("A network with one output was expected.")
    return result[0, 0]
