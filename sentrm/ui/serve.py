"""Serves the app: gradio's pages under FastAPI, behind one guard that every request and answer passes.

Decisions:
- A request that changes something is refused if a page of another origin sent it, on a public host too: gradio lets
  any origin in there, and its login cookie is sent along. Other origins get no CORS header and so read nothing.
- Served for this computer alone, the app answers to the computer's own names alone, so that no web page can reach it
  under a name of its own that leads here.
- The policy runs the scripts that the page came with and no others: an inline script by its hash, which is taken from
  the page as it leaves. Gradio makes functions from text ('unsafe-eval') and styles elements ('unsafe-inline').
- What is sent is bounded before it is kept in memory: an upload by `max_upload`, all else by `MOST_SENT`.
- What gradio serves beside the pages and nobody here needs is closed: its monitoring, run history, recordings, proxy,
  deep links and editors. What visitors upload is deleted after a day, but for a copy of what they score, which stays
  with its audit.
"""

from __future__ import annotations

import base64
import hashlib
import re
import signal
import socket
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import gradio as gr
import uvicorn
from fastapi import FastAPI, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .look import HEAD, mount_options

MOST_SENT = 32 * 2**20  # bytes of a request that uploads no file
DAY = 24 * 3600
LOCAL = ("localhost", "127.0.0.1", "::1")
SPACE_FRAME = "https://huggingface.co"  # the page that shows a Space inside itself
SAFE = ("GET", "HEAD", "OPTIONS")
CLOSED = re.compile(
    r"(/monitoring|/gradio_api/(runs|run-history|process_recording|proxy=|deep_link|stream|vibe|undo-vibe|profiling|dev))"
)
INLINE = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)


@dataclass(frozen=True)
class Door:
    """Who is let in, and with how much."""

    max_upload: int  # bytes of one request
    local: bool = True  # answer to the computer's own names alone
    framed_by: str = ""  # an origin that may show the app inside its page


def mounted(
    blocks: gr.Blocks, door: Door, *, auth: Sequence[tuple[str, str]] = (), mcp_server: bool = False
) -> FastAPI:
    """The app as it is served.

    Args:
        auth: names with their passwords; without any, everybody is let in.
        mcp_server: serve the endpoints as MCP tools too.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    blocks.delete_cache = (DAY // 24, DAY)
    if "dataset" not in (route for route, *_ in blocks.pages):  # it is the first page, where there is no model

        @app.get("/dataset")
        def first_page(request: Request) -> RedirectResponse:
            return RedirectResponse(f"./?{request.url.query}")

    app.add_middleware(CORSMiddleware, allow_origins=())  # nobody; gradio's own, which lets any in, steps back
    app.add_middleware(Guard, door=door)
    app.add_middleware(GZipMiddleware, minimum_size=1000)  # the guard reads pages, so gradio does not pack them
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "SSR mode is not supported")  # said even where it is off
        return gr.mount_gradio_app(
            app,
            blocks,
            path="/",
            app_kwargs={"openapi_url": None},
            auth=[*auth] or None,
            max_file_size=door.max_upload,
            enable_monitoring=False,
            show_error=False,
            mcp_server=mcp_server,
            **mount_options(),
        )


def run(app: FastAPI, host: str, port: int, started: str) -> None:
    """Serve until interrupted; prints `started` as soon as requests are answered.

    Raises:
        OSError: the port is taken, or the host is none of this computer.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=2048) as listening:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # or temporary files would stay
        config = uvicorn.Config(app, log_level="warning", server_header=False, timeout_graceful_shutdown=1)
        with suppress(KeyboardInterrupt):
            _Server(config, started).run(sockets=[listening])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, said: str) -> None:
        super().__init__(config)
        self._said = said

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(self._said, flush=True)


