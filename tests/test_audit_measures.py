"""What the audit says of a scored dataset, against statsmodels, a search on a grid and numbers made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import binomtest

from sentrm.audit.duplicates import WORD, contradicting, exact, near
from sentrm.audit.measures import (
    agreement,
    by_number,
    by_value,
    calibration,
    distribution,
    fitted_temperature,
    length,
    mean_estimate,
    style,
)

RANDOM = np.random.default_rng(0)


def test_the_interval_is_that_of_a_regression_on_a_constant_clustered_by_prompt():
    group = RANDOM.integers(60, size=400)
    numbers = RANDOM.normal(size=60)[group] + RANDOM.normal(size=400)
    found = mean_estimate(numbers, group)
    theirs = sm.OLS(numbers, np.ones(400)).fit(cov_type="cluster", cov_kwds={"groups": group}, use_t=True)
    assert [found["value"], found["low"], found["high"]] == pytest.approx([theirs.params[0], *theirs.conf_int()[0]])
    assert found["n"] == 400


def test_there_is_no_interval_of_nine_prompts_and_no_mean_of_nothing():
    assert mean_estimate(np.arange(90.0), np.arange(90) % 9)["low"] is None
    assert mean_estimate(np.array([np.nan]), np.array([0])) == {"value": None, "low": None, "high": None, "n": 0}
    assert mean_estimate(np.array([1.0, np.nan, 3.0]), np.arange(3))["value"] == 2


def test_the_interval_of_a_share_is_wilsons():
    found = agreement(np.array([1.0] * 30 + [0.0]), np.arange(31))
    assert found["value"] == pytest.approx(30 / 31)  # an equal score does not agree
    theirs = binomtest(30, 31).proportion_ci(method="wilson")
    assert (found["low"], found["high"]) == pytest.approx((theirs.low, theirs.high))
    for margins, value in ((np.ones(12), 1), (-np.ones(12), 0)):
        theirs = binomtest(12 * value, 12).proportion_ci(method="wilson")
        found = agreement(margins, np.arange(12))
        assert [found[name] for name in ("value", "low", "high")] == pytest.approx([value, theirs.low, theirs.high])
        assert found["high"] - found["low"] == pytest.approx(0.2425, abs=1e-4)
    assert agreement(np.array([]), np.array([]))["value"] is None
    assert agreement(np.ones(90), np.arange(90) % 9)["low"] is None


def test_pairs_of_one_prompt_that_agree_alike_are_one_to_the_interval_of_a_share():
    once = np.where(np.arange(60) < 45, 1.0, -1.0)
    alone = agreement(once, np.arange(60))
    found = agreement(np.repeat(once, 5), np.repeat(np.arange(60), 5))
    assert (found["value"], found["n"]) == (0.75, 300)
    assert (found["low"], found["high"]) == pytest.approx((alone["low"], alone["high"]), abs=0.005)
    assert found["low"] < alone["low"]  # of Student's t of 59, not of 299
    assert agreement(np.ones(120), np.arange(120) % 12)["low"] == agreement(np.ones(12), np.arange(12))["low"]


def test_intervals_of_shares_cover_what_the_pairs_were_drawn_with():
    """15 prompts with five pairs each, which agree more alike than pairs of others."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        agree = random.random((15, 5)) < random.beta(9, 1, size=(15, 1))
        found = agreement(agree.ravel() - 0.5, np.repeat(np.arange(15), 5))
        covered += found["low"] <= 0.9 <= found["high"]
    assert 0.92 < covered / 400 < 0.98


def test_the_temperature_is_the_likeliest():
    margins = 3 * RANDOM.logistic(size=20_000)
    margins = np.where(RANDOM.random(20_000) < 1 / (1 + np.exp(-margins / 3)), margins, -margins)  # labels of T = 3
    found = fitted_temperature(margins)
    grid = np.exp(np.linspace(-1, 3, 400))
    best = min(grid, key=lambda t: np.logaddexp(0, -margins / t).mean())
    assert found == pytest.approx(best, rel=0.02)
    assert found == pytest.approx(3, rel=0.1)
    assert fitted_temperature(-np.abs(margins)) is None
    assert fitted_temperature(np.array([])) is None


def test_calibration_is_better_with_the_temperature():
    margins = 8 * RANDOM.logistic(size=5000)
    margins = np.where(RANDOM.random(5000) < 1 / (1 + np.exp(-margins / 8)), margins, -margins)
    found = calibration(margins)
    assert found["ece_fitted"] < 0.03 < 0.1 < found["ece"]
    assert sum(one["pairs"] for one in found["bins_fitted"]) == 5000
    assert calibration(np.array([-1.0, -2.0]))["ece_fitted"] is None


def test_the_distribution_holds_every_pair():
    margins = np.append(RANDOM.normal(size=5000), [1e9, -1e9])
    found = distribution(margins)
    assert sum(found["pairs"]) == 5002
    assert abs(found["edges"][0]) < 10  # two far ones do not stretch it
    assert sum(distribution(np.array([]))["pairs"]) == 0


