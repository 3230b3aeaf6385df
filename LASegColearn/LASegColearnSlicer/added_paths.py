"""Adds folders, cohort files and scans to a study, with notes on what may be wrong or missing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from slicer.i18n import tr as _

from LASegColearnLib.cohort_import import is_named_like_a_label
from LASegColearnLib.errors import InputError, Problem
from LASegColearnSlicer.scene_cases import READABLE_SUFFIXES
from LASegColearnSlicer.study import Study, StudyCase

_SEGMENTATION_SUFFIXES = (".seg.nrrd", ".seg.nhdr")
_MOST_NAMES = 4


def addPaths(study: Study, paths: Sequence[Path]) -> str:
    """Add everything that can be added; return notes for the user, empty if there are none.

    Raises
    ------
    InputError
        Names all paths that could not be added.
    """
    problems: list[Problem] = []
    present = {case.id for case in study.cases}
    with _warningsOf("LASegColearnLib.cohort_import") as warned:
        for path in paths:
            try:
                _addPath(study, path)
            except InputError as error:
                problems += error.problems
    if problems:
        raise InputError(problems)
    added = [case for case in study.cases if case.id not in present]
    return "\n".join(filter(None, [*warned, namedLikeLabels(added)]))


def namedLikeLabels(cases: Sequence[StudyCase]) -> str:
    """A note on cases that were added as scans but may be labels; empty if there are none."""
    doubtful = [
        case.name
        for case in cases
        if case.label is None and (is_named_like_a_label(case.scan) or is_named_like_a_label(Path(case.name)))
    ]
    text = _("Added as scans, although their names look like labels: {names}. Remove those that are labels.")
    return text.format(names=someOf(doubtful)) if doubtful else ""


def notUsedAsLabels(names: Sequence[str]) -> str:
    """A note on label maps and segmentations of the scene that are no case's label; empty if there are none."""
    text = _(
        "Not used as labels: {names}. To use one, select its case in the table, choose it under Label and press Use as "
        "label. First convert a label map to a segmentation (right-click it in Data)."
    )
    return text.format(names=someOf(names)) if names else ""


def someOf(names: Sequence[str]) -> str:
    """The first of these names, for a message."""
    return ", ".join(names[:_MOST_NAMES]) + (", ..." if names[_MOST_NAMES:] else "")


def _addPath(study: Study, path: Path) -> None:
    name = path.name.lower()
    if path.is_dir():
        study.addFolder(path)
    elif path.suffix == ".json":
        study.addCohortFile(path)
    elif name.endswith(_SEGMENTATION_SUFFIXES):
        remedy = _("Load it in Slicer, then choose it under Label and press Use as label.")
        raise InputError(Problem(path.name, _("Wanted a scan, found a segmentation."), remedy))
    elif name.endswith(READABLE_SUFFIXES):
        study.addScan(path)
    else:
        remedy = _("Scans end in {suffixes}.").format(suffixes=", ".join(READABLE_SUFFIXES))
        raise InputError(Problem(path.name, _("Wanted a folder, a cohort file or a scan."), remedy))


@contextmanager
def _warningsOf(part: str) -> Iterator[list[str]]:
    """Collect the warnings of a part of the engine for the panel only: case names must not get into Slicer's log."""
    warned: list[str] = []
    handler, logger = logging.Handler(logging.WARNING), logging.getLogger(part)
    handler.emit = lambda record: warned.append(record.getMessage())  # type: ignore[method-assign]
    propagates = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield warned
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates
