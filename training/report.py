"""The report of a run: one HTML file that opens anywhere, with nothing to fetch.

Decisions:
- Every number is a field of the embedded JSON (`figures`) or of metrics.json; what the page shows is formatted here.
- Text from data reaches the page through `page.escaped` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from platform import python_version
from typing import Any

from sentrm.heatmap import FULL_BAR, PALETTES, Scale, even_share
from sentrm.results import Prompt, ScoredPair, ScoredResponse
from sentrm.words import counted, signed, unit_of, weight_of

from .charts import (
    POINTS,
    Chart,
    curves_chart,
    length_chart,
    reliability_chart,
    rewards_chart,
    weights_chart,
)
from .config import LENGTH_RULES
from .figures import POSITIONS, most_wrong, report_figures
from .page import chart_box, escaped, page, track


def versions() -> dict[str, str]:
    """Versions of what decides a run's numbers, for metrics.json."""
    packages = ("torch", "transformers", "accelerate", "datasets", "tokenizers")
    return {"python": python_version()} | {name: version(name) for name in packages}


def html_report(title: str, metrics: dict[str, Any], log_history: list[dict], scored: list[ScoredPair]) -> str:
    """One HTML file: accuracy against length, losses, calibration, rewards, lengths, weights, the most wrong pairs.

    Args:
        title: the model's name.
        metrics: what metrics.json holds; the first system of `held_out` is the model.
        log_history: the Trainer's `state.log_history`; may be empty.
        scored: the held-out pairs as the model scores them, a the chosen and b the rejected response; at least one.
    """
    unit = unit_of(scored[0].a.segmenter.spec)  # what a span is called: a sentence, or a baseline's token or segment
    figures = report_figures(metrics, log_history, scored)
    charts = report_charts(figures, metrics, scored, unit)
    parts = [
        *_verdict(metrics, unit),
        *_training(figures, metrics),
        *_sources(metrics),
        *_held_out_charts(figures, metrics, unit),
        *_most_wrong(metrics, scored, unit),
        *_run(metrics),
    ]
    return page(title, "training report", _model_line(scored[0].a), parts, {"figures": figures, "charts": charts})


def report_charts(
    figures: dict[str, Any], metrics: dict[str, Any], scored: Sequence[ScoredPair], unit: str
) -> dict[str, Chart]:
    """Charts by the id of the element they are drawn in."""
    charts = {
        "reliability": reliability_chart(figures["reliability"]),
        "rewards": rewards_chart(figures["rewards"], metrics["median_reward"], unit),
    }
    if unit != "response":  # one boundary beside the prompt's: there is no number and no position to compare
        charts["length"] = length_chart(scored, figures["length"], metrics["seed"], unit)
        charts["weights"] = weights_chart(figures["weights"])
    if figures["curves"]["loss"]:
        charts["curves"] = curves_chart(figures["curves"])
    return charts


def _share(share: float) -> str:
    return f"{100 * share:.1f}%"


def _interval(figures: dict[str, float]) -> str:
    if "accuracy_low" not in figures:
        return ""
    return f"{100 * figures['accuracy_low']:.1f} to {100 * figures['accuracy_high']:.1f}"


def _model_line(response: ScoredResponse) -> str:
    return f"aggregator {escaped(response.model.aggregator)} · segmenter {escaped(response.segmenter.spec)}"


def _verdict(metrics: dict[str, Any], unit: str) -> list[str]:
    (_, ours), *rest = metrics["held_out"].items()
    every, others = ours["all"], dict(rest)
    shown = " ".join(f"<span>{escaped(name)} {_share(one['all']['accuracy'])}</span>" for name, one in others.items())
    minutes = metrics["train_seconds"] / 60
    facts = [
        ("mean of files", _share(ours["mean of files"]["accuracy"])),
        ("calibration error (ECE)", f"{every['ece']:.3f}"),
        ("mean margin", signed(every["margin"])),
        (f"median {unit} reward", signed(metrics["median_reward"])),
        ("training loss", f"{metrics['train_loss']:.4f}"),
        ("trained on", counted(metrics["train_pairs"], "pair")),
        ("steps", f"{metrics['steps']:,}"),
        ("took", f"{minutes:.0f} min" if minutes >= 1 else f"{metrics['train_seconds']} s"),
    ]
    return [
        '<section class="verdict"><div><small>held-out accuracy</small>',
        f"<b>{_share(every['accuracy'])}</b>",
        f"<small>{counted(every['pairs'], 'pair')}, {counted(every['prompts'], 'prompt')}</small></div>",
        f"<div><p>{_against_length(metrics)}</p>{track(every, [one['all']['accuracy'] for one in others.values()])}",
        '<div class="key"><span><i class="interval"></i>95% interval '
        f"{_interval(every) or 'needs ten prompts'}</span><span><i></i>others:</span>{shown}</div></div></section>",
        '<dl class="facts">',
        *[f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts],
        "</dl>",
    ]


