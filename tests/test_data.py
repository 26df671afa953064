"""From preference data to encoded rows: splits, mixtures, the cache and streams, each against what it must equal."""

from __future__ import annotations

import collections
import hashlib
import itertools
import json
import math
import re
import shutil
from pathlib import Path

import pytest
from tiny import tiny_model
from transformers import PreTrainedTokenizerFast

import training.rows
from sentrm.encoding import Encoder
from sentrm.errors import PreferenceDataError, SentrmError
from sentrm.preferences import PreferencePair, load_preferences
from sentrm.segmentation import RulesSegmenter, SegmenterSpec
from training.corruptions import KINDS
from training.data import DataSource, is_held_out, load_mixture
from training.rows import COUNTS, encode_pairs
from training.streaming import stream_mixture

RULES = RulesSegmenter(SegmenterSpec.parse("rules"))
PAIR = PreferencePair("How?", "Boil it. Then peel!", "No.", id="one", margin=0.5)


@pytest.fixture(scope="module")
def encoder(tokenizer) -> Encoder:
    return Encoder(tokenizer, tiny_model().config)


class Unused(RulesSegmenter):
    """Cuts as `rules`, and says so where it is asked to."""

    def spans(self, texts):
        raise AssertionError("segmented again")


UNUSED = Unused(RULES.spec)


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.name


def egg_rows(count: int, kind: str = "eggs") -> list[dict]:
    return [{"prompt": f"How do I boil {i} {kind}?", "chosen": f"Boil {i}.", "rejected": "No."} for i in range(count)]


# Splits


def test_the_held_out_tenth_is_the_documented_rule():
    prompts = [f"How do I boil {i} eggs?" for i in range(2000)]
    expected = [int(hashlib.sha256(prompt.encode()).hexdigest(), 16) % 10 == 0 for prompt in prompts]
    assert [is_held_out(prompt) for prompt in prompts] == expected
    assert 150 < sum(expected) < 250


def test_no_prompt_stands_on_both_sides_and_caps_are_seeded(pairs_file, tmp_path):
    shutil.copy(pairs_file, tmp_path / "again.jsonl")
    sources = [DataSource(pairs_file.name), DataSource(str(tmp_path / "again.jsonl"), pairs=30)]
    train, held_out, counts = load_mixture(sources, str(pairs_file.parent), {}, seed=1, strict=False)
    assert not {pair.split_key for pair in train} & {pair.split_key for pair in held_out}
    assert all(is_held_out(pair.prompt) for pair in held_out)
    assert [count.train for count in counts] == [120 - counts[0].held_out, 30]
    assert len(held_out) == 2 * counts[0].held_out > 0
    assert {pair.source for pair in train} == {"eggs", "again"}
    assert load_mixture(sources, str(pairs_file.parent), {}, seed=1, strict=False)[0] == train
    assert load_mixture(sources, str(pairs_file.parent), {}, seed=2, strict=False)[0] != train
    with pytest.raises(PreferenceDataError):
        load_mixture([DataSource("missing.jsonl")], str(tmp_path), {}, seed=1, strict=False)


def test_a_prompt_that_reads_as_a_held_out_one_is_not_trained_on(tmp_path):
    """The hash is of the raw text, and a transcript's differs from the same prompt's as plain text."""
    prompts = [f"How do I boil {i} eggs?" for i in range(100)]
    for name, form in (("plain", "{}"), ("transcript", "\n\nHuman: {}\n\nAssistant:")):
        rows = [{"prompt": form.format(prompt), "chosen": "Yes.", "rejected": "No."} for prompt in prompts]
        write(tmp_path / f"{name}.jsonl", rows)
    sources = [DataSource("plain.jsonl"), DataSource("transcript.jsonl")]
    train, held_out, counts = load_mixture(sources, str(tmp_path), {}, seed=1, strict=False)

    def read(pair):
        return pair.prompt if isinstance(pair.prompt, str) else pair.prompt[0]["content"]

    assert {read(pair) for pair in held_out}.isdisjoint(read(pair) for pair in train)
    assert len(train) < 200 - len(held_out), "some had to go"
    assert sum(count.train for count in counts) == len(train), "the card counts what was trained on"


