"""Which sentences and words two responses share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np

from .results import Span

ALIKE = 0.4  # similarity above which two sentences may stand for each other

# A word, or one character of a script that is written without spaces between words.
_IDEOGRAPH = "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
_MARKS = "\u0300-\u036f\u0900-\u0963\u0966-\u109f\u1780-\u17ff\u200c\u200d"  # of letters; re counts them as no word
_WORD = rf"{_IDEOGRAPH}|(?:(?!{_IDEOGRAPH})[\w{_MARKS}])+"
_WORDS = re.compile(_WORD)
_WORDS_AND_SIGNS = re.compile(rf"{_WORD}|\S")


def align(a: Sequence[str], b: Sequence[str]) -> tuple[tuple[int | None, int | None], ...]:
    """Pair the sentences of two responses, in order.

    A global alignment (Needleman and Wunsch 1970) of highest total similarity, a gap costing nothing. The similarity of
    two sentences is that of their sets of words (Dice 1945), case left aside: 2 |shared| / (|words of a| + |words of
    b|); only what is above `ALIKE` can be paired, and counts by how much it is.

    Args:
        a, b: sentences, (N,) and (M,).

    Returns:
        Pairs (i, j) of sentences alike, (i, None) and (None, j) of those without a partner: every sentence once, both
        columns ascending.
    """
    words: dict[str, int] = {}
    sets = [[{words.setdefault(w, len(words)) for w in _bag(sentence)} for sentence in side] for side in (a, b)]
    tables = [np.zeros((len(side), len(words)), dtype=np.float32) for side in sets]
    for table, side in zip(tables, sets, strict=True):
        for row, bag in zip(table, side, strict=True):
            row[list(bag)] = 1
    of_a, of_b = tables  # (N, W), (M, W)
    total = of_a.sum(1)[:, None] + of_b.sum(1)[None, :]
    gain = 2.0 * (of_a @ of_b.T) / np.maximum(total, 1) - ALIKE  # (N, M)

    best = np.zeros((len(a) + 1, len(b) + 1))  # of the first i and j sentences
    for i in range(1, len(a) + 1):
        paired = np.append(0, best[i - 1, :-1] + gain[i - 1])
        best[i] = np.maximum.accumulate(np.maximum(best[i - 1], paired))
    found: list[tuple[int | None, int | None]] = []
    i, j = len(a), len(b)
    while i or j:
        if i and j and gain[i - 1, j - 1] > 0 and best[i, j] == best[i - 1, j - 1] + gain[i - 1, j - 1]:
            i, j = i - 1, j - 1
            found.append((i, j))
        elif j and best[i, j] == best[i, j - 1]:
            j -= 1
            found.append((None, j))
        else:
            i -= 1
            found.append((i, None))
    return tuple(reversed(found))


def changed_words(a: str, b: str) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Where each of two texts has words that the other has not, in their order (Python's difflib).

    A word is a run of letters and digits, one ideograph or kana, or any other sign by itself; white space does not
    count. Neighbouring changed words are one span, from the first character of the first to the last of the last.

    Returns:
        Spans in a and spans in b, ascending, in characters.
    """
    places = [[Span(*match.span()) for match in _WORDS_AND_SIGNS.finditer(text)] for text in (a, b)]
    of_a, of_b = ([text[start:end] for start, end in side] for text, side in zip((a, b), places, strict=True))
    spans: tuple[list[Span], list[Span]] = ([], [])
    long = max(len(of_a), len(of_b)) > 2000  # it would take seconds, were frequent words not matched beside others only
    for kind, *ends in SequenceMatcher(None, of_a, of_b, autojunk=long).get_opcodes():
        for side, found, (start, end) in zip(places, spans, (ends[:2], ends[2:]), strict=True):
            if kind != "equal" and start < end:
                found.append(Span(side[start].start, side[end - 1].end))
    return tuple(spans[0]), tuple(spans[1])


def _bag(sentence: str) -> list[str]:
    return _WORDS.findall(sentence.casefold()) or sentence.split()
