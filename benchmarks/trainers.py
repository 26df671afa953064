"""The two sides of `benchmarks.training`: TRL's trainer and ours, on the same weights, token rows and settings."""

from __future__ import annotations

import copy
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForSequenceClassification,
    LlamaModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
)
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.models.bert.modeling_bert import BertPreTrainedModel

from sentrm.configuration import SentenceRewardConfig
from sentrm.encoding import Encoder
from sentrm.errors import EncodingError
from sentrm.modeling import SentenceRewardModel
from sentrm.preferences import load_preferences
from sentrm.results import Span
from training.config import TrainConfig
from training.trainer import Collator, RewardTrainer

DEMO = Path(__file__).parent.parent / "assets" / "demo-model"
MAX_LENGTH = 512


@dataclass(frozen=True)
class Row:
    """One pair as both sides read it."""

    chosen: list[int]
    rejected: list[int]
    prompt: int  # P: so many tokens both begin with


def read(path: Path, tokenizer: PreTrainedTokenizerBase, most: int) -> list[Row]:
    """The first `most` pairs that fit, in an order shuffled once."""
    config = SentenceRewardConfig(aggregator="last", boundary="offset", max_length=MAX_LENGTH)
    encoder = Encoder(tokenizer, config)
    pairs = load_preferences(path).pairs
    rows: list[Row] = []
    for i in torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0)).tolist():
        pair = pairs[i]
        try:
            chosen, rejected = (
                encoder.encode(pair.prompt, text, [Span(0, len(text))] if text else [])
                for text in (pair.chosen, pair.rejected)
            )
        except EncodingError:  # longer than the model reads
            continue
        rows.append(Row(chosen.ids, rejected.ids, chosen.boundaries[0] + 1))
        if len(rows) == most:
            return rows
    raise SystemExit(f"{path} holds {len(rows)} pairs that fit; this run needs {most}.")


class BertForReward(GenericForSequenceClassification, BertPreTrainedModel):
    """BERT as a decoder that reads the last token, as `LlamaForSequenceClassification` does."""


def build_backbone(name: str) -> PreTrainedModel:
    """The bundled model's backbone, or a random Llama of its width and depth; no dropout in either."""
    bundled: PreTrainedModel = SentenceRewardModel.from_pretrained(DEMO, dtype=torch.float32).backbone
    for module in bundled.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    if name == "bundled":
        return bundled
    torch.manual_seed(0)
    return LlamaModel(
        LlamaConfig(
            vocab_size=bundled.config.vocab_size,
            hidden_size=bundled.config.hidden_size,
            intermediate_size=bundled.config.intermediate_size,
            num_hidden_layers=bundled.config.num_hidden_layers,
            num_attention_heads=bundled.config.num_attention_heads,
            max_position_embeddings=MAX_LENGTH,
        )
    )


