"""Converts a scan from its own grid to the networks' input, and results back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Grid:
    """The positions of the voxels of an array (x, y, z) in the patient, in LPS and mm."""

    size: tuple[int, int, int]
    spacing_mm: Vector
    origin: Vector
    direction: tuple[float, ...]

    @classmethod
    def of(cls, image: sitk.Image) -> Grid:
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())


@dataclass(frozen=True)
class PreparedScan:
    """A scan prepared for the networks.

    Attributes
    ----------
    array
        float32 (x, y, z), with zero mean and unit variance over the whole scan.
    grid
        The positions of its voxels.
    """

    array: np.ndarray
    grid: Grid


def to_array(image: sitk.Image) -> np.ndarray:
    """The voxels of ``image`` in (x, y, z) order; a copy."""
    # Not ascontiguousarray: for an image with one voxel along two axes it returns the view itself, which is read-only.
    return np.array(sitk.GetArrayViewFromImage(image).transpose(2, 1, 0), order="C")


def to_image(array: np.ndarray, grid: Grid) -> sitk.Image:
    """The reverse of :func:`to_array`."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    return image


def working_grid(scan: sitk.Image, spacing_mm: Vector, region_mm: Vector | None = None) -> Grid:
    """The grid at ``spacing_mm`` that covers the same box as ``scan`` in canonical (LPS) orientation.

    With ``region_mm`` it covers a box of that size around the scan's center, along axes where the scan is larger. The
    box ends at the outer faces of the voxels. The number of voxels is rounded up, so that nothing is cut off, and the
    surplus is divided between both sides.
    """
    canonical = sitk.DICOMOrient(_without_voxels(scan), "LPS")
    old_size = np.array(canonical.GetSize())
    old_spacing = np.array(canonical.GetSpacing())
    new_spacing = np.array(spacing_mm)
    extent = old_size * old_spacing
    wanted = extent if region_mm is None else np.minimum(extent, np.array(region_mm))
    size = np.maximum(np.ceil(wanted / new_spacing - 1e-3), 1).astype(int)
    first = (new_spacing - old_spacing) / 2 - (size * new_spacing - extent) / 2
    direction = np.array(canonical.GetDirection()).reshape(3, 3)
    origin = np.array(canonical.GetOrigin()) + direction @ first
    x, y, z = (int(n) for n in size)
    return Grid((x, y, z), tuple(map(float, spacing_mm)), tuple(map(float, origin)), canonical.GetDirection())  # type: ignore[arg-type]


def prepare_scan(scan: sitk.Image, spacing_mm: Vector, region_mm: Vector | None = None) -> PreparedScan:
    """Orient, resample and normalize ``scan`` (3D, any scalar type, any orientation).

    The scan is smoothed before downsampling to avoid aliasing, interpolated linearly, and continued by its edge values
    outside. It is normalized to zero mean and unit variance as in the paper's section III, over the region if there is
    one.
    """
    grid = working_grid(scan, spacing_mm, region_mm)
    array = to_array(_resample(_smoothed(sitk.Cast(scan, sitk.sitkFloat32), spacing_mm), grid, extend_edge=True))
    deviation = float(array.std(dtype=np.float64))
    array -= np.float32(array.mean(dtype=np.float64))
    if deviation > 0:
        array /= np.float32(deviation)
    return PreparedScan(array, grid)


def prepare_label(label: sitk.Image, grid: Grid) -> np.ndarray:
    """Resample a 0/1 label to ``grid``: uint8 (x, y, z).

    A voxel is labeled if at least half of it is; the share is found by smoothing and interpolating the label as float.
    """
    soft = _smoothed(sitk.Cast(label, sitk.sitkFloat32), grid.spacing_mm)
    return (to_array(_resample(soft, grid)) >= 0.5).astype(np.uint8)


def restore_to_scan(array: np.ndarray, grid: Grid, scan: sitk.Image) -> sitk.Image:
    """Resample a float array (x, y, z) on ``grid`` to the scan's own grid: linear, float32, 0 outside ``grid``."""
    image = to_image(array.astype(np.float32, copy=False), grid)
    return _resample(image, Grid.of(scan))


def _resample(image: sitk.Image, grid: Grid, *, extend_edge: bool = False) -> sitk.Image:
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(grid.size)
    resampler.SetOutputSpacing(grid.spacing_mm)
    resampler.SetOutputOrigin(grid.origin)
    resampler.SetOutputDirection(grid.direction)
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.SetUseNearestNeighborExtrapolator(extend_edge)
    return resampler.Execute(image)


def _smoothed(image: sitk.Image, spacing_mm: Vector) -> sitk.Image:
    """Blur along the axes that become coarser; the variance is the difference of those of the two voxel sizes."""
    canonical_axis = np.abs(np.array(image.GetDirection()).reshape(3, 3)).argmax(axis=0)
    target = np.array(spacing_mm)[canonical_axis]
    own = np.array(image.GetSpacing())
    variance = np.clip((target**2 - own**2) / 12.0, 0.0, None)
    if not variance.any():
        return image
    # The filter needs a variance above 0 on each axis; 1e-6 mm² leaves an axis unchanged.
    return sitk.DiscreteGaussian(image, variance=[float(max(v, 1e-6)) for v in variance], useImageSpacing=True)


def _without_voxels(scan: sitk.Image) -> sitk.Image:
    """An image of one byte per voxel with the scan's header, to find its canonical orientation."""
    header = sitk.Image(scan.GetSize(), sitk.sitkUInt8)
    header.CopyInformation(scan)
    return header
