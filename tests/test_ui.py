"""What the app shows, without a browser: scale, words, structure, sums, contrast, and how `app.py` starts and stops."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import gradio as gr
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentrm import words
from sentrm.heatmap import FULL_BAR, INK_ON_COLOUR, PALETTES, Scale, heatmap_value
from sentrm.influence import Flip
from sentrm.inspection import Inspector, LengthCheck, PromptCheck
from sentrm.links import decode_pair
from sentrm.results import ModelInfo, ScoredPair, ScoredResponse, SegmenterInfo, Span
from sentrm.surgery import Draft, History
from sentrm.ui import charts
from sentrm.ui.carry import carry_value
from sentrm.ui.heatmap import PairHeatmap
from sentrm.ui.inspect import check_words, how_to_read, inspect_page, page_value, read_examples
from sentrm.ui.look import DARK, LIGHT, mount_options
from sentrm.ui.play import Desk, Step
from sentrm.ui.stop import Stop, Stopped
from sentrm.ui.table import Table
from sentrm.ui.understand import alignment_value, cut_line, flip_words, segmentation_value

ROOT = Path(__file__).parents[1]
MODEL = ModelInfo("demo", "0" * 12, "attention", 0.03)
SEGMENTER = SegmenterInfo("rules:en", "sentencex 1", True)


def response(text: str = "One. Two. Three.", rewards=(0.4, 0.5, -0.9, 0.1), weights=(0.1, 0.2, 0.6, 0.1), **changes):
    """A response cut after ". "; its numbers follow the equations from `rewards` and `weights`."""
    spans = [Span(*match.span()) for match in re.finditer(r"\S.*?(?:\. |$)", text, re.DOTALL)][: len(rewards) - 1]
    contributions = tuple(a * d for a, d in zip(weights, rewards, strict=True))
    fields = {
        "prompt": "Count.",
        "text": text,
        "spans": tuple(spans),
        "tokens": tuple(3 for _ in spans),
        "values": tuple(math.fsum(rewards[: i + 1]) for i in range(len(rewards))),
        "rewards": tuple(rewards),
        "weights": tuple(weights),
        "contributions": contributions,
        "score": math.fsum(contributions),
        "dropped_sentences": 0,
        "cut_prompt_tokens": 0,
        "model": MODEL,
        "segmenter": SEGMENTER,
    }
    return ScoredResponse(**{**fields, **changes})


def long_response(count: int) -> ScoredResponse:
    rewards = [0.3] + [math.sin(7.0 * i) for i in range(count)]
    weights = [1 / (count + 1)] * (count + 1)
    return response("A b. " * count, rewards, weights)


PAIR = ScoredPair("p", response(), response("No. Nothing.", (0.4, -0.2, 0.05), (0.5, 0.25, 0.25)))


# Numbers and words


@pytest.mark.parametrize(
    ("number", "text"), [(0.844, "+0.84"), (-0.151, "−0.15"), (0.0, "0.00"), (-0.004, "0.00"), (12.0, "+12.00")]
)
def test_signed_numbers_have_a_true_minus_and_zero_has_no_sign(number, text):
    assert words.signed(number) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.314, "31%"), (0.042, "4.2%"), (0.0996, "10%"), (0.0001, "<0.1%"), (0, "0%")]
)
def test_percent(share, text):
    assert words.percent(share) == text


@pytest.mark.parametrize(
    ("margin", "said"),
    [
        (0.99, "A preferred, 73%"),
        (-0.99, "B preferred, 73%"),
        (0.0, "Even, 50%"),
        (0.015, "Even, 50%"),
        (-0.12, "Nearly even, 53% for B"),
        (9.0, "A preferred, over 99%"),
    ],
)
def test_the_verdict_in_words(margin, said):
    assert words.verdict(1 / (1 + math.exp(-margin))) == said


def test_the_margin_line_never_claims_a_false_sum():
    assert words.margin_line(0.84, -0.15) == "margin +0.99 = 0.84 − (−0.15)"
    assert words.margin_line(0.844, -0.154) == "margin +1.00 ≈ 0.84 − (−0.15)"


def test_a_prompt_without_weight_is_not_said_to_count():
    info = SegmenterInfo("rules:en", "1", own=True)
    for aggregator, said in (("attention", "and the prompt, is"), ("attention_without_prompt", "has no weight")):
        model = dataclasses.replace(MODEL, aggregator=aggregator)
        assert said in " ".join(how_to_read(model, info).split()), aggregator


def test_weights_that_add_up_to_one_are_shares_and_others_factors():
    assert [words.weight_of((0.25, 0.75), i) for i in range(2)] == ["25%", "75%"]
    assert [words.weight_of((1.0, 1.0, 0.96), i) for i in range(3)] == ["1.00", "1.00", "0.96"]
    side = heatmap_value(ScoredPair("", response("A. B.", (0, 1, 2), (0.5, 1.0, 1.5)), PAIR.b))["sides"][0]
    assert [one["weight"] for one in (side["prompt_term"], *side["sentences"])] == ["0.50", "1.00", "1.50"]
    assert ", attention 1.50, contribution" in side["sentences"][1]["label"]


def test_characters_a_screen_cannot_show_are_replaced_one_for_one():
    assert words.visible("a\0b\ud800c\x1b\x7f\t\n\r") == "a␀b\ufffdc␛␡\t\n\r"
    assert words.visible("plain 🙂") == "plain 🙂"


# The scale


@given(
    st.floats(-3, 3),
    st.lists(st.floats(-50, 50), min_size=1, max_size=30),
)
def test_the_scale_holds_every_reward_and_is_no_wider_than_it_must_be(centre, rewards):
    scale = Scale.around(centre, rewards)
    reach = max(abs(reward - centre) for reward in rewards)
    assert scale.edges == tuple(-edge for edge in reversed(scale.edges))
    assert reach <= scale.edges[-1] * (1 + 1e-6)
    assert scale.step <= max(1.35 * reach / 3.5, 0.01 + 1e-9)
    for reward in rewards:
        k = scale.class_of(reward)
        low, high = scale.edges[k], scale.edges[k + 1]
        assert low - 1e-6 * scale.step <= reward - centre <= high + 1e-6 * scale.step or k in (0, 6)


def test_the_ticks_are_the_edges_as_round_numbers():
    scale = Scale.around(0.03, [0.91, -0.62])
    assert scale.step == 0.3
    assert scale.ticks == ("−1.05", "−0.75", "−0.45", "−0.15", "+0.15", "+0.45", "+0.75", "+1.05")
    assert Scale.around(0.0, [0.7]).ticks == ("−0.7", "−0.5", "−0.3", "−0.1", "+0.1", "+0.3", "+0.5", "+0.7")


def test_a_model_without_a_stored_median_says_so():
    unmeasured = dataclasses.replace(MODEL, median_reward=None)
    a, b = (dataclasses.replace(side, model=unmeasured) for side in (PAIR.a, PAIR.b))
    value = heatmap_value(ScoredPair("p", a, b))
    assert value["legend"]["label"] == "reward, logits above zero (this model stores no median sentence)"
    assert value["sides"][0]["sentences"][1]["above"] == "0.900 below the baseline"


def test_colours_are_centred_on_the_median_sentence_and_shared_by_both_responses():
    value = heatmap_value(PAIR)
    step = 0.3  # the largest distance from 0.03 is that of -0.9; 0.93 / 3.5 = 0.27
    classes = [[sentence["class"] for sentence in side["sentences"]] for side in value["sides"]]
    assert classes == [[round((d - 0.03) / step) + 3 for d in r.rewards[1:]] for r in (PAIR.a, PAIR.b)]
    assert value["legend"]["label"] == "reward, logits above the model's median sentence (+0.03)"


def luminance(colour: str) -> float:
    """WCAG 2.2 relative luminance."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", PALETTES)
