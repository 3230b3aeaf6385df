"""The command as people call it: in a process of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import SimpleITK as sitk
import torch

from LASegColearnLib.checkpoints import load_checkpoint
from LASegColearnLib.cohort import load_cohort
from LASegColearnLib.command_line import main
from LASegColearnLib.errors import TrainingError
from LASegColearnLib.phantom import write_phantom_cohort
from LASegColearnLib.settings import Settings

ENGINE = Path(__file__).resolve().parent.parent / "LASegColearn"
TINY = [
    "spacing_mm=5,5,5",
    "patch_size=16,16,16",
    "filters=2",
    "normalization=group",
    "precision=float32",
    "validations=1",
]


def _run(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "LASegColearnLib", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ENGINE)},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
        **options,
    )


def _start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "LASegColearnLib", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ENGINE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A space and letters beyond ASCII, as in the folders people have.
    folder = tmp_path_factory.mktemp("vorhöfe") / "my scans"
    return write_phantom_cohort(folder, labeled=3, unlabeled=2, validation=2, seed=5)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from LASegColearnLib.arguments import build_parser; build_parser().format_help(); "
        "print([m for m in ('torch', 'monai', 'numpy', 'SimpleITK', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ENGINE)},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "verb", ["cohort", "train", "predict", "suggest", "evaluate", "judge", "compare", "report", "demo"]
)
def test_every_verb_explains_itself(verb: str) -> None:
    result = _run(verb, "--help")
    assert result.returncode == 0
    assert len(result.stdout) > 300


def test_labels_that_were_taken_for_scans_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from LASegColearnLib.command_line import main

    for number in range(6):
        for name in ("image", "laendo"):
            file = tmp_path / "data" / f"case_{number}" / f"{name}.nrrd"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    command = ["cohort", "--images", str(tmp_path / "data"), "--output"]
    assert main([*command, str(tmp_path / "wrong.json")]) == 0
    said = capsys.readouterr().out
    assert said.startswith(
        "0 labeled, 12 unlabeled, 0 for validation.\nAdded as scans, although their names look like labels: "
    )
    assert said.endswith(" and 2 more. If they are labels, name them with --labels or --label-pattern.\n")
    patterns = ["--image-pattern", "*/image.nrrd", "--label-pattern", "{folder}/laendo.nrrd"]
    assert main([*command, str(tmp_path / "right.json"), *patterns]) == 0
    assert capsys.readouterr().out == "6 labeled, 0 unlabeled, 0 for validation.\n"


def test_from_cohort_to_report(phantoms: Path, tmp_path: Path) -> None:
    cohort, run, output = tmp_path / "cohort.json", tmp_path / "run", tmp_path / "results"
    made = _run("cohort", "--from", phantoms, "--output", cohort)
    assert made.returncode == 0, made.stderr
    assert made.stdout == "3 labeled, 2 unlabeled, 2 for validation.\n"
    trained = _run(
        "train",
        "--cohort",
        cohort,
        "--run",
        run,
        "--preset",
        "demo",
        "--iterations",
        3,
        "--device",
        "cpu",
        "--set",
        *TINY,
    )
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout == ""
    scans = [case.image for case in load_cohort(cohort).validation]
    predicted = _run("predict", "--run", run, "--output", output, "--volumes", "--nifti", *scans)
    assert predicted.returncode == 0, predicted.stderr
    folders = sorted(output.iterdir())
    assert len(folders) == 2
    for folder in folders:
        assert {path.name for path in folder.iterdir()} == {
            "segmentation.seg.nrrd",
            "segmentation.nii.gz",
            "probability.nrrd",
            "uncertainty.nrrd",
            "network-student_1.seg.nrrd",
            "network-student_2.seg.nrrd",
            "figures.json",
        }
    again = _run("predict", "--run", run, "--output", output, *scans)
    assert again.returncode == 2
    assert "--overwrite" in again.stderr
    shutil.rmtree(folders[0])
    done = (folders[1] / "segmentation.seg.nrrd").stat().st_mtime_ns
    missing = _run("predict", "--run", run, "--output", output, "--only-missing", *scans)
    assert missing.returncode == 0, missing.stderr
    assert (folders[0] / "segmentation.seg.nrrd").is_file()
    assert (folders[1] / "segmentation.seg.nrrd").stat().st_mtime_ns == done
    reported = _run("report", "--run", run)
    assert reported.returncode == 0, reported.stderr
    assert "my scans" not in (run / "report.html").read_text("utf-8")


def test_evaluate_compares_predictions_with_labels(phantoms: Path, tmp_path: Path) -> None:
    for case in load_cohort(phantoms).validation:
        (tmp_path / case.id).mkdir()
        label = sitk.ReadImage(str(case.label))
        sitk.WriteImage(label, str(tmp_path / case.id / "segmentation.nii.gz"))
    result = _run("evaluate", "--cohort", phantoms, "--predictions", tmp_path, "--output", tmp_path / "metrics.csv")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "metrics.csv").read_text("utf-8").count("\n") == 3
    again = _run("evaluate", "--cohort", phantoms, "--predictions", tmp_path, "--output", tmp_path / "metrics.csv")
    assert again.returncode == 2
    assert "add --overwrite" in again.stderr
    shut = tmp_path / "shut" / "metrics.csv"
    (tmp_path / "shut").touch()
    untold = _run("evaluate", "--cohort", phantoms, "--predictions", tmp_path, "--output", shut, "--events")
    assert untold.returncode != 0
    assert untold.stdout.count('"evaluated"') == 2
    folder = _run("evaluate", "--cohort", phantoms, "--predictions", tmp_path, "--output", tmp_path, "--overwrite")
    assert folder.returncode == 2
    assert "It is a folder." in folder.stderr


def test_a_problem_is_a_sentence_and_no_traceback(tmp_path: Path) -> None:
    result = _run("train", "--cohort", tmp_path / "none.json", "--run", tmp_path / "run")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "none.json" in result.stderr


def test_events_are_the_only_thing_on_standard_output(phantoms: Path, tmp_path: Path) -> None:
    arguments = ("--preset", "demo", "--iterations", 2, "--device", "cpu", "--events", "--set", *TINY)
    result = _run("train", "--cohort", phantoms, "--run", tmp_path / "run", *arguments)
    events = [json.loads(line)["event"] for line in result.stdout.splitlines()]
    assert events[-1] == "finished"
    assert {"preparing", "started", "progress", "validated", "checkpoint"} <= set(events)
    refused = _run("train", "--cohort", tmp_path / "none.json", "--run", tmp_path / "other", "--events")
    assert [json.loads(line)["event"] for line in refused.stdout.splitlines()] == ["failed"]
    again = _run("train", "--cohort", phantoms, "--run", tmp_path / "bad", "--labeled", 1, *arguments)
    assert [json.loads(line)["event"] for line in again.stdout.splitlines()].count("failed") == 1


def test_an_error_in_the_midst_of_a_training_is_a_sentence_with_the_details_in_the_log(
    phantoms: Path, tmp_path: Path
) -> None:
    arguments = ("--preset", "demo", "--iterations", 2, "--device", "cpu", "--set", *TINY)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").write_text("in the way", encoding="utf-8")
    result = _run("train", "--cohort", phantoms, "--run", tmp_path / "run", *arguments)
    assert result.returncode == 1
    assert "Wanted a folder where there is a file" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in (tmp_path / "run" / "log.txt").read_text("utf-8")
    assert '"failed"' in (tmp_path / "run" / "events.jsonl").read_text("utf-8")


@pytest.mark.parametrize("verb", ["train", "cohort"])
def test_a_folder_below_a_file_is_refused_in_a_sentence(verb: str, phantoms: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    below = tmp_path / "file" / "below"
    given = {
        "train": ("--cohort", phantoms, "--run", below, "--preset", "demo", "--iterations", 2),
        "cohort": ("--images", phantoms.parent, "--output", below / "cohort.json"),
    }[verb]
    result = _run(verb, *given)
    assert result.returncode == 1
    assert result.stderr.endswith("Wanted a folder where there is a file. Choose another one.\n")
    assert "Traceback" not in result.stderr


def test_what_nobody_has_foreseen_is_told_by_its_kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    _log_of(ZeroDivisionError("secret"), monkeypatch, tmp_path)
    told = capsys.readouterr().err
    assert "Something unexpected went wrong (ZeroDivisionError)" in told and "secret" not in told


def _log_of(error: Exception, monkeypatch: pytest.MonkeyPatch, run: Path) -> str:
    """What a training that fails with this error writes into the run's log."""

    def fail(*arguments: object, **named: object) -> None:
        raise error

    monkeypatch.setattr("LASegColearnLib.training.train", fail)
    assert main(["train", "--cohort", "c.json", "--run", str(run)]) == 1
    log = (run / "log.txt").read_text("utf-8")
    assert "command_line.py" in log, "The traceback is what the log is for."
    return log


