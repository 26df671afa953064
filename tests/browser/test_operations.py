"""Sentence surgery as a reader does it, by mouse and by keys; charts tied to the text; links and downloads."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from sentrm.links import encode_pair
from sentrm.results import ScoredPair
from sentrm.scoring import Scorer

pytestmark = pytest.mark.browser

PROMPT, FIRST, SECOND = "Eggs?", ["Boil water.", "Add the egg.", "Wait nine minutes."], "Never. Ask a cook."
EXAMPLES = Path(__file__).parents[2] / "assets/examples.jsonl"


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    """The Inspect page with a pair of three and two sentences."""
    page = open_page()
    for field, text in (("#prompt", PROMPT), ("#a", " ".join(FIRST)), ("#b", SECOND)):
        page.fill(f"{field} textarea", text)
    page.click("#score")
    shows(page, FIRST)
    return page


def sentence(page: Page, index: int, side: int = 0):
    return page.locator(f".s[data-side='{side}'][data-index='{index}']")


def shows(page: Page, sentences: list[str], side: int = 0) -> None:
    expect(page.locator(f".s[data-side='{side}'] .t")).to_have_text(sentences)


def has_the_scorers_numbers(page: Page, scorer: Scorer, a: str, b: str, cuts: list | None = None) -> None:
    """The page's scores against scoring its text from scratch."""
    one, two = scorer.score([(PROMPT, a, cuts) if cuts else (PROMPT, a), (PROMPT, b)])
    shown = [text.replace("−", "-") for text in page.locator(".verdict .score b").all_text_contents()]
    assert [float(text) for text in shown] == pytest.approx([one.score, two.score], abs=0.0051)


def test_every_operation_by_mouse_and_back(page: Page, scorer: Scorer):
    def press(index: int, op: str) -> None:
        if sentence(page, index).get_attribute("aria-selected") != "true":
            sentence(page, index).click()
        page.click(f".detail button[data-op={op}]")

    a, _, c = FIRST
    steps = [FIRST]

    def now(*sentences: str) -> None:
        shows(page, list(sentences))
        steps.append(list(sentences))

    press(1, "drop")
    now(a, c)
    press(0, "duplicate")
    now(a, a, c)
    press(2, "up")
    now(a, c, a)
    press(0, "edit")
    page.fill(".composer textarea", "Boil some water.")
    page.click(".composer button[type=submit]")
    now("Boil some water.", c, a)
    press(2, "insert")
    page.fill(".composer textarea", "Peel it.")
    page.click(".composer button[type=submit]")
    now("Boil some water.", c, a, "Peel it.")
    text = " ".join(steps[-1])
    expect(page.locator("#a textarea")).to_have_value(text)
    has_the_scorers_numbers(page, scorer, text, SECOND)
    for before in reversed(steps[:-1]):
        page.click(".history button[data-op=undo]")
        shows(page, before)
    expect(page.locator(".history button[data-op=undo]")).to_be_disabled()
    for after in steps[1:]:
        page.click(".history button[data-op=redo]")
        shows(page, after)
    page.click(".history button[data-op=reset]")
    shows(page, FIRST)
    has_the_scorers_numbers(page, scorer, " ".join(FIRST), SECOND)


def test_operations_by_keys(page: Page, scorer: Scorer):
    a, b, c = FIRST
    sentence(page, 0).focus()
    page.keyboard.press("Alt+ArrowDown")
    shows(page, [b, a, c])
    expect(sentence(page, 1)).to_be_focused()
    page.keyboard.press("d")
    shows(page, [b, a, a, c])
    expect(sentence(page, 2)).to_be_focused()
    page.keyboard.press("Delete")
    shows(page, [b, a, c])
    page.keyboard.press("e")
    page.keyboard.press("Control+a")
    page.keyboard.type("I decided to jump.")  # letters that are keys elsewhere
    page.keyboard.press("Enter")
    edited = page.locator(".s[data-side='0'] .t").all_text_contents
    expect(page.locator(".s[data-side='0']", has_text="I decided to jump.")).to_have_count(1)
    assert len(edited()) == 3
    page.keyboard.press("Control+z")
    shows(page, [b, a, c])
    page.keyboard.press("Control+Shift+z")
    expect(page.locator(".s[data-side='0']", has_text="I decided to jump.")).to_have_count(1)
    has_the_scorers_numbers(page, scorer, page.input_value("#a textarea"), SECOND)


def test_cuts_by_hand_are_marked_as_not_the_models_own(page: Page, scorer: Scorer):
    a, b, c = FIRST
    sentence(page, 1).click()
    page.keyboard.press("j")
    shows(page, [a, f"{b} {c}"])
    ends = [0, len(a) + 1, len(" ".join(FIRST))]
    has_the_scorers_numbers(page, scorer, " ".join(FIRST), SECOND, [*pairwise(ends)])
    expect(page.locator(".notices")).to_contain_text("cut by hand")
    page.keyboard.press("s")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    shows(page, [a, "Add", "the egg. Wait nine minutes."])


