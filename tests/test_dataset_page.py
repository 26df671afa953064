"""The Dataset page without a browser: its address, its list, its form, and two audits beside each other."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import gradio as gr
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_audit_summary import ROWS
from tiny import tiny_model

from sentrm import cli, preferences, readers
from sentrm.audit.filters import Filter
from sentrm.audit.folder import AuditFolder
from sentrm.audit.run import Progress
from sentrm.audit.summary import summarise
from sentrm.audit.suspects import reasons
from sentrm.errors import AuditError, PreferenceDataError
from sentrm.limits import Limits
from sentrm.reviews.log import ReviewLog
from sentrm.scoring import Scorer
from sentrm.ui import dataset_scoring
from sentrm.ui.app import build_app
from sentrm.ui.dataset_compare import changed_sides, compare_value
from sentrm.ui.dataset_list import SIZE, View, filter_words, left_out_rows, list_value
from sentrm.ui.dataset_scoring import ROWS as SHARD
from sentrm.ui.dataset_scoring import Scoring, progress_words
from sentrm.ui.review_files import Choices, cleaned
from sentrm.ui.workbench import Workbench

T = TypeVar("T")
MANY = [
    {"prompt": f"Question {i}?", "chosen": f"Answer {i}. {'Yes! ' * (i % 5)}", "rejected": f"No {i}. Never."}
    for i in range(2 * SIZE + 30)
]


def built(make: Callable[[], T]) -> T:
    """What is made where an event loop runs: elsewhere gradio opens some and leaves them open."""

    async def build() -> T:
        return make()

    return asyncio.run(build())


def written(file: Path, rows: list[dict], more: str = "") -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + more)
    return file


@pytest.fixture(scope="module")
def audits(model_dir, tokenizer, tmp_path_factory) -> Path:
    """Three audits: the odd rows of the summary's tests, many rows, and those by another model."""
    place = tmp_path_factory.mktemp("audits")
    other = place / "model"
    tiny_model("gpt_neox", median_reward=0.05).save_pretrained(other)
    tokenizer.save_pretrained(other)
    odd, many = written(place / "odd.jsonl", ROWS, "no row\n"), written(place / "many.jsonl", MANY)
    for name, data, model in (("odd", odd, model_dir), ("many", many, model_dir), ("other", many, other)):
        assert cli.main(["audit", str(data), "--model", str(model), "--output", str(place / name)]) == 0
    return place


@pytest.fixture
def bench(audits) -> Workbench:
    return Workbench(audits=tuple(audits / name for name in ("odd", "many", "other")))


@pytest.fixture
def many(audits):
    with closing(AuditFolder.open(audits / "many")) as folder:
        yield folder


plain = st.text(alphabet=st.characters(blacklist_categories=("Cs",)), max_size=20)


@given(
    st.builds(
        View,
        audit=plain,
        filters=st.lists(
            st.one_of(
                st.builds(Filter, plain, st.just("contains"), plain),
                st.builds(Filter, plain, st.just("="), st.booleans()),
                st.builds(lambda c, a, b: Filter(c, "between", (a, b)), plain, st.integers(-9, 9), st.floats(-9, 9)),
            ),
            max_size=3,
        ).map(tuple),
        page=st.integers(1, 10**6),
        beside=plain,
        pair=plain,
    )
)
def test_an_address_gives_its_view_back(view):
    assert View.from_query(view.to_query()) == view


@pytest.mark.parametrize("query", ["?at=0", "?at=-3", "?at=²", "?at=9" + "9" * 40, "?at=x"])
def test_a_page_that_is_none_is_the_first(query):
    assert View.from_query(query).page == 1


def shown(value: dict) -> list[str]:
    """The names of the rows."""
    return [row["cells"][0]["lines"][0]["text"] for row in value["table"]["rows"]]


