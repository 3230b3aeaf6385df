"""The verb `train` on phantoms: run folder, hold-out, roles over rounds, resumption elsewhere, refusals."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from LASegColearnLib.checkpoints import load_checkpoint
from LASegColearnLib.cohort import Cohort, load_cohort, save_cohort
from LASegColearnLib.errors import InputError
from LASegColearnLib.phantom import write_phantom_cohort
from LASegColearnLib.predecessors import LearnedCases, learned_by_model_in, read_predecessors
from LASegColearnLib.report import write_report
from LASegColearnLib.run_folder import RunFolder, write_json_atomically
from LASegColearnLib.run_lock import alone_in
from LASegColearnLib.settings import Settings
from LASegColearnLib.training import resume, train
from LASegColearnLib.training_preparation import checkpoint_bytes
from stop_after import StopAfter

SETTINGS = Settings(
    spacing_mm=(5.0, 5.0, 5.0),
    patch_size=(16, 16, 16),
    filters=2,
    normalization="group",
    dropout=0.1,
    iterations=4,
    validations=1,
    precision="float32",
)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom_cohort(tmp_path_factory.mktemp("phantoms"), labeled=5, unlabeled=2, validation=2, seed=3)


@pytest.fixture
def cohort(phantoms: Path, tmp_path: Path) -> Path:
    """A cohort file of its own for each test, since a study's ledger lies beside it."""
    return _write(tmp_path / "study", load_cohort(phantoms))


def _write(folder: Path, cohort: Cohort) -> Path:
    folder.mkdir(exist_ok=True)
    save_cohort(cohort, folder / "cohort.json")
    return folder / "cohort.json"


def test_a_run_folder_holds_all_that_the_contract_names(cohort: Path, tmp_path: Path) -> None:
    seen: list[dict] = []
    result = train(cohort, tmp_path / "run", SETTINGS, listeners=[seen.append])
    assert result.finished
    assert result.iterations == 4
    assert Settings.read(tmp_path / "run" / "settings.json") == SETTINGS
    assert {case.id for case in load_cohort(tmp_path / "run" / "cohort.json").unlabeled}
    written = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text("utf-8").splitlines()]
    assert written == seen
    names = [event["event"] for event in seen]
    assert names[0] == "preparing"
    assert names.count("started") == names.count("finished") == names.count("validated") == 1
    assert result.best_dice == load_checkpoint(tmp_path / "run" / "checkpoints" / "best.pt")["best"]


def test_no_event_holds_a_path_of_the_scans(cohort: Path, phantoms: Path, tmp_path: Path) -> None:
    train(cohort, tmp_path / "run", SETTINGS)
    assert str(phantoms.parent) not in (tmp_path / "run" / "events.jsonl").read_text("utf-8")


def test_a_run_in_the_folder_is_not_overwritten(cohort: Path, tmp_path: Path) -> None:
    train(cohort, tmp_path / "run", SETTINGS)
    before = (tmp_path / "run" / "checkpoints" / "last.pt").read_bytes()
    with pytest.raises(InputError, match="There is a run in this folder already.*--resume"):
        train(cohort, tmp_path / "run", SETTINGS)
    assert (tmp_path / "run" / "checkpoints" / "last.pt").read_bytes() == before


def test_a_run_does_not_replace_the_cohort_file_it_is_given(cohort: Path, tmp_path: Path) -> None:
    before = cohort.read_bytes()
    (tmp_path / "link.json").symlink_to(cohort)
    for spelling in (cohort, cohort.parent / ".." / cohort.parent.name / cohort.name, tmp_path / "link.json"):
        with pytest.raises(InputError, match="study: The cohort file lies in this folder and would be replaced"):
            train(spelling, cohort.parent, SETTINGS, labeled=2)
    assert cohort.read_bytes() == before
    assert list(cohort.parent.iterdir()) == [cohort]


