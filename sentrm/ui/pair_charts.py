"""Charts of a pair: the margin as a mirrored waterfall, sums and values along the responses, weight against influence.

Pure functions of results. Each point carries `customdata = [side, sentence]`: side 0 is A, 1 is B; sentences count
from 0, `OTHERS` stands for those that share a bar, None for the prompt, the score and the margin. A page finds a
clicked sentence by it, and the point of a sentence that is selected in the text (`charts.js`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ..attention_health import partings
from ..results import ScoredPair
from ..words import signed, unit_of
from .charts import OTHERS, label, layout, terms

if TYPE_CHECKING:
    import plotly.graph_objects as go

SIDES = ("A", "B")
COLOURS = ("#0f8b8d", "#c9661f")  # A, B: 3:1 on the page in light and dark, distinguishable with any colour vision
DASHES, SYMBOLS = ("solid", "dash"), ("circle", "square")
NEUTRAL = "#6f7785"
LABELLED = 3  # points of a side of the scatter with a name beside them; all have it where they are pointed at


def margin_waterfall(pair: ScoredPair) -> go.Figure:
    """`margin = Σ a_i Δ_i (A) - Σ a_i Δ_i (B)`, from the top: A's contributions walk from zero to its score, B's walk
    back, mirrored, to the margin. A bar to the right speaks for A, one to the left for B.
    """
    import plotly.graph_objects as go

    rows: list[dict[str, Any]] = []
    level = 0.0
    for side, (name, response) in enumerate(zip(SIDES, (pair.a, pair.b), strict=True)):
        sign = 1 - 2 * side
        for bar in terms(response):
            move = sign * bar.contribution
            words = f" <i>{label(bar.text, 16)}</i>" if bar.sentence not in (None, OTHERS) else ""
            rows.append(
                {
                    "tick": f"{name} {bar.name}{words}",
                    "base": level,
                    "x": move,
                    "colour": COLOURS[0 if move >= 0 else 1],
                    "hover": f"{name} {bar.name}: contribution {signed(bar.contribution, 3)}, "
                    f"so {signed(move, 3)} to the margin<br>{label(bar.text)}",
                    "at": [side, bar.sentence],
                }
            )
            level += move
        if side == 0:
            rows.append(_total("score of A", response.score, [0, None]))
            level = response.score
    rows.append(_total("margin", pair.margin, [None, None]))

    ends = [row["base"] + row["x"] for row in rows]
    low, high = min(0.0, *ends), max(0.0, *ends)
    digits = 2 if high - low >= 0.3 else 3
    room = 0.2 * (high - low) or 0.1  # for the number at the end of a bar
    return go.Figure(
        [
            go.Scatter(  # from the end of each bar down to the next
                x=[x for end in ends[:-1] for x in (end, end, None)],
                y=[y for i in range(len(ends) - 1) for y in (i, i + 1, None)],
                mode="lines",
                line={"color": NEUTRAL, "width": 1},
                hoverinfo="skip",
            ),
            go.Bar(
                orientation="h",
                y=list(range(len(rows))),
                base=[row["base"] for row in rows],
                x=[row["x"] for row in rows],
                marker={"color": [row["colour"] for row in rows]},
                width=0.72,
                text=[signed(row["x"], digits) for row in rows],
                textposition="outside",
                cliponaxis=False,
                constraintext="none",
                hovertext=[row["hover"] for row in rows],
                hoverinfo="text",
                customdata=[row["at"] for row in rows],
                unselected={"marker": {"opacity": 0.4}},
            ),
        ],
        layout(
            56 + 23 * len(rows),
            "The margin as a waterfall",
            xaxis={
                "range": (
                    min([low - room / 8, *(end - room for end, row in zip(ends, rows, strict=True) if row["x"] < 0)]),
                    max([high + room / 8, *(end + room for end, row in zip(ends, rows, strict=True) if row["x"] >= 0)]),
                ),
                "title": "towards B  ←  logits  →  towards A",
                "tickformat": f".{digits}f",
                "zeroline": True,
            },
            yaxis={
                "range": (len(rows) - 0.4, -0.6),
                "tickvals": list(range(len(rows))),
                "ticktext": [row["tick"] for row in rows],
                "automargin": True,
                "showgrid": False,
                "zeroline": False,
            },
            hovermode="y",  # anywhere in its row: a bar may be too short to point at
        ),
    )


def cumulative_curves(pair: ScoredPair) -> go.Figure:
    """`Σ_{j<=i} a_j Δ_j` after the prompt and after each sentence; the last point of each is its score."""
    sums = [[*accumulate(response.contributions)] for response in (pair.a, pair.b)]
    return _curves(pair, [[*s[:-1], r.score] for s, r in zip(sums, (pair.a, pair.b), strict=True)], "sum so far")


def value_curves(pair: ScoredPair) -> go.Figure:
    """The values `v_0..v_N`: what the reward head reads after the prompt and after each sentence."""
    return _curves(pair, [pair.a.values, pair.b.values], "value")


def influence_scatter(pair: ScoredPair, left_out: tuple[Sequence[float], Sequence[float]]) -> go.Figure:
    """Contribution (across) against leave-one-out (up), a point a sentence; on the diagonal they say the same.

    Points where they part (see `partings`) are large; the widest are named.

    Args:
        left_out: (N_a,) and (N_b,) logits, `R - R(without sentence i)`.

    Raises:
        ValueError: if a side of `left_out` has not one value a sentence.
    """
    import plotly.graph_objects as go

    every = [0.0, *pair.a.contributions[1:], *pair.b.contributions[1:], *left_out[0], *left_out[1]]
    ends = [min(every), max(every)]
    traces: list[Any] = [
        go.Scatter(
            x=ends,
            y=ends,
            mode="lines",
            line={"color": NEUTRAL, "width": 1, "dash": "dot"},
            hoverinfo="skip",
            name="equal",
        )
    ]
    for side, (name, response) in enumerate(zip(SIDES, (pair.a, pair.b), strict=True)):
        parted = [parting.sentence for parting in partings(response, left_out[side])]
        unit = unit_of(response.segmenter.spec)
        count = len(response.spans)
        traces.append(
            go.Scatter(
                x=response.contributions[1:],
                y=list(left_out[side]),
                mode="markers+text",
                name=f"response {name}",
                marker={
                    "color": COLOURS[side],
                    "symbol": SYMBOLS[side],
                    "size": [13 if i in parted else 8 for i in range(count)],
                    "opacity": [1.0 if i in parted else 0.6 for i in range(count)],
                },
                text=[f"{name} {i + 1}" if i in parted[:LABELLED] else "" for i in range(count)],
                textposition="top center",
                cliponaxis=False,
                hovertext=[
                    f"{name} {unit} {i + 1}: contribution {signed(c, 3)}, left out {signed(d, 3)}<br>{label(text)}"
                    for i, (c, d, text) in enumerate(
                        zip(response.contributions[1:], left_out[side], response.sentences, strict=True)
                    )
                ],
                hoverinfo="text",
                customdata=[[side, i] for i in range(count)],
                selected={"marker": {"size": 18, "opacity": 1.0}},
                unselected={"marker": {"opacity": 0.35}, "textfont": {"color": NEUTRAL}},
            )
        )
    return go.Figure(
        traces,
        layout(
            380,
            "Contribution against leave-one-out",
            showlegend=True,
            xaxis={"title": "contribution (logits)", "zeroline": True},
            yaxis={"title": "score lost without it (logits)", "zeroline": True, "automargin": True},
        ),
    )


def _total(tick: str, score: float, at: list[int | None]) -> dict[str, Any]:
    hover = f"{tick} {signed(score, 3)}"
    return {"tick": f"<b>{tick}</b>", "base": 0.0, "x": score, "colour": NEUTRAL, "hover": hover, "at": at}


def _curves(pair: ScoredPair, levels: Sequence[Sequence[float]], what: str) -> go.Figure:
    """One line a response over the boundaries 0..N; the legend says where it ends."""
    import plotly.graph_objects as go

    traces = []
    longest = max(map(len, levels)) - 1
    span = max(map(max, levels)) - min(map(min, levels))
    digits = 2 if span >= 0.3 else 3
    for side, (name, response) in enumerate(zip(SIDES, (pair.a, pair.b), strict=True)):
        unit = unit_of(response.segmenter.spec)
        line = levels[side]
        traces.append(
            go.Scatter(
                x=list(range(len(line))),
                y=list(line),
                mode="lines+markers",
                name=f"{name} {signed(line[-1], digits)}",
                line={"color": COLOURS[side], "width": 2, "dash": DASHES[side]},
                marker={"symbol": SYMBOLS[side], "size": 8 if longest <= 60 else 4},
                cliponaxis=False,
                hovertext=[
                    f"{name}, after the prompt: {what} {signed(line[0], 3)}",
                    *(
                        f"{name}, after {unit} {i}: {what} {signed(level, 3)}<br>{label(text)}"
                        for i, (level, text) in enumerate(zip(line[1:], response.sentences, strict=True), start=1)
                    ),
                ],
                hoverinfo="text",
                customdata=[[side, i - 1 if i else None] for i in range(len(line))],
                selected={"marker": {"size": 15}},
                unselected={"marker": {"opacity": 0.5}},
            )
        )
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**9) if longest / s <= 12)
    ticks = [*range(0, longest + 1, step)]
    return go.Figure(
        traces,
        layout(
            320,
            f"Curves of the {what}",
            showlegend=True,
            xaxis={
                "title": f"after {unit_of(pair.a.segmenter.spec)}",
                "range": (-0.03 * longest - 0.1, longest * 1.08 + 0.3),
                "tickvals": ticks,
                "ticktext": ["prompt", *map(str, ticks[1:])],
                "showgrid": False,
                "zeroline": False,
            },
            yaxis={"title": f"{what} (logits)", "automargin": True, "zeroline": True, "tickformat": f".{digits}f"},
        ),
    )
