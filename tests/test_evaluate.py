"""The run of a benchmark against a naive loop, what must not change its numbers, and the command."""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub.hf_api import DatasetInfo
from scipy.stats import spearmanr

from sentrm.errors import PreferenceDataError
from sentrm.metrics import expected_calibration_error, group_counts, grouped
from sentrm.scoring import Scorer
from training.benchmarks import BENCHMARKS, pairs
from training.benchmarks.task import (
    Item,
    Options,
    Responses,
    Task,
    chosen_items,
    figure_estimates,
    measured,
    ranked,
    records,
    score_all,
    score_task,
)
from training.data import is_held_out
from training.evaluate import main, parser, source_facts
from training.measures import other_prompts

SENTENCES = [
    "Boil it.",
    "Add water now.",
    "Older eggs peel more easily.",
    "No!",
    "I hope this helps you a lot.",
    "Wash it.",
]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def answer(draw: random.Random) -> str:
    return " ".join(draw.choices(SENTENCES, k=draw.randint(1, 4)))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two files of pairs: 30 prompts of one to three pairs, one with contexts and labels; distinct texts in a pair."""
    folder, draw = tmp_path_factory.mktemp("evaluate"), random.Random(0)
    rows = []
    for i in range(60):
        chosen, rejected = answer(draw), answer(draw)
        if chosen != rejected:
            rows.append({"prompt": f"How do I cook {i % 30} eggs?", "chosen": chosen, "rejected": rejected})
    labelled = [
        row | {"context": "An egg is not a nut.", "probability": [1.0, 0.2, 0.5][i % 3]}
        for i, row in enumerate(rows[40:])
    ]
    return write(folder / "plain.jsonl", rows[:40]), write(folder / "labelled.jsonl", labelled)


def options(*data: str, **more: Any) -> Options:
    return Options(**{"data": data, "split": None, "held_out": False, "limit": None, "seed": 0, "draws": 100} | more)


def expected_pairs(files: tuple[str, str]) -> list[list[tuple[str, str, str]]]:
    """(prompt, right, wrong) of each file, read by hand."""
    plain, labelled = ([json.loads(line) for line in Path(file).read_text().splitlines()] for file in files)
    read = [(row["prompt"], row["chosen"], row["rejected"]) for row in plain]
    more = []
    for row in labelled:
        sides = (row["chosen"], row["rejected"])
        if row["probability"] != 0.5:
            more.append((f"{row['context']}\n\n{row['prompt']}", *(sides if row["probability"] > 0.5 else sides[::-1])))
    return [read, more]


def numbers_in(result: Any, at: str = "") -> dict[str, Any]:
    """Every leaf of a result by its path."""
    inner = result.items() if isinstance(result, dict) else enumerate(result) if isinstance(result, list) else None
    return {at: result} if inner is None else {k: v for n, x in inner for k, v in numbers_in(x, f"{at}/{n}").items()}


def assert_same(one: dict[str, Any], other: dict[str, Any], abs: float = 1e-9) -> None:
    a, b = numbers_in(one), numbers_in(other)
    assert a.keys() == b.keys()
    for name in a:
        assert a[name] == (pytest.approx(b[name], abs=abs) if isinstance(b[name], float) else b[name]), name


def test_pairs_against_a_naive_loop(scorer: Scorer, files: tuple[str, str]):
    result = pairs.run(scorer, options(*files))
    read = expected_pairs(files)
    everything = read[0] + read[1]
    asked = list({(p, text): None for p, *texts in everything for text in texts})
    score = dict(zip(asked, scorer.score(asked), strict=True))
    margins = [[score[p, right].score - score[p, wrong].score for p, right, wrong in one] for one in read]
    shares = [sum(m > 0 for m in one) / len(one) for one in margins]
    longer = sum(len(right) > len(wrong) for _, right, wrong in everything) / len(everything)
    shorter = sum(len(right) < len(wrong) for _, right, wrong in everything) / len(everything)
    measures = result["measures"]

    assert (result["items"], result["responses"]) == (len(everything), len(score))
    assert list(result["figures"]) == ["accuracy", "mean of files"]
    micro = sum(m > 0 for one in margins for m in one) / len(everything)
    assert result["figures"]["accuracy"]["value"] == measures["accuracy"]["value"] == pytest.approx(micro)
    assert result["figures"]["mean of files"]["value"] == pytest.approx(sum(shares) / 2)
    assert {name: one["accuracy"]["value"] for name, one in result["subsets"].items()} == pytest.approx(
        {"plain": shares[0], "labelled": shares[1]}
    )
    assert result["subsets"]["plain"]["prompts"] == len({p for p, *_ in read[0]})
    assert measures["comparisons"] == sum(one["comparisons"] for one in measures["length_quintiles"]) == len(everything)
    assert (measures["always_longer"], measures["always_shorter"]) == pytest.approx((longer, shorter))
    assert measures["gain"]["value"] == pytest.approx(micro - max(longer, shorter))
    assert measures["expected_calibration_error"] == pytest.approx(
        expected_calibration_error(margins[0] + margins[1]), abs=1e-5
    )
    scores = [one.score for one in score.values()]
    for name, length in (("length", [len(t) for _, t in score]), ("sentences", [len(s.spans) for s in score.values()])):
        assert measures[f"score_{name}_correlation"]["value"] == pytest.approx(spearmanr(scores, length).statistic)
    assert measures["ties"] == 0
    assert 0 < measures["weight_entropy"] < 1
    assert any("a tie" in problem for problem in result["problems"])


def test_the_blind_accuracy_is_that_under_another_items_prompt(scorer: Scorer, files: tuple[str, str]):
    blind = pairs.run(scorer, options(*files, seed=7))["measures"]["prompt_blind_accuracy"]["value"]
    read = [one for file in expected_pairs(files) for one in file]
    other = other_prompts([prompt for prompt, *_ in read], 7)
    scores = [one.score for one in scorer.score([(other[p], text) for p, *texts in read for text in texts])]
    right, wrong = scores[::2], scores[1::2]
    assert blind == pytest.approx(sum(map(float.__gt__, right, wrong)) / len(read))


def test_of_one_prompt_alone_there_is_no_blind_accuracy(scorer: Scorer, tmp_path: Path):
    file = write(tmp_path / "one.jsonl", [{"prompt": "Hi", "chosen": "Boil it.", "rejected": "No!"}])
    result = pairs.run(scorer, options(file))
    assert result["measures"]["prompt_blind_accuracy"] == {"value": None, "low": None, "high": None}
    assert result["measures"]["accuracy"]["low"] is None
    json.dumps(result, allow_nan=False)


def test_a_response_of_several_pairs_is_scored_once(scorer: Scorer, tmp_path: Path):
    row = {"prompt": "Hi", "responses": ["Boil it.", "No!", "Wash it."], "ranks": [1, 2, 2]}
    task = pairs.read(
        [write(tmp_path / "ranked.jsonl", [row, row | {"prompt": [{"role": "user", "content": "Hi"}]}])], "train"
    )
    assert len(task.items) == 4  # the tie of each row is left out
    assert len(task.responses) == len(set(map(str, task.responses))) == 6
    assert {item.group for item in task.items} == {"Hi"}


def test_pairs_of_equal_texts_and_of_tokens_are_left_out_and_counted(tmp_path: Path):
    row = {"prompt": "Hi", "chosen": "Yes.", "rejected": "No."}
    rows = [row, row | {"rejected": "Yes."}, row | {"tools": [{"name": "f"}]}, row | {"chosen": None}]
    task = pairs.read([write(tmp_path / "odd.jsonl", rows)], "train")
    assert len(task.items) == 1
    assert len(task.problems) == 3
    assert all(problem.startswith("odd: ") for problem in task.problems)


def scrambled(task: Task, seed: int) -> Task:
    """The same task with items, their responses and the responses' places in another order."""
    draw = random.Random(seed)
    order = draw.sample(range(len(task.responses)), len(task.responses))
    place = {old: new for new, old in enumerate(order)}
    items = [
        replace(i, right=tuple(place[r] for r in i.right[::-1]), wrong=tuple(place[w] for w in i.wrong[::-1]))
        for i in task.items
    ]
    return replace(
        task, responses=tuple(task.responses[old] for old in order), items=tuple(draw.sample(items, len(items)))
    )