def test_a_prompt_that_a_held_out_one_begins_with_or_continues_is_not_trained_on(tmp_path):
    said = ["system", "user", "assistant", "user", "assistant", "user"]
    rows = []
    for i in range(40):
        texts = ["Be short.", f"Boil {i} eggs?", f"Yes, {i}.", f"How, {i}?", f"So, {i}.", f"Why, {i}?"]
        turns = [{"role": role, "content": text} for role, text in zip(said, texts, strict=True)]
        for prompt in (turns[:2], turns[:4], turns, turns[1:4], turns[1:], turns[1:2]):
            rows.append({"prompt": prompt, "chosen": "Yes.", "rejected": "No."})
        rows.append({"prompt": [*turns[:3], {"role": "user", "content": "Else?"}], "chosen": "Yes.", "rejected": "No."})
    sources = [DataSource(write(tmp_path / "turns.jsonl", rows))]
    train, held_out, counts = load_mixture(sources, str(tmp_path), {}, 1, False)
    ours, theirs = (
        {
            tuple((m["role"], m["content"]) for m in pair.prompt)
            if not isinstance(pair.prompt, str)
            else (("user", pair.prompt),)
            for pair in pairs
        }
        for pairs in (train, held_out)
    )
    every = {tuple((m["role"], m["content"]) for m in row["prompt"]) for row in rows}

    def related(one, two):
        shorter = min(len(one), len(two))
        return one[:shorter] == two[:shorter]

    assert theirs
    assert ours == {one for one in every if not any(related(one, two) for two in theirs)}
    assert len(ours) > 100, "a system message that all share makes no conversation"
    assert len(every) - len(ours) - len(theirs) > 10
    assert counts[0].train == len(train)


# Mixtures


def test_weights_are_the_proportions_of_the_largest_epoch_that_repeats_nothing(tmp_path):
    sizes = {"big": 400, "small": 60}
    for name, size in sizes.items():
        write(tmp_path / f"{name}.jsonl", egg_rows(size, name))
    free = {name: sum(not is_held_out(row["prompt"]) for row in egg_rows(size, name)) for name, size in sizes.items()}
    sources = [DataSource("big.jsonl", weight=3), DataSource("small.jsonl", weight=1)]
    train, held_out, counts = load_mixture(sources, str(tmp_path), {}, seed=1, strict=False)
    assert [count.train for count in counts] == [3 * free["small"], free["small"]]
    assert collections.Counter(pair.source for pair in train) == {"big": 3 * free["small"], "small": free["small"]}
    assert len({pair.id for pair in train}) == len(train)
    assert len(held_out) == 460 - sum(free.values()), "weights are of the training rows alone"
    assert load_mixture(sources, str(tmp_path), {}, seed=1, strict=False)[0] == train
    assert load_mixture(sources, str(tmp_path), {}, seed=2, strict=False)[0] != train

    capped = [DataSource("big.jsonl", weight=0.75, pairs=30), DataSource("small.jsonl", weight=0.25)]
    counts = load_mixture(capped, str(tmp_path), {}, seed=1, strict=False)[2]
    assert [count.train for count in counts] == [30, 10]


@pytest.mark.parametrize(("number", "message"), [(0, "weight is 0"), (-1, "weight is -1"), (math.inf, "weight is inf")])
def test_weights_that_are_none(number, message, tmp_path):
    with pytest.raises(PreferenceDataError, match=message):
        DataSource("a.jsonl", weight=number)
    with pytest.raises(PreferenceDataError, match=r"no weight for b\.jsonl"):
        load_mixture([DataSource("a.jsonl", weight=1), DataSource("b.jsonl")], str(tmp_path), {}, 0, False)
    with pytest.raises(PreferenceDataError, match="pairs is 0"):
        DataSource("a.jsonl", pairs=0)


# Rows


def test_a_pair_becomes_the_encoders_ids_and_boundaries(encoder):
    dataset, kept, counts = encode_pairs([PAIR, PreferencePair("Why?", "", "So. ", probability=0.25)], RULES, encoder)
    sides = [encoder.encode(PAIR.prompt, text, RULES.spans([text])[0]) for text in (PAIR.chosen, PAIR.rejected)]
    assert dataset[0] == {
        "ids": [one.ids for one in sides],
        "boundaries": [one.boundaries for one in sides],
        "comparisons": [[0, 1]],
        "probability": [1.0],
        "margin": [0.5],
        "length": sum(len(one.ids) for one in sides),
    }
    assert (dataset[1]["probability"], dataset[1]["margin"]) == ([0.25], [0.0])
    assert [pair.id for pair in kept] == ["one", ""]
    assert counts == dict.fromkeys(COUNTS, 0)