def test_the_list_is_what_sorting_in_python_gives(many):
    every = many.page(size=1000)
    by_suspicion = sorted(every, key=lambda row: -row["suspicion"])
    assert shown(list_value(many, View("many"))) == [row["id"] for row in by_suspicion[:SIZE]]
    by_margin = sorted(every, key=lambda row: row["margin"])
    view = View("many", sort="margin", page=2)
    assert shown(list_value(many, view)) == [row["id"] for row in by_margin[SIZE : 2 * SIZE]]
    last = list_value(many, View("many", sort="margin", page=99))
    assert last["query"].endswith("at=3")
    assert (len(shown(last)), last["pages"]["next"]) == (30, "")
    wrong = [row["id"] for row in by_suspicion if row["margin"] < 0]
    found = list_value(many, View("many", (Filter("agrees", "=", False),)))
    assert shown(found) == wrong[:SIZE]
    assert found["found"] == f"{len(wrong)} of {len(MANY)} pairs"


def test_a_row_says_why_and_shows_the_sentence_that_pulls_most(many):
    value = list_value(many, View("many", (Filter("margin", "<", 0),)))
    rows = {row["id"]: row for row in many.page(size=1000)}
    assert value["table"]["rows"]
    for row in value["table"]["rows"]:
        first, prompt, _, _, why = row["cells"]
        told = rows[first["lines"][0]["text"]]
        pair = many.pair(told["pair_id"])
        assert prompt == pair.prompt
        assert [line["text"].lower() for line in why["lines"][:-1]] == [one.lower() for one in reasons(told)]
        pulls = [(-c, pair.a.sentences[i]) for i, c in enumerate(pair.a.contributions[1:])]
        pulls += [(c, pair.b.sentences[i]) for i, c in enumerate(pair.b.contributions[1:])]
        assert why["lines"][-1]["text"].endswith(max(pulls)[1].strip())
        assert first["lines"][1]["href"] == f"./?audit=many&id={told['pair_id']}"


def test_a_suspect_by_other_models_shows_its_sentence_too(audits, many, tmp_path):
    rows = many.page(size=1000)
    agreeing = [row for row in rows if row["margin"] > 0]
    texts = {row["pair_id"]: many.texts(row["pair_id"]) for row in rows}
    doubted = {row["pair_id"] for row in agreeing[:3]}
    lines = [
        {"pair_id": id, "first": pair.chosen <= pair.rejected, "margin": -9 if id in doubted else 9}
        for id, pair in texts.items()
    ]
    folder = shutil.copytree(audits / "many", tmp_path / "many")
    summarise(folder, out_of_fold=written(tmp_path / "margins.jsonl", lines))
    with closing(AuditFolder.open(folder)) as other:
        suspects = other.page([Filter("suspect", "=", True)])
        assert {row["pair_id"] for row in suspects} == doubted
        listed = list_value(other, View("many", (Filter("margin", ">", 0),)))["table"]["rows"]
    with_sentence = [row for row in listed if any("class" in line for line in row["cells"][-1]["lines"])]
    assert {row["cells"][0]["lines"][0]["text"] for row in with_sentence} == {row["id"] for row in suspects}


def test_the_sentence_is_against_a_label_that_prefers_the_rejected_response(model_dir, tmp_path):
    data = written(tmp_path / "turned.jsonl", [row | {"probability": 0.2} for row in MANY[:SIZE]])
    assert cli.main(["audit", str(data), "--model", str(model_dir), "--output", str(tmp_path / "turned")]) == 0
    with closing(AuditFolder.open(tmp_path / "turned")) as folder:
        rows = {row["id"]: row for row in folder.page(size=1000)}
        assert {row["agrees"] for row in rows.values()} == {True, False}
        for row in list_value(folder, View("turned"))["table"]["rows"]:
            told = rows[row["cells"][0]["lines"][0]["text"]]
            pair = folder.pair(told["pair_id"])
            pulls = [(c, pair.a.sentences[i]) for i, c in enumerate(pair.a.contributions[1:])]
            pulls += [(-c, pair.b.sentences[i]) for i, c in enumerate(pair.b.contributions[1:])]
            said = [line["text"] for line in row["cells"][-1]["lines"] if "class" in line]
            assert len(said) == (told["suspect"] or not told["agrees"])
            assert all(one.endswith(max(pulls)[1].strip()) for one in said)


