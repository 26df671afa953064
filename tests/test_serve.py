"""The app as others reach it: real servers, real requests, and the votes in the log afterwards."""

from __future__ import annotations

import asyncio
import base64
import copy
import hashlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
import uvicorn
from fastapi import FastAPI

import app as command
from sentrm.audit.run import score_dataset
from sentrm.scoring import Scorer
from sentrm.ui.app import build_app
from sentrm.ui.heatmap import PairHeatmap
from sentrm.ui.serve import MOST_SENT, SPACE_FRAME, Door, mounted
from sentrm.ui.workbench import Workbench

MARKUP = "<img src=x onerror=alert(1)></script><script>alert(2)</script> ${alert(3)} {{ 7 * 7 }}"
ROW = {"prompt": MARKUP, "chosen": f"Boil it. {MARKUP}", "rejected": "No.", "id": MARKUP, "source": MARKUP}
EVIL = "https://evil.example"
LOGINS = [("ada", "secret"), ("bo", "pass:word")]
PUBLIC = ("/", "/review", "/config", "/gradio_api/info", "/theme.css", "/nothing", "/gradio_api/file=/etc/passwd")


@pytest.fixture(scope="module")
def audits(model_dir, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("audits")
    (folder / "data.jsonl").write_text(json.dumps(ROW))
    score_dataset(folder / "data.jsonl", Scorer.from_pretrained(model_dir), folder / "audits" / "<b>eggs ${x}")
    return folder / "audits"


class Served:
    """A running app, and who asks it."""

    def __init__(self, url: str, bench: Workbench, functions: dict[str, int]) -> None:
        self.url = url
        self.bench = bench
        self.functions = functions  # the app's, by name

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False, **options)

    def get(self, path: str, **headers: str) -> httpx.Response:
        with self.client() as client:
            return client.get(path, headers={name.replace("_", "-"): text for name, text in headers.items()})

    def vote(self, client: httpx.Client, annotator: str, **headers: str) -> httpx.Response:
        """What the Review page sends for a vote; in its words, a name that the page holds."""
        folder = self.bench.open(self.bench.names()[0])
        said = {"do": "vote", "query": "", "annotator": annotator, "pair": folder.ids()[0], "choice": "tie", "seen": 0}
        return self.call(client, "act", [None], said | {"reason": "", "comment": "", "marks": []}, **headers)

    def call(
        self, client: httpx.Client, function: str, data: list[Any], event: Any = None, **headers: str
    ) -> httpx.Response:
        body = {"data": data, "event_data": event, "fn_index": self.functions[function], "session_hash": "x"}
        return client.post("/gradio_api/run/predict", json=body, headers=headers)

    def voters(self) -> list[str]:
        return [vote.annotator for vote in self.bench.log().current()]


