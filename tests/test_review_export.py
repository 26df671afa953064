"""What is carried home, read back by the readers of preference data and by the log itself."""

from __future__ import annotations

import csv
import gzip
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow
import pyarrow.parquet
import pytest
from datasets import load_dataset

from sentrm.audit.folder import pair_id, texts_of
from sentrm.errors import PreferenceDataError, ReviewError, SentrmError
from sentrm.preferences import load_preferences
from sentrm.results import ModelInfo, ScoredPair, ScoredResponse, SegmenterInfo, Span
from sentrm.reviews.export import decide, export_cleaned, export_events, read_events
from sentrm.reviews.log import ReviewLog
from sentrm.reviews.page import review_summary_html
from sentrm.reviews.steps import sentence_labels


def ask(text):
    return [{"role": "user", "content": text}]


def answer(text):
    return [{"role": "assistant", "content": text}]


HH = "\n\nHuman: Is it {0}?\n\nAssistant: {1}"
# One row of each schema that `sentrm.preferences` reads, and the row that says the opposite.
SCHEMAS = {
    "TRL standard": (
        {"prompt": "Hi {0}", "chosen": "Good.", "rejected": "Bad.", "score_chosen": 9, "score_rejected": 4, "n": 1},
        {"prompt": "Hi {0}", "chosen": "Bad.", "rejected": "Good.", "score_chosen": 4, "score_rejected": 9, "n": 1},
    ),
    "with a margin": (
        {"prompt": "Hi {0}", "chosen": "Good.", "rejected": "Bad.", "margin": 1.5, "label": "chosen"},
        {"prompt": "Hi {0}", "chosen": "Bad.", "rejected": "Good.", "margin": -1.5, "label": "chosen"},
    ),
    "conversational": (
        {"prompt": ask("Hi {0}"), "chosen": answer("Good."), "rejected": answer("Bad.")},
        {"prompt": ask("Hi {0}"), "chosen": answer("Bad."), "rejected": answer("Good.")},
    ),
    "UltraFeedback": (
        {
            "prompt": "Hi {0}",
            "messages": ask("Hi {0}") + answer("Good."),
            "chosen": ask("Hi {0}") + answer("Good."),
            "rejected": ask("Hi {0}") + answer("Bad."),
            "chosen-model": "large",
            "rejected-model": "small",
        },
        {
            "prompt": "Hi {0}",
            "messages": ask("Hi {0}") + answer("Bad."),
            "chosen": ask("Hi {0}") + answer("Bad."),
            "rejected": ask("Hi {0}") + answer("Good."),
            "chosen-model": "small",
            "rejected-model": "large",
        },
    ),
    "implicit prompt": (
        {"chosen": "The sky {0} is blue.", "rejected": "The sky {0} is green."},
        {"chosen": "The sky {0} is green.", "rejected": "The sky {0} is blue."},
    ),
    "HH transcripts": (
        {"chosen": HH.format("{0}", "Yes."), "rejected": HH.format("{0}", "No.")},
        {"chosen": HH.format("{0}", "No."), "rejected": HH.format("{0}", "Yes.")},
    ),
    "arena, a wins": (
        {"prompt": "Hi {0}", "response_a": "Good.", "response_b": "Bad.", "winner": "model_a", "model_a": "x"},
        {"prompt": "Hi {0}", "response_a": "Good.", "response_b": "Bad.", "winner": "model_b", "model_a": "x"},
    ),
    "arena, B wins": (
        {"prompt": "Hi {0}", "response_a": "Good.", "response_b": "Bad.", "winner": "B"},
        {"prompt": "Hi {0}", "response_a": "Good.", "response_b": "Bad.", "winner": "A"},
    ),
    "two ranked": (
        {"prompt": "Hi {0}", "responses": ["Good.", "Bad."], "ranks": [1, 2]},
        {"prompt": "Hi {0}", "responses": ["Good.", "Bad."], "ranks": [2, 1]},
    ),
    "two scored": (
        {"prompt": "Hi {0}", "responses": ["Good.", "Bad."], "scores": [0.5, 0.25]},
        {"prompt": "Hi {0}", "responses": ["Good.", "Bad."], "scores": [0.25, 0.5]},
    ),
}


