"""Two audits beside each other: two models on the same data, or two versions of the data.

Pairs are matched by their texts, so one whose label was flipped between two versions is matched too. A pair changed
sides where the model of one audit agrees with the label that it has there, and that of the other does not.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute
import pyarrow.parquet

from ..audit.folder import AuditFolder, texts_of
from ..errors import AuditError
from ..words import counted, plain, signed, visible
from .dataset_tables import Cell, Summary, estimate, name_of, slice_words, table

MOST_IDS = 400  # in an address


def compare_value(names: tuple[str, str], summaries: tuple[Summary, Summary], changed: Changed) -> dict[str, Any]:
    """What `Panel` shows of two audits: the figures of both, with differences, and what changed sides."""
    one, other = summaries
    rows: list[list[Cell]] = [["pairs", f"{one['pairs']:,}", f"{other['pairs']:,}", ""]]
    agreement = [found["agreement"] for found in summaries]
    rows.append(["agreement with labels", *map(estimate, agreement), _points(*(found["value"] for found in agreement))])
    calibrated = [found["length"]["calibrated"] for found in summaries]
    rows.append(
        ["agreement, length calibrated", *map(estimate, calibrated), _points(*(found["value"] for found in calibrated))]
    )
    for name, key in (("calibration error (ECE)", "ece"), ("the same, temperature fitted", "ece_fitted")):
        values = [found["calibration"][key] for found in summaries]
        rows.append([name, *("–" if value is None else plain(value, 3) for value in values), _difference(*values)])
    counts = [
        ("suspects", [found["suspects"]["suspects"] for found in summaries]),
        ("contradictions", [found["duplicates"]["contradicts"] for found in summaries]),
        ("left out", [found["left_out"] for found in summaries]),
    ]
    rows += [[name, f"{a:,}", f"{b:,}", _count(b - a)] for name, (a, b) in counts]
    for column, slices in one["slices"].items():
        theirs = {found["slice"]: found for found in other["slices"].get(column, [])}
        for found in slices:
            if match := theirs.get(found["slice"]):
                name = f"{name_of(column).partition(' (')[0]}: {visible(slice_words(found))}"
                rows.append([name, estimate(found), estimate(match), _points(found["value"], match["value"])])
    headers = ["figure", *(visible(name) for name in names), "difference"]
    value: dict[str, Any] = {
        "table": table("Both audits", headers, rows),
        "message": {"text": changed.words(names), "alert": False},
    }
    if changed.ids and len(changed.ids) <= MOST_IDS:
        narrow = [["pair_id", "in", list(changed.ids)]]
        value["figures"] = [{"name": "Pairs that changed sides", "text": f"{len(changed.ids):,}", "narrow": narrow}]
    return value


class Changed:
    """Pairs that are in both audits, and those of them that changed sides."""

    def __init__(self, both: int, gained: int, lost: int, ids: tuple[str, ...]) -> None:
        self.both = both
        self.gained = gained  # right in the second alone
        self.lost = lost  # right in the first alone
        self.ids = ids  # of both kinds, in the first audit's order

    def words(self, names: tuple[str, str]) -> str:
        if not self.both:
            return "The two audits have no pair in common."
        return (
            f"{counted(self.both, 'pair')} in both, matched by their texts; {self.gained + self.lost:,} changed sides: "
            f"{self.gained:,} right in {visible(names[1])} alone, {self.lost:,} right in {visible(names[0])} alone."
        )


def changed_sides(one: AuditFolder, other: AuditFolder) -> Changed:
    """Raises AuditError for a list of pairs that cannot be read."""
    files = [folder.path / "pairs.parquet" for folder in (one, other)]
    try:
        return _changed(*((file, file.stat().st_mtime_ns) for file in files))
    except (pyarrow.ArrowException, OSError) as error:
        raise AuditError(f"the two audits could not be compared: {error}. Are both folders whole?") from error


@lru_cache(maxsize=8)
def _changed(one: tuple[Path, int], other: tuple[Path, int]) -> Changed:
    """Of two lists of pairs, each with the time it was written."""
    ours, theirs = (pyarrow.parquet.read_table(file, columns=["pair_id", "agrees"]) for file, _ in (one, other))
    ours = _by_texts(ours).append_column("at", pyarrow.array(range(len(ours))))
    theirs = _by_texts(theirs).select(["texts", "agrees"]).rename_columns(["texts", "agrees_there"])
    both = ours.join(theirs, "texts", join_type="inner").sort_by("at")
    here, there = both["agrees"], both["agrees_there"]
    gained = pyarrow.compute.fill_null(pyarrow.compute.and_not(there, here), False)
    lost = pyarrow.compute.fill_null(pyarrow.compute.and_not(here, there), False)
    changed = both.filter(pyarrow.compute.or_(gained, lost))["pair_id"]
    ids = tuple(changed.to_pylist()) if len(changed) <= MOST_IDS else ()
    right, wrong = (int(pyarrow.compute.sum(one).as_py() or 0) for one in (gained, lost))
    return Changed(len(both), right, wrong, ids)


def _by_texts(pairs: pyarrow.Table) -> pyarrow.Table:
    """With the ids less the letter of the label."""
    texts = [texts_of(id) + id[17:] for id in pairs["pair_id"].to_pylist()]
    return pairs.append_column("texts", pyarrow.array(texts, pyarrow.string()))


def _points(one: float | None, other: float | None) -> str:
    """A difference of shares in percentage points."""
    return "–" if one is None or other is None else f"{signed(100 * (other - one), 1)} points"


def _difference(one: float | None, other: float | None) -> str:
    return "–" if one is None or other is None else signed(other - one, 3)


def _count(difference: int) -> str:
    return signed(difference, 0) if difference else "0"