def test_a_step_from_a_text_that_was_edited_is_refused(page: Page):
    page.fill("#prompt textarea", "Hens?")
    sentence(page, 0, side=1).focus()
    page.keyboard.press("Delete")
    expect(page.get_by_role("alert")).to_contain_text("Press Score first")
    shows(page, ["Never.", "Ask a cook."], side=1)
    expect(sentence(page, 0, side=1)).to_be_focused()
    expect(page.locator("#prompt textarea")).to_have_value("Hens?")
    expect(page.locator(".stale-hint")).to_be_visible()
    page.keyboard.press("Control+Enter")
    expect(page.locator(".stale-hint")).to_be_hidden()
    expect(page.get_by_role("alert")).to_have_count(0)
    sentence(page, 0, side=1).focus()
    page.keyboard.press("e")
    page.fill(".composer textarea", "x" * 200_000)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("the first sentence has")
    assert len(page.input_value(".composer textarea")) == 200_000  # nothing is lost
    page.fill(".composer textarea", "Never.")
    page.keyboard.press("Enter")  # nothing to change
    expect(page.locator(".composer")).to_have_count(0)


PRESS = """(keys) => {
  for (const [index, key, ctrlKey] of keys) {
    const node = document.querySelectorAll(".s")[index];
    node.focus();
    node.dispatchEvent(new KeyboardEvent("keydown", { key, ctrlKey, bubbles: true, cancelable: true }));
  }
}"""


def test_what_is_asked_for_before_the_answer_is_there_hits_the_sentence_it_was_meant_for(page: Page):
    page.evaluate(PRESS, [[0, "Delete"], [2, "Delete"]])  # by then another stands there
    shows(page, FIRST[1:])
    page.wait_for_timeout(300)
    shows(page, FIRST[1:])
    page.evaluate(PRESS, [[0, "d"], [0, "d"], [0, "z", True]])  # twice the same one, and one of them back
    shows(page, [FIRST[1], *FIRST[1:]])
    expect(page.locator(".history button[data-op=redo]")).to_be_enabled()
    page.keyboard.press("Escape")
    expect(page.locator(".s[aria-selected=true]")).to_have_count(0)
    page.keyboard.press("Control+z")
    shows(page, FIRST[1:])
    expect(page.locator(".s:focus")).to_have_count(1)

    new = ["One hen.", "Two hens.", "Three hens."]
    page.fill("#a textarea", " ".join(new))
    page.evaluate("document.querySelector('#score').click()")
    page.evaluate(PRESS, [[0, "Delete"], [0, "Delete"]])
    shows(page, new)
    page.wait_for_timeout(500)
    shows(page, new)


def test_the_others_response_is_copied(page: Page):
    page.get_by_role("button", name="Copy A over B").click()
    shows(page, FIRST, side=1)
    expect(page.locator("#b textarea")).to_have_value(" ".join(FIRST))
    page.keyboard.press("Control+z")
    shows(page, ["Never.", "Ask a cook."], side=1)


