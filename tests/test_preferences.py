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
from sentrm.preferences import FIELDS, PreferencePair, RowProblem, load_preferences, stream_preferences


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


@pytest.mark.parametrize("label", [{"label": "rejected"}, {"probability": 0.2}])
def test_a_margin_is_the_preferred_ones(load_one, label):
    assert load_one({**ROW, "margin": 2, **label}).margin == -2
    assert load_one({**ROW, "margin": -2, **label}).margin == -2  # signed already
    assert load_one({"chosen_ids": [1, 2], "rejected_ids": [1, 3], "margin": 2, **label}).margin == -2


def test_a_pair_says_that_its_prompt_is_implicit(load_one):
    text = {"chosen": "The sky is blue.", "rejected": "The sky is green."}
    ids = {"chosen_ids": [1, 2, 3], "rejected_ids": [1, 2, 4]}
    known = {"chosen_boundaries": [0, 2], "rejected_boundaries": [0, 2]}
    talk = {name: [*HI, assistant(name)] for name in ("chosen", "rejected")}
    assert [load_one(row).implicit_prompt for row in (text, ids)] == [True, True]
    others = (ROW, talk, {**ids, **known}, {**ids, "prompt": "Hi"})
    assert [load_one(row).implicit_prompt for row in others] == [False] * 4


@pytest.mark.parametrize("margin", [math.nan, math.inf, -math.inf, 10**400, "wide", "nan", True, [1]])
def test_margin_that_is_no_finite_number(load, margin):
    (problem,) = load({**ROW, "margin": margin}).problems
    assert problem.reason.startswith("margin is ")


def test_columns_of_another_name(load_one):
    row = {"question": "q", "good": "a", "bad": "b", "prompt": "something else", "key": "k", "gap": 1}
    columns = {"prompt": "question", "chosen": "good", "rejected": "bad", "id": "key", "margin": "gap"}
    assert load_one(row, columns=columns) == PreferencePair("q", "a", "b", id="k", margin=1.0, split_key="q")


# Tools

CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
ASKS = {"role": "assistant", "content": "", "tool_calls": [CALL]}
TELLS = {"role": "tool", "name": "weather", "content": "21"}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
USES = [user("Hot?"), ASKS, TELLS]


@pytest.mark.parametrize("tools", [[TOOL], json.dumps([TOOL])])
def test_tools_and_template_arguments(load_one, tools):
    pair = load_one({**ROW, "tools": tools, "chat_template_kwargs": {"enable_thinking": False}})
    assert (pair.tools, pair.chat_template_kwargs) == ((TOOL,), {"enable_thinking": False})
    bare = load_one({**ROW, "tools": None, "chat_template_kwargs": None})
    assert (bare.tools, bare.chat_template_kwargs) == ((), {})
    assert load_one({**ROW, "tools": []}).tools == ()


def test_tool_calls_of_the_prompt_go_to_the_template_as_they_are(load_one):
    assert load_one({"prompt": USES, **talks()}).prompt == (*USES,)
    assert load_one(talks(*USES)).prompt == (*USES,)
    none = {**ASKS, "content": None, "name": None}
    assert load_one({"prompt": [user("Hot?"), none, {**TELLS, "content": {"t": 21}}], **talks()}).prompt == (
        user("Hot?"),
        ASKS,
        {**TELLS, "content": '{"t": 21}'},
    )


def test_shared_calls_after_the_prompt_are_a_part_of_it(load_one):
    pair = load_one({"prompt": USES[:1], **talks(*USES[1:])})
    assert (pair.prompt, pair.chosen, pair.rejected) == ((*USES,), "a", "b")


def test_a_response_that_calls_tools_is_written_out(load_one):
    pair = load_one({"prompt": USES[:1], "chosen": [*USES[1:], assistant("No.")], "rejected": [assistant("Maybe.")]})
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
    assert (pair.prompt, pair.rejected) == ((*USES[:1],), "Maybe.")
    assert pair.chosen == f"{call}\n<tool_response>\n21\n</tool_response>\nNo."
    pair = load_one({"prompt": USES[:1], "chosen": [{**ASKS, "content": "Let me look."}], "rejected": [assistant("b")]})
    assert pair.chosen == f"Let me look.\n{call}"


