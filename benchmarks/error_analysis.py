"""Where a model's errors lie: by case, by part of the atrium, and what its voxel size alone would cost.

    .venv/bin/python benchmarks/error_analysis.py --run runs/left_atrium/colearning-8-seed0

Parts are told by shape, as no reference marks them: what a ball of 7 mm does not fit into is veins, behind the middle
of the rest, or appendage and the mitral ring, before it; of the remaining wall, the mitral side faces forward and down.
Brightness is the atrium's mean and noise its standard deviation in a scan of mean 0 and standard deviation 1.
A label is wider by the mean signed distance of its surface from the predicted one, where that is within 6 mm: above 0
it lies outside. The best cut is the probability above which that scan's Dice is highest, which only its label can tell:
how much is lost to outlines that are drawn more widely, or more tightly, than those that the model learned from.
"""

from __future__ import annotations

import sys

import numpy as np
import SimpleITK as sitk
from scipy import ndimage
from scipy.stats import spearmanr

from LASegColearnLib.cohort import Case
from LASegColearnLib.components import largest_component
from LASegColearnLib.metrics import segmentation_metrics
from LASegColearnLib.predictor import Predictor
from LASegColearnLib.preprocessing import prepare_label, restore_to_scan, to_array, working_grid
from LASegColearnLib.scan_files import read_label, read_scan
from measuring import model_and_cases, model_parser

_COLUMNS = {
    "mL": 1,
    "brightness": 2,
    "noise": 2,
    "Dice %": 2,
    "95HD": 2,
    "ASD": 2,
    "missed %": 1,
    "too much %": 1,
    "label is wider by mm": 2,
    "best cut": 1,
    "Dice % at it": 2,
    "voxel size alone: Dice %": 2,
}
_BALL_MM = 7.0
_PARTS = ("wall", "mitral side", "veins", "appendage and mitral ring")
_FAR_MM = 1.25
_CUTS = np.arange(0.1, 0.95, 0.1)
# Surfaces farther apart are of parts that are missed or too much, not of an outline that is wider.
_ASTRAY_MM = 6.0


def main() -> None:
    predictor, members = model_and_cases(model_parser(__doc__).parse_args())
    rows, parts = [], []
    sys.stdout.write(f"| case | {' | '.join(_COLUMNS)} |\n|---{'|---' * len(_COLUMNS)}|\n")
    for case in members:
        row, by_part = _case(predictor, case)
        rows.append(row)
        parts.append(by_part)
        sys.stdout.write(f"| {case.id} | {_cells(row)} |\n")
    sys.stdout.write(f"| mean | {_cells(np.mean(rows, 0))} |\n\n")
    columns = dict(zip(_COLUMNS, np.transpose(rows), strict=True))
    for name in ("mL", "brightness", "noise"):
        correlation = spearmanr(columns[name], columns["Dice %"])
        sys.stdout.write(f"Rank correlation of Dice with {name}: {correlation[0]:+.2f} (p = {correlation[1]:.3f})\n")
    sys.stdout.write("\n")
    sys.stdout.write(
        "| part | of the surface % | mean distance mm | farther than 1.25 mm % | missed % | too much % |\n"
    )
    sys.stdout.write("|---|---|---|---|---|---|\n")
    for name, row in zip(_PARTS, np.nanmean(parts, 0), strict=True):
        sys.stdout.write(f"| {name} | {row[0]:.1f} | {row[1]:.2f} | {row[2]:.1f} | {row[3]:.2f} | {row[4]:.2f} |\n")
    sys.stdout.write("\nDistances in voxels in the first table; missed and too much as shares of the true volume.\n")


def _cells(row: np.ndarray) -> str:
    return " | ".join(f"{value:.{digits}f}" for value, digits in zip(row, _COLUMNS.values(), strict=True))


