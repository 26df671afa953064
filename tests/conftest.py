"""A tokenizer, a saved model, a backbone and preference pairs, made in-process: no network, no hub."""

from __future__ import annotations

import copy
import json
import os

os.environ["HF_HUB_OFFLINE"] = "1"  # a test that reaches for the hub fails at once
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from pathlib import Path

import pytest
import torch
from tiny import BACKBONES, tiny_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaModel, PreTrainedTokenizerFast

from sentrm.configuration import SentenceRewardConfig
from sentrm.encoding import PLAIN_CHAT_TEMPLATE
from sentrm.scoring import Scorer

torch.set_num_threads(2)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are named by their argument: a gzip header holds the time, and two workers must collect the same names."""
    return argname if isinstance(val, bytes) else None


CORPUS = [
    "The cold shock stops the cooking and loosens the shell. Older eggs peel more easily than fresh ones.",
    "user: How do I boil an egg? assistant: Boil it for nine minutes, then move it to ice water!",
    "1. Wash the rice.\n2. Add water.\n\nThere are many ways to do it. I hope this helps.",
]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 512 ids with a chat template and the marker token."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    specials = ["<pad>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    fast.add_special_tokens({"additional_special_tokens": [SentenceRewardConfig.marker_token]})
    fast.chat_template = PLAIN_CHAT_TEMPLATE
    return fast


@pytest.fixture(scope="session")
def model_dir(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny sentence reward model with its tokenizer: what `Scorer.from_pretrained` and the app open."""
    folder = tmp_path_factory.mktemp("model") / "tiny-llama"
    tiny_model(median_reward=0.05).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")  # a test may change the batches that one is read in
def scorer(model_dir: Path) -> Scorer:
    """The tests' tiny model."""
    return Scorer.from_pretrained(model_dir, device="cpu")


@pytest.fixture(scope="session")
def backbone_dir(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved bare backbone with a tokenizer that knows neither a marker nor a chat template: where training starts."""
    folder = tmp_path_factory.mktemp("backbone") / "tiny-llama"
    torch.manual_seed(0)
    config = copy.deepcopy(BACKBONES["llama"])
    config.vocab_size = len(tokenizer) - 1  # full: the marker has to be added
    LlamaModel(config).save_pretrained(folder)
    bare = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()),
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
    )
    bare.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Preference pairs a tiny model can learn: the rejected response holds one rude sentence, at a varying place."""
    good = ["Boil it for nine minutes.", "Older eggs peel more easily.", "Then add water.", "I hope this helps."]
    rude = "What a silly question!"
    rows = []
    for i in range(120):
        kept = [good[(i + k) % 4] for k in range(2 + i % 2)]
        spoiled = [*kept[: i % 3], rude, *kept[i % 3 :]]
        rows.append({"prompt": f"How do I boil {i} eggs?", "chosen": " ".join(kept), "rejected": " ".join(spoiled)})
    file = tmp_path_factory.mktemp("pairs") / "eggs.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


@pytest.fixture(scope="session")
def train_flags(backbone_dir: Path, pairs_file: Path) -> list[str]:
    """A run of `python -m training.train` of a few seconds, without its output folder."""
    flags = {"backbone": backbone_dir, "data": pairs_file, "segmenter": "rules", "max_length": 128, "seed": 3}
    flags |= {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "learning_rate": 0.02}
    flags |= {"num_train_epochs": 3, "save_steps": 20, "disable_tqdm": True}
    return [part for name, value in flags.items() for part in (f"--{name}", str(value))]
