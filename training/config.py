"""Every flag of a training run: a dataclass, a recipe in YAML, the command line."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from transformers import HfArgumentParser, TrainingArguments

from sentrm.aggregation import AGGREGATORS
from sentrm.batching import STRATEGIES
from sentrm.configuration import BOUNDARIES
from sentrm.errors import SentrmError
from sentrm.loading import DTYPES
from sentrm.preferences import MAPPED
from sentrm.segmentation import SegmenterSpec

from .data import DataSource

ADAPTERS = ("none", "lora", "dora", "qlora")
LENGTH_RULES = ("always longer", "always shorter")  # what every model is compared with


def _column(of: str) -> Any:
    return field(default=None, metadata={"help": f"Name of the {of} column, if not '{of}'."})


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
    prompt_column: str | None = _column("prompt")
    chosen_column: str | None = _column("chosen")
    rejected_column: str | None = _column("rejected")
    response_a_column: str | None = _column("response_a")
    response_b_column: str | None = _column("response_b")
    winner_column: str | None = _column("winner")
    responses_column: str | None = _column("responses")
    ranks_column: str | None = _column("ranks")
    scores_column: str | None = _column("scores")
    split: str = field(default="train", metadata={"help": "Split of hub data sets that name none of their own."})
    strict: bool = field(default=False, metadata={"help": "Stop at the first bad row instead of counting it."})
    segmenter: str = field(
        default="sat:sat-3l@0.2",
        metadata={
            "help": "How responses are split: sat:NAME@THRESHOLD or rules into sentences, entropy:LM@THRESHOLD into "
            "segments, tokens, or response for no split."
        },
    )
    aggregator: str = field(
        default="attention", metadata={"help": f"How rewards become a score: {', '.join(AGGREGATORS)}."}
    )
    boundary: str = field(default="marker", metadata={"help": f"Where values are read: {', '.join(BOUNDARIES)}."})
    max_length: int = field(
        default=2048, metadata={"help": "Most tokens of one prompt and response, markers included."}
    )
    repeat_positions: bool = field(
        default=False,
        metadata={"help": "Where the backbone has fewer learned positions than --max_length: repeat them."},
    )
    batching: str = field(
        default="auto",
        metadata={
            "help": f"How sequences stand in a batch: {', '.join(STRATEGIES)}, or auto: the fastest of them on this "
            "machine, by measuring. The numbers are the same."
        },
    )
    attn_implementation: str | None = field(
        default=None,
        metadata={
            "help": "Attention of padded (and, for flash_attention_2, packed) batches; the backbone's own choice."
        },
    )
    streaming: bool = field(
        default=False,
        metadata={"help": "Read, encode and shuffle the data on the way instead of beforehand; needs --max_steps."},
    )
    eval_pairs: int = field(default=1000, metadata={"help": "Held-out pairs that a streaming run collects at most."})
    shuffle_buffer: int = field(default=1000, metadata={"help": "Rows among which a streaming run shuffles."})
    encoding_processes: int = field(
        default=min(4, os.cpu_count() or 1), metadata={"help": "Processes that segment and tokenise the data."}
    )
    cache_dir: str | None = field(
        default=None,
        metadata={"help": "Folder for segmented and tokenised data; data/ in the output folder by default."},
    )
    sample_steps: int = field(
        default=0, metadata={"help": "Show sample pairs with their sentence rewards every so many steps; 0: never."}
    )
    use_margin: bool = field(default=False, metadata={"help": "Subtract the data's 'margin' column inside the loss."})
    center_rewards_coefficient: float = field(
        default=0.0, metadata={"help": "Weight of (R_chosen + R_rejected)^2 in the loss, which centres scores on zero."}
    )
    disable_dropout: bool = field(
        default=True, metadata={"help": "Train without dropout, so both responses meet the same network."}
    )
    adapter: str = field(
        default="none",
        metadata={
            "help": "What of the backbone is trained: none (all of it), or low-rank matrices: lora, dora, qlora."
        },
    )
    lora_rank: int = field(default=16, metadata={"help": "Rank of the adapter's matrices."})
    lora_alpha: int = field(default=32, metadata={"help": "The adapter's output is scaled by alpha / rank."})
    lora_dropout: float = field(
        default=0.0, metadata={"help": "Dropout of the adapter's input, beside --disable_dropout."}
    )
    lora_targets: list[str] | None = field(
        default=None,
        metadata={"help": "Layers of the backbone that get an adapter, e.g. q_proj v_proj; by default all-linear."},
    )
    head_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of value head and aggregator; --learning_rate if not given."}
    )
    model_dtype: str = field(
        default="float32",
        metadata={
            "help": "The backbone's weights while it is trained: float32, or bfloat16, which halves their memory but "
            "loses small updates unless an adapter is trained. The head stays float32."
        },
    )
    activation_offloading: bool = field(
        default=False, metadata={"help": "Keep activations in CPU memory between forward and backward pass."}
    )
    pad_token: str | None = field(
        default=None, metadata={"help": "Pad token instead of the tokenizer's; added to the vocabulary if it is new."}
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
    intended_use: str = field(default="", metadata={"help": "The model card's Markdown on what the model is for."})

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
    logging_nan_inf_filter: bool = False  # a loss that is no number stops the run
    ddp_find_unused_parameters: bool | None = False  # every parameter takes part in every forward pass
    ddp_timeout: int = 86400  # seconds; the other processes wait while the main one segments and encodes the data
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
        if self.batching not in ("auto", *STRATEGIES):
            raise SentrmError(f"--batching is {self.batching!r}; expected one of auto, {', '.join(STRATEGIES)}.")
        if self.streaming and self.max_steps < 1:
            raise SentrmError("--streaming needs --max_steps: how long the stream is, is not known.")
        if self.streaming and self.dataloader_num_workers:
            raise SentrmError(
                "--streaming reads and encodes in the run's own process; leave --dataloader_num_workers out."
            )
        for name in ("encoding_processes",) if self.streaming else ("eval_pairs", "shuffle_buffer"):
            if getattr(self, name) != getattr(TrainConfig, name):
                raise SentrmError(
                    f"--{name} has no effect {'with' if self.streaming else 'without'} --streaming; leave it out."
                )
        if self.push_to_hub:
            raise SentrmError(
                "--push_to_hub would upload checkpoints. When the run has ended: hf upload REPOSITORY OUTPUT"
            )
        SegmenterSpec.parse(self.segmenter)
        try:
            _ = self.sources
        except TypeError as error:
            raise SentrmError(
                f"the recipe's data: {error}. Expected path, split, pairs, weight, licence, origin, corrupted."
            ) from error
        taken = [self.name, *LENGTH_RULES]
        for entry in self.compare or []:
            name, equals, _ = entry.partition("=")
            if not equals or not name or name in taken:
                raise SentrmError(
                    f"--compare is {entry!r}; expected NAME=FOLDER, with a NAME other than {', '.join(taken)}."
                )
            taken.append(name)
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()  # bf16 on a CPU has to be asked for
        self._check_methods()
        super().__post_init__()

    def _check_methods(self) -> None:
        if self.adapter not in ADAPTERS:
            raise SentrmError(f"--adapter is {self.adapter!r}; expected one of {', '.join(ADAPTERS)}.")
        for name in ("lora_rank", "lora_alpha", "lora_dropout", "lora_targets"):
            if self.adapter == "none" and getattr(self, name) != getattr(TrainConfig, name):
                raise SentrmError(f"--{name} is a setting of an adapter; add --adapter lora, dora or qlora.")
        if self.lora_rank < 1 or not 0 <= self.lora_dropout < 1:
            raise SentrmError(
                f"--lora_rank is {self.lora_rank} and --lora_dropout {self.lora_dropout}; expected a rank of at least "
                "1 and a dropout from 0 to below 1."
            )
        if self.adapter == "qlora" and self.fp16:
            raise SentrmError("--adapter qlora computes in bfloat16; pass --bf16 instead of --fp16.")
        if self.model_dtype not in ("float32", "bfloat16"):
            raise SentrmError(f"--model_dtype is {self.model_dtype!r}; expected one of float32, bfloat16.")
        if self.head_learning_rate is not None and self.head_learning_rate <= 0:
            raise SentrmError(f"--head_learning_rate is {self.head_learning_rate}; expected a number above 0.")
        needs_accelerator = {
            "--adapter qlora": self.adapter == "qlora",
            "--activation_offloading": self.activation_offloading,
            "--use_liger_kernel": self.use_liger_kernel,
        }
        for flag, given in needs_accelerator.items():
            if given and self.use_cpu:
                raise SentrmError(f"{flag} needs a GPU, and this run trains on the CPU; leave it out.")

    @property
    def columns(self) -> dict[str, str | None]:
        """Column mapping for `load_preferences`."""
        return {field: getattr(self, f"{field}_column") for field in MAPPED}

    @property
    def name(self) -> str:
        """What the model is called in its card and reports."""
        return self.model_name or Path(self.output_dir).name

    @property
    def compared(self) -> dict[str, str]:
        """Folders of --compare by name."""
        return dict(entry.split("=", 1) for entry in self.compare or [])

    @property
    def precision(self) -> str:
        """What the backbone computes in, and what its weights are where that is no fp32."""
        computed = "bf16" if self.bf16 else "fp16" if self.fp16 else "fp32"
        if self.model_dtype == "float32":
            return computed
        return f"{'bf16' if computed == 'fp32' else computed}, the backbone's weights too"

    @property
    def sources(self) -> list[DataSource]:
        entries: list[Any] = [one if isinstance(one, dict) else {"path": one} for one in self.data or []]
        return [DataSource(**{"split": self.split, **one}) for one in entries]


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
