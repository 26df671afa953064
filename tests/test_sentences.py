"""Sentence figures against hand-computed cases, scikit-learn's AUROC and scores of texts shortened by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from sentrm.errors import PreferenceDataError
from sentrm.influence import shortened
from sentrm.preferences import load_preferences
from sentrm.results import ModelInfo, ScoredResponse, SegmenterInfo, Span
from sentrm.scoring import Scorer
from training.benchmarks.sentences import MEASURES, Marks, read_source, run, sentence_figures
from training.benchmarks.task import Options
from training.data import is_held_out

OPTIONS = Options(data=(), split=None, held_out=False, limit=None, seed=0, draws=50)
WORDS = (
    "Boil it for nine minutes.",
    "Why ask?",
    "Older eggs peel more easily than fresh ones.",
    "Add salt.",
    "So wait!",
)


@pytest.fixture(scope="module")
def eggs_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty responses of two to five sentences to fifteen prompts; some sentences are marked as bad."""
    rows = []
    for i in range(30):
        chosen = [WORDS[(i * (k + 1) + k) % 5] for k in range(2 + i % 4)]
        starts = np.cumsum([0, *(len(one) + 1 for one in chosen)]).tolist()
        spans = [[starts[k], starts[k] + 4] for k in range(len(chosen)) if (i + k) % 3 == 0]
        context = {"context": "About eggs."} if i % 2 else {}
        rows.append({"prompt": f"How do I boil {i % 15} eggs?", "response": " ".join(chosen), "spans": spans} | context)
    return written(tmp_path_factory.mktemp("marks") / "eggs.jsonl", rows)


@pytest.fixture(scope="module")
def eggs_result(scorer: Scorer, eggs_file: Path) -> dict[str, Any]:
    return run(scorer, replace(OPTIONS, data=(str(eggs_file),)))


def written(file: Path, rows: list[dict]) -> Path:
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def segments(texts: list[str], labels: list[float | None]) -> list[dict]:
    ends = np.cumsum([0, *(len(text) + 1 for text in texts)]).tolist()
    return [
        {"text": text, "start": start, "end": start + len(text), "label": label}
        for text, label, start in zip(texts, labels, ends, strict=False)
    ]


def scored_response(sentences: list[str], rewards: list[float], weights: list[float]) -> ScoredResponse:
    """A result with these numbers; the prompt term has reward 0.5 and what the sentences leave of the weight."""
    ends = np.cumsum([0, *map(len, sentences)]).tolist()
    all_rewards, all_weights = (0.5, *rewards), (1 - sum(weights), *weights)
    contributions = tuple(a * d for a, d in zip(all_weights, all_rewards, strict=True))
    return ScoredResponse(
        prompt="How long?",
        text="".join(sentences),
        spans=tuple(Span(start, end) for start, end in pairwise(ends)),
        tokens=(3,) * len(sentences),
        values=tuple(np.cumsum(all_rewards).tolist()),
        rewards=all_rewards,
        weights=all_weights,
        contributions=contributions,
        score=sum(contributions),
        dropped_sentences=0,
        cut_prompt_tokens=0,
        model=ModelInfo("made-up", "0", "attention", None),
        segmenter=SegmenterInfo("rules:en", "0", own=True),
    )


def values(estimates: dict) -> dict[str, float | None]:
    return {name: one["value"] for name, one in estimates.items()}


def test_every_measure_by_hand(scorer: Scorer) -> None:
    """Sentences bad, good, bad, good. Pairs (bad, good): (1, 2), (1, 4), (3, 2), (3, 4)."""
    one = scored_response(
        ["Four. ", "Longest one. ", "Mid one. ", "Mid two."], [-1.0, 0.25, 0.25, 2.0], [0.1, 0.2, 0.4, 0.2]
    )
    figures, problems = sentence_figures(scorer, [one], [Marks("p", "s", (Span(0, 2), Span(20, 22)))], OPTIONS)
    assert problems == ()
    assert list(figures) == ["s"]
    counts = {name: figures["s"][name] for name in ("responses", "sentences", "labelled", "bad")}
    assert counts == {"responses": 1, "sentences": 4, "labelled": 4, "bad": 2}
    auroc, top = values(figures["s"]["auroc"]), values(figures["s"]["top1"])
    assert list(auroc) == list(top) == list(MEASURES)
    # badness of reward: 1, −0.25, −0.25, −2        pairs: 1, 1, ½, 1
    assert (auroc["reward"], top["reward"]) == (0.875, 1)
    # contribution: 0.1, −0.05, −0.1, −0.4          pairs: 1, 1, 0, 1
    assert (auroc["contribution"], top["contribution"]) == (0.75, 1)
    # weight: 0.1, 0.2, 0.4, 0.2                    pairs: 0, 0, 1, 1
    assert (auroc["weight"], top["weight"]) == (0.5, 1)
    # length: 5, 12, 8, 8, white space left out     pairs: 0, 0, 0, ½
    assert (auroc["length"], top["length"]) == (0.125, 0)
    # position: 0, 1, 2, 3                          pairs: 0, 0, 1, 0
    assert (auroc["position"], top["position"]) == (0.25, 0)
    assert figures["s"]["chance"] == {"value": 0.5, "low": None, "high": None}
    assert figures["s"]["first_error"] is None
    assert figures["s"]["first_error_responses"] == 0


