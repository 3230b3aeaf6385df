"""Preprocessed cases of noise, as a run's cache holds them: for measuring what does not depend on what is in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from LASegColearnLib.case_cache import CachedCase
from LASegColearnLib.settings import Settings
from LASegColearnLib.trainer import TrainingCases

# Scans of this many voxels of this size, as the left-atrium benchmark has them.
_SIZE, _SPACING_MM = (200, 150, 88), 0.625


def shape_at(spacing_mm: Sequence[float]) -> tuple[int, ...]:
    """Voxels (x, y, z) of a typical scan at another spacing."""
    return tuple(round(side * _SPACING_MM / spacing) for side, spacing in zip(_SIZE, spacing_mm, strict=True))


def write_cases(folder: Path, settings: Settings, labeled: int, unlabeled: int, validation: int = 0) -> TrainingCases:
    """Write so many cases of the size that scans have at the settings' spacing."""
    rng = np.random.default_rng(0)
    shape = shape_at(settings.spacing_mm)

    def case(name: str, with_label: bool) -> CachedCase:
        np.save(folder / f"{name}.image.npy", rng.standard_normal(shape, dtype=np.float32))
        label_file = folder / f"{name}.label.npy"
        if with_label:
            label = np.zeros(shape, np.uint8)
            label[tuple(slice(side // 4, side // 2) for side in shape)] = 1
            np.save(label_file, label)
        return CachedCase(name, folder / f"{name}.image.npy", label_file if with_label else None)

    return TrainingCases(
        [case(f"labeled-{number}", True) for number in range(labeled)],
        [case(f"unlabeled-{number}", False) for number in range(unlabeled)],
        [case(f"validation-{number}", True) for number in range(validation)],
        {"trained": [], "validated": []},
    )
