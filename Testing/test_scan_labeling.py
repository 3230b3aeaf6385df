"""Labels of whole scans: the largest part of what a network finds, kept beside the scans, none for nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from LASegColearnLib.case_cache import CachedCase
from LASegColearnLib.device import choose_device
from LASegColearnLib.patches import PatchSource
from LASegColearnLib.processes import Processes
from LASegColearnLib.scan_labeling import label_scans, labels_are_there, remove_other_labels, with_labels
from LASegColearnLib.settings import Settings

SETTINGS = Settings(
    patch_size=(16, 16, 16), axial_rotations=False, axial_flips=False, affine_augmentation=1.0, statistics_batches=2
)
DEVICE = choose_device("cpu", "float32")


class _Bright(nn.Module):
    """Says left atrium where a voxel is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.normalization = nn.BatchNorm3d(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(x), 20 * x - 10], dim=1)


def _case(folder: Path, name: str, boxes: list[tuple[slice, ...]]) -> CachedCase:
    image = np.zeros((24, 20, 18), np.float32)
    for box in boxes:
        image[box] = 1.0
    np.save(folder / f"{name}.image.npy", image)
    return CachedCase(name, folder / f"{name}.image.npy", None)


def _cases(folder: Path) -> tuple[list[CachedCase], np.ndarray]:
    large, small = (slice(2, 12), slice(3, 13), slice(4, 12)), (slice(20, 22), slice(16, 18), slice(0, 2))
    expected = np.zeros((24, 20, 18), bool)
    expected[large] = True
    return [_case(folder, "a", [large, small]), _case(folder, "b", [])], expected


def _labels(cases: list[CachedCase], iteration: int = 7) -> dict[str, int]:
    return {case.image_file.name: iteration for case in cases}


def test_the_largest_part_is_kept_and_a_scan_with_nothing_is_left_out(tmp_path: Path) -> None:
    cases, expected = _cases(tmp_path)
    network = _Bright().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert with_labels(cases, {}) == []
    told: list[tuple[int, int]] = []
    assert label_scans(network, cases, [], SETTINGS, DEVICE, 7, told=lambda done, of: told.append((done, of))) == 2
    assert told == [(0, 2), (1, 2), (2, 2)]
    (found,) = with_labels(cases, _labels(cases))
    assert found.id == "a" and found.label_file is None
    assert np.array_equal(found.pseudo_label() > 0, expected)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_labels_to_learn_from_are_not_shifted(tmp_path: Path) -> None:
    cases, expected = _cases(tmp_path)
    network = _Bright()
    network.register_forward_hook(lambda module, inputs, logits: logits / 5)  # 2 where it is bright
    label_scans(network, cases, [], replace(SETTINGS, logit_shift=3.0), DEVICE, 7)
    (found,) = with_labels(cases, _labels(cases))
    assert np.array_equal(found.pseudo_label() > 0, expected)


def test_a_patch_and_its_scans_label_are_cut_and_moved_alike(tmp_path: Path) -> None:
    cases, _ = _cases(tmp_path)
    label_scans(_Bright(), cases, [], SETTINGS, DEVICE, 7)
    (found,) = with_labels(cases, _labels(cases))
    without_small = found.image().copy()
    without_small[found.pseudo_label() == 0] = 0.0
    np.save(tmp_path / "c.image.npy", without_small)
    source = PatchSource([], [replace(found, image_file=tmp_path / "c.image.npy")], SETTINGS)
    for number in range(5):
        batch = source.batch(number, 0, 2)
        assert torch.equal(batch.pseudo_labels, (batch.weakly_augmented[:, 0] >= 0.5).float())
    assert len(PatchSource([], cases, SETTINGS).batch(0, 0, 2).pseudo_labels) == 0


def test_a_training_that_is_stopped_labels_no_further_scan(tmp_path: Path) -> None:
    cases, _ = _cases(tmp_path)
    asked = iter([False, True])
    assert label_scans(_Bright(), cases, [], SETTINGS, DEVICE, 7, should_stop=lambda: next(asked)) == 1
    assert [file.name for file in tmp_path.glob("*taught*")] == ["a.taught-7.npy"]


def test_of_several_processes_the_first_scan_that_one_has_left_counts(tmp_path: Path) -> None:
    cases, _ = _cases(tmp_path)

    class Second(Processes):
        """Of three; the first has done two scans, the last none."""

        def all_gather(self, value: float) -> list[int]:
            return [2, round(value), 0]

    assert label_scans(_Bright(), [*cases, *cases], [], SETTINGS, DEVICE, 7, Second(1, 3)) == 2


def test_earlier_labels_stay_until_they_are_removed(tmp_path: Path) -> None:
    cases, _ = _cases(tmp_path)
    for iteration in (7, 9):
        label_scans(_Bright(), cases, [], SETTINGS, DEVICE, iteration)
    assert labels_are_there(cases, _labels(cases, 7)) and labels_are_there(cases, _labels(cases, 9))
    label_scans(_Bright(), cases[:1], [], SETTINGS, DEVICE, 12)
    remove_other_labels(cases, _labels(cases, 9), before=12)
    assert (tmp_path / "a.taught-12.npy").exists(), "Another process may be making these now."
    (tmp_path / "a.taught-12.npy").unlink()
    assert sorted(file.name for file in tmp_path.glob("*taught*")) == ["a.taught-9.npy", "b.taught-9.npy"]
    assert labels_are_there(cases, _labels(cases, 9)) and not labels_are_there(cases, _labels(cases, 7))
    assert (tmp_path / "a.image.npy").exists()


def test_labels_that_a_loss_of_power_has_emptied_are_not_there(tmp_path: Path) -> None:
    cases, _ = _cases(tmp_path)
    label_scans(_Bright(), cases, [], SETTINGS, DEVICE, 7)
    for lost in (b"", bytes(300)):
        (tmp_path / "a.taught-7.npy").write_bytes(lost)
        assert not labels_are_there(cases, _labels(cases, 7))


def test_copies_that_a_program_makes_under_other_names_stay(tmp_path: Path) -> None:
    cases, _ = _cases(tmp_path)
    label_scans(_Bright(), cases, [], SETTINGS, DEVICE, 7)
    copy = tmp_path / "a.taught-7-LAPTOP.npy"
    copy.write_bytes((tmp_path / "a.taught-7.npy").read_bytes())
    remove_other_labels(cases, {}, before=12)
    assert [file.name for file in tmp_path.glob("*taught*")] == [copy.name]
