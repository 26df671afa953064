"""The result of an evaluation as text, Markdown and a page: the same numbers, text from data stays text."""

from __future__ import annotations

import copy
import re

import plotly.graph_objects as go
import pytest
from pages import Reader, embedded
from rich.console import Console

from training.charts import auroc_chart, quintiles_chart
from training.evaluation_report import html_page, markdown, print_result

HOSTILE = '</script><script>alert(1)</script> <img src=x onerror="alert(2)"> | `${3}` &amp; [red]*a*[/red]\n\x1b[31m'
SPOKEN = " ".join(HOSTILE.replace("\x1b", "␛").split())
NAMES = ("reward", "contribution", "weight", "leave_one_out", "length", "position", "random")


def est(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, float | None]:
    return {"value": value, "low": low, "high": high}


def subset(accuracy: dict, longer: float, shorter: float, gain: dict) -> dict:
    return {"accuracy": accuracy, "always_longer": longer, "always_shorter": shorter, "gain": gain, "comparisons": 50}


def sentences(reward: dict, first_error: bool) -> dict:
    figures = {name: reward if name == "reward" else est(0.5 + i / 100) for i, name in enumerate(NAMES)}
    return {
        "responses": 30,
        "sentences": 200,
        "labelled": 180,
        "bad": 60,
        "auroc": figures,
        "top1": figures,
        "chance": est(0.333),
        "first_error_responses": 12 if first_error else 0,
        "first_error": figures if first_error else None,
        "first_error_chance": est(0.21) if first_error else None,
    }


COMMON = {
    "benchmark": "pairs",
    "model": {"name": "a-model", "revision": "r1", "aggregator": "attention"},
    "segmenter": {"spec": "rules:en", "revision": "1", "own": True},
    "data": [
        {"path": "a/file.jsonl.gz", "sha256": "0123abcd4567ef89", "rows": 1234},
        {"hub": "some/set", "split": None, "revision": "ab" * 20},
    ],
    "seed": 7,
    "limit": None,
    "held_out": True,
    "draws": 500,
    "command": "python -m training.evaluate a-model --benchmark pairs",
    "commit": "c0ffee-dirty",
    "date": "2026-11-21",
    "versions": {"torch": "9.9"},
    "seconds": 150.0,
    "problems": ["2 rows left out: no rejected response"],
    "items": 60,
    "responses": 111,
    "dropped_sentences": 3,
    "cut_prompts": 4,
}
MEASURES = subset(est(0.62345, 0.5, 0.71), 0.4, 0.55, est(0.07345, -0.0131, 0.15)) | {
    "ties": 2,
    "length_quintiles": [
        {"from": -1200.0, "to": -40.0, "comparisons": 20, "accuracy": 0.25},
        {"from": -40.0, "to": 3.0, "comparisons": 30, "accuracy": 0.5},
        {"from": 3.0, "to": 3.0, "comparisons": 0, "accuracy": None},
        {"from": 3.0, "to": 90.0, "comparisons": 0, "accuracy": None},
        {"from": 90.0, "to": 2100.0, "comparisons": 10, "accuracy": 0.9},
    ],
    "score_length_correlation": est(-0.2149, -0.3, -0.1),
    "score_sentences_correlation": est(None),
    "expected_calibration_error": 0.0476,
    "prompt_blind_accuracy": est(0.511, 0.4, 0.6),
    "length_calibrated_accuracy": est(0.58, 0.5, 0.66),
    "weight_entropy": None,
}
PAIRS = COMMON | {
    "figures": {"accuracy": est(0.62345, 0.5, 0.71)},
    "measures": MEASURES,
    "subsets": {
        "first": subset(est(0.7, 0.6, 0.8), 0.3, 0.6, est(0.1, 0.02, 0.18)) | {"items": 52, "prompts": 40},
        "few": subset(est(0.5), 0.6, 0.4, est(-0.1)) | {"items": 8, "prompts": 8},
    },
}
REWARDBENCH = PAIRS | {"figures": {"section average": est(0.571, 0.55, 0.59), "Chat": est(0.66)}}
MARKED = COMMON | {
    "figures": {"AUROC of reward": est(0.7149, 0.66, 0.77), "top-1 of reward": est(0.5, 0.4, 0.6)},
    "sentences": {name: sentences(est(0.7149, 0.66, 0.77), True) for name in ("all", "one", "other")},
}
CORRUPTIONS = PAIRS | {"benchmark": "corruptions"} | {"sentences": {"negation": sentences(est(0.8, 0.7, 0.9), False)}}
KINDS = {"pairs": PAIRS, "rewardbench": REWARDBENCH, "sentences": MARKED, "corruptions": CORRUPTIONS}


