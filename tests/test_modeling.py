"""The model against the equations written out one response at a time, and the identities that follow from them."""

from __future__ import annotations

import cmath
import math
from pathlib import Path

import pytest
import torch
from tiny import BACKBONES, VOCABULARY, tiny_model
from transformers import AutoConfig, AutoModel, BertConfig, BertModel, GPT2Config, LlamaConfig, LlamaModel, T5Config

from sentrm.aggregation import AGGREGATORS
from sentrm.batching import buckets, pad
from sentrm.configuration import SentenceRewardConfig
from sentrm.errors import SentrmError
from sentrm.modeling import SentenceRewardModel, check_causal

# Rows of different length and number of sentences; the last has a prompt alone.
ROWS = [
    ([5, 9, 33, 7, 81, 14, 99, 3, 21, 50, 6], [2, 4, 7, 10]),
    ([8, 8, 120, 44, 13, 4], [1, 5]),
    ([300, 17, 2, 61, 70, 222, 35, 90, 41, 11, 12, 13, 400, 15], [0, 1, 3, 8, 9, 13]),
    ([77, 30, 4], [2]),
]


def naive(model: SentenceRewardModel, ids: list[int], boundaries: list[int]) -> dict[str, list[float]]:
    """DESIGN's equations, literally: one response, plain Python numbers, rotation by complex exponentials."""
    states = model.backbone(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0].double()
    h = [states[b].tolist() for b in boundaries]
    last = len(h) - 1

    def linear(layer: torch.nn.Linear, x: list[float]) -> list[float]:
        return [
            sum(w * e for w, e in zip(row, x, strict=True)) + c
            for row, c in zip(layer.weight.double().tolist(), layer.bias.double().tolist(), strict=True)
        ]

    def rope(x: list[float], position: int) -> list[float]:
        turned = []
        for j in range(0, len(x), 2):
            z = complex(x[j], x[j + 1]) * cmath.exp(1j * position * 10000 ** (-j / len(x)))
            turned += [z.real, z.imag]
        return turned

    v = [linear(model.value_head, x)[0] for x in h]
    delta = [v[0]] + [v[i] - v[i - 1] for i in range(1, last + 1)]
    name = model.config.aggregator
    first = 1 if name.endswith("without_prompt") else 0
    if "attention" in name:
        turned = [linear(model.aggregator.query, h[last]), *(linear(model.aggregator.key, x) for x in h)]
        if name != "attention_without_rotary":
            turned = [rope(x, i) for x, i in zip(turned, [last, *range(last + 1)], strict=True)]
        q, *keys = turned
        logits = [sum(a * b for a, b in zip(q, k, strict=True)) / math.sqrt(len(q)) for k in keys]
        total = sum(math.exp(one) for one in logits[first:])
        a = [0.0] * first + [math.exp(one) / total for one in logits[first:]] if last >= first else [0.0]
        if name.startswith("relative"):
            a = [(last + 1 - first) * one for one in a]
        score = sum(x * y for x, y in zip(a, delta, strict=True))
    elif name == "mean":
        a, score = [1 / (last + 1)] * (last + 1), sum(delta) / (last + 1)
    elif name == "last":
        a, score = [1.0] * (last + 1), v[last]
    elif name == "sum_values":
        a, score = [float(last + 1 - i) for i in range(last + 1)], sum(v)
    elif name == "mean_values":
        a = [1.0] + [(last + 1 - i) / last for i in range(1, last + 1)]
        score = sum(v[1:]) / last if last else v[0]
    elif name == "min":
        worst = min(range(1, last + 1), key=lambda i: delta[i], default=None)
        a, score = [float(i == worst) for i in range(last + 1)], 0.0 if worst is None else delta[worst]
    else:
        total = sum(math.exp(-d) for d in delta[1:])
        a = [0.0] + [math.exp(-d) / total for d in delta[1:]]
        score = sum(x * y for x, y in zip(a, delta, strict=True))
    return {"values": v, "rewards": delta, "weights": a, "score": [score]}


def forward(model: SentenceRewardModel, rows=ROWS, side: str = "right"):
    with torch.no_grad():
        return model(**pad([ids for ids, _ in rows], [ends for _, ends in rows], side=side))


@pytest.mark.parametrize("architecture", BACKBONES)
@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_equals_the_equations_written_out(architecture, aggregator):
    model = tiny_model(architecture, aggregator=aggregator)
    output = forward(model)
    for row, (ids, boundaries) in enumerate(ROWS):
        n = len(boundaries)
        expected = naive(model, ids, boundaries)
        for name in ("values", "rewards", "weights"):
            assert getattr(output, name)[row, :n].tolist() == pytest.approx(expected[name], abs=2e-5), (name, row)
            assert getattr(output, name)[row, n:].abs().sum() == 0
        assert output.score[row].item() == pytest.approx(expected["score"][0], abs=2e-5)


