"""Tables as HTML: plain cells in, a captioned table with scopes out; and the tables of metrics and comparisons."""

from collections.abc import Sequence
from html import escape

from hlas.report.content import (
    COMPARISON_COLUMNS,
    METRIC_COLUMNS,
    Report,
    comparison_cells,
    metric_cells,
    table_note,
)
from hlas.report.evaluate import SplitResult
from hlas.report.hearing import HEARING_COLUMNS, hearing_note, hearing_rows
from hlas.summary import duration


def table(
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Sequence[int] = (),
    style: str = "",
    best: int | None = None,
) -> str:
    """A table that scrolls by itself where it is too wide; the first cell of each row is its head.

    Cells are plain text. `numbers` are the columns that are set flush right, `best` is a row to stand out.
    """

    def kind(column: int) -> str:
        return ' class="n"' if column in numbers else ""

    top = "".join(f'<th scope="col"{kind(i)}>{escape(name)}</th>' for i, name in enumerate(head))
    body = []
    for place, row in enumerate(rows):
        cells = "".join(f"<td{kind(i)}>{escape(cell)}</td>" for i, cell in enumerate(row[1:], 1))
        mark = ' class="best"' if place == best else ""
        body.append(f'<tr{mark}><th scope="row">{escape(row[0])}</th>{cells}</tr>')
    named = f"<caption><span>{escape(caption)}</span></caption>" if caption else ""
    look = f' class="{style}"' if style else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption or head[0], quote=True)}">'
        f"<table{look}>{named}<thead><tr>{top}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def pairs(items: Sequence[tuple[str, str]]) -> str:
    """A list of terms and what they are."""
    content = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in items)
    return f"<dl>{content}</dl>" if content else ""


def metrics_tables(report: Report) -> str:
    """One table a split, the systems in the recipe's order."""
    out = []
    for result in report.results:
        names = [item.name + (" (baseline)" if item.name == result.baseline else "") for item in result.systems]
        rows = [[name, *metric_cells(result, item)] for name, item in zip(names, result.systems, strict=True)]
        score = result.systems[0].score
        caption = (
            f"{result.split}: {score.utterances} utterances, {score.words} words, {duration(result.systems[0].audio_s)}"
        )
        head = ("system", *METRIC_COLUMNS)
        best = result.systems.index(result.ranked[0])
        out.append(table(caption, head, rows, numbers=range(1, len(head)), style="wide metrics", best=best))
        out.append(f'<p class="caption">{escape(table_note(report, result))}</p>')
        out.append(_hearing_table(result))
    return "\n".join(filter(None, out))


def _hearing_table(result: SplitResult) -> str:
    """What each Whisper was told and doubts; '' where none is among the systems."""
    rows = hearing_rows(result)
    if not rows:
        return ""
    numbers = range(HEARING_COLUMNS.index("doubted texts"), len(HEARING_COLUMNS))
    caption = f"{result.split}: what Whisper was told, and texts that it doubts itself"
    note = hearing_note(result)
    under = f'\n<p class="caption">{escape(note)}</p>' if note else ""
    return table(caption, HEARING_COLUMNS, rows, numbers=numbers, style="wide hearing") + under


def comparison_tables(report: Report) -> str:
    """Every comparison that was made, one table a split; '' where none was."""
    out = []
    for result in report.results:
        if result.comparisons:
            rows = [comparison_cells(c) for c in result.comparisons]
            numbers = [i for i, name in enumerate(COMPARISON_COLUMNS) if name not in ("systems", "real?")]
            out.append(table(_tests(result), COMPARISON_COLUMNS, rows, numbers=numbers, style="wide"))
    if out:
        out.append(f'<p class="caption">{escape(_COMPARISON_NOTE)}</p>')
    return "\n".join(out)


_COMPARISON_NOTE = (
    "A negative difference says that the first of the two makes fewer errors. Real: p after Holm's correction for all "
    "pairs of systems is below 0.05. MAPSSWE, the matched-pairs test over stretches of speech, is a second opinion. "
    "Audio needed: of such speech for a difference of this size to show with 80 % power; where it is more than was "
    "compared, more test data could still decide."
)


def _tests(result: SplitResult) -> str:
    return f"{result.split}: {result.comparisons[0].test}"