def best_of(count: int = 24) -> Task:
    """Items of several right and wrong responses; two items a prompt."""
    draw, responses, items = random.Random(2), Responses(), []
    for i in range(count):
        found = [responses.place(f"Question {i // 2}", f"{answer(draw)} {k}") for k in range(4)]
        items.append(
            Item(str(i), f"Question {i // 2}", "ab"[i % 2], tuple(found[: 1 + i % 2]), tuple(found[1 + i % 2 :]))
        )
    return Task(tuple(responses.found), tuple(items))


def best_first(items: Sequence[Item], scores: np.ndarray) -> dict[str, float]:
    return {"best": float(np.mean([scores[list(i.right)].max() > scores[list(i.wrong)].max() for i in items]))}


def test_the_order_of_items_and_responses_changes_nothing(scorer: Scorer):
    for asked in (options(), options(limit=10, seed=3)):
        result = ranked(scorer, best_of(16), best_first, asked)
        assert_same(ranked(scorer, scrambled(best_of(16), 1), best_first, asked), result, abs=1e-5)


def test_batches_and_their_strategy_change_nothing(scorer: Scorer, model_dir: Path, files: tuple[str, str]):
    asked = options(files[1], draws=20)
    result = pairs.run(scorer, asked)
    for batching, batch_tokens in (("padded", 40), ("packed", 300), ("shared", 90)):
        other = Scorer.from_pretrained(model_dir, device="cpu", batching=batching)
        other.batch_tokens = batch_tokens
        assert_same(pairs.run(other, asked), result, abs=1e-5)


