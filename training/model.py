"""The tokenizer and the model that a run trains."""

from __future__ import annotations

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sentrm.configuration import SentenceRewardConfig
from sentrm.encoding import PLAIN_CHAT_TEMPLATE
from sentrm.errors import SentrmError
from sentrm.modeling import SentenceRewardModel
from sentrm.segmentation import SegmenterSpec

from .config import TrainConfig


def prepare_tokenizer(config: TrainConfig) -> PreTrainedTokenizerBase:
    """The backbone's tokenizer with a chat template and, for boundary='marker', the marker token."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.backbone)
    except (OSError, ValueError) as error:
        raise SentrmError(f"--backbone {config.backbone} does not load: {error}") from error
    if tokenizer.bos_token is None:
        tokenizer.bos_token = tokenizer.cls_token
    if tokenizer.eos_token is None:
        tokenizer.eos_token = tokenizer.sep_token
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_CHAT_TEMPLATE
    if config.boundary == "marker":
        tokenizer.add_special_tokens({"additional_special_tokens": [SentenceRewardConfig.marker_token]})
    return tokenizer


def build_model(config: TrainConfig, tokenizer: PreTrainedTokenizerBase) -> SentenceRewardModel:
    """The backbone with a fresh head, its embeddings grown to hold the marker."""
    model = SentenceRewardModel.from_backbone(
        config.backbone,
        aggregator=config.aggregator,
        boundary=config.boundary,
        max_length=config.max_length,
        segmenter=SegmenterSpec.parse(config.segmenter).to_dict(),
    )
    most = getattr(model.config.backbone_config, "max_position_embeddings", config.max_length)
    if config.max_length > most:
        raise SentrmError(f"--max_length is {config.max_length}; the backbone has {most} positions.")
    if len(tokenizer) > model.backbone.config.vocab_size:
        model.backbone.resize_token_embeddings(len(tokenizer))
        model.config.backbone_config = model.backbone.config
    if config.disable_dropout:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    return model
