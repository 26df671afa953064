"""A Trainer that leaves nothing half-written when it is killed, meets a full disk or a loss that is no number.

- A checkpoint is written into `.partial` and renamed when every process has written its share, so `checkpoint-N` is
  whole or not there; one that is rotated out leaves the same way. The next start removes what a killed run left.
- The order of an epoch's rows is a function of seed and epoch alone, whatever the number of processes and whatever
  random numbers dropout drew, so a resumed run meets the rows that the unbroken one would have met.
- A checkpoint knows the run it belongs to, and another run refuses it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from datasets import Dataset, IterableDataset
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.utils.data import Sampler
from transformers import PreTrainedConfig, PreTrainedTokenizerBase, Trainer
from transformers.trainer_pt_utils import AcceleratorConfig, get_length_grouped_indices
from transformers.trainer_utils import get_last_checkpoint, sort_checkpoints

from sentrm.configuration import SentenceRewardConfig
from sentrm.errors import SentrmError
from sentrm.preferences import PreferencePair

from .data import content_of

if TYPE_CHECKING:
    from .config import TrainConfig

PARTIAL = ".partial"  # in the output folder: what is being written, and what is being deleted
READY = "ready"  # in there: files that are whole, and are being given their places
OLD = "old "  # in there: begins the name of what stood in such a place
RUN = "run.json"  # in a checkpoint: `run_identity`
# Flags that decide how weights move, beside those that decide what the model and a step's rows are.
MOVES = (
    *("learning_rate", "head_learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "max_grad_norm"),
    *("optim", "adam_beta1", "adam_beta2", "adam_epsilon", "label_smoothing_factor", "use_margin"),
    *("center_rewards_coefficient", "disable_dropout", "bf16", "fp16", "model_dtype"),
    *("adapter", "lora_rank", "lora_alpha", "lora_dropout", "lora_targets", "seed", "data_seed"),
)
STATE = "trainer_state.json"


class EpochOrder(Sampler[int]):
    """The rows of an epoch, shuffled by seed and epoch alone.

    Args:
        rows: how many there are.
        seed: of the run.
        epoch: says which epoch begins.
        lengths: tokens of each row, to group rows of similar length; None shuffles without grouping.
        group: rows of one step of all processes, so that the groups do not depend on how many share the work.
    """

    def __init__(self, rows: int, seed: int, epoch: Callable[[], int], lengths: Sequence[int] | None, group: int):
        self.rows, self.seed, self.epoch, self.lengths, self.group = rows, seed, epoch, lengths, group

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch())
        if self.lengths is None:
            return iter(torch.randperm(self.rows, generator=generator).tolist())
        return iter(get_length_grouped_indices(self.lengths, self.group, generator=generator))


class SafeTrainer(Trainer):
    args: TrainConfig
    run: dict[str, Any]  # `run_identity`, set before training
    writing_aside = False
    order: EpochOrder | None = None
    step_loss: Any = 0.0

    def create_accelerator_and_postprocess(self) -> None:
        loading = cast(AcceleratorConfig, self.args.accelerator_config)
        loading.dispatch_batches = False  # batches differ in length, so each process makes its own, of a stream too
        super().create_accelerator_and_postprocess()
        if os.environ.get("ACCELERATE_USE_FSDP") == "true" and not self.is_fsdp_enabled:
            raise SentrmError(
                "accelerate was asked to shard the model (FSDP) and does so on accelerators alone, in two processes or "
                f"more; this run has {self.args.world_size} on {self.args.device}. Launch it with "
                "training/accelerate/ddp.yaml, or without accelerate."
            )
        if self.accelerator.is_fsdp2:
            # accelerate would keep head and aggregator in bf16, too. Autocast casts what may be, as without sharding.
            cast(Any, self.accelerator.state.fsdp_plugin).mixed_precision_policy = MixedPrecisionPolicy()

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> tuple[nn.Module, Any]:
        model, loader = super()._prepare_for_training(*args, **kwargs)
        if self.accelerator.is_fsdp2:  # accelerate wraps the forward pass of all models but these
            model.forward = self.accelerator.autocast()(model.forward)
        return model, loader

    # Checkpoints

    def _get_output_dir(self, trial: Any) -> str:
        return str(Path(self.args.output_dir) / PARTIAL) if self.writing_aside else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        output, name = Path(self.args.output_dir), f"checkpoint-{self.state.global_step}"
        aside = output / PARTIAL / name
        parameters = list(cast(nn.Module, self.model).parameters())
        weights = sum(one.numel() * one.element_size() for one in parameters)
        moments = sum(8 * one.numel() for one in parameters if one.requires_grad)  # Adam's two, fp32
        with disk_errors(name, output, weights + moments):
            self.writing_aside = True
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self.writing_aside = False
            if self.state.best_global_step:
                best = output / f"checkpoint-{self.state.best_global_step}"
                if best.name == name or best.is_dir():
                    self.state.best_model_checkpoint = str(best)
            if self.args.should_save:
                self.state.save_to_json(str(aside / STATE))  # again: the best checkpoint's path is its final one now
                (aside / RUN).write_text(json.dumps(self.run, indent=1) + "\n")
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                publish(aside, output / name)
                self._rotate(output, output / name)
        self.accelerator.wait_for_everyone()

    def _rotate(self, output: Path, newest: Path) -> None:
        """Delete the oldest checkpoints beyond `save_total_limit`, never the newest or the best."""
        kept = {newest.name, f"checkpoint-{self.state.best_global_step}"}
        checkpoints = [Path(one) for one in sort_checkpoints(str(output))]
        old = [one for one in checkpoints if one.name not in kept]
        limit = self.args.save_total_limit or len(checkpoints)
        for one in old[: max(0, len(checkpoints) - max(limit, len(checkpoints) - len(old)))]:
            os.rename(one, output / PARTIAL / one.name)
        shutil.rmtree(output / PARTIAL, ignore_errors=True)

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        # A checkpoint does not hold the sum of losses since the last log, so both fall on the same step.
        self.control.should_log |= self.control.should_save or self.control.should_evaluate
        self.control.should_log |= self.control.should_training_stop  # or the last steps' losses are never logged
        super()._maybe_log_save_evaluate(*args, **kwargs)

    # Order

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy not in ("random", "group_by_length") or not isinstance(dataset, Dataset):
            return super()._get_train_sampler(train_dataset)
        grouped = self.args.train_sampling_strategy == "group_by_length"
        self.order = EpochOrder(
            len(dataset),
            self.args.seed if self.args.data_seed is None else self.args.data_seed,
            lambda: int(self.state.epoch or 0),
            list(dataset[self.args.length_column_name]) if grouped else None,
            rows_per_step(self.args),
        )
        return self.order

    # Losses that are no numbers

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(*args, **kwargs)
        self.step_loss = self.step_loss + loss  # of one optimizer step; the Trainer has divided by its micro-steps
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """Called before the optimizer moves a weight. Loss and norm are those of all processes, so all stop at the same
        step, whichever met the NaN."""
        grad_norm = super()._get_grad_norm(model, grad_norm)
        loss = float(cast(Tensor, self.accelerator.reduce(self.step_loss, "mean")))
        self.step_loss = 0.0
        scaled = self.accelerator.scaler is not None  # fp16 meets an infinite gradient with a smaller scale
        norm = 0.0 if grad_norm is None or scaled else float(grad_norm)
        if not math.isfinite(loss) or not math.isfinite(norm):
            last = get_last_checkpoint(self.args.output_dir)
            resume = f"; --resume goes on from {Path(last).name}." if last else "."
            raise SentrmError(
                f"step {self.state.global_step + 1}: the loss is {loss:.4g} and the gradient's norm {norm:.4g}, at "
                f"learning rate {self._get_learning_rate():.3g}; no weight was changed. {self._describe_rows()} "
                "Look at them, or try a lower --learning_rate, more --warmup_steps, a lower --max_grad_norm, --bf16 in "
                f"place of --fp16{resume}"
            )
        return grad_norm

    def _describe_rows(self) -> str:
        """The rows of the step that is under way."""
        if self.order is None:
            return "The rows are the next of a stream."
        size = rows_per_step(self.args)
        steps = len(self.order) / size
        step = self.state.global_step % (math.floor(steps) if self.args.dataloader_drop_last else math.ceil(steps))
        rows = list(self.order)[step * size : (step + 1) * size]
        tokenizer, dataset = cast(PreTrainedTokenizerBase, self.processing_class), cast(Dataset, self.train_dataset)
        first = tokenizer.decode(dataset[rows[0]]["ids"][0][:32])
        return f"The rows: {', '.join(map(str, rows))} (counted from 0; {rows[0]} begins {first!r})."


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


def whole_model(trainer: SafeTrainer, build: Callable[[], nn.Module]) -> nn.Module:
    """The trained model with all its weights in one place; every process has to call this.

    Args:
        trainer: after training.
        build: makes the model as it was before training, to be filled with the weights that are sharded over the
            processes; called in the main process alone, and not at all where nothing is sharded.

    Returns:
        The trained model; of a sharded one whole in the main process only, elsewhere the shards.
    """
    trained = trainer.accelerator.unwrap_model(trainer.model)
    if not trainer.is_fsdp_enabled and not trainer.is_deepspeed_enabled:
        return trained
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not trainer.is_world_process_zero():
        return trained
    model = build()
    model.load_state_dict(weights)
    return model


def publish(aside: Path, final: Path) -> None:
    """Give what was written aside its own name; a folder that stood there before goes first."""
    if final.is_dir():
        old = final.parent / PARTIAL / f"{OLD}{final.name}"
        shutil.rmtree(old, ignore_errors=True)
        os.rename(final, old)
    os.replace(aside, final)


@contextmanager
def written_aside(output: Path, size: int) -> Iterator[Path]:
    """A new folder to write files into: they replace those of the same name in `output` when the block ends well, and
    are gone when it does not. A run that is killed while they replace them leaves the rest to the next start.

    Args:
        size: about how many bytes they take, for the message where the disk is full.
    """
    aside = output / PARTIAL / "files"
    remove_partial(output)
    with disk_errors("the model's files", output, size):
        aside.mkdir(parents=True)
        yield aside
        os.rename(aside, output / PARTIAL / READY)
        remove_partial(output)


def remove_partial(output: Path) -> None:
    """Give what is whole its place: files that are ready, and a folder that was to be replaced and was not. Delete what
    a killed run left half-written or half-deleted."""
    for one in sorted((output / PARTIAL / READY).glob("*")):
        publish(one, output / one.name)
    for old in (output / PARTIAL).glob(f"{OLD}*"):
        if not (final := output / old.name.removeprefix(OLD)).exists():
            os.rename(old, final)
    shutil.rmtree(output / PARTIAL, ignore_errors=True)


@contextmanager
def disk_errors(what: str, output: Path, size: int) -> Iterator[None]:
    """Remove what a failed write left, and say which write failed, how much it needs and what is whole.

    Raises:
        SentrmError: in place of the OSError, safetensors' or torch.save's own error for a full disk.
    """
    try:
        yield
    except BaseException as error:
        remove_partial(output)
        by_torch = isinstance(error, RuntimeError) and ("inline_container" in str(error) or "iostream" in str(error))
        if not isinstance(error, (OSError, SafetensorError)) and not by_torch:
            raise
        last = get_last_checkpoint(output)
        free = shutil.disk_usage(output).free
        reason = "torch.save failed in the middle of a file" if by_torch else str(error).splitlines()[0]
        raise SentrmError(
            f"cannot write {what} ({reason}): about {size / 1e6:,.1f} MB are needed, "
            f"{free / 1e6:,.1f} MB are free in {output}. Nothing half-written is left"
            + (f", {Path(last).name} is whole: free some space and pass --resume." if last else "; free some space.")
        ) from error


def mean_loss(log_history: Sequence[dict[str, float]]) -> float:
    """The loss over all steps, also those before a run was resumed, from the Trainer's log."""
    logs = [log for log in log_history if "loss" in log]
    steps = [int(log["step"]) for log in logs]
    before = [0, *steps[:-1]]
    return sum(log["loss"] * (now - then) for log, now, then in zip(logs, steps, before, strict=True)) / steps[-1]
