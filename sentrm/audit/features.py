"""What the texts and sentences of a scored dataset say, gathered in one pass over its shards.

A feature of style is a regular expression that a response matches; they are plain on purpose, so that everyone can say
what was counted. The language is that of prompt and responses together, told by py3langid (Lui and Baldwin 2012), left
open below a probability of 0.7.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pyarrow

from ..preferences import SIDES
from .measures import POSITIONS
from .suspects import label_sign

STYLES = {  # name: what a response with it matches
    "list": re.compile(r"^\s*(?:[-*•]|\d{1,3}[.)])\s+\S", re.MULTILINE),
    "heading": re.compile(r"^#{1,6} \S", re.MULTILINE),
    "bold": re.compile(r"\*\*\S"),
    "code": re.compile(r"^\s*```", re.MULTILINE),
    "refusal": re.compile(
        r"\bI(?:['’]m| am) (?:sorry|unable|not able)|\bI (?:can(?:['’]t|not| not)|won['’]t|will not|do not feel)"
        r"|\bI(?:['’]d| would) (?:rather not|prefer not)",
        re.IGNORECASE,
    ),
    "as an AI": re.compile(r"\bas an? (?:AI|artificial|language model|assistant)\b", re.IGNORECASE),
    "exclamation": re.compile("!"),
    "question": re.compile(r"\?\s*$"),
}
COLUMNS = (
    "prompt_text",
    *SIDES,
    "language",
    "label_probability",
    *(f"{side}_{name}" for side in SIDES for name in ("rewards", "weights")),
)
SEEN = 400  # characters of each text that the language is told by
SURE = 0.7


@dataclass
class Features:
    """One entry a pair, (P,) or (P, 2) for chosen and rejected, in the data's order; and sums over sentences."""

    texts: list[str] = field(default_factory=list)  # prompt and responses, the same whichever is chosen
    style: dict[str, np.ndarray] = field(default_factory=dict)  # (P, 2) bool
    language: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=object))  # (P,) two letters, or ""
    first: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))  # (P,) chosen sorts before rejected
    empty: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))  # (P,) a response is white space
    identical: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))  # (P,) both are the same
    # Reward and weight by tenths of the response; "chosen" is what the label prefers, pairs with a tie are left out.
    positions: dict[str, dict[str, list[dict[str, float]]]] = field(default_factory=dict)


def read_features(batches: Iterator[pyarrow.RecordBatch], keep_texts: bool) -> Features:
    """All of it, of batches that hold `COLUMNS`. With `keep_texts` the texts too, as near duplicates need them."""
    found = Features()
    styles: list[list[list[bool]]] = []
    languages, first, empty, identical = [], [], [], []
    sums = {name: np.zeros((len(SIDES), POSITIONS, 2)) for name in ("reward", "weight")}
    for batch in batches:
        columns = {name: batch.column(name).to_pylist() for name in ("prompt_text", *SIDES, "language")}
        for prompt, chosen, rejected, language in zip(*columns.values(), strict=True):
            styles.append([[bool(one.search(text)) for text in (chosen, rejected)] for one in STYLES.values()])
            languages.append(language or tell_language(prompt, chosen, rejected))
            first.append(chosen <= rejected)
            empty.append(not chosen.strip() or not rejected.strip())
            identical.append(chosen == rejected)
            if keep_texts:
                found.texts.append("\n".join((prompt, *sorted((chosen, rejected)))))
        for side in SIDES:
            _add_positions(batch, side, sums)
    table = np.array(styles, dtype=bool).reshape(len(styles), len(STYLES), 2)
    found.style = {name: table[:, k] for k, name in enumerate(STYLES)}
    found.language = np.array(languages, dtype=object)
    found.first, found.empty, found.identical = (np.array(one, dtype=bool) for one in (first, empty, identical))
    found.positions = {
        name: {side: _means(one) for side, one in zip(SIDES, both, strict=True)} for name, both in sums.items()
    }
    return found


@cache
def _identifier():  # type: ignore[no-untyped-def]  # the package has no types
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def tell_language(*texts: str) -> str:
    """ISO 639-1 code of the texts' language; "" where they do not tell."""
    text = " ".join(one[:SEEN] for one in texts).strip()
    if not re.search(r"\w{2}|[\u3040-\u30ff\u4e00-\u9fff]", text):
        return ""
    language, probability = _identifier().classify(text)
    return str(language) if probability >= SURE else ""


def _add_positions(batch: pyarrow.RecordBatch, side: str, sums: dict[str, np.ndarray]) -> None:
    """Add the sentences of a batch to sums and counts by tenths of the better and of the worse response,
    (2, POSITIONS, 2): rewards, and weights as multiples of their mean over the response's sentences."""
    label = batch.column("label_probability").to_numpy()  # (B,)
    worse = (label_sign(label) < 0) == (side == "chosen")  # (B,)
    rewards, weights = batch.column(f"{side}_rewards"), batch.column(f"{side}_weights")
    ends = rewards.offsets.to_numpy() - rewards.offsets[0].as_py()  # (B + 1,) boundaries before each row
    sizes = np.diff(ends) - 1  # (B,) sentences
    row = np.repeat(np.arange(len(sizes)), sizes + 1)  # (boundaries,)
    boundary = np.arange(len(row)) - ends[row]
    sentence = boundary > 0
    n = sizes[row]
    part = np.minimum(((boundary - 0.5) / np.maximum(n, 1) * POSITIONS).astype(int), POSITIONS - 1)
    weight = weights.flatten().to_numpy()
    total = np.bincount(row[sentence], weights=weight[sentence], minlength=len(sizes))  # (B,)
    mean = (total / np.maximum(sizes, 1))[row]
    shares = np.divide(weight, mean, out=np.ones_like(weight), where=mean > 0)
    counted = sentence & (label != 0.5)[row]
    place = (worse[row] * POSITIONS + part)[counted]
    for name, numbers in (("reward", rewards.flatten().to_numpy()), ("weight", shares)):
        for k, weighed in enumerate((numbers[counted], None)):
            sums[name][..., k] += np.bincount(place, weighed, minlength=len(SIDES) * POSITIONS).reshape(len(SIDES), -1)


def _means(sums: np.ndarray) -> list[dict[str, float]]:
    """The tenths of a response that hold a sentence: from, to, mean, sentences."""
    return [
        {"from": k / POSITIONS, "to": (k + 1) / POSITIONS, "mean": float(total / n), "n": int(n)}
        for k, (total, n) in enumerate(sums)
        if n
    ]
