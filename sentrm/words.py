"""How the app writes numbers and verdicts: a true minus sign, a sign on every signed number, plain words."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

MINUS = "\u2212"
SURROGATES = re.compile("[\ud800-\udfff]")  # half characters, which no encoding of text can carry
UNITS = {"tokens": "token", "entropy": "segment", "response": "response"}  # what a segmenter's backend cuts


def unit_of(segmenter: str) -> str:
    """What one span of a segmenter, e.g. `rules:en`, is called on the page: a sentence, or a baseline's unit."""
    return UNITS.get(segmenter.partition(":")[0], "sentence")


def signed(number: float, digits: int = 2) -> str:
    """`+0.84`, `−0.15`, `0.00`: a number that rounds to zero carries no sign."""
    text = f"{number:+.{digits}f}"
    if float(text) == 0:
        return text[1:]
    return text.replace("-", MINUS)


def plain(number: float, digits: int = 2) -> str:
    """A number without a plus sign: `0.84`, `−0.15`."""
    return signed(number, digits).removeprefix("+")


def percent(share: float) -> str:
    """`31%`, below ten percent `4.2%`, and `<0.1%` where that would read zero."""
    if 0 < share < 0.0005:
        return "<0.1%"
    if abs(share) >= 0.0995 or share == 0:
        return f"{100 * share:.0f}%".replace("-", MINUS)
    return f"{100 * share:.1f}%".replace("-", MINUS)


def weight_of(weights: Sequence[float], i: int) -> str:
    """Weight i: `31%` where all add up to one, else the plain factor, `1.24`."""
    shares = math.isclose(math.fsum(weights), 1, abs_tol=1e-3)
    return percent(weights[i]) if shares else plain(weights[i])


def counted(number: int, noun: str) -> str:
    """`1 sentence`, `5 sentences`, `1,204 tokens`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def verdict(probability: float) -> str:
    """σ(margin) in words: `A preferred, 73%`, `Nearly even, 53% for B`, `Even, 50%`."""
    name, share = ("A", probability) if probability >= 0.5 else ("B", 1 - probability)
    if share < 0.505:
        return "Even, 50%"
    if share < 0.545:
        return f"Nearly even, {share:.0%} for {name}"
    if share >= 0.995:
        return f"{name} preferred, over 99%"
    return f"{name} preferred, {share:.0%}"


def margin_line(score_a: float, score_b: float, digits: int = 2) -> str:
    """`margin +0.99 = 0.84 − (−0.15)`, with ≈ where the rounded numbers do not add up."""
    margin, a, b = (round(number, digits) for number in (score_a - score_b, score_a, score_b))
    equals = "=" if round(a - b, digits) == margin else "≈"
    right = plain(score_b, digits)
    if right.startswith(MINUS):
        right = f"({right})"
    return f"margin {signed(score_a - score_b, digits)} {equals} {plain(score_a, digits)} {MINUS} {right}"


def visible(text: str) -> str:
    """`text` with what a screen or JSON cannot carry replaced, one character for one: control characters by
    their pictures (NUL by ␀), lone surrogates by U+FFFD. Tabs, line feeds and carriage returns stay."""
    return "".join(map(_visible_character, text)) if any(map(_needs_picture, text)) else text


def harmless_cell(text: str) -> str:
    """`text` as a cell that no spreadsheet takes for a formula; a cell made so already stays."""
    return "'" + visible(text) if text.startswith(_FORMULA) else visible(text)


def plain_cell(cell: str) -> str:
    """The text of a cell that `harmless_cell` made, but for pictures of control characters."""
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(_FORMULA) else cell


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # OWASP, "CSV Injection"


def _needs_picture(character: str) -> bool:
    return (character < " " and character not in "\t\n\r") or character == "\x7f" or "\ud800" <= character <= "\udfff"


def _visible_character(character: str) -> str:
    if not _needs_picture(character):
        return character
    if character >= "\ud800":
        return "\ufffd"
    return "\u2421" if character == "\x7f" else chr(0x2400 + ord(character))