def test_every_comparison_of_an_item_counts(scorer: Scorer):
    task = best_of()
    result = ranked(scorer, task, best_first, options())
    score = [one.score for one in scorer.score(list(task.responses))]
    hits = [score[r] > score[w] for item in task.items for r in item.right for w in item.wrong]
    assert result["measures"]["comparisons"] == len(hits) == 12 * 3 + 12 * 4
    assert result["measures"]["accuracy"]["value"] == pytest.approx(sum(hits) / len(hits))
    assert (result["subsets"]["a"]["items"], result["subsets"]["b"]["comparisons"]) == (12, 48)


def test_a_figures_interval_is_that_of_whole_prompts_drawn():
    task, score = best_of(), np.random.default_rng(1).normal(size=96)
    groups, place = grouped([item.group for item in task.items])
    found = figure_estimates(best_first, task.items, place, score, group_counts(len(groups), 400, seed=4), {})["best"]
    generator, samples = np.random.default_rng(4), []
    for _ in range(400):
        drawn = [groups[i] for i in generator.integers(len(groups), size=len(groups))]
        items = [item for group in drawn for item in task.items if item.group == group]
        samples.append(best_first(items, score)["best"])
    assert (found["low"], found["high"]) == pytest.approx(tuple(np.quantile(samples, (0.025, 0.975))))
    assert found["low"] < found["value"] < found["high"]


def of_subsets(items: Sequence[Item], scores: np.ndarray) -> dict[str, float]:
    """Share of right items; plain mean of the subsets' shares; each subset's."""
    hits: dict[str, list[bool]] = {}
    for item in items:
        hits.setdefault(item.subset, []).append(scores[item.right[0]] > scores[item.wrong[0]])
    shares = {subset: float(np.mean(found)) for subset, found in hits.items()}
    return {
        "all": float(np.mean([hit for found in hits.values() for hit in found])),
        "mean": float(np.mean(list(shares.values()))),
    } | shares


def counted_task(**prompts: int) -> tuple[Task, np.ndarray]:
    """Two pairs of each prompt, so many prompts a subset; and scores."""
    items = [
        Item(f"{subset}{i}", f"{subset}{i // 2}", subset, (2 * n,), (2 * n + 1,))
        for n, (subset, i) in enumerate((subset, i) for subset, count in prompts.items() for i in range(2 * count))
    ]
    responses = tuple(("Hi", str(i)) for i in range(2 * len(items)))
    return Task(responses, tuple(items)), np.random.default_rng(0).normal(size=len(responses))


def estimates_of(task: Task, scores: np.ndarray, counts: np.ndarray | None = None) -> dict[str, dict[str, Any]]:
    groups, place = grouped([item.group for item in task.items])
    counts = group_counts(len(groups), 300, seed=1) if counts is None else counts
    return figure_estimates(of_subsets, task.items, place, scores, counts, {"mean": str})


def test_a_figure_of_few_prompts_has_no_interval():
    found = estimates_of(*counted_task(big=30, edge=10, few=9, one=1))
    assert {name: one["low"] is not None for name, one in found.items()} == {
        "all": True, "mean": False, "big": True, "edge": True, "few": False, "one": False,
    }  # fmt: skip
    assert all(one["value"] is not None for one in found.values())
    assert estimates_of(*counted_task(big=30, edge=10))["mean"]["low"] is not None


