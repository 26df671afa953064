"""The app as a reader feels it: a real browser, the real server, the bundled model.

    python -m benchmarks.app [--quick] [--model FOLDER]

- First paint: from the start of `python app.py` to the first example's heatmap in the browser.
- Click: from Score to the painted heatmap, for pairs nobody asked for before (the bundled examples under new prompts).
- Surgery: from the reader's edit, duplication or drop of one of 20 sentences to the repainted heatmap, all over the
  response. Click and surgery end in the frame after the one in which the heatmap was drawn, and include the network.
  Between two the reader looks for 0.2 to 1.2 s, drawn at random: some come while the charts below are being drawn.
- Late edit: `Rescorer` against its peer, `Scorer` from scratch, in one process, a text edited in its last third; both
  see each text for the first time and who goes first alternates. The ratio is the median over the edits.
- Users: 20 browser contexts press Score in one moment, each with a text of its own. Errors are users who see no result,
  another result than their own, a word of somebody else, or an error in the console.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from sentrm.rescoring import Rescorer
from sentrm.scoring import Scorer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright

ROOT = Path(__file__).parent.parent
GOALS = {"click": 300, "surgery": 150, "late": 3}  # milliseconds at the 95th percentile; times
USERS = 20
LOOKS = (200, 1200)  # milliseconds a reader looks at a result: charts and checks are drawn meanwhile, or are not
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FIELDS = ("#prompt", "#a", "#b")

# What a page does from `act()` to the frame after the heatmap was drawn, in milliseconds.
CLOCK = """() => { window.clock = (act) => new Promise((done, fail) => {
  const started = performance.now();
  const seen = new MutationObserver(() => {
    seen.disconnect();
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - started)));
  });
  const drawn = { subtree: true, attributes: true, attributeFilter: ["data-drawn"] };
  seen.observe(document.querySelector("#heatmap"), drawn);
  setTimeout(() => fail(new Error("no heatmap within a minute")), 60000);
  act();
}); }"""
SCORE = "window.clock(() => document.querySelector('#score').click())"
SUBMIT = "window.clock(() => document.querySelector('.composer button[type=submit]').click())"
PRESS = """(op) => window.clock(() => document.querySelector(`.detail button[data-op=${op}]`).click())"""


@contextmanager
def serving(model: str | Path) -> Iterator[str]:
    """Where a fresh `python app.py` serves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "app.py", "--model", str(model), "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        said: list[str] = []
        for line in process.stdout:
            said.append(line)
            if "Serving" in line:
                break
        else:
            raise RuntimeError(f"the app did not start:\n{''.join(said)}")
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.stdout.read()


def browser_path(playwright: Playwright) -> str | None:
    """An installed Chromium, else Playwright's own; None if there is neither."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None) or playwright.chromium.executable_path
    return found if Path(found).exists() else None


def visit(browser: Browser, url: str, users: int = 1) -> list[Page]:
    """New users' pages, each in a context of its own, with the first example on it."""
    pages = [browser.new_context(viewport={"width": 1280, "height": 900}).new_page() for _ in range(users)]
    for page in pages:
        page.goto(url, wait_until="commit")
    for page in pages:
        page.wait_for_selector("#heatmap .s", timeout=120_000)
        page.evaluate(CLOCK)
    return pages


def fill(page: Page, *texts: str) -> None:
    for field, text in zip(FIELDS, texts, strict=True):
        page.fill(f"{field} textarea", text)


def shown(page: Page, side: int) -> str:
    """The response as the heatmap shows it, without white space."""
    return "".join("".join(page.locator(f".s[data-side='{side}'] .t").all_text_contents()).split())


def check(page: Page, a: str, b: str) -> None:
    """Raise RuntimeError unless the page shows this pair."""
    for side, text in enumerate((a, b)):
        got, expected = shown(page, side), "".join(text.split())
        if got != expected:
            raise RuntimeError(f"the page shows {got[:60]!r}; expected {expected[:60]!r}.")


def clicks(page: Page, count: int) -> list[float]:
    pauses = np.random.default_rng(0)
    lines = (ROOT / "assets" / "examples.jsonl").read_text(encoding="utf-8").splitlines()
    examples = itertools.cycle(map(json.loads, lines))
    times = []
    for number, one in zip(range(count), examples, strict=False):
        fill(page, f"{one['prompt']} ({number})", one["a"], one["b"])
        times.append(page.evaluate(SCORE))
        check(page, one["a"], one["b"])
        page.wait_for_timeout(pauses.uniform(*LOOKS))
    return times


def surgery(page: Page, count: int) -> list[float]:
    pauses = np.random.default_rng(1)
    pieces = [f"Step {i} says that you should move the eggs with a spoon. " for i in range(20)]
    other = "Boil them for nine minutes and peel them."
    fill(page, "How do I boil an egg?", "".join(pieces), other)
    page.evaluate(SCORE)
    times = []
    for number in range(count):
        index = number * 7 % 20
        op = ("edit", "duplicate", "drop")[number % 3]
        if op == "drop":
            index = (number - 1) * 7 % 20 + 1  # the copy, so that 20 stay
        sentence = page.locator(f".s[data-side='0'][data-index='{index}']")
        if sentence.get_attribute("aria-selected") != "true":
            sentence.click()
        if op == "edit":
            page.click(".detail button[data-op=edit]")
            pieces[index] = f"Then edit number {number} was made here. "
            page.fill(".composer textarea", pieces[index].strip())
            times.append(page.evaluate(SUBMIT))
        else:
            pieces[index : index + (op == "drop")] = [pieces[index]] if op == "duplicate" else []
            times.append(page.evaluate(PRESS, op))
        check(page, "".join(pieces), other)
        page.wait_for_timeout(pauses.uniform(*LOOKS))
    return times


