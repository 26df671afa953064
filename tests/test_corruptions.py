"""Corruptions: each kind by hand, and what holds of all: one changed sentence, the rest untouched, nothing leaks."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentrm.errors import PreferenceDataError
from sentrm.results import Span
from sentrm.scoring import Scorer
from sentrm.segmentation import RulesSegmenter, load_segmenter
from training.benchmarks.corruptions import LENGTH_RULES, change_is_read, figures, read, run
from training.benchmarks.sentences import MEASURES
from training.benchmarks.task import Item, Options
from training.corruptions import KINDS, Corruption, Corruptor, GoodResponse, is_prose
from training.data import is_held_out
from training.phrases import HEDGES, RUDE

RULES = load_segmenter("rules:en")
EGGS = (
    "Boil the eggs for 12 minutes, and then cool them in water. Older eggs are easier to peel than fresh ones. "
    "The cooks of Vienna and of Boston agree on that, and Vienna is right about the salt in any case."
)
HILLS = (
    "The railway through the mountains was finished in 1887 by workers from Boston. Its longest tunnel was dug by "
    "hand under terrible conditions, and engineers from Lisbon came to see it. In the valley of Lisbon it is not "
    "forgotten."
)
BIRDS = (
    "Migrating cranes can travel 4,000 kilometres without landing, as observers in Norway have shown. "
    "Their numbers were falling until hunting was forbidden in Norway and elsewhere. "
    "Warmer winters will change that before long."
)
LAYOUT = (
    "Here is what to do:\n\n1. Wash the rice with 3 cups of water.\n2. Let it stand for an hour 🙂.\n\n"
    "```python\ncups = 3\nprint('Rice is good.')\n```\n\n| a | b |\n|---|---|\n| c | d |\n\n"
    "The cooks in Lisbon do it like that, and so does Lisbon as a whole — naïvely.\r\n米は三合です。\n"
    "Then the rice is ready for all of the guests."
)
POOL = [
    GoodResponse(prompt, text, prompt)
    for prompt, text in {"How are eggs boiled?": EGGS, "Who built it?": HILLS, "Why do they fly?": BIRDS}.items()
]
RICE = GoodResponse(({"role": "user", "content": "How is rice cooked?"},), LAYOUT, "How is rice cooked?")


def corruptor(seed: int = 0, held_out: bool = False, pool: list[GoodResponse] | None = None) -> Corruptor:
    return Corruptor(pool or [*POOL, RICE], (), held_out=held_out, seed=seed)


def corrupted(kind: str, text: str, seed: int = 0, prompt: str = "What now?") -> Corruption | None:
    return corruptor(seed).corrupt(GoodResponse(prompt, text, prompt), kind)


def sentences(text: str) -> list[str]:
    return [text[start:end].strip() for start, end in RULES.spans([text])[0]]


def changed(kind: str, text: str, seed: int = 0) -> str:
    bad = corrupted(kind, text, seed)
    assert bad is not None
    return bad.text[bad.start : bad.end]


def put_in(text: str, bad: Corruption) -> bool:
    """Whether the original is the corrupted text without the changed sentence and one space beside it."""
    before, behind = bad.text[: bad.start], bad.text[bad.end :]
    return text == before[:-1] + behind or text == before + behind[1:]


# Each kind


@pytest.mark.parametrize("kind", ["irrelevant", "repetition", "hedge", "rudeness"])
def test_sentences_are_put_in_from_where_they_should_be(kind):
    expected = {
        "irrelevant": {one for response in POOL[1:] for one in sentences(response.text)},
        "repetition": set(sentences(EGGS)),
        "hedge": set(HEDGES[False]),
        "rudeness": set(RUDE[False]),
    }
    places = set()
    for seed in range(30):
        bad = corruptor(seed).corrupt(POOL[0], kind)
        assert bad is not None
        assert put_in(EGGS, bad)
        found = bad.text[bad.start : bad.end]
        assert found in expected[kind]
        places.add(sentences(bad.text).index(found) if kind != "repetition" else sentences(bad.text).count(found))
        if kind == "repetition":
            assert bad.text.index(found) < bad.start, "the second one is the changed one"
    assert places == ({2} if kind == "repetition" else {0, 1, 2, 3})


def test_an_irrelevant_sentence_is_of_another_prompt_and_has_no_long_word_in_common():
    about_eggs = GoodResponse("And ostriches?", EGGS.replace("Boil", "Simmer"), "And ostriches?")
    for seed in range(10):
        bad = corruptor(seed, pool=[POOL[0], about_eggs]).corrupt(POOL[0], "irrelevant")
        assert bad is None, "the only other response is about eggs too"
    assert corruptor(pool=[POOL[0], GoodResponse("p", HILLS, POOL[0].split_key)]).corrupt(POOL[0], "irrelevant") is None


OSTRICHES = "The ostriches are running through the savanna all morning."


def as_messages(prompt: str) -> tuple[dict[str, str], ...]:
    return ({"role": "system", "content": "Be short."}, {"role": "user", "content": prompt})


@pytest.mark.parametrize("form", [str, as_messages])
def test_words_at_the_beginning_of_a_prompts_line_count(form):
    pool = [GoodResponse("p", OSTRICHES, "p")]
    about = GoodResponse(form("Tell me of\nostriches"), EGGS, "q")
    assert corruptor(pool=pool).corrupt(about, "irrelevant") is None
    other = GoodResponse(form("Tell me of\nbirds"), EGGS, "q")
    assert corruptor(pool=pool).corrupt(other, "irrelevant") is not None
    vienna = GoodResponse(form("What do they know in\nVienna?"), "The cooks of Vienna know it all.", "q")
    assert corruptor().corrupt(vienna, "entity") is not None


def test_how_messages_are_written_does_not_count():
    pool = [GoodResponse("p", "The content of the assistant system is running on.", "p")]
    asked = GoodResponse(as_messages("How is it?"), EGGS, "q")
    assert corruptor(pool=pool).corrupt(asked, "irrelevant") is not None


def test_a_sentence_that_the_other_side_holds_too_is_not_borrowed():
    first, second, third = sentences(HILLS)  # the first has Boston in common with EGGS
    pool = [POOL[0], POOL[1]]
    for theirs, expected in (
        ([first], {second, third}),
        ([f"So it is:\n\n- {second}\n- Yes."], {third}),  # also where it stands in a list
        ([f"{third} {BIRDS}"], {second}),
        ([HILLS], set()),
    ):
        bad = [Corruptor(pool, theirs, held_out=True, seed=i).corrupt(POOL[0], "irrelevant") for i in range(40)]
        assert {one and one.text[one.start : one.end] for one in bad} == (expected or {None})


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("The eggs are done after that.", "The eggs are not done after that."),
        ("You can peel them under water.", "You cannot peel them under water."),
        ("You cannot peel them in the dark.", "You can peel them in the dark."),
        ("It isn't a good idea to wait.", "It is a good idea to wait."),
        ("It won’t harm the rice at all.", "It will harm the rice at all."),
        ("Please don't boil them for long.", "Please do boil them for long."),
        ("They did not know of the salt.", "They did know of the salt."),
        ("It's the best of all ways.", "It's not the best of all ways."),
        ("I'm not the cook of this house.", "I'm the cook of this house."),
        ("The cook has been in this house.", "The cook has not been in this house."),
        ("2. The eggs were boiled for long.", "2. The eggs were not boiled for long."),
    ],
)
def test_negation(sentence, expected):
    assert changed("negation", sentence) == expected


@pytest.mark.parametrize(
    "sentence",
    [
        "Boil the eggs for some time.",
        "Are the eggs done by now?",
        "It is not only the salt that counts.",
        "They may come to the house.",
        "He asked whether it is the salt.",
        "The cook has a house by the sea.",
        "There is never an egg in it.",
        "Das ist nicht gut für das Ei.",
        "print(this is not a sentence)",
    ],
)
def test_no_negation(sentence):
    assert corrupted("negation", sentence) is None


@pytest.mark.parametrize(
    ("sentence", "shape", "low", "high"),
    [
        ("It takes 12 minutes.", r"It takes (\d\d) minutes\.", 10, 26),
        ("It costs $1,250.75 in all.", r"It costs \$(\d,\d{3}\.\d\d) in all\.", 1000, 2600),
        ("It rose by 0.05 a year.", r"It rose by (0\.0\d) a year\.", 0.01, 0.09),
        ("It began in 1987.", r"It began in (\d{4})\.", 1957, 2017),
        ("It began in 2020.", r"It began in (\d{4})\.", 1990, 2029),
        ("It began on 31 August.", r"It began on (\d\d) August\.", 10, 28),
        ("It is 100% pure.", r"It is (\d\d)% pure\.", 10, 95),
        ("1. Take 7 eggs.", r"1\. Take (\d) eggs\.", 3, 9),
        ("2、鸡蛋要煮 12 分钟。", r"2、鸡蛋要煮 (\d\d) 分钟。", 10, 26),
        ("Add 3 + 4 in it.", r"Add (\d) \+ 4 in it\.|Add 3 \+ (\d) in it\.", 1, 9),
    ],
)
def test_number(sentence, shape, low, high):
    for seed in range(20):
        found = changed("number", sentence, seed)
        match = re.fullmatch(shape, found)
        assert match, found
        assert found != sentence
        digits = next(one for one in match.groups() if one).replace(",", "")
        assert low <= float(digits) <= high


def test_number_in_worked_arithmetic():
    """One of the numbers has another digit; nothing else changes."""
    sentence, places = "3 + 4 = <<3+4=7>>7", set()
    for seed in range(40):
        found = changed("number", sentence, seed)
        assert len(found) == len(sentence)
        other = [i for i, (one, two) in enumerate(zip(sentence, found, strict=True)) if one != two]
        assert len(other) == 1
        assert sentence[other[0]].isdigit()
        assert found[other[0]].isdigit()
        places.add(other[0])
    assert len(places) > 2


@pytest.mark.parametrize(
    "sentence",
    [
        "GPT-4 came on the 20th at 12:30, with 3/4 of version 1.2.3 [1].",
        "3. Take some eggs.",
        "See https://example.org/%E5%88%B6 for more.",
        "```\nx = 3\n```",
        "Take some, for example 3 of them.",
        "There are none.",
    ],
)
def test_no_number(sentence):
    assert corrupted("number", sentence) is None


def test_entity():
    found = set()
    for seed in range(30):
        bad = corruptor(seed, pool=[*POOL, RICE, *same_names()]).corrupt(POOL[0], "entity")
        assert bad is not None
        match = re.search(r"The cooks of (\w+) and of Boston agree on that, and (\w+) is right about", bad.text)
        assert match
        assert [one == "Vienna" for one in match.groups()] in ([True, False], [False, True]), "one of the two"
        found |= set(match.groups()) - {"Vienna"}
    assert found == {"Lisbon", "Norway", "Europe"}, (
        "names of two responses, but not the other name of the same sentence"
    )


def same_names() -> list[GoodResponse]:
    text = "There were visitors in Norway, and Norway is in the north of Europe."
    return [GoodResponse(prompt, text, prompt) for prompt in ("a", "b")]


def test_a_name_that_is_said_once_is_not_swapped():
    assert corrupted("entity", "The cooks of Vienna know it all, as you will see.") is None
    assert corrupted("entity", "The cooks of Vienna know it all.", prompt="What do they know in Vienna?") is not None
    assert corrupted("entity", "It is the Apple of all, and an apple a day is the Apple.") is None


def test_broken_off():
    found = set()
    for seed in range(30):
        bad = corrupted("broken_off", f"{EGGS}\n", seed)
        assert bad is not None
        last = sentences(EGGS)[-1]
        cut = bad.text[bad.start : bad.end]
        assert last.startswith(cut)
        assert last[len(cut)] in " ,."
        assert cut[-1].isalpha()
        assert bad.text == EGGS[: -len(last)] + cut + "\n"
        found.add(cut)
    assert len(found) > 5
    assert corrupted("broken_off", "It has no end mark at all and goes on for long") is None
    assert corrupted("broken_off", f"{EGGS}\n\n```\nx = 1\n```") is None
    assert corrupted("broken_off", "That is so short.") is None


def test_shuffled():
    for seed in range(30):
        bad = corrupted("shuffled", EGGS, seed)
        assert bad is not None
        old, new = sentences(EGGS), sentences(bad.text)
        other = [i for i in range(3) if old[i] != new[i]]
        assert len(other) == 1
        before, after = old[other[0]], new[other[0]]
        assert bad.text[bad.start : bad.end] == after
        assert sorted(before[:-1].split()) == sorted(after[:-1].split())
        assert after.endswith(".")
        moved = sum(one != two for one, two in zip(before.split(), after.split(), strict=True))
        assert moved >= len(before.split()) // 2
    assert corrupted("shuffled", "These are four words.") is None


# Of all kinds

PIECES = st.sampled_from(
    [
        *sentences(EGGS),
        *sentences(HILLS),
        "Is it so?",
        "Yes.",
        "- Take 3 eggs from the fridge.",
        "```\nx = [1, 2]\nprint('So it is.')\n```",
        "# The heading",
        "| a | 12 |\n|---|---|",
        "米は三合です。",
        "It is “naïve” 🙂.",
        "שלום עולם.",
        "$$\nx = 2\n$$",
    ]
)
SPACE = st.sampled_from([" ", "  ", "\n", "\n\n", "\r\n\r\n", "\n\n\n"])
TEXTS = st.lists(st.tuples(PIECES, SPACE), max_size=7).map(lambda parts: "".join(map("".join, parts)))


@settings(max_examples=60, deadline=None)
@given(text=st.one_of(TEXTS, st.text(max_size=60)), kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 5))
def test_one_sentence_changes_and_all_else_stays(text, kind, seed):
    bad = corrupted(kind, text, seed)
    if bad is None:
        return
    assert bad.kind == kind
    assert bad.text != text
    assert 0 <= bad.start < bad.end <= len(bad.text)
    found = bad.text[bad.start : bad.end]
    assert found == found.strip()
    replaced = text.startswith(bad.text[: bad.start]) and text.endswith(bad.text[bad.end :])
    assert put_in(text, bad) or (replaced and len(text) > len(bad.text) - len(found))
    old, new = sentences(text), sentences(bad.text)
    place = new.index(found) if kind != "repetition" else len(sentences(bad.text[: bad.start]))
    assert new[:place] + new[place + 1 :] == (old if put_in(text, bad) else old[:place] + old[place + 1 :])
    for block in re.findall(r"```.*?```|\$\$.*?\$\$", text, re.DOTALL) if kind != "number" else ():
        assert bad.text.count(block) == text.count(block)
    assert bad == corrupted(kind, text, seed)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_layout_survives(kind):
    bad = corruptor().corrupt(RICE, kind)
    assert bad is not None
    kept = bad.text[: bad.start] + "\0" + bad.text[bad.end :]
    for part in (
        "```python\ncups = 3\nprint('Rice is good.')\n```",
        "\r\n米は三合です。\n",
        "\n| a | b |\n|---|---|\n| c | d |\n\n",
    ):
        assert part in kept
    assert kept.count("\n") == LAYOUT.count("\n")


def test_the_order_of_the_rows_does_not_matter_and_the_seed_does():
    pool = [*POOL, RICE]
    mixed = [RICE, *POOL[::-1], POOL[0]]
    found = {}
    for seed, kind, one in product(range(3), KINDS, pool):
        bad = corruptor(seed, pool=pool).corrupt(one, kind)
        assert corruptor(seed, pool=mixed).corrupt(one, kind) == bad
        found.setdefault((kind, one.text), set()).add(bad)
    assert all(len(drawn) > 1 for (kind, text), drawn in found.items() if kind in ("hedge", "rudeness", "shuffled"))


def test_what_is_borrowed_depends_on_the_side():
    """A phrase of one side is none of the other's, and each is a sentence that `rules:en` leaves whole."""
    for phrases in (HEDGES, RUDE):
        assert all(len(set(ours)) == len(ours) >= 12 for ours in phrases.values())
        assert not set(phrases[True]) & set(phrases[False])
        for phrase in (*phrases[True], *phrases[False]):
            assert sentences(f"{EGGS} {phrase} {EGGS}")[3] == phrase
    for kind, phrases in (("hedge", HEDGES), ("rudeness", RUDE)):
        for side in (False, True):
            drawn = {changed_by(corruptor(seed, side), kind) for seed in range(100)}
            assert drawn <= set(phrases[side])
            assert len(drawn) > 0.8 * len(phrases[side])