def test_ranked_responses_are_one_row_that_holds_each_once(encoder, tmp_path):
    row = {"prompt": "How?", "responses": ["Well.", "Boil it. Peel it.", "No.", "Well, no."], "ranks": [2, 1, 3, 2]}
    file = write(tmp_path / "ranked.jsonl", [row])
    pairs, others, counts = load_mixture([DataSource(file)], str(tmp_path), {}, 0, False)
    pairs += others
    assert (counts[0].rows, counts[0].train + counts[0].held_out) == (1, 6)
    dataset, kept, _ = encode_pairs([PAIR, *pairs], RULES, encoder)
    assert [len(one) for one in dataset["ids"]] == [2, 4]
    assert kept == [PAIR, *pairs], "the comparisons of all rows, one after the other"
    ranked = dataset[1]
    texts = sorted(row["responses"], key=lambda text: encoder.encode("How?", text, RULES.spans([text])[0]).ids)
    expected = {text: encoder.encode("How?", text, RULES.spans([text])[0]).ids for text in texts}
    responses = [next(text for text in texts if expected[text] == ids) for ids in ranked["ids"]]
    for (winner, loser), probability, pair in zip(ranked["comparisons"], ranked["probability"], pairs, strict=True):
        assert (responses[winner], responses[loser], probability) == (pair.chosen, pair.rejected, pair.probability)
    prompts = [ids[: ends[0] + 1] for ids, ends in zip(ranked["ids"], ranked["boundaries"], strict=True)]
    assert prompts == prompts[:1] * 4
    assert ranked["length"] == sum(map(len, ranked["ids"]))


def test_a_ranked_response_is_not_compared_with_itself(encoder, tmp_path):
    rows = [
        {"prompt": "How?", "responses": ["Boil it.", "No.", "Boil it."], "ranks": [1, 2, 3]},
        {"prompt": "Why?", "responses": ["No.", "No."], "ranks": [1, 2]},
        {"prompt": "Eggs?", "responses": ["Yes.", "No."], "ranks": [1, 2]},
    ]
    pairs = load_preferences(tmp_path / write(tmp_path / "ranked.jsonl", rows)).pairs
    dataset, kept, counts = encode_pairs(pairs, RULES, encoder)
    assert dataset["comparisons"][:] == [[[0, 1], [1, 0]], [[0, 1]]]
    assert [len(one) for one in dataset["probability"]] == [2, 1]
    assert [(pair.chosen, pair.rejected) for pair in kept] == [
        ("Boil it.", "No."),
        ("No.", "Boil it."),
        ("Yes.", "No."),
    ]
    assert dataset[1]["ids"][0] == encoder.encode("Eggs?", "Yes.", RULES.spans(["Yes."])[0]).ids
    assert counts == dict.fromkeys(COUNTS, 0) | {"pairs_of_equal_responses": 2}


def test_responses_that_are_the_same_as_read_are_not_compared(encoder, tmp_path):
    """What differs behind the model's length has no gradient."""
    long = "Boil the eggs. " * 80
    unread = PreferencePair("How?", f"{long}Yes.", f"{long}No, never.", id="unread")
    cut = PreferencePair("How?", long, "No.", id="cut")
    same = PreferencePair("How?", "Yes.", "Yes.", id="same")
    other_boundaries = {"chosen_ids": [1, 5, 6, 7], "rejected_ids": [1, 5, 6, 7]}
    rows = [
        {"prompt": "How?", "responses": [f"{long}Yes.", "Yes.", f"{long}No.", "No."], "ranks": [1, 2, 3, 4]},
        {"prompt": "Why?", "responses": [f"{long}Yes.", f"{long}No."], "ranks": [1, 2]},
        other_boundaries,
        {**other_boundaries, "chosen_boundaries": [1, 2, 3], "rejected_boundaries": [1, 3]},
    ]
    loaded = load_preferences(tmp_path / write(tmp_path / "ranked.jsonl", rows)).pairs
    pairs = [unread, cut, same, *loaded]
    for _ in range(2):  # the second reads the cache
        dataset, kept, counts = encode_pairs(pairs, RULES, encoder, cache_dir=tmp_path)
        ranked = [pair for pair in loaded[:6] if {len(pair.chosen) > 500, len(pair.rejected) > 500} != {True}]
        assert len(ranked) == 5
        assert kept == [cut, *ranked, loaded[-1]]
        assert [len(one) for one in dataset["comparisons"]] == [1, 5, 1]
        assert [len(one) for one in dataset["probability"]] == [len(one) for one in dataset["margin"]] == [1, 5, 1]
        assert counts["pairs_of_equal_responses"] == len(pairs) - len(kept) == 5
        assert counts["pairs_too_long"] == counts["pairs_refused"] == 0
    places = {tuple(ids): place for place, ids in enumerate(dataset[1]["ids"])}
    for (winner, loser), pair in zip(dataset[1]["comparisons"], ranked, strict=True):
        read = [encoder.encode("How?", text, RULES.spans([text])[0]).ids for text in (pair.chosen, pair.rejected)]
        assert [places[tuple(ids)] for ids in read] == [places[tuple(dataset[1]["ids"][i])] for i in (winner, loser)]


