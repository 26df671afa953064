"""The audit folder: a scored dataset on disk, and how it is opened.

    DIR/audit.json              what was asked: data, model, segmenter, lengths
    DIR/shards/00000.parquet …  one for each `rows_per_shard` records of the data: texts, scores, numbers by sentence
    DIR/pairs.parquet           one light row a pair, without texts: what lists, filters, sorts and charts read

Decisions:
- Every file is written beside its place and renamed when it is whole, so a file that stands is complete.
- A pair is known by its texts and its label (`pair_id`), not by its row or its file: a verdict on a label stays with it
  when the data are sorted or cleaned, and is none on the label that a flip has made.
- Lists read `pairs.parquet` with DuckDB, so a million rows stay on disk; one pair is read from the one shard that
  holds it, and is equal to what the scorer gave.
- DuckDB sees nothing but the folder: other files, the network, extensions and its own settings are closed to it.
- Opening loads no model.

The columns of the shards are in `sentrm.audit.shards`, those of `pairs.parquet` in `sentrm.audit.pairs`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow
import pyarrow.parquet

from ..errors import AuditError
from ..preferences import PreferencePair, RowProblem
from ..results import ScoredPair
from ..words import SURROGATES
from .filters import Filter, condition, quoted
from .shards import is_tie as is_tie  # with pair_id and texts_of: what names a pair everywhere
from .shards import pair_id as pair_id
from .shards import preference_pair, read_problems, read_rows, scored_pair, shard_path
from .shards import texts_of as texts_of
from .shards import without_number as without_number

VERSION = 2  # of the folder's form
KEPT = 256  # rows found last
# Columns made of those of pairs.parquet, empty at a tie: what the figures of an audit are of.
TOWARDS_THE_LABEL = """
    CASE WHEN label_probability <> 0.5 THEN sign(label_probability - 0.5) END AS sign,
    sign * margin AS label_margin,
    sign * length_difference AS label_length_difference,
    abs(sign) * (0.5 + 0.5 * tanh(abs(margin) / 2)) AS confidence
