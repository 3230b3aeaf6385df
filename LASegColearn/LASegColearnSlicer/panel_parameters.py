"""The panel's state, which Slicer keeps with the scene."""

from __future__ import annotations

from typing import Annotated, Any

from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from LASegColearnLib.methods import method_names

# The first entry of each list is the default.
_PRESETS = ["cpu", "paper", "demo"]
_METHODS = method_names()
_DEVICES = ["auto", "cuda", "mps", "cpu"]
_CHOICES = {"preset": _PRESETS, "method": _METHODS, "device": _DEVICES}


@parameterNodeWrapper
class PanelParameters:
    """The panel's state.

    studyFolder
        Folder of the study; its cases, models and predictions are kept there, not in the scene.
    preset, method, device, minutes, byIterations, iterations
        How to train.
    changedSettings
        Changes in the table of settings and their preset, as JSON.
    retrainMinutes
        Length of a retraining; 0: a third of the current model's training, or the same if that was a retraining.
    showSurface, showUncertainty
        Which parts of a prediction are shown.
    """

    studyFolder: str = ""
    preset: Annotated[str, Choice(_PRESETS)] = "cpu"
    method: Annotated[str, Choice(_METHODS)] = "colearning"
    device: Annotated[str, Choice(_DEVICES)] = "auto"
    minutes: Annotated[float, WithinRange(0.1, 10000.0)] = 60.0
    byIterations: bool = False
    iterations: Annotated[int, WithinRange(1, 1000000)] = 6000
    changedSettings: str = ""
    retrainMinutes: Annotated[float, WithinRange(0.0, 10000.0)] = 0.0
    showSurface: bool = True
    showUncertainty: bool = True


def replaceUnknownChoices(node: Any) -> list[str]:
    """Replace choices that this installation does not know with the defaults, and return the replaced ones.

    Slicer does not check what it reads, and raises an error if a combo box has no such text (guiConnectors.py).
    """
    unknown = {name: getattr(node, name) for name, known in _CHOICES.items() if getattr(node, name) not in known}
    for name in unknown:
        setattr(node, name, _CHOICES[name][0])
    return [f"{name} {chosen}" for name, chosen in unknown.items()]
