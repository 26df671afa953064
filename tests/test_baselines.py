"""What sentences are compared with: responses, segments and tokens, each a recipe, a segmenter and a checkpoint."""

from __future__ import annotations

import copy
import json
import math
import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from test_segmentation import TEXTS, assert_contract
from tiny import BACKBONES, tiny_model
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from sentrm.aggregation import AGGREGATORS
from sentrm.encoding import Encoder
from sentrm.errors import SegmenterError
from sentrm.scoring import Scorer
from sentrm.segmentation import Segmenter, SegmenterSpec, load_segmenter
from training.config import parse

RECIPES = Path(__file__).parents[1] / "training/baselines"
ODD = [
    "",
    " \n ",
    " 🙂",
    "a🙂b 🙂🙂",
    "👩‍💻 é e\u0301 👍🏽!",
    "\ud800 \x00a\x00",
    "</s> <pad>x",
    "हिन्दी में",
    "  a  \n\n  b  ",
]
CONTEXT = 32  # tokens that the tests' language model reads


@pytest.fixture(scope="module")
def lm_folder(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random causal language model of a short context, with its tokenizer."""
    folder = tmp_path_factory.mktemp("lm") / "tiny@lm"
    config = copy.deepcopy(BACKBONES["llama"])
    config.max_position_embeddings = CONTEXT
    config.initializer_range = 0.8  # some next tokens are clear, some are not
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def entropy(lm_folder: Path) -> Segmenter:
    return load_segmenter(f"entropy:{lm_folder}@2.7")


@pytest.fixture(scope="module")
def tokens(tokenizer: PreTrainedTokenizerFast) -> Segmenter:
    return load_segmenter("tokens", tokenizer)


def cut(text: str, segmenter: Segmenter) -> list[str]:
    return [text[start:end] for start, end in segmenter.spans([text])[0]]


# Segmenters


@given(TEXTS)
@settings(max_examples=100, deadline=None)
@example("".join(ODD))
def test_responses_and_tokens_tile_any_text(tokens: Segmenter, text: str) -> None:
    for segmenter in (load_segmenter("response"), tokens):
        (spans,) = segmenter.spans([text])
        assert_contract(text, spans)


@given(TEXTS)
@settings(max_examples=15, deadline=None)
@example("".join(ODD))
def test_segments_tile_any_text_and_a_batch_is_its_texts_one_by_one(entropy: Segmenter, text: str) -> None:
    (spans,) = entropy.spans([text])
    assert_contract(text, spans)
    assert entropy.spans(["One.", text])[1] == spans


def test_a_response_is_one_span() -> None:
    segmenter = load_segmenter("response")
    text = " # Head\n\nOne. Two.\n```\nx. Y\n```\n"
    assert segmenter.spans([text, "", " "]) == [[(0, len(text))], [], [(0, 1)]]
    assert str(segmenter.spec) == "response"


@given(TEXTS)
@settings(max_examples=100, deadline=None)
def test_each_span_of_tokens_has_a_token_of_its_own(
    tokens: Segmenter, tokenizer: PreTrainedTokenizerFast, text: str
) -> None:
    encoder = Encoder(tokenizer, tiny_model(boundary="offset", max_length=4096).config)
    (spans,) = tokens.spans([text])
    encoded = encoder.encode("p", text, spans)
    assert all(count >= 1 for count in encoded.tokens)
    assert encoded.boundaries == sorted(set(encoded.boundaries))
    ids = tokenizer(re.sub("[\ud800-\udfff]", "\ufffd", text), add_special_tokens=False, split_special_tokens=True)
    assert sum(encoded.tokens) == len(ids["input_ids"])


def test_tokens_are_the_tokenizers(tokens: Segmenter, tokenizer: PreTrainedTokenizerFast) -> None:
    """In plain text without runs of white space a span is a token, its leading space moved to the one before it."""
    text = "Older eggs peel more easily; unbelievable </s> it is 3.14, isn't it?"
    pieces = [tokenizer.decode(one) for one in tokenizer(text, split_special_tokens=True)["input_ids"]]
    assert "".join(pieces) == text
    assert [piece.strip() for piece in cut(text, tokens)] == [piece.strip() for piece in pieces if piece.strip()]
    assert len(pieces) > 20


def test_white_space_and_the_pieces_of_a_character_join(tokens: Segmenter) -> None:
    assert cut("a \n\n  b", tokens) == ["a \n\n  ", "b"]
    assert cut(" 🙂 👩‍💻\n👍🏽e\u0301ह", tokens) == [" 🙂 ", "👩‍💻\n", "👍🏽", "e\u0301", "ह"]


def test_tokens_need_the_models_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(SegmenterError, match="no tokenizer; expected the model's fast tokenizer"):
        load_segmenter("tokens")
    before = tokenizer.backend_tokenizer.encode_special_tokens
    load_segmenter("tokens", tokenizer).spans(["</s>"])
    assert tokenizer.backend_tokenizer.encode_special_tokens == before  # the model's own is left as it was


def naive_entropies(folder: Path, ids: list[int]) -> list[float]:
    """One forward pass a token, on what its window holds, and the definition of entropy in double precision."""
    model = AutoModelForCausalLM.from_pretrained(folder).double().eval()
    entropies = []
    for t in range(len(ids)):
        start = 0 if t < CONTEXT else math.ceil((t + 1 - CONTEXT) / (CONTEXT // 2)) * (CONTEXT // 2)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids[start : t + 1]])).logits[0, -1].tolist()
        total = math.fsum(math.exp(logit) for logit in logits)
        shares = [math.exp(logit) / total for logit in logits]
        entropies.append(-math.fsum(p * math.log(p) for p in shares))
    return entropies


@pytest.mark.parametrize("words", [1, 5])
def test_a_segment_ends_where_the_entropy_passes_the_threshold(
    lm_folder: Path, tokenizer: PreTrainedTokenizerFast, words: int
) -> None:
    text = " ".join(["The cold shock stops it; older eggs, unbelievable!"] * words)
    encoding = tokenizer(text, return_offsets_mapping=True)
    entropies = naive_entropies(lm_folder, encoding["input_ids"])
    threshold = sorted(entropies)[len(entropies) // 2] + 1e-6  # half of them are above
    ends = {end for (_, end), one in zip(encoding["offset_mapping"][:-1], entropies, strict=False) if one > threshold}
    pieces, piece = [], ""
    for i, character in enumerate(text):  # no run of white space, none at the start: a cut before a space moves past it
        if piece and (i in ends or (i - 1 in ends and text[i - 1] == " ")) and character != " ":
            pieces.append(piece)
            piece = ""
        piece += character
    assert cut(text, load_segmenter(SegmenterSpec("entropy", str(lm_folder), threshold))) == [*pieces, piece]
    assert len(pieces) > len(entropies) / 4
    assert (len(entropies) > 3 * CONTEXT) == (words == 5)


def test_another_threshold_cuts_coarser(lm_folder: Path) -> None:
    text = "Boil it for nine minutes, then move it to ice water! Older eggs peel more easily."
    ends = [
        {span.end for span in load_segmenter(f"entropy:{lm_folder}@{threshold}").spans([text])[0]}
        for threshold in (1e-9, 2.0, 3.0, 99.0)
    ]
    assert ends[0] > ends[1] > ends[2] > ends[3] == {len(text)}


def test_the_language_model_is_named_by_its_weights(entropy: Segmenter, lm_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    assert re.fullmatch(r"transformers [\d.]+, weights [0-9a-f]{12}", entropy.revision)
    shutil.copytree(lm_folder, tmp_path / "copy")
    assert load_segmenter(f"entropy:{tmp_path}/copy@2.7").revision == entropy.revision
    weights = load_file(tmp_path / "copy/model.safetensors")
    weights["model.norm.weight"] += 1
    save_file(weights, tmp_path / "copy/model.safetensors", metadata={"format": "pt"})
    assert load_segmenter(f"entropy:{tmp_path}/copy@2.7").revision != entropy.revision


def test_the_language_model_runs_where_it_is_told(lm_folder: Path) -> None:
    assert cut("One two.", load_segmenter(f"entropy:{lm_folder}@2.7", device="cpu"))
    with pytest.raises(SegmenterError, match=r"cannot load segmenter 'entropy:.*(?i:cuda|device)"):
        load_segmenter(f"entropy:{lm_folder}@2.7", device="cuda:99")


def test_a_model_that_is_no_causal_language_model_is_refused(
    tokenizer: PreTrainedTokenizerFast, backbone_dir: Path, tmp_path: Path
) -> None:
    for name, is_decoder in (("encoder", False), ("decoder", True)):
        config = copy.deepcopy(BACKBONES["bert"])
        config.is_decoder = is_decoder
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    assert cut("One two.", load_segmenter(f"entropy:{tmp_path}/decoder@1")) != ["One two."]
    with pytest.raises(SegmenterError, match="'bert' model is not causal") as caught:
        load_segmenter(f"entropy:{tmp_path}/encoder@1")
    assert "Expected a causal language model" in str(caught.value)
    with pytest.raises(SegmenterError, match=r"lm_head\.weight is missing"):
        load_segmenter(f"entropy:{backbone_dir}@1")
    with pytest.raises(SegmenterError, match=r"cannot load segmenter 'entropy:/no/such/folder@2\.0'"):
        load_segmenter("entropy:/no/such/folder")


# The aggregator


@pytest.mark.parametrize("values", [[0.5], [0.5, -1.0], [0.25, 2.0, -3.0, 0.5]])
def test_mean_values_is_the_mean_of_the_values_after_the_prompt(values: list[float]) -> None:
    padding = 2
    n = len(values) - 1
    rewards = [values[0], *(after - before for before, after in pairwise(values))]
    mask = torch.tensor([[True] * len(values) + [False] * padding])
    config = tiny_model().config
    weights = AGGREGATORS["mean_values"](config)(torch.zeros(1), torch.tensor([rewards + [0.0] * padding]), mask)
    assert weights[0].tolist() == pytest.approx([1.0] + [(n + 1 - j) / n for j in range(1, n + 1)] + [0.0] * padding)
    score = math.fsum(a * d for a, d in zip(weights[0].tolist(), rewards, strict=False))
    assert score == pytest.approx(sum(values[1:]) / n if n else values[0])


# Recipes and checkpoints


def recipe(name: str, *flags: str):
    return parse(
        ["--recipe", str(RECIPES / f"{name}.yaml"), "--backbone", "b", "--data", "d", "--output_dir", "o", *flags]
    )


@pytest.mark.parametrize(
    ("name", "segmenter", "boundary", "aggregator"),
    [
        ("response", "response", "offset", "last"),
        ("token", "tokens", "offset", "mean_values"),
        ("segment", "entropy", "offset", "mean_values"),
        ("sentence", "sat", "marker", "attention"),
    ],
)
def test_a_recipe_is_three_flags_and_names_its_source(name: str, segmenter: str, boundary: str, aggregator: str):
    config = recipe(name)
    assert SegmenterSpec.parse(config.segmenter).backend == segmenter
    assert (config.boundary, config.aggregator) == (boundary, aggregator)
    text = (RECIPES / f"{name}.yaml").read_text()
    assert re.search(r"^#.*arXiv \d{4}\.\d{5}", text, re.MULTILINE)
    assert len(re.findall(r"^\w+:", text, re.MULTILINE)) == 3


@pytest.fixture(scope="module")
def checkpoints(
    lm_folder: Path, tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A saved model of each baseline's recipe; one backbone, one head."""
    folder = tmp_path_factory.mktemp("baselines")
    for name in ("response", "token", "segment"):
        config = recipe(name, *(["--segmenter", f"entropy:{lm_folder}@2.7"] if name == "segment" else []))
        model = tiny_model(boundary=config.boundary, aggregator=config.aggregator)
        model.config.segmenter = SegmenterSpec.parse(config.segmenter).to_dict()
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return {path.name: path for path in folder.iterdir()}


TEXT = "Boil it for nine minutes. Then move it to ice water! Older eggs peel more easily."


def test_a_checkpoint_is_scored_by_its_own_unit(checkpoints: dict[str, Path]) -> None:
    scored = {name: Scorer.from_pretrained(folder).score([("Eggs?", TEXT)])[0] for name, folder in checkpoints.items()}
    assert {name: one.segmenter.spec.partition(":")[0] for name, one in scored.items()} == {
        "response": "response",
        "token": "tokens",
        "segment": "entropy",
    }
    assert len(scored["response"].spans) == 1 < len(scored["segment"].spans) < len(scored["token"].spans)
    assert all(one.segmenter.own for one in scored.values())
    assert scored["response"].score == pytest.approx(scored["response"].values[1])
    for name in ("token", "segment"):
        values = scored[name].values[1:]
        assert scored[name].score == pytest.approx(math.fsum(values) / len(values), abs=1e-5)
    assert len({sum(one.tokens) for one in scored.values()}) == 1
    ends = {end: value for (_, end), value in zip(scored["token"].spans, scored["token"].values[1:], strict=True)}
    for (_, end), value in zip(scored["segment"].spans, scored["segment"].values[1:], strict=True):
        assert value == pytest.approx(ends[end], abs=1e-5)  # one backbone: a value depends on where it is read alone


def test_sentence_rewards_of_a_response_level_model_are_differences_of_its_prefix_scores(
    checkpoints: dict[str, Path],
) -> None:
    whole = Scorer.from_pretrained(checkpoints["response"])
    cut = Scorer.from_pretrained(checkpoints["response"], segmenter="rules")
    (one,), (differenced,) = whole.score([("Eggs?", TEXT)]), cut.score([("Eggs?", TEXT)])
    assert len(differenced.spans) == 3
    assert not differenced.segmenter.own
    assert differenced.score == pytest.approx(one.score, abs=1e-5)
    assert math.fsum(differenced.rewards) == pytest.approx(one.score, abs=1e-5)


def test_what_a_checkpoint_stores_names_its_segmenter(checkpoints: dict[str, Path], lm_folder: Path) -> None:
    stored = json.loads((checkpoints["segment"] / "config.json").read_text())["segmenter"]
    assert stored == {"backend": "entropy", "name": str(lm_folder), "threshold": 2.7}
