"""Training batches: which cases, which patches of them, and how they are augmented."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np
import torch

from LASegColearnLib.augmentation import affine_elastic_patch, augmented_intensities
from LASegColearnLib.case_cache import CachedCase
from LASegColearnLib.methods.base import Batch
from LASegColearnLib.settings import Settings

_LABELED, _UNLABELED, _METHOD = 0, 1, 2
# The number of iterations for which batches are made in advance.
_ITERATIONS_AHEAD = 2


class PatchSource:
    """Draws batches of labeled and unlabeled patches.

    A batch depends only on the seed and its number, so a resumed run draws the same batches as an uninterrupted one,
    and batches can be made ahead in another thread. Two batches of half the size hold the same patches as one.

    Parameters
    ----------
    labeled, unlabeled
        Preprocessed cases. Labels are only read from the labeled ones. Pseudo-labels of the unlabeled ones are cut
        with their patches; either all of them have one, or none.
    settings
        Patch size, augmentation, seed.
    """

    def __init__(self, labeled: Sequence[CachedCase], unlabeled: Sequence[CachedCase], settings: Settings) -> None:
        self.labeled = list(labeled)
        self.unlabeled = list(unlabeled)
        self.settings = settings

    def batch(self, number: int, labeled: int, unlabeled: int) -> Batch:
        """The batch with this number, among batches with this many patches of each kind."""
        images: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        for case, rng in self._chosen(_LABELED, self.labeled, number, labeled):
            label = case.label()
            start = self._patch_start(case.image().shape, rng, label)
            image_patch, label_patch = self._rotated_and_flipped(*self._cut(case.image(), label, start, rng), rng)
            images.append(self._intensity_augmented(image_patch, rng))
            labels.append(label_patch)
        others: list[np.ndarray] = []
        weakly_augmented: list[np.ndarray] = []
        pseudo_labels: list[np.ndarray] = []
        for case, rng in self._chosen(_UNLABELED, self.unlabeled, number, unlabeled):
            start = self._patch_start(case.image().shape, rng, None)
            # An empty label goes through the same steps, so that both kinds of patch are augmented alike.
            scan_label = case.pseudo_label()
            image_patch, label_patch = self._rotated_and_flipped(*self._cut(case.image(), scan_label, start, rng), rng)
            if scan_label is not None:
                pseudo_labels.append(label_patch)
            weakly_augmented.append(image_patch)
            others.append(self._intensity_augmented(image_patch, rng))
        shape = tuple(self.settings.patch_size)
        return Batch(
            labeled=_stack(images, shape)[:, None],
            labels=_stack(labels, shape),
            unlabeled=_stack(others, shape)[:, None],
            weakly_augmented=_stack(weakly_augmented, shape)[:, None],
            pseudo_labels=_stack(pseudo_labels, shape),
            number=number,
            rng=np.random.default_rng([self.settings.seed, _METHOD, number]),
        )

    def _chosen(
        self, stream: int, cases: list[CachedCase], number: int, count: int
    ) -> Iterator[tuple[CachedCase, np.random.Generator]]:
        """Cases in a new random order for each pass through all cases, each with its own random generator.

        A draw depends only on its number among all draws. So when the number of patches per batch is halved, as after
        the pretraining, draws are repeated; new ones were no better (docs/benchmarks.md).
        """
        for draw in range(number * count, (number + 1) * count):
            turn, place = divmod(draw, len(cases))
            order = np.random.default_rng([self.settings.seed, stream, turn]).permutation(len(cases))
            yield cases[order[place]], np.random.default_rng([self.settings.seed, stream, draw, 1])

    def _patch_start(self, shape: tuple[int, ...], rng: np.random.Generator, label: np.ndarray | None) -> list[int]:
        """First voxel of a patch, at any position in the scan.

        Negative along axes where the scan is smaller than the patch, so that the scan lies in the middle of it.
        """
        room = [side - wanted for side, wanted in zip(shape, self.settings.patch_size, strict=True)]
        start = [int(rng.integers(0, free + 1)) if free >= 0 else free // 2 for free in room]
        if label is not None and rng.random() < self.settings.foreground_patches:
            inside = np.flatnonzero(label)
            if len(inside):
                center = np.unravel_index(inside[rng.integers(len(inside))], label.shape)
                for axis, free in enumerate(room):
                    if free > 0:
                        start[axis] = int(np.clip(center[axis] - self.settings.patch_size[axis] // 2, 0, free))
        return start

    def _cut(
        self, image: np.ndarray, label: np.ndarray | None, start: Sequence[int], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The patch unchanged or deformed; zeros (the scan's mean, or background) outside the scan."""
        size = self.settings.patch_size
        if rng.random() < self.settings.affine_augmentation:
            return affine_elastic_patch(image, label, start, size, self.settings.spacing_mm, rng)
        image_patch = _filled(np.zeros(size, np.float32), image, start)
        label_patch = np.zeros(size, np.uint8)
        return image_patch, label_patch if label is None else _filled(label_patch, label, start)

    def _rotated_and_flipped(
        self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Image and label patch, rotated and flipped alike.

        Rotations by 90 degrees and a flip together make all eight symmetries of the axial square equally likely.
        """
        if self.settings.axial_rotations:
            turns = int(rng.integers(4))
            image, label = np.rot90(image, turns, axes=(0, 1)), np.rot90(label, turns, axes=(0, 1))
        if self.settings.axial_flips and rng.random() < 0.5:
            image, label = np.flip(image, axis=0), np.flip(label, axis=0)
        return image, label

    def _intensity_augmented(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return augmented_intensities(image, rng) if rng.random() < self.settings.intensity_augmentation else image


def _filled(patch: np.ndarray, array: np.ndarray, start: Sequence[int]) -> np.ndarray:
    """``patch`` filled from ``array``, beginning at ``start``, where the two overlap."""
    source, target = [], []
    for first, side, wanted in zip(start, array.shape, patch.shape, strict=True):
        begin, end = max(first, 0), min(first + wanted, side)
        source.append(slice(begin, end))
        target.append(slice(begin - first, end - first))
    patch[tuple(target)] = array[tuple(source)]
    return patch


def _stack(arrays: list[np.ndarray], shape: tuple[int, ...]) -> torch.Tensor:
    if not arrays:
        return torch.empty((0, *shape))
    return torch.from_numpy(np.stack(arrays).astype(np.float32, copy=False))


class BatchesAhead:
    """Makes the next batches in a thread while the networks compute.

    A thread suffices, since NumPy does the work; a pool of processes can hang, and hides its errors.

    Parameters
    ----------
    source
        Makes the batches.
    parts, of
        Which parts of an iteration's batch are wanted, and how many parts it has.
    pinned
        Put the batches into pinned memory for a GPU.
    """

    def __init__(self, source: PatchSource, parts: Sequence[int] = (0,), of: int = 1, pinned: bool = False) -> None:
        self._source = source
        self._parts = parts
        self._of = of
        self._pinned = pinned
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._made: dict[tuple[int, int, int], Future[list[Batch]]] = {}

    def take(self, iteration: int, labeled: int, unlabeled: int) -> list[Batch]:
        """The parts of the batch of ``iteration``; the next batches are started. Raises what making it raised."""
        wanted = [(iteration + step, labeled, unlabeled) for step in range(_ITERATIONS_AHEAD + 1)]
        for request in set(self._made) - set(wanted):
            # A new phase needs other numbers of patches: batches made ahead for the old one are dropped.
            self._made.pop(request).cancel()
        for request in wanted:
            if request not in self._made:
                self._made[request] = self._thread.submit(self._batches, *request)
        return self._made.pop(wanted[0]).result()

    def forget(self) -> None:
        """Drop the batches made ahead, before the source changes."""
        for made in self._made.values():
            made.cancel()
        wait(self._made.values())
        self._made.clear()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)

    def _batches(self, iteration: int, labeled: int, unlabeled: int) -> list[Batch]:
        sizes = labeled // self._of, unlabeled // self._of
        batches = [self._source.batch(iteration * self._of + part, *sizes) for part in self._parts]
        return [batch.pin_memory() for batch in batches] if self._pinned else batches
