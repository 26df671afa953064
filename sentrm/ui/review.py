"""The Review page: a pair at a time, a verdict in one key, and the result to carry home.

Decisions:
- review_desk.py says what is shown, review.js draws it and hears the reader; nothing is kept here between two calls.
- Whatever is refused leaves the page as it was, with all that was typed, and says why above the buttons.
- A verdict waits for nothing that scores: the page needs no model.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import gradio as gr

from ..errors import SentrmError, StaleVote
from ..heatmap import SCRIPT, STYLE
from ..words import visible
from .heatmap import Drawing
from .panel import Panel
from .review_desk import Desk
from .review_files import Choices, Files, Kind, agreement_value, carry_in, unsettled_value, votes_value
from .table import Table, line
from .workbench import Workbench

_HERE = Path(__file__).parent
_SCRIPTS = ("review_parts.js", "review_all.js", "review_marks.js", "review.js")
_SCRIPT = SCRIPT + "".join((_HERE / name).read_text(encoding="utf-8") for name in _SCRIPTS)
_STYLE = STYLE + (_HERE / "review.css").read_text(encoding="utf-8")
_PARTS = ("desk-top", "desk-prompt", "pair-heatmap", "desk-bar", "desk-more")
_TEMPLATE = '<div class="desk">' + "".join(f'<div class="{name}"></div>' for name in _PARTS) + "</div>"
_TURNS = count()  # each answer differs from the one before, so that the browser hears of it
_QUERY_JS = "(...given) => [location.search, ...given.slice(1)]"
_BUTTONS: dict[Kind, str] = {
    "cleaned": "Cleaned data",
    "steps": "Sentence labels",
    "events": "Event log",
    "summary": "Summary",
}


class ReviewDesk(Drawing):
    """Draws what `Desk.answer` returns. What the reader does arrives as the event `act`; `said` is why it was refused,
    {turn, error, newer}."""

    def __init__(
        self,
        value: dict[str, Any] | None = None,
        said: dict[str, Any] | None = None,
        inspect: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(value, _TEMPLATE, _STYLE, _SCRIPT, said=said, inspect=inspect, **kwargs)


def review_page(app: gr.Blocks, workbench: Workbench, inspect: bool = True) -> None:
    """Fill the app that is being built.

    Args:
        inspect: whether the app has an Inspect page, which opens a pair of an audit.
    """
    answers, files = Desk(workbench), Files()
    gr.HTML('<div class="page-head"><h1>Review</h1></div>', apply_default_css=False)
    desk = ReviewDesk(inspect=inspect, elem_id="review")
    query = gr.Textbox(visible=False)
    with gr.Accordion("Agreement", open=False, elem_id="agreement-part"):
        with gr.Row():
            tally = gr.Button("Count", size="sm", elem_id="tally", scale=0, min_width=150)
        trouble = line("status")
        votes, agreed = Table(elem_id="votes"), Table(elem_id="agreed")
        again = Panel(elem_id="again")
    with gr.Accordion("Carry home", open=False, elem_id="carry-home"):
        with gr.Row(elem_classes="responses"):
            choices = [
                _choice(
                    "Format", [("JSONL", "jsonl"), ("CSV", "csv"), ("Parquet", "parquet"), ("datasets", "datasets")]
                ),
                _choice("Labels found wrong", [("turn around", "turn"), ("leave out", "drop"), ("keep", "keep")]),
                _choice("Both bad", [("leave out", "drop"), ("keep", "keep")]),
                _choice("Flagged", [("leave out", "drop"), ("keep", "keep")]),
                _choice("Ties", [("mark as ties", "mark"), ("keep", "keep"), ("leave out", "drop")]),
            ]
        with gr.Row():
            narrow: dict[str, Any] = {"size": "sm", "scale": 0, "min_width": 150}
            buttons = {kind: gr.Button(words, elem_id=f"make-{kind}", **narrow) for kind, words in _BUTTONS.items()}
            upload = gr.UploadButton("Import an event log", file_types=[".jsonl"], elem_id="import", **narrow)
        made = line("status", elem_id="made")
        with gr.Row():
            narrow["min_width"] = 280
            save = gr.DownloadButton("Save", visible=False, elem_id="save", variant="primary", **narrow)

    def act(event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        asked = event._data if isinstance(event._data, dict) else {}
        try:
            return gr.update(value={**answers.answer(asked, request), "turn": next(_TURNS)})
        except StaleVote as error:
            return gr.update(said={**_refused(error), "newer": {"seen": error.newest.id}})  # type: ignore[attr-defined]
        except (SentrmError, OSError) as error:
            if asked.get("do") != "open":
                return gr.update(said=_refused(error))
            value = answers.refused(str(asked.get("query", "")), error, request)
            return gr.update(value={**value, "turn": next(_TURNS)})

    def counted_votes(request: gr.Request, asked: str | None) -> dict[Any, Any]:
        try:
            workbench.check_lead(request)
            log, folder, name = workbench.log(), answers.folder(asked or ""), answers.address(asked or "").audit
            return {
                trouble: "",
                votes: votes_value(log, folder),
                agreed: agreement_value(log, folder),
                again: unsettled_value(log, folder, name),
            }
        except SentrmError as error:
            return {trouble: visible(str(error))}

    def make(kind: Kind, request: gr.Request, asked: str | None, *chosen: Any) -> dict[Any, Any]:
        try:
            workbench.check_lead(request)
            folder, name = answers.folder(asked or ""), answers.address(asked or "").audit
            file, words = files.make(kind, workbench.log(), folder, name, Choices(*chosen))
        except (SentrmError, OSError) as error:
            return {made: visible(str(error)), save: gr.update(visible=False)}
        return {made: words, save: gr.update(value=str(file), label=f"Save {file.name}", visible=True)}

    def take(file: str, request: gr.Request) -> str:
        try:
            workbench.voter(request, next(iter(workbench.annotators), "import"))
            return carry_in(workbench.log(), file, None if workbench.is_lead(request) else workbench.annotator(request))
        except SentrmError as error:
            return visible(str(error))

    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "trigger_mode": "multiple"}
    slow: dict[str, Any] = {"show_progress": "minimal", "js": _QUERY_JS, "concurrency_limit": 2}
    desk.act(act, None, desk, **quick)
    tally.click(counted_votes, query, [trouble, votes, agreed, again], **slow)
    for kind, button in buttons.items():

        def made_of(request: gr.Request, asked: str | None, *chosen: Any, kind: Kind = kind) -> dict[Any, Any]:
            return make(kind, request, asked, *chosen)

        button.click(made_of, [query, *choices], [made, save], **slow)
    upload.upload(take, upload, made, show_progress="minimal")


def _choice(label: str, choices: list[tuple[str, str]]) -> gr.Dropdown:
    return gr.Dropdown(choices, value=choices[0][1], label=label, filterable=False, min_width=120)


def _refused(error: Exception) -> dict[str, Any]:
    return {"turn": next(_TURNS), "error": visible(str(error))}
