"""What is missing, and installing it: with real pip, from a folder of wheels, leaving alone what Slicer ships."""

from __future__ import annotations

import platform
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy
import pytest

from LASegColearnLib.errors import InputError
from LASegColearnSlicer.dependencies import Dependencies


def _wheel(folder: Path, name: str, version: str, requires: str = "") -> None:
    """A package with nothing in it."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that packages are installed into and imported from."""
    folder = tmp_path / "site packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def _needing(site: Path, *requirements: str, installTorch: Any = None) -> Dependencies:
    file = site.parent / "requirements.txt"
    file.write_text("# what is needed\n" + "\n".join(requirements) + "\n", encoding="utf-8")

    def pipInstall(options: list[str]) -> None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(site), *options]
        subprocess.run(command, check=True, capture_output=True)

    return Dependencies(file, pipInstall, installTorch)


def test_nothing_is_said_where_nothing_is_missing(site: Path) -> None:
    dependencies = _needing(site, "numpy>=1.0")
    assert dependencies.missing() == []
    assert dependencies.sentence() == ""
    dependencies.install()


def test_an_older_version_than_needed_is_missing(site: Path) -> None:
    dependencies = _needing(site, "numpy>=99", "lasegexample>=1")
    assert dependencies.missing() == ["numpy>=99", "lasegexample>=1"]
    assert f"The installed numpy {numpy.__version__} is too old and will be replaced" in dependencies.sentence()


def test_a_folder_of_wheels_installs_without_the_internet(site: Path, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    _wheel(wheels, "lasegexample", "1.2")
    dependencies = _needing(site, "lasegexample>=1.1")
    assert "not installed yet: lasegexample" in dependencies.sentence()
    assert dependencies.wheelsNeeded()[0] == "lasegexample"
    dependencies.installFrom(wheels)
    assert dependencies.missing() == []


def test_a_folder_that_lacks_a_wheel_is_refused_before_anything_is_installed(site: Path, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    _wheel(wheels, "lasegexample", "1.2")
    dependencies = _needing(site, "lasegexample>=1.1", "lasegother>=1")
    with pytest.raises(InputError, match="wheels: It has no wheels for: lasegother"):
        dependencies.installFrom(wheels)
    assert list(site.iterdir()) == []


def test_what_slicer_ships_is_never_replaced(site: Path, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    _wheel(wheels, "lasegexample", "1.2", requires="numpy>=99")
    _wheel(wheels, "numpy", "99.0")
    dependencies = _needing(site, "lasegexample>=1.1")
    with pytest.raises(InputError, match="The installation failed"):
        dependencies.installFrom(wheels)
    assert list(site.iterdir()) == []


def test_an_older_pytorch_is_replaced_from_a_folder_of_wheels_and_nothing_else_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.metadata

    real = importlib.metadata.version
    present = {"torch": "2.5.1", "torchvision": "0.20.1"}
    monkeypatch.setattr(importlib.metadata, "version", lambda name: present.get(name) or real(name))
    monkeypatch.setattr("LASegColearnSlicer.dependencies._hasWheel", lambda folder, name: True)
    file = tmp_path / "requirements.txt"
    file.write_text("numpy>=1.0\n", encoding="utf-8")
    asked: list[tuple[list[str], list[str]]] = []

    def pipInstall(options: list[str]) -> None:
        constraints = Path(options[options.index("--constraint") + 1]).read_text("utf-8").splitlines()
        asked.append((options, constraints))
        present["torch"] = "2.13.0"

    Dependencies(file, pipInstall, None).installFrom(tmp_path)
    ((options, constraints),) = asked
    assert options[-1] == "torch>=2.10"
    assert f"numpy=={numpy.__version__}" in constraints
    assert not [line for line in constraints if line.startswith("torch")]


def test_the_list_for_an_offline_computer_names_the_packages_and_the_versions_to_keep(site: Path) -> None:
    text = _needing(site, "lasegexample>=1.1").howToGetWheels()
    assert "lasegexample" in text
    assert f"Python {sys.version_info.major}.{sys.version_info.minor}" in text
    assert '--dest wheels "lasegexample>=1.1"' in text
    assert f"numpy=={numpy.__version__}" in text


def test_what_a_missing_package_needs_in_turn_is_on_the_list_once(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    needed = _needing(site, "monai>=1.5", "Jinja2>=3.1").wheelsNeeded()
    assert needed[:3] == ["torch", "monai", "Jinja2"]
    assert "sympy" in needed and needed.count("MarkupSafe") == 1 and needed.count("Jinja2") == 1


def test_pytorch_comes_from_slicers_extension_and_from_nowhere_else(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.metadata

    real, installed = importlib.metadata.version, []

    def version(name: str) -> str:
        if name == "torch" and not installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(InputError, match="extension PyTorch is not installed"):
        _needing(site).install()
    with pytest.raises(InputError, match="Still missing: torch"):
        _needing(site, installTorch=lambda: None).install()
    _needing(site, installTorch=lambda: installed.append("torch")).install()
    assert installed == ["torch"]


def test_on_a_mac_it_is_said_that_no_pytorch_will_do(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dependencies = _needing(site, "numpy>=1.0")
    monkeypatch.setattr("LASegColearnSlicer.dependencies.TORCH", "torch>=99")
    assert not dependencies.impossible()
    assert "Training and prediction need software" in dependencies.sentence()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert dependencies.impossible()
    assert "Use the command line" in dependencies.sentence()
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert not dependencies.impossible()
