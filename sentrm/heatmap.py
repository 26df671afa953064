"""The heatmap of a scored pair, or of one response: what it shows. heatmap.js and heatmap.css draw it.

Decisions:
- One scale for both responses, symmetric around a named baseline, the model's median sentence reward: a reward
  has no zero of its own. Seven classes of equal width whose edges are round numbers.
- Colour is the reward; the bar under a sentence is its weight, full width at three times an even share.
- A baseline's tokens and segments are drawn as running text with all its white space, a response as one block.
- Words are compared sentence by sentence: those that the sentence aligned with it in the other response has not are
  marked, and so is a sentence without such a counterpart. Nothing is marked where no two sentences are alike.
- Every number is formatted here, so the page can be tested without a browser; the browser only places text.
- heatmap.js sets text through `textContent` alone: no response can inject markup.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from .alignment import align, changed_words
from .attention_health import shares
from .errors import SentrmError
from .results import ScoredPair, ScoredResponse, Span
from .structure import LIST_MARKER, structure
from .words import MINUS, counted, margin_line, plain, signed, unit_of, verdict, visible, weight_of

# ColorBrewer 2.0 (Cynthia Brewer, colorbrewer2.org), the inner seven of the nine-class diverging ramps, below to above.
PALETTES = {
    "RdBu": ("#d6604d", "#f4a582", "#fddbc7", "#f7f7f7", "#d1e5f0", "#92c5de", "#4393c3"),
    "PuOr": ("#e08214", "#fdb863", "#fee0b6", "#f7f7f7", "#d8daeb", "#b2abd2", "#8073ac"),
}
INK_ON_COLOUR = "#06080c"  # text on every class of both ramps, in light and dark mode
FULL_BAR = 3.0  # a bar of full width is this many even shares

# What draws a value, in the app and in an exported page: the script finds its root in `element`, its data in
# `props.value`, and calls `watch("value", render)` to hear of another one.
TEMPLATE = '<div class="pair-heatmap"></div>'
SCRIPT = Path(__file__).with_name("heatmap.js").read_text(encoding="utf-8")
_RAMPS = "".join(
    f'&[data-palette="{name}"] {{ {" ".join(f"--c{k}: {colour};" for k, colour in enumerate(ramp))} }}\n'
    for name, ramp in PALETTES.items()
)
STYLE = f".pair-heatmap {{ --on-colour: {INK_ON_COLOUR}; {_RAMPS} }}\n" + Path(__file__).with_name(
    "heatmap.css"
).read_text(encoding="utf-8")

_MANTISSAS = (1.0, 1.2, 1.6, 2.0, 2.4, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


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
    taken = shares(response)
    return math.fsum(response.weights) / len(taken) if taken else 0.0


def heatmap_value(
    result: ScoredPair | ScoredResponse | Mapping[str, ScoredResponse], notices: tuple[str, ...] = ()
) -> dict[str, Any]:
    """What the heatmap shows of a pair, or of one response: text, classes and lengths, JSON-safe, formatted.

    One response is one side without a name; several by name share one scale. Without a pair the verdict is None.

    `notices` are sentences about the input that the page wants shown above the responses; those about what the
    model did not read are added here. Raises SentrmError for no response at all.
    """
    responses: dict[str, ScoredResponse]
    match result:
        case ScoredPair():
            responses = {"A": result.a, "B": result.b}
        case ScoredResponse():
            responses = {"": result}
        case _:
            responses = dict(result)
    if not responses:
        raise SentrmError("there is nothing to show: got no response, expected at least one.")
    median = next(iter(responses.values())).model.median_reward
    unit = _unit(responses.values())
    own = all(response.segmenter.own or response.segmenter.spec == "by hand" for response in responses.values())
    centre = median if median is not None and own else 0.0
    scale = Scale.around(centre, [reward for response in responses.values() for reward in response.rewards[1:]])
    digits = 2 if scale.step >= 0.1 else 3
    if median is None:
        baseline = f"zero (this model stores no median {unit})"
    elif own:
        baseline = f"the model's median {unit} ({signed(median, digits)})"
    else:
        baseline = "zero (the model's median is that of another segmenter)"
    differences = _differences(result, unit) if isinstance(result, ScoredPair) else None
    return {
        "unit": unit,
        "running": unit in ("token", "segment"),  # drawn as running text, one a row only if asked for
        "verdict": {
            "words": verdict(result.probability),
            "probability": result.probability,
            "margin": margin_line(result.a.score, result.b.score, digits),
            "scores": [signed(result.a.score, digits), signed(result.b.score, digits)],
        }
        if isinstance(result, ScoredPair)
        else None,
        "legend": {
            "label": f"reward, logits above {baseline}",
            "ticks": list(scale.ticks),
        },
        "compared": differences is not None,  # whether words are marked that the other response has not
        "notices": [*map(visible, notices), *_notices(responses, unit)],
        "sides": [
            _side(name, response, unit, scale, digits, differences[i] if differences else [()] * len(response.spans))
            for i, (name, response) in enumerate(responses.items())
        ],
    }


def message_value(message: str) -> dict[str, Any]:
    """What the heatmap shows in place of a result: one message."""
    return {"message": visible(message)}


def _unit(responses: Iterable[ScoredResponse]) -> str:
    """What one span is called on every side: cuts by hand take the name of the segmenter's beside them."""
    cut = [one for one in responses if one.segmenter.spec != "by hand"]
    unit = unit_of(cut[0].segmenter.spec) if cut else "sentence"
    return "sentence" if unit == "response" and any(len(one.spans) > 1 for one in responses) else unit


