"""What an evaluation's result says, as tables and sentences; `evaluation_report` writes them as text, Markdown or HTML.

A number is written here once, with its 95% interval beside it where it has one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sentrm.words import counted, plain, signed, visible

from .charts import spread
from .measures import Estimate

Result = dict[str, Any]  # of training.evaluate
Cell = str | tuple[str, str]  # a name or a number; or a number and its interval, "" where there is none

LONGER, SHORTER, CHANCE = "always longer", "always shorter", "chance"
BLIND = ("length", "position")  # of the measures of sentences: the rules that read nothing
INTERVAL = "95% interval"


@dataclass(frozen=True)
class Table:
    """Numbers as they are read; the cells of the first column are names."""

    name: str  # also of its chart
    title: str
    note: str  # what the numbers are, in a sentence or two; not data
    header: tuple[str, ...]
    rows: list[tuple[Cell, ...]]
    total: bool = False  # the first row is of all the others together


def share(fraction: float) -> str:
    return f"{100 * fraction:.1f}%"


def points(difference: float) -> str:
    return signed(100 * difference, 1)


def three(number: float) -> str:
    return plain(number, 3)


# Of result["measures"]: key, name, how it is written, what would be good, what it means.
MEASURES: tuple[tuple[str, str, Callable[[float], str], str, str], ...] = (
    (
        "score_length_correlation",
        "score and length",
        signed,
        "near 0",
        "Spearman's rank correlation of a response's score with its characters: +1 if longer always scores higher, −1 "
        "if shorter does. Good is near 0: the score then follows something else than length.",
    ),
    (
        "score_sentences_correlation",
        "score and number of sentences",
        signed,
        "near 0",
        "The same with the number of sentences, on which a score made of sentences can lean. Good is near 0.",
    ),
    (
        "prompt_blind_accuracy",
        "prompt-blind accuracy",
        share,
        "near 50%",
        "Accuracy when the same responses are read under another item's prompt. Good is near 50%: the model then "
        "judges answers to the prompt; near the accuracy itself, it judges responses by themselves.",
    ),
    (
        "length_calibrated_accuracy",
        "length-calibrated accuracy",
        share,
        "near the accuracy",
        "Accuracy of what is left of the score when a locally weighted regression on length is taken off "
        "(arXiv 2409.17407). Good is near the accuracy itself: what falls away was length.",
    ),
    (
        "expected_calibration_error",
        "expected calibration error",
        three,
        "near 0",
        "How far the model's confidence, σ(margin), lies from how often it is right, on average. Good is near 0.",
    ),
    (
        "weight_entropy",
        "weight entropy",
        three,
        "below 1",
        "How evenly the weight is spread over the prompt and the sentences: 1 is the same for all, 0 all on one. At 1 "
        "the weights choose nothing and the score is a mean; below, they do, for better or worse.",
    ),
)


def tables(result: Result) -> list[Table]:
    """Official figures, subsets, length, what the score follows, sentences: those the result has."""
    found = []
    figures = result["figures"]
    if len(figures) > 1:  # else it is the headline alone
        rows: list[tuple[Cell, ...]] = [(name, number(one, _style(name))) for name, one in figures.items()]
        note = "As the benchmark defines them; the first is the headline."
        found.append(Table("figures", "Official figures", note, ("figure", "value"), rows))
    if measures := result.get("measures"):
        found += [_subsets(result, measures), _quintiles(measures), _follows(measures)]
    if sentences := result.get("sentences"):
        found += _sentences(sentences)
    return found


def _style(name: str) -> Callable[[float], str]:
    return three if "auroc" in name.lower() else share


def number(estimate: Estimate | float, style: Callable[[float], str]) -> tuple[str, str]:
    """A number and its interval as they are written; "" for the interval where there is none."""
    if not isinstance(estimate, dict):
        return style(estimate), ""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return "not defined", ""
    return style(value), "" if low is None or high is None else f"{style(low)} to {style(high)}".replace("%", "")


def _subsets(result: Result, measures: dict[str, Any]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            name,
            f"{one['items']:,}",
            number(one["accuracy"], share),
            share(one["always_longer"]),
            share(one["always_shorter"]),
            number(one["gain"], points),
        )
        for name, one in by_subset(result)
    ]
    note = (
        f"Of {counted(measures['comparisons'], 'comparison')} of a right with a wrong response, those whose right one "
        f"scores higher; {counted(measures['ties'], 'tie')}, counted wrong. Gain: percentage points above the better "
        f"of {LONGER} and {SHORTER}, two rules that only look at length."
    )
    header = ("subset", "items", "accuracy", LONGER, SHORTER, "gain")
    return Table("subsets", "Accuracy by subset", note, header, rows, total=len(rows) > 1)


def by_subset(result: Result) -> list[tuple[str, dict[str, Any]]]:
    """All subsets together, where there are several, and each."""
    named = list(result["subsets"].items())
    return named if len(named) == 1 else [("all", result["measures"] | {"items": result["items"]}), *named]


def _quintiles(measures: dict[str, Any]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (spread(one), f"{one['comparisons']:,}", share(one["accuracy"]))
        for one in measures["length_quintiles"]
        if one["comparisons"]
    ]
    note = (
        "Fifths of the comparisons, by how many characters longer the right response is than the wrong one. A model "
        "that only follows length is right at one end and wrong at the other."
    )
    header = ("right − wrong, characters", "comparisons", "accuracy")
    return Table("length", "Accuracy by length difference", note, header, rows)


def _follows(measures: dict[str, Any]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (name, "not defined" if measures[key] is None else number(measures[key], style), good)
        for key, name, style, good, _ in MEASURES
    ]
    note = "What else than the quality of a response moves its score, and how far its confidence can be believed."
    return Table("follows", "What the score follows", note, ("measure", "value", "good"), rows)


def _sentences(sentences: dict[str, Any]) -> list[Table]:
    every = whole(sentences)
    steps = every["first_error"] is not None
    header = ["measure", "AUROC", "top-1", *(["first error"] if steps else [])]
    rows: list[tuple[Cell, ...]] = []
    for measure, auroc in every["auroc"].items():
        found: list[Cell] = [spoken(measure), number(auroc, three), number(every["top1"][measure], share)]
        rows.append((*found, *([number(every["first_error"][measure], share)] if steps else [])))
    chance: list[Cell] = ["chance", three(0.5), number(every["chance"], share)]
    rows.append((*chance, *([number(every["first_error_chance"], share)] if steps else [])))
    note = (
        f"{counted(every['responses'], 'response')} with good and bad sentences, {every['bad']:,} bad of "
        f"{every['labelled']:,} labelled ones. AUROC: how often a bad sentence is ranked worse than a good one of the "
        "same response; 0.5 is chance. Top-1: how often the sentence ranked worst is a bad one."
    )
    if steps:
        note += (
            f" First error: how often the sentence ranked worst is in the first wrong step, over "
            f"{counted(every['first_error_responses'], 'response')}."
        )
    tables = [Table("sentences", "Sentences", note, tuple(header), rows)]
    if len(sentences) > 1:
        header = ["subset", "responses", "bad", *map(spoken, every["auroc"])]
        rows = [
            (
                name,
                f"{one['responses']:,}",
                f"{one['bad']:,}",
                *(number(auroc, three)[0] for auroc in one["auroc"].values()),
            )
            for name, one in sentences.items()
        ]
        note = "AUROC by measure; the chart shows that of the reward."
        tables.append(
            Table("sentence-subsets", "Sentences by subset", note, tuple(header), rows, total="all" in sentences)
        )
    return tables


def whole(sentences: dict[str, Any]) -> dict[str, Any]:
    """All subsets together, or the only one."""
    return sentences["all"] if "all" in sentences else next(iter(sentences.values()))


def spoken(measure: str) -> str:
    return measure.replace("_", " ")


def with_intervals(table: Table) -> tuple[list[str], list[list[str]]]:
    """Header and rows as text, a column more for the intervals of each column that has any."""
    wide = {i for row in table.rows for i, cell in enumerate(row) if isinstance(cell, tuple) and cell[1]}
    header = [part for i, name in enumerate(table.header) for part in ([name, INTERVAL] if i in wide else [name])]
    rows = []
    for row in table.rows:
        pairs = [cell if isinstance(cell, tuple) else (cell, "") for cell in row]
        rows.append([part for i, pair in enumerate(pairs) for part in (pair if i in wide else pair[:1])])
    return header, rows


def written(cell: Cell) -> str:
    """A cell in one piece: `58.4% (52.4 to 64.4)`."""
    return cell if isinstance(cell, str) else f"{cell[0]} ({cell[1]})" if cell[1] else cell[0]


def line(text: str) -> str:
    """One line of text, control characters made visible."""
    return visible(" ".join(text.split()))


def title(result: Result) -> str:
    return f"{result['benchmark']} · {result['model']['name']}"


def setup(result: Result) -> str:
    segmenter = result["segmenter"]
    own = "" if segmenter["own"] else ", not the model's own"
    return f"aggregator {result['model']['aggregator']} · segmenter {segmenter['spec']}{own}"


def headline(result: Result) -> tuple[str, tuple[str, str]]:
    """Name, number and interval of the benchmark's first figure."""
    name, estimate = next(iter(result["figures"].items()))
    return name, number(estimate, _style(name))


