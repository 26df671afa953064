"""The real app in its own process, and a real Chromium. Without a browser the tests are skipped; under CI they fail."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from test_api import serving
from tiny import tiny_model
from transformers import PreTrainedTokenizerFast

from benchmarks.app import browser_path
from sentrm.scoring import Scorer

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


@pytest.fixture(scope="module")
def scorer(long_model_dir: Path) -> Scorer:
    """The model of the app."""
    return Scorer.from_pretrained(long_model_dir)


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


def aborted(words: str) -> bool:
    """Whether this is what gradio says of a request in flight when a page is loaded again."""
    return "AbortError" in words or words.strip() == "Unexpected error Connection errored out."


@pytest.fixture
def new_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Makes a page, 1280 by 900 unless told, for the app at an address; an exception, a console error, a dialog or a
    request to another host fails the test. `killed`: but for requests that fail because the app is gone, or was
    started again."""
    pages: list[tuple[Page, list[str], list[Page]]] = []  # with what was said and how often it was loaded

    def made(url: str, *, killed: bool = False, **options: object) -> Page:
        page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **options})
        said: list[str] = []
        loads: list[Page] = []
        pages.append((page, said, loads))
        home = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        gone = (
            "Failed to load resource: net::ERR_",
            "Failed to load resource: the server responded with a status of 401",
        )

        def console(message: ConsoleMessage) -> None:
            if message.type == "error" and not (killed and message.text.startswith(gone)):
                said.append(message.text)

        page.on("domcontentloaded", lambda loaded: loads.append(loaded))
        page.on("console", console)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith((home, "data:", "blob:")) else said.append(r.url))
        page.on("dialog", lambda dialog: (said.append(f"dialog {dialog.message}"), dialog.dismiss()))
        return page

    yield made
    # Before requests in flight are aborted by the close.
    found = [one for _, said, loads in pages for one in said if not (len(loads) > 1 and aborted(one))]
    for page, *_ in pages:
        page.close()
    assert not found


@pytest.fixture
def open_page(new_page: Callable[..., Page], app_url: str) -> Callable[..., Page]:
    """Opens the app, or another at `url`, and waits for the first result of its first page."""

    def opened(width: int = 1280, height: int = 900, path: str = "", url: str = app_url, **options: object) -> Page:
        page = new_page(url, viewport={"width": width, "height": height}, **options)
        page.goto(f"{url}/{path}")
        page.wait_for_selector("#score")
        if not path:
            page.wait_for_selector(".pair-heatmap .card")
            page.wait_for_selector("#plot-margin .js-plotly-plot .bars")
        return page

    return opened