def test_tools_from_parquet_have_no_empty_entries(tmp_path):
    tools = [TOOL, {"type": "function", "function": {"name": "time", "parameters": {"additional": 1}}}]
    path = tmp_path / "rows.parquet"
    path.write_bytes(parquet_bytes([{"prompt": USES, **talks(), "tools": tools}]))
    (pair,) = load_preferences(path).pairs
    assert (pair.prompt, pair.tools) == ((*USES,), (*tools,))


# Ties, soft labels, ranks


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ({}, 1.0),
        ({"probability": 0.7}, 0.7),
        ({"probability": "0.25", "tie": ""}, 0.25),
        ({"probability": 0}, 0.0),
        ({"probability": None, "tie": True}, 0.5),
        ({"tie": "true"}, 0.5),
        ({"tie": 0}, 1.0),
        ({"label": "Tie"}, 0.5),
        ({"label": "rejected"}, 0.0),
        ({"label": "chosen", "tie": False}, 1.0),
        ({"label": "safe"}, 1.0),  # another column of that name
        ({"label": 0}, 1.0),
    ],
)
def test_labels(load_one, label, expected):
    assert load_one({**ROW, **label}).probability == expected


@pytest.mark.parametrize(
    ("winner", "expected"),
    [
        ("model_a", ("x", "y", 1.0)),
        ("model_b", ("y", "x", 1.0)),
        ("b", ("y", "x", 1.0)),
        ("tie", ("x", "y", 0.5)),
        ("tie (bothbad)", ("x", "y", 0.5)),
    ],
)
def test_arena(load_one, winner, expected):
    pair = load_one({"prompt": "Hi", "response_a": "x", "response_b": "y", "winner": winner})
    assert (pair.chosen, pair.rejected, pair.probability) == expected


@pytest.mark.parametrize("places", [{"ranks": [2, 1, 2]}, {"scores": [0.5, 9, 0.5]}])
def test_ranked_responses_become_a_pair_for_each_two(load, places):
    data = load({"prompt": "Hi", "responses": ["x", "y", "z"], **places, "id": "r", "tools": [TOOL]}, strict=True)
    found = [(pair.id, pair.chosen, pair.rejected, pair.probability) for pair in data.pairs]
    assert found == [("r:2>1", "y", "x", 1.0), ("r:1>3", "x", "z", 0.5), ("r:2>3", "y", "z", 1.0)]
    shared = [(pair.prompt, pair.group, pair.split_key, pair.margin, pair.tools) for pair in data.pairs]
    assert shared == [("Hi", "1", "Hi", None, (TOOL,))] * 3
    assert data.rows == 1


def test_ranked_conversations(load):
    responses = [[*HI, assistant(text)] for text in "xyz"]
    pairs = load({"prompt": HI, "responses": responses, "ranks": [3, 2, 1]}, strict=True).pairs
    assert [(pair.prompt, pair.chosen, pair.rejected) for pair in pairs] == [
        ((*HI,), chosen, rejected) for chosen, rejected in ("yx", "zx", "zy")
    ]


# Pre-tokenised rows

IDS = ([1, 2, 3, 4], [1, 2, 5])


@pytest.mark.parametrize(
    "names",
    [
        ("chosen_ids", "rejected_ids"),
        ("chosen_input_ids", "rejected_input_ids"),
        ("input_ids_chosen", "input_ids_rejected"),
    ],
)
def test_pretokenised(load_one, names):
    pair = load_one(dict(zip(names, IDS, strict=True)) | {"margin": 2})
    assert pair.tokens.ids == ((1, 2, 3, 4), (1, 2, 5))
    assert pair.tokens.boundaries == ((1, 3), (1, 2))  # the common prefix, the last token
    assert (pair.chosen, pair.margin, pair.split_key) == ("", 2.0, "1 2")


@pytest.mark.parametrize(
    ("ids", "boundaries"),
    [(([1, 2], [1, 2, 3]), ((0, 1), (0, 2))), (([1, 2], [1, 2]), ((0, 1), (0, 1)))],  # a response keeps a token
)
def test_pretokenised_responses_that_begin_alike(load_one, ids, boundaries):
    assert load_one({"chosen_ids": ids[0], "rejected_ids": ids[1]}).tokens.boundaries == boundaries


