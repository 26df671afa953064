"""The same answers for programs: endpoints of gradio_client and plain HTTP, and MCP tools where those are served.

Gradio tells callers the types and docstrings below, and reads return annotations only where they are no strings.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import gradio as gr

from ..errors import ScoringError, SentrmError
from ..inspection import Inspector, failure
from ..prompts import read_prompt

QUEUE = "score"  # what is scored waits in one queue, the pages' too
T = TypeVar("T")


def add_endpoints(inspector: Inspector) -> None:
    """Give the app that is being built its endpoints. What cannot be scored is a `gr.Error` in the page's words."""

    def score_pair(prompt: str, response_a: str, response_b: str) -> dict:
        """Score two responses to one prompt with a sentence-level reward model.

        The result has "margin", the score of A minus that of B in logits, and "probability", by Bradley and Terry,
        that A is preferred. "a" and "b" each have "text", "score", "prompt_term" and "sentences"; a sentence is
        text[start:end] with its "reward" (by how much it moved the model's running value), its "weight" and their
        product, its "contribution". The contributions of sentences and prompt term add up to the score.
        "dropped_sentences" and "cut_prompt_tokens" count what did not fit the model.

        Args:
            prompt: What was asked, as plain text, or a conversation: user: …, assistant: …, a blank line between two.
            response_a: One response, as plain text.
            response_b: The other response, as plain text.
        """
        return _answer(
            lambda: inspector.pair(read_prompt(prompt), response_a, response_b)[0].to_dict(),
            prompt=prompt,
            response_a=response_a,
            response_b=response_b,
        )

    def score_responses(prompt: str, responses: list[str]) -> list[dict]:
        """Score 1 to 64 responses to one prompt with a sentence-level reward model; the best comes first.

        Each result has "text", "score" (in logits), "prompt_term" and "sentences", as in score_pair.

        Args:
            prompt: What was asked, as plain text, or a conversation: user: …, assistant: …, a blank line between two.
            responses: The responses, each as plain text.
        """
        if not isinstance(responses, list):
            raise gr.Error(f"responses is {_kind(responses)}; expected a list of texts.", print_exception=False)
        return _answer(
            lambda: [
                one.to_dict()
                for one in sorted(inspector.responses(read_prompt(prompt), responses), key=lambda one: -one.score)
            ],
            prompt=prompt,
            **{f"responses[{i}]": text for i, text in enumerate(responses)},
        )

    def leave_one_out(prompt: str, response: str) -> list[float]:
        """By how much does each sentence of a response raise its score? The score minus the score without it.

        One number a sentence, in logits and in reading order; the sentences are those of score_responses.

        Args:
            prompt: What was asked, as plain text, or a conversation: user: …, assistant: …, a blank line between two.
            response: The response, as plain text.
        """
        return _answer(
            lambda: list(inspector.leave_one_out(inspector.responses(read_prompt(prompt), [response])[0])),
            prompt=prompt,
            response=response,
        )

    for endpoint in (score_pair, score_responses, leave_one_out):
        gr.api(endpoint, concurrency_id=QUEUE)


def _answer(ask: Callable[[], T], **texts: Any) -> T:
    try:
        for name, text in texts.items():
            if not isinstance(text, str):
                raise ScoringError(f"{name} is {_kind(text)}; expected text.")
        return ask()
    except (SentrmError, RuntimeError) as error:  # torch raises RuntimeError, for one when memory runs out
        raise gr.Error(failure(error), print_exception=False) from error


def _kind(value: Any) -> str:
    return f"of type {type(value).__name__}"
