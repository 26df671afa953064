"""What the audit of a scored dataset says: `summary.json`, and the columns it adds to `pairs.parquet`.

    suspicion                   that the label is wrong, by the best that was given: votes, out-of-fold, or the margin
    suspect                     whether confident learning takes it for wrong, or the pair says nothing
    out_of_fold                 margin of a model trained without the pair, if given
    models, against             models that were asked, and those of them that speak against the label
    duplicate_of, near_duplicate_of     pair_id of the first that is the same, or nearly; "" if there is none
    contradicts, identical, empty       the same pair has the other label; both responses are the same; one is empty
    language                    told by the texts, where the data do not say
    style_<name>                which response has the feature: "chosen", "rejected", "both" or ""

Numbers on agreement leave out pairs whose label is a tie, and turn those around whose label prefers `rejected`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from ..errors import AuditError
from . import measures
from .duplicates import contradicting, exact, near
from .features import COLUMNS, Features, read_features
from .folder import AuditFolder, texts_of
from .shards import written_whole
from .suspects import confident, label_sign, suspicion, votes

NEAR_LIMIT = 300_000  # pairs; near duplicates of more would take more memory than the rest
READ = (
    *("pair_id", "prompt_id", "margin", "label_probability", "chosen_score", "rejected_score"),
    *("chosen_length", "rejected_length", "truncated"),
)
SLICED = ("source", "turns", "sentences")  # beside length difference, language and what begins with meta_
MOST_SLICES = 12  # columns beside the length difference, of those that have more than one slice


def summarise(
    path: str | Path, *, out_of_fold: str | Path | None = None, voters: Sequence[str | Path] = ()
) -> dict[str, Any]:
    """Write summary.json and the added columns of an audit folder; again, if they stand. Opens no model.

    Args:
        out_of_fold: file of `python -m training.out_of_fold`.
        voters: audit folders of the same data, scored by other models.

    Returns:
        What summary.json holds.

    Raises:
        AuditError: for a folder that is none or cannot be written, and a file or voter that does not fit it.
    """
    with closing(AuditFolder.open(path)) as folder:
        table = folder.table([*READ, *(name for name in folder.columns if _is_sliced(name))])
        if not len(table["pair_id"]):
            raise AuditError(f"{path} holds no pair: every record was left out. See its problems.")
        if (table["label_probability"] == 0.5).all():
            raise AuditError(f"{path}: every label is a tie, so there is none to agree with. The list of pairs stands.")
        features = read_features(_batches(folder), keep_texts=len(table["pair_id"]) <= NEAR_LIMIT)
        added = _duplicates(table, features) | {"language": features.language}
        added |= {f"style_{name}": _sides(has) for name, has in features.style.items()}
        asked = [table["margin"], *(_margins_of(table, voter) for voter in voters)]
        folds = None if out_of_fold is None else _out_of_fold(table, features, Path(out_of_fold))
        if folds is not None and voters:
            asked.append(folds)
        suspects, columns = _suspects(table, added, asked, folds)
        summary = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            **{name: folder.about[name] for name in ("data", "model", "segmenter")},
            "pairs": len(table["margin"]),
            "left_out": len(folder.problems()),
            "truncated": int(np.sum(table["truncated"])),
            **_measured(table, features),
            "suspects": suspects,
            "duplicates": _counts(added, bool(features.texts)),
        }
        _add_columns(folder.path, added | columns)
    with written_whole(folder.path / "summary.json") as aside:
        aside.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return summary


def read_summary(path: str | Path) -> dict[str, Any]:
    """summary.json of an audit folder. Raises AuditError if there is none, or it is damaged."""
    file = Path(path) / "summary.json"
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AuditError(
            f"cannot read {file}: {error}. Start the same sentrm audit again: nothing is scored twice."
        ) from error
    if not isinstance(summary, dict) or not {"pairs", "agreement", "suspects"} <= set(summary):
        raise AuditError(f"{file} is no summary of an audit. Start the same sentrm audit again.")
    return summary


def _is_sliced(name: str) -> bool:
    return name in SLICED or name.startswith("meta_")


def _batches(folder: AuditFolder) -> Iterator[pyarrow.RecordBatch]:
    for shard in folder.shards:
        with pyarrow.parquet.ParquetFile(shard) as file:
            yield from file.iter_batches(columns=list(COLUMNS))


def _labels(table: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(P,) whether the label is no tie, and (P,) which sign of chosen - rejected agrees with it."""
    return table["label_probability"] != 0.5, label_sign(table["label_probability"])


