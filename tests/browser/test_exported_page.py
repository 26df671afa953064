"""An exported page in a real browser, from a file and offline: hover, keyboard, light and dark, and no request."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from sentrm.preferences import PreferencePair
from sentrm.results import ScoredPair
from sentrm.scoring import Scorer

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def pair(model_dir: Path) -> ScoredPair:
    good, rude = "Boil it for nine minutes. Then peel it. Eat.", "What a <b>silly</b> question! </script>" + "x" * 300
    return Scorer.from_pretrained(model_dir).score([PreferencePair("Eggs? <img src=http://x.y>", good, rude)])[0]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
@pytest.mark.parametrize("single", [False, True])
def test_the_page_opens_alone(
    browser: Browser, pair: ScoredPair, tmp_path: Path, single: bool, width: int, scheme: str
):
    result = pair.a if single else pair
    file = tmp_path / "pair.html"
    file.write_text(result.to_html(), encoding="utf-8")
    context = browser.new_context(offline=True, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    requests, trouble = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.goto(file.as_uri())
    expect(page.locator(".card")).to_have_count(1 if single else 2)
    expect(page.locator(".verdict")).to_have_count(0 if single else 1)
    assert page.locator(".card").first.locator(".t").all_text_contents() == [s.strip() for s in pair.a.sentences]

    page.locator(".s").nth(1).hover()
    detail = page.locator(".detail")
    expect(detail).to_contain_text("sentence 2 of 3")
    expect(detail).to_contain_text("Then peel it.")
    page.locator(".s").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".s:focus")).to_have_text(page.locator(".s").nth(2).text_content() or "")
    expect(detail).to_contain_text("sentence 3 of 3")
    page.keyboard.press("Enter")
    expect(detail).to_contain_text("pinned")
    page.keyboard.press("Escape")
    expect(detail).not_to_contain_text("pinned")
    page.get_by_role("button", name="Orange–purple").click()
    expect(page.locator(".pair-heatmap")).to_have_attribute("data-palette", "PuOr")

    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    ground = page.locator(".s .c").first.evaluate("node => getComputedStyle(node).backgroundColor")
    assert ground not in ("rgba(0, 0, 0, 0)", background)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert requests == [file.as_uri()]
    assert trouble == []
    context.close()


def test_the_policy_stops_what_the_page_did_not_bring(browser: Browser, pair: ScoredPair, tmp_path: Path):
    file = tmp_path / "pair.html"
    file.write_text(pair.to_html(), encoding="utf-8")
    page = browser.new_page()
    page.goto(file.as_uri())
    page.wait_for_selector(".card")
    with page.expect_event("requestfailed") as failed:
        page.evaluate("document.body.append(Object.assign(new Image(), {src: 'https://example.org/leak.png'}))")
    assert failed.value.failure == "csp"  # refused by the page, before any network
    page.close()
