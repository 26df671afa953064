"""The public benchmarks: their formulas against numbers worked out by hand, their tables, their rows, complete runs."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from sentrm.errors import PreferenceDataError
from sentrm.scoring import Scorer
from training.benchmarks import judgebench, llmbar, rewardbench, rewardbench2, rmb, rmbench
from training.benchmarks.questions import accuracies
from training.benchmarks.task import Item, Options, Task
from training.data import is_held_out

Rows = list[dict[str, Any]]


def options(*data: str | Path) -> Options:
    return Options(tuple(map(str, data)), None, held_out=False, limit=None, seed=0, draws=20)


def given(task: Task, score: Callable[[str], float]) -> np.ndarray:
    """Scores by the text of each response."""
    return np.array([score(text) for _, text in task.responses])


def number(text: str) -> float:
    """The number a response ends with."""
    return float(text.split()[-1])


def figures(benchmark: ModuleType, rows: Rows, score: Callable[[str], float] = number) -> dict[str, float]:
    task = benchmark.read(rows)
    return benchmark.figures(task.items, given(task, score))


# Rows in the schema of each benchmark. A response ends with the score it is to get.


def rewardbench_row(subset: str, chosen: float, rejected: float, n: int = 0) -> dict[str, Any]:
    texts = {"prompt": f"Question {n}?", "chosen": f"So. {chosen}", "rejected": f"No. {rejected}", "subset": subset}
    return {**texts, "id": n, "chosen_model": "a", "rejected_model": "b"}


def rewardbench2_row(subset: str, id: str, right: list[float], wrong: list[float]) -> dict[str, Any]:
    texts = {"chosen": [f"So. {one}" for one in right], "rejected": [f"No. {one}" for one in wrong]}
    counts = {"num_correct": len(right), "num_incorrect": len(wrong), "total_completions": len(right) + len(wrong)}
    return {"id": id, "prompt": f"Question {subset} {id}?", "subset": subset, **texts, **counts}


def rmbench_row(domain: str, right: list[float], wrong: list[float], n: int = 0) -> dict[str, Any]:
    texts = {"chosen": [f"So. {one}" for one in right], "rejected": [f"No. {one}" for one in wrong]}
    return {"id": f"{domain}-{n}", "prompt": f"Question {domain} {n}?", "domain": domain, **texts}


def rmb_row(path: str, best: float, others: list[float], n: int = 0) -> dict[str, Any]:
    asked = {"role": "user", "content": f"Question {path} {n}?", "language": "English"}
    texts = [{"llm_name": "m", "answer": f"So {i}. {one}"} for i, one in enumerate([best, *others])]
    if path.startswith("Pairwise_set"):
        answers = {"pair_uid": str(n), "chosen": texts[0] | {"score": 5.0}, "reject": texts[1] | {"score": 1.0}}
    else:
        answers = {"bon_uid": str(n), "bon_best": texts[0], "loser_list": texts[1:]}
    return {"conversation_input": [asked], "category_path": path, **answers}


def judgebench_row(model: str, source: str, label: str, a: float, b: float, n: int = 0) -> dict[str, Any]:
    answers = {"response_A": f"So. {a}", "response_B": f"No. {b}", "label": label, "response_model": model}
    return {"pair_id": f"{model}{n}", "original_id": "1", "source": source, "question": f"Question {n}?", **answers}


def llmbar_row(subset: str, label: int, one: float, two: float, n: int = 0) -> dict[str, Any]:
    outputs = {"output_1": f"So. {one}", "output_2": f"No. {two}", "label": label}
    return {"input": f"Question {subset} {n}?", "subset": subset, **outputs}


def whole(right: float, wrong: float) -> dict[ModuleType, Rows]:
    """Rows of every subset of every benchmark; each right response gets one score, each wrong one another."""
    a, b = {"A>B": (right, wrong), "B>A": (wrong, right)}, {1: (right, wrong), 2: (wrong, right)}
    models, sources = ("gpt-4o-2024-05-13", "claude-3-5-sonnet-20240620"), judgebench.CATEGORIES
    return {
        rewardbench: [rewardbench_row(subset, right, wrong, n) for subset in rewardbench.COUNTS for n in range(2)],
        rewardbench2: [
            *(
                rewardbench2_row(one, str(n), [right], [wrong] * 3)
                for one in [*rewardbench2.COUNTS][:5]
                for n in (0, 1)
            ),
            *(rewardbench2_row("Ties", f"ref:{n}", [right], [wrong] * 3) for n in range(3)),
            *(rewardbench2_row("Ties", f"tied:{n}", [right] * 3, [wrong] * 2) for n in range(3)),
        ],
        rmbench: [rmbench_row(one, [right] * 3, [wrong] * 3, n) for one in rmbench.COUNTS for n in range(2)],
        rmb: [
            rmb_row(f"{setting}/{one}", right, [wrong] * (1 if setting.startswith("Pair") else 3), n)
            for setting in rmb.SETTINGS
            for one in ("S1", "Chat/Discussion")
            for n in range(2)
        ],
        judgebench: [
            judgebench_row(model, f"{source}-x", label, *scores, n)
            for model in models
            for source in sources
            for n, (label, scores) in enumerate(a.items())
        ],
        llmbar: [
            llmbar_row(one, label, *scores, n) for one in llmbar.COUNTS for n, (label, scores) in enumerate(b.items())
        ],
    }


def distinct(rows: Rows) -> Rows:
    """The rows with responses of their own, of several lengths, so that each question has scores of its own."""
    text = [json.dumps(row) for row in rows]
    for n, one in enumerate(text):
        text[n] = one.replace('"So', f'"So {n}{" yes" * (n % 7)}').replace('"No', f'"No {n}{" not" * (n % 5)}')
    return [json.loads(one) for one in text]


BENCHMARKS = (rewardbench, rewardbench2, rmbench, rmb, judgebench, llmbar)
each = pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda module: module.__name__.split(".")[-1])


each_mean = pytest.mark.parametrize(
    ("benchmark", "means"),
    [
        (rewardbench, rewardbench.MEANS),
        (rewardbench2, {"RewardBench 2": str}),
        (rmbench, rmbench.MEANS),
        (rmb, {"RMB": rmb.setting}),
        (judgebench, {}),
        (llmbar, {"adversarial, mean of sub-sets": str}),
    ],
    ids=lambda value: value.__name__.split(".")[-1] if isinstance(value, ModuleType) else "",
)


# The tables.


def test_rewardbench_counts_add_up() -> None:
    counts = rewardbench.COUNTS
    assert len(counts) == 23
    assert sum(counts.values()) - counts["math-prm"] + 447 == 2985
    assert counts["math-prm"] == sum(count for subset, count in counts.items() if subset.startswith("hep-"))
    named = [subset for subsets in rewardbench.SECTIONS.values() for subset in subsets]
    assert sorted(named) == sorted(counts)  # each in one section
    assert [len(subsets) for subsets in rewardbench.SECTIONS.values()] == [5, 6, 5, 7]


def test_other_counts_add_up() -> None:
    assert sum(rewardbench2.COUNTS.values()) == 1865
    assert sum(rmbench.COUNTS.values()) == 1327
    assert sum(judgebench.COUNTS.values()) == 620
    assert sum(llmbar.COUNTS.values()) == 419
    assert sum(llmbar.COUNTS[subset] for subset in llmbar.ADVERSARIAL) == 319
    same = {subset: count for subset, count in rewardbench.COUNTS.items() if subset.startswith("llmbar")}
    assert sorted(same.values()) == sorted(llmbar.COUNTS.values())  # RewardBench holds all of LLMBar


# The formulas, by hand.

PARTIAL = [
    rewardbench_row("math-prm", 2, 1, 0),
    rewardbench_row("math-prm", 1, 1, 1),  # a tie is wrong
    rewardbench_row("hep-cpp", 2, 1, 2),
    rewardbench_row("hep-cpp", 0, -1, 3),
    rewardbench_row("alpacaeval-easy", 3, -4, 4),
    rewardbench_row("mt-bench-hard", 1, 2, 5),
]


def test_rewardbench_by_hand() -> None:
    got = figures(rewardbench, PARTIAL)
    reasoning = (984 * 0.5 + 164 * 1.0) / (984 + 164)
    assert next(iter(got)) == "RewardBench, official"
    assert got == pytest.approx(
        {
            "RewardBench, official": (1 + 0 + 0 + reasoning) / 4,  # no rows of Safety: 0
            "RewardBench, paper's code": (1 + 0 + 0 + 3 / 4) / 4,
            "Chat, official": 1.0,
            "Chat Hard, official": 0.0,
            "Reasoning, official": reasoning,
            "Chat, paper's code": 1.0,
            "Chat Hard, paper's code": 0.0,
            "Reasoning, paper's code": 0.75,
            "micro accuracy": 4 / 6,
        }
    )


def test_rewardbench_prior_sets_have_half_the_weight_of_a_section() -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    chat = {**rewardbench_row("shp", 2, 1, 7), "prompt": [*messages, {"role": "user", "content": "Why?"}]}
    helpful = [rewardbench_row("anthropic_helpful", 1, 2, 8), rewardbench_row("anthropic_helpful", 2, 1, 9)]
    without, got = figures(rewardbench, PARTIAL), figures(rewardbench, [*PARTIAL, chat, *helpful])
    assert got["Prior Sets"] == pytest.approx((1.0 + 0.5) / 2)
    assert got["RewardBench, official"] == pytest.approx((4 * without["RewardBench, official"] + 0.5 * 0.75) / 4.5)
    for name in ("RewardBench, paper's code", "micro accuracy", "Reasoning, official"):
        assert got[name] == without[name]
    task = rewardbench.read([chat])
    assert task.responses[0][0] == (*messages, {"role": "user", "content": "Why?"})
    assert task.items[0].group == "user: Hi\n\nassistant: Hello\n\nuser: Why?"


@pytest.mark.parametrize(
    ("right", "wrong", "credit"),
    [(3, [2, 1, 0], 1), (3, [3, 1, 0], 1 / 2), (3, [3, 3, 3], 1 / 4), (2, [3, 1, 0], 0), (2, [3, 3, 2], 0)],
)
def test_rewardbench2_best_of_4(right: float, wrong: list[float], credit: float) -> None:
    got = figures(rewardbench2, [rewardbench2_row("Focus", "1", [right], wrong)])
    assert got == {"RewardBench 2": credit, "Focus": credit}


def test_rewardbench2_is_the_plain_mean_of_its_subsets() -> None:
    rows = [rewardbench2_row("Math", str(n), [n], [1, 0, 0]) for n in range(4)]  # 0, 1/2, 1, 1
    got = figures(rewardbench2, [*rows, rewardbench2_row("Safety", "1", [0], [1, 1, 1])])
    assert got == pytest.approx({"RewardBench 2": 2.5 / 4 / 2, "Math": 2.5 / 4, "Safety": 0.0})


TIES = [
    rewardbench2_row("Ties", "ref:0", [3], [1, 0]),  # gap 2
    rewardbench2_row("Ties", "tied:0", [5, 4], [2]),  # gap 2, spread 1
    rewardbench2_row("Ties", "ref:1", [1], [2]),  # gap -1
    rewardbench2_row("Ties", "tied:1", [3, 2], [2.5, 1]),  # gap -0.5, spread 1
    rewardbench2_row("Ties", "ref:2", [1], [0]),  # gap 1, and no tied:2
]


def test_rewardbench2_ties_by_hand() -> None:
    margin = (math.tanh(2 / 1 - 1) + math.tanh(-1 / 1 - 1)) / 2
    expected = 0.3 * 1 / 2 + 0.3 * 2 / 3 + 0.2 * 1 / 2 + 0.2 * 1 / 2 + 0.01 * margin
    assert figures(rewardbench2, TIES)["Ties"] == pytest.approx(expected)
    assert figures(rewardbench2, TIES[-1:])["Ties"] == pytest.approx(0.3)  # no prompt with both


@pytest.mark.parametrize(("wrong", "margin"), [(0, 1), (1, 0), (2, -1)])
def test_rewardbench2_ties_without_spread(wrong: float, margin: float) -> None:
    """x / 0 is the limit of tanh, 0 / 0 is 0."""
    rows = [rewardbench2_row("Ties", "ref:5", [9], [0]), rewardbench2_row("Ties", "tied:5", [1, 1], [wrong])]
    above = float(wrong < 1)
    assert figures(rewardbench2, rows)["Ties"] == pytest.approx(0.3 * above + 0.3 + 0.4 * above + 0.01 * margin)


def test_rewardbench2_ties_against_arrays() -> None:
    """The published formula over arrays of the prompts, on random scores with many ties."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        prompts = 6
        ref, tied = rng.integers(0, 6, (prompts, 5)), rng.integers(0, 6, (prompts, 7))
        ref[:, 0] += 2
        tied[:, :3] += 2
        rows = [rewardbench2_row("Ties", f"ref:{n}", ref[n, :1].tolist(), ref[n, 1:].tolist()) for n in range(prompts)]
        rows += [
            rewardbench2_row("Ties", f"tied:{n}", tied[n, :3].tolist(), tied[n, 3:].tolist()) for n in range(prompts)
        ]
        ref_gap = ref[:, 0] - ref[:, 1:].max(1)
        tied_gap = tied[:, :3].min(1) - tied[:, 3:].max(1)
        spread = np.ptp(tied[:, :3], axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            margin = np.nan_to_num(np.tanh(np.minimum(ref_gap, tied_gap) / spread - 1), nan=0.0)
        expected = 0.3 * np.mean(tied_gap > 0) + 0.3 * np.mean(ref_gap > 0) + 0.2 * np.mean(tied_gap > spread)
        expected += 0.2 * np.mean(np.minimum(ref_gap, tied_gap) > spread) + 0.01 * np.mean(margin)
        assert figures(rewardbench2, rows)["Ties"] == pytest.approx(expected)


def test_rewardbench2_ties_of_one_prompt_stay_together() -> None:
    groups = {item.id: item.group for item in rewardbench2.read(TIES).items}
    assert groups["ref:0"] == groups["tied:0"] == "Question Ties tied:0?"
    assert groups["ref:1"] == groups["tied:1"] != groups["tied:0"]
    assert groups["ref:2"] == "Question Ties ref:2?"


def test_rewardbench2_held_out_needs_both_prompts_of_a_tie(scorer: Scorer, tmp_path: Path) -> None:
    sides = {side: [f"{n} eggs?" for n in range(99) if is_held_out(f"{n} eggs?") == side] for side in (True, False)}
    rows = []
    for number, (ref, tied) in enumerate([(True, True), (True, False), (False, True), (False, False)]):
        for kind, side in (("ref", ref), ("tied", tied)):
            row = rewardbench2_row("Ties", f"{kind}:{number}", [2, 1][: 1 + (kind == "tied")], [0])
            rows.append(row | {"prompt": sides[side].pop()})
    rows.append(rewardbench2_row("Math", "1", [1], [0]) | {"prompt": rows[4]["prompt"]})  # not held out, nor tied:2
    rows.append(rewardbench2_row("Math", "2", [1], [0]) | {"prompt": rows[5]["prompt"]})  # held out as tied:2 is
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(rows))
    subsets = rewardbench2.run(scorer, replace(options(file), held_out=True))["subsets"]
    assert {name: one["items"] for name, one in subsets.items()} == {"Math": 1, "Ties": 2}


