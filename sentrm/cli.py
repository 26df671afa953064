"""The command line: `sentrm score FILE`, `sentrm audit DATA`, `sentrm export MODEL`."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from .audit.folder import AuditFolder
from .audit.run import Progress, processes, score_dataset
from .audit.summary import summarise
from .errors import EncodingError, SentrmError
from .export import export_remote_code, export_vllm
from .loading import DTYPES, read_device
from .preferences import MAPPED, PreferencePair, load_preferences
from .results import ScoredPair
from .scoring import Scorer
from .words import counted, percent

CHUNK = 64  # pairs scored, written and counted at a time
MOST_SHOWN = 20  # problems that `audit` prints
DATA = "JSONL, JSON, CSV or Parquet, plain or .gz, or a hub id"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns 0, 2 after an error that the user can mend, or 130 after Ctrl-C, said on stderr in one
    line."""
    args = parser().parse_args(arguments)
    try:
        args.run(args)
    except SentrmError as error:
        print(f"sentrm: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, RuntimeError) as error:
        if isinstance(error, RuntimeError) and str(error) != "Query interrupted":  # how DuckDB says Ctrl-C
            raise
        kept = f"; what was scored stays in {args.output}, the same command goes on" if args.run is audit else ""
        print(f"sentrm: stopped{kept}", file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="sentrm", description="Sentence-level reward models.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "score",
        help="score preference pairs",
        description="Write one JSON line a pair: {id, prompt, a, b, margin, probability, model, segmenter}, where a is "
        "the chosen and b the rejected response.",
    )
    command.set_defaults(run=score)
    add = command.add_argument
    add("file", help=DATA)
    add("--output", metavar="FILE", help="where the lines go (standard output)")
    _add_scoring(command)

    command = commands.add_parser(
        "audit",
        help="score a dataset of any size and say what looks wrong in it",
        description="Score every pair into a folder: Parquet shards of sentence rewards, one table of all pairs, and "
        "summary.json: agreement, calibration, slices, length, style, duplicates and suspects. A run that was stopped "
        "goes on where it was when the same command is given again. Under accelerate launch or torchrun all processes "
        "share the work; on several machines DIR has to be a folder that all of them see.",
        epilog="example: sentrm audit pairs.jsonl --model runs/mine --output audits/mine; on 4 GPUs: accelerate launch "
        "--num_processes 4 -m sentrm.cli audit pairs.jsonl --model runs/mine --output audits/mine",
    )
    command.set_defaults(run=audit)
    command.add_argument("data", metavar="DATA", help=DATA)
    command.add_argument("--output", metavar="DIR", required=True, help="a new folder, or one that this command began")
    command.add_argument(
        "--out-of-fold",
        metavar="FILE",
        help="margins of models trained without the pair, of python -m training.out_of_fold: suspects go by them",
    )
    command.add_argument(
        "--voters", nargs="+", default=[], metavar="MODEL", help="more models to score with: suspects go by votes"
    )
    _add_scoring(command)

    command = commands.add_parser(
        "export",
        help="write a model for vLLM, or for a model hub with its code",
        description="Write a trained model in a form that opens where sentrm is not installed. OUT is a new or empty "
        "folder; it appears when everything is written. Weights keep the dtype they were saved in.",
        epilog="example: sentrm export runs/mine --vllm runs/mine-vllm",
    )
    command.set_defaults(run=export)
    command.add_argument("model", metavar="MODEL", help="local folder or hub id of a sentence reward model")
    add = command.add_mutually_exclusive_group(required=True).add_argument
    add(
        "--vllm",
        metavar="OUT",
        help="a *ForTokenClassification checkpoint of one label, whose logit at a boundary is the model's value; its "
        "README.md says how to serve it and how values become sentence rewards and a score",
    )
    add(
        "--remote-code",
        metavar="OUT",
        help="the whole model with the code that runs it, model card and metrics: what AutoModel.from_pretrained(OUT, "
        "trust_remote_code=True) opens",
    )
    return top


def _add_scoring(command: argparse.ArgumentParser) -> None:
    """What says which data are scored, and by what."""
    add = command.add_argument
    add("--model", required=True, help="local folder or hub id of a sentence reward model")
    add("--split", default="train", help="split of a hub data set (%(default)s)")
    add("--strict", action="store_true", help="stop at the first bad row instead of reporting it")
    add("--segmenter", metavar="SPEC", help="rules, sat:sat-3l@0.2, … instead of the one the model was trained with")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (%(default)s)")
    add("--dtype", default="auto", help=f"auto, {', '.join(DTYPES)} (%(default)s)")
    add("--max-length", type=int, metavar="TOKENS", help="most tokens a sequence may take (the model's own limit)")
    columns = command.add_argument_group(
        "columns of other names", "where a field stands under another name than its own"
    )
    for field in MAPPED:
        columns.add_argument(f"--{field.replace('_', '-')}-column", metavar="NAME")


def score(args: argparse.Namespace) -> None:
    data = load_preferences(args.file, columns=_columns(args), split=args.split, strict=args.strict)
    for problem in data.problems:
        print(f"row {problem.row} left out: {problem.reason}", file=sys.stderr)
    scorer = _open(args, args.model, args.device)
    written = dropped = cut = 0
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(Path(args.output).open("w", encoding="utf-8")) if args.output else sys.stdout
        except OSError as error:
            raise SentrmError(f"cannot write {args.output}: {error}. Choose another --output.") from error
        for pair in _score(scorer, data.pairs, args.strict):
            stream.write(json.dumps(pair.to_dict()) + "\n")
            written += 1
            dropped += pair.a.dropped_sentences + pair.b.dropped_sentences > 0
            cut += pair.a.cut_prompt_tokens + pair.b.cut_prompt_tokens > 0
    left_out = len(data.problems) + len(data.pairs) - written
    print(
        f"{written} pairs scored, {left_out} left out; {dropped} lost sentences that did not fit, "
        f"{cut} had a cut prompt",
        file=sys.stderr,
    )


def audit(args: argparse.Namespace) -> None:
    group = processes(read_device(args.device).type == "cpu")
    out = _score_all(args, args.model, Path(args.output))
    voters = [
        _score_all(args, model, out / "voters" / f"{number}-{Path(model).name}")
        for number, model in enumerate(args.voters, start=1)
    ]
    if not group.is_main_process:
        return
    with contextlib.closing(AuditFolder.open(out)) as folder:
        problems = folder.problems()
    for problem in problems[:MOST_SHOWN]:
        print(f"row {problem.row} left out: {problem.reason}", file=sys.stderr)
    if len(problems) > MOST_SHOWN:
        print(f"and {len(problems) - MOST_SHOWN} more, which the folder lists", file=sys.stderr)
    print("looking for suspects and duplicates …", file=sys.stderr)
    found = summarise(out, out_of_fold=args.out_of_fold, voters=voters)
    print(
        f"{found['pairs']} pairs scored, {len(problems)} left out; {found['truncated']} did not fit whole: {out}",
        file=sys.stderr,
    )
    agreement, twice = found["agreement"], found["duplicates"]
    if agreement["value"] is not None:
        ends = "" if agreement["low"] is None else f" ({percent(agreement['low'])} to {percent(agreement['high'])})"
        print(f"the model agrees with {percent(agreement['value'])}{ends} of the labels", file=sys.stderr)
    print(
        f"{counted(found['suspects']['suspects'], 'suspect')} by {found['suspects']['by'].replace('_', ' ')}; "
        f"{counted(twice['exact'], 'duplicate')}, {twice['contradicts']} in contradiction, {twice['identical']} with "
        f"the same response twice, {twice['empty']} with an empty one",
        file=sys.stderr,
    )


def _score_all(args: argparse.Namespace, model: str, output: Path) -> Path:
    """The audit folder of one model."""
    group = processes(read_device(args.device).type == "cpu")
    scorer = _open(args, model, str(group.device) if args.device == "auto" else args.device)
    with tqdm(unit="row", file=sys.stderr, disable=not group.is_main_process) as bar:

        def show(progress: Progress) -> None:
            bar.total, bar.initial = progress.total, progress.found
            bar.update(progress.rows - bar.n)

        told = show if group.is_main_process else None
        columns = _columns(args)
        return score_dataset(
            args.data, scorer, output, columns=columns, split=args.split, strict=args.strict, progress=told
        )


def export(args: argparse.Namespace) -> None:
    if args.vllm:
        for limit in export_vllm(args.model, args.vllm):
            print(f"note: {limit}", file=sys.stderr)
    else:
        export_remote_code(args.model, args.remote_code)
    out = Path(args.vllm or args.remote_code)
    print(f"{out}: {', '.join(sorted(file.name for file in out.iterdir()))}")


def _columns(args: argparse.Namespace) -> dict[str, str | None]:
    return {field: getattr(args, f"{field}_column") for field in MAPPED}


def _open(args: argparse.Namespace, model: str, device: str) -> Scorer:
    return Scorer.from_pretrained(
        model, segmenter=args.segmenter, device=device, dtype=args.dtype, max_length=args.max_length
    )


def _score(scorer: Scorer, pairs: list[PreferencePair], strict: bool) -> Iterator[ScoredPair]:
    """Score chunk by chunk; a pair that cannot be encoded is reported and left out, or raised if `strict`."""
    with tqdm(total=len(pairs), unit="pair", file=sys.stderr) as bar:
        for start in range(0, len(pairs), CHUNK):
            chunk = pairs[start : start + CHUNK]
            for one in scorer.score(chunk) if strict else scorer.score_fitting(chunk):
                if isinstance(one, EncodingError):
                    bar.write(f"left out: {one}", file=sys.stderr)
                else:
                    yield one
            bar.update(len(chunk))


if __name__ == "__main__":
    sys.exit(main())
