"""A record of preference data with another label, in the schema it has.

Decisions:
- A flip makes the rejected response the chosen one. What a row says of a side goes with its text: every column with
  "chosen" in its name changes places with its twin (chosen_score, score_chosen, chosen-rating, chosen_ids, ...).
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
    chosen, rejected, margin, responses = (_name(columns, f) for f in ("chosen", "rejected", "margin", "responses"))
    if _is_arena(record, chosen):
        winner = str(record["winner"])
        return record | {"winner": winner[:-1] + _OTHER[winner[-1]]}
    if _is_ranked(record, chosen, responses):
        return record | {name: places[::-1] for name, places in _two_ranks(record, columns, responses).items()}
    twins = {chosen: rejected, rejected: chosen}
    for one, other in (("chosen", "rejected"), ("rejected", "chosen")):
        twins |= {name: name.replace(one, other) for name in record if one in name and name not in twins}
    turned = {name: record[twins[name]] if twins.get(name) in record else value for name, value in record.items()}
    if margin in record:
        turned[margin] = _negative(record[margin])
    if chosen in record and record.get("messages") == record[chosen]:
        turned["messages"] = turned[chosen]
    return turned


def tied(record: Record, columns: Mapping[str, str | None]) -> Record:
    """The record as one in which neither response is preferred. Raises NotExpressible if it has no column for that."""
    chosen, responses = _name(columns, "chosen"), _name(columns, "responses")
    if _is_arena(record, chosen):
        return record | {"winner": "tie"}
    if _is_ranked(record, chosen, responses):
        return record | {name: [places[0]] * 2 for name, places in _two_ranks(record, columns, responses).items()}
    said = _said(record, columns, 0.5, True, "tie")
    if not said:
        raise NotExpressible("has no column that says tie (winner, probability, tie or label); it was left as it is")
    return record | said


def untied(record: Record, columns: Mapping[str, str | None], chosen_better: bool) -> Record:
    """The record of a tie as one in which a response is preferred: the chosen one, which of an arena's row or a ranked
    one is the first, or the other. Raises NotExpressible where scores would have to be made up."""
    chosen, responses = _name(columns, "chosen"), _name(columns, "responses")
    if _is_arena(record, chosen):
        return record | {"winner": "model_a" if chosen_better else "model_b"}
    if _is_ranked(record, chosen, responses):
        ranks, places = _name(columns, "ranks"), _two_ranks(record, columns, responses)
        if list(places) != [ranks]:
            raise NotExpressible("has scores, which no verdict can say; it was left as it is")
        return record | {ranks: [1, 2] if chosen_better else [2, 1]}
    preferred = record | _said(record, columns, 1.0, False, "chosen")
    return preferred if chosen_better else flipped(preferred, columns)


def _said(record: Record, columns: Mapping[str, str | None], probability: float, tie: bool, label: str) -> Record:
    """The columns of the record that say the label, with these values in the form they have; one that is empty in this
    row only where there is no other. Raises NotExpressible where a whole number would have to be a half."""
    said: Record = {}
    for field, word in (("probability", probability), ("tie", tie), ("label", label)):
        name = _name(columns, field)
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


def _name(columns: Mapping[str, str | None], field: str) -> str:
    return columns.get(field) or field


def _is_arena(record: Record, chosen: str) -> bool:
    return record.get(chosen) is None and record.get("winner") is not None


def _is_ranked(record: Record, chosen: str, responses: str) -> bool:
    return record.get(chosen) is None and record.get(responses) is not None


def _two_ranks(record: Record, columns: Mapping[str, str | None], responses: str) -> dict[str, list[Any]]:
    """The columns that rank the two responses."""
    if len(record[responses]) != 2:
        raise NotExpressible(
            f"ranks {len(record[responses])} responses; a verdict on two of them is no ranking, so it was left as it is"
        )
    names = [_name(columns, field) for field in ("ranks", "scores")]
    return {name: list(record[name]) for name in names if record.get(name) is not None}


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
