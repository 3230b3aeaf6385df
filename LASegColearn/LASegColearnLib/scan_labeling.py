"""A network's labels of whole unlabeled scans (pseudo-labels), to train on."""

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

# Names made by _label_file(). A program that synchronizes folders may have added copies under other names.
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
    """Let a network label whole scans, and write its labels beside the preprocessed scans; earlier labels are kept.

    Overlapping windows over a whole scan, reduced to the largest connected component, label it better than a patch,
    whose edge lacks its surroundings. The network itself is not changed: a copy with recomputed batch-norm statistics
    labels. The scans are divided among the processes, which wait for each other at the end.

    Parameters
    ----------
    network
        The network that labels, on ``device``.
    unlabeled
        The preprocessed cases to label.
    labeled
        Further cases for the statistics; their labels are not read.
    iteration
        The current iteration, which becomes part of the labels' file names.
    should_stop
        Called before each scan; if it returns true, the remaining scans are not labeled.
    told
        Called with the number of scans that this process has labeled, and its total.

    Returns
    -------
    int
        Number of scans labeled, counted from the first without a gap.
    """
    teacher = copy.deepcopy(network)
    recompute_batch_norm_statistics([teacher], [*labeled, *unlabeled], settings, device)
    teacher.eval()
    # The shift corrects the final prediction; students trained on shifted labels would be shifted twice.
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
    # The processes take the scans in turn: the first unlabeled scan is one of these.
    missing = [done * processes.count + rank for rank, done in enumerate(processes.all_gather(done))]
    return min(*missing, len(unlabeled))


def with_labels(unlabeled: Sequence[CachedCase], labels: Mapping[str, int]) -> list[CachedCase]:
    """The cases that have a non-empty pseudo-label, with it.

    Parameters
    ----------
    labels
        For the file name of each preprocessed scan, the iteration of its current label.
    """
    labeled_scans = [
        replace(case, pseudo_label_file=_label_file(case, labels[case.image_file.name]))
        for case in unlabeled
        if case.image_file.name in labels
    ]
    return [case for case in labeled_scans if np.load(_pseudo_label_file(case)).any()]


def labels_are_there(unlabeled: Sequence[CachedCase], labels: Mapping[str, int]) -> bool:
    """Whether all of these labels can be read: a cache may be deleted, and a power failure may leave empty files."""
    known = {case.image_file.name: case for case in unlabeled}
    return all(
        name in known and stored_array(_label_file(known[name], made)) is not None for name, made in labels.items()
    )


def remove_other_labels(unlabeled: Sequence[CachedCase], labels: Mapping[str, int], before: int) -> None:
    """Delete outdated labels in these cases' cache; a label that is being read stays for now.

    Labels of iteration ``before`` and later stay, since another process may be writing them.
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
