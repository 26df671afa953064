"""Where a benchmark's rows come from: its files, what each is called in the result, and what was left out of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sentrm.errors import PreferenceDataError
from sentrm.readers import READERS
from sentrm.words import counted

from .task import Options, records

REASONS = 5  # that are named for each file


def stem(file: str) -> str:
    """The name of a file without the endings that say its format; of a folder or hub id the whole name.

    >>> stem("hh/qwen2.5-a.jsonl.gz")
    'qwen2.5-a'
    """
    name = Path(file).name
    for endings in ((".gz",), READERS):
        name = next((name[: -len(one)] for one in endings if name.lower().endswith(one)), name)
    return name


def once(sources: Sequence[str]) -> None:
    """Raises PreferenceDataError for a source that is given twice."""
    for path, count in Counter(map(os.path.abspath, sources)).items():
        if count > 1:
            raise PreferenceDataError(f"{path} is given {count} times. Expected each file once.")


def subset_names(sources: Sequence[str]) -> dict[str, str]:
    """What each file, folder or hub id is called in the result: its `stem`, or where several have the same, as much of
    the path before it as tells it from the others; files that differ in their format alone keep their endings.

    >>> subset_names(["hh/test.jsonl", "kto/test.jsonl.gz", "eggs.csv"])
    {'hh/test.jsonl': 'hh/test', 'kto/test.jsonl.gz': 'kto/test', 'eggs.csv': 'eggs'}

    Raises:
        PreferenceDataError: for a source that is given twice, or is called "all" as all of them together are.
    """
    once(sources)
    parts = {source: Path(os.path.abspath(source)).parts[1:] for source in sources}

    def tail(source: str, depth: int, endings: bool) -> str:
        *folders, name = parts[source][-depth:]
        return "/".join([*folders, name if endings else stem(name)])

    names = {}
    for source in sources:
        for endings, depth in ((endings, d) for endings in (False, True) for d in range(1, len(parts[source]) + 1)):
            names[source] = tail(source, depth, endings)
            if all(tail(other, depth, endings) != names[source] for other in sources if other != source):
                break
        if names[source] == "all":
            raise PreferenceDataError(f"{source} is called 'all', as all files together are. Rename it.")
    return names


def by_reason(subset: str, unit: str, reasons: Iterable[tuple[int, str]]) -> list[str]:
    """How many rows of a subset were left out by reason, the commonest named.

    Args:
        unit: what is counted, "row" or "pair".
        reasons: (number of the row or pair from 1, why it was left out), in the order of the file.
    """
    found: dict[str, list[int]] = {}
    for number, reason in reasons:
        found.setdefault(reason, []).append(number)
    common = sorted(found, key=lambda reason: -len(found[reason]))
    problems = [
        f"{subset}: {counted(len(found[reason]), unit)} left out: {reason} (the first: {unit} {found[reason][0]})"
        for reason in common[:REASONS]
    ]
    if others := common[REASONS:]:
        count = sum(len(found[reason]) for reason in others)
        problems.append(
            f"{subset}: {counted(count, unit)} left out for {counted(len(others), 'other reason')}, one of them: "
            f"{others[0]} ({unit} {found[others[0]][0]})"
        )
    return problems


def with_files(options: Options, pattern: str) -> Options:
    """The options with each folder among the data replaced by the files in it, at any depth, that match `pattern`.

    Raises PreferenceDataError for a folder without such a file.
    """
    files: list[str] = []
    for path in map(Path, options.data):
        inside = sorted(map(str, path.rglob(pattern))) if path.is_dir() else [str(path)]
        if not inside:
            raise PreferenceDataError(f"the folder {path} holds no {pattern}. Pass the files as --data FILE …")
        files += inside
    return replace(options, data=tuple(files))


def located(options: Options, hub: str, splits: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of all files, or of these splits of the hub data set. Each has two fields more: `where`, as an error
    names it, and `file`, what the file, or its folder if that is called dataset.json, or the split says of its rows.

    Raises PreferenceDataError for a file that is given twice or cannot be read.
    """
    once(options.data)
    parts = [replace(options, data=(path,)) for path in options.data]
    parts = parts or [replace(options, split=split) for split in ([options.split] if options.split else splits)]
    for part in parts:
        file = Path(part.data[0] if part.data else f"{hub}/{part.split}")
        name = stem(part.data[0]) if part.data else file.name
        for number, row in enumerate(records(part, hub, splits[0]), start=1):
            yield row | {"where": f"{file}: row {number}", "file": file.parent.name if name == "dataset" else name}
