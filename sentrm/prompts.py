"""A prompt as text in a field: how a conversation is written there, and how it is read.

    a text, or one message of the user    the text itself
    several messages                      each behind its role, a blank line between two:

                                              system: Answer briefly.

                                              user: How do I boil an egg?

    what would be read otherwise          its messages as indented JSON

The last are a text that looks like a conversation, messages that hold such a text, and messages that call tools.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from .preferences import split_key
from .results import Message, Prompt, is_prompt
from .schemas import ROLES
from .words import counted

_TURN = re.compile(rf"(?:\A|\n\n)({'|'.join(ROLES)}): ")


def write_prompt(prompt: Prompt) -> str:
    """A text that `read_prompt` reads as what a model takes for this very prompt.

    >>> print(write_prompt(({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"})))
    system: Be brief.
    <BLANKLINE>
    user: Why?
    """
    text = split_key(prompt)
    return text if _messages(read_prompt(text)) == _messages(prompt) else _json(_messages(prompt))


def read_prompt(text: str) -> Prompt:
    """The messages of a text that is written as a conversation, character by character; of any other the text."""
    before, *parts = _TURN.split(text)
    turns = tuple({"role": role, "content": words} for role, words in zip(parts[::2], parts[1::2], strict=True))
    if not before and len(turns) > 1 and split_key(turns) == text:
        return turns
    try:
        messages = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(messages, list) and messages and is_prompt(messages) and _json(messages) == text:
        return tuple(messages)
    return text


def prompt_notices(prompt: Prompt) -> tuple[str, ...]:
    """That a prompt is read as a conversation, if it is."""
    if isinstance(prompt, str):
        return ()
    return (f"The prompt is read as a conversation of {counted(len(prompt), 'message')}.",)


def _messages(prompt: Prompt) -> list[Message]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)


def _json(messages: Sequence[Message]) -> str:
    return json.dumps(messages, ensure_ascii=False, indent=2)
