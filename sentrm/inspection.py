"""What a page asks of a model: scores and what lies behind them, each answer computed once and kept for a while."""

from __future__ import annotations

import logging
import random
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from threading import Condition, Lock
from typing import Any, TypeVar

import numpy as np

from . import influence
from .errors import EncodingError, ScoringError, SentrmError
from .influence import Flip, shortened
from .rescoring import Reader, Rescorer
from .results import Prompt, ScoredPair, ScoredResponse, Span, is_prompt
from .scoring import PROMPT_FORMS, Item, Scorer
from .words import SURROGATES, counted

KEPT = 256  # answers
READERS_SIZE = 2**30  # bytes of the key/value caches kept, beside the two of the last pair
MOST_RESPONSES = 64  # of one prompt in one call

Progress = Callable[[int, int], None]  # (done, in all); it cancels by raising
T = TypeVar("T")


@dataclass(frozen=True)
class PromptCheck:
    """Does the preference rest on the prompt? The margin of the same sentences, in logits, under three prompts."""

    real: float
    empty: float
    shuffled: float | None  # its words in another order; None where there is no other


@dataclass(frozen=True)
class LengthCheck:
    """Does the preference rest on length? The margin in logits."""

    before: float
    after: float  # less what the score of responses of these lengths is expected to differ by


