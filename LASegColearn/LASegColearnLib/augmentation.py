"""Patches as another scanner, or another patient, might have given them: moved, bent, and with other intensities."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

_MOST_TURN = math.radians(15)
# Common to all axes, and for each axis on its own, as logarithms: together 0.75 to 1.3.
_MOST_SCALE, _MOST_STRETCH = 0.16, 0.11
# Displacements of so many mm are drawn at points so many mm apart; between them they are interpolated.
_BEND_MM, _BEND_SPACING_MM = 3.0, 20.0
# The coil's field: logarithms at so many points along each axis.
_BIAS_FIELD_POINTS = 3
_BIAS_FIELD = 0.25


def affine_elastic_patch(
    image: np.ndarray,
    label: np.ndarray | None,
    start: Sequence[int],
    size: Sequence[int],
    spacing_mm: Sequence[float],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """The patch at ``start`` of a scan that is turned about each axis, scaled, stretched and bent at random.

    It is read from the whole scan, so that what comes in at its sides is there. Zeros (the scan's mean, or background)
    where the scan ends, as in a patch that is cut as it is.

    Parameters
    ----------
    image, label
        Of the whole scan, (x, y, z); without a label, an empty one is returned.
    start, size
        First voxel and sides of the patch, in voxels.
    spacing_mm
        Voxel size along each axis.

    Returns
    -------
    tuple
        float32 image and uint8 label of ``size``.
    """
    extent_mm = [side * voxel for side, voxel in zip(size, spacing_mm, strict=True)]
    places = _moved_mm(size, spacing_mm, _matrix(rng))
    places += _bend_mm(size, extent_mm, rng)
    for along, first, side, voxel in zip(places, start, size, spacing_mm, strict=True):
        along /= voxel
        along += first + (side - 1) / 2
    if label is None:
        (found,) = _read([image], places)
        return found, np.zeros(tuple(size), np.uint8)
    found, found_label = _read([image, label], places)
    return found, (found_label >= 0.5).astype(np.uint8)


def augmented_intensities(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another contrast, brightness, gamma and coil, a little blur and noise; the input has mean 0 and variance 1."""
    low, high = float(image.min()), float(image.max())
    if high > low:
        gamma = np.float32(np.exp(rng.uniform(-0.35, 0.35)))
        image = ((image - low) / (high - low)) ** gamma * (high - low) + low
    image = image * np.float32(rng.uniform(0.8, 1.25)) + np.float32(rng.uniform(-0.2, 0.2))
    if rng.random() < 0.5:
        field = _smooth(rng.normal(0.0, _BIAS_FIELD, (1, *[_BIAS_FIELD_POINTS] * 3)), image.shape)[0].numpy()
        image = (image - image.min()) * np.exp(field) + image.min()
    if rng.random() < 0.25:
        image = gaussian_filter(image, rng.uniform(0.3, 1.0))
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return image + noise * np.float32(rng.uniform(0.0, 0.1))


def _read(arrays: Sequence[np.ndarray], places: torch.Tensor) -> list[np.ndarray]:
    """Arrays of one shape (x, y, z) at places (3, X, Y, Z) in voxels: linear, 0 outside; float32 (X, Y, Z) of each.

    Only the part around the places is read, since the arrays may be files.
    """
    shape = torch.tensor(arrays[0].shape)
    # An axis at a time, here and below: over memory that lies together this is several times as fast.
    lowest, highest = (torch.stack(ends) for ends in zip(*map(torch.aminmax, places), strict=True))
    first = lowest.floor().long().clamp(min=0).minimum(shape - 1)
    last = highest.ceil().long().clamp(min=0).minimum(shape - 1)
    box = tuple(slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True))
    parts = torch.from_numpy(np.stack([np.asarray(array[box], np.float32) for array in arrays]))
    # The sampler wants z, y, x, from -1 at the first voxel's middle to 1 at the last one's.
    steps = 2.0 / (last - first).clamp(min=1)
    grid = torch.empty((*places.shape[1:], 3))
    for axis, (along, step, begin) in enumerate(zip(places, steps, first, strict=True)):
        grid[..., 2 - axis] = along * step - (begin * step + 1.0)
    sampled = F.grid_sample(parts[None], grid[None], padding_mode="border", align_corners=True)[0]
    if bool((lowest <= -0.5).any() or (highest >= shape - 0.5).any()):
        for along, side in zip(places, shape, strict=True):
            sampled *= (along > -0.5) & (along < side - 0.5)
    return list(sampled.numpy())


def _moved_mm(size: Sequence[int], spacing_mm: Sequence[float], matrix: np.ndarray) -> torch.Tensor:
    """Where each voxel comes to lie, from the patch's middle in mm, (3, X, Y, Z)."""
    x, y, z = (
        (torch.arange(side, dtype=torch.float32) - (side - 1) / 2) * voxel
        for side, voxel in zip(size, spacing_mm, strict=True)
    )
    x, y = x[:, None, None], y[:, None]
    return torch.stack([a * x + b * y + c * z for a, b, c in matrix.tolist()])


def _matrix(rng: np.random.Generator) -> np.ndarray:
    """Three turns, a scale and a stretch of each axis, (3, 3)."""
    matrix = np.diag(np.exp(rng.uniform(-_MOST_SCALE, _MOST_SCALE) + rng.uniform(-_MOST_STRETCH, _MOST_STRETCH, 3)))
    for first, second in ((0, 1), (0, 2), (1, 2)):
        angle = rng.uniform(-_MOST_TURN, _MOST_TURN)
        turn = np.eye(3)
        turn[[first, second], [first, second]] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = turn @ matrix
    return matrix


def _bend_mm(size: Sequence[int], extent_mm: Sequence[float], rng: np.random.Generator) -> torch.Tensor:
    """A displacement of each voxel in mm, (3, X, Y, Z)."""
    points = [max(round(length / _BEND_SPACING_MM), 1) + 1 for length in extent_mm]
    return _smooth(rng.normal(0.0, _BEND_MM, (3, *points)), size)


def _smooth(values: np.ndarray, size: Sequence[int]) -> torch.Tensor:
    """Values (C, x, y, z) at some points, linear between them: (C, X, Y, Z)."""
    control = torch.from_numpy(values.astype(np.float32))[None]
    return F.interpolate(control, size=tuple(size), mode="trilinear", align_corners=True)[0]
