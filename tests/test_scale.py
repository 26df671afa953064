"""Two processes train as one does with twice the batch, on the CPU over gloo: DDP, and PyTorch's FSDP2."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import DeepSpeedPlugin, DistributedType, FullyShardedDataParallelPlugin
from processes import ROOT, finish, flag_list, launched, log_history, start, start_two
from safetensors.torch import load_file

from sentrm.scoring import Scorer
from training.data import is_held_out

CONFIGS = ROOT / "training/accelerate"


@pytest.fixture(scope="module")
def flags(backbone_dir: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two epochs of 104 rows, grouped by length: 13 batches of 8, or of 2 · 4; two a step but for an epoch's last."""
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    held_out = [row for row in rows if is_held_out(row["prompt"])]
    trained = [row for row in rows if not is_held_out(row["prompt"])]
    data = tmp_path_factory.mktemp("data") / "eggs.jsonl"
    data.write_text("\n".join(map(json.dumps, [*trained[:104], *held_out, {"prompt": "without responses"}])))
    return flag_list(
        backbone=backbone_dir,
        data=data,
        segmenter="rules",
        max_length=128,
        seed=3,
        batching="padded",
        gradient_accumulation_steps=2,
        learning_rate=0.01,
        num_train_epochs=2,
        logging_steps=1,
        save_steps=8,
        eval_strategy="steps",
        eval_steps=8,
        per_device_eval_batch_size=4,
        disable_tqdm=True,
    )


@pytest.fixture(scope="module")
def alone(flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("alone") / "model"
    log = output.with_suffix(".log")
    process = start([*flags, "--per_device_train_batch_size", "8", "--output", str(output)], log)
    assert finish(process) == [0], log.read_text()[-3000:]
    return output


def test_the_files_are_what_accelerate_reads():
    """Its loader refuses unknown keys of the file; those of the nested parts are flags of its launcher."""
    launcher = vars(launch_command_parser().parse_args(["train.py"]))
    kinds = {"ddp": DistributedType.MULTI_GPU, "fsdp2": DistributedType.FSDP, "zero3": DistributedType.DEEPSPEED}
    assert {file.stem for file in CONFIGS.glob("*.yaml")} == set(kinds)
    for name, kind in kinds.items():
        config = load_config_from_file(str(CONFIGS / f"{name}.yaml"))
        assert config.distributed_type == kind
        assert set(config.fsdp_config) | set(config.deepspeed_config) <= set(launcher), name
    fields = FullyShardedDataParallelPlugin.__dataclass_fields__
    renamed = {"offload_params": "cpu_offload", "fsdp_version": "fsdp_version"}
    for key in load_config_from_file(str(CONFIGS / "fsdp2.yaml")).fsdp_config:
        name = key.removeprefix("fsdp_") if key != "fsdp_version" else key
        assert renamed.get(name, name) in fields, key
    for key in load_config_from_file(str(CONFIGS / "zero3.yaml")).deepspeed_config:
        assert key in DeepSpeedPlugin.__dataclass_fields__ or key in launcher, key


def assert_the_same_run(output: Path, alone: Path) -> None:
    ours, theirs = log_history(output), log_history(alone)
    assert [log["step"] for log in ours] == [log["step"] for log in theirs]
    assert len([log for log in ours if "loss" in log]) == 14
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            if name == "padding_share":  # a smaller batch has shorter rows
                continue
            assert value == pytest.approx(other[name], abs=1e-4, rel=1e-4), (name, one["step"])
    together, single = (load_file(folder / "model.safetensors") for folder in (output, alone))
    assert together.keys() == single.keys()
    for name, weight in single.items():
        torch.testing.assert_close(together[name], weight, rtol=0, atol=1e-4)
    response = [("How do I boil 3 eggs?", "Boil it for nine minutes. What a silly question!")]
    (a,), (b,) = (Scorer.from_pretrained(folder).score(response) for folder in (output, alone))
    assert a.rewards == pytest.approx(b.rewards, abs=1e-4)
    a, b = (json.loads((folder / "metrics.json").read_text())["held_out"]["model"]["all"] for folder in (output, alone))
    assert a == pytest.approx(b, abs=1e-4)
    assert {file.name for file in output.iterdir()} == {file.name for file in alone.iterdir()}


@pytest.mark.slow
def test_accelerate_launch_starts_the_processes_of_these_tests():
    """It needs a while to start, so the tests start theirs themselves, in the environment that it gives."""
    launch = ["accelerate", "launch", "--config_file", CONFIGS / "fsdp2.yaml", "--num_processes", "2", "--no_python"]
    command = [str(Path(sys.executable).parent / launch[0]), *map(str, launch[1:]), "env"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-3000:]
    for environment in launched("fsdp2.yaml"):
        rank = f"RANK={environment.pop('RANK')}"
        assert rank in run.stdout.splitlines()
        del environment["MASTER_PORT"], environment["MASTER_ADDR"]
        assert {f"{name}={value}" for name, value in environment.items()} <= set(run.stdout.splitlines())


@pytest.mark.slow
def test_shards_compute_in_bf16_what_a_whole_model_does(flags, tmp_path):
    """The backbone alone is in bf16. A head in bf16, or a backbone in fp32, is ten times as far away."""
    flags = [*flags, *flag_list(bf16=True, max_steps=1, save_steps=1)]
    one = [*flags, *flag_list(per_device_train_batch_size=8, output=tmp_path / "one")]
    assert finish(start(one, tmp_path / "log")) == [0], (tmp_path / "log").read_text()[-3000:]
    two = [*flags, *flag_list(per_device_train_batch_size=4, output=tmp_path / "two")]
    assert finish(*start_two("fsdp2.yaml", two, tmp_path)) == [0, 0], (tmp_path / "0.log").read_text()[-3000:]
    logs = [log_history(tmp_path / name)[0] for name in ("one", "two")]
    for name in ("loss", "margin", "reward"):
        assert logs[0][name] == pytest.approx(logs[1][name], abs=2e-5), name


@pytest.mark.slow
@pytest.mark.parametrize("config_file", ["ddp.yaml", "fsdp2.yaml"])
def test_two_processes_are_one_with_twice_the_batch(config_file, flags, alone, tmp_path):
    output = tmp_path / "model"
    two = [*flags, "--per_device_train_batch_size", "4", "--output", str(output)]
    codes = finish(*start_two(config_file, two, tmp_path))
    main_log, other_log = ((tmp_path / f"{rank}.log").read_text() for rank in (0, 1))
    assert codes == [0, 0], main_log[-3000:]
    for word in ("'loss'", "'eval_loss'", "segmenting and encoding", "left out: has no 'chosen'"):
        assert word in main_log
        assert word not in other_log
    sharded = list(output.glob("checkpoint-*/pytorch_model_fsdp.bin"))
    assert len(sharded) == (2 if config_file == "fsdp2.yaml" else 0)
    assert_the_same_run(output, alone)

    resumed = tmp_path / "resumed" / "model"  # from the middle of the second epoch
    shutil.copytree(output / "checkpoint-8", resumed / "checkpoint-8")
    codes = finish(*start_two(config_file, [*two, "--output", str(resumed), "--resume"], resumed.parent))
    assert codes == [0, 0], (resumed.parent / "0.log").read_text()[-3000:]
    assert_the_same_run(resumed, alone)
