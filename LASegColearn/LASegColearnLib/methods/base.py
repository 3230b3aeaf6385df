"""What a method is to the trainer."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from LASegColearnLib.networks import VNet
from LASegColearnLib.settings import Settings


@dataclass
class Batch:
    """Patches for one iteration, or for one part of it.

    Attributes
    ----------
    labeled
        (N_l, 1, X, Y, Z) float32.
    labels
        (N_l, X, Y, Z) float32, 0 or 1.
    unlabeled
        (N_u, 1, X, Y, Z) float32; no patches of a method or phase that asks for none.
    weakly_augmented
        The unlabeled patches, cut and turned alike, before their intensities were changed.
    pseudo_labels
        (N_u, X, Y, Z) float32, 0 or 1: a network's labels of the whole scans, cut like the unlabeled patches; none
        while the scans have none.
    number
        Of this batch among all that were made; with the seed it decides everything random about it, so that a resumed
        run draws the same.
    rng
        For what the method itself draws.
    """

    labeled: torch.Tensor
    labels: torch.Tensor
    unlabeled: torch.Tensor
    weakly_augmented: torch.Tensor
    pseudo_labels: torch.Tensor
    number: int
    rng: np.random.Generator

    def to(self, device: torch.device) -> Batch:
        """The batch on another device; from pinned memory without waiting for it.

        Only CUDA keeps the memory until it has been read (PyTorch issue 139550 for MPS).
        """
        return self._with_patches(lambda patches: patches.to(device, non_blocking=device.type == "cuda"))

    def pin_memory(self) -> Batch:
        """The batch where a GPU can fetch it from."""
        return self._with_patches(torch.Tensor.pin_memory)

    def _with_patches(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        return replace(
            self,
            labeled=change(self.labeled),
            labels=change(self.labels),
            unlabeled=change(self.unlabeled),
            weakly_augmented=change(self.weakly_augmented),
            pseudo_labels=change(self.pseudo_labels),
        )


def gaussian_ramp(done: float) -> float:
    """R = exp(-5 (1 - done)^2): 0.0067 at 0, 0.29 at a half, 1 from 1 on; the rise of all the benchmark's methods."""
    missing = 1.0 - min(max(done, 0.0), 1.0)
    return math.exp(-5.0 * missing**2)


@dataclass
class Loss:
    """The loss to follow, and its parts by name for the record (0-dimensional tensors)."""

    total: torch.Tensor
    parts: dict[str, torch.Tensor]