def test_a_capped_ranked_source_keeps_whole_rows(tmp_path):
    rows = [{"prompt": f"Boil {i}?", "responses": ["a", "b", "c"], "scores": [1, 2, 3]} for i in range(40)]
    file = write(tmp_path / "ranked.jsonl", rows)
    train, _, counts = load_mixture([DataSource(file, pairs=5)], str(tmp_path), {}, 0, False)
    assert counts[0].train == 15
    assert set(collections.Counter(pair.group for pair in train).values()) == {3}


def test_pretokenised_rows_pass_as_they_are(encoder, tmp_path):
    ours, theirs = [1, 5, 6, 7, 8], [1, 5, 6, 9]
    rows = [{"chosen_ids": ours, "rejected_ids": theirs}]
    rows += [{**rows[0], "chosen_boundaries": [1, 3, 4], "rejected_boundaries": [1, 3]}]
    rows += [
        {"chosen_ids": [1] * 300, "rejected_ids": [1] * 9},
        {"chosen_ids": [1, 2, 9999], "rejected_ids": [1, 2, 3]},
    ]
    pairs = load_preferences(tmp_path / write(tmp_path / "ids.jsonl", rows)).pairs
    dataset, kept, counts = encode_pairs(pairs, UNUSED_FOR_TOKENS, encoder)
    assert dataset["ids"][:] == [[ours, theirs]] * 2
    assert dataset["boundaries"][:] == [[[2, 4], [2, 3]], [[1, 3, 4], [1, 3]]]
    assert (kept, counts["pairs_too_long"], counts["pairs_refused"]) == (pairs[:2], 1, 1)


class NoTexts(RulesSegmenter):
    def spans(self, texts):
        assert texts == []
        return []


UNUSED_FOR_TOKENS = NoTexts(RULES.spec)


def test_pretokenised_rows_of_one_prompt_do_not_leave_all_others_out(tmp_path):
    rows = [{"chosen_ids": [1, i, 2], "rejected_ids": [1, i, 3]} for i in range(100)]
    train, held_out, _ = load_mixture([DataSource(write(tmp_path / "ids.jsonl", rows))], str(tmp_path), {}, 0, False)
    assert held_out
    assert len(train) + len(held_out) == 100


def test_pairs_that_cannot_be_encoded_are_counted_and_named(encoder, tokenizer, capsys):
    chat = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, bos_token="<s>", eos_token="</s>")
    chat.add_special_tokens({"additional_special_tokens": [tiny_model().config.marker_token]})
    chat.chat_template = (
        "{% if messages[0].content == 'Bad' %}{{ raise_exception('bad words') }}{% endif %}"
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
    )
    strict = Encoder(chat, tiny_model().config)
    pairs = [
        PAIR,
        PreferencePair("How?", "x" * 4000, "No.", id="huge"),
        PreferencePair("Bad", "Yes.", "No.", id="refused"),
        PreferencePair("How?", "Boil it. " * 80, "No.", id="long"),
        PreferencePair("why " * 300, "Yes.", "No.", id="cut"),
    ]
    for _ in range(2):
        dataset, kept, counts = encode_pairs(pairs, RULES, strict)
        assert [pair.id for pair in kept] == ["one", "long", "cut"]
        assert len(dataset) == 3
        assert list(counts.values()) == [1, 1, 0, 1, 2]
        printed = capsys.readouterr().out
        assert "pair huge left out: the first sentence has" in printed
        assert "pair refused left out: the chat template refuses this prompt: bad words" in printed
    assert len(encode_pairs(pairs[1:2], RULES, strict)[0]) == 0
    assert encode_pairs([], RULES, encoder)[1:] == ([], dict.fromkeys(COUNTS, 0))


def test_tools_and_template_arguments_reach_the_template(tokenizer):
    chat = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, bos_token="<s>", eos_token="</s>")
    chat.chat_template = (
        "{{ mood }}{% if tools %}{{ tools[0].function.name }}{% endif %}"
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}"
        "{% if m.tool_calls %}{{ m.tool_calls[0].function.name }}{% endif %}{% endfor %}"
    )
    encoder = Encoder(chat, tiny_model(boundary="offset").config)
    prompt = (
        {"role": "user", "content": "Hot?"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "look", "arguments": {}}}]},
        {"role": "tool", "content": "21"},
    )
    tool = {"type": "function", "function": {"name": "weather", "parameters": {}}}
    pairs = [
        PreferencePair(prompt, "No.", "Yes.", tools=(tool,), chat_template_kwargs={"mood": "calm"}),
        PreferencePair(prompt, "No.", "Yes."),
    ]
    dataset, _, _ = encode_pairs(pairs, RULES, encoder)
    rest = "[user] Hot?[assistant] look[tool] 21[assistant] No."
    assert [chat.decode(ids[0]) for ids in dataset["ids"]] == ["calmweather" + rest, rest]
    assert dataset[1]["ids"][0] == encoder.encode(prompt, "No.", RULES.spans(["No."])[0]).ids


