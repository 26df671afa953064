"""The inputs that pages share; fields.js marks what is shown as old once they are edited."""

from __future__ import annotations

import json

import gradio as gr

KEPT_JS = "() => kept()"  # what the address asks for, else what stood in the fields when this tab left the page
TOUCHED_JS = "() => touched()"  # what is shown is not of these fields any more
ASKED_JS = "() => asked('')"  # what is drawn next is, unless they are edited meanwhile


def prompt_field() -> gr.Textbox:
    """What is written there `read_prompt` reads."""
    return gr.Textbox(
        label="Prompt",
        lines=2,
        max_lines=6,
        elem_id="prompt",
        elem_classes="typed",
        placeholder="What was asked, or a conversation: user: …, assistant: …, user: …, a blank line between two",
    )


def pair_fields() -> list[gr.Textbox]:
    """Prompt, response A and response B."""
    prompt = prompt_field()
    with gr.Row(elem_classes="responses"):
        a, b = (
            gr.Textbox(
                label=f"Response {id.upper()}",
                lines=5,
                max_lines=9,
                elem_id=id,
                elem_classes="typed",
                placeholder=placeholder,
            )
            for id, placeholder in (("a", "One response"), ("b", "The other response"))
        )
    return [prompt, a, b]


def button_row(words: str) -> tuple[gr.Button, gr.Button, gr.HTML]:
    """The button that Ctrl+Enter presses, Stop, and what shows Stop while it has progress to show; inside a row."""
    button = gr.Button(words, variant="primary", elem_id="score")
    stop = gr.Button("Stop", elem_id="stop")
    gr.HTML(_HINT, elem_classes="key-hint", apply_default_css=False)
    return button, stop, gr.HTML(elem_id="busy")


def kept_texts(kept: str | None) -> list[str]:
    """The texts in what `KEPT_JS` gives; none where the address asks for something, or nothing was kept."""
    return [str(text) for text in json.loads(kept)] if kept and kept.startswith("[") else []


_HINT = (
    '<span class="fresh-hint">or <kbd>Ctrl</kbd> <kbd>Enter</kbd></span><span role="status">'
    '<span class="stale-hint">The text has changed since it was scored.</span></span>'
)
