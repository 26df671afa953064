"""From text to sentence spans that tile it; white space belongs to the sentence before it.

The structure of the text (paragraphs, headings, list items, table rows, fenced code, display math) cuts first, then a
backend finds the ends inside: `rules` is sentencex and needs no download, `sat` is wtpsplit's SaT, the paper's choice.

The baselines that sentences are compared with take another unit in the sentence's place, whatever the structure:
`response` the whole text, `tokens` each token of the reward model, `entropy` segments that a language model finds.
"""

from __future__ import annotations

import copy
import hashlib
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sentencex

from .errors import SegmenterError
from .results import Span
from .structure import structure
from .words import SURROGATES

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

_FORMS = (
    "Write 'rules', 'rules:LANGUAGE', 'sat:NAME@THRESHOLD' or 'sat:/FOLDER@THRESHOLD', e.g. 'sat:sat-3l@0.2'; "
    "for a baseline 'response', 'tokens' or 'entropy:NAME@THRESHOLD'."
)


@dataclass(frozen=True)
class SegmenterSpec:
    """Everything that decides where sentences end; a part of the model's checkpoint.

    As a string: `rules`, `rules:en`, `sat`, `sat:sat-3l`, `sat:sat-3l@0.2`, `sat:/some/folder@0.2`, `response`,
    `tokens`, `entropy:some/model@2.0`. What stands behind the last '@' is the threshold. The defaults of `sat` are the
    paper's (arXiv 2503.04793): sat-3l at 0.2.
    """

    backend: str  # "rules", "sat", "response", "tokens" or "entropy"
    name: str = ""  # rules: language code; sat, entropy: name on the hub, or a folder that holds model and tokenizer
    threshold: float | None = None  # a sentence ends above it; sat: a probability, in (0, 1); entropy: nats

    def __post_init__(self) -> None:
        number = self.threshold or 0.0
        checks = {
            "'rules', 'sat', 'response', 'tokens' or 'entropy'": self.backend in _BACKENDS,
            "a language code such as 'en'": self.backend != "rules"
            or re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]+)*", self.name),
            f"no threshold for {self.backend!r}": self.backend in _MODELS or self.threshold is None,
            f"{self.backend!r} alone": self.backend not in ("response", "tokens") or not self.name,
            "a SaT name such as 'sat-3l', or a folder": self.backend != "sat" or self.name,
            "a threshold between 0 and 1": self.backend != "sat" or 0 < number < 1,
            "the name or folder of a causal language model": self.backend != "entropy" or self.name,
            "a threshold above 0, in nats": self.backend != "entropy" or 0 < number < float("inf"),
        }
        for expected, holds in checks.items():
            if not holds:
                raise SegmenterError(f"got segmenter {str(self)!r}, expected {expected}. {_FORMS}")

    @classmethod
    def parse(cls, text: str) -> SegmenterSpec:
        """Read the string form. Raises SegmenterError on any other text."""
        backend, colon, name = text.partition(":")
        if backend not in _MODELS:
            return cls(backend, name if colon or backend != "rules" else "en")
        default_name, default_threshold = _MODELS[backend]
        model, at, last = name.rpartition("@")
        if not at or "/" in last:  # no '@', or only one in the middle of a path
            return cls(backend, name if colon else default_name, default_threshold)
        try:
            threshold = float(last)
        except ValueError:
            expected = f"expected a number behind the '@'; or write {text}@{default_threshold}"
            raise SegmenterError(f"got {text!r}, {expected}") from None
        return cls(backend, model, threshold)

    def __str__(self) -> str:
        name = f":{self.name}" if self.name else ""
        return f"{self.backend}{name}" + ("" if self.threshold is None else f"@{self.threshold}")

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SegmenterSpec:
        """Restore what `to_dict` wrote. Raises SegmenterError on anything else."""
        try:
            return cls(**data)
        except TypeError as error:
            raise SegmenterError(f"got segmenter {data!r}, expected backend, name and threshold. {_FORMS}") from error