def numbered(row, i):
    """The row with its place written into the prompt, wherever that stands."""
    return json.loads(json.dumps(row).replace("{0}", f"number {i}"))


def write(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def ids(source, **how) -> list[str]:
    pairs = load_preferences(source, **how).pairs
    return [pair_id(pair.prompt, pair.chosen, pair.rejected, pair.probability) for pair in pairs]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_flip_says_the_opposite_in_the_same_schema(schema, tmp_path):
    row, opposite = SCHEMAS[schema]
    source = write(tmp_path / "data.jsonl", [numbered(row, i) for i in range(4)])
    p0, p1, p2, p3 = ids(source)
    decisions = {p0: "agree", p1: "flip", p2: "both_bad", p3: "unresolved"}
    done = export_cleaned(source, decisions, tmp_path / "out.jsonl")
    assert read(tmp_path / "out.jsonl") == [numbered(row, 0), numbered(opposite, 1), numbered(row, 3)]
    assert (done.rows, done.written, done.flipped, done.dropped, done.unresolved, done.left) == (4, 3, 1, 1, 1, ())
    before, after = load_preferences(source).pairs, load_preferences(tmp_path / "out.jsonl").pairs
    assert (after[1].chosen, after[1].rejected) == (before[1].rejected, before[1].chosen)
    assert after[1].prompt == before[1].prompt
    turned = ids(tmp_path / "out.jsonl")
    assert [*turned[::2], texts_of(turned[1])] == [p0, p3, texts_of(p1)]
    assert turned[1] != p1  # another label: the verdict that flipped it is not on it
    again = export_cleaned(tmp_path / "out.jsonl", decisions, tmp_path / "again.jsonl")
    assert (read(tmp_path / "again.jsonl"), again.flipped) == (read(tmp_path / "out.jsonl"), 0)
    # flipped back, the data are as they were
    export_cleaned(tmp_path / "out.jsonl", {turned[1]: "flip"}, tmp_path / "back.jsonl")
    assert read(tmp_path / "back.jsonl") == [numbered(row, i) for i in (0, 1, 3)]


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("format", ["parquet", "datasets"])
def test_other_formats_hold_the_same_rows(schema, format, tmp_path):
    rows = [numbered(SCHEMAS[schema][0], i) for i in range(3)]
    source = tmp_path / "data.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), source)
    decisions = {ids(source)[1]: "flip"}
    export_cleaned(source, decisions, tmp_path / "out.jsonl")
    out = tmp_path / ("out.parquet" if format == "parquet" else "out")
    export_cleaned(source, decisions, out, format=format)
    if format == "parquet":
        assert pyarrow.parquet.read_schema(out) == pyarrow.parquet.read_schema(source)
        assert pyarrow.parquet.read_table(out).to_pylist() == read(tmp_path / "out.jsonl")
    else:
        assert list(load_dataset(str(out), split="train")) == read(tmp_path / "out.jsonl")
        # such a folder is a source too, and its flip is undone by another
        export_cleaned(out, {ids(out)[1]: "flip"}, tmp_path / "back.jsonl")
        assert read(tmp_path / "back.jsonl") == rows


def test_csv_keeps_the_rows_and_no_formula(tmp_path):
    source = tmp_path / "data.csv"
    rows = [["Hi", "Good, yes.\r\nOr no?", "Bad", "-1.5"], ["=1+1", "@SUM(A1)", "Worse", "2"]]
    with source.open("w", newline="") as file:
        csv.writer(file).writerows([["prompt", "chosen", "rejected", "margin"], *rows])
    done = export_cleaned(source, {ids(source)[0]: "flip"}, tmp_path / "out.csv", format="csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        written = list(csv.reader(file))
    assert written[1:] == [["Hi", "Bad", "Good, yes.\r\nOr no?", "1.5"], ["'=1+1", "'@SUM(A1)", "Worse", "2"]]
    assert done.neutralised == 2
    first, _ = load_preferences(tmp_path / "out.csv").pairs
    assert (first.chosen, first.margin) == ("Bad", 1.5)
    assert ids(tmp_path / "out.csv")[1] == ids(source)[1]  # a verdict outlasts the apostrophe


def test_what_a_format_cannot_hold_is_told_and_leaves_nothing(tmp_path):
    source = write(tmp_path / "data.jsonl", [numbered(SCHEMAS["conversational"][0], 0)])
    with pytest.raises(ReviewError, match="'prompt' holds a list"):
        export_cleaned(source, {}, tmp_path / "out.csv", format="csv")
    mixed = write(tmp_path / "mixed.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c", "x": x} for x in (1, "y")])
    with pytest.raises(ReviewError, match="parquet cannot hold"):
        export_cleaned(mixed, {}, tmp_path / "out.parquet", format="parquet")
    assert {file.name for file in tmp_path.iterdir()} == {"data.jsonl", "mixed.jsonl"}


