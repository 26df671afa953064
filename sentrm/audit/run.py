"""Score a dataset into an audit folder (`sentrm.audit.folder`), shard by shard.

    records -> pairs -> a shard's rows, scored together -> shards/00000.parquet … -> pairs.parquet

Decisions:
- One shard is in memory at a time, so data of any size can be scored.
- A shard that stands is never scored again: a run that was killed or cancelled goes on where it stopped when it is
  started again. `audit.json` says what was asked; a run that asks for something else is refused.
- A record that cannot be read, or a pair that does not fit the model, is left out with its reason, unless `strict`.
- Under `accelerate launch` or torchrun process r of n scores the shards with number % n == r on its own device; the
  first one writes `pairs.parquet` when all are done. A shard's pairs are batched with each other alone, so the numbers
  are those of one process (that computes with as many threads). Several machines need a folder that they share.
- Text is stored as the model reads it: halves of a character (lone surrogates) become U+FFFD.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from accelerate import PartialState

from ..columns import is_number
from ..errors import AuditError, EncodingError
from ..preferences import PreferencePair, RowProblem, stream_rows
from ..readers import records
from ..results import ScoredPair
from ..scoring import Scorer
from ..words import SURROGATES
from .folder import VERSION, read_about
from .pairs import pairs_stand, write_pairs
from .shards import SCHEMA, read_count, remove_partial, shard_path, to_json, to_row, written_whole

# Fields that the shards hold in columns of their own, so that they are no metadata.
HELD = ("prompt", "chosen", "rejected", "id", "source", "context", "probability", "tie", "response_a", "response_b")
COPY = ".data"  # in the audit folder: a copy of data that would not stay where they were
Read = list[PreferencePair] | RowProblem


@dataclass(frozen=True)
class Progress:
    """How far this process is with its share of the data."""

    rows: int  # records done: scored, left out, or found done
    found: int  # of these: done by an earlier run
    total: int | None  # records to do; None where the data do not say how many there are
    seconds: float  # since the start

    @property
    def rate(self) -> float:
        """Records a second."""
        return (self.rows - self.found) / self.seconds if self.seconds else 0.0

    @property
    def time_left(self) -> float | None:
        """Seconds, if that can be said."""
        return (self.total - self.rows) / self.rate if self.total is not None and self.rate else None


def processes(cpu: bool) -> PartialState:
    """This process and the others of its group, if it was launched in one; they wait for each other for days.

    Args:
        cpu: whether they work on CPUs.
    """
    return PartialState(cpu=cpu, timeout=timedelta(days=30))


def score_dataset(
    source: str | Path,
    scorer: Scorer,
    out: str | Path,
    *,
    columns: Mapping[str, str | None] | None = None,
    split: str = "train",
    strict: bool = False,
    rows_per_shard: int = 512,
    progress: Callable[[Progress], None] | None = None,
) -> Path:
    """Score every pair of the data and write the audit folder, or go on with one.

    Args:
        source: file, data set folder or hub id, with `columns` and `split` as in `load_preferences`.
        out: a new or empty folder, or one that the same call began.
        strict: stop at the first record or pair that cannot be scored.
        rows_per_shard: records that are scored together, kept in memory, and lost if the run is killed.
        progress: called after every batch of this process; what it raises ends the run, which can be continued.

    Returns:
        The folder, absolute.

    Raises:
        PreferenceDataError: for data that cannot be read; EncodingError: if `strict`.
        AuditError: if the folder holds something else, or cannot be written.
    """
    out = Path(out).resolve()
    group = processes(scorer.model.device.type == "cpu")
    rows = stream_rows(source, columns=columns, split=split, strict=strict)
    rows = chain([next(rows)], rows)  # data that cannot be read make no folder
    named = {field: name for field, name in (columns or {}).items() if name is not None}
    if group.is_main_process:
        _begin(out, _asked(source, scorer, named, split, rows_per_shard, out))
    group.wait_for_everyone()

    held = {named.get(field, field) for field in HELD}
    total = _share(source, split, rows_per_shard, group) if progress and Path(source).is_file() else None
    started, done, found, number = time.monotonic(), 0, 0, 0
    chunk: list[tuple[Any, Read]] = []

    def report(share: float) -> None:
        """Of the chunk, so much is done."""
        if progress:
            progress(Progress(done + int(share * len(chunk)), found, total, time.monotonic() - started))

    while chunk := list(islice(rows, rows_per_shard)):
        if number % group.num_processes == group.process_index:
            if (file := shard_path(out, number)).exists():
                if (before := read_count(file)) != len(chunk):
                    raise _changed(out, f"{file.name} is of {before} rows, of which there are {len(chunk)} now")
                found += len(chunk)
                report(1)
            else:
                table = _score(scorer, chunk, number * rows_per_shard + 1, held, strict, report)
                with written_whole(file) as aside:
                    pyarrow.parquet.write_table(table, aside, compression="zstd")
                _trim()
            done += len(chunk)
        number += 1
    if shard_path(out, number).exists():
        raise _changed(out, f"they have no rows of {shard_path(out, number).name} any more")
    group.wait_for_everyone()
    if group.is_main_process and not pairs_stand(out, number):
        write_pairs(out, [shard_path(out, i) for i in range(number)], rows_per_shard)
    group.wait_for_everyone()
    return out


def _changed(out: Path, how: str) -> AuditError:
    return AuditError(f"the data have changed since {out} was begun: {how}. Choose another folder.")


def _trim() -> None:
    """Give freed memory back: glibc keeps what batches of ever other sizes have left, about 90 KB a pair."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None:
        trim(0)