class Guard:
    """Refuses what must not come in, and gives every answer the headers that browsers heed."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app = app
        self.door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # gradio 6 has no web socket
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = Headers(scope=scope)
        answer = _Answer(send, self.door, page=not scope["path"].startswith("/gradio_api/"))
        if refusal := self._refusal(scope, headers):
            status, said = refusal
            await JSONResponse({"error": said}, status)(scope, receive, answer.send)
            return
        if "text/html" in headers.get("accept", ""):
            scope = {**scope, "headers": [(k, v) for k, v in scope["headers"] if k != b"accept-encoding"]}
        body = _Body(receive, self._most(scope))
        try:
            await self.app(scope, body.receive, answer.send_unless(body))
        except Exception:
            if not body.too_large:
                raise
        if body.too_large and not answer.started:
            await JSONResponse({"error": _too_large(body.most)}, 413)(scope, receive, answer.send)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        """Status and reason, if the request is not let in."""
        host = urlsplit(f"//{headers.get('host', '')}").hostname
        if self.door.local and host not in LOCAL:
            return 403, (
                f"got a request for {host!r:.80}; this app answers to localhost alone. To serve it under another name, "
                "start it with --auth or --no-auth."
            )
        if CLOSED.match(scope["path"]):
            return 404, "this page is not served."
        if scope["method"] not in SAFE:
            if _foreign(headers):
                return 403, "a page of another origin sent this; what changes something has to come from the app's own."
            length = headers.get("content-length", "0")
            if not length.isdigit() or int(length) > self._most(scope):
                return 413, _too_large(self._most(scope))
        return None

    def _most(self, scope: Scope) -> int:
        return self.door.max_upload + 2**16 if scope["path"].rstrip("/") == "/gradio_api/upload" else MOST_SENT


class _Body:
    """A request's body, cut off where it gets too large."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive = receive
        self._got = 0
        self.most = most
        self.too_large = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._got += len(message.get("body", b""))
        if self._got > self.most:
            self.too_large = True
            return {"type": "http.disconnect"}
        return message


class _Answer:
    """An answer on its way out: with the headers, and a page with its policy."""

    def __init__(self, send: Send, door: Door, page: bool) -> None:
        self._send = send
        self._door = door
        self._page: list[bytes] | None = [] if page else None  # a visitor's file is no page: none of its scripts runs
        self._start: Message | None = None  # of a page, kept back until its scripts are known
        self.started = False

    def send_unless(self, body: _Body) -> Send:
        async def send(message: Message) -> None:
            if not body.too_large or self.started:
                await self.send(message)

        return send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Referrer-Policy"] = "same-origin"
            headers["Cross-Origin-Resource-Policy"] = "same-origin"
            if self._page is not None and headers.get("content-type", "").startswith("text/html"):
                self._start = message
                return
            headers["Content-Security-Policy"] = policy(self._door.framed_by)
        elif self._start is not None and self._page is not None:  # what follows is the page's body
            self._page.append(message.get("body", b""))
            if message.get("more_body", False):
                return
            page, start, self._start = b"".join(self._page), self._start, None
            MutableHeaders(scope=start)["Content-Security-Policy"] = policy(self._door.framed_by, page)
            await self._send(start)
            message = {"type": "http.response.body", "body": page}
        await self._send(message)


def policy(framed_by: str, page: bytes = b"") -> str:
    """The Content-Security-Policy of a page, or of what is no page."""
    scripts = [*INLINE.findall(page), *INLINE.findall(HEAD.encode())] if page else []
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(one).digest()).decode()}'" for one in scripts)
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' 'unsafe-eval' {hashes}".rstrip(),
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            f"frame-ancestors 'self' {framed_by}".rstrip(),
        )
    )


def _foreign(headers: Headers) -> bool:
    """Whether a page of another origin sent the request; a program sends neither header."""
    if site := headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    hosts = {headers.get("host", ""), headers.get("x-forwarded-host", "").split(",")[0].strip()} - {""}
    return origin is not None and urlsplit(origin).netloc not in hosts


def _too_large(most: int) -> str:
    return f"got more than {most / 2**20:,.0f} MiB, which is the most. Send less, or start the app with --max-upload."
