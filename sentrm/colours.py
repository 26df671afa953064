"""The colours of every page, in light and dark mode, and its fonts. Nothing comes from other hosts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Colours:
    """The colours of one mode. Text colours reach a contrast of 4.5:1 on `page` and `panel`, `accent` 3:1."""

    page: str
    panel: str
    ink: str
    dim: str
    line: str
    field: str  # border of an input, 3:1 on the page
    accent: str
    on_accent: str
    error: str


LIGHT = Colours("#ffffff", "#f8f9fb", "#111827", "#4b5563", "#e2e5ea", "#868e9b", "#1d4ed8", "#ffffff", "#b91c1c")
DARK = Colours("#12151b", "#1a1e26", "#e8ebf0", "#a6aebb", "#2f3541", "#6b7482", "#7aa2ff", "#0b1020", "#ff8f85")

FONT = ["Inter", "system-ui", "sans-serif"]
FONT_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
