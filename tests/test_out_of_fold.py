"""Margins of models that did not see the pair: real runs on a tiny backbone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sentrm.audit.folder import pair_id
from sentrm.preferences import PreferencePair, load_preferences
from training import label_noise, out_of_fold
from training.out_of_fold import fold_of, write_rows


def test_rows_are_read_back_as_they_were(tmp_path):
    pairs = [
        PreferencePair("Why?", "Because.", "No.", id="1", split_key="Why?"),
        PreferencePair(
            (
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Yes?"},
                {"role": "user", "content": "Why?"},
            ),
            " Human: so.",
            "No.\n\né 🙂",
            id="2",
            probability=0.7,
            split_key="user: Hi\n\nassistant: Yes?\n\nuser: Why?",
        ),
    ]
    write_rows(tmp_path / "rows.jsonl", pairs)
    assert load_preferences(tmp_path / "rows.jsonl").pairs == pairs


def test_a_fold_is_a_property_of_the_prompt():
    folds = [fold_of(f"prompt {i}", 5) for i in range(1000)]
    assert {folds.count(k) > 150 for k in range(5)} == {True}
    assert folds == [fold_of(f"prompt {i}", 5) for i in range(1000)]


@pytest.mark.slow
def test_no_model_scores_a_prompt_it_was_trained_on(train_flags, pairs_file, tmp_path, capsys, monkeypatch):
    flags = [*train_flags, "--data", str(pairs_file), "--output", str(tmp_path)]
    assert out_of_fold.main(["--folds", "2", *flags]) == 0
    pairs = load_preferences(pairs_file).pairs
    lines = [json.loads(line) for line in (tmp_path / "margins.jsonl").read_text().splitlines()]
    assert [line["pair_id"] for line in lines] == [pair_id(pair.prompt, pair.chosen, pair.rejected) for pair in pairs]
    assert [line["first"] for line in lines] == [pair.chosen <= pair.rejected for pair in pairs]
    for k in (0, 1):
        trained_on = load_preferences(tmp_path / f"fold-{k}" / "data.jsonl").pairs
        assert {fold_of(pair.split_key, 2) for pair in trained_on} == {1 - k}
        assert not (tmp_path / f"fold-{k}" / "model").exists()
    assert "2 of 2" in capsys.readouterr().out

    def no_training(*_):
        raise AssertionError("a scored fold is trained again")

    monkeypatch.setattr(out_of_fold, "_train", no_training)
    assert out_of_fold.main(["--folds", "2", *flags]) == 0
    assert [json.loads(line) for line in (tmp_path / "margins.jsonl").read_text().splitlines()] == lines
    monkeypatch.undo()
    (tmp_path / "fold-0" / "margins.json").unlink()
    assert out_of_fold.main(["--folds", "2", *flags, "--learning_rate", "-1"]) == 2
    assert "training ended with exit code" in capsys.readouterr().err


@pytest.mark.slow
def test_the_study_of_label_noise(train_flags, pairs_file, model_dir, tmp_path, capsys):
    flags = [*train_flags, "--data", str(pairs_file), "--output", str(tmp_path / "folds")]
    own = [
        "--model",
        str(model_dir),
        "--flip",
        "0.2",
        "--folds",
        "2",
        "--seeds",
        "1",
        "--json",
        str(tmp_path / "n.json"),
    ]
    assert label_noise.main([*own, *flags]) == 0
    result = json.loads((tmp_path / "n.json").read_text())
    everything = result["results"]["20%, all"]
    pairs = load_preferences(pairs_file).pairs
    assert everything["random"]["pairs"] == len(pairs)
    assert everything["random"]["wrong"] == round(0.2 * len(pairs))
    assert set(everything) == {"agreement", "out_of_fold", "length", "random"}
    assert set(result["results"]["20%, held out"]) == {
        "agreement",
        "margin",
        "out_of_fold",
        "votes",
        "length",
        "random",
    }
    said = capsys.readouterr().out
    assert "20%, all: " in said
    flipped_file = Path(tmp_path / "folds" / "0.2-1" / "fold-0" / "data.jsonl")
    original = {(pair.prompt, pair.chosen) for pair in pairs}
    trained_on = load_preferences(flipped_file).pairs
    assert any((pair.prompt, pair.chosen) not in original for pair in trained_on)
