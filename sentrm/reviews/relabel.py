"""A record of preference data with another label, in the schema it has.

Decisions:
- A flip makes the rejected response the chosen one. What a row says of a side goes with its text: every column with
  "chosen" in its name, or what the data call that column, changes places with its twin (chosen_score, score_chosen,
  chosen-rating, chosen_ids, ...).
- `margin` is how far chosen is ahead, so it changes its sign. `messages`, where it repeats chosen, goes on doing so.
- In an arena's row the responses stay where they are and the winner changes; two ranked responses change their ranks.
- A tie is written where the row has a column for it: winner, ranks or scores of two, probability, tie, label; and where
  one side of a tie is found better, the same column says so.
- What the schema has no words for is said (`NotExpressible`), never approximated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..columns import winning_side
from ..preferences import column_names

Record = dict[str, Any]


class NotExpressible(Exception):
    """Why a record of this schema cannot carry the label."""


def flipped(record: Record, columns: Mapping[str, str | None]) -> Record:
    """The record, whose label is no tie, with its two responses' places changed.

    Args:
        columns: field -> its name in the data, as for `load_preferences`.

    Raises:
        NotExpressible: the row ranks more than two responses.
    """
    names = column_names(columns)
    if _has(record, names, "winner"):
        winner = str(record[names["winner"]])
        better = winning_side(winner, names)
        other = {"response_a": "response_b", "response_b": "response_a"}[better]
        turned = names[other] if winner == names[better] else winner[:-1] + _OTHER[winner[-1]]
        return record | {names["winner"]: turned}
    if _has(record, names, "responses"):
        return record | {name: places[::-1] for name, places in _two_ranks(record, names).items()}
    chosen, rejected = names["chosen"], names["rejected"]
    twins = {chosen: rejected, rejected: chosen}
    for one, other in (("chosen", "rejected"), (chosen, rejected)):
        for name in record:
            twin = name.replace(one, other)
            if twin in record and name not in twins and twin not in twins and twin.replace(other, one) == name != twin:
                twins |= {name: twin, twin: name}
    row = {name: record.get(twins[name], value) if name in twins else value for name, value in record.items()}
    if (margin := names.get("margin")) in record:
        row[margin] = _negative(record[margin])
    if chosen in record and record.get("messages") == record[chosen]:
        row["messages"] = row[chosen]
    return row


def tied(record: Record, columns: Mapping[str, str | None]) -> Record:
    """The record as one in which neither response is preferred. Raises NotExpressible if it has no column for that."""
    names = column_names(columns)
    if _has(record, names, "winner"):
        return record | {names["winner"]: "tie"}
    if _has(record, names, "responses"):
        return record | {name: [places[0]] * 2 for name, places in _two_ranks(record, names).items()}
    said = _said(record, names, 0.5, True, "tie")
    if not said:
        raise NotExpressible("has no column that says tie (winner, probability, tie or label); it was left as it is")
    return record | said


def untied(record: Record, columns: Mapping[str, str | None], chosen_better: bool) -> Record:
    """The record of a tie as one in which a response is preferred: the chosen one, which of an arena's row or a ranked
    one is the first, or the other. Raises NotExpressible where scores would have to be made up."""
    names = column_names(columns)
    if _has(record, names, "winner"):
        return record | {names["winner"]: "model_a" if chosen_better else "model_b"}
    if _has(record, names, "responses"):
        if list(_two_ranks(record, names)) != [names["ranks"]]:
            raise NotExpressible("has scores, which no verdict can say; it was left as it is")
        return record | {names["ranks"]: [1, 2] if chosen_better else [2, 1]}
    preferred = record | _said(record, names, 1.0, False, "chosen")
    return preferred if chosen_better else flipped(preferred, columns)


def _said(record: Record, names: Mapping[str, str], probability: float, tie: bool, label: str) -> Record:
    """The columns of the record that say the label, with these values in the form they have; one that is empty in this
    row only where there is no other. Raises NotExpressible where a whole number would have to be a half."""
    said: Record = {}
    for field, word in (("probability", probability), ("tie", tie), ("label", label)):
        name = names.get(field)
        if name in record and (field != "label" or str(record[name]).lower() in ("chosen", "rejected", "tie")):
            said[name] = _as(record[name], word)
    return {name: value for name, value in said.items() if record[name] is not None} or said


def _as(cell: Any, word: float | bool | str) -> Any:
    """The word in the type of the cell."""
    if isinstance(cell, str):
        return str(word).lower()
    if isinstance(cell, int) and not isinstance(cell, bool) and not isinstance(word, str):
        if word != int(word):
            raise NotExpressible(
                f"says its label by the whole number {cell}, and a tie is a half; it was left as it is"
            )
        return int(word)
    return word


_OTHER = {"a": "b", "b": "a", "A": "B", "B": "A"}


def _has(record: Record, names: Mapping[str, str], field: str) -> bool:
    """Whether the row says what is better by this field, and not by what it calls chosen."""
    cells = [record.get(names[one]) if one in names else None for one in ("chosen", field)]
    return cells[0] is None and cells[1] is not None


def _two_ranks(record: Record, names: Mapping[str, str]) -> dict[str, list[Any]]:
    """The columns that rank the two responses."""
    count = len(record[names["responses"]])
    if count != 2:
        raise NotExpressible(
            f"ranks {count} responses; a verdict on two of them is no ranking, so it was left as it is"
        )
    columns = [names[field] for field in ("ranks", "scores") if field in names]
    return {name: list(record[name]) for name in columns if record.get(name) is not None}


def _negative(value: Any) -> Any:
    """Minus a number, also one written as text; all else as it is."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value
    if not math.isfinite(number) or isinstance(value, bool) or number == 0:
        return value
    if isinstance(value, str):
        text = value.strip()
        return text[1:] if text.startswith("-") else f"-{text.removeprefix('+')}"
    return -value
