"""Which pair an annotator sees next, and what is hidden until the vote.

Decisions:
- A queue is a few settings and a list of pair ids made anew from them; whose turn a pair is follows from the log alone,
  so a queue goes on after a restart, and after an undo it gives the pair again.
- A pair is for an annotator who has not voted on it, until `overlap` others have. A skip or flag is the annotator's own
  vote; a skip is none of the `overlap`.
- Others' votes are seen after one's own, for which a skip does not count. In a blind queue the sides are shuffled: a
  coin for each annotator and pair, the same at every look.
- Two annotators who ask at once may get the same pair; both votes stand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from .log import ReviewLog
from .votes import Queue, Vote

FIRST_LOOK, LONGEST_LOOK = 50, 5000  # pairs that are looked up at once


@dataclass(frozen=True)
class Progress:
    """How far an annotator is in a queue."""

    done: int  # pairs the annotator has voted on
    left: int  # pairs that are still to come
    total: int  # of the queue; the rest have got their votes from others


def ordered(queue: Queue, pair_ids: Sequence[str]) -> list[str]:
    """The pairs in the queue's order: as they are given, or, if random, in one that does not depend on it."""
    if queue.order != "random":
        return list(pair_ids)
    return sorted(pair_ids, key=lambda pair_id: _draw(queue, pair_id))


def next_pair(log: ReviewLog, queue: Queue, ordered_ids: Sequence[str], annotator: str) -> str | None:
    """The first pair that waits for this annotator's vote; None when all is done.

    Args:
        ordered_ids: the queue's pairs as `ordered` gives them.
    """
    start, size = 0, FIRST_LOOK
    while asked := ordered_ids[start : start + size]:
        standing = log.standing(annotator, asked)
        for pair_id in asked:
            own, others = standing.get(pair_id, (False, 0))
            if not own and others < queue.overlap:
                return pair_id
        start, size = start + size, min(2 * size, LONGEST_LOOK)
    return None


def progress(log: ReviewLog, queue: Queue, pair_ids: Sequence[str], annotator: str) -> Progress:
    """How many of the queue's pairs the annotator has voted on, and how many wait."""
    inside = set(pair_ids)
    standing = [found for pair_id, found in log.standing(annotator).items() if pair_id in inside]
    done = sum(own for own, _ in standing)
    taken = sum(not own and others >= queue.overlap for own, others in standing)
    return Progress(done, len(inside) - done - taken, len(inside))


def sides_swapped(queue: Queue, pair_id: str, annotator: str) -> bool:
    """Whether the rejected response stands on the left. Never in a queue that is not blind."""
    return queue.blind and _draw(queue, f"{pair_id}\n{annotator}")[0] % 2 == 1


def visible_votes(log: ReviewLog, pair_id: str, annotator: str) -> list[Vote]:
    """The current votes on the pair that the annotator may see: the own alone until it is given."""
    votes = log.current(pair_id)
    own = [vote for vote in votes if vote.annotator == annotator]
    return votes if any(vote.verdict != "skip" for vote in own) else own


def _draw(queue: Queue, text: str) -> bytes:
    return hashlib.sha256(f"{queue.seed}\n{text}".encode()).digest()
