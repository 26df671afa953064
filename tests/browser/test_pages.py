"""Best of N and Compare in a real browser."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from sentrm.links import decode_pair
from sentrm.scoring import Scorer

pytestmark = pytest.mark.browser
PROMPT = "How do I boil an egg?"
TEXTS = ["Boil it for nine minutes. Then peel it.", "No.", "Older eggs peel more easily. I hope this helps."]


@pytest.fixture
def page(browser: Browser, app_url: str):
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    trouble: list[str] = []
    opened.on("pageerror", lambda error: trouble.append(str(error)))
    yield opened
    opened.close()
    assert not trouble


def fill(page: Page, **fields: str) -> None:
    for name, text in fields.items():
        page.fill(f"#{name.replace('_', '-')} textarea", text)


def test_responses_are_added_ranked_and_opened_as_a_pair(page: Page, app_url: str, long_model_dir: Path):
    page.goto(f"{app_url}/best-of-n")
    page.wait_for_selector("#ranking .card")
    page.click("#add")
    fill(page, prompt=PROMPT, response_1=TEXTS[0], response_2=TEXTS[1], response_3=TEXTS[2])
    page.click("#score")
    expect(page.locator("#ranking .card")).to_have_count(3)
    scored = Scorer.from_pretrained(long_model_dir).score([(PROMPT, text) for text in TEXTS])
    order = sorted(range(3), key=lambda i: -scored[i].score)
    expect(page.locator("#ranking h2 span:first-child")).to_have_text([f"Response {i + 1}" for i in order])
    for place, i in enumerate(order):
        shown = page.locator("#ranking .card").nth(place).locator(".t").all_text_contents()
        assert shown == [sentence.strip() for sentence in scored[i].sentences]

    link = page.locator("a#open, #open a").first.get_attribute("href")
    assert decode_pair(parse_qs(urlsplit(link).query)["pair"][0]) == (PROMPT, *(TEXTS[i] for i in order[:2]))
    page.goto(f"{app_url}/{link.removeprefix('./')}")
    expect(page.locator("#heatmap .card")).to_have_count(2)
    assert page.input_value("#a textarea") == TEXTS[order[0]]


def test_pasted_responses_fill_the_fields_and_one_is_removed(page: Page, app_url: str):
    page.goto(f"{app_url}/best-of-n")
    page.wait_for_selector("#ranking .card")
    page.get_by_role("button", name="Paste many responses at once").click()
    page.fill("#paste textarea", "\n---\n".join(TEXTS))
    page.click("#take")
    expect(page.locator("#response-3 textarea")).to_have_value(TEXTS[2])
    page.get_by_role("button", name="Remove").nth(1).click()
    expect(page.locator("#response-2 textarea")).to_have_value(TEXTS[2])
    expect(page.locator("#response-3")).to_be_hidden()


def test_two_models_are_compared(page: Page, app_url: str):
    page.goto(f"{app_url}/compare")
    page.wait_for_function("document.querySelector('#prompt textarea')?.value")
    fill(page, prompt=PROMPT, a=TEXTS[0], b=TEXTS[1])
    page.click("#score")
    expect(page.locator("#difference .card")).to_have_count(2)
    expect(page.locator("#agreement")).to_contain_text("Both models prefer")
    assert set(page.locator("#difference .n").all_text_contents()) == {"0.000"}  # the app offers one model
    page.fill("#b textarea", " ")
    page.click("#score")
    expect(page.get_by_role("alert")).to_contain_text("response B is only white space")
    expect(page.locator("#difference .card")).to_have_count(2)  # what was shown stays


@pytest.mark.parametrize("name", ["best-of-n", "compare"])
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1440, "light")])
def test_every_width_fits(browser: Browser, app_url: str, name: str, width: int, scheme: str):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(f"{app_url}/{name}")
    page.wait_for_function("document.querySelector('#prompt textarea')?.value")
    page.click("#score")
    page.wait_for_selector("#ranking .card, #difference .card")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.close()