def test_text_is_readable_on_every_class(palette):
    assert min(contrast(INK_ON_COLOUR, colour) for colour in PALETTES[palette]) >= 4.5


@pytest.mark.parametrize("mode", [LIGHT, DARK])
def test_text_bars_and_controls_stand_out_in_both_modes(mode):
    for background in (mode.page, mode.panel):
        assert min(contrast(text, background) for text in (mode.ink, mode.dim)) >= 4.5
        assert contrast(mode.accent, background) >= 3
    assert contrast(mode.dim, mode.page) >= 3  # weight bars
    assert contrast(mode.field, mode.page) >= 3
    assert contrast(mode.on_accent, mode.accent) >= 4.5


# What the heatmap is given


def test_weight_bars_are_full_at_three_even_shares():
    rewards, weights = (0.1,) * 5, (0.1, 0.05, 0.65, 0.2, 0.0)
    side = heatmap_value(ScoredPair("", response("A. B. C. D.", rewards, weights), PAIR.b))["sides"][0]
    even = sum(weights) / 5
    assert [s["bar"] for s in side["sentences"]] == pytest.approx(
        [min(100, 100 * a / (FULL_BAR * even)) for a in weights[1:]], abs=0.01
    )
    assert [s["over"] for s in side["sentences"]] == [False, True, False, False]
    assert side["sentences"][1]["even"] == "3.2 × even"


