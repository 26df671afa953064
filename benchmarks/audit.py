"""What scoring a dataset costs beside the bare forward passes, and how fast a million scored pairs are searched.

    python -m benchmarks.audit [--quick] [--model FOLDER] [--data FILE]

Peer 1 is the model alone: after each batch of `score_dataset` the same tensors are given to the model once more, and
nothing else is done, so drift of the machine hits both. Ours is all the rest of the wall time: reading, segmenting,
encoding, the same forward pass, results, Parquet shards and the table of pairs.

The million pairs are made up, written as shards in the audit folder's own schema, and opened in a fresh process, which
is timed and whose peak resident memory is measured, Python and libraries included. A figure is the worst of its kind.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import torch

from sentrm.audit.filters import Filter
from sentrm.audit.folder import VERSION, AuditFolder
from sentrm.audit.pairs import write_pairs
from sentrm.audit.run import Progress, score_dataset
from sentrm.audit.shards import SCHEMA, SENTENCE_COLUMNS, shard_path
from sentrm.preferences import SIDES
from sentrm.results import ModelInfo, SegmenterInfo
from sentrm.scoring import Scorer

ROOT = Path(__file__).parent.parent
ROWS_PER_SHARD = 512


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--quick", action="store_true", help="120 pairs and 50,000: under 50 s on two cores")
    flags.add_argument("--model", default=str(ROOT / "assets" / "demo-model"), help="folder of the model (%(default)s)")
    flags.add_argument("--data", metavar="FILE", help="pairs to score, instead of made-up ones")
    flags.add_argument("--search", metavar="DIR", help=argparse.SUPPRESS)  # the fresh process
    args = flags.parse_args()
    if args.search:
        print(json.dumps(search(args.search)))
        return
    pairs, million = (120, 50_000) if args.quick else (20_000, 1_000_000)
    with tempfile.TemporaryDirectory() as folder:
        ours, bare, scored = over_forward(
            args.model, args.data or made_up(Path(folder), pairs), Path(folder) / "scored"
        )
        print(f"{scored} pairs scored: {ours:.1f} s ({scored / ours:.1f} a second), bare forward passes {bare:.1f} s")
        print(f"{'over the forward passes':40s}{ours / bare:9.3f}\n")
        size, written = write_million(Path(folder) / "million", million)
        print(f"{million:,} made-up pairs written in {written:.1f} s, {size / 2**20:.0f} MiB")
        child = [sys.executable, "-m", "benchmarks.audit", "--search", str(Path(folder) / "million")]
        output = subprocess.run(child, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        times: dict[str, dict[str, float]] = json.loads(output.splitlines()[-1])
    for kind, figures in times.items():
        for what, figure in figures.items():
            print(f"{kind:8s}{what:32s}{figure:9.3f}")
    result = {"over_forward": ours / bare}
    result |= {f"million_{kind}_s": max(times[kind].values()) for kind in ("filter", "sort", "page")}
    print(json.dumps(result | {"rss_gib": times["rss"]["GiB"]}))


def made_up(folder: Path, pairs: int) -> str:
    """Pairs of the example's sentences, in responses of 1 to 9."""
    examples = [json.loads(line) for line in (ROOT / "assets" / "examples.jsonl").read_text("utf-8").splitlines()]
    sentences = [part for one in examples for side in "ab" for part in one[side].replace("\n", " ").split(". ") if part]
    draw = random.Random(0)

    def text(most: int) -> str:
        return " ".join(f"{draw.choice(sentences).strip().rstrip('.')}." for _ in range(draw.randint(1, most)))

    file = folder / "pairs.jsonl"
    with file.open("w", encoding="utf-8") as stream:
        for i in range(pairs):
            row = {"prompt": f"{i}. {text(3)}", "chosen": text(9), "rejected": text(9), "topic": f"topic {i % 7}"}
            stream.write(json.dumps(row) + "\n")
    return str(file)


def over_forward(model: str, data: str, out: Path) -> tuple[float, float, int]:
    """Seconds of scoring, seconds of the forward passes alone, and pairs scored."""
    scorer = Scorer.from_pretrained(model, device="cpu")
    batches: list[dict[str, torch.Tensor]] = []
    aside = bare = 0.0
    hook = scorer.model.register_forward_pre_hook(lambda _, __, batch: batches.append(batch), with_kwargs=True)
    forward = scorer.model.forward

    @torch.inference_mode()
    def repeat(_: Progress) -> None:
        nonlocal aside, bare
        started = time.perf_counter()
        for batch in batches:
            before = time.perf_counter()
            forward(**batch)
            bare += time.perf_counter() - before
        batches.clear()
        aside += time.perf_counter() - started

    scorer.score([("Warm", "up.")])
    batches.clear()
    started = time.perf_counter()
    score_dataset(data, scorer, out, rows_per_shard=ROWS_PER_SHARD, progress=repeat)
    ours = time.perf_counter() - started - aside
    hook.remove()
    return ours, bare, AuditFolder.open(out).count()


