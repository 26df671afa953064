"""Pairs that stand in a dataset more than once, or that say nothing: exact and near duplicates, contradictions, sides
that are empty or identical.

Exact is the same prompt and the same two responses, whichever is chosen; a contradiction is an exact duplicate with the
other label. Near is a Jaccard similarity of about 0.8 or more of the sets of five words in a row of prompt and both
responses, found by MinHash with locality-sensitive hashing (Broder 1997; Leskovec, Rajaraman and Ullman, chapter 3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
from datasketch import MinHash, MinHashLSH

SIMILAR = 0.8
PERMUTATIONS = 64
WORDS = 5  # in a row
UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0eff"  # Thai and Lao
    "\u1000-\u109f\u1780-\u17ff"  # Myanmar and Khmer
    "\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana and ideographic signs
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # CJK ideographs
)
WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


def exact(digests: Sequence[str] | np.ndarray) -> np.ndarray:
    """(P,) int: the index of the first pair with the same digest; its own where it is the first."""
    _, first, place = np.unique(np.asarray(digests), return_index=True, return_inverse=True)
    return first[place]


def contradicting(first: np.ndarray, direction: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """(P,) bool: an exact duplicate of this pair has the other label.

    Args:
        first: (P,) of `exact`.
        direction: (P,) bool, whether the chosen text sorts before the rejected one.
        decided: (P,) bool, whether the label is no tie.
    """
    sides = np.zeros((len(first), 2), dtype=bool)  # (P, 2): by first index, which directions are there
    sides[first[decided], direction[decided].astype(int)] = True
    return decided & sides[first].all(1)


def near(texts: Iterable[str]) -> np.ndarray:
    """(P,) int: the index of the earliest pair that this one is nearly the same as; its own where there is none.

    Args:
        texts: (P,) prompt and both responses of each pair, in an order that does not depend on the label.
    """
    index = MinHashLSH(threshold=SIMILAR, num_perm=PERMUTATIONS)
    earliest: list[int] = []
    hashes: dict[int, MinHash] = {}
    for i, text in enumerate(texts):
        words = WORD.findall(text)
        pieces = {" ".join(words[k : k + WORDS]).encode() for k in range(max(1, len(words) - WORDS + 1))}
        own = MinHash(num_perm=PERMUTATIONS, seed=1)
        own.update_batch(pieces)
        alike = [j for j in index.query(own) if own.jaccard(hashes[j]) >= SIMILAR]
        earliest.append(min(alike, default=i))
        if not alike:  # the others of a cluster are found through its first
            hashes[i] = own
            index.insert(i, own)
    return np.array(earliest, dtype=int)
