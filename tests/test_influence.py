"""Leave-one-out and the smallest flip against texts shortened by hand and brute force over all deletions."""

from __future__ import annotations

import dataclasses
import math
import random
from itertools import combinations, product

import pytest
from tiny import tiny_model

from sentrm import influence
from sentrm.errors import ScoringError
from sentrm.influence import leave_one_out, shortened, smallest_flip
from sentrm.preferences import PreferencePair
from sentrm.results import ScoredPair, ScoredResponse
from sentrm.scoring import Scorer
from sentrm.surgery import Draft, SurgeryError

PROMPT = "How do I boil an egg?"
GOOD = "Boil the egg for nine minutes. Then move it to ice water!\n\n- Peel it.\n- Eat it."
BAD = "Everyone has their own opinion about eggs. I hope this helps!"
MESSAGES = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT})


@pytest.fixture(scope="module", params=["attention", "last"])
def scorer(request, tokenizer) -> Scorer:
    return Scorer.from_model(tiny_model(aggregator=request.param), tokenizer, name=request.param)


@pytest.fixture(scope="module")
def attention(tokenizer) -> Scorer:
    return Scorer.from_model(tiny_model(aggregator="attention"), tokenizer, name="attention")


@pytest.fixture(scope="module")
def last(tokenizer) -> Scorer:
    return Scorer.from_model(tiny_model(aggregator="last"), tokenizer, name="last")


@pytest.mark.parametrize("prompt", [PROMPT, MESSAGES])
def test_leave_one_out_scores_the_text_without_the_sentence(scorer, prompt):
    (one,) = scorer.score([(prompt, GOOD)])
    a, b, c, d = "Boil the egg for nine minutes. ", "Then move it to ice water!\n\n", "- Peel it.\n", "- Eat it."
    assert one.sentences == (a, b, c, d)
    without = scorer.score([(prompt, text) for text in (b + c + d, a + c + d, a + b + d, a + b + "- Peel it.")])
    assert all(len(other.spans) == 3 for other in without), "the segmenter cuts these the same way"
    expected = [one.score - other.score for other in without]
    assert leave_one_out(scorer, one) == pytest.approx(expected, abs=1e-5)
    assert len({round(number, 4) for number in expected}) == 4


def test_the_cuts_stay(scorer):
    text = "Well. yes. no. Then more."
    (one,) = scorer.score([(PROMPT, text, [(0, 6), (6, 15), (15, 25)])])
    assert shortened(one, 0) == (PROMPT, "yes. no. Then more.", ((0, 9), (9, 19)))
    assert shortened(one, 0, 2) == (PROMPT, "yes. no.", ((0, 8),))
    assert shortened(one) == (PROMPT, text, one.spans)
    (without,) = scorer.score([(PROMPT, "yes. no. Then more.", [(0, 9), (9, 19)])])
    assert leave_one_out(scorer, one)[0] == pytest.approx(one.score - without.score, abs=1e-5)
    with pytest.raises(SurgeryError, match="got sentence 3 of 3; expected 0 to 2"):
        shortened(one, 3)


def test_without_its_only_sentence_a_response_scores_its_prompt_term(scorer):
    one, none = scorer.score([(PROMPT, "Boil it."), (PROMPT, "")])
    assert leave_one_out(scorer, one) == pytest.approx([one.score - none.contributions[0]], abs=1e-5)
    assert none.score == pytest.approx(none.contributions[0], abs=1e-6)
    assert leave_one_out(scorer, none) == ()


def test_what_did_not_fit_is_not_read_instead(scorer):
    short = Scorer.from_model(scorer.model, scorer.encoder.tokenizer, name=scorer.model_info.name, max_length=90)
    (one,) = short.score([(PROMPT, (GOOD + " ") * 3)])
    assert one.dropped_sentences > 0
    read = one.text[: one.spans[-1].end]
    expected = [(read[:start] + read[end:]).rstrip() for start, end in one.spans]
    assert [shortened(one, i)[1] for i in range(len(one.spans))] == expected
    without = short.score([(PROMPT, text) for text in expected])
    assert [other.dropped_sentences for other in without] == [0] * len(one.spans)
    assert leave_one_out(short, one) == pytest.approx([one.score - other.score for other in without], abs=1e-5)


def test_another_models_result_is_refused(scorer):
    (pair,) = scorer.score([PreferencePair(PROMPT, GOOD, BAD)])
    info = dataclasses.replace(pair.a.model, revision="other")
    other = dataclasses.replace(pair.a, model=info)
    with pytest.raises(ScoringError, match=r"revision other\); expected one of"):
        leave_one_out(scorer, other)
    with pytest.raises(ScoringError, match="Score it again"):
        smallest_flip(scorer, dataclasses.replace(pair, b=other))


def subsets(one: ScoredResponse) -> list[tuple[int, ...]]:
    """What can be deleted: never all sentences."""
    count = len(one.spans)
    return [deleted for size in range(max(count, 1)) for deleted in combinations(range(count), size)]


def by_force(scorer: Scorer, pair: ScoredPair) -> dict[tuple[tuple[int, ...], tuple[int, ...]], float]:
    """The probability of A after every deletion of both sides."""
    (a, b) = ({kept: shortened(one, *kept) for kept in subsets(one)} for one in (pair.a, pair.b))
    scored = [one.score for one in scorer.score([*a.values(), *b.values()])]
    sides = [dict(zip(side, numbers, strict=True)) for side, numbers in ((a, scored[: len(a)]), (b, scored[len(a) :]))]
    return {(i, j): 1 / (1 + math.exp(sides[1][j] - sides[0][i])) for i, j in product(*sides)}


