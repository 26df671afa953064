"""The app's heatmap: `heatmap_value` drawn by heatmap.js in a component of its own, with surgery.js for its reader.

The template is fixed and takes no data: gradio would evaluate `${...}` inside it.
"""

from __future__ import annotations

from abc import ABCMeta
from itertools import count
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.component_meta import ComponentMeta, updateable

from ..heatmap import SCRIPT, STYLE, TEMPLATE
from ..words import visible

_ALERTS = count()  # each differs from the one before, so that the browser hears of it
_SURGERY = Path(__file__).with_name("surgery.js").read_text(encoding="utf-8")


class _NoStub(ComponentMeta):
    """Gradio's own metaclass writes a .pyi file beside each component's source, and type checkers would read it."""

    def __new__(cls, name: str, bases: tuple[type, ...], attrs: dict[str, Any]) -> type:
        if "__init__" in attrs:  # as its own does: an update of one property is made with the others as they were given
            attrs["__init__"] = updateable(attrs["__init__"])
        return ABCMeta.__new__(cls, name, bases, attrs)


class Drawing(gr.HTML, metaclass=_NoStub):
    """Data, drawn by a script that places all text by `textContent`: nothing in it is parsed as markup."""

    def __init__(self, value: dict[str, Any] | None, template: str, style: str, script: str, **kwargs: Any) -> None:
        super().__init__(
            value=value,
            html_template=template,
            css_template=style,
            js_on_load=script,
            apply_default_css=False,
            **kwargs,
        )

    def postprocess(self, value: dict[str, Any] | None) -> dict[str, Any] | None:  # type: ignore[override]
        return value

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}

    def get_config(self) -> dict[str, Any]:  # type: ignore[override]
        """Without the listeners that gradio makes of the names of further properties, which stand in `props`: it copies
        the configuration for every visit, and through a listener the whole app."""
        return {name: value for name, value in super().get_config().items() if not callable(value)}


class PairHeatmap(Drawing):
    """Draws what `heatmap_value` or `message_value` returns. Knows results only, nothing of models.

    Of the value of one turn more is found out after it is drawn, {"turn", "found"}: `checks`, and `left_out`, what the
    score loses without each sentence. `alert` is why the reader's last wish was not done. The reader's actions arrive
    as the event `edit`, if the value is `editable`.
    """

    def __init__(
        self,
        value: dict[str, Any] | None = None,
        checks: dict[str, Any] | None = None,
        left_out: dict[str, Any] | None = None,
        alert: tuple[int, str] | None = None,
        **kwargs: Any,
    ) -> None:
        more = {"checks": checks, "left_out": left_out, "alert": alert}
        super().__init__(value, TEMPLATE, STYLE, _SURGERY + SCRIPT, **more, **kwargs)


def alert(said: str) -> dict[str, Any]:
    """An update that leaves what is shown as it is, and says above it why nothing else came."""
    return gr.update(alert=(next(_ALERTS), visible(said)))
