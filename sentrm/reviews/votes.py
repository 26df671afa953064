"""What the log holds: votes with one of six verdicts, sentence marks; the settings of a queue; and what is refused.

A verdict is about the label: agree with it, flip it, call it a tie or both responses bad; skip says nothing about the
pair, flag that somebody should look at it. A mark calls one sentence of one side good or bad:

    {"side": "chosen", "sentence": 2, "mark": "bad", "start": 41, "end": 77, "text": "It never fails."}

`sentence` counts from 0; start and end are characters of the response; the text is optional.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..errors import ReviewError
from ..preferences import SIDES

VERDICTS = ("agree", "flip", "tie", "both_bad", "skip", "flag")
RATINGS = VERDICTS[:4]  # those that say something about the label
MARKS = ("good", "bad")
LONGEST_NAME = 200  # characters of an annotator's name, a reason or a pair id
LONGEST_COMMENT = 20_000
MOST_MARKS = 10_000
Mark = dict[str, Any]
Order = Literal["suspects", "random", "filter"]


@dataclass(frozen=True)
class Vote:
    """One annotator's verdict on one pair. `id` orders votes; those of one action share it."""

    id: int
    pair_id: str
    annotator: str
    verdict: str
    time: str  # UTC, ISO 8601
    reason: str = ""
    comment: str = ""
    marks: tuple[Mark, ...] = ()
    blind: bool = False  # given before the scores were seen


@dataclass(frozen=True)
class Action:
    """What was undone or redone: a vote on one pair or on many."""

    id: int
    annotator: str
    verdict: str
    time: str  # of the vote
    pairs: int
    pair_id: str  # the first of them


@dataclass(frozen=True)
class Counts:
    """The current votes, counted."""

    verdicts: dict[str, int]  # every verdict -> votes
    annotators: dict[str, dict[str, int]]  # name -> verdict -> votes, those given
    pairs: int  # with a vote
    first: str  # time of the oldest vote, UTC, ISO 8601; "" without any
    last: str


@dataclass(frozen=True)
class Queue:
    """The settings of a queue, which the address of the Review page holds."""

    order: Order = "suspects"
    filters: str = ""  # which pairs, as the list's address writes it
    overlap: int = 1  # votes a pair is to get
    blind: bool = True
    seed: int = 0  # of the random order and of the sides

    def __post_init__(self) -> None:
        if self.order not in get_args(Order):
            raise ReviewError(f"got the order {self.order!r:.40}. Expected one of {', '.join(get_args(Order))}.")
        if type(self.overlap) is not int or self.overlap < 1:
            raise ReviewError(
                f"got an overlap of {self.overlap!r:.40}. Expected how many are to vote on a pair, 1 or more."
            )
        if type(self.seed) is not int or type(self.blind) is not bool or not isinstance(self.filters, str):
            raise ReviewError(
                f"got {self!r:.200}. Expected filters as text, blind true or false, a whole number as seed."
            )


def check_vote(
    annotator: str, verdict: str, reason: str, comment: str, marks: Sequence[Mapping[str, Any]], blind: bool
) -> dict[str, Any]:
    """What a vote says beside its verdict, as the log keeps it. Raises ReviewError for a vote that is none."""
    check_name("annotator", annotator)
    if verdict not in VERDICTS:
        raise ReviewError(f"got the verdict {verdict!r:.40}. Expected one of {', '.join(VERDICTS)}.")
    for what, text, longest in (("reason", reason, LONGEST_NAME), ("comment", comment, LONGEST_COMMENT)):
        if not isinstance(text, str) or len(text) > longest:
            got = f"{len(text):,} characters" if isinstance(text, str) else type(text).__name__
            raise ReviewError(f"got a {what} of {got}. Expected text of at most {longest:,} characters; shorten it.")
    if not isinstance(blind, bool):
        raise ReviewError(f"got {blind!r:.40} for blind. Expected true or false.")
    if not isinstance(marks, list | tuple) or len(marks) > MOST_MARKS:
        raise ReviewError(f"got {type(marks).__name__} for marks. Expected a list of at most {MOST_MARKS:,}.")
    return {"reason": reason, "comment": comment, "marks": [_check_mark(mark) for mark in marks], "blind": blind}


def check_name(what: str, name: object) -> None:
    """Raises ReviewError for what is no name of an annotator or a pair."""
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name.strip()) <= len(name) <= LONGEST_NAME:
        raise ReviewError(
            f"got {name!r:.40} as {what}. Expected 1 to {LONGEST_NAME} printable characters; give another name."
        )


def _check_mark(mark: Mapping[str, Any]) -> Mark:
    expected = 'Expected {"side", "sentence", "mark", "start", "end"}, as {"chosen", 0, "bad", 0, 12}, perhaps "text".'
    if not isinstance(mark, Mapping) or mark.get("side") not in SIDES or mark.get("mark") not in MARKS:
        raise ReviewError(f"got the sentence mark {mark!r:.80}. {expected}")
    places = [mark.get(name) for name in ("sentence", "start", "end")]
    text = mark.get("text", "")
    if any(type(place) is not int or not 0 <= place < 2**53 for place in places) or not isinstance(text, str):
        raise ReviewError(f"got the sentence mark {mark!r:.80}. {expected}")
    if mark["start"] >= mark["end"] or len(text) > LONGEST_COMMENT:
        raise ReviewError(f"got a sentence mark from {mark['start']} to {mark['end']}. Expected start below end.")
    named = ("side", "sentence", "mark", "start", "end")
    return {name: mark[name] for name in named} | ({"text": text} if text else {})