def test_reading_hidden_states_is_the_rest_of_forward():
    """Padding holds other states than forward's, and does not matter."""
    model = tiny_model()
    output = forward(model)
    hidden = torch.randn(*output.mask.shape, model.config.hidden_size)
    for row, (ids, boundaries) in enumerate(ROWS):
        states = model.backbone(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0]
        hidden[row, : len(boundaries)] = states[boundaries]
    for name, column in model.read(hidden, output.mask)._asdict().items():
        torch.testing.assert_close(column, getattr(output, name), atol=1e-5, rtol=0)


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_identities(aggregator):
    output = forward(tiny_model(aggregator=aggregator))
    v, a, n = output.values, output.weights, output.mask.sum(1)
    torch.testing.assert_close(output.contributions.sum(1), output.score)
    torch.testing.assert_close(output.rewards.cumsum(1)[output.mask], v[output.mask])  # values telescope
    # Summation by parts: R = a_N v_N + Σ_{i<N} (a_i - a_{i+1}) v_i, with a_{N+1} = 0 in the padding.
    after = torch.nn.functional.pad(a[:, 1:], (0, 1))
    torch.testing.assert_close(((a - after) * v).sum(1), output.score)
    if aggregator in ("attention", "attention_without_rotary", "mean"):
        torch.testing.assert_close(a.sum(1), torch.ones(len(a)))
    if aggregator.startswith("relative_attention"):
        torch.testing.assert_close(a.sum(1), n.float() - float(aggregator.endswith("without_prompt")))
    if aggregator == "mean":
        torch.testing.assert_close(output.score, v[torch.arange(len(v)), n - 1] / n)


def test_even_relative_attention_without_prompt_is_the_last_value_less_the_prompts():
    model = tiny_model(aggregator="relative_attention_without_prompt")
    torch.nn.init.zeros_(model.aggregator.query.weight)
    torch.nn.init.zeros_(model.aggregator.query.bias)
    before = forward(model)
    last = before.mask.sum(1) - 1
    torch.testing.assert_close(before.score, before.values[torch.arange(len(last)), last] - before.values[:, 0])
    model.value_head.bias.data += 7
    torch.testing.assert_close(forward(model).score, before.score)  # no zero of its own


@pytest.mark.parametrize("architecture", BACKBONES)
def test_padding_side_and_batch_do_not_matter(architecture):
    model = tiny_model(architecture)
    right, left = forward(model), forward(model, side="left")
    for name in ("score", "values", "rewards", "weights"):
        torch.testing.assert_close(getattr(left, name), getattr(right, name), atol=1e-5, rtol=0)
    for row, one in enumerate(ROWS):
        alone = forward(model, [one])
        torch.testing.assert_close(alone.score, right.score[row : row + 1], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.values[0], right.values[row, : len(one[1])], atol=1e-5, rtol=0)


def test_save_and_load(tmp_path):
    model = tiny_model(median_reward=0.25, aggregator="softmin", boundary="offset")
    model.save_pretrained(tmp_path)
    for loaded in (SentenceRewardModel.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert isinstance(loaded, SentenceRewardModel)
        assert loaded.config.median_reward == 0.25
        assert loaded.config.boundary == "offset"
        assert torch.equal(forward(loaded).score, forward(model).score)
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_weights_survive_half_precision_saving_with_a_full_precision_head(tmp_path):
    model = tiny_model()
    model.backbone.half()
    model.save_pretrained(tmp_path)
    loaded = SentenceRewardModel.from_pretrained(tmp_path)
    assert loaded.backbone.dtype == torch.float16
    assert loaded.value_head.weight.dtype == torch.float32
    assert torch.equal(loaded.aggregator.query.weight, model.aggregator.query.weight)


def test_head_and_attention_run_in_full_precision_under_autocast():
    model = tiny_model()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**pad([ids for ids, _ in ROWS], [ends for _, ends in ROWS]))
    assert output.score.dtype == output.values.dtype == torch.float32
    torch.testing.assert_close(output.contributions.sum(1), output.score)


@pytest.mark.parametrize("aggregator", ["attention", "mean", "last", "sum_values"])
def test_every_parameter_gets_a_gradient(aggregator):
    model = tiny_model(aggregator=aggregator)
    model(**pad([ids for ids, _ in ROWS], [ends for _, ends in ROWS])).score.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("build", [lambda: LlamaModel(BACKBONES["llama"]), lambda: BertModel(BertConfig(**BERT))])
