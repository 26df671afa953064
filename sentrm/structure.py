"""The structure of a text: lines as CommonMark and GitHub's tables see them. All patterns take time linear in it."""

from __future__ import annotations

import re

from .results import Span

_LINE = re.compile("[^\n\r\x85\u2028\u2029]*+(?:\r\n|[\n\r\x85\u2028\u2029])|[^\n\r\x85\u2028\u2029]++")
LIST_MARKER = re.compile(r"\s*+(?:[-*+•◦▪‣–—]|\(?(?:\d{1,9}|[A-Za-z]|[ivxIVX]{2,4})[.)])(?:\s++|$)")  # of a list item
_UNDERLINE = re.compile(r"[|:\s]*+[-=][-=|:\s]*+$")  # of a heading, or between the head and the body of a table


def structure(text: str) -> tuple[list[int], list[Span], list[Span]]:
    """Where the structure of the text cuts, and the regions nothing may cut: fenced code, and display math."""
    cuts, fences, math = list[int](), list[Span](), list[Span]()
    pending = list[int]()  # lines of display math that is still open
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
                fences.append(Span(opened, end))
                closer = previous = ""
        elif not stripped:
            cuts += pending  # display math does not reach over a blank line
            closer, previous, pending = "", "", []
        elif closer:
            pending.append(start)
            if closer in stripped:
                math.append(Span(opened, start + match.group().find(closer) + len(closer)))
                closer, previous, pending = "", stripped, []
        else:
            item = LIST_MARKER.match(line)
            body = line[item.end() :].strip() if item else stripped
            column = item.end() if item else column if previous or indent >= column else 0
            fence = re.match(r"(`{3,}+)[^`]*+$|(~{3,}+)", body) if item or indent <= column + 3 else None
            if fence or not previous or not _goes_on(previous, stripped):
                cuts.append(start)
            bracket = {"$$": "$$", "\\[": "\\]"}.get(body[:2], "")
            if fence or (bracket and bracket not in body[2:]):
                closer, opened = (fence[1] or fence[2]) if fence else bracket, start
            previous = stripped
    if closer[:1] in ("`", "~"):
        fences.append(Span(opened, len(text)))
    return cuts + pending, fences, math


def _goes_on(previous: str, line: str) -> bool:
    """Whether one sentence goes on over the newline between two lines that are not blank (a soft wrap)."""
    if _UNDERLINE.match(line):
        return not _UNDERLINE.match(previous)
    ended = previous[-1] in "|:：" or re.match(r"#{1,6}\s", previous) or _UNDERLINE.match(previous)
    begins = line[0] == "|" or LIST_MARKER.match(line) or (" | " in line and " | " in previous)
    return not ended and not begins and line.lstrip("\"'“‘([*_`")[:1].islower()
