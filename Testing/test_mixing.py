"""INDMIX's mask and both compositions, against a reference written out voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from LASegColearnLib.mixing import mix, mixing_mask


def _box(mask: torch.Tensor) -> list[tuple[int, int]]:
    inside = torch.nonzero(mask == 0)
    return [(int(inside[:, axis].min()), int(inside[:, axis].max()) + 1) for axis in range(3)]


@pytest.mark.parametrize(("crop", "sides"), [(0.5, (6, 5, 4)), (1.0, (12, 10, 8)), (0.01, (1, 1, 1))])
def test_mask_is_zero_in_one_box_of_the_cropping_parameters_size(crop: float, sides: tuple[int, ...]) -> None:
    mask = mixing_mask((12, 10, 8), crop, np.random.default_rng(0))
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    box = _box(mask)
    assert tuple(end - start for start, end in box) == sides
    assert int((mask == 0).sum()) == np.prod(sides)


def test_box_takes_every_place_inside_the_patch_about_equally_often() -> None:
    rng = np.random.default_rng(0)
    starts = np.array([[start for start, _ in _box(mixing_mask((4, 6, 8), 0.5, rng))] for _ in range(1500)])
    for axis, places in enumerate((3, 4, 5)):
        counts = np.bincount(starts[:, axis], minlength=places)
        assert len(counts) == places
        assert counts.min() > 0.75 * 1500 / places


def test_mix_takes_the_outside_where_the_mask_is_one() -> None:
    rng = np.random.default_rng(1)
    outside, inside = torch.randn(1, 1, 6, 4, 4), torch.randn(1, 1, 6, 4, 4)
    mask = mixing_mask((6, 4, 4), 0.5, rng)
    mixed = mix(outside, inside, mask)
    for voxel in np.ndindex(6, 4, 4):
        source = outside if mask[voxel] == 1 else inside
        assert mixed[(0, 0, *voxel)] == source[(0, 0, *voxel)]
    torch.testing.assert_close(mixed, outside * mask + inside * (1 - mask))
