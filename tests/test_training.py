"""Losses and figures by hand; whole runs on data that a tiny model can learn."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import LlamaModel

from sentrm.columns import TokenizedPair
from sentrm.errors import SentrmError
from sentrm.metrics import accuracy, expected_calibration_error, interval, report, resampled_accuracies
from sentrm.preferences import PreferencePair, load_preferences
from sentrm.scoring import Scorer
from training.config import parse
from training.data import DataSource, SourceCount, is_held_out
from training.held_out import longer_by
from training.model_card import model_card
from training.train import main
from training.trainer import Collator, bradley_terry

ROOT = Path(__file__).parents[1]


def test_bradley_terry_by_hand():
    chosen, rejected = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 1.0])
    right, wrong = math.log(1 + math.exp(-1.5)), math.log(1 + math.exp(2.0))
    assert bradley_terry(chosen, rejected).tolist() == pytest.approx([right, wrong])
    with_margin = [math.log(1 + math.exp(-1.0)), math.log(1 + math.exp(2.25))]
    assert bradley_terry(chosen, rejected, torch.tensor([0.5, 0.25])).tolist() == pytest.approx(with_margin)
    centred = [right + 0.1 * 2.5**2, wrong]
    assert bradley_terry(chosen, rejected, centering=0.1).tolist() == pytest.approx(centred)
    # A label that is right with probability 0.7, and a tie, are cross-entropies against σ(margin).
    soft = [0.7 * right + 0.3 * math.log(1 + math.exp(1.5)), 0.5 * wrong + 0.5 * math.log(1 + math.exp(-2.0))]
    assert bradley_terry(chosen, rejected, probability=torch.tensor([0.7, 0.5])).tolist() == pytest.approx(soft)
    smoothed = 0.9 * right + 0.1 * math.log(1 + math.exp(1.5))
    assert bradley_terry(chosen, rejected, smoothing=0.1).tolist()[0] == pytest.approx(smoothed)


def test_figures_by_hand():
    margins = [1.0, -1.0, 0.0, 2.0]
    assert accuracy(margins) == 0.5  # a tie is wrong
    # Confidences 0.7311 (bin 4: one right, one wrong), 0.5 (bin 0: wrong) and 0.8808 (bin 7: right).
    expected = 0.5 * abs(0.5 - 0.731059) + 0.25 * 0.5 + 0.25 * (1 - 0.880797)
    assert expected_calibration_error(margins) == pytest.approx(expected, abs=1e-5)


def test_the_interval_resamples_prompts_not_pairs():
    margins = [1.0] * 60 + [-1.0] * 40
    alone = interval(resampled_accuracies(margins, [str(i) for i in range(100)]))
    # 100 independent pairs: close to the normal approximation 0.6 ± 1.96 · sqrt(0.6 · 0.4 / 100).
    assert alone == pytest.approx((0.504, 0.696), abs=0.02)
    # Ten prompts of ten equal pairs hold the evidence of ten pairs: sqrt(10) times as wide.
    grouped = interval(resampled_accuracies(margins, [str(i // 10) for i in range(100)]))
    assert grouped == pytest.approx((0.3, 0.9), abs=0.05)


def test_the_report_of_sources_of_unequal_size():
    margins = [1.0, 1.0, 1.0, -1.0] * 5 + [-1.0, 1.0]
    figures = report(margins, [str(i) for i in range(22)], ["big"] * 20 + ["small"] * 2)
    assert list(figures) == ["all", "mean of files", "big", "small"]
    assert figures["big"]["accuracy"] == 0.75
    assert figures["all"]["accuracy"] == pytest.approx(16 / 22)
    assert figures["mean of files"]["accuracy"] == pytest.approx((0.75 + 0.5) / 2)
    assert figures["all"]["accuracy_low"] < 16 / 22 < figures["all"]["accuracy_high"]
    assert "accuracy_low" not in figures["small"]  # two prompts say nothing of an interval
    assert (figures["small"]["pairs"], figures["small"]["margin"]) == (2, 0.0)


def test_the_collator_finds_every_comparison_in_the_batch():
    pair = {"ids": [[1, 2, 3], [1, 4]], "boundaries": [[0, 2], [0, 1]], "comparisons": [[0, 1]]}
    ranked = {"ids": [[5], [5, 6], [5, 7]], "boundaries": [[0], [0, 1], [0, 1]], "comparisons": [[2, 0], [2, 1]]}
    rows = [pair | {"probability": [1.0], "margin": [2.0]}, ranked | {"probability": [0.5, 0.8], "margin": [0.0, 0.0]}]
    batch = Collator("padded")(rows)
    assert batch["input_ids"].tolist() == [[1, 2, 3], [1, 4, 0], [5, 0, 0], [5, 6, 0], [5, 7, 0]]
    assert batch["comparisons"].tolist() == [[[0, 1], [0, 0]], [[4, 2], [4, 3]]]
    assert batch["probability"].tolist() == [[1.0, -100.0], [0.5, pytest.approx(0.8)]]
    assert batch["margin"].tolist() == [[2.0, 0.0], [0.0, 0.0]]
    assert batch["tokens"].tolist() == [10, 10, 15]
    shared = Collator("shared")(rows)
    assert shared["input_ids"].tolist() == [[1, 2, 3, 4, 5, 6, 7]]
    assert shared["position_ids"].tolist() == [[0, 1, 2, 1, 0, 1, 1]]
    assert shared["tokens"].tolist() == [10, 7, 7]


def test_flags_win_over_the_recipe_and_mistakes_are_told(tmp_path, train_flags):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("backbone: some/backbone\nlearning_rate: 0.5\ndata: [{path: a.jsonl, pairs: 3}]\nseed: 7\n")
    config = parse(["--recipe", str(recipe), "--output", str(tmp_path), "--learning_rate", "0.1"])
    assert (config.learning_rate, config.seed, config.backbone) == (0.1, 7, "some/backbone")
    assert config.sources == [DataSource("a.jsonl", pairs=3)]
    # The paper's settings, where neither says otherwise.
    paper = parse(["--backbone", "b", "--data", "d", "--output", "o"])
    assert paper.learning_rate == 3e-6
    assert paper.per_device_train_batch_size * paper.gradient_accumulation_steps == 256
    assert (paper.adam_beta1, paper.adam_beta2, paper.max_grad_norm) == (0.9, 0.95, 1.0)

    recipe.write_text("backbone: b\nlearning_speed: 3\n")
    with pytest.raises(SentrmError, match=r"unknown entries: .*learning_speed"):
        parse(["--recipe", str(recipe)])
    with pytest.raises(SentrmError, match="cannot read the recipe"):
        parse(["--recipe", str(tmp_path / "none.yaml")])
    with pytest.raises(SentrmError, match="a run needs --backbone, --data and --output"):
        parse(["--backbone", "b"])
    with pytest.raises(SentrmError, match="learning_speed"):
        parse([*train_flags, "--output", "o", "--learning_speed", "3"])
    recipe.write_text("data: [{path: a, wait: 3}]\nbackbone: b\n")
    with pytest.raises(SentrmError, match=r"data: .*wait.* Expected path"):
        parse(["--recipe", str(recipe), "--output", "o"])
    flags = {"aggregator": "sum", "save_dtype": "int8", "compare": "folder", "boundary": "end"}
    for flag, value in flags.items():
        with pytest.raises(SentrmError, match=f"--{flag} is '{value}'; expected"):
            parse([*train_flags, "--output", "o", f"--{flag}", value])


def test_flags_without_effect_and_names_that_are_taken_are_refused(train_flags):
    def refused(*flags: str) -> str:
        with pytest.raises(SentrmError) as error:
            parse([*train_flags, "--output", "runs/ours", *flags])
        return str(error.value)

    assert "--eval_pairs has no effect without --streaming" in refused("--eval_pairs", "7")
    assert "--shuffle_buffer has no effect without" in refused("--shuffle_buffer", "7")
    stream = ("--streaming", "--max_steps", "3")
    assert "--encoding_processes has no effect with --streaming" in refused(*stream, "--encoding_processes", "7")
    assert "leave --dataloader_num_workers out" in refused(*stream, "--dataloader_num_workers", "1")
    assert "hf upload" in refused("--push_to_hub")
    for name in ("ours", "always longer", "always shorter", ""):
        assert "with a NAME other than ours, always longer" in refused("--compare", f"{name}=folder")
    assert "other than ours, always longer, always shorter, a." in refused("--compare", "a=folder", "a=folder")


def test_a_split_is_for_all_sources_that_name_none(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("backbone: b\ndata: [{path: a}, {path: b, split: test}, c]\n")
    config = parse(["--recipe", str(recipe), "--output", "o", "--split", "validation"])
    assert [one.split for one in config.sources] == ["validation", "test", "validation"]


def test_a_run_is_called_by_the_precision_it_has(train_flags):
    def precision(*flags: str) -> str:
        return parse([*train_flags, "--output", "o", *flags]).precision

    assert (precision(), precision("--bf16")) == ("fp32", "bf16")
    config = parse([*train_flags, "--output", "o"])
    config.fp16 = True  # parsing it needs a GPU
    assert config.precision == "fp16"
    assert precision("--model_dtype", "bfloat16") == "bf16, the backbone's weights too"


def test_the_length_of_rows_without_text_is_in_tokens():
    tokens = TokenizedPair(([1, 2, 3], [1, 2, 3, 4, 5]), ([0, 2], [0, 4]))
    assert longer_by(PreferencePair("", "", "", tokens=tokens)) == -2
    assert longer_by(PreferencePair("p", "abcd", "abc", tokens=tokens)) == 1
    assert longer_by(PreferencePair("p", "a", "bcd")) == -2


def test_the_card_says_rows_where_rows_are_meant(train_flags):
    from_file = parse([*train_flags, "--output", "ours"])
    stream = parse([*train_flags, "--output", "ours", "--streaming", "--max_steps", "4"])
    figures = {"pairs": 1, "prompts": 1, "accuracy": 1.0}
    metrics = {"command": "", "median_reward": 0.0, "held_out": {"ours": {"all": figures}}, "held_out_truncation": {}}
    metrics |= {"steps": 4, "train_loss": 0.5, "train_seconds": 60, "train_rows": 32, "train_pairs": 32}
    counts = [SourceCount(DataSource("eggs.jsonl"), 1200, 7, 1000, 193)]
    pairs = model_card(from_file, counts, metrics)
    assert "32 pairs, 3 epochs, 4 steps of 8 pairs" in pairs
    ranked = model_card(from_file, counts, metrics | {"train_pairs": 96})
    assert "96 pairs in 32 rows, 3 epochs, 4 steps of 8 rows" in ranked
    streamed = model_card(stream, counts, metrics)
    assert "32 rows of a stream, 4 steps of 8 rows" in streamed
    assert "| read for training |" in streamed


def test_the_bundled_models_recipe_trains_on_no_evaluation_set():
    recipe = yaml.safe_load((ROOT / "training/recipes/demo.yaml").read_text())
    names = {source["path"].split(".")[0] for source in recipe["data"]}
    assert not names & {"pandalm_test", "hhh_alignment"}
    assert all(source["licence"] and source["origin"] for source in recipe["data"])


@pytest.fixture(scope="module")
def trained(train_flags, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("trained") / "eggs-model"
    assert main([*train_flags, "--output", str(output)]) == 0
    return output


@pytest.mark.slow
def test_a_run_learns_saves_and_reports_what_it_measured(trained, pairs_file):
    metrics = json.loads((trained / "metrics.json").read_text())
    figures = metrics["held_out"]["eggs-model"]["all"]
    held_out = [pair for pair in load_preferences(pairs_file).pairs if is_held_out(pair.split_key)]
    scorer = Scorer.from_pretrained(trained)
    scored = scorer.score(held_out)
    assert figures["pairs"] == len(held_out)
    assert figures["accuracy"] == sum(pair.margin > 0 for pair in scored) / len(scored)
    assert figures["accuracy"] > 0.9
    rewards = [reward for pair in scored for side in (pair.a, pair.b) for reward in side.rewards[1:]]
    assert scorer.model_info.median_reward == pytest.approx(statistics.median(rewards), abs=1e-5)
    assert scorer.segmenter_info.own
    longer = metrics["held_out"]["always longer"]["all"]
    assert longer["accuracy"] == 0.0  # the rejected one has a sentence more
    assert not {"margin", "ece"} & set(longer)  # characters are no logits

    card = (trained / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "transformers"
    assert f"| eggs | {len(held_out)} | {len(held_out)} | {100 * figures['accuracy']:.1f} (" in card
    assert metrics["command"] in card
    assert f"| {120 - len(held_out)} | {len(held_out)} | 0 |" in card


@pytest.mark.slow
def test_the_rude_sentence_gets_the_lowest_reward(trained, pairs_file):
    held_out = [pair for pair in load_preferences(pairs_file).pairs if is_held_out(pair.split_key)]
    hits = []
    for pair in Scorer.from_pretrained(trained).score(held_out):
        lowest = min(range(len(pair.b.spans)), key=lambda i: pair.b.rewards[i + 1])
        hits.append("silly" in pair.b.sentences[lowest])
    assert sum(hits) > 0.8 * len(hits)


@pytest.mark.slow
def test_every_trained_parameter_changed(trained, backbone_dir):
    after = load_file(trained / "model.safetensors")
    before = LlamaModel.from_pretrained(backbone_dir).state_dict()
    for name, weight in before.items():
        ours = after[f"backbone.{name}"][: len(weight)]  # the embedding grew by the marker
        assert not torch.equal(ours, weight), name
    assert len(after["backbone.embed_tokens.weight"]) == len(before["embed_tokens.weight"]) + 1
    assert {name.split(".")[0] for name in after} == {"backbone", "value_head", "aggregator"}
    assert after["value_head.bias"].abs().item() > 0


@pytest.mark.slow
def test_resuming_gives_the_weights_of_the_unbroken_run(trained, train_flags, tmp_path, capsys):
    output = tmp_path / "resumed"
    output.mkdir()
    last = max(int(folder.name.split("-")[1]) for folder in trained.glob("checkpoint-*"))
    earlier = min(trained.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    assert int(earlier.name.split("-")[1]) < last
    shutil.copytree(earlier, output / earlier.name)
    assert main([*train_flags, "--output", str(output)]) == 2  # an earlier run is not overwritten unasked
    assert "Pass --resume" in capsys.readouterr().err
    assert main([*train_flags, "--output", str(output), "--resume"]) == 0
    whole, resumed = (load_file(folder / "model.safetensors") for folder in (trained, output))
    for name, weight in whole.items():
        torch.testing.assert_close(resumed[name], weight, rtol=0, atol=1e-5)

    assert main([*train_flags, "--output", str(tmp_path / "new"), "--resume"]) == 2
    assert "holds no checkpoint" in capsys.readouterr().err


def test_a_run_that_cannot_start_says_why(train_flags, pairs_file, tmp_path, capsys):
    few = tmp_path / "few.jsonl"
    few.write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n')
    flags = [*train_flags, "--output", str(tmp_path / "out")]
    assert main([*flags, "--data", str(few)]) == 2
    assert "held out; expected at least one of each" in capsys.readouterr().err
    assert main([*flags, "--max_length", "4096"]) == 2
    assert "the backbone has 512 positions" in capsys.readouterr().err
    assert main([*flags, "--use_margin"]) == 2
    assert "no pair has a margin" in capsys.readouterr().err
    pairs = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    tied = tmp_path / "tied.jsonl"
    tied.write_text("\n".join(json.dumps(row | {"tie": is_held_out(row["prompt"])}) for row in pairs))
    assert main([*flags, "--data", str(tied)]) == 2
    assert "every held-out pair is a tie" in capsys.readouterr().err
    assert main([*flags, "--compare", f"x={tmp_path / 'nowhere'}"]) == 2
    assert "nowhere is no local folder" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/checkpoint-*"))
    assert main([*flags, "--backbone", str(tmp_path / "none")]) == 2
    assert "does not load" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_with_every_switch_on(train_flags, pairs_file, trained, tmp_path, capsys):
    rows = [json.loads(line) | {"margin": 0.5} for line in pairs_file.read_text().splitlines()]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    switches = ["--data", str(tmp_path / "pairs.jsonl"), "--use_margin", "--center_rewards_coefficient", "0.01"]
    switches += ["--bf16", "--save_dtype", "bfloat16", "--eval_strategy", "steps", "--eval_steps", "2"]
    switches += ["--max_steps", "4", "--boundary", "offset", "--aggregator", "mean", "--compare", f"first={trained}"]
    assert main([*train_flags, *switches, "--output", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.count("'eval_accuracy'") == 2
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(metrics["held_out"]) == ["out", "always longer", "always shorter", "first"]
    earlier = json.loads((trained / "metrics.json").read_text())["held_out"]["eggs-model"]
    assert metrics["held_out"]["first"]["all"] == earlier["all"]
    assert load_file(tmp_path / "out" / "model.safetensors")["backbone.norm.weight"].dtype == torch.bfloat16


@pytest.mark.slow
def test_a_short_run_on_a_stream_counts_what_it_trained_on(train_flags, pairs_file, tmp_path, capsys):
    rows = [json.loads(line) | {"margin": 0.5} for line in pairs_file.read_text().splitlines()]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    flags = [*train_flags, "--data", str(tmp_path / "pairs.jsonl"), "--streaming", "--max_steps", "2"]
    assert main([*flags, "--save_strategy", "no", "--output", str(tmp_path / "out")]) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["steps"], metrics["train_rows"]) == (2, 16)
    assert 0 < metrics["train_loss"] < 2, "logged at the end, though --logging_steps is 10"
    assert "pairs have a margin, which the loss leaves out; pass --use_margin" in capsys.readouterr().out
    assert main([*flags, "--data", str(pairs_file), "--use_margin", "--output", str(tmp_path / "none")]) == 2
    assert "no pair has a margin" in capsys.readouterr().err


@pytest.mark.slow
def test_one_batch_of_eight_equals_eight_of_one(train_flags, tmp_path):
    weights = []
    for batch, accumulation in ((8, 1), (1, 8)):
        output = tmp_path / str(batch)
        flags = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation, "max_steps": 3}
        flags |= {"learning_rate": 0.001, "train_sampling_strategy": "sequential", "output": output}
        assert main([*train_flags, *(part for name, value in flags.items() for part in (f"--{name}", str(value)))]) == 0
        weights.append(load_file(output / "model.safetensors"))
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=0, atol=2e-4)
