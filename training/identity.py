"""What has to be the same for a run to go on from a checkpoint, stored in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from datasets import Dataset, IterableDataset
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from sentrm.configuration import SentenceRewardConfig
from sentrm.errors import SentrmError
from sentrm.preferences import PreferencePair

from .rows import content_of

if TYPE_CHECKING:
    from .config import TrainConfig

RUN = "run.json"  # in a checkpoint: `run_identity`
# Flags that decide how weights move, beside those that decide what the model and a step's rows are.
MOVES = (
    *("learning_rate", "head_learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "max_grad_norm"),
    *("optim", "adam_beta1", "adam_beta2", "adam_epsilon", "label_smoothing_factor", "use_margin"),
    *("center_rewards_coefficient", "disable_dropout", "bf16", "fp16", "model_dtype"),
    *("adapter", "lora_rank", "lora_alpha", "lora_dropout", "lora_targets", "seed", "data_seed"),
)


def rows_per_step(config: TrainConfig) -> int:
    """Rows that all processes together train on before the optimizer moves."""
    return config.train_batch_size * config.gradient_accumulation_steps * max(1, config.world_size)


def run_identity(
    config: TrainConfig,
    model: SentenceRewardConfig,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset | IterableDataset,
    pairs: Sequence[PreferencePair],
) -> dict[str, Any]:
    """What has to be the same for a run to go on from a checkpoint: the network, the encoding, the rows and their
    order, and how weights move. JSON's own types.

    Args:
        dataset: the rows to train on.
        pairs: what the rows were made of; of a stream none, and its sources are compared instead.
    """
    backbone = cast(PreTrainedConfig, model.backbone_config)
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(json.dumps(content_of([pair])).encode())
    stream: dict[str, Any] = {}
    if not isinstance(dataset, Dataset):
        kept = ("path", "split", "pairs", "weight")
        stream["sources"] = [
            {name: value for name, value in asdict(one).items() if name in kept} for one in config.sources
        ]
        stream |= {"columns": config.columns, "shuffle_buffer": config.shuffle_buffer}
    return {
        "backbone": Path(config.backbone).name,
        "backbone_type": backbone.model_type,
        "hidden_size": backbone.hidden_size,
        "layers": backbone.num_hidden_layers,
        "aggregator": model.aggregator,
        "boundary": model.boundary,
        "segmenter": model.segmenter,
        "segmenter_revision": model.segmenter_revision,
        "tokenizer_size": len(tokenizer),
        "max_length": model.max_length,
        "rows": len(dataset) if isinstance(dataset, Dataset) else "a stream",
        "tokens": sum(dataset["length"]) if isinstance(dataset, Dataset) else "a stream",
        "data_digest": digest.hexdigest()[:16] if pairs else "a stream",
        **stream,
        "rows_per_step": rows_per_step(config),
        "sampling": config.train_sampling_strategy,
        **json.loads(json.dumps({name: getattr(config, name) for name in MOVES})),
    }


def check_same_run(checkpoint: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Refuse to go on from a checkpoint of another run.

    Args:
        checkpoint: folder that holds run.json.
        run: `run_identity` of the run that wants to go on.

    Returns:
        What the checkpoint stores of its run.

    Raises:
        SentrmError: naming every field that differs; or if the optimizer's state was not saved.
    """
    if not (checkpoint / RUN).is_file():
        raise SentrmError(
            f"--resume: {checkpoint} holds no {RUN}, so it is no checkpoint of this version of training.train. Start "
            "anew with another --output."
        )
    stored = json.loads((checkpoint / RUN).read_text())
    differing = [
        f"{name} is {run[name]!r}, the checkpoint has {stored.get(name)!r}"
        for name in run
        if run[name] != stored.get(name)
    ]
    if differing:
        raise SentrmError(
            f"--resume: {checkpoint} belongs to another run: {'; '.join(differing)}. Pass the flags and the data that "
            "run had, or start anew with another --output."
        )
    if not [*checkpoint.glob("optimizer*"), *checkpoint.glob("global_step*")]:  # the latter is DeepSpeed's
        raise SentrmError(
            f"--resume: {checkpoint} holds weights, but no state of the optimizer, which would start anew. It was "
            "saved with --save_only_model; leave that out of a run that is to be resumed, and start anew with another "
            "--output."
        )
    return stored