# The cache


def test_a_second_run_reads_the_cache(encoder, tmp_path):
    pairs = [PAIR, PreferencePair("How?", "x" * 4000, "No.", id="huge"), PreferencePair("How?", "Yes. " * 200, "No.")]
    dataset, kept, counts = encode_pairs(pairs, RULES, encoder, cache_dir=tmp_path)
    again, kept_again, counts_again = encode_pairs(pairs, UNUSED, encoder, cache_dir=tmp_path)
    assert again[:] == dataset[:]
    assert (kept_again, counts_again) == (kept, counts)
    assert (counts["pairs_too_long"], counts["sequences_with_dropped_sentences"], len(kept)) == (1, 1, 2)
    renamed = [PreferencePair(pair.prompt, pair.chosen, pair.rejected, id="new", margin=pair.margin) for pair in pairs]
    assert [pair.id for pair in encode_pairs(renamed, UNUSED, encoder, cache_dir=tmp_path)[1]] == ["new", "new"]


def test_whatever_decides_the_rows_decides_the_cache(encoder, tokenizer, tmp_path):
    encode_pairs([PAIR], RULES, encoder, cache_dir=tmp_path)
    other_template = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    other_template.chat_template = tokenizer.chat_template + " "
    other_special = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, bos_token="<pad>")
    other_special.chat_template = tokenizer.chat_template
    newer = Unused(RULES.spec)
    newer.revision = "sentencex 99"
    changed = [
        ([PreferencePair("How?", "Boil it. Then peel!", "No?", margin=0.5)], UNUSED, encoder),
        ([PreferencePair("How?", "Boil it. Then peel!", "No.", margin=0.5, probability=0.5)], UNUSED, encoder),
        ([PreferencePair("How?", "Boil it. Then peel!", "No.")], UNUSED, encoder),
        ([PreferencePair("How?", PAIR.chosen, "No.", margin=0.5, chat_template_kwargs={"x": 1})], UNUSED, encoder),
        ([PAIR], newer, encoder),
        ([PAIR], Unused(SegmenterSpec.parse("rules:de")), encoder),
        ([PAIR], UNUSED, Encoder(tokenizer, tiny_model(max_length=200).config)),
        ([PAIR], UNUSED, Encoder(tokenizer, tiny_model(boundary="offset").config)),
        ([PAIR], UNUSED, Encoder(other_template, tiny_model(boundary="offset").config)),
        ([PAIR], UNUSED, Encoder(other_special, tiny_model(boundary="offset").config)),
    ]
    encode_pairs([PAIR], RULES, changed[7][2], cache_dir=tmp_path)
    for i, arguments in enumerate(changed):
        if i == 7:
            continue
        with pytest.raises(AssertionError, match="segmented again"):
            encode_pairs(*arguments, cache_dir=tmp_path)
    encode_pairs([PAIR], UNUSED, encoder, cache_dir=tmp_path)


def test_a_tokenizer_that_was_used_has_the_same_fingerprint(encoder, tokenizer):
    before = encoder.fingerprint
    tokenizer(["a", "b c"], padding=True, truncation=True, max_length=4)
    assert encoder.fingerprint == before


class NotPickled(RulesSegmenter):
    """As wtpsplit's SaT, which cannot be sent to a process."""

    def __reduce__(self):
        raise TypeError("not to be pickled")


