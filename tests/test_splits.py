"""Held-out prompts of data that do not say where a prompt ends: chosen and rejected begin with it and go on alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import tiny_model

from sentrm.encoding import Encoder
from sentrm.preferences import load_preferences
from sentrm.segmentation import RulesSegmenter, SegmenterSpec
from training.data import DataSource, beginnings, begins_as, is_held_out, load_mixture
from training.rows import encode_pairs
from training.streaming import stream_mixture


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.name


SHARED = ("", " You", " You could", " Well, you")  # with what both responses of a pair begin


def implicit_rows(prompts: list[str], tokens: bool) -> list[dict]:
    """Four pairs of each prompt, its number in the id; the prompt is what chosen and rejected begin with."""
    words: dict[str, int] = {}
    rows = []
    for i, prompt in enumerate(prompts):
        for j, shared in enumerate(SHARED):
            texts = [f"{prompt}{shared} boil {j}.", f"{prompt}{shared} won't."]
            row = dict(zip(("chosen", "rejected"), texts, strict=True))
            if tokens:
                ids = [[words.setdefault(word, len(words)) for word in f"<s> user {text}".split()] for text in texts]
                row = dict(zip(("chosen_ids", "rejected_ids"), ids, strict=True))
            rows.append(row | {"id": f"{i}-{j}"})
    return rows


QUESTIONS = [
    *(f"How do I boil {i} eggs?" for i in range(60)),
    *(f"{word} is it that {thing} float?" for word in ("Why", "When", "Where") for thing in ("eggs", "peas", "ships")),
]


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("prompts", [QUESTIONS[:60], [f"{i} {one}" for i, one in enumerate(QUESTIONS)]])
def test_no_implicit_prompt_stands_on_both_sides(prompts, tokens, tmp_path, capsys):
    """Each pair shares other words of its responses, so what its two texts begin with is another each time."""
    rows = implicit_rows(prompts, tokens)
    write(tmp_path / "a.jsonl", rows[::2])
    write(tmp_path / "b.jsonl", rows[1::2])
    sources = [DataSource("a.jsonl"), DataSource("b.jsonl")]
    train, held_out, _ = load_mixture(sources, str(tmp_path), {}, 0, False)
    trained, tested = ({pair.id.split(":")[1].split("-")[0] for pair in pairs} for pairs in (train, held_out))
    assert trained.isdisjoint(tested)
    assert (len(train) + len(held_out), len(trained | tested)) == (len(rows), len(prompts)), "none is lost"
    assert 0.02 < len(tested) / len(prompts) < 0.3
    assert f"pairs without a prompt of their own, in {len(prompts)} groups that begin alike" in capsys.readouterr().out
    assert all(is_held_out(pair.split_key) for pair in held_out), "the documented rule, on how the prompt begins"
    begun = beginnings([held_out])
    assert all(begins_as(pair, begun) for pair in held_out)
    assert not any(begins_as(pair, begun) for pair in train)


def test_an_explicit_prompt_is_held_out_in_files_without_a_prompt_column_too(tmp_path):
    rows = implicit_rows(QUESTIONS, tokens=False)
    write(tmp_path / "implicit.jsonl", rows)
    explicit = [{"prompt": prompt, "chosen": "Yes.", "rejected": "No."} for prompt in QUESTIONS]
    sources = [DataSource("implicit.jsonl"), DataSource(write(tmp_path / "explicit.jsonl", explicit))]
    train, held_out, _ = load_mixture(sources, str(tmp_path), {}, 0, False)
    tested = {prompt for prompt in QUESTIONS if is_held_out(prompt)}
    assert {pair.prompt for pair in held_out if pair.source == "explicit"} == tested
    assert {pair.split_key for pair in held_out} == tested
    assert len(held_out) == len(tested) * (1 + len(SHARED))
    assert not any(pair.prompt.startswith(prompt) for pair in train for prompt in tested)


@pytest.mark.parametrize("tokens", [False, True])
def test_a_stream_does_not_train_on_an_implicit_prompt_that_is_held_out(tokens, tokenizer, tmp_path):
    rows = implicit_rows(QUESTIONS[:60], tokens)
    source = DataSource(write(tmp_path / "a.jsonl", rows))
    encoder, rules = Encoder(tokenizer, tiny_model().config), RulesSegmenter(SegmenterSpec.parse("rules"))
    stream, held_out, _ = stream_mixture([source], str(tmp_path), {}, 1, False, rules, encoder, eval_pairs=5)
    encoded = encode_pairs(load_preferences(tmp_path / "a.jsonl").pairs, rules, encoder)[0]
    number = {json.dumps(row["ids"]): i // len(SHARED) for i, row in enumerate(encoded)}
    trained = {number[json.dumps(row["ids"])] for row in stream}
    assert trained
    assert trained.isdisjoint(int(pair.id.split(":")[1].split("-")[0]) for pair in held_out)
