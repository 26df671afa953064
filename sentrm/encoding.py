"""Prompt, response and spans become token ids and boundary positions: one function for training, scoring
and evaluation, so that a template cannot differ between them.

    ids         <prompt, rendered by the chat template> <marker> s_1 <marker> s_2 <marker> … s_N <end of turn> <marker>
    boundaries                                          0            1            2                            N

With `boundary="offset"` there are no markers and a boundary is the last token of the prompt, of each
sentence, and, for the last one, of the whole sequence. The response is tokenised as one text in both
modes, so a sentence's tokens are what a language model would see.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from .configuration import SentenceRewardConfig
from .errors import EncodingError
from .results import Message, Prompt, Span

# Stored with a tokenizer that has no chat template of its own.
PLAIN_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
_PLACEHOLDER = "[response-goes-here]"
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Encoded:
    """What the model reads of one prompt and response, N sentences kept."""

    ids: list[int]  # (L,)
    boundaries: list[int]  # (N + 1,) indices into ids
    spans: list[Span]  # (N,)
    tokens: list[int]  # (N,) tokens of each sentence, markers and end of turn not counted
    dropped_sentences: int
    cut_prompt_tokens: int


class Encoder:
    """Encodes for one model: its tokenizer, its chat template, its boundary mode and its length.

    Raises:
        EncodingError: for a tokenizer without character offsets, without a chat template or without the marker token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: SentenceRewardConfig, max_length: int | None = None):
        if not tokenizer.is_fast:
            raise EncodingError("the tokenizer has no character offsets; expected a fast tokenizer (tokenizer.json).")
        if tokenizer.chat_template is None:
            raise EncodingError("the tokenizer has no chat template; set its own, or PLAIN_CHAT_TEMPLATE.")
        self.tokenizer = tokenizer
        # Whether special tokens are split is state of the tokenizer, not of a call: threads would mix them up.
        self.response_tokenizer = copy.deepcopy(tokenizer)
        self.max_length = max_length or config.max_length
        self.markers: list[int] = []  # ids placed at every boundary: one marker, or none
        if config.boundary == "marker":
            vocabulary = tokenizer.get_added_vocab()
            if config.marker_token not in vocabulary:
                raise EncodingError(
                    f"the tokenizer does not know the marker token {config.marker_token!r}; "
                    "add it with tokenizer.add_special_tokens or use boundary='offset'."
                )
            self.markers = [vocabulary[config.marker_token]]

    def encode(self, prompt: Prompt, response: str, spans: Sequence[Span]) -> Encoded:
        """Encode one prompt and response.

        A prompt of more than half the length is cut on the left, whatever the response, so that both responses to it
        are read after the same tokens; then a sequence that is too long loses whole sentences from the end of the
        response. Both are counted.

        Args:
            prompt: a string (one user message) or chat messages.
            response: the text that `spans` tile.
            spans: the sentences.

        Raises:
            EncodingError: if not even the first sentence fits, or the chat template refuses the messages.
        """
        before, after = self._around(prompt)
        prompt_ids = self._tokenize(before)
        suffix = self._tokenize(after)
        response_ids, ends = self._sentence_ends(response, spans)

        room = self.max_length - len(suffix) - len(self.markers)  # for the prompt and the sentences with their markers
        costs = [end + len(self.markers) * i for i, end in enumerate(ends, 1)]  # tokens of the first i sentences
        cut = max(0, len(prompt_ids) - self.max_length // 2)
        if cut:
            head = 1 if prompt_ids[0] == self.tokenizer.bos_token_id else 0
            prompt_ids = prompt_ids[:head] + prompt_ids[head + cut :]
        kept = sum(len(prompt_ids) + cost <= room for cost in costs)
        if spans and not kept:
            raise EncodingError(
                f"the first sentence has {ends[0]} tokens, but the model reads {self.max_length} in all and the prompt "
                f"takes {len(prompt_ids)}. Shorten the sentence, or segment it more finely."
            )

        ids = prompt_ids + self.markers
        if not ids:
            raise EncodingError("the prompt has no tokens; expected a chat template that renders at least one.")
        boundaries, start = [len(ids) - 1], 0
        for i, end in enumerate(ends[:kept], 1):
            ids = ids + response_ids[start:end] + (suffix if i == kept else []) + self.markers
            boundaries.append(len(ids) - 1)
            start = end
        tokens = [end - start for start, end in zip([0, *ends], ends[:kept], strict=False)]
        return Encoded(ids, boundaries, list(spans[:kept]), tokens, len(spans) - kept, cut)

    def _around(self, prompt: Prompt) -> tuple[str, str]:
        """What the chat template puts before and after the response."""
        messages: list[Message] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        turn = {"role": "assistant", "content": _PLACEHOLDER}
        try:
            rendered = str(self.tokenizer.apply_chat_template([*messages, turn], tokenize=False))
        except TemplateError as error:
            raise EncodingError(f"the chat template refuses this prompt: {error}") from error
        before, placeholder, after = rendered.rpartition(_PLACEHOLDER)
        if not placeholder:
            raise EncodingError("the chat template leaves out the assistant's message; expected one that renders it.")
        return before, after

    def _tokenize(self, text: str) -> list[int]:
        return self.tokenizer(_SURROGATES.sub("\ufffd", text), add_special_tokens=False, verbose=False)["input_ids"]

    def _sentence_ends(self, response: str, spans: Sequence[Span]) -> tuple[list[int], list[int]]:
        """Token ids of the response (T,) and how many of them belong to the first i sentences (N,).

        A token belongs to the sentence in which its last character stands. Special tokens written out in the text
        are read as plain text.
        """
        encoding = self.response_tokenizer(
            _SURROGATES.sub("\ufffd", response),
            add_special_tokens=False,
            return_offsets_mapping=True,
            split_special_tokens=True,
            verbose=False,  # no warning about length: what is too long is cut and counted here
        )
        ids, offsets = encoding["input_ids"], encoding["offset_mapping"]
        ends, token = [], 0
        for span in spans:
            while token < len(ids) and offsets[token][1] <= span.end:
                token += 1
            ends.append(token)
        if ends:
            ends[-1] = len(ids)
        return ids, ends
