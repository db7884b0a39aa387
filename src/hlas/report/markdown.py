"""The report as Markdown: the same summary, tables and provenance as the page, without figure and utterances."""

from collections.abc import Iterable, Sequence

from hlas.report.content import METRIC_COLUMNS, TERMS, Report, metric_cells, notes, stage_facts, stage_title, table_note
from hlas.report.headline import headline, percent
from hlas.report.ladder import ladder
from hlas.report.provenance import machine, versions
from hlas.summary import duration

_TUNING_ROWS = 8  # best points shown for each system; the page shows all


def markdown(report: Report) -> str:
    """The whole document."""
    blocks = [f"# {_plain(report.title)}", _plain(report.subtitle), _plain(" ".join(headline(report.first)))]
    blocks.append("\n".join(f"- {_plain(line)}" for line in notes(report)))
    blocks += [f"## Word error rates on {report.first.split}", _ladder(report)]
    for result in report.results:
        score = result.systems[0].score
        blocks.append(f"## Metrics on {result.split}: {score.utterances} utterances, {score.words} words")
        rows = [
            [item.name + (" (baseline)" if item.name == result.baseline else ""), *metric_cells(result, item)]
            for item in result.systems
        ]
        blocks.append(_table(("system", *METRIC_COLUMNS), rows))
        blocks.append(_plain(table_note(report, result)))
    if tuned := _tuning(report):
        blocks += ["## Tuning of the beam search", tuned]
    if facts := stage_facts(report.provenance):
        blocks.append("## Data and models")
        for _, record, of_stage in facts:
            blocks += [f"### {_plain(stage_title(record))}", _pairs(of_stage.pairs)]
            blocks += [_table((table.name, *table.head[1:]), table.rows) for table in of_stage.tables]
    blocks += ["## How it was made", _made(report), _pairs(versions(report.provenance).items())]
    blocks += ["## Terms", _pairs(TERMS)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _ladder(report: Report) -> str:
    rows = []
    for rung in ladder(report.first):
        interval = "" if rung.wer_ci95 is None else f"{100 * rung.wer_ci95[0]:.1f}–{100 * rung.wer_ci95[1]:.1f}"
        rows.append(
            [rung.label, percent(rung.wer), interval, "" if rung.oov_share is None else percent(rung.oov_share)]
        )
    return _table(("system", "WER", "95 % interval", "words unknown to the LM"), rows)


def _tuning(report: Report) -> str:
    systems = {item.name: item.system for result in report.results for item in result.systems if item.system.tuning}
    rows = [
        [
            name,
            f"{point.alpha:g}",
            f"{point.beta:g}",
            percent(point.wer),
            percent(point.cer),
            "yes" * (point == s.chosen),
        ]
        for name, s in systems.items()
        for point in sorted(s.tuning, key=lambda p: p.wer)[:_TUNING_ROWS]
    ]
    return _table(("system", "alpha", "beta", "WER", "CER", "chosen"), rows) if rows else ""


def _made(report: Report) -> str:
    rows = [
        [
            r.name,
            r.kind,
            duration(r.seconds),
            r.finished,
            machine(r),
            str(r.environment.get("commit") or ""),
            folder.name,
        ]
        for folder, r in report.provenance.stages
    ]
    return _table(("stage", "kind", "took", "finished (UTC)", "machine", "commit", "folder"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [list(head), ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"- {_plain(key)}: {_plain(value)}" for key, value in pairs)


def _plain(text: str) -> str:
    """Text that Markdown shows as it stands: no cell ends, no emphasis, no HTML."""
    text = " ".join(text.split(" ")).replace("\n", " ")
    for mark in "\\|*_`<[":
        text = text.replace(mark, "\\" + mark)
    return text
