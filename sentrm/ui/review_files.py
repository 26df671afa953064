"""What the Review page counts and writes: agreement as a table, the files to carry home, a log that is carried in.

Decisions:
- The cleaned data are those that the audit read, so they have to stand where they stood; what cannot be said is told.
- Every file is made anew in a folder of its own, of which the newest few are kept.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal, get_args
from urllib.parse import urlencode
from weakref import finalize

from ..audit.filters import Filter
from ..audit.folder import AuditFolder
from ..audit.run import COPY, fingerprint
from ..audit.shards import written_whole
from ..audit.suspects import label_sign
from ..errors import ReviewError, SentrmError
from ..reviews.agreement import MODEL, Estimate, agreement
from ..reviews.export import Exported, Format, Ties, decide, export_cleaned, export_events, read_events, unsettled
from ..reviews.log import ReviewLog
from ..reviews.page import review_summary_html, vote_table
from ..reviews.steps import sentence_labels
from ..reviews.votes import Vote
from ..words import counted, percent, plain, visible
from .dataset_list import start_of
from .dataset_tables import Cell, table
from .table import table_value

Kind = Literal["cleaned", "events", "steps", "summary"]
KEPT = 8  # files made last
LISTED = 100  # pairs to look at again
ENDINGS = {"jsonl": ".jsonl", "csv": ".csv", "parquet": ".parquet", "datasets": ".zip"}


@dataclass(frozen=True)
class Choices:
    """What becomes of decided pairs in the cleaned data."""

    format: Format = "jsonl"
    flips: str = "turn"  # or keep, drop
    both_bad: str = "drop"  # or keep
    flagged: str = "drop"  # or keep
    ties: Ties = "mark"

    def __post_init__(self) -> None:
        allowed = {"flips": ("turn", "keep", "drop"), "both_bad": ("drop", "keep"), "flagged": ("drop", "keep")}
        allowed |= {"format": get_args(Format), "ties": get_args(Ties)}
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ReviewError(f"got {name} {getattr(self, name)!r:.40}; expected one of {', '.join(values)}.")

    @property
    def dropped(self) -> tuple[str, ...]:
        choices = {"flip": self.flips, "both_bad": self.both_bad, "flag": self.flagged}
        return tuple(verdict for verdict, choice in choices.items() if choice == "drop")


class Files:
    """Makes the files of one app's pages, from any thread."""

    def __init__(self) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="sentrm-review-"))
        self._made: deque[Path] = deque()
        self._lock = Lock()
        finalize(self, shutil.rmtree, self._root, ignore_errors=True)

    def make(
        self, kind: Kind, log: ReviewLog, folder: AuditFolder, name: str, choices: Choices | None = None
    ) -> tuple[Path, str]:
        """The file, and what is in it in a sentence.

        Args:
            name: of the audit, for the file's.

        Raises:
            SentrmError: the data that were audited are not there any more, or the format cannot hold them.
        """
        choices = choices or Choices()
        place = self._place()
        match kind:
            case "cleaned":
                file, done = cleaned(log, folder, place / f"{name}-cleaned", choices)
                return file, exported_words(done)
            case "events":
                file = place / f"{name}-events.jsonl"
                return file, f"{counted(export_events(log, file), 'event')}, all that was ever done."
            case "steps":
                found = sentence_labels(_Inside(log, folder), folder)
                file = place / f"{name}-sentences.jsonl"
                with written_whole(file) as aside, aside.open("w", encoding="utf-8", newline="\n") as written:
                    written.writelines(json.dumps(row) + "\n" for row in found.rows)
                lost = f" {counted(found.left_out, 'mark')} left out: cut otherwise here." if found.left_out else ""
                return file, f"{counted(len(found.rows), 'response')} with marked sentences.{lost}"
            case "summary":
                file = place / f"{name}-review.html"
                margins, exported = margins_of(folder), None
                words = "One page for everybody, without a script."
                try:
                    _, exported = cleaned(log, folder, place / "cleaned", choices)
                except SentrmError as error:
                    words += f" It says nothing of the cleaned data: {error}"
                page = review_summary_html(
                    log, title=f"Review of {name}", pair_ids=list(margins), margins=margins, exported=exported
                )
                with written_whole(file) as aside:
                    aside.write_text(page, encoding="utf-8")
                return file, words
        raise ReviewError(f"got the file {kind!r:.40}; expected one of {', '.join(get_args(Kind))}.")

    def _place(self) -> Path:
        place = Path(tempfile.mkdtemp(dir=self._root))
        with self._lock:
            self._made.append(place)
            while len(self._made) > KEPT:
                shutil.rmtree(self._made.popleft(), ignore_errors=True)
        return place


class _Inside:
    """The votes on pairs of one audit: a log may hold those of several."""

    def __init__(self, log: ReviewLog, folder: AuditFolder) -> None:
        self._log, self._folder = log, folder

    def current(self) -> list[Vote]:
        marked = [vote for vote in self._log.current() if vote.marks]
        known = set(self._folder.ids([Filter("pair_id", "in", tuple({vote.pair_id for vote in marked}))]))
        return [vote for vote in marked if vote.pair_id in known]


def cleaned(log: ReviewLog, folder: AuditFolder, out: Path, choices: Choices) -> tuple[Path, Exported]:
    """The data that were audited with the verdicts applied; `out` gets the format's ending. Raises SentrmError."""
    data = folder.about["data"]
    file = out.with_name(out.name + (ENDINGS[choices.format] if choices.format != "datasets" else ""))
    done = export_cleaned(
        _data_of(folder),
        decide(log.verdicts(folder.ids())),
        file,
        format=choices.format,
        columns=data["columns"],
        split=data["split"],
        flip=choices.flips == "turn",
        drop=choices.dropped,
        ties=choices.ties,
    )
    if choices.format == "datasets":
        file = Path(shutil.make_archive(str(file), "zip", file))
    return file, done


