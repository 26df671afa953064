"""Train a sentence reward model: python -m training.train --backbone … --data … --output …

One run: read the mixture, hold out a tenth of the prompts, train, save, score the held-out pairs with the
saved checkpoint, write metrics.json and the model card beside it.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from transformers import (
    AutoTokenizer,
    HfArgumentParser,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from sentrm.aggregation import AGGREGATORS
from sentrm.configuration import BOUNDARIES, SentenceRewardConfig
from sentrm.encoding import PLAIN_CHAT_TEMPLATE, Encoder
from sentrm.errors import SentrmError
from sentrm.modeling import SentenceRewardModel
from sentrm.preferences import PreferencePair
from sentrm.scoring import DTYPES, Scorer
from sentrm.segmentation import SegmenterSpec, load_segmenter

from .data import DataSource, collate, encode_pairs, load_mixture
from .metrics import report
from .model_card import model_card
from .trainer import RewardTrainer, pair_metrics


@dataclass
class TrainConfig(TrainingArguments):
    """Every flag of a run. What is not listed here is `transformers.TrainingArguments`, with the paper's settings
    (arXiv 2503.04793, 8B, full fine-tuning) as defaults: learning rate 3e-6, 256 pairs a step, cosine schedule,
    betas 0.9 and 0.95, gradients clipped at 1.0, one epoch."""

    output_dir: str = field(
        default="", metadata={"help": "Folder for checkpoints and the model.", "aliases": ["--output"]}
    )
    backbone: str = field(default="", metadata={"help": "Hub id or local folder of a causal backbone."})
    data: list[str] | None = field(
        default=None, metadata={"help": "Preference data: files (JSONL, JSON, CSV, Parquet, plain or .gz) or hub ids."}
    )
    data_folder: str = field(default=".", metadata={"help": "Folder that the data files are relative to."})
    prompt_column: str | None = field(default=None, metadata={"help": "Name of the prompt column, if not 'prompt'."})
    chosen_column: str | None = field(default=None, metadata={"help": "Name of the chosen column, if not 'chosen'."})
    rejected_column: str | None = field(
        default=None, metadata={"help": "Name of the rejected column, if not 'rejected'."}
    )
    split: str = field(default="train", metadata={"help": "Split of hub data sets."})
    strict: bool = field(default=False, metadata={"help": "Stop at the first bad row instead of counting it."})
    segmenter: str = field(
        default="sat:sat-3l@0.2", metadata={"help": "How responses are split: 'sat:NAME@THRESHOLD' or 'rules'."}
    )
    aggregator: str = field(
        default="attention", metadata={"help": f"How rewards become a score: {', '.join(AGGREGATORS)}."}
    )
    boundary: str = field(default="marker", metadata={"help": f"Where values are read: {', '.join(BOUNDARIES)}."})
    max_length: int = field(
        default=2048, metadata={"help": "Most tokens of one prompt and response, markers included."}
    )
    use_margin: bool = field(default=False, metadata={"help": "Subtract the data's 'margin' column inside the loss."})
    center_rewards_coefficient: float = field(
        default=0.0, metadata={"help": "Weight of (R_chosen + R_rejected)^2 in the loss, which centres scores on zero."}
    )
    disable_dropout: bool = field(
        default=True, metadata={"help": "Train without dropout, so both responses meet the same network."}
    )
    save_dtype: str = field(
        default="float32", metadata={"help": f"The backbone's dtype in the saved model: {', '.join(DTYPES)}."}
    )
    compare: list[str] | None = field(
        default=None,
        metadata={"help": "NAME=FOLDER of other checkpoints to score on the same held-out pairs for the model card."},
    )
    resume: bool = field(default=False, metadata={"help": "Go on from the last checkpoint in the output folder."})
    model_name: str | None = field(
        default=None, metadata={"help": "Title of the model card; the output folder's name by default."}
    )
    licence: str = field(default="", metadata={"help": "The weights' licence, for the model card's front matter."})
    backbone_card: str = field(default="", metadata={"help": "The model card's line on where the backbone comes from."})

    per_device_train_batch_size: int = 8
    gradient_accumulation_steps: int = 32
    per_device_eval_batch_size: int = 16
    num_train_epochs: float = 1.0
    learning_rate: float = 3e-6
    lr_scheduler_type: str = "cosine"
    warmup_steps: float = 0.03
    adam_beta2: float = 0.95
    train_sampling_strategy: str = "group_by_length"
    logging_steps: float = 10
    save_strategy: str = "steps"
    save_total_limit: int | None = 2
    remove_unused_columns: bool = False
    report_to: None | str | list[str] = field(  # noqa: RUF036  (the parser reads them in this order)
        default="none", metadata={"help": "Trackers: tensorboard, wandb, …"}
    )

    def __post_init__(self) -> None:
        if not self.backbone or not self.data or not self.output_dir:
            raise SentrmError("a run needs --backbone, --data and --output, or a --recipe that names them.")
        if self.aggregator not in AGGREGATORS:
            raise SentrmError(f"--aggregator is {self.aggregator!r}; expected one of {', '.join(AGGREGATORS)}.")
        if self.save_dtype not in DTYPES:
            raise SentrmError(f"--save_dtype is {self.save_dtype!r}; expected one of {', '.join(DTYPES)}.")
        if self.boundary not in BOUNDARIES:
            raise SentrmError(f"--boundary is {self.boundary!r}; expected one of {', '.join(BOUNDARIES)}.")
        SegmenterSpec.parse(self.segmenter)
        try:
            _ = self.sources
        except TypeError as error:
            raise SentrmError(f"the recipe's data: {error}. Expected path, split, pairs, licence, origin.") from error
        for entry in self.compare or []:
            if "=" not in entry:
                raise SentrmError(f"--compare is {entry!r}; expected NAME=FOLDER.")
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()  # bf16 on a CPU has to be asked for
        super().__post_init__()

    @property
    def columns(self) -> dict[str, str | None]:
        """Column mapping for `load_preferences`."""
        return {"prompt": self.prompt_column, "chosen": self.chosen_column, "rejected": self.rejected_column}

    @property
    def name(self) -> str:
        """What the model is called in its card and reports."""
        return self.model_name or Path(self.output_dir).name

    @property
    def sources(self) -> list[DataSource]:
        return [DataSource(**one) if isinstance(one, dict) else DataSource(one, self.split) for one in self.data or []]


def parse(arguments: list[str]) -> TrainConfig:
    """Command line to config; `--recipe FILE` (YAML) gives defaults that the command line overrides.

    Raises:
        SentrmError: for a recipe that is no mapping of known flags, or flags that contradict each other.
    """
    recipes = argparse.ArgumentParser(add_help=False)
    recipes.add_argument("--recipe", help="YAML file of flags; flags on the command line win.")
    known, rest = recipes.parse_known_args(arguments)
    parser = HfArgumentParser(
        cast(Any, TrainConfig), parents=[recipes], prog="python -m training.train", description=__doc__
    )
    if known.recipe:
        try:
            recipe = yaml.safe_load(Path(known.recipe).read_text())
        except (OSError, yaml.YAMLError) as error:
            raise SentrmError(f"cannot read the recipe {known.recipe}: {error}") from error
        names = {one.name for one in fields(TrainConfig)}
        if not isinstance(recipe, dict) or not set(recipe) <= names:
            unknown = sorted(set(recipe) - names) if isinstance(recipe, dict) else recipe
            raise SentrmError(f"the recipe {known.recipe} has unknown entries: {unknown}. Expected flags of --help.")
        parser.set_defaults(**recipe)
    try:
        config, *_ = parser.parse_args_into_dataclasses(rest)
    except SentrmError:
        raise
    except ValueError as error:  # an unknown flag, or a combination that transformers refuses
        raise SentrmError(f"{error} See --help.") from error
    return config


def prepare_tokenizer(config: TrainConfig) -> PreTrainedTokenizerBase:
    """The backbone's tokenizer with a chat template and, for boundary='marker', the marker token."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.backbone)
    except (OSError, ValueError) as error:
        raise SentrmError(f"--backbone {config.backbone} does not load: {error}") from error
    if tokenizer.bos_token is None:
        tokenizer.bos_token = tokenizer.cls_token
    if tokenizer.eos_token is None:
        tokenizer.eos_token = tokenizer.sep_token
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_CHAT_TEMPLATE
    if config.boundary == "marker":
        tokenizer.add_special_tokens({"additional_special_tokens": [SentenceRewardConfig.marker_token]})
    return tokenizer