def test_what_a_sample_has_lost_is_not_counted_in_it():
    """Samples that lost the subset b do not tell of b, nor of the mean of a and b."""
    task, _ = counted_task(a=10, b=10)
    wins = {"a": True, "b": False}
    scores = np.array([float(wins[item.subset] == side) for item in task.items for side in (True, False)])
    lost = [[2.0] * 10 + [0.0] * 10] * 50
    found = estimates_of(task, scores, np.array([[1.0] * 20, *lost]))
    assert found["b"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["mean"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert found["all"] == {"value": 0.5, "low": 1.0, "high": 1.0}  # a share of all items has lost no part


def test_a_limit_takes_whole_prompts_by_the_seed():
    task = best_of()
    chosen = chosen_items(task, options(limit=7))
    assert len(chosen.items) == 6  # three prompts of two items
    groups = {item.group for item in chosen.items}
    assert [item for item in task.items if item.group in groups] == list(chosen.items)
    assert chosen_items(scrambled(task, 0), options(limit=7)).items != chosen.items
    assert {item.id for item in chosen_items(scrambled(task, 0), options(limit=7)).items} == {
        i.id for i in chosen.items
    }
    assert {item.group for item in chosen_items(task, options(limit=7, seed=1)).items} != groups
    with pytest.raises(PreferenceDataError, match="limit is 1"):
        chosen_items(task, options(limit=1))


def test_held_out_keeps_the_prompts_that_training_holds_out(files: tuple[str, str]):
    task = pairs.read(files, "train")
    kept = {item.id for item in chosen_items(task, options(held_out=True)).items}
    assert 0 < len(kept) < len(task.items)
    assert kept == {
        item.id for item in task.items if int(hashlib.sha256(item.group.encode()).hexdigest(), 16) % 10 == 0
    }
    assert all(item.group.startswith("How do I") for item in task.items)  # without the context
    none = replace(task, items=tuple(item for item in task.items if not is_held_out(item.group)))
    with pytest.raises(PreferenceDataError, match="none of a held-out prompt"):
        chosen_items(none, options(held_out=True))


def test_every_response_is_cut_once_whether_it_fits_or_not(model_dir: Path, monkeypatch: pytest.MonkeyPatch):
    small = Scorer.from_pretrained(model_dir, device="cpu", max_length=60)
    cut: list[str] = []
    spans = small.segmenter.spans
    monkeypatch.setattr(small.segmenter, "spans", lambda texts: cut.extend(texts) or spans(texts))
    asked = [("Hi", "Boil it."), ("Hi", "word " * 200), ("Ho", "No! Wait.")]
    found, (reason,) = score_all(small, asked, "scored")
    assert cut == [text for _, text in asked]
    assert reason.startswith("response 'word word")
    assert found[1] is None
    for one, item in ((found[0], asked[0]), (found[2], asked[2])):
        assert one.values == pytest.approx(small.score([item])[0].values, abs=1e-6)


def test_what_does_not_fit_the_model_is_left_out_and_named(model_dir: Path, tmp_path: Path):
    rows = [{"prompt": f"Hi {i}", "chosen": "Boil it.", "rejected": "No!"} for i in range(3)]
    rows[1]["chosen"] = "word " * 200
    file = write(tmp_path / "long.jsonl", rows)
    small = Scorer.from_pretrained(model_dir, device="cpu", max_length=60)
    result = pairs.run(small, options(file))
    assert (result["items"], result["responses"]) == (2, 4)
    (problem,) = result["problems"]
    assert problem.startswith("1 items left out: 1 responses do not fit the model. The first: response 'word word")
    more = [rows[0], rows[2], *({"prompt": f"Ho {i}", "chosen": "word " * 200, "rejected": "No!"} for i in range(9))]
    (problem,) = pairs.run(small, options(write(tmp_path / "more.jsonl", more)))["problems"]
    assert problem.startswith("9 items left out: 9 responses do not fit the model. The first: response 'word word")
    with pytest.raises(PreferenceDataError, match="no item fits the model"):
        pairs.run(small, options(write(tmp_path / "none.jsonl", rows[1:2])))


def test_scoring_and_measuring_are_what_a_run_is(scorer: Scorer):
    asked = options(limit=10, seed=3)
    task, scored, problems = score_task(scorer, best_of(), asked)
    assert [item.id for item in task.items] == [item.id for item in chosen_items(best_of(), asked).items]
    assert list(scored) == sorted({place for item in task.items for place in item.right + item.wrong})
    assert len(scored) < len(task.responses)
    assert all((one.prompt, one.text) == task.responses[place] for place, one in scored.items())
    result = measured(scorer, task, scored, best_first, asked, [*problems, "one more"])
    assert result["problems"] == ["one more"]
    assert_same(result | {"problems": []}, ranked(scorer, best_of(), best_first, asked))


def test_what_does_not_fit_under_another_prompt_is_named(model_dir: Path, tmp_path: Path):
    """A prompt takes at most half of the tokens, so a response that fits beside a short one may not beside a long."""
    small = Scorer.from_pretrained(model_dir, device="cpu", max_length=60)
    rows = [
        {"prompt": "Hi", "chosen": "word" * 12, "rejected": "No!"},
        {"prompt": "word " * 90, "chosen": "Boil it.", "rejected": "No!"},
    ]
    result = pairs.run(small, options(write(tmp_path / "f.jsonl", rows)))
    assert result["items"] == 2
    (problem,) = result["problems"]
    assert problem.startswith("1 responses not in prompt-blind accuracy: under another prompt they do not fit")
    assert "wordword" in problem


def test_dropped_sentences_and_cut_prompts_are_counted(model_dir: Path, tmp_path: Path):
    rows = [
        {"prompt": "Hi", "chosen": "Boil it. " * 40, "rejected": "No!"},
        {"prompt": "Hi " * 99, "chosen": "A.", "rejected": "B."},
    ]
    result = pairs.run(
        Scorer.from_pretrained(model_dir, device="cpu", max_length=60), options(write(tmp_path / "f.jsonl", rows))
    )
    assert (result["dropped_sentences"], result["cut_prompts"]) == (1, 2)


def test_records_are_the_rows_of_every_form_of_file(tmp_path: Path):
    rows = [{"id": "1", "text": "a"}, {"id": "2", "text": "b\nc"}]
    (tmp_path / "a.json").write_text(json.dumps({"data": rows}))
    (tmp_path / "b.csv").write_text('id,text\n1,a\n2,"b\nc"\n')
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, rows)))
    names = [str(tmp_path / name) for name in ("a.json", "b.csv", "c.jsonl.gz")]
    assert list(records(options(*names), "none/none", "test")) == rows * 3
    (tmp_path / "bad.jsonl").write_text('{"id": 1}\n[2]\n')
    with pytest.raises(PreferenceDataError, match=r"row 2: is of type list"):
        list(records(options(str(tmp_path / "bad.jsonl")), "none/none", "test"))
    (tmp_path / "broken.jsonl").write_text('{"id": 1')
    with pytest.raises(PreferenceDataError, match=r"row 1: not a line of JSON"):
        list(records(options(str(tmp_path / "broken.jsonl")), "none/none", "test"))
    with pytest.raises(PreferenceDataError, match=r"none/none.*split 'test'.*Pass a copy of its file as --data"):
        list(records(options(), "none/none", "test"))


