"""Preference files become mixtures of training pairs, and the tenth of the prompts that is held out."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain, islice, takewhile
from pathlib import Path
from typing import Any

from sentrm.errors import PreferenceDataError
from sentrm.preferences import PreferencePair, load_preferences

from .corruptions import Corruptor, GoodResponse
from .rows import COUNTS, grouped_rows


@dataclass(frozen=True)
class DataSource:
    """One file of a training mixture, as it stands in a recipe."""

    path: str  # a file, relative to the data folder, or a hub id
    split: str = "train"  # of a hub data set
    pairs: int | None = None  # at most so many training rows, drawn by the seed; all if not given
    weight: float | None = None  # share of the training rows, relative to the other sources' weights
    licence: str = ""  # for the model card
    origin: str = ""  # for the model card
    corrupted: int = (
        0  # versions, each with one sentence changed, that each chosen response is held against; 0 for none
    )

    def __post_init__(self) -> None:
        if self.corrupted < 0:
            raise PreferenceDataError(f"{self.path}: corrupted is {self.corrupted}; expected how many versions, or 0.")
        if self.pairs is not None and self.pairs < 1:
            raise PreferenceDataError(f"{self.path}: pairs is {self.pairs}; expected at least 1, or none for all.")
        if self.weight is not None and not 0 < self.weight < math.inf:
            raise PreferenceDataError(f"{self.path}: weight is {self.weight}; expected a number above 0.")

    @property
    def name(self) -> str:
        return Path(self.path).name.split(".")[0] + ("-corrupted" if self.corrupted else "")

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


def key_of(pair: PreferencePair, begun: Mapping[int, str]) -> str:
    """Whose hash decides the side: the pair's split key, or where its prompt is implicit how that begins."""
    return (pair.implicit_prompt and begins_as(pair, begun)) or pair.split_key


def _hashes(words: Sequence[Hashable]) -> list[int]:
    """Hash of the first word (or message), of the first two, and so on."""
    return list(accumulate(words, lambda before, word: hash((before, word)), initial=0))[1:]


def load_mixture(
    sources: Sequence[DataSource], folder: str, columns: Mapping[str, str | None], seed: int, strict: bool
) -> tuple[list[PreferencePair], list[PreferencePair], list[SourceCount]]:
    """Training pairs, held-out pairs and the counts; a pair's `source` is its file's name.

    The hash of the raw prompt decides the side, and that of its beginning where a prompt is implicit (`beginnings`); a
    training pair whose prompt reads as a held-out one's, as its beginning or as its continuation is left out.
    With weights, the training rows are the largest number that has the weights' proportions and repeats nothing:
    with n_i rows at hand (at most `pairs`) and shares p_i, source i gives p_i · min_j(n_j / p_j) rows, rounded, drawn
    by the seed. A row is a pair, or all pairs of one ranked row. The pairs of a corrupted source are those of
    `corrupted_pairs`.

    Raises:
        PreferenceDataError: if a source cannot be read, or has a weight while another has none.
    """
    shares = shares_of(sources)
    train: list[list[list[PreferencePair]]] = []  # source, row, pair
    held_out: list[PreferencePair] = []
    counts = []
    found = [(source.found_in(folder), source.split) for source in sources]
    loaded = {  # once, also where a file is listed as it is and corrupted
        (path, split): load_preferences(path, columns=columns, split=split, strict=strict)
        for path, split in dict.fromkeys(found)
    }
    files = [loaded[one] for one in found]
    any_implicit = any(pair.implicit_prompt for data in files for pair in data.pairs)
    begun = beginnings([data.pairs for data in files]) if any_implicit else {}
    keyed = [
        [replace(named(pair, source), split_key=key_of(pair, begun)) for pair in data.pairs]
        for source, data in zip(sources, files, strict=True)
    ]
    tested = TestedPrompts(pair for pairs in keyed for pair in pairs if is_held_out(pair.split_key))
    for source, data, pairs in zip(sources, files, keyed, strict=True):
        for problem in data.problems[:5]:
            print(f"{source.path}: row {problem.row} left out: {problem.reason}")
        if implicit := [pair.split_key for pair in pairs if pair.implicit_prompt]:
            groups = f"{len(implicit)} pairs without a prompt of their own, in {len(set(implicit))} groups"
            print(f"{source.path}: {groups} that begin alike; each is trained on or held out as a whole")
        if source.corrupted:
            pairs = corrupted_pairs(pairs, tested, seed, source.corrupted)
        ours = grouped_rows([pair for pair in pairs if not is_held_out(pair.split_key)])
        theirs = [pair for pair in pairs if is_held_out(pair.split_key)]
        if source.pairs is not None and source.pairs < len(ours):
            ours = random.Random(f"{seed} {source.name}").sample(ours, source.pairs)
        train.append(ours)
        held_out += theirs
        counts.append(SourceCount(source, data.rows, len(data.problems), held_out=len(theirs)))
    train = [[row for row in rows if row[0] not in tested] for rows in train]
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


