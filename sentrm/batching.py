"""Encoded sequences become batches, by one of three strategies that give the same numbers:

    padded   a row a sequence, filled up to the longest
    packed   all sequences one after another in one row: no padding
    shared   the same, and responses to one prompt read it once: prompt, response, response, … with the positions of
             every response going on where the prompt ends

A group is a list of sequences whose tokens begin with the same prompt: a pair's two, or one prompt's N candidates.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from types import MethodType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .attention import SEGMENTWISE
from .modeling import SentenceRewardModel

STRATEGIES = ("padded", "packed", "shared")


class Tokens(NamedTuple):
    """What the model reads of one prompt and response."""

    ids: Sequence[int]  # (L,)
    boundaries: Sequence[int]  # (N + 1,) indices into ids; the prompt ends at the first


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
    starts = [length - len(tokens) if side == "left" else 0 for tokens in ids]
    for row, (tokens, start) in enumerate(zip(ids, starts, strict=True)):
        input_ids[row, start : start + len(tokens)] = torch.tensor(tokens)
        attention_mask[row, start : start + len(tokens)] = 1
    return {"input_ids": input_ids, "attention_mask": attention_mask, "boundaries": _positions(boundaries, starts)}


def pack(groups: Sequence[Sequence[Tokens]], share: bool) -> dict[str, Tensor]:
    """All sequences of all groups in one row of T tokens, in order; with `share`, a group's prompt stands there once.

    Returns:
        `input_ids` and `position_ids` (1, T), `boundaries` (R, S) with -1 after each sequence's last, `rows` (R,) all
        0, `segments` (M, 2): tokens and parent of each segment, as `sentrm.attention` reads them.
    """
    ids: list[int] = []
    positions: list[int] = []
    segments: list[tuple[int, int]] = []
    boundaries: list[Sequence[int]] = []
    for group in groups if share else [[one] for several in groups for one in several]:
        prompt, parent, start = len(group[0].ids), -1, len(ids)  # a single sequence is one segment
        if len(group) > 1:
            prompt, parent = group[0].boundaries[0] + 1, len(segments)
        ids += group[0].ids[:prompt]
        positions += range(prompt)
        segments.append((prompt, -1))
        for one in group:
            shift = len(ids) - prompt  # of the response's tokens
            boundaries.append([end + (start if end < prompt else shift) for end in one.boundaries])
            if len(one.ids) > prompt:
                ids += one.ids[prompt:]
                positions += range(prompt, len(one.ids))
                segments.append((len(one.ids) - prompt, parent))
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "boundaries": _positions(boundaries, [0] * len(boundaries)),
        "rows": torch.zeros(len(boundaries), dtype=torch.long),
        "segments": torch.tensor(segments),
    }


def collate(groups: Sequence[Sequence[Tokens]], strategy: str) -> dict[str, Tensor]:
    """Inputs of `SentenceRewardModel.forward` for the R sequences of all groups, in order."""
    if strategy == "padded":
        flat = [one for group in groups for one in group]
        return pad([one.ids for one in flat], [one.boundaries for one in flat])
    return pack(groups, share=strategy == "shared")


def tokens_read(group: Sequence[Tokens], strategy: str) -> int:
    """Tokens of one group that the backbone reads, padding aside."""
    total = sum(len(one.ids) for one in group)
    return total - (len(group) - 1) * (group[0].boundaries[0] + 1) if strategy == "shared" else total


def buckets(lengths: Sequence[int], batch_tokens: int, padded: bool = True) -> list[list[int]]:
    """Indices grouped by similar length, longest first, with at most batch_tokens a batch, or one index.

    A padded batch counts its rows times its longest row, any other the sum of its lengths.
    """
    batches: list[list[int]] = []
    total = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        cost = lengths[batches[-1][0]] if padded and batches else lengths[index]
        if batches and total + cost <= batch_tokens:
            batches[-1].append(index)
            total += cost
        else:
            batches.append([index])
            total = lengths[index]
    return batches


def _positions(boundaries: Sequence[Sequence[int]], shifts: Sequence[int]) -> Tensor:
    """(R, S) boundary positions, each row's moved by its shift, -1 after its last."""
    positions = torch.full((len(boundaries), max(map(len, boundaries))), -1)
    for row, (ends, shift) in enumerate(zip(boundaries, shifts, strict=True)):
        positions[row, : len(ends)] = torch.tensor(ends) + shift
    return positions


