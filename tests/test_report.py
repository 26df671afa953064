"""The report's figures by hand, its text as text; what the console shows; and that watching changes nothing."""

from __future__ import annotations

import math
import random
import re
from itertools import pairwise

import plotly.graph_objects as go
import pytest
import torch
from pages import Reader, embedded
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import tiny_model
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.data import Dataset
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

from sentrm.metrics import rank_correlation, report
from sentrm.preferences import PreferencePair
from sentrm.results import ModelInfo, ScoredPair, ScoredResponse, SegmenterInfo, Span
from sentrm.scoring import Scorer
from training.charts import POINTS
from training.config import parse
from training.data import DataSource, SourceCount
from training.figures import report_figures
from training.model_card import model_card
from training.report import html_report
from training.watch import SampleTable, Summary, held_out_table, sample_table


def response(sentences: list[str], values: list[float], prompt: str = "p", segmenter: str = "rules:en"):
    """A response read with the same weight at each of its boundaries: R = v_N / (N + 1)."""
    ends = [sum(map(len, sentences[: i + 1])) for i in range(len(sentences))]
    spans = tuple(Span(end - len(text), end) for end, text in zip(ends, sentences, strict=True))
    rewards = [values[0], *(after - before for before, after in pairwise(values))]
    weights = [1 / len(values)] * len(values)
    contributions = [a * d for a, d in zip(weights, rewards, strict=True)]
    numbers = (tuple(values), tuple(rewards), tuple(weights), tuple(contributions), sum(contributions))
    model = ModelInfo("m", "r", "mean", None)
    tokens = tuple(1 for _ in sentences)
    return ScoredResponse(
        prompt, "".join(sentences), spans, tokens, *numbers, 0, 0, model, SegmenterInfo(segmenter, "1", True)
    )


def pair(chosen: float, rejected: float, id: str = "s:1", prompt: str = "p") -> ScoredPair:
    """One sentence a side, with these scores: v_1 = 2R."""
    sides = (response(["Yes."], [0.0, 2 * chosen], prompt), response(["No."], [0.0, 2 * rejected], prompt))
    return ScoredPair(id, *sides)


def metrics_of(scored: list[ScoredPair], **more: object) -> dict:
    margins, prompts = [one.margin for one in scored], [str(one.prompt) for one in scored]
    sources = [one.id.split(":")[0] for one in scored]
    systems = {"ours": margins, "always longer": [-m for m in margins], "always shorter": [0.0 for _ in margins]}
    return {
        "command": "python -m training.train",
        "seed": 1,
        "train_pairs": 10,
        "truncation": {"pairs_too_long": 3, "sequences_with_cut_prompt": 0},
        "held_out_truncation": {"pairs_too_long": 1, "sequences_with_cut_prompt": 2},
        "train_loss": 0.5,
        "steps": 20,
        "train_seconds": 90,
        "median_reward": 0.0,
        "held_out": {name: report(values, prompts, sources) for name, values in systems.items()},
        **more,
    }


