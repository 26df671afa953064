"""The Inspect page at the granularity that a baseline's checkpoint has: tokens, or the whole response."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect
from test_inspect import detail, fill_and_score, number, scored, shown_sentences
from tiny import tiny_model

from sentrm.scoring import Scorer

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def baseline_dir(long_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The tests' tiny model as a baseline would store it: read by offsets and by another segmenter."""

    def made(backend: str) -> Path:
        folder = tmp_path_factory.mktemp(backend) / f"tiny-{backend}"
        aggregator = "last" if backend == "response" else "mean_values"
        model = tiny_model(boundary="offset", aggregator=aggregator, median_reward=0.05, max_length=8192)
        model.config.backbone_config.max_position_embeddings = 8192
        model.config.segmenter = {"backend": backend, "name": "", "threshold": None}
        shutil.copytree(long_model_dir, folder)
        model.save_pretrained(folder)
        return folder

    return made


TOKENS = "Here:\n\n```py\nif x:\n    y()\n```\n\n- one\n  - two, unbelievable!"


def test_tokens_are_running_text_and_six_hundred_of_them_stay_smooth(open_page, serve, baseline_dir):
    folder = baseline_dir("tokens")
    with serve(folder) as url:
        page = open_page(url=url)
        fill_and_score(page, "Write code.", TOKENS, "No.")
        assert page.get_attribute(".pair-heatmap", "data-layout") == "flow"
        drawn = (
            page.locator(".card")
            .first.locator(".line")
            .evaluate("line => [...line.childNodes].map((n) => (n.querySelector?.('.t') ?? n).textContent).join('')")
        )
        assert drawn == TOKENS
        assert "sentence" not in page.inner_text("#heatmap").lower()
        heights = page.locator(".card").first.locator(".s").evaluate_all("all => all.map((n) => n.offsetTop)")
        assert len(set(heights)) == 7 < len(heights)  # the lines of the text, blank ones and list items included
        expect(page.locator(".s.code .t").first).to_have_css("font-family", re.compile("mono"))

        pair = scored(Scorer.from_pretrained(folder), "Write code.", TOKENS, "No.")
        page.locator(".s").first.focus()
        page.keyboard.press("ArrowRight")
        seen = detail(page)
        assert seen[f"A · token 2 of {len(pair.a.spans)}"] == pair.a.sentences[1].strip()
        assert number(seen["reward"]) == pytest.approx(pair.a.rewards[2], abs=0.00051)
        page.click("button[data-layout=rows]")
        assert len(shown_sentences(page, 0)) == len(pair.a.spans)
        expect(page.locator(".key-weight")).to_contain_text("bar: weight of a token")
        page.click("button[data-layout=flow]")

        fill_and_score(page, "Count.", "It boils, so wait. " * 75, "Older eggs peel more easily; " * 110)
        counts = [page.locator(".card").nth(side).locator(".s").count() for side in (0, 1)]
        assert min(counts) >= 600
        built = float(page.locator(".pair-heatmap").get_attribute("data-drawn"))
        pointed = page.evaluate(
            """async () => {
              const start = performance.now(), nodes = [...document.querySelectorAll('.s')].slice(0, 30);
              for (const node of nodes) {
                node.dispatchEvent(new MouseEvent('mouseover', { bubbles: true }));
                await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
              }
              return (performance.now() - start) / nodes.length;
            }"""
        )
        print(f"{counts} tokens: built in {built:.0f} ms, {pointed:.0f} ms from pointing at one to the painted frame")
        assert built < 900
        assert pointed < 500
        assert page.evaluate("document.documentElement.scrollWidth") == 1280
        page.close()  # before its server


def test_a_response_is_one_block(open_page, serve, baseline_dir):
    folder = baseline_dir("response")
    with serve(folder) as url:
        page = open_page(url=url)
        fill_and_score(page, "Write code.", TOKENS, "No. Never.")
        pair = scored(Scorer.from_pretrained(folder), "Write code.", TOKENS, "No. Never.")
        shown = [shown_sentences(page, side) for side in (0, 1)]
        assert [text for ((text, _),) in shown] == [TOKENS, "No. Never."]
        rewards = [reward for ((_, reward),) in shown]
        assert rewards == pytest.approx([pair.a.rewards[1], pair.b.rewards[1]], abs=0.0051)
        expect(page.locator(".t .mono")).to_have_text("```py\nif x:\n    y()\n```", use_inner_text=True)
        assert page.locator("button[data-layout]").count() == 0
        assert "sentence" not in page.inner_text("body").lower()
        assert page.inner_text("#story") == ""  # of the first example
        page.locator(".s").nth(1).focus()
        assert detail(page)["B · the whole response"] == "No. Never."
        page.close()
