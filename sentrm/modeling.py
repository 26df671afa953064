"""The whole model on one page (arXiv 2503.04793).

A causal backbone reads prompt and response once. At every sentence boundary i = 0..N (0 ends the
prompt) a linear head reads a value v_i; neighbouring values differ by a sentence's reward; an
aggregator weighs the rewards and adds them up:

    v_i = w · h_i + c        Δ_0 = v_0,  Δ_i = v_i - v_{i-1}        R = Σ_i a_i Δ_i

Decisions:
- one gather at the boundaries, then everything is (R, S): a response of N sentences costs one forward pass;
- head and aggregation run in fp32 whatever the backbone runs in: rewards are differences of close numbers;
- positions are counted from the attention mask, so left and right padding give the same numbers;
- a row may hold many sequences, and one prompt with all its responses: who sees whom is the mask's matter alone;
- the backbone must be causal, or a later sentence would change an earlier one's value.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers import initialization as init

from .aggregation import AGGREGATORS
from .attention import masked
from .configuration import SentenceRewardConfig
from .errors import SentrmError


class SentenceRewardOutput(NamedTuple):
    """R sequences of S = N_max + 1 boundaries; one with fewer is padded on the right with zeros.

    Args:
        score: (R,) logits, `Σ contributions`.
        values: (R, S) logits, the head read at each boundary.
        rewards: (R, S) logits, `Δ_i`; column 0 is the prompt term.
        weights: (R, S), sum to 1 a sequence for the paper's aggregator.
        contributions: (R, S) logits, `a_i · Δ_i`.
        mask: (R, S) bool, True where a boundary exists.
    """

    score: Tensor
    values: Tensor
    rewards: Tensor
    weights: Tensor
    contributions: Tensor
    mask: Tensor


class SentenceRewardModel(PreTrainedModel):
    config: SentenceRewardConfig
    config_class = SentenceRewardConfig
    base_model_prefix = "backbone"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _keep_in_fp32_modules_strict = {"value_head", "aggregator"}  # noqa: RUF012  (a class variable of transformers)

    def __init__(self, config: SentenceRewardConfig, backbone: PreTrainedModel | None = None):
        super().__init__(config)
        if config.aggregator not in AGGREGATORS:
            raise SentrmError(f"aggregator is {config.aggregator!r}; expected one of {', '.join(AGGREGATORS)}.")
        if backbone is None:
            backbone = AutoModel.from_config(config.backbone_config)
        if getattr(backbone, "pooler", None) is not None:
            backbone.pooler = None  # BERT's: it would be trained and saved, and never read
        self.backbone = backbone
        self.own_attention = backbone.config._attn_implementation  # of padded rows
        self.value_head = nn.Linear(config.hidden_size, 1)
        self.aggregator = AGGREGATORS[config.aggregator](config)
        self.takes_positions = "position_ids" in inspect.signature(backbone.forward).parameters
        self.post_init()

    @classmethod
    def from_backbone(
        cls,
        name_or_path: str,
        *,
        dtype: torch.dtype = torch.float32,
        dropout: bool = True,
        loading: dict[str, Any] | None = None,
        positions: int | None = None,
        **config: Any,
    ) -> SentenceRewardModel:
        """A pretrained causal backbone with a fresh head and aggregator.

        Args:
            name_or_path: hub id or local folder of any causal transformer. A BERT-like encoder is made a decoder.
            dtype: of the backbone's weights.
            dropout: False sets every dropout probability of the backbone to 0.
            loading: what else `AutoModel.from_pretrained` takes, e.g. attn_implementation or quantization_config.
            positions: how many the backbone shall have, if it has fewer: see `repeated_positions`.
            config: fields of `SentenceRewardConfig`.

        Raises:
            SentrmError: if the backbone is an encoder-decoder or a later token changes an earlier hidden state.
        """
        backbone_config = AutoConfig.from_pretrained(name_or_path)
        if backbone_config.is_encoder_decoder:
            raise SentrmError(f"{name_or_path} is an encoder-decoder; expected a causal (decoder-only) backbone.")
        if "is_decoder" in backbone_config.to_dict():
            backbone_config.is_decoder = True
        for name, value in ({} if dropout else backbone_config.to_dict()).items():
            if "drop" in name and isinstance(value, float):
                setattr(backbone_config, name, 0.0)
        backbone = AutoModel.from_pretrained(name_or_path, config=backbone_config, dtype=dtype, **(loading or {}))
        if positions is not None and positions > backbone.config.max_position_embeddings:
            backbone = repeated_positions(backbone, positions, name_or_path)
        check_causal(backbone, name_or_path)
        config["attn_implementation"] = backbone.config._attn_implementation  # or the outer configuration resets it
        return cls(SentenceRewardConfig(backbone_config=backbone.config, **config), backbone)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        boundaries: Tensor | None = None,
        position_ids: Tensor | None = None,
        rows: Tensor | None = None,
        segments: Tensor | None = None,
    ) -> SentenceRewardOutput:
        """Score R prompt-and-response sequences that stand in B rows, as `sentrm.batching` lays them out.

        Args:
            input_ids: (B, L) token ids.
            attention_mask: (B, L) 1 for tokens, 0 for padding, on either side; None with segments.
            boundaries: (R, S) index into its row of each sequence's boundary 0..N, then -1.
            position_ids: (B, L); counted from the attention mask if not given.
            rows: (R,) the row each sequence stands in; its own if not given.
            segments: (M, 2) of a single row that holds many sequences, as `sentrm.attention` reads them.

        Raises:
            SentrmError: without boundaries.
        """
        if boundaries is None or (attention_mask is None) == (segments is None):
            raise SentrmError("expected boundaries, and either attention_mask or segments; see sentrm.batching.")
        inputs: dict[str, Any] = {"attention_mask": attention_mask}
        if attention_mask is None:
            inputs = masked(segments, self.backbone.config._attn_implementation, self.dtype)  # type: ignore[arg-type]
        elif position_ids is None:
            position_ids = (attention_mask.cumsum(1) - 1).clamp(min=0)  # (B, L)
        if self.takes_positions:
            inputs["position_ids"] = position_ids
        states = self.backbone(input_ids=input_ids, use_cache=False, **inputs).last_hidden_state  # (B, L, H)

        if rows is None:
            rows = torch.arange(len(boundaries), device=boundaries.device)  # (R,)
        return self.read(states[rows.unsqueeze(1), boundaries.clamp(min=0)], boundaries >= 0)

    def read(self, hidden: Tensor, mask: Tensor) -> SentenceRewardOutput:
        """Head and aggregation alone, from hidden states that were read before.

        Args:
            hidden: (R, S, H) last hidden states at each sequence's boundaries 0..N, then anything finite.
            mask: (R, S) bool, True where a boundary exists.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.to(self.value_head.weight.dtype)  # fp32, unless DeepSpeed keeps all weights in bf16
            values = self.value_head(hidden).squeeze(-1).float() * mask  # (R, S)
            before = nn.functional.pad(values[:, :-1], (1, 0))  # (R, S) v_{i-1}, with v_{-1} = 0
            rewards = (values - before) * mask  # (R, S)
            weights = self.aggregator(hidden, rewards, mask).float()  # (R, S)
            contributions = weights * rewards  # (R, S)
            score = contributions.sum(1)  # (R,)
        return SentenceRewardOutput(score, values, rewards, weights, contributions, mask)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self.value_head:  # values start at the scale of one logit, whatever the width
            init.normal_(module.weight, std=(self.config.hidden_size + 1) ** -0.5)

    def get_input_embeddings(self) -> nn.Module:
        return self.backbone.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.backbone.set_input_embeddings(value)