@each_mean
def test_a_figure_is_named_where_something_of_it_is_measured(benchmark: ModuleType, means: Mapping[str, Any]) -> None:
    """What says how sure a figure is: those of one subset's items alone are the figures that rest on it."""
    task = benchmark.read(distinct(whole(1, 0)[benchmark]))
    scores = given(task, number)
    every = benchmark.figures(task.items, scores)
    assert set(means) <= {*every, "Prior Sets"}
    for subset in {item.subset for item in task.items}:
        own = [item for item in task.items if item.subset == subset]
        alone = benchmark.figures(own, scores)
        places = [place for item in own for place in item.right + item.wrong]
        swapped = scores.copy()
        swapped[places] = 1 - scores[places]  # wrong above right, in this subset alone
        changed = {name for name, value in benchmark.figures(task.items, swapped).items() if value != every[name]}
        assert changed == alone.keys(), subset


def test_rmbench_by_hand() -> None:
    rows = [
        rmbench_row("chat", [1, 2, 3], [0, 1, 4]),  # right i > wrong j: [1 0 0] [1 1 0] [1 1 0]
        rmbench_row("chat", [5, 5, 5], [5, 0, 0], 1),  # [0 1 1] three times
        rmbench_row("safety-refuse", [1, 1, 1], [0, 0, 0]),
        rmbench_row("safety-response", [0, 0, 0], [1, 1, 1]),
        rmbench_row("safety-response", [0, 0, 0], [1, 1, 1], 1),
    ]
    task = rmbench.read(rows)
    chat = np.array([[1, 1, 1], [1, 2, 1], [1, 2, 1]]) / 2
    found = rmbench.matrices(task.items, given(task, number))
    assert list(found) == ["chat", "safety"]
    assert found["chat"] == pytest.approx(chat)
    assert found["safety"] == pytest.approx(np.full((3, 3), 1 / 3))  # its halves are pooled
    got = figures(rmbench, rows)
    assert list(got)[:6] == ["RM-Bench", "easy", "normal", "hard", "chat", "safety"]
    assert got["chat, easy"] == pytest.approx((1 + 1 + 2) / 6)  # right is fancier: below the diagonal
    assert got["chat, normal"] == pytest.approx((1 + 2 + 1) / 6)
    assert got["chat, hard"] == pytest.approx((1 + 1 + 1) / 6)
    assert got["chat"] == pytest.approx(11 / 18)
    assert got["easy"] == pytest.approx((4 / 6 + 1 / 3) / 2)
    assert got["hard"] == pytest.approx((3 / 6 + 1 / 3) / 2)
    assert got["RM-Bench"] == pytest.approx((11 / 18 + 1 / 3) / 2)
    assert got["markdown against detailed"] == pytest.approx((1 + 1 / 3) / 2)
    assert got["concise against markdown"] == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_rmb_by_hand() -> None:
    rows = [
        rmb_row("Pairwise_set/Helpfulness/Chat/Discussion", 2, [1]),
        rmb_row("Pairwise_set/Helpfulness/Code/Documentation", 1, [1], 1),  # a tie is wrong
        rmb_row("Pairwise_set/Helpfulness/Code/Documentation", 0, [1], 2),
        rmb_row("Pairwise_set/Harmlessness/S1", 2, [1]),
        rmb_row("BoN_set/Helpfulness/Chat/Discussion", 3, [2, 1]),
        rmb_row("BoN_set/Helpfulness/Chat/Discussion", 3, [2, 3], 1),  # must beat every other
        rmb_row("BoN_set/Harmlessness/multi", 3, [2, 1, 4]),
    ]
    assert figures(rmb, rows) == pytest.approx(
        {
            "RMB": (1 / 2 + 1 / 3 + 0 + 1) / 4,
            "best-of-N, helpfulness": 1 / 2,
            "pairs, helpfulness": 1 / 3,
            "best-of-N, harmlessness": 0.0,
            "pairs, harmlessness": 1.0,
        }
    )
    assert figures(rmb, rows[:3]) == pytest.approx({"RMB": 1 / 3, "pairs, helpfulness": 1 / 3})
    task = rmb.read(rows)
    assert task.items[1].subset == "Pairwise_set/Helpfulness/Code"
    assert task.responses[0] == ("Question Pairwise_set/Helpfulness/Chat/Discussion 0?", "So 0. 2")


