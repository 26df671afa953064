"""Files that visitors may send: crafted ones are refused with the limit they break, before this process reads them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentrm.errors import PreferenceDataError
from sentrm.limits import MIB, UPLOAD, check_hub_id, check_rows, check_upload
from sentrm.preferences import load_preferences, stream_preferences
from sentrm.readers import records

ROW = {"prompt": "How do I boil an egg?", "chosen": "Boil it.", "rejected": "No."}
SMALL = replace(UPLOAD, size=64 * MIB, unpacked=8 * MIB, rows=1000, cell=10_000, memory=400 * MIB, seconds=60)


def lines(*rows: object) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


def table(**columns: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def repeated(text: str, times: int) -> pa.Array:
    """One text that a file of few bytes holds many times."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), pa.array([text]))


def many(rows: int) -> bytes:
    return lines(*[ROW] * rows)


FINE = {
    "rows.jsonl": lines(ROW, ROW),
    "rows.JSONL.GZ": gzip.compress(lines(ROW, ROW)),
    "rows.json": json.dumps([ROW, ROW]).encode(),
    "rows.csv": b"prompt,chosen,rejected\na,b,c\nd,e,f\n",
    "rows.parquet": table(prompt=["a", "d"], chosen=["b", "e"], rejected=["c", "f"]),
    "packed.parquet.gz": gzip.compress(table(prompt=["a", "d"], chosen=["b", "e"], rejected=["c", "f"])),
    "half.jsonl": lines(ROW) + b"\nnot JSON",  # a bad row is the audit's to report
    "deep.jsonl": b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n" + lines(ROW),
    "it's [1]*\n${x}.jsonl": lines(ROW, ROW),
}
# What the file holds -> what the refusal says
BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "zeros.jsonl.gz": (lambda: gzip.compress(b"\0" * 9 * MIB), "unpacks to more; an upload may have 8 MiB"),
    "zeros.parquet.gz": (lambda: gzip.compress(b"\0" * 9 * MIB), "unpacks to more; an upload may have 8 MiB"),
    "nested.json": (lambda: b"[" * 100_000 + b"]" * 100_000, "not one JSON document: maximum recursion depth"),
    "nested.jsonl": (lambda: lines(ROW, {"a": eval("[" * 40 + "]" * 40)}), "row 2 of nested.jsonl is nested deeper"),
    "endless.csv": (lambda: b'prompt,chosen\na,"' + b"x\n" * 6 * MIB, "a text of 12,582,912 characters"),
    "endless.jsonl": (lambda: lines({"a": "x" * 2 * MIB}), "a text of 2,097,152 characters"),
    "header.csv": (lambda: b"x" * 20_000 + b"\na\n", "a text of 20,000 characters"),
    "long.jsonl": (lambda: many(1001), "has more rows; an upload may have 1,000"),
    "wide.jsonl": (lambda: lines({f"c{i}": 1 for i in range(201)}), "has 201 columns; an upload may have 200"),
    "big.csv": (lambda: b"x" * (64 * MIB + 1), "has 64.0 MiB; an upload may have 64.0 MiB"),
    "rows.parquet": (lambda: table(prompt=pa.nulls(10_000_000)), "has 10,000,000 rows"),
    "pages.parquet": (lambda: table(prompt=["x" * 9 * MIB]), "unpacks to 9 MiB"),
    "words.parquet": (lambda: table(prompt=repeated("x" * 4 * MIB, 900)), "more memory to read"),
    "list.parquet": (
        lambda: table(prompt=pa.ListArray.from_arrays([0, 60_000_000], pa.nulls(60_000_000, pa.int8()))),
        "more memory to read",
    ),
    "broken.parquet": (lambda: b"PAR1" + b"\xff" * 100 + b"PAR1", "cannot read broken.parquet"),
    "cut.jsonl.gz": (lambda: gzip.compress(many(500))[:-9], "cannot read cut.jsonl.gz"),
}  # fmt: skip


