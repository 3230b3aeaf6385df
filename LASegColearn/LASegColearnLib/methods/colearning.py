"""The method this project exists for: two students, their averaged teacher, cross pseudo-supervision and mixing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from LASegColearnLib.losses import dice_loss, foreground_probability, label_loss, mix_loss, pseudo_label
from LASegColearnLib.methods.base import Batch, Loss, TwoStageMethod, gaussian_ramp
from LASegColearnLib.mixing import mix, mixing_mask
from LASegColearnLib.networks import VNet, average_into, stop_dropout
from LASegColearnLib.settings import Settings

_LEAKY_SLOPE = 0.1
# The first teacher is the students; it then looks back over a tenth of the steps so far, until alpha and beta say less.
# An average over all steps so far still holds the first, random weights after a hundred of them and predicts nothing.
_WARM_UP = 9
# After so many steps only alpha and beta say how far the teacher looks back, unless they are below 0.005.
_SETTLED = 1000


def _student_2(settings: Settings) -> VNet:
    """Student 2: the same tensors as student 1, another graph, as ``student_difference`` says."""
    difference = settings.student_difference
    return VNet(
        settings.filters,
        settings.normalization,
        dropout=settings.dropout / 2 if difference == "dropout" else settings.dropout,
        residual=difference == "residual",
        negative_slope=_LEAKY_SLOPE if difference == "activation" else 0.0,
    )


@dataclass
class _Views:
    """One student's output on its batch: labeled, unlabeled and mixed patches, in one pass through the network."""

    labeled: torch.Tensor
    unlabeled: torch.Tensor
    mixed: torch.Tensor


