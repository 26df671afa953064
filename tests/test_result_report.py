"""A result to carry away: a page closed to the outside, an exact table and JSON, a well-formed picture."""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import io
import json
import math
import re
import sys
import time
import types
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import Reader

from sentrm.errors import SentrmError
from sentrm.heatmap import PALETTES, heatmap_value
from sentrm.picture import text_width, to_svg, wrap
from sentrm.report import CSV_HEADERS, to_csv, to_html, to_json
from sentrm.results import ModelInfo, ScoredPair, ScoredResponse, SegmenterInfo, Span

MODEL = ModelInfo("demo", "0" * 12, "attention", 0.03)
SVG = "{http://www.w3.org/2000/svg}"


def response(
    sentences=("One. ", "Two. ", "Three."), segmenter="rules:en", prompt="Count.", **changes
) -> ScoredResponse:
    """A response whose numbers have all their digits, and follow the equations."""
    count = len(sentences)
    ends = [sum(map(len, sentences[: i + 1])) for i in range(count)]
    rewards = tuple(math.sin(7.0 * i + 1) for i in range(count + 1))
    weights = (*((1 / 3,) * count), 0.1)
    contributions = tuple(a * d for a, d in zip(weights, rewards, strict=True))
    fields = {
        "prompt": prompt,
        "text": "".join(sentences),
        "spans": tuple(Span(start, end) for start, end in zip([0, *ends], ends, strict=False)),
        "tokens": tuple(range(3, 3 + count)),
        "values": tuple(math.fsum(rewards[: i + 1]) for i in range(count + 1)),
        "rewards": rewards,
        "weights": weights,
        "contributions": contributions,
        "score": math.fsum(contributions),
        "dropped_sentences": 0,
        "cut_prompt_tokens": 0,
        "model": MODEL,
        "segmenter": SegmenterInfo(segmenter, "1", True),
    }
    return ScoredResponse(**{**fields, **changes})


PAIR = ScoredPair("p:1", response(), response(("No. ", "Nothing.")))
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;${7*7}{{8*8}}]]>--><!--"


# What it shows


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        (("Try this:\n\n", "- ```py\n  x = 1. Done.\n  ```\n\n", "That is all. ", "Really."), [1]),
        (("Write:\n\n", "```\n``` not closed\n```\n\n", "That is all."), [1]),
        (("So:\n\n", "$$\nx = 1. y\n$$\n\n", "Then."), []),  # display math is cut nowhere, but no code
    ],
)
def test_code_is_what_the_segmenter_takes_for_it(parts, code):
    sentences = heatmap_value(response(parts))["sides"][0]["sentences"]
    assert [i for i, sentence in enumerate(sentences) if sentence["code"]] == code


def test_an_item_begins_a_line():
    parts = ("- One. ", "a. Two.\n", "b) Three.\n", "• Four.\n", "(ii) Five.")
    sentences = heatmap_value(response(parts))["sides"][0]["sentences"]
    assert [sentence["item"] for sentence in sentences] == [True, False, True, True, True]


@pytest.mark.parametrize(
    ("segmenter", "cut", "unit"),
    [
        ("tokens", ("On", "e. ", "Two."), "token"),
        ("response", ("One. Two.",), "sentence"),
        ("rules:en", (), "sentence"),
    ],
)
def test_both_sides_are_called_alike_where_one_is_cut_by_hand(segmenter, cut, unit):
    hand = dataclasses.replace(response(("One. ", "Two.")), segmenter=SegmenterInfo("by hand", "", False))
    beside = response(cut or ("One.",), segmenter)
    for pair in (ScoredPair("", hand, beside), ScoredPair("", beside, hand)):
        value = heatmap_value(pair)
        assert value["unit"] == unit
        assert f"median {unit} " in value["legend"]["label"]
        titles = [sentence["title"] for side in value["sides"] for sentence in side["sentences"]]
        assert all(f" · {unit} " in title for title in titles), titles


def test_of_no_response_there_is_nothing_to_show():
    with pytest.raises(SentrmError, match="got no response"):
        heatmap_value({})


# The page