def test_a_chart_and_the_text_select_the_same_sentence(page: Page):
    chart = page.locator("#plot-margin .js-plotly-plot")
    expect(chart.locator(".bars .point")).to_have_count(2 + 3 + 2 + 2)  # prompt and sentences of each, score, margin
    chart.focus()
    page.keyboard.press("ArrowRight")
    expect(sentence(page, 0)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("ArrowRight")
    expect(sentence(page, 1)).to_have_attribute("aria-selected", "true")
    point = chart.locator(".bars .point").nth(3)  # the prompt and sentences 1 to 3 of A
    point.scroll_into_view_if_needed()
    bar = point.bounding_box()
    page.mouse.move(bar["x"] + bar["width"] / 2, bar["y"] + bar["height"] / 2)
    expect(chart.locator(".hoverlayer .hovertext").first).to_be_visible()  # plotly clicks what it hovers over
    page.mouse.down()
    page.mouse.up()
    expect(sentence(page, 2)).to_have_attribute("aria-selected", "true")
    sentence(page, 1, side=1).click()
    page.wait_for_function(
        """() => {
          const graph = document.querySelector("#plot-margin .js-plotly-plot");
          const selected = graph.data.flatMap((t) => (t.selectedpoints || []).map((p) => t.customdata[p]));
          return JSON.stringify(selected) === "[[1,1]]";
        }"""
    )
    expect(page.locator(".chosen")).to_be_empty()  # who selects in the text has read it there
    chart.focus()
    page.keyboard.press("ArrowLeft")
    expect(sentence(page, 0, side=1)).to_have_attribute("aria-selected", "true")
    expect(page.locator(".chosen")).to_contain_text("Never.")
    page.keyboard.press("Escape")
    expect(page.locator(".s[aria-selected=true]")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(page.locator(".detail.open")).to_have_count(0)

    heard = "document.addEventListener('sentence', ({ detail }) => (window.heard ??= []).push(detail.index))"
    page.evaluate(heard)
    sentence(page, 1).click()
    assert page.evaluate("window.heard") == [1]
    page.get_by_role("tab", name="Table", exact=True).click()
    page.locator("#table .place").first.wait_for()
    page.locator("#table .table-box").focus()
    page.keyboard.press("ArrowDown")
    expect(sentence(page, 2)).to_have_attribute("aria-selected", "true")
    expect(page.locator("#table .on")).to_contain_text("Wait nine minutes.")
    page.keyboard.press("Escape")
    expect(page.locator("#table .on")).to_have_count(0)


def test_listeners_of_what_is_gone_are_gone(page: Page):
    page.evaluate(
        """() => {
          window.listening = 0;
          const count = (name, by) => {
            const call = document[name].bind(document);
            document[name] = (type, ...more) => {
              if (type === "sentence") window.listening += by;
              return call(type, ...more);
            };
          };
          count("addEventListener", 1);
          count("removeEventListener", -1);
        }"""
    )
    for _ in range(3):
        for name in ("Alignment", "Table", "How the scores add up"):
            page.get_by_role("tab", name=name, exact=True).click()
            page.locator("#charts :is(.table-box tr, .bars)").first.wait_for(state="attached")
    sentence(page, 0).click()
    assert page.evaluate("window.listening") <= 3  # the tables


def test_charts_that_are_drawn_anew_leave_nothing_behind(page: Page):
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    bars = page.locator("#plot-margin .bars .point")

    def nodes() -> float:
        page.wait_for_timeout(1200)  # milliseconds; a graph that is gone may still be drawn on for a moment
        session.send("HeapProfiler.collectGarbage")
        return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}["Nodes"]

    def there_and_back() -> None:
        sentence(page, 0).click()
        page.keyboard.press("d")
        expect(bars).to_have_count(10)
        page.keyboard.press("Control+z")
        expect(bars).to_have_count(9)

    there_and_back()  # what the first ones make stays
    before = nodes()
    for _ in range(4):
        there_and_back()
    assert nodes() < before + 500  # a drawing has more


def test_links_open_the_same_view(open_page: Callable[..., Page]):
    page = open_page(path=f"?pair={encode_pair(PROMPT, 'One. Two.', 'Three.')}")
    shows(page, ["One.", "Two."])
    shows(page, ["Three."], side=1)
    assert [page.input_value(f"{field} textarea") for field in ("#prompt", "#a", "#b")] == [
        PROMPT,
        "One. Two.",
        "Three.",
    ]
    last = json.loads(EXAMPLES.read_text(encoding="utf-8").splitlines()[-1])
    page = open_page(path=f"?example={last['id']}")
    expect(page.locator("#b textarea")).to_have_value(last["b"])
    page = open_page(path="?pair=spoiled")
    expect(page.get_by_role("alert")).to_contain_text("link")
    expect(page.locator("#example input")).to_have_value("")


def test_what_is_carried_away_is_what_is_shown(page: Page, tmp_path: Path):
    sentence(page, 1).focus()
    page.keyboard.press("Delete")
    shows(page, [FIRST[0], FIRST[2]])
    files = {}
    for kind in ("html", "svg", "png", "json", "csv"):
        with page.expect_download() as waited:
            page.click(f".carry button[data-kind={kind}]")
        files[kind] = tmp_path / waited.value.suggested_filename
        waited.value.save_as(files[kind])
    pair = ScoredPair.from_dict(json.loads(files["json"].read_text(encoding="utf-8")))
    assert (pair.a.sentences, pair.b.text) == ((f"{FIRST[0]} ", FIRST[2]), SECOND)
    assert files["png"].read_bytes().startswith(b"\x89PNG")
    assert all(FIRST[2] in files[kind].read_text(encoding="utf-8") for kind in ("html", "svg", "csv"))
    with files["csv"].open(encoding="utf-8-sig", newline="") as file:
        assert len(list(csv.reader(file))) > 4
    page.click(".carry button[data-kind=link]")
    page.wait_for_url("**/?pair=*")
    page.reload()
    shows(page, [FIRST[0], FIRST[2]])


@pytest.mark.parametrize(("width", "ratio"), [(390, 3), (640, 2)])  # a phone, and 1280 pixels at 200%
def test_narrow_pages_neither_scroll_sideways_nor_lose_an_action(
    open_page: Callable[..., Page], width: int, ratio: int
):
    page = open_page(width=width, height=450, device_scale_factor=ratio)
    sentence(page, 1).click()
    for button in page.locator(".detail .actions button, .history button, .carry button").all():
        button.scroll_into_view_if_needed()
        box = button.bounding_box()
        assert box
        assert 0 <= box["x"] <= box["x"] + box["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") == width
