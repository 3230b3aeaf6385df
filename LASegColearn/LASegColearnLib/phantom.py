"""Synthetic scans that roughly resemble late-gadolinium MR of the left atrium, for tests and demos without data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from LASegColearnLib.cohort import Case, Cohort, save_cohort
from LASegColearnLib.itk_names import itk_name
from LASegColearnLib.preprocessing import Grid, to_image
from LASegColearnLib.run_folder import replacing

# The field of view in the patient, mm: left-right, front-back, feet-head.
_EXTENT = np.array([116.0, 96.0, 80.0])
_BLOOD, _MUSCLE, _FAT, _LUNG, _SCAR = 620.0, 300.0, 420.0, 60.0, 900.0
_HEADERS = ("plain", "anisotropic", "oblique", "permuted", "flipped")


# Thickness in mm of the wall between the atrium and its neighbors; at the mitral valve there is no visible wall.
_WALL_MM = 1.8
_Vector = np.ndarray
_Tube = tuple[np.ndarray, np.ndarray, float]


class _Points:
    """Positions in the patient in mm from the center of the field of view, along the axes of LPS.

    They are stored axis by axis in float32, which takes a third of the time of arrays of vectors.
    """

    def __init__(self, grid: Grid) -> None:
        direction = np.array(grid.direction).reshape(3, 3)
        steps = [
            (np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2)) * np.float32(spacing)
            for n, spacing in zip(grid.size, grid.spacing_mm, strict=True)
        ]
        along = np.meshgrid(*steps, indexing="ij", sparse=True)
        self.axes: list[np.ndarray] = [
            sum(np.float32(direction[row, column]) * along[column] for column in range(3)) for row in range(3)
        ]

    def dot(self, vector: _Vector) -> np.ndarray:
        x, y, z = (np.float32(v) for v in vector)
        return self.axes[0] * x + self.axes[1] * y + self.axes[2] * z

    def squared_distance(self, place: _Vector) -> np.ndarray:
        x, y, z = (axis - np.float32(p) for axis, p in zip(self.axes, place, strict=True))
        return x * x + y * y + z * z

    def sphere(self, center: _Vector, radius: float) -> np.ndarray:
        return np.sqrt(self.squared_distance(center)) - np.float32(radius)

    def tube(self, start: _Vector, end: _Vector, radius: float) -> np.ndarray:
        along = end - start
        share = np.clip((self.dot(along) - np.float32(start @ along)) / np.float32(along @ along), 0, 1)
        x, y, z = (
            axis - np.float32(s) - share * np.float32(a) for axis, s, a in zip(self.axes, start, along, strict=True)
        )
        return np.sqrt(x * x + y * y + z * z) - np.float32(radius)

    def ellipsoid(self, center: _Vector, radii: _Vector, tilt: np.ndarray) -> np.ndarray:
        """Signed distance to an ellipsoid, exact to first order at the surface."""
        own = [(self.dot(tilt[:, i]) - np.float32(center @ tilt[:, i])) / np.float32(radii[i]) for i in range(3)]
        scaled = np.sqrt(own[0] ** 2 + own[1] ** 2 + own[2] ** 2)
        gradient = np.sqrt(sum((share / np.float32(radius)) ** 2 for share, radius in zip(own, radii, strict=True)))
        return scaled * (scaled - 1) / np.maximum(gradient, np.float32(1e-6))


@dataclass(frozen=True)
class _Waves:
    """A smooth random function of the position in the patient, with about unit variance."""

    waves: np.ndarray
    phases: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, length_mm: float, count: int = 7) -> _Waves:
        directions = rng.normal(0, 1, (count, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths = length_mm * rng.uniform(0.7, 1.4, (count, 1))
        return cls(2 * np.pi * directions / lengths, rng.uniform(0, 2 * np.pi, count))

    def __call__(self, points: _Points) -> np.ndarray:
        total = sum(np.cos(points.dot(w) + np.float32(p)) for w, p in zip(self.waves, self.phases, strict=True))
        return total * np.float32(np.sqrt(2 / len(self.phases)))


@dataclass(frozen=True)
class _Anatomy:
    """Shapes and tissue in the patient. Distances are signed, in mm, negative inside."""

    center: _Vector
    radii: _Vector
    tilt: np.ndarray
    veins: tuple[_Tube, ...]
    appendage: tuple[tuple[_Vector, float], ...]
    neighbors: tuple[_Tube, ...]
    ventricle: _Tube
    valve: tuple[_Vector, float]
    scars: tuple[_Vector, ...]
    edges: _Waves
    coil: _Waves

    def atrium(self, points: _Points) -> np.ndarray:
        joined = points.ellipsoid(self.center, self.radii, self.tilt)
        for vein in self.veins:
            joined = _smooth_union(joined, points.tube(*vein), 3.0)
        for lobe in self.appendage:
            joined = _smooth_union(joined, points.sphere(*lobe), 3.0)
        return joined

    def blood_elsewhere(self, points: _Points) -> np.ndarray:
        return np.min([points.tube(*vessel) for vessel in (*self.neighbors, self.ventricle)], axis=0)


def make_phantom(seed: int, header: str | None = None) -> tuple[sitk.Image, sitk.Image]:
    """A synthetic scan and its label.

    An atrial body with four pulmonary veins and an appendage, open to a ventricle at the mitral valve, beside vessels
    and chambers of the same intensity, lungs, fat and muscle; with late enhancement in the wall, blur, a bias field and
    noise. The anatomy and its position in the patient depend only on the seed.

    Parameters
    ----------
    seed
        Random seed.
    header
        Geometry of the voxels: ``plain`` (1.6 mm), ``anisotropic`` (1.25×1.25×2.5 mm), ``oblique``, ``permuted`` or
        ``flipped``; chosen by the seed if not given.

    Returns
    -------
    tuple of SimpleITK.Image
        int16 scan and uint8 0/1 label on the same grid.
    """
    anatomy = _draw_anatomy(np.random.default_rng([seed, 0]))
    # A separate generator, so that a seed gives the same anatomy with every header.
    header_rng = np.random.default_rng([seed, 1])
    drawn = str(header_rng.choice(_HEADERS))
    grid = _grid(header or drawn, header_rng)
    points = _Points(grid)
    atrium = anatomy.atrium(points)
    scan = _intensities(anatomy, points, atrium, np.random.default_rng([seed, 2]), np.array(grid.spacing_mm))
    return to_image(scan, grid), to_image((atrium <= 0).astype(np.uint8), grid)


def write_phantom_cohort(
    folder: Path, labeled: int = 4, unlabeled: int = 12, validation: int = 4, seed: int = 0
) -> Path:
    """Write phantoms, each into its own folder, with labels only for labeled and validation cases, and a cohort file.

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
        image_file, label_file = place / f"image.{suffix}", place / f"label.{suffix}"
        _write(scan, image_file)
        if role != "unlabeled":
            _write(label, label_file)
        members[role].append(Case(case_id, image_file, None if role == "unlabeled" else label_file))
    cohort = Cohort(tuple(members["labeled"]), tuple(members["unlabeled"]), tuple(members["validation"]))
    save_cohort(cohort, folder / "cohort.json")
    return folder / "cohort.json"


