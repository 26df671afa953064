"""Train a sentence reward model: python -m training.train --backbone … --data … --output …

One run: read the mixture, hold out a tenth of the prompts, train, save, score the held-out pairs with the
saved checkpoint, write metrics.json, the model card and the report beside it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import statistics
import sys
import time
from pathlib import Path
from typing import Any, cast

from peft import PeftModel
from transformers import set_seed
from transformers.trainer_utils import get_last_checkpoint

from sentrm.encoding import Encoder
from sentrm.errors import SentrmError
from sentrm.loading import read_config
from sentrm.preferences import PreferencePair
from sentrm.scoring import Scorer
from sentrm.segmentation import SegmenterSpec, load_segmenter

from .checkpoints import mean_loss, whole_model
from .config import TrainConfig, parse
from .data import load_mixture
from .held_out import write_up
from .identity import check_same_run, rows_per_step, run_identity
from .model import build_model, finished, prepare_tokenizer
from .report import versions
from .rows import encode_pairs
from .storage import remove_partial, written_aside
from .streaming import stream_mixture
from .trainer import Collator, RewardTrainer, pair_metrics, plain_model
from .watch import SampleTable, Summary

SAMPLES = 3  # held-out pairs in a sample table
LOGGED = ("padding_share", "shared_share", "tokens_per_second")


def train(config: TrainConfig, command: str) -> dict[str, Any]:
    """Run `config` to its end and return what metrics.json holds; nothing in all but the main process."""
    started = time.time()
    output = Path(config.output_dir)
    with config.main_process_first(local=False, desc="tidying up"):
        if config.should_save:
            remove_partial(output)
    last = get_last_checkpoint(output) if output.is_dir() else None
    if config.resume and last is None:
        raise SentrmError(f"--resume: {output} holds no checkpoint. Leave --resume out to start anew.")
    if last is not None and not config.resume:
        raise SentrmError(f"{output} holds {Path(last).name} of an earlier run. Pass --resume, or another --output.")
    for folder in config.compared.values():
        read_config(folder)  # so that one that does not load is told now

    set_seed(config.seed)
    tokenizer = prepare_tokenizer(config)
    model = build_model(config, tokenizer)
    core = plain_model(model)
    segmenter = load_segmenter(SegmenterSpec.from_dict(core.config.segmenter), tokenizer)
    core.config.segmenter_revision = segmenter.revision
    encoder = Encoder(tokenizer, core.config)
    mixture = (config.sources, config.data_folder, config.columns, config.seed, config.strict)
    encoding: Any = {"num_proc": config.encoding_processes, "cache_dir": config.cache_dir or output / "data"}
    dataset: Any
    pairs: list[PreferencePair] = []  # of a stream none: its held-out pairs speak for it
    truncation = None  # of a stream, known when it has been read
    with config.main_process_first(local=False, desc="encoding"):  # the others read the cache
        if config.streaming:
            dataset, held_out, counts = stream_mixture(
                *mixture, segmenter, encoder, eval_pairs=config.eval_pairs, buffer=config.shuffle_buffer, passes=None
            )
        else:
            pairs, held_out, counts = load_mixture(*mixture)
        margins = sum(bool(pair.margin) for pair in [*pairs, *held_out])
        if config.use_margin and not margins:
            raise SentrmError(
                "--use_margin: no pair has a margin, or all are 0. Leave it out, or give data with a 'margin' column."
            )
        if margins and not config.use_margin:
            print(f"{margins} pairs have a margin, which the loss leaves out; pass --use_margin to subtract it.")
        if not config.streaming:
            dataset, _, truncation = encode_pairs(pairs, segmenter, encoder, **encoding)
        evaluation, held_out, held_out_truncation = encode_pairs(held_out, segmenter, encoder, **encoding)
    if (truncation is not None and not len(dataset)) or not held_out:
        raise SentrmError(
            f"{'a stream' if truncation is None else len(dataset)} to train on and {len(held_out)} pairs held out; "
            "expected at least one of each. A tenth of the prompts is held out by hash: give more data."
        )
    if all(pair.probability == 0.5 for pair in held_out):
        raise SentrmError("every held-out pair is a tie; expected some with a preferred response. Give more data.")

    collator = Collator()
    trainer = RewardTrainer(
        model=model,
        args=config,
        train_dataset=dataset,
        eval_dataset=evaluation,
        data_collator=collator,
        processing_class=tokenizer,
        compute_metrics=pair_metrics,
    )
    trainer.run = run_identity(config, core.config, tokenizer, dataset, pairs)
    if last is not None:
        stored = check_same_run(Path(last), trainer.run)
        if config.batching == "auto":
            config.batching = stored["batching"]  # measured when the run began
    left_out = {"training": truncation or {}, "held out": held_out_truncation}
    trainer.add_callback(Summary(counts, left_out, trainer.batching))
    if config.sample_steps:
        trainer.add_callback(
            SampleTable(
                held_out[:SAMPLES],
                config.sample_steps,
                trainer.callback_handler.callbacks,
                lambda live, own: Scorer.from_model(
                    plain_model(live), own, name="in training", batching=collator.strategy
                ),
            )
        )
    trainer.train(resume_from_checkpoint=last)
    trained = cast(Any, whole_model(trainer, lambda: build_model(config, tokenizer)))
    trainer.accelerator.end_training()  # the others leave: nobody waits while pairs are scored
    if not config.should_save:
        return {}
    with written_aside(output, sum(4 * one.numel() for one in trained.parameters())) as aside:
        if isinstance(trained, PeftModel):
            trained.save_pretrained(str(aside / "adapter"))
            (aside / "adapter" / "README.md").unlink()  # peft's empty template
        finished(trained, config.save_dtype).save_pretrained(aside)
        tokenizer.save_pretrained(aside)
    if truncation is None:
        truncation = {name: sum(one.encoding[name] for one in counts) for name in held_out_truncation}
    log_history = trainer.state.log_history
    batches = [log for log in log_history if "padding_share" in log]
    if batches:
        mean = {name: statistics.mean(log[name] for log in batches) for name in LOGGED}
        trainer.batching |= mean | {"tokens_per_second": round(mean["tokens_per_second"])}
    if config.streaming:
        train_rows = train_pairs = trainer.state.global_step * rows_per_step(config)  # a ranked row counts as one pair
    else:
        train_rows, train_pairs = len(dataset), sum(map(len, dataset["comparisons"]))
    metrics: dict[str, Any] = {
        "command": command,
        "seed": config.seed,
        "train_rows": train_rows,
        "train_pairs": train_pairs,
        "truncation": truncation,
        "held_out_truncation": held_out_truncation,
        "train_loss": mean_loss(log_history),
        "steps": trainer.state.global_step,
        "train_seconds": round(time.time() - started),
        "batching": trainer.batching,
        "versions": versions(),
    }
    del trainer, model, core, trained  # the optimizer's memory, before checkpoints are opened to score

    write_up(config, held_out, counts, metrics, log_history)
    return metrics


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        config = parse(arguments)
        with contextlib.ExitStack() as stack:
            if config.process_index > 0:  # what all processes do, the main one tells
                stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
            train(config, "python -m training.train " + shlex.join(arguments))
    except SentrmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
