"""The methods by name; each is one file of this folder."""

from __future__ import annotations

from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.methods.base import Batch, Loss, Method
from LASegColearnLib.methods.colearning import CoLearning
from LASegColearnLib.methods.supervised import Supervised
from LASegColearnLib.settings import Settings

METHODS: dict[str, type[Method]] = {"colearning": CoLearning, "supervised": Supervised}

__all__ = ["METHODS", "Batch", "Loss", "Method", "create_method", "method_class"]


def method_class(name: str) -> type[Method]:
    """Return the method called ``name``; raise :class:`InputError` if there is none."""
    if name not in METHODS:
        raise InputError(Problem("--method", f"Wanted one of {', '.join(METHODS)}, found {name!r}.", "Choose one."))
    return METHODS[name]


def create_method(settings: Settings) -> Method:
    """The method that ``settings`` name, with freshly initialized networks."""
    return method_class(settings.method)(settings)
