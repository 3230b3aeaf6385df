"""Which unlabeled case to annotate next: where the model is unsure, and where the scan is unlike those it knows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

from LASegColearnLib.cohort import Case, Cohort
from LASegColearnLib.errors import InputError, Problem
from LASegColearnLib.predictor import Opinion, Predictor
from LASegColearnLib.preprocessing import prepare_scan
from LASegColearnLib.scan_files import read_scan


@dataclass(frozen=True)
class Suggestion:
    """A case to annotate.

    Attributes
    ----------
    case
        Its id.
    gain
        0 to 1: mean of the places that uncertainty, disagreement and difference have among those still to choose from.
    uncertainty, disagreement
        See :class:`~LASegColearnLib.predictor.Opinion`.
    difference
        Distance to the nearest scan that is labeled or suggested earlier, in standard deviations of all scans'
        descriptors; infinite where there is none.
    reason
        Why, as a sentence for the person who annotates.
    """

    case: str
    gain: float
    uncertainty: float | None
    disagreement: float | None
    difference: float
    reason: str


def annotation_order(unlabeled: Mapping[str, Opinion], labeled: Sequence[np.ndarray]) -> list[Suggestion]:
    """Order cases by what annotating them is expected to bring, the most first.

    One case after another is taken, the one with the largest mean rank of three things: the uncertainty near the
    surface, the students' disagreement, and the difference from what is labeled or was taken before. So the second of
    two scans that are alike moves down as soon as the first is taken. Ranks, because the three have no common unit.
    The difference is that of k-center selection (Sener and Savarese, Active learning for convolutional neural networks:
    a core-set approach, ICLR 2018).

    Parameters
    ----------
    unlabeled
        What the model thinks of each case, by id.
    labeled
        Descriptors of the labeled scans.
    """
    names = list(unlabeled)
    if not names:
        return []
    opinions = list(unlabeled.values())
    # Where nothing was found, nothing is known: the most uncertain of all.
    doubts = _ranks([1.0 if o.uncertainty is None else o.uncertainty for o in opinions])
    splits = None
    if all(o.disagreement is not None for o in opinions):
        splits = _ranks([o.disagreement or 0.0 for o in opinions])
    own = np.stack([o.descriptor for o in opinions])
    known = np.stack(labeled) if len(labeled) else np.empty((0, own.shape[1]))
    apart = _distances(own, np.concatenate([own, known]))
    between = apart[:, : len(own)]
    # Before anything is labeled, a scan is as far from it as can be.
    nearest = apart[:, len(own) :].min(axis=1) if len(known) else np.full(len(own), between.max())
    left = list(range(len(own)))
    found = []
    while left:
        # By how much all scans would be nearer to a labeled one.
        closer = np.maximum(nearest[:, None] - between[:, left], 0.0).mean(axis=0)
        typical = _ranks(closer)
        parts = [doubts[left], typical] if splits is None else [doubts[left], splits[left], typical]
        gains = np.mean(parts, axis=0)
        best = int(np.argmax(gains))
        chosen = left[best]
        opinion = opinions[chosen]
        reason = _reason(opinion, doubts[chosen], None if splits is None else splits[chosen], float(typical[best]))
        found.append(
            Suggestion(
                names[chosen],
                float(gains[best]),
                opinion.uncertainty,
                opinion.disagreement,
                float(closer[best]),
                reason,
            )
        )
        left.pop(best)
        nearest = np.minimum(nearest, between[:, chosen])
    return found


def suggest_cases(
    predictor: Predictor, cohort: Cohort, on_done: Callable[[int, int], None] = lambda done, of: None
) -> list[Suggestion]:
    """Look at a cohort's unlabeled scans with a model, and order them; see :func:`annotation_order`.

    Parameters
    ----------
    predictor
        The model.
    cohort
        The unlabeled cases are ordered; of the labeled ones the scans are read, not the labels.
    on_done
        Called with how many scans of how many have been looked at.

    Raises
    ------
    InputError
        If there is no unlabeled case; or naming every scan that cannot be read.
    """
    if not cohort.unlabeled:
        raise InputError(Problem("cohort", "Wanted unlabeled cases to choose from, found none.", "Add scans."))
    of = len(cohort.unlabeled) + len(cohort.labeled)
    problems: list[Problem] = []
    opinions: dict[str, Opinion] = {}
    known: list[np.ndarray] = []

    def look(case: Case, labeled: bool) -> None:
        try:
            scan = read_scan(case.image, case.id)
        except InputError as error:
            problems.extend(error.problems)
            return
        if labeled:
            settings = predictor.model.settings
            known.append(predictor.descriptor(prepare_scan(scan, settings.spacing_mm, settings.region_mm).array))
        else:
            opinions[case.id] = predictor.opinion(scan)

    for done, case in enumerate((*cohort.labeled, *cohort.unlabeled)):
        on_done(done, of)
        look(case, case in cohort.labeled)
    on_done(of, of)
    if problems:
        raise InputError(problems)
    return annotation_order(opinions, known)


def _ranks(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Each value's place among all, 0 (the smallest) to 1; equal values share a place; of one alone 1."""
    ranks: np.ndarray = rankdata(values)
    return (ranks - 1) / (len(ranks) - 1) if len(ranks) > 1 else np.ones(1)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distances between descriptors, each feature in units of its spread over all scans."""
    spread = b.std(axis=0)
    varying = spread > 1e-12
    scale = math.sqrt(max(int(np.count_nonzero(varying)), 1))
    distances: np.ndarray = cdist(a[:, varying] / spread[varying], b[:, varying] / spread[varying])
    return distances / scale


def _reason(opinion: Opinion, doubt: float, split: float | None, newness: float) -> str:
    """What speaks for the case, the strongest first; what puts it in the lower half of all does not."""
    if opinion.uncertainty is None:
        return "Nothing was found in it."
    parts = [(doubt, f"uncertain near the surface ({opinion.uncertainty:.2f})")]
    if split is not None and opinion.disagreement is not None:
        parts.append((split, f"the students disagree (Dice {1 - opinion.disagreement:.2f})"))
    parts.append((newness, "unlike the scans that are labeled or come before it"))
    spoken = [text for rank, text in sorted(parts, key=lambda part: -part[0]) if rank >= 0.5]
    sentence = "; ".join(spoken or ["nothing in particular"])
    return sentence[0].upper() + sentence[1:] + "."
