"""Cohort files and MONAI datalists: what is read, what is written, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from LASegColearnLib.cohort import (
    Case,
    Cohort,
    id_problems,
    load_cohort,
    save_cohort,
    save_monai_datalist,
    unique_ids,
)
from LASegColearnLib.errors import InputError


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def make_cohort(folder: Path) -> Cohort:
    return Cohort(
        labeled=(
            Case("a", folder / "vorhöfe" / "a.nrrd", folder / "labels" / "a.seg.nrrd", "Left atrium"),
            Case("b", folder / "b.nii.gz", folder / "labels" / "b.nii.gz"),
        ),
        unlabeled=(Case("c", folder / "c.mha"),),
        validation=(Case("d", folder / "d.nrrd", folder / "d label.nrrd"),),
    )


def test_a_cohort_is_read_back_as_it_was_saved(tmp_path: Path) -> None:
    folder = tmp_path.resolve()
    save_cohort(make_cohort(folder), folder / "cohort.json")
    assert load_cohort(folder / "cohort.json") == make_cohort(folder)


def test_paths_are_relative_so_that_file_and_scans_can_be_moved_together(tmp_path: Path) -> None:
    folder = tmp_path.resolve()
    save_cohort(make_cohort(folder / "old"), folder / "old" / "study" / "cohort.json")
    assert "../vorhöfe/a.nrrd" in (folder / "old" / "study" / "cohort.json").read_text("utf-8")
    (folder / "old").rename(folder / "new")
    moved = load_cohort(folder / "new" / "study" / "cohort.json")
    assert moved.labeled[0].image.resolve() == folder / "new" / "vorhöfe" / "a.nrrd"


def test_a_scan_that_is_a_link_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "store-1234").write_bytes(b"")
    (tmp_path / "a.nrrd").symlink_to(tmp_path / "store-1234")
    save_cohort(Cohort((), (Case("a", tmp_path / "a.nrrd"),)), tmp_path / "cohort.json")
    assert load_cohort(tmp_path / "cohort.json").unlabeled[0].image.name == "a.nrrd"


def test_an_msd_datalist_is_read_as_it_is(tmp_path: Path) -> None:
    path = write(
        tmp_path / "dataset.json",
        {
            "name": "LeftAtrium",
            "labels": {"0": "background", "1": "left atrium"},
            "numTraining": 1,
            "training": [{"image": "./imagesTr/la_003.nii.gz", "label": "./labelsTr/la_003.nii.gz", "fold": 0}],
            "validation": [{"image": "imagesTr/la_004.nii.gz", "label": "labelsTr/la_004.nii.gz"}],
            "test": ["./imagesTs/la_001.nii.gz", {"image": "imagesTs/la_002.nii.gz"}],
        },
    )
    cohort = load_cohort(path)
    assert cohort.labeled == (Case("la_003", tmp_path / "imagesTr/la_003.nii.gz", tmp_path / "labelsTr/la_003.nii.gz"),)
    assert [case.id for case in cohort.unlabeled] == ["la_001", "la_002"]
    assert [case.id for case in cohort.validation] == ["la_004"]


def test_the_label_of_an_unlabeled_case_is_forgotten(tmp_path: Path) -> None:
    entry = {"id": "a", "image": "a.nrrd", "label": "a-label.nrrd", "segment": "LA"}
    for key in ("unlabeled", "test"):
        assert load_cohort(write(tmp_path / "c.json", {key: [entry]})).unlabeled == (Case("a", tmp_path / "a.nrrd"),)


def test_a_segment_may_be_given_as_a_number(tmp_path: Path) -> None:
    entry = {"image": "a.nrrd", "label": "b.nrrd", "segment": 2}
    assert load_cohort(write(tmp_path / "c.json", {"labeled": [entry]})).labeled[0].segment == "2"


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", "\ufeff" + json.dumps({"unlabeled": ["a.nrrd"]}))
    assert load_cohort(path).unlabeled[0].id == "a"


# --- ids ---


@pytest.mark.parametrize(
    ("images", "ids"),
    [
        (["x/a.nii.gz", "x/b.seg.nrrd"], ["a", "b"]),
        (["la_001/image.nrrd", "la_002/image.nrrd"], ["la_001", "la_002"]),
        (["x/la_001_0000.nii.gz"], ["la_001"]),
        (["north/1.nrrd", "south/1.nrrd", "south/2.nrrd"], ["north_1", "south_1", "2"]),
        (["p/north/1.nrrd", "q/north/1.nrrd"], ["north_1", "north_1_2"]),
        (["x/A.nrrd", "y/a.nrrd"], ["x_A", "y_a"]),
        (["x/Müller, 3.nrrd", "x/.hidden.nrrd"], ["M_ller_3", "hidden"]),
        (["x/λ.nrrd"], ["_"]),
        (["x/-a-.nrrd", "x/.-.nrrd"], ["a-", "case"]),
        (["x/Con.nrrd", "x/lpt1.2.nrrd", "x/console.nrrd"], ["case_Con", "case_lpt1.2", "console"]),
    ],
)
def test_scans_get_ids_that_are_safe_and_unlike_each_other(images: list[str], ids: list[str]) -> None:
    assert unique_ids([Path(image) for image in images]) == ids


def test_ids_that_are_given_stay(tmp_path: Path) -> None:
    entries = [{"image": "a.nrrd"}, {"id": "a", "image": "b.nrrd"}, {"id": 7, "image": "c.nrrd"}]
    cohort = load_cohort(write(tmp_path / "c.json", {"unlabeled": entries}))
    assert [case.id for case in cohort.unlabeled] == [f"{tmp_path.name}_a", "a", "7"]


@pytest.mark.parametrize("case_id", ["=1+cmd|' C'!A0", "-1", "+1", "@a", "a\x1b]0;title\x07", "../a"])
def test_an_id_that_would_act_in_a_table_or_terminal_is_refused(case_id: str, tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", {"test": [{"id": case_id, "image": "a.nrrd"}, {"id": "B", "image": "b.nrrd"}]})
    with pytest.raises(InputError) as caught:
        load_cohort(path)
    assert [problem.case for problem in caught.value.problems] == [case_id]


def test_two_cases_of_one_id_in_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Two cases have this id"):
        load_cohort(write(tmp_path / "c.json", {"test": [{"id": name, "image": f"{name}.nrrd"} for name in "aA"]}))


# --- labels that are kept back ---


def test_labels_beyond_the_first_n_are_forgotten(tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path).take_labeled(1)
    assert [case.id for case in cohort.labeled] == ["a"]
    assert cohort.unlabeled == (Case("b", tmp_path / "b.nii.gz"), Case("c", tmp_path / "c.mha"))
    assert cohort.validation == make_cohort(tmp_path).validation


@pytest.mark.parametrize("count", [0, 3, -1])
def test_a_number_of_labels_that_is_not_there_is_refused(count: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"Wanted between 1 and 2 of the cohort's labeled cases, found {count}"):
        make_cohort(tmp_path).take_labeled(count)


# --- refusals ---


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: There is no such cohort file"):
        load_cohort(tmp_path / "none.json")


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path / "c.json", {"unlabeled": ["a.nrrd"]})
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(InputError, match=r"c\.json: The file may not be read\. Ask for access"):
        load_cohort(path)


def test_malformed_json_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"c\.json: It is not valid JSON \(line 2\)"):
        load_cohort(write(tmp_path / "c.json", '{"labeled": [\n{"image": }]}'))


@pytest.mark.parametrize("content", ["[" * 100_000, '{"labeled": [' + "9" * 10_000 + "]}"])
def test_json_that_python_cannot_hold_is_refused(content: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"c\.json: It is not valid JSON\."):
        load_cohort(write(tmp_path / "c.json", content))


def test_long_names_make_ids_that_files_can_be_named_after(tmp_path: Path) -> None:
    scans = [tmp_path / folder / f"{'long-' * 45}{number}.nrrd" for folder in "ab" for number in (1, 2)]
    ids = unique_ids(scans)
    assert len(set(ids)) == 4
    assert list(id_problems(ids, "")) == []
    (problem,) = id_problems(["a" * 101], "Give it another id.")
    assert str(problem) == (
        "aaaaaaaaaaaaaaaaaaaa…: Wanted an id of at most 100 letters, since files are named after it; found 101. "
        "Give it another id."
    )


@pytest.mark.parametrize("key", ["val", "Validation", "unlabelled"])
def test_a_list_under_another_name_is_refused(key: str, tmp_path: Path) -> None:
    content = {"labeled": [{"image": "a.nrrd", "label": "l.nrrd"}], "modality": ["MRI"], "fold": [], key: []}
    load_cohort(write(tmp_path / "c.json", content))
    for entry in ({"image": "b.nrrd"}, "b.NRRD"):
        with pytest.raises(InputError, match=rf"c\.json: Wanted one of labeled, .*, found the list {key}\."):
            load_cohort(write(tmp_path / "c.json", {**content, key: [entry]}))


def test_scans_for_testing_are_unlabeled(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", {"testing": [{"image": "a.nrrd", "label": "l.nrrd"}]})
    assert load_cohort(path).unlabeled == (Case("a", tmp_path / "a.nrrd"),)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"c\.json: It is not valid JSON\. "):
        load_cohort(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([1, 2], "found a list of 2"),
        ({"images": []}, "found an object with images"),
        ({}, "found an object with nothing in it"),
        ("text", "found str 'text'"),
    ],
)
def test_another_structure_is_refused_with_what_was_found(content: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"Wanted an object with the lists labeled, unlabeled and validation.*{told}"):
        load_cohort(write(tmp_path / "c.json", json.dumps(content)))


def test_all_wrong_entries_are_named_at_once(tmp_path: Path) -> None:
    content = {
        "labeled": [
            {"image": "a.nrrd"},
            {"image": "a.nrrd", "label": 3},
            {"image": ["a.nrrd", "b.nrrd"], "label": "l.nrrd"},
            {"image": "a.nrrd", "label": "l.nrrd", "segment": ["LA"]},
            {"image": "good.nrrd", "label": "l.nrrd"},
        ],
        "unlabeled": "scans",
        "validation": [7, {"id": {"x": 1}, "image": "a.nrrd", "label": "l.nrrd"}],
    }
    with pytest.raises(InputError) as caught:
        load_cohort(write(tmp_path / "c.json", content))
    assert [(problem.case, problem.cause) for problem in caught.value.problems] == [
        ("labeled[0]", "Wanted the path of a label, found nothing."),
        ("labeled[1]", "Wanted the path of a label, found int '3'."),
        ("labeled[2]", "Wanted the path of one image, found a list of 2."),
        ("labeled[3]", "Wanted a name or value as segment, found a list of 1."),
        ("c.json", "Wanted a list as unlabeled, found str 'scans'."),
        ("validation[0]", "Wanted the path of one image, found int '7'."),
        ("validation[1]", "Wanted text as id, found an object with x."),
    ]


# --- for other tools ---


def test_a_datalist_is_one_that_monai_reads(tmp_path: Path) -> None:
    from monai.data import load_decathlon_datalist

    folder = tmp_path.resolve()
    whole = make_cohort(folder)
    cohort = Cohort(whole.labeled[1:], whole.unlabeled, whole.validation)
    save_monai_datalist(cohort, folder / "datalist.json")
    (training,) = load_decathlon_datalist(str(folder / "datalist.json"), data_list_key="training")
    assert training["image"] == str(folder / "b.nii.gz")
    assert training["label"] == str(folder / "labels" / "b.nii.gz")
    (test,) = load_decathlon_datalist(str(folder / "datalist.json"), data_list_key="test")
    assert test["image"] == str(folder / "c.mha")
    assert load_cohort(folder / "datalist.json") == cohort


def test_a_label_among_several_cannot_go_into_a_datalist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a: Its label is 'Left atrium' of several.*cannot say which.*Export"):
        save_monai_datalist(make_cohort(tmp_path), tmp_path / "datalist.json")
    assert not (tmp_path / "datalist.json").exists()


@pytest.mark.parametrize("name", ["a\0.nrrd", "M\udcfcller.nrrd"])
def test_a_path_that_no_file_can_have_is_refused(name: str, tmp_path: Path) -> None:
    good = {"image": "a.nrrd", "label": "b.nrrd"}
    content = {"labeled": [good | {"image": name}, good | {"label": name}], "unlabeled": [], "validation": []}
    with pytest.raises(InputError) as raised:
        load_cohort(write(tmp_path / "cohort.json", content))
    assert len(raised.value.problems) == 2
    str(raised.value).encode("utf-8")
