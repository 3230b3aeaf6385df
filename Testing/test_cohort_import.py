"""Cohorts from folders as people have them; the files are empty, since none is opened."""

from __future__ import annotations

import json
import logging
import os
import time
import unicodedata
from pathlib import Path

import pytest

from LASegColearnLib.cohort import Case, Cohort, load_cohort, save_cohort
from LASegColearnLib.cohort_import import cohort_from_folders, import_cohort
from LASegColearnLib.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path.resolve()


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def pairs(cohort: Cohort, folder: Path) -> dict[str, str | None]:
    """Image and label of each case, relative to the folder; checks the roles on the way."""
    assert all(case.label is not None for case in (*cohort.labeled, *cohort.validation))
    assert all(case.label is None and case.segment is None for case in cohort.unlabeled)
    return {
        case.image.relative_to(folder).as_posix(): case.label and case.label.relative_to(folder).as_posix()
        for case in cohort.cases
    }


# --- folders ---


def test_labels_are_named_as_their_scans(folder: Path) -> None:
    touch(folder, "scans/a.nrrd", "scans/sub/b.nii.gz", "scans/c.mha", "labels/a.seg.nrrd", "labels/b.nii.gz")
    cohort = cohort_from_folders([folder / "scans"], labels=folder / "labels", segment="LA")
    assert pairs(cohort, folder) == {
        "scans/a.nrrd": "labels/a.seg.nrrd",
        "scans/sub/b.nii.gz": "labels/b.nii.gz",
        "scans/c.mha": None,
    }
    assert [case.segment for case in cohort.labeled] == ["LA", "LA"]
    assert [case.id for case in cohort.cases] == ["a", "b", "c"]


def test_scans_without_labels_are_all_unlabeled(folder: Path) -> None:
    touch(folder, "a.nrrd", "b.nii", "notes.txt", "._b.nii", "b.seg.nrrd")
    assert pairs(cohort_from_folders([folder]), folder) == {"a.nrrd": None, "b.nii": None}


def test_a_labels_name_may_go_on_behind_its_scans(folder: Path) -> None:
    touch(folder, "s/a.nrrd", "s/a_2.nrrd", "s/a3.nrrd", "l/a_2_label.nrrd", "l/a3 Segmentation.seg.nrrd")
    cohort = cohort_from_folders([folder / "s"], labels=folder / "l")
    # Neither "a_2_label" nor "a3 Segmentation" is a label of "a".
    assert pairs(cohort, folder) == {
        "s/a.nrrd": None,
        "s/a_2.nrrd": "l/a_2_label.nrrd",
        "s/a3.nrrd": "l/a3 Segmentation.seg.nrrd",
    }


def test_the_very_name_goes_before_one_that_goes_on(folder: Path) -> None:
    touch(folder, "s/a.nrrd", "l/a.nrrd", "l/a_old.nrrd")
    assert pairs(cohort_from_folders([folder / "s"], labels=folder / "l"), folder) == {"s/a.nrrd": "l/a.nrrd"}


def test_scans_of_one_name_find_labels_in_folders_of_one_name(folder: Path) -> None:
    touch(folder, "s/north/1.nrrd", "s/south/1.nrrd", "l/north/1.nrrd", "l/south/1.nrrd")
    cohort = cohort_from_folders([folder / "s"], labels=folder / "l")
    assert pairs(cohort, folder) == {"s/north/1.nrrd": "l/north/1.nrrd", "s/south/1.nrrd": "l/south/1.nrrd"}
    assert [case.id for case in cohort.labeled] == ["north_1", "south_1"]


def test_a_folder_of_labels_within_that_of_scans_holds_no_scans(folder: Path) -> None:
    touch(folder, "a.nrrd", "b.nrrd", "labels/a.nrrd")
    cohort = cohort_from_folders([folder], labels=folder / "labels")
    assert pairs(cohort, folder) == {"a.nrrd": "labels/a.nrrd", "b.nrrd": None}


def test_a_pattern_finds_labels_beside_their_scans_and_those_are_no_scans(folder: Path) -> None:
    touch(folder, "scan 1.nrrd", "scan 1_label.nrrd", "scan 2.nrrd")
    cohort = cohort_from_folders([folder], label_pattern="{id}_label.nrrd")
    assert pairs(cohort, folder) == {"scan 1.nrrd": "scan 1_label.nrrd", "scan 2.nrrd": None}
    assert [case.id for case in cohort.cases] == ["scan_1", "scan_2"]


