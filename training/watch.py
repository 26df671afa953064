"""What a run shows on the console: its facts at the start, held-out figures at the end, sample pairs on the way.

All of it is printed by the main process through `tqdm.write`, so the one progress bar stays whole, and coloured only
where the output is a terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch.distributed.tensor import DTensor
from tqdm.auto import tqdm
from transformers import (
    PreTrainedTokenizerBase,
    SchedulerType,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from sentrm.errors import SentrmError
from sentrm.heatmap import INK_ON_COLOUR, PALETTES, Scale
from sentrm.modeling import SentenceRewardModel
from sentrm.preferences import PreferencePair
from sentrm.results import ScoredPair
from sentrm.scoring import Scorer
from sentrm.words import counted, plain, signed, unit_of, visible

from .identity import rows_per_step

if TYPE_CHECKING:
    from .config import TrainConfig
    from .data import SourceCount

SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED)  # one process alone cannot run such a model
COLUMNS = ["pair", "side", "sentence", "reward", "weight", "score", "margin"]


def show(what: RenderableType, console: Console | None = None) -> None:
    """Print `what` above the progress bar."""
    console = console or Console()
    with console.capture() as captured:
        console.print(what)
    tqdm.write(captured.get(), end="")


class Summary(TrainerCallback):
    """Prints the facts of a run when training begins: model, data with everything left out, batches, optimiser."""

    def __init__(
        self,
        counts: Sequence[SourceCount],
        truncation: dict[str, dict[str, int]],
        batching: dict[str, Any],
    ) -> None:
        """
        Args:
            counts: what became of the rows of each source.
            truncation: the counts of `encode_pairs` by split, {"training": …, "held out": …}; {} where not known yet.
            batching: facts of the batches, e.g. strategy, padding share, shared share; shares are floats.
        """
        self.counts, self.truncation, self.batching = counts, truncation, batching

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            config = cast("TrainConfig", args)
            data, left_out = self.data_tables()
            show(Group(_facts(config, state, kwargs["model"], self.batching), "", data, "", left_out))

    def data_tables(self) -> tuple[Table, Table]:
        """Rows by source, then what did not fit by split."""
        table = _table("data", "rows", "bad rows", "training", "held out")
        for one in self.counts:
            table.add_row(
                Text(one.source.name), *(f"{number:,}" for number in (one.rows, one.bad_rows, one.train, one.held_out))
            )
        left_out = _table("left out", *self.truncation)
        for name in dict.fromkeys(name for counts in self.truncation.values() for name in counts):
            cells = [f"{counts[name]:,}" if name in counts else "" for counts in self.truncation.values()]
            left_out.add_row(name.replace("_", " "), *cells)
        return table, left_out


def _facts(config: TrainConfig, state: TrainerState, model: Any, batching: dict[str, Any]) -> Table:
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    every = sum(p.numel() for p in model.parameters())
    rows = {
        "backbone": config.backbone,
        "parameters": f"{every:,}, trained {trained:,} ({trained / max(every, 1):.1%})",
        "reads": f"boundary {config.boundary}, aggregator {config.aggregator}, segmenter {config.segmenter}",
        "steps": f"{state.max_steps:,} of {counted(rows_per_step(config), 'row')} "
        f"({config.train_batch_size} x {config.gradient_accumulation_steps} x {config.world_size}: "
        "device batch, accumulation, processes)",
        "learning rate": f"{config.learning_rate:g}, {SchedulerType(config.lr_scheduler_type).value}",
        "precision": config.precision,
    }
    for name, value in batching.items():
        rows[name.replace("_", " ")] = f"{value:.1%}" if isinstance(value, float) else str(value)
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in rows.items():
        table.add_row(Text(name, style="dim"), Text(value))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, name in enumerate(columns):
        table.add_column(Text(name), justify="right" if i else "left")
    return table


def held_out_table(metrics: dict[str, Any]) -> Table:
    """Accuracy in percent of each source, the model's with its 95% interval, beside the other systems.

    Args:
        metrics: what metrics.json holds; the first system of `held_out` is the model.
    """
    ours, *others = metrics["held_out"].values()
    name, *names = metrics["held_out"]
    table = _table("held out", "pairs", f"{name}, %", "95% interval", *(f"{name}, %" for name in names), "ECE")
    table.columns[0].no_wrap = table.columns[3].no_wrap = True
    for name, figures in ours.items():
        share, interval = f"{100 * figures['accuracy']:.1f}", ""
        if "accuracy_low" in figures:
            interval = f"{100 * figures['accuracy_low']:.1f} to {100 * figures['accuracy_high']:.1f}"
        rest = [f"{100 * other[name]['accuracy']:.1f}" for other in others]
        ece = f"{figures['ece']:.3f}" if "ece" in figures else ""
        style = "bold" if name in ("all", "mean of files") else ""
        table.add_row(Text(name), f"{figures['pairs']:,}", share, interval, *rest, ece, style=style)
    return table


class SampleTable(TrainerCallback):
    """Every `every` steps, how the model reads a few held-out pairs: on the console and in the Trainer's trackers.

    Training goes on as if it had not been there: each module's mode and the random state are restored.
    """

    def __init__(
        self,
        pairs: Sequence[PreferencePair],
        every: int,
        trackers: Sequence[TrainerCallback] = (),
        scorer: Callable[[SentenceRewardModel, PreTrainedTokenizerBase], Scorer] | None = None,
    ) -> None:
        """
        Args:
            pairs: a few that fit the model.
            every: steps between two tables.
            trackers: the Trainer's own callbacks; those of TensorBoard, Weights & Biases and trackio get the table.
            scorer: makes the scorer of the model and its tokenizer; `Scorer.from_model` by default.
        """
        self.pairs, self.every, self.trackers = list(pairs), every, trackers
        self.make_scorer = scorer or (lambda model, tokenizer: Scorer.from_model(model, tokenizer, name="in training"))
        self.scorer: Scorer | None = None  # made at the first table: a segmenter may take seconds to load
        self.sharded = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        sharded = any(isinstance(parameter, DTensor) for parameter in kwargs["model"].parameters())
        self.sharded = sharded or AcceleratorState().distributed_type in SHARDED
        if self.sharded and state.is_world_process_zero:
            show(Text("no sample tables: the model is sharded over processes (FSDP or DeepSpeed)"))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.sharded or not state.is_world_process_zero or state.global_step % self.every:
            return
        try:
            scored = self._score(kwargs["model"], kwargs["processing_class"])
        except SentrmError as error:  # numbers that are not finite, say: the Trainer's to report, not the table's
            show(Text(f"no sample table at step {state.global_step}: {visible(str(error))}"))
            return
        show(sample_table(scored, state.global_step, self.pairs))
        self._track(scored, state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.scorer = None  # holds the model

    def _score(self, model: SentenceRewardModel, tokenizer: PreTrainedTokenizerBase) -> list[ScoredPair]:
        modes = [(module, module.training) for module in model.modules()]
        with torch.random.fork_rng(devices=[]):  # nothing draws on a device: dropout is off
            try:
                if self.scorer is None:
                    self.scorer = self.make_scorer(model, tokenizer)
                model.eval()
                return self.scorer.score(self.pairs)
            finally:
                for module, training in modes:
                    module.training = training

    def _track(self, scored: Sequence[ScoredPair], step: int) -> None:
        for tracker in self.trackers:
            if isinstance(tracker, TensorBoardCallback) and tracker.tb_writer is not None:
                console = Console(width=160, color_system=None)
                with console.capture() as captured:
                    console.print(sample_table(scored, step, self.pairs))
                # Indented by four, Markdown takes every line as it is.
                text = "".join(f"    {line}\n" for line in captured.get().splitlines())
                tracker.tb_writer.add_text("sample_pairs", text, step)
            elif isinstance(tracker, WandbCallback):
                import wandb

                wandb.log({"sample_pairs": wandb.Table(columns=COLUMNS, data=_rows(scored)), "train/global_step": step})
            elif isinstance(tracker, TrackioCallback):
                import trackio

                table = trackio.Table(columns=COLUMNS, data=_rows(scored))
                trackio.log({"sample_pairs": table, "train/global_step": step})


def _rows(scored: Sequence[ScoredPair]) -> list[list[str | float]]:
    """One row a sentence, columns as in `COLUMNS`; the numbers unformatted."""
    return [
        [pair.id, side, visible(sentence), reward, weight, response.score, pair.margin]
        for pair in scored
        for side, response in (("chosen", pair.a), ("rejected", pair.b))
        for sentence, reward, weight in zip(response.sentences, response.rewards[1:], response.weights[1:], strict=True)
    ]


def sample_table(scored: Sequence[ScoredPair], step: int, pairs: Sequence[PreferencePair]) -> Table:
    """One row a sentence, its reward coloured around the median of all rewards in the table; of a baseline's tokens
    or segments running text, each coloured. `pairs` are those that were scored, and say which response is preferred:
    nothing is right about a tie."""
    rewards = sorted(r for pair in scored for side in (pair.a, pair.b) for r in side.rewards[1:])
    median = rewards[len(rewards) // 2] if rewards else 0.0
    scale = Scale.around(median, rewards)
    title = f"step {step}: sample pairs; colour: reward below or above the median {signed(median)}"
    table = Table(box=None, pad_edge=False, header_style="bold", title=Text(title), title_justify="left", expand=True)
    table.add_column("score", justify="right")
    table.add_column("reward", justify="right")
    unit = unit_of(scored[0].a.segmenter.spec) if scored else "sentence"
    running = unit in ("token", "segment")
    table.add_column(unit, ratio=1)
    for pair, data in zip(scored, pairs, strict=True):
        prompt = pair.prompt if isinstance(pair.prompt, str) else pair.prompt[-1]["content"]
        verdict = "right" if pair.margin * (data.probability - 0.5) > 0 else "wrong"
        margin = f"margin {signed(pair.margin)}, {'a tie' if data.probability == 0.5 else verdict}"
        table.add_row("", "", _line(f"{margin} · {prompt}", "bold"))
        for name, response in (("chosen", pair.a), ("rejected", pair.b)):
            table.add_row(Text(plain(response.score), style="bold"), "", Text(name, style="dim"))
            text = Text()
            for sentence, reward in zip(response.sentences, response.rewards[1:], strict=True):
                colour = f"{INK_ON_COLOUR} on {PALETTES['RdBu'][scale.class_of(reward)]}"
                if running:
                    text.append(visible(sentence).replace("\n", " "), style=colour)
                else:
                    table.add_row("", Text(f" {signed(reward)} ", style=colour), _line(sentence))
            if running:
                table.add_row("", "", text)
    return table


def _line(text: str, style: str = "") -> Text:
    """`text` on one line, cut where the terminal ends."""
    return Text(" ".join(visible(text).split()), style=style, no_wrap=True, overflow="ellipsis")
