"""What scores say about comparisons: small pure functions, each estimate with its bootstrap interval.

A comparison is a right and a wrong response; its margin is score(right) - score(wrong). Everything estimated from one
table of `counts` (`metrics.group_counts`) is resampled together, so a difference of two estimates is paired.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from sentrm.attention_health import entropy, shares
from sentrm.metrics import FEWEST_GROUPS, interval, rank_correlation, sampled_means
from sentrm.results import ScoredResponse

Estimate = dict[str, float | None]  # value, and the ends low and high of its 95% interval


def estimate(value: float | None, samples: np.ndarray, groups: int) -> Estimate:
    """A value with the middle 95% of its bootstrap samples; no interval below ten groups.

    Args:
        samples: (draws,), NaN where a sample holds nothing to measure.
        groups: distinct groups that the value was measured on.
    """
    finite = samples[np.isfinite(samples)]
    known = value is not None and math.isfinite(value)
    low, high = interval(finite) if known and groups >= FEWEST_GROUPS and len(finite) else (None, None)
    return {"value": value if known else None, "low": low, "high": high}


def mean_estimate(numbers: np.ndarray, group: np.ndarray, counts: np.ndarray) -> Estimate:
    """The mean of the finite rows, (n,); arguments as in `sampled_means`."""
    numbers, group = np.asarray(numbers, dtype=float), np.asarray(group)
    finite = np.isfinite(numbers)
    numbers, group = numbers[finite], group[finite]
    value = float(numbers.mean()) if len(numbers) else None
    return estimate(value, sampled_means(numbers, group, counts), len(set(group.tolist())))


def against_length(margins: np.ndarray, longer_by: np.ndarray, group: np.ndarray, counts: np.ndarray) -> dict[str, Any]:
    """Accuracy over comparisons, beside those of preferring the longer and the shorter response. Ties count 0.

    The gain is accuracy - max(always_longer, always_shorter), in every bootstrap sample over the same groups.

    Args:
        margins, longer_by, group: (C,) score and characters by which the right response is ahead, place of the group.
        counts: (draws, G).
    """
    hits = np.stack((margins > 0, longer_by > 0, longer_by < 0), axis=1)  # (C, 3)
    accuracy, longer, shorter = hits.mean(0).tolist()
    samples = sampled_means(hits, group, counts)  # (draws, 3)
    groups = len(set(group.tolist()))
    return {
        "comparisons": len(margins),
        "accuracy": estimate(accuracy, samples[:, 0], groups),
        "always_longer": longer,
        "always_shorter": shorter,
        "gain": estimate(accuracy - max(longer, shorter), samples[:, 0] - samples[:, 1:].max(1), groups),
    }


def length_quintiles(margins: np.ndarray, longer_by: np.ndarray) -> list[dict[str, Any]]:
    """Accuracy by how much longer the right response is, in five bins of about as many comparisons, equal lengths
    in one bin: edges in characters, comparisons, accuracy (None in an empty bin)."""
    edges = np.quantile(longer_by, (0, 0.2, 0.4, 0.6, 0.8, 1))
    bin_ = np.searchsorted(edges[1:-1], longer_by, side="right")  # (C,)
    return [
        {
            "from": float(edges[i]),
            "to": float(edges[i + 1]),
            "comparisons": int(np.sum(bin_ == i)),
            "accuracy": float(np.mean(margins[bin_ == i] > 0)) if np.any(bin_ == i) else None,
        }
        for i in range(5)
    ]


def correlation_estimate(x: np.ndarray, y: np.ndarray, group: np.ndarray, counts: np.ndarray) -> Estimate:
    """Spearman's ρ of x and y, (n,) each; its value is None where one of them is constant. `group` (n,)."""
    places = [np.unique(numbers, return_inverse=True)[1] for numbers in (x, y)]
    samples = []
    for sample in counts:
        weights = sample[group]  # (n,) how often each row is in this sample
        a, b = (_centred_ranks(place, weights) for place in places)
        scale = math.sqrt(float(weights @ (a * a)) * float(weights @ (b * b)))
        samples.append(float(weights @ (a * b)) / scale if scale > 0 else math.nan)
    value = rank_correlation(x.tolist(), y.tolist())
    return estimate(value, np.array(samples), len(set(group.tolist())))


def _centred_ranks(place: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rank of each row among rows repeated `weights` times, equal ones sharing their mean rank, less the mean. (n,)"""
    repeated = np.bincount(place, weights=weights)
    ranks = (np.cumsum(repeated) - (repeated - 1) / 2)[place]
    return ranks - (weights @ ranks) / max(weights.sum(), 1)


def other_prompts(prompts: Sequence[str], seed: int) -> dict[str, str]:
    """For each distinct prompt another one, all of them used once: neighbours in a shuffled circle. {} of one alone."""
    distinct = sorted(set(prompts))
    random.Random(f"{seed} prompts").shuffle(distinct)
    return dict(zip(distinct, distinct[1:] + distinct[:1], strict=True)) if len(distinct) > 1 else {}


def weight_entropy(responses: Sequence[ScoredResponse]) -> float | None:
    """Mean of H(a) / log K over the responses whose weights are shared by K > 1 boundaries, the prompt's among them
    unless its weight is 0: 1 where weights are even, 0 where one boundary has all. None where no response has any,
    and unless weights add up to 1; those of relative attention are taken as shares of their sum."""
    entropies = []
    for response in responses:
        relative = response.model.aggregator.startswith("relative_attention")
        if response.spans and not relative and abs(math.fsum(response.weights) - 1) > 1e-3:
            return None
        taken = shares(response)  # (K,)
        if len(taken) > 1:
            entropies.append(entropy(taken) / math.log(len(taken)))
    return float(np.mean(entropies)) if entropies else None
