"""Marked sentences as step labels, in the form TRL calls stepwise supervision.

    {"prompt": "How do I boil an egg?", "completions": ["Boil it. ", "Peel it hot."], "labels": [true, false]}

Decisions:
- One row a response; its completions are its text in pieces, in order, and a label speaks of the end of its piece.
- Nobody's silence is a label. A sentence without a mark becomes part of the piece that the next marked one ends, and
  what follows the last mark is left out; unless `unmarked` says what a sentence without a mark is.
- Of several annotators the majority counts, and a sentence on which they are even has no mark.
- A conversation before the response is written out as text that ends where the response begins: the form has no other.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Protocol

from ..preferences import split_key
from ..results import ScoredPair, ScoredResponse, Span
from .votes import Vote


class Votes(Protocol):
    """What is asked of a ReviewLog."""

    def current(self) -> list[Vote]: ...


class Folder(Protocol):
    """What is asked of an AuditFolder."""

    def pair(self, pair_id: str) -> ScoredPair: ...


@dataclass(frozen=True)
class StepLabels:
    """The rows, and how many marks do not fit the folder's sentences: it was cut by another segmenter."""

    rows: list[dict[str, Any]]  # prompt, completions, labels
    left_out: int


def sentence_labels(log: Votes, folder: Folder, unmarked: bool | None = None) -> StepLabels:
    """The marks of all current votes.

    Args:
        folder: the audit folder that was reviewed.
        unmarked: the label of a sentence without a mark in a response that has marks; None gives it none.

    Raises:
        AuditError: a pair is not in the folder.
    """
    marks: dict[tuple[str, str], Counter[tuple[Span, bool]]] = {}
    for vote in log.current():
        for mark in vote.marks:
            span = Span(mark["start"], mark["end"])
            marks.setdefault((vote.pair_id, mark["side"]), Counter())[span, mark["mark"] == "good"] += 1
    rows, left_out = [], 0
    for (pair_id, side), said in marks.items():
        pair = folder.pair(pair_id)
        response = pair.a if side == "chosen" else pair.b
        left_out += sum(votes for (span, _), votes in said.items() if span not in response.spans)
        pieces = _pieces(response, said, unmarked)
        if pieces:
            texts, labels = zip(*pieces, strict=True)
            prompt = split_key(pair.prompt)
            if not isinstance(pair.prompt, str) and prompt != pair.prompt[0]["content"]:
                prompt += "\n\nassistant: "
            rows.append({"prompt": prompt, "completions": list(texts), "labels": list(labels)})
    return StepLabels(rows, left_out)


def _pieces(
    response: ScoredResponse, said: Counter[tuple[Span, bool]], unmarked: bool | None
) -> list[tuple[str, bool]]:
    pieces, start = [], 0
    for span in response.spans:
        good, bad = said[span, True], said[span, False]
        label = good > bad if good != bad else unmarked
        if label is not None:
            pieces.append((response.text[start : span.end], label))
            start = span.end
    return pieces