@pytest.mark.parametrize("name", ["cohort.json", "predecessors.json", "settings.json", "best.pt"])
def test_a_run_does_not_replace_files_of_its_names_that_are_not_of_a_run(
    name: str, cohort: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    file = folder / "checkpoints" / name if name.endswith(".pt") else folder / name
    file.parent.mkdir(parents=True)
    file.write_text('{"mine": 1}', encoding="utf-8")
    with pytest.raises(InputError, match=f"other: {name} lies in this folder, is not a run's and would be replaced"):
        train(cohort, folder, SETTINGS)
    assert [one for one in folder.rglob("*") if one.is_file()] == [file]
    assert file.read_text("utf-8") == '{"mine": 1}'


def test_a_run_that_ended_before_its_first_checkpoint_can_be_started_anew(cohort: Path, tmp_path: Path) -> None:
    train(cohort, tmp_path / "run", SETTINGS)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    assert train(cohort, tmp_path / "run", SETTINGS).finished


def test_labels_beyond_the_first_n_are_not_read(phantoms: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(phantoms.parent, copy)
    cohort = load_cohort(copy / phantoms.name)
    for case in cohort.labeled[3:]:
        case.label.write_bytes(b"unreadable")
    result = train(copy / phantoms.name, tmp_path / "run", SETTINGS, labeled=3)
    assert result.finished
    with pytest.raises(InputError):
        train(copy / phantoms.name, tmp_path / "all", SETTINGS)


def test_without_validation_cases_some_labeled_ones_are_held_out_and_it_is_said(cohort: Path, tmp_path: Path) -> None:
    whole = load_cohort(cohort)
    study = _write(tmp_path / "other", Cohort(whole.labeled, whole.unlabeled, ()))
    seen: list[dict] = []
    train(study, tmp_path / "run", SETTINGS, listeners=[seen.append])
    used = load_cohort(tmp_path / "run" / "cohort.json")
    assert (len(used.labeled), len(used.validation)) == (4, 1)
    assert any("Held out" in event.get("message", "") for event in seen)
    again: list[dict] = []
    train(study, tmp_path / "again", replace(SETTINGS, seed=9), listeners=[again.append])
    assert load_cohort(tmp_path / "again" / "cohort.json").validation[0].id == used.validation[0].id


def test_a_training_that_is_stopped_before_it_saves_leaves_its_cases_free(cohort: Path, tmp_path: Path) -> None:
    prepared: list[dict] = []
    stopped = train(cohort, tmp_path / "run", SETTINGS, listeners=[prepared.append], should_stop=lambda: bool(prepared))
    assert not stopped.finished
    assert not (cohort.parent / "lasegcolearn-roles.json").exists()
    assert train(cohort, tmp_path / "other", SETTINGS).finished
    assert (cohort.parent / "lasegcolearn-roles.json").exists()


def test_cases_that_a_training_has_drawn_for_validation_are_known_to_another_before_it_has_saved(
    phantoms: Path, tmp_path: Path
) -> None:
    whole = load_cohort(phantoms)
    cohort = _write(tmp_path / "study", Cohort(whole.labeled, whole.unlabeled, ()))
    known: list[dict] = []

    def look(event: dict) -> None:
        if event["event"] == "started":
            known.append(json.loads((cohort.parent / "lasegcolearn-roles.json").read_text("utf-8")))

    train(cohort, tmp_path / "run", SETTINGS, listeners=[look])
    assert len(known) == 1 and len(known[0]["validated"]) == 1 and not known[0]["trained"]
    after = json.loads((cohort.parent / "lasegcolearn-roles.json").read_text("utf-8"))
    assert len(after["trained"]) == 6 and after["validated"] == known[0]["validated"]


def test_with_fewer_labels_a_case_that_was_held_out_before_is_left_out(cohort: Path, tmp_path: Path) -> None:
    whole = load_cohort(cohort)
    study = _write(tmp_path / "other", Cohort(whole.labeled, whole.unlabeled, ()))
    train(study, tmp_path / "run", SETTINGS)
    (held,) = load_cohort(tmp_path / "run" / "cohort.json").validation
    labeled = (*(case for case in whole.labeled if case.id != held.id), held)
    _write(tmp_path / "other", Cohort(labeled, whole.unlabeled, ()))
    seen: list[dict] = []
    train(study, tmp_path / "fewer", replace(SETTINGS, iterations=1), labeled=2, listeners=[seen.append])
    used = load_cohort(tmp_path / "fewer" / "cohort.json")
    assert (len(used.labeled), len(used.unlabeled)) == (2, len(whole.unlabeled) + 2)
    assert held.id not in {case.id for case in used.cases}
    assert any(event.get("message", "").endswith(f"held them out for validation: {held.id}.") for event in seen)
    # Without any unlabeled scan, training would fail when the first one is due.
    _write(tmp_path / "other", Cohort(labeled, (), ()))
    with pytest.raises(
        InputError, match=f"Wanted at least 2 unlabeled cases to train on, found 1: {held.id} were held"
    ):
        train(study, tmp_path / "none", replace(SETTINGS, iterations=1), labeled=len(labeled) - 2)
    supervised = replace(SETTINGS, iterations=1, method="supervised")
    train(study, tmp_path / "alone", supervised, labeled=len(labeled) - 2)
    assert (tmp_path / "alone" / "checkpoints" / "last.pt").exists()


def test_with_few_labeled_cases_none_is_held_out_and_it_is_said(cohort: Path, tmp_path: Path) -> None:
    whole = load_cohort(cohort)
    study = _write(tmp_path / "other", Cohort(whole.labeled, whole.unlabeled, ()))
    few: list[dict] = []
    train(study, tmp_path / "few", SETTINGS, labeled=4, listeners=[few.append])
    assert len(load_cohort(tmp_path / "few" / "cohort.json").labeled) == 4
    assert any("no Dice to follow" in event.get("message", "") for event in few)


def test_a_method_that_is_started_without_its_first_stage_says_so(cohort: Path, tmp_path: Path) -> None:
    told: list[str] = []

    def listen(event: dict) -> None:
        told.append(event.get("message", ""))

    train(cohort, tmp_path / "bcp", replace(SETTINGS, method="bcp", iterations=1), listeners=[listen])
    assert any("set pretraining=0.12" in message for message in told)
    told.clear()
    train(cohort, tmp_path / "own", replace(SETTINGS, iterations=1), listeners=[listen])
    train(cohort, tmp_path / "with", replace(SETTINGS, method="bcp", pretraining=0.5, iterations=1), listeners=[listen])
    start = tmp_path / "bcp" / "checkpoints" / "last.pt"
    train(cohort, tmp_path / "later", replace(SETTINGS, method="bcp", iterations=1), init=start, listeners=[listen])
    assert told and not any("pretraining" in message for message in told)


def test_a_validation_case_is_never_trained_on_in_a_later_round(cohort: Path, tmp_path: Path) -> None:
    train(cohort, tmp_path / "run", SETTINGS)
    first = load_cohort(cohort)
    moved = Cohort((*first.labeled, first.validation[0]), first.unlabeled, first.validation[1:])
    save_cohort(moved, cohort.parent / "round-2.json")
    with pytest.raises(InputError, match=first.validation[0].id):
        train(cohort.parent / "round-2.json", tmp_path / "round-2", SETTINGS)


def test_the_roles_go_with_the_checkpoint_into_another_study(cohort: Path, tmp_path: Path) -> None:
    train(cohort, tmp_path / "run", SETTINGS)
    first = load_cohort(cohort)
    moved = Cohort((*first.labeled, first.validation[0]), first.unlabeled, first.validation[1:])
    elsewhere = _write(tmp_path / "elsewhere", moved)
    with pytest.raises(InputError, match=first.validation[0].id):
        train(elsewhere, tmp_path / "run-2", SETTINGS, init=tmp_path / "run" / "checkpoints" / "last.pt")


def test_a_warm_start_goes_on_from_the_earlier_students_and_teacher(cohort: Path, tmp_path: Path) -> None:
    train(cohort, tmp_path / "run", SETTINGS)
    first = tmp_path / "run" / "checkpoints" / "last.pt"
    settings = replace(SETTINGS, iterations=1, learning_rate=1e-12, pretraining=0.3, alpha=1e-6, beta=1e-6)
    train(cohort, tmp_path / "second", settings, init=first)
    before, after = load_checkpoint(first), load_checkpoint(tmp_path / "second" / "checkpoints" / "last.pt")
    for name in ("student_1", "student_2"):
        torch.testing.assert_close(after["networks"][name]["head.weight"], before["networks"][name]["head.weight"])
    # The teacher's average does not start anew: after a step it still is a hundredth of the students at most.
    moved = after["networks"]["teacher"]["head.weight"] - before["networks"]["teacher"]["head.weight"]
    apart = before["networks"]["student_1"]["head.weight"] - before["networks"]["teacher"]["head.weight"]
    assert moved.abs().max() <= 0.02 * apart.abs().max()
    assert after["method_state"]["pretrained"] and after["settings"]["pretraining"] == 0
    assert after["lineage"]["trained"] == before["lineage"]["trained"]


def test_what_the_predecessors_were_trained_on_is_known_when_their_folders_are_gone(
    cohort: Path, tmp_path: Path
) -> None:
    all_cases = load_cohort(cohort)
    first, second, third = (RunFolder(tmp_path / name) for name in ("first", "second", "third"))
    train(cohort, first.path, replace(SETTINGS, iterations=1))
    # Supervised trainings, on ever fewer cases.
    supervised = replace(SETTINGS, method="supervised", iterations=1)
    for name, run, start in (("2", second, first), ("3", third, second)):
        fewer = Cohort(all_cases.labeled[int(name) :], all_cases.unlabeled, all_cases.validation)
        save_cohort(fewer, cohort.with_name(f"{name}.json"))
        train(cohort.with_name(f"{name}.json"), run.path, supervised, init=start.last_checkpoint)
        shutil.rmtree(start.path)
    labeled, unlabeled = ([case.id for case in cases] for cases in (all_cases.labeled, all_cases.unlabeled))
    assert read_predecessors(third) == LearnedCases(frozenset(labeled), frozenset(unlabeled))
    assert str(tmp_path) not in third.predecessors.read_text("utf-8")
    evaluated = [labeled[0], labeled[4], unlabeled[0], all_cases.validation[0].id]
    third.metrics.write_text("case,dice\n" + "".join(f"{case},0.5\n" for case in evaluated), encoding="utf-8")
    page = write_report(third.path).read_text("utf-8")
    assert f"since it was trained on them: {labeled[4]}." in page
    assert f"since a model that it was started from was trained on them: {labeled[0]}, {unlabeled[0]}." in page
    assert "on 1 cases not trained on: 50.0 %" in page


def test_a_checkpoint_that_was_given_away_tells_no_ids(cohort: Path, tmp_path: Path) -> None:
    run, later = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "later")
    train(cohort, run.path, replace(SETTINGS, iterations=1))
    assert not run.predecessors.exists()
    alone = Path(shutil.copy(run.last_checkpoint, tmp_path / "model.pt"))
    with zipfile.ZipFile(alone) as archive:
        tensors_and_values = next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    assert not [case.id for case in load_cohort(cohort).cases if case.id.encode() in tensors_and_values]
    train(cohort, later.path, replace(SETTINGS, iterations=1), init=alone)
    assert read_predecessors(later) == LearnedCases()


@pytest.mark.parametrize("damage", ["not there", "of a method that is not known", "not readable"])
def test_a_predecessors_cases_are_known_without_its_settings(damage: str, cohort: Path, tmp_path: Path) -> None:
    """As of a model that another version has made, or whose settings its owner does not let others read."""
    run, all_cases = RunFolder(tmp_path / "run"), load_cohort(cohort)
    run.path.mkdir()
    save_cohort(all_cases, run.cohort)
    if damage == "of a method that is not known":
        write_json_atomically(run.settings, {**SETTINGS.to_dict(), "method": "of_tomorrow"})
    elif damage == "not readable":
        # Nothing is forbidden to the user root; reading a folder fails in the same way.
        run.settings.mkdir()
    labeled, unlabeled = (frozenset(case.id for case in cases) for cases in (all_cases.labeled, all_cases.unlabeled))
    assert learned_by_model_in(run.last_checkpoint) == LearnedCases(labeled, unlabeled)


@pytest.mark.skipif(os.name == "nt", reason="Windows lets not everybody make links")
def test_a_predecessors_cases_are_known_if_links_lead_to_its_checkpoint(cohort: Path, tmp_path: Path) -> None:
    run, elsewhere = RunFolder(tmp_path / "run"), tmp_path / "big disk"
    run.path.mkdir()
    save_cohort(load_cohort(cohort), run.cohort)
    for folder in (run.checkpoints, elsewhere):
        folder.mkdir()
        (folder / "last.pt").touch()
    (tmp_path / "latest.pt").symlink_to(run.last_checkpoint)
    known = learned_by_model_in(run.last_checkpoint)
    assert known.labeled and learned_by_model_in(tmp_path / "latest.pt") == known
    shutil.rmtree(run.checkpoints)
    run.checkpoints.symlink_to(elsewhere, target_is_directory=True)
    assert learned_by_model_in(run.last_checkpoint) == known


def test_what_a_start_from_a_model_has_left_in_the_folder_is_not_of_one_from_scratch(
    cohort: Path, tmp_path: Path
) -> None:
    run, later = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "later")
    train(cohort, run.path, replace(SETTINGS, iterations=1))
    train(cohort, later.path, replace(SETTINGS, iterations=1), init=run.last_checkpoint)
    assert later.predecessors.exists()
    shutil.rmtree(later.checkpoints)
    train(cohort, later.path, replace(SETTINGS, iterations=1))
    assert not later.predecessors.exists()


