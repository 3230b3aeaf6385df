"""Reads image files with ITK, explains its errors, and refuses damaged files that ITK would accept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LASegColearnLib.errors import InputError, Problem, is_out_of_memory, not_readable
from LASegColearnLib.itk_names import image_reader
from LASegColearnLib.scan_names import SUFFIXES
from LASegColearnLib.voxel_files import (
    beginning,
    is_cut_short,
    refuse_voxels_elsewhere,
    refuse_without_voxels,
    voxel_files,
)

# Largest cosine of the angle between two axes: headers of oblique scans are rounded.
_TOLERANCE_AXES = 1e-3


def read_image(path: Path, name: str, what: str) -> sitk.Image:
    """Read an image of any dimension whose axes are orthogonal.

    Parameters
    ----------
    path
        NRRD, NIfTI or MetaImage.
    name, what
        Name of the case, and the kind of file (``scan`` or ``label``), for messages.

    Raises
    ------
    InputError
        If the file is missing, has another format, is damaged, truncated, sheared or too large for the memory, or if
        its header names a voxel file outside its folder.
    """
    _refuse_path(path, name, what)
    try:
        named = voxel_files(path, name, what)
    except OSError:
        raise not_readable(name) from None
    refuse_voxels_elsewhere(path, named, name, what)
    reader = image_reader(path)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        if not is_out_of_memory(error) and "orthonormal" not in str(error):
            refuse_without_voxels(path, named, name, what)
        raise _not_read(error, name, what) from None
    if path.name.lower().endswith((".nii", ".nii.gz")) and is_cut_short(path, reader):
        raise InputError(Problem(name, f"The {what}'s file is cut short.", "Export or copy it again."))
    # The reader itself refuses this only for NIfTI.
    if image.GetDimension() > 2 and _is_sheared(image):
        raise _sheared(name, what)
    return image


def _refuse_path(path: Path, name: str, what: str) -> None:
    """Raise :class:`InputError` unless the path is a readable file of a known format."""
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
        if is_file:
            beginning(path, 1)
    except OSError:
        raise not_readable(name) from None
    if is_folder:
        raise InputError(
            Problem(
                name,
                f"Wanted a {what}'s file, found the folder {path.name}.",
                "A DICOM series: load it in 3D Slicer and export it as NRRD, or convert it to NIfTI.",
            )
        )
    if not is_file:
        raise InputError(
            Problem(name, f"The {what}'s file is missing: {path.name}.", "Correct the path, or restore it.")
        )
    if not path.name.lower().endswith(SUFFIXES):
        known = ", ".join(SUFFIXES)
        raise InputError(
            Problem(name, f"Wanted a {what} as one of {known}, found {path.name}.", "Export it in such a format.")
        )


def _not_read(error: RuntimeError, name: str, what: str) -> InputError:
    """The message for an error of ITK's reader."""
    if is_out_of_memory(error):
        cause = f"The {what} does not fit into this computer's memory, or its header is damaged."
        return InputError(Problem(name, cause, "Export it again, close other programs, or crop it."))
    if "orthonormal" in str(error):
        return _sheared(name, what)
    cause = f"The {what}'s file cannot be read: damaged or cut short."
    return InputError(Problem(name, cause, "Export or copy it again."))


def three_dimensional(image: sitk.Image, name: str, what: str) -> sitk.Image:
    """The image as 3D, without a fourth axis of length 1.

    Raises
    ------
    InputError
        If it is not 3D, or has complex numbers or several values per voxel.
    """
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if image.GetDimension() != 3:
        raise InputError(
            Problem(name, f"Wanted a 3D {what}, found {image.GetDimension()}D.", "Export one volume of it by itself.")
        )
    if "complex" in image.GetPixelIDTypeAsString():
        raise InputError(
            Problem(name, f"Wanted a {what} of real numbers, found complex ones.", "Export its magnitude.")
        )
    if image.GetNumberOfComponentsPerPixel() != 1:
        count = image.GetNumberOfComponentsPerPixel()
        raise InputError(
            Problem(
                name,
                f"Wanted a {what} with one value a voxel, found {count} (colors or several volumes).",
                "Export one volume of it, as gray values.",
            )
        )
    return image


def _is_sheared(image: sitk.Image) -> bool:
    axes = np.array(image.GetDirection()).reshape(image.GetDimension(), -1)[:3, :3]
    # In headers with few digits the axes are not exactly of length 1.
    axes = axes / np.linalg.norm(axes, axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() > _TOLERANCE_AXES)


def _sheared(name: str, what: str) -> InputError:
    cause = f"Wanted a {what} with axes at right angles, found a sheared one."
    return InputError(Problem(name, cause, "Resample it, for example with Resample Scalar Volume in 3D Slicer."))