def test_ties_are_marked_where_the_schema_can_say_so(tmp_path):
    plain = {"prompt": "Hi {0}", "chosen": "Good.", "rejected": "Bad."}
    arena = SCHEMAS["arena, a wins"][0]
    ranked = SCHEMAS["two ranked"][0]
    cases = [
        (plain, None),
        (plain | {"tie": False}, {"tie": True}),
        (plain | {"probability": 0.9, "tie": "false"}, {"probability": 0.5, "tie": "true"}),
        (plain | {"label": "chosen"}, {"label": "tie"}),
        (plain | {"label": 3}, None),
        (arena, {"winner": "tie"}),
        (ranked, {"ranks": [1, 1]}),
    ]
    for row, change in cases:
        row = numbered(row, 0)
        source = write(tmp_path / "data.jsonl", [row])
        decisions = {ids(source)[0]: "tie"}
        done = export_cleaned(source, decisions, tmp_path / "out.jsonl")
        assert read(tmp_path / "out.jsonl") == [row | (change or {})]
        assert (done.tied, len(done.left)) == ((1, 0) if change else (0, 1))
        assert load_preferences(tmp_path / "out.jsonl").pairs[0].probability == (0.5 if change else 1.0)
        export_cleaned(source, decisions, tmp_path / "out.jsonl", ties="keep")
        assert read(tmp_path / "out.jsonl") == [row]
        assert export_cleaned(source, decisions, tmp_path / "out.jsonl", ties="drop").dropped == 1
        assert read(tmp_path / "out.jsonl") == []


ARENA = {"prompt": "q", "response_a": "answer 1", "response_b": "answer 2", "winner": "chosen"}
RANKED = {"prompt": "q", "responses": "texts", "ranks": "chosen"}


@pytest.mark.parametrize(
    ("columns", "row", "verdict", "change"),
    [
        (
            {"prompt": "q", "chosen": "Better", "rejected": "Worse"},
            {"Better": "x", "Worse": "y", "Better_model": "m", "Worse_model": "n", "score Better": 2, "score Worse": 1},
            "flip",
            {"Better": "y", "Worse": "x", "Better_model": "n", "Worse_model": "m"}
            | {"score Better": 1, "score Worse": 2},
        ),
        (ARENA, {"answer 1": "x", "answer 2": "y", "chosen": "answer 1"}, "flip", {"chosen": "answer 2"}),
        (ARENA, {"answer 1": "x", "answer 2": "y", "chosen": "B"}, "flip", {"chosen": "A"}),
        (ARENA, {"answer 1": "x", "answer 2": "y", "chosen": "b"}, "tie", {"chosen": "tie"}),
        (ARENA, {"answer 1": "x", "answer 2": "y", "chosen": "tie"}, "flip", {"chosen": "model_b"}),
        (RANKED, {"texts": ["x", "y"], "chosen": [2, 1]}, "flip", {"chosen": [1, 2]}),
        (RANKED, {"texts": ["x", "y"], "chosen": [2, 1]}, "tie", {"chosen": [2, 2]}),
    ],
)
def test_columns_of_other_names_are_written_as_they_are_read(columns, row, verdict, change, tmp_path):
    row = {"q": "Hi", "rejected": "of no side", **row}
    source = write(tmp_path / "data.jsonl", [row])
    (id,) = ids(source, columns=columns)
    export_cleaned(source, {id: verdict}, tmp_path / "out.jsonl", columns=columns)
    assert read(tmp_path / "out.jsonl") == [row | change]
    (before,), (after,) = (load_preferences(file, columns=columns).pairs for file in (source, tmp_path / "out.jsonl"))
    assert after.probability == (0.5 if verdict == "tie" else 1)
    assert verdict == "tie" or (after.chosen, after.rejected) == (before.rejected, before.chosen)