def changed_by(one: Corruptor, kind: str) -> str:
    bad = one.corrupt(POOL[0], kind)
    assert bad is not None
    return bad.text[bad.start : bad.end]


def test_a_random_kind_is_any_of_those_that_apply():
    found = [next(corruptor(seed).versions(POOL[0])).kind for seed in range(200)]
    applying = {kind for kind in KINDS if corruptor().corrupt(POOL[0], kind)}
    assert set(found) == applying
    assert len(found) == 200
    assert max(map(found.count, applying)) < 3 * min(map(found.count, applying))
    assert list(corruptor().versions(GoodResponse("p", "米は三合です。", "p"))) == []


def test_a_response_is_segmented_once():
    class Counting(RulesSegmenter):
        def spans(self, texts):
            asked.extend(texts)
            return super().spans(texts)

    asked: list[str] = []
    one = corruptor()
    one._segmenter = Counting(RULES.spec)
    fresh = replace(POOL[0], text=f"{HILLS} {EGGS}")
    assert all(one.corrupt(fresh, kind) for kind in KINDS)
    assert asked.count(fresh.text) == 1
    assert EGGS not in asked, "it was segmented as one to borrow from"


@pytest.mark.parametrize(
    "text",
    ["The Benefits Of A Good Breakfast.", "x = the value of it.", "Les œufs sont à éplucher après ça, déjà.", "of it."],
)
def test_what_is_no_english_sentence_is_left_alone(text):
    assert not is_prose(text)


