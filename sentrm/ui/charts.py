"""How a score adds up: a waterfall of contributions for each response, and the same numbers as table rows.

Pure functions of results. A bar is one term of `R = Σ a_i Δ_i`; the first is the prompt's, the last is R.
"""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

from ..results import ScoredPair, ScoredResponse
from .words import MINUS, counted, plain, signed, unit_of, visible, weight_of

if TYPE_CHECKING:
    import plotly.graph_objects as go

SHOWN = 10  # sentences, or what stands in their place, with a bar of their own; the others share one
ABOVE, BELOW, TOTAL = "#4393c3", "#d6604d", "#6b7280"
TABLE_HEADERS = ["response", "term", "text", "tokens", "value", "reward", "weight", "contribution"]


def terms(response: ScoredResponse, shown: int = SHOWN) -> list[tuple[str, float, str]]:
    """The bars before the score, in reading order: (name, contribution, text to show on hover).

    At most `shown` sentences, those with the largest |contribution|, keep their place; the others follow as one bar.
    """
    contributions = response.contributions[1:]
    unit = unit_of(response.segmenter.spec)
    largest = sorted(range(len(contributions)), key=lambda i: -abs(contributions[i]))[:shown]
    bars = [("prompt", response.contributions[0], "the prompt term")]
    bars += [
        (unit if unit == "response" else str(i + 1), contributions[i], response.sentences[i]) for i in sorted(largest)
    ]
    others = [c for i, c in enumerate(contributions) if i not in set(largest)]
    if others:
        name = f"{len(others)} other{'s' if len(others) > 1 else ''}"
        bars.append((name, math.fsum(others), f"{counted(len(others), f'other {unit}')} together"))
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


def shared_range(pair: ScoredPair) -> tuple[float, float]:
    """One vertical range for both charts, logits: every step of both waterfalls and zero, with room for labels."""
    levels = [0.0]
    for response in (pair.a, pair.b):
        level = 0.0
        for _, contribution, _ in terms(response):
            level += contribution
            levels.append(level)
        levels.append(response.score)
    low, high = min(levels), max(levels)
    room = 0.14 * (high - low) or 0.1
    return (low - room if low < 0 else low - room / 2, high + room)


def waterfall(name: str, response: ScoredResponse, y_range: tuple[float, float]) -> go.Figure:
    """The contributions of one response, prompt term first, ending at its score."""
    import plotly.graph_objects as go  # only a page that shows a result needs it

    bars = terms(response)
    digits = 2 if y_range[1] - y_range[0] >= 0.3 else 3
    figure = go.Figure(
        go.Waterfall(
            x=list(range(len(bars) + 1)),
            y=[c for _, c, _ in bars] + [response.score],
            measure=["relative"] * len(bars) + ["total"],
            text=[signed(c, digits) for _, c, _ in bars] + [signed(response.score, digits)],
            textposition="outside",
            textangle=0,
            cliponaxis=False,
            constraintext="none",
            customdata=[_label(text) for _, _, text in bars] + [f"score of {name}"],
            hovertemplate="%{text}<br>%{customdata}<extra></extra>",
            increasing_marker_color=ABOVE,
            decreasing_marker_color=BELOW,
            totals_marker_color=TOTAL,
            connector_line={"color": TOTAL, "width": 1},
        )
    )
    figure.update_layout(
        height=300,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "Inter, system-ui, sans-serif", "size": 12},
        xaxis={
            "tickvals": list(range(len(bars) + 1)),
            "ticktext": [label.replace(" ", "<br>") for label, _, _ in bars] + ["score"],
            "autotickangles": [0, 90],
            "fixedrange": True,
            "showgrid": False,
        },
        yaxis={"range": y_range, "fixedrange": True, "automargin": True, "zeroline": True, "tickformat": f".{digits}f"},
        showlegend=False,
        dragmode=False,
    )
    return figure


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


def _label(text: str, width: int = 70) -> str:
    """Text for a plotly label, which reads a few HTML tags: escaped, short, on one line."""
    line = " ".join(visible(text).split())
    return html.escape(line if len(line) <= width else line[: width - 1] + "…", quote=False)
