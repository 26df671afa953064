"""A scored dataset, opened: what it says equals the scorer and plain Python over the same pairs."""

from __future__ import annotations

import csv
import json
import math
import random
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet
import pytest

from sentrm.audit.filters import Filter, filters_from_query, filters_to_query
from sentrm.audit.folder import AuditFolder, is_tie, pair_id, texts_of
from sentrm.audit.run import score_dataset
from sentrm.errors import AuditError
from sentrm.preferences import PreferencePair, load_preferences
from sentrm.results import ScoredPair

EGGS, GOOD, BAD = "How do I boil an egg?", "Boil it for nine minutes. Peel it.", "What a silly question! No."
ROWS = [
    {"prompt": EGGS, "chosen": GOOD, "rejected": BAD, "id": "egg", "source": "kitchen", "topic": "Eggs", "year": 2020},
    {"prompt": EGGS, "chosen": BAD, "rejected": GOOD, "id": "flipped", "topic": "eggs <b>", "human": True, "year": 9.5},
    {"prompt": EGGS, "chosen": GOOD, "rejected": BAD, "id": "egg", "subset": "again", "lang": "en", "a/b~c": "x"},
    {"prompt": EGGS, "chosen": GOOD},
    {"prompt": EGGS, "chosen": "x" * 3000, "rejected": BAD, "id": "long"},
    {"prompt": "Hi", "chosen": "Hello.", "rejected": "No.", "tie": True, "human": False, "language": "de"},
    {
        side: [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 2, texts, strict=True)]
        for side, texts in (("chosen", "abcd"), ("rejected", "abcé"))
    },
    {
        "prompt": "Human: Is it \"true\"?\n\nAssistant: Yes.\n\nHuman: Why?\n\nAssistant:",
        "chosen": " Because. It is so.",
        "rejected": " No idea.\r\n\r\n```\ncode\n```\n👩‍👩‍👧 كيف حالك؟",
    },
    {"prompt": "Rank", "responses": ["One. Two.", "Three.", "Four."], "ranks": [1, 2, 2], "id": "ranked"},
    {"prompt": "half \ud83d", "chosen": "of \ud83d a\x00b.", "rejected": "it's ${x} '); DROP", "label": "rejected"},
    {"prompt": "Nothing", "chosen": "", "rejected": "Something. " * 40, "year": -3},
    {"prompt": "A long one. " * 60, "chosen": "Short. " * 90, "rejected": "Long.", "year": 10**30, "topic": "z" * 300},
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    file.write_text("\n".join(["not JSON", *map(json.dumps, ROWS)]))
    return file


@pytest.fixture(scope="module")
def path(data, scorer, tmp_path_factory) -> Path:
    return score_dataset(data, scorer, tmp_path_factory.mktemp("audits") / "it's [1]* x=1", rows_per_shard=5)


@pytest.fixture(scope="module")
def folder(path):
    opened = AuditFolder.open(path)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def pairs(data) -> list[PreferencePair]:
    """What was scored, in the data's order."""
    read = [pair for pair in load_preferences(data).pairs if pair.id != "long"]
    fields = ("prompt", "chosen", "rejected")
    for pair in read:
        for field in fields:
            if isinstance(text := getattr(pair, field), str):
                object.__setattr__(pair, field, text.replace("\ud83d", "\ufffd"))
    return read


@pytest.fixture(scope="module")
def scored(scorer, pairs) -> list[ScoredPair]:
    return scorer.score(pairs)


def test_every_pair_is_the_scorers(folder, scorer, pairs, scored):
    ids = folder.ids()
    assert len(ids) == len(set(ids)) == len(pairs) == 12
    for one, pair, expected in zip(ids, pairs, scored, strict=True):
        got = folder.pair(one)
        assert got == ScoredPair.from_dict(got.to_dict())
        assert _rounded(got.to_dict()) == _rounded(expected.to_dict())  # batched with others: equal but for rounding
        assert folder.texts(one) == PreferencePair(
            pair.prompt, pair.chosen, pair.rejected, pair.id, source=pair.source, probability=pair.probability
        )


