"""The same recipe over variants, aggregators and seeds: python -m training.sweep --recipe … --variants … --output …

Every run is a process of its own, `python -m training.train`, in a folder of its own, <variant>-<aggregator>-seed<k>:

    sweep.json    the flags it was started with; a folder of other flags is refused
    train.log     what it printed
    metrics.json  written last, so where it is, the run is finished

A run that has a checkpoint but no metrics.json goes on with --resume. So the same command, given again, does what is
missing and nothing else. The runs share one cache of segmented and tokenised data, data/.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers.trainer_utils import get_last_checkpoint

from sentrm.errors import SentrmError
from sentrm.words import counted

from .config import parse
from .storage import written_aside
from .sweep_results import Row, caption, cells, held_out_differences, print_results, summarise

RECORD, LOG, METRICS = "sweep.json", "train.log", "metrics.json"
PROMPT = "$ python "  # in the log, before each command
ELSEWHERE = ("output_dir", "cache_dir", "resume", "encoding_processes")  # where a run stands, not what it computes


@dataclass(frozen=True)
class Run:
    variant: str  # a row of the table
    seed: int
    folder: Path
    arguments: tuple[str, ...]  # of training.train, without --resume
    config: dict[str, Any]  # all flags, as JSON

    @property
    def name(self) -> str:
        return self.folder.name


# What is run


def plan(options: argparse.Namespace, flags: Sequence[str]) -> list[Run]:
    """The runs, seed by seed, so that variants can be compared when the first seed is done.

    Args:
        options: of `parser`.
        flags: those of training.train that all runs share.

    Raises:
        SentrmError: if a flag is the sweep's own to set, a name is used twice or is no name, or training.train would
            refuse the flags.
    """
    own = {"--seed": "Use --seeds.", "--resume": "A sweep goes on by itself."}
    variants: list[tuple[list[str], list[str], str | None]] = [([], [], None)]  # name's parts, recipes, aggregator
    if options.variants:
        variants = []
        for entry in options.variants:
            name, equals, file = entry.partition("=")
            if not re.fullmatch(r"[\w.-]+", name) or not equals:
                raise SentrmError(f"--variants is {entry!r}; expected NAME=FILE.yaml, NAME of letters, digits, . _ -")
            variants.append(([name], [file] if file else [], None))
            try:
                flags_of_file = yaml.safe_load(Path(file).read_text()) if file else {}
                own |= {f"--{flag}": f"It would undo that of {file}." for flag in flags_of_file}
            except (OSError, yaml.YAMLError, TypeError) as error:
                raise SentrmError(f"cannot read the variant {entry}: {error}") from error
    if options.aggregators:
        own["--aggregator"] = "Use --aggregators."
    for flag in flags:
        if (name := flag.partition("=")[0]) in own:
            raise SentrmError(f"{name} cannot be given to all runs. {own[name]}")
    if options.aggregators:
        variants = [([*names, one], files, one) for names, files, _ in variants for one in options.aggregators]
    runs = []
    for seed in options.seeds:
        for names, files, aggregator in variants:
            variant = "-".join(names) or "recipe"
            folder = Path(options.output) / f"{variant}-seed{seed}"
            recipes = [*options.recipe, *files]
            arguments = ["--recipe", *recipes] if recipes else []
            arguments += [*flags, "--seed", str(seed), "--output_dir", str(folder)]
            arguments += [] if aggregator is None else ["--aggregator", aggregator]
            config = parse(arguments)
            if config.cache_dir is None:
                arguments += ["--cache_dir", str(Path(options.output) / "data")]
            everything = json.loads(json.dumps(config.to_dict()))
            kept = {name: value for name, value in everything.items() if name not in ELSEWHERE}
            runs.append(Run(variant, seed, folder, tuple(arguments), kept))
    names = [run.name for run in runs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SentrmError(f"two runs would be called {', '.join(twice)}. Name variants, aggregators and seeds once.")
    return runs


def is_finished(run: Run) -> bool:
    """Whether the run is done.

    Raises:
        SentrmError: if its folder holds another run.
    """
    begun = (run.folder / METRICS).is_file() or (run.folder.is_dir() and get_last_checkpoint(run.folder) is not None)
    if not begun:
        return False
    if not (run.folder / RECORD).is_file():
        raise SentrmError(
            f"{run.folder} holds a run that no sweep began: it has no {RECORD}. Move it away, or choose another "
            "--output."
        )
    stored = json.loads((run.folder / RECORD).read_text())["config"]
    differing = [
        f"{name} is {value!r}, the run there has {stored[name]!r}"
        for name, value in run.config.items()
        if name in stored and value != stored[name]
    ]
    if differing:
        raise SentrmError(
            f"{run.folder} holds another run: {'; '.join(differing)}. Pass the flags and recipes that it was begun "
            "with, or choose another --output."
        )
    return (run.folder / METRICS).is_file()


@contextmanager
def locked(output: Path) -> Iterator[int]:
    """Hold the folder's lock, a file descriptor; it is held on by the runs that inherit it, should the sweep die first.

    Raises:
        SentrmError: if another sweep, or a run that it left behind, holds it.
    """
    output.mkdir(parents=True, exist_ok=True)
    with (output / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SentrmError(
                f"a sweep is at work in {output}, or a run that it left behind. Wait for it, end it, or choose another "
                "--output."
            ) from None
        yield file.fileno()


def run_all(runs: Sequence[Run], jobs: int, lock: int) -> Iterator[tuple[Run, str]]:
    """Run them, `jobs` at once; when one ends, yield it with what went wrong, "" if nothing did.

    Args:
        lock: a file descriptor that the processes inherit.
    """
    devices = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    waiting, running = list(runs), dict[int, tuple[Run, subprocess.Popen[bytes]]]()
    try:
        while waiting or running:
            for slot in range(jobs):
                if slot not in running and waiting:
                    environment = dict(os.environ)
                    if jobs > 1 and devices:
                        environment["CUDA_VISIBLE_DEVICES"] = devices.split(",")[slot % len(devices.split(","))]
                    running[slot] = (waiting[0], start(waiting.pop(0), environment, lock))
            time.sleep(0.2)
            for slot, (run, process) in list(running.items()):
                if (code := process.poll()) is None:
                    continue
                del running[slot]
                yield run, f"exit code {code}: {last_words(run.folder / LOG)}" if code else ""
    finally:
        for _, process in running.values():
            process.terminate()
            process.wait()


def start(run: Run, environment: dict[str, str], lock: int) -> subprocess.Popen[bytes]:
    """The run's process, which goes on from the last checkpoint where there is one."""
    run.folder.mkdir(parents=True, exist_ok=True)
    last = get_last_checkpoint(run.folder)
    command = ["-m", "training.train", *run.arguments, *([] if last is None else ["--resume"])]
    print(f"{run.name}: {'starts' if last is None else f'goes on from {Path(last).name}'}", flush=True)
    if last is None:
        (run.folder / RECORD).write_text(json.dumps({"command": command, "config": run.config}, indent=1) + "\n")
    with (run.folder / LOG).open("a") as log:
        log.write(f"{PROMPT}{shlex.join(command)}\n")
        log.flush()
        return subprocess.Popen(
            [sys.executable, "-u", *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            pass_fds=[lock],
        )


def last_words(log: Path) -> str:
    """The error that ended the last of the processes that printed into `log`, or its last line."""
    lines = log.read_text(errors="replace").rpartition(PROMPT)[2].splitlines()[1:]
    lines = [line.strip() for line in lines if line.strip()] or ["it printed nothing"]
    errors = [i for i, line in enumerate(lines) if line.startswith("error: ")]
    return " ".join(lines[errors[-1] if errors else -1 :]).removeprefix("error: ")


def write_results(
    output: Path, runs: Sequence[Run], failed: Mapping[str, str], command: str
) -> tuple[list[Row], list[str]]:
    """Write results.json and results.md of the finished runs, nothing where there is none; their rows and caption."""
    finished: dict[str, dict[int, Any]] = {run.variant: {} for run in runs}
    for run in runs:
        if (run.folder / METRICS).is_file():
            finished[run.variant][run.seed] = json.loads((run.folder / METRICS).read_text())
    rows, differences = summarise(finished), held_out_differences(finished)
    if not rows:
        return [], []
    notes = caption(rows, sorted({run.seed for run in runs}), differences, command)
    if failed:
        notes.append("Failed: " + "; ".join(f"{name} ({reason})" for name, reason in failed.items()))
    everything = {
        "command": command,
        "rows": [asdict(row) for row in rows],
        "held_out_differences": differences,
        "failed": dict(failed),
        "missing": [run.name for run in runs if run.seed not in finished[run.variant]],
    }
    header, *lines = cells(rows)
    table = [header, ["---", "---", *(["--:"] * (len(header) - 2))], *lines]
    with written_aside(output, 1_000_000) as aside:
        (aside / "results.json").write_text(json.dumps(everything, indent=1) + "\n")
        text = [f"# {output.resolve().name}", "", *(f"| {' | '.join(line)} |" for line in table), ""]
        (aside / "results.md").write_text("\n".join([*text, *(f"{note}\n" for note in notes)]))
    return rows, notes


# The command


def parser() -> argparse.ArgumentParser:
    one = argparse.ArgumentParser(
        prog="python -m training.sweep",
        description="Train one recipe as several variants, with several aggregators and seeds, each run a process of "
        "its own, and write one table of results. Given again, the same command does what is missing.",
        epilog="Every other flag goes to all runs; python -m training.train --help lists them.",
        allow_abbrev=False,
    )
    one.add_argument("--recipe", nargs="+", default=[], metavar="FILE", help="YAML files of flags; later ones win.")
    one.add_argument(
        "--variants",
        nargs="+",
        metavar="NAME=FILE",
        help="Recipes that are laid over --recipe, one at a time, e.g. response=training/baselines/response.yaml. The "
        "first is what the others are compared with; NAME= is the recipe as it is.",
    )
    one.add_argument(
        "--aggregators", nargs="+", metavar="NAME", help="Aggregators, each tried with every variant; the first leads."
    )
    one.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="N", help="Default: 1 2 3.")
    one.add_argument(
        "--output", "--output_dir", required=True, metavar="FOLDER", help="Folder of all runs and of the results."
    )
    one.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="Runs at once (default 1), each on one GPU, in turn. On one device they share its memory, and minutes "
        "and tokens a second say little.",
    )
    return one


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    options, flags = parser().parse_known_args(arguments)
    output, command = Path(options.output), "python -m training.sweep " + shlex.join(arguments)
    failed: dict[str, str] = {}
    try:
        if options.jobs < 1:
            raise SentrmError(f"--jobs is {options.jobs}; expected at least 1.")
        runs = plan(options, flags)
        with locked(output) as lock:
            missing = [run for run in runs if not is_finished(run)]
            print(f"{counted(len(runs), 'run')}, {len(runs) - len(missing)} finished before", flush=True)
            print(f"each prints into {output}/RUN/{LOG}", flush=True)
            for i, (run, problem) in enumerate(run_all(missing, options.jobs, lock), 1):
                if problem:
                    failed[run.name] = problem
                print(f"{i}/{len(missing)} {run.name}: {problem or 'finished'}", flush=True)
                write_results(output, runs, failed, command)
            rows, notes = write_results(output, runs, failed, command)
    except (SentrmError, OSError) as error:  # what is finished stays; the same command goes on
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    if rows:
        print_results(rows, notes)
        print(f"{output / 'results.md'}, {output / 'results.json'}")
    for name, problem in failed.items():
        print(f"error: {name}: {problem}. See {output / name / LOG}; the same command tries again.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the runs too
    sys.exit(main())
