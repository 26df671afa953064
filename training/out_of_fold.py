"""Margins of models that were trained without the pair: python -m training.out_of_fold --folds 5 --recipe … --output …

A wrong label that a model was trained on is a label it has learnt. So the prompts are dealt into folds, a model is
trained on all folds but one and scores the pairs of that one: `sentrm audit DATA --out-of-fold OUTPUT/margins.jsonl`
ranks labels by these margins. All flags but --folds and --dtype are those of training.train; the data is what the
recipe or --data names. A fold that has been scored is not trained again; an output folder whose folds were asked of
other data, labels or flags is refused.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sentrm.audit.folder import pair_id
from sentrm.errors import EncodingError, SentrmError
from sentrm.preferences import SIDES, PreferencePair, load_preferences
from sentrm.scoring import Scorer

from .config import TrainConfig, parse
from .evaluate import write
from .rows import content_of
from .sweep import ELSEWHERE

MARGINS = "margins.jsonl"
COLUMNS = [part for name in ("prompt", *SIDES) for part in (f"--{name}_column", name)]  # of the rows of a fold
ASKED = "asked.json"  # in the output folder: `asked_of` its folds


def fold_of(key: str, folds: int) -> int:
    """The fold of a prompt: a property of its text, and not the hash that holds prompts out of training."""
    return int(hashlib.sha256(f"fold {key}".encode("utf-8", "surrogatepass")).hexdigest(), 16) % folds


def read_pairs(config: TrainConfig) -> list[PreferencePair]:
    """All pairs of the data with a preferred response.

    Raises:
        SentrmError: for data that cannot be read, pre-tokenised pairs, or a source that is changed on the way.
    """
    found: list[PreferencePair] = []
    for source in config.sources:
        if source.corrupted or source.pairs is not None or source.weight is not None:
            raise SentrmError(f"{source.path}: corrupted, pairs and weight are for a mixture; leave them out here.")
        data = load_preferences(
            source.found_in(config.data_folder), columns=config.columns, split=source.split, strict=config.strict
        )
        for problem in data.problems[:5]:
            print(f"{source.path}: row {problem.row} left out: {problem.reason}")
        found += data.pairs
    if any(pair.tokens is not None for pair in found):
        raise SentrmError("the pairs are pre-tokenised; expected text.")
    return [pair for pair in found if pair.probability != 0.5]


def write_rows(file: Path, pairs: Iterable[PreferencePair]) -> None:
    """The pairs as lines that `load_preferences` reads back."""
    with file.open("w", encoding="utf-8") as stream:
        for pair in pairs:
            row: dict[str, Any] = {"id": pair.id, "prompt": pair.prompt, "chosen": pair.chosen}
            row |= {"rejected": pair.rejected, "probability": pair.probability, "margin": pair.margin}
            row |= {"tools": list(pair.tools)} if pair.tools else {}
            row |= {"chat_template_kwargs": dict(pair.chat_template_kwargs)} if pair.chat_template_kwargs else {}
            stream.write(json.dumps(row) + "\n")


def score_margins(scorer: Scorer, pairs: Sequence[PreferencePair]) -> list[float | None]:
    """score(chosen) - score(rejected) of each pair, logits; None where not even a first sentence fits the model."""
    scored = scorer.score_fitting(pairs)
    for one in scored:
        if isinstance(one, EncodingError):
            print(f"left out: {one}")
    return [None if isinstance(one, EncodingError) else one.margin for one in scored]


def out_of_fold(
    pairs: Sequence[PreferencePair], folds: int, flags: Sequence[str], output: Path, dtype: str = "auto"
) -> list[float | None]:
    """Train `folds` models and return each pair's margin under the one that was trained without its prompt.

    Args:
        flags: of training.train, without --output; their data is replaced.
        output: holds what was asked, and a folder a fold, with what was trained on, the log and the margins, and the
            model only while it is needed.

    Raises:
        SentrmError: if `output` holds folds of something else, or a training run fails, with its last words.
    """
    _begin(output, asked_of(pairs, folds, flags, dtype))
    fold = [fold_of(pair.split_key, folds) for pair in pairs]
    margins: list[float | None] = [None] * len(pairs)
    for k in range(folds):
        inside = [i for i, own in enumerate(fold) if own == k]
        folder = output / f"fold-{k}"
        folder.mkdir(parents=True, exist_ok=True)
        scored = folder / "margins.json"
        if inside and not scored.exists():
            write_rows(folder / "data.jsonl", (pair for pair, own in zip(pairs, fold, strict=True) if own != k))
            own = ["--data", str(folder / "data.jsonl"), *COLUMNS, "--output", str(folder / "model")]
            _train([*flags, *own], folder / "log")
            scorer = Scorer.from_pretrained(folder / "model", dtype=dtype)
            write(json.dumps(score_margins(scorer, [pairs[i] for i in inside])), scored)
            shutil.rmtree(folder / "model")
        for i, margin in zip(inside, json.loads(scored.read_text()) if inside else [], strict=True):
            margins[i] = margin
        print(f"fold {k + 1} of {folds}: {len(inside)} pairs scored by a model trained on the others", flush=True)
    return margins


def asked_of(pairs: Sequence[PreferencePair], folds: int, flags: Sequence[str], dtype: str) -> dict[str, Any]:
    """What decides the margins, as JSON: the pairs, their labels and order, and every flag that is no place."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(json.dumps([pair.split_key, content_of([pair])]).encode())
    config = parse([*flags, "--data", "of a fold", "--output", "of a fold"])
    everything = json.loads(json.dumps(config.to_dict() | {"pad_token": config.pad_token}))  # which is masked there
    kept = {name: value for name, value in everything.items() if name not in (*ELSEWHERE, "data", "data_folder")}
    return {"pairs": len(pairs), "data_digest": digest.hexdigest()[:16], "folds": folds, "scoring_dtype": dtype, **kept}


