"""What a benchmark is made of, items whose right responses should score higher than their wrong ones, and its run."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product
from typing import Any

import numpy as np
from tqdm import tqdm

from sentrm import readers, scoring
from sentrm.errors import EncodingError, PreferenceDataError
from sentrm.metrics import expected_calibration_error, group_counts, grouped, length_residuals
from sentrm.results import Prompt, ScoredResponse

from ..data import is_held_out
from ..measures import (
    against_length,
    correlation_estimate,
    estimate,
    length_quintiles,
    mean_estimate,
    other_prompts,
    weight_entropy,
)


@dataclass(frozen=True)
class Item:
    """One question: each right response should score higher than each wrong one."""

    id: str
    group: str  # the prompt: what the bootstrap draws, pairs of one prompt being no independent evidence
    subset: str
    right: tuple[int, ...]  # indices into Task.responses
    wrong: tuple[int, ...]


@dataclass(frozen=True)
class Task:
    responses: tuple[tuple[Prompt, str], ...]  # what is scored; each (prompt, response) once
    items: tuple[Item, ...]
    problems: tuple[str, ...] = ()  # rows left out, and why

    @property
    def places(self) -> list[int]:
        """Of the responses that its items ask about, in order."""
        return sorted({place for item in self.items for place in item.right + item.wrong})


@dataclass(frozen=True)
class Options:
    """What the command asks for."""

    data: tuple[str, ...]  # files; () for the benchmark's hub id
    split: str | None  # of a hub data set; None: the benchmark's own
    held_out: bool  # only prompts whose text in this file is of the held-out tenth, `training.data.is_held_out`
    limit: int | None  # at most so many items (corruptions: good responses; sentences: rows), drawn by the seed
    seed: int  # of limit, shuffled prompts, corruptions, the random baseline and the bootstrap
    draws: int = 1000  # bootstrap samples


Benchmark = Callable[[scoring.Scorer, Options], dict[str, Any]]
Figures = Callable[[Sequence[Item], np.ndarray], dict[str, float]]
"""Items, scores (R,) -> the benchmark's official numbers, fractions from 0 to 1, the headline first.

A name is there only where the items hold something that it measures: of items of one subset alone, the figures that
rest on this subset. So it is known which prompts a figure rests on, and with fewer than ten it gets no interval.
"""
Means = Mapping[str, Callable[[str], str]]
"""Of each figure that is a mean of parts, whatever their sizes: subset -> the part that it belongs to.

Such a figure is no better known than its smallest part: with fewer than ten prompts in one it gets no interval. As in
`{"mean of files": str}`, where a file is a subset, or `{"RM-Bench": domain}`. A share of all items is none.
"""


class Responses:
    """Gathers a task's responses, each (prompt, response) once."""

    def __init__(self) -> None:
        self.places: dict[tuple[str, str], int] = {}
        self.found: list[tuple[Prompt, str]] = []

    def place(self, prompt: Prompt, text: str) -> int:
        """The index of this response among those gathered."""
        place = self.places.setdefault((prompt_key(prompt), text), len(self.found))
        if place == len(self.found):
            self.found.append((prompt, text))
        return place


def prompt_key(prompt: Prompt) -> str:
    """A prompt as one string: its text, or its messages as JSON."""
    return prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)


def records(options: Options, hub: str, split: str) -> Iterator[dict[str, Any]]:
    """The raw rows of the files asked for, or of the benchmark's hub data set.

    Args:
        hub, split: where the benchmark lives on the hub, if no file is given; `options.split` goes before.

    Raises:
        PreferenceDataError: for a source that cannot be read or has no rows, and for the first row that is no object.
    """
    advice = "" if options.data else " Pass a copy of its file as --data FILE."
    for source in options.data or (hub,):
        row = 0
        try:
            for row, record in enumerate(readers.records(source, options.split or split), start=1):
                if not isinstance(record, dict):
                    got = record if isinstance(record, readers.BadRow) else f"is of type {type(record).__name__}"
                    raise PreferenceDataError(f"{source}: row {row}: {got}. Expected an object, one a row.")
                yield record
        except PreferenceDataError as error:
            raise PreferenceDataError(f"{error}{advice}") from error
        if row == 0:
            raise PreferenceDataError(f"{source} has no rows. Expected those of the benchmark.")


def ranked(
    scorer: scoring.Scorer, task: Task, figures: Figures, options: Options, means: Means | None = None
) -> dict[str, Any]:
    """`score_task` and `measured` in a row: what most benchmarks are.

    Raises:
        PreferenceDataError: if no item is left.
    """
    task, scored, problems = score_task(scorer, task, options)
    return measured(scorer, task, scored, figures, options, problems, means)


