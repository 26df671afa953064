"""Adapters, memory savers, learning rates and pad tokens: what a run trains, and that what it saves scores the same."""

from __future__ import annotations

import copy
import json
import shutil
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from processes import finish, start_two
from safetensors.torch import load_file
from tiny import BACKBONES
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast, Trainer

from sentrm.batching import Tokens, collate, use
from sentrm.errors import SentrmError
from sentrm.modeling import SentenceRewardModel
from sentrm.scoring import Scorer
from training.config import TrainConfig, parse
from training.model import (
    activation_offloading,
    apply_liger_kernel,
    build_model,
    finished,
    four_bit,
    parameter_groups,
    prepare_tokenizer,
)
from training.train import main
from training.trainer import plain_model

IDS = [[1, 5, 9, 30, 31, 400, 7, 8, 400], [1, 5, 9, 30, 31, 400, 12, 400, 3, 20, 400]]
BOUNDARIES = [[5, 8], [5, 7, 10]]
LORA = ["--adapter", "lora", "--lora_rank", "4"]


@pytest.fixture(scope="module")
def backbones(backbone_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder each of a bare backbone and its tokenizer; the marker has to be added."""
    folders = {}
    for name, config in BACKBONES.items():
        folders[name] = tmp_path_factory.mktemp("backbones") / name
        shutil.copytree(backbone_dir, folders[name])
        config = copy.deepcopy(config)
        config.vocab_size = AutoConfig.from_pretrained(backbone_dir).vocab_size
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(folders[name])
    return folders


def config_of(folder: Path, *flags: str) -> TrainConfig:
    return parse(["--backbone", str(folder), "--data", "none.jsonl", "--output", "out", "--segmenter", "rules",
                  "--max_length", "128", *flags])  # fmt: skip


def built(folder: Path, *flags: str) -> SentenceRewardModel | PeftModel:
    torch.manual_seed(1)
    config = config_of(folder, *flags)
    return build_model(config, prepare_tokenizer(config))


def batch_of(model: torch.nn.Module, strategy: str = "padded") -> dict[str, torch.Tensor]:
    """Two responses to one prompt with the marker, the vocabulary's last token, at their boundaries."""
    marker = model.get_input_embeddings().weight.shape[0] - 1
    ids = [[marker if token == 400 else token for token in row] for row in IDS]
    return collate([[Tokens(*one) for one in zip(ids, BOUNDARIES, strict=True)]], strategy)


def loss_of(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    chosen, rejected = model(**batch).score
    return -torch.nn.functional.logsigmoid(chosen - rejected)


def step(model: torch.nn.Module, batch: dict[str, torch.Tensor], steps: int = 3) -> None:
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=0.02)
    for _ in range(steps):
        loss_of(model, batch).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize(
    ("adapter", "architecture"), [*(("lora", name) for name in BACKBONES), ("dora", "llama"), ("dora", "bert")]
)
def test_an_adapter_trains_itself_head_aggregator_and_marker_alone_and_merges_exactly(
    backbones, architecture, adapter, tmp_path
):
    model = built(backbones[architecture], "--adapter", adapter, "--lora_rank", "4")
    batch = batch_of(model)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    assert not model(**batch).score.isnan().any()
    step(model.train(), batch)
    after = model.eval().state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    parts = ("lora_", "modules_to_save.", "trainable_tokens_delta")
    assert all(any(part in name for part in parts) for name in changed)
    # Everything that was to be trained was: a pair of matrices each linear layer (BERT's pooler is taken out), and
    # weight and bias of value head, query and key.
    linears = sum(
        isinstance(one, torch.nn.Linear) for one in AutoModel.from_pretrained(backbones[architecture]).modules()
    )
    linears -= architecture == "bert"  # the pooler is taken out
    assert sum("lora_B" in name for name in changed) == linears
    heads = {name for name, one in model.named_parameters() if one.requires_grad and "modules_to_save" in name}
    assert heads <= changed
    assert len(heads) == 6
    assert {one.dtype for name, one in model.named_parameters() if name in heads} == {torch.float32}

    model.save_pretrained(tmp_path / "adapter")
    expected = model(**batch)
    plain = finished(model, "float32")
    assert type(plain) is SentenceRewardModel
    assert "PeftModel" not in repr(plain)
    got = plain(**batch)
    torch.testing.assert_close(got.values, expected.values, rtol=0, atol=1e-5)
    torch.testing.assert_close(got.score, expected.score, rtol=0, atol=1e-5)

    # Of the embedding only the marker's row moved.
    embedding = plain.get_input_embeddings().weight
    untouched = built(backbones[architecture]).get_input_embeddings().weight
    assert torch.equal(embedding[:-1], untouched[:-1])
    assert not torch.equal(embedding[-1], untouched[-1])

    # The small adapter put on the same backbone gives the same model.
    again = built(backbones[architecture], "--adapter", adapter, "--lora_rank", "4").eval()
    again.load_adapter(tmp_path / "adapter", "default")
    torch.testing.assert_close(again(**batch).score, expected.score, rtol=0, atol=1e-6)
    assert sum(one.numel() for one in load_file(tmp_path / "adapter/adapter_model.safetensors").values()) < 40_000


@pytest.mark.parametrize("flags", [[], LORA], ids=["full", "lora"])
@pytest.mark.parametrize("strategy", ["padded", "shared"])
@pytest.mark.parametrize("architecture", BACKBONES)
def test_gradient_checkpointing_gives_the_same_gradients(backbones, architecture, strategy, flags):
    model = built(backbones[architecture], *flags).train()
    use(plain_model(model), strategy)
    calls = []
    layers = next(one for one in model.modules() if isinstance(one, torch.nn.ModuleList))
    inner = next(one for one in layers[0].modules() if isinstance(one, torch.nn.Linear))
    inner.register_forward_hook(lambda *_: calls.append(1))
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.activation_checkpointing_enable()  # what the Trainer calls
        calls.clear()
        loss_of(model, batch_of(model, strategy)).backward()
        assert len(calls) == 1 + checkpointing, "a checkpointed layer runs again in the backward pass"
        gradients.append({name: one.grad for name, one in model.named_parameters() if one.requires_grad})
        model.zero_grad()
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=1e-6)


