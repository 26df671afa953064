"""Training speed: our RewardTrainer against TRL's, the same backbone, token rows, order and optimiser in one process.

    python -m benchmarks.training [--quick] [--data FOLDER]

The peer is `trl.RewardTrainer` on pre-tokenised rows. Ours is the same response-level model (one span, boundary
"offset", aggregator "last"), so both have one loss. A round trains both on the same rows, each with its own `train()`
from the weights of the round before; who goes first alternates. A step is timed from the end of the step before,
collation included; a first step, on the shortest pairs, is not timed. The ratio is the median over the rounds of the
ratio within a round. No dropout and no gradient checkpointing on either side; bf16 is autocast over fp32 weights.

Tokens are counted where they enter the backbone. The bound is what the tokens allow: those the peer computes, padding
included, over those that have to be computed, `P + R + R` a pair; it is `2(P+R) / (P+2R)` times the padding removed.
`saved_token_share` in the JSON is the lowest share of that bound that a ratio of the bundled backbone reaches. The
ratios are those of the strategy that `--batching auto` chooses, once a table; with --quick on batches of one pair.

Memory is measured apart, three steps in a fresh process a side, ours also with `auto` and its choosing: how far the
highest resident set (on CUDA: the allocated bytes) rises above that of the loaded model. The exit status is 1 if the
loss curves differ by more than 1e-3 in fp32.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import datasets
import torch
from torch import nn
from transformers.utils import logging

from sentrm.batching import STRATEGIES

from .trainers import Case, Round

ROOT = Path(__file__).parent.parent
SETS = {"hh": "hh_harmless_base_test.jsonl.gz", "finegrained": "finegrained_rlhf_dev.jsonl.gz"}
TOLERANCE = 1e-3  # between the loss curves, fp32


def compare(
    case: Case, choice: str, strategies: Sequence[str], rounds: int, memory: Callable[[str], str]
) -> tuple[float, float, float]:
    """Print one table.

    Args:
        case: what both sides start from.
        choice: the strategy that `auto` takes.
        strategies: those to time.
        rounds: the case's rows are dealt out to them.
        memory: peak of a side, for the table.

    Returns:
        The ratio of `choice`, its share of the bound, and the largest difference of any strategy's loss curve.
    """
    sides = ["trl", *strategies]
    done: dict[str, list[Round]] = {side: [] for side in sides}
    warm = sorted(case.rows, key=lambda row: len(row.chosen) + len(row.rejected))[: case.pairs]
    size = len(case.rows) // rounds
    for turn in range(rounds):
        rows = warm + case.rows[turn * size : (turn + 1) * size]
        for side in sides if turn % 2 == 0 else reversed(sides):  # who goes first alternates
            done[side].append(case.round(side, rows, done[side][-1].weights if turn else None))

    real = sum(len(row.chosen) + len(row.rejected) for row in case.rows)
    needed = real - sum(row.prompt for row in case.rows)  # two responses read one prompt
    theirs = done["trl"]
    ceiling, bound = real / needed, sum(one.computed for one in theirs) / needed
    print("         pairs/s  ratio  tokens/s  pair tokens/s  padding  shared  peak MB     loss  difference    MFU")
    ratios, worst = {}, 0.0
    for side, ours in done.items():
        seconds = sum(one.seconds for one in ours)
        computed, padding = sum(one.computed for one in ours), sum(one.padding for one in ours)
        ratios[side] = statistics.median(a.seconds / b.seconds for a, b in zip(theirs, ours, strict=True))
        curves = [[loss for one in curve for loss in one.losses] for curve in (theirs, ours)]
        difference = max(abs(a - b) for a, b in zip(*curves, strict=True))
        worst = max(worst, difference)
        peak = memory(side) if side in ("trl", choice) else "–"
        print(
            f"  {side:6s}{len(case.rows) / seconds:8.2f}{ratios[side]:7.2f}{computed / seconds:10.0f}"
            f"{real / seconds:15.0f}{padding / computed:9.1%}{1 - (computed - padding) / real:8.1%}{peak:>9s}"
            f"{statistics.mean(ours[-1].losses[1:]):9.4f}{difference:12.1e}"
            f"{utilisation(case, computed / seconds):>7s}"
        )
    share = ratios[choice] / bound
    print(f"  bound {bound:.2f} = {ceiling:.2f} sharing x {bound / ceiling:.2f} padding, {share:.0%} by {choice} of it")
    print(f"  auto chose {choice}; peak MB with its choosing {memory('auto')}")
    return ratios[choice], share, worst


# Dense peak in FLOP/s, (bf16; fp32 without TF32, PyTorch's default), of NVIDIA's data sheets for the SXM parts, halved
# where a sheet counts sparsity.
PEAK_FLOPS = {
    "H200": (989e12, 67e12),
    "H100": (989e12, 67e12),
    "A100": (312e12, 19.5e12),
    "L40S": (362e12, 91.6e12),
    "L4": (121e12, 30.3e12),
}


def utilisation(case: Case, tokens_per_second: float) -> str:
    """Model FLOPs utilisation: 6 FLOPs a token and parameter, of those that multiply; a table is only looked up."""
    if not torch.cuda.is_available():
        return "–"
    name = torch.cuda.get_device_name()
    peak = next((flops[case.dtype == "fp32"] for part, flops in PEAK_FLOPS.items() if part in name), None)
    tables = {id(one.weight) for one in case.backbone.modules() if isinstance(one, nn.Embedding)}
    parameters = sum(one.numel() for one in case.backbone.parameters() if id(one) not in tables)
    return "?" if peak is None else f"{6 * parameters * tokens_per_second / peak:.1%}"


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--quick", action="store_true", help="bundled backbone, fewer steps: under 50 s on two cores")
    flags.add_argument("--data", default=str(ROOT / "data" / "pairs"), help="folder of the pairs (%(default)s)")
    flags.add_argument("--pairs", type=int, help="pairs a step (8; with --quick 3)")
    flags.add_argument("--memory-of", nargs=4, metavar=("SIDE", "BACKBONE", "SET", "DTYPE"), help=argparse.SUPPRESS)
    args = flags.parse_args()
    if find_spec("trl") is None:
        sys.exit("this compares with TRL, which is not installed: pip install 'trl>=1.16'")
    files = {name: Path(args.data) / file for name, file in SETS.items()}
    if not all(file.exists() for file in files.values()):
        sys.exit(f"{args.data} does not hold {' and '.join(SETS.values())}; pass --data FOLDER with both.")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", "`gradient_checkpointing` is deprecated", FutureWarning)
    pairs = args.pairs or (3 if args.quick else 8)
    rounds, steps = (3, 1) if args.quick else (3, 3)
    if args.memory_of:
        side, backbone, name, dtype = args.memory_of
        print(Case(backbone, files[name], dtype, pairs, 3).peak_memory(side))
        return 0

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    print(f"trl {version('trl')}, transformers {version('transformers')}, torch {torch.__version__}, {device}")
    results = {}
    for backbone in ("bundled",) if args.quick else ("bundled", "llama"):
        for name, file in files.items():
            for dtype in ("fp32", "bf16"):

                def memory(side: str, of: tuple[str, ...] = (backbone, name, dtype)) -> str:
                    if args.quick:
                        return "–"
                    command = [sys.executable, "-m", "benchmarks.training", "--memory-of", side, *of]
                    command += ["--data", str(Path(args.data).resolve()), "--pairs", str(pairs)]
                    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
                    return f"{float(run.stdout):.0f}"

                print(f"\n{backbone}, {name}, {dtype}: {rounds} rounds of {steps} steps of {pairs} pairs")
                with tempfile.TemporaryDirectory() as folder:
                    chooser = Case(backbone, file, dtype, 1 if args.quick else pairs, 3)
                    trainer = chooser.trainer("auto", chooser.rows, folder)
                    trainer.train()
                choice = trainer.data_collator.strategy
                strategies = STRATEGIES if backbone == "bundled" and not args.quick else (choice,)
                case = Case(backbone, file, dtype, pairs, rounds * steps)
                results[backbone, name, dtype] = compare(case, choice, strategies, rounds, memory)

    worst = max(result[2] for (_, _, dtype), result in results.items() if dtype == "fp32")
    print(f"\nlargest difference of the loss curves in fp32: {worst:.1e} (at most {TOLERANCE:.0e})")
    bundled = {
        f"{name}_{dtype}": result for (backbone, name, dtype), result in results.items() if backbone == "bundled"
    }
    ratios = {case: round(ratio, 3) for case, (ratio, _, _) in bundled.items()}
    print(json.dumps({**ratios, "saved_token_share": round(min(share for _, share, _ in bundled.values()), 3)}))
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
