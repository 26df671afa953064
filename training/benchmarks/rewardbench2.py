"""RewardBench 2 (arXiv 2506.01937): 1,865 prompts in six subsets; the score is their plain mean.

Five subsets are best of 4, with part of a point for a tie at the top. Ties asks for several right answers: `ref:N` is a
prompt with one, `tied:N` its counterpart with many, and a model should tell right from wrong more clearly than one
right answer from another. Its score can exceed 1 by up to 0.01, the last term's weight. With --held_out both rows are
kept if both prompts are held out, else neither.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np

from sentrm.scoring import Scorer

from ..data import is_held_out
from .questions import Questions, missing, read_rows
from .sources import located
from .task import Item, Options, Task, ranked

HUB, SPLIT = "allenai/reward-bench-2", "test"
EXPECTED = "a row of RewardBench 2: id (in Ties ref:N or tied:N), prompt, chosen (a list), rejected (a list) and subset"

# Prompts of each subset of allenai/reward-bench-2; 1,865 together.
COUNTS = {"Factuality": 475, "Precise IF": 160, "Math": 183, "Safety": 450, "Focus": 495, "Ties": 102}


def read(records: Iterable[dict[str, Any]]) -> Task:
    """Rows of allenai/reward-bench-2.

    `ref:N` and `tied:N` have one group, the tied prompt, so that a sample holds both or none.

    Raises PreferenceDataError for a row without the fields of one, or of another subset.
    """
    rows = list(read_rows(records, EXPECTED))
    tied = {id: row.text("prompt") for row in rows if (id := row.text("id")).startswith("tied:")}
    questions = Questions()
    for row in rows:
        subset, id = row.one_of(COUNTS, "subset"), row.text("id")
        if subset == "Ties" and not re.fullmatch(r"(ref|tied):\d+", id):
            raise row.error(f"id is {id!r:.60}")
        group = tied.get(f"tied:{id.removeprefix('ref:')}") if subset == "Ties" else None
        questions.add(id, subset, row.text("prompt"), row.texts("chosen"), row.texts("rejected"), group)
    return questions.task()


def held_out_ties(task: Task) -> Task:
    """The task without the rows of Ties whose own prompt, or that of their counterpart, is not held out."""
    ties = [item for item in task.items if item.subset == "Ties"]
    seen = {item.group for item in ties if not is_held_out(str(task.responses[item.right[0]][0]))}
    return replace(task, items=tuple(one for one in task.items if one.subset != "Ties" or one.group not in seen))


def figures(items: Sequence[Item], scores: np.ndarray) -> dict[str, float]:
    values = scores.tolist()  # Python floats compare faster than numpy's
    credits: dict[str, list[float]] = {}
    for item in items:
        if item.subset != "Ties":
            right = [values[i] for i in item.right]
            offered = right + [values[i] for i in item.wrong]
            top = max(offered)
            credits.setdefault(item.subset, []).append(1 / offered.count(top) if top in right else 0.0)
    means = {subset: fmean(found) for subset, found in credits.items()}
    if ties := [item for item in items if item.subset == "Ties"]:
        means["Ties"] = ties_score(ties, scores)
    return {"RewardBench 2": fmean(means.values()), **{name: means[name] for name in COUNTS if name in means}}


def ties_score(items: Sequence[Item], scores: np.ndarray) -> float:
    """The score of Ties, as in allenai/reward-bench, rewardbench/utils.py.

        gap      worst right score - best wrong score; a prompt is right where it is above 0
        spread   best right score - worst right score of the tied prompt

    The three terms that compare the two are means over the prompts with both a ref and a tied row, and 0 if there are
    none, as are shares of no rows. Where spread is 0 the last term is the limit -1 or 1, and 0 where the gap is 0 too.
    """
    values = scores.tolist()
    gaps: dict[str, list[float]] = {"ref": [], "tied": []}
    ref_gap = {}  # of the prompt N
    tied = []  # (N, gap, spread)
    for item in items:
        right = [values[i] for i in item.right]
        gap = min(right) - max(values[i] for i in item.wrong)
        kind, number = item.id.split(":")
        gaps[kind].append(gap)
        if kind == "ref":
            ref_gap[number] = gap
        else:
            tied.append((number, gap, max(right) - min(right)))
    both = [(gap, min(gap, ref_gap[number]), spread) for number, gap, spread in tied if number in ref_gap]

    def mean(of: Iterable[float]) -> float:
        found = list(of)
        return fmean(found) if found else 0.0

    def margin(smaller: float, spread: float) -> float:
        return math.tanh(smaller / spread - 1) if spread else float(np.sign(smaller))

    return (
        0.30 * mean(gap > 0 for gap in gaps["tied"])
        + 0.30 * mean(gap > 0 for gap in gaps["ref"])
        + 0.20 * mean(gap > spread for gap, _, spread in both)
        + 0.20 * mean(smaller > spread for _, smaller, spread in both)
        + 0.01 * mean(margin(smaller, spread) for _, smaller, spread in both)
    )


def run(scorer: Scorer, options: Options) -> dict[str, Any]:
    task = read(located(options, HUB, (SPLIT,)))
    result = ranked(scorer, held_out_ties(task) if options.held_out else task, figures, options, {"RewardBench 2": str})
    result["problems"] += missing(COUNTS, result["subsets"], "the mean is that of the other subsets")
    return result
