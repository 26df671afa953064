"""The part of the Dataset page that scores data: a file of the visitor's, one at hand, or a hub id where allowed.

Decisions:
- The folder of an audit is named after the file and a digest of what is asked: the same data, asked for again, go on
  where they stopped, and nothing is scored twice. Other columns or another model are another audit.
- A visitor names a file of the list, or uploads one; no path of the server's is taken from the page.
- One data set is scored at a time; the others wait, say so, and can be stopped. What is scored or waits ends when its
  page is left.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

import gradio as gr

from ..audit.folder import VERSION
from ..audit.run import COPY, Progress, fingerprint, score_dataset
from ..audit.shards import written_whole
from ..audit.summary import summarise
from ..errors import PreferenceDataError, SentrmError
from ..inspection import failure
from ..limits import UPLOAD, check_hub_id
from ..preferences import FORMS, stream_rows
from ..readers import records
from ..scoring import Scorer
from ..words import counted, visible
from .dataset_tables import table
from .panel import Panel
from .stop import Stop, Stopped
from .workbench import ENDINGS, Workbench

MOST_WAITING = 8  # who wait and are told so; each holds a thread
ROWS = 128  # of a shard, that is, the most that Stop loses
LOOKED_AT = 100  # rows whose columns are offered
SHOWN = 3  # rows that the mapping shows
FORMS_SAID = {
    "a better and a worse response": "better",
    "two responses, and which is better": "winner",
    "a list of responses with ranks or scores": "ranked",
}
FIELDS = {  # by field: what the page calls it, and names that a column of it often has
    "prompt": ("the prompt", ("prompt", "question", "instruction", "query", "input", "context")),
    "chosen": ("the better response", ("chosen", "preferred", "better", "best", "accepted", "good", "positive")),
    "rejected": ("the worse response", ("rejected", "dispreferred", "worse", "worst", "loser", "bad", "negative")),
    "response_a": ("response A", ("response_a", "_a", "_0", "_1")),
    "response_b": ("response B", ("response_b", "_b", "_2", "_1")),
    "winner": ("the winner", ("winner", "preference", "preferred", "better", "choice", "label", "verdict")),
    "responses": ("the responses", ("responses", "completions", "answers", "candidates", "outputs", "generations")),
    "ranks": ("their ranks, 1 is best", ("ranks", "ranking", "rank")),
    "scores": ("their scores", ("scores", "ratings", "rewards", "score", "rating")),
}
OPTIONAL = {"prompt": "(both responses begin with it)", "ranks": "(none)", "scores": "(none)"}


class Scoring:
    """The form as components of the page that is being built."""

    def __init__(self, workbench: Workbench, scorer: Scorer) -> None:
        self.workbench, self.scorer = workbench, scorer
        with gr.Accordion("Score a dataset", open=not workbench.names(), elem_id="score-a-dataset") as self.box:
            self._build(workbench)

    def _build(self, workbench: Workbench) -> None:
        self.stopping = Stop()
        self._one = Lock()  # one data set is scored at a time
        self._checked: set[str] = set()  # uploads within the limits; each has a folder of its own
        files = workbench.files()
        with gr.Row():
            self.upload = gr.File(
                label=f"A file of preference pairs ({', '.join(ENDINGS[::2])}, each also .gz)",
                file_types=[*ENDINGS[::2], ".gz"],
                elem_id="upload",
                height=170,
            )
            with gr.Column(visible=bool(files) or workbench.allow_hub):
                self.at_hand = gr.Dropdown(
                    ["", *files], value="", label="Or a file at hand", elem_id="at-hand", visible=bool(files)
                )
                self.hub = gr.Textbox(
                    label="Or a data set of the Hugging Face hub",
                    placeholder="owner/name",
                    max_lines=1,
                    elem_id="hub",
                    visible=workbench.allow_hub,
                )
        self.mapped = gr.State(False)
        with gr.Column(visible=False, elem_id="mapping") as self.mapping:
            self.rows = Panel(elem_id="first-rows")
            self.form = gr.Radio(list(FORMS_SAID), label="A row holds", elem_id="map-form")
            with gr.Row(elem_id="map-columns"):
                self.columns = [
                    gr.Dropdown([], label=f"Column of {name}", filterable=False, elem_id=f"map-{field}")
                    for field, (name, _) in FIELDS.items()
                ]
        with gr.Row(elem_classes="score-row"):
            self.button = gr.Button("Score", variant="primary", elem_id="score-data")
            self.stop = gr.Button("Stop", elem_id="stop-data", visible=False)
        self.panel = Panel(elem_id="scoring")

    def wire(self, app: gr.Blocks, show: Callable[[str], Mapping[Any, Any]], outputs: list[Any]) -> None:
        """Tie the form's events.

        Args:
            show: what the page shows of an address, by component; called with that of a new audit.
            outputs: these components.
        """
        sources = [self.upload, self.at_hand, self.hub]
        quick: dict[str, Any] = {"show_progress": "hidden", "concurrency_id": "look"}
        looked = [*sources, self.mapping, self.mapped, self.rows, self.form, *self.columns, self.panel]
        self.upload.upload(lambda file: self._look(file, "", ""), self.upload, looked, **quick)
        self.upload.clear(lambda: self._look(None, "", ""), None, looked, **quick)
        self.at_hand.input(lambda name: self._look(None, name, ""), self.at_hand, looked, **quick)
        self.hub.submit(lambda id: self._look(None, "", id), self.hub, looked, **quick)
        self.form.input(
            lambda form: [gr.update(visible=field in FORMS[FORMS_SAID[form]]) for field in FIELDS],
            self.form,
            self.columns,
            **quick,
        )

        def score(
            request: gr.Request, file: str | None, name: str, hub: str, mapped: bool, form: str, *columns: str | None
        ) -> Iterator[dict[Any, Any]]:
            for said in self._score(request, (file, name, hub), (form, *columns) if mapped else None):
                yield (
                    {**show(said), **self._resting(None), self.box: gr.update(open=False)}
                    if isinstance(said, str)
                    else said
                )

        self.button.click(
            score,
            [*sources, self.mapped, self.form, *self.columns],
            [self.panel, self.button, self.stop, self.box, *outputs],
            concurrency_limit=MOST_WAITING,
            show_progress="hidden",
            trigger_mode="once",
        )
        self.stop.click(self.stopping.press, queue=False, show_progress="hidden")
        app.unload(self.stopping.press)

    def _source(self, file: str | None, name: str | None, hub: str | None) -> tuple[str, str]:
        """Where the data are, and what they are called."""
        if file:
            if file not in self._checked:
                self.workbench.check(file)
                self._checked.add(file)
            return file, Path(file).name
        if name:
            return str(self.workbench.file(name)), name.rpartition("/")[2]
        id = (hub or "").strip()
        if not id:
            raise PreferenceDataError("there is nothing to score. Choose a file first.")
        if not self.workbench.allow_hub:
            raise PreferenceDataError("data sets of the hub are not allowed here. Start the app with --allow-hub.")
        id = check_hub_id(id)
        return id, id

    def _look(self, file: str | None, name: str, hub: str) -> dict[Any, Any]:
        """What a chosen source holds: nothing to say where its columns are known, else the mapping."""
        others: dict[Any, Any] = {self.upload: None, self.at_hand: "", self.hub: ""}
        if file or name or hub:
            del others[self.upload if file else self.at_hand if name else self.hub]
        shown = {**others, self.mapping: gr.update(visible=False), self.mapped: False, self.panel: None}
        if not (file or name or hub):
            return shown
        try:
            source, called = self._source(file, name, hub)
            head = list(islice(records(source, "train", streaming=True), LOOKED_AT))
            found = list(dict.fromkeys(str(name) for row in head if isinstance(row, dict) for name in row if name))
            try:
                next(stream_rows(source))
                return {**shown, self.panel: _said(f"{called}: its columns are known. Press Score.")}
            except PreferenceDataError:
                if not found:
                    raise
        except (SentrmError, StopIteration) as error:
            return {**shown, self.panel: _said(str(error), alert=True)}
        rows = [row for row in head if isinstance(row, dict)][:SHOWN]
        cells = [[_short(row.get(name)) for name in found] for row in rows]
        said = f"The columns of {called} are not known. Say what a row holds, and in which columns."
        guesses = {field: _guess(field, found) for field in FIELDS}
        form = max(FORMS, key=lambda form: all(guesses[field] for field in FORMS[form] if field not in OPTIONAL))
        updates = [
            gr.update(
                choices=[*([(OPTIONAL[field], "")] if field in OPTIONAL else []), *zip(found, found, strict=True)],
                value=guess or ("" if field in OPTIONAL else None),
                visible=field in FORMS[form],
            )
            for field, guess in guesses.items()
        ]
        return {
            **shown,
            self.mapping: gr.update(visible=True),
            self.mapped: True,
            self.rows: {
                "message": {"text": visible(said), "alert": False},
                "table": table("The first rows", [visible(name) for name in found], cells, words=len(found)),
            },
            self.form: next(said for said, one in FORMS_SAID.items() if one == form),
            **dict(zip(self.columns, updates, strict=True)),
        }

    def _score(
        self, request: gr.Request, asked: tuple[str | None, str, str], mapped: tuple[str | None, ...] | None
    ) -> Iterator[dict[Any, Any] | str]:
        """Score, saying how far it is; at the end the address of the audit."""
        told: list[Progress] = []
        doing = "Waiting for another data set to be scored"
        report = self.stopping.watched(request)

        def tell(now: Progress) -> None:
            if now.rows > UPLOAD.rows and not (asked[0] or asked[1]):
                raise PreferenceDataError(
                    f"the data set has more than {UPLOAD.rows:,} rows; a visitor may score no more. Have who runs "
                    "the app score it, with sentrm audit."
                )
            told[:] = [now]
            report(now.rows, now.total or 0)

        try:
            source, called = self._source(*asked)
            columns = _mapping(*mapped) if mapped else {}
            out = self.workbench.place(self._label(source, called, columns))

            def work() -> None:
                nonlocal doing
                while not self._one.acquire(timeout=0.2):
                    report(0, 0)
                try:
                    doing = "Starting"
                    data = source
                    if asked[0]:
                        next(stream_rows(source, columns=columns))  # what cannot be read is not kept
                        data = _kept(Path(source), out)
                    score_dataset(data, self.scorer, out, columns=columns, rows_per_shard=ROWS, progress=tell)
                    doing = "Looking for suspects and duplicates"
                    told.clear()
                    summarise(out)
                finally:
                    self._one.release()

            with ThreadPoolExecutor(1) as pool:
                job = pool.submit(work)
                try:
                    while not wait([job], 0.4).done:
                        yield self._working(told, doing)
                finally:
                    self.stopping.press(request)  # whoever waited is gone: the work ends too
            job.result()
        except Stopped:
            done = f" after {counted(told[0].rows, 'row')}" if told else ""
            yield self._resting(_said(f"Stopped{done}. Press Score to go on: nothing is scored twice."))
            return
        except (SentrmError, RuntimeError) as error:  # torch raises RuntimeError, for one when memory runs out
            yield self._resting(_said(failure(error), alert=True))
            return
        yield self.workbench.name_of(out)

    def _label(self, source: str, called: str, columns: Mapping[str, str | None]) -> str:
        """The name of the audit's folder."""
        asked = [VERSION, dict(columns), asdict(self.scorer.model_info), asdict(self.scorer.segmenter_info)]
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode())
        digest.update(str(fingerprint(source, self.workbench.made())).encode())
        stem = Path(called).name
        for ending in sorted(ENDINGS, key=len, reverse=True):
            stem = stem.removesuffix(ending)
        return f"{stem[:60]}-{digest.hexdigest()[:6]}"

    def _working(self, told: list[Progress], otherwise: str) -> dict[Any, Any]:
        now = next(iter(told), None)
        text = progress_words(now) if now else f"{otherwise} …"
        return {
            self.panel: {"progress": {"done": now.rows if now else 0, "of": now and now.total, "text": text}},
            self.button: gr.update(interactive=False),
            self.stop: gr.update(visible=True),
        }

    def _resting(self, said: dict[str, Any] | None) -> dict[Any, Any]:
        return {self.panel: said, self.button: gr.update(interactive=True), self.stop: gr.update(visible=False)}


