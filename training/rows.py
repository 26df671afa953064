"""Preference pairs become encoded rows, once: a second run reads the cache.

A row is what one prompt's responses become: `ids` and `boundaries` of its K sequences (K = 2 for a pair, chosen first),
and C `comparisons` of [winner, loser], each with the `probability` that the winner is preferred and a `margin`;
`length` counts the tokens of all K.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Features, List, Value

from sentrm.encoding import Encoder, SequenceTooLongError
from sentrm.errors import EncodingError, SentrmError
from sentrm.preferences import PreferencePair
from sentrm.segmentation import Segmenter, SegmenterSpec, load_segmenter

ROW_FEATURES = {
    "ids": List(List(Value("int32"))),
    "boundaries": List(List(Value("int32"))),
    "comparisons": List(List(Value("int32"))),
    "probability": List(Value("float64")),
    "margin": List(Value("float64")),
    "length": Value("int64"),
}
# What became of a row on the way; taken off before training. `kept` are the places of its comparisons in `compared`.
FATE_FEATURES = {
    "kept": List(Value("int64")),
    "dropped": Value("int64"),
    "cut": Value("int64"),
    "problem": Value("string"),
}
COUNTS = (
    "pairs_too_long",
    "pairs_refused",
    "pairs_of_equal_responses",
    "sequences_with_dropped_sentences",
    "sequences_with_cut_prompt",
)
SEGMENTERS: dict[SegmenterSpec, Segmenter] = {}  # handed to forked processes by memory: SaT cannot be pickled
ROWS_A_PROCESS = 1000  # fewer are not worth a process


def encode_pairs(
    pairs: Sequence[PreferencePair],
    segmenter: Segmenter,
    encoder: Encoder,
    *,
    num_proc: int = 1,
    cache_dir: str | Path | None = None,
) -> tuple[Dataset, list[PreferencePair], dict[str, int]]:
    """Segment and encode pairs for training, once: a second run with the same content reads the cache.

    Args:
        pairs: those that share a `group` and a prompt become one row, which holds each response once.
        num_proc: processes that share the work, one at most a thousand rows.
        cache_dir: folder of the cache. The file's name is a digest of the pairs' content, the segmenter with its
            revision, and all that the encoder depends on. Without it nothing is kept.

    Returns:
        The rows (see the top of this file); the pairs they hold, in the order of all rows' comparisons one after the
        other (so row r of plain pairs is pair r); and counts: pairs left out because a first sentence did not fit, the
        chat template refused them or both responses are the same as read (as texts, or in what is left of them: such a
        pair has no gradient), sequences that lost sentences, sequences whose prompt was cut.
    """
    rows = grouped_rows(pairs)
    texts = [json.dumps(content_of(row)) for row in rows]
    digest = hashlib.sha256()
    for part in (*texts, str(segmenter.spec), segmenter.revision, encoder.fingerprint, *ROW_FEATURES, *FATE_FEATURES):
        digest.update(f"{part}\n".encode())
    fingerprint = digest.hexdigest()[:32]  # datasets takes 64 characters, and adds some of its own
    processes = min(num_proc, 1 + len(rows) // ROWS_A_PROCESS)
    if segmenter.spec.backend == "entropy" and torch.accelerator.is_available():
        processes = 1  # an accelerator is not to be used by a forked process
    if not rows:
        nothing: dict[str, list[Any]] = {name: [] for name in ROW_FEATURES}
        return Dataset.from_dict(nothing, Features(ROW_FEATURES)), [], dict.fromkeys(COUNTS, 0)
    SEGMENTERS[segmenter.spec] = segmenter
    try:
        if cache_dir is not None:
            Path(cache_dir).mkdir(parents=True, exist_ok=True)
        dataset = Dataset.from_dict({"content": texts}).map(
            _encode_batch,
            batched=True,
            batch_size=64,
            fn_kwargs={"spec": segmenter.spec, "encoder": encoder, "forked": processes > 1},
            remove_columns=["content"],
            features=Features(ROW_FEATURES | FATE_FEATURES),
            num_proc=processes if processes > 1 else None,  # 1 would be a process of its own
            new_fingerprint=fingerprint,
            cache_file_name=None if cache_dir is None else str(Path(cache_dir) / f"encoded-{fingerprint}.arrow"),
            desc="segmenting and encoding",
        )
    except OSError as error:
        raise SentrmError(
            f"cannot write encoded rows to {cache_dir}: {error}. Free space or choose another."
        ) from error
    finally:
        SEGMENTERS.clear()
    counts = dict.fromkeys(COUNTS, 0)
    fates = dataset.select_columns(list(FATE_FEATURES)).to_list()
    good = [i for i, fate in enumerate(fates) if count_fate(rows[i], fate, counts)]
    dataset = dataset.remove_columns(list(FATE_FEATURES))
    kept = [compared(rows[i])[place] for i in good for place in fates[i]["kept"]]
    return (dataset if len(good) == len(rows) else dataset.select(good)), kept, counts


def count_fate(row: Sequence[PreferencePair], fate: Mapping[str, Any], counts: dict[str, int]) -> bool:
    """Count what became of a row; whether it was encoded. The first five of a kind that were not are printed."""
    counts["sequences_with_dropped_sentences"] += fate["dropped"]
    counts["sequences_with_cut_prompt"] += fate["cut"]
    counts["pairs_of_equal_responses"] += len(row) - len(fate["kept"])
    if not fate["problem"]:
        return True
    kind, reason = fate["problem"].split(": ", 1)
    counts[kind] += len(fate["kept"])
    if counts[kind] <= 5:
        print(f"pair {row[0].id} left out: {reason}")
    return False


def grouped_rows(pairs: Sequence[PreferencePair]) -> list[list[PreferencePair]]:
    """The pairs of each row: one, or all of a group with the same prompt."""
    rows: dict[object, list[PreferencePair]] = {}
    for i, pair in enumerate(pairs):
        key = json.dumps([pair.group, pair.prompt, pair.tools, dict(pair.chat_template_kwargs)]) if pair.group else i
        rows.setdefault(key, []).append(pair)
    return list(rows.values())


def compared(row: Sequence[PreferencePair]) -> list[PreferencePair]:
    """The pairs of a row, without those of a ranked row whose two responses are the same text."""
    return [pair for pair in row if not pair.group or pair.chosen != pair.rejected]


def content_of(row: Sequence[PreferencePair]) -> dict[str, Any]:
    """What of a row's pairs decides its encoding, and the numbers that go with it."""
    first, pairs = row[0], compared(row)
    responses = [text for pair in row for text in (pair.chosen, pair.rejected)]
    comparisons = [[0, 1]]
    if first.group:
        places = {text: i for i, text in enumerate(dict.fromkeys(responses))}
        responses = list(places)
        comparisons = [[places[pair.chosen], places[pair.rejected]] for pair in pairs]
    return {
        "prompt": first.prompt,
        "tools": first.tools,
        "chat_template_kwargs": dict(first.chat_template_kwargs),
        "responses": responses,
        "tokens": None if first.tokens is None else [first.tokens.ids, first.tokens.boundaries],
        "comparisons": comparisons,
        "probability": [pair.probability for pair in pairs],
        "margin": [pair.margin or 0.0 for pair in pairs],
    }


