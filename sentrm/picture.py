"""The heatmap as a picture: SVG, 1200 wide, in the light colours, laid out here and not by a browser.

Decisions:
- It draws what `heatmap_value` returns, one sentence a row, tokens and segments as running text.
- Lines are broken by the widths of Helvetica, and each says its own length: another font's glyphs are fitted to it, and
  nothing runs over.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from .colours import LIGHT
from .heatmap import FULL_BAR, INK_ON_COLOUR, PALETTES, heatmap_value
from .results import ScoredPair, ScoredResponse
from .words import visible

WIDTH, MARGIN, GAP, PAD = 1200, 24, 18, 18
SIZE, LINE = 14, 20  # of a sentence's text
REWARD = 56  # kept free at the end of a row for its reward
TAIL = 4000  # characters of what was not read: more than its four lines can hold
# Helvetica's advance widths in thousandths of its size (Adobe, Core 14 AFM), by the characters that have them.
_ADVANCES = {
    "'": 191,
    "ijl": 222,
    "|": 260,
    " !,./:;I[]\\ft": 278,
    "()-r`": 333,
    "{}": 334,
    '"': 355,
    "*": 389,
    "^": 469,
    "cksvxyzJ": 500,
    "FTZ": 611,
    "ABEKPSVXY&": 667,
    "CDHNRUw": 722,
    "GOQ": 778,
    "mM": 833,
    "%": 889,
    "W": 944,
    "@": 1015,
    "+<=>~": 584,
}
_WIDTHS = {character: advance / 1000 for characters, advance in _ADVANCES.items() for character in characters}


def text_width(text: str, size: float = SIZE, mono: bool = False) -> float:
    """About how wide a line of text is, in the unit of `size`."""
    return size * sum(map(_mono_advance if mono else _advance, text))


def _mono_advance(character: str) -> float:
    return 0.6 * round(_advance(character) / 0.6) if ord(character) > 126 else 0.6


def _advance(character: str) -> float:
    if ord(character) < 127:
        return _WIDTHS.get(character, 0.556)
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0.0
    return 1.0 if unicodedata.east_asian_width(character) in "WF" else 0.6


def wrap(text: str, width: float, size: float = SIZE, mono: bool = False) -> list[str]:
    """The lines of `text`: broken at its line feeds, at spaces, and where a word is wider than a line, inside it."""
    lines = []
    for paragraph in text.splitlines() or [""]:
        line = ""
        for piece in re.findall(r"\s+|[^\s\u2e80-\u9fff\uac00-\ud7af]+|.", paragraph.expandtabs(4)):
            if line and text_width((line + piece).rstrip(), size, mono) > width:
                lines.append(line.rstrip())
                line = ""
                piece = piece.lstrip()
            start, wide = 0, 0.0  # of the line at work inside the piece
            for n, advance in enumerate(map(_mono_advance if mono else _advance, "" if line else piece)):
                if n > start and size * (wide + advance) > width:
                    lines.append(piece[start:n])
                    start, wide = n, 0.0
                wide += advance
            line += piece[start:]
        lines.append(line.rstrip())
    return lines


def to_svg(result: ScoredPair | ScoredResponse, palette: str = "RdBu") -> str:
    """The picture of a pair, or of one response, as one SVG file that names no other.

    Args:
        palette: of the rewards' colours, a name in `heatmap.PALETTES`.
    """
    value, ramp = heatmap_value(result), PALETTES[palette]
    parts: list[str] = []
    y = float(MARGIN)
    if value["verdict"]:
        parts += _verdict(value["verdict"], y)
        y += 104
    for notice in value["notices"]:
        for line in wrap(notice, WIDTH - 2 * MARGIN, 13):
            parts.append(_line(line, MARGIN, y + 14, 13, LIGHT.dim))
            y += 18
    parts += _legend(value, ramp, y + 8)
    y += 66
    sides = value["sides"]
    width = (WIDTH - 2 * MARGIN - GAP * (len(sides) - 1)) / len(sides)
    drawn = [_side(side, value, ramp, MARGIN + i * (width + GAP), y, width) for i, side in enumerate(sides)]
    tallest = max(height for _, height in drawn)
    for i, (body, _) in enumerate(drawn):
        parts += [_box(MARGIN + i * (width + GAP), y, width, tallest, LIGHT.page), *body]
    height = round(y + tallest + MARGIN)
    words = value["verdict"]["words"] if value["verdict"] else sides[0]["meta"]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" role="img" font-family="Helvetica, Arial, sans-serif">',
            f"<title>{_escaped(words)}</title>",
            f'<rect width="{WIDTH}" height="{height}" fill="{LIGHT.page}"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _verdict(verdict: dict[str, Any], y: float) -> list[str]:
    """A's score, the words with the probability as a bar, B's score. 88 high."""
    left, middle, right = MARGIN + 20, WIDTH / 2, WIDTH - MARGIN - 20
    return [
        _box(MARGIN, y, WIDTH - 2 * MARGIN, 88, LIGHT.panel),
        _line("A · score", left, y + 34, 12.5, LIGHT.dim),
        _line(verdict["scores"][0], left, y + 66, 27, bold=True),
        _line("B · score", right, y + 34, 12.5, LIGHT.dim, "end"),
        _line(verdict["scores"][1], right, y + 66, 27, anchor="end", bold=True),
        _line(verdict["words"], middle, y + 30, 18, anchor="middle", bold=True),
        _rect(middle - 170, y + 42, 340, 8, LIGHT.dim, 4, 0.35),
        _rect(middle - 170, y + 42, 340 * verdict["probability"], 8, LIGHT.accent, 4),
        _rect(middle - 1, y + 39, 2, 14, LIGHT.ink),
        _line(verdict["margin"], middle, y + 74, 12.5, LIGHT.dim, "middle"),
    ]


def _legend(value: dict[str, Any], ramp: tuple[str, ...], y: float) -> list[str]:
    """The seven classes with their edges, and what a full bar is. 52 high."""
    x, bar = MARGIN + 16, WIDTH - MARGIN - 200
    parts = [_line(value["legend"]["label"], MARGIN, y + 10, 12.5, LIGHT.dim)]
    parts += [_rect(x + 44 * k, y + 18, 44, 14, colour) for k, colour in enumerate(ramp)]
    parts += [_line(tick, x + 44 * k, y + 45, 11, anchor="middle") for k, tick in enumerate(value["legend"]["ticks"])]
    if value["unit"] == "sentence":
        parts += [
            _line(f"bar: weight of a {value['unit']}", bar, y + 10, 12.5, LIGHT.dim),
            *_bar({"bar": 100.0, "over": False}, bar, y + 23, 200),
            _line("0", bar, y + 45, 11),
            _line("even", bar + 200 / FULL_BAR, y + 45, 11, anchor="middle"),
            _line(f"{FULL_BAR:.0f} × even", bar + 200, y + 45, 11, anchor="end"),
        ]
    return parts


def _side(
    side: dict[str, Any], value: dict[str, Any], ramp: tuple[str, ...], x: float, y: float, width: float
) -> tuple[list[str], float]:
    """What stands in the card of one response, and how high the card is."""
    start, inner = y, width - 2 * PAD
    x += PAD
    parts = [
        _line(f"Response {side['name']}".strip(), x, y + 28, 14, bold=True),
        _line(side["meta"], x + inner, y + 28, 12.5, LIGHT.dim, "end"),
    ]
    y += 42
    for part, below in (_running if value["running"] else _rows)(side["sentences"], value["unit"], ramp, x, y, inner):
        parts.append(part)
        y = below
    if side["tail"]:
        for line in [side["tail_note"], *wrap(side["tail"][:TAIL], inner, 13)[:4]]:
            parts.append(_line(line, x, y + 16, 13, LIGHT.dim, fitted=inner))
            y += 18
    term, sums, unit = side["prompt_term"], side["sum"], value["unit"]
    parts.append(_rect(x, y + 8, inner, 1, LIGHT.line))
    for line in (
        f"prompt term {term['reward']} × weight {term['weight']} = {term['contribution']}",
        f"{unit if unit == 'response' else f'{unit}s'} {sums['sentences']}, prompt {sums['prompt']}, "
        f"score {sums['score']}",
    ):
        parts.append(_line(line, x, y + 27, 12.5, LIGHT.dim))
        y += 18
    return parts, y + 24 - start


def _rows(
    sentences: list[dict[str, Any]], unit: str, ramp: tuple[str, ...], x: float, y: float, width: float
) -> Iterator[tuple[str, float]]:
    """One sentence a row, and the height where each ends."""
    for index, sentence in enumerate(sentences):
        y += 12 if index and sentence["gap"] == 2 else 0
        left = x + min(7.0 * sentence["indent"], 0.3 * width)
        room, size = x + width - left - 20 - REWARD, 13 if sentence["code"] else SIZE
        lines = wrap(sentence["text"], room, size, sentence["code"])
        height = LINE * len(lines) + 10
        drawn = [_rect(left, y, x + width - left, height, ramp[sentence["class"]], 6)]
        for k, line in enumerate(lines):
            at = y + 20 + LINE * k
            drawn.append(_line(line, left + 10, at, size, INK_ON_COLOUR, mono=sentence["code"], fitted=room))
        drawn.append(_line(sentence["reward"], x + width - 10, y + 20, 12.5, INK_ON_COLOUR, "end"))
        if unit != "response":
            drawn += _bar(sentence, left + 10, y + height + 3, x + width - left - 20)
        yield f"<g><title>{_escaped(sentence['label'])}</title>{''.join(drawn)}</g>", y + height + 14
        y += height + 14


def _running(
    sentences: list[dict[str, Any]], unit: str, ramp: tuple[str, ...], x: float, y: float, width: float
) -> Iterator[tuple[str, float]]:
    """Tokens or segments as running text with all of its white space, each piece of a line on its colour."""
    at = x
    for sentence in sentences:
        size, drawn = 13 if sentence["code"] else SIZE, []
        for lines, coloured in ((sentence["lead"], False), (sentence["text"], True), (sentence["trail"], False)):
            for k, paragraph in enumerate(lines.split("\n")):
                if k:
                    at, y = x, y + 24
                for piece in re.findall(r"\S+\s*|\s+", paragraph.expandtabs(4)) if paragraph else ():
                    for part in wrap(piece, width, size, sentence["code"]) if piece.strip() else [piece]:
                        wide = text_width(part, size, sentence["code"])
                        if at > x and at + wide > x + width:
                            at, y = x, y + 24
                        if coloured:
                            drawn.append(_rect(at, y, wide, 20, ramp[sentence["class"]], 2))
                            drawn.append(
                                _line(part, at, y + 15, size, INK_ON_COLOUR, mono=sentence["code"], fitted=wide)
                            )
                        at += wide
                    at += text_width(piece[len(piece.rstrip()) :], size) if piece.strip() else 0
        yield f"<g><title>{_escaped(sentence['label'])}</title>{''.join(drawn)}</g>", y + 30


def _bar(sentence: dict[str, Any], x: float, y: float, width: float) -> list[str]:
    """A weight: full width at three even shares, with a mark at one."""
    end = x + width
    over = [f'<path d="M{end:.1f} {y - 3:.1f}l7 5l-7 5z" fill="{LIGHT.dim}"/>'] if sentence["over"] else []
    return [
        _rect(x, y, width * sentence["bar"] / 100, 4, LIGHT.dim, 2),
        *over,
        _rect(x + width / FULL_BAR, y - 1, 1, 7, LIGHT.ink),
    ]


def _box(x: float, y: float, width: float, height: float, fill: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="12" fill="{fill}" '
        f'stroke="{LIGHT.line}"/>'
    )


def _rect(x: float, y: float, width: float, height: float, fill: str, radius: float = 0, opacity: float = 1) -> str:
    shape = f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}"'
    return shape + (f' rx="{radius}"' if radius else "") + (f' opacity="{opacity}"' if opacity < 1 else "") + "/>"


def _line(
    text: str,
    x: float,
    y: float,
    size: float,
    fill: str = LIGHT.ink,
    anchor: str = "start",
    bold: bool = False,
    mono: bool = False,
    fitted: float = 0.0,
) -> str:
    """One line of text. `fitted` is the room it must not exceed: then it is drawn as wide as it was reckoned."""
    if not text.strip():
        return ""
    shape = f'font-size="{size}" fill="{fill}" xml:space="preserve"'
    if mono:
        shape += ' font-family="Menlo, Consolas, monospace"'
    if bold:
        shape += ' font-weight="650"'
    if fitted:
        shape += f' textLength="{min(fitted, text_width(text, size, mono)):.1f}" lengthAdjust="spacingAndGlyphs"'
        first = next(
            (unicodedata.bidirectional(c) for c in text if unicodedata.bidirectional(c) in ("L", "R", "AL")), "L"
        )
        if first != "L":
            x, shape = x + fitted, shape + ' direction="rtl"'
    if anchor != "start":
        shape += f' text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {shape}>{_escaped(text)}</text>'


def _escaped(text: str) -> str:
    """Text for XML, which has no room for control characters, lone surrogates and two noncharacters."""
    return html.escape(visible(text)).replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")
