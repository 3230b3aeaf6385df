"""The example of docs/add-a-method.md, put where it says, is a method like any other."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from LASegColearnLib.checkpoints import load_checkpoint
from LASegColearnLib.phantom import write_phantom_cohort

ROOT = Path(__file__).parents[1]
SMALL = ("spacing_mm=5,5,5", "patch_size=16,16,16", "filters=2", "precision=float32")


def _engine(*arguments: str, folder: Path) -> str:
    command = [sys.executable, "-m", "LASegColearnLib", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=300).stdout


def test_the_example_is_found_by_its_file_trained_and_resumed(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "LASegColearn" / "LASegColearnLib", tmp_path / "LASegColearnLib", ignore=ignored)
    text = (ROOT / "docs" / "add-a-method.md").read_text("utf-8")
    code, name = re.findall(r"```python\n(.*?)```", text, re.DOTALL), re.findall(r"`methods/(\w+)\.py`", text)[0]
    (example,) = code
    assert len([line for line in example.splitlines() if line.strip()]) <= 32
    (tmp_path / "LASegColearnLib" / "methods" / f"{name}.py").write_text(example, "utf-8")

    # As `dev.py test` checks it where a reader has put it.
    place = ROOT / "LASegColearn" / "LASegColearnLib" / "methods" / f"{name}.py"
    check = [sys.executable, "-m", "ruff", "check", "--stdin-filename", str(place), "-"]
    subprocess.run(check, input=example, encoding="utf-8", check=True, cwd=ROOT)

    assert name in _engine("train", "--help", folder=tmp_path)
    cohort = write_phantom_cohort(tmp_path / "phantoms", labeled=2, unlabeled=2, validation=1)
    options = [f"--set={setting}" for setting in SMALL]
    options += ["--preset", "demo", "--device", "cpu", "--method", name]
    run = str(tmp_path / "run")
    _engine("train", "--cohort", str(cohort), "--run", run, "--iterations", "2", *options, folder=tmp_path)
    _engine("train", "--resume", "--run", run, "--iterations", "3", "--device", "cpu", folder=tmp_path)
    content = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.pt")
    assert (content["iteration"], list(content["networks"])) == (3, ["network"])