def repeated_positions(backbone: PreTrainedModel, positions: int, name: str) -> PreTrainedModel:
    """The backbone with more learned positions, its own ones repeated: a token's neighbours look as they did, which
    trains faster than random positions (Longformer, arXiv 2004.05150, section 5).

    Raises:
        SentrmError: if its positions are not learned.
    """
    config = copy.deepcopy(backbone.config)
    config.max_position_embeddings = positions
    longer = type(backbone)._from_config(config, dtype=backbone.dtype)
    weights = backbone.state_dict()
    grown = [one for one, tensor in longer.state_dict().items() if tensor.shape != weights[one].shape]
    if not grown:
        raise SentrmError(f"{name} has no learned positions to repeat; expected an absolute position embedding.")
    for one in grown:
        weights[one] = weights[one].repeat(-(-positions // len(weights[one])), 1)[:positions]
    longer.load_state_dict(weights)
    return longer


@torch.no_grad()
def check_causal(backbone: PreTrainedModel, name: str) -> None:
    """Raise SentrmError if changing the last of eight tokens changes the hidden state of an earlier one."""
    ids = torch.arange(8, device=backbone.device).unsqueeze(0)  # (1, 8)
    other = ids.clone()
    other[0, -1] = 8
    training = backbone.training
    backbone.eval()
    one, two = (backbone(input_ids=x, use_cache=False).last_hidden_state[:, :-1] for x in (ids, other))
    backbone.train(training)
    if not torch.allclose(one, two, atol=1e-4):
        raise SentrmError(
            f"{name} is not causal: a later token changes an earlier hidden state, so a sentence's value would depend "
            "on what follows it. Expected a decoder such as Llama, Qwen or GPT-NeoX."
        )
