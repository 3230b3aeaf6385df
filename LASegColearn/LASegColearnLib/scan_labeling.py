"""A network's labels of whole unlabeled scans, for a training to learn from."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from LASegColearnLib.batch_statistics import recompute_batch_norm_statistics
from LASegColearnLib.case_cache import CachedCase, stored_array
from LASegColearnLib.components import largest_component
from LASegColearnLib.device import Device
from LASegColearnLib.processes import ALONE, Processes
from LASegColearnLib.run_folder import replacing
from LASegColearnLib.settings import Settings
from LASegColearnLib.windows import foreground_by_windows

# As _label_file() names it; a program that keeps folders in step may have put copies under other names beside it.
_ITERATION = re.compile(r"\.taught-(\d+)\.npy$")


def label_scans(
    network: nn.Module,
    unlabeled: Sequence[CachedCase],
    labeled: Sequence[CachedCase],
    settings: Settings,
    device: Device,
    iteration: int,
    processes: Processes = ALONE,
    should_stop: Callable[[], bool] = lambda: False,
    told: Callable[[int, int], None] = lambda done, of: None,
) -> int:
    """Let a network label whole scans and keep its labels beside the preprocessed scans, earlier ones left alone.

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
    iteration
        At which the labels are made: their name.
    should_stop
        Asked before each scan; when true, the remaining ones are not labeled.
    told
        Called with the number of scans that this process has labeled, and has to label in all.

    Returns
    -------
    int
        So many of the scans, from the first on, were labeled.
    """
    teacher = copy.deepcopy(network)
    recompute_batch_norm_statistics([teacher], [*labeled, *unlabeled], settings, device)
    teacher.eval()
    # The shift corrects what predicts in the end; students of labels that are shifted already would be shifted twice.
    unshifted = replace(settings, logit_shift=0.0)
    own = processes.share(unlabeled)
    done = 0
    while done < len(own) and not should_stop():
        told(done, len(own))
        case = own[done]
        image = torch.from_numpy(np.array(case.image()))[None, None].to(device.device)
        probability = foreground_by_windows(teacher, image, unshifted, device).cpu().numpy()
        with replacing(_label_file(case, iteration)) as temporary:
            np.save(temporary, largest_component(probability > 0.5).astype(np.uint8))
        done += 1
    told(done, len(own))
    # They take turns through the scans: the first that is missing is one of these.
    missing = [done * processes.count + rank for rank, done in enumerate(processes.all_gather(done))]
    return min(*missing, len(unlabeled))


def with_labels(unlabeled: Sequence[CachedCase], labels: Mapping[str, int]) -> list[CachedCase]:
    """The cases with their labels: those that have some, and in which something was found.

    Parameters
    ----------
    labels
        By the name of a case's preprocessed scan: the iteration at which the label was made that counts.
    """
    labeled_scans = [
        replace(case, pseudo_label_file=_label_file(case, labels[case.image_file.name]))
        for case in unlabeled
        if case.image_file.name in labels
    ]
    return [case for case in labeled_scans if np.load(_pseudo_label_file(case)).any()]


def labels_are_there(unlabeled: Sequence[CachedCase], labels: Mapping[str, int]) -> bool:
    """Whether all of these labels can be read: a cache may be deleted, and a loss of power leaves empty files."""
    known = {case.image_file.name: case for case in unlabeled}
    return all(
        name in known and stored_array(_label_file(known[name], made)) is not None for name, made in labels.items()
    )


def remove_other_labels(unlabeled: Sequence[CachedCase], labels: Mapping[str, int], before: int) -> None:
    """Delete the labels in these cases' cache that do not count any more; one that is being read stays for now.

    Those of iteration ``before`` and later stay: another process may be about to make them.
    """
    known = {case.image_file.name: case for case in unlabeled}
    kept = {_label_file(known[name], made) for name, made in labels.items() if name in known}
    for folder in {case.image_file.parent for case in unlabeled}:
        for file in folder.glob("[!.]*.taught-*.npy"):
            made = _ITERATION.search(file.name)
            if file not in kept and made is not None and int(made[1]) < before:
                with suppress(OSError):
                    file.unlink()


def _pseudo_label_file(case: CachedCase) -> Path:
    assert case.pseudo_label_file is not None
    return case.pseudo_label_file


def _label_file(case: CachedCase, iteration: int) -> Path:
    return case.image_file.with_name(case.image_file.name.replace(".image.", f".taught-{iteration}."))
