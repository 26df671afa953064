"""How soon wrong labels are found: python -m training.label_noise --model … --recipe … --data … --output …

A share of the labels of human preferences is flipped at random, and every way to rank suspects is asked to find them:

- margin: a model's own margin (--model), which never saw the flipped labels.
- out_of_fold: of models trained on the flipped data, each without the pair (`training.out_of_fold`).
- votes: the share of all of these models that prefer the rejected response.
- length: the longer the rejected response is beside the chosen one, the more suspicious; and random.

The labels that were not flipped count as right, which some are not: no ranking can reach an AUROC of 1. Figures are of
the pairs whose prompts the hash holds out of training, and of all pairs; there without the model's own margin, unless
it was trained on none of them (--unseen). Intervals are 95%, of a bootstrap over prompts.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from sentrm.audit.suspects import votes
from sentrm.errors import SentrmError
from sentrm.metrics import group_counts, grouped
from sentrm.preferences import PreferencePair
from sentrm.scoring import Scorer

from .config import parse
from .data import is_held_out
from .evaluate import commit, write
from .measures import Estimate, estimate
from .out_of_fold import out_of_fold, read_pairs, score_margins
from .report import versions

DRAWS = 1000
SHARES = (0.1, 0.2, 0.5)  # of the pairs, the most suspicious, beside as many as were flipped


def flipped(count: int, share: float, seed: int) -> np.ndarray:
    """(count,) bool: which labels are turned around; `share` of them, rounded."""
    chosen = random.Random(f"{seed} flip {share}").sample(range(count), round(share * count))
    mask = np.zeros(count, dtype=bool)
    mask[chosen] = True
    return mask


def turned(pair: PreferencePair) -> PreferencePair:
    return replace(pair, chosen=pair.rejected, rejected=pair.chosen)


def figures(suspicion: np.ndarray, wrong: np.ndarray, prompts: Sequence[str]) -> dict[str, Any]:
    """AUROC of the suspicion for wrong labels and precision among the k most suspicious.

    Args:
        suspicion, wrong, prompts: (P,) of each pair.
    """
    names, group = grouped(prompts)
    counts = group_counts(len(names), DRAWS, 0)  # (draws, G)
    sampled = counts[:, group]  # (draws, P)
    both = [(wrong * row).any() and (~wrong * row).any() for row in sampled]
    areas = [
        roc_auc_score(wrong, suspicion, sample_weight=row) if ok else np.nan
        for row, ok in zip(sampled, both, strict=True)
    ]
    order = np.argsort(-suspicion, kind="stable")
    found: dict[str, Any] = {
        "pairs": len(wrong),
        "wrong": int(wrong.sum()),
        "auroc": estimate(float(roc_auc_score(wrong, suspicion)), np.array(areas), len(names)),
    }
    for name, share in {"as many as wrong": wrong.mean(), **{f"first {s:.0%}": s for s in SHARES}}.items():
        k = max(1, round(float(share) * len(wrong)))
        found[f"precision, {name}"] = _precision(wrong[order], sampled[:, order], k, len(names))
    return found


def _precision(wrong: np.ndarray, sampled: np.ndarray, k: int, groups: int) -> Estimate:
    """Share of wrong labels among the first k; in each bootstrap sample among as large a share of its rows."""
    before = np.cumsum(sampled, axis=1) - sampled  # (draws, P) rows ahead of each
    room = k / len(wrong) * sampled.sum(1, keepdims=True)  # (draws, 1)
    taken = np.clip(room - before, 0, sampled)
    samples = (taken * wrong).sum(1) / taken.sum(1)
    return estimate(float(wrong[:k].mean()), samples, groups)


def study(args: argparse.Namespace, flags: Sequence[str]) -> dict[str, Any]:
    """All rankings at all shares of flipped labels. Raises SentrmError as training does."""
    config = parse([*flags, "--output", args.output])
    pairs = read_pairs(config)
    clean = score_margins(Scorer.from_pretrained(args.model, dtype=args.dtype), pairs)
    kept = [i for i, margin in enumerate(clean) if margin is not None]
    pairs, margins = [pairs[i] for i in kept], np.array([clean[i] for i in kept], dtype=float)
    longer = np.array([len(pair.chosen) - len(pair.rejected) for pair in pairs])
    held_out = np.array([is_held_out(pair.split_key) for pair in pairs])
    chance = np.random.default_rng(args.seed).random(len(pairs))
    results: dict[str, Any] = {}
    for share in args.flip:
        wrong = flipped(len(pairs), share, args.seed)
        noisy = [turned(pair) if turn else pair for pair, turn in zip(pairs, wrong, strict=True)]
        sign = np.where(wrong, -1, 1)
        folds = []
        for seed in args.seeds:
            own = [*flags, "--seed", str(seed)]
            found = out_of_fold(noisy, args.folds, own, Path(args.output) / f"{share:g}-{seed}", args.dtype)
            folds.append(np.nan_to_num(np.array(found, dtype=float)))  # 0 where a pair does not fit the model
        ranked = {
            "margin": -margins * sign,
            "out_of_fold": -folds[0],
            "votes": votes(np.stack([margins * sign, *folds])),
            "length": -longer * sign.astype(float),
            "random": chance,
        }
        for part, inside in {"held out": held_out, "all": np.ones(len(pairs), dtype=bool)}.items():
            shown = [name for name in ranked if part == "held out" or args.unseen or name not in ("margin", "votes")]
            prompts = [pair.split_key for pair, here in zip(pairs, inside, strict=True) if here]
            results[f"{share:.0%}, {part}"] = {
                "agreement": float(np.mean((folds[0] * sign)[inside] > 0)),  # out of fold, with labels as they were
                **{name: figures(ranked[name][inside], wrong[inside], prompts) for name in shown},
            }
    return results


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    own = argparse.ArgumentParser(
        prog="python -m training.label_noise",
        description=__doc__,
        epilog="all other flags are those of training.train, for the models of the folds",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = own.add_argument
    add("--model", required=True, help="folder or hub id of the model whose margins are audited")
    add("--flip", nargs="+", type=float, default=[0.1, 0.2], help="shares of the labels to turn around (%(default)s)")
    add("--folds", type=int, default=5, help="models trained for each share and seed (%(default)s)")
    add("--seeds", nargs="+", type=int, default=[1, 2], help="of the models of the folds; out_of_fold is the first's")
    add("--seed", type=int, default=0, help="of the labels that are turned (%(default)s)")
    add("--unseen", action="store_true", help="--model was trained on none of the pairs")
    add("--dtype", default="auto", help="of scoring (%(default)s)")
    add("--output", required=True, help="folder for the folds")
    add("--json", help="file for the result")
    args, flags = own.parse_known_args(arguments)
    try:
        result: dict[str, Any] = {
            "command": "python -m training.label_noise " + shlex.join(arguments),
            "commit": commit(),
            "versions": versions(),
            "results": study(args, flags),
        }
    except SentrmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.json:
        write(json.dumps(result, indent=1) + "\n", Path(args.json))
    for name, part in result["results"].items():
        print(f"\n{name}: {part['random']['wrong']} of {part['random']['pairs']} labels turned")
        print(f"{'ranking':14s}{'AUROC':>8s}{'95% interval':>18s}{'precision among as many as wrong':>36s}")
        for ranking, one in part.items():
            if ranking == "agreement":
                continue
            area, precision = one["auroc"], one["precision, as many as wrong"]
            ends = "" if area["low"] is None else f"{area['low']:.3f} to {area['high']:.3f}"
            print(f"{ranking:14s}{area['value']:8.3f}{ends:>18s}{precision['value']:36.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
