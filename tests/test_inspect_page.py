"""A pair of an audit on the Inspect page, without a browser: the audit's numbers, or why there are others."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from test_dataset_page import built
from tiny import tiny_model

from sentrm import cli
from sentrm.catalogue import Catalogue
from sentrm.links import decode_pair
from sentrm.prompts import write_prompt
from sentrm.results import ScoredPair, SegmenterInfo
from sentrm.ui.app import build_app
from sentrm.ui.inspect import audit_notices
from sentrm.ui.play import Desk
from sentrm.ui.stop import Stop
from sentrm.ui.workbench import Workbench
from sentrm.words import signed

TURNS = [("user", "Eggs?"), ("assistant", "Yes?"), ("user", "How so?")]
TOOL = {"type": "function", "function": {"name": "boil", "description": "Boils an egg.", "parameters": {}}}


def messages(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


ANSWERS = {"chosen": "Boil it for nine minutes. Then peel it.", "rejected": "No. I would not know."}
ROWS = {
    "text": {"prompt": "How do I boil an egg?", **ANSWERS},
    "turns": {"prompt": messages(*TURNS), **ANSWERS},
    "system": {"prompt": messages(("system", "Be brief."), ("user", "Eggs?")), **ANSWERS},
    "alone": {"prompt": messages(("user", "Eggs?")), **ANSWERS},
    "hh": {
        side: f"\n\nHuman: Hi.\n\nAssistant: Yes?\n\nHuman: Eggs?\n\nAssistant: {ANSWERS[side]}" for side in ANSWERS
    },
    "quoted": {"prompt": "user: Hi.\n\nassistant: Yes?\n\nuser: Eggs?", **ANSWERS},
    "quotes": {"prompt": messages(("user", "Say:\n\nuser: Hi."), ("assistant", "Hi."), ("user", "Eggs?")), **ANSWERS},
}
Page = dict[str, Callable[..., Any]]


@pytest.fixture(scope="module")
def tools_dir(tokenizer, tmp_path_factory) -> Path:
    """A model whose chat template names the tools."""
    folder = tmp_path_factory.mktemp("tools") / "tiny-tools"
    tiny_model().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    template = (
        "{% for tool in tools or [] %}{{ tool['function']['description'] }}{% endfor %}" + tokenizer.chat_template
    )
    (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.fixture(scope="module")
def bench(model_dir, tools_dir, tmp_path_factory) -> Workbench:
    """The audits `tiny` and `tools`, named after what scored them."""
    place = tmp_path_factory.mktemp("audits")
    rows = {"tiny": ROWS, "tools": {"text": ROWS["text"], "tools": {**ROWS["turns"], "tools": [TOOL]}}}
    for name, model in (("tiny", model_dir), ("tools", tools_dir)):
        data = place / f"{name}.jsonl"
        data.write_text("".join(json.dumps({"id": id, **row}) + "\n" for id, row in rows[name].items()))
        assert cli.main(["audit", str(data), "--model", str(model), "--output", str(place / name)]) == 0
    return Workbench(audits=(place / "tiny", place / "tools"))


def page_of(model: Path, bench: Workbench) -> Page:
    """The Inspect page's answers by name."""
    app = built(lambda: build_app(Catalogue([], model, device="cpu"), (), bench))
    return {event.fn.__name__: event.fn for event in reversed(app.fns.values()) if event.fn}


@pytest.fixture(scope="module")
def page(model_dir, bench) -> Page:
    return page_of(model_dir, bench)


@pytest.fixture(scope="module")
def tools_page(tools_dir, bench) -> Page:
    return page_of(tools_dir, bench)


def by_id(answer: dict[Any, Any]) -> dict[str, Any]:
    """An answer's values: by the name of their component, states by the type of what they hold."""
    return {
        type(value).__name__ if isinstance(block, gr.State) else block.elem_id: value for block, value in answer.items()
    }


def opened(page: Page, bench: Workbench, audit: str, id: str) -> tuple[ScoredPair, list[str], dict[str, Any]]:
    """The pair as the audit has it, the fields that it fills, and what is shown once they are scored."""
    folder = bench.open(audit)
    (row,) = [row for row in folder.page() if row["id"] == id]
    visited = by_id(page["visit"](f"?audit={audit}&id={row['pair_id']}"))
    texts = [visited[name] for name in ("prompt", "a", "b")]
    shown = by_id(page["open_filled"](None, visited["ScoredPair"], gr.Request(session_hash="anna"), *texts))
    return folder.pair(row["pair_id"]), texts, shown


