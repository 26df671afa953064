"""The tabs below the heatmap: what a pair's numbers add up to and what lies behind them. Only the open one is drawn."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ..alignment import align
from ..influence import Flip
from ..results import ScoredPair, ScoredResponse
from ..words import counted, percent, plain, signed, unit_of, visible
from .chart_words import (
    CURVE_HEADERS,
    INFLUENCE_HEADERS,
    MARGIN_HEADERS,
    curve_rows,
    influence_line,
    influence_rows,
    margin_rows,
)
from .charts import TABLE_HEADERS, residual_line, table_rows
from .pair_charts import cumulative_curves, influence_scatter, margin_waterfall, value_curves
from .table import Table, line, table_value

MARGIN, CURVES, INFLUENCE, ALIGNMENT, SEGMENTATION, TABLE = (
    *("How the scores add up", "Curves", "Influence", "Alignment", "Segmentation", "Table"),
)
OTHERS = ("rules:en", "tokens", "response")  # segmenters that need nothing but what is there
LeftOut = tuple[tuple[float, ...], tuple[float, ...]]  # logits: what A and B lose without each sentence
Place = tuple[int, int]


class Understand:
    """The tabs as components of the page that is being built, and what each shows of a pair."""

    def __init__(self, own_segmenter: str) -> None:
        self.opened = gr.State(MARGIN)
        self.flip_action = gr.State(None)  # what deletes the sentences that were found
        self.tabs: dict[str, gr.Tab] = {}
        gr.HTML('<p class="chosen" role="status"></p>', apply_default_css=False)
        with gr.Tabs(elem_id="tabs"):
            with self._tab(MARGIN):
                _text("From the top: what each part of A adds to the margin, then what each part of B takes away.")
                self.margin = gr.Plot(show_label=False, elem_id="plot-margin")
                self.residuals = line(elem_classes="residual")
                with gr.Accordion("As a table", open=False):
                    self.margin_table = Table(elem_id="margin-table")
            with self._tab(CURVES):
                _text("The sum of contributions so far, which ends at the score, and the value the model reads there.")
                with gr.Row():
                    self.sums = gr.Plot(show_label=False, elem_id="plot-sums", min_width=320)
                    self.values = gr.Plot(show_label=False, elem_id="plot-values", min_width=320)
                with gr.Accordion("As a table", open=False):
                    self.curve_table = Table(elem_id="curve-table")
            with self._tab(INFLUENCE):
                _text(
                    "Attention is not influence: what a sentence contributes against what the score loses without it."
                )
                self.scatter = gr.Plot(show_label=False, elem_id="plot-influence")
                self.parting = line(elem_id="parting", elem_classes="residual")
                with gr.Row(elem_classes="flip-row"):
                    self.flip = gr.Button("Smallest flip", elem_id="flip", size="sm")
                    self.flip_line = line("status", elem_id="flip-line", elem_classes="residual")
                    self.remove = gr.Button("Delete them", elem_id="remove", size="sm", visible=False)
                with gr.Accordion("As a table", open=False):
                    self.influence_table = Table(elem_id="influence-table")
            with self._tab(ALIGNMENT):
                self.alignment = Table(elem_id="alignment")
            with self._tab(SEGMENTATION):
                with gr.Row(elem_classes="segmenter-row"):
                    self.segmenter = gr.Dropdown(
                        [(f"{own_segmenter} (the model's own)", ""), *((o, o) for o in OTHERS if o != own_segmenter)],
                        value="",
                        label="Cut the text with",
                        filterable=False,
                        elem_id="segmenter",
                    )
                    self.cut_line = line(elem_id="cut-line", elem_classes="residual")
                self.segmentation = Table(elem_id="segmentation")
            with self._tab(TABLE):
                self.table = Table(elem_id="table")
        self.outputs: list[Any] = [
            *(self.margin, self.residuals, self.margin_table, self.sums, self.values, self.curve_table),
            *(self.scatter, self.parting, self.influence_table, self.alignment),
            *(self.cut_line, self.segmentation, self.table),
        ]

    def _tab(self, name: str) -> gr.Tab:
        self.tabs[name] = gr.Tab(name)
        return self.tabs[name]

    def draw(self, pair: ScoredPair, tab: str, left_out: LeftOut | None = None) -> dict[Any, Any]:
        """What the components of one tab show; `left_out` is asked of the tab Influence alone."""
        if tab == MARGIN:
            lines = [residual_line(name, response) for name, response in (("A", pair.a), ("B", pair.b))]
            places = [*_terms(pair), []]
            table = table_value("What each term adds to the margin", MARGIN_HEADERS, margin_rows(pair), places)
            return {self.margin: margin_waterfall(pair), self.residuals: ". ".join(lines), self.margin_table: table}
        if tab == CURVES:
            table = table_value("Values and sums along both responses", CURVE_HEADERS, curve_rows(pair), _terms(pair))
            return {self.sums: cumulative_curves(pair), self.values: value_curves(pair), self.curve_table: table}
        if left_out:
            places = [[place] for place in _places(pair)]
            rows = influence_rows(pair, left_out)
            return {
                self.scatter: influence_scatter(pair, left_out),
                self.parting: influence_line(pair, left_out),
                self.influence_table: table_value("Contribution and leave-one-out", INFLUENCE_HEADERS, rows, places),
            }
        if tab == ALIGNMENT:
            return {self.alignment: alignment_value(pair)}
        if tab == SEGMENTATION:
            return {self.cut_line: cut_line(pair), self.segmentation: segmentation_value(pair)}
        places = [*_terms(pair, score=True)]
        return {self.table: table_value("Every term of both scores", TABLE_HEADERS, table_rows(pair), places)}


def alignment_value(pair: ScoredPair) -> dict[str, Any]:
    """The sentences of A beside those of B that are like them, with the difference of their rewards."""
    sides = (pair.a, pair.b)
    rows, places, matched = [], [], 0
    for both in align(pair.a.sentences, pair.b.sentences):
        cells: list[str] = []
        for i, response in zip(both, sides, strict=True):
            cells += ["", ""] if i is None else [_shown(response, i), signed(response.rewards[i + 1], 3)]
        i, j = both
        difference = ""
        if i is not None and j is not None:
            difference = signed(pair.a.rewards[i + 1] - pair.b.rewards[j + 1], 3)
            matched += 1
        rows.append([*cells, difference])
        places.append([(side, k) for side, k in enumerate(both) if k is not None])
    unit = unit_of(pair.a.segmenter.spec)
    caption = (
        f"{counted(matched, f'{unit}')} of A beside the one of B most like it, in order"
        if matched
        else f"No {unit} of A has enough words in common with one of B to stand beside it"
    )
    return table_value(caption, ["A", "reward of A", "B", "reward of B", "difference"], rows, places)


def segmentation_value(pair: ScoredPair) -> dict[str, Any]:
    """Where each sentence begins and ends, its tokens, and what was not read."""
    rows, places = [], []
    for side, (name, response) in enumerate((("A", pair.a), ("B", pair.b))):
        for i, (start, end) in enumerate(response.spans):
            rows.append([name, str(i + 1), visible(response.sentences[i]), f"{start}–{end}", str(response.tokens[i])])
            places.append([(side, i)])
        if response.dropped_sentences:
            start = response.spans[-1].end
            rows.append([name, "not read", visible(response.text[start:]), f"{start}–{len(response.text)}", "0"])
            places.append([])
    unit = unit_of(pair.a.segmenter.spec)
    headers = ["response", unit, "text", "characters", "tokens"]
    return table_value(f"Each {unit} with its characters and tokens", headers, rows, places, text=headers[:4])


def cut_line(pair: ScoredPair) -> str:
    """What cut the text, how finely, and what the model did not read."""
    parts = []
    for name, response in (("A", pair.a), ("B", pair.b)):
        unit = unit_of(response.segmenter.spec)
        own = "the model's own segmenter" if response.segmenter.own else "not the model's own segmenter"
        count = len(response.spans)
        mean = sum(response.tokens) / count if count else 0
        text = f"{name}: {counted(count, unit)}, {plain(mean, 1)} tokens each, cut by {response.segmenter.spec} ({own})"
        if response.dropped_sentences:
            text += f", {counted(response.dropped_sentences, unit)} at the end not read"
        parts.append(text)
    if pair.a.cut_prompt_tokens:
        parts.append(f"the prompt lost its first {counted(pair.a.cut_prompt_tokens, 'token')}")
    return ". ".join(parts) + "."


def flip_words(pair: ScoredPair, flip: Flip | None) -> str:
    """The fewest deletions that turn the preference, in a line."""
    unit = unit_of(pair.a.segmenter.spec)
    if pair.probability == 0.5:
        return "Neither is preferred: there is nothing to turn."
    if flip is None:
        sure = max(len(pair.a.spans), len(pair.b.spans)) <= 12
        if sure:
            return "No deletion turns this preference (every one that leaves a sentence was tried)."
        return "None found (beam search: there may be one)."
    names = [f"{name} {i + 1}" for name, which in (("A", flip.a), ("B", flip.b)) for i in which]
    winner, share = ("A", flip.probability) if flip.probability > 0.5 else ("B", 1 - flip.probability)
    how = "exact: no fewer do" if flip.exact else "beam search: fewer might do"
    return (
        f"Without {counted(len(names), unit)}, {', '.join(names)}, {winner} is preferred, {percent(share)} "
        f"({how}; {flip.tried:,} deletions tried)."
    )


def _shown(response: ScoredResponse, i: int) -> str:
    return f"{i + 1}  {visible(response.sentences[i]).strip()}"


def _places(pair: ScoredPair) -> list[Place]:
    return [(side, i) for side, response in enumerate((pair.a, pair.b)) for i in range(len(response.spans))]


def _terms(pair: ScoredPair, score: bool = False) -> list[list[Place]]:
    """The sentence of each row of a table that lists the prompt, every sentence and, if said so, the score."""
    return [
        places
        for side, response in enumerate((pair.a, pair.b))
        for places in ([], *([(side, i)] for i in range(len(response.spans))), *([[]] if score else []))
    ]


def _text(words: str) -> None:
    gr.HTML(f"<p>{words}</p>", elem_classes="residual", apply_default_css=False)
