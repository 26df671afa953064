"""Preference data become encoded rows, split by prompt.

A row is what one prompt's responses become: `ids` and `boundaries` of its K sequences (K = 2 for a pair, chosen first),
and C `comparisons` of [winner, loser], each with the `probability` that the winner is preferred and a `margin`;
`length` counts the tokens of all K.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice, takewhile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Features, List, Value

from sentrm.encoding import Encoder, SequenceTooLongError
from sentrm.errors import EncodingError, PreferenceDataError, SentrmError
from sentrm.preferences import PreferencePair, load_preferences
from sentrm.segmentation import Segmenter, SegmenterSpec, load_segmenter

ROW_FEATURES = {
    "ids": List(List(Value("int32"))),
    "boundaries": List(List(Value("int32"))),
    "comparisons": List(List(Value("int32"))),
    "probability": List(Value("float64")),
    "margin": List(Value("float64")),
    "length": Value("int64"),
}
# What became of a row on the way; taken off before training.
FATE_FEATURES = {"dropped": Value("int64"), "cut": Value("int64"), "problem": Value("string")}
COUNTS = (
    "pairs_too_long",
    "pairs_refused",
    "pairs_of_equal_responses",
    "sequences_with_dropped_sentences",
    "sequences_with_cut_prompt",
)
SEGMENTERS: dict[SegmenterSpec, Segmenter] = {}  # handed to forked processes by memory: SaT cannot be pickled
ROWS_A_PROCESS = 1000  # fewer are not worth a process


@dataclass(frozen=True)
class DataSource:
    """One file of a training mixture, as it stands in a recipe."""

    path: str  # a file, relative to the data folder, or a hub id
    split: str = "train"  # of a hub data set
    pairs: int | None = None  # at most so many training rows, drawn by the seed; all if not given
    weight: float | None = None  # share of the training rows, relative to the other sources' weights
    licence: str = ""  # for the model card
    origin: str = ""  # for the model card

    def __post_init__(self) -> None:
        if self.pairs is not None and self.pairs < 1:
            raise PreferenceDataError(f"{self.path}: pairs is {self.pairs}; expected at least 1, or none for all.")
        if self.weight is not None and not 0 < self.weight < math.inf:
            raise PreferenceDataError(f"{self.path}: weight is {self.weight}; expected a number above 0.")

    @property
    def name(self) -> str:
        return Path(self.path).name.split(".")[0]

    def found_in(self, folder: str) -> str:
        """The path of the file, or the hub id."""
        path = Path(folder) / self.path
        return str(path) if path.exists() else self.path


@dataclass
class SourceCount:
    """What became of the rows of one source; of a stream, since its current pass began."""

    source: DataSource
    rows: int = 0
    bad_rows: int = 0
    train: int = 0  # pairs
    held_out: int = 0  # pairs
    encoding: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))  # of a stream


def is_held_out(split_key: str) -> bool:
    """Whether a prompt belongs to the held-out tenth: a property of its text alone, so no run ever trains on it.

    Of an implicit prompt, whose end is unknown, its beginning decides: a property of the whole mixture.
    """
    return int(hashlib.sha256(split_key.encode("utf-8", "surrogatepass")).hexdigest(), 16) % 10 == 0


def beginnings(files: Sequence[Sequence[PreferencePair]]) -> dict[int, str]:
    """How the prompts of all files begin, by hash of the words (or token ids), so that pairs of one prompt agree.

    An explicit prompt is its own beginning. An implicit one holds the words that both its responses begin with, others
    in each pair: where it ends is unknown. So it counts as that of each pair that begins with its first half, beyond
    what all pairs of the file begin with (a chat template, say); the shortest halves come first. Pairs of one prompt
    then have one beginning if a pair of them shares no more words of its responses than the prompt has of its own.
    """
    explicit = (pair.split_key for pairs in files for pair in pairs if not pair.implicit_prompt)
    begun = {_hashes(key.split())[-1]: key for key in explicit if key.strip()}
    halves: dict[tuple[str, ...], int] = {}
    for pairs in files:
        prompts = [pair.split_key.split() for pair in pairs if pair.implicit_prompt]
        ends = zip(min(prompts), max(prompts), strict=False) if prompts else ()
        common = sum(1 for _ in takewhile(lambda two: two[0] == two[1], ends))  # words
        for words in map(tuple, prompts):
            half = common + math.ceil((len(words) - common) / 2)
            halves[words] = min(half, halves.get(words, half))
    for words, half in sorted(halves.items(), key=lambda one: (one[1], one[0])):
        hashes = _hashes(words)
        if not any(prefix in begun for prefix in hashes):
            begun[hashes[half - 1]] = " ".join(words[:half])
    return begun


def begins_as(pair: PreferencePair, begun: Mapping[int, str]) -> str | None:
    """The shortest of `beginnings` that a pair's prompt begins with; None if there is none."""
    return next((begun[prefix] for prefix in _hashes(pair.split_key.split()) if prefix in begun), None)


def _hashes(words: Sequence[str]) -> list[int]:
    """Hash of the first word, of the first two, and so on."""
    return list(accumulate(words, lambda before, word: hash((before, word)), initial=0))[1:]


