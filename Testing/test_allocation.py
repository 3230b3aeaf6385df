"""Memory that large tensors free is taken again instead of being mapped and cleared anew."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ENGINE = Path(__file__).parents[1] / "LASegColearn"
# Page faults of making a tensor of 64 MB ten times in a process of its own, since the setting cannot be taken back.
# It was made 40 times before: an aligned block does not always fit where one like it was, and glibc then takes more.
SCRIPT = """
import resource, sys
import torch
from LASegColearnLib.allocation import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    torch.ones(2**24)
before = faults()
for _ in range(10):
    torch.ones(2**24)
print(faults() - before)
"""


def _faults(how: str) -> int:
    command = [sys.executable, "-c", SCRIPT, how]
    return int(subprocess.check_output(command, env={"PYTHONPATH": str(ENGINE)}, text=True))


@pytest.mark.alone
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="Other C libraries are left alone.")
def test_tensors_of_a_later_iteration_cause_no_page_faults() -> None:
    assert _faults("kept") < 1000 < _faults("as it is")
