"""What the Review page asks and what it is answered. Knows nothing of gradio; holds nothing of any visitor.

Decisions:
- Every question carries its address, its annotator and the pair it is about, and is answered from the log and the audit
  alone. So a page goes on after the app was killed and started again, and two tabs do not disturb each other. A page
  that was drawn for another than who is logged in is refused: its sides may stand the other way round.
- Blind means absent: until the annotator has voted, what is answered holds neither scores and colours nor the label nor
  others' votes; the value is made of what is named in `blind_value`, not by taking known secrets away.
- The page speaks of A and B as they are shown; they become chosen and rejected here alone, as `sides_swapped` drew
  them, and agree or flip by which of them the label prefers. Of a tie, agree says that the chosen one is better.
- A vote is answered once the log has written it. In a blind queue the answer shows the pair with its scores; in an open
  one, and after a skip, the next pair.
- A vote counts as blind if the scores were hidden, the annotator had not voted on the pair before, undone or not, and
  was not shown its scores in an open queue since the app started. Whoever adds to a blind vote keeps it blind.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from threading import Lock
from typing import Any, cast, get_args
from urllib.parse import parse_qs, urlencode

import gradio as gr

from ..audit.filters import Filter, filters_from_query, filters_to_query
from ..audit.folder import AuditFolder, is_tie
from ..audit.suspects import better_side, carrier, reasons
from ..errors import AuditError, ReviewError, SentrmError
from ..heatmap import heatmap_value
from ..results import Prompt, ScoredPair
from ..reviews.log import ReviewLog
from ..reviews.queues import next_pair, ordered, progress, sides_swapped, visible_votes
from ..reviews.votes import Action, Order, Queue, Vote
from ..words import counted, signed, visible
from .dataset_list import filter_words
from .workbench import Workbench

CHOICES = ("a", "b", "tie", "both_bad", "skip", "flag")  # what an annotator says of two sides
WORDS = {"tie": "tie", "both_bad": "both bad", "skip": "skipped", "flag": "flagged"}
KEPT = 4  # lists of ids, those asked for last
_SIDE = ("name", "meta", "tail", "tail_note")
_SENTENCE = ("text", "parts", "only", "code", "gap", "indent", "item", "lead", "trail", "title")


@dataclass(frozen=True)
class Address:
    """What `?audit=NAME&where=…&order=suspects&overlap=1&blind=1&id=PAIR_ID` asks for."""

    audit: str
    filters: tuple[Filter, ...] = ()
    order: Order = "suspects"
    overlap: int = 1
    blind: bool = True
    pair: str = ""  # one pair, before the queue goes on

    @classmethod
    def read(cls, query: str) -> Address:
        """Raises AuditError or ReviewError for what it cannot mean; parameters of other names are left alone."""
        given = {name: values[0] for name, values in parse_qs(query.removeprefix("?")).items()}
        order, overlap = given.get("order", "suspects"), given.get("overlap", "1")
        if order not in get_args(Order) or not (overlap.isascii() and overlap.isdigit() and 1 <= int(overlap) <= 1000):
            raise ReviewError(
                f"the address asks for order={order!r:.40} and overlap={overlap!r:.40}. Expected one of "
                f"{', '.join(get_args(Order))}, and 1 to 1000."
            )
        filters, blind = filters_from_query(query), given.get("blind") != "0"
        return cls(given.get("audit", ""), filters, cast(Order, order), int(overlap), blind, given.get("id", ""))

    @property
    def query(self) -> str:
        parts = {"audit": self.audit, "order": self.order, "overlap": str(self.overlap), "blind": str(int(self.blind))}
        return "&".join(filter(None, [urlencode(parts), filters_to_query(self.filters)]))

    @property
    def queue(self) -> Queue:
        return Queue(self.order, filters_to_query(self.filters), self.overlap, self.blind)


class Desk:
    """Answers the pages of one app, from any thread."""

    def __init__(self, workbench: Workbench) -> None:
        self.workbench = workbench
        self._ids: OrderedDict[tuple[AuditFolder, Queue], list[str]] = OrderedDict()
        self._revealed: set[tuple[str, str]] = set()  # annotator, pair: what was shown with its scores
        self._lock = Lock()

    def answer(self, asked: Mapping[str, Any], request: gr.Request | None = None) -> dict[str, Any]:
        """What the page is to show.

        Args:
            asked: `do` is open, next, vote, undo, redo or all; `query` the address, `annotator` what the page holds as
                the name, `pair` the pair on it ("" for none). A vote has `choice` of CHOICES, `reason`, `comment`,
                `marks` [[side 0 or 1, sentence from 0, "good" or "bad"]] and `seen`, the id of the annotator's vote
                that the page knew, 0 for none. To mark all of the queue, `verdict` of the log and `count`.

        Raises:
            StaleVote: as `ReviewLog.vote`.
            AuditError, ReviewError: what was asked cannot be done; nothing was written.
        """
        address = self.address(_text(asked, "query"))
        log, do = self.workbench.log(), _text(asked, "do")
        login, said = self.workbench.annotator(request), _text(asked, "annotator")
        if login and do != "open" and said not in ("", login):
            raise ReviewError(
                f"this page was drawn for {said!r:.60}, and {login} is logged in now. Nothing was done; load the page "
                "again."
            )
        named = login or said
        if not named.strip() and do == "open":
            return {"message": "Who is reviewing? Say it above, and the first pair comes.", "desk": self._top(address)}
        annotator = self.workbench.voter(request, named)
        folder = self.workbench.open(address.audit)
        pair, said = _text(asked, "pair"), ""
        match do:
            case "open":
                pair = address.pair or self._next(log, folder, address, annotator)
            case "next":
                pair = self._next(log, folder, address, annotator)
            case "vote":
                vote = self._vote(log, folder, address, annotator, asked)
                better = _better(folder.row(pair), sides_swapped(address.queue, pair, annotator))
                said = f"Saved: {_vote_words(vote, better)}."
                if vote.verdict == "skip" or not address.blind:
                    pair = self._next(log, folder, address, annotator)
            case "undo" | "redo":
                done = log.undo(annotator) if do == "undo" else log.redo(annotator)
                pair, said = self._changed(folder, do, done, pair)
            case "all":
                said = self._mark_all(log, folder, address, annotator, asked)
            case _:
                raise ReviewError(f"got the action {do!r:.40}; expected one of this page. Load the page again.")
        if do in ("undo", "redo") and not pair:
            pair = self._next(log, folder, address, annotator)
        top = self._top(address, annotator, login is not None)
        return self._shown(log, folder, address, top, pair, said)

    def address(self, query: str) -> Address:
        """What a page's address asks for; without the name of an audit, of the first. Raises as `Address.read`."""
        address = Address.read(query)
        names = self.workbench.names()
        if not names:
            raise AuditError("there is no audit to review yet. Score data on the Dataset page, or with sentrm audit.")
        return replace(address, audit=address.audit or names[0])

    def refused(self, query: str, error: Exception, request: gr.Request | None = None) -> dict[str, Any]:
        """What a page shows that could not be opened: why, and the settings to choose others."""
        login = self.workbench.annotator(request)
        try:
            address = self.address(query)
        except SentrmError:
            address = Address(next(iter(self.workbench.names()), ""))
        return {"message": visible(str(error)), "desk": self._top(address, login or "", login is not None)}

    def folder(self, query: str) -> AuditFolder:
        """The audit of a page's address. Raises AuditError."""
        return self.workbench.open(self.address(query).audit)

    def ids(self, folder: AuditFolder, address: Address) -> list[str]:
        """The queue's pairs in its order."""
        key = folder, address.queue
        with self._lock:
            if key in self._ids:
                self._ids.move_to_end(key)
                return self._ids[key]
        sort = "suspicion" if "suspicion" in folder.columns else "probability"
        suspects = {"sort": sort, "descending": sort == "suspicion"} if address.order == "suspects" else {}
        found = ordered(address.queue, folder.ids(address.filters, **suspects))  # type: ignore[arg-type]
        with self._lock:
            self._ids[key] = found
            while len(self._ids) > KEPT:
                self._ids.popitem(last=False)
        return found

    def _next(self, log: ReviewLog, folder: AuditFolder, address: Address, annotator: str) -> str:
        return next_pair(log, address.queue, self.ids(folder, address), annotator) or ""

    def _vote(
        self, log: ReviewLog, folder: AuditFolder, address: Address, annotator: str, asked: Mapping[str, Any]
    ) -> Vote:
        pair_id, choice, seen, queue = _text(asked, "pair"), asked.get("choice"), asked.get("seen"), address.queue
        if choice not in CHOICES or type(seen) is not int:
            raise ReviewError(
                f"got the vote {choice!r:.40}; expected one of {', '.join(CHOICES)}. Load the page again."
            )
        pair, swapped = folder.pair(pair_id), sides_swapped(queue, pair_id, annotator)
        verdict = choice
        if choice in ("a", "b"):
            verdict = "agree" if choice == _better(folder.row(pair_id), swapped) else "flip"
        own = next(iter(log.current(pair_id, annotator)), None)
        same = own is not None and own.verdict == verdict and own.blind
        return log.vote(
            pair_id,
            annotator,
            verdict,
            reason=_text(asked, "reason").strip(),
            comment=_text(asked, "comment"),
            marks=_marks(pair, swapped, asked.get("marks", [])),
            seen=seen,
            blind=queue.blind and (same or not self._known(log, pair_id, annotator)),
        )

    def _known(self, log: ReviewLog, pair_id: str, annotator: str) -> bool:
        """Whether the annotator has seen the scores of the pair."""
        return (annotator, pair_id) in self._revealed or log.has_voted(pair_id, annotator)

    def _mark_all(
        self, log: ReviewLog, folder: AuditFolder, address: Address, annotator: str, asked: Mapping[str, Any]
    ) -> str:
        found, verdict = self.ids(folder, address), str(asked.get("verdict"))
        if asked.get("count") != len(found):
            raise ReviewError(f"the queue now has {counted(len(found), 'pair')}. Nothing was marked; confirm again.")
        told = ""
        if verdict in ("agree", "flip") and (ties := sum(map(is_tie, found))):
            found = [pair_id for pair_id in found if not is_tie(pair_id)]
            told = f" {counted(ties, 'tie')} left out: of a tie no side is the better one."
            if not found:
                raise ReviewError("every label of the queue is a tie, with which none can agree. Nothing was marked.")
        done = log.vote_all(found, annotator, verdict, reason=_text(asked, "reason").strip())
        return f"Marked {counted(done, 'pair')}: {verdict.replace('_', ' ')}.{told} Undo takes all of it back at once."

    def _changed(self, folder: AuditFolder, do: str, done: Action | None, pair: str) -> tuple[str, str]:
        """The pair to show after an undo or redo, and what to say."""
        word = "Undone" if do == "undo" else "Redone"
        if done is None:
            return pair, f"There is nothing to {do}."
        if done.pairs > 1:
            return pair, f"{word}: {counted(done.pairs, 'vote')} at once."
        if not folder.count([Filter("pair_id", "=", done.pair_id)]):
            return pair, f"{word}: a vote on pair {done.pair_id}, which is not in this audit."
        return done.pair_id, f"{word}: your vote on this pair."

    def _top(self, address: Address, annotator: str = "", fixed: bool = False) -> dict[str, Any]:
        return {
            "annotator": {"name": annotator, "fixed": fixed, "names": list(self.workbench.annotators)},
            "audits": self.workbench.names(),
            "audit": address.audit,
            "order": address.order,
            "overlap": address.overlap,
            "blind": address.blind,
            "query": address.query,
            "filters": [filter_words(one) for one in address.filters],
            "without": [replace(address, filters=_but(address.filters, i)).query for i in range(len(address.filters))],
            "where": filters_to_query(address.filters),
            "pair": None,
        }

    def _shown(
        self, log: ReviewLog, folder: AuditFolder, address: Address, top: dict[str, Any], pair_id: str, said: str
    ) -> dict[str, Any]:
        queue, annotator = address.queue, top["annotator"]["name"]
        top |= {
            "said": said,
            "progress": asdict(progress(log, queue, self.ids(folder, address), annotator)),
            "undo": log.can_undo(annotator),
            "redo": log.can_redo(annotator),
        }
        if not pair_id:
            return {"message": _done(top["progress"]), "desk": top}
        pair = folder.pair(pair_id)
        swapped = sides_swapped(queue, pair_id, annotator)
        row = folder.row(pair_id)
        better = _better(row, swapped)
        votes = visible_votes(log, pair_id, annotator)
        own = next((vote for vote in votes if vote.annotator == annotator), None)
        others = [vote for vote in votes if vote is not own]
        open_ = not queue.blind or (own is not None and own.verdict != "skip")
        known = queue.blind and own is None and self._known(log, pair_id, annotator)
        if open_:
            self._revealed.add((annotator, pair_id))
        value = heatmap_value(replace(pair, a=pair.b, b=pair.a) if swapped else pair)
        desk = {
            **top,
            "pair": pair_id,
            "prompt": prompt_parts(pair.prompt),
            "seen": own.id if own else 0,
            "own": _own(own, swapped, better, pair) if own else None,
            "known": known,
            "revealed": _revealed(row, pair, others, better, swapped) if open_ else None,
        }
        return {**(value if open_ else blind_value(value)), "desk": desk}