def test_the_facts_of_a_source_pin_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lines = b'{"a": 1}\n\n{"a": 2}\n'
    (tmp_path / "a.jsonl").write_bytes(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "c.csv").write_text('a\n"1\n2"\n')
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(lines)[:-9])
    facts = [source_facts(str(tmp_path / name), None) for name in ("a.jsonl", "b.jsonl.gz", "c.csv")]
    assert [one["rows"] for one in facts] == [2, 2, None]
    assert facts[0]["sha256"] == hashlib.sha256(lines).hexdigest()
    with pytest.raises(PreferenceDataError, match=r"cannot read .*cut\.jsonl\.gz.*Check that the file is whole"):
        source_facts(str(tmp_path / "cut.jsonl.gz"), None)
    assert source_facts("some/set", "test") == {"hub": "some/set", "split": "test", "revision": None}  # no hub here
    monkeypatch.setattr("huggingface_hub.dataset_info", lambda hub, timeout: DatasetInfo(id=hub, sha=f"sha of {hub}"))
    assert source_facts("some/set", None)["revision"] == "sha of some/set"


def command(model_dir: Path, *more: str) -> list[str]:
    return [str(model_dir), "--benchmark", "pairs", "--device", "cpu", "--draws", "50", *more]


def test_the_command_prints_one_json_object_last(
    model_dir: Path, files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture
):
    out, page = tmp_path / "result.json", tmp_path / "result.html"
    assert main(command(model_dir, "--data", *files, "--json", "-", "--html", str(page))) == 0
    printed = capsys.readouterr().out
    result = json.loads(printed.splitlines()[-1])
    assert len(printed.splitlines()) > 10  # the tables
    assert main(command(model_dir, "--data", *files, "--json", str(out))) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["result.html", "result.json"]
    assert page.read_text().startswith("<!doctype html>")
    again = json.loads(out.read_text())
    for one in (result, again):
        assert one.pop("seconds") > 0
        assert one.pop("command").startswith("python -m training.evaluate")
    assert result == again
    assert result["benchmark"] == "pairs"
    assert result["model"] == {"name": "tiny-llama", "revision": result["model"]["revision"], "aggregator": "attention"}
    assert result["segmenter"]["own"] is True
    assert result["data"][0] == {
        "path": files[0],
        "sha256": hashlib.sha256(Path(files[0]).read_bytes()).hexdigest(),
        "rows": len(Path(files[0]).read_text().splitlines()),
    }


