"""What the runs of a sweep say: means over seeds with 95% intervals, differences to the first variant, one table."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text
from scipy.stats import t as student

from sentrm.words import counted, signed

from .watch import show

OVERALL = ("all", "mean of files")  # of `metrics.report`; the other entries are sources
TOLD = 5  # differences of held-out pairs that the caption lists


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds; in shares, not in percent."""

    mean: float
    low: float | None  # of the 95% interval; None where there is none
    high: float | None
    seeds: int
    interval: str  # "seeds": Student's t; "prompts": the bootstrap of the one run; "": none


@dataclass(frozen=True)
class Row:
    """What the finished runs of a variant say."""

    variant: str
    seeds: tuple[int, ...]
    pairs: int  # held out, of the first of these runs
    accuracy: dict[str, Estimate]  # by "all", "mean of files" and source
    difference: dict[str, Estimate]  # by "all" and "mean of files": this variant's minus the first's; {} of the first
    minutes: float | None  # mean over the runs that were not resumed
    tokens_per_second: float | None  # mean over the runs that measured it


def over_seeds(numbers: Sequence[float]) -> Estimate:
    """The mean with Student's t interval: mean ± t(0.975, n - 1) s / √n, s the sample's standard deviation."""
    n, mean = len(numbers), float(np.mean(numbers))
    if n < 2:
        return Estimate(mean, None, None, n, "")
    half = float(student.ppf(0.975, n - 1) * np.std(numbers, ddof=1) / np.sqrt(n))
    return Estimate(mean, mean - half, mean + half, n, "seeds")


