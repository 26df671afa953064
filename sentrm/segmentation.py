"""From text to sentence spans that tile it; white space belongs to the sentence before it.

The structure of the text (paragraphs, headings, list items, table rows, fenced code, display math) cuts first, then a
backend finds the ends inside: `rules` is sentencex and needs no download, `sat` is wtpsplit's SaT, the paper's choice.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import sentencex

from .errors import SegmenterError
from .results import Span

_FORMS = "Write 'rules', 'rules:LANGUAGE', 'sat:NAME@THRESHOLD' or 'sat:/FOLDER@THRESHOLD', e.g. 'sat:sat-3l@0.2'."


@dataclass(frozen=True)
class SegmenterSpec:
    """Everything that decides where sentences end; a part of the model's checkpoint.

    As a string: `rules`, `rules:en`, `sat`, `sat:sat-3l`, `sat:sat-3l@0.2`, `sat:/some/folder@0.2`. What stands behind
    the last '@' is the threshold. The defaults of `sat` are the paper's (arXiv 2503.04793): sat-3l at 0.2.
    """

    backend: str  # "rules" or "sat"
    name: str  # rules: language code; sat: SaT name, or a folder that holds a SaT model and its tokenizer
    threshold: float | None = None  # sat: a sentence ends where the probability is above this, in (0, 1)

    def __post_init__(self) -> None:
        rules = self.backend == "rules"
        checks = {
            "'rules' or 'sat'": self.backend in _BACKENDS,
            "a language code such as 'en'": not rules or re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]+)*", self.name),
            "no threshold for 'rules'": not rules or self.threshold is None,
            "a SaT name such as 'sat-3l', or a folder": self.name,
            "a threshold between 0 and 1": rules or (self.threshold is not None and 0 < self.threshold < 1),
        }
        for expected, holds in checks.items():
            if not holds:
                raise SegmenterError(f"got segmenter {str(self)!r}, expected {expected}. {_FORMS}")

    @classmethod
    def parse(cls, text: str) -> SegmenterSpec:
        """Read the string form. Raises SegmenterError on any other text."""
        backend, colon, name = text.partition(":")
        if backend != "sat":
            return cls(backend, name if colon else "en")
        model, at, last = name.rpartition("@")
        if not at or "/" in last:  # no '@', or only one in the middle of a path
            return cls("sat", name if colon else "sat-3l", 0.2)
        try:
            threshold = float(last)
        except ValueError:
            raise SegmenterError(f"got {text!r}, expected a number behind the '@'; or write {text}@0.2") from None
        return cls("sat", model, threshold)

    def __str__(self) -> str:
        return f"{self.backend}:{self.name}" + ("" if self.threshold is None else f"@{self.threshold}")

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
        text = re.sub("[\ud800-\udfff]", "\ufffd", text)  # Rust refuses lone surrogates; 1:1, so offsets stay
        cuts, whole = _structure(text)
        blocks = [Span(start, end) for start, end in pairwise(sorted({0, *cuts, len(text)}))]
        inner = bytearray(len(text) + 1)  # 1: a position inside a region that is not cut
        for start, end in whole:
            inner[start + 1 : end] = b"\1" * (end - start - 1)
        cuts += [end for end in self._ends(text, blocks) if not inner[end]]
        starts, reached = [0], len(text) - len(text.lstrip())  # each cut moves past the white space behind it
        for cut in sorted(cuts):
            if cut > reached and (ink := _INK.search(text, cut)):
                reached = ink.start()
                starts.append(reached)
        return [Span(start, end) for start, end in pairwise([*starts, len(text)])]

    def _ends(self, text: str, blocks: list[Span]) -> Iterable[int]:
        """Where in `text` the backend ends a sentence; `blocks` tile it, and their edges are cut at anyway."""
        raise NotImplementedError


class RulesSegmenter(Segmenter):
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


class SatSegmenter(Segmenter):
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
            digest = hashlib.sha256()  # the same for a hub name and a copy of it in a folder
            for name, tensor in sorted(self._sat.model.model.state_dict().items()):
                digest.update(name.encode())
                digest.update(tensor.contiguous().numpy())
        except Exception as error:  # hub, tokenizers, safetensors and torch each raise their own
            raise SegmenterError(
                f"cannot load segmenter {str(spec)!r}: {type(error).__name__}: {error}\n"
                f"Expected a SaT name on the Hugging Face hub (here 'segment-any-text/{spec.name}') or a local folder "
                "with model and tokenizer ('sat:/FOLDER@THRESHOLD'). 'rules' needs no download, but cuts differently."
            ) from error
        self.revision = f"wtpsplit {version('wtpsplit')}, weights {digest.hexdigest()[:12]}"

    def _ends(self, text: str, blocks: list[Span]) -> Iterable[int]:
        if not self._sat.tokenizer(text, add_special_tokens=False)["input_ids"]:
            return []  # control characters alone, on which predict_proba fails
        # One text a call: padding to a longer neighbour changes the rounding, and so could move a boundary.
        probabilities = self._sat.predict_proba(text, stride=64)  # (len(text),); the stride of SaT.split
        return [int(i) + 1 for i in (probabilities > self.spec.threshold).nonzero()[0]]


_BACKENDS: dict[str, Callable[[SegmenterSpec], Segmenter]] = {"rules": RulesSegmenter, "sat": SatSegmenter}


def load_segmenter(spec: SegmenterSpec | str) -> Segmenter:
    """The segmenter a specification asks for, and no other. Raises SegmenterError where it cannot be had."""
    spec = SegmenterSpec.parse(spec) if isinstance(spec, str) else spec
    return _BACKENDS[spec.backend](spec)


# What `rules` mends of sentencex. All patterns of this file take time linear in the text.
_ATOM = re.compile(  # inline code, inline math, addresses and dotted names hold no sentence ends
    r"(?<!`)(`++)[^`]++\1(?!`)|\$\$[^$]++\$\$|\$(?![\s$])[^$]++(?<!\s)\$(?!\d)|\\\([^\\]*+(?:\\(?![()])[^\\]*+)*+\\\)"
    r"|https?://\S*[\w/]|\b\w\w++(?:\.\w\w++){2,}+"
)
_LABEL = re.compile(r"[\s#*_>+•-]*+\(?(?:\d{1,9}(?:\.\d{1,9})*+|[A-Za-z]|[ivxIVX]{2,4})[.)](?=[\s*_])[\s*_]*+")
# Closing marks, the rest of an emoji and an emoticon belong to the sentence before them: "**Bold.** Next".
_TRAILING = re.compile("(?:(?<=\\S)[*_~\"'”’»)\\]}\u200d\ufe0e\ufe0f\u0300-\u036f]++)?(?: ?[:;=]-?[)(DP]++)?(?=\\s|$)")
_INNER_DOT = re.compile(r"\.(?=[a-z_(]|[A-Z]{2,}+\b|\w++[(_.])")  # "np.Array()", "ASP.NET"; not "ends here.Next"

# Structure: lines as CommonMark and GitHub's tables see them.
_INK = re.compile(r"\S")
_LINE = re.compile("[^\n\r\x85\u2028\u2029]*+(?:\r\n|[\n\r\x85\u2028\u2029])|[^\n\r\x85\u2028\u2029]++")
_MARKER = re.compile(r"\s*+(?:[-*+•◦▪‣–—]|\(?(?:\d{1,9}|[A-Za-z]|[ivxIVX]{2,4})[.)])(?:\s++|$)")  # of a list item
_UNDERLINE = re.compile(r"[|:\s]*+[-=][-=|:\s]*+$")  # of a heading, or between the head and the body of a table


def _as_word(atom: re.Match[str]) -> str:
    """A word of the same length; a full stop that ends a formula moves behind it ("$x.$ Then")."""
    return "x" * (len(atom[0]) - 1) + ("." if atom[0].endswith((".$", ".$$", ".\\)")) else "x")


def _structure(text: str) -> tuple[list[int], list[Span]]:
    """Where the structure of the text cuts, and the regions nothing may cut: fenced code and display math."""
    cuts, whole, pending = list[int](), list[Span](), list[int]()  # pending: lines of display math that is still open
    closer, opened = "", 0  # what ends the open fence or display math, and where that began
    column = 0  # where the text of the enclosing list item begins: a fence may be indented 3 more
    previous = ""  # the line above; empty at the start, after a blank line and after a fence
    for match in _LINE.finditer(text):
        start, end = match.span()
        line = re.sub(r"^(?:[ \t]*+>)++", "", match.group()).expandtabs(4)  # out of its block quotes
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if closer[:1] in ("`", "~"):
            if stripped.startswith(closer) and not stripped.strip(closer[0]) and indent <= column + 3:
                cuts.append(end)
                whole.append(Span(opened, end))
                closer = previous = ""
        elif not stripped:
            cuts += pending  # display math does not reach over a blank line
            closer, previous, pending = "", "", []
        elif closer:
            pending.append(start)
            if closer in stripped:
                whole.append(Span(opened, start + match.group().find(closer) + len(closer)))
                closer, previous, pending = "", stripped, []
        else:
            item = _MARKER.match(line)
            body = line[item.end() :].strip() if item else stripped
            column = item.end() if item else column if previous or indent >= column else 0
            fence = re.match(r"(`{3,}+)[^`]*+$|(~{3,}+)", body) if item or indent <= column + 3 else None
            if fence or not previous or not _goes_on(previous, stripped):
                cuts.append(start)
            math = {"$$": "$$", "\\[": "\\]"}.get(body[:2], "")
            if fence or (math and math not in body[2:]):
                closer, opened = (fence[1] or fence[2]) if fence else math, start
            previous = stripped
    if closer[:1] in ("`", "~"):
        whole.append(Span(opened, len(text)))
    return cuts + pending, whole


def _goes_on(previous: str, line: str) -> bool:
    """Whether one sentence goes on over the newline between two lines that are not blank (a soft wrap)."""
    if _UNDERLINE.match(line):
        return not _UNDERLINE.match(previous)
    ended = previous[-1] in "|:：" or re.match(r"#{1,6}\s", previous) or _UNDERLINE.match(previous)
    begins = line[0] == "|" or _MARKER.match(line) or (" | " in line and " | " in previous)
    return not ended and not begins and line.lstrip("\"'“‘([*_`")[:1].islower()
