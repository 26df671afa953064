"""axe-core finds no violation: every page in light and dark, wide and narrow, in each state a reader brings it to."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.browser

PAGES = {"best-of-n": "#ranking", "compare": "#difference"}


def violations(page: Page) -> list[str]:
    expect(page.locator(".pending")).to_have_count(0)
    page.wait_for_timeout(400)  # colours have faded in
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['target']} {node['html'][:160]}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_inspect_page(open_page: Callable[..., Page], scheme: str):
    page = open_page(color_scheme=scheme)
    assert violations(page) == []
    for tab in page.get_by_role("tab").all():
        tab.click()
        assert violations(page) == [], tab.inner_text()
    page.locator(".s").first.click()  # pinned, with what can be done to it
    assert violations(page) == []
    page.click(".detail button[data-op=edit]")
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.click(".detail button[data-op=split]")
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.fill("#b textarea", " ")
    page.click("#score")
    page.get_by_role("alert").wait_for()
    assert violations(page) == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
@pytest.mark.parametrize("name", PAGES)
def test_the_other_pages(open_page: Callable[..., Page], name: str, width: int, scheme: str):
    page = open_page(width=width, path=name, color_scheme=scheme)
    page.wait_for_function("document.querySelector('#prompt textarea')?.value")
    page.click("#score")
    page.wait_for_selector(f"{PAGES[name]} .card")
    assert violations(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(open_page: Callable[..., Page], scheme: str):
    page = open_page(width=390, color_scheme=scheme)
    assert violations(page) == []


def test_forced_colours_keep_what_is_marked_and_nothing_moves(open_page: Callable[..., Page]):
    page = open_page(forced_colors="active", reduced_motion="reduce")
    style = "([selector, part, name]) => getComputedStyle(document.querySelector(selector), part)[name]"
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    for tick in (".track", ".s .bar"):
        assert page.evaluate(style, [tick, "::after", "backgroundColor"]) not in (ground, "rgba(0, 0, 0, 0)")
    page.get_by_role("tab", name="Table", exact=True).click()
    page.locator("#table .place").first.click()
    assert page.evaluate(style, ["#table .on td", "", "outlineStyle"]) == "solid"
    assert float(page.evaluate(style, [".track i", "", "transitionDuration"]).removesuffix("s")) < 0.01
    assert violations(page) == []