def _write(image: sitk.Image, path: Path) -> None:
    with replacing(path) as temporary:
        sitk.WriteImage(image, itk_name(temporary), useCompression=True)


def _draw_anatomy(rng: np.random.Generator) -> _Anatomy:
    """Random anatomy in LPS: x to the left, y to the back, z to the head; origin at the center of the field of view."""
    center = np.array([2.0, 4.0, 0.0]) + rng.normal(0, 3.0, 3)
    radii = np.array([24.0, 16.0, 19.0]) * rng.uniform(0.82, 1.2, 3)
    tilt = _rotation(rng.normal(0, 0.15, 3))

    def at(x: float, y: float, z: float, spread: float = 2.5) -> _Vector:
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
        # Descending aorta, behind; ascending aorta and pulmonary artery, in front; right atrium.
        (at(0.9, 2.0, -3.0), at(0.8, 1.95, 3.0), float(rng.uniform(9.0, 12.0))),
        (at(-0.25, -1.9, -0.2), at(-0.35, -2.0, 3.0), float(rng.uniform(11.0, 14.0))),
        (at(0.5, -1.9, 1.1), at(0.2, -0.6, 2.0), float(rng.uniform(8.0, 10.5))),
        (at(-1.75, -0.9, -0.9), at(-1.8, -0.8, 0.6), float(rng.uniform(14.0, 18.0))),
    )
    ventricle, valve = _draw_ventricle(rng, center, radii, tilt)
    scars = tuple(center + rng.normal(0, 0.7, 3) * radii + rng.normal(0, 1.0, 3) for _ in range(3))
    edges, coil = _Waves.draw(rng, 22.0), _Waves.draw(rng, 110.0, 4)
    return _Anatomy(
        center, radii, tilt, tuple(veins), tuple(appendage), neighbors, ventricle, valve, scars, edges, coil
    )