def test_what_nobody_has_foreseen_of_a_prediction_is_told_without_a_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise ZeroDivisionError("/data/Doe Jane/a.nii.gz")

    monkeypatch.setattr("LASegColearnLib.prediction.predict", fail)
    assert main(["predict", "--run", str(tmp_path), "a.nii.gz", "--output", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert "Something unexpected went wrong (ZeroDivisionError)" in told and "Traceback" in told
    assert "TypeError" not in told and "Doe" not in told
    assert not (tmp_path / "log.txt").exists()


def test_a_log_is_not_added_to_a_file_that_a_link_leads_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.txt").symlink_to(tmp_path / "mine")
    with pytest.raises(FileNotFoundError):
        _log_of(ZeroDivisionError(), monkeypatch, tmp_path / "run")
    assert "ZeroDivisionError" in capsys.readouterr().err and not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    "name", ['"/data/Doe Jane/a.nii.gz" is odd', "Doe.nrrd", "/d/Doe/o'Neil/A.NII", "C:\\Doe\\a.raw"]
)
def test_the_log_names_no_scan(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    log = _log_of(ZeroDivisionError(name), monkeypatch, tmp_path)
    assert "ZeroDivisionError: (names a scan)" in log and "Doe" not in log
    assert "Doe" not in capsys.readouterr().err


@pytest.mark.parametrize("error", [PermissionError(13, "Denied", "/data/Doe Jane"), OSError(5, "Odd", "Doe")])
def test_the_log_names_no_file_that_the_system_refused(
    error: OSError, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = _log_of(error, monkeypatch, tmp_path)
    assert f"[Errno {error.errno}] {error.strerror}\n" in log and "Doe" not in log


@pytest.mark.parametrize(
    "sentence",
    [
        "Parent directory /data/Doe Jane does not exist.",
        "File \\\\server\\Doe\\last.pt cannot be opened.",
        "in D:/Doe",
        "this\n/data/Doe\nand that",
    ],
)
def test_the_log_names_no_folder(sentence: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = _log_of(RuntimeError(sentence), monkeypatch, tmp_path)
    assert "RuntimeError: " in log and "(names a file)" in log and "Doe" not in log


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["train", "--cohort", "c.json", "--run", "r", "--set", "filters=2", "preset=demo"], ["--preset"]),
        (
            ["compare", "--cohort", "c.json", "--output", "o", "--minutes", "1", "--set", "seed=1", "minutes=2"],
            ["--seeds", "--minutes"],
        ),
    ],
)
def test_what_has_an_option_of_its_own_is_not_set_another_way(given: list[str], told: list[str], capsys) -> None:
    assert main(given) == 2
    assert re.findall(r"Use (--\w+)", capsys.readouterr().err) == told


def test_the_settings_are_shown_as_they_would_be(capsys) -> None:
    assert main(["train", "--settings", "--set", "filters=12", "--minutes", "7", "--method", "bcp"]) == 0
    assert {"filters=12", "minutes=7.0", "method=bcp"} <= set(capsys.readouterr().out.splitlines())
    assert main(["train", "--settings", "--set", "iterations=7"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert {"iterations=7", "minutes=none"} <= set(shown), "Not the preset's minutes."
    assert shown.pop(0) == "preset=cpu"
    assert main(["train", "--settings", "--set", *shown]) == 0, "They are as they are typed."
    assert capsys.readouterr().out.splitlines()[1:] == shown
    assert main(["train", "--settings", "--iterations", "-5"]) == 2
    assert main(["train", "--settings", "--resume", "--run", "run"]) == 2
    assert "are in its settings.json" in capsys.readouterr().err


def test_a_stop_that_came_after_the_end_of_a_training_is_not_the_next_ones(phantoms: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "stop").touch()
    result = _run("train", "--cohort", phantoms, "--run", run, "--preset", "demo", "--iterations", 2, "--set", *TINY)
    assert result.returncode == 0, result.stderr
    assert not (run / "stop").exists()


def test_a_stop_that_comes_before_a_process_has_begun_ends_it(phantoms: Path, tmp_path: Path) -> None:
    """As from Slicer, whose notes lie in a run before there is anything else of it."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "round.json").write_text("{}")
    (run / "stop").touch()
    command = ["train", "--cohort", phantoms, "--run", run, "--preset", "demo", "--iterations", 2, "--set", *TINY]
    result = _run(*command, "--events", "--parent", os.getpid())
    last = json.loads(result.stdout.splitlines()[-1])
    assert (last["event"], last["complete"], last["iteration"]) == ("finished", False, 0)
    assert not (run / "stop").exists()


@pytest.mark.parametrize(("content", "beside"), [("mine", "settings.json"), ("", "notes.txt")])
def test_a_file_called_stop_of_a_person_is_not_lost(content: str, beside: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "stop").write_text(content)
    (tmp_path / beside).write_text(json.dumps(Settings().to_dict()))
    assert main(["train", "--cohort", "c.json", "--run", str(tmp_path)]) == 2
    assert "A file called stop lies in this folder" in capsys.readouterr().err
    assert (tmp_path / "stop").read_text() == content
    if beside == "settings.json":
        (tmp_path / "stop").write_text("")
        assert main(["train", "--cohort", "c.json", "--run", str(tmp_path)]) == 2
        assert not (tmp_path / "stop").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names.")
def test_names_from_files_do_not_steer_the_terminal(tmp_path: Path) -> None:
    cohort = tmp_path / "c.json"
    cohort.write_text(json.dumps({"test": [{"id": "a\x1b[2J", "image": "a.nrrd"}]}), encoding="utf-8")
    result = _run("evaluate", "--cohort", cohort, "--predictions", tmp_path, "--output", tmp_path / "metrics.csv")
    assert result.returncode == 2 and result.stderr.startswith("a\\x1b[2J: Wanted an id")
    for name in ("scans/a.nrrd", "labels/a.nrrd", "labels/b\x1b[2J.nrrd"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    folders = ("--images", tmp_path / "scans", "--labels", tmp_path / "labels")
    said = _run("cohort", *folders, "--output", tmp_path / "new.json").stderr
    assert "b\\x1b[2J.nrrd" in said and "\x1b" not in said


def test_fewer_suggestions_than_none_are_refused(tmp_path: Path, capsys) -> None:
    assert main(["suggest", "--run", str(tmp_path), "--cohort", "cohort.json", "--count", "-1"]) == 2
    assert "--count: Wanted 0 or more, found -1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        (["train", "--run", "run", "--resume", "--cohort", "c.json", "--init", "last.pt"], ["--cohort", "--init"]),
        (["train", "--run", "run", "--resume", "--labeled", "3"], ["--labeled"]),
        (["cohort", "--from", "c.json", "--labels", "labels", "--output", "new.json"], ["--labels"]),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    given: list[str], refused: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(given) == 2
    said = capsys.readouterr().err
    assert [line.partition(":")[0] for line in said.splitlines() if line.startswith("--")] == refused


def test_a_failed_training_is_told_from_wrong_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise TrainingError("The losses stay non-finite.")

    monkeypatch.setattr("LASegColearnLib.training.train", fail)
    assert main(["train", "--cohort", "c.json", "--run", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err == "The losses stay non-finite.\n"


def test_an_unexpected_error_without_a_log_to_write_to_is_told_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise error

    monkeypatch.setattr("LASegColearnLib.training.train", fail)
    # As a file that cannot be opened for writing.
    (tmp_path / "log.txt").mkdir()
    error: Exception = ZeroDivisionError()
    assert main(["train", "--cohort", "c.json", "--run", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("Something unexpected went wrong")
    assert "Traceback" in said and "log.txt in the run" not in said
    # What is known needs no details.
    error = OSError(28, "No space left on device")
    assert main(["train", "--cohort", "c.json", "--run", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("There is no space left on the disk.") and said.count("\n") == 1


def _wait_for(process: subprocess.Popen[str], event: str) -> dict:
    for line in process.stdout:
        told = json.loads(line)
        if told["event"] == event:
            return told
    raise AssertionError(process.stderr.read())


def test_a_run_killed_and_resumed_has_the_weights_of_one_that_was_not(phantoms: Path, tmp_path: Path) -> None:
    tiny = [*TINY, "checkpoints=12", "pretraining=0.3"]
    options = ("--preset", "demo", "--iterations", 12, "--device", "cpu", "--events", "--set", *tiny)
    assert _run("train", "--cohort", phantoms, "--run", tmp_path / "whole", *options).returncode == 0
    killed = _start("train", "--cohort", phantoms, "--run", tmp_path / "killed", *options)
    for _ in range(5):
        _wait_for(killed, "checkpoint")
    killed.kill()
    killed.wait()
    assert _run("train", "--run", tmp_path / "killed", "--resume", "--device", "cpu").returncode == 0
    networks = [load_checkpoint(tmp_path / run / "checkpoints" / "last.pt")["networks"] for run in ("whole", "killed")]
    for name, expected in networks[0].items():
        assert all(torch.equal(value, networks[1][name][key]) for key, value in expected.items())


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_saves_and_stops_and_kill_9_loses_nothing_saved(phantoms: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ("--preset", "demo", "--device", "cpu", "--events", "--set", *TINY, "checkpoints=1000000")
    process = _start("train", "--cohort", phantoms, "--run", run, "--iterations", 1000000, *options)
    _wait_for(process, "progress")
    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()
    assert process.wait(30) == 1
    assert json.loads(rest.splitlines()[-1])["complete"] is False
    resumed = _start("train", "--run", run, "--resume", "--device", "cpu", "--events")
    saved = _wait_for(resumed, "checkpoint")["iteration"]
    resumed.send_signal(signal.SIGKILL)
    resumed.wait()
    assert saved > 1
    last = _start("train", "--run", run, "--resume", "--device", "cpu", "--events")
    assert _wait_for(last, "started")["iteration"] >= saved
    last.send_signal(signal.SIGINT)
    last.communicate()
    assert last.returncode == 1


def test_a_run_whose_events_nobody_reads_any_more_saves_and_ends(phantoms: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ("--preset", "demo", "--device", "cpu", "--events", "--set", *TINY, "checkpoints=1000000")
    process = _start("train", "--cohort", phantoms, "--run", run, "--iterations", 1000000, *options)
    _wait_for(process, "progress")
    process.stdout.close()
    assert process.wait(60) == 1
    events = [json.loads(line) for line in (run / "events.jsonl").read_text("utf-8").splitlines()]
    assert events[-1]["event"] == "finished" and events[-1]["complete"] is False
    assert (run / "checkpoints" / "last.pt").exists()


@pytest.mark.skipif(os.name == "nt", reason="reparenting")
def test_the_run_ends_when_the_process_that_started_it_dies(phantoms: Path, tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    options = ("--preset", "demo", "--device", "cpu", "--events", "--parent", parent.pid, "--set", *TINY)
    process = _start("train", "--cohort", phantoms, "--run", tmp_path / "run", "--iterations", 1000000, *options)
    _wait_for(process, "progress")
    parent.kill()
    parent.wait()
    start = time.monotonic()
    process.stdout.read()
    assert process.wait(30) == 1
    assert time.monotonic() - start < 20
    assert (tmp_path / "run" / "checkpoints" / "last.pt").exists()


def test_settings_are_listed(tmp_path: Path) -> None:
    result = _run("train", "--settings", "--preset", "paper")
    assert "learning_rate=0.01\n" in result.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="There a pipe ends with another error")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_heard_enough_ends_it_quietly(unbuffered: str) -> None:
    """As `head -1` does."""
    command = [sys.executable, "-m", "LASegColearnLib", "train", "--settings"]
    environment = {**os.environ, "PYTHONPATH": str(ENGINE), "PYTHONUNBUFFERED": unbuffered}
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(command, env=environment, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    finally:
        os.close(writing)
    assert done.returncode == 1
    assert done.stderr == ""
