"""A saved checkpoint, opened: configuration, model, tokenizer, and a revision that names its content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import torch
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import CONFIG_NAME, cached_file

from .configuration import SentenceRewardConfig
from .errors import ModelLoadError, SentrmError
from .modeling import SentenceRewardModel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def read_config(name_or_path: str | Path) -> SentenceRewardConfig:
    """Raises ModelLoadError where there is none, or one of another kind of model."""
    expected = "Expected a folder that sentrm saved, or the hub id of one. Train one with: python -m training.train"
    try:
        config = AutoConfig.from_pretrained(name_or_path)
    except SentrmError as error:
        raise ModelLoadError(f"the configuration of {name_or_path} is wrong: {error}") from error
    except (OSError, ValueError, HFValidationError) as error:
        found = "has no readable config.json" if Path(name_or_path).is_dir() else "is no local folder or known hub id"
        raise ModelLoadError(f"{name_or_path} {found}. {expected}") from error
    if not isinstance(config, SentenceRewardConfig):
        raise ModelLoadError(f"{name_or_path} holds a {config.model_type!r}, not a sentence reward model. {expected}")
    return config


def load_model(
    name_or_path: str | Path, config: SentenceRewardConfig, dtype: str = "auto"
) -> tuple[SentenceRewardModel, PreTrainedTokenizerBase]:
    """Model and tokenizer; `dtype` "auto" is the saved one.

    Raises:
        ModelLoadError: if the weights do not load, or are not all those of the configuration.
    """
    try:
        model, loading = cast(
            tuple[SentenceRewardModel, dict[str, Iterable[object]]],
            SentenceRewardModel.from_pretrained(
                name_or_path, config=config, dtype=DTYPES.get(dtype, "auto"), output_loading_info=True
            ),
        )
        tokenizer = AutoTokenizer.from_pretrained(name_or_path)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:  # RuntimeError: shapes, out of memory
        raise ModelLoadError(f"{name_or_path} has a configuration, but does not load: {error}") from error
    wrong = {kind: sorted(map(str, names)) for kind, names in loading.items() if names}
    if wrong:  # transformers would fill in random weights
        raise ModelLoadError(f"the weights of {name_or_path} are not those of its configuration: {wrong}.")
    return model, tokenizer


_DECIDING = (CONFIG_NAME, "*.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def read_revision(name_or_path: str | Path) -> str:
    """Digest of the files that decide a score, the same for a hub id and a copy of it."""
    folder = Path(str(cached_file(str(name_or_path), CONFIG_NAME))).parent
    digest = hashlib.sha256()
    for file in sorted(one for pattern in _DECIDING for one in folder.glob(pattern)):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:12]
