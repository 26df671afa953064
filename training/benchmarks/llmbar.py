"""LLMBar (arXiv 2310.07641): 419 pairs of which one answer follows the instruction: 100 natural, 319 adversarial.

A pair is right where the output that the label names scores higher; a tie is wrong. Adversarial pairs, in four
sub-sets, have a wrong output that looks better. The data set on the hub is a script, which `datasets` no longer runs:
the rows are the files dataset.json in Dataset/LLMBar of github.com/princeton-nlp/LLMBar.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from sentrm.errors import PreferenceDataError
from sentrm.scoring import Scorer

from .questions import Questions, accuracies, missing, read_rows, share
from .sources import located, with_files
from .task import Item, Options, Task, ranked

SOURCE = "github.com/princeton-nlp/LLMBar"
EXPECTED = (
    "a pair of LLMBar: input, output_1, output_2 and label (1 or 2), in a folder or file named Natural, Neighbor, "
    "GPTInst, GPTOut or Manual, or with such a subset"
)
COUNTS = {"Natural": 100, "Neighbor": 134, "GPTInst": 92, "GPTOut": 47, "Manual": 46}  # princeton-nlp/LLMBar
ADVERSARIAL = ("Neighbor", "GPTInst", "GPTOut", "Manual")


def read(records: Iterable[dict[str, Any]]) -> Task:
    """Rows of princeton-nlp/LLMBar; the name of the sub-set stands in `subset`, or is that of the file or its folder.

    Raises PreferenceDataError for a row without the fields of one, or of another sub-set.
    """
    questions = Questions()
    for row in read_rows(records, EXPECTED):
        subset = row.one_of(COUNTS, "subset", row.first("subset", "file").removeprefix("Adversarial_"))
        outputs = [row.text("output_1")], [row.text("output_2")]
        label = row.value("label")
        if label not in (1, 2, "1", "2"):
            raise row.error(f"label is {label!r:.60}")
        right, wrong = outputs if int(label) == 1 else outputs[::-1]
        questions.add(row.where, subset, row.text("input"), right, wrong)
    return questions.task()


def figures(items: Sequence[Item], scores: np.ndarray) -> dict[str, float]:
    found = accuracies(items, scores)
    parts = {name: share(found, [name]) for name in COUNTS}
    adversarial = [value for name in ADVERSARIAL if (value := parts[name]) is not None]
    named = {
        "LLMBar": share(found, COUNTS),
        "natural": parts.pop("Natural"),
        "adversarial": share(found, ADVERSARIAL),
        "adversarial, mean of sub-sets": fmean(adversarial) if adversarial else None,
        **{f"adversarial, {name}": value for name, value in parts.items()},
    }
    return {name: value for name, value in named.items() if value is not None}


def run(scorer: Scorer, options: Options) -> dict[str, Any]:
    if not options.data:
        raise PreferenceDataError(f"llmbar cannot be read from the hub. Get {SOURCE} and pass --data Dataset/LLMBar.")
    options = with_files(options, "dataset.json")
    result = ranked(
        scorer, read(located(options, SOURCE, ("",))), figures, options, {"adversarial, mean of sub-sets": str}
    )
    result["problems"] += missing(COUNTS, result["subsets"], "no figure for them")
    return result
