"""Training rows from data that does not fit in memory: read, segmented and encoded as they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from datasets import DatasetInfo, Features, IterableDataset, interleave_datasets
from datasets.iterable_dataset import ExamplesIterable

from sentrm.encoding import Encoder
from sentrm.errors import PreferenceDataError
from sentrm.preferences import PreferencePair, RowProblem, stream_preferences
from sentrm.segmentation import Segmenter

from .data import DataSource, SourceCount, TestedPrompts, beginnings, begins_as, is_held_out, named, shares_of
from .rows import COUNTS, ROW_FEATURES, content_of, count_fate, encode_rows

CHUNK = 16  # rows segmented and encoded at a time


def stream_mixture(
    sources: Sequence[DataSource],
    folder: str,
    columns: Mapping[str, str | None],
    seed: int,
    strict: bool,
    segmenter: Segmenter,
    encoder: Encoder,
    *,
    eval_pairs: int = 1000,
    buffer: int = 1000,
    passes: int | None = 1,
) -> tuple[IterableDataset, list[PreferencePair], list[SourceCount]]:
    """`load_mixture` and `encode_pairs` for data that does not fit in memory.

    The training rows are read, segmented and encoded as they are asked for, and shuffled in a buffer. With weights,
    each row comes from a source drawn with those probabilities, until one is at its end; without, the sources take
    turns until all are. `pairs` takes the first rows of a source.

    Args:
        eval_pairs: the first held-out pairs of each source, in the mixture's proportions, so many in all; found by
            reading each source as far as needed.
        buffer: rows the shuffling holds in memory.
        passes: how often the data are read; None is without end, as a run of a given number of steps wants it.

    Returns:
        The training rows; the held-out pairs; and the counts, which grow
        while this process reads the rows and are printed at the end of a source.
    """
    if corrupted := ", ".join(source.path for source in sources if source.corrupted):
        raise PreferenceDataError(f"{corrupted}: a corrupted source borrows from all its rows. Leave --streaming out.")
    shares = shares_of(sources)
    held_out: list[PreferencePair] = []
    for source, share in zip(sources, shares or [1 / len(sources)] * len(sources), strict=True):
        wanted, theirs = math.ceil(eval_pairs * share), list[PreferencePair]()
        for read in stream_preferences(source.found_in(folder), columns=columns, split=source.split, strict=strict):
            if isinstance(read, list):
                theirs += [named(pair, source) for pair in read if is_held_out(pair.split_key)]
            if len(theirs) >= wanted:
                break
        held_out += theirs[:wanted]
    held_out = held_out[:eval_pairs]
    tested, begun = TestedPrompts(held_out), beginnings([held_out])
    counts = [SourceCount(source) for source in sources]
    streams = []
    for count in counts:
        pairs = partial(_stream_pairs, count, folder, columns, strict, tested, begun)
        rows = ExamplesIterable(_row_reader(count, pairs, segmenter, encoder), {})
        streams.append(IterableDataset(rows, info=DatasetInfo(features=Features(ROW_FEATURES))))
    if len(streams) == 1:
        mixture = streams[0]
    elif shares is None:
        mixture = interleave_datasets(streams, stopping_strategy="all_exhausted_without_replacement")
    else:
        mixture = interleave_datasets(streams, probabilities=shares, seed=seed, stopping_strategy="first_exhausted")
    return mixture.repeat(passes).shuffle(seed=seed, buffer_size=buffer), held_out, counts


def _row_reader(
    count: SourceCount, pairs: Callable[[], Iterator[list[PreferencePair]]], segmenter: Segmenter, encoder: Encoder
) -> Callable[[], Iterator[tuple[int, dict[str, Any]]]]:
    """One pass over a source: its training rows, encoded, each with a number.

    A closure, because `datasets` copies the arguments of a generator at each pass (and `from_generator` hashes them):
    here that would be the counts, and the segmenter's weights.
    """

    def read() -> Iterator[tuple[int, dict[str, Any]]]:
        number, waiting = 0, pairs()
        while chunk := list(islice(waiting, CHUNK)):
            encoded = encode_rows(list(map(content_of, chunk)), segmenter, encoder)
            for row_pairs, row in zip(chunk, encoded, strict=True):
                if count_fate(row_pairs, row, count.encoding):
                    number += 1
                    yield number, {name: row[name] for name in ROW_FEATURES}
        print(
            f"{count.source.path}: {count.rows} rows, {count.bad_rows} bad; {count.train} pairs to train on, "
            f"{count.held_out} held out; {count.encoding}"
        )

    return read


def _stream_pairs(
    count: SourceCount,
    folder: str,
    columns: Mapping[str, str | None],
    strict: bool,
    tested: TestedPrompts,
    begun: Mapping[int, str],
) -> Iterator[list[PreferencePair]]:
    """The training pairs of a source, row by row, counted from 0."""
    source, taken = count.source, 0
    count.rows = count.bad_rows = count.train = count.held_out = 0
    count.encoding = dict.fromkeys(COUNTS, 0)
    for read in stream_preferences(source.found_in(folder), columns=columns, split=source.split, strict=strict):
        count.rows += 1
        if isinstance(read, RowProblem):
            count.bad_rows += 1
            if count.bad_rows <= 5:
                print(f"{source.path}: row {read.row} left out: {read.reason}")
        elif is_held_out(read[0].split_key):
            count.held_out += len(read)
        elif read[0] not in tested and not (read[0].implicit_prompt and begins_as(read[0], begun)):
            count.train += len(read)
            taken += 1
            yield [named(pair, source) for pair in read]
            if taken == source.pairs:
                return