def test_judgebench_by_hand() -> None:
    rows = [
        judgebench_row("gpt-4o-2024-05-13", "mmlu-pro-computer science", "A>B", 2, 1),
        judgebench_row("gpt-4o-2024-05-13", "mmlu-pro-law", "B>A", 2, 1, 1),
        judgebench_row("gpt-4o-2024-05-13", "livebench-math", "B>A", 1, 2, 2),
        judgebench_row("gpt-4o-2024-05-13", "livecodebench", "B>A", 1, 1, 3),  # a tie is wrong, whatever the order
        judgebench_row("claude-3-5-sonnet-20240620", "livebench-reasoning", "A>B", 3, 1, 4),
    ]
    assert figures(judgebench, rows) == pytest.approx(
        {
            "JudgeBench, GPT-4o": 2 / 4,
            "JudgeBench, Claude 3.5 Sonnet": 1.0,
            "GPT-4o, knowledge": 1 / 2,
            "GPT-4o, mathematics": 1.0,
            "GPT-4o, coding": 0.0,
            "Claude 3.5 Sonnet, reasoning": 1.0,
        }
    )


def test_judgebench_does_not_depend_on_the_order_of_the_responses() -> None:
    rows = [
        judgebench_row("gpt-4o", "mmlu-pro", label, a, b, 10 * a + b)
        for label in ("A>B", "B>A")
        for a in (0, 1)
        for b in (0, 1)
    ]
    swapped = [
        row
        | {"response_A": row["response_B"], "response_B": row["response_A"]}
        | {"label": {"A>B": "B>A", "B>A": "A>B"}[row["label"]]}
        for row in rows
    ]
    assert figures(judgebench, rows) == figures(judgebench, swapped)
    assert figures(judgebench, rows)["JudgeBench, GPT-4o"] == 2 / 8


