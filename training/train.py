"""Train a sentence reward model: python -m training.train --backbone … --data … --output …

One run: read the mixture, hold out a tenth of the prompts, train, save, score the held-out pairs with the
saved checkpoint, write metrics.json and the model card beside it.
"""

from __future__ import annotations

import json
import shlex
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from transformers import Trainer, set_seed
from transformers.trainer_utils import get_last_checkpoint

from sentrm.configuration import SentenceRewardConfig
from sentrm.encoding import Encoder
from sentrm.errors import SentrmError
from sentrm.preferences import PreferencePair
from sentrm.scoring import DTYPES, Scorer
from sentrm.segmentation import SegmenterSpec, load_segmenter

from .config import TrainConfig, parse
from .data import collate, encode_pairs, load_mixture
from .metrics import report
from .model import build_model, prepare_tokenizer
from .model_card import model_card
from .trainer import RewardTrainer, pair_metrics


def train(config: TrainConfig, command: str) -> dict[str, Any]:
    """Run `config` to its end and return what metrics.json holds."""
    started = time.time()
    output = Path(config.output_dir)
    last = get_last_checkpoint(output) if output.is_dir() else None
    if config.resume and last is None:
        raise SentrmError(f"--resume: {output} holds no checkpoint. Leave --resume out to start anew.")
    if last is not None and not config.resume:
        raise SentrmError(f"{output} holds {Path(last).name} of an earlier run. Pass --resume, or another --output.")

    set_seed(config.seed)
    pairs, held_out, counts = load_mixture(
        config.sources, config.data_folder, config.columns, config.seed, config.strict
    )
    if config.use_margin and all(pair.margin is None for pair in pairs):
        raise SentrmError("--use_margin: no pair has a margin. Leave it out, or give data with a 'margin' column.")
    if not pairs or not held_out:
        raise SentrmError(
            f"{len(pairs)} pairs to train on and {len(held_out)} held out; expected at least one of each. A tenth of "
            "the prompts is held out by hash: give more data."
        )
    tokenizer = prepare_tokenizer(config)
    model = build_model(config, tokenizer)
    segmenter = load_segmenter(SegmenterSpec.from_dict(model.config.segmenter))
    model.config.segmenter_revision = segmenter.revision
    encoder = Encoder(tokenizer, model.config)
    dataset, _, truncation = encode_pairs(pairs, segmenter, encoder)
    evaluation, held_out, held_out_truncation = encode_pairs(held_out, segmenter, encoder)
    print(f"{len(dataset)} pairs to train on: {truncation}\n{len(held_out)} pairs held out: {held_out_truncation}")

    trainer: Trainer = RewardTrainer(
        model=model,
        args=config,
        train_dataset=dataset,
        eval_dataset=evaluation,
        data_collator=collate,
        processing_class=tokenizer,
        compute_metrics=pair_metrics,
    )
    result = trainer.train(resume_from_checkpoint=last)
    if not trainer.is_world_process_zero():
        return {}
    model.backbone.to(DTYPES[config.save_dtype])  # type: ignore[arg-type]  # a decorator hides the signature
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    figures = {"train_loss": result.training_loss, "steps": trainer.state.global_step}
    figures["train_seconds"] = round(time.time() - started)
    del trainer, model  # the optimizer's memory, before checkpoints are opened to score

    margins, median_reward = score_pairs(output, held_out)
    stored = SentenceRewardConfig.from_pretrained(output)
    stored.median_reward = median_reward
    stored.save_pretrained(output)
    longer = [float(len(pair.chosen) - len(pair.rejected)) for pair in held_out]  # characters
    systems = {config.name: margins, "always longer": longer, "always shorter": [-one for one in longer]}
    for entry in config.compare or []:
        name, folder = entry.split("=", 1)
        systems[name], _ = score_pairs(Path(folder), held_out)
    prompts, names = [pair.split_key for pair in held_out], [pair.source for pair in held_out]
    metrics: dict[str, Any] = {
        "command": command,
        "seed": config.seed,
        "train_pairs": len(dataset),
        "truncation": truncation,
        "held_out_truncation": held_out_truncation,
        **figures,
        "median_reward": median_reward,
        "held_out": {name: report(values, prompts, names) for name, values in systems.items()},
    }
    (output / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    (output / "README.md").write_text(model_card(config, counts, metrics))
    print(json.dumps(metrics["held_out"][config.name]["all"]))
    return metrics


def score_pairs(folder: Path, pairs: list[PreferencePair]) -> tuple[list[float], float]:
    """Margins of the pairs under a saved checkpoint, and its median sentence reward on them, logits."""
    scorer = Scorer.from_pretrained(folder)
    scored = [one for start in range(0, len(pairs), 512) for one in scorer.score(pairs[start : start + 512])]
    rewards = [reward for pair in scored for side in (pair.a, pair.b) for reward in side.rewards[1:]]
    return [pair.margin for pair in scored], statistics.median(rewards)


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        train(parse(arguments), "python -m training.train " + shlex.join(arguments))
    except SentrmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