def test_two_processes_give_the_rows_of_one(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(training.rows, "ROWS_A_PROCESS", 10)
    pairs = [
        PreferencePair(f"Boil {i}?", "Yes. " * (i % 4 + 1), "x" * 4000 if i % 7 == 0 else "No.") for i in range(40)
    ]
    one, kept, counts = encode_pairs(pairs, RULES, encoder)
    two, kept_two, counts_two = encode_pairs(pairs, NotPickled(RULES.spec), encoder, num_proc=2, cache_dir=tmp_path)
    assert two[:] == one[:]
    assert (kept_two, counts_two) == (kept, counts)
    assert counts["pairs_too_long"] == 6
    assert encode_pairs(pairs, UNUSED, encoder, num_proc=1, cache_dir=tmp_path)[0][:] == one[:]


def test_a_cache_folder_that_cannot_be_written(encoder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SentrmError, match="cannot write encoded rows to"):
        encode_pairs([PAIR], RULES, encoder, cache_dir=tmp_path / "file" / "folder")


# Streams


def test_a_stream_gives_every_training_row_once_and_the_first_held_out(encoder, tmp_path, capsys):
    write(tmp_path / "a.jsonl", [*egg_rows(80, "eggs"), {"prompt": "p"}])
    write(tmp_path / "b.jsonl", [{**row, "responses": ["x", "y"]} for row in egg_rows(30, "peas")])
    sources = [DataSource("a.jsonl"), DataSource("b.jsonl")]
    train, held_out, expected = load_mixture(sources, str(tmp_path), {}, 1, False)
    stream, evaluation, counts = stream_mixture(
        sources, str(tmp_path), {}, 1, False, RULES, encoder, eval_pairs=4, buffer=8
    )
    assert evaluation == [*[p for p in held_out if p.source == "a"][:2], *[p for p in held_out if p.source == "b"][:2]]
    rows = list(stream)
    whole = list(encode_pairs(train, RULES, encoder)[0])
    assert sorted(map(json.dumps, rows)) == sorted(map(json.dumps, whole))
    assert [json.dumps(row) for row in rows] != [json.dumps(row) for row in whole], "shuffled"
    assert counts == expected
    assert "a.jsonl: 81 rows, 1 bad" in capsys.readouterr().out
    assert list(stream) == rows
    assert counts == expected, "a second pass counts anew"
    stream.set_epoch(1)
    assert list(stream) != rows


def test_a_stream_follows_the_weights_until_one_source_ends(encoder, tmp_path):
    write(tmp_path / "a.jsonl", egg_rows(600, "eggs"))
    write(tmp_path / "b.jsonl", egg_rows(600, "peas"))
    sources = [DataSource("a.jsonl", weight=4), DataSource("b.jsonl", weight=1)]
    arguments = (sources, str(tmp_path), {}, 1, False, RULES, encoder)
    stream, evaluation, _ = stream_mixture(*arguments, eval_pairs=10)
    rows = list(stream)
    peas = encoder.tokenizer("peas", add_special_tokens=False)["input_ids"]
    share = sum("peas" in encoder.tokenizer.decode(row["ids"][0]) for row in rows) / len(rows)
    assert peas
    assert share == pytest.approx(0.2, abs=0.05)
    free = sum(not is_held_out(row["prompt"]) for row in egg_rows(600, "eggs"))
    assert free < len(rows) < 1.5 * free
    assert collections.Counter(pair.source for pair in evaluation) == {"a": 8, "b": 2}
    assert list(stream_mixture(*arguments, eval_pairs=10)[0]) == rows


def test_a_stream_goes_on_where_it_stopped(encoder, tmp_path):
    write(tmp_path / "a.jsonl", egg_rows(50))
    arguments = ([DataSource("a.jsonl", pairs=20)], str(tmp_path), {}, 1, False, RULES, encoder)
    whole = list(stream_mixture(*arguments)[0])
    assert len(whole) == 20
    assert list(stream_mixture(*arguments)[0].skip(7)) == whole[7:]
    twice = list(stream_mixture(*arguments, passes=2)[0])
    assert len(twice) == 40
    long = list(stream_mixture(*arguments, passes=None)[0].take(50))
    assert list(stream_mixture(*arguments, passes=None)[0].skip(27).take(23)) == long[27:], "also after the first pass"


def test_a_stream_is_lazy_and_its_mistakes_are_told(encoder, tmp_path):
    rows = [*egg_rows(300), {"prompt": "p", "chosen": "a"}]
    write(tmp_path / "a.jsonl", rows)
    arguments = ([DataSource("a.jsonl")], str(tmp_path), {})
    stream, _, counts = stream_mixture(*arguments, 1, True, RULES, encoder, eval_pairs=1, buffer=2)
    assert len(list(itertools.islice(stream, 5))) == 5
    assert 5 < counts[0].rows < 100
    with pytest.raises(PreferenceDataError, match="row 301: has no 'rejected'"):
        list(stream)
    with pytest.raises(PreferenceDataError, match="there is no file"):
        stream_mixture([DataSource("missing.jsonl")], str(tmp_path), {}, 1, False, RULES, encoder)


# Corrupted sources


def prose_rows(count: int) -> list[dict]:
    """The chosen responses of ranked rows and pairs, some of them twice, and pairs without a better response."""
    good = "The cook has boiled {} eggs for 12 minutes. They are easy to peel after that."
    rows = [
        {
            "prompt": f"How are {i} eggs boiled?",
            "chosen": good.format(i),
            "rejected": f"No {i}.",
            "margin": 2.0,
            **extra,
        }
        for i in range(count)
        for extra in ({}, {"rejected": "Never."})
    ]
    ranked = [
        {"prompt": f"How are {i} peas boiled?", "responses": [good.format(i), "It is done with water.", "It is done."]}
        | {"ranks": [1, 2, 3]}
        for i in range(count)
    ]
    ties = [{"prompt": "p", "chosen": good, "rejected": "No.", **one} for one in ({"tie": True}, {"probability": 0.2})]
    return [*rows, *ranked, *ties]


def test_a_corrupted_source_holds_each_chosen_response_against_one_with_a_changed_sentence(tmp_path, encoder):
    rows = prose_rows(40)
    write(tmp_path / "a.jsonl", rows)
    sources = [DataSource("a.jsonl"), DataSource("a.jsonl", corrupted=True)]
    train, held_out, counts = load_mixture(sources, str(tmp_path), {}, seed=1, strict=False)
    assert [count.source.name for count in counts] == ["a", "a-corrupted"]
    bad, theirs = ([pair for pair in side if pair.source == "a-corrupted"] for side in (train, held_out))
    assert counts[1].train == len(bad)
    assert counts[1].held_out == len(theirs) > 0
    plain, tested = ([pair for pair in side if pair.source == "a"] for side in (train, held_out))
    for ours, original in ((bad, plain), (theirs, tested)):
        better = {(pair.prompt, pair.chosen) for pair in original if pair.probability > 0.5}
        whole = [
            (pair.prompt, next(c for p, c in better if (p, c[: len(pair.chosen)]) == (pair.prompt, pair.chosen)))
            for pair in ours
        ]
        assert collections.Counter(whole) == dict.fromkeys(better, 1)
    whole = {pair.chosen for pair in (*plain, *tested)}
    assert all(pair.chosen in whole for pair in theirs), "held-out responses are whole"
    ended = [pair for pair in bad if pair.chosen not in whole]
    assert ended
    for pair in ended:  # up to the sentence that was changed, which is the last
        ours, theirs_ = (RULES.spans([text])[0] for text in (pair.chosen, pair.rejected))
        assert len(ours) == len(theirs_)
        assert pair.chosen[: ours[-1].start] == pair.rejected[: theirs_[-1].start]
    assert {is_held_out(pair.split_key) for pair in bad} == {False}
    assert {is_held_out(pair.split_key) for pair in theirs} == {True}
    for pair in (*bad, *theirs):
        assert pair.rejected != pair.chosen
        assert (pair.probability, pair.margin, pair.group) == (1.0, None, "")
        assert pair.id.startswith("a-corrupted:")
        assert pair.id.rsplit(":")[-1] in KINDS
    assert len({pair.id for pair in bad}) == len(bad)
    dataset, kept, _ = encode_pairs(bad, RULES, encoder)
    assert kept == bad
    assert dataset["comparisons"] == [[[0, 1]]] * len(bad), "no ranked rows"

    again = load_mixture(sources, str(tmp_path), {}, seed=1, strict=False)
    assert again[:2] == (train, held_out)
    other = load_mixture(sources, str(tmp_path), {}, seed=2, strict=False)
    assert {pair.rejected for pair in other[0]} != {pair.rejected for pair in train}
    assert other[1] == held_out, "every run is tested on the same pairs"
    write(tmp_path / "a.jsonl", rows[::-1])
    turned = load_mixture(sources, str(tmp_path), {}, seed=1, strict=False)[0]
    assert {(p.chosen, p.rejected) for p in turned if p.source == "a-corrupted"} == {
        (pair.chosen, pair.rejected) for pair in bad
    }


def test_a_corrupted_source_has_a_cap_and_a_weight_and_keeps_messages_and_tools(tmp_path):
    tools = [{"type": "function", "function": {"name": "peel", "parameters": {"type": "object"}}}]
    rows = [
        {
            "prompt": [{"role": "system", "content": "Be short."}, {"role": "user", "content": f"Boil {i} eggs?"}],
            "chosen": [{"role": "assistant", "content": f"The {i} eggs are boiled for 12 minutes by the cook."}],
            "rejected": [{"role": "assistant", "content": "No."}],
            "tools": tools,
        }
        for i in range(40)
    ]
    write(tmp_path / "a.jsonl", rows)
    write(tmp_path / "b.jsonl", egg_rows(100))
    capped = load_mixture([DataSource("a.jsonl", corrupted=True, pairs=7)], str(tmp_path), {}, 1, False)[0]
    assert len(capped) == 7
    assert all(pair.tools == tuple(tools) for pair in capped)
    assert all([message["role"] for message in pair.prompt] == ["system", "user"] for pair in capped)
    sources = [DataSource("b.jsonl", weight=4), DataSource("a.jsonl", corrupted=True, weight=1)]
    _, _, counts = load_mixture(sources, str(tmp_path), {}, 1, False)
    assert counts[0].train == pytest.approx(4 * counts[1].train, abs=3)


def test_a_corrupted_source_has_several_versions_of_each_response_it_trains_on(tmp_path):
    chosen = "Boil {0} eggs for 12 minutes in a large pan. They are hard by then, as a cook in Vienna found."
    write(tmp_path / "a.jsonl", [row | {"chosen": chosen.format(i)} for i, row in enumerate(egg_rows(60))])
    once, thrice = (load_mixture([DataSource("a.jsonl", corrupted=n)], str(tmp_path), {}, 1, False)[:2] for n in (1, 3))
    assert thrice[1] == once[1]  # the held-out pairs
    assert set(map(str, once[0])) < set(map(str, thrice[0]))
    kinds: dict[str, set[str]] = {}
    for pair in thrice[0]:
        _, row, kind = pair.id.split(":")
        kinds.setdefault(row, set()).add(kind)
    assert len(thrice[0]) == sum(map(len, kinds.values())) > 2 * len(once[0])
    with pytest.raises(PreferenceDataError, match="corrupted is -1; expected how many versions"):
        DataSource("a.jsonl", corrupted=-1)


def test_nothing_of_a_prompt_that_reads_as_a_held_out_one_is_borrowed(tmp_path):
    """The hash is of the raw text: a transcript may be a training row, and its prompt held out in another file."""
    prompts = [f"How are {i} eggs boiled?" for i in range(100)]
    rows = [{"prompt": one, "chosen": "Yes.", "rejected": "No."} for one in prompts]
    write(tmp_path / "plain.jsonl", rows)
    secret = "Quokkas{} sometimes wander through abandoned lighthouses and gather in the evening."
    transcripts = [
        {"prompt": f"\n\nHuman: {one}\n\nAssistant:", "chosen": secret.format(i), "rejected": "No."}
        for i, one in enumerate(prompts)
    ]
    others = [
        {"prompt": f"Why {i}?", "chosen": f"The cook has {i} reasons for it.", "rejected": "No."} for i in range(200)
    ]
    write(tmp_path / "mixed.jsonl", [*transcripts, *others])
    sources = [DataSource("plain.jsonl"), DataSource("mixed.jsonl", corrupted=True)]
    train, _, _ = load_mixture(sources, str(tmp_path), {}, seed=1, strict=False)
    borrowed = {int(number) for pair in train for number in re.findall(r"Quokkas(\d+)", pair.rejected)}
    assert borrowed
    assert not any(is_held_out(prompts[i]) for i in borrowed)


def test_no_sentence_of_the_other_side_is_borrowed(tmp_path):
    """Each response has words of its own; those of every second prompt also answer, badly, one of the other side."""

    def own(i: int) -> str:
        first, second, third = ("".join(chr(97 + (i // 26**k + n) % 26) * 2 for k in range(3)) for n in (0, 8, 16))
        return f"The {first} of the {second} is {third} in all."

    asked = [f"How {i}?" for i in range(400)]
    sides = {side: [i for i, one in enumerate(asked) if is_held_out(one) == side] for side in (False, True)}
    rows = [
        {"prompt": one, "chosen": own(i), "rejected": own(sides[not is_held_out(one)][i % 30]) if i % 2 else "No."}
        for i, one in enumerate(asked)
    ]
    write(tmp_path / "a.jsonl", rows)
    train, held_out, _ = load_mixture([DataSource("a.jsonl", corrupted=True)], str(tmp_path), {}, 1, False)
    for side, pairs in ((False, train), (True, held_out)):
        theirs = {row[name] for row in rows if is_held_out(row["prompt"]) != side for name in ("chosen", "rejected")}
        borrowed = {
            one
            for pair in pairs
            if pair.id.endswith(":irrelevant")
            for one in re.findall(r"The [a-z]+ of the [a-z]+ is [a-z]+ in all\.", pair.rejected)
            if one not in pair.chosen
        }
        assert borrowed
        assert borrowed.isdisjoint(theirs)


def test_a_pretokenised_source_has_nothing_to_corrupt(tmp_path):
    rows = [{"chosen_ids": [i, 2, 3], "rejected_ids": [i, 2, 4]} for i in range(20)]
    write(tmp_path / "a.jsonl", rows)
    train, held_out, _ = load_mixture([DataSource("a.jsonl", corrupted=True)], str(tmp_path), {}, 1, False)
    assert train == held_out == []