@pytest.mark.parametrize("architecture", BACKBONES)
def test_without_dropout_two_passes_are_one(backbone_dir, architecture, tmp_path):
    """Also where attention takes its probability from the configuration, not from a module."""
    config = copy.deepcopy(BACKBONES[architecture])
    for name, value in config.to_dict().items():
        if "drop" in name and isinstance(value, float):
            setattr(config, name, 0.5)
    shutil.copytree(backbone_dir, tmp_path / "backbone")
    config.vocab_size = AutoConfig.from_pretrained(backbone_dir).vocab_size
    AutoModel.from_config(config).save_pretrained(tmp_path / "backbone")
    model = built(tmp_path / "backbone").train()
    assert torch.equal(model(**batch_of(model)).values, model(**batch_of(model)).values)
    model = built(tmp_path / "backbone", "--disable_dropout", "false").train()
    assert not torch.equal(model(**batch_of(model)).values, model(**batch_of(model)).values)


def test_lora_reads_masks_of_four_dimensions_and_positions(backbones):
    """A peft model hands every argument on: two rows with a causal mask spelled out score as with the plain one."""
    model = built(backbones["llama"], *LORA)
    batch = batch_of(model)
    step(model.train(), batch)
    expected = model.eval()(**batch).score
    length = batch["input_ids"].shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril() & batch["attention_mask"][:, None, None].bool()
    positions = torch.arange(length).expand(2, -1)
    got = model(batch["input_ids"], causal, boundaries=batch["boundaries"], position_ids=positions).score
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_every_aggregator_and_boundary_takes_an_adapter(backbones):
    for flags, trained in ((["--aggregator", "last"], 2), (["--aggregator", "mean", "--boundary", "offset"], 2)):
        model = built(backbones["llama"], *LORA, *flags)
        names = [name for name, one in model.named_parameters() if one.requires_grad and "lora_" not in name]
        markers = [name for name in names if "trainable_tokens_delta" in name]
        assert len(markers) == ("--boundary" not in flags)
        assert len(names) - len(markers) == trained  # the value head's weight and bias


