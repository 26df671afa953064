"""What is taken from visitors: a file is read once, elsewhere and within limits, before this process reads it.

    upload -> ending, size -> a process of its own: unpacks, parses, walks every row -> rows, or why not

Decisions:
- The same readers read it there as here, so what passes there cannot surprise here; nothing of it is executed, and a
  format that could be (a pickle, a loading script) has no reader.
- Each limit is checked by itself, so the answer names it. Under them all lie the limits of that process: memory and
  time. What a crafted file can still do, it does to a process that holds nothing and is thrown away.
- Files that the owner names at the start are not limited.
- The process imports the readers alone, without torch: it has started in a quarter of a second.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from .errors import PreferenceDataError
from .readers import ENDINGS, READERS, BadRow, records

MIB = 2**20
HUB_ID = re.compile(r"[\w-][\w.-]{0,95}(/[\w-][\w.-]{0,95})?", re.ASCII)
_CHECK = """
import sys, types
package = types.ModuleType("sentrm")  # without its __init__, which imports torch
package.__path__ = [sys.argv[1]]
sys.modules["sentrm"] = package
from sentrm.limits import _main
_main(*sys.argv[2:])
"""


@dataclass(frozen=True)
class Limits:
    """How much of what a visitor's file may hold or take."""

    size: int = 200 * MIB  # bytes, as uploaded
    unpacked: int = 1024 * MIB  # bytes, of what is in a .gz or in the pages of a Parquet file
    rows: int = 1_000_000
    columns: int = 200
    depth: int = 32  # lists and objects inside each other
    cell: int = 1_000_000  # characters of one text
    memory: int = 2048 * MIB  # bytes that reading may take
    seconds: int = 300  # that reading may take


UPLOAD = Limits()
_ONE = Lock()  # files are checked one after the other: each may take the whole memory


def check_upload(path: str | Path, limits: Limits = UPLOAD) -> int:
    """Whether a visitor's file can be read as preference data within the limits; how many rows it has.

    Raises:
        PreferenceDataError: for any other file; the message names it without its folder, and the limit.
    """
    path = Path(path)
    if not path.name.lower().endswith(ENDINGS):
        raise PreferenceDataError(
            f"{path.name:.80} is of no form that is read here; expected {', '.join(READERS)}, each also with .gz."
        )
    if path.is_symlink() or not path.is_file():
        raise PreferenceDataError(f"{path.name:.80} is no file. Upload it again.")
    size = path.stat().st_size
    if size > limits.size:
        raise _too_much(f"{path.name:.80} has {size / MIB:,.1f} MiB", f"{limits.size / MIB:,.1f} MiB")
    command = [sys.executable, "-c", _CHECK, str(Path(__file__).parent), str(path), json.dumps(asdict(limits))]
    lean = {"ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1", "ARROW_IO_THREADS": "1"}
    try:
        with _ONE:
            done = subprocess.run(command, env=os.environ | lean, capture_output=True, timeout=limits.seconds)
    except subprocess.TimeoutExpired:
        raise _too_much(f"{path.name:.80} takes longer to read", f"{limits.seconds} seconds") from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:  # it was killed, or Arrow ended it
        raise PreferenceDataError(
            f"{path.name:.80} broke the process that read it (exit code {done.returncode}). Write the file again with "
            "a current library, or as .jsonl."
        ) from None
    if isinstance(answer, str):
        raise PreferenceDataError(answer)
    return int(answer)


def check_hub_id(text: str) -> str:
    """The id of a data set on the Hugging Face hub, as a visitor wrote it: never something of this machine.

    Raises:
        PreferenceDataError: for anything else.
    """
    if not HUB_ID.fullmatch(text.strip()) or Path(text.strip()).exists():
        raise PreferenceDataError(f"{text!r:.80} is no id of the hub. Expected owner/name, as in its address there.")
    return text.strip()


def check_rows(path: Path, limits: Limits) -> int:
    """The checks themselves, in this process; see `check_upload`."""
    _check_packed(path, limits)
    rows = 0
    for rows, record in enumerate(records(str(path), "train"), start=1):
        if rows > limits.rows:
            raise _too_much(f"{path.name:.80} has more rows", f"{limits.rows:,}")
        if not isinstance(record, BadRow):
            _check_record(record, f"row {rows} of {path.name:.80}", limits)
    return rows


def _check_packed(path: Path, limits: Limits) -> None:
    """What a packed file says of itself, or has when it is unpacked and nothing is kept."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        with _damage_told(path), gzip.open(path) as file:
            total = 0
            while chunk := file.read(MIB):
                total += len(chunk)
                if total > limits.unpacked:
                    raise _too_much(f"{path.name:.80} unpacks to more", f"{limits.unpacked / MIB:,.0f} MiB")
    if ".parquet" in suffixes[-2:]:
        import pyarrow.parquet

        with _damage_told(path), gzip.open(path) if suffixes[-1] == ".gz" else path.open("rb") as file:
            about = pyarrow.parquet.read_metadata(file)
        if about.num_rows > limits.rows:
            raise _too_much(f"{path.name:.80} has {about.num_rows:,} rows", f"{limits.rows:,}")
        size = sum(about.row_group(group).total_byte_size for group in range(about.num_row_groups))
        if size > limits.unpacked:
            raise _too_much(f"{path.name:.80} unpacks to {size / MIB:,.0f} MiB", f"{limits.unpacked / MIB:,.0f} MiB")


def _check_record(record: Any, where: str, limits: Limits) -> None:
    """Walks what the row holds without recursion, so depth itself does no harm."""
    if isinstance(record, dict) and len(record) > limits.columns:
        raise _too_much(f"{where} has {len(record):,} columns", f"{limits.columns}")
    level: list[Any] = [record]
    depth = 0
    while level:
        inner: list[Any] = []
        for value in level:
            if isinstance(value, str) and len(value) > limits.cell:
                raise _too_much(f"{where} holds a text of {len(value):,} characters", f"{limits.cell:,}")
            if isinstance(value, dict):
                inner += [*value, *value.values()]
            elif isinstance(value, list):
                inner += value
        depth += any(isinstance(value, dict | list) for value in level)
        if depth > limits.depth:
            raise _too_much(f"{where} is nested deeper", f"{limits.depth} lists and objects inside each other")
        level = inner


def _too_much(got: str, most: str) -> PreferenceDataError:
    return PreferenceDataError(
        f"{got}; an upload may have {most} at most. Upload a part of it, or have who runs the app name it with --data."
    )


@contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    from pyarrow import ArrowException

    try:
        yield
    except (OSError, EOFError, zlib.error, ArrowException) as error:
        raise PreferenceDataError(f"cannot read {path.name:.80}: {error}. Check that the file is whole.") from error


def _main(file: str, given: str) -> None:
    """The process that `check_upload` starts: prints the number of rows, or as text why there is none."""
    path, limits = Path(file), Limits(**json.loads(given))
    with suppress(ImportError, ValueError, OSError):  # Linux has all of this; elsewhere the time limit stands alone
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (limits.memory, limits.memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answer: int | str
    try:
        answer = check_rows(path, limits)
    except PreferenceDataError as error:
        answer = str(error).replace(str(path), path.name)
        if isinstance(error.__cause__, MemoryError):
            answer = _memory_told(path, limits)
    except MemoryError:
        answer = _memory_told(path, limits)
    json.dump(answer, sys.stdout)


def _memory_told(path: Path, limits: Limits) -> str:
    return str(_too_much(f"{path.name:.80} takes more memory to read", f"{limits.memory / MIB:,.0f} MiB"))