def printed(result: dict, capsys: pytest.CaptureFixture[str], width: int = 80) -> str:
    print_result(result, Console(width=width, color_system=None))
    return capsys.readouterr().out


def test_the_text_says_the_numbers(capsys):
    text = printed(PAIRS, capsys)
    assert "pairs · a-model: accuracy 62.3% (50.0 to 71.0)" in text
    every = r"^all +60 +62\.3% +50\.0 to 71\.0 +40\.0% +55\.0% +\+7\.3 +−1\.3 to \+15\.0$"
    assert re.search(every, text, re.MULTILINE)
    assert re.search(r"^few +8 +50\.0% +60\.0% +40\.0% +−10\.0 *$", text, re.MULTILINE)  # no interval below ten prompts
    assert re.search(r"^−1,200 to −40 +20 +25\.0%$", text, re.MULTILINE)
    assert "to +3  " not in text.replace("−40 to +3", "")  # a bin without comparisons is left out
    assert re.search(r"^score and length +−0\.21 +−0\.30 to −0\.10 +near 0 *$", text, re.MULTILINE)
    assert re.search(r"^score and number of sentences +not defined +near 0 *$", text, re.MULTILINE)
    assert re.search(r"^expected calibration error +0\.048 ", text, re.MULTILINE)
    assert "2 rows left out: no rejected response" in text
    assert "Official figures" not in text  # there is one, and it is in the first line
    narrow = printed(PAIRS, capsys, width=70)  # without the two rules
    assert re.search(r"^all +60 +62\.3% +50\.0 to 71\.0 +\+7\.3 +−1\.3 to \+15\.0$", narrow, re.MULTILINE)
    assert re.search(r"^Chat +66\.0% *$", printed(REWARDBENCH, capsys), re.MULTILINE)


def test_the_text_of_sentences(capsys):
    text = printed(MARKED, capsys)
    assert "AUROC of reward 0.715 (0.660 to 0.770)" in text
    assert re.search(r"^reward +0\.715 +0\.660 to 0\.770 +71\.5% +66\.0 to 77\.0 +71\.5% ", text, re.MULTILINE)
    assert re.search(r"^leave one out +0\.530 ", text, re.MULTILINE)
    assert re.search(r"^chance +0\.500 +33\.3% +21\.0% *$", text, re.MULTILINE)
    assert re.search(r"^other +(30 +60 +)?0\.715 +0\.510 ", text, re.MULTILINE)
    assert "first\n" not in printed(CORRUPTIONS, capsys)  # no step data, no first error


@pytest.mark.parametrize("kind", KINDS)
def test_lines_fit_the_console(kind, capsys):
    result = copy.deepcopy(KINDS[kind])
    for part in ("subsets", "sentences"):
        if part in result:
            result[part]["a-subset-with-a-very-long-name-indeed" * 2] = next(iter(result[part].values()))
    text = printed(result, capsys)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text  # no number is cut


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (est(0.1, 0.02, 0.2), "Better than “always shorter”, the better rule that only looks at length (55.0%): +10.0"),
        (est(0.1, -0.02, 0.2), "not by more than chance explains: +10.0 points (−2.0 to +20.0)"),
        (est(0.0, -0.1, 0.1), "Not better than “always shorter”"),
        (est(-0.1, -0.2, -0.02), "Worse than “always shorter”"),
        (est(0.1), "too few prompts for an interval"),
    ],
)
def test_the_verdict_follows_the_interval(gain, said):
    result = PAIRS | {"measures": MEASURES | {"gain": gain}}
    assert said in Reader(html_page(result)).text
    assert said in markdown(result)


