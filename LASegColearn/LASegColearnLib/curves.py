"""Plots of a run's events."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colors, which people with any color vision can distinguish.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Line styles, if there are more curves than colors.
STYLES = ("-", "--", ":")
# A legend with more entries would cover the curves.
_MOST_IN_THE_AXES = 4
_ON_LABELS = ("labeled", "labeled_1", "labeled_2")
_LOSS_GROUPS = {
    "each other's pseudo-labels": "cps_",
    "the teacher's pseudo-labels": "teacher_",
    "mixed patches": "mix_",
}
# Recorded values that are not drawn as losses: the total, and indicators of health.
_NO_LOSSES = ("total", "disagreement", "pseudo_label_volume", "sure")


def loss_curves(events: Sequence[dict[str, Any]]) -> bytes | None:
    """The parts of the loss over the iterations, one panel per kind, as PNG; None if there is no progress yet."""
    progress = [event for event in events if event["event"] == "progress"]
    names = list(dict.fromkeys(name for event in progress for name in event["losses"]))
    panels = _panels(names)
    if not panels:
        return None
    figure = Figure(figsize=(3.0 * len(panels) + 0.6, 2.7), layout="constrained")
    for axes, (title, members) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for number, name in enumerate(members):
            points = [(e["iteration"], e["losses"][name]) for e in progress if e["losses"].get(name) is not None]
            color, style = _look(number)
            axes.plot(*zip(*points, strict=True), color=color, linestyle=style, linewidth=1, label=name)
        _mark_phases(axes, progress)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("iteration", fontsize=8)
        axes.set_ylim(bottom=min(0.0, axes.dataLim.y0))
        _tidy(axes)
    return _png(figure)


def dice_curves(runs: Mapping[str, Sequence[dict[str, Any]]]) -> bytes | None:
    """Dice on the validation cases over the minutes, for the networks of each run, as PNG; None without validation."""
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    drawn = 0
    for title, events in runs.items():
        validated = [event for event in events if event["event"] == "validated"]
        for name in dict.fromkeys(name for event in validated for name in event["dice"]):
            points = [
                (event["elapsed_seconds"] / 60, 100 * event["dice"][name])
                for event in validated
                if event["dice"].get(name) is not None
            ]
            if points:
                label = name if len(runs) == 1 else f"{title}: {name}"
                color, style = _look(drawn)
                axes.plot(
                    *zip(*points, strict=True), marker="o", color=color, linestyle=style, markersize=3, label=label
                )
                drawn += 1
    if not drawn:
        return None
    axes.set_xlabel("minutes", fontsize=8)
    axes.set_ylabel("Dice on validation cases, %", fontsize=8)
    few = drawn <= _MOST_IN_THE_AXES
    _tidy(axes, legend=few)
    if not few:
        figure.legend(loc="outside right upper", fontsize=7, frameon=False)
    return _png(figure)


def _panels(names: Sequence[str]) -> dict[str, list[str]]:
    """Names of losses by panel; without empty panels."""
    panels = {"on labels": [name for name in names if name in _ON_LABELS]}
    panels |= {title: [name for name in names if name.startswith(start)] for title, start in _LOSS_GROUPS.items()}
    shown = {name for members in panels.values() for name in members}
    panels["other losses"] = [name for name in names if name not in shown and name not in _NO_LOSSES]
    return {title: members for title, members in panels.items() if members}


def _look(number: int) -> tuple[str, str]:
    """Color and line style of the curve with this number."""
    return COLORS[number % len(COLORS)], STYLES[number // len(COLORS) % len(STYLES)]


def _mark_phases(axes: Axes, progress: Sequence[dict[str, Any]]) -> None:
    """Draw a line where a new phase of the training begins."""
    for earlier, later in zip(progress[:-1], progress[1:], strict=True):
        if earlier.get("phase") != later.get("phase"):
            axes.axvline(later["iteration"], color="0.6", linewidth=0.8, linestyle=":")
            axes.annotate(
                str(later.get("phase")),
                (later["iteration"], 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(3, -8),
                textcoords="offset points",
                fontsize=6,
                color="0.4",
            )


def _tidy(axes: Axes, *, legend: bool = True) -> None:
    axes.grid(color="0.92")
    axes.tick_params(labelsize=7)
    if legend:
        axes.legend(fontsize=7, frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
