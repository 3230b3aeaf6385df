"""Segments scan files into a folder of results, and replaces only results there."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from LASegColearnLib.cohort import id_problems, unique_ids
from LASegColearnLib.errors import InputError, PredictionError, Problem, first_of, is_out_of_memory
from LASegColearnLib.predictor import Prediction, Predictor
from LASegColearnLib.run_folder import patiently, write_json_atomically
from LASegColearnLib.scan_files import content_hash, read_scan
from LASegColearnLib.segmentation_files import network_file, write_mask, write_volume

SEGMENTATION_FILE = "segmentation.seg.nrrd"
NIFTI_FILE = "segmentation.nii.gz"
PROBABILITY_FILE = "probability.nrrd"
UNCERTAINTY_FILE = "uncertainty.nrrd"
FIGURES_FILE = "figures.json"


@dataclass(frozen=True)
class PredictedCase:
    """A case whose results are on disk: its id, the folder they are in, and its figures."""

    id: str
    folder: Path
    figures: dict[str, Any]


def case_ids(scans: Sequence[Path]) -> list[tuple[str, Path]]:
    """Give each scan an id, as in a cohort; see :func:`~LASegColearnLib.cohort.unique_ids`."""
    return list(zip(unique_ids(scans), scans, strict=True))


def without_results(scans: Sequence[tuple[str, Path]], output: Path, predictor: Predictor) -> list[tuple[str, Path]]:
    """The scans, given as to :func:`predict_files`, that have no segmentation in the output folder yet.

    Raises
    ------
    InputError
        If files that would be replaced were made by another model, with other options, or do not say by which; if an
        existing segmentation belongs to another scan, or its scan cannot be read.
    """
    begun = _with_results(scans, output)
    others = [case_id for case_id in begun if not _is_by(predictor.origin, output / case_id / FIGURES_FILE)]
    if others:
        raise InputError(
            Problem(
                first_of(others),
                "There are files in the output folder that this model did not make, or not with these options.",
                "Give another output folder, or replace all with --overwrite.",
            )
        )
    done = [(case_id, path) for case_id, path in scans if (output / case_id / SEGMENTATION_FILE).exists()]
    # Ids come from file names and are numbered if these are the same, so another scan may have the same id.
    strangers = [case_id for case_id, path in done if not _is_of(case_id, path, output / case_id / FIGURES_FILE)]
    if strangers:
        raise InputError(
            Problem(
                first_of(strangers),
                "The segmentation in the output folder is that of another scan.",
                "Give another output folder, or replace all with --overwrite.",
            )
        )
    return [scan for scan in scans if scan not in done]


def predict_files(
    predictor: Predictor,
    scans: Sequence[tuple[str, Path]],
    output: Path,
    *,
    nifti: bool = False,
    volumes: bool = False,
    figures: bool = True,
    overwrite: bool = False,
    on_done: Callable[[PredictedCase], None] | None = None,
) -> list[PredictedCase]:
    """Segment scan files, each into its own folder ``<output>/<id>/``.

    The files written are ``segmentation.seg.nrrd`` and ``figures.json`` (a prediction's figures, and ``scan``, by which
    :func:`without_results` recognizes the scan); with ``nifti`` also ``segmentation.nii.gz``; with ``volumes`` also
    ``probability.nrrd``, ``uncertainty.nrrd`` and the other networks' segmentations, ``network-<name>.seg.nrrd``. The
    segmentation is written last.

    Parameters
    ----------
    scans
        Id and file of each; :func:`case_ids` makes ids from file names.
    figures
        See :meth:`Predictor.predict`.
    overwrite
        Replace the results of an earlier prediction; its files that are not written again are removed.
    on_done
        Called when a case has been written.

    Raises
    ------
    InputError
        Before anything is segmented: if an id cannot be a folder name or occurs twice, or if there are results already.
        At the end, when all other scans have been segmented: naming each scan that could not be read, was too large,
        gave a network output that is not finite, or whose earlier result could not be replaced.
    """
    check_output(scans, output, overwrite)
    done: list[PredictedCase] = []
    problems: list[Problem] = []
    for case_id, path in scans:
        folder = output / case_id
        try:
            prediction = _predict(predictor, case_id, path, figures=figures, uncertainty=volumes)
            _replace_results(prediction, case_id, folder, nifti=nifti, volumes=volumes)
        except InputError as error:
            problems += error.problems
            continue
        case = PredictedCase(case_id, folder, prediction.figures)
        done.append(case)
        if on_done is not None:
            on_done(case)
    if problems:
        raise InputError(problems)
    return done


def _predict(predictor: Predictor, case_id: str, path: Path, *, figures: bool, uncertainty: bool) -> Prediction:
    """One scan's prediction, with the scan's hash among its figures; raises :class:`InputError` if that fails."""
    try:
        scan = read_scan(path, case_id)
        prediction = predictor.predict(scan, figures=figures, uncertainty=uncertainty)
    except PredictionError:
        cause = "The network's output for this scan contains NaN or infinity."
        raise InputError(Problem(case_id, cause, "Use another device (CPU), or train a new model.")) from None
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        cause = "There is not enough memory to segment it."
        raise InputError(Problem(case_id, cause, "Use --device cpu, or crop the scan.")) from None
    return replace(prediction, figures={**prediction.figures, "scan": content_hash(scan)})


def _replace_results(prediction: Prediction, case_id: str, folder: Path, *, nifti: bool, volumes: bool) -> None:
    """Write a prediction; raises :class:`InputError` if another program has the earlier one open."""
    had_results = _has_results(folder)
    try:
        _write(prediction, folder, nifti=nifti, volumes=volumes)
    except PermissionError:
        if not had_results:
            # No earlier result is the cause: nothing can be written here.
            raise
        cause = "Its earlier result could not be replaced, as when another program has it open."
        raise InputError(Problem(case_id, cause, "Close it there, then predict once more.")) from None


def _files(nifti: bool, volumes: bool) -> list[str]:
    files = [SEGMENTATION_FILE, FIGURES_FILE]
    if nifti:
        files.append(NIFTI_FILE)
    if volumes:
        files += [PROBABILITY_FILE, UNCERTAINTY_FILE]
    return files


def _with_results(scans: Sequence[tuple[str, Path]], output: Path) -> list[str]:
    """The ids of the scans that have results in the output folder."""
    return [case_id for case_id, _ in scans if _has_results(output / case_id)]


def _has_results(folder: Path) -> bool:
    """Whether a case's folder holds files that a prediction would replace or remove."""
    return any((folder / name).exists() for name in _files(True, True)) or any(folder.glob(network_file("*")))


