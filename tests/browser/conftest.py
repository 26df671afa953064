"""The real app in its own process, and a real Chromium. Without a browser the tests are skipped; under CI they fail."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from test_api import serving
from tiny import tiny_model
from transformers import PreTrainedTokenizerFast

from benchmarks.app import browser_path

expect.set_options(timeout=20_000)  # milliseconds: the machine may be busy


@pytest.fixture(scope="module")  # not longer: while Playwright runs, its event loop is the thread's
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = browser_path(playwright)
        if found is None:
            reason = "no browser found; install one with: .venv/bin/python -m playwright install --with-deps chromium"
            (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        launched = playwright.chromium.launch(executable_path=found, args=arguments)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def long_model_dir(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests' tiny model with room for 8,192 tokens; its rotary positions need no other weights."""
    folder = tmp_path_factory.mktemp("long") / "tiny-llama-long"
    shutil.copytree(model_dir, folder)
    config = json.loads((folder / "config.json").read_text())
    config["max_length"] = config["backbone_config"]["max_position_embeddings"] = 8192
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def other_model_dir(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second model, of another architecture, with as much room."""
    folder = tmp_path_factory.mktemp("other") / "tiny-neox"
    model = tiny_model("gpt_neox", median_reward=0.05, max_length=8192)
    model.config.backbone_config.max_position_embeddings = 8192
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def serve() -> Callable[[Path], AbstractContextManager[str]]:
    return serving


@pytest.fixture(scope="session")
def app_url(long_model_dir: Path, other_model_dir: Path) -> Iterator[str]:
    with serving(long_model_dir, "--models", str(other_model_dir)) as url:
        yield url


@pytest.fixture
def open_page(browser: Browser, app_url: str) -> Iterator[Callable[..., Page]]:
    """Opens the app, or another at `url`, and waits for the first result of its first page; a console error or a
    request to another host fails the test."""
    pages, trouble = [], []

    def opened(width: int = 1280, height: int = 900, path: str = "", url: str = app_url, **options: object) -> Page:
        page = browser.new_page(viewport={"width": width, "height": height}, **options)
        pages.append(page)
        page.on("console", lambda message: trouble.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith((url, "data:", "blob:")) else trouble.append(r.url))
        page.on("dialog", lambda dialog: (trouble.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.goto(f"{url}/{path}")
        page.wait_for_selector("#score")
        if not path:
            page.wait_for_selector(".pair-heatmap .card")
            page.wait_for_selector("#plot-margin .js-plotly-plot .bars")
        return page

    yield opened
    said = [*trouble]  # before requests in flight are aborted by the close
    for page in pages:
        page.close()
    assert not said
