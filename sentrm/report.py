"""A result to carry away: one HTML page that opens offline, a picture, a table, JSON.

Decisions:
- The page is the app's own heatmap, drawn by the same script. A policy in its head forbids every request and every
  script but that one, whatever text the result holds.
- Numbers in the table and in JSON are exact: read back, they are equal. Page and picture round, as the app does.
- A text cell of the table that a spreadsheet would take for a formula gets a leading apostrophe; numbers do not.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path

from .colours import DARK, LIGHT, Colours
from .heatmap import SCRIPT, STYLE, TEMPLATE, heatmap_value
from .results import Message, Prompt, ScoredPair, ScoredResponse
from .words import harmless_cell, signed, verdict, visible

CSV_HEADERS = [
    *("result", "id", "response", "boundary", "start", "end", "tokens"),
    *("value", "reward", "weight", "contribution", "score", "text"),
]
_ROLES = {  # the style sheets of the heatmap speak of colours by gradio's names
    "--body-background-fill": "page",
    "--background-fill-secondary": "panel",
    "--body-text-color": "ink",
    "--body-text-color-subdued": "dim",
    "--border-color-primary": "line",
    "--color-accent": "accent",
}
# What heatmap.js is given in the app. Here its value never changes and nobody listens.
_PROLOGUE = """
const element = document.querySelector("main");
const props = { value: JSON.parse(document.querySelector("#value").textContent) };
const watch = () => {};
"""


def to_html(result: ScoredPair | ScoredResponse) -> str:
    """One self-contained page: the heatmap with hover and keyboard, light or dark as the reader's system is."""
    value = heatmap_value(result)
    response = result.a if isinstance(result, ScoredPair) else result
    model, segmenter = response.model, response.segmenter
    title = verdict(result.probability) if isinstance(result, ScoredPair) else f"Score {signed(response.score)}"
    facts = f"{model.name} ({model.revision}), {model.aggregator}, cut by {segmenter.spec} ({segmenter.revision})"
    turns: Sequence[Message] = (
        ({"role": "prompt", "content": result.prompt},) if isinstance(result.prompt, str) else result.prompt
    )
    script = _PROLOGUE + SCRIPT
    style = (
        f":root {{ {_variables(LIGHT)} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}\n"
        + Path(__file__).with_name("report.css").read_text(encoding="utf-8")
        + STYLE
    )
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        f"script-src '{_hash(script)}'; style-src '{_hash(style)}'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(title)} · sentrm</title>\n<style>{style}</style>\n</head>\n<body>\n<main>",
        f'<h1>{_text(title)}</h1>\n<p class="facts">{_text(facts)}</p>',
        '<section class="prompt" aria-label="Prompt">',
        *(f'<h2>{_text(turn["role"])}</h2><p dir="auto" tabindex="0">{_text(turn["content"])}</p>' for turn in turns),
        f"</section>\n{TEMPLATE}",
        '<p class="how">Contributions, weight × reward, add up to the score. A score means something only beside '
        "another for the same prompt: σ(margin) is the Bradley-Terry probability that A is preferred.</p>",
        f'</main>\n<script type="application/json" id="value">{_json(value)}</script>',
        f'<script type="module">{script}</script>\n</body>\n</html>\n',
    ]
    return "\n".join(parts)


def show(result: ScoredPair | ScoredResponse) -> None:
    """Draw the heatmap below a notebook's cell, in a frame of its own.

    Raises:
        ImportError: IPython is not installed, which every notebook has.
    """
    try:
        from IPython.display import HTML, display  # a notebook brings it
    except ImportError as error:
        raise ImportError(
            "show() draws in a notebook, and IPython is not installed. Write result.to_html() to a file and open it."
        ) from error
    frame = (
        f'<iframe title="sentrm heatmap" srcdoc="{html.escape(to_html(result))}" '
        'style="width: 100%; height: 640px; border: 0" '
        "onload=\"this.style.height = Math.min(this.contentDocument.documentElement.scrollHeight + 8, 760) + 'px'\">"
        "</iframe>"
    )
    display(HTML(f"<div>{frame}</div>"))


def to_csv(results: Sequence[ScoredPair | ScoredResponse]) -> str:
    """One row a boundary, columns as in `CSV_HEADERS`: boundary 0 is the prompt, boundary i ends sentence i.

    `result` counts from 1; `response` is a or b for a pair. Text that is not a number is shown as the page shows it.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(CSV_HEADERS)
    for number, result in enumerate(results, start=1):
        id = result.id if isinstance(result, ScoredPair) else ""
        for name, response in (("a", result.a), ("b", result.b)) if isinstance(result, ScoredPair) else (("", result),):
            texts = (_flat(response.prompt), *response.sentences)
            spans = (("", ""), *response.spans)
            columns = zip(response.values, response.rewards, response.weights, response.contributions, strict=True)
            for i, terms in enumerate(columns):
                tokens = response.tokens[i - 1] if i else ""
                cells = [
                    number,
                    id,
                    name,
                    i,
                    *spans[i],
                    tokens,
                    *terms,
                    response.score,
                    texts[i],
                ]
                writer.writerow([harmless_cell(cell) if isinstance(cell, str) else cell for cell in cells])
    return stream.getvalue()


def to_json(results: Sequence[ScoredPair | ScoredResponse]) -> str:
    """JSON Lines, one `to_dict()` a line, as `sentrm score` writes them."""
    return "".join(json.dumps(result.to_dict(), allow_nan=False) + "\n" for result in results)


def _flat(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)


def _variables(colours: Colours) -> str:
    return " ".join(f"{name}: {vars(colours)[role]};" for name, role in _ROLES.items())


def _hash(source: str) -> str:
    """What names a script or style sheet in a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode("utf-8")).digest()).decode("ascii")


def _text(text: str) -> str:
    return html.escape(visible(text))


def _json(value: object) -> str:
    """JSON that no text can end early: `<` never stands in it as itself."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")
