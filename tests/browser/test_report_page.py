"""The training report in a real browser: every chart is drawn, nothing is fetched, no width overflows."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from sentrm.metrics import report
from sentrm.preferences import PreferencePair
from sentrm.scoring import Scorer
from training.report import html_report

pytestmark = pytest.mark.browser
CHARTS = ("curves", "reliability", "rewards", "length", "weights")


@pytest.fixture(scope="module")
def page_file(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    good, rude = "Boil it for nine minutes. Then peel it.", "What a <b>silly</b> question! " * 3 + "x" * 300
    pairs = [PreferencePair(f"Eggs {i}?", good, rude, id=f"eggs:{i}") for i in range(12)]
    scored = Scorer.from_pretrained(model_dir).score(pairs)
    figures = report([pair.margin for pair in scored], [str(pair.prompt) for pair in scored], ["a_file"] * 12)
    metrics = {"command": "python -m training.train " + "--flag=value" * 30, "seed": 1, "train_pairs": 9, "steps": 20}
    metrics |= {"truncation": {"cut": 1}, "held_out_truncation": {"cut": 2}, "train_loss": 0.6, "train_seconds": 9}
    metrics |= {"median_reward": 0.1, "held_out": {"ours": figures, "always longer": figures}}
    log = [{"step": step, "loss": 0.7 - step / 100, "learning_rate": 1e-5} for step in range(1, 20)]
    log += [{"step": 10, "eval_loss": 0.65, "eval_accuracy": 0.6}]
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(html_report("ours", metrics, log, scored), encoding="utf-8")
    return file


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_the_report_opens_alone(browser: Browser, page_file: Path, width: int, scheme: str):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    fetched, errors = [], []
    page.on("request", lambda request: fetched.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(page_file.as_uri())
    for name in CHARTS:
        page.wait_for_selector(f"#{name} .main-svg .trace, #{name} .main-svg .scatterlayer path")
    assert errors == []
    assert [url for url in fetched if url.startswith("http")] == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    page.close()
