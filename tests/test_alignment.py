"""Alignment of sentences against brute force, and changed words against pairs of texts read by hand."""

from __future__ import annotations

import random
import re
import time
from functools import cache

import pytest

from sentrm.alignment import ALIKE, align, changed_words

WORDS = ["boil", "the", "egg", "nine", "minutes", "peel", "water"]


def similarity(a: str, b: str) -> float:
    left, right = set(a.split()), set(b.split())
    return 2 * len(left & right) / (len(left) + len(right))


@pytest.mark.parametrize("seed", range(30))
def test_alignment_has_the_highest_similarity_of_all(seed):
    draw = random.Random(seed)
    a, b = ([" ".join(draw.choices(WORDS, k=draw.randint(1, 5))) for _ in range(draw.randint(0, 6))] for _ in range(2))

    @cache
    def best(i: int, j: int) -> float:
        if i == len(a) or j == len(b):
            return 0
        return max(best(i + 1, j), best(i, j + 1), similarity(a[i], b[j]) - ALIKE + best(i + 1, j + 1))

    rows = align(a, b)
    assert [i for i, _ in rows if i is not None] == list(range(len(a)))
    assert [j for _, j in rows if j is not None] == list(range(len(b)))
    paired = [(i, j) for i, j in rows if i is not None and j is not None]
    assert all(similarity(a[i], b[j]) > ALIKE for i, j in paired)
    assert sum(similarity(a[i], b[j]) - ALIKE for i, j in paired) == pytest.approx(best(0, 0), abs=1e-5)


def test_alignment_read_by_hand():
    a = ["Boil the egg for nine minutes. ", "Peel it.\n", "你好。", "***"]
    b = ["First wash your hands. ", "Boil the EGG for 9 minutes. ", "你们好。", "***", "Bye."]
    assert align(a, b) == ((None, 0), (0, 1), (1, None), (2, 2), (3, 3), (None, 4))
    assert align([], ["A.", "B."]) == ((None, 0), (None, 1))
    assert align(["A."], []) == ((0, None),)
    assert align([], []) == ()
    assert align(["Yes."], ["No."]) == ((0, None), (None, 0))


@pytest.mark.parametrize(
    ("a", "b", "of_a", "of_b"),
    [
        ("Boil the egg for nine minutes.", "Boil an egg for 9 minutes.", ["the", "nine"], ["an", "9"]),
        ("Boil it.", "Boil  it.\n", [], []),
        ("", "A new text.", [], ["A new text."]),
        ("One two three.", "One three.", ["two"], []),
        ("我喜欢鸡蛋。", "我不喜欢鸭蛋。", ["鸡"], ["不", "鸭"]),
        ("たまごをゆでる", "たまごをやく", ["ゆでる"], ["やく"]),
        ("x = a + b", "x = a - b", ["+"], ["-"]),
        ("हिन्दी में", "हिन्दू में", ["हिन्दी"], ["हिन्दू"]),
        ("Great 🙂 job", "Great job!", ["🙂"], ["!"]),
        ("naïve cafe\u0301", "naïve cafe", ["cafe\u0301"], ["cafe"]),
        ("a b c d", "x y c z w", ["a b", "d"], ["x y", "z w"]),
    ],
)
def test_changed_words(a, b, of_a, of_b):
    spans = changed_words(a, b)
    assert [[text[start:end] for start, end in side] for text, side in zip((a, b), spans, strict=True)] == [of_a, of_b]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_not_marked_is_the_same_in_both(seed):
    draw = random.Random(seed)
    a, b = (" ".join(draw.choices(WORDS, k=draw.randint(0, 30))) for _ in range(2))
    left = []
    for text, spans in zip((a, b), changed_words(a, b), strict=True):
        kept = "".join(" " if any(s <= i < e for s, e in spans) else one for i, one in enumerate(text))
        left.append(kept.split())
        assert all(re.fullmatch(r"\S(.*\S)?", text[start:end], re.DOTALL) for start, end in spans)
    assert left[0] == left[1]


def test_five_hundred_sentences_are_fast():
    draw = random.Random(0)
    vocabulary = [f"w{i}" for i in range(3000)]
    weights = [1 / (1 + i) for i in range(3000)]
    a = [" ".join(draw.choices(vocabulary, weights, k=18)) + ". " for _ in range(500)]
    b = [one if draw.random() < 0.7 else " ".join(draw.choices(vocabulary, weights, k=18)) + ". " for one in a]
    start = time.process_time()
    assert sum(a[i] == b[j] for i, j in align(a, b) if i is not None and j is not None) > 300
    spans, _ = changed_words("".join(a), "".join(b))
    assert time.process_time() - start < 10
    assert 0.2 < sum(end - start for start, end in spans) / sum(map(len, a)) < 0.4