def test_what_a_schema_cannot_say_is_left_and_reported(tmp_path):
    three = {"prompt": "Hi", "responses": ["a", "b", "c"], "ranks": [1, 2, 3]}
    tie = {"prompt": "Hi", "responses": ["x", "y"], "scores": [4, 4]}
    rows = [three, tie, {"prompt": "Hi", "responses": ["a"], "ranks": [1]}]
    source = write(tmp_path / "data.jsonl", rows)
    first, *_, last = ids(source)
    done = export_cleaned(source, {first: "flip", last: "flip"}, tmp_path / "out.jsonl")
    assert read(tmp_path / "out.jsonl") == rows
    assert [one.row for one in done.left] == [1, 2, 3]
    assert "ranks" in done.left[0].reason
    assert "has scores" in done.left[1].reason
    assert done.flipped == 0
    # all pairs of a ranked row dropped: the row goes
    done = export_cleaned(source, dict.fromkeys(ids(source)[:3], "flag"), tmp_path / "out.jsonl")
    assert read(tmp_path / "out.jsonl") == rows[1:]


def test_rows_that_cannot_be_read_are_reported(tmp_path):
    good, odd = {"prompt": "Hi", "chosen": "a", "rejected": "b"}, {"prompt": "Hi", "chosen": "a", "rejected": None}
    source = write(tmp_path / "data.jsonl", [good, odd])
    source.write_text(source.read_text() + "{broken\n" + json.dumps(good | {"prompt": "Ho"}))
    done = export_cleaned(source, {pair_id("Ho", "a", "b"): "flag"}, tmp_path / "out.jsonl")
    assert read(tmp_path / "out.jsonl") == [good, odd]  # a broken line has no columns to be written in
    assert ([one.row for one in done.left], done.rows, done.written, done.dropped) == ([2, 3], 4, 2, 1)


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet", "datasets"])
def test_a_pair_alone_may_be_dropped(format, tmp_path):
    source = write(tmp_path / "data.jsonl", [{"prompt": "Hi", "chosen": "a", "rejected": "b"}])
    done = export_cleaned(source, {ids(source)[0]: "both_bad"}, tmp_path / "out", format=format)
    assert (done.written, done.dropped) == (0, 1)
    assert (tmp_path / "out").exists()


def test_a_label_is_written_in_the_type_that_its_column_has(tmp_path):
    """Also where another column says it, or the cell is empty."""
    plain = {"prompt": "Hi", "chosen": "Good.", "rejected": "Bad."}
    cases = [
        (plain | {"tie": 0}, "tie", {"tie": 1}),
        (plain | {"tie": 1}, "agree", {"tie": 0}),
        (plain | {"probability": 1}, "tie", None),
        (plain | {"probability": None, "label": "chosen"}, "tie", {"label": "tie"}),
    ]
    for row, verdict, change in cases:
        source = tmp_path / "data.parquet"
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), source)
        done = export_cleaned(source, {ids(source)[0]: verdict}, tmp_path / "out.parquet", format="parquet")
        assert pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist() == [row | (change or {})]
        assert len(done.left) == (change is None)
        if change is None:
            assert "a tie is a half" in done.left[0].reason


def test_a_ranked_row_is_left_and_told_where_a_pair_of_it_is_decided(tmp_path):
    cases = [([1, 1, 2], {(1, 3): "agree"}, 0), ([1, 1, 2], {(1, 3): "tie"}, 1), ([1, 2, 2], {(2, 3): "agree"}, 1)]
    cases += [([1, 2, 2], {(2, 3): "tie"}, 0), ([1, 2, 2], {(1, 2): "flip"}, 1)]
    for ranks, said, left in cases:
        source = write(tmp_path / "data.jsonl", [{"prompt": "Hi", "responses": ["a", "b", "c"], "ranks": ranks}])
        named = dict(zip(((1, 2), (1, 3), (2, 3)), ids(source), strict=True))
        done = export_cleaned(source, {named[pair]: verdict for pair, verdict in said.items()}, tmp_path / "out.jsonl")
        assert (len(done.left), read(tmp_path / "out.jsonl")) == (left, read(source))


