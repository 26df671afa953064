"""Ids and boundaries against hand-made expectations, and what they promise for any text."""

from __future__ import annotations

import functools
import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_model
from transformers import PreTrainedTokenizerFast

from sentrm.configuration import SentenceRewardConfig
from sentrm.encoding import Encoder
from sentrm.errors import EncodingError
from sentrm.results import Span

MARKER = SentenceRewardConfig.marker_token


def encoder(tokenizer, boundary="marker", max_length=256) -> Encoder:
    return Encoder(tokenizer, tiny_model(boundary=boundary, max_length=max_length).config)


def spans_of(*sentences: str) -> list[Span]:
    ends = [sum(map(len, sentences[:i])) for i in range(len(sentences) + 1)]
    return [Span(a, b) for a, b in itertools.pairwise(ends)]


def test_markers_stand_after_the_prompt_each_sentence_and_the_end_of_turn(tokenizer):
    sentences = ("Boil it. ", "Then peel!")
    encoded = encoder(tokenizer).encode("How?", "".join(sentences), spans_of(*sentences))
    text = tokenizer.decode(encoded.ids)
    assert text == f"<s>user: How?</s>assistant: {MARKER}Boil it. {MARKER}Then peel!</s>{MARKER}"
    assert [tokenizer.decode([encoded.ids[b]]) for b in encoded.boundaries] == [MARKER] * 3
    assert encoded.tokens == [len(tokenizer("Boil it. ")["input_ids"]), len(tokenizer("Then peel!")["input_ids"])]
    assert (encoded.dropped_sentences, encoded.cut_prompt_tokens) == (0, 0)


def test_offsets_are_the_last_token_of_prompt_sentences_and_sequence(tokenizer):
    sentences = ("Boil it. ", "Then peel!")
    encoded = encoder(tokenizer, "offset").encode("How?", "".join(sentences), spans_of(*sentences))
    parts, start = [], 0
    for end in encoded.boundaries:
        parts.append(tokenizer.decode(encoded.ids[start : end + 1]))
        start = end + 1
    assert parts == ["<s>user: How?</s>assistant: ", "Boil it. ", "Then peel!</s>"]
    assert start == len(encoded.ids)


def test_a_token_across_a_boundary_belongs_to_the_sentence_it_ends_in(tokenizer):
    assert "Ġthe" in tokenizer.get_vocab(), "the test needs a token that begins with the space between sentences"
    encoded = encoder(tokenizer).encode("How?", "Hm. the", spans_of("Hm. ", "the"))
    assert tokenizer.decode(encoded.ids).endswith(f"{MARKER}Hm.{MARKER} the</s>{MARKER}")


