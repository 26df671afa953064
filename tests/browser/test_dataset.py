"""The Dataset page in a real browser: filter by chart, table, search and address; score a file; open a pair."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect
from test_accessibility import violations
from test_api import serving

from sentrm import cli
from sentrm.audit.folder import AuditFolder
from sentrm.ui.dataset_list import View

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=alert(1)> ${7*7} {{7*7}}"
ROWS = [
    {
        "prompt": f"Question {i}? {EVIL}" if i == 3 else f"Question {i}?",
        "chosen": f"Answer {i} is it. {'Yes! ' * (i % 7)}",
        "rejected": f"No {i}. {'Never. ' * (i % 3)}",
        "topic": f"<b>{'eggs' if i % 2 else 'rice'}</b>",
    }
    for i in range(120)
]
BAR = "#plot-margins .bars .point"


@pytest.fixture(scope="module")
def audits(long_model_dir: Path, other_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two audits of the same data, and a folder of data."""
    place = tmp_path_factory.mktemp("bench")
    (place / "data").mkdir()
    data = place / "data" / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for name, model in (("one", long_model_dir), ("two", other_model_dir)):
        assert cli.main(["audit", str(data), "--model", str(model), "--output", str(place / "audits" / name)]) == 0
    return place


@pytest.fixture(scope="module")
def url(audits: Path, long_model_dir: Path) -> Iterator[str]:
    flags = ["--audits", str(audits / "audits"), "--data", str(audits / "data"), "--output", str(audits / "made")]
    with serving(long_model_dir, *flags) as where:
        yield where


@pytest.fixture
def folder(audits: Path) -> Iterator[AuditFolder]:
    with closing(AuditFolder.open(audits / "audits" / "one")) as opened:
        yield opened


@pytest.fixture
def visit(new_page: Callable[..., Page], url: str) -> Callable[..., Page]:
    """Opens the Dataset page."""

    def opened(query: str = "", width: int = 1280, at: str = f"{url}/dataset", **options: object) -> Page:
        page = new_page(at, viewport={"width": width, "height": 900}, **options)
        page.goto(f"{at}{query}")
        page.wait_for_selector("#pairs tbody tr, #pairs .message")
        return page

    return opened


def lists(page: Page, folder: AuditFolder) -> View:
    """The page's list is the one that its address asks for; gives the view back."""
    expect(page.locator(".pending")).to_have_count(0)
    view = View.from_query(urlsplit(page.url).query)
    total, count = folder.count(), folder.count(view.filters)
    words = f"{count} of {total} pairs" if view.filters else f"{total} pairs"
    expect(page.locator("#pairs .found")).to_have_text(words)
    sort, down = (view.sort, view.descending) if view.sort else ("suspicion", True)
    names = [row["id"] for row in folder.page(view.filters, sort, down, 50 * (view.page - 1))]
    expect(page.locator("#pairs .name")).to_have_text(names)
    return view


def click_bar(page: Page, number: int) -> None:
    bar = page.locator(BAR).nth(number).bounding_box()
    page.mouse.move(bar["x"] + bar["width"] / 2, bar["y"] + bar["height"] - 2)
    expect(page.locator("#plot-margins .hoverlayer .hovertext").first).to_be_visible()  # plotly clicks what is hovered
    page.mouse.down()
    page.mouse.up()