def _texts(table: Mapping[str, np.ndarray]) -> list[str]:
    """What names the texts of each pair, whatever its label."""
    return [texts_of(id) for id in table["pair_id"]]


def _measured(table: Mapping[str, np.ndarray], features: Features) -> dict[str, Any]:
    decided, signs = _labels(table)
    sign = signs[decided]
    margins = table["margin"][decided] * sign
    group = np.unique(table["prompt_id"][decided].astype(str), return_inverse=True)[1]

    def better_first(chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
        both = np.stack((chosen[decided], rejected[decided]), axis=1)
        return np.where(sign[:, None] > 0, both, both[:, ::-1])  # (D, 2)

    scores = better_first(table["chosen_score"], table["rejected_score"])
    lengths = better_first(table["chosen_length"], table["rejected_length"])
    slices = {"label_length_difference": measures.by_number(lengths[:, 0] - lengths[:, 1], margins, group)}
    sliced = {"language": features.language, **{name: table[name] for name in table if _is_sliced(name)}}
    for name, values in sliced.items():
        if len(slices) > MOST_SLICES:
            break
        values = values[decided]
        if values.dtype == object:
            rows = measures.by_value(np.where(values == None, "", values), margins, group)  # noqa: E711  (of an array)
        else:
            rows = measures.by_number(values.astype(float), margins, group)
        if len(rows) > 1:
            slices[name] = rows
    return {
        "ties": int(np.sum(~decided)),
        "prompts": len(set(table["prompt_id"].tolist())),
        "agreement": measures.agreement(margins, group),
        "margins": measures.distribution(margins),
        "calibration": measures.calibration(margins),
        "slices": slices,
        "length": measures.length(scores, lengths, margins, group),
        "positions": features.positions,
        "style": {
            name: measures.style(better_first(has[:, 0], has[:, 1]), scores, group)
            for name, has in features.style.items()
        },
    }


def _duplicates(table: Mapping[str, np.ndarray], features: Features) -> dict[str, np.ndarray]:
    ids = table["pair_id"]
    first = exact(_texts(table))
    own = np.arange(len(ids))
    alike = near(features.texts) if features.texts else own
    prefers_first = features.first == (table["label_probability"] > 0.5)  # whether the text that sorts first is better
    return {
        "duplicate_of": np.where(first == own, "", ids[first]),
        "near_duplicate_of": np.where((alike == own) | (first[alike] == first), "", ids[alike]),
        "contradicts": contradicting(first, prefers_first, table["label_probability"] != 0.5) & ~features.identical,
        "identical": features.identical,
        "empty": features.empty,
    }


def _counts(added: Mapping[str, np.ndarray], near_asked: bool) -> dict[str, int | None]:
    found: dict[str, int | None] = {name: int(added[name].sum()) for name in ("contradicts", "identical", "empty")}
    found["exact"] = int((added["duplicate_of"] != "").sum())
    found["near"] = int((added["near_duplicate_of"] != "").sum()) if near_asked else None
    return found


def _suspects(
    table: Mapping[str, np.ndarray],
    added: Mapping[str, np.ndarray],
    asked: Sequence[np.ndarray],
    folds: np.ndarray | None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What the summary says of suspects, and the columns. Margins in `asked` are (P,) each, NaN where not known; those
    of the audit come first and are all known. A pair without an out-of-fold margin is judged by its own; each kind has
    its own temperature."""
    decided, sign = _labels(table)
    by = "votes" if len(asked) > 1 else "margin" if folds is None else "out_of_fold"
    wrong, temperature = _wrong(table["margin"] * sign, decided)
    if folds is not None:
        other, temperature = _wrong(folds * sign, decided)
        wrong = np.where(np.isnan(other), wrong, other)
    all_asked = np.stack(asked) * sign  # (M, P)
    against = (all_asked < 0).sum(0)
    models = (~np.isnan(all_asked)).sum(0)
    suspect = np.zeros(len(wrong), dtype=bool)
    suspect[decided] = confident(wrong[decided])
    if by == "votes":
        wrong = votes(all_asked)
        suspect = decided & (2 * against > models)
    estimated = int(suspect.sum())
    nothing = added["identical"] | added["empty"]
    wrong = np.where(nothing, 1.0, np.where(decided, wrong, 0.0))
    columns = {
        "suspicion": wrong,
        "suspect": suspect | nothing,
        "models": models.astype(np.int32),
        "against": against.astype(np.int32),
    }
    if folds is not None:
        columns["out_of_fold"] = folds
    said = {"by": by, "suspects": int((suspect | nothing).sum()), "labels": estimated, "temperature": temperature}
    return said, columns


def _wrong(margins: np.ndarray, decided: np.ndarray) -> tuple[np.ndarray, float | None]:
    """(P,) probability that a label is wrong, NaN where there is no margin; and the temperature, fitted on the rest."""
    temperature = measures.fitted_temperature(margins[decided & ~np.isnan(margins)])
    return suspicion(margins, temperature), temperature


def _margins_of(table: Mapping[str, np.ndarray], voter: str | Path) -> np.ndarray:
    """(P,) margins of another audit of the same pairs, NaN where it has none. Pairs of one id have the same label, not
    the same chosen one."""
    with closing(AuditFolder.open(voter)) as other:
        theirs = other.table(["pair_id", "margin", "label_probability"])
    margins = dict(zip(theirs["pair_id"].tolist(), (theirs["margin"] * _labels(theirs)[1]).tolist(), strict=True))
    found = np.array([margins.get(id, np.nan) for id in table["pair_id"]], dtype=float) * _labels(table)[1]
    if np.isnan(found).mean() > 0.5:
        raise AuditError(f"{voter} knows {np.sum(~np.isnan(found))} of {len(found)} pairs; expected the same data.")
    return found


def _out_of_fold(table: Mapping[str, np.ndarray], features: Features, file: Path) -> np.ndarray:
    """(P,) margins score(chosen) - score(rejected), NaN where the file has none. A line names a pair by its texts, so
    it says which response it takes for the chosen one."""
    margins: dict[tuple[str, bool], float] = {}
    try:
        for line in file.read_text(encoding="utf-8").splitlines():
            one = json.loads(line)
            margins[texts_of(one["pair_id"]), one["first"]] = float(one["margin"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise AuditError(
            f"cannot read {file}: {error!r:.200}. Expected lines of pair_id, first and margin, as "
            "python -m training.out_of_fold writes them."
        ) from error
    keys = zip(_texts(table), features.first.tolist(), strict=True)
    found = np.array([margins.get(key, np.nan) for key in keys], dtype=float)
    if np.isnan(found).all():
        raise AuditError(f"{file} knows none of the {len(found)} pairs; expected margins of the same data.")
    return found


def _sides(has: np.ndarray) -> np.ndarray:
    """(P,) which of chosen and rejected, (P, 2)."""
    return np.array(["", "rejected", "chosen", "both"], dtype=object)[2 * has[:, 0] + has[:, 1]]


def _add_columns(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write pairs.parquet anew with these columns, in the place of those of the same name, and without those that an
    earlier summary alone has added."""
    file = path / "pairs.parquet"
    table = pyarrow.parquet.read_table(file)
    earlier = [name for name in table.column_names if name == "out_of_fold" or name.startswith("style_")]
    table = table.drop_columns([name for name in earlier if name not in columns])
    for name, values in columns.items():
        missing = np.isnan(values) if values.dtype.kind == "f" else None
        column = pyarrow.array(values, mask=missing)
        at = table.schema.get_field_index(name)
        table = table.append_column(name, column) if at < 0 else table.set_column(at, name, column)
    with written_whole(file) as aside:
        pyarrow.parquet.write_table(table, aside, compression="zstd")