def _against_length(metrics: dict[str, Any]) -> str:
    """One sentence: whether the interval lies above the better of the two rules that only look at length."""
    every = next(iter(metrics["held_out"].values()))["all"]
    rules = {name: systems["all"]["accuracy"] for name, systems in metrics["held_out"].items() if name in LENGTH_RULES}
    if not rules:
        return "No length rule was measured beside it."
    name, share = max(rules.items(), key=lambda one: one[1])
    rule = f"“{name}”, the better rule that only looks at length ({_share(share)})"
    if every["accuracy"] <= share:
        return f"Not better than {rule}."
    if every.get("accuracy_low", 0.0) > share:
        return f"Better than {rule}: the whole interval lies above it."
    return f"Ahead of {rule}, but not by more than chance explains."


def _training(figures: dict[str, Any], metrics: dict[str, Any]) -> list[str]:
    heading = "<h2>Training</h2>"
    if not figures["curves"]["loss"]:
        return [heading, '<p class="sub">The run logged no loss: it ended before the first logging step.</p>']
    evaluations = len(figures["curves"]["eval_loss"])
    line = f"Mean loss {metrics['train_loss']:.4f} over {counted(metrics['steps'], 'step')}. The dotted line, ln 2, is "
    line += "the loss of scores that are all the same. "
    line += f"Evaluated {counted(evaluations, 'time')} on the way." if evaluations else "Not evaluated on the way."
    return [heading, f'<p class="sub">{line}</p>', chart_box("curves", "Loss and learning rate over the steps")]


def _sources(metrics: dict[str, Any]) -> list[str]:
    (_, ours), *rest = metrics["held_out"].items()
    names, others = [name for name, _ in rest], [figures for _, figures in rest]
    rows = []
    for name, figures in ours.items():
        cells = [f"<td>{100 * one[name]['accuracy']:.1f}</td>" for one in others]
        ece = f"{figures['ece']:.3f}" if "ece" in figures else ""
        total = ' class="total"' if name in ("all", "mean of files") else ""
        rows.append(
            f"<tr{total}><td>{escaped(name).replace('_', '_<wbr>')}</td><td>{figures['pairs']:,}</td>"
            f"<td>{100 * figures['accuracy']:.1f}</td><td><small>{_interval(figures)}</small></td>"
            f'<td class="wide optional">{track(figures, [one[name]["accuracy"] for one in others])}</td>'
            f"{''.join(cells)}<td>{ece}</td></tr>"
        )
    head = "".join(f"<th>{escaped(name)}</th>" for name in names)
    return [
        "<h2>Accuracy by source</h2>",
        '<p class="sub">Percent of pairs whose chosen response scores higher; a tie is wrong. Intervals resample whole '
        "prompts, where there are at least ten. Ticks on a line are the other systems on the same rows.</p>",
        '<div class="scroll"><table><thead><tr><th>rows</th><th>pairs</th><th>accuracy</th><th>95% interval</th>'
        f'<th class="optional">0 to 100%</th>{head}<th>ECE</th></tr></thead>',
        f"<tbody>{''.join(rows)}</tbody></table></div>",
    ]


def _held_out_charts(figures: dict[str, Any], metrics: dict[str, Any], unit: str) -> list[str]:
    length = figures["length"]
    over, within = (_rho(length[name]) for name in ("rank_correlation", "rank_correlation_within_pairs"))
    shown = f"{POINTS:,} of {length['responses']:,}" if length["responses"] > POINTS else f"all {length['responses']:,}"
    sections = [
        (
            "reliability",
            "Reliability",
            f"How often the model is right when it is this sure. Expected calibration error {figures['ece']:.3f}.",
        ),
        (
            "rewards",
            f"{unit.capitalize()} rewards",
            f"Of chosen and of rejected responses. Median {signed(metrics['median_reward'], 3)}; the outermost bins "
            "hold what lies beyond them.",
        ),
        (
            "length",
            f"Score and number of {unit}s",
            f"Rank correlation {over} over the responses, {within} within pairs, where the prompt is the same. "
            f"Points: {shown} responses.",
        ),
        (
            "weights",
            "Weight by position",
            "Median and middle half of the responses, in even shares: 1 is the weight if all boundaries had the same. "
            f"0 is the prompt's; {POSITIONS + 1}+ are the later ones before the last.",
        ),
    ]
    if unit == "response":
        sections = sections[:2]
    parts = [
        f'<section><h2>{heading}</h2><p class="sub">{line}</p>{chart_box(name, heading)}</section>'
        for name, heading, line in sections
    ]
    return ['<div class="split">', *parts, "</div>"]


def _rho(number: float | None) -> str:
    return "not defined (all equal)" if number is None else signed(number)