def test_llmbar_by_hand() -> None:
    rows = [
        llmbar_row("Natural", 1, 2, 1),
        llmbar_row("Adversarial_Neighbor", 2, 2, 1),  # as the splits on the hub are named
        llmbar_row("Neighbor", 2, 1, 2, 1),
        llmbar_row("Neighbor", 1, 1, 1, 2),
        llmbar_row("Manual", 2, 0, 2),
    ]
    assert figures(llmbar, rows) == pytest.approx(
        {
            "LLMBar": 3 / 5,
            "natural": 1.0,
            "adversarial": 2 / 4,
            "adversarial, mean of sub-sets": (1 / 3 + 1) / 2,
            "adversarial, Neighbor": 1 / 3,
            "adversarial, Manual": 1.0,
        }
    )


def test_accuracies_against_a_loop() -> None:
    rng = random.Random(0)
    scores = np.array([rng.randrange(5) for _ in range(40)], dtype=float)
    items = [
        Item(
            str(n),
            str(n),
            rng.choice("abc"),
            tuple(rng.choices(range(40), k=rng.randint(1, 3))),
            tuple(rng.choices(range(40), k=rng.randint(1, 4))),
        )
        for n in range(200)
    ]
    expected: dict[str, tuple[int, int]] = {}
    for item in items:
        hits, count = expected.get(item.subset, (0, 0))
        won = all(scores[i] > scores[j] for i in item.right for j in item.wrong)
        expected[item.subset] = (hits + won, count + 1)
    assert accuracies(items, scores) == expected
    assert accuracies([], scores) == {}


