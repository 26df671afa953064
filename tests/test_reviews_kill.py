"""A process that writes verdicts is killed at random moments, 220 times over one file.

The children are forked from a small server (this file run as a script) that imports the review log and nothing else of
sentrm; each says a line once a call has returned, and the parent kills it a random while after it has begun.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

ROOT = Path(__file__).parents[1]
MANY = 500  # pairs of one vote_all


def serve() -> None:
    """Fork a child for each line of stdin, which says its pid, and say END once it is gone."""
    package = types.ModuleType("sentrm")  # without its __init__, which imports transformers
    package.__path__ = [str(ROOT / "sentrm")]
    sys.modules["sentrm"] = package
    from sentrm.reviews import log as module

    assert not {"torch", "transformers", "numpy"} & set(sys.modules)
    say("ready")
    for line in sys.stdin:
        work, path, number = line.split()
        pid = os.fork()
        if not pid:
            say(f"pid {os.getpid()}")
            globals()[work](module.ReviewLog.open(path, timeout_s=60), number)
            os._exit(0)
        os.waitpid(pid, 0)
        say("END")


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())  # one write: whole lines or none


def vote(log, number: str) -> None:
    say("begun")
    for i in range(10_000):
        say(f"done {log.vote(f'{number}-{i}', 'ann', 'agree', comment=str(i)).id}")


def vote_all(log, number: str) -> None:
    pair_ids = [f"{i}-{number}" for i in range(MANY)]
    say("begun")
    for _ in range(3):  # no more, so that the file stays small
        say(f"done {log.vote_all(pair_ids, 'bob', 'flip')}")
    time.sleep(60)


def back_and_forth(log, number: str) -> None:
    log.vote_all([f"{i}-{number}" for i in range(10)], "eve", "tie")
    say("begun")
    while True:
        log.undo("eve")
        say("done undo")
        log.redo("eve")
        say("done redo")


def two_on_one_pair(log, number: str) -> None:
    for verdict in ("agree", "flip") * 20:
        say(f"done {log.vote('the pair', f'annotator {number}', verdict).id}")


class Server:
    def __init__(self) -> None:
        command = [sys.executable, "-I", __file__]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert self.line() == "ready"

    def line(self) -> str:
        return self.process.stdout.readline().rstrip("\n")

    def start(self, work: str, path: Path, number: object) -> int:
        self.process.stdin.write(f"{work} {path} {number}\n")
        return int(self.lines_until("pid")[-1].split()[1])

    def lines_until(self, word: str) -> list[str]:
        lines = [self.line()]
        while not lines[-1].startswith(word):
            assert lines[-1], "the server ended"
            lines.append(self.line())
        return lines

    def killed(self, work: str, path: Path, number: object, after_s: float) -> list[str]:
        """What the child acknowledged before it was killed."""
        pid = self.start(work, path, number)
        self.lines_until("begun")
        time.sleep(after_s)
        os.kill(pid, signal.SIGKILL)
        return [line.split()[1] for line in self.lines_until("END") if line.startswith("done")]

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def test_every_acknowledged_verdict_is_there_after_220_kills(tmp_path):
    from sentrm.reviews.log import ReviewLog

    path, draw = tmp_path / "log", random.Random(0)
    acknowledged: list[int] = []
    actions = 0
    with Server() as server:
        for kill in range(220):
            work = ("vote", "vote", "vote_all", "vote", "back_and_forth")[kill % 5]
            said = server.killed(work, path, kill, after_s=draw.uniform(0, 0.02))
            actions += len(said) + (work == "back_and_forth")
            with ReviewLog.open(path) as log:  # opening checks every page
                if work == "vote":
                    acknowledged += map(int, said)
                    assert [log.current(f"{kill}-{i}")[0].id for i in range(len(said))] == list(map(int, said))
                elif work == "vote_all":
                    assert len(log.current(annotator="bob")) % MANY == 0
                else:
                    standing = [one for one in log.current(annotator="eve") if one.pair_id.endswith(f"-{kill}")]
                    assert len(standing) == (0 if log.can_redo("eve") else 10)
    with ReviewLog.open(path) as log:
        events = list(log.events())
    singles = [(number, event) for number, event in enumerate(events, start=1) if len(event.get("pairs", [])) == 1]
    assert acknowledged == sorted(acknowledged)
    assert set(acknowledged) <= {number for number, _ in singles}
    assert all(event["pairs"][0].split("-")[1] == event["comment"] for _, event in singles)
    assert {len(event["pairs"]) for event in events if event["kind"] == "vote"} <= {1, 10, MANY}
    # Nothing is there twice: beyond what was acknowledged each kill left one action at most.
    assert actions <= len(events) <= actions + 220


def test_two_processes_vote_on_one_pair_at_once(tmp_path):
    from sentrm.reviews.log import ReviewLog

    path = tmp_path / "log"
    with Server() as one, Server() as other:  # both create the file, perhaps at once
        one.start("two_on_one_pair", path, 1)
        other.start("two_on_one_pair", path, 2)
        ids = [[line for line in server.lines_until("END") if line.startswith("done")] for server in (one, other)]
    with ReviewLog.open(path) as log:
        assert [(vote.annotator, vote.verdict) for vote in log.current()] == [
            ("annotator 1", "flip"),
            ("annotator 2", "flip"),
        ]
        assert len(list(log.events())) == 80
    assert len({*ids[0], *ids[1]}) == 80


if __name__ == "__main__":
    serve()
