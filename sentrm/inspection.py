"""What a page asks of a model: scores and what lies behind them, each answer computed once and kept for a while."""

from __future__ import annotations

import logging
import random
import re
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from threading import RLock
from typing import Any, TypeVar

import numpy as np

from . import influence
from .errors import ScoringError, SentrmError
from .influence import Flip, shortened
from .rescoring import Rescorer
from .results import Prompt, ScoredPair, ScoredResponse, SegmenterInfo, Span
from .scoring import Item, Scorer
from .segmentation import SegmenterSpec, load_segmenter
from .words import counted, unit_of

KEPT = 256  # answers
RESCORERS = 8  # prompts and sides whose key/value cache is kept
MOST_RESPONSES = 64  # of one prompt in one call

Progress = Callable[[int, int], None]  # (done, in all); it cancels by raising
T = TypeVar("T")


@dataclass(frozen=True)
class PromptCheck:
    """Does the preference rest on the prompt? The margin of the same sentences, in logits, under three prompts."""

    real: float
    empty: float
    shuffled: float  # its words in another order


@dataclass(frozen=True)
class LengthCheck:
    """Does the preference rest on length? The margin in logits."""

    before: float
    after: float  # less what the score of responses of these lengths is expected to differ by


class Inspector:
    """One model and the answers it gave last, by text. Any number of threads may ask; they wait for each other.

    Args:
        scorer: the model.
    """

    def __init__(self, scorer: Scorer):
        self.scorer = scorer
        self._lock = RLock()
        self._answers: OrderedDict[Hashable, Any] = OrderedDict()  # the least recently asked for first
        self._rescorers: OrderedDict[Hashable, Rescorer] = OrderedDict()

    def cut_by(self, segmenter: str) -> Inspector:
        """The same model behind the same lock, its text cut by another segmenter, e.g. "rules", "tokens", "response".

        Raises:
            SegmenterError: if there is no such segmenter, or it cannot be loaded.
        """
        scorer, spec = self.scorer, SegmenterSpec.parse(segmenter)
        with self._lock:
            loaded = load_segmenter(spec, scorer.encoder.tokenizer, scorer.model.device)
        config = scorer.model.config
        own = spec == SegmenterSpec.from_dict(config.segmenter)
        own = own and config.segmenter_revision in (None, loaded.revision)
        other = Inspector(
            replace(scorer, segmenter=loaded, segmenter_info=SegmenterInfo(str(spec), loaded.revision, own))
        )
        other._lock = self._lock
        return other

    def pair(
        self,
        prompt: Prompt,
        a: str,
        b: str,
        cuts_a: tuple[Span, ...] | None = None,
        cuts_b: tuple[Span, ...] | None = None,
        progress: Progress | None = None,
    ) -> tuple[ScoredPair, tuple[str, ...]]:
        """Score two responses; of one that is edited again and again, only what follows an edit is read.

        Args:
            cuts_a, cuts_b: the sentences, where they are cut by hand.
            progress: called after each response.

        Returns:
            The pair, and notices about characters that could not be taken as they were.

        Raises:
            SentrmError: if a field is empty, a response cannot be encoded, or the model returns no finite numbers.
        """
        missing = check_input(prompt, a, b)
        if missing:
            raise SentrmError(missing)
        said = _notices("The prompt", _text(prompt)) + _notices("Response A", a) + _notices("Response B", b)
        prompt = _rewritten(prompt, _clean)
        scored = []
        for side, (text, cuts) in enumerate(((a, cuts_a), (b, cuts_b))):
            scored.append(self._response(prompt, _clean(text), cuts, side))
            if progress:
                progress(side + 1, 2)
        return ScoredPair("", *scored), tuple(said)

    def responses(self, prompt: Prompt, texts: Sequence[str], progress: Progress | None = None) -> list[ScoredResponse]:
        """Score 1 to 64 responses to one prompt, which is read once; in order.

        Raises:
            SentrmError: for another number of responses, and as `pair`.
        """
        if not 1 <= len(texts) <= MOST_RESPONSES:
            raise ScoringError(
                f"Nothing was scored: got {counted(len(texts), 'response')}, expected 1 to {MOST_RESPONSES}. "
                "Ask for them in several calls."
            )
        fields = {"the prompt": _text(prompt)} | {f"response {i}": text for i, text in enumerate(texts, 1)}
        if missing := _missing(fields):
            raise SentrmError(f"Nothing was scored: {missing}. A prompt and every response are needed.")
        prompt = _rewritten(prompt, _clean)
        items: list[Item] = [(prompt, _clean(text)) for text in texts]

        def score() -> list[ScoredResponse]:
            try:
                return self.scorer.score(items, progress=progress)
            except SentrmError as error:
                raise self._refused(re.sub(r"^item (\d+):", r"Response \1:", str(error))) from error

        return list(self._kept(("responses", repr(prompt), *(item[1] for item in items)), score))

    def leave_one_out(self, response: ScoredResponse) -> tuple[float, ...]:
        """(N,) logits: R − R(without sentence i). Raises as `influence.leave_one_out`."""
        return self._kept(("leave one out", *_key(response)), lambda: influence.leave_one_out(self.scorer, response))

    def smallest_flip(self, pair: ScoredPair, progress: Progress | None = None) -> Flip | None:
        """The fewest deletions that turn the preference. Arguments, result and errors as `influence.smallest_flip`."""
        return self._kept(
            ("flip", *_key(pair.a), *_key(pair.b)), lambda: influence.smallest_flip(self.scorer, pair, progress)
        )

    def prompt_check(self, pair: ScoredPair) -> PromptCheck:
        """The pair's margin under its prompt, an empty one, and one of the same words shuffled, always the same way.

        The cuts are kept, and what was not read stays unread. Raises as `Scorer.score`.
        """

        def check() -> PromptCheck:
            prompts = [_rewritten(pair.prompt, change) for change in (lambda text: "", _shuffled)]
            sides = [shortened(response)[1:] for response in (pair.a, pair.b)]
            scored = self.scorer.score([(prompt, *side) for prompt in prompts for side in sides])
            empty_a, empty_b, shuffled_a, shuffled_b = (one.score for one in scored)
            return PromptCheck(pair.margin, empty_a - empty_b, shuffled_a - shuffled_b)

        return self._kept(("prompt", *_key(pair.a), *_key(pair.b)), check)

    def length_check(self, pair: ScoredPair) -> LengthCheck | None:
        """The pair's margin before and after the checkpoint's length calibration (arXiv 2409.17407).

        None where the checkpoint carries none, and for text cut by another segmenter than the one it was measured with.
        """
        knots = self.scorer.model.config.length_calibration
        if knots is None or not (pair.a.segmenter.own and pair.b.segmenter.own):
            return None
        characters, expected = zip(*knots, strict=True)
        of_a, of_b = np.interp([len(pair.a.text), len(pair.b.text)], characters, expected)
        return LengthCheck(pair.margin, pair.margin - float(of_a - of_b))

    def _response(self, prompt: Prompt, text: str, cuts: tuple[Span, ...] | None, side: int) -> ScoredResponse:
        def score() -> ScoredResponse:
            key = repr(prompt), side
            rescorer = self._rescorers.pop(key, None) or Rescorer(self.scorer, prompt)
            self._rescorers[key] = rescorer
            if len(self._rescorers) > RESCORERS:
                self._rescorers.popitem(last=False)
            try:
                return rescorer.score(text, cuts)
            except SentrmError as error:
                raise self._refused(str(error).replace("the response:", f"Response {'AB'[side]}:", 1)) from error

        return self._kept(("response", repr(prompt), text, cuts), score)

    def _refused(self, said: str) -> SentrmError:
        if unit_of(self.scorer.segmenter_info.spec) == "response":
            said = said.replace("first sentence", "response").replace("sentence", "response")
        return SentrmError(f"Nothing was scored. {said}")

    def _kept(self, key: Hashable, compute: Callable[[], T]) -> T:
        with self._lock:
            if key not in self._answers:
                self._answers[key] = compute()
            self._answers.move_to_end(key)
            if len(self._answers) > KEPT:
                self._answers.popitem(last=False)
            answer: T = self._answers[key]
            return answer


