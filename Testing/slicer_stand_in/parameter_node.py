"""slicer.parameterNodeWrapper for the types that the module uses: values in a node, bound to widgets of the panel."""

from __future__ import annotations

from typing import Annotated, Any, get_args, get_origin, get_type_hints

import vtk
from PySide6 import QtWidgets

from slicer_stand_in.pythonqt import bare


class WithinRange:
    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum, self.maximum = minimum, maximum

    def check(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not between {self.minimum} and {self.maximum}")


class Choice:
    def __init__(self, choices: list[str]) -> None:
        self.choices = choices

    def check(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"{value!r} is none of {self.choices}")


# Exactly these types, as the real connectors: (read, write, signal).
_EMPTY = "(empty)"
_CONNECTORS: dict[tuple[type, type], Any] = {
    (QtWidgets.QCheckBox, bool): (lambda w: w.isChecked(), lambda w, v: w.setChecked(v), "stateChanged"),
    (QtWidgets.QSpinBox, int): (lambda w: w.value(), lambda w, v: w.setValue(v), "valueChanged"),
    (QtWidgets.QDoubleSpinBox, float): (lambda w: w.value(), lambda w, v: w.setValue(v), "valueChanged"),
    (QtWidgets.QComboBox, str): (
        lambda w: w.currentText(),
        lambda w, v: _choose(w, v),
        "currentTextChanged",
    ),
    (QtWidgets.QLineEdit, str): (lambda w: w.text(), lambda w, v: w.setText(v), "textChanged"),
}


def _choose(box: QtWidgets.QComboBox, text: str) -> None:
    index = box.findText(text)
    if index < 0:
        raise ValueError(f"Unable to find value {text!r} in choices.")
    box.setCurrentIndex(index)


def parameterNodeWrapper(wrapped: type) -> type:
    hints = get_type_hints(wrapped, include_extras=True)
    parameters: dict[str, tuple[type, list[Any], Any]] = {}
    for name, hint in hints.items():
        kind, checks = (get_args(hint)[0], list(get_args(hint)[1:])) if get_origin(hint) is Annotated else (hint, [])
        choices = [check.choices[0] for check in checks if isinstance(check, Choice)]
        default = getattr(wrapped, name, choices[0] if choices else None if _isNode(kind) else kind())
        parameters[name] = (kind, checks, default)

    class ParameterNode:
        def __init__(self, node: Any) -> None:
            object.__setattr__(self, "parameterNode", node)
            object.__setattr__(self, "_bound", {})
            for name, (kind, _checks, default) in parameters.items():
                if not _isNode(kind) and not node.GetParameter(name):
                    node.SetParameter(name, _text(default))

        def __getattr__(self, name: str) -> Any:
            if name not in parameters:
                raise AttributeError(name)
            kind = parameters[name][0]
            if _isNode(kind):
                return self.parameterNode.GetNodeReference(name)
            text = self.parameterNode.GetParameter(name)
            return text == "True" if kind is bool else "" if text == _EMPTY else kind(text)

        def __setattr__(self, name: str, value: Any) -> None:
            if name not in parameters:
                raise AttributeError(f"There is no parameter {name}.")
            kind, checks, _default = parameters[name]
            if _isNode(kind):
                self.parameterNode.SetNodeReferenceID(name, None if value is None else value.GetID())
                return
            if not isinstance(value, kind) and not (kind is float and isinstance(value, int)):
                raise TypeError(f"{name} wants {kind.__name__}, not {value!r}.")
            for check in checks:
                check.check(value)
            self.parameterNode.SetParameter(name, _text(value))

        def AddObserver(self, event: int, callback: Any) -> int:
            return int(self.parameterNode.AddObserver(event, callback))

        def connectGui(self, ui: Any) -> None:
            """Slicer's own, up to 5.10 at least, does not return the tag: what it binds can never be unbound."""
            widgets = [bare(w) for w in vars(ui).values()]
            self.connectParametersToGui(
                {name: widget for widget in widgets if (name := widget.property("SlicerParameterName"))}
            )

        def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
            bound = []
            for name, widget in ((name, bare(widget)) for name, widget in mapping.items()):
                if name not in parameters:
                    raise ValueError(f"{widget.objectName()} is bound to {name}, which is no parameter.")
                kind, checks, _default = parameters[name]
                if (type(widget), kind) not in _CONNECTORS:
                    raise ValueError(f"{name} ({kind.__name__}) cannot be bound to a {type(widget).__name__}.")
                bound.append(_bind(self, name, widget, _CONNECTORS[type(widget), kind], checks))
            self._bound[len(self._bound)] = bound
            return len(self._bound) - 1

        def disconnectGui(self, tag: int) -> None:
            for signal, handler, node, observer in self._bound.pop(tag):
                signal.disconnect(handler)
                node.RemoveObserver(observer)

    ParameterNode.__name__ = wrapped.__name__
    return ParameterNode


def _bind(node: Any, name: str, widget: Any, connector: Any, checks: list[Any]) -> tuple[Any, Any, Any, int]:
    read, write, signalName = connector
    for check in checks:
        if isinstance(check, Choice):
            widget.clear()
            widget.addItems(check.choices)
        elif isinstance(check, WithinRange):
            widget.setRange(check.minimum, check.maximum)
    write(widget, getattr(node, name))

    def toNode(*_arguments: Any) -> None:
        setattr(node, name, read(widget))

    def toWidget(_caller: Any, _event: Any) -> None:
        if read(widget) != getattr(node, name):
            write(widget, getattr(node, name))

    signal = getattr(widget, signalName)
    signal.connect(toNode)
    observer = node.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, toWidget)
    return signal, toNode, node.parameterNode, observer


def _isNode(kind: Any) -> bool:
    return isinstance(kind, type) and kind.__name__.startswith("vtkMRML")


def _text(value: Any) -> str:
    # A node keeps no empty parameter.
    return _EMPTY if value == "" else str(value)
