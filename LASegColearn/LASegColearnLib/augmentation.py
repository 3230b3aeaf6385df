"""Augmentation of patches: affine and elastic deformation, and changes of intensity."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

_MOST_TURN = math.radians(15)
# Logarithms of the factor common to all axes and of the one for each axis: together 0.75 to 1.3.
_MOST_SCALE, _MOST_STRETCH = 0.16, 0.11
# Standard deviation of the displacements in mm, and the distance in mm between the points where they are drawn.
_BEND_MM, _BEND_SPACING_MM = 3.0, 20.0
# The bias field of the coil: points along each axis, and the standard deviation of the logarithm there.
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
    """The patch at ``start`` of a scan that is randomly rotated about each axis, scaled, stretched and deformed.

    It is sampled from the whole scan, so that tissue from outside the patch can move into it. Zeros (the scan's mean,
    or background) outside the scan, as in a patch without deformation.

    Parameters
    ----------
    image, label
        Arrays (x, y, z) of the whole scan; without a label, an empty one is returned.
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
    places = _affine_mm(size, spacing_mm, _matrix(rng))
    places += _displacement_mm(size, extent_mm, rng)
    for along, first, side, voxel in zip(places, start, size, spacing_mm, strict=True):
        along /= voxel
        along += first + (side - 1) / 2
    if label is None:
        (found,) = _read([image], places)
        return found, np.zeros(tuple(size), np.uint8)
    found, found_label = _read([image, label], places)
    return found, (found_label >= 0.5).astype(np.uint8)


def augmented_intensities(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random gamma, contrast, brightness and bias field, slight blur and noise; the input has mean 0 and variance 1."""
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
    """Sample arrays of one shape (x, y, z) at places (3, X, Y, Z) in voxels: linear, 0 outside; float32 (X, Y, Z) each.

    Only the part around the places is read, since the arrays may be memory-mapped files.
    """
    shape = torch.tensor(arrays[0].shape)
    # One axis at a time, here and below: over contiguous memory this is several times faster.
    lowest, highest = (torch.stack(ends) for ends in zip(*map(torch.aminmax, places), strict=True))
    first = lowest.floor().long().clamp(min=0).minimum(shape - 1)
    last = highest.ceil().long().clamp(min=0).minimum(shape - 1)
    box = tuple(slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True))
    parts = torch.from_numpy(np.stack([np.asarray(array[box], np.float32) for array in arrays]))
    # grid_sample takes z, y, x, from -1 at the first voxel's center to 1 at the last one's.
    steps = 2.0 / (last - first).clamp(min=1)
    grid = torch.empty((*places.shape[1:], 3))
    for axis, (along, step, begin) in enumerate(zip(places, steps, first, strict=True)):
        grid[..., 2 - axis] = along * step - (begin * step + 1.0)
    sampled = F.grid_sample(parts[None], grid[None], padding_mode="border", align_corners=True)[0]
    if bool((lowest <= -0.5).any() or (highest >= shape - 0.5).any()):
        for along, side in zip(places, shape, strict=True):
            sampled *= (along > -0.5) & (along < side - 0.5)
    return list(sampled.numpy())


def _affine_mm(size: Sequence[int], spacing_mm: Sequence[float], matrix: np.ndarray) -> torch.Tensor:
    """Position of each voxel after the affine map, in mm from the patch's center, (3, X, Y, Z)."""
    x, y, z = (
        (torch.arange(side, dtype=torch.float32) - (side - 1) / 2) * voxel
        for side, voxel in zip(size, spacing_mm, strict=True)
    )
    x, y = x[:, None, None], y[:, None]
    return torch.stack([a * x + b * y + c * z for a, b, c in matrix.tolist()])


def _matrix(rng: np.random.Generator) -> np.ndarray:
    """A random affine matrix (3, 3): rotations in three planes, a common scale and a stretch of each axis."""
    matrix = np.diag(np.exp(rng.uniform(-_MOST_SCALE, _MOST_SCALE) + rng.uniform(-_MOST_STRETCH, _MOST_STRETCH, 3)))
    for first, second in ((0, 1), (0, 2), (1, 2)):
        angle = rng.uniform(-_MOST_TURN, _MOST_TURN)
        turn = np.eye(3)
        turn[[first, second], [first, second]] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = turn @ matrix
    return matrix


def _displacement_mm(size: Sequence[int], extent_mm: Sequence[float], rng: np.random.Generator) -> torch.Tensor:
    """A random smooth displacement of each voxel in mm, (3, X, Y, Z)."""
    points = [max(round(length / _BEND_SPACING_MM), 1) + 1 for length in extent_mm]
    return _smooth(rng.normal(0.0, _BEND_MM, (3, *points)), size)


def _smooth(values: np.ndarray, size: Sequence[int]) -> torch.Tensor:
    """Values (C, x, y, z) at control points, interpolated linearly to (C, X, Y, Z)."""
    control = torch.from_numpy(values.astype(np.float32))[None]
    return F.interpolate(control, size=tuple(size), mode="trilinear", align_corners=True)[0]
