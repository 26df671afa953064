"""The Bradley-Terry loss on `transformers.Trainer`, on padded, packed or shared batches."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from datasets import IterableDataset
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from transformers import EvalPrediction

from sentrm.batching import STRATEGIES, Tokens, collate, tokens_read, usable, use
from sentrm.errors import SentrmError
from sentrm.metrics import accuracy, expected_calibration_error
from sentrm.modeling import SentenceRewardModel

from .checkpoints import SafeTrainer
from .model import activation_offloading, parameter_groups

if TYPE_CHECKING:
    from .config import TrainConfig

ABSENT = -100.0  # fills up rows of fewer comparisons; what the Trainer pads with


@dataclass
class Collator:
    """P encoded rows -> inputs of the model for all their sequences, and what the loss needs, by `strategy`.

    `comparisons` (P, C, 2) index into the sequences, winner first; `probability` (P, C) that it is preferred, `ABSENT`
    where a row has fewer than C; `margin` (P, C); `tokens` (3,): read one by one without sharing, read, and computed
    with padding.
    """

    strategy: str = "padded"

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        groups = [[Tokens(*one) for one in zip(row["ids"], row["boundaries"], strict=True)] for row in rows]
        most = max(len(row["comparisons"]) for row in rows)
        comparisons = torch.zeros(len(rows), most, 2, dtype=torch.long)
        probability = torch.full((len(rows), most), ABSENT)
        margin = torch.zeros(len(rows), most)
        first = 0
        for i, (row, group) in enumerate(zip(rows, groups, strict=True)):
            count = len(row["comparisons"])
            comparisons[i, :count] = torch.tensor(row["comparisons"]) + first
            probability[i, :count] = torch.tensor(row["probability"])
            margin[i, :count] = torch.tensor(row["margin"])
            first += len(group)
        inputs = collate(groups, self.strategy)
        tokens = [sum(tokens_read(group, way) for group in groups) for way in ("padded", self.strategy)]
        counts = torch.tensor([*tokens, inputs["input_ids"].numel()])
        return inputs | {"comparisons": comparisons, "probability": probability, "margin": margin, "tokens": counts}


def bradley_terry(
    chosen: Tensor,
    rejected: Tensor,
    margin: Tensor | float = 0.0,
    centering: float = 0.0,
    probability: Tensor | float = 1.0,
    smoothing: float = 0.0,
) -> Tensor:
    """`-p log σ(m) - (1 - p) log σ(-m) + centering · (R_chosen + R_rejected)²` of each comparison, where
    `m = R_chosen - R_rejected - margin`. All arguments that are tensors have one shape, which the result has.

    Args:
        chosen, rejected: scores, logits.
        margin: how far the chosen one should be ahead (Touvron et al. 2023, arXiv 2307.09288, equation 2).
        centering: pulls scores towards zero, which Bradley-Terry leaves open (Eisenstein et al., arXiv 2312.09244).
        probability: p, that the chosen one is preferred; 0.5 for a tie.
        smoothing: share of labels taken to be wrong (Chowdhury et al. 2024, arXiv 2403.00409): p moves towards 1 - p.
    """
    p = probability * (1 - smoothing) + (1 - probability) * smoothing
    ahead = chosen - rejected - margin
    return -p * logsigmoid(ahead) - (1 - p) * logsigmoid(-ahead) + centering * (chosen + rejected).square()


class RewardTrainer(SafeTrainer):
    """A Trainer of pairs, and of K > 2 ranked responses by the mean over their comparisons (Ouyang et al. 2022,
    arXiv 2203.02155, equation 1), on rows as `training.data.encode_pairs` builds them."""

    args: TrainConfig
    data_collator: Collator
    counted: dict[str, Tensor]
    counted_since: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.args.n_gpu > 1:
            raise SentrmError(
                f"this process sees {self.args.n_gpu} GPUs; expected one a process. Start it with: accelerate launch "
                f"--config_file training/accelerate/ddp.yaml --num_processes {self.args.n_gpu} -m training.train …"
            )
        self.batching: dict[str, Any] = {"strategy": self.args.batching}  # what the summary, metrics and card say of it

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        comparisons, probability, margin = (inputs.pop(name) for name in ("comparisons", "probability", "margin"))
        tokens = inputs.pop("tokens")
        use(plain_model(self.model), self.data_collator.strategy)  # a scorer of the same model may have changed it
        score = model(**inputs).score  # (R,)
        chosen, rejected = score[comparisons].unbind(-1)  # (P, C) each
        there = probability != ABSENT  # (P, C)
        losses = bradley_terry(
            chosen,
            rejected,
            margin if self.args.use_margin else 0.0,
            self.args.center_rewards_coefficient,
            probability,
            self.args.label_smoothing_factor,
        )
        losses = (losses * there).sum(1) / there.sum(1)  # (P,)
        margins = torch.where(there, chosen - rejected, ABSENT).detach()  # (P, C)
        if model.training:
            decided = there & (probability != 0.5)
            right = decided & (margins * (probability - 0.5) > 0)
            self._count("accuracy", right.sum(), decided.sum())
            self._count("margin", (margins * there).sum(), there.sum())
            self._count("reward", score.detach().sum(), len(score))
            self._count("padding_share", tokens[2] - tokens[1], tokens[2])
            self._count("shared_share", tokens[0] - tokens[1], tokens[0])
            self._count("tokens_per_second", tokens[1], 0)
        return (losses.mean(), (margins, losses.detach(), probability)) if return_outputs else losses.mean()

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> Any:
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            _, (margins, losses, probability) = self.compute_loss(model, inputs, return_outputs=True)
        return None, (margins, losses), probability  # a row a row of the data, which the Trainer gathers by rows

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The Trainer's, with a learning rate of its own for head and aggregator where one is given."""
        new = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if new:
            groups = parameter_groups(
                optimizer.param_groups, cast(nn.Module, model or self.model), self.args.head_learning_rate
            )
            optimizer.param_groups[:] = groups
        return optimizer

    def compute_loss_context_manager(self) -> contextlib.ExitStack:
        stack = contextlib.ExitStack()
        stack.enter_context(super().compute_loss_context_manager())
        if self.args.activation_offloading:
            stack.enter_context(activation_offloading(cast(nn.Module, self.model)))
        return stack

    # What the log says of the steps since it last spoke

    def _count(self, name: str, amount: Tensor, of: Tensor | int) -> None:
        ours = torch.stack((amount.float(), torch.as_tensor(of, device=amount.device, dtype=torch.float32)))
        self.counted[name] = self.counted.get(name, 0) + ours

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """With the loss go, of the same steps and all processes: accuracy, mean margin and mean score of the training
        comparisons, the shares of padding and of tokens that sharing prompts saved, and tokens read a second."""
        if "loss" in logs and self.counted:
            sums = cast(Tensor, self.accelerator.reduce(torch.stack(list(self.counted.values())), "sum"))  # (n, 2)
            seconds = time.perf_counter() - self.counted_since
            for name, (amount, of) in zip(self.counted, sums.tolist(), strict=True):
                logs[name] = amount / (seconds if name == "tokens_per_second" else max(of, 1))
            self.counted, self.counted_since = {}, time.perf_counter()
        super().log(logs, start_time)

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        super()._maybe_log_save_evaluate(*args, **kwargs)
        if not self.counted:
            self.counted_since = time.perf_counter()  # not counting evaluation and saving

    # Batching

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> tuple[nn.Module, Any]:
        model, loader = super()._prepare_for_training(*args, **kwargs)
        self.counted = {}
        self.data_collator.strategy = self.choose_batching(model)
        self.counted, self.counted_since = {}, time.perf_counter()
        return model, loader

    def choose_batching(self, model: nn.Module) -> str:
        """The strategy that `--batching` names, if it suits the model, or the fastest of those that do: for `auto`,
        forward and backward pass of two batches of the training data are timed with each.

        Neither weights nor random state change. `model` is the one that is trained, with all its wrappers.
        """
        core = plain_model(self.model)
        how: dict[str, Any] = {}
        if self.is_fsdp_enabled or self.is_deepspeed_enabled or "flash" in core.own_attention:
            # The first two cannot be called without their wrapper, FlashAttention not in fp32.
            how = {"wrapped": model, "allowed": 0.02 if self.args.bf16 or self.args.fp16 else None}
        suited = ["padded"]
        for one in STRATEGIES[1:] if self.args.batching == "auto" else [self.args.batching]:
            if usable(core, one, self.args.max_length, **how) == "padded":
                break  # what cannot be packed cannot share either
            suited = [*(suited if self.args.batching == "auto" else []), one]
        choice = suited[0]
        if len(suited) > 1:
            with torch.random.fork_rng():
                seconds = self._time(model, core, suited)
            choice = min(seconds, key=seconds.__getitem__)
            said = ", ".join(f"{name} {1000 * one:,.0f} ms" for name, one in seconds.items())
            self.batching["measured"] = f"{said} a half batch"
        use(core, choice)
        self.batching["strategy"] = self.run["batching"] = choice  # a resumed run goes on with it
        return choice

    def _time(self, model: nn.Module, core: SentenceRewardModel, strategies: Sequence[str]) -> dict[str, float]:
        """Seconds a batch by each strategy, the best of three rounds; the first leaves far slower ones behind. On a CPU
        they are this process's own, whatever else is running. The main process's clock counts, so all agree."""
        # Batches of half the size, so that choosing takes no more memory than training.
        size, data = (self.args.per_device_train_batch_size + 1) // 2, cast(Any, self.train_dataset)
        if isinstance(data, IterableDataset):
            rows = list(data.take(2 * size))
        else:  # a third and two thirds of the way through the epoch: lengths may be grouped, the longest first
            order = list(cast(Any, self._get_train_sampler()))
            rows = [data[i] for at in (len(order) // 3, 2 * len(order) // 3) for i in order[at : at + size]]
        clock = time.process_time if self.args.device.type == "cpu" else time.perf_counter
        model.train()

        def once(strategy: str) -> float:
            self.data_collator.strategy = strategy
            batches = [Collator(strategy)(rows[start : start + size]) for start in range(0, len(rows), size)]
            started = clock()
            for batch in batches:
                inputs = cast(Any, self._prepare_inputs(batch))
                with self.compute_loss_context_manager():
                    loss = self.compute_loss(model, inputs)
                if not self.is_deepspeed_enabled:  # its backward pass counts micro-steps
                    self.accelerator.backward(loss)
                loss.item()  # waits for the device
                model.zero_grad()
            return broadcast_object_list([(clock() - started) / len(batches)])[0]

        if self.args.device.type != "cpu":
            for name in strategies:
                once(name)  # kernels are compiled
        seconds = {name: once(name) for name in strategies}
        for _ in range(2):
            close = [name for name in seconds if seconds[name] < 1.5 * min(seconds.values())]
            for name in close if len(close) > 1 else []:
                seconds[name] = min(seconds[name], once(name))
        return seconds


def plain_model(model: Any) -> SentenceRewardModel:
    """The `SentenceRewardModel` inside a peft model."""
    return cast(SentenceRewardModel, model.get_base_model() if isinstance(model, PeftModel) else model)


def pair_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Loss of the evaluation rows; accuracy, margin and calibration error of their comparisons that are no ties."""
    margins, losses = cast(Any, prediction.predictions)  # (P, C), (P,)
    probability = np.asarray(prediction.label_ids)  # (P, C)
    decided = (probability >= 0) & (probability != 0.5)
    towards = np.where(probability > 0.5, margins, -np.asarray(margins))[decided]  # margins towards the preferred one
    return {
        "loss": float(np.mean(losses)),
        "accuracy": accuracy(towards),
        "margin": float(towards.mean()),
        "ece": expected_calibration_error(towards),
    }