def test_from_backbone_keeps_the_pretrained_weights_and_makes_bert_a_decoder(build, tmp_path):
    torch.manual_seed(1)
    backbone = build()
    backbone.save_pretrained(tmp_path)
    model = SentenceRewardModel.from_backbone(str(tmp_path), max_length=64)
    loaded = model.backbone.state_dict()
    for name, weight in backbone.state_dict().items():
        if not name.startswith("pooler"):
            assert torch.equal(loaded[name], weight), name
    check_causal(model.backbone, "the model's")
    assert model.config.backbone_config._attn_implementation == "sdpa"
    assert model.config.max_length == 64
    assert model.value_head.weight.std() > 0.05


BERT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 64}


def test_a_backbone_that_is_not_causal_is_refused(tmp_path):
    torch.manual_seed(1)
    with pytest.raises(SentrmError, match="not causal"):
        check_causal(BertModel(BertConfig(**BERT)).eval(), "an encoder")
    AutoModel.from_config(T5Config(d_model=8, d_ff=8, num_layers=1, num_heads=1, vocab_size=64)).save_pretrained(
        tmp_path
    )
    with pytest.raises(SentrmError, match="encoder-decoder"):
        SentenceRewardModel.from_backbone(str(tmp_path))


def test_unknown_names_are_refused():
    backbone = LlamaConfig(**{**BERT, "num_key_value_heads": 1})
    with pytest.raises(SentrmError, match="expected one of attention"):
        SentenceRewardModel(SentenceRewardConfig(backbone_config=backbone, aggregator="sum"))
    with pytest.raises(SentrmError, match="expected one of marker, offset"):
        SentenceRewardConfig(backbone_config=backbone, boundary="end")


def test_config_from_dict_restores_the_backbone():
    config = tiny_model("qwen3").config
    restored = SentenceRewardConfig.from_dict(config.to_dict())
    assert restored.to_dict() == config.to_dict()
    assert type(restored.backbone_config) is type(BACKBONES["qwen3"])
    assert AutoConfig.for_model("sentence_reward", backbone_config=config.backbone_config.to_dict()).hidden_size == 16


def test_buckets_hold_every_index_once_within_the_budget():
    lengths = [5, 100, 7, 30, 30, 2, 250]
    batches = buckets(lengths, batch_tokens=90)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 90 for batch in batches)
    assert len(batches) == 4  # 250 | 100 | 30 30 7 | 5 2


def test_modeling_reaches_only_flat_files():
    """`register_for_auto_class` copies what relative imports name, and nothing in a folder."""
    seen, todo = set(), ["modeling"]
    while todo:
        name = todo.pop()
        source = (Path(__file__).parent.parent / "sentrm" / f"{name}.py").read_text()
        assert "from sentrm" not in source
        todo += {line.split()[1][1:] for line in source.splitlines() if line.startswith("from .")} - seen
        seen.add(name)
    assert seen == {"modeling", "configuration", "aggregation", "attention", "errors"}


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_repeated_positions_leave_short_inputs_as_they_were(architecture, tmp_path):
    size = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 512, "vocab_size": VOCABULARY}
    backbone = AutoModel.from_config(GPT2Config(**size) if architecture == "gpt2" else BACKBONES["bert"])
    backbone.save_pretrained(tmp_path / "backbone")
    short, long = (
        SentenceRewardModel.from_backbone(str(tmp_path / "backbone"), positions=positions, max_length=length).eval()
        for positions, length in ((None, 512), (1200, 1200))
    )
    table = "wpe.weight" if architecture == "gpt2" else "embeddings.position_embeddings.weight"
    before, after = (model.backbone.state_dict()[table] for model in (short, long))
    torch.testing.assert_close(after, torch.cat((before, before, before[:176])), atol=0, rtol=0)
    ids = torch.randint(0, VOCABULARY, (1, 512), generator=torch.Generator().manual_seed(0))
    hidden = [model.backbone(input_ids=ids, use_cache=False).last_hidden_state for model in (short, long)]
    torch.testing.assert_close(*hidden)

    long.save_pretrained(tmp_path / "longer")
    again = SentenceRewardModel.from_pretrained(tmp_path / "longer").eval()
    rows = [(torch.arange(1100) % VOCABULARY).tolist()], [[10, 1099]]
    torch.testing.assert_close(again(**pad(*rows)).values, long(**pad(*rows)).values)


def test_rotary_positions_cannot_be_repeated(tmp_path):
    AutoModel.from_config(BACKBONES["llama"]).save_pretrained(tmp_path)
    with pytest.raises(SentrmError, match="no learned positions"):
        SentenceRewardModel.from_backbone(str(tmp_path), positions=1024)