def _case(predictor: Predictor, case: Case) -> tuple[np.ndarray, np.ndarray]:
    """A row of the first table, and the second table's rows, (parts, 5)."""
    assert case.label is not None
    scan = read_scan(case.image, case.id)
    image, _ = read_label(case.label, case.segment, scan, case.id)
    label = to_array(image) > 0
    prediction = predictor.predict(scan, figures=False)
    mask = to_array(prediction.mask) > 0
    spacing = scan.GetSpacing()
    metrics = segmentation_metrics(mask, label, spacing, in_voxels=True)
    missed, extra = label & ~mask, mask & ~label
    intensities = to_array(scan).astype(np.float32)
    inside = (intensities[label] - intensities.mean()) / intensities.std()
    row = [
        metrics.reference_volume_ml,
        inside.mean(),
        inside.std(),
        100 * metrics.dice,
        metrics.hd95,
        metrics.asd,
        100 * missed.sum() / label.sum(),
        100 * extra.sum() / label.sum(),
        _wider_by_mm(mask, label, spacing),
        *_at_best_cut(to_array(prediction.probability), label),
        100 * _of_voxel_size(predictor, scan, image, label),
    ]
    part = _parts(label, spacing)
    surface = label & ~ndimage.binary_erosion(label)
    # Every voxel belongs to the part of the true surface that is nearest to it.
    nearest = ndimage.distance_transform_edt(~surface, sampling=spacing, return_distances=False, return_indices=True)
    owner = part[tuple(nearest)]
    found = mask & ~ndimage.binary_erosion(mask)
    distance = ndimage.distance_transform_edt(~found, sampling=spacing)
    by_part = []
    for number in range(len(_PARTS)):
        own = surface & (part == number)
        far = distance[own]
        by_part.append(
            [
                100 * own.sum() / surface.sum(),
                far.mean() if far.size else np.nan,
                100 * (far > _FAR_MM).mean() if far.size else np.nan,
                100 * (missed & (owner == number)).sum() / label.sum(),
                100 * (extra & (owner == number)).sum() / label.sum(),
            ]
        )
    return np.array(row), np.array(by_part)


def _wider_by_mm(mask: np.ndarray, label: np.ndarray, spacing_mm: tuple[float, ...]) -> float:
    """Mean distance of the label's surface from the mask's, negative inside of it."""
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing_mm)
    inside = ndimage.distance_transform_edt(mask, sampling=spacing_mm)
    # Voxels on both sides of the label's surface: their middles lie half a voxel from it, one way and the other.
    surface = ndimage.binary_dilation(label) & ~ndimage.binary_erosion(label)
    distance = (outside - inside)[surface]
    return float(distance[np.abs(distance) < _ASTRAY_MM].mean())


def _at_best_cut(probability: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """The cut with the highest Dice, the largest component kept, and 100 times that Dice."""
    found = []
    for cut in _CUTS:
        mask = largest_component(probability > cut)
        found.append(200 * np.count_nonzero(mask & label) / (np.count_nonzero(mask) + np.count_nonzero(label)))
    best = int(np.argmax(found))
    return float(_CUTS[best]), found[best]


def _of_voxel_size(predictor: Predictor, scan: sitk.Image, image: sitk.Image, label: np.ndarray) -> float:
    """Dice of the true label, brought to the networks' voxel size and back."""
    settings = predictor.model.settings
    grid = working_grid(scan, settings.spacing_mm, settings.region_mm)
    there = prepare_label(image, grid).astype(np.float32)
    back = to_array(restore_to_scan(there, grid, scan)) > 0.5
    return segmentation_metrics(back, label, scan.GetSpacing()).dice


def _parts(label: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """The number of its part for every voxel of the array (those outside the label mean nothing)."""
    core = ndimage.distance_transform_edt(label, sampling=spacing_mm) > _BALL_MM
    if not core.any():
        return np.zeros(label.shape, int)
    body = label & (ndimage.distance_transform_edt(~core, sampling=spacing_mm) <= _BALL_MM)
    middle = np.array(ndimage.center_of_mass(body))
    offset = np.stack(np.indices(label.shape), -1) - middle
    direction = offset / np.maximum(np.linalg.norm(offset, axis=-1, keepdims=True), 1e-6)
    # Scans lie in LPS: the second axis points back, the third up.
    mitral = -(direction[..., 1] + direction[..., 2]) / np.sqrt(2.0) > 0.6
    behind = offset[..., 1] >= 0
    return np.where(body, np.where(mitral, 1, 0), np.where(behind, 2, 3))


if __name__ == "__main__":
    main()
