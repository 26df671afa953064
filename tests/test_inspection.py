"""What a page asks of a model: the answers are the library's own, computed once, and said in the page's words."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from tiny import tiny_model

from sentrm import influence, inspection
from sentrm.configuration import SentenceRewardConfig
from sentrm.errors import SentrmError
from sentrm.inspection import Inspector
from sentrm.preferences import PreferencePair
from sentrm.results import ScoredPair, ScoredResponse, Span
from sentrm.scoring import Scorer
from training.held_out import length_calibration

PROMPT = "How do I boil an egg?"
A = "Boil it for nine minutes. Then move it to ice water. I hope this helps."
B = "Older eggs peel more easily. There are many ways to do it!"


@pytest.fixture
def inspector(scorer: Scorer) -> Inspector:
    return Inspector(scorer)


def close(one: ScoredResponse, other: ScoredResponse) -> None:
    """Equal but for the last bits of the numbers."""
    numbers: tuple[str, ...] = ("values", "rewards", "weights", "contributions", "score")
    for name in numbers:
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-5)
    assert replace(one, **dict.fromkeys(numbers, ())) == replace(other, **dict.fromkeys(numbers, ()))


def test_a_pair_has_the_scorers_numbers_whatever_was_asked_before(inspector, scorer):
    steps = [(A, B), (A.replace("nine", "ten"), B), (A, B + " Yes."), ("Boil it.", A), (A, B)]
    for a, b in steps:
        pair, notices = inspector.pair(PROMPT, a, b)
        (expected,) = scorer.score([PreferencePair(PROMPT, a, b)])
        close(pair.a, expected.a)
        close(pair.b, expected.b)
        assert notices == ()


def test_one_text_on_both_sides_is_exactly_even(inspector):
    assert inspector.pair(PROMPT, A, A)[0].probability == 0.5


def test_sentences_cut_by_hand(inspector, scorer):
    cuts = (Span(0, 10), Span(10, len(A)))
    pair, _ = inspector.pair(PROMPT, A, B, cuts_a=cuts)
    assert pair.a.spans == cuts
    assert pair.a.segmenter.spec == "by hand"
    assert pair.b.segmenter.own
    close(pair.a, scorer.score([(PROMPT, A, cuts)])[0])
    assert inspector.pair(PROMPT, A, B)[0].a.spans != cuts


def test_chat_messages_are_a_prompt_too(inspector, scorer):
    prompt = (
        {"role": "user", "content": "Eggs?"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "How so?"},
    )
    pair, _ = inspector.pair(prompt, A, B)
    close(pair.a, scorer.score([(prompt, A)])[0])
    assert all(map(math.isfinite, vars(inspector.prompt_check(pair)).values()))


def test_answers_are_computed_once_and_the_oldest_forgotten(inspector, monkeypatch):
    asked = []
    original = inspection.Rescorer.score
    monkeypatch.setattr(inspection.Rescorer, "score", lambda *args: asked.append(args[1]) or original(*args))
    monkeypatch.setattr(inspection, "KEPT", 4)
    first = inspector.pair(PROMPT, A, B)[0]
    assert inspector.pair(PROMPT, A, B)[0] == first
    assert asked == [A, B]
    assert inspector.leave_one_out(first.a) is inspector.leave_one_out(first.a)
    inspector.pair(PROMPT, "One.", "Two.")
    inspector.pair(PROMPT, A, B)
    assert asked == [A, B, "One.", "Two.", A, B]


def test_late_edits_read_only_what_follows(inspector, monkeypatch):
    read = []
    original = inspection.Rescorer.score
    monkeypatch.setattr(
        inspection.Rescorer, "score", lambda self, *args: (original(self, *args), read.append(self.read))[0]
    )
    inspector.pair(PROMPT, A, B)
    inspector.pair(PROMPT, A + " Enjoy.", B)
    assert len(read) == 3
    assert 0 < read[-1] < 20


def test_what_was_read_is_kept_up_to_a_size_for_every_segmenter_together(inspector, scorer, monkeypatch):
    inspector.pair(PROMPT, A, B)
    inspector.cut_by("tokens").pair(PROMPT, A, B)
    (of_a, of_b) = inspector._readers.values()
    config = scorer.model.config.backbone_config
    cached = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim  # numbers a token
    assert of_b.size == 4 * len(of_b.ids) * (cached + config.hidden_size)
    monkeypatch.setattr(inspection, "READERS_SIZE", of_a.size + of_b.size)
    for i in range(5):
        inspector.pair(f"{PROMPT} {i}", "Yes.", "No.")
        assert 2 <= len(inspector._readers) < 10
    monkeypatch.setattr(inspection, "READERS_SIZE", 0)
    inspector.pair(PROMPT, A + " Enjoy.", B + " Enjoy.")
    assert list(inspector._readers) == [(repr(PROMPT), 0), (repr(PROMPT), 1)]


def test_responses_are_scored_in_order(inspector, scorer):
    texts = [A, B, "Boil it.", A]
    done = []
    for one, expected in zip(
        inspector.responses(PROMPT, texts, lambda *now: done.append(now)),
        scorer.score([(PROMPT, text) for text in texts]),
        strict=True,
    ):
        close(one, expected)
    assert done[-1] == (4, 4)


@pytest.mark.parametrize(
    ("prompt", "texts", "said"),
    [
        (PROMPT, [], "got 0 responses, expected 1 to 64"),
        (PROMPT, ["x"] * 65, "got 65 responses, expected 1 to 64"),
        (PROMPT, ["x", " "], "response 2 is only white space"),
        ("", ["x"], "the prompt is empty"),
        (PROMPT, ["x.", "y" * 5000], "Response 2: the first sentence has"),
    ],
)
def test_responses_that_cannot_be_scored_are_named(inspector, prompt, texts, said):
    with pytest.raises(SentrmError, match=r"^Nothing was scored[:.] ") as raised:
        inspector.responses(prompt, texts)
    assert said in str(raised.value)


def test_missing_fields_are_named(inspector):
    with pytest.raises(SentrmError, match="the prompt is only white space, response A is empty"):
        inspector.pair(" ", "", "b")
    with pytest.raises(SentrmError, match="response B is empty"):
        inspector.pair("p", "a", "")


@pytest.mark.parametrize("prompt", [["Hi"], [{"role": "user"}], [{"role": "user", "content": None}], None])
def test_what_is_no_message_is_refused(inspector, prompt):
    for ask in (lambda: inspector.pair(prompt, A, B), lambda: inspector.responses(prompt, [A])):
        with pytest.raises(SentrmError, match="expected text or chat messages, each with a role and content"):
            ask()


def test_an_error_speaks_of_the_responses_by_their_names(inspector):
    with pytest.raises(SentrmError, match=r"^Nothing was scored\. Response B: the first sentence has \d+ tokens"):
        inspector.pair(PROMPT, A, "x" * 5000)
    close(inspector.pair(PROMPT, A, B)[0].b, inspector.scorer.score([(PROMPT, B)])[0])


def test_characters_that_are_none_are_replaced_and_said(inspector):
    pair, notices = inspector.pair("Egg\ud800s\udfff\ue000?", "One\0.", "Two.")
    assert (pair.prompt, pair.a.text) == ("Egg\ufffds\ufffd\ue000?", "One\0.")
    assert len(notices) == 2
    assert "The prompt held 2 lone surrogates" in notices[0]
    assert "Response A holds 1 NUL character" in notices[1]


def test_influence_is_the_librarys(inspector, scorer):
    pair, _ = inspector.pair(PROMPT, A, B)
    assert inspector.leave_one_out(pair.a) == pytest.approx(influence.leave_one_out(scorer, pair.a))
    assert inspector.smallest_flip(pair) == influence.smallest_flip(scorer, pair)


def test_a_search_is_cancelled_by_its_progress_and_can_be_asked_again(inspector, scorer):
    pair, _ = inspector.pair(PROMPT, A, B)

    def cancel(done: int, of: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        inspector.smallest_flip(pair, cancel)
    assert inspector.smallest_flip(pair) == influence.smallest_flip(scorer, pair)


def test_the_prompt_check_scores_the_same_sentences_under_other_prompts(inspector, scorer):
    pair, _ = inspector.pair(PROMPT, A, B)
    check = inspector.prompt_check(pair)

    def margin(prompt: str) -> float:
        a, b = scorer.score([(prompt, A), (prompt, B)])
        return a.score - b.score

    assert check.real == pair.margin
    assert check.empty == pytest.approx(margin(""), abs=1e-5)
    assert sorted(inspection._shuffled(PROMPT).split()) == sorted(PROMPT.split())
    assert check.shuffled == pytest.approx(margin(inspection._shuffled(PROMPT)), abs=1e-5)
    assert len({check.real, check.empty, check.shuffled}) == 3
    assert Inspector(scorer).prompt_check(pair) == check


@pytest.mark.parametrize("text", ["a b", "one two three four"])
def test_shuffled_words_are_the_same_words_in_another_order(text):
    shuffled = inspection._shuffled(text)
    assert shuffled != text
    assert sorted(shuffled) == sorted(text)
    assert inspection._shuffled(text) == shuffled


@pytest.mark.parametrize("text", ["为什么", "Why?", "same\nsame"])
def test_a_prompt_without_another_order_is_not_shuffled(inspector, text):
    assert inspection._shuffled(text) == text
    assert inspector.prompt_check(inspector.pair(text, A, B)[0]).shuffled is None


def test_there_is_no_prompt_check_where_other_text_would_be_read(tokenizer, scorer, monkeypatch):
    def check(inspector, prompt, **cuts):
        return inspector.prompt_check(inspector.pair(prompt, A, B, **cuts)[0])

    assert check(Inspector(scorer), "word " * 200) is None, "the model did not read its beginning"
    length = len(scorer.encoder.encode(PROMPT, A, scorer.segmenter.spans([A])[0]).ids)
    exact = Scorer.from_model(scorer.model, tokenizer, name="tiny", max_length=length)
    assert check(Inspector(exact), PROMPT) is not None
    monkeypatch.setattr(inspection, "_shuffled", lambda text: f"{text} {text}")  # that takes more tokens
    assert check(Inspector(exact), PROMPT) is None, "one sentence less"
    whole = (Span(0, len(A)),)
    assert check(Inspector(exact), PROMPT, cuts_a=whole) is None, "not even one"


def test_the_length_check_takes_out_what_the_lengths_explain(tokenizer):
    model = tiny_model(length_calibration=[[10, 0.0], [50, 4.0], [100, 5.0]])
    inspector = Inspector(Scorer.from_model(model, tokenizer, name="tiny"))
    pair, _ = inspector.pair(PROMPT, "x" * 29 + ".", "y" * 119 + ".")
    check = inspector.length_check(pair)
    assert check.before == pair.margin
    assert check.after == pytest.approx(pair.margin - (2.0 - 5.0))  # beyond the last knot it stays level
    by_hand, _ = inspector.pair(PROMPT, "A. B.", "C.", cuts_a=(Span(0, 5),))
    assert inspector.length_check(by_hand) is None
    assert Inspector(Scorer.from_model(tiny_model(), tokenizer, name="tiny")).length_check(pair) is None


@pytest.mark.parametrize("knots", [[], [[2, 0.0], [1, 0.0]], [[1, 0.0], [1, 2.0]]])
def test_a_calibration_that_does_not_ascend_is_refused(knots):
    with pytest.raises(SentrmError, match="characters ascending"):
        SentenceRewardConfig(length_calibration=knots)


def test_a_calibration_is_saved_with_the_model(tmp_path):
    SentenceRewardConfig(length_calibration=[[1, 0.5], [2, 0.25]]).save_pretrained(tmp_path)
    assert SentenceRewardConfig.from_pretrained(tmp_path).length_calibration == [[1, 0.5], [2, 0.25]]


def test_another_segmenter_cuts_the_same_model(inspector):
    other = inspector.cut_by("response")
    pair, _ = other.pair(PROMPT, A, B)
    assert pair.a.spans == (Span(0, len(A)),)
    assert not pair.a.segmenter.own
    assert pair.a.model == inspector.scorer.model_info
    assert inspector.cut_by("rules").pair(PROMPT, A, B)[0].a.segmenter == inspector.scorer.segmenter_info
    assert len(inspector.cut_by("tokens").pair(PROMPT, A, B)[0].a.spans) > 10


def test_a_response_that_is_one_span_is_cut_where_the_model_ends_and_counted(inspector):
    """Whichever model it is: a checkpoint of a response-level model that is read in sentences drops those whole."""
    pair, _ = inspector.cut_by("response").pair(PROMPT, A * 20, B)
    assert pair.a.dropped_sentences == 1
    assert len(A) < pair.a.spans[0].end < len(A * 20)
    with pytest.raises(SentrmError, match="the first sentence has"):
        inspector.cut_by("response").cut_by("rules").pair(PROMPT, "x" * 5000 + ". One. Two.", B)


def test_an_answer_that_is_there_waits_for_no_other(inspector):
    pair, _ = inspector.pair(PROMPT, A, B)
    found: list[ScoredPair] = []
    asking = threading.Thread(target=lambda: found.append(inspector.pair(PROMPT, A, B)[0]), daemon=True)

    def ask_meanwhile(done: int, of: int) -> None:
        if not found:
            asking.start()
            asking.join(20)
            assert found == [pair]

    inspector.smallest_flip(pair, ask_meanwhile)
    assert found


def test_a_step_waits_for_one_batch_of_a_long_answer(scorer):
    inspector = Inspector(replace(scorer, batch_tokens=1))  # a sequence is a batch
    pair, _ = inspector.pair(PROMPT, " ".join(f"Boil it {i} times." for i in range(12)), B)
    said: list[str] = []

    def step() -> None:
        inspector.pair(PROMPT, A, B)
        said.append("step")

    asking = threading.Thread(target=step, daemon=True)

    def told(done: int, of: int) -> None:
        said.append("batch")
        if done == 1:
            asking.start()
            while inspector._lock._given - inspector._lock._turn < 2:  # until it waits
                assert asking.is_alive()

    inspector.leave_one_out(pair.a, told)
    asking.join(20)
    assert said.count("batch") == 12
    assert "step" in said[:-3]


def test_threads_that_ask_at_once_get_their_own_answers(inspector, scorer):
    texts = [f"Boil {i} eggs. Then peel them." for i in range(12)]
    found: dict[str, ScoredPair] = {}

    def ask(text: str) -> None:
        found[text] = inspector.pair(PROMPT, text, B)[0]

    threads = [threading.Thread(target=ask, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for expected in scorer.score([(PROMPT, text) for text in texts]):
        close(found[expected.text].a, expected)
    assert np.unique([pair.a.score for pair in found.values()]).size == len(texts)


def test_a_data_set_is_scored_alike_while_a_visitor_edits(inspector, scorer):
    """Both read the model in ways of their own, which want another attention."""
    pairs = [(PROMPT, f"Boil egg {i}. " * (1 + i % 5)) for i in range(32)]
    expected = [one.score for one in scorer.score(pairs)]
    over = threading.Event()

    def edit() -> None:
        for i in count():
            inspector.pair(PROMPT, f"{A} {i}", B)
            if over.is_set():
                return

    editing = threading.Thread(target=edit)
    editing.start()
    try:
        for _ in range(20):
            assert [one.score for one in scorer.score(pairs)] == expected
    finally:
        over.set()
        editing.join()


def test_the_calibration_written_after_training_removes_what_length_explains(inspector):
    one = inspector.pair(PROMPT, A, B)[0].a
    lengths = np.random.default_rng(0).integers(20, 400, 300)
    noise = np.random.default_rng(1).normal(0, 0.1, 300)
    responses = [
        replace(one, text="x" * length, score=0.01 * length + error)
        for length, error in zip(lengths.tolist(), noise.tolist(), strict=True)
    ]
    knots = length_calibration(responses)
    assert len(knots) == 33
    characters, expected = np.array(knots).T
    assert (characters[0], characters[-1]) == (lengths.min(), lengths.max())
    assert expected == pytest.approx(0.01 * characters, abs=0.05)
    SentenceRewardConfig(length_calibration=knots)
    assert length_calibration(responses[:99]) is None
    assert length_calibration([replace(response, text="same") for response in responses]) is None