SENTENCES = ["Boil it for nine minutes.", "Older eggs peel more easily.", "Then add water!", "I hope this helps."]
SENTENCES += ["What a silly question!", "Wash the rice.", "Eggs are eggs.", "No."]
PAIRS = [
    (GOOD, BAD),
    (BAD, GOOD),
    (" ".join(SENTENCES[:4]), " ".join(SENTENCES[4:])),
    (" ".join(SENTENCES[::2]), " ".join(SENTENCES[1::2])),
    (" ".join(SENTENCES[:3]), "No."),
    ("Boil it.", ""),
    (" ".join(SENTENCES[4:7]), " ".join(SENTENCES[3:6])),
]


@pytest.mark.parametrize("texts", PAIRS)
def test_smallest_flip_equals_brute_force(scorer, texts):
    (pair,) = scorer.score([PreferencePair(PROMPT, *texts)])
    probabilities = by_force(scorer, pair)
    prefers_a = pair.probability > 0.5
    turned = {key: p for key, p in probabilities.items() if p != 0.5 and (p > 0.5) != prefers_a}
    flip = smallest_flip(scorer, pair)
    if not turned:
        assert flip is None
        return
    fewest = min(len(a) + len(b) for a, b in turned)
    assert (len(flip.a) + len(flip.b), flip.exact) == (fewest, True)
    assert flip.probability == pytest.approx(turned[flip.a, flip.b], abs=1e-5)
    smallest = [p for (a, b), p in turned.items() if len(a) + len(b) == fewest]
    assert flip.probability == pytest.approx(min(smallest) if prefers_a else max(smallest), abs=1e-5)
    sizes = [len(deleted) for one in (pair.a, pair.b) for deleted in subsets(one)]
    assert flip.tried == sum(1 <= size <= fewest for size in sizes)


def test_a_flip_can_take_sentences_of_both_sides(attention):
    mixed = []
    for i, j in combinations(range(8), 2):
        a, b = (" ".join((SENTENCES * 2)[k : k + 3]) for k in (i, j))
        (pair,) = attention.score([PreferencePair(PROMPT, a, b)])
        flip = smallest_flip(attention, pair)
        mixed += [(pair, flip)] if flip and flip.a and flip.b else []
        if mixed:
            break
    assert mixed
    pair, flip = mixed[0]
    one, two = attention.score([shortened(pair.a, *flip.a), shortened(pair.b, *flip.b)])
    assert ScoredPair("", one, two).probability == pytest.approx(flip.probability, abs=1e-5)


def test_even_is_no_preference(scorer):
    (same,) = scorer.score([PreferencePair(PROMPT, GOOD, GOOD)])
    assert smallest_flip(scorer, same) is None


@pytest.mark.parametrize("aggregator", ["attention_without_prompt", "last"])
@pytest.mark.parametrize("b", ["Go away.", ""])
def test_a_response_keeps_a_sentence(tokenizer, aggregator, b):
    """Without any it scores an arbitrary 0, or the prompt's value."""
    scorer = Scorer.from_model(tiny_model(aggregator=aggregator), tokenizer, name=aggregator)
    a, other = scorer.score([(PROMPT, "Boil it."), (PROMPT, b)])
    for pair in (ScoredPair("", a, other), ScoredPair("", other, a)):
        assert smallest_flip(scorer, pair) is None


@pytest.fixture(scope="module")
def long_pair(last) -> ScoredPair:
    """10 and 9 short sentences, the pair of widest margin among 100."""
    draw = random.Random(0)
    drafts = [Draft(tuple(draw.choices(["Yes! ", "Eggs. ", "Boil it. ", "Why? "], k=10 - i % 2))) for i in range(20)]
    scored = last.score([("Hi", draft.text, draft.spans) for draft in drafts])
    assert not any(one.dropped_sentences for one in scored)
    pairs = [ScoredPair("", a, b) for a in scored[::2] for b in scored[1::2]]
    return max(pairs, key=lambda pair: abs(pair.margin))


def test_where_not_all_are_tried_a_beam_says_that_it_is_one(last, long_pair, monkeypatch):
    assert math.comb(12, 6) <= influence.ENUMERATED < math.comb(13, 6), "up to twelve sentences all are tried"
    seen: list[tuple[int, int]] = []
    full = smallest_flip(last, long_pair, progress=lambda *count: seen.append(count))
    assert full.exact
    assert seen == sorted(seen)
    assert seen[-1] == (full.tried, full.tried)
    monkeypatch.setattr(influence, "ENUMERATED", 10)  # a beam from two deletions on
    beam = smallest_flip(last, long_pair)
    assert not beam.exact
    assert len(beam.a) + len(beam.b) >= len(full.a) + len(full.b) > 2
    assert beam.tried < full.tried
    one, two = last.score([shortened(long_pair.a, *beam.a), shortened(long_pair.b, *beam.b)])
    assert ScoredPair("", one, two).probability == pytest.approx(beam.probability, abs=1e-5)
    assert (beam.probability > 0.5) != (long_pair.probability > 0.5)


def test_the_search_is_bounded_and_can_be_cancelled(last, long_pair, monkeypatch):
    def cancel(done: int, total: int) -> None:
        raise InterruptedError(f"{done} of {total}")

    with pytest.raises(InterruptedError, match="of 19"):
        smallest_flip(last, long_pair, progress=cancel)
    monkeypatch.setattr(influence, "MOST_TRIED", 18)
    assert smallest_flip(last, long_pair) is None
