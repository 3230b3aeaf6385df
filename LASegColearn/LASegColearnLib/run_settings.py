"""Adapts a training's settings to its processes, to the model it starts from or to the run it resumes, or refuses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from LASegColearnLib.checkpoints import other_layout
from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.methods import create_method, method_class
from LASegColearnLib.settings import Settings, setting_text

_ANOTHER_RUN = "Leave it out, or start a new run; with the same networks and voxel size --init starts it from this one."
# Networks and optimizer state fit the run for any values of these.
_CHANGEABLE_ON_RESUMPTION = ("learning_rate", "batch_parts", "precision", "gradient_clip", "compile")


def split_batch_for_processes(settings: Settings, processes: int) -> tuple[Settings, list[str]]:
    """Settings with at least one part of the batch for each process, and messages about a change.

    Raises
    ------
    InputError
        If the patches of a batch cannot be divided evenly, or the method supports only a single process.
    """
    if processes > 1 and not method_class(settings.method).several_processes:
        raise InputError(
            Problem(
                "torchrun",
                f"Wanted a method that several processes can train together, found {settings.method}.",
                "Start it without torchrun.",
            )
        )
    if settings.batch_parts % processes == 0:
        return settings, []
    shared = replace(settings, batch_parts=math.lcm(settings.batch_parts, processes))
    if shared.problems():
        raise InputError(
            Problem(
                "torchrun",
                f"Wanted a batch that {processes} processes can share evenly, found {settings.labeled_batch} labeled "
                f"and {settings.unlabeled_batch} unlabeled patches.",
                f"Start fewer processes, or train with --set labeled_batch={processes} "
                f"--set unlabeled_batch={processes}.",
            )
        )
    return shared, [f"The batch is computed in {shared.batch_parts} parts, shared by {processes} processes."]


def warm_start_settings(settings: Settings, earlier: Mapping[str, Any]) -> Settings:
    """Settings for a training that starts from an earlier model: without pretraining.

    Raises
    ------
    InputError
        If the earlier model was trained at another voxel size, on another region of the scans, or with students that
        compute differently, where its weights would be of little use.
    """
    alike = ["spacing_mm", "region_mm"]
    if settings.method == earlier.get("method") == "colearning":
        alike.append("student_difference")
    problems = [
        Problem(
            "--init",
            f"Wanted a model trained with {name}={setting_text(wanted)}, as these settings ask for, found one trained "
            f"with {setting_text(found)}.",
            f"Train with that model's settings (--preset, or --set {name}=...), or start without it.",
        )
        for name in alike
        if (wanted := settings.to_dict()[name]) != (found := earlier.get(name))
    ]
    if problems:
        raise InputError(problems)
    return replace(settings, pretraining=0.0, self_training=0.0)


def refuse_other_networks(settings: Settings, initial: dict[str, Any]) -> None:
    """Raise :class:`InputError` if the settings' method cannot start from this checkpoint."""
    method = create_method(settings)
    try:
        method.warm_start(initial["networks"], initial["predictor"], initial["method_state"])
    except (KeyError, RuntimeError):
        earlier = initial["settings"].get("method", settings.method)
        if earlier == settings.method:
            raise other_layout("--init") from None
        cause = f"The networks of {settings.method} cannot start from those of {earlier}, which have other parts."
        raise InputError(Problem("--init", cause, f"Train with --method {earlier}, or start without --init.")) from None


def resumed_settings(settings: Settings, changes: Sequence[str]) -> Settings:
    """The settings of a resumed run, with changes. Raises :class:`InputError` naming those that are not allowed."""
    changed = settings.with_text(changes)
    own, wanted = settings.to_dict(), changed.to_dict()
    # A resumed run may have fewer models, but not more.
    allowed = {*_CHANGEABLE_ON_RESUMPTION, *(["committee"] if wanted["committee"] < own["committee"] else [])}
    problems = [
        Problem(
            name,
            f"The run has {setting_text(own[name])}, which cannot be changed to {setting_text(wanted[name])}.",
            f"Use --{name}." if name in ("minutes", "iterations") else _ANOTHER_RUN,
        )
        for name in own
        if own[name] != wanted[name] and name not in allowed
    ]
    if problems:
        raise InputError(problems)
    return changed


def check_length(content: dict[str, Any], minutes: float | None, iterations: int | None) -> None:
    """Raise :class:`InputError` if a run is already longer than its new length: its rate schedule would not end."""
    if iterations is not None and iterations < content["iteration"]:
        name, found = "--iterations", f"{content['iteration']} iterations"
    elif minutes is not None and 60 * minutes < content["elapsed_seconds"]:
        name, found = "--minutes", f"{content['elapsed_seconds'] / 60:.1f} minutes"
    else:
        return
    raise InputError(Problem(name, f"The run is already longer than that: {found}.", "Give more, or leave it out."))


def untrained_start(settings: Settings, initial: dict[str, Any] | None) -> list[str]:
    """A message if a method is trained without the pretraining that its publication has."""
    share = method_class(settings.method).published_pretraining
    if share == 0 or settings.pretraining > 0 or initial is not None:
        return []
    return [
        f"As published, {settings.method} spends {100 * share:.0f} % of its training on labeled patches alone, and its "
        f"teacher starts from that. This training leaves it out: set pretraining={share:g} to include it."
    ]