@pytest.mark.parametrize("result", [PAIR, PAIR.a])
def test_the_page_carries_what_the_heatmap_shows(result):
    page = result.to_html()
    embedded = re.search(r'<script type="application/json" id="value">(.*?)</script>', page, re.DOTALL)
    assert json.loads(embedded[1]) == json.loads(json.dumps(heatmap_value(result)))
    assert "demo (000000000000), attention, cut by rules:en (1)" in Reader(page).text


def test_no_text_becomes_markup():
    messages = ({"role": "system", "content": HOSTILE}, {"role": HOSTILE, "content": "\x00\ud800"})
    plain = Reader(to_html(ScoredPair("", response(prompt=messages), response())))
    hostile = dataclasses.replace(MODEL, name=HOSTILE)
    one = response((HOSTILE, HOSTILE), prompt=messages, model=hostile)
    page = to_html(ScoredPair("", one, one))
    assert Reader(page).tags == plain.tags
    assert plain.text.count(HOSTILE) == 2  # as text, where it is read
    page.encode("utf-8")


def test_the_policy_allows_the_pages_own_script_and_style_and_nothing_else():
    page = to_html(PAIR)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    (script,) = re.findall(r'<script type="module">(.*?)</script>', page, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    script, style = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style))
    assert policy == f"default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'"
    assert not [value for name, value in Reader(page).attributes if name in ("src", "href", "style", "onload")]


def test_show_draws_in_a_notebook_and_says_what_else_to_do(monkeypatch):
    """IPython is no requirement: a stand-in for its `display` keeps what it is given."""
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with pytest.raises(ImportError, match=r"Write result\.to_html\(\) to a file and open it\."):
        PAIR.show()
    drawn: list[str] = []
    notebook = types.ModuleType("IPython.display")
    vars(notebook).update(HTML=str, display=drawn.append)
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", notebook)
    PAIR.show()
    frame = Reader(drawn[0])
    assert frame.tags == ["div", "iframe"]
    assert dict(frame.attributes)["srcdoc"] == PAIR.to_html()


# Table and JSON


def test_json_is_the_results_own_one_a_line():
    lines = to_json([PAIR, PAIR.a]).splitlines()
    assert [json.loads(line) for line in lines] == [PAIR.to_dict(), PAIR.a.to_dict()]
    assert ScoredPair.from_dict(json.loads(lines[0])) == PAIR


def test_the_table_is_exact():
    rows = list(csv.DictReader(io.StringIO(to_csv([PAIR, PAIR.b]), newline="")))
    assert [(row["result"], row["id"], row["response"], row["boundary"]) for row in rows] == [
        *(("1", "p:1", "a", str(i)) for i in range(4)),
        *(("1", "p:1", "b", str(i)) for i in range(3)),
        *(("2", "", "", str(i)) for i in range(3)),
    ]
    for name, column in (("value", "values"), ("reward", "rewards"), ("weight", "weights")):
        assert tuple(float(row[name]) for row in rows[:4]) == vars(PAIR.a)[column]
    assert tuple(float(row["contribution"]) for row in rows[:4]) == PAIR.a.contributions
    assert {float(row["score"]) for row in rows[4:]} == {PAIR.b.score}
    assert [row["text"] for row in rows[:4]] == ["Count.", *PAIR.a.sentences]
    assert [(row["start"], row["end"], row["tokens"]) for row in rows[4:7]] == [
        ("", "", ""),
        ("0", "4", "3"),
        ("4", "12", "4"),
    ]


@given(st.text(st.sampled_from('=+-@\t\r\n a",;'), min_size=1, max_size=12))
def test_no_cell_of_the_table_is_a_formula(text):
    pair = ScoredPair(text, response((text,), prompt=text), response(("b",), prompt=text))
    read = list(csv.reader(io.StringIO(to_csv([pair]), newline="")))
    assert [len(row) for row in read] == [len(CSV_HEADERS)] * 5
    for row in read[1:]:
        for name, cell in zip(CSV_HEADERS, row, strict=True):
            if name in ("id", "text"):
                assert cell[:1] not in tuple("=+-@\t\r\n")
            elif cell and name != "response":
                float(cell)  # a number, however it begins
    assert read[1][1] == (text if text[0] in ' a",;' else "'" + text)


