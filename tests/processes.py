"""Training runs in processes of their own: to be killed, or to form a group of two."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_multi_gpu_env

ROOT = Path(__file__).parents[1]
server = multiprocessing.get_context("forkserver")  # imports once, then forks: a process starts in no time
server.set_forkserver_preload(["training.train", "transformers.models.llama.modeling_llama", "torch.distributed.fsdp"])


def flag_list(**flags: object) -> list[str]:
    return [part for name, value in flags.items() for part in (f"--{name}", str(value))]


def start(flags: list[str], log: Path, environment: dict[str, str] | None = None) -> ForkServerProcess:
    """`python -m training.train` in a new process that prints into `log`."""
    process = server.Process(target=_run, args=(flags, str(log), environment or {}))
    process.start()
    return process


def start_two(config_file: str, flags: list[str], folder: Path) -> list[ForkServerProcess]:
    """What `accelerate launch --config_file … --num_processes 2 -m training.train …` starts, each printing into
    folder/0.log and folder/1.log."""
    folder.mkdir(exist_ok=True, parents=True)
    environments = enumerate(launched(config_file))
    return [start(flags, folder / f"{rank}.log", environment) for rank, environment in environments]


def launched(config_file: str) -> list[dict[str, str]]:
    """The environments that `accelerate launch` gives its two processes, as far as they differ from ours."""
    command = ["--config_file", str(ROOT / "training/accelerate" / config_file), "--num_processes", "2", "train.py"]
    args, *_ = _validate_launch_command(launch_command_parser().parse_args(command))
    theirs = prepare_multi_gpu_env(args)
    changed = {name: value for name, value in theirs.items() if os.environ.get(name) != value}
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": args.master_port}
    return [changed | group | {"RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1")]


def when(process: ForkServerProcess, moment: Callable[[], object]) -> None:
    """Wait for the moment and leave the process stopped in it: it stands still while we look."""
    deadline = time.time() + 60
    while True:
        assert process.is_alive(), "it ended before the moment came"
        assert time.time() < deadline, "the moment did not come"
        os.kill(process.pid, signal.SIGSTOP)
        if moment():
            return
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.002)


def finish(*processes: ForkServerProcess) -> list[int | None]:
    """Exit codes; a process that takes more than a minute is killed."""
    for process in processes:
        process.join(60)
        process.kill()
        process.join()
    return [process.exitcode for process in processes]


def _run(flags: list[str], log: str, environment: dict[str, str]) -> None:
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.environ.update(environment)
    import torch

    from training.train import main

    torch.set_num_threads(1)
    if "ACCELERATE_USE_FSDP" in environment:
        _shard_on_cpu()
    code = main(flags)
    sys.stdout.flush()
    sys.exit(code)


def _shard_on_cpu() -> None:
    """accelerate shards on accelerators alone and ignores FSDP on a CPU; PyTorch's fully_shard runs there too. So the
    group of CPU processes is declared to be one of a kind that accelerate shards."""
    original = AcceleratorState.__init__

    def declared(self: AcceleratorState, *args: object, **kwargs: object) -> None:
        if "fsdp_plugin" not in AcceleratorState._shared_state:
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_XPU
        original(self, *args, **kwargs)

    AcceleratorState.__init__ = declared


def log_history(output: Path) -> list[dict[str, float]]:
    """What the Trainer logged up to the last checkpoint, without timings."""
    last = max(output.glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    logs = json.loads((last / "trainer_state.json").read_text())["log_history"]
    timings = ("runtime", "per_second")  # also tokens_per_second
    return [{name: value for name, value in log.items() if not name.endswith(timings)} for log in logs]
