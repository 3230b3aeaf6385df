"""The loop: it learns, resumes to the same weights, validates, survives non-finite losses, stops when asked."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from LASegColearnLib import scan_labeling
from LASegColearnLib import trainer as trainer_module
from LASegColearnLib.case_cache import CachedCase
from LASegColearnLib.checkpoints import load_checkpoint, load_model
from LASegColearnLib.device import Device, choose_device
from LASegColearnLib.errors import TrainingError
from LASegColearnLib.events import EventLog
from LASegColearnLib.methods.base import Batch
from LASegColearnLib.processes import Processes
from LASegColearnLib.run_folder import RunFolder
from LASegColearnLib.settings import Settings
from LASegColearnLib.trainer import Trainer, TrainingCases
from LASegColearnLib.training_step import TrainingStep

SETTINGS = Settings(
    patch_size=(16, 16, 16),
    filters=2,
    normalization="group",
    dropout=0.2,
    student_difference="dropout",
    learning_rate=0.05,
    iterations=8,
    validations=2,
    pretraining=0.25,
    precision="float32",
)
LINEAGE = {"trained": ["t"], "validated": ["v"]}


def _case(folder: Path, seed: int, labeled: bool = True) -> CachedCase:
    """A bright box on noise."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 0.5, (20, 20, 20)).astype(np.float32)
    start = rng.integers(2, 9, 3)
    box = tuple(slice(s, s + 9) for s in start)
    image[box] += 2
    label = np.zeros(image.shape, np.uint8)
    label[box] = 1
    np.save(folder / f"{seed}.image.npy", image)
    np.save(folder / f"{seed}.label.npy", label)
    return CachedCase(str(seed), folder / f"{seed}.image.npy", folder / f"{seed}.label.npy" if labeled else None)


@pytest.fixture
def cases(tmp_path: Path) -> TrainingCases:
    return _cases(tmp_path / "cache")


def _cases(folder: Path) -> TrainingCases:
    folder.mkdir()
    return TrainingCases(
        [_case(folder, n) for n in range(3)],
        [_case(folder, n, labeled=False) for n in range(3, 6)],
        [_case(folder, n) for n in range(6, 8)],
        LINEAGE,
    )


def _trainer(run: Path, cases: TrainingCases, settings: Settings = SETTINGS, stop=lambda: False):
    seen: list[dict] = []
    events = EventLog(run / "events.jsonl", seen.append)
    return Trainer(RunFolder(run), settings, cases, choose_device("cpu", "float32"), events, stop), seen


def _weights(run: Path) -> dict[str, torch.Tensor]:
    networks = load_checkpoint(run / "checkpoints" / "last.pt")["networks"]
    return {f"{name}.{key}": value for name, state in networks.items() for key, value in state.items()}


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        replace(SETTINGS, normalization="batch", statistics_batches=2, self_training=0.25, teacher_rounds=3, filters=4),
    ],
)
@pytest.mark.parametrize("stop_after", [1, 2, 5])
def test_a_stopped_and_resumed_run_has_the_same_weights_to_the_bit(
    tmp_path: Path, cases: TrainingCases, stop_after: int, settings: Settings
) -> None:
    whole, _ = _trainer(tmp_path / "whole", cases, settings)
    assert whole.train()
    # Each has its own cache, where the labels of whole scans are kept.
    cases = _cases(tmp_path / "other cache")
    broken, _ = _trainer(tmp_path / "broken", cases, settings, stop=lambda: broken.iteration >= stop_after)
    assert not broken.train()
    resumed, _ = _trainer(tmp_path / "broken", cases, settings)
    resumed.resume()
    assert resumed.iteration == stop_after
    assert resumed.train()
    expected, found = _weights(tmp_path / "whole"), _weights(tmp_path / "broken")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("stop_at", [1, 2, 3, 4])
