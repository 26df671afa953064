"""A prompt as text in a field: every prompt is read back as what the model reads, and a plain text stays one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentrm.links import decode_pair, encode_pair
from sentrm.prompts import prompt_notices, read_prompt, write_prompt
from sentrm.schemas import ROLES

TURNS = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Eggs?\n\nHow: long?"},
    {"role": "assistant", "content": " Nine minutes. \n"},
    {"role": "user", "content": ""},
)
WRITTEN = "system: Be brief.\n\nuser: Eggs?\n\nHow: long?\n\nassistant:  Nine minutes. \n\n\nuser: "
WORDS = st.lists(st.sampled_from(["user: ", "system: ", "tool:", "\n\n", "\n", " ", "eggs", "[", "]"])).map("".join)
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.sampled_from(ROLES), "content": WORDS}), min_size=1, max_size=4)


def messages_of(prompt):
    """What the chat template is given."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)


def test_a_conversation_is_written_message_by_message():
    assert write_prompt(TURNS) == WRITTEN
    assert read_prompt(WRITTEN) == TURNS
    assert prompt_notices(TURNS) == ("The prompt is read as a conversation of 4 messages.",)


@given(WORDS | MESSAGES.map(tuple))
def test_every_prompt_comes_back_as_the_model_reads_it(prompt):
    assert messages_of(read_prompt(write_prompt(prompt))) == messages_of(prompt)


@given(WORDS)
def test_a_text_that_is_read_as_a_conversation_is_what_is_written_of_it(text):
    assert write_prompt(read_prompt(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "How do I boil an egg?",
        "user: Why?",
        "system: reboot",
        "\n\nuser: Why?\n\nassistant: So.",
        "Say this:\n\nuser: Why?\n\nassistant: So.",
        "user: Why?\nassistant: So.",
        "User: Why?\n\nAssistant: So.",
        "\n\nHuman: Why?\n\nAssistant: So.\n\nHuman: How?",
        "[]",
        "[1]",
        '[{"role": "user", "content": "Why?"}]',
        "[" * 100_000,
        "9" * 5_000,
    ],
)
def test_any_other_text_is_itself(text):
    assert read_prompt(text) == text
    assert write_prompt(text) == text
    assert prompt_notices(text) == ()


@pytest.mark.parametrize(
    "prompt",
    [
        "user: Why?\n\nassistant: So.\n\nuser: How?",
        json.dumps([{"role": "user", "content": "Why?"}], indent=2),
        ({"role": "system", "content": "Be brief."},),
        ({"role": "user", "content": "Go on: a\n\nuser: b"}, {"role": "assistant", "content": "c"}),
        (
            {"role": "user", "content": "Wie spät?"},
            {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "now", "arguments": {}}}]},
            {"role": "tool", "content": "12:00", "name": "now"},
        ),
    ],
)
def test_what_would_be_read_otherwise_is_written_as_json(prompt):
    text = write_prompt(prompt)
    assert json.loads(text) == messages_of(prompt) == messages_of(read_prompt(text))
    assert decode_pair(encode_pair(text, "a", "b"))[0] == text


def test_one_message_of_the_user_is_its_text():
    assert write_prompt(({"role": "user", "content": "Why?"},)) == "Why?"
