"""Attention inside one row that holds many sequences: who may see whom, in the form each backend takes.

A row is cut into segments. A token sees its own segment up to itself, and all of the segment's parent, if it has one:

    packed   [prompt A] [prompt B]                     every sequence is a segment without a parent
    shared   [prompt] [A] [B] [prompt] [A] [B] …       a response's parent is its prompt, which is read once

Decided by the backbone's attention implementation (`implementation`): FlexAttention's block mask on CUDA, varlen
FlashAttention for segments without parents, on a CPU (which has neither) one exact SDPA call a segment, registered
with transformers' AttentionInterface, and a dense 4-D mask for everything else.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

SEGMENTWISE = "segmentwise"


def owners(segments: Tensor) -> Tensor:
    """The segment of each token of the row. (M, 2) -> (T,)"""
    return torch.arange(len(segments), device=segments.device).repeat_interleave(segments[:, 0])


def dense_mask(segments: Tensor) -> Tensor:
    """True where a token (row) sees another (column). (M, 2) -> (1, 1, T, T) bool"""
    owner = owners(segments)  # (T,)
    parent = segments[owner, 1]  # (T,)
    index = torch.arange(len(owner), device=owner.device)
    own = (owner.unsqueeze(1) == owner) & (index.unsqueeze(1) >= index)
    return (own | (parent.unsqueeze(1) == owner))[None, None]


def block_mask(segments: Tensor) -> Any:
    """The same as a FlexAttention BlockMask."""
    from torch.nn.attention.flex_attention import create_block_mask

    owner = owners(segments)  # (T,)
    parent = segments[owner, 1]  # (T,)

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return ((owner[query] == owner[key]) & (query >= key)) | (parent[query] == owner[key])

    size = len(owner)
    # compiled, it never holds the (T, T) mask itself
    return create_block_mask(sees, None, None, size, size, device=str(owner.device), _compile=owner.is_cuda)


def masked(segments: Tensor, implementation: str, dtype: torch.dtype) -> dict[str, Any]:
    """What to pass to the backbone's forward, besides ids and positions.

    Args:
        segments: (M, 2) in the row's order: tokens, and index of the parent segment or -1.
        implementation: of the backbone's attention.
        dtype: of the hidden states; an eager attention adds its mask.

    Raises:
        ValueError: for FlashAttention and a segment with a parent, which it cannot express.
    """
    if implementation == SEGMENTWISE:
        return {"attention_mask": None, "segments": segments.tolist()}
    if implementation == "flex_attention":
        return {"attention_mask": block_mask(segments)}
    if "flash" in implementation:
        if (segments[:, 1] >= 0).any():
            raise ValueError("FlashAttention cannot share a prompt between responses; read padded or packed batches.")
        ends = nn.functional.pad(segments[:, 0].cumsum(0), (1, 0)).int()  # (M + 1,)
        longest = int(segments[:, 0].max())
        lengths = {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}
        return {"attention_mask": None, **lengths}
    visible = dense_mask(segments)
    if implementation == "sdpa":
        return {"attention_mask": visible}
    hidden = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return {"attention_mask": hidden.masked_fill_(~visible, torch.finfo(dtype).min)}


def segmentwise(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    segments: list[list[int]] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Exact attention, segment by segment: no token pays for one it does not see. Without segments it is SDPA.

    query (1, heads, T, d), key and value (1, key heads, T, d) -> (1, T, heads, d)
    """
    if segments is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    groups = query.shape[1] // key.shape[1]
    lengths = [length for length, _ in segments]
    # In fp32: a CPU's bf16 kernel takes longer on short segments. Split, not slices: its backward concatenates, where
    # each slice's would fill a whole row with zeros.
    queries, keys, values = (
        x.float().split(lengths, dim=2) for x in (query, repeat_kv(key, groups), repeat_kv(value, groups))
    )
    outputs = []
    with torch.autocast(query.device.type, enabled=False):
        for i, (length, parent) in enumerate(segments):
            k, v, mask = keys[i], values[i], None
            if parent >= 0:
                k, v = torch.cat((keys[parent], k), dim=2), torch.cat((values[parent], v), dim=2)
                mask = torch.ones(length, k.shape[2], dtype=torch.bool, device=k.device).tril(k.shape[2] - length)
            outputs.append(
                scaled_dot_product_attention(
                    queries[i], k, v, attn_mask=mask, is_causal=mask is None, dropout_p=dropout, scale=scaling
                )
            )
    return torch.cat(outputs, dim=2).transpose(1, 2).to(query.dtype).contiguous(), None


AttentionInterface.register(SEGMENTWISE, segmentwise)
AttentionMaskInterface.register(SEGMENTWISE, sdpa_mask)  # padded batches go on as before
