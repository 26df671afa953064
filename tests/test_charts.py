"""The charts of a pair and what they measure: every sum ends at the printed number, every point says whose it is."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import pytest
from test_ui import MODEL, PAIR, long_response, response

from sentrm.aggregation import AGGREGATORS
from sentrm.attention_health import FIXED_WEIGHTS, attention_health, deciding_sentence, partings
from sentrm.results import ScoredPair, SegmenterInfo
from sentrm.ui import chart_words as words
from sentrm.ui import pair_charts as charts

LONG = ScoredPair("", long_response(40), long_response(25))
PAIRS = pytest.mark.parametrize("pair", [PAIR, LONG], ids=["short", "long"])


def left_out_of(pair: ScoredPair) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return pair.a.contributions[1:], pair.b.contributions[1:]


def number(text: str) -> float:
    return float(text.replace("−", "-"))


# The margin


@PAIRS
def test_the_margin_waterfall_walks_through_the_score_of_a_to_the_margin(pair):
    bars = charts.margin_waterfall(pair).data[1]
    ends = [base + move for base, move in zip(bars.base, bars.x, strict=True)]
    ticks = charts.margin_waterfall(pair).layout.yaxis.ticktext
    at = ticks.index("<b>score of A</b>")
    assert ends[at] == pair.a.score
    assert ends[at - 1] == pytest.approx(pair.a.score, abs=1e-9)
    assert ends[-1] == pair.margin
    assert ends[-2] == pytest.approx(pair.margin, abs=1e-9)
    steps = [i for i in range(1, len(ends)) if bars.base[i] != 0.0]
    assert all(bars.base[i] == pytest.approx(ends[i - 1], abs=1e-9) for i in steps)


def test_a_contribution_of_b_is_mirrored_and_colours_say_whom_a_bar_speaks_for():
    bars = charts.margin_waterfall(PAIR).data[1]
    moves = {
        tuple(at): (move, colour) for at, move, colour in zip(bars.customdata, bars.x, bars.marker.color, strict=True)
    }
    for i in (0, 1):
        assert moves[(1, i)][0] == -PAIR.b.contributions[i + 1]
        assert moves[(0, i)][0] == PAIR.a.contributions[i + 1]
    sentences = [value for (_, i), value in moves.items() if i is not None]
    assert {(move > 0, colour) for move, colour in sentences} == {(True, charts.COLOURS[0]), (False, charts.COLOURS[1])}


def test_ten_sentences_a_side_have_a_bar_and_the_others_share_one():
    bars = charts.margin_waterfall(LONG).data[1]
    for side, one in enumerate((LONG.a, LONG.b)):
        shown = [i for s, i in bars.customdata if s == side and i is not None]
        largest = sorted(range(len(one.spans)), key=lambda i: -abs(one.contributions[i + 1]))[:10]
        assert shown == [*sorted(largest), charts.OTHERS]


def test_every_number_stays_inside_the_waterfall():
    for pair in (PAIR, LONG, ScoredPair("", PAIR.b, PAIR.a)):
        figure = charts.margin_waterfall(pair)
        low, high = figure.layout.xaxis.range
        ends = [base + move for base, move in zip(figure.data[1].base, figure.data[1].x, strict=True)]
        assert low < min(0, *ends)
        assert max(0, *ends) < high


@PAIRS
def test_the_rows_of_the_margin_add_up(pair):
    rows = words.margin_rows(pair)
    assert {len(row) for row in rows} == {len(words.MARGIN_HEADERS)}
    assert len(rows) == len(pair.a.contributions) + len(pair.b.contributions) + 1
    assert rows[-1][-1] == rows[-2][-1]
    assert sum(number(row[4]) for row in rows[:-1]) == pytest.approx(pair.margin, abs=5e-5 * len(rows))


# Curves


@PAIRS
def test_curves_end_at_the_score_and_the_last_value(pair):
    for figure, last, all_values in (
        (charts.cumulative_curves(pair), "score", None),
        (charts.value_curves(pair), None, "values"),
    ):
        for side, (line, one) in enumerate(zip(figure.data, (pair.a, pair.b), strict=True)):
            if last:
                assert line.y[-1] == one.score
                partial = [math.fsum(one.contributions[: i + 1]) for i in range(len(one.contributions))]
                assert list(line.y) == pytest.approx(partial, abs=1e-9)
            if all_values:
                assert list(line.y) == list(one.values)
            assert list(line.customdata) == [[side, None], *([side, i] for i in range(len(one.spans)))]
            assert number(re.search(r"[+−]?\d+\.\d+", line.name)[0]) == pytest.approx(line.y[-1], abs=5.1e-3)
    rows = words.curve_rows(pair)
    assert {len(row) for row in rows} == {len(words.CURVE_HEADERS)}
    assert number(rows[len(pair.a.values) - 1][4]) == pytest.approx(pair.a.score, abs=5.1e-5)
    assert number(rows[-1][3]) == pytest.approx(pair.b.values[-1], abs=5.1e-5)


# Weight against influence


def test_signs_that_differ_and_ranks_far_apart_part():
    one = response("A. B. C. D.", (0.0, 0.8, 0.4, -0.2, 0.1), (1.0,) * 5)
    assert partings(one, (0.9, 0.3, -0.1, 0.2)) == ()
    (other,) = partings(one, (0.9, -0.3, -0.1, 0.2))
    assert (other.sentence, other.other_sign) == (1, True)
    swapped = partings(one, (0.01, 0.5, -0.3, 0.9))
    assert [(p.sentence, p.other_sign, p.rank, p.rank_left_out) for p in swapped] == [
        (3, False, 4, 1),
        (0, False, 1, 4),
    ]
    assert partings(one, (0.9, -0.001, -0.2, 0.1)) == ()  # too small to have a sign


def test_ties_share_a_rank():
    one = response("A. B. C. D. E.", (0.0, -1.0, 0.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0, 0.0, 0.0))
    assert partings(one, (-1.0, 0.4, 0.3, 0.2, 0.1)) == ()


def test_a_value_for_each_sentence_is_asked_for():
    with pytest.raises(ValueError, match="got 2 leave-one-out values for 3 sentences"):
        charts.influence_scatter(PAIR, ((0.1, 0.2), (0.1, 0.2)))


def test_the_scatter_marks_where_they_part_and_the_words_name_it():
    left_out = ((0.1, 0.5, 0.01), (-0.05, 0.01))  # the second sentence of A counts against it but was needed
    assert [p.sentence for p in partings(PAIR.a, left_out[0])] == [1]
    figure = charts.influence_scatter(PAIR, left_out)
    a = figure.data[1]
    assert list(a.x) == list(PAIR.a.contributions[1:])
    assert list(a.y) == list(left_out[0])
    assert list(a.text) == ["", "A 2", ""]
    assert max(a.marker.size) == a.marker.size[1] > a.marker.size[0]
    assert [list(at) for trace in figure.data[1:] for at in trace.customdata] == [
        [0, 0],
        [0, 1],
        [0, 2],
        [1, 0],
        [1, 1],
    ]
    assert words.influence_line(PAIR, left_out).endswith("They part at A 2 (other sign).")
    rows = words.influence_rows(PAIR, left_out)
    assert [row[-1] for row in rows] == ["", "other sign", "", "", ""]
    assert {len(row) for row in rows} == {len(words.INFLUENCE_HEADERS)}
    assert "agree" in words.influence_line(PAIR, left_out_of(PAIR))


# Attention


def test_the_effective_number_of_even_weights_is_their_number():
    even = response(rewards=(0.1,) * 4, weights=(0.25,) * 4)
    health = attention_health(even)
    assert health.effective == pytest.approx(4)
    assert (health.places, health.largest) == (4, 0.25)
    heaped = attention_health(response(weights=(0.0, 0.0, 1.0, 0.0)))
    assert (heaped.effective, heaped.places, heaped.largest, heaped.at) == (1.0, 3, 1.0, 2)


def test_weights_of_any_scale_and_sign_are_normalised():
    one, scaled = (attention_health(response(weights=w)) for w in ((0.1, 0.2, 0.6, 0.1), (0.4, -0.8, 2.4, 0.4)))
    assert dataclasses.astuple(one) == pytest.approx(dataclasses.astuple(scaled))
    by_hand = math.exp(-sum(p * math.log(p) for p in (0.1, 0.2, 0.6, 0.1)))
    assert one.effective == pytest.approx(by_hand)


def test_there_is_no_attention_where_weights_are_fixed_or_nothing():
    assert set(AGGREGATORS) >= FIXED_WEIGHTS
    last = response(weights=(1.0,) * 4, model=dataclasses.replace(MODEL, aggregator="last"))
    assert attention_health(last) is None
    assert "fixed (last)" in words.health_line("A", last)
    nothing = response(weights=(0.0,) * 4)
    assert attention_health(nothing) is None
    assert "no weight" in words.health_line("A", nothing)


def test_one_sentence_decides_if_the_rest_together_could_not_turn_it():
    assert deciding_sentence(response()) == 1  # -0.54 against 0.04 + 0.10 + 0.01
    assert "sentence 2 contributes more than all the rest" in words.health_line("A", response())
    assert deciding_sentence(response(rewards=(0.0, 0.5, 0.3, 0.2), weights=(1.0,) * 4)) is None  # a draw
    assert deciding_sentence(response(rewards=(0.9, 0.1, -0.5, 0.0), weights=(1.0,) * 4)) is None  # the prompt counts
    assert deciding_sentence(response("One.", (0.0, 1.0), (0.0, 1.0))) is None


def test_the_health_line_says_spread_and_largest_share():
    said = words.health_line("B", response())
    effective = math.exp(-sum(p * math.log(p) for p in (0.1, 0.2, 0.6, 0.1)))
    assert f"as if {effective:.1f} of 4 places (3 sentences and the prompt)" in said
    assert "60%, is that of sentence 2" in said


# All of them


def all_figures(pair):
    return [
        charts.margin_waterfall(pair),
        charts.cumulative_curves(pair),
        charts.value_curves(pair),
        charts.influence_scatter(pair, left_out_of(pair)),
    ]


def test_no_chart_carries_markup_of_a_response():
    one = response("<a href=x>Hi</a>. <img src=y>.", (0.1, 0.2, 0.1), (0.5, 0.25, 0.25))
    for figure in all_figures(ScoredPair("", one, one)):
        said = json.dumps(figure.to_plotly_json(), default=str)
        assert "&lt;a href" in said or "&lt;" in said
        assert "<a" not in said
        assert "<img" not in said


def test_a_response_without_a_sentence_and_equal_ones_have_charts():
    empty = response("", (0.3,), (1.0,), spans=(), tokens=())
    for pair in (ScoredPair("", empty, empty), ScoredPair("", PAIR.a, PAIR.a), ScoredPair("", PAIR.a, empty)):
        assert len(all_figures(pair)) == 4
        words.margin_rows(pair), words.curve_rows(pair), words.health_line("A", empty)


@pytest.mark.parametrize(("spec", "unit"), [("tokens", "token"), ("response", "response")])
def test_charts_speak_of_what_the_segmenter_cuts(spec, unit):
    info = SegmenterInfo(spec, "1", True)
    one = response("One. Two.", (0.1, 0.2, 0.3), (0.2, 0.3, 0.5), segmenter=info)
    if unit == "response":
        one = response("One.", (0.1, 0.2), (0.5, 0.5), segmenter=info)
    pair = ScoredPair("", one, one)
    said = json.dumps([figure.to_plotly_json() for figure in all_figures(pair)], default=str)
    said += words.health_line("A", one) + words.influence_line(pair, left_out_of(pair)) + str(words.margin_rows(pair))
    assert "sentence" not in said
    assert unit in said