# The benchmark


@pytest.fixture(scope="module")
def good_file(tmp_path_factory):
    """Two good responses of training prompts and two of held-out ones, one of them twice, and a bad row."""
    asked = sorted((f"Question {i}?" for i in range(40)), key=is_held_out)
    prompts = [asked[0], asked[1], asked[-1], asked[-2]]
    assert [is_held_out(one) for one in prompts] == [False, False, True, True]
    rows = [
        {"prompt": prompt, "chosen": text, "rejected": "No."}
        for prompt, text in zip(prompts, (EGGS, HILLS, BIRDS, HILLS), strict=True)
    ]
    file = tmp_path_factory.mktemp("good") / "good.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in [*rows, rows[0], {"prompt": "p"}]))
    return file


def options(file, **given) -> Options:
    chosen = {"split": None, "held_out": False, "limit": None, "seed": 1, "draws": 20} | given
    return Options(data=(str(file),), **chosen)


def test_the_benchmark_says_what_a_loop_says(model_dir, good_file):
    scorer = Scorer.from_pretrained(model_dir)
    sides = {True: [], False: []}
    for line in good_file.read_text().splitlines()[:4]:
        row = json.loads(line)
        sides[is_held_out(row["prompt"])].append(GoodResponse(row["prompt"], row["chosen"], row["prompt"]))
    texts, hits, unread = [], dict[str, list[bool]](), 0
    whole = run(scorer, options(good_file))
    json.dumps(whole, allow_nan=False)
    for side, ours in sides.items():
        random.Random(1).shuffle(ours)
        theirs = [one.text for one in sides[not side]] + ["No."]
        for one, kind in product(ours, KINDS):
            if bad := Corruptor(ours, theirs, held_out=side, seed=1).corrupt(one, kind):
                texts.append((bad, (one.prompt, one.text), (one.prompt, bad.text)))
    scored = scorer.score([response for _, *two in texts for response in two])
    for (bad, *_), right, wrong in zip(texts, scored[::2], scored[1::2], strict=True):
        ids = [scorer.encoder.encode(one.prompt, one.text, RULES.spans([one.text])[0]).ids for one in (right, wrong)]
        if bad.start < wrong.spans[-1].end and ids[0] != ids[1]:
            hits.setdefault(bad.kind, []).append(right.score > wrong.score)
        else:
            unread += 1
    assert unread > 0
    assert any(one.startswith(f"{unread} items left out: the response is too long") for one in whole["problems"])
    assert {kind: one["accuracy"]["value"] for kind, one in whole["subsets"].items()} == pytest.approx(
        {kind: sum(one) / len(one) for kind, one in hits.items()}
    )
    every = [hit for one in hits.values() for hit in one]
    assert whole["figures"]["accuracy"]["value"] == pytest.approx(sum(every) / len(every))
    assert set(whole["sentences"]) == {"all", *hits}
    assert tuple(whole["sentences"]["all"]["auroc"]) == MEASURES
    for kind, one in whole["sentences"].items():
        count = len(every if kind == "all" else hits[kind])
        assert one["responses"] == one["bad"] == count, "one bad sentence each, of the items that the accuracy counts"
    assert whole["items"] == len(every)
    assert LENGTH_RULES in whole["problems"]
    assert len(whole["problems"]) >= 1
    assert "row 6" in whole["problems"][0]


