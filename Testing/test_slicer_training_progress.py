"""The engine's own events, as a panel shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from LASegColearnLib.phantom import write_phantom_cohort
from LASegColearnLib.settings import Settings
from LASegColearnLib.training import resume, train
from LASegColearnSlicer.training_progress import Curve, TrainingProgress, timeLeft
from stop_after import StopAfter

SMALL = Settings(spacing_mm=(5.0, 5.0, 5.0), patch_size=(16, 16, 16), filters=2, iterations=4, validations=2)


def test_a_real_training_is_followed_to_its_end_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("LASegColearnLib.trainer._SECONDS_BETWEEN_PROGRESS", 0.0)
    cohort = write_phantom_cohort(tmp_path / "phantoms", labeled=2, unlabeled=2, validation=1, seed=3)
    progress, shares, lines, predictors = TrainingProgress(), [], [], set()

    def listen(event: dict) -> None:
        progress.follow(event)
        shares.append(progress.share)
        lines.append(progress.status)
        if event["event"] == "validated":
            predictors.add(event["predictor"])

    stop = StopAfter(2)
    train(cohort, tmp_path / "run", SMALL, device="cpu", listeners=[listen, stop.listen], should_stop=stop)
    assert progress.status == "Stopped after 2 iterations; it can be resumed"
    assert progress.share == pytest.approx(0.5)
    resume(tmp_path / "run", device="cpu", listeners=[listen])
    assert progress.device.startswith("CPU")
    assert progress.share == 1.0
    assert shares == sorted(shares)
    assert "Preparing scans: 5 of 5" in lines
    assert progress.losses["total"].iterations == [1, 2, 3, 4]
    assert set(progress.dice) == {"student_1", "student_2", "teacher"}
    assert progress.validationCases == 1
    assert predictors == {"teacher"}
    last = progress.dice["teacher"].values[-1]
    assert progress.status == f"Finished after 4 iterations; Dice {last:.3f} on 1 validation cases"


@pytest.mark.parametrize(("predictor", "dice"), [("student", "0.812"), (None, "0.500")])
def test_the_dice_at_the_end_is_that_of_what_predicts(predictor: str | None, dice: str) -> None:
    """Neither the best on the way nor that of another network; runs of early versions do not say which it is."""
    progress = TrainingProgress()
    for iteration, student in ((1, 0.903), (2, 0.812)):
        event = {"event": "validated", "iteration": iteration, "dice": {"student": student, "teacher": 0.5}, "cases": 3}
        progress.follow(event | ({} if predictor is None else {"predictor": predictor}))
    progress.follow({"event": "finished", "complete": True, "iteration": 2, "best_dice": 0.903})
    assert progress.status == f"Finished after 2 iterations; Dice {dice} on 3 validation cases"


def test_models_that_are_trained_at_once_are_counted() -> None:
    progress = TrainingProgress()
    # Early versions, which train one, do not say it.
    for models, status in (({}, ""), ({"committee": 1}, ""), ({"committee": 2}, ", 2 models at once")):
        progress.follow({"event": "started", "device": "CPU", "iteration": 0, **models})
        assert progress.status == f"Training has started{status}"


def test_the_models_that_are_waited_for_are_named() -> None:
    progress = TrainingProgress()
    progress.follow({"event": "waiting", "models": [2], "seconds_left": 130.0})
    assert progress.status == "Waiting for model 2, 2 min left"


def test_the_scans_that_are_being_labeled_are_counted() -> None:
    progress = TrainingProgress()
    progress.follow({"event": "labeling", "done": 3, "of": 40})
    assert progress.status == "Labeling unlabeled scans: 3 of 40"
    assert progress.share == 0.0


def test_a_failure_is_the_status_and_an_unknown_event_changes_nothing() -> None:
    progress = TrainingProgress()
    progress.follow({"event": "failed", "message": "There is no room left on the disk.", "cause": "OSError"})
    progress.follow({"event": "of a later version"})
    assert progress.status == "There is no room left on the disk."
    assert progress.share == 0.0


def test_a_long_curve_keeps_its_ends_and_a_bounded_length() -> None:
    curve = Curve()
    for iteration in range(10000):
        curve.add(iteration, -float(iteration))
    assert len(curve.iterations) <= 500
    assert curve.iterations[0] == 0
    assert curve.iterations[-100:] == list(range(9900, 10000))
    assert curve.values == [-float(iteration) for iteration in curve.iterations]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "time left not known yet"),
        (12, "less than a minute left"),
        (150, "2 min left"),
        (3570, "1 h 00 min left"),
        (5000, "1 h 23 min left"),
    ],
)
def test_time_left_is_told_in_words(seconds: float | None, text: str) -> None:
    assert timeLeft(seconds) == text