def score_task(
    scorer: scoring.Scorer, task: Task, options: Options
) -> tuple[Task, dict[int, ScoredResponse], list[str]]:
    """Score each response of the items that `options` choose.

    Returns:
        The task with the chosen items that fit the model alone (its responses keep their places); the results of the
        responses by place; and what was left out, and why.

    Raises:
        PreferenceDataError: if no item is left.
    """
    task = chosen_items(task, options)
    scored, reasons = score_all(scorer, [task.responses[place] for place in task.places], "scored")
    fits = {place: one for place, one in zip(task.places, scored, strict=True) if one is not None}
    items = tuple(item for item in task.items if fits.keys() >= {*item.right, *item.wrong})
    if not items:
        raise PreferenceDataError(f"no item fits the model: {reasons[0]}")
    problems = []
    if reasons:
        lost = len(task.items) - len(items)
        problems = [f"{lost} items left out: {len(reasons)} responses do not fit the model. The first: {reasons[0]}"]
    return replace(task, items=items), fits, problems


def measured(
    scorer: scoring.Scorer,
    task: Task,
    scored: Mapping[int, ScoredResponse],
    figures: Figures,
    options: Options,
    problems: Sequence[str],
    means: Means | None = None,
) -> dict[str, Any]:
    """What the scores of a task's items are worth; the responses are scored again under another item's prompt.

    Args:
        task, scored, problems: as `score_task` returns them, perhaps with fewer items; seed and draws of `options`
            are read.
        figures, means: the benchmark's official numbers, see `Figures` and `Means`.

    Returns:
        problems (the task's, these, and those of the shuffled prompts), items, responses, dropped_sentences,
        cut_prompts, figures, subsets and measures of the result.
    """
    items, places = task.items, task.places
    responses = [scored[place] for place in places]
    scores = np.full(len(task.responses), np.nan)  # (R,), NaN for what no item asks about
    scores[places] = [one.score for one in responses]
    blind, not_blind = blind_scores(scorer, task, places, options.seed)  # (R,)

    names, item_group = grouped([item.group for item in items])
    counts = group_counts(len(names), options.draws, options.seed)  # (draws, G)
    pairs = [(i, right, wrong) for i, item in enumerate(items) for right, wrong in product(item.right, item.wrong)]
    at, right, wrong = np.array(pairs, dtype=int).T  # (C,) item, right and wrong response
    group = item_group[at]  # (C,)
    subset = np.array([item.subset for item in items])[at]  # (C,)
    characters = np.array([len(text) for _, text in task.responses])  # (R,)
    margins, longer_by = scores[right] - scores[wrong], characters[right] - characters[wrong]  # (C,)
    blind_margins = blind[right] - blind[wrong]
    blind_hits = np.where(np.isfinite(blind_margins), blind_margins > 0, np.nan)
    calibrated = np.full(len(scores), np.nan)
    calibrated[places] = length_residuals(scores[places], characters[places].astype(float))
    home: dict[int, int] = {}  # the group of each response; of several the first, whatever the order of items
    for item, one in zip(items, item_group.tolist(), strict=True):
        home |= {place: min(one, home.get(place, one)) for place in item.right + item.wrong}
    response_group = np.array([home[place] for place in places])
    numbers = np.array([len(one.spans) for one in responses])

    def correlation(x: np.ndarray) -> dict[str, float | None]:
        return correlation_estimate(scores[places], x, response_group, counts)

    subsets = {}
    for name in sorted({item.subset for item in items}):
        inside = subset == name
        own = [item for item in items if item.subset == name]
        subsets[name] = {
            "items": len(own),
            "prompts": len({item.group for item in own}),
            **against_length(margins[inside], longer_by[inside], group[inside], counts),
        }
    return {
        "problems": [*task.problems, *problems, *not_blind],
        "items": len(items),
        "responses": len(responses),
        "dropped_sentences": sum(one.dropped_sentences > 0 for one in responses),
        "cut_prompts": sum(one.cut_prompt_tokens > 0 for one in responses),
        "figures": figure_estimates(figures, items, item_group, scores, counts, means or {}),
        "subsets": subsets,
        "measures": {
            "ties": int(np.sum(margins == 0)),
            **against_length(margins, longer_by, group, counts),
            "length_quintiles": length_quintiles(margins, longer_by),
            "score_length_correlation": correlation(characters[places]),
            "score_sentences_correlation": correlation(numbers),
            "expected_calibration_error": expected_calibration_error(margins),
            "prompt_blind_accuracy": mean_estimate(blind_hits, group, counts),
            "length_calibrated_accuracy": mean_estimate(calibrated[right] > calibrated[wrong], group, counts),
            "weight_entropy": weight_entropy(responses),
        },
    }


