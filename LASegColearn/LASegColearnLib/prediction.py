"""The verb `predict`: segments scans into files that 3D Slicer opens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from LASegColearnLib.checkpoints import load_model
from LASegColearnLib.cohort import id_problems
from LASegColearnLib.committee import combined_model
from LASegColearnLib.device import device_for_model
from LASegColearnLib.errors import InputError
from LASegColearnLib.events import EventLog, Listener
from LASegColearnLib.prediction_files import PredictedCase, case_ids, check_output, predict_files, without_results
from LASegColearnLib.predictor import Predictor
from LASegColearnLib.processes import local_device, process_group, processes_from_environment


def predict(
    checkpoint: Path | Sequence[Path],
    scans: Sequence[Path] | Sequence[tuple[str, Path]],
    output: Path,
    *,
    network: str | None = None,
    overlap: float | None = None,
    mirror: bool | None = None,
    zoom: float | None = None,
    nifti: bool = False,
    volumes: bool = False,
    figures: bool = True,
    overwrite: bool = False,
    only_missing: bool = False,
    device: str = "auto",
    listeners: Sequence[Listener] = (),
) -> list[PredictedCase]:
    """Segment scans with a trained model. Processes started by torchrun divide the scans among them.

    Parameters
    ----------
    checkpoint
        The model, for example a run's ``checkpoints/last.pt``; for several models the mean of their probabilities
        predicts (:func:`~LASegColearnLib.committee.combined_model`).
    scans
        Scan files, or pairs of an id and a file; without ids, these come from the file names.
    output
        Folder in which each scan gets a folder with ``segmentation.seg.nrrd`` and ``figures.json``.
    network
        The teacher by default, a student's name, or ``mean`` of all; of several models the ``committee`` by default.
    overlap, mirror, zoom
        Overlap of windows, averaging over mirrored copies, and over the scan enlarged and reduced by a factor.
    nifti, volumes, figures, overwrite
        See :func:`~LASegColearnLib.prediction_files.predict_files`.
    only_missing
        Continue an interrupted prediction: scans with a segmentation in the output folder are skipped, even if other
        requested files are missing; incomplete results of other scans are replaced. Segmentations by another model,
        with other options or of another scan with the same id are refused.
    device
        ``auto``, ``cuda``, ``cuda:N``, ``mps`` or ``cpu``.
    listeners
        Called with each event (``predicting``, ``predicted``, ``failed``).

    Returns
    -------
    list
        The results of each scan that this process has segmented.

    Raises
    ------
    InputError
        Before anything is segmented, for a checkpoint, option or output folder that cannot be used; after all others
        have been segmented, for scans that cannot be read.

    Examples
    --------
    >>> cases = predict(Path("run/checkpoints/last.pt"), [Path("scan.nrrd")], Path("results"))  # doctest: +SKIP
    >>> cases[0].figures["volume_ml"]  # doctest: +SKIP
    71.3
    """
    events = EventLog(None, *listeners)
    named: list[tuple[str, Path]] = [scan for scan in scans if isinstance(scan, tuple)]
    named += case_ids([scan for scan in scans if isinstance(scan, Path)])
    # Checked here for all scans, since later each process sees only its own share.
    problems = list(id_problems([case_id for case_id, _ in named], "Give it another id."))
    if problems:
        raise InputError(problems)
    model = combined_model(
        [load_model(path) for path in ([checkpoint] if isinstance(checkpoint, Path) else checkpoint)]
    )
    place = device_for_model(local_device(device), model.settings.precision)
    predictor = Predictor(model, device=place, network=network, overlap=overlap, mirror=mirror, zoom=zoom)
    share = processes_from_environment().share(named)
    if only_missing:
        # All results are checked before one is written. The division does not depend on them, since another process may
        # have written some already.
        missing = without_results(named, output, predictor)
        share = [scan for scan in share if scan in missing]
    named = share
    done = 0

    def tell(case: PredictedCase) -> None:
        nonlocal done
        done += 1
        events.emit("predicted", case=case.id, **_told(case.figures))
        events.emit("predicting", done=done, of=len(named))

    events.emit("predicting", done=0, of=len(named))
    with events.telling_failure():
        check_output(named, output, overwrite or only_missing)
    with events.telling_failure(), _ending_together(place.device):
        return predict_files(
            predictor,
            named,
            output,
            nifti=nifti,
            volumes=volumes,
            figures=figures,
            overwrite=overwrite or only_missing,
            on_done=tell,
        )


@contextmanager
def _ending_together(device: torch.device) -> Iterator[None]:
    """Delay this process's :class:`InputError` until all processes are done: torchrun ends all when one fails."""
    failure = None
    with process_group(device) as processes:
        try:
            yield
        except InputError as error:
            failure = error
        processes.all_gather(0.0)
    if failure is not None:
        raise failure


def _told(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: figures[name] for name in ("volume_ml", "mean_uncertainty_near_surface", "agreement", "note")}
