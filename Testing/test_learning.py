"""That it learns: from phantoms to phantoms it has not seen, with the demo's settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from LASegColearnLib.cohort import load_cohort
from LASegColearnLib.evaluation import evaluate
from LASegColearnLib.phantom import write_phantom_cohort
from LASegColearnLib.prediction import predict
from LASegColearnLib.settings import preset
from LASegColearnLib.training import train


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom_cohort(tmp_path_factory.mktemp("phantoms"), labeled=4, unlabeled=8, validation=4, seed=11)


def test_unseen_phantoms_are_segmented(cohort: Path, tmp_path: Path) -> None:
    # A number of iterations, not of minutes: what is learned must not depend on how busy the machine is.
    settings = replace(preset("demo"), minutes=None, iterations=140, validations=1)
    result = train(cohort, tmp_path / "run", settings, device="cpu")
    members = load_cohort(cohort)
    scans = [(case.id, case.image) for case in members.validation]
    found = predict(result.run.last_checkpoint, scans, tmp_path / "out", device="cpu")
    dice = [row.metrics.dice for row in evaluate(members, tmp_path / "out")]
    # No threshold comes near this on phantoms: see test_phantom.py.
    assert np.mean(dice) > 0.75
    assert all(20 < case.figures["volume_ml"] < 120 for case in found)
    assert all(case.figures["agreement"]["mean"] > 0.8 for case in found)
