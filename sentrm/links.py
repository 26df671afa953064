"""A pair in a link: prompt and both responses as text that fits into a URL, so that nothing is stored anywhere.

The text is JSON, compressed by zlib, in the URL-safe base64 alphabet without padding (RFC 1950, RFC 4648 section 5).
"""

from __future__ import annotations

import base64
import json
import zlib

from .errors import SentrmError

MAX_LINK = 30_000  # characters; web servers refuse longer addresses, uvicorn's at 64 KiB with all headers
MAX_TEXT = 1_000_000  # bytes a link may unfold to


class LinkError(SentrmError):
    """A pair too long for a link, or a link that holds no pair."""


def encode_pair(prompt: str, a: str, b: str) -> str:
    """The pair as text of letters, digits, `-` and `_`; `decode_pair` gives the pair back.

    Raises:
        LinkError: the pair is too long for a link.
    """
    text = json.dumps([prompt, a, b], ensure_ascii=False, separators=(",", ":"))
    raw = text.encode("utf-8", "surrogatepass")
    link = base64.urlsafe_b64encode(zlib.compress(raw, 9)).decode("ascii").rstrip("=")
    if len(link) > MAX_LINK or len(raw) > MAX_TEXT:
        raise LinkError(
            f"the pair has {len(raw):,} bytes and its link {len(link):,} characters, expected at most {MAX_TEXT:,} "
            f"and {MAX_LINK:,}. Export it as a file instead."
        )
    return link


def decode_pair(link: str) -> tuple[str, str, str]:
    """The prompt and both responses that `encode_pair` wrote. Never unfolds more than `MAX_TEXT` bytes.

    Raises:
        LinkError: `link` is too long, damaged, or holds something else.
    """
    if len(link) > MAX_LINK:
        raise LinkError(
            f"the link has {len(link):,} characters, expected at most {MAX_LINK:,}. Ask for a file instead."
        )
    unfold = zlib.decompressobj()
    try:
        packed = base64.b64decode(link + "=" * (-len(link) % 4), altchars=b"-_", validate=True)
        raw = unfold.decompress(packed, MAX_TEXT)
        if not unfold.eof and unfold.decompress(unfold.unconsumed_tail, 1):
            raise LinkError(f"the link unfolds to more than {MAX_TEXT:,} bytes. Ask for a file instead.")
        if not unfold.eof or unfold.unused_data:
            raise ValueError("it is cut off, or goes on behind its end")
        pair = json.loads(raw.decode("utf-8", "surrogatepass"))
    except LinkError:
        raise
    except (ValueError, RecursionError, zlib.error) as error:
        raise LinkError(f"the link is damaged ({error}). Copy the whole address again.") from error
    match pair:
        case [str() as prompt, str() as a, str() as b]:
            return prompt, a, b
    raise LinkError("the link holds no pair, expected a prompt and two responses. Copy the whole address again.")
