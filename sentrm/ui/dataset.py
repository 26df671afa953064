"""The Dataset page: what an audit says of a scored dataset, and its pairs, the most suspicious first.

Decisions:
- The page shows what its address names (`View`) and keeps nothing else; a link, or the back button, is the same page.
- Figures and charts are of `summary.json`, the list is DuckDB's: no model is needed, and no more than one page of pairs
  leaves the server.
- A chart is drawn when its tab is open. A bar, a stretch of one, or a row of the table beside it filters the list.
- An audit without a summary still shows its list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr

from ..audit.folder import AuditFolder
from ..audit.summary import read_summary
from ..errors import AuditError
from ..heatmap import heatmap_value
from ..scoring import Scorer
from ..words import percent, plain, visible
from . import dataset_charts as charts
from . import dataset_tables as tables
from .dataset_compare import changed_sides, compare_value
from .dataset_list import View, left_out_rows, list_value
from .dataset_scoring import Scoring
from .heatmap import PairHeatmap
from .panel import Panel
from .table import line
from .workbench import Workbench

MARGINS, CALIBRATION, SLICES, LENGTH, POSITION, STYLE, PROBLEMS = (
    *("Margins", "Calibration", "Slices", "Length", "Position", "Style", "Problems"),
)
WORDS = {  # above each chart
    MARGINS: "How far the model prefers one response: to the right as the label does, to the left against it. "
    "Click a bar, or draw over some, to filter the list.",
    CALIBRATION: "Of the pairs about which the model is so sure, this share of labels agrees. Below the dotted line it "
    "is surer than it is right; one fitted temperature moves it. Click a point of the pairs as scored, or draw over "
    "some, to filter the list.",
    SLICES: "Labels the model agrees with, with 95% intervals. Click a point to filter the list.",
    LENGTH: "Whether the margin follows length alone. Click a point, or draw over some, to filter the list.",
    POSITION: "Where in a response the model gives reward, and where it pays attention, by tenths of the response.",
    STYLE: "Pairs of which one response alone has a feature: how much more the model gives it. Click to filter.",
    PROBLEMS: "What stands in the data twice, says nothing, or was not read.",
}
SIDES = "A is the chosen response, B the rejected one."
HERE_JS = "() => location.search"


def figures(summary: tables.Summary) -> list[dict[str, Any]]:
    """The headline: an audit in six figures, those of pairs with the filter that finds them."""
    agreement, calibration = summary["agreement"], summary["calibration"]
    value = agreement["value"]
    ends = "" if agreement["low"] is None else f"{percent(agreement['low'])} to {percent(agreement['high'])}"
    fitted = calibration["ece_fitted"]
    by = summary["suspects"]["by"].replace("_", " ")

    def found(name: str, count: int, column: str, note: str = "") -> dict[str, Any]:
        return {"name": name, "text": f"{count:,}", "note": note, "narrow": [[column, "=", True]] if count else None}

    return [
        {"name": "Pairs", "text": f"{summary['pairs']:,}", "note": f"{summary['prompts']:,} prompts"},
        {"name": "Agrees with the label", "text": "–" if value is None else percent(value), "note": ends},
        found("Suspects", summary["suspects"]["suspects"], "suspect", f"by {by}"),
        found("Contradictions", summary["duplicates"]["contradicts"], "contradicts", "same pair, other label"),
        {
            "name": "Calibration error (ECE)",
            "text": plain(calibration["ece"], 3),
            "note": "" if fitted is None else f"{plain(fitted, 3)} with a temperature",
        },
        {"name": "Left out", "text": f"{summary['left_out']:,}", "note": "rows not scored"},
    ]


def about_line(summary: tables.Summary) -> str:
    """What was scored, by what, and when."""
    source = str(summary["data"]["source"]).rpartition("/")[2]
    day = str(summary["created"]).partition("T")[0]
    return visible(f"data: {source} · model: {summary['model']['name']} · {summary['segmenter']['spec']} · {day}")


class Facts:
    """The charts' tabs as components of the page that is being built; only the open one is drawn."""

    def __init__(self) -> None:
        self.opened = gr.State(MARGINS)
        self.tabs: dict[str, gr.Tab] = {}
        self.plots: dict[str, gr.Plot] = {}
        self.tables: dict[str, Panel] = {}
        with gr.Tabs(elem_id="fact-tabs"):
            for name, words in WORDS.items():
                with gr.Tab(name) as self.tabs[name]:
                    gr.HTML(f"<p>{words}</p>", elem_classes="residual", apply_default_css=False)
                    self._fill(name)
        self.outputs: list[Any] = [
            *(self.opened, self.slice_by, self.length_line, self.weights, self.left_out),
            *self.plots.values(),
            *self.tables.values(),
        ]

    def _fill(self, name: str) -> None:
        if name == SLICES:
            with gr.Row(elem_id="slice-row"):
                self.slice_by = gr.Dropdown([], label="By", filterable=False, elem_id="slice-by")
        if name == LENGTH:
            self.length_line = line(elem_id="length-line", elem_classes="residual")
        if name == PROBLEMS:
            self.tables[name] = Panel(elem_id="problems")
            self.left_out = Panel(elem_id="left-out")
            return
        with gr.Row():
            self.plots[name] = gr.Plot(show_label=False, elem_id=f"plot-{name.lower()}", min_width=320)
            if name == POSITION:
                self.weights = gr.Plot(show_label=False, elem_id="plot-weights", min_width=320)
        with gr.Accordion("As a table", open=False):
            self.tables[name] = Panel(elem_id=f"table-{name.lower()}")

    def draw(
        self,
        tab: str,
        folder: AuditFolder,
        summary: tables.Summary,
        by: str | None = None,
        other: tuple[tables.Summary, tuple[str, str]] | None = None,
    ) -> dict[Any, Any]:
        """What the components of a tab show; `other` is the summary of the audit beside it, with both names."""
        found: dict[Any, Any] = {self.opened: tab}
        if tab == SLICES:
            columns = list(summary["slices"])
            by = by if by in columns else next(iter(columns), None)
            choices = [(tables.name_of(name).partition(" (")[0], name) for name in columns]
            found[self.slice_by] = gr.update(choices=choices, value=by)
            if by is not None:
                theirs, names = other or (None, ())
                found[self.plots[tab]] = charts.slice_figure(summary, by, folder.columns, theirs, names)
                found[self.tables[tab]] = {"table": tables.slice_table(summary, by, folder.columns)}
            return found
        if tab == PROBLEMS:
            found[self.tables[tab]] = {"table": tables.problem_table(summary)}
            rows = left_out_rows(folder) if summary["left_out"] else []
            more = "" if len(rows) == summary["left_out"] else f", the first {len(rows):,} of {summary['left_out']:,}"
            listed = tables.table(f"Rows that were left out{more}", ["row", "reason"], rows, words=2)
            found[self.left_out] = {"table": listed} if rows else None
            return found
        if tab == POSITION:
            found[self.weights] = charts.position_figure(summary, "weight")
        if tab == LENGTH:
            found[self.length_line] = tables.length_words(summary)
        figure, table = _DRAWN[tab]
        return {**found, self.plots[tab]: figure(summary), self.tables[tab]: {"table": table(summary)}}


