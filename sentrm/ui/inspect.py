"""The Inspect page: two responses to one prompt in; out come a heatmap of both to operate on, and what lies behind it.

Decisions:
- What is open is a `Desk` in the session's state; the inputs follow it. Nothing else is kept of what a reader wrote.
- An action waits for the heatmap alone: charts and checks follow when the reader pauses, and only in the open tab.
- The heatmap's component takes the actions; this page gives them to `play` and draws the answer.
"""

from __future__ import annotations

import html
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr
from gradio.context import Context

from ..errors import SentrmError
from ..heatmap import heatmap_value, message_value
from ..inspection import Inspector, LengthCheck, PromptCheck
from ..links import decode_pair
from ..results import ModelInfo, ScoredPair, SegmenterInfo
from ..surgery import SurgeryError
from ..words import signed, unit_of
from . import play
from .carry import Carry, carry_value
from .chart_words import health_line
from .fields import pair_fields
from .heatmap import PairHeatmap
from .play import Desk
from .stop import END_JS, START_JS, Stop
from .table import line
from .understand import OTHERS, Understand, flip_words

HOW_TO_READ = """<h2>How to read this</h2>
<p><b>Colour</b> is the reward: how far a {unit} moved the model's running value, measured from {baseline}.
{weight}: how much the {unit} counts in the score. <b>Weight × reward</b>, summed over the {units}{and_prompt}, is the
score.</p>
<p>Only the difference of the two scores means something: σ(margin) is the Bradley-Terry probability that A is
preferred. A score below zero is not bad in itself{prompt}.</p>"""

# Ctrl+Enter or Cmd+Enter scores, wherever the focus is; edits after scoring mark the result as out of date.
ON_LOAD_JS = """() => {
  if (document.body.dataset.inspect) return;
  document.body.dataset.inspect = "on";
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.target.closest(".composer")) {
      event.preventDefault();
      event.stopPropagation();
      document.querySelector("#score")?.click();
    }
  }, true);
  document.addEventListener("input", (event) => {
    if (event.target.matches("#prompt textarea, #a textarea, #b textarea")) document.body.classList.add("stale");
  });
}"""
# The address says what is shown as long as that is what it would open.
SCORED_JS = """() => {
  document.body.classList.remove("stale");
  if (location.search) history.replaceState(history.state, "", location.pathname);
}"""
EXAMPLE_JS = """(id) => {
  document.body.classList.remove("stale");
  history.replaceState(history.state, "", `${location.pathname}?example=${encodeURIComponent(id)}`);
}"""
_TURNS = count(1)  # each value of a heatmap differs from every other, so that the browser hears of it


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


def page_value(desk: Desk, pair: ScoredPair, notices: tuple[str, ...] = ()) -> dict[str, Any]:
    """What the page's heatmap shows: the pair, how its attention is spread, and which steps can be taken."""
    history = desk.history
    findings = [health_line("A", pair.a), health_line("B", pair.b)]
    if pair.a.score < 0 and pair.b.score < 0:
        findings.append("Both scores are below zero. That is not bad in itself: only their difference means something.")
    return {
        **heatmap_value(pair, notices),
        "turn": next(_TURNS),
        "findings": findings,
        "editable": {
            "undo": bool(history.past),
            "redo": bool(history.future),
            "reset": (*history.past, history.present)[0] != history.present,
            "copy": pair.a.text != pair.b.text,
        },
    }


def check_words(prompt: PromptCheck, length: LengthCheck | None) -> list[tuple[str, str, bool]]:
    """Both checks in words: name, numbers, and whether they turn the preference."""
    others = (prompt.empty, prompt.shuffled)
    turned = any(other * prompt.real < 0 for other in others)
    said = (
        f"margin {signed(prompt.real)}, without the prompt {signed(prompt.empty)}, "
        f"with its words shuffled {signed(prompt.shuffled)}"
    )
    found = [("Prompt check", said + (": the preference turns" if turned else ""), turned)]
    if length:
        turned = length.before * length.after < 0
        said = f"margin {signed(length.before)}, calibrated for length {signed(length.after)}"
        found.append(("Length check", said + (": the preference turns" if turned else ""), turned))
    return found


