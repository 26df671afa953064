"""Off-the-shelf sequence classifiers, opened as they are, against what transformers itself says of the same ids."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import VOCABULARY, WIDTH
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    BartConfig,
    BertConfig,
    DebertaV2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    RobertaConfig,
)

from sentrm.classifiers import OnePassClassifier, PrefixClassifier
from sentrm.cli import main
from sentrm.errors import ModelLoadError
from sentrm.preferences import PreferencePair
from sentrm.rescoring import Rescorer
from sentrm.scoring import Scorer

PROMPT = "How do I boil an egg?"
GOOD = "Boil it for nine minutes. Then move it to ice water! I hope this helps."
BAD = "Older eggs peel more easily than fresh ones. What a question."
SHARED = {**WIDTH, "vocab_size": VOCABULARY, "max_position_embeddings": 300, "pad_token_id": 0}
HEADS = {**SHARED, "num_key_value_heads": 1}
ONE_PASS = {
    "llama": LlamaConfig(**HEADS),
    "qwen3": Qwen3Config(**HEADS, head_dim=8),
    "mistral": MistralConfig(**HEADS, sliding_window=16),
    "gpt_neox": GPTNeoXConfig(**SHARED),
    "gpt2": GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=VOCABULARY, n_positions=300, pad_token_id=2),
    "llama without padding": LlamaConfig(**{**HEADS, "pad_token_id": None}),
}
BY_PREFIX = {
    "bert": BertConfig(**SHARED),
    "roberta": RobertaConfig(**SHARED),
    "deberta-v2": DebertaV2Config(
        **SHARED, relative_attention=True, pos_att_type=["c2p", "p2c"], position_biased_input=False,
        pooler_hidden_size=16,
    ),
    "opt with a narrower head": OPTConfig(
        hidden_size=16, ffn_dim=32, num_hidden_layers=2, num_attention_heads=2, word_embed_proj_dim=8, pad_token_id=1,
        vocab_size=VOCABULARY, max_position_embeddings=300,
    ),
}  # fmt: skip


def save(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast, folder: Path, labels: int = 1) -> Path:
    """A random classifier, wide awake, saved with its tokenizer."""
    torch.manual_seed(0)
    config = copy.deepcopy(config)
    config.num_labels = labels
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def own_logit(folder: Path) -> Callable[[list[int]], float]:
    """What transformers says of token ids."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()

    @torch.no_grad()
    def logit(ids: list[int]) -> float:
        return model(input_ids=torch.tensor([ids])).logits.item()

    return logit


@pytest.fixture(scope="session")
def words() -> PreTrainedTokenizerFast:
    """A tokenizer of whole words that marks texts as BERT's does, without a chat template."""
    known = [*dict.fromkeys(f"{PROMPT} {GOOD} {BAD}".replace(".", " .").replace("?", " ?").replace("!", " !").split())]
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *known])}
    level = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    level.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    level.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=level, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


