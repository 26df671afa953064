"""The Stop button of a page: a reader who does not want to wait any longer ends what the model works at."""

from __future__ import annotations

import gradio as gr

from ..errors import SentrmError
from ..inspection import Progress

START_JS = "() => { document.body.classList.add('scoring'); }"  # what shows the button
END_JS = "() => { document.body.classList.remove('scoring'); }"


class Stop:
    """Whose work on one page is to end, by session."""

    def __init__(self) -> None:
        self._sessions: set[str | None] = set()

    def watched(self, request: gr.Request) -> Progress:
        """What to report progress to; it raises SentrmError once this session has pressed the button."""
        self._sessions.discard(request.session_hash)

        def report(done: int, of: int) -> None:
            if request.session_hash in self._sessions:
                self._sessions.discard(request.session_hash)
                raise SentrmError("Stopped before it was done. Press the button again to begin anew.")

        return report

    def press(self, request: gr.Request) -> None:
        """This session does not want to wait any longer."""
        self._sessions.add(request.session_hash)
