"""A saved checkpoint, opened: configuration, model, tokenizer, and a revision that names its content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import CONFIG_NAME, cached_file

from .configuration import SentenceRewardConfig
from .errors import ModelLoadError, SentrmError
from .modeling import SentenceRewardModel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


_EXPECTED = "Expected a folder that sentrm saved, or the hub id of one. Train one with: python -m training.train"


def read_scorable(name_or_path: str | Path) -> PreTrainedConfig:
    """The configuration of a model that `Scorer` opens: a `SentenceRewardConfig`, or that of a classifier.

    Raises:
        ModelLoadError: if there is none, or it is neither a sentence reward model nor a sequence classifier with one
            label that is no encoder-decoder.
    """
    try:
        config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=False)  # or it asks on the terminal
    except SentrmError as error:
        raise ModelLoadError(f"the configuration of {name_or_path} is wrong: {error}") from error
    except (OSError, ValueError, HFValidationError) as error:
        found = "has no readable config.json" if Path(name_or_path).is_dir() else "is no local folder or known hub id"
        raise ModelLoadError(f"{name_or_path} {found}. {_EXPECTED}") from error
    if isinstance(config, SentenceRewardConfig):
        return config
    kinds = config.architectures or ["unknown"]
    reason = ""
    if not kinds[0].endswith("ForSequenceClassification"):
        reason = f"its architecture is {kinds[0]}"
    elif config.is_encoder_decoder:
        reason = "it is an encoder-decoder"
    elif config.num_labels != 1:
        reason = f"it has {config.num_labels} labels"
    if reason:
        raise ModelLoadError(
            f"{name_or_path} holds a {config.model_type!r}, not a sentence reward model: {reason}. {_EXPECTED}; or a "
            "reward model for transformers: *ForSequenceClassification with one label."
        )
    return config


def read_config(name_or_path: str | Path) -> SentenceRewardConfig:
    """Raises ModelLoadError where there is none, or one of another kind of model."""
    config = read_scorable(name_or_path)
    if not isinstance(config, SentenceRewardConfig):
        raise ModelLoadError(f"{name_or_path} holds a {config.model_type!r}, not a sentence reward model. {_EXPECTED}")
    return config


def load_model(
    name_or_path: str | Path, config: SentenceRewardConfig, dtype: str = "auto"
) -> tuple[SentenceRewardModel, PreTrainedTokenizerBase]:
    """Model and tokenizer; `dtype` "auto" is the saved one.

    Raises:
        ModelLoadError: if the weights do not load, or are not all those of the configuration.
    """
    model, tokenizer = load_weights(SentenceRewardModel, name_or_path, config, dtype)
    return cast(SentenceRewardModel, model), tokenizer


def load_weights(
    kind: Any, name_or_path: str | Path, config: PreTrainedConfig, dtype: str, allowed: Sequence[str] = ()
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model of a kind that has `from_pretrained`, and tokenizer.

    Args:
        allowed: how weights may differ from those of the configuration, e.g. "unexpected_keys".

    Raises:
        ModelLoadError: if they do not load, or differ in another way. A pickle never loads: it could run code.
    """
    try:
        model, loading = kind.from_pretrained(
            name_or_path,
            config=config,
            dtype=DTYPES.get(dtype, "auto"),
            use_safetensors=True,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(name_or_path)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:  # RuntimeError: shapes, out of memory
        raise ModelLoadError(f"{name_or_path} has a configuration, but does not load: {error}") from error
    wrong = {how: sorted(map(str, names)) for how, names in loading.items() if names and how not in allowed}
    if wrong:  # transformers would fill in random weights
        raise ModelLoadError(f"the weights of {name_or_path} are not those of its configuration: {wrong}.")
    return model, tokenizer


def read_device(name: str) -> torch.device:
    """Raises ModelLoadError where there is no such device; "auto" is an accelerator if there is one."""
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ModelLoadError(f"device {name!r} cannot be used: {error}. Expected auto, cpu, cuda or mps.") from error


_DECIDING = (CONFIG_NAME, "*.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def read_revision(name_or_path: str | Path) -> str:
    """Digest of the files that decide a score, the same for a hub id and a copy of it."""
    folder = Path(str(cached_file(str(name_or_path), CONFIG_NAME))).parent
    digest = hashlib.sha256()
    for file in sorted(one for pattern in _DECIDING for one in folder.glob(pattern)):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:12]
