"""Every common preference-data schema -> PreferencePair.

    file or hub id -> records (one a row) -> `_pairs` -> PreferencePairs, or RowProblem with the reason

A schema is recognised by its columns and by the shape of each row:

    prompt, chosen, rejected as text                          TRL standard; RewardBench
    the same as lists of messages                             TRL conversational
    a prompt, and conversations that repeat it                UltraFeedback-binarized
    chosen, rejected alone: they begin with the same prompt   TRL with an implicit prompt
    Human: ... Assistant: ... as text, in any of the three    HH transcripts, read as messages
    prompt, response_a, response_b, winner                    arenas; the winner is a, b or tie
    prompt, responses, and ranks (1 is best) or scores        K ranked responses: a pair for each two of them
    chosen_ids, rejected_ids                                  TRL pre-tokenised, also under its older names;
                                                              with chosen_boundaries, rejected_boundaries if known

Optional columns are id, margin, source (or subset), context, tools and chat_template_kwargs (TRL's), and what says
that chosen is not simply the better one: probability (that chosen is preferred), tie (true or false), and label,
where it is one of the words chosen, rejected and tie. All others are left out, the scores of UltraFeedback among
them: a score is a label's, and a margin is taken only from a column of that name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, combinations, islice
from pathlib import Path
from typing import Any

from .columns import (
    TOKENS,
    TokenizedPair,
    is_number,
    read_label,
    read_template_kwargs,
    read_text,
    read_tokens,
    read_tools,
    read_winner,
)
from .errors import PreferenceDataError
from .readers import BadRow, records
from .results import Prompt
from .schemas import read_texts

SIDES = ("chosen", "rejected")
TEXT_FIELDS = ("prompt", *SIDES, "id", "margin", "source", "subset", "context")
LABELS = ("probability", "tie", "label")
FORMS = {  # the fields of text that a row may have, by what it holds
    "better": ("prompt", *SIDES),
    "winner": ("prompt", "response_a", "response_b", "winner"),
    "ranked": ("prompt", "responses", "ranks", "scores"),
}
MAPPED = tuple(dict.fromkeys(field for fields in FORMS.values() for field in fields))
FIELDS = (*dict.fromkeys((*TEXT_FIELDS, *LABELS, *MAPPED)), "tools", "chat_template_kwargs", *TOKENS)
OTHER_PROMPTS = ("question", "instruction", "query", "input")  # names that say: there is a prompt, it is not implicit
OLDER_IDS = {  # TRL's names before chosen_ids and rejected_ids
    "chosen_ids": ("chosen_input_ids", "input_ids_chosen"),
    "rejected_ids": ("rejected_input_ids", "input_ids_rejected"),
}
STREAM_HEAD = 100  # rows of a stream whose columns count as those of all


@dataclass(frozen=True)
class PreferencePair:
    """One row of preference data: `chosen` was preferred to `rejected` as the response to `prompt`."""

    prompt: Prompt  # the context, where the row has one, is part of it
    chosen: str
    rejected: str
    id: str = ""
    margin: float | None = None  # how far chosen is ahead, in the data set's own unit; below 0 where rejected is
    split_key: str = ""  # the prompt's text without context: rows that share it belong on one side of a split
    source: str = ""
    probability: float = 1.0  # that chosen is preferred: 0.5 is a tie
    group: str = ""  # pairs of one ranked row share it
    tools: tuple[dict[str, Any], ...] = ()  # JSON schemas for the chat template
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)  # what else the chat template is given
    tokens: TokenizedPair | None = None  # of a pre-tokenised row, whose texts may be empty
    implicit_prompt: bool = False  # the prompt is what both begin with, so words the responses share are part of it


@dataclass(frozen=True)
class RowProblem:
    """A row that was left out. `row` counts the records of the file from 1; blank lines are no records."""

    row: int
    reason: str


@dataclass(frozen=True)
class PreferenceData:
    """What was read: every record is either some of the pairs (one, unless it ranks several) or a problem."""

    pairs: list[PreferencePair]
    problems: list[RowProblem]
    rows: int


def load_preferences(
    source: str | Path, *, columns: Mapping[str, str | None] | None = None, split: str = "train", strict: bool = False
) -> PreferenceData:
    """Read preference pairs from a file, a data set folder or a hub id.

    `source` ends in .jsonl, .json, .csv or .parquet, each also with .gz, or is what `datasets.load_dataset`
    takes; only there `split` matters. `columns` says under which name a field stands in the data, for example
    `{"prompt": "question"}`; None is the field's own name; `winner` may also be the name of the better response's
    column. Bad rows are left out and reported; `strict` stops at the first.

    Raises PreferenceDataError for data that cannot be read, has no rows or no known columns, and for the
    first bad row if `strict`.
    """
    rows = list(records(str(source), split))
    read = [one for _, one in _read_rows(source, rows, rows, columns, strict)]
    problems = [one for one in read if isinstance(one, RowProblem)]
    return PreferenceData([pair for one in read if isinstance(one, list) for pair in one], problems, len(rows))


def stream_preferences(
    source: str | Path, *, columns: Mapping[str, str | None] | None = None, split: str = "train", strict: bool = False
) -> Iterator[list[PreferencePair] | RowProblem]:
    """As `load_preferences`, row by row, for data that does not fit in memory; hub ids are streamed.

    The first 100 rows show the columns, and whether there is a prompt.
    """
    for _, read in stream_rows(source, columns=columns, split=split, strict=strict):
        yield read


def stream_rows(
    source: str | Path, *, columns: Mapping[str, str | None] | None = None, split: str = "train", strict: bool = False
) -> Iterator[tuple[Any, list[PreferencePair] | RowProblem]]:
    """As `stream_preferences`, each row with its record as it stands in the data (BadRow where it is not readable)."""
    rows = records(str(source), split, streaming=True)
    head = list(islice(rows, STREAM_HEAD))
    yield from _read_rows(source, head, chain(head, rows), columns, strict)


def _read_rows(
    source: str | Path,
    head: list[Any],
    rows: Iterable[Any],
    columns: Mapping[str, str | None] | None,
    strict: bool,
) -> Iterator[tuple[Any, list[PreferencePair] | RowProblem]]:
    """One record and what it is a row; the columns of `head` are taken for those of all."""
    asked = {field: name for field, name in (columns or {}).items() if name is not None}
    if not set(asked) <= set(FIELDS):
        raise PreferenceDataError(f"got columns for {', '.join(asked)}. Expected some of {', '.join(FIELDS)}.")
    names = column_names(asked)
    if twice := [name for name in asked.values() if list(asked.values()).count(name) > 1]:
        raise PreferenceDataError(f"got the column {twice[0]!r} for several fields. Expected another column for each.")
    if not head:
        raise PreferenceDataError(f"{source} has no rows. Expected one preference pair a row.")
    found = {column: None for record in head if isinstance(record, dict) for column in record}
    for field_, older in OLDER_IDS.items():
        if names.get(field_) not in found:
            names[field_] = next((name for name in older if name in found), field_)
    if found:
        _check_columns(source, list(found), names, asked)
    for row, record in enumerate(rows, start=1):
        try:
            yield record, _pairs(record, row, names, has_prompt=names.get("prompt") in found)
        except BadRow as bad:
            if strict:
                raise PreferenceDataError(f"{source}: row {row}: {bad}") from None
            yield record, RowProblem(row, str(bad))


def column_names(columns: Mapping[str, str | None]) -> dict[str, str]:
    """Field -> its column; a column that is given to one field is no other's."""
    given = {field: name for field, name in columns.items() if name is not None}
    return {field: given.get(field, field) for field in FIELDS if field in given or field not in given.values()}


