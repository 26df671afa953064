"""Train, open, inspect: the app shows what `training.train` has just made."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from sentrm.preferences import PreferencePair
from sentrm.scoring import Scorer
from training.train import main

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_a_model_trained_here_is_opened_and_points_at_the_rude_sentence(
    browser: Browser, serve, train_flags: list[str], tmp_path: Path
):
    folder = tmp_path / "freshly-trained"
    assert main([*train_flags, "--output", str(folder)]) == 0
    prompt, polite = "How do I boil 12 eggs?", "Boil it for nine minutes. I hope this helps."
    rude = f"{polite} What a silly question!"
    (expected,) = Scorer.from_pretrained(folder).score([PreferencePair(prompt, chosen=polite, rejected=rude)])

    with serve(folder) as url:
        page = browser.new_page()
        page.goto(url)
        expect(page.locator(".page-head")).to_contain_text("model: freshly-trained")
        page.wait_for_selector(".pair-heatmap .card")
        for field, text in (("#prompt", prompt), ("#a", polite), ("#b", rude)):
            page.fill(f"{field} textarea", text)
        page.click("#score")
        expect(page.locator(".card").nth(1).locator(".s")).to_have_count(3)
        sure = "over 99%" if expected.probability >= 0.995 else f"{expected.probability:.0%}"
        expect(page.locator(".verdict .words")).to_have_text(f"A preferred, {sure}")
        classes = [
            page.locator(".card").nth(1).locator(".s").nth(i).get_attribute("class").split()[1] for i in range(3)
        ]
        assert min(classes) == classes[2] < "c3", "the rude sentence is the reddest, below the baseline"
        page.close()
