"""The look of the app: one theme in light and dark, and the page's own style sheet. Nothing comes from other hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from ..colours import DARK, FONT, FONT_MONO, LIGHT


def theme() -> gr.themes.Base:
    """Gradio's plain theme with this page's colours, spacing and fonts."""
    chosen: dict[str, Any] = {
        "body_background_fill": "page",
        "background_fill_primary": "page",
        "background_fill_secondary": "panel",
        "block_background_fill": "page",
        "input_background_fill": "page",
        "input_background_fill_focus": "page",
        "body_text_color": "ink",
        "block_label_text_color": "ink",
        "block_title_text_color": "ink",
        "button_secondary_text_color": "ink",
        "body_text_color_subdued": "dim",
        "block_info_text_color": "dim",
        "input_placeholder_color": "dim",
        "border_color_primary": "line",
        "block_border_color": "line",
        "input_border_color": "field",
        "input_border_color_focus": "accent",
        "color_accent": "accent",
        "border_color_accent": "accent",
        "link_text_color": "accent",
        "button_primary_background_fill": "accent",
        "button_primary_background_fill_hover": "accent",
        "button_primary_border_color": "accent",
        "button_primary_border_color_hover": "accent",
        "button_primary_text_color": "on_accent",
        "button_primary_text_color_hover": "on_accent",
        "button_secondary_background_fill": "panel",
    }
    base = gr.themes.Base(font=FONT, font_mono=FONT_MONO, text_size="md", spacing_size="md", radius_size="md")
    values: dict[str, str] = {}
    for name, colour in chosen.items():
        values[name] = vars(LIGHT)[colour]
        if name not in _NO_DARK:
            values[f"{name}_dark"] = vars(DARK)[colour]
    return base.set(
        **values,
        block_border_width="0px",
        block_shadow="none",
        block_padding="0px",
        block_title_text_weight="600",
        block_title_text_size="13px",
        input_border_width="1px",
        input_radius="10px",
        input_padding="10px 12px",
        input_shadow="none",
        input_shadow_focus="0 0 0 1px var(--color-accent)",
        button_large_radius="10px",
        layout_gap="16px",
    )


_NO_DARK = ("color_accent",)  # gradio has one accent for both modes; the style sheet sets the dark one

CSS = (
    "".join(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("look.css", "dataset.css"))
    + f".dark, .dark .gradio-container {{ --color-accent: {DARK.accent}; }}\n"
)
# In the head: gradio rewrites what it gets as `css` and loses rules inside @media on the way.
SCRIPT = "".join(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("fields.js", "charts.js"))
HEAD = f"<style>\n{CSS}</style>\n<script>\n{SCRIPT}</script>"


def mount_options() -> dict[str, Any]:
    """What gradio 6 takes when an app is mounted and not at construction: the look, and nothing that calls another
    host or keeps what a reader scored."""
    quiet = dict.fromkeys(("ssr_mode", "pwa", "run_history"), False)
    return {"theme": theme(), "head": HEAD, "footer_links": [], **quiet}