def test_links_lead_where_there_is_a_page(many):
    def links(**pages: bool) -> list[str]:
        value = list_value(many, View("many"), **pages)
        return [line["text"] for line in value["table"]["rows"][0]["cells"][0]["lines"][1:]]

    assert links() == ["Inspect"]
    assert links(review=True) == ["Inspect", "Review"]
    assert links(inspect=False, review=True) == ["Show", "Review"]
    review = list_value(many, View("many", (Filter("agrees", "=", False),)), review=True)["tools"]["review"]
    assert View.from_query(review.partition("?")[2]).filters == (Filter("agrees", "=", False),)


def test_filters_are_set_and_removed_by_their_links(many):
    view = View("many", (Filter("margin", "<", 0.5), Filter("text", "contains", "7")), page=2)
    tools = list_value(many, view)["tools"]
    assert [one["text"] for one in tools["chips"]] == ["margin below 0.50", "text contains “7”"]
    assert View.from_query(tools["chips"][0]["href"]) == View("many", view.filters[1:])
    suspects = View.from_query(tools["quick"][0]["href"])
    assert suspects.filters == (*view.filters, Filter("suspect", "=", True))
    again = list_value(many, suspects)["tools"]["quick"][0]
    assert (again["on"], View.from_query(again["href"]).filters) == (True, view.filters)
    assert View.from_query(tools["clear"]) == View("many")
    assert tools["search"] == "7"


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (Filter("suspect", "=", True), "suspects"),
        (Filter("margin", "between", (-1.5, 2)), "margin from −1.50 to 2"),
        (Filter("duplicate_of", "missing", False), "has duplicate of"),
        (Filter("style_as an AI", "in", ("chosen", "rejected")), "style as an AI: chosen, rejected"),
        (Filter("meta_topic", "=", "eggs"), "topic is eggs"),
        (Filter("empty", "!=", True), "not empty"),
        (Filter("agrees", "=", False), "the model disagrees"),
    ],
)
def test_a_filter_in_words(one, words):
    assert filter_words(one) == words


def test_an_unknown_column_is_told_and_nothing_else(many):
    with pytest.raises(AuditError, match="no column 'nothing'"):
        list_value(many, View("many", (Filter("nothing", "=", 1),)))
    with pytest.raises(AuditError, match="no column"):
        list_value(many, View("many", sort="margin; DROP"))


def test_an_audit_without_a_summary_shows_its_list(audits, tmp_path):
    bare = tmp_path / "bare"
    (bare / "shards").mkdir(parents=True)
    for file in ("audit.json", "shards/00000.parquet"):
        (bare / file).write_bytes((audits / "odd" / file).read_bytes())
    table = pyarrow.parquet.read_table(audits / "odd" / "pairs.parquet")
    light = table.drop_columns(["suspicion", "suspect", "contradicts"])
    pyarrow.parquet.write_table(light, bare / "pairs.parquet")
    with closing(AuditFolder.open(bare)) as folder:
        value = list_value(folder, View("bare"))
        assert shown(value) == [row["id"] for row in folder.page(size=SIZE)]
        assert [one["text"] for one in value["tools"]["quick"]] == ["Model disagrees"]
        assert left_out_rows(folder) == [["30", left_out_rows(folder)[0][1]]]
        assert "JSON" in left_out_rows(folder)[0][1]


def test_two_audits_beside_each_other(audits, many):
    with closing(AuditFolder.open(audits / "other")) as other:
        changed = changed_sides(many, other)
        right = [{row["pair_id"]: row["agrees"] for row in one.page(size=1000)} for one in (many, other)]
        gained = {id for id, agrees in right[0].items() if right[1][id] and not agrees}
        lost = {id for id, agrees in right[0].items() if agrees and not right[1][id]}
        assert (changed.both, changed.gained, changed.lost) == (len(MANY), len(gained), len(lost))
        assert gained | lost == set(changed.ids) != set()
        summaries = tuple(json.loads((audits / name / "summary.json").read_text()) for name in ("many", "other"))
        value = compare_value(("many", "other"), summaries, changed)
        rows = {row["cells"][0]: row["cells"][1:] for row in value["table"]["rows"]}
        assert rows["pairs"] == ["130", "130", ""]
        points = 100 * (summaries[1]["agreement"]["value"] - summaries[0]["agreement"]["value"])
        assert rows["agreement with labels"][2].replace("−", "-") == f"{points:+.1f} points"
        assert many.count([Filter(*one) for one in value["figures"][0]["narrow"]]) == len(changed.ids)
    with closing(AuditFolder.open(audits / "odd")) as odd:
        assert changed_sides(many, odd).words(("a", "b")) == "The two audits have no pair in common."


