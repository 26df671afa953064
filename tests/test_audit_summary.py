"""The summary of a scored dataset, against plain Python over the same pairs."""

from __future__ import annotations

import json
import math
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from tiny import tiny_model

from sentrm import cli
from sentrm.audit.features import STYLES, tell_language
from sentrm.audit.filters import Filter
from sentrm.audit.folder import AuditFolder, pair_id
from sentrm.audit.run import score_dataset
from sentrm.audit.summary import read_summary, summarise
from sentrm.audit.suspects import reasons, votes
from sentrm.errors import AuditError
from sentrm.preferences import load_preferences
from sentrm.scoring import Scorer

GOOD, BAD = "Boil it for nine minutes. Then peel it.", "I'm sorry, but I can't help with that!"
LONG = "The committee met on Tuesday to discuss the plans for the new bridge across the river near the old mill. " * 3
ROWS = [
    {"prompt": "How do I boil an egg?", "chosen": GOOD, "rejected": BAD, "topic": "eggs"},
    {"prompt": "How do I boil an egg?", "chosen": BAD, "rejected": GOOD, "topic": "eggs"},  # contradicts the first
    {"prompt": "How do I boil an egg?", "chosen": GOOD, "rejected": BAD, "topic": "eggs"},  # is the first
    {"prompt": "Same?", "chosen": GOOD, "rejected": GOOD},
    {"prompt": "Empty?", "chosen": " \n", "rejected": BAD},
    {"prompt": "A tie.", "chosen": "- One.\n- Two.", "rejected": "# One\n\n```\ncode\n```", "tie": True},
    {"prompt": "Long.", "chosen": LONG, "rejected": "Short."},
    {"prompt": "Long.", "chosen": LONG + "And so on.", "rejected": "Short."},  # nearly the one before
    {"prompt": "Other label.", "chosen": BAD + " Really.", "rejected": GOOD + " Really.", "label": "rejected"},
    *({"prompt": f"Question {i}?", "chosen": f"Answer {i} is it. Yes!", "rejected": f"No {i}."} for i in range(20)),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "no row\n")
    return file


@pytest.fixture(scope="module")
def path(data, scorer, tmp_path_factory) -> Path:
    return score_dataset(data, scorer, tmp_path_factory.mktemp("audits") / "one", rows_per_shard=10)


@pytest.fixture(scope="module")
def summary(path) -> dict:
    return summarise(path)


@pytest.fixture
def rows(path, summary) -> list[dict]:
    with closing(AuditFolder.open(path)) as folder:
        return folder.page(size=100)


def test_the_summary_is_what_plain_python_says(summary, path, rows, data, scorer):
    assert read_summary(path) == summary
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert (summary["pairs"], summary["left_out"], summary["ties"]) == (29, 1, 1)
    right = [row["agrees"] for row in rows if row["agrees"] is not None]
    assert summary["agreement"]["value"] == pytest.approx(np.mean(right))
    assert sum(summary["margins"]["pairs"]) == 28
    topics = {one["slice"]: one["n"] for one in summary["slices"]["meta_topic"]}
    assert topics == {"(none)": 25, "1 others": 3}
    assert sum(one["n"] for one in summary["slices"]["label_length_difference"]) == 28


def test_columns_of_one_slice_take_no_room_from_those_of_several(scorer, tmp_path):
    def columns(name: str, count: int, value: str) -> dict[str, str]:
        return {f"{name}{k:02d}": value for k in range(count)}

    rows = [
        {"prompt": f"{i}?", "chosen": "Yes. " * (i % 2 + 1), "rejected": "No."}
        | columns("a_same", 7, "same")
        | columns("b_own", 7, f"own {i}")
        | columns("c_useful", 14, "even" if i % 2 else "odd")
        for i in range(12)
    ]
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = summarise(score_dataset(data, scorer, tmp_path / "out"))["slices"]
    assert list(found) == ["label_length_difference", "sentences", *(f"meta_c_useful{k:02d}" for k in range(11))]
    assert {(one["slice"], one["n"]) for one in found["meta_c_useful10"]} == {("even", 6), ("odd", 6)}


