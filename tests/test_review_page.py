"""What the Review page is answered, against the audit, the log and the queue themselves."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest

from sentrm.audit.filters import Filter, filters_to_query
from sentrm.audit.run import score_dataset
from sentrm.audit.summary import summarise
from sentrm.errors import AuditError, ReviewError, SentrmError, StaleVote
from sentrm.heatmap import heatmap_value
from sentrm.preferences import load_preferences
from sentrm.reviews.export import read_events
from sentrm.reviews.log import ReviewLog
from sentrm.reviews.queues import sides_swapped
from sentrm.reviews.votes import VERDICTS
from sentrm.scoring import Scorer
from sentrm.ui.dataset_list import filter_words
from sentrm.ui.review_desk import CHOICES, Address, Desk
from sentrm.ui.review_files import (
    Choices,
    Files,
    agreement_value,
    carry_in,
    cleaned,
    margins_of,
    unsettled_value,
    votes_value,
)
from sentrm.ui.workbench import Workbench

EVIL = "<img src=x onerror=alert(1)> ${7*7} {{7*7}}"
ROWS = [
    {"prompt": f"Question {i}?", "chosen": f"Answer {i} is it. It is 4{i}2.", "rejected": f"No {i}. Never. Not {i}."}
    for i in range(12)
]
ROWS[3] |= {"prompt": EVIL, "chosen": f"{EVIL} One. Two."}


@pytest.fixture(scope="module")
def audit(model_dir, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("audits")
    data = folder / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    path = score_dataset(data, Scorer.from_pretrained(model_dir), folder / "eggs")
    summarise(path)
    return path


@pytest.fixture
def bench(audit, tmp_path) -> Workbench:
    return Workbench(audits=(audit,), reviews=tmp_path / "reviews.db")


@pytest.fixture
def desk(bench) -> Desk:
    return Desk(bench)


class Visitor:
    """A browser: keeps what it was answered, and sends it back with the next wish."""

    def __init__(self, desk: Desk, name: str = "ann", query: str = "") -> None:
        self.desk, self.name, self.query = desk, name, query
        self.ask("open")

    def ask(self, do: str, **more: object) -> dict:
        pair = self.value["desk"]["pair"] if do != "open" else ""
        asked = {"do": do, "query": self.query, "annotator": self.name, "pair": pair or "", **more}
        self.value = self.desk.answer(asked)
        return self.value["desk"]

    def vote(self, choice: str, **more: object) -> dict:
        return self.ask("vote", choice=choice, **{"seen": self.now["seen"], **more})

    @property
    def now(self) -> dict:
        return self.value["desk"]


def numbers(value: object) -> list[float]:
    if isinstance(value, dict):
        return [number for one in value.values() for number in numbers(one)]
    if isinstance(value, list | tuple):
        return [number for one in value for number in numbers(one)]
    return [value] if isinstance(value, float) else []


def test_before_the_vote_nothing_that_is_answered_tells_scores_label_or_votes(desk, bench):
    log, folder = bench.log(), bench.open("eggs")
    for pair_id in folder.ids():
        log.vote(pair_id, "zoe", "flip", reason="zoe's reason", comment="zoe's comment")
    sides = set()
    for pair_id in folder.ids():
        pair = folder.pair(pair_id)
        blind = Visitor(desk, query=f"?overlap=9&id={pair_id}")
        told, said = json.dumps(blind.value), json.dumps(blind.value["sides"])
        assert not numbers(blind.value)
        shown = heatmap_value(pair)
        secrets = {one["exact"] for side in shown["sides"] for one in side["sentences"]}
        secrets |= {*shown["verdict"]["scores"], shown["verdict"]["words"], shown["verdict"]["margin"]}
        assert not [one for one in secrets if json.dumps(one)[1:-1] in told]
        for word in ("zoe", "chosen", "rejected", "margin", "prefer", "reward", "weight", "class", "agree", "flip"):
            assert word not in told, word
        texts = [pair.a.sentences, pair.b.sentences]
        swapped = sides_swapped(Address("eggs", overlap=9).queue, pair_id, "ann")
        for side, sentences in zip(blind.value["sides"], texts[::-1] if swapped else texts, strict=True):
            assert [one["text"] for one in side["sentences"]] == [text.strip() for text in sentences]
        sides.add(swapped)
        assert "sentence 1 of" in said
    assert sides == {True, False}  # or the shuffle would not be tested


def test_a_choice_of_a_side_becomes_a_verdict_about_the_label(desk, bench):
    log, folder = bench.log(), bench.open("eggs")
    for pair_id in folder.ids():
        chosen = folder.texts(pair_id).chosen
        for choice, place in (("a", 0), ("b", 1)):
            visitor = Visitor(desk, query=f"?overlap=9&id={pair_id}")
            shown = visitor.value["sides"][place]["sentences"][0]["text"]
            visitor.vote(choice)
            assert log.current(pair_id, "ann")[0].verdict == ("agree" if chosen.startswith(shown) else "flip")
            label = visitor.now["revealed"]["label"].lower()
            left = visitor.value["sides"][0]["sentences"][0]["text"]
            assert label == ("a" if chosen.startswith(left) else "b")
    for choice in CHOICES[2:]:
        visitor = Visitor(desk, name=f"tries {choice}", query="?overlap=99")
        pair_id = visitor.now["pair"]
        visitor.vote(choice)
        assert log.current(pair_id, visitor.name)[0].verdict == choice
    assert {*CHOICES[2:], "agree", "flip"} == set(VERDICTS)


def test_labels_that_prefer_the_rejected_response_and_ties(model_dir, tmp_path):
    """What is shown as the label, what a choice is stored as, and what it makes of the data."""
    texts = {"chosen": "Left side. It is so.", "rejected": "Right side. It is not."}
    labels = [{"probability": 0.1}, {"label": "rejected"}, {"label": "chosen"}, {"label": "tie"}, {"probability": 0.5}]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"Q{i}?", **texts, **one}) + "\n" for i, one in enumerate(labels)))
    path = score_dataset(data, Scorer.from_pretrained(model_dir), tmp_path / "labels")
    summarise(path)
    bench = Workbench(audits=(path,), reviews=tmp_path / "log")
    desk, folder = Desk(bench), bench.open("labels")
    for side in ("chosen", "rejected"):
        for i, pair_id in enumerate(folder.ids()):
            visitor = Visitor(desk, name=f"for {side}", query=f"?overlap=9&id={pair_id}")
            lefts = [one["sentences"][0]["text"] for one in visitor.value["sides"]]
            place = [texts[side].startswith(left) for left in lefts].index(True)
            visitor.vote("ab"[place])
            (vote,) = bench.log().current(pair_id, visitor.name)
            better = "rejected" if i < 2 else "chosen"
            assert vote.verdict == ("agree" if side == better else "flip")
            assert visitor.now["own"]["words"] == f"{'AB'[place]} is better"
            assert visitor.now["revealed"]["label"] == ("tie" if i > 2 else "AB"[(side == better) != (place == 0)])
        out, _ = cleaned(bench.log(), folder, tmp_path / f"cleaned-{side}", Choices())
        preferred = [
            pair.chosen if pair.probability > 0.5 else pair.rejected if pair.probability < 0.5 else None
            for pair in load_preferences(out).pairs
        ]
        assert preferred == [texts[side]] * len(labels)
        bench.log().undo(f"for {side}")
        while bench.log().undo(f"for {side}"):
            pass
    model = margins_of(folder)
    signs = [-1, -1, 1, 1, 1]
    assert list(model.values()) == (folder.column("margin") * signs).tolist()
    marking = Visitor(desk)
    ties = Visitor(desk, name="bob", query=f"?{filters_to_query([Filter('label_probability', '=', 0.5)])}")
    with pytest.raises(ReviewError, match="every label of the queue is a tie"):
        ties.ask("all", verdict="flip", count=2)
    assert "2 ties left out" in marking.ask("all", verdict="agree", count=len(labels))["said"]
    assert len(bench.log().current()) == 3


def test_another_vote_is_hidden_in_an_open_queue_too(desk, bench):
    visitor = Visitor(desk, query="?overlap=3&blind=0")
    bench.log().vote(visitor.now["pair"], "bob", "both_bad")
    opened = Visitor(desk, query=f"?overlap=3&blind=0&id={visitor.now['pair']}")
    assert opened.now["revealed"]["votes"] == []
    assert opened.now["revealed"]["label"] in "AB"


def test_after_the_vote_the_scores_of_both_sides_as_they_stood_and_others_votes_are_shown(desk, bench):
    visitor = Visitor(desk, query="?overlap=3")
    pair_id = visitor.now["pair"]
    before = [[one["text"] for one in side["sentences"]] for side in visitor.value["sides"]]
    bench.log().vote(pair_id, "bob", "both_bad", comment="Both are.")
    visitor.vote("tie", reason="slip", comment="why")
    assert [[one["text"] for one in side["sentences"]] for side in visitor.value["sides"]] == before
    pair = bench.open("eggs").pair(pair_id)
    scores = sorted(visitor.value["verdict"]["scores"])
    assert scores == sorted(heatmap_value(pair)["verdict"]["scores"])
    assert visitor.now["revealed"]["votes"] == [["bob", "both bad", "", "Both are."]]
    liked = "BA"["AB".index(visitor.now["revealed"]["label"])]
    assert visitor.now["revealed"]["why"][0].startswith(f"The model prefers {liked} by ")
    own = visitor.now["own"]
    assert (own["choice"], own["reason"], own["comment"]) == ("tie", "slip", "why")
    (vote,) = bench.log().current(pair_id, "ann")
    assert vote.blind
    visitor.vote("a")  # another verdict, given with the scores in sight
    assert not bench.log().current(pair_id, "ann")[0].blind
    visitor.ask("undo")
    visitor.ask("undo")
    assert visitor.now["pair"] == pair_id
    assert visitor.value["blind"]
    assert visitor.now["known"]
    visitor.vote("a")
    assert not bench.log().current(pair_id, "ann")[0].blind  # they were seen once


def test_the_queue_goes_from_the_most_suspicious_on_and_counts(desk, bench):
    order = [row["pair_id"] for row in bench.open("eggs").page(sort="suspicion", descending=True)]
    visitor = Visitor(desk)
    seen = []
    for k in range(len(order)):
        assert visitor.now["progress"] == {"done": k, "left": 12 - k, "total": 12}
        seen.append(visitor.now["pair"])
        visitor.vote("skip" if k == 2 else "tie")
        if k != 2:
            assert visitor.now["pair"] == seen[-1]  # with its scores
            visitor.ask("next")
    assert seen == order
    assert visitor.now["pair"] is None
    assert "All done" in visitor.value["message"]
    again = Visitor(desk, name="bob")
    assert again.now["pair"] == order[2]  # a skip is none of the votes that a pair is to get

    shuffled = Visitor(desk, name="eve", query="?order=random&overlap=9")
    assert shuffled.now["progress"]["left"] == 12
    assert Visitor(desk, name="eve", query="?order=random&overlap=9").now["pair"] == shuffled.now["pair"]


def test_an_open_queue_shows_all_and_goes_on_after_the_vote(desk, bench):
    visitor = Visitor(desk, query="?blind=0&order=filter")
    first, second, *_ = bench.open("eggs").ids()
    assert visitor.now["pair"] == first
    assert visitor.value["verdict"] == heatmap_value(bench.open("eggs").pair(first))["verdict"]
    assert visitor.now["revealed"]["label"] == "A"
    visitor.vote("b")
    assert visitor.now["pair"] == second
    (vote,) = bench.log().current(first)
    assert (vote.verdict, vote.blind) == ("flip", False)


def test_the_filters_of_the_address_narrow_the_queue(desk, bench):
    folder = bench.open("eggs")
    filters = (Filter("margin", "<", float(sorted(folder.column("margin"))[5])), Filter("text", "contains", "answer"))
    visitor = Visitor(desk, query=f"?{filters_to_query(filters)}")
    assert visitor.now["progress"]["total"] == folder.count(filters) > 0
    assert visitor.now["filters"] == [filter_words(one) for one in filters]
    assert Address.read(visitor.now["query"]) == Address("eggs", filters)
    assert Address.read(visitor.now["without"][0]).filters == filters[1:]
    none = Visitor(desk, query=f"?{filters_to_query([Filter('margin', '>', 1e9)])}")
    assert "No pair passes" in none.value["message"]
    for query in (
        "?order=best",
        "?overlap=0",
        "?overlap=x",
        "?where=1",
        "?audit=../../etc",
        "?where=[%22x%22,%22=%22,1]",
    ):
        with pytest.raises((AuditError, ReviewError)):
            Visitor(desk, query=query)


def test_undo_and_redo_at_any_depth_also_by_an_app_started_again(desk, bench):
    visitor = Visitor(desk)
    voted = []
    for _ in range(5):
        voted.append(visitor.now["pair"])
        visitor.vote("tie")
        visitor.ask("next")
    bench.log().close()
    again = Visitor(Desk(Workbench(bench.audits, reviews=bench.reviews)))
    for pair_id in reversed(voted[2:]):
        again.ask("undo")
        assert again.now["pair"] == pair_id
    assert again.now["progress"]["done"] == 2
    again.ask("redo")
    assert again.now["pair"] == voted[2]
    assert again.now["own"]["choice"] == "tie"
    assert (again.now["undo"], again.now["redo"]) == (True, True)
    bob = Visitor(again.desk, name="bob", query="?overlap=2")
    assert (bob.now["undo"], bob.now["redo"]) == (False, False)
    before = bob.now["pair"]
    assert bob.ask("undo")["said"] == "There is nothing to undo."
    assert bob.now["pair"] == before


def test_what_counts_as_blind(desk, bench):
    def blind(visitor: Visitor) -> bool:
        (vote,) = bench.log().current(visitor.now["pair"], visitor.name)
        return vote.blind

    one = Visitor(desk, query="?blind=1")
    one.vote("a")
    one.vote("a", comment="added when the scores were shown")
    assert blind(one)
    one.vote("b")
    assert not blind(one)  # another verdict than the blind one
    pair_id = one.ask("next")["pair"]
    Visitor(desk, query=f"?blind=0&id={pair_id}")  # a look, then the blind queue again
    one.ask("open")
    assert (one.now["pair"], one.now["known"]) == (pair_id, True)
    one.vote("a")
    assert not blind(one)
    one.ask("next")
    one.ask("all", verdict="tie", count=12)
    one.ask("undo")
    assert one.ask("open")["known"]  # the answer that all are marked showed it
    other = Visitor(desk, query=f"?id={bench.open('eggs').ids()[-1]}")
    assert not other.now["known"]  # marked with the others, and never looked at
    other.vote("a")
    assert blind(other)


def test_undo_at_the_end_of_the_queue_brings_a_pair(desk, bench):
    visitor = Visitor(desk)
    visitor.ask("all", verdict="tie", count=12)
    assert visitor.ask("next")["pair"] is None
    assert "All done: 12 pairs" in visitor.value["message"]
    visitor.ask("undo")
    assert visitor.now["pair"]
    assert visitor.now["progress"]["left"] == 12


def test_everybodys_votes_are_for_leads_where_people_log_in(audit, tmp_path):
    bench = Workbench((audit,), reviews=tmp_path / "log", leads=("ann",))
    bench.check_lead(None)
    bench.check_lead(SimpleNamespace(username="ann"))
    with pytest.raises(ReviewError, match=r"who leads the review \(ann\)"):
        bench.check_lead(SimpleNamespace(username="bob"))


def test_a_vote_of_another_tab_is_told_and_can_be_overruled(desk, bench):
    one, two = Visitor(desk), Visitor(desk)
    pair_id = one.now["pair"]
    one.vote("a")
    events = list(bench.log().events())
    with pytest.raises(StaleVote) as told:
        two.vote("b", comment="typed")
    assert list(bench.log().events()) == events
    two.vote("b", comment="typed", seen=told.value.newest.id)
    assert len(bench.log().current(pair_id)) == 1
    assert two.now["own"]["comment"] == "typed"
    Visitor(desk, name="bob", query=f"?id={pair_id}").vote("a")  # of another annotator: both stand
    assert len(bench.log().current(pair_id)) == 2


def test_marks_lie_on_the_sentence_that_was_shown_and_come_back_to_it(desk, bench):
    folder = bench.open("eggs")
    for pair_id in folder.ids():
        visitor = Visitor(desk, query=f"?id={pair_id}")
        marks = [[0, 1, "good"], [1, 0, "bad"]]
        texts = [visitor.value["sides"][side]["sentences"][i]["text"] for side, i, _ in marks]
        visitor.vote("tie", marks=marks)
        pair, (vote,) = folder.pair(pair_id), bench.log().current(pair_id)
        for mark, text, (_, i, word) in zip(vote.marks, texts, marks, strict=True):
            response = (pair.a if mark["side"] == "chosen" else pair.b).text
            assert response[mark["start"] : mark["end"]].strip() == text == mark["text"].strip()
            assert (mark["sentence"], mark["mark"]) == (i, word)
        assert visitor.now["own"]["marks"] == marks
        for wrong in ([[2, 0, "good"]], [[0, 99, "good"]], [[0, 0, "fine"]], "all", [[0, -1, "bad"]]):
            with pytest.raises(ReviewError, match="on no sentence"):
                visitor.vote("a", marks=wrong)


def test_the_whole_queue_is_marked_once_confirmed_and_taken_back_at_once(desk, bench):
    ids = bench.open("eggs").ids([Filter("margin", "<", 0.0)])
    visitor = Visitor(desk, query=f"?{filters_to_query([Filter('margin', '<', 0.0)])}")
    visitor.vote("tie")
    with pytest.raises(ReviewError, match="confirm again"):
        visitor.ask("all", verdict="flip", count=len(ids) + 1)
    with pytest.raises(ReviewError, match="verdict"):
        visitor.ask("all", verdict="a", count=len(ids))
    visitor.ask("all", verdict="flip", count=len(ids), reason="all of them")
    assert {(vote.pair_id, vote.verdict, vote.reason) for vote in bench.log().current()} == {
        (pair_id, "flip", "all of them") for pair_id in ids
    }
    assert visitor.now["progress"]["left"] == 0
    said = visitor.ask("undo")["said"]
    assert f"{len(ids)} votes at once" in said
    assert [vote.verdict for vote in bench.log().current()] == ["tie"]


def test_who_votes_is_the_login_or_one_of_the_names(audit, tmp_path):
    bench = Workbench((audit,), reviews=tmp_path / "log", annotators=("ann", "bob"))
    desk = Desk(bench)
    nobody = desk.answer({"do": "open", "query": ""})
    assert nobody["desk"]["annotator"] == {"name": "", "fixed": False, "names": ["ann", "bob"]}
    assert "sides" not in nobody
    with pytest.raises(ReviewError, match="no annotator here"):
        desk.answer({"do": "open", "query": "", "annotator": "eve"})
    pair = desk.answer({"do": "open", "query": "", "annotator": "ann"})["desk"]["pair"]
    login = SimpleNamespace(username="carl")
    asked = {"do": "vote", "query": "", "annotator": "ann", "pair": pair, "choice": "tie", "seen": 0}
    with pytest.raises(ReviewError, match="drawn for 'ann', and carl is logged in now"):
        desk.answer(asked, login)
    assert bench.log().current() == []
    answer = desk.answer(asked | {"annotator": "carl"}, login)
    assert answer["desk"]["annotator"] == {"name": "carl", "fixed": True, "names": ["ann", "bob"]}
    assert [vote.annotator for vote in bench.log().current()] == ["carl"]
    refused = desk.refused("?audit=eggs&order=random", ReviewError("no annotator here"))
    assert (refused["message"], refused["desk"]["order"]) == ("no annotator here", "random")
    assert refused["desk"]["annotator"]["names"] == ["ann", "bob"]
    assert desk.refused("?order=best", ReviewError("what"))["desk"]["audit"] == "eggs"
    with pytest.raises(AuditError, match="no audit to review yet"):
        Desk(Workbench(reviews=tmp_path / "log")).answer(asked)
    locked = Desk(Workbench((audit,), reviews=tmp_path / "log", login_to_review=True))
    with pytest.raises(ReviewError, match="logged in"):
        locked.answer(asked)


def test_what_a_page_sends_is_checked_and_nothing_is_written(desk, bench):
    visitor = Visitor(desk)
    asked = {"query": "", "annotator": "ann", "pair": visitor.now["pair"], "seen": 0, "choice": "a"}
    for wrong in (
        {"do": "drop table"},
        {"do": "vote", "choice": "agree"},
        {"do": "vote", "seen": None},
        {"do": "vote", "pair": "none"},
        {"do": "vote", "pair": 3},
        {"do": "vote", "comment": "x" * 20_001},
        {"do": "vote", "annotator": "a\nb"},
        {"do": "all", "verdict": None, "count": 12},
    ):
        with pytest.raises(SentrmError):
            desk.answer({**asked, **wrong})
    assert list(bench.log().events()) == []


def test_a_locked_log_says_so_and_the_vote_is_not_answered(audit, tmp_path):
    ReviewLog.open(tmp_path / "log").close()
    desk = Desk(bench := Workbench((audit,), reviews=tmp_path / "log"))
    object.__setattr__(bench, "_held", {"log": ReviewLog.open(tmp_path / "log", timeout_s=0.05)})
    visitor = Visitor(desk)
    other = sqlite3.connect(tmp_path / "log", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ReviewError, match="another process"):
        visitor.vote("a")
    other.execute("ROLLBACK")
    other.close()
    assert visitor.vote("a")["said"].startswith("Saved")
    bench.log().close()


def test_markup_in_the_data_stays_text(desk, bench):
    (pair_id,) = [one for one in bench.open("eggs").ids() if EVIL in bench.open("eggs").texts(one).chosen]
    visitor = Visitor(desk, query=f"?id={pair_id}")
    assert visitor.now["prompt"] == [("", EVIL)]
    assert any(EVIL.split(" One")[0] in one["text"] for side in visitor.value["sides"] for one in side["sentences"])


def test_the_files_hold_what_was_decided(bench, desk, tmp_path):
    folder, log = bench.open("eggs"), bench.log()
    ids = folder.ids()
    for pair_id, verdict in zip(ids, ("flip", "both_bad", "flag", "tie", "agree"), strict=False):
        log.vote(pair_id, "ann", verdict)
    span = folder.pair(ids[0]).b.spans[1]
    mark = {"side": "rejected", "sentence": 1, "mark": "bad", "start": span.start, "end": span.end}
    log.vote(ids[0], "ann", "flip", marks=[mark])
    log.vote("of another audit", "bob", "flip", marks=[mark])
    files = Files()
    file, words = files.make("cleaned", log, folder, "eggs")
    assert "10 of 12 rows written, 1 flipped, 2 dropped" in words
    assert "no column that says tie" in words
    pairs = load_preferences(file).pairs
    assert (pairs[0].chosen, pairs[0].rejected) == (ROWS[0]["rejected"], ROWS[0]["chosen"])
    assert [pair.prompt for pair in pairs] == [row["prompt"] for i, row in enumerate(ROWS) if i not in (1, 2)]
    kept, _ = files.make("cleaned", log, folder, "eggs", Choices("csv", "keep", "keep", "keep", "keep"))
    assert [(one.chosen, one.rejected) for one in load_preferences(kept).pairs] == [
        (row["chosen"], row["rejected"]) for row in ROWS
    ]
    zipped, _ = files.make("cleaned", log, folder, "eggs", Choices("datasets"))
    assert zipped.suffix == ".zip"
    steps, _ = files.make("steps", log, folder, "eggs")
    (row,) = map(json.loads, steps.read_text().splitlines())
    assert row["completions"] == ["No 0. Never. "]
    assert row["labels"] == [False]
    page, _ = files.make("summary", log, folder, "eggs")
    assert re.search("<script", page.read_text()) is None
    assert "model" in page.read_text()
    assert f"<td>rows written</td><td>{len(load_preferences(file).pairs)}</td>" in page.read_text()
    data = Path(folder.about["data"]["source"])
    away = data.rename(data.with_name("away"))
    page, words = files.make("summary", log, folder, "eggs")
    assert "pairs.jsonl, the data that were scored, is not there any more" in words
    assert "rows written" not in page.read_text()
    data.write_bytes(away.read_bytes() + b"\n")
    with pytest.raises(ReviewError, match=r"has changed since\. Put what was scored beside"):
        files.make("cleaned", log, folder, "eggs")
    away.rename(data)
    with pytest.raises(ReviewError):
        Choices(format="pickle")

    events, words = files.make("events", log, folder, "eggs")
    assert len(list(read_events(events))) == 7
    with ReviewLog.open(tmp_path / "fresh") as fresh:
        assert carry_in(fresh, events) == "7 events imported."
        assert fresh.current() == log.current()
        assert carry_in(fresh, events) == "The log holds all of its events already."
        broken = tmp_path / "broken.jsonl"
        broken.write_text('{"uuid": 1}\n')
        with pytest.raises(ReviewError):
            carry_in(fresh, broken)
    mine = [event for event in read_events(events) if event["annotator"] == "ann"]
    own = tmp_path / "own.jsonl"
    own.write_text("".join(json.dumps(event) + "\n" for event in mine))
    with ReviewLog.open(tmp_path / "guarded") as guarded:
        with pytest.raises(ReviewError, match="events of 'bob'"):
            carry_in(guarded, events, "ann")
        assert guarded.current() == []
        assert carry_in(guarded, own, "ann") == f"{len(mine)} events imported."
    for _ in range(10):
        last, _ = files.make("events", log, folder, "eggs")
    assert last.exists()
    assert not file.exists()  # the newest few alone are kept


def test_what_is_to_be_looked_at_again_is_listed_with_its_votes_and_a_link(bench):
    folder, log = bench.open("eggs"), bench.log()
    even, flagged, decided, skipped, back, *_ = folder.ids()
    for pair_id, votes in {
        even: {"ann": "agree", "bob": "flip"},
        flagged: {"ann": "flag"},
        decided: {"ann": "flag", "bob": "agree", "cy": "agree"},
        skipped: {"ann": "skip"},
        back: {"ann": "skip", "bob": "tie"},
    }.items():
        for name, verdict in votes.items():
            log.vote(pair_id, name, verdict, comment=f"says {name}")
    said = unsettled_value(log, folder, "eggs & ham")
    assert said["found"].startswith("3 pairs to look at again")
    cells = [row["cells"] for row in said["table"]["rows"]]
    rows = {name["href"]: [line["text"] for line in votes["lines"]] for name, _, votes in cells}
    assert rows == {
        f"./review?audit=eggs+%26+ham&id={even}": ["ann agree: says ann", "bob flip: says bob"],
        f"./review?audit=eggs+%26+ham&id={flagged}": ["ann flag: says ann"],
        f"./review?audit=eggs+%26+ham&id={skipped}": ["ann skip: says ann"],
    }


def test_the_tables_count_votes_and_agreement(bench):
    folder, log = bench.open("eggs"), bench.log()
    assert agreement_value(log, folder)["rows"][0][1:] == ["raw agreement", "—", "", "0"]
    for k, pair_id in enumerate(folder.ids()):
        log.vote(pair_id, "ann", "agree")
        log.vote(pair_id, "bob", "agree" if k < 9 else "flip")
    log.vote("of another audit", "eve", "flip")
    assert votes_value(log, folder)["rows"] == [
        ["ann", "12", "0", "0", "0", "0", "0", "12"],
        ["bob", "9", "3", "0", "0", "0", "0", "12"],
    ]
    rows = {(who, what): cells for who, what, *cells in agreement_value(log, folder)["rows"]}
    assert rows["people", "raw agreement"][0] == "75%"
    margins = folder.column("margin")
    model_ann = sum(margins > 0)
    model_bob = sum((margins > 0) == [k < 9 for k in range(12)])
    share = (9 + model_ann + model_bob) / 36
    assert rows["people and the model", "raw agreement"][0] == f"{100 * share:.0f}%"
    assert set(rows) >= {("people", "Cohen's kappa"), ("people and the model", "Krippendorff's alpha")}