# The form


@pytest.fixture
def form(model_dir, tmp_path) -> Scoring:
    data = tmp_path / "data"
    data.mkdir()
    written(data / "many.jsonl", MANY * 2)
    written(data / "named.jsonl", [{"question": "Q?", "answer_good": "Yes.", "answer_bad": "No."}] * 3)
    written(data / "broken.jsonl", [], "nothing\n")
    bench = Workbench(data=(data,), output=tmp_path / "out")
    return formed(bench, Scorer.from_pretrained(model_dir))


def formed(bench: Workbench, scorer: Scorer) -> Scoring:
    def make() -> Scoring:
        with gr.Blocks():
            return Scoring(bench, scorer)

    return built(make)


def scoring(form: Scoring, name: str, mapped: tuple | None = None, session: str = "somebody") -> Iterator:
    """What the form says while it scores."""
    return form._score(gr.Request(session_hash=session), (None, name, ""), mapped)


def scored(form: Scoring, name: str, mapped: tuple | None = None) -> list:
    return list(scoring(form, name, mapped))


def mapping(form: Scoring, asked: dict) -> tuple:
    """What the form sends if the guesses are left as they are."""
    return asked[form.form], *(asked[column]["value"] for column in form.columns)


def test_a_stopped_dataset_goes_on_and_nothing_is_scored_twice(form, monkeypatch):
    watched = form.stopping.watched

    def stopped(request: gr.Request) -> Callable[[int, int], None]:
        report = watched(request)

        def pressed(done: int, of: int) -> None:
            if done > SHARD:  # the first shard stands
                form.stopping.press(request)
            report(done, of)

        return pressed

    with monkeypatch.context() as patch:
        patch.setattr(form.stopping, "watched", stopped)
        said = scored(form, "data/many.jsonl")
    (standing,) = form.workbench.made().glob("*/shards/*.parquet")
    first = standing.stat().st_mtime_ns
    assert "nothing is scored twice" in said[-1][form.panel]["message"]["text"]
    assert form.workbench.names() == []
    name = scored(form, "data/many.jsonl")[-1]
    folder = form.workbench.open(name)
    assert folder.count() == 2 * len(MANY) > 2 * SHARD
    before = [shard.stat().st_mtime_ns for shard in folder.shards]
    assert before[0] == first
    assert scored(form, "data/many.jsonl")[-1] == name
    assert [shard.stat().st_mtime_ns for shard in folder.shards] == before
    assert form.workbench.names() == [name]


def test_a_second_visitor_waits_is_told_and_can_stop(form):
    other = gr.Request(session_hash="another")
    with form._one:
        first, second = scoring(form, "data/many.jsonl"), scoring(form, "data/many.jsonl", session="another")
        for one in (first, second):
            said = next(one)
            assert "Waiting for another data set" in said[form.panel]["progress"]["text"]
            assert said[form.stop]["visible"]
        form.stopping.press(other)
        assert "Stopped." in list(second)[-1][form.panel]["message"]["text"]
        assert form.workbench.names() == []
    assert [list(first)[-1]] == form.workbench.names()


def test_an_upload_can_be_cleaned_when_it_is_gone(form, tmp_path):
    upload = written(tmp_path / "mine.jsonl", MANY[:3])
    name = list(form._score(gr.Request(session_hash="somebody"), (str(upload), "", ""), None))[-1]
    upload.unlink()
    folder = form.workbench.open(name)
    with ReviewLog.open(tmp_path / "log") as log:
        log.vote(folder.ids()[0], "ann", "both_bad")
        out, done = cleaned(log, folder, tmp_path / "cleaned", Choices())
        assert (done.rows, done.dropped, len(out.read_text().splitlines())) == (3, 1, 2)
        moved = AuditFolder.open(folder.path.rename(tmp_path / "moved"))
        assert cleaned(log, moved, tmp_path / "again", Choices())[1].dropped == 1


