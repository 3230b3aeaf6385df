"""The interface between a method and the trainer."""

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
        (N_u, 1, X, Y, Z) float32; N_u is 0 if the method or phase uses none.
    weakly_augmented
        The unlabeled patches with the same spatial augmentation, before the augmentation of their intensities.
    pseudo_labels
        (N_u, X, Y, Z) float32, 0 or 1: a network's labels of the whole scans, cut like the unlabeled patches; empty
        while the scans have none.
    number
        Number of this batch. Together with the seed it determines everything random about the batch, so that a resumed
        run draws the same.
    rng
        Generator for the method's own random choices.
    """

    labeled: torch.Tensor
    labels: torch.Tensor
    unlabeled: torch.Tensor
    weakly_augmented: torch.Tensor
    pseudo_labels: torch.Tensor
    number: int
    rng: np.random.Generator

    def to(self, device: torch.device) -> Batch:
        """The batch on another device; from pinned memory to CUDA the copy is asynchronous.

        On other devices the memory might be reused before it is read (PyTorch issue 139550 for MPS).
        """
        return self._with_patches(lambda patches: patches.to(device, non_blocking=device.type == "cuda"))

    def pin_memory(self) -> Batch:
        """The batch in pinned memory, from which a GPU can copy it asynchronously."""
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
    """R = exp(-5 (1 - done)^2): 0.0067 at 0, 0.29 at 0.5, 1 from 1 on; the ramp-up of all the benchmark's methods."""
    missing = 1.0 - min(max(done, 0.0), 1.0)
    return math.exp(-5.0 * missing**2)


@dataclass
class Loss:
    """The loss to minimize, and its parts by name for the log (0-dimensional tensors)."""

    total: torch.Tensor
    parts: dict[str, torch.Tensor]


class Method(ABC):
    """A way of learning from labeled and unlabeled patches. A new file in ``methods/`` adds a method.

    Attributes
    ----------
    networks
        All networks by name; they are saved, moved to the device and validated.
    predictor
        Name of the network that predicts.
    auxiliary
        Modules by name that are used only in training, such as a discriminator. They are saved, resumed and moved to
        the device like the networks, but neither validated nor used for prediction, and a warm start creates new ones.
    title
        One sentence on what the method does; a string literal, since it is read without importing the file.
    citation
        The publication.
    needs_unlabeled
        Whether it also learns from unlabeled scans.
    several_processes
        Whether several processes can train it. That requires that everything learned gets its gradient from the loss,
        and that :meth:`loss` keeps nothing of a batch for later, since the processes exchange only gradients.
    published_pretraining
        Share of its published training that is spent on labeled patches alone, if the rest depends on it.
    feature_maps_of_a_step
        Peak memory of a step per patch of the batch (including a mixed one), in units of a first feature map of the
        network. The default is that of co-learning; of the methods here only SS-Net needs more.
    autocast
        Autocast context for networks that :meth:`after_step` runs; :meth:`loss` already runs in one. It is a null
        context for float16, since gradients are not scaled there.
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
        """The networks and the auxiliary modules."""
        return {**self.networks, **self.auxiliary}

    @abstractmethod
    def parameters(self) -> list[nn.Parameter]:
        """The parameters that the optimizer changes."""

    @abstractmethod
    def phase(self, progress: float) -> str:
        """Name of the phase of training at this share of the run."""

    def batch_sizes(self, progress: float) -> tuple[int, int]:
        """Numbers of labeled and unlabeled patches per batch at this share of the run; the settings' by default."""
        return self.settings.labeled_batch, self.settings.unlabeled_batch

    @abstractmethod
    def loss(self, batch: Batch, progress: float) -> Loss:
        """The loss of a batch. Sets the networks to the modes it needs."""

    def labels_scans(self, before: float, after: float) -> bool:
        """Whether :attr:`predictor` shall label all unlabeled scans between these two shares of the run."""
        return False

    def furthest(self, progress: float) -> float:
        """The largest share of the run reached so far, including this one.

        Ramps use it instead of the progress: if a run is resumed with a longer length, its progress drops, but the
        weight of a ramped loss must not.
        """
        self._furthest = max(self._furthest, progress)
        return self._furthest

    def networks_in_training(self) -> dict[str, nn.Module]:
        """The networks that have started to learn at this stage of the run, for validation; all by default."""
        return self.networks

    def after_step(self, progress: float) -> None:  # noqa: B027 - most methods have nothing to do here
        """Called after each step of the optimizer, with the share of the run at that step."""

    def teacher_sees(self, batch: Batch) -> torch.Tensor:
        """The unlabeled patches that a teacher labels, (N_u, 1, X, Y, Z): see ``plain_for_teacher``."""
        return batch.weakly_augmented if self.settings.plain_for_teacher else batch.unlabeled

    def state(self) -> dict[str, Any]:
        """Values and tensors needed for resuming, besides those of the networks and auxiliary modules."""
        return {"furthest": self._furthest}

    def load_state(self, state: dict[str, Any]) -> None:
        """The reverse of :meth:`state`."""
        # Older checkpoints do not have it.
        self._furthest = float(state.get("furthest", 0.0))

    def start_from(self, tensors: dict[str, torch.Tensor]) -> None:
        """Start every network from one set of weights."""
        for network in self.networks.values():
            network.load_state_dict(tensors)

    def warm_start(self, networks: dict[str, dict[str, torch.Tensor]], predictor: str, state: dict[str, Any]) -> None:
        """Start from an earlier model, with a new optimizer and usually with more labels.

        Parameters
        ----------
        networks
            The earlier model's tensors by network. If they have this method's names, each network starts from its own
            tensors; otherwise, or if the model's pretraining was not finished, all start from its predicting network.
        predictor
            Name of the earlier model's predicting network.
        state
            The earlier method's further state, see :meth:`state`.

        Raises
        ------
        KeyError, RuntimeError
            If the networks' tensors do not fit.
        """
        # In a model that was stopped during its pretraining only one network has learned.
        if networks.keys() == self.networks.keys() and state.get("pretrained", True):
            for name, network in self.networks.items():
                network.load_state_dict(networks[name])
        else:
            self.start_from(networks[predictor])


class TwoStageMethod(Method):
    """A method that begins with labeled patches alone, for the share of the run given by the setting ``pretraining``.

    Attributes
    ----------
    pretrained
        Whether this first stage is over. The method's :meth:`after_step` sets it when it starts the second stage.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.pretrained = settings.pretraining == 0

    def batch_sizes(self, progress: float) -> tuple[int, int]:
        """The settings' numbers; during pretraining the same total, all of them labeled."""
        labeled, unlabeled = super().batch_sizes(progress)
        return (labeled, unlabeled) if self.pretrained else (labeled + unlabeled, 0)

    def state(self) -> dict[str, Any]:
        return {"pretrained": self.pretrained, **super().state()}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        # Older checkpoints do not have it; their methods had no such stage.
        self.pretrained = bool(state.get("pretrained", True))


def teacher_of(student: VNet, settings: Settings) -> VNet:
    """A V-Net without gradients that starts as a copy of the student, for a moving average of the student's weights."""
    # Constructed and not deep-copied, since fewer random numbers would change the results of existing seeds.
    teacher = VNet(settings.filters, settings.normalization, settings.dropout)
    teacher.load_state_dict(student.state_dict())
    return teacher.requires_grad_(False)
