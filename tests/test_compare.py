"""The Compare page, without a browser: standings, their difference, and when there is none."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_model

from sentrm.inspection import Inspector
from sentrm.results import ScoredPair, Span
from sentrm.scoring import Scorer
from sentrm.ui.compare import agreement_line, difference_value, standings

A, B = "Boil it for nine minutes. Then peel it. I hope this helps.", "Older eggs peel more easily. No."


@pytest.fixture(scope="module")
def pair(model_dir: Path) -> ScoredPair:
    return Inspector(Scorer.from_pretrained(model_dir)).pair("Eggs?", A, B)[0]


@pytest.fixture(scope="module")
def other(tokenizer) -> ScoredPair:
    model = tiny_model("gpt_neox")
    return Inspector(Scorer.from_model(model, tokenizer, name="other")).pair("Eggs?", A, B)[0]


def test_standings_do_not_depend_on_a_models_zero_and_unit(pair):
    def stretched(response):
        return replace(response, rewards=tuple(7.0 * reward - 3.0 for reward in response.rewards))

    first = np.concatenate(standings(pair))
    assert first == pytest.approx(np.concatenate(standings(ScoredPair("", stretched(pair.a), stretched(pair.b)))))
    assert statistics.median(first) == pytest.approx(0)
    assert np.mean(first**2) == pytest.approx(1)
    assert tuple(map(len, standings(pair))) == (3, 2)


def test_equal_rewards_stand_at_zero(pair):
    flat = replace(pair.a, rewards=(0.5,) * 4), replace(pair.b, rewards=(0.5,) * 3)
    assert standings(ScoredPair("", *flat)) == ((0.0,) * 3, (0.0,) * 2)


def test_the_difference_is_that_of_the_standings(pair, other):
    value = difference_value(pair, other)
    for side, first, second in zip(value["sides"], standings(pair), standings(other), strict=True):
        expected = [x - y for x, y in zip(first, second, strict=True)]
        drawn = [float(one["exact"].replace("−", "-")) for one in side["sentences"]]
        assert drawn == pytest.approx(expected, abs=0.0006)
        for one, number in zip(side["sentences"], expected, strict=True):
            assert np.sign(one["class"] - 3) in (0, np.sign(number))
            assert one["label"].endswith(f"difference {one['reward']}".replace("−", "-"))
    assert value["compact"]
    assert value["verdict"] is None
    classes = {one["class"] for side in difference_value(pair, pair)["sides"] for one in side["sentences"]}
    assert classes == {3}


def test_texts_cut_differently_have_no_difference(pair, other):
    whole = replace(other, a=replace(other.a, spans=(Span(0, len(A)),)))
    assert (
        "did not read the same sentences (3 and 2 under model 1, 1 and 2 under model 2)"
        in (difference_value(pair, whole)["message"])
    )


@pytest.mark.parametrize(
    ("margins", "said"),
    [
        ((1.0, 0.5), "Both models prefer A (margins +1.00 and +0.50)."),
        ((-1.0, 0.5), "Model 1 prefers B, model 2 A (margins −1.00 and +0.50)."),
        ((0.0, -0.5), "Model 1 prefers neither, model 2 B (margins 0.00 and −0.50)."),
    ],
)
def test_agreement_in_words(pair, margins, said):
    pairs = [replace(pair, a=replace(pair.a, score=pair.b.score + margin)) for margin in margins]
    assert agreement_line(*pairs) == said
