"""The Compare page: one pair under two models, and where they differ.

Decisions:
- Logits of two models have neither zero nor unit in common. So a sentence's standing under a model is its reward less
  the median of all rewards of both responses, in units of their root mean square distance from it; the difference is
  that under model 1 minus that under model 2.
- It is drawn only where both models cut and read both texts alike; otherwise the page says so.
- A model is opened when it is compared. One that is refused leaves what is shown as it is, with the reason above it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from ..catalogue import Catalogue
from ..errors import SentrmError
from ..heatmap import heatmap_value, message_value
from ..inspection import Inspector, failure
from ..prompts import prompt_notices, read_prompt
from ..results import ScoredPair
from ..words import MINUS, signed
from .api import QUEUE
from .fields import ASKED_JS, KEPT_JS, button_row, kept_texts, pair_fields
from .heatmap import PairHeatmap
from .inspect import Example
from .stop import Stop
from .table import line

HOW = """<h2 class="section-head">Difference</h2>
<p class="section-note">Where the models differ: above zero (blue) model 1 ranks the sentence higher among the others
than model 2 does, below zero (red) lower. Each reward is taken less the median of both responses' rewards under that
model, in units of their spread (root mean square): logits of two models cannot be compared.</p>"""


def standings(pair: ScoredPair) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(N,) and (M,): each sentence's reward less the median over both responses, in units of the root mean square
    distance from it; zero where all rewards are equal."""
    rewards = [*pair.a.rewards[1:], *pair.b.rewards[1:]]
    centre = statistics.median(rewards)
    spread = math.sqrt(statistics.fmean((reward - centre) ** 2 for reward in rewards)) or 1.0
    every = tuple((reward - centre) / spread for reward in rewards)
    return every[: len(pair.a.spans)], every[len(pair.a.spans) :]


def difference_value(one: ScoredPair, other: ScoredPair) -> dict[str, Any]:
    """What a heatmap shows of the standings under model 1 minus those under model 2; a message where they were cut or
    read differently."""
    if (one.a.spans, one.b.spans) != (other.a.spans, other.b.spans):
        counts = ", ".join(
            f"{len(pair.a.spans)} and {len(pair.b.spans)} under model {i}" for i, pair in ((1, one), (2, other))
        )
        return message_value(
            f"The models did not read the same sentences ({counts}): there is no difference of each. "
            "Start the app with one --segmenter for all models."
        )
    model = replace(one.a.model, median_reward=None)  # centred on zero
    sides = []
    for response, first, second in zip((one.a, one.b), standings(one), standings(other), strict=True):
        rewards = (0.0, *(x - y for x, y in zip(first, second, strict=True)))
        sides.append(replace(response, rewards=rewards, model=model))
    value = heatmap_value(ScoredPair("", *sides))
    for side in value["sides"]:
        for sentence in side["sentences"]:
            place = sentence["label"].partition(", reward")[0]
            sentence["label"] = f"{place}, difference {sentence['reward']}".replace(MINUS, "-")
    return {**value, "verdict": None, "notices": [], "compared": False, "compact": True}


def agreement_line(one: ScoredPair, other: ScoredPair) -> str:
    """Whether two models prefer the same response, in one sentence."""
    preferred = ["neither" if pair.margin == 0 else "A" if pair.margin > 0 else "B" for pair in (one, other)]
    margins = f"margins {signed(one.margin)} and {signed(other.margin)}"
    if preferred[0] == preferred[1]:
        return f"Both models prefer {preferred[0]} ({margins})."
    return f"Model 1 prefers {preferred[0]}, model 2 {preferred[1]} ({margins})."


def compare_page(app: gr.Blocks, catalogue: Catalogue, inspector: Inspector, examples: Sequence[Example] = ()) -> None:
    """Fill the app that is being built.

    Args:
        inspector: of the catalogue's first model.
    """
    names = list(catalogue.names)
    gr.HTML('<div class="page-head"><h1>Compare</h1></div>', apply_default_css=False)
    where = "A model that is not open yet takes a moment."
    if len(names) == 1 and not catalogue.allow_hub:
        where = "This app offers one model. Start it with --models FOLDER to compare it with others."
    elif catalogue.allow_hub:
        where += " A hub id can be typed instead of a name."
    offered: dict[str, Any] = {"allow_custom_value": catalogue.allow_hub, "filterable": catalogue.allow_hub}
    with gr.Row(elem_classes="responses"):
        first = gr.Dropdown(names, value=names[0], label="Model 1", elem_id="model-1", **offered)
        second = gr.Dropdown(names, value=names[min(1, len(names) - 1)], label="Model 2", elem_id="model-2", **offered)
    gr.HTML(f'<p class="section-note">{where}</p>', apply_default_css=False)
    fields = pair_fields()
    with gr.Row(elem_classes="score-row"):
        button, stop, busy = button_row("Compare")
    message = PairHeatmap(elem_id="refusal")
    with gr.Column(visible=False, elem_id="comparison") as results:
        agreement = line("status", elem_id="agreement")
        with gr.Row(elem_classes="models"):
            heatmaps = []
            for i in (1, 2):
                with gr.Column(min_width=300):
                    gr.HTML(f'<h2 class="section-head">Model {i}</h2>', apply_default_css=False)
                    heatmaps.append(PairHeatmap(elem_id=f"heatmap-{i}"))
        gr.HTML(HOW, apply_default_css=False)
        difference = PairHeatmap(elem_id="difference")

    stopping = Stop()
    kept = gr.Textbox(visible=False)

    def compared(
        request: gr.Request, one: str, other: str, prompt_now: str | None, a_now: str | None, b_now: str | None
    ) -> dict[Any, Any]:
        report = stopping.watched(request)
        try:
            prompt, pairs = read_prompt(prompt_now or ""), []
            for name in (one, other):
                reader = inspector if name == names[0] else Inspector(catalogue.open(name))
                pairs.append(reader.pair(prompt, a_now or "", b_now or "", progress=report))
        except (SentrmError, RuntimeError) as error:  # torch raises RuntimeError, for one when memory runs out
            return {message: message_value(failure(error))}
        (left, said), (right, _) = pairs
        return {
            message: None,
            results: gr.update(visible=True),
            agreement: agreement_line(left, right),
            heatmaps[0]: heatmap_value(left, (*prompt_notices(prompt), *said)),
            heatmaps[1]: heatmap_value(right),
            difference: difference_value(left, right),
        }

    def visit(said: str | None) -> list[str]:
        example = [text for one in examples[:1] for text in (one.prompt, one.a, one.b)]
        return kept_texts(said) or example or [""] * 3

    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
    button.click(None, js=ASKED_JS)
    job = button.click(
        compared,
        [first, second, *fields],
        [message, results, agreement, *heatmaps, difference],
        concurrency_id=QUEUE,
        show_progress_on=[message, busy],
        show_progress="minimal",
        trigger_mode="always_last",
    )
    stop.click(stopping.press, cancels=job, **quick)
    app.unload(stopping.press)
    app.load(visit, kept, fields, js=KEPT_JS, **quick)
