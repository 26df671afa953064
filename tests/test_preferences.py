"""Every schema and file form gives the pairs written out by hand here; every bad row is named."""

import csv
import gzip
import io
import json
import math
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentrm.errors import PreferenceDataError
from sentrm.preferences import FIELDS, PreferencePair, RowProblem, load_preferences


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


SYSTEM = {"role": "system", "content": "Be brief."}
ROW = {"prompt": "What is 2 + 2?", "chosen": "It is 4.", "rejected": "It is 5."}


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def load(tmp_path):
    """Write rows as JSONL and load them."""

    def load_rows(*rows: Any, **options: Any):
        return load_preferences(write_jsonl(tmp_path / "rows.jsonl", list(rows)), **options)

    return load_rows


@pytest.fixture
def load_one(load):
    """The pair of a single good row."""

    def load_row(row: dict[str, Any], **options: Any) -> PreferencePair:
        (pair,) = load(row, strict=True, **options).pairs
        return pair

    return load_row


# Schemas

HI = [user("Hi")]
TURNS = [user("Hi"), assistant("Hello.\n\nWhat can I do?"), user("Sing")]
HH = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nWhat can I do?\n\nHuman: Sing"
TEXTS = {"chosen": "a", "rejected": "b"}


def talks(*start: dict[str, str]) -> dict[str, Any]:
    """Two conversations that begin alike and end in a and b."""
    return {"chosen": [*start, assistant("a")], "rejected": [*start, assistant("b")]}


def transcripts(start: str) -> dict[str, str]:
    return {"chosen": start + "\n\nAssistant: a", "rejected": start + "\n\nAssistant: b"}


ULTRAFEEDBACK = {"prompt_id": "cafe", "messages": talks(*HI)["chosen"], "score_chosen": 8.0, "score_rejected": 2.0}
SCHEMAS = {
    "TRL standard": ({"prompt": "Hi", **TEXTS}, "Hi"),
    "TRL standard, implicit": ({"chosen": "So say\na", "rejected": "So say\nb"}, "So say"),
    "TRL conversational": ({"prompt": [SYSTEM, *TURNS], **talks()}, (SYSTEM, *TURNS)),
    "TRL conversational, implicit": (talks(SYSTEM, *TURNS), (SYSTEM, *TURNS)),
    "UltraFeedback-binarized": ({"prompt": "Hi", **talks(*HI), **ULTRAFEEDBACK}, (*HI,)),
    "prompt text, response messages": ({"prompt": "Hi", **talks()}, (*HI,)),
    "prompt messages, response texts": ({"prompt": HI, **TEXTS}, (*HI,)),
    "HH transcripts": (transcripts(HH), (*TURNS,)),
    "HH prompt": ({"prompt": HH.strip(), **TEXTS}, (*TURNS,)),
    "HH prompt with an open turn": ({"prompt": HH + "\n\nAssistant: ", **TEXTS}, (*TURNS,)),
    "one empty message as prompt": ({"prompt": [assistant("")], **TEXTS}, (assistant(""),)),
    "HH prompt beside transcripts": ({"prompt": HH, **transcripts(HH)}, (*TURNS,)),
}


@pytest.mark.parametrize(("row", "prompt"), SCHEMAS.values(), ids=SCHEMAS.keys())
def test_schema(load_one, row, prompt):
    pair = load_one(row)
    assert (pair.prompt, pair.chosen.strip(), pair.rejected.strip()) == (prompt, "a", "b")
    assert (pair.id, pair.margin, pair.source) == ("1", None, "")


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        ([*HI, assistant("Yo")], [*HI, assistant("Yo")], ((*HI,), "Yo", "Yo")),  # equal to the last word
        (HH + "\n\nAssistant: Yo", HH + "\n\nAssistant:", ((*TURNS,), "Yo", "")),  # an empty response
        ("Human: yes?", "Human: no", ("Hi", "Human: yes?", "Human: no")),  # no transcripts
    ],
)
def test_edges_of_the_schemas(load_one, chosen, rejected, expected):
    pair = load_one({"prompt": "Hi", "chosen": chosen, "rejected": rejected})
    assert (pair.prompt, pair.chosen, pair.rejected) == expected


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt"),
    [
        ("The sky is blue.", "The sky is green.", "The sky is"),
        ("Grass is green.", "Grass is grey.", "Grass is"),  # never inside a word
        ("The same all through.", "The same all through.", "The same all through."),  # two empty responses
        ("Here it stops", "Here it stops not", "Here it stops"),
    ],
)
def test_implicit_prompt_of_texts_ends_at_a_word(load_one, chosen, rejected, prompt):
    pair = load_one({"chosen": chosen, "rejected": rejected})
    assert pair.prompt == pair.split_key == prompt
    assert (prompt + pair.chosen, prompt + pair.rejected) == (chosen, rejected)