def test_a_label_between_equal_responses_cannot_be_turned(tmp_path):
    source = write(tmp_path / "data.jsonl", [{"prompt": "Hi", "chosen": "A", "rejected": "A", "score_chosen": 2}])
    done = export_cleaned(source, {ids(source)[0]: "flip"}, tmp_path / "out.jsonl")
    assert (done.flipped, read(tmp_path / "out.jsonl")) == (0, read(source))
    assert "same response twice" in done.left[0].reason


def test_token_ids_are_refused_as_what_they_are(tmp_path):
    row = {f"{side}_{name}": [1, 2, 3] for side in ("chosen", "rejected") for name in ("ids", "boundaries")}
    source = write(tmp_path / "data.jsonl", [row | {"chosen_boundaries": [0, 2], "rejected_boundaries": [0, 2]}])
    assert load_preferences(source).pairs[0].tokens
    with pytest.raises(ReviewError, match="holds token ids"):
        export_cleaned(source, {"0" * 17: "flip"}, tmp_path / "out.jsonl")


def test_a_transcript_outlasts_a_csv(tmp_path):
    """It begins with a line feed, which a spreadsheet must not see first."""
    row = {f"{side}": f"\n\nHuman: Hi\n\nAssistant: {side}" for side in ("chosen", "rejected")}
    source = write(tmp_path / "data.jsonl", [row])
    export_cleaned(source, {}, tmp_path / "out.csv", format="csv")
    assert "'\n\nHuman" in (tmp_path / "out.csv").read_text()
    (before,), (after,) = load_preferences(source).pairs, load_preferences(tmp_path / "out.csv").pairs
    assert (before.prompt, before.chosen, before.rejected) == (after.prompt, after.chosen, after.rejected)
    assert ids(source) == ids(tmp_path / "out.csv")


def test_one_side_of_a_tie_is_written_as_the_better_one_where_the_schema_can_say_so(tmp_path):
    plain = {"prompt": "Hi", "chosen": "Good.", "rejected": "Bad."}
    arena = {"prompt": "Hi", "response_a": "x", "response_b": "y", "winner": "tie (bothbad)"}
    ranked = {"prompt": "Hi", "responses": ["x", "y"], "ranks": [1, 1]}
    for row in (plain | {"tie": True}, plain | {"probability": "0.5"}, plain | {"label": "tie"}, arena, ranked):
        source = write(tmp_path / "data.jsonl", [row])
        (tie,) = load_preferences(source).pairs
        for verdict, better in (("agree", tie.chosen), ("flip", tie.rejected)):
            decisions = {ids(source)[0]: verdict}
            assert export_cleaned(source, decisions, tmp_path / "out.jsonl").flipped == 1
            (pair,) = load_preferences(tmp_path / "out.jsonl").pairs
            assert (pair.probability, pair.chosen) == (1.0, better)
            export_cleaned(source, decisions, tmp_path / "out.jsonl", flip=False)
            assert read(tmp_path / "out.jsonl") == [row]
        assert export_cleaned(source, {ids(source)[0]: "tie"}, tmp_path / "out.jsonl").tied == 0
        assert read(tmp_path / "out.jsonl") == [row]


@pytest.mark.parametrize("label", [{"probability": 0.1}, {"probability": "0.0"}, {"label": "rejected"}])
def test_a_label_that_prefers_the_rejected_response_is_turned_too(label, tmp_path):
    row = {"prompt": "Hi", "chosen": "Bad.", "rejected": "Good."} | label
    source = write(tmp_path / "data.jsonl", [row])
    assert ids(source) == [pair_id("Hi", "Good.", "Bad.")]
    export_cleaned(source, {ids(source)[0]: "flip"}, tmp_path / "out.jsonl")
    assert read(tmp_path / "out.jsonl") == [row | {"chosen": "Good.", "rejected": "Bad."}]
    assert ids(tmp_path / "out.jsonl") == [pair_id("Hi", "Bad.", "Good.")]


