"""Edits read on from a cache against the same text scored from scratch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import BACKBONES, VOCABULARY, WIDTH, tiny_model
from transformers import BertConfig, Gemma3TextConfig, GPT2Config, LlamaConfig, MambaConfig, MistralConfig

from sentrm.configuration import SentenceRewardConfig
from sentrm.errors import EncodingError, ScoringError
from sentrm.modeling import SentenceRewardModel
from sentrm.rescoring import Rescorer, why_not
from sentrm.results import ScoredResponse, Span
from sentrm.scoring import Scorer

PROMPT = "How do I boil an egg?"
TEXT = "Boil the egg for nine minutes. Then move it to ice water! Peel it under the tap. Older eggs peel easily."
EDITS = [
    TEXT,
    TEXT,
    TEXT.replace("Boil", "Cook"),  # at the start
    TEXT.replace("ice", "cold"),  # in the middle
    TEXT.replace("easily.", "more easily!"),  # at the end
    TEXT.replace("Then move it to ice water! ", ""),
    TEXT.replace("Peel", "Wait. Peel"),
    TEXT + " I hope this helps.",
    TEXT[: len(TEXT) // 2],
    TEXT.replace(" Then", "\r\n\r\nThen"),
    TEXT.replace(" Peel", " 🙂 👩‍👩‍👧 Peel"),
    "",
    "鸡蛋煮九分钟。然后放进冰水里。",
    TEXT,
]
NARROW = {**WIDTH, "vocab_size": VOCABULARY, "num_key_value_heads": 1}
OTHERS = {
    "gpt2": GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=512, vocab_size=VOCABULARY),
    "sliding window": MistralConfig(**NARROW, sliding_window=16),
    "some windows": Gemma3TextConfig(
        **NARROW, head_dim=8, sliding_window=16, layer_types=["sliding_attention", "full_attention"]
    ),
}
UNFIT = {
    "state space": MambaConfig(hidden_size=16, num_hidden_layers=2, state_size=4, vocab_size=VOCABULARY),
    "bidirectional": BertConfig(**WIDTH, vocab_size=VOCABULARY, max_position_embeddings=512),
    "rescaled positions": LlamaConfig(
        **NARROW,
        max_position_embeddings=24,
        rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
    ),
}


def wide_awake(backbone) -> SentenceRewardModel:
    torch.manual_seed(0)
    model = SentenceRewardModel(
        SentenceRewardConfig(backbone_config=backbone, max_length=256, segmenter={"backend": "rules", "name": "en"})
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def scored_by(model: SentenceRewardModel, tokenizer, **how) -> Scorer:
    return Scorer.from_model(model, tokenizer, name="tiny", batching="padded", **how)


def same(one: ScoredResponse, other: ScoredResponse, tolerance: float = 1e-5) -> None:
    for name in ("values", "rewards", "weights", "contributions", "score"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=tolerance, rel=0), name
    facts = ("prompt", "text", "spans", "tokens", "dropped_sentences", "cut_prompt_tokens", "model", "segmenter")
    assert [getattr(one, name) for name in facts] == [getattr(other, name) for name in facts]


def follow(scorer: Scorer, texts: list[str], prompt=PROMPT) -> Rescorer:
    """Score the texts one after another both ways; tokens read are those from the first that differs on."""
    rescorer = Rescorer(scorer, prompt)
    assert rescorer.reason is None
    before: list[int] = []
    for text in texts:
        same(rescorer.score(text), scorer.score([(prompt, text)])[0])
        ids = scorer.encoder.encode(prompt, text, scorer.segmenter.spans([text])[0]).ids
        equal = 0
        while equal < min(len(before), len(ids)) and before[equal] == ids[equal]:
            equal += 1
        assert rescorer.read == len(ids) - equal
        before = ids
    return rescorer


@pytest.mark.parametrize("architecture", [*BACKBONES, *OTHERS])
def test_edits_equal_scoring_from_scratch(architecture, tokenizer):
    model = tiny_model(architecture) if architecture in BACKBONES else wide_awake(OTHERS[architecture])
    rescorer = follow(scored_by(model, tokenizer), EDITS)
    rescorer.score(TEXT)
    assert rescorer.read == 0
    rescorer.score(TEXT.replace("easily.", "well."))
    assert 0 < rescorer.read < 12


@pytest.mark.parametrize("aggregator", ["attention", "relative_attention_without_prompt", "min"])
def test_edits_equal_scoring_from_scratch_without_markers(aggregator, tokenizer):
    follow(scored_by(tiny_model("qwen3", boundary="offset", aggregator=aggregator), tokenizer), EDITS)


def test_edits_of_what_does_not_fit(tokenizer):
    """Sentences come and go at the end as an earlier one shrinks and grows, after a prompt cut on the left."""
    scorer = scored_by(tiny_model(), tokenizer, max_length=100)
    longer = " ".join([TEXT] * 2)
    texts = [TEXT, longer, longer.replace("Boil the egg", "Boil"), longer + " No!", longer.replace("tap", "tap " * 9)]
    follow(scorer, texts, prompt="word " * 60)
    results = [scorer.score([("word " * 60, text)])[0] for text in texts]
    assert all(one.cut_prompt_tokens for one in results)
    assert len({one.dropped_sentences for one in results}) > 2


PIECES = st.sampled_from(["Boil it. ", "Then wait!\n\n", "- Peel it.\r\n", "🙂 ", "冰水。", "x", " ", "Why? " * 4])


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(PIECES, max_size=6),
    st.lists(st.tuples(st.sampled_from(["drop", "insert", "edit"]), st.integers(0, 6), PIECES), max_size=6),
)
def test_any_sequence_of_edits(tokenizer, pieces, edits):
    scorer = scored_by(tiny_model("llama"), tokenizer, max_length=160)
    texts = ["".join(pieces)]
    for kind, place, piece in edits:
        pieces[place : place + (kind != "insert")] = [] if kind == "drop" else [piece]
        texts.append("".join(pieces))
    follow(scorer, texts)


@pytest.mark.parametrize("name", UNFIT)
def test_a_backbone_that_has_to_read_from_scratch_says_why(name, tokenizer):
    scorer = scored_by(wide_awake(UNFIT[name]), tokenizer)
    rescorer = Rescorer(scorer, PROMPT)
    assert ("rescaled" if name == "rescaled positions" else "reading on from a cache") in rescorer.reason
    for text in EDITS[2:5]:
        (expected,) = scorer.score([(PROMPT, text)])
        same(rescorer.score(text), expected)
        assert rescorer.read > sum(expected.tokens)


def test_sentences_cut_by_hand(tokenizer):
    scorer = scored_by(tiny_model(), tokenizer)
    rescorer = Rescorer(scorer, PROMPT)
    own = rescorer.score(TEXT)
    for cuts in ([7, 31], [31, 33], [3, 31, 60], []):
        spans = [Span(start, end) for start, end in zip([0, *cuts], [*cuts, len(TEXT)], strict=True)]
        result = rescorer.score(TEXT, spans)
        same(result, scorer.score([(PROMPT, TEXT, spans)])[0])
        assert result.spans == tuple(spans)
    same(rescorer.score(TEXT), own)


def test_after_an_error_it_goes_on_from_the_last_response(tokenizer):
    scorer = scored_by(tiny_model(), tokenizer, max_length=100)
    rescorer = Rescorer(scorer, PROMPT)
    rescorer.score(TEXT)
    with pytest.raises(EncodingError, match="the response: the first sentence has"):
        rescorer.score("x" * 900)
    with pytest.raises(ScoringError, match="the response: got spans"):
        rescorer.score(TEXT, [Span(0, 4)])
    edited = TEXT.replace("easily", "well")
    same(rescorer.score(edited), scorer.score([(PROMPT, edited)])[0])
    assert rescorer.read < 12


def test_a_backbone_that_raises_half_way_leaves_nothing_behind(tokenizer):
    model = tiny_model()
    scorer = scored_by(model, tokenizer)
    rescorer = Rescorer(scorer, PROMPT)
    rescorer.score(TEXT)

    def out_of_memory(*_):
        raise RuntimeError("out of memory")

    hook = model.backbone.layers[1].register_forward_pre_hook(out_of_memory)
    with pytest.raises(RuntimeError, match="out of memory"):
        rescorer.score(TEXT.replace("ice", "cold"))
    hook.remove()
    for text in (TEXT.replace("Boil", "Cook"), TEXT):
        same(rescorer.score(text), scorer.score([(PROMPT, text)])[0])


def test_two_rescorers_and_a_scorer_share_a_model_that_is_tried_once(tokenizer):
    model = tiny_model()
    shared = Scorer.from_model(model, tokenizer, name="tiny")
    one = Rescorer(shared, PROMPT)
    calls = []
    hook = model.backbone.register_forward_hook(lambda *_: calls.append(1))
    messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT})
    two = Rescorer(shared, messages)
    assert not calls
    hook.remove()
    for text in EDITS[2:8]:
        a, b = shared.score([(PROMPT, text), (messages, text)])
        same(one.score(text), a)
        same(two.score(text + " No."), shared.score([(messages, text + " No.")])[0])
        same(two.score(text), b)


def test_without_memory_to_try_a_model_it_is_tried_again(caplog):
    model = tiny_model()

    def out_of_memory(*_):
        raise torch.OutOfMemoryError("none left")

    hook = model.backbone.register_forward_pre_hook(out_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        why_not(model)
    hook.remove()
    assert why_not(model) is None
    assert not caplog.records
    reason = why_not(wide_awake(UNFIT["bidirectional"]))
    assert reason in caplog.text


@pytest.mark.parametrize("window", ["sliding_window", "attention_chunk_size"])
def test_a_model_is_tried_with_sequences_longer_than_its_windows(window):
    model = wide_awake(LlamaConfig(**NARROW, **{window: 100}))
    lengths = []
    model.backbone.register_forward_pre_hook(
        lambda _, args, given: lengths.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    why_not(model)
    assert max(lengths) > 100


def test_half_precision_is_tried_with_its_own_rounding():
    assert why_not(tiny_model().to(torch.bfloat16)) is None
    assert why_not(wide_awake(UNFIT["bidirectional"]).to(torch.bfloat16)) is not None


def test_the_bundled_model():
    scorer = Scorer.from_pretrained(Path(__file__).parent.parent / "assets" / "demo-model")
    rescorer = follow(scorer, [TEXT.replace("ice", "cold"), TEXT, TEXT + " I hope this helps."])
    assert rescorer.read < 12
