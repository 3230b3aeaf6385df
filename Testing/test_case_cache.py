"""The cache: made once, found again, made anew when scan, label or settings change."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from LASegColearnLib.case_cache import CaseCache
from LASegColearnLib.errors import InputError
from LASegColearnLib.run_folder import RunFolder
from LASegColearnLib.settings import Settings

SETTINGS = Settings(spacing_mm=(2.0, 2.0, 2.0))


def _pair(seed: int = 0) -> tuple[sitk.Image, sitk.Image]:
    voxels = np.random.default_rng(seed).random((12, 14, 16)).astype(np.float32)
    label = np.zeros((12, 14, 16), np.uint8)
    label[4:9, 4:9, 4 : 9 + seed] = 1
    return sitk.GetImageFromArray(voxels), sitk.GetImageFromArray(label)


def test_arrays_are_mapped_not_loaded_and_lie_on_one_grid(tmp_path: Path) -> None:
    case = CaseCache(tmp_path, SETTINGS).store("a", "hash", *_pair())
    assert isinstance(case.image(), np.memmap)
    assert case.image().shape == case.label().shape == (8, 7, 6)
    assert (case.image().dtype, case.label().dtype) == (np.float32, np.uint8)


def test_a_second_run_finds_what_the_first_one_made(tmp_path: Path) -> None:
    first = CaseCache(tmp_path, SETTINGS).store("a", "hash", *_pair())
    written = first.image_file.stat().st_mtime_ns
    again = CaseCache(tmp_path, SETTINGS).store("renamed", "hash", *_pair())
    assert again.image_file == first.image_file
    assert again.image_file.stat().st_mtime_ns == written


def test_another_scan_spacing_region_or_label_gets_another_file(tmp_path: Path) -> None:
    scan, label = _pair()
    first = CaseCache(tmp_path, SETTINGS).store("a", "hash", scan, label)
    for settings, content in (
        (SETTINGS, "other"),
        (replace(SETTINGS, spacing_mm=(1.0, 2.0, 2.0)), "hash"),
        (replace(SETTINGS, region_mm=(8.0, 8.0, 8.0)), "hash"),
    ):
        assert CaseCache(tmp_path, settings).store("a", content, scan, label).image_file != first.image_file
    corrected = CaseCache(tmp_path, SETTINGS).store("a", "hash", scan, _pair(2)[1])
    assert corrected.image_file == first.image_file
    assert corrected.label_file != first.label_file


def test_a_label_of_which_nothing_is_left_is_refused_each_time(tmp_path: Path) -> None:
    scan, label = _pair()
    one_voxel = sitk.Image(label.GetSize(), sitk.sitkUInt8)
    one_voxel[1, 1, 1] = 1
    cause = "Nothing of the label is left at the networks' voxel size or within region_mm"
    for _ in range(2):
        with pytest.raises(InputError, match=f"a: {cause}"):
            CaseCache(tmp_path, SETTINGS).store("a", "hash", scan, one_voxel)
    at_the_edge = sitk.Image(label.GetSize(), sitk.sitkUInt8)
    at_the_edge[:3, :3, :3] = 1
    assert CaseCache(tmp_path, SETTINGS).store("b", "hash", scan, at_the_edge).label().any()
    with pytest.raises(InputError, match=f"b: {cause}"):
        CaseCache(tmp_path, replace(SETTINGS, region_mm=(6.0, 6.0, 6.0))).store("b", "hash", scan, at_the_edge)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_a_damaged_file_is_made_anew(share: float, tmp_path: Path) -> None:
    case = CaseCache(tmp_path, SETTINGS).store("a", "hash", *_pair())
    whole = {file: file.read_bytes() for file in (case.image_file, case.label_file)}
    for file, content in whole.items():
        file.write_bytes(content[: int(share * len(content))])
    CaseCache(tmp_path, SETTINGS).store("a", "hash", *_pair())
    assert {file: file.read_bytes() for file in whole} == whole


def test_an_unlabeled_case_has_no_label_to_read(tmp_path: Path) -> None:
    case = CaseCache(tmp_path, SETTINGS).store("a", "hash", _pair()[0], None)
    with pytest.raises(ValueError, match="unlabeled"):
        case.label()


def test_a_folder_beside_that_may_not_be_looked_into_does_not_hide_the_other_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_dir = Path.is_dir

    def refusing(path: Path, **options: bool) -> bool:
        """As Python up to 3.13 does; nothing is forbidden to the user root."""
        if path.parent.name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))
        return is_dir(path, **options)

    first, second = RunFolder(tmp_path / "001"), RunFolder(tmp_path / "002")
    CaseCache(first.cache, SETTINGS).store("a", "hash", *_pair())
    (tmp_path / "lost+found").mkdir()
    monkeypatch.setattr(Path, "is_dir", refusing)
    assert second.other_caches() == [first.cache]


def test_a_scan_is_prepared_here_if_the_other_runs_file_vanishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = RunFolder(tmp_path / "001"), RunFolder(tmp_path / "002")
    made = CaseCache(first.cache, SETTINGS).store("a", "hash", *_pair())

    def vanished(file: Path, *_: Path) -> None:
        raise FileNotFoundError(2, "No such file or directory", str(file))

    monkeypatch.setattr("LASegColearnLib.case_cache.linked", vanished)
    found = CaseCache(second.cache, SETTINGS, second.other_caches()).store("a", "hash", *_pair())
    assert np.array_equal(found.image(), made.image()) and np.array_equal(found.label(), made.label())


def test_what_another_run_has_made_is_linked_and_stays_when_that_run_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = RunFolder(tmp_path / "001"), RunFolder(tmp_path / "002")
    made = CaseCache(first.cache, SETTINGS).store("a", "hash", *_pair())
    assert second.other_caches() == [first.cache] and first.other_caches() == []
    monkeypatch.setattr("LASegColearnLib.case_cache.prepare_scan", None)
    monkeypatch.setattr("LASegColearnLib.case_cache.prepare_label", None)
    found = CaseCache(second.cache, SETTINGS, second.other_caches()).store("a", "hash", *_pair())
    assert found.image_file.parent == second.cache and found.image_file.samefile(made.image_file)
    assert found.label_file is not None and found.label_file.samefile(made.label_file or "")
    expected = made.image().copy()
    shutil.rmtree(first.path)
    assert np.array_equal(found.image(), expected)
    # A damaged file elsewhere is no file.
    made.image_file.parent.mkdir(parents=True)
    made.image_file.write_bytes(b"")
    found.image_file.unlink()
    with pytest.raises(TypeError):
        CaseCache(second.cache, SETTINGS, second.other_caches()).store("a", "hash", *_pair())
