"""A sweep: what it starts, what it leaves alone and takes up again, and the table, against numbers made by hand."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from training import sweep
from training.sweep_results import Estimate, caption, cells, held_out_differences, over_seeds, print_results, summarise

ROOT = Path(__file__).parents[1]


def metrics(big: float, small: float, seconds: int = 60, command: str = "", **batching: object) -> dict:
    """metrics.json of a run with accuracies `big` on 30 pairs and `small` on 10."""
    figures = {
        "all": {"pairs": 40, "prompts": 40, "accuracy": 0.75 * big + 0.25 * small},
        "mean of files": {"pairs": 40, "prompts": 40, "accuracy": (big + small) / 2},
        "big": {"pairs": 30, "prompts": 30, "accuracy": big, "accuracy_low": big - 0.1, "accuracy_high": big + 0.1},
        "small": {"pairs": 10, "prompts": 10, "accuracy": small},
    }
    figures["all"] |= {"accuracy_low": 0.5, "accuracy_high": 0.9}
    own = {"run-seed1": figures, "always longer": {name: one | {"accuracy": 0.0} for name, one in figures.items()}}
    return {"command": command, "train_seconds": seconds, "batching": batching, "held_out": own}


# The table


def test_the_interval_over_seeds_is_students():
    one = over_seeds([0.6, 0.7, 0.8])  # s = 0.1; t(0.975, 2) = 4.303 in every table
    assert (one.mean, one.seeds, one.interval) == (pytest.approx(0.7), 3, "seeds")
    assert one.high - one.mean == pytest.approx(4.303 * 0.1 / math.sqrt(3), rel=1e-4)
    assert one.mean - one.low == pytest.approx(one.high - one.mean)
    two = over_seeds([0.5, 0.7])  # s = 0.1414; t(0.975, 1) = 12.706
    assert two.high == pytest.approx(0.6 + 12.706 * 0.1, rel=1e-4)
    assert over_seeds([0.5]) == Estimate(0.5, None, None, 1, "")


def test_rows_are_means_over_seeds_and_differences_are_paired():
    finished = {
        "sentence": {1: metrics(0.8, 0.4), 2: metrics(0.6, 0.4, 120), 3: metrics(0.7, 0.7)},
        "response": {
            1: metrics(0.7, 0.4, 60, "train --resume", tokens_per_second=100.0),
            2: metrics(0.5, 0.4, 180, tokens_per_second=300.0),
        },
        "token": {3: metrics(0.9, 0.5)},
        "segment": {},
    }
    sentence, response, token = summarise(finished)
    assert [row.variant for row in (sentence, response, token)] == ["sentence", "response", "token"]
    # all: 0.7, 0.55, 0.7
    assert sentence.accuracy["all"].mean == pytest.approx(0.65)
    assert sentence.accuracy["all"].high == pytest.approx(0.65 + 4.3027 * math.sqrt(0.0075) / math.sqrt(3), abs=1e-4)
    assert sentence.accuracy["big"].mean == pytest.approx(0.7)
    assert sentence.difference == {}
    assert (sentence.seeds, sentence.minutes, sentence.tokens_per_second) == ((1, 2, 3), pytest.approx(4 / 3), None)
    # all: 0.625 - 0.7 and 0.475 - 0.55, so -0.075 twice: no spread, though each side has one
    assert response.difference["all"].mean == pytest.approx(-0.075)
    assert response.difference["all"].low == pytest.approx(response.difference["all"].high)
    assert response.difference["mean of files"].mean == pytest.approx(-0.05)
    assert response.accuracy["all"].high - response.accuracy["all"].mean > 0.5
    assert (response.minutes, response.tokens_per_second) == (3.0, 200.0)  # the resumed run's clock began late
    # one seed: the run's own interval
    assert token.accuracy["all"] == Estimate(pytest.approx(0.8), 0.5, 0.9, 1, "prompts")
    assert token.accuracy["small"] == Estimate(0.5, None, None, 1, "")
    assert token.difference["all"] == Estimate(pytest.approx(0.1), None, None, 1, "")

    header, *lines = cells([sentence, response, token])
    assert header[-2:] == ["big", "small"]
    assert [line[:3] for line in lines] == [
        ["sentence", "3 seeds", "65.0 ± 21.5"],
        ["response", "2 seeds", "55.0 ± 95.3"],
        ["token", "prompts (1 seed)", "80.0 (50.0 to 90.0)"],
    ]
    column = header.index("all, minus sentence")
    assert [line[column] for line in lines] == ["", "−7.5 ± 0.0", "+10.0"]
    assert [line[header.index("tokens a second")] for line in lines] == ["", "200", ""]
    assert [line[-2:] for line in lines] == [["70.0", "50.0"], ["60.0", "40.0"], ["90.0", "50.0"]]
    assert "minus" not in "".join(cells([token])[1])


def test_the_first_finished_variant_leads():
    response, token = summarise({"sentence": {}, "response": {1: metrics(0.5, 0.5)}, "token": {1: metrics(0.7, 0.5)}})
    assert response.difference == {}
    assert token.difference["all"].mean == pytest.approx(0.15)
    assert "all, minus response" in cells([response, token])[0]
    finished = {"response": {1: metrics(0.5, 0.5)}, "token": {1: metrics(0.7, 0.5), 2: metrics(0.8, 0.5)}}
    assert "+15.0, n = 1" in cells(summarise(finished))[2]  # of two seeds the first variant has one


def test_other_held_out_pairs_are_told():
    other = metrics(0.5, 0.5)
    other["held_out"]["run-seed1"]["big"]["pairs"] = 28
    del other["held_out"]["run-seed1"]["small"]
    same = {"a": {1: metrics(0.5, 0.5), 2: metrics(0.6, 0.5)}}
    assert held_out_differences(same) == []
    found = held_out_differences(same | {"b": {1: other}})
    assert found == [
        "b seed 1 has 28 pairs of 30 prompts of big, a seed 1 has 30 pairs of 30 prompts",
        "b seed 1 has none of small, a seed 1 has 10 pairs of 10 prompts",
    ]
    rows = summarise(same | {"b": {1: other}})
    assert "NOT evaluated on the same held-out pairs: b seed 1 has 28" in "".join(caption(rows, [1, 2], found, "c"))
    assert "; and 2 more in results.json." in "".join(caption(rows, [1, 2], [f"{i}" for i in range(7)], "c"))
    assert "NOT" not in "".join(caption(rows, [1, 2], [], "c"))


def test_a_narrow_terminal_leaves_the_sources_out(capsys):
    rows = summarise({"a": {1: metrics(0.5, 0.5)}, "b": {1: metrics(0.75, 0.5)}})
    for width, there in ((200, True), (120, False)):
        print_results(rows, ["Note."], Console(width=width, height=50))
        printed = capsys.readouterr().out
        assert ("small" in printed) is there
        assert "68.8 (50.0 to 90.0)" in printed
        assert "Note." in printed


# The plan


@pytest.fixture
def flags(train_flags: list[str]) -> list[str]:
    """`train_flags` without what variants and seeds set, in a few steps."""
    left_out = ("--seed", "--segmenter", "--num_train_epochs", "--save_steps")
    pairs = zip(train_flags[::2], train_flags[1::2], strict=True)
    kept = [part for flag, value in pairs if flag not in left_out for part in (flag, value)]
    return [*kept, "--max_steps", "4", "--save_steps", "2", "--batching", "padded"]


@pytest.fixture
def variants(tmp_path: Path) -> list[str]:
    (tmp_path / "sentence.yaml").write_text("segmenter: rules\nboundary: offset\naggregator: mean\n")
    (tmp_path / "response.yaml").write_text("segmenter: response\nboundary: offset\naggregator: last\n")
    return ["--variants", *(f"{name}={tmp_path / name}.yaml" for name in ("sentence", "response"))]


def planned(arguments: list[str]) -> list[sweep.Run]:
    return sweep.plan(*sweep.parser().parse_known_args(arguments))


def test_the_plan_is_every_variant_and_aggregator_seed_by_seed(tmp_path, flags, variants):
    (tmp_path / "base.yaml").write_text("learning_rate: 0.5\naggregator: min\nmax_grad_norm: 3.0\n")
    own = ["--recipe", str(tmp_path / "base.yaml"), "--output", str(tmp_path / "out"), "--seeds", "5", "7"]
    runs = planned([*own, *variants, *flags])
    assert [run.name for run in runs] == ["sentence-seed5", "response-seed5", "sentence-seed7", "response-seed7"]
    assert [run.config["seed"] for run in runs] == [5, 5, 7, 7]
    assert [run.config["aggregator"] for run in runs[:2]] == ["mean", "last"]  # a variant lies over the recipe,
    assert {(run.config["learning_rate"], run.config["max_grad_norm"]) for run in runs} == {(0.02, 3.0)}  # flags on top
    runs = planned([*own, *variants, "--aggregators", "attention", "softmin", *flags])
    assert [run.variant for run in runs[:4]] == [
        "sentence-attention",
        "sentence-softmin",
        "response-attention",
        "response-softmin",
    ]
    assert runs[3].folder == tmp_path / "out" / "response-softmin-seed5"
    assert (runs[3].config["aggregator"], runs[3].config["segmenter"]) == ("softmin", "response")
    assert "--cache_dir" in runs[0].arguments
    runs = planned([*own, "--aggregators", "last", "--cache_dir", "elsewhere", *flags])
    assert [run.variant for run in runs] == ["last", "last"]
    assert runs[0].arguments.count("--cache_dir") == 1
    assert [run.name for run in planned([*own, *flags])] == ["recipe-seed5", "recipe-seed7"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seed", "3"], "--seed cannot be given to all runs. Use --seeds"),
        (["--resume"], "--resume cannot be given"),
        (["--segmenter=rules"], r"--segmenter cannot .* undo that of .*response\.yaml"),
        (["--aggregators", "mean", "--aggregator", "last"], "Use --aggregators"),
        (["--seeds", "1", "1"], "two runs would be called response-seed1, sentence-seed1"),
        (["--aggregators", "meen"], "--aggregator is 'meen'; expected one of"),
        (["--learning_speed", "3"], "learning_speed"),
        (["--jobs", "0"], "--jobs is 0; expected at least 1"),
        (["--variants", "response"], "--variants is 'response'; expected NAME=FILE"),
        (["--variants", "a/b=x.yaml"], "expected NAME=FILE"),
        (["--variants", "none=none.yaml"], r"cannot read the variant none=none\.yaml"),
    ],
)
def test_what_cannot_be_meant_is_told_before_anything_starts(tmp_path, flags, variants, capsys, more, message):
    assert sweep.main(["--output", str(tmp_path / "out"), *variants, *flags, *more]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_help_is_complete(capsys):
    with pytest.raises(SystemExit):
        sweep.main(["--help"])
    text = capsys.readouterr().out
    assert all(f"--{name}" in text for name in ("recipe", "variants", "aggregators", "seeds", "output", "jobs"))


# Runs


def test_a_folder_of_another_run_is_refused(tmp_path, flags, variants, capsys):
    own = ["--output", str(tmp_path / "out"), "--seeds", "4", *variants, *flags]
    run = planned(own)[1]
    (run.folder / "checkpoint-2").mkdir(parents=True)
    assert sweep.main(own) == 2
    assert "response-seed4 holds a run that no sweep began" in capsys.readouterr().err
    for stored, message in (
        (run.config | {"learning_rate": 0.5}, r"response-seed4 holds another run: learning_rate is 0\.02, .* has 0\.5"),
        (
            run.config | {"data": ["other.jsonl"]},
            r"holds another run: data is \['.*eggs\.jsonl'\], .*\['other\.jsonl'\]",
        ),
    ):
        (run.folder / sweep.RECORD).write_text(json.dumps({"command": "", "config": stored}))
        assert sweep.main(own) == 2
        error = capsys.readouterr().err
        assert re.search(message, error)
        assert "choose another --output" in error
    assert not (tmp_path / "out/sentence-seed4").exists()  # told before anything started


def test_two_sweeps_do_not_share_a_folder(tmp_path, flags, variants, capsys):
    with sweep.locked(tmp_path / "out"):
        assert sweep.main(["--output", str(tmp_path / "out"), *variants, *flags]) == 2
    assert "a sweep is at work in" in capsys.readouterr().err


def test_a_failed_run_is_told_by_the_last_attempts_error(tmp_path):
    log = tmp_path / "train.log"
    log.write_text("$ python -m training.train --x\nwarming up\nerror: no disk\n")
    assert sweep.last_words(log) == "no disk"
    log.write_text(log.read_text() + "$ python -m training.train --x --resume\nerror: two\nlines.\n\n")
    assert sweep.last_words(log) == "two lines."
    log.write_text(log.read_text() + "$ python -m training.train --x\n10%\r20%\rKeyError: 'a'\n")
    assert sweep.last_words(log) == "KeyError: 'a'"
    log.write_text(log.read_text() + "$ python -m training.train --x\n")
    assert sweep.last_words(log) == "it printed nothing"


@pytest.mark.slow
def test_a_sweep_is_killed_goes_on_and_does_nothing_twice(tmp_path, flags, variants, capsys):
    """Four runs: one is ended with its sweep and goes on in the next, beside one that is whole and one that fails."""
    output = tmp_path / "out"
    own = ["--output", str(output), "--seeds", "4", *flags, "--max_steps", "30", "--save_steps", "5"]
    log = tmp_path / "log"
    with log.open("w") as file:
        command = [sys.executable, "-m", "training.sweep", *own, *variants]
        first = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)
    try:
        deadline = time.time() + 120
        while not list(output.glob("sentence-seed4/checkpoint-*")):
            assert first.poll() is None, log.read_text()
            assert time.time() < deadline
            time.sleep(0.01)
    finally:
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 130
    assert "stopped; the same command goes on" in log.read_text()
    assert not (output / "sentence-seed4/metrics.json").exists()
    with sweep.locked(output):  # the run has ended with it
        pass

    broken = tmp_path / "broken.yaml"
    broken.write_text("segmenter: entropy:/no/such/folder@2.0\n")
    assert sweep.main([*own, *variants, f"broken={broken}", "--jobs", "2"]) == 1
    printed = capsys.readouterr()
    assert re.search(r"sentence-seed4: goes on from checkpoint-\d", printed.out)
    assert "response-seed4: starts" in printed.out
    assert re.search(r"error: broken-seed4: exit code 2: cannot load segmenter .* tokenizer.*train\.log", printed.err)
    results = json.loads((output / "results.json").read_text())
    stored = {
        name: json.loads((output / f"{name}-seed4/metrics.json").read_text()) for name in ("sentence", "response")
    }
    assert "--resume" in stored["sentence"]["command"]
    assert stored["response"]["steps"] == stored["sentence"]["steps"] == 30
    assert [row["variant"] for row in results["rows"]] == ["sentence", "response"]
    for row in results["rows"]:
        figures = stored[row["variant"]]["held_out"][f"{row['variant']}-seed4"]["all"]
        ours = [row["accuracy"]["all"][name] for name in ("mean", "low", "high", "interval")]
        assert ours == [figures["accuracy"], figures["accuracy_low"], figures["accuracy_high"], "prompts"]
    assert results["rows"][0]["minutes"] is None
    assert (results["missing"], list(results["failed"])) == (["broken-seed4"], ["broken-seed4"])
    assert results["held_out_differences"] == []
    table = (output / "results.md").read_text()
    assert table.splitlines()[2].startswith("| variant | interval over | all, % |")
    assert "Failed: broken-seed4 (exit code 2" in table
    assert f"Command: `{results['command']}`" in table
    assert (output / "data").is_dir()  # one cache
    assert not (output / "response-seed4/data").exists()

    before = {file: file.stat().st_mtime_ns for name in stored for file in (output / f"{name}-seed4").rglob("*")}
    assert sweep.main([*own, *variants]) == 0
    assert "2 runs, 2 finished before" in capsys.readouterr().out
    after = {file: file.stat().st_mtime_ns for name in stored for file in (output / f"{name}-seed4").rglob("*")}
    assert after == before
    assert json.loads((output / "results.json").read_text())["rows"] == results["rows"]
