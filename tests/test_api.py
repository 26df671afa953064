"""The endpoints as a program calls them: gradio_client and plain HTTP against the launched app."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from sentrm.inspection import Inspector
from sentrm.results import ScoredPair
from sentrm.scoring import Scorer

ROOT = Path(__file__).parents[1]
PROMPT, A, B = "How do I boil an egg?", "Boil it for nine minutes. Then peel it.", "No."


@contextmanager
def serving(model: Path, *flags: str) -> Iterator[str]:
    """Where `python app.py` serves the model."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "app.py", "--model", str(model), "--port", str(port), *flags]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            said = iter(process.stdout.readline, "")
            assert any("Serving" in line for line in said), "the app did not start"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.stdout.read()


@pytest.fixture(scope="module")
def url(model_dir: Path) -> Iterator[str]:
    with serving(model_dir) as where:
        yield where


@pytest.fixture(scope="module")
def inspector(model_dir: Path) -> Inspector:
    return Inspector(Scorer.from_pretrained(model_dir))


@pytest.fixture(scope="module")
def client(url: str) -> Client:
    return Client(url, verbose=False)


def post(url: str, name: str, *data: object) -> str:
    """The events that a plain HTTP call gets."""
    call = f"{url}/gradio_api/call/{name}"
    body = json.dumps({"data": data}).encode()
    request = urllib.request.Request(call, body, {"Content-Type": "application/json"})
    with closing(urllib.request.urlopen(request)) as answer:
        event = json.load(answer)["event_id"]
    with closing(urllib.request.urlopen(f"{call}/{event}")) as answer:
        return answer.read().decode()


def flat(data: object) -> list[object]:
    """Every leaf, in order."""
    if isinstance(data, dict):
        return [leaf for name, value in data.items() for leaf in (name, *flat(value))]
    return [leaf for value in data for leaf in flat(value)] if isinstance(data, list) else [data]


def same(one: object, other: object) -> None:
    for got, expected in zip(flat(one), flat(other), strict=True):
        assert got == (pytest.approx(expected, abs=1e-5) if isinstance(expected, float) else expected)


def test_score_pair_is_the_pairs_json(client, inspector):
    result = client.predict(PROMPT, A, B, api_name="/score_pair")
    same(result, inspector.pair(PROMPT, A, B)[0].to_dict())
    assert ScoredPair.from_dict(result).to_dict() == result


def test_a_conversation_is_read_as_the_page_reads_it(client, inspector):
    turns = ("user", "Eggs?"), ("assistant", "Yes?"), ("user", PROMPT)
    answer = client.predict("user: Eggs?\n\nassistant: Yes?\n\nuser: " + PROMPT, A, B, api_name="/score_pair")
    same(answer, inspector.pair(tuple({"role": role, "content": text} for role, text in turns), A, B)[0].to_dict())


def test_plain_http_gives_the_same(url, inspector):
    events = post(url, "score_pair", PROMPT, A, B)
    assert events.startswith("event: complete\ndata: ")
    (result,) = json.loads(events.partition("data: ")[2])
    same(result, inspector.pair(PROMPT, A, B)[0].to_dict())


def test_responses_come_best_first(client, inspector):
    result = client.predict(PROMPT, [B, A], api_name="/score_responses")
    expected = sorted(inspector.responses(PROMPT, [B, A]), key=lambda one: -one.score)
    same(result, [one.to_dict() for one in expected])


def test_leave_one_out(client, inspector):
    expected = inspector.leave_one_out(inspector.responses(PROMPT, [A])[0])
    assert client.predict(PROMPT, A, api_name="/leave_one_out") == pytest.approx(list(expected), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("score_pair", ("", A, B), "the prompt is empty"),
        ("score_pair", (5, A, B), "prompt is of type int; expected text"),
        ("score_responses", (PROMPT, A), "responses is of type str; expected a list"),
        ("score_responses", (PROMPT, [A, None]), "responses[1] is of type NoneType; expected text"),
        ("score_responses", (PROMPT, []), "got 0 responses, expected 1 to 64"),
        ("leave_one_out", (PROMPT, "x" * 9000), "Response 1: the first sentence has"),
    ],
)
def test_what_cannot_be_scored_is_said(client, url, name, data, said):
    with pytest.raises(AppError) as raised:
        client.predict(*data, api_name=f"/{name}")
    assert said in str(raised.value)
    events = post(url, name, *data)
    assert events.startswith("event: error")
    assert said in json.loads(events.partition("data: ")[2])["error"]


def test_nothing_else_is_public_and_what_is_is_documented(client):
    described = client.view_api(return_format="dict", print_info=False)
    assert sorted(described["named_endpoints"]) == ["/leave_one_out", "/score_pair", "/score_responses"]
    assert not described["unnamed_endpoints"]
    for endpoint in described["named_endpoints"].values():
        assert len(endpoint["description"]) > 60
        assert all(one["python_type"]["type"] in ("str", "list[str]") for one in endpoint["parameters"])


def test_mcp_tools(model_dir):
    if find_spec("mcp") is None:
        pytest.skip("the extra mcp is not installed")
    import asyncio

    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async def tools(url: str) -> dict[str, str]:
        where = f"{url}/gradio_api/mcp/"
        async with streamable_http_client(where) as (read, write, _), ClientSession(read, write) as session:
            await session.initialize()
            return {tool.name: tool.description for tool in (await session.list_tools()).tools}

    with serving(model_dir, "--mcp") as url:
        assert sorted(asyncio.run(tools(url))) == ["leave_one_out", "score_pair", "score_responses"]
