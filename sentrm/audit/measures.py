"""What a scored dataset says about its labels: small pure functions of columns, each with its source.

A margin is score(chosen) - score(rejected), so a pair agrees with its label where its margin is above 0; ties of the
label are left out before. Intervals are 95%, from the spread of whole prompts (cluster-robust variance of a mean,
Cameron and Miller 2015, section II, with Student's t of one less than there are prompts): pairs of one prompt are no
independent evidence, and a million rows need no resampling. That of a share is Wilson's (1927) for the effective sample
size (Korn and Graubard 1998), so it stays within [0, 1] and has a width also where all pairs agree. There is none below
ten prompts.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..metrics import (
    FEWEST_GROUPS,
    expected_calibration_error,
    histogram_edges,
    length_residuals,
    rank_correlation,
    reliability,
)

Estimate = dict[str, float | int | None]  # value, the ends low and high of its interval, n
BINS = 20  # of a curve over length differences
SLICES = 12  # values of a column that are slices of their own; the rarer ones are one together
FEWEST = 5  # rows below which a slice is not shown alone
POSITIONS = 10  # parts of a response


def mean_estimate(numbers: np.ndarray, group: np.ndarray) -> Estimate:
    """The mean of (n,) numbers that are finite, with its interval.

    Args:
        group: (n,) int, rows of one prompt share a number.
    """
    numbers = np.asarray(numbers, dtype=float)
    finite = np.isfinite(numbers)
    numbers, group = numbers[finite], np.asarray(group)[finite]
    n = len(numbers)
    if not n:
        return {"value": None, "low": None, "high": None, "n": 0}
    mean, low, high = float(numbers.mean()), None, None
    error, groups = _clustered(numbers, group)
    if groups >= FEWEST_GROUPS:
        reach = _student(groups - 1) * error
        low, high = mean - reach, mean + reach
    return {"value": mean, "low": low, "high": high, "n": n}


def agreement(margins: np.ndarray, group: np.ndarray) -> Estimate:
    """Share of the (n,) pairs whose margin agrees with the label, with its interval; an equal score does not agree.

    The effective sample size is n over the design effect, the cluster-robust variance over that of independent pairs,
    at least 1. A share of 0 or 1 has no variance; there it is the number of prompts. `group` as in `mean_estimate`.
    """
    from statsmodels.stats.proportion import proportion_confint

    n = len(margins)
    if not n:
        return {"value": None, "low": None, "high": None, "n": 0}
    hits = (margins > 0).astype(float)
    share, low, high = float(hits.mean()), None, None
    error, groups = _clustered(hits, group)
    if groups >= FEWEST_GROUPS:
        effective = float(groups)
        if 0 < share < 1:
            effect = max(1.0, error**2 * (n - 1) / (share * (1 - share)))
            effective = n / effect * (_student(n - 1) / _student(groups - 1)) ** 2
        low, high = map(float, proportion_confint(share * effective, effective, method="wilson"))
    return {"value": share, "low": low, "high": high, "n": n}


def _clustered(numbers: np.ndarray, group: np.ndarray) -> tuple[float, int]:
    """The standard error of a mean of (n,) numbers, and how many groups there are; 0 of a single one."""
    place = np.unique(group, return_inverse=True)[1]  # (n,)
    off = np.bincount(place, weights=numbers - numbers.mean())  # (G,) sums of what rows differ from the mean
    groups = len(off)
    return math.sqrt(float(off @ off) * groups / max(groups - 1, 1)) / len(numbers), groups


def _student(freedom: int) -> float:
    """Within so many standard errors lie 95% of Student's t."""
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))


def fitted_temperature(margins: np.ndarray) -> float | None:
    """The T that makes σ(margin / T) likeliest for the labels (Guo et al. 2017, section 4.2), within e^±5; None where
    margins agree with no more than half of the labels, so that none does."""
    from scipy.optimize import minimize_scalar

    if not len(margins) or np.mean(margins > 0) <= 0.5:
        return None
    loss = lambda log_t: float(np.logaddexp(0, -margins / math.exp(log_t)).mean())  # noqa: E731
    return math.exp(float(minimize_scalar(loss, bounds=(-5, 5), method="bounded").x))


def calibration(margins: np.ndarray) -> dict[str, Any]:
    """Reliability and expected calibration error, as scored and with the fitted temperature."""
    temperature = fitted_temperature(margins)
    fitted = margins / temperature if temperature else None
    return {
        "temperature": temperature,
        "ece": expected_calibration_error(margins),
        "ece_fitted": None if fitted is None else expected_calibration_error(fitted),
        "bins": reliability(margins),
        "bins_fitted": [] if fitted is None else reliability(fitted),
    }