def length_rules(result: Result) -> dict[str, float]:
    """Accuracies of the rules that only look at length. Of corruptions, most of which make a response longer, or make
    it shorter, they say nothing, and chance stands there instead."""
    if result["benchmark"] == "corruptions":
        return {CHANCE: 0.5}
    return {LONGER: result["measures"]["always_longer"], SHORTER: result["measures"]["always_shorter"]}


def verdict(result: Result) -> str:
    """Whether the model is better than rules that read nothing, in a sentence or two."""
    if measures := result.get("measures"):
        rules = length_rules(result)
        if CHANCE in rules:
            return _against_chance("accuracy", measures["accuracy"], "50%")
        best = max(rules, key=lambda name: rules[name])
        rule, gain = f"“{best}”, the better rule that only looks at length ({share(rules[best])})", measures["gain"]
        ahead, interval = number(gain, points)
        if gain["low"] is None:
            return f"{ahead} points to {rule}; too few prompts for an interval."
        if gain["low"] > 0:
            return f"Better than {rule}: {ahead} points, and the whole interval ({interval}) lies above zero."
        if gain["value"] > 0:
            return f"Ahead of {rule}, but not by more than chance explains: {ahead} points ({interval})."
        if gain["high"] < 0:
            return f"Worse than {rule}: {ahead} points, and the whole interval ({interval}) lies below zero."
        return f"Not better than {rule}: {ahead} points ({interval})."
    auroc = whole(result["sentences"])["auroc"]
    ours = auroc["reward"]
    if ours["value"] is None:
        return "No response has both good and bad sentences."
    best = max(BLIND, key=lambda name: auroc[name]["value"])
    rule = f"“{best}”, the better rule that reads nothing, reaches {three(auroc[best]['value'])}."
    return f"{_against_chance('reward', ours, '0.5')} {rule}"