def failure(error: Exception) -> str:
    """An error in words for a reader; one that nobody expected goes to the log as well."""
    if isinstance(error, SentrmError):
        return str(error)
    logging.getLogger(__name__).error("scoring failed", exc_info=error)
    return f"Nothing was scored: the model failed. {error}"


def check_input(prompt: Prompt, a: str, b: str) -> str | None:
    """What is missing in the three fields, in one sentence; None if nothing is."""
    missing = _missing({"the prompt": _text(prompt), "response A": a, "response B": b})
    return f"Nothing was scored: {missing}. A prompt and two responses are needed." if missing else None


def replace_surrogates(text: str) -> tuple[str, int]:
    """`text` with each lone surrogate, which no encoding of text can carry, replaced by U+FFFD; and how many."""
    return re.subn("[\ud800-\udfff]", "\ufffd", text)


def _clean(text: str) -> str:
    return replace_surrogates(text)[0]


def _notices(name: str, text: str) -> list[str]:
    """About the characters of one field that could not be taken as they were."""
    notices = []
    if lone := replace_surrogates(text)[1]:
        notices.append(f"{name} held {counted(lone, 'lone surrogate')}, which is no character; read as \ufffd.")
    if "\0" in text:
        notices.append(f"{name} holds {counted(text.count(chr(0)), 'NUL character')}, shown as \u2400.")
    return notices


def _missing(fields: dict[str, str]) -> str:
    missing = [(name, "only white space" if text else "empty") for name, text in fields.items() if not text.strip()]
    return ", ".join(f"{name} is {state}" for name, state in missing)


def _text(prompt: Prompt) -> str:
    return prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)


def _rewritten(prompt: Prompt, change: Callable[[str], str]) -> Prompt:
    """A prompt with the text of each message changed."""
    if isinstance(prompt, str):
        return change(prompt)
    return tuple({**message, "content": change(message["content"])} for message in prompt)


def _shuffled(text: str) -> str:
    """The words in another order, always the same; of text without spaces, the characters."""
    words = text.split()
    between = " "
    if len(words) == 1:
        words, between = list(words[0]), ""
    order, generator = words.copy(), random.Random(0)
    while order == words and len(set(words)) > 1:
        generator.shuffle(order)
    return between.join(order)


def _key(response: ScoredResponse) -> tuple[Hashable, ...]:
    """What tells scored responses apart."""
    return response.model, response.segmenter, repr(response.prompt), response.text, response.spans