def test_chat_messages_and_a_template_that_strips_and_adds(tokenizer):
    chat = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, bos_token="<s>", eos_token="</s>")
    chat.chat_template = (
        "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }} [end]{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "How? "})
    encoded = encoder(chat).encode(messages, "So.", [Span(0, 3)])
    assert chat.decode(encoded.ids) == f"[system] Be brief. [end][user] How? [end][assistant] {MARKER}So. [end]{MARKER}"


def test_special_tokens_written_in_a_response_are_text(tokenizer):
    response = f"One{MARKER}two</s> three."
    encoded = encoder(tokenizer).encode("How?", response, [Span(0, len(response))])
    marker, end = tokenizer.convert_tokens_to_ids([MARKER, "</s>"])
    assert encoded.ids.count(marker) == 2
    assert encoded.ids.count(end) == 2  # after the prompt and after the response


def test_no_sentence_leaves_the_prompt_alone(tokenizer):
    encoded = encoder(tokenizer).encode("How?", "", [])
    assert tokenizer.decode(encoded.ids) == f"<s>user: How?</s>assistant: {MARKER}"
    assert encoded.boundaries == [len(encoded.ids) - 1]


@pytest.mark.parametrize("boundary", ["marker", "offset"])
def test_too_long_drops_whole_sentences_from_the_end(tokenizer, boundary):
    sentences = [f"Sentence number {i} is here. " for i in range(20)]
    spans = spans_of(*sentences)
    whole = encoder(tokenizer, boundary, 4000).encode("How?", "".join(sentences), spans)
    short = encoder(tokenizer, boundary, 120).encode("How?", "".join(sentences), spans)
    kept = len(short.spans)
    assert 0 < kept < 20
    assert short.spans == spans[:kept]
    assert (short.dropped_sentences, short.cut_prompt_tokens) == (20 - kept, 0)
    assert len(short.ids) <= 120
    assert short.boundaries[:kept] == whole.boundaries[:kept]
    next_sentence = whole.boundaries[kept + 1] - whole.boundaries[kept]
    assert len(short.ids) + next_sentence > 120, "one more sentence would have fitted"


def test_a_long_prompt_is_cut_on_the_left_and_counted(tokenizer):
    prompt = "word " * 200 + "Question?"
    encoded = encoder(tokenizer, max_length=100).encode(prompt, "Yes. No.", spans_of("Yes. ", "No."))
    whole = encoder(tokenizer, max_length=4000).encode(prompt, "Yes. No.", spans_of("Yes. ", "No."))
    assert encoded.boundaries[0] == 50  # half of the length
    assert encoded.cut_prompt_tokens == len(whole.ids) - len(encoded.ids)
    assert encoded.ids[0] == tokenizer.bos_token_id
    assert encoded.ids[1:] == whole.ids[-len(encoded.ids) + 1 :]
    assert encoded.dropped_sentences == 0


def test_both_responses_to_a_long_prompt_are_read_after_the_same_tokens(tokenizer):
    sentences = [f"Sentence number {i} is here. " for i in range(40)]
    encode = encoder(tokenizer, max_length=200).encode
    long = encode("word " * 300, "".join(sentences), spans_of(*sentences))
    short = encode("word " * 300, "Yes.", spans_of("Yes."))
    assert long.boundaries[0] == short.boundaries[0] == 100  # 100 prompt tokens, then the marker
    assert long.ids[:101] == short.ids[:101]
    assert long.cut_prompt_tokens == short.cut_prompt_tokens > 0
    assert 0 < long.dropped_sentences < 40
    assert len(long.ids) <= 200


@pytest.mark.parametrize("boundary", ["marker", "offset"])
@pytest.mark.parametrize("prompt", ["How?", "word " * 300, ({"role": "system", "content": "Be brief."},)])
def test_all_responses_to_a_prompt_are_read_after_the_same_tokens(tokenizer, boundary, prompt):
    one = encoder(tokenizer, boundary, 200)
    texts = ["Yes. No.", " So", "", "🙂" * 9, f"{MARKER}</s>"]
    spans = [spans_of(text) if text else [] for text in texts]
    together = one.encode_all(prompt, texts, spans)
    assert together == [one.encode(prompt, text, cut) for text, cut in zip(texts, spans, strict=True)]
    prompts = [encoded.ids[: encoded.boundaries[0] + 1] for encoded in together]
    assert prompts == prompts[:1] * len(texts)


def test_tools_that_the_template_refuses_are_an_error_about_the_prompt(tokenizer):
    chat = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    chat.chat_template = "{{ tools[0].name + 1 }}{{ messages[-1].content }}"
    with pytest.raises(EncodingError, match="the chat template refuses this prompt"):
        encoder(chat).encode("How?", "So.", [Span(0, 3)], tools=[{"name": "look"}])


def test_threads_do_not_mix_up_special_tokens(tokenizer):
    shared = encoder(tokenizer)
    items = [(f"Say {MARKER} and </s>, {i}.", f"Well, {MARKER} and </s>, {i}.") for i in range(50)]
    expected = [shared.encode(prompt, text, spans_of(text)).ids for prompt, text in items]
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(shared.encode, prompt, text, spans_of(text)) for prompt, text in items * 8]
    assert [job.result().ids for job in jobs] == expected * 8


