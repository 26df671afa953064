"""The charts of a pair as table rows and as plain lines of words. Pure functions of results."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from ..attention_health import FIXED_WEIGHTS, attention_health, deciding_sentence, partings
from ..results import ScoredPair, ScoredResponse
from ..words import counted, percent, plain, signed, unit_of, visible

MARGIN_HEADERS = ["response", "term", "text", "contribution", "effect on the margin", "margin so far"]
CURVE_HEADERS = ["response", "after", "text", "value", "sum so far"]
INFLUENCE_HEADERS = ["response", "term", "text", "contribution", "score lost without it", "where they part"]
NAMED = 4  # sentences that a line of words names; the others are counted


def margin_rows(pair: ScoredPair) -> list[list[str]]:
    """Every term of `margin = Σ a_i Δ_i (A) - Σ a_i Δ_i (B)`, in the waterfall's order; columns `MARGIN_HEADERS`."""
    rows, level = [], 0.0
    for name, response, sign in (("A", pair.a, 1), ("B", pair.b, -1)):
        for term, text, contribution in zip(_terms(response), _texts(response), response.contributions, strict=True):
            level += sign * contribution
            rows.append([name, term, text, *(signed(n, 4) for n in (contribution, sign * contribution, level))])
    return [*rows, ["", "margin", "", "", "", signed(pair.margin, 4)]]


def curve_rows(pair: ScoredPair) -> list[list[str]]:
    """Value and sum of contributions at every boundary, of both curves; columns as in `CURVE_HEADERS`."""
    return [
        [name, term, text, plain(value, 4), signed(level, 4)]
        for name, response in (("A", pair.a), ("B", pair.b))
        for term, text, value, level in zip(
            _terms(response), _texts(response), response.values, accumulate(response.contributions), strict=True
        )
    ]


def influence_rows(pair: ScoredPair, left_out: tuple[Sequence[float], Sequence[float]]) -> list[list[str]]:
    """Contribution and leave-one-out of every sentence; columns as in `INFLUENCE_HEADERS`.

    Raises:
        ValueError: if a side of `left_out` has not one value a sentence.
    """
    rows = []
    for name, response, lost in zip("AB", (pair.a, pair.b), left_out, strict=True):
        where = {p.sentence: _parting(p.other_sign, p.rank, p.rank_left_out) for p in partings(response, lost)}
        rows += [
            [name, term, text, signed(contribution, 4), signed(lost[i], 4), where.get(i, "")]
            for i, (term, text, contribution) in enumerate(
                zip(_terms(response)[1:], _texts(response)[1:], response.contributions[1:], strict=True)
            )
        ]
    return rows


def influence_line(pair: ScoredPair, left_out: tuple[Sequence[float], Sequence[float]]) -> str:
    """Where contribution and leave-one-out part, in one line. Raises ValueError as `influence_rows` does."""
    unit = unit_of(pair.a.segmenter.spec)
    parted = [
        f"{name} {p.sentence + 1} ({_parting(p.other_sign, p.rank, p.rank_left_out)})"
        for name, response, lost in zip("AB", (pair.a, pair.b), left_out, strict=True)
        for p in partings(response, lost)
    ]
    if not parted:
        return f"Contribution and leave-one-out agree: no {unit} differs in sign or is far apart in rank."
    more = f" and {counted(len(parted) - NAMED, f'other {unit}')}" if len(parted) > NAMED else ""
    return (
        f"What a {unit} contributes is not always what the score loses without it. "
        f"They part at {', '.join(parted[:NAMED])}{more}."
    )


def health_line(name: str, response: ScoredResponse) -> str:
    """How far the weight of response `name` is spread, where most of it lies, and whether one sentence decides."""
    unit = unit_of(response.segmenter.spec)
    health = attention_health(response)
    if response.model.aggregator in FIXED_WEIGHTS:
        line = f"Response {name}: the weights of this model are fixed ({response.model.aggregator}); none is attention."
    elif health is None:
        line = f"Response {name}: no weight was given to anything."
    else:
        whole = counted(len(response.spans), unit)
        if health.places > len(response.spans):
            whole = f"{health.places} places ({whole} and the prompt)"
        at = "the prompt" if health.at == 0 else _terms(response)[health.at]
        line = (
            f"Response {name}: the weight is as spread as if {plain(health.effective, 1)} of "
            f"{whole} shared it evenly; the largest share, {percent(health.largest)}, is that of {at}."
        )
    i = deciding_sentence(response)
    if i is None:
        return line
    return f"{line} One {unit} decides: {unit} {i + 1} contributes more than all the rest together."


def _parting(other_sign: bool, rank: float, rank_left_out: float) -> str:
    if other_sign:
        return "other sign"
    return f"rank {rank:g} by contribution, {rank_left_out:g} left out"


def _terms(response: ScoredResponse) -> list[str]:
    unit = unit_of(response.segmenter.spec)
    count = len(response.spans)
    return ["prompt", *(unit if unit == "response" else f"{unit} {i}" for i in range(1, count + 1))]


def _texts(response: ScoredResponse) -> list[str]:
    return ["(prompt)", *(visible(sentence).strip() for sentence in response.sentences)]