def _check_columns(source: str | Path, found: list[str], names: Mapping[str, str], asked: Iterable[str]) -> None:
    there = {field for field, name in names.items() if name in found}
    needed = {"chosen", "rejected", *asked}
    if "chosen_ids" in there and "chosen" not in there:
        needed = {"chosen_ids", "rejected_ids", *asked}
    elif "responses" in there and "chosen" not in there:
        needed = {"prompt", "responses", *asked} | (set() if there & {"ranks", "scores"} else {"ranks"})
    elif "winner" in there and "chosen" not in there:
        needed = {"prompt", "response_a", "response_b", *asked}
    elif set(OTHER_PROMPTS) & set(found):
        needed.add("prompt")
    missing = [repr(names.get(field, field)) for field in FIELDS if field in needed - there]
    if missing:
        raise PreferenceDataError(
            f"{source} has no column {', '.join(missing)} (columns: {', '.join(map(str, found))}). Expected prompt, "
            "chosen and rejected, or chosen and rejected that both begin with the prompt, or prompt, response_a, "
            "response_b and winner, or prompt, responses and ranks or scores. For columns of another name pass "
            "--prompt-column NAME, --chosen-column NAME, --rejected-column NAME and so on."
        )


def _pairs(record: Any, row: int, names: Mapping[str, str], *, has_prompt: bool) -> list[PreferencePair]:
    """The pair of a record, or the pairs of one that ranks its responses."""
    if isinstance(record, BadRow):
        raise record
    if not isinstance(record, dict):
        raise BadRow(f"is of type {type(record).__name__}, expected an object with chosen and rejected")
    fields = dict.fromkeys(FIELDS) | {field: record.get(column) for field, column in names.items()}
    common: dict[str, Any] = {
        "id": read_text("id", fields["id"]) or str(row),
        "source": read_text("source", fields["source"]) or read_text("subset", fields["subset"]),
        "tools": read_tools(fields["tools"]),
        "chat_template_kwargs": read_template_kwargs(fields["chat_template_kwargs"]),
    }
    if fields["chosen_ids"] is not None or fields["rejected_ids"] is not None:
        tokens = read_tokens(fields)
        texts: dict[str, Any] = {
            name: fields[name] if isinstance(fields[name], str) else "" for name in ("prompt", "chosen", "rejected")
        }
        key = texts["prompt"] or " ".join(map(str, tokens.ids[0][: tokens.boundaries[0][0] + 1]))
        implicit = not texts["prompt"] and fields["chosen_boundaries"] is None
        label: dict[str, Any] = read_label(fields)
        return [PreferencePair(**texts, **common, **label, tokens=tokens, split_key=key, implicit_prompt=implicit)]
    if fields["winner"] is not None and fields["chosen"] is None:
        fields |= read_winner(fields, names)
    if fields["responses"] is not None and fields["chosen"] is None:
        return _ranked_pairs(fields, row, common)
    for name in SIDES:
        if fields[name] is None:
            raise BadRow(f"has no {names.get(name, name)!r} (columns: {', '.join(record)})")
    prompt, chosen, rejected = read_texts(fields["prompt"], fields["chosen"], fields["rejected"], has_prompt)
    common |= read_label(fields)
    common["implicit_prompt"] = fields["prompt"] is None and isinstance(prompt, str)
    return [PreferencePair(**_prompt(fields, prompt), chosen=chosen, rejected=rejected, **common)]