def test_a_folder_a_case(folder: Path) -> None:
    touch(folder, "la_001/image.nrrd", "la_001/label.nrrd", "la_002/image.nrrd", "la_002/other.nrrd")
    cohort = cohort_from_folders([folder], image_pattern="*/image.nrrd", label_pattern="{folder}/label.nrrd")
    assert pairs(cohort, folder) == {"la_001/image.nrrd": "la_001/label.nrrd", "la_002/image.nrrd": None}
    assert [case.id for case in cohort.cases] == ["la_001", "la_002"]


def test_a_pattern_is_relative_to_the_folder_of_labels(folder: Path) -> None:
    touch(folder, "s/a.nrrd", "s/b.nrrd", "l/a/la.nii.gz")
    cohort = cohort_from_folders([folder / "s"], labels=folder / "l", label_pattern="{id}/la.nii.gz")
    assert pairs(cohort, folder) == {"s/a.nrrd": "l/a/la.nii.gz", "s/b.nrrd": None}


def test_single_files_are_scans_and_no_file_is_one_twice(folder: Path) -> None:
    touch(folder, "a.nrrd", "b.nrrd")
    assert len(cohort_from_folders([folder / "a.nrrd", folder, folder]).unlabeled) == 2


def test_labels_that_fit_no_scan_are_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(folder, "s/a.nrrd", "l/a.nrrd", "l/b.nrrd")
    with caplog.at_level(logging.WARNING):
        cohort_from_folders([folder / "s"], labels=folder / "l")
    assert caplog.messages == ["1 files in the folder of labels match no scan: b.nrrd"]


@pytest.mark.skipif(os.name == "nt", reason="Windows lets not everybody make links")
def test_linked_folders_are_looked_into_and_a_link_in_a_circle_ends(folder: Path) -> None:
    touch(folder, "s/a.nrrd", "elsewhere/b.nrrd", "labels elsewhere/b.nrrd", "l/none.txt")
    (folder / "s" / "linked").symlink_to(folder / "elsewhere", target_is_directory=True)
    (folder / "elsewhere" / "circle").symlink_to(folder / "s", target_is_directory=True)
    (folder / "s" / "upwards").symlink_to(folder, target_is_directory=True)
    (folder / "l" / "linked").symlink_to(folder / "labels elsewhere", target_is_directory=True)
    cohort = cohort_from_folders([folder / "s"], labels=folder / "l")
    assert pairs(cohort, folder) == {"s/a.nrrd": None, "s/linked/b.nrrd": "l/linked/b.nrrd"}


def test_folders_that_may_not_be_read_are_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    touch(folder, "s/a.nrrd", "s/theirs/b.nrrd")
    scandir = os.scandir

    def refusing(path: str) -> object:
        if Path(path).name == "theirs":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert pairs(cohort_from_folders([folder / "s"]), folder) == {"s/a.nrrd": None}
    assert caplog.messages == ["Folders without read permission were skipped: theirs"]


def test_a_disk_that_numbers_no_folders_is_looked_through_as_others_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(folder, "s/one/a.nrrd", "s/two/b.nrrd")
    stat = os.stat

    def without_numbers(*arguments: object, **named: object) -> os.stat_result:
        found = list(stat(*arguments, **named))
        found[1] = found[2] = 0
        return os.stat_result(found)

    monkeypatch.setattr(os, "stat", without_numbers)
    assert len(cohort_from_folders([folder / "s"]).unlabeled) == 2


def test_a_label_of_the_very_same_letters_is_found_by_a_pattern(folder: Path) -> None:
    # The sign of the unit Angstrom, which is normalized to another letter.
    touch(folder, "s/\u212b.nrrd", "l/\u212b.nrrd")
    assert len(cohort_from_folders([folder / "s"], labels=folder / "l", label_pattern="{id}.nrrd").labeled) == 1