def _notices(responses: dict[str, ScoredResponse], unit: str) -> list[str]:
    notices = []
    cut = max(response.cut_prompt_tokens for response in responses.values())
    if cut:
        notices.append(
            f"The prompt is longer than the model can read: its first {counted(cut, 'token')} were not read."
        )
    for name, response in responses.items():
        if response.dropped_sentences:
            whole = response.dropped_sentences + len(response.spans)
            which = f"last {response.dropped_sentences:,} of {counted(whole, unit)} were"
            if unit == "response":
                which = "end was"
            whose = f"Response {name}" if name else "The response"
            notices.append(
                f"{whose} is longer than the model can read: its {which} not read, nor counted in the score."
            )
    others = dict.fromkeys(r.segmenter.spec for r in responses.values() if not r.segmenter.own)
    for spec in others:
        if spec == "by hand":
            names = [name for name, response in responses.items() if response.segmenter.spec == spec]
            what = f"Response {names[0]}" if names in (["A"], ["B"]) else "The text"
            notices.append(f"{what} was cut by hand, not by the segmenter this model was trained with.")
        else:
            notices.append(f"The text was cut by {spec}, which is not the segmenter this model was trained with.")
    return [visible(notice) for notice in notices]


Differences = list[tuple[Span, ...] | None]  # (N,) characters of each sentence; None has no counterpart


def _differences(pair: ScoredPair, unit: str) -> tuple[Differences, Differences] | None:
    """What each sentence has that the other response has not; None where nothing in them is alike."""
    a, b = pair.a.sentences, pair.b.sentences
    if unit in ("token", "segment"):
        if align([pair.a.text], [pair.b.text])[0] != (0, 0):
            return None
        found = changed_words(pair.a.text, pair.b.text)
        return tuple(  # type: ignore[return-value]  # of two
            [
                tuple(Span(max(s, start) - start, min(e, end) - start) for s, e in spans if s < end and e > start)
                for start, end in response.spans
            ]
            for response, spans in zip((pair.a, pair.b), found, strict=True)
        )
    sides: tuple[Differences, Differences] = ([None] * len(a), [None] * len(b))
    for i, j in align(a, b):
        if i is not None and j is not None:
            sides[0][i], sides[1][j] = changed_words(a[i], b[j])
    return sides if any(one is not None for one in sides[0]) else None


def _side(
    name: str, response: ScoredResponse, unit: str, scale: Scale, digits: int, differences: Differences
) -> dict[str, Any]:
    even = even_share(response)
    count = len(response.spans)
    fences = [(start, start + len(response.text[start:end].rstrip())) for start, end in structure(response.text)[1]]
    sentences = []
    for i, (start, end) in enumerate(response.spans, start=1):
        place = "the whole response" if unit == "response" else f"{unit} {i} of {count}"
        reward, weight, contribution = response.rewards[i], response.weights[i], response.contributions[i]
        times = weight / even if even else 0.0
        sentences.append(
            {
                **_structure(response.text, start, end),
                **_parts(response.text, start, end, fences if unit == "response" else [], differences[i - 1] or ()),
                "only": differences[i - 1] is None,
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
                "title": f"{name} · {place}" if name else place,
                "label": f"{place.capitalize()}, reward {signed(reward, digits)}, attention "
                f"{weight_of(response.weights, i).replace('%', ' percent')}, "
                f"contribution {signed(contribution, digits)}".replace(MINUS, "-"),  # every voice reads a hyphen
            }
        )
    tail = response.text[response.spans[-1].end :] if response.spans else response.text
    return {
        "name": name,
        "meta": (f"{counted(count, unit)} · " if unit in ("sentence", "segment") else "")
        + counted(sum(response.tokens), "token")
        + ("" if name else f" · score {signed(response.score, digits)}"),
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


def _inside(position: int, spans: Iterable[tuple[int, int]]) -> bool:
    return any(start <= position < end for start, end in spans)


def _parts(
    text: str, start: int, end: int, fences: list[tuple[int, int]], changed: tuple[Span, ...]
) -> dict[str, list[tuple[str, str]]]:
    """A sentence's text without the white space around it, in parts with their classes; nothing where it is plain."""
    changed = tuple(Span(start + s, start + e) for s, e in changed)
    end = start + len(text[start:end].rstrip())
    start = end - len(text[start:end].lstrip())
    if start == end:
        return {}
    inner = {edge for span in (*fences, *changed) for edge in span if start < edge < end}
    if not inner and not _inside(start, [*fences, *changed]):
        return {}
    parts = []
    for i, j in pairwise(sorted({start, end, *inner})):
        kinds = ["mono"] * _inside(i, fences) + ["diff"] * _inside(i, changed)
        parts.append((visible(text[i:j]), " ".join(kinds)))
    return {"parts": parts}


def _structure(text: str, start: int, end: int) -> dict[str, Any]:
    """A sentence's own text, and how it stands in the response: the line breaks before it and its indentation.

    White space belongs to the sentence before it, so the indentation of a list item is read from there.
    """
    raw = text[start:end]
    core = raw.strip()
    at = start + raw.index(core)
    before = text[: at if core else start]
    space = _line_feeds(before[len(before.rstrip()) :])
    begins = "\n" in space or at == len(space)  # a line
    return {
        "text": visible(core) or "(white space)",
        "gap": min(2, space.count("\n")),
        "indent": min(24, len(space.rpartition("\n")[2].expandtabs(4))) if begins else 0,
        "item": begins and LIST_MARKER.match(core) is not None,
        "lead": _line_feeds(visible(raw[: raw.index(core)])) if core else "",
        "trail": _line_feeds(visible(raw[raw.index(core) + len(core) :])),
    }


def _line_feeds(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")
