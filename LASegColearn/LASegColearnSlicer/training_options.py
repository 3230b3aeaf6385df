"""The user's choices for a training, converted to arguments of the command line."""

from __future__ import annotations

from dataclasses import dataclass, field

from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.settings import preset


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