@pytest.mark.parametrize("pattern", [None, "{id}.nrrd"])
@pytest.mark.parametrize(("scan", "label"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_an_accent_is_one_however_a_system_writes_it(scan: str, label: str, pattern: str | None, folder: Path) -> None:
    name = "Ren\u00e9.nrrd"
    touch(folder, "s/" + unicodedata.normalize(scan, name), "l/" + unicodedata.normalize(label, name))
    cohort = cohort_from_folders([folder / "s"], labels=folder / "l", label_pattern=pattern)
    assert len(cohort.labeled) == 1


def test_no_scans_are_refused(folder: Path) -> None:
    touch(folder, "s/readme.txt")
    with pytest.raises(InputError, match=r"s: Wanted scans \(\*\.seg\.nrrd, .*\), found none"):
        cohort_from_folders([folder / "s"])
    with pytest.raises(InputError, match=r"Wanted scans \(\*/image\.nrrd\), found none"):
        cohort_from_folders([folder / "s"], image_pattern="*/image.nrrd")


def test_a_missing_folder_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="nowhere: There is no such folder or file"):
        cohort_from_folders([folder / "nowhere"])


def test_labels_that_are_asked_for_and_not_found_are_refused_with_what_is_there(folder: Path) -> None:
    touch(folder, "s/a.nrrd", "l/x.nrrd", "l/y.nrrd")
    with pytest.raises(InputError, match=r"l: Wanted labels named as the scans, such as a.nrrd, found x.nrrd, y.nrrd"):
        cohort_from_folders([folder / "s"], labels=folder / "l")
    with pytest.raises(InputError, match=r"s: Wanted labels as \{id\}_la.nrrd, found a.nrrd.*--label-pattern"):
        cohort_from_folders([folder / "s"], label_pattern="{id}_la.nrrd")
    with pytest.raises(InputError, match=r"none: Wanted labels named as the scans.*found nothing"):
        cohort_from_folders([folder / "s"], labels=folder / "none")


def test_a_scan_with_two_labels_is_refused(folder: Path) -> None:
    touch(folder, "s/a.nrrd", "l/a_1.nrrd", "l/a_2.nrrd")
    with pytest.raises(InputError, match=r"a\.nrrd: Wanted one label, found 2: a_1\.nrrd, a_2\.nrrd.*--label-pattern"):
        cohort_from_folders([folder / "s"], labels=folder / "l")


def test_a_label_that_fits_two_scans_is_refused(folder: Path) -> None:
    touch(folder, "s/north/1.nrrd", "s/south/1.nrrd", "l/1.nrrd")
    with pytest.raises(InputError, match="Wanted one scan for this label, found 2: north/1.nrrd, south/1.nrrd"):
        cohort_from_folders([folder / "s"], labels=folder / "l")


def test_a_pattern_that_gives_one_label_to_several_scans_is_refused(folder: Path) -> None:
    touch(folder, *(f"{case}/{name}.nrrd" for case in "ab" for name in ("lgemri", "laendo", "lawall")))
    told = r"laendo.nrrd: Wanted one scan for this label, found 2: a/lawall.nrrd, a/lgemri.nrrd.*--image-pattern"
    with pytest.raises(InputError, match=told) as caught:
        cohort_from_folders([folder], label_pattern="{folder}/laendo.nrrd")
    assert len(caught.value.problems) == 2
    cohort = cohort_from_folders([folder], image_pattern="*/lgemri.nrrd", label_pattern="{folder}/laendo.nrrd")
    assert pairs(cohort, folder) == {f"{case}/lgemri.nrrd": f"{case}/laendo.nrrd" for case in "ab"}


def test_the_labels_of_many_scans_are_found_in_a_moment(folder: Path) -> None:
    touch(folder, *(f"s/scan{number}.nrrd" for number in range(700)))
    touch(folder, *(f"l/scan{number}_label.nrrd" for number in range(60)))
    started = time.process_time()
    cohort = cohort_from_folders([folder / "s"], labels=folder / "l")
    assert len(cohort.labeled) == 60
    assert time.process_time() - started < 2


def test_a_pattern_that_is_not_relative_to_the_folder_is_refused(folder: Path) -> None:
    touch(folder, "a.nrrd")
    with pytest.raises(InputError, match="--image-pattern: Wanted a pattern relative to the folder"):
        cohort_from_folders([folder], image_pattern="/scans/*.nrrd")


def test_a_folder_named_as_a_scan_is_none(folder: Path) -> None:
    touch(folder, "a.nii/b.nrrd", "c.nii")
    (folder / "fetched-later.nrrd").symlink_to(folder / "not there")
    assert {case.id for case in cohort_from_folders([folder]).cases} == {"b", "c", "fetched-later"}


# --- validation ---


def test_some_labeled_cases_are_kept_for_validation_by_the_seed(folder: Path) -> None:
    names = [f"{number}.nrrd" for number in range(9)]
    touch(folder, *(f"s/{name}" for name in names), *(f"l/{name}" for name in names[:8]))

    def kept(seed: int) -> set[str]:
        cohort = cohort_from_folders([folder / "s"], labels=folder / "l", validation=3, seed=seed)
        assert (len(cohort.labeled), len(cohort.unlabeled), len(cohort.validation)) == (5, 1, 3)
        assert len({case.id for case in cohort.cases}) == 9
        return {case.id for case in cohort.validation}

    assert kept(1) == kept(1)
    assert len({frozenset(kept(seed)) for seed in range(5)}) > 1


def test_more_validation_cases_than_labels_are_refused(folder: Path) -> None:
    touch(folder, "s/a.nrrd", "l/a.nrrd")
    with pytest.raises(InputError, match="--validation: Wanted fewer than the 1 labeled cases, found 1"):
        cohort_from_folders([folder / "s"], labels=folder / "l", validation=1)


def test_a_number_of_validation_cases_below_0_is_refused(folder: Path) -> None:
    touch(folder, "s/a.nrrd", "s/b.nrrd", "l/a.nrrd", "l/b.nrrd")
    with pytest.raises(InputError, match="--validation: Wanted 0 or more cases, found -1"):
        cohort_from_folders([folder / "s"], labels=folder / "l", validation=-1)


def test_no_validation_cases_are_chosen_where_there_are_some_already(folder: Path) -> None:
    touch(folder, "a.nrrd", "b.nrrd", "a_la.nrrd", "b_la.nrrd")
    a, b = (Case(name, folder / f"{name}.nrrd", folder / f"{name}_la.nrrd") for name in "ab")
    save_cohort(Cohort(labeled=(a,), unlabeled=(), validation=(b,)), folder / "c.json")
    with pytest.raises(InputError, match="--validation: The source itself has validation cases: 1"):
        import_cohort(folder / "c.json", validation=1)
    assert [case.id for case in import_cohort(folder / "c.json").validation] == ["b"]


# --- MSD, nnU-Net, MONAI ---


def describe(folder: Path, content: object, name: str = "dataset.json") -> Path:
    touch(folder, name)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def msd(folder: Path, labels: dict) -> Path:
    training = [{"image": f"./imagesTr/la_{n}.nii.gz", "label": f"./labelsTr/la_{n}.nii.gz"} for n in (3, 4)]
    describe(folder, {"labels": labels, "training": training, "test": ["./imagesTs/la_1.nii.gz"]})
    names = ("imagesTr/la_3", "imagesTr/la_4", "labelsTr/la_3", "labelsTr/la_4", "imagesTs/la_1", "imagesTr/._la_3")
    return touch(folder, *(f"{name}.nii.gz" for name in names))


def test_an_msd_folder_is_taken_as_it_is(folder: Path) -> None:
    msd(folder, {"0": "background", "1": "left atrium"})
    for source in (folder, folder / "dataset.json"):
        cohort = import_cohort(source)
        assert pairs(cohort, folder) == {
            "imagesTr/la_3.nii.gz": "labelsTr/la_3.nii.gz",
            "imagesTr/la_4.nii.gz": "labelsTr/la_4.nii.gz",
            "imagesTs/la_1.nii.gz": None,
        }
        assert [case.segment for case in cohort.labeled] == [None, None]
    assert len(import_cohort(folder, validation=1).validation) == 1


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "background", "1": "Veins", "2": "Wall", "5": "Cavity"},
        {"background": 0, "Veins": 1, "Wall": 2, "Cavity": 5, "both": [1, 5], "ignore": 6},
    ],
)
def test_both_directions_of_labels_are_read(labels: dict, folder: Path) -> None:
    msd(folder, labels)
    for segment in ("Cavity", "cavity", "5"):
        assert [case.segment for case in import_cohort(folder, segment=segment).labeled] == ["5", "5"]
    with pytest.raises(InputError, match="Wanted to know which label.*, found veins, wall, cavity.*--segment"):
        import_cohort(folder)
    with pytest.raises(InputError, match="Wanted the label 'Ventricle', found veins, wall, cavity.*--segment"):
        import_cohort(folder, segment="Ventricle")