class Turns:
    """A lock that goes to whoever has waited longest."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._given = self._turn = 0

    def __enter__(self) -> None:
        with self._changed:
            mine, self._given = self._given, self._given + 1
            self._changed.wait_for(lambda: self._turn == mine)

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._turn += 1
            self._changed.notify_all()

    def give_way(self) -> None:
        """Called by who holds it: those who wait go first."""
        self.__exit__()
        self.__enter__()


class Inspector:
    """One model and the answers it gave last, by text. Any number of threads may ask; they wait for each other, but for
    an answer that is there, and for no more than one batch of a long answer.

    Args:
        scorer: the model.
    """

    def __init__(self, scorer: Scorer):
        self.scorer = scorer
        self._lock = Turns()  # of the model
        self._answers: OrderedDict[Hashable, tuple[Any]] = OrderedDict()  # the least recently asked for first
        self._looking = Lock()  # of the answers
        self._readers: OrderedDict[Hashable, Reader] = OrderedDict()  # by prompt and side, likewise

    def cut_by(self, segmenter: str) -> Inspector:
        """The same model behind the same lock, its text cut by another segmenter. Raises as `Scorer.cut_by`."""
        with self._lock:
            other = Inspector(self.scorer.cut_by(segmenter))
        other._lock, other._readers = self._lock, self._readers
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
        asked = _text(prompt)
        if missing := _missing({"the prompt": asked, "response A": a, "response B": b}):
            raise SentrmError(f"Nothing was scored: {missing}. A prompt and two responses are needed.")
        said = _notices("The prompt", asked) + _notices("Response A", a) + _notices("Response B", b)
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
        names = [f"Response {i}" for i in range(1, len(items) + 1)]

        def score() -> list[ScoredResponse]:
            try:
                return self.scorer.score(items, names=names, progress=self._between(progress))
            except SentrmError as error:
                raise SentrmError(f"Nothing was scored. {error}") from error

        return list(self._kept(("responses", repr(prompt), *(item[1] for item in items)), score))

    def leave_one_out(self, response: ScoredResponse, progress: Progress | None = None) -> tuple[float, ...]:
        """(N,) logits: R − R(without sentence i). Arguments and errors as `influence.leave_one_out`."""
        return self._kept(
            ("leave one out", *_key(response)),
            lambda: influence.leave_one_out(self.scorer, response, self._between(progress)),
        )

    def smallest_flip(self, pair: ScoredPair, progress: Progress | None = None) -> Flip | None:
        """The fewest deletions that turn the preference. Arguments, result and errors as `influence.smallest_flip`."""
        return self._kept(
            ("flip", *_key(pair.a), *_key(pair.b)),
            lambda: influence.smallest_flip(self.scorer, pair, self._between(progress)),
        )

    def prompt_check(self, pair: ScoredPair) -> PromptCheck | None:
        """The pair's margin under its prompt, an empty one, and one of the same words shuffled, always the same way.

        The cuts are kept, and what was not read stays unread. None where another prompt could not be read with the
        same sentences: the model read only the end of this one, the sentences do not fit beside the other, or the chat
        template refuses it. Raises ScoringError for numbers that are not finite.
        """

        def check() -> PromptCheck | None:
            if pair.a.cut_prompt_tokens or pair.b.cut_prompt_tokens:
                return None
            prompts = [_rewritten(pair.prompt, change) for change in (lambda text: "", _shuffled)]
            sides = [shortened(response)[1:] for response in (pair.a, pair.b)]
            try:
                scored = [
                    self.scorer.score([(prompt, *side)], progress=self._between())[0]
                    for prompt in prompts
                    for side in sides
                ]
            except EncodingError:
                return None
            if any(one.dropped_sentences for one in scored):
                return None
            empty, shuffled = (one.score - other.score for one, other in (scored[:2], scored[2:]))
            return PromptCheck(pair.margin, empty, None if prompts[1] == pair.prompt else shuffled)

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
            reader = self._readers.pop(key, None) or Reader(self.scorer.model)
            self._readers[key] = reader
            while len(self._readers) > 2 and sum(one.size for one in self._readers.values()) > READERS_SIZE:
                self._readers.popitem(last=False)
            try:
                return Rescorer(self.scorer, prompt, reader).score(text, cuts, f"Response {'AB'[side]}")
            except SentrmError as error:
                raise SentrmError(f"Nothing was scored. {error}") from error

        return self._kept(("response", repr(prompt), text, cuts), score)

    def _between(self, progress: Progress | None = None) -> Progress:
        """What is called between the batches of a long answer."""

        def told(done: int, of: int) -> None:
            if progress:
                progress(done, of)
            self._lock.give_way()

        return told

    def _kept(self, key: Hashable, compute: Callable[[], T]) -> T:
        if not (answer := self._known(key)):
            with self._lock:
                answer = self._known(key) or (compute(),)  # somebody may have computed it meanwhile
                with self._looking:
                    self._answers[key] = answer
                    if len(self._answers) > KEPT:
                        self._answers.popitem(last=False)
        return answer[0]

    def _known(self, key: Hashable) -> tuple[Any] | None:
        """The answer alone in a tuple, if it is there; it becomes the one asked for last."""
        with self._looking:
            if key in self._answers:
                self._answers.move_to_end(key)
            return self._answers.get(key)


def failure(error: Exception) -> str:
    """An error in words for a reader; one that nobody expected goes to the log as well."""
    if isinstance(error, SentrmError):
        return str(error)
    logging.getLogger(__name__).error("scoring failed", exc_info=error)
    return f"Nothing was scored: the model failed ({error}). Try again, or shorter texts; the app's log says where."


def _clean(text: str) -> str:
    return SURROGATES.sub("\ufffd", text)


def _notices(name: str, text: str) -> list[str]:
    """About the characters of one field that could not be taken as they were."""
    notices = []
    if lone := len(SURROGATES.findall(text)):
        notices.append(f"{name} held {counted(lone, 'lone surrogate')}, which is no character; read as \ufffd.")
    if "\0" in text:
        notices.append(f"{name} holds {counted(text.count(chr(0)), 'NUL character')}, shown as \u2400.")
    return notices


def _missing(fields: dict[str, str]) -> str:
    missing = [(name, "only white space" if text else "empty") for name, text in fields.items() if not text.strip()]
    return ", ".join(f"{name} is {state}" for name, state in missing)


def _text(prompt: Prompt) -> str:
    if not is_prompt(prompt):
        raise ScoringError(f"Nothing was scored: got a prompt of {type(prompt).__name__}; expected {PROMPT_FORMS}.")
    return prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)


def _rewritten(prompt: Prompt, change: Callable[[str], str]) -> Prompt:
    """A prompt with the text of each message changed."""
    if isinstance(prompt, str):
        return change(prompt)
    return tuple({**message, "content": change(message["content"])} for message in prompt)


def _shuffled(text: str) -> str:
    """The words in another order, always the same; the text itself where there is no other."""
    words = text.split()
    order, generator = words.copy(), random.Random(0)
    while order == words and len(set(words)) > 1:
        generator.shuffle(order)
    return text if order == words else " ".join(order)


def _key(response: ScoredResponse) -> tuple[Hashable, ...]:
    """What tells scored responses apart."""
    return response.model, response.segmenter, repr(response.prompt), response.text, response.spans
