"""Known corruptions: a good response with one change to one sentence, so that it is known which sentence is bad.

    responses of one side of the held-out split -> Corruptor -> Corruption, or None where a kind does not apply

Sentences are those of `rules:en`, whatever the model's own segmenter is. All else of the response stays as it is: white
space, paragraphs, lists, code. Only English prose is changed, but for `number`, which changes any line outside fenced
code. A corruption is drawn by the seed, the prompt, the response, the kind and what can be borrowed, which is sorted:
the order of the rows does not matter. What it borrows, sentences and names, comes from responses of the same side of
the split; a sentence that a response of the other side holds too is not borrowed, a name may be. The hedges and the
rude sentences of the two sides differ. So no sentence that is borrowed for a test stands in training data of the same
file; those of another one may hold it.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sentrm.results import Prompt, Span
from sentrm.segmentation import load_segmenter

from .phrases import HEDGES, RUDE


@dataclass(frozen=True)
class GoodResponse:
    """What is corrupted."""

    prompt: Prompt
    text: str
    split_key: str  # whose hash decides the side: an irrelevant sentence comes from a response with another one

    @property
    def whole(self) -> str:
        """The text of all messages, this response the last."""
        prompt = [self.prompt] if isinstance(self.prompt, str) else [message["content"] for message in self.prompt]
        return "\n".join([*prompt, self.text])


@dataclass(frozen=True)
class Corruption:
    """A response with one changed sentence, the characters `[start, end)` of its text."""

    kind: str
    text: str
    start: int
    end: int


class Edit(NamedTuple):
    """Characters `[start, stop)` of a response become `text`, which is the changed sentence and space around it."""

    start: int
    stop: int
    text: str


@dataclass(frozen=True)
class Source:
    """What a kind reads: one response, and what may be borrowed."""

    response: GoodResponse
    sentences: list[Span]  # without the white space behind them
    borrowed: list[tuple[str, str]]  # (sentence, split key), sorted
    names: dict[str, list[str]]  # by `_sort_of`, sorted
    held_out: bool
    rng: random.Random

    def prose(self) -> list[tuple[int, int, str]]:
        """Start and end of each English sentence, in random order, and its text; behind its list marker."""
        found = []
        for start, end in self.sentences:
            start += len(_marker(self.response.text[start:end]))
            if is_prose(self.response.text[start:end]):
                found.append((start, end, self.response.text[start:end]))
        return self.rng.sample(found, len(found))

    def put_in(self, sentences: Iterable[str], after: int = -1) -> Iterator[Edit]:
        """Each of the sentences beside a random English one: before the first of the response, or behind any."""
        places = [end for _, end, _ in self.prose() if end >= after]
        first = self.sentences[0].start if self.sentences else 0
        before = after < 0 and any(start == first for start, _, _ in self.prose())
        for sentence in sentences:
            if not places:
                return
            place = self.rng.choice([*places, None] if before else places)
            yield Edit(first, first, f"{sentence} ") if place is None else Edit(place, place, f" {sentence}")


def irrelevant(source: Source) -> Iterator[Edit]:
    """A sentence of another prompt's response, which has no long word in common with prompt and response."""
    here = _long_words(source.response.whole)
    tries = source.rng.choices(source.borrowed, k=50) if source.borrowed else []
    yield from source.put_in(
        sentence
        for sentence, split_key in tries
        if split_key != source.response.split_key and not _long_words(sentence) & here
    )


def repetition(source: Source) -> Iterator[Edit]:
    """A sentence said again later; the second one is the changed one."""
    for _, end, sentence in source.prose():
        yield from source.put_in([sentence], after=end)


def negation(source: Source) -> Iterator[Edit]:
    """A statement negated, or a negated one affirmed, at its first auxiliary verb."""
    for start, end, sentence in source.prose():
        if sentence.rstrip("\"'”’)*_").endswith("?") or re.search(r"\b(?:whether|or not|if not)\b", sentence):
            continue
        changed = _NEGATED.sub(_affirmed, sentence, count=1)
        if changed == sentence and not re.search(r"\b(?:not|never|no|none|nothing|nobody)\b|n['’]t\b", sentence):
            changed = _AUXILIARY.sub(lambda verb: verb[0] + ("not" if verb[0] == "can" else " not"), sentence, count=1)
        if changed != sentence:
            yield Edit(start, end, changed)