def write_million(folder: Path, pairs: int) -> tuple[int, float]:
    """A made-up audit folder; its bytes, and the seconds it took."""
    started, draw = time.perf_counter(), np.random.default_rng(0)
    (folder / "shards").mkdir(parents=True)
    model, segmenter = ModelInfo("made-up", "0", "attention", None), SegmenterInfo("rules:en", "0", True)
    about = {"model": asdict(model), "segmenter": asdict(segmenter), "problems": []}
    (folder / "audit.json").write_text(json.dumps(about | {"version": VERSION, "rows_per_shard": ROWS_PER_SHARD}))
    starts = range(0, pairs, ROWS_PER_SHARD)
    for number, start in enumerate(starts):
        rows = np.arange(start, min(start + ROWS_PER_SHARD, pairs))
        file = {name: json.dumps(value) for name, value in (about | {"rows": len(rows)}).items()}
        table = pyarrow.table(_shard(rows, draw), SCHEMA.with_metadata(file))
        pyarrow.parquet.write_table(table, shard_path(folder, number), compression="zstd")
    write_pairs(folder, [shard_path(folder, number) for number in range(len(starts))], ROWS_PER_SHARD)
    return sum(file.stat().st_size for file in folder.rglob("*.parquet")), time.perf_counter() - started


def _shard(rows: np.ndarray, draw: np.random.Generator) -> dict[str, Any]:
    """Columns of `SCHEMA` for these rows: three sentences a response."""
    size, spread = len(rows), draw.normal(size=(2, len(rows), 4))
    texts = {name: [f"{name} {row}, it says. " + "So on. " * (row % 9) for row in rows] for name in SIDES}
    kinds = draw.integers(0, 5, size)
    values: dict[str, Any] = {
        "row": rows + 1,
        "number": np.zeros(size, np.int32),
        "digest": [f"{int(row) * 0x9E3779B97F4A7C15 % 2**64:016x}a" for row in rows],
        "id": [str(row) for row in rows],
        "source": [f"source {kind}" for kind in kinds],
        "prompt": [f'"What is {row}?"' for row in rows],
        "prompt_text": [f"What is {row}?" for row in rows],
        "turns": 1 + kinds % 3,
        "language": [("en", "de", "fr", "zh", "")[kind] for kind in kinds],
        **texts,
        "label_probability": np.where(kinds == 4, 0.5, 1.0),
        "metadata": [json.dumps({"topic": f"topic {row % 40}", "year": 2000 + int(row % 25)}) for row in rows],
    }
    for side, numbers in zip(SIDES, spread, strict=True):
        values |= {f"{side}_{name}": list(numbers) for name in SENTENCE_COLUMNS}
        values |= {f"{side}_starts": [[0, 5, 9]] * size, f"{side}_ends": [[5, 9, 14]] * size}
        values |= {f"{side}_tokens": [[4, 3, 4]] * size, f"{side}_score": numbers.sum(1)}
        values |= {f"{side}_dropped_sentences": kinds // 4, f"{side}_cut_prompt_tokens": np.zeros(size)}
    values["margin"] = values["chosen_score"] - values["rejected_score"]
    return {name: pyarrow.array(values[name]).cast(SCHEMA.field(name).type) for name in SCHEMA.names}


def search(path: str) -> dict[str, dict[str, float]]:
    """Seconds of what the list of pairs does, and this process's peak memory."""

    def timed(work: Callable[..., object], *given: object) -> float:
        started = time.perf_counter()
        work(*given)
        return time.perf_counter() - started

    def first_page(some: list[Filter]) -> None:
        """What a change of the filter asks for: how many there are, and the first of them in order."""
        folder.count(some)
        folder.page(some, "margin")

    started = time.perf_counter()
    folder = AuditFolder.open(path)
    times = {"open": {"": time.perf_counter() - started}}
    count = folder.count()
    kinds = [Filter("source", "in", ("source 1", "source 3")), Filter("meta_year", ">", 2010)]
    filters = {
        "margin < 0": [Filter("margin", "<", 0)],
        "a rare range": [Filter("margin", "between", (2.0, 2.001))],
        "a bin of confidence": [Filter("confidence", "between", (0.85, 0.9))],
        "three columns": [*kinds, Filter("agrees", "=", False)],
        "meta_topic contains": [Filter("meta_topic", "contains", "TOPIC 3")],
        "nothing passes": [Filter("id", "=", "none")],
    }
    times["filter"] = {name: timed(first_page, some) for name, some in filters.items()}
    times["sort"] = {
        f"{name}{' descending' * down}": timed(folder.page, (), name, down)
        for name in ("margin", "source", "length_difference", "meta_topic", "pair_id")
        for down in (False, True)
    }
    times["page"] = {
        f"from {start:,}{f' by {sort}' if sort else ''}": timed(folder.page, (), sort, False, start)
        for start in (0, count // 2, count - 50)
        for sort in (None, "margin")
    }
    one = folder.page(start=count // 2, size=1)[0]["pair_id"]
    times["other"] = {
        "one pair by id": timed(folder.pair, one),
        "ids of all, by margin": timed(folder.ids, (), "margin"),
        "three columns for a chart": timed(folder.table, ["margin", "length_difference", "agrees"]),
        "text contains": timed(folder.count, [Filter("text", "contains", "what is 77")]),
    }
    times["rss"] = {"GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    return times


if __name__ == "__main__":
    main()