def test_pretokenised_with_boundaries_and_texts(load_one):
    row = {"chosen_ids": IDS[0], "rejected_ids": IDS[1], "chosen_boundaries": [0, 2, 3], "rejected_boundaries": [0, 2]}
    pair = load_one({**row, **ROW})
    assert pair.tokens.boundaries == ((0, 2, 3), (0, 2))
    assert (pair.prompt, pair.chosen, pair.split_key) == (ROW["prompt"], ROW["chosen"], ROW["prompt"])


def test_a_stream_gives_what_loading_gives(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", [ROW, {"prompt": "p"}, {**ROW, "tie": True}] * 60)
    data = load_preferences(path)
    streamed = list(stream_preferences(path))
    assert [one for one in streamed if isinstance(one, RowProblem)] == data.problems
    assert [pair for one in streamed if isinstance(one, list) for pair in one] == data.pairs
    assert (len(streamed), data.rows) == (180, 180)
    endless = write_jsonl(tmp_path / "late.jsonl", [ROW] * 300 + ["text"])
    stream = stream_preferences(endless, strict=True)
    assert [next(stream)[0].id for _ in range(300)] == [str(i) for i in range(1, 301)]
    with pytest.raises(PreferenceDataError, match="row 301: is of type str"):
        next(stream)


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


TOKENS = {"chosen_ids": [1, 2], "rejected_ids": [1, 3]}


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
        ({**ROW, "probability": 1.01}, "probability is 1.01, expected a number from 0 to 1"),
        ({**ROW, "probability": -0.1}, "probability is -0.1"),
        ({**ROW, "probability": "likely"}, "probability is 'likely'"),
        ({**ROW, "probability": True}, "probability is True"),
        ({**ROW, "probability": math.nan}, "probability is nan"),
        ({**ROW, "tie": "perhaps"}, "tie is 'perhaps', expected true or false"),
        ({**ROW, "probability": 0.9, "tie": True}, "contradict each other"),
        ({**ROW, "tools": "{not json"}, "tools is no JSON"),
        ({**ROW, "tools": "{}"}, "tools is '{}', expected a list of JSON schemas"),
        ({**ROW, "tools": [1]}, "expected a list of JSON schemas"),
        ({**ROW, "chat_template_kwargs": [1]}, "chat_template_kwargs is [1], expected an object"),
        ({**ROW, "chat_template_kwargs": {"tokenize": True}}, "chat_template_kwargs sets tokenize"),
        ({"prompt": [{**ASKS, "tool_calls": "look"}], **talks()}, "tool_calls of a message of prompt"),
        ({"prompt": HI, "chosen": [*TURNS[1:], assistant("a")], "rejected": [assistant("b")]}, "3 messages after"),
        ({"prompt": "p", "responses": ["a"], "ranks": [1]}, "expected a list of at least two"),
        ({"prompt": "p", "responses": ["a", "b"], "ranks": [1]}, "ranks is [1], expected 2 finite numbers"),
        ({"prompt": "p", "responses": ["a", "b"], "scores": [1, "x"]}, "scores is [1, 'x'], expected 2 finite"),
        ({"prompt": None, "responses": ["a", "b"], "ranks": [1, 2]}, "has no prompt"),
        ({"prompt": "p", "responses": [3, "b"], "ranks": [1, 2]}, "is of type int"),
        ({"prompt": "p", "response_a": "a", "response_b": "b", "winner": "c"}, "winner is 'c', expected model_a"),
        ({"chosen_ids": [1, 2], "rejected_ids": None}, "rejected_ids is None, expected a list of token ids"),
        ({"chosen_ids": [1, -2], "rejected_ids": [1, 2]}, "chosen_ids is [1, -2]"),
        ({"chosen_ids": [1, 2], "rejected_ids": [2, 2]}, "do not begin with the same token"),
        ({"chosen_ids": [1], "rejected_ids": [1, 2]}, "do not begin with the same token"),
        ({**TOKENS, "chosen_boundaries": [0, 1]}, "has the boundaries of one response"),
        ({**TOKENS, "chosen_boundaries": [0, 9], "rejected_boundaries": [0, 1]}, "ascending positions below 2"),
        ({**TOKENS, "chosen_boundaries": [1, 0], "rejected_boundaries": [0, 1]}, "ascending positions below 2"),
        ({**TOKENS, "chosen_boundaries": [1], "rejected_boundaries": [1]}, "first boundary differ"),
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
    assert data.rows == 1 + len(records)
    rows = {pair.group or f"alone {i}" for i, pair in enumerate(data.pairs)}  # a ranked row gives several pairs
    assert len(rows) + len(data.problems) == data.rows
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


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_csv_is_read_whatever_parts_its_cells(tmp_path, mark):
    path = tmp_path / "rows.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=mark)
        writer.writerows([["prompt", "chosen", "rejected"], ["a, b; c?", "one\ttwo;\nthree, four", "five"]])
    (pair,) = load_preferences(path, strict=True).pairs
    assert (pair.prompt, pair.chosen, pair.rejected) == ("a, b; c?", "one\ttwo;\nthree, four", "five")


def test_csv_rows_of_the_wrong_length_and_encoding(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b"prompt,chosen,rejected\np,a\np,a,b,c\np,\xff,b\n" + b"p," + b"long " * 60_000 + b",b\n")
    data = load_preferences(path)
    length = "the number of fields is not that of the header, 3"
    assert data.problems == [RowProblem(1, length), RowProblem(2, length), RowProblem(3, "not UTF-8")]
    assert [len(pair.chosen) for pair in data.pairs] == [300_000]


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
        ({"prompt": "p", "responses": ["a", "b"]}, None, "'ranks'"),
        ({"responses": ["a", "b"], "scores": [1, 2]}, None, "'prompt'"),
        ({"chosen_ids": [1, 2]}, None, "'rejected_ids'"),
        ({"prompt": "p", "response_a": "a", "winner": "a"}, None, "'response_b'"),
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
    with pytest.raises(PreferenceDataError, match=r"got columns for best\. Expected some of prompt, "):
        load(ROW, columns={"best": "chosen"})


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("A", ("x", "y", 1.0)),
        ("response_b", ("y", "x", 1.0)),
        ("second", ("y", "x", 1.0)),
        ("first", ("x", "y", 1.0)),
        ("tie", ("x", "y", 0.5)),
    ],
)
def test_an_arena_under_other_names(load_one, said, expected):
    columns = {"prompt": "q", "response_a": "first", "response_b": "second", "winner": "chosen"}
    pair = load_one({"q": "Hi", "first": "x", "second": "y", "chosen": said, "rejected": "z"}, columns=columns)
    assert (pair.prompt, pair.chosen, pair.rejected, pair.probability) == ("Hi", *expected)


