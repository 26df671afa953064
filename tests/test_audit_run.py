"""Scoring a dataset into a folder: whole, resumed, killed, in two processes, refused."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import datasets
import duckdb
import processes
import pyarrow
import pyarrow.parquet
import pytest
import torch
from processes import server

from sentrm import cli, readers
from sentrm.audit import run, shards
from sentrm.audit.folder import AuditFolder
from sentrm.audit.run import Progress, score_dataset
from sentrm.audit.shards import STALE, remove_partial, written_whole
from sentrm.errors import AuditError, EncodingError, PreferenceDataError
from sentrm.preferences import PreferencePair, load_preferences
from sentrm.scoring import Scorer

SHARD = 16  # rows; the data have 120


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in the processes started here: the number of threads decides the last bits of a score."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(pairs_file, scorer, tmp_path_factory) -> Path:
    """A run that nothing disturbed."""
    return score_dataset(pairs_file, scorer, tmp_path_factory.mktemp("audits") / "whole", rows_per_shard=SHARD)


def test_shards_hold_all_records_in_order(whole, pairs_file, scorer):
    shards = sorted((whole / "shards").iterdir())
    assert [one.name for one in shards] == [f"{number:05d}.parquet" for number in range(8)]
    tables = [pyarrow.parquet.read_table(one) for one in shards]
    assert [table["row"].to_pylist() for table in tables] == [
        list(range(start, min(start + SHARD, 121))) for start in range(1, 121, SHARD)
    ]
    for table in tables:
        about = {name.decode(): json.loads(value) for name, value in table.schema.metadata.items()}
        assert about["rows"] == len(table)
        assert about["model"]["revision"] == scorer.model_info.revision
        assert about["segmenter"] == {"spec": "rules:en", "revision": scorer.segmenter.revision, "own": True}
        assert about["problems"] == []
    pairs = load_preferences(pairs_file).pairs
    expected = scorer.score(pairs)  # in other batches
    margins = [margin for table in tables for margin in table["margin"].to_pylist()]
    assert margins == pytest.approx([pair.margin for pair in expected], abs=1e-5)
    assert [text for table in tables for text in table["rejected"].to_pylist()] == [pair.rejected for pair in pairs]
    assert not [file for file in whole.rglob("*") if file.name.startswith(".")]


def test_memory_does_not_grow_with_the_data(scorer, tmp_path, monkeypatch):
    """Python's at its peak and Arrow's, between the second shard and the last."""
    (one,) = scorer.score([PreferencePair("Why?", "It is so. " * 20, "No.")])
    monkeypatch.setattr(Scorer, "score_fitting", lambda self, pairs, progress: [one] * len(pairs))
    rows = ({"prompt": f"{i}?", "chosen": "a" * 500, "rejected": "b"} for i in range(2048))
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    held: list[tuple[int, int]] = []

    def trim() -> None:
        held.append((tracemalloc.get_traced_memory()[1], pyarrow.total_allocated_bytes()))
        tracemalloc.reset_peak()

    monkeypatch.setattr(run, "_trim", trim)
    tracemalloc.start()
    try:
        score_dataset(data, scorer, tmp_path / "out", rows_per_shard=128)
    finally:
        tracemalloc.stop()
    assert len(held) == 16
    for early, late in zip(held[1], held[-1], strict=True):
        assert late < 1.1 * early + 2**16


def test_a_cancelled_run_goes_on_and_scores_nothing_twice(whole, pairs_file, scorer, tmp_path, monkeypatch):
    read: list[int] = []
    forward = scorer.model.forward

    def counted(*args, **batch):
        read.append(len(batch["boundaries"]))
        return forward(*args, **batch)

    monkeypatch.setattr(scorer.model, "forward", counted)
    out, seen = tmp_path / "out", list[Progress]()

    def cancel(progress: Progress) -> None:
        seen.append(progress)
        if progress.rows >= 3 * SHARD + 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_dataset(pairs_file, scorer, out, rows_per_shard=SHARD, progress=cancel)
    with pytest.raises(AuditError, match="is unfinished: 3 shards stand"):
        AuditFolder.open(out)
    before = _stamps(out)
    lost = sum(read) - 2 * 3 * SHARD
    assert 0 < lost <= 2 * SHARD  # of the shard that was being scored
    read.clear()
    assert score_dataset(pairs_file, scorer, out, rows_per_shard=SHARD, progress=seen.append) == out
    assert sum(read) == 2 * (120 - 3 * SHARD)
    assert _stamps(out).items() > before.items()
    _same(out, whole)

    rows = [one.rows for one in seen]
    assert rows.count(3 * SHARD) >= 2
    assert rows[-1] == 120
    assert {one.total for one in seen} == {120}
    assert seen[-1].found == 3 * SHARD
    assert seen[-1].rate == pytest.approx((120 - 3 * SHARD) / seen[-1].seconds)
    assert seen[-1].time_left == 0
    half = Progress(rows=60, found=20, total=120, seconds=4.0)
    assert (half.rate, half.time_left) == (10.0, 6.0)
    assert Progress(60, 20, None, 4.0).time_left is None

    finished = _stamps(out)
    read.clear()
    score_dataset(pairs_file, scorer, out, rows_per_shard=SHARD)
    assert not read
    assert _stamps(out) == finished


def test_a_killed_run_goes_on_and_scores_nothing_twice(whole, model_dir, pairs_file, scorer, tmp_path):
    out = tmp_path / "out"
    process = server.Process(target=_score, args=(str(model_dir), str(pairs_file), str(out), {}))
    process.start()
    processes.when(process, lambda: len(list(out.glob("shards/*.parquet"))) >= 2)
    os.kill(process.pid, signal.SIGKILL)
    assert processes.finish(process) == [-signal.SIGKILL]
    before = _stamps(out)
    assert len(before) < 9
    left = out / "shards" / ".00007.parquet.0a1b2c3d.partial"
    left.write_bytes(b"PAR1 half")  # as a kill in the middle of writing leaves
    os.utime(left, (time.time() - 2 * STALE,) * 2)
    score_dataset(pairs_file, scorer, out, rows_per_shard=SHARD)
    assert _stamps(out).items() > before.items()
    _same(out, whole)
    assert not list(out.glob("shards/.*"))


def test_two_runs_on_one_folder_do_not_disturb_each_other(whole, model_dir, pairs_file, tmp_path):
    out = tmp_path / "out"
    runs = [server.Process(target=_score, args=(str(model_dir), str(pairs_file), str(out), {})) for _ in range(2)]
    for process in runs:
        process.start()
    assert processes.finish(*runs) == [0, 0]
    _same(out, whole)
    assert not list(out.rglob(".*"))


def test_of_two_that_write_one_file_at_once_one_stands_whole(tmp_path):
    file, both = tmp_path / "file", Barrier(2)

    def write(letter: str) -> None:
        with written_whole(file) as aside, aside.open("w") as stream:
            for _ in range(1000):
                stream.write(letter)
            stream.flush()
            both.wait(10)
            remove_partial(tmp_path)  # as a third that starts
            stream.write(letter)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, "ab"))
    assert file.read_text() in ("a" * 1001, "b" * 1001)
    assert list(tmp_path.iterdir()) == [file]


def test_two_processes_write_what_one_writes(whole, model_dir, pairs_file, tmp_path):
    out = tmp_path / "out"
    group = [
        server.Process(target=_score, args=(str(model_dir), str(pairs_file), str(out), environment))
        for environment in processes.launched("ddp.yaml")
    ]
    for process in group:
        process.start()
    assert processes.finish(*group) == [0, 0]
    for rank in (0, 1):
        numbers = [json.loads(line) for line in (tmp_path / f"{rank}.log").read_text().splitlines()]
        assert numbers == [[60 + 4 * (1 - 2 * rank), 60 + 4 * (1 - 2 * rank)]]  # 4 shards of 16, or 3 and one of 8
    _same(out, whole)


def test_the_command_in_two_processes_as_torchrun_starts_them(model_dir, pairs_file, tmp_path):
    data, out = tmp_path / "pairs.jsonl", tmp_path / "out"
    data.write_text("\n".join([pairs_file.read_text()] * 5))
    group = [
        server.Process(target=_command, args=(str(data), str(model_dir), str(out), environment))
        for environment in processes.launched("ddp.yaml")
    ]
    for process in group:
        process.start()
    assert processes.finish(*group) == [0, 0]
    first, second = ((tmp_path / f"{rank}.log").read_text() for rank in (0, 1))
    assert "512/512" in first
    assert "600 pairs scored, 0 left out" in first
    assert "scored" not in second
    folder = AuditFolder.open(out)
    ids = folder.ids()
    assert len(set(ids)) == 600
    assert [one.partition("-")[2] for one in ids] == [count for count in ("", "2", "3", "4", "5") for _ in range(120)]
    folder.close()


@pytest.mark.parametrize("said", ["", "looking for suspects and duplicates …"])  # while it scores, and inside DuckDB
def test_ctrl_c_ends_the_command_with_one_line(said, model_dir, pairs_file, tmp_path):
    out, log = tmp_path / "out", tmp_path / "0.log"
    process = server.Process(target=_long_command, args=(str(pairs_file), str(model_dir), str(out), {"RANK": "0"}))
    process.start()
    processes.when(process, lambda: (out / "audit.json").exists() and said in log.read_text())
    if said:
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGCONT)
    assert processes.finish(process) == [130]
    *before, last = log.read_text().splitlines()
    assert last == f"sentrm: stopped; what was scored stays in {out}, the same command goes on"
    assert ("looking for suspects and duplicates …" in before) == bool(said)
    assert "Traceback" not in "".join(before)


def _long_command(data: str, model: str, out: str, environment: dict[str, str]) -> None:
    """`sentrm audit` whose summary is some seconds of DuckDB; Ctrl-C is heard as in a terminal, wherever tests run."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    query = "SELECT sum(hash(a.range * b.range)) FROM range(5000) a, range(100000) b"
    cli.summarise = lambda *_, **__: duckdb.execute(query)
    _command(data, model, out, environment)