class Method(ABC):
    """A way of learning from labeled and unlabeled patches. Adding one is adding a file in ``methods/``.

    Attributes
    ----------
    networks
        All networks by name; they are saved, moved to the device and validated.
    predictor
        Name of the network that predicts.
    auxiliary
        Modules by name that help in training and predict nothing, such as a discriminator. They are saved, resumed and
        moved to the device like the networks; they are neither validated nor part of a model that predicts, and a warm
        start makes them anew.
    title
        One sentence: what the method does. A plain text, since it is read without importing the file.
    citation
        Where it was published.
    needs_unlabeled
        Whether it learns from unlabeled scans too.
    several_processes
        Whether it can be trained by several processes. It can where all that is learned gets its gradient from the
        loss, and where :meth:`loss` keeps nothing of a batch for later: the trainer averages gradients, not memories.
    published_pretraining
        Share of its published training that is spent on labeled patches alone, where the rest needs that start.
    feature_maps_of_a_step
        What a step keeps of each patch of the batch (and of a mixed one) at its peak, counted in first feature maps of
        a network, so about its memory. Co-learning's by default, which no other method here exceeds but SS-Net.
    autocast
        Context for networks that :meth:`after_step` runs; :meth:`loss` is in one already. Gradients are not scaled
        there, so it is none where that would be needed.
    """

    title: ClassVar[str]
    citation: ClassVar[str]
    needs_unlabeled: ClassVar[bool]
    several_processes: ClassVar[bool] = True
    # Measured with the cpu preset, in float32 (docs/benchmarks.md, "Two hours and more").
    feature_maps_of_a_step: ClassVar[float] = 41.6
    published_pretraining: ClassVar[float] = 0.0

    networks: dict[str, nn.Module]
    predictor: str

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.auxiliary: dict[str, nn.Module] = {}
        self._furthest = 0.0
        self.autocast: Callable[[], AbstractContextManager[object]] = nullcontext

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The networks, and what helps them."""
        return {**self.networks, **self.auxiliary}

    @abstractmethod
    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer changes."""

    @abstractmethod
    def phase(self, progress: float) -> str:
        """Name of what is going on at this share of the run."""

    def batch_sizes(self, progress: float) -> tuple[int, int]:
        """Labeled and unlabeled patches wanted at this share of the run; the settings' by default."""
        return self.settings.labeled_batch, self.settings.unlabeled_batch

    @abstractmethod
    def loss(self, batch: Batch, progress: float) -> Loss:
        """The loss of a batch. Puts the networks into the modes it needs."""

    def labels_scans(self, before: float, after: float) -> bool:
        """Whether :attr:`predictor` shall label all unlabeled scans anew between these two shares of the run."""
        return False

    def furthest(self, progress: float) -> float:
        """The largest share of a run that was reached, with this one.

        Ramps use this instead of the progress: when a run is resumed with a longer length its progress drops, and the
        weight of a ramped loss must not drop with it.
        """
        self._furthest = max(self._furthest, progress)
        return self._furthest

    def networks_in_training(self) -> dict[str, nn.Module]:
        """Those that mean something at this stage of the run, for validation; all by default."""
        return self.networks

    def after_step(self, progress: float) -> None:  # noqa: B027 - most methods have nothing to do here
        """Called after each step of the optimizer, with the share of the run that the step was made at."""

    def teacher_sees(self, batch: Batch) -> torch.Tensor:
        """The unlabeled patches as a teacher labels them, (N_u, 1, X, Y, Z): see ``plain_for_teacher``."""
        return batch.weakly_augmented if self.settings.plain_for_teacher else batch.unlabeled

    def state(self) -> dict[str, Any]:
        """Plain values and tensors besides those of the networks and auxiliary modules that resuming needs."""
        return {"furthest": self._furthest}

    def load_state(self, state: dict[str, Any]) -> None:
        """The reverse of :meth:`state`."""
        # Early models do not say.
        self._furthest = float(state.get("furthest", 0.0))

    def start_from(self, tensors: dict[str, torch.Tensor]) -> None:
        """Start every network from one set of weights."""
        for network in self.networks.values():
            network.load_state_dict(tensors)

    def warm_start(self, networks: dict[str, dict[str, torch.Tensor]], predictor: str, state: dict[str, Any]) -> None:
        """Go on from an earlier model, by a new optimizer and usually with more labels.

        Parameters
        ----------
        networks
            The earlier model's tensors by network; where they have this method's names each network goes on from its
            own, otherwise all start from the one that predicted. So they do from a model whose pretraining was not
            over.
        predictor
            Name of the earlier model's predicting network.
        state
            What its method kept besides, see :meth:`state`.

        Raises
        ------
        KeyError, RuntimeError
            If its networks have other tensors.
        """
        # One that was stopped in its pretraining has one network that has learned.
        if networks.keys() == self.networks.keys() and state.get("pretrained", True):
            for name, network in self.networks.items():
                network.load_state_dict(networks[name])
        else:
            self.start_from(networks[predictor])


class TwoStageMethod(Method):
    """A method that begins with labeled patches alone, for the share of the run that the setting ``pretraining`` says.

    Attributes
    ----------
    pretrained
        Whether that is over. The method's :meth:`after_step` sets it, with what is to be done then.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.pretrained = settings.pretraining == 0

    def batch_sizes(self, progress: float) -> tuple[int, int]:
        """The settings'; in the pretraining as many patches, all of them labeled."""
        labeled, unlabeled = super().batch_sizes(progress)
        return (labeled, unlabeled) if self.pretrained else (labeled + unlabeled, 0)

    def state(self) -> dict[str, Any]:
        return {"pretrained": self.pretrained, **super().state()}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        # Early models do not say; they had no such stage.
        self.pretrained = bool(state.get("pretrained", True))


def teacher_of(student: VNet, settings: Settings) -> VNet:
    """A V-Net that starts as a copy of the student and gets no gradient, for the method to average the student into."""
    # Made like any network and not copied, which would take fewer random numbers: runs would not be those of before.
    teacher = VNet(settings.filters, settings.normalization, settings.dropout)
    teacher.load_state_dict(student.state_dict())
    return teacher.requires_grad_(False)
