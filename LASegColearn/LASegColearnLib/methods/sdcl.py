"""SDCL: two different students learn where they disagree, on patches pasted into each other."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from LASegColearnLib.copy_paste import (
    Mixture,
    connected_pseudo_labels,
    labeled_loss,
    labeled_mixture,
    mixture_loss,
    mixtures,
)
from LASegColearnLib.losses import foreground_probability, pseudo_label
from LASegColearnLib.methods.base import Batch, Loss, TwoStageMethod, teacher_of
from LASegColearnLib.networks import VNet, average_into
from LASegColearnLib.settings import Settings

# All from the published code, LA_train.py and pancreas/losses.py.
_KEEP = 0.99
_CORRECTION_WEIGHT = 0.5
_ENTROPY_WEIGHT = 0.05


class StudentPair(nn.Module):
    """Two V-Nets, the second with residual blocks, that predict by the mean of their softmaxes."""

    def __init__(self, filters: int = 16, normalization: str = "batch", dropout: float = 0.5) -> None:
        super().__init__()
        self.student_1 = VNet(filters, normalization, dropout)
        self.student_2 = VNet(filters, normalization, dropout, residual=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, 2, X, Y, Z) of patches (N, 1, X, Y, Z); their softmax is the mean of both students' softmaxes."""
        logs = [torch.log_softmax(student(x).float(), dim=1) for student in (self.student_1, self.student_2)]
        return torch.logaddexp(*logs)

    def bottom_features(self, x: torch.Tensor) -> torch.Tensor:
        """The first student's :meth:`VNet.bottom_features`."""
        return self.student_1.bottom_features(x)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile each student, since they are run separately in training."""
        self.student_1.compile(*args, **kwargs)
        self.student_2.compile(*args, **kwargs)


class StudentDiscrepancy(TwoStageMethod):
    """Two students on BCP's mixtures, corrected and made less sure where they differ (Song, Wang, MICCAI 2024).

    As in the published code: losses, weights, the teacher, an average of the first student alone, and BCP's mixtures,
    see ``copy_paste``; there is no ramp-up. The mean of the students' softmaxes predicts. For the share given by the
    setting ``pretraining``, training begins with labeled patches pasted into each other (in the paper 3200 of 14200
    iterations, and the best on the test scans), on which both students learn independently.

    Differences: the second student is the V-Net with residual blocks and its own initial weights, instead of a
    ResNet-34 with the V-Net's decoder, so that all methods have the same backbone and cost. After the pretraining the
    optimizer's state is cleared, as for all methods here, while the published code keeps it. Both directions of pasting
    pass through a student together, and the teacher sees the same patches as for BCP.

    Different from the paper, for all methods here: optimizer (Adam in the paper), learning rate, patches,
    augmentation, batch, normalization and dropout come from the settings.
    """

    title = "SDCL: two unlike students, on patches pasted into each other, are corrected where they differ"
    citation = (
        "B. Song, Q. Wang. SDCL: Students discrepancy-informed correction learning for semi-supervised medical image "
        "segmentation. MICCAI 2024."
    )
    needs_unlabeled = True
    published_pretraining = 0.22

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.pair = StudentPair(settings.filters, settings.normalization, settings.dropout)
        self.teacher = teacher_of(self.pair.student_1, settings)
        self.networks = {"students": self.pair, "teacher": self.teacher}
        self.predictor = "students"

    def parameters(self) -> list[nn.Parameter]:
        return list(self.pair.parameters())

    def phase(self, progress: float) -> str:
        return "discrepancy" if self.pretrained else "pretraining"

    def networks_in_training(self) -> dict[str, nn.Module]:
        """The teacher has not started while the students are pretrained."""
        return self.networks if self.pretrained else {"students": self.pair}

    def start_from(self, tensors: dict[str, torch.Tensor]) -> None:
        """Start students and teacher from the weights of one V-Net."""
        for network in (self.pair.student_1, self.pair.student_2, self.teacher):
            network.load_state_dict(tensors)

    def loss(self, batch: Batch, progress: float) -> Loss:
        self.pair.train()
        students = (self.pair.student_1, self.pair.student_2)
        parts: dict[str, torch.Tensor] = {}
        if not self.pretrained:
            mixture = labeled_mixture(batch)
            for number, student in enumerate(students, start=1):
                parts[f"labeled_{number}"] = labeled_loss(student(mixture.images), mixture)
            return Loss(parts["labeled_1"] + parts["labeled_2"], parts)
        # In training mode as in the published code, whose instance normalization keeps no statistics. With batch
        # normalization, the teacher re-estimates its own statistics, as BCP's does.
        self.teacher.train()
        with torch.no_grad():
            pseudo_labels = connected_pseudo_labels(self.teacher(self.teacher_sees(batch)))
        both = mixtures(batch, pseudo_labels)
        images = torch.cat([mixture.images for mixture in both])
        outputs = [student(images).chunk(2) for student in students]
        # Where the students differ, for each direction of pasting.
        apart = [(pseudo_label(first) != pseudo_label(second)).float() for first, second in zip(*outputs, strict=True)]
        total = torch.zeros((), device=images.device)
        for number, output in enumerate(outputs, start=1):
            views = list(zip(output, both, apart, strict=True))
            mixed = _sum([mixture_loss(logits, mixture) for logits, mixture, _ in views])
            correction = _sum([correction_loss(*view) for view in views])
            entropy = _sum([entropy_loss(*view) for view in views])
            parts |= {f"mixed_{number}": mixed, f"correction_{number}": correction, f"entropy_{number}": entropy}
            total = total + mixed + _CORRECTION_WEIGHT * correction + _ENTROPY_WEIGHT * entropy
        parts["disagreement"] = torch.cat(apart).mean()
        parts["pseudo_label_volume"] = pseudo_labels.mean()
        return Loss(total, parts)

    def after_step(self, progress: float) -> None:
        """Move the teacher towards the first student; at the end of the pretraining make it a copy of that student."""
        if self.pretrained:
            average_into(self.teacher, {self.pair.student_1: 1.0 - _KEEP}, _KEEP, statistics=False)
        elif progress >= self.settings.pretraining:
            self.pretrained = True
            self.teacher.load_state_dict(self.pair.student_1.state_dict())

    def warm_start(self, networks: dict[str, dict[str, torch.Tensor]], predictor: str, state: dict[str, Any]) -> None:
        """As :meth:`Method.warm_start`, without pretraining; the teacher is reset if that was not finished."""
        super().warm_start(networks, predictor, state)
        if not state.get("pretrained", True):
            self.teacher.load_state_dict(self.pair.student_1.state_dict())
        self.pretrained = True


def correction_loss(logits: torch.Tensor, mixture: Mixture, apart: torch.Tensor) -> torch.Tensor:
    """Weighted squared error of the softmax where the students differ, over the number of such voxels.

    Parameters
    ----------
    logits
        (N, 2, X, Y, Z).
    apart
        (N, X, Y, Z), 1 where the students differ.
    """
    # Both classes have the same error, so the mean over them is the foreground's.
    errors = (foreground_probability(logits) - mixture.targets) ** 2 * mixture.weights
    return (errors * apart).sum() / apart.sum().clamp(min=1.0)


def entropy_loss(logits: torch.Tensor, mixture: Mixture, apart: torch.Tensor) -> torch.Tensor:
    """Weighted cross-entropy to the uniform distribution where the students differ and this one is wrong."""
    wrong = apart * (pseudo_label(logits) != mixture.targets)
    difference = logits[:, 1].float() - logits[:, 0].float()
    to_uniform = -0.5 * (F.logsigmoid(difference) + F.logsigmoid(-difference)) * mixture.weights
    return (to_uniform * wrong).sum() / wrong.sum().clamp(min=1.0)


def _sum(values: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(values).sum()
