"""Text in, results out: `Scorer` segments, encodes, runs the model once a response, and returns frozen results."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, overload

import torch
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import CONFIG_NAME, cached_file

from .batching import buckets, pad
from .configuration import SentenceRewardConfig
from .encoding import Encoded, Encoder
from .errors import EncodingError, ModelLoadError, ScoringError, SentrmError
from .modeling import SentenceRewardModel
from .preferences import PreferencePair
from .results import ModelInfo, Prompt, ScoredPair, ScoredResponse, SegmenterInfo
from .segmentation import Segmenter, SegmenterSpec, load_segmenter

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class Scorer:
    """A model with the tokenizer and segmenter that its scores depend on."""

    model: SentenceRewardModel
    encoder: Encoder
    segmenter: Segmenter
    model_info: ModelInfo
    segmenter_info: SegmenterInfo
    batch_tokens: int  # rows x longest row of one forward pass

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        segmenter: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        max_length: int | None = None,
    ) -> Scorer:
        """Open a checkpoint.

        Args:
            name_or_path: local folder or hub id of a saved `SentenceRewardModel` with its tokenizer.
            segmenter: e.g. "rules" or "sat:sat-3l@0.2", instead of the one the model was trained with; every
                result then says so.
            device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", …
            dtype: "auto" (float32 on a CPU, else as saved), "float32", "bfloat16" or "float16".
            max_length: most tokens a sequence may take, instead of the checkpoint's.

        Raises:
            ModelLoadError: if there is no such model, it is of another kind, or the device or dtype does not exist.
            SegmenterError: if the segmenter cannot be loaded.
        """
        config = _read_config(name_or_path)
        target = _device(device)
        if dtype != "auto" and dtype not in DTYPES:
            raise ModelLoadError(f"dtype is {dtype!r}; expected auto, {', '.join(DTYPES)}.")
        if max_length is not None and not 8 <= max_length <= config.max_length:
            raise ModelLoadError(f"max length is {max_length}; this model takes from 8 to {config.max_length} tokens.")
        loaded_as = DTYPES.get(dtype, torch.float32 if target.type == "cpu" else "auto")
        try:
            model, loading = cast(
                tuple[SentenceRewardModel, dict[str, Iterable[object]]],
                SentenceRewardModel.from_pretrained(
                    name_or_path, config=config, dtype=loaded_as, output_loading_info=True
                ),
            )
            tokenizer = AutoTokenizer.from_pretrained(name_or_path)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:  # RuntimeError: shapes, out of memory
            raise ModelLoadError(f"{name_or_path} has a configuration, but does not load: {error}") from error
        wrong = {kind: sorted(map(str, names)) for kind, names in loading.items() if names}
        if wrong:  # transformers would fill in random weights
            raise ModelLoadError(f"the weights of {name_or_path} are not those of its configuration: {wrong}.")
        return cls.from_model(
            model.to(target),  # type: ignore[arg-type]  # a decorator hides the signature of nn.Module.to
            tokenizer,
            name=Path(name_or_path).resolve().name if Path(name_or_path).is_dir() else str(name_or_path),
            revision=_revision(name_or_path),
            segmenter=segmenter,
            max_length=max_length,
        )

    @classmethod
    def from_model(
        cls,
        model: SentenceRewardModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        revision: str = "unsaved",
        segmenter: str | None = None,
        max_length: int | None = None,
    ) -> Scorer:
        """A scorer around a model in memory; arguments as in `from_pretrained`."""
        config = model.config
        own = SegmenterSpec.from_dict(config.segmenter)
        asked = SegmenterSpec.parse(segmenter) if segmenter else own
        loaded = load_segmenter(asked)
        on_cpu = model.device.type == "cpu"  # small batches cost a CPU nothing and hold less padding
        return cls(
            model=model.eval(),
            encoder=Encoder(tokenizer, config, max_length),
            segmenter=loaded,
            model_info=ModelInfo(name, revision, config.aggregator, config.median_reward),
            segmenter_info=SegmenterInfo(
                str(asked),
                loaded.revision,
                own=asked == own and config.segmenter_revision in (None, loaded.revision),
            ),
            batch_tokens=2048 if on_cpu else 16384,
        )

    @overload
    def score(
        self, items: Sequence[PreferencePair], *, progress: Callable[[int, int], None] | None = None
    ) -> list[ScoredPair]: ...

    @overload
    def score(
        self, items: Sequence[tuple[Prompt, str]], *, progress: Callable[[int, int], None] | None = None
    ) -> list[ScoredResponse]: ...

    def score(self, items, *, progress=None):  # type: ignore[no-untyped-def]
        """Score pairs or single responses.

        Args:
            items: all `PreferencePair` (a result's a is the chosen, b the rejected response), or all
                `(prompt, response)`.
            progress: called with (responses scored, responses in all) after each batch.

        Returns:
            One `ScoredPair` or `ScoredResponse` an item, in order. Scores do not depend on what else is scored.

        Raises:
            EncodingError: if not even the first sentence of an item fits the model; it says which item.
            ScoringError: for items of another kind, or if the model's numbers are not finite.
        """
        if not items:
            return []
        kinds = {type(item) for item in items}
        if kinds == {tuple}:
            return self._score_responses(items, progress, [f"item {i}" for i in range(1, len(items) + 1)])
        if kinds != {PreferencePair}:
            got = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise ScoringError(f"got items of {got}; expected all PreferencePair, or all tuples (prompt, response).")
        responses = [(pair.prompt, text) for pair in items for text in (pair.chosen, pair.rejected)]
        names = [f"{side} of pair {pair.id or i}" for i, pair in enumerate(items, 1) for side in ("chosen", "rejected")]
        scored = self._score_responses(responses, progress, names)
        return [ScoredPair(pair.id, a, b) for pair, a, b in zip(items, scored[::2], scored[1::2], strict=True)]

    def _score_responses(
        self, responses: Sequence[tuple[Prompt, str]], progress: Callable[[int, int], None] | None, names: list[str]
    ) -> list[ScoredResponse]:
        for name, (prompt, text) in zip(names, responses, strict=True):
            if not isinstance(prompt, str | tuple | list) or not isinstance(text, str):
                got = f"a prompt of {type(prompt).__name__} and a response of {type(text).__name__}"
                raise ScoringError(f"{name}: got {got}; expected text or chat messages, and text.")
        spans = self.segmenter.spans([text for _, text in responses])
        encoded = []
        for name, (prompt, text), sentences in zip(names, responses, spans, strict=True):
            try:
                encoded.append(self.encoder.encode(prompt, text, sentences))
            except EncodingError as error:
                raise EncodingError(f"{name}: {error}") from error

        results: dict[int, ScoredResponse] = {}
        for batch in buckets([len(one.ids) for one in encoded], self.batch_tokens):
            rows = self._forward([encoded[index] for index in batch])
            if not all(math.isfinite(number) for row in rows for column in row for number in column):
                raise ScoringError(
                    "the model's numbers are not finite. Try dtype float32, or check how it was trained."
                )
            for index, columns in zip(batch, rows, strict=True):
                prompt, text = responses[index]
                results[index] = self._result(prompt, text, encoded[index], columns)
            if progress:
                progress(len(results), len(responses))
        return [results[index] for index in range(len(responses))]

    @torch.inference_mode()
    def _forward(self, encoded: list[Encoded]) -> list[tuple[list[float], ...]]:
        """Values, rewards, weights and contributions of each row, (N + 1,) each, and its score, (1,)."""
        batch = pad([one.ids for one in encoded], [one.boundaries for one in encoded])
        output = self.model(**{name: tensor.to(self.model.device) for name, tensor in batch.items()})
        columns = (output.values, output.rewards, output.weights, output.contributions)
        table = torch.stack(columns, dim=1).cpu()  # (B, 4, S)
        scores = output.score.tolist()
        return [(*table[row, :, : len(one.boundaries)].tolist(), [scores[row]]) for row, one in enumerate(encoded)]

    def _result(self, prompt: Prompt, text: str, one: Encoded, columns: tuple[list[float], ...]) -> ScoredResponse:
        values, rewards, weights, contributions, score = map(tuple, columns)
        return ScoredResponse(
            prompt=prompt if isinstance(prompt, str) else tuple(prompt),
            text=text,
            spans=tuple(one.spans),
            tokens=tuple(one.tokens),
            values=values,
            rewards=rewards,
            weights=weights,
            contributions=contributions,
            score=score[0],
            dropped_sentences=one.dropped_sentences,
            cut_prompt_tokens=one.cut_prompt_tokens,
            model=self.model_info,
            segmenter=self.segmenter_info,
        )


def _read_config(name_or_path: str | Path) -> SentenceRewardConfig:
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


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ModelLoadError(f"device {name!r} cannot be used: {error}. Expected auto, cpu, cuda or mps.") from error


_DECIDING = (CONFIG_NAME, "*.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def _revision(name_or_path: str | Path) -> str:
    """Digest of the files that decide a score, the same for a hub id and a copy of it."""
    folder = Path(str(cached_file(str(name_or_path), CONFIG_NAME))).parent
    digest = hashlib.sha256()
    for file in sorted(one for pattern in _DECIDING for one in folder.glob(pattern)):
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:12]
