"""Exported models against the model they came from, opened by transformers alone."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tiny import BACKBONES, WIDTH, tiny_model
from transformers import (
    AutoConfig,
    AutoModelForTokenClassification,
    AutoTokenizer,
    ModernBertConfig,
    OlmoConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from sentrm import cli
from sentrm.aggregation import AGGREGATORS
from sentrm.configuration import SentenceRewardConfig
from sentrm.errors import EncodingError, ModelLoadError, SentrmError
from sentrm.export import SCORES, export_remote_code, export_vllm
from sentrm.modeling import SentenceRewardModel
from sentrm.scoring import Scorer

IDS, BOUNDARIES = [300, 17, 2, 61, 70, 222, 35, 90, 41, 11, 12, 13, 400, 15], [0, 1, 3, 8, 9, 13]


def saved(folder: Path, tokenizer: PreTrainedTokenizerFast, model: SentenceRewardModel) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@torch.no_grad()
def forward(model: SentenceRewardModel):
    ids = torch.tensor([IDS])
    return model(input_ids=ids, attention_mask=torch.ones_like(ids), boundaries=torch.tensor([BOUNDARIES]))


@pytest.mark.parametrize("architecture", BACKBONES)
def test_a_token_classifiers_logits_are_the_values(architecture, tokenizer, tmp_path):
    model = tiny_model(architecture)
    backbone = model.config.backbone_config
    dropouts = {name: 0.4 for name in [*backbone.to_dict(), "classifier_dropout"] if "dropout" in name}
    assert len(dropouts) >= 2
    backbone.update(dropouts)
    source = saved(tmp_path / "model", tokenizer, model)
    limits = export_vllm(source, tmp_path / "out")

    classifier = AutoModelForTokenClassification.from_pretrained(tmp_path / "out")
    assert classifier.config.architectures == [type(classifier).__name__]
    assert classifier.config.num_labels == 1
    assert type(classifier).__name__.endswith("ForTokenClassification")
    assert dropouts.items() <= classifier.config.to_dict().items()
    with torch.no_grad():
        logits = classifier(input_ids=torch.tensor([IDS])).logits[0, :, 0]
    values = forward(SentenceRewardModel.from_pretrained(source)).values[0]
    assert values.std() > 0.01
    torch.testing.assert_close(logits[BOUNDARIES], values, atol=1e-5, rtol=0)
    # Served by vLLM's conversion: a causal architecture whose head is called `score`.
    assert any("encoder" in limit for limit in limits) == (architecture == "bert")
    assert any("`classifier`" in limit for limit in limits) == (architecture == "gpt_neox")


def test_tokenizer_template_and_settings_come_along(model_dir, tmp_path):
    (limit,) = export_vllm(model_dir, tmp_path / "out")
    assert "`attention`" in limit
    assert limit in (tmp_path / "out" / "README.md").read_text()
    before, after = (AutoTokenizer.from_pretrained(folder) for folder in (model_dir, tmp_path / "out"))
    assert after.chat_template == before.chat_template
    assert after.get_vocab() == before.get_vocab()
    settings = json.loads((tmp_path / "out" / "sentence_reward.json").read_text())
    assert settings["marker_token_id"] == before.convert_tokens_to_ids(settings["config"]["marker_token"])
    assert settings["score_from_values"] is False
    config, own = SentenceRewardConfig.from_pretrained(model_dir).to_dict(), SentenceRewardConfig(**settings["config"])
    assert {name: config[name] for name in settings["config"]} == settings["config"]
    assert own.segmenter == config["segmenter"]
    assert own.median_reward == 0.05


def test_every_aggregator_has_a_score_or_needs_hidden_states():
    for name, aggregator in AGGREGATORS.items():
        weights = list(aggregator(SentenceRewardConfig(backbone_config=BACKBONES["llama"])).parameters())
        assert (name in SCORES) == (not weights), name


@pytest.mark.parametrize("boundary", ["marker", "offset"])
@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_the_readmes_client_gives_the_scorers_numbers(aggregator, boundary, tokenizer, tmp_path, monkeypatch):
    """Its three blocks of Python, the server's answer in the second one computed by transformers."""
    source = saved(tmp_path / "model", tokenizer, tiny_model(aggregator=aggregator, boundary=boundary))
    export_vllm(source, tmp_path / "out")
    encode, ask, aggregate = re.findall(r"```python\n(.*?)```", (tmp_path / "out" / "README.md").read_text(), re.S)
    compile(ask, "README.md", "exec")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(encode, names)
    classifier = AutoModelForTokenClassification.from_pretrained("out")
    with torch.no_grad():
        names["logits"] = classifier(input_ids=torch.tensor([names["encoded"].ids])).logits[0].tolist()
    exec(aggregate, names)
    (expected,) = Scorer.from_pretrained(source, device="cpu").score([(names["prompt"], names["response"])])
    assert len(names["rewards"]) == 3
    assert names["values"] == pytest.approx(expected.values, abs=1e-5)
    assert names["rewards"] == pytest.approx(expected.rewards, abs=1e-5)
    assert ("score" in names) == (aggregator in SCORES)
    assert names.get("score", expected.score) == pytest.approx(expected.score, abs=1e-5)


