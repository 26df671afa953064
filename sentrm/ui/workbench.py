"""What the app was started with beside its model: audits to show, data that may be scored, and the review log.

Decisions:
- A visitor names things, never paths: every name is one of a list made here, from what was given at the start.
- The lists are made anew at each call, so what was scored meanwhile, here or by `sentrm audit`, is there.
- A link inside a folder that leads out of it is not followed, and hidden files are not listed.
- A verdict is written under the login's name. Without a login the page's own word counts, unless the app was started
  so that reviews need a login.
- What shows everybody's votes at once would show them before one's own: where people log in, it is for `leads`.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from threading import RLock
from typing import Any
from weakref import finalize

import gradio as gr

from ..audit.folder import AuditFolder
from ..errors import AuditError, PreferenceDataError, ReviewError
from ..limits import UPLOAD, check_upload
from ..readers import ENDINGS, READERS
from ..reviews.log import ReviewLog

KEPT = 4  # audits held open, those asked for last


@dataclass(frozen=True)
class Workbench:
    """What the app's pages may show, score and change.

    Raises:
        AuditError, PreferenceDataError: a path among `audits` or `data` does not exist, or is no such file.
    """

    audits: tuple[Path, ...] = ()  # audit folders, or folders that hold some
    data: tuple[Path, ...] = ()  # files, or folders of files, that visitors may score
    output: Path | None = None  # where audits made on the page go; None: a temporary folder of this process
    reviews: Path | None = None  # the review log (SQLite)
    annotators: tuple[str, ...] = ()  # names to choose from; with a login, the login's name counts
    allow_hub: bool = False  # whether visitors may score data sets of the Hugging Face hub
    max_upload: int = UPLOAD.size  # bytes of a file that a visitor sends
    login_to_review: bool = False  # whether reviews can be changed by who is logged in alone
    leads: tuple[str, ...] = ()  # of those who log in, who may see and carry away everybody's votes
    _held: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _open: OrderedDict[Path, tuple[int, AuditFolder]] = field(
        default_factory=OrderedDict, init=False, repr=False, compare=False
    )
    _lock: Any = field(default_factory=RLock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for place in self.audits:
            if not place.is_dir():
                raise AuditError(f"--audits {place} is no folder; expected an audit folder, or one that holds some.")
        for place in self.data:
            if not place.exists() or (place.is_file() and not place.name.lower().endswith(ENDINGS)):
                state = "is none of them" if place.exists() else "does not exist"
                raise PreferenceDataError(
                    f"--data {place} {state}; expected a folder, or a file that ends in {', '.join(READERS)} (or .gz)."
                )

    def names(self) -> list[str]:
        """The finished audits at hand, in the order given, then those made on the page; by the name of the folder."""
        return list(self._audits())

    def open(self, name: str) -> AuditFolder:
        """An audit of `names`, kept open until its list of pairs changes. Raises AuditError for any other name."""
        path = self._audits().get(name)
        if path is None:
            known = ", ".join(self.names()) or "none"
            raise AuditError(f"there is no audit {name!r:.60}; those at hand are: {known}. Choose one of them.")
        with self._lock:
            written = (path / "pairs.parquet").stat().st_mtime_ns
            kept = self._open.get(path)
            if kept is None or kept[0] != written:
                kept = self._open[path] = written, AuditFolder.open(path)
                while len(self._open) > KEPT:  # not closed: another thread may be reading it
                    self._open.popitem(last=False)
            self._open.move_to_end(path)
            return kept[1]

    def name_of(self, path: Path) -> str:
        """What a finished audit in `made` is called."""
        return next(name for name, found in self._audits().items() if found == path.resolve())

    def files(self) -> list[str]:
        """Data at hand: the name of a file given, or that of a folder given with the way inside it."""
        return list(self._files())

    def file(self, name: str) -> Path:
        """Where a file of `files` is. Raises PreferenceDataError for any other name, whatever path it spells."""
        found = self._files().get(name)
        if found is None:
            raise PreferenceDataError(f"there is no file {name!r:.60} at hand. Choose one of the list, or upload it.")
        return found

    def check(self, upload: str | Path) -> int:
        """The rows of a file that a visitor has sent. Raises as `check_upload`; asked before anything else reads it."""
        return check_upload(upload, replace(UPLOAD, size=self.max_upload))

    def made(self) -> Path:
        """The folder in which audits made on the page stand; it exists."""
        with self._lock:
            if self.output is None and "made" not in self._held:
                self._held["made"] = Path(tempfile.mkdtemp(prefix="sentrm-audits-"))
                finalize(self, shutil.rmtree, self._held["made"], ignore_errors=True)
            place = self.output or self._held["made"]
        place.mkdir(parents=True, exist_ok=True)
        return place

    def place(self, label: str) -> Path:
        """Where in `made` an audit called so belongs: one folder, whatever the label holds, and always the same.

        >>> Workbench(output=Path("/tmp")).place("../../etc/Pass wd.jsonl").name
        'etc-Pass-wd.jsonl'
        """
        return self.made() / (re.sub(r"[^\w.-]+", "-", label).strip("-.")[:80] or "audit")

    def log(self) -> ReviewLog:
        """The review log, opened once. Raises ReviewError if there is none, or it cannot be used."""
        if self.reviews is None:
            raise ReviewError("the app was started without a review log. Start it with --reviews FILE.")
        with self._lock:
            if "log" not in self._held:
                self._held["log"] = ReviewLog.open(self.reviews)
            return self._held["log"]

    def annotator(self, request: gr.Request | None) -> str | None:
        """The login's name, or None: then the page offers `annotators`, or asks for a name."""
        return (request.username or None) if request else None

    def voter(self, request: gr.Request | None, said: str) -> str:
        """The name under which a change of the reviews is written; asked before every change.

        Args:
            said: what the page holds as the annotator's name; a login goes before it.

        Raises:
            ReviewError: nobody is logged in where that is needed, or the name is none of `annotators`.
        """
        if name := self.annotator(request):
            return name
        if self.login_to_review:
            raise ReviewError("reviews are changed by annotators who are logged in. Start the app with --auth.")
        if self.annotators and said not in self.annotators:
            raise ReviewError(f"{said!r:.60} is no annotator here; choose one of {', '.join(self.annotators)}.")
        if not said.strip():
            raise ReviewError("the annotator has no name. Write one into the field above.")
        return said.strip()

    def is_lead(self, request: gr.Request | None) -> bool:
        """Whether who asks may see everybody's votes; where nobody logs in, everybody may."""
        name = self.annotator(request)
        return name is None or name in self.leads

    def check_lead(self, request: gr.Request | None) -> None:
        """Raises ReviewError if who asks may not see everybody's votes."""
        if not self.is_lead(request):
            known = ", ".join(self.leads) or "nobody yet: start the app with --leads NAME"
            raise ReviewError(f"this shows everybody's votes, so it is for who leads the review ({known}).")

    def _audits(self) -> dict[str, Path]:
        folders = [*self.audits]
        made = self.output or self._held.get("made")
        if made and made.is_dir():
            folders.append(made)
        return _by_name((path.name, path) for folder in folders for path in _audits_in(folder.resolve()))

    def _files(self) -> dict[str, Path]:
        return _by_name(found for place in self.data for found in _files_in(place))


