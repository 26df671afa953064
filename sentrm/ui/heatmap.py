"""The heatmap of a scored pair: what it shows (`heatmap_value`, a pure function) and the component that draws it.

Decisions:
- One scale for both responses, symmetric around a named baseline, the model's median sentence reward: a reward
  has no zero of its own. Seven classes of equal width whose edges are round numbers.
- Colour is the reward; the bar under a sentence is its weight, full width at three times an even share.
- A baseline's tokens and segments are drawn as running text with all its white space, a response as one block.
- Every number is formatted here, so the page can be tested without a browser; the browser only places text.
- The template is fixed and text reaches the page through `textContent` alone: no response can inject markup.
"""

from __future__ import annotations

import math
import re
from abc import ABCMeta
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.component_meta import ComponentMeta

from ..results import ScoredPair, ScoredResponse
from .words import counted, margin_line, plain, signed, unit_of, verdict, visible, weight_of

# ColorBrewer 2.0 (Cynthia Brewer, colorbrewer2.org), the inner seven of the nine-class diverging ramps, below to above.
PALETTES = {
    "RdBu": ("#d6604d", "#f4a582", "#fddbc7", "#f7f7f7", "#d1e5f0", "#92c5de", "#4393c3"),
    "PuOr": ("#e08214", "#fdb863", "#fee0b6", "#f7f7f7", "#d8daeb", "#b2abd2", "#8073ac"),
}
INK_ON_COLOUR = "#06080c"  # text on every class of both ramps, in light and dark mode
FULL_BAR = 3.0  # a bar of full width is this many even shares