def test_targets_reach_the_backbone_alone(backbones):
    model = built(backbones["bert"], *LORA, "--lora_targets", "query", "value")
    adapted = {name.split(".lora_")[0].split(".")[-1] for name, _ in model.named_parameters() if "lora_" in name}
    assert adapted == {"query", "value"}
    assert not any("aggregator" in name and "lora_" in name for name, _ in model.named_parameters())
    with pytest.raises(SentrmError, match=r"--lora_targets .*no_such_layer"):
        built(backbones["bert"], *LORA, "--lora_targets", "no_such_layer")


def test_each_trained_parameter_is_in_one_group_with_its_rate_and_decay(backbones, tmp_path):
    for flags in ([], LORA):
        config = config_of(backbones["bert"], *flags, "--weight_decay", "0.1", "--learning_rate", "0.001")
        model = built(backbones["bert"], *flags)
        optimizer = Trainer(model=model, args=config).create_optimizer()
        groups = optimizer.param_groups
        assert parameter_groups(groups, model, None) is groups
        split = parameter_groups(groups, model, 0.5)
        found = {id(one): (group["lr"], group["weight_decay"]) for group in split for one in group["params"]}
        assert sum(len(group["params"]) for group in split) == len(found)
        assert found.keys() == {id(one) for one in model.parameters() if one.requires_grad}
        for name, one in model.named_parameters():
            if one.requires_grad:
                head = "value_head" in name or "aggregator" in name
                undecayed = "bias" in name or "LayerNorm" in name
                assert found[id(one)] == (0.5 if head else 0.001, 0.0 if undecayed else 0.1), name
        optimizer.param_groups = split
        before = {name: one.clone() for name, one in model.named_parameters()}
        loss_of(model, batch_of(model)).backward()
        optimizer.step()  # Adam's first step is one learning rate long
        moved = {name: (one - before[name]).abs().max().item() for name, one in model.named_parameters()}
        weight = next(name for name in moved if "value_head" in name and "original" not in name and "weight" in name)
        assert moved[weight] == pytest.approx(0.5, rel=0.2)


def test_a_pad_token_is_not_the_end_of_text(backbones, tmp_path):
    folder = tmp_path / "padded-with-eos"
    shutil.copytree(backbones["llama"], folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    with pytest.raises(SentrmError, match=r"pad token of .* is its EOS token, '</s>'.* --pad_token '<\|pad\|>'"):
        prepare_tokenizer(config_of(folder))
    with pytest.raises(SentrmError, match="is its EOS token"):
        prepare_tokenizer(config_of(backbones["llama"], "--pad_token", "</s>"))

    new = config_of(folder, "--pad_token", "<|pad|>")
    prepared = prepare_tokenizer(new)
    model = build_model(new, prepared)
    assert prepared.pad_token_id == model.config.backbone_config.pad_token_id == len(tokenizer)
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer) + 1  # the marker was there
    known = config_of(folder, "--pad_token", "<pad>")
    assert prepare_tokenizer(known).pad_token_id == 0
    assert build_model(known, prepare_tokenizer(known)).config.backbone_config.pad_token_id == 0

    tokenizer.pad_token = None  # nothing is needed: masks are explicit
    tokenizer.save_pretrained(folder)
    bare = config_of(folder)
    assert prepare_tokenizer(bare).pad_token is None
    build_model(bare, prepare_tokenizer(bare))