def _encode_batch(
    batch: dict[str, list[str]], spec: SegmenterSpec, encoder: Encoder, forked: bool
) -> dict[str, list[Any]]:
    if spec not in SEGMENTERS:  # a process that was spawned
        SEGMENTERS[spec] = load_segmenter(spec, encoder.tokenizer)
    if forked:  # the threads of torch's pool did not come along: an operation that waits for them hangs
        torch.set_num_threads(1)
    rows = encode_rows([json.loads(text) for text in batch["content"]], SEGMENTERS[spec], encoder)
    return {name: [row[name] for row in rows] for name in rows[0]}


def encode_rows(contents: Sequence[dict[str, Any]], segmenter: Segmenter, encoder: Encoder) -> list[dict[str, Any]]:
    """The rows with their fates."""
    texts = [text for content in contents if content["tokens"] is None for text in content["responses"]]
    spans = iter(segmenter.spans(texts))
    rows = []
    for content in contents:
        row = {name: content[name] for name in ("comparisons", "probability", "margin")}
        row |= {"ids": [], "boundaries": [], "dropped": 0, "cut": 0, "problem": ""}
        row["kept"] = list(range(len(content["comparisons"])))
        if not content["comparisons"]:
            next(spans)
            row["problem"] = "pairs_of_equal_responses: all its responses are the same text"
        elif content["tokens"] is None:
            sentences = list(islice(spans, len(content["responses"])))
            given = {name: content[name] for name in ("tools", "chat_template_kwargs")}
            try:
                encoded = encoder.encode_all(content["prompt"], content["responses"], sentences, **given)
                row["ids"], row["boundaries"] = [one.ids for one in encoded], [one.boundaries for one in encoded]
                row["dropped"] = sum(one.dropped_sentences > 0 for one in encoded)
                row["cut"] = sum(one.cut_prompt_tokens > 0 for one in encoded)
            except SequenceTooLongError as error:
                row["problem"] = f"pairs_too_long: {error}"
            except EncodingError as error:
                row["problem"] = f"pairs_refused: {error}"
        else:
            row["ids"], row["boundaries"] = content["tokens"]
            longest, largest = max(map(len, row["ids"])), max(map(max, row["ids"]))
            if longest > encoder.max_length:
                row["problem"] = f"pairs_too_long: got {longest} tokens, the model reads {encoder.max_length}"
            elif largest >= len(encoder.tokenizer):
                size = len(encoder.tokenizer)
                row["problem"] = f"pairs_refused: token id {largest} is none of the tokenizer's {size}"
        if not row["problem"]:
            read = list(zip(row["ids"], row["boundaries"], strict=True))
            row["kept"] = [i for i, (one, two) in enumerate(row["comparisons"]) if read[one] != read[two]]
            for name in ("comparisons", "probability", "margin"):
                row[name] = [row[name][i] for i in row["kept"]]
            if not row["kept"]:
                row["problem"] = "pairs_of_equal_responses: its responses are the same as far as the model reads them"
        row["problem"] = row["problem"].encode("utf-8", "replace").decode()  # Arrow refuses lone surrogates
        row["length"] = sum(map(len, row["ids"]))
        rows.append(row)
    return rows
