"""Checkpoints: they hold only tensors and plain values, are written atomically, and are read without running code."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from LASegColearnLib.committee import Committee
from LASegColearnLib.errors import InputError, Problem, is_out_of_memory, not_readable
from LASegColearnLib.methods import create_method
from LASegColearnLib.run_folder import replacing
from LASegColearnLib.settings import Settings

FORMAT = 1
# Key of the other models' tensors in a checkpoint.
_COMMITTEE = "committee"
# Time to retry while a virus scanner or backup reads the last checkpoint, so that no training is lost by that.
_SECONDS_OF_PATIENCE = 60.0
# Exceptions that a damaged checkpoint may raise besides UnpicklingError.
_OF_DAMAGED = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
    struct.error,
)


@dataclass
class Model:
    """Trained networks, ready to predict.

    Attributes
    ----------
    settings
        The settings that they were trained with.
    networks
        Networks by name, in evaluation mode, without those that had not started to learn when training was stopped. If
        several models were trained at the same time, the predicting network is the
        :class:`~LASegColearnLib.committee.Committee` of all, and the other networks are the first model's.
    predictor
        Name of the network that predicts by default.
    iteration
        Number of iterations that they were trained for.
    """

    settings: Settings
    networks: dict[str, nn.Module]
    predictor: str
    iteration: int


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` (tensors, plain values, dicts and lists of them) to ``path`` atomically."""
    with replacing(path, _SECONDS_OF_PATIENCE) as temporary:
        torch.save({"format": FORMAT, **content}, temporary)
        # It replaces the only checkpoint there is, so it must be on the disk even if the power fails.
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())


def load_checkpoint(path: Path, *, needed: Sequence[str] = ("networks",)) -> dict[str, Any]:
    """Read a checkpoint into the CPU's memory, on whatever device it was written.

    Parameters
    ----------
    needed
        Names of the entries that it must have.

    Raises
    ------
    InputError
        If the file is missing, may not be read, is not a checkpoint, is truncated, holds anything but tensors and plain
        values, or is from a newer version.
    """
    name = path.name
    try:
        is_file = path.is_file()
    except OSError:
        raise not_readable(name) from None
    if not is_file:
        raise InputError(
            Problem(name, "There is no such checkpoint.", "Give the path of a .pt file that training wrote.")
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        if not _may_hold_code(path):
            raise InputError(
                Problem(name, "It is no checkpoint.", "Give the path of a .pt file that training wrote.")
            ) from None
        raise InputError(
            Problem(name, "It holds more than tensors and plain values, which could run code.", "Do not use this file.")
        ) from None
    except PermissionError:
        raise not_readable(name) from None
    except _OF_DAMAGED as error:
        if is_out_of_memory(error):
            raise
        raise InputError(
            Problem(name, "It is not a whole checkpoint: cut short or damaged.", "Copy it again, or use another one.")
        ) from None
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise _of_another_kind(name)
    if content["format"] > FORMAT:
        raise InputError(Problem(name, "It was written by a newer version.", "Update LASegColearn."))
    if not all(isinstance(content.get(part), dict) for part in needed):
        raise _of_another_kind(name)
    return content


def _of_another_kind(name: str) -> InputError:
    return InputError(Problem(name, "It is not a checkpoint of LASegColearn.", "Give one that `train` wrote."))


def _may_hold_code(path: Path) -> bool:
    """Whether the file is an archive or a pickle, not for example a web page saved under the wrong name."""
    with path.open("rb") as file:
        return zipfile.is_zipfile(path) or file.read(1) == pickle.PROTO


def load_model(path: Path) -> Model:
    """Read the networks of a checkpoint for prediction, on the CPU.

    Raises
    ------
    InputError
        As :func:`load_checkpoint` does.
    """
    content = load_checkpoint(path, needed=("networks", "settings"))
    settings = Settings.from_dict(content["settings"])
    # Early versions allowed mirroring without flips in training.
    settings = replace(settings, mirror=settings.mirror and settings.axial_flips).checked()
    method = create_method(settings)
    load_modules(method.networks, content["networks"], path.name)
    if not isinstance(content.get("method_state"), dict) or not isinstance(content.get("iteration"), int):
        raise _of_another_kind(path.name)
    method.load_state(content["method_state"])
    networks = dict(method.networks_in_training())
    others = _others(content, settings, path.name)
    if others:
        networks[method.predictor] = Committee([networks[method.predictor], *others])
    for network in networks.values():
        network.eval().requires_grad_(False)
    return Model(settings, networks, method.predictor, int(content["iteration"]))


def _others(content: dict[str, Any], settings: Settings, name: str) -> list[nn.Module]:
    """The predicting networks of the further models in a checkpoint."""
    others = content.get(_COMMITTEE, [])
    if not isinstance(others, list) or not all(isinstance(tensors, dict) for tensors in others):
        raise _of_another_kind(name)
    found = []
    for tensors in others:
        method = create_method(settings)
        network = method.networks[method.predictor]
        load_modules({method.predictor: network}, {method.predictor: tensors}, name)
        found.append(network)
    return found


def predicting_tensors(path: Path) -> dict[str, Any]:
    """The tensors of a checkpoint's predicting network. Raises as :func:`load_checkpoint` does."""
    content = load_checkpoint(path)
    return dict(content["networks"][content["predictor"]])


def committee_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The tensors of the predicting networks of a checkpoint's further models."""
    return list(content.get(_COMMITTEE, []))


def predict_together(path: Path, others: Sequence[dict[str, Any]]) -> None:
    """Rewrite a checkpoint with the tensors of other models' predicting networks, which then predict with its own."""
    save_checkpoint(path, {**load_checkpoint(path), _COMMITTEE: list(others)})


def load_modules(modules: dict[str, nn.Module], tensors: dict[str, Any], name: str) -> None:
    """Load the tensors of checkpoint ``name`` into ``modules``; raises :class:`InputError` if they do not fit."""
    try:
        for key, module in modules.items():
            module.load_state_dict(tensors[key])
    except (KeyError, RuntimeError):
        raise other_layout(name) from None


def other_layout(name: str) -> InputError:
    """The error for a checkpoint whose tensors do not fit."""
    return InputError(
        Problem(name, "Its networks have another layout than these settings give.", "Use the settings of its run.")
    )
