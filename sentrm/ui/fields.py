"""The inputs that pages share."""

from __future__ import annotations

import gradio as gr


def prompt_field() -> gr.Textbox:
    return gr.Textbox(label="Prompt", lines=2, max_lines=6, elem_id="prompt", placeholder="What was asked")


def pair_fields() -> list[gr.Textbox]:
    """Prompt, response A and response B."""
    prompt = prompt_field()
    with gr.Row(elem_classes="responses"):
        a = gr.Textbox(label="Response A", lines=5, max_lines=9, elem_id="a", placeholder="One response")
        b = gr.Textbox(label="Response B", lines=5, max_lines=9, elem_id="b", placeholder="The other response")
    return [prompt, a, b]