@pytest.mark.parametrize("kind", [*ONE_PASS, *BY_PREFIX])
def test_the_score_is_the_models_own_logit(kind: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    folder = save((ONE_PASS | BY_PREFIX)[kind], tokenizer, tmp_path / "model")
    scorer = Scorer.from_pretrained(folder)
    assert isinstance(scorer.model, OnePassClassifier if kind in ONE_PASS else PrefixClassifier)
    (pair,) = scorer.score([PreferencePair(id="1", prompt=PROMPT, chosen=GOOD, rejected=BAD)])
    logit = own_logit(folder)
    for response in (pair.a, pair.b):
        ids = scorer.encoder.encode(PROMPT, response.text, response.spans).ids
        assert tokenizer.decode(ids) == f"<s>user: {PROMPT}</s>assistant: {response.text}</s>"
        assert response.score == pytest.approx(logit(ids), abs=1e-5)
        assert response.weights == (1.0,) * len(response.values)
        assert sum(response.contributions) == pytest.approx(response.score, abs=1e-5)
        assert len(set(response.values)) == len(response.values) > 2
    assert pair.a.values[0] == pytest.approx(pair.b.values[0], abs=1e-6)
    assert (pair.a.model.aggregator, pair.a.segmenter.spec, pair.a.segmenter.own) == ("last", "rules:en", True)


@pytest.mark.parametrize("kind", ONE_PASS)
def test_one_pass_says_of_each_prefix_what_the_model_says(
    kind: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    folder = save(ONE_PASS[kind], tokenizer, tmp_path / "model")
    scorer = Scorer.from_pretrained(folder)
    (response,) = scorer.score([(PROMPT, GOOD)])
    one = scorer.encoder.encode(PROMPT, GOOD, response.spans)
    logit = own_logit(folder)
    assert response.values == pytest.approx([logit(one.ids[: end + 1]) for end in one.boundaries], abs=1e-5)


@pytest.mark.parametrize("kind", BY_PREFIX)
def test_by_prefix_a_value_is_the_score_of_the_sentences_so_far(
    kind: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    scorer = Scorer.from_pretrained(save(BY_PREFIX[kind], tokenizer, tmp_path / "model"))
    text = GOOD.replace(". ", ".\n").replace("! ", "!\n")  # so that no token spans two sentences
    (whole,) = scorer.score([(PROMPT, text)])
    parts = scorer.score([(PROMPT, text[:end]) for end in (0, *(span.end for span in whole.spans))])
    assert len(parts) == 4
    assert whole.values == pytest.approx([part.score for part in parts], abs=1e-5)


def test_padding_that_ends_a_turn_is_not_read(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """GPT-2 pads with the end-of-text token, and transformers reads the last token that is none."""
    scorer = Scorer.from_pretrained(save(ONE_PASS["gpt2"], tokenizer, tmp_path / "model"))
    (response,) = scorer.score([(PROMPT, GOOD)])
    one = scorer.encoder.encode(PROMPT, GOOD, response.spans)
    assert one.ids[-1] == tokenizer.eos_token_id == 2
    assert one.boundaries[-1] == len(one.ids) - 2
    _, text, decoded = scorer.encoder.decode(one.ids, [one.boundaries[0], len(one.ids) - 1])
    assert text.startswith(GOOD)
    assert decoded.boundaries == [one.boundaries[0], len(one.ids) - 2]


def test_a_prefix_ends_with_its_sentence_where_padding_ends_the_prompt(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """OPT pads with this tokenizer's `<s>`."""
    padded = copy.deepcopy(tokenizer)
    padded.chat_template = "{% for m in messages %}{{ m.content }}<s>{% endfor %}"
    folder = save(BY_PREFIX["opt with a narrower head"], padded, tmp_path / "model")
    scorer = Scorer.from_pretrained(folder)
    text = GOOD[:25] + " Enjoy!"
    (response,) = scorer.score([(PROMPT, text, [(0, 25), (25, len(text))])])
    logit = own_logit(folder)
    read = [f"{PROMPT}<s>", f"{PROMPT}<s>{GOOD[:25]}<s>", f"{PROMPT}<s>{text}<s>"]
    assert response.values == pytest.approx([logit(padded(one)["input_ids"]) for one in read], abs=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_without_a_chat_template_two_texts_are_read_and_the_log_says_so(
    kind: str, words: PreTrainedTokenizerFast, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = save(BY_PREFIX[kind], words, tmp_path / "model")
    with caplog.at_level(logging.WARNING):
        scorer = Scorer.from_pretrained(folder)
    assert "no chat template: it is read as two texts, [CLS] prompt [SEP] response [SEP]" in caplog.text
    (response,) = scorer.score([(PROMPT, GOOD)])
    assert response.score == pytest.approx(own_logit(folder)(words(PROMPT, GOOD)["input_ids"]), abs=1e-5)
    (cut,) = scorer.score([(" ".join([PROMPT] * 80), "Boil it.")])
    ids = scorer.encoder.encode(" ".join([PROMPT] * 80), "Boil it.", cut.spans).ids
    assert cut.cut_prompt_tokens > 0
    assert (ids[0], ids[-1]) == (words.cls_token_id, words.sep_token_id)


def test_a_text_as_long_as_the_model_reads(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """RoBERTa counts positions from the one after its padding's."""
    scorer = Scorer.from_pretrained(save(BY_PREFIX["roberta"], tokenizer, tmp_path / "model"))
    assert scorer.encoder.max_length == 299
    (response,) = scorer.score([(PROMPT, "Boil it now. " * 100)])
    assert response.dropped_sentences > 0


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bert"])
def test_rescoring_gives_the_same(kind: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    scorer = Scorer.from_pretrained(save((ONE_PASS | BY_PREFIX)[kind], tokenizer, tmp_path / "model"))
    rescorer = Rescorer(scorer, PROMPT)
    assert (rescorer.reason is None) == (kind in ONE_PASS)
    for text in (GOOD, BAD, GOOD[:25], GOOD):
        (expected,) = scorer.score([(PROMPT, text)])
        assert rescorer.score(text).values == pytest.approx(expected.values, abs=1e-5)


@pytest.mark.parametrize("kind", ["qwen3", "deberta-v2"])
def test_scores_do_not_depend_on_what_else_is_scored(
    kind: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    scorer = Scorer.from_pretrained(save((ONE_PASS | BY_PREFIX)[kind], tokenizer, tmp_path / "model"))
    items = [(PROMPT, GOOD), ("Why?", BAD), (PROMPT, BAD), ("Why?", "Add water. " * 20), (PROMPT, "")]
    together = scorer.score(items)
    scorer.batch_tokens = 64
    apart = [scorer.score([item])[0] for item in reversed(items)][::-1]
    for one, other in zip(together, apart, strict=True):
        assert one.values == pytest.approx(other.values, abs=1e-5)


@pytest.mark.parametrize("kind", ["llama", "bert"])
def test_the_command_line_scores_with_one(
    kind: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save((ONE_PASS | BY_PREFIX)[kind], tokenizer, tmp_path / "model")
    data = tmp_path / "pairs.jsonl"
    data.write_text(json.dumps({"prompt": PROMPT, "chosen": GOOD, "rejected": BAD}))
    assert main(["score", str(data), "--model", str(folder), "--device", "cpu"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert len(line["a"]["sentences"]) == 3
    assert line["model"]["name"] == "model"


def test_what_is_no_reward_model_is_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    llama = ONE_PASS["llama"]
    bart = BartConfig(d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                      decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
                      vocab_size=VOCABULARY)  # fmt: skip
    LlamaForCausalLM(llama).save_pretrained(tmp_path / "language")
    headless = save(llama, tokenizer, tmp_path / "headless")
    LlamaForCausalLM(llama).model.save_pretrained(tmp_path / "bare")
    (headless / "model.safetensors").write_bytes((tmp_path / "bare" / "model.safetensors").read_bytes())
    pickled = save(llama, tokenizer, tmp_path / "pickled")
    torch.save(AutoModelForSequenceClassification.from_pretrained(pickled).state_dict(), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    refused = {
        save(llama, tokenizer, tmp_path / "labels", labels=3): "it has 3 labels",
        save(bart, tokenizer, tmp_path / "bart"): "it is an encoder-decoder",
        tmp_path / "language": "its architecture is LlamaForCausalLM",
        headless: "missing_keys.*score.weight",
        pickled: "does not load.*safetensors",
    }
    for folder, reason in refused.items():
        with pytest.raises(ModelLoadError, match=reason):
            Scorer.from_pretrained(folder)


def test_low_precision_and_length(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    folder = save(ONE_PASS["llama"], tokenizer, tmp_path / "model")
    (exact,) = Scorer.from_pretrained(folder, max_length=64).score([(PROMPT, GOOD)])
    scorer = Scorer.from_pretrained(folder, dtype="bfloat16")
    assert scorer.model.backbone.dtype == torch.bfloat16
    assert scorer.score([(PROMPT, GOOD)])[0].values == pytest.approx(exact.values, rel=0.1, abs=0.1)
    with pytest.raises(ModelLoadError, match="takes from 8 to 300 tokens"):
        Scorer.from_pretrained(folder, max_length=301)
