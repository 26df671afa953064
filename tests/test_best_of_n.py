"""The Best of N page, without a browser: order, heads, pasted texts and links."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from sentrm.errors import SentrmError
from sentrm.heatmap import Scale
from sentrm.inspection import Inspector
from sentrm.links import LinkError, decode_pair
from sentrm.results import ScoredResponse
from sentrm.scoring import Scorer
from sentrm.ui.best_of_n import MOST, pair_link, rank, ranking_value, split_texts

TEXTS = ["Boil it for nine minutes. Then peel it.", "No.", "Older eggs peel more easily.", "No."]


@pytest.fixture(scope="module")
def responses(model_dir: Path) -> list[ScoredResponse]:
    return Inspector(Scorer.from_pretrained(model_dir)).responses("Eggs?", TEXTS)


def test_the_best_score_comes_first_and_equal_ones_in_the_order_given(responses):
    order = rank(responses)
    scores = [responses[i].score for i in order]
    assert scores == sorted(scores, reverse=True)
    assert order.index(1) < order.index(3)


def test_all_responses_are_drawn_on_one_scale(responses):
    value = ranking_value(responses)
    order = rank(responses)
    assert [side["name"] for side in value["sides"]] == [str(i + 1) for i in order]
    scale = Scale.around(0.05, [reward for one in responses for reward in one.rewards[1:]])  # the model's median
    for side, i in zip(value["sides"], order, strict=True):
        assert [one["class"] for one in side["sentences"]] == [scale.class_of(r) for r in responses[i].rewards[1:]]
    assert value["sides"][0]["meta"].startswith(f"rank 1 · score {responses[order[0]].score:+.2f} · ".replace("-", "−"))
    behind = responses[order[0]].score - responses[order[-1]].score
    assert f", {behind:.2f} behind · " in value["sides"][-1]["meta"]
    assert value["verdict"] is None


def test_a_conversation_is_said(responses):
    prompt = ({"role": "user", "content": "Eggs?"}, {"role": "assistant", "content": "Yes?"})
    asked = [replace(one, prompt=prompt) for one in responses]
    assert ranking_value(asked)["notices"] == ["The prompt is read as a conversation of 2 messages."]
    assert ranking_value(responses)["notices"] == []


@pytest.mark.parametrize(
    ("pasted", "texts"),
    [
        ("One.\n---\nTwo.", ["One.", "Two."]),
        (
            "---\nOne.\n\nStill one.\n  ---  \n\n---\r\nTwo --- it goes on.\n---",
            ["One.\n\nStill one.", "Two --- it goes on."],
        ),
    ],
)
def test_pasted_texts_are_split_at_separator_lines(pasted, texts):
    assert split_texts(pasted) == texts


@pytest.mark.parametrize("count", [0, 1, MOST + 1])
def test_too_few_or_too_many_pasted_texts_are_refused(count):
    with pytest.raises(SentrmError, match=f"got {count} response.*expected 2 to 16"):
        split_texts("\n---\n".join("x" * count))


def test_a_link_opens_the_pair(responses):
    link = urlsplit(pair_link("Eggs & ham?", TEXTS[0], "Ü\n#?"))
    assert link.path == "./"
    assert decode_pair(parse_qs(link.query)["pair"][0]) == ("Eggs & ham?", TEXTS[0], "Ü\n#?")
    with pytest.raises(LinkError):
        pair_link("x", "y" * 2_000_000, "z")