def number(source: Source) -> Iterator[Edit]:
    """A number replaced by another with as many digits; a year by one near it. Not in fenced code or examples."""
    places = []
    for start, end in source.sentences:
        sentence = source.response.text[start:end]
        if not _NO_CLAIM.search(sentence):
            item = _ITEM_NUMBER.match(sentence)
            places += [(start, end, found) for found in _NUMBER.finditer(sentence, item.end() if item else 0)]
    for start, end, found in source.rng.sample(places, len(places)):
        sentence = source.response.text[start:end]
        date, percent = _MONTH.search(sentence) is not None, sentence[found.end() :].lstrip().startswith("%")
        other = _other_number(found[0], source.rng, date, percent)
        yield Edit(start, end, sentence[: found.start()] + other + sentence[found.end() :])


def entity(source: Source) -> Iterator[Edit]:
    """A name in the middle of a sentence swapped for another of its sort, from this response or another one.

    Prompt and response hold the name once more: what its place in a list of examples could be taken by, is no error.
    """
    prose = source.prose()
    ours = {name for _, _, sentence in prose for name in names_in(sentence)}
    for start, end, sentence in prose:
        for found in _NAME.finditer(sentence):
            uses = len(re.findall(rf"\b{found[0]}\b", source.response.whole))
            if found[0] in _NO_NAMES or uses < 2 or re.search(rf"\b{found[0].lower()}\b", source.response.whole):
                continue
            same = sorted(name for name in ours if _sort_of(name) == _sort_of(found[0]))
            others = source.names.get(_sort_of(found[0]), [])
            for pool in source.rng.sample([same, others, others], 3):
                if usable := [name for name in pool if not set(name.split()) & set(sentence.replace("'", " ").split())]:
                    name = source.rng.choice(usable)
                    yield Edit(start, end, sentence[: found.start()] + name + sentence[found.end() :])


def hedge(source: Source) -> Iterator[Edit]:
    """An unhelpful hedge put in."""
    yield from source.put_in(source.rng.sample(HEDGES[source.held_out], 3))


def rudeness(source: Source) -> Iterator[Edit]:
    """A rude sentence put in."""
    yield from source.put_in(source.rng.sample(RUDE[source.held_out], 3))