def test_a_prompt_without_weight_takes_no_even_share():
    one = response("A. B.", (0.1, 0.2, 0.3), (0.0, 0.5, 0.5))
    assert [s["even"] for s in heatmap_value(ScoredPair("", one, PAIR.b))["sides"][0]["sentences"]] == [
        "1.0 × even"
    ] * 2


def test_a_sentence_says_all_its_numbers():
    sentence = heatmap_value(PAIR)["sides"][0]["sentences"][1]
    assert sentence["label"] == "Sentence 2 of 3, reward -0.90, attention 60 percent, contribution -0.54"
    assert sentence["value"] == "0.900 → 0.000"
    assert sentence["above"] == "0.930 below the baseline"


def test_what_was_not_read_is_said_and_shown():
    a = response("One. Two. Three. Four. Five.", dropped_sentences=2, cut_prompt_tokens=7)
    value = heatmap_value(ScoredPair("", a, PAIR.b), ("A first notice.",))
    assert value["sides"][0]["tail"] == "Four. Five."
    assert value["sides"][1]["tail"] == ""
    assert [notice.split(" ")[0] for notice in value["notices"]] == ["A", "The", "Response"]
    assert "first 7 tokens were not read" in value["notices"][1]
    assert "last 2 of 5 sentences were not read" in value["notices"][2]


def test_another_segmenter_is_named():
    other = SegmenterInfo("sat:sat-3l@0.2", "wtpsplit 2", False)
    pair = ScoredPair("", response(segmenter=other), response(segmenter=other))
    assert "sat:sat-3l@0.2" in heatmap_value(pair)["notices"][0]


def cut_into(text, *ends, segmenter):
    """A response cut at `ends`, its rewards 0.1 each."""
    spans = tuple(Span(start, end) for start, end in zip([0, *ends], [*ends, len(text)], strict=True))
    count = len(spans)
    info = SegmenterInfo(segmenter, "1", True)
    rewards, weights = (0.1,) * (count + 1), (1.0,) * (count + 1)
    return response(text, rewards, weights, spans=spans, tokens=(1,) * count, segmenter=info)


@pytest.mark.parametrize(
    ("segmenter", "unit", "running"),
    [
        ("rules:en", "sentence", False),
        ("sat:response@0.2", "sentence", False),
        ("tokens", "token", True),
        ("entropy:some/lm@2.0", "segment", True),
        ("response", "response", False),
    ],
)
def test_the_page_speaks_of_what_the_segmenter_cuts(segmenter, unit, running):
    a = cut_into("Boil it. Wait.", *([] if unit == "response" else [5]), segmenter=segmenter)
    a = dataclasses.replace(a, dropped_sentences=2)
    pair = ScoredPair("", a, a)
    value = heatmap_value(pair)
    assert (value["unit"], value["running"]) == (unit, running)
    assert value["legend"]["label"].startswith(f"reward, logits above the model's median {unit} (")
    first = value["sides"][0]["sentences"][0]
    place = "the whole response" if unit == "response" else f"{unit} 1 of 2"
    assert first["title"] == f"A · {place}"
    assert first["label"].lower().startswith(f"{place}, reward")
    said = json.dumps([value, charts.table_rows(pair), charts.terms(a, shown=1), how_to_read(MODEL, a.segmenter)])
    assert ("sentence" in re.sub(r'"(sum|sentences)"|"sentences": "', "", said)) == (unit == "sentence")
    assert charts.table_rows(pair)[1][1] == ("response" if unit == "response" else f"{unit} 1")


def test_a_baseline_of_another_segmenter_has_no_median_to_be_measured_from():
    info = SegmenterInfo("rules:en", "1", own=False)
    one = response(segmenter=info)
    value = heatmap_value(ScoredPair("", one, one))
    assert value["legend"]["label"] == "reward, logits above zero (the model's median is that of another segmenter)"
    assert value["sides"][0]["sentences"][1]["above"] == "0.900 below the baseline"
    assert "measured from zero" in " ".join(how_to_read(MODEL, info).split())