def load_mixture(
    sources: Sequence[DataSource], folder: str, columns: Mapping[str, str | None], seed: int, strict: bool
) -> tuple[list[PreferencePair], list[PreferencePair], list[SourceCount]]:
    """Training pairs, held-out pairs and the counts; a pair's `source` is its file's name.

    The hash of the raw prompt decides the side, and that of its beginning where a prompt is implicit (`beginnings`); a
    training pair whose prompt reads as a held-out one's is left out.
    With weights, the training rows are the largest number that has the weights' proportions and repeats nothing:
    with n_i rows at hand (at most `pairs`) and shares p_i, source i gives p_i · min_j(n_j / p_j) rows, rounded, drawn
    by the seed. A row is a pair, or all pairs of one ranked row.

    Raises:
        PreferenceDataError: if a source cannot be read, or has a weight while another has none.
    """
    shares = shares_of(sources)
    train: list[list[list[PreferencePair]]] = []  # source, row, pair
    held_out: list[PreferencePair] = []
    counts = []
    files = [
        load_preferences(source.found_in(folder), columns=columns, split=source.split, strict=strict)
        for source in sources
    ]
    any_implicit = any(pair.implicit_prompt for data in files for pair in data.pairs)
    begun = beginnings([data.pairs for data in files]) if any_implicit else {}
    for source, data in zip(sources, files, strict=True):
        for problem in data.problems[:5]:
            print(f"{source.path}: row {problem.row} left out: {problem.reason}")
        pairs = [
            replace(named(pair, source), split_key=(pair.implicit_prompt and begins_as(pair, begun)) or pair.split_key)
            for pair in data.pairs
        ]
        if implicit := [pair.split_key for pair in pairs if pair.implicit_prompt]:
            groups = f"{len(implicit)} pairs without a prompt of their own, in {len(set(implicit))} groups"
            print(f"{source.path}: {groups} that begin alike; each is trained on or held out as a whole")
        ours = _rows([pair for pair in pairs if not is_held_out(pair.split_key)])
        theirs = [pair for pair in pairs if is_held_out(pair.split_key)]
        if source.pairs is not None and source.pairs < len(ours):
            ours = random.Random(f"{seed} {source.name}").sample(ours, source.pairs)
        train.append(ours)
        held_out += theirs
        counts.append(SourceCount(source, data.rows, len(data.problems), held_out=len(theirs)))
    tested = {as_read(pair) for pair in held_out}
    train = [[row for row in rows if as_read(row[0]) not in tested] for rows in train]
    if shares is not None:
        most = min(len(rows) / share for rows, share in zip(train, shares, strict=True))
        for i, (source, share) in enumerate(zip(sources, shares, strict=True)):
            if not train[i]:
                raise PreferenceDataError(f"{source.path} has a weight, but no rows to train on. Leave it out.")
            drawn = round(most * share)
            print(f"{source.path}: {drawn} of {len(train[i])} rows drawn for {100 * share:.3g}% of the mixture")
            train[i] = random.Random(f"{seed} {source.name} weight").sample(train[i], drawn)
    for count, rows in zip(counts, train, strict=True):
        count.train = sum(map(len, rows))
    return [pair for rows in train for row in rows for pair in row], held_out, counts


def shares_of(sources: Sequence[DataSource]) -> list[float] | None:
    """The weights, scaled to add up to 1; None where no source has one."""
    weights = [source.weight for source in sources if source.weight is not None]
    if weights and len(weights) < len(sources):
        without = ", ".join(source.path for source in sources if source.weight is None)
        raise PreferenceDataError(f"no weight for {without}, while others have one; expected all or none.")
    return [weight / sum(weights) for weight in weights] or None


def named(pair: PreferencePair, source: DataSource) -> PreferencePair:
    group = f"{source.name}:{pair.group}" if pair.group else ""
    return replace(pair, source=source.name, id=f"{source.name}:{pair.id}", group=group)


def as_read(pair: PreferencePair) -> tuple[tuple[str, str], ...]:
    """The prompt as messages: files of different schemas may hold one prompt under different raw texts."""
    if pair.tokens is not None:
        return (("tokens", pair.split_key),)
    messages = [{"role": "user", "content": pair.prompt}] if isinstance(pair.prompt, str) else pair.prompt
    return tuple((message["role"], message["content"].strip()) for message in messages)


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
        chat template refused them or two ranked responses are the same text, sequences that lost sentences, sequences
        whose prompt was cut.
    """
    rows = _rows(pairs)
    texts = [json.dumps(content_of(row)) for row in rows]
    digest = hashlib.sha256()
    for part in (*texts, str(segmenter.spec), segmenter.revision, encoder.fingerprint):
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
    kept = [pair for i in good for pair in compared(rows[i])]
    return (dataset if len(good) == len(rows) else dataset.select(good)), kept, counts


def count_fate(row: Sequence[PreferencePair], fate: Mapping[str, Any], counts: dict[str, int]) -> bool:
    """Count what became of a row; whether it was encoded. The first five of a kind that were not are printed."""
    counts["sequences_with_dropped_sentences"] += fate["dropped"]
    counts["sequences_with_cut_prompt"] += fate["cut"]
    counts["pairs_of_equal_responses"] += len(row) - len(compared(row))
    if not fate["problem"]:
        return True
    kind, reason = fate["problem"].split(": ", 1)
    counts[kind] += len(compared(row))
    if counts[kind] <= 5:
        print(f"pair {row[0].id} left out: {reason}")
    return False


def _rows(pairs: Sequence[PreferencePair]) -> list[list[PreferencePair]]:
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
        row["problem"] = row["problem"].encode("utf-8", "replace").decode()  # Arrow refuses lone surrogates
        row["length"] = sum(map(len, row["ids"]))
        rows.append(row)
    return rows