def test_a_table_can_be_written_whatever_it_holds():
    to_csv([response(("\ud800\x00", "x"))]).encode("utf-8")


# The picture


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in ET.fromstring(svg).iter(f"{SVG}text")]


def test_the_picture_shows_every_sentence_with_its_colour_reward_and_bar():
    svg, value = to_svg(PAIR), heatmap_value(PAIR)
    root = ET.fromstring(svg)
    assert root.get("width") == "1200"
    rows = root.findall(f"{SVG}g")
    sentences = [sentence for side in value["sides"] for sentence in side["sentences"]]
    assert [row.find(f"{SVG}title").text for row in rows] == [sentence["label"] for sentence in sentences]
    for row, sentence in zip(rows, sentences, strict=True):
        ground, bar, _ = row.findall(f"{SVG}rect")
        assert ground.get("fill") == PALETTES["RdBu"][sentence["class"]]
        assert [node.text for node in row.findall(f"{SVG}text")] == [sentence["text"], sentence["reward"]]
        room = float(ground.get("width")) - 20
        assert float(bar.get("width")) == pytest.approx(room * sentence["bar"] / 100, abs=0.06)
    assert {value["verdict"]["words"], value["verdict"]["margin"], *value["verdict"]["scores"]} < set(texts(svg))
    assert PALETTES["PuOr"][0] in to_svg(PAIR, "PuOr")


@pytest.mark.parametrize("segmenter", ["rules:en", "tokens", "response"])
def test_nothing_of_the_picture_leaves_it(segmenter):
    long = "word " * 90 + "x" * 400 + "\n\n    indented 漢字" * 9
    one = response((long, "- item " * 30, "Ende."), segmenter, dropped_sentences=3)
    root = ET.fromstring(to_svg(one))
    width, height = float(root.get("width")), float(root.get("height"))
    for node in root.iter(f"{SVG}rect"):
        x, y, w, h = (float(node.get(name, 0)) for name in ("x", "y", "width", "height"))
        assert 0 <= x <= x + w <= width + 0.1
        assert 0 <= y <= y + h <= height
    fitted = [node for node in root.iter(f"{SVG}text") if node.get("textLength")]
    assert all(float(node.get("x")) + float(node.get("textLength")) <= width - 24 for node in fitted)
    assert all(0 < float(node.get("y")) < height for node in root.iter(f"{SVG}text"))
    shown = re.sub(r"\s", "", "".join(texts(to_svg(one))))
    assert re.sub(r"\s", "", long) in re.sub("[+−][0-9.]+", "", shown)


@settings(deadline=None)  # the first call is slow
@given(st.text(st.characters(), min_size=1, max_size=40), st.sampled_from(["rules:en", "tokens", "response"]))
def test_any_text_is_a_well_formed_picture(text, segmenter):
    svg = to_svg(ScoredPair("", response((text,), segmenter), response((HOSTILE,), segmenter)))
    tags = {node.tag.removeprefix(SVG) for node in ET.fromstring(svg.encode("utf-8")).iter()}
    assert tags <= {"svg", "title", "rect", "path", "text", "g"}


@given(st.text(st.sampled_from("iW .-\u6f22\u0301🙂"), max_size=60), st.integers(30, 200))
def test_lines_keep_every_character_and_their_room(text, width):
    lines = wrap(text, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(text_width(line) <= width for line in lines)


def test_white_space_stays_behind_its_word_and_a_long_word_is_measured_once():
    assert wrap("word" + " " * 300, 60) == ["word"]
    word = "x" * 50_000
    started = time.perf_counter()
    lines = wrap(word, 500)
    assert time.perf_counter() - started < 1
    assert "".join(lines) == word
    assert text_width(lines[0]) <= 500 < text_width(lines[0] + "x")


def test_text_to_the_left_starts_at_the_right():
    (drawn,) = [node for node in ET.fromstring(to_svg(response(("שלום",)))).iter(f"{SVG}text") if node.text == "שלום"]
    assert drawn.get("direction") == "rtl"
    assert float(drawn.get("x")) > 1000
