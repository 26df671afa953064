"""What reading every sentence costs: one scoring forward against the bare backbone, and against prefixes.

    python -m benchmarks.overhead [--quick] [--model FOLDER]

Peer 1 is the backbone alone on the same padded batches. Peer 2 gets the same values without boundaries: it scores
every prefix of a response (prompt alone, prompt and first sentence, …: N + 1 of them for N sentences) as a sequence of
its own, in batches of similar length, as one would with a response-level model. Both are timed in turn with ours, in
one process; the ratio is the median over the rounds of the ratio within a round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from sentrm.batching import buckets, pad
from sentrm.scoring import Scorer

ROOT = Path(__file__).parent.parent


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@torch.inference_mode()
def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--quick", action="store_true", help="fewer rounds: under 50 s on two cores")
    flags.add_argument("--model", default=str(ROOT / "assets" / "demo-model"), help="folder of the model (%(default)s)")
    args = flags.parse_args()
    forward_rounds, prefix_rounds = (15, 3) if args.quick else (60, 10)

    scorer = Scorer.from_pretrained(args.model)
    model = scorer.model
    lines = (ROOT / "assets" / "examples.jsonl").read_text(encoding="utf-8").splitlines()
    examples = [json.loads(line) for line in lines]
    items = [(one["prompt"], one[side]) for one in examples for side in ("a", "b")]
    spans = scorer.segmenter.spans([response for _, response in items])
    encoded = [scorer.encoder.encode(*item, spans=some) for item, some in zip(items, spans, strict=True)]
    sentences = statistics.mean(len(one.spans) for one in encoded)

    def batches(ids: list[list[int]], boundaries: list[list[int]]) -> list[dict[str, torch.Tensor]]:
        groups = buckets([len(one) for one in ids], scorer.batch_tokens)
        return [pad([ids[i] for i in group], [boundaries[i] for i in group]) for group in groups]

    ours = batches([one.ids for one in encoded], [one.boundaries for one in encoded])
    prefixes = [one.ids[: end + 1] for one in encoded for end in one.boundaries]
    naive = batches(prefixes, [[len(one) - 1] for one in prefixes])

    def backbone(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        positions = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
        return model.backbone(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            position_ids=positions,
            use_cache=False,
        ).last_hidden_state

    def timed(rounds: int, one: Callable[[], object], other: Callable[[], object]) -> tuple[float, float, float]:
        """Median seconds of both, and the median of their ratio, one / other."""
        one(), other()
        times = []
        for turn in range(rounds):  # who goes first alternates
            if turn % 2:
                second = seconds(other)
                times.append((seconds(one), second))
            else:
                first = seconds(one)
                times.append((first, seconds(other)))
        medians = [statistics.median(column) for column in zip(*times, strict=True)]
        return medians[0], medians[1], statistics.median(a / b for a, b in times)

    def score() -> None:
        for batch in ours:
            model(**batch)

    full, bare, forward_ratio = timed(forward_rounds, score, lambda: [backbone(batch) for batch in ours])
    naively, _, speedup = timed(prefix_rounds, lambda: [model(**batch) for batch in naive], score)

    tokens = sum(len(one.ids) for one in encoded)
    more = sum(map(len, prefixes)) / tokens
    print(f"{len(items)} responses, {sentences:.1f} sentences and {tokens / len(items):.0f} tokens each")
    print(f"the prefixes hold {more:.2f} times the tokens ({more / sentences:.2f} a sentence)")
    print(f"{'':24s}{'seconds':>9s}{'ratio':>9s}")
    print(f"{'backbone alone':24s}{bare:9.3f}{1:9.3f}")
    print(f"{'scoring forward':24s}{full:9.3f}{forward_ratio:9.3f}")
    print(f"{'prefix by prefix':24s}{naively:9.3f}{speedup:9.3f}  ({speedup / sentences:.2f} a sentence)")
    print(json.dumps({"forward_ratio": forward_ratio, "prefix_speedup_per_sentence": speedup / sentences}))


if __name__ == "__main__":
    main()