def _prompt(fields: Mapping[str, Any], prompt: Prompt) -> dict[str, Any]:
    given = fields["prompt"]
    return {
        "prompt": with_context(read_text("context", fields["context"]), prompt),
        "split_key": given if isinstance(given, str) else split_key(prompt),
    }


def _ranked_pairs(fields: Mapping[str, Any], row: int, common: dict[str, Any]) -> list[PreferencePair]:
    """A pair for each two of K responses, the better one chosen; at equal ranks a tie, the earlier one chosen."""
    responses = fields["responses"]
    if not isinstance(responses, list) or len(responses) < 2:
        raise BadRow(f"responses is {responses!r:.40}, expected a list of at least two")
    name = "scores" if fields["ranks"] is None else "ranks"
    places = fields[name]
    numbers = isinstance(places, list) and all(is_number(place) for place in places)
    if not numbers or len(places) != len(responses):
        raise BadRow(f"{name} is {places!r:.40}, expected {len(responses)} finite numbers, one a response")
    order = [place if name == "ranks" else -place for place in places]  # the lower, the better
    read = [read_texts(fields["prompt"], responses[0], other, True) for other in responses[1:]]
    if any(prompt != read[0][0] for prompt, *_ in read):
        raise BadRow("the responses begin with different prompts, expected the same for all")
    texts = [read[0][1], *(text for *_, text in read)]
    pairs = []
    for i, j in combinations(range(len(texts)), 2):
        best, worst = (i, j) if order[i] <= order[j] else (j, i)
        own = common | {"id": f"{common['id']}:{best + 1}>{worst + 1}", "group": str(row)}
        probability = 0.5 if order[i] == order[j] else 1.0
        pair = PreferencePair(
            **_prompt(fields, read[0][0]), chosen=texts[best], rejected=texts[worst], probability=probability, **own
        )
        pairs.append(pair)
    return pairs


def with_context(context: str, prompt: Prompt) -> Prompt:
    """The context goes before the prompt's text; in a conversation, before the first message of the user."""
    if not context:
        return prompt
    if isinstance(prompt, str):
        return f"{context}\n\n{prompt}"
    first = next((i for i, message in enumerate(prompt) if message["role"] == "user"), 0)
    message = {**prompt[first], "content": f"{context}\n\n{prompt[first]['content']}"}
    return (*prompt[:first], message, *prompt[first + 1 :])


def split_key(prompt: Prompt) -> str:
    """One user message has the key of the same prompt as text, so files of both forms split alike."""
    if isinstance(prompt, str):
        return prompt
    if [message["role"] for message in prompt] == ["user"]:
        return prompt[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)
