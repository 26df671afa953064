"""How far annotators agree: raw, beyond chance, and with the model as one more rater.

Decisions:
- A rating is agree, flip, tie or both_bad; who skips or flags has not rated. Categories have no order (nominal).
- Raw agreement is the share of agreeing pairs of ratings of one item, over all items with two or more.
- Cohen's kappa (Cohen 1960) is for two raters and the items both rated; Krippendorff's alpha (Krippendorff 2011,
  "Computing Krippendorff's Alpha-Reliability") for any number and with ratings missing. Where every rating is the same,
  chance agrees as much, and they are undefined: None.
- Intervals are percentile bootstraps over items. An item is one of few distinct rows of ratings, so a sample is a
  multinomial draw of how often each row comes, and a million items cost no more than a thousand. The package
  krippendorff cannot count rows so; the tests compare with it.
- The model agrees with a label where the margin is above 0 and flips it where it is below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from statsmodels.stats.inter_rater import cohens_kappa

from .votes import RATINGS

MODEL = "model"  # the name of the model as a rater
FEWEST = 10  # items below which there is no interval
Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (R, U) rows of ratings, (S, U) how often -> (S,)


@dataclass(frozen=True)
class Estimate:
    """A number from 0 (kappa and alpha: below, where chance agrees more) to 1, with its 95% interval."""

    value: float | None  # None where it is undefined
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Agreement:
    """What the ratings of R raters say about each other."""

    raters: tuple[str, ...]  # (R,) those with a rating, in the order of names
    ratings: tuple[int, ...]  # (R,) how many each gave
    items: int  # pairs with two ratings or more; the figures are about these
    raw: Estimate
    kappa: Estimate | None  # only of two raters
    alpha: Estimate

    @property
    def measures(self) -> dict[str, Estimate]:
        """Those there are, by name."""
        named = {"raw agreement": self.raw, "Cohen's kappa": self.kappa, "Krippendorff's alpha": self.alpha}
        return {name: one for name, one in named.items() if one is not None}


def agreement(
    verdicts: Iterable[tuple[str, str, str]], margins: Mapping[str, float] | None = None, *, samples: int = 1000
) -> Agreement:
    """Agreement of all raters together.

    Args:
        verdicts: (pair id, annotator, verdict), at most one of each pair and annotator: `ReviewLog.verdicts()`.
        margins: pair id -> by how much the model prefers the response that the label does, logits; given, the model is
            one more rater of the pairs that people rated.
        samples: bootstrap samples.
    """
    raters, table = rating_table(verdicts, margins)
    shared = table[:, (table >= 0).sum(axis=0) >= 2]  # (R, I)
    ratings = tuple(int(number) for number in (table >= 0).sum(axis=1))
    items = shared.shape[1]
    if not items:
        none = Estimate(None, None, None)
        return Agreement(raters, ratings, 0, none, none if len(raters) == 2 else None, none)
    patterns, times = np.unique(shared, axis=1, return_counts=True)  # (R, U), (U,)
    draws = np.random.default_rng(0).multinomial(items, times / items, samples)  # (samples, U)

    def estimate(statistic: Statistic) -> Estimate:
        value = float(statistic(patterns, times[None])[0])
        sampled = statistic(patterns, draws)
        known = sampled[np.isfinite(sampled)]
        if not math.isfinite(value):
            return Estimate(None, None, None)
        if items < FEWEST:
            return Estimate(value, None, None)
        low, high = np.percentile(known, (2.5, 97.5))
        return Estimate(value, float(low), float(high))

    return Agreement(
        raters,
        ratings,
        items,
        estimate(raw_agreement),
        estimate(kappa) if len(raters) == 2 else None,
        estimate(nominal_alpha),
    )


def rating_table(
    verdicts: Iterable[tuple[str, str, str]], margins: Mapping[str, float] | None = None
) -> tuple[tuple[str, ...], np.ndarray]:
    """Who rated, and (R, P) ratings as places in RATINGS, -1 where there is none."""
    rated = [one for one in verdicts if one[2] in RATINGS]
    pair_ids = dict.fromkeys(pair_id for pair_id, _, _ in rated)
    if margins is not None:
        decided = [(pair_id, margins.get(pair_id, 0)) for pair_id in pair_ids]
        rated += [(pair_id, MODEL, "agree" if margin > 0 else "flip") for pair_id, margin in decided if margin]
    raters = tuple(sorted({annotator for _, annotator, _ in rated}))
    row, column = ({name: place for place, name in enumerate(names)} for names in (raters, pair_ids))
    table = np.full((len(raters), len(pair_ids)), -1, dtype=np.int8)
    for pair_id, annotator, verdict in rated:
        table[row[annotator], column[pair_id]] = RATINGS.index(verdict)
    return raters, table


def raw_agreement(patterns: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(S,) share of agreeing pairs of ratings, over all items."""
    counts = _counts(patterns)  # (U, V)
    ratings = counts.sum(axis=1)
    agreeing, all_ = (counts * (counts - 1)).sum(axis=1), ratings * (ratings - 1)  # (U,)
    return np.asarray((weights @ agreeing) / (weights @ all_))


def kappa(patterns: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(S,) Cohen's kappa of two raters who rated every item, NaN where all their ratings are the same."""
    a, b = np.eye(len(RATINGS))[patterns]  # (U, V) each
    tables = np.einsum("su,uv,uw->svw", weights, a, b)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.array([cohens_kappa(table, return_results=False) for table in tables])


def nominal_alpha(patterns: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(S,) Krippendorff's alpha, `1 - D_o / D_e` of nominal data, NaN where all ratings are the same."""
    counts = _counts(patterns)  # (U, V)
    ratings = counts.sum(axis=1)  # (U,) two or more
    coinciding = weights @ ((counts * (counts - 1)).sum(axis=1) / (ratings - 1))  # (S,) sum of o_cc
    values = weights @ counts  # (S, V) n_c
    n = values.sum(axis=1)  # (S,)
    expected = n * (n - 1) - (values * (values - 1)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1 - (n - 1) * (n - coinciding) / expected)


def _counts(patterns: np.ndarray) -> np.ndarray:
    """(U, V) how many of the R raters gave each value."""
    return np.stack([(patterns == value).sum(axis=0) for value in range(len(RATINGS))], axis=1)
