"""Killed, out of disk, without a number for a loss, resumed by another run: nothing half-written, nothing different."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from datasets import Dataset, IterableDataset
from processes import finish, flag_list, log_history, start, start_two, when
from safetensors.torch import load_file
from tiny import tiny_model

from sentrm.errors import SentrmError
from sentrm.preferences import PreferencePair
from training.checkpoints import EpochOrder, mean_loss
from training.config import parse
from training.data import is_held_out
from training.identity import RUN, check_same_run, run_identity
from training.rows import content_of
from training.storage import OLD, PARTIAL, READY, remove_partial, written_aside
from training.train import main


@pytest.fixture(scope="module")
def flags(backbone_dir: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Sixteen steps in epochs of seven, with dropout, a checkpoint every third."""
    backbone = tmp_path_factory.mktemp("dropout") / "tiny-llama"
    shutil.copytree(backbone_dir, backbone)
    config = json.loads((backbone / "config.json").read_text())
    (backbone / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.2}))
    return flag_list(
        backbone=backbone,
        data=pairs_file,
        segmenter="rules",
        max_length=128,
        seed=3,
        batching="padded",
        disable_dropout=False,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        learning_rate=0.01,
        max_steps=15,
        logging_steps=2,
        save_steps=3,
        eval_strategy="steps",
        eval_steps=3,
        load_best_model_at_end=True,
        metric_for_best_model="margin",
        greater_is_better=False,
        disable_tqdm=True,
    )