_MANTISSAS = (1.0, 1.2, 1.6, 2.0, 2.4, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
_FENCE = re.compile(r"^[ \t]*(`{3,}(?=[^`\n]*$)|~{3,})(?:.*?^[ \t]*\1|.*)", re.MULTILINE | re.DOTALL)
_LIST_MARKER = re.compile(r"(?:[-*+•]|\d{1,3}[.)])\s")


@dataclass(frozen=True)
class Scale:
    """Seven classes of equal width around `centre`: class 3 holds the centre, 0 is far below it, 6 far above."""

    centre: float  # logits
    step: float  # the width of one class, logits

    @classmethod
    def around(cls, centre: float, rewards: list[float]) -> Scale:
        """The narrowest scale with round edges that holds every reward."""
        reach = max((abs(reward - centre) for reward in rewards), default=0.0)
        wanted = max(reach / 3.5, 0.01)  # a floor: rewards that hardly differ shall not look far apart
        power = 10.0 ** math.floor(math.log10(wanted))
        mantissa = next(m for m in _MANTISSAS if m * power >= wanted * (1 - 1e-9))
        return cls(centre, float(f"{mantissa * power:.6g}"))

    @property
    def edges(self) -> tuple[float, ...]:
        """The eight edges of the classes, logits above the centre. (8,)"""
        return tuple(self.step * (k - 3.5) for k in range(8))

    @property
    def ticks(self) -> tuple[str, ...]:
        """The edges as text, with as many decimals as the narrowest needs. (8,)"""
        half = f"{self.step / 2:.6f}".rstrip("0")
        return tuple(signed(edge, len(half) - half.index(".") - 1) for edge in self.edges)

    def class_of(self, reward: float) -> int:
        """The class of a reward, 0..6."""
        return min(6, max(0, math.floor((reward - self.centre) / self.step + 0.5) + 3))


def even_share(response: ScoredResponse) -> float:
    """The weight each boundary would have if all had the same; a prompt that takes no part has none."""
    parts = len(response.weights) - (response.weights[0] == 0)
    return math.fsum(response.weights) / parts if parts else 0.0


def heatmap_value(pair: ScoredPair, notices: tuple[str, ...] = ()) -> dict[str, Any]:
    """What the heatmap shows of a pair: text, classes and lengths, JSON-safe, formatted.

    `notices` are sentences about the input that the page wants shown above the responses; those about what the
    model did not read are added here.
    """
    median, segmenter = pair.a.model.median_reward, pair.a.segmenter
    unit = unit_of(segmenter.spec)
    centre = median if median is not None and segmenter.own else 0.0
    scale = Scale.around(centre, [*pair.a.rewards[1:], *pair.b.rewards[1:]])
    digits = 2 if scale.step >= 0.1 else 3
    if median is None:
        baseline = f"zero (this model stores no median {unit})"
    elif segmenter.own:
        baseline = f"the model's median {unit} ({signed(median, digits)})"
    else:
        baseline = "zero (the model's median is that of another segmenter)"
    return {
        "unit": unit,
        "running": unit in ("token", "segment"),  # drawn as running text, one a row only if asked for
        "verdict": {
            "words": verdict(pair.probability),
            "probability": pair.probability,
            "margin": margin_line(pair.a.score, pair.b.score, digits),
            "scores": [signed(pair.a.score, digits), signed(pair.b.score, digits)],
        },
        "legend": {
            "label": f"reward, logits above {baseline}",
            "ticks": list(scale.ticks),
        },
        "notices": [*notices, *_notices(pair)],
        "sides": [_side("A", pair.a, scale, digits), _side("B", pair.b, scale, digits)],
    }


def message_value(message: str) -> dict[str, Any]:
    """What the heatmap shows in place of a result: one message."""
    return {"message": visible(message)}


def _notices(pair: ScoredPair) -> list[str]:
    notices = []
    unit = unit_of(pair.a.segmenter.spec)
    cut = max(pair.a.cut_prompt_tokens, pair.b.cut_prompt_tokens)
    if cut:
        notices.append(
            f"The prompt is longer than the model can read: its first {counted(cut, 'token')} were not read."
        )
    for name, response in (("A", pair.a), ("B", pair.b)):
        if response.dropped_sentences:
            whole = response.dropped_sentences + len(response.spans)
            which = f"last {response.dropped_sentences:,} of {counted(whole, unit)} were"
            if unit == "response":
                which = "end was"
            notices.append(
                f"Response {name} is longer than the model can read: its {which} not read, nor counted in the score."
            )
    if not pair.a.segmenter.own:
        notices.append(
            f"The text was cut by {pair.a.segmenter.spec}, which is not the segmenter this model was trained with."
        )
    return [visible(notice) for notice in notices]


def _side(name: str, response: ScoredResponse, scale: Scale, digits: int) -> dict[str, Any]:
    even = even_share(response)
    unit = unit_of(response.segmenter.spec)
    count = len(response.spans)
    fences = [match.span() for match in _FENCE.finditer(response.text)]
    sentences = []
    for i, (start, end) in enumerate(response.spans, start=1):
        place = "the whole response" if unit == "response" else f"{unit} {i} of {count}"
        reward, weight, contribution = response.rewards[i], response.weights[i], response.contributions[i]
        times = weight / even if even else 0.0
        sentences.append(
            {
                **_structure(response.text, start, end),
                **({"parts": _parts(response.text, fences)} if unit == "response" and fences else {}),
                "code": unit != "response" and _inside(start, fences),
                "class": scale.class_of(reward),
                "reward": signed(reward, digits),
                "exact": signed(reward, 3),
                "above": f"{plain(abs(reward - scale.centre), 3)} "
                f"{'above' if reward >= scale.centre else 'below'} the baseline",
                "value": f"{plain(response.values[i - 1], 3)} → {plain(response.values[i], 3)}",
                "weight": weight_of(response.weights, i),
                "even": f"{plain(times, 1)} × even",
                "bar": round(100 * max(0.0, min(1.0, times / FULL_BAR)), 2),
                "over": times > FULL_BAR,
                "contribution": signed(contribution, 3),
                "tokens": counted(response.tokens[i - 1], "token"),
                "title": f"{name} · {place}",
                "label": f"{place.capitalize()}, reward {signed(reward, digits)}, weight "
                f"{weight_of(response.weights, i).replace('%', ' percent')}, contribution {signed(contribution, 3)}",
            }
        )
    tail = response.text[response.spans[-1].end :] if response.spans else response.text
    return {
        "name": name,
        "meta": (f"{counted(count, unit)} · " if unit in ("sentence", "segment") else "")
        + counted(sum(response.tokens), "token"),
        "sentences": sentences,
        "prompt_term": {
            "reward": signed(response.rewards[0], digits),
            "weight": weight_of(response.weights, 0),
            "contribution": signed(response.contributions[0], 3),
        },
        "sum": {
            "sentences": signed(math.fsum(response.contributions[1:]), 3),
            "prompt": signed(response.contributions[0], 3),
            "score": signed(response.score, 3),
        },
        "tail": visible(tail) if response.dropped_sentences else "",
        "tail_note": "not read" if unit == "response" else f"not read: {counted(response.dropped_sentences, unit)}",
    }


def _inside(position: int, fences: list[tuple[int, int]]) -> bool:
    return any(start <= position < end for start, end in fences)


def _parts(text: str, fences: list[tuple[int, int]]) -> list[tuple[str, bool]]:
    """A whole response's text without the white space around it, in parts, and whether each is a fenced block."""
    start = len(text) - len(text.lstrip())
    end = max(start, len(text.rstrip()))
    edges = {start, end, *(edge for fence in fences for edge in fence if start < edge < end)}
    return [(visible(text[i:j]), _inside(i, fences)) for i, j in pairwise(sorted(edges))]


def _structure(text: str, start: int, end: int) -> dict[str, Any]:
    """A sentence's own text, and how it stands in the response: the line breaks before it and its indentation.

    White space belongs to the sentence before it, so the indentation of a list item is read from there.
    """
    raw = text[start:end]
    core = raw.strip()
    at = start + raw.index(core)
    before = text[: at if core else start]
    space = _line_feeds(before[len(before.rstrip()) :])
    return {
        "text": visible(core) or "(white space)",
        "gap": min(2, space.count("\n")),
        "indent": min(24, len(space.rpartition("\n")[2].expandtabs(4))) if "\n" in space or at == len(space) else 0,
        "item": bool(_LIST_MARKER.match(core)),
        "lead": _line_feeds(visible(raw[: raw.index(core)])) if core else "",
        "trail": _line_feeds(visible(raw[raw.index(core) + len(core) :])),
    }


def _line_feeds(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


_HERE = Path(__file__).parent


class _NoStub(ComponentMeta):
    """Gradio's own metaclass writes a .pyi file beside each component's source, and type checkers would read it."""

    def __new__(cls, name: str, bases: tuple[type, ...], attrs: dict[str, Any]) -> type:
        return ABCMeta.__new__(cls, name, bases, attrs)


class PairHeatmap(gr.HTML, metaclass=_NoStub):
    """Draws what `heatmap_value` or `message_value` returns. Knows results only, nothing of models."""

    def __init__(self, value: dict[str, Any] | None = None, **kwargs: Any) -> None:
        ramps = "".join(
            f'&[data-palette="{name}"] {{ {" ".join(f"--c{k}: {colour};" for k, colour in enumerate(ramp))} }}\n'
            for name, ramp in PALETTES.items()
        )
        super().__init__(
            value=value,
            html_template='<div class="pair-heatmap"></div>',
            css_template=f".pair-heatmap {{ --on-colour: {INK_ON_COLOUR}; {ramps} }}\n"
            + (_HERE / "heatmap.css").read_text(encoding="utf-8"),
            js_on_load=(_HERE / "heatmap.js").read_text(encoding="utf-8"),
            apply_default_css=False,
            **kwargs,
        )

    def postprocess(self, value: dict[str, Any] | None) -> dict[str, Any] | None:  # type: ignore[override]
        return value

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}
