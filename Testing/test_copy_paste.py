"""BCP's mixtures and their losses, which SDCL shares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from batches import noise_batch
from LASegColearnLib.copy_paste import (
    Mixture,
    connected_pseudo_labels,
    copy_paste_mask,
    labeled_loss,
    labeled_mixture,
    mixture_loss,
    mixtures,
)

SIDE = (32, 16, 16)


def test_the_box_is_two_thirds_of_the_patch_rounded_down_and_may_be_anywhere_in_it() -> None:
    starts = set()
    for seed in range(60):
        mask = copy_paste_mask((12, 12, 8), np.random.default_rng(seed))
        box = torch.nonzero(mask == 0)
        first, last = box.min(0).values, box.max(0).values
        assert (last - first + 1).tolist() == [8, 8, 5]
        assert len(box) == 8 * 8 * 5
        starts.add(int(first[0]))
    assert starts == set(range(5))
    published = copy_paste_mask((112, 112, 80), np.random.default_rng(0))
    assert int((published == 0).sum()) == 74 * 74 * 53


def test_labeled_and_unlabeled_patches_are_pasted_both_ways_with_one_mask() -> None:
    batch = noise_batch(SIDE, labeled=4, unlabeled=4)
    taught = (torch.rand(4, *SIDE) > 0.5).float()
    into_labeled, into_unlabeled = mixtures(batch, taught)
    mask = copy_paste_mask(SIDE, np.random.default_rng(0))
    inside = mask == 0
    for mixture, outer, inner in (
        (into_labeled, (batch.labeled[:2], batch.labels[:2]), (batch.unlabeled[:2], taught[:2])),
        (into_unlabeled, (batch.unlabeled[2:], taught[2:]), (batch.labeled[2:], batch.labels[2:])),
    ):
        assert torch.equal(mixture.images[..., inside], inner[0][..., inside])
        assert torch.equal(mixture.images[..., ~inside], outer[0][..., ~inside])
        assert torch.equal(mixture.targets[..., inside], inner[1][..., inside])
        assert torch.equal(mixture.targets[..., ~inside], outer[1][..., ~inside])
    assert torch.equal(into_labeled.true, mask)
    assert torch.equal(into_unlabeled.true, 1 - mask)
    assert into_labeled.weights.unique().tolist() == [0.5, 1.0]


@pytest.mark.parametrize(("labeled", "unlabeled", "count"), [(1, 1, 1), (2, 4, 2), (3, 2, 2)])
def test_batches_of_any_size_are_pasted(labeled: int, unlabeled: int, count: int) -> None:
    batch = noise_batch(SIDE, labeled=labeled, unlabeled=unlabeled)
    for mixture in mixtures(batch, torch.zeros(unlabeled, *SIDE)):
        assert mixture.images.shape == (count, 1, *SIDE)
        assert mixture.targets.shape == (count, *SIDE)


def test_in_the_first_stage_labeled_patches_are_pasted_into_each_other() -> None:
    batch = noise_batch(SIDE, labeled=4, unlabeled=0)
    mixture = labeled_mixture(batch)
    inside = copy_paste_mask(SIDE, np.random.default_rng(0)) == 0
    assert torch.equal(mixture.images[..., inside], batch.labeled[2:][..., inside])
    assert torch.equal(mixture.images[..., ~inside], batch.labeled[:2][..., ~inside])
    assert torch.equal(mixture.targets[..., inside], batch.labels[2:][..., inside])
    assert bool((mixture.true == 1).all())


def _dice(p: torch.Tensor, g: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
    """DICE-MASK written out: over patches and classes, each summed where the region is."""
    scores = []
    for n in range(len(p)):
        for a, b in ((p[n], g[n]), (1 - p[n], 1 - g[n])):
            a, b = a[region == 1], b[region == 1]
            scores.append((2 * (a * b).sum() + 1e-5) / (a.sum() + b.sum() + 1e-5))
    return 1 - torch.stack(scores).mean()


def test_pseudo_labeled_voxels_weigh_half_and_each_part_is_a_mean_over_its_own_voxels() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 2, *SIDE), (torch.rand(2, *SIDE) > 0.7).float()
    true = copy_paste_mask(SIDE, np.random.default_rng(1))
    p = torch.softmax(logits, 1)[:, 1]
    entropies = F.cross_entropy(logits, targets.long(), reduction="none")
    expected = 0.5 * (_dice(p, targets, true) + entropies[:, true == 1].mean())
    expected = expected + 0.25 * (_dice(p, targets, 1 - true) + entropies[:, true == 0].mean())
    mixture = Mixture(torch.zeros(2, 1, *SIDE), targets, true)
    torch.testing.assert_close(mixture_loss(logits, mixture), expected)
    whole = 0.5 * (_dice(p, targets, torch.ones(SIDE)) + entropies.mean())
    torch.testing.assert_close(labeled_loss(logits, mixture), whole)


def test_of_pseudo_labels_the_largest_part_of_each_patch_is_kept() -> None:
    logits = torch.zeros(3, 2, 8, 8, 8)
    logits[:, 0] = 1.0
    logits[0, 1, :2, :2, :2] = 2.0
    logits[0, 1, 4:7, 4:7, 4:7] = 2.0
    logits[1, 1, :2, :2, :2] = 2.0
    kept = connected_pseudo_labels(logits.requires_grad_(True))
    assert kept.sum((1, 2, 3)).tolist() == [27.0, 8.0, 0.0]
    assert float(kept[0, 5, 5, 5]) == 1.0
    assert not kept.requires_grad
