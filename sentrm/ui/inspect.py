"""The Inspect page: two responses to one prompt in, a heatmap of both and the sums below it out."""

from __future__ import annotations

import html
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ..errors import SentrmError
from ..preferences import PreferencePair
from ..results import ModelInfo, ScoredPair, SegmenterInfo
from .charts import TABLE_HEADERS, residual_line, shared_range, table_rows, waterfall
from .heatmap import PairHeatmap, heatmap_value, message_value
from .words import counted, unit_of

if TYPE_CHECKING:
    from ..scoring import Scorer

HOW_TO_READ = """<h2>How to read this</h2>
<p><b>Colour</b> is the reward: how far a {unit} moved the model's running value, measured from {baseline}.
{weight}: how much the {unit} counts in the score. <b>Weight × reward</b>, summed over the {units}{and_prompt}, is the
score.</p>
<p>Only the difference of the two scores means something: σ(margin) is the Bradley-Terry probability that A is
preferred. A score below zero is not bad in itself{prompt}.</p>"""

# Ctrl+Enter or Cmd+Enter scores, wherever the focus is; edits after scoring mark the result as out of date.
ON_LOAD_JS = """() => {
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      event.stopPropagation();
      document.querySelector("#score").click();
    }
  }, true);
  document.addEventListener("input", (event) => {
    if (event.target.matches("#prompt textarea, #a textarea, #b textarea")) document.body.classList.add("stale");
  });
}"""
MARK_FRESH_JS = "() => { document.body.classList.remove('stale'); }"


@dataclass(frozen=True)
class Example:
    """A pair that the page offers: what to look for stands in `story`."""

    id: str
    title: str
    story: str
    prompt: str
    a: str
    b: str


def read_examples(file: Path) -> list[Example]:
    """Read one example a line. Raises OSError, or ValueError, KeyError for a line that is none."""
    lines = file.read_text(encoding="utf-8").splitlines()
    names = Example.__dataclass_fields__
    return [Example(**{name: json.loads(line)[name] for name in names}) for line in lines if line.strip()]


def check_input(prompt: str, a: str, b: str) -> str | None:
    """What is missing in the three fields, in one sentence; None if nothing is."""
    fields = {"the prompt": prompt, "response A": a, "response B": b}
    missing = [(name, "only white space" if text else "empty") for name, text in fields.items() if not text.strip()]
    if not missing:
        return None
    said = ", ".join(f"{name} is {state}" for name, state in missing)
    return f"Nothing was scored: {said}. A prompt and two responses are needed."


def replace_surrogates(text: str) -> tuple[str, int]:
    """`text` with each lone surrogate, which no encoding of text can carry, replaced by U+FFFD; and how many."""
    clean = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    return clean, sum(was != now for was, now in zip(text, clean, strict=True))


def score_texts(scorer: Scorer, prompt: str, a: str, b: str) -> tuple[ScoredPair, tuple[str, ...]]:
    """Score one pair; also the notices about characters that could not be taken as they were.

    Raises:
        SentrmError: if a field is empty, a response cannot be encoded, or the model returns no finite numbers.
    """
    missing = check_input(prompt, a, b)
    if missing:
        raise SentrmError(missing)
    cleaned, notices = [], []
    for name, text in (("The prompt", prompt), ("Response A", a), ("Response B", b)):
        clean, count = replace_surrogates(text)
        cleaned.append(clean)
        if count:
            notices.append(f"{name} held {counted(count, 'lone surrogate')}, which is no character; read as \ufffd.")
        if "\0" in text:
            notices.append(f"{name} holds {counted(text.count(chr(0)), 'NUL character')}, shown as \u2400.")
    pair = PreferencePair(prompt=cleaned[0], chosen=cleaned[1], rejected=cleaned[2])
    try:
        scored = scorer.score([pair])[0]
    except SentrmError as error:
        said = str(error).replace("chosen of pair 1", "Response A").replace("rejected of pair 1", "Response B")
        if unit_of(scorer.segmenter_info.spec) == "response":
            said = said.replace("first sentence", "response").replace("sentence", "response")
        raise SentrmError(f"Nothing was scored. {said}") from error
    return scored, tuple(notices)


def how_to_read(model: ModelInfo, segmenter: SegmenterInfo) -> str:
    """The page's last words, for this model and what its segmenter cuts."""
    unit = unit_of(segmenter.spec)
    weight = {
        "sentence": "<b>The bar</b> below it is the weight",
        "response": "<b>The weight</b> stands in the detail",
    }.get(unit, "<b>The bar</b> below it, with one a row, is the weight")
    measured = model.median_reward is not None and segmenter.own
    alone = model.aggregator.endswith("without_prompt")
    return HOW_TO_READ.format(
        unit=unit,
        units=unit if unit == "response" else f"{unit}s",
        baseline=f"its median {unit}" if measured else "zero",
        weight=weight,
        and_prompt="" if alone else " and the prompt",
        prompt=", and the prompt has no weight in it"
        if alone
        else ", and the prompt's share differs between A and B because its weight does",
    )


