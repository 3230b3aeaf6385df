"""What a person in a terminal sees."""

from __future__ import annotations

import pytest

from LASegColearnLib.terminal import TerminalProgress


def test_the_bar_shows_share_time_left_phase_and_loss(capsys) -> None:
    show = TerminalProgress()
    losses = {"total": 0.5}
    progress = {"event": "progress", "of": 10, "phase": "co-learning", "losses": losses}
    show({**progress, "iteration": 3, "seconds_left": 75.4})
    show({"event": "labeling", "done": 2, "of": 5})
    show({"event": "validated", "iteration": 3, "dice": {"teacher": 0.81234}, "cases": 2})
    show({**progress, "iteration": 10, "seconds_left": None})
    show({"event": "finished", "complete": True})
    seen = capsys.readouterr().err
    assert "Training:  30%|" in seen
    assert "1:15 left, co-learning, loss 0.500" in seen
    assert "Training:  30%|" in seen.split("labeling unlabeled scans, 2 of 5")[0].splitlines()[-1]
    assert "Iteration 3: Dice on 2 validation cases: teacher 0.812" in seen
    assert "Training: 100%|" in seen


@pytest.mark.parametrize(("models", "said"), [(1, "for 60 minutes. CPU"), (2, "for 60 minutes, 2 models at once. CPU")])
def test_the_beginning_says_what_is_trained(models: int, said: str, capsys) -> None:
    event = {"event": "started", "method": "colearning", "labeled": 8, "unlabeled": 52, "minutes": 60.0}
    TerminalProgress()({**event, "iterations": None, "device": "CPU: 2 threads", "committee": models})
    assert f"Training (colearning) on 8 labeled and 52 unlabeled scans {said}: 2 threads.\n" == capsys.readouterr().err


def test_it_is_said_which_models_are_waited_for(capsys) -> None:
    show = TerminalProgress()
    show({"event": "waiting", "models": [2], "seconds_left": None})
    assert capsys.readouterr().err == ""
    show({"event": "progress", "of": 1, "iteration": 1, "phase": "", "losses": {}, "seconds_left": None})
    show({"event": "waiting", "models": [2, 3], "seconds_left": 75.0})
    assert "1:15 left, waiting for model 2, 3" in capsys.readouterr().err


def test_labeling_before_the_first_iteration_needs_no_bar(capsys) -> None:
    TerminalProgress()({"event": "labeling", "done": 0, "of": 5})
    assert capsys.readouterr().err == ""


def test_preparing_and_segmenting_have_bars_of_their_own(capsys) -> None:
    show = TerminalProgress()
    for done in (1, 2):
        show({"event": "preparing", "done": done, "of": 2})
    show({"event": "predicting", "done": 1, "of": 4})
    show({"event": "predicted", "case": "a", "volume_ml": 70.0})
    seen = capsys.readouterr().err
    assert "Checking and preparing scans: 100%|" in seen
    assert "Segmenting:  25%|" in seen


def test_a_stopped_comparison_or_demo_names_no_option_that_it_has_not(capsys) -> None:
    show = TerminalProgress()
    show({"event": "comparing", "done": 0, "of": 2, "method": "a", "labeled": 4, "seed": 0})
    show({"event": "finished", "complete": False, "iteration": 5})
    show({"event": "stopped", "done": 0, "of": 2})
    seen = capsys.readouterr().err
    assert "--resume" not in seen
    assert seen.count("Stopped") == 1 and "Run the same command again to continue." in seen
    TerminalProgress(go_on="")({"event": "finished", "complete": False, "iteration": 5})
    assert capsys.readouterr().err == "Stopped; what was learned is saved.\n"


def test_a_stop_says_how_to_go_on(capsys) -> None:
    TerminalProgress()({"event": "finished", "complete": False, "iteration": 5})
    assert "--resume" in capsys.readouterr().err


def test_names_from_files_do_not_steer_the_terminal(capsys) -> None:
    TerminalProgress()({"event": "warning", "message": "a\x1b]0;title\x07: Müller\x9b2J"})
    assert capsys.readouterr().err == "Note: a\\x1b]0;title\\x07: Müller\\x9b2J\n"
