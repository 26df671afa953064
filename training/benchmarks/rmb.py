"""RMB (arXiv 2410.09893): pairs, about 14,500, and best-of-N lists, about 3,800, for helpfulness and harmlessness.

A pair is right where chosen scores above rejected, a list where its best answer scores above every other; a tie is
wrong. The score is the plain mean of the four: two kinds of question, two goals. It has no hub data set: the rows are
the files of RMB_dataset in github.com/Zhou-Zoey/RMB-Reward-Model-Benchmark.
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

SOURCE = "github.com/Zhou-Zoey/RMB-Reward-Model-Benchmark"
EXPECTED = (
    "a row of RMB: conversation_input, category_path (Pairwise_set/… or BoN_set/…), and pair_uid, chosen.answer and "
    "reject.answer, or bon_uid, bon_best.answer and loser_list"
)
SETTINGS = {  # how category_path begins; the four columns of the paper's results
    "BoN_set/Helpfulness": "best-of-N, helpfulness",
    "Pairwise_set/Helpfulness": "pairs, helpfulness",
    "BoN_set/Harmlessness": "best-of-N, harmlessness",
    "Pairwise_set/Harmlessness": "pairs, harmlessness",
}


def read(records: Iterable[dict[str, Any]]) -> Task:
    """Rows of RMB_dataset. A subset is one task of helpfulness, or one kind of harm, of pairs or of lists.

    Raises PreferenceDataError for a row without the fields of one, or of another category.
    """
    questions = Questions()
    for row in read_rows(records, EXPECTED):
        subset = "/".join(row.text("category_path").split("/")[:3])
        if setting(subset) not in SETTINGS:
            raise row.error(f"category_path is {subset!r:.60}")
        prompt = row.prompt("conversation_input")
        if subset.startswith("Pairwise_set/"):
            id, right, wrong = row.text("pair_uid"), row.text("chosen", "answer"), [row.text("reject", "answer")]
        else:
            id, right = row.text("bon_uid"), row.text("bon_best", "answer")
            wrong = [loser.text("answer") for loser in row.rows("loser_list")]
        questions.add(f"{subset.split('/')[0]} {id}", subset, prompt, [right], wrong)
    return questions.task()


def setting(subset: str) -> str:
    return "/".join(subset.split("/")[:2])


def figures(items: Sequence[Item], scores: np.ndarray) -> dict[str, float]:
    found = accuracies(items, scores)
    shares = {name: share(found, [one for one in found if setting(one) == key]) for key, name in SETTINGS.items()}
    present = {name: value for name, value in shares.items() if value is not None}
    return {"RMB": fmean(present.values()), **present}


def run(scorer: Scorer, options: Options) -> dict[str, Any]:
    if not options.data:
        raise PreferenceDataError(f"rmb has no hub data set. Get {SOURCE} and pass --data RMB_dataset.")
    options = with_files(options, "*.json")
    result = ranked(scorer, read(located(options, SOURCE, ("",))), figures, options, {"RMB": setting})
    found = {setting(subset) for subset in result["subsets"]}
    result["problems"] += missing(SETTINGS, found, "the mean is that of the other settings")
    return result