def distribution(margins: np.ndarray, bins: int = 40) -> dict[str, list[float]]:
    """Pairs by margin, over `histogram_edges`; the outermost bins hold what lies beyond."""
    edges = histogram_edges(margins, bins)
    return {"edges": edges.tolist(), "pairs": np.histogram(np.clip(margins, edges[0], edges[-1]), edges)[0].tolist()}


def by_value(values: np.ndarray, margins: np.ndarray, group: np.ndarray) -> list[dict[str, Any]]:
    """Agreement by the values of a column of words: the most frequent first, the rarer ones together at the end."""
    names, place, count = np.unique(values.astype(str), return_inverse=True, return_counts=True)
    order = np.argsort(-count, kind="stable")
    shown = [k for k in order[:SLICES] if count[k] >= FEWEST]
    rows = [{"slice": str(names[k]) or "(none)", **agreement(margins[place == k], group[place == k])} for k in shown]
    rest = ~np.isin(place, shown)
    if rest.any():
        rows.append({"slice": f"{len(names) - len(shown)} others", **agreement(margins[rest], group[rest])})
    return rows


def by_number(values: np.ndarray, margins: np.ndarray, group: np.ndarray) -> list[dict[str, Any]]:
    """Agreement by a column of numbers: each number where there are few, else five bins of about as many pairs."""
    finite = np.isfinite(values)
    values, margins, group = values[finite], margins[finite], group[finite]
    distinct = np.unique(values)
    if len(distinct) <= SLICES:
        return [
            {"slice": f"{value:g}", "from": float(value), "to": float(value), **agreement(margins[at], group[at])}
            for value in distinct
            for at in [values == value]
        ]
    edges = np.unique(np.quantile(values, (0, 0.2, 0.4, 0.6, 0.8, 1)))
    bin_ = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return [
        {
            "slice": f"{edges[k]:g} to {edges[k + 1]:g}",
            "from": float(edges[k]),
            "to": float(edges[k + 1]),
            **agreement(margins[bin_ == k], group[bin_ == k]),
        }
        for k in range(len(edges) - 1)
    ]


def length(scores: np.ndarray, lengths: np.ndarray, margins: np.ndarray, group: np.ndarray) -> dict[str, Any]:
    """What of the preference is length.

    Args:
        scores, lengths: (P, 2) of chosen and rejected; lengths in characters.
        margins, group: (P,).

    Returns:
        agreement of the model, of preferring the longer response and of the model calibrated for length (residuals of
        a locally weighted regression of score on length, arXiv 2409.17407); Spearman's ρ of score and length and of
        margin and length difference; and the mean margin over bins of the length difference.
    """
    longer_by = lengths[:, 0] - lengths[:, 1]  # (P,)
    residuals = length_residuals(scores.ravel(), lengths.ravel().astype(float)).reshape(-1, 2)
    calibrated = residuals[:, 0] - residuals[:, 1]
    edges = np.unique(np.quantile(longer_by, np.linspace(0, 1, BINS + 1)))
    bin_ = np.clip(np.searchsorted(edges, longer_by, side="right") - 1, 0, max(len(edges) - 2, 0))
    curve = [
        {"from": float(edges[k]), "to": float(edges[k + 1]), **mean_estimate(margins[bin_ == k], group[bin_ == k])}
        for k in range(len(edges) - 1)
        if np.any(bin_ == k)
    ]
    return {
        "model": agreement(margins, group),
        "always_longer": agreement(longer_by, group),
        "always_shorter": agreement(-longer_by, group),
        "calibrated": agreement(calibrated, group),
        "score_with_length": rank_correlation(scores.ravel(), lengths.ravel()),
        "margin_with_difference": rank_correlation(margins, longer_by),
        "curve": curve,
    }


def style(has: np.ndarray, scores: np.ndarray, group: np.ndarray) -> dict[str, Any]:
    """What a feature of style goes with, over the pairs of which one response alone has it.

    Args:
        has: (P, 2) bool, chosen and rejected.
        scores: (P, 2).

    Returns:
        responses: share that has it; margin: mean score(with) - score(without); model and label: share of these pairs
        in which the model, and the label, prefers the response that has it.
    """
    one = has[:, 0] != has[:, 1]
    sign = np.where(has[one, 0], 1, -1)
    margin = (scores[one, 0] - scores[one, 1]) * sign
    return {
        "responses": float(has.mean()) if len(has) else 0.0,
        "margin": mean_estimate(margin, group[one]),
        "model": agreement(margin, group[one]),
        "label": agreement(sign, group[one]),
    }
