"""The page of an evaluation in a real browser: every chart is drawn, nothing is fetched, no width overflows."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser
from test_evaluation_report import CORRUPTIONS, HOSTILE, MARKED

from training.evaluation_report import html_page

pytestmark = pytest.mark.browser


def test_the_page_opens_alone(browser: Browser, tmp_path: Path):
    marked = MARKED["sentences"]
    long = {"sentences": marked | {HOSTILE + "x" * 200: marked["one"]}, "problems": ["y" * 500]}
    file = tmp_path / "evaluation.html"
    file.write_text(html_page(CORRUPTIONS | long | {"command": "--flag=value" * 40}), encoding="utf-8")
    page = browser.new_page(viewport={"width": 390, "height": 900}, color_scheme="dark")
    fetched, errors = [], []
    page.on("request", lambda request: fetched.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(file.as_uri())
    for name in ("length", "sentences", "sentence-subsets"):
        page.wait_for_selector(f"#{name} .main-svg .scatterlayer path")
    assert errors == []
    assert fetched == [file.as_uri()]
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(200)  # plotly follows the width
        assert page.evaluate("document.documentElement.scrollWidth") == width
    page.close()
