"""The computer's memory, and what a training takes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from LASegColearnLib import memory
from LASegColearnLib.memory import memory_of_a_training, memory_of_the_computer
from LASegColearnLib.settings import preset


def test_a_trainings_memory_is_about_what_was_measured() -> None:
    """2.0 GB for the cpu preset in float32, SS-Net 6.2; 10.8, and with ``batch_parts=2`` 8.4, for the paper's."""
    assert 1.6e9 < memory_of_a_training(preset("cpu")) < 2.4e9
    assert 8e9 < memory_of_a_training(preset("paper")) < 15e9
    assert 7.6e9 < memory_of_a_training(replace(preset("paper"), batch_parts=2)) < 9.3e9
    assert 5.6e9 < memory_of_a_training(replace(preset("cpu"), method="ss_net")) < 6.9e9


def test_the_computers_memory_is_what_the_system_says() -> None:
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        pytest.skip("This system has no /proc/meminfo to compare with.")
    kilobytes = int(meminfo.read_text("ascii").split("MemTotal:")[1].split()[0])
    found = memory_of_the_computer()
    assert found is not None and found <= 1024 * kilobytes


def test_a_containers_limit_is_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_LIMIT_OF_A_CONTAINER", limit)
    unlimited = memory_of_the_computer()
    limit.write_text("max\n", encoding="ascii")
    assert memory_of_the_computer() == unlimited
    limit.write_text("123456789\n", encoding="ascii")
    assert memory_of_the_computer() == 123456789
