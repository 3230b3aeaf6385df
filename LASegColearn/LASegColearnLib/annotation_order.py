"""Which unlabeled case to annotate next: one that represents many scans and that the model is unsure about."""

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

# Number of labels at which the model's doubt counts as much as how many scans a case represents.
_EVEN_AT = 16


@dataclass(frozen=True)
class Suggestion:
    """A case to annotate.

    Attributes
    ----------
    case
        Its id.
    gain
        0 to 1, see :func:`annotation_order`; comparable with that of later cases.
    uncertainty, disagreement
        See :class:`~LASegColearnLib.predictor.Opinion`.
    closer
        How much nearer the unlabeled scans would be to a labeled one if this case were labeled: the mean over them, in
        standard deviations of the descriptors.
    reason
        A sentence for the person who annotates.
    """

    case: str
    gain: float
    uncertainty: float | None
    disagreement: float | None
    closer: float
    reason: str


def annotation_order(unlabeled: Mapping[str, Opinion], labeled: Sequence[np.ndarray]) -> list[Suggestion]:
    """Order cases by the expected gain of annotating them, the largest first.

    Cases are taken one by one, each time the one with the largest gain among those left:

        gain = w doubt + (1 - w) typical,  w = n / (n + 16)

    Doubt is the mean of two ranks, of the uncertainty near the surface and of the students' disagreement. Typical is
    the rank of how much nearer all scans would be to a labeled one. That is little for a scan similar to a labeled one,
    for the second of two similar scans, and for an outlier. Ranks are 0 to 1, since the three measures have no common
    unit. n is the number of labels: with few labels a model is most in doubt about outliers, which teach it least about
    the other scans (Hacohen et al., Active learning on a budget: opposite strategies suit high and low budgets, ICML
    2022). Representing the unlabeled scans is the idea of Yang et al., Suggestive annotation, MICCAI 2017.

    Parameters
    ----------
    unlabeled
        The model's opinion of each case, by id.
    labeled
        Descriptors of the labeled scans.
    """
    if not unlabeled:
        return []
    names, opinions = list(unlabeled), list(unlabeled.values())
    uncertain, divided = _doubt_ranks(opinions)
    doubt = uncertain if divided is None else (uncertain + divided) / 2
    between, nearest = _distances_to_scans(opinions, labeled)
    weight = len(labeled) / (len(labeled) + _EVEN_AT)
    at_first = np.maximum(nearest[:, None] - between, 0.0).mean(axis=0)
    left = list(range(len(opinions)))
    found = []
    while left:
        closer = np.maximum(nearest[:, None] - between[:, left], 0.0).mean(axis=0)
        typical = _ranks(closer)
        # The more doubtful case wins a tie, however few labels there are.
        gains = weight * doubt[left] + (1 - weight) * typical + 1e-6 * doubt[left]
        best = int(np.argmax(gains))
        chosen = left[best]
        opinion = opinions[chosen]
        # Compared with all cases at the start: among the cases left, the last one would always represent the most.
        stands = float(np.mean(at_first < closer[best]))
        found.append(
            Suggestion(
                case=names[chosen],
                gain=min(float(gains[best]), 1.0),
                uncertainty=opinion.uncertainty,
                disagreement=opinion.disagreement,
                closer=float(closer[best]),
                reason=_reason(opinion, uncertain[chosen], None if divided is None else divided[chosen], stands),
            )
        )
        left.pop(best)
        nearest = np.minimum(nearest, between[:, chosen])
    return found


def _doubt_ranks(opinions: Sequence[Opinion]) -> tuple[np.ndarray, np.ndarray | None]:
    """Ranks by uncertainty, and by disagreement of the students; the latter None where some model has no students."""
    # If nothing was found, nothing is known: the most uncertain of all.
    uncertain = _ranks([1.0 if o.uncertainty is None else o.uncertainty for o in opinions])
    if any(o.disagreement is None for o in opinions):
        return uncertain, None
    # Students that find nothing agree, but that says nothing.
    return uncertain, _ranks([1.0 if o.uncertainty is None else o.disagreement or 0.0 for o in opinions])


def _distances_to_scans(opinions: Sequence[Opinion], labeled: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Pairwise distances of the unlabeled scans, (N, N), and of each to the nearest labeled one, (N,)."""
    own = np.stack([o.descriptor for o in opinions])
    known = np.stack(labeled) if len(labeled) else np.empty((0, own.shape[1]))
    apart = _distances(own, np.concatenate([own, known]))
    between = apart[:, : len(own)]
    # Without any labeled scan, all are as far from one as possible.
    nearest = apart[:, len(own) :].min(axis=1) if len(known) else np.full(len(own), between.max())
    return between, nearest


def suggest_cases(
    predictor: Predictor, cohort: Cohort, on_done: Callable[[int, int], None] = lambda done, of: None
) -> list[Suggestion]:
    """Order a cohort's unlabeled scans by a model's opinion of them; see :func:`annotation_order`.

    Parameters
    ----------
    predictor
        The model.
    cohort
        The unlabeled cases are ordered. The scans of the labeled cases are read, but not their labels.
    on_done
        Called with the number of scans processed and their total.

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
    """Each value's rank, 0 (the smallest) to 1; equal values share a rank; a single value has rank 1."""
    ranks: np.ndarray = rankdata(values)
    return (ranks - 1) / (len(ranks) - 1) if len(ranks) > 1 else np.ones(1)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distances between descriptors, each feature in units of its standard deviation over all scans."""
    spread = b.std(axis=0)
    varying = spread > 1e-12
    scale = math.sqrt(max(int(np.count_nonzero(varying)), 1))
    distances: np.ndarray = cdist(a[:, varying] / spread[varying], b[:, varying] / spread[varying])
    return distances / scale


def _reason(opinion: Opinion, doubt: float, split: float | None, typical: float) -> str:
    """The reasons for the case, strongest first; only those that rank it in the upper half of all cases."""
    if opinion.uncertainty is None:
        return "Nothing was found in it."
    parts = [(doubt, f"uncertain near the surface ({opinion.uncertainty:.2f})")]
    if split is not None and opinion.disagreement is not None:
        parts.append((split, f"the students disagree (Dice {1 - opinion.disagreement:.2f})"))
    parts.append((typical, "represents many scans that no labeled scan resembles"))
    spoken = [text for rank, text in sorted(parts, key=lambda part: -part[0]) if rank >= 0.5]
    sentence = "; ".join(spoken or ["nothing in particular"])
    return sentence[0].upper() + sentence[1:] + "."
