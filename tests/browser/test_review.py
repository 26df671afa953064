"""The Review page in a real browser, from the first pair to the files, through a kill of the app."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, Route, expect
from test_accessibility import violations

from sentrm.audit.filters import Filter, filters_to_query
from sentrm.audit.folder import AuditFolder
from sentrm.audit.run import score_dataset
from sentrm.audit.summary import summarise
from sentrm.preferences import load_preferences
from sentrm.reviews.export import decide
from sentrm.reviews.log import ReviewLog
from sentrm.scoring import Scorer

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
EVIL = "<img src=x onerror=alert(1)> ${7*7} {{7*7}}"
ROWS = [
    {"prompt": f"Question {i}?", "chosen": f"Answer {i} is it. {EVIL}", "rejected": f"No {i}. Never. Not {i}."}
    for i in range(14)
]


@pytest.fixture(scope="module")
def audit(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audits")
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    path = score_dataset(folder / "pairs.jsonl", Scorer.from_pretrained(model_dir), folder / "eggs")
    summarise(path)
    return path


def reviewing(audit: Path, log: Path, *flags: str) -> AbstractContextManager[tuple[str, subprocess.Popen[str]]]:
    """The app that takes reviews, without a model."""
    return started("--no-model", "--audits", str(audit), "--reviews", str(log), *flags)


@contextmanager
def started(*flags: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Where the app is, and its process."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "app.py", "--port", port, *flags]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            said = []
            while not said or "Serving" not in said[-1]:
                said.append(process.stdout.readline())
                assert said[-1], f"the app did not start: {said}"
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.kill()
            process.stdout.read()


@pytest.fixture(scope="module")
def url(audit: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with reviewing(audit, tmp_path_factory.mktemp("log") / "reviews.db") as (where, _):
        yield where


@pytest.fixture
def visit(new_page: Callable[..., Page]) -> Callable[..., Page]:
    """Opens the Review page under a name."""

    def opened(url: str, name: str, query: str = "", **options: object) -> Page:
        page = new_page(url, **options)
        page.goto(f"{url}/review{query}")
        page.fill("[name=annotator]", name)
        page.keyboard.press("Enter")
        page.wait_for_selector(".desk .card")
        return page

    return opened


def course(page: Page, done: int, left: int) -> None:
    expect(page.locator(".course span")).to_have_text(f"{done} done · {left} left")


def vote(page: Page, key: str) -> None:
    """A verdict by its key; its answer shows the scores."""
    expect(page.locator(".desk .verdict")).to_have_count(0)
    page.keyboard.press(key)
    expect(page.locator(".desk .verdict")).to_have_count(1)
    expect(page.locator(".desk .status")).to_contain_text("Saved: ")


def saved(page: Page, kind: str, to: Path) -> Path:
    page.click(f"#make-{kind}")
    expect(page.locator("#made")).to_contain_text(re.compile("written|all that was"))
    expect(page.locator("#save")).to_contain_text("cleaned" if kind == "cleaned" else kind)
    with page.expect_download() as download:
        page.locator("#save").click()
    download.value.save_as(to)
    return to


def test_ten_pairs_by_keyboard_three_taken_back_a_kill_and_the_files(
    audit: Path, visit: Callable[..., Page], tmp_path: Path
):
    folder = AuditFolder.open(audit)
    bound = float(sorted(folder.column("margin"))[-2])
    filters = [Filter("margin", "<=", bound)]
    query = f"?{filters_to_query(filters)}"
    total = folder.count(filters)
    order = folder.ids(filters, sort="suspicion", descending=True)
    assert total == 13
    log = tmp_path / "reviews.db"
    with reviewing(audit, log) as (url, process):
        page = visit(url, "ann", query, killed=True)
        course(page, 0, total)
        for k, key in enumerate("1214312413"):
            vote(page, key)
            course(page, k + 1, total - k - 1)
            page.keyboard.press("n")
        for k in range(3):
            page.keyboard.press("u")
            course(page, 9 - k, total - 9 + k)
        process.kill()
        process.wait()
    with ReviewLog.open(log) as held:
        before = held.current()
        assert [vote.pair_id for vote in sorted(before, key=lambda vote: vote.id)] == order[:7]
        events = len(list(held.events()))
        assert events == 13

    with reviewing(audit, log) as (url, _):
        page = visit(url, "ann", query, killed=True)
        course(page, 7, total - 7)
        page.keyboard.press("r")
        course(page, 8, total - 8)
        page.keyboard.press("u")
        course(page, 7, total - 7)
        page.get_by_role("button", name="Carry home").click()
        cleaned = saved(page, "cleaned", tmp_path / "cleaned.jsonl")
        carried = saved(page, "events", tmp_path / "events.jsonl")
    with ReviewLog.open(log) as held:
        assert held.current() == before
        decisions = decide(held.verdicts())
    expected = []
    for row, pair_id in zip(ROWS, folder.ids(), strict=True):
        verdict = decisions.get(pair_id)
        turned = {**row, "chosen": row["rejected"], "rejected": row["chosen"]}
        expected += [] if verdict == "both_bad" else [turned if verdict == "flip" else row]
    assert [json.loads(line) for line in cleaned.read_text().splitlines()] == expected
    assert "flip" in decisions.values()
    assert "both_bad" in decisions.values()
    assert len(load_preferences(cleaned).pairs) == len(expected) < len(ROWS)

    fresh = tmp_path / "fresh.db"
    with reviewing(audit, fresh) as (url, _):
        page = visit(url, "ann", query, killed=True)
        course(page, 0, total)
        page.get_by_role("button", name="Carry home").click()
        page.set_input_files("#import input, input#import, #carry-home input[type=file]", carried)
        expect(page.locator("#made")).to_have_text("15 events imported.")
        page.reload()
        course(page, 7, total - 7)
    with ReviewLog.open(fresh) as imported:
        assert imported.current() == before
    folder.close()


def test_the_whole_road_from_an_upload_to_clean_data_scored_anew(
    model_dir: Path, new_page: Callable[..., Page], tmp_path: Path
):
    """Upload, score, filter, review by keyboard, undo, a restart, export, and the cleaned data are uploaded again."""
    data = tmp_path / "mine.jsonl"
    turned = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in ROWS[::2]]
    data.write_text("".join(json.dumps(row) + "\n" for row in (*turned, *ROWS[1::2])))
    log = tmp_path / "reviews.db"
    flags = ("--model", str(model_dir), "--output", str(tmp_path / "audits"), "--reviews", str(log))

    def scored(page: Page, file: Path) -> AuditFolder:
        page.set_input_files("#upload input[type=file]", file)
        expect(page.locator("#scoring")).to_contain_text("its columns are known")
        page.click("#score-data")
        page.wait_for_url(f"**/dataset?audit={file.stem}-*")
        return AuditFolder.open(next((tmp_path / "audits").glob(f"{file.stem}-*")))

    with started(*flags) as (url, process):
        page = new_page(url, killed=True)
        page.goto(f"{url}/dataset")
        folder = scored(page, data)
        page.get_by_text("Model disagrees").click()
        against = folder.ids([Filter("agrees", "=", False)], sort="suspicion", descending=True)
        assert 2 < len(against) < len(ROWS)
        expect(page.locator("#pairs .found")).to_have_text(f"{len(against)} of {len(ROWS)} pairs")
        page.get_by_role("link", name="Review these").click()
        page.fill("[name=annotator]", "ann")
        page.keyboard.press("Enter")
        page.wait_for_selector(".desk .card")
        for k, key in enumerate("142"):
            vote(page, key)
            course(page, k + 1, len(against) - k - 1)
            page.keyboard.press("n")
        page.keyboard.press("u")
        course(page, 2, len(against) - 2)
        query = page.url.partition("/review")[2]
        process.send_signal(signal.SIGTERM)
        process.wait()

    with started(*flags) as (url, _):
        page = new_page(url, killed=True)
        page.goto(f"{url}/review{query}")
        page.fill("[name=annotator]", "ann")
        page.keyboard.press("Enter")
        course(page, 2, len(against) - 2)
        page.get_by_role("button", name="Carry home").click()
        clean = saved(page, "cleaned", tmp_path / "clean.jsonl")
        with ReviewLog.open(log) as held:
            decisions = decide(held.verdicts())
        assert list(decisions.values()).count("both_bad") == 1
        flips = list(decisions.values()).count("flip")
        pairs = load_preferences(clean).pairs
        assert len(pairs) == len(ROWS) - 1
        before = {pair.prompt: pair.chosen for pair in load_preferences(data).pairs}
        assert sum(before[pair.prompt] != pair.chosen for pair in pairs) == flips
        page.goto(f"{url}/dataset")
        page.get_by_role("button", name="Score a dataset").click()
        again = scored(page, clean)
        page.goto(f"{url}/review?audit={again.path.name}&order=filter")
        page.fill("[name=annotator]", "ann")
        page.keyboard.press("Enter")
        # What was flipped is another label now, without a verdict.
        course(page, 1 - flips, len(pairs) - 1 + flips)
        page.get_by_role("button", name="Carry home").click()
        twice = saved(page, "cleaned", tmp_path / "twice.jsonl")
        assert twice.read_text() == clean.read_text()


def test_what_is_typed_no_key_takes_and_no_refusal_loses(visit: Callable[..., Page], url: str):
    page = visit(url, "typist", "?overlap=9")
    first = page.locator(".desk .prompt-text").inner_text()
    page.fill("[name=reason]", "")
    page.locator("[name=reason]").press_sequentially("1 2 s")
    page.locator("[name=comment]").press_sequentially("find bugs")
    assert page.input_value("[name=reason]") == "1 2 s"
    expect(page.locator(".desk .verdict")).to_have_count(0)  # nothing was voted
    other = visit(url, "typist", "?overlap=9")  # in another window
    other.click(".do-tie")
    other.wait_for_selector(".desk .verdict")
    page.click(".do-both_bad")
    expect(page.get_by_role("alert")).to_contain_text("since this page was shown, in another window")
    assert (page.input_value("[name=reason]"), page.input_value("[name=comment]")) == ("1 2 s", "find bugs")
    page.get_by_role("button", name="Vote again anyway").click()
    expect(page.locator(".desk .verdict")).to_have_count(1)
    expect(page.locator(".do-both_bad")).to_have_attribute("aria-pressed", "true")
    assert page.input_value("[name=comment]") == "find bugs"
    page.get_by_label("Keys").uncheck()
    page.keyboard.press("n")
    page.wait_for_timeout(300)
    assert page.locator(".desk .prompt-text").inner_text() == first
    page.get_by_label("Keys").check()
    page.keyboard.press("n")
    expect(page.locator(".desk .prompt-text")).not_to_have_text(first)
    assert page.input_value("[name=comment]") == ""
    page.keyboard.press("n")
    expect(page.get_by_role("alert")).to_contain_text("Vote first")


def test_marks_reach_the_sentence_by_keyboard_and_stay(visit: Callable[..., Page], url: str):
    page = visit(url, "marker", "?overlap=9")
    assert page.locator(".desk :is(.n, .s .bar, .ramp, .c0, .c3, .rest)").count() == 0  # blind
    for key in ("k", "j", "j"):  # from nowhere to the last sentence, round to the first, on to the second
        page.keyboard.press(key)
    page.keyboard.press("b")
    second = page.locator(".desk .s[data-side='0'][data-index='1']")
    expect(second).to_have_attribute("aria-label", re.compile(r"sentence 2 of .*, marked bad"))
    text = second.locator(".t").inner_text()
    page.reload()  # before the vote: kept by the browser
    expect(second).to_have_attribute("aria-label", re.compile("marked bad"))
    vote(page, "3")
    marked = page.locator(".desk .s.marked")
    expect(marked).to_have_count(1)
    assert marked.locator(".t").inner_text() == text
    page.click(".do-undo")
    expect(page.locator(".desk .verdict")).to_have_count(0)
    expect(page.locator(".desk .status")).to_contain_text("does not count as blind")
    expect(page.locator(".desk .s.marked")).to_have_count(1)


def test_the_keys_mark_the_sentence_in_focus_wherever_the_mouse_rests(visit: Callable[..., Page], url: str):
    page = visit(url, "rester", "?overlap=9", viewport={"width": 1280, "height": 420})
    sentences = page.locator(".desk .s")
    sentences.first.scroll_into_view_if_needed()
    sentences.first.hover()
    sentences.first.focus()
    page.keyboard.press("ArrowDown")
    tops = [sentences.nth(i).bounding_box()["y"] for i in (0, 2)]  # type: ignore[index]
    page.evaluate("(by) => scrollBy(0, by)", tops[1] - tops[0])  # the third comes under the mouse
    page.wait_for_timeout(300)  # milliseconds, in which Chromium says so
    page.keyboard.press("b")
    expect(page.locator(".desk .s.marked")).to_have_count(1)
    expect(sentences.nth(1)).to_have_class(re.compile("marked"))


def test_who_is_logged_out_is_told(visit: Callable[..., Page], url: str):
    page = visit(url, "late one", "?overlap=9", killed=True)
    for path in ("**/run/predict**", "**/login_check"):  # as when the app was started again
        page.route(path, lambda route: route.fulfill(status=401, body='{"detail": "Not authenticated"}'))
    page.fill("[name=comment]", "typed")
    page.click(".do-a")
    expect(page.locator(".desk .trouble")).to_contain_text("You are logged out", timeout=5000)
    expect(page.locator("[name=comment]")).to_have_value("typed")
    page.unroute_all()
    page.click(".do-a")
    expect(page.locator(".desk .status")).to_contain_text("Saved: ")


def test_what_is_added_to_a_vote_is_saved_by_next(visit: Callable[..., Page], url: str):
    page = visit(url, "adder", "?overlap=9")
    pair = page.locator(".desk").get_attribute("data-pair")
    vote(page, "3")
    page.fill("[name=comment]", "seen now, and worth a word")
    expect(page.locator(".desk .status")).to_contain_text("Not saved yet")
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    expect(page.locator(".desk")).not_to_have_attribute("data-pair", pair or "")
    expect(page.locator(".desk .verdict")).to_have_count(0)
    course(page, 1, 13)
    page.goto(f"{url}/review?overlap=9&id={pair}")
    expect(page.locator("[name=comment]")).to_have_value("seen now, and worth a word")


def test_a_tab_votes_for_whom_it_was_drawn(visit: Callable[..., Page], url: str):
    page = visit(url, "first of two", "?overlap=9")
    with page.expect_popup() as popup:
        page.evaluate("() => void open(location.href)")
    other = popup.value
    other.wait_for_selector(".desk .card")
    other.fill("[name=annotator]", "second of two")
    other.keyboard.press("Enter")
    expect(other.locator(".desk")).to_have_attribute("data-annotator", "second of two")
    vote(other, "1")
    vote(page, "2")
    course(page, 1, 13)
    expect(page.locator("[name=annotator]")).to_have_value("first of two")
    page.locator("#agreement-part button").first.click()
    page.click("#tally")
    for name in ("first of two", "second of two"):
        expect(page.locator("#votes tr").filter(has_text=name)).to_contain_text("1")


def test_after_a_name_is_chosen_the_keys_are_the_pairs(audit: Path, new_page: Callable[..., Page], tmp_path: Path):
    with reviewing(audit, tmp_path / "log", "--annotators", "Ada", "Ben") as (where, _):
        page = new_page(where)
        page.goto(f"{where}/review")
        page.wait_for_selector("[name=names]")
        page.locator("[name=names]").focus()
        page.keyboard.press("a")  # as one types in a list
        page.wait_for_selector(".desk .card")
        vote(page, "3")
        assert page.locator("[name=names]").input_value() == "Ada"


def test_a_whole_filter_is_marked_and_taken_back(visit: Callable[..., Page], url: str):
    query = f"?overlap=9&{filters_to_query([Filter('chosen_length', '>', 10)])}"
    page = visit(url, "sweeper", query)
    page.locator("summary").click()
    page.get_by_role("button", name="Mark all …").click()
    expect(page.locator(".sure")).to_contain_text("the label is right?")
    page.select_option("[name=all]", "flip")
    expect(page.get_by_role("button", name="Mark 14 pairs")).to_have_count(0)  # that was another question
    page.get_by_role("button", name="Mark all …").click()
    page.get_by_role("button", name="Mark 14 pairs").click()
    course(page, 14, 0)
    expect(page.locator(".desk .status")).to_contain_text("Marked 14 pairs: flip")
    page.click(".do-undo")
    course(page, 0, 14)
    page.get_by_role("button", name=re.compile("Take away the filter")).click()
    expect(page.locator(".chips")).to_contain_text("All pairs of the audit")
    page.go_back()
    expect(page.locator(".chip")).to_have_count(1)


def test_a_first_answer_that_is_late_does_not_take_the_pair_away(new_page: Callable[..., Page], url: str):
    page = new_page(url)
    held: list[Route] = []
    page.route("**/run/predict**", lambda route: route.continue_() if held else held.append(route))
    page.goto(f"{url}/review?overlap=8")
    page.fill("[name=annotator]", "swift")
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)  # milliseconds, in which a second question would be answered
    held[0].continue_()
    page.wait_for_selector(".desk .card")
    page.wait_for_timeout(200)
    expect(page.locator(".do-a")).to_be_enabled()
    assert page.input_value("[name=annotator]") == "swift"


def test_a_link_to_a_pair_outlasts_the_question_for_a_name(audit: Path, new_page: Callable[..., Page], url: str):
    last = AuditFolder.open(audit).ids(sort="suspicion", descending=True)[-1]
    page = new_page(url)
    page.goto(f"{url}/review?id={quote(last)}")
    expect(page.locator(".desk")).to_contain_text("Who is reviewing?")
    page.fill("[name=annotator]", "guest")
    page.keyboard.press("Enter")
    expect(page.locator(".desk")).to_have_attribute("data-pair", last)


def test_another_names_vote_is_seen_after_ones_own_alone(visit: Callable[..., Page], url: str):
    one = visit(url, "early", "?overlap=9&order=filter")
    one.fill("[name=comment]", "early bird")
    one.click(".do-a")
    one.wait_for_selector(".desk .verdict")
    pair = one.locator(".desk").get_attribute("data-pair")
    two = visit(url, "late", f"?overlap=9&order=filter&id={quote(pair)}")
    assert "early bird" not in two.content()
    two.click(".do-tie")
    expect(two.locator(".revealed")).to_contain_text("early bird")


@pytest.mark.parametrize(("width", "height", "scheme"), [(1280, 900, "light"), (390, 844, "dark"), (640, 450, "light")])
def test_every_width_fits_and_axe_finds_nothing(
    visit: Callable[..., Page], url: str, width: int, height: int, scheme: str
):
    size = {"width": width, "height": height}  # 640 by 450 is 1280 by 900 at twice the size
    page = visit(url, f"width {width}", "?overlap=99", viewport=size, color_scheme=scheme)
    assert violations(page) == []
    page.locator(".desk .s").first.focus()
    page.keyboard.press("g")
    vote(page, "1")
    assert violations(page) == []
    for part in ("Agreement", "Carry home"):
        page.get_by_role("button", name=part).click()
    page.click("#tally")
    page.wait_for_selector("#votes table")
    page.locator("summary").click()
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
