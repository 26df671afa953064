"""What sentences do to a score by being there: leave-one-out, and the fewest deletions that turn a preference.

A deletion keeps the cuts: the other sentences are read as the sentences they were, their text and the white space
between them as in `surgery`. Sentences that did not fit the model are not read in place of a deleted one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations

from .errors import ScoringError
from .results import Prompt, ScoredPair, ScoredResponse, Span
from .scoring import Scorer
from .surgery import Draft

ENUMERATED = math.comb(12, 6)  # subsets of one size and side that are all tried: every size of up to 12 sentences
BEAM = 4  # subsets that go on to the next size where there are more
MOST_TRIED = 2 * 2**12  # deletions of one search: all of two sides of 12 sentences

Scores = dict[tuple[int, ...], float]  # R without these sentences


@dataclass(frozen=True)
class Flip:
    """Sentences without which the other response is preferred."""

    a: tuple[int, ...]  # sentences of A to delete, from 0, ascending
    b: tuple[int, ...]  # sentences of B
    probability: float  # that A is preferred without them
    exact: bool  # whether no fewer deletions turn the preference; else fewer might
    tried: int  # deletions scored, each of one or several sentences of one side


def shortened(response: ScoredResponse, *sentences: int) -> tuple[Prompt, str, tuple[Span, ...]]:
    """The response without these of its scored sentences, cut as it was: an item for `Scorer.score`.

    Raises:
        SurgeryError: for a sentence that is not there.
    """
    pieces = response.sentences
    if response.dropped_sentences:  # what stood behind the white space at the end was not read
        pieces = (*pieces[:-1], pieces[-1].rstrip())
    draft = Draft(pieces, by_hand=True).drop(*sentences)
    return response.prompt, draft.text, draft.spans


def leave_one_out(
    scorer: Scorer, response: ScoredResponse, progress: Callable[[int, int], None] | None = None
) -> tuple[float, ...]:
    """R − R(without sentence i) of every sentence: above zero where the sentence raises the score.

    Without its only sentence a response scores its prompt term. The definition is occlusion, one sentence at a time
    (Zeiler and Fergus 2014; Li, Monroe and Jurafsky 2016, arXiv 1612.08220).

    Args:
        scorer: the one that scored the response.
        response: N sentences, of text: tools and token ids of a pair are not kept in its result.
        progress: called with (responses scored, responses in all); it cancels by raising.

    Returns:
        (N,) logits.

    Raises:
        ScoringError: if another model scored the response.
        EncodingError: if what is left does not fit the model.
    """
    _check_model(scorer, response)
    without = scorer.score([shortened(response, i) for i in range(len(response.spans))], progress=progress)
    return tuple(response.score - one.score for one in without)


def smallest_flip(scorer: Scorer, pair: ScoredPair, progress: Callable[[int, int], None] | None = None) -> Flip | None:
    """The fewest sentences, over both responses together, whose deletion turns the preference.

    Turned means strictly: a probability of exactly 0.5 prefers neither. A response keeps one sentence at least: without
    text it is no response, and its score says nothing. As R_A − R_B falls apart into one score of each side, subsets
    are scored side by side, not pair by pair: size by size, in one call a size, all subsets of a side as long as they
    are at most 924, which they are at every size up to 12 sentences; of larger numbers the four that went furthest at
    the size before, each with one sentence more (beam search). Among flips of the same number the one that goes
    furthest is taken.

    Args:
        scorer: the one that scored the pair.
        pair: N and M sentences.
        progress: called with (deletions scored, of these and those of the size at work) after each batch; it cancels by
            raising.

    Returns:
        The flip, exact if every smaller number of deletions was tried in full. None if none was found: with up to 12
        sentences a side there is none, beyond that the search ends after 8,192 deletions. None as well for a pair
        that prefers neither.

    Raises:
        ScoringError: if another model scored the pair.
        EncodingError: if what is left does not fit the model.
    """
    responses = (pair.a, pair.b)
    for one in responses:
        _check_model(scorer, one)
    if pair.probability == 0.5:
        return None
    direction = -1 if pair.probability > 0.5 else 1  # where R_A − R_B has to go
    signs = (direction, -direction)  # where R_A has to go, and R_B
    known = {shortened(one)[1:]: one.score for one in responses}  # one text, one score: ties stay ties
    sizes: list[list[Scores]] = [[{(): one.score}] for one in responses]  # [side][size]
    tried, exact = 0, True
    for size in range(1, sum(max(len(one.spans) - 1, 0) for one in responses) + 1):
        asked = [
            {subset: shortened(one, *subset) for subset in _subsets(len(one.spans), side, sign)}
            for one, side, sign in zip(responses, sizes, signs, strict=True)
        ]
        tried += sum(map(len, asked))
        if tried > MOST_TRIED:
            return None
        new = {item[1:]: item for side in asked for item in side.values() if item[1:] not in known}

        def report(done: int, of: int, total: int = tried) -> None:
            if progress:
                progress(total - of + done, total)

        scored = scorer.score(list(new.values()), progress=report)
        known |= {key: one.score for key, one in zip(new, scored, strict=True)}
        for side, subsets in zip(sizes, asked, strict=True):
            side.append({subset: known[item[1:]] for subset, item in subsets.items()})

        flips = []
        for i in range(size + 1):  # i of A, the others of B
            of_a, of_b = sizes[0][i], sizes[1][size - i]
            if of_a and of_b:
                a, b = _furthest(of_a, signs[0])[0], _furthest(of_b, signs[1])[0]
                turned = ScoredPair("", replace(pair.a, score=of_a[a]), replace(pair.b, score=of_b[b]))
                flips.append((direction * turned.margin, Flip(a, b, turned.probability, exact, tried)))
        _, best = max(flips, key=lambda flip: flip[0])
        if direction * (best.probability - 0.5) > 0:
            return best
        exact = exact and all(
            size >= len(one.spans) or len(side[size]) == math.comb(len(one.spans), size)
            for one, side in zip(responses, sizes, strict=True)
        )
    return None


def _subsets(count: int, sizes: list[Scores], sign: int) -> list[tuple[int, ...]]:
    """The subsets of `count` sentences to try next, of one sentence more than the last of `sizes`; never all."""
    size = len(sizes)
    if size >= count:
        return []
    if math.comb(count, size) <= ENUMERATED:
        return list(combinations(range(count), size))
    beam = _furthest(sizes[-1], sign)[:BEAM]
    return sorted({tuple(sorted((*subset, i))) for subset in beam for i in range(count) if i not in subset})


def _furthest(scores: Scores, sign: int) -> list[tuple[int, ...]]:
    """Subsets by how far their score went in the direction of `sign`, the furthest first."""
    return sorted(scores, key=lambda subset: -sign * scores[subset])


def _check_model(scorer: Scorer, response: ScoredResponse) -> None:
    if response.model != scorer.model_info:
        got, expected = (f"{info.name} (revision {info.revision})" for info in (response.model, scorer.model_info))
        raise ScoringError(
            f"got a response scored by {got}; expected one of {expected}. Score it again with this model."
        )