class CoLearning(TwoStageMethod):
    """Multi-model mutual learning, eqs. 1-18 of the paper.

    All three networks start from one set of weights, since an average of two networks that were initialized apart
    predicts nothing. With ``pretraining`` above 0, that start is itself learned first, by one network on labeled
    patches and copy-pasted pairs of them; the teacher follows it, and all three go on from the teacher. With
    ``self_training`` above 0, that network goes on for a while with the teacher's labels of unlabeled scans beside the
    true ones. With ``teacher_rounds`` the teacher labels whole scans, now and then, instead of patches. In the first
    steps the teacher's average looks back less far than alpha and beta say, about which the paper is silent.

    Where this departs from the paper: it wants another backbone for each student, here they are one layout that differs
    as ``student_difference`` says, since their average would predict nothing otherwise; the teacher sees the whole
    unlabeled patch, of which boxes are then cut; targets of mixed patches are composed like their images, unless
    ``mix_target`` says as printed. The paper does not say alpha and beta; cross-entropy and ``ramp_up`` are not its.
    """

    title = "Co-learning: two students and their averaged teacher learn from labeled and unlabeled scans"
    citation = (
        "Z. Zhang. Semi-supervised medical image segmentation with hybrid cropping in a multi-model co-learning "
        "framework. 2024."
    )
    needs_unlabeled = True

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.student_1 = VNet(settings.filters, settings.normalization, settings.dropout)
        self.student_2 = _student_2(settings)
        self.teacher = VNet(settings.filters, settings.normalization, settings.dropout)
        self.networks = {"student_1": self.student_1, "student_2": self.student_2, "teacher": self.teacher}
        self.predictor = "teacher"
        self.steps = 0
        self.pretrained = self._alone == 0
        self.teacher.requires_grad_(False)
        self.start_from(self.student_1.state_dict())

    def parameters(self) -> list[nn.Parameter]:
        return [*self.student_1.parameters(), *self.student_2.parameters()]

    def phase(self, progress: float) -> str:
        if self.pretrained:
            return "co-learning"
        # The step that the pretraining's end falls into is still one of it: scans are labeled after it.
        alone = self.settings.self_training > 0 and progress > self.settings.pretraining
        return "self-training" if alone else "pretraining"

    def batch_sizes(self, progress: float) -> tuple[int, int]:
        """As :meth:`TwoStageMethod.batch_sizes`; the self-training is of both kinds of patch."""
        if self.phase(progress) == "self-training":
            return self.settings.labeled_batch, self.settings.unlabeled_batch
        return super().batch_sizes(progress)

    def labels_scans(self, before: float, after: float) -> bool:
        """At the end of the pretraining, and so often at equal distances after it as ``teacher_rounds`` says."""
        start, rounds = self.settings.pretraining, self.settings.teacher_rounds
        return any(before <= start + number * (1.0 - start) / rounds < after for number in range(rounds))

    def networks_in_training(self) -> dict[str, nn.Module]:
        """Student 2 has not started while one network is pretrained."""
        return self.networks if self.pretrained else {"student_1": self.student_1, "teacher": self.teacher}

    def loss(self, batch: Batch, progress: float) -> Loss:
        return self._colearning_loss(batch, progress) if self.pretrained else self._pretraining_loss(batch)

    def after_step(self, progress: float) -> None:
        """Move the teacher (eq. 1); when one network has learned enough alone, start all three from it."""
        self.steps += 1
        alpha, beta = self.settings.alpha, self.settings.beta
        keep = min((self.steps - 1) / (self.steps + _WARM_UP), 1.0 - alpha - beta)
        follow = 1.0 - keep
        share = alpha / (alpha + beta)
        students: dict[nn.Module, float] = (
            {self.student_1: follow * share, self.student_2: follow * (1.0 - share)}
            if self.pretrained
            else {self.student_1: follow}
        )
        # Its own statistics are of the patches that it labels, if it labels any.
        reestimated = self.pretrained and self.settings.teacher_rounds == 0
        average_into(
            self.teacher,
            students,
            keep,
            statistics=self.settings.teacher_statistics == "average" or not reestimated,
        )
        if not self.pretrained and progress >= self._alone:
            self.pretrained = True
            self.start_from(self.teacher.state_dict())

    def state(self) -> dict[str, Any]:
        return {"steps": self.steps, **super().state()}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.steps = int(state["steps"])

    def warm_start(self, networks: dict[str, dict[str, torch.Tensor]], predictor: str, state: dict[str, Any]) -> None:
        """As :meth:`Method.warm_start`; the teacher that is there is worth keeping, so its average does not start anew.

        A model that was stopped in its pretraining has only one student that has learned: all start from its teacher.
        """
        super().warm_start(networks, predictor, state)
        self.pretrained = True
        self.steps = _SETTLED

    def ramp(self, progress: float) -> float:
        """How much of lambda and mu counts: a Gaussian rise over ``ramp_up`` of the co-learning, then 1."""
        if self.settings.ramp_up == 0:
            return 1.0
        done = (self.furthest(progress) - self._alone) / (1.0 - self._alone)
        return gaussian_ramp(done / self.settings.ramp_up)

    @property
    def _alone(self) -> float:
        """Share of the run in which one network learns, before there are two students."""
        return self.settings.pretraining + self.settings.self_training

    def _pretraining_loss(self, batch: Batch) -> Loss:
        """Half of the patches as they are; in the others a box of the patch before, labels alike.

        In the self-training the others are the unlabeled ones with the teacher's labels of their scans.
        """
        self.student_1.train()
        used = batch.unlabeled[: len(batch.pseudo_labels)]
        plain, truth = torch.cat([batch.labeled, used]), torch.cat([batch.labels, batch.pseudo_labels])
        half = len(plain) // 2
        images, labels = plain.clone(), truth.clone()
        mask = mixing_mask(images.shape[2:], self.settings.mix_crop, batch.rng).to(images.device)
        images[half:] = mix(plain[half:], plain.roll(1, 0)[half:], mask)
        labels[half:] = mix(truth[half:], truth.roll(1, 0)[half:], mask)
        loss = label_loss(self.student_1(images), labels, self.settings.cross_entropy_weight)
        return Loss(loss, {"labeled_1": loss})

    def _pseudo_labels(self, batch: Batch) -> torch.Tensor:
        """The teacher's opinion of the unlabeled patches, or of their whole scans: (N_u, X, Y, Z), 0 or 1."""
        if len(batch.pseudo_labels):
            return batch.pseudo_labels
        self.teacher.train(self.settings.teacher_statistics == "reestimate")
        stop_dropout(self.teacher)
        with torch.no_grad():
            return pseudo_label(self.teacher(self.teacher_sees(batch)))

    def _mixed(self, batch: Batch, pseudo_labels: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """INDMIX and OUTDMIX: for each student its mixed patch (1, 1, X, Y, Z) and target (1, X, Y, Z).

        Mixed_1 has the first labeled patch outside and the first unlabeled one in the box, Mixed_2 the last unlabeled
        one outside and the last labeled one in the box (eqs. 11-14). A mask of its own for each pair.
        """
        shape = batch.labeled.shape[2:]
        device = batch.labeled.device
        masks = [mixing_mask(shape, self.settings.mix_crop, batch.rng).to(device) for _ in range(2)]
        images = [
            mix(batch.labeled[:1], batch.unlabeled[:1], masks[0]),
            mix(batch.unlabeled[-1:], batch.labeled[-1:], masks[1]),
        ]
        first = (batch.labels[:1], pseudo_labels[:1])
        if self.settings.mix_target == "printed":
            first = first[::-1]
        targets = [mix(*first, masks[0]), mix(pseudo_labels[-1:], batch.labels[-1:], masks[1])]
        return images, targets

    def _look(self, student: nn.Module, batch: Batch, mixed: torch.Tensor) -> _Views:
        student.train()
        logits = student(torch.cat([batch.labeled, batch.unlabeled, mixed]))
        return _Views(*logits.split([len(batch.labeled), len(batch.unlabeled), len(mixed)]))

    def _colearning_loss(self, batch: Batch, progress: float) -> Loss:
        pseudo_labels = self._pseudo_labels(batch)
        images, targets = self._mixed(batch, pseudo_labels)
        views = [
            self._look(student, batch, mixed)
            for student, mixed in zip((self.student_1, self.student_2), images, strict=True)
        ]
        parts: dict[str, torch.Tensor] = {}
        for number, (own, other, target) in enumerate(zip(views, views[::-1], targets, strict=True), start=1):
            probability = foreground_probability(own.unlabeled)
            parts[f"labeled_{number}"] = label_loss(own.labeled, batch.labels, self.settings.cross_entropy_weight)
            parts[f"cps_{number}"] = dice_loss(probability, pseudo_label(other.unlabeled))
            parts[f"teacher_{number}"] = dice_loss(probability, pseudo_labels)
            parts[f"mix_{number}"] = mix_loss(foreground_probability(own.mixed), target)
        ramp = self.ramp(progress)
        labeled = parts["labeled_1"] + parts["labeled_2"]
        unlabeled = self.settings.cross_supervision * (parts["cps_1"] + parts["cps_2"])
        unlabeled = unlabeled + self.settings.teacher_supervision * (parts["teacher_1"] + parts["teacher_2"])
        mixing = parts["mix_1"] + parts["mix_2"]
        total = labeled + ramp * (self.settings.unlabeled_weight * unlabeled + self.settings.mix_weight * mixing)
        with torch.no_grad():
            opinions = [pseudo_label(view.unlabeled) for view in views]
            parts["disagreement"] = (opinions[0] != opinions[1]).float().mean()
            parts["pseudo_label_volume"] = pseudo_labels.mean()
        return Loss(total, parts)
