"""Which labels look wrong: the rankings against scikit-learn and hand-made numbers."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from tiny import tiny_model

from sentrm.audit.suspects import Carrier, carrier, confident, reasons, suspicion, votes
from sentrm.preferences import PreferencePair
from sentrm.scoring import Scorer
from training.label_noise import figures, flipped, turned

RANDOM = np.random.default_rng(0)


def test_suspicion_is_the_probability_of_the_other_label():
    margins = np.array([0.0, 2.0, -2.0, -1e9, 1e9])
    assert suspicion(margins, 2.0).tolist() == pytest.approx([0.5, 0.26894, 0.73106, 1, 0], abs=1e-5)
    assert suspicion(margins, None)[1] == pytest.approx(0.119203, abs=1e-6)  # of temperature 1


def test_more_votes_are_more_suspicious_whatever_the_margins():
    margins = np.array([[-0.1, 9.0, -9.0], [-0.1, 9.0, 0.1], [-0.1, -9.0, 0.1]])  # (3 models, 3 pairs)
    found = votes(margins)
    assert np.argsort(-found).tolist()[0] == 0  # three of three
    tied = votes(np.array([[-1.0, -5.0], [1.0, 1.0]]))
    assert tied[1] > tied[0]  # the same votes, but surer ones
    assert abs(tied[0] - 0.5) < 1 / 4
    assert votes(np.array([[-1.0, 2.0], [np.nan, -1.0]])).round().tolist() == [1, 0]  # one of one, one of two


def test_votes_are_ordered_by_share_and_then_by_margin_within_0_and_1():
    margins = np.random.default_rng(0).normal(size=(5, 2000)) * [[0.1], [1], [3], [9], [50]]
    margins[1:, :1500][np.random.default_rng(1).random((4, 1500)) < 0.5] = np.nan  # one to five models were asked
    found = votes(margins)
    assert found.min() >= 0
    assert found.max() <= 1
    asked = (~np.isnan(margins)).sum(0)
    against = (margins < 0).sum(0)
    share = [Fraction(int(a), int(n)) for a, n in zip(against, asked, strict=True)]
    assert len(set(share)) > 8
    mean = np.nanmean(margins / np.nanstd(margins, axis=1, keepdims=True), axis=0)
    assert np.argsort(found).tolist() == sorted(range(2000), key=lambda i: (share[i], -mean[i]))


def test_confident_learning_by_hand():
    wrong = np.array([0.9, 0.55, 0.45, 0.1, 0.1, 0.1])  # mean probability of labels: 0.6333
    assert confident(wrong).tolist() == [True, False, False, False, False, False]
    assert not confident(np.full(4, 0.5)).any()
    assert confident(np.array([])).tolist() == []


def test_the_sentence_that_speaks_most_against_the_label(tokenizer):
    scorer = Scorer.from_model(tiny_model(), tokenizer, name="tiny")
    pair = scorer.score([PreferencePair("Why?", "One here. Two here. Three here.", "Four here. Five here.")])[0]
    pulls = {("chosen", i): -c for i, c in enumerate(pair.a.contributions[1:])}
    pulls |= {("rejected", i): c for i, c in enumerate(pair.b.contributions[1:])}
    side, i = max(pulls, key=pulls.get)
    assert carrier(pair) == Carrier(side, i, (pair.a if side == "chosen" else pair.b).contributions[i + 1])
    turned = replace(pair, a=pair.b, b=pair.a)
    found = carrier(turned, better="rejected")
    assert (found.sentence, found.contribution) == (i, carrier(pair).contribution)
    assert found.side != side
    empty = scorer.score([PreferencePair("Why?", "", "")])[0]
    assert carrier(empty) is None


def test_reasons_in_words():
    row = {"margin": -1.2, "out_of_fold": -0.5, "models": 3, "against": 2, "truncated": True, "contradicts": True}
    row["label_probability"] = 1.0
    assert reasons(row) == [
        "the same pair stands in the data with the other label",
        "a model trained without it prefers the rejected response by 0.50",
        "the model prefers the rejected response by 1.20",
        "2 of 3 models prefer the rejected response",
        "the model did not read all of it",
    ]
    turned = {"label_probability": 0.2, "margin": 1.2, "out_of_fold": 0.5, "models": 3, "against": 2}
    assert reasons(turned) == [one.replace("rejected", "chosen") for one in reasons(row)[1:4]]
    assert reasons(turned | {"margin": -1.2, "out_of_fold": -0.5, "against": 0}) == []
    plain = {"label_probability": 1.0}
    assert reasons(plain | {"margin": 0.0, "identical": True, "duplicate_of": "abc"}) == [
        "both responses are the same",
        "the same as pair abc",
    ]
    assert reasons(plain | {"margin": 2.0, "out_of_fold": None, "models": 1, "against": 0}) == []


def test_labels_are_turned_by_the_seed_alone():
    mask = flipped(1000, 0.2, seed=3)
    assert mask.sum() == 200
    assert (mask == flipped(1000, 0.2, seed=3)).all()
    assert (mask != flipped(1000, 0.2, seed=4)).any()
    pair = PreferencePair("p", "good", "bad", id="7")
    assert (turned(pair).chosen, turned(pair).rejected, turned(pair).id) == ("bad", "good", "7")


def test_figures_of_a_ranking():
    wrong = RANDOM.random(400) < 0.2
    suspicion_ = wrong + RANDOM.normal(size=400)
    found = figures(suspicion_, wrong, [f"prompt {i // 2}" for i in range(400)])
    assert found["auroc"]["value"] == roc_auc_score(wrong, suspicion_)
    assert found["auroc"]["low"] < found["auroc"]["value"] < found["auroc"]["high"]
    k = wrong.sum()
    first = wrong[np.argsort(-suspicion_)][:k]
    one = found["precision, as many as wrong"]
    assert one["value"] == pytest.approx(first.mean())
    assert one["low"] < one["value"] < one["high"]
    assert figures(wrong.astype(float), wrong, [str(i) for i in range(400)])["precision, first 10%"]["value"] == 1
