"""Encoded sequences become padded batches of similar length."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pad(
    ids: Sequence[Sequence[int]], boundaries: Sequence[Sequence[int]], pad_token_id: int = 0, side: str = "right"
) -> dict[str, Tensor]:
    """One row a sequence.

    Args:
        ids: token ids of B sequences.
        boundaries: their boundary positions.
        pad_token_id: any id; padding is masked.
        side: "right" or "left".

    Returns:
        `input_ids` and `attention_mask` (B, L), `boundaries` (B, S) with -1 after each row's last.
    """
    length = max(map(len, ids))
    input_ids = torch.full((len(ids), length), pad_token_id)
    attention_mask = torch.zeros_like(input_ids)
    positions = torch.full((len(ids), max(map(len, boundaries))), -1)
    for row, (tokens, ends) in enumerate(zip(ids, boundaries, strict=True)):
        start = length - len(tokens) if side == "left" else 0
        input_ids[row, start : start + len(tokens)] = torch.tensor(tokens)
        attention_mask[row, start : start + len(tokens)] = 1
        positions[row, : len(ends)] = torch.tensor(ends) + start
    return {"input_ids": input_ids, "attention_mask": attention_mask, "boundaries": positions}


def buckets(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Indices grouped by similar length, longest first, with rows x longest row <= batch_tokens (or one row)."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= batch_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