def test_rewardbench(load_one):
    pair = load_one({**ROW, "subset": "math-prm", "id": 2985, "chosen_model": "human"})
    assert (pair.id, pair.source) == ("2985", "math-prm")
    assert load_one({**ROW, "source": "mine", "subset": "part"}).source == "mine"


@given(st.lists(st.text(st.sampled_from("ab :\nHuman")), min_size=2, max_size=6))
def test_hh_reads_back_what_was_written(tmp_path_factory, words):
    words = [word.replace("\n\n", "\n").replace("Human:", "") for word in words[: len(words) // 2 * 2]]
    text = "".join(f"\n\n{name}: {word}" for name, word in zip(("Human", "Assistant") * 3, words, strict=False))
    path = tmp_path_factory.getbasetemp() / "hh.jsonl"
    (pair,) = load_preferences(write_jsonl(path, [{"chosen": text, "rejected": text}])).pairs
    assert [message["content"] for message in pair.prompt] == [word.strip() for word in words[:-1]]
    assert pair.chosen == words[-1].strip()


# Optional columns


def test_context_of_a_conversation_goes_before_the_first_words_of_the_user(load_one):
    pair = load_one({"prompt": [SYSTEM, *TURNS], **talks(), "context": "It is night."})
    assert pair.prompt == (SYSTEM, user("It is night.\n\nHi"), *TURNS[1:])
    assert pair.split_key == "\n\n".join(f"{message['role']}: {message['content']}" for message in [SYSTEM, *TURNS])


def test_one_question_has_one_split_key_with_context_and_in_every_schema(load):
    hh = "\n\nHuman: Why?\n\nAssistant: "
    rows = [{"prompt": "Why?", "context": "Some.", **TEXTS}, {"prompt": "Why?", **TEXTS}]
    rows += [{"prompt": [user("Why?")], **talks()}, {"chosen": hh + "a", "rejected": hh + "b"}]
    pairs = load(*rows).pairs
    assert [pair.prompt for pair in pairs[:2]] == ["Some.\n\nWhy?", "Why?"]
    assert [pair.split_key for pair in pairs] == ["Why?"] * 4


@pytest.mark.parametrize(("margin", "expected"), [(2, 2.0), (-0.5, -0.5), ("1.5", 1.5), (None, None), ("", None)])
def test_margin(load_one, margin, expected):
    assert load_one({**ROW, "margin": margin}).margin == expected


@pytest.mark.parametrize("margin", [math.nan, math.inf, -math.inf, 10**400, "wide", "nan", True, [1]])
def test_margin_that_is_no_finite_number(load, margin):
    (problem,) = load({**ROW, "margin": margin}).problems
    assert problem.reason.startswith("margin is ")


def test_columns_of_another_name(load_one):
    row = {"question": "q", "good": "a", "bad": "b", "prompt": "something else", "key": "k", "gap": 1}
    columns = {"prompt": "question", "chosen": "good", "rejected": "bad", "id": "key", "margin": "gap"}
    assert load_one(row, columns=columns) == PreferencePair("q", "a", "b", id="k", margin=1.0, split_key="q")


# Bad rows


def test_bad_rows_are_counted_and_good_ones_kept(tmp_path):
    lines = [json.dumps(ROW), "{not json", "", '"text"']  # the blank line is no record
    rows = [{"prompt": "p", "chosen": "a"}, {**ROW, "rejected": 3}, {**ROW, "prompt": 7}, TEXTS, {**ROW, "id": [1]}]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines + [json.dumps(row) for row in [*rows, ROW]]))
    data = load_preferences(path)
    assert [pair.id for pair in data.pairs] == ["1", "9"]
    assert [problem.row for problem in data.problems] == [2, 3, 4, 5, 6, 7, 8]
    assert data.problems[2] == RowProblem(4, "has no 'rejected' (columns: prompt, chosen)")
    words = ["not a line of JSON", "is of type str", "no", "rejected", "of type int", "other rows have one", "id"]
    for problem, word in zip(data.problems, words, strict=True):
        assert word in problem.reason


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"chosen": [*HI, assistant("a"), user("b")], "rejected": [*HI, assistant("c")]}, "last message of chosen"),
        ({"chosen": [*HI, assistant("a")], "rejected": HI}, "last message of rejected"),
        ({"chosen": [*HI, assistant("a")], "rejected": [user("Ho"), assistant("a")]}, "no shared prompt"),
        (talks(), "has no prompt"),
        ({"chosen": [*TURNS, assistant("a")], "rejected": [*HI, assistant("b")]}, "3 messages after the shared prompt"),
        ({"prompt": "Bye", **talks(*HI)}, "prompt is another"),
        ({"prompt": [SYSTEM, *HI], **talks(*HI)}, "prompt is another"),
        ({"prompt": "Hi", "chosen": [assistant("a")], "rejected": "b"}, "the other messages"),
        ({"prompt": "Hi", "chosen": {"role": "assistant"}, "rejected": "b"}, "chosen is of type dict"),
        ({"prompt": "Hi", "chosen": [], "rejected": []}, "chosen is of type list"),
        ({"prompt": [{"role": "wizard", "content": "Hi"}], "chosen": "a", "rejected": "b"}, "'wizard'"),
        ({"prompt": [{"role": "user", "content": None}], "chosen": "a", "rejected": "b"}, "content of type NoneType"),
        ({"chosen": "Yes.", "rejected": "No."}, "do not begin with the same words"),
        ({"prompt": "Hi", "chosen": "a", "rejected": "b", "context": ["x"]}, "context is of type list"),
    ],
)
def test_reason_of_a_bad_row(load, row, reason):
    (problem,) = load(row).problems
    assert reason in problem.reason


