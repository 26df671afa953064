"""One plotly chart of each set of numbers in `figures`: plain `{"data": …, "layout": …}`.

A chart has no colours of the light or dark page: the report's style sheet has those.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from sentrm.results import ScoredPair, ScoredResponse
from sentrm.words import MINUS

CHOSEN, REJECTED = "#4393c3", "#d6604d"  # the ends of the heatmap's ramp
MAIN, QUIET = "#4a78e8", "#7b8494"  # 3:1 on the light and on the dark page
POINTS = 2000  # most points of the scatter plot; the correlations are of all responses

Chart = dict[str, Any]


def curves_chart(points: dict[str, list[list[float]]]) -> Chart:
    """Loss, accuracy where the run evaluated, and learning rate, one above the other on the same steps."""
    panels = [("loss", ["loss", "eval_loss"], 3.0)]
    if points["eval_accuracy"]:
        panels.append(("held-out accuracy", ["eval_accuracy"], 1.5))
    if points["learning_rate"]:
        panels.append(("learning rate", ["learning_rate"], 1.0))
    names = {"loss": "training", "eval_loss": "held out", "eval_accuracy": "held out", "learning_rate": ""}
    gap, total = 0.13, sum(share for *_, share in panels)
    layout: dict[str, Any] = {
        "height": 190 + 90 * len(panels),
        "annotations": [],
        "xaxis": {"title": {"text": "step"}, "anchor": f"y{len(panels)}" if len(panels) > 1 else "y"},
    }
    data, top = [], 1.0
    for number, (title, series, share) in enumerate(panels, start=1):
        axis = "y" if number == 1 else f"y{number}"
        bottom = max(0.0, top - (1 - gap * (len(panels) - 1)) * share / total)
        layout["yaxis" + axis[1:]] = {"domain": [bottom, top], "nticks": 5 if share > 1 else 3, "automargin": True}
        if title == "learning rate":
            layout["yaxis" + axis[1:]] |= {"exponentformat": "power", "rangemode": "tozero"}
        if title == "held-out accuracy":
            layout["yaxis" + axis[1:]] |= {"tickformat": ".1~%"}
        layout["annotations"].append(_title(title, top))
        for name in series:
            if points[name]:
                dots = name.startswith("eval")
                data.append(
                    {
                        "type": "scatter",
                        "mode": "lines+markers" if dots else "lines",
                        "name": names[name],
                        "x": [step for step, _ in points[name]],
                        "y": [value for _, value in points[name]],
                        "yaxis": axis,
                        "line": {"color": MAIN if dots else QUIET, "width": 1.5},
                        "marker": {"size": 7},
                        "showlegend": number == 1 and bool(points["eval_loss"]),
                        "hovertemplate": "step %{x}<br>%{y:.4~g}<extra></extra>",
                    }
                )
        top = bottom - gap
    layout["shapes"] = [_line(x0=0, x1=1, xref="paper", y0=math.log(2), y1=math.log(2))]
    return {"data": data, "layout": layout}


def reliability_chart(bins: Sequence[dict[str, float]]) -> Chart:
    """Accuracy against confidence, the diagonal of a calibrated model, and the number of pairs below."""
    x, most = [one["confidence"] for one in bins], max(one["pairs"] for one in bins)
    diagonal = {"type": "scatter", "mode": "lines", "x": [0.5, 1], "y": [0.5, 1], "hoverinfo": "skip"}
    data = [
        diagonal | {"name": "calibrated", "line": {"color": QUIET, "width": 1, "dash": "dot"}},
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "this model",
            "x": x,
            "y": [one["accuracy"] for one in bins],
            "customdata": [one["pairs"] for one in bins],
            "line": {"color": MAIN, "width": 1.5},
            "marker": {"size": [5 + 9 * math.sqrt(one["pairs"] / most) for one in bins], "line": {"width": 0}},
            "hovertemplate": "confidence %{x:.1%}<br>accuracy %{y:.1%}<br>pairs %{customdata}<extra></extra>",
        },
        {
            "type": "bar",
            "x": [(one["from"] + one["to"]) / 2 for one in bins],
            "y": [one["pairs"] for one in bins],
            "width": [0.9 * (one["to"] - one["from"]) for one in bins],
            "yaxis": "y2",
            "marker": {"color": QUIET},
            "showlegend": False,
            "hovertemplate": "%{y} pairs<extra></extra>",
        },
    ]
    layout = {
        "xaxis": {
            "range": [0.49, 1.01],
            "tickformat": ".0%",
            "title": {"text": "confidence σ(|margin|)"},
            "anchor": "y2",
        },
        "yaxis": {"domain": [0.32, 1], "tickformat": ".0%", "nticks": 6},
        "yaxis2": {"domain": [0, 0.2], "nticks": 3, "automargin": True},
        "annotations": [_title("accuracy"), _title("pairs", 0.2)],
    }
    return {"data": data, "layout": layout}


def rewards_chart(histogram: dict[str, list[float]], median: float, unit: str) -> Chart:
    """Two outlines over one another, and the median that the heatmaps are centred on."""
    edges = histogram["edges"]
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": [(left + right) / 2 for left, right in pairwise(edges)],
            "y": histogram[name],
            "line": {"color": colour, "width": 1.5, "shape": "hvh"},
            "fill": "tozeroy",
            "fillcolor": f"{colour}22",
            "hovertemplate": name + ", %{x:.2f}: %{y:.2%}<extra></extra>",
        }
        for name, colour in (("chosen", CHOSEN), ("rejected", REJECTED))
    ]
    layout = {
        "xaxis": {"title": {"text": f"reward of a {unit}, logits"}},
        "yaxis": {"tickformat": ".0%", "rangemode": "tozero", "nticks": 5},
        "shapes": [_line(x0=median, x1=median, y0=0, y1=1, yref="paper")],
        "annotations": [
            _title(f"share of the {unit}s"),
            _note("median", median, 1, xref="x", xshift=4, xanchor="left", yanchor="top"),
        ],
    }
    return {"data": data, "layout": layout}


def length_chart(scored: Sequence[ScoredPair], dependence: dict[str, Any], seed: int, unit: str) -> Chart:
    """Score against number of sentences, at most `POINTS` responses drawn by `seed`, and the medians of all."""
    responses = [(side, response) for pair in scored for side, response in (("chosen", pair.a), ("rejected", pair.b))]
    if len(responses) > POINTS:
        responses = random.Random(seed).sample(responses, POINTS)

    def dots(name: str, colour: str) -> dict[str, Any]:
        shown: list[ScoredResponse] = [response for side, response in responses if side == name]
        return {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": [len(response.spans) for response in shown],
            "y": [round(response.score, 4) for response in shown],
            "marker": {"color": colour, "size": 5, "opacity": 0.45},
            "hovertemplate": f"%{{x}} {unit}s<br>score %{{y:.2f}}<extra></extra>",
        }

    medians = {
        "type": "scatter",
        "mode": "lines",
        "name": "median of all",
        "x": [number for number, _ in dependence["medians"]],
        "y": [score for _, score in dependence["medians"]],
        "line": {"color": MAIN, "width": 2},
        "hovertemplate": f"%{{x}} {unit}s<br>median score %{{y:.2f}}<extra></extra>",
    }
    layout = {"xaxis": {"title": {"text": f"{unit}s"}}, "annotations": [_title("score, logits")]}
    return {"data": [dots("chosen", CHOSEN), dots("rejected", REJECTED), medians], "layout": layout}


def weights_chart(rows: Sequence[dict[str, Any]]) -> Chart:
    """Median and quartiles of the weight at each position, and the line where all weights are the same."""
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": list(range(len(rows))),
            "y": [row["median"] for row in rows],
            "error_y": {
                "type": "data",
                "symmetric": False,
                "array": [row["high"] - row["median"] for row in rows],
                "arrayminus": [row["median"] - row["low"] for row in rows],
                "color": QUIET,
                "thickness": 1.5,
                "width": 4,
            },
            "customdata": [[row["position"], row["boundaries"]] for row in rows],
            "marker": {"color": MAIN, "size": 8},
            "showlegend": False,
            "hovertemplate": "%{customdata[0]}: %{y:.2f} even shares<br>%{customdata[1]} boundaries<extra></extra>",
        }
    ]
    layout = {
        "xaxis": {
            "tickvals": list(range(len(rows))),
            "ticktext": [row["position"] for row in rows],
            "title": {"text": "boundary"},
            "showgrid": False,
            "tickangle": 0,
        },
        "yaxis": {"rangemode": "tozero"},
        "annotations": [_title("weight, even shares")],
        "shapes": [_line(x0=0, x1=1, xref="paper", y0=1, y1=1)],
    }
    return {"data": data, "layout": layout}


def quintiles_chart(quintiles: Sequence[dict[str, float]]) -> Chart:
    """Accuracy by length difference, and the two rules that only look at length.

    A rule is right in all comparisons of one side of zero and in none of the other; of the fifth around zero, where it
    is neither, it has no point.
    """
    x = list(range(len(quintiles)))
    longer = [1.0 if one["from"] > 0 else 0.0 if one["to"] <= 0 else None for one in quintiles]
    shorter = [1.0 if one["to"] < 0 else 0.0 if one["from"] >= 0 else None for one in quintiles]
    rule = {"type": "scatter", "mode": "lines", "x": x, "connectgaps": True, "hoverinfo": "skip"}
    data = [
        rule | {"name": "always longer", "y": longer, "line": {"color": CHOSEN, "width": 1.5, "dash": "dot"}},
        rule | {"name": "always shorter", "y": shorter, "line": {"color": REJECTED, "width": 1.5, "dash": "dash"}},
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "this model",
            "x": x,
            "y": [one["accuracy"] for one in quintiles],
            "customdata": [one["comparisons"] for one in quintiles],
            "line": {"color": MAIN, "width": 2},
            "marker": {"size": 9},
            "hovertemplate": "%{y:.1%} of %{customdata:,} comparisons<extra></extra>",
        },
    ]
    layout = {
        "xaxis": {
            "tickvals": x,
            "ticktext": [spread(one).replace(" to ", "<br>to ") for one in quintiles],
            "title": {"text": "right − wrong, characters"},
            "showgrid": False,
            "tickangle": 0,
        },
        "yaxis": {"range": [-0.04, 1.04], "tickformat": ".0%", "nticks": 6},
        "annotations": [_title("accuracy")],
    }
    return {"data": data, "layout": layout}


def spread(quintile: dict[str, float]) -> str:
    """`−1,512 to −210`: the differences of a fifth."""
    low, high = (f"{quintile[end]:+,.0f}".replace("-", MINUS) for end in ("from", "to"))
    return f"{low} to {high}"


def auroc_chart(rows: Sequence[tuple[str, dict[str, float | None]]]) -> Chart:
    """A dot and its 95% interval for each name, on lines below one another; the dotted line is chance.

    A name must be plotly's own text: its `<` escaped.
    """
    shown = [(name, one) for name, one in rows if one["value"] is not None]
    values = [one["value"] or 0.0 for _, one in shown]
    lows, highs = ([one[end] if one[end] is not None else one["value"] for _, one in shown] for end in ("low", "high"))
    y = list(range(len(shown)))
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": values,
            "y": y,
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": [(high or 0.0) - value for high, value in zip(highs, values, strict=True)],
                "arrayminus": [value - (low or 0.0) for low, value in zip(lows, values, strict=True)],
                "color": QUIET,
                "thickness": 1.5,
                "width": 4,
            },
            "marker": {"color": MAIN, "size": 9},
            "showlegend": False,
            "hovertemplate": "%{x:.3f}<extra></extra>",
        }
    ]
    ends = [0.5, *(end for end in (*lows, *highs) if end is not None)]
    layout = {
        "height": 33 + 34.7 * len(shown) + 44,  # its lines beside the rows of the table
        "margin": {"l": 44, "r": 12, "t": 33, "b": 44},
        "xaxis": {"range": [min(ends) - 0.03, max(ends) + 0.03], "nticks": 6, "title": {"text": "AUROC"}},
        "yaxis": {
            "tickvals": y,
            "ticktext": [name for name, _ in shown],
            "range": [len(shown) - 0.5, -0.5],
        },
        "shapes": [_line(x0=0.5, x1=0.5, y0=0, y1=1, yref="paper")],
        "annotations": [_note("chance", 0.5, 1, xref="x", xanchor="center", yanchor="bottom")],
    }
    return {"data": data, "layout": layout}


def _title(text: str, top: float = 1.0) -> dict[str, Any]:
    """What a panel's vertical axis shows, above it: it takes no width from the chart."""
    return _note(text, 0, top, yshift=3, xanchor="left", yanchor="bottom")


def _note(text: str, x: float, y: float, **place: Any) -> dict[str, Any]:
    return {"text": text, "x": x, "y": y, "xref": "paper", "yref": "paper", "showarrow": False} | place


def _line(**place: Any) -> dict[str, Any]:
    return {"type": "line", "line": {"color": QUIET, "width": 1, "dash": "dot"}} | place
