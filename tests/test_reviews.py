"""The review log against a naive model of it, and a million votes."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentrm.errors import ReviewError, StaleVote
from sentrm.reviews.log import ReviewLog
from sentrm.reviews.votes import VERDICTS

MARK = {"side": "chosen", "sentence": 1, "mark": "bad", "start": 4, "end": 9, "text": "Peel."}
PAIRS, PEOPLE = ("p1", "p2", "p3"), ("ann", "bob")


@pytest.fixture
def log(tmp_path: Path):
    with ReviewLog.open(tmp_path / "reviews.sqlite") as log:
        yield log


class Naive:
    """The log as anyone would explain it: each annotator has a stack of done and one of undone actions."""

    def __init__(self):
        self.done = {name: [] for name in PEOPLE}
        self.undone = {name: [] for name in PEOPLE}

    def vote(self, name, pairs, verdict, place):
        self.done[name].append((place, pairs, verdict))
        self.undone[name] = []

    def undo(self, name):
        if self.done[name]:
            self.undone[name].append(self.done[name].pop())

    def redo(self, name):
        if self.undone[name]:
            self.done[name].append(self.undone[name].pop())

    def current(self):
        state = {}
        for name, actions in self.done.items():
            for _, pairs, verdict in sorted(actions):
                state |= {(pair, name): verdict for pair in pairs}
        return sorted((pair, name, verdict) for (pair, name), verdict in state.items())


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("vote"), st.sampled_from(PEOPLE), st.sampled_from(PAIRS), st.sampled_from(VERDICTS)),
        st.tuples(st.just("all"), st.sampled_from(PEOPLE), st.sets(st.sampled_from(PAIRS)), st.sampled_from(VERDICTS)),
        st.tuples(st.sampled_from(["undo", "redo"]), st.sampled_from(PEOPLE)),
        st.just(("restart",)),
    ),
    max_size=25,
)


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_the_state_is_that_of_a_naive_model_and_comes_back_from_the_events(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("log")
    log, naive = ReviewLog.open(folder / "a.sqlite"), Naive()
    for place, (kind, *rest) in enumerate(steps):
        if kind == "restart":
            log.close()
            log = ReviewLog.open(folder / "a.sqlite")
        elif kind == "vote":
            name, pair, verdict = rest
            log.vote(pair, name, verdict)
            naive.vote(name, [pair], verdict, place)
        elif kind == "all":
            name, pairs, verdict = rest
            assert log.vote_all(pairs, name, verdict) == len(pairs)
            if pairs:
                naive.vote(name, pairs, verdict, place)
        else:
            (name,) = rest
            assert (getattr(log, kind)(name) is None) == (
                not getattr(naive, {"undo": "done", "redo": "undone"}[kind])[name]
            )
            getattr(naive, kind)(name)
        assert log.verdicts() == naive.current()
        for name in PEOPLE:
            assert log.can_undo(name) == bool(naive.done[name])
            assert log.can_redo(name) == bool(naive.undone[name])

    events = json.loads(json.dumps(list(log.events())))
    with ReviewLog.open(folder / "b.sqlite") as other:
        assert other.import_events(events) == len(events)
        assert other.import_events(events) == 0
        assert other.current() == log.current()
        assert list(other.events()) == events
        for name in PEOPLE:
            assert (other.can_undo(name), other.can_redo(name)) == (log.can_undo(name), log.can_redo(name))
    log.close()


def test_a_vote_comes_back_whole(log):
    given_ = {"reason": "off topic", "comment": "naïve 🙂\n${x} \ud800", "marks": [MARK], "blind": True}
    vote = log.vote("p1", "Zoë", "flip", **given_)
    assert log.current() == [vote]
    assert (vote.verdict, vote.reason, vote.comment, vote.marks, vote.blind) == (
        "flip",
        "off topic",
        given_["comment"],
        (MARK,),
        True,
    )
    assert log.undo("Zoë").pair_id == "p1"
    assert log.current() == []
    assert log.redo("Zoë").verdict == "flip"
    assert log.current("p1", "Zoë") == [vote]


def test_of_two_windows_the_one_that_knows_less_is_told(tmp_path):
    with ReviewLog.open(tmp_path / "log") as one, ReviewLog.open(tmp_path / "log") as other:
        first = one.vote("p1", "ann", "agree", seen=0)
        with pytest.raises(StaleVote, match="has voted on pair p1 since") as stale:
            other.vote("p1", "ann", "flip", seen=0)
        assert stale.value.newest == first
        assert other.current() == [first]
        other.vote("p1", "bob", "tie", seen=0)  # another's vote is no reason
        second = other.vote("p1", "ann", "flip", seen=first.id)
        assert [vote.verdict for vote in one.current("p1")] == ["flip", "tie"]
        other.undo("ann")
        assert one.vote("p1", "ann", "skip", seen=second.id).verdict == "skip"


def test_events_cannot_be_changed_or_removed(log):
    log.vote("p1", "ann", "agree")
    with sqlite3.connect(log.path) as db:
        for statement in ("UPDATE events SET verdict = 'flip'", "DELETE FROM events", "DELETE FROM votes"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                db.execute(statement)
    db.close()


def test_threads_share_one_log(log):
    def vote(name):
        for i in range(50):
            log.vote(f"p{i}", name, "agree")

    threads = [threading.Thread(target=vote, args=(f"a{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.counts().annotators == {f"a{i}": {"agree": 50} for i in range(4)}
    assert log.counts().pairs == 50


def test_counts_follow_votes_and_undo(log):
    assert (log.counts().pairs, log.counts().first) == (0, "")
    log.vote_all(["p1", "p2"], "ann", "flip")
    vote = log.vote("p1", "bob", "tie")
    counts = log.counts()
    assert (counts.verdicts["flip"], counts.verdicts["tie"], counts.pairs, counts.last) == (2, 1, 2, vote.time)
    assert log.counts(["p2", "p3"]).annotators == {"ann": {"flip": 1}}
    assert log.verdicts(["p1"]) == [("p1", "ann", "flip"), ("p1", "bob", "tie")]
    log.undo("ann")
    assert log.counts().annotators == {"bob": {"tie": 1}}
    assert log.counts([]).pairs == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"verdict": "maybe"},
        {"annotator": " "},
        {"annotator": "a\nb"},
        {"annotator": "a" * 201},
        {"pair_id": ""},
        {"comment": "x" * 20_001},
        {"reason": 3},
        {"marks": [MARK | {"side": "left"}]},
        {"marks": [MARK | {"start": 9}]},
        {"marks": [MARK | {"sentence": True}]},
        {"marks": "bad"},
        {"blind": 1},
    ],
)
def test_what_is_no_vote_is_refused_and_leaves_nothing(log, wrong):
    vote = {"pair_id": "p1", "annotator": "ann", "verdict": "agree"} | wrong
    with pytest.raises(ReviewError, match="got "):
        log.vote(**vote)
    assert list(log.events()) == []


VOTE = {"uuid": "u1", "time": "2026-05-01T10:00:00+00:00", "annotator": "ann", "kind": "vote", "pairs": ["p1"]}
VOTE |= {"verdict": "agree", "reason": "", "comment": "", "marks": [], "blind": False}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kind": "delete"}, "kind"),
        ({"verdict": "DROP"}, "verdict"),
        ({"pairs": "p1"}, "pairs"),
        ({"pairs": [["p1"]]}, "event 2"),
        ({"time": "<b>"}, "event 2"),
        ({"kind": "undo", "target": "u9"}, "target"),
        ({"kind": "undo", "target": "u1", "annotator": "bob"}, "target"),
        ({"kind": "undo"}, "lacks 'target'"),
        ({"uuid": None}, "uuid"),
    ],
)
def test_an_import_is_whole_or_nothing(log, wrong, said):
    with pytest.raises(ReviewError, match=said):
        log.import_events([VOTE, VOTE | {"uuid": "u2"} | wrong])
    with pytest.raises(ReviewError, match="event 1"):
        log.import_events(["vote"])
    assert log.current() == []
    assert log.import_events([VOTE]) == 1


def test_a_million_votes_stay_fast(tmp_path):
    """Limits are several times what two idle cores need: they catch a lost index, not a busy machine."""
    pair_ids = [f"{i * 2654435761 % 2**64:016x}" for i in range(1_000_000)]
    took = {}

    def timed(name, work):
        begun = time.perf_counter()
        result = work()
        took[name] = time.perf_counter() - begun
        return result

    with ReviewLog.open(tmp_path / "log") as log:
        assert timed("vote_all", lambda: log.vote_all(pair_ids, "ann", "flip")) == 1_000_000
        assert timed("vote", lambda: log.vote(pair_ids[7], "bob", "tie")).verdict == "tie"
        assert len(timed("current of a pair", lambda: log.current(pair_ids[7]))) == 2
        assert timed("undo", lambda: log.undo("ann")).pairs == 1_000_000
        assert log.verdicts() == [(pair_ids[7], "bob", "tie")]
        assert timed("redo", lambda: log.redo("ann")).pairs == 1_000_000
        assert timed("counts", log.counts).verdicts["flip"] == 1_000_000
        timed("counts again", log.counts)
    timed("open", lambda: ReviewLog.open(tmp_path / "log").close())
    print({name: round(seconds, 4) for name, seconds in took.items()})
    most = {"vote_all": 30, "vote": 0.5, "current of a pair": 0.1, "undo": 2, "redo": 2, "counts": 30, "open": 10}
    assert {name for name, limit in most.items() if took[name] > limit} == set()
