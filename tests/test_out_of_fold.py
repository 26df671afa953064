"""Margins of models that did not see the pair: real runs on a tiny backbone."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sentrm.audit.folder import pair_id
from sentrm.errors import SentrmError
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
            margin=1.5,
            split_key="user: Hi\n\nassistant: Yes?\n\nuser: Why?",
        ),
    ]
    write_rows(tmp_path / "rows.jsonl", pairs)
    assert load_preferences(tmp_path / "rows.jsonl").pairs == pairs


def test_a_fold_is_a_property_of_the_prompt():
    folds = [fold_of(f"prompt {i}", 5) for i in range(1000)]
    assert {folds.count(k) > 150 for k in range(5)} == {True}
    assert folds == [fold_of(f"prompt {i}", 5) for i in range(1000)]


def test_a_fold_is_used_again_only_for_what_it_was_asked(train_flags, tmp_path, monkeypatch):
    pairs = [PreferencePair(f"Why {i}?", "So.", "No.", split_key=f"Why {i}?") for i in range(6)]
    trained: list[Path] = []

    class Trained:
        @classmethod
        def from_pretrained(cls, folder: Path, dtype: str) -> Trained:
            folder.mkdir()
            return cls()

    monkeypatch.setattr(out_of_fold, "_train", lambda flags, log: trained.append(log))
    monkeypatch.setattr(out_of_fold, "Scorer", Trained)
    monkeypatch.setattr(out_of_fold, "score_margins", lambda scorer, pairs: [float(len(trained))] * len(pairs))

    def margins(pairs=pairs, folds: int = 2, more: tuple[str, ...] = (), dtype: str = "auto") -> list[float | None]:
        return out_of_fold.out_of_fold(pairs, folds, [*train_flags, *more], tmp_path / "folds", dtype)

    first = margins()
    moved = ("--output", "elsewhere", "--data", "moved.jsonl", "--cache_dir", "x", "--encoding_processes", "1")
    assert margins(more=moved) == margins() == first
    assert len(trained) == 2
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("max_grad_norm: 0.5")
    turned = [label_noise.turned(pairs[0]), *pairs[1:]]
    refused = [
        (r"data_digest was '\w+' and is '\w+'\. Give the data and flags", {"pairs": turned}),
        ("data_digest was", {"pairs": [replace(pairs[0], probability=0.7), *pairs[1:]]}),
        ("data_digest was", {"pairs": pairs[::-1]}),
        ("pairs was 6 and is 5, ", {"pairs": pairs[1:]}),
        ("folds was 2 and is 3", {"folds": 3}),
        ("learning_rate was 0.02 and is 9.0", {"more": ("--learning_rate", "9")}),
        ("max_grad_norm was 1.0 and is 0.5", {"more": ("--recipe", str(recipe))}),
        ("pad_token was None and is '<pad>'", {"more": ("--pad_token", "<pad>")}),
        ("scoring_dtype was 'auto' and is 'bfloat16'", {"dtype": "bfloat16"}),
    ]
    for said, how in refused:
        with pytest.raises(SentrmError, match=said):
            margins(**how)
    assert margins() == first
    (tmp_path / "folds" / "asked.json").unlink()
    with pytest.raises(SentrmError, match=r"holds folds, but no asked\.json"):
        margins()
    shutil.rmtree(tmp_path / "folds" / "fold-0")
    shutil.rmtree(tmp_path / "folds" / "fold-1")
    margins(turned)  # nothing stands that was asked otherwise
    assert len(trained) == 4


@pytest.mark.slow
def test_no_model_scores_a_prompt_it_was_trained_on(train_flags, pairs_file, tmp_path, capsys, monkeypatch):
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    named = tmp_path / "named.jsonl"
    named.write_text("".join(json.dumps({"question": row.pop("prompt"), **row}) + "\n" for row in rows))
    flags = [*train_flags, "--prompt_column", "question", "--data", str(named), "--output", str(tmp_path)]
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
    assert out_of_fold.main(["--folds", "2", *flags, "--learning_rate", "0.1"]) == 2
    assert "asked for something else: learning_rate was 0.02 and is 0.1. Give the data" in capsys.readouterr().err
    monkeypatch.undo()
    flags[-1] = str(tmp_path / "other")
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