def _against_chance(what: str, ours: Estimate, chance: str) -> str:
    if ours["value"] is None or ours["low"] is None or ours["high"] is None:
        return f"Chance is {chance}; too few prompts for an interval."
    if ours["low"] > 0.5:
        return f"The {what} is better than chance: the whole interval lies above {chance}."
    if ours["value"] > 0.5:
        return f"The {what} is above {chance}, but not by more than chance explains."
    if ours["high"] < 0.5:
        return f"The {what} is worse than chance: the whole interval lies below {chance}."
    return f"The {what} is not better than chance, {chance}."


def left_out(result: Result) -> list[str]:
    """How many responses were scored whole, cut or not at all, and why."""
    counts = (
        f"{counted(result['responses'], 'response')} scored; {result['dropped_sentences']:,} of them without their "
        f"last sentences and {result['cut_prompts']:,} with a prompt cut on the left, being too long for the model."
    )
    return [counts, *result["problems"]]


def intervals(result: Result) -> str:
    samples = counted(result["draws"], "bootstrap sample")
    return f"Intervals: 95%, {samples} of whole prompts; none below ten prompts, or ten in each part of a plain mean."


def sources(result: Result, digits: int | None = None) -> list[str]:
    """The data, each file with its digest, or so many digits of it, or each hub id with its split and revision."""
    lines = []
    for one in result["data"]:
        if "path" not in one:
            revision = (one["revision"] or "unknown")[:digits]
            lines.append(f"{one['hub']} · split {one['split'] or 'of the benchmark'} · revision {revision}")
        else:
            rows = "" if one["rows"] is None else f" · {one['rows']:,} rows"
            lines.append(f"{one['path']}{rows} · sha256 {one['sha256'][:digits]}")
    return lines


def origin(result: Result) -> str:
    """What gives the numbers again, beside the command."""
    model = result["model"]
    return (
        f"seed {result['seed']}, commit {result['commit'] or 'none'}, {result['date']}, {model['name']} revision "
        f"{(model['revision'] or 'none')[:12]}; data: {'; '.join(sources(result, 12))}"
    )


def cite(result: Result) -> str:
    """One sentence for a paper: what was measured on what, and how each measure is defined."""
    model, (name, figure) = result["model"], headline(result)
    commit = f"commit {result['commit']}, " if result["commit"] else ""
    held_out = " of the held-out tenth of prompts" if result["held_out"] else ""
    parts = [
        f"{result['benchmark']}, {counted(result['items'], 'item')}{held_out}: {name} {written(figure)} of "
        f"{model['name']}, measured with sentrm's training.evaluate ({commit}seed {result['seed']}, {result['date']})",
        f"95% intervals by {result['draws']:,} bootstrap samples of whole prompts",
    ]
    if result.get("measures"):
        parts += [
            "accuracy is the share of comparisons whose right response scores strictly higher, gain what it has above "
            "the better of always longer and always shorter",
            "prompt-blind accuracy reads each response under another item's prompt",
            "length-calibrated accuracy compares residuals of a locally weighted regression of score on length "
            "(arXiv 2409.17407)",
        ]
    if result.get("sentences"):
        parts.append(
            "a sentence's reward (arXiv 2503.04793) is judged by the mean AUROC within responses that have good and "
            "bad sentences, a tie counting one half, and by how often the lowest reward is a bad sentence's (top-1)"
        )
    return "; ".join(parts) + "."
