"""One HTML page of tables and charts that opens anywhere, with nothing to fetch: what reports have in common.

Decisions:
- Text from data reaches the page through `escaped` alone, and the embedded JSON cannot be ended early by any text.
- Light and dark follow the reader's system; the colours are the app's.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentrm.colours import DARK, LIGHT
from sentrm.heatmap import INK_ON_COLOUR
from sentrm.words import visible


def page(title: str, kind: str, line: str, parts: Sequence[str], data: dict[str, Any]) -> str:
    """The whole file.

    Args:
        title: the model's name, as text.
        kind: of report, as text; goes behind the title.
        line: HTML of what the numbers rest on.
        parts: HTML of the sections.
        data: JSON that the page carries; its "charts" are drawn in the elements of `chart_box`.
    """
    from plotly.offline import get_plotlyjs  # only who writes a page needs it

    light, dark = (" ".join(f"--{name.replace('_', '-')}: {c};" for name, c in vars(m).items()) for m in (LIGHT, DARK))
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    embedded = json.dumps(data, allow_nan=False).replace("<", "\\u003c")  # "<" never stands in it as itself
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escaped(title)}: {kind}</title>",
            f"<style>:root {{ color-scheme: light dark; --on-colour: {INK_ON_COLOUR}; {light} }}",
            f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}",
            f"{style}</style></head><body><main>",
            f"<header><h1>{escaped(title)}</h1><span>{kind} · {line}</span></header>",
            *parts,
            "</main>",
            f'<script type="application/json" id="report">{embedded}</script>',
            f"<script>{get_plotlyjs()}</script>",
            f"<script>{DRAW}</script></body></html>",
        ]
    )


DRAW = """
const { charts } = JSON.parse(document.getElementById("report").textContent);
for (const [id, { data, layout }] of Object.entries(charts)) {
  const font = { family: "Inter, system-ui, sans-serif", size: 12 };
  const clear = "rgba(0,0,0,0)";
  const names = ["xaxis", "yaxis", "yaxis2", "yaxis3"].filter((name) => name.length === 5 || name in layout);
  const axes = Object.fromEntries(names.map(
    (name) => [name, { fixedrange: true, zeroline: false, automargin: true, ...layout[name] }]));
  const top = data.some((trace) => trace.showlegend !== false) ? 50 : 28;
  Plotly.newPlot(id, data, {
    height: 300, margin: { l: 44, r: 12, t: top, b: 44 }, paper_bgcolor: clear, plot_bgcolor: clear, font,
    dragmode: false,
    legend: { orientation: "h", x: 0, xanchor: "left", yref: "container", y: 1, yanchor: "top" }, ...layout, ...axes,
  }, { responsive: true, displayModeBar: false });
}
"""


def escaped(text: object) -> str:
    """Text as HTML, characters that a screen cannot show replaced."""
    return html.escape(visible(str(text)))


def chart_box(name: str, label: str) -> str:
    return f'<div class="chart" id="{name}" role="img" aria-label="{label}"></div>'


def track(figures: dict[str, float], others: Sequence[float]) -> str:
    """Accuracy and its interval on a line from 0 to 100%, a tick for each other system."""
    parts = ['<i class="half" style="--at: 50%"></i>']
    if "accuracy_low" in figures:
        low, high = figures["accuracy_low"], figures["accuracy_high"]
        parts.append(f'<i class="interval" style="--at: {100 * low:.2f}%; --width: {100 * (high - low):.2f}%"></i>')
    parts += [f'<i class="other" style="--at: {100 * other:.2f}%"></i>' for other in others]
    parts.append(f'<i class="dot" style="--at: {100 * figures["accuracy"]:.2f}%"></i>')
    return f'<div class="track" aria-hidden="true">{"".join(parts)}</div>'
