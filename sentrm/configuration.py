"""The configuration of a sentence reward model: everything scoring needs to know besides the weights."""

from __future__ import annotations

from dataclasses import field
from itertools import pairwise
from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from .errors import SentrmError

BOUNDARIES = ("marker", "offset")


class SentenceRewardConfig(PreTrainedConfig):
    """Configuration of a `SentenceRewardModel`.

    Args:
        backbone_config: configuration of the causal backbone, or its dict form.
        aggregator: name in `sentrm.aggregation.AGGREGATORS`; "attention" is the paper's.
        attention_dim: width d of the aggregation's query and key.
        rope_theta: base of the rotary embedding of the boundary index.
        boundary: where the reward head is read: "marker", a special token after the prompt and after each
            sentence (the paper), or "offset", the last token of each.
        marker_token: the text of that special token.
        segmenter: `SegmenterSpec.to_dict()`, the paper's by default; a model is scored with this one unless asked.
        segmenter_revision: package and version (and weights) that cut the training data; None if it is not known.
        max_length: most tokens one prompt and response may take, markers included.
        median_reward: median sentence reward on held-out rows, logits; the baseline a heatmap is centred
            on; None if it was not measured.
        length_calibration: knots (characters, logits), ascending: the score expected of a response of that length, by
            a locally weighted regression of held-out scores (arXiv 2409.17407); None if it was not measured.

    Raises:
        SentrmError: for a boundary mode that does not exist, or knots that do not ascend.
    """

    model_type = "sentence_reward"
    sub_configs_defaults = {  # noqa: RUF012  (a class variable of transformers)
        "backbone_config": SubConfigSpec(config_class=AutoConfig, model_type="llama")
    }

    backbone_config: dict | PreTrainedConfig | None = None
    aggregator: str = "attention"
    attention_dim: int = 256
    rope_theta: float = 10000.0
    boundary: str = "marker"
    marker_token: str = "<|sentence|>"
    segmenter: dict = field(default_factory=lambda: {"backend": "sat", "name": "sat-3l", "threshold": 0.2})
    max_length: int = 2048
    segmenter_revision: str | None = None
    median_reward: float | None = None
    length_calibration: list | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.boundary not in BOUNDARIES:
            raise SentrmError(f"boundary is {self.boundary!r}; expected one of {', '.join(BOUNDARIES)}.")
        knots = self.length_calibration
        if knots is not None and not (knots and all(a[0] < b[0] for a, b in pairwise(knots))):
            raise SentrmError(
                f"length_calibration is {knots!s:.200}; expected pairs (characters, logits), characters ascending."
            )

    @property
    def hidden_size(self) -> int:
        """Width H of the backbone's hidden states."""
        return self.backbone_config.hidden_size  # type: ignore[union-attr]  # a configuration once initialised
