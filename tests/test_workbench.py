"""What visitors may name: the audits, files and annotators given at the start, and nothing else."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gradio as gr
import pytest

from sentrm.audit.run import score_dataset
from sentrm.errors import AuditError, PreferenceDataError, ReviewError
from sentrm.scoring import Scorer
from sentrm.ui.workbench import KEPT, Workbench

ROW = {"prompt": "How do I boil an egg?", "chosen": "Boil it. Peel it.", "rejected": "No."}


@pytest.fixture(scope="module")
def scored(model_dir, tmp_path_factory) -> Path:
    """A folder of two audits, of one and of two pairs."""
    folder = tmp_path_factory.mktemp("scored")
    scorer = Scorer.from_pretrained(model_dir)
    for name, pairs in (("one", 1), ("two", 2)):
        data = folder / f"{name}.jsonl"
        data.write_text("\n".join(json.dumps(ROW | {"prompt": f"Egg {i}?"}) for i in range(pairs)))
        score_dataset(data, scorer, folder / "audits" / name)
    return folder / "audits"


def copied(scored: Path, folder: Path, *names: str) -> Path:
    """Audits of one pair, hard links of each other."""
    for name in names:
        for file in (scored / "one").rglob("*"):
            if file.is_file():
                place = folder / name / file.relative_to(scored / "one")
                place.parent.mkdir(parents=True, exist_ok=True)
                os.link(file, place)
    return folder


def asking(name: str | None) -> gr.Request:
    return gr.Request(username=name)


def test_audits_have_the_names_of_their_folders(scored, tmp_path):
    copied(scored, tmp_path / "more", "one", "three")
    bench = Workbench(audits=(scored / "two", scored, tmp_path / "more"))
    assert bench.names() == ["two", "one", "one (2)", "three"]
    assert [bench.open(name).count() for name in bench.names()] == [2, 1, 1, 1]
    assert bench.open("one (2)").path == (tmp_path / "more/one").resolve()


def test_audits_made_meanwhile_are_there_and_unfinished_ones_are_not(scored, tmp_path):
    bench = Workbench(audits=(scored / "one",), output=tmp_path / "made")
    assert bench.names() == ["one"]
    copied(scored, bench.made(), bench.place("new").name, "stopped")
    (tmp_path / "made/stopped/pairs.parquet").unlink()
    assert bench.names() == ["one", "new"]
    assert bench.open("new").count() == 1


def test_without_an_output_audits_go_with_the_process():
    bench = Workbench()
    made = bench.made()
    assert made.is_dir()
    assert bench.made() == made
    assert Workbench().made() != made
    del bench
    assert not made.exists()


def test_an_audit_is_opened_once_until_it_is_written_again(scored, tmp_path):
    names = [f"audit{i}" for i in range(KEPT + 1)]
    bench = Workbench(audits=(copied(scored, tmp_path, *names),))
    with ThreadPoolExecutor(8) as pool:
        assert len({id(one) for one in pool.map(bench.open, names[:1] * 20)}) == 1
    first = bench.open(names[0])
    os.utime(tmp_path / names[0] / "pairs.parquet", ns=(1, 1))
    again = bench.open(names[0])
    assert again is not first
    for name in names[1:]:
        bench.open(name)
    assert bench.open(names[0]) is not again
    assert again.count() == 1  # who holds it can go on


@pytest.mark.parametrize("name", ["", "..", "../one", "/etc", "ONE", "one/../two", "x" * 5000, None])
def test_no_audit_is_opened_by_a_path(scored, name):
    with pytest.raises(AuditError, match=r"there is no audit .* at hand are: one, two"):
        Workbench(audits=(scored,)).open(name)


def test_files_are_listed_by_name_and_nothing_leads_out_of_a_folder(tmp_path):
    data, outside = tmp_path / "data", tmp_path / "outside"
    files = (
        "b.JSONL",
        "a.json",
        "in/c.csv.gz",
        "in/d.parquet",
        "notes.txt",
        "x.pkl",
        "m.pt",
        ".hidden.json",
        ".git/e.csv",
    )
    for name in files:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text("x")
    outside.mkdir()
    (outside / "secret.json").write_text("x")
    (data / "link.json").symlink_to(outside / "secret.json")
    (data / "linked").symlink_to(outside)
    (data / "gone.json").symlink_to(data / "nowhere.json")
    (data / "inside.json").symlink_to(data / "a.json")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.json").write_text("x")
    bench = Workbench(data=(data, tmp_path / "elsewhere/a.json", data / "a.json"))
    assert bench.files() == ["data/a.json", "data/b.JSONL", "data/in/c.csv.gz", "data/in/d.parquet", "a.json"]
    assert bench.file("data/in/c.csv.gz") == (data / "in/c.csv.gz").resolve()
    for name in ("data/link.json", "data/../outside/secret.json", str(outside / "secret.json"), "data/x.pkl", "", None):
        with pytest.raises(PreferenceDataError, match=r"there is no file .* at hand"):
            bench.file(name)


@pytest.mark.parametrize(
    "label", ["../../etc/passwd", "/etc/passwd", "..", "", "a/../..", "\x00", "~root", "x" * 999, "ü"]
)
def test_an_audits_place_is_one_folder_of_the_output(tmp_path, label):
    bench = Workbench(output=tmp_path / "made")
    place = bench.place(label)
    assert place.parent == tmp_path / "made"
    assert place.resolve().parent == (tmp_path / "made").resolve()
    assert place == bench.place(label)
    place.mkdir()


def test_what_is_given_at_the_start_has_to_be_there(tmp_path):
    (tmp_path / "model.pkl").write_text("x")
    with pytest.raises(AuditError, match=r"--audits .* is no folder"):
        Workbench(audits=(tmp_path / "nowhere",))
    with pytest.raises(PreferenceDataError, match="does not exist"):
        Workbench(data=(tmp_path / "nowhere.json",))
    with pytest.raises(PreferenceDataError, match=r"model\.pkl is none of them"):
        Workbench(data=(tmp_path / "model.pkl",))


def test_an_upload_may_be_as_large_as_the_owner_says(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(ROW))
    assert Workbench(max_upload=file.stat().st_size).check(file) == 1
    with pytest.raises(PreferenceDataError, match=r"rows\.jsonl has .* an upload may have"):
        Workbench(max_upload=file.stat().st_size - 1).check(file)


def test_the_log_is_opened_once(tmp_path):
    bench = Workbench(reviews=tmp_path / "reviews.sqlite")
    with ThreadPoolExecutor(8) as pool:
        assert len({id(log) for log in pool.map(lambda _: bench.log(), range(8))}) == 1
    bench.log().close()
    with pytest.raises(ReviewError, match="--reviews FILE"):
        Workbench().log()


def test_a_login_goes_before_what_the_page_says():
    anyone, named = Workbench(), Workbench(annotators=("ada", "bo"))
    login = Workbench(annotators=("ada",), login_to_review=True)
    assert anyone.annotator(asking(None)) is None
    assert anyone.annotator(None) is None
    assert anyone.annotator(asking("eve")) == "eve"
    assert anyone.voter(asking(None), " cy ") == "cy"
    assert anyone.voter(asking("eve"), "cy") == "eve"
    assert named.voter(asking(None), "bo") == "bo"
    assert login.voter(asking("eve"), "ada") == "eve"
    with pytest.raises(ReviewError, match="has no name"):
        anyone.voter(asking(None), " ")
    with pytest.raises(ReviewError, match="'cy' is no annotator here; choose one of ada, bo"):
        named.voter(asking(None), "cy")
    with pytest.raises(ReviewError, match="logged in"):
        login.voter(asking(None), "ada")