def test_ties_count_half(scorer: Scorer) -> None:
    one = scored_response(["Aa. ", "Bb. ", "Cc."], [0.5] * 3, [0.25] * 3)
    figures, _ = sentence_figures(scorer, [one], [Marks("p", "s", (Span(0, 1),))], OPTIONS)
    for name in ("reward", "contribution", "weight", "length"):
        assert figures["s"]["auroc"][name]["value"] == 0.5
        assert figures["s"]["top1"][name]["value"] == pytest.approx(1 / 3)


def test_unknown_sentences_are_left_aside(scorer: Scorer) -> None:
    """The worst sentence is unknown, so the worst of the others counts; white space and empty marks touch nothing."""
    one = scored_response(["Aa. ", "Bb. ", "Cc. ", "Dd."], [-9.0, -1.0, 1.0, 2.0], [0.2] * 4)
    bad = (Span(3, 5), Span(13, 13))  # the space behind the first sentence and B; nothing of D
    good = (Span(5, 9), Span(11, 12))  # b of the second sentence, which is bad already, C, and a space
    figures, _ = sentence_figures(scorer, [one], [Marks("p", "s", bad, good)], OPTIONS)
    counts = [figures["s"][name] for name in ("sentences", "labelled", "bad")]
    assert counts == [4, 2, 1]
    assert figures["s"]["auroc"]["reward"]["value"] == 1
    assert figures["s"]["top1"]["reward"]["value"] == 1
    assert figures["s"]["top1"]["position"]["value"] == 0
    assert figures["s"]["chance"]["value"] == 0.5


def test_means_over_responses_by_subset_and_all(scorer: Scorer) -> None:
    texts = ["Aa. ", "Bb. ", "Cc."]
    scored = [scored_response(texts, rewards, [0.2] * 3) for rewards in ([-1, 0, 1], [1, 0, -1], [0, 1, -1], [0, 0, 1])]
    first, third, every = (Span(0, 1),), (Span(8, 9),), (Span(0, 11),)
    marks = [Marks("p", "x", first), Marks("q", "x", first), Marks("p", "y", third), Marks("q", "y", every)]
    figures, problems = sentence_figures(scorer, scored, marks, OPTIONS)
    assert list(figures) == ["all", "x", "y"]
    assert [figures[name]["auroc"]["reward"]["value"] for name in figures] == [pytest.approx(2 / 3), 0.5, 1]
    assert [figures[name]["responses"] for name in figures] == [3, 2, 1]
    assert problems == ("y: 1 responses not in AUROC and top-1: no good sentence",)


def test_nothing_to_judge_has_no_value(scorer: Scorer) -> None:
    one = scored_response(["Aa. ", "Bb."], [1, 2], [0.2] * 2)
    figures, problems = sentence_figures(scorer, [one], [Marks("p", "s", (), ())], OPTIONS)
    assert set(values(figures["s"]["auroc"]).values()) == {None}
    assert set(values(figures["s"]["top1"]).values()) == {None}
    assert figures["s"]["chance"]["value"] is None
    assert problems == ("s: 1 responses not in AUROC and top-1: no bad or good sentence",)


