"""A shard of an audit folder: the scored pairs of some records, one row a pair, and how a row becomes a result again.

Margin, scores, values, rewards and contributions in logits:

    row, number                 the record's number from 1; the pair's place in its record from 0
    digest                      `pair_id` of the texts
    id, source                  the data's own
    prompt, prompt_text         JSON: text or messages; and readable
    turns, language             messages of the user in the prompt; what a column language or lang says, else ""
    chosen, rejected            the responses
    label_probability           that chosen is preferred: 1, of a tie 0.5
    chosen_score, rejected_score, margin
    chosen_…, rejected_…        starts, ends, tokens (N,); values, rewards, weights, contributions (N + 1,), as in
                                `ScoredResponse`; dropped_sentences, cut_prompt_tokens
    metadata                    JSON: the record's other plain columns
    file metadata               model, segmenter, problems [[row, reason], …], rows: records covered
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

import duckdb
import pyarrow
import pyarrow.parquet

from ..errors import AuditError
from ..preferences import SIDES, PreferencePair, RowProblem, split_key
from ..results import ModelInfo, Prompt, ScoredPair, ScoredResponse, SegmenterInfo, Span
from ..words import SURROGATES

STALE = 24 * 3600  # seconds
SENTENCE_COLUMNS = ("values", "rewards", "weights", "contributions")
_OF_SIDE = {
    **dict.fromkeys(("starts", "ends", "tokens"), pyarrow.list_(pyarrow.int32())),
    **dict.fromkeys(SENTENCE_COLUMNS, pyarrow.list_(pyarrow.float64())),
    **dict.fromkeys(("dropped_sentences", "cut_prompt_tokens"), pyarrow.int32()),
}
SCHEMA = pyarrow.schema(
    {
        "row": pyarrow.int64(),
        "number": pyarrow.int32(),
        **dict.fromkeys(("digest", "id", "source", "prompt", "prompt_text"), pyarrow.string()),
        "turns": pyarrow.int32(),
        **dict.fromkeys(("language", "chosen", "rejected"), pyarrow.string()),
        **dict.fromkeys(("label_probability", "chosen_score", "rejected_score", "margin"), pyarrow.float64()),
        **{f"{side}_{name}": kind for side in SIDES for name, kind in _OF_SIDE.items()},
        "metadata": pyarrow.string(),
    }
)


def pair_id(prompt: Prompt, chosen: str, rejected: str, probability: float = 1.0) -> str:
    """What names a pair: 16 hex digits of its texts, the same whichever is chosen, and a letter from a to d for its
    label: which response it prefers, or a tie and which is called chosen. Which letter is which depends on the texts,
    so that an id does not show an annotator the label at a glance.

    >>> one, other = pair_id("Hi", "Hello.", "No."), pair_id("Hi", "No.", "Hello.")
    >>> one[:16] == other[:16], one == other, pair_id("Hi", "Hello.", "No.", 0.2) == other
    (True, False, True)
    """
    sides = [SURROGATES.sub("\ufffd", text) for text in (chosen, rejected)]
    digest = hashlib.sha256(to_json([prompt, sorted(sides)]).encode()).hexdigest()
    first = (sides[0] <= sides[1]) == (probability >= 0.5)  # whether the preferred one sorts first
    return digest[:16] + _LABELS[(2 * (probability == 0.5) + first + int(digest[:2], 16)) % 4]


def texts_of(pair_id: str) -> str:
    """The part of an id that is of the texts alone."""
    return pair_id[:16]


def without_number(pair_id: str) -> str:
    """The part of an id that copies of a pair share: the first has no number."""
    return pair_id.partition("-")[0]


def is_tie(pair_id: str) -> bool:
    """Whether the label of the pair is a tie."""
    return (_LABELS.index(pair_id[16]) - int(pair_id[:2], 16)) % 4 > 1


_LABELS = "abcd"


def to_json(value: Any) -> str:
    """JSON that a file can hold: halves of a character become U+FFFD, as the tokenizer reads them."""
    return SURROGATES.sub("\ufffd", json.dumps(value, sort_keys=True, ensure_ascii=False, default=str))


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A name to write to, this block's own; what was written there stands at `path` when the block ends well, and is
    gone otherwise.

    Raises:
        AuditError: in place of an error of the disk.
    """
    aside = path.with_name(f".{path.name}.{token_hex(4)}.partial")
    try:
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(aside, path)
    except (OSError, duckdb.IOException) as error:
        raise AuditError(
            f"cannot write {path}: {error}. What stands is whole: free some space or mend the folder, and start the "
            "same command again."
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def remove_partial(folder: Path) -> None:
    """Delete what killed processes have left of `written_whole`: what is a day old."""
    for one in folder.glob(".*.partial"):
        with suppress(FileNotFoundError):  # the process that wrote it is done
            if time.time() - one.lstat().st_mtime > STALE:
                shutil.rmtree(one) if one.is_dir() else one.unlink()


def shard_path(path: Path, number: int) -> Path:
    return path / "shards" / f"{number:05d}.parquet"


def to_row(
    row: int, number: int, pair: PreferencePair, scored: Mapping[str, ScoredResponse], metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """A row of `SCHEMA`. Prompt and responses are those that were scored: pre-tokenised pairs may have none."""
    chosen, rejected = scored["chosen"], scored["rejected"]
    prompt = chosen.prompt
    language = metadata.get("language", metadata.get("lang"))
    values = {
        "row": row,
        "number": number,
        "digest": pair_id(prompt, chosen.text, rejected.text, pair.probability),
        "id": pair.id,
        "source": pair.source,
        "prompt": to_json(prompt),
        "prompt_text": split_key(prompt),
        "turns": 1 if isinstance(prompt, str) else sum(message["role"] == "user" for message in prompt),
        "language": language if isinstance(language, str) else "",
        "label_probability": pair.probability,
        "margin": chosen.score - rejected.score,
        "metadata": to_json(metadata),
    }
    for side, one in scored.items():
        own = {name: getattr(one, name) for name in (*SENTENCE_COLUMNS, "tokens", "score")}
        own |= {"starts": [span.start for span in one.spans], "ends": [span.end for span in one.spans]}
        own |= {"dropped_sentences": one.dropped_sentences, "cut_prompt_tokens": one.cut_prompt_tokens}
        values |= {side: one.text, **{f"{side}_{name}": value for name, value in own.items()}}
    return values


def read_rows(
    shard: Path, places: Collection[tuple[int, int]]
) -> tuple[dict[tuple[int, int], dict[str, Any]], Mapping[bytes, bytes]]:
    """(row, number) -> the row there, and the file's metadata. Raises AuditError if the shard is damaged."""
    with _damage_said(shard):
        table = pyarrow.parquet.read_table(shard, filters=[("row", "in", [row for row, _ in places])])
        found = {(row["row"], row["number"]): row for row in table.to_pylist()}
        return {place: found[place] for place in places}, table.schema.metadata


def read_problems(shard: Path) -> list[RowProblem]:
    """What was left out of a shard. Raises AuditError if the shard is damaged."""
    with _damage_said(shard):
        return [RowProblem(*one) for one in json.loads(pyarrow.parquet.read_schema(shard).metadata[b"problems"])]


def read_count(shard: Path) -> int:
    """Records of the data that a shard covers. Raises AuditError if the shard is damaged."""
    with _damage_said(shard):
        return int(json.loads(pyarrow.parquet.read_schema(shard).metadata[b"rows"]))


def scored_pair(row: Mapping[str, Any], file: Mapping[bytes, bytes]) -> ScoredPair:
    """What the scorer gave, of a row and the metadata of its file."""
    model, segmenter = ModelInfo(**json.loads(file[b"model"])), SegmenterInfo(**json.loads(file[b"segmenter"]))
    return ScoredPair(row["id"], *(_response(row, side, model, segmenter) for side in SIDES))


def preference_pair(row: Mapping[str, Any]) -> PreferencePair:
    """What was scored: texts, id, source and label."""
    texts = _prompt(row), row["chosen"], row["rejected"]
    return PreferencePair(*texts, row["id"], source=row["source"], probability=row["label_probability"])


def _prompt(row: Mapping[str, Any]) -> Prompt:
    prompt = json.loads(row["prompt"])
    return prompt if isinstance(prompt, str) else tuple(prompt)


def _response(row: Mapping[str, Any], side: str, model: ModelInfo, segmenter: SegmenterInfo) -> ScoredResponse:
    own = {name: row[f"{side}_{name}"] for name in _OF_SIDE}
    return ScoredResponse(
        prompt=_prompt(row),
        text=row[side],
        spans=tuple(map(Span, own["starts"], own["ends"])),
        tokens=tuple(own["tokens"]),
        **{name: tuple(own[name]) for name in SENTENCE_COLUMNS},
        score=row[f"{side}_score"],
        dropped_sentences=own["dropped_sentences"],
        cut_prompt_tokens=own["cut_prompt_tokens"],
        model=model,
        segmenter=segmenter,
    )


@contextmanager
def _damage_said(shard: Path) -> Iterator[None]:
    try:
        yield
    except (pyarrow.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise AuditError(f"{shard} is damaged: {error}. Delete it and start the same sentrm audit again.") from error