def test_positions_are_tenths_of_the_better_and_the_worse_response(summary, data, scorer):
    pairs = load_preferences(data).pairs
    decided = [
        (one.a, one.b) if pair.probability > 0.5 else (one.b, one.a)
        for pair, one in zip(pairs, scorer.score(pairs), strict=True)
        if pair.probability != 0.5
    ]
    assert sum(pair.probability < 0.5 for pair in pairs) == 1
    for side, responses in zip(("chosen", "rejected"), zip(*decided, strict=True), strict=True):
        rewards: dict[int, list[float]] = {}
        weights: dict[int, list[float]] = {}
        for response in responses:
            n = len(response.spans)
            for i in range(1, n + 1):
                rewards.setdefault(min(int((i - 0.5) / n * 10), 9), []).append(response.rewards[i])
                even = sum(response.weights[1:]) / n
                weights.setdefault(min(int((i - 0.5) / n * 10), 9), []).append(response.weights[i] / even)
        for name, numbers in (("reward", rewards), ("weight", weights)):
            found = summary["positions"][name][side]
            assert [one["n"] for one in found] == [len(numbers[k]) for k in sorted(numbers)]
            assert [one["mean"] for one in found] == pytest.approx([np.mean(numbers[k]) for k in sorted(numbers)])


def test_what_stands_twice_or_says_nothing(summary, rows):
    assert summary["duplicates"] == {"contradicts": 3, "identical": 1, "empty": 1, "exact": 2, "near": 1}
    assert [row["contradicts"] for row in rows[:4]] == [True, True, True, False]
    first = rows[0]["pair_id"]
    assert [row["duplicate_of"] for row in rows[:4]] == ["", first, first, ""]
    assert rows[7]["near_duplicate_of"] == rows[6]["pair_id"]
    assert rows[3]["identical"]
    assert rows[4]["empty"]
    assert all(rows[i]["suspect"] and rows[i]["suspicion"] == 1 for i in (3, 4))
    assert rows[5]["suspicion"] == 0  # a tie is no wrong label
    assert rows[8]["agrees"] == (rows[8]["margin"] < 0)


def test_style_is_a_column_and_a_figure(summary, rows):
    assert [rows[i]["style_refusal"] for i in (0, 1, 5)] == ["rejected", "chosen", ""]
    assert (rows[5]["style_list"], rows[5]["style_heading"], rows[5]["style_code"]) == (
        "chosen",
        "rejected",
        "rejected",
    )
    one = summary["style"]["refusal"]
    # Five pairs have a refusal on one side; the second alone prefers it, by its label.
    assert one["label"]["value"] == pytest.approx(1 / 5)
    assert set(summary["style"]) == set(STYLES)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Wie kocht man ein Ei, damit es nicht zu hart wird? Neun Minuten reichen dafür.", "de"),
        ("How do I boil an egg so that it does not get too hard? Nine minutes are enough.", "en"),
        ("煮鸡蛋需要几分钟？大约九分钟就可以了。", "zh"),
        ("1 + 1 = 2", ""),
        ("", ""),
    ],
)
def test_the_language_is_told_or_left_open(text, language):
    assert tell_language(text) == language


def test_again_changes_nothing(path, summary):
    with closing(AuditFolder.open(path)) as folder:
        before = folder.page(size=100), folder.columns
    again = summarise(path)
    with closing(AuditFolder.open(path)) as folder:
        assert (folder.page(size=100), folder.columns) == before
        assert folder.count([Filter("suspect", "=", True)]) == again["suspects"]["suspects"]
    assert {**again, "created": ""} == {**summary, "created": ""}


def test_out_of_fold_margins_name_a_pair_by_its_texts(path, tmp_path):
    """A margin is turned to the row's own label, whichever response the file took for the chosen one."""
    lines = [
        {"pair_id": pair_id(row["prompt"], row["chosen"], row["rejected"]), "first": first, "margin": margin}
        for row in ROWS
        for first, margin in [(row["chosen"] <= row["rejected"], 5.0 if row["chosen"] == GOOD else -5.0)]
    ]
    file = tmp_path / "margins.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = summarise(path, out_of_fold=file)
    with closing(AuditFolder.open(path)) as folder:
        rows = folder.page(size=100)
    assert [row["out_of_fold"] for row in rows[:3]] == [5, -5, 5]
    assert found["suspects"]["by"] == "out_of_fold"
    assert rows[1]["suspicion"] > 0.5 > rows[0]["suspicion"]
    file.write_text('{"pair_id": "a"}\n')
    with pytest.raises(AuditError, match="Expected lines of pair_id, first and margin"):
        summarise(path, out_of_fold=file)
    file.write_text('{"pair_id": "a", "first": true, "margin": 1}\n')
    with pytest.raises(AuditError, match="knows none of the 29 pairs"):
        summarise(path, out_of_fold=file)
    summarise(path)
    with closing(AuditFolder.open(path)) as folder:
        assert "out_of_fold" not in folder.columns
        assert not [reason for row in folder.page(size=100) for reason in reasons(row) if "trained without" in reason]


