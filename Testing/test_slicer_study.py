"""A study's folder: kept from week to week, moved, damaged, and read by the engine."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from LASegColearnLib.cohort import load_cohort, save_cohort
from LASegColearnLib.errors import InputError
from LASegColearnLib.phantom import write_phantom_cohort
from LASegColearnLib.run_folder import RunFolder
from LASegColearnSlicer.study import LabelSource, Study, reachedEnd
from LASegColearnSlicer.training_progress import knownProgress


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    return write_phantom_cohort(folder, labeled=2, unlabeled=2, validation=1, seed=3)


def _finished(complete: bool) -> str:
    return json.dumps({"event": "finished", "complete": complete, "iteration": 3, "elapsed_seconds": 2.0})


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study.at(tmp_path / "Studie Vorhöfe")


def test_a_study_opens_again_as_it_was(study: Study, phantoms: Path) -> None:
    study.addCohortFile(phantoms)
    study.setFigures("case_003", {"volume_ml": 71.5})
    study.setState("case_001", "flagged")
    again = Study.at(study.folder)
    assert again.cases == study.cases
    assert [case.role for case in again.cases] == ["labeled", "labeled", "unlabeled", "unlabeled", "validation"]
    assert [case.state for case in again.cases] == ["flagged", "completed", "predicted", "not started", "completed"]
    assert again.case("case_003").figures == {"volume_ml": 71.5}


def test_the_engine_reads_the_cohort_and_never_sees_labels_of_unlabeled_cases(study: Study, phantoms: Path) -> None:
    study.addCohortFile(phantoms)
    study.setRole("case_002", "unlabeled")
    study.setRole("case_004", "left out")
    cohort = load_cohort(study.writeCohort())
    assert [case.id for case in cohort.labeled] == ["case_001"]
    assert {case.id: case.label for case in cohort.unlabeled} == {"case_002": None, "case_003": None}
    assert [case.id for case in cohort.validation] == ["case_005"]
    original = load_cohort(phantoms).labeled[0]
    assert cohort.labeled[0].image.samefile(original.image)
    assert cohort.labeled[0].label is not None and original.label is not None
    assert cohort.labeled[0].label.samefile(original.label)


def test_names_stay_in_the_studys_own_file(study: Study, tmp_path: Path) -> None:
    scan = tmp_path / "scan.nrrd"
    study.addScan(scan, name="Somebody^Known")
    assert "Somebody" not in study.writeCohort().read_text("utf-8")
    assert Study.at(study.folder).cases[0].name == "Somebody^Known"


def test_a_moved_study_finds_what_lies_in_it(study: Study, tmp_path: Path) -> None:
    outside = tmp_path / "outside.nrrd"
    inside = study.folder / "scans" / "case_001.nrrd"
    label = study.folder / "labels" / "case_001.seg.nrrd"
    study.addScan(inside, label=LabelSource(label, "Left atrium"))
    study.addScan(outside)
    moved = tmp_path / "elsewhere"
    shutil.move(study.folder, moved)
    first, second = Study.at(moved).cases
    assert first.scan == moved / "scans" / "case_001.nrrd"
    assert first.label == LabelSource(moved / "labels" / "case_001.seg.nrrd", "Left atrium")
    assert second.scan == outside


def test_a_case_needs_a_label_to_be_labeled(study: Study, tmp_path: Path) -> None:
    case = study.addScan(tmp_path / "scan.nrrd")
    with pytest.raises(InputError, match="case_001: Wanted a label for the role validation, found none"):
        study.setRole(case.id, "validation")
    study.setLabel(case.id, LabelSource(tmp_path / "label.nrrd"))
    study.setRole(case.id, "labeled")
    study.setLabel(case.id, None)
    assert study.case(case.id).role == "unlabeled"


def test_a_scan_is_added_once(study: Study, phantoms: Path) -> None:
    study.addCohortFile(phantoms)
    with pytest.raises(InputError, match="Wanted each scan once"):
        study.addScan(study.cases[0].scan)
    assert study.addCohortFile(phantoms) == []


def test_of_a_cohort_with_a_scan_twice_nothing_is_added(study: Study, phantoms: Path, tmp_path: Path) -> None:
    whole = load_cohort(phantoms)
    twice = replace(whole, unlabeled=(*whole.unlabeled, replace(whole.unlabeled[0], id="again")))
    save_cohort(twice, tmp_path / "twice.json")
    with pytest.raises(InputError, match="Wanted each scan once"):
        study.addCohortFile(tmp_path / "twice.json")
    assert study.cases == Study.at(study.folder).cases == ()


def test_a_damaged_record_of_a_run_is_read_as_far_as_it_can_be(study: Study) -> None:
    run = RunFolder(study.folder / "runs" / "001")
    run.checkpoints.mkdir(parents=True)
    run.events.write_bytes(b"null\n[1]\n\xff{\n" + _finished(True).encode() + b"\n{")
    assert reachedEnd(run)
    assert knownProgress(run).iteration == 3


@pytest.mark.parametrize("name", ["V\udcf6rhof.nrrd", "V\udcf6rhof/scan.nrrd"])
def test_a_name_that_is_no_text_is_said_and_changes_nothing(study: Study, tmp_path: Path, name: str) -> None:
    study.addScan(tmp_path / "a.nrrd")
    said = r"^case_002: The name V\?rhof(\.nrrd)? has .* Rename the file or folder"
    with pytest.raises(InputError, match=said) as told:
        study.addScan(tmp_path / name)
    assert len(told.value.problems) == 1
    assert [case.id for case in study.cases] == ["case_001"]
    with pytest.raises(InputError, match=r"case_001: The name V\?rhof"):
        study.setLabel("case_001", LabelSource(tmp_path / name))
    study.addScan(tmp_path / "b.nrrd")
    assert Study.at(study.folder).cases == study.cases


def test_a_change_that_cannot_be_saved_for_any_reason_is_none(study: Study, tmp_path: Path) -> None:
    study.addScan(tmp_path / "a.nrrd")
    with pytest.raises(TypeError):
        study.setFigures("case_001", {"volume_ml": object()})
    assert study.case("case_001").figures == {}
    study.setState("case_001", "flagged")


def test_the_id_of_a_removed_case_with_results_is_not_given_again(study: Study, tmp_path: Path) -> None:
    study.addScan(tmp_path / "a.nrrd")
    (study.predictions / "case_001").mkdir(parents=True)
    study.remove("case_001")
    assert study.addScan(tmp_path / "b.nrrd").id == "case_002"
    assert (study.predictions / "case_001").exists()


def test_no_id_is_ever_given_again(study: Study, tmp_path: Path) -> None:
    """A scene may still hold the scan of a removed case, under its id."""
    study.addScan(tmp_path / "a.nrrd")
    study.addScan(tmp_path / "b.nrrd")
    study.remove("case_002")
    assert Study.at(study.folder).addScan(tmp_path / "c.nrrd").id == "case_003"


def test_a_scan_in_the_folder_of_an_early_study_counts_as_given(study: Study, tmp_path: Path) -> None:
    (study.folder / "scans").mkdir()
    (study.folder / "scans" / "case_007.nrrd").touch()
    content = json.loads((study.folder / "study.json").read_text("utf-8"))
    del content["given"]
    (study.folder / "study.json").write_text(json.dumps(content), encoding="utf-8")
    assert Study.at(study.folder).addScan(tmp_path / "a.nrrd").id == "case_008"


def test_what_another_slicer_has_changed_is_not_replaced(study: Study, tmp_path: Path) -> None:
    study.addScan(tmp_path / "a.nrrd")
    other = Study.at(study.folder)
    other.addScan(tmp_path / "b.nrrd")
    with pytest.raises(InputError, match="changed by another Slicer.*Choose its folder again"):
        study.setState("case_001", "flagged")
    assert study.case("case_001").state == "not started", "What is shown is what is saved."
    assert Study.at(study.folder).cases == other.cases
    other.setState("case_001", "flagged")


def test_a_study_that_was_moved_meanwhile_is_not_made_anew_at_its_old_place(study: Study, tmp_path: Path) -> None:
    study.folder.rename(tmp_path / "moved")
    with pytest.raises(InputError, match="was not found"):
        study.addScan(tmp_path / "a.nrrd")
    assert study.cases == () and not study.folder.exists()


def test_a_study_that_cannot_be_read_for_a_moment_is_waited_for_and_then_told_as_such(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, refusals = Path.read_text, 0

    def refusing(path: Path, *arguments: Any, **options: Any) -> str:
        nonlocal refusals
        refusals -= 1
        if path.name == "study.json" and refusals >= 0:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refusing)
    refusals = 2
    study.addScan(tmp_path / "a.nrrd")
    refusals = 1000
    for attempt in (lambda: study.addScan(tmp_path / "b.nrrd"), lambda: Study.at(study.folder)):
        with pytest.raises(InputError, match="cannot be read now .Permission denied.. Close the program that uses it"):
            attempt()
    refusals = 0
    assert Study.at(study.folder).cases == study.cases
    (study.folder / "study.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="changed by another Slicer"):
        study.addScan(tmp_path / "b.nrrd")


def test_a_folder_of_scans_is_added_unlabeled(study: Study, phantoms: Path) -> None:
    added = study.addFolder(load_cohort(phantoms).unlabeled[0].image.parent)
    assert added
    assert {case.role for case in added} == {"unlabeled"}


def test_runs_are_numbered_resumed_and_chosen(study: Study) -> None:
    for complete in (True, False):
        run = study.newRun()
        run.checkpoints.mkdir(parents=True)
        run.last_checkpoint.touch()
        run.events.write_text(_finished(complete) + "\n{half", encoding="utf-8")
    first, second = study.runs
    assert (first.path.name, second.path.name, study.newRun().path.name) == ("001", "002", "003")
    # A training whose cases were refused leaves a folder, and no model.
    study.newRun().path.mkdir()
    assert study.resumableRun == second
    assert study.currentRun == first, "What was broken off does not replace what is done."
    study.chooseRun(second)
    assert Study.at(study.folder).currentRun == second
    study.chooseRun(None)
    second.events.write_text(_finished(True) + "\n", encoding="utf-8")
    assert study.resumableRun is None
    assert study.currentRun == second
    first.events.unlink()
    second.events.unlink()
    assert study.currentRun == second, "Where nothing is done, the last counts."


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="Wanted a study or an empty folder, found other files"):
        Study.at(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_with_nothing_but_what_the_system_puts_there_is_empty(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    assert Study.at(tmp_path).cases == ()


@pytest.mark.parametrize("content", ["{", "[]", '{"version": 1}', '{"version": 1, "current_run": null, "cases": [{}]}'])
def test_a_damaged_study_is_refused_and_left_alone(study: Study, content: str) -> None:
    (study.folder / "study.json").write_text(content)
    with pytest.raises(InputError, match="study.json is damaged"):
        Study.at(study.folder)
    assert (study.folder / "study.json").read_text() == content


def test_an_id_that_leads_out_of_the_study_is_refused(study: Study, tmp_path: Path) -> None:
    study.addScan(tmp_path / "scan.nrrd")
    file = study.folder / "study.json"
    file.write_text(file.read_text("utf-8").replace("case_001", "../../elsewhere"), encoding="utf-8")
    with pytest.raises(InputError, match="study.json is damaged"):
        Study.at(study.folder)


def test_a_dataset_with_a_wrong_description_is_refused_instead_of_its_labels_taken_for_scans(
    study: Study, phantoms: Path, tmp_path: Path
) -> None:
    labeled = load_cohort(phantoms).labeled[0]
    for folder, source in (("imagesTr", labeled.image), ("labelsTr", labeled.label)):
        (tmp_path / "dataset" / folder).mkdir(parents=True)
        shutil.copy(source, tmp_path / "dataset" / folder)
    (tmp_path / "dataset" / "dataset.json").write_text("{")
    with pytest.raises(InputError, match="dataset.json"):
        study.addFolder(tmp_path / "dataset")
    assert study.cases == ()


def test_a_study_of_a_newer_version_is_refused(study: Study) -> None:
    (study.folder / "study.json").write_text(json.dumps({"version": 2, "cases": []}))
    with pytest.raises(InputError, match="newer version"):
        Study.at(study.folder)


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written to|found other files"):
        Study.at(tmp_path / "file" / "study")


def test_a_scan_is_looked_for_in_the_study_where_it_is_not_at_its_place_any_more(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    scan = elsewhere / "scan.nrrd"
    scan.write_bytes(b"NRRD0004\n")
    study = Study.at(tmp_path / "study")
    study.addScan(scan)
    inStudy = study.folder / "scans" / "scan.nrrd"
    inStudy.parent.mkdir(exist_ok=True)
    inStudy.write_bytes(scan.read_bytes())
    assert Study.at(study.folder).cases[0].scan == scan
    scan.unlink()
    assert Study.at(study.folder).cases[0].scan == inStudy
    inStudy.unlink()
    assert Study.at(study.folder).cases[0].scan == scan
    # As a computer with Windows has written it.
    file = study.folder / "study.json"
    file.write_text(file.read_text("utf-8").replace(scan.as_posix(), "D:\\\\Scans\\\\scan.nrrd"), encoding="utf-8")
    inStudy.write_bytes(b"NRRD0004\n")
    assert Study.at(study.folder).cases[0].scan == inStudy


def test_a_file_in_the_study_is_not_taken_for_another_patients_scan(tmp_path: Path) -> None:
    study = Study.at(tmp_path / "study")
    scans = [tmp_path / "a" / "lgemri.nrrd", tmp_path / "b" / "lgemri.nrrd", tmp_path / "c" / "case_007.nrrd"]
    for scan in scans:
        scan.parent.mkdir()
        scan.write_bytes(b"NRRD0004\n")
        study.addScan(scan)
    (study.folder / "scans").mkdir(exist_ok=True)
    for scan in scans:
        (study.folder / "scans" / scan.name).write_bytes(b"NRRD0004\n")
        scan.unlink()
    assert [case.scan for case in Study.at(study.folder).cases] == scans
