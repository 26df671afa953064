"""Charts of an audit: pure functions of what `summary.json` holds.

Decisions:
- A chart names the filters behind its points in `layout.meta`, not in `customdata`, which ties points to sentences:
  `narrow` holds, for each trace and point, the filters that a click sets, or None; `bins` the (low, high) of the first
  trace's points over the column `brush`, so that a stretch of them can be chosen, an open end being None; `ends` where
  each begins and ends on the x axis.
- Teal is what agrees with the label, orange what does not; with two audits beside each other they are theirs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..words import percent, plain
from .charts import label, layout
from .dataset_tables import (
    RESPONSES,
    Summary,
    bin_ends,
    confidence_bins,
    decided,
    estimate,
    length_bins,
    margin_bins,
    name_of,
    range_words,
    slice_filter,
    slice_words,
    style_filter,
)
from .pair_charts import COLOURS, NEUTRAL, SYMBOLS

if TYPE_CHECKING:
    import plotly.graph_objects as go


def margin_figure(summary: Summary) -> go.Figure:
    """Pairs by margin, towards the label on the right."""
    import plotly.graph_objects as go

    edges, pairs = summary["margins"]["edges"], summary["margins"]["pairs"]
    middles = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
    bins = margin_bins(edges)
    return go.Figure(
        [
            go.Bar(
                x=middles,
                y=pairs,
                width=[high - low for low, high in itertools.pairwise(edges)],
                marker={"color": [COLOURS[0] if x > 0 else COLOURS[1] for x in middles], "line": {"width": 0}},
                hovertext=[
                    f"{range_words(*bin_)}: {n:,} pairs" for bin_, n in zip(bin_ends(edges), pairs, strict=True)
                ],
                hoverinfo="text",
            )
        ],
        layout(
            300,
            "Pairs by margin",
            brush="label_margin",
            bins=bins,
            ends=bin_ends(edges),
            bargap=0.06,
            dragmode="select",
            xaxis={"title": "margin towards the label (logits)", "zeroline": True, "showgrid": False},
            yaxis={"title": "pairs", "automargin": True, "rangemode": "tozero"},
        ),
    )


def calibration_figure(summary: Summary) -> go.Figure:
    """How often the label agrees at each confidence of the model, before and after the fitted temperature."""
    import plotly.graph_objects as go

    found = summary["calibration"]
    traces: list[Any] = []
    curves = [("as scored", found["bins"])]
    if found["bins_fitted"]:
        curves.append((f"at temperature {plain(found['temperature'])}", found["bins_fitted"]))
    for k, (name, bins) in enumerate(curves):
        traces.append(
            go.Scatter(
                x=[one["confidence"] for one in bins],
                y=[one["accuracy"] for one in bins],
                mode="lines+markers",
                name=name,
                line={"color": COLOURS[1 - k], "width": 2},
                marker={"symbol": SYMBOLS[k], "size": 9},
                cliponaxis=False,
                hovertext=[
                    f"{name}: {percent(one['confidence'])} sure, {percent(one['accuracy'])} right<br>"
                    f"{one['pairs']:,} pairs"
                    for one in bins
                ],
                hoverinfo="text",
            )
        )
    traces.append(
        go.Scatter(
            x=[0.5, 1],
            y=[0.5, 1],
            mode="lines",
            line={"color": NEUTRAL, "width": 1, "dash": "dot"},
            hoverinfo="skip",
            name="as sure as right",
        )
    )
    bins = confidence_bins(found["bins"])
    return go.Figure(
        traces,
        layout(
            360,
            "Reliability",
            brush="confidence",
            bins=bins,
            ends=bins,
            dragmode="select",
            showlegend=True,
            xaxis={"title": "confidence of the model", "tickformat": ".0%", "range": (0.49, 1.01)},
            yaxis={"title": "labels that agree", "tickformat": ".0%", "automargin": True},
        ),
    )


def slice_figure(
    summary: Summary, column: str, kinds: Mapping[str, str], other: Summary | None = None, names: Sequence[str] = ()
) -> go.Figure:
    """Agreement in each slice of a column, with its interval; that of another audit beside it.

    Args:
        kinds: the audit's columns, as `AuditFolder.columns`.
        names: of both audits.
    """
    import plotly.graph_objects as go

    rows = summary["slices"][column]
    ticks = [label(slice_words(one), 28) for one in rows]
    both = [rows]
    if other:
        theirs = {one["slice"]: one for one in other["slices"].get(column, [])}
        nothing = {"value": None, "low": None, "high": None, "n": 0}
        both.append([theirs.get(one["slice"], nothing) for one in rows])
    traces = []
    for k, found in enumerate(both):
        offset = (k - 0.5) * 0.26 if other else 0.0
        shown = [i for i, one in enumerate(found) if one["value"] is not None]
        traces.append(
            go.Scatter(
                x=[found[i]["value"] for i in shown],
                y=[i + offset for i in shown],
                mode="markers",
                name=label(names[k], 40) if other else "agreement",
                marker={"color": COLOURS[k], "symbol": SYMBOLS[k], "size": 10},
                error_x=_bars([found[i] for i in shown], COLOURS[k]),
                hovertext=[f"{ticks[i]}: {estimate(found[i])}, {found[i]['n']:,} pairs" for i in shown],
                hoverinfo="text",
                cliponaxis=False,
            )
        )
    filters = [slice_filter(column, one, one is rows[-1], kinds) for one in rows if one["value"] is not None]
    overall = summary["agreement"]["value"]
    return go.Figure(
        traces,
        layout(
            90 + 34 * len(rows),
            f"Agreement by {name_of(column)}",
            narrow=[[decided(summary, one) for one in filters]],
            showlegend=bool(other),
            shapes=[_rule(overall)] if overall is not None else [],
            xaxis={"title": "labels the model agrees with (line: all pairs)", "tickformat": ".0%", "zeroline": False},
            yaxis={
                "tickvals": list(range(len(rows))),
                "ticktext": ticks,
                "range": (len(rows) - 0.5, -0.5),
                "automargin": True,
                "showgrid": False,
                "zeroline": False,
            },
        ),
    )


def length_figure(summary: Summary) -> go.Figure:
    """Mean margin over bins of the length difference, each with about as many pairs."""
    import plotly.graph_objects as go

    curve = summary["length"]["curve"]
    places = list(range(len(curve)))
    bins = length_bins(curve)
    every = max(1, math.ceil(len(curve) / 8))
    return go.Figure(
        [
            go.Scatter(
                x=places,
                y=[one["value"] for one in curve],
                mode="lines+markers",
                line={"color": COLOURS[0], "width": 2},
                marker={"size": 9},
                error_y=_bars(curve, COLOURS[0]),
                hovertext=[
                    f"{range_words(one['from'], one['to'], 0)} characters: margin {estimate(one, 'margin')}<br>"
                    f"{one['n']:,} pairs"
                    for one in curve
                ],
                hoverinfo="text",
                cliponaxis=False,
            )
        ],
        layout(
            320,
            "Margin by length difference",
            brush="label_length_difference",
            bins=bins,
            ends=[(k - 0.5, k + 0.5) for k in places],
            dragmode="select",
            xaxis={
                "title": "the better response is longer by (characters; each point about as many pairs)",
                "tickvals": places[::every],
                "ticktext": [plain((one["from"] + one["to"]) / 2, 0) for one in curve[::every]],
                "showgrid": False,
                "zeroline": False,
            },
            yaxis={"title": "mean margin (logits)", "automargin": True, "zeroline": True},
        ),
    )


def position_figure(summary: Summary, what: str) -> go.Figure:
    """The mean "reward" or "weight" of sentences by tenth of the response, of the better and of the worse one."""
    import plotly.graph_objects as go

    words = {"reward": "mean reward (logits)", "weight": "weight, × an even share"}[what]
    traces = []
    for k, side in enumerate(RESPONSES):
        parts = summary["positions"][what][side]
        traces.append(
            go.Scatter(
                x=[(one["from"] + one["to"]) / 2 for one in parts],
                y=[one["mean"] for one in parts],
                mode="lines+markers",
                name=RESPONSES[side],
                line={"color": COLOURS[k], "width": 2, "dash": ("solid", "dash")[k]},
                marker={"symbol": SYMBOLS[k], "size": 8},
                hovertext=[
                    f"{RESPONSES[side]}, {percent(one['from'])} to {percent(one['to'])}: {plain(one['mean'], 3)}<br>"
                    f"{one['n']:,} sentences"
                    for one in parts
                ],
                hoverinfo="text",
                cliponaxis=False,
            )
        )
    return go.Figure(
        traces,
        layout(
            320,
            f"{what.capitalize()} by position",
            showlegend=True,
            xaxis={
                "title": "place in the response",
                "tickformat": ".0%",
                "range": (0, 1),
                "showgrid": False,
                "zeroline": False,
            },
            yaxis={"title": words, "automargin": True, "zeroline": True},
        ),
    )


def style_figure(summary: Summary) -> go.Figure:
    """Mean margin of the response with a feature over the one without it."""
    import plotly.graph_objects as go

    found = [(name, one) for name, one in summary["style"].items() if one["margin"]["n"]]
    return go.Figure(
        [
            go.Scatter(
                x=[one["margin"]["value"] for _, one in found],
                y=list(range(len(found))),
                mode="markers",
                marker={"color": [COLOURS[0] if one["margin"]["value"] > 0 else COLOURS[1] for _, one in found]}
                | {"size": 10},
                error_x=_bars([one["margin"] for _, one in found], NEUTRAL),
                hovertext=[
                    f"{name}: margin {estimate(one['margin'], 'margin')}, {one['margin']['n']:,} pairs<br>"
                    f"the model prefers it in {estimate(one['model'])}, the label in {estimate(one['label'])}"
                    for name, one in found
                ],
                hoverinfo="text",
                cliponaxis=False,
            )
        ],
        layout(
            90 + 34 * max(1, len(found)),
            "Margin by style",
            narrow=[[decided(summary, style_filter(name)) for name, _ in found]],
            xaxis={"title": "mean margin, with − without (logits)", "zeroline": True},
            yaxis={
                "tickvals": list(range(len(found))),
                "ticktext": [name for name, _ in found],
                "range": (len(found) - 0.5, -0.5),
                "automargin": True,
                "showgrid": False,
                "zeroline": False,
            },
        ),
    )


def _bars(found: Sequence[Mapping[str, Any]], colour: str) -> dict[str, Any]:
    """Intervals as plotly's error bars; none where there is no interval."""
    up = [0 if one["high"] is None else one["high"] - one["value"] for one in found]
    down = [0 if one["low"] is None else one["value"] - one["low"] for one in found]
    return {"type": "data", "array": up, "arrayminus": down, "color": colour, "thickness": 1.5, "width": 0}


def _rule(x: float) -> dict[str, Any]:
    line = {"color": NEUTRAL, "width": 1, "dash": "dot"}
    return {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": line, "layer": "below"}