def corrupted_pairs(
    pairs: Sequence[PreferencePair], tested: TestedPrompts, seed: int, versions: int
) -> list[PreferencePair]:
    """Each distinct chosen response against `versions` of it (one, where held out) with one sentence changed, each by
    another kind that applies, at random.

    Half of the training pairs, at random, end where the changed sentence does, so that its place can be learnt: what
    came before is the same, and the last value alone differs.

    What is borrowed for a version comes from chosen responses of the same side of the held-out split, and of sentences
    only those that no response of the other side holds. The seed draws the training pairs alone: as of any source,
    the held-out pairs are the same in every run. Left out are ties, pairs whose rejected response is more probably the
    better one, pre-tokenised ones, training pairs whose prompt is in `tested`, and responses that no kind applies to.
    """
    corrupted = []
    texts_of: dict[bool, list[str]] = {False: [], True: []}
    for pair in pairs:
        texts_of[is_held_out(pair.split_key)] += [pair.chosen, pair.rejected]
    for held_out in (False, True):
        good: dict[tuple[str, str], tuple[PreferencePair, GoodResponse]] = {}
        for pair in pairs:
            if pair.probability <= 0.5 or pair.tokens is not None or is_held_out(pair.split_key) != held_out:
                continue
            if held_out or pair not in tested:
                response = GoodResponse(pair.prompt, pair.chosen, pair.split_key)
                good.setdefault((json.dumps(pair.prompt), pair.chosen), (pair, response))
        responses = [response for _, response in good.values()]
        corruptor = Corruptor(responses, texts_of[not held_out], held_out=held_out, seed=0 if held_out else seed)
        for pair, response in good.values():
            for bad in islice(corruptor.versions(response), 1 if held_out else versions):
                chosen, rejected = pair.chosen, bad.text
                here = next((one for one in corruptor.sentences(chosen) if one.end > bad.start), None)
                if not held_out and here and random.Random(f"{seed} {rejected}").random() < 0.5:
                    chosen, rejected = chosen[: here.end], rejected[: bad.end]
                texts: dict[str, Any] = {"chosen": chosen, "rejected": rejected, "id": f"{pair.id}:{bad.kind}"}
                corrupted.append(replace(pair, **texts, margin=None, probability=1.0, group=""))
    return corrupted


class TestedPrompts:
    """The prompts of held-out pairs. A pair is `in` them if its prompt, as messages, is one of them, begins with one
    or is what one begins with: a turn of a conversation gives away what the others are about."""

    def __init__(self, pairs: Iterable[PreferencePair]) -> None:
        heads = [_hashes(as_read(pair)) for pair in pairs]
        self.whole = {whole for one in heads for whole in one[-1:]}
        self.begun = set(chain.from_iterable(heads))

    def __contains__(self, pair: PreferencePair) -> bool:
        found = _hashes(as_read(pair))
        return not self.whole.isdisjoint(found) or not self.begun.isdisjoint(found[-1:])


def as_read(pair: PreferencePair) -> tuple[tuple[str, str], ...]:
    """The prompt as messages: files of different schemas may hold one prompt under different raw texts."""
    if pair.tokens is not None:
        return (("tokens", pair.split_key),)
    messages = [{"role": "user", "content": pair.prompt}] if isinstance(pair.prompt, str) else pair.prompt
    return tuple((message["role"], message["content"].strip()) for message in messages)
