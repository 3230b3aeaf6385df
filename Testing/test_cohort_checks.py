"""Everything that is refused before training: all at once, each with case, cause and remedy."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from LASegColearnLib.cohort import Case, Cohort
from LASegColearnLib.cohort_checks import check_cohort
from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.scan_files import content_hash, read_scan

SIZE = (10, 9, 8)


def write_scan(path: Path, seed: int) -> Path:
    voxels = np.random.default_rng(seed).normal(size=SIZE[::-1]).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path))
    return path


def write_label(path: Path, start: int = 2, value: int = 1) -> Path:
    voxels = np.zeros(SIZE[::-1], np.uint8)
    voxels[start : start + 3, 2:6, 3:7] = value
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path))
    return path


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    def case(name: str, seed: int, with_label: bool) -> Case:
        label = write_label(tmp_path / f"{name}-label.nrrd") if with_label else None
        return Case(name, write_scan(tmp_path / f"{name}.nrrd", seed), label)

    return Cohort(
        labeled=(case("l1", 1, True), case("l2", 2, True)),
        unlabeled=(case("u1", 3, False), case("u2", 4, False)),
        validation=(case("v1", 5, True),),
    )


def problems(cohort: Cohort, **options) -> list[tuple[str, str]]:
    with pytest.raises(InputError) as caught:
        check_cohort(cohort, **options)
    assert all(problem.remedy for problem in caught.value.problems)
    return [(problem.case, problem.cause) for problem in caught.value.problems]


def test_a_good_cohort_is_told_apart_by_content(cohort: Cohort) -> None:
    checked = check_cohort(cohort)
    assert checked.warnings == []
    assert checked.content_hashes == {case.id: content_hash(read_scan(case.image)) for case in cohort.cases}
    assert len(set(checked.content_hashes.values())) == 5


def test_each_case_is_read_once_and_handed_on(cohort: Cohort) -> None:
    read: dict[str, tuple] = {}
    told: list[str] = []
    threads = set()

    def keep(case: Case, hashed: str, scan: sitk.Image, label: sitk.Image | None) -> None:
        assert case.id not in read
        read[case.id] = (hashed, scan.GetSize(), None if label is None else label.GetPixelID())

    def tell(case: Case) -> None:
        told.append(case.id)
        threads.add(threading.get_ident())

    checked = check_cohort(cohort, on_read=keep, progress=tell)
    assert {case_id: values[0] for case_id, values in read.items()} == checked.content_hashes
    assert {case_id: values[2] for case_id, values in read.items()} == {
        "l1": sitk.sitkUInt8,
        "l2": sitk.sitkUInt8,
        "u1": None,
        "u2": None,
        "v1": sitk.sitkUInt8,
    }
    assert all(values[1] == SIZE for values in read.values())
    assert told == ["l1", "l2", "u1", "u2", "v1"]
    assert threads == {threading.get_ident()}


def test_the_label_of_an_unlabeled_case_is_never_opened(cohort: Cohort, tmp_path: Path) -> None:
    unreadable = tmp_path / "unreadable.nrrd"
    unreadable.write_bytes(b"a label that nobody may read")
    named = tuple(replace(case, label=unreadable) for case in cohort.unlabeled)
    labels: list[sitk.Image | None] = []
    check_cohort(replace(cohort, unlabeled=named), on_read=lambda case, _, __, label: labels.append(label))
    assert labels.count(None) == 2
    assert problems(replace(cohort, labeled=(*cohort.labeled, replace(named[0], id="x"))))[0][0] == "x"


def test_all_problems_of_all_cases_are_told_at_once(cohort: Cohort, tmp_path: Path) -> None:
    constant = sitk.Image(SIZE, sitk.sitkInt16)
    sitk.WriteImage(constant, str(tmp_path / "constant.nrrd"))
    sitk.WriteImage(sitk.JoinSeries([read_scan(cohort.labeled[0].image)] * 2), str(tmp_path / "4d.nrrd"))
    whole = write_scan(tmp_path / "cut.nii.gz", 8).read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    write_label(tmp_path / "empty.nrrd", value=0)
    far = sitk.ReadImage(str(cohort.labeled[1].label))
    far.SetOrigin((900, 0, 0))
    sitk.WriteImage(far, str(tmp_path / "far.nrrd"))
    l1, l2 = cohort.labeled
    wrong = Cohort(
        labeled=(
            Case("missing", tmp_path / "none.nrrd", tmp_path / "no-label.nrrd"),
            replace(l1, label=tmp_path / "empty.nrrd"),
            replace(l2, label=tmp_path / "far.nrrd"),
        ),
        unlabeled=(Case("flat", tmp_path / "constant.nrrd"), Case("cut", tmp_path / "cut.nii.gz")),
        validation=(
            Case("film", tmp_path / "4d.nrrd", tmp_path / "empty.nrrd"),
            replace(cohort.validation[0], label=None),
        ),
    )
    assert problems(wrong) == [
        ("missing", "The scan's file is missing: none.nrrd."),
        ("missing", "The label's file is missing: no-label.nrrd."),
        ("l1", "The label is empty."),
        ("l2", "Wanted a label that lies on its scan, found one that does not overlap it."),
        ("flat", "The scan is constant: every voxel is 0."),
        ("cut", "The scan's file is cut short."),
        ("film", "Wanted a 3D scan, found 4D."),
        ("film", "The label is empty."),
        ("v1", "Wanted a label for this validation case, found none."),
    ]


def test_no_message_holds_a_folder(cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        check_cohort(replace(cohort, unlabeled=(Case("u", tmp_path / "none.nrrd"), *cohort.unlabeled)))
    assert str(tmp_path) not in str(caught.value)


def test_only_cases_in_order_are_handed_on(cohort: Cohort, tmp_path: Path) -> None:
    read = []
    wrong = replace(cohort, labeled=(replace(cohort.labeled[0], label=tmp_path / "none.nrrd"), *cohort.labeled[1:]))
    problems(wrong, on_read=lambda case, *_: read.append(case.id))
    assert sorted(read) == ["l2", "u1", "u2", "v1"]


def test_the_same_scan_as_labeled_and_validation_is_refused_even_in_another_format(
    cohort: Cohort, tmp_path: Path
) -> None:
    copy = sitk.Cast(read_scan(cohort.labeled[0].image), sitk.sitkFloat64)
    sitk.WriteImage(copy, str(tmp_path / "copy.mha"))
    same = Case("copy", tmp_path / "copy.mha", cohort.labeled[0].label)
    assert problems(replace(cohort, validation=(same,))) == [
        ("copy", "Wanted each scan once, found it in l1 too (validation and labeled).")
    ]


@pytest.mark.parametrize("role", ["labeled", "unlabeled", "validation"])
def test_a_scan_that_is_there_twice_is_refused_in_any_role(role: str, cohort: Cohort) -> None:
    again = replace(cohort.labeled[1], id="again")
    twice = replace(cohort, **{role: (*getattr(cohort, role), again)})
    assert problems(twice) == [("again", f"Wanted each scan once, found it in l2 too ({role} and labeled).")]


def test_a_label_given_as_a_scan_is_refused(cohort: Cohort, tmp_path: Path) -> None:
    mask = Case("mask", write_label(tmp_path / "mask.nrrd", start=1, value=3))
    told = "The scan has two values only, as a label has."
    assert problems(replace(cohort, unlabeled=(*cohort.unlabeled, mask))) == [("mask", told)]


def test_a_scan_as_its_own_label_is_refused(cohort: Cohort, tmp_path: Path) -> None:
    (tmp_path / "link.nrrd").symlink_to(cohort.labeled[0].image)
    wrong = replace(cohort, labeled=(replace(cohort.labeled[0], label=tmp_path / "link.nrrd"), cohort.labeled[1]))
    assert problems(wrong) == [("l1", "Its scan and its label are one file.")]


def test_one_label_of_two_cases_is_refused_unless_they_name_their_segments(cohort: Cohort, tmp_path: Path) -> None:
    shared = tmp_path / "both.nrrd"
    voxels = np.zeros(SIZE[::-1], np.uint8)
    voxels[2:4, 2:6, 3:7], voxels[4:6, 2:6, 3:7] = 1, 2
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(shared))

    def with_segments(first: str | None, second: str | None, shared: Path) -> Cohort:
        l1, l2 = cohort.labeled
        labeled = (replace(l1, label=shared, segment=first), replace(l2, label=shared, segment=second))
        return replace(cohort, labeled=labeled)

    told = "Wanted a label of its own, found that of l1"
    assert problems(with_segments("1", "1", shared)) == [("l2", f"{told} (both.nrrd).")]
    one = cohort.labeled[0].label
    assert one is not None
    assert problems(with_segments(None, "1", one)) == [("l2", f"{told} (l1-label.nrrd).")]
    check_cohort(with_segments("1", "2", shared))


def test_a_header_of_more_voxels_than_memory_holds_does_not_hide_other_problems(cohort: Cohort) -> None:
    cohort.unlabeled[0].image.write_bytes(
        b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 100000 100000 100000\nencoding: raw\n\n1234"
    )
    cohort.unlabeled[1].image.unlink()
    assert problems(cohort) == [
        ("u1", "The scan does not fit into this computer's memory, or its header is damaged."),
        ("u2", "The scan's file is missing: u2.nrrd."),
    ]


def test_two_cases_of_one_id_are_refused(cohort: Cohort) -> None:
    cause = "Two cases have this id (upper and lower case count as one)."
    renamed = tuple(replace(case, id="L1") for case in cohort.validation)
    assert problems(replace(cohort, validation=renamed)) == [("L1", cause)]


@pytest.mark.parametrize("case_id", ["a/b", "..", ".a", "a.", "-a", "a b", "ä", "", "a\n", "a\\b"])
def test_an_id_that_is_no_file_name_is_refused(case_id: str, cohort: Cohort) -> None:
    cause = "Wanted an id of letters, digits, '.', '_' and '-', with no '.' or '-' first and no '.' last."
    renamed = tuple(replace(case, id=case_id) for case in cohort.validation)
    assert problems(replace(cohort, validation=renamed)) == [(case_id, cause)]


@pytest.mark.parametrize("case_id", ["CON", "aux.1", "lpt9"])
def test_an_id_that_windows_keeps_for_a_device_is_refused(case_id: str, cohort: Cohort) -> None:
    renamed = tuple(replace(case, id=case_id) for case in cohort.validation)
    cause = "Windows allows no folder of this name, and runs may be moved to it."
    assert problems(replace(cohort, validation=renamed)) == [(case_id, cause)]


def test_too_few_cases_for_the_method_are_refused(cohort: Cohort) -> None:
    few = Cohort(cohort.labeled[:1], cohort.unlabeled[:1], ())
    assert problems(few) == [
        ("cohort", "Wanted at least 2 labeled cases, found 1."),
        ("cohort", "Wanted at least 2 unlabeled cases, found 1."),
    ]
    check_cohort(few, min_labeled=1, min_unlabeled=0)
    check_cohort(few, min_labeled=1, min_unlabeled=1)


def test_a_disk_without_room_is_refused_with_numbers_and_nothing_is_written(cohort: Cohort, tmp_path: Path) -> None:
    asked, read = [], []

    def nearly_nothing(folder: Path) -> int:
        asked.append(folder)
        return 5_000_000

    found = problems(
        cohort,
        cache_folder=tmp_path / "run" / "cache",
        spacing_mm=(0.01, 0.01, 0.1),
        on_read=lambda case, *_: read.append(case.id),
        free_bytes=nearly_nothing,
    )
    # 5 scans of 10 x 9 x 8 mm at 0.01 x 0.01 x 0.1 mm: 360 million voxels of 7.5 bytes.
    assert found == [
        ("disk", "Wanted 2700 MB of free space for the preprocessed scans and the checkpoints, found 5 MB.")
    ]
    assert asked == [tmp_path]
    assert read == []


def test_only_the_region_needs_room_by_the_axes_of_the_patient(cohort: Cohort, tmp_path: Path) -> None:
    options = {"cache_folder": tmp_path, "spacing_mm": (1.0, 1.0, 1.0), "region_mm": (4.0, 100.0, 2.0)}
    # 5 scans of 4 x 9 x 2 voxels of 7.5 bytes.
    check_cohort(cohort, free_bytes=lambda _: 2700, **options)
    assert problems(cohort, free_bytes=lambda _: 2699, **options)[0][0] == "disk"
    for case in cohort.cases:
        turned = sitk.PermuteAxes(sitk.ReadImage(str(case.image)), (2, 0, 1))
        sitk.WriteImage(turned, str(case.image))
    check_cohort(cohort, free_bytes=lambda _: 2700, **options)
    assert problems(cohort, free_bytes=lambda _: 2699, **options)[0][0] == "disk"


def test_scans_that_are_cached_already_need_no_room(cohort: Cohort, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(bytes(5 * 720 * 8))
    options = {"cache_folder": tmp_path, "spacing_mm": (1.0, 1.0, 1.0), "free_bytes": lambda _: 100}
    check_cohort(cohort, **options)
    (tmp_path / "a.npy").unlink()
    assert problems(cohort, **options)[0][0] == "disk"


def test_checkpoints_need_room_beside_the_scans(cohort: Cohort, tmp_path: Path) -> None:
    # 5 scans of 10 x 9 x 8 voxels of 7.5 bytes.
    options = {"cache_folder": tmp_path, "spacing_mm": (1.0, 1.0, 1.0), "free_bytes": lambda _: 27_000 + 1000}
    check_cohort(cohort, checkpoint_bytes=1000, **options)
    assert problems(cohort, checkpoint_bytes=1001, **options)[0][0] == "disk"


def test_the_disk_itself_is_asked(cohort: Cohort, tmp_path: Path) -> None:
    check_cohort(cohort, cache_folder=tmp_path, spacing_mm=(1.0, 1.0, 1.0))
    assert problems(cohort, cache_folder=tmp_path, spacing_mm=(1e-5, 1e-5, 1e-5))[0][0] == "disk"


def test_warnings_name_their_case(cohort: Cohort, tmp_path: Path) -> None:
    moved = sitk.ReadImage(str(cohort.labeled[0].label))
    moved.SetOrigin((0.5, 0, 0))
    sitk.WriteImage(moved, str(tmp_path / "moved.nrrd"))
    changed = replace(cohort, labeled=(replace(cohort.labeled[0], label=tmp_path / "moved.nrrd"), cohort.labeled[1]))
    assert check_cohort(changed).warnings == [
        "l1: the label is on another grid than its scan and was resampled onto it."
    ]


def test_what_goes_wrong_while_storing_is_not_swallowed(cohort: Cohort) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        check_cohort(cohort, on_read=fail)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("Failed to allocate memory for image.")])
def test_a_scan_for_which_there_is_no_memory_is_named(error: Exception, cohort: Cohort) -> None:
    def fail(case: Case, *_: object) -> None:
        if case.id in ("l2", "u1"):
            raise error

    said = "There is not enough memory to prepare it."
    assert problems(cohort, on_read=fail) == [("l2", said), ("u1", said)]


def test_what_storing_refuses_is_told_for_all_cases(cohort: Cohort) -> None:
    def refuse(case: Case, *_: object) -> None:
        if case.label is not None:
            raise InputError(Problem(case.id, "Nothing of the label is left.", "Correct it."))

    assert [case for case, _ in problems(cohort, on_read=refuse)] == ["l1", "l2", "v1"]


def test_nothing_but_the_refusal_is_said_of_a_folder_of_dicom_files(
    cohort: Cohort, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """ITK's formats, tried one after another on a folder, complain on standard error, with its path."""
    series = tmp_path / "Jane Doe"
    series.mkdir()
    sitk.WriteImage(sitk.Image(8, 8, sitk.sitkUInt8), str(series / "1.dcm"))
    with pytest.raises(InputError, match="series: Wanted a scan's file, found the folder Jane Doe"):
        check_cohort(
            replace(cohort, unlabeled=(*cohort.unlabeled, Case("series", series))),
            cache_folder=tmp_path / "cache",
            spacing_mm=(5.0, 5.0, 5.0),
        )
    assert capfd.readouterr().err == ""


def test_scans_of_a_few_voxels_are_no_problem(cohort: Cohort, tmp_path: Path) -> None:
    scan = read_scan(cohort.labeled[0].image)[:2, :2, :1]
    scan.SetSpacing((5.0, 5.0, 5.0))
    sitk.WriteImage(scan, str(tmp_path / "small.nrrd"))
    check_cohort(replace(cohort, unlabeled=(*cohort.unlabeled, Case("small", tmp_path / "small.nrrd"))))
