"""From a cohort's files to the preprocessed cases that a training draws its patches from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from LASegColearnLib.cache_index import load_cache_index, save_cache_index
from LASegColearnLib.case_cache import CachedCase, CaseCache
from LASegColearnLib.cohort import ROLES, Case, Cohort, save_cohort
from LASegColearnLib.cohort_checks import CheckedCohort, check_cohort
from LASegColearnLib.committee_training import prepare_committee
from LASegColearnLib.device import Device
from LASegColearnLib.errors import InputError
from LASegColearnLib.events import EventLog
from LASegColearnLib.holdout import earlier_roles, record_roles, with_holdout, without_held_out
from LASegColearnLib.methods import create_method, fewest_cases, method_class
from LASegColearnLib.predecessors import LearnedCases, write_predecessors
from LASegColearnLib.roles import RoleLedger
from LASegColearnLib.run_folder import RunFolder, write_json_atomically
from LASegColearnLib.run_settings import untrained_start
from LASegColearnLib.settings import Settings
from LASegColearnLib.stopping import Stopped
from LASegColearnLib.trainer import TrainingCases


class NewRunPreparation:
    """Prepares a new run for training: its cases, its files and the further models of its committee.

    Parameters
    ----------
    folder, settings, device
        The run's.
    cohort
        The cases of the cohort file, possibly with fewer labels.
    ledger_file
        File with the roles that the study's scans had in earlier rounds; it need not exist.
    initial
        Checkpoint that the training starts from, if any.
    predecessors
        What the model of that checkpoint and its predecessors have learned from.
    fewer_labels
        Whether some labeled cases are used as unlabeled ones.
    messages
        Messages about the settings, emitted as warnings.
    """

    def __init__(
        self,
        folder: RunFolder,
        settings: Settings,
        device: Device,
        cohort: Cohort,
        *,
        ledger_file: Path,
        initial: dict[str, Any] | None,
        predecessors: LearnedCases,
        fewer_labels: bool,
        messages: Sequence[str],
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._device = device
        self._cohort = cohort
        self._ledger_file = ledger_file
        self._initial = initial
        self._predecessors = predecessors
        self._fewer_labels = fewer_labels
        self._messages = list(messages)
        self._record_roles: Callable[[], None] | None = None

    def prepare(self, events: EventLog, should_stop: Callable[[], bool]) -> TrainingCases:
        """Check and preprocess the cases, and write the run's files.

        Raises
        ------
        InputError
            With all problems of the cases, or if a validation scan of an earlier round would be trained on.
        Stopped
            As :func:`prepare_cases` does.
        """
        folder, settings, initial = self._folder, self._settings, self._initial
        checked, cached = prepare_cases(
            self._cohort, settings, CaseCache(folder.cache, settings, folder.other_caches()), events, should_stop
        )
        # Read only now, since another training of the study may have recorded roles in the meantime.
        ledger = RoleLedger.load(self._ledger_file)
        earlier = earlier_roles(ledger, initial)
        fewest_labeled, fewest_unlabeled = fewest_cases(settings.method)
        chosen = self._cohort
        left_out: list[str] = []
        if self._fewer_labels:
            chosen, left_out = without_held_out(chosen, checked, earlier, fewest_unlabeled)
        kept, held_out = with_holdout(chosen, checked.content_hashes, settings, earlier, fewest_labeled)
        needs_unlabeled = method_class(settings.method).needs_unlabeled
        cases = training_cases(kept, checked.content_hashes, cached, earlier, needs_unlabeled)
        write_json_atomically(folder.settings, settings.to_dict())
        save_cohort(kept, folder.cohort)
        write_predecessors(folder, self._predecessors)
        save_cache_index(folder, cases)
        prepare_committee(folder, settings, kept, cases, self._device, initial)
        about_start = untrained_start(settings, initial)
        for message in [*self._messages, *left_out, *about_start, *checked.warnings, *held_out]:
            events.emit("warning", message=message)
        if not chosen.validation:
            # These validation cases were drawn here: a simultaneous training of the cohort must not learn from them.
            record_roles(ledger, {"trained": [], "validated": cases.lineage["validated"]}, events)
        self._record_roles = lambda: record_roles(ledger, cases.lineage, events)
        return cases

    def record_roles_when_saved(self, event: dict[str, Any]) -> None:
        """Listener: record which scans the run has learned from, at its first checkpoint.

        A training that is stopped before its first checkpoint has learned nothing.
        """
        if event["event"] == "checkpoint" and self._record_roles is not None:
            record, self._record_roles = self._record_roles, None
            record()


def cases_of_resumed(
    folder: RunFolder,
    settings: Settings,
    cohort: Cohort,
    lineage: dict[str, list[str]],
    events: EventLog,
    should_stop: Callable[[], bool],
) -> TrainingCases:
    """The preprocessed cases of a resumed run, from its cache; all are preprocessed again if a file is missing.

    Raises
    ------
    InputError
        If scans must be preprocessed again and cannot be.
    Stopped
        As :func:`prepare_cases` does.
    """
    cases = load_cache_index(folder, lineage)
    if cases is None:
        _, cached = prepare_cases(
            cohort, settings, CaseCache(folder.cache, settings, folder.other_caches()), events, should_stop
        )
        cases = TrainingCases(**cases_by_role(cohort, cached), lineage=lineage)
        save_cache_index(folder, cases)
    return cases


def prepare_cases(
    cohort: Cohort,
    settings: Settings,
    cache: CaseCache,
    events: EventLog,
    should_stop: Callable[[], bool],
) -> tuple[CheckedCohort, dict[str, CachedCase]]:
    """Check and preprocess every case in one pass; returns the preprocessed cases by id.

    Raises
    ------
    InputError
        As :func:`check_cohort` does.
    Stopped
        If the run is asked to stop in the meantime.
    """
    cached: dict[str, CachedCase] = {}
    fewest_labeled, fewest_unlabeled = fewest_cases(settings.method)
    total = len(cohort.cases)
    done = 0
    # Checkpoints exist already if a run is resumed whose cache was lost.
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
        cohort,
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
    """Disk space in bytes for the last and the best checkpoint, and for the next one while it replaces the last.

    Summed over all models of a committee.
    """
    method = create_method(settings)
    tensors = [tensor for module in method.modules.values() for tensor in module.state_dict().values()]
    remembered = (2 if settings.optimizer == "adamw" else 1) * sum(one.nbytes for one in method.parameters())
    return 3 * settings.committee * (sum(tensor.nbytes for tensor in tensors) + remembered)


def training_cases(
    cohort: Cohort, hashes: dict[str, str], cached: dict[str, CachedCase], earlier: RoleLedger, needs_unlabeled: bool
) -> TrainingCases:
    """The cases by role, with the hashes of all scans that this model and its predecessors used.

    Raises
    ------
    InputError
        If a scan that was once used for validation would be trained on, or the other way round.
    """
    # A method that learns from labels alone never sees the unlabeled cases.
    learned_from = (*cohort.labeled, *(cohort.unlabeled if needs_unlabeled else ()))
    trained = {case.id: hashes[case.id] for case in learned_from}
    validated = {case.id: hashes[case.id] for case in cohort.validation}
    problems = earlier.conflicts(trained=trained, validated=validated)
    if problems:
        raise InputError(problems)
    lineage = {
        "trained": sorted({*trained.values(), *earlier.trained}),
        "validated": sorted({*validated.values(), *earlier.validated}),
    }
    return TrainingCases(**cases_by_role(cohort, cached), lineage=lineage)


def cases_by_role(cohort: Cohort, cached: dict[str, CachedCase]) -> dict[str, list[CachedCase]]:
    """The preprocessed cases of each role, in the cohort's order."""
    return {role: [cached[case.id] for case in getattr(cohort, role)] for role in ROLES}
