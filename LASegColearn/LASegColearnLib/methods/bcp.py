"""BCP: bidirectional copy-paste between labeled and unlabeled patches, with student and teacher."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from LASegColearnLib.copy_paste import (
    connected_pseudo_labels,
    labeled_loss,
    labeled_mixture,
    mixture_loss,
    mixtures,
)
from LASegColearnLib.methods.base import Batch, Loss, TwoStageMethod, teacher_of
from LASegColearnLib.networks import VNet, average_into
from LASegColearnLib.settings import Settings

# From the published code, LA_BCP_train.py.
_KEEP = 0.99
_WAYS = ("unlabeled_in_labeled", "labeled_in_unlabeled")


class BidirectionalCopyPaste(TwoStageMethod):
    """A student learns from patches pasted into each other, with its teacher's labels (Bai et al., CVPR 2023).

    As in the published code: losses, weights, box, the teacher's average and its pseudo-labels, reduced to their
    largest component; there is no ramp-up. The student predicts. For the share given by the setting ``pretraining``,
    training begins with labeled patches pasted into each other; student and teacher then start from the result (in the
    paper 2000 of 17000 iterations, and the best on the test scans). Without pretraining the teacher starts untrained.

    Different from the paper, for all methods here: optimizer, learning rate, patches, augmentation, batch,
    normalization and dropout come from the settings. After the pretraining the rate keeps falling, while in the paper
    it is reset. Both directions of pasting pass through the student together, so that batch normalization sees as many
    patches at once as in the paper, whose batches are twice as large. The box may lie anywhere in the patch, including
    its end. With ``plain_for_teacher`` the teacher sees the patches without intensity augmentation.
    """

    title = "BCP: labeled and unlabeled patches are pasted into each other, both ways, under the teacher's labels"
    citation = (
        "Y. Bai, D. Chen, Q. Li, W. Shen, Y. Wang. Bidirectional copy-paste for semi-supervised medical image "
        "segmentation. CVPR 2023."
    )
    needs_unlabeled = True
    published_pretraining = 0.12

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.student = VNet(settings.filters, settings.normalization, settings.dropout)
        self.teacher = teacher_of(self.student, settings)
        self.networks = {"student": self.student, "teacher": self.teacher}
        self.predictor = "student"

    def parameters(self) -> list[nn.Parameter]:
        return list(self.student.parameters())

    def phase(self, progress: float) -> str:
        return "copy-paste" if self.pretrained else "pretraining"

    def networks_in_training(self) -> dict[str, nn.Module]:
        """The teacher has not started while the student is pretrained."""
        return self.networks if self.pretrained else {"student": self.student}

    def loss(self, batch: Batch, progress: float) -> Loss:
        self.student.train()
        if not self.pretrained:
            mixture = labeled_mixture(batch)
            loss = labeled_loss(self.student(mixture.images), mixture)
            return Loss(loss, {"labeled": loss})
        # In training mode as in the published code: the teacher re-estimates its own statistics.
        self.teacher.train()
        with torch.no_grad():
            pseudo_labels = connected_pseudo_labels(self.teacher(self.teacher_sees(batch)))
        both = mixtures(batch, pseudo_labels)
        outputs = self.student(torch.cat([mixture.images for mixture in both])).chunk(2)
        parts = {
            name: mixture_loss(logits, mixture) for name, logits, mixture in zip(_WAYS, outputs, both, strict=True)
        }
        return Loss(sum(parts.values(), torch.zeros(())), {**parts, "pseudo_label_volume": pseudo_labels.mean()})

    def after_step(self, progress: float) -> None:
        """Move the teacher's weights; at the end of the pretraining make it a copy of the student."""
        if self.pretrained:
            average_into(self.teacher, {self.student: 1.0 - _KEEP}, _KEEP, statistics=False)
        elif progress >= self.settings.pretraining:
            self.pretrained = True
            self.teacher.load_state_dict(self.student.state_dict())

    def warm_start(self, networks: dict[str, dict[str, torch.Tensor]], predictor: str, state: dict[str, Any]) -> None:
        """As :meth:`Method.warm_start`, without pretraining; all start from one network if that was not finished."""
        super().warm_start(networks, predictor, state)
        self.pretrained = True