class Segmenter:
    """Text to sentence spans. `revision` names the package and version (and the weights) that find them."""

    spec: SegmenterSpec
    revision: str

    def spans(self, texts: Sequence[str]) -> list[list[Span]]:
        """The sentences of each text, in characters; each text is cut by itself, whatever else is in the batch.

        `"".join(text[start:end] for start, end in spans) == text`. An empty text has no span, white space alone one.
        """
        return [self._spans(text) for text in texts]

    def _spans(self, text: str) -> list[Span]:
        if not text.strip():
            return [Span(0, len(text))] if text else []
        text = SURROGATES.sub("\ufffd", text)  # Rust refuses lone surrogates; 1:1, so offsets stay
        starts, reached = [0], len(text) - len(text.lstrip())  # each cut moves past the white space behind it
        for cut in sorted(self._cuts(text)):
            if cut > reached and (ink := _INK.search(text, cut)):
                reached = ink.start()
                starts.append(reached)
        return [Span(start, end) for start, end in pairwise([*starts, len(text)])]

    def _cuts(self, text: str) -> Iterable[int]:
        """Where `text`, which is more than white space, is cut; in any order."""
        raise NotImplementedError


class SentenceSegmenter(Segmenter):
    """Cuts where the structure of the text does, and at the sentence ends that a backend finds inside."""

    def _cuts(self, text: str) -> Iterable[int]:
        cuts, fences, math = structure(text)
        blocks = [Span(start, end) for start, end in pairwise(sorted({0, *cuts, len(text)}))]
        inner = bytearray(len(text) + 1)  # 1: a position inside a region that is not cut
        for start, end in fences + math:
            inner[start + 1 : end] = b"\1" * (end - start - 1)
        return cuts + [end for end in self._ends(text, blocks) if not inner[end]]

    def _ends(self, text: str, blocks: list[Span]) -> Iterable[int]:
        """Where in `text` the backend ends a sentence; `blocks` tile it, and their edges are cut at anyway."""
        raise NotImplementedError


class RulesSegmenter(SentenceSegmenter):
    """sentencex, block by block, with its clear failings on markdown mended."""

    def __init__(self, spec: SegmenterSpec) -> None:
        self.spec = spec
        self.revision = f"sentencex {version('sentencex')}"

    def _ends(self, text: str, blocks: list[Span]) -> Iterable[int]:
        text = re.sub(r"\s", " ", text)  # white space of several bytes makes sentencex 1.0.32 panic ("A\x85.")
        for start, stop in blocks:
            block = _ATOM.sub(_as_word, text[start:stop])
            label = _LABEL.match(block)
            asides = (aside.end() for aside in re.finditer(r"[a-z][.!?][)\]]+(?=\s+[A-Z])", block))  # "(So.) Next"
            for end in chain(self._block_ends(block), asides):
                if trailing := _TRAILING.match(block, end):
                    end = trailing.end()
                if not (label and end <= label.end()) and not _INNER_DOT.match(block, end - 1):
                    yield start + end

    def _block_ends(self, block: str) -> Iterable[int]:
        """Sentence ends of one block, by windows: sentencex takes quadratic time on long non-ASCII text."""
        start, size = 0, 4000
        while start < len(block):
            found = sentencex.get_sentence_boundaries(self.spec.name, block[start : start + size])
            ends = [start + sentence["end_index"] for sentence in found]
            if start + size < len(block):
                ends.pop()  # the last sentence is read again, with what follows it
            yield from ends
            start = ends[-1] if ends and start + size < len(block) else start + size


class SatSegmenter(SentenceSegmenter):
    """wtpsplit's SaT: a sentence ends after each character whose probability is above the threshold."""

    def __init__(self, spec: SegmenterSpec) -> None:
        self.spec = spec
        try:
            is_folder = Path(spec.name).resolve(strict="/" in spec.name).is_dir()
            with warnings.catch_warnings():  # importing wtpsplit changes the filters, and leaves /dev/null open
                warnings.simplefilter("ignore", ResourceWarning)
                from wtpsplit import SaT  # here, for it takes a second
            self._sat = SaT(spec.name, tokenizer_name_or_path=spec.name) if is_folder else SaT(spec.name)
            if self._sat.model.config.model_type != "xlm-token":
                raise TypeError(f"it holds a {self._sat.model.config.model_type!r} model, not a SaT model")
            weights = _digest(self._sat.model.model.state_dict())
        except Exception as error:  # hub, tokenizers, safetensors and torch each raise their own
            raise SegmenterError(
                f"cannot load segmenter {str(spec)!r}: {type(error).__name__}: {error}\n"
                f"Expected a SaT name on the Hugging Face hub (here 'segment-any-text/{spec.name}') or a local folder "
                "with model and tokenizer ('sat:/FOLDER@THRESHOLD'). 'rules' needs no download, but cuts differently."
            ) from error
        self.revision = f"wtpsplit {version('wtpsplit')}, weights {weights}"

    def _ends(self, text: str, blocks: list[Span]) -> Iterable[int]:
        if not self._sat.tokenizer(text, add_special_tokens=False)["input_ids"]:
            return []  # control characters alone, on which predict_proba fails
        # One text a call: padding to a longer neighbour changes the rounding, and so could move a boundary.
        probabilities = self._sat.predict_proba(text, stride=64)  # (len(text),); the stride of SaT.split
        return [int(i) + 1 for i in (probabilities > self.spec.threshold).nonzero()[0]]