@given(st.text(st.sampled_from("a. \n\r\t`🙂"), min_size=1, max_size=30), st.sets(st.integers(1, 29)))
def test_running_text_keeps_every_character(text, ends):
    one = cut_into(text, *sorted(end for end in ends if end < len(text)), segmenter="tokens")
    sentences = heatmap_value(ScoredPair("", one, one))["sides"][0]["sentences"]
    kept = "".join(s["lead"] + s["text"] + s["trail"] for s in sentences if s["text"] != "(white space)")
    inked = [text[start:end] for start, end in one.spans if text[start:end].strip()]
    assert kept.splitlines() == "".join(inked).splitlines()


def test_code_is_known_in_tokens_and_in_a_whole_response():
    text = "Do:\n\n```py\nx = 1\n```\n\nEnd `a` ```b```"
    one = cut_into(text, 5, 8, 11, 13, 22, 25, segmenter="tokens")
    sentences = heatmap_value(ScoredPair("", one, one))["sides"][0]["sentences"]
    assert [s["code"] for s in sentences] == [False, True, True, True, True, False, False]
    whole = cut_into(text, segmenter="response")
    (sentence,) = heatmap_value(ScoredPair("", whole, whole))["sides"][0]["sentences"]
    assert sentence["parts"] == [("Do:\n\n", ""), ("```py\nx = 1\n```", "mono"), ("\n\nEnd `a` ```b```", "")]
    assert not sentence["code"]


def test_structure_of_a_response_is_kept():
    parts = ["Here it is:\n\n", "```python\nif x:\n    y()\n```\n\n", "- one\n  ", "- two\n", "Done. ", "Bye."]
    ends = [sum(map(len, parts[: i + 1])) for i in range(len(parts))]
    spans = tuple(Span(start, end) for start, end in zip([0, *ends], ends, strict=False))
    one = response("".join(parts), (0.1,) * 7, (1 / 7,) * 7, spans=spans, tokens=(1,) * 6)
    sentences = heatmap_value(ScoredPair("", one, PAIR.b))["sides"][0]["sentences"]
    assert [s["text"] for s in sentences] == [part.strip() for part in parts]
    assert [s["gap"] for s in sentences] == [0, 2, 2, 1, 1, 0]
    assert [s["indent"] for s in sentences] == [0, 0, 0, 2, 0, 0]
    assert [s["code"] for s in sentences] == [False, True, False, False, False, False]
    assert [s["item"] for s in sentences] == [False, False, True, True, False, False]


@given(st.text(st.characters(), min_size=1, max_size=60), st.text(max_size=20))
def test_any_text_can_be_shown(text, prompt):
    one = response(text, (0.1, 0.2), (0.5, 0.5), spans=(Span(0, len(text)),), tokens=(1,), prompt=prompt)
    json.dumps(heatmap_value(ScoredPair("", one, one)), ensure_ascii=False).encode("utf-8")


def test_the_template_takes_no_data():
    heatmap = PairHeatmap()
    assert heatmap.html_template == '<div class="pair-heatmap"></div>'
    assert "${" not in heatmap.css_template
    assert "{{" not in heatmap.css_template
    assert "innerHTML" not in heatmap.js_on_load
    assert "insertAdjacentHTML" not in heatmap.js_on_load


# Words compared

ALIKE = ScoredPair(
    "p",
    response("Boil it for nine minutes. Then wait.", (0.1, 0.2, 0.3), (0.4, 0.3, 0.3)),
    response("Sorry. Boil it for ten minutes.", (0.1, 0.2, 0.4), (0.4, 0.3, 0.3)),
)


def test_words_that_the_sentence_alike_has_not_are_marked():
    value = heatmap_value(ALIKE)
    (nine, then), (sorry, ten) = (side["sentences"] for side in value["sides"])
    assert value["compared"]
    assert nine["parts"] == [("Boil it for ", ""), ("nine", "diff"), (" minutes.", "")]
    assert ten["parts"] == [("Boil it for ", ""), ("ten", "diff"), (" minutes.", "")]
    assert [one["only"] for one in (nine, then, sorry, ten)] == [False, True, True, False]
    assert "parts" not in then


def test_nothing_is_marked_where_no_sentences_are_alike():
    value = heatmap_value(PAIR)
    assert not value["compared"]
    assert not any(one["only"] or "parts" in one for side in value["sides"] for one in side["sentences"])


