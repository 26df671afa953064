"""What a reader carries away from the page: files that the browser saves, and a link that holds the pair."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

from ..links import LinkError, encode_pair
from ..picture import to_svg
from ..prompts import write_prompt
from ..report import to_csv, to_html, to_json
from ..results import ScoredPair
from .heatmap import Drawing

_SCRIPT = Path(__file__).with_name("carry.js").read_text(encoding="utf-8")
_FILES = {
    "html": ("text/html", to_html),
    "svg": ("image/svg+xml", to_svg),
    "png": ("image/png", to_svg),  # the browser draws it from the SVG
    "json": ("application/jsonl", lambda pair: to_json([pair])),
    "csv": ("text/csv", lambda pair: to_csv([pair])),
}
_ASKED = count()


class Carry(Drawing):
    """The buttons; a click arrives as the event `carry`, its answer is what `carry_value` returns."""

    def __init__(self, value: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(value, '<div class="carry"></div>', "", _SCRIPT, **kwargs)


def carry_value(pair: ScoredPair, kind: object, recut: bool = False) -> dict[str, Any]:
    """The file or link of a kind; each answer differs from the one before, so that the browser hears of it.

    Args:
        recut: whether the pair would be cut otherwise when its texts are opened again.
    """
    if kind == "link":
        more = " Cuts by hand or by another segmenter are not in it." if recut else ""
        try:
            query = f"?pair={encode_pair(write_prompt(pair.prompt), pair.a.text, pair.b.text)}"
            return {"asked": next(_ASKED), "query": query, "more": more}
        except LinkError as error:
            return {"asked": next(_ASKED), "message": f"No link: {error}"}
    media, write = _FILES[str(kind)]
    suffix = "jsonl" if kind == "json" else kind
    return {"asked": next(_ASKED), "name": f"sentrm-pair.{suffix}", "type": media, "text": write(pair)}
