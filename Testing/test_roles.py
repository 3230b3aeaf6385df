"""The ledger of a study: once for validation, never trained on, and the other way round."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from LASegColearnLib.errors import InputError
from LASegColearnLib.roles import RoleLedger


@pytest.fixture
def ledger(tmp_path: Path) -> RoleLedger:
    first = RoleLedger.load(tmp_path / "roles.json")
    first.record(trained=["t1", "t2"], validated=["v1"])
    return RoleLedger.load(tmp_path / "roles.json")


def test_a_new_study_has_no_conflicts(tmp_path: Path) -> None:
    ledger = RoleLedger.load(tmp_path / "roles.json")
    assert ledger.conflicts(trained={"a": "1"}, validated={"b": "2"}) == []
    assert not (tmp_path / "roles.json").exists()


def test_roles_that_stay_are_no_conflict(ledger: RoleLedger) -> None:
    assert ledger.conflicts(trained={"a": "t1", "new": "n"}, validated={"b": "v1", "other": "m"}) == []


def test_a_validation_scan_is_not_trained_on_under_any_id(ledger: RoleLedger) -> None:
    (problem,) = ledger.conflicts(trained={"renamed": "v1", "a": "t1"}, validated={})
    assert problem.case == "renamed"
    assert problem.cause == "This scan was for validation in an earlier round, and would be trained on now."
    assert problem.remedy.startswith("Keep it for validation")


def test_a_scan_that_was_trained_on_is_not_for_validation(ledger: RoleLedger) -> None:
    (problem,) = ledger.conflicts(trained={}, validated={"a": "t2", "b": "v1"})
    assert problem.case == "a"
    assert problem.cause == "This scan was trained on in an earlier round, and is for validation now."
    assert problem.remedy.startswith("Choose another scan for validation")


def test_roles_are_kept_over_all_rounds(ledger: RoleLedger, tmp_path: Path) -> None:
    ledger.record(trained=["t3"], validated=[])
    again = RoleLedger.load(tmp_path / "roles.json")
    assert (again.trained, again.validated) == ({"t1", "t2", "t3"}, {"v1"})


def test_what_another_run_has_recorded_meanwhile_is_kept(ledger: RoleLedger, tmp_path: Path) -> None:
    other = RoleLedger.load(tmp_path / "roles.json")
    other.record(trained=["t4"], validated=["v2"])
    ledger.record(trained=["t3"], validated=[])
    again = RoleLedger.load(tmp_path / "roles.json")
    assert (again.trained, again.validated) == ({"t1", "t2", "t3", "t4"}, {"v1", "v2"})


def test_a_ledger_without_a_file_writes_none(tmp_path: Path) -> None:
    ledger = RoleLedger({"t"}, {"v"})
    ledger.record(trained=["u"], validated=[])
    assert len(ledger.conflicts(trained={"a": "v"}, validated={"b": "u"})) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_crash_while_writing_leaves_the_earlier_ledger(
    ledger: RoleLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = (tmp_path / "roles.json").read_bytes()
    monkeypatch.setattr("LASegColearnLib.run_folder.os.replace", fail)
    with pytest.raises(OSError, match="No space left"):
        ledger.record(trained=["t9"], validated=[])
    assert (tmp_path / "roles.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["roles.json"]


@pytest.mark.parametrize("content", ["{", "[]", "null", '{"trained": []}', json.dumps({"trained": 1, "validated": []})])
def test_a_damaged_ledger_is_refused_and_not_forgotten(content: str, tmp_path: Path) -> None:
    (tmp_path / "roles.json").write_text(content)
    with pytest.raises(InputError, match=r"roles\.json: .*found a damaged file.*Restore it from a backup"):
        RoleLedger.load(tmp_path / "roles.json")
