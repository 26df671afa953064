"""Sentences: spans tile any text, structure is kept whole, and both backends do what their libraries say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import sentencex
from hypothesis import example, given, settings
from hypothesis import strategies as st

import sentrm.segmentation
from sentrm.errors import SegmenterError
from sentrm.results import Span
from sentrm.segmentation import Segmenter, SegmenterSpec, load_segmenter

RULES = load_segmenter("rules")

# Arbitrary Unicode (lone surrogates too), and text made of the pieces that steer the structure.
PIECES = [
    *("Dr. Smith went home. ", "What? ", "no stop here", "e.g. ", "U.S. ", "3.14 ", "... ", "“Go. Now.” ", "`a. B` "),
    *("\n", "\n\n", "\r\n", "\r", "\x85", "\u2028", " ", "\t", "\xa0", "\u3000", "\x00", "\ud800", "\u200b", "\ufeff"),
    *("```\n", "````python\n", "~~~\n", "# Head\n", "- item\n", "1. item\n", "> quote\n", "---\n"),
    *("| a | b |\n", "|---|\n", "$$\n"),
    *("$x.$ ", "$$", "\\[", "\\]", "**Bold.** ", "https://a.b/C.d. ", "好。吗？", "مرحبا؟ ", "👩‍💻! ", "‼️", "e\u0301."),
]
TEXTS = st.one_of(st.text(st.characters(), max_size=40), st.lists(st.sampled_from(PIECES), max_size=12).map("".join))


def cut(text: str, segmenter: Segmenter = RULES) -> list[str]:
    return [text[start:end] for start, end in segmenter.spans([text])[0]]


def assert_contract(text: str, spans: list[Span]) -> None:
    """DESIGN section 3, read literally."""
    assert all(isinstance(span, Span) for span in spans)
    pieces = [text[start:end] for start, end in spans]
    assert "".join(pieces) == text
    assert [start for start, _ in spans[1:]] == [end for _, end in spans[:-1]]
    if not text:
        assert spans == []
    elif text.isspace():
        assert spans == [(0, len(text))]
    else:
        assert spans[0].start == 0
        assert not any(piece.isspace() or piece == "" for piece in pieces)
        assert not any(piece[0].isspace() for piece in pieces[1:])  # white space goes to the sentence before it


@given(st.lists(TEXTS, max_size=4))
@settings(max_examples=200, deadline=None)
@example(["A\x85.", "A.\xa0B.\u3000C", "\ud800", "\x00", "", " \n", "\n\n\n", "a\n\n\n\nb"])
def test_any_text_is_tiled_and_a_batch_is_its_texts_one_by_one(texts: list[str]) -> None:
    spans = RULES.spans(texts)
    assert len(spans) == len(texts)
    for text, one in zip(texts, spans, strict=True):
        assert_contract(text, one)
        assert RULES.spans([text]) == [one]
    assert load_segmenter("rules").spans(texts) == spans


@given(st.lists(st.sampled_from(["One two.", "# A heading", "Third line", "- item one", "12) item"]), min_size=1))
@settings(max_examples=50, deadline=None)
def test_a_newline_that_ends_a_paragraph_heading_or_item_ends_a_sentence(lines: list[str]) -> None:
    text = "\n".join(lines)
    assert {span.end for span in RULES.spans([text])[0]} >= {m.end() for m in re.finditer("\n", text)}
    text = "\n\n".join(line.lower() for line in lines)
    assert {span.end for span in RULES.spans([text])[0]} >= {m.end() for m in re.finditer("\n\n", text)}


@given(st.lists(st.sampled_from(["x = 1. Y", "", "# no heading", "- no item", "``", "~~~", " ```py"]), max_size=6))
@settings(max_examples=50, deadline=None)
def test_a_fenced_block_is_one_sentence_whatever_it_holds(lines: list[str]) -> None:
    block = "\n".join(["````md", *lines, "````", ""])
    assert cut(f"Before this.\n{block}After it. End") == ["Before this.\n", block, "After it. ", "End"]
    assert cut(block) == [block]
    assert cut("Before.\n\n" + block[:-5]) == ["Before.\n\n", block[:-5]]  # unclosed: runs to the end


# Each golden case is the list of sentences; their concatenation is the text.
GOLDEN = {
    "plain": ["One is here. ", "Two is here! ", "Three?"],
    "abbreviations": ["Dr. Smith met Mrs. Jones at 5 p.m. on Friday. ", "They said hello, e.g. to me."],
    "initials": ["J. R. R. Tolkien wrote it. ", "The U.S. Army read it."],
    "numbers": ["It is 3.14 or 1,000.50 in v2.0.1 today. ", "Then No. 5 came."],
    "dollars": ["It costs $5. ", "Then it costs $6. ", "And $7."],
    "url": ["See https://example.com/Foo.Bar?x=1.5&y=A. ", "Then (http://b.org/x.Y) too. ", "End."],
    "dotted names": ["Call torch.nn.Linear or np.Array() from ASP.NET here. ", "Then stop."],
    "inline code": ["Run `a.b(). C` and ``x ` y. Z`` now. ", "Then stop."],
    "ellipses": ["Wait... what? ", "He left... ", "Then nothing… really."],
    "quotes": ["“Where is it?” ", "She said, “Go. Now.” and left. ", "Done."],
    "closing marks": ["**Bold is good.** ", "*Soft here.* ", "(An aside. With two.) ", "End."],
    "emoticon": ["Great to see you! :) ", "Next one."],
    "inline latex": ["Let $x.$ ", "Then $$a. B$$ is fine. ", "So \\(f(x) = 1. Then\\) holds."],
    "unclosed latex": ["$$ is money. ", "Two\n", "- three\n\n", "$$ at the end. ", "Yes"],
    "display latex": ["The formula is:\n", "$$\na = 1. B\nc\n$$\n", "\\[\nx. Y\n\\]\n", "Good."],
    "paragraphs": ["first one\n\n", "second one\n\n\n", "third one"],
    "soft wrap": ["This line goes\non here and\nthen ends. ", "Next (with\nmore) comes.\n", "New line"],
    "lead-in": ["You need:\n", "flour"],
    "crlf": ["One line.\r\n", "Two\r\n\r\n", "Three goes\r\non here."],
    "old mac": ["One line\r", "Two line"],
    "heading": ["# A title. ", "Of two\n", "text that follows. ", "More.\n", "## 1. Next\n", "more"],
    "setext heading": ["A title\n=====\n", "text below\n\n", "---\n\n", "end"],
    "bullets": ["Look:\n", "- one\n", "* two. ", "And more\n", "+ three\n  goes on\n", "• four"],
    "numbered": ["1. First one. ", "Second\n", "2. another\n", "10) third\n", "a) fourth\n", "**1. Bold.** ", "Text"],
    "nested list": ["- a\n    ", "- b\n    ", "1. c\n\n", "d"],
    "table": ["| a | b |\n|---|---|\n", "| c. D | d |\n", "| e | f |\n\n", "Text"],
    "bare table": ["a | b\n--|--\n", "c | d\n", "e | f"],
    "block quote": ["> quoted words\n> go on. ", "Then\n>\n", "> - an item\n", "Out"],
    "tilde fence": ["~~~ a`b\n```\n~~\nx. Y\n~~~~\n", "End"],
    "longer fence": ["````\n```\nx. Y\n```\n````\n", "End"],
    "fence in a list": ["1. Do:\n    ", "```sh\n    a. B\n\n    c\n    ```\n", "2. Then"],
    "fence in an item": ["- ```\n  a. B\n  ```\n", "- b"],
    "fence in a quote": ["> ```\n> a. B\n> ```\n", "> Text"],
    "no fence": ["Use ```a. B``` inline. ", "Then\n\n    ", "```\n\n", "End"],
    "chinese": ["今天天气很好。", "我们去公园吧！", "你呢？", "好的，“好。”", "走"],
    "japanese": ["これは「引用。です」そう。", "次です。"],
    "arabic": ["مرحبا؟ ", "كيف حالك؟ ", "بخير."],
    "hindi": ["यह वाक्य है। ", "अंत"],
    "emoji": ["A 👨‍👩‍👧 family. ", "Good 👍🏽! ", "So ‼️ ", "Next ❤️."],
    "white space": [" \n\t Lead here. \t ", "Trail.\n \n"],
    "control": ["A\x00b is here.\x0c", "Next \x1c one."],
}


@pytest.mark.parametrize("sentences", GOLDEN.values(), ids=GOLDEN)
def test_golden(sentences: list[str]) -> None:
    assert cut("".join(sentences)) == sentences


def test_a_lone_surrogate_keeps_its_place() -> None:
    assert cut("One \ud800 is. Two \udfff\udfff is.") == ["One \ud800 is. ", "Two \udfff\udfff is."]


def test_plain_prose_is_cut_where_sentencex_cuts() -> None:
    text = (
        "The meeting on Jan. 5 was short. Mr. Green spoke first! Who was next? Nobody knows (it was late). Ok then. "
        "He bought 2.5 kg of flour at St. Mary's, i.e. more than enough. The rest is history."
    )
    assert cut(text) == sentencex.segment("en", text)
    assert len(cut(text)) > 5


def test_a_long_text_without_spaces_is_cut_as_its_parts_are() -> None:
    assert cut("你好吗？我很好。" * 2000) == ["你好吗？", "我很好。"] * 2000  # 16,000 characters, several windows


@pytest.mark.parametrize(
    "unit",
    [
        *("a", "a. ", "你好。", "“你好。”", "`", "$a", "\\(", "\\[\n", "```\n"),
        *("- \n", "\n", "**. ", "aa.bb ", ">", "https://"),
    ],
)
def test_200_000_characters_take_seconds_at_most(unit: str) -> None:
    text = (unit * 200_000)[:200_000]
    began = time.process_time()
    spans = RULES.spans([text])[0]
    assert time.process_time() - began < 5
    assert_contract(text, spans)


# --- specifications


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("rules", SegmenterSpec("rules", "en")),
        ("rules:zh", SegmenterSpec("rules", "zh")),
        ("sat", SegmenterSpec("sat", "sat-3l", 0.2)),
        ("sat:sat-3l", SegmenterSpec("sat", "sat-3l", 0.2)),
        ("sat:sat-12l-sm@0.25", SegmenterSpec("sat", "sat-12l-sm", 0.25)),
        ("sat:/some/folder@0.01", SegmenterSpec("sat", "/some/folder", 0.01)),
        ("sat:/a:b@c/d", SegmenterSpec("sat", "/a:b@c/d", 0.2)),
        ("sat:/a:b@c@1e-3", SegmenterSpec("sat", "/a:b@c", 0.001)),
        ("response", SegmenterSpec("response")),
        ("tokens", SegmenterSpec("tokens")),
        ("entropy:gpt2", SegmenterSpec("entropy", "gpt2", 2.0)),
        ("entropy:/a:b@c@1.75", SegmenterSpec("entropy", "/a:b@c", 1.75)),
    ],
)
def test_a_specification_is_parsed(text: str, spec: SegmenterSpec) -> None:
    assert SegmenterSpec.parse(text) == spec


SPECS = st.one_of(
    st.from_regex(r"[a-z]{2,3}", fullmatch=True).map(lambda code: SegmenterSpec("rules", code)),
    st.builds(
        SegmenterSpec,
        st.just("sat"),
        st.one_of(st.text(min_size=1), st.text("a/@:.0 ", min_size=1)),
        st.floats(0, 1, exclude_min=True, exclude_max=True),
    ),
    st.builds(
        SegmenterSpec,
        st.just("entropy"),
        st.text("a/@:.0 ", min_size=1),
        st.floats(0, exclude_min=True, allow_infinity=False),
    ),
    st.sampled_from([SegmenterSpec("response"), SegmenterSpec("tokens")]),
)


@given(SPECS)
def test_a_specification_survives_text_and_json(spec: SegmenterSpec) -> None:
    assert SegmenterSpec.parse(str(spec)) == spec
    assert SegmenterSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "'rules', 'sat', 'response', 'tokens' or 'entropy'"),
        ("spacy:en", "'rules', 'sat', 'response', 'tokens' or 'entropy'"),
        ("rules:", "language code"),
        ("rules:English", "language code"),
        ("rules:en@0.2", "language code"),
        ("sat:", "a SaT name"),
        ("sat:@0.2", "a SaT name"),
        ("sat:sat-3l@0", "between 0 and 1"),
        ("sat:sat-3l@nan", "between 0 and 1"),
        ("sat:sat-3l@high", "or write sat:sat-3l@high@0.2"),
        ("response:en", "'response' alone"),
        ("tokens:gpt2", "'tokens' alone"),
        ("entropy", "name or folder of a causal language model"),
        ("entropy:gpt2@0", "above 0, in nats"),
        ("entropy:gpt2@inf", "above 0, in nats"),
        ("entropy:gpt2@nan", "above 0, in nats"),
        ("entropy:gpt2@high", "or write entropy:gpt2@high@2.0"),
    ],
)
def test_a_wrong_specification_says_what_to_write(text: str, expected: str) -> None:
    with pytest.raises(SegmenterError, match=re.escape(expected)) as caught:
        load_segmenter(text)
    assert repr(text) in str(caught.value) or "rules:LANGUAGE" in str(caught.value)


@pytest.mark.parametrize("data", [{}, {"backend": "rules"}, {"backend": 1, "name": "en"}, {"backend": [], "name": ""}])
def test_a_broken_dictionary_is_a_segmenter_error(data: dict[str, object]) -> None:
    with pytest.raises(SegmenterError):
        SegmenterSpec.from_dict(data)


def test_rules_name_their_package() -> None:
    assert re.fullmatch(r"sentencex \d+\.\d+\.\d+", RULES.revision)
    assert RULES.spec == SegmenterSpec("rules", "en")


def test_rules_need_neither_wtpsplit_nor_torch() -> None:
    """In a process of its own, with the package's __init__ (which brings the model and so torch) left out."""
    code = (
        "import sys, types; package = types.ModuleType('sentrm'); package.__path__ = [sys.argv[1]]; "
        "sys.modules['sentrm'] = package; from sentrm.segmentation import load_segmenter; "
        "assert load_segmenter('rules').spans(['One here. Two there.']) == [[(0, 10), (10, 20)]]; "
        "assert not {'torch', 'transformers', 'wtpsplit'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(Path(sentrm.segmentation.__file__).parent)], check=True)


# --- SaT: a tiny random one, saved and loaded as a user's own folder would be


@pytest.fixture(scope="module")
def sat_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random SaT of two layers beside its tokenizer: unigrams of single characters, white space as one space."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # importing wtpsplit leaves /dev/null open
        import wtpsplit.models
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from wtpsplit.configs import SubwordXLMConfig

    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *map(chr, range(33, 127)), "▁the", "ing", "好", "。"]
    tokenizer = Tokenizer(models.Unigram([(piece, -float(len(pieces) - i)) for i, piece in enumerate(pieces)], 3))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(r"[\x00-\x08]"), ""), normalizers.Replace(Regex(r"\s+"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    folder = tmp_path_factory.mktemp("sat") / "tiny@home: sat"
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = SubwordXLMConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        num_labels=1,
        initializer_range=0.5,
    )
    wtpsplit.models.SubwordXLMForTokenClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sat(sat_folder: Path) -> Segmenter:
    return load_segmenter(SegmenterSpec("sat", str(sat_folder), 0.7))


def test_sat_cuts_after_each_character_above_the_threshold(sat: Segmenter, sat_folder: Path) -> None:
    """On one line nothing but the probabilities decides: compared with a direct reading of wtpsplit's own."""
    from wtpsplit import SaT

    peer = SaT(str(sat_folder), tokenizer_name_or_path=str(sat_folder))
    text = "  The first one is here.  Then (a second) comes! 好。好 and, at last, a third.  "
    pieces: list[str] = []
    piece, ended = "", False
    for character, probability in zip(text, peer.predict_proba(text), strict=True):
        if ended and not character.isspace():
            pieces.append(piece)
            piece, ended = "", False
        piece += character
        ended = bool(piece.strip()) and (ended or probability > 0.7)
    assert cut(text, sat) == [*pieces, piece]
    assert 3 < len(pieces) < len(text) / 2


def test_sat_agrees_with_its_own_split_on_texts_longer_than_its_window(sat: Segmenter, sat_folder: Path) -> None:
    from wtpsplit import SaT

    peer = SaT(str(sat_folder), tokenizer_name_or_path=str(sat_folder))
    text = " ".join(f"word{i} the ending, number {i * i}." for i in range(60))  # over 1,000 tokens
    with pytest.warns(UserWarning, match="split_on_input_newlines"):  # wtpsplit's notice of what is asked for here
        pieces = peer.split(text, threshold=0.7, split_on_input_newlines=False)
    assert cut(text, sat) == pieces
    assert len(pieces) > 10


def test_sat_keeps_the_structure(sat: Segmenter) -> None:
    fence = "```\na. B! c? (d)\n\n- e\n```\n"
    text = f"# The head\n- an item\n- one more\n\n{fence}After"
    pieces = cut(text, sat)
    assert fence in pieces
    ends = {end for _, end in sat.spans([text])[0]}
    assert {text.index("- an"), text.index("- one"), text.index("```"), text.index("After")} <= ends


@given(st.lists(TEXTS, max_size=3))
@settings(max_examples=10, deadline=None)
@example(["", " ", "\x01\x02", "a\x00", "\ud800", "the ing " * 20])
def test_sat_tiles_any_text_and_a_batch_is_its_texts_one_by_one(sat: Segmenter, texts: list[str]) -> None:
    for text, one in zip(texts, sat.spans(texts), strict=True):
        assert_contract(text, one)
        assert sat.spans([text]) == [one]


def test_a_sat_folder_is_loaded_by_its_string_and_named_by_its_weights(sat: Segmenter, sat_folder: Path) -> None:
    again = load_segmenter(str(sat.spec))
    assert again.spec == sat.spec
    assert again.revision == sat.revision
    assert re.fullmatch(r"wtpsplit \d+\.\d+\.\d+, weights [0-9a-f]{12}", sat.revision)


def test_other_weights_have_another_revision(sat: Segmenter, sat_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in sat_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    weights["classifier.bias"] += 1
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert load_segmenter(f"sat:{tmp_path}@0.7").revision != sat.revision


@pytest.mark.parametrize("name", ["sat-99l", "/no/such/folder"])
def test_a_sat_that_cannot_be_had_is_an_error_that_names_the_ways_out(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SegmenterError) as caught:
        load_segmenter(f"sat:{name}@0.2")
    for part in (f"segment-any-text/{name}", "sat:/FOLDER@THRESHOLD", "'rules'"):
        assert part in str(caught.value)


def test_a_folder_without_a_sat_model_is_an_error(sat_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SegmenterError, match="local folder with model and tokenizer"):
        load_segmenter(f"sat:{tmp_path}@0.2")  # empty
    for file in sat_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "xlm-roberta"}))
    with pytest.raises(SegmenterError, match="not a SaT model"):
        load_segmenter(f"sat:{tmp_path}@0.2")