def use(model: SentenceRewardModel, strategy: str) -> None:
    """Set the backbone's attention to what reads this strategy's rows fastest.

    A CPU has neither FlexAttention's backward nor FlashAttention; the latter cannot share a prompt.
    """
    own = model.own_attention
    if strategy == "padded" or ("flash" in own and strategy == "packed"):
        chosen = own
    else:
        chosen = {"cpu": SEGMENTWISE, "cuda": "flex_attention"}.get(model.device.type, "sdpa")
    if model.backbone.config._attn_implementation != chosen:
        model.backbone.set_attn_implementation(chosen)


@contextmanager
def reading(model: SentenceRewardModel, strategy: str) -> Iterator[None]:
    """While rows of this strategy are read: no other thread reads the model, or sets its attention, meanwhile."""
    with _READING.setdefault(model, Lock()):
        use(model, strategy)
        yield


_READING: WeakKeyDictionary[SentenceRewardModel, Lock] = WeakKeyDictionary()


def windows(settings: Mapping[str, Any]) -> list[int]:
    """Tokens that the attention of a backbone of these settings reaches back, wherever it is said to be limited."""
    return [
        value for name, value in settings.items() if isinstance(value, int) and ("window" in name or "chunk" in name)
    ]


def rounding(model: PreTrainedModel) -> float:
    """By what share of the largest value two ways to read the same may differ."""
    return 1e-4 if model.dtype == torch.float32 else 0.02


def usable(
    model: SentenceRewardModel,
    strategy: str,
    max_length: int,
    wrapped: nn.Module | None = None,
    allowed: float | None = None,
) -> str:
    """The strategy, in use, if it gives this model the same values as padded rows do; else "padded", said in the log.

    Models whose positions are no input, with state-space layers, or with an attention window that the mask does not
    reach give others, silently. A window shows in sequences longer than it alone, and in low precision hardly there.

    Args:
        model: whose attention is set.
        strategy: one of `STRATEGIES`.
        max_length: most tokens of a sequence.
        wrapped: the same model as it has to be called where its weights are sharded.
        allowed: difference, as a share of the largest value; by the model's dtype if not given.
    """
    if strategy != "padded":
        forward = wrapped or MethodType(type(model).forward, model)  # without the autocast that accelerate puts around
        reason = _difference(model, forward, strategy, max_length, allowed or rounding(model))
        if reason is None:
            use(model, strategy)
            return strategy
        if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
            kind = model.config.backbone_config.model_type  # type: ignore[union-attr]  # a configuration by now
            logging.getLogger(__name__).warning(
                "%s batches do not suit this %s: %s; using padded", strategy, kind, reason
            )
    use(model, "padded")
    return "padded"


@torch.no_grad()
def _difference(
    model: SentenceRewardModel, forward: Callable[..., Any], strategy: str, max_length: int, allowed: float
) -> str | None:
    """Read two made-up groups both ways; why they are not the same, or None."""
    settings = model.config.backbone_config.to_dict()  # type: ignore[union-attr]
    seen = windows(settings)
    reach = f", it has an attention window of {max(seen)} tokens" if any(seen) else ""
    if allowed > 1e-3 and any(0 < window < max_length for window in seen):
        return reach.removeprefix(", ")
    length = min(max_length, max(seen, default=0) + 48)
    random = torch.Generator().manual_seed(0)
    tokens = torch.randint(10, settings["vocab_size"], (2 * length,), generator=random).tolist()
    half = (length - length // 2) // 2
    responses = [tokens[length : length + half], tokens[length + half : length + 3 * half]]
    groups = [  # a long prompt shows windows, one of a single token what leaks from the sequence before it
        [Tokens([*prompt, *one], range(len(prompt) - 1, len(prompt) + len(one))) for one in responses]
        for prompt in (tokens[: length // 2], tokens[:1])
    ]
    training = model.training
    model.eval()
    try:
        values = []
        for way in ("padded", strategy):
            use(model, way)
            batch = {name: tensor.to(model.device) for name, tensor in collate(groups, way).items()}
            values.append(forward(**batch).values)
    except (RuntimeError, ValueError, TypeError, KeyError, ImportError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    finally:
        model.train(training)
    difference = (values[0] - values[1]).abs().max() / values[0].abs().max()
    return None if difference <= allowed else f"its values change by {difference:.1%}{reach}"
