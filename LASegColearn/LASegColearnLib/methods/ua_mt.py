"""UA-MT: a mean teacher whose uncertain voxels are ignored."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from LASegColearnLib.losses import cross_entropy, dice_loss, foreground_probability
from LASegColearnLib.methods.base import Batch, Loss, Method, gaussian_ramp, teacher_of
from LASegColearnLib.networks import VNet, average_into
from LASegColearnLib.settings import Settings

# All from the published code, train_LA_meanteacher_certainty_unlabel.py.
_WEIGHT = 0.1
_KEEP = 0.99
_NOISE, _MOST_NOISE = 0.1, 0.2
# Passes for the uncertainty: each of the unlabeled patches twice, four times over.
_PASSES, _COPIES = 4, 2
_LEAST_THRESHOLD = 0.75
# After this many steps the teacher's average has its final memory: 1 - 1 / 100 is _KEEP.
_SETTLED = 100


class UncertaintyAwareMeanTeacher(Method):
    """Student and averaged teacher agree on unlabeled patches where the teacher is certain (Yu et al., MICCAI 2019).

    Losses, weights, noise, the number of passes and the teacher's average are those of the published code. The student
    sees the patches without noise, and predicts; the teacher sees them with noise, uses dropout, and re-estimates its
    own batch-norm statistics. With ``plain_for_teacher`` the student's patches have other intensities than the
    teacher's. The uncertainty comes from dropout at the settings' rate. Both ramp-ups last 6000 of 6000 iterations in
    the paper, so the whole run here.

    Different from the paper, for all methods here: optimizer, learning rate, patches, augmentation, batch,
    normalization and dropout come from the settings. The teacher starts as a copy of the student; its first average
    would make it one anyway.
    """

    title = "UA-MT: the student agrees with its averaged teacher on unlabeled scans, where the teacher is sure"
    citation = (
        "L. Yu, S. Wang, X. Li, C.-W. Fu, P.-A. Heng. Uncertainty-aware self-ensembling model for semi-supervised 3D "
        "left atrium segmentation. MICCAI 2019."
    )
    needs_unlabeled = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.student = VNet(settings.filters, settings.normalization, settings.dropout)
        self.teacher = teacher_of(self.student, settings)
        self.networks = {"student": self.student, "teacher": self.teacher}
        self.predictor = "student"
        self.steps = 0

    def parameters(self) -> list[nn.Parameter]:
        return list(self.student.parameters())

    def phase(self, progress: float) -> str:
        return "mean teacher"

    def loss(self, batch: Batch, progress: float) -> Loss:
        seen = self.teacher_sees(batch)
        target, uncertainty = self.teachers_opinion(seen)
        self.student.train()
        logits = self.student(torch.cat([batch.labeled, batch.unlabeled]))
        labeled, unlabeled = logits.split([len(batch.labeled), len(batch.unlabeled)])
        supervised = 0.5 * (
            cross_entropy(labeled, batch.labels) + dice_loss(foreground_probability(labeled), batch.labels)
        )
        sure = (uncertainty < threshold(self.furthest(progress))).float()
        consistency = masked_consistency(foreground_probability(unlabeled), target, sure)
        total = supervised + _WEIGHT * gaussian_ramp(self.furthest(progress)) * consistency
        return Loss(total, {"labeled": supervised, "consistency": consistency, "sure": sure.mean()})

    @torch.no_grad()
    def teachers_opinion(self, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Foreground probability of one noisy pass, and uncertainty from eight more; both (N_u, X, Y, Z).

        The uncertainty is the entropy of the mean of the eight passes, 0 to ln 2.
        """
        self.teacher.train()
        target = foreground_probability(self.teacher(_noisy(seen)))
        mean = torch.zeros_like(target)
        for _ in range(_PASSES):
            probability = foreground_probability(self.teacher(_noisy(torch.cat([seen] * _COPIES))))
            mean += probability.unflatten(0, (_COPIES, len(seen))).sum(0)
        mean /= _PASSES * _COPIES
        both = torch.stack([mean, 1.0 - mean])
        return target, -(both * torch.log(both + 1e-6)).sum(0)

    def after_step(self, progress: float) -> None:
        """Move the teacher's weights; it keeps its own batch-norm statistics."""
        self.steps += 1
        keep = min(1.0 - 1.0 / self.steps, _KEEP)
        average_into(self.teacher, {self.student: 1.0 - keep}, keep, statistics=False)

    def state(self) -> dict[str, Any]:
        return {"steps": self.steps, **super().state()}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.steps = int(state["steps"])

    def warm_start(self, networks: dict[str, dict[str, torch.Tensor]], predictor: str, state: dict[str, Any]) -> None:
        """As :meth:`Method.warm_start`; the trained teacher is kept, so its average continues without a new warm-up."""
        super().warm_start(networks, predictor, state)
        self.steps = _SETTLED


def threshold(progress: float) -> float:
    """The entropy below which a voxel counts: from 0.752 ln 2 at the start of the run to ln 2 at its end."""
    return (_LEAST_THRESHOLD + (1.0 - _LEAST_THRESHOLD) * gaussian_ramp(progress)) * math.log(2.0)


def masked_consistency(probability: torch.Tensor, target: torch.Tensor, sure: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of the softmaxes over the certain voxels and both classes.

    Both classes differ by the same amount, so the sum over them is twice the foreground's.
    """
    return (2.0 * sure * (probability - target) ** 2).sum() / (2.0 * sure.sum() + 1e-16)


def _noisy(patches: torch.Tensor) -> torch.Tensor:
    return patches + (torch.randn_like(patches) * _NOISE).clamp(-_MOST_NOISE, _MOST_NOISE)
