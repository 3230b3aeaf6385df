"""Batch-norm statistics recomputed at the end of a training, from scans without augmentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from LASegColearnLib.case_cache import CachedCase
from LASegColearnLib.device import Device
from LASegColearnLib.patches import PatchSource
from LASegColearnLib.settings import Settings


def recompute_batch_norm_statistics(
    networks: Iterable[nn.Module], cases: Sequence[CachedCase], settings: Settings, device: Device
) -> None:
    """Replace each network's running means and variances by those of patches without augmentation.

    The running statistics of a training come from its last few batches, which were deformed, changed in intensity,
    pasted and often centered on the atrium, unlike the scans that the network will segment. Here all batches count
    alike: the precise batch normalization of Wu and Johnson, Rethinking "Batch" in BatchNorm, 2021. Networks without
    batch normalization are not changed.

    Parameters
    ----------
    networks
        Changed in place; their modes are restored.
    cases
        Source of the patches; labels are not read.
    settings
        ``statistics_batches`` is the number of batches; with 0 nothing is done.
    device
        Where the networks are.
    """
    if settings.statistics_batches == 0:
        return
    plain = replace(settings, affine_augmentation=0.0, axial_rotations=False, axial_flips=False)
    source = PatchSource([], cases, plain)
    size = settings.labeled_batch + settings.unlabeled_batch
    for network in networks:
        # Dropout must draw the same numbers each time, so that a resumed run equals an uninterrupted one.
        torch.manual_seed(settings.seed)
        with device.autocast():
            update_bn(_patches(source, settings.statistics_batches, size), network, device.device)
        if device.precision != torch.float32 and not _are_numbers(network):
            # Values beyond the range of float16 may be finite in float32.
            torch.manual_seed(settings.seed)
            update_bn(_patches(source, settings.statistics_batches, size), network, device.device)


def _patches(source: PatchSource, batches: int, size: int) -> Iterator[torch.Tensor]:
    return (source.batch(number, 0, size).weakly_augmented for number in range(batches))


def _are_numbers(network: nn.Module) -> bool:
    return all(bool(buffer.isfinite().all()) for buffer in network.buffers() if buffer.is_floating_point())
