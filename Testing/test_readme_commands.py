"""The commands of the README's "Your own scans", one after another as they are written, on phantoms."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import SimpleITK as sitk

from LASegColearnLib.cohort import load_cohort
from LASegColearnLib.command_line import main
from LASegColearnLib.phantom import write_phantom_cohort

README = Path(__file__).resolve().parent.parent / "README.md"
# What a reader's scans take an hour for.
_TINY = (
    "--preset demo --device cpu --set spacing_mm=5,5,5 patch_size=16,16,16 filters=2 normalization=group "
    "precision=float32 validations=1"
)
_SHORTER = {
    "--preset cpu --minutes 60": f"--iterations 3 {_TINY}",
    "last.pt --minutes 20": f"last.pt --iterations 2 {_TINY}",
    "--methods colearning,supervised,ua_mt --minutes 20": f"--methods supervised --iterations 2 {_TINY}",
}


def _commands() -> list[str]:
    text = README.read_text("utf-8")
    section = text[text.index("## Your own scans") : text.index("## From Python")]
    blocks = re.findall(r"```\n(.*?)```", section, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("lasegcolearn ")]
    for long, short in _SHORTER.items():
        lines = [line.replace(long, short) for line in lines]
    return lines


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's folder: 10 scans, labels of 7 of them in another folder, and two scans to segment."""
    made = load_cohort(write_phantom_cohort(tmp_path / "made", labeled=7, unlabeled=3, validation=1))
    (tmp_path / "scans").mkdir()
    (tmp_path / "labels").mkdir()
    for case in made.labeled + made.unlabeled:
        sitk.WriteImage(sitk.ReadImage(str(case.image)), str(tmp_path / "scans" / f"{case.id}.nrrd"))
        if case.label is not None:
            sitk.WriteImage(sitk.ReadImage(str(case.label)), str(tmp_path / "labels" / f"{case.id}.nrrd"))
    scan = sitk.ReadImage(str(made.validation[0].image))
    sitk.WriteImage(scan, str(tmp_path / "new-scan.nrrd"))
    sitk.WriteImage(scan, str(tmp_path / "other-scan.nii.gz"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _label_one_more(folder: Path) -> None:
    """What the reader has done meanwhile."""
    scan = load_cohort(folder / "cohort.json").unlabeled[0].image
    label = sitk.ReadImage(str(scan)) > 0.0
    sitk.WriteImage(label, str(folder / "labels" / scan.name))


def test_the_readmes_commands_work_one_after_another(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = _commands()
    verbs = ["cohort", "train", "predict", "predict", "evaluate", "report", "suggest", "cohort", "train", "judge"]
    assert [command.split()[1] for command in commands] == [*verbs, "compare"]
    printed = []
    for command in commands:
        if "cohort-2.json" in command and " cohort " in command:
            _label_one_more(folder)
        code = main(shlex.split(command)[1:])
        said = capsys.readouterr()
        assert code == 0, f"{command}\n{said.err}"
        printed.append(said.out)
    assert printed[0] == "4 labeled, 3 unlabeled, 3 for validation.\n"
    kept = [
        {case.id for case in load_cohort(folder / name / "cohort.json").validation} for name in ("my-run", "round-2")
    ]
    assert kept[0] == kept[1]
    assert len(load_cohort(folder / "round-2" / "cohort.json").labeled) == 5
    page = (folder / "my-run" / "report.html").read_text("utf-8")
    assert all(case in page for case in kept[0])
    figures = [json.loads(file.read_text("utf-8")) for file in (folder / "results").glob("*/figures.json")]
    assert len(figures) == 2
