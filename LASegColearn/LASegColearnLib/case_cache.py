"""Preprocessed scans on disk, memory-mapped, so that a cohort may be larger than memory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.preprocessing import prepare_label, prepare_scan, to_array, working_grid
from LASegColearnLib.run_folder import replacing
from LASegColearnLib.settings import Settings

# Part of every key, so that changed preprocessing code does not read files of earlier code.
_FORMAT = 1


@dataclass(frozen=True)
class CachedCase:
    """A preprocessed case on disk.

    Attributes
    ----------
    id
        The case's id.
    image_file, label_file
        ``.npy`` files of float32 and uint8 (x, y, z); no label file for an unlabeled case.
    pseudo_label_file
        The same for a network's label, see :mod:`~LASegColearnLib.scan_labeling`; None for most cases.
    """

    id: str
    image_file: Path
    label_file: Path | None
    pseudo_label_file: Path | None = None

    def image(self) -> np.ndarray:
        """The scan, float32 (x, y, z), memory-mapped read-only."""
        return np.load(self.image_file, mmap_mode="r")

    def label(self) -> np.ndarray:
        """The label, uint8 (x, y, z), memory-mapped read-only. Raises ValueError for an unlabeled case."""
        if self.label_file is None:
            raise ValueError(f"{self.id} is unlabeled.")
        return np.load(self.label_file, mmap_mode="r")

    def pseudo_label(self) -> np.ndarray | None:
        """A network's label, uint8 (x, y, z), memory-mapped read-only; None if there is none."""
        return None if self.pseudo_label_file is None else np.load(self.pseudo_label_file, mmap_mode="r")


def stored_array(path: Path) -> np.ndarray | None:
    """An array of the cache, memory-mapped read-only; None if its file is missing, truncated or damaged."""
    try:
        return np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None


def linked(file: Path, folder: Path) -> Path:
    """A link to a file of the cache in another folder, or a copy if the disk has no links."""
    target = folder / file.name
    if stored_array(target) is None:
        with replacing(target) as temporary:
            try:
                os.link(file, temporary)
            except OSError:
                shutil.copyfile(file, temporary)
    return target


class CaseCache:
    """Preprocesses each scan once; a file's key changes with the scan, the label and the settings.

    Parameters
    ----------
    folder
        Where the files are kept.
    settings
        The run's.
    others
        Caches of other runs, whose files are linked instead of made again.
    """

    def __init__(self, folder: Path, settings: Settings, others: Sequence[Path] = ()) -> None:
        self.folder = folder
        self.settings = settings
        self.others = others

    def store(self, case_id: str, content_hash: str, scan: sitk.Image, label: sitk.Image | None) -> CachedCase:
        """Return the case from the cache, preprocessing it first if it is not there.

        Parameters
        ----------
        case_id
            The case's id; not part of the key, so that a renamed case is found again.
        content_hash
            The scan's hash, from :func:`scan_files.content_hash`.
        scan, label
            The scan, and its 0/1 label on the same grid or None.

        Raises
        ------
        InputError
            If no voxel of the label is left: it would teach the network that there is no atrium.
        """
        key = self._key(content_hash)
        image_file = self.folder / f"{key}.image.npy"
        if self._found(image_file) is None:
            prepared = prepare_scan(scan, self.settings.spacing_mm, self.settings.region_mm)
            _save(image_file, prepared.array)
        if label is None:
            return CachedCase(case_id, image_file, None)
        label_file = self.folder / f"{self._key(content_hash, _voxel_hash(label))}.label.npy"
        mask = self._found(label_file)
        if mask is None:
            mask = prepare_label(label, working_grid(scan, self.settings.spacing_mm, self.settings.region_mm))
            _save(label_file, mask)
        if not mask.any():
            raise InputError(
                Problem(
                    case_id,
                    "Nothing of the label is left at the networks' voxel size or within region_mm.",
                    "Set a smaller spacing_mm or a larger region_mm, or outline the left atrium again.",
                )
            )
        return CachedCase(case_id, image_file, label_file)

    def _found(self, file: Path) -> np.ndarray | None:
        """The array of a file that is here, or in another cache; None if there is none."""
        if stored_array(file) is None:
            other = next((one / file.name for one in self.others if stored_array(one / file.name) is not None), None)
            if other is not None:
                # It may be deleted at this moment, or not be readable after all: then it is made here.
                with suppress(OSError):
                    linked(other, self.folder)
        return stored_array(file)

    def _key(self, *contents: str) -> str:
        what = [_FORMAT, self.settings.spacing_mm, self.settings.region_mm, *contents]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]


def _voxel_hash(image: sitk.Image) -> str:
    return hashlib.sha256(to_array(image).tobytes()).hexdigest()


def _save(path: Path, array: np.ndarray) -> None:
    with replacing(path) as temporary:
        np.save(temporary, array)