@given(
    st.text(st.sampled_from("ab. \n🙂好"), min_size=1, max_size=30), st.text(st.sampled_from("ab. \n🙂好"), max_size=30)
)
def test_parts_are_the_text_of_their_sentence(a, b):
    pair = ScoredPair("", cut_into(a, segmenter="response"), cut_into(b or ".", segmenter="response"))
    for side in heatmap_value(pair)["sides"]:
        for sentence in side["sentences"]:
            assert "".join(part for part, _ in sentence.get("parts", [(sentence["text"], "")])) == sentence["text"]


def test_a_split_keeps_the_baseline_and_is_said():
    by_hand = SegmenterInfo("by hand", "", own=False)
    value = heatmap_value(ScoredPair("p", PAIR.a, dataclasses.replace(PAIR.b, segmenter=by_hand)))
    assert value["legend"] == heatmap_value(PAIR)["legend"]
    assert value["notices"] == ["Response B was cut by hand, not by the segmenter this model was trained with."]


# What the page says around the heatmap


def desk_of(pair, *past):
    step = Step(Draft.from_response(pair.a), Draft.from_response(pair.b))
    return Desk(pair.prompt, History(past, step))


def test_the_page_says_which_steps_can_be_taken():
    first = page_value(desk_of(PAIR), PAIR)
    assert first["editable"] == {"undo": False, "redo": False, "reset": False, "copy": True}
    later = page_value(desk_of(PAIR, desk_of(ALIKE).step), PAIR)
    assert later["editable"] == {"undo": True, "redo": False, "reset": True, "copy": True}
    assert later["turn"] > first["turn"]
    json.dumps(later)


def test_two_scores_below_zero_are_explained_where_they_stand():
    low = dataclasses.replace(PAIR.a, score=-1.0)
    assert any("not bad in itself" in line for line in page_value(desk_of(PAIR), ScoredPair("", low, low))["findings"])
    high = dataclasses.replace(PAIR.a, score=1.0)
    assert len(page_value(desk_of(PAIR), ScoredPair("", low, high))["findings"]) == 2


def test_the_checks_warn_where_the_preference_turns():
    (prompt,) = check_words(PromptCheck(0.9, 0.4, 0.8), None)
    assert prompt == ("Prompt check", "margin +0.90, without the prompt +0.40, with its words shuffled +0.80", False)
    prompt, length = check_words(PromptCheck(0.9, -0.4, 0.8), LengthCheck(0.9, -0.1))
    assert prompt[2]
    assert length == ("Length check", "margin +0.90, calibrated for length −0.10: the preference turns", True)


def test_a_flip_in_words():
    flip = Flip((1,), (0, 2), 0.4, False, 12345)
    assert flip_words(PAIR, flip) == (
        "Without 3 sentences, A 2, B 1, B 3, B is preferred, 60% (beam search: fewer might do; 12,345 deletions tried)."
    )
    assert "every one that leaves a sentence was tried" in flip_words(PAIR, None)
    assert "beam search" in flip_words(ScoredPair("", long_response(13), PAIR.b), None)


def test_the_tables_place_their_rows_in_the_text():
    table = alignment_value(ALIKE)
    assert [row[:3] for row in table["rows"]] == [
        ["", "", "1  Sorry."],
        ["1  Boil it for nine minutes.", "+0.200", "2  Boil it for ten minutes."],
        ["2  Then wait.", "+0.300", ""],
    ]
    assert table["rows"][1][4] == "−0.200"
    assert table["places"] == [[[1, 0]], [[0, 0], [1, 1]], [[0, 1]]]
    dropped = dataclasses.replace(response("One. Two. Three. Four."), dropped_sentences=1)
    table = segmentation_value(ScoredPair("", dropped, PAIR.b))
    assert [row[1] for row in table["rows"]] == ["1", "2", "3", "not read", "1", "2"]
    assert [row[3] for row in table["rows"][:2]] == ["0–5", "5–10"]
    assert table["rows"][3][2] == "Four."
    assert "1 sentence at the end not read" in cut_line(ScoredPair("", dropped, PAIR.b))


def test_what_is_carried_away():
    for kind, inside in (
        ("html", "<!doctype html>"),
        ("svg", "<svg"),
        ("png", "<svg"),
        ("json", '{"id"'),
        ("csv", "result,"),
    ):
        value = carry_value(ALIKE, kind)
        assert value["text"].startswith(inside)
        assert value["name"].startswith("sentrm-pair.")
    link = carry_value(ALIKE, "link")["query"]
    assert decode_pair(link.removeprefix("?pair=")) == (ALIKE.prompt, ALIKE.a.text, ALIKE.b.text)
    assert not carry_value(ALIKE, "link")["more"]
    assert "by hand" in carry_value(ALIKE, "link", recut=True)["more"]
    long = ScoredPair("", dataclasses.replace(PAIR.a, text="".join(map(chr, range(200, 60000)))[:55000]), PAIR.b)
    assert "Export it as a file" in carry_value(long, "link")["message"]


