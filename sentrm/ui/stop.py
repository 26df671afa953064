"""What ends work that nobody waits for any longer: the Stop button, a reader who has gone on, or has left the page."""

from __future__ import annotations

from threading import Event

import gradio as gr

from ..errors import SentrmError
from ..inspection import Progress


class Stopped(SentrmError):
    """Nobody waits for this any longer."""


class Stop:
    """What is worked at for one page, by session."""

    def __init__(self) -> None:
        self._working: dict[str | None, list[Event]] = {}  # set where the work is to end

    def watched(self, request: gr.Request) -> Progress:
        """What to report progress to; it raises Stopped once `press` was called for this session."""
        over = Event()
        self._working.setdefault(request.session_hash, []).append(over)

        def report(done: int, of: int) -> None:
            if over.is_set():
                raise Stopped("Stopped before it was done. Press the button again to begin anew.")

        return report

    def press(self, request: gr.Request) -> None:
        """End what this session has asked for so far."""
        for over in self._working.pop(request.session_hash, []):
            over.set()
