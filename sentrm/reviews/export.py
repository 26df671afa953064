"""What reviewers carry home: the cleaned data and the event log.

Decisions:
- The cleaned data have the schema and the order of the data that were read, which are read again, row by row; a pair is
  known by its texts and label (`pair_id`). What a schema cannot say is left as it is and reported, see `relabel`.
- A pair's decision is the verdict most annotators gave; skips do not count. Where the votes are even it is unresolved,
  and the pair stays as it is.
- A text cell of a CSV that a spreadsheet would take for a formula gets a leading apostrophe, as in `report`; numbers,
  also those written as text, do not.
- Files are written beside their place and renamed when they are whole.
- The event log is JSON Lines; imported into an empty log it gives the same state, and exported again the same file.
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow
import pyarrow.parquet

from ..audit.folder import pair_id, texts_of, without_number
from ..audit.shards import written_whole
from ..errors import ReviewError
from ..export import new_folder
from ..preferences import PreferencePair, RowProblem, stream_rows
from ..words import harmless_cell
from .log import ReviewLog
from .relabel import NotExpressible, Record, flipped, tied, untied
from .votes import VERDICTS

Format = Literal["jsonl", "csv", "parquet", "datasets"]
Ties = Literal["mark", "keep", "drop"]
UNRESOLVED = "unresolved"  # the decision where the votes are even
BATCH = 1024  # rows
LONGEST_LINE = 2**24  # bytes of an event


@dataclass(frozen=True)
class Exported:
    """What became of the data's rows."""

    rows: int  # that the data have
    written: int
    flipped: int
    tied: int  # marked as a tie
    dropped: int
    unresolved: int  # pairs on which the votes are even: as they were
    unknown: int  # decisions on pairs that are not in the data
    left: tuple[RowProblem, ...]  # a decision that the schema cannot say, or a row that could not be read
    neutralised: int  # cells of a CSV that would have been formulas


