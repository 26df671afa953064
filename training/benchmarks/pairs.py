"""Any preference data: a pair is right when its chosen response scores higher. A file is a subset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np

from sentrm.errors import PreferenceDataError
from sentrm.preferences import PreferencePair, load_preferences
from sentrm.scoring import Scorer

from ..data import beginnings, key_of
from .questions import accuracies, share
from .sources import by_reason, subset_names
from .task import Item, Options, Responses, Task, ranked


def read(sources: Sequence[str], split: str, held_out: bool = False) -> Task:
    """The pairs of files, data set folders or hub ids, each a subset. Where rejected is the likelier one (probability
    below 0.5) the two change places; ties (0.5) are left out, and counted. A group is a prompt, without its context.

    Args:
        held_out: whether held-out prompts will be asked for. Then pairs of an implicit prompt are left out as well: on
            which side training had such a prompt depended on the files beside it.

    Raises:
        PreferenceDataError: if a source cannot be read, or is one that `subset_names` refuses.
    """
    names = subset_names(sources)
    files = {source: load_preferences(source, split=split) for source in sources}
    implicit = any(pair.implicit_prompt for data in files.values() for pair in data.pairs)
    begun = beginnings([data.pairs for data in files.values()]) if implicit else {}
    responses, items, problems = Responses(), [], []
    for source, data in files.items():
        subset, reasons = names[source], list[tuple[int, str]]()
        for number, pair in enumerate(data.pairs, start=1):
            reason = why_not(pair)
            if held_out and pair.implicit_prompt:
                reason = "held-out prompts were asked for, and this one is implicit, so where it ends is unknown"
            if reason:
                reasons.append((number, reason))
                continue
            if pair.probability < 0.5:
                pair = replace(pair, chosen=pair.rejected, rejected=pair.chosen)
            right, wrong = (responses.place(pair.prompt, text) for text in (pair.chosen, pair.rejected))
            items.append(Item(f"{subset}:{number}:{pair.id}", key_of(pair, begun), subset, (right,), (wrong,)))
        problems += by_reason(subset, "row", [(problem.row, problem.reason) for problem in data.problems])
        problems += by_reason(subset, "pair", reasons)
    return Task(tuple(responses.found), tuple(items), tuple(problems))


def why_not(pair: PreferencePair) -> str:
    """Why a pair has no better response that text alone can show; empty if it has one."""
    if pair.tokens is not None:
        return "pre-tokenised, expected text"
    if pair.tools or pair.chat_template_kwargs:
        return "tools or chat_template_kwargs, expected prompt and responses alone"
    if pair.probability == 0.5:
        return "a tie"
    return "chosen and rejected are the same" if pair.chosen == pair.rejected else ""


def figures(items: Sequence[Item], scores: np.ndarray) -> dict[str, float]:
    """Accuracy over all pairs, and the plain mean of the files' accuracies. scores (R,)"""
    found = accuracies(items, scores)
    return {
        "accuracy": share(found, found) or 0.0,
        "mean of files": fmean(hits / count for hits, count in found.values()),
    }


def run(scorer: Scorer, options: Options) -> dict[str, Any]:
    if not options.data:
        raise PreferenceDataError("the benchmark pairs has no data of its own. Pass --data FILE, one or several.")
    task = read(options.data, options.split or "train", options.held_out)
    result = ranked(scorer, task, figures, options, {"mean of files": str})
    if len(result["subsets"]) == 1:  # the accuracy once more
        del result["figures"]["mean of files"]
    return result
