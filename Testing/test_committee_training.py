"""Several models trained at once by one training: what predicts, stopping, resuming, and what fails beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from LASegColearnLib import committee_training, trainer
from LASegColearnLib.checkpoints import Model, load_checkpoint, load_model, save_checkpoint
from LASegColearnLib.cohort import load_cohort, save_cohort
from LASegColearnLib.committee_training import CommitteeTraining, with_possible_committee
from LASegColearnLib.device import Device, choose_device
from LASegColearnLib.errors import InputError
from LASegColearnLib.events import EventLog
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


@pytest.fixture(scope="module")
def trained(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two models that came to its end, which is copied for those that do something with it."""
    folder = tmp_path_factory.mktemp("Vorhöfe 左心房")
    save_cohort(load_cohort(phantoms), folder / "cohort.json")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    train(folder / "cohort.json", folder / "run", SETTINGS)
    torch.set_num_threads(threads)
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(trained, tmp_path / "run")
    return RunFolder(tmp_path / "run")


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


def test_the_models_that_were_trained_at_once_predict_by_their_mean(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[list[str]] = []
    real = trainer.validate

    def validate(networks: Any, *arguments: Any, **options: Any) -> Any:
        shown.append([type(networks[name]).__name__ for name in ("student_1", "teacher")])
        return real(networks, *arguments, **options)

    monkeypatch.setattr(trainer, "validate", validate)
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
    assert (other.iteration, other.settings.seed, other.settings.committee) == (4, SETTINGS.seed + 1_000_003, 1)
    assert [event["committee"] for event in seen if event["event"] == "started"] == [2]
    # What was validated last is what predicts.
    assert shown == [["VNet", "VNet"], ["VNet", "Committee"]]
    validated = [event for event in seen if event["event"] == "validated"]
    assert [event["iteration"] for event in validated] == [4, 4]
    assert set(validated[-1]["dice"]) == {"student_1", "student_2", "teacher"}
    assert [event["event"] for event in seen][-2:] == ["validated", "finished"]
    assert not [event for event in seen if event["event"] == "warning"]
    assert torch.get_num_threads() == 2


def test_the_mean_segments_is_judged_and_gone_on_from(cohort: Path, run: RunFolder, tmp_path: Path) -> None:
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
    run = RunFolder(tmp_path / "run")
    beside = run.trained_beside(2)
    shared: list[bool] = []

    def look(event: dict[str, Any]) -> None:
        if event["event"] == "started":
            own = {file.name: file for file in run.cache.glob("*.image.npy")}
            theirs = {file.name: file for file in beside.cache.glob("*.image.npy")}
            assert own.keys() == theirs.keys()
            shared.extend(own[name].samefile(file) for name, file in theirs.items())

    train(cohort, run.path, replace(SETTINGS, iterations=1), listeners=[look])
    assert shared == [True] * 6
    theirs, ours = load_cohort(beside.cohort), load_cohort(run.cohort)
    for role in ("labeled", "unlabeled", "validation"):
        assert [case.id for case in getattr(theirs, role)] == [case.id for case in getattr(ours, role)]
    assert theirs.labeled[0].image.samefile(ours.labeled[0].image)
    assert load_checkpoint(beside.last_checkpoint)["lineage"] == load_checkpoint(run.last_checkpoint)["lineage"]
    # Who removes the run's cache, to hand it on or to have room, has removed all.
    assert not beside.cache.exists()


def test_a_disk_without_links_gets_copies(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    run = RunFolder(tmp_path / "run")
    alike: list[bool] = []

    def look(event: dict[str, Any]) -> None:
        if event["event"] == "started":
            (first, *_) = run.trained_beside(2).cache.glob("*.image.npy")
            own = run.cache / first.name
            alike.append(first.read_bytes() == own.read_bytes() and not first.samefile(own))

    assert train(cohort, run.path, replace(SETTINGS, iterations=1), listeners=[look]).finished
    assert alike == [True]


def test_a_stop_ends_all_and_the_run_goes_on_with_all(cohort: Path, tmp_path: Path) -> None:
    stop = StopAfter(2)
    many = replace(SETTINGS, iterations=100_000, validations=0)
    begun = time.monotonic()
    result = train(cohort, tmp_path / "run", many, listeners=[stop.listen], should_stop=stop)
    assert not result.finished
    assert time.monotonic() - begun < 300
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


def test_a_run_that_is_complete_and_resumed_keeps_all_its_models(run: RunFolder) -> None:
    before = load_checkpoint(run.last_checkpoint)["committee"]
    assert resume(run.path).finished
    after = load_checkpoint(run.last_checkpoint)["committee"]
    assert all(torch.equal(after[0][name], value) for name, value in before[0].items())
    assert load_model(run.trained_beside(2).last_checkpoint).iteration == 4


def test_a_model_that_cannot_go_on_is_named_at_once_and_the_others_predict(run: RunFolder, tmp_path: Path) -> None:
    damaged, lost = tmp_path / "damaged", tmp_path / "lost"
    for folder in (damaged, lost):
        shutil.copytree(run.path, folder)
    RunFolder(damaged).trained_beside(2).last_checkpoint.write_bytes(b"PK")
    shutil.rmtree(lost / "committee")
    for folder, cause in ((damaged, "last.pt: It is no checkpoint."), (lost, "Its folder is not there, so")):
        told: list[dict[str, Any]] = []
        result = resume(folder, iterations=5, listeners=[told.append])
        assert result.finished
        warnings = [event["message"] for event in told if event["event"] == "warning"]
        assert len(warnings) == 1 and warnings[0].startswith(f"Model 2 (committee/2): {cause}")
        kinds = [event["event"] for event in told]
        assert kinds.index("warning") < kinds.index("finished")
        # Of a sentence that may name a patient's file the record keeps nothing.
        record = result.run.events.read_text("utf-8")
        own = "Model 2 (committee/2): " + ("It failed. Its training did not finish" if folder == damaged else cause)
        assert own in record and "last.pt" not in record
        assert told[-1]["committee"] == 1
        assert "committee" not in load_checkpoint(result.run.last_checkpoint)


def test_a_run_that_is_complete_keeps_its_models_when_their_folder_is_removed(run: RunFolder) -> None:
    before = load_checkpoint(run.last_checkpoint)["committee"]
    shutil.rmtree(run.committee)
    told: list[str] = []
    assert resume(run.path, listeners=[lambda event: told.append(event.get("message", ""))]).finished
    assert "Model 2 (committee/2): Its folder is not there, so it is not trained further." in told
    (after,) = load_checkpoint(run.last_checkpoint)["committee"]
    assert all(torch.equal(after[name], value) for name, value in before[0].items())


def test_a_complete_run_goes_on_with_the_first_model_alone_if_that_is_wanted(run: RunFolder) -> None:
    assert resume(run.path, changes=["committee=1"]).finished
    assert not load_checkpoint(run.last_checkpoint).get("committee")


def test_a_run_whose_second_model_is_stopped_while_it_is_waited_for_is_not_complete(run: RunFolder) -> None:
    # The first has reached its end, the second has not.
    content = load_checkpoint(run.last_checkpoint)
    content.pop("committee")
    save_checkpoint(run.last_checkpoint, content)
    other = run.trained_beside(2).last_checkpoint
    save_checkpoint(other, {**load_checkpoint(other), "iteration": 2, "complete": False})
    told: list[dict[str, Any]] = []
    assert not resume(run.path, listeners=[told.append], should_stop=lambda: True).finished
    assert told[-1] | {"event": "finished", "complete": False} == told[-1]
    assert not [event for event in told if event["event"] == "warning"]
    assert resume(run.path).finished
    assert len(load_checkpoint(run.last_checkpoint)["committee"]) == 1
    # It went on with the run's prepared scans, and has not made them again.
    record = run.trained_beside(2).events.read_text("utf-8")
    assert '"preparing"' not in record


def test_a_complete_run_that_is_stopped_as_it_is_resumed_keeps_its_models(run: RunFolder) -> None:
    resume(run.path, should_stop=lambda: True)
    assert len(load_checkpoint(run.last_checkpoint)["committee"]) == 1


def test_a_length_that_a_model_is_past_is_refused_before_anything_is_trained(run: RunFolder) -> None:
    other = run.trained_beside(2).last_checkpoint
    save_checkpoint(other, {**load_checkpoint(other), "iteration": 8})
    with pytest.raises(InputError, match="The run is already longer than that: 8 iterations"):
        resume(run.path, iterations=6)


def test_a_run_goes_on_with_fewer_models_and_not_with_more(run: RunFolder) -> None:
    with pytest.raises(InputError, match="committee: The run has 2, which cannot be changed to 3"):
        resume(run.path, iterations=5, changes=["committee=3"])
    assert resume(run.path, iterations=5, changes=["committee=1"]).finished
    assert load_checkpoint(run.trained_beside(2).last_checkpoint)["iteration"] == 4
    assert "committee" not in load_checkpoint(run.last_checkpoint)


def test_a_stop_before_the_others_have_begun_ends_them_at_once(cohort: Path, tmp_path: Path) -> None:
    prepared = 0

    def listen(event: dict[str, Any]) -> None:
        nonlocal prepared
        prepared += event["event"] == "preparing"

    begun = time.monotonic()
    many = replace(SETTINGS, iterations=100_000)
    # Asked for only when all six scans have been prepared: there is the second model's process then.
    seconds: list[float] = []

    def stop() -> bool:
        if prepared == 6 and RunFolder(tmp_path / "run").trained_beside(2).last_checkpoint.exists():
            seconds.append(time.monotonic() - begun)
            return True
        return False

    result = train(cohort, tmp_path / "run", many, listeners=[listen], should_stop=stop)
    assert not result.finished
    assert time.monotonic() - begun - seconds[0] < 30
    assert resume(result.run.path, iterations=result.iterations + 1).finished
    assert len(load_checkpoint(result.run.last_checkpoint)["committee"]) == 1


class _Trainings:
    """Stands for the further models' processes: Python that does what it is told instead of training."""

    def __init__(self, script: str) -> None:
        self.script = script
        self.threads: list[int | None] = []

    def start(self, arguments: Any, threads: int | None = None, quiet: bool = False) -> subprocess.Popen[str]:
        self.threads.append(threads)
        command = [sys.executable, "-u", "-c", self.script, *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8")


@pytest.fixture
def beside(tmp_path: Path) -> RunFolder:
    """A run whose second model has a checkpoint, as far as anyone looks at it."""
    run = RunFolder(tmp_path / "run")
    other = run.trained_beside(2)
    other.checkpoints.mkdir(parents=True)
    other.last_checkpoint.write_bytes(b"")
    return run


def test_what_another_training_warns_of_is_told_with_its_number(
    beside: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = 'print(\'{"event": "warning", "message": "The teacher predicts nothing."}\'); print(\'no event\')'
    monkeypatch.setattr(committee_training, "start_training", _Trainings(script).start)
    told: list[dict[str, Any]] = []
    with CommitteeTraining(beside, SETTINGS, choose_device("cpu", "float32"), EventLog(None, told.append)) as others:
        assert others.wait_until_ended(others.passing_on(lambda: False))
    first, last = [event["message"] for event in told if event["event"] == "warning"]
    assert first == "Model 2 (committee/2): The teacher predicts nothing."
    ended = "Model 2 (committee/2): Its process ended without giving a reason. "
    assert last == f"{ended}Its training did not finish, so the other models predict without it."


def test_one_that_was_stopped_with_this_process_has_not_failed(
    beside: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by Ctrl-C in a terminal, which all of its processes get."""
    script = 'print(\'{"event": "started"}\'); print(\'{"event": "finished", "complete": false}\')'
    monkeypatch.setattr(committee_training, "start_training", _Trainings(script).start)
    told: list[dict[str, Any]] = []
    with CommitteeTraining(beside, SETTINGS, choose_device("cpu", "float32"), EventLog(None, told.append)) as others:
        assert not others.wait_until_ended(others.passing_on(lambda: False))
    assert not [event for event in told if event["event"] == "warning"]


def test_what_fails_as_it_saves_is_told(beside: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"""
import pathlib, time
print('{{"event": "started"}}')
while not pathlib.Path({str(beside.trained_beside(2).stop_file)!r}).exists(): time.sleep(0.05)
print('{{"event": "failed", "message": "The disk is full."}}')
"""
    monkeypatch.setattr(committee_training, "start_training", _Trainings(script).start)
    told: list[dict[str, Any]] = []
    with CommitteeTraining(beside, SETTINGS, choose_device("cpu", "float32"), EventLog(None, told.append)) as others:
        others.wait_until_begun(lambda: False)
        others.passing_on(lambda: True)()
    messages = [event["message"] for event in told if event["event"] == "warning"]
    assert messages == ["Model 2 (committee/2): The disk is full. It continues from what it saved before."]


def test_each_has_its_share_of_the_threads_until_the_others_have_ended(
    beside: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = _Trainings('import time; print(\'{"event": "started"}\'); time.sleep(1000)')
    monkeypatch.setattr(committee_training, "start_training", trainings.start)
    torch.set_num_threads(4)
    with CommitteeTraining(beside, SETTINGS, choose_device("cpu", "float32"), EventLog(None)) as others:
        asked = others.passing_on(lambda: False)
        others.wait_until_begun(asked)
        assert trainings.threads == [2]
        assert torch.get_num_threads() == 2
        others._trainings[0]._process.kill()
        others.wait_until_ended(asked)
        assert torch.get_num_threads() == 4
    gpu = Device(torch.device("cuda"), torch.float32, "a GPU")
    with CommitteeTraining(beside, SETTINGS, gpu, EventLog(None)) as others:
        others.passing_on(lambda: False)()
        assert (trainings.threads[-1], torch.get_num_threads()) == (None, 4)
        others._trainings[0]._process.kill()


def test_while_the_others_are_waited_for_it_is_said_how_long(
    beside: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = {"event": "progress", "seconds_left": 75.0, "elapsed_seconds": 5.0, "iteration": 2}
    lines = [json.dumps(progress), json.dumps({"event": "finished", "complete": True})]
    script = f"import time; print({lines[0]!r}); time.sleep(3); print({lines[1]!r})"
    monkeypatch.setattr(committee_training, "start_training", _Trainings(script).start)
    told: list[dict[str, Any]] = []
    with CommitteeTraining(beside, SETTINGS, choose_device("cpu", "float32"), EventLog(None, told.append)) as others:
        assert others.wait_until_ended(lambda: False)
        assert others.complete == [beside.trained_beside(2)]
    assert {"event": "waiting", "models": [2], "seconds_left": 75.0} in told
    assert not [event for event in told if event["event"] != "waiting"]


def test_where_no_file_can_be_made_the_others_are_ended_by_a_signal(
    beside: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = 'import time; print(\'{"event": "started"}\'); time.sleep(1000)'
    monkeypatch.setattr(committee_training, "start_training", _Trainings(script).start)

    def refuse(*arguments: Any) -> None:
        raise OSError(122, "Disk quota exceeded")

    begun = time.monotonic()
    with CommitteeTraining(beside, SETTINGS, choose_device("cpu", "float32"), EventLog(None)) as others:
        others.wait_until_begun(lambda: False)
        monkeypatch.setattr(Path, "touch", refuse)
        assert others.passing_on(lambda: True)()
    assert time.monotonic() - begun < 30
    assert others._trainings[0].ended.is_set()


def test_a_change_that_did_not_reach_all_before_a_crash_reaches_them_when_the_run_goes_on(run: RunFolder) -> None:
    changed = replace(Settings.read(run.settings), iterations=6, learning_rate=0.002)
    run.settings.write_text(json.dumps(changed.to_dict()), encoding="utf-8")
    assert resume(run.path).finished
    beside = run.trained_beside(2)
    assert (load_model(beside.last_checkpoint).iteration, Settings.read(beside.settings).learning_rate) == (6, 0.002)
    assert len(load_checkpoint(run.last_checkpoint)["committee"]) == 1


def test_it_is_said_that_all_is_saved_when_the_others_have_saved(run: RunFolder) -> None:
    stop = StopAfter(6)
    told: list[tuple[str, bool]] = []

    def listen(event: dict[str, Any]) -> None:
        told.append((event["event"], '"finished"' in run.trained_beside(2).events.read_text("utf-8").splitlines()[-1]))
        stop.listen(event)

    assert not resume(run.path, iterations=100_000, listeners=[listen], should_stop=stop).finished
    assert told[-1] == ("finished", True)


def test_what_a_resumed_run_is_told_is_told_to_all_but_what_is_not_the_same_of_all(run: RunFolder) -> None:
    told: list[str] = []
    changes = [f"seed={SETTINGS.seed}", "committee=2", "learning_rate=0.002"]
    resume(run.path, iterations=5, changes=changes, listeners=[lambda event: told.append(event.get("message", ""))])
    assert not [message for message in told if message]
    assert Settings.read(run.trained_beside(2).settings).learning_rate == 0.002
    assert len(load_checkpoint(run.last_checkpoint)["committee"]) == 1


def test_where_no_process_can_be_started_the_first_is_trained_alone(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(committee_training, "start_training", refuse)
    told: list[str] = []
    result = train(cohort, tmp_path / "run", SETTINGS, listeners=[lambda event: told.append(event.get("message", ""))])
    assert result.finished
    wanted = "Model 2 (committee/2): Its process could not be started (Permission denied). Its training did not finish"
    assert any(message.startswith(wanted) for message in told)
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
    with pytest.raises(InputError, match="run: committee lies in this folder, is not a run's and would be replaced"):
        train(cohort, tmp_path / "run", SETTINGS)


def test_so_many_models_are_trained_as_there_are_cores_or_one_by_several_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    processor = choose_device("cpu", "float32")
    three = replace(SETTINGS, committee=3)
    monkeypatch.setattr(committee_training, "memory_of_the_computer", lambda: None)
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


@pytest.mark.parametrize(("gigabytes", "models"), [(1, "one is"), (8, "2 are"), (12, "3 are"), (16, None)])
def test_where_memory_is_short_fewer_models_are_trained_and_it_is_said(
    gigabytes: int, models: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(4)
    monkeypatch.setattr(committee_training, "memory_of_the_computer", lambda: gigabytes * 1_000_000_000)
    _, said = with_possible_committee(replace(preset("cpu"), committee=4), choose_device("cpu", "float32"), 1)
    short = f"Of 4 models that predict together {models} trained: the computer's memory has room for no more."
    assert said == ([short] if models else [])


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


def test_a_run_of_more_models_than_this_computer_has_room_for_goes_on_with_all_and_says_so(run: RunFolder) -> None:
    torch.set_num_threads(1)
    told: list[str] = []
    resume(run.path, iterations=5, listeners=[lambda event: told.append(event.get("message", ""))])
    (said,) = [message for message in told if message]
    assert said.startswith("The run continues with all its models, which may be too many here. Of 2 models")
    assert said.endswith("resume it with --set committee=1.")
    assert len(load_checkpoint(run.last_checkpoint)["committee"]) == 1


def test_a_checkpoint_whose_other_models_are_of_another_kind_is_refused(run: RunFolder, tmp_path: Path) -> None:
    content = load_checkpoint(run.last_checkpoint)
    for others, cause in (("none", "not a checkpoint of LASegColearn"), ([{}], "Its networks have another layout")):
        save_checkpoint(tmp_path / "other.pt", {**content, "committee": others})
        with pytest.raises(InputError, match=cause):
            load_model(tmp_path / "other.pt")


def test_the_presets_say_how_many_models_there_are() -> None:
    assert {name: preset(name).committee for name in ("paper", "cpu", "demo")} == {"paper": 1, "cpu": 2, "demo": 1}
    for wrong in (0, 9):
        assert [problem.case for problem in replace(SETTINGS, committee=wrong).problems()] == ["committee"]
