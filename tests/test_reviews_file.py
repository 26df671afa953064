"""A review log's file that is damaged, locked, of another kind, or on a disk that is full or read-only."""

from __future__ import annotations

import os
import random
import resource
import shutil
import sqlite3
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from sentrm.errors import ReviewError
from sentrm.reviews.log import ReviewLog


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    """The bytes of a log of 300 votes."""
    path = tmp_path_factory.mktemp("whole") / "log"
    with ReviewLog.open(path) as log:
        log.vote_all([f"p{i}" for i in range(200)], "ann", "agree")
        for i in range(100):
            log.vote(f"p{i}", "bob", "flip", comment="so it is " * 20)
    return path.read_bytes()


def read_all(path: Path) -> int:
    with ReviewLog.open(path) as log:
        log.counts(), log.current(), log.undo("bob")
        return len(list(log.events()))


@pytest.mark.parametrize("seed", range(40))
def test_damage_is_told_or_does_no_harm(whole, tmp_path, seed):
    """Random bytes at a random place: nothing but a ReviewError ever comes out, and the file stays as it was."""
    draw = random.Random(seed)
    damaged = bytearray(whole)
    size = draw.choice([1, 50, 4096, 9000])
    start = draw.randrange(len(whole) - size)
    damaged[start : start + size] = draw.randbytes(size)
    path = tmp_path / "log"
    path.write_bytes(damaged)
    try:
        said = read_all(path)
    except ReviewError as error:
        said = str(error)
    if isinstance(said, int):
        assert (said, size < 4096) == (102, True)
    else:
        assert str(path) in said
        assert any(word in said for word in ("damaged", "SQLite file", "version"))


@pytest.mark.parametrize("length", [1, 100, 4096, 20_000, -4096, -1])
def test_a_truncated_file_is_told(whole, tmp_path, length):
    path = tmp_path / "log"
    path.write_bytes(whole[:length])
    with pytest.raises(ReviewError, match="damaged"):
        read_all(path)
    assert path.read_bytes() == whole[:length]


def test_what_is_no_review_log_is_left_alone(whole, tmp_path):
    path = tmp_path / "log"
    for content, said in ((b"", "is empty"), (b"prompt,chosen,rejected\n" * 50, "no SQLite file")):
        path.write_bytes(content)
        with pytest.raises(ReviewError, match=said):
            ReviewLog.open(path)
        assert path.read_bytes() == content
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE events (number)")
    other.close()
    with pytest.raises(ReviewError, match="another application"):
        ReviewLog.open(path)
    path.write_bytes(whole)
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(ReviewError, match="version 99, expected 1"):
        ReviewLog.open(path)


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ReviewError, match="folder that exists"):
        ReviewLog.open(tmp_path / "none" / "log")
    with pytest.raises(ReviewError):
        ReviewLog.open(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_closed_log_says_so(tmp_path):
    log = ReviewLog.open(tmp_path / "log")
    log.close()
    log.close()
    with pytest.raises(ReviewError, match="was closed"):
        log.vote("p1", "ann", "agree")


def test_a_lock_is_waited_for_then_told(tmp_path):
    with ReviewLog.open(tmp_path / "log", timeout_s=0.2) as log:
        other = sqlite3.connect(tmp_path / "log", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ReviewError, match="another process"):
            log.vote("p1", "ann", "agree")
        assert log.current() == []  # reading waits for nobody
        other.execute("ROLLBACK")
        other.close()
        log.vote("p1", "ann", "agree")
        assert len(log.current()) == 1


def fill(log: ReviewLog) -> list[str]:
    """Vote until the disk takes no more; the pairs that were acknowledged."""
    acknowledged: list[str] = []

    def vote_on() -> None:
        while True:
            pair_id = f"p{len(acknowledged):05d}"
            log.vote(pair_id, "ann", "agree", comment="x" * 2000)
            acknowledged.append(pair_id)

    with pytest.raises(ReviewError, match="Nothing was written; make room"):
        vote_on()
    with pytest.raises(ReviewError, match="make room"):
        log.vote_all([f"q{i}" for i in range(50_000)], "ann", "flip")
    assert acknowledged
    assert [vote.pair_id for vote in log.current()] == acknowledged
    return acknowledged


def test_when_nothing_more_can_be_written_all_that_was_acknowledged_stays(tmp_path):
    """A limit of the operating system on the size of files stands for the full disk."""
    log = ReviewLog.open(tmp_path / "log")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        acknowledged = fill(log)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.vote("r", "ann", "agree")  # there is room again
    log.close()
    with ReviewLog.open(tmp_path / "log") as again:
        assert [vote.pair_id for vote in again.current()] == [*acknowledged, "r"]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte of its own, where the system lets us mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("mounting a disk needs root")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("this system mounts no disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_loses_nothing(small_disk):
    with ReviewLog.open(small_disk / "log") as log:
        acknowledged = fill(log)
    with ReviewLog.open(small_disk / "log") as again:
        assert [vote.pair_id for vote in again.current()] == acknowledged


def test_a_disk_without_room_for_a_new_log_is_left_clean(small_disk):
    ballast = small_disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(ReviewError, match="cannot use"):
        ReviewLog.open(small_disk / "log")
    assert list(small_disk.iterdir()) == [ballast]
    ballast.unlink()
    ReviewLog.open(small_disk / "log").close()


def test_a_read_only_disk_is_told(small_disk):
    with ReviewLog.open(small_disk / "log") as log:
        log.vote("p1", "ann", "agree")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for name in ("log", "new"):
        with (
            pytest.raises(ReviewError, match=r"cannot use .*(be written|Read-only)"),
            ReviewLog.open(small_disk / name) as log,
        ):
            log.vote("p2", "ann", "agree")
