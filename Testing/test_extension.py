"""The extension's three descriptions say the same, and its build knows every file."""

from __future__ import annotations

import ast
import json
import re
import struct
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE = ROOT / "LASegColearn"
# Of the schema v1.0.2 of Slicer's catalog of extensions: wanted, and allowed besides.
WANTED = {"$schema", "category", "scm_url"}
ALLOWED = WANTED | {
    "scm_revision",
    "scm_type",
    "build_dependencies",
    "build_subdirectory",
    "dicom_support_rule",
    "enabled",
    "tier",
}


def _cmake(name: str) -> str:
    found = re.search(rf'set\({name} "([^"]*)"\)', (ROOT / "CMakeLists.txt").read_text("utf-8"))
    assert found, name
    return found.group(1)


def _s4ext() -> dict[str, str]:
    lines = (ROOT / "LASegColearn.s4ext").read_text("utf-8").splitlines()
    return dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))


def _catalog() -> dict[str, object]:
    content: dict[str, object] = json.loads((ROOT / "LASegColearn.json").read_text("utf-8"))
    return content


def _listed(name: str) -> list[str]:
    found = re.search(rf"set\({name}\n(.*?)\)", (MODULE / "CMakeLists.txt").read_text("utf-8"), re.DOTALL)
    assert found, name
    return found.group(1).split()


def test_the_catalog_entry_keeps_to_its_schema() -> None:
    entry = _catalog()
    assert set(entry) >= WANTED
    assert set(entry) <= ALLOWED
    assert str(entry["$schema"]).endswith("slicer-extension-catalog-entry-schema-v1.0.2.json#")
    assert re.fullmatch(r"https://\S+/Slicer\w+\.git", str(entry["scm_url"]))
    assert isinstance(entry["build_dependencies"], list)
    assert entry["tier"] in range(1, 6)


def test_cmake_s4ext_and_catalog_say_the_same() -> None:
    s4ext, entry = _s4ext(), _catalog()
    for name in ("HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"):
        assert s4ext[name.lower()] == _cmake(f"EXTENSION_{name}"), name
    assert entry["build_dependencies"] == s4ext["depends"].split()
    assert entry["scm_url"] == s4ext["scmurl"]
    assert entry["scm_revision"] == s4ext["scmrevision"]
    assert entry["category"] == s4ext["category"]
    assert (ROOT / "CMakeLists.txt").read_text("utf-8").count("project(LASegColearn)") == 1


def test_every_file_of_the_module_is_listed_in_cmake_and_every_listed_file_is_there() -> None:
    files = [path for path in MODULE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    names = {path.relative_to(MODULE).as_posix() for path in files if path.name != "CMakeLists.txt"}
    names = {name for name in names if ".egg-info" not in name}
    scripts, resources = _listed("MODULE_PYTHON_SCRIPTS"), _listed("MODULE_PYTHON_RESOURCES")
    assert set(scripts) | set(resources) == names
    assert all(name.endswith(".py") for name in scripts)


def test_pictures_named_in_the_description_are_there_and_the_icon_is_of_its_size() -> None:
    for url in (_cmake("EXTENSION_ICONURL"), *_cmake("EXTENSION_SCREENSHOTURLS").split()):
        assert (ROOT / url.partition("/main/")[2]).is_file(), url
    for icon in (ROOT / "Resources" / "LASegColearn.png", MODULE / "Resources" / "Icons" / "LASegColearn.png"):
        assert struct.unpack(">II", icon.read_bytes()[16:24]) == (128, 128)


def test_nothing_of_pytorch_is_in_the_requirements() -> None:
    requirements = (MODULE / "Resources" / "requirements.txt").read_text("utf-8")
    assert not re.search(r"^(torch|numpy|SimpleITK|requests|scipy)\b", requirements, re.MULTILINE)


def test_what_is_to_be_translated_is_written_out_where_it_is_looked_up() -> None:
    """Slicer's tools collect the texts from the source; one that comes in a variable they do not see."""
    files = [MODULE / "LASegColearn.py", *MODULE.glob("*Slicer/*.py"), *MODULE.glob("SegmentEditor*/*.py")]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
                assert isinstance(node.args[0], ast.Constant), f"{file.name}, line {node.lineno}"
