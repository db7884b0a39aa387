"""The report as Markdown: the same summary, tables and provenance as the page, without figures and the browser."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from hlas.report.breakdown import Breakdown, Confusion
from hlas.report.content import (
    COMPARISON_COLUMNS,
    METRIC_COLUMNS,
    STAGE_COLUMNS,
    TERMS,
    Report,
    comparison_cells,
    metric_cells,
    notes,
    stage_cells,
    stage_facts,
    stage_title,
    table_note,
)
from hlas.report.evaluate import SplitResult
from hlas.report.headline import headline, percent, points
from hlas.report.hearing import HEARING_COLUMNS, hearing_note, hearing_rows
from hlas.report.ladder import ladder
from hlas.report.provenance import versions
from hlas.report.spread import BINS, wer_shares

_TUNING_ROWS = 8  # best points shown for each system; the page shows all
_LISTED = 8  # confusions of a kind, utterances; metrics.json has more


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
        if told := hearing_rows(result):
            blocks += [_table(HEARING_COLUMNS, told), _plain(hearing_note(result))]
        if result.comparisons:
            blocks.append(_table(COMPARISON_COLUMNS, map(comparison_cells, result.comparisons)))
    blocks += _spread(report.first) + _groups(report.first) + _words(report.first) + _worst(report.first)
    if tuned := _tuning(report):
        blocks += ["## Tuning of the beam search", tuned]
    if facts := stage_facts(report.provenance):
        blocks.append("## Data and models")
        for _, record, of_stage in facts:
            blocks += [f"### {_plain(stage_title(record))}", _pairs(of_stage.pairs)]
            blocks += [_table((table.name, *table.head[1:]), table.rows) for table in of_stage.tables]
    blocks += ["## How it was made", *_made(report)]
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


def _spread(result: SplitResult) -> list[str]:
    """The share of the utterances in each bin of their own WER, as the page's histograms show it."""
    edges = BINS[:-1]
    head = ("system", "0 %", *(f"> {low} to {high} %" for low, high in pairwise(edges)), f"> {edges[-1]} %")
    rows = [[item.name, *(percent(share, 0) for share in wer_shares(item.score))] for item in result.systems]
    return [f"## Share of the {result.split} utterances by their own WER", _table(head, rows)]


def _groups(result: SplitResult) -> list[str]:
    """A table for each breakdown, and its fairness gaps."""
    names = [item.name for item in result.systems]
    blocks = []
    for breakdown in result.analysis.breakdowns:
        rows = [
            [
                group.label + (" (few words)" if group.small else ""),
                str(group.utterances),
                str(group.words),
                *(_interval(score.wer, score.ci95) for score in group.scores),
            ]
            for group in breakdown.groups
        ]
        head = (breakdown.title, "utterances", "words", *(f"{name}: WER %" for name in names))
        blocks += [f"### {_plain(breakdown.title)}", _plain(breakdown.note), _table(head, rows), _gaps(breakdown)]
    return [f"## Word error rates of groups on {result.split}", *blocks] if blocks else []


def _gaps(breakdown: Breakdown) -> str:
    return "\n".join(
        f"- {_plain(gap.system)}: {100 * gap.gap:.1f} points between {_plain(gap.worst)} and {_plain(gap.best)} "
        f"({points(gap.ci95[0])} … {points(gap.ci95[1])}): {'real' if gap.shown else 'may be chance'}"
        for gap in breakdown.gaps
    )


def _words(result: SplitResult) -> list[str]:
    """What each system confuses, and what it alone gets right."""
    analysis = result.analysis
    rows = [
        [c.system, _confused(c.substituted), _confused(c.deleted), _confused(c.inserted), _confused(c.characters)]
        for c in analysis.confusions
    ]
    blocks = [
        f"## Words on {result.split}",
        _table(("system", "heard as another", "missed", "too many", "characters"), rows),
    ]
    if analysis.only_right:
        alone = [
            [o.system, str(o.words), ", ".join(f"{word} {count}×" for word, count in o.commonest[:_LISTED])]
            for o in analysis.only_right
        ]
        blocks.append(_table(("system", "words that it alone gets right", "the commonest"), alone))
    if analysis.vocabulary:
        known = [
            [v.system, _share(v.known_right, v.known_words), _share(v.oov_right, v.oov_words)]
            for v in analysis.vocabulary
        ]
        head = ("system", f"words that {analysis.lm} knows, right", "words that it does not know, right")
        blocks.append(_table(head, known))
    return blocks


def _confused(pairs: Sequence[Confusion]) -> str:
    return ", ".join(f"{_arrow(c)} {c.count}×" for c in pairs[:_LISTED])


def _arrow(confusion: Confusion) -> str:
    sides = (confusion.reference.replace(" ", "␣"), confusion.hypothesis.replace(" ", "␣"))
    return " → ".join(filter(None, sides))


def _share(right: int, words: int) -> str:
    return f"{percent(right / words)} of {words}" if words else "–"


def _worst(result: SplitResult) -> list[str]:
    """The utterances that the best system gets most wrong."""
    best = result.ranked[0]
    indices = result.analysis.worst[result.systems.index(best)][:_LISTED]
    rows = [
        [
            result.rows[i].utterance,
            f"{best.score.utterance_errors[i]} of {best.score.utterance_words[i]}",
            best.hypotheses[i].row.text,
            best.hypotheses[i].pred_text,
        ]
        for i in indices
    ]
    head = ("utterance", "errors of words", "reference", best.name)
    return [f"## Worst utterances of {_plain(best.name)} on {result.split}", _table(head, rows)] if rows else []


def _interval(wer: float | None, interval: tuple[float, float] | None) -> str:
    if wer is None or interval is None:
        return "–"
    return f"{100 * wer:.1f} ({100 * interval[0]:.1f}–{100 * interval[1]:.1f})"


def _tuning(report: Report) -> str:
    systems = {item.name: item.system for result in report.results for item in result.systems if item.system.tuning}
    rows = [
        [
            name,
            f"{point.alpha:g}",
            f"{point.beta:g}",
            percent(point.wer),
            percent(point.cer),
            "yes" if point == s.chosen else "" if point.redecoded else "estimated",
        ]
        for name, s in systems.items()
        for point in sorted(s.tuning, key=lambda p: p.wer)[:_TUNING_ROWS]
    ]
    return _table(("system", "alpha", "beta", "WER", "CER", "chosen"), rows) if rows else ""


def _made(report: Report) -> list[str]:
    rows = stage_cells(report.provenance, unknown="")
    blocks = [f"Command: `{report.command.replace('`', ' ')}`"]
    blocks += [_table(STAGE_COLUMNS, rows)] if rows else []
    blocks += ["### Fingerprints", _pairs(report.fingerprints)] if report.fingerprints else []
    blocks += ["### Versions", _pairs(versions(report.provenance).items())] if rows else []
    for name, text in report.recipes:
        blocks += [f"### Recipe {_plain(name)}, resolved", _indented(text)]
    return blocks


def _indented(text: str) -> str:
    """A block of code, by indentation: nothing in it can end it."""
    return "\n".join(f"    {line}" for line in text.rstrip("\n").split("\n"))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [list(head), ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"- {_plain(key)}: {_plain(value)}" for key, value in pairs)


def _plain(text: str) -> str:
    """Text that Markdown shows as it stands: no cell ends, no emphasis, no HTML, no entity."""
    text = " ".join(text.split(" ")).replace("\n", " ")
    for mark in "\\|*_`<[&~":
        text = text.replace(mark, "\\" + mark)
    return text