def test_copies_of_a_pair_share_a_verdict_and_a_contradiction_has_its_own(tmp_path):
    row = {"prompt": "Hi", "chosen": "Good.", "rejected": "Bad."}
    contrary = {"prompt": "Hi", "chosen": "Bad.", "rejected": "Good."}
    source = write(tmp_path / "data.jsonl", [row, row, contrary])
    one, _, other = ids(source)
    decisions = decide([(f"{one}-2", "ann", "agree"), (f"{other}-3", "ann", "both_bad")])
    for data, out in ((source, tmp_path / "out.jsonl"), (tmp_path / "out.jsonl", tmp_path / "again.jsonl")):
        export_cleaned(data, decisions, out)
        assert read(out) == [row, row]
    assert decide([(one, "ann", "both_bad"), (f"{one}-2", "ann", "agree")]) == {one: "unresolved"}


def test_columns_of_another_name_and_packed_files(tmp_path):
    source = tmp_path / "data.jsonl.gz"
    row = {"question": "Hi", "better": "Good.", "worse": "Bad."}
    source.write_bytes(gzip.compress(json.dumps(row).encode()))
    columns = {"prompt": "question", "chosen": "better", "rejected": "worse"}
    id = pair_id("Hi", "Good.", "Bad.")
    export_cleaned(source, {id: "flip"}, tmp_path / "out.jsonl", columns=columns)
    assert read(tmp_path / "out.jsonl") == [{"question": "Hi", "better": "Bad.", "worse": "Good."}]


def test_nothing_is_written_over_the_data_or_for_other_data(tmp_path):
    source = write(tmp_path / "data.jsonl", [{"prompt": "Hi", "chosen": "a", "rejected": "b"}])
    before = source.read_bytes()
    with pytest.raises(ReviewError, match="another name"):
        export_cleaned(source, {}, tmp_path / "." / "data.jsonl")
    with pytest.raises(ReviewError, match="none of the 1 decided pairs"):
        export_cleaned(source, {"0" * 16: "flip"}, tmp_path / "out.jsonl")
    with pytest.raises(ReviewError, match="got format 'xls'"):
        export_cleaned(source, {}, tmp_path / "out.xls", format="xls")
    with pytest.raises(PreferenceDataError):
        export_cleaned(tmp_path / "none.jsonl", {}, tmp_path / "out.jsonl")
    with pytest.raises(SentrmError, match="cannot write"):
        export_cleaned(source, {}, tmp_path / "no" / "out.jsonl")
    assert {file.name for file in tmp_path.iterdir()} == {"data.jsonl"}
    assert source.read_bytes() == before
    id = ids(source)[0]
    done = export_cleaned(source, {id: "flip", "0" * 16: "flip"}, tmp_path / "out.jsonl", flip=False)
    assert (read(tmp_path / "out.jsonl"), done.flipped, done.unknown) == (read(source), 0, 1)


def test_the_majority_decides():
    votes = [("p", "a", "flip"), ("p", "b", "agree"), ("p", "c", "flip"), ("q", "a", "flip"), ("q", "b", "tie")]
    votes += [("r", "a", "skip"), ("s", "a", "skip"), ("s", "b", "flag")]
    assert decide(votes) == {"p": "flip", "q": "unresolved", "s": "flag"}
    copies = [("p", "ann", "flip"), ("p-2", "ann", "flip"), ("p-3", "ann", "flip")]
    assert decide([*copies, ("p", "ben", "agree"), ("p", "eve", "agree")]) == {"p": "agree"}  # two of three people


def test_the_event_log_comes_back_as_it_was(tmp_path):
    with ReviewLog.open(tmp_path / "a") as log:
        log.vote("p1", "Zoë", "flip", comment="half \ud800, line\u2028end", marks=[MARKS[0]], blind=True)
        log.vote_all([f"p{i}" for i in range(50)], "bob", "agree", reason="a filter's result")
        log.undo("bob")
        assert export_events(log, tmp_path / "a.jsonl") == 3
        with ReviewLog.open(tmp_path / "b") as other:
            assert other.import_events(read_events(tmp_path / "a.jsonl")) == 3
            assert other.import_events(read_events(tmp_path / "a.jsonl")) == 0
            assert other.current() == log.current()
            export_events(other, tmp_path / "b.jsonl")
            assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
            assert other.redo("bob") == log.redo("bob")
    (tmp_path / "bad.jsonl").write_text('{"kind": "vote"}\n{"kind":\n')
    with ReviewLog.open(tmp_path / "c") as log:
        with pytest.raises(ReviewError, match=r"event 1 .*lacks 'uuid'"):
            log.import_events(read_events(tmp_path / "bad.jsonl"))
        (tmp_path / "bad.jsonl").write_text("[" * 100_000)
        with pytest.raises(ReviewError, match="line 1"):
            log.import_events(read_events(tmp_path / "bad.jsonl"))
        with pytest.raises(ReviewError, match="cannot read"):
            log.import_events(read_events(tmp_path / "none.jsonl"))


