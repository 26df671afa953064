"""What narrows a list of pairs: a filter names a column, a test and a value, and has a form for URLs.

    Filter("margin", "<", 0)                    where=["margin","<",0]
    Filter("language", "in", ("de", "fr"))      where=["language","in",["de","fr"]]

Decisions:
- A column has to be one of the folder's, a value goes into SQL as a parameter: nothing a user writes becomes SQL.
- A filter's value has its column's kind. "true" or 1 are no flags, and "3" is no number.
- What is missing differs from every value: "!=" keeps it, every other test but "missing" leaves it out. A text is
  missing where it is empty, too.
- "contains" does not tell capitals from small letters. On the column "text", which is in no list, it searches the
  prompt and both responses.
- In a URL a filter is the JSON of its three parts under the name `where`, percent-encoded; filters are joined by "and".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from ..errors import AuditError

COMPARED = {"=": "= ?", "!=": "IS DISTINCT FROM ?", "<": "< ?", "<=": "<= ?", ">": "> ?", ">=": ">= ?"}
TESTS = (*COMPARED, "between", "in", "contains", "missing")
TESTS_OF = {"number": (*COMPARED, "between", "in", "missing"), "text": TESTS, "flag": ("=", "!=", "missing")}
TEXT = "text"  # the column that stands for prompt and both responses
SEARCHED = ("prompt_text", "chosen", "rejected")
LONGEST_QUERY = 20_000  # characters
MOST_FILTERS = 50


@dataclass(frozen=True)
class Filter:
    """Pairs whose `column` passes the `test`.

    Raises AuditError for an unknown test, or a value that the test cannot be done with.
    """

    column: str
    test: str  # one of TESTS
    value: Any  # text, a finite number or a flag; between: (low, high), both included; in: values; missing: a flag

    def __post_init__(self) -> None:
        if self.test not in TESTS:
            raise AuditError(f"got the test {self.test!r:.40}; expected one of {', '.join(TESTS)}.")
        if isinstance(self.value, list):
            object.__setattr__(self, "value", tuple(self.value))
        value, several = self.value, self.test in ("between", "in")
        expected = {"between": "two values", "in": "a list of values", "contains": "text", "missing": "true or false"}
        if not (
            isinstance(value, tuple) == several
            and all(_is_plain(one) for one in (value if several else (value,)))
            and (self.test != "between" or len(value) == 2)
            and (self.test != "contains" or isinstance(value, str))
            and (self.test != "missing" or isinstance(value, bool))
        ):
            wanted = expected.get(self.test, "text, a finite number, true or false")
            raise AuditError(f"got {value!r:.60} to test {self.column!r:.40} {self.test}; expected {wanted}.")


def condition(filters: Sequence[Filter], columns: Mapping[str, str]) -> tuple[str, list[Any]]:
    """The condition of a WHERE over the views `pairs` and `texts`, and its parameters.

    Args:
        columns: name -> "number", "text" or "flag".

    Raises:
        AuditError: for a column that is not there, or a test or value that does not suit it.
    """
    parts, parameters = ["true"], list[Any]()
    for one in filters:
        part, values = _part(one, columns)
        parts.append(part)
        parameters += values
    return " AND ".join(parts), parameters


def filters_to_query(filters: Sequence[Filter]) -> str:
    """`where=…&where=…`, percent-encoded: what `filters_from_query` reads."""
    parts = [[one.column, one.test, one.value] for one in filters]
    return urlencode([("where", json.dumps(part, separators=(",", ":"))) for part in parts])


def filters_from_query(query: str) -> tuple[Filter, ...]:
    """The filters in a URL's query; parameters of other names are left alone.

    Raises:
        AuditError: for one that is none; whether its column exists is asked later, by `condition`.
    """
    if len(query) > LONGEST_QUERY:
        raise AuditError(
            f"the filters in the address have {len(query):,} characters; expected at most {LONGEST_QUERY:,}. "
            "Leave some out."
        )
    found = [value for name, value in parse_qsl(query.removeprefix("?"), keep_blank_values=True) if name == "where"]
    if len(found) > MOST_FILTERS:
        raise AuditError(f"the address holds {len(found)} filters; expected at most {MOST_FILTERS}. Leave some out.")
    return tuple(map(_read, found))


def quoted(name: str) -> str:
    """A column's name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def _part(one: Filter, columns: Mapping[str, str]) -> tuple[str, Sequence[Any]]:
    if one.column == TEXT and one.test == "contains":
        found = " OR ".join(f"contains(lower({name}), lower(?))" for name in SEARCHED)
        return f"(row, number) IN (SELECT row, number FROM texts WHERE {found})", [one.value] * len(SEARCHED)
    kind = columns.get(one.column)
    if kind is None:
        raise AuditError(
            f"there is no column {one.column!r:.60}; expected one of {', '.join(columns)}, or {TEXT!r}, with the test "
            "contains."
        )
    tests = TESTS_OF[kind]
    if one.test not in tests:
        raise AuditError(f"{one.column} is a {kind}; expected one of the tests {', '.join(tests)}, got {one.test}.")
    name = quoted(one.column)
    if one.test == "missing":
        return (f"(coalesce({name}, '') = '') = ?" if kind == "text" else f"({name} IS NULL) = ?"), [one.value]
    values = one.value if isinstance(one.value, tuple) else (one.value,)
    if wrong := [value for value in values if _kind(value) != kind]:
        raise AuditError(f"{one.column} is a {kind}; expected such a value, got {wrong[0]!r:.40}.")
    if one.test == "contains":
        return f"contains(lower({name}), lower(?))", values
    if one.test == "between":
        return f"{name} BETWEEN ? AND ?", values
    if one.test == "in":
        return (f"{name} IN ({', '.join('?' * len(values))})" if values else "false"), values
    return f"{name} {COMPARED[one.test]}", values


def _read(text: str) -> Filter:
    try:
        parts = json.loads(text)
    except (ValueError, RecursionError):
        parts = None
    if not isinstance(parts, list) or len(parts) != 3 or not all(isinstance(part, str) for part in parts[:2]):
        raise AuditError(f'the filter {text!r:.60} is none; expected JSON such as ["margin","<",0].')
    return Filter(*parts)


def _is_plain(value: Any) -> bool:
    """DuckDB's integers end at 64 bits."""
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))


def _kind(value: Any) -> str:
    return "flag" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