def test_rank_correlation_by_hand():
    # Ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: covariance 4.5, variances 4.5 and 5.
    assert rank_correlation([1, 2, 2, 3], [1, 3, 2, 40]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None


def test_the_embedded_figures_are_those_computed_by_hand():
    first = ScoredPair(
        "a:1",
        response(["One. ", "Two."], [0.3, 0.9, 3.0], "first"),  # R = 1; rewards 0.6, 2.1
        response(["One."], [0.3, 0.0], "first"),  # R = 0; reward -0.3
    )
    second = ScoredPair("a:2", response(["One."], [0.0, -2.0], "second"), response(["One."], [0.0, 2.0], "second"))
    scored = [first, second]
    log = [
        {"step": 10, "loss": 0.7, "learning_rate": 1e-4},
        {"step": 10, "eval_loss": 0.65, "eval_accuracy": 0.5},
        {"step": 20, "loss": float("inf"), "learning_rate": 0.0},
        {"step": 20, "train_runtime": 3.0, "train_loss": 0.5},
    ]
    data = embedded(html_report("ours", metrics_of(scored), log, scored))
    figures = data["figures"]
    # Margins 1 and -2: confidences 0.7311 (right) and 0.8808 (wrong).
    assert [(one["pairs"], one["accuracy"]) for one in figures["reliability"]] == [(1, 1.0), (1, 0.0)]
    assert [one["confidence"] for one in figures["reliability"]] == pytest.approx([0.731059, 0.880797], abs=1e-6)
    assert figures["ece"] == pytest.approx((1 - 0.731059) / 2 + 0.880797 / 2, abs=1e-6)
    assert figures["held_out"]["all"]["accuracy"] == 0.5
    assert figures["curves"]["loss"] == [[10, 0.7]]
    assert figures["curves"]["eval_accuracy"] == [[10, 0.5]]
    assert figures["curves"]["learning_rate"] == [[10, 1e-4], [20, 0.0]]
    # Sentences 2, 1, 1, 1 and scores 1, 0, -1, 1; within pairs sentences +1, 0 and margins 1, -2.
    ranks = ([4, 2, 2, 2], [3.5, 2, 1, 3.5])
    x, y = ([one - 2.5 for one in side] for side in ranks)
    expected = sum(a * b for a, b in zip(x, y, strict=True)) / math.sqrt(sum(a * a for a in x) * sum(b * b for b in y))
    assert figures["length"]["rank_correlation"] == pytest.approx(expected)
    assert figures["length"]["rank_correlation_within_pairs"] == pytest.approx(1)
    assert figures["length"]["medians"] == [[1, 0.0], [2, pytest.approx(1)]]
    assert [(row["position"], row["boundaries"]) for row in figures["weights"]] == [("0", 4), ("1", 1), ("last", 4)]
    assert all(row["median"] == pytest.approx(1) for row in figures["weights"])  # every weight is an even share
    assert figures["most_wrong"] == [["a:2", pytest.approx(-2)]]
    assert sum(figures["rewards"]["chosen"]) == sum(figures["rewards"]["rejected"]) == pytest.approx(1)
    middles = [sum(edges) / 2 for edges in pairwise(figures["rewards"]["edges"])]
    mean = sum(a * b for a, b in zip(middles, figures["rewards"]["chosen"], strict=True))
    assert mean == pytest.approx((0.6 + 2.1 - 2.0) / 3, abs=0.05)  # as near as bins are wide


def test_calibration_in_bins_adds_up_to_the_metrics_ece():
    rng = random.Random(0)
    scored = [pair(rng.gauss(0.3, 1), 0.0, f"s:{i}", f"prompt {i}") for i in range(200)]
    metrics = metrics_of(scored)
    figures = report_figures(metrics, [], scored)
    gaps = [one["pairs"] / 200 * abs(one["accuracy"] - one["confidence"]) for one in figures["reliability"]]
    assert sum(gaps) == pytest.approx(metrics["held_out"]["ours"]["all"]["ece"])
    assert figures["ece"] == metrics["held_out"]["ours"]["all"]["ece"]


def test_the_page_says_what_the_figures_are():
    scored = [pair(float(i % 4 - 1), 0.0, f"s:{i}", f"prompt {i}") for i in range(40)]  # margins -1, 0, 1, 2
    text = Reader(html_report("ours", metrics_of(scored, versions={"torch": "9.9"}), [], scored)).text
    assert "50.0%40 pairs, 40 prompts" in re.sub(r"\s*\n\s*", "", text)
    assert "20 pairs of 40 have the rejected response ahead, or level" in text
    assert "Better than “always longer”, the better rule that only looks at length (25.0%)" in text
    level = [pair(1.0 if i % 2 else -1.0, 0.0, f"s:{i}", f"prompt {i}") for i in range(40)]
    assert "Not better than “always longer”" in html_report("ours", metrics_of(level), [], level)  # 50% and 50%
    few = [pair(-1.0 if i < 5 else 1.0, 0.0, f"s:{i}", f"prompt {i}") for i in range(11)]  # 6 of 11 against 5 of 11
    assert "not by more than chance explains" in html_report("ours", metrics_of(few), [], few)
    assert "not defined (all equal)" in text  # every response has one sentence
    for said in ("python -m training.train", "torch 9.9", "pairs too long31", "The run logged no loss", "2 min"):
        assert said in text, said


@pytest.mark.parametrize("aside", ["one pair", "all ties", "no sentences", "all right"])
def test_odd_runs_have_a_report(aside):
    empty = ScoredPair("s:1", response([], [0.5]), response([], [0.5]))
    scored = {
        "one pair": [pair(1.0, 0.0)],
        "all ties": [pair(1.0, 1.0, f"s:{i}", f"prompt {i}") for i in range(12)],
        "no sentences": [empty],
        "all right": [pair(2.0, 1.0, f"s:{i}") for i in range(3)],
    }[aside]
    page = html_report("ours", metrics_of(scored), [], scored)
    data = embedded(page)
    assert set(data["charts"]) == {"reliability", "rewards", "length", "weights"}
    assert ("No held-out pair has its rejected response ahead" in page) == (aside in ("one pair", "all right"))
    if aside == "all ties":
        assert data["figures"]["held_out"]["all"]["accuracy"] == 0.0
        assert data["figures"]["reliability"][0]["pairs"] == 12


def test_plotly_takes_every_chart():
    scored = [pair(1.0, 0.0, "s:1"), pair(0.0, 1.0, "s:2", "other")]
    logs = ([], [{"step": 1, "loss": 0.7}], [{"step": 1, "loss": 0.7, "learning_rate": 0.1}])
    logs += ([*logs[2], {"step": 1, "eval_loss": 0.7, "eval_accuracy": 0.5}],)
    for log in logs:
        charts = embedded(html_report("ours", metrics_of(scored), log, scored))["charts"]
        assert ("curves" in charts) == bool(log)
        for chart in charts.values():
            go.Figure(chart)  # raises for a name or value that plotly does not know


HOSTILE = '</script><script>alert(1)</script><!-- <img src=x onerror="alert(2)"> `${alert(3)}` & [red]'


def test_hostile_text_stays_text():
    text = HOSTILE + " \x00 \x1b[31m \ud800"
    chosen, rejected = response([text], [0.0, -1.0], text), response([text, text], [0.0, 1.0, 2.0], text)
    scored = [ScoredPair(f"{HOSTILE}:1", chosen, rejected)]
    metrics = metrics_of(scored, command=text, versions={text: text}, batching={text: text})
    page = html_report(text, metrics, [], scored)
    page.encode()  # a lone surrogate would not pass
    reader = Reader(page)
    assert reader.tags.count("script") == 3  # the data, plotly, and what draws
    assert "img" not in reader.tags
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    assert reader.text.count(HOSTILE) >= 8  # title, heading, source, prompt twice, three sentences, command, …
    assert "\x00" not in page
    assert "\x1b" not in page
    assert embedded(page)["figures"]["most_wrong"][0][0] == f"{HOSTILE}:1"


def test_nothing_is_fetched():
    scored = [pair(1.0, 0.0)]
    page = html_report("ours", metrics_of(scored), [], scored)
    reader = Reader(page)
    assert not {"link", "iframe", "img", "base"} & set(reader.tags)
    assert not [value for name, value in reader.attributes if name in ("src", "href", "srcset")]
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style


def test_many_pairs_stay_a_small_page():
    rng = random.Random(0)
    scored = [pair(rng.gauss(0, 1), rng.gauss(0, 1), f"s:{i}", f"prompt {i}") for i in range(3000)]
    page = html_report("ours", metrics_of(scored), [], scored)
    assert len(page.encode()) < 6e6  # five of them are plotly
    shown = [len(trace["x"]) for trace in embedded(page)["charts"]["length"]["data"][:2]]
    assert sum(shown) == POINTS
    assert "2,000 of 6,000" in page
    assert embedded(html_report("ours", metrics_of(scored), [], scored)) == embedded(page)  # the seed draws them


def test_a_token_level_model_is_read_as_running_text():
    sides = [response(["Old ", "eggs\n", "peel."], [0, 1, 2, end], segmenter="tokens") for end in (-1.0, 1.0)]
    page = html_report("ours", metrics_of([pair(1.0, 0.0)]), [], [ScoredPair("s:1", *sides)])
    text = Reader(page).text
    assert "Token rewards" in text
    assert "Old eggs\npeel." in text  # white space stays
    whole = [response(["Old eggs."], [0, end], segmenter="response") for end in (-1.0, 1.0)]
    page = html_report("ours", metrics_of([pair(1.0, 0.0)]), [], [ScoredPair("s:1", *whole)])
    assert set(embedded(page)["charts"]) == {"reliability", "rewards"}


def printed(what: object) -> str:
    console = Console(width=160, color_system=None)
    with console.capture() as captured:
        console.print(what)
    return captured.get()


PAIR = PreferencePair("p", "a", "b")


@pytest.mark.parametrize(("probability", "verdict"), [(1.0, "wrong"), (0.8, "wrong"), (0.5, "a tie"), (0.0, "right")])
def test_the_sample_table_knows_which_response_is_preferred(probability, verdict):
    scored = [pair(0.0, 1.0)]
    text = printed(sample_table(scored, 1, [PreferencePair("p", "a", "b", probability=probability)]))
    assert f"margin −1.00, {verdict} ·" in text


def test_the_sample_table_prints_each_sentence_once():
    sentences = ["Boil it. ", "[red]Then[/red] peel\nit.", " Wait\x1b[31m."]
    scored = [ScoredPair("s:1", response(sentences, [0.0, 1.0, 0.5, 2.0], "Eggs?"), response(["No."], [0.0, 2.0]))]
    text = printed(sample_table(scored, 200, [PAIR]))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for line in ("+1.00 Boil it.", "−0.50 [red]Then[/red] peel it.", "+1.50 Wait␛[31m.", "+2.00 No."):
        assert lines.count(line) == 1, line
    assert "margin −0.50, wrong · Eggs?" in text  # 2.0 / 4 - 2.0 / 2
    assert "step 200" in text
    assert "\x1b" not in text
    console = Console(width=160, force_terminal=True, color_system="truecolor")
    with console.capture() as captured:
        console.print(sample_table(scored, 200, [PAIR]))
    assert "48;2;" in captured.get()  # a background colour
    running = ScoredPair("s:1", *[response(["Old ", "eggs."], [0, 1, 2], segmenter="tokens")] * 2)
    assert printed(sample_table([running], 1, [PAIR])).count("Old eggs.") == 2  # chosen and rejected


def test_the_held_out_table_shows_every_source_and_system():
    scored = [pair(float(i % 4 - 1), 0.0, f"s{i % 2}:{i}", f"prompt {i}") for i in range(40)]
    text = printed(held_out_table(metrics_of(scored)))
    figures = metrics_of(scored)["held_out"]["ours"]["all"]
    interval = f"{100 * figures['accuracy_low']:.1f} to {100 * figures['accuracy_high']:.1f}"
    assert re.search(rf"all +40 +50\.0 +{interval} +25\.0 +0\.0 +\d\.\d{{3}}", text)
    assert re.search(r"^s0 +20 ", text, re.MULTILINE)
    assert re.search(r"^s1 +20 ", text, re.MULTILINE)


class Sequences(Dataset):
    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = torch.arange(10) + 5 * index
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "boundaries": torch.tensor([2, 6, 9])}


