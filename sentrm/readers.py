"""From a source to records, one value a row: files of four forms, data set folders and hub ids.

Nothing is read before it is asked for, so a source need not fit in memory; only a JSON document, a packed Parquet
file and a hub id that is not streamed are read as a whole.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, cast

from .errors import PreferenceDataError
from .words import SURROGATES, plain_cell


class BadRow(Exception):
    """Why one record is no row of preference data."""


def records(source: str, split: str, *, streaming: bool = False) -> Iterator[Any]:
    """The rows of a file, a data set folder or a hub id; a BadRow stands where one could not be parsed.

    `split` and `streaming` matter only where `datasets.load_dataset` reads.

    Raises PreferenceDataError for a source that is not there or cannot be read.
    """
    path = Path(source)
    ending = path.suffixes[-2:-1] if path.suffix.lower() == ".gz" else path.suffixes[-1:]
    reader = READERS.get("".join(ending).lower())
    if path.is_dir() or (reader is None and not path.exists() and re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", source)):
        return _read_dataset(source, split, streaming)
    if not path.exists():
        raise PreferenceDataError(f"there is no file {source}. Expected a file, a data set folder or a hub id.")
    if reader is None:
        raise PreferenceDataError(
            f"cannot tell the format of {source} by its ending. Expected {', '.join(READERS)}, each also with .gz."
        )
    return _read_file(path, reader)


def _read_file(path: Path, reader: Callable[[BufferedIOBase], Iterator[Any]]) -> Iterator[Any]:
    from pyarrow import ArrowException

    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            yield from reader(file)
    except PreferenceDataError as error:
        raise PreferenceDataError(f"{path}: {error}") from None
    except (OSError, EOFError, zlib.error, csv.Error, ArrowException, UnicodeDecodeError) as error:
        raise PreferenceDataError(f"cannot read {path}: {error}. Check that the file is whole.") from error


def _read_jsonl(file: BufferedIOBase) -> Iterator[Any]:
    for number, line in enumerate(file):  # a binary file ends lines at \n alone: U+2028 is legal inside a line
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
        if line.strip():
            try:
                yield json.loads(line.decode("utf-8"))
            except (ValueError, RecursionError) as error:
                yield BadRow(f"not a line of JSON: {error}")


def _read_json(file: BufferedIOBase) -> Iterator[Any]:
    data = file.read()
    if not data.strip():
        return
    try:
        document = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise PreferenceDataError(
            f"not one JSON document: {error}. Name a file of one object a line .jsonl."
        ) from error
    if isinstance(document, dict):
        lists = [value for value in document.values() if isinstance(value, list)]
        if len(lists) == 1:
            document = lists[0]
    if not isinstance(document, list):
        got = type(document).__name__
        raise PreferenceDataError(f"got one {got}. Expected a list of rows, or an object that holds exactly one list.")
    yield from document


def _read_csv(file: BufferedIOBase) -> Iterator[Any]:
    # Bytes that are not UTF-8 become lone surrogates, so the row that has them can be named.
    text = io.TextIOWrapper(cast(BinaryIO, file), encoding="utf-8-sig", errors="surrogateescape", newline="")
    # The default of 131,072 characters is less than a long response. It is the module's, and another thread may be
    # reading too, so it is not set back.
    csv.field_size_limit(sys.maxsize)
    try:
        first = text.readline()  # Excel parts cells by what the country does not write in numbers
        mark = max(",;\t", key=lambda mark: len(next(csv.reader([first[:9999]], delimiter=mark), ())))
        reader = csv.DictReader(chain([first], text), delimiter=mark)
        header = reader.fieldnames = [plain_cell(name) for name in reader.fieldnames or ()]
        if len(set(header)) < len(header):
            raise PreferenceDataError(f"two columns have the same name (columns: {', '.join(header)}). Rename one.")
        for row in reader:
            if None in row or None in row.values():
                yield BadRow(f"the number of fields is not that of the header, {len(header)}")
            elif SURROGATES.search("".join(row.values())):
                yield BadRow("not UTF-8")
            else:
                yield {name: plain_cell(cell) for name, cell in row.items()}
    finally:
        text.detach()  # the file is closed by who opened it


def _read_parquet(file: BufferedIOBase) -> Iterator[Any]:
    from pyarrow.parquet import ParquetFile

    seekable = io.BytesIO(file.read()) if isinstance(file, gzip.GzipFile) else file
    for batch in ParquetFile(seekable).iter_batches(batch_size=128):  # its texts are Python's at once
        yield from batch.to_pylist()


def _read_dataset(source: str, split: str, streaming: bool) -> Iterator[Any]:
    from datasets import load_dataset

    try:
        yield from load_dataset(source, split=split, streaming=streaming)
    except Exception as error:  # datasets and its network stack share no base class
        raise PreferenceDataError(
            f"there is no file {source}, and datasets cannot load it as a hub id or folder, split {split!r}: "
            f"{type(error).__name__}: {error}"
        ) from error


READERS = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}
ENDINGS = tuple(ending + gz for ending in READERS for gz in ("", ".gz"))  # of files that can be read