def _draw_ventricle(
    rng: np.random.Generator, center: _Vector, radii: _Vector, tilt: np.ndarray
) -> tuple[_Tube, tuple[_Vector, float]]:
    """The left ventricle, in front, below and to the left, and the mitral valve where it touches the atrium."""
    outward = np.array([0.45, -0.62, -0.64]) + rng.normal(0, 0.08, 3)
    outward /= np.linalg.norm(outward)
    valve = center + outward / np.linalg.norm((outward @ tilt) / radii)
    radius = float(rng.uniform(16.0, 20.0))
    apex = valve + 60.0 * (outward + np.array([0.35, -0.1, -0.1]))
    # The ventricle overlaps the atrium by 2 mm, but the overlap stays atrium: the label ends at the valve's plane, as
    # in manual labels.
    return (valve + (radius - 2.0) * outward, apex, radius), (valve, float(rng.uniform(11.0, 14.0)))


def _intensities(
    anatomy: _Anatomy, points: _Points, atrium: np.ndarray, rng: np.random.Generator, spacing: np.ndarray
) -> np.ndarray:
    """int16 voxels (x, y, z)."""
    elsewhere = anatomy.blood_elsewhere(points)
    nearest = np.minimum(atrium, elsewhere)
    edges = anatomy.edges(points)
    scan = np.full(atrium.shape, _MUSCLE, np.float32)
    scan[nearest > 6.0 + 3.0 * edges] = _FAT
    lungs = np.abs(points.axes[0]) > 42.0 + 4.0 * edges - 0.1 * points.axes[1]
    scan[lungs & (nearest > 2.0)] = _LUNG
    # Blood has nearly the same intensity everywhere; only a thin wall separates the chambers.
    wall = (atrium > 0) & (atrium <= _WALL_MM) & (points.sphere(*anatomy.valve) > 0)
    scan[(elsewhere <= 0) & ~wall] = _BLOOD * rng.uniform(0.93, 1.07)
    scan[atrium <= 0] = _BLOOD
    for scar in anatomy.scars:
        scan[wall & (points.sphere(scar, 11.0) < 0)] = _SCAR
    scan *= 1 + 0.06 * _texture(scan.shape, rng, 1.3 / spacing)
    scan = ndimage.gaussian_filter(scan, 0.9 / spacing, truncate=3.0)
    scan *= np.exp(0.25 * anatomy.coil(points)) * np.float32(rng.uniform(0.4, 1.6))
    # The scan is the magnitude of a complex signal, so its noise is Rician.
    level = np.float32(0.06 * scan.max() * rng.uniform(0.6, 1.3))
    real, imaginary = (level * rng.standard_normal(scan.shape, np.float32) for _ in range(2))
    return np.hypot(scan + real, imaginary).clip(0, 32767).astype(np.int16)


def _grid(header: str, rng: np.random.Generator) -> Grid:
    """A grid that covers the field of view."""
    spacing = np.array([1.25, 1.25, 2.5]) if header == "anisotropic" else np.array([1.6, 1.6, 1.6])
    # The patient's position in the scanner; drawn before everything that depends on the header.
    middle = rng.uniform(-40, 40, 3)
    direction = np.eye(3)
    if header == "oblique":
        direction = _rotation(rng.uniform(-0.3, 0.3, 3))
    elif header == "permuted":
        direction = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    elif header == "flipped":
        direction = np.diag([-1.0, -1.0, 1.0])
    extent = np.abs(direction.T @ _EXTENT) if header == "permuted" else _EXTENT
    size = np.round(extent / spacing).astype(int)
    origin = middle - direction @ ((size - 1) * spacing / 2)
    return Grid(
        tuple(int(n) for n in size),  # type: ignore[arg-type]
        tuple(float(s) for s in spacing),  # type: ignore[arg-type]
        tuple(float(o) for o in origin),  # type: ignore[arg-type]
        tuple(float(d) for d in direction.ravel()),
    )


def _texture(shape: Sequence[int], rng: np.random.Generator, width_voxels: np.ndarray) -> np.ndarray:
    """Noise of unit variance, smoothed with the given width."""
    fine = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), width_voxels, mode="wrap", truncate=3.0)
    return fine / fine.std()


def _rotation(angles: np.ndarray) -> np.ndarray:
    transform = sitk.Euler3DTransform((0.0, 0.0, 0.0), *[float(a) for a in angles])
    return np.array(transform.GetMatrix()).reshape(3, 3)


def _smooth_union(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    blend = np.clip(0.5 + 0.5 * (b - a) / width, 0.0, 1.0)
    return b + (a - b) * blend - width * blend * (1.0 - blend)