def test_what_narrows_the_list_stands_in_the_address(visit: Callable[..., Page], folder: AuditFolder, audits: Path):
    page = visit()
    expect(page.locator(BAR)).to_have_count(40)
    assert lists(page, folder) == View("one")
    heights = json.loads((audits / "audits/one/summary.json").read_text())["margins"]["pairs"]
    fullest = heights.index(max(heights))
    click_bar(page, fullest)
    page.wait_for_url("**where=*")
    expect(page.locator("#pairs .found")).to_have_text(f"{max(heights)} of 120 pairs")
    (by_bar,) = lists(page, folder).filters
    assert by_bar.column == "label_margin"
    page.go_back()
    expect(page.locator("#pairs .found")).to_have_text("120 pairs")
    assert lists(page, folder) == View("one")

    plot = page.locator("#plot-margins .nsewdrag").bounding_box()
    page.mouse.move(plot["x"] + plot["width"] * 0.1, plot["y"] + 50)
    page.mouse.down()
    page.mouse.move(plot["x"] + plot["width"] * 0.5, plot["y"] + 80, steps=6)
    page.mouse.up()
    page.wait_for_url("**where=*")
    brushed = lists(page, folder)
    assert brushed.filters[0].column == "label_margin"
    assert brushed.filters != (by_bar,)
    page.click("#pairs .toggle:has-text('Model disagrees')")
    expect(page.locator("#pairs .toggle[aria-current=true]")).to_have_text("Model disagrees")
    assert len(lists(page, folder).filters) == 2
    page.click("#pairs .chip")
    expect(page.locator("#pairs .chip")).to_have_count(0)
    page.fill("#pairs input", "Question 1")
    page.keyboard.press("Enter")
    expect(page.locator("#pairs .chip")).to_have_text("text contains “Question 1”")
    lists(page, folder)
    page.reload()
    page.wait_for_selector("#pairs .chip")
    assert page.input_value("#pairs input") == "Question 1"
    assert len(lists(page, folder).filters) == 2
    page.click("#pairs .more:has-text('Clear')")
    expect(page.locator("#pairs .found")).to_have_text("120 pairs")


def test_sorting_and_pages_and_the_way_back(visit: Callable[..., Page], folder: AuditFolder):
    page = visit()
    page.click("#pairs th a:has-text('Margin')")
    expect(page.locator("th[aria-sort=ascending]")).to_have_text("Margin")
    lists(page, folder)
    page.click("#pairs th a:has-text('Margin')")
    expect(page.locator("th[aria-sort=descending]")).to_have_text("Margin")
    lists(page, folder)
    page.click("#pairs .step:has-text('Next')")
    expect(page.locator("#pairs .pages span")).to_have_text("Page 2 of 3")
    expect(page.locator("#pairs .step:has-text('Next')")).to_be_focused()
    lists(page, folder)
    for _ in range(2):  # faster than the answers come
        page.go_back()
    expect(page.locator("th[aria-sort=ascending]")).to_have_text("Margin")
    assert lists(page, folder).sort == "margin"
    page.go_forward()
    expect(page.locator("th[aria-sort=descending]")).to_have_text("Margin")
    lists(page, folder)


