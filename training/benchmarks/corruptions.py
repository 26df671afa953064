"""Does the score fall, and the reward point at the place, where one sentence of a good response was made worse?

From the good responses of any preference data, each once, `training.corruptions` makes one version of every kind that
applies. The good response should score higher, and the changed sentence, whose place is known, should have the lowest
reward. A kind is a subset. A version whose change the model does not read, because the response is too long for it, is
left out: all figures rest on the same responses. With `--held_out`, prompts, borrowed sentences and phrases are none of
those that a model trained on corrupted versions of the same files has seen.

A version is always longer where a sentence is put in (irrelevant, repetition, hedge, rudeness), always shorter where
one breaks off, and as long as before where its words are shuffled. A length rule then has an accuracy of 1 or 0 by
construction, which says nothing of length in other data: read the accuracy, not what it gains on the length rules.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sentrm.errors import PreferenceDataError
from sentrm.results import ScoredResponse, Span
from sentrm.scoring import Scorer

from ..corruptions import KINDS, Corruptor, GoodResponse
from ..data import is_held_out
from . import pairs
from .sentences import Marks, sentence_figures
from .task import Item, Options, Responses, Task, chosen_items, measured, score_task

LENGTH_RULES = (
    "length rules: by construction the corrupted version is always longer in irrelevant, repetition, hedge and "
    "rudeness, and always shorter in broken_off, so read accuracy, not gain"
)


def read(options: Options) -> tuple[Task, list[Span]]:
    """The good responses against their corrupted versions, and where in each item's wrong response the change stands.

    `limit` is of good responses: those of whole prompts in an order drawn by the seed, so that it may not be reached.
    What is borrowed comes from all good responses of the same side of the split.

    Raises:
        PreferenceDataError: without data, for data that cannot be read, if no good response is chosen, and if nothing
            can be corrupted.
    """
    if not options.data:
        raise PreferenceDataError("the benchmark corruptions has no data of its own. Pass --data FILE, one or several.")
    given = pairs.read(options.data, options.split or "train", options.held_out)
    places = {item.right[0]: item.group for item in given.items}
    good = [GoodResponse(*given.responses[place], group) for place, group in places.items()]
    good.sort(key=lambda one: json.dumps([one.prompt, one.text]))  # the order of the rows does not matter
    texts: dict[bool, list[str]] = {False: [], True: []}  # by side, of good and bad responses
    for item in given.items:
        texts[is_held_out(item.group)] += [given.responses[place][1] for place in item.right + item.wrong]
    corruptors = {}
    for side in (False, True):
        ours = [one for one in good if is_held_out(one.split_key) == side]
        corruptors[side] = Corruptor(ours, texts[not side], held_out=side, seed=options.seed)
    asked = tuple(Item(str(i), one.split_key, "", (i,), ()) for i, one in enumerate(good))
    chosen = [good[item.right[0]] for item in chosen_items(Task((), asked, given.problems), options).items]

    responses, items, changed = Responses(), list[Item](), list[Span]()
    for number, one in enumerate(chosen, start=1):
        for kind in KINDS:
            bad = corruptors[is_held_out(one.split_key)].corrupt(one, kind)
            if bad is not None:
                right, wrong = (responses.place(one.prompt, text) for text in (one.text, bad.text))
                items.append(Item(f"{number}:{kind}", one.split_key, kind, (right,), (wrong,)))
                changed.append(Span(bad.start, bad.end))
    if not items:
        which = " of a held-out prompt" if options.held_out else ""
        raise PreferenceDataError(
            f"{', '.join(options.data)}: {len(chosen)} good responses{which}, none that a kind of corruption applies "
            "to. Expected some English sentences or numbers."
        )
    without = {kind: len(chosen) - sum(item.subset == kind for item in items) for kind in KINDS}
    problems = [f"{kind} does not apply to {n} of {len(chosen)} good responses" for kind, n in without.items() if n]
    return Task(tuple(responses.found), tuple(items), (*given.problems, LENGTH_RULES, *problems)), changed


def figures(items: Sequence[Item], scores: np.ndarray) -> dict[str, float]:
    """Accuracy over all corruptions, and the plain mean of the kinds' accuracies. scores (R,)"""
    accuracy, mean = pairs.figures(items, scores).values()
    return {"accuracy": accuracy, "mean of kinds": mean}


def change_is_read(right: ScoredResponse, wrong: ScoredResponse, changed: Span) -> bool:
    """Whether the changed sentence begins in what was scored of the wrong response, and makes a difference there."""
    read_right, read_wrong = (one.text[: one.spans[-1].end] for one in (right, wrong))
    return changed.start < len(read_wrong) and read_right != read_wrong


def run(scorer: Scorer, options: Options) -> dict[str, Any]:
    task, spans = read(options)
    changed = {item.id: span for item, span in zip(task.items, spans, strict=True)}
    options = replace(options, held_out=False, limit=None)  # `read` has chosen
    task, scored, problems = score_task(scorer, task, options)
    items = tuple(
        item for item in task.items if change_is_read(scored[item.right[0]], scored[item.wrong[0]], changed[item.id])
    )
    if unread := len(task.items) - len(items):
        problems.append(f"{unread} items left out: the response is too long for the model to read the change")
    if not items:
        raise PreferenceDataError(f"no item is left: {problems[-1]}. Pass shorter responses or a higher --max_length.")
    result = measured(scorer, replace(task, items=items), scored, figures, options, problems, {"mean of kinds": str})
    marks = [Marks(item.group, item.subset, (changed[item.id],)) for item in items]
    sentences, left_out = sentence_figures(scorer, [scored[item.wrong[0]] for item in items], marks, options)
    return result | {"problems": [*result["problems"], *left_out], "sentences": sentences}