def broken_off(source: Source) -> Iterator[Edit]:
    """The last sentence breaks off between two words, without an end mark."""
    for start, end, sentence in source.prose():
        ends = [word.end() for word in re.finditer(r"\S+", sentence)]
        if end == source.sentences[-1].end and len(ends) >= 6:
            cut = source.rng.choice(ends[len(ends) // 3 : -len(ends) // 4])
            yield Edit(start, end, sentence[:cut].rstrip(".,;:!?)\"'”’*_-–—"))


def shuffled(source: Source) -> Iterator[Edit]:
    """The words of one sentence in another order; its end mark stays."""
    for start, end, sentence in source.prose():
        mark = re.search(r"[.!?]+[\"'”’)*_]*$", sentence)
        parts = re.split(r"(\s+)", sentence[: mark.start()] if mark else sentence)  # words and the space between them
        words = parts[::2]
        if len(words) >= 5:
            other = source.rng.sample(words, len(words))
            if sum(one != two for one, two in zip(words, other, strict=True)) >= len(words) / 2:
                parts[::2] = other
                yield Edit(start, end, "".join(parts) + (mark[0] if mark else ""))


KINDS: dict[str, Callable[[Source], Iterator[Edit]]] = {
    "irrelevant": irrelevant,
    "repetition": repetition,
    "negation": negation,
    "number": number,
    "entity": entity,
    "hedge": hedge,
    "rudeness": rudeness,
    "broken_off": broken_off,
    "shuffled": shuffled,
}


class Corruptor:
    """Corrupts responses of one side of the held-out split.

    Args:
        responses: what is borrowed from, all of that side.
        other_side: responses of the other side, good or bad. None of their sentences is borrowed.
        held_out: which side it is.
    """

    def __init__(
        self, responses: Iterable[GoodResponse], other_side: Iterable[str], *, held_out: bool, seed: int
    ) -> None:
        self.held_out, self.seed = held_out, seed
        self._segmenter = load_segmenter("rules:en")
        self._spans: dict[str, list[Span]] = {}
        texts = {(one.split_key, one.text) for one in responses}
        theirs = {sentence for text in set(other_side) for sentence in self._unmarked(text)}
        borrowed, uses, words = set(), Counter[str](), set[str]()
        for split_key, text in texts:
            names = set[str]()
            for sentence in self._unmarked(text):
                if is_prose(sentence):
                    names.update(names_in(sentence))
                    if len(_long_words(sentence)) >= 3 and not _PERSONAL.search(sentence) and sentence not in theirs:
                        borrowed.add((sentence, split_key))
            uses.update(names)
            words.update(re.findall(r"[a-z]+", text))
        self._borrowed = sorted(borrowed)
        self._names: dict[str, list[str]] = {}
        for name in sorted(name for name, count in uses.items() if count > 1 and name.lower() not in words):
            self._names.setdefault(_sort_of(name), []).append(name)

    def corrupt(self, response: GoodResponse, kind: str) -> Corruption | None:
        """The response with one sentence changed; None where the kind does not apply."""
        rng = random.Random(json.dumps([self.seed, kind, response.prompt, response.text]))
        sentences = self.sentences(response.text)
        source = Source(response, sentences, self._borrowed, self._names, self.held_out, rng)
        for edit in KINDS[kind](source):
            text = response.text[: edit.start] + edit.text + response.text[edit.stop :]
            moved = len(text) - len(response.text)
            before = [one for one in sentences if one.end <= edit.start]
            behind = [Span(start + moved, end + moved) for start, end in sentences if start >= edit.stop]
            found = self._cut(text)
            changed = found[len(before) : len(found) - len(behind)]
            if text != response.text and len(changed) == 1 and found == [*before, *changed, *behind]:
                return Corruption(kind, text, *changed[0])
        return None

    def versions(self, response: GoodResponse) -> Iterator[Corruption]:
        """One of each kind that applies, in a random order."""
        rng = random.Random(json.dumps([self.seed, "kind", response.prompt, response.text]))
        found = (self.corrupt(response, kind) for kind in rng.sample(sorted(KINDS), len(KINDS)))
        return (one for one in found if one is not None)

    def sentences(self, text: str) -> list[Span]:
        """Its sentences by `rules:en`, without the white space around them; each text is segmented once."""
        if text not in self._spans:
            self._spans[text] = self._cut(text)
        return self._spans[text]

    def _unmarked(self, text: str) -> list[str]:
        """Its sentences, each without its list marker."""
        return [text[start:end].removeprefix(_marker(text[start:end])) for start, end in self.sentences(text)]

    def _cut(self, text: str) -> list[Span]:
        spans = self._segmenter.spans([text])[0]
        ink = [(start, text[start:end]) for start, end in spans if not text[start:end].isspace()]
        return [Span(start + len(s) - len(s.lstrip()), start + len(s.rstrip())) for start, s in ink]


def is_prose(sentence: str) -> bool:
    """Whether it reads as a full English sentence: no heading, code, formula or table, nor another language."""
    words = re.findall(r"[A-Za-z]+(?:['’][a-z]+)?", sentence)
    letters = [character for character in sentence if character.isalpha()]
    return (
        re.match(r"[\"'“‘(*_]*[A-Z]", sentence) is not None
        and re.search(r"[.!?][\"'”’)*_]*$", sentence) is not None
        and re.search(r"[{}<>=;\\|`\[\]]|://|\n", sentence) is None
        and len(words) >= 4
        and _COMMON.search(sentence) is not None
        and sum(word[0].isupper() for word in words) <= len(words) / 2
        and sum(character.isascii() for character in letters) >= 0.95 * len(letters)
    )


def names_in(sentence: str) -> list[str]:
    """Capitalised words in the middle of a sentence, which follow a word that is not."""
    return [name for name in _NAME.findall(sentence) if name not in _NO_NAMES]


def _sort_of(name: str) -> str:
    """What a name may be swapped for: months, weekdays, nationalities, abbreviations, or as many words."""
    if name in _MONTHS or name.endswith("day"):
        return "month" if name in _MONTHS else "day"
    if " " not in name and (name[:2].isupper() or name.endswith(("an", "ish", "ese", "ic"))):
        return "abbreviation" if name[:2].isupper() else "adjective"
    return f"{len(name.split())} words"


def _marker(sentence: str) -> str:
    """The list marker a sentence begins with, and space behind it."""
    found = re.match(r"(?:[-*+•>]|#+|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)])\s+", sentence)
    return found[0] if found else ""


def _long_words(text: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Za-z]{5,}", text)}


def _affirmed(found: re.Match[str]) -> str:
    """The auxiliary of "cannot", "isn't", "is not"."""
    verb = found["contracted"] or found["verb"] or "can"
    return {"wo": "will", "Wo": "Will", "ca": "can", "Ca": "Can"}.get(verb, verb)


def _other_number(written: str, rng: random.Random, date: bool, percent: bool) -> str:
    """Another number with the same digits before and behind the point; zeros in front stay."""
    digits = re.sub(r"\D", "", written)
    if percent and digits == "100":
        return str(rng.randint(10, 95))
    value, width = int(digits), len(digits.lstrip("0")) or 1
    if re.fullmatch(r"1[5-9]\d\d|20[0-2]\d", written):
        low, high = value - 30, min(value + 30, 2029)
    elif date and value <= 31:
        low, high = (1, 9) if width == 1 else (10, 28)
    else:
        low, high = max(10 ** (width - 1), value // 2), min(10**width - 1, 2 * value + 2)
    other = rng.randint(low, high - (low <= value <= high))
    drawn = iter(str(other + (low <= value <= other)).zfill(len(digits)))
    return re.sub(r"\d", lambda _: next(drawn), written)


_MONTHS = {"January", "February", "March", "April", "May", "June", "July", "August", "September", "October"}
_MONTHS |= {"November", "December"}
_NO_NAMES = {"Mr", "Mrs", "Ms", "Dr", "Prof", "St", "No", "Yes", "OK", "Step", "TV", "PM", "AM"}
_COMMON = re.compile(
    r"\b(?:the|an|of|to|in|is|are|was|were|and|for|with|that|it|its|you|your|my|this|these|on|by|be|can|not|or|will|has"
    r"|have|from|at|as|but|they|he|she|we|do|does)\b",
    re.IGNORECASE,
)
_PERSONAL = re.compile(r"\b(?:I|me|my|you|your|we|our|us|this|these|here)\b", re.IGNORECASE)
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][A-Za-z]+(?: [A-Z][a-z]+)*+(?![\w'’$-])")
# Not "GPT-4", "20th", "3/4", "12:30", "[1]" nor "1.2.3".
_NUMBER = re.compile(r"(?<![\w\[#/%])(?<!\w[-.,:])[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?(?![\w\]/]|[.,:][0-9]|[-–%]\w)")
_NO_CLAIM = re.compile(r"```|~~~|\b(?:e\.g\.|for example|for instance|confidence)", re.IGNORECASE)  # any would do
_ITEM_NUMBER = re.compile(r"\W*+[0-9]{1,3}[.)、．:：]")  # also where no space follows
_MONTH = re.compile(rf"\b(?:{'|'.join(sorted(_MONTHS))})\b")

_VERBS = "is|are|was|were|could|should|would|must"
_PRONOUNS = r"(?:it|that|there|he|she)['’]s|(?:we|you|they)['’](?:re|ll)|i['’]m"
_KEEPS = (
    r"(?!\s+(?:only|just|merely|simply|necessarily|sure|certain|always|all|to|un\w+)\b)"  # "not only", "not always"
)
_NEGATED = re.compile(
    rf"\b(?:(?:(?P<contracted>{_VERBS}|do|does|did|has|have|had|ca|wo)n['’]t"
    rf"|(?P<verb>{_VERBS}|do|does|did|has|have|had|can|will|{_PRONOUNS})\s+not|cannot)\b{_KEEPS})",
    re.IGNORECASE,
)
_AUXILIARY = re.compile(
    r"(?<!\bwhat )(?<!\bhow )(?<!\bwho )(?<!\bwhich )(?<!\bif )(?<!\bas )(?<!\bthan )(?<!\bwhere )"
    rf"\b(?:{_VERBS}|can|will|(?:has|have|had)(?=\s(?:been|\w+ed)\b)|(?i:{_PRONOUNS}))(?![\w'’]){_KEEPS}"
)