def _command(data: str, model: str, out: str, environment: dict[str, str]) -> None:
    """`sentrm audit` in a process of its own; what it says goes next to the folder."""
    os.environ.update({name: value for name, value in environment.items() if not name.startswith("ACCELERATE")})
    torch.set_num_threads(1)
    log = Path(out).with_name(f"{environment['RANK']}.log")
    with log.open("w", buffering=1) as stream, contextlib.redirect_stderr(stream):
        code = cli.main(["audit", data, "--model", model, "--output", out])
    sys.exit(code)


def _score(model: str, data: str, out: str, environment: dict[str, str]) -> None:
    """In a process of its own; writes how many records it has done, and has to do, next to the folder."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    seen: list[Progress] = []
    score_dataset(data, Scorer.from_pretrained(model), out, rows_per_shard=SHARD, progress=seen.append)
    Path(out).with_name(f"{os.environ.get('RANK', 0)}.log").write_text(json.dumps([seen[-1].rows, seen[-1].total]))


def _stamps(out: Path) -> dict[str, tuple[int, int]]:
    """Which file it is, and when it was written, of each that stands."""
    return {str(one): (one.stat().st_ino, one.stat().st_mtime_ns) for one in out.rglob("*.parquet")}


def _same(one: Path, other: Path) -> None:
    ours, theirs = (pyarrow.parquet.read_table(path / "pairs.parquet") for path in (one, other))
    assert ours.schema.equals(theirs.schema)
    assert ours.to_pylist() == theirs.to_pylist()


def test_a_run_that_asks_for_something_else_is_refused(whole, pairs_file, model_dir, scorer, tmp_path):
    def refused(said: str, source=pairs_file, by=scorer, rows=SHARD, **how) -> None:
        with pytest.raises(AuditError, match=said):
            score_dataset(source, by, whole, rows_per_shard=rows, **how)

    before = _stamps(whole)
    other = tmp_path / "other.jsonl"
    other.write_bytes(pairs_file.read_bytes()[:-200].rpartition(b"\n")[0])
    refused("data sha256 was", source=other)
    refused("data columns was {} and is {'id': 'prompt'}", columns={"id": "prompt"})
    refused("segmenter spec was 'rules:en' and is 'rules:de'", by=scorer.cut_by("rules:de"))
    refused("max_length was 256 and is 100", by=Scorer.from_pretrained(model_dir, max_length=100))
    refused("dtype was 'float32' and is 'bfloat16'", by=Scorer.from_pretrained(model_dir, dtype="bfloat16"))
    refused("rows_per_shard was 16 and is 17. Choose another folder", rows=17)
    refused("got 0 rows per shard", rows=0)
    assert _stamps(whole) == before

    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(pairs_file.read_bytes())
    score_dataset(moved, scorer, whole, rows_per_shard=SHARD)  # the same data elsewhere are no other data
    with pytest.raises(AuditError, match=r"holds moved\.jsonl and is no audit folder"):
        score_dataset(pairs_file, scorer, tmp_path)
    with pytest.raises(AuditError, match=r"cannot write .*moved\.jsonl"):
        score_dataset(pairs_file, scorer, moved)


def test_a_folder_of_data_that_has_changed_is_refused(scorer, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    data, out = tmp_path / "data", tmp_path / "data" / "audit"
    data.mkdir()
    row = {"prompt": "Hi", "chosen": "Hello.", "rejected": "No."}
    for split in ("train", "test"):
        (data / f"{split}.jsonl").write_text(json.dumps(row) + "\n")
    score_dataset(data, scorer, out)
    about = json.loads((out / "audit.json").read_text())["data"]
    assert about["bytes"] == sum(file.stat().st_size for file in data.glob("*.jsonl"))
    (data / ".DS_Store").write_text("no data")
    moved = Path(shutil.copytree(data, tmp_path / "moved", ignore=shutil.ignore_patterns("audit")))
    for source in (data, moved):
        score_dataset(source, scorer, out)
        with pytest.raises(AuditError, match="data split was 'train' and is 'test'"):
            score_dataset(source, scorer, out, split="test")
    (moved / "train.jsonl").write_text(json.dumps(row | {"chosen": "Hi."}) + "\n")
    with pytest.raises(AuditError, match="data sha256 was"):
        score_dataset(moved, scorer, out)
    (data / "test.jsonl").rename(data / "validation.jsonl")
    with pytest.raises(AuditError, match="data sha256 was"):
        score_dataset(data, scorer, out)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (7, r"00001\.parquet is of 4 rows, of which there are 3 now"),
        (4, r"they have no rows of 00001\.parquet any more"),
    ],
)
def test_shards_of_other_rows_than_the_data_hold_are_told(rows, said, scorer, tmp_path, monkeypatch):
    """Of a hub id there is no digest."""
    record = {"prompt": "Hi", "chosen": "Hello.", "rejected": "No."}
    monkeypatch.setattr(readers, "_read_dataset", lambda source, split, streaming: iter([record] * count))
    count, out = 8, tmp_path / "out"
    score_dataset("some/data", scorer, out, rows_per_shard=4)
    score_dataset("some/data", scorer, out, rows_per_shard=4)
    before = _stamps(out)
    count = rows
    with pytest.raises(AuditError, match=f"the data have changed since .*: {said}. Choose another folder"):
        score_dataset("some/data", scorer, out, rows_per_shard=4)
    assert _stamps(out) == before


def test_a_folder_that_holds_something_else_is_left_as_it_is(pairs_file, scorer, tmp_path):
    for name in ("thesis.txt", ".thesis.txt.partial"):
        (tmp_path / name).write_text("long")
        os.utime(tmp_path / name, (0, 0))
    with pytest.raises(AuditError, match=r"holds thesis\.txt"):
        score_dataset(pairs_file, scorer, tmp_path)
    assert {one.name for one in tmp_path.iterdir()} == {"thesis.txt", ".thesis.txt.partial"}


def test_a_bad_row_is_left_out_or_stops(scorer, tmp_path):
    rows = [{"prompt": "Hi", "chosen": "Hello.", "rejected": "No."} for _ in range(9)]
    rows[3]["chosen"] = rows[6]["rejected"] = "x" * 3000
    data = tmp_path / "pairs.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(EncodingError, match="of pair 4: the first sentence"):
        score_dataset(data, scorer, tmp_path / "strict", strict=True)
    folder = AuditFolder.open(score_dataset(data, scorer, tmp_path / "out", rows_per_shard=5))
    assert folder.column("row").tolist() == [1, 2, 3, 5, 6, 8, 9]
    assert [problem.row for problem in folder.problems()] == [4, 7]
    folder.close()

    data.write_text(json.dumps(rows[0]) + '\n{"prompt": "Hi"}\n')
    with pytest.raises(PreferenceDataError, match="row 2"):
        score_dataset(data, scorer, tmp_path / "stricter", strict=True)
    data.write_text(json.dumps(rows[3]))
    empty = AuditFolder.open(score_dataset(data, scorer, tmp_path / "empty"))
    assert (empty.count(), empty.page(), empty.ids(), len(empty.problems())) == (0, [], [], 1)
    empty.close()
    for content in ("", '{"question": "x"}'):
        data.write_text(content)
        with pytest.raises(PreferenceDataError):
            score_dataset(data, scorer, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_pretokenised_pairs_hold_what_their_ids_say(scorer, tmp_path):
    ids = scorer.encoder.tokenizer("user: Boil it. Peel it. No.")["input_ids"]
    data = tmp_path / "ids.jsonl"
    data.write_text(json.dumps({"chosen_ids": ids[:-1], "rejected_ids": [*ids[:4], *ids[6:]]}))
    folder = AuditFolder.open(score_dataset(data, scorer, tmp_path / "out"))
    (one,) = folder.ids()
    (expected,) = scorer.score(load_preferences(data).pairs)
    assert folder.pair(one).to_dict() == expected.to_dict()
    assert folder.texts(one).chosen == expected.a.text
    folder.close()


def test_a_full_disk_is_told_and_leaves_nothing_half_written(pairs_file, scorer, tmp_path, monkeypatch):
    out = tmp_path / "out"
    (out / "shards").mkdir(parents=True)
    monkeypatch.setattr(shards, "token_hex", lambda _: "x")
    (out / "shards" / ".00001.parquet.x.partial").symlink_to("/dev/full")  # where every write says: no space left
    with pytest.raises(AuditError, match=r"cannot write .*00001\.parquet: .*No space left.*What stands is whole"):
        score_dataset(pairs_file, scorer, out, rows_per_shard=SHARD)
    assert [one.name for one in (out / "shards").iterdir()] == ["00000.parquet"]
    score_dataset(pairs_file, scorer, out, rows_per_shard=SHARD)
    assert AuditFolder.open(out).count() == 120


def test_a_damaged_shard_is_named_when_the_pairs_are_put_together(whole, pairs_file, scorer, tmp_path):
    out = tmp_path / "out"
    score_dataset(pairs_file, scorer, out, rows_per_shard=SHARD)
    (out / "pairs.parquet").write_bytes(b"nothing")
    (out / "shards" / "00002.parquet").write_bytes(b"nothing")
    with pytest.raises(AuditError, match=r"00002\.parquet"):
        score_dataset(pairs_file, scorer, out, rows_per_shard=SHARD)
    (out / "shards" / "00002.parquet").unlink()
    score_dataset(pairs_file, scorer, out, rows_per_shard=SHARD)
    _same(out, whole)


def test_audit_command(model_dir, pairs_file, scorer, tmp_path, capsys):
    data, out = tmp_path / "pairs.jsonl", tmp_path / "audit"
    lines = pairs_file.read_text().splitlines()[:10]
    data.write_text("\n".join([*lines, '{"prompt": "Hi"}', lines[0].replace("prompt", "q")]))
    command = ["audit", str(data), "--model", str(model_dir), "--output", str(out)]
    assert cli.main(command) == 0
    said = capsys.readouterr().err
    assert "row 11 left out: has no 'chosen'" in said
    assert f"10 pairs scored, 2 left out; 0 did not fit whole: {out}" in said
    folder = AuditFolder.open(out)
    expected = scorer.score(load_preferences(data).pairs)
    assert [folder.pair(one).to_dict() for one in folder.ids()] == [pair.to_dict() for pair in expected]
    folder.close()

    assert cli.main([*command, "--segmenter", "rules:de"]) == 2
    assert "segmenter spec was 'rules:en' and is 'rules:de'" in capsys.readouterr().err
    assert cli.main([*command, "--prompt-column", "q"]) == 2
    assert "Choose another folder" in capsys.readouterr().err
    assert cli.main([*command[:-1], str(tmp_path / "strict"), "--strict"]) == 2
    assert "row 11" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["audit", "--help"])
    assert "example: sentrm audit pairs.jsonl" in capsys.readouterr().out
