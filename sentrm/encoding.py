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
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from .configuration import SentenceRewardConfig
from .errors import EncodingError
from .results import Message, Prompt, Span
from .words import SURROGATES

# Stored with a tokenizer that has no chat template of its own.
PLAIN_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
ENCODING_VERSION = (
    1  # of this file's rules: a change that gives other ids or boundaries adds one, and no cache is read again
)
_PLACEHOLDER = "[response-goes-here]"


class SequenceTooLongError(EncodingError):
    """Not even the first sentence fits beside the prompt."""


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
        # A response that is one span has no sentences to drop: it is cut where the model's length ends. So it is for
        # the model's own segmenter; a scorer that uses another one says so here.
        self.cuts_responses = config.segmenter["backend"] == "response"
        self.markers: list[int] = []  # ids placed at every boundary: one marker, or none
        if config.boundary == "marker":
            vocabulary = tokenizer.get_added_vocab()
            if config.marker_token not in vocabulary:
                raise EncodingError(
                    f"the tokenizer does not know the marker token {config.marker_token!r}; "
                    "add it with tokenizer.add_special_tokens or use boundary='offset'."
                )
            self.markers = [vocabulary[config.marker_token]]

    @property
    def fingerprint(self) -> str:
        """Digest of all that decides ids and boundaries besides the text: tokenizer, chat template, mode and length."""
        model = json.loads(self.tokenizer.backend_tokenizer.to_str())
        del model["padding"], model["truncation"]  # state of the last call
        special = {name: str(token) for name, token in self.tokenizer.special_tokens_map.items()}
        how = [self.markers, self.max_length, self.cuts_responses]
        deciding = [ENCODING_VERSION, model, special, self.tokenizer.chat_template, how]
        return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()

    def encode(
        self,
        prompt: Prompt,
        response: str,
        spans: Sequence[Span],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> Encoded:
        """Encode one prompt and response.

        A prompt of more than half the length is cut on the left, whatever the response, so that both responses to it
        are read after the same tokens; then a sequence that is too long loses whole sentences from the end of the
        response. Both are counted. Where `cuts_responses` the one span of a response is cut, and counts as dropped.

        Args:
            prompt: a string (one user message) or chat messages.
            response: the text that `spans` tile.
            spans: the sentences.
            tools: JSON schemas of tools, for the chat template.
            chat_template_kwargs: what else the chat template is given.

        Raises:
            SequenceTooLongError: if not even the first sentence fits.
            EncodingError: if the chat template refuses the messages.
        """
        around = self._around(prompt, tools, chat_template_kwargs or {})
        return self._encode(*around, response, spans)

    def encode_all(
        self,
        prompt: Prompt,
        responses: Sequence[str],
        spans: Sequence[Sequence[Span]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> list[Encoded]:
        """`encode` for all K responses to one prompt, which is rendered and tokenised once."""
        around = self._around(prompt, tools, chat_template_kwargs or {})
        return [self._encode(*around, response, one) for response, one in zip(responses, spans, strict=True)]

    def decode(self, ids: Sequence[int], boundaries: Sequence[int]) -> tuple[str, str, Encoded]:
        """Prompt, response and sentences of a sequence that was tokenised elsewhere: a sentence is what its tokens
        decode to, special tokens included.

        Args:
            ids: (L,) token ids.
            boundaries: (N + 1,) indices into ids.

        Raises:
            EncodingError: if an id is none of the tokenizer's, or there are more than the model reads.
        """
        if len(ids) > self.max_length or max(ids) >= len(self.tokenizer):
            raise EncodingError(
                f"got {len(ids)} token ids up to {max(ids)}; this model reads {self.max_length}, and its tokenizer has "
                f"{len(self.tokenizer)}. Was the data tokenised for another model?"
            )
        pieces = [str(self.tokenizer.decode(list(ids[start + 1 : end + 1]))) for start, end in pairwise(boundaries)]
        ends = list(accumulate(map(len, pieces), initial=0))
        tokens = [after - before for before, after in pairwise(boundaries)]
        spans = [Span(start, end) for start, end in pairwise(ends)]
        one = Encoded(list(ids), list(boundaries), spans, tokens, dropped_sentences=0, cut_prompt_tokens=0)
        return str(self.tokenizer.decode(list(ids[: boundaries[0] + 1]))), "".join(pieces), one

    def _encode(
        self, prompt_ids: list[int], suffix: list[int], cut: int, response: str, spans: Sequence[Span]
    ) -> Encoded:
        response_ids, ends, offsets = self._sentence_ends(response, spans)
        room = self.max_length - len(suffix) - len(self.markers)  # for the prompt and the sentences with their markers
        costs = [end + len(self.markers) * i for i, end in enumerate(ends, 1)]  # tokens of the first i sentences
        kept = sum(len(prompt_ids) + cost <= room for cost in costs)
        cut_response = 0
        fits = room - len(prompt_ids) - len(self.markers)
        if len(spans) == 1 and not kept and self.cuts_responses and fits > 0:
            spans, ends, kept, cut_response = [Span(0, offsets[fits - 1][1])], [fits], 1, 1
        if spans and not kept:
            raise SequenceTooLongError(
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
        return Encoded(ids, boundaries, list(spans[:kept]), tokens, len(spans) - kept + cut_response, cut)

    def _around(
        self, prompt: Prompt, tools: Sequence[Any], variables: Mapping[str, Any]
    ) -> tuple[list[int], list[int], int]:
        """Ids of what the chat template puts before the response, cut to fit, and after it; how many were cut."""
        messages: list[Message] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        turn = {"role": "assistant", "content": _PLACEHOLDER}
        try:
            rendered = str(
                self.tokenizer.apply_chat_template(
                    [*messages, turn], tools=list(tools) or None, tokenize=False, **variables
                )
            )
        except (TemplateError, TypeError, ValueError) as error:  # the last two: tool calls or tools of a strange form
            raise EncodingError(f"the chat template refuses this prompt: {error}") from error
        before, placeholder, after = rendered.rpartition(_PLACEHOLDER)
        if not placeholder:
            raise EncodingError("the chat template leaves out the assistant's message; expected one that renders it.")
        prompt_ids = self._tokenize(before)
        cut = max(0, len(prompt_ids) - self.max_length // 2)
        if cut:
            head = 1 if prompt_ids[0] == self.tokenizer.bos_token_id else 0
            prompt_ids = prompt_ids[:head] + prompt_ids[head + cut :]
        return prompt_ids, self._tokenize(after), cut

    def _tokenize(self, text: str) -> list[int]:
        return self.tokenizer(SURROGATES.sub("\ufffd", text), add_special_tokens=False, verbose=False)["input_ids"]

    def _sentence_ends(
        self, response: str, spans: Sequence[Span]
    ) -> tuple[list[int], list[int], list[tuple[int, int]]]:
        """Token ids of the response (T,), how many of them belong to the first i sentences (N,), and where in the text
        each token stands (T,).

        A token belongs to the sentence in which its last character stands. Special tokens written out in the text
        are read as plain text.
        """
        encoding = self.response_tokenizer(
            SURROGATES.sub("\ufffd", response),
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
        return ids, ends, offsets
