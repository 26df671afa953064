"""Every common preference-data schema -> PreferencePair.

    file or hub id -> records (one dict a row) -> `_pair` -> PreferencePair, or RowProblem with the reason

A schema is recognised by its columns and by the shape of each row:

    prompt, chosen, rejected as text                          TRL standard; RewardBench
    the same as lists of messages                             TRL conversational
    a prompt, and conversations that repeat it                UltraFeedback-binarized
    chosen, rejected alone: they begin with the same prompt   TRL with an implicit prompt
    Human: ... Assistant: ... as text, in any of the three    HH transcripts, read as messages

Optional columns are id, margin, source (or subset) and context. All others are left out, the scores of
UltraFeedback among them: a score is a label's, and a margin is taken only from a column of that name.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import PreferenceDataError
from .results import Message, Prompt

FIELDS = ("prompt", "chosen", "rejected", "id", "margin", "source", "subset", "context")
OTHER_PROMPTS = ("question", "instruction", "query", "input")  # names that say: there is a prompt, it is not implicit
ROLES = ("user", "assistant", "system")


@dataclass(frozen=True)
class PreferencePair:
    """One row of preference data: `chosen` was preferred to `rejected` as the response to `prompt`."""

    prompt: Prompt  # the context, where the row has one, is part of it
    chosen: str
    rejected: str
    id: str = ""
    margin: float | None = None  # how far chosen is ahead, in the data set's own unit
    split_key: str = ""  # the prompt's text without context: rows that share it belong on one side of a split
    source: str = ""


@dataclass(frozen=True)
class RowProblem:
    """A row that was left out. `row` counts the records of the file from 1; blank lines are no records."""

    row: int
    reason: str


@dataclass(frozen=True)
class PreferenceData:
    """What was read: every record is either one of the pairs or one of the problems."""

    pairs: list[PreferencePair]
    problems: list[RowProblem]


class _BadRow(Exception):
    """Why one record is no preference pair."""


def load_preferences(
    source: str | Path, *, columns: Mapping[str, str | None] | None = None, split: str = "train", strict: bool = False
) -> PreferenceData:
    """Read preference pairs from a file, a data set folder or a hub id.

    `source` ends in .jsonl, .json, .csv or .parquet, each also with .gz, or is what `datasets.load_dataset`
    takes; only there `split` matters. `columns` says under which name a field stands in the data, for example
    `{"prompt": "question"}`; None is the field's own name. Bad rows are left out and reported; `strict` stops at
    the first.

    Raises PreferenceDataError for data that cannot be read, has no rows or no known columns, and for the
    first bad row if `strict`.
    """
    asked = {field: name for field, name in (columns or {}).items() if name is not None}
    if not set(asked) <= set(FIELDS):
        raise PreferenceDataError(f"got columns for {', '.join(asked)}. Expected some of {', '.join(FIELDS)}.")
    names = {field: asked.get(field, field) for field in FIELDS}
    records = list(_records(str(source), split))
    if not records:
        raise PreferenceDataError(f"{source} has no rows. Expected one preference pair a row.")
    found = {column: None for record in records if isinstance(record, dict) for column in record}
    if found:
        _check_columns(source, list(found), names, asked)
    pairs: list[PreferencePair] = []
    problems: list[RowProblem] = []
    for row, record in enumerate(records, start=1):
        try:
            pairs.append(_pair(record, row, names, has_prompt=names["prompt"] in found))
        except _BadRow as bad:
            if strict:
                raise PreferenceDataError(f"{source}: row {row}: {bad}") from None
            problems.append(RowProblem(row, str(bad)))
    return PreferenceData(pairs, problems)


def _check_columns(source: str | Path, found: list[str], names: Mapping[str, str], asked: Iterable[str]) -> None:
    needed = {"chosen", "rejected", *asked}
    if set(OTHER_PROMPTS) & set(found):
        needed.add("prompt")
    missing = [repr(names[field]) for field in FIELDS if field in needed and names[field] not in found]
    if missing:
        raise PreferenceDataError(
            f"{source} has no column {', '.join(missing)} (columns: {', '.join(map(str, found))}). Expected prompt, "
            "chosen and rejected, or chosen and rejected that both begin with the prompt. Pass "
            "--prompt-column NAME, --chosen-column NAME or --rejected-column NAME for columns of another name."
        )


# From a source to records. A reader yields one value a record, a _BadRow where it could not be parsed.


def _records(source: str, split: str) -> Iterator[Any]:
    path = Path(source)
    ending = path.suffixes[-2:-1] if path.suffix.lower() == ".gz" else path.suffixes[-1:]
    reader = READERS.get("".join(ending).lower())
    if path.is_dir() or (reader is None and not path.exists() and re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", source)):
        return _read_dataset(source, split)
    if not path.exists():
        raise PreferenceDataError(f"there is no file {source}. Expected a file, a data set folder or a hub id.")
    if reader is None:
        raise PreferenceDataError(
            f"cannot tell the format of {source} by its ending. Expected {', '.join(READERS)}, each also with .gz."
        )
    return _read_file(path, reader)


def _read_file(path: Path, reader: Callable[[bytes], Iterator[Any]]) -> Iterator[Any]:
    from pyarrow import ArrowException

    try:
        data = path.read_bytes()
        if path.suffix.lower() == ".gz":
            data = gzip.decompress(data)
        yield from reader(data)
    except PreferenceDataError as error:
        raise PreferenceDataError(f"{path}: {error}") from None
    except (OSError, EOFError, zlib.error, csv.Error, ArrowException, UnicodeDecodeError) as error:
        raise PreferenceDataError(f"cannot read {path}: {error}. Check that the file is whole.") from error


def _read_jsonl(data: bytes) -> Iterator[Any]:
    for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):  # not splitlines: U+2028 is legal inside a line
        if line.strip():
            try:
                yield json.loads(line.decode("utf-8"))
            except (ValueError, RecursionError) as error:
                yield _BadRow(f"not a line of JSON: {error}")


def _read_json(data: bytes) -> Iterator[Any]:
    if not data.strip():
        return
    try:
        document = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise PreferenceDataError(
            f"not one JSON document: {error}. Name a file of one object a line .jsonl."
        ) from error
    if isinstance(document, dict):
        lists = [value for value in document.values() if isinstance(value, list)]
        if len(lists) == 1:
            document = lists[0]
    if not isinstance(document, list):
        got = type(document).__name__
        raise PreferenceDataError(f"got one {got}. Expected a list of rows, or an object that holds exactly one list.")
    yield from document


def _read_csv(data: bytes) -> Iterator[Any]:
    # Bytes that are not UTF-8 become lone surrogates, so the row that has them can be named.
    text = io.StringIO(data.decode("utf-8-sig", errors="surrogateescape"), newline="")
    limit = csv.field_size_limit(sys.maxsize)  # the default of 131,072 characters is less than a long response
    try:
        reader = csv.DictReader(text)
        header = reader.fieldnames or []
        if len(set(header)) < len(header):
            raise PreferenceDataError(f"two columns have the same name (columns: {', '.join(header)}). Rename one.")
        for row in reader:
            if None in row or None in row.values():
                yield _BadRow(f"the number of fields is not that of the header, {len(header)}")
            elif re.search("[\ud800-\udfff]", "".join(row.values())):
                yield _BadRow("not UTF-8")
            else:
                yield row
    finally:
        csv.field_size_limit(limit)


def _read_parquet(data: bytes) -> Iterator[Any]:
    from pyarrow.parquet import ParquetFile

    for batch in ParquetFile(io.BytesIO(data)).iter_batches(batch_size=1024):
        yield from batch.to_pylist()


def _read_dataset(source: str, split: str) -> Iterator[Any]:
    from datasets import load_dataset

    try:
        yield from load_dataset(source, split=split)
    except Exception as error:  # datasets and its network stack share no base class
        raise PreferenceDataError(
            f"there is no file {source}, and datasets cannot load it as a hub id or folder, split {split!r}: "
            f"{type(error).__name__}: {error}"
        ) from error


READERS = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}


# From a record to a pair.


def _pair(record: Any, row: int, names: Mapping[str, str], *, has_prompt: bool) -> PreferencePair:
    if isinstance(record, _BadRow):
        raise record
    if not isinstance(record, dict):
        raise _BadRow(f"is of type {type(record).__name__}, expected an object with chosen and rejected")
    fields = {field: record.get(column) for field, column in names.items()}
    for field in ("chosen", "rejected"):
        if fields[field] is None:
            raise _BadRow(f"has no {names[field]!r} (columns: {', '.join(record)})")
    prompt, chosen, rejected = _texts(fields["prompt"], fields["chosen"], fields["rejected"], has_prompt)
    return PreferencePair(
        prompt=_with_context(_text("context", fields["context"]), prompt),
        chosen=chosen,
        rejected=rejected,
        id=_text("id", fields["id"]) or str(row),
        margin=_margin(fields["margin"]),
        split_key=fields["prompt"] if isinstance(fields["prompt"], str) else _split_key(prompt),
        source=_text("source", fields["source"]) or _text("subset", fields["subset"]),
    )


def _texts(prompt: Any, chosen: Any, rejected: Any, has_prompt: bool) -> tuple[Prompt, str, str]:
    """The prompt and the two responses of a row in any of the schemas, without context."""
    prompt = None if prompt is None else _read("prompt", prompt)
    if isinstance(prompt, list) and len(prompt) > 1 and prompt[-1] == {"role": "assistant", "content": ""}:
        prompt.pop()  # the "Assistant:" that ends an HH prompt
    if isinstance(chosen, str) and isinstance(rejected, str) and not _are_transcripts(chosen, rejected, prompt):
        if prompt is not None:
            return (prompt if isinstance(prompt, str) else tuple(prompt)), chosen, rejected
        if has_prompt:
            raise _BadRow("has no prompt, while other rows have one")
        return _split_shared_text(chosen, rejected)
    ours, theirs = _read("chosen", chosen), _read("rejected", rejected)
    if isinstance(ours, str) or isinstance(theirs, str):
        raise _BadRow("one of chosen and rejected is text, the other messages; expected the same for both")
    return _split_conversations(prompt, ours, theirs)


def _read(field: str, value: Any) -> str | list[Message]:
    """Text stays text; an HH transcript and a list of messages become messages."""
    if isinstance(value, str):
        return _read_hh(value) if _is_hh(value) else value
    if not isinstance(value, list) or not value:
        raise _BadRow(f"{field} is of type {type(value).__name__}, expected text or messages, at least one")
    messages: list[Message] = []
    for message in value:
        role, content = (message.get("role"), message.get("content")) if isinstance(message, dict) else (None, None)
        if role not in ROLES or not isinstance(content, str):
            raise _BadRow(
                f"a message of {field} has role {role!r} and content of type {type(content).__name__}, "
                f"expected role {', '.join(ROLES)} and text"
            )
        messages.append({"role": role, "content": content})
    return messages


def _are_transcripts(chosen: str, rejected: str, prompt: Any) -> bool:
    """Beside a prompt, a text that begins with Human: but has no answer is the response of a confused model."""
    return all(_is_hh(text) and (prompt is None or "\n\nAssistant:" in text) for text in (chosen, rejected))


def _is_hh(text: str) -> bool:
    return re.match(r"\s*Human:", text) is not None


def _read_hh(text: str) -> list[Message]:
    parts = re.split(r"(?:\A\s*|\n\n)(Human|Assistant):", text)[1:]  # speaker, words, speaker, words, ...
    roles = {"Human": "user", "Assistant": "assistant"}
    turns = zip(parts[::2], parts[1::2], strict=True)
    return [{"role": roles[speaker], "content": words.strip()} for speaker, words in turns]


def _split_conversations(
    prompt: str | list[Message] | None, chosen: list[Message], rejected: list[Message]
) -> tuple[Prompt, str, str]:
    """The prompt is the `prompt` column, or the leading messages both conversations share, or both at once."""
    for field, messages in (("chosen", chosen), ("rejected", rejected)):
        if messages[-1]["role"] != "assistant":
            raise _BadRow(f"the last message of {field} is the {messages[-1]['role']}'s, expected the assistant's")
    shared = []
    for ours, theirs in zip(chosen[:-1], rejected[:-1], strict=False):
        if ours != theirs:
            break
        shared.append(ours)
    if len(chosen) > len(shared) + 1 or len(rejected) > len(shared) + 1:
        after = max(len(chosen), len(rejected)) - len(shared)
        where = "after the shared prompt" if shared else "and no shared prompt"
        raise _BadRow(f"has {after} messages {where}, expected one, the assistant's response")
    given: list[Message] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt or []
    if shared and not all(_repeats(message["content"], shared) for message in given):
        raise _BadRow("the prompt is another than the one chosen and rejected begin with")
    if not given and not shared:
        raise _BadRow("has no prompt, and chosen and rejected share no message")
    return tuple(shared or given), chosen[-1]["content"], rejected[-1]["content"]


def _repeats(text: str, messages: Iterable[Message]) -> bool:
    """Whether a message holds the text or the reverse: prompt columns differ from it by a template or white space."""
    contents = [message["content"].strip() for message in messages]
    return any(text.strip() in content or (content and content in text) for content in contents)


def _split_shared_text(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Cut the prompt where the two texts part, at a word's end, so that prompt + response is the text again.

    >>> _split_shared_text("The sky is blue.", "The sky is green.")
    ('The sky is', ' blue.', ' green.')
    """
    parted = (i for i, (ours, theirs) in enumerate(zip(chosen, rejected, strict=False)) if ours != theirs)
    cut = next(parted, min(len(chosen), len(rejected)))
    while cut and not all(text[cut : cut + 1].isspace() or cut == len(text) for text in (chosen, rejected)):
        cut -= 1
    if not chosen[:cut].strip():
        raise _BadRow("has no prompt, and chosen and rejected do not begin with the same words")
    return chosen[:cut], chosen[cut:], rejected[cut:]


def _with_context(context: str, prompt: Prompt) -> Prompt:
    """The context goes before the prompt's text; in a conversation, before the first message of the user."""
    if not context:
        return prompt
    if isinstance(prompt, str):
        return f"{context}\n\n{prompt}"
    first = next((i for i, message in enumerate(prompt) if message["role"] == "user"), 0)
    message = {**prompt[first], "content": f"{context}\n\n{prompt[first]['content']}"}
    return (*prompt[:first], message, *prompt[first + 1 :])


def _split_key(prompt: Prompt) -> str:
    """One user message has the key of the same prompt as text, so files of both forms split alike."""
    if isinstance(prompt, str):
        return prompt
    if [message["role"] for message in prompt] == ["user"]:
        return prompt[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)


def _margin(value: Any) -> float | None:
    if value is None or value == "":  # a CSV has no other way to leave it out
        return None
    try:
        margin = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        margin = math.nan
    if not math.isfinite(margin):
        raise _BadRow(f"margin is {value!r:.40}, expected a finite number")
    return margin


def _text(field: str, value: Any) -> str:
    """The text of an optional field; a number becomes text."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _BadRow(f"{field} is of type {type(value).__name__}, expected text")
    return str(value)