"""
MEMORY = "1GB"  # DuckDB's; half of what opening a million pairs may take


class AuditFolder:
    """A scored dataset on disk, read with DuckDB; safe to use from several threads; opens without a model."""

    def __init__(self, path: Path, about: dict[str, Any], pairs: Path, shards: Sequence[Path]) -> None:
        """`open` checks what it is given here."""
        self.path = path
        self.about = about  # audit.json
        self.shards = tuple(shards)
        self._connection = connect(path)
        view = f"SELECT * EXCLUDE (sign) FROM (SELECT *, {TOWARDS_THE_LABEL} FROM {parquet([pairs])})"
        self._connection.execute(f"CREATE VIEW pairs AS {view}")
        self._connection.execute(f"CREATE VIEW texts AS SELECT * FROM {parquet(shards)}")
        found = self._connection.execute("DESCRIBE pairs").fetchall()
        kinds = {name: _column_kind(kind) for name, kind, *_ in found}
        self.columns: dict[str, str] = {name: kind for name, kind in kinds.items() if kind}
        self.row = lru_cache(KEPT)(self._row)  # one page asks several times, and each time the ids of all are read

    @classmethod
    def open(cls, path: str | Path) -> AuditFolder:
        """Raises AuditError for a folder that is none, is unfinished, or is damaged."""
        path = Path(path).resolve()
        about, pairs = read_about(path), path / "pairs.parquet"
        if about is None:
            raise AuditError(
                f"{path} is no audit folder: it has no audit.json. Make one: sentrm audit DATA --output DIR"
            )
        if not pairs.exists():
            standing = len(list((path / "shards").glob("*.parquet")))
            raise AuditError(
                f"the audit in {path} is unfinished: {standing} shards stand, pairs.parquet does not. Start the same "
                "sentrm audit again: it goes on where it stopped."
            )
        try:
            count = int(pyarrow.parquet.read_schema(pairs).metadata[b"shards"])
        except (pyarrow.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            raise AuditError(
                f"{pairs} is damaged: {error}. Start the same sentrm audit again: what is scored stays."
            ) from error
        shards = [shard_path(path, number) for number in range(count)]
        if missing := [one.name for one in shards if not one.exists()]:
            raise AuditError(
                f"{path} is damaged: {len(missing)} of {count} shards are missing, e.g. {missing[0]}. Copy the folder "
                "again, or start the same sentrm audit again."
            )
        try:
            return cls(path, about, pairs, shards)
        except duckdb.Error as error:
            raise AuditError(f"{path} is damaged: {error}. Copy the folder again, or score the data again.") from error

    def count(self, filters: Sequence[Filter] = ()) -> int:
        """Pairs that pass all filters."""
        where, values = condition(filters, self.columns)
        return int(self._rows(f"SELECT count(*) AS n FROM pairs WHERE {where}", values)[0]["n"])

    def page(
        self,
        filters: Sequence[Filter] = (),
        sort: str | None = None,
        descending: bool = False,
        start: int = 0,
        size: int = 50,
    ) -> list[dict[str, Any]]:
        """Rows of `pairs.parquet` from `start`, counted from 0; those without a value of `sort` come last, those of the
        same value in the data's order."""
        where, values = condition(filters, self.columns)
        order = self._order(sort, descending)
        # The order is found on the columns it needs; the others are read for the rows of the page alone.
        chosen = f"SELECT row, number FROM pairs WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?"
        places = self._rows(chosen, [*values, size, start])
        if not places:
            return []
        rows = self._rows(
            f"SELECT * FROM pairs WHERE row IN ({', '.join('?' * len(places))})", [one["row"] for one in places]
        )
        found = {(row["row"], row["number"]): row for row in rows}
        return [found[one["row"], one["number"]] for one in places]

    def ids(self, filters: Sequence[Filter] = (), sort: str | None = None, descending: bool = False) -> list[str]:
        """The ids of all pairs that pass, in the order of `page`."""
        where, values = condition(filters, self.columns)
        query = f"SELECT pair_id FROM pairs WHERE {where} ORDER BY {self._order(sort, descending)}"
        return list(self._fetch(query, values)["pair_id"])

    def column(self, name: str, filters: Sequence[Filter] = ()) -> np.ndarray:
        """(P,) a column of the pairs that pass, in the data's order; see `table`."""
        return self.table([name], filters)[name]

    def table(self, names: Sequence[str], filters: Sequence[Filter] = ()) -> dict[str, np.ndarray]:
        """(P,) each, of the pairs that pass, in the data's order. Numbers and flags are floats where some are missing,
        those NaN; a missing text is None."""
        where, values = condition(filters, self.columns)
        wanted = ", ".join(self._known(name) for name in names)
        found = self._fetch(f"SELECT {wanted} FROM pairs WHERE {where} ORDER BY row, number", values)
        return {name: _plain(found[name]) for name in names}

    def pair(self, pair_id: str) -> ScoredPair:
        """The scored pair, equal to what the scorer gave.

        Raises:
            AuditError: if there is none of this id, or its shard is damaged.
        """
        return scored_pair(*self._read(pair_id))

    def texts(self, pair_id: str) -> PreferencePair:
        """The pair that was scored, with its own id, source and label. Raises as `pair`."""
        row, _ = self._read(pair_id)
        return preference_pair(row)

    def problems(self) -> list[RowProblem]:
        """Rows, and pairs of rows, that were left out, with the reason."""
        return [problem for shard in self.shards for problem in read_problems(shard)]

    def close(self) -> None:
        self._connection.close()

    def _known(self, name: str) -> str:
        if name not in self.columns:
            raise AuditError(f"there is no column {name!r:.60}; expected one of {', '.join(self.columns)}.")
        return quoted(name)

    def _order(self, sort: str | None, descending: bool) -> str:
        first = f"{self._known(sort)} {'DESC' if descending else 'ASC'} NULLS LAST, " if sort else ""
        return f"{first}row, number"

    def _row(self, pair_id: str) -> dict[str, Any]:
        """A pair's row of `pairs.parquet`. Raises AuditError if there is none of this id."""
        found = self._rows("SELECT * FROM pairs WHERE pair_id = ?", [pair_id])
        if not found:
            raise AuditError(
                f"there is no pair {pair_id!r:.60} in {self.path.name}; ids are those of its list of pairs."
            )
        return found[0]

    def _read(self, pair_id: str) -> tuple[dict[str, Any], Mapping[bytes, bytes]]:
        """The row of its shard, and the metadata of that file."""
        row = self.row(pair_id)
        place = row["row"], row["number"]
        rows, about = read_rows(self.shards[row["shard"]], [place])
        return rows[place], about

    def _rows(self, query: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        with self._asked(query, values) as cursor:
            names = [name for name, *_ in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _fetch(self, query: str, values: Sequence[Any]) -> dict[str, np.ndarray]:
        with self._asked(query, values) as cursor:
            return cursor.fetchnumpy()

    @contextmanager
    def _asked(self, query: str, values: Sequence[Any]) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of this thread's own, that has executed the query."""
        storable = [SURROGATES.sub("\ufffd", value) if isinstance(value, str) else value for value in values]
        try:
            with self._connection.cursor() as cursor:
                yield cursor.execute(query, storable)
        except duckdb.Error as error:
            raise AuditError(f"{self.path} could not be read: {error}. Is the folder whole? Open it again.") from error


def read_about(path: Path) -> dict[str, Any] | None:
    """audit.json, or None where there is none.

    Raises:
        AuditError: for one that is damaged, or of another version.
    """
    file = path / "audit.json"
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise AuditError(f"{file} is damaged: {error}. Choose another folder, or score the data again.") from error
    version = about.get("version") if isinstance(about, dict) else None
    if version != VERSION:
        raise AuditError(
            f"{file} is of version {version}; this sentrm reads {VERSION}. Score the data into another folder."
        )
    return about


def connect(path: Path, spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    """DuckDB that can read and write below the folder and nowhere else.

    Args:
        spill: folder for what does not fit into memory; without one, a query that needs more fails.
    """
    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "memory_limit": MEMORY,
            "temp_directory": str(spill or ""),
        }
    )
    connection.execute(f"SET allowed_directories = [{literal(str(path))}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def parquet(files: Sequence[Path]) -> str:
    """The rows of the files, as SQL. A folder's name such as `x=1` adds no column."""
    return f"read_parquet([{', '.join(literal(str(file)) for file in files)}], hive_partitioning = false)"


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _column_kind(kind: str) -> str:
    """A type of DuckDB as "number", "text" or "flag"; "" for lists and others."""
    if kind in ("VARCHAR", "BOOLEAN"):
        return {"VARCHAR": "text", "BOOLEAN": "flag"}[kind]
    return "number" if kind.endswith(("INT", "INTEGER")) or kind in ("DOUBLE", "FLOAT") else ""


def _plain(column: np.ndarray) -> np.ndarray:
    """DuckDB masks what is missing."""
    if not isinstance(column, np.ma.MaskedArray):
        return column
    text = column.dtype == object
    values = np.array(np.ma.getdata(column), dtype=object if text else float)
    values[np.ma.getmaskarray(column)] = None if text else np.nan
    return values