def test_a_warm_start_from_another_method_or_a_broken_off_pretraining_starts_all_from_the_predictor(
    cohort: Path, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, iterations=1, learning_rate=1e-12)
    supervised = replace(settings, method="supervised")
    unfinished = replace(settings, pretraining=0.9, iterations=20)
    train(cohort, tmp_path / "supervised", supervised)
    stop = StopAfter(3)
    train(cohort, tmp_path / "unfinished", unfinished, listeners=[stop.listen], should_stop=stop)
    for name in ("supervised", "unfinished"):
        first = tmp_path / name / "checkpoints" / "last.pt"
        train(cohort, tmp_path / f"after {name}", settings, init=first)
        before, after = load_checkpoint(first), load_checkpoint(tmp_path / f"after {name}" / "checkpoints" / "last.pt")
        expected = before["networks"][before["predictor"]]["head.weight"]
        for network in after["networks"].values():
            torch.testing.assert_close(network["head.weight"], expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "ua_mt"}, "The networks of ua_mt cannot start from those of dtc.*Train with --method dtc"),
        ({"method": "dtc", "filters": 4}, "Its networks have another layout"),
    ],
)
def test_a_start_from_other_networks_is_refused_before_anything_is_prepared(
    cohort: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    train(cohort, tmp_path / "run", replace(SETTINGS, method="dtc", iterations=1))
    with pytest.raises(InputError, match=message):
        init = tmp_path / "run" / "checkpoints" / "last.pt"
        train(cohort, tmp_path / "second", replace(SETTINGS, **changes), init=init)
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spacing_mm": (4.0, 4.0, 4.0)}, "spacing_mm=4.0,4.0,4.0, as .*found one trained with 5.0,5.0,5.0"),
        ({"region_mm": (90.0, 90.0, 60.0)}, "region_mm=90.0,90.0,60.0, as .*found one trained with none"),
        ({"student_difference": "residual"}, "student_difference=residual, as .*found one trained with dropout"),
    ],
)
def test_a_warm_start_that_computes_otherwise_is_refused_before_anything_is_prepared(
    cohort: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    train(cohort, tmp_path / "run", replace(SETTINGS, iterations=1))
    other = replace(SETTINGS, **changes)
    with pytest.raises(InputError, match=message):
        train(cohort, tmp_path / "second", other, init=tmp_path / "run" / "checkpoints" / "last.pt")
    assert not (tmp_path / "second").exists()


def test_a_run_that_was_moved_away_from_its_scans_resumes_to_the_same_weights(cohort: Path, tmp_path: Path) -> None:
    train(cohort, tmp_path / "whole", SETTINGS)
    stop = StopAfter(2)
    assert not train(cohort, tmp_path / "run", SETTINGS, listeners=[stop.listen], should_stop=stop).finished
    (tmp_path / "run").rename(tmp_path / "moved")
    cohort.unlink()
    assert resume(tmp_path / "moved").finished
    expected = load_checkpoint(tmp_path / "whole" / "checkpoints" / "last.pt")["networks"]["teacher"]
    found = load_checkpoint(tmp_path / "moved" / "checkpoints" / "last.pt")["networks"]["teacher"]
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_stop_is_heard_while_scans_are_prepared(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("LASegColearnLib.cohort_checks._READERS", 1)
    told: list[dict] = []
    result = train(cohort, tmp_path / "run", SETTINGS, listeners=[told.append], should_stop=lambda: len(told) == 2)
    assert (result.finished, result.iterations) == (False, 0)
    assert [event["event"] for event in told] == ["preparing", "preparing", "finished"]
    assert len(list((tmp_path / "run" / "cache").glob("*.image.npy"))) < len(load_cohort(cohort).cases)
    assert train(cohort, tmp_path / "run", SETTINGS).finished


def test_a_stop_while_a_lost_cache_is_prepared_anew_leaves_the_run_where_it_was(cohort: Path, tmp_path: Path) -> None:
    stop = StopAfter(2)
    train(cohort, tmp_path / "run", SETTINGS, listeners=[stop.listen], should_stop=stop)
    shutil.rmtree(tmp_path / "run" / "cache")
    result = resume(tmp_path / "run", should_stop=lambda: True)
    assert (result.finished, result.iterations) == (False, 2)
    assert resume(tmp_path / "run").iterations == SETTINGS.iterations


def test_a_run_with_a_damaged_cache_prepares_its_scans_anew(cohort: Path, tmp_path: Path) -> None:
    stop = StopAfter()
    train(cohort, tmp_path / "run", SETTINGS, listeners=[stop.listen], should_stop=stop)
    cache = tmp_path / "run" / "cache"
    index = (cache / "index.json").read_bytes()
    image = sorted(cache.glob("*.image.npy"))[0]
    for file, content in (
        (cache / "index.json", index[: len(index) // 2]),
        (cache / "index.json", b'{"labeled": [7]}'),
        (image, image.read_bytes()[:200]),
    ):
        file.write_bytes(content)
        prepared: list[dict] = []
        stop = StopAfter()
        resume(tmp_path / "run", listeners=[prepared.append, stop.listen], should_stop=stop)
        assert any(event["event"] == "preparing" for event in prepared)
        assert (cache / "index.json").read_bytes() == index


def test_a_run_that_goes_on_may_change_how_it_computes_and_for_how_long_and_nothing_else(
    cohort: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    stop = StopAfter()
    train(cohort, run, SETTINGS, listeners=[stop.listen], should_stop=stop)
    with pytest.raises(InputError) as refused:
        resume(run, changes=["filters=4", "seed=7", f"pretraining={SETTINGS.pretraining}"])
    assert [problem.case for problem in refused.value.problems] == ["seed", "filters"]
    assert "The run has 2, which cannot be changed to 4." in str(refused.value)
    with pytest.raises(InputError, match="Use --minutes"):
        resume(run, changes=["minutes=3"])
    with pytest.raises(InputError, match="no setting of this name"):
        resume(run, changes=["nonsense=1"])
    result = resume(run, changes=["learning_rate=0.001", "batch_parts=2"], iterations=6, should_stop=lambda: True)
    assert (result.finished, result.iterations) == (False, 2)
    kept = Settings.read(run / "settings.json")
    assert kept == replace(SETTINGS, learning_rate=0.001, batch_parts=2, iterations=6)
    assert resume(run).iterations == 6, "The new length holds from then on."


def test_a_resumed_run_keeps_the_precision_that_was_chosen_for_it(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = 0.5
    monkeypatch.setattr("LASegColearnLib.device._bfloat16_is_faster_on_cpu", lambda limit=0.8: times < limit)
    run, told = tmp_path / "run", []
    settings = replace(SETTINGS, precision="auto", iterations=9, validations=0)
    stop = StopAfter(1)
    train(cohort, run, settings, device="cpu", listeners=[stop.listen], should_stop=stop)

    def resumed(**changes: Any) -> str:
        """The last message or device that it tells."""
        told.clear()
        stop = StopAfter(1)
        resume(run, device="cpu", listeners=[told.append, stop.listen], should_stop=stop, **changes)
        saved = load_checkpoint(run / "checkpoints" / "last.pt")["computed_on"]
        return " ".join([*(event["message"] for event in told if event["event"] == "warning"), saved["precision"]])

    times = 0.9
    assert resumed() == "bfloat16", "Which another measurement would not have chosen."
    times = 2.0
    assert resumed().endswith("It continues in float32. float32")
    times = 0.5
    assert resumed() == "float32", "And stays there."
    assert resumed(changes=["precision=bfloat16"]) == "bfloat16"
    times = 2.0
    assert resumed(changes=["precision=auto"]) == "float32", "A new choice is asked for."


def test_a_length_that_a_run_is_past_is_refused_and_leaves_its_settings(cohort: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(cohort, run, SETTINGS)
    before = (run / "settings.json").read_bytes()
    found = f"{SETTINGS.iterations} iterations"
    with pytest.raises(InputError, match=f"--iterations: The run is already longer than that: {found}. Give more"):
        resume(run, iterations=SETTINGS.iterations - 1)
    with pytest.raises(InputError, match=r"--minutes: The run is already longer than that: 0\.\d minutes"):
        resume(run, minutes=1e-9)
    assert (run / "settings.json").read_bytes() == before
    assert resume(run, iterations=SETTINGS.iterations).iterations == SETTINGS.iterations


def test_resuming_where_nothing_was_saved_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint to continue from"):
        resume(tmp_path / "nothing")


def test_a_run_without_its_settings_says_so(cohort: Path, tmp_path: Path) -> None:
    run = train(cohort, tmp_path / "run", replace(SETTINGS, iterations=1)).run
    run.settings.unlink()
    with pytest.raises(InputError, match="Wanted the settings of a run, found no such file"):
        resume(run.path)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_room_for_checkpoints_is_that_of_three(optimizer: str, cohort: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, optimizer=optimizer, filters=8, iterations=2)
    run = train(cohort, tmp_path / "run", settings).run
    written = run.last_checkpoint.stat().st_size
    assert checkpoint_bytes(settings) == pytest.approx(3 * written, rel=0.05)


def test_what_a_killed_process_had_begun_to_write_is_removed(cohort: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    begun = [run.checkpoints / ".0a1b2c3d-last.pt", run.cache / "deep" / ".99aabbcc-la.npy"]
    kept = [run.checkpoints / ".gitignore", run.path / ".0a1b2c3d-notes", run.cache / ".11aabbcc-by-another.npy"]
    for file in (*begun, *kept):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    for file in (*begun, *kept[:-1]):
        os.utime(file, (1e9, 1e9))
    train(cohort, run.path, replace(SETTINGS, iterations=1))
    assert [file for file in (*begun, *kept) if file.exists()] == kept


def test_too_few_cases_are_refused_for_colearning_and_fewer_are_enough_for_supervised(
    cohort: Path, tmp_path: Path
) -> None:
    whole = load_cohort(cohort)
    study = _write(tmp_path / "small", Cohort(whole.labeled[:1], (), ()))
    with pytest.raises(InputError, match="2 labeled"):
        train(study, tmp_path / "run", SETTINGS)
    assert train(study, tmp_path / "supervised", replace(SETTINGS, method="supervised")).finished


def test_a_model_of_labels_alone_was_not_trained_on_the_unlabeled_scans(cohort: Path, tmp_path: Path) -> None:
    """A label of one of them may judge it."""
    whole = load_cohort(cohort)
    study = _write(tmp_path / "own", Cohort(whole.labeled, whole.unlabeled, ()))
    settings = replace(SETTINGS, method="supervised", holdout=0.0)
    model = load_checkpoint(train(study, tmp_path / "run", settings).run.last_checkpoint)
    assert len(model["lineage"]["trained"]) == len(whole.labeled)


def test_holding_cases_out_leaves_enough_to_train_on(cohort: Path, tmp_path: Path) -> None:
    whole = load_cohort(cohort)
    study = _write(tmp_path / "other", Cohort(whole.labeled, whole.unlabeled, ()))
    train(study, tmp_path / "run", replace(SETTINGS, holdout=0.99))
    assert len(load_cohort(tmp_path / "run" / "cohort.json").labeled) == 2
    # Those of the first round are held out again, and one is left.
    first = load_cohort(tmp_path / "run" / "cohort.json")
    again = Cohort((first.labeled[0], *first.validation), whole.unlabeled, ())
    save_cohort(again, study.parent / "round-2.json")
    with pytest.raises(InputError, match="Wanted at least 2 labeled cases to train on, found 1"):
        train(study.parent / "round-2.json", tmp_path / "run-2", SETTINGS)
    assert train(study.parent / "round-2.json", tmp_path / "run-3", replace(SETTINGS, method="supervised")).finished


def test_one_process_at_a_time_trains_in_a_folder(cohort: Path, tmp_path: Path) -> None:
    told: list[dict] = []
    with alone_in(tmp_path / "run"), pytest.raises(InputError, match="run: Another process is training in this folder"):
        train(cohort, tmp_path / "run", SETTINGS, listeners=[told.append])
    assert told == [] and not (tmp_path / "run" / "events.jsonl").exists()
    assert train(cohort, tmp_path / "run", SETTINGS).finished
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: Wanted a folder for the run, found a file"):
        train(cohort, tmp_path / "file", SETTINGS)
