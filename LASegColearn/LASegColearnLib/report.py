"""The verb `report`: one page about a run and its results."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from LASegColearnLib.cohort import Cohort, load_cohort
from LASegColearnLib.curves import dice_curves, loss_curves
from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.events import read_events
from LASegColearnLib.methods import METHODS, method_class
from LASegColearnLib.overlays import case_overlay
from LASegColearnLib.page import MEASURES, Picture, mean_text, picture, render
from LASegColearnLib.predecessors import read_predecessors
from LASegColearnLib.run_folder import RunFolder, write_text_atomically
from LASegColearnLib.settings import Settings

_VOLUMES = {"volume_ml": ("volume, mL", 1.0), "reference_volume_ml": ("label, mL", 1.0)}
_MOST_OVERLAYS = 3


@dataclass(frozen=True)
class _Row:
    """A line of `metrics.csv`."""

    case: str
    network: str
    unit: str
    values: dict[str, float]
    note: str


@dataclass(frozen=True)
class _Run:
    """A run's data on the page.

    Attributes
    ----------
    title
        The run's name on the page.
    rows
        Metrics of the cases that neither it nor a model that it was started from was trained on.
    remarks
        Remarks about these figures.
    """

    title: str
    folder: RunFolder
    settings: Settings
    cohort: Cohort
    events: list[dict[str, Any]]
    rows: list[_Row]
    remarks: list[str]

    @property
    def predictor(self) -> str:
        """The network that made the segmentations in the run's predictions: the first in its metrics."""
        return self.rows[0].network if self.rows else ""


def write_report(run: Path, *, compare_with: Path | None = None) -> Path:
    """Write ``report.html`` into a run folder: a single self-contained file that names no paths.

    Parameters
    ----------
    run
        The run folder; the run may be unfinished, and without validation cases or predictions.
    compare_with
        Another run folder whose figures are shown beside it.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        If there is no run in a folder.
    """
    runs = [_read_run(path) for path in (run, compare_with) if path is not None]
    if len(runs) == 2 and runs[0].title == runs[1].title:
        names = ("this run", "other run")
        runs = [replace(one, title=f"{one.title}, {name}") for one, name in zip(runs, names, strict=True)]
    own = runs[0]
    page = render(
        "report.html.j2",
        method=METHODS[own.settings.method],
        settings=own.settings.to_dict(),
        headline=_headline(own),
        state=_state(own.events),
        warnings=list(dict.fromkeys(e["message"] for e in own.events if e["event"] == "warning")),
        measures=[title for title, _ in (*MEASURES.values(), *_VOLUMES.values())],
        unit=_unit(own.rows),
        remarks=[f"{one.title}: {remark}" for one in runs for remark in one.remarks],
        networks=[row for one in runs for row in _network_rows(one)],
        cases=_case_rows(own),
        losses=picture(loss_curves(own.events), "Losses over the iterations"),
        dice=picture(dice_curves({r.title: r.events for r in runs}), "Dice on validation cases over the minutes"),
        overlays=_overlays(own),
    )
    write_text_atomically(own.folder.report, page)
    return own.folder.report


def _read_run(path: Path) -> _Run:
    folder = RunFolder(path)
    if not folder.settings.is_file() or not folder.cohort.is_file():
        raise InputError(
            Problem(path.name, "Wanted a run folder, with settings.json and cohort.json; found none.", "Correct --run.")
        )
    settings, cohort, events = Settings.read(folder.settings), load_cohort(folder.cohort), read_events(folder.events)
    needs_unlabeled = method_class(settings.method).needs_unlabeled
    own = {case.id for case in (*cohort.labeled, *(cohort.unlabeled if needs_unlabeled else ()))}
    # By their content, the training has made sure that no predecessor was trained on the run's validation cases: a
    # predecessor's case of the same id is another scan.
    earlier = read_predecessors(folder).all - own - {case.id for case in cohort.validation}
    found = _rows(folder)
    rows = [row for row in found if row.case not in own | earlier]
    remarks = [
        f"Left out of the tables, since {which} was trained on them: {', '.join(left_out)}."
        for which, trained in (("it", own), ("a model that it was started from", earlier))
        if (left_out := dict.fromkeys(row.case for row in found if row.case in trained))
    ]
    remarks += _remarks_on_age(folder, rows, _last(events, "finished").get("iteration"))
    return _Run(settings.method, folder, settings, cohort, events, rows, remarks)


def _remarks_on_age(folder: RunFolder, rows: Sequence[_Row], finished: int | None) -> list[str]:
    """Remarks on figures that belong to an earlier model, as after a run was resumed."""
    by_iteration: dict[int, list[str]] = {}
    for case in dict.fromkeys(row.case for row in rows):
        iteration = _predicted_at(folder.predictions / case / "figures.json")
        if iteration is not None and finished is not None and iteration != finished:
            by_iteration.setdefault(iteration, []).append(case)
    return [
        f"{', '.join(cases)}: predicted by the model of iteration {iteration}, but the run has reached iteration "
        f"{finished}; predict and evaluate again."
        for iteration, cases in by_iteration.items()
    ]


