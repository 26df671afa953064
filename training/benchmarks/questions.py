"""The public benchmarks' rows as questions: their fields, read with the type they must have, and how many are right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, compress
from typing import Any

import numpy as np

from sentrm.errors import PreferenceDataError
from sentrm.preferences import split_key
from sentrm.results import Prompt

from .task import Item, Responses, Task

ADDED = ("where", "file")  # the fields that `sources.located` adds


@dataclass(frozen=True)
class Row:
    """One row of a benchmark."""

    record: Any
    where: str  # e.g. "row 17"
    expected: str  # what a row of this benchmark holds

    def error(self, problem: str) -> PreferenceDataError:
        return PreferenceDataError(
            f"{self.where}: {problem}. Expected {self.expected}. Pairs of another form are read by --benchmark pairs."
        )

    def value(self, *path: str) -> Any:
        """The field at this path of nested objects."""
        value: Any = self.record
        for depth, name in enumerate(path, start=1):
            if not isinstance(value, dict) or value.get(name) is None:
                got = (
                    [name for name in value if name not in ADDED] if isinstance(value, dict) else [type(value).__name__]
                )
                raise self.error(f"no {'.'.join(path[:depth])} (got {', '.join(got) or 'nothing'})")
            value = value[name]
        return value

    def text(self, *path: str) -> str:
        value = self.value(*path)
        if not isinstance(value, str):
            raise self.error(f"{'.'.join(path)} is {value!r:.60}, not text")
        return value

    def first(self, *names: str) -> str:
        """The first of these fields that the row has."""
        return self.text(next((name for name in names if self.record.get(name) is not None), names[0]))

    def texts(self, name: str) -> list[str]:
        value = self.value(name)
        if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
            raise self.error(f"{name} is {value!r:.60}, not a list of texts")
        return value

    def one_of(self, choices: Iterable[str], name: str, value: str | None = None) -> str:
        """The field, or what was made of it, if it is one of the choices."""
        value = self.text(name) if value is None else value
        if value not in choices:
            raise self.error(f"{name} is {value!r:.60}, not one of {', '.join(choices)}")
        return value

    def rows(self, name: str) -> list[Row]:
        """The members of a list of objects."""
        value = self.value(name)
        if not isinstance(value, list) or not value:
            raise self.error(f"{name} is {value!r:.60}, not a list of objects")
        return [Row(member, f"{self.where}: {name} {i}", self.expected) for i, member in enumerate(value, start=1)]

    def prompt(self, name: str) -> Prompt:
        """Text, or messages; one message of a user is its text."""
        if isinstance(text := self.value(name), str):
            return text
        messages = tuple({"role": row.text("role"), "content": row.text("content")} for row in self.rows(name))
        return messages[0]["content"] if [one["role"] for one in messages] == ["user"] else messages


def read_rows(records: Iterable[dict[str, Any]], expected: str) -> Iterator[Row]:
    """Rows as `located` gives them, or as they stand in a file, which are then counted."""
    for number, record in enumerate(records, start=1):
        yield Row(record, record.get("where", f"row {number}"), expected)


class Questions:
    """Gathers a Task, question by question."""

    def __init__(self) -> None:
        self.responses = Responses()
        self.items: list[Item] = []

    def add(
        self, id: str, subset: str, prompt: Prompt, right: Iterable[str], wrong: Iterable[str], group: str | None = None
    ) -> None:
        """`group` is the prompt's `split_key`, by which all know the same prompts as held out, unless given."""
        places = [tuple(self.responses.place(prompt, response) for response in side) for side in (right, wrong)]
        self.items.append(Item(id, split_key(prompt) if group is None else group, subset, *places))

    def task(self) -> Task:
        return Task(tuple(self.responses.found), tuple(self.items))


def accuracies(items: Sequence[Item], scores: np.ndarray) -> dict[str, tuple[int, int]]:
    """How many items of each subset are right, and how many there are. Right is an item whose right responses all
    score above all its wrong ones: of a pair, chosen above rejected; a tie is wrong. `scores` (R,)."""

    def extremes(sides: list[tuple[int, ...]], extreme: np.ufunc) -> np.ndarray:
        ends = np.cumsum([len(side) for side in sides])
        flat = np.fromiter(chain.from_iterable(sides), int, ends[-1])
        return extreme.reduceat(scores[flat], np.concatenate([[0], ends[:-1]]))  # (items,)

    if not items:
        return {}
    subsets = [item.subset for item in items]
    lowest_right = extremes([item.right for item in items], np.minimum)
    highest_wrong = extremes([item.wrong for item in items], np.maximum)
    hits = Counter(compress(subsets, (lowest_right > highest_wrong).tolist()))
    return {subset: (hits[subset], count) for subset, count in Counter(subsets).items()}


def share(found: dict[str, tuple[int, int]], subsets: Iterable[str]) -> float | None:
    """The share of right items of these subsets together, None if they have none."""
    parts = [found[subset] for subset in subsets if subset in found]
    return sum(hits for hits, _ in parts) / sum(count for _, count in parts) if parts else None


def missing(subsets: Iterable[str], found: Container[str], effect: str) -> list[str]:
    """The problem of subsets that have no rows, if there are such."""
    names = [subset for subset in subsets if subset not in found]
    return [f"no rows of {', '.join(names)}: {effect}"] if names else []
