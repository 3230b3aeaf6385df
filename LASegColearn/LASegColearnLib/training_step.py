"""One training iteration: the losses of a batch, their gradients, the optimizer's and the method's step."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from LASegColearnLib.device import Device
from LASegColearnLib.device_trial import compiles_rightly
from LASegColearnLib.errors import TrainingError
from LASegColearnLib.methods import create_method
from LASegColearnLib.methods.base import Batch, Loss, Method
from LASegColearnLib.processes import ALONE, Processes
from LASegColearnLib.settings import Settings

_SMALLEST_SCALE = 1.0
# Start of PyTorch's error message when a normalization layer gets a single value per channel.
_NOTHING_TO_NORMALIZE = "Expected more than 1"


class TrainingStep:
    """A method with its optimizer on a device, in one process or several.

    A batch may be split into equal parts (``batch_parts``), each a small batch with its own losses and batch-norm
    statistics. The parts are computed one after another, which saves memory, or by several processes, which saves
    time. Gradients and running statistics are averaged over all parts, so that the weights do not depend on where the
    parts were computed.

    Parameters
    ----------
    settings
        Method, networks, optimizer, seed.
    device
        Where the networks are computed.
    processes
        The processes that share the work; this process alone by default.
    """

    def __init__(self, settings: Settings, device: Device, processes: Processes = ALONE) -> None:
        self.settings = settings
        self.device = device
        self.processes = processes
        torch.manual_seed(settings.seed)
        self.method: Method = create_method(settings)
        if not device.scales_gradients:
            self.method.autocast = device.autocast
        for module in self.method.modules.values():
            device.place(module)
        self.optimizer = _optimizer(self.method, settings)
        self.scaler = torch.amp.GradScaler(device.device.type, enabled=device.scales_gradients)
        self._losses: nn.Module = _Losses(self.method)
        if processes.count > 1:
            # Not all networks learn in every phase. Statistics are averaged here, not copied from the first process.
            # PyTorch 2.13 has renamed the option and warns of the old name.
            known = inspect.signature(DistributedDataParallel).parameters
            buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
            options: dict[str, Any] = {buffers: False, "find_unused_parameters": True, "gradient_as_bucket_view": True}
            self._losses = DistributedDataParallel(self._losses, **options)

    def compile_networks(self) -> str | None:
        """Compile the networks with `torch.compile`; if that fails, returns the reason and leaves them uncompiled.

        It is tried on a copy first, since a missing or faulty compiler shows only when a network is run.
        """
        patches = torch.randn(2, 1, *self.settings.patch_size, generator=torch.Generator().manual_seed(0))
        try:
            if not compiles_rightly(self.device, self.method.networks[self.method.predictor], patches):
                return "its results are wrong"
        except Exception as error:  # noqa: BLE001 - whatever the compiler raises, training continues without it
            return type(error).__name__
        for network in self.method.networks.values():
            network.compile()
        return None

    def close(self) -> None:
        """Release the process group that exchanges gradients, so that its threads end; no iteration may follow."""
        if isinstance(self._losses, DistributedDataParallel):
            self._losses = self._losses.module

    def __call__(self, batches: Sequence[Batch], progress: float, learning_rate: float) -> dict[str, float]:
        """Make one iteration with this process's parts of a batch.

        Returns
        -------
        dict
            The losses by name, as means over the parts of all processes; ``total`` is the one that is minimized. If
            it or its gradient is not finite, ``total`` is NaN and no weight was changed.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        statistics = _RunningStatistics(self.method, self.processes)
        parts = []
        for number, batch in enumerate(batches):
            # Dropout depends on seed and batch alone, so that a resumed run equals an uninterrupted one.
            torch.manual_seed(hash((self.settings.seed, batch.number)) % 2**63)
            with self._gradients_exchanged(number == len(batches) - 1):
                with self.device.autocast(), _small_patches_explained(self.settings):
                    loss: Loss = self._losses(batch, progress)
                self.scaler.scale(loss.total / len(batches)).backward()
            parts.append(_values(loss))
            statistics.take()
        means = self._means(parts)
        if math.isfinite(means["total"]) and not self._gradients_are_finite():
            means |= {"total": math.nan, "gradient": math.nan}
        if math.isfinite(means["total"]):
            statistics.average()
            self._optimizer_step(progress)
        if self.device.scales_gradients and self.scaler.get_scale() < _SMALLEST_SCALE:
            # The scale is halved with each skipped step: below this limit the gradient was not finite at any scale.
            means |= {"total": math.nan, "gradient": math.nan}
        return means

    def _gradients_are_finite(self) -> bool:
        """Whether all gradients are finite; always true with scaled gradients, which the scaler checks itself."""
        if self.device.scales_gradients:
            return True
        gradients = [parameter.grad for parameter in self.method.parameters() if parameter.grad is not None]
        return bool(torch.stack(torch._foreach_norm(gradients)).isfinite().all())

    def _optimizer_step(self, progress: float) -> None:
        if self.settings.gradient_clip:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.method.parameters(), self.settings.gradient_clip)
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.device.scales_gradients and self.scaler.get_scale() < scale:
            # The scaler has skipped the step.
            return
        phase = self.method.phase(progress)
        self.method.after_step(progress)
        if self.method.phase(progress) != phase:
            # The networks have just received other weights, which the momentum of the old ones does not fit.
            self.optimizer.state.clear()

    def _gradients_exchanged(self, now: bool) -> AbstractContextManager[None]:
        """Context that exchanges the gradients between processes only for the last part."""
        if now or not isinstance(self._losses, DistributedDataParallel):
            return nullcontext()
        return self._losses.no_sync()

    def _means(self, parts: Sequence[tuple[list[str], torch.Tensor]]) -> dict[str, float]:
        names = parts[0][0]
        values = self.processes.all_reduce_mean(torch.stack([values for _, values in parts]).mean(0))
        return dict(zip(names, values.tolist(), strict=True))

    def state(self) -> dict[str, Any]:
        """What resuming needs besides the networks' tensors."""
        return {
            "method_state": self.method.state(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """The reverse of :meth:`state`."""
        self.method.load_state(state["method_state"])
        self.optimizer.load_state_dict(state["optimizer"])
        # Empty where the run was begun on a device that scales no gradients.
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])