@pytest.mark.parametrize("name", FINE)
def test_what_can_be_scored_passes_and_its_rows_are_counted(name, tmp_path):
    file = tmp_path / name
    file.write_bytes(FINE[name])
    assert check_upload(file) == check_rows(file, UPLOAD) == len(list(records(str(file), "train"))) == 2


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_words_and_does_not_reach_this_process(name, tmp_path):
    make, said = BOMBS[name]
    file = tmp_path / name
    file.write_bytes(make())
    before = time.monotonic()
    with pytest.raises(PreferenceDataError) as raised:
        check_upload(file, SMALL)
    assert said in str(raised.value)
    assert str(tmp_path) not in str(raised.value)
    assert time.monotonic() - before < 30


def test_reading_ends_in_time(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(many(300_000))
    with pytest.raises(PreferenceDataError, match=r"takes longer to read; an upload may have 0\.3 seconds"):
        check_upload(file, replace(UPLOAD, seconds=0.3))


class Executed:
    """What a pickle can do to who opens it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize(
    "name", ["rows.pkl", "rows.pt", "rows.pickle", "rows.npy", "rows.tar", "rows.py", "jsonl", "x.gz"]
)
def test_no_pickle_is_opened(name, tmp_path):
    mark, file = tmp_path / "executed", tmp_path / name
    file.write_bytes(pickle.dumps(Executed(mark)))
    with pytest.raises(PreferenceDataError, match="is of no form that is read here"):
        check_upload(file)
    renamed = file.rename(tmp_path / "rows.parquet")
    with pytest.raises(PreferenceDataError, match=r"cannot read rows\.parquet"):
        check_upload(renamed)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Executed(mark)))
    assert mark.exists()  # it would have


def test_a_folder_and_a_link_are_no_upload(tmp_path):
    (tmp_path / "rows.jsonl").mkdir()
    (tmp_path / "link.jsonl").symlink_to("/etc/passwd")
    for name in ("rows.jsonl", "link.jsonl", "nothing.jsonl"):
        with pytest.raises(PreferenceDataError, match=f"^{name} is no file"):
            check_upload(tmp_path / name)


@pytest.mark.parametrize("readers", [load_preferences, lambda source: list(stream_preferences(source))])
def test_a_loading_script_is_not_executed(readers, tmp_path):
    folder, mark = tmp_path / "eggs", tmp_path / "executed"
    folder.mkdir()
    (folder / "eggs.py").write_text(f"open({str(mark)!r}, 'w')\n")
    (folder / "rows.pkl").write_bytes(pickle.dumps(Executed(mark)))
    with pytest.raises(PreferenceDataError, match="datasets cannot load it"):
        readers(folder)
    assert not mark.exists()


def test_a_hub_id_is_no_path_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner/name").mkdir(parents=True)
    assert check_hub_id(" Anthropic/hh-rlhf ") == "Anthropic/hh-rlhf"
    assert check_hub_id("imdb") == "imdb"
    for text in (
        "owner/name",
        "owner",
        "..",
        "../x",
        "/etc/passwd",
        "/etc",
        "a/b/c",
        "~",
        "",
        "a b",
        "hf://x",
        "https://x/y",
    ):
        with pytest.raises(PreferenceDataError, match="is no id of the hub"):
            check_hub_id(text)


def test_two_csv_files_are_read_at_once(tmp_path):
    """The csv module has one limit for all threads."""
    file = tmp_path / "rows.csv"
    file.write_bytes(b"prompt,chosen,rejected\n" + b"a,%b,c\n" % (b"long " * 60_000) * 3)
    csv.field_size_limit(131_072)
    first, second = records(str(file), "train"), records(str(file), "train")
    next(first), next(second)
    first.close()
    assert len(list(second)) == 2


def test_files_are_checked_one_after_the_other(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(many(3))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(check_upload, [file] * 4)) == [3] * 4
