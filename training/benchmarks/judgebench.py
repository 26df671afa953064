"""JudgeBench (arXiv 2410.12784): pairs of a right and a wrong answer to a hard question, both by one model.

350 pairs are by GPT-4o, the set that is usually reported, and 270 by Claude 3.5 Sonnet. A pair is right where the
answer that the label names scores higher. A reward model scores each answer by itself, so the order of the two says
nothing and each pair is read once; only a tie would depend on it (the authors' code gives it to B): it is wrong here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sentrm.scoring import Scorer

from .questions import Questions, accuracies, missing, read_rows, share
from .sources import located
from .task import Item, Options, Task, ranked

HUB, SPLITS = "ScalerLab/JudgeBench", ("gpt", "claude")
EXPECTED = (
    "a pair of JudgeBench: pair_id, question, response_A, response_B, label (A>B or B>A), response_model (gpt… or "
    "claude…) and source"
)
COUNTS = {"gpt": 350, "claude": 270}  # ScalerLab/JudgeBench, README; by the beginning of response_model
NAMES = {"gpt": "JudgeBench, GPT-4o", "claude": "JudgeBench, Claude 3.5 Sonnet"}
CATEGORIES = {  # how `source` begins; the paper's four columns
    "mmlu-pro": "knowledge",
    "livebench-reasoning": "reasoning",
    "livebench-math": "mathematics",
    "livecodebench": "coding",
}


def read(records: Iterable[dict[str, Any]]) -> Task:
    """Rows of ScalerLab/JudgeBench.

    Raises PreferenceDataError for a row without the fields of one.
    """
    questions = Questions()
    for row in read_rows(records, EXPECTED):
        a_is_right = row.one_of(("A>B", "B>A"), "label") == "A>B"
        model = next((one for one in COUNTS if row.text("response_model").startswith(one)), None)
        category = next((name for one, name in CATEGORIES.items() if row.text("source").startswith(one)), None)
        if model is None or category is None:
            raise row.error(f"response_model is {row.text('response_model')!r:.60}, source {row.text('source')!r:.60}")
        answers = [row.text("response_A")], [row.text("response_B")]
        right, wrong = answers if a_is_right else answers[::-1]
        questions.add(row.text("pair_id"), f"{model} {category}", row.text("question"), right, wrong)
    return questions.task()


def figures(items: Sequence[Item], scores: np.ndarray) -> dict[str, float]:
    found = accuracies(items, scores)
    wholes = {NAMES[model]: share(found, [f"{model} {name}" for name in CATEGORIES.values()]) for model in COUNTS}
    parts = {
        f"{NAMES[model].removeprefix('JudgeBench, ')}, {name}": share(found, [f"{model} {name}"])
        for model in COUNTS
        for name in CATEGORIES.values()
    }
    return {name: value for name, value in (wholes | parts).items() if value is not None}


def run(scorer: Scorer, options: Options) -> dict[str, Any]:
    result = ranked(scorer, read(located(options, HUB, SPLITS)), figures, options)
    found = {subset.split()[0] for subset in result["subsets"]}
    result["problems"] += missing(COUNTS, found, "no figure for them")
    return result
