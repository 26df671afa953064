"""Measure a model on a benchmark: python -m training.evaluate MODEL --benchmark NAME [--data FILE …]

One run gives one result, a dict of JSON: tables on stdout, and with --json and --html also files. What is in it:
`training.benchmarks.task.ranked` for preferences, `training.benchmarks.sentences` for labelled sentences; here it gets
what it takes to run it again: model, data, seed, command, commit and versions.

--held_out takes the prompts whose text, as it stands in this file, hashes into the held-out tenth, by which training
leaves prompts out too. A file that writes the same prompts in another form (a transcript up to the last turn against a
prompt column) has other texts and so other hashes: what is held out in one need not be in the other.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import huggingface_hub

from sentrm.batching import STRATEGIES
from sentrm.errors import PreferenceDataError, SentrmError
from sentrm.loading import DTYPES
from sentrm.readers import records
from sentrm.scoring import Scorer

from .benchmarks import BENCHMARKS, HUBS
from .benchmarks.task import Options
from .evaluation_report import html_page, print_result
from .report import versions

HELD_OUT = (
    "only prompts whose text in this file hashes into the held-out tenth, as training leaves them out; a file that "
    "writes the same prompts in another form (transcripts against a prompt column) hashes differently"
)
LIMIT = "at most so many items (corruptions: good responses; sentences: rows), whole prompts drawn by the seed"


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description="Measure a model on a benchmark, with bootstrap intervals over prompts.",
        epilog="example: python -m training.evaluate assets/demo-model --benchmark pairs --data mine.jsonl --json -",
    )
    add = top.add_argument
    add("model", metavar="MODEL", help="local folder or hub id of a sentence reward model")
    add("--benchmark", required=True, metavar="NAME", help=", ".join(BENCHMARKS))
    add("--data", nargs="+", default=[], metavar="FILE", help="instead of the benchmark's own data on the hub")
    add("--split", help="of a hub data set (the benchmark's own)")
    add("--held_out", action="store_true", help=HELD_OUT)
    add("--limit", type=int, metavar="N", help=LIMIT)
    add("--seed", type=int, default=0, help="of everything drawn (%(default)s)")
    add("--draws", type=int, default=1000, metavar="N", help="bootstrap samples (%(default)s)")
    add("--segmenter", metavar="SPEC", help="rules, sat:sat-3l@0.2, … instead of the one the model was trained with")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (%(default)s)")
    add("--dtype", default="auto", help=f"auto, {', '.join(DTYPES)} (%(default)s)")
    add("--batching", default="shared", help=f"{', '.join(STRATEGIES)} (%(default)s); scores are the same")
    add("--batch_tokens", type=int, metavar="N", help="of one forward pass (by device); scores are the same")
    add("--max_length", type=int, metavar="N", help="most tokens a sequence may take (the model's own limit)")
    add("--json", metavar="FILE", help="where the result goes; - for one JSON object as the last line of stdout")
    add("--html", metavar="FILE", help="where a page of tables and charts goes")
    return top


def evaluate(args: argparse.Namespace, command: str) -> dict[str, Any]:
    """The result of a run; `command` is what gives it again.

    Raises:
        SentrmError: for an unknown benchmark, numbers out of range, and whatever data or model cannot be read.
    """
    if args.benchmark not in BENCHMARKS:
        raise SentrmError(f"there is no benchmark {args.benchmark!r}; expected one of {', '.join(BENCHMARKS)}.")
    for name, least in {"limit": 1, "draws": 1, "batch_tokens": 1, "seed": 0}.items():
        if vars(args)[name] is not None and vars(args)[name] < least:
            raise SentrmError(f"--{name} is {vars(args)[name]}; expected at least {least}.")
    data = [source_facts(source, args.split) for source in args.data]  # a missing file shows before the model is loaded
    start = time.perf_counter()
    scorer = Scorer.from_pretrained(
        args.model,
        segmenter=args.segmenter,
        device=args.device,
        dtype=args.dtype,
        max_length=args.max_length,
        batching=args.batching,
    )
    if args.batch_tokens is not None:
        scorer.batch_tokens = args.batch_tokens
    options = Options(tuple(args.data), args.split, args.held_out, args.limit, args.seed, args.draws)
    result = BENCHMARKS[args.benchmark](scorer, options)
    model, segmenter = scorer.model_info, scorer.segmenter_info
    return {
        "benchmark": args.benchmark,
        "model": {"name": model.name, "revision": model.revision, "aggregator": model.aggregator},
        "segmenter": {"spec": segmenter.spec, "revision": segmenter.revision, "own": segmenter.own},
        "data": data or [hub_facts(HUBS[args.benchmark], args.split)],
        "seed": args.seed,
        "limit": args.limit,
        "held_out": args.held_out,
        "draws": args.draws,
        "command": command,
        "commit": commit(),
        "date": date.today().isoformat(),
        "versions": versions() | {name: version(name) for name in ("numpy", "statsmodels")},
        "seconds": time.perf_counter() - start,
        **result,
    }


def source_facts(source: str, split: str | None) -> dict[str, Any]:
    """Path and digest of a file or of all files in a folder, and of a file of JSON lines how many it has; a hub id
    with its split and revision.

    Raises:
        PreferenceDataError: if there is no such source, or it cannot be read.
    """
    records(source, split or "train")  # raises; the rows are the benchmark's to read
    path = Path(source)
    if not path.exists():
        return hub_facts(source, split)
    rows = None
    try:
        digests = []
        for one in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if one.is_file():
                with one.open("rb") as file:
                    digests.append(hashlib.file_digest(file, "sha256"))
        whole = hashlib.sha256(b"".join(one.digest() for one in digests)) if path.is_dir() else digests[0]
        if path.is_file() and ".jsonl" in path.suffixes[-2:]:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
                rows = sum(1 for line in lines if line.strip())
    except (OSError, EOFError, zlib.error) as error:
        raise PreferenceDataError(f"cannot read {source}: {error}. Check that the file is whole.") from error
    return {"path": source, "sha256": whole.hexdigest(), "rows": rows}


def hub_facts(hub: str, split: str | None) -> dict[str, Any]:
    """A hub data set, its split, and its revision now; None where the hub cannot be asked."""
    try:
        revision = huggingface_hub.dataset_info(hub, timeout=10).sha
    except Exception:  # the hub's client and its network stack share no base class
        revision = None
    return {"hub": hub, "split": split, "revision": revision}


def commit() -> str | None:
    """The commit that runs, ending in -dirty where tracked files differ from it; None outside a checkout."""
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"]
    try:
        found = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    except OSError:
        return None
    return found.stdout.strip() or None


def write(text: str, file: Path) -> None:
    """Write a file that is whole or not there."""
    aside = file.with_name(f"{file.name}.partial")
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, file)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise SentrmError(f"cannot write {file}: {error}. Choose another place.") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0, or 2 after an error that the user can mend, said on stderr in one line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    args = parser().parse_args(arguments)
    files = [Path(file) for file in (args.json, args.html) if file not in (None, "-")]
    try:
        for file in files:
            if not file.parent.is_dir() or file.is_dir():
                raise SentrmError(f"cannot write {file}: expected a file in a folder that exists.")
        result = evaluate(args, "python -m training.evaluate " + shlex.join(arguments))
        line = json.dumps(result, allow_nan=False)
        if args.html is not None:
            write(html_page(result), Path(args.html))
        if args.json not in (None, "-"):
            write(line + "\n", Path(args.json))
    except SentrmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print_result(result)
    if args.json == "-":
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