def check_output(scans: Sequence[tuple[str, Path]], output: Path, overwrite: bool) -> None:
    """Raise :class:`InputError` as :func:`predict_files` does before anything is segmented."""
    problems = []
    if output.exists() and not output.is_dir():
        problems.append(Problem(output.name, "Wanted a folder for the results, found a file.", "Give another folder."))
    problems += id_problems([case_id for case_id, _ in scans], "Give it another id.")
    there = _with_results(scans, output)
    # A prediction writes its figures first: files without them were not written by a prediction.
    foreign = [case_id for case_id in there if not (output / case_id / FIGURES_FILE).exists()]
    if foreign:
        problems.append(
            Problem(
                first_of(foreign),
                f"Files in the output folder have the names of results, but are not results without {FIGURES_FILE}. "
                "They would be replaced or removed.",
                "Give another output folder, or move these files elsewhere.",
            )
        )
    elif there and not overwrite:
        problems.append(
            Problem(
                first_of(there),
                "There are results in the output folder already.",
                "Give another output folder, replace them with --overwrite, or continue an interrupted prediction with "
                "--only-missing.",
            )
        )
    if problems:
        raise InputError(problems)


def _is_by(origin: Mapping[str, Any], figures: Path) -> bool:
    """Whether a prediction's figures name this origin; entries that earlier versions lack are not compared."""
    found = _figures(figures)
    model = found.get("model")
    if not isinstance(model, dict):
        return False
    # Before there was a zoom, each scan was segmented at one size.
    made, told = {**origin, **origin["model"]}, {"zoom": 1.0, **found, **model}
    return all(told[name] == value for name, value in made.items() if name in told and name != "model")


def _is_of(case_id: str, scan: Path, figures: Path) -> bool:
    """Whether a prediction's figures belong to this scan; those of earlier versions name none and are accepted."""
    told = _figures(figures).get("scan")
    return told is None or told == content_hash(read_scan(scan, case_id))


def _figures(path: Path) -> dict[str, Any]:
    """The content of a figures file; empty if it is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(prediction: Prediction, folder: Path, *, nifti: bool, volumes: bool) -> None:
    """Write a prediction beside the earlier one, then move it into its place, since the disk may be full."""
    # Left by a process that was killed while it wrote.
    for left in folder.glob(".new-*"):
        shutil.rmtree(left, ignore_errors=True)
    # Not a folder of tempfile: on Windows no other user may read it, or the files moved out of it.
    new = folder / f".new-{uuid.uuid4().hex}"
    new.mkdir(parents=True)
    try:
        _write_new(prediction, new, nifti=nifti, volumes=volumes)
        # The segmentation is removed first and written last: a case with one is complete and from one prediction.
        outdated = [SEGMENTATION_FILE, *(set(_files(True, True)) - set(_files(nifti, volumes)))]
        for file in [*(folder / name for name in outdated), *folder.glob(network_file("*"))]:
            patiently(partial(file.unlink, missing_ok=True))
        for file in sorted(new.iterdir(), key=lambda file: (file.name == SEGMENTATION_FILE, file.name != FIGURES_FILE)):
            patiently(partial(os.replace, file, folder / file.name))
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _write_new(prediction: Prediction, folder: Path, *, nifti: bool, volumes: bool) -> None:
    write_json_atomically(folder / FIGURES_FILE, prediction.figures)
    if volumes and prediction.uncertainty is not None:
        write_volume(folder / PROBABILITY_FILE, prediction.probability)
        write_volume(folder / UNCERTAINTY_FILE, prediction.uncertainty)
        for name, mask in prediction.others.items():
            write_mask(folder / network_file(name), mask)
    if nifti:
        write_mask(folder / NIFTI_FILE, prediction.mask)
    write_mask(folder / SEGMENTATION_FILE, prediction.mask)
