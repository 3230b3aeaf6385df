"""Reading scans and labels from the files people have."""

from __future__ import annotations

import gzip
import hashlib
import math
import mmap
import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LASegColearnLib.errors import InputError, Problem, is_out_of_memory, not_readable
from LASegColearnLib.itk_names import image_reader
from LASegColearnLib.scan_names import SUFFIXES, stem

# Corners of two grids that differ by less than this share of a voxel are the same: headers round.
_TOLERANCE_VOXELS = 0.01
# Cosine of the angle between two axes; headers of oblique scans round.
_TOLERANCE_AXES = 1e-3
_CHUNK_BYTES = 1 << 20
# More than a scanner makes (mm): of a voxel, and of a scan's longest side, as of a whole body, and its other two.
_LARGEST_SPACING = 25
_LARGEST_SIDES = (1000, 1000, 2000)
# Less than the longest side of any scan (mm), also a mouse's; that of a patient's in meters.
_SMALLEST_LONGEST_SIDE = 5
# Of a voxel (mm): that of an electron microscope.
_SMALLEST_SPACING = 1e-4
_GZIP_BEGINS = b"\x1f\x8b"
# Of a label that lies further outside than this, header or scan are likely to be another's.
_LEAST_SHARE_INSIDE = 0.5
_REMEDY_APART = "Check that scan and label are of the same patient, and that neither lies under a transform."
# The line of a MetaImage or NRRD header that names the file with the voxels. MetaIO passes over blanks before it and
# over several separators. No second such word before them: each line is looked through once, whatever it repeats.
_VOXEL_FILE = re.compile(
    rb"(?:ElementDataFile(?:(?!ElementDataFile)[^=:\r\n])*[=:]|^[ \t\f\v]*data ?file[ \t]*:)[=: \t\f\v]*([^\r\n]+)",
    re.MULTILINE | re.IGNORECASE,
)


