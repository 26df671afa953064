"""What scoring returns: frozen dataclasses that the screen, the report, the command line and the
audit read, and nothing else. `to_dict` gives the JSON form; `from_dict` restores an equal object.

Words (all in logits but the weights): the value `v_i` is the reward head read at boundary i, the
reward `Δ_i = v_i - v_{i-1}` (`Δ_0 = v_0`, the prompt term), the weight `a_i` is the attention the
aggregation gives boundary i, the contribution is `a_i · Δ_i`, and the score is their sum.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

Message = dict[str, str]  # {"role": "user" | "assistant" | "system", "content": text}
Prompt = str | tuple[Message, ...]


def is_prompt(value: object) -> bool:
    """Whether it is text, or chat messages that each have a role and content as text."""
    return isinstance(value, str) or (
        isinstance(value, list | tuple)
        and all(isinstance(one, dict) and isinstance(one.get("role"), str) for one in value)
        and all(isinstance(one.get("content"), str) for one in value)
    )


class Span(NamedTuple):
    """Characters `[start, end)` of a response; the spans of a response tile it."""

    start: int
    end: int


@dataclass(frozen=True)
class ModelInfo:
    """Which model gave the numbers, and the two facts a reader needs to place them."""

    name: str
    revision: str  # digest of the weights and configuration
    aggregator: str
    median_reward: float | None  # median sentence reward on the training run's held-out rows, logits, if measured


@dataclass(frozen=True)
class SegmenterInfo:
    """Which segmenter cut the sentences; `own` is False where it is not the one the model was trained with."""

    spec: str  # e.g. "rules:en" or "sat:sat-3l@0.2"
    revision: str  # package and version
    own: bool


@dataclass(frozen=True)
class ScoredResponse:
    """One response to one prompt, N sentences, read at N + 1 boundaries (boundary 0 ends the prompt).

    `text` is the whole response. `spans` are the sentences that were scored; the `dropped_sentences`
    that did not fit the model stand in `text[spans[-1].end:]`.
    """

    prompt: Prompt
    text: str
    spans: tuple[Span, ...]  # (N,)
    tokens: tuple[int, ...]  # (N,) tokens in each sentence
    values: tuple[float, ...]  # (N + 1,) logits
    rewards: tuple[float, ...]  # (N + 1,) logits; index 0 is the prompt term
    weights: tuple[float, ...]  # (N + 1,) sum to 1 for the paper's aggregator
    contributions: tuple[float, ...]  # (N + 1,) logits; they add up to the score
    score: float  # logits
    dropped_sentences: int
    cut_prompt_tokens: int
    model: ModelInfo
    segmenter: SegmenterInfo

    @property
    def sentences(self) -> tuple[str, ...]:
        """The text of each scored sentence. (N,)"""
        return tuple(self.text[start:end] for start, end in self.spans)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form of a response: nested by sentence, text and numbers only."""
        terms = [
            {"value": v, "reward": d, "weight": a, "contribution": c}
            for v, d, a, c in zip(self.values, self.rewards, self.weights, self.contributions, strict=True)
        ]
        return {
            "prompt": _prompt_to_json(self.prompt),
            "text": self.text,
            "score": self.score,
            "prompt_term": terms[0],
            "sentences": [
                {"start": span.start, "end": span.end, **term, "tokens": tokens}
                for span, term, tokens in zip(self.spans, terms[1:], self.tokens, strict=True)
            ],
            "dropped_sentences": self.dropped_sentences,
            "cut_prompt_tokens": self.cut_prompt_tokens,
            "model": asdict(self.model),
            "segmenter": asdict(self.segmenter),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ScoredResponse:
        """Restore what `to_dict` wrote. Raises KeyError or TypeError on anything else."""
        sentences = data["sentences"]
        terms = [data["prompt_term"], *sentences]

        def column(name: str) -> tuple[float, ...]:
            return tuple(term[name] for term in terms)

        return cls(
            prompt=_prompt_from_json(data["prompt"]),
            text=data["text"],
            spans=tuple(Span(s["start"], s["end"]) for s in sentences),
            tokens=tuple(s["tokens"] for s in sentences),
            values=column("value"),
            rewards=column("reward"),
            weights=column("weight"),
            contributions=column("contribution"),
            score=data["score"],
            dropped_sentences=data["dropped_sentences"],
            cut_prompt_tokens=data["cut_prompt_tokens"],
            model=ModelInfo(**data["model"]),
            segmenter=SegmenterInfo(**data["segmenter"]),
        )

    def to_html(self) -> str:
        """One self-contained page that opens offline: the app's heatmap of this response."""
        from .report import to_html  # the report reads this module

        return to_html(self)

    def show(self) -> None:
        """Draw the heatmap below a notebook's cell. Raises ImportError where there is no IPython."""
        from .report import show  # the report reads this module

        show(self)


@dataclass(frozen=True)
class ScoredPair:
    """Two responses to one prompt. For preference data a is the chosen and b the rejected one."""

    id: str
    a: ScoredResponse
    b: ScoredResponse

    @property
    def prompt(self) -> Prompt:
        return self.a.prompt

    @property
    def margin(self) -> float:
        """`R_A - R_B`, logits."""
        return self.a.score - self.b.score

    @property
    def probability(self) -> float:
        """`σ(margin)`: the Bradley-Terry probability that A is preferred."""
        return 0.5 * (1 + math.tanh(self.margin / 2))  # the form of σ that cannot overflow

    def to_dict(self) -> dict[str, Any]:
        """The JSON form of a pair, one line of `sentrm score`: what both responses share stands once."""
        a, b = self.a.to_dict(), self.b.to_dict()
        shared = {name: a[name] for name in _SHARED}
        for response in (a, b):
            for name in _SHARED:
                del response[name]
        return {
            "id": self.id,
            "prompt": shared["prompt"],
            "a": a,
            "b": b,
            "margin": self.margin,
            "probability": self.probability,
            "model": shared["model"],
            "segmenter": shared["segmenter"],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ScoredPair:
        """Restore what `to_dict` wrote. Raises KeyError or TypeError on anything else."""
        shared = {name: data[name] for name in _SHARED}
        return cls(
            id=data["id"],
            a=ScoredResponse.from_dict({**data["a"], **shared}),
            b=ScoredResponse.from_dict({**data["b"], **shared}),
        )

    def to_html(self) -> str:
        """One self-contained page that opens offline: the app's heatmap of this pair."""
        from .report import to_html  # the report reads this module

        return to_html(self)

    def show(self) -> None:
        """Draw the heatmap below a notebook's cell. Raises ImportError where there is no IPython."""
        from .report import show  # the report reads this module

        show(self)


_SHARED = ("prompt", "model", "segmenter")


def _prompt_to_json(prompt: Prompt) -> str | list[Message]:
    return prompt if isinstance(prompt, str) else [dict(message) for message in prompt]


def _prompt_from_json(prompt: str | list[Message]) -> Prompt:
    return prompt if isinstance(prompt, str) else tuple(dict(message) for message in prompt)
