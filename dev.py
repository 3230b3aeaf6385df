"""Set up and run LASegColearn from a clean checkout, with nothing but Python 3.10-3.14:

    python3 dev.py demo      make synthetic scans, train on them for some minutes, predict, draw a report
    python3 dev.py test      run the tests and the style checks

Both make the virtual environment .venv in this folder, with `lasegcolearn` in it, unless it is there and up to date.
A PyTorch that is in it already is kept if it is new enough. Further arguments are passed on:
`python3 dev.py demo --minutes 1`, `python3 dev.py test -k mixing`.
"""

from __future__ import annotations

import ctypes.util
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
BIN = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
# What is installed for each verb: the tests need Qt, Slicer's MRML and more.
PACKAGES = {"demo": str(ROOT), "test": f"{ROOT}[test]"}
OLDEST, NEWEST = (3, 10), (3, 14)


def main() -> int:
    verbs = {"demo": demo, "test": test}
    if len(sys.argv) < 2 or sys.argv[1] not in verbs:
        sys.stdout.write(__doc__ or "")
        return 2
    check_python()
    check_libraries()
    set_up(sys.argv[1])
    return verbs[sys.argv[1]](sys.argv[2:])


def check_python() -> None:
    version = sys.version_info[:2]
    if not OLDEST <= version <= NEWEST:
        sys.exit(
            f"Wanted Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}, found {version[0]}.{version[1]}. "
            "Run this with another one, for example: python3.12 dev.py demo"
        )


def check_libraries() -> None:
    """PyTorch's and SimpleITK's wheels need the C++ runtime, and `venv` needs ensurepip: say how to get either."""
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        sys.exit(
            "Python's ensurepip is missing. On Debian and Ubuntu: "
            f"sudo apt-get install python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        )
    if sys.platform.startswith("linux") and ctypes.util.find_library("stdc++") is None:
        sys.exit("The library libstdc++ is missing. On Debian and Ubuntu: sudo apt-get install libstdc++6")


def set_up(verb: str) -> None:
    """Make the environment; again only when what is to be installed has changed."""
    stamp = ENVIRONMENT / f"lasegcolearn-installed-for-{verb}"
    wanted = [ROOT / "pyproject.toml", ROOT / "constraints.txt"]
    key = hashlib.sha256(b"".join(path.read_bytes() for path in wanted) + str(ROOT).encode()).hexdigest()
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == key:
        return
    say("Setting up .venv (once; several hundred MB are downloaded, under Linux some GB) ...")
    if not PYTHON.exists():
        venv.create(ENVIRONMENT, with_pip=True)
    # pip compiles what it installs: where Python may write no bytecode, each start would take five seconds for that.
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not is_installed("torch"):
        # First: a package that merely depends on it would take whichever build comes first.
        run([*pip, "--constraint", str(ROOT / "constraints.txt"), "torch"])
    run([*pip, "--editable", PACKAGES[verb]])
    stamp.write_text(key)


def is_installed(package: str) -> bool:
    """Whether the environment has a package; somebody may have chosen a build of PyTorch for this computer."""
    code = f"import importlib.metadata; importlib.metadata.version({package!r})"
    return subprocess.call([str(PYTHON), "-c", code], stderr=subprocess.DEVNULL) == 0


def demo(arguments: list[str]) -> int:
    return subprocess.call([str(PYTHON), "-m", "LASegColearnLib", "demo", *arguments])


def test(arguments: list[str]) -> int:
    run([str(PYTHON), "-m", "ruff", "check", str(ROOT)])
    run([str(PYTHON), "-m", "ruff", "format", "--check", str(ROOT)])
    run([str(PYTHON), "-m", "mypy"])
    pytest = [str(PYTHON), "-m", "pytest"]
    if arguments:
        return subprocess.call([*pytest, *arguments], cwd=ROOT)
    # A worker for each core, each computing on one; what measures time afterwards, alone. Where a test computes with
    # more threads, those that wait for one another must not take the other worker's core.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    together = [*pytest, "-n", str(os.cpu_count() or 1), "--dist", "loadfile", "-m", "not alone", "--durations", "20"]
    failed = subprocess.call(together, cwd=ROOT, env=environment)
    return subprocess.call([*pytest, "-m", "alone"], cwd=ROOT) or failed


def run(command: list[str]) -> None:
    if subprocess.call(command, cwd=ROOT) != 0:
        sys.exit(f"This did not work: {' '.join(Path(part).name for part in command)}")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
