"""The verb `demo`: all steps on synthetic scans, from no data to a report."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from LASegColearnLib.cohort import load_cohort
from LASegColearnLib.device import choose_device
from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.events import Listener
from LASegColearnLib.network_comparison import compare_networks
from LASegColearnLib.phantom import write_phantom_cohort
from LASegColearnLib.report import write_report
from LASegColearnLib.run_folder import RunFolder
from LASegColearnLib.settings import preset
from LASegColearnLib.training import train

# So few labels that the unlabeled scans matter: with four, supervised training is as good on scans as plain as these.
_LABELED, _UNLABELED, _UNSEEN = 2, 14, 6


def run_demo(
    output: Path,
    *,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "auto",
    listeners: Sequence[Listener] = (),
    should_stop: Callable[[], bool] = lambda: False,
    quiet: bool = False,
) -> bool:
    """Make phantoms, train on 2 labeled and 14 unlabeled ones, predict unseen ones and write a report.

    The same time is then spent on supervised training alone, which the report shows beside it. The scans are written
    to ``<output>/cohort/``, the runs to ``<output>/colearning/`` (with the report) and ``<output>/supervised/``.

    Parameters
    ----------
    output
        Folder for all files; it must not exist.
    minutes
        Training time of each of the two runs; the preset's by default.
    seed
        Random seed of the phantoms and of both runs.
    device, listeners, should_stop
        As for :func:`~LASegColearnLib.training.train`.
    quiet
        Print nothing for the user: no tables, no location of the results, no instruction to continue after a stop.

    Returns
    -------
    bool
        Whether it reached the end; False if it was stopped.

    Raises
    ------
    InputError
        If the output folder exists.
    """
    if output.exists():
        raise InputError(
            Problem(output.name, "There is a folder of this name already.", "Give another one with --output.")
        )
    settings = replace(preset("demo"), seed=seed)
    if minutes is not None:
        settings = replace(settings, minutes=minutes)
    # Checked before anything is written.
    settings.checked()
    choose_device(device)
    log = logging.getLogger(__name__)
    log.info("Making %d synthetic scans ...", _LABELED + _UNLABELED + _UNSEEN)
    cohort_file = write_phantom_cohort(
        output / "cohort", labeled=_LABELED, unlabeled=_UNLABELED, validation=_UNSEEN, seed=seed
    )
    cohort = load_cohort(cohort_file)
    tables = []
    for method in ("colearning", "supervised"):
        run = output / method
        result = train(
            cohort_file,
            run,
            replace(settings, method=method),
            device=device,
            listeners=listeners,
            should_stop=should_stop,
        )
        if not result.finished:
            if not quiet and result.iterations:
                sys.stdout.write(f'Continue with `lasegcolearn train --run "{run}" --resume`.\n')
            return False
        tables.append((method, compare_networks(RunFolder(run), cohort, device=device, listeners=tuple(listeners))))
    report = write_report(output / "colearning", compare_with=output / "supervised")
    if quiet:
        return True
    for method, table in tables:
        sys.stdout.write(f"\n{method}, {_UNSEEN} unseen scans, distances in mm\n{table}\n")
    sys.stdout.write(
        f"\nReport (opens in a browser): {report}\n"
        f"Segmentations (open in 3D Slicer): {RunFolder(output / 'colearning').predictions}\n"
    )
    return True