def blind_value(value: Mapping[str, Any]) -> dict[str, Any]:
    """The texts of a heatmap's value and how they are cut, without a number of the model's."""
    sides = [
        {
            **{name: side[name] for name in _SIDE},
            "sentences": [
                {**{name: one[name] for name in _SENTENCE if name in one}, "label": one["title"]}
                for one in side["sentences"]
            ],
        }
        for side in value["sides"]
    ]
    kept = {name: value[name] for name in ("unit", "running", "compared", "notices")}
    return {**kept, "blind": True, "verdict": None, "legend": None, "sides": sides}


def prompt_parts(prompt: Prompt) -> list[tuple[str, str]]:
    """(role, text) of each message; the role of a text is empty."""
    if isinstance(prompt, str):
        return [("", visible(prompt))]
    return [(visible(message["role"]), visible(message["content"])) for message in prompt]


def _revealed(
    row: Mapping[str, Any], pair: ScoredPair, votes: Sequence[Vote], better: str, swapped: bool
) -> dict[str, Any]:
    """What stands beside the scores once they may be seen. `row` is of `pairs.parquet`, `votes` are others'."""
    why = reasons(row, {"chosen": "AB"[swapped], "rejected": "BA"[swapped]})
    found = carrier(pair, better_side(row["label_probability"]))
    if found and (row.get("suspect") or row["agrees"] is False):
        response, letter = (pair.a, "AB"[swapped]) if found.side == "chosen" else (pair.b, "BA"[swapped])
        sentence = response.sentences[found.sentence].strip()
        why.append(f"most against the label, {signed(found.contribution)} in {letter}: {sentence}")
    return {
        "label": "tie" if row["label_probability"] == 0.5 else better.upper(),
        "why": [visible(f"{one[:1].upper()}{one[1:]}") for one in why],
        "votes": [
            [visible(one) for one in (vote.annotator, _vote_words(vote, better), vote.reason, vote.comment)]
            for vote in votes
        ],
    }


