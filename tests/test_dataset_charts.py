"""The charts and tables of an audit: what a point or a row says it stands for is what its filter finds."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
from test_audit_summary import BAD, GOOD, LONG

from sentrm.audit.filters import Filter
from sentrm.audit.folder import AuditFolder
from sentrm.audit.run import score_dataset
from sentrm.audit.summary import summarise
from sentrm.scoring import Scorer
from sentrm.ui import dataset_charts as charts
from sentrm.ui import dataset_tables as tables
from sentrm.ui.dataset import figures

ROWS = [
    {"prompt": "How do I boil an egg?", "chosen": GOOD, "rejected": BAD, "topic": "<b>eggs</b>", "long": False},
    {"prompt": "How do I boil an egg?", "chosen": BAD, "rejected": GOOD, "topic": "<b>eggs</b>", "long": False},
    {"prompt": "How do I boil an egg?", "chosen": GOOD, "rejected": BAD, "topic": "rare", "long": False},
    {"prompt": "Same?", "chosen": GOOD, "rejected": GOOD},
    {"prompt": "Empty?", "chosen": " \n", "rejected": BAD},
    {"prompt": "Long.", "chosen": LONG, "rejected": "Short.", "long": True},
    {"prompt": "Long.", "chosen": LONG + "And so on.", "rejected": "Short.", "long": True},
    *(
        {
            "prompt": f"Question {i}?",
            "chosen": f"Answer {i} is it. {'Yes! ' * (i % 7)}",
            "rejected": "- No.\n" * (1 + i % 3),
            "topic": "<b>eggs</b>" if i % 2 else "rice",
            "grade": i * 0.37,
            "long": i % 3 == 0,
            "label": ("tie", "rejected", "chosen")[min(i % 5, 2)],
        }
        for i in range(40)
    ),
]


@pytest.fixture(scope="module")
def folder(model_dir, tmp_path_factory):
    data = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    path = score_dataset(data, Scorer.from_pretrained(model_dir), tmp_path_factory.mktemp("audits") / "one")
    summarise(path)
    with closing(AuditFolder.open(path)) as opened:
        yield opened


@pytest.fixture(scope="module")
def summary(folder):
    return json.loads((folder.path / "summary.json").read_text())


def found(folder: AuditFolder, narrow: list) -> int:
    return folder.count([Filter(*one) for one in narrow])


def narrowed(table: dict) -> list[tuple[list, list[str]]]:
    """The rows that narrow: their filters, and their other cells."""
    rows = [row["cells"] for row in table["rows"] if isinstance(row["cells"][0], dict)]
    return [(first["narrow"], others) for first, *others in rows]


def checked(folder: AuditFolder, table: dict, column: int = 0) -> int:
    """Rows whose filter was seen to find as many pairs as they say."""
    rows = narrowed(table)
    for narrow, others in rows:
        assert found(folder, narrow) == int(others[column].replace(",", "")), narrow
    return len(rows)


def test_every_row_of_a_table_finds_the_pairs_that_it_counts(folder, summary):
    assert summary["ties"] == 8
    assert checked(folder, tables.margin_table(summary)) == 40
    assert checked(folder, tables.calibration_table(summary), column=1) == len(summary["calibration"]["bins"])
    assert checked(folder, tables.length_table(summary)) == len(summary["length"]["curve"]) > 3
    assert checked(folder, tables.style_table(summary), column=1) >= 3
    assert checked(folder, tables.problem_table(summary)) >= 5
    assert {"label_length_difference", "meta_topic", "meta_grade", "meta_long"} <= set(summary["slices"])
    for column in summary["slices"]:
        assert checked(folder, tables.slice_table(summary, column, folder.columns)) >= 2, column


def test_a_headline_figure_finds_the_pairs_that_it_counts(folder, summary):
    counted = [one for one in figures(summary) if one.get("narrow")]
    assert [one["name"] for one in counted] == ["Suspects", "Contradictions"]
    for one in counted:
        assert found(folder, one["narrow"]) == int(one["text"])
    assert figures(summary)[0]["text"] == str(len(ROWS))


@pytest.mark.parametrize(
    ("figure", "table"),
    [
        (charts.margin_figure, tables.margin_table),
        (charts.calibration_figure, tables.calibration_table),
        (charts.length_figure, tables.length_table),
    ],
)
def test_the_bins_of_a_chart_are_the_rows_of_its_table(figure, table, summary):
    drawn, rows = figure(summary), narrowed(table(summary))
    meta = drawn.layout.meta
    assert len(drawn.data[0].y) == len(meta["bins"]) == len(meta["ends"]) == len(rows)
    for (low, high), (((column, test, value),), _) in zip(meta["bins"], rows, strict=True):
        assert column == meta["brush"]
        assert (test, value) == {
            (True, False): ("<=", high),
            (False, True): (">=", low),
            (False, False): ("between", [low, high]),
        }[low is None, high is None]


def test_the_points_of_a_chart_are_the_rows_of_its_table(folder, summary):
    for column in summary["slices"]:
        figure = charts.slice_figure(summary, column, folder.columns)
        rows = [narrow for narrow, _ in narrowed(tables.slice_table(summary, column, folder.columns))]
        assert [one for one in figure.layout.meta["narrow"][0] if one] == rows
        assert list(figure.data[0].x) == [one["value"] for one in summary["slices"][column]]
    style = charts.style_figure(summary)
    assert list(style.layout.meta["narrow"][0]) == [narrow for narrow, _ in narrowed(tables.style_table(summary))]


def test_rare_values_together_are_no_filter(folder, summary):
    last = tables.slice_table(summary, "meta_topic", folder.columns)["rows"][-1]["cells"]
    assert (last[0], last[1]) == ("2 others", "5")  # "rare", and none
    assert charts.slice_figure(summary, "meta_topic", folder.columns).layout.meta["narrow"][0][-1] is None


def test_a_value_of_the_data_is_no_markup_in_a_chart(folder, summary):
    text = charts.slice_figure(summary, "meta_topic", folder.columns).to_json()
    assert "<b>eggs" not in text
    assert json.loads(text)["layout"]["yaxis"]["ticktext"][0] == "&lt;b&gt;eggs&lt;/b&gt;"


def test_two_audits_stand_in_one_chart_slice_by_slice(folder, summary):
    other = json.loads(json.dumps(summary))
    other["slices"]["turns"] = []
    other["slices"]["meta_topic"] = [{**one, "value": 0.25} for one in summary["slices"]["meta_topic"][:1]]
    figure = charts.slice_figure(summary, "meta_topic", folder.columns, other, ("one", "two"))
    assert [trace.name for trace in figure.data] == ["one", "two"]
    assert list(figure.data[1].x) == [0.25]


def test_calibration_and_position_hold_the_summarys_numbers(summary):
    figure = charts.calibration_figure(summary)
    assert list(figure.data[0].y) == [one["accuracy"] for one in summary["calibration"]["bins"]]
    for what in ("reward", "weight"):
        for k, side in enumerate(("chosen", "rejected")):
            means = [one["mean"] for one in summary["positions"][what][side]]
            trace = charts.position_figure(summary, what).data[k]
            assert (trace.name, list(trace.y)) == (f"{('better', 'worse')[k]} response", means)
    cells = [row["cells"] for row in tables.position_table(summary)["rows"]]
    parts = [len(summary["positions"]["reward"][side]) for side in ("chosen", "rejected")]
    assert [sum(cell[0] == f"{word} response" for cell in cells) for word in ("better", "worse")] == parts