# What holds for all.


@each
def test_all_right_is_1_and_all_wrong_or_tied_is_0(benchmark: ModuleType) -> None:
    right, wrong, tied = (figures(benchmark, whole(*scores)[benchmark]) for scores in ((1, 0), (0, 1), (1, 1)))
    if benchmark is rewardbench2:  # the margin term adds at most 0.01 to Ties, and best of 4 shares a point
        assert right.pop("Ties") == pytest.approx(1.01)
        assert right.pop("RewardBench 2") == pytest.approx(6.01 / 6)
        assert wrong.pop("Ties") == pytest.approx(-0.01)
        assert wrong.pop("RewardBench 2") == pytest.approx(-0.01 / 6)
        assert tied.pop("Ties") == 0
        assert tied.pop("RewardBench 2") == pytest.approx(5 / 4 / 6)
        assert tied == dict.fromkeys(tied, 1 / 4)
        tied = {}
    assert right == pytest.approx(dict.fromkeys(right, 1.0))
    assert wrong == dict.fromkeys(wrong, 0.0)
    assert tied == dict.fromkeys(tied, 0.0)


@each
def test_order_and_repetition_of_rows_change_nothing(benchmark: ModuleType) -> None:
    rows = distinct(whole(1, 0)[benchmark])

    def score(text: str) -> float:  # random, but a property of the text
        return random.Random(text).randrange(4)

    expected = figures(benchmark, rows, score)
    assert 0 < next(iter(expected.values())) < 1
    shuffled = random.Random(1).sample(rows, len(rows))
    assert figures(benchmark, shuffled, score) == pytest.approx(expected)
    task = benchmark.read(rows)
    assert benchmark.figures([*task.items, *task.items], given(task, score)) == pytest.approx(expected)


