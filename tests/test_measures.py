"""Each measure against a number worked out by hand, a naive loop or another library."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from sentrm import metrics
from sentrm.metrics import group_counts, grouped, length_residuals, sampled_means
from sentrm.results import ModelInfo, ScoredResponse, SegmenterInfo, Span
from training.measures import (
    against_length,
    correlation_estimate,
    estimate,
    length_quintiles,
    mean_estimate,
    other_prompts,
    weight_entropy,
)


def data(rows: int = 200, groups: int = 40) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    """A generator, the group of each row, and 300 bootstrap samples."""
    random = np.random.default_rng(3)
    group = np.concatenate([np.arange(groups), random.integers(groups, size=rows - groups)])
    return random, group, group_counts(groups, 300, seed=5)


def repeated(group: np.ndarray, sample: np.ndarray) -> list[int]:
    """The rows of one bootstrap sample, one by one."""
    return [
        row for place, times in enumerate(sample) for row in np.flatnonzero(group == place) for _ in range(int(times))
    ]


def naive_interval(numbers: list[float]) -> tuple[float, float]:
    return float(np.quantile(numbers, 0.025)), float(np.quantile(numbers, 0.975))


def test_groups_have_places_in_sorted_order():
    names, place = grouped(["b", "a", "b", "c"])
    assert names == ["a", "b", "c"]
    assert place.tolist() == [1, 0, 1, 2]


def test_a_sample_has_as_many_groups_as_there_are_and_comes_back_with_its_seed():
    counts = group_counts(12, 50, seed=1)
    assert counts.shape == (50, 12)
    assert (counts.sum(1) == 12).all()
    assert (counts == group_counts(12, 50, seed=1)).all()
    assert (counts != group_counts(12, 50, seed=2)).any()


def test_an_estimate_needs_ten_groups_and_something_measured():
    samples = np.array([0.0, 1.0, math.nan])
    assert estimate(0.5, samples, 10) == {"value": 0.5, "low": 0.025, "high": 0.975}
    assert estimate(0.5, samples, 9) == {"value": 0.5, "low": None, "high": None}
    assert estimate(0.5, np.array([math.nan]), 10) == {"value": 0.5, "low": None, "high": None}
    nothing = {"value": None, "low": None, "high": None}
    assert estimate(None, samples, 10) == estimate(math.nan, samples, 10) == nothing


def test_sampled_means_are_those_of_the_repeated_rows():
    random, group, counts = data()
    numbers = random.normal(size=(len(group), 2))
    means = sampled_means(numbers, group, counts)
    for sample, mean in zip(counts, means, strict=True):
        assert mean == pytest.approx(numbers[repeated(group, sample)].mean(0))
    assert sampled_means(numbers[:, 1], group, counts) == pytest.approx(means[:, 1])


def test_a_sample_without_a_row_has_no_mean():
    means = sampled_means(np.array([1.0, 0.0]), np.array([0, 1]), np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 3.0]]))
    assert means[0] == 0.5
    assert np.isnan(means[1])


def test_a_mean_leaves_out_what_is_not_known():
    group, counts = np.arange(12), group_counts(12, 200, seed=0)
    numbers = np.array([1.0, 0.0] * 5 + [np.nan] * 2)
    measured = mean_estimate(numbers, group, counts)
    assert measured["value"] == 0.5
    assert 0.0 < measured["low"] < 0.5 < measured["high"] < 1.0
    assert mean_estimate(np.full(12, np.nan), group, counts)["value"] is None


def test_accuracy_and_length_by_hand():
    margins, longer_by = np.array([1.0, -1.0, 0.0, 2.0, 0.5]), np.array([5, -3, 0, -1, -2])
    measured = against_length(margins, longer_by, np.arange(5), group_counts(5, 10, seed=0))
    assert measured["comparisons"] == 5
    assert measured["accuracy"] == {"value": 0.6, "low": None, "high": None}  # a tie is wrong
    assert (measured["always_longer"], measured["always_shorter"]) == (0.2, 0.6)  # as are equal lengths
    assert measured["gain"]["value"] == 0.0


def test_the_gain_is_paired():
    """A score that is the length has no gain, in no sample, though its accuracy is uncertain."""
    random, group, counts = data()
    longer_by = random.normal(loc=1.5, size=len(group))
    measured = against_length(2 * longer_by, longer_by, group, counts)
    assert measured["gain"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert measured["accuracy"]["low"] < measured["accuracy"]["value"] < measured["accuracy"]["high"]


def test_the_intervals_of_accuracy_and_gain_are_those_of_a_naive_loop():
    random, group, counts = data()
    margins, longer_by = random.normal(loc=0.2, size=len(group)), random.integers(-5, 6, size=len(group))
    measured = against_length(margins, longer_by, group, counts)
    accuracies, gains = [], []
    for sample in counts:
        rows = repeated(group, sample)
        right, longer, shorter = (sum(map(bool, a[rows] > 0)) / len(rows) for a in (margins, longer_by, -longer_by))
        accuracies.append(right)
        gains.append(right - max(longer, shorter))
    assert (measured["accuracy"]["low"], measured["accuracy"]["high"]) == pytest.approx(naive_interval(accuracies))
    assert (measured["gain"]["low"], measured["gain"]["high"]) == pytest.approx(naive_interval(gains))


def test_quintiles_by_hand():
    longer_by = np.array([-40, -30, -20, -10, 0, 10, 20, 30, 40, 50])
    margins = np.array([1, -1, 1, 1, 0, -1, 1, 1, -1, -1])
    bins = length_quintiles(margins, longer_by)
    assert [one["comparisons"] for one in bins] == [2] * 5
    assert [one["accuracy"] for one in bins] == [0.5, 1.0, 0.0, 1.0, 0.0]
    assert (bins[0]["from"], bins[4]["to"]) == (-40, 50)
    assert [one["to"] for one in bins[:4]] == [one["from"] for one in bins[1:]]


def test_equal_lengths_stay_in_one_bin():
    longer_by, margins = np.array([0] * 9 + [7]), np.array([1, -1] * 5)
    bins = length_quintiles(margins, longer_by)
    assert [one["comparisons"] for one in bins] == [0, 0, 0, 0, 10]
    assert [one["accuracy"] for one in bins] == [None, None, None, None, 0.5]


def test_correlation_and_its_interval_are_scipys_on_repeated_rows():
    random, group, counts = data()
    x = random.integers(0, 20, size=len(group))  # with equal numbers
    y = x / 20 + random.normal(size=len(group))
    measured = correlation_estimate(x, y, group, counts)
    assert measured["value"] == pytest.approx(spearmanr(x, y).statistic)
    samples = [spearmanr(x[rows], y[rows]).statistic for rows in (repeated(group, sample) for sample in counts)]
    assert (measured["low"], measured["high"]) == pytest.approx(naive_interval(samples))


def test_a_correlations_samples_are_not_in_memory_together():
    random = np.random.default_rng(0)
    rows, counts = 4000, group_counts(20, 500, seed=1)
    x, y, group = random.normal(size=rows), random.normal(size=rows), random.integers(20, size=rows)
    tracemalloc.start()
    try:
        correlation_estimate(x, y, group, counts)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * rows * len(counts) / 4  # bytes of a (draws, n) table of floats


def test_a_constant_has_no_correlation():
    _, group, counts = data()
    measured = correlation_estimate(np.ones(len(group)), np.arange(len(group)), group, counts)
    assert measured == {"value": None, "low": None, "high": None}


def naive_lowess(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Cleveland 1979: tricube weights over the nearest half, local lines, three rounds of bisquare weights."""
    robust, fitted = np.ones(len(x)), np.zeros(len(x))
    for _ in range(4):
        for i in range(len(x)):
            distance = np.abs(x - x[i])
            radius = np.sort(distance)[len(x) // 2 - 1]
            weights = np.clip(1 - (distance / radius) ** 3, 0, None) ** 3 * robust
            _, level = np.polyfit(x - x[i], y, 1, w=np.sqrt(weights))
            fitted[i] = level
        residuals = np.abs(y - fitted)
        robust = np.clip(1 - (residuals / (6 * np.median(residuals))) ** 2, 0, None) ** 2
    return fitted


def test_length_residuals_are_those_of_a_naive_local_regression():
    random = np.random.default_rng(0)
    characters = random.permutation(np.cumsum(random.integers(1, 40, size=60))).astype(float)
    scores = np.log(characters) + random.standard_t(3, size=60) / 5
    assert length_residuals(scores, characters) == pytest.approx(scores - naive_lowess(scores, characters), abs=1e-5)


def test_of_many_responses_not_each_has_its_own_regression(monkeypatch: pytest.MonkeyPatch):
    random = np.random.default_rng(2)
    characters = random.integers(20, 4000, size=1500).astype(float)
    scores = np.sin(characters / 900) + random.normal(size=1500) / 5
    exact = length_residuals(scores, characters)
    monkeypatch.setattr(metrics, "CALIBRATION_EXACT", 1500)
    assert (length_residuals(scores, characters) == exact).all()
    monkeypatch.setattr(metrics, "CALIBRATION_EXACT", 1499)
    drawn = length_residuals(scores, characters)
    assert (drawn != exact).any()
    assert drawn == pytest.approx(exact, abs=5e-3)


def test_calibration_takes_length_out_and_leaves_quality():
    random = np.random.default_rng(1)
    characters = random.integers(50, 2000, size=400).astype(float)
    quality = random.choice([-1.0, 1.0], size=400)
    left = length_residuals(quality + 4 * np.sqrt(characters / 2000), characters)
    assert left == pytest.approx(quality, abs=0.4)
    assert abs(spearmanr(left, characters).statistic) < 0.1
    assert length_residuals(3 * characters + 2, characters) == pytest.approx(np.zeros(400), abs=1e-6)
    assert length_residuals(np.array([1.0, 3.0]), np.array([7.0, 7.0])).tolist() == [-1.0, 1.0]


@given(st.lists(st.text(max_size=3), min_size=1), st.integers(0, 9))
def test_each_prompt_gets_another_one(prompts: list[str], seed: int):
    other = other_prompts(prompts, seed)
    assert other == other_prompts(prompts[::-1] + prompts, seed)
    if len(set(prompts)) > 1:
        assert set(other) == set(other.values()) == set(prompts)
        assert all(prompt != another for prompt, another in other.items())
    else:
        assert other == {}


def response(*weights: float, aggregator: str = "attention") -> ScoredResponse:
    sentences = len(weights) - 1
    return ScoredResponse(
        prompt="",
        text="a" * sentences,
        spans=tuple(Span(i, i + 1) for i in range(sentences)),
        tokens=(1,) * sentences,
        values=(0.0,) * len(weights),
        rewards=(0.0,) * len(weights),
        weights=weights,
        contributions=(0.0,) * len(weights),
        score=0.0,
        dropped_sentences=0,
        cut_prompt_tokens=0,
        model=ModelInfo("tiny", "1", aggregator, None),
        segmenter=SegmenterInfo("rules:en", "1", own=True),
    )


def test_entropy_of_weights_by_hand():
    assert weight_entropy([response(0.25, 0.25, 0.25, 0.25)]) == pytest.approx(1)
    assert weight_entropy([response(1.0, 0.0)]) == 0
    assert weight_entropy([response(0.0, 0.5, 0.5)]) == pytest.approx(1), "the prompt takes no part"
    assert weight_entropy([response(0.0, 1.0)]) is None, "nothing to share"
    half = math.log(2) / math.log(3)
    assert weight_entropy([response(0.5, 0.5, 0.0)]) == pytest.approx(half)
    assert weight_entropy([response(0.5, 0.5, 0.0), response(1.0, 0.0), response(1.0)]) == pytest.approx(half / 2)
    assert weight_entropy([response(1.5, 1.5, 0.0, aggregator="relative_attention")]) == pytest.approx(half)
    without = response(0.0, 1.5, 0.5, aggregator="relative_attention_without_prompt")
    assert weight_entropy([without]) == weight_entropy([response(0.0, 0.75, 0.25)])
    assert weight_entropy([response(1.0, 1.0, 1.0, aggregator="last")]) is None
    assert weight_entropy([response(1.0)]) is None
