"""The tables of an audit, and what each of their rows narrows the list of pairs to: pure functions of `summary.json`.

Decisions:
- A row's first cell holds the filters that it stands for, so a table does all that its chart does, without a pointer.
- Filters of a bin are exact: the upper end of all bins but the last is not in it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..words import MINUS, percent, plain, signed, visible

Summary = Mapping[str, Any]
Narrow = list[list[Any]]  # filters as [column, test, value]
Cell = str | dict[str, Any]  # text, or text with the filters it sets
INTEGERS = ("label_length_difference", "sentences", "turns")
RESPONSES = {"chosen": "better response", "rejected": "worse response"}  # by the label, whichever the data call chosen
NAMES = {
    "label_margin": "margin towards the label",
    "confidence": "confidence of the model",
    "label_length_difference": "length difference, better − worse response (characters)",
    "language": "language",
    "source": "source",
    "turns": "turns of the user",
    "sentences": "sentences of both responses",
}


def table(caption: str, headers: Sequence[str], rows: Sequence[Sequence[Cell]], words: int = 1) -> dict[str, Any]:
    """A table for `Panel`; the first `words` columns hold words, the others numbers."""
    cells = [{"cells": list(row)} for row in rows]
    numeric = list(range(words, len(headers)))
    return {"caption": caption, "headers": [{"text": text} for text in headers], "numeric": numeric, "rows": cells}


def name_of(column: str) -> str:
    """A column of an audit in words."""
    return NAMES.get(column) or column.removeprefix("meta_").replace("_", " ")


def estimate(found: Mapping[str, Any], kind: str = "share") -> str:
    """`72% (67% to 77%)`, `+1.20 (+0.90 to +1.50)`, or a dash where there is nothing to estimate from."""
    if found["value"] is None:
        return "–"
    write = percent if kind == "share" else signed
    ends = "" if found["low"] is None else f" ({write(found['low'])} to {write(found['high'])})"
    return write(found["value"]) + ends


def margin_table(summary: Summary) -> dict[str, Any]:
    edges, pairs = summary["margins"]["edges"], summary["margins"]["pairs"]
    total = sum(pairs) or 1
    rows = [
        [_narrowing(range_words(*ends), _bin_filter("label_margin", bin_)), f"{n:,}", percent(n / total)]
        for ends, bin_, n in zip(bin_ends(edges), margin_bins(edges), pairs, strict=True)
    ]
    return table("Pairs by margin", ["margin", "pairs", "share"], rows)


def calibration_table(summary: Summary) -> dict[str, Any]:
    found = summary["calibration"]
    rows = [
        [
            _narrowing(
                f"{percent(one['from'])} to {percent(one['to'])}", None if fitted else _bin_filter("confidence", ends)
            ),
            name,
            f"{one['pairs']:,}",
            percent(one["confidence"]),
            percent(one["accuracy"]),
        ]
        for fitted, (name, bins) in enumerate(
            (("as scored", found["bins"]), ("with the temperature", found["bins_fitted"]))
        )
        for one, ends in zip(bins, confidence_bins(bins), strict=True)
    ]
    headers = ["confidence", "curve", "pairs", "mean confidence", "labels that agree"]
    return table("Reliability", headers, rows, words=2)


def slice_table(summary: Summary, column: str, kinds: Mapping[str, str]) -> dict[str, Any]:
    rows = summary["slices"][column]
    cells = [
        [
            _narrowing(slice_words(one), decided(summary, slice_filter(column, one, one is rows[-1], kinds))),
            f"{one['n']:,}",
            estimate(one),
        ]
        for one in rows
    ]
    return table(f"Agreement by {name_of(column)}", [name_of(column), "pairs", "agreement"], cells)


def length_words(summary: Summary) -> str:
    """What of the preference is length, in one line."""
    found = summary["length"]
    related = found["margin_with_difference"]
    tie = "" if related is None else f" Margin and length difference correlate by {signed(related)} (Spearman)."
    return (
        f"Agreement of the model {estimate(found['model'])}, of always taking the longer response "
        f"{estimate(found['always_longer'])}, of the model calibrated for length {estimate(found['calibrated'])}.{tie}"
    )


def length_table(summary: Summary) -> dict[str, Any]:
    curve = summary["length"]["curve"]
    rows = [
        [
            _narrowing(range_words(one["from"], one["to"], 0), _bin_filter("label_length_difference", bin_)),
            f"{one['n']:,}",
            estimate(one, "margin"),
        ]
        for one, bin_ in zip(curve, length_bins(curve), strict=True)
    ]
    return table("Margin by length difference", ["better is longer by", "pairs", "mean margin"], rows)


def position_table(summary: Summary) -> dict[str, Any]:
    rows = []
    for side, name in RESPONSES.items():
        found = zip(*(summary["positions"][what][side] for what in ("reward", "weight")), strict=True)
        rows += [
            [
                name,
                f"{percent(reward['from'])} to {percent(reward['to'])}",
                f"{reward['n']:,}",
                signed(reward["mean"], 3),
                plain(weight["mean"], 3),
            ]
            for reward, weight in found
        ]
    headers = ["response", "place", "sentences", "mean reward", "weight, × even"]
    return table("Reward and weight by place in the response", headers, rows, words=2)


def style_table(summary: Summary) -> dict[str, Any]:
    rows = [
        [
            _narrowing(name, decided(summary, style_filter(name))) if one["margin"]["n"] else name,
            percent(one["responses"]),
            f"{one['margin']['n']:,}",
            estimate(one["margin"], "margin"),
            estimate(one["model"]),
            estimate(one["label"]),
        ]
        for name, one in summary["style"].items()
    ]
    headers = ["feature", "responses", "one side has it", "margin, with − without", "model prefers it"]
    return table("Features of style", [*headers, "label prefers it"], rows)


def problem_table(summary: Summary) -> dict[str, Any]:
    """What stands twice, says nothing or was not read whole."""
    twice = summary["duplicates"]
    found = [
        ("labels that look wrong, and pairs that say nothing", ["suspect", "=", True], summary["suspects"]["suspects"]),
        ("the same pair with the other label", ["contradicts", "=", True], twice["contradicts"]),
        ("the same as an earlier pair", ["duplicate_of", "missing", False], twice["exact"]),
        ("nearly the same as an earlier pair", ["near_duplicate_of", "missing", False], twice["near"]),
        ("both responses are the same", ["identical", "=", True], twice["identical"]),
        ("a response is empty", ["empty", "=", True], twice["empty"]),
        ("the model did not read all of it", ["truncated", "=", True], summary["truncated"]),
        ("the label prefers neither", ["label_probability", "=", 0.5], summary["ties"]),
    ]
    rows: list[list[Cell]] = [
        [_narrowing(name, [one] if count else None), "not asked of so many" if count is None else f"{count:,}"]
        for name, one, count in found
    ]
    rows.append(["left out: rows that could not be scored", f"{summary['left_out']:,}"])
    return table("Problems of the data", ["problem", "pairs"], rows)


def margin_bins(edges: Sequence[float]) -> list[tuple[float | None, float | None]]:
    """The outermost bins hold what lies beyond."""
    return [(None if k == 0 else low, None if k == len(edges) - 2 else high) for k, (low, high) in _pairs(edges)]


def bin_ends(edges: Sequence[float]) -> list[tuple[float, float]]:
    return [ends for _, ends in _pairs(edges)]


def _pairs(edges: Sequence[float]) -> list[tuple[int, tuple[float, float]]]:
    return list(enumerate(itertools.pairwise(edges)))


def confidence_bins(bins: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    return [(one["from"], one["to"]) for one in bins]


def length_bins(curve: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    return [(one["from"], _last(one["to"], one is curve[-1])) for one in curve]


def _last(end: float, included: bool) -> float:
    """The greatest whole number of a bin that ends before `end`, or with it."""
    return end if included else math.ceil(end) - 1.0


def _bin_filter(column: str, ends: tuple[float | None, float | None]) -> Narrow:
    low, high = ends
    if low is None and high is None:
        return []
    if low is None or high is None:
        return [[column, "<=", high]] if low is None else [[column, ">=", low]]
    return [[column, "between", [low, high]]]


def slice_filter(column: str, one: Mapping[str, Any], last: bool, kinds: Mapping[str, str]) -> Narrow | None:
    """The filter of a slice; None for the rarer values together."""
    if "from" not in one:
        if one["slice"] == "(none)":
            return [[column, "missing", True]]
        return None if last and one["slice"].endswith(" others") else [[column, "=", one["slice"]]]
    low, high = one["from"], one["to"]
    if low == high:
        return [[column, "=", bool(low) if kinds.get(column) == "flag" else low]]
    if column in INTEGERS:
        return [[column, "between", [low, _last(high, last)]]]
    return [[column, ">=", low], [column, "<=" if last else "<", high]]


def style_filter(name: str) -> Narrow:
    return [[f"style_{name}", "in", ["chosen", "rejected"]]]


def decided(summary: Summary, narrow: Narrow | None) -> Narrow | None:
    """The filters without ties, of which no figure is."""
    return [*narrow, ["label_probability", "!=", 0.5]] if narrow and summary["ties"] else narrow


def _narrowing(text: str, narrow: Narrow | None) -> Cell:
    return {"text": text, "narrow": narrow} if narrow else text


def range_words(low: float, high: float, digits: int = 2) -> str:
    return f"{plain(low, digits)} to {plain(high, digits)}"


def slice_words(one: Mapping[str, Any]) -> str:
    """A slice's name; of numbers with a true minus sign."""
    return visible(one["slice"]).replace("-", MINUS) if "from" in one else visible(one["slice"])