def test_a_pair_is_the_scorers_to_the_last_bit(data, scorer, pairs, scored, tmp_path):
    """In one shard, where the scorer's batches are the same."""
    folder = AuditFolder.open(score_dataset(data, scorer, tmp_path / "one"))
    assert [folder.pair(one).to_dict() for one in folder.ids()] == [pair.to_dict() for pair in scored]
    folder.close()


def _rounded(value):
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return pytest.approx(value, abs=1e-5) if isinstance(value, float) else value


def test_the_columns_are_what_plain_python_says(folder, pairs, scored):
    rows = folder.page(size=100)
    places = [(2, 0), (3, 0), (4, 0), (7, 0), (8, 0), (9, 0), (10, 0), (10, 1), (10, 2), (11, 0), (12, 0), (13, 0)]
    assert [(row["row"], row["number"]) for row in rows] == places
    assert [row["shard"] for row in rows] == [(row["row"] - 1) // 5 for row in rows]
    for row, pair, result in zip(rows, pairs, scored, strict=True):
        assert (row["id"], row["source"], row["label_probability"]) == (pair.id, pair.source, pair.probability)
        assert row["margin"] == pytest.approx(result.margin, abs=1e-5)
        assert row["probability"] == pytest.approx(1 / (1 + math.exp(-row["margin"])))
        assert row["margin"] == row["chosen_score"] - row["rejected_score"]
        signs = {1.0: row["margin"] > 0, 0.0: row["margin"] < 0, 0.5: None}
        assert row["agrees"] is signs[pair.probability]
        assert (row["chosen_length"], row["rejected_length"]) == (len(pair.chosen), len(pair.rejected))
        assert row["length_difference"] == len(pair.chosen) - len(pair.rejected)
        assert row["sentences"] == len(result.a.spans) + len(result.b.spans)
        dropped = [one.dropped_sentences + one.cut_prompt_tokens for one in (result.a, result.b)]
        assert row["truncated"] is (sum(dropped) > 0)
        turns = 1 if isinstance(pair.prompt, str) else [one["role"] for one in pair.prompt].count("user")
        assert row["turns"] == turns
    assert {row["truncated"] for row in rows} == {True, False}
    assert [row["turns"] for row in rows if row["turns"] > 1] == [2, 2]
    assert [row["language"] for row in rows][2:4] == ["en", "de"]
    same_prompt = {row["prompt_id"] for row in rows[:3]}
    assert len(same_prompt) == 1
    assert len({row["prompt_id"] for row in rows}) == 8


def test_metadata_become_columns_of_their_kind(folder):
    kinds = {name: kind for name, kind in folder.columns.items() if name.startswith("meta_")}
    assert kinds == {
        "meta_topic": "text", "meta_year": "number", "meta_human": "flag", "meta_subset": "text", "meta_lang": "text",
        "meta_language": "text", "meta_a/b~c": "text", "meta_label": "text",
    }  # fmt: skip
    table = folder.table(list(kinds))
    assert list(table["meta_topic"][:3]) == ["Eggs", "eggs <b>", None]
    assert table["meta_year"].tolist()[:2] == [2020, 9.5]
    assert table["meta_year"][-1] == 1e30
    assert np.isnan(table["meta_year"][2])
    assert table["meta_human"].tolist()[1] == 1
    assert np.isnan(table["meta_human"][0])
    assert table["meta_a/b~c"][2] == "x"
    assert table["meta_topic"][-1] is None


def test_text_that_reads_as_a_number_or_a_flag_is_one(scorer, tmp_path):
    """As in CSV, where all is text."""
    columns = {
        "length": ["3", "-0.5", "1e3"], "short": [".5", "5.", "+0"], "human": ["true", "False", "TRUE"],
        "zip": ["01234", "7", "8"], "infinite": ["inf", "nan", "1"], "far": ["1e400", "1", "2"],
        "number": ["12345678901234567", "1", "2"], "mixed": ["1", "true", "2"], "dash": ["-", "1", "2"],
        "some": ["4", "", "6"], "yes": ["true", "yes", "no"], "list": ["1", "2", "1,5"], "e": ["1", "e5", ""],
    }  # fmt: skip
    texts = {"prompt": ["a?", "b?", "c?"], "chosen": ["x"] * 3, "rejected": ["y"] * 3}
    file = tmp_path / "pairs.csv"
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*texts, *columns])
        writer.writerows(zip(*texts.values(), *columns.values(), strict=True))
    folder = AuditFolder.open(score_dataset(file, scorer, tmp_path / "csv"))
    kinds = {name.removeprefix("meta_"): kind for name, kind in folder.columns.items() if name.startswith("meta_")}
    assert [name for name in columns if kinds[name] == "number"] == ["length", "short", "some"]
    assert [name for name in columns if kinds[name] == "flag"] == ["human"]
    assert folder.column("meta_length").tolist() == [3, -0.5, 1000]
    assert folder.column("meta_human").tolist() == [True, False, True]
    assert folder.column("meta_zip").tolist() == ["01234", "7", "8"]
    assert np.isnan(folder.column("meta_some")).tolist() == [False, True, False]
    assert folder.count([Filter("meta_length", "<", 4)]) == 2
    folder.close()

    (tmp_path / "mixed.jsonl").write_text(
        "".join(json.dumps({"prompt": "a?", "chosen": "x", "rejected": "y", "n": n}) + "\n" for n in (1, "2", 3))
    )
    folder = AuditFolder.open(score_dataset(tmp_path / "mixed.jsonl", scorer, tmp_path / "mixed"))
    assert folder.column("meta_n").tolist() == ["1", "2", "3"]  # the data tell number and text apart
    folder.close()