@dataclass(frozen=True)
class _Segment:
    """One segment of a `.seg.nrrd` header (Slicer: vtkMRMLSegmentationStorageNode)."""

    id: str
    name: str
    label_value: int
    layer: int


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
        If the file is missing, cannot be read or is cut short, is not 3D, has colors, is larger than any scanner's,
        holds NaN or infinity, or has one or two values only.
    """
    name = case or stem(path)
    image = _three_dimensional(_read(path, name, "scan"), name, "scan")
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
    """Read a label and bring it onto its scan's grid.

    Parameters
    ----------
    path
        A label map (0 and one other value) or a `.seg.nrrd`.
    segment
        Name of the segment, or value in the label map, where there are several; None for the only one.
    reference
        The scan it belongs to.
    case
        Id to name in messages; the file's stem by default.
    may_be_empty
        Accept an empty mask, as a prediction may be one.

    Returns
    -------
    tuple
        uint8 0/1 on the reference's grid, and what a person should know about it.

    Raises
    ------
    InputError
        If the file is missing or cannot be read, the segment cannot be told, the label is empty, has several values,
        does not overlap the scan, or (unless ``may_be_empty``) lies outside of it for the most part.
    """
    name = case or stem(path)
    mask, is_segmentation = _read_mask(path, segment, name)
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
    """Check what can be checked of a label without its scan; for parameters and errors see :func:`read_label`."""
    name = case or stem(path)
    mask, _ = _read_mask(path, segment, name)
    if not np.any(sitk.GetArrayViewFromImage(mask)):
        raise _empty(name)


def same_grid(a: sitk.Image, b: sitk.Image) -> bool:
    """Whether two images have the same voxels in the patient: corners closer than a hundredth of a voxel."""
    if a.GetSize() != b.GetSize():
        return False
    apart = np.abs(_corners(a) - _corners(b)).max()
    return bool(apart <= _TOLERANCE_VOXELS * min(b.GetSpacing()))


def content_hash(image: sitk.Image) -> str:
    """SHA-256 of a scan's voxels (as float32, in canonical orientation), size and spacing.

    The same for the same scan in another file format, scalar type or axis order.
    """
    canonical = sitk.DICOMOrient(image, "LPS")
    # Adding 0 makes -0 of one format equal to 0 of another.
    voxels = sitk.GetArrayViewFromImage(canonical).astype(np.float32) + np.float32(0)
    digest = hashlib.sha256()
    # NRRD gives spacing as the length of an axis: 0.78125 of another format is 0.78124999 there, and a tie at 4 places.
    spacing = [round(round(s, 6), 4) for s in canonical.GetSpacing()]
    digest.update(repr((canonical.GetSize(), spacing)).encode())
    digest.update(voxels.tobytes())
    return digest.hexdigest()


def _read(path: Path, name: str, what: str) -> sitk.Image:
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
        if is_file:
            _beginning(path, 1)
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
    try:
        voxel_files = _voxel_files(path, name, what)
    except OSError:
        raise not_readable(name) from None
    _refuse_voxels_elsewhere(path, voxel_files, name, what)
    reader = image_reader(path)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        if is_out_of_memory(error):
            cause = f"The {what} does not fit into this computer's memory, or its header is damaged."
            raise InputError(Problem(name, cause, "Export it again, close other programs, or crop it.")) from None
        if "orthonormal" in str(error):
            raise _sheared(name, what) from None
        _refuse_without_voxels(path, voxel_files, name, what)
        raise InputError(
            Problem(name, f"The {what}'s file cannot be read: damaged or cut short.", "Export or copy it again.")
        ) from None
    if path.name.lower().endswith((".nii", ".nii.gz")) and _is_cut_short(path, reader):
        raise InputError(Problem(name, f"The {what}'s file is cut short.", "Export or copy it again."))
    # Of NIfTI alone the reader refuses this by itself.
    if image.GetDimension() > 2 and _is_sheared(image):
        raise _sheared(name, what)
    return image


def _is_sheared(image: sitk.Image) -> bool:
    axes = np.array(image.GetDirection()).reshape(image.GetDimension(), -1)[:3, :3]
    # Headers with few digits have axes of other lengths than 1.
    axes = axes / np.linalg.norm(axes, axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() > _TOLERANCE_AXES)


def _sheared(name: str, what: str) -> InputError:
    cause = f"Wanted a {what} with axes at right angles, found a sheared one."
    return InputError(Problem(name, cause, "Resample it, for example with Resample Scalar Volume in 3D Slicer."))


def _beginning(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def _voxel_files(path: Path, name: str, what: str) -> list[str]:
    """The other files in which a MetaImage or NRRD header says its voxels are; none for a file that has its own.

    Raises
    ------
    InputError
        If the header is longer than what is looked at, and so might name others.
    """
    is_nrrd = path.name.lower().endswith((".nrrd", ".nhdr"))
    if not is_nrrd and not path.name.lower().endswith((".mha", ".mhd")):
        return []
    header = _beginning(path, _CHUNK_BYTES)
    is_whole = path.stat().st_size <= _CHUNK_BYTES
    if is_nrrd:
        # The reader ends a line at a carriage return too; voxels follow after an empty line.
        header, ended, _ = re.sub(rb"\r\n?", b"\n", header).partition(b"\n\n")
        is_whole = is_whole or bool(ended)
    names: list[str] = []
    listed = False
    for found in _VOXEL_FILE.finditer(header):
        named = found[1].decode(errors="replace").strip()
        # Both readers tell a list by these letters alone, and its files by the lines that follow, those of later lists
        # among them.
        if named.startswith("LIST") and not listed:
            listed = True
            lines = header[found.end() :].decode(errors="replace").splitlines()
            names += [line.strip() for line in lines if line.strip()]
        if named.split()[:1] != ["LIST"] and named.upper() != "LOCAL":
            names.append(named)
    if not is_nrrd and not is_whole:
        is_whole = not names and not _is_named_later(path)
    if not is_whole:
        cause = f"The {what}'s header, {path.name}, is longer than {_CHUNK_BYTES >> 20} MB."
        raise InputError(Problem(name, cause, "Export it again as NRRD."))
    return names


def _is_named_later(path: Path) -> bool:
    """Whether a MetaImage names a file with its voxels after what is looked at: a first name may be in a comment."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"ElementDataFile", _CHUNK_BYTES - len(b"ElementDataFile")) >= 0


def _refuse_voxels_elsewhere(path: Path, voxel_files: Sequence[str], name: str, what: str) -> None:
    """Raise :class:`InputError` if a header names a file that is not in its own folder or below.

    Headers come from others: one must not have any file of this machine read as voxels.
    """
    folder = Path(os.path.normpath(path.parent.absolute()))
    for named in voxel_files:
        # By the names alone: links in this folder are the user's own.
        if not Path(os.path.normpath(folder / named)).is_relative_to(folder):
            raise InputError(
                Problem(
                    name,
                    f"The {what}'s header, {path.name}, names a file with its voxels outside of its folder.",
                    "Put both into one folder and correct the name in the header, or export it again as NRRD.",
                )
            )


