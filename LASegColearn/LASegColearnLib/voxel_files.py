"""Checks the files that an image header names for its voxels: whether they are allowed, present and complete."""

from __future__ import annotations

import gzip
import math
import mmap
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import SimpleITK as sitk

from LASegColearnLib.errors import InputError, Problem, not_readable
from LASegColearnLib.itk_names import image_reader

_CHUNK_BYTES = 1 << 20
_GZIP_BEGINS = b"\x1f\x8b"
# The line of a MetaImage or NRRD header that names the voxel file. MetaIO skips leading blanks and repeated separators.
# The lookahead excludes a second keyword before the separator, so that repetitions do not cause repeated matching.
_VOXEL_FILE = re.compile(
    rb"(?:ElementDataFile(?:(?!ElementDataFile)[^=:\r\n])*[=:]|^[ \t\f\v]*data ?file[ \t]*:)[=: \t\f\v]*([^\r\n]+)",
    re.MULTILINE | re.IGNORECASE,
)


def beginning(path: Path, count: int) -> bytes:
    """The first bytes of a file; raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return file.read(count)


def voxel_files(path: Path, name: str, what: str) -> list[str]:
    """Names of the separate voxel files in a MetaImage or NRRD header; none for a file that contains its voxels.

    Raises
    ------
    InputError
        If the header is longer than the part that is checked, and so might name other files.
    """
    is_nrrd = path.name.lower().endswith((".nrrd", ".nhdr"))
    if not is_nrrd and not path.name.lower().endswith((".mha", ".mhd")):
        return []
    header = beginning(path, _CHUNK_BYTES)
    is_whole = path.stat().st_size <= _CHUNK_BYTES
    if is_nrrd:
        # For the reader a carriage return also ends a line; the voxels follow after an empty line.
        header, ended, _ = re.sub(rb"\r\n?", b"\n", header).partition(b"\n\n")
        is_whole = is_whole or bool(ended)
    names: list[str] = []
    listed = False
    for found in _VOXEL_FILE.finditer(header):
        named = found[1].decode(errors="replace").strip()
        # Both readers recognize a list by these letters alone; its files are on all following lines, including those of
        # later lists.
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
    """Whether a MetaImage names a voxel file after the part that is checked; an earlier name may be in a comment."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"ElementDataFile", _CHUNK_BYTES - len(b"ElementDataFile")) >= 0


def refuse_voxels_elsewhere(path: Path, voxel_files: Sequence[str], name: str, what: str) -> None:
    """Raise :class:`InputError` if a header names a file outside its own folder.

    A foreign header must not cause an arbitrary file of this computer to be read as voxels.
    """
    folder = Path(os.path.normpath(path.parent.absolute()))
    for named in voxel_files:
        # Only the names are checked: links in this folder were made by the user.
        if not Path(os.path.normpath(folder / named)).is_relative_to(folder):
            raise InputError(
                Problem(
                    name,
                    f"The {what}'s header, {path.name}, names a file with its voxels outside of its folder.",
                    "Put both into one folder and correct the name in the header, or export it again as NRRD.",
                )
            )


def refuse_without_voxels(path: Path, voxel_files: Sequence[str], name: str, what: str) -> None:
    """Raise :class:`InputError` if a header's separate voxel file is missing or not readable."""
    # A pattern with % for many files is not a name.
    for named in (one for one in voxel_files if "%" not in one):
        voxels = path.parent / named
        try:
            if voxels.is_file():
                beginning(voxels, 1)
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
    """Whether a NIfTI file has all voxels of its header: ITK does not report that the disk was full while writing."""
    reader = image_reader(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return False
    return not is_cut_short(path, reader)


def is_cut_short(path: Path, reader: sitk.ImageFileReader) -> bool:
    """Whether a NIfTI file is truncated: ITK would fill in the missing voxels, while it fails for other formats."""
    # The content decides whether it is compressed, as for ITK, not the name.
    compressed = beginning(path, len(_GZIP_BEGINS)) == _GZIP_BEGINS
    if not reader.HasMetaDataKey("dim[0]"):
        # ITK recognizes the format by the content: this file has another format than its name says.
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
