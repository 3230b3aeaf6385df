"""Reads scans, and labels on their scans' grids, from files."""

from __future__ import annotations

import hashlib
import math
from itertools import product
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.image_files import read_image, three_dimensional
from LASegColearnLib.label_masks import read_mask
from LASegColearnLib.scan_names import stem

# Corners of two grids count as equal if they differ by less than this share of a voxel: headers are rounded.
_TOLERANCE_VOXELS = 0.01
# Larger than any scanner's, in mm: the side of a voxel, and the sides of a scan in ascending order (a whole body).
_LARGEST_SPACING = 25
_LARGEST_SIDES = (1000, 1000, 2000)
# Less than the longest side in mm of any scan, even of a mouse, but more than that of a patient given in meters.
_SMALLEST_LONGEST_SIDE = 5
# Smallest side of a voxel in mm: that of an electron microscope.
_SMALLEST_SPACING = 1e-4
# If a smaller share of the label lies inside its scan, they probably do not belong together.
_LEAST_SHARE_INSIDE = 0.5
_REMEDY_APART = "Check that scan and label are of the same patient, and that neither lies under a transform."


def read_scan(path: Path, case: str | None = None) -> sitk.Image:
    """Read a 3D scan as float32.

    Parameters
    ----------
    path
        NRRD, NIfTI or MetaImage; any orientation, spacing and scalar type.
    case
        Id to name in messages; the file's stem by default.

    Raises
    ------
    InputError
        If the file is missing, unreadable, truncated or not 3D, has colors, is larger than any scanner's, contains NaN
        or infinity, or has only one or two different values.
    """
    name = case or stem(path)
    image = three_dimensional(read_image(path, name, "scan"), name, "scan")
    _refuse_implausible_extent(image, name)
    image = sitk.Cast(image, sitk.sitkFloat32)
    voxels = sitk.GetArrayViewFromImage(image)
    low, high = float(voxels.min()), float(voxels.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError(
            Problem(name, "Wanted a number in every voxel of the scan, found NaN or infinity.", "Export it again.")
        )
    if low == high:
        raise InputError(
            Problem(name, f"The scan is constant: every voxel is {low:g}.", "Check that this is the right file.")
        )
    if ((voxels == low) | (voxels == high)).all():
        raise InputError(Problem(name, "The scan has two values only, as a label has.", "Give the scan itself."))
    return image


def read_label(
    path: Path,
    segment: str | None,
    reference: sitk.Image,
    case: str | None = None,
    *,
    may_be_empty: bool = False,
) -> tuple[sitk.Image, list[str]]:
    """Read a label and resample it to its scan's grid.

    Parameters
    ----------
    path
        A label map (0 and one other value) or a `.seg.nrrd`.
    segment
        Name of the segment, or value in the label map, if there are several; None for the only one.
    reference
        The scan it belongs to.
    case
        Id to name in messages; the file's stem by default.
    may_be_empty
        Accept an empty mask, for predictions.

    Returns
    -------
    tuple
        uint8 0/1 on the reference's grid, and sentences for the user about it.

    Raises
    ------
    InputError
        If the file is missing or unreadable, the segment is not clear, the label is empty, has several values, does not
        overlap the scan, or (unless ``may_be_empty``) lies mostly outside of it.
    """
    name = case or stem(path)
    mask, is_segmentation = read_mask(path, segment, name)
    if not np.any(sitk.GetArrayViewFromImage(mask)):
        if may_be_empty:
            nothing = sitk.Image(reference.GetSize(), sitk.sitkUInt8)
            nothing.CopyInformation(reference)
            return nothing, []
        raise _empty(name)
    if same_grid(mask, reference):
        mask.CopyInformation(reference)
        return mask, []
    inside = _share_inside(mask, reference)
    resampled = sitk.Resample(mask, reference, sitk.Transform(), sitk.sitkNearestNeighbor, 0, sitk.sitkUInt8)
    if inside == 0 or not np.any(sitk.GetArrayViewFromImage(resampled)):
        raise InputError(
            Problem(
                name,
                "Wanted a label that lies on its scan, found one that does not overlap it.",
                _REMEDY_APART,
            )
        )
    if inside < _LEAST_SHARE_INSIDE and not may_be_empty:
        outside = round(100 * (1 - inside))
        raise InputError(
            Problem(
                name,
                f"Wanted a label that lies on its scan, found one of which {outside} % lies outside.",
                _REMEDY_APART,
            )
        )
    warnings = []
    if not (is_segmentation and _inside_grid_of(mask, reference)):
        warnings.append(f"{name}: the label is on another grid than its scan and was resampled onto it.")
    if inside < 1:
        outside = max(1, round(100 * (1 - inside)))
        warnings.append(f"{name}: {outside} % of the label lies outside its scan and was left out.")
    return resampled, warnings


def check_label(path: Path, segment: str | None, case: str | None = None) -> None:
    """Check a label as far as possible without its scan; for parameters and errors see :func:`read_label`."""
    name = case or stem(path)
    mask, _ = read_mask(path, segment, name)
    if not np.any(sitk.GetArrayViewFromImage(mask)):
        raise _empty(name)


def same_grid(a: sitk.Image, b: sitk.Image) -> bool:
    """Whether two images have the same voxels in the patient: their corners differ by at most 0.01 voxel."""
    if a.GetSize() != b.GetSize():
        return False
    apart = np.abs(_corners(a) - _corners(b)).max()
    return bool(apart <= _TOLERANCE_VOXELS * min(b.GetSpacing()))


def content_hash(image: sitk.Image) -> str:
    """SHA-256 of a scan's voxels (as float32, in canonical orientation), size and spacing.

    It does not depend on the file format, the scalar type or the axis order.
    """
    canonical = sitk.DICOMOrient(image, "LPS")
    # Adding 0 turns -0, which some formats keep, into 0.
    voxels = sitk.GetArrayViewFromImage(canonical).astype(np.float32) + np.float32(0)
    digest = hashlib.sha256()
    # In NRRD the spacing is the length of an axis vector: 0.78125 becomes 0.78124999, which would round differently.
    spacing = [round(round(s, 6), 4) for s in canonical.GetSpacing()]
    digest.update(repr((canonical.GetSize(), spacing)).encode())
    digest.update(voxels.tobytes())
    return digest.hexdigest()


def _refuse_implausible_extent(scan: sitk.Image, name: str) -> None:
    """Raise :class:`InputError` if the header's lengths are probably not in mm.

    At the networks' spacing such a scan would exceed any memory, or be a single voxel.
    """
    spacing = scan.GetSpacing()
    if not all(map(math.isfinite, (*scan.GetOrigin(), *scan.GetDirection()))):
        cause = "Its header gives no valid position or direction of its voxels (NaN or infinite)."
        raise InputError(Problem(name, cause, "Export it again."))
    sides = [count * step for count, step in zip(scan.GetSize(), spacing, strict=True)]
    too_long = any(side > most for side, most in zip(sorted(sides), _LARGEST_SIDES, strict=True))
    too_short = min(spacing) < _SMALLEST_SPACING or max(sides) < _SMALLEST_LONGEST_SIDE
    if too_long or too_short or max(spacing) > _LARGEST_SPACING:
        found, voxel = (" x ".join(f"{length:g}" for length in lengths) for lengths in (sides, spacing))
        raise InputError(
            Problem(
                name,
                f"Wanted a scan as scanners make them, found one of {found} mm with voxels of {voxel} mm.",
                "Correct the spacing in its header, which counts in mm, or export it again.",
            )
        )


def _empty(name: str) -> InputError:
    return InputError(Problem(name, "The label is empty.", "Outline the left atrium, or give the case as unlabeled."))


def _share_inside(mask: sitk.Image, reference: sitk.Image) -> float:
    """Share of the mask's foreground voxels whose centers lie in the reference's box."""
    index = np.argwhere(sitk.GetArrayViewFromImage(mask))[:, ::-1].astype(float)
    # The two headers give an affine map from the mask's voxels to the reference's.
    to_reference = np.linalg.inv(_axes(reference))
    points = index @ _axes(mask).T + (np.array(mask.GetOrigin()) - reference.GetOrigin())
    there = points @ to_reference.T
    end = np.array(reference.GetSize()) - 0.5
    return float(((there >= -0.5 - _TOLERANCE_VOXELS) & (there <= end + _TOLERANCE_VOXELS)).all(axis=1).mean())


def _axes(image: sitk.Image) -> np.ndarray:
    """Matrix (3, 3) whose columns are the steps in mm (LPS) along the voxel axes."""
    return np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()


def _corners(image: sitk.Image) -> np.ndarray:
    ends = [(0, size - 1) for size in image.GetSize()]
    return np.array([image.TransformIndexToPhysicalPoint(corner) for corner in product(*ends)])


def _inside_grid_of(part: sitk.Image, whole: sitk.Image) -> bool:
    """Whether the grid of ``part`` is a box in that of ``whole``, as when Slicer crops a segmentation to its extent."""
    if not np.allclose(part.GetSpacing(), whole.GetSpacing(), rtol=1e-4):
        return False
    index = np.array([whole.TransformPhysicalPointToContinuousIndex(corner.tolist()) for corner in _corners(part)])
    on_voxels = np.abs(index - index.round()).max() <= _TOLERANCE_VOXELS
    return bool(on_voxels and index.min() > -0.5 and (index.max(0) < np.array(whole.GetSize()) - 0.5).all())
