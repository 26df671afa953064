"""Text in, results out: `Scorer` segments, encodes, runs the model once a response, and returns frozen results."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, overload

import torch
from transformers import PreTrainedTokenizerBase

from .batching import STRATEGIES, Tokens, buckets, collate, reading, tokens_read, usable
from .classifiers import ClassifierEncoder, OnePassClassifier, OnePassEncoder, PrefixClassifier, load_classifier
from .configuration import SentenceRewardConfig
from .encoding import Encoded, Encoder
from .errors import EncodingError, ModelLoadError, ScoringError
from .loading import DTYPES, load_model, read_device, read_revision, read_scorable
from .modeling import SentenceRewardModel, SentenceRewardOutput
from .preferences import SIDES, PreferencePair
from .results import ModelInfo, Prompt, ScoredPair, ScoredResponse, SegmenterInfo, Span, is_prompt
from .segmentation import Segmenter, SegmenterSpec, load_segmenter

PROMPT_FORMS = "text or chat messages, each with a role and content as text"  # what errors say
BY_HAND = SegmenterInfo("by hand", "", own=False)  # of sentences that the caller cut
Columns = tuple[list[float], ...]  # values, rewards, weights, contributions, (N + 1,) each, and the score, (1,)
Item = tuple[Prompt, str] | tuple[Prompt, str, Sequence[Span]]  # cut by the segmenter, or by hand


class Reading(NamedTuple):
    """One response as the model reads it."""

    prompt: Prompt
    text: str
    encoded: Encoded
    segmenter: SegmenterInfo  # what cut it


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
            name_or_path: local folder or hub id of a saved `SentenceRewardModel` with its tokenizer, or of any
                `*ForSequenceClassification` with one label, see `sentrm.classifiers`.
            segmenter: e.g. "rules" or "sat:sat-3l@0.2", instead of the one the model was trained with; every
                result then says so. A classifier was trained with none: "rules".
            device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", …
            dtype: "auto" (float32 on a CPU, else as saved), "float32", "bfloat16" or "float16".
            max_length: most tokens a sequence may take, instead of the checkpoint's.
            batching: how sequences stand in a batch, see `sentrm.batching`; the numbers are the same. A model that
                another strategy than "padded" does not suit is read padded, and the log says why.

        Raises:
            ModelLoadError: if there is no such model, it is of another kind, or the device or dtype does not exist.
            SegmenterError: if the segmenter cannot be loaded.
        """
        config = read_scorable(name_or_path)
        target = read_device(device)
        if dtype != "auto" and dtype not in DTYPES:
            raise ModelLoadError(f"dtype is {dtype!r}; expected auto, {', '.join(DTYPES)}.")
        read_as = "float32" if (dtype, target.type) == ("auto", "cpu") else dtype
        if isinstance(config, SentenceRewardConfig):
            model, tokenizer = load_model(name_or_path, config, read_as)
        else:
            model, tokenizer = load_classifier(name_or_path, config, read_as)
        longest = model.config.max_length
        if max_length is not None and not 8 <= max_length <= longest:
            raise ModelLoadError(f"max length is {max_length}; this model takes from 8 to {longest} tokens.")
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
        asked = SegmenterSpec.parse(segmenter) if segmenter else SegmenterSpec.from_dict(config.segmenter)
        loaded, segmenter_info = _load_segmenter(asked, tokenizer, model)
        if batching not in STRATEGIES:
            raise ModelLoadError(f"batching is {batching!r}; expected one of {', '.join(STRATEGIES)}.")
        on_cpu = model.device.type == "cpu"  # small batches cost a CPU nothing and hold less padding
        kinds = {OnePassClassifier: OnePassEncoder, PrefixClassifier: ClassifierEncoder}
        encoder = kinds.get(type(model), Encoder)(tokenizer, config, max_length)
        encoder.cuts_responses = asked.backend == "response"
        return cls(
            model=model.eval(),
            encoder=encoder,
            segmenter=loaded,
            model_info=ModelInfo(name, revision, config.aggregator, config.median_reward),
            segmenter_info=segmenter_info,
            batch_tokens=2048 if on_cpu else 16384,
            batching="padded" if isinstance(model, PrefixClassifier) else usable(model, batching, encoder.max_length),
        )

    def cut_by(self, segmenter: str) -> Scorer:
        """The same model, its text cut by another segmenter, e.g. "rules", "tokens", "response".

        Raises:
            SegmenterError: if there is no such segmenter, or it cannot be loaded.
        """
        spec = SegmenterSpec.parse(segmenter)
        loaded, info = _load_segmenter(spec, self.encoder.tokenizer, self.model)
        encoder = copy.copy(self.encoder)
        encoder.cuts_responses = spec.backend == "response"
        return replace(self, encoder=encoder, segmenter=loaded, segmenter_info=info)

    @overload
    def score(
        self, items: Sequence[PreferencePair], *, progress: Callable[[int, int], None] | None = None
    ) -> list[ScoredPair]: ...

    @overload
    def score(
        self,
        items: Sequence[Item],
        *,
        names: Sequence[str] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[ScoredResponse]: ...

    def score(self, items, *, names=None, progress=None):  # type: ignore[no-untyped-def]
        """Score pairs or single responses.

        Args:
            items: all `PreferencePair` (a result's a is the chosen, b the rejected response), or all
                `(prompt, response)` or `(prompt, response, spans)`: sentences cut by hand, said in the result.
            names: of responses, for error messages, instead of "item 1", ….
            progress: called with (responses scored, responses in all) after each batch.

        Returns:
            One `ScoredPair` or `ScoredResponse` an item, in order. Scores do not depend on what else is scored; those
            of items that the model reads as the same are equal to the last bit.

        Raises:
            EncodingError: if not even the first sentence of an item fits the model; it says which item.
            ScoringError: for items of another kind, spans that do not tile their response, or if the model's numbers
                are not finite.
        """
        if not items:
            return []
        kinds = {type(item) for item in items}
        if kinds == {tuple} and {len(item) for item in items} <= {2, 3}:
            names = names or [f"item {i}" for i in range(1, len(items) + 1)]
            return self.score_readings(self.encode(items, names), progress)
        if kinds != {PreferencePair}:
            got = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise ScoringError(
                f"got items of {got}; expected all PreferencePair, or all tuples (prompt, response) or "
                "(prompt, response, spans)."
            )
        scored = self.score_readings(self._encode_pairs(items), progress)
        return [ScoredPair(pair.id, a, b) for pair, a, b in zip(items, scored[::2], scored[1::2], strict=True)]

    def score_fitting(
        self, pairs: Sequence[PreferencePair], progress: Callable[[int, int], None] | None = None
    ) -> list[ScoredPair | EncodingError]:
        """As `score`, with the reason in the place of each pair that does not fit the model.

        Raises:
            ScoringError: as `score`.
        """
        found = self._encode_fitting(pairs)
        readings = [reading for two in found if not isinstance(two, EncodingError) for reading in two]
        scored = iter(self.score_readings(readings, progress))
        return [
            two if isinstance(two, EncodingError) else ScoredPair(pair.id, next(scored), next(scored))
            for pair, two in zip(pairs, found, strict=True)
        ]

    def _encode_pairs(self, pairs: Sequence[PreferencePair], first: int = 1) -> list[Reading]:
        """Chosen and rejected of each pair in turn; a pair without an id is called by its number, from `first`."""
        responses = [(pair.prompt, text) for pair in pairs for text in (pair.chosen, pair.rejected)]
        names = [f"{side} of pair {pair.id or i}" for i, pair in enumerate(pairs, first) for side in SIDES]
        return self.encode(responses, names, [pair for pair in pairs for _ in SIDES])

    def _encode_fitting(
        self, pairs: Sequence[PreferencePair], first: int = 1
    ) -> list[tuple[Reading, Reading] | EncodingError]:
        """What does not fit is found by halving, for segmenters like batches."""
        try:
            readings = self._encode_pairs(pairs, first)
        except EncodingError as error:
            if len(pairs) == 1:
                return [error]
            half = len(pairs) // 2
            return self._encode_fitting(pairs[:half], first) + self._encode_fitting(pairs[half:], first + half)
        return list(zip(readings[::2], readings[1::2], strict=True))

    def encode(
        self, items: Sequence[Item], names: Sequence[str], pairs: Sequence[PreferencePair] | None = None
    ) -> list[Reading]:
        """What the model reads of each response.

        Args:
            items: `(prompt, response)`, cut by the segmenter, or `(prompt, response, spans)`.
            names: of the items, for error messages.
            pairs: the pair each item is of, chosen and rejected in turn, if it is of one.

        Raises:
            EncodingError, ScoringError: as `score`.
        """
        for name, (prompt, text, *cut) in zip(names, items, strict=True):
            if not is_prompt(prompt) or not isinstance(text, str):
                got = f"a prompt of {type(prompt).__name__} and a response of {type(text).__name__}"
                raise ScoringError(f"{name}: got {got}; expected {PROMPT_FORMS}, and text.")
            if cut and not _tile(cut[0], text):
                raise ScoringError(
                    f"{name}: got spans {cut[0]!s:.200} of a response of {len(text)} characters; expected pairs "
                    "(start, end), none empty, each beginning where the one before ends, the first at 0, the last "
                    "ending with the text."
                )
        found = iter(self.segmenter.spans([item[1] for item in items if len(item) == 2]))
        readings = []
        for i, (name, item) in enumerate(zip(names, items, strict=True)):
            prompt, text = item[:2]
            by_hand = len(item) == 3
            spans = [Span(*span) for span in item[2]] if len(item) == 3 else next(found)
            pair = pairs[i] if pairs else None
            try:
                if pair is None:
                    one = self.encoder.encode(prompt, text, spans)
                elif pair.tokens is None:
                    given: dict[str, Any] = {"tools": pair.tools, "chat_template_kwargs": pair.chat_template_kwargs}
                    one = self.encoder.encode(prompt, text, spans, **given)
                else:  # pre-tokenised: the texts are decoded
                    prompt, text, one = self.encoder.decode(pair.tokens.ids[i % 2], pair.tokens.boundaries[i % 2])
            except EncodingError as error:
                raise EncodingError(f"{name}: {error}") from error
            readings.append(Reading(prompt, text, one, BY_HAND if by_hand else self.segmenter_info))
        return readings

    def score_readings(
        self, items: Sequence[Reading], progress: Callable[[int, int], None] | None = None
    ) -> list[ScoredResponse]:
        """Score what `encode` returned, in order; `progress` and the promises as in `score`.

        Raises:
            ScoringError: if the model's numbers are not finite.
        """
        same: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = {}
        for index, item in enumerate(items):
            same.setdefault((tuple(item.encoded.ids), tuple(item.encoded.boundaries)), []).append(index)
        indices = list(same.values())  # of the items that the model reads as the same, which have the same numbers
        encoded = [items[first].encoded for first, *_ in indices]
        results: dict[int, ScoredResponse] = {}
        for batch in self._batches(encoded):
            rows = self._forward([[encoded[number] for number in group] for group in batch])
            for number, row in zip([number for group in batch for number in group], rows, strict=True):
                results |= {index: self.result(items[index], row) for index in indices[number]}
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
    def _forward(self, groups: list[list[Encoded]]) -> list[Columns]:
        """The numbers of each sequence of all groups, in order."""
        if isinstance(self.model, PrefixClassifier):
            return self.model.read_prefixes([one for group in groups for one in group], self.batch_tokens)
        batch = collate([[_tokens(one) for one in group] for group in groups], self.batching)
        with reading(self.model, self.batching):
            output = self.model(**{name: tensor.to(self.model.device) for name, tensor in batch.items()})
        return columns(output)

    def result(self, reading: Reading, numbers: Columns) -> ScoredResponse:
        """Raises ScoringError if a number is not finite."""
        if not all(math.isfinite(number) for column in numbers for number in column):
            raise ScoringError("the model's numbers are not finite. Try dtype float32, or check how it was trained.")
        values, rewards, weights, contributions, score = map(tuple, numbers)
        prompt, text, one, segmenter = reading
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
            segmenter=segmenter,
        )