@pytest.mark.parametrize(
    ("reward", "said"),
    [
        (est(0.6, 0.55, 0.65), "better than chance: the whole interval lies above 0.5. “position”"),
        (est(0.6, 0.45, 0.65), "not by more than chance explains"),
        (est(0.45, 0.4, 0.55), "not better than chance"),
        (est(0.39, 0.31, 0.48), "worse than chance: the whole interval lies below 0.5"),
        (est(0.6), "too few prompts for an interval"),
        (est(None), "No response has both good and bad sentences"),
    ],
)
def test_the_verdict_on_sentences(reward, said, capsys):
    result = MARKED | {"sentences": {"one": sentences(reward, False)}, "figures": {"AUROC of reward": reward}}
    assert said in " ".join(printed(result, capsys).split())
    assert said in Reader(html_page(result)).text


@pytest.mark.parametrize(
    ("accuracy", "said"),
    [
        (est(0.62, 0.55, 0.7), "The accuracy is better than chance: the whole interval lies above 50%."),
        (est(0.52, 0.45, 0.6), "The accuracy is above 50%, but not by more than chance explains."),
        (est(0.4, 0.3, 0.49), "The accuracy is worse than chance"),
        (est(0.5, 0.4, 0.6), "The accuracy is not better than chance, 50%."),
        (est(0.6), "Chance is 50%; too few prompts for an interval."),
    ],
)
def test_the_verdict_on_corruptions_knows_no_rule_of_length(accuracy, said, capsys):
    result = CORRUPTIONS | {"measures": MEASURES | {"accuracy": accuracy}}
    assert said in " ".join(printed(result, capsys).split())
    assert said in markdown(result)
    page = html_page(result)
    first = page[page.index('<section class="verdict">') : page.index('<dl class="facts">')]
    assert said in Reader(first).text
    assert "chance 50.0%" in Reader(first).text
    assert "always" not in first


@pytest.mark.parametrize("kind", KINDS)
def test_text_markdown_and_page_have_the_same_tables(kind, capsys):
    result = KINDS[kind]
    page = Reader(html_page(result))
    shown = {cell for table in page.tables for row in table[1:] for cell in row if cell}
    shown |= set(re.findall(r"\d[\d.,]*%?", page.text))
    lines = [line.strip("| ") for line in markdown(result).splitlines() if line.startswith("| ")]
    numbers = [n for line in lines for n in re.findall(r"\d[\d.,]*%?", line)]
    assert len(numbers) > 20
    assert {n for n in numbers if not any(n in cell for cell in shown)} == set()
    wide = printed(result, capsys, width=160)
    assert {n for n in numbers if n not in wide} == set()
    for table in page.tables:
        assert len({len(row) for row in table}) == 1  # as many cells in each row as headings


def test_the_page_says_how_to_run_and_to_cite_it():
    text = Reader(html_page(CORRUPTIONS)).text
    said = [
        "a/file.jsonl.gz · 1,234 rows · sha256 0123abcd4567ef89",
        "some/set",
        "ab" * 20,
        "c0ffee-dirty",
        "torch 9.9",
        "seed7",
    ]
    said += ["of the held-out tenth", "2 min", "500 bootstrap samples", "arXiv 2409.17407", "arXiv 2503.04793"]
    said += ["111 responses scored; 3 of them without", COMMON["command"]]
    assert [one for one in said if one not in text] == []
    other = CORRUPTIONS | {"segmenter": {"spec": "sat:x", "revision": None, "own": False}, "commit": None}
    assert "segmenter sat:x, not the model's own" in Reader(html_page(other)).text
    assert "arXiv 2503.04793" not in html_page(PAIRS).partition("<script")[0]  # nothing of sentences is cited


