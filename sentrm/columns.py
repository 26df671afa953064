"""The columns beside prompt and responses: labels, arguments of the chat template, token ids."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .readers import BadRow
from .schemas import without_none

TOKENS = ("chosen_ids", "rejected_ids", "chosen_boundaries", "rejected_boundaries")
# Arguments of `apply_chat_template` that a row may not set.
NO_TEMPLATE_KWARGS = {"conversation", "tools", "tokenize", "add_generation_prompt", "continue_final_message"}
NO_TEMPLATE_KWARGS |= {"padding", "truncation", "max_length", "return_tensors", "return_dict", "tokenizer_kwargs"}


@dataclass(frozen=True)
class TokenizedPair:
    """The two sequences of a pre-tokenised row, chosen first."""

    ids: tuple[tuple[int, ...], tuple[int, ...]]  # (L,) each
    boundaries: tuple[tuple[int, ...], tuple[int, ...]]  # (N + 1,) each, indices into ids


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def _number(value: Any) -> float:
    """A finite number, also written as text; NaN for all else."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def read_margin(value: Any) -> float | None:
    if value is None or value == "":  # a CSV has no other way to leave it out
        return None
    if math.isnan(margin := _number(value)):
        raise BadRow(f"margin is {value!r:.40}, expected a finite number")
    return margin


def read_label(fields: Mapping[str, Any]) -> dict[str, float | None]:
    """Margin and probability. The data's margin is that of the preferred response: ours turns its sign with it."""
    margin, probability = read_margin(fields["margin"]), read_probability(fields)
    return {"margin": -abs(margin) if margin and probability < 0.5 else margin, "probability": probability}


def read_probability(fields: Mapping[str, Any]) -> float:
    """What the columns probability, tie and label say; they must agree."""
    said = set()
    if (value := fields["probability"]) not in (None, ""):
        if not 0 <= _number(value) <= 1:
            raise BadRow(f"probability is {value!r:.40}, expected a number from 0 to 1, that chosen is preferred")
        said.add(_number(value))
    if (tie := fields["tie"]) not in (None, ""):
        if str(tie).lower() not in ("true", "false", "1", "0", "1.0", "0.0"):
            raise BadRow(f"tie is {tie!r:.40}, expected true or false")
        said |= {0.5} if str(tie).lower() in ("true", "1", "1.0") else set()
    word = fields["label"].lower() if isinstance(fields["label"], str) else ""
    said |= {"chosen": {1.0}, "rejected": {0.0}, "tie": {0.5}}.get(word, set())
    if len(said) > 1:
        raise BadRow(f"probability, tie and label contradict each other: chosen is preferred with {sorted(said)}")
    return said.pop() if said else 1.0


def winning_side(winner: Any, names: Mapping[str, str]) -> str:
    """The field of the response that an arena's row prefers, or "tie".

    Args:
        names: field -> its column, which a winner may be called by, too.
    """
    columns = {side: names.get(side, side) for side in ("response_a", "response_b")}
    word = str(winner).lower()
    for side, column in columns.items():
        if winner == column or word in (side[-1], f"model_{side[-1]}", side):
            return side
    if word.startswith(("tie", "both")):
        return "tie"
    raise BadRow(f"winner is {winner!r:.40}, expected model_a, model_b or tie, or {' or '.join(columns.values())}")


def read_winner(fields: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """An arena's row as chosen, rejected and probability; at a tie a is chosen."""
    side = winning_side(fields["winner"], names)
    chosen, rejected = ("response_b", "response_a") if side == "response_b" else ("response_a", "response_b")
    return {"chosen": fields[chosen], "rejected": fields[rejected], "probability": 0.5 if side == "tie" else 1.0}


def read_tools(value: Any) -> tuple[dict[str, Any], ...]:
    tools = _json("tools", value, [])
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise BadRow(f"tools is {value!r:.40}, expected a list of JSON schemas, or that list as JSON text")
    return tuple(tools)


def read_template_kwargs(value: Any) -> dict[str, Any]:
    arguments = _json("chat_template_kwargs", value, {})
    if not isinstance(arguments, dict) or not all(isinstance(name, str) for name in arguments):
        raise BadRow(f"chat_template_kwargs is {value!r:.40}, expected an object")
    if reserved := sorted(NO_TEMPLATE_KWARGS & set(arguments)):
        raise BadRow(f"chat_template_kwargs sets {', '.join(reserved)}, expected variables of the chat template only")
    return arguments


def _json(field: str, value: Any, empty: Any) -> Any:
    """An optional column of JSON: text is parsed as it is, and Arrow's empty entries are taken out of objects."""
    if value is None or value == "":
        return empty
    if not isinstance(value, str):
        return without_none(value)
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise BadRow(f"{field} is no JSON: {error}") from None


def read_text(field: str, value: Any) -> str:
    """The text of an optional field; a number becomes text."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadRow(f"{field} is of type {type(value).__name__}, expected text")
    return str(value)


def read_tokens(fields: Mapping[str, Any]) -> TokenizedPair:
    """Without boundaries in the data: the end of the prompt, which is what both begin with, and the last token."""
    for name in TOKENS:
        value = fields[name]
        given = isinstance(value, list | tuple) and all(type(one) is int and one >= 0 for one in value) and value
        if not given and (value is not None or name.endswith("ids")):
            raise BadRow(f"{name} is {value!r:.40}, expected a list of token ids or positions, none negative")
    ours, theirs = tuple(fields["chosen_ids"]), tuple(fields["rejected_ids"])
    if (fields["chosen_boundaries"] is None) != (fields["rejected_boundaries"] is None):
        raise BadRow(
            "has the boundaries of one response, expected chosen_boundaries and rejected_boundaries or neither"
        )
    if fields["chosen_boundaries"] is None:
        most = min(len(ours), len(theirs)) - 1
        shared = next((i for i in range(most) if ours[i] != theirs[i]), most)
        if shared < 1:
            raise BadRow("chosen_ids and rejected_ids do not begin with the same token, expected the same prompt")
        return TokenizedPair((ours, theirs), ((shared - 1, len(ours) - 1), (shared - 1, len(theirs) - 1)))
    places = tuple(fields["chosen_boundaries"]), tuple(fields["rejected_boundaries"])
    for ids, boundaries in zip((ours, theirs), places, strict=True):
        if list(boundaries) != sorted(boundaries) or boundaries[-1] >= len(ids):
            raise BadRow(f"got boundaries {boundaries!r:.40}, expected ascending positions below {len(ids)}")
    if ours[: places[0][0] + 1] != theirs[: places[1][0] + 1]:
        raise BadRow("the tokens up to the first boundary differ, expected the same prompt for both")
    return TokenizedPair((ours, theirs), places)
