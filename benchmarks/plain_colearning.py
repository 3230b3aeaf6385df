"""Co-learning written the way the field's published trainers are: the baseline that our training is timed against.

float32, default memory layout, each input in a forward pass of its own, two-channel softmax and hand-written losses,
tensor by tensor averaging of the teacher, the optimizer's loop over tensors: the habits of UA-MT's repository and those
built on it. The equations are the paper's, as in ``LASegColearnLib/methods/colearning.py``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from LASegColearnLib.methods.base import Batch
from LASegColearnLib.mixing import mixing_mask
from LASegColearnLib.networks import VNet
from LASegColearnLib.settings import Settings


class PlainCoLearning:
    """The co-learning stage (eqs. 1-18) of :class:`LASegColearnLib.methods.colearning.CoLearning`, plainly.

    Parameters
    ----------
    settings
        Width, normalization, dropout, weights of the losses, learning rate.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.students = [VNet(settings.filters, settings.normalization, settings.dropout) for _ in range(2)]
        self.teacher = VNet(settings.filters, settings.normalization, settings.dropout)
        for network in (self.students[1], self.teacher):
            network.load_state_dict(self.students[0].state_dict())
        self.optimizers = [
            torch.optim.SGD(
                student.parameters(),
                lr=settings.learning_rate,
                momentum=settings.momentum,
                weight_decay=settings.weight_decay,
                foreach=False,
            )
            for student in self.students
        ]
        self.steps = 0

    def step(self, batch: Batch) -> float:
        """One iteration; returns the loss."""
        loss = self.loss(batch)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        self._average()
        return loss.item()

    def loss(self, batch: Batch) -> torch.Tensor:
        """The total loss of eq. 18."""
        self.teacher.eval()
        with torch.no_grad():
            taught = torch.argmax(F.softmax(self.teacher(batch.unlabeled), dim=1), dim=1)
        masks = [mixing_mask(batch.labeled.shape[2:], self.settings.mix_crop, batch.rng) for _ in range(2)]
        labels = batch.labels.long()
        mixed = [
            batch.labeled[:1] * masks[0] + batch.unlabeled[:1] * (1 - masks[0]),
            batch.unlabeled[-1:] * masks[1] + batch.labeled[-1:] * (1 - masks[1]),
        ]
        targets = [
            labels[:1] * masks[0] + taught[:1] * (1 - masks[0]),
            taught[-1:] * masks[1] + labels[-1:] * (1 - masks[1]),
        ]
        on_labeled, on_unlabeled, on_mixed = [], [], []
        for student, image in zip(self.students, mixed, strict=True):
            student.train()
            on_labeled.append(student(batch.labeled))
            on_unlabeled.append(F.softmax(student(batch.unlabeled), dim=1))
            on_mixed.append(F.softmax(student(image), dim=1))
        total = torch.zeros(())
        for own, other in ((0, 1), (1, 0)):
            supervised = _dice(F.softmax(on_labeled[own], dim=1)[:, 1], labels)
            supervised = supervised + self.settings.cross_entropy_weight * F.cross_entropy(on_labeled[own], labels)
            pseudo = torch.argmax(on_unlabeled[other].detach(), dim=1)
            unlabeled = _dice(on_unlabeled[own][:, 1], pseudo) + _dice(on_unlabeled[own][:, 1], taught)
            one_hot = torch.stack([1 - targets[own], targets[own]], dim=1)
            mixing = torch.mean((on_mixed[own] - one_hot) ** 2)
            weights = self.settings
            total = total + supervised + weights.unlabeled_weight * unlabeled + weights.mix_weight * mixing
        return total

    def _average(self) -> None:
        self.steps += 1
        keep = min((self.steps - 1) / (self.steps + 9), 1 - self.settings.alpha - self.settings.beta)
        first = (1 - keep) * self.settings.alpha / (self.settings.alpha + self.settings.beta)
        tensors = zip(self.teacher.parameters(), *(student.parameters() for student in self.students), strict=True)
        for own, one, two in tensors:
            own.data.mul_(keep).add_(one.data, alpha=first).add_(two.data, alpha=1 - keep - first)


def _dice(score: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    target = target.float()
    intersect = torch.sum(score * target)
    return 1 - (2 * intersect + 1e-5) / (torch.sum(score * score) + torch.sum(target * target) + 1e-5)