def _data_of(folder: AuditFolder) -> str:
    """What was scored: in the audit's folder, where it stood, or beside that folder; or a hub id.

    Raises:
        ReviewError: at none of these places is the data that were scored.
    """
    source, digest = Path(folder.about["data"]["source"]), folder.about["data"]["sha256"]
    if not source.is_absolute():
        return str(source)
    places = folder.path / COPY / source.name, source, folder.path.parent / source.name
    there = [place for place in places if place.exists()]
    found = next((place for place in there if digest in (None, fingerprint(place, folder.path)[0])), None)
    if found is None:
        raise ReviewError(
            f"{source.name}, the data that were scored, {'has changed since' if there else 'is not there any more'}. "
            "Put what was scored beside the audit's folder."
        )
    return str(found)


def exported_words(done: Exported) -> str:
    """What became of the rows, in a sentence."""
    parts = [f"{done.written:,} of {counted(done.rows, 'row')} written"]
    for number, words in (
        (done.flipped, "flipped"),
        (done.tied, "marked as tie"),
        (done.dropped, "dropped"),
        (done.unresolved, "left alone, the votes being even"),
        (len(done.left), "left alone, because the schema cannot say it or the row could not be read"),
        (done.unknown, "decided but not in these data"),
        (done.neutralised, "cells made harmless to a spreadsheet"),
    ):
        if number:
            parts.append(f"{number:,} {words}")
    reason = f" Row {done.left[0].row:,} {done.left[0].reason}." if done.left else ""
    return ", ".join(parts) + "." + reason


def carry_in(log: ReviewLog, path: str | Path, annotator: str | None = None) -> str:
    """Import an event log; what to say.

    Args:
        annotator: whose events alone are taken; None: everybody's.

    Raises:
        ReviewError: for a file that is none, or with others' events; then nothing was imported.
    """

    def own(event: Any) -> Any:
        said = event.get("annotator") if isinstance(event, dict) else None
        if annotator is not None and said != annotator:
            raise ReviewError(
                f"the file holds events of {said!r:.60}; who is logged in imports what is their own. Have who leads "
                "the review import it."
            )
        return event

    added = log.import_events(map(own, read_events(path)))
    return f"{counted(added, 'event')} imported." if added else "The log holds all of its events already."


def votes_value(log: ReviewLog, folder: AuditFolder) -> dict[str, Any]:
    """The table of who gave which verdict on pairs of the audit."""
    counts = log.counts(folder.ids())
    return table_value(f"Current votes on {counted(counts.pairs, 'pair')}", *vote_table(counts), text=["annotator"])


def unsettled_value(log: ReviewLog, folder: AuditFolder, audit: str) -> dict[str, Any]:
    """For `Panel`, the pairs that somebody has to look at again, each with a link to it.

    Args:
        audit: what the page calls the folder.
    """
    found = unsettled(log.verdicts(folder.ids()))
    rows: list[list[Cell]] = []
    for votes in found[:LISTED]:
        pair_id = votes[0][0]
        pair = folder.texts(pair_id)
        said: list[Cell] = [
            {"text": visible(": ".join(filter(None, (_voted(one), one.reason, one.comment))))}
            for id in dict.fromkeys(id for id, *_ in votes)
            for one in log.current(id)
        ]
        link = f"./review?{urlencode({'audit': audit, 'id': pair_id})}"
        rows.append([{"text": visible(pair.id)[:60] or pair_id, "href": link}, start_of(pair.prompt), {"lines": said}])
    shown = f", the first {LISTED} below" if len(found) > LISTED else ""
    words = f"{counted(len(found), 'pair')} to look at again: flagged, skipped by all, or with even votes{shown}"
    return {"found": words, "table": {**table(words, ["pair", "prompt", "votes"], rows, words=3), "kind": "pairs"}}


def _voted(vote: Vote) -> str:
    return f"{vote.annotator} {vote.verdict.replace('_', ' ')}"


def agreement_value(log: ReviewLog, folder: AuditFolder) -> dict[str, Any]:
    """The table of how far people agree, and people and the model."""
    verdicts = log.verdicts(folder.ids())
    rows = []
    for who, margins in (("people", None), ("people and the model", margins_of(folder))):
        found = agreement(verdicts, margins)
        for name, one in found.measures.items():
            if found.items or name == "raw agreement":
                rows.append([who, name, *_cells(one, name), f"{found.items:,}"])
    heads = ["between", "measure", "value", "95% interval", "pairs"]
    return table_value(
        f"Agreement on pairs rated twice or more; the {MODEL} agrees with a label where its margin is above 0",
        heads,
        rows,
        text=["between", "measure"],
    )


def margins_of(folder: AuditFolder) -> dict[str, float]:
    """Pair id -> by how much the model prefers the response that the label does, of all pairs of the audit."""
    table = folder.table(["pair_id", "margin", "label_probability"])
    margins = table["margin"] * label_sign(table["label_probability"])
    return dict(zip(table["pair_id"].tolist(), margins.tolist(), strict=True))


def _cells(one: Estimate, name: str) -> list[str]:
    if one.value is None:
        return ["—", ""]
    write = percent if name.startswith("raw") else plain
    return [write(one.value), "" if one.low is None or one.high is None else f"{write(one.low)} to {write(one.high)}"]
