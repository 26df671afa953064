"""The model card: front matter and prose around what the run measured, nothing typed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import yaml
from transformers import SchedulerType

from .identity import rows_per_step

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
        [
            head,
            *_intro(config, metrics),
            *(["## Intended use", "", config.intended_use.strip(), ""] if config.intended_use else []),
            *_results(config, metrics),
            *_data(config, counts, metrics),
            *_recipe(config, metrics),
        ]
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
        "`int(sha256(prompt), 16) % 10 == 0` holds out; none of them was trained on. Without a prompt column the words",
        "that a prompt begins with are hashed, so that its pairs stay together. In brackets the 95% interval of a",
        "bootstrap over prompts (2,000 draws), where there are at least ten. Longer and shorter are in characters,",
        "or in tokens where the data hold no text. All columns are the same rows.",
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


def _data(config: TrainConfig, counts: Sequence[SourceCount], metrics: dict[str, Any]) -> list[str]:
    trained = "read for training" if config.streaming else "trained on"
    lines = [
        "## Training data",
        "",
        f"| file | from | licence | rows | {trained} | held out | bad rows |",
        "|---|---|---|--:|--:|--:|--:|",
    ]
    for one in counts:
        lines.append(
            f"| {one.source.name} | {one.source.origin or one.source.path} | {one.source.licence or 'not given'} | "
            f"{one.rows} | {one.train} | {one.held_out} | {one.bad_rows} |"
        )
    if config.streaming:
        lines += ["", "Of a stream, what its last pass read into the shuffle buffer: not all of it was trained on."]
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
    pairs, rows = metrics["train_pairs"], metrics.get("train_rows", metrics["train_pairs"])
    unit = "pairs" if rows == pairs else "rows"
    epochs = "1 epoch" if config.num_train_epochs == 1 else f"{config.num_train_epochs:g} epochs"
    data = f"{pairs} pairs, {epochs}"
    if config.streaming:
        data, unit = f"{rows} rows of a stream", "rows"
    elif rows != pairs:
        data = f"{pairs} pairs in {rows} rows, {epochs}"
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
        f"Trained: {trained}. Seed {config.seed}, {data}, "
        f"{metrics['steps']} steps of {rows_per_step(config)} {unit}, learning rate {config.learning_rate:g} "
        f"({SchedulerType(config.lr_scheduler_type).value}), {config.precision}, "
        f"{metrics['train_seconds'] / 60:.0f} minutes. Training loss {metrics['train_loss']:.4f}. "
        f"{f'Batches: {batching}.' if batching else ''}".rstrip(),
        "",
    ]
