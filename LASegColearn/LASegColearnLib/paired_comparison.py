"""Paired comparison of two models on the same cases, with a confidence interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

CONFIDENCE = 0.95
# Fewer differences give no useful interval.
_FEWEST = 3


@dataclass(frozen=True)
class PairedComparison:
    """The paired differences of two models' figures.

    Attributes
    ----------
    cases
        Number of cases.
    mean
        Mean of first minus second.
    low, high
        95 % confidence interval of the mean by Student's t; None with fewer than 3 cases.
    verdict
        ``better`` or ``worse`` if the interval excludes 0, else ``undecided``.
    """

    cases: int
    mean: float
    low: float | None
    high: float | None
    verdict: Literal["better", "worse", "undecided"]


def compare_paired(first: Sequence[float], second: Sequence[float]) -> PairedComparison:
    """Compare two models' figures of the same cases in the same order; larger is better.

    Raises
    ------
    ValueError
        If there are no cases, or different numbers of them.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"Wanted figures of the same cases, found {len(first)} and {len(second)}.")
    # Imported here, since it takes half a second and the panel only reads finished comparisons.
    from scipy import stats

    differences = np.asarray(first, float) - np.asarray(second, float)
    mean = float(differences.mean())
    if len(differences) < _FEWEST:
        return PairedComparison(len(differences), mean, None, None, "undecided")
    if np.ptp(differences) == 0:
        low = high = mean
    else:
        interval = stats.ttest_1samp(differences, 0.0).confidence_interval(CONFIDENCE)
        low, high = float(interval.low), float(interval.high)
    verdict: Literal["better", "worse", "undecided"] = "better" if low > 0 else "worse" if high < 0 else "undecided"
    return PairedComparison(len(differences), mean, low, high, verdict)


def sentence(comparison: PairedComparison, first: str, second: str) -> str:
    """A sentence on the comparison of two models' Dice; differences in points of percent.

    Parameters
    ----------
    first, second
        Names of the two models, for example "the new model" and "the earlier one".
    """
    cases = f"{comparison.cases} case{'s' if comparison.cases != 1 else ''} not trained on"
    mean = f"Dice {100 * comparison.mean:+.1f} points on {cases}"
    if comparison.low is None or comparison.high is None:
        return f"Too few cases to tell which is better: {mean}."
    if math.isclose(comparison.low, comparison.high):
        interval = mean
    else:
        interval = f"{mean}, 95 % interval {100 * comparison.low:+.1f} to {100 * comparison.high:+.1f}"
    start = first[0].upper() + first[1:]
    if comparison.verdict == "undecided":
        return f"No clear difference between {first} and {second}: {interval}."
    return f"{start} is {comparison.verdict} than {second}: {interval}."
