"""Padded, packed and shared batches give the same numbers, or are found out."""

from __future__ import annotations

import logging

import pytest
import torch
from tiny import BACKBONES, VOCABULARY, WIDTH, tiny_model
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig, MambaConfig, MistralConfig

from sentrm.attention import SEGMENTWISE, block_mask, dense_mask, masked
from sentrm.batching import STRATEGIES, Tokens, buckets, collate, pack, tokens_read, usable, use
from sentrm.configuration import SentenceRewardConfig
from sentrm.modeling import SentenceRewardModel
from sentrm.scoring import Scorer
from training.trainer import Collator, bradley_terry


def made_up_groups(sizes=((11, (6, 9)), (3, (1, 0, 14)), (20, (5,)))) -> list[list[Tokens]]:
    """Groups of (prompt tokens, tokens of each response), boundaries at every third token of a response and its end."""
    generator = torch.Generator().manual_seed(1)
    groups = []
    for prompt, responses in sizes:
        shared = torch.randint(5, VOCABULARY, (prompt,), generator=generator).tolist()
        group = []
        for length in responses:
            ids = shared + torch.randint(5, VOCABULARY, (length,), generator=generator).tolist()
            ends = sorted({prompt - 1, *range(prompt + 2, len(ids), 3), len(ids) - 1})
            group.append(Tokens(ids, ends))
        groups.append(group)
    return groups


GROUPS = made_up_groups()


def read(model: SentenceRewardModel, strategy: str, groups=GROUPS):
    use(model, strategy)
    return model(**collate(groups, strategy))


