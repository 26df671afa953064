"""What the Dataset page shows of an audit's pairs: the view that its address names, and the list in it.

Decisions:
- Everything follows from the address (`View`): which audit, filters, order, page, and the audit beside it.
- What narrows and sorts is DuckDB's; only the rows of one page leave it, and their texts are read from the shards that
  hold them. So a million pairs are as quick as a thousand.
- Without an order in the address the most suspicious pairs come first.
- A link to a pair goes by its id, never by its place in a list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Any
from urllib.parse import parse_qsl, urlencode

from ..audit.filters import TEXT, Filter, filters_from_query, filters_to_query
from ..audit.folder import AuditFolder
from ..audit.shards import read_problems, read_rows, scored_pair
from ..audit.suspects import better_side, carrier, reasons
from ..results import Prompt, ScoredPair
from ..words import counted, percent, plain, signed, visible
from .dataset_tables import name_of

SIZE = 50  # rows of a page
SEEN = 160  # characters of a text in the list
MOST_PROBLEMS = 100  # left-out rows that are shown
QUICK = {  # offered above the list: name, filter
    "Suspects": Filter("suspect", "=", True),
    "Model disagrees": Filter("agrees", "=", False),
    "Contradictions": Filter("contradicts", "=", True),
}
SORTED = {"row": "Pair", "margin": "Margin", "suspicion": "Suspicion"}  # column: header


@dataclass(frozen=True)
class View:
    """What an address of the page asks for."""

    audit: str = ""
    filters: tuple[Filter, ...] = ()
    sort: str = ""  # a column; "": by suspicion, the greatest first
    descending: bool = False
    page: int = 1
    beside: str = ""  # another audit
    pair: str = ""  # one that is shown above the list

    @classmethod
    def from_query(cls, query: str) -> View:
        """Raises AuditError for filters that are none; a page that is no number is the first. A page is called "at":
        Gradio reads the parameter "page" as the name of one of its own."""
        said = dict(parse_qsl(query.removeprefix("?")))
        page = said.get("at", "1")
        return cls(
            said.get("audit", ""),
            filters_from_query(query),
            said.get("sort", ""),
            said.get("desc") == "1",
            max(1, int(page)) if page.isascii() and page.isdigit() and len(page) < 9 else 1,
            said.get("with", ""),
            said.get("pair", ""),
        )

    def to_query(self) -> str:
        """What `from_query` reads, with its question mark."""
        parts: dict[str, str | int] = {}
        parts |= {"sort": self.sort, "desc": int(self.descending)} if self.sort else {}
        parts |= {"at": self.page} if self.page > 1 else {}
        parts |= {"with": self.beside} if self.beside else {}
        parts |= {"pair": self.pair} if self.pair else {}
        before = urlencode({"audit": self.audit}) if self.audit else ""
        return "?" + "&".join(part for part in (before, filters_to_query(self.filters), urlencode(parts)) if part)


def list_value(folder: AuditFolder, view: View, inspect: bool = True, review: bool = False) -> dict[str, Any]:
    """What `Panel` shows of a view's page.

    Args:
        inspect, review: whether there is such a page to open a pair in; without the first it opens on this one.

    Raises:
        AuditError: for filters or an order that this audit cannot take.
    """
    known = "suspicion" in folder.columns
    sort, descending = (view.sort, view.descending) if view.sort else ("suspicion" if known else "row", known)
    count = folder.count(view.filters)
    last = max(1, -(-count // SIZE))
    view = replace(view, page=min(view.page, last))
    start = (view.page - 1) * SIZE
    found = folder.page(view.filters, sort, descending, start, SIZE)
    pairs = read_pairs(folder, found)
    rows = [
        _row(row, pair, _links(view, row["pair_id"], inspect, review)) for row, pair in zip(found, pairs, strict=True)
    ]
    total = folder.count() if view.filters else count
    return {
        "query": view.to_query(),
        "found": _found_words(view, count, total),
        "tools": _tools(folder, view) | {"review": _review_link(view) if review and count else ""},
        "table": {
            "caption": "Pairs",
            "kind": "pairs",
            "headers": [
                _header(view, sort, descending, "row"),
                {"text": "Prompt"},
                *(_header(view, sort, descending, column) for column in ("margin", "suspicion")[: 1 + known]),
                {"text": "Why, and the sentence that speaks most against the label"},
            ],
            "numeric": [2, 3] if known else [2],
            "rows": rows,
        },
        "pages": {
            "text": f"Page {view.page:,} of {last:,}",
            "previous": replace(view, page=view.page - 1).to_query() if view.page > 1 else "",
            "next": replace(view, page=view.page + 1).to_query() if view.page < last else "",
        },
        "ranges": _ranges(view.filters),
    }


def read_pairs(folder: AuditFolder, rows: Sequence[Mapping[str, Any]]) -> list[ScoredPair]:
    """The scored pairs of rows of `pairs.parquet`, in their order; each shard is read once.

    Raises:
        AuditError: for a shard that is damaged.
    """
    by_shard = groupby(sorted(rows, key=lambda row: row["shard"]), key=lambda row: row["shard"])
    wanted = [(folder.shards[shard], [(row["row"], row["number"]) for row in group]) for shard, group in by_shard]
    with ThreadPoolExecutor(4) as pool:
        parts = pool.map(lambda one: read_rows(*one), wanted)
        found = {place: scored_pair(row, about) for own, about in parts for place, row in own.items()}
    return [found[row["row"], row["number"]] for row in rows]


def left_out_rows(folder: AuditFolder) -> list[list[str]]:
    """The first rows that were left out, with the reason."""
    every = (problem for shard in folder.shards for problem in read_problems(shard))
    return [[f"{one.row:,}", visible(one.reason)] for one in islice(every, MOST_PROBLEMS)]


def filter_words(one: Filter) -> str:
    """A filter as a reader would say it."""
    column, value = name_of(one.column).partition(" (")[0], one.value
    if one.column == "suspect" and one.test == "=":
        return "suspects" if value else "no suspects"
    if one.column == "agrees" and one.test == "=":
        return "the model agrees" if value else "the model disagrees"
    if one.test == "missing":
        return f"no {column}" if value else f"has {column}"
    if one.test == "between":
        return f"{column} from {_value(value[0])} to {_value(value[1])}"
    if one.test == "in":
        return f"{column}: {', '.join(map(_value, value))[:80]}"
    if one.test == "contains":
        return f"{column} contains “{_value(value)}”"
    if isinstance(value, bool):
        return column if value == (one.test == "=") else f"not {column}"
    signs = {"=": "is", "!=": "is not", "<": "below", "<=": "at most", ">": "above", ">=": "at least"}
    return f"{column} {signs[one.test]} {_value(value)}"


def _value(value: Any) -> str:
    return visible(str(value))[:60] if isinstance(value, str | bool) else plain(value, 0 if value == int(value) else 2)


def _links(view: View, pair_id: str, inspect: bool, review: bool) -> list[tuple[str, str]]:
    """Where a pair opens: what the page is called, and its address; the first one is that of Enter."""
    query = urlencode({"audit": view.audit, "id": pair_id})
    own = ("Inspect", f"./?{query}") if inspect else ("Show", replace(view, pair=pair_id).to_query())
    return [own, *([("Review", f"./review?{query}")] if review else [])]


def _row(row: Mapping[str, Any], pair: ScoredPair, links: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """A pair in the list: what `Panel` draws as one row."""
    why = reasons(row)
    said = [{"text": f"{text[:1].upper()}{text[1:]}"} for text in why]
    found = carrier(pair, better_side(row["label_probability"]))
    if found and (row.get("suspect") or row["agrees"] is False):
        response = pair.a if found.side == "chosen" else pair.b
        sentence = _start(response.sentences[found.sentence])
        said.append({"text": f"{found.side}, {signed(found.contribution)}: {sentence}", "class": "sentence"})
    name: list[dict[str, str]] = [{"text": visible(row["id"])[:60] or row["pair_id"], "class": "name"}]
    name += [{"text": page, "href": href} for page, href in links]
    numbers = [signed(row["margin"])]
    if "suspicion" in row:
        numbers.append("–" if row["suspicion"] is None else percent(row["suspicion"]))
    return {"cells": [{"lines": name}, start_of(pair.a.prompt), *numbers, {"lines": said}]}


def start_of(prompt: Prompt) -> str:
    """The beginning of what was asked last, on one line."""
    return _start(prompt if isinstance(prompt, str) else prompt[-1]["content"] if prompt else "")


def _start(text: str) -> str:
    """The beginning of a text on one line."""
    line = " ".join(visible(text[: 4 * SEEN]).split())
    return line if len(line) <= SEEN else line[: SEEN - 1] + "…"


def _header(view: View, sort: str, descending: bool, column: str) -> dict[str, Any]:
    """A header that sorts; again, the other way round."""
    is_sorted = sort == column
    turned = not descending if is_sorted else column == "suspicion"
    query = replace(view, sort=column, descending=turned, page=1).to_query()
    way = ("descending" if descending else "ascending") if is_sorted else ""
    return {"text": SORTED[column], "href": query, "sorted": way}


def _tools(folder: AuditFolder, view: View) -> dict[str, Any]:
    """Search, quick filters, and the filters that are set, each with what removes it."""

    def toggled(one: Filter) -> str:
        others = tuple(kept for kept in view.filters if kept != one)
        return replace(view, filters=others if one in view.filters else (*others, one), page=1).to_query()

    quick = [(name, one) for name, one in QUICK.items() if one.column in folder.columns]
    searched = next((one.value for one in view.filters if (one.column, one.test) == (TEXT, "contains")), "")
    return {
        "search": searched,
        "quick": [{"text": name, "href": toggled(one), "on": one in view.filters} for name, one in quick],
        "chips": [
            *({"text": filter_words(one), "href": toggled(one)} for one in view.filters if one not in QUICK.values()),
            *([{"text": "the pair above", "href": replace(view, pair="").to_query()}] if view.pair else []),
        ],
        "clear": replace(view, filters=(), page=1).to_query() if view.filters else "",
    }


def _review_link(view: View) -> str:
    filters = filters_to_query(view.filters)
    return f"./review?{urlencode({'audit': view.audit})}{'&' if filters else ''}{filters}"


def _found_words(view: View, count: int, total: int) -> str:
    return f"{count:,} of {counted(total, 'pair')}" if view.filters else counted(total, "pair")


def _ranges(filters: Sequence[Filter]) -> dict[str, list[float | None]]:
    """What the filters leave of each column of numbers: (low, high), an open end None; what a chart marks."""
    found: dict[str, list[float | None]] = {}
    for one in filters:
        if one.test == "between" and not isinstance(one.value[0], str):
            found[one.column] = [*one.value]
        elif one.test in ("<", "<=", ">", ">=") and not isinstance(one.value, str):
            ends = found.setdefault(one.column, [None, None])
            ends["<" in one.test] = one.value
    return found
