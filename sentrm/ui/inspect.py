"""The Inspect page: two responses to one prompt in; out come a heatmap of both to operate on, and what lies behind it.

Decisions:
- What is open is a `Desk` in the session's state; the inputs follow it. Of what a reader wrote the server keeps this,
  and the last answers of the model in memory (`Inspector`); the browser's tab keeps the fields until it is closed.
- A step is taken from a desk and fields that say the same; else it is refused, and nothing on the page changes.
- An action waits for the heatmap alone: charts, checks and the smallest flip have a queue of their own, follow when the
  reader pauses, and end once they are of what was.
- Scoring runs in one queue. A step on the heatmap is too short for one, which would cost it a third of its time: it
  waits for the model's turn alone.
- The heatmap's component takes the actions; this page gives them to `play` and draws the answer.
- A pair of an audit has the audit's numbers here, or a line that says why not.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr

from ..errors import SentrmError
from ..heatmap import heatmap_value, message_value
from ..inspection import Inspector, LengthCheck, PromptCheck, failure
from ..links import decode_pair
from ..prompts import prompt_notices, write_prompt
from ..results import ModelInfo, ScoredPair, ScoredResponse, SegmenterInfo
from ..surgery import History, SurgeryError
from ..words import signed, unit_of
from . import play
from .api import QUEUE
from .carry import Carry, carry_value
from .chart_words import health_line
from .fields import ASKED_JS, KEPT_JS, button_row, kept_texts, pair_fields
from .heatmap import PairHeatmap, alert
from .play import Desk
from .stop import Stop, Stopped
from .table import line
from .understand import INFLUENCE, OTHERS, Understand, flip_words
from .workbench import Workbench

HOW_TO_READ = """<h2>How to read this</h2>
<p><b>Colour</b> is the reward: how far a {unit} moved the model's running value, measured from {baseline}.
{weight}: how much the {unit} counts in the score. <b>Weight × reward</b>, summed over the {units}{and_prompt}, is the
score.</p>
<p>Only the difference of the two scores means something: σ(margin) is the Bradley-Terry probability that A is
preferred. A score below zero is not bad in itself{prompt}.</p>"""

ROUNDING = 0.02  # logits by which half precision may move a score
CHARTS = "charts"  # the queue of what nobody waits for
EXAMPLE_JS = "(id) => { chosen(`?example=${encodeURIComponent(id)}`); return id; }"


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
        **heatmap_value(pair, (*prompt_notices(pair.prompt), *notices)),
        "turn": desk.turn,
        "findings": findings,
        "editable": {
            "undo": bool(history.past),
            "redo": bool(history.future),
            "reset": (*history.past, history.present)[0] != history.present,
            "copy": pair.a.text != pair.b.text,
        },
    }


def audit_notices(audited: ScoredPair | None, pair: ScoredPair) -> tuple[str, ...]:
    """Why the numbers of an audit's pair are others here than there; nothing where they are the same, and nothing of
    another pair."""
    if audited is None or _texts(audited) != _texts(pair):
        return ()
    if (audited.a.model.revision, audited.a.segmenter) != (pair.a.model.revision, pair.a.segmenter):
        before, now = _scored_by(audited.a), _scored_by(pair.a)
        return (f"This audit was scored by {before}; here it is scored by {now}, so numbers differ.",)
    if all(abs(one.score - other.score) < ROUNDING for one, other in ((audited.a, pair.a), (audited.b, pair.b))):
        return ()
    return (
        f"This audit has the margin {signed(audited.margin)} for this pair. There the model was given more than these "
        "texts, such as tools, template variables or token ids, or had another maximum length or precision.",
    )


def check_words(prompt: PromptCheck | None, length: LengthCheck | None) -> list[tuple[str, str, bool]]:
    """Both checks in words: name, numbers, and whether they turn the preference."""
    found = []
    if prompt:
        turned = any(other * prompt.real < 0 for other in (prompt.empty, prompt.shuffled or 0.0))
        said = f"margin {signed(prompt.real)}, without the prompt {signed(prompt.empty)}"
        if prompt.shuffled is not None:
            said += f", with its words shuffled {signed(prompt.shuffled)}"
        found.append(("Prompt check", said + (": the preference turns" if turned else ""), turned))
    if length:
        turned = length.before * length.after < 0
        said = f"margin {signed(length.before)}, calibrated for length {signed(length.after)}"
        found.append(("Length check", said + (": the preference turns" if turned else ""), turned))
    return found


def inspect_page(
    app: gr.Blocks, inspector: Inspector, examples: Sequence[Example] = (), workbench: Workbench | None = None
) -> None:
    """Fill the app that is being built. It computes nothing; a visit opens its link, or the first example.

    Args:
        workbench: whose audits a link may name, with a pair of one.
    """
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
    audited = gr.State(None)  # the pair of an audit that the address asked for, as the audit has it
    kept = gr.Textbox(visible=False)
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
    with gr.Row(elem_classes="score-row"):
        button, stop, busy = button_row("Score")
    heatmap = PairHeatmap(elem_id="heatmap")
    with gr.Column(visible=False, elem_id="charts") as more:
        tabs = Understand(segmenter.spec)
        gr.HTML("<h2>Carry away</h2>", apply_default_css=False)
        carry = Carry(elem_id="carry")
    gr.HTML(how_to_read(model, segmenter), elem_classes="how", apply_default_css=False)
    stopping = Stop()

    def filled(texts: Sequence[str]) -> dict[Any, Any]:
        """The story stays beside its own example alone."""
        id = next((one.id for one in examples if (one.prompt, one.a, one.b) == tuple(texts)), None)
        return {chooser: id, story: by_id[id].story if id else "", **dict(zip(fields, texts, strict=True))}

    def visit(asked: str | None) -> dict[Any, Any]:
        """What the address asks for, ?pair=TEXT, ?audit=NAME&id=ID or ?example=ID; else what stood here before, or the
        first example."""
        query = dict(parse_qsl((asked or "").removeprefix("?")))
        if "pair" in query or "audit" in query:
            try:
                if "audit" not in query:
                    return filled(decode_pair(query["pair"]))
                pair = (workbench or Workbench()).open(query["audit"]).pair(query.get("id", ""))
                return {audited: pair, **filled(_texts(pair))}
            except SentrmError as error:
                return {chooser: None, heatmap: message_value(f"Nothing was opened: {error}")}
        if texts := kept_texts(asked):
            return filled(texts)
        id = query.get("example", first.id if first else None)
        if id in by_id or id is None:
            return example_texts(id)
        known = ", ".join(by_id) or "none"
        return {chooser: None, heatmap: message_value(f"There is no example {id!r}; expected one of: {known}.")}

    def example_texts(id: str | None) -> dict[Any, Any]:
        one = by_id.get(id or "")
        return filled((one.prompt, one.a, one.b) if one else ("", "", ""))

    def show(now: Desk | None, before: ScoredPair | None, request: gr.Request, *texts: str | None) -> dict[Any, Any]:
        prompt, a, b = (text or "" for text in texts)
        stopping.press(request)  # what is worked at is of the pair before
        try:
            opened, pair, notices = play.open_pair(cutters, prompt, a, b, stopping.watched(request))
        except (SentrmError, RuntimeError) as error:  # torch raises RuntimeError, for one when memory runs out
            return {heatmap: alert(failure(error)) if now else message_value(failure(error))}
        shown = {
            heatmap: page_value(opened, pair, (*audit_notices(before, pair), *notices)),
            desk: opened,
            more: gr.update(visible=True),
        }
        known = filled((prompt, a, b))
        return {**shown, **flipless, tabs.segmenter: play.OWN, chooser: known[chooser], story: known[story]}

    def open_filled(
        now: Desk | None, before: ScoredPair | None, request: gr.Request, *texts: str | None
    ) -> dict[Any, Any]:
        as_opened = now and now.history == History((), now.step) and play.holds(now, *(text or "" for text in texts))
        return {heatmap: gr.skip()} if as_opened or not any(texts) else show(now, before, request, *texts)

    def operate(now: Desk | None, request: gr.Request, texts: Sequence[str | None], action: Any) -> dict[Any, Any]:
        if now is None:
            return {heatmap: message_value("Nothing is open any more. Press Score to open both responses again.")}
        try:
            if not play.holds(now, *(text or "" for text in texts)):
                raise SurgeryError("The text above has changed. Press Score first.")
            stopping.press(request)  # not before: it may be the new text that is being scored
            moved, pair = play.act(cutters, now, action)
        except (SentrmError, RuntimeError) as error:
            said = f"Nothing was changed. {error}" if isinstance(error, SurgeryError) else failure(error)
            return {heatmap: alert(said), tabs.segmenter: now.step.segmenter}
        drafts = (now.step.a, moved.step.a), (now.step.b, moved.step.b)
        changed = {
            field: new.text for field, (old, new) in zip(fields[1:], drafts, strict=True) if old.text != new.text
        }
        shown = {heatmap: page_value(moved, pair), desk: moved, tabs.segmenter: moved.step.segmenter}
        return {**shown, **flipless, **changed}

    def edit(now: Desk | None, request: gr.Request, event: gr.EventData, *texts: str | None) -> dict[Any, Any]:
        return operate(now, request, texts, event._data)

    def cut(now: Desk | None, request: gr.Request, spec: str, *texts: str | None) -> dict[Any, Any]:
        if now and (now.step.segmenter, now.step.a.by_hand, now.step.b.by_hand) == (spec, False, False):
            return {heatmap: gr.skip()}
        return operate(now, request, texts, {"op": "segmenter", "spec": spec})

    def remove(now: Desk | None, request: gr.Request, action: Any, *texts: str | None) -> dict[Any, Any]:
        return operate(now, request, texts, action)

    def draw(now: Desk | None, request: gr.Request, tab: str) -> dict[Any, Any]:
        if now is None:
            return {tabs.opened: tab}
        report = stopping.watched(request)
        try:
            pair = play.score(cutters, now)
            left_out = None
            if tab == INFLUENCE:
                left_out = inspector.leave_one_out(pair.a, report), inspector.leave_one_out(pair.b, report)
            shown = tabs.draw(pair, tab, left_out)
        except Stopped:
            return {tabs.opened: tab}
        except (SentrmError, RuntimeError) as error:  # without a sentence the others may not fit
            return {tabs.opened: tab, tabs.scatter: None, tabs.parting: failure(error)}
        if left_out:
            found = [[signed(one, 3) for one in lost] for lost in left_out]
            shown[heatmap] = gr.update(left_out={"turn": now.turn, "found": found})
        return {tabs.opened: tab, **shown}

    def check(now: Desk | None) -> dict[Any, Any]:
        if now is None:
            return {heatmap: gr.skip()}
        try:
            pair = play.score(cutters, now)
            found = check_words(inspector.prompt_check(pair), inspector.length_check(pair))
        except (SentrmError, RuntimeError) as error:
            found = [("Checks", failure(error), False)]
        return {heatmap: gr.update(checks={"turn": now.turn, "found": found})}

    def find_flip(now: Desk | None, request: gr.Request) -> dict[Any, Any]:
        if now is None:
            return flipless
        report = stopping.watched(request)
        try:
            pair = play.score(cutters, now)
            flip = inspector.smallest_flip(pair, report)
            report(1, 1)
        except Stopped:
            return flipless
        except (SentrmError, RuntimeError) as error:
            return {**flipless, tabs.flip_line: failure(error)}
        action = flip and {"op": "remove", "a": [*flip.a], "b": [*flip.b], "turn": now.turn}
        shown = {tabs.flip_line: flip_words(pair, flip), tabs.remove: gr.update(visible=flip is not None)}
        return {**shown, tabs.flip_action: action}

    def carry_away(now: Desk | None, event: gr.EventData) -> dict[str, Any]:
        if now is None:
            return {"message": "Nothing is open. Press Score first."}
        step = now.step
        recut = step.a.by_hand or step.b.by_hand or step.segmenter != play.OWN
        return carry_value(play.score(cutters, now), event._data["kind"], recut)

    flipless = {tabs.flip_line: "", tabs.remove: gr.update(visible=False), tabs.flip_action: None}
    results = [heatmap, desk, more, tabs.segmenter, *flipless, chooser, story]
    edited = [heatmap, desk, *fields[1:], tabs.segmenter, *flipless]
    drawn = [heatmap, tabs.opened, *tabs.outputs]
    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
    run: dict[str, Any] = {"concurrency_id": QUEUE, "show_progress_on": [heatmap, busy], "show_progress": "minimal"}
    score: dict[str, Any] = {**run, "trigger_mode": "always_last"}
    quiet: dict[str, Any] = {"concurrency_id": QUEUE, "show_progress": "hidden", "trigger_mode": "multiple"}
    later = {**quiet, "concurrency_id": CHARTS}
    for event in (button.click, heatmap.edit, tabs.segmenter.input, tabs.remove.click):
        event(None, js=ASKED_JS)
    chosen = chooser.input(example_texts, chooser, [chooser, story, *fields], js=EXAMPLE_JS, **quick)
    visited = app.load(visit, kept, [chooser, story, audited, *fields, heatmap], js=KEPT_JS, **quick)
    removed = tabs.remove.click(remove, [desk, tabs.flip_action, *fields], edited, **run)
    removed.then(None, js="() => document.querySelector('#flip').focus()")  # what had the focus is gone
    found = tabs.flip.click(
        find_flip, desk, [*flipless], **{**run, "concurrency_id": CHARTS, "show_progress_on": [tabs.flip_line, busy]}
    )
    jobs: list[Any] = [
        button.click(show, [desk, audited, *fields], results, **score),
        chosen.then(open_filled, [desk, audited, *fields], results, **score),
        visited.then(open_filled, [desk, audited, *fields], results, **score),
        tabs.segmenter.input(cut, [desk, tabs.segmenter, *fields], edited, **run),
        *(removed, found),
    ]
    stop.click(stopping.press, cancels=jobs, **quick)
    app.unload(stopping.press)
    heatmap.edit(edit, [desk, *fields], edited, **quick, trigger_mode="multiple")
    heatmap.settled(draw, [desk, tabs.opened], drawn, **later)
    heatmap.idle(check, desk, heatmap, **later)
    for name, tab in tabs.tabs.items():
        tab.select(draw, [desk, gr.State(name)], drawn, **later)
    carry.carry(carry_away, desk, carry, **later)


def _head(model: ModelInfo, segmenter: SegmenterInfo) -> str:
    line = f"model: {model.name} · aggregation: {model.aggregator} · segmenter: {segmenter.spec}"
    return f'<div class="page-head"><h1>Inspect</h1><span>{html.escape(line)}</span></div>'


def _texts(pair: ScoredPair) -> tuple[str, str, str]:
    """The pair as the fields hold it."""
    return write_prompt(pair.prompt), pair.a.text, pair.b.text


def _scored_by(response: ScoredResponse) -> str:
    model, segmenter = response.model, response.segmenter
    return f"{model.name} ({model.revision}), cut by {segmenter.spec} ({segmenter.revision})"
