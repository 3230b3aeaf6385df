"""From a cohort's files to the preprocessed cases that a training draws its patches from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from LASegColearnLib.case_cache import CachedCase, CaseCache
from LASegColearnLib.cohort import ROLES, Case, Cohort
from LASegColearnLib.cohort_checks import CheckedCohort, check_cohort
from LASegColearnLib.errors import InputError
from LASegColearnLib.events import EventLog
from LASegColearnLib.methods import create_method, fewest_cases
from LASegColearnLib.roles import RoleLedger
from LASegColearnLib.run_folder import RunFolder
from LASegColearnLib.settings import Settings
from LASegColearnLib.stopping import Stopped
from LASegColearnLib.trainer import TrainingCases


def prepare_cases(
    members: Cohort,
    settings: Settings,
    cache: CaseCache,
    events: EventLog,
    should_stop: Callable[[], bool],
) -> tuple[CheckedCohort, dict[str, CachedCase]]:
    """Check every case and preprocess it in the same pass; the preprocessed cases by id.

    Raises
    ------
    InputError
        As :func:`check_cohort` does.
    Stopped
        If the run is asked to end meanwhile.
    """
    cached: dict[str, CachedCase] = {}
    fewest_labeled, fewest_unlabeled = fewest_cases(settings.method)
    total = len(members.cases)
    done = 0
    # Of a run that is resumed with its cache lost.
    run = RunFolder(cache.folder.parent)
    runs = [run, *(run.trained_beside(number) for number in range(2, settings.committee + 1))]
    present = sum(file.stat().st_size for one in runs for file in one.checkpoints.glob("*.pt"))

    def keep(case: Case, content_hash: str, scan: Any, label: Any) -> None:
        cached[case.id] = cache.store(case.id, content_hash, scan, label)

    def tell(case: Case) -> None:
        nonlocal done
        done += 1
        events.emit("preparing", done=done, of=total)
        if should_stop():
            raise Stopped

    checked = check_cohort(
        members,
        min_labeled=fewest_labeled,
        min_unlabeled=fewest_unlabeled,
        cache_folder=cache.folder,
        spacing_mm=settings.spacing_mm,
        region_mm=settings.region_mm,
        checkpoint_bytes=max(0, checkpoint_bytes(settings) - present),
        on_read=keep,
        progress=tell,
    )
    return checked, cached


def checkpoint_bytes(settings: Settings) -> int:
    """Of the last checkpoint and the best, and of the next one, which is whole before it takes the last one's place.

    Of each model of a committee.
    """
    method = create_method(settings)
    tensors = [tensor for module in method.modules.values() for tensor in module.state_dict().values()]
    remembered = (2 if settings.optimizer == "adamw" else 1) * sum(one.nbytes for one in method.parameters())
    return 3 * settings.committee * (sum(tensor.nbytes for tensor in tensors) + remembered)


def training_cases(
    members: Cohort, hashes: dict[str, str], cached: dict[str, CachedCase], earlier: RoleLedger, needs_unlabeled: bool
) -> TrainingCases:
    """The cases by role, with all that this model and its forebears have been trained and validated on.

    Raises
    ------
    InputError
        If a scan that was once for validation is to be trained on, or the other way round.
    """
    # A method that learns from labels alone never sees the others.
    learned_from = (*members.labeled, *(members.unlabeled if needs_unlabeled else ()))
    trained = {case.id: hashes[case.id] for case in learned_from}
    validated = {case.id: hashes[case.id] for case in members.validation}
    problems = earlier.conflicts(trained=trained, validated=validated)
    if problems:
        raise InputError(problems)
    lineage = {
        "trained": sorted({*trained.values(), *earlier.trained}),
        "validated": sorted({*validated.values(), *earlier.validated}),
    }
    return TrainingCases(**cases_by_role(members, cached), lineage=lineage)


def cases_by_role(members: Cohort, cached: dict[str, CachedCase]) -> dict[str, list[CachedCase]]:
    """The preprocessed cases of each role, in the cohort's order."""
    return {role: [cached[case.id] for case in getattr(members, role)] for role in ROLES}