TEXT = "Boil it. Peel it hot. Eat it."  # sentences [0, 9), [9, 22), [22, 29)
SPANS = (Span(0, 9), Span(9, 22), Span(22, 29))
MARKS = [
    {"side": side, "sentence": i, "mark": mark, "start": SPANS[i].start, "end": SPANS[i].end}
    for side, i, mark in (("chosen", 1, "bad"), ("chosen", 2, "good"), ("rejected", 0, "good"))
]


@pytest.fixture
def folder():
    """Stands for an audit folder of one pair: what matters here is the scored pair it returns."""
    numbers = (0.0,) * 4
    prompt = ({"role": "user", "content": "How do I boil an egg?"},)
    response = ScoredResponse(
        *(prompt, TEXT, SPANS, (1, 1, 1), numbers, numbers, numbers, numbers, 0.0, 0, 0),
        *(ModelInfo("m", "1", "last", None), SegmenterInfo("rules:en", "1", True)),
    )
    return SimpleNamespace(pair=lambda pair_id: ScoredPair(pair_id, response, response))


def test_marks_become_steps(tmp_path, folder):
    with ReviewLog.open(tmp_path / "log") as log:
        log.vote("p1", "ann", "flip", marks=MARKS)
        steps = sentence_labels(log, folder)
        prompt = "How do I boil an egg?"
        assert steps.rows == [
            {"prompt": prompt, "completions": ["Boil it. Peel it hot. ", "Eat it."], "labels": [False, True]},
            {"prompt": prompt, "completions": ["Boil it. "], "labels": [True]},
        ]
        whole = sentence_labels(log, folder, unmarked=True).rows[0]
        assert "".join(whole["completions"]) == TEXT
        assert whole["labels"] == [True, False, True]
        # another annotator disagrees about one sentence, and the segmenter of another page cut elsewhere
        log.vote("p1", "bob", "flip", marks=[MARKS[1] | {"mark": "bad"}, MARKS[0] | {"end": 30}])
        steps = sentence_labels(log, folder)
        assert steps.rows[0]["labels"] == [False]
        assert steps.left_out == 1


def test_the_steps_of_a_conversation_begin_at_its_response(tmp_path, folder):
    one = folder.pair("p1")
    talk = ({"role": "user", "content": "Eggs?"}, {"role": "assistant", "content": "Yes."}, *one.a.prompt)
    longer = SimpleNamespace(pair=lambda _: replace(one, a=replace(one.a, prompt=talk), b=replace(one.b, prompt=talk)))
    with ReviewLog.open(tmp_path / "log") as log:
        log.vote("p1", "ann", "flip", marks=MARKS[:1])
        (row,) = sentence_labels(log, longer).rows
    assert row["prompt"] == "user: Eggs?\n\nassistant: Yes.\n\nuser: How do I boil an egg?\n\nassistant: "


def test_the_page_tells_it_all_and_runs_nothing(tmp_path):
    with ReviewLog.open(tmp_path / "log") as log:
        assert "No pair has been rated twice" in review_summary_html(log)
        for i in range(20):
            log.vote(f"p{i}", "<script>alert(1)</script>", "agree")
            log.vote(f"p{i}", "bob ${x}", "flip" if i < 5 else "agree")
        source = write(tmp_path / "data.jsonl", [{"prompt": "Hi", "chosen": "a", "rejected": "b"}, {"prompt": 3}])
        done = export_cleaned(source, {}, tmp_path / "out.jsonl")
        page = review_summary_html(log, title="<b>", margins={"p0": 1.0}, exported=done)
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert re.search(r"Raw agreement</td><td>75%</td><td>\d+% to \d+%", page)
    assert "Row 2" in page
    assert "default-src 'none'" in page
    assert "http" not in page.replace("http-equiv", "")
