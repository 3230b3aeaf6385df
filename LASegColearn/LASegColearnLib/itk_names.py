"""Names of files as ITK can open them on every system."""

from __future__ import annotations

import sys
from pathlib import Path

import SimpleITK as sitk

from LASegColearnLib.errors import InputError, Problem

# A plain python.exe hands ITK its names in the system's code page, in which letters of other languages are lost (ITK
# issue 6739, SimpleITK issue 651). Slicer's own executables do not have that limit; the engine's process has.
_ASCII_ONLY = sys.platform == "win32"


def itk_name(path: Path) -> str:
    """The file's name for ITK's readers and writers.

    Under Windows the short name stands for a folder with letters beyond ASCII. The file's own name has to have its
    ending, by which ITK knows the format, and short names cut it off.

    Raises
    ------
    InputError
        If the name has letters of another encoding than the system's; under Windows, if there is no such name.
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
            f"Its {where} has letters that scans cannot be read or written by under Windows.",
            f"Give it a {where} of the letters a-z, numbers, '-' and '_'.",
        )
    )


def image_reader(path: Path) -> sitk.ImageFileReader:
    """ITK's reader for a file; raises as :func:`itk_name`."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(itk_name(path))
    # Of the formats of scans this alone is not known by an ending in capitals.
    if path.suffix.lower() in (".mha", ".mhd"):
        reader.SetImageIO("MetaImageIO")
    return reader


def _short_name(folder: Path) -> str:
    """The 8.3 name that Windows keeps for the folder; its own name where there is none."""
    if sys.platform == "win32":
        import ctypes

        buffer = ctypes.create_unicode_buffer(1024)
        if 0 < ctypes.windll.kernel32.GetShortPathNameW(str(folder), buffer, len(buffer)) < len(buffer):
            return buffer.value
    return str(folder)
