"""A Trainer that leaves nothing half-written when it is killed, meets a full disk or a loss that is no number.

- A checkpoint is written into `.partial` and renamed when every process has written its share, so `checkpoint-N` is
  whole or not there; one that is rotated out leaves the same way. The next start removes what a killed run left.
- The order of an epoch's rows is a function of seed and epoch alone, whatever the number of processes and whatever
  random numbers dropout drew, so a resumed run meets the rows that the unbroken one would have met.
- A checkpoint knows the run it belongs to, and another run refuses it.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.utils.data import Sampler
from transformers import PreTrainedTokenizerBase, Trainer
from transformers.trainer_pt_utils import AcceleratorConfig, get_length_grouped_indices
from transformers.trainer_utils import get_last_checkpoint, sort_checkpoints

from sentrm.errors import SentrmError

from .identity import RUN, rows_per_step
from .storage import PARTIAL, disk_errors, publish

if TYPE_CHECKING:
    from .config import TrainConfig

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


def mean_loss(log_history: Sequence[dict[str, float]]) -> float:
    """The loss over all steps, also those before a run was resumed, from the Trainer's log."""
    logs = [log for log in log_history if "loss" in log]
    steps = [int(log["step"]) for log in logs]
    before = [0, *steps[:-1]]
    return sum(log["loss"] * (now - then) for log, now, then in zip(logs, steps, before, strict=True)) / steps[-1]