def test_slices_by_word_and_by_number():
    margins = np.array([1.0, -1, 1, 1, 1, 1, 1, -1, 1, -1, 1])
    words = np.array(["en"] * 6 + [""] * 4 + ["zh"])
    found = by_value(words, margins, np.arange(11))
    assert [(one["slice"], one["n"]) for one in found] == [("en", 6), ("2 others", 5)]
    assert found[0]["value"] == pytest.approx(5 / 6)
    few = by_number(np.array([1, 1, 2, np.nan]), np.array([1.0, -1, 1, 1]), np.arange(4))
    assert [(one["slice"], one["n"], one["value"]) for one in few] == [("1", 2, 0.5), ("2", 1, 1.0)]
    numbers = RANDOM.permutation(1000).astype(float)
    many = by_number(numbers, np.where(numbers < 500, 1.0, -1.0), np.arange(1000))
    assert [one["n"] for one in many] == [200] * 5
    assert [one["value"] for one in many][::2] == [1, pytest.approx(0.5), 0]
    assert by_number(np.array([]), np.array([]), np.array([])) == []


def test_a_model_that_is_length_alone_is_nothing_once_calibrated():
    lengths = RANDOM.integers(10, 1000, size=(800, 2))
    scores = np.log(lengths)
    margins = scores[:, 0] - scores[:, 1]
    found = length(scores, lengths, margins, np.arange(800))
    assert found["model"]["value"] == found["always_longer"]["value"]
    assert found["margin_with_difference"] > 0.8
    assert found["score_with_length"] == pytest.approx(1)
    assert [one["value"] for one in found["curve"]] == sorted(one["value"] for one in found["curve"])
    noise = RANDOM.normal(size=(800, 2))
    mixed = length(scores + noise, lengths, margins + noise[:, 0] - noise[:, 1], np.arange(800))
    assert abs(mixed["calibrated"]["value"] - np.mean(noise[:, 0] > noise[:, 1])) < 0.05


def test_a_dataset_of_one_length_has_a_length_section_too():
    scores = RANDOM.normal(size=(20, 2))
    found = length(scores, np.full((20, 2), 7), scores[:, 0] - scores[:, 1], np.arange(20))
    assert found["always_longer"]["value"] == 0
    assert found["score_with_length"] is None
    assert found["calibrated"]["value"] == found["model"]["value"]


def test_style_counts_pairs_of_which_one_response_has_it():
    has = np.array([[True, False], [False, True], [True, True], [False, False]])
    scores = np.array([[3.0, 1.0], [0.0, 5.0], [9.0, 0.0], [0.0, 9.0]])
    found = style(has, scores, np.arange(4))
    assert found["responses"] == 0.5
    assert (found["margin"]["value"], found["margin"]["n"]) == (3.5, 2)  # 3 - 1 and 5 - 0
    assert (found["model"]["value"], found["label"]["value"]) == (1.0, 0.5)


def test_exact_duplicates_and_contradictions():
    digests = ["a", "b", "a", "c", "b", "a"]
    first = exact(digests)
    assert first.tolist() == [0, 1, 0, 3, 1, 0]
    direction = np.array([True, True, False, True, True, True])
    assert contradicting(first, direction, np.ones(6, dtype=bool)).tolist() == [True, False, True, False, False, True]
    decided = np.array([True, True, False, True, True, True])  # the one with the other direction is a tie
    assert not contradicting(first, direction, decided).any()


def test_near_duplicates_are_found_through_the_first_of_them():
    words = [f"word{i}" for i in RANDOM.integers(5000, size=300)]
    text = " ".join(words)
    other = " ".join(f"word{i}" for i in RANDOM.integers(5000, size=300))
    changed = " ".join([*words[:150], "changed", *words[151:]])
    assert near([text, other, changed, text, "", "short", "short"]).tolist() == [0, 1, 0, 0, 4, 5, 5]


@pytest.mark.parametrize(
    "letters",
    [
        "煮鸡蛋需要几分钟大约九就可以了",
        "ゆでたまごはなんぷんですかカタカナー",
        "ต้มไข่กี่นาทีดี",
        "ຕົ້ມໄຂ່ຈັກນາທີ",
        "ស្ងោរស៊ុតប៉ុន្មាននាទី",
        "ကြက်ဥပြုတ်ဘယ်နှစ်မိနစ်",
    ],
)
def test_near_duplicates_are_found_in_scripts_without_spaces(letters):
    text, other = ("".join(RANDOM.choice(list(letters), size=300)) for _ in range(2))
    changed = text[:150] + "…" + text[151:]
    assert near([text, other, changed]).tolist() == [0, 1, 0]
    assert near([letters[:4] + " one", letters[:4] + " two"]).tolist() == [0, 1]


def test_words_are_split_at_spaces_in_scripts_that_have_them():
    text = "Don't say “naïve” — 3.5 €/kg,\tor ฿9!\n\n한국어 띄어쓰기 Привет\u00a0мир مرحبا 👩‍👩‍👧\u3000end\x1c."
    assert WORD.findall(text) == text.split()
    assert WORD.findall("GPT说3.5元。") == ["GPT", "说", "3.5", "元", "。"]


def test_near_agrees_with_the_jaccard_similarity_itself():
    base = [f"w{i}" for i in range(200)]
    texts = [" ".join(base)] + [" ".join(base[: 200 - cut] + [f"x{cut}-{i}" for i in range(cut)]) for cut in (4, 120)]
    sets = [{tuple(words[i : i + 5]) for i in range(len(words) - 4)} for words in (text.split() for text in texts)]
    similar = [len(sets[0] & one) / len(sets[0] | one) for one in sets]
    assert similar[1] > 0.9
    assert similar[2] < 0.5
    assert near(texts).tolist() == [0, 0, 2]
    assert math.isclose(similar[0], 1)
