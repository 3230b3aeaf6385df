"""Several models trained at once by one training: what predicts, stopping, resuming, and what fails beside it."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from LASegColearnLib.checkpoints import Model, load_checkpoint, load_model, save_checkpoint
from LASegColearnLib.cohort import load_cohort, save_cohort
from LASegColearnLib.committee_training import with_possible_committee
from LASegColearnLib.device import Device, choose_device
from LASegColearnLib.errors import InputError
from LASegColearnLib.judging import judge
from LASegColearnLib.losses import foreground_probability
from LASegColearnLib.phantom import write_phantom_cohort
from LASegColearnLib.prediction import predict
from LASegColearnLib.run_folder import RunFolder
from LASegColearnLib.settings import Settings, preset
from LASegColearnLib.training import resume, train
from stop_after import StopAfter

SETTINGS = Settings(
    spacing_mm=(5.0, 5.0, 5.0),
    patch_size=(16, 16, 16),
    filters=2,
    normalization="group",
    iterations=4,
    validations=1,
    committee=2,
    precision="float32",
)
PATCH = torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom_cohort(tmp_path_factory.mktemp("phantoms"), labeled=3, unlabeled=2, validation=1, seed=3)


@pytest.fixture
def cohort(phantoms: Path, tmp_path: Path) -> Path:
    (tmp_path / "study").mkdir()
    save_cohort(load_cohort(phantoms), tmp_path / "study" / "cohort.json")
    return tmp_path / "study" / "cohort.json"


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def _say(model: Model, network: str) -> torch.Tensor:
    with torch.no_grad():
        return foreground_probability(model.networks[network](PATCH))


def _alone(run: RunFolder, tmp_path: Path) -> Model:
    """A run's own model, without those that were trained at once with it."""
    content = load_checkpoint(run.last_checkpoint)
    content.pop("committee", None)
    save_checkpoint(tmp_path / "alone.pt", content)
    return load_model(tmp_path / "alone.pt")