def test_everything_can_be_done_by_keys(visit: Callable[..., Page], folder: AuditFolder):
    page = visit()
    page.wait_for_selector(BAR)
    chart = page.locator("#plot-margins .js-plotly-plot")
    expect(chart).to_have_attribute("aria-label", re.compile("Enter filters the list"))
    chart.focus()
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.wait_for_url("**where=*")
    lists(page, folder)
    page.get_by_role("tab", name="Style", exact=True).click()
    page.get_by_role("button", name="As a table").last.click()
    page.get_by_role("button", name="exclamation", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#pairs .chip")).to_have_count(2)
    assert lists(page, folder).filters[1].column == "style_exclamation"
    page = visit()
    _, second = folder.page(sort="suspicion", descending=True, size=2)
    page.locator("#pairs tbody a").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector("#heatmap .card")
    assert page.url.endswith(f"/?audit=one&id={second['pair_id']}")
    pair = folder.pair(second["pair_id"])
    assert [page.input_value(f"{field} textarea") for field in ("#prompt", "#a", "#b")] == [
        pair.prompt,
        pair.a.text,
        pair.b.text,
    ]
    shown = [float(text.replace("−", "-")) for text in page.locator(".verdict .score b").all_text_contents()]
    assert shown == pytest.approx([pair.a.score, pair.b.score], abs=0.0051)


def test_what_the_data_hold_is_text(visit: Callable[..., Page], folder: AuditFolder):
    page = visit('?audit=one&where=["text","contains","onerror"]')
    expect(page.locator("#pairs tbody td:nth-child(2)")).to_have_text(f"Question 3? {EVIL}")
    page.get_by_role("tab", name="Slices", exact=True).click()
    page.get_by_label("By", exact=True).click()
    page.get_by_role("option", name="topic").click()
    page.get_by_role("button", name="As a table").last.click()
    page.get_by_role("button", name="<b>eggs</b>").click()
    expect(page.locator("#pairs .chip").last).to_have_text("topic is <b>eggs</b>")
    expect(page.locator("#pairs .found")).to_have_text("1 of 120 pairs")
    page.click("#pairs .chip >> nth=0")
    expect(page.locator("#pairs .found")).to_have_text("60 of 120 pairs")
    lists(page, folder)
    for query, said in (("?audit=../..", "there is no audit"), ('?where=["x","=",1]', "no column 'x'")):
        expect(visit(query).get_by_role("alert")).to_contain_text(said)


def test_a_file_is_mapped_scored_and_opened(visit: Callable[..., Page], tmp_path: Path):
    odd = tmp_path / "odd.csv"
    odd.write_text("question,answer_good,answer_bad\n" + "".join(f"Q {i}?,Boil it {i}.,No.\n" for i in range(30)))
    page = visit()
    page.get_by_role("button", name="Score a dataset").click()
    page.set_input_files("#upload input[type=file]", odd)
    expect(page.locator("#mapping tbody tr")).to_have_count(3)
    expect(page.locator("#map-chosen input")).to_have_value("answer_good")
    page.get_by_label("two responses, and which is better").click()
    expect(page.locator("#map-chosen")).to_have_count(0)
    page.click("#score-data")
    expect(page.locator("#scoring")).to_contain_text("no column was chosen of response A")
    page.get_by_label("a better and a worse response").click()
    page.click("#score-data")
    page.wait_for_url("**/dataset?audit=odd-*")
    expect(page.locator("#pairs .found")).to_have_text("30 pairs")
    expect(page.locator("#headline dd").first).to_contain_text("30")
    page.go_back()
    expect(page.locator("#pairs .found")).to_have_text("120 pairs")
    page.get_by_role("button", name="Score a dataset").click()
    page.get_by_label("Or a file at hand").click()
    page.get_by_role("option", name="data/pairs.jsonl").click()
    expect(page.locator("#scoring")).to_contain_text("its columns are known")
    page.click("#score-data")
    page.wait_for_url("**/dataset?audit=pairs-*")
    expect(page.locator("#pairs .found")).to_have_text("120 pairs")


def test_two_audits_beside_each_other(visit: Callable[..., Page], audits: Path, folder: AuditFolder):
    page = visit()
    page.get_by_label("Beside it").click()
    page.get_by_role("option", name="two").click()
    page.wait_for_url("**with=two")
    with closing(AuditFolder.open(audits / "audits" / "two")) as other:
        here, there = ({row["pair_id"]: row["agrees"] for row in one.page(size=500)} for one in (folder, other))
    changed = sum(here[id] != there[id] for id in here)
    expect(page.locator("#comparison .message")).to_contain_text(
        f"120 pairs in both, matched by their texts; {changed} changed"
    )
    page.click("#comparison .narrow")
    expect(page.locator("#pairs .found")).to_have_text(f"{changed} of 120 pairs")
    assert lists(page, folder).beside == "two"


def test_without_a_model_a_pair_is_shown_on_the_page(
    visit: Callable[..., Page], audits: Path, long_model_dir: Path, folder: AuditFolder
):
    with serving(long_model_dir, "--no-model", "--audits", str(audits / "audits" / "one")) as where:
        page = visit(at=f"{where}/")
        expect(page.get_by_role("button", name="Score a dataset")).to_have_count(0)
        (first,) = folder.page(sort="suspicion", descending=True, size=1)
        page.click("#pairs tbody a >> nth=0")
        expect(page.locator("#heatmap .card")).to_have_count(2)
        pair = folder.pair(first["pair_id"])
        texts = page.locator("#heatmap .s .t").all_text_contents()
        assert texts == [one.strip() for one in (*pair.a.sentences, *pair.b.sentences)]
        page.click("#pairs .chip:has-text('the pair above')")
        expect(page.locator("#heatmap .card")).to_have_count(0)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_every_width_fits_and_axe_finds_nothing(visit: Callable[..., Page], width: int, scheme: str):
    page = visit(query='?audit=one&where=["margin","<",9]&with=two', width=width, color_scheme=scheme)
    page.wait_for_selector(BAR)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert violations(page) == []
    page.get_by_role("button", name="Score a dataset").click()
    assert violations(page) == []
    if width > 1000:
        for name in ("Calibration", "Slices", "Length", "Position", "Style", "Problems"):
            page.get_by_role("tab", name=name, exact=True).click()
            drawn = "#problems table" if name == "Problems" else f"#plot-{name.lower()} .js-plotly-plot"
            page.wait_for_selector(drawn)
            assert violations(page) == [], name
