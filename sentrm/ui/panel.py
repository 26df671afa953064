"""A panel of the Dataset page: a message, progress, figures, filters, a table, pages; whichever its value holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .heatmap import Drawing

_HERE = Path(__file__).parent
_SCRIPT = (_HERE / "panel.js").read_text(encoding="utf-8")
_LISTENING = _SCRIPT + (_HERE / "dataset.js").read_text(encoding="utf-8")
_TEMPLATE = '<div class="panel"><p class="found" role="status" tabindex="-1"></p><div class="parts"></div></div>'


class Panel(Drawing):
    """Draws values of these parts, all optional, and in this order; texts are placed as text.

        message     {text, alert}
        progress    {done, of, text}; of may be None
        figures     [{name, text, note, narrow}]
        found       a line that a screen reader says when it changes
        tools       {search, quick [{text, href, on}], chips [{text, href}], clear, review}
        table       {caption, kind, headers [{text, href, sorted}], numeric, rows [{cells}]}; a cell is text,
                    {text, narrow}, {text, href, class} or {lines: [cells]}
        pages       {text, previous, next}

    One panel of a page is `listening`: it keeps the address, hears what narrows the list, and asks for another list by
    the event `go`, {query}. Its value holds `query` too, with `asked`, what it answers, or `push` where the address
    changed without asking.
    """

    def __init__(self, value: dict[str, Any] | None = None, listening: bool = False, **kwargs: Any) -> None:
        super().__init__(value, _TEMPLATE, "", _LISTENING if listening else _SCRIPT, **kwargs)