def inspect_page(inspector: Inspector, examples: Sequence[Example] = ()) -> None:
    """Fill the `gr.Blocks` that is being built. It computes nothing; a visit opens its link, or the first example."""
    by_id = {example.id: example for example in examples}
    first = next(iter(examples), None)
    model, segmenter = inspector.scorer.model_info, inspector.scorer.segmenter_info

    @lru_cache(maxsize=4)
    def cutters(spec: str) -> Inspector:
        if spec not in ("", *OTHERS):  # one that loads a model is not a reader's to ask for
            raise SurgeryError(f"got segmenter {spec!r}; expected one of {', '.join(OTHERS)}.")
        return inspector.cut_by(spec) if spec else inspector

    gr.HTML(_head(model, segmenter), apply_default_css=False)
    desk = gr.State(None)
    address = gr.Textbox(visible=False)
    with gr.Row(elem_classes="example-row", visible=bool(by_id)):
        chooser = gr.Dropdown(
            [(example.title, example.id) for example in examples],
            value=first.id if first else None,
            label="Example",
            filterable=False,
            elem_id="example",
        )
        story = line(elem_id="story")
    fields = pair_fields()
    _, a, b = fields
    with gr.Row(elem_classes="score-row"):
        button = gr.Button("Score", variant="primary", elem_id="score")
        stop = gr.Button("Stop", elem_id="stop")
        gr.HTML(_KEY_HINT, elem_classes="key-hint", apply_default_css=False)
    heatmap = PairHeatmap(elem_id="heatmap")
    with gr.Column(visible=False, elem_id="charts") as more:
        tabs = Understand(segmenter.spec)
        gr.HTML("<h2>Carry away</h2>", apply_default_css=False)
        carry = Carry(elem_id="carry")
    gr.HTML(how_to_read(model, segmenter), elem_classes="how", apply_default_css=False)
    stopping = Stop()

    def show(texts: Sequence[str | None], request: gr.Request) -> dict[Any, Any]:
        asked, text_a, text_b = (text or "" for text in texts)
        try:
            opened, pair, notices = play.open_pair(cutters, asked, text_a, text_b, stopping.watched(request))
        except (SentrmError, RuntimeError) as error:  # torch raises RuntimeError, for one when memory runs out
            return {heatmap: message_value(_said(error)), desk: None, more: gr.update(visible=False)}
        value = page_value(opened, pair, notices)
        return {heatmap: value, desk: opened, more: gr.update(visible=True), tabs.segmenter: play.OWN}

    def show_fields(id: str | None, prompt: str, a: str, b: str, request: gr.Request) -> dict[Any, Any]:
        """A story stays beside its own example alone."""
        example = by_id.get(id or "")
        if example is None or (example.prompt, example.a, example.b) != (prompt, a, b):
            return {chooser: None, story: "", **show((prompt, a, b), request)}
        return show((prompt, a, b), request)

    def show_texts(texts: Sequence[str], told: str, request: gr.Request) -> dict[Any, Any]:
        return {**dict(zip(fields, texts, strict=True)), story: told, **show(texts, request)}

    def show_example(id: str, request: gr.Request) -> dict[Any, Any]:
        example = by_id[id]
        return show_texts((example.prompt, example.a, example.b), example.story, request)

    def visit(query: str | None, request: gr.Request) -> dict[Any, Any]:
        """What the address asks for: ?pair=TEXT, ?example=ID, else the first example."""
        asked = dict(parse_qsl((query or "").removeprefix("?")))
        if "pair" in asked:
            try:
                linked, *texts = decode_pair(asked["pair"])
            except SentrmError as error:
                return {heatmap: message_value(f"Nothing was opened: {error}")}
            flat = linked if isinstance(linked, str) else "\n\n".join(turn["content"] for turn in linked)
            return {chooser: None, **show_texts((flat, *texts), "", request)}
        id = asked.get("example", first.id if first else None)
        if id in by_id:
            return {chooser: id, **show_example(id, request)}
        if id is None:
            return {heatmap: None}
        return {heatmap: message_value(f"There is no example {id!r}; expected one of: {', '.join(by_id) or 'none'}.")}

    def operate(now: Desk | None, action: Any) -> dict[Any, Any]:
        if now is None:
            return {heatmap: message_value("Nothing is open any more. Press Score to open both responses again.")}
        try:
            moved, pair = play.act(cutters, now, action)
        except (SentrmError, RuntimeError) as error:
            return {heatmap: {**page_value(now, play.score(cutters, now)), "alert": _said(error)}}
        step = moved.step
        return {
            heatmap: page_value(moved, pair),
            desk: moved,
            a: step.a.text,
            b: step.b.text,
            tabs.segmenter: step.segmenter,
        }

    def edit(now: Desk | None, event: gr.EventData) -> dict[Any, Any]:
        return operate(now, event._data)

    def cut(now: Desk | None, spec: str) -> dict[Any, Any]:
        return operate(now, {"op": "segmenter", "spec": spec})

    def draw(now: Desk | None, tab: str) -> dict[Any, Any]:
        if now is None:
            return {tabs.opened: tab}
        pair = play.score(cutters, now)
        fresh = {tabs.opened: tab, tabs.flip_line: "", tabs.remove: gr.update(visible=False)}
        try:
            return {**fresh, **tabs.draw(pair, tab, inspector.leave_one_out)}
        except SentrmError as error:  # without a sentence the others may not fit
            return {**fresh, tabs.parting: str(error)}

    def check(now: Desk | None, event: gr.EventData) -> dict[Any, Any]:
        if now is None:
            return {heatmap: gr.skip()}
        pair = play.score(cutters, now)
        found = check_words(inspector.prompt_check(pair), inspector.length_check(pair))
        return {heatmap: gr.update(checks={"turn": event._data["turn"], "found": found})}

    def find_flip(now: Desk | None, request: gr.Request) -> dict[Any, Any]:
        if now is None:
            return {tabs.flip_line: ""}
        pair = play.score(cutters, now)
        try:
            flip = inspector.smallest_flip(pair, stopping.watched(request))
        except SentrmError as error:
            return {tabs.flip_line: str(error)}
        return {tabs.flip_line: flip_words(pair, flip), tabs.remove: gr.update(visible=flip is not None)}

    def remove(now: Desk | None) -> dict[Any, Any]:
        flip = inspector.smallest_flip(play.score(cutters, now)) if now else None
        return operate(now, flip and {"op": "remove", "a": [*flip.a], "b": [*flip.b]})

    def carry_away(now: Desk | None, event: gr.EventData) -> dict[str, Any]:
        if now is None:
            return {"message": "Nothing is open. Press Score first."}
        return carry_value(play.score(cutters, now), event._data["kind"])

    results = [heatmap, desk, more, tabs.segmenter]
    edited = [heatmap, desk, a, b, tabs.segmenter]
    drawn = [tabs.opened, tabs.flip_line, tabs.remove, *tabs.outputs]
    private: dict[str, Any] = {"api_visibility": "private"}
    run = {"concurrency_id": "score", "show_progress_on": heatmap, "show_progress": "minimal", **private}
    quiet = {"concurrency_id": "score", "show_progress": "hidden", "trigger_mode": "multiple", **private}
    button.click(None, js=SCORED_JS)  # at once: an edit while scoring goes on makes the result stale again
    for event in (button.click, chooser.input, tabs.flip.click):
        event(None, js=START_JS)
    stop.click(stopping.press, queue=False, **private)
    button.click(show_fields, [chooser, *fields], [chooser, story, *results], **run).then(None, js=END_JS)
    chooser.input(show_example, chooser, [*fields, story, *results], **run).then(None, js=END_JS)
    chooser.input(None, chooser, js=EXAMPLE_JS)
    heatmap.edit(None, js=SCORED_JS)
    heatmap.edit(edit, desk, edited, **quiet)
    heatmap.settled(draw, [desk, tabs.opened], drawn, **{**quiet, "concurrency_id": "charts"})
    heatmap.idle(check, desk, heatmap, **quiet)
    for name, tab in tabs.tabs.items():
        tab.select(draw, [desk, gr.State(name)], drawn, **{**quiet, "concurrency_id": "charts"})
    tabs.segmenter.input(cut, [desk, tabs.segmenter], edited, **run)
    tabs.flip.click(find_flip, desk, [tabs.flip_line, tabs.remove], **{**run, "show_progress_on": tabs.flip_line}).then(
        None, js=END_JS
    )
    tabs.remove.click(remove, desk, edited, **run)
    carry.carry(carry_away, desk, carry, **{**quiet, "concurrency_id": "charts"})
    page = Context.root_block
    assert page is not None  # gradio itself asks for one before
    page.load(None, js=ON_LOAD_JS)
    page.load(visit, address, [chooser, *fields, story, *results], js="() => location.search", **run)


def _said(error: Exception) -> str:
    """An error in words for the reader; one that nobody expected goes to the log as well."""
    if isinstance(error, SentrmError):
        return f"Nothing was changed. {error}" if isinstance(error, SurgeryError) else str(error)
    logging.getLogger(__name__).exception("scoring failed")
    return f"Nothing was scored: the model failed. {error}"


_KEY_HINT = (
    '<span class="fresh-hint">or <kbd>Ctrl</kbd> <kbd>Enter</kbd></span>'
    '<span class="stale-hint" role="status">The text has changed since it was scored.</span>'
)


def _head(model: ModelInfo, segmenter: SegmenterInfo) -> str:
    line = f"model: {model.name} · aggregation: {model.aggregator} · segmenter: {segmenter.spec}"
    return f'<div class="page-head"><h1>Inspect</h1><span>{html.escape(line)}</span></div>'