def test_ranked_responses_under_other_names(load_one):
    row = {"prompt": "p", "query": "Hi", "texts": ["x", "y"], "chosen": [3, 1], "scores": [1, 2]}
    pair = load_one(row, columns={"prompt": "query", "responses": "texts", "ranks": "chosen"})
    assert (pair.prompt, pair.chosen, pair.rejected) == ("Hi", "y", "x")


def test_a_column_given_to_one_field_is_no_other(load):
    with pytest.raises(PreferenceDataError, match=r"no column 'rejected' \(columns: prompt, chosen, rejected\)"):
        load(ROW, columns={"prompt": "rejected"})
    with pytest.raises(PreferenceDataError, match="'response_a', 'response_b'"):
        load({"prompt": "p", "who": "a"}, columns={"winner": "who"})
    with pytest.raises(PreferenceDataError, match="the column 'chosen' for several fields"):
        load(ROW, columns={"prompt": "chosen", "rejected": "chosen"})


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
    assert list(stream_preferences(folder, split="test")) == [
        [pair] for pair in load_preferences(folder, split="test").pairs
    ]
    with pytest.raises(PreferenceDataError, match="'validation'"):
        load_preferences(folder, split="validation")
    with pytest.raises(PreferenceDataError, match="'validation'"):
        next(stream_preferences(folder, split="validation"))


@pytest.mark.usefixtures("hub_cache")
def test_a_hub_id_that_cannot_be_loaded():
    with pytest.raises(PreferenceDataError, match="there is no file nobody/no-such-data, and datasets cannot load it"):
        load_preferences("nobody/no-such-data")