@pytest.fixture(scope="module")
def unbroken(flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("unbroken") / "model"
    log = output.with_suffix(".log")
    assert finish(start([*flags, "--output", str(output)], log)) == [0], log.read_text()[-3000:]
    return output


def checkpoints(output: Path) -> list[int]:
    return sorted(int(folder.name.split("-")[1]) for folder in output.glob("checkpoint-*"))


def after_a_step(output: Path) -> bool:
    return checkpoints(output)[-1:] == [9] and not (output / PARTIAL).exists()


def during_a_save(output: Path) -> bool:
    return 6 in checkpoints(output) and any((output / PARTIAL).glob("checkpoint-*/*"))


@pytest.mark.slow
@pytest.mark.parametrize("moment", [after_a_step, during_a_save])
def test_a_killed_run_goes_on_as_if_it_had_not_been(moment: Callable[[Path], bool], flags, unbroken, tmp_path):
    output = tmp_path / "model"
    run = [*flags, "--output", str(output)]
    process = start(run, tmp_path / "log")
    when(process, lambda: moment(output))
    os.kill(process.pid, signal.SIGKILL)
    assert finish(process) == [-signal.SIGKILL]

    kept = checkpoints(output)
    assert kept[-1] < 15
    whole = {file.name for file in (unbroken / "checkpoint-15").iterdir()}
    for step in kept:
        assert {file.name for file in (output / f"checkpoint-{step}").iterdir()} == whole
        load_file(output / f"checkpoint-{step}/model.safetensors")
        torch.load(output / f"checkpoint-{step}/optimizer.pt", weights_only=True)

    assert finish(start([*run, "--resume"], tmp_path / "log")) == [0], (tmp_path / "log").read_text()[-3000:]
    assert not (output / PARTIAL).exists()
    assert checkpoints(output) == checkpoints(unbroken)
    ours, theirs = log_history(output), log_history(unbroken)
    assert len([log for log in theirs if "loss" in log]) == 10  # every second step and every third
    assert [log["step"] for log in ours] == [log["step"] for log in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, abs=1e-5, rel=1e-5)
    for file in ("checkpoint-15/model.safetensors", "model.safetensors"):
        resumed = load_file(output / file)
        for name, weight in load_file(unbroken / file).items():
            torch.testing.assert_close(resumed[name], weight, rtol=0, atol=1e-5)
    state, other = (json.loads((one / "checkpoint-15/trainer_state.json").read_text()) for one in (output, unbroken))
    assert Path(state["best_model_checkpoint"]).is_dir()
    assert Path(state["best_model_checkpoint"]).name == Path(other["best_model_checkpoint"]).name
    ours, theirs = (json.loads((one / "metrics.json").read_text()) for one in (output, unbroken))
    assert ours["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-5)


@pytest.mark.slow
def test_what_the_unbroken_run_keeps(unbroken):
    assert json.loads((unbroken / "config.json").read_text())["backbone_config"]["attention_dropout"] == 0.2
    state = json.loads((unbroken / "checkpoint-15/trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(unbroken / "checkpoint-3"), "the smallest margin is the first"
    assert checkpoints(unbroken) == [3, 15]
    assert not (unbroken / PARTIAL).exists()


@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt"])
def test_a_full_disk_leaves_whole_checkpoints_and_says_so(file, flags, unbroken, tmp_path):
    """A limit on the size of files fails every write beyond it, as a full disk does, with libraries' own errors."""
    output, log = tmp_path / "model", tmp_path / "log"
    process = start([*flags, "--output", str(output)], log)
    when(process, lambda: checkpoints(output) and not (output / PARTIAL).exists())
    kept = checkpoints(output)
    limit = (unbroken / "checkpoint-15" / file).stat().st_size - 1
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    os.kill(process.pid, signal.SIGCONT)
    assert finish(process) == [2]
    *_, message = log.read_text().strip().splitlines()
    assert message.startswith(f"error: cannot write checkpoint-{kept[-1] + 3} (")
    assert f"are free in {output}. Nothing half-written is left, checkpoint-{kept[-1]} is whole" in message
    assert checkpoints(output) == kept
    assert not (output / PARTIAL).exists()


def test_files_written_aside_replace_others_together_or_not_at_all(tmp_path):
    (tmp_path / "config.json").write_text("old")

    def fill() -> None:
        with written_aside(tmp_path, 3_000_000) as aside:
            (aside / "config.json").write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(
        SentrmError, match=r"cannot write the model's files \(.*No space left.*about 3\.0 MB are needed"
    ):
        fill()
    assert [file.name for file in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == "old"
    for text in ("new", "newer"):
        with written_aside(tmp_path, 0) as aside:
            (aside / "config.json").write_text(text)
            (aside / "adapter").mkdir()
            (aside / "adapter" / text).touch()
        assert (tmp_path / "config.json").read_text() == text
        assert [file.name for file in (tmp_path / "adapter").iterdir()] == [text]
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", "adapter"}


def test_the_next_start_ends_what_a_kill_between_two_renames_left(tmp_path, monkeypatch):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "weights").write_text("old")
    (tmp_path / "model").write_text("old")
    replace = os.replace

    def kill(aside: Path, final: Path) -> None:
        if final.name == killed_at:
            raise KeyboardInterrupt
        replace(aside, final)

    def write() -> None:
        with written_aside(tmp_path, 0) as aside:
            (aside / "adapter").mkdir()
            for name in ("adapter/weights", "config", "model"):
                (aside / name).write_text(killed_at)

    for killed_at in ("adapter", "config", "model"):
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", kill)
            with pytest.raises(KeyboardInterrupt):
                write()
        assert (tmp_path / PARTIAL / READY / killed_at).exists()
        remove_partial(tmp_path)
        assert {file.name for file in tmp_path.iterdir()} == {"adapter", "config", "model"}
        for name in ("adapter/weights", "config", "model"):
            assert (tmp_path / name).read_text() == killed_at

    (tmp_path / PARTIAL / f"{OLD}checkpoint-3").mkdir(parents=True)  # killed before checkpoint-3 was replaced
    (tmp_path / PARTIAL / f"{OLD}adapter").mkdir()  # and after the adapter was
    remove_partial(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"adapter", "config", "model", "checkpoint-3"}
    assert (tmp_path / "adapter" / "weights").exists()


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_before_a_weight_moves(flags, tmp_path):
    """After the first step the weights are as large as floats can be, so the second has no loss."""
    output, log = tmp_path / "model", tmp_path / "log"
    exploding = flag_list(learning_rate=1e30, lr_scheduler_type="constant", save_steps=1, eval_steps=1, output=output)
    assert finish(start([*flags, *exploding], log)) == [2]
    *_, error = log.read_text().strip().splitlines()
    assert error.startswith("error: step 2: the loss is ")
    assert "at learning rate 1e+30; no weight was changed. The rows: " in error
    assert "How do I boil" in error
    assert "--resume goes on from checkpoint-1" in error
    assert checkpoints(output) == [1]
    assert all(weight.isfinite().all() for weight in load_file(output / "checkpoint-1/model.safetensors").values())


@pytest.mark.slow
def test_all_processes_stop_where_one_meets_an_infinite_loss(flags, pairs_file, tmp_path):
    """A margin beyond fp32 in a single row: its gradient is finite, and only one process reads it."""
    rows = [json.loads(line) | {"margin": 0.0} for line in pairs_file.read_text().splitlines()]
    trained = [row for row in rows if not is_held_out(row["prompt"])]
    trained[50]["margin"] = 1e39
    data = tmp_path / "eggs.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    output = tmp_path / "model"
    flags = [*flags, *flag_list(data=data, save_steps=1, eval_steps=1, use_margin=True, output=output)]
    assert finish(*start_two("ddp.yaml", flags, tmp_path)) == [2, 2]
    errors = [(tmp_path / f"{rank}.log").read_text().strip().splitlines()[-1] for rank in (0, 1)]
    assert errors[0] == errors[1]
    step, named = re.match(r"error: step (\d): the loss is inf .* The rows: ([\d, ]+) \(counted", errors[0]).groups()
    assert len(named.split(", ")) == 32
    assert "50" in named.split(", ")
    assert checkpoints(output)[-1:] == [int(step) - 1][: int(step) - 1]


@pytest.mark.slow
def test_another_run_is_refused(flags, unbroken, backbone_dir, tmp_path, capsys):
    output = tmp_path / "model"
    shutil.copytree(unbroken / "checkpoint-15", output / "checkpoint-15")
    other = tmp_path / "other-backbone"
    shutil.copytree(backbone_dir, other)
    changed = flag_list(backbone=other, aggregator="mean", boundary="offset", adapter="lora", pad_token="<|pad|>")
    assert main([*flags, *changed, "--resume", "--output", str(output)]) == 2
    message = capsys.readouterr().err
    assert "checkpoint-15 belongs to another run: " in message
    size = json.loads((output / "checkpoint-15" / RUN).read_text())["tokenizer_size"]
    for difference in (
        "backbone is 'other-backbone', the checkpoint has 'tiny-llama'",
        "aggregator is 'mean', the checkpoint has 'attention'",
        "boundary is 'offset', the checkpoint has 'marker'",
        "adapter is 'lora', the checkpoint has 'none'",
        f"tokenizer_size is {size + 1}, the checkpoint has {size}",
    ):
        assert difference in message, message
    assert "segmenter" not in message
    (output / "checkpoint-15" / RUN).unlink()
    with pytest.raises(SentrmError, match=r"holds no run\.json"):
        check_same_run(output / "checkpoint-15", {})


def test_a_checkpoint_without_an_optimizer_is_refused(tmp_path):
    (tmp_path / RUN).write_text('{"seed": 3}')
    with pytest.raises(SentrmError, match=r"no state of the optimizer.*--save_only_model"):
        check_same_run(tmp_path, {"seed": 3})
    (tmp_path / "optimizer_0").mkdir()  # FSDP's, sharded
    assert check_same_run(tmp_path, {"seed": 3}) == {"seed": 3}


def test_other_data_or_another_loss_are_another_run(flags, tokenizer, tmp_path):
    pairs = [PreferencePair("p", "good", "bad"), PreferencePair("q", "yes", "no")]
    flipped = [PreferencePair("p", "bad", "good"), PreferencePair("q", "yes", "no")]
    rows, stream = Dataset.from_dict({"length": [7, 6]}), IterableDataset.from_generator(lambda: iter(()))

    def identity(*more: str, pairs: list[PreferencePair] = pairs, rows: Dataset | IterableDataset = rows) -> dict:
        config = parse([*flags, "--output", str(tmp_path), *more])
        run = run_identity(config, tiny_model().config, tokenizer, rows, pairs if rows is not stream else [])
        assert json.loads(json.dumps(run)) == run
        return run

    def differing(*more: str, **given: object) -> set[str]:
        one, other = identity(*more, **given), identity(**({"rows": stream} if "rows" in given else {}))
        return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}

    assert differing() == set()
    assert content_of(pairs[:1]) != content_of(flipped[:1])
    assert differing(pairs=flipped) == {"data_digest"}
    assert differing("--label_smoothing_factor", "0.1", "--learning_rate", "0.02", "--data_seed", "5", "--bf16") == {
        *("label_smoothing_factor", "learning_rate", "data_seed", "bf16")
    }
    assert differing("--adapter", "lora", "--lora_alpha", "64") == {"adapter", "lora_alpha"}
    assert differing("--streaming", "--data", "other.jsonl", rows=stream) == {"sources"}
    assert differing("--streaming", "--prompt_column", "question", rows=stream) == {"columns"}


def test_the_order_is_a_function_of_seed_and_epoch():
    lengths = [(7 * i) % 50 for i in range(200)]

    def order(seed: int, epoch: int, lengths: list[int] | None = lengths) -> list[int]:
        return list(EpochOrder(200, seed, lambda: epoch, lengths, group=8))

    torch.manual_seed(0)
    first = order(3, 1)
    torch.rand(5)  # dropout
    assert order(3, 1) == first
    assert len({tuple(order(seed, epoch)) for seed in (3, 4) for epoch in (0, 1)}) == 4
    for kind in (first, order(3, 1, None)):
        assert sorted(kind) == list(range(200))
    spread = [max(batch) - min(batch) for batch in batched([lengths[i] for i in first], 8)]
    unsorted = [max(batch) - min(batch) for batch in batched([lengths[i] for i in order(3, 1, None)], 8)]
    assert sum(spread) < sum(unsorted) / 2


def batched(items: list[int], size: int) -> list[list[int]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def test_the_mean_loss_weighs_every_log_by_its_steps():
    logs = [{"loss": 2.0, "step": 10}, {"eval_loss": 9.0, "step": 10}, {"loss": 1.0, "step": 15}, {"step": 15}]
    assert mean_loss(logs) == pytest.approx((2.0 * 10 + 1.0 * 5) / 15)