class ResponseSegmenter(Segmenter):
    """One span: the whole text, as a response-level reward model reads it."""

    def __init__(self, spec: SegmenterSpec) -> None:
        self.spec = spec
        self.revision = "the whole text"

    def _cuts(self, text: str) -> Iterable[int]:
        return []


class TokenSegmenter(Segmenter):
    """A span for each token of the reward model's own tokenizer, read as `encoding` reads a response.

    A token of white space joins the one before it, and so do the pieces of one character as a reader sees it.
    """

    def __init__(self, spec: SegmenterSpec, tokenizer: PreTrainedTokenizerBase | None) -> None:
        if tokenizer is None or not tokenizer.is_fast:
            got = "no tokenizer" if tokenizer is None else "a tokenizer without character offsets"
            raise SegmenterError(
                f"segmenter 'tokens' got {got}; expected the model's fast tokenizer: load_segmenter(spec, tokenizer)"
            )
        self.spec = spec
        self.revision = f"tokenizers {version('tokenizers')}"
        self._tokenizer = copy.deepcopy(tokenizer)  # splitting special tokens is state: threads would mix it up

    def _cuts(self, text: str) -> Iterable[int]:
        encoding = self._tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True, verbose=False
        )
        ends = {end for _, end in encoding["offset_mapping"][:-1]}  # characters without a token join the last one
        return [end for end in ends if 0 < end < len(text) and not _inside_character(text, end)]


class EntropySegmenter(Segmenter):
    """A segment ends after each token where a language model is unsure what comes next: where the entropy of its
    next-token distribution, in nats, is above the threshold (Yin et al., arXiv 2501.02790).

    The language model reads the response alone, so its first entropies are those of a text without its prompt.
    It runs in float32 on `device`; without one on the accelerator, if there is one. A text longer than its context (or
    than 2,048 tokens) is read in windows that overlap by half.
    """

    def __init__(self, spec: SegmenterSpec, device: torch.device | str | None = None) -> None:
        self.spec = spec
        try:
            import torch  # here, as `rules` needs neither
            from transformers import AutoModelForCausalLM, AutoTokenizer

            self._tokenizer = AutoTokenizer.from_pretrained(spec.name)
            loaded: Any = AutoModelForCausalLM.from_pretrained(spec.name, dtype=torch.float32, output_loading_info=True)
            self._model, loading = loaded
            if absent := sorted(loading["missing_keys"]):
                raise TypeError(f"its weights are not those of a causal language model: {', '.join(absent)} is missing")
            self._model.eval()
            with torch.inference_mode():  # row 1 differs in its last token alone
                logits = self._model(input_ids=torch.tensor([[1, 2, 3], [1, 2, 0]])).logits  # (2, 3, vocabulary)
            before, last = (logits[0] - logits[1]).abs().amax(-1).split([2, 1])
            if before.max() > 1e-4 * last:
                raise TypeError(f"its {self._model.config.model_type!r} model is not causal: a token sees later ones")
            self._window = min(2048, self._model.config.get_text_config().max_position_embeddings)
            weights = _digest(self._model.state_dict())
            self._model.to(device or torch.accelerator.current_accelerator(check_available=True) or "cpu")
        except Exception as error:  # hub, tokenizers, safetensors and torch each raise their own
            raise SegmenterError(
                f"cannot load segmenter {str(spec)!r}: {type(error).__name__}: {error}\n"
                "Expected a causal language model with a fast tokenizer: its name on the Hugging Face hub or a local "
                "folder ('entropy:/FOLDER@THRESHOLD')."
            ) from error
        self.revision = f"transformers {version('transformers')}, weights {weights}"

    def _cuts(self, text: str) -> Iterable[int]:
        encoding = self._tokenizer(text, return_offsets_mapping=True, split_special_tokens=True, verbose=False)
        ends = [end for _, end in encoding["offset_mapping"]][:-1]
        return [
            end
            for end, entropy in zip(ends, self._entropies(encoding["input_ids"]), strict=False)
            if entropy > (self.spec.threshold or 0.0) and not _inside_character(text, end)
        ]

    def _entropies(self, ids: list[int]) -> list[float]:
        """Entropy of the next token after each token, nats. (T,) -> (T,)"""
        import torch

        found: list[float] = []
        step = self._window // 2
        for start in range(0, max(1, len(ids) - self._window + step), step):
            window = torch.tensor([ids[start : start + self._window]], device=self._model.device)
            with torch.inference_mode():
                logits = self._model(input_ids=window).logits[0, len(found) - start :]  # (new, vocabulary)
                for part in logits.split(256):  # big vocabularies: a probability takes as much memory as its logit
                    found += torch.special.entr(part.softmax(-1)).sum(-1).tolist()
        return found