def numbers(pair: ScoredPair) -> list[float]:
    return [number for one in (pair.a, pair.b) for number in (*one.values, *one.weights, one.score)]


def carried(page: Page, desk: Desk, kind: str) -> dict[str, Any]:
    return page["carry_away"](desk, gr.EventData(None, {"kind": kind}))


@pytest.mark.parametrize("id", ROWS)
def test_a_pair_of_an_audit_has_the_audits_numbers_and_goes_on_from_there(page, bench, scorer, id):
    audited, texts, shown = opened(page, bench, "tiny", id)
    pair = ScoredPair.from_dict(json.loads(carried(page, shown["Desk"], "json")["text"]))
    assert numbers(pair) == pytest.approx(numbers(audited), abs=1e-5)
    conversation = id in ("turns", "system", "hh", "quotes")
    said = ["The prompt is read as a conversation"] * (conversation or id == "quoted")  # its one message is such a text
    assert [notice.partition(" of ")[0] for notice in shown["heatmap"]["notices"]] == said
    query = carried(page, shown["Desk"], "link")["query"]
    assert list(decode_pair(query.removeprefix("?pair="))) == texts

    action = gr.EventData(None, {"op": "drop", "side": 0, "sentence": 0})
    moved = by_id(page["edit"](shown["Desk"], gr.Request(session_hash="anna"), action, *texts))
    left = audited.a.text[audited.a.spans[0].end :]
    assert moved["a"] == left
    (expected,) = scorer.score([(audited.prompt, left)])
    pair = ScoredPair.from_dict(json.loads(carried(page, moved["Desk"], "json")["text"]))
    assert pair.a.score == pytest.approx(expected.score, abs=1e-5)


def test_a_conversation_is_not_scored_as_one_text(bench, scorer):
    (row,) = [row for row in bench.open("tiny").page() if row["id"] == "turns"]
    audited = bench.open("tiny").pair(row["pair_id"])
    (flat,) = scorer.score([(write_prompt(audited.prompt), audited.a.text)])
    assert abs(flat.score - audited.a.score) > 0.01


def test_an_audit_by_another_model_is_named(tools_page, bench):
    audited, _, shown = opened(tools_page, bench, "tiny", "text")
    (said,) = shown["heatmap"]["notices"]
    assert re.fullmatch(
        rf"This audit was scored by tiny-llama \({audited.a.model.revision}\), cut by rules:en \(.*\); "
        r"here it is scored by tiny-tools \(\w+\), cut by rules:en \(.*\), so numbers differ\.",
        said,
    )


def test_an_audit_cut_by_another_segmenter_is_named(page, bench):
    audited, _, shown = opened(page, bench, "tiny", "text")
    other = replace(audited, a=replace(audited.a, segmenter=SegmenterInfo("tokens", "1", own=False)))
    (said,) = audit_notices(other, audited)
    assert "cut by tokens (1); here" in said
    assert shown["heatmap"]["notices"] == list(audit_notices(audited, audited)) == []


def test_tools_that_no_text_carries_are_said(tools_page, bench):
    audited, _, shown = opened(tools_page, bench, "tools", "tools")
    conversation, said = shown["heatmap"]["notices"]
    assert "conversation of 3 messages" in conversation
    assert said.startswith(f"This audit has the margin {signed(audited.margin)} for this pair.")
    assert "tools" in said
    assert opened(tools_page, bench, "tools", "text")[2]["heatmap"]["notices"] == []


def test_a_step_does_not_stop_the_scoring_of_text_that_is_not_its_own(page, monkeypatch):
    visitor, texts = gr.Request(session_hash="one"), ("Eggs?", ANSWERS["chosen"], ANSWERS["rejected"])
    shown = page["show"](None, None, visitor, *texts)
    (desk,) = [value for value in shown.values() if isinstance(value, Desk)]
    pressed: list[gr.Request] = []
    monkeypatch.setattr(Stop, "press", lambda _, request: pressed.append(request))
    event = SimpleNamespace(_data={"op": "drop", "side": 0, "sentence": 0, "turn": desk.turn})
    page["edit"](desk, visitor, event, "Eggs?", "Text that is being scored.", texts[2])
    assert pressed == []
    page["edit"](desk, visitor, event, *texts)
    assert pressed == [visitor]


def test_nothing_is_said_of_another_pair(page, bench):
    audited, _, _ = opened(page, bench, "tools", "text")
    _, texts, _ = opened(page, bench, "tiny", "turns")
    shown = by_id(page["show"](None, audited, gr.Request(session_hash="anna"), *texts))
    assert not any("audit" in notice for notice in shown["heatmap"]["notices"])
