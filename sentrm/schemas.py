"""The shapes in which a row holds a prompt and its responses -> the prompt and the responses' texts.

A response is text. One that calls tools, with the results it got, is written out as text, each call and each result
between tags; what stands before the response, tool calls included, goes to the chat template as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from .readers import BadRow
from .results import Message, Prompt

ROLES = ("user", "assistant", "system", "tool", "developer")
OPTIONAL = ("tool_calls", "tool_call_id", "name", "reasoning_content", "thinking")  # what else chat templates read


def read_texts(prompt: Any, chosen: Any, rejected: Any, has_prompt: bool) -> tuple[Prompt, str, str]:
    """The prompt and the two responses of a row in any of the schemas, without context."""
    prompt = None if prompt is None else _read("prompt", prompt)
    if isinstance(prompt, list) and len(prompt) > 1 and prompt[-1] == {"role": "assistant", "content": ""}:
        prompt.pop()  # the "Assistant:" that ends an HH prompt
    if isinstance(chosen, str) and isinstance(rejected, str) and not _are_transcripts(chosen, rejected, prompt):
        if prompt is not None:
            return (prompt if isinstance(prompt, str) else tuple(prompt)), chosen, rejected
        if has_prompt:
            raise BadRow("has no prompt, while other rows have one")
        return _split_shared_text(chosen, rejected)
    ours, theirs = _read("chosen", chosen), _read("rejected", rejected)
    if isinstance(ours, str) or isinstance(theirs, str):
        raise BadRow("one of chosen and rejected is text, the other messages; expected the same for both")
    return _split_conversations(prompt, ours, theirs)


def _read(field: str, value: Any) -> str | list[Message]:
    """Text stays text; an HH transcript and a list of messages become messages."""
    if isinstance(value, str):
        return _read_hh(value) if _is_hh(value) else value
    if not isinstance(value, list) or not value:
        raise BadRow(f"{field} is of type {type(value).__name__}, expected text or messages, at least one")
    return [_read_message(field, message) for message in value]


def _read_message(field: str, message: Any) -> Message:
    full = without_none(message) if isinstance(message, dict) else {}
    role, content = full.get("role"), full.get("content")
    if content is None and full.get("tool_calls"):
        content = ""
    if role == "tool" and isinstance(content, dict | list):
        content = json.dumps(content, ensure_ascii=False)
    if role not in ROLES or not isinstance(content, str):
        raise BadRow(
            f"a message of {field} has role {role!r} and content of type {type(content).__name__}, "
            f"expected role {', '.join(ROLES)} and text"
        )
    calls = full.get("tool_calls", [])
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise BadRow(f"the tool_calls of a message of {field} are no list of objects")
    return {"role": role, "content": content} | {key: full[key] for key in OPTIONAL if full.get(key)}


def without_none(value: Any) -> Any:
    """The value without empty entries: Arrow gives every object of a column the keys of all of them."""
    if isinstance(value, dict):
        return {key: without_none(one) for key, one in value.items() if one is not None}
    return [without_none(one) for one in value] if isinstance(value, list) else value


def _are_transcripts(chosen: str, rejected: str, prompt: Any) -> bool:
    """Beside a prompt, a text that begins with Human: but has no answer is the response of a confused model."""
    return all(_is_hh(text) and (prompt is None or "\n\nAssistant:" in text) for text in (chosen, rejected))


def _is_hh(text: str) -> bool:
    return re.match(r"\s*Human:", text) is not None


def _read_hh(text: str) -> list[Message]:
    parts = re.split(r"(?:\A\s*|\n\n)(Human|Assistant):", text)[1:]  # speaker, words, speaker, words, ...
    roles = {"Human": "user", "Assistant": "assistant"}
    turns = zip(parts[::2], parts[1::2], strict=True)
    return [{"role": roles[speaker], "content": words.strip()} for speaker, words in turns]


def _split_conversations(
    prompt: str | list[Message] | None, chosen: list[Message], rejected: list[Message]
) -> tuple[Prompt, str, str]:
    """The prompt is the `prompt` column, or the leading messages both conversations share, or both at once."""
    for field, messages in (("chosen", chosen), ("rejected", rejected)):
        if messages[-1]["role"] != "assistant":
            raise BadRow(f"the last message of {field} is the {messages[-1]['role']}'s, expected the assistant's")
    shared = []
    for ours, theirs in zip(chosen[:-1], rejected[:-1], strict=False):
        if ours != theirs:
            break
        shared.append(ours)
    given: list[Message] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt or []
    responses = chosen[len(shared) :], rejected[len(shared) :]
    if any(len(response) > 1 and not _works_with_tools(response) for response in responses):
        after = max(map(len, responses))
        where = "after the shared prompt" if shared or given else "and no shared prompt"
        raise BadRow(f"has {after} messages {where}, expected one, the assistant's response")
    if given and shared:
        if shared[0]["role"] == "assistant" and given[0]["role"] != "assistant":
            shared = given + shared  # the conversation goes on from the prompt
        elif not all(_repeats(message["content"], shared) for message in given):
            raise BadRow("the prompt is another than the one chosen and rejected begin with")
    if not given and not shared:
        raise BadRow("has no prompt, and chosen and rejected share no message")
    return tuple(shared or given), _response_text(responses[0]), _response_text(responses[1])


def _works_with_tools(messages: list[Message]) -> bool:
    """Whether several messages are one response: calls of tools and their results up to the answer."""
    return all(message["role"] in ("assistant", "tool") for message in messages) and any(
        message["role"] == "tool" or "tool_calls" in message for message in messages
    )


def _response_text(messages: list[Message]) -> str:
    parts: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            parts.append(f"<tool_response>\n{message['content']}\n</tool_response>")
            continue
        calls: Any = message.get("tool_calls", [])
        written = [json.dumps(call.get("function", call), ensure_ascii=False) for call in calls]
        parts += [message["content"]] * (bool(message["content"]) or not calls)
        parts += [f"<tool_call>\n{call}\n</tool_call>" for call in written]
    return "\n".join(parts)


def _repeats(text: str, messages: Iterable[Message]) -> bool:
    """Whether a message holds the text or the reverse: prompt columns differ from it by a template or white space."""
    contents = [message["content"].strip() for message in messages]
    return any(text.strip() in content or (content and content in text) for content in contents)


def _split_shared_text(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Cut the prompt where the two texts part, at a word's end, so that prompt + response is the text again.

    >>> _split_shared_text("The sky is blue.", "The sky is green.")
    ('The sky is', ' blue.', ' green.')
    """
    parted = (i for i, (ours, theirs) in enumerate(zip(chosen, rejected, strict=False)) if ours != theirs)
    cut = next(parted, min(len(chosen), len(rejected)))
    while cut and not all(text[cut : cut + 1].isspace() or cut == len(text) for text in (chosen, rejected)):
        cut -= 1
    if not chosen[:cut].strip():
        raise BadRow("has no prompt, and chosen and rejected do not begin with the same words")
    return chosen[:cut], chosen[cut:], rejected[cut:]