def _most_wrong(metrics: dict[str, Any], scored: Sequence[ScoredPair], unit: str) -> list[str]:
    pairs, wrong = most_wrong(scored), sum(pair.margin <= 0 for pair in scored)
    if not pairs:
        return ["<h2>Most wrong pairs</h2>", '<p class="sub">No held-out pair has its rejected response ahead.</p>']
    ramp = PALETTES["RdBu"]
    median, running = metrics["median_reward"], unit in ("token", "segment")
    scale = Scale.around(median, [r for pair in pairs for side in (pair.a, pair.b) for r in side.rewards[1:]])

    def side(name: str, response: ScoredResponse) -> str:
        even = even_share(response)
        rows = []
        terms = zip(response.sentences, response.rewards[1:], response.weights[1:], strict=True)
        for i, (sentence, reward, weight) in enumerate(terms, start=1):
            colour = ramp[scale.class_of(reward)]
            told = f"reward {signed(reward)}, weight {weight_of(response.weights, i)}"
            if running:  # a token or segment stands where it stood, white space and all
                rows.append(f'<span style="background: {colour}" title="{told}">{escaped(sentence)}</span>')
                continue
            bar = 100 * max(0.0, min(1.0, weight / even / FULL_BAR if even else 0.0))
            rows.append(
                f'<p class="s" style="background: {colour}; --bar: {bar:.1f}%" title="{told}">'
                f"<b>{signed(reward)}</b>{escaped(sentence.strip()) or '(white space)'}</p>"
            )
        if running:
            rows = [f'<p class="running">{"".join(rows)}</p>']
        if response.dropped_sentences:
            unread = response.text[response.spans[-1].end if response.spans else 0 :]
            note = f"not read: {counted(response.dropped_sentences, unit)}"
            rows.append(f'<p class="unread"><small>{note}</small>\n{escaped(unread.strip())}</p>')
        size = counted(sum(response.tokens), "token")
        if unit not in ("token", "response"):
            size = f"{counted(len(response.spans), unit)} · {size}"
        head = f"<h3><span>{name} · score {signed(response.score)}</span><span>{size}</span></h3>"
        return f'<div>{head}<div class="response" tabindex="0">{"".join(rows)}</div></div>'

    cards = [
        f'<article class="wrong"><h3><b>margin {signed(pair.margin)}</b><span>{escaped(pair.id)}</span></h3>'
        f"{_prompt(pair.prompt)}"
        f'<div class="pair">{side("chosen", pair.a)}{side("rejected", pair.b)}</div></article>'
        for pair in pairs
    ]
    explained = f"bar under a {unit}: its weight; full width = {FULL_BAR:g} even shares"
    if running:
        explained = f"point at a {unit} for its reward and weight"
    ticks, classes = scale.ticks, "".join(f'<i style="background: {colour}"></i>' for colour in ramp)
    return [
        "<h2>Most wrong pairs</h2>",
        f'<p class="sub">{counted(wrong, "pair")} of {len(scored):,} have the rejected response ahead, or level. Here '
        "are those furthest off, one a prompt: the label may be what is wrong.</p>",
        f'<div class="legend"><span>reward, logits above the median {unit} ({signed(median)})</span>'
        f'<span class="ramp">{classes}'
        f"<span><b>{ticks[0]}</b><b>0</b><b>{ticks[-1]}</b></span></span>"
        f"<span>{explained}</span></div>",
        *cards,
    ]


def _prompt(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        whole = last = prompt
    else:
        whole = "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)
        last = prompt[-1]["content"] if prompt else ""
    line = " ".join(last.split())
    brief = escaped(line if len(line) <= 160 else line[:159] + "…") or "(empty prompt)"
    return f'<details><summary>{brief}</summary><p class="text">{escaped(whole)}</p></details>'


def _run(metrics: dict[str, Any]) -> list[str]:
    rows = [
        f"<tr><td>{escaped(name.replace('_', ' '))}</td><td>{metrics['truncation'].get(name, 0):,}</td>"
        f"<td>{count:,}</td></tr>"
        for name, count in metrics["held_out_truncation"].items()
    ]
    facts: dict[str, Any] = {"seed": metrics["seed"]}
    for name, value in metrics.get("batching", {}).items():
        facts[name.replace("_", " ")] = _share(value) if isinstance(value, float) else value
    facts |= {"versions": ", ".join(f"{name} {number}" for name, number in metrics.get("versions", {}).items())}
    return [
        "<h2>What was left out</h2>",
        '<p class="sub">A pair is too long where not even a first sentence fits; else whole sentences are dropped from '
        "the end of a response, and the prompt is cut on the left.</p>",
        '<table class="narrow"><thead><tr><th></th><th>training</th><th>held out</th></tr></thead>',
        f"<tbody>{''.join(rows)}</tbody></table>",
        "<h2>The run</h2>",
        f'<dl class="run"><dt>command</dt><dd><code>{escaped(metrics["command"])}</code></dd>',
        *[f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in facts.items() if value != ""],
        "</dl>",
    ]
