"""What a finished run says of its held-out pairs: their figures, the card and the report, beside the model."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sentrm.configuration import SentenceRewardConfig
from sentrm.metrics import length_residuals, report
from sentrm.preferences import PreferencePair
from sentrm.results import ScoredPair, ScoredResponse
from sentrm.scoring import Scorer

from .config import LENGTH_RULES, TrainConfig
from .data import SourceCount
from .model_card import model_card
from .report import html_report
from .storage import written_aside
from .watch import held_out_table, show

CALIBRATION_KNOTS = 33
FEWEST_CALIBRATED = 100  # responses; fewer say too little about the tails


def write_up(
    config: TrainConfig,
    held_out: list[PreferencePair],
    counts: Sequence[SourceCount],
    metrics: dict[str, Any],
    log_history: list[dict[str, Any]],
) -> None:
    """Score the held-out pairs with the saved checkpoint and those it is compared with; write metrics.json, card,
    report, median reward and length calibration beside it; print the table.

    Args:
        metrics: what the run knows of itself; gains "median_reward" and "held_out".
        log_history: the Trainer's.
    """
    output = Path(config.output_dir)
    scored = score_pairs(output, held_out)
    rewards = [reward for pair in scored for side in (pair.a, pair.b) for reward in side.rewards[1:]]
    final = SentenceRewardConfig.from_pretrained(output)
    final.median_reward = statistics.median(rewards)
    final.length_calibration = length_calibration([side for pair in scored for side in (pair.a, pair.b)])
    longer = [longer_by(pair) for pair in held_out]
    lengths = dict(zip(LENGTH_RULES, (longer, [-one for one in longer]), strict=True))
    systems = {config.name: [pair.margin for pair in scored]} | lengths
    for name, folder in config.compared.items():
        systems[name] = [pair.margin for pair in score_pairs(Path(folder), held_out)]
    metrics["median_reward"] = final.median_reward
    metrics["held_out"] = held_out_figures(systems, held_out)
    decided = [  # as the figures see them: a the response that is more probably preferred, and no ties
        one if pair.probability > 0.5 else ScoredPair(one.id, one.b, one.a)
        for one, pair in zip(scored, held_out, strict=True)
        if pair.probability != 0.5
    ]
    with written_aside(output, 10_000_000) as aside:
        final.save_pretrained(aside)
        (aside / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
        (aside / "README.md").write_text(model_card(config, counts, metrics), encoding="utf-8")
        (aside / "report.html").write_text(html_report(config.name, metrics, log_history, decided), encoding="utf-8")
    show(held_out_table(metrics))


def length_calibration(responses: Sequence[ScoredResponse]) -> list[list[float]] | None:
    """The score that a response of each length is expected to have: 33 knots (characters, logits), as many responses
    between any two, of the regression in `metrics.length_residuals`. None of fewer than 100 responses, or of one
    length."""
    scores = np.array([one.score for one in responses])
    characters = np.array([float(len(one.text)) for one in responses])
    if len(responses) < FEWEST_CALIBRATED or np.ptp(characters) == 0:
        return None
    expected = scores - length_residuals(scores, characters)
    lengths, first = np.unique(characters, return_index=True)  # responses of one length are expected to score alike
    knots = np.unique(np.quantile(characters, np.linspace(0, 1, CALIBRATION_KNOTS)))
    return np.stack((knots, np.interp(knots, lengths, expected[first])), axis=1).tolist()


def score_pairs(folder: Path, pairs: list[PreferencePair]) -> list[ScoredPair]:
    """The pairs under a saved checkpoint."""
    scorer = Scorer.from_pretrained(folder)
    return [one for start in range(0, len(pairs), 512) for one in scorer.score(pairs[start : start + 512])]


def longer_by(pair: PreferencePair) -> float:
    """Characters that the chosen response has more than the rejected one; tokens, where the data hold no texts."""
    if pair.tokens is not None and not pair.chosen and not pair.rejected:
        return float(len(pair.tokens.ids[0]) - len(pair.tokens.ids[1]))
    return float(len(pair.chosen) - len(pair.rejected))


def held_out_figures(systems: dict[str, list[float]], pairs: list[PreferencePair]) -> dict[str, Any]:
    """`sentrm.metrics.report` of each system's margins; of the rules that look at lengths alone, whose margins are no
    logits, the accuracy without margin and ECE. A tie has no right side and is left out; where the rejected response is
    more probably preferred, the margin counts towards it."""
    decided = [i for i, pair in enumerate(pairs) if pair.probability != 0.5]
    signs = [1.0 if pair.probability > 0.5 else -1.0 for pair in pairs]
    prompts, sources = [pairs[i].split_key for i in decided], [pairs[i].source for i in decided]
    figures = {
        name: report([signs[i] * margins[i] for i in decided], prompts, sources) for name, margins in systems.items()
    }
    for rule in set(LENGTH_RULES) & set(figures):
        for one in figures[rule].values():
            one.pop("margin", None)
            one.pop("ece", None)
    return figures