def _own(vote: Vote, swapped: bool, better: str, pair: ScoredPair) -> dict[str, Any]:
    """The annotator's own vote as the page gave it."""
    choice = _side(vote.verdict, better) if vote.verdict in ("agree", "flip") else vote.verdict
    sides = {"chosen": int(swapped), "rejected": int(not swapped)}
    counts = {"chosen": len(pair.a.spans), "rejected": len(pair.b.spans)}
    marks = [m for m in vote.marks if m["sentence"] < counts[m["side"]]]
    return {
        "choice": choice,
        "words": _vote_words(vote, better),
        "reason": vote.reason,
        "comment": vote.comment,
        "marks": [[sides[mark["side"]], mark["sentence"], mark["mark"]] for mark in marks],
    }


def _marks(pair: ScoredPair, swapped: bool, marks: Any) -> list[dict[str, Any]]:
    """The page's marks as the log keeps them."""
    said = []
    for mark in marks if isinstance(marks, list) else [marks]:
        match mark:
            case [0 | 1 as side, int() as i, "good" | "bad" as word]:
                chosen = bool(side) == swapped
                response = pair.a if chosen else pair.b
                if 0 <= i < len(response.spans):
                    start, end = response.spans[i]
                    text = visible(response.text[start:end])[:1000]
                    where = {"side": "chosen" if chosen else "rejected", "sentence": i, "start": start, "end": end}
                    said.append({**where, "mark": word, "text": text})
                    continue
        raise ReviewError(f"got the mark {mark!r:.60}, which is on no sentence of the pair. Load the page again.")
    return said


