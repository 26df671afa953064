"""A response on the operating table: sentences dropped, edited, inserted, duplicated, moved, split and joined, and each
step undone and redone. Nothing here reads a model.

White space belongs to the sentence before it, as in `segmentation`. Where an operation touches the end of the text, the
old last sentence and the new one exchange theirs: the text ends as it ended before, and no two sentences run together
that were apart. All other characters stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Generic, TypeVar

from .errors import SentrmError
from .results import ScoredResponse, Span
from .segmentation import Segmenter


class SurgeryError(SentrmError):
    """An operation on a sentence that is not there, or that would leave a sentence without text."""


@dataclass(frozen=True)
class Draft:
    """A response in N pieces, one a sentence; every operation gives a new draft.

    Until a split or a join the pieces are only what operations count by: the text is to be cut anew by the model's own
    segmenter. From then on it is to be read with these cuts: `scorer.score([(prompt, draft.text, draft.spans)])`.
    Sentences count from 0; every operation raises SurgeryError for one that is not there.
    """

    pieces: tuple[str, ...]  # (N,) they tile the text
    by_hand: bool = False  # whether the pieces are the sentences to read, not the segmenter's

    @classmethod
    def from_response(cls, response: ScoredResponse, segmenter: Segmenter | None = None) -> Draft:
        """The scored sentences, and what did not fit the model, so that no text is lost: the sentences that `segmenter`
        cuts it into, as many as are counted where the draft is read with its own cuts; without one, a single piece."""
        rest = response.text[response.spans[-1].end :] if response.spans else response.text
        pieces = [rest] if rest else []
        if segmenter and rest:
            pieces = [rest[start:end] for start, end in segmenter.spans([rest])[0]]
        return cls((*response.sentences, *pieces), response.segmenter.spec == "by hand")

    @property
    def text(self) -> str:
        """The response."""
        return "".join(self.pieces)

    @property
    def spans(self) -> tuple[Span, ...]:
        """Where the pieces stand in the text. (N,)"""
        return tuple(Span(start, end) for start, end in pairwise(accumulate(map(len, self.pieces), initial=0)))

    def drop(self, *sentences: int) -> Draft:
        """Without these sentences."""
        for i in sentences:
            self._check(i)
        return self._arranged([k for k in range(len(self.pieces)) if k not in sentences])

    def edit(self, i: int, text: str) -> Draft:
        """With `text` for sentence i; the white space behind it stays, unless the text brings its own."""
        self._check(i)
        _check_text(text, "drop(i) takes a sentence out")
        piece = text if text[-1].isspace() else text + _space(self.pieces[i])
        return Draft((*self.pieces[:i], piece, *self.pieces[i + 1 :]), self.by_hand)

    def insert(self, i: int, text: str) -> Draft:
        """With `text` before sentence i, or at the end for i = N, parted from its neighbours as they are."""
        count = len(self.pieces)
        if not 0 <= i <= count:
            raise SurgeryError(f"got place {i} of {count} sentences; expected 0 to {count}, {count} for the end.")
        _check_text(text, "pass the sentence to insert")
        if i < count:
            piece = text if text[-1].isspace() else text + self._gap(max(i - 1, 0))
            return Draft((*self.pieces[:i], piece, *self.pieces[i:]), self.by_hand)
        if not self.pieces:
            return Draft((text,), self.by_hand)
        last = self.pieces[-1]
        piece = text if text[-1].isspace() else text + _space(last)
        return Draft((*self.pieces[:-1], last if _space(last) else last + self._gap(-1), piece), self.by_hand)

    def duplicate(self, i: int) -> Draft:
        """With sentence i twice, one behind the other."""
        self._check(i)
        return self._arranged([k for k in range(len(self.pieces)) for _ in range(1 + (k == i))])

    def move(self, i: int, j: int) -> Draft:
        """With sentence i as sentence j, the others in their order."""
        self._check(i)
        self._check(j)
        order = [k for k in range(len(self.pieces)) if k != i]
        return self._arranged([*order[:j], i, *order[j:]])

    def split(self, i: int, at: int) -> Draft:
        """With sentence i cut before its character `at`, or after the white space that stands there; by hand from now.

        Raises:
            SurgeryError: if a part would be empty or white space alone.
        """
        self._check(i)
        piece = self.pieces[i]
        left, right = piece[: max(at, 0)], piece[max(at, 0) :]
        left += right[: len(right) - len(right.lstrip())]
        if not left.strip() or not right.strip():
            raise SurgeryError(
                f"got a cut at character {at} of a sentence of {len(piece)}; expected text on both sides of it."
            )
        return Draft((*self.pieces[:i], left, right.lstrip(), *self.pieces[i + 1 :]), by_hand=True)

    def join(self, i: int) -> Draft:
        """With sentences i and i + 1 as one; by hand from now."""
        self._check(i)
        if i == len(self.pieces) - 1:
            raise SurgeryError(f"got sentence {i}, the last; expected one with a sentence behind it to join.")
        return Draft((*self.pieces[:i], self.pieces[i] + self.pieces[i + 1], *self.pieces[i + 2 :]), by_hand=True)

    def _arranged(self, order: Sequence[int]) -> Draft:
        """The pieces in this order; the old last piece and the new one exchange the white space behind them."""
        pieces = [self.pieces[k] for k in order]
        if pieces:
            last, ending = len(self.pieces) - 1, _space(self.pieces[-1])
            inside = _space(pieces[-1]) if order[-1] != last else ending or self._gap(-1)
            pieces = [piece.rstrip() + inside if k == last else piece for k, piece in zip(order, pieces, strict=True)]
            pieces[-1] = self.pieces[order[-1]].rstrip() + ending
        return Draft(tuple(pieces), self.by_hand)

    def _gap(self, k: int) -> str:
        """The white space between piece k and the next: behind the last one it is that of the piece before."""
        if k in (-1, len(self.pieces) - 1):
            return _space(self.pieces[-2]) if len(self.pieces) > 1 else " "
        return _space(self.pieces[k])

    def _check(self, i: int) -> None:
        if not 0 <= i < len(self.pieces):
            expected = (
                f"expected 0 to {len(self.pieces) - 1}" if self.pieces else "expected none, the response is empty"
            )
            raise SurgeryError(f"got sentence {i} of {len(self.pieces)}; {expected}.")


STEPS = 100  # values that a history keeps, beside the first
T = TypeVar("T")


@dataclass(frozen=True)
class History(Generic[T]):
    """A value with the values it had before, the first and the last of them, and those that were undone."""

    past: tuple[T, ...]  # oldest first
    present: T
    future: tuple[T, ...] = ()  # next to be redone first

    def do(self, value: T) -> History[T]:
        """A step to `value`; nothing is left to redo. The same value is no step."""
        past = (*self.past, self.present)
        return self if value == self.present else History((*past[:1], *past[1:][-STEPS:]), value)

    def undo(self) -> History[T]:
        """One step back; itself where there is none."""
        return History(self.past[:-1], self.past[-1], (self.present, *self.future)) if self.past else self

    def redo(self) -> History[T]:
        """One undone step forward; itself where there is none."""
        return History((*self.past, self.present), self.future[0], self.future[1:]) if self.future else self

    def reset(self) -> History[T]:
        """A step to the first value, which can be undone like any other."""
        return self.do((*self.past, self.present)[0])


def _space(piece: str) -> str:
    return piece[len(piece.rstrip()) :]


def _check_text(text: str, advice: str) -> None:
    if not text.strip():
        raise SurgeryError(f"got {text[:20]!r} for a sentence; expected more than white space ({advice}).")