@contextmanager
def _small_patches_explained(settings: Settings) -> Iterator[None]:
    """Explain PyTorch's error for patches that are too few and too small to normalize, which depends on the method."""
    try:
        yield
    except ValueError as error:
        if _NOTHING_TO_NORMALIZE not in str(error):
            raise
        size = ",".join(map(str, settings.patch_size))
        raise TrainingError(
            f"Patches of {size} voxels are too small for {settings.normalization} normalization at the networks' "
            "coarsest level. Train with larger ones (patch_size, one side 32 at least), with more of them in a batch "
            "(labeled_batch, unlabeled_batch, fewer batch_parts) or with normalization=group."
        ) from error


class _Losses(nn.Module):
    """A method's loss as the forward pass of a module, as DistributedDataParallel needs it."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.learned = nn.ModuleDict(method.modules)
        self._method = method

    def forward(self, batch: Batch, progress: float) -> Loss:
        return self._method.loss(batch, progress)


class _RunningStatistics:
    """Averages the modules' buffers over the parts of a batch; every part starts from the same values.

    Until :meth:`average` is called the buffers keep their values from before the batch, so that a skipped batch leaves
    them unchanged.
    """

    def __init__(self, method: Method, processes: Processes) -> None:
        self._processes = processes
        self._buffers = [buffer for module in method.modules.values() for buffer in module.buffers()]
        self._averaged = [buffer for buffer in self._buffers if buffer.is_floating_point()]
        self._start = [buffer.clone() for buffer in self._buffers]
        self._counted: list[torch.Tensor] = []
        self._sum = [torch.zeros_like(buffer) for buffer in self._averaged]
        self._taken = 0

    def take(self) -> None:
        """Record the buffers as a part has left them, and restore them for the next part."""
        if not self._buffers:
            return
        torch._foreach_add_(self._sum, self._averaged)
        self._taken += 1
        self._counted = [buffer.clone() for buffer in self._buffers]
        torch._foreach_copy_(self._buffers, self._start)

    def average(self) -> None:
        """Set the buffers to the mean over all parts of all processes; counters of batches advance as for one part."""
        if not self._buffers:
            return
        torch._foreach_copy_(self._buffers, self._counted)
        flat = torch.cat([total.flatten() for total in self._sum]) / self._taken
        means = self._processes.all_reduce_mean(flat).split([buffer.numel() for buffer in self._averaged])
        for buffer, mean in zip(self._averaged, means, strict=True):
            buffer.copy_(mean.view_as(buffer))


def _values(loss: Loss) -> tuple[list[str], torch.Tensor]:
    """Names and values of a loss's parts; one tensor, so that the GPU is synchronized only once."""
    named = {"total": loss.total, **loss.parts}
    return list(named), torch.stack([value.detach().float() for value in named.values()])


def _optimizer(method: Method, settings: Settings) -> torch.optim.Optimizer:
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(
            method.parameters(), settings.learning_rate, weight_decay=settings.weight_decay, foreach=True
        )
    return torch.optim.SGD(
        method.parameters(),
        settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        foreach=True,
    )