@contextmanager
def served(door: Door, bench: Workbench, **options: Any) -> Iterator[Served]:

    async def build() -> tuple[gr.Blocks, FastAPI]:  # where no loop runs, gradio makes some and leaves them open
        blocks = build_app(None, (), bench)
        return blocks, mounted(blocks, door, **options)

    blocks, serving = asyncio.run(build())
    functions = {getattr(event.fn, "__name__", ""): number for number, event in blocks.fns.items()}
    server = uvicorn.Server(uvicorn.Config(serving, log_level="warning", ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield Served(f"http://127.0.0.1:{listening.getsockname()[1]}", bench, functions)
        server.should_exit = True
        thread.join()
        bench.log().close()


@pytest.fixture(scope="module")
def local(audits, tmp_path_factory) -> Iterator[Served]:
    """As `python app.py` serves: for this computer alone."""
    bench = Workbench(audits=(audits,), reviews=tmp_path_factory.mktemp("local") / "log", annotators=(MARKUP, "cy"))
    with served(Door(2**20), bench) as one:
        yield one


@pytest.fixture(scope="module")
def guarded(audits, tmp_path_factory) -> Iterator[Served]:
    """With logins, under any name."""
    log = tmp_path_factory.mktemp("guarded") / "log"
    bench = Workbench(audits=(audits,), reviews=log, leads=(LOGINS[0][0],))
    with served(Door(2**20, local=False), bench, auth=LOGINS) as one:
        yield one


@pytest.fixture(scope="module")
def space(audits, tmp_path_factory) -> Iterator[Served]:
    """As a Space serves: for everybody, who cannot change reviews."""
    bench = Workbench(audits=(audits,), reviews=tmp_path_factory.mktemp("space") / "log", login_to_review=True)
    with served(Door(2**20, local=False, framed_by=SPACE_FRAME), bench) as one:
        yield one


class Scripts(HTMLParser):
    """The inline scripts of a page, as a browser finds them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._inside = tag == "script" and "src" not in dict(attrs)

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.found.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = False


def directives(answer: httpx.Response) -> dict[str, list[str]]:
    parts = [part.split() for part in answer.headers["content-security-policy"].split(";")]
    return {name: values for name, *values in parts}


@pytest.mark.parametrize("path", PUBLIC)
def test_every_answer_has_the_headers(local, path):
    answer = local.get(path, accept="text/html")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    policy = directives(answer)
    assert policy["frame-ancestors"] == ["'self'"]
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == ["'self'"]
    assert policy["object-src"] == ["'none'"]
    assert not {"'unsafe-inline'", "*", "data:", "https:"} & set(policy["script-src"])


def test_a_page_runs_the_scripts_it_came_with_and_no_others(local):
    answer = local.get("/", accept="text/html")
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in Scripts(answer.text).found]
    allowed = directives(answer)["script-src"]
    assert len(hashes) >= 4
    assert {f"'sha256-{one}'" for one in hashes} < set(allowed)
    assert len(allowed) == len(hashes) + 3  # 'self', 'unsafe-eval', and the script of the page's own look
    assert not [one for one in directives(local.get("/config"))["script-src"] if "sha256" in one]


def test_no_script_of_an_uploaded_page_runs(local):
    with local.client() as client:
        (path,) = client.post("/gradio_api/upload", files={"files": ("x.html", b"<script>alert(1)</script>")}).json()
        answer = client.get(f"/gradio_api/file={path}", headers={"accept": "text/html"})
    assert answer.status_code == 200
    assert answer.headers["content-disposition"].startswith("attachment")
    assert not [one for one in directives(answer)["script-src"] if "sha256" in one]


def test_markup_in_names_is_text_in_the_page(local):
    for path in ("/", "/review"):
        page = Scripts(local.get(path, accept="text/html").text)
        assert not {"img", "b", "alert"} & page.tags
        assert len(page.found) == 5
        config = json.loads(page.found[0].strip().removeprefix("window.gradio_config = ").removesuffix(";"))
        assert config["page"][path.strip("/")]
    names = [name for one in config["components"] for name, _ in one["props"].get("choices") or ()]
    assert "JSONL" in names
    assert local.bench.names() == ["<b>eggs ${x}"]
    assert '"<b>eggs ${x}"' in local.get("/config").text


def test_a_space_is_shown_by_the_hub_alone(space):
    assert directives(space.get("/", accept="text/html"))["frame-ancestors"] == ["'self'", "https://huggingface.co"]


FOREIGN = [
    {"origin": EVIL},
    {"origin": "null"},
    {"origin": "http://localhost:1"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site", "origin": "http://localhost:1"},
    {"origin": EVIL, "x-forwarded-for": "127.0.0.1"},
]


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize("which", ["local", "guarded", "space"])
def test_another_origin_changes_nothing(which, headers, request):
    one = request.getfixturevalue(which)
    with one.client() as client:
        if which == "guarded":
            login(client, *LOGINS[0])
        assert one.vote(client, "eve", **headers).status_code == 403
        for path in ("/gradio_api/upload", "/gradio_api/queue/join", "/login", "/gradio_api/cancel", "/nothing"):
            assert client.post(path, headers=headers, json={}).status_code == 403, path
        for method in ("PUT", "DELETE", "PATCH"):
            assert client.request(method, "/", headers=headers).status_code == 403
    assert "eve" not in one.voters()


def test_another_origin_reads_nothing(space):
    with space.client() as client:
        answer = client.get("/config", headers={"origin": EVIL})
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("access-control")]
        asked = {"origin": EVIL, "access-control-request-method": "POST"}
        preflight = client.options("/gradio_api/queue/join", headers=asked)
        assert preflight.status_code == 400
        assert "access-control-allow-origin" not in preflight.headers
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_the_apps_own_pages_and_programs_may(local):
    own = local.url
    before = len(local.bench.log().current(annotator="cy"))
    with local.client() as client:
        for headers in ({}, {"origin": own}, {"sec-fetch-site": "same-origin", "origin": own}):
            assert local.vote(client, "cy", **headers).status_code == 200
        proxied = {"origin": "https://eggs.example", "x-forwarded-host": "eggs.example"}
        assert local.vote(client, "cy", **proxied).status_code == 200
    assert before == 0
    assert "cy" in local.voters()


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil", "10.0.0.1", ""]
)
def test_a_local_app_has_no_other_name(local, space, host):
    answer = local.get("/config", host=host)
    assert answer.status_code in (400, 403)  # an empty one is no HTTP
    assert "components" not in answer.text
    if host:
        assert "answers to localhost alone" in answer.json()["error"]
        assert space.get("/config", host=host).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:7860", "[::1]:7860", "LOCALHOST"])
def test_a_local_app_has_its_own_names(local, host):
    assert local.get("/config", host=host).status_code == 200


def login(client: httpx.Client, name: str, password: str) -> httpx.Response:
    answer = client.post("/login", data={"username": name, "password": password})
    token = re.search(r"access-token-unsecure-([^=]+)=([^;]+)", answer.headers.get("set-cookie", ""))
    if token:  # the other cookie wants https
        client.cookies.set(f"access-token-unsecure-{token[1]}", token[2])
    return answer


def test_without_a_login_nothing_is_read_or_changed(guarded):
    paths = (
        "/config",
        "/gradio_api/login_check",
        "/gradio_api/info",
        "/gradio_api/openapi.json",
        "/gradio_api/queue/data",
        "/gradio_api/file=x",
    )
    with guarded.client() as client:
        for path in paths:
            assert client.get(path).status_code == 401, path
        assert guarded.vote(client, "ada").status_code == 401
        for path in ("/gradio_api/queue/join", "/gradio_api/component_server"):
            assert client.post(path, json={}).status_code == 401, path
        assert client.post("/gradio_api/upload", files={"files": b"x"}).status_code == 401
        for name, password in (("ada", "wrong"), ("ada", ""), ("eve", "secret"), ("ada", "pass:word")):
            assert login(client, name, password).status_code >= 400
        page = client.get("/").text
    assert "eggs" not in page
    assert guarded.voters() == []


def test_a_vote_is_the_logins_whatever_the_page_says(guarded):
    with guarded.client() as client:
        assert login(client, *LOGINS[1]).status_code == 200
        assert "drawn for 'ada', and bo is logged in now" in guarded.vote(client, "ada").text
        assert guarded.voters() == []
        assert guarded.vote(client, "bo").status_code == 200
        assert guarded.voters() == ["bo"]
        client.get("/logout")
        assert guarded.vote(client, "bo").status_code == 401


def test_everybodys_votes_are_for_who_leads(guarded):
    asked = {"counted_votes": [""], "made_of": ["", "jsonl", "turn", "drop", "drop", "mark"]}
    for name, lead in ((LOGINS[0], True), (LOGINS[1], False)):
        with guarded.client() as client:
            login(client, *name)
            for function, data in asked.items():
                answer = guarded.call(client, function, data)
                assert answer.status_code == 200
                assert ("who leads the review (ada)" in answer.text) is not lead, function


def test_a_space_shows_reviews_and_takes_none(space):
    with space.client() as client:
        answer = space.vote(client, "eve")
    assert "logged in" in answer.text
    assert space.voters() == []


def test_what_is_sent_is_bounded(local):
    def pieces(size: int) -> Iterator[bytes]:  # sent without saying how much it will be
        yield from (b"x" * 2**16 for _ in range(size // 2**16))

    with local.client() as client:
        upload = client.post("/gradio_api/upload", files={"files": ("big.jsonl", b"x" * (2**20 + 2**17))})
        assert upload.status_code == 413
        assert "more than 1 MiB" in upload.json()["error"]
        small = client.post("/gradio_api/upload", files={"files": ("small.jsonl", b"x" * 2**20)})
        assert small.status_code == 200
        form = {"content-type": "multipart/form-data; boundary=b"}
        endless = client.post("/gradio_api/upload", content=pieces(2**22), headers=form)
        assert endless.status_code in (400, 413)
        body = client.post("/gradio_api/queue/join", content=b"[" * (MOST_SENT + 1))
        assert body.status_code == 413
        unsaid = client.post("/gradio_api/queue/join", content=pieces(MOST_SENT + 2**17))
        assert (unsaid.status_code, unsaid.json()) == (413, body.json())
        nested = client.post(
            "/gradio_api/queue/join", content=b"[" * 200_000, headers={"content-type": "application/json"}
        )
        assert 400 <= nested.status_code < 500
        assert client.get("/config").status_code == 200


OUT = ["/etc/passwd", "../../../../etc/passwd", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "//etc/passwd", "/proc/self/environ"]


@pytest.mark.parametrize("path", [*OUT, str(Path(command.__file__)), "{audit}/audit.json", "{log}"])
def test_no_file_of_the_machine_is_served(local, path):
    audit = local.bench.open(local.bench.names()[0]).path
    path = path.format(audit=audit, log=local.bench.reviews)
    for route in ("/gradio_api/file=", "/gradio_api/file/", "/static/", "/assets/", "/svelte/"):
        assert local.get(f"{route}{path}").status_code in (403, 404, 405), route


def test_an_upload_stays_in_its_folder(local):
    uploads = Path(os.environ.get("GRADIO_TEMP_DIR") or "/tmp/gradio").resolve()
    with local.client() as client:
        for name in ("../../../x.jsonl", "/etc/x.jsonl", "..", "a\\..\\b.jsonl", "x" * 400 + ".jsonl"):
            answer = client.post("/gradio_api/upload", files={"files": (name, b"x")})
            if answer.status_code == 200:
                assert Path(answer.json()[0]).resolve().is_relative_to(uploads)
        assert client.post("/gradio_api/upload", files={"files": ("x.jsonl", b"x")}).status_code == 200


CLOSED = ["monitoring", "monitoring/summary", "docs", "redoc", "openapi.json", "gradio_api/runs"]
CLOSED += ["gradio_api/run-history/buckets", "gradio_api/deep_link", "gradio_api/proxy=https://evil.hf.space/"]
CLOSED += ["gradio_api/vibe-code", "gradio_api/profiling/traces", "gradio_api/stream/x/0/0/playlist.m3u8"]


@pytest.mark.parametrize("path", CLOSED)
def test_what_nobody_needs_is_not_served(local, path):
    assert local.get(f"/{path}").status_code == 404


def test_nothing_is_recorded_or_reported(local):
    config = local.get("/config").json()
    assert config["analytics_enabled"] is False
    assert not config.get("run_history")
    assert config["footer_links"] == []
    assert config["max_file_size"] == 2**20


def test_without_a_model_the_dataset_page_is_the_first(local):
    answer = local.get("/dataset?audit=a&where=b")
    assert answer.is_redirect
    assert answer.headers["location"] == "./?audit=a&where=b"


def test_what_is_copied_for_every_visit_holds_data_alone():
    """gradio copies the configuration by `deepcopy`; a function in it would copy the whole app, in 1.5 s."""
    config = PairHeatmap(checks={"turn": 1}).get_config()
    assert copy.deepcopy(config) == config
    assert config["props"]["checks"] == {"turn": 1}