def test_ids_name_texts_and_label_not_rows(folder, pairs):
    ids = folder.ids()
    first, other = pair_id(EGGS, GOOD, BAD), pair_id(EGGS, BAD, GOOD)
    assert ids[:3] == [first, f"{other}-2", f"{first}-3"]
    assert texts_of(first) == texts_of(other) != texts_of(pair_id(EGGS + " ", GOOD, BAD))
    assert len(first) == 17
    assert {pair_id(f"{i}?", "a", "b")[16] for i in range(40)} == set("abcd")  # the letter alone tells no label
    assert int(texts_of(first), 16)
    named = [pair_id(pair.prompt, pair.chosen, pair.rejected, pair.probability) for pair in pairs]
    assert [one.split("-")[0] for one in ids] == named
    ties = [pair_id(EGGS, *texts, 0.5) for texts in ((GOOD, BAD), (BAD, GOOD))]
    assert [is_tie(one) for one in (first, other, *ties)] == [False, False, True, True]
    assert len({first, other, *ties}) == 4
    assert pair_id(EGGS, GOOD, BAD, 0.4) == other
    assert pair_id("half \ud83d", "x", "\ud83d") == pair_id("half \ufffd", "x", "\ufffd")
    message = {"role": "user", "content": "Hi"}
    assert pair_id((message,), "x", "y") == pair_id([dict(reversed(message.items()))], "x", "y")  # type: ignore[arg-type]


def test_what_was_left_out_has_a_reason(folder):
    problems = folder.problems()
    assert [problem.row for problem in problems] == [1, 5, 6]
    assert "not a line of JSON" in problems[0].reason
    assert "no 'rejected'" in problems[1].reason
    assert "chosen of pair long" in problems[2].reason