def test_the_readmes_client_finds_a_token_baselines_boundaries(tokenizer, tmp_path, monkeypatch):
    model = tiny_model(aggregator="mean_values", boundary="offset")
    model.config.segmenter = {"backend": "tokens", "name": "", "threshold": None}
    export_vllm(saved(tmp_path / "model", tokenizer, model), tmp_path / "out")
    encode = re.search(r"```python\n(.*?)```", (tmp_path / "out" / "README.md").read_text(), re.S)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(encode[1], names)
    encoded = names["encoded"]
    assert sum(encoded.tokens) == len(tokenizer(names["response"])["input_ids"]) == 12
    assert encoded.tokens.count(1) == 10  # a space alone goes to the token before it
    assert encoded.boundaries[-1] == len(encoded.ids) - 1


@pytest.mark.parametrize("aggregator", sorted(SCORES.keys() & AGGREGATORS.keys()))
def test_scores_of_a_response_without_a_sentence(aggregator):
    model = tiny_model(aggregator=aggregator)
    with torch.no_grad():
        output = model(torch.tensor([[5, 9]]), torch.ones(1, 2, dtype=torch.long), torch.tensor([[1]]))
    names: dict = {"values": output.values[0].tolist(), "rewards": output.rewards[0].tolist()}
    exec(SCORES[aggregator], names)
    assert names["score"] == pytest.approx(output.score.item(), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_dtype_is_kept_and_the_head_stays_in_full_precision(dtype, tokenizer, tmp_path):
    model = tiny_model()
    model.backbone.to(dtype)
    source = saved(tmp_path / "model", tokenizer, model)
    export_vllm(source, tmp_path / "vllm")
    export_remote_code(source, tmp_path / "hub")
    name = str(dtype).removeprefix("torch.")
    assert f"--dtype {name} " in (tmp_path / "vllm" / "README.md").read_text()
    for folder in ("vllm", "hub"):
        assert AutoConfig.from_pretrained(tmp_path / folder, trust_remote_code=False).dtype == dtype
        with safe_open(tmp_path / folder / "model.safetensors", "pt") as weights:
            kinds = {key: weights.get_tensor(key).dtype for key in weights.keys()}  # noqa: SIM118  (no mapping)
        heads = {key for key in kinds if key.startswith(("score", "value_head", "aggregator"))}
        assert {kinds[key] for key in heads} == {torch.float32}
        assert {kinds[key] for key in kinds.keys() - heads} == {dtype}
    classifier = AutoModelForTokenClassification.from_pretrained(tmp_path / "vllm", dtype=torch.float32)
    with torch.no_grad():
        logits = classifier(input_ids=torch.tensor([IDS])).logits[0, BOUNDARIES, 0]
    values = forward(SentenceRewardModel.from_pretrained(source, dtype=torch.float32)).values[0]
    torch.testing.assert_close(logits, values, atol=1e-5, rtol=0)


def test_remote_code_runs_where_sentrm_is_not_importable(tokenizer, tmp_path):
    source = saved(tmp_path / "model", tokenizer, tiny_model("qwen3"))
    (source / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    (source / "metrics.json").write_text('{"accuracy": 0.5}')
    export_remote_code(source, tmp_path / "hub" / "mine")
    elsewhere = (tmp_path / "hub" / "mine").rename(tmp_path / "mine")
    assert {file.name for file in elsewhere.glob("*.py")} >= {"modeling.py", "configuration.py", "aggregation.py"}
    assert (elsewhere / "README.md").read_text().startswith((source / "README.md").read_text())
    assert (elsewhere / "metrics.json").read_text() == '{"accuracy": 0.5}'
    opening = re.search(r"```python\n(.*?)```", (elsewhere / "README.md").read_text(), re.S)
    script = f"""
import sys
sys.modules["sentrm"] = None  # importing it raises
{opening[1]}
import json
ids = torch.tensor([{IDS}])
with torch.no_grad():
    output = model(ids, torch.ones_like(ids), torch.tensor([{BOUNDARIES}]))
text = tokenizer.apply_chat_template([{{"role": "user", "content": "Hi"}}])["input_ids"]
print(json.dumps([*output.values.tolist(), *output.weights.tolist(), output.score.tolist(), text]))
"""
    environment = {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    values, weights, score, text = json.loads(done.stdout.splitlines()[-1])
    expected = forward(SentenceRewardModel.from_pretrained(source))
    assert values == pytest.approx(expected.values[0].tolist(), abs=1e-6)
    assert weights == pytest.approx(expected.weights[0].tolist(), abs=1e-6)
    assert score == pytest.approx(expected.score.tolist(), abs=1e-6)
    assert text == tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}])["input_ids"]


