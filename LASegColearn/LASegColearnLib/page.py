"""What the pages that the engine writes share: rendering, pictures inside the page, and figures as text."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from LASegColearnLib.evaluation import summary_of
from LASegColearnLib.version import __version__

# What the pages' tables have of each case's figures: a title, and by what a figure is multiplied for it.
MEASURES = {"dice": ("Dice, %", 100.0), "jaccard": ("Jaccard, %", 100.0), "hd95": ("95HD", 1.0), "asd": ("ASD", 1.0)}


@dataclass(frozen=True)
class Picture:
    """An image inside the page, and what it shows in words."""

    source: Markup
    text: str


def picture(png: bytes | None, text: str) -> Picture | None:
    """A PNG for a page; None where there is nothing to show."""
    if png is None:
        return None
    return Picture(Markup("data:image/png;base64,") + base64.b64encode(png).decode("ascii"), text)


def mean_text(figures: Sequence[float], factor: float) -> str:
    """Mean ± standard deviation of the figures times ``factor``, and in how many cases there is no figure."""
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
