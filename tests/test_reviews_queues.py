"""Queues against a naive walk over the votes."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentrm.errors import ReviewError
from sentrm.reviews.log import ReviewLog
from sentrm.reviews.queues import next_pair, ordered, progress, sides_swapped, visible_votes
from sentrm.reviews.votes import VERDICTS, Queue

PAIRS = [f"p{i}" for i in range(6)]


def waiting(votes: dict[tuple[str, str], str], overlap: int, annotator: str) -> list[str]:
    """The pairs left to the annotator, as the rule reads."""
    left = []
    for pair in PAIRS:
        others = [v for (p, name), v in votes.items() if p == pair and name != annotator and v != "skip"]
        if (pair, annotator) not in votes and len(others) < overlap:
            left.append(pair)
    return left


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(PAIRS), st.sampled_from(["ann", "bob", "eve"])), st.sampled_from(VERDICTS)
    ),
    st.integers(1, 3),
)
def test_next_and_progress_are_those_of_the_rule(tmp_path_factory, votes, overlap):
    queue = Queue(overlap=overlap)
    with ReviewLog.open(tmp_path_factory.mktemp("log") / "log") as log:
        for (pair, name), verdict in votes.items():
            log.vote(pair, name, verdict)
        log.vote("elsewhere", "ann", "agree")
        for name in ("ann", "bob", "new"):
            left = waiting(votes, overlap, name)
            assert next_pair(log, queue, PAIRS, name) == (left[0] if left else None)
            now = progress(log, queue, PAIRS, name)
            done = sum(voter == name for _, voter in votes)
            assert (now.done, now.left, now.total) == (done, len(left), 6)


def test_annotators_work_a_queue_to_its_end(tmp_path):
    queue = Queue(overlap=2)
    seen: dict[str, list[str]] = {"ann": [], "bob": [], "eve": []}
    with ReviewLog.open(tmp_path / "log") as log:
        turns = list(seen) * 20
        random.Random(0).shuffle(turns)
        for name in turns:
            if pair := next_pair(log, queue, PAIRS, name):
                log.vote(pair, name, "agree")
                seen[name].append(pair)
        votes = log.verdicts()
        assert {pair: sum(p == pair for p, _, _ in votes) for pair in PAIRS} == dict.fromkeys(PAIRS, 2)
        assert all(len(pairs) == len(set(pairs)) for pairs in seen.values())
        log.undo("ann")
        assert next_pair(log, queue, PAIRS, "ann") == seen["ann"][-1]


def test_others_votes_are_seen_after_ones_own(tmp_path):
    with ReviewLog.open(tmp_path / "log") as log:
        log.vote("p0", "ann", "flip")
        assert visible_votes(log, "p0", "bob") == []
        log.vote("p0", "bob", "skip")
        assert [vote.annotator for vote in visible_votes(log, "p0", "bob")] == ["bob"]
        log.vote("p0", "bob", "flag")
        assert [vote.annotator for vote in visible_votes(log, "p0", "bob")] == ["ann", "bob"]


def test_sides_are_a_fair_coin_that_stays():
    queue = Queue(seed=7)
    first = [sides_swapped(queue, f"p{i}", "ann") for i in range(2000)]
    assert first == [sides_swapped(queue, f"p{i}", "ann") for i in range(2000)]
    assert abs(sum(first) - 1000) < 4 * (2000 / 4) ** 0.5
    other = [sides_swapped(queue, f"p{i}", "bob") for i in range(2000)]
    again = [sides_swapped(Queue(seed=8), f"p{i}", "ann") for i in range(2000)]
    for coins in (other, again):  # independent of the first
        assert abs(sum(a == b for a, b in zip(first, coins, strict=True)) - 1000) < 4 * (2000 / 4) ** 0.5
    assert not any(sides_swapped(Queue(blind=False), f"p{i}", "ann") for i in range(50))


def test_a_random_order_depends_on_the_seed_alone():
    queue = Queue(order="random", seed=1)
    assert ordered(queue, PAIRS) == ordered(queue, PAIRS[::-1])
    assert sorted(ordered(queue, PAIRS)) == PAIRS
    assert ordered(queue, PAIRS) != ordered(Queue(order="random", seed=2), PAIRS)
    assert ordered(Queue(order="filter"), PAIRS[::-1]) == PAIRS[::-1]


@pytest.mark.parametrize("wrong", [{"order": "newest"}, {"overlap": 0}, {"overlap": True}, {"blind": 1}, {"seed": "x"}])
def test_settings_that_contradict_are_refused(wrong):
    with pytest.raises(ReviewError, match=r"got .*Expected"):
        Queue(**wrong)


def test_a_place_far_down_a_long_queue_is_found(tmp_path):
    pairs = [f"{i:06d}" for i in range(200_000)]
    with ReviewLog.open(tmp_path / "log") as log:
        log.vote_all(pairs[:100_000], "ann", "agree")
        begun = time.perf_counter()
        assert next_pair(log, Queue(), pairs, "ann") == pairs[100_000]
        assert next_pair(log, Queue(), pairs, "bob") == pairs[100_000]
        assert next_pair(log, Queue(overlap=2), pairs, "bob") == pairs[0]
        assert progress(log, Queue(), pairs, "bob").left == 100_000
        print(time.perf_counter() - begun)
        assert time.perf_counter() - begun < 20
