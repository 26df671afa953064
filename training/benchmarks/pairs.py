"""Any preference data: a pair is right when its chosen response scores higher. A file is a subset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sentrm.errors import PreferenceDataError
from sentrm.preferences import PreferencePair, load_preferences
from sentrm.scoring import Scorer

from ..data import beginnings, begins_as
from .task import Item, Options, Responses, Task, ranked


def read(sources: Sequence[str], split: str) -> Task:
    """The pairs of files, data set folders or hub ids. Where rejected is the likelier one (probability below 0.5) the
    two change places; ties (0.5) are left out, and counted. A group is a prompt, without its context.

    Raises:
        PreferenceDataError: if a source cannot be read.
    """
    files = {source: load_preferences(source, split=split) for source in sources}
    implicit = any(pair.implicit_prompt for data in files.values() for pair in data.pairs)
    begun = beginnings([data.pairs for data in files.values()]) if implicit else {}
    responses, items, problems = Responses(), [], []
    for source, data in files.items():
        subset = Path(source).name.split(".")[0]
        problems += [f"{subset}: row {problem.row}: {problem.reason}" for problem in data.problems]
        left_out: dict[str, int] = {}
        for number, pair in enumerate(data.pairs, start=1):
            if reason := why_not(pair):
                left_out[reason] = left_out.get(reason, 0) + 1
                continue
            if pair.probability < 0.5:
                pair = replace(pair, chosen=pair.rejected, rejected=pair.chosen)
            group = (pair.implicit_prompt and begins_as(pair, begun)) or pair.split_key
            right, wrong = (responses.place(pair.prompt, text) for text in (pair.chosen, pair.rejected))
            items.append(Item(f"{subset}:{number}:{pair.id}", group, subset, (right,), (wrong,)))
        problems += [f"{subset}: {count} pairs left out: {reason}" for reason, count in left_out.items()]
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
    hits: dict[str, list[bool]] = {}
    for item in items:
        hits.setdefault(item.subset, []).append(scores[item.right[0]] > scores[item.wrong[0]])
    return {
        "accuracy": sum(map(sum, hits.values())) / len(items),
        "mean of files": sum(sum(one) / len(one) for one in hits.values()) / len(hits),
    }


def run(scorer: Scorer, options: Options) -> dict[str, Any]:
    if not options.data:
        raise PreferenceDataError("the benchmark pairs has no data of its own. Pass --data FILE, one or several.")
    return ranked(scorer, read(options.data, options.split or "train"), figures, options)
