"""Checks a cohort and reports all its problems before any time is spent on training."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LASegColearnLib.cohort import ROLES, Case, Cohort, id_problems, real_path
from LASegColearnLib.errors import InputError, Problem, is_out_of_memory
from LASegColearnLib.itk_names import image_reader
from LASegColearnLib.preprocessing import Vector
from LASegColearnLib.scan_files import check_label, content_hash, read_label, read_scan
from LASegColearnLib.scan_names import SUFFIXES

OnRead = Callable[[Case, str, sitk.Image, "sitk.Image | None"], None]

# Each reader holds a scan and its resampling in memory: half a gigabyte for a clinical scan of 640×640×88 voxels.
# Eight readers took 5.3 GB, two take 2.0, a training 1.6 (benchmarks/preparation_memory.py).
_READERS = min(os.cpu_count() or 1, 2)
# float32 image and uint8 label of every voxel, plus half as much for results.
_BYTES_A_VOXEL = 5 * 1.5


@dataclass(frozen=True)
class CheckedCohort:
    """A cohort that training can start with.

    Attributes
    ----------
    content_hashes
        Hash of each scan's content by case id.
    warnings
        Sentences for the user.
    """

    content_hashes: dict[str, str]
    warnings: list[str]


def check_cohort(
    cohort: Cohort,
    *,
    min_labeled: int = 2,
    min_unlabeled: int = 2,
    cache_folder: Path | None = None,
    spacing_mm: Vector | None = None,
    region_mm: Vector | None = None,
    checkpoint_bytes: int = 0,
    on_read: OnRead | None = None,
    progress: Callable[[Case], None] | None = None,
    free_bytes: Callable[[Path], int] | None = None,
) -> CheckedCohort:
    """Read and check every scan and label once; all problems of all cases are collected.

    Parameters
    ----------
    cohort
        The cases; labels of unlabeled ones are never opened.
    min_labeled, min_unlabeled
        Smallest numbers of cases that the method needs.
    cache_folder, spacing_mm, region_mm
        Folder for the preprocessed scans, their spacing, and the box that is kept of them (none: all), to estimate the
        disk space that they need.
    checkpoint_bytes
        Disk space that the run's checkpoints need in addition.
    on_read
        Called with each valid case, its content hash, scan and label (None for an unlabeled case), so that it can be
        preprocessed without reading it again. It is called in several threads at a time, and not at all if the cohort
        is already refused before reading. If it raises :class:`InputError`, its problems are reported with the others.
    progress
        Called after each case, in this thread. If it raises an exception, the checks end without reading more cases.
    free_bytes
        Returns the free space on the disk of a folder; by default the system's answer.

    Raises
    ------
    InputError
        With all problems of all cases.
    """
    members = [_Member(case, role) for role in ROLES for case in getattr(cohort, role)]
    problems = [
        *_count_problems(cohort, min_labeled, min_unlabeled),
        *id_problems([case.id for case in cohort.cases], "Give it another id in the cohort file."),
    ]
    if cache_folder is not None and spacing_mm is not None:
        scans = _scans_bytes(cohort, cache_folder, spacing_mm, region_mm)
        problems += _room_problems(cache_folder, scans + checkpoint_bytes, free_bytes or _free_bytes)
    # Nothing is written if the disk has no room or two cases have the same name.
    store = on_read if not problems else None
    warnings: list[str] = []
    with ThreadPoolExecutor(_READERS, thread_name_prefix="reading") as threads:
        outcomes = []
        try:
            for outcome in threads.map(lambda member: _read(member, store), members):
                outcomes.append(outcome)
                problems += outcome.problems
                warnings += outcome.warnings
                if progress is not None:
                    progress(outcome.member.case)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    problems += [*_duplicate_problems(outcomes), *_shared_label_problems(outcomes)]
    if problems:
        raise InputError(problems)
    return CheckedCohort({o.member.case.id: o.content_hash for o in outcomes if o.content_hash}, warnings)


@dataclass(frozen=True)
class _Member:
    case: Case
    role: str


@dataclass
class _Outcome:
    member: _Member
    content_hash: str | None = None
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def _read(member: _Member, on_read: OnRead | None) -> _Outcome:
    case, outcome = member.case, _Outcome(member)
    # The label of an unlabeled case is never opened, even if the case names one.
    label_path = None if member.role == "unlabeled" else case.label
    if member.role != "unlabeled" and label_path is None:
        cause = f"Wanted a label for this {member.role} case, found none."
        outcome.problems.append(Problem(case.id, cause, "Add it, or list the case as unlabeled."))
    if label_path is not None and real_path(label_path) == real_path(case.image):
        cause = "Its scan and its label are one file."
        outcome.problems.append(Problem(case.id, cause, "Correct the one that is wrong in the cohort file."))
        return outcome
    try:
        scan = read_scan(case.image, case.id)
    except InputError as error:
        outcome.problems += error.problems
        if label_path is not None:
            with _problems_to(outcome):
                check_label(label_path, case.segment, case.id)
        return outcome
    outcome.content_hash = content_hash(scan)
    label = None
    if label_path is not None:
        with _problems_to(outcome):
            label, outcome.warnings = read_label(label_path, case.segment, scan, case.id)
    if on_read is not None and not outcome.problems:
        with _problems_to(outcome):
            _hand_on(on_read, case, outcome.content_hash, scan, label)
    return outcome


@contextmanager
def _problems_to(outcome: _Outcome) -> Iterator[None]:
    """Add the problems of an :class:`InputError` raised in this block to the case's outcome."""
    try:
        yield
    except InputError as error:
        outcome.problems += error.problems


