"""Foreground probability of a whole scan by a sliding window, with MONAI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from monai.inferers import sliding_window_inference
from torch import nn

from LASegColearnLib.device import Device
from LASegColearnLib.errors import PredictionError
from LASegColearnLib.losses import foreground_probability
from LASegColearnLib.settings import Settings

# Two, not one: PyTorch convolves a single image in float32 by another algorithm, which is several times slower.
WINDOWS_AT_ONCE = 2


def foreground_by_windows(
    network: nn.Module,
    image: torch.Tensor,
    settings: Settings,
    device: Device,
    overlap: float | Sequence[float] | None = None,
    weights: Literal["gaussian", "constant"] = "gaussian",
) -> torch.Tensor:
    """Foreground probability (X, Y, Z) of a scan (1, 1, X, Y, Z), by windows of the patch size.

    A scan smaller than the window is padded with zeros, the mean of a prepared scan. The setting ``logit_shift`` is
    subtracted from the foreground's logit.

    Parameters
    ----------
    overlap
        Share by which windows overlap, one for all axes or one for each; the settings' by default.
    weights
        How the voxels of overlapping windows are weighted.

    Raises
    ------
    PredictionError
        If the network's output is not finite, even in float32.
    """
    shift = torch.tensor([0.0, settings.logit_shift], device=image.device).view(1, 2, 1, 1, 1)

    def probability(windows: torch.Tensor) -> torch.Tensor:
        with device.autocast():
            found = foreground_probability(network(windows) - shift)[:, None]
        if not found.isfinite().all() and device.precision != torch.float32:
            # Values beyond the range of float16 may be finite in float32.
            found = foreground_probability(network(windows) - shift)[:, None]
        if not found.isfinite().all():
            # NaN is not above 0.5: the result would look like a scan without an atrium.
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


def foreground_at_zooms(
    network: nn.Module,
    image: torch.Tensor,
    settings: Settings,
    device: Device,
    overlap: float | Sequence[float] | None = None,
    weights: Literal["gaussian", "constant"] = "gaussian",
    zoom: float | None = None,
) -> torch.Tensor:
    """Mean foreground probability (X, Y, Z) of a scan (1, 1, X, Y, Z) as it is, enlarged and reduced.

    Augmentation shows atria of many sizes to the networks; their errors at different sizes differ, like those of
    different networks.

    Parameters
    ----------
    zoom
        The factor by which the scan is enlarged and reduced, 1 for neither; the settings' by default.
    overlap, weights
        As in :func:`foreground_by_windows`.

    Raises
    ------
    PredictionError
        As :func:`foreground_by_windows` does.
    """
    factor = settings.zoom if zoom is None else zoom
    found = foreground_by_windows(network, image, settings, device, overlap, weights)
    if factor == 1:
        return found
    # On the processor: not every device can interpolate volumes.
    original, size = image.cpu(), image.shape[2:]
    for one in (factor, 1 / factor):
        sides = [max(round(side * one), 1) for side in size]
        zoomed = F.interpolate(original, size=sides, mode="trilinear", align_corners=False).to(image.device)
        probability = foreground_by_windows(network, zoomed, settings, device, overlap, weights).float().cpu()
        back = F.interpolate(probability[None, None], size=size, mode="trilinear", align_corners=False)[0, 0]
        found = found + back.to(found.device)
    return found / 3
