"""The Inspect page as a reader uses it: looked at, clicked, typed into, in light and dark, wide and narrow."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from sentrm.preferences import PreferencePair
from sentrm.results import ScoredPair
from sentrm.scoring import Scorer
from sentrm.ui.inspect import read_examples

pytestmark = pytest.mark.browser

EXAMPLES = read_examples(Path(__file__).parents[2] / "assets/examples.jsonl")
MARKUP = "<img src=x onerror=\"document.title='owned'\"> ${document.title='owned'} `{{x}}` <script>alert(1)</script>"


def scored(scorer: Scorer, prompt: str, a: str, b: str) -> ScoredPair:
    return scorer.score([PreferencePair(prompt=prompt, chosen=a, rejected=b)])[0]


def fill_and_score(page: Page, prompt: str, a: str, b: str) -> None:
    """Fill the fields, score, and wait until this very result, or a message, is drawn."""
    page.evaluate("document.querySelector('.pair-heatmap .live').dataset.old = '1'")
    page.evaluate("document.querySelector('.pair-heatmap .live').firstChild.dataset.old = '1'")
    for field, text in (("#prompt", prompt), ("#a", a), ("#b", b)):
        page.fill(f"{field} textarea", text)
    page.click("#score")
    page.wait_for_function("!document.querySelector('.pair-heatmap .live').firstChild.dataset.old", timeout=60_000)


def number(text: str) -> float:
    """Reads what the page writes; independent of the code that wrote it."""
    assert "-" not in text, "a hyphen stands where a minus sign should"
    return float(text.replace("−", "-").replace("%", ""))


def shown_sentences(page: Page, side: int) -> list[tuple[str, float]]:
    rows = page.locator(".pair-heatmap .card").nth(side).locator(".s")
    texts = rows.locator(".t").all_text_contents()
    rewards = rows.locator(".n").all_text_contents()
    return list(zip(texts, map(number, rewards), strict=True))


def detail(page: Page) -> dict[str, str]:
    cells = page.locator(".detail .field")
    return {cell.locator("small").inner_text(): cell.locator("span").inner_text() for cell in cells.all()}


def test_the_first_visit_shows_the_first_example_with_the_scorers_numbers(open_page, scorer):
    page = open_page()
    first = EXAMPLES[0]
    assert page.input_value("#prompt textarea") == first.prompt
    expect(page.locator("#story")).to_have_text(first.story)
    pair = scored(scorer, first.prompt, first.a, first.b)

    shown = [number(text) for text in page.locator(".verdict .score b").all_text_contents()]
    assert shown == pytest.approx([pair.a.score, pair.b.score], abs=0.0051)
    assert f"{max(pair.probability, 1 - pair.probability):.0%}" in page.inner_text(".verdict .words")
    for side, response in enumerate((pair.a, pair.b)):
        rows = shown_sentences(page, side)
        assert [text for text, _ in rows] == [sentence.strip() for sentence in response.sentences]
        assert [reward for _, reward in rows] == pytest.approx(list(response.rewards[1:]), abs=0.0051)
        if response.dropped_sentences:
            tail = page.locator(".card").nth(side).locator(".tail-text").text_content()
            assert tail == response.text[response.spans[-1].end :]


def test_choosing_an_example_fills_the_fields_and_scores_it(open_page, scorer):
    page = open_page()
    other = EXAMPLES[1]
    page.click("#example input")
    page.get_by_role("option", name=EXAMPLES[2].title).click()  # and another at once: the last one counts
    page.click("#example input")
    page.get_by_role("option", name=other.title).click()
    expect(page.locator("#story")).to_have_text(other.story)
    expect(page.locator("#a textarea")).to_have_value(other.a)
    pair = scored(scorer, other.prompt, other.a, other.b)
    expect(page.locator(".pair-heatmap .t").first).to_have_text(pair.a.sentences[0].strip())
    page.wait_for_url(f"**/?example={other.id}")
    page.fill("#a textarea", "Mine. It stays.")
    assert page.evaluate("location.search") == ""  # no address opens what was typed
    expect(page.locator(".stale-hint")).to_be_visible()
    page.reload()
    expect(page.locator(".pair-heatmap .t").first).to_have_text("Mine.")
    expect(page.locator("#a textarea")).to_have_value("Mine. It stays.")


def test_keys_walk_through_a_response_and_pin(open_page, scorer):
    page = open_page()
    texts = ("Boil water.", "It boils. Add salt. Wait.", "I would not know. Ask a cook.")
    fill_and_score(page, *texts)
    pair = scored(scorer, *texts)
    expect(page.locator(".s[tabindex='0']")).to_have_count(2)  # one tab stop a response

    page.locator(".s").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    focused = page.locator(".s:focus")
    reward, weight, contribution = pair.a.rewards[3], pair.a.weights[3], pair.a.contributions[3]
    said = (
        f"Sentence 3 of 3, reward {reward:+.2f}, attention {100 * weight:.0f} percent, contribution {contribution:+.2f}"
    )
    expect(focused).to_have_attribute("aria-label", said)
    expect(page.locator(f"[id='{focused.get_attribute('aria-describedby')}']")).to_have_text("Wait.")
    seen = detail(page)
    assert seen["A · sentence 3 of 3"] == "Wait."
    assert number(seen["reward"]) == pytest.approx(pair.a.rewards[3], abs=0.00051)
    assert number(seen["contribution"]) == pytest.approx(pair.a.contributions[3], abs=0.00051)
    assert number(seen["weight"]) == pytest.approx(100 * pair.a.weights[3], abs=0.51)
    before, after = map(number, seen["value before → after"].split(" → "))
    assert (before, after) == pytest.approx((pair.a.values[2], pair.a.values[3]), abs=0.00051)
    assert focused.locator(".c").evaluate("node => getComputedStyle(node).outlineStyle") == "solid"

    page.keyboard.press("Enter")
    expect(focused).to_have_attribute("aria-selected", "true")
    page.locator(".s").nth(3).hover()
    assert "A · sentence 3 of 3 · pinned, Esc releases" in detail(page)
    page.keyboard.press("Escape")
    page.locator(".s").nth(4).hover()
    assert detail(page)["B · sentence 2 of 2"] == "Ask a cook."
    page.keyboard.press("Home")
    expect(page.locator(".s").first).to_be_focused()


def test_layout_and_palette_change_at_once_and_keep_the_structure(open_page):
    page = open_page()
    fill_and_score(page, "Write code.", "Here:\n\n```python\nif x:\n    y()\n```\n\n- one\n  - two\n", "No.")
    code = page.locator(".s.code")
    expect(code.locator(".t")).to_have_text("```python\nif x:\n    y()\n```", use_inner_text=True)
    assert "mono" in code.locator(".t").evaluate("node => getComputedStyle(node).fontFamily")
    colour = "node => getComputedStyle(node.querySelector('.c')).backgroundColor"
    before = [node.evaluate(colour) for node in page.locator(".s").all()]
    page.click("button[data-palette=PuOr]")
    assert [node.evaluate(colour) for node in page.locator(".s").all()] != before
    for layout in ("flow", "rows"):
        page.click(f"button[data-layout={layout}]")
        expect(page.locator(f"button[data-layout={layout}]")).to_have_attribute("aria-pressed", "true")
        left = [page.locator(".s", has_text=item).bounding_box()["x"] for item in ("- one", "- two")]
        assert left[0] < left[1]


def test_a_right_to_left_response_is_laid_out_from_the_right(open_page):
    page = open_page()
    fill_and_score(page, "لماذا البحر مالح؟", "تذيب مياه الأمطار المعادن من الصخور.", "It is salt.")
    directions = page.locator(".pair-heatmap .line").evaluate_all("lines => lines.map((line) => line.dir)")
    assert directions == ["rtl", "ltr"]


def test_markup_in_the_fields_stays_text(open_page):
    page = open_page()
    fill_and_score(page, MARKUP, MARKUP, "LaTeX: $\\frac{1}{2}$ and $$x^2$$.")
    assert "".join(page.locator(".card").first.locator(".t").all_text_contents()).replace(" ", "") == MARKUP.replace(
        " ", ""
    )
    page.get_by_role("tab", name="Table", exact=True).click()
    expect(page.locator("#table")).to_contain_text("onerror")
    page.wait_for_timeout(300)
    assert page.title() == "sentrm"
    assert page.locator("#heatmap img, #table img, #charts img, #heatmap a, .js-plotly-plot text a").count() == 0


@pytest.mark.parametrize(
    ("prompt", "a", "b", "said"),
    [
        ("", "One.", "Two.", "the prompt is empty"),
        ("Hello?", " \n\t", "", "response A is only white space, response B is empty"),
    ],
)
def test_missing_input_is_named_and_nothing_is_lost(open_page, prompt, a, b, said):
    page = open_page()
    page.locator(".s").first.focus()
    page.keyboard.press("d")
    expect(page.locator(".history button[data-op=undo]")).to_be_enabled()
    for field, text in (("#prompt", prompt), ("#a", a), ("#b", b)):
        page.fill(f"{field} textarea", text)
    page.click("#score")
    expect(page.get_by_role("alert")).to_contain_text(said)
    expect(page.locator(".history button[data-op=undo]")).to_be_enabled()  # the pair is open still
    expect(page.locator(".stale-hint")).to_be_visible()
    assert [page.input_value(f"{field} textarea") for field in ("#prompt", "#a", "#b")] == [prompt, a, b]
    fill_and_score(page, "Hello?", "One.", "Two.")
    expect(page.locator(".verdict")).to_be_visible()


def test_odd_characters_are_shown_one_for_one(open_page):
    page = open_page()
    page.evaluate(
        """() => {
          const field = document.querySelector('#a textarea');
          field.value = 'A\\u0000b \\ud800 c.';
          field.dispatchEvent(new Event('input'));
          document.querySelector('.pair-heatmap .live').firstChild.dataset.old = '1';
        }"""
    )
    page.click("#score")
    page.wait_for_function("!document.querySelector('.pair-heatmap .live').firstChild.dataset.old")
    assert page.locator(".card .t").first.text_content() == "A\u2400b \ufffd c."
    assert "1 lone surrogate" in page.inner_text(".notices")
    assert "1 NUL character" in page.inner_text(".notices")


def test_a_very_long_response_says_what_was_not_read(open_page):
    page = open_page()
    text = "All work and no play. " * 9090 + "The end."  # about 200,000 characters
    fill_and_score(page, "Write.", text, "No.")
    assert "were not read" in page.inner_text(".notices")
    read = sum(map(len, page.locator(".card").first.locator(".t").all_text_contents()))
    tail = page.locator(".tail-text").text_content()
    assert tail.endswith("The end.")
    assert read + len(tail) > 0.95 * len(text)
    assert page.input_value("#a textarea") == text


def test_a_first_sentence_that_does_not_fit_is_refused_in_words(open_page):
    page = open_page()
    page.fill("#a textarea", "x" * 200_000)
    page.click("#score")
    expect(page.get_by_role("alert")).to_contain_text("Response A: the first sentence has")


def test_ctrl_enter_scores_and_an_edit_marks_the_result_as_old(open_page):
    page = open_page()
    page.fill("#a textarea", "Something else.")
    expect(page.locator(".stale-hint")).to_be_visible()
    page.keyboard.press("Control+Enter")
    expect(page.locator(".pair-heatmap .t").first).to_have_text("Something else.")
    expect(page.locator(".stale-hint")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1440])
def test_every_width_and_mode_fits_and_is_readable(open_page, scheme, width):
    page = open_page(width=width, color_scheme=scheme)
    for layout in ("flow", "rows"):
        page.click(f"button[data-layout={layout}]")
        assert page.evaluate("document.documentElement.scrollWidth") == width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    chart_text = page.locator("#plot-margin .xtick text").first.evaluate("node => getComputedStyle(node).fill")
    assert chart_text == page.evaluate("getComputedStyle(document.body).color")


def test_five_hundred_sentences_a_side_are_drawn_quickly(open_page, scorer):
    page = open_page()
    a, b = (" ".join(f"{word} {i}." for i in range(500)) for word in ("Yes", "Nay"))
    fill_and_score(page, "Count.", a, b)
    pair = scored(scorer, "Count.", a, b)
    assert len(pair.a.spans) == len(pair.b.spans) == 500
    for side, response in enumerate((pair.a, pair.b)):
        rewards = [reward for _, reward in shown_sentences(page, side)]
        assert rewards == pytest.approx(list(response.rewards[1:]), abs=0.0051)
    built = float(page.locator(".pair-heatmap").get_attribute("data-drawn"))
    painted = page.evaluate(
        """() => new Promise((done) => {
          const start = performance.now();
          document.querySelector('button[data-layout=flow]').click();
          requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
        })"""
    )
    print(f"1,000 sentences: built in {built:.0f} ms, laid out anew and painted in {painted:.0f} ms")
    assert built < 900  # 300 is the goal; machines differ
    assert painted < 1500


def test_words_that_differ_are_underlined_until_switched_off(open_page):
    page = open_page()
    fill_and_score(page, "Eggs?", "Boil it for nine minutes.", "Boil it for ten minutes. Good luck.")
    assert page.locator(".diff").all_text_contents() == ["nine", "ten"]
    assert page.locator(".s.only .t").all_text_contents() == ["Good luck."]
    line = "node => getComputedStyle(node).textDecorationLine"
    assert page.locator(".diff").first.evaluate(line) == "underline"
    page.click("button[data-diff]")
    assert page.locator(".diff").first.evaluate(line) == "none"


def test_another_segmenter_is_marked_and_can_be_undone(open_page):
    page = open_page()
    fill_and_score(page, "Eggs?", "Boil it. Wait.", "No.")
    page.get_by_role("tab", name="Segmentation").click()
    page.click("#segmenter input")
    page.get_by_role("option", name="tokens").click()
    expect(page.locator(".notices")).to_contain_text("cut by tokens, which is not the segmenter")
    expect(page.locator("#segmentation")).to_contain_text("token")
    page.click(".history button[data-op=undo]")
    expect(page.locator(".s[data-side='0'] .t")).to_have_text(["Boil it.", "Wait."])
    expect(page.locator("#segmenter input")).to_have_value("rules:en (the model's own)")


def test_the_smallest_flip_is_found_and_can_be_tried(open_page, scorer):
    page = open_page()
    a, b = "Boil it. Wait a while. Then peel it. Good luck.", "I would not know. Ask a cook. Sorry."
    fill_and_score(page, "Eggs?", a, b)
    before = scored(scorer, "Eggs?", a, b).probability > 0.5
    page.get_by_role("tab", name="Influence").click()
    expect(page.locator("#plot-influence .js-plotly-plot .point")).not_to_have_count(0)
    page.locator(".s").first.click()
    (lost,) = {number(text) for text in re.findall(r"left out (\S+)", page.inner_text(".detail"))}
    pair = scored(scorer, "Eggs?", a, b)
    without = scored(scorer, "Eggs?", a.partition(" ")[2].partition(" ")[2], b)
    assert lost == pytest.approx(pair.a.score - without.a.score, abs=0.00051)
    page.click("#flip")
    line = page.locator("#flip-line [role=status]")
    expect(line).to_contain_text("exact: no fewer do")
    page.get_by_role("tab", name="Table", exact=True).click()
    page.get_by_role("tab", name="Influence").click()
    expect(line).to_contain_text("exact: no fewer do")
    page.locator("#remove").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".history button[data-op=undo]")).to_be_enabled()
    expect(line).to_be_empty()  # it was found out about another pair
    expect(page.locator("#flip")).to_be_focused()
    after = [page.input_value(f"{field} textarea") for field in ("#a", "#b")]
    assert (scored(scorer, "Eggs?", *after).probability > 0.5) != before


def test_stop_ends_what_takes_long_and_nothing_else_waits_for_it(open_page):
    page = open_page()
    expect(page.locator("#stop")).to_be_hidden()
    a, b = (" ".join(f"{word} {i}." for i in range(60)) for word in ("Yes", "Nay"))
    fill_and_score(page, "Count.", a, b)
    page.get_by_role("tab", name="Influence").click()
    expect(page.locator("#plot-influence .js-plotly-plot .point")).to_have_count(120, timeout=60_000)
    page.click("#flip")
    expect(page.locator("#stop")).to_be_visible()
    fill_and_score(page, "Count.", "One. Two.", "Three.")  # while it is searched
    page.click("#flip")
    expect(page.locator("#flip-line")).to_contain_text("deletion", timeout=60_000)
    expect(page.locator("#stop")).to_be_hidden()
    fill_and_score(page, "Count.", a, b)
    expect(page.locator("#plot-influence .js-plotly-plot .point")).to_have_count(120, timeout=60_000)
    page.click("#flip")
    page.click("#stop")
    expect(page.locator("#stop")).to_be_hidden()
    expect(page.locator("#flip-line")).not_to_contain_text("deletion")
