"""The bundled example pairs: their form, and that each story's kind of text is among them."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from sentrm.preferences import load_preferences

PATH = Path(__file__).parents[1] / "assets" / "examples.jsonl"
EXAMPLES = [json.loads(line) for line in PATH.read_text(encoding="utf-8").splitlines()]
FIELDS = ["id", "title", "story", "prompt", "a", "b"]


def test_there_are_enough_of_them():
    assert len(EXAMPLES) >= 14


@pytest.mark.parametrize("field", ["id", "title", "story", "prompt"])
def test_no_two_share(field):
    assert [text for text, n in Counter(example[field] for example in EXAMPLES).items() if n > 1] == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["id"])
def test_form(example):
    assert list(example) == FIELDS
    assert all(isinstance(text, str) and text == text.strip() and text for text in example.values())
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", example["id"])
    assert len(example["title"]) <= 40
    assert "\n" not in example["title"] + example["story"]
    assert example["story"].endswith(".")
    assert example["a"] != example["b"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["id"])
def test_responses_have_three_to_ten_sentences(example):
    for response in (example["a"], example["b"]):
        prose = re.sub(r"```.*?```", "", response, flags=re.DOTALL)
        assert 3 <= len(re.findall(r"[.!?](?=\s|$)|。", re.sub(r"^\d+\.", "", prose, flags=re.MULTILINE))) <= 10


def sentences(id: str, side: str) -> list[str]:
    (example,) = [example for example in EXAMPLES if example["id"] == id]
    return re.findall(r"\S.*?[.!?。](?=\s|$|[\u4e00-\u9fff])", example[side], flags=re.DOTALL)


@pytest.mark.parametrize(
    ("id", "differing"),
    [("one-wrong-sentence", [1]), ("spanish-sky", [0, 1]), ("chinese-sea", [2]), ("contradiction-at-the-end", [5])],
)
def test_only_the_sentences_of_the_story_differ(id, differing):
    pairs = list(zip(sentences(id, "a"), sentences(id, "b"), strict=True))
    assert [i for i, (a, b) in enumerate(pairs) if a != b] == differing


def test_padding_and_shuffling_keep_every_sentence():
    padded = sentences("padding", "b")
    assert [sentence for sentence in padded if sentence in sentences("padding", "a")] == sentences("padding", "a")
    a, b = sentences("same-sentences-shuffled", "a"), sentences("same-sentences-shuffled", "b")
    assert a != b
    assert sorted(a) == sorted(b)


@pytest.mark.parametrize(
    "pattern",
    [r"```python\n", r"^## ", r"^- ", r"^\d+\. ", r"\n\n[A-Z].*\n\n[A-Z]", r"[ñ¿]", r"[äöüß]", r"[\u4e00-\u9fff]"],
    ids=["code", "heading", "bullets", "numbers", "paragraphs", "Spanish", "German", "Chinese"],
)
def test_one_shows(pattern):
    texts = [example["prompt"] + example["a"] for example in EXAMPLES]
    assert any(re.search(pattern, text, flags=re.MULTILINE) for text in texts)


def test_they_load_as_preference_data():
    data = load_preferences(PATH, columns={"chosen": "a", "rejected": "b"})
    assert data.problems == []
    assert [(pair.id, pair.prompt, pair.chosen, pair.rejected) for pair in data.pairs] == [
        (example["id"], example["prompt"], example["a"], example["b"]) for example in EXAMPLES
    ]