def test_text_and_markdown_end_with_what_gives_the_numbers_again(capsys):
    result = PAIRS | {"model": PAIRS["model"] | {"revision": "0f" * 32}}
    ended = "seed 7, commit c0ffee-dirty, 2026-11-21, a-model revision 0f0f0f0f0f0f; data: a/file.jsonl.gz · 1,234 rows"
    ended += " · sha256 0123abcd4567; some/set · split of the benchmark · revision abababababab"
    assert " ".join(printed(result, capsys).split()).endswith(f"{COMMON['command']} {ended}")
    assert markdown(result).endswith(f"\n\n`{COMMON['command']}` ({ended})\n")


def test_hostile_text_stays_text(capsys):
    result = copy.deepcopy(PAIRS) | {
        "sentences": {"all": sentences(est(0.6), True), HOSTILE: sentences(est(0.6), True)}
    }
    result |= {"benchmark": HOSTILE, "command": HOSTILE, "commit": HOSTILE, "problems": [HOSTILE]}
    result |= {"data": [{"path": HOSTILE, "sha256": "0", "rows": None}], "versions": {HOSTILE: "1"}}
    result |= {"model": {"name": HOSTILE, "revision": HOSTILE, "aggregator": "mean"}}
    result |= {"figures": {HOSTILE: est(0.5), "b": est(0.5)}}
    result["subsets"][HOSTILE] = result["subsets"]["few"]
    page = html_page(result)
    reader = Reader(page)
    assert reader.tags.count("script") == 3  # the data, plotly, and what draws
    assert not {"img", "link", "iframe"} & set(reader.tags)
    assert not [name for name, _ in reader.attributes if name.startswith("on") or name in ("src", "href")]
    assert " ".join(reader.text.split()).count(SPOKEN) >= 10
    assert "\x1b" not in page
    data = embedded(page)
    assert list(data["result"]["subsets"])[-1] == HOSTILE
    assert "<" not in data["charts"]["sentence-subsets"]["layout"]["yaxis"]["ticktext"][1]

    text = printed(result, capsys, width=400)
    assert SPOKEN in text  # markup of rich is not read
    assert "\x1b" not in text
    lines = [line for line in markdown(result).splitlines() if "script" in line and line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {3, 7, 11}  # figures, subsets, sentences
    assert not [line for line in lines if re.search(r"(?<!\\)[<`]", line)]


def test_plotly_takes_the_charts_and_they_show_the_numbers():
    charts = embedded(html_page(CORRUPTIONS | {"sentences": MARKED["sentences"]}))["charts"]
    assert set(charts) == {"length", "sentences", "sentence-subsets"}
    for chart in charts.values():
        go.Figure(chart)  # raises for a name or value that plotly does not know
    longer, shorter, model = (trace["y"] for trace in charts["length"]["data"])
    assert (longer, shorter, model) == ([0.0, None, 1.0], [1.0, None, 0.0], [0.25, 0.5, 0.9])
    (dots,) = charts["sentences"]["data"]
    assert dots["x"] == [0.7149, 0.51, 0.52, 0.53, 0.54, 0.55, 0.56]
    assert dots["error_x"]["array"][0] == pytest.approx(0.77 - 0.7149)
    assert dots["error_x"]["arrayminus"][0] == pytest.approx(0.7149 - 0.66)
    assert dots["error_x"]["array"][1] == 0  # no interval
    low, high = charts["sentences"]["layout"]["xaxis"]["range"]
    assert low < 0.5 < 0.77 < high
    assert auroc_chart([("a", est(None)), ("b", est(0.4))])["layout"]["yaxis"]["ticktext"] == ["b"]
    assert quintiles_chart(MEASURES["length_quintiles"][:1])["data"][2]["y"] == [0.25]