def test_a_first_sentence_that_does_not_fit_is_an_error(tokenizer):
    text = "x" * 4000
    with pytest.raises(EncodingError, match=r"first sentence has \d+ tokens.*reads 64 in all.*Shorten"):
        encoder(tokenizer, max_length=64).encode("How?", text, [Span(0, len(text))])


def test_what_the_tokenizer_must_have(tokenizer):
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(EncodingError, match="no chat template"):
        encoder(bare)
    unmarked = tiny_model().config
    unmarked.marker_token = "<|other|>"
    with pytest.raises(EncodingError, match="does not know the marker"):
        Encoder(tokenizer, unmarked)


def test_a_template_that_refuses_is_an_error_about_the_prompt(tokenizer):
    chat = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    chat.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(EncodingError, match="roles must alternate"):
        encoder(chat).encode("How?", "So.", [Span(0, 3)])


ENCODERS = functools.cache(encoder)

# Byte-level tokens of one character have overlapping offsets; NUL, ZWJ, RTL, CJK and lone surrogates must count too.
TEXTS = st.text(
    alphabet=st.one_of(st.sampled_from("ab. \n🙂👩‍🚀ש文\x00\ud800é"), st.characters()), min_size=1, max_size=40
)


@settings(deadline=None)
@given(text=TEXTS, data=st.data())
def test_tokens_and_boundaries_tile_any_text(tokenizer, text, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text)), max_size=5)) | {len(text)})
    spans = [Span(a, b) for a, b in zip([0, *cuts], cuts, strict=False)]
    for boundary in ("marker", "offset"):
        encoded = ENCODERS(tokenizer, boundary).encode("Q", text, spans)
        assert len(encoded.boundaries) == len(spans) + 1
        assert encoded.boundaries == sorted(encoded.boundaries)
        assert encoded.boundaries[-1] == len(encoded.ids) - 1
        safe = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
        plain = tokenizer(safe, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert sum(encoded.tokens) == len(plain)
        start = encoded.boundaries[0] + 1
        read = [i for i in encoded.ids[start:] if i != tokenizer.convert_tokens_to_ids(MARKER)][:-1]
        assert read == plain
        # Up to each boundary stands the text up to that sentence's end, or less where a token crosses it.
        for span, end in zip(spans, encoded.boundaries[1:], strict=True):
            seen = sum(i != tokenizer.convert_tokens_to_ids(MARKER) for i in encoded.ids[start : end + 1])
            assert safe.startswith(tokenizer.decode(plain[:seen]).rstrip("\ufffd")[: span.end])


def test_a_response_level_model_reads_what_fits_of_a_long_response(tokenizer):
    config = SentenceRewardConfig(boundary="offset", segmenter={"backend": "response", "name": "", "threshold": None})
    encoder = Encoder(tokenizer, config, max_length=40)
    text = "Boil it for nine minutes, then move it to ice water. " * 5
    encoded = encoder.encode("How?", text, [Span(0, len(text))])
    assert len(encoded.ids) == 40
    assert encoded.dropped_sentences == 1
    ((start, end),) = encoded.spans
    assert (start, encoded.tokens) == (0, [40 - encoded.boundaries[0] - 2])  # the end of turn stands behind it
    assert 0 < end < len(text)
    response_ids = tokenizer(text[:end], add_special_tokens=False)["input_ids"]
    assert encoded.ids[encoded.boundaries[0] + 1 : -1] == response_ids
    with pytest.raises(EncodingError, match="the first sentence has"):  # cut by hand: no sentence is lost uncounted
        encoder.encode("How?", text + "Yes.", [Span(0, len(text)), Span(len(text), len(text) + 4)])
    short = "Boil it."
    assert encoder.encode("How?", short, [Span(0, len(short))]).dropped_sentences == 0
