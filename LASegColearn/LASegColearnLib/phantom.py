"""Synthetic scans that look a little like late-gadolinium MR of the left atrium, for trying things out without data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from LASegColearnLib.cohort import Case, Cohort, save_cohort
from LASegColearnLib.preprocessing import Grid, to_image

# The field of view in the patient, mm: left-right, front-back, feet-head.
_EXTENT = np.array([116.0, 96.0, 80.0])
_BLOOD, _MUSCLE, _FAT, _LUNG, _SCAR = 620.0, 300.0, 420.0, 60.0, 900.0
_HEADERS = ("plain", "anisotropic", "oblique", "permuted", "flipped")


@dataclass(frozen=True)
class _Anatomy:
    """Shapes in patient space: signed distances in mm, negative inside, from points (..., 3)."""

    center: np.ndarray
    radii: np.ndarray
    tilt: np.ndarray
    veins: tuple[tuple[np.ndarray, np.ndarray, float], ...]
    appendage: tuple[tuple[np.ndarray, float], ...]
    neighbors: tuple[tuple[np.ndarray, np.ndarray, float], ...]
    scars: tuple[np.ndarray, ...] = field(default=())

    def atrium(self, points: np.ndarray) -> np.ndarray:
        parts = [_ellipsoid((points - self.center) @ self.tilt, self.radii)]
        parts += [_tube(points, start, end, radius) for start, end, radius in self.veins]
        parts += [np.linalg.norm(points - center, axis=-1) - radius for center, radius in self.appendage]
        joined = parts[0]
        for part in parts[1:]:
            joined = _smooth_union(joined, part, 3.0)
        return joined

    def blood_elsewhere(self, points: np.ndarray) -> np.ndarray:
        return np.min([_tube(points, *neighbor) for neighbor in self.neighbors], axis=0)


def make_phantom(seed: int, header: str | None = None) -> tuple[sitk.Image, sitk.Image]:
    """A scan and its label.

    A body with four pulmonary veins and an appendage, next to vessels and chambers of the same intensity, lungs, fat
    and muscle, late enhancement in the wall, blur, a bias field and noise. The anatomy is a function of the seed alone.

    Parameters
    ----------
    seed
        Of everything random.
    header
        How the voxels lie in the patient: ``plain`` (1.6 mm), ``anisotropic`` (1.25×1.25×2.5 mm), ``oblique``,
        ``permuted`` or ``flipped``; drawn by the seed if not given.

    Returns
    -------
    tuple of SimpleITK.Image
        int16 scan and uint8 0/1 label on one grid.
    """
    rng = np.random.default_rng([seed, 0])
    anatomy = _draw_anatomy(rng)
    # Of its own, so that the same seed has the same anatomy under every header.
    header_rng = np.random.default_rng([seed, 1])
    drawn = str(header_rng.choice(_HEADERS))
    grid = _grid(header or drawn, header_rng)
    points = _points(grid)
    atrium = anatomy.atrium(points)
    scan = _intensities(anatomy, points, atrium, np.random.default_rng([seed, 2]), np.array(grid.spacing_mm))
    return to_image(scan, grid), to_image((atrium <= 0).astype(np.uint8), grid)


def write_phantom_cohort(
    folder: Path, labeled: int = 4, unlabeled: int = 12, validation: int = 4, seed: int = 0
) -> Path:
    """Write phantoms, a folder each, with labels for the labeled and validation ones only, and a cohort file.

    Returns
    -------
    Path
        ``<folder>/cohort.json``.
    """
    roles = ["labeled"] * labeled + ["unlabeled"] * unlabeled + ["validation"] * validation
    members: dict[str, list[Case]] = {"labeled": [], "unlabeled": [], "validation": []}
    for number, role in enumerate(roles):
        case_id = f"phantom-{number + 1:02d}"
        # Scans come in several formats: every third is NIfTI.
        suffix = "nii.gz" if number % 3 == 2 else "nrrd"
        scan, label = make_phantom(seed * 10_000 + number)
        place = folder / case_id
        place.mkdir(parents=True, exist_ok=True)
        image_file, label_file = place / f"image.{suffix}", place / f"label.{suffix}"
        sitk.WriteImage(scan, str(image_file), useCompression=True)
        if role != "unlabeled":
            sitk.WriteImage(label, str(label_file), useCompression=True)
        members[role].append(Case(case_id, image_file, None if role == "unlabeled" else label_file))
    cohort = Cohort(tuple(members["labeled"]), tuple(members["unlabeled"]), tuple(members["validation"]))
    save_cohort(cohort, folder / "cohort.json")
    return folder / "cohort.json"


def _draw_anatomy(rng: np.random.Generator) -> _Anatomy:
    """Axes as in LPS: x to the left, y to the back, z to the head; origin in the middle of the field of view."""
    center = np.array([2.0, 4.0, 0.0]) + rng.normal(0, 3.0, 3)
    radii = np.array([24.0, 16.0, 19.0]) * rng.uniform(0.82, 1.2, 3)
    tilt = _rotation(rng.normal(0, 0.15, 3))

    def at(x: float, y: float, z: float, spread: float = 2.5) -> np.ndarray:
        return center + np.array([x, y, z]) * radii + rng.normal(0, spread, 3)

    veins = []
    for side in (-1.0, 1.0):
        for height in (-0.45, 0.5):
            start = at(0.6 * side, 0.4, height, 1.0)
            end = at(1.75 * side, 1.1, 1.5 * height)
            veins.append((start, end, float(rng.uniform(4.2, 6.8))))
    # The appendage: a chain of spheres that bends forward along the left side.
    appendage = []
    place, heading = at(0.75, -0.35, 0.35, 1.5), np.array([0.55, -0.8, 0.25])
    for step in range(5):
        appendage.append((place.copy(), float(rng.uniform(5.0, 7.5) * (1 - 0.11 * step))))
        heading = heading + rng.normal(0, 0.25, 3)
        place = place + 5.0 * heading / np.linalg.norm(heading)
    neighbors = (
        # Descending aorta, behind; ascending aorta and pulmonary artery, in front; right atrium; left ventricle.
        (at(0.9, 2.0, -3.0), at(0.8, 1.95, 3.0), float(rng.uniform(9.0, 12.0))),
        (at(-0.25, -1.9, -0.2), at(-0.35, -2.0, 3.0), float(rng.uniform(11.0, 14.0))),
        (at(0.5, -1.9, 1.1), at(0.2, -0.6, 2.0), float(rng.uniform(8.0, 10.5))),
        (at(-1.75, -0.9, -0.9), at(-1.8, -0.8, 0.6), float(rng.uniform(14.0, 18.0))),
        (at(0.9, -1.9, -1.6), at(1.5, -2.6, -2.6), float(rng.uniform(16.0, 20.0))),
    )
    scars = tuple(center + rng.normal(0, 0.7, 3) * radii + rng.normal(0, 1.0, 3) for _ in range(3))
    return _Anatomy(center, radii, tilt, tuple(veins), tuple(appendage), neighbors, scars)


def _intensities(
    anatomy: _Anatomy, points: np.ndarray, atrium: np.ndarray, rng: np.random.Generator, spacing: np.ndarray
) -> np.ndarray:
    """int16 voxels (x, y, z)."""
    elsewhere = anatomy.blood_elsewhere(points)
    texture = _smooth_noise(points.shape[:3], rng, 8.0 / spacing)
    scan = np.full(atrium.shape, _MUSCLE)
    scan[np.minimum(atrium, elsewhere) > 6.0 + 3.0 * texture] = _FAT
    lungs = np.abs(points[..., 0]) > 42.0 + 6.0 * texture - 0.1 * points[..., 1]
    scan[lungs & (np.minimum(atrium, elsewhere) > 2.0)] = _LUNG
    # A thin wall around each blood pool keeps neighbors apart; the blood has nearly one intensity everywhere.
    scan[(elsewhere <= 0) & (atrium > 1.8)] = _BLOOD * rng.uniform(0.93, 1.07)
    scan[atrium <= 0] = _BLOOD
    for scar in anatomy.scars:
        near = np.linalg.norm(points - scar, axis=-1) < 11.0
        scan[near & (atrium > 0) & (atrium <= 2.0)] = _SCAR
    scan *= 1.0 + 0.06 * _smooth_noise(scan.shape, rng, 3.0 / spacing)
    scan = ndimage.gaussian_filter(scan, 0.9 / spacing)
    scan *= np.exp(0.25 * _smooth_noise(scan.shape, rng, 40.0 / spacing)) * rng.uniform(0.4, 1.6)
    # Magnitudes of a complex signal: noise is Rician.
    level = 0.06 * scan.max() * rng.uniform(0.6, 1.3)
    real, imaginary = rng.normal(0, level, scan.shape), rng.normal(0, level, scan.shape)
    return np.hypot(scan + real, imaginary).clip(0, 32767).astype(np.int16)


def _grid(header: str, rng: np.random.Generator) -> Grid:
    """A grid that covers the field of view."""
    spacing = np.array([1.25, 1.25, 2.5]) if header == "anisotropic" else np.array([1.6, 1.6, 1.6])
    direction = np.eye(3)
    if header == "oblique":
        direction = _rotation(rng.uniform(-0.3, 0.3, 3))
    elif header == "permuted":
        direction = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    elif header == "flipped":
        direction = np.diag([-1.0, -1.0, 1.0])
    extent = np.abs(direction.T @ _EXTENT) if header == "permuted" else _EXTENT
    size = np.round(extent / spacing).astype(int)
    shift = rng.uniform(-40, 40, 3)
    origin = shift - direction @ ((size - 1) * spacing / 2)
    # The anatomy lies around the middle of the field of view, wherever the scanner's origin is: see _points.
    return Grid(
        tuple(int(n) for n in size),  # type: ignore[arg-type]
        tuple(float(s) for s in spacing),  # type: ignore[arg-type]
        tuple(float(o) for o in origin),  # type: ignore[arg-type]
        tuple(float(d) for d in direction.ravel()),
    )


def _points(grid: Grid) -> np.ndarray:
    """Place of each voxel (x, y, z, 3) in mm from the middle of the field of view, along the patient's axes."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.size], indexing="ij"), axis=-1)
    centered = (index - (np.array(grid.size) - 1) / 2) * np.array(grid.spacing_mm)
    return centered @ np.array(grid.direction).reshape(3, 3).T


