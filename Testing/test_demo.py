"""The demo as a whole, and the README's example as it is written."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from LASegColearnLib.command_line import main
from LASegColearnLib.demo import run_demo
from LASegColearnLib.errors import InputError

README = Path(__file__).resolve().parent.parent / "README.md"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict]]:
    output = tmp_path_factory.mktemp("demo") / "out"
    events: list[dict] = []
    assert run_demo(output, minutes=0.15, listeners=[events.append])
    return output, events


def test_the_demo_compares_all_networks_with_the_labels(demo: tuple[Path, list[dict]]) -> None:
    output, _ = demo
    wanted = {"colearning": ["teacher", "student_1", "student_2", "mean"], "supervised": ["network"]}
    for method, networks in wanted.items():
        with (output / method / "metrics.csv").open(encoding="utf-8") as file:
            assert [row["network"] for row in csv.DictReader(file)] == [name for name in networks for _ in range(6)]


def test_the_demo_leaves_a_report_and_segmentations(demo: tuple[Path, list[dict]]) -> None:
    output, events = demo
    text = (output / "colearning" / "report.html").read_text("utf-8")
    assert "teacher" in text
    assert "<img" in text or "<svg" in text
    assert str(output) not in text
    folders = list((output / "colearning" / "predictions").iterdir())
    assert len(folders) == 6
    assert all((folder / "segmentation.seg.nrrd").exists() for folder in folders)
    assert [event["event"] for event in events].count("finished") == 2


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The demo without its trainings; whether each comes to its end is taken from the list."""
    finished = [True, True]
    ends = iter(finished)
    monkeypatch.setattr("LASegColearnLib.demo.write_phantom_cohort", lambda folder, **of: folder / "cohort.json")
    monkeypatch.setattr("LASegColearnLib.demo.load_cohort", lambda file: None)
    monkeypatch.setattr(
        "LASegColearnLib.demo.train", lambda *of, **named: SimpleNamespace(finished=next(ends), iterations=5)
    )
    monkeypatch.setattr("LASegColearnLib.demo.compare_networks", lambda *of, **named: "the table")
    monkeypatch.setattr("LASegColearnLib.demo.write_report", lambda run, **of: run / "report.html")
    return finished


def test_with_events_the_demo_prints_nothing_else(stubs: list[bool], tmp_path: Path, capsys) -> None:
    assert main(["demo", "--output", str(tmp_path / "out"), "--events"]) == 0
    assert capsys.readouterr().out == ""


def test_a_stopped_demo_says_how_to_go_on(stubs: list[bool], tmp_path: Path, capsys) -> None:
    stubs[1] = False
    assert main(["demo", "--output", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().out
    assert f'Continue with `lasegcolearn train --run "{tmp_path / "out" / "supervised"}" --resume`.' in said
    assert "the table" not in said


@pytest.mark.parametrize("wrong", [{"device": "cuda:99"}, {"minutes": -1.0}])
def test_a_demo_that_is_refused_leaves_no_folder_in_the_way(wrong: dict, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        run_demo(tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_the_demo_overwrites_nothing(demo: tuple[Path, list[dict]]) -> None:
    with pytest.raises(InputError, match="There is a folder of this name already"):
        run_demo(demo[0])


def test_the_readmes_python_example_runs(tmp_path: Path, monkeypatch, capsys) -> None:
    code = re.search(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL).group(1)
    assert "minutes=1.0" in code
    monkeypatch.chdir(tmp_path)
    exec(compile(code.replace("minutes=1.0", "minutes=0.05"), "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "finished" in printed
    assert "dice" in printed
