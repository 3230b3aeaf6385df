"""Chooses the cases that are held out for validation, in this training and from earlier rounds."""

from __future__ import annotations

import logging
import random
from dataclasses import replace
from typing import Any

from LASegColearnLib.cohort import Cohort
from LASegColearnLib.cohort_checks import CheckedCohort
from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.events import EventLog
from LASegColearnLib.roles import RoleLedger
from LASegColearnLib.settings import Settings

# With fewer labeled cases than this, each is worth more for training than for validation.
_FEWEST_FOR_HOLDOUT = 5


def number_held_out(labeled: int, share: float) -> int:
    """How many of so many labeled cases a training holds out for validation if the cohort has no validation cases."""
    return round(share * labeled) if labeled >= _FEWEST_FOR_HOLDOUT else 0


def earlier_roles(ledger: RoleLedger, initial: dict[str, Any] | None) -> RoleLedger:
    """Scans that were trained or validated on before, in this study or by the model to start from."""
    if initial is None:
        return RoleLedger(ledger.trained, ledger.validated)
    lineage = initial["lineage"]
    return RoleLedger(ledger.trained | set(lineage["trained"]), ledger.validated | set(lineage["validated"]))


def without_held_out(
    members: Cohort, checked: CheckedCohort, earlier: RoleLedger, min_unlabeled: int
) -> tuple[Cohort, list[str]]:
    """The cohort without unlabeled cases that earlier rounds validated on, and a message that names them.

    If a training uses fewer labels than there are, such a case would otherwise count as unlabeled.

    Raises
    ------
    InputError
        If fewer unlabeled cases than ``min_unlabeled`` are left.
    """
    held = [case.id for case in members.unlabeled if checked.content_hashes[case.id] in earlier.validated]
    if not held:
        return members, []
    rest = tuple(case for case in members.unlabeled if case.id not in held)
    if len(rest) < min_unlabeled:
        raise InputError(
            Problem(
                "cohort",
                f"Wanted at least {min_unlabeled} unlabeled cases to train on, found {len(rest)}: "
                f"{', '.join(sorted(held))} were held out for validation in earlier rounds.",
                "Add scans without labels, or use --method supervised.",
            )
        )
    message = f"Left out, since earlier rounds have held them out for validation: {', '.join(sorted(held))}."
    return replace(members, unlabeled=rest), [message]


def with_holdout(
    members: Cohort, hashes: dict[str, str], settings: Settings, earlier: RoleLedger, min_labeled: int
) -> tuple[Cohort, list[str]]:
    """Hold out some labeled cases for validation if the cohort has none; returns the cohort and a message.

    Cases that an earlier round held out are held out again; cases that it trained on are not.

    Raises
    ------
    InputError
        If fewer labeled cases than ``min_labeled`` are left to train on.
    """
    if members.validation:
        return members, []
    held = {case.id for case in members.labeled if hashes[case.id] in earlier.validated}
    count = number_held_out(len(members.labeled), settings.holdout)
    if not held and count:
        fresh = [case.id for case in members.labeled if hashes[case.id] not in earlier.trained]
        most = min(count, len(fresh), len(members.labeled) - min_labeled)
        held = set(random.Random(settings.seed).sample(fresh, most))
    if not held:
        return members, ["No case is used for validation, so there is no Dice to follow and no best checkpoint."]
    kept = tuple(case for case in members.labeled if case.id not in held)
    if len(kept) < min_labeled:
        raise InputError(
            Problem(
                "cohort",
                f"Wanted at least {min_labeled} labeled cases to train on, found {len(kept)}: the others were held out "
                "for validation in earlier rounds.",
                "Add labeled cases.",
            )
        )
    return (
        Cohort(kept, members.unlabeled, tuple(case for case in members.labeled if case.id in held)),
        [f"Held out of the labeled cases for validation, and not trained on: {', '.join(sorted(held))}."],
    )


def record_roles(ledger: RoleLedger, lineage: dict[str, list[str]], events: EventLog) -> None:
    """Record beside the cohort the scans that this model and its predecessors used; warns if that fails."""
    try:
        ledger.record(trained=lineage["trained"], validated=lineage["validated"])
    except OSError:
        logging.getLogger(__name__).debug("The ledger could not be written.", exc_info=True)
        events.emit(
            "warning",
            message="The cohort's folder cannot be written to, so the cases' roles are kept in the checkpoint alone.",
        )