def test_strict_stops_at_the_first_bad_row(load):
    with pytest.raises(PreferenceDataError, match=r"rows\.jsonl: row 2: has no 'rejected'"):
        load(ROW, {"prompt": "p", "chosen": "a"}, [1], strict=True)


def test_too_deep_and_not_utf8_lines_are_bad_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"[" * 200_000 + b"\n" + b'{"chosen": "\xff"}\n' + json.dumps(ROW).encode())
    data = load_preferences(path)
    assert ([problem.row for problem in data.problems], [pair.id for pair in data.pairs]) == ([1, 2], ["3"])


JSON = st.recursive(
    st.integers() | st.floats() | st.sampled_from([None, True, "", "user", "assistant", "\n\nHuman: x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*FIELDS, "role", "content"]), inner, max_size=4)
        | st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.sampled_from(["", "x"])})
    ),
    max_leaves=12,
)


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(FIELDS, JSON)) | JSON, max_size=3))
def test_every_record_is_a_pair_or_a_problem(tmp_path_factory, records):
    data = load_preferences(write_jsonl(tmp_path_factory.getbasetemp() / "any.jsonl", [ROW, *records]))
    assert len(data.pairs) + len(data.problems) == 1 + len(records)
    assert all(pair.prompt != () for pair in data.pairs)


def test_empty_responses_nul_and_lone_surrogates_are_kept(load_one):
    pair = load_one({"prompt": "\ud83d \u0000", "chosen": "", "rejected": "\udc00\u2028 x"})
    assert (pair.prompt, pair.chosen, pair.rejected) == ("\ud83d \u0000", "", "\udc00\u2028 x")


# Sources

ROWS = [
    {**ROW, "id": "first", "margin": 1.5},
    {"prompt": 'Zwei Zeilen,\n"bitte"', "chosen": "Ä\r\nÖ", "rejected": "", "id": "second", "margin": 2.0},
]


def csv_bytes(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def parquet_bytes(rows: list[dict[str, Any]]) -> bytes:
    data = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), data)
    return data.getvalue()


FORMS = {
    ".jsonl": "\r\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode(),
    ".json": json.dumps({"version": 1, "data": ROWS}, indent=1).encode("utf-8-sig"),
    ".csv": csv_bytes(ROWS),
    ".parquet": parquet_bytes(ROWS),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("ending", "data"), FORMS.items(), ids=FORMS.keys())
def test_every_file_form_gives_the_same_pairs(tmp_path, ending, data, packed):
    path = tmp_path / f"my.rows{ending.upper()}{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(data) if packed else data)
    loaded = load_preferences(str(path))
    assert loaded.problems == []
    assert loaded.pairs == [
        PreferencePair("What is 2 + 2?", "It is 4.", "It is 5.", "first", 1.5, "What is 2 + 2?"),
        PreferencePair('Zwei Zeilen,\n"bitte"', "Ä\r\nÖ", "", "second", 2.0, 'Zwei Zeilen,\n"bitte"'),
    ]