def build_model(config: TrainConfig, tokenizer: PreTrainedTokenizerBase) -> SentenceRewardModel:
    """The backbone with a fresh head, its embeddings grown to hold the marker."""
    model = SentenceRewardModel.from_backbone(
        config.backbone,
        aggregator=config.aggregator,
        boundary=config.boundary,
        max_length=config.max_length,
        segmenter=SegmenterSpec.parse(config.segmenter).to_dict(),
    )
    most = getattr(model.config.backbone_config, "max_position_embeddings", config.max_length)
    if config.max_length > most:
        raise SentrmError(f"--max_length is {config.max_length}; the backbone has {most} positions.")
    if len(tokenizer) > model.backbone.config.vocab_size:
        model.backbone.resize_token_embeddings(len(tokenizer))
        model.config.backbone_config = model.backbone.config
    if config.disable_dropout:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    return model


def train(config: TrainConfig, command: str) -> dict[str, Any]:
    """Run `config` to its end and return what metrics.json holds."""
    started = time.time()
    output = Path(config.output_dir)
    last = get_last_checkpoint(output) if output.is_dir() else None
    if config.resume and last is None:
        raise SentrmError(f"--resume: {output} holds no checkpoint. Leave --resume out to start anew.")
    if last is not None and not config.resume:
        raise SentrmError(f"{output} holds {Path(last).name} of an earlier run. Pass --resume, or another --output.")

    set_seed(config.seed)
    pairs, held_out, counts = load_mixture(
        config.sources, config.data_folder, config.columns, config.seed, config.strict
    )
    if config.use_margin and all(pair.margin is None for pair in pairs):
        raise SentrmError("--use_margin: no pair has a margin. Leave it out, or give data with a 'margin' column.")
    if not pairs or not held_out:
        raise SentrmError(
            f"{len(pairs)} pairs to train on and {len(held_out)} held out; expected at least one of each. A tenth of "
            "the prompts is held out by hash: give more data."
        )
    tokenizer = prepare_tokenizer(config)
    model = build_model(config, tokenizer)
    segmenter = load_segmenter(SegmenterSpec.from_dict(model.config.segmenter))
    model.config.segmenter_revision = segmenter.revision
    encoder = Encoder(tokenizer, model.config)
    dataset, _, truncation = encode_pairs(pairs, segmenter, encoder)
    evaluation, held_out, held_out_truncation = encode_pairs(held_out, segmenter, encoder)
    print(f"{len(dataset)} pairs to train on: {truncation}\n{len(held_out)} pairs held out: {held_out_truncation}")

    trainer: Trainer = RewardTrainer(
        model=model,
        args=config,
        train_dataset=dataset,
        eval_dataset=evaluation,
        data_collator=collate,
        processing_class=tokenizer,
        compute_metrics=pair_metrics,
    )
    result = trainer.train(resume_from_checkpoint=last)
    if not trainer.is_world_process_zero():
        return {}
    model.backbone.to(DTYPES[config.save_dtype])  # type: ignore[arg-type]  # a decorator hides the signature
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    figures = {"train_loss": result.training_loss, "steps": trainer.state.global_step}
    figures["train_seconds"] = round(time.time() - started)
    del trainer, model  # the optimizer's memory, before checkpoints are opened to score

    margins, median_reward = score_pairs(output, held_out)
    stored = SentenceRewardConfig.from_pretrained(output)
    stored.median_reward = median_reward
    stored.save_pretrained(output)
    longer = [float(len(pair.chosen) - len(pair.rejected)) for pair in held_out]  # characters
    systems = {config.name: margins, "always longer": longer, "always shorter": [-one for one in longer]}
    for entry in config.compare or []:
        name, folder = entry.split("=", 1)
        systems[name], _ = score_pairs(Path(folder), held_out)
    prompts, names = [pair.split_key for pair in held_out], [pair.source for pair in held_out]
    metrics: dict[str, Any] = {
        "command": command,
        "seed": config.seed,
        "train_pairs": len(dataset),
        "truncation": truncation,
        "held_out_truncation": held_out_truncation,
        **figures,
        "median_reward": median_reward,
        "held_out": {name: report(values, prompts, names) for name, values in systems.items()},
    }
    (output / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    (output / "README.md").write_text(model_card(config, counts, metrics))
    print(json.dumps(metrics["held_out"][config.name]["all"]))
    return metrics


def score_pairs(folder: Path, pairs: list[PreferencePair]) -> tuple[list[float], float]:
    """Margins of the pairs under a saved checkpoint, and its median sentence reward on them, logits."""
    scorer = Scorer.from_pretrained(folder)
    scored = [one for start in range(0, len(pairs), 512) for one in scorer.score(pairs[start : start + 512])]
    rewards = [reward for pair in scored for side in (pair.a, pair.b) for reward in side.rewards[1:]]
    return [pair.margin for pair in scored], statistics.median(rewards)


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        train(parse(arguments), "python -m training.train " + shlex.join(arguments))
    except SentrmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
