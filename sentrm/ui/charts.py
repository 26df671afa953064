"""How a score adds up: its terms as the bars of a waterfall and as table rows; and what all charts have in common.

Pure functions of results. A bar is one term of `R = Σ a_i Δ_i`; the first is the prompt's.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..results import ScoredPair, ScoredResponse
from ..words import MINUS, counted, plain, signed, unit_of, visible, weight_of

OTHERS = -1  # stands for the sentences that share one bar
SHOWN = 10  # sentences, or what stands in their place, with a bar of their own; the others share one
TABLE_HEADERS = ["response", "term", "text", "tokens", "value", "reward", "weight", "contribution"]


class Term(NamedTuple):
    """One bar of a waterfall."""

    name: str
    contribution: float  # logits
    text: str
    sentence: int | None  # counted from 0; OTHERS where several share the bar, None for the prompt


def terms(response: ScoredResponse, shown: int = SHOWN) -> list[Term]:
    """The bars before the score, in reading order.

    At most `shown` sentences, those with the largest |contribution|, keep their place; the others follow as one bar.
    """
    contributions = response.contributions[1:]
    unit = unit_of(response.segmenter.spec)
    largest = sorted(range(len(contributions)), key=lambda i: -abs(contributions[i]))[:shown]
    bars = [Term("prompt", response.contributions[0], "the prompt term", None)]
    bars += [
        Term(unit if unit == "response" else str(i + 1), contributions[i], response.sentences[i], i)
        for i in sorted(largest)
    ]
    others = [c for i, c in enumerate(contributions) if i not in set(largest)]
    if others:
        name = f"{len(others)} other{'s' if len(others) > 1 else ''}"
        bars.append(Term(name, math.fsum(others), f"{counted(len(others), f'other {unit}')} together", OTHERS))
    return bars


def residual(response: ScoredResponse) -> float:
    """`|Σ contributions − score|`, logits: what rounding left over."""
    return abs(math.fsum(response.contributions) - response.score)


def residual_line(name: str, response: ScoredResponse) -> str:
    """The sum in words, with its residual."""
    total, left = math.fsum(response.contributions), residual(response)
    return (
        f"Response {name}: contributions add up to {signed(total, 4)}, the score is {signed(response.score, 4)}; "
        f"residual {f'{left:.0e}'.replace('-', MINUS) if left else '0'}"
    )


def table_rows(pair: ScoredPair) -> list[list[str]]:
    """Every term of both responses as text, in reading order; columns as in `TABLE_HEADERS`."""
    rows = []
    for name, response in (("A", pair.a), ("B", pair.b)):
        unit = unit_of(response.segmenter.spec)
        for i, contribution in enumerate(response.contributions):
            text = visible(response.sentences[i - 1]).strip() if i else "(prompt)"
            rows.append(
                [
                    name,
                    "prompt" if i == 0 else unit if unit == "response" else f"{unit} {i}",
                    text,
                    str(response.tokens[i - 1]) if i else "",
                    plain(response.values[i], 4),
                    signed(response.rewards[i], 4),
                    weight_of(response.weights, i),
                    signed(contribution, 4),
                ]
            )
        rows.append([name, "score", "", str(sum(response.tokens)), "", "", "", signed(response.score, 4)])
    return rows


def label(text: str, width: int = 70) -> str:
    """Text for a plotly label, which reads a few HTML tags: escaped, short, on one line."""
    line = " ".join(visible(text).split())
    return html.escape(line if len(line) <= width else line[: width - 1] + "…", quote=False)


def layout(
    height: int,
    name: str,
    narrow: Sequence[Any] = (),
    brush: str = "",
    bins: Sequence[Any] = (),
    ends: Sequence[Any] = (),
    **more: Any,
) -> dict[str, Any]:
    """A figure's layout.

    Args:
        height: pixels.
        name: says what the chart is to those who do not see it.
        narrow, brush, bins, ends: what dataset.js reads of a chart that filters the list, see dataset_charts.py.
        more: of `plotly.graph_objects.Layout`; xaxis and yaxis are needed.
    """
    for axis in ("xaxis", "yaxis"):
        more[axis] = {"fixedrange": True, **more[axis]}
    return {
        "height": height,
        "meta": {"name": name, "narrow": list(narrow), "brush": brush, "bins": list(bins), "ends": list(ends)},
        "margin": {"l": 8, "r": 24, "t": 16, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "Inter, system-ui, sans-serif", "size": 12},
        "hoverlabel": {"align": "left"},
        "hovermode": "closest",
        "showlegend": False,
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "itemclick": False},
        "dragmode": False,
        "selectdirection": "h",
        **more,
    }