@pytest.mark.parametrize("four_d", [False, True], ids=["segmentwise", "4-D mask"])
@pytest.mark.parametrize("architecture", BACKBONES)
@pytest.mark.parametrize("strategy", ["packed", "shared"])
def test_values_and_gradients_are_those_of_single_sequences(architecture, strategy, four_d):
    """Against each sequence alone in a row of its own, without any mask to get wrong."""
    model = tiny_model(architecture)
    alone = [model(**collate([[one]], "padded")) for group in GROUPS for one in group]
    loss = sum(one.score.sum().sin() for one in alone)
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    use(model, strategy)
    assert model.backbone.config._attn_implementation == SEGMENTWISE
    if four_d:
        model.backbone.set_attn_implementation("sdpa")
    together = model(**collate(GROUPS, strategy))
    for row, one in enumerate(alone):
        n = one.values.shape[1]
        torch.testing.assert_close(together.values[row, :n], one.values[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(together.score[row], one.score[0], rtol=0, atol=1e-5)
        assert not together.mask[row, n:].any()
    together.score.sin().sum().backward()
    for name, gradient in gradients.items():
        torch.testing.assert_close(model.get_parameter(name).grad, gradient, rtol=0, atol=1e-4)


@pytest.mark.parametrize("architecture", BACKBONES)
def test_twenty_steps_end_with_the_same_weights(architecture):
    """By SGD, which follows the gradients as they are; Adam would divide rounding by itself where they are zero."""
    rows = []
    for seed in range(4):
        (group,) = made_up_groups(((5 + seed, (7, 4 + seed)),))
        labels = {"comparisons": [[0, 1]], "probability": [1.0], "margin": [0.0]}
        rows.append({"ids": [one.ids for one in group], "boundaries": [one.boundaries for one in group]} | labels)
    losses: dict[str, list[float]] = {strategy: [] for strategy in STRATEGIES}
    weights = {}
    for strategy, curve in losses.items():
        model = tiny_model(architecture)
        use(model, strategy)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
        for _ in range(20):
            batch = Collator(strategy)(rows)
            comparisons = batch.pop("comparisons")
            for name in ("probability", "margin", "tokens"):
                batch.pop(name)
            chosen, rejected = model(**batch).score[comparisons].unbind(-1)
            loss = bradley_terry(chosen, rejected).mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            curve.append(loss.item())
        weights[strategy] = dict(model.named_parameters())
    assert losses["padded"][-1] < losses["padded"][0] - 0.1
    for strategy in ("packed", "shared"):
        assert losses[strategy] == pytest.approx(losses["padded"], abs=1e-4)
        for name, weight in weights[strategy].items():
            torch.testing.assert_close(weight, weights["padded"][name], rtol=0, atol=1e-4)


def test_who_sees_whom_in_every_form():
    segments = pack(GROUPS, share=True)["segments"]
    visible = dense_mask(segments)[0, 0]
    tokens = [(s, t) for s, length in enumerate(segments[:, 0].tolist()) for t in range(length)]
    for i, (segment, _) in enumerate(tokens):
        for j, (other, _) in enumerate(tokens):
            expected = (segment == other and j <= i) or segments[segment, 1] == other
            assert visible[i, j] == expected
    mask = block_mask(segments)
    index = torch.arange(len(tokens))
    flex = torch.stack([mask.mask_mod(torch.tensor(0), torch.tensor(0), i, index) for i in index])
    assert torch.equal(flex, visible)
    additive = masked(segments, "eager", torch.float32)["attention_mask"]
    query = torch.randn(1, 2, len(tokens), 4)
    by_bool, by_sum = (scaled_dot_product_attention(query, query, query, m) for m in (visible, additive))
    torch.testing.assert_close(by_bool, by_sum)

    packed = pack(GROUPS, share=False)["segments"]
    flash = masked(packed, "flash_attention_2", torch.float32)
    assert flash["cu_seq_lens_q"].tolist() == [0, 17, 37, 41, 44, 61, 86]
    assert (flash["max_length_k"], flash["attention_mask"]) == (25, None)
    with pytest.raises(ValueError, match="FlashAttention cannot share a prompt"):
        masked(segments, "flash_attention_2", torch.float32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="FlexAttention has no backward pass on a CPU")
@pytest.mark.parametrize("strategy", ["packed", "shared"])
def test_flex_attention_gives_the_same_values_and_gradients(strategy):
    """Rows whose length is no multiple of its blocks of 128; its kernels need heads of 16."""
    groups = made_up_groups(((150, (60, 77)), (31, (40,))))
    ends = []
    for way in ("padded", strategy):
        torch.manual_seed(0)
        config = LlamaConfig(**WIDTH | {"hidden_size": 32}, vocab_size=VOCABULARY)
        model = SentenceRewardModel(SentenceRewardConfig(backbone_config=config)).cuda()
        use(model, way)
        batch = {name: tensor.cuda() for name, tensor in collate(groups, way).items()}
        values = model(**batch).values
        values.sin().sum().backward()
        ends.append((model.backbone.config._attn_implementation, values, model.backbone.embed_tokens.weight.grad))
    assert [one[0] for one in ends] == ["sdpa", "flex_attention"]
    torch.testing.assert_close(ends[1][1], ends[0][1], rtol=0, atol=1e-4)
    torch.testing.assert_close(ends[1][2], ends[0][2], rtol=0, atol=1e-3)


def test_two_readers_of_one_model_do_not_disturb_each_other(tokenizer):
    """Each sets the attention it needs, whoever read the model before."""
    model = tiny_model()
    shared, padded = (Scorer.from_model(model, tokenizer, name="x", batching=one) for one in ("shared", "padded"))
    items = [("How do I boil an egg?", text) for text in ("Boil it. Then peel it.", "No!", "Wait. Look. Eat.")]
    for one, other in zip(shared.score(items), padded.score(items), strict=True):
        assert one.values == pytest.approx(other.values, abs=1e-5)
    assert model.backbone.config._attn_implementation == model.own_attention
    shared.score(items)
    assert model.backbone.config._attn_implementation == SEGMENTWISE


def test_tokens_that_each_strategy_reads():
    assert [tokens_read(GROUPS[0], strategy) for strategy in STRATEGIES] == [37, 37, 26]
    batch = collate(GROUPS, "shared")
    assert batch["input_ids"].shape == (1, sum(tokens_read(group, "shared") for group in GROUPS))
    assert collate(GROUPS, "packed")["input_ids"].shape == (1, 86)


def test_buckets_without_padding_are_bounded_by_their_sum():
    lengths = [5, 100, 7, 30, 30, 2, 250]
    batches = buckets(lengths, batch_tokens=90, padded=False)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or sum(lengths[i] for i in batch) <= 90 for batch in batches)
    assert len(batches) == 3  # 250 | 100 | 30 30 7 5 2


@pytest.mark.parametrize(
    ("backbone", "exact"),
    [
        (MambaConfig(hidden_size=16, num_hidden_layers=2, state_size=4, vocab_size=VOCABULARY), False),
        (MistralConfig(**WIDTH, vocab_size=VOCABULARY, num_key_value_heads=1, sliding_window=16), False),
        (MistralConfig(**WIDTH, vocab_size=VOCABULARY, num_key_value_heads=1, sliding_window=None), True),
    ],
    ids=["state space", "sliding window", "no window"],
)
def test_a_model_that_cannot_be_packed_is_found_out_and_padded(backbone, exact, caplog):
    torch.manual_seed(0)
    model = SentenceRewardModel(SentenceRewardConfig(backbone_config=backbone)).train()
    random = torch.random.get_rng_state()
    with caplog.at_level(logging.WARNING, "sentrm"):
        found = [usable(model, strategy, 128) for strategy in ("packed", "shared")]
    assert torch.equal(torch.random.get_rng_state(), random)
    assert model.training
    said = [record.message for record in caplog.records if record.name == "sentrm.batching"]
    if exact:
        assert (found, said) == (["packed", "shared"], [])
    else:
        assert found == ["padded", "padded"]
        assert model.backbone.config._attn_implementation == model.own_attention
        assert len(said) == 2
        assert all("using padded" in line and "values change by" in line for line in said)


@pytest.mark.parametrize("window", [16, 100])
def test_a_window_is_found_also_where_rounding_hides_it(window, caplog):
    backbone = MistralConfig(**WIDTH, vocab_size=VOCABULARY, num_key_value_heads=1, sliding_window=window)
    model = SentenceRewardModel(SentenceRewardConfig(backbone_config=backbone)).to(torch.bfloat16)
    assert usable(model, "shared", 128) == "padded"
    assert f"an attention window of {window} tokens" in caplog.messages[-1]
    assert usable(model, "shared", window) == "shared", "no sequence is longer than the window"


@pytest.mark.parametrize("architecture", BACKBONES)
def test_the_probe_finds_nothing_wrong_with_full_attention(architecture):
    model = tiny_model(architecture)
    for strategy in ("packed", "shared"):
        assert usable(model, strategy, 128) == strategy