def test_voxels_to_ignore_are_no_label_to_choose_from(folder: Path) -> None:
    msd(folder, {"background": 0, "Cavity": 1, "ignore": 2})
    # A file that has nothing but voxels to ignore is not labeled with them.
    assert import_cohort(folder).labeled[0].segment == "1"


def test_a_left_atrium_among_several_labels_needs_not_be_named(folder: Path) -> None:
    msd(folder, {"background": 0, "right atrium": 1, "Left Atrium": 3})
    assert import_cohort(folder).labeled[0].segment == "3"


def test_an_nnunet_folder_is_taken_as_it_is(folder: Path) -> None:
    describe(
        folder,
        {
            "channel_names": {"0": "LGE"},
            "labels": {"background": 0, "LA": 1},
            "regions_class_order": [1],
            "numTraining": 2,
            "file_ending": ".nii.gz",
        },
    )
    touch(folder, "imagesTr/la_1_0000.nii.gz", "imagesTr/la_2_0000.nii.gz", "imagesTr/la_10_0000.nii.gz")
    touch(folder, "labelsTr/la_1.nii.gz", "labelsTr/la_10.nii.gz", "imagesTs/la_7_0000.nii.gz")
    cohort = import_cohort(folder)
    assert pairs(cohort, folder) == {
        "imagesTr/la_1_0000.nii.gz": "labelsTr/la_1.nii.gz",
        "imagesTr/la_10_0000.nii.gz": "labelsTr/la_10.nii.gz",
        "imagesTr/la_2_0000.nii.gz": None,
        "imagesTs/la_7_0000.nii.gz": None,
    }
    assert {case.id for case in cohort.cases} == {"la_1", "la_2", "la_10", "la_7"}
    (folder / "dataset.json").unlink()
    assert import_cohort(folder) == cohort