def _audits_in(folder: Path) -> list[Path]:
    """The folder itself if it is a finished audit, else those inside it, by name."""
    if (folder / "pairs.parquet").is_file() and (folder / "audit.json").is_file():
        return [folder]
    found = sorted(path.parent.resolve() for path in folder.glob("*/pairs.parquet"))
    return [path for path in found if path.parent == folder and (path / "audit.json").is_file()]


def _files_in(place: Path) -> Iterator[tuple[str, Path]]:
    """What can be scored, with its name; nothing that leads out of the folder."""
    if place.is_file():
        yield place.name, place.resolve()
        return
    root = place.resolve()
    for folder, inner, names in os.walk(root):  # links to folders are not followed
        inner[:] = sorted(one for one in inner if not one.startswith("."))
        for name in sorted(names):
            file = (Path(folder) / name).resolve()
            usable = name.lower().endswith(ENDINGS) and not name.startswith(".")
            if usable and file.is_relative_to(root) and file.is_file():
                yield f"{root.name}/{(Path(folder) / name).relative_to(root).as_posix()}", file


def _by_name(found: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Each path once, in order; the second of one name is called "name (2)"."""
    named: dict[str, Path] = {}
    seen: set[Path] = set()
    for name, path in found:
        if path not in seen:
            seen.add(path)
            free = (f"{name} ({number})" for number in count(2))
            named[name if name not in named else next(one for one in free if one not in named)] = path
    return named