def keep_error(console: list[str], said: ConsoleMessage) -> None:
    if said.type == "error":
        console.append(said.text)


def users(browser: Browser, url: str) -> tuple[int, float]:
    """Errors, and the seconds until the last user has a result."""
    pages, texts, consoles = visit(browser, url, USERS), [], []
    for user, page in enumerate(pages):
        console: list[str] = []
        page.on("console", partial(keep_error, console))
        text = f"Only user{user:02d}x knows this. It takes {user} minutes."
        fill(page, f"What does user{user:02d}x know?", text, f"Nothing, says user{user:02d}x.")
        texts.append(text)
        consoles.append(console)
    started = time.perf_counter()
    for page in pages:
        page.evaluate(f"() => {{ window.answer = {SCORE}.then(() => '', (error) => error.message); }}")
    problems = [page.evaluate("window.answer") for page in pages]
    seconds = time.perf_counter() - started
    errors = 0
    for user, (page, text, problem, console) in enumerate(zip(pages, texts, problems, consoles, strict=True)):
        seen = page.evaluate("document.body.innerHTML")
        others = any(f"user{other:02d}x" in seen for other in range(USERS) if other != user)
        errors += bool(problem or console) or others or shown(page, 0) != "".join(text.split())
        page.context.close()
    return errors, seconds


def late_edits(model: str, rounds: int) -> tuple[float, float, float]:
    """Milliseconds of `Rescorer` and of `Scorer` from scratch, medians, and the median ratio."""
    scorer = Scorer.from_pretrained(model)
    prompt = "How do I boil an egg?"
    pieces = [f"Step {i} says that you should move the eggs with a spoon and wait. " for i in range(20)]
    rescorer = Rescorer(scorer, prompt)
    times = []
    for number in range(rounds + 2):
        text = "".join(
            f"Then edit number {number} was made here. " if i == 14 + number % 6 else piece
            for i, piece in enumerate(pieces)
        )
        rescorer.score("".join(pieces))
        took: dict[str, float] = {}
        for name in ("edit", "scratch") if number % 2 else ("scratch", "edit"):
            started = time.perf_counter()
            if name == "edit":
                rescorer.score(text)
            else:
                scorer.score([(prompt, text)])
            took[name] = 1000 * (time.perf_counter() - started)
        times.append((took["edit"], took["scratch"]))
    times = times[2:]  # the first two warm up
    edit, scratch = (statistics.median(column) for column in zip(*times, strict=True))
    return edit, scratch, statistics.median(b / a for a, b in times)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--quick", action="store_true", help="fewer of each: two minutes on two cores")
    flags.add_argument("--model", default=str(ROOT / "assets" / "demo-model"), help="folder of the model (%(default)s)")
    args = flags.parse_args()
    if find_spec("playwright") is None:
        sys.exit("this drives a browser with Playwright, which is not installed: pip install 'playwright>=1.65'")
    from playwright.sync_api import sync_playwright

    starts, number = (1, 12) if args.quick else (3, 100)
    with sync_playwright() as playwright:
        found = browser_path(playwright)
        if found is None:
            sys.exit("no browser found; install one with: python -m playwright install --with-deps chromium")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        paints = []
        for start in range(starts):
            started = time.perf_counter()
            with serving(args.model) as url:
                (page,) = visit(browser, url)
                paints.append(time.perf_counter() - started)
                if start == starts - 1:
                    clicked, operated = clicks(page, number), surgery(page, number)
                    errors, all_served = users(browser, url)
                page.context.close()
        browser.close()
    edit, scratch, speedup = late_edits(args.model, 2 * number)

    click_p95, surgery_p95 = (float(np.percentile(times, 95)) for times in (clicked, operated))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {starts} starts, {number} clicks and edits")
    print(f"{'':34s}{'median':>9s}{'95th':>9s}{'goal':>9s}")
    print(f"{'first paint after start, s':34s}{statistics.median(paints):9.2f}{'':>9s}{'':>9s}")
    for name, times, goal in (("click", clicked, "click"), ("surgery, 20 sentences", operated, "surgery")):
        percentiles = np.percentile(times, [50, 95])
        print(f"{f'{name} to heatmap, ms':34s}{percentiles[0]:9.0f}{percentiles[1]:9.0f}{GOALS[goal]:9d}")
    print(f"{'late edit, ms':34s}{edit:9.1f}")
    print(f"{'the same from scratch, ms':34s}{scratch:9.1f}")
    print(f"{'late edit, times faster':34s}{speedup:9.2f}{'':>9s}{GOALS['late']:9d}")
    print(f"{f'{USERS} users at once: errors':34s}{errors:9d}   (all served in {all_served:.1f} s)")
    print(
        json.dumps(
            {
                "first_paint_s": round(statistics.median(paints), 2),
                "click_p95_ms": round(click_p95, 1),
                "surgery_p95_ms": round(surgery_p95, 1),
                "late_edit_speedup": round(speedup, 2),
                "users_20_errors": errors,
            }
        )
    )


if __name__ == "__main__":
    main()
