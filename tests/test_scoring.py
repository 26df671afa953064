"""Scorer, results and `sentrm score`, against the model called by hand."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import shutil
from importlib.metadata import version

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_model
from transformers import LlamaConfig, LlamaModel

from sentrm import cli
from sentrm.batching import pad
from sentrm.encoding import Encoder
from sentrm.errors import EncodingError, ModelLoadError, ScoringError, SegmenterError
from sentrm.preferences import PreferencePair
from sentrm.results import ScoredPair, ScoredResponse, SegmenterInfo, Span
from sentrm.scoring import Scorer

PROMPT = "How do I boil an egg?"
GOOD = "Boil the egg for nine minutes. Then move it to ice water!\n\n- Peel it.\n- Eat it."
BAD = "Everyone has their own opinion about eggs. I hope this helps!"


def test_a_response_equals_the_model_called_by_hand(scorer, model_dir):
    (result,) = scorer.score([(PROMPT, GOOD)])
    spans = scorer.segmenter.spans([GOOD])[0]
    encoded = Encoder(scorer.encoder.tokenizer, scorer.model.config).encode(PROMPT, GOOD, spans)
    with torch.no_grad():
        output = scorer.model(**pad([encoded.ids], [encoded.boundaries]))
    for name in ("values", "rewards", "weights", "contributions"):
        assert getattr(result, name) == pytest.approx(getattr(output, name)[0].tolist(), abs=1e-6)
    assert result.score == pytest.approx(output.score.item(), abs=1e-6)
    assert result.sentences == (
        "Boil the egg for nine minutes. ",
        "Then move it to ice water!\n\n",
        "- Peel it.\n",
        "- Eat it.",
    )
    assert "".join(result.sentences) == result.text == GOOD
    assert result.tokens == tuple(encoded.tokens)
    assert (result.dropped_sentences, result.cut_prompt_tokens) == (0, 0)
    assert (result.model.name, result.model.aggregator, result.model.median_reward) == ("tiny-llama", "attention", 0.05)
    assert (result.segmenter.spec, result.segmenter.own) == ("rules:en", True)


def test_a_pair_is_its_two_responses(scorer):
    pair = PreferencePair(PROMPT, chosen=GOOD, rejected=BAD, id="egg")
    (scored,) = scorer.score([pair])
    a, b = scorer.score([(PROMPT, GOOD), (PROMPT, BAD)])
    assert scored.id == "egg"
    assert (scored.a.text, scored.b.text) == (GOOD, BAD)
    assert scored.a.score == pytest.approx(a.score, abs=1e-5)
    assert scored.b.score == pytest.approx(b.score, abs=1e-5)
    assert scored.margin == scored.a.score - scored.b.score
    assert scored.probability == pytest.approx(1 / (1 + math.exp(-scored.margin)))
    assert scored.a.values[0] == pytest.approx(scored.b.values[0], abs=1e-6), "one prompt, one v_0"


def test_scores_do_not_depend_on_what_else_is_scored(scorer):
    items = [(PROMPT, GOOD), ("Hi", "Hm."), (PROMPT, BAD), ("Hi", ""), ("Why? " * 20, (GOOD + "\n") * 3)]
    together = scorer.score(items)
    small = dataclasses.replace(scorer, batch_tokens=1).score(items)
    backwards = scorer.score(items[::-1])[::-1]
    for item, one, two, three in zip(items, together, small, backwards, strict=True):
        (alone,) = scorer.score([item])
        assert alone.text == one.text == two.text == three.text == item[1]
        for other in (one, two, three):
            assert other.values == pytest.approx(alone.values, abs=1e-5)
            assert other.weights == pytest.approx(alone.weights, abs=1e-5)
            assert other.score == pytest.approx(alone.score, abs=1e-5)


@pytest.mark.parametrize("batching", ["padded", "packed", "shared"])
def test_what_is_read_as_the_same_has_the_same_numbers_to_the_last_bit(model_dir, batching):
    """Across batches, groups and texts: what was dropped of a long response the model has not read."""
    small = Scorer.from_pretrained(model_dir, max_length=100, batching=batching)
    small.batch_tokens = 150
    draw = random.Random(0)
    items = []
    for i in range(25):
        items += [(PROMPT, BAD), (PROMPT, " ".join(draw.choices(GOOD.split(), k=draw.randint(1, 30))))]
        items += [(f"Hi {i}", BAD[: draw.randint(5, 60)]), (PROMPT, (GOOD + " ") * 6 + "No! " * i)]
    scored = small.score(items)
    assert [one.text for one in scored] == [text for _, text in items]
    for same in (scored[::4], scored[3::4]):
        assert len({(one.values, one.weights, one.contributions, one.score) for one in same}) == 1
    assert len({one.score for one in scored[1::4]}) > 20
    assert [one.dropped_sentences - scored[3].dropped_sentences for one in scored[3::4]] == list(range(25))


def test_json_round_trip_and_form(scorer):
    pairs = [
        PreferencePair(
            ({"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT}), GOOD, BAD, "1"
        ),
        PreferencePair(PROMPT, GOOD, "", "2"),
    ]
    for scored in scorer.score(pairs):
        data = json.loads(json.dumps(scored.to_dict()))
        assert ScoredPair.from_dict(data) == scored
        assert ScoredResponse.from_dict(json.loads(json.dumps(scored.a.to_dict()))) == scored.a
        assert list(data) == ["id", "prompt", "a", "b", "margin", "probability", "model", "segmenter"]
        assert list(data["a"]) == [
            "text",
            "score",
            "prompt_term",
            "sentences",
            "dropped_sentences",
            "cut_prompt_tokens",
        ]
        assert list(data["a"]["prompt_term"]) == ["value", "reward", "weight", "contribution"]
        assert set(data["a"]["sentences"][0]) == {"start", "end", "value", "reward", "weight", "contribution", "tokens"}
        with pytest.raises(dataclasses.FrozenInstanceError):
            scored.id = "other"


def test_probability_of_a_huge_margin_does_not_overflow(scorer):
    (scored,) = scorer.score([PreferencePair(PROMPT, GOOD, BAD)])
    far = dataclasses.replace(scored, a=dataclasses.replace(scored.a, score=5000.0))
    assert far.probability == 1.0
    assert ScoredPair("", far.b, far.a).probability == 0.0


def test_another_segmenter_is_said(model_dir, scorer):
    other = Scorer.from_pretrained(model_dir, segmenter="rules:de")
    (result,) = other.score([(PROMPT, GOOD)])
    assert (result.segmenter.spec, result.segmenter.own) == ("rules:de", False)
    assert scorer.cut_by("rules:de").score([(PROMPT, GOOD)]) == [result]
    assert other.cut_by("rules").score([(PROMPT, GOOD)]) == scorer.score([(PROMPT, GOOD)])
    with pytest.raises(SegmenterError):
        Scorer.from_pretrained(model_dir, segmenter="words")


def test_sentences_cut_by_hand(scorer, model_dir):
    """The same cuts give the same numbers, other cuts those of the model called by hand; the result says so."""
    own = scorer.segmenter.spans([GOOD])[0]
    moved = [(0, 8), [8, 31], (31, len(GOOD))]  # as they come from JSON, too
    plain, kept, cut = scorer.score([(PROMPT, GOOD), (PROMPT, GOOD, own), (PROMPT, GOOD, moved)])
    assert dataclasses.replace(kept, segmenter=plain.segmenter) == plain
    assert kept.segmenter == cut.segmenter == SegmenterInfo("by hand", "", own=False)
    assert plain.segmenter == scorer.segmenter_info
    assert cut.spans == (Span(0, 8), Span(8, 31), Span(31, len(GOOD)))
    encoded = Encoder(scorer.encoder.tokenizer, scorer.model.config).encode(PROMPT, GOOD, cut.spans)
    with torch.no_grad():
        output = scorer.model(**pad([encoded.ids], [encoded.boundaries]))
    assert cut.values == pytest.approx(output.values[0].tolist(), abs=1e-5)
    assert ScoredResponse.from_dict(json.loads(json.dumps(cut.to_dict()))) == cut
    (empty,) = scorer.score([(PROMPT, "", [])])
    assert empty.spans == ()


@pytest.mark.parametrize(
    "spans",
    [[], [(0, 4)], [(0, 4), (5, 11)], [(0, 4), (4, 4), (4, 11)], [(1, 11)], [(0, 12)], [(0, 7), (5, 11)], 3, "ab", [3]],
)
def test_spans_that_do_not_tile_the_response_are_an_error(scorer, spans):
    with pytest.raises(ScoringError, match=r"item 2: got spans .* of a response of 11 characters"):
        scorer.score([(PROMPT, GOOD), (PROMPT, "Hello. Bye.", spans)])


def test_progress_counts_every_response(scorer):
    seen = []
    dataclasses.replace(scorer, batch_tokens=100).score([(PROMPT, BAD)] * 5, progress=lambda *count: seen.append(count))
    assert seen[-1] == (5, 5)
    assert seen == sorted(seen)
    assert scorer.score([]) == []


def test_truncation_is_carried(model_dir):
    scorer = Scorer.from_pretrained(model_dir, max_length=100)
    (result,) = scorer.score([("word " * 60, (GOOD + " ") * 6)])
    assert result.dropped_sentences > 0
    assert result.cut_prompt_tokens > 0
    assert len(result.sentences) + result.dropped_sentences == len(scorer.segmenter.spans([(GOOD + " ") * 6])[0])
    assert result.text == (GOOD + " ") * 6
    with pytest.raises(EncodingError, match=r"rejected of pair 7: the first sentence"):
        scorer.score([PreferencePair("Hi", "Yes.", "x" * 900, id="7")])


def test_models_that_do_not_open(model_dir, tmp_path):
    with pytest.raises(ModelLoadError, match=r"no-such-folder is no local folder.*training\.train"):
        Scorer.from_pretrained(tmp_path / "no-such-folder")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelLoadError, match=r"has no readable config\.json"):
        Scorer.from_pretrained(tmp_path / "empty")
    LlamaModel(
        LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)
    ).save_pretrained(tmp_path / "llama")
    with pytest.raises(ModelLoadError, match="holds a 'llama', not a sentence reward model"):
        Scorer.from_pretrained(tmp_path / "llama")
    tiny_model().save_pretrained(tmp_path / "no-tokenizer")
    with pytest.raises(ModelLoadError, match="does not load"):
        Scorer.from_pretrained(tmp_path / "no-tokenizer")
    for wrong in ({"device": "gpu7"}, {"dtype": "int3"}, {"max_length": 4}, {"max_length": 100_000}):
        with pytest.raises(ModelLoadError, match=r"xpected|takes from"):
            Scorer.from_pretrained(model_dir, **wrong)


def test_a_broken_weights_file_is_an_error(model_dir, tmp_path):
    for file in model_dir.iterdir():
        (tmp_path / file.name).write_bytes(
            file.read_bytes()[:200] if file.suffix == ".safetensors" else file.read_bytes()
        )
    with pytest.raises(ModelLoadError, match="does not load"):
        Scorer.from_pretrained(tmp_path)


def test_weights_that_are_not_the_configurations_are_an_error_not_random_numbers(model_dir, tmp_path):
    weights = load_file(model_dir / "model.safetensors")
    for name, changed in {
        "no-head": {name: weight for name, weight in weights.items() if not name.startswith("value_head")},
        "one-more": weights | {"other.weight": torch.zeros(2)},
        "wrong-shape": weights | {"value_head.weight": torch.zeros(1, 8)},
    }.items():
        folder = tmp_path / name
        shutil.copytree(model_dir, folder)
        save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelLoadError, match=r"value_head|other\.weight|does not load"):
            Scorer.from_pretrained(folder)


def test_a_configuration_with_a_wrong_name_says_which(model_dir, tmp_path):
    shutil.copytree(model_dir, tmp_path / "model")
    config = json.loads((model_dir / "config.json").read_text()) | {"boundary": "end"}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadError, match="boundary is 'end'; expected one of marker, offset"):
        Scorer.from_pretrained(tmp_path / "model")


def test_what_is_no_pair_or_not_finite_is_an_error(scorer, tokenizer):
    for items in (
        [["p", "r"]],
        ["p"],
        [("p",)],
        [("p", "r", (), ())],
        [(PROMPT, GOOD), PreferencePair(PROMPT, GOOD, BAD)],
    ):
        with pytest.raises(ScoringError, match="expected all PreferencePair"):
            scorer.score(items)
    messages = (["Hi"], [{"role": "user"}], ({"role": "user", "content": None},), [{"content": "Hi"}])
    for item in ((PROMPT, None), (None, GOOD), *((prompt, GOOD) for prompt in messages)):
        with pytest.raises(ScoringError, match="item 1: got a prompt of"):
            scorer.score([item])
    with pytest.raises(ScoringError, match="the reply: got a prompt of"):
        scorer.score([(None, GOOD)], names=["the reply"])
    broken = tiny_model()
    with torch.no_grad():
        broken.value_head.weight.fill_(torch.nan)
    with pytest.raises(ScoringError, match="not finite"):
        Scorer.from_model(broken, tokenizer, name="broken").score([(PROMPT, GOOD)])


def test_a_segmenter_of_another_version_is_not_the_models_own(tokenizer):
    for revision, own in ((None, True), (f"sentencex {version('sentencex')}", True), ("sentencex 0.1", False)):
        model = tiny_model(segmenter_revision=revision)
        assert Scorer.from_model(model, tokenizer, name="tiny").segmenter_info.own is own


def test_revision_follows_the_weights(model_dir, scorer, tmp_path):
    assert Scorer.from_pretrained(model_dir).model_info == scorer.model_info
    other = tiny_model(median_reward=0.05)
    with torch.no_grad():
        other.value_head.bias.add_(0.1)
    other.save_pretrained(tmp_path)
    scorer.encoder.tokenizer.save_pretrained(tmp_path)
    assert Scorer.from_pretrained(tmp_path).model_info.revision != scorer.model_info.revision


def test_score_command(model_dir, scorer, tmp_path, capsys):
    rows = [
        {"prompt": PROMPT, "chosen": GOOD, "rejected": BAD, "id": "egg"},
        {"prompt": PROMPT, "chosen": GOOD},
        {"prompt": PROMPT, "chosen": "x" * 3000, "rejected": BAD, "id": "long"},
        {"prompt": "Hi", "chosen": "Hello.", "rejected": "No.", "id": "hi"},
    ]
    file, output = tmp_path / "pairs.jsonl", tmp_path / "scored.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    assert cli.main(["score", str(file), "--model", str(model_dir), "--output", str(output)]) == 0
    scored = [ScoredPair.from_dict(json.loads(line)) for line in output.read_text().splitlines()]
    assert [pair.id for pair in scored] == ["egg", "hi"]
    (expected,) = scorer.score([PreferencePair(PROMPT, GOOD, BAD, "egg")])
    assert scored[0].a.values == pytest.approx(expected.a.values, abs=1e-5)
    said = capsys.readouterr().err
    assert "row 2 left out: has no 'rejected'" in said
    assert "chosen of pair long" in said
    assert "2 pairs scored, 2 left out" in said

    assert cli.main(["score", str(file), "--model", str(model_dir), "--strict"]) == 2
    assert "row 2" in capsys.readouterr().err
    assert cli.main(["score", str(file), "--model", str(tmp_path / "none")]) == 2
    assert "is no local folder" in capsys.readouterr().err
    assert cli.main(["score", str(file), "--model", str(model_dir), "--output", str(tmp_path)]) == 2
    assert "cannot write" in capsys.readouterr().err