def test_the_benchmark_refuses_what_it_cannot_do(model_dir, good_file, tmp_path):
    scorer = Scorer.from_pretrained(model_dir)
    with pytest.raises(PreferenceDataError, match="Pass --data FILE"):
        run(scorer, Options(data=(), split=None, held_out=False, limit=None, seed=0))
    chinese = tmp_path / "zh.jsonl"
    chinese.write_text(json.dumps({"prompt": "米?", "chosen": "米は三合です。", "rejected": "いいえ。"}))
    with pytest.raises(PreferenceDataError, match="none that a kind"):
        run(scorer, options(chinese))


def test_a_change_that_is_not_read_makes_no_item(model_dir, good_file, tmp_path):
    scorer = Scorer.from_pretrained(model_dir)
    changed = EGGS.replace("salt", "sugar")
    right, wrong = scorer.score([("How?", EGGS), ("How?", changed)])
    last = wrong.spans[-1]
    assert change_is_read(right, wrong, last)
    shorter = [replace(one, spans=one.spans[:-1]) for one in (right, wrong)]
    assert not change_is_read(*shorter, last), "the sentence was dropped"
    assert not change_is_read(right, shorter[1], last), "dropped of the wrong response alone"
    cut = [replace(one, spans=(Span(0, last.start + 10),)) for one in (right, wrong)]
    assert not change_is_read(*cut, last), "the response was cut before the sentence differs"
    assert change_is_read(right, wrong, Span(last.start + 10, last.end))

    row = {"prompt": "p", "chosen": "Es ist gut. " * 40 + "There are 3 of them.", "rejected": "No."}
    (tmp_path / "long.jsonl").write_text(json.dumps(row))
    with pytest.raises(PreferenceDataError, match=r"no item is left: \d+ items left out: the response is too long"):
        run(scorer, options(tmp_path / "long.jsonl"))