def test_a_backbone_in_bfloat16_keeps_its_head_in_float32(backbones):
    for flags in ([], LORA):
        model = built(backbones["llama"], *flags, "--model_dtype", "bfloat16")
        dtypes = {name: one.dtype for name, one in model.named_parameters()}
        trained = {name for name, one in model.named_parameters() if one.requires_grad}
        heads = {name for name in dtypes if "value_head" in name or "aggregator" in name}
        adapter = trained - heads if flags else set()
        assert {dtypes[name] for name in heads | adapter} == {torch.float32}, "small updates would be lost"
        assert {dtypes[name] for name in dtypes.keys() - heads - adapter} == {torch.bfloat16}
        step(model.train(), batch_of(model))
        expected = model.eval()(**batch_of(model)).score
        plain = finished(model, "float32")
        assert {one.dtype for one in plain.parameters()} == {torch.float32}
        torch.testing.assert_close(plain(**batch_of(plain)).score, expected, rtol=0, atol=0.05)  # bf16 arithmetic


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--adapter", "lore"], "--adapter is 'lore'; expected one of none, lora, dora, qlora"),
        (["--lora_rank", "8"], "--lora_rank is a setting of an adapter; add --adapter"),
        (["--lora_targets", "q_proj"], "--lora_targets is a setting of an adapter"),
        ([*LORA, "--lora_rank", "0"], "--lora_rank is 0"),
        ([*LORA, "--lora_dropout", "1"], r"--lora_dropout 1\.0; expected"),
        (["--adapter", "qlora", "--fp16"], "pass --bf16 instead of --fp16"),
        (["--model_dtype", "float16"], "--model_dtype is 'float16'; expected one of float32, bfloat16"),
        (["--head_learning_rate", "0"], "--head_learning_rate is 0"),
        (["--adapter", "qlora", "--use_cpu"], "--adapter qlora needs a GPU"),
        (["--activation_offloading", "--use_cpu"], "--activation_offloading needs a GPU"),
        (["--use_liger_kernel", "--use_cpu"], "--use_liger_kernel needs a GPU"),
    ],
)
def test_contradictions_are_told(backbones, flags, message):
    with pytest.raises(SentrmError, match=message):
        config_of(backbones["llama"], *flags)