def _refuse_without_voxels(path: Path, voxel_files: Sequence[str], name: str, what: str) -> None:
    """Raise :class:`InputError` if a header's voxels are in a file of their own that is not there or not readable."""
    # A pattern with % for many files is no name.
    for named in (one for one in voxel_files if "%" not in one):
        voxels = path.parent / named
        try:
            if voxels.is_file():
                _beginning(voxels, 1)
                continue
        except OSError:
            raise not_readable(name) from None
        raise InputError(
            Problem(
                name,
                f"The file with the {what}'s voxels is missing beside {path.name}: {voxels.name}.",
                "Restore it, or export both again.",
            )
        )


def is_whole_nifti(path: Path) -> bool:
    """Whether a NIfTI file has all voxels of its header: ITK says nothing of a disk that was full when it wrote."""
    reader = image_reader(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return False
    return not _is_cut_short(path, reader)


def _is_cut_short(path: Path, reader: sitk.ImageFileReader) -> bool:
    """Whether a NIfTI file ends before its voxels do: ITK fills up what is missing, for the other formats it fails."""
    # Whether it is compressed is for its content to say, as it is for ITK.
    compressed = _beginning(path, len(_GZIP_BEGINS)) == _GZIP_BEGINS
    if not reader.HasMetaDataKey("dim[0]"):
        # ITK goes by its content: it is of another format, whatever its name says.
        return False
    axes = range(1, int(reader.GetMetaData("dim[0]")) + 1)
    voxels = math.prod(int(reader.GetMetaData(f"dim[{axis}]")) for axis in axes)
    needed = float(reader.GetMetaData("vox_offset")) + voxels * int(reader.GetMetaData("bitpix")) // 8
    if not compressed:
        return path.stat().st_size < needed
    found = 0
    try:
        with gzip.open(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                found += len(chunk)
    except (EOFError, OSError, zlib.error):
        return True
    return found < needed


def _three_dimensional(image: sitk.Image, name: str, what: str) -> sitk.Image:
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


def _refuse_implausible_extent(scan: sitk.Image, name: str) -> None:
    """Raise :class:`InputError` for lengths in another unit than mm.

    At the networks' spacing such a scan fills any memory, or is one voxel.
    """
    spacing = scan.GetSpacing()
    if not all(map(math.isfinite, (*scan.GetOrigin(), *scan.GetDirection()))):
        cause = "Its header says no place or direction for its voxels (NaN or infinite)."
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


def _read_mask(path: Path, segment: str | None, name: str) -> tuple[sitk.Image, bool]:
    """The label as uint8 0/1 on its own grid, and whether it is a segmentation of 3D Slicer."""
    image = _read(path, name, "label")
    layers = _layers(image)
    segments = _segments(image, len(layers), name)
    if segments:
        return _three_dimensional(_segment_mask(layers, segments, segment, name), name, "label"), True
    return _label_mask(image, segment, name), False


def _segments(image: sitk.Image, layers: int, name: str) -> list[_Segment]:
    """The segments that a `.seg.nrrd` header lists; none for a plain label map.

    As in Slicer, a segment without a value has 1 in a layer of its own (files before Slicer 4.11).
    """
    header = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys() if key.startswith("Segment")}
    found = []
    for number in range(len(header)):
        fields = {field: header.get(f"Segment{number}_{field}") for field in ("ID", "Name", "LabelValue", "Layer")}
        if fields["ID"] is None and fields["Name"] is None:
            break
        own_layer = 0 if layers == 1 and fields["LabelValue"] is not None else number
        try:
            value, layer = int(fields["LabelValue"] or 1), int(fields["Layer"] or own_layer)
        except ValueError:
            raise _bad_header(name) from None
        found.append(_Segment(fields["ID"] or "", fields["Name"] or fields["ID"] or "", value, layer))
    return found


def _segment_mask(
    layers: Sequence[sitk.Image], segments: Sequence[_Segment], wanted: str | None, name: str
) -> sitk.Image:
    names = ", ".join(segment.name for segment in segments)
    chosen = segments if wanted is None else _segments_named(segments, wanted)
    if not chosen:
        raise InputError(
            Problem(
                name,
                f"Wanted a segment named {wanted!r}, found {names}.",
                "Name one of these (`lasegcolearn cohort --segment`).",
            )
        )
    if len(chosen) > 1:
        if len({segment.name for segment in chosen}) < len(chosen):
            names = ", ".join(f"{segment.name} (id {segment.id})" for segment in chosen)
        raise InputError(
            Problem(
                name,
                f"Wanted one segment, found {len(chosen)}: {names}.",
                "Say which, by name or id (`lasegcolearn cohort --segment`).",
            )
        )
    if not 0 <= chosen[0].layer < len(layers):
        raise _bad_header(name)
    return layers[chosen[0].layer] == chosen[0].label_value


def _segments_named(segments: Sequence[_Segment], wanted: str) -> Sequence[_Segment]:
    """Those of the very name; else of the id; else of the name in other upper and lower case."""
    for same in (
        lambda segment: segment.name == wanted,
        lambda segment: segment.id == wanted,
        lambda segment: segment.name.strip().lower() == wanted.strip().lower(),
    ):
        chosen = [segment for segment in segments if same(segment)]
        if chosen:
            return chosen
    return []


def _bad_header(name: str) -> InputError:
    return InputError(
        Problem(name, "The segmentation's header does not say where its segments are.", "Save it again in 3D Slicer.")
    )


def _layers(image: sitk.Image) -> list[sitk.Image]:
    """Overlapping segments lie in layers: components of a vector image, or the last axis of a 4D one."""
    if image.GetNumberOfComponentsPerPixel() > 1:
        return [sitk.VectorIndexSelectionCast(image, i) for i in range(image.GetNumberOfComponentsPerPixel())]
    if image.GetDimension() == 4:
        return [image[:, :, :, i] for i in range(image.GetSize()[3])]
    return [image]


def _label_mask(image: sitk.Image, wanted: str | None, name: str) -> sitk.Image:
    image = _three_dimensional(image, name, "label")
    values = np.unique(sitk.GetArrayViewFromImage(image))
    odd = [float(value) for value in values if not (np.isfinite(value) and value >= 0 and value == np.floor(value))]
    if odd:
        raise InputError(
            Problem(
                name,
                f"Wanted a label of whole numbers from 0, found {odd[0]:g} in it.",
                "Give the label itself, not a scan or a probability map.",
            )
        )
    foreground = [float(value) for value in values if value != 0]
    listed = ", ".join(f"{value:g}" for value in foreground[:8]) + (", ..." if len(foreground) > 8 else "")
    if wanted is None:
        if len(foreground) > 1:
            raise InputError(
                Problem(
                    name,
                    f"Wanted a label of 0 and one other value, found {len(foreground)} others: {listed}.",
                    "Say which value is the left atrium (`lasegcolearn cohort --segment`), or export it by itself.",
                )
            )
        return sitk.Cast(image != 0, sitk.sitkUInt8)
    try:
        value = float(wanted)
    except ValueError:
        value = math.nan
    if value not in foreground:
        raise InputError(
            Problem(name, f"Wanted the label's value {wanted!r}, found {listed or 'only 0'}.", "Name a value it has.")
        )
    return sitk.Cast(image == value, sitk.sitkUInt8)


def _share_inside(mask: sitk.Image, reference: sitk.Image) -> float:
    """Share of the mask's foreground voxels whose centers lie in the reference's box."""
    index = np.argwhere(sitk.GetArrayViewFromImage(mask))[:, ::-1].astype(float)
    # Both headers give one affine map from the mask's voxels to those of the reference.
    to_reference = np.linalg.inv(_axes(reference))
    points = index @ _axes(mask).T + (np.array(mask.GetOrigin()) - reference.GetOrigin())
    there = points @ to_reference.T
    end = np.array(reference.GetSize()) - 0.5
    return float(((there >= -0.5 - _TOLERANCE_VOXELS) & (there <= end + _TOLERANCE_VOXELS)).all(axis=1).mean())


def _axes(image: sitk.Image) -> np.ndarray:
    """3 x 3: the step in mm (LPS) along each voxel axis, by column."""
    return np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()


def _corners(image: sitk.Image) -> np.ndarray:
    ends = [(0, size - 1) for size in image.GetSize()]
    return np.array([image.TransformIndexToPhysicalPoint(corner) for corner in product(*ends)])


def _inside_grid_of(part: sitk.Image, whole: sitk.Image) -> bool:
    """Whether ``part`` is a box cut out of the grid of ``whole``, as Slicer saves segmentations at their extent."""
    if not np.allclose(part.GetSpacing(), whole.GetSpacing(), rtol=1e-4):
        return False
    index = np.array([whole.TransformPhysicalPointToContinuousIndex(corner.tolist()) for corner in _corners(part)])
    on_voxels = np.abs(index - index.round()).max() <= _TOLERANCE_VOXELS
    return bool(on_voxels and index.min() > -0.5 and (index.max(0) < np.array(whole.GetSize()) - 0.5).all())