def _hand_on(on_read: OnRead, case: Case, content: str, scan: sitk.Image, label: sitk.Image | None) -> None:
    """Call ``on_read``; raises :class:`InputError` if it runs out of memory."""
    try:
        on_read(case, content, scan, label)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        remedy = "Crop it, or set a smaller region_mm or a larger spacing_mm."
        raise InputError(Problem(case.id, "There is not enough memory to prepare it.", remedy)) from None


def _count_problems(cohort: Cohort, min_labeled: int, min_unlabeled: int) -> Iterator[Problem]:
    for role, wanted, remedy in (
        ("labeled", min_labeled, "Outline the left atrium in more scans."),
        ("unlabeled", min_unlabeled, "Add scans without labels, or use --method supervised."),
    ):
        found = len(getattr(cohort, role))
        if found < wanted:
            yield Problem("cohort", f"Wanted at least {wanted} {role} cases, found {found}.", remedy)


def _duplicate_problems(outcomes: Sequence[_Outcome]) -> Iterator[Problem]:
    first: dict[str, _Member] = {}
    for outcome in outcomes:
        if outcome.content_hash is None:
            continue
        member = outcome.member
        other = first.setdefault(outcome.content_hash, member)
        if other is not member:
            yield Problem(
                member.case.id,
                f"Wanted each scan once, found it in {other.case.id} too ({member.role} and {other.role}).",
                "Leave one of the two out.",
            )


def _shared_label_problems(outcomes: Sequence[_Outcome]) -> Iterator[Problem]:
    """Cases that share a label but not a scan; shared scans are reported as duplicates."""
    earlier: dict[str, list[_Outcome]] = {}
    for outcome in outcomes:
        case = outcome.member.case
        if outcome.content_hash is None or case.label is None or outcome.member.role == "unlabeled":
            continue
        others = earlier.setdefault(real_path(case.label), [])
        for other in others:
            same_segment = (
                None in (case.segment, other.member.case.segment) or case.segment == other.member.case.segment
            )
            if same_segment and other.content_hash != outcome.content_hash:
                yield Problem(
                    case.id,
                    f"Wanted a label of its own, found that of {other.member.case.id} ({case.label.name}).",
                    "Give each scan its own label, or name the segment of each.",
                )
                break
        others.append(outcome)


def _scans_bytes(cohort: Cohort, folder: Path, spacing_mm: Vector, region_mm: Vector | None) -> float:
    # Files left by an interrupted run need not be written again.
    left = sum(file.stat().st_size for file in folder.glob("*.npy"))
    return max(0.0, sum(_bytes_needed(case.image, spacing_mm, region_mm) for case in cohort.cases) - left)


def _room_problems(folder: Path, needed: float, free_bytes: Callable[[Path], int]) -> Iterator[Problem]:
    present = folder
    while not present.exists() and present != present.parent:
        present = present.parent
    free = free_bytes(present)
    if free < needed:
        yield Problem(
            "disk",
            f"Wanted {needed / 1e6:.0f} MB of free space for the preprocessed scans and the checkpoints, found "
            f"{free / 1e6:.0f} MB.",
            "Free some space, or put the run on another disk.",
        )


def _bytes_needed(image: Path, spacing_mm: Vector, region_mm: Vector | None) -> float:
    """Bytes of a preprocessed scan, by the scan's header; 0 for an unreadable file, which is reported elsewhere."""
    if not (image.is_file() and image.name.lower().endswith(SUFFIXES)):
        # ITK would try all its formats, some of which print the file's path to standard error.
        return 0.0
    reader = image_reader(image)
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return 0.0
    extent = np.multiply(reader.GetSize()[:3], reader.GetSpacing()[:3])
    dimension = reader.GetDimension()
    axes = np.array(reader.GetDirection()).reshape(dimension, dimension)[:3, :3]
    # The patient axis nearest to each scan axis: spacing and region are given along patient axes.
    nearest = np.abs(axes).argmax(axis=0)
    if region_mm is not None:
        extent = np.minimum(extent, np.array(region_mm)[nearest])
    return float(np.prod(extent / np.array(spacing_mm)[nearest])) * _BYTES_A_VOXEL


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free