def test_what_was_exported_with_its_code_opens_in_sentrm_and_exports_again(model_dir, tmp_path):
    export_remote_code(model_dir, tmp_path / "hub")
    ask = [("How do I boil an egg?", "Boil it. Then peel it!")]
    first, second = (
        Scorer.from_pretrained(folder, device="cpu").score(ask)[0] for folder in (model_dir, tmp_path / "hub")
    )
    assert second.score == first.score
    export_vllm(tmp_path / "hub", tmp_path / "vllm")
    tiny_model().save_pretrained(tmp_path / "plain")  # a later save is plain again
    assert {file.suffix for file in (tmp_path / "plain").iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize(
    ("backbone", "problem"),
    [
        (OlmoConfig(**WIDTH, vocab_size=512), "no token classifier for a 'olmo'"),
        (ModernBertConfig(**WIDTH, vocab_size=512, pad_token_id=0), "ModernBertForTokenClassification has layers"),
        # Its own positions start behind the padding id, the ones it was trained with at 0.
        (RobertaConfig(**WIDTH, vocab_size=512, is_decoder=True), "RobertaForTokenClassification gives other values"),
    ],
)
def test_an_architecture_without_such_a_token_classifier_is_refused(backbone, problem, tokenizer, tmp_path):
    source = saved(tmp_path / "model", tokenizer, SentenceRewardModel(SentenceRewardConfig(backbone_config=backbone)))
    with pytest.raises(SentrmError, match=f"{problem}.*--remote-code"):
        export_vllm(source, tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["model"]
    export_remote_code(source, tmp_path / "out")


def test_a_folder_that_holds_something_is_left_alone(model_dir, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for export in (export_vllm, export_remote_code):
        for name in ("full", "file"):
            with pytest.raises(SentrmError, match="exists already"):
                export(model_dir, tmp_path / name)
        with pytest.raises(SentrmError, match="cannot write"):
            export(model_dir, tmp_path / "file" / "out")
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["file", "full", "notes.txt"]
    (tmp_path / "empty").mkdir()
    export_remote_code(model_dir, tmp_path / "empty")
    assert (tmp_path / "empty" / "modeling.py").is_file()


@pytest.mark.parametrize("export", [export_vllm, export_remote_code])
def test_a_full_disk_leaves_nothing_behind(export, model_dir, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))  # bytes a file may have
    try:
        with pytest.raises(SentrmError, match="cannot write"):
            export(model_dir, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_what_is_no_sentence_reward_model_is_refused(backbone_dir, model_dir, tmp_path):
    for export in (export_vllm, export_remote_code):
        with pytest.raises(ModelLoadError, match="not a sentence reward model"):
            export(backbone_dir, tmp_path / "out")
        with pytest.raises(ModelLoadError, match="no local folder"):
            export(tmp_path / "none", tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(backbone_dir)
    with pytest.raises(EncodingError, match="chat template"):
        export_vllm(saved(tmp_path / "bare", tokenizer, tiny_model()), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_it_wrote(model_dir, tmp_path, capsys):
    assert cli.main(["export", str(model_dir), "--vllm", str(tmp_path / "vllm")]) == 0
    written = capsys.readouterr()
    assert "model.safetensors" in written.out
    assert "sentence_reward.json" in written.out
    assert "note: The score cannot be computed" in written.err
    assert cli.main(["export", str(model_dir), "--remote-code", str(tmp_path / "hub")]) == 0
    assert "modeling.py" in capsys.readouterr().out
    assert cli.main(["export", str(model_dir), "--vllm", str(tmp_path / "vllm")]) == 2
    assert "exists already" in capsys.readouterr().err
    for wrong in ([], ["--vllm", "a", "--remote-code", "b"]):
        with pytest.raises(SystemExit):
            cli.main(["export", str(model_dir), *wrong])
