"""Text in, results out: `Scorer` segments, encodes, runs the model once a response, and returns frozen results."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import torch
from transformers import PreTrainedTokenizerBase

from .batching import STRATEGIES, Tokens, buckets, collate, tokens_read, usable, use
from .encoding import Encoded, Encoder
from .errors import EncodingError, ModelLoadError, ScoringError
from .loading import DTYPES, load_model, read_config, read_revision
from .modeling import SentenceRewardModel
from .preferences import PreferencePair
from .results import ModelInfo, Prompt, ScoredPair, ScoredResponse, SegmenterInfo
from .segmentation import Segmenter, SegmenterSpec, load_segmenter


@dataclass
class Scorer:
    """A model with the tokenizer and segmenter that its scores depend on."""

    model: SentenceRewardModel
    encoder: Encoder
    segmenter: Segmenter
    model_info: ModelInfo
    segmenter_info: SegmenterInfo
    batch_tokens: int  # of one forward pass, padding included
    batching: str  # "padded", "packed" or "shared"

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        segmenter: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        max_length: int | None = None,
        batching: str = "shared",
    ) -> Scorer:
        """Open a checkpoint.

        Args:
            name_or_path: local folder or hub id of a saved `SentenceRewardModel` with its tokenizer.
            segmenter: e.g. "rules" or "sat:sat-3l@0.2", instead of the one the model was trained with; every
                result then says so.
            device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", …
            dtype: "auto" (float32 on a CPU, else as saved), "float32", "bfloat16" or "float16".
            max_length: most tokens a sequence may take, instead of the checkpoint's.
            batching: how sequences stand in a batch, see `sentrm.batching`; the numbers are the same. A model that
                another strategy than "padded" does not suit is read padded, and the log says why.

        Raises:
            ModelLoadError: if there is no such model, it is of another kind, or the device or dtype does not exist.
            SegmenterError: if the segmenter cannot be loaded.
        """
        config = read_config(name_or_path)
        target = _device(device)
        if dtype != "auto" and dtype not in DTYPES:
            raise ModelLoadError(f"dtype is {dtype!r}; expected auto, {', '.join(DTYPES)}.")
        if max_length is not None and not 8 <= max_length <= config.max_length:
            raise ModelLoadError(f"max length is {max_length}; this model takes from 8 to {config.max_length} tokens.")
        model, tokenizer = load_model(
            name_or_path, config, "float32" if (dtype, target.type) == ("auto", "cpu") else dtype
        )
        return cls.from_model(
            model.to(target),  # type: ignore[arg-type]  # a decorator hides the signature of nn.Module.to
            tokenizer,
            name=Path(name_or_path).resolve().name if Path(name_or_path).is_dir() else str(name_or_path),
            revision=read_revision(name_or_path),
            segmenter=segmenter,
            max_length=max_length,
            batching=batching,
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
        batching: str = "shared",
    ) -> Scorer:
        """A scorer around a model in memory; arguments as in `from_pretrained`."""
        config = model.config
        own = SegmenterSpec.from_dict(config.segmenter)
        asked = SegmenterSpec.parse(segmenter) if segmenter else own
        loaded = load_segmenter(asked, tokenizer, model.device)
        if batching not in STRATEGIES:
            raise ModelLoadError(f"batching is {batching!r}; expected one of {', '.join(STRATEGIES)}.")
        on_cpu = model.device.type == "cpu"  # small batches cost a CPU nothing and hold less padding
        encoder = Encoder(tokenizer, config, max_length)
        return cls(
            model=model.eval(),
            encoder=encoder,
            segmenter=loaded,
            model_info=ModelInfo(name, revision, config.aggregator, config.median_reward),
            segmenter_info=SegmenterInfo(
                str(asked),
                loaded.revision,
                own=asked == own and config.segmenter_revision in (None, loaded.revision),
            ),
            batch_tokens=2048 if on_cpu else 16384,
            batching=usable(model, batching, encoder.max_length),
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
            One `ScoredPair` or `ScoredResponse` an item, in order. Scores do not depend on what else is scored; those
            of items that the model reads as the same are equal to the last bit.

        Raises:
            EncodingError: if not even the first sentence of an item fits the model; it says which item.
            ScoringError: for items of another kind, or if the model's numbers are not finite.
        """
        if not items:
            return []
        kinds = {type(item) for item in items}
        if kinds == {tuple}:
            names = [f"item {i}" for i in range(1, len(items) + 1)]
            return self._score_encoded(self._encode([(*item, None) for item in items], names), progress)
        if kinds != {PreferencePair}:
            got = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise ScoringError(f"got items of {got}; expected all PreferencePair, or all tuples (prompt, response).")
        responses = [(pair.prompt, text, pair) for pair in items for text in (pair.chosen, pair.rejected)]
        names = [f"{side} of pair {pair.id or i}" for i, pair in enumerate(items, 1) for side in ("chosen", "rejected")]
        scored = self._score_encoded(self._encode(responses, names), progress)
        return [ScoredPair(pair.id, a, b) for pair, a, b in zip(items, scored[::2], scored[1::2], strict=True)]

    def _encode(
        self, responses: Sequence[tuple[Prompt, str, PreferencePair | None]], names: list[str]
    ) -> list[tuple[Prompt, str, Encoded]]:
        """Prompt, response and what the model reads of them; of a pre-tokenised pair the texts are decoded."""
        for name, (prompt, text, _) in zip(names, responses, strict=True):
            if not isinstance(prompt, str | tuple | list) or not isinstance(text, str):
                got = f"a prompt of {type(prompt).__name__} and a response of {type(text).__name__}"
                raise ScoringError(f"{name}: got {got}; expected text or chat messages, and text.")
        spans = self.segmenter.spans([text for _, text, _ in responses])
        encoded = []
        for i, (name, (prompt, text, pair), sentences) in enumerate(zip(names, responses, spans, strict=True)):
            try:
                if pair is None:
                    one = self.encoder.encode(prompt, text, sentences)
                elif pair.tokens is None:
                    given: dict[str, Any] = {"tools": pair.tools, "chat_template_kwargs": pair.chat_template_kwargs}
                    one = self.encoder.encode(prompt, text, sentences, **given)
                else:
                    prompt, text, one = self.encoder.decode(pair.tokens.ids[i % 2], pair.tokens.boundaries[i % 2])
                encoded.append((prompt, text, one))
            except EncodingError as error:
                raise EncodingError(f"{name}: {error}") from error
        return encoded

    def _score_encoded(
        self, items: list[tuple[Prompt, str, Encoded]], progress: Callable[[int, int], None] | None
    ) -> list[ScoredResponse]:
        same: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
        for index, (_, _, one) in enumerate(items):
            same.setdefault((tuple(one.ids), tuple(one.boundaries)), []).append(index)
        indices = list(same.values())  # of the items that the model reads as the same, which have the same numbers
        encoded = [items[first][2] for first, *_ in indices]
        results: dict[int, ScoredResponse] = {}
        for batch in self._batches(encoded):
            rows = self._forward([[encoded[number] for number in group] for group in batch])
            if not all(math.isfinite(number) for row in rows for column in row for number in column):
                raise ScoringError(
                    "the model's numbers are not finite. Try dtype float32, or check how it was trained."
                )
            for number, columns in zip([number for group in batch for number in group], rows, strict=True):
                results |= {index: self._result(*items[index], columns) for index in indices[number]}
            if progress:
                progress(len(results), len(items))
        return [results[index] for index in range(len(items))]

    def _batches(self, encoded: list[Encoded]) -> Iterator[list[list[int]]]:
        """Indices in groups that share a prompt (of one each, where nothing is shared), the groups in batches."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for index, one in enumerate(encoded):
            key = tuple(one.ids[: one.boundaries[0] + 1]) if self.batching == "shared" else (index,)
            groups.setdefault(key, []).append(index)
        units = []
        for indices in groups.values():  # a group larger than a batch is cut
            longest = max(len(encoded[index].ids) for index in indices)
            size = max(1, self.batch_tokens // longest)
            units += [indices[start : start + size] for start in range(0, len(indices), size)]
        lengths = [tokens_read([_tokens(encoded[index]) for index in unit], self.batching) for unit in units]
        for batch in buckets(lengths, self.batch_tokens, padded=self.batching == "padded"):
            yield [units[index] for index in batch]

    @torch.inference_mode()
    def _forward(self, groups: list[list[Encoded]]) -> list[tuple[list[float], ...]]:
        """Values, rewards, weights and contributions of each sequence, (N + 1,) each, and its score, (1,)."""
        use(self.model, self.batching)  # somebody else may have read the same model another way
        batch = collate([[_tokens(one) for one in group] for group in groups], self.batching)
        output = self.model(**{name: tensor.to(self.model.device) for name, tensor in batch.items()})
        columns = (output.values, output.rewards, output.weights, output.contributions)
        table = torch.stack(columns, dim=1).cpu()  # (R, 4, S)
        scores = output.score.tolist()
        flat = [one for group in groups for one in group]
        return [(*table[row, :, : len(one.boundaries)].tolist(), [scores[row]]) for row, one in enumerate(flat)]

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


def _tokens(one: Encoded) -> Tokens:
    return Tokens(one.ids, one.boundaries)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ModelLoadError(f"device {name!r} cannot be used: {error}. Expected auto, cpu, cuda or mps.") from error