class Summing(Trainer):
    def compute_loss(self, model: nn.Module, inputs: dict, return_outputs: bool = False, num_items_in_batch=None):
        return model(**inputs).score.square().mean()


def test_watching_changes_no_weight_and_reaches_the_trackers(tokenizer, tmp_path, monkeypatch, capsys):
    """A backbone with dropout: were the random state touched, the weights would differ."""
    pairs = [PreferencePair("How?", "Boil it. Then peel it.", "What a silly question!", id="a")]
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    weights = []
    for watched in (False, True):
        model = tiny_model("bert").train()
        arguments = TrainingArguments(
            str(tmp_path / "out"),
            max_steps=4,
            per_device_train_batch_size=4,
            learning_rate=0.01,
            report_to=["tensorboard"] if watched else [],
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            seed=3,
        )
        trainer = Summing(model=model, args=arguments, train_dataset=Sequences(), processing_class=tokenizer)
        if watched:
            table = SampleTable(pairs, 2, trainer.callback_handler.callbacks)
            trainer.add_callback(table)
        trainer.train()
        weights.append({name: weight.clone() for name, weight in model.state_dict().items()})
    assert any(module.p > 0 for module in model.modules() if isinstance(module, nn.Dropout))
    for name, weight in weights[0].items():
        assert torch.equal(weights[1][name], weight), name

    shown = capsys.readouterr().out
    assert [int(step) for step in re.findall(r"step (\d+): sample pairs", shown)] == [2, 4]
    assert shown.count("Then peel it.") == 2
    # The last table is of the last step's weights.
    (scored,) = Scorer.from_model(model, tokenizer, name="m").score(pairs)
    last = shown.partition("step 4")[2]
    assert f"margin {scored.margin:+.2f}".replace("-", "−") in last
    assert any(isinstance(one, TensorBoardCallback) for one in trainer.callback_handler.callbacks)
    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    (tag,) = [tag for tag in events.Tags()["tensors"] if "sample_pairs" in tag]
    logged = [event.tensor_proto.string_val[0].decode() for event in events.Tensors(tag)]
    assert len(logged) == 2
    assert all(line.startswith("    ") for text in logged for line in text.splitlines())
    assert "Then peel it." in logged[1]
    assert table.scorer is None  # the model can be freed

    model.train()
    model.backbone.embeddings.eval()  # as one who freezes a part would
    modes = [module.training for module in model.modules()]
    state, numbers = torch.get_rng_state(), random.getstate()
    table.on_step_end(arguments, trainer.state, trainer.control, model=model, processing_class=tokenizer)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == numbers


