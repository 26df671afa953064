"""The pages under the policy they are served with: nothing of theirs is refused, and nothing of others' runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect
from test_api import serving

from sentrm.audit.run import score_dataset
from sentrm.scoring import Scorer

pytestmark = pytest.mark.browser
MARKUP = "<img src=x onerror=alert(1)> ${alert(3)} {{ 7 * 7 }}"
ROW = {"prompt": f"Eggs? {MARKUP}", "chosen": f"Boil it. {MARKUP}", "rejected": f"No. {MARKUP}", "source": MARKUP}
PAGES = {
    "": ".pair-heatmap .card",
    "best-of-n": "#ranking .card",
    "compare": "#score",
    "dataset": "#pairs table",
    "review": "#review .desk",
}


@pytest.fixture(scope="module")
def flags(long_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """An audit whose every text holds markup, and a review log."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "data.jsonl").write_text("\n".join(json.dumps(ROW | {"id": f"{i} {MARKUP}"}) for i in range(3)))
    score_dataset(folder / "data.jsonl", Scorer.from_pretrained(long_model_dir), folder / "audits" / f"a {MARKUP[:9]}")
    return ["--audits", str(folder / "audits"), "--reviews", str(folder / "reviews"), "--annotators", "ada", MARKUP]


@pytest.fixture(scope="module")
def url(flags: list[str], long_model_dir: Path) -> Iterator[str]:
    with serving(long_model_dir, *flags) as where:
        yield where


@pytest.mark.parametrize("path", PAGES)
def test_every_page_works_under_its_policy_and_shows_markup_as_text(new_page, url, path):
    page = new_page(url)
    answer = page.goto(f"{url}/{path}")
    assert "'unsafe-inline'" not in answer.headers["content-security-policy"].split("style-src")[0]
    page.wait_for_selector(PAGES[path])
    if path == "review":
        page.locator("#review select").first.select_option("ada")
    if path in ("dataset", "review"):
        expect(page.locator("body")).to_contain_text("<img src=x onerror=alert(1)> ${alert(3)}")
    page.wait_for_timeout(500)
    assert page.locator("img[src=x]").count() == 0


def test_markup_that_gets_in_all_the_same_does_not_run(browser, url):
    page = browser.new_page()
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(url)
    page.wait_for_selector(PAGES[""])
    page.evaluate("""() => {
        document.body.insertAdjacentHTML("beforeend", '<img src="data:," onerror="window.ran = 1">');
        const script = document.createElement("script");
        script.textContent = "window.ran = 2";
        document.body.append(script);
        const far = document.createElement("script");
        far.src = "https://evil.example/x.js";
        document.body.append(far);
    }""")
    page.wait_for_timeout(500)
    assert page.evaluate("window.ran") is None
    assert sum("Content Security Policy" in text for text in refused) == 3
    page.close()


def test_one_logs_in_and_is_the_annotator(new_page, flags, long_model_dir):
    with serving(long_model_dir, *flags, "--auth", "robin:pass:word") as url:
        page = new_page(url)
        page.goto(f"{url}/review")
        page.get_by_label("username").fill("robin")
        page.get_by_label("password").fill("pass:word")
        page.get_by_role("button", name="Login").click()
        page.wait_for_selector(PAGES["review"])
        expect(page.locator("#review")).to_contain_text("robin")
        page.close()
