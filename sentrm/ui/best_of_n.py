"""The Best of N page: one prompt and 2 to 16 responses in, the responses ranked by score out.

Decisions:
- One heatmap of all responses, the best first, on one scale: colours of different responses can be compared.
- The fields are there from the start and shown as they are needed, so that a text keeps its place while others change.
- Two of the responses open in Inspect by a link that holds them; the server stores nothing of what a reader wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from ..errors import SentrmError
from ..heatmap import heatmap_value, message_value
from ..inspection import Inspector, failure
from ..links import LinkError, encode_pair
from ..prompts import prompt_notices, read_prompt, write_prompt
from ..results import ScoredResponse
from ..words import counted, plain, signed
from .api import QUEUE
from .fields import ASKED_JS, KEPT_JS, TOUCHED_JS, button_row, kept_texts, prompt_field
from .heatmap import PairHeatmap, alert
from .inspect import Example
from .stop import Stop

FEWEST, MOST = 2, 16  # responses
SEPARATOR = "---"


def rank(responses: Sequence[ScoredResponse]) -> list[int]:
    """Indices of the responses, the best score first, equal scores in the order given."""
    return sorted(range(len(responses)), key=lambda i: -responses[i].score)


def ranking_value(responses: Sequence[ScoredResponse]) -> dict[str, Any]:
    """What the heatmap shows: the responses by their number, the best first, place and score in each head."""
    order = rank(responses)
    value = heatmap_value({str(i + 1): responses[i] for i in order}, prompt_notices(responses[0].prompt))
    best = responses[order[0]].score
    for place, (i, side) in enumerate(zip(order, value["sides"], strict=True), start=1):
        score = responses[i].score
        behind = f", {plain(best - score)} behind" if place > 1 else ""
        side["meta"] = f"rank {place} · score {signed(score)}{behind} · {side['meta']}"
    return {**value, "layout": "flow", "said": f"Response {order[0] + 1} ranks first of {len(order)}."}


def split_texts(pasted: str, separator: str = SEPARATOR) -> list[str]:
    """The texts between lines that hold nothing but the separator; empty ones are left out.

    Raises:
        SentrmError: for fewer than 2 texts, or more than 16.
    """
    texts: list[str] = []
    lines: list[str] = []
    for line in [*pasted.splitlines(), separator]:
        if line.strip() == separator:
            texts.append("\n".join(lines).strip())
            lines = []
        else:
            lines.append(line)
    texts = [text for text in texts if text]
    if not FEWEST <= len(texts) <= MOST:
        raise SentrmError(
            f"got {counted(len(texts), 'response')}, expected {FEWEST} to {MOST}. Put a line with {separator} alone "
            "between two responses."
        )
    return texts


def pair_link(prompt: str, a: str, b: str) -> str:
    """The address of the Inspect page with this pair, from this page. Raises LinkError for a pair that is too long."""
    return f"./?pair={encode_pair(prompt, a, b)}"


def best_of_n_page(app: gr.Blocks, inspector: Inspector, examples: Sequence[Example] = ()) -> None:
    """Fill the app that is being built. It computes nothing; a visit ranks both responses of an example."""
    gr.HTML('<div class="page-head"><h1>Best of N</h1></div>', apply_default_css=False)
    offered = [text for one in examples[:1] for text in (one.prompt, one.a, one.b)] or [""]
    scored = gr.State(None)  # prompt and responses as ranked, the best first
    shown = gr.State(FEWEST)  # fields in use
    stopping = Stop()
    kept = gr.Textbox(visible=False)
    prompt = prompt_field()
    rows, fields, removers = [], [], []
    for i in range(MOST):
        with gr.Row(elem_classes="candidate", visible=i < FEWEST) as row:
            field = gr.Textbox(
                label=f"Response {i + 1}",
                lines=2,
                max_lines=6,
                elem_id=f"response-{i + 1}",
                elem_classes="typed",
                scale=1,
            )
            removers.append(gr.Button("Remove", size="sm", scale=0, min_width=84, visible=False))
        rows.append(row)
        fields.append(field)
    with gr.Row(elem_classes="score-row"):
        button, stop, busy = button_row("Rank")
        add = gr.Button("Add a response", elem_id="add", scale=0, min_width=170)
    with gr.Accordion("Paste many responses at once", open=False, elem_id="paste"):
        pasted = gr.Textbox(label=f"Responses, a line with {SEPARATOR} alone between two", lines=5, max_lines=12)
        take = gr.Button("Put into fields", size="sm", elem_id="take")
    heatmap = PairHeatmap(elem_id="ranking")
    with gr.Column(visible=False, elem_id="open-pair") as opener:
        with gr.Row(elem_classes="responses"):
            first = gr.Dropdown([], label="A", filterable=False, elem_id="first")
            second = gr.Dropdown([], label="B", filterable=False, elem_id="second")
        link = gr.Button("Open these two in Inspect", link=".", elem_id="open")

    def arranged(count: int) -> dict[Any, Any]:
        """So many fields, at least two."""
        count = max(FEWEST, count)
        return {
            shown: count,
            add: gr.update(interactive=count < MOST),
            **{row: gr.update(visible=i < count) for i, row in enumerate(rows)},
            **{remover: gr.update(visible=i < count and count > FEWEST) for i, remover in enumerate(removers)},
        }

    def filled(texts: Sequence[str], start: int = 0) -> dict[Any, Any]:
        """These texts in the fields from `start` on, and none behind them."""
        behind = [*texts, *[""] * MOST]
        return {**arranged(start + len(texts)), **dict(zip(fields[start:], behind, strict=False))}

    def ranked(
        request: gr.Request,
        before: tuple[str, list[str]] | None,
        prompt_now: str | None,
        count: int,
        *texts: str | None,
    ) -> dict[Any, Any]:
        try:
            responses = inspector.responses(
                read_prompt(prompt_now or ""), [text or "" for text in texts[:count]], stopping.watched(request)
            )
        except (SentrmError, RuntimeError) as error:  # torch raises RuntimeError, for one when memory runs out
            return {heatmap: alert(failure(error)) if before else message_value(failure(error))}
        order = rank(responses)
        names = [
            (f"rank {place} · response {i + 1} · {signed(responses[i].score)}", place - 1)
            for place, i in enumerate(order, start=1)
        ]
        kept = write_prompt(responses[0].prompt), [responses[i].text for i in order]
        return {
            heatmap: ranking_value(responses),
            scored: kept,
            opener: gr.update(visible=True),
            first: gr.update(choices=names, value=0),
            second: gr.update(choices=names, value=1),
            link: linked(kept, 0, 1),
        }

    def linked(kept: tuple[str, list[str]] | None, one: int, other: int) -> Any:
        if kept is None:
            return gr.update(link=None, interactive=False)
        try:
            address = pair_link(kept[0], kept[1][one], kept[1][other])
        except LinkError:
            return gr.update(link=None, interactive=False, value="Too long to open by a link")
        return gr.update(link=address, interactive=True, value="Open these two in Inspect")

    def paste(text: str | None) -> dict[Any, Any]:
        try:
            return filled(split_texts(text or ""))
        except SentrmError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def visit(said: str | None) -> dict[Any, Any]:
        asked, *texts = kept_texts(said) or offered
        return {prompt: asked, **filled(texts[:MOST])}

    arrangement = [shown, add, *rows, *removers]
    asked = [scored, prompt, shown, *fields]
    results = [heatmap, scored, opener, first, second, link]
    run: dict[str, Any] = {
        "concurrency_id": QUEUE,
        "show_progress_on": [heatmap, busy],
        "show_progress": "minimal",
        "trigger_mode": "always_last",
    }
    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
    add.click(lambda count: arranged(count + 1), shown, arrangement, **quick)
    for i, remover in enumerate(removers):
        remover.click(None, js=TOUCHED_JS)
        remover.click(
            lambda count, *texts, i=i: filled(texts[i + 1 : count], i),
            [shown, *fields],
            [*arrangement, *fields[i:]],
            **quick,
        )
    take.click(None, js=TOUCHED_JS)
    take.click(paste, pasted, [*arrangement, *fields], **quick)
    button.click(None, js=ASKED_JS)
    jobs: list[Any] = [button.click(ranked, asked, results, **run)]
    for choice in (first, second):
        choice.input(linked, [scored, first, second], link, **quick)
    opened = app.load(visit, kept, [prompt, *arrangement, *fields], js=KEPT_JS, **quick)
    if examples:
        jobs.append(opened.then(ranked, asked, results, **run))
    stop.click(stopping.press, cancels=jobs, **quick)
    app.unload(stopping.press)