FILTERS = {
    Filter("margin", "<", 0): lambda row: row["margin"] < 0,
    Filter("margin", "<=", 0.0): lambda row: row["margin"] <= 0,
    Filter("turns", ">", 1): lambda row: row["turns"] > 1,
    Filter("turns", ">=", 2): lambda row: row["turns"] >= 2,
    Filter("row", "between", (4, 10)): lambda row: 4 <= row["row"] <= 10,
    Filter("id", "=", "egg"): lambda row: row["id"] == "egg",
    Filter("meta_year", "!=", 2020): lambda row: row["meta_year"] != 2020,
    Filter("meta_human", "=", True): lambda row: row["meta_human"] is True,
    Filter("agrees", "missing", True): lambda row: row["agrees"] is None,
    Filter("agrees", "!=", True): lambda row: row["agrees"] is not True,
    Filter("language", "missing", False): lambda row: row["language"] != "",
    Filter("meta_topic", "missing", True): lambda row: not row["meta_topic"],
    Filter("meta_topic", "contains", "EGGS"): lambda row: "eggs" in (row["meta_topic"] or "").lower(),
    Filter("meta_topic", "contains", "%"): lambda row: "%" in (row["meta_topic"] or ""),
    Filter("source", "in", ("kitchen", "again")): lambda row: row["source"] in ("kitchen", "again"),
    Filter("meta_year", "in", (9.5, 2020)): lambda row: row["meta_year"] in (9.5, 2020),
    Filter("id", "in", ()): lambda row: False,
    Filter("meta_a/b~c", "=", "x"): lambda row: row["meta_a/b~c"] == "x",
    Filter("text", "contains", "NINE minutes"): lambda row: row["row"] in (2, 3, 4),
    Filter("text", "contains", "why?"): lambda row: row["row"] == 9,
    Filter("text", "contains", "\ud83d a\x00b"): lambda row: row["row"] == 11,
    Filter("text", "contains", "'); DROP"): lambda row: row["row"] == 11,
}  # fmt: skip


@pytest.mark.parametrize("one", FILTERS, ids=str)
def test_a_filter_keeps_what_plain_python_keeps(folder, one):
    rows = folder.page(size=100)
    kept = [row["pair_id"] for row in rows if FILTERS[one](row)]
    assert folder.ids([one]) == kept
    assert folder.count([one]) == len(kept)
    other = Filter("sentences", ">", 2)
    both = [row["pair_id"] for row in rows if FILTERS[one](row) and row["sentences"] > 2]
    assert [row["pair_id"] for row in folder.page([one, other], size=100)] == both
    assert list(folder.column("pair_id", [other, one])) == both
    assert filters_from_query(filters_to_query([one, other])) == (one, other)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", ["margin", "meta_year", "meta_topic", "agrees", "turns", "pair_id", None])
def test_pages_follow_each_other_in_order(folder, sort, descending):
    rows = folder.page(size=100)
    there = [row for row in rows if sort is None or row[sort] is not None]
    if sort:
        there.sort(key=lambda row: row[sort], reverse=descending)  # stable also in reverse
    expected = [row["pair_id"] for row in [*there, *(row for row in rows if row not in there)]]
    pages = [folder.page((), sort, descending, start, 4) for start in range(0, 17, 4)]
    assert [row["pair_id"] for page in pages for row in page] == expected == folder.ids((), sort, descending)
    assert pages[-1] == []


def test_a_table_is_the_pages_columns(folder):
    rows, names = folder.page(size=100), ["margin", "row", "agrees", "truncated", "id"]
    table = folder.table(names)
    assert {name: len(table[name]) for name in names} == dict.fromkeys(names, len(rows))
    for name in ("margin", "row", "truncated", "id"):
        assert table[name].tolist() == [row[name] for row in rows]
    assert table["agrees"].dtype == float
    assert table["truncated"].dtype == bool
    assert np.isnan(table["agrees"][3])
    assert table["agrees"][0] == rows[0]["agrees"]


WRONG = [
    (Filter("nothing", "=", 1), "there is no column 'nothing'; expected one of pair_id, row"),
    (Filter('margin" OR 1=1 --', "<", 0), "there is no column"),
    (Filter("margin", "<", "0"), "margin is a number; expected such a value, got '0'"),
    (Filter("margin", "=", True), "margin is a number"),
    (Filter("margin", "in", (1, "x")), "margin is a number; expected such a value, got 'x'"),
    (Filter("margin", "contains", "1"), "expected one of the tests"),
    (Filter("id", "=", 3), "id is a text"),
    (Filter("agrees", "<", True), "expected one of the tests =, !=, missing"),
    (Filter("agrees", "=", 1), "agrees is a flag"),
    (Filter("text", "=", "x"), "there is no column 'text'"),
]


