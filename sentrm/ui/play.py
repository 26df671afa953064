"""Sentence surgery on the page: what is open, and what an action of the reader makes of it. Knows nothing of gradio."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from ..inspection import Inspector, Progress
from ..prompts import read_prompt
from ..results import Prompt, ScoredPair
from ..surgery import Draft, History, SurgeryError
from ..words import SURROGATES

OWN = ""  # the segmenter of the model itself


@dataclass(frozen=True)
class Step:
    """Both responses at one moment, and what cuts them where nobody did by hand."""

    a: Draft
    b: Draft
    segmenter: str = OWN  # another than the model's own, as a specification


@dataclass(frozen=True)
class Desk:
    """What one reader has open: a prompt, and the steps from the pair that was scored first."""

    prompt: Prompt
    history: History[Step]
    turn: int = field(init=False, compare=False, default_factory=count(1).__next__)  # no two desks have the same

    @property
    def step(self) -> Step:
        return self.history.present


Cutters = Callable[[str], Inspector]  # an inspector by the specification of its segmenter


def open_pair(
    cutters: Cutters, prompt: str, a: str, b: str, progress: Progress | None = None
) -> tuple[Desk, ScoredPair, tuple[str, ...]]:
    """Score what was written; the history begins here. Also notices about characters. Raises as `Inspector.pair`."""
    pair, notices = cutters(OWN).pair(read_prompt(prompt), a, b, progress=progress)
    return Desk(pair.prompt, History((), _step(cutters, pair))), pair, notices


def holds(desk: Desk, prompt: str, a: str, b: str) -> bool:
    """Whether prompt and responses are what is open, but for characters that are none."""
    prompt, a, b = (SURROGATES.sub("\ufffd", text) for text in (prompt, a, b))
    return (read_prompt(prompt), a, b) == (desk.prompt, desk.step.a.text, desk.step.b.text)


def score(cutters: Cutters, desk: Desk, progress: Progress | None = None) -> ScoredPair:
    """The pair that is open, as it stands. Raises as `Inspector.pair`."""
    step = desk.step
    cuts_a, cuts_b = (draft.spans if draft.by_hand else None for draft in (step.a, step.b))
    pair, _ = cutters(step.segmenter).pair(desk.prompt, step.a.text, step.b.text, cuts_a, cuts_b, progress=progress)
    return pair


def act(cutters: Cutters, desk: Desk, action: dict[str, Any]) -> tuple[Desk, ScoredPair]:
    """The desk and the pair after one action of the reader.

    Args:
        action: what the page sent: `op` is undo, redo, reset; copy (from `side` 0 or 1 over the other); segmenter
            (`spec`); remove (`a`, `b`: lists of sentences); or, with `side` and `sentence` (from 0): drop, duplicate,
            join, edit and insert (`text`; insert puts it behind the sentence), move (`to`), split (`at`, a character
            of the sentence without the white space before it). With a `turn` it is for the desk of that turn alone.

    Raises:
        SurgeryError: for an action that is none of these, or that the sentence does not allow.
        SentrmError: as `Inspector.pair`; the desk is then as it was.
    """
    history, step = desk.history, desk.step
    match action:
        case {"turn": turn} if turn != desk.turn:
            raise SurgeryError("The page has moved on: this was asked of what it showed before.")
        case {"op": "undo" | "redo" | "reset" as op}:
            history = {"undo": history.undo, "redo": history.redo, "reset": history.reset}[op]()
            moved = replace(desk, history=history)
            return moved, score(cutters, moved)
        case {"op": "copy", "side": 0}:
            step = replace(step, b=step.a)
        case {"op": "copy", "side": 1}:
            step = replace(step, a=step.b)
        case {"op": "segmenter", "spec": str() as spec}:
            step = Step(replace(step.a, by_hand=False), replace(step.b, by_hand=False), spec)
        case {"op": "remove", "a": [*of_a], "b": [*of_b]} if all(type(i) is int for i in (*of_a, *of_b)):
            step = replace(step, a=step.a.drop(*of_a), b=step.b.drop(*of_b))
        case {"op": str() as op, "side": 0 | 1 as side, "sentence": int() as i}:
            changed = _changed(step.b if side else step.a, op, i, action)
            step = replace(step, b=changed) if side else replace(step, a=changed)
        case _:
            raise SurgeryError(f"got the action {action!s:.80}; expected one of this page. Load the page again.")
    pair = score(cutters, replace(desk, history=History((), step)))
    return replace(desk, history=history.do(_step(cutters, pair, step.segmenter))), pair


def _changed(draft: Draft, op: str, i: int, action: dict[str, Any]) -> Draft:
    match op, action:
        case "drop", _:
            if len(draft.pieces) == 1:
                raise SurgeryError("This is the only sentence of the response, and a response needs one. Edit it.")
            return draft.drop(i)
        case "duplicate", _:
            return draft.duplicate(i)
        case "join", _:
            return draft.join(i)
        case "edit", {"text": str() as text}:
            return draft.edit(i, text)
        case "insert", {"text": str() as text}:
            return draft.insert(i + 1, text)
        case "move", {"to": int() as to}:
            return draft.move(i, to)
        case "split", {"at": int() as at} if 0 <= i < len(draft.pieces):
            piece = draft.pieces[i]
            return draft.split(i, at + len(piece) - len(piece.lstrip()))
    raise SurgeryError(f"got the action {op!r} on sentence {i} without what it needs. Load the page again.")


def _step(cutters: Cutters, pair: ScoredPair, segmenter: str = OWN) -> Step:
    """The pair's sentences as drafts: the text may have been cut anew since they were last drafts."""
    cut = cutters(segmenter).scorer.segmenter
    return Step(Draft.from_response(pair.a, cut), Draft.from_response(pair.b, cut), segmenter)
