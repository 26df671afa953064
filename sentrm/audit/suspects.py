"""Which labels look wrong, and why.

The suspicion of a label is the model's probability that it is wrong, σ(-margin / T) with the fitted temperature T. The
margin is the audited model's own, or, better, out-of-fold: of a model that was trained without the pair. With several
models it goes by the share of them that speak against the label. Whoever looks at the most suspicious first finds wrong
labels sooner; how much sooner is measured in docs/results.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..results import ScoredPair
from ..words import plain

Side = Literal["chosen", "rejected"]
NAMES: Mapping[Side, str] = {"chosen": "the chosen response", "rejected": "the rejected response"}


@dataclass(frozen=True)
class Carrier:
    """The sentence that speaks most against the label."""

    side: Side
    sentence: int  # from 0
    contribution: float  # logits


def suspicion(margins: np.ndarray, temperature: float | None) -> np.ndarray:
    """(P,) probability that a label is wrong; (P,) margins. Without a temperature, that of 1."""
    return 1 / (1 + np.exp(np.clip(margins / (temperature or 1.0), -500, 500)))


def votes(margins: np.ndarray) -> np.ndarray:
    """(P,) in [0, 1], the share of M models that speak against the label, and within equal shares the mean of their
    margins: two unequal shares lie at least 1 / M² apart, so all of a share's pairs have room below the next one.

    Args:
        margins: (M, P), NaN where a model was not asked; at least one of each pair is known. Each model's are compared
            in its own standard deviations.
    """
    most = len(margins) ** 2
    share = (margins < 0).sum(0) / (~np.isnan(margins)).sum(0)
    spread = np.nanstd(margins, axis=1, keepdims=True)
    mean = np.nanmean(margins / np.where(spread > 0, spread, 1), axis=0)
    return (most * share + 0.5 - 0.5 * np.tanh(mean)) / (most + 1)


def confident(wrong: np.ndarray) -> np.ndarray:
    """(P,) bool: labels that confident learning takes for wrong.

    A label counts as wrong where the probability of the other one reaches the mean probability of labels
    (Northcutt, Jiang and Chuang 2021, equation 2; the two classes of a preference, chosen first or second, are mirror
    images, so they share one threshold). `wrong` (P,): of `suspicion`.
    """
    if not len(wrong):
        return np.zeros(0, dtype=bool)
    return (wrong >= np.mean(1 - wrong)) & (wrong > 0.5)


def carrier(pair: ScoredPair, better: Side = "chosen") -> Carrier | None:
    """The sentence whose contribution pulls the margin furthest from the label: down in the response that the label
    prefers, up in the other."""
    pulls = [Carrier("chosen", i, one) for i, one in enumerate(pair.a.contributions[1:])]
    pulls += [Carrier("rejected", i, one) for i, one in enumerate(pair.b.contributions[1:])]
    return max(pulls, key=lambda one: one.contribution * (-1 if one.side == better else 1), default=None)


def better_side(probability: float) -> Side:
    """The response that a label of this probability prefers; at a tie the chosen one stands for it."""
    return "rejected" if probability < 0.5 else "chosen"


def label_sign(probability: np.ndarray) -> np.ndarray:
    """(P,) the sign of chosen - rejected that agrees with a label, 1 or -1; (P,) probabilities, see `better_side`."""
    return np.where(probability < 0.5, -1.0, 1.0)


def reasons(row: Mapping[str, Any], names: Mapping[Side, str] = NAMES) -> list[str]:
    """Why a pair is worth a second look, in words, the gravest first.

    Args:
        row: columns of `pairs.parquet`.
        names: what the responses are called.
    """
    found = []
    if row.get("identical"):
        found.append("both responses are the same")
    if row.get("empty"):
        found.append("a response is empty")
    if row.get("contradicts"):
        found.append("the same pair stands in the data with the other label")
    elif row.get("duplicate_of"):
        found.append(f"the same as pair {row['duplicate_of']}")
    if row.get("near_duplicate_of"):
        found.append(f"nearly the same as pair {row['near_duplicate_of']}")
    turned = better_side(row["label_probability"]) == "rejected"
    worse, sign = (names["chosen"], -1) if turned else (names["rejected"], 1)
    tie = row["label_probability"] == 0.5
    margin, fold = (0.0, None) if tie else (row["margin"] * sign, row.get("out_of_fold"))
    if fold is not None and fold * sign < 0:
        found.append(f"a model trained without it prefers {worse} by {plain(abs(fold), 2)}")
    if margin < 0:
        found.append(f"the model prefers {worse} by {plain(-margin, 2)}")
    models = row.get("models") or 1
    if models > 1 and row.get("against") and not tie:
        found.append(f"{row['against']} of {models} models prefer {worse}")
    if row.get("truncated"):
        found.append("the model did not read all of it")
    return found