def test_parquet_conversations(tmp_path):
    path = tmp_path / "rows.parquet"
    path.write_bytes(parquet_bytes([talks(*HI)]))
    assert load_preferences(path).pairs == [PreferencePair((user("Hi"),), "a", "b", "1", None, "Hi")]


def test_a_json_list(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([ROW, 3]))
    assert [problem.row for problem in load_preferences(path).problems] == [2]


def test_csv_rows_of_the_wrong_length_and_encoding(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b"prompt,chosen,rejected\np,a\np,a,b,c\np,\xff,b\n" + b"p," + b"long " * 60_000 + b",b\n")
    data = load_preferences(path)
    length = "the number of fields is not that of the header, 3"
    assert data.problems == [RowProblem(1, length), RowProblem(2, length), RowProblem(3, "not UTF-8")]
    assert [len(pair.chosen) for pair in data.pairs] == [300_000]
    assert csv.field_size_limit() == 131_072


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", b"", "has no rows"),
        ("rows.json", b" ", "has no rows"),
        ("rows.csv", b"prompt,chosen,rejected\n", "has no rows"),
        ("rows.csv", b"prompt,chosen,chosen\na,b,c\n", "same name"),
        ("rows.json", b'{"chosen": "a"}\n{"chosen": "b"}', r"\.jsonl"),
        ("rows.json", b'{"chosen": ["a"], "rejected": ["b"]}', "exactly one list"),
        ("rows.json", b"\xff\xfe", "not one JSON document"),
        ("rows.parquet", b"nothing", "cannot read"),
        ("rows.jsonl.gz", b"nothing", "cannot read"),
        ("rows.jsonl.gz", gzip.compress(b"")[:10] + b"\xff" * 20, "cannot read"),
        ("rows.jsonl.gz", gzip.compress(b"much text" * 99)[:-12], "cannot read"),
        ("rows.txt", b"text", r"Expected \.jsonl, \.json, \.csv, \.parquet"),
        ("rows.gz", b"text", "cannot tell the format"),
    ],
)
def test_unreadable_files(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(PreferenceDataError, match=message) as caught:
        load_preferences(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["none.jsonl", "none.CSV.gz", "/nowhere/none.txt", "a/b/c"])
def test_missing_file(name):
    with pytest.raises(PreferenceDataError, match=f"there is no file {name}. Expected"):
        load_preferences(name)


@pytest.mark.parametrize(
    ("row", "columns", "missing"),
    [
        ({"text": "x", "label": 1}, None, "'chosen', 'rejected'"),
        ({"prompt": "p", "chosen": "c"}, None, "'rejected'"),
        ({"question": "p", "chosen": "I do.", "rejected": "I am."}, None, "'prompt'"),
        (ROW, {"prompt": "question"}, "'question'"),
        (ROW, {"margin": "gap"}, "'gap'"),
    ],
)
def test_columns_that_are_not_there(load, row, columns, missing):
    with pytest.raises(PreferenceDataError) as caught:
        load(row, columns=columns)
    message = str(caught.value)
    assert f"no column {missing} (columns: {', '.join(row)})" in message
    for flag in ("--prompt-column NAME", "--chosen-column NAME", "--rejected-column NAME"):
        assert flag in message


def test_unknown_field_in_the_mapping(load):
    with pytest.raises(PreferenceDataError, match=r"got columns for winner\. Expected some of prompt, "):
        load(ROW, columns={"winner": "chosen"})


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("hub_cache")
def test_a_folder_that_datasets_loads(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    row = {"prompt": "Hi", **talks(*HI)}
    write_jsonl(folder / "train.jsonl", [row])
    write_jsonl(folder / "test.jsonl", [row, row])
    assert load_preferences(folder).pairs == [PreferencePair((user("Hi"),), "a", "b", "1", None, "Hi")]
    assert [pair.id for pair in load_preferences(str(folder), split="test").pairs] == ["1", "2"]
    with pytest.raises(PreferenceDataError, match="'validation'"):
        load_preferences(folder, split="validation")


@pytest.mark.usefixtures("hub_cache")
def test_a_hub_id_that_cannot_be_loaded():
    with pytest.raises(PreferenceDataError, match="there is no file nobody/no-such-data, and datasets cannot load it"):
        load_preferences("nobody/no-such-data")
