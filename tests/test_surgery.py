"""Drafts and their history against texts written by hand, and rules that hold for any text."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentrm.scoring import Scorer
from sentrm.surgery import Draft, History, SurgeryError

PROSE = Draft(("A one. ", "B two.\n\n", "C three."))
LIST = Draft(("- a\n", "- b\n", "- c"))
CJK = Draft(("你好。", "我很好。", "谢谢。"))


@pytest.mark.parametrize(
    ("draft", "expected"),
    [
        (PROSE.drop(0), ("B two.\n\n", "C three.")),
        (PROSE.drop(2), ("A one. ", "B two.")),
        (PROSE.drop(1, 2), ("A one.",)),
        (PROSE.drop(0, 1, 2), ()),
        (Draft(("A one. ", "B two.\n")).drop(1), ("A one.\n",)),
        (PROSE.edit(1, "B."), ("A one. ", "B.\n\n", "C three.")),
        (PROSE.edit(1, "B. "), ("A one. ", "B. ", "C three.")),
        (PROSE.edit(2, "C."), ("A one. ", "B two.\n\n", "C.")),
        (PROSE.insert(0, "N."), ("N. ", "A one. ", "B two.\n\n", "C three.")),
        (PROSE.insert(1, "N."), ("A one. ", "N. ", "B two.\n\n", "C three.")),
        (PROSE.insert(3, "N."), ("A one. ", "B two.\n\n", "C three.\n\n", "N.")),
        (Draft(()).insert(0, "N."), ("N.",)),
        (Draft(("A.",)).insert(1, "N."), ("A. ", "N.")),
        (Draft(("A.",)).insert(0, "N."), ("N. ", "A.")),
        (Draft(("Hi. ", "World.\n")).insert(2, "New."), ("Hi. ", "World.\n", "New.\n")),
        (Draft(("A. ", "B.\n\n")).insert(2, "C.").drop(2), ("A. ", "B.\n\n")),
        (LIST.insert(3, "- d"), ("- a\n", "- b\n", "- c\n", "- d")),
        (CJK.insert(3, "好。"), ("你好。", "我很好。", "谢谢。", "好。")),
        (PROSE.duplicate(0), ("A one. ", "A one. ", "B two.\n\n", "C three.")),
        (LIST.duplicate(2), ("- a\n", "- b\n", "- c\n", "- c")),
        (Draft(("A.",)).duplicate(0), ("A. ", "A.")),
        (PROSE.move(0, 1), ("B two.\n\n", "A one. ", "C three.")),
        (PROSE.move(2, 0), ("C three.\n\n", "A one. ", "B two.")),
        (PROSE.move(0, 2), ("B two.\n\n", "C three. ", "A one.")),
        (CJK.move(2, 0), ("谢谢。", "你好。", "我很好。")),
        (PROSE.move(1, 1), PROSE.pieces),
    ],
)
def test_operations_change_the_text(draft, expected):
    assert draft == Draft(expected, by_hand=False)


def test_split_and_join_change_the_cuts_alone():
    cut = PROSE.split(0, 1)
    assert cut == Draft(("A ", "one. ", "B two.\n\n", "C three."), by_hand=True)
    assert cut.text == PROSE.text == "A one. B two.\n\nC three."
    assert cut.spans == ((0, 2), (2, 7), (7, 15), (15, 23))
    assert cut.join(0) == Draft(PROSE.pieces, by_hand=True)
    assert PROSE.join(1).pieces == ("A one. ", "B two.\n\nC three.")
    assert cut.drop(0).by_hand


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (lambda: PROSE.drop(3), "got sentence 3 of 3; expected 0 to 2"),
        (lambda: PROSE.drop(-1), "got sentence -1 of 3"),
        (lambda: Draft(()).duplicate(0), "expected none, the response is empty"),
        (lambda: PROSE.edit(5, "A."), "got sentence 5 of 3"),
        (lambda: PROSE.edit(0, " \n"), r"expected more than white space \(drop"),
        (lambda: PROSE.insert(4, "A."), "got place 4 of 3 sentences; expected 0 to 3"),
        (lambda: PROSE.insert(0, ""), "got '' for a sentence"),
        (lambda: PROSE.move(0, 3), "got sentence 3 of 3"),
        (lambda: PROSE.split(0, 0), "got a cut at character 0 of a sentence of 7"),
        (lambda: PROSE.split(0, -3), "expected text on both sides"),
        (lambda: PROSE.split(0, 6), "expected text on both sides"),
        (lambda: PROSE.split(0, 99), "expected text on both sides"),
        (lambda: PROSE.join(2), "got sentence 2, the last"),
    ],
)
def test_what_cannot_be_done_says_what_was_expected(operation, message):
    with pytest.raises(SurgeryError, match=message):
        operation()


TEXTS = st.lists(st.tuples(st.sampled_from(["A.", "b!", "你。", "🙂"]), st.sampled_from(["", " ", "\n\n"])), max_size=5)


@settings(max_examples=50, deadline=None)
@given(TEXTS, st.data())
def test_all_but_white_space_stays_and_the_text_ends_as_it_did(parts, data):
    draft = Draft(tuple(ink + space for ink, space in parts))
    inks, n = [ink for ink, _ in parts], len(parts)
    if not n:
        return
    i, j = (data.draw(st.integers(0, n - 1)) for _ in range(2))
    ending = draft.text[len(draft.text.rstrip()) :]
    for result, expected in (
        (draft.drop(i), [ink for k, ink in enumerate(inks) if k != i]),
        (draft.duplicate(i), [*inks[: i + 1], *inks[i:]]),
        (draft.insert(i, "N."), [*inks[:i], "N.", *inks[i:]]),
        (draft.insert(n, "N."), [*inks, "N."]),
        (draft.move(i, j), [*(inks[:i] + inks[i + 1 :])[:j], inks[i], *(inks[:i] + inks[i + 1 :])[j:]]),
    ):
        assert [piece.rstrip() for piece in result.pieces] == expected
        assert not expected or result.text[len(result.text.rstrip()) :] == ending
        assert "".join(result.text[start:end] for start, end in result.spans) == result.text
    assert draft.move(i, j).move(j, i).text.split() == draft.text.split() or "" in {space for _, space in parts}


def test_a_draft_of_a_response_has_its_whole_text(model_dir):
    scorer = Scorer.from_pretrained(model_dir, max_length=80)
    text = "Boil the egg for nine minutes. Then move it to ice water!\n\n- Peel it.\n- Eat it. " * 2
    (one,) = scorer.score([("Hi", text)])
    draft = Draft.from_response(one)
    assert one.dropped_sentences > 0
    assert (draft.text, draft.by_hand, draft.pieces[:-1]) == (text, False, one.sentences)
    joined = Draft.from_response(one, scorer.segmenter).join(0)  # one sentence less, as many not read
    (again,) = scorer.score([("Hi", joined.text, joined.spans)])
    assert len(again.spans) + again.dropped_sentences == len(one.spans) + one.dropped_sentences - 1
    cut = Draft(("Boil the egg. Then ", "peel it."), by_hand=True)
    (by_hand,) = scorer.score([("Hi", cut.text, cut.spans)])
    assert Draft.from_response(by_hand) == cut
    (empty,) = scorer.score([("Hi", "")])
    assert Draft.from_response(empty) == Draft(())


def test_history_undoes_and_redoes_every_step():
    history = History((), "a").do("b").do("c")
    assert history == History(("a", "b"), "c")
    assert history.undo() == History(("a",), "b", ("c",))
    assert history.undo().undo() == History((), "a", ("b", "c"))
    assert history.undo().undo().redo().redo() == history
    assert history.undo().do("d") == History(("a", "b"), "d")
    assert history.do("c") is history
    assert History((), "a").undo() == History((), "a").redo() == History((), "a").reset() == History((), "a")
    assert history.reset() == History(("a", "b", "c"), "a")
    assert history.reset().undo() == dataclasses.replace(history, future=("a",))
