"""This project's method: two students, their averaged teacher, cross pseudo-supervision and mixing."""

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
# The teacher starts equal to the students. Its average then extends over a tenth of the steps so far, until alpha and
# beta give a longer memory. An average over all steps would still hold the first, random weights after a hundred steps
# and predict nothing.
_WARM_UP = 9
# After this many steps only alpha and beta determine the teacher's average, unless they are below 0.005.
_SETTLED = 1000


def _student_2(settings: Settings) -> VNet:
    """Student 2: the same tensors as student 1, but another architecture as given by ``student_difference``."""
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
    """One student's output for its batch: labeled, unlabeled and mixed patches, from one pass through the network."""

    labeled: torch.Tensor
    unlabeled: torch.Tensor
    mixed: torch.Tensor


class CoLearning(TwoStageMethod):
    """Multi-model mutual learning, eqs. 1-18 of the paper.

    All three networks start from the same weights, since an average of two independently initialized networks predicts
    nothing. With ``pretraining`` above 0, this start is learned first, by one network on labeled patches and
    copy-pasted pairs of them; the teacher follows it, and all three then start from the teacher. With
    ``self_training`` above 0, that network next also learns from the teacher's labels of unlabeled scans. With
    ``teacher_rounds`` the teacher labels whole scans from time to time, instead of patches. In the first steps the
    teacher's average has a shorter memory than alpha and beta give, a detail that the paper does not specify.

    Differences from the paper: its students have different backbones; here they share one layout and differ as given
    by ``student_difference``, since their average would otherwise predict nothing. The teacher sees the whole unlabeled
    patch, from which boxes are then cut. Targets of mixed patches are composed like their images, unless
    ``mix_target`` is ``printed``. The paper does not give alpha and beta, and has no cross-entropy and no ``ramp_up``.
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
        # The step in which the pretraining ends still belongs to it: scans are labeled afterwards.
        alone = self.settings.self_training > 0 and progress > self.settings.pretraining
        return "self-training" if alone else "pretraining"

    def batch_sizes(self, progress: float) -> tuple[int, int]:
        """As :meth:`TwoStageMethod.batch_sizes`; self-training uses both kinds of patch."""
        if self.phase(progress) == "self-training":
            return self.settings.labeled_batch, self.settings.unlabeled_batch
        return super().batch_sizes(progress)

    def labels_scans(self, before: float, after: float) -> bool:
        """At the end of the pretraining and then at equal intervals, ``teacher_rounds`` times in all."""
        start, rounds = self.settings.pretraining, self.settings.teacher_rounds
        return any(before <= start + number * (1.0 - start) / rounds < after for number in range(rounds))

    def networks_in_training(self) -> dict[str, nn.Module]:
        """All networks; student 2 is left out during the pretraining, when it has not started."""
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
        # The teacher re-estimates its statistics only while it labels patches.
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
        """As :meth:`Method.warm_start`; the trained teacher is kept, so its average continues without a new warm-up.

        In a model that was stopped during pretraining only one student has learned: all start from its teacher.
        """
        super().warm_start(networks, predictor, state)
        self.pretrained = True
        self.steps = _SETTLED

    def ramp(self, progress: float) -> float:
        """Factor of lambda and mu: a Gaussian ramp over the share ``ramp_up`` of the co-learning, then 1."""
        if self.settings.ramp_up == 0:
            return 1.0
        done = (self.furthest(progress) - self._alone) / (1.0 - self._alone)
        return gaussian_ramp(done / self.settings.ramp_up)

    @property
    def _alone(self) -> float:
        """Share of the run in which a single network learns, before there are two students."""
        return self.settings.pretraining + self.settings.self_training

    def _pretraining_loss(self, batch: Batch) -> Loss:
        """Loss on half of the patches unchanged, and on the others with a box pasted from the preceding patch.

        In self-training the second half are the unlabeled patches with the teacher's labels of their scans.
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
        """The teacher's labels of the unlabeled patches, or of their whole scans: (N_u, X, Y, Z), 0 or 1."""
        if len(batch.pseudo_labels):
            return batch.pseudo_labels
        self.teacher.train(self.settings.teacher_statistics == "reestimate")
        stop_dropout(self.teacher)
        with torch.no_grad():
            return pseudo_label(self.teacher(self.teacher_sees(batch)))

    def _mixed(self, batch: Batch, pseudo_labels: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """INDMIX and OUTDMIX: for each student its mixed patch (1, 1, X, Y, Z) and target (1, X, Y, Z).

        Mixed_1 has the first labeled patch outside and the first unlabeled one in the box, Mixed_2 the last unlabeled
        one outside and the last labeled one in the box (eqs. 11-14). Each pair has its own mask.
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
