"""The result of an evaluation as plain text, as Markdown, and as one HTML page that opens anywhere.

Decisions:
- All three show the same tables, those of `evaluation_tables`.
- The page is the training report's: its style sheet, its charts, its escaping. Text from data passes `escaped`,
  `_label` or `_markdown`, or a rich `Text`, which knows no markup.
- A chart is never alone: its numbers stand in a table too.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from .charts import Chart, auroc_chart, quintiles_chart
from .evaluation_tables import (
    BLIND,
    INTERVAL,
    LONGER,
    MEASURES,
    SHORTER,
    Cell,
    Result,
    Table,
    by_subset,
    cite,
    headline,
    intervals,
    left_out,
    length_rules,
    line,
    number,
    origin,
    setup,
    share,
    sources,
    spoken,
    tables,
    three,
    title,
    verdict,
    whole,
    with_intervals,
    written,
)
from .measures import Estimate
from .page import chart_box, escaped, page, track
from .watch import show

SPARED = (LONGER, SHORTER, "responses", "bad", "random")  # columns that a narrow console goes without


def print_result(result: Result, console: Console | None = None) -> None:
    """The tables as plain text; a table that is too wide for the console goes without the columns of `SPARED`."""
    console = console or Console()
    name, figure = headline(result)
    show(Text(line(f"{title(result)}: {name} {written(figure)}"), style="bold"), console)
    show(Text(line(f"{setup(result)}. {verdict(result)}")), console)
    for table in tables(result):
        header, rows = with_intervals(table)
        for spared in ((), SPARED):
            printed = RichTable(box=None, pad_edge=False, header_style="bold")
            kept = [i for i, heading in enumerate(header) if heading not in spared]
            for i in kept:
                left = i == 0 or header[i] == "good"
                heading = header[i] if left or header[i] == INTERVAL else header[i].replace(" ", "\n")
                printed.add_column(heading, justify="left" if left else "right", no_wrap=i > 0, vertical="bottom")
            for row in rows:
                printed.add_row(*(Text(line(row[i]), overflow="fold") for i in kept))
            if console.measure(printed, options=console.options.update(max_width=1000)).maximum <= console.width:
                break
        show(Text(f"\n{table.title}", style="bold"), console)
        show(printed, console)
    show(Text(""), console)
    for told in (*left_out(result), intervals(result), result["command"], origin(result)):
        show(Text(line(told)), console)


def markdown(result: Result) -> str:
    """The tables in Markdown, for a model card or a page of results; intervals stand in brackets."""
    name, figure = headline(result)
    parts = [f"**{_markdown(title(result))}: {_markdown(name)} {written(figure)}.** {_markdown(verdict(result))}"]
    for table in tables(result):
        rules = ["---", *("---:" for _ in table.header[1:])]
        rows = [table.header, *([written(cell) for cell in row] for row in table.rows)]
        lines = ["| " + " | ".join(map(_markdown, row)) + " |" for row in rows]
        parts.append("\n".join([f"**{table.title}.** {table.note}", "", lines[0], f"|{'|'.join(rules)}|", *lines[1:]]))
    command = line(result["command"]).replace("`", "'")
    parts.append(" ".join([*map(_markdown, left_out(result)), intervals(result)]))
    parts.append(f"`{command}` ({_markdown(origin(result))})")
    return "\n\n".join(parts) + "\n"


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*\[\]<>|~&])", r"\\\1", line(text))


def html_page(result: Result) -> str:
    """One HTML file with everything in it: figures, subsets, length, measures, sentences, and how to run it again."""
    charts = _charts(result)
    parts = [
        *_headline_section(result),
        *[part for table in tables(result) for part in _section(table, result, charts)],
        *_end(result),
    ]
    return page(title(result), "evaluation", escaped(setup(result)), parts, {"charts": charts, "result": result})


def _charts(result: Result) -> dict[str, Chart]:
    """Charts by the name of the table they stand above."""
    charts = {}
    if measures := result.get("measures"):
        charts["length"] = quintiles_chart([one for one in measures["length_quintiles"] if one["comparisons"]])
    if sentences := result.get("sentences"):
        charts["sentences"] = auroc_chart([(spoken(name), one) for name, one in whole(sentences)["auroc"].items()])
        if len(sentences) > 1:
            rewards = [(_label(name), one["auroc"]["reward"]) for name, one in sentences.items()]
            charts["sentence-subsets"] = auroc_chart(rewards)
    return charts


def _label(name: str) -> str:
    """A name from data as an axis of plotly takes it, which reads tags and entities."""
    told = line(name)
    return html.escape(told if len(told) <= 24 else told[:23] + "…", quote=False)


def _headline_section(result: Result) -> list[str]:
    name, (figure, interval) = headline(result)
    told: Callable[[float], str] = share
    facts = [("items", f"{result['items']:,}")]
    if measures := result.get("measures"):
        ours, what = measures["accuracy"], "accuracy over all comparisons"
        rules = length_rules(result)
        facts += [("responses", f"{result['responses']:,}"), ("comparisons", f"{measures['comparisons']:,}")]
        facts += [("ties", f"{measures['ties']:,}")]
    if sentences := result.get("sentences"):
        every = whole(sentences)
        auroc = every["auroc"]["reward"]
        facts += [("marked responses", f"{every['responses']:,}")]
        facts += [("labelled sentences", f"{every['labelled']:,}"), ("of them bad", f"{every['bad']:,}")]
        if measures:
            facts += [("AUROC of reward", number(auroc, three)[0])]
        else:
            ours, told, what = auroc, three, "AUROC of reward"
            rules = {rule: every["auroc"][rule]["value"] for rule in BLIND}
    others = {rule: value for rule, value in rules.items() if value is not None}
    ticks = " ".join(f"<span>{rule} {told(value)}</span>" for rule, value in others.items())
    return [
        f'<section class="verdict"><div><small>{escaped(name)}</small><b>{figure}</b>',
        f"<small>{f'95% interval {interval}' if interval else 'no interval'}</small></div>",
        f"<div><p>{escaped(verdict(result))}</p>{_bar(ours, list(others.values()))}",
        f'<div class="key"><span><i class="interval"></i>{what} {written(number(ours, told))}</span>',
        f"<span><i></i>others:</span>{ticks}</div></div></section>",
        '<dl class="facts">',
        *[f"<div><dt>{fact}</dt><dd>{value}</dd></div>" for fact, value in facts],
        "</dl>",
    ]


def _bar(estimate: Estimate, others: Sequence[float] = ()) -> str:
    if estimate["value"] is None:
        return ""
    figures = {"accuracy": estimate["value"]}
    if estimate["low"] is not None and estimate["high"] is not None:
        figures |= {"accuracy_low": estimate["low"], "accuracy_high": estimate["high"]}
    return track(figures, others)


def _section(table: Table, result: Result, charts: dict[str, Chart]) -> list[str]:
    """Heading, note, the chart where there is one, and the table; measures are a list with what each means."""
    heading = f'<h2 id="{table.name}-heading">{escaped(table.title)}</h2><p class="sub">{escaped(table.note)}</p>'
    if table.name == "follows":
        return [heading, '<dl class="measures">', *[_meant(row) for row in table.rows], "</dl>"]
    header, rows = with_intervals(table)
    bars = _bars(table.name, result)
    at = header.index(INTERVAL) + 1 if INTERVAL in header else len(header)
    heads = [f'<th scope="col">{escaped(name)}</th>' for name in header]
    if bars:
        heads.insert(at, '<th scope="col" class="optional">0 to 100%</th>')
    lines = []
    for i, row in enumerate(rows):
        cells = [f'<th scope="row">{escaped(row[0]).replace("_", "_<wbr>")}</th>']
        for name, cell in zip(header[1:], row[1:], strict=True):
            told = escaped(cell)
            cells.append(f"<td><small>{told}</small></td>" if name == INTERVAL else f"<td>{told}</td>")
        if bars:
            cells.insert(at, f'<td class="wide optional">{bars[i]}</td>')
        total = ' class="total"' if table.total and i == 0 else ""
        lines.append(f"<tr{total}>{''.join(cells)}</tr>")
    chart = chart_box(table.name, f"{table.title}: the numbers are in the table") if table.name in charts else ""
    return [
        heading,
        f'<div class="beside">{chart}' if chart else "",
        f'<div class="scroll" role="region" aria-labelledby="{table.name}-heading" tabindex="0">',
        f'<table><caption class="aside">{escaped(table.title)}</caption><thead><tr>{"".join(heads)}</tr></thead>',
        f"<tbody>{''.join(lines)}</tbody></table></div>{'</div>' if chart else ''}",
    ]


def _meant(row: tuple[Cell, ...]) -> str:
    """A measure: its name, its number with the interval, and a sentence on it."""
    (number, interval) = row[1] if isinstance(row[1], tuple) else (row[1], "")
    (meaning,) = [meaning for _, name, *_, meaning in MEASURES if name == row[0]]
    return f"<div><dt>{row[0]}</dt><dd><b>{number}</b> <small>{interval}</small></dd><dd>{escaped(meaning)}</dd></div>"


def _bars(table: str, result: Result) -> list[str]:
    if table == "figures":
        return [_bar(one) for one in result["figures"].values()]
    if table == "subsets":
        return [_bar(one["accuracy"], [one["always_longer"], one["always_shorter"]]) for _, one in by_subset(result)]
    return []


def _end(result: Result) -> list[str]:
    """What was left out, how the numbers are made again, and how they are cited."""
    model, segmenter, seconds = result["model"], result["segmenter"], result["seconds"]
    facts = {
        "data": "\n".join(sources(result)),
        "rows": "of the held-out tenth of prompts" if result["held_out"] else "all",
        "limit": "none" if result["limit"] is None else f"{result['limit']:,} items",
        "seed": str(result["seed"]),
        "model": f"{model['name']} · revision {model['revision'] or 'none'}",
        "segmenter": f"{segmenter['spec']} · revision {segmenter['revision'] or 'none'}",
        "commit": result["commit"] or "none",
        "date": result["date"],
        "took": f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.0f} min",
        "versions": ", ".join(f"{name} {release}" for name, release in result["versions"].items()),
    }
    return [
        '<h2>Left out and cut</h2><ul class="plain">',
        *[f"<li>{escaped(told)}</li>" for told in left_out(result)],
        "</ul>",
        f'<h2>Run it again</h2><p class="sub">{intervals(result)}</p>',
        f'<dl class="run"><dt>command</dt><dd><code>{escaped(result["command"])}</code></dd>',
        *[f"<dt>{name}</dt><dd>{escaped(told).replace(chr(10), '<br>')}</dd>" for name, told in facts.items()],
        "</dl>",
        '<h2>Cite it</h2><p class="sub">One sentence that says what was measured, and how.</p>',
        f'<p class="cite">{escaped(cite(result))}</p>',
    ]
