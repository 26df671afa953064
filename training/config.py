"""Every flag of a training run: a dataclass, a recipe in YAML, the command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from transformers import HfArgumentParser, TrainingArguments

from sentrm.aggregation import AGGREGATORS
from sentrm.configuration import BOUNDARIES
from sentrm.errors import SentrmError
from sentrm.scoring import DTYPES
from sentrm.segmentation import SegmenterSpec

from .data import DataSource


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
    """Command line to config; `--recipe FILE …` (YAML) gives defaults that later files and the command line override.

    Raises:
        SentrmError: for a recipe that is no mapping of known flags, or flags that contradict each other.
    """
    recipes = argparse.ArgumentParser(add_help=False)
    recipes.add_argument(
        "--recipe", nargs="+", default=[], help="YAML files of flags; later ones win, flags on the command line win."
    )
    known, rest = recipes.parse_known_args(arguments)
    parser = HfArgumentParser(
        cast(Any, TrainConfig),
        parents=[recipes],
        prog="python -m training.train",
        description="Train a sentence reward model, score its held-out pairs, write metrics, card and report.",
    )
    names = {one.name for one in fields(TrainConfig)}
    for file in known.recipe:
        try:
            recipe = yaml.safe_load(Path(file).read_text())
        except (OSError, yaml.YAMLError) as error:
            raise SentrmError(f"cannot read the recipe {file}: {error}") from error
        if not isinstance(recipe, dict) or not set(recipe) <= names:
            unknown = sorted(set(recipe) - names) if isinstance(recipe, dict) else recipe
            raise SentrmError(f"the recipe {file} has unknown entries: {unknown}. Expected flags of --help.")
        parser.set_defaults(**recipe)
    try:
        config, *_ = parser.parse_args_into_dataclasses(rest)
    except SentrmError:
        raise
    except ValueError as error:  # an unknown flag, or a combination that transformers refuses
        raise SentrmError(f"{error} See --help.") from error
    return config