def _vote_words(vote: Vote, better: str) -> str:
    return WORDS.get(vote.verdict) or f"{_side(vote.verdict, better).upper()} is better"


def _better(row: Mapping[str, Any], swapped: bool) -> str:
    """Where the response stands that the label prefers, a or b; at a tie the chosen one."""
    return "ab"[(better_side(row["label_probability"]) == "chosen") == swapped]


def _side(verdict: str, better: str) -> str:
    """Which side an agree or a flip calls better, a or b."""
    return better if verdict == "agree" else "ab"[better == "a"]


def _done(progress: Mapping[str, int]) -> str:
    if not progress["total"]:
        return "No pair passes these filters. Take one away above, or choose others on the Dataset page."
    if progress["left"]:
        return f"{counted(progress['left'], 'pair')} wait for your vote. Press Next."
    return f"All done: {counted(progress['total'], 'pair')}, of which you voted on {progress['done']:,}."


def _but(filters: Sequence[Filter], i: int) -> tuple[Filter, ...]:
    return (*filters[:i], *filters[i + 1 :])


def _text(asked: Mapping[str, Any], name: str) -> str:
    value = asked.get(name, "")
    if not isinstance(value, str):
        raise ReviewError(f"got {value!r:.40} as {name}; expected text. Load the page again.")
    return value
