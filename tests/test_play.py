"""Sentence surgery as the page does it: each action of the reader against a score from scratch, and what is refused."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import gradio as gr
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentrm.errors import SentrmError
from sentrm.inspection import Inspector
from sentrm.preferences import PreferencePair
from sentrm.surgery import History, SurgeryError
from sentrm.ui import play
from sentrm.ui.stop import Stop, Stopped

PROMPT, A, B = "How do I boil an egg?", "Boil it. Wait a while. Then peel it.", "I would not know. Ask a cook."
ACTIONS = [
    ({"op": "drop", "side": 0, "sentence": 1}, "Boil it. Then peel it.", B),
    ({"op": "edit", "side": 0, "sentence": 1, "text": "Wait longer."}, "Boil it. Wait longer. Then peel it.", B),
    ({"op": "insert", "side": 1, "sentence": 1, "text": "Sorry."}, A, f"{B} Sorry."),
    ({"op": "duplicate", "side": 1, "sentence": 0}, A, "I would not know. I would not know. Ask a cook."),
    ({"op": "move", "side": 0, "sentence": 2, "to": 0}, "Then peel it. Boil it. Wait a while.", B),
    ({"op": "copy", "side": 0}, A, A),
    ({"op": "copy", "side": 1}, B, B),
    ({"op": "remove", "a": [0, 2], "b": [1]}, "Wait a while.", "I would not know."),
]

OPERATIONS = ["drop", "edit", "insert", "duplicate", "move", "split", "join", "undo", "redo"]


@pytest.fixture(scope="module")
def cutters(scorer):
    inspector = Inspector(scorer)
    return lambda spec: inspector.cut_by(spec) if spec else inspector


@pytest.fixture
def desk(cutters):
    return play.open_pair(cutters, PROMPT, A, B)[0]


def numbers(pair):
    return [n for r in (pair.a, pair.b) for n in (*r.values, *r.weights, r.score)]


@pytest.mark.parametrize(("action", "a", "b"), ACTIONS, ids=[f"{one['op']}-{k}" for k, (one, *_) in enumerate(ACTIONS)])
def test_an_action_gives_the_pair_that_the_new_text_scores_as(cutters, scorer, desk, action, a, b):
    moved, pair = play.act(cutters, desk, action)
    assert (pair.a.text, pair.b.text) == (a, b) == (moved.step.a.text, moved.step.b.text)
    scratch = scorer.score([PreferencePair(prompt=PROMPT, chosen=a, rejected=b)])[0]
    assert numbers(pair) == pytest.approx(numbers(scratch), abs=1e-5)
    assert pair.a.segmenter.own
    assert len(moved.history.past) == 1


def test_every_step_can_be_undone_and_redone_and_all_at_once(cutters, desk):
    moved, seen = desk, [play.score(cutters, desk)]
    for action, *_ in ACTIONS[1:6]:
        moved, pair = play.act(cutters, moved, action)
        seen.append(pair)
    for pair in seen[-2::-1]:
        moved, now = play.act(cutters, moved, {"op": "undo"})
        assert now == pair
    for pair in seen[1:]:
        moved, now = play.act(cutters, moved, {"op": "redo"})
        assert now == pair
    moved, now = play.act(cutters, moved, {"op": "reset"})
    assert now == seen[0]
    assert play.act(cutters, moved, {"op": "undo"})[1] == seen[-1]


def test_split_and_join_are_read_with_these_cuts_and_are_not_the_models_own(cutters, scorer, desk):
    split, pair = play.act(cutters, desk, {"op": "split", "side": 0, "sentence": 1, "at": 5})
    assert pair.a.sentences == ("Boil it. ", "Wait ", "a while. ", "Then peel it.")
    assert (pair.a.segmenter.spec, pair.a.segmenter.own, pair.b.segmenter.own) == ("by hand", False, True)
    (scratch,) = scorer.score([(PROMPT, A, pair.a.spans)])
    assert pair.a.score == pytest.approx(scratch.score, abs=1e-5)
    joined, pair = play.act(cutters, split, {"op": "join", "side": 0, "sentence": 1})
    assert pair.a.sentences == ("Boil it. ", "Wait a while. ", "Then peel it.")
    assert not pair.a.segmenter.own
    assert play.act(cutters, joined, {"op": "reset"})[1].a.segmenter.own


def test_a_split_counts_from_the_ink_of_its_sentence(cutters):
    desk = play.open_pair(cutters, PROMPT, "  Boil it now. Wait.", B)[0]
    _, pair = play.act(cutters, desk, {"op": "split", "side": 0, "sentence": 0, "at": 5})
    assert pair.a.sentences[:2] == ("  Boil ", "it now. ")


def test_another_segmenter_is_a_step_like_any_other(cutters, scorer, desk):
    cut, pair = play.act(cutters, desk, {"op": "segmenter", "spec": "tokens"})
    assert len(pair.a.spans) > 3
    assert (pair.a.segmenter.spec, pair.a.segmenter.own) == ("tokens", False)
    cut, pair = play.act(cutters, cut, {"op": "drop", "side": 0, "sentence": 0})
    assert pair.a.segmenter.spec == "tokens"
    back = play.act(cutters, play.act(cutters, cut, {"op": "undo"})[0], {"op": "undo"})[1]
    assert back == play.score(cutters, desk)


@pytest.mark.parametrize(
    "action",
    [
        None,
        {},
        {"op": "explode"},
        {"op": "drop", "side": 2, "sentence": 0},
        {"op": "drop", "side": 0, "sentence": 9},
        {"op": "drop", "side": 0, "sentence": -1},
        {"op": "drop", "side": 0, "sentence": "0"},
        {"op": "edit", "side": 0, "sentence": 0},
        {"op": "edit", "side": 0, "sentence": 0, "text": " "},
        {"op": "move", "side": 0, "sentence": 0, "to": 7},
        {"op": "split", "side": 0, "sentence": 9, "at": 1},
        {"op": "split", "side": 0, "sentence": 0, "at": 0},
        {"op": "join", "side": 0, "sentence": 2},
        {"op": "remove", "a": ["0"], "b": []},
    ],
)
def test_what_is_no_action_is_refused_in_words(cutters, desk, action):
    with pytest.raises(SurgeryError, match=r"got|Load"):
        play.act(cutters, desk, action)


def test_what_was_asked_of_another_turn_or_text_is_refused(cutters, desk):
    moved, _ = play.act(cutters, desk, {"op": "drop", "side": 0, "sentence": 1, "turn": desk.turn})
    assert moved.turn != desk.turn
    with pytest.raises(SurgeryError, match="moved on"):
        play.act(cutters, moved, {"op": "drop", "side": 0, "sentence": 1, "turn": desk.turn})
    assert play.holds(desk, PROMPT, A, B)
    assert not play.holds(moved, PROMPT, A, B)
    lone = play.open_pair(cutters, PROMPT, f"\ud800{A}", B)[0]
    assert play.holds(lone, PROMPT, f"\ud800{A}", B)


def test_what_was_not_read_is_counted_the_same_after_a_cut_by_hand(cutters):
    text = "Boil it. Wait. " + "Peel it. " * 300
    desk, before, _ = play.open_pair(cutters, PROMPT, text, B)
    assert before.a.dropped_sentences > 1
    _, pair = play.act(cutters, desk, {"op": "join", "side": 0, "sentence": 0})
    assert len(pair.a.spans) + pair.a.dropped_sentences == len(before.a.spans) + before.a.dropped_sentences - 1


def test_leaving_each_sentence_out_ends_once_the_reader_has_gone_on(cutters, desk):
    stop, request = Stop(), gr.Request(session_hash="anna")
    report = stop.watched(request)
    stop.press(request)
    with pytest.raises(Stopped):
        cutters("").leave_one_out(play.score(cutters, desk).a, report)


def test_a_long_history_keeps_its_first_and_its_last_steps():
    history = History((), 0)
    for value in range(1, 1000):
        history = history.do(value)
    assert history.past == (0, *range(899, 999))
    assert history.reset().present == 0


def test_a_response_keeps_its_last_sentence(cutters):
    desk = play.open_pair(cutters, PROMPT, "One.", B)[0]
    with pytest.raises(SurgeryError, match="only sentence"):
        play.act(cutters, desk, {"op": "drop", "side": 0, "sentence": 0})
    with pytest.raises(SentrmError, match="response A is empty"):
        play.act(cutters, desk, {"op": "remove", "a": [0], "b": []})


def test_an_unknown_segmenter_is_refused(cutters, desk):
    with pytest.raises(SentrmError, match="got segmenter"):
        play.act(cutters, desk, {"op": "segmenter", "spec": "guesses"})


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_after_any_actions_the_score_is_that_of_the_text_from_scratch(cutters, scorer, data):
    desk = play.open_pair(cutters, PROMPT, A, B)[0]
    pair = None
    for _ in range(data.draw(st.integers(1, 5))):
        side = data.draw(st.integers(0, 1))
        count = len((desk.step.b if side else desk.step.a).pieces)
        sentence, to = data.draw(st.integers(0, count - 1)), data.draw(st.integers(0, count - 1))
        op = data.draw(
            st.sampled_from(["drop", "edit", "insert", "duplicate", "move", "split", "join", "undo", "redo"])
        )
        action = {"op": op, "side": side, "sentence": sentence, "to": to, "text": "Salt it well.", "at": 4}
        try:
            desk, pair = play.act(cutters, desk, action)
        except SentrmError:
            continue
        items = []
        for draft in dataclasses.astuple(desk.step)[:2]:
            pieces, by_hand = draft
            item = (PROMPT, "".join(pieces))
            ends = [sum(map(len, pieces[:k])) for k in range(len(pieces) + 1)]
            items.append((*item, tuple(pairwise(ends))) if by_hand else item)
        scratch = [one for item in items for one in scorer.score([item])]
        assert [pair.a.score, pair.b.score] == pytest.approx([one.score for one in scratch], abs=1e-5)
