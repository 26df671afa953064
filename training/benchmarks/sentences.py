"""Do sentence rewards point at the sentences that people marked?

A row of the data is a prompt, text or messages as in preference data (a `context` goes before it), a response and
marks, in one of two forms:

    spans      [[start, end], …] or objects with start and end: bad characters; all others are good
    segments   [{text, start, end, label}, …]: label 1 is good, 0 or below bad (ProcessBench marks a wrong step −1),
               a fraction bad below 0.5 and good above it, 0.5 and null unknown, true good and false bad; all other
               characters are unknown

Where a row has both, `spans` count, people's own ranges. Rows with `unmatched_spans` (bad ranges that were not found in
the text) are left out: what is not marked in them need not be good. A sentence i of the model is bad if it shares a
character other than white space with a bad mark, else good if it shares one with a good mark, else unknown.

Each measure says how bad sentence i is, the higher the worse:

    reward         −Δ_i
    contribution   −a_i Δ_i
    weight         a_i                          more attention, worse
    leave_one_out  R(response without i) − R    the score rises when a bad sentence goes
    length         characters of i              white space at its ends left out
    position       i                            later is worse
    random         uniform on [0, 1)            drawn by seed and response

and is judged within each response that has bad and good sentences, unknown ones left aside, b over its bad and g over
its good sentences; the figures are means over responses:

    AUROC              mean over pairs (b, g) of [badness_b > badness_g] + ½ [badness_b = badness_g]
    top-1              share of bad sentences among those of the highest badness; by chance: share of bad sentences

Step data (rows with `first_error`: index of the first wrong segment; null or −1 if none is) is also judged over the
responses with a wrong step and at least two steps, all sentences counted, each as part of the step that it shares most
characters with:

    first error        share of the wrong step's sentences among those of the highest badness;
                       by chance: share of the wrong step's sentences among all

In step data whose later steps are unknown the wrong step is the last that is labelled, so position has an AUROC of 1
by construction: read the first-error figures there.

Intervals are the middle 95% of a bootstrap over prompts (cluster bootstrap, Cameron, Gelbach and Miller 2008).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sentrm.columns import is_number, read_text
from sentrm.errors import EncodingError, PreferenceDataError
from sentrm.influence import shortened
from sentrm.metrics import group_counts, grouped
from sentrm.preferences import split_key, with_context
from sentrm.readers import BadRow, records
from sentrm.results import Prompt, ScoredResponse, Span
from sentrm.schemas import read_texts
from sentrm.scoring import Scorer
from sentrm.words import counted

from ..measures import Estimate, mean_estimate
from .sources import by_reason, subset_names
from .task import Item, Options, Task, chosen_items, score_all

MEASURES = ("reward", "contribution", "weight", "leave_one_out", "length", "position", "random")
BAD, GOOD, UNKNOWN = 1, 0, -1


@dataclass(frozen=True)
class Marks:
    """What is known of the characters of one response."""

    group: str  # the prompt: what the bootstrap draws
    subset: str
    bad: tuple[Span, ...]  # characters [start, end)
    good: tuple[Span, ...] | None = None  # None: all that is not bad
    steps: tuple[Span, ...] = ()  # of step data
    first_error: int | None = None  # index into steps of the first wrong one


def run(scorer: Scorer, options: Options) -> dict[str, Any]:
    """The benchmark's result: figures of the reward, and under "sentences" those of all measures by file and of all.

    Raises PreferenceDataError without `options.data`, for data that cannot be read and where no row is left to score.
    """
    if not options.data:
        raise PreferenceDataError(
            "the benchmark sentences has no data of its own. Pass --data FILE, one or several, with rows of prompt, "
            "response, and spans or segments."
        )
    rows: list[tuple[Prompt, str, Marks]] = []
    problems: list[str] = []
    for source, subset in subset_names(options.data).items():
        read, bad_rows = read_source(source, subset, options.split or "train")
        rows += read
        problems += bad_rows
    items = tuple(Item(str(i), marks.group, marks.subset, (i,), ()) for i, (*_, marks) in enumerate(rows))
    rows = [rows[item.right[0]] for item in chosen_items(Task((), items, tuple(problems)), options).items]
    results, reasons = score_all(scorer, [(prompt, response) for prompt, response, _ in rows], "scored")
    if reasons:
        problems.append(f"{len(reasons)} responses left out: they do not fit the model. The first: {reasons[0]}")
    fitting = [(one, marks) for one, (*_, marks) in zip(results, rows, strict=True) if one is not None]
    if not fitting:
        raise PreferenceDataError(f"no response fits the model. The first: {reasons[0]}")
    scored = [one for one, _ in fitting]
    sentences, left_out = sentence_figures(scorer, scored, [marks for _, marks in fitting], options)
    headline = sentences["all" if len(sentences) > 1 else next(iter(sentences))]
    return {
        "problems": [*problems, *left_out],
        "items": len(scored),
        "responses": len(scored),
        "dropped_sentences": sum(one.dropped_sentences > 0 for one in scored),
        "cut_prompts": sum(one.cut_prompt_tokens > 0 for one in scored),
        "figures": {
            "AUROC of reward": headline["auroc"]["reward"],
            "top-1 of reward": headline["top1"]["reward"],
        },
        "sentences": sentences,
    }


def read_source(source: str, subset: str, split: str) -> tuple[list[tuple[Prompt, str, Marks]], list[str]]:
    """Prompt (context included), response and marks of each row of a file, data set folder or hub id; and what was left
    out, and why. `split` matters only for the last two.

    Raises PreferenceDataError for a source that cannot be read.
    """
    rows, unplaced = [], 0
    reasons: list[tuple[int, str]] = []
    for number, record in enumerate(records(source, split), start=1):
        try:
            rows.append(_read_row(record, subset))
            if not isinstance(record.get("spans"), list):
                unplaced += sum(None in (one.get("start"), one.get("end")) for one in record["segments"])
        except BadRow as bad:
            reasons.append((number, str(bad)))
    problems = by_reason(subset, "row", reasons)
    if unplaced:
        problems.append(f"{subset}: {counted(unplaced, 'segment')} left out: start or end is null")
    return rows, problems


def _read_row(record: Any, subset: str) -> tuple[Prompt, str, Marks]:
    if isinstance(record, BadRow):
        raise record
    if not isinstance(record, dict):
        raise BadRow(f"of type {type(record).__name__}, expected an object with prompt, response, spans or segments")
    given, response, spans, segments = map(record.get, ("prompt", "response", "spans", "segments"))
    if given is None or not isinstance(response, str):
        got = f"{type(given).__name__} and {type(response).__name__}"
        raise BadRow(f"prompt and response are of type {got}, expected text or messages, and text")
    prompt, *_ = read_texts(given, "", "", has_prompt=True)  # the response stays as it is: marks count its characters
    if not isinstance(spans, list) and not isinstance(segments, list):
        raise BadRow("neither spans nor segments is a list")
    if not all(isinstance(one, dict) for one in segments or []):
        raise BadRow("a segment is no object with text, start, end and label")
    if record.get("unmatched_spans"):
        raise BadRow("bad ranges were not found in the text (unmatched_spans)")

    placed = [one for one in segments or [] if None not in (one.get("start"), one.get("end"))]
    labelled = [(_place(one, response), _label(one.get("label"))) for one in placed]
    bad = tuple(place for place, label in labelled if label == BAD)
    good: tuple[Span, ...] | None = tuple(place for place, label in labelled if label == GOOD)
    if isinstance(spans, list):
        bad, good = tuple(_place(one, response) for one in spans), None
    steps: tuple[Span, ...] = ()
    first_error = None
    if "first_error" in record:
        found = -1 if record["first_error"] is None else record["first_error"]
        whole = is_number(found) and found in range(-1, len(segments or []))  # 1.0: a column of Parquet that has nulls
        if not whole or len(placed) < len(segments or []):
            raise BadRow("first_error is not null, −1 or the index of a segment, or a segment has no start or end")
        steps = tuple(place for place, _ in labelled)
        first_error = int(found) if found >= 0 else None
    group = given if isinstance(given, str) else split_key(prompt)
    marks = Marks(group, subset, bad, good, steps, first_error)
    return with_context(read_text("context", record.get("context")), prompt), response, marks


def _place(mark: Any, response: str) -> Span:
    """Where a mark stands, `[start, end]` or an object with start, end and perhaps text."""
    given = mark if isinstance(mark, dict) else {}
    place = [given.get("start"), given.get("end")] if given else mark
    if not isinstance(place, list) or [type(one) for one in place] != [int, int]:
        raise BadRow("a mark has no start and end, expected two whole numbers")
    start, end = place
    if not 0 <= start <= end <= len(response):
        raise BadRow("a mark is outside the response")
    text = given.get("text")
    if isinstance(text, str) and text.split() != response[start:end].split():
        raise BadRow("a mark's text is not what stands at its place, expected start and end in characters")
    return Span(start, end)


def _label(label: Any) -> int:
    if label is None or label == 0.5:
        return UNKNOWN
    if not is_number(label) and not isinstance(label, bool):
        raise BadRow("a label is no number, expected 1 or true for good, 0 or false for bad, a fraction or null")
    return BAD if label < 0.5 else GOOD


def sentence_figures(
    scorer: Scorer, scored: Sequence[ScoredResponse], marks: Sequence[Marks], options: Options
) -> tuple[dict[str, dict[str, Any]], tuple[str, ...]]:
    """The measures' figures by subset, and of "all" where there are several; and problems: what was left out, and why.

    Args:
        scorer: what scored the responses, for leave-one-out.
        scored, marks: (R,) of the same responses.
        options: seed and draws are read.

    Returns:
        By subset: "responses" that have bad and good sentences; how many "sentences", "labelled" ones and "bad" ones
        they have; "auroc" and "top1" by measure, "chance" of top-1; "first_error_responses", and of these
        "first_error" by measure and "first_error_chance", None without any. Figures are estimates, their value None
        where no response is judged.

    Raises:
        EncodingError: if a shortened response does not fit the model.
    """
    labels = [_labels(one, known) for one, known in zip(scored, marks, strict=True)]  # (N,) each
    both = [i for i, one in enumerate(labels) if BAD in one and GOOD in one]
    steps = {}  # by index: (N,) whether a sentence is part of the wrong step
    left_out: Counter[tuple[str, str]] = Counter()
    for i, (one, known) in enumerate(zip(scored, marks, strict=True)):
        if one.dropped_sentences:
            left_out[known.subset, "sentences left out: they did not fit the model"] += one.dropped_sentences
        if lacking := [name for name, label in (("bad", BAD), ("good", GOOD)) if label not in labels[i]]:
            left_out[known.subset, f"responses not in AUROC and top-1: no {' or '.join(lacking)} sentence"] += 1
        if not known.steps:
            continue
        if known.first_error is None:
            left_out[known.subset, "responses not in first error: no wrong step"] += 1
        elif len(known.steps) < 2:
            left_out[known.subset, "responses not in first error: one step"] += 1
        elif not one.spans or known.steps[known.first_error].start >= one.spans[-1].end:
            left_out[known.subset, "responses not in first error: the wrong step did not fit the model"] += 1
        else:
            steps[i] = np.array([_step(one.text, span, known.steps) == known.first_error for span in one.spans])

    judged = sorted({*both, *steps})
    texts = [shortened(scored[i], k) for i in judged for k in range(len(scored[i].spans))]
    without, reasons = score_all(scorer, texts, "scored without one sentence")
    if reasons:
        raise EncodingError(f"leave-one-out: {reasons[0]}")
    scores = iter([one.score for one in without if one is not None])
    auroc, top, first = {}, {}, {}  # by index: (M,), (M + 1,), (M + 1,)
    for i in judged:
        badness = _badness(scored[i], [next(scores) for _ in scored[i].spans], options.seed)  # (M, N)
        if i in steps:
            first[i] = _top(badness, steps[i])
        if BAD in labels[i] and GOOD in labels[i]:
            known_ = labels[i] != UNKNOWN
            auroc[i] = _auroc(badness[:, labels[i] == BAD], badness[:, labels[i] == GOOD])
            top[i] = _top(badness[:, known_], labels[i][known_] == BAD)

    prompts, group = grouped([known.group for known in marks])
    counts = group_counts(len(prompts), options.draws, options.seed)  # (draws, G)

    def estimates(values: Mapping[int, np.ndarray], inside: set[int], names: Sequence[str]) -> dict[str, Estimate]:
        at = np.array(sorted(inside & values.keys()), dtype=int)
        table = np.array([values[i] for i in at]) if len(at) else np.zeros((0, len(names)))  # (R, names)
        return {name: mean_estimate(numbers, group[at], counts) for name, numbers in zip(names, table.T, strict=True)}

    figures: dict[str, dict[str, Any]] = {}
    subsets = sorted({known.subset for known in marks})
    for subset in ["all", *subsets] if len(subsets) > 1 else subsets:
        inside = {i for i, known in enumerate(marks) if subset in ("all", known.subset)}
        found = [labels[i] for i in sorted(inside & auroc.keys())]
        top1, first_error = (estimates(one, inside, (*MEASURES, "chance")) for one in (top, first))
        chance, first_error_chance = top1.pop("chance"), first_error.pop("chance")
        figures[subset] = {
            "responses": len(found),
            "sentences": sum(len(one) for one in found),
            "labelled": sum(int(np.sum(one != UNKNOWN)) for one in found),
            "bad": sum(int(np.sum(one == BAD)) for one in found),
            "auroc": estimates(auroc, inside, MEASURES),
            "top1": top1,
            "chance": chance,
            "first_error_responses": len(inside & first.keys()),
            "first_error": first_error if inside & first.keys() else None,
            "first_error_chance": first_error_chance if inside & first.keys() else None,
        }
    return figures, tuple(f"{subset}: {count} {reason}" for (subset, reason), count in sorted(left_out.items()))


def _labels(one: ScoredResponse, known: Marks) -> np.ndarray:
    """BAD, GOOD or UNKNOWN of each sentence. (N,)"""

    def touched(span: Span, marks: Sequence[Span]) -> bool:
        return any(one.text[max(span.start, start) : min(span.end, end)].strip() for start, end in marks)

    labels = []
    for span in one.spans:
        good = known.good is None or touched(span, known.good)
        labels.append(BAD if touched(span, known.bad) else GOOD if good else UNKNOWN)
    return np.array(labels)


def _step(text: str, span: Span, steps: Sequence[Span]) -> int | None:
    """Index of the step that shares most characters other than white space with the sentence; the first of equals."""
    shared = [len("".join(text[max(span.start, start) : min(span.end, end)].split())) for start, end in steps]
    return shared.index(max(shared)) if any(shared) else None


def _badness(one: ScoredResponse, scores: Sequence[float], seed: int) -> np.ndarray:
    """Each measure's badness of each sentence, given R without it. (M, N) in the order of MEASURES"""
    draws = _random(seed, one.text)
    measures = {
        "reward": [-reward for reward in one.rewards[1:]],
        "contribution": [-contribution for contribution in one.contributions[1:]],
        "weight": one.weights[1:],
        "leave_one_out": [score - one.score for score in scores],
        "length": [len(sentence.strip()) for sentence in one.sentences],
        "position": range(len(one.spans)),
        "random": [draws.random() for _ in one.spans],
    }
    return np.array([measures[name] for name in MEASURES], dtype=float)


def _random(seed: int, text: str) -> random.Random:
    """Numbers that depend on seed and text alone, so that the order of the rows does not matter."""
    return random.Random(f"{seed} {text}".encode("utf-8", "surrogatepass"))


def _auroc(bad: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Share of pairs in which the bad sentence has the higher badness, a tie counting half (Mann and Whitney 1947).

    Args:
        bad: (M, B); good: (M, G).

    Returns:
        (M,)
    """
    b, g = bad[:, :, None], good[:, None, :]  # (M, B, 1), (M, 1, G)
    return ((b > g) + 0.5 * (b == g)).mean((1, 2))


def _top(badness: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Share of `target` (N,) among the sentences of the highest badness (M, N); and last among all. (M + 1,)"""
    highest = badness == badness.max(1, keepdims=True)
    return np.append((highest & target).sum(1) / highest.sum(1), target.mean())
