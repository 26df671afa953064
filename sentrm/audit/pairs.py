"""`pairs.parquet`: one light row a pair, made by DuckDB from the shards, in the order of (row, number).

pair_id                     of texts and label, see `shards.pair_id`; where several pairs have the same texts, that of
                            the second in the data's order ends with "-2", of the third with "-3", …
row, number, shard          where it stands: record from 1, place in the record from 0, shard from 0
id, source                  the data's own
prompt_id                   16 hex digits, the same for pairs of one prompt
margin, probability         logits, and σ(margin), that chosen is preferred
label_probability           that the label prefers chosen; 0.5 is a tie
agrees                      whether the margin has the label's sign; null for a tie
chosen_score, rejected_score
chosen_length, rejected_length, length_difference       characters; chosen − rejected
sentences                   scored ones of both responses
turns, language             messages of the user in the prompt; "" if the data do not say
truncated                   sentences were dropped, or the prompt was cut
meta_<name>                 the data's other plain columns, the most frequent ones: numbers where all values are, or
                            are text that reads as one (as in CSV), flags likewise, else text; "007" and whole numbers
                            of more than 15 digits are no numbers but names
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow
import pyarrow.parquet

from ..errors import AuditError
from .filters import quoted
from .folder import connect, literal, parquet
from .shards import written_whole

MOST_METADATA = 50  # columns
PAIR_ID = """
    digest || coalesce('-' || nullif(row_number() OVER (PARTITION BY digest[:16] ORDER BY row, number), 1), '')
    AS pair_id
"""
COLUMNS = """
    digest, row, number, ((row - 1) // {rows_per_shard})::INTEGER AS shard,
    id, source, left(sha256(prompt), 16) AS prompt_id,
    margin, 0.5 * (1 + tanh(margin / 2)) AS probability, label_probability,
    CASE WHEN label_probability > 0.5 THEN margin > 0 WHEN label_probability < 0.5 THEN margin < 0 END AS agrees,
    chosen_score, rejected_score,
    length(chosen) AS chosen_length, length(rejected) AS rejected_length,
    length(chosen) - length(rejected) AS length_difference,
    (len(chosen_starts) + len(rejected_starts))::INTEGER AS sentences,
    turns, language,
    chosen_dropped_sentences + rejected_dropped_sentences + chosen_cut_prompt_tokens + rejected_cut_prompt_tokens > 0
        AS truncated
"""
KEYS = r"""
    SELECT key, CASE
        WHEN bool_and(type = 'BOOLEAN') OR bool_and(type = 'VARCHAR' AND lower(text) IN ('true', 'false'))
        THEN 'BOOLEAN'
        WHEN bool_and(type IN ('UBIGINT', 'BIGINT', 'HUGEINT', 'DOUBLE')) OR bool_and(
            type = 'VARCHAR' AND coalesce(isfinite(TRY_CAST(text AS DOUBLE)), false)
            AND regexp_full_match(text, '[-+]?(0|[1-9]\d{0,14})?(\.\d*)?([eE][-+]?\d+)?')
        )
        THEN 'DOUBLE' ELSE 'VARCHAR' END
    FROM (SELECT key, type, value ->> '$' AS text FROM shards, json_each(metadata))
    GROUP BY key ORDER BY count(*) DESC, key LIMIT ?
"""


def pairs_stand(path: Path, shards: int) -> bool:
    """Whether there is a pairs.parquet that was made from so many shards."""
    try:
        metadata = pyarrow.parquet.read_schema(path / "pairs.parquet").metadata or {}
    except (pyarrow.ArrowException, OSError):
        return False
    return bool(metadata.get(b"shards") == str(shards).encode())


def write_pairs(path: Path, shards: Sequence[Path], rows_per_shard: int) -> None:
    """Write `path`/pairs.parquet from the shards, which are all there are.

    Raises:
        AuditError: if it cannot be written, or a shard is damaged.
    """
    with (
        written_whole(path / "pairs.parquet") as aside,
        connect(path, spill := aside.with_suffix(".spill.partial")) as connection,
    ):
        try:
            connection.execute(f"CREATE VIEW shards AS SELECT * FROM {parquet(shards)}")
            columns = COLUMNS.format(rows_per_shard=rows_per_shard) + _metadata_columns(connection)
            light = f"SELECT {columns} FROM shards"  # before pairs are numbered and sorted, so that texts are not
            connection.execute(
                f"COPY (SELECT {PAIR_ID}, * EXCLUDE (digest) FROM ({light}) ORDER BY row, number) "
                f"TO {literal(str(aside))} (FORMAT parquet, COMPRESSION zstd, KV_METADATA {{shards: '{len(shards)}'}})"
            )
        except duckdb.IOException:  # of the disk: `written_whole` says it
            raise
        except duckdb.Error as error:
            raise AuditError(
                f"a shard in {path} is damaged: {error}. Delete the file it names, and start the same command again."
            ) from error
        finally:
            shutil.rmtree(spill, ignore_errors=True)


def _metadata_columns(connection: duckdb.DuckDBPyConnection) -> str:
    found = connection.execute(KEYS, [MOST_METADATA]).fetchall()
    columns: dict[str, str] = {}  # without regard to capitals, as DuckDB tells columns apart
    for key, kind in found:
        pointer = literal("/" + key.replace("~", "~0").replace("/", "~1"))
        value = f"json_extract_string(metadata, {pointer})"
        columns.setdefault(key.lower(), f", TRY_CAST({value} AS {kind}) AS {quoted('meta_' + key)}")
    return "".join(columns.values())
