"""The packages that the engine needs and Slicer does not ship: find and install the missing ones."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from LASegColearnLib.errors import InputError, Problem

# In earlier versions, a malicious checkpoint can run code: CVE-2025-32434, CVE-2026-24747.
TORCH_VERSION = ">=2.10"
TORCH = f"torch{TORCH_VERSION}"
# Shipped with Slicer or chosen by the PyTorch extension: an installation must not change these.
_KEPT = ("numpy", "scipy", "SimpleITK", "requests", "pillow", "packaging", "torch", "torchvision")
# Packages that these need in turn, for a folder of wheels.
_INDIRECT = {
    "torch": ("filelock", "fsspec", "Jinja2", "MarkupSafe", "mpmath", "networkx", "sympy", "typing-extensions"),
    "matplotlib": ("contourpy", "cycler", "fonttools", "kiwisolver", "pyparsing", "python-dateutil", "six"),
    "Jinja2": ("MarkupSafe",),
}

PipInstall = Callable[[list[str]], Any]


class Dependencies:
    """Finds missing packages and installs them.

    Parameters
    ----------
    requirementsFile
        The list of packages other than PyTorch.
    pipInstall
        Installs with pip's arguments: ``slicer.util.pip_install`` in Slicer.
    installTorch
        Installs the PyTorch build for this machine and returns None if it failed: Slicer's extension PyTorch. None if
        the extension is not installed.
    """

    def __init__(self, requirementsFile: Path, pipInstall: PipInstall, installTorch: Callable[[], Any] | None) -> None:
        self._requirements = _read(requirementsFile)
        self._pipInstall = pipInstall
        self._installTorch = installTorch

    def missing(self) -> list[str]:
        """The unmet requirements, PyTorch first; found without importing the packages."""
        importlib.invalidate_caches()
        return [requirement for requirement in (TORCH, *self._requirements) if not _isMet(requirement)]

    def impossible(self) -> bool:
        """Whether PyTorch is missing and there is no suitable version for this Slicer."""
        # Slicer for Mac is built for Intel processors, even on Apple silicon. The last PyTorch for Intel Macs is 2.2.
        return sys.platform == "darwin" and platform.machine() == "x86_64" and TORCH in self.missing()

    def sentence(self) -> str:
        """A text for the user about missing packages; empty if nothing is missing."""
        missing = self.missing()
        if not missing:
            return ""
        if self.impossible():
            return (
                "There is no PyTorch for Slicer on a Mac, so it cannot train or predict here. Use the command line, as "
                "described in the README: on this Mac if it has Apple silicon, otherwise on another computer. The "
                "results can be opened here."
            )
        names = ", ".join(_name(requirement) for requirement in missing)
        size = "several hundred MB, several GB with a GPU" if TORCH in missing else "some tens of MB"
        text = f"Training and prediction need software that is not installed yet: {names} ({size})."
        present = {_name(requirement): _version(_name(requirement)) for requirement in missing}
        replaced = ", ".join(f"{name} {version}" for name, version in present.items() if version is not None)
        if replaced:
            text += f" The installed {replaced} is too old and will be replaced, also for other extensions that use it."
        return text

    def install(self) -> None:
        """Install missing packages from the internet: PyTorch with Slicer's extension PyTorch, the others with pip.

        Raises
        ------
        InputError
            If the extension PyTorch is missing or something could not be installed.
        """
        missing = self.missing()
        if TORCH in missing:
            if self._installTorch is None:
                raise InputError(
                    Problem(
                        "PyTorch",
                        "Slicer's extension PyTorch is not installed.",
                        "Install it in the Extensions Manager, restart Slicer, and press Install again.",
                    )
                )
            self._do(self._installTorch)
        rest = [requirement for requirement in self.missing() if requirement != TORCH]
        if rest:
            self._pip(rest, [])
        self._checkAllThere("See the Python console for the reason, then try again.")

    def installFrom(self, folder: Path) -> None:
        """Install missing packages from a folder of wheels, without internet access.

        Raises
        ------
        InputError
            If the folder lacks packages, which are named before anything is installed, or if pip failed.
        """
        missing = self.missing()
        lacking = [name for name in self.wheelsNeeded() if not _hasWheel(folder, name)]
        if lacking:
            cause = f"It has no wheels for: {', '.join(lacking)}."
            raise InputError(Problem(folder.name, cause, "Put them there. Press List to see how to get them."))
        if missing:
            self._pip(missing, ["--no-index", "--find-links", str(folder)])
        self._checkAllThere("Check that the wheels are for this system and this version of Python.")

    def wheelsNeeded(self) -> list[str]:
        """Names of all missing packages, direct and indirect."""
        direct = [_name(requirement) for requirement in self.missing()]
        indirect = [name for package in direct for name in _INDIRECT.get(package, ()) if not _isMet(name)]
        return list(dict.fromkeys([*direct, *indirect]))

    def howToGetWheels(self) -> str:
        """The exact list, and the command to download it on a computer with internet access."""
        versions = [f"{name}=={v}" for name in ("numpy", "scipy") if (v := _version(name)) is not None]
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        wanted = [*(f'"{requirement}"' for requirement in self.missing()), *versions]
        return (
            f"Needed: {', '.join(self.wheelsNeeded())}.\n\n"
            f"On a computer with internet access, the same system ({platform.system()}, {platform.machine()}) and "
            f"Python {python}, run:\n\npython -m pip download --only-binary=:all: --dest wheels {' '.join(wanted)}\n\n"
            "For an NVIDIA GPU on Windows, add --extra-index-url with the address that pytorch.org gives for your "
            "CUDA version. "
            "Copy the folder wheels to this computer and choose it."
        )

    def _pip(self, requirements: Sequence[str], options: list[str]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            constraints = Path(folder) / "constraints.txt"
            # Packages that are too old are replaced. With PyTorch also torchvision, which fits only one version of it.
            replaced = {_name(requirement) for requirement in requirements}
            replaced |= {"torchvision"} if "torch" in replaced else set()
            found = {name: version for name in _KEPT if (version := _version(name)) is not None}
            kept = [f"{name}=={version}" for name, version in found.items() if name not in replaced]
            constraints.write_text("\n".join(kept) + "\n", encoding="utf-8")
            self._do(lambda: self._pipInstall([*options, "--constraint", str(constraints), *requirements]))

    def _do(self, install: Callable[[], Any]) -> None:
        try:
            install()
        # pip and the extension can raise any exception.
        except Exception as error:  # noqa: BLE001
            remedy = "Check the internet connection and the free disk space. The Python console has the details."
            if "torch" in sys.modules:
                # Windows cannot replace files that are loaded.
                remedy = "Restart Slicer and press Install before anything else. If it fails again: " + remedy
            raise InputError(Problem("Install", "The installation failed.", remedy)) from error

    def _checkAllThere(self, remedy: str) -> None:
        missing = self.missing()
        if missing:
            names = ", ".join(_name(requirement) for requirement in missing)
            raise InputError(Problem("Install", f"Still missing: {names}.", remedy))


def _read(file: Path) -> list[str]:
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _name(requirement: str) -> str:
    return re.split(r"[<>=!~ \[;]", requirement, maxsplit=1)[0]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _isMet(requirement: str) -> bool:
    from packaging.requirements import Requirement

    version = _version(_name(requirement))
    return version is not None and Requirement(requirement).specifier.contains(version, prereleases=True)


def _hasWheel(folder: Path, name: str) -> bool:
    wanted = re.sub(r"[-_.]+", "_", name).lower()
    return any(re.sub(r"[-_.]+", "_", file.name.split("-")[0]).lower() == wanted for file in folder.glob("*.whl"))