def _digest(weights: Mapping[str, Tensor]) -> str:
    """Digest of a model's weights, the same for a hub name and a copy of it in a folder."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()[:12]


_MODELS = {"sat": ("sat-3l", 0.2), "entropy": ("", 2.0)}  # backends of a model and a threshold, and their defaults
_BACKENDS: dict[str, Callable[..., Segmenter]] = {
    "rules": RulesSegmenter,
    "sat": SatSegmenter,
    "response": ResponseSegmenter,
    "tokens": TokenSegmenter,
    "entropy": EntropySegmenter,
}


def load_segmenter(
    spec: SegmenterSpec | str,
    tokenizer: PreTrainedTokenizerBase | None = None,
    device: torch.device | str | None = None,
) -> Segmenter:
    """The segmenter a specification asks for, and no other; `tokens` needs the reward model's tokenizer.

    The language model of `entropy` runs on `device`, or on the accelerator; the others run where they always do.

    Raises:
        SegmenterError: where it cannot be had.
    """
    spec = SegmenterSpec.parse(spec) if isinstance(spec, str) else spec
    if spec.backend == "entropy":
        return EntropySegmenter(spec, device)
    return TokenSegmenter(spec, tokenizer) if spec.backend == "tokens" else _BACKENDS[spec.backend](spec)


_INK = re.compile(r"\S")

# What `rules` mends of sentencex. All patterns of this file take time linear in the text.
_ATOM = re.compile(  # inline code, inline math, addresses and dotted names hold no sentence ends
    r"(?<!`)(`++)[^`]++\1(?!`)|\$\$[^$]++\$\$|\$(?![\s$])[^$]++(?<!\s)\$(?!\d)|\\\([^\\]*+(?:\\(?![()])[^\\]*+)*+\\\)"
    r"|https?://\S*[\w/]|\b\w\w++(?:\.\w\w++){2,}+"
)
_LABEL = re.compile(r"[\s#*_>+•-]*+\(?(?:\d{1,9}(?:\.\d{1,9})*+|[A-Za-z]|[ivxIVX]{2,4})[.)](?=[\s*_])[\s*_]*+")
# Closing marks, the rest of an emoji and an emoticon belong to the sentence before them: "**Bold.** Next".
_TRAILING = re.compile("(?:(?<=\\S)[*_~\"'”’»)\\]}\u200d\ufe0e\ufe0f\u0300-\u036f]++)?(?: ?[:;=]-?[)(DP]++)?(?=\\s|$)")
_INNER_DOT = re.compile(r"\.(?=[a-z_(]|[A-Z]{2,}+\b|\w++[(_.])")  # "np.Array()", "ASP.NET"; not "ends here.Next"


def _as_word(atom: re.Match[str]) -> str:
    """A word of the same length; a full stop that ends a formula moves behind it ("$x.$ Then")."""
    return "x" * (len(atom[0]) - 1) + ("." if atom[0].endswith((".$", ".$$", ".\\)")) else "x")


def _inside_character(text: str, end: int) -> bool:
    """Whether `end` stands inside one character as a reader sees it: before a mark, a skin tone or beside a joiner."""
    after = text[end : end + 1]
    joined = "\u200d" in text[end - 1 : end + 1] or "\U0001f3fb" <= after <= "\U0001f3ff"
    return joined or (after != "" and unicodedata.category(after)[0] == "M")
