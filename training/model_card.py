"""The model card: front matter and prose around what the run measured, nothing typed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import yaml
from transformers import SchedulerType

if TYPE_CHECKING:
    from .config import TrainConfig
    from .data import SourceCount


def model_card(config: TrainConfig, counts: Sequence[SourceCount], metrics: dict[str, Any]) -> str:
    """Markdown with YAML front matter. `metrics` is what metrics.json holds."""
    front: dict[str, Any] = {"library_name": "transformers", "tags": ["reward-model", "sentence-level", "sentrm"]}
    if config.licence:
        front["license"] = config.licence
    head = f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n"
    return "\n".join(
        [head, *_intro(config, metrics), *_results(config, metrics), *_data(counts, metrics), *_recipe(config, metrics)]
    )


def _intro(config: TrainConfig, metrics: dict[str, Any]) -> list[str]:
    return [
        f"# {config.name}",
        "",
        "A sentence-level reward model (arXiv 2503.04793), trained by sentrm: it scores a response and says how much",
        f"each sentence adds. Backbone: {config.backbone_card or config.backbone}. "
        f"Aggregator `{config.aggregator}`, boundaries by `{config.boundary}`, segmenter `{config.segmenter}`, "
        f"at most {config.max_length} tokens.",
        "",
        "Scores have no zero of their own: only differences between responses to one prompt mean something. The",
        f"median sentence reward on the held-out rows, {metrics['median_reward']:+.4f}, is the heatmaps' baseline.",
        "",
        "```python",
        "from sentrm import Scorer",
        "",
        'scorer = Scorer.from_pretrained("FOLDER")',
        '(result,) = scorer.score([("How do I boil an egg?", "Boil it for nine minutes. Then peel it.")])',
        "print(result.score, result.rewards, result.weights)",
        "```",
        "",
    ]


def _results(config: TrainConfig, metrics: dict[str, Any]) -> list[str]:
    held_out = metrics["held_out"]
    systems = list(held_out)
    ours = held_out[config.name]
    lines = [
        "## Held-out accuracy",
        "",
        "Share of pairs whose chosen response scores higher (a tie is wrong), on the tenth of each file's prompts that",
        "`int(sha256(prompt), 16) % 10 == 0` holds out; none of them was trained on. In brackets the 95% interval of a",
        "bootstrap over prompts (2,000 draws), where there are at least ten. Longer and shorter are in characters.",
        "All columns are the same rows.",
        "",
        "| rows | pairs | prompts | " + " | ".join(systems) + " | ECE |",
        "|---|--:|--:|" + "--:|" * (len(systems) + 1),
    ]
    for rows, figures in ours.items():
        cells = [_share(held_out[system][rows]) for system in systems]
        ece = f"{figures['ece']:.3f}" if "ece" in figures else ""
        lines.append(f"| {rows} | {figures['pairs']} | {figures['prompts']} | {' | '.join(cells)} | {ece} |")
    return [
        *lines,
        "",
        "`report.html` beside this card shows more: the loss over the steps, a reliability diagram, the rewards of",
        "chosen and rejected responses, scores against the number of sentences, and the pairs that are most wrong.",
        "",
    ]


def _share(figures: dict[str, float]) -> str:
    share = f"{100 * figures['accuracy']:.1f}"
    if "accuracy_low" not in figures:
        return share
    return f"{share} ({100 * figures['accuracy_low']:.1f} to {100 * figures['accuracy_high']:.1f})"


def _data(counts: Sequence[SourceCount], metrics: dict[str, Any]) -> list[str]:
    lines = [
        "## Training data",
        "",
        "| file | from | licence | rows | trained on | held out | bad rows |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    for one in counts:
        name = one.source.path.split("/")[-1].split(".")[0]
        lines.append(
            f"| {name} | {one.source.origin or one.source.path} | {one.source.licence or 'not given'} | {one.rows} | "
            f"{one.train} | {one.held_out} | {one.bad_rows} |"
        )
    lines += [
        "",
        "What did not fit the model: a pair is too long where not even a first sentence fits; else whole sentences are",
        "dropped from the end of a response, and the prompt is cut on the left.",
        "",
        "| | training | held out |",
        "|---|--:|--:|",
    ]
    for name, count in metrics["held_out_truncation"].items():
        lines.append(f"| {name.replace('_', ' ')} | {metrics['truncation'].get(name, 0)} | {count} |")
    return [*lines, ""]


def _recipe(config: TrainConfig, metrics: dict[str, Any]) -> list[str]:
    per_step = config.per_device_train_batch_size * config.gradient_accumulation_steps * config.world_size
    trained = "the whole model"
    if config.adapter != "none":
        trained = f"{config.adapter} of rank {config.lora_rank} (alpha {config.lora_alpha}), head and marker token"
    batching = ", ".join(
        f"{name.replace('_', ' ')} {f'{value:.1%}' if isinstance(value, float) else value}"
        for name, value in metrics.get("batching", {}).items()
    )
    return [
        "## Recipe",
        "",
        f"    {metrics['command']}",
        "",
        f"Trained: {trained}. Seed {config.seed}, {metrics['train_pairs']} pairs, {config.num_train_epochs:g} epochs, "
        f"{metrics['steps']} steps of {per_step} pairs, learning rate {config.learning_rate:g} "
        f"({SchedulerType(config.lr_scheduler_type).value}), {'bf16' if config.bf16 else 'fp32'}, "
        f"{metrics['train_seconds'] / 60:.0f} minutes. Training loss {metrics['train_loss']:.4f}. "
        f"{f'Batches: {batching}.' if batching else ''}".rstrip(),
        "",
    ]
