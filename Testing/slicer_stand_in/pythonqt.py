"""Qt as PythonQt shows it, on PySide6: properties are attributes, signals are connected by their signatures.

What is not a property, signal or public method of the C++ class raises, where PythonQt is silent or prints a line.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

_MODULES = (QtCore, QtGui, QtWidgets)
_INTERNAL = "_qt"
# What a property of a plain type takes; Qt itself would make something of anything.
_TAKEN: dict[type, Any] = {str: str, bool: bool, int: int, float: (int, float)}


class _QtMeta(type):
    """Enums and static functions of a Qt class: `qt.Qt.Checked`, `qt.QFileDialog.getExistingDirectory`."""

    qtClass: Any

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _wrapped(getattr(cls.qtClass, name))


class PythonQtObject(metaclass=_QtMeta):
    """A Qt object with PythonQt's manners; subclasses may override `eventFilter`."""

    qtClass: Any = QtCore.QObject

    def __init__(self, *arguments: Any) -> None:
        qtClass = type(self).qtClass
        if "eventFilter" in vars(type(self)):
            qtClass = _filtering(qtClass, self)
        object.__setattr__(self, _INTERNAL, qtClass(*map(bare, arguments)))

    def __getattr__(self, name: str) -> Any:
        qtObject = object.__getattribute__(self, _INTERNAL)
        meta = qtObject.metaObject() if isinstance(qtObject, QtCore.QObject) else None
        if meta is not None:
            if meta.indexOfProperty(name) >= 0:
                return _wrapped(qtObject.property(name))
            if any(meta.method(i).name().data().decode() == name for i in _signals(meta)):
                raise AttributeError(f"Connect the signal {name} by its signature.")
        if not _isPublic(type(qtObject), name, meta):
            raise AttributeError(f"{type(qtObject).__name__} has no property, signal or method {name}.")
        return _wrapped(getattr(qtObject, name))

    def __setattr__(self, name: str, value: Any) -> None:
        qtObject = object.__getattribute__(self, _INTERNAL)
        meta = qtObject.metaObject() if isinstance(qtObject, QtCore.QObject) else None
        index = -1 if meta is None else meta.indexOfProperty(name)
        if index < 0:
            if type(self).__module__ != __name__:
                # A Python subclass has attributes of its own.
                object.__setattr__(self, name, value)
                return
            raise AttributeError(f"{type(qtObject).__name__} has no property {name}.")
        taken = _TAKEN.get(type(qtObject.property(name)), object)
        if not isinstance(value, taken) or not qtObject.setProperty(name, bare(value)):
            raise TypeError(f"{type(qtObject).__name__}.{name} does not take {value!r}.")

    def connect(self, signature: str, receiver: Callable[..., Any]) -> bool:
        qtObject = object.__getattribute__(self, _INTERNAL)
        normalized = _checked(qtObject, signature)
        connected = _connections(qtObject)
        handler = _taking(receiver, normalized)
        connected.append((normalized, receiver, handler))
        return bool(QtCore.QObject.connect(qtObject, QtCore.SIGNAL(normalized), handler))

    def disconnect(self, signature: str, receiver: Callable[..., Any]) -> bool:
        qtObject = object.__getattribute__(self, _INTERNAL)
        normalized = _checked(qtObject, signature)
        connected = _connections(qtObject)
        for entry in connected:
            if entry[0] == normalized and entry[1] == receiver:
                connected.remove(entry)
                return bool(QtCore.QObject.disconnect(qtObject, QtCore.SIGNAL(normalized), entry[2]))
        raise ValueError(f"{signature} was not connected to this.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PythonQtObject) and bare(self) is bare(other)

    def __hash__(self) -> int:
        return id(bare(self))


class QtModule:
    """The flat namespaces `qt` and `ctk`."""

    def __init__(self, name: str, own: dict[str, Any] | None = None) -> None:
        self.__name__ = name
        self._own = own
        self._made: dict[str, type] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in self._made:
            self._made[name] = classFor(self._find(name))
        return self._made[name]

    def _find(self, name: str) -> Any:
        if self._own is not None:
            if name in self._own:
                return self._own[name]
        else:
            for module in _MODULES:
                if hasattr(module, name):
                    return getattr(module, name)
        raise AttributeError(f"{self.__name__} has no {name}.")


_classes: dict[Any, type] = {}


def classFor(qtClass: Any) -> type:
    """PythonQt's class for a class of PySide6."""
    if qtClass not in _classes:
        _classes[qtClass] = _QtMeta(qtClass.__name__, (PythonQtObject,), {"qtClass": qtClass, "__module__": __name__})
    return _classes[qtClass]


def bare(value: Any) -> Any:
    """The object of PySide6 behind one of PythonQt."""
    if isinstance(value, PythonQtObject):
        return object.__getattribute__(value, _INTERNAL)
    return value


def wrap(qtObject: Any) -> Any:
    """One of PythonQt for an object of PySide6; the same one each time for classes written in Python."""
    own = getattr(qtObject, "_pythonqt", None)
    if own is not None:
        return own
    wrapper = object.__new__(classFor(type(qtObject)))
    object.__setattr__(wrapper, _INTERNAL, qtObject)
    return wrapper


def _wrapped(value: Any) -> Any:
    if isinstance(value, QtCore.QObject):
        return wrap(value)
    if isinstance(value, (list, tuple)):
        return tuple(_wrapped(item) for item in value)
    if callable(value) and not inspect.isclass(value):
        return lambda *arguments: _wrapped(value(*map(bare, arguments)))
    return value


def _filtering(qtClass: Any, outer: Any) -> Any:
    class Filtering(qtClass):  # type: ignore[misc]
        def eventFilter(self, watched: Any, event: Any) -> bool:
            return bool(outer.eventFilter(wrap(watched), event))

    return Filtering


def _isPublic(qtClass: type, name: str, meta: Any) -> bool:
    for base in qtClass.__mro__:
        if name in base.__dict__ and not name.startswith("_"):
            native = base.__module__.startswith(("PySide6", "Shiboken"))
            return native or any(meta.method(i).name().data().decode() == name for i in range(meta.methodCount()))
    return False


def _signals(meta: Any) -> list[int]:
    kinds = QtCore.QMetaMethod.MethodType.Signal
    return [i for i in range(meta.methodCount()) if meta.method(i).methodType() == kinds]


def _checked(qtObject: Any, signature: str) -> str:
    # Types of VTK are Python objects in PySide6.
    python = re.sub(r"vtk\w+\s*\*", "PyObject", signature)
    normalized = QtCore.QMetaObject.normalizedSignature(python).data().decode()
    if qtObject.metaObject().indexOfSignal(normalized) < 0:
        raise ValueError(f"{type(qtObject).__name__} has no signal {signature}.")
    return normalized


def _connections(qtObject: Any) -> list[tuple[str, Any, Any]]:
    if not hasattr(qtObject, "_connected"):
        qtObject._connected = []
    return qtObject._connected  # type: ignore[no-any-return]


def _taking(receiver: Callable[..., Any], signature: str) -> Callable[..., Any]:
    """Surplus arguments are dropped, as PythonQt does."""
    most = len([part for part in signature.partition("(")[2].rstrip(")").split(",") if part])
    try:
        parameters = inspect.signature(receiver).parameters.values()
        if not any(p.kind is p.VAR_POSITIONAL for p in parameters):
            most = min(most, len([p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]))
    except ValueError:
        pass
    takers: dict[int, Callable[..., Any]] = {
        0: lambda: receiver(),
        1: lambda a: receiver(_wrapped(a)),
        2: lambda a, b: receiver(_wrapped(a), _wrapped(b)),
    }
    return takers[most]