def test_no_script_of_the_page_parses_markup():
    for file in (ROOT / "sentrm/ui").glob("*.js"):
        script = file.read_text(encoding="utf-8")
        assert not re.search("innerHTML|outerHTML|insertAdjacentHTML|document.write|eval\\(", script), file
    assert "${" not in Table().html_template


def test_stop_ends_what_one_session_has_asked_for_so_far():
    stop, anna, bert = Stop(), gr.Request(session_hash="anna"), gr.Request(session_hash="bert")
    of_anna, of_bert = [stop.watched(anna), stop.watched(anna)], stop.watched(bert)
    stop.press(anna)
    for report in of_anna:
        with pytest.raises(Stopped):
            report(1, 2)
    of_bert(1, 2)
    stop.watched(anna)(1, 2)
    stop.press(gr.Request(session_hash="who has asked for nothing"))


# Charts and table


def test_a_long_waterfall_keeps_the_largest_in_their_place():
    one = long_response(40)
    names = [term.name for term in charts.terms(one)]
    largest = sorted(range(1, 41), key=lambda i: abs(one.contributions[i]))[-10:]
    assert names == ["prompt", *map(str, sorted(largest)), "30 others"]


def test_the_residual_is_printed():
    off = response(score=response().score + 2e-4)
    assert charts.residual(off) == pytest.approx(2e-4)
    assert charts.residual_line("A", off).endswith("residual 2e−04")


def test_labels_of_the_chart_carry_no_markup():
    assert charts.label("<a href=x>Hi</a>.") == "&lt;a href=x&gt;Hi&lt;/a&gt;."


def test_the_table_has_every_term_and_adds_up():
    rows = charts.table_rows(PAIR)
    assert {len(row) for row in rows} == {len(charts.TABLE_HEADERS)}
    assert [row[:2] for row in rows[:5]] == [
        ["A", "prompt"],
        *(["A", f"sentence {i}"] for i in (1, 2, 3)),
        ["A", "score"],
    ]
    numbers = [float(row[7].replace("−", "-")) for row in rows[:5]]
    assert sum(numbers[:4]) == pytest.approx(numbers[4], abs=4e-4)


# The page and its start


class FixedScorer:
    """Stands for a model that must not be asked."""

    model_info, segmenter_info = MODEL, SEGMENTER

    def score(self, items):
        raise AssertionError("scored")


def test_building_the_app_scores_nothing():
    examples = read_examples(ROOT / "assets/examples.jsonl")

    async def build():  # where no event loop runs, gradio opens some and leaves them open
        with gr.Blocks() as app:
            inspect_page(app, Inspector(FixedScorer()), examples)
        return app

    assert asyncio.run(build()).fns


def test_the_look_names_no_other_host():
    options = mount_options()
    assert options["theme"]._stylesheets == []
    assert options["run_history"] is False  # gradio's, of every call, in the reader's browser
    assert "://" not in options["head"]
    for file in (*(ROOT / "sentrm").glob("heatmap.*"), *(ROOT / "sentrm/ui").glob("*.js")):
        assert "http" not in file.read_text(encoding="utf-8").replace("colorbrewer2.org", "")


def run_app(*flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "app.py"), *flags],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
    )


def test_help_shows_every_flag_with_its_default():
    shown = run_app("--help", GRADIO_SERVER_NAME="0.0.0.0", GRADIO_SERVER_PORT="7999", COLUMNS="200").stdout
    for flag in ("model", "host", "port", "segmenter", "device", "dtype", "max-length"):
        assert f"--{flag}" in shown
    assert "(0.0.0.0)" in shown
    assert "(7999)" in shown
    assert "demo-model" in shown


def test_a_model_that_is_none_ends_with_one_line(tmp_path):
    for folder in (tmp_path / "absent", tmp_path):
        ended = run_app("--model", str(folder), "--port", "0")
        assert ended.returncode == 2
        assert ended.stderr.count("\n") == 1
        assert str(folder) in ended.stderr


def test_a_port_in_use_ends_with_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run_app("--port", str(port))
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
    assert "--port" in ended.stderr
