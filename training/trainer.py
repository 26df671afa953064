"""The Bradley-Terry loss on `transformers.Trainer`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from transformers import EvalPrediction, Trainer

from .metrics import accuracy, expected_calibration_error

if TYPE_CHECKING:
    from .config import TrainConfig


def bradley_terry(chosen: Tensor, rejected: Tensor, margin: Tensor | float = 0.0, centering: float = 0.0) -> Tensor:
    """`-log σ(R_chosen - R_rejected - margin) + centering · (R_chosen + R_rejected)²`, mean over pairs.

    Args:
        chosen, rejected: (P,) scores, logits.
        margin: (P,) how far the chosen one should be ahead (Touvron et al. 2023, arXiv 2307.09288, equation 2).
        centering: pulls scores towards zero, which Bradley-Terry leaves open (Eisenstein et al., arXiv 2312.09244).
    """
    loss = -logsigmoid(chosen - rejected - margin).mean()
    if centering:
        loss = loss + centering * (chosen + rejected).square().mean()
    return loss


class RewardTrainer(Trainer):
    """A Trainer whose batches are pairs as `training.data.collate` builds them."""

    args: TrainConfig

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        margin = inputs.pop("margin")  # (P,)
        chosen, rejected = model(**inputs).score.chunk(2)  # (P,) each
        loss = bradley_terry(
            chosen, rejected, margin if self.args.use_margin else 0.0, self.args.center_rewards_coefficient
        )
        return (loss, (chosen, rejected)) if return_outputs else loss

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, (chosen, rejected) = self.compute_loss(model, inputs, return_outputs=True)
        margins = (chosen - rejected).float()  # (P,)
        return loss, margins, torch.ones_like(margins)


def pair_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Accuracy, mean margin and expected calibration error of the evaluation pairs."""
    margins = np.asarray(prediction.predictions)  # (P,)
    return {"accuracy": accuracy(margins), "margin": float(margins.mean()), "ece": expected_calibration_error(margins)}
