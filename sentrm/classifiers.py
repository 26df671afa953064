"""Off-the-shelf reward models: any `*ForSequenceClassification` checkpoint with one label is scored as it is.

    one pass            a causal backbone and a linear `score` head, read at the last token: it is the value head, so
                        the value at a boundary is the model's own score of what stands before it
    prefix by prefix    everything else (a bidirectional backbone, a pooler, a head of several layers): the model's own
                        forward reads the prompt with no sentence, with the first, with the first two, …

Which of the two is found by trying: one pass has to give what the model itself says of every prefix of a few tokens.
Boundaries stand by offset and the aggregator is `last`, so the score is the model's own logit of the whole response.
Nothing was trained with sentences; they are cut by rules, unless another segmenter is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from .batching import buckets, pad, rounding
from .configuration import SentenceRewardConfig
from .encoding import PLAIN_CHAT_TEMPLATE, Encoded, Encoder
from .errors import SentrmError
from .loading import load_weights
from .modeling import SentenceRewardModel, SentenceRewardOutput
from .results import Prompt

SEGMENTER = {"backend": "rules", "name": "en", "threshold": None}
_UNKNOWN_LENGTH = 2048  # of a model that says nowhere how long its texts may be


def load_classifier(
    name_or_path: str | Path, config: PreTrainedConfig, dtype: str = "auto"
) -> tuple[SentenceRewardModel, PreTrainedTokenizerBase]:
    """Model and tokenizer of a checkpoint that `loading.read_scorable` took for a classifier.

    Raises:
        ModelLoadError: if the weights do not load (only safetensors are), or the head's are not there.
    """
    unread = ("unexpected_keys",)  # of another head
    classifier, tokenizer = load_weights(AutoModelForSequenceClassification, name_or_path, config, dtype, unread)
    if tokenizer.chat_template is None:
        tokenizer.chat_template, form = _template(tokenizer)
        logging.getLogger(__name__).warning(
            "%s has no chat template: it is read as %s. If it was trained with another form, its scores are not to be "
            "trusted; save the right one as chat_template.jinja beside it.",
            name_or_path,
            form,
        )
    return wrap(classifier.eval(), min(_most_tokens(classifier), tokenizer.model_max_length)), tokenizer


def wrap(classifier: PreTrainedModel, max_length: int) -> SentenceRewardModel:
    """The classifier as a sentence reward model: read in one pass if that is exact, else prefix by prefix.

    Args:
        classifier: with one label, in evaluation mode.
        max_length: most tokens of prompt and response.
    """
    attention: dict[str, Any] = {"attn_implementation": classifier.config._attn_implementation}  # or it is reset
    config = SentenceRewardConfig(
        backbone_config=classifier.config,
        aggregator="last",
        boundary="offset",
        segmenter=SEGMENTER,
        max_length=max_length,
        **attention,
    )
    score = dict(classifier.named_children()).get("score")
    if isinstance(score, nn.Linear) and score.in_features == config.hidden_size:
        pooler = dict(classifier.base_model.named_children()).get("pooler")
        model = OnePassClassifier(config, cast(PreTrainedModel, classifier.base_model))
        with torch.no_grad():
            model.value_head.weight.copy_(score.weight)
            model.value_head.bias.copy_(torch.zeros(1) if score.bias is None else score.bias)
        if _is_exact(model.eval(), classifier):
            return model
        if pooler is not None:
            classifier.base_model.pooler = pooler
    return PrefixClassifier(config, classifier)


class OnePassClassifier(SentenceRewardModel):
    """A causal classifier, its score head the value head."""


class PrefixClassifier(SentenceRewardModel):
    """A classifier whose values are its own logits of each prefix: it has no hidden state that says them all."""

    def __init__(self, config: SentenceRewardConfig, classifier: PreTrainedModel):
        PreTrainedModel.__init__(self, config)
        self.backbone = classifier
        self.own_attention = classifier.config._attn_implementation

    def forward(self, *args: Any, **inputs: Any) -> SentenceRewardOutput:
        """Raises SentrmError: ids and boundaries do not say what stands after a prefix; see `read_prefixes`."""
        raise SentrmError("this model is scored prefix by prefix: expected read_prefixes, not one forward pass.")

    def read_prefixes(self, encoded: Sequence[Encoded], batch_tokens: int) -> list[tuple[list[float], ...]]:
        """Values, rewards, weights and contributions of each sequence, (N + 1,) each, and its score, (1,).

        Args:
            encoded: what is read; a prefix that several share, as a prompt, is read once.
            batch_tokens: of one forward pass, padding included.
        """
        prefixes = [_prefixes(one) for one in encoded]
        distinct = list(dict.fromkeys(prefix for several in prefixes for prefix in several))
        padding = self.backbone.config.pad_token_id
        logits: dict[tuple[int, ...], float] = {}
        for batch in buckets([len(prefix) for prefix in distinct], batch_tokens if padding is not None else 1):
            rows = [distinct[index] for index in batch]
            inputs = pad(rows, [(0,)] * len(rows), padding or 0)
            ids, mask = (inputs[name].to(self.device) for name in ("input_ids", "attention_mask"))
            found = self.backbone(input_ids=ids, attention_mask=mask).logits  # (B, 1)
            logits.update(zip(rows, found[:, 0].float().tolist(), strict=True))
        table: list[tuple[list[float], ...]] = []
        for several in prefixes:
            values = [logits[prefix] for prefix in several]
            rewards = [values[0], *(after - before for before, after in pairwise(values))]
            table.append((values, rewards, [1.0] * len(values), rewards, [values[-1]]))
        return table


class ClassifierEncoder(Encoder):
    """Encodes for a classifier: a prompt cut on the left still begins with the token that a pooler reads."""

    def _around(
        self, prompt: Prompt, tools: Sequence[Any], variables: Mapping[str, Any]
    ) -> tuple[list[int], list[int], int]:
        before, after, cut = super()._around(prompt, tools, variables)
        first = self.tokenizer.cls_token_id
        if cut and first is not None and first != self.tokenizer.bos_token_id:  # which Encoder keeps
            before = [first, *before[1:]]
        return before, after, cut


class OnePassEncoder(ClassifierEncoder):
    """Encodes for a classifier read in one pass: a boundary is the last token that is no padding, as padding may end a
    turn."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: SentenceRewardConfig, max_length: int | None = None):
        super().__init__(tokenizer, config, max_length)
        self.padding = config.backbone_config.pad_token_id  # type: ignore[union-attr]  # a configuration by now

    def decode(self, ids: Sequence[int], boundaries: Sequence[int]) -> tuple[str, str, Encoded]:
        prompt, text, one = super().decode(ids, boundaries)
        return prompt, text, self._before_padding(one)

    def _encode(self, *args: Any) -> Encoded:
        return self._before_padding(super()._encode(*args))

    def _before_padding(self, one: Encoded) -> Encoded:
        for i, boundary in enumerate(one.boundaries):
            while boundary > 0 and one.ids[boundary] == self.padding:
                boundary -= 1
            one.boundaries[i] = boundary
        return one