@pytest.mark.slow
def test_a_lora_run_saves_a_checkpoint_that_opens_and_resumes_to_the_same_weights(train_flags, tmp_path):
    flags = [*train_flags, *LORA, "--head_learning_rate", "0.01", "--activation_checkpointing", "--save_steps", "9"]
    flags += ["--max_steps", "13"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main([*flags, "--output", str(whole)]) == 0
    assert json.loads((whole / "metrics.json").read_text())["held_out"]["whole"]["all"]["accuracy"] > 0.8
    saved = load_file(whole / "model.safetensors")
    assert {name.split(".")[0] for name in saved} == {"backbone", "value_head", "aggregator"}
    assert not any("lora" in name or "base_layer" in name for name in saved)
    adapter = load_file(whole / "adapter/adapter_model.safetensors")
    assert {name.split(".")[2] for name in adapter} == {"backbone", "value_head", "aggregator"}

    checkpoint = min(whole.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    shutil.copytree(checkpoint, broken / checkpoint.name)
    assert main([*flags, "--output", str(broken), "--resume"]) == 0
    resumed = load_file(broken / "model.safetensors")
    for name, weight in saved.items():
        torch.testing.assert_close(resumed[name], weight, rtol=0, atol=1e-5)
    scorer = Scorer.from_pretrained(broken)
    assert scorer.score([("How do I boil an egg?", "Boil it. What a silly question!")])[0].spans


@pytest.mark.slow
def test_lora_in_two_processes_of_shards_is_the_run_of_one(train_flags, tmp_path):
    flags = [*train_flags, *LORA, "--batching", "padded", "--max_steps", "4"]
    alone, output = tmp_path / "alone", tmp_path / "output"
    assert main([*flags, "--per_device_train_batch_size", "8", "--output", str(alone)]) == 0
    two = start_two("fsdp2.yaml", [*flags, "--per_device_train_batch_size", "4", "--output", str(output)], tmp_path)
    assert finish(*two) == [0, 0], (tmp_path / "0.log").read_text()[-3000:]
    for file in ("model.safetensors", "adapter/adapter_model.safetensors"):
        ours, theirs = load_file(output / file), load_file(alone / file)
        assert ours.keys() == theirs.keys()
        for name, weight in theirs.items():
            torch.testing.assert_close(ours[name], weight, rtol=0, atol=1e-4)


def test_missing_packages_are_named(backbones):
    if find_spec("flash_attn") is None:
        with pytest.raises(SentrmError, match="does not load: FlashAttention"):
            built(backbones["llama"], "--attn_implementation", "flash_attention_2")
    if find_spec("liger_kernel") is None:
        with pytest.raises(SentrmError, match="pip install liger-kernel"):
            apply_liger_kernel(AutoModel.from_config(BACKBONES["llama"]), None)
    if find_spec("bitsandbytes") is None:
        with pytest.raises(SentrmError, match="pip install bitsandbytes"):
            four_bit()


def test_liger_patches_the_backbone():
    pytest.importorskip("triton")
    pytest.importorskip("liger_kernel")
    model = AutoModel.from_config(BACKBONES["qwen3"])
    forward = type(model).forward
    apply_liger_kernel(model, None)
    assert model.forward.__func__ is forward, "the head of a language model was put on it"
    assert "Liger" in model.layers[0].input_layernorm.forward.__qualname__
    with pytest.raises(SentrmError, match="no kernels for 'bert' backbones"):
        apply_liger_kernel(AutoModel.from_config(BACKBONES["bert"]), None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_qlora_trains_and_merges_into_dequantised_weights(backbones, tmp_path):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    model = built(backbones["llama"], "--adapter", "qlora", "--lora_rank", "4")
    lora = model.get_base_model().backbone.layers[0].mlp.up_proj
    weight = lora.base_layer.weight
    assert (type(lora.base_layer), weight.quant_type, weight.compress_statistics, lora.base_layer.compute_dtype) == (
        bitsandbytes.nn.Linear4bit,
        "nf4",
        True,
        torch.bfloat16,
    )
    frozen = weight.clone()
    batch = {name: one.cuda() for name, one in batch_of(model).items()}
    step(model.cuda().train(), batch)
    assert torch.equal(weight, frozen)
    with torch.no_grad():
        expected = model.eval()(**batch).score.cpu()
        dequantised = bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state).bfloat16().float()
        merged = dequantised + lora.lora_B["default"].weight @ lora.lora_A["default"].weight * lora.scaling["default"]
        merged = merged.cpu()
    plain = finished(model, "float32")
    torch.testing.assert_close(plain.backbone.layers[0].mlp.up_proj.weight, merged, rtol=0, atol=1e-6)
    batch = batch_of(plain)
    score = plain(**batch).score
    torch.testing.assert_close(score, expected, rtol=0.1, atol=0.1)  # bf16 arithmetic
    plain.save_pretrained(tmp_path / "plain")
    reopened = SentenceRewardModel.from_pretrained(tmp_path / "plain")
    torch.testing.assert_close(reopened(**batch).score, score, rtol=0, atol=1e-6)
    assert "quantization_config" not in (tmp_path / "plain" / "config.json").read_text()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_offloaded_activations_give_the_same_gradients_and_take_less_memory(backbones):
    batch = {name: one.cuda() for name, one in batch_of(built(backbones["llama"])).items()}
    batch = {name: one.repeat_interleave(200, dim=0) for name, one in batch.items()}
    gradients, taken = [], []
    for offloading in (False, True):
        model = built(backbones["llama"]).cuda().train()
        before = torch.cuda.memory_allocated()
        with activation_offloading(model) if offloading else nullcontext():
            loss = model(**batch).score.square().mean()
        taken.append(torch.cuda.memory_allocated() - before)
        loss.backward()
        gradients.append([one.grad.clone() for one in model.parameters()])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-6)
    assert taken[1] < taken[0] / 2
