"""Names of files that hold scans."""

from __future__ import annotations

from pathlib import Path

SUFFIXES = (".seg.nrrd", ".nii.gz", ".nrrd", ".nii", ".mha", ".mhd", ".nhdr")


def stem(path: Path) -> str:
    """The file's name without its suffix, ``.nii.gz`` and ``.seg.nrrd`` counting as one."""
    # Letters of another encoding, which no text file and no console takes.
    name = path.name.encode("utf-8", "replace").decode()
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return Path(name).stem
