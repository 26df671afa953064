"""What the held-out pairs and the log of a run say, as numbers: floats, lists and dicts that go into JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sentrm.heatmap import even_share
from sentrm.metrics import expected_calibration_error, histogram_edges, rank_correlation, reliability
from sentrm.results import ScoredPair

POSITIONS = 8  # boundaries with a place of their own in the weights by position
NUMBERS = 30  # points of the line of medians over the number of sentences
WRONG = 8  # pairs shown of those with the lowest margins


def report_figures(
    metrics: dict[str, Any], log_history: Sequence[dict[str, Any]], scored: Sequence[ScoredPair]
) -> dict[str, Any]:
    """Every number behind the charts, JSON-safe; each is a function of this file or of `metrics`."""
    margins = [pair.margin for pair in scored]
    return {
        "held_out": next(iter(metrics["held_out"].values())),
        "curves": curves(log_history),
        "reliability": reliability(margins),
        "ece": expected_calibration_error(margins),
        "rewards": reward_histogram(scored),
        "length": length_dependence(scored),
        "weights": weights_by_position(scored),
        "wrong": sum(margin <= 0 for margin in margins),
        "most_wrong": [[pair.id, pair.margin] for pair in most_wrong(scored)],
    }


def reward_histogram(scored: Sequence[ScoredPair]) -> dict[str, list[float]]:
    """Shares of the chosen and of the rejected sentences by reward, over bins of equal width.

    The bins are those of `histogram_edges`; the outermost hold what lies beyond. There are 2 n^(1/3) of n
    sentences (Rice's rule), from 10 to 60. edges (bins + 1,), chosen and rejected (bins,), each adding up to 1 where
    it has a sentence.
    """
    sides = [[r for pair in scored for r in getattr(pair, side).rewards[1:]] for side in ("a", "b")]
    everything = sides[0] + sides[1]
    bins = min(60, max(10, math.ceil(2 * len(everything) ** (1 / 3))))
    edges = histogram_edges(everything, bins)
    shares = [np.histogram(np.clip(s, edges[0], edges[-1]), edges)[0] / max(len(s), 1) for s in sides]
    return {"edges": edges.tolist(), "chosen": shares[0].tolist(), "rejected": shares[1].tolist()}


def length_dependence(scored: Sequence[ScoredPair]) -> dict[str, Any]:
    """How scores go with the number of sentences: Spearman's ρ over all responses, and within pairs, where the
    prompt is the same (difference of scores against difference of numbers); the median score of each number, of
    numbers close together where there are more than `NUMBERS`."""
    responses = [response for pair in scored for response in (pair.a, pair.b)]
    width = math.ceil(max(len(response.spans) for response in responses) / NUMBERS) or 1
    by_number: dict[float, list[float]] = {}
    for response in responses:
        by_number.setdefault(len(response.spans) // width * width + (width - 1) / 2, []).append(response.score)
    return {
        "responses": len(responses),
        "rank_correlation": rank_correlation([len(r.spans) for r in responses], [r.score for r in responses]),
        "rank_correlation_within_pairs": rank_correlation(
            [len(pair.a.spans) - len(pair.b.spans) for pair in scored], [pair.margin for pair in scored]
        ),
        "medians": [[number, float(np.median(scores))] for number, scores in sorted(by_number.items())],
    }


def weights_by_position(scored: Sequence[ScoredPair]) -> list[dict[str, Any]]:
    """Weight of a boundary in even shares of its response, by position: quartiles over the responses with a sentence.

    Positions are boundary 0, the prompt's; 1, 2, … of the sentences before the last, late ones together; the last.
    """
    by_position: dict[int, list[float]] = {}
    for response in (r for pair in scored for r in (pair.a, pair.b) if r.spans):
        even = even_share(response)
        for i, weight in enumerate(response.weights):
            position = POSITIONS + 2 if i == len(response.spans) else min(i, POSITIONS + 1)
            by_position.setdefault(position, []).append(weight / even if even else 0.0)
    names = {POSITIONS + 1: f"{POSITIONS + 1}+", POSITIONS + 2: "last"}
    rows = []
    for position, shares in sorted(by_position.items()):
        low, middle, high = (float(q) for q in np.quantile(shares, (0.25, 0.5, 0.75)))
        name = names.get(position, str(position))
        rows.append({"position": name, "low": low, "median": middle, "high": high, "boundaries": len(shares)})
    return rows


def curves(log_history: Sequence[dict[str, Any]]) -> dict[str, list[list[float]]]:
    """(step, number) lists of what the Trainer logged: loss, learning_rate, eval_loss, eval_accuracy; finite ones."""
    return {
        name: [[row["step"], row[name]] for row in log_history if name in row and math.isfinite(row[name])]
        for name in ("loss", "learning_rate", "eval_loss", "eval_accuracy")
    }


def most_wrong(scored: Sequence[ScoredPair]) -> list[ScoredPair]:
    """The pairs whose rejected response is furthest ahead, the first of each prompt; a tie is wrong."""
    by_prompt: dict[str, ScoredPair] = {}
    for pair in sorted((pair for pair in scored if pair.margin <= 0), key=lambda pair: pair.margin):
        by_prompt.setdefault(str(pair.prompt), pair)
    return list(by_prompt.values())[:WRONG]