def test_every_flag_reaches_its_place(
    model_dir: Path,
    files: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    runs: list[tuple[Scorer, Options]] = []

    def run(scorer: Scorer, asked: Options) -> dict[str, Any]:
        runs.append((scorer, asked))
        return pairs.run(scorer, asked)

    monkeypatch.setitem(BENCHMARKS, "judgebench", run)
    page, out = str(tmp_path / "page.html"), tmp_path / "result.json"
    flags = {
        "benchmark": ["judgebench"], "data": files, "split": ["part"], "held_out": [], "limit": ["9"], "seed": ["4"],
        "draws": ["50"], "segmenter": ["response"], "device": ["cpu"], "dtype": ["float32"], "batching": ["packed"],
        "batch_tokens": ["128"], "max_length": ["96"], "json": [str(out)], "html": [page],
    }  # fmt: skip
    assert {action.dest for action in parser()._actions} == {*flags, "model", "help"}
    arguments = [str(model_dir)]
    for name, given in flags.items():
        arguments += [f"--{name}", *given]
    assert main(arguments) == 0
    capsys.readouterr()
    ((scorer, asked),) = runs
    assert asked == Options(data=files, split="part", held_out=True, limit=9, seed=4, draws=50)
    assert (scorer.model_info.name, scorer.segmenter_info.spec) == (model_dir.name, "response")
    assert (scorer.model.device, scorer.model.dtype) == (torch.device("cpu"), torch.float32)
    assert (scorer.batching, scorer.batch_tokens, scorer.encoder.max_length) == ("packed", 128, 96)
    result = json.loads(out.read_text())
    assert 0 < result["items"] <= 9
    assert (result["benchmark"], result["seed"], result["limit"], result["draws"]) == ("judgebench", 4, 9, 50)
    assert (result["held_out"], result["segmenter"]["own"]) == (True, False)
    assert [one["path"] for one in result["data"]] == list(files)
    assert "judgebench · tiny-llama" in Path(page).read_text()
    for given, wrong in (("cpu", "gpu7"), ("float32", "int3")):  # which are what auto means here
        assert main([wrong if argument == given else argument for argument in arguments]) == 2
        assert f"'{wrong}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--data", "no/such.jsonl"], "there is no file no/such.jsonl"),
        (["--data", "EMPTY"], "has no rows"),
        ([], "Pass --data FILE"),
        (["--benchmark", "mine", "--data", "EMPTY"], "there is no benchmark 'mine'; expected one of rewardbench"),
        (["--data", "EMPTY", "--limit", "0"], "--limit is 0; expected at least 1"),
        (["--data", "EMPTY", "--draws", "0"], "--draws is 0; expected at least 1"),
        (["--data", "EMPTY", "--seed", "-1"], "--seed is -1; expected at least 0"),
        (["--data", "EMPTY", "--device", "gpu7"], "device 'gpu7' cannot be used"),
        (["--data", "EMPTY", "--json", "no/such/folder/x.json"], "cannot write no/such/folder/x.json"),
    ],
)
def test_mistakes_are_said_in_one_line(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture, change: list[str], message: str
):
    (tmp_path / "empty.jsonl").write_text("")
    change = [str(tmp_path / "empty.jsonl") if part == "EMPTY" else part for part in copy.copy(change)]
    assert main(command(model_dir, *change)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert [line for line in said.err.splitlines() if message in line and line.startswith("error: ")]


def test_the_benchmarks_by_name():
    assert list(BENCHMARKS) == [
        "rewardbench", "rewardbench2", "rmbench", "rmb", "judgebench", "llmbar", "pairs", "sentences", "corruptions",
    ]  # fmt: skip
