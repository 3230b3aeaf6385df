"""What a run writes: event lines and checkpoints, whole and safe to read."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from LASegColearnLib.checkpoints import FORMAT, load_checkpoint, load_model, save_checkpoint
from LASegColearnLib.errors import InputError, Problem, sentence_for
from LASegColearnLib.events import EventLog
from LASegColearnLib.run_folder import replacing, write_json_atomically


def test_events_go_to_file_and_listeners_as_json_lines(tmp_path: Path) -> None:
    seen: list[dict] = []
    log = EventLog(tmp_path / "run" / "events.jsonl", seen.append)
    log.emit("progress", iteration=1, losses={"total": 0.12345678, "cps_1": float("nan")}, seconds_left=float("inf"))
    log.emit("warning", message="Vorhof größer als 300 mL")
    log.close()
    lines = (tmp_path / "run" / "events.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == seen
    assert seen[0] == {
        "event": "progress",
        "iteration": 1,
        "losses": {"total": 0.123457, "cps_1": None},
        "seconds_left": None,
    }
    assert "größer" in lines[1]


def test_events_are_not_added_to_a_file_that_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine", encoding="utf-8")
    (tmp_path / "events.jsonl").symlink_to(tmp_path / "mine")
    with pytest.raises(InputError, match=r"^events\.jsonl: It is a link"):
        EventLog(tmp_path / "events.jsonl")
    assert (tmp_path / "mine").read_text("utf-8") == "mine"


def test_half_a_line_left_by_a_killed_run_does_not_spoil_the_next_event(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "progress", "itera', encoding="utf-8")
    log = EventLog(path)
    log.emit("started")
    log.close()
    assert json.loads(path.read_text(encoding="utf-8").splitlines()[1]) == {"event": "started"}


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_json_atomically(tmp_path / "settings.json", {"seed": 1})
    with pytest.raises(RuntimeError), replacing(tmp_path / "settings.json") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert json.loads((tmp_path / "settings.json").read_text()) == {"seed": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


def test_a_file_that_somebody_reads_is_replaced_when_they_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refusals = os.replace, [1, 2]

    def held(source: Path, target: Path) -> None:
        if refusals:
            refusals.pop()
            raise PermissionError(13, "Access is denied")
        real(source, target)

    monkeypatch.setattr(os, "replace", held)
    write_json_atomically(tmp_path / "settings.json", {"seed": 2})
    assert json.loads((tmp_path / "settings.json").read_text()) == {"seed": 2}
    refusals.extend(range(1000))
    with pytest.raises(PermissionError), replacing(tmp_path / "settings.json", 0.1) as temporary:
        temporary.write_text("{}")
    assert json.loads((tmp_path / "settings.json").read_text()) == {"seed": 2}


def test_what_went_wrong_is_told_though_the_temporary_file_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "The process cannot access the file")

    monkeypatch.setattr(Path, "unlink", held)
    with pytest.raises(OSError, match="the cause"), replacing(tmp_path / "last.pt"):
        raise OSError("the cause")


def test_want_of_memory_is_not_taken_for_a_damaged_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    save_checkpoint(tmp_path / "last.pt", {"networks": {}})
    monkeypatch.setattr(torch, "load", too_large)
    with pytest.raises(RuntimeError, match="allocate"):
        load_checkpoint(tmp_path / "last.pt")


def test_a_full_disk_is_told_as_such_whatever_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("LASegColearnLib.run_folder.shutil.disk_usage", lambda folder: full)
    for error in (RuntimeError("unexpected pos 64 vs 0"), OSError("1440000 requested and 786400 written")):
        with pytest.raises(OSError) as raised, replacing(tmp_path / "last.pt"):
            raise error
        assert sentence_for(raised.value).startswith("There is no space left on the disk.")
    # What a person can mend otherwise is told as it is.
    with pytest.raises(InputError), replacing(tmp_path / "last.pt"):
        raise InputError(Problem("case", "Wrong.", "Right it."))


def test_a_quota_that_is_used_up_is_told_as_such_whatever_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`disk_usage` does not see a quota, and what writes forgets the system's number."""

    def refuse(_file: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    def attempt(error: Exception) -> str:
        with pytest.raises(type(error)) as raised, replacing(tmp_path / "last.pt") as temporary:
            temporary.write_bytes(b"half")
            raise error
        return sentence_for(raised.value)

    assert "unexpected went wrong" in attempt(OSError("1440000 requested and 786400 written"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        assert attempt(OSError("1440000 requested and 786400 written")).startswith("Your disk quota is used up.")
        with pytest.raises(OSError) as raised, replacing(tmp_path / "last.pt"):
            raise RuntimeError("unexpected pos 64 vs 0")
        assert sentence_for(raised.value).startswith("Your disk quota is used up.")
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_of_a_refusal_names_cases_and_no_files(tmp_path: Path) -> None:
    told: list[dict] = []
    log = EventLog(tmp_path / "events.jsonl", told.append)
    cause = "The scan's file is missing: Doe_Jane.nrrd."
    with pytest.raises(InputError), log.telling_failure():
        raise InputError([Problem("case_001", cause, "Restore it."), Problem("case_002", "Wrong.", "Right it.")])
    assert cause in told[0]["message"]
    (kept,) = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text("utf-8").splitlines()]
    assert "Doe" not in kept["message"] and "(case_001, case_002)" in kept["message"]


def test_temporary_names_keep_the_suffixes(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.seg.nrrd") as temporary:
        assert temporary.name.endswith(".seg.nrrd")
        temporary.touch()


class _Harm:
    def __reduce__(self):
        return (Path("harmed").touch, ())


@pytest.mark.parametrize("error", [AttributeError, TypeError])
def test_whatever_pytorch_stumbles_over_in_a_damaged_checkpoint_is_said(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of changed bytes about one in two hundred makes it take a text for a tensor's type."""
    file = tmp_path / "last.pt"
    file.write_bytes(b"changed")

    def load(*_arguments: object, **_options: object) -> None:
        raise error("'str' object has no attribute 'dtype'")

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(InputError, match="not a whole checkpoint: cut short or damaged"):
        load_checkpoint(file)


def test_a_checkpoint_that_holds_code_is_refused_and_not_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": FORMAT, "networks": {}, "harm": _Harm()}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="could run code"):
        load_checkpoint(tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(_Harm()))
    with pytest.raises(InputError):
        load_checkpoint(tmp_path / "plain.pt")
    assert not (tmp_path / "harmed").exists()


def test_checkpoints_that_cannot_be_used_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "none.pt")
    save_checkpoint(tmp_path / "whole.pt", {"networks": {"a": torch.zeros(1000)}})
    content = (tmp_path / "whole.pt").read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 10):
        (tmp_path / "cut.pt").write_bytes(content[:length])
        with pytest.raises(InputError, match="cut short|could run code"):
            load_checkpoint(tmp_path / "cut.pt")
    others = [{"weights": 1}, {"format": "x", "networks": {}}, {"format": FORMAT, "networks": []}]
    for other in others:
        torch.save(other, tmp_path / "other.pt")
        with pytest.raises(InputError, match="not a checkpoint of LASegColearn"):
            load_checkpoint(tmp_path / "other.pt")
    save_checkpoint(tmp_path / "other.pt", {"networks": {}})
    with pytest.raises(InputError, match="not a checkpoint of LASegColearn"):
        load_model(tmp_path / "other.pt")
    with pytest.raises(InputError, match="not a checkpoint of LASegColearn"):
        load_checkpoint(tmp_path / "other.pt", needed=("networks", "lineage"))
    torch.save({"format": FORMAT + 1, "networks": {}}, tmp_path / "newer.pt")
    with pytest.raises(InputError, match="newer version"):
        load_checkpoint(tmp_path / "newer.pt")


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html>\n<html><body>Sign in</body></html>\n",
        b"version https://git-lfs.github.com/spec/v1\n",
        b"best model",
        b"Moved",
    ],
)
def test_a_text_under_the_name_of_a_checkpoint_is_not_called_dangerous(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.pt: It is no(t a whole)? checkpoint"):
        load_checkpoint(tmp_path / "model.pt")


def test_a_checkpoint_that_may_not_be_read_is_told_from_a_damaged_one(tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    save_checkpoint(tmp_path / "model.pt", {"networks": {}})
    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(InputError, match=r"model\.pt: The file may not be read"):
        load_checkpoint(tmp_path / "model.pt")


def test_networks_of_another_size_are_refused(tmp_path: Path) -> None:
    from LASegColearnLib.methods import create_method
    from LASegColearnLib.settings import Settings

    small = create_method(Settings(method="supervised", filters=2))
    networks = {name: network.state_dict() for name, network in small.networks.items()}
    settings = Settings(method="supervised", filters=4).to_dict()
    save_checkpoint(tmp_path / "mixed.pt", {"networks": networks, "settings": settings, "iteration": 1})
    with pytest.raises(InputError, match="another layout"):
        load_model(tmp_path / "mixed.pt")
