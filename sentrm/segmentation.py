"""From text to sentence spans. Spans tile the text, none is white space only: it belongs to the sentence before it.

Two layers. The structure of the text (paragraphs, headings, list items, table rows, fenced code, display math) cuts
first and is the same for every backend; the backend then adds the sentence ends inside: `rules` is sentencex and needs
no download, `sat` is wtpsplit's SaT, the paper's choice. Neither ever stands in for the other.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import sentencex

from sentrm.errors import SegmenterError
from sentrm.results import Span

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
        if self.backend not in _BACKENDS:
            expected = "'rules' or 'sat'"
        elif rules and not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]+)*", self.name):
            expected = "a language code such as 'en' or 'zh'"
        elif rules and self.threshold is not None:
            expected = "no threshold for 'rules'"
        elif not self.name:
            expected = "a SaT name such as 'sat-3l', or a folder"
        elif not rules and (self.threshold is None or not 0 < self.threshold < 1):
            expected = "a threshold between 0 and 1"
        else:
            return
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
            hint = f"If the '@' belongs to a folder's name, write 'sat:{name}@0.2'."
            raise SegmenterError(f"got threshold {last!r} in {text!r}, expected a number. {hint}") from None
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


class Segmenter(ABC):
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
        starts = [0]  # each cut moves past the white space behind it
        reached = len(text) - len(text.lstrip())
        for cut in sorted(cuts):
            if cut > reached and (ink := _INK.search(text, cut)):
                reached = ink.start()
                starts.append(reached)
        return [Span(start, end) for start, end in pairwise([*starts, len(text)])]

    @abstractmethod
    def _ends(self, text: str, blocks: list[Span]) -> Iterable[int]:
        """Positions of `text` where the backend ends a sentence; `blocks` tile it and are cut at anyway."""


class RulesSegmenter(Segmenter):
    """sentencex, block by block, with its clear failings on markdown mended."""

    def __init__(self, spec: SegmenterSpec) -> None:
        self.spec = spec
        self.revision = f"sentencex {version('sentencex')}"

    def _ends(self, text: str, blocks: list[Span]) -> Iterable[int]:
        # White space of several bytes makes sentencex 1.0.32 panic ("A\x85."); all white space means a space here.
        text = re.sub(r"\s", " ", text)
        for start, stop in blocks:
            block = _ATOM.sub(_mask, text[start:stop])
            label = _LABEL.match(block)
            for end in self._block_ends(block):
                trailing = _TRAILING.match(block, end)
                end = trailing.end() if trailing else end
                if not (label and end <= label.end()) and not _INNER_DOT.match(block, end - 1):
                    yield start + end

    def _block_ends(self, block: str) -> Iterable[int]:
        """Sentence ends of one block, by windows: sentencex takes quadratic time on long non-ASCII text."""
        start, size = 0, 4000
        while start < len(block):
            found = sentencex.get_sentence_boundaries(self.spec.name, block[start : start + size])
            ends = [start + sentence["end_index"] for sentence in found]
            if start + size >= len(block):
                yield from ends
                return
            yield from ends[:-1]  # the last sentence is read again, with what follows it
            start = ends[-2] if len(ends) > 1 else start + size


class SatSegmenter(Segmenter):
    """wtpsplit's SaT: a sentence ends after each character whose probability is above the threshold."""

    def __init__(self, spec: SegmenterSpec) -> None:
        self.spec = spec
        is_folder = Path(spec.name).is_dir()
        try:
            if "/" in spec.name and not is_folder:
                raise FileNotFoundError("there is no such folder")
            with warnings.catch_warnings():  # importing wtpsplit changes the filters, and leaves /dev/null open
                warnings.simplefilter("ignore", ResourceWarning)
                from wtpsplit import SaT
            self._sat = SaT(spec.name, tokenizer_name_or_path=spec.name) if is_folder else SaT(spec.name)
            if self._sat.model.config.model_type != "xlm-token":
                raise TypeError(f"it holds a {self._sat.model.config.model_type!r} model, not a SaT model")
            digest = hashlib.sha256()  # the same for a hub name and a copy of it in a folder
            for name, tensor in sorted(self._sat.model.model.state_dict().items()):
                digest.update(name.encode() + tensor.numpy().tobytes())
        except Exception as error:  # hub, tokenizers, safetensors and torch each raise their own
            raise SegmenterError(
                f"cannot load segmenter {str(spec)!r}: {type(error).__name__}: {error}\n"
                f"Expected a SaT name found on the Hugging Face hub (here 'segment-any-text/{spec.name}'), or a local "
                "folder that holds model and tokenizer, written 'sat:/FOLDER@THRESHOLD'. 'rules' needs no download, "
                "but cuts differently: a model should be scored with the segmenter it was trained with."
            ) from error
        self.revision = f"wtpsplit {version('wtpsplit')}, weights {digest.hexdigest()[:12]}"

    def _ends(self, text: str, blocks: list[Span]) -> Iterable[int]:
        # predict_proba fails on a text without tokens (control characters alone).
        if not self._sat.tokenizer(text, add_special_tokens=False)["input_ids"]:
            return []
        # One text a call: padding to a longer neighbour changes the rounding, which could move a boundary.
        # stride=64 is what SaT.split uses, and so the paper; predict_proba alone would take 256.
        probabilities = self._sat.predict_proba(text, stride=64)  # (len(text),)
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
_QUOTE = re.compile(r"^(?:[ \t]*+>)++")
_MARKER = re.compile(r"\s*+(?:[-*+•◦▪‣–—]|\(?(?:\d{1,9}|[A-Za-z]|[ivxIVX]{2,4})[.)])(?:\s++|$)")  # of a list item
_FENCE = re.compile(r"(`{3,}+)[^`]*+$|(~{3,}+)")
_UNDERLINE = re.compile(r"[|:\s]*+[-=][-=|:\s]*+$")  # of a heading, or between the head and the body of a table
_MATH = {"$$": "$$", "\\[": "\\]"}  # display math: opening -> closing


