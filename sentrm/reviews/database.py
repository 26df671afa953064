"""The file of a review log: its tables, opening it, and what its errors mean.

Decisions:
- The file appears under its name only when it is complete. So one that exists and is no review log, an empty one
  too, is damaged or something else, and is left as it is.
- The header names the application and the version; on opening, every page is checked, in about half a second for a
  million votes.
- SQLite's errors become a ReviewError that says what the file's owner can do.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from ..errors import ReviewError
from .votes import VERDICTS

APPLICATION = 0x73726D76  # "srmv", in the file's header: which SQLite files are review logs
VERSION = 1

_SCHEMA = f"""
CREATE TABLE events (
    number INTEGER PRIMARY KEY,
    uuid TEXT NOT NULL UNIQUE,
    time TEXT NOT NULL,
    annotator TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('vote', 'undo', 'redo')),
    verdict TEXT CHECK (verdict IN {VERDICTS}),
    target INTEGER REFERENCES events,
    body TEXT NOT NULL CHECK (json_valid(body)),
    CHECK ((kind = 'vote') = (verdict IS NOT NULL)),
    CHECK (kind <> 'vote' OR (json_type(body, '$.reason') = 'text' AND json_type(body, '$.comment') = 'text'
        AND json_type(body, '$.marks') = 'array' AND json_type(body, '$.blind') IN ('true', 'false')) IS TRUE),
    CHECK ((kind IN ('undo', 'redo')) = (target IS NOT NULL))
) STRICT;
CREATE TABLE votes (
    event INTEGER NOT NULL REFERENCES events,
    pair_id TEXT NOT NULL,
    PRIMARY KEY (event, pair_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX votes_by_pair ON votes (pair_id, event);
CREATE INDEX events_by_annotator ON events (annotator, kind, number);
CREATE INDEX changes ON events (target, number, kind) WHERE target IS NOT NULL;
CREATE VIEW live AS
    SELECT * FROM events WHERE kind = 'vote' AND 'undo' IS NOT
        (SELECT kind FROM events AS change WHERE change.target = events.number ORDER BY change.number DESC LIMIT 1);
CREATE VIEW current AS
    SELECT pair_id, annotator, max(number) AS number, verdict, time, body
    FROM votes JOIN live ON live.number = votes.event GROUP BY pair_id, annotator;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
""" + "".join(
    f"CREATE TRIGGER no_{verb}_of_{table} BEFORE {verb} ON {table} "
    "BEGIN SELECT RAISE(ABORT, 'a review log is append-only'); END;\n"
    for table in ("events", "votes")
    for verb in ("UPDATE", "DELETE")
)


_ADVICE = {  # by SQLite's primary result code
    sqlite3.SQLITE_BUSY: "another process has been writing to it all the while. Nothing was written; close that "
    "process, or try again",
    sqlite3.SQLITE_READONLY: "the file or its folder cannot be written. Nothing was written; change its permissions, "
    "or copy it to a folder of your own",
    sqlite3.SQLITE_IOERR: "the disk does not take or give it, for one because it is full. Nothing was written; make "
    "room, then try again. What was acknowledged before is kept",
    sqlite3.SQLITE_FULL: "the disk is full. Nothing was written; make room, then try again. What was acknowledged "
    "before is kept",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened, or its folder cannot be written. Expected a file in a folder that "
    "exists and can be written",
    sqlite3.SQLITE_NOTADB: "it is no SQLite file, or its beginning is damaged. Choose the file of a review log",
}
_DAMAGED = (
    "the file is damaged. It is left as it is: keep a copy, then put a backup in its place, or a new log that the last "
    "exported event log is imported into; `sqlite3 FILE .recover` reads what is left"
)


def open_database(path: Path, timeout_s: float) -> sqlite3.Connection:
    """A connection for any thread, in autocommit; a new file if there is none.

    Raises:
        ReviewError: the file is damaged, locked or no review log, or the folder cannot be written.
    """
    with told(path):
        if not path.exists():
            _create(path)
        if not path.stat().st_size:
            raise ReviewError(
                f"{path} is empty, expected a review log. If it never held one, remove it; else put a copy in its "
                "place, or a new log that the last exported event log is imported into."
            )
        db = sqlite3.connect(path, timeout_s, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA cache_size = -65536")  # 64 MiB: what a vote on a million pairs writes
            _check(db, path)
        except BaseException:
            db.close()
            raise
        return db


def _create(path: Path) -> None:
    """Make the file under another name, and give it its own when it is complete and on the disk."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as aside:
        new = Path(aside) / "new"
        with closing(sqlite3.connect(new, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(_SCHEMA)
        with new.open("rb") as file:
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process was first; its file is as good
            os.link(new, path)  # the folder is on the disk with the first vote: SQLite syncs it with the new WAL


def _check(db: sqlite3.Connection, path: Path) -> None:
    application, version = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    if application != APPLICATION:
        raise ReviewError(
            f"{path} is no review log but a SQLite file of another application, or its beginning is damaged. "
            "Choose the file of a review log."
        )
    if version != VERSION:
        raise ReviewError(f"{path} is a review log of version {version}, expected {VERSION}. Update sentrm to open it.")
    found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise ReviewError(f"cannot use {path}: {_DAMAGED} ({found}).")


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Errors of SQLite and the file system as ReviewError."""
    try:
        yield
    except sqlite3.ProgrammingError as error:
        raise ReviewError(f"{path} was closed. Open it again with ReviewLog.open.") from error
    except sqlite3.DatabaseError as error:
        # Text that is not UTF-8 is an error of the module, without SQLite's code: the file is damaged.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        raise ReviewError(f"cannot use {path}: {_ADVICE.get(code, _DAMAGED)} ({error}).") from error
    except OSError as error:
        raise ReviewError(
            f"cannot use {path}: {error}. Expected a file in a folder that exists and can be written."
        ) from error