def build_app(scorer: Scorer, examples: Sequence[Example] = ()) -> gr.Blocks:
    """The app. Building it computes nothing; the first visit scores the first example."""
    by_title = {example.title: example for example in examples}

    def show(prompt: str, a: str, b: str) -> list[Any]:
        try:
            pair, notices = score_texts(scorer, prompt or "", a or "", b or "")
        except (SentrmError, RuntimeError) as error:  # torch raises RuntimeError, for one when memory runs out
            message = str(error)
            if not isinstance(error, SentrmError):
                logging.getLogger(__name__).exception("scoring failed")
                message = f"Nothing was scored: the model failed. {message}"
            return [message_value(message), gr.update(visible=False), None, None, "", "", []]
        y_range = shared_range(pair)
        return [
            heatmap_value(pair, notices),
            gr.update(visible=True),
            waterfall("A", pair.a, y_range),
            waterfall("B", pair.b, y_range),
            residual_line("A", pair.a),
            residual_line("B", pair.b),
            table_rows(pair),
        ]

    def show_example(title: str) -> list[Any]:
        example = by_title[title]
        return [example.prompt, example.a, example.b, example.story, *show(example.prompt, example.a, example.b)]

    def show_written(title: str | None, prompt: str, a: str, b: str) -> list[Any]:
        """A story stays beside its own example alone."""
        example = by_title.get(title or "")
        same = example is not None and (example.prompt, example.a, example.b) == (prompt, a, b)
        return [title if same else None, example.story if example and same else "", *show(prompt, a, b)]

    with gr.Blocks(title="sentrm", analytics_enabled=False) as app:
        gr.HTML(_head(scorer.model_info, scorer.segmenter_info), apply_default_css=False)
        first = next(iter(by_title), None)
        with gr.Row(elem_classes="example-row", visible=bool(by_title)):
            chooser = gr.Dropdown(list(by_title), value=first, label="Example", filterable=False, elem_id="example")
            story = gr.HTML(elem_id="story", html_template="", **_TEXT_ONLY)
        prompt = gr.Textbox(label="Prompt", lines=2, max_lines=6, elem_id="prompt", placeholder="What was asked")
        with gr.Row(elem_classes="responses"):
            a = gr.Textbox(label="Response A", lines=5, max_lines=9, elem_id="a", placeholder="One response")
            b = gr.Textbox(label="Response B", lines=5, max_lines=9, elem_id="b", placeholder="The other response")
        with gr.Row(elem_classes="score-row"):
            button = gr.Button("Score", variant="primary", elem_id="score")
            gr.HTML(_KEY_HINT, elem_classes="key-hint", apply_default_css=False)
        heatmap = PairHeatmap(elem_id="heatmap")
        with gr.Column(visible=False, elem_id="charts") as charts:
            gr.HTML("<h2>How the scores add up</h2>", apply_default_css=False)
            with gr.Tabs():
                with gr.Tab("Waterfall"), gr.Row():
                    with gr.Column(min_width=300):
                        gr.HTML('<p class="chart-name">Response A</p>', apply_default_css=False)
                        plot_a = gr.Plot(show_label=False, elem_id="plot-a")
                        residual_a = gr.HTML(html_template="", elem_classes="residual", **_TEXT_ONLY)
                    with gr.Column(min_width=300):
                        gr.HTML('<p class="chart-name">Response B</p>', apply_default_css=False)
                        plot_b = gr.Plot(show_label=False, elem_id="plot-b")
                        residual_b = gr.HTML(html_template="", elem_classes="residual", **_TEXT_ONLY)
                with gr.Tab("View as table"):
                    table = gr.Dataframe(
                        headers=TABLE_HEADERS,
                        datatype="str",
                        interactive=False,
                        show_label=False,
                        wrap=True,
                        elem_id="table",
                        column_widths=["90px", "110px", "320px", "80px", "90px", "90px", "90px", "110px"],
                    )
        gr.HTML(how_to_read(scorer.model_info, scorer.segmenter_info), elem_classes="how", apply_default_css=False)

        fields = [prompt, a, b]
        results = [heatmap, charts, plot_a, plot_b, residual_a, residual_b, table]
        run: dict[str, Any] = {"concurrency_id": "score", "show_progress_on": heatmap, "show_progress": "minimal"}
        button.click(None, js=MARK_FRESH_JS)  # at once: an edit while scoring goes on makes the result stale again
        button.click(show_written, [chooser, *fields], [chooser, story, *results], **run)
        app.load(None, js=ON_LOAD_JS)
        if first:
            chooser.input(show_example, chooser, [*fields, story, *results], **run).then(None, js=MARK_FRESH_JS)
            app.load(show_example, chooser, [*fields, story, *results], **run)
    return app


# Text that comes from data is placed by textContent, never as a template.
_TEXT_ONLY: dict[str, Any] = {
    "js_on_load": "const put = () => { element.textContent = props.value || ''; }; watch('value', put); put();",
    "apply_default_css": False,
}

_KEY_HINT = (
    '<span class="fresh-hint">or <kbd>Ctrl</kbd> <kbd>Enter</kbd></span>'
    '<span class="stale-hint" role="status">The text has changed since it was scored.</span>'
)


def _head(model: ModelInfo, segmenter: SegmenterInfo) -> str:
    line = f"model: {model.name} · aggregation: {model.aggregator} · segmenter: {segmenter.spec}"
    return f'<div class="page-head"><h1>Inspect</h1><span>{html.escape(line)}</span></div>'