@each
def test_each_response_stands_once(benchmark: ModuleType) -> None:
    rows = whole(1, 0)[benchmark]
    once, twice = benchmark.read(rows), benchmark.read([*rows, *rows])
    assert len(once.items) == len(rows)
    assert len(twice.items) == 2 * len(rows)
    assert twice.responses == once.responses
    assert len(set(map(repr, once.responses))) == len(once.responses)


@each
def test_reading_leaves_the_rows_alone(benchmark: ModuleType) -> None:
    rows = whole(1, 0)[benchmark]
    before = json.dumps(rows)
    benchmark.read(rows)
    assert json.dumps(rows) == before


# Complete runs.


def run_on(benchmark: ModuleType, scorer: Scorer, rows: Rows, folder: Path) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    file = folder / "Natural.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return benchmark.run(scorer, options(file))


@pytest.fixture(scope="module")
def rewardbench_result(scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run_on(rewardbench, scorer, distinct(whole(1, 0)[rewardbench]), tmp_path_factory.mktemp("whole"))


@each
def test_a_complete_run(
    benchmark: ModuleType, scorer: Scorer, rewardbench_result: dict[str, Any], tmp_path: Path
) -> None:
    rows = distinct(whole(1, 0)[benchmark])
    result = rewardbench_result if benchmark is rewardbench else run_on(benchmark, scorer, rows, tmp_path)
    task = benchmark.read(rows)
    scores = np.array([one.score for one in scorer.score(list(task.responses))])
    expected = benchmark.figures(task.items, scores)
    assert {name: one["value"] for name, one in result["figures"].items()} == pytest.approx(expected, abs=1e-9)
    assert list(result["figures"]) == list(expected)
    assert result["items"] == len(rows)
    assert result["problems"] == []
    assert json.loads(json.dumps(result)) == result
    margins = np.array([scores[i] - scores[j] for item in task.items for i in item.right for j in item.wrong])
    assert result["measures"]["accuracy"]["value"] == pytest.approx(np.mean(margins > 0))


def test_the_leaderboard_file_of_rewardbench(scorer: Scorer, rewardbench_result: dict[str, Any]) -> None:
    board = rewardbench_result["leaderboard"]
    assert list(board) == ["model", "model_type", "chat_template", *rewardbench.COUNTS]
    assert board["model"] == scorer.model_info.name
    weighted = {
        section: sum(board[one] * rewardbench.COUNTS[one] for one in subsets)
        / sum(rewardbench.COUNTS[one] for one in subsets)
        for section, subsets in rewardbench.SECTIONS.items()
    }  # what a leaderboard makes of the file
    assert rewardbench_result["figures"]["RewardBench, official"]["value"] == pytest.approx(sum(weighted.values()) / 4)


@pytest.mark.parametrize(
    ("benchmark", "count", "named"),
    [
        (rewardbench, 2, "no rows of alpacaeval-length, "),
        (rewardbench2, 2, "no rows of Precise IF, Math, Safety, Focus, Ties: the mean is that of the other subsets"),
        (rmbench, 2, "no rows of code, math, safety-refuse, safety-response: "),
        (rmb, 4, "no rows of Pairwise_set/Helpfulness, BoN_set/Harmlessness, Pairwise_set/Harmlessness: "),
        (judgebench, 8, "no rows of claude: "),
        (llmbar, 2, "no rows of Neighbor, GPTInst, GPTOut, Manual: "),
    ],
)
def test_missing_subsets_are_named(
    benchmark: ModuleType, count: int, named: str, scorer: Scorer, tmp_path: Path
) -> None:
    (problem,) = run_on(benchmark, scorer, distinct(2 * whole(1, 0)[benchmark][:count]), tmp_path)["problems"]
    assert problem.startswith(named)


# Files and folders.


def test_llmbar_takes_a_subset_from_the_folder(scorer: Scorer, tmp_path: Path) -> None:
    for name in ("Natural", "Adversarial/Neighbor"):
        folder = tmp_path / "LLMBar" / name
        (folder / "evaluators").mkdir(parents=True)
        rows = [llmbar_row("x", 1 + n % 2, n, 1, n) for n in range(3)]
        (folder / "dataset.json").write_text(json.dumps([{k: row[k] for k in row if k != "subset"} for row in rows]))
        (folder / "evaluators" / "result.json").write_text('[{"winner": 1}]')  # of a judge, no row
    by_folder = llmbar.run(scorer, options(tmp_path / "LLMBar"))
    assert {name: one["items"] for name, one in by_folder["subsets"].items()} == {"Natural": 3, "Neighbor": 3}
    files = [tmp_path / "LLMBar" / name / "dataset.json" for name in ("Natural", "Adversarial/Neighbor")]
    assert llmbar.run(scorer, options(*files))["figures"] == by_folder["figures"]


def test_rmb_takes_its_folder(scorer: Scorer, tmp_path: Path) -> None:
    for kind in ("Pairwise_set", "BoN_set"):
        for part in ("Harmlessness/S1", "Helpfulness/Chat/Casual Conversation"):
            file = tmp_path / "RMB_dataset" / kind / f"{part}.json"
            file.parent.mkdir(parents=True)
            file.write_text(json.dumps([rmb_row(f"{kind}/{part}", n, [1] * (1 + (kind[0] == "B")), n) for n in (0, 2)]))
    result = rmb.run(scorer, options(tmp_path / "RMB_dataset"))
    assert result["items"] == 8
    assert sorted(result["subsets"]) == [
        "BoN_set/Harmlessness/S1",
        "BoN_set/Helpfulness/Chat",
        "Pairwise_set/Harmlessness/S1",
        "Pairwise_set/Helpfulness/Chat",
    ]
    assert result["problems"] == []


def test_rmbench_takes_a_file_of_one_domain(scorer: Scorer, tmp_path: Path) -> None:
    rows = [rmbench_row("chat", [1, 2, 3], [3, 2, 1], n) for n in range(2)]
    (tmp_path / "chat_filtered.json").write_text(
        json.dumps([{k: row[k] for k in row if k != "domain"} for row in rows])
    )
    (tmp_path / "total_dataset.json").write_text(json.dumps(rows))
    one = rmbench.run(scorer, options(tmp_path / "chat_filtered.json"))
    assert list(one["subsets"]) == ["chat"]
    assert rmbench.run(scorer, options(tmp_path))["figures"] == one["figures"]  # of a folder, the total


def test_rewardbench_takes_a_prior_set_from_the_file(scorer: Scorer, tmp_path: Path) -> None:
    rows = distinct(whole(1, 0)[rewardbench][:4])
    (tmp_path / "filtered.json").write_text(json.dumps(rows))
    (tmp_path / "summarize.json").write_text(json.dumps([row | {"subset": "cnn"} for row in rows[:3]]))
    result = rewardbench.run(scorer, options(tmp_path / "filtered.json", tmp_path / "summarize.json"))
    assert result["subsets"]["summarize"]["items"] == 3
    assert "Prior Sets" in result["figures"]
    assert "summarize" not in result["leaderboard"]


@pytest.mark.parametrize(("benchmark", "folder"), [(rmb, "RMB_dataset"), (llmbar, "Dataset/LLMBar")])
def test_without_a_hub_data_set_a_file_is_asked_for(benchmark: ModuleType, folder: str, scorer: Scorer) -> None:
    with pytest.raises(PreferenceDataError, match=rf"github.*--data {folder}"):
        benchmark.run(scorer, options())


def test_a_file_given_twice_is_refused(scorer: Scorer, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(PARTIAL))
    with pytest.raises(PreferenceDataError, match=r"rows\.json is given 2 times"):
        rewardbench.run(scorer, options(file, tmp_path / "x" / ".." / "rows.json"))


def test_a_folder_without_files_of_the_benchmark(scorer: Scorer, tmp_path: Path) -> None:
    with pytest.raises(PreferenceDataError, match=r"holds no dataset\.json"):
        llmbar.run(scorer, options(tmp_path))


# Rows that are none of the benchmark.


@pytest.mark.parametrize(
    ("benchmark", "field"),
    [
        *((rewardbench, name) for name in ("prompt", "chosen", "rejected", "subset")),
        *((rewardbench2, name) for name in ("id", "prompt", "chosen", "rejected", "subset")),
        *((rmbench, name) for name in ("prompt", "chosen", "rejected")),
        *((rmb, name) for name in ("conversation_input", "category_path", "bon_uid", "bon_best", "loser_list")),
        *((judgebench, name) for name in ("pair_id", "question", "response_A", "response_B", "label", "source")),
        *((llmbar, name) for name in ("input", "output_1", "output_2", "label")),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__.split(".")[-1],
)
def test_a_row_without_a_needed_field(benchmark: ModuleType, field: str) -> None:
    rows = whole(1, 0)[benchmark]
    del rows[1][field]
    with pytest.raises(PreferenceDataError, match=rf"^row 2: no {field} \(got .*\)\. Expected .*{field}") as error:
        benchmark.read(rows)
    assert all(name in str(error.value) for name in rows[1])  # what was got
    rows[1][field] = 7.5
    with pytest.raises(PreferenceDataError, match=rf"^row 2: .*{field}.*(7\.5|float).*Expected .*--benchmark pairs"):
        benchmark.read(rows)


@pytest.mark.parametrize(
    ("benchmark", "row", "problem"),
    [
        (rewardbench, rewardbench_row("hep-cobol", 1, 0), r"subset is 'hep-cobol', not one of alpacaeval-easy, .*shp"),
        (rewardbench, rewardbench_row("hep-go", 1, 0) | {"prompt": ["Hi"]}, r"prompt 1: no role \(got str\)"),
        (rewardbench2, rewardbench2_row("Ties", "17", [1], [0]), "id is '17'.*ref:N or tied:N"),
        (rewardbench2, rewardbench2_row("Math", "1", [], [0]), r"chosen is \[\], not a list of texts"),
        (rmbench, rmbench_row("chat", [1, 2], [1, 2, 3]), r"chosen has 2 texts, rejected 3\..*three texts"),
        (rmbench, rmbench_row("poetry", [1] * 3, [1] * 3), "domain is 'poetry', not one of chat"),
        (rmb, rmb_row("BoN_set/Wit/S1", 1, [2]), "category_path is 'BoN_set/Wit/S1'"),
        (rmb, rmb_row("BoN_set/Harmlessness/S1", 1, [2]) | {"loser_list": [{}]}, r"loser_list 1: no answer"),
        (rmb, rmb_row("Pairwise_set/Harmlessness/S1", 1, [2]) | {"reject": {}}, r"no reject\.answer"),
        (judgebench, judgebench_row("gpt-4o", "mmlu-pro", "A=B", 1, 0), "label is 'A=B', not one of A>B, B>A"),
        (judgebench, judgebench_row("llama", "mmlu-pro", "A>B", 1, 0), "response_model is 'llama'"),
        (llmbar, llmbar_row("Natural", 3, 1, 0), "label is 3"),
        (llmbar, llmbar_row("Constraint", 1, 1, 0), "subset is 'Constraint', not one of Natural"),
    ],
)
def test_a_row_with_another_value(benchmark: ModuleType, row: dict[str, Any], problem: str) -> None:
    with pytest.raises(PreferenceDataError, match=rf"^row 1: {problem}"):
        benchmark.read([row])


def test_an_error_names_the_file_and_its_row(scorer: Scorer, tmp_path: Path) -> None:
    rows = whole(1, 0)[rewardbench]
    (tmp_path / "good.json").write_text(json.dumps(rows[:5]))
    (tmp_path / "bad.json").write_text(json.dumps([*rows[5:8], rows[8] | {"chosen": None}]))
    with pytest.raises(PreferenceDataError, match=r"bad\.json: row 4: no chosen \(got prompt, .*, rejected_model\)\."):
        rewardbench.run(scorer, options(tmp_path / "good.json", tmp_path / "bad.json"))
