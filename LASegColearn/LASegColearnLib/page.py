"""Shared by the engine's HTML pages: rendering, embedded pictures, and figures as text."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from LASegColearnLib.evaluation import summary_of
from LASegColearnLib.version import __version__

# The measures in the pages' tables, each with its title and the factor for its unit.
MEASURES = {"dice": ("Dice, %", 100.0), "jaccard": ("Jaccard, %", 100.0), "hd95": ("95HD", 1.0), "asd": ("ASD", 1.0)}


@dataclass(frozen=True)
class Picture:
    """An image embedded in the page, with its description."""

    source: Markup
    text: str


def picture(png: bytes | None, text: str) -> Picture | None:
    """A PNG to embed in a page; None if there is none."""
    if png is None:
        return None
    return Picture(Markup("data:image/png;base64,") + base64.b64encode(png).decode("ascii"), text)


def mean_text(figures: Sequence[float], factor: float) -> str:
    """Mean ± standard deviation of the figures times ``factor``, and the number of undefined figures."""
    summary = summary_of([factor * figure for figure in figures])
    if not summary.count:
        return "–"
    deviation = f" ± {summary.deviation:.2f}" if summary.count > 1 else ""
    missing = f" ({summary.undefined} undefined)" if summary.undefined else ""
    return f"{summary.mean:.2f}{deviation}{missing}"


def render(template: str, **values: Any) -> str:
    """A page from one of the engine's templates."""
    environment = Environment(
        loader=PackageLoader("LASegColearnLib"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template(template).render(version=__version__, **values)
