"""File names in the form in which ITK can open them on every system."""

from __future__ import annotations

import sys
from pathlib import Path

import SimpleITK as sitk

from LASegColearnLib.errors import InputError, Problem

# In a plain python.exe ITK gets file names in the system's code page, which lacks the letters of other languages (ITK
# issue 6739, SimpleITK issue 651). Slicer's own executables do not have this limit, but the engine's process does.
_ASCII_ONLY = sys.platform == "win32"


def itk_name(path: Path) -> str:
    """The file's name for ITK's readers and writers.

    On Windows a folder with non-ASCII letters is replaced by its short name. The file's own name is kept, since short
    names truncate the suffix by which ITK recognizes the format.

    Raises
    ------
    InputError
        If the name is not valid in the system's encoding, or on Windows if there is no ASCII name.
    """
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(
            Problem(
                path.name.encode("utf-8", "replace").decode(),
                "Its name, or that of a folder it is in, has letters of another encoding.",
                "Rename it.",
            )
        ) from None
    if not _ASCII_ONLY or str(path).isascii():
        return str(path)
    name = str(Path(_short_name(path.resolve().parent)) / path.name)
    if name.isascii():
        return name
    where = "name" if not path.name.isascii() else "folder's name"
    raise InputError(
        Problem(
            path.name,
            f"Its {where} has letters with which scans cannot be read or written on Windows.",
            f"Give it a {where} of the letters a-z, numbers, '-' and '_'.",
        )
    )


def image_reader(path: Path) -> sitk.ImageFileReader:
    """ITK's reader for a file; raises as :func:`itk_name`."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_name(path))
    # ITK recognizes all formats of scans by suffixes in capitals, except MetaImage.
    if path.suffix.lower() in (".mha", ".mhd"):
        reader.SetImageIO("MetaImageIO")
    return reader


def _short_name(folder: Path) -> str:
    """The 8.3 name that Windows keeps for the folder; its own name if there is none."""
    if sys.platform == "win32":
        import ctypes

        buffer = ctypes.create_unicode_buffer(1024)
        if 0 < ctypes.windll.kernel32.GetShortPathNameW(str(folder), buffer, len(buffer)) < len(buffer):
            return buffer.value
    return str(folder)