def _begin(output: Path, asked: dict[str, Any]) -> None:
    """Write down what is asked, or check that the folds that were scored there were asked for alike."""
    file = output / ASKED
    if any(output.glob("fold-*/margins.json")):
        if not file.is_file():
            raise SentrmError(
                f"{output} holds folds, but no {ASKED} that says of what. Choose another --output, or delete it."
            )
        before = json.loads(file.read_text())
        different = [name for name, value in asked.items() if name in before and before[name] != value]
        if different:
            said = ", ".join(f"{name} was {before[name]!r:.60} and is {asked[name]!r:.60}" for name in different)
            raise SentrmError(
                f"{output} holds folds that were asked for something else: {said}. Give the data and flags they were "
                "begun with, or choose another --output."
            )
    output.mkdir(parents=True, exist_ok=True)
    write(json.dumps(asked, indent=1) + "\n", file)


def _train(flags: Sequence[str], log: Path) -> None:
    shutil.rmtree(flags[-1], ignore_errors=True)  # of a run that was ended
    with log.open("wb") as stream:
        command = [sys.executable, "-m", "training.train", *flags]
        done = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        lines = log.read_text(errors="replace").strip().splitlines()
        raise SentrmError(f"training ended with exit code {done.returncode}: {' '.join(lines[-1:])} See {log}.")


def main(arguments: list[str] | None = None) -> int:
    own = argparse.ArgumentParser(
        prog="python -m training.out_of_fold",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    own.add_argument("--folds", type=int, default=5, help="models to train (%(default)s)")
    own.add_argument("--dtype", default="auto", help="of scoring (%(default)s)")
    args, flags = own.parse_known_args(arguments)
    try:
        if args.folds < 2:
            raise SentrmError(f"--folds is {args.folds}; expected at least 2.")
        config = parse(flags)
        output = Path(config.output_dir)
        pairs = read_pairs(config)
        margins = out_of_fold(pairs, args.folds, flags, output, args.dtype)
        lines = [
            json.dumps({"pair_id": pair_id(*texts), "first": texts[1] <= texts[2], "margin": margin})
            for pair, margin in zip(pairs, margins, strict=True)
            for texts in [(pair.prompt, pair.chosen, pair.rejected)]
            if margin is not None
        ]
        write("".join(f"{line}\n" for line in lines), output / MARGINS)
        print(f"{output / MARGINS}: {len(lines)} margins. Next: sentrm audit DATA --out-of-fold {output / MARGINS}")
    except SentrmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
