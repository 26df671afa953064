"""Models of a few thousand parameters, random, of several architectures."""

from __future__ import annotations

import copy

import torch
from transformers import BertConfig, GPTNeoXConfig, LlamaConfig, Qwen3Config

from sentrm.configuration import SentenceRewardConfig
from sentrm.modeling import SentenceRewardModel

WIDTH = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VOCABULARY = 512
BACKBONES = {
    "llama": LlamaConfig(**WIDTH, vocab_size=VOCABULARY, num_key_value_heads=1, max_position_embeddings=512),
    "qwen3": Qwen3Config(
        **WIDTH, vocab_size=VOCABULARY, num_key_value_heads=1, head_dim=8, max_position_embeddings=512
    ),
    "gpt_neox": GPTNeoXConfig(**WIDTH, vocab_size=VOCABULARY, max_position_embeddings=512),
    "bert": BertConfig(**WIDTH, vocab_size=VOCABULARY, max_position_embeddings=512, is_decoder=True),
}


def tiny_model(architecture: str = "llama", **config: object) -> SentenceRewardModel:
    """A random model, the same at every call, with a head and attention wide awake: no two boundaries are alike."""
    torch.manual_seed(0)
    full = SentenceRewardConfig(
        backbone_config=copy.deepcopy(BACKBONES[architecture]),  # a test may change it
        max_length=config.pop("max_length", 256),
        segmenter={"backend": "rules", "name": "en", "threshold": None},
        **config,
    )
    model = SentenceRewardModel(full).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model