def _mask(atom: re.Match[str]) -> str:
    """The atom as a word of the same length; a full stop that ends a formula stands behind it ("$x.$ Then")."""
    text = atom.group()
    last = text.rstrip("$)\\")[-1] if text[0] in "$\\" else ""
    return "x" * (len(text) - 1) + (last if last in (".", "!", "?") else "x")


def _structure(text: str) -> tuple[list[int], list[Span]]:
    """Where the structure of the text cuts, and the regions nothing may cut: fenced code and display math."""
    cuts: list[int] = []
    whole: list[Span] = []
    closer = ""  # what ends the open fence or display math
    opened = 0  # where that began
    column = 0  # where the text of the enclosing list item begins: a fence may be indented 3 more
    previous = ""  # the line above; empty at the start, after a blank line and after a fence
    for match in _LINE.finditer(text):
        start, end = match.span()
        line = _QUOTE.sub("", match.group()).expandtabs(4)
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if closer[:1] in ("`", "~"):
            if stripped.startswith(closer) and not stripped.strip(closer[0]) and indent <= column + 3:
                cuts.append(end)
                whole.append(Span(opened, end))
                closer = previous = ""
        elif not stripped:
            if closer:  # unclosed display math ends at a blank line
                whole.append(Span(opened, start))
            closer = previous = ""
        elif closer:
            if closer in stripped:
                whole.append(Span(opened, start + match.group().find(closer) + len(closer)))
                closer, previous = "", stripped
        else:
            item = _MARKER.match(line)
            body = line[item.end() :].strip() if item else stripped
            if item:
                column = item.end()
            elif not previous and indent < column:
                column = 0
            fence = _FENCE.match(body) if item or indent <= column + 3 else None
            if fence or not previous or not _goes_on(previous, stripped):
                cuts.append(start)
            if fence:
                closer, opened = fence[1] or fence[2], start
            elif body[:2] in _MATH and _MATH[body[:2]] not in body[2:]:
                closer, opened = _MATH[body[:2]], start
            previous = stripped
    if closer:
        whole.append(Span(opened, len(text)))
    return cuts, whole


def _goes_on(previous: str, line: str) -> bool:
    """Whether the newline between two lines that are not blank stands inside one sentence (a soft wrap)."""
    if _UNDERLINE.match(line):
        return not _UNDERLINE.match(previous)
    if previous[-1] in "|:：" or re.match(r"#{1,6}\s", previous) or _UNDERLINE.match(previous):
        return False  # a row, a lead-in, a heading
    if line[0] == "|" or _MARKER.match(line) or (" | " in line and " | " in previous):
        return False
    return line.lstrip("\"'“‘([*_`")[:1].islower()