def _load_segmenter(
    spec: SegmenterSpec, tokenizer: PreTrainedTokenizerBase, model: SentenceRewardModel
) -> tuple[Segmenter, SegmenterInfo]:
    """A segmenter, and what results say of it: whether it is the one the model was trained with."""
    loaded = load_segmenter(spec, tokenizer, model.device)
    own = spec == SegmenterSpec.from_dict(model.config.segmenter)
    own = own and model.config.segmenter_revision in (None, loaded.revision)
    return loaded, SegmenterInfo(str(spec), loaded.revision, own)


def columns(output: SentenceRewardOutput) -> list[Columns]:
    """The numbers of each of R sequences, without their padding."""
    named = (output.values, output.rewards, output.weights, output.contributions)
    table = torch.stack(named, dim=1).cpu()  # (R, 4, S)
    sizes, scores = output.mask.sum(1).tolist(), output.score.tolist()
    return [(*table[row, :, :size].tolist(), [scores[row]]) for row, size in enumerate(sizes)]


def _tile(spans: Sequence[Span], text: str) -> bool:
    try:
        ends = [0, *(end for _, end in spans)]
        return ends[-1] == len(text) and all(
            start == before < end for (start, end), before in zip(spans, ends, strict=False)
        )
    except (TypeError, ValueError):  # no pairs of numbers
        return False


def _tokens(one: Encoded) -> Tokens:
    return Tokens(one.ids, one.boundaries)
