"""Annotators' verdicts: an append-only event log in one SQLite file.

Decisions:
- An event is one action of one person: a vote (on one pair, or on all that a filter found), or its undo or redo.
  Events are only ever added; the tables' own triggers forbid the rest.
- What counts now is a view over the events: a vote is live unless the last undo or redo that names it is an undo, and a
  pair has the newest live vote of each annotator. Taking back a million votes is one row.
- Undo takes back the annotator's newest live vote. Redo gives back what was undone last, until the next vote.
- A call returns once its event is on the disk (WAL, synchronous=FULL), and every call is one transaction: killed at any
  moment, the file holds all that was acknowledged, and of the rest each action whole or not at all.
- An event has a uuid, so a log can be imported again, or merged with another: the order is that of arrival.
- Nothing but the standard library is imported here, so a killed process is back in no time.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from ..errors import ReviewError, StaleVote
from .database import open_database, told
from .votes import VERDICTS, Action, Counts, Vote, check_name, check_vote

PAGE = 1000  # events that are read at once
_VOTE_BODY = ("reason", "comment", "marks", "blind")


class ReviewLog:
    """Verdicts on preference pairs in one file; used from any thread, and from several processes at once."""

    def __init__(self, db: sqlite3.Connection, path: Path) -> None:
        self.path = path
        self._db = db
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: str | Path, timeout_s: float = 5) -> ReviewLog:
        """Open the log, or start one if there is no such file.

        Args:
            timeout_s: how long to wait for another process that writes.

        Raises:
            ReviewError: the file is damaged or no review log, or the folder cannot be written.
        """
        return cls(open_database(Path(path), timeout_s), Path(path))

    def close(self) -> None:
        """Close the file. What was acknowledged is in it already."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> ReviewLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def vote(
        self,
        pair_id: str,
        annotator: str,
        verdict: str,
        *,
        reason: str = "",
        comment: str = "",
        marks: Sequence[Mapping[str, Any]] = (),
        seen: int | None = None,
        blind: bool = False,
    ) -> Vote:
        """Write a verdict on one pair; it is on the disk when this returns.

        Args:
            marks: sentences called good or bad, see `votes`.
            seen: id of the annotator's newest vote on the pair that the page knew, 0 for none; None does not check.
            blind: whether the scores were hidden.

        Raises:
            StaleVote: the annotator has voted on the pair since, in another window; nothing was written.
            ReviewError: what was given is no vote, or the file cannot take it; nothing was written.
        """
        body = check_vote(annotator, verdict, reason, comment, marks, blind)
        check_name("pair id", pair_id)
        with self._written() as db:
            if seen is not None and (newest := self.current(pair_id, annotator)) and newest[0].id > seen:
                raise StaleVote(
                    f"{annotator} has voted on pair {pair_id} since this page was shown, in another window. "
                    "Nothing was written; look at that vote, then vote again.",
                    newest[0],
                )
            time = _now()
            number = _add(db, uuid4().hex, time, annotator, "vote", verdict=verdict, body=body, pair_ids=[pair_id])
        return Vote(number, pair_id, annotator, verdict, time, reason, comment, tuple(body["marks"]), blind)

    def vote_all(
        self, pair_ids: Iterable[str], annotator: str, verdict: str, *, reason: str = "", comment: str = ""
    ) -> int:
        """One verdict on many pairs, all or none of them, undone at once. Returns how many; raises as `vote`."""
        body = check_vote(annotator, verdict, reason, comment, (), False)
        distinct = sorted(set(pair_ids))  # sorted, a million of them go into the index one after the other
        for pair_id in distinct:
            check_name("pair id", pair_id)
        if distinct:
            with self._written() as db:
                _add(db, uuid4().hex, _now(), annotator, "vote", verdict=verdict, body=body, pair_ids=distinct)
        return len(distinct)

    def undo(self, annotator: str) -> Action | None:
        """Take back the annotator's newest live vote; None if there is none. Raises ReviewError as `vote`."""
        return self._change("undo", _UNDO, annotator)

    def redo(self, annotator: str) -> Action | None:
        """Give back what the annotator undid last; None if nothing was undone since the last vote."""
        return self._change("redo", _REDO, annotator)

    def can_undo(self, annotator: str) -> bool:
        return bool(self._rows(_UNDO, (annotator,)))

    def can_redo(self, annotator: str) -> bool:
        return bool(self._rows(_REDO, (annotator,)))

    def _change(self, kind: str, which: str, annotator: str) -> Action | None:
        check_name("annotator", annotator)
        with self._written() as db:
            target = db.execute(which, (annotator,)).fetchone()
            if target is None:
                return None
            _add(db, uuid4().hex, _now(), annotator, kind, target=target[0])
        return Action(*self._rows(_ACTION, target)[0])

    def current(self, pair_id: str | None = None, annotator: str | None = None) -> list[Vote]:
        """The newest live vote of each pair and annotator, in the order of pairs and names."""
        asked = {"pair_id": pair_id, "annotator": annotator}
        given = {name: value for name, value in asked.items() if value is not None}
        where = "WHERE " + " AND ".join(f"{name} = :{name}" for name in given) if given else ""
        columns = "number, pair_id, annotator, verdict, time, body"
        rows = self._rows(f"SELECT {columns} FROM current {where} ORDER BY pair_id, annotator", given)
        return [_as_vote(row) for row in rows]

    def verdicts(self, pair_ids: Sequence[str] | None = None) -> list[tuple[str, str, str]]:
        """(pair id, annotator, verdict) of the current votes, in the order of pairs and names.

        Args:
            pair_ids: of which pairs; None is all, be they of one audit or of several.
        """
        asked, values = _asked(pair_ids)
        return self._rows(
            f"SELECT pair_id, annotator, verdict FROM current {asked} ORDER BY pair_id, annotator", values
        )

    def has_voted(self, pair_id: str, annotator: str) -> bool:
        """Whether the annotator has ever given the pair a verdict but a skip, one since undone too; one given to many
        pairs at once does not count."""
        one = "NOT EXISTS (SELECT 1 FROM votes AS other WHERE other.event = number AND other.pair_id <> votes.pair_id)"
        given = f"annotator = ? AND verdict <> 'skip' AND {one}"
        query = f"SELECT 1 FROM votes JOIN events ON number = event WHERE pair_id = ? AND {given} LIMIT 1"
        return bool(self._rows(query, (pair_id, annotator)))

    def standing(self, annotator: str, pair_ids: Sequence[str] | None = None) -> dict[str, tuple[bool, int]]:
        """Whether the annotator has voted on a pair, and how many others have, skips not counted.

        Args:
            pair_ids: of which pairs, as in `verdicts`. Those without a vote are left out.
        """
        asked = "" if pair_ids is None else "json_each(:asked) AS asked CROSS JOIN"
        these = "" if pair_ids is None else "WHERE votes.pair_id = asked.value"
        rows = self._rows(
            f"""SELECT pair_id, max(annotator = :own), sum(annotator <> :own AND verdict <> 'skip') FROM (
                SELECT pair_id, annotator, verdict, max(number)
                FROM {asked} votes JOIN live ON live.number = votes.event {these} GROUP BY pair_id, annotator
            ) GROUP BY pair_id""",
            {"own": annotator, "asked": json.dumps(pair_ids)},
        )
        return {pair_id: (bool(own), others) for pair_id, own, others in rows}

    def counts(self, pair_ids: Sequence[str] | None = None) -> Counts:
        """The current votes by verdict and annotator; `pair_ids` as in `verdicts`."""
        asked, values = _asked(pair_ids)
        sums = "SELECT annotator, verdict, count(*), min(time), max(time) FROM current"
        rows = self._rows(f"{sums} {asked} GROUP BY 1, 2", values)
        annotators: dict[str, dict[str, int]] = {}
        verdicts = dict.fromkeys(VERDICTS, 0)
        for annotator, verdict, votes, _, _ in rows:
            annotators.setdefault(annotator, {})[verdict] = votes
            verdicts[verdict] += votes
        ((pairs,),) = self._rows(f"SELECT count(DISTINCT pair_id) FROM current {asked}", values)
        first, last = min((row[3] for row in rows), default=""), max((row[4] for row in rows), default="")
        return Counts(verdicts, annotators, pairs, first, last)

    def events(self) -> Iterator[dict[str, Any]]:
        """The whole log in its order, an event as JSON takes it; what is added meanwhile comes at the end."""
        last = 0
        while rows := self._rows(_EVENTS, (last, PAGE)):
            last = rows[-1][0]
            yield from map(_as_event, rows)

    def import_events(self, events: Iterable[Mapping[str, Any]]) -> int:
        """Add the events that the log does not hold yet, all or none. Returns how many.

        Raises:
            ReviewError: one of them is no event of a review log; none was added.
        """
        added = 0
        with self._written() as db:
            for place, event in enumerate(events, start=1):
                try:
                    added += _import(db, event)
                except (ReviewError, KeyError, TypeError, AttributeError, ValueError) as error:
                    what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
                    raise ReviewError(
                        f"event {place} is none of a review log: {what} Nothing was imported; export the log again."
                    ) from error
        return added

    def _rows(self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        with self._lock, told(self.path):
            return self._db.execute(query, values).fetchall()

    @contextmanager
    def _written(self) -> Iterator[sqlite3.Connection]:
        """One transaction, on the disk when the block has ended, or without any effect."""
        with self._lock, told(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself ends it on a full disk
                    self._db.execute("ROLLBACK")
                raise


_UNDO = "SELECT number FROM live WHERE annotator = ? ORDER BY number DESC LIMIT 1"
_REDO = """
    SELECT target FROM events AS undone WHERE annotator = ?1 AND kind = 'undo'
    AND number > (SELECT coalesce(max(number), 0) FROM events WHERE annotator = ?1 AND kind = 'vote')
    AND NOT EXISTS (SELECT 1 FROM events AS later WHERE later.target = undone.target AND later.number > undone.number)
    ORDER BY number DESC LIMIT 1"""
_ACTION = """
    SELECT number, annotator, verdict, time, (SELECT count(*) FROM votes WHERE event = number),
    (SELECT min(pair_id) FROM votes WHERE event = number) FROM events WHERE number = ?"""
_EVENTS = """
    SELECT number, uuid, time, annotator, kind, verdict, body,
    (SELECT uuid FROM events AS named WHERE named.number = events.target),
    (SELECT json_group_array(pair_id) FROM (SELECT pair_id FROM votes WHERE event = number ORDER BY pair_id))
    FROM events WHERE number > ? ORDER BY number LIMIT ?"""


def _add(
    db: sqlite3.Connection,
    uuid: str,
    time: str,
    annotator: str,
    kind: str,
    *,
    verdict: str | None = None,
    target: int | None = None,
    body: Mapping[str, Any] = MappingProxyType({}),
    pair_ids: Iterable[str] = (),
) -> int:
    """Add an event and the pairs it is about; its number."""
    columns = "uuid, time, annotator, kind, verdict, target, body"
    values = (uuid, time, annotator, kind, verdict, target, json.dumps(dict(body), allow_nan=False))
    number = db.execute(f"INSERT INTO events ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", values).lastrowid
    assert number is not None
    db.executemany("INSERT INTO votes VALUES (?, ?)", ((number, pair_id) for pair_id in pair_ids))
    return number


def _import(db: sqlite3.Connection, event: Mapping[str, Any]) -> int:
    """Add the event if its uuid is new; how many were added."""
    uuid, time, annotator, kind = (event[name] for name in ("uuid", "time", "annotator", "kind"))
    for what, text in (("uuid", uuid), ("time", time), ("annotator", annotator)):
        check_name(what, text)
    if db.execute("SELECT 1 FROM events WHERE uuid = ?", (uuid,)).fetchone():
        return 0
    datetime.fromisoformat(time)
    if kind == "vote":
        if not isinstance(event["pairs"], list) or not event["pairs"]:
            raise ReviewError(f"its pairs are {event['pairs']!r:.40}, expected a list of pair ids.")
        pairs = sorted(set(event["pairs"]))
        for pair_id in pairs:
            check_name("pair id", pair_id)
        body = check_vote(annotator, event["verdict"], *(event[name] for name in _VOTE_BODY))
        _add(db, uuid, time, annotator, kind, verdict=event["verdict"], body=body, pair_ids=pairs)
    elif kind in ("undo", "redo"):
        named = "SELECT number FROM events WHERE uuid = ? AND kind = 'vote' AND annotator = ?"
        target = db.execute(named, (event["target"], annotator)).fetchone()
        if target is None:
            raise ReviewError(f"its target {event['target']!r:.40} is no vote of {annotator} before it.")
        _add(db, uuid, time, annotator, kind, target=target[0])
    else:
        raise ReviewError(f"its kind is {kind!r:.40}, expected vote, undo or redo.")
    return 1


def _asked(pair_ids: Sequence[str] | None) -> tuple[str, dict[str, str]]:
    """The condition that a pair is one of these, and its value."""
    if pair_ids is None:
        return "", {}
    return "WHERE pair_id IN (SELECT value FROM json_each(:asked))", {"asked": json.dumps(pair_ids)}


def _as_vote(row: tuple[Any, ...]) -> Vote:
    number, pair_id, annotator, verdict, time, body = row
    said = json.loads(body)
    marks = tuple(said["marks"])
    return Vote(number, pair_id, annotator, verdict, time, said["reason"], said["comment"], marks, said["blind"])


def _as_event(row: tuple[Any, ...]) -> dict[str, Any]:
    _, uuid, time, annotator, kind, verdict, body, target, pairs = row
    event = {"uuid": uuid, "time": time, "annotator": annotator, "kind": kind}
    if kind == "vote":
        return event | {"pairs": json.loads(pairs), "verdict": verdict} | json.loads(body)
    return event | {"target": target}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
