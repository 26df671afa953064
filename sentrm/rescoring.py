"""One response scored again and again while somebody edits it: only what follows an edit is read.

A causal backbone's hidden states depend on what stands before them alone. So the key/value cache of the last text is
cut back to the first token that differs, and the backbone reads on from there; head and aggregation, which cost next
to nothing, see all boundaries. Backbones that this does not suit are found by trying it (`why_not`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import CacheLayerMixin

from .batching import pad, reading, rounding, windows
from .modeling import SentenceRewardModel, SentenceRewardOutput
from .results import Prompt, ScoredResponse, Span
from .scoring import Item, Scorer, columns


class Rescorer:
    """Scores responses to one prompt, each the faster the later it begins to differ from the one before.

    It holds keys, values and hidden states of the last response: for 512 tokens of a backbone of 6 layers of width 384
    10 MB. Not for several threads at once.

    Args:
        scorer: whose numbers it gives, to 1e-5 in float32.
        prompt: of all responses.
        reader: what holds them, to go on from what it read for somebody else.
    """

    def __init__(self, scorer: Scorer, prompt: Prompt, reader: Reader | None = None):
        self.scorer = scorer
        self.prompt = prompt
        self.reason = why_not(scorer.model)  # why this backbone reads every response from scratch, or None
        self.read = 0  # tokens that the last call computed
        self._reader = reader or Reader(scorer.model)

    def score(self, text: str, spans: Sequence[Span] | None = None, name: str = "the response") -> ScoredResponse:
        """What `Scorer.score` gives for this response, cut by the segmenter or, with spans, by hand.

        Args:
            name: of the response, for error messages.

        Raises:
            EncodingError, ScoringError: as `Scorer.score`; the last response read stays the one to go on from.
        """
        item: Item = (self.prompt, text) if spans is None else (self.prompt, text, spans)
        (reading,) = self.scorer.encode([item], [name])
        one = reading.encoded
        if self.reason is None:
            self.read, output = self._reader(one.ids, one.boundaries)
            (numbers,) = columns(output)
        else:
            self.read = len(one.ids)
            (numbers,) = self.scorer._forward([[one]])
        return self.scorer.result(reading, numbers)


class Reader:
    """A model that reads one sequence after another, and goes on where two begin to differ."""

    def __init__(self, model: SentenceRewardModel):
        self.model = model
        self.ids: list[int] = []  # (L,) of the last sequence
        self.states: Tensor | None = None  # (1, L, H)
        self.cache = DynamicCache()

    @property
    def size(self) -> int:
        """Bytes of keys, values and hidden states."""
        layers = [layer for layer in self.cache.layers if isinstance(layer, CacheLayerMixin)]
        held = [self.states, *(tensor for layer in layers for tensor in (layer.keys, layer.values))]
        return sum(tensor.nbytes for tensor in held if tensor is not None)

    @torch.inference_mode()
    def __call__(self, ids: list[int], boundaries: Sequence[int]) -> tuple[int, SentenceRewardOutput]:
        """Tokens computed, and the output of one sequence of (L,) ids and (N + 1,) boundaries."""
        shorter = min(len(self.ids), len(ids))
        same = next((i for i in range(shorter) if self.ids[i] != ids[i]), shorter)
        removed, self.ids = len(self.ids) - same, []  # nothing to go on from, should the backbone raise
        if same == 0:
            # Without a configuration every layer keeps all tokens, sliding windows too: the mask alone shows those.
            self.cache, self.states = DynamicCache(), None
        elif removed:
            self.cache.crop(-removed)
        if same < len(ids):
            device = self.model.device
            inputs = {"attention_mask": torch.ones(1, len(ids), dtype=torch.long, device=device)}
            if self.model.takes_positions:
                inputs["position_ids"] = torch.arange(same, len(ids), device=device).unsqueeze(0)
            with reading(self.model, "padded"):
                read = self.model.backbone(
                    input_ids=torch.tensor([ids[same:]], device=device),
                    past_key_values=self.cache,
                    use_cache=True,
                    **inputs,
                ).last_hidden_state  # (1, L - same, H)
            self.states = read if self.states is None else torch.cat((self.states[:, :same], read), dim=1)
        assert self.states is not None
        self.states = self.states[:, : len(ids)]
        self.ids = list(ids)
        hidden = self.states[:, list(boundaries)]  # (1, N + 1, H)
        mask = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        return len(ids) - same, self.model.read(hidden, mask)


_FOUND: WeakKeyDictionary[SentenceRewardModel, str | None] = WeakKeyDictionary()


def why_not(model: SentenceRewardModel) -> str | None:
    """Why a model's backbone has to read every response from scratch, or None; tried out once a model.

    A bidirectional one sees an edit from before it, a state space cannot forget what was cut, and some have no such
    cache. Rotary positions that depend on a sequence's length would need one longer than can be tried. A reason is
    said in the log.

    Raises:
        torch.OutOfMemoryError: where there is no memory to try it; it is tried again when asked again.
    """
    if model not in _FOUND:
        _FOUND[model] = reason = _difference(model)
        if reason:
            logging.getLogger(__name__).warning("an edited response is read from scratch: %s", reason)
    return _FOUND[model]


@torch.inference_mode()
def _difference(model: SentenceRewardModel) -> str | None:
    """Read three made-up sequences both ways, longer than any attention window."""
    settings = model.config.backbone_config.to_dict()  # type: ignore[union-attr]  # a configuration by now
    if any(kind in str(settings.get("rope_parameters")) for kind in ("dynamic", "longrope")):
        return "its rotary positions are rescaled by the length of the sequence"
    length = min(model.config.max_length, max(windows(settings), default=0) + 48)
    random = torch.Generator().manual_seed(0)
    first, other = torch.randint(10, settings["vocab_size"], (2, length), generator=random).tolist()
    sequences = (first, first[: length // 2] + other[: length // 4], first[: length // 4] + other[length // 4 :])
    reader = Reader(model)
    differences = []
    try:
        for ids in sequences:
            every = range(len(ids))
            row = {name: tensor.to(model.device) for name, tensor in pad([ids], [every]).items()}
            with reading(model, "padded"):
                scratch = model(**row).values
            _, output = reader(ids, every)
            differences.append((output.values - scratch).abs().max() / scratch.abs().max())
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a backbone raises that has no such cache
        return f"reading on from a cache fails with {type(error).__name__}: {error}"
    worst = torch.stack(differences).max()
    if worst <= rounding(model):
        return None
    return f"reading on from a cache changes its values by {worst:.1%}"