def test_the_list_of_nnunets_first_version_finds_its_files(folder: Path) -> None:
    describe(folder, {"training": [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}], "test": []})
    touch(folder, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    assert pairs(import_cohort(folder), folder) == {"imagesTr/a_0000.nii.gz": "labelsTr/a.nii.gz"}


def test_several_channels_of_listed_scans_are_refused(folder: Path) -> None:
    describe(folder, {"training": [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}], "test": []})
    touch(folder, "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz")
    with pytest.raises(InputError, match="imagesTr: Wanted one channel per scan, found more: a_0001"):
        import_cohort(folder)


def test_an_empty_list_of_test_scans_leaves_the_files_to_be_found(folder: Path) -> None:
    describe(folder, {"labels": {"background": 0, "LA": 1}, "file_ending": ".nii.gz", "test": []})
    touch(folder, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    assert pairs(import_cohort(folder), folder) == {"imagesTr/a_0000.nii.gz": "labelsTr/a.nii.gz"}


def test_numbered_cases_are_not_taken_for_channels(folder: Path) -> None:
    touch(folder, "imagesTr/la_0001.nii.gz", "imagesTr/la_0002.nii.gz", "labelsTr/la_0002.nii.gz")
    assert [case.id for case in import_cohort(folder).cases] == ["la_0002", "la_0001"]


def test_several_channels_are_refused(folder: Path) -> None:
    touch(folder, "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz")
    with pytest.raises(InputError, match="Wanted one channel per scan, found more: a_0001"):
        import_cohort(folder)


def test_a_monai_datalist_keeps_its_validation_cases(folder: Path) -> None:
    entries = [{"image": f"{name}.nrrd", "label": f"{name}-l.nrrd"} for name in "abc"]
    content = {"training": entries[:2], "validation": entries[2:], "test": [{"image": "d.nrrd"}]}
    describe(folder, content, "datalist.json")
    cohort = import_cohort(folder / "datalist.json", segment="2")
    assert [case.id for case in cohort.validation] == ["c"]
    assert [case.segment for case in cohort.labeled] == ["2", "2"]
    assert cohort.unlabeled == (Case("d", folder / "d.nrrd"),)


def test_a_cohort_file_is_a_source_too(folder: Path) -> None:
    cohort = Cohort((Case("a", folder / "a.nrrd", folder / "l.nrrd", "x"),), (Case("b", folder / "b.nrrd"),), ())
    save_cohort(cohort, folder / "cohort.json")
    assert import_cohort(folder / "cohort.json") == cohort == load_cohort(folder / "cohort.json")
    # A segment that a case names goes before the one that is given for all.
    assert import_cohort(folder / "cohort.json", segment="y") == cohort


def test_a_source_of_another_layout_is_refused_with_what_is_wanted_and_found(folder: Path) -> None:
    touch(folder, "some/a.nrrd", "some/readme.txt")
    wanted = r"Wanted a folder with imagesTr/ \(and labelsTr/, imagesTs/\).*or a \.json datalist, found"
    with pytest.raises(InputError, match=rf"some: {wanted} a\.nrrd, readme\.txt\. Use --images"):
        import_cohort(folder / "some")
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=f"{wanted} an empty folder"):
        import_cohort(folder / "empty")
    with pytest.raises(InputError, match=f"none: {wanted} no such thing"):
        import_cohort(folder / "none")
    describe(folder, {"labels": {"0": "background"}}, "some/dataset.json")
    with pytest.raises(InputError, match=f"{wanted} a.nrrd, dataset.json"):
        import_cohort(folder / "some")


