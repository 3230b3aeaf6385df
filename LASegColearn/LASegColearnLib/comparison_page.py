"""A page that compares trained methods: tables, paired differences, curves, overlays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from LASegColearnLib.cohort import Cohort
from LASegColearnLib.curves import dice_curves
from LASegColearnLib.evaluation import EvaluatedCase
from LASegColearnLib.events import read_events
from LASegColearnLib.methods import METHODS
from LASegColearnLib.overlays import case_overlay
from LASegColearnLib.page import MEASURES, Picture, mean_text, picture, render
from LASegColearnLib.paired_comparison import compare_paired
from LASegColearnLib.run_folder import write_text_atomically

if TYPE_CHECKING:
    from LASegColearnLib.comparison import Plan, Trained


def write_comparison_page(path: Path, trained: Sequence[Trained], cohort: Cohort, plan: Plan) -> Path:
    """Write the page: a single self-contained file that names no paths.

    Parameters
    ----------
    path
        The file to write.
    trained
        All trainings: one for each method, number of labels and seed.
    cohort
        Cohort with the validation cases' scans, for the pictures.
    plan
        What was compared.
    """
    sections = []
    for labeled in plan.labeled:
        own = [one for one in trained if one.labeled == labeled]
        sections.append(
            {
                "labeled": labeled,
                "published": table_rows(own, plan.methods, "published"),
                "own": table_rows(own, plan.methods, "own"),
                "differences": difference_rows(own, plan.methods),
                "cost": cost_rows(own, plan.methods),
                "devices": sorted({one.device for one in own}),
                "curves": _curves(own),
                "overlays": _overlays(own, plan.methods, cohort),
            }
        )
    page = render(
        "comparison.html.j2",
        methods=[(name, METHODS[name]) for name in plan.methods],
        first=plan.methods[0],
        measures=[title for title, _ in MEASURES.values()],
        length=f"{plan.minutes:g} minutes" if plan.minutes is not None else f"{plan.iterations} iterations",
        preset=plan.preset,
        changes=plan.changes,
        seeds=len(plan.seeds),
        cases=len(cohort.validation),
        unlabeled=len(cohort.labeled) + len(cohort.unlabeled),
        sections=sections,
    )
    write_text_atomically(path, page)
    return path


def table_rows(trained: Sequence[Trained], methods: Sequence[str], protocol: str) -> list[dict[str, Any]]:
    """A row for each method: mean ± standard deviation over cases and seeds by ``published`` or ``own`` protocol."""
    rows = []
    for method in methods:
        found = [row for one in trained if one.method == method for row in getattr(one, protocol)]
        cells = [
            mean_text([getattr(row.metrics, name) for row in found], factor) for name, (_, factor) in MEASURES.items()
        ]
        rows.append({"method": method, "cells": cells})
    return rows


def difference_rows(trained: Sequence[Trained], methods: Sequence[str]) -> list[dict[str, Any]]:
    """Dice of the first method minus that of each other one, paired by case (means over the seeds), in points.

    No difference is given if the two were evaluated on different cases.
    """
    dice = {method: _dice_by_case(trained, method) for method in methods}
    rows: list[dict[str, Any]] = []
    first = dice[methods[0]]
    for method in methods[1:]:
        other = dice[method]
        if not first or first.keys() != other.keys():
            unknown = {"mean": "–", "interval": "–", "verdict": "not comparable: evaluated on other cases"}
            rows.append({"method": method, **unknown, "cases": len(other)})
            continue
        found = compare_paired([first[case] for case in first], [other[case] for case in first])
        interval = "–" if found.low is None else f"{100 * found.low:+.2f} to {100 * (found.high or 0.0):+.2f}"
        rows.append(
            {
                "method": method,
                "mean": f"{100 * found.mean:+.2f}",
                "interval": interval,
                "verdict": found.verdict,
                "cases": found.cases,
            }
        )
    return rows


def cost_rows(trained: Sequence[Trained], methods: Sequence[str]) -> list[dict[str, str]]:
    """Iterations, iterations per second, peak memory and number of models of each method.

    Means over the seeds, but the maximum of the memory; different numbers of models are all listed.
    """
    rows = []
    for method in methods:
        own = [one for one in trained if one.method == method]
        memory = [one.peak_memory_gb for one in own if one.peak_memory_gb is not None]
        rows.append(
            {
                "method": method,
                "iterations": f"{np.mean([one.iterations for one in own]):.0f}",
                "rate": f"{np.mean([one.iterations / one.seconds for one in own]):.2f}",
                "memory": f"{max(memory):.2f}" if memory else "–",
                "models": " or ".join(str(models) for models in sorted({one.models for one in own})),
            }
        )
    return rows


def _dice_by_case(trained: Sequence[Trained], method: str) -> dict[str, float]:
    """Dice by case, mean over the seeds, by the published protocol."""
    by_case: dict[str, list[float]] = {}
    for one in trained:
        if one.method == method:
            for row in one.published:
                by_case.setdefault(row.case, []).append(row.metrics.dice)
    return {case: float(np.mean(values)) for case, values in sorted(by_case.items())}


def _curves(trained: Sequence[Trained]) -> Picture | None:
    """The predicting network's Dice over the minutes, for the first seed."""
    runs = {}
    for one in trained:
        if one.method not in runs:
            network = one.published[0].network if one.published else ""
            runs[one.method] = [_only(event, network) for event in read_events(one.run.events)]
    return picture(dice_curves(runs), "Dice on validation cases over the minutes")


def _only(event: dict[str, Any], network: str) -> dict[str, Any]:
    """A validation event reduced to the predicting network."""
    if event["event"] != "validated":
        return event
    return {**event, "dice": {name: value for name, value in event["dice"].items() if name == network}}


def _overlays(trained: Sequence[Trained], methods: Sequence[str], cohort: Cohort) -> list[tuple[str, Picture]]:
    """The median and the worst case of each method, for the first seed."""
    pictures = []
    for method in methods:
        one = next(one for one in trained if one.method == method)
        ranked = sorted(one.own, key=lambda row: row.metrics.dice)
        for name, row in (("median", ranked[len(ranked) // 2]), ("worst", ranked[0])):
            title = f"{method}, {name} case, {row.case}: Dice {100 * row.metrics.dice:.1f} %"
            shown = picture(_overlay(one, row, cohort), f"Outlines on the scan, {title}")
            if shown is not None:
                pictures.append((title, shown))
    return pictures


def _overlay(one: Trained, row: EvaluatedCase, cohort: Cohort) -> bytes | None:
    case = next((case for case in cohort.validation if case.id == row.case), None)
    return None if case is None else case_overlay(case, one.run.predictions / case.id / "segmentation.seg.nrrd")
