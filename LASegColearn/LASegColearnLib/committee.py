"""Models that were trained independently and predict together: the mean of their probabilities has smaller errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.losses import foreground_probability
from LASegColearnLib.settings import setting_text

if TYPE_CHECKING:
    from LASegColearnLib.checkpoints import Model

COMMITTEE = "committee"
# Settings that affect the networks' input and the use of their output.
_ALIKE = (
    "spacing_mm",
    "region_mm",
    "patch_size",
    "axial_flips",
    "axial_rotations",
    "logit_shift",
)
# A probability of 0 or 1 has no logit.
_LEAST = 1e-6


class Committee(nn.Module):
    """A network whose foreground probability is the mean of its members' probabilities."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, 2, X, Y, Z) of patches (N, 1, X, Y, Z): 0, and the logit of the members' mean probability."""
        each = torch.stack([foreground_probability(member(x)) for member in self.members])
        logit = torch.logit(each.mean(dim=0), eps=_LEAST)[:, None]
        return torch.cat([torch.zeros_like(logit), logit], dim=1)

    def bottom_features(self, x: torch.Tensor) -> torch.Tensor:
        """The members' :meth:`~LASegColearnLib.networks.VNet.bottom_features`, concatenated along the channels."""
        members: Any = self.members
        return torch.cat([member.bottom_features(x) for member in members], dim=1)


def combined_model(models: Sequence[Model]) -> Model:
    """Combine models into one: its network ``committee`` predicts; ``model_1``, ``model_2``, ... are the single models.

    Parameters
    ----------
    models
        At least one, as read by :func:`~LASegColearnLib.checkpoints.load_model`; a single model is returned unchanged.
        Overlap, mirroring, zoom and precision are those of the first.

    Raises
    ------
    InputError
        If the models need different input, for example another voxel size.
    """
    first = models[0]
    if len(models) == 1:
        return first
    problems = []
    for number, model in enumerate(models[1:], start=2):
        for name in _ALIKE:
            own, wanted = getattr(model.settings, name), getattr(first.settings, name)
            if own != wanted:
                cause = f"Wanted {name} {setting_text(wanted)}, as the first model has it, found {setting_text(own)}."
                problems.append(Problem(f"model {number}", cause, "Combine only models of the same kind."))
    if problems:
        raise InputError(problems)
    members = {f"model_{n}": model.networks[model.predictor] for n, model in enumerate(models, start=1)}
    networks = {COMMITTEE: Committee(list(members.values())).eval(), **members}
    iteration = min(model.iteration for model in models)
    return replace(first, networks=networks, predictor=COMMITTEE, iteration=iteration)