def test_each_kind_of_margin_is_judged_on_its_own_scale(path, summary, rows, tmp_path):
    """Out-of-fold margins of half of the pairs, a thousandth as wide as those of the audit."""
    known = range(0, len(ROWS), 2)
    lines = [
        {"pair_id": pair_id(*(row[name] for name in ("prompt", "chosen", "rejected"))), "margin": 0.001 * (i % 5 - 1)}
        | {"first": row["chosen"] <= row["rejected"]}
        for i, row in enumerate(ROWS)
        if i in known
    ]
    file = tmp_path / "margins.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    summarise(path, out_of_fold=file)
    with closing(AuditFolder.open(path)) as folder:
        both = folder.table(["out_of_fold", "suspicion"])
    without = np.flatnonzero(np.isnan(both["out_of_fold"]))
    assert 0 < len(without) < len(ROWS)
    assert both["suspicion"][without].tolist() == [rows[i]["suspicion"] for i in without]
    assert np.ptp(both["suspicion"][~np.isnan(both["out_of_fold"])]) > 0.3
    assert summarise(path) | {"created": ""} == summary | {"created": ""}


def test_labels_that_are_all_ties_are_told(scorer, tmp_path):
    data = tmp_path / "ties.jsonl"
    data.write_text(json.dumps(ROWS[0] | {"tie": True}) + "\n")
    with pytest.raises(AuditError, match="every label is a tie"):
        summarise(score_dataset(data, scorer, tmp_path / "out"))


def test_a_voter_may_have_the_same_label_the_other_way_round(scorer, tmp_path):
    turned = [{**row, "chosen": row["rejected"], "rejected": row["chosen"], "probability": 0.0} for row in ROWS[:2]]
    for name, rows in (("one", ROWS[:2]), ("other", turned)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    one, other = (score_dataset(tmp_path / f"{name}.jsonl", scorer, tmp_path / name) for name in ("one", "other"))
    summarise(one, voters=[other])
    with closing(AuditFolder.open(one)) as folder:
        found = folder.table(["models", "against", "margin"])
    assert found["models"].tolist() == [2, 2]
    assert found["against"].tolist() == [2 * (margin < 0) for margin in found["margin"]]


def test_models_vote(path, data, tokenizer, tmp_path):
    others = []
    for seed, architecture in enumerate(("gpt_neox", "qwen3")):
        other = Scorer.from_model(tiny_model(architecture), tokenizer, name=architecture)
        others.append(score_dataset(data, other, tmp_path / str(seed)))
    found = summarise(path, voters=others)
    assert found["suspects"]["by"] == "votes"
    columns = ["pair_id", "margin", "label_probability", "models", "against", "suspicion", "suspect"]
    with closing(AuditFolder.open(path)) as folder:
        table = folder.table(columns)
    margins = [table["margin"]]
    for other in others:
        with closing(AuditFolder.open(other)) as folder:
            margins.append(folder.column("margin"))
    sign = np.where(table["label_probability"] < 0.5, -1, 1)
    assert table["against"].tolist() == [sum(m[i] * sign[i] < 0 for m in margins) for i in range(29)]
    assert set(table["models"].tolist()) == {3}
    ordinary = [i for i in range(29) if i not in (3, 4, 5)]
    assert table["suspicion"][ordinary].tolist() == votes(np.stack(margins) * sign)[ordinary].tolist()
    order = sorted(ordinary, key=lambda i: -table["suspicion"][i])
    assert [table["against"][i] for i in order] == sorted((table["against"][i] for i in ordinary), reverse=True)
    assert all(bool(table["suspect"][i]) == (table["against"][i] >= 2) for i in ordinary)
    summarise(path)


def test_a_summary_that_is_none_is_told(path, summary, tmp_path):
    with pytest.raises(AuditError, match="Start the same sentrm audit again"):
        read_summary(tmp_path)
    (tmp_path / "summary.json").write_text("[]")
    with pytest.raises(AuditError, match="no summary"):
        read_summary(tmp_path)


def test_the_command_says_what_was_found(model_dir, data, tmp_path, capsys):
    out = tmp_path / "audit"
    assert (
        cli.main(["audit", str(data), "--model", str(model_dir), "--output", str(out), "--voters", str(model_dir)]) == 0
    )
    said = capsys.readouterr().err
    assert "29 pairs scored, 1 left out" in said
    assert "suspects by votes" in said
    assert "2 duplicates, 3 in contradiction, 1 with the same response twice, 1 with an empty one" in said
    summary = read_summary(out)
    assert math.isclose(summary["agreement"]["n"], 28)
    assert (out / "voters" / f"1-{Path(model_dir).name}" / "pairs.parquet").exists()
