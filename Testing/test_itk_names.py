"""Names for ITK: as they are, or without letters that it cannot open under Windows."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from LASegColearnLib import itk_names
from LASegColearnLib.cohort import Case, Cohort, save_cohort
from LASegColearnLib.errors import InputError
from LASegColearnLib.itk_names import itk_name
from LASegColearnLib.scan_files import read_scan
from LASegColearnLib.segmentation_files import write_mask


@pytest.fixture
def windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a letter beyond ASCII and, as Windows has for most, another name without it."""
    folder = tmp_path / "Müller"
    folder.mkdir()
    (tmp_path / "MLLER~1").symlink_to(folder)
    monkeypatch.setattr(itk_names, "_ASCII_ONLY", True)
    monkeypatch.setattr(itk_names, "_short_name", lambda path: str(path).replace("Müller", "MLLER~1"))
    return folder


def test_names_are_left_alone_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(itk_names, "_ASCII_ONLY", False)
    assert itk_name(tmp_path / "Müller" / "größe.nrrd") == str(tmp_path / "Müller" / "größe.nrrd")


def test_under_windows_a_folders_short_name_is_used_for_reading_and_writing(windows: Path) -> None:
    assert itk_name(windows / "scan.nii.gz") == str(windows.parent / "MLLER~1" / "scan.nii.gz")
    given: list[str] = []
    image = sitk.GetImageFromArray([[[0, 1], [1, 0]], [[0, 1], [1, 0]]])
    original = sitk.WriteImage
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sitk, "WriteImage", lambda i, name, **more: (given.append(name), original(i, name, **more)))
        write_mask(windows / "label.nii.gz", sitk.Cast(image, sitk.sitkUInt8))
    assert given
    assert all(name.isascii() for name in given)
    scan = sitk.GetImageFromArray(np.arange(8, dtype=np.float32).reshape(2, 2, 2))
    scan.SetSpacing((5.0, 5.0, 5.0))
    sitk.WriteImage(scan, str(windows / "scan.nrrd"))
    assert read_scan(windows / "scan.nrrd", "case").GetSize() == (2, 2, 2)


def test_under_windows_what_cannot_be_opened_is_said(windows: Path) -> None:
    with pytest.raises(InputError, match=r"größe\.nrrd: Its name has letters"):
        itk_name(windows / "größe.nrrd")


def test_under_windows_a_folder_without_short_name_is_said(windows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(itk_names, "_short_name", str)
    with pytest.raises(InputError, match=r"scan\.nrrd: Its folder's name has letters"):
        itk_name(windows / "scan.nrrd")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="Their file names are always text.")
def test_a_name_in_another_encoding_is_told_before_itk_ends_the_process(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"M\xfcller.nrrd")
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(8, dtype=np.float32).reshape(2, 2, 2)), str(tmp_path / "a.nrrd"))
    (tmp_path / "a.nrrd").rename(path)
    with pytest.raises(InputError, match="has letters of another encoding. Rename it.") as raised:
        read_scan(path)
    str(raised.value).encode("utf-8")
    with pytest.raises(InputError, match="a: The name of its scan or label, or of a folder, has letters of another"):
        save_cohort(Cohort((), (Case("a", path),)), tmp_path / "cohort.json")
