"""What a list of margins says: accuracy with its interval, and calibration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def accuracy(margins: Sequence[float] | np.ndarray) -> float:
    """Share of pairs with margin R_chosen - R_rejected > 0; a tie is wrong."""
    return float(np.mean(np.asarray(margins) > 0))


def wilson_interval(share: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """95% score interval of a share of n trials (Wilson 1927)."""
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return float(centre - half), float(centre + half)


def expected_calibration_error(margins: Sequence[float] | np.ndarray, bins: int = 10) -> float:
    """Mean gap between confidence σ(|margin|) and accuracy, over equal-width bins of [0.5, 1] weighted by their
    counts (Guo et al. 2017, equation 3, for the two-way choice)."""
    margin = np.asarray(margins, dtype=float)
    confidence = 1 / (1 + np.exp(-np.abs(margin)))
    index = np.minimum(((confidence - 0.5) * 2 * bins).astype(int), bins - 1)
    error = 0.0
    for bin_ in np.unique(index):
        inside = index == bin_
        error += inside.mean() * abs(np.mean(margin[inside] > 0) - confidence[inside].mean())
    return float(error)


def summary(margins: Sequence[float] | np.ndarray) -> dict[str, float]:
    """The figures a training run reports for one set of pairs."""
    share = accuracy(margins)
    low, high = wilson_interval(share, len(margins))
    return {
        "pairs": len(margins),
        "accuracy": share,
        "accuracy_low": low,
        "accuracy_high": high,
        "margin": float(np.mean(margins)),
        "ece": expected_calibration_error(margins),
    }
