"""Preference files become encoded pairs, split by prompt."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets import Dataset
from torch import Tensor, tensor

from sentrm.batching import pad
from sentrm.encoding import Encoder
from sentrm.errors import EncodingError
from sentrm.preferences import PreferenceData, PreferencePair, load_preferences
from sentrm.segmentation import Segmenter


@dataclass(frozen=True)
class DataSource:
    """One file of a training mixture, as it stands in a recipe."""

    path: str  # a file, relative to the data folder, or a hub id
    split: str = "train"  # of a hub data set
    pairs: int | None = None  # at most so many training pairs, drawn by the seed; all if not given
    licence: str = ""  # for the model card
    origin: str = ""  # for the model card


@dataclass(frozen=True)
class SourceCount:
    """What became of the rows of one source."""

    source: DataSource
    rows: int
    bad_rows: int
    train: int
    held_out: int


def is_held_out(split_key: str) -> bool:
    """Whether a prompt belongs to the held-out tenth: a property of its text alone, so no run ever trains on it."""
    return int(hashlib.sha256(split_key.encode("utf-8", "surrogatepass")).hexdigest(), 16) % 10 == 0


def load_mixture(
    sources: Sequence[DataSource], folder: str, columns: Mapping[str, str | None], seed: int, strict: bool
) -> tuple[list[PreferencePair], list[PreferencePair], list[SourceCount]]:
    """Training pairs, held-out pairs and the counts; a pair's `source` is its file's name.

    The hash of the raw prompt decides the side; a training pair whose prompt reads as a held-out one's is left out.

    Raises:
        PreferenceDataError: if a source cannot be read.
    """
    read: list[tuple[DataSource, PreferenceData, list[PreferencePair], list[PreferencePair]]] = []
    for source in sources:
        path = Path(folder) / source.path
        data = load_preferences(
            path if path.exists() else source.path, columns=columns, split=source.split, strict=strict
        )
        for problem in data.problems[:5]:
            print(f"{source.path}: row {problem.row} left out: {problem.reason}")
        name = Path(source.path).name.split(".")[0]
        named = [replace(pair, source=name, id=f"{name}:{pair.id}") for pair in data.pairs]
        ours = [pair for pair in named if not is_held_out(pair.split_key)]
        theirs = [pair for pair in named if is_held_out(pair.split_key)]
        if source.pairs is not None and source.pairs < len(ours):
            ours = random.Random(f"{seed} {name}").sample(ours, source.pairs)
        read.append((source, data, ours, theirs))
    held_out = [pair for *_, theirs in read for pair in theirs]
    tested = {_as_read(pair) for pair in held_out}
    train: list[PreferencePair] = []
    counts = []
    for source, data, ours, theirs in read:
        kept = [pair for pair in ours if _as_read(pair) not in tested]
        train += kept
        rows = len(data.pairs) + len(data.problems)
        counts.append(SourceCount(source, rows, len(data.problems), len(kept), len(theirs)))
    return train, held_out, counts


def _as_read(pair: PreferencePair) -> tuple[tuple[str, str], ...]:
    """The prompt as messages: files of different schemas may hold one prompt under different raw texts."""
    messages = [{"role": "user", "content": pair.prompt}] if isinstance(pair.prompt, str) else pair.prompt
    return tuple((message["role"], message["content"].strip()) for message in messages)


def encode_pairs(
    pairs: Sequence[PreferencePair], segmenter: Segmenter, encoder: Encoder
) -> tuple[Dataset, list[PreferencePair], dict[str, int]]:
    """Encode pairs for training.

    Returns:
        A data set with ids and boundaries of both sides, the margin and the longer side's length, one row a pair;
        the pairs it holds; and counts: pairs left out because a first sentence did not fit, sequences that lost
        sentences, sequences whose prompt was cut.
    """
    spans = segmenter.spans([text for pair in pairs for text in (pair.chosen, pair.rejected)])
    rows, kept = [], []
    counts = {"pairs_too_long": 0, "sequences_with_dropped_sentences": 0, "sequences_with_cut_prompt": 0}
    for pair, chosen_spans, rejected_spans in zip(pairs, spans[::2], spans[1::2], strict=True):
        try:
            chosen = encoder.encode(pair.prompt, pair.chosen, chosen_spans)
            rejected = encoder.encode(pair.prompt, pair.rejected, rejected_spans)
        except EncodingError:
            counts["pairs_too_long"] += 1
            continue
        for one in (chosen, rejected):
            counts["sequences_with_dropped_sentences"] += one.dropped_sentences > 0
            counts["sequences_with_cut_prompt"] += one.cut_prompt_tokens > 0
        kept.append(pair)
        rows.append(
            {
                "chosen_ids": chosen.ids,
                "chosen_boundaries": chosen.boundaries,
                "rejected_ids": rejected.ids,
                "rejected_boundaries": rejected.boundaries,
                "margin": pair.margin or 0.0,
                "length": max(len(chosen.ids), len(rejected.ids)),
            }
        )
    return Dataset.from_list(rows), kept, counts


def collate(pairs: list[dict[str, Any]]) -> dict[str, Tensor]:
    """P pairs -> one padded batch of 2P rows, the chosen ones first, and `margin` (P,)."""
    ids = [pair[f"{side}_ids"] for side in ("chosen", "rejected") for pair in pairs]
    boundaries = [pair[f"{side}_boundaries"] for side in ("chosen", "rejected") for pair in pairs]
    return pad(ids, boundaries) | {"margin": tensor([pair["margin"] for pair in pairs])}