def _predicted_at(figures: Path) -> int | None:
    """The iteration of the model that made a prediction; None if it is not recorded."""
    try:
        iteration = json.loads(figures.read_text(encoding="utf-8"))["model"]["iteration"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return iteration if isinstance(iteration, int) else None


def _rows(folder: RunFolder) -> list[_Row]:
    if not folder.metrics.is_file():
        return []
    # A spreadsheet program may have added a byte order mark, or changed the separators and decimal points.
    with folder.metrics.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.DictReader(file)
        try:
            return [
                _Row(
                    line["case"],
                    line.get("network") or "prediction",
                    line.get("unit") or "mm",
                    {name: float(line.get(name) or "nan") for name in (*MEASURES, *_VOLUMES)},
                    line.get("note") or "",
                )
                for line in lines
            ]
        except (KeyError, ValueError):
            raise InputError(
                Problem(
                    folder.metrics.name,
                    "Wanted columns separated by commas, the first of them case, and numbers with decimal points; "
                    "found others.",
                    "Remove the file; evaluate writes it again.",
                )
            ) from None


def _unit(rows: Sequence[_Row]) -> str:
    """The unit of distances, for the page."""
    return "voxels" if rows and rows[0].unit == "voxel" else "mm"


def _headline(run: _Run) -> str:
    started = _last(run.events, "started")
    finished = _last(run.events, "finished")
    minutes = (finished.get("elapsed_seconds") or 0) / 60
    text = f"Trained on {len(run.cohort.labeled)} labeled and {len(run.cohort.unlabeled)} unlabeled scans"
    if minutes:
        text += f" for {minutes:.1f} minutes ({finished['iteration']} iterations)"
    if started.get("device"):
        text += f" on {started['device']}"
    # Early events do not have this number.
    models = finished.get("committee", started.get("committee"))
    if isinstance(models, int) and models > 1:
        text += f", {models} models at once"
    own = [row.values["dice"] for row in run.rows if row.network == run.predictor]
    if own:
        mean = 100 * np.mean(own)
        return f"{text}. Mean Dice of the {run.predictor} on {len(own)} cases not trained on: {mean:.1f} %."
    return f"{text}. Its quality is not known: no case that was not trained on has been predicted and evaluated."


def _last(events: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    return next((event for event in reversed(events) if event["event"] == name), {})


def _state(events: Sequence[dict[str, Any]]) -> str:
    last = next((e for e in reversed(events) if e["event"] in ("started", "finished", "failed")), None)
    if last is None:
        return "This run has not started."
    if last["event"] == "failed":
        return f"This run failed: {last['message']}"
    if last["event"] == "started":
        return "This run is still training, or was interrupted."
    if last["complete"]:
        return ""
    if not last["iteration"]:
        return "This run was stopped before it had learned anything; start it again."
    return "This run was stopped before its end; it can be resumed."


def _network_rows(run: _Run) -> list[dict[str, Any]]:
    rows = []
    for network in dict.fromkeys(row.network for row in run.rows):
        own = [row for row in run.rows if row.network == network]
        cells = [
            mean_text([row.values[name] for row in own], factor)
            for name, (_, factor) in (*MEASURES.items(), *_VOLUMES.items())
        ]
        rows.append({"run": run.title, "network": network, "cells": cells, "unit": _unit(own), "count": len(own)})
    return rows


def _case_rows(run: _Run) -> list[dict[str, Any]]:
    """The predicting network's cases, the worst first."""
    own = sorted((row for row in run.rows if row.network == run.predictor), key=lambda row: row.values["dice"])
    return [
        {
            "case": row.case,
            "cells": [
                f"{row.values[name] * factor:.2f}" if math.isfinite(row.values[name]) else "–"
                for name, (_, factor) in (*MEASURES.items(), *_VOLUMES.items())
            ],
            "note": row.note,
        }
        for row in own
    ]


def _overlays(run: _Run) -> list[tuple[str, Picture]]:
    """The worst, median and best case if there are metrics, else the first predicted cases."""
    cases = {case.id: case for case in run.cohort.cases}
    ranked = [row for row in _case_rows(run) if row["case"] in cases]
    if ranked:
        places = {"worst": ranked[0], "median": ranked[len(ranked) // 2], "best": ranked[-1]}
        chosen = {row["case"]: f"{name} case, {row['case']}: Dice {row['cells'][0]} %" for name, row in places.items()}
    else:
        predicted = [case_id for case_id in cases if (run.folder.predictions / case_id).is_dir()]
        chosen = {case_id: case_id for case_id in predicted[:_MOST_OVERLAYS]}
    pictures = []
    for case_id, title in chosen.items():
        drawn = case_overlay(cases[case_id], run.folder.predictions / case_id / "segmentation.seg.nrrd")
        shown = picture(drawn, f"Outlines on the scan, {title}")
        if shown is not None:
            pictures.append((title, shown))
    return pictures
