"""Settings: the paper's preset, reading them from text, refusing what is out of range."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from LASegColearnLib.errors import InputError
from LASegColearnLib.settings import PRESETS, Settings, preset


def test_paper_preset_is_the_papers_section_3() -> None:
    paper = preset("paper")
    assert (paper.iterations, paper.minutes) == (6000, None)
    assert (paper.optimizer, paper.learning_rate, paper.momentum, paper.weight_decay) == ("sgd", 0.01, 0.9, 0.0001)
    assert (paper.schedule, paper.step_iterations, paper.step_factor) == ("step", 2500, 0.1)
    assert (paper.labeled_batch, paper.unlabeled_batch, paper.patch_size) == (2, 2, (112, 112, 80))
    assert (paper.unlabeled_weight, paper.mix_weight, paper.mix_crop) == (1.0, 1.0, 0.5)
    assert (paper.alpha, paper.beta, paper.ramp_up, paper.pretraining) == (0.005, 0.005, 0.0, 0.0)
    assert paper.axial_rotations
    assert paper.student_difference == "dropout"
    assert paper.axial_flips
    assert paper.intensity_augmentation == paper.foreground_patches == paper.cross_entropy_weight == 0
    assert paper.spacing_mm == (0.625, 0.625, 0.625)


def test_cpu_preset_works_at_1_25_mm_on_64_64_48() -> None:
    assert preset("cpu").spacing_mm == (1.25, 1.25, 1.25)
    assert preset("cpu").patch_size == (64, 64, 48)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_survive_json(name: str) -> None:
    settings = preset(name).checked()
    assert settings.preset == name
    assert Settings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_settings_are_read_from_text_by_their_type() -> None:
    changed = Settings().with_text(
        ["learning_rate=1e-3", "filters=8", "mirror=true", "patch_size=64x64x48", "minutes=5", "region_mm=none"]
    )
    assert (changed.learning_rate, changed.filters, changed.mirror) == (0.001, 8, True)
    assert changed.patch_size == (64, 64, 48)
    assert changed.minutes == 5.0
    assert changed.region_mm is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat=1", "Did you mean learning_rate"),
        ("filters=many", "Wanted a whole number, found 'many'"),
        ("filters", "Wanted name=value"),
        ("optimizer=lion", "one of sgd, adamw"),
        ("patch_size=100,100,80", "multiples of 16"),
        ("patch_size=64,64", "three values"),
        ("dropout=1.5", "below 1"),
        ("seed=-1", "seed: Wanted 0 or more, found -1"),
        ("mirror=yes", "true or false"),
        ("zoom=0.8", "zoom: Wanted a factor from 1 to 2, found 0.8"),
        ("axial_flips=false mirror=true", "mirror: Wanted false where training flips no patches"),
        ("learning_rate=nan", "learning_rate: Wanted a finite number, found nan"),
        ("spacing_mm=inf,inf,inf", "spacing_mm: Wanted a finite number"),
        (f"seed={2**70}", "seed: Wanted a number below 2 to the power of 63"),
        ("seed=" + "1" * 400, "seed: Wanted a number below 2 to the power of 63"),
    ],
)
def test_wrong_settings_are_refused_with_what_was_wanted(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Settings().with_text(text.split() or [text])


@pytest.mark.parametrize("content", [b'{"preset": "pap', b"", b"[1]", b"\xff\xfe\x00"])
def test_a_damaged_file_of_settings_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_bytes(content)
    with pytest.raises(InputError, match=r"settings\.json: Wanted the settings of a run, found a damaged file"):
        Settings.read(tmp_path / "settings.json")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("filters", 2.0),
        ("filters", True),
        ("overlap", "0.25"),
        ("spacing_mm", [1.0, 1.0]),
        ("spacing_mm", 1.0),
        ("minutes", "none"),
        ("optimizer", "lion"),
        ("mirror", 1),
    ],
)
def test_a_setting_of_another_kind_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name}: Wanted a setting as `train` writes it"):
        Settings.from_dict({**Settings().to_dict(), name: value})
    # A whole number is a number.
    assert Settings.from_dict({**Settings().to_dict(), "minutes": 3, "spacing_mm": [1, 1, 1]}).minutes == 3


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("overlap", 0.9999999, "a share between 0 and 0.95"),
        ("spacing_mm", [1.0, 1e-4, 1.0], "three lengths from 0.1 mm"),
        ("filters", 4096, "at most 128"),
    ],
)
def test_a_setting_of_a_file_that_would_never_end_is_refused(name: str, value: Any, wanted: str) -> None:
    with pytest.raises(InputError, match=f"^{name}: Wanted {wanted}, found"):
        Settings.from_dict({**Settings().to_dict(), name: value}).checked()
    Settings(overlap=0.95, spacing_mm=(0.1, 0.1, 0.1), filters=128).checked()


def test_all_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        Settings().with_text(["filters=0", "mix_crop=2"])
    assert {problem.case for problem in caught.value.problems} == {"filters", "mix_crop"}


def test_unknown_preset_is_refused() -> None:
    with pytest.raises(InputError, match="paper, cpu, demo"):
        preset("gpu")