def _smooth_noise(shape: tuple[int, ...], rng: np.random.Generator, width_voxels: np.ndarray) -> np.ndarray:
    """Noise without detail finer than the width, of unit variance."""
    coarse = np.maximum(np.ceil(np.array(shape) / np.maximum(width_voxels, 1.0)), 2).astype(int) + 3
    fine = ndimage.zoom(rng.standard_normal(coarse), (np.array(shape) + 2) / coarse, order=3)
    fine = fine[tuple(slice(0, n) for n in shape)]
    return (fine - fine.mean()) / fine.std()


def _rotation(angles: np.ndarray) -> np.ndarray:
    transform = sitk.Euler3DTransform((0.0, 0.0, 0.0), *[float(a) for a in angles])
    return np.array(transform.GetMatrix()).reshape(3, 3)


def _ellipsoid(points: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """A distance that is exact to first order at the surface."""
    scaled = np.linalg.norm(points / radii, axis=-1)
    gradient = np.linalg.norm(points / radii**2, axis=-1)
    return scaled * (scaled - 1.0) / np.maximum(gradient, 1e-9)


def _tube(points: np.ndarray, start: np.ndarray, end: np.ndarray, radius: float) -> np.ndarray:
    along = end - start
    share = np.clip((points - start) @ along / (along @ along), 0.0, 1.0)
    return np.linalg.norm(points - start - share[..., None] * along, axis=-1) - radius


def _smooth_union(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    blend = np.clip(0.5 + 0.5 * (b - a) / width, 0.0, 1.0)
    return b + (a - b) * blend - width * blend * (1.0 - blend)
