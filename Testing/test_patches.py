"""The sampler: what is in a batch, and what is never touched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from LASegColearnLib.case_cache import CachedCase
from LASegColearnLib.patches import BatchesAhead, PatchSource
from LASegColearnLib.settings import Settings

SETTINGS = Settings(patch_size=(16, 16, 16), axial_rotations=False, axial_flips=False)


def _case(folder: Path, name: str, shape=(20, 18, 17), labeled=True, value: float | None = None) -> CachedCase:
    """A case whose voxels say where they are, so that a patch tells where it was cut."""
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) if value is None else np.full(shape, value)
    np.save(folder / f"{name}.image.npy", image.astype(np.float32))
    label_file = None
    if labeled:
        label_file = folder / f"{name}.label.npy"
        np.save(label_file, (image % 3 == 0).astype(np.uint8))
    return CachedCase(name, folder / f"{name}.image.npy", label_file)


def test_a_batch_is_two_labeled_and_two_unlabeled_patches(tmp_path: Path) -> None:
    source = PatchSource([_case(tmp_path, "a"), _case(tmp_path, "b")], [_case(tmp_path, "c", labeled=False)], SETTINGS)
    batch = source.batch(0, 2, 2)
    assert batch.labeled.shape == batch.unlabeled.shape == (2, 1, 16, 16, 16)
    assert batch.labels.shape == (2, 16, 16, 16)
    assert batch.labeled.dtype == batch.labels.dtype == torch.float32


def test_the_label_of_an_unlabeled_case_is_never_read(tmp_path: Path) -> None:
    unlabeled = _case(tmp_path, "c")
    unlabeled.label_file.write_bytes(b"not readable")
    source = PatchSource([_case(tmp_path, "a")], [unlabeled], SETTINGS)
    for iteration in range(20):
        source.batch(iteration, 2, 2)
    with pytest.raises(ValueError):
        unlabeled.label()


@pytest.mark.parametrize("changes", [{}, {"axial_rotations": True, "axial_flips": True, "foreground_patches": 0.5}])
def test_label_patch_belongs_to_its_image_patch(tmp_path: Path, changes: dict) -> None:
    source = PatchSource([_case(tmp_path, "a")], [], replace(SETTINGS, **changes))
    for iteration in range(10):
        batch = source.batch(iteration, 2, 0)
        torch.testing.assert_close(batch.labels, (batch.labeled[:, 0] % 3 == 0).float())


def test_every_case_comes_once_before_any_comes_again(tmp_path: Path) -> None:
    cases = [_case(tmp_path, str(n), value=float(n)) for n in range(6)]
    source = PatchSource(cases, [], SETTINGS)
    seen = [int(v) for i in range(6) for v in source.batch(i, 2, 0).labeled[:, 0, 0, 0, 0]]
    assert sorted(seen[:6]) == sorted(seen[6:]) == list(range(6))
    assert seen[:6] != seen[6:]


def test_every_place_in_the_scan_is_cut_the_first_and_the_last_too(tmp_path: Path) -> None:
    source = PatchSource([_case(tmp_path, "a", shape=(18, 16, 17))], [], SETTINGS)
    corners = {float(source.batch(i, 1, 0).labeled[0, 0, 0, 0, 0]) for i in range(200)}
    strides = (16 * 17, 17, 1)
    assert corners == {float(x * strides[0] + z) for x in range(3) for z in range(2)}


def test_a_scan_smaller_than_the_patch_is_padded_with_zeros_around_it(tmp_path: Path) -> None:
    source = PatchSource([_case(tmp_path, "a", shape=(10, 16, 16), value=5.0)], [], SETTINGS)
    patch = source.batch(0, 1, 0).labeled[0, 0]
    assert (patch[:3] == 0).all()
    assert (patch[3:13] == 5).all()
    assert (patch[13:] == 0).all()


def test_axial_augmentation_gives_all_eight_symmetries_and_leaves_slices_in_place(tmp_path: Path) -> None:
    settings = replace(SETTINGS, axial_rotations=True, axial_flips=True)
    source = PatchSource([_case(tmp_path, "a", shape=(16, 16, 16))], [], settings)
    original = np.load(tmp_path / "a.image.npy")
    wanted = {
        np.ascontiguousarray(turned).tobytes()
        for k in range(4)
        for turned in (np.rot90(original, k), np.flip(np.rot90(original, k), 0))
    }
    seen = {source.batch(i, 1, 0).labeled[0, 0].numpy().tobytes() for i in range(150)}
    assert seen == wanted
    assert len(wanted) == 8


def test_intensities_change_in_the_share_of_patches_asked_for(tmp_path: Path) -> None:
    case = _case(tmp_path, "a", shape=(16, 16, 16))
    source = PatchSource([case], [], replace(SETTINGS, intensity_augmentation=0.5))
    original = torch.from_numpy(np.load(case.image_file))
    changed = [not torch.equal(source.batch(i, 1, 0).labeled[0, 0], original) for i in range(100)]
    assert 30 < sum(changed) < 70


def test_plain_patches_are_the_unlabeled_ones_before_their_intensities_changed(tmp_path: Path) -> None:
    case = _case(tmp_path, "a", shape=(16, 16, 16), labeled=False)
    settings = replace(SETTINGS, intensity_augmentation=0.5, axial_rotations=True)
    source = PatchSource([], [case], settings)
    batches = [source.batch(i, 0, 1) for i in range(20)]
    values = np.unique(np.load(case.image_file))
    assert all(np.array_equal(np.unique(batch.weakly_augmented), values) for batch in batches)
    assert 5 < sum(not torch.equal(batch.weakly_augmented, batch.unlabeled) for batch in batches) < 15


def test_moving_moves_label_and_image_together(tmp_path: Path) -> None:
    case = _case(tmp_path, "a", shape=(32, 32, 32))
    label = np.zeros((32, 32, 32), np.uint8)
    label[10:24, 8:20, 12:28] = 1
    np.save(case.label_file, label)
    np.save(case.image_file, label.astype(np.float32))
    settings = replace(SETTINGS, patch_size=(32, 32, 32), affine_augmentation=1.0)
    moved = 0
    for iteration in range(10):
        batch = PatchSource([case], [], settings).batch(iteration, 1, 0)
        torch.testing.assert_close(batch.labels, (batch.labeled[:, 0] >= 0.5).float())
        overlap = float((batch.labels[0] * torch.from_numpy(label)).sum())
        dice = 2 * overlap / (float(batch.labels.sum()) + label.sum())
        assert dice > 0.4
        moved += dice < 0.99
    assert moved >= 8


def test_foreground_patches_are_centered_on_the_label(tmp_path: Path) -> None:
    case = _case(tmp_path, "a", shape=(40, 40, 40))
    label = np.zeros((40, 40, 40), np.uint8)
    label[30, 5, 20] = 1
    np.save(case.label_file, label)
    uniform = PatchSource([case], [], SETTINGS)
    centered = PatchSource([case], [], replace(SETTINGS, foreground_patches=1.0))
    assert all(float(centered.batch(i, 1, 0).labels.sum()) == 1 for i in range(20))
    assert not all(float(uniform.batch(i, 1, 0).labels.sum()) == 1 for i in range(20))


def test_batches_are_a_function_of_seed_and_iteration(tmp_path: Path) -> None:
    cases = [_case(tmp_path, str(n)) for n in range(3)]
    settings = replace(SETTINGS, intensity_augmentation=1.0, axial_rotations=True)
    first, again = PatchSource(cases, cases, settings), PatchSource(cases, cases, settings)
    other = PatchSource(cases, cases, replace(settings, seed=1))
    first.batch(0, 2, 2)
    assert torch.equal(first.batch(7, 2, 2).labeled, again.batch(7, 2, 2).labeled)
    assert not torch.equal(first.batch(7, 2, 2).labeled, other.batch(7, 2, 2).labeled)
    assert not torch.equal(first.batch(7, 2, 2).labeled, first.batch(8, 2, 2).labeled)


def test_batches_made_ahead_are_the_same_and_errors_arrive(tmp_path: Path) -> None:
    cases = [_case(tmp_path, "a"), _case(tmp_path, "b")]
    source = PatchSource(cases, cases, SETTINGS)
    ahead = BatchesAhead(source)
    for iteration in range(4):
        (batch,) = ahead.take(iteration, 4, 0)
        assert torch.equal(batch.labeled, source.batch(iteration, 4, 0).labeled)
    for iteration in range(4, 8):
        (batch,) = ahead.take(iteration, 2, 2)
        assert torch.equal(batch.unlabeled, source.batch(iteration, 2, 2).unlabeled)
    cases[0].image_file.unlink()
    with pytest.raises(FileNotFoundError):
        for iteration in range(8, 16):
            ahead.take(iteration, 2, 2)
    ahead.close()


def test_a_process_makes_its_own_parts_of_a_batch(tmp_path: Path) -> None:
    cases = [_case(tmp_path, "a"), _case(tmp_path, "b")]
    source = PatchSource(cases, cases, SETTINGS)
    ahead = BatchesAhead(source, parts=[2, 3], of=4)
    made = ahead.take(5, 8, 4)
    ahead.close()
    assert [part.number for part in made] == [22, 23]
    assert [len(part.labeled) for part in made] == [2, 2]
    assert torch.equal(torch.cat([part.unlabeled for part in made]), source.batch(5, 8, 4).unlabeled[2:])
