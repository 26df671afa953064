"""Is the weight spread or heaped, does one sentence decide, and does weight mean influence? Pure measures of results.

Attention is no explanation by itself (Jain and Wallace, arXiv 1902.10186), so what a sentence contributes is held
against what the score loses without it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .results import ScoredResponse

FIXED_WEIGHTS = frozenset({"mean", "last", "sum_values", "mean_values"})  # aggregators that do not look at the text
NEGLIGIBLE = 0.05  # of the largest of its kind: below that a sign says nothing


@dataclass(frozen=True)
class AttentionHealth:
    """How the weights of one response are spread over the boundaries that take part."""

    effective: float  # exp(H), 1 to `places`: as many boundaries with even weights would be as spread
    places: int  # N + 1, or N where the prompt has no weight
    largest: float  # share of the whole weight, 0..1
    at: int  # boundary of the largest weight: 0 is the prompt, i is sentence i counted from 1


def shares(response: ScoredResponse) -> tuple[float, ...]:
    """`|a_i| / Σ |a_i|` of the boundaries that take part: 0..N, or 1..N where the prompt's weight is 0; none where all
    weights are."""
    sizes = [abs(a) for a in response.weights[response.weights[0] == 0 :]]
    whole = math.fsum(sizes)
    return tuple(size / whole for size in sizes) if whole else ()


def entropy(parts: Sequence[float]) -> float:
    """Of shares that add up to 1, in nats."""
    return -math.fsum(p * math.log(p) for p in parts if p > 0)


def attention_health(response: ScoredResponse) -> AttentionHealth | None:
    """How the `shares` of the weight are spread; H is their entropy.

    None where there is no attention: the aggregator's weights are fixed, or all of them are zero.
    exp(H) as an effective number: Hill, Ecology 54 (1973), order 1.
    """
    taken = shares(response)
    if response.model.aggregator in FIXED_WEIGHTS or not taken:
        return None
    at = taken.index(max(taken)) + len(response.weights) - len(taken)
    return AttentionHealth(math.exp(entropy(taken)), len(taken), max(taken), at)


def deciding_sentence(response: ScoredResponse) -> int | None:
    """The sentence, counted from 0, that decides the score alone; None if there is none, or only one sentence.

    It decides if its |contribution| exceeds the sum of all others' |contributions|, the prompt's included: whatever
    the signs of the others, they could not turn the score's.
    """
    sizes = [abs(c) for c in response.contributions]
    if len(sizes) < 3:
        return None
    i = max(range(1, len(sizes)), key=sizes.__getitem__)
    return i - 1 if sizes[i] > math.fsum(sizes[:i] + sizes[i + 1 :]) else None


@dataclass(frozen=True)
class Parting:
    """One sentence whose contribution and leave-one-out value tell different stories."""

    sentence: int  # counted from 0
    other_sign: bool
    rank: float  # by |contribution|, 1 is the largest; ties share the mean of their ranks
    rank_left_out: float  # by |leave-one-out|


def partings(response: ScoredResponse, left_out: Sequence[float]) -> tuple[Parting, ...]:
    """Where contribution and leave-one-out part, the widest difference first.

    They part if the signs differ and neither is negligible (below 5% of the response's largest of its kind), or if
    the ranks of their sizes are more than half of the N sentences apart (N >= 4).

    Args:
        left_out: (N,) logits, `R - R(without sentence i)`.

    Raises:
        ValueError: if `left_out` has not one value a sentence.
    """
    contributions = response.contributions[1:]
    if len(left_out) != len(contributions):
        raise ValueError(
            f"got {len(left_out)} leave-one-out values for {len(contributions)} sentences. Give one a sentence."
        )
    from scipy.stats import rankdata  # here: it takes half a second, and the app starts without it

    found = []
    ranks, ranks_left_out = (rankdata([-abs(n) for n in numbers]).tolist() for numbers in (contributions, left_out))
    least = [NEGLIGIBLE * max(map(abs, numbers), default=0.0) for numbers in (contributions, left_out)]
    for i, (c, d) in enumerate(zip(contributions, left_out, strict=True)):
        other_sign = c * d < 0 and abs(c) > least[0] and abs(d) > least[1]
        apart = len(contributions) >= 4 and abs(ranks[i] - ranks_left_out[i]) > len(contributions) / 2
        if other_sign or apart:
            found.append(Parting(i, other_sign, ranks[i], ranks_left_out[i]))
    return tuple(sorted(found, key=lambda p: -abs(contributions[p.sentence] - left_out[p.sentence])))
