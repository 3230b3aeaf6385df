"""A network's labels of whole unlabeled scans, for a training to learn from."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from LASegColearnLib.batch_statistics import retake_statistics
from LASegColearnLib.case_cache import CachedCase
from LASegColearnLib.components import largest_component
from LASegColearnLib.device import Device
from LASegColearnLib.processes import ALONE, Processes
from LASegColearnLib.run_folder import replacing
from LASegColearnLib.settings import Settings
from LASegColearnLib.windows import foreground_by_windows


def label_scans(
    network: nn.Module,
    unlabeled: Sequence[CachedCase],
    labeled: Sequence[CachedCase],
    settings: Settings,
    device: Device,
    processes: Processes = ALONE,
    should_stop: Callable[[], bool] = lambda: False,
    told: Callable[[int, int], None] = lambda done, of: None,
) -> bool:
    """Let a network label whole scans and keep its labels beside the preprocessed scans, in place of earlier ones.

    A whole scan by overlapping windows, of which the largest connected part is kept, is labeled better than a patch is:
    the patch's edge lacks what surrounds it. The network itself is not changed; the labels are those of a copy with its
    batch-norm statistics taken anew. The processes share the scans, and go on when all are labeled.

    Parameters
    ----------
    network
        The one that labels, on ``device``.
    unlabeled
        The cases to label, as they are in the cache.
    labeled
        Cases that count for the statistics too; no label is read.
    should_stop
        Asked before each scan; when true, the remaining ones keep the labels that they have.
    told
        Called with the number of scans that this process has labeled, and has to label in all.

    Returns
    -------
    bool
        Whether all scans were labeled.
    """
    teacher = copy.deepcopy(network)
    retake_statistics([teacher], [*labeled, *unlabeled], settings, device)
    teacher.eval()
    stopped = False
    own = processes.share(unlabeled)
    for done, case in enumerate(own):
        told(done, len(own))
        stopped = should_stop()
        if stopped:
            break
        image = torch.from_numpy(np.array(case.image()))[None, None].to(device.device)
        probability = foreground_by_windows(teacher, image, settings, device).cpu().numpy()
        with replacing(_taught_file(case)) as temporary:
            np.save(temporary, largest_component(probability > 0.5).astype(np.uint8))
    else:
        told(len(own), len(own))
    return float(processes.mean(torch.tensor([float(stopped)]))) == 0.0


def with_labels(unlabeled: Sequence[CachedCase]) -> list[CachedCase]:
    """The cases with the labels of :func:`label_scans`: those that have some, and in which something was found."""
    taught = [replace(case, taught_file=_taught_file(case)) for case in unlabeled if _taught_file(case).exists()]
    return [case for case in taught if np.load(_taught_file(case)).any()]


def _taught_file(case: CachedCase) -> Path:
    return case.image_file.with_name(case.image_file.name.replace(".image.", ".taught."))
