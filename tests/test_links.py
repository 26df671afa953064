"""A pair in a link: it comes back as it was, fits into an address, and no link can do harm."""

from __future__ import annotations

import base64
import json
import re
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentrm.errors import SentrmError
from sentrm.links import MAX_LINK, MAX_TEXT, LinkError, decode_pair, encode_pair

TEXT = st.text(st.characters(), max_size=80)  # lone surrogates and control characters among them


def link_of(value: object) -> str:
    packed = zlib.compress(value if isinstance(value, bytes) else json.dumps(value).encode())
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


@given(TEXT, TEXT, TEXT)
def test_a_pair_comes_back_as_it_was(prompt, a, b):
    link = encode_pair(prompt, a, b)
    assert re.fullmatch(r"[\w-]+", link, re.ASCII)  # nothing that an address would escape
    assert decode_pair(link) == (prompt, a, b)


def test_a_usual_pair_makes_a_short_link():
    said = "Boil the egg for nine minutes, then cool it under water and peel it. It keeps for three days. "
    assert len(encode_pair("How do I boil an egg?", said * 20, said.upper() * 20)) < 500


def test_a_pair_too_long_for_a_link_is_refused_with_what_to_do():
    with pytest.raises(LinkError, match=r"at most 1,000,000 and 30,000\. Export it as a file instead\."):
        encode_pair("p", "a" * MAX_TEXT, "b")
    noise = "".join(chr(0x4E00 + 7919 * i % 20000) for i in range(20_000))
    with pytest.raises(LinkError, match="Export it"):
        encode_pair("p", noise, "b")


def test_a_bomb_is_not_unfolded():
    bomb = link_of(b'["p","' + b"a" * 20_000_000 + b'","b"]')
    assert len(bomb) < MAX_LINK
    tracemalloc.start()
    with pytest.raises(LinkError, match="unfolds to more than 1,000,000 bytes"):
        decode_pair(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * MAX_TEXT


def test_a_link_of_just_the_allowed_size_is_read():
    a = "a" * (MAX_TEXT - len('["p","","b"]'))
    assert decode_pair(link_of(json.dumps(["p", a, "b"], separators=(",", ":")).encode())) == ("p", a, "b")
    with pytest.raises(LinkError, match="unfolds"):
        decode_pair(link_of(json.dumps(["p", a + "a", "b"], separators=(",", ":")).encode()))


GOOD = encode_pair("p", "a", "b")


@pytest.mark.parametrize(
    "link",
    [
        "",
        "A",
        "not a link",
        GOOD[:-4],
        GOOD + "AAAA",
        GOOD.replace(GOOD[5], "é"),
        link_of(b"no JSON"),
        link_of(b"\xff\xff"),
        link_of(b"[" * 100_000),
        link_of(b"9" * 5_000),
        "A" * (MAX_LINK + 1),
        *map(link_of, (["p", "a"], ["p", "a", "b", "c"], ["p", 1, "b"], [None, "a", "b"], {"p": 1}, [[], "a", "b"])),
        link_of([[{"role": "user", "content": "p"}], "a", "b"]),
    ],
)
def test_a_link_that_holds_no_pair_is_refused(link):
    with pytest.raises(LinkError, match=r"\. (Copy|Ask)"):
        decode_pair(link)
    assert issubclass(LinkError, SentrmError)


@given(st.text(st.sampled_from("AZaz09-_=+/ é"), max_size=60))
def test_any_text_is_a_pair_or_refused(link):
    with pytest.raises(LinkError):
        decode_pair(link)
