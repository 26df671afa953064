"""Names of files and counts of what was left out, and the pairs that are read from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sentrm.errors import PreferenceDataError
from sentrm.scoring import Scorer
from training.benchmarks import pairs
from training.benchmarks.sources import by_reason, subset_names
from training.benchmarks.task import Options
from training.data import is_held_out


def written(file: Path, rows: list[Any]) -> str:
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n".join(map(json.dumps, rows)))
    return str(file)


def pair(prompt: str, chosen: str = "Boil it.", rejected: str = "No!") -> dict[str, str]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (["x/eggs.jsonl.gz"], ["eggs"]),
        (["hh/test.jsonl", "kto/test.jsonl", "eggs.csv"], ["hh/test", "kto/test", "eggs"]),
        (["a/hh/test.jsonl", "b/hh/test.parquet", "kto/test.json"], ["a/hh/test", "b/hh/test", "kto/test"]),
        (["qwen2.5-a.jsonl", "qwen2.5-b.JSONL", "v1.gz"], ["qwen2.5-a", "qwen2.5-b", "v1"]),
        (["folder/qwen2.5", "org/qwen2.6"], ["qwen2.5", "qwen2.6"]),
        (["x/a.json", "x/a.jsonl", "x/b.csv"], ["a.json", "a.jsonl", "b"]),
        (["x/all.jsonl", "y/all.jsonl"], ["x/all", "y/all"]),
    ],
)
def test_names_of_files(sources: list[str], names: list[str]) -> None:
    assert list(subset_names(sources).items()) == list(zip(sources, names, strict=True))
    assert subset_names(sources[::-1]) == subset_names(sources)


@pytest.mark.parametrize(
    ("sources", "problem"),
    [
        (["a.jsonl", "b.jsonl", "./a.jsonl"], "a.jsonl is given 2 times. Expected each file once."),
        (["x/all.jsonl", "b.jsonl"], "x/all.jsonl is called 'all'"),
    ],
)
def test_names_that_are_refused(sources: list[str], problem: str, tmp_path: Path) -> None:
    with pytest.raises(PreferenceDataError) as error:
        subset_names(sources)
    assert problem in str(error.value)


def test_what_is_left_out_is_counted_by_reason() -> None:
    reasons = [(1, "a"), (2, "b"), (4, "b"), *((n, f"value {n}") for n in range(10, 20))]
    assert by_reason("x", "row", reasons) == [
        "x: 2 rows left out: b (the first: row 2)",
        "x: 1 row left out: a (the first: row 1)",
        *(f"x: 1 row left out: value {n} (the first: row {n})" for n in (10, 11, 12)),
        "x: 7 rows left out for 7 other reasons, one of them: value 13 (row 13)",
    ]


def test_thousands_of_bad_rows_give_a_few_lines(tmp_path: Path) -> None:
    rows = [pair("Hi"), *({"prompt": "Hi", "chosen": "A.", "rejected": None} for _ in range(2500))]
    rows += [{"prompt": "Hi", "chosen": "A.", "rejected": "B.", "margin": f"m{n}"} for n in range(2500)]
    problems = pairs.read([written(tmp_path / "bad.jsonl", rows)], "train").problems
    assert problems[0].startswith("bad: 2,500 rows left out: has no 'rejected'")
    assert len(problems) == 6


def test_files_of_one_name_are_two_subsets(tmp_path: Path) -> None:
    files = [written(tmp_path / one / "test.jsonl", [pair(one)]) for one in ("hh", "kto")]
    task = pairs.read(files, "train")
    assert {item.group: item.subset for item in task.items} == {"hh": "hh/test", "kto": "kto/test"}
    assert len({item.id for item in task.items}) == 2


def test_held_out_leaves_out_implicit_prompts(tmp_path: Path) -> None:
    """Which side such a prompt is on depends on the other files, so neither file's own figure has it."""
    asked = next(f"Are {n} eggs enough?" for n in range(99) if is_held_out(f"Are {n} eggs enough?"))
    begun = [{"chosen": f"{asked} Yes {n}.", "rejected": f"{asked} No {n}."} for n in range(3)]
    explicit = written(tmp_path / "explicit.jsonl", [pair(asked)])
    implicit = written(tmp_path / "implicit.jsonl", begun)
    assert len(pairs.read([explicit, implicit], "train").items) == 4
    task = pairs.read([explicit, implicit], "train", held_out=True)
    assert [item.subset for item in task.items] == ["explicit"]
    (problem,) = task.problems
    assert problem.startswith("implicit: 3 pairs left out: held-out prompts were asked for, and this one is implicit")
    assert pairs.read([implicit], "train", held_out=True).items == ()


def test_one_file_has_an_accuracy_and_no_mean_of_files(model_dir: Path, tmp_path: Path) -> None:
    scorer = Scorer.from_pretrained(model_dir, device="cpu")
    files = [written(tmp_path / f"{one}.jsonl", [pair(f"Why {one} {n}?") for n in range(2)]) for one in "ab"]
    found = [
        pairs.run(scorer, Options(tuple(data), None, held_out=False, limit=None, seed=0, draws=5))["figures"]
        for data in (files, files[:1])
    ]
    assert [list(one) for one in found] == [["accuracy", "mean of files"], ["accuracy"]]