def test_the_length_rules_are_what_the_problems_say(good_file):
    task, _ = read(options(good_file))
    signs: dict[str, set[int]] = {}
    for item in task.items:
        right, wrong = (len(task.responses[place][1]) for place in (*item.right, *item.wrong))
        signs.setdefault(item.subset, set()).add((wrong > right) - (wrong < right))
    assert {kind for kind, found in signs.items() if found == {1}} >= {"irrelevant", "repetition", "hedge", "rudeness"}
    assert signs["broken_off"] == {-1}
    assert signs["shuffled"] == {0}


def test_the_benchmark_borrows_no_sentence_that_both_sides_hold(good_file):
    """One response stands on both sides; a rejected one counts too."""
    task, changes = read(options(good_file))
    for item, (start, end) in zip(task.items, changes, strict=True):
        if item.subset == "irrelevant":
            text = task.responses[item.wrong[0]][1]
            assert text[start:end] in (sentences(BIRDS) if is_held_out(item.group) else sentences(EGGS))


def test_the_limit_is_of_good_responses_of_whole_prompts(tmp_path):
    rows = [
        {"prompt": f"Question {i}?", "chosen": f"There are {10 + j} reasons for it.", "rejected": "No."}
        for i in range(8)
        for j in range(1 + i % 3)
    ]
    file = tmp_path / "several.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    sizes = {f"Question {i}?": 1 + i % 3 for i in range(8)}
    drawn = set()
    for seed in range(6):
        found: dict[str, set[int]] = {}
        for item in read(options(file, limit=5, seed=seed))[0].items:
            found.setdefault(item.group, set()).update(item.right)
        assert {group: len(places) for group, places in found.items()} == {group: sizes[group] for group in found}
        assert 3 <= sum(map(len, found.values())) <= 5
        drawn.add(frozenset(found))
    assert len(drawn) > 2


def test_the_benchmark_keeps_to_held_out_prompts_and_the_limit(good_file):
    whole, changes = read(options(good_file))
    assert len(whole.items) == len(changes)
    assert {item.group for item in whole.items if is_held_out(item.group)} < {item.group for item in whole.items}
    held_out, _ = read(options(good_file, held_out=True))
    theirs = [whole.responses[item.wrong[0]] for item in whole.items if is_held_out(item.group)]
    assert sorted(held_out.responses[item.wrong[0]] for item in held_out.items) == sorted(theirs), "the same ones"
    limited, _ = read(options(good_file, limit=3))
    assert len({(item.group, item.right) for item in limited.items}) == 3
    for item, (start, end) in zip(whole.items, changes, strict=True):
        text = whole.responses[item.wrong[0]][1]
        assert text[start:end] in sentences(text)


def test_figures():
    items = [Item(str(i), "g", kind, (0,), (i + 1,)) for i, kind in enumerate(["hedge", "hedge", "number"])]
    scores = figures(items, np.array([1.0, 0.5, 1.0, 0.0]))
    assert scores == {"accuracy": pytest.approx(2 / 3), "mean of kinds": pytest.approx((0.5 + 1) / 2)}