def test_a_data_set_of_the_hub_is_bounded(form, monkeypatch):
    """`records` gives the rows of a file in its place."""
    open_form = formed(replace(form.workbench, allow_hub=True), form.scorer)
    file = str(form.workbench.file("data/many.jsonl"))
    for module in (preferences, dataset_scoring):
        monkeypatch.setattr(module, "records", lambda source, *_, **__: readers.records(file, "train"))
    monkeypatch.setattr(dataset_scoring, "UPLOAD", Limits(rows=SHARD))
    asked = open_form._look(None, "", "owner/name")
    assert "Press Score" in asked[open_form.panel]["message"]["text"]
    said = list(open_form._score(gr.Request(session_hash="somebody"), (None, "", "owner/name"), None))[-1]
    assert f"more than {SHARD} rows" in said[open_form.panel]["message"]["text"]


def test_unknown_columns_are_asked_for_with_the_first_rows(form):
    asked = form._look(None, "data/named.jsonl", "")
    assert asked[form.mapped]
    assert asked[form.rows]["table"]["rows"][0]["cells"] == ["Q?", "Yes.", "No."]
    guesses = [asked[column]["value"] for column in form.columns if asked[column]["visible"]]
    assert guesses == ["question", "answer_good", "answer_bad"]
    folder = form.workbench.open(scored(form, "data/named.jsonl", mapping(form, asked))[-1])
    assert folder.pair(folder.ids()[0]).a.text == "Yes."
    known = form._look(None, "data/many.jsonl", "")
    assert not known[form.mapped]
    assert "Press Score" in known[form.panel]["message"]["text"]


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ({"query": "Q?", "answer_1": "No.", "answer_2": "Yes.", "preference": "answer_2"}, 4),
        ({"instruction": "Q?", "completions": ["No.", "Yes."], "rating": [1, 2]}, 4),
        ({"better": "Q? Yes.", "worse": "Q? No."}, 3),
    ],
)
def test_any_form_of_a_row_can_be_mapped(form, row, shown):
    written(form.workbench.data[0] / "other.jsonl", [row])
    asked = form._look(None, "data/other.jsonl", "")
    assert sum(asked[column]["visible"] for column in form.columns) == shown
    folder = form.workbench.open(scored(form, "data/other.jsonl", mapping(form, asked))[-1])
    pair = folder.pair(folder.ids()[0])
    assert [text.strip() for text in (pair.prompt, pair.a.text, pair.b.text)] == ["Q?", "Yes.", "No."]


def test_a_field_without_a_column_is_told(form):
    asked = form._look(None, "data/named.jsonl", "")
    *_, said = scored(form, "data/named.jsonl", ("two responses, and which is better", *mapping(form, asked)[1:]))
    message = said[form.panel]["message"]
    assert message == {"text": message["text"], "alert": True}
    assert "no column was chosen of response A and response B and the winner" in message["text"]


def test_what_cannot_be_scored_is_told(form, tmp_path):
    def told(**asked: str) -> str:
        given = {"file": None, "name": "", "hub": ""} | asked
        return form._look(*given.values())[form.panel]["message"]["text"]

    assert "broken" in told(name="data/broken.jsonl")
    assert "Choose one of the list" in told(name="../secret.jsonl")
    assert "not allowed here" in told(hub="owner/name")
    bomb = tmp_path / "many.pickle"
    bomb.write_bytes(b"")
    assert "many.pickle" in told(file=str(bomb))
    said = scored(form, "")[-1][form.panel]["message"]
    assert said == {"text": said["text"], "alert": True}
    assert "Choose a file first" in said["text"]
    open_form = formed(Workbench(allow_hub=True), form.scorer)
    with pytest.raises(PreferenceDataError, match="no id of the hub"):
        open_form._source(None, "", str(tmp_path))


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (Progress(1204, 0, 10000, 100.0), "1,204 of 10,000 rows, 12.0 a second, 12 min left"),
        (Progress(50, 40, 100, 5.0), "50 of 100 rows, 2.0 a second, 25 s left"),
        (Progress(7, 7, None, 1.0), "7 rows"),
    ],
)
def test_progress_in_words(now, words):
    assert progress_words(now) == words


def test_the_app_opens_without_a_model(bench):
    app = built(lambda: build_app(None, (), bench))
    names = {block.elem_id for block in app.blocks.values()}
    assert {"pairs", "headline"} <= names
    assert "score-a-dataset" not in names
