"""Names of files that hold scans."""

from __future__ import annotations

from pathlib import Path

SUFFIXES = (".seg.nrrd", ".nii.gz", ".nrrd", ".nii", ".mha", ".mhd", ".nhdr")


def stem(path: Path) -> str:
    """The file's name without its suffix; ``.nii.gz`` and ``.seg.nrrd`` count as one suffix."""
    # Replace letters of another encoding, which cannot be written to text files and consoles.
    name = path.name.encode("utf-8", "replace").decode()
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return Path(name).stem
