"""Which models are offered, which stay open, and which are refused before they load."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from huggingface_hub.errors import HTTPError
from tiny import tiny_model
from transformers import PreTrainedTokenizerFast

from sentrm.catalogue import Catalogue, _weights
from sentrm.errors import ModelLoadError
from sentrm.scoring import Scorer


@pytest.fixture(scope="module")
def runs(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three sentence reward models, and of files that are none."""
    folder = tmp_path_factory.mktemp("runs")
    for name, aggregator in (("one", "mean"), ("two", "last"), ("three", "attention")):
        tiny_model(aggregator=aggregator).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    (folder / "notes.txt").write_text("nothing")
    (folder / "empty").mkdir()
    return folder


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda check_available=False: None)


def test_names_are_those_of_folders(runs: Path, model_dir: Path, tmp_path: Path) -> None:
    assert Catalogue([runs], model_dir).names == ("tiny-llama", "one", "three", "two")
    assert Catalogue([runs / "two", runs], model_dir).names == ("tiny-llama", "two", "one", "three")  # each once
    assert Catalogue([], "somebody/something").names == ("somebody/something",)
    twin = tmp_path / "one"
    shutil.copytree(runs / "one", twin)
    (tmp_path / "link").symlink_to(runs / "one")
    one_spelt_otherwise = runs / "empty" / ".." / "one"
    catalogue = Catalogue([runs / "one", twin, one_spelt_otherwise, tmp_path / "link"], model_dir)
    assert catalogue.names == ("tiny-llama", "one", str(twin))
    for folder, reason in ((tmp_path / "gone", "is no folder"), (runs / "empty", "holds no checkpoint")):
        with pytest.raises(ModelLoadError, match=reason):
            Catalogue([folder], model_dir)


def test_a_model_opens_once_and_the_first_and_another_are_kept(runs: Path, model_dir: Path) -> None:
    catalogue = Catalogue([runs], model_dir, segmenter="tokens", max_length=64)
    bundled, one = catalogue.open("tiny-llama"), catalogue.open("one")
    assert catalogue.open("one") is one
    assert (one.model_info.aggregator, one.encoder.max_length, one.segmenter_info.own) == ("mean", 64, False)
    catalogue.open("two")  # "tiny-llama" was asked for before "one"
    assert catalogue.open("tiny-llama") is bundled
    assert catalogue.open("one") is not one
    expected = Scorer.from_pretrained(model_dir, segmenter="tokens", max_length=64).score([("Why?", "It is.")])
    assert catalogue.open("tiny-llama").score([("Why?", "It is.")]) == expected


def test_a_second_caller_waits_and_gets_the_same(runs: Path, model_dir: Path) -> None:
    catalogue = Catalogue([runs], model_dir)
    found: list[Scorer] = []
    threads = [threading.Thread(target=lambda: found.append(catalogue.open("one"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len({id(scorer) for scorer in found}) == 1


@pytest.mark.parametrize("name", ["{runs}/one", "../one", "/etc", "one/../two", "", "somebody/something"])
def test_nothing_else_opens(name: str, runs: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs / "empty")
    with pytest.raises(ModelLoadError, match="expected one of tiny-llama, one, three, two"):
        Catalogue([runs], model_dir).open(name.format(runs=runs))


@pytest.mark.parametrize("name", ["{runs}/one", "../one", "/etc", "one/../two", "", "two"])
def test_a_hub_id_is_no_way_to_a_folder(
    name: str, runs: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    with pytest.raises(ModelLoadError, match="expected"):
        Catalogue([], model_dir, allow_hub=True).open(name.format(runs=runs))


def test_a_hub_id_is_looked_up_where_that_is_allowed(model_dir: Path) -> None:
    with pytest.raises(ModelLoadError, match="nobody/nothing is no local folder or known hub id"):
        Catalogue([], model_dir, allow_hub=True).open("nobody/nothing")


def test_a_model_that_was_downloaded_before_opens_without_a_network(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = "0" * 40
    for name, files in (("whole", "*"), ("begun", "config.json")):
        folder = tmp_path / f"models--somebody--{name}"
        (folder / "snapshots" / revision).mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(revision)
        for file in model_dir.glob(files):
            shutil.copy(file, folder / "snapshots" / revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    catalogue = Catalogue([], model_dir, allow_hub=True)
    assert catalogue.open("somebody/whole").model_info.name == "somebody/whole"

    def no_network(_: str) -> None:
        raise HTTPError("no route to host")

    monkeypatch.setattr("sentrm.catalogue.get_safetensors_metadata", no_network)
    with pytest.raises(ModelLoadError, match="the size of somebody/begun cannot be read: no route to host"):
        catalogue.open("somebody/begun")


def test_the_size_is_that_of_the_weights(runs: Path) -> None:
    model = tiny_model(aggregator="mean")
    assert sum(count * width for count, width in _weights(str(runs / "one"))) == sum(
        parameter.numel() * 4 for parameter in model.parameters()
    )


def test_what_does_not_fit_is_refused_before_it_loads(
    runs: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = Catalogue([runs], model_dir)
    bundled = catalogue.open("tiny-llama")
    weights = sum(count * 4 for count, _ in _weights(str(runs / "one")))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=int(1.1 * weights)))
    monkeypatch.setattr(Scorer, "from_pretrained", lambda *_, **__: pytest.fail("was loaded"))
    with pytest.raises(ModelLoadError, match=r"of main memory, and .* are free"):
        catalogue.open("one")
    assert catalogue.open("tiny-llama") is bundled
    monkeypatch.undo()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=int(1.1 * weights)))
    assert Catalogue([runs], model_dir, device="cpu", dtype="bfloat16").open("one").model_info.name == "one"


def test_what_is_no_reward_model_is_refused_before_it_loads(
    runs: Path, model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "language").mkdir()
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    (tmp_path / "language" / "config.json").write_text(json.dumps(config))
    (tmp_path / "weightless").mkdir()
    (tmp_path / "weightless" / "config.json").write_bytes((model_dir / "config.json").read_bytes())
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_bytes((model_dir / "config.json").read_bytes())
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    catalogue = Catalogue([tmp_path], model_dir)
    bundled = catalogue.open("tiny-llama")
    monkeypatch.setattr(Scorer, "from_pretrained", lambda *_, **__: pytest.fail("was loaded"))
    for name, reason in (
        ("language", "its architecture is LlamaForCausalLM"),
        ("weightless", "holds no .*safetensors"),
        ("broken", "the size of .* cannot be read"),
    ):
        with pytest.raises(ModelLoadError, match=reason):
            catalogue.open(name)
    assert catalogue.open("tiny-llama") is bundled
