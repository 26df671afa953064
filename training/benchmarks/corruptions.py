"""Does the score fall, and the reward point at the place, where one sentence of a good response was made worse?

From the good responses of any preference data, each once, `training.corruptions` makes one version of every kind that
applies. The good response should score higher, and the changed sentence, whose place is known, should have the lowest
reward. A kind is a subset. With `--held_out`, prompts, borrowed sentences and phrases are none of those that a model
trained on corrupted sources has seen.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sentrm.errors import PreferenceDataError
from sentrm.results import Span
from sentrm.scoring import Scorer

from ..corruptions import KINDS, Corruptor, GoodResponse
from ..data import is_held_out
from . import pairs
from .sentences import Marks, sentence_figures
from .task import Item, Options, Responses, Task, ranked, score_all


def read(options: Options) -> tuple[Task, list[Span]]:
    """The good responses against their corrupted versions, and where in each item's wrong response the change stands.

    `limit` is of good responses. What is borrowed comes from all good responses of the same side of the split.

    Raises:
        PreferenceDataError: without data, for data that cannot be read, and if nothing can be corrupted.
    """
    if not options.data:
        raise PreferenceDataError("the benchmark corruptions has no data of its own. Pass --data FILE, one or several.")
    given = pairs.read(options.data, options.split or "train")
    places = {item.right[0]: item.group for item in given.items}
    good = [GoodResponse(*given.responses[place], group) for place, group in places.items()]
    good.sort(key=lambda one: json.dumps([one.prompt, one.text]))  # the order of the rows does not matter
    sides = {side: [one for one in good if is_held_out(one.split_key) == side] for side in (False, True)}
    corruptors = {side: Corruptor(ours, held_out=side, seed=options.seed) for side, ours in sides.items()}
    chosen = sides[True] if options.held_out else good
    if options.limit is not None and options.limit < len(chosen):
        chosen = random.Random(f"{options.seed} limit").sample(chosen, options.limit)

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
    return Task(tuple(responses.found), tuple(items), (*given.problems, *problems)), changed


def figures(items: Sequence[Item], scores: np.ndarray) -> dict[str, float]:
    """Accuracy over all corruptions, and the plain mean of the kinds' accuracies. scores (R,)"""
    accuracy, mean = pairs.figures(items, scores).values()
    return {"accuracy": accuracy, "mean of kinds": mean}


def run(scorer: Scorer, options: Options) -> dict[str, Any]:
    task, changed = read(options)
    result = ranked(scorer, task, figures, replace(options, held_out=False, limit=None))  # `read` has chosen
    scored, _ = score_all(scorer, [task.responses[item.wrong[0]] for item in task.items], "scored by sentence")
    fits = [(one, i) for i, one in enumerate(scored) if one is not None]
    marks = [Marks(task.items[i].group, task.items[i].subset, (changed[i],)) for _, i in fits]
    sentences, left_out = sentence_figures(scorer, [one for one, _ in fits], marks, options)
    return result | {"problems": [*result["problems"], *left_out], "sentences": sentences}
