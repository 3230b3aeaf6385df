"""The user's choices for a training, converted to arguments of the command line."""

from __future__ import annotations

from dataclasses import dataclass, field

from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.run_folder import RunFolder
from LASegColearnLib.settings import Settings, preset
from LASegColearnSlicer.rounds import readRound

# Training an existing model further needs less time than training it from scratch.
_RETRAINING_SHARE = 1 / 3


@dataclass(frozen=True)
class TrainingOptions:
    """How to train. Missing settings are taken from the preset, but not the length.

    Attributes
    ----------
    preset, method, device
        As on the command line.
    minutes, iterations
        Length of the training; iterations is used only if minutes is None.
    settings
        Settings that differ from the preset's, as text by name.
    warmStart
        Start from the weights of the study's current model, if there is one; that model is kept.
    """

    preset: str = "cpu"
    method: str = "colearning"
    device: str = "auto"
    minutes: float | None = 60.0
    iterations: int | None = None
    settings: dict[str, str] = field(default_factory=dict)
    warmStart: bool = False

    def arguments(self) -> list[str]:
        """Arguments of the command line. Raises :class:`InputError` for an invalid setting, or without a length."""
        if self.minutes is None and self.iterations is None:
            raise InputError(Problem("minutes", "Wanted a length of the training, found none.", "Give iterations."))
        changed = [f"{name}={value}" for name, value in self.settings.items()]
        preset(self.preset).with_text(changed)
        length = (
            ["--minutes", f"{self.minutes:g}"] if self.minutes is not None else ["--iterations", f"{self.iterations}"]
        )
        options = ["--preset", self.preset, "--method", self.method, "--device", self.device, *length]
        return [*options, "--set", *changed] if changed else options


def retrainingOptions(
    run: RunFolder | None, minutes: float | None, iterations: int | None, device: str
) -> TrainingOptions:
    """The options to train a run's model further, with that run's own settings.

    Parameters
    ----------
    minutes, iterations
        Length; if both are None, a third of the run's training, or the same if that was a retraining.

    Raises
    ------
    InputError
        If there is no run, or its settings cannot be read.
    """
    if run is None:
        raise InputError(Problem("Retrain", "There is no model to retrain.", "Train one first."))
    try:
        settings = Settings.read(run.settings)
        changed = dict(text.split("=", 1) for text in settings.changes())
    except (OSError, ValueError, TypeError, InputError) as error:
        cause = f"The settings of model {run.path.name} cannot be read; a newer version may have made it."
        raise InputError(Problem("Retrain", cause, "Update the extension, or choose another model.")) from error
    if minutes is None and iterations is None:
        known = readRound(run)
        share = 1.0 if known is not None and known.startedFrom is not None else _RETRAINING_SHARE
        if settings.minutes is None:
            iterations = max(round(share * settings.iterations), 1)
        else:
            minutes = share * settings.minutes
    return TrainingOptions(settings.preset, settings.method, device, minutes, iterations, changed, warmStart=True)