def test_a_sample_that_cannot_be_scored_does_not_stop_the_run(tokenizer, tmp_path, capsys):
    model = tiny_model("llama", max_length=16).train()
    arguments = TrainingArguments(
        str(tmp_path / "out"), max_steps=1, save_strategy="no", disable_tqdm=True, use_cpu=True, report_to=[]
    )
    trainer = Summing(model=model, args=arguments, train_dataset=Sequences(), processing_class=tokenizer)
    trainer.add_callback(SampleTable([PreferencePair("p", "word " * 99, "b", id="long")], 1))
    trainer.train()
    assert "no sample table at step 1: chosen of pair long" in capsys.readouterr().out
    assert all(module.training for module in model.modules())


def test_the_summary_and_the_card_count_what_was_left_out(train_flags, tmp_path, capsys):
    flags = [*train_flags, "--output", str(tmp_path), "--adapter", "lora", "--aggregator", "mean"]
    config = parse([*flags, "--gradient_accumulation_steps", "3"])
    model = tiny_model(aggregator="mean")
    for parameter in model.backbone.parameters():
        parameter.requires_grad = False
    counts = [SourceCount(DataSource("files/eggs.jsonl.gz"), 1200, 7, 1000, 193)]
    truncation = {"pairs_too_long": 3, "sequences_with_cut_prompt": 40}
    batching = {"strategy": "shared", "padding_share": 0.125}
    splits = {"training": truncation, "held out": {"pairs_too_long": 1, "sequences_with_cut_prompt": 2}}
    state = TrainerState(max_steps=50)
    Summary(counts, splits, batching).on_train_begin(config, state, TrainerControl(), model=model)
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    every, head = sum(p.numel() for p in model.parameters()), 16 + 1  # the value head: 16 weights and a bias
    assert f"parameters {every:,}, trained {head} ({head / every:.1%})" in shown
    assert "steps 50 of 24 rows (8 x 3 x 1: device batch, accumulation, processes)" in shown
    for line in ("eggs 1,200 7 1,000 193", "pairs too long 3 1", "sequences with cut prompt 40 2"):
        assert line in shown, line
    assert "padding share 12.5%" in shown
    for name in ("bf16", "fp16"):  # fp16 is refused on a CPU where the config is made
        config.bf16, config.fp16 = name == "bf16", name == "fp16"
        Summary(counts, splits, batching).on_train_begin(config, state, TrainerControl(), model=model)
        assert re.search(rf"precision +{name}\b", capsys.readouterr().out)
    config.fp16 = False
    state.is_world_process_zero = False
    Summary(counts, splits, batching).on_train_begin(config, state, TrainerControl(), model=model)
    assert capsys.readouterr().out == ""  # not the main process

    scored = [pair(1.0, 0.0)]
    metrics = metrics_of(scored, truncation=truncation, batching=batching)
    metrics["held_out"][config.name] = metrics["held_out"].pop("ours")
    card = model_card(config, counts, metrics)
    for line in ("| eggs | files/eggs.jsonl.gz | not given | 1200 | 1000 | 193 | 7 |", "| pairs too long | 3 | 1 |"):
        assert line in card
    for said in (
        "report.html",
        "lora of rank 16 (alpha 32)",
        "steps of 24 pairs",
        "strategy shared, padding share 12.5%",
    ):
        assert said in card, said


def test_a_sharded_model_is_left_alone(tokenizer, tmp_path, capsys):
    """One process alone would wait for ever for the others' shards."""
    arguments = TrainingArguments(str(tmp_path), use_cpu=True)
    assert arguments.world_size == 1  # accelerate looks for processes now, and shall find none
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = tiny_model("llama")
        fully_shard(model.backbone, mesh=init_device_mesh("cpu", (1,)))
        table = SampleTable([PreferencePair("p", "a", "b")], 1)
        given = (arguments, TrainerState(global_step=1), TrainerControl())
        table.on_train_begin(*given, model=model)
        assert capsys.readouterr().out.startswith("no sample tables: the model is sharded")
        table.on_step_end(*given, model=model, processing_class=tokenizer)
        assert capsys.readouterr().out == ""
        assert table.scorer is None
    finally:
        distributed.destroy_process_group()
