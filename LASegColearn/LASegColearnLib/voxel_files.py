"""The files in which a header says its voxels are, and whether they are there and whole."""

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
# The line of a MetaImage or NRRD header that names the file with the voxels. MetaIO passes over blanks before it and
# over several separators. No second such word before them: each line is looked through once, whatever it repeats.
_VOXEL_FILE = re.compile(
    rb"(?:ElementDataFile(?:(?!ElementDataFile)[^=:\r\n])*[=:]|^[ \t\f\v]*data ?file[ \t]*:)[=: \t\f\v]*([^\r\n]+)",
    re.MULTILINE | re.IGNORECASE,
)


def beginning(path: Path, count: int) -> bytes:
    """The first bytes of a file; raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return file.read(count)


def voxel_files(path: Path, name: str, what: str) -> list[str]:
    """The other files in which a MetaImage or NRRD header says its voxels are; none for a file that has its own.

    Raises
    ------
    InputError
        If the header is longer than what is looked at, and so might name others.
    """
    is_nrrd = path.name.lower().endswith((".nrrd", ".nhdr"))
    if not is_nrrd and not path.name.lower().endswith((".mha", ".mhd")):
        return []
    header = beginning(path, _CHUNK_BYTES)
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


def refuse_voxels_elsewhere(path: Path, voxel_files: Sequence[str], name: str, what: str) -> None:
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


def refuse_without_voxels(path: Path, voxel_files: Sequence[str], name: str, what: str) -> None:
    """Raise :class:`InputError` if a header's voxels are in a file of their own that is not there or not readable."""
    # A pattern with % for many files is no name.
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
    """Whether a NIfTI file has all voxels of its header: ITK says nothing of a disk that was full when it wrote."""
    reader = image_reader(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return False
    return not is_cut_short(path, reader)


def is_cut_short(path: Path, reader: sitk.ImageFileReader) -> bool:
    """Whether a NIfTI file ends before its voxels do: ITK fills up what is missing, for the other formats it fails."""
    # Whether it is compressed is for its content to say, as it is for ITK.
    compressed = beginning(path, len(_GZIP_BEGINS)) == _GZIP_BEGINS
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