def _prefixes(one: Encoded) -> list[tuple[int, ...]]:
    """What is read for each value, (N + 1,): the prompt, then prompt, first i sentences and end of turn."""
    starts = [*one.boundaries[:1], *one.boundaries[:1]]
    for tokens in one.tokens:
        starts.append(starts[-1] + tokens)
    sentence_ends = [end + 1 for end in starts[1:]]
    after = one.ids[sentence_ends[-1] :]
    return [tuple(one.ids[:end] + (after if i else [])) for i, end in enumerate(sentence_ends)]


@torch.no_grad()
def _is_exact(model: SentenceRewardModel, classifier: PreTrainedModel) -> bool:
    """Whether the value at each of eight tokens is the classifier's own logit of the text up to it."""
    ids = torch.arange(1, 10, device=model.device)
    ids = ids[ids != (classifier.config.pad_token_id or 0)][:8].unsqueeze(0)  # (1, 8)
    states = model.backbone(input_ids=ids, use_cache=False).last_hidden_state[0]  # (8, H)
    values = model.value_head(states.to(model.value_head.weight.dtype))  # (8, 1)
    own = torch.cat([classifier(input_ids=ids[:, :end]).logits for end in range(1, 9)]).float()  # (8, 1)
    return bool((values - own).abs().max() <= rounding(classifier) * own.abs().max())


def _most_tokens(classifier: PreTrainedModel) -> int:
    """Positions the classifier has; RoBERTa and its kin count theirs from the one after their padding's."""
    positions = classifier.config.to_dict().get("max_position_embeddings") or _UNKNOWN_LENGTH
    learned = [
        module.padding_idx + 1
        for name, module in classifier.named_modules()
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None
    ]
    return int(positions) - max(learned, default=0)


def _template(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """A chat template for a tokenizer without one, and what it is: the tokenizer's own form of two texts, for one that
    marks where they begin and end, else sentrm's plain one."""
    if tokenizer.cls_token is None or tokenizer.sep_token is None:
        return PLAIN_CHAT_TEMPLATE, "'user: …', 'assistant: …', each with the end-of-text token"
    pair = tokenizer("a", "b")
    pieces = ["", "", ""]  # before, between and after the two
    place = 0
    for token, owner in zip(pair.tokens(), pair.sequence_ids(), strict=True):
        if owner is None:
            pieces[place] += token
        else:
            place = owner + 1
    before, between, after = pieces
    contents = "{{ message['content'] }}"
    template = (
        f"{before}{{% for message in messages %}}{{% if loop.last %}}{between}{{% elif not loop.first %}}"
        f"{{{{ '\\n' }}}}{{% endif %}}{contents}{{% endfor %}}{after}"
    )
    return template, f"two texts, {before} prompt {between} response {after}, without token types"
