"""A calm table: text cells, tied to the sentences that its rows speak of. And lines of text that hold data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from .heatmap import Drawing

_SCRIPT = Path(__file__).with_name("table.js").read_text(encoding="utf-8")

# Text that comes from data is placed by textContent, never as a template.
_LINE = "const put = () => { element.textContent = props.value || ''; }; watch('value', put); put();"


class Table(Drawing):
    """Draws what `table_value` returns."""

    def __init__(self, value: dict[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(value, '<div class="table-box" tabindex="0"></div>', "", _SCRIPT, **kwargs)


def table_value(
    caption: str,
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    places: Sequence[Sequence[tuple[int, int]]] = (),
    text: Sequence[str] = ("response", "term", "text", "after", "A", "B", "where they part", "characters"),
) -> dict[str, Any]:
    """A table for `Table`.

    Args:
        places: the sentences that each row speaks of, (side, sentence from 0); none for rows beyond them.
        text: the columns that hold words; the others hold numbers.
    """
    numeric = [k for k, header in enumerate(headers) if header not in text]
    padded = [list(map(list, one)) for one in places] + [[]] * (len(rows) - len(places))
    return {"caption": caption, "headers": list(headers), "rows": list(rows), "numeric": numeric, "places": padded}


def line(role: str = "", **options: Any) -> gr.HTML:
    """A component that shows one value as plain text; with the role "status" a screen reader says what is new."""
    script = _LINE + (f" element.setAttribute('role', '{role}');" if role else "")
    return gr.HTML(html_template="", js_on_load=script, apply_default_css=False, **options)
