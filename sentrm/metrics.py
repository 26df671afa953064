"""What a list of margins says: accuracy with its interval, calibration, and what of it is length.

The bootstrap draws whole groups (prompts), since pairs of one prompt are no independent evidence (cluster bootstrap,
Cameron, Gelbach and Miller 2008). One draw is a row of `counts`: how often each group is in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FEWEST_GROUPS = 10  # prompts; with less there is no interval
CALIBRATION_SHARE = 0.5  # of all responses, in each local regression of score on length
CALIBRATION_ROUNDS = 3  # in which outliers are weighed down
CALIBRATION_EXACT = 10_000  # responses; with more, regressions lie 1% of the range of lengths apart


def accuracy(margins: Sequence[float] | np.ndarray) -> float:
    """Share of pairs with margin R_chosen - R_rejected > 0; a tie is wrong."""
    return float(np.mean(np.asarray(margins) > 0))


def histogram_edges(numbers: Sequence[float] | np.ndarray, bins: int) -> np.ndarray:
    """Equal bins from the 0.2% to the 99.8% quantile; a range of no width is widened. (bins + 1,)"""
    low, high = np.quantile(numbers, (0.002, 0.998)) if len(numbers) else (0.0, 1.0)
    return np.histogram_bin_edges([], bins, (float(low), float(high)))


def grouped(groups: Sequence[str] | np.ndarray) -> tuple[list[str], np.ndarray]:
    """The distinct groups, sorted, (G,), and the place of each row's group among them, (n,)."""
    names = sorted(set(groups))
    place = {name: i for i, name in enumerate(names)}
    return names, np.array([place[group] for group in groups], dtype=int)


def group_counts(groups: int, draws: int, seed: int) -> np.ndarray:
    """How often each group is in each bootstrap sample of as many groups. (draws, G)"""
    random_ = np.random.default_rng(seed)
    rows = [np.bincount(random_.integers(groups, size=groups), minlength=groups) for _ in range(draws)]
    return np.array(rows, dtype=float)


def sampled_means(numbers: np.ndarray, group: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Means over the rows of each bootstrap sample; NaN where a sample has no row.

    Args:
        numbers: (n,) or (n, K).
        group: (n,) place of each row's group.
        counts: (draws, G) of `group_counts`.

    Returns:
        (draws,) or (draws, K).
    """
    sums = np.zeros((counts.shape[1], *numbers.shape[1:]))  # (G,) or (G, K)
    np.add.at(sums, group, numbers)
    rows = counts @ np.bincount(group, minlength=counts.shape[1])  # (draws,)
    return ((counts @ sums).T / np.where(rows > 0, rows, np.nan)).T


def resampled_accuracies(
    margins: Sequence[float] | np.ndarray, prompts: Sequence[str] | np.ndarray, draws: int = 2000, seed: int = 0
) -> np.ndarray:
    """Accuracies of `draws` bootstrap samples of whole prompts. (draws,)"""
    names, prompt = grouped(prompts)
    return sampled_means(np.asarray(margins) > 0, prompt, group_counts(len(names), draws, seed))


def interval(accuracies: np.ndarray) -> tuple[float, float]:
    """The middle 95% of bootstrap samples."""
    low, high = np.quantile(accuracies, (0.025, 0.975))
    return float(low), float(high)


def reliability(margins: Sequence[float] | np.ndarray, bins: int = 10) -> list[dict[str, float]]:
    """Of the equal-width bins of the confidence σ(|margin|) over [0.5, 1], those that hold a pair: edges, mean
    confidence, accuracy, pairs."""
    margin = np.asarray(margins, dtype=float)  # (P,)
    confidence = 1 / (1 + np.exp(-np.abs(margin)))  # (P,)
    index = np.minimum(((confidence - 0.5) * 2 * bins).astype(int), bins - 1)
    return [
        {
            "from": 0.5 + 0.5 * float(bin_) / bins,
            "to": 0.5 + 0.5 * float(bin_ + 1) / bins,
            "confidence": float(confidence[index == bin_].mean()),
            "accuracy": accuracy(margin[index == bin_]),
            "pairs": int(np.sum(index == bin_)),
        }
        for bin_ in np.unique(index)
    ]


def expected_calibration_error(margins: Sequence[float] | np.ndarray, bins: int = 10) -> float:
    """Mean gap between confidence and accuracy over the bins of `reliability`, weighted by their counts (Guo et al.
    2017, equation 3, for the two-way choice)."""
    gaps = [one["pairs"] * abs(one["accuracy"] - one["confidence"]) for one in reliability(margins, bins)]
    return sum(gaps) / max(len(margins), 1)


def rank_correlation(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> float | None:
    """Spearman's ρ, equal numbers sharing their mean rank; None where all of one side are equal."""
    from scipy.stats import rankdata

    if min(len(set(x)), len(set(y))) < 2:
        return None
    return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])


def length_residuals(scores: np.ndarray, characters: np.ndarray) -> np.ndarray:
    """What of the scores their lengths do not explain: residuals of a locally weighted regression over all responses
    (arXiv 2409.17407, which calls it LWR; the half of the responses nearest in length and three robust rounds are what
    its released code takes). Where half of them have one length, so many that they span two. Among many responses the
    line is drawn between regressions that lie at most 1% of the range of lengths apart. (R,) each."""
    from statsmodels.nonparametric.smoothers_lowess import lowess

    same = np.unique(characters, return_counts=True)[1].max()  # responses of the commonest length
    if same == len(characters):
        return scores - scores.mean()
    share = max(CALIBRATION_SHARE, (same + 1) / len(characters))
    apart = 0.01 * float(np.ptp(characters)) if len(scores) > CALIBRATION_EXACT else 0.0
    return scores - lowess(scores, characters, frac=share, it=CALIBRATION_ROUNDS, delta=apart, return_sorted=False)


def report(margins: Sequence[float], prompts: Sequence[str], sources: Sequence[str]) -> dict[str, dict[str, float]]:
    """The figures of each source, of all pairs, and the unweighted mean of the sources.

    Args:
        margins, prompts, sources: (P,) of each pair.

    Returns:
        By source name, "all" and "mean of files": pairs, prompts, accuracy and its 95% interval, mean margin, ECE.
        The mean has accuracy alone; where there are fewer than ten prompts there is no interval.
    """
    margin, prompt, source = np.asarray(margins, dtype=float), np.asarray(prompts), np.asarray(sources)
    groups = {"all": np.ones(len(margin), dtype=bool)} | {name: source == name for name in sorted(set(sources))}
    figures, samples = {}, {}
    for name, inside in groups.items():
        figures[name] = {
            "pairs": int(inside.sum()),
            "prompts": len(set(prompt[inside])),
            "accuracy": accuracy(margin[inside]),
            "margin": float(margin[inside].mean()),
            "ece": expected_calibration_error(margin[inside]),
        }
        samples[name] = resampled_accuracies(margin[inside], prompt[inside])
    files = [name for name in groups if name != "all"]
    figures["mean of files"] = {
        "pairs": len(margin),
        "prompts": figures["all"]["prompts"],
        "accuracy": float(np.mean([figures[name]["accuracy"] for name in files])),
    }
    samples["mean of files"] = np.mean([samples[name] for name in files], axis=0)
    for name, one in figures.items():
        if one["prompts"] >= FEWEST_GROUPS:
            one["accuracy_low"], one["accuracy_high"] = interval(samples[name])
    order = ["all", "mean of files", *files]
    return {name: figures[name] for name in order}