def summarise(finished: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> list[Row]:
    """One row for each variant that has a finished run; differences are to the first of them.

    Args:
        finished: what metrics.json holds, by variant and seed.
    """
    figures = {
        name: {seed: _own(one) for seed, one in by_seed.items()} for name, by_seed in finished.items() if by_seed
    }
    first, rows = next(iter(figures), ""), []
    for variant, by_seed in figures.items():
        accuracy = {}
        for source in dict.fromkeys(source for one in by_seed.values() for source in one):
            ours = [one[source] for one in by_seed.values() if source in one]
            accuracy[source] = over_seeds([one["accuracy"] for one in ours])
            if len(ours) == 1 and "accuracy_low" in ours[0]:
                low, high = ours[0]["accuracy_low"], ours[0]["accuracy_high"]
                accuracy[source] = Estimate(ours[0]["accuracy"], low, high, 1, "prompts")
        both = [seed for seed in by_seed if variant != first and seed in figures[first]]
        difference = {}
        for name in OVERALL if both else ():
            pairs = [(by_seed[seed][name]["accuracy"], figures[first][seed][name]["accuracy"]) for seed in both]
            difference[name] = over_seeds([ours - theirs for ours, theirs in pairs])
        metrics = finished[variant].values()
        minutes = [one["train_seconds"] / 60 for one in metrics if "--resume" not in shlex.split(one["command"])]
        speeds = [one["batching"]["tokens_per_second"] for one in metrics if "tokens_per_second" in one["batching"]]
        rows.append(
            Row(
                variant,
                seeds=tuple(by_seed),
                pairs=next(iter(by_seed.values()))["all"]["pairs"],
                accuracy=accuracy,
                difference=difference,
                minutes=float(np.mean(minutes)) if minutes else None,
                tokens_per_second=float(np.mean(speeds)) if speeds else None,
            )
        )
    return rows


def _own(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures of the run's own model, which is the first system."""
    return next(iter(metrics["held_out"].values()))


def held_out_differences(finished: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> list[str]:
    """Where a run was evaluated on other held-out pairs than the first run: their numbers by source."""
    counts = {
        f"{variant} seed {seed}": {
            name: f"{counted(one['pairs'], 'pair')} of {counted(one['prompts'], 'prompt')}"
            for name, one in _own(metrics).items()
            if name not in OVERALL
        }
        for variant, by_seed in finished.items()
        for seed, metrics in by_seed.items()
    }
    first = next(iter(counts), "")
    return [
        f"{run} has {ours.get(name, 'none')} of {name}, {first} has {counts[first].get(name, 'none')}"
        for run, ours in counts.items()
        for name in dict.fromkeys([*counts[first], *ours])
        if ours.get(name) != counts[first].get(name)
    ]


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """The table's header and its rows; the last columns are the sources."""
    sources = [name for name in dict.fromkeys(name for row in rows for name in row.accuracy) if name not in OVERALL]
    first, fast = rows[0].variant, any(row.tokens_per_second is not None for row in rows)
    header = ["variant", "interval over", "all, %", "mean of files, %", f"all, minus {first}"]
    header += [f"mean of files, minus {first}", "minutes", *(["tokens a second"] if fast else []), *sources]
    table = [header]
    for row in rows:
        over = {"seeds": counted(len(row.seeds), "seed"), "prompts": "prompts (1 seed)", "": "none (1 seed)"}
        line = [
            row.variant,
            over[row.accuracy["all"].interval],
            *(f"{100 * row.accuracy[name].mean:.1f}{_interval(row.accuracy[name])}" for name in OVERALL),
        ]
        for name in OVERALL:
            one = row.difference.get(name)
            fewer = f", n = {one.seeds}" if one and one.seeds < len(row.seeds) else ""
            line += [f"{signed(100 * one.mean, 1)}{_interval(one)}{fewer}" if one else ""]
        line += ["" if row.minutes is None else f"{row.minutes:.1f}"]
        line += ["" if row.tokens_per_second is None else f"{row.tokens_per_second:,.0f}"] if fast else []
        line += [f"{100 * row.accuracy[name].mean:.1f}" if name in row.accuracy else "" for name in sources]
        table.append(line)
    return table


def _interval(one: Estimate) -> str:
    """In percent; of Student's t, which is symmetric, its half."""
    if one.low is None or one.high is None:
        return ""
    if one.interval == "seeds":
        return f" ± {100 * (one.high - one.mean):.1f}"
    return f" ({100 * one.low:.1f} to {100 * one.high:.1f})"


def caption(rows: Sequence[Row], seeds: Sequence[int], differences: Sequence[str], command: str) -> list[str]:
    """How the numbers were made, a paragraph each."""
    pairs = f"Every run was evaluated on {counted(rows[0].pairs, 'held-out pair')}, equally many of each source."
    if differences:
        more = f"; and {len(differences) - TOLD} more in results.json" if len(differences) > TOLD else ""
        pairs = (
            f"The runs were NOT evaluated on the same held-out pairs: {'; '.join(differences[:TOLD])}{more}. A pair is "
            "left out where prompt and first span do not fit the model; a larger --max_length keeps it."
        )
    return [
        "Accuracy on the held-out pairs in percent: the mean over the finished runs of seeds "
        f"{', '.join(map(str, seeds))}. The 95% interval over seeds is Student's t, mean ± t(0.975, n − 1) · s / √n "
        "with n the number of seeds: how far the seed moves the result on these pairs. The interval over prompts, "
        "where one seed is finished, is that run's bootstrap over whole prompts: how far the choice of prompts does. "
        "Sources: the mean alone.",
        f"Minus {rows[0].variant}: the difference of the two accuracies in percentage points, seed by seed (paired), "
        "mean and 95% t interval over the seeds that both have finished; one seed gives no interval.",
        pairs,
        "Minutes: the whole run, encoding and evaluation included; the mean over runs that were never interrupted.",
        f"Command: `{command}`",
    ]


def print_results(rows: Sequence[Row], notes: Sequence[str], console: Console | None = None) -> None:
    """The table; where the terminal is too narrow for it, without the sources."""
    lines, sources = cells(rows), len({name for row in rows for name in row.accuracy} - set(OVERALL))
    console = console or Console()
    for width in (len(lines[0]), len(lines[0]) - sources):
        table = Table(box=None, pad_edge=False, header_style="bold")
        for i, name in enumerate(lines[0][:width]):
            table.add_column(Text(name), justify="left" if i < 2 else "right", no_wrap=i == 0)
        for line in lines[1:]:
            table.add_row(*map(Text, line[:width]))
        if console.measure(table, options=console.options.update(max_width=1000)).maximum <= console.width:
            break
    show(table, console)
    for note in notes:
        show(Text(note), console)
