"""Texts of the panel about a study: why an action is not possible yet, and how good the current model is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress

from slicer.i18n import tr as _

from LASegColearnLib.errors import InputError
from LASegColearnLib.holdout import number_held_out
from LASegColearnLib.methods import fewest_cases, method_names
from LASegColearnLib.run_folder import RunFolder
from LASegColearnLib.settings import Settings
from LASegColearnSlicer.session import Session
from LASegColearnSlicer.study import StudyCase
from LASegColearnSlicer.training_progress import TrainingProgress, knownProgress


def whyNotTrain(session: Session, isInstalled: bool, method: str) -> str:
    """Why no training can be started with this method; empty if it can."""
    if not session.hasStudy:
        return _("Choose a study folder first")
    if not isInstalled:
        return _("Install the missing software first")
    if session.isRunning:
        return _("A task is still running")
    cases = session.study.cases
    labeled, unlabeled = (sum(case.role == role for case in cases) for role in ("labeled", "unlabeled"))
    fewestLabeled, fewestUnlabeled = fewest_cases(method)
    if labeled < fewestLabeled:
        text = _(
            "Wanted at least {wanted} labeled cases besides those for validation, found {n}. "
            "Outline the left atrium in more, or give more the role labeled."
        )
        return text.format(wanted=fewestLabeled, n=labeled)
    if unlabeled < fewestUnlabeled:
        text = _("Wanted at least {wanted} unlabeled cases, found {n}. Add some, or choose the method supervised.")
        return text.format(wanted=fewestUnlabeled, n=unlabeled)
    return ""


def whyNotRetrain(session: Session, isInstalled: bool, chosenMethod: str) -> str:
    """Why the current model cannot be retrained; empty if it can."""
    model = session.study.currentRun if session.hasStudy else None
    if model is None:
        return _("Train a model first")
    method = ""
    with suppress(OSError, InputError):
        method = Settings.read(model.settings).method
    # An unknown method, or settings that cannot be read, are reported when the button is pressed.
    return whyNotTrain(session, isInstalled, method if method in method_names() else chosenMethod)


def timeEstimate(cases: Sequence[StudyCase], model: RunFolder | None, minutes: float | None, iterations: int) -> str:
    """How long a training takes; empty without cases.

    Parameters
    ----------
    model
        The current model's run, whose speed gives the best estimate; None if there is none.
    minutes, iterations
        The chosen length; if minutes is None, iterations counts.
    """
    count = sum(case.role != "left out" for case in cases)
    if not count:
        return ""
    if minutes is not None:
        text = _("{n} cases. Training takes {m} min, plus a few seconds for each scan the first time.")
        return text.format(n=count, m=f"{minutes:g}")
    pace = None if model is None else knownProgress(model).secondsAnIteration
    if pace is None:
        return _("{n} cases. The time is known after the first iterations.").format(n=count)
    text = _("{n} cases. About {m} min, if an iteration takes as long as in the last training.")
    return text.format(n=count, m=f"{pace * iterations / 60:.0f}")


def validationNote(cases: Sequence[StudyCase], holdout: float) -> str:
    """The lasting consequence of training without validation cases; empty if there are some.

    Parameters
    ----------
    holdout
        The setting "holdout".
    """
    roles = [case.role for case in cases]
    if "validation" in roles or "labeled" not in roles:
        return ""
    labeled = roles.count("labeled")
    count = number_held_out(labeled, holdout)
    if count:
        text = _("No case has the role validation: {n} of the {of} labeled cases will be held out for validation.")
        return text.format(n=count, of=labeled)
    return _(
        "No case has the role validation, so the accuracy will stay unknown. Cases that are trained on now cannot be "
        "used for validation later."
    )


def notEvaluatedYet(session: Session) -> str:
    """A note that the newest model was not compared with the previous one yet; empty if it was."""
    # The study may have been closed while its training ended.
    if not session.hasStudy:
        return ""
    run, current = session.unjudgedRun, session.study.currentRun
    if run is None or current is None:
        return ""
    text = _("Model {run} has not been evaluated on the validation cases yet. Press Resume to evaluate it.")
    text = text.format(run=run.path.name)
    stays = _("Until then, model {run} stays current.").format(run=current.path.name)
    return text if current == run else f"{text} {stays}"


def verdictOnNewestModel(session: Session) -> str:
    """Whether the newest model is better than the previous one, and which one is current; empty if unknown."""
    current, rounds = session.study.currentRun, session.rounds
    if current is None or not rounds or not rounds[-1].verdict:
        return ""
    kept = _("Model {run} is current. To use another, select it and press Make current.")
    return f"{rounds[-1].verdict} {kept.format(run=current.path.name)}"


def modelText(progress: TrainingProgress, name: str) -> str:
    """Which training a model is from, and how good it was on cases it was not trained on."""
    text = _("Training {name}, {n} iterations").format(name=name, n=progress.iteration)
    dice = progress.lastDice
    if dice is None:
        return text + _("; accuracy unknown, because there are no validation cases")
    return text + _("; Dice {d}, validation cases: {n}").format(d=f"{dice:.3f}", n=progress.validationCases)


def withNames(text: str, cases: Sequence[StudyCase]) -> str:
    """Add the names in the table to a message of the engine, which knows only ids: "patient 7 (case_007)"."""
    names = {case.id: case.name for case in cases}
    return re.sub(
        r"\bcase_\d+\b", lambda found: f"{names[found[0]]} ({found[0]})" if found[0] in names else found[0], text
    )