_DRAWN: Mapping[str, Any] = {
    MARGINS: (charts.margin_figure, tables.margin_table),
    CALIBRATION: (charts.calibration_figure, tables.calibration_table),
    LENGTH: (charts.length_figure, tables.length_table),
    POSITION: (partial(charts.position_figure, what="reward"), tables.position_table),
    STYLE: (charts.style_figure, tables.style_table),
}


def dataset_page(app: gr.Blocks, workbench: Workbench, scorer: Scorer | None = None) -> None:
    """Fill the app that is being built. It opens nothing; a visit opens the audit of its address, or the first one.

    Args:
        scorer: scores data on this page, and opens pairs in Inspect; None where the app runs without a model.
    """
    names = workbench.names()
    gr.HTML('<div class="page-head"><h1>Dataset</h1></div>', apply_default_css=False)
    here = gr.Textbox(visible=False)  # the address, as its page tells it
    drawn = gr.State(None)  # what the charts are of
    with gr.Row(elem_id="audit-row", visible=bool(names)) as choice:
        audit = gr.Dropdown(names, value=None, label="Audit", filterable=False, elem_id="audit")
        beside = gr.Dropdown([], label="Beside it", filterable=False, elem_id="beside", visible=False)
        about = line(elem_id="about", elem_classes="residual")
    if scorer:
        scoring = Scoring(workbench, scorer)
    headline = Panel(elem_id="headline")
    comparison = Panel(elem_id="comparison", visible=False)
    with gr.Column(elem_id="facts", visible=False) as column:
        facts = Facts()
    heatmap = PairHeatmap(elem_id="heatmap", visible=False)
    pairs = Panel(listening=True, elem_id="pairs")

    def show(query: str | None, tab: str = MARGINS, known: Any = None, push: bool = False) -> dict[Any, Any]:
        """What the page shows of an address; charts only if they are of something else than `known`."""
        try:
            view = View.from_query(query or "")
        except AuditError as error:
            return {pairs: _refused(query, str(error))}
        at_hand = workbench.names()
        view = replace(view, audit=view.audit or next(iter(at_hand), ""))
        if not view.audit:
            hint = "Score a dataset above" if scorer else "Start the app with --audits FOLDER"
            return {pairs: {**_refused(query, f"There is no audit yet. {hint}."), "push": push}}
        try:
            folder = workbench.open(view.audit)
        except AuditError as error:
            return {
                audit: gr.update(choices=at_hand),
                choice: gr.update(visible=True),
                pairs: _refused(query, str(error)),
            }
        try:
            listed = list_value(folder, view, inspect=scorer is not None, review=workbench.reviews is not None)
            drawing = heatmap_value(folder.pair(view.pair), (SIDES,)) if view.pair else None
        except AuditError as error:
            nothing: dict[str, Any] = {"search": "", "quick": [], "chips": [], "review": ""}
            listed = _refused(query, str(error)) | {"tools": {**nothing, "clear": View(view.audit).to_query()}}
            drawing = None
        now = (view.audit, view.beside, (folder.path / "summary.json").exists())
        found: dict[Any, Any] = {
            pairs: {**listed, "push": push},
            heatmap: gr.update(value=drawing, visible=drawing is not None),
        }
        return found if now == known else {**found, **opened(view, folder, tab, at_hand), drawn: now}

    def opened(view: View, folder: AuditFolder, tab: str, at_hand: list[str]) -> dict[Any, Any]:
        """What stands above the list."""
        others = [("–", ""), *((name, name) for name in at_hand if name != view.audit)]
        found: dict[Any, Any] = {
            choice: gr.update(visible=True),
            audit: gr.update(choices=at_hand, value=view.audit),
            beside: gr.update(choices=others, value=view.beside, visible=len(others) > 1),
        }
        try:
            summary = read_summary(folder.path)
        except AuditError as error:
            said = {"message": {"text": visible(str(error)), "alert": True}}
            return {**found, headline: said, column: gr.update(visible=False), comparison: gr.update(visible=False)}
        found |= {headline: {"figures": figures(summary)}, about: about_line(summary), column: gr.update(visible=True)}
        compared, other = gr.update(visible=False), None
        if view.beside:
            both = (view.audit, view.beside)
            try:
                theirs = workbench.open(view.beside)
                other = read_summary(theirs.path), both
                value = compare_value(both, (summary, other[0]), changed_sides(folder, theirs))
            except AuditError as error:
                value = {"message": {"text": visible(str(error)), "alert": True}}
            compared = gr.update(value=value, visible=True)
        return {**found, comparison: compared, **facts.draw(tab, folder, summary, other=other)}

    def go(tab: str, known: Any, event: gr.EventData) -> dict[Any, Any]:
        query = str(event._data["query"])
        found = show(query, tab, known)
        return {**found, pairs: {**found[pairs], "asked": query}}

    def choose(name: str, tab: str) -> dict[Any, Any]:
        return show(View(name).to_query(), tab, push=True)

    def lay_beside(query: str, name: str, tab: str) -> dict[Any, Any]:
        try:
            view = replace(View.from_query(query or ""), beside=name or "")
        except AuditError as error:
            return {pairs: _refused(query, str(error))}
        view = replace(view, audit=view.audit or next(iter(workbench.names()), ""))
        return show(view.to_query(), tab, push=True)

    def draw(tab: str, by: str | None, known: tuple[str, str, bool] | None) -> dict[Any, Any]:
        if not known or not known[2]:
            return {facts.opened: tab}
        try:
            folder = workbench.open(known[0])
            other = (read_summary(workbench.open(known[1]).path), known[:2]) if known[1] else None
            return facts.draw(tab, folder, read_summary(folder.path), by, other)
        except AuditError as error:
            return {facts.opened: tab, headline: {"message": {"text": visible(str(error)), "alert": True}}}

    above = [choice, audit, beside, about, headline, comparison, column, drawn, *facts.outputs]
    shown = [pairs, heatmap, *above]
    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "trigger_mode": "always_last"}
    app.load(show, here, shown, js=HERE_JS, queue=False, show_progress="hidden")
    pairs.go(go, [facts.opened, drawn], shown, **{**quick, "trigger_mode": "multiple"})
    audit.input(choose, [audit, facts.opened], shown, **quick)
    beside.input(
        lay_beside, [here, beside, facts.opened], shown, js="(_, ...more) => [location.search, ...more]", **quick
    )
    for name, tab in facts.tabs.items():
        tab.select(draw, [gr.State(name), facts.slice_by, drawn], [headline, *facts.outputs], **quick)
    facts.slice_by.input(draw, [facts.opened, facts.slice_by, drawn], [headline, *facts.outputs], **quick)
    if scorer:
        scoring.wire(app, lambda name: show(View(name).to_query(), push=True), shown)


def _refused(query: str | None, said: str) -> dict[str, Any]:
    return {"query": query or "", "message": {"text": visible(said), "alert": True}}