def test_first_error_by_hand(scorer: Scorer) -> None:
    """Three steps, the second wrong. It has two sentences of its own; a third stands mostly in the last step."""
    one = scored_response(["One. ", "Two a. ", "Two b. ", "It four five."], [2.0, -1.0, 0.0, -1.0], [0.2] * 4)
    steps = (Span(0, 4), Span(5, 21), Span(22, 32))  # "It" belongs to the second
    marks = Marks("p", "s", (steps[1],), (steps[0],), steps, 1)
    figures, _ = sentence_figures(scorer, [one], [marks], OPTIONS)
    found = values(figures["s"]["first_error"])
    assert found["reward"] == 0.5  # sentences 2 and 4 tie, and 4 is not part of the wrong step
    assert found["position"] == 0
    assert found["length"] == 0
    assert figures["s"]["first_error_chance"]["value"] == 0.5
    assert figures["s"]["auroc"]["position"]["value"] == 1  # of 2, 3 and 4, which touch the mark, against 1


def test_first_error_needs_a_wrong_step_that_was_scored(scorer: Scorer) -> None:
    one = scored_response(["Aa. ", "Bb. "], [1, 2], [0.2] * 2)
    cut = replace(one, text=one.text + "Cc.", dropped_sentences=1)
    steps = (Span(0, 3), Span(4, 7), Span(8, 11))
    marks = [
        Marks("p", "s", (), steps, steps, None),
        Marks("p", "s", (steps[0],), (), (Span(0, 7),), 0),
        Marks("p", "s", (steps[2],), steps[:2], steps, 2),
    ]
    figures, problems = sentence_figures(scorer, [one, one, cut], marks, OPTIONS)
    assert figures["s"]["first_error_responses"] == 0
    assert figures["s"]["first_error"] is None
    assert [problem for problem in problems if "first error" in problem] == [
        "s: 1 responses not in first error: no wrong step",
        "s: 1 responses not in first error: one step",
        "s: 1 responses not in first error: the wrong step did not fit the model",
    ]
    assert "s: 1 sentences left out: they did not fit the model" in problems