class Meter(TrainerCallback):
    """The clock, and the tokens that entered the backbone, read at the end of every step."""

    def __init__(self, trainer: Any, pad_token_id: int):
        self.pad_token_id = pad_token_id
        self.computed = self.padding = torch.zeros((), dtype=torch.long)
        self.marks: list[tuple[float, int, int]] = []  # seconds, tokens computed, padding among them; all since start
        trainer.model.get_input_embeddings().register_forward_pre_hook(self.count)
        trainer.add_callback(self)

    def count(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.computed = self.computed + inputs[0].numel()
        self.padding = self.padding + (inputs[0] == self.pad_token_id).sum()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.marks.append((time.perf_counter(), int(self.computed), int(self.padding)))


@dataclass(frozen=True)
class Round:
    """What one side did in one round; sums are over its timed steps."""

    losses: list[float]  # of every step, the first one included
    seconds: float
    computed: int  # tokens that entered the backbone
    padding: int  # of those
    weights: dict[str, Tensor]  # at the end


class Case:
    """What both sides start from: one backbone, one data set, one precision."""

    def __init__(self, backbone: str, path: Path, dtype: str, pairs: int, steps: int):
        self.tokenizer = AutoTokenizer.from_pretrained(DEMO)
        self.backbone = build_backbone(backbone)
        self.rows = read(path, self.tokenizer, pairs * steps)
        self.dtype = dtype
        self.pairs = pairs  # a step
        width = self.backbone.config.hidden_size
        self.head = torch.randn(1, width, generator=torch.Generator().manual_seed(1)) * (width + 1) ** -0.5

    def settings(self, rows: Sequence[Row], folder: str) -> dict[str, Any]:
        """What both trainers are told: everything in which their defaults differ; the optimiser is the Trainer's."""
        return {
            "output_dir": folder,
            "max_steps": len(rows) // self.pairs,
            "max_length": MAX_LENGTH,
            "per_device_train_batch_size": self.pairs,
            "gradient_accumulation_steps": 1,
            "gradient_checkpointing": False,
            "train_sampling_strategy": "sequential",
            "learning_rate": 5e-5,
            "lr_scheduler_type": "linear",
            "warmup_steps": 0,
            "adam_beta2": 0.999,
            "bf16": self.dtype == "bf16",
            "use_cpu": not torch.cuda.is_available(),
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
        }

    def trainer(self, side: str, rows: Sequence[Row], folder: str) -> Any:
        """TRL's trainer, or ours with the strategy that `side` names."""
        build = self.theirs if side == "trl" else self.ours
        trainer = build(side, rows, self.settings(rows, folder))
        trainer.remove_callback(PrinterCallback)
        return trainer

    def theirs(self, side: str, rows: Sequence[Row], settings: dict[str, Any]) -> Any:
        import trl

        config = copy.deepcopy(self.backbone.config)
        config.num_labels = 1
        with torch.device("meta"):  # a backbone of its own would count in the memory that was taken before training
            model: Any = (BertForReward if config.model_type == "bert" else LlamaForSequenceClassification)(config)
        model.model = copy.deepcopy(self.backbone)
        model.score = nn.Linear(self.head.shape[1], 1, bias=False)  # a bias would cancel in a pair
        model.score.weight.data.copy_(self.head)
        return trl.RewardTrainer(
            model=model,
            args=trl.RewardConfig(**settings),
            train_dataset=Dataset.from_list([{"chosen_ids": row.chosen, "rejected_ids": row.rejected} for row in rows]),
            processing_class=self.tokenizer,
        )

    def ours(self, side: str, rows: Sequence[Row], settings: dict[str, Any]) -> Any:
        backbone = copy.deepcopy(self.backbone)
        attention: dict[str, Any] = {"attn_implementation": backbone.config._attn_implementation}  # or it is reset
        config = SentenceRewardConfig(
            backbone_config=backbone.config, aggregator="last", boundary="offset", max_length=MAX_LENGTH, **attention
        )
        model = SentenceRewardModel(config, backbone)
        model.value_head.weight.data.copy_(self.head)
        model.value_head.bias.data.zero_()
        encoded = [
            {
                "ids": [row.chosen, row.rejected],
                "boundaries": [[row.prompt - 1, len(ids) - 1] for ids in (row.chosen, row.rejected)],
                "comparisons": [[0, 1]],
                "probability": [1.0],
                "margin": [0.0],
                "length": len(row.chosen) + len(row.rejected),
            }
            for row in rows
        ]
        trainer = RewardTrainer(
            model=model,
            args=TrainConfig(**settings, batching=side, backbone="given", data=["given"]),
            train_dataset=Dataset.from_list(encoded),
            data_collator=Collator(),
            processing_class=self.tokenizer,
        )
        trainer.run = {}  # nothing to resume
        return trainer

    def round(self, side: str, rows: Sequence[Row], weights: dict[str, Tensor] | None) -> Round:
        """Train on the rows in order; the first step is not timed."""
        with tempfile.TemporaryDirectory() as folder:
            trainer = self.trainer(side, rows, folder)
            if weights is not None:
                trainer.model.load_state_dict(weights)
            meter = Meter(trainer, self.tokenizer.pad_token_id)
            trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        first, last = meter.marks[0], meter.marks[-1]
        return Round(losses, last[0] - first[0], last[1] - first[1], last[2] - first[2], trainer.model.state_dict())

    def peak_memory(self, side: str) -> float:
        """Megabytes that training takes above the loaded model. For a process of its own: the peak never falls."""
        with tempfile.TemporaryDirectory() as folder:
            trainer = self.trainer(side, self.rows, folder)
            if torch.cuda.is_available():
                loaded = torch.cuda.memory_allocated()
                trainer.train()
                return (torch.cuda.max_memory_allocated() - loaded) / 2**20
            before = resident_peak()
            trainer.train()
            return resident_peak() - before


def resident_peak() -> float:
    """This process's highest resident set so far, megabytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where ru_maxrss begins at the size of the process that started this one
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS: bytes