@pytest.mark.parametrize("content", ["[1]", '{"images": []}', "7"])
def test_a_json_file_of_another_structure_is_refused(content: str, folder: Path) -> None:
    (folder / "list.json").write_text(content)
    with pytest.raises(InputError, match="Wanted an object with the lists labeled, unlabeled and validation"):
        import_cohort(folder / "list.json")


def test_a_description_that_is_no_json_is_refused(folder: Path) -> None:
    touch(folder, "dataset.json", "imagesTr/a.nrrd")
    with pytest.raises(InputError, match=r"dataset\.json: It is not valid JSON"):
        import_cohort(folder)


def test_ids_of_a_list_that_no_folder_can_have_give_way_to_the_names_of_scans(folder: Path) -> None:
    files = {"kept": "p/a.nrrd", "=cmd": "p/b.nrrd", "Müller, 3": "p/c.nrrd", -4: "q/c.nrrd"}
    touch(folder, *files.values())
    entries = [{"id": name, "image": file} for name, file in files.items()]
    (folder / "datalist.json").write_text(json.dumps({"test": entries}), encoding="utf-8")
    cohort = import_cohort(folder / "datalist.json")
    assert [case.id for case in cohort.unlabeled] == ["kept", "b", "p_c", "q_c"]
    save_cohort(cohort, folder / "cohort.json")
    assert load_cohort(folder / "cohort.json") == cohort


@pytest.mark.parametrize(
    "options",
    [
        {"image_pattern": "{id}_image.nii.gz", "label_pattern": "{id}_label.nii.gz"},
        {"image_pattern": "{id}_image.nii.gz", "labels": "."},
        {"image_pattern": "*_image.nii.gz", "label_pattern": "{id}_label.nii.gz"},
    ],
)
def test_names_that_differ_at_their_ends_are_paired_by_what_they_have_in_common(
    folder: Path, options: dict[str, str]
) -> None:
    touch(folder, "mr_1_image.nii.gz", "mr_1_label.nii.gz", "mr_10_image.nii.gz", "mr_10_label.nii.gz")
    touch(folder, "mr_2_image.nii.gz")
    labels = folder if options.pop("labels", None) else None
    if "{id}" not in options["image_pattern"]:
        with pytest.raises(InputError, match=r'give both: --image-pattern "\{id\}_image.nii.gz"'):
            cohort_from_folders([folder], labels=labels, **options)  # type: ignore[arg-type]
        return
    found = pairs(cohort_from_folders([folder], labels=labels, **options), folder)  # type: ignore[arg-type]
    assert found == {
        "mr_1_image.nii.gz": "mr_1_label.nii.gz",
        "mr_10_image.nii.gz": "mr_10_label.nii.gz",
        "mr_2_image.nii.gz": None,
    }


def test_an_id_may_be_a_folder_and_be_there_twice(folder: Path) -> None:
    touch(folder, "p1/p1_lge.nrrd", "p2/p2_lge.nrrd", "labels/p1.nrrd")
    cohort = cohort_from_folders([folder], labels=folder / "labels", image_pattern="{id}/{id}_lge.nrrd")
    assert pairs(cohort, folder) == {"p1/p1_lge.nrrd": "labels/p1.nrrd", "p2/p2_lge.nrrd": None}