def test_first_error_file(scorer: Scorer, tmp_path: Path) -> None:
    """A step file end to end: position and length need no model."""
    first = ["Add one and two.", "That is four.", "So four it is, in the end."]
    second = ["Ten.", "No."]
    rows = [
        {"prompt": "1 + 2?", "response": "\n\n".join(first), "first_error": 1, "segments": []},
        {"prompt": "5 + 5?", "response": " ".join(second), "first_error": 1, "segments": segments(second, [1, -1])},
        {"prompt": "2 + 2?", "response": "Four.", "first_error": -1, "segments": segments(["Four."], [1])},
        {"prompt": "3 + 2?", "response": "Five.", "first_error": None, "segments": segments(["Five."], [1])},
        {"prompt": "4 + 2?", "response": "Five.", "first_error": 0, "segments": segments(["Five."], [-1])},
    ]
    for text, label in zip(first, (1, 0, None), strict=True):
        start = rows[0]["response"].index(text)
        rows[0]["segments"].append({"text": text, "start": start, "end": start + len(text), "label": label})
    result = run(scorer, replace(OPTIONS, data=(str(written(tmp_path / "steps.jsonl", rows)),)))
    steps = result["sentences"]["steps"]
    assert steps["first_error_responses"] == 2
    assert steps["first_error"]["position"]["value"] == 0.5  # the second response ends with its error
    assert steps["first_error"]["length"]["value"] == 0
    assert steps["first_error_chance"]["value"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert "steps: 2 responses not in first error: no wrong step" in result["problems"]
    assert "steps: 1 responses not in first error: one step" in result["problems"]
    rewards = [one.rewards[1:] for one in scorer.score([(row["prompt"], row["response"]) for row in rows[:2]])]
    assert steps["first_error"]["reward"]["value"] == np.mean([np.argmin(one) == 1 for one in rewards])


def test_run_agrees_with_scikit_learn(scorer: Scorer, eggs_file: Path, eggs_result: dict[str, Any]) -> None:
    """Every sentence of the file ends in a full stop, so labels follow from where the words stand."""
    result = eggs_result
    json.dumps(result, allow_nan=False)
    expected: dict[str, list[float]] = {name: [] for name in MEASURES}
    hits: dict[str, list[float]] = {name: [] for name in MEASURES}
    for row in map(json.loads, eggs_file.read_text().splitlines()):
        prompt = f"{row['context']}\n\n{row['prompt']}" if "context" in row else row["prompt"]
        one = scorer.score([(prompt, row["response"])])[0]
        bad = [any(start == span.start for start, _ in row["spans"]) for span in one.spans]
        if len(set(bad)) < 2:
            continue
        texts = [sentence.strip() for sentence in one.sentences]
        rest = [" ".join(texts[:i] + texts[i + 1 :]) for i in range(len(texts))]
        measures = {
            "reward": [-reward for reward in one.rewards[1:]],
            "contribution": [-contribution for contribution in one.contributions[1:]],
            "weight": one.weights[1:],
            "leave_one_out": [other.score - one.score for other in scorer.score([(prompt, text) for text in rest])],
            "length": [len(text) for text in texts],
            "position": range(len(texts)),
        }
        for name, numbers in measures.items():
            expected[name].append(roc_auc_score(bad, numbers))
            hits[name].append(np.mean(np.array(bad)[np.array(numbers) == max(numbers)]))
    eggs = result["sentences"]["eggs"]
    assert eggs["responses"] == result["items"] - result_left_out(result) == len(expected["reward"]) > 15
    for name in measures:
        assert eggs["auroc"][name]["value"] == pytest.approx(np.mean(expected[name]), abs=1e-9), name
        assert eggs["top1"][name]["value"] == pytest.approx(np.mean(hits[name]), abs=1e-9), name
        assert eggs["auroc"][name]["low"] < eggs["auroc"][name]["value"] < eggs["auroc"][name]["high"]
    assert result["figures"] == {"AUROC of reward": eggs["auroc"]["reward"], "top-1 of reward": eggs["top1"]["reward"]}


def result_left_out(result: dict) -> int:
    return sum(int(one.split()[1]) for one in result["problems"] if "not in AUROC" in one)


def test_order_and_batches_change_nothing(
    model_dir: Path, eggs_file: Path, eggs_result: dict[str, Any], tmp_path: Path
) -> None:
    expected = eggs_result["sentences"]["eggs"]
    lines = eggs_file.read_text().splitlines()
    lines = [lines[i] for i in np.random.default_rng(1).permutation(len(lines))]
    (tmp_path / "eggs.jsonl").write_text("\n".join(lines))
    other = Scorer.from_pretrained(model_dir, batching="padded")
    other.batch_tokens = 64
    options = replace(OPTIONS, data=(str(tmp_path / "eggs.jsonl"),))
    found = run(other, options)["sentences"]["eggs"]
    for kind in ("auroc", "top1"):
        for name in MEASURES:
            assert found[kind][name] == pytest.approx(expected[kind][name], abs=1e-9), name
    assert found["chance"] == pytest.approx(expected["chance"])


def test_leave_one_out_shortens_what_was_scored() -> None:
    one = replace(scored_response(["Aa. ", "Bb.\n\n", "Cc. "], [1] * 3, [0.1] * 3), dropped_sentences=1)
    one = replace(one, text=one.text + "Dropped.")
    assert [shortened(one, i)[1] for i in range(3)] == ["Bb.\n\nCc.", "Aa. Cc.", "Aa. Bb."]


def test_random_follows_the_seed(scorer: Scorer) -> None:
    ones = [scored_response([f"Aa{i}. ", "Bb. ", "Cc."], [-1, 0, 1], [0.2] * 3) for i in range(12)]
    marks = [Marks("p", "s", (Span(0, 1),))] * 12
    found = [sentence_figures(scorer, ones, marks, replace(OPTIONS, seed=seed))[0]["s"]["auroc"] for seed in (0, 0, 1)]
    assert found[0] == found[1]
    assert found[0]["random"]["value"] != found[2]["random"]["value"]
    assert found[0]["reward"]["value"] == found[2]["reward"]["value"]


def test_held_out_and_limit(scorer: Scorer, eggs_file: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in eggs_file.read_text().splitlines()]
    held_out = [row for row in rows if is_held_out(row["prompt"])]  # without the context
    assert 0 < len(held_out) < len(rows)
    options = replace(OPTIONS, data=(str(eggs_file),))
    assert run(scorer, replace(options, held_out=True))["items"] == len(held_out)
    limited = run(scorer, replace(options, limit=5))
    assert limited["items"] == 4  # two prompts of two rows
    backwards = written(tmp_path / "eggs.jsonl", rows[::-1])
    again = run(scorer, replace(options, limit=5, data=(str(backwards),)))
    assert limited["sentences"]["eggs"]["bad"] == again["sentences"]["eggs"]["bad"]
    assert limited["sentences"]["eggs"]["auroc"]["position"] == again["sentences"]["eggs"]["auroc"]["position"]
    none_held_out = written(tmp_path / "none.jsonl", [row for row in rows if not is_held_out(row["prompt"])])
    with pytest.raises(PreferenceDataError, match="none of a held-out prompt"):
        run(scorer, replace(options, held_out=True, data=(str(none_held_out),)))


def test_what_does_not_fit_is_counted(model_dir: Path, tmp_path: Path) -> None:
    short = Scorer.from_pretrained(model_dir, max_length=48)
    long = "word " * 60 + "end."
    rows = [
        {"prompt": "Why?", "response": f"Yes. No. Well. {long}", "spans": [[0, 1], [16, 30]]},
        {"prompt": "Why?", "response": long, "spans": [[0, 4]]},
    ]
    result = run(short, replace(OPTIONS, data=(str(written(tmp_path / "long.jsonl", rows)),)))
    assert result["items"] == result["dropped_sentences"] == 1
    assert result["sentences"]["long"]["sentences"] == 3
    assert result["sentences"]["long"]["bad"] == 1
    assert "long: 1 sentences left out: they did not fit the model" in result["problems"]
    assert any(one.startswith("1 responses left out: they do not fit the model") for one in result["problems"])
    with pytest.raises(PreferenceDataError, match="no response fits the model"):
        run(short, replace(OPTIONS, data=(str(written(tmp_path / "longer.jsonl", rows[1:])),)))


def test_data_is_needed(scorer: Scorer, tmp_path: Path) -> None:
    with pytest.raises(PreferenceDataError, match="Pass --data FILE"):
        run(scorer, OPTIONS)
    with pytest.raises(PreferenceDataError, match=r"there is no file nowhere\.jsonl"):
        run(scorer, replace(OPTIONS, data=("nowhere.jsonl",)))
    pairs = written(tmp_path / "pairs.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    with pytest.raises(
        PreferenceDataError, match="pairs: 1 row left out: prompt and response are of type str and None"
    ):
        run(scorer, replace(OPTIONS, data=(str(pairs),)))


def test_marks_of_a_row(tmp_path: Path) -> None:
    """Spans go before segments; of labels, what is below a half is bad; the group is the prompt without its context."""
    text = "Aa. Bb. Cc. Dd. Ee."
    parts = segments(text.split(), [1, 0, -1, 0.25, 0.75]) + segments(["Aa."], [None]) + segments(["Aa."], [0.5])
    rows = [
        {"prompt": "p", "context": "c", "response": text, "segments": parts},
        {"prompt": "p", "response": text, "segments": parts, "spans": [[0, 3], {"start": 8, "end": 11, "type": "x"}]},
        {"prompt": "p", "response": text, "segments": parts, "spans": None, "first_error": 1},
        {"prompt": "p", "response": text, "segments": parts, "spans": [], "first_error": -1},
        {"prompt": "p", "response": text, "segments": [*parts, {"text": "F", "start": None, "end": None, "label": 0}]},
    ]
    read, problems = read_source(str(written(tmp_path / "rows.jsonl", rows)), "marks", "train")
    bad, good = (Span(4, 7), Span(8, 11), Span(12, 15)), (Span(0, 3), Span(16, 19))
    steps = (Span(0, 3), Span(4, 7), Span(8, 11), Span(12, 15), Span(16, 19), Span(0, 3), Span(0, 3))
    assert read == [
        ("c\n\np", text, Marks("p", "marks", bad, good)),
        ("p", text, Marks("p", "marks", (Span(0, 3), Span(8, 11)), None)),
        ("p", text, Marks("p", "marks", bad, good, steps, 1)),
        ("p", text, Marks("p", "marks", (), None, steps, None)),
        ("p", text, Marks("p", "marks", bad, good)),
    ]
    assert problems == ["marks: 1 segment left out: start or end is null"]


@pytest.mark.parametrize(
    "prompt",
    [
        "How long?",
        "Human: Hi\n\nAssistant: Hello\n\nHuman: How long?",
        [{"role": "user", "content": "How long?"}],
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "?"},
        ],
    ],
)
def test_prompt_and_context_are_read_as_in_pairs(tmp_path: Path, prompt: str | list[dict[str, str]]) -> None:
    row = {"prompt": prompt, "context": "About eggs.", "response": "Nine minutes.", "spans": []}
    pair = {"prompt": row["prompt"], "context": row["context"], "chosen": "Nine minutes.", "rejected": "No idea."}
    [(prompt, _, marks)], _ = read_source(str(written(tmp_path / "rows.jsonl", [row])), "rows", "train")
    [expected] = load_preferences(written(tmp_path / "pairs.jsonl", [pair])).pairs
    assert (prompt, marks.group) == (expected.prompt, expected.split_key)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompt": [{"role": "user"}]}, "a message of prompt has role 'user' and content of type NoneType"),
        ({"prompt": None}, "prompt and response are of type NoneType and str"),
        ({"response": None}, "prompt and response are of type str and NoneType"),
        ({"spans": "0-3"}, "neither spans nor segments"),
        ({"spans": [[0, 3]], "unmatched_spans": 1}, "unmatched_spans"),
        ({"spans": [[0, 99]]}, "outside the response"),
        ({"spans": [[-1, 3]]}, "outside the response"),
        ({"spans": [[3, 0]]}, "outside the response"),
        ({"spans": [[0, None]]}, "no start and end"),
        ({"spans": [3]}, "no start and end"),
        ({"segments": ["Aa."]}, "a segment is no object"),
        ({"segments": [{"text": "Bb.", "start": 0, "end": 3, "label": 1}]}, "not what stands at its place"),
        ({"segments": [{"text": "Aa.", "start": 0, "end": 3, "label": "bad"}]}, "a label is no number"),
        ({"segments": segments(["Aa."], [0]), "first_error": 1}, "first_error is not null"),
        ({"segments": segments(["Aa."], [0]), "first_error": "0"}, "first_error is not null"),
        ({"segments": segments(["Aa."], [0]), "first_error": 0.5}, "first_error is not null"),
        ({"segments": segments(["Aa."], [0]), "first_error": True}, "first_error is not null"),
        ({"segments": segments(["Aa."], [0]), "first_error": -2}, "first_error is not null"),
        ({"context": ["c"], "spans": []}, "context is of type list"),
    ],
)
def test_rows_left_out(tmp_path: Path, change: dict, reason: str) -> None:
    rows = [{"prompt": "p", "response": "Aa. Bb."} | change, {"prompt": "p", "response": "Aa. Bb.", "spans": []}]
    read, [problem] = read_source(str(written(tmp_path / "rows.jsonl", rows)), "mine", "train")
    assert len(read) == 1
    assert problem.startswith("mine: 1 row left out: ")
    assert problem.endswith(" (the first: row 1)")
    assert reason in problem