def _asked(
    source: str | Path, scorer: Scorer, columns: Mapping[str, str], split: str, rows_per_shard: int, out: Path
) -> dict[str, Any]:
    """What decides the numbers: audit.json."""
    digest, size = fingerprint(source, out)
    file = Path(source)
    return {
        "version": VERSION,
        "data": {
            "source": str(file.resolve() if file.exists() else source),
            "split": split,
            "columns": dict(columns),
            "sha256": digest,
            "bytes": size,
        },
        "model": asdict(scorer.model_info),
        "segmenter": asdict(scorer.segmenter_info),
        "max_length": scorer.encoder.max_length,
        "dtype": str(scorer.model.dtype).removeprefix("torch."),
        "rows_per_shard": rows_per_shard,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def fingerprint(source: str | Path, out: Path) -> tuple[str, int] | tuple[None, None]:
    """SHA-256 and bytes of the data, by which they are known wherever they stand; of a folder, those of its files but
    hidden ones and the audit in `out`. None for a hub id."""
    file = Path(source).resolve()
    if file.is_file():
        return _sha256(file), file.stat().st_size
    if not file.is_dir():
        return None, None
    names = [one.relative_to(file) for one in file.rglob("*") if one.is_file() and out not in one.parents]
    read = sorted(str(name) for name in names if not any(part.startswith(".") for part in name.parts))
    digest = hashlib.sha256(json.dumps([[name, _sha256(file / name)] for name in read]).encode()).hexdigest()
    return digest, sum((file / name).stat().st_size for name in read)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _begin(out: Path, asked: Mapping[str, Any]) -> None:
    """Make the folder, or check that what stands there was asked for alike."""
    if asked["rows_per_shard"] < 1:
        raise AuditError(f"got {asked['rows_per_shard']} rows per shard; expected at least 1.")
    before = read_about(out)
    try:
        inside = out.iterdir() if before is None and out.exists() else ()
        others = sorted(one.name for one in inside if one.name != "shards" and not one.name.startswith("."))
        if others:
            raise AuditError(f"{out} holds {others[0]} and is no audit folder; choose a new or empty one.")
        (out / "shards").mkdir(parents=True, exist_ok=True)
        for folder in (out, out / "shards", out / COPY):
            remove_partial(folder)
    except OSError as error:
        raise AuditError(f"cannot write {out}: {error}. Choose another folder.") from error
    if before is None:
        with written_whole(out / "audit.json") as aside:
            aside.write_text(json.dumps(asked, indent=2) + "\n", encoding="utf-8")
        return
    ours, theirs = _flat(asked), _flat(before)
    if different := [name for name in ours if ours[name] != theirs.get(name)]:
        said = ", ".join(f"{name} was {theirs.get(name)!r:.60} and is {ours[name]!r:.60}" for name in different)
        raise AuditError(f"{out} holds an audit that asked for something else: {said}. Choose another folder.")


def _flat(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be the same: a file or folder is known by its content, wherever it stands; a file has no splits."""
    parts = {**asked, **{f"{part} {name}": asked[part][name] for part in _PARTS for name in asked[part]}}
    known = asked["data"]["sha256"] is not None
    moved = {"data source": known, "data split": known and not Path(asked["data"]["source"]).is_dir()}
    return {name: value for name, value in parts.items() if name not in (*_PARTS, "created") and not moved.get(name)}


_PARTS = ("data", "model", "segmenter")


def _share(source: str | Path, split: str, rows_per_shard: int, group: PartialState) -> int:
    """Records of this process."""
    records_of_all = sum(1 for _ in records(str(source), split))
    starts = range(group.process_index * rows_per_shard, records_of_all, group.num_processes * rows_per_shard)
    return sum(min(rows_per_shard, records_of_all - start) for start in starts)


def _score(
    scorer: Scorer,
    chunk: Sequence[tuple[Any, Read]],
    first: int,
    held: set[str],
    strict: bool,
    report: Callable[[float], None],
) -> pyarrow.Table:
    """A shard: the pairs of some records, of which `first` is the number of the first."""
    problems: list[tuple[int, str]] = []
    places: list[tuple[int, int]] = []
    pairs: list[PreferencePair] = []
    for row, (_, read) in enumerate(chunk, start=first):
        if isinstance(read, RowProblem):
            problems.append((row, read.reason))
        else:
            places += [(row, number) for number in range(len(read))]
            pairs += map(_storable, read)
    score: Callable[..., Sequence[ScoredPair | EncodingError]] = scorer.score if strict else scorer.score_fitting
    scored = score(pairs, progress=lambda responses, of: report(responses / of))
    rows = []
    for (row, number), pair, one in zip(places, pairs, scored, strict=True):
        if isinstance(one, EncodingError):
            problems.append((row, str(one)))
        else:
            metadata = _metadata(chunk[row - first][0], held)
            rows.append(to_row(row, number, pair, {"chosen": one.a, "rejected": one.b}, metadata))
    about = {
        "model": asdict(scorer.model_info),
        "segmenter": asdict(scorer.segmenter_info),
        "problems": sorted(problems),
        "rows": len(chunk),
    }
    return pyarrow.Table.from_pylist(rows, SCHEMA.with_metadata({name: to_json(about[name]) for name in about}))


def _metadata(record: Mapping[str, Any], held: set[str]) -> dict[str, Any]:
    """The columns that hold a short text, a number or a flag, and stand nowhere else."""
    return {
        name: value
        for name, value in record.items()
        if name not in held
        and 0 < len(name) <= 60
        and name.isprintable()
        and (isinstance(value, bool) or is_number(value) or (isinstance(value, str) and 0 < len(value) < 200))
    }


def _storable(pair: PreferencePair) -> PreferencePair:
    fields = {name: getattr(pair, name) for name in ("prompt", "chosen", "rejected", "id", "source")}
    text = json.dumps(fields, ensure_ascii=False, default=str)
    if not SURROGATES.search(text):
        return pair
    clean = json.loads(SURROGATES.sub("\ufffd", text))
    if not isinstance(clean["prompt"], str):
        clean["prompt"] = tuple(clean["prompt"])
    return replace(pair, **clean)
