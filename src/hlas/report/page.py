"""The report as one HTML file that needs no network and no script: page.html filled with the sections below."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template

from hlas.report.content import (
    CURVE_CAPTION,
    METRIC_COLUMNS,
    TERMS,
    Report,
    metric_cells,
    notes,
    stage_facts,
    stage_title,
    table_note,
)
from hlas.report.facts import FactTable
from hlas.report.figure import curve_svg, ladder_svg
from hlas.report.headline import headline, percent
from hlas.report.ladder import ladder
from hlas.report.provenance import machine, read_curve, versions
from hlas.report.systems import System
from hlas.report.utterances import utterances_html
from hlas.summary import duration


def page(report: Report) -> str:
    """The whole document."""
    sections = [
        ("ladder", "Word error rates", _ladder(report)),
        ("metrics", "All metrics", _metrics(report)),
        ("tuning", "Tuning of the beam search", _tuning(report)),
        ("data", "Data and models", _data(report)),
        ("utterances", "Utterances", utterances_html(report)),
        ("made", "How it was made", _made(report)),
        ("terms", "Terms", _list(TERMS)),
    ]
    filled = [(key, name, body) for key, name, body in sections if body]
    sentences = headline(report.first)
    summary = f'<p class="lead">{escape(sentences[0])}</p>\n' + "".join(f"<p>{escape(s)}</p>\n" for s in sentences[1:])
    template = Template(files("hlas.report").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(f"{report.title}: speech recognition report"),
        heading=f"<b>{escape(report.title)}</b> · {escape(report.subtitle)}",
        summary=summary + _notes(notes(report)),
        navigation=" ".join(f'<a href="#{key}">{escape(name)}</a>' for key, name, _ in filled),
        sections="\n".join(
            f'<section id="{key}">\n<h2>{escape(name)}</h2>\n{body}\n</section>' for key, name, body in filled
        ),
    )


def _notes(lines: Sequence[str]) -> str:
    return '<ul class="notes">' + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>" if lines else ""


def _list(pairs: Sequence[tuple[str, str]]) -> str:
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in pairs)
    return f"<dl>{items}</dl>" if items else ""


def _ladder(report: Report) -> str:
    result = report.first
    rungs = ladder(result)
    caption = [
        f"Word error rate on {result.split}: {result.systems[0].score.utterances} utterances, "
        f"{result.systems[0].score.words} words. Lines across the bars are 95 % intervals."
    ]
    if any(r.kind == "oracle" for r in rungs):
        caption.append("Dashed bars: what would be left if the best entry of every n-best list were known.")
    if any(r.oov_share is not None for r in rungs):
        caption.append("Red marks: share of words that the LM does not know, which its search can hardly get below.")
    figure = ladder_svg(rungs, result.ranked[0].name, result.baseline)
    return f'{figure}\n<p class="caption">{escape(" ".join(caption))}</p>'


def _metrics(report: Report) -> str:
    out = []
    for result in report.results:
        head = "".join(f'<th class="n">{escape(name)}</th>' for name in METRIC_COLUMNS)
        body = []
        for item in result.systems:
            cells = metric_cells(result, item)
            best = ' class="best"' if item is result.ranked[0] else ""
            values = "".join(
                f'<td class="n{" wer" if i == 0 else ""}">{escape(cell)}</td>' for i, cell in enumerate(cells)
            )
            base = ' <span class="soft">baseline</span>' if item.name == result.baseline else ""
            body.append(f"<tr{best}><th>{escape(item.name)}{base}</th>{values}</tr>")
        score = result.systems[0].score
        out.append(
            f"<h3>{escape(result.split)}: {score.utterances} utterances, {score.words} words, "
            f"{escape(duration(result.systems[0].audio_s))}</h3>"
            f'<div class="scroll" tabindex="0"><table class="metrics"><thead><tr><th>system</th>{head}</tr></thead>'
            f"<tbody>{''.join(body)}</tbody></table></div>"
            f'<p class="caption">{escape(table_note(report, result))}</p>'
        )
    return "\n".join(out)


def _tuning(report: Report) -> str:
    systems = {item.name: item.system for result in report.results for item in result.systems if item.system.tuning}
    return "\n".join(f"<h3>{escape(name)}</h3>{_heat(system)}" for name, system in systems.items())


def _heat(system: System) -> str:
    table, chosen, split = system.tuning, system.chosen, system.tuned_on or "the tuning split"
    alphas, betas = sorted({p.alpha for p in table}), sorted({p.beta for p in table})
    by_place = {(p.alpha, p.beta): p for p in table}
    low, high = min(p.wer for p in table), max(p.wer for p in table)
    rows = []
    for alpha in alphas:
        cells = []
        for beta in betas:
            point = by_place.get((alpha, beta))
            if point is None:
                cells.append("<td></td>")
                continue
            heat = 0.55 * (high - point.wer) / (high - low) if high > low else 0.0
            mark = ' class="chosen"' if chosen and (chosen.alpha, chosen.beta) == (alpha, beta) else ""
            cells.append(
                f'<td{mark} style="--h:{heat:.2f}" title="CER {percent(point.cer)}">{100 * point.wer:.1f}</td>'
            )
        rows.append(f'<tr><th class="n">{alpha:g}</th>{"".join(cells)}</tr>')
    head = "".join(f"<th>{beta:g}</th>" for beta in betas)
    best = f" Chosen: alpha {chosen.alpha:g}, beta {chosen.beta:g}, {percent(chosen.wer)}." if chosen else ""
    return (
        f'<div class="scroll" tabindex="0"><table class="heat"><thead><tr><th>alpha \\ beta</th>{head}</tr></thead>'
        f'<tbody>{"".join(rows)}</tbody></table></div><p class="caption">WER in % on {escape(split)} by LM weight '
        f"(alpha, rows) and word bonus (beta, columns); the stronger the colour, the fewer errors; "
        f"empty: not tried.{escape(best)}</p>"
    )


def _data(report: Report) -> str:
    out = []
    for folder, record, facts in stage_facts(report.provenance):
        whole_row = ' class="whole"' if facts.tables else ""
        out.append(f"<div{whole_row}><h3>{escape(stage_title(record))}</h3>")
        if record.kind == "train" and (points := read_curve(folder)):
            out.append(f'<div class="curve">{curve_svg(points)}</div>')
            out.append(f'<p class="caption">{escape(CURVE_CAPTION)}</p>')
        out += [_list(facts.pairs), *map(_fact_table, facts.tables), "</div>"]
    return '<div class="stages">\n' + "\n".join(out) + "\n</div>" if out else ""


def _fact_table(table: FactTable) -> str:
    columns = list(zip(*table.rows, strict=True))[1:]
    kinds = [' class="n"' if all(cell[:1].isdigit() for cell in column) else "" for column in columns]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, table.head[1:], strict=True))
    rows = "".join(
        f"<tr><th>{escape(row[0])}</th>"
        + "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row[1:], strict=True))
        + "</tr>"
        for row in table.rows
    )
    name = f"<th>{escape(table.name)}</th>"
    return (
        f'<div class="scroll" tabindex="0"><table class="facts"><thead><tr>{name}{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _made(report: Report) -> str:
    rows = "".join(
        f"<tr><td>{escape(record.name)}</td><td>{escape(record.kind)}</td>"
        f'<td class="n">{escape(duration(record.seconds))}</td><td>{escape(record.finished)}</td>'
        f"<td>{escape(machine(record))}</td>"
        f"<td><code>{escape(str(record.environment.get('commit') or '–'))}</code></td>"
        f"<td><code>{escape(folder.name)}</code></td></tr>"
        for folder, record in report.provenance.stages
    )
    head = "".join(
        f"<th>{name}</th>" for name in ("stage", "kind", "took", "finished (UTC)", "machine", "commit", "folder")
    )
    commands = sorted(
        {str(r.environment["command"]) for _, r in report.provenance.stages if r.environment.get("command")}
    )
    parameters = "".join(
        f"<details><summary>{escape(record.name)}</summary>{_list(pairs)}</details>"
        for record, pairs in report.parameters
    )
    return (
        "".join(f"<p><code>{escape(command)}</code></p>" for command in commands)
        + f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        + f'<p class="caption">All stages together took {escape(duration(report.provenance.seconds))}.</p>'
        + f"<h3>Versions</h3>{_list(list(versions(report.provenance).items()))}"
        + f"<h3>Parameters of each stage</h3>{parameters}"
    )