def _kept(upload: Path, out: Path) -> str:
    """A copy in the audit's folder: an upload is gone after a restart, and cleaned data are made of it."""
    kept = out / COPY / upload.name
    if not kept.exists():
        with written_whole(kept) as aside:
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(upload, aside)
    return str(kept)


def progress_words(now: Progress) -> str:
    """`1,204 of 10,000 rows, 12.4 a second, 12 min left`."""
    of = "" if now.total is None else f" of {now.total:,}"
    rate = f", {now.rate:,.1f} a second" if now.rate else ""
    left = now.time_left
    minutes = "" if left is None else f", {left:.0f} s left" if left < 90 else f", {left / 60:,.0f} min left"
    return f"{now.rows:,}{of} rows{rate}{minutes}"


def _mapping(form: str | None, *columns: str | None) -> dict[str, str | None]:
    """Field -> column, of what the form of a row needs."""
    asked = {field: name for field, name in zip(FIELDS, columns, strict=True) if name}
    fields = FORMS[FORMS_SAID[form or ""]]
    if missing := [FIELDS[field][0] for field in fields if field not in (*asked, *OPTIONAL)]:
        raise PreferenceDataError(f"no column was chosen of {' and '.join(missing)}. Choose one and press Score.")
    return {field: asked[field] for field in fields if field in asked}


def _guess(field: str, found: list[str]) -> str | None:
    """The column that is most likely of a field, by its name."""
    for alike in (str.__eq__, lambda name, word: name.endswith(word) if word[0] == "_" else word in name):
        for word in FIELDS[field][1]:
            for name in found:
                if alike(name.lower(), word):
                    return name
    return None


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    line = " ".join(visible(text[:400]).split())
    return line if len(line) <= 120 else line[:119] + "…"


def _said(text: str, alert: bool = False) -> dict[str, Any]:
    return {"message": {"text": visible(text), "alert": alert}}