def decide(verdicts: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """Pair id -> the verdict most annotators gave, or `UNRESOLVED`. Copies of a pair, whose ids differ by a number at
    the end, are one: what is said of one is said of all.

    >>> decide([("p", "ann", "flip"), ("p", "bob", "flip"), ("p", "eve", "agree"), ("q", "ann", "skip")])
    {'p': 'flip'}
    """
    said = {(without_number(pair), annotator, verdict) for pair, annotator, verdict in verdicts if verdict != "skip"}
    votes: dict[str, Counter[str]] = {}
    for pair, _, verdict in said:
        votes.setdefault(pair, Counter())[verdict] += 1
    leading = {pair: counts.most_common(2) for pair, counts in votes.items()}
    return {
        pair: UNRESOLVED if len(two) == 2 and two[0][1] == two[1][1] else two[0][0] for pair, two in leading.items()
    }


def unsettled(verdicts: Sequence[tuple[str, str, str]]) -> list[list[tuple[str, str, str]]]:
    """The votes, (pair id, annotator, verdict), of each pair that somebody has to look at again: they are even, most
    say flag, or all who saw it skipped it.

    >>> unsettled([("p", "ann", "flip"), ("p", "bob", "agree"), ("q", "ann", "tie"), ("r", "ann", "skip")])
    [[('p', 'ann', 'flip'), ('p', 'bob', 'agree')], [('r', 'ann', 'skip')]]
    """
    decided = decide(verdicts)
    votes: dict[str, list[tuple[str, str, str]]] = {}
    for vote in verdicts:
        votes.setdefault(without_number(vote[0]), []).append(vote)
    return [said for pair, said in votes.items() if decided.get(pair, UNRESOLVED) in (UNRESOLVED, "flag")]


def export_cleaned(
    source: str | Path,
    decisions: Mapping[str, str],
    out: str | Path,
    *,
    format: Format = "jsonl",
    columns: Mapping[str, str | None] | None = None,
    split: str = "train",
    flip: bool = True,
    drop: tuple[str, ...] = ("both_bad", "flag"),
    ties: Ties = "mark",
) -> Exported:
    """Write the data again with the decisions applied.

    Args:
        source: what was audited, with `columns` and `split` as there.
        decisions: pair id -> verdict, see `decide`.
        out: a file, replaced if it stands; for `datasets` a new folder.
        flip: whether flipped pairs are turned, and ties of which one side was found better get that label; else they
            stay.
        drop: verdicts whose pairs are left out.
        ties: mark them where the schema can say so, keep them as they are, or drop them.

    Raises:
        ReviewError: the choice is none, no decided pair is in the data, or the format cannot hold the rows.
        PreferenceDataError: the data cannot be read.
        SentrmError: `out` cannot be written.
    """
    out = Path(out)
    if format not in get_args(Format) or ties not in get_args(Ties) or not set(drop) <= set(VERDICTS):
        formats, choices, verdicts = (", ".join(words) for words in (get_args(Format), get_args(Ties), VERDICTS))
        raise ReviewError(
            f"got format {format!r:.40}, ties {ties!r:.40}, drop {drop!r:.80}. Expected one of {formats}; one of "
            f"{choices}; some of {verdicts}."
        )
    if out.resolve() == Path(source).resolve():
        raise ReviewError(f"got {out} as the data and as what to write. Expected another name; nothing was written.")
    rows = _Cleaned(
        source=source,
        columns=columns or {},
        split=split,
        decisions=decisions,
        dropped={*drop, *(["tie"] if ties == "drop" else [])},
        changed={*(["flip"] if flip else []), *(["tie"] if ties == "mark" else [])},
    )
    try:
        if format == "datasets":
            with new_folder(out) as folder:
                name = "".join(character if character.isalnum() else "_" for character in split)
                (folder / "data").mkdir()
                _write_parquet(folder / "data" / f"{name}-00000-of-00001.parquet", rows)
        else:
            with written_whole(out) as aside:
                {"jsonl": _write_jsonl, "csv": _write_csv, "parquet": _write_parquet}[format](aside, rows)
    except (pyarrow.ArrowException, TypeError, UnicodeEncodeError) as error:
        raise ReviewError(
            f"{format} cannot hold these rows: {error}. Choose another format, for one parquet."
        ) from error
    return rows.report()


class _Cleaned:
    """The records with the decisions applied, read anew at each iteration; the counts are those of the last one."""

    def __init__(
        self,
        source: str | Path,
        columns: Mapping[str, str | None],
        split: str,
        decisions: Mapping[str, str],
        dropped: set[str],
        changed: set[str],
    ) -> None:
        self.source, self.columns, self.split = source, columns, split
        self.decisions, self.dropped, self.changed = decisions, dropped, changed

    def __iter__(self) -> Iterator[Record]:
        self.done: Counter[str] = Counter()
        self.left: list[RowProblem] = []
        self.known: set[str] = set()
        texts, found = set(map(texts_of, self.decisions)), False
        for row, (record, read) in enumerate(stream_rows(self.source, columns=self.columns, split=self.split), start=1):
            self.done["rows"] += 1
            if isinstance(read, RowProblem):
                self.left.append(read)
                cleaned = record if isinstance(record, dict) else None
            else:
                if any(pair.tokens for pair in read):
                    raise ReviewError(
                        f"{self.source} holds token ids, and verdicts are on the texts that they stand for. Clean the "
                        "data that they were made from; nothing was written."
                    )
                ids = [pair_id(pair.prompt, pair.chosen, pair.rejected, pair.probability) for pair in read]
                verdicts = [self.decisions.get(id, "") for id in ids]
                self.known |= self.decisions.keys() & ids
                found = found or not texts.isdisjoint(map(texts_of, ids))
                self.done[UNRESOLVED] += verdicts.count(UNRESOLVED)
                try:
                    cleaned = self._apply(record, read, verdicts)
                except NotExpressible as reason:
                    self.left.append(RowProblem(row, str(reason)))
                    cleaned = record
            if cleaned is not None:
                self.done["written"] += 1
                yield cleaned
        if self.decisions and not found:
            raise ReviewError(
                f"none of the {len(self.decisions):,} decided pairs is in {self.source}. Expected the data that were "
                "audited, with the same columns; nothing was written."
            )

    def _apply(self, record: Record, pairs: Sequence[PreferencePair], verdicts: Sequence[str]) -> Record | None:
        """The record as decided; None to leave it out."""
        if all(verdict in self.dropped for verdict in verdicts):
            self.done["dropped"] += 1
            return None
        if not any(map(self._is_acted_on, pairs, verdicts)):
            return record
        if len(pairs) > 1:
            raise NotExpressible(
                f"ranks responses in {len(pairs)} pairs, of which some are decided; it was left as it is"
            )
        (pair,), (verdict,) = pairs, verdicts
        if verdict == "tie":
            cleaned = tied(record, self.columns)
        elif pair.chosen == pair.rejected:
            raise NotExpressible("has the same response twice, so neither is the better one; it was left as it is")
        elif pair.probability == 0.5:
            cleaned = untied(record, self.columns, verdict == "agree")
        else:
            cleaned = flipped(record, self.columns)
        self.done[verdict if verdict == "tie" else "flip"] += 1
        return cleaned

    def _is_acted_on(self, pair: PreferencePair, verdict: str) -> bool:
        if pair.probability == 0.5 and verdict in ("agree", "flip", "tie"):
            return verdict in self.dropped or (verdict != "tie" and "flip" in self.changed)
        return verdict in self.dropped or verdict in self.changed

    def report(self) -> Exported:
        done = self.done
        return Exported(
            rows=done["rows"],
            written=done["written"],
            flipped=done["flip"],
            tied=done["tie"],
            dropped=done["dropped"],
            unresolved=done[UNRESOLVED],
            unknown=len(self.decisions) - len(self.known),
            left=tuple(self.left),
            neutralised=done["neutralised"],
        )


def _write_jsonl(path: Path, rows: _Cleaned) -> None:
    with path.open("wb") as file:
        for row in rows:
            try:
                line = json.dumps(row, ensure_ascii=False).encode("utf-8")
            except UnicodeEncodeError:  # half a character, which only an escape can carry
                line = json.dumps(row).encode("ascii")
            file.write(line + b"\n")


def _write_csv(path: Path, rows: _Cleaned) -> None:
    names = list({name: None for row in rows for name in row})
    neutralised = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writerow({name: harmless_cell(name) for name in names})
        for row in rows:
            cells = {name: _csv_cell(name, value) for name, value in row.items()}
            neutralised += sum(cells[name] != value for name, value in row.items() if isinstance(value, str))
            writer.writerow(cells)
    rows.done["neutralised"] = neutralised


def _csv_cell(name: str, value: Any) -> Any:
    if isinstance(value, list | dict):
        raise TypeError(f"the column {name!r} holds a {type(value).__name__}, a CSV text and numbers alone")
    return harmless_cell(value) if isinstance(value, str) and not _is_number(value) else value


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _write_parquet(path: Path, rows: _Cleaned) -> None:
    """In the types of the data if they are Parquet, else in the narrowest that hold every row."""
    source = Path(rows.source)
    if source.is_file() and source.suffix.lower() == ".parquet":
        schema = pyarrow.parquet.read_schema(source)
    else:
        schema = pyarrow.schema({})
        for batch in _batches(rows):
            names = list({name: None for row in batch for name in row})
            table = pyarrow.table({name: [row.get(name) for row in batch] for name in names})
            schema = pyarrow.unify_schemas([schema, table.schema], promote_options="permissive")
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for batch in _batches(rows):
            writer.write_table(pyarrow.Table.from_pylist(batch, schema=schema))


def _batches(rows: Iterable[Record]) -> Iterator[list[Record]]:
    whole = iter(rows)
    while batch := list(islice(whole, BATCH)):
        yield batch


def export_events(log: ReviewLog, out: str | Path) -> int:
    """Write the event log as JSON Lines. Returns how many events; raises SentrmError if `out` cannot be written."""
    events = 0
    with written_whole(Path(out)) as aside, aside.open("w", encoding="utf-8", newline="\n") as file:
        for event in log.events():
            file.write(json.dumps(event) + "\n")
            events += 1
    return events


def read_events(path: str | Path) -> Iterator[dict[str, Any]]:
    """The events of such a file, for `ReviewLog.import_events`.

    Raises:
        ReviewError: the file cannot be read, or a line is no JSON, or too long for an event.
    """
    try:
        with Path(path).open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), start=1):
                if len(line) == LONGEST_LINE:
                    raise ReviewError(
                        f"line {number} of {path} is longer than any event. Expected an exported event log."
                    )
                try:
                    event = json.loads(line) if line.strip() else None
                except (ValueError, RecursionError) as error:
                    raise ReviewError(
                        f"line {number} of {path} is no JSON: {error}. Expected an exported event log."
                    ) from error
                if event is not None:
                    yield event
    except OSError as error:
        raise ReviewError(f"cannot read {path}: {error}. Expected an exported event log, JSON Lines.") from error
