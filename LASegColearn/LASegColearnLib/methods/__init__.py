"""The methods by name. Each file in this folder is one method; there is no list to extend.

Names and titles are read from the files' text, so that the panel can show the methods without importing PyTorch.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.settings import Settings

if TYPE_CHECKING:
    from LASegColearnLib.methods.base import Method

__all__ = ["METHODS", "create_method", "fewest_cases", "method_class", "method_names", "method_titles"]

_FOLDER = Path(__file__).parent
_NOT_METHODS = ("__init__", "base")


def method_names() -> list[str]:
    """The names of all methods, the default one first, the others in alphabetical order. Imports none of them."""
    names = sorted(path.stem for path in _FOLDER.glob("*.py") if path.stem not in _NOT_METHODS)
    return sorted(names, key=lambda name: name != Settings.method)


def method_titles() -> dict[str, str]:
    """For each method a sentence about it. Imports none of them."""
    return {name: str(_attribute(name, "title")) for name in method_names()}


@lru_cache
def fewest_cases(name: str) -> tuple[int, int]:
    """Smallest numbers of labeled and unlabeled cases that a method needs for training. Imports none."""
    return (2, 2) if _attribute(name, "needs_unlabeled") else (1, 0)


def _attribute(method: str, name: str) -> Any:
    """The literal value that a method's file assigns to this name."""
    for node in ast.walk(ast.parse((_FOLDER / f"{method}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return ast.literal_eval(node.value)
    raise ValueError(f"The method {method} has no {name}.")


class _Methods(Mapping[str, "type[Method]"]):
    """Classes by name; a method is imported at its first use."""

    def __getitem__(self, name: str) -> type[Method]:
        if name not in method_names():
            raise KeyError(name)
        from LASegColearnLib.methods.base import Method

        module = import_module(f"{__name__}.{name}")
        (found,) = (
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
        )
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(method_names())

    def __len__(self) -> int:
        return len(method_names())


METHODS: Mapping[str, type[Method]] = _Methods()


def method_class(name: str) -> type[Method]:
    """Return the method called ``name``; raise :class:`InputError` if there is none."""
    if name not in METHODS:
        raise InputError(Problem("--method", f"Wanted one of {', '.join(METHODS)}, found {name!r}.", "Choose one."))
    return METHODS[name]


def create_method(settings: Settings) -> Method:
    """The method that ``settings`` name, with freshly initialized networks."""
    return method_class(settings.method)(settings)
