"""Evaluation by the protocol of the literature on the left atrium, in addition to our own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from LASegColearnLib.checkpoints import Model
from LASegColearnLib.cohort import Case
from LASegColearnLib.device import Device
from LASegColearnLib.errors import InputError
from LASegColearnLib.evaluation import EvaluatedCase, missing_label
from LASegColearnLib.metrics import Metrics, segmentation_metrics
from LASegColearnLib.preprocessing import prepare_scan, restore_to_scan, to_array
from LASegColearnLib.scan_files import read_label, read_scan
from LASegColearnLib.windows import foreground_at_zooms

# Overlap of the published windows of 112 x 112 x 80 voxels with strides 18, 18 and 4 (UA-MT's code/test_util.py).
PUBLISHED_OVERLAP = (1 - 18 / 112, 1 - 18 / 112, 1 - 4 / 80)


def evaluate_as_published(model: Model, cases: Sequence[Case], device: Device) -> list[EvaluatedCase]:
    """Predict cases with a model and compare them with their labels by the published protocol.

    Windows of the model's patch size overlap like the published ones and have equal weights. The mask is where their
    mean probability is above 0.5, with all its components. Distances are in voxels of the scan. The model's setting
    ``zoom`` holds here too, which the published methods have no counterpart of.

    Parameters
    ----------
    model
        As read by :func:`~LASegColearnLib.checkpoints.load_model`.
    cases
        Cases with labels.

    Raises
    ------
    InputError
        If a file cannot be read, or a case has no label.
    """
    return [EvaluatedCase(case.id, model.predictor, "voxel", _metrics(model, case, device)) for case in cases]


def _metrics(model: Model, case: Case, device: Device) -> Metrics:
    if case.label is None:
        raise InputError(missing_label(case.id))
    scan = read_scan(case.image, case.id)
    label, _ = read_label(case.label, case.segment, scan, case.id)
    prepared = prepare_scan(scan, model.settings.spacing_mm, model.settings.region_mm)
    image = torch.from_numpy(np.ascontiguousarray(prepared.array))[None, None].to(device.device)
    network = device.place(model.networks[model.predictor]).eval()
    probability = foreground_at_zooms(
        network, image, model.settings, device, overlap=PUBLISHED_OVERLAP, weights="constant"
    )
    mask = to_array(restore_to_scan(probability.float().cpu().numpy(), prepared.grid, scan)) > 0.5
    return segmentation_metrics(mask, to_array(label), scan.GetSpacing(), in_voxels=True)