@pytest.mark.parametrize(("one", "said"), WRONG, ids=[str(one) for one, _ in WRONG])
def test_a_filter_that_does_not_suit_is_refused(folder, one, said):
    with pytest.raises(AuditError, match=re.escape(said)):
        folder.count([one])


def test_sorting_and_columns_of_no_name_are_refused(folder):
    for ask in (folder.page, folder.ids):
        with pytest.raises(AuditError, match="there is no column 'row; DROP"):
            ask((), "row; DROP")
    with pytest.raises(AuditError, match="there is no column 'text'"):
        folder.column("text")
    with pytest.raises(AuditError, match="there is no pair 'none'"):
        folder.pair("none")
    with pytest.raises(AuditError, match="there is no pair"):
        folder.texts("\ud800' OR ''='")


def test_duckdb_is_shut_in(folder, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    for query in (
        f"SELECT * FROM read_text('{tmp_path}/secret.txt')",
        f"COPY (SELECT 1) TO '{tmp_path}/new.csv'",
        f"ATTACH '{tmp_path}/new.db'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "SELECT * FROM read_csv('https://example.org/x.csv')",
    ):
        with pytest.raises(duckdb.Error), folder._connection.cursor() as cursor:
            cursor.execute(query).fetchall()


def test_threads_do_not_disturb_each_other(folder):
    expected = {number: folder.ids([Filter("row", ">", number)]) for number in range(12)}
    wrong: list[object] = []

    def ask(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(15):
            number = draw.randrange(12)
            ids = folder.ids([Filter("row", ">", number)])
            if ids != expected[number] or (ids and folder.pair(ids[-1]).id != "13"):
                wrong.append(ids)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(ask, range(6)))
    assert not wrong


def test_a_folder_that_is_none_or_not_whole_is_told(path, tmp_path):
    def said(match: str, where: Path) -> None:
        with pytest.raises(AuditError, match=match):
            AuditFolder.open(where)

    def copied(name: str) -> Path:
        return Path(shutil.copytree(path, tmp_path / name))

    said("is no audit folder", tmp_path / "none")
    said("is no audit folder", path / "audit.json")
    unfinished = copied("unfinished")
    (unfinished / "pairs.parquet").unlink()
    said("is unfinished: 3 shards stand", unfinished)
    damaged = copied("damaged")
    (damaged / "pairs.parquet").write_bytes((path / "pairs.parquet").read_bytes()[:-40])
    said("pairs.parquet is damaged", damaged)
    missing = copied("missing")
    (missing / "shards" / "00001.parquet").unlink()
    said("1 of 3 shards are missing, e.g. 00001.parquet", missing)
    other = copied("other")
    (other / "audit.json").write_text('{"version": 99}')
    said("is of version 99", other)
    (other / "audit.json").write_text("{")
    said("audit.json is damaged", other)

    broken = copied("broken")
    (broken / "shards" / "00001.parquet").write_bytes(b"PAR1 something else PAR1")
    folder = AuditFolder.open(broken)
    assert folder.count() == 12
    ids = folder.ids([Filter("shard", "=", 1)])
    with pytest.raises(AuditError, match=r"00001\.parquet is damaged"):
        folder.pair(ids[0])
    with pytest.raises(AuditError, match="could not be read"):
        folder.count([Filter("text", "contains", "x")])
    folder.close()
    with pytest.raises(AuditError, match="could not be read"):
        folder.count()


def test_columns_that_later_steps_add_can_be_searched(path, tmp_path):
    """Lists come along, but are no filter's column."""
    joined = Path(shutil.copytree(path, tmp_path / "joined"))
    table = pyarrow.parquet.read_table(joined / "pairs.parquet")
    table = table.append_column("suspect", [[i / 12 for i in range(12)]])
    table = table.append_column("reasons", [[["long", "short"]] * 12])
    pyarrow.parquet.write_table(table, joined / "pairs.parquet")
    folder = AuditFolder.open(joined)
    assert folder.columns["suspect"] == "number"
    assert "reasons" not in folder.columns
    (row,) = folder.page([Filter("suspect", ">", 0.8)], "suspect", True, size=1)
    assert row["row"] == 13
    assert row["reasons"] == ["long", "short"]
    folder.close()
