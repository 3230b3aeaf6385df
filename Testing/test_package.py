"""The engine stands alone, and importing it costs nothing."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import LASegColearnLib

ENGINE = Path(LASegColearnLib.__file__).parent


def test_the_engine_imports_nothing_of_slicers() -> None:
    for path in ENGINE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {name.split(".")[0] for name in names} & {"slicer", "qt", "ctk"}, path.name


def test_importing_the_engine_works_without_pytorch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; import LASegColearnLib as engine; "
        "print(engine.preset('cpu').patch_size)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ENGINE.parent)},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert result.stdout.strip() == "(64, 64, 48)"


def test_an_older_slicer_is_told_what_is_needed() -> None:
    """Slicer 5.8 has Python 3.9, in which other lines would fail for reasons that say nothing to a clinician."""
    old = "import sys; sys.version_info = (3, 9, 10); import LASegColearnLib"
    environment = {**os.environ, "PYTHONPATH": str(Path(LASegColearnLib.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", old], capture_output=True, text=True, env=environment, check=False)
    last = done.stderr.splitlines()[-1]
    assert last == "ImportError: LASegColearn needs 3D Slicer 5.10 or newer, or Python 3.10 or newer."


def test_every_public_name_can_be_imported() -> None:
    for name in LASegColearnLib.__all__:
        assert getattr(LASegColearnLib, name) is not None
