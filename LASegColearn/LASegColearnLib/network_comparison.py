"""Compares all networks of a run with the validation labels in one table."""

from __future__ import annotations

from LASegColearnLib.checkpoints import load_model
from LASegColearnLib.cohort import Cohort
from LASegColearnLib.evaluation import EvaluatedCase, evaluate, format_table, write_metrics_csv
from LASegColearnLib.events import Listener
from LASegColearnLib.prediction import predict
from LASegColearnLib.predictor import MEAN
from LASegColearnLib.run_folder import RunFolder


def compare_networks(
    run: RunFolder,
    cohort: Cohort,
    *,
    device: str = "auto",
    unit: str = "mm",
    listeners: tuple[Listener, ...] = (),
) -> str:
    """Predict the validation cases with every network of the run's last checkpoint and compare with their labels.

    The predicting network's segmentations are written to the run's ``predictions/``, those of the others (and of the
    mean of all) to ``predictions-of-networks/<name>/``, and all metrics to ``metrics.csv``.

    Returns
    -------
    str
        The table, for a terminal.

    Raises
    ------
    InputError
        If the cohort has no validation cases, or files cannot be read.
    """
    model = load_model(run.last_checkpoint)
    others = [name for name in model.networks if name != model.predictor]
    scans = [(case.id, case.image) for case in cohort.validation]
    rows: list[EvaluatedCase] = []
    for name in [model.predictor, *others, *([MEAN] if others else [])]:
        folder = run.predictions if name == model.predictor else run.network_predictions(name)
        predict(
            run.last_checkpoint,
            scans,
            folder,
            network=name,
            figures=name == model.predictor,
            overwrite=True,
            device=device,
            listeners=listeners,
        )
        rows += evaluate(cohort, folder, unit=unit, network=name)
    write_metrics_csv(rows, run.metrics)
    return format_table(rows)
