"""The review on one page to carry away: who said what, how far they agree, what became of the data.

The page is one file of text and numbers: no script, no picture, and a policy in its head that forbids every request,
whatever the annotators have written.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape

from ..words import counted, percent, plain, visible
from .agreement import Agreement, Estimate, agreement
from .export import Exported
from .log import ReviewLog
from .votes import VERDICTS, Counts

MOST_REASONS = 100  # rows that are told one by one

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 52rem; margin: 3rem auto; padding: 0 1rem; }
h1, h2 { font-weight: 600; line-height: 1.2; }
h2 { margin-top: 2.5rem; font-size: 1.15rem; }
p { margin: 0.4rem 0; }
small { opacity: 0.75; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 1rem 0.3rem 0; border-bottom: 1px solid #8885; text-align: right; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; }
"""


def review_summary_html(
    log: ReviewLog,
    *,
    title: str = "Review",
    pair_ids: Sequence[str] | None = None,
    margins: Mapping[str, float] | None = None,
    exported: Exported | None = None,
) -> str:
    """One self-contained page.

    Args:
        pair_ids: of which pairs; None is all.
        margins: as in `agreement`, to count the model as a rater too.
        exported: what `export_cleaned` returned, to be told as well.
    """
    counts = log.counts(pair_ids)
    verdicts = log.verdicts(pair_ids)
    heads, rows = vote_table(counts)
    total = ["all", *(f"{votes:,}" for votes in counts.verdicts.values()), f"{sum(counts.verdicts.values()):,}"]
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        f"style-src 'sha256-{_digest(_STYLE)}'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(title)} · sentrm</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{_text(title)}</h1>",
        f"<p>{_text(_facts(counts))}</p>",
        "<h2>Verdicts</h2>",
        _table(heads, [*rows, total]),
        "<h2>Agreement</h2>",
        _agreement(agreement(verdicts)),
    ]
    if margins is not None:
        parts += ["<h2>Agreement, the model as one more rater</h2>", _agreement(agreement(verdicts, margins))]
    if exported is not None:
        parts += ["<h2>The cleaned data</h2>", _export(exported)]
    return "\n".join([*parts, "</body>\n</html>\n"])


def vote_table(counts: Counts) -> tuple[list[str], list[list[str]]]:
    """Who gave which verdict: heads and rows."""
    heads = ["annotator", *(verdict.replace("_", " ") for verdict in VERDICTS), "all"]
    rows = [
        [name, *(f"{given.get(verdict, 0):,}" for verdict in VERDICTS), f"{sum(given.values()):,}"]
        for name, given in counts.annotators.items()
    ]
    return heads, rows


def _agreement(found: Agreement) -> str:
    if not found.items:
        return "<p>No pair has been rated twice yet.</p>"
    rows = [[name[:1].upper() + name[1:], *_estimate(one, name)] for name, one in found.measures.items()]
    raters = ", ".join(f"{name} {number:,}" for name, number in zip(found.raters, found.ratings, strict=True))
    return _table(["", "value", "95% interval"], rows) + (
        f"<p><small>{found.items:,} pairs with two ratings or more; intervals by bootstrap over pairs. "
        f"Ratings (agree, flip, tie, both bad): {_text(raters)}.</small></p>"
    )


def _estimate(one: Estimate, name: str) -> list[str]:
    if one.value is None:
        return ["undefined", "every rating is the same"]
    write = percent if name.startswith("raw") else plain
    between = "" if one.low is None or one.high is None else f"{write(one.low)} to {write(one.high)}"
    return [write(one.value), between]


def _export(done: Exported) -> str:
    counts = {
        "rows read": done.rows,
        "rows written": done.written,
        "flipped": done.flipped,
        "marked as ties": done.tied,
        "dropped": done.dropped,
        "left: the votes are even": done.unresolved,
        "left: the schema cannot say it, or the row could not be read": len(done.left),
        "decided, not in the data": done.unknown,
    }
    reasons = "".join(f"<li>Row {one.row:,}: {_text(one.reason)}</li>" for one in done.left[:MOST_REASONS])
    more = f"<li>and {len(done.left) - MOST_REASONS:,} more</li>" if len(done.left) > MOST_REASONS else ""
    return _table(["", "number"], [[name, f"{number:,}"] for name, number in counts.items()]) + (
        f"<ul>{reasons}{more}</ul>" if reasons else ""
    )


def _facts(counts: Counts) -> str:
    when = f", from {counts.first[:10]} to {counts.last[:10]}" if counts.pairs else ""
    return f"{counted(counts.pairs, 'pair')} with a verdict, {counted(len(counts.annotators), 'annotator')}{when}."


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table>\n<tr>{head}</tr>\n{body}</table>\n"


def _text(text: str) -> str:
    return escape(visible(text))


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