def test_values_of_parquet_and_booleans(tmp_path: Path) -> None:
    """A column of whole numbers with nulls may come out as 1.0, labels as true and false."""
    text = "Aa. Bb."
    rows = [
        {"prompt": "p", "response": text, "segments": segments(text.split(), [True, False]), "first_error": 1.0},
        {"prompt": "p", "response": text, "segments": segments(text.split(), [True, True]), "first_error": -1.0},
    ]
    read, problems = read_source(str(written(tmp_path / "rows.jsonl", rows)), "x", "train")
    first, second = Span(0, 3), Span(4, 7)
    assert [marks for *_, marks in read] == [
        Marks("p", "x", (second,), (first,), (first, second), 1),
        Marks("p", "x", (), (first, second), (first, second), None),
    ]
    assert problems == []


def test_a_folder_and_files_of_one_name(scorer: Scorer, eggs_file: Path, tmp_path: Path) -> None:
    rows = eggs_file.read_text().splitlines()[:3]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "eggs.jsonl").write_text("\n".join(rows))
    files = tuple(str(tmp_path / name / "eggs.jsonl") for name in ("a", "b"))
    assert list(run(scorer, replace(OPTIONS, data=files))["sentences"]) == ["all", "a/eggs", "b/eggs"]
    folder = read_source(str(tmp_path / "a"), "eggs", "train")
    assert folder == read_source(files[0], "eggs", "train")


def test_a_response_keeps_its_characters(tmp_path: Path) -> None:
    """A response that looks like a transcript stays text, since marks count its characters."""
    text = "Human: Hi\n\nAssistant: Aa."
    row = {"prompt": "p", "response": text, "spans": [[22, 25]]}
    [(prompt, response, marks)], problems = read_source(str(written(tmp_path / "rows.jsonl", [row])), "x", "train")
    assert (prompt, response, marks.bad, problems) == ("p", text, (Span(22, 25),), [])
