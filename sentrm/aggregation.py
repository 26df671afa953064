"""How sentence rewards become a score: `R = Σ_i a_i Δ_i`. An aggregator gives the weights `a_i`.

Every aggregator is called with
    hidden   (B, S, H)  hidden states at the boundaries, fp32
    rewards  (B, S)     Δ_i, index 0 is the prompt term
    mask     (B, S)     True where a boundary exists; S = N_max + 1, padding on the right
and returns weights (B, S), zero where the mask is False. So every variant, also those that do not
difference at all, decomposes exactly into one contribution a boundary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .configuration import SentenceRewardConfig


def rotate(x: Tensor, index: Tensor, theta: float) -> Tensor:
    """Rotary embedding (Su et al., arXiv 2104.09864) of integer positions, pairs (2j, 2j + 1) rotated by
    index · theta^(-2j/d). x (..., d), index (...) -> (..., d)."""
    d = x.shape[-1]
    frequency = theta ** (-torch.arange(0, d, 2, device=x.device, dtype=torch.float32) / d)  # (d/2,)
    angle = index.unsqueeze(-1).float() * frequency  # (..., d/2)
    cos, sin = angle.cos(), angle.sin()
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


def masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last dimension where mask is True; all zero where it is nowhere True."""
    filled = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
    return filled.softmax(-1) * mask


def without_prompt(mask: Tensor) -> Tensor:
    """The same mask with the prompt's boundary taken out. (B, S)"""
    return torch.cat((torch.zeros_like(mask[:, :1]), mask[:, 1:]), dim=1)


class Attention(nn.Module):
    """The paper's: the last boundary attends to all of them, prompt included (arXiv 2503.04793, section 3.3)."""

    def __init__(self, config: SentenceRewardConfig):
        super().__init__()
        self.theta = config.rope_theta
        self.query = nn.Linear(config.hidden_size, config.attention_dim)
        self.key = nn.Linear(config.hidden_size, config.attention_dim)

    def forward(self, hidden: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
        index = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)  # (B, S)
        last = mask.sum(1) - 1  # (B,) N
        final = hidden[torch.arange(len(last), device=last.device), last]  # (B, H)
        q = self.placed(self.query(final), last)  # (B, d)
        k = self.placed(self.key(hidden), index)  # (B, S, d)
        logits = (k @ q.unsqueeze(-1)).squeeze(-1) / q.shape[-1] ** 0.5  # (B, S)
        return masked_softmax(logits, self.attended(mask))

    def placed(self, x: Tensor, index: Tensor) -> Tensor:
        return rotate(x, index, self.theta)

    def attended(self, mask: Tensor) -> Tensor:
        return mask


class AttentionWithoutPrompt(Attention):
    """The paper's attention over the sentences alone, so that the prompt term does not count."""

    def attended(self, mask: Tensor) -> Tensor:
        return without_prompt(mask)


class AttentionWithoutRotary(Attention):
    """The paper's attention, blind to where a boundary stands but for what its hidden state says."""

    def placed(self, x: Tensor, index: Tensor) -> Tensor:
        return x


class RelativeAttention(Attention):
    """The paper's attention in units of an even share, `a_i (N + 1)`: where it is even, `R = v_N` whatever N is, and
    not `v_N / (N + 1)`. Weights sum to N + 1."""

    def forward(self, hidden: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
        return super().forward(hidden, rewards, mask) * self.attended(mask).sum(1, keepdim=True)


class RelativeAttentionWithoutPrompt(RelativeAttention, AttentionWithoutPrompt):
    """Both: where attention over the sentences is even, `R = v_N - v_0`, so a pair's margin is that of its last values.
    Weights sum to N; what all values have in common cannot move the score."""


class Mean(nn.Module):
    """Uniform weights: `R = v_N / (N + 1)`."""

    def __init__(self, config: SentenceRewardConfig):
        super().__init__()

    def forward(self, hidden: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
        return mask / mask.sum(1, keepdim=True).to(rewards.dtype)


class Last(Mean):
    """Unit weights, so rewards telescope to `R = v_N`: a plain response-level reward model."""

    def forward(self, hidden: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
        return mask.to(rewards.dtype)


class SumValues(Mean):
    """No differencing: `R = Σ_i v_i`. In terms of rewards, Δ_j counts in every value from j on: `a_j = N + 1 - j`."""

    def forward(self, hidden: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
        return mask.flip(1).cumsum(1).flip(1).to(rewards.dtype) * mask


class MeanValues(Mean):
    """No differencing: `R = (1/N) Σ_{i≥1} v_i`. In terms of rewards `a_0 = 1`, `a_j = (N + 1 - j) / N`; a response
    without a sentence scores `v_0`."""

    def forward(self, hidden: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
        after = mask.flip(1).cumsum(1).flip(1).to(rewards.dtype)  # (B, S) N + 1 - j
        return (after / (after[:, :1] - 1).clamp(min=1)).clamp(max=1) * mask


class Min(Mean):
    """The worst sentence alone: `R = min_{i≥1} Δ_i`. A response without a sentence scores 0."""

    def forward(self, hidden: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
        sentences = without_prompt(mask)
        worst = rewards.detach().masked_fill(~sentences, torch.inf).argmin(1)  # (B,)
        return nn.functional.one_hot(worst, mask.shape[1]).to(rewards.dtype) * sentences


class Softmin(Mean):
    """A smooth minimum: `a = softmax_{i≥1}(-Δ_i)`. A response without a sentence scores 0."""

    def forward(self, hidden: Tensor, rewards: Tensor, mask: Tensor) -> Tensor:
        return masked_softmax(-rewards, without_prompt(mask))


AGGREGATORS: dict[str, type[nn.Module]] = {
    "attention": Attention,
    "attention_without_prompt": AttentionWithoutPrompt,
    "attention_without_rotary": AttentionWithoutRotary,
    "relative_attention": RelativeAttention,
    "relative_attention_without_prompt": RelativeAttentionWithoutPrompt,
    "mean": Mean,
    "last": Last,
    "sum_values": SumValues,
    "mean_values": MeanValues,
    "min": Min,
    "softmin": Softmin,
}