def chosen_items(task: Task, options: Options) -> Task:
    """The items of held-out prompts, if asked for, and of them at most `limit`: whole prompts in an order drawn by the
    seed, but for those with more items than are left to take.

    Raises:
        PreferenceDataError: if none is left.
    """
    items = [item for item in task.items if not options.held_out or is_held_out(item.group)]
    if not items:
        which = "none of a held-out prompt" if task.items else "none at all"
        problem = f" {task.problems[0]}." if task.problems else ""
        raise PreferenceDataError(f"got {len(task.items)} items, {which}; expected at least one.{problem}")
    if options.limit is not None:
        sizes: dict[str, int] = {}
        for item in items:
            sizes[item.group] = sizes.get(item.group, 0) + 1
        order = sorted(sizes)
        random.Random(f"{options.seed} limit").shuffle(order)
        left, taken = options.limit, set()
        for group in order:
            if sizes[group] <= left:
                taken.add(group)
                left -= sizes[group]
        if not taken:
            raise PreferenceDataError(
                f"limit is {options.limit}, but every prompt has at least {min(sizes.values())} items, and they stay "
                "together. Pass a higher --limit."
            )
        items = [item for item in items if item.group in taken]
    return replace(task, items=tuple(items))


def score_all(
    scorer: scoring.Scorer, responses: Sequence[scoring.Item], what: str
) -> tuple[list[ScoredResponse | None], list[str]]:
    """A result for each response, None where it does not fit the model, and the reasons; `what` names the bar."""
    with tqdm(total=len(responses), unit="response", desc=what, file=sys.stderr) as bar:

        def progress(done: int, _: int) -> None:
            bar.update(done - bar.n)

        readings: list[scoring.Reading] = []
        reasons: dict[int, str] = {}
        for i, item in enumerate(responses):
            try:
                readings += scorer.encode([item], [f"response {item[1][:40]!r}"])
            except EncodingError as error:
                reasons[i] = str(error)
        scored = iter(scorer.score_readings(readings, progress))
    return [None if i in reasons else next(scored) for i in range(len(responses))], list(reasons.values())


def blind_scores(scorer: scoring.Scorer, task: Task, places: Sequence[int], seed: int) -> tuple[np.ndarray, list[str]]:
    """Scores of the responses at `places`, each under another prompt, NaN for the rest, (R,); and what was left out."""
    prompts = {prompt_key(task.responses[place][0]): task.responses[place][0] for place in places}
    other = other_prompts(list(prompts), seed)
    blind = np.full(len(task.responses), np.nan)
    if not other:
        return blind, []
    asked = [(prompts[other[prompt_key(task.responses[p][0])]], task.responses[p][1]) for p in places]
    scored, reasons = score_all(scorer, asked, "scored under another prompt")
    blind[places] = [np.nan if one is None else one.score for one in scored]
    count = f"{len(reasons)} responses not in prompt-blind accuracy: under another prompt they do not fit the model"
    return blind, [f"{count}. The first: {reasons[0]}"] if reasons else []


def figure_estimates(
    figures: Figures,
    items: Sequence[Item],
    group: np.ndarray,
    scores: np.ndarray,
    counts: np.ndarray,
    means: Means,
) -> dict[str, dict[str, float | None]]:
    """The official numbers with their intervals, from the samples that hold each part of what they rest on.

    Args:
        group: (items,) places of their groups.
        counts: (draws, G).
    """
    values = figures(items, scores)
    members: list[list[Item]] = [[] for _ in range(counts.shape[1])]
    inside: dict[str, set[int]] = {}  # places of the groups of each subset
    for item, place in zip(items, group.tolist(), strict=True):
        members[place].append(item)
        inside.setdefault(item.subset, set()).add(place)
    alone = {subset: figures([one for one in items if one.subset == subset], scores) for subset in inside}
    samples = []
    for row in counts:
        drawn = np.repeat(np.arange(len(row)), row.astype(int))
        samples.append(figures(list(chain.from_iterable(members[place] for place in drawn)), scores))
    estimates = {}
    for name, value in values.items():
        parts: dict[str, set[int]] = {}  # places of the groups that each part of the figure rests on
        for subset, places in inside.items():
            if name in alone[subset]:
                parts.setdefault(means[name](subset) if name in means else "all", set()).update(places)
        held = [counts[:, sorted(places)].any(1) for places in parts.values()]  # (draws,) each
        sampled = np.array([sample.get(name, np.nan) for sample in samples])
        fewest = min(map(len, parts.values()), default=0)
        estimates[name] = estimate(value, np.where(np.all(held, axis=0), sampled, np.nan), fewest)
    return estimates
