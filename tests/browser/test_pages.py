"""Best of N and Compare in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from sentrm.links import decode_pair
from sentrm.results import ScoredPair
from sentrm.scoring import Scorer
from sentrm.ui.compare import standings

pytestmark = pytest.mark.browser
PROMPT = "How do I boil an egg?"
TEXTS = ["Boil it for nine minutes. Then peel it.", "No.", "Older eggs peel more easily. I hope this helps."]


def fill(page: Page, **fields: str) -> None:
    for name, text in fields.items():
        page.fill(f"#{name.replace('_', '-')} textarea", text)


def test_responses_are_added_ranked_and_opened_as_a_pair(
    open_page: Callable[..., Page], app_url: str, long_model_dir: Path
):
    page = open_page(path="best-of-n")
    page.wait_for_selector("#ranking .card")
    page.evaluate(
        """() => {
          document.querySelector("#add").click();
          const field = document.querySelector("#response-1 textarea");
          field.value = "Typed meanwhile.";
          field.dispatchEvent(new Event("input", { bubbles: true }));
        }"""
    )
    expect(page.locator("#response-3")).to_be_visible()
    expect(page.locator("#response-1 textarea")).to_have_value("Typed meanwhile.")
    expect(page.locator(".stale-hint")).to_be_visible()
    fill(page, prompt=PROMPT, response_1=TEXTS[0], response_2=TEXTS[1], response_3=TEXTS[2])
    page.click("#score")
    expect(page.locator("#ranking .card")).to_have_count(3)
    scored = Scorer.from_pretrained(long_model_dir).score([(PROMPT, text) for text in TEXTS])
    order = sorted(range(3), key=lambda i: -scored[i].score)
    expect(page.locator("#ranking h2 span:first-child")).to_have_text([f"Response {i + 1}" for i in order])
    expect(page.locator("#ranking .live")).to_have_text(f"Response {order[0] + 1} ranks first of 3.")
    expect(page.locator(".stale-hint")).to_be_hidden()
    for place, i in enumerate(order):
        shown = page.locator("#ranking .card").nth(place).locator(".t").all_text_contents()
        assert shown == [sentence.strip() for sentence in scored[i].sentences]

    page.fill("#response-2 textarea", " ")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("response 2 is only white space")
    expect(page.locator("#ranking .card")).to_have_count(3)  # what was shown stays
    link = page.locator("a#open, #open a").first.get_attribute("href")
    assert decode_pair(parse_qs(urlsplit(link).query)["pair"][0]) == (PROMPT, *(TEXTS[i] for i in order[:2]))
    page.goto(f"{app_url}/{link.removeprefix('./')}")
    expect(page.locator("#heatmap .card")).to_have_count(2)
    assert page.input_value("#a textarea") == TEXTS[order[0]]


def test_pasted_responses_fill_the_fields_and_one_is_removed(open_page: Callable[..., Page]):
    page = open_page(path="best-of-n")
    page.wait_for_selector("#ranking .card")
    page.get_by_role("button", name="Paste many responses at once").click()
    page.fill("#paste textarea", "\n---\n".join(TEXTS))
    page.click("#take")
    expect(page.locator("#response-3 textarea")).to_have_value(TEXTS[2])
    page.get_by_role("button", name="Remove").nth(1).click()
    expect(page.locator("#response-2 textarea")).to_have_value(TEXTS[2])
    expect(page.locator("#response-3")).to_be_hidden()
    page.fill("#response-1 textarea", "Typed.")
    page.reload()
    expect(page.locator("#response-1 textarea")).to_have_value("Typed.")
    expect(page.locator("#response-2 textarea")).to_have_value(TEXTS[2])


def test_two_models_are_compared(open_page: Callable[..., Page], long_model_dir: Path, other_model_dir: Path):
    page = open_page(path="compare")
    page.wait_for_function("document.querySelector('#prompt textarea')?.value")
    fill(page, prompt=PROMPT, a=TEXTS[0], b=TEXTS[1])
    page.click("#score")
    expect(page.locator("#difference .card")).to_have_count(2)
    pairs = [
        ScoredPair("", *Scorer.from_pretrained(folder).score([(PROMPT, TEXTS[0]), (PROMPT, TEXTS[1])]))
        for folder in (long_model_dir, other_model_dir)
    ]
    expected = [x - y for one, two in zip(*map(standings, pairs), strict=True) for x, y in zip(one, two, strict=True)]
    shown = [float(text.replace("−", "-")) for text in page.locator("#difference .n").all_text_contents()]
    assert shown == pytest.approx(expected, abs=0.0051)
    assert any(abs(number) > 0.1 for number in shown)
    preferred = {pair.margin > 0 for pair in pairs}
    expect(page.locator("#agreement")).to_contain_text("Both models" if len(preferred) == 1 else "Model 1 prefers")
    page.fill("#b textarea", " ")
    page.click("#score")
    expect(page.get_by_role("alert")).to_contain_text("response B is only white space")
    expect(page.locator("#difference .card")).to_have_count(2)  # what was shown stays, marked as old
    expect(page.locator(".stale-hint")).to_be_visible()


@pytest.mark.parametrize("name", ["best-of-n", "compare"])
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1440, "light")])
def test_every_width_fits(open_page: Callable[..., Page], name: str, width: int, scheme: str):
    page = open_page(width=width, path=name, color_scheme=scheme)
    page.wait_for_function("document.querySelector('#prompt textarea')?.value")
    page.click("#score")
    page.wait_for_selector("#ranking .card, #difference .card")
    page.add_style_tag(content="#stop { display: inline-flex !important; }")  # as while it is worked at
    page.evaluate("document.body.classList.add('stale')")
    assert page.evaluate("document.documentElement.scrollWidth") == width
