"""What the benchmarks of the annotation loop share: rounds of training on real scans, and the figures of a round."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LASegColearnLib.annotation_order import Suggestion, suggest_cases
from LASegColearnLib.checkpoints import load_model
from LASegColearnLib.cohort import Cohort, save_cohort
from LASegColearnLib.device import choose_device
from LASegColearnLib.evaluation import evaluate, summarize
from LASegColearnLib.metrics import Surface
from LASegColearnLib.prediction import predict
from LASegColearnLib.predictor import Predictor
from LASegColearnLib.preprocessing import to_array
from LASegColearnLib.run_folder import RunFolder, write_json_atomically
from LASegColearnLib.settings import Settings
from LASegColearnLib.terminal import TerminalProgress
from LASegColearnLib.training import resume, train
from left_atrium import case

# Scans to train on; the development set that is reported on.
POOL, REPORTED = tuple(range(1, 61)), tuple(range(61, 81))


@dataclass(frozen=True)
class Correction:
    """What a person would have had to change in a prediction to get the true label.

    Attributes
    ----------
    voxels, share
        Voxels that differ, and as a share of the label's.
    surface
        Share of the label's surface that is farther than ``TOLERANCE_MM`` from the prediction's.
    """

    voxels: int
    share: float
    surface: float


TOLERANCE_MM = 1.25


def train_round(
    run: Path, scans: Path, labeled: Sequence[int], settings: Settings, init: Path | None, device: str
) -> RunFolder:
    """Train on these labels and the rest of the pool without labels, or go on with what was broken off."""
    folder = RunFolder(run)
    listeners = [TerminalProgress()]
    if folder.last_checkpoint.exists():
        if not _finished(folder):
            resume(run, device=device, listeners=listeners)
        return folder
    cohort = run.parent / f"{run.name}.json"
    save_cohort(cohort_of(scans, labeled), cohort)
    train(cohort, run, replace(settings, validations=0), device=device, init=init, listeners=listeners)
    return folder


def cohort_of(scans: Path, labeled: Sequence[int]) -> Cohort:
    """The pool with these labels; the labels of the others are not even named."""
    return Cohort(
        tuple(case(scans, n, True) for n in labeled),
        tuple(case(scans, n, False) for n in POOL if n not in labeled),
        (),
    )


def suggested(run: RunFolder, scans: Path, labeled: Sequence[int], device: str) -> list[Suggestion]:
    """The order in which the run's model asks for the cases that are not labeled."""
    predictor = Predictor(load_model(run.last_checkpoint), device=choose_device(device))
    return suggest_cases(predictor, cohort_of(scans, labeled))


def number_of(suggestion: Suggestion) -> int:
    """The scan's number in the folder."""
    return int(suggestion.case.removeprefix("la_"))


def reported_dice(run: RunFolder, scans: Path, device: str) -> float:
    """Mean Dice in % of the run's predicting network on the development set, which was not trained on."""
    members = Cohort((), (), tuple(case(scans, n, True) for n in REPORTED))
    predictions = run.path / "reported"
    chosen = [(member.id, member.image) for member in members.validation]
    predict(run.last_checkpoint, chosen, predictions, figures=False, overwrite=True, device=device)
    return 100 * summarize(evaluate(members, predictions))["dice"].mean


def corrections(run: RunFolder, scans: Path, numbers: Sequence[int], device: str) -> list[Correction]:
    """What would have to be changed in the run's predictions of these scans to get the true labels."""
    members = [case(scans, n, True) for n in numbers]
    predictions = run.path / "to-correct"
    predict(
        run.last_checkpoint,
        [(m.id, m.image) for m in members],
        predictions,
        figures=False,
        overwrite=True,
        device=device,
    )
    found = []
    for member in members:
        assert member.label is not None
        label = sitk.ReadImage(member.label)
        predicted = to_array(sitk.ReadImage(predictions / member.id / "segmentation.seg.nrrd")) > 0
        found.append(_correction(predicted, to_array(label) > 0, label.GetSpacing()))
    return found


def _correction(predicted: np.ndarray, label: np.ndarray, spacing: Sequence[float]) -> Correction:
    voxels = int(np.count_nonzero(predicted != label))
    far = 1.0
    if predicted.any():
        distances = Surface(label, spacing).distances_to(Surface(predicted, spacing))
        far = float(np.mean(distances > TOLERANCE_MM))
    return Correction(voxels, voxels / int(np.count_nonzero(label)), far)


class Record:
    """Results of finished rounds in a JSON file, so that a benchmark goes on where it was broken off."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._content: dict[str, dict] = json.loads(file.read_text("utf-8")) if file.exists() else {}

    def get(self, key: str) -> dict | None:
        return self._content.get(key)

    def put(self, key: str, value: dict) -> dict:
        self._content[key] = value
        write_json_atomically(self._file, self._content)
        return value


def iterations_of(run: RunFolder) -> int:
    """Iterations of a run that is complete."""
    return int(_finished(run)[-1]["iteration"])


def _finished(run: RunFolder) -> list[dict]:
    """The run's words that it is complete; none before it is."""
    lines = run.events.read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines if line.endswith("}")]
    return [event for event in events if event["event"] == "finished" and event["complete"]]
