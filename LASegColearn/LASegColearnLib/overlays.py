"""Outlines of a segmentation and its label on the scan, in three planes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from LASegColearnLib.cohort import Case
from LASegColearnLib.errors import InputError
from LASegColearnLib.preprocessing import to_array
from LASegColearnLib.scan_files import read_label, read_scan

PREDICTION_COLOR, LABEL_COLOR = "#E69F00", "#56B4E9"
# In-plane axes and normal axis, for arrays (x, y, z) in LPS, and the origin of the picture's vertical axis.
_PLANES = {"axial": ((0, 1), 2, "upper"), "coronal": ((0, 2), 1, "lower"), "sagittal": ((1, 2), 0, "lower")}


def case_overlay(case: Case, segmentation: Path) -> bytes | None:
    """As :func:`overlay_figure`, from a case's files; None if one cannot be read, for example after a move."""
    try:
        scan = read_scan(case.image, case.id)
        prediction, _ = read_label(segmentation, None, scan, case.id, may_be_empty=True)
        label = None if case.label is None else read_label(case.label, case.segment, scan, case.id)[0]
    except InputError:
        return None
    return overlay_figure(scan, prediction, label)


def overlay_figure(scan: sitk.Image, prediction: sitk.Image, label: sitk.Image | None = None) -> bytes:
    """Draw the outlines of a prediction, and of a label if there is one, in the planes through the center.

    Parameters
    ----------
    scan, prediction, label
        Images on the same grid, in any orientation; they are drawn in radiological convention.

    Returns
    -------
    bytes
        A PNG.
    """
    canonical = sitk.DICOMOrient(scan, "LPS")
    voxels = to_array(canonical)
    spacing = canonical.GetSpacing()
    masks = [(to_array(sitk.DICOMOrient(prediction, "LPS")) > 0, PREDICTION_COLOR)]
    if label is not None:
        masks.insert(0, (to_array(sitk.DICOMOrient(label, "LPS")) > 0, LABEL_COLOR))
    middle = _middle(masks[0][0] if masks[0][0].any() else masks[-1][0])
    low, high = np.percentile(voxels, (1, 99.5))
    figure = Figure(figsize=(7.8, 2.75), layout="constrained")
    for axes, (name, (plane, through, origin)) in zip(figure.subplots(1, 3), _PLANES.items(), strict=True):
        aspect = spacing[plane[1]] / spacing[plane[0]]
        cut = voxels.take(middle[through], axis=through)
        axes.imshow(cut.T, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=aspect, origin=origin)
        for mask, color in masks:
            outline = mask.take(middle[through], axis=through)
            # A single row of voxels has no contour.
            if outline.any() and not outline.all() and min(outline.shape) > 1:
                axes.contour(outline.T.astype(float), [0.5], colors=[color], linewidths=1.2)
        axes.set_title(name, fontsize=8)
        axes.set_axis_off()
    handles = [Line2D([], [], color=PREDICTION_COLOR, label="prediction")]
    if label is not None:
        handles.append(Line2D([], [], color=LABEL_COLOR, label="label"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _middle(mask: np.ndarray) -> tuple[int, int, int]:
    if not mask.any():
        return tuple(side // 2 for side in mask.shape)  # type: ignore[return-value]
    return tuple(int(round(place)) for place in np.argwhere(mask).mean(0))  # type: ignore[return-value]