def test_the_models_that_were_trained_at_once_predict_by_their_mean(cohort: Path, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    result = train(cohort, tmp_path / "run", SETTINGS, listeners=[seen.append])
    assert result.finished
    beside = result.run.trained_beside(2)
    model, other = load_model(result.run.last_checkpoint), load_model(beside.last_checkpoint)
    own = _alone(result.run, tmp_path)
    assert (list(model.networks), model.predictor) == (["student_1", "student_2", "teacher"], "teacher")
    assert float((_say(own, "teacher") - _say(other, "teacher")).abs().max()) > 0.01
    mean = (_say(own, "teacher") + _say(other, "teacher")) / 2
    torch.testing.assert_close(_say(model, "teacher"), mean, rtol=1e-4, atol=1e-5)
    assert torch.equal(_say(model, "student_2"), _say(own, "student_2"))
    # Each with as many iterations, from weights and patches of its own.
    assert (other.iteration, other.settings.seed, other.settings.committee) == (4, SETTINGS.seed + 1, 1)
    assert [event["committee"] for event in seen if event["event"] == "started"] == [2]
    # What was validated last is what predicts.
    validated = [event for event in seen if event["event"] == "validated"]
    assert [event["iteration"] for event in validated] == [4, 4]
    assert set(validated[-1]["dice"]) == {"student_1", "student_2", "teacher"}
    assert [event["event"] for event in seen][-2:] == ["validated", "finished"]
    assert not [event for event in seen if event["event"] == "warning"]
    assert torch.get_num_threads() == 2


def test_what_is_validated_last_is_the_mean(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from LASegColearnLib import trainer

    shown: list[list[str]] = []
    real = trainer.validate

    def validate(networks: Any, *arguments: Any, **options: Any) -> Any:
        shown.append([type(networks[name]).__name__ for name in ("student_1", "teacher")])
        return real(networks, *arguments, **options)

    monkeypatch.setattr(trainer, "validate", validate)
    train(cohort, tmp_path / "run", SETTINGS)
    assert shown == [["VNet", "VNet"], ["VNet", "Committee"]]


def test_the_mean_segments_is_judged_and_gone_on_from(cohort: Path, tmp_path: Path) -> None:
    run = train(cohort, tmp_path / "run", SETTINGS).run
    scan = load_cohort(cohort).validation[0].image
    together = predict(run.last_checkpoint, [("a", scan)], tmp_path / "together")[0].figures
    _alone(run, tmp_path)
    alone = predict(tmp_path / "alone.pt", [("a", scan)], tmp_path / "apart")[0].figures
    assert together["network"] == alone["network"] == "teacher"
    assert together["agreement"].keys() == alone["agreement"].keys()
    assert together["model"]["weights"] != alone["model"]["weights"]
    assert len(judge(run.path).rows) == 1
    later = train(cohort, tmp_path / "later", replace(SETTINGS, iterations=1), init=run.last_checkpoint).run
    assert len(load_checkpoint(later.last_checkpoint)["committee"]) == 1


def test_a_model_beside_has_the_runs_cases_and_shares_its_prepared_scans(cohort: Path, tmp_path: Path) -> None:
    run = train(cohort, tmp_path / "run", replace(SETTINGS, iterations=1)).run
    beside = run.trained_beside(2)
    theirs, ours = load_cohort(beside.cohort), load_cohort(run.cohort)
    for role in ("labeled", "unlabeled", "validation"):
        assert [case.id for case in getattr(theirs, role)] == [case.id for case in getattr(ours, role)]
    assert theirs.labeled[0].image.samefile(ours.labeled[0].image)
    assert load_checkpoint(beside.last_checkpoint)["lineage"] == load_checkpoint(run.last_checkpoint)["lineage"]
    own = {file.name: file for file in run.cache.glob("*.image.npy")}
    shared = {file.name: file for file in beside.cache.glob("*.image.npy")}
    assert own and own.keys() == shared.keys()
    assert all(own[name].samefile(file) for name, file in shared.items())


def test_a_disk_without_links_gets_copies(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    run = train(cohort, tmp_path / "run", replace(SETTINGS, iterations=1)).run
    (first, *_) = run.trained_beside(2).cache.glob("*.image.npy")
    assert first.read_bytes() == (run.cache / first.name).read_bytes()
    assert not first.samefile(run.cache / first.name)


def test_a_stop_ends_all_and_the_run_goes_on_with_all(cohort: Path, tmp_path: Path) -> None:
    stop = StopAfter(2)
    many = replace(SETTINGS, iterations=100_000, validations=0)
    begun = time.monotonic()
    result = train(cohort, tmp_path / "run", many, listeners=[stop.listen], should_stop=stop)
    assert not result.finished
    assert time.monotonic() - begun < 60
    beside = result.run.trained_beside(2)
    assert not beside.stop_file.exists()
    made = load_checkpoint(beside.last_checkpoint)["iteration"]
    assert 0 < made < 100_000
    # Until the end the first model predicts alone: the others may be far behind.
    assert "committee" not in load_checkpoint(result.run.last_checkpoint)
    until = max(made, result.iterations) + 2
    assert resume(result.run.path, iterations=until).finished
    assert load_model(beside.last_checkpoint).iteration == load_model(result.run.last_checkpoint).iteration == until
    assert len(load_checkpoint(result.run.last_checkpoint)["committee"]) == 1


def test_a_run_that_is_complete_and_resumed_keeps_all_its_models(cohort: Path, tmp_path: Path) -> None:
    run = train(cohort, tmp_path / "run", SETTINGS).run
    before = load_checkpoint(run.last_checkpoint)["committee"]
    assert resume(run.path).finished
    after = load_checkpoint(run.last_checkpoint)["committee"]
    assert all(torch.equal(after[0][name], value) for name, value in before[0].items())
    assert load_model(run.trained_beside(2).last_checkpoint).iteration == 4


def test_a_model_that_cannot_go_on_is_named_and_the_others_predict(cohort: Path, tmp_path: Path) -> None:
    run = train(cohort, tmp_path / "run", SETTINGS).run
    damaged, lost = tmp_path / "damaged", tmp_path / "lost"
    for folder in (damaged, lost):
        shutil.copytree(run.path, folder)
    RunFolder(damaged).trained_beside(2).last_checkpoint.write_bytes(b"PK")
    shutil.rmtree(lost / "committee")
    for folder, cause in ((damaged, "last.pt: It is no checkpoint"), (lost, "its folder is not there.")):
        told: list[str] = []
        result = resume(
            folder, iterations=5, listeners=[lambda event, told=told: told.append(event.get("message", ""))]
        )
        assert result.finished
        found = [message for message in told if message.startswith("Model 2 (committee/2) predicts nothing")]
        assert len(found) == 1 and cause in found[0]
        assert "committee" not in load_checkpoint(result.run.last_checkpoint)


def test_what_a_resumed_run_is_told_is_told_to_all_but_what_is_not_the_same_of_all(
    cohort: Path, tmp_path: Path
) -> None:
    run = train(cohort, tmp_path / "run", SETTINGS).run
    told: list[str] = []
    changes = [f"seed={SETTINGS.seed}", "committee=2", "learning_rate=0.002"]
    resume(run.path, iterations=5, changes=changes, listeners=[lambda event: told.append(event.get("message", ""))])
    assert not [message for message in told if message]
    assert Settings.read(run.trained_beside(2).settings).learning_rate == 0.002
    assert len(load_checkpoint(run.last_checkpoint)["committee"]) == 1


def test_where_no_process_can_be_started_the_first_is_trained_alone(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from LASegColearnLib import committee_training

    def refuse(*arguments: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(committee_training, "start_training", refuse)
    told: list[str] = []
    result = train(cohort, tmp_path / "run", SETTINGS, listeners=[lambda event: told.append(event.get("message", ""))])
    assert result.finished
    assert any(message.endswith("its process could not be started (Permission denied).") for message in told)
    assert list(load_model(result.run.last_checkpoint).networks) == ["student_1", "student_2", "teacher"]


def test_an_error_of_the_first_ends_the_others(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from LASegColearnLib.trainer import Trainer

    def fail(self: Trainer) -> bool:
        raise RuntimeError("broken")

    monkeypatch.setattr(Trainer, "train", fail)
    with pytest.raises(RuntimeError, match="broken"):
        train(cohort, tmp_path / "run", replace(SETTINGS, iterations=100_000, validations=0))
    events = [
        json.loads(line)
        for line in RunFolder(tmp_path / "run").trained_beside(2).events.read_text("utf-8").splitlines()
    ]
    assert (events[-1]["event"], events[-1]["complete"]) == ("finished", False)


def test_a_folder_called_committee_that_is_somebodys_own_is_left_alone(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "committee").mkdir(parents=True)
    with pytest.raises(InputError, match="run: committee lies in this folder, is not of a run and would be replaced"):
        train(cohort, tmp_path / "run", SETTINGS)


def test_so_many_models_are_trained_as_there_are_cores_or_one_by_several_processes() -> None:
    processor = choose_device("cpu", "float32")
    three = replace(SETTINGS, committee=3)
    assert with_possible_committee(SETTINGS, processor, 1) == (SETTINGS, [])
    fewer, said = with_possible_committee(three, processor, 1)
    assert fewer.committee == 2
    assert said == ["Of 3 models that predict together 2 are trained: each needs a processor core of its own."]
    torch.set_num_threads(1)
    assert with_possible_committee(three, processor, 1)[0].committee == 1
    gpu = Device(torch.device("cuda"), torch.float32, "a GPU")
    assert with_possible_committee(three, gpu, 1) == (three, [])
    single, said = with_possible_committee(three, gpu, 2)
    assert single.committee == 1
    assert said == ["Several processes train one model together, instead of 3."]


def test_on_one_core_one_model_is_trained_and_it_is_said(cohort: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    told: list[str] = []
    run = train(
        cohort,
        tmp_path / "run",
        replace(SETTINGS, iterations=1),
        listeners=[lambda event: told.append(event.get("message", ""))],
    ).run
    assert any(message.startswith("Of 2 models that predict together one is trained") for message in told)
    assert not run.committee.exists()
    assert Settings.read(run.settings).committee == 1


def test_a_checkpoint_whose_other_models_are_of_another_kind_is_refused(cohort: Path, tmp_path: Path) -> None:
    run = train(cohort, tmp_path / "run", SETTINGS).run
    content = load_checkpoint(run.last_checkpoint)
    for others, cause in (("none", "not a checkpoint of LASegColearn"), ([{}], "Its networks have another layout")):
        save_checkpoint(tmp_path / "other.pt", {**content, "committee": others})
        with pytest.raises(InputError, match=cause):
            load_model(tmp_path / "other.pt")


def test_the_presets_say_how_many_models_there_are() -> None:
    assert {name: preset(name).committee for name in ("paper", "cpu", "demo")} == {"paper": 1, "cpu": 2, "demo": 1}
    for wrong in (0, 9):
        assert [problem.case for problem in replace(SETTINGS, committee=wrong).problems()] == ["committee"]