def test_a_run_that_was_stopped_while_it_validated_resumes_to_the_same_validations_and_weights(
    tmp_path: Path, cases: TrainingCases, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    """Two cases are validated at iterations 4 and 8: the run is stopped before each of the four in turn."""
    whole, expected = _trainer(tmp_path / "whole", cases)
    assert whole.train()
    validating, asked = [False], [0]
    validate = trainer_module.validate

    def noted(*arguments: object) -> object:
        validating[0] = True
        try:
            return validate(*arguments)
        finally:
            validating[0] = False

    def stop() -> bool:
        asked[0] += validating[0]
        return validating[0] and asked[0] == stop_at

    monkeypatch.setattr(trainer_module, "validate", noted)
    broken, before = _trainer(tmp_path / "broken", cases, stop=stop)
    assert not broken.train()
    resumed, after = _trainer(tmp_path / "broken", cases)
    resumed.resume()
    assert resumed.iteration == (4 if stop_at <= 2 else 8)
    assert resumed.train()

    def validations(events: list[dict]) -> list[tuple[int, dict[str, float]]]:
        return [(event["iteration"], event["dice"]) for event in events if event["event"] == "validated"]

    assert validations([*before, *after]) == validations(expected)
    weights, found = _weights(tmp_path / "whole"), _weights(tmp_path / "broken")
    assert all(torch.equal(weights[name], found[name]) for name in weights)


def test_only_a_finished_run_has_its_statistics_taken_anew(tmp_path: Path, cases: TrainingCases) -> None:
    plain = replace(SETTINGS, normalization="batch")
    anew = replace(plain, statistics_batches=2)
    finished = {}
    for name, settings in (("plain", plain), ("anew", anew)):
        trainer, seen = _trainer(tmp_path / name, cases, settings)
        trainer.train()
        # The last validation already sees what the checkpoint keeps.
        finished[name] = [event["dice"] for event in seen if event["event"] == "validated"]
        after_five = iter([False] * 4 + [True])
        _trainer(tmp_path / f"{name}-stopped", cases, settings, stop=partial(next, after_five))[0].train()
    assert finished["plain"][0] == finished["anew"][0]
    assert finished["plain"][-1] != finished["anew"][-1]
    first, second = _weights(tmp_path / "plain"), _weights(tmp_path / "anew")
    differing = {name for name in first if not torch.equal(first[name], second[name])}
    assert {name.split(".")[0] for name in differing} == {"student_1", "student_2", "teacher"}
    assert all(name.rpartition(".")[2].startswith(("running_", "num_batches")) for name in differing)
    first, second = _weights(tmp_path / "plain-stopped"), _weights(tmp_path / "anew-stopped")
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("method", "counted"), [("supervised", 2), ("colearning", 4)])
def test_a_method_of_labels_alone_takes_its_statistics_from_labeled_scans_alone(
    method: str, counted: int, tmp_path: Path, cases: TrainingCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(
        "LASegColearnLib.trainer.recompute_batch_norm_statistics",
        lambda networks, found, *rest: seen.append(len(found)),
    )
    some = replace(cases, labeled=cases.labeled[:2], unlabeled=cases.unlabeled[:2])
    _trainer(tmp_path, some, replace(SETTINGS, method=method, iterations=1))[0].train()
    assert seen == [counted]


def test_the_teacher_labels_whole_scans_that_the_students_then_learn_from(
    tmp_path: Path, cases: TrainingCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SETTINGS, iterations=40, filters=4, self_training=0.25, teacher_rounds=2)
    trainer, _ = _trainer(tmp_path / "run", cases, settings)
    sizes: list[tuple[float, int, int]] = []
    step = TrainingStep.__call__

    def noted(self: TrainingStep, batches: list[Batch], progress: float, rate: float) -> dict[str, float]:
        sizes.append((progress, len(batches[0].unlabeled), len(batches[0].pseudo_labels)))
        return step(self, batches, progress, rate)

    monkeypatch.setattr(TrainingStep, "__call__", noted)
    trainer.train()
    assert {(unlabeled, taught) for progress, unlabeled, taught in sizes if progress <= 0.25} == {(0, 0)}
    assert {(unlabeled, taught) for progress, unlabeled, taught in sizes if progress > 0.25} == {(2, 2)}


LABELING = replace(SETTINGS, iterations=16, self_training=0.25, teacher_rounds=3, normalization="batch")


def _crash(trainer: Trainer, iteration: int) -> None:
    original = trainer.method.loss

    def loss(batch, progress):
        if trainer.iteration == iteration:
            raise ConnectionError
        return original(batch, progress)

    trainer.method.loss = loss


def _finish(run: Path, cases: TrainingCases, settings: Settings = LABELING) -> list[dict]:
    trainer, seen = _trainer(run, cases, settings)
    trainer.resume()
    assert trainer.train()
    return seen


def test_a_run_that_was_stopped_while_it_labeled_scans_resumes_to_the_same_weights(tmp_path: Path) -> None:
    _trainer(tmp_path / "whole", _cases(tmp_path / "one"), LABELING)[0].train()
    others = _cases(tmp_path / "two")
    trainer, seen = _trainer(tmp_path / "broken", others, LABELING)
    trainer.should_stop = lambda: [e["event"] for e in seen].count("labeling") >= 6 and seen[-1]["event"] == "labeling"
    assert not trainer.train()
    assert seen[-1]["event"] == "checkpoint" and trainer.iteration < 16
    _finish(tmp_path / "broken", others)
    expected, found = _weights(tmp_path / "whole"), _weights(tmp_path / "broken")
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_run_that_died_after_it_labeled_scans_resumes_with_the_labels_of_its_checkpoint(tmp_path: Path) -> None:
    settings = replace(LABELING, checkpoints=2)
    _trainer(tmp_path / "whole", _cases(tmp_path / "one"), settings)[0].train()
    others = _cases(tmp_path / "two")
    trainer, _ = _trainer(tmp_path / "broken", others, settings)
    # Scans are labeled at 5 and 9 iterations; the only checkpoint is of iteration 8.
    _crash(trainer, 10)
    with pytest.raises(ConnectionError):
        trainer.train()
    _finish(tmp_path / "broken", others, settings)
    expected, found = _weights(tmp_path / "whole"), _weights(tmp_path / "broken")
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_labels_that_were_deleted_with_the_cache_are_made_again_at_once(
    tmp_path: Path, cases: TrainingCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_six = iter([False] * 9 + [True] * 99)
    assert not _trainer(tmp_path / "run", cases, LABELING, stop=partial(next, after_six))[0].train()
    labels = list((tmp_path / "cache").glob("*taught*"))
    assert labels
    for file in labels:
        file.unlink()
    taught: list[int] = []
    step = TrainingStep.__call__

    def noted(self: TrainingStep, batches: list[Batch], progress: float, rate: float) -> dict[str, float]:
        taught.append(len(batches[0].pseudo_labels))
        return step(self, batches, progress, rate)

    monkeypatch.setattr(TrainingStep, "__call__", noted)
    seen = _finish(tmp_path / "run", cases)
    assert [event["event"] for event in seen].index("labeling") == 0
    assert len(set(taught)) == 1


def _own_clock(monkeypatch: pytest.MonkeyPatch, seconds_a_scan: float) -> list[float]:
    """The trainer's time runs only while it makes steps, of 0.05 seconds, and labels scans."""
    now = [0.0]
    label, step = scan_labeling.foreground_by_windows, TrainingStep.__call__

    def slow(*arguments: object) -> torch.Tensor:
        now[0] += seconds_a_scan
        return label(*arguments)

    def quick(self: TrainingStep, *arguments: object) -> dict[str, float]:
        now[0] += 0.05
        return step(self, *arguments)

    monkeypatch.setattr(scan_labeling, "foreground_by_windows", slow)
    monkeypatch.setattr(TrainingStep, "__call__", quick)
    monkeypatch.setattr("LASegColearnLib.trainer.awake_seconds", lambda: now[0])
    return now


def test_a_labeling_that_falls_due_while_it_is_too_early_is_done_later(
    tmp_path: Path, cases: TrainingCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Due at 1.5, 2.6, 3.8 and 4.9 of 6 seconds; each takes 0.3, and the next waits for 1.2 more."""
    now = _own_clock(monkeypatch, 0.1)
    settings = replace(SETTINGS, minutes=0.1, validations=0, pretraining=0.25, self_training=0.25, teacher_rounds=4)
    begun: list[float] = []
    trainer, _ = _trainer(tmp_path / "run", cases, settings)
    emit = trainer.events.emit

    def noted(event: str, **content: object) -> None:
        if event == "labeling" and content["done"] == 0:
            begun.append(now[0])
        emit(event, **content)

    monkeypatch.setattr(trainer.events, "emit", noted)
    assert trainer.train()
    assert begun == pytest.approx([1.5, 3.0, 4.5], abs=0.11)


def test_labeling_never_takes_the_time_that_training_was_given(
    tmp_path: Path, cases: TrainingCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three scans of 0.7 seconds each, in a training of six by a clock of its own: after one a tenth of it is over."""
    _own_clock(monkeypatch, 0.7)
    settings = replace(SETTINGS, minutes=0.1, validations=0, self_training=0.25, teacher_rounds=9)
    trainer, seen = _trainer(tmp_path / "run", cases, settings)
    assert trainer.train()
    assert trainer.method.phase(1.0) == "co-learning"
    (warning,) = [event["message"] for event in seen if event["event"] == "warning"]
    assert warning.startswith("Labeling all 3 unlabeled scans would take more than a tenth of the training, so 1 were")
    rounds = [event for event in seen if event["event"] == "labeling" and event["done"] == 0]
    assert len(rounds) == 2, "The second begins four times as long after the first as that took."
    content = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
    assert sorted(content["labels"]["of"]) == ["3.image.npy", "4.image.npy"], "Each scan has its turn."


def test_a_run_that_is_made_longer_is_labeled_anew_and_finished_anew(tmp_path: Path, cases: TrainingCases) -> None:
    settings = replace(LABELING, statistics_batches=2)
    _trainer(tmp_path / "run", cases, settings)[0].train()
    longer = replace(settings, iterations=32)
    seen = _finish(tmp_path / "run", cases, longer)
    assert "labeling" in [event["event"] for event in seen]
    assert [event["event"] for event in seen if event["event"] == "validated"]
    before = _weights(tmp_path / "run")
    seen = _finish(tmp_path / "run", cases, longer)
    assert [event["event"] for event in seen] == ["checkpoint"], "It was complete."
    assert all(torch.equal(value, before[name]) for name, value in _weights(tmp_path / "run").items())


def test_a_run_that_is_cut_short_is_brought_to_its_end(tmp_path: Path, cases: TrainingCases) -> None:
    settings = replace(LABELING, statistics_batches=2)
    after_nine = iter([False] * 20 + [True] * 99)
    trainer, _ = _trainer(tmp_path / "run", cases, settings, stop=partial(next, after_nine))
    assert not trainer.train()
    before = _weights(tmp_path / "run")
    seen = _finish(tmp_path / "run", cases, replace(settings, iterations=trainer.iteration))
    assert "validated" in [event["event"] for event in seen]
    differing = {name for name, value in _weights(tmp_path / "run").items() if not torch.equal(value, before[name])}
    assert differing and all(name.rpartition(".")[2].startswith(("running_", "num_batches")) for name in differing)


def test_any_of_several_processes_can_be_the_one_that_was_asked_to_stop(tmp_path: Path, cases: TrainingCases) -> None:
    trainer, _ = _trainer(tmp_path / "run", cases)

    class First(Processes):
        def all_gather(self, value: float) -> list[int]:
            return [round(value), 1]

    trainer.processes = First()
    assert trainer._agreed() == (0.0, True)


def test_a_run_begun_without_scaled_gradients_goes_on_with_them() -> None:
    plain = TrainingStep(SETTINGS, choose_device("cpu", "float32"))
    scaled = TrainingStep(SETTINGS, Device(torch.device("cpu"), torch.float16, ""))
    scaled.load_state(plain.state())
    assert scaled.scaler.is_enabled() and scaled.scaler.get_scale() > 1


def test_a_teacher_that_finds_nothing_is_reported(
    tmp_path: Path, cases: TrainingCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(_network: object, image: torch.Tensor, *_arguments: object) -> torch.Tensor:
        return torch.zeros_like(image[0, 0])

    monkeypatch.setattr(scan_labeling, "foreground_by_windows", nothing)
    trainer, seen = _trainer(tmp_path / "run", cases, LABELING)
    assert trainer.train()
    warnings = [event["message"] for event in seen if event["event"] == "warning"]
    assert len(warnings) == 3 and warnings[0].startswith("The teacher found nothing in 3 of 3 unlabeled scans")


def test_a_model_that_was_stopped_before_its_second_student_began_is_without_it(
    tmp_path: Path, cases: TrainingCases
) -> None:
    after_two = iter([False] * 2 + [True])
    _trainer(tmp_path / "run", cases, LABELING, stop=partial(next, after_two))[0].train()
    model = load_model(tmp_path / "run" / "checkpoints" / "last.pt")
    assert list(model.networks) == ["student_1", "teacher"]


def test_another_seed_gives_other_weights(tmp_path: Path, cases: TrainingCases) -> None:
    for seed in (0, 1):
        _trainer(tmp_path / str(seed), cases, replace(SETTINGS, seed=seed))[0].train()
    first, second = _weights(tmp_path / "0"), _weights(tmp_path / "1")
    assert not torch.equal(first["teacher.head.weight"], second["teacher.head.weight"])


def test_supervised_training_learns_the_box(tmp_path: Path, cases: TrainingCases) -> None:
    settings = replace(SETTINGS, method="supervised", iterations=60, validations=3, filters=4)
    trainer, seen = _trainer(tmp_path / "run", cases, settings)
    trainer.train()
    scores = [event["dice"]["network"] for event in seen if event["event"] == "validated"]
    assert len(scores) == 3
    assert scores[-1] > 0.8


def test_the_teacher_predicts_something_after_100_iterations_of_colearning(
    tmp_path: Path, cases: TrainingCases
) -> None:
    settings = replace(SETTINGS, iterations=100, validations=1, pretraining=0.0, filters=4)
    trainer, seen = _trainer(tmp_path / "run", cases, settings)
    trainer.train()
    scores = next(event["dice"] for event in seen if event["event"] == "validated")
    assert scores["teacher"] > 0.5


def test_events_tell_losses_by_name_time_left_and_phase(tmp_path: Path, cases: TrainingCases, monkeypatch) -> None:
    monkeypatch.setattr("LASegColearnLib.trainer._SECONDS_BETWEEN_PROGRESS", 0.0)
    trainer, seen = _trainer(tmp_path / "run", cases)
    trainer.train()
    progress = [event for event in seen if event["event"] == "progress"]
    assert [event["iteration"] for event in progress] == list(range(1, 9))
    assert {event["of"] for event in progress} == {8}
    assert [event["phase"] for event in progress[2:5]] == ["pretraining", "co-learning", "co-learning"]
    parts = {"labeled_1", "labeled_2", "cps_1", "cps_2", "teacher_1", "teacher_2", "mix_1", "mix_2"}
    assert parts <= progress[-1]["losses"].keys()
    assert progress[-1]["seconds_left"] == 0


def test_best_checkpoint_is_kept_for_the_predicting_network(tmp_path: Path, cases: TrainingCases) -> None:
    trainer, seen = _trainer(tmp_path / "run", cases)
    trainer.train()
    scores = [event["dice"]["teacher"] for event in seen if event["event"] == "validated"]
    assert len(scores) == 2
    assert trainer.best == pytest.approx(max(scores), abs=1e-5)
    assert (tmp_path / "run" / "checkpoints" / "best.pt").exists()


def test_without_validation_cases_there_is_no_best(tmp_path: Path, cases: TrainingCases) -> None:
    trainer, _ = _trainer(tmp_path / "run", replace(cases, validation=[]))
    trainer.train()
    assert trainer.best is None
    assert not (tmp_path / "run" / "checkpoints" / "best.pt").exists()


def test_a_trained_model_is_read_for_prediction(tmp_path: Path, cases: TrainingCases) -> None:
    _trainer(tmp_path / "run", cases)[0].train()
    model = load_model(tmp_path / "run" / "checkpoints" / "last.pt")
    assert set(model.networks) == {"student_1", "student_2", "teacher"}
    assert (model.predictor, model.iteration) == ("teacher", 8)
    assert not any(network.training for network in model.networks.values())


def test_a_warm_start_gives_each_network_its_own_earlier_weights(tmp_path: Path, cases: TrainingCases) -> None:
    _trainer(tmp_path / "run", cases)[0].train()
    content = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
    second, _ = _trainer(tmp_path / "second", cases)
    second.start_from(content)
    for name, network in second.method.networks.items():
        assert torch.equal(network.state_dict()["head.weight"], content["networks"][name]["head.weight"])


def _spoil(trainer: Trainer, iterations: set[int]) -> None:
    original = trainer.method.loss

    def loss(batch, progress):
        result = original(batch, progress)
        if trainer.iteration in iterations:
            result.total = result.total * float("nan")
        return result

    trainer.method.loss = loss


def test_a_loss_that_is_not_finite_skips_its_step_and_is_told(tmp_path: Path, cases: TrainingCases) -> None:
    trainer, seen = _trainer(tmp_path / "run", cases)
    _spoil(trainer, {1, 4})
    assert trainer.train()
    assert sum(event["event"] == "warning" and "not finite" in event["message"] for event in seen) == 2
    assert all(bool(torch.isfinite(value).all()) for value in _weights(tmp_path / "run").values())


def test_losses_that_stay_non_finite_end_the_run_with_a_remedy(tmp_path: Path, cases: TrainingCases) -> None:
    trainer, _ = _trainer(tmp_path / "run", cases)
    _spoil(trainer, set(range(100)))
    with pytest.raises(TrainingError, match="learning_rate=0.005"):
        trainer.train()


def test_rate_falls_by_ten_every_2500_of_the_papers_iterations(tmp_path: Path, cases: TrainingCases) -> None:
    paper = replace(SETTINGS, learning_rate=0.01, iterations=6000)
    trainer, _ = _trainer(tmp_path / "run", cases, paper)
    rates = {}
    for trainer.iteration in (0, 2499, 2500, 4999, 5000, 5999):
        rates[trainer.iteration] = trainer.learning_rate(trainer.progress)
    assert rates == pytest.approx({0: 0.01, 2499: 0.01, 2500: 0.001, 4999: 0.001, 5000: 0.0001, 5999: 0.0001})


def test_rate_stays_until_it_is_annealed(tmp_path: Path, cases: TrainingCases) -> None:
    settings = replace(SETTINGS, learning_rate=0.04, schedule="cosine", anneal_from=0.6)
    trainer, _ = _trainer(tmp_path / "run", cases, settings)
    rates = [trainer.learning_rate(progress) for progress in (0.0, 0.6, 0.8, 1.0)]
    assert rates == pytest.approx([0.04, 0.04, 0.02, 0.0])


def test_with_minutes_the_schedule_fits_the_time_and_the_run_ends_in_time(tmp_path: Path, cases: TrainingCases) -> None:
    settings = replace(SETTINGS, minutes=2 / 60, schedule="cosine", validations=0, method="supervised")
    trainer, _ = _trainer(tmp_path / "run", cases, settings)
    assert trainer.learning_rate(0.5) == pytest.approx(SETTINGS.learning_rate / 2)
    trainer.train()
    assert 2.0 <= trainer.elapsed_seconds < 4.0
