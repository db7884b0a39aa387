"""The utterances' section: the browser's empty frame, and the worst utterances for readers without script."""

from collections.abc import Mapping, Sequence
from html import escape

from hlas.report.content import Report
from hlas.report.diffs import Cell, word_grid
from hlas.report.page.browser_data import right_to_left, shown_systems
from hlas.report.page.clips import Clip

_WITHOUT_SCRIPT = 30  # utterances shown where no script runs
_SYSTEMS_WITHOUT_SCRIPT = 6

_LEGEND = (
    '<p class="caption legend"><span><span class="substitute">word</span> another word</span>'
    '<span><span class="delete">—</span> missing</span> <span><span class="insert">word</span> too many</span></p>'
)

# what the fields offer is filled in by the script, from the same lists that it filters and sorts by
_BROWSER = """<div id="browser" hidden>
<form id="controls" aria-label="Find utterances"><div class="fields">
<label class="wide">Search in references, transcripts, names and speakers<input type="search" name="query"></label>
<label>Show<select name="outcome"></select></label>
<label>System A<select name="a"></select></label>
<label>System B<select name="b"></select></label>
<label>Sort<select name="sort"></select></label>
<label>Group by<select name="group"></select></label>
<label>Group<select name="value"></select></label>
</div>
<details><summary>Systems in the rows</summary><fieldset id="shown"><legend class="hear">Systems in the rows</legend>
</fieldset></details>
<div class="count"><span role="status" id="status"></span><button type="button" id="lift">Reset</button></div>
</form>
$legend
<ol id="list"></ol>
<div class="pager"><button type="button" data-page="-1">Previous</button>
<button type="button" data-page="1">Next</button></div>
</div>"""


def utterances_html(report: Report, order: Sequence[int], clips: Mapping[int, Clip]) -> str:
    """The section's content; `order` are the utterances that the page holds, `clips` the audio among them."""
    result = report.first
    total = result.systems[0].score.utterances
    best = result.ranked[0].name
    count = f"All {total}" if len(order) == total else f"{len(order)} of the {total}"
    heard = f" {len(clips)} of them can be played." if clips else ""
    own = "" if result.same_text else " Each system is scored against its own references; the rows show one of them."
    worst = "\n".join(utterance_html(report, index) for index in order[:_WITHOUT_SCRIPT])
    return (
        f'<p class="caption">{count} {escape(result.split)} utterances, those in which {escape(best)} makes the most '
        f"errors first.{heard}{own} Every utterance is in hypotheses/SYSTEM.{escape(result.split)}.csv.</p>\n"
        + _BROWSER.replace("$legend", _LEGEND)
        + f'\n<noscript><p class="caption">The {min(len(order), _WITHOUT_SCRIPT)} worst; to search, sort, filter and '
        f"listen, let this page run its script.</p>{_LEGEND}\n{worst}\n</noscript>"
    )


def utterance_html(report: Report, index: int) -> str:
    """One utterance as a table: the reference's words are columns, each system is a row."""
    systems = shown_systems(report.first)[:_SYSTEMS_WITHOUT_SCRIPT]
    row = report.first.rows[index]
    words = len(row.text.split())
    errors = int(systems[0].score.utterance_errors[index])
    grid = word_grid(row.text, [item.hypotheses[index].pred_text for item in systems])
    attributes = f' lang="{escape(report.language.code, quote=True)}"' if report.language else ""
    if right_to_left(row.text):
        attributes += ' dir="rtl"'
    head = "".join(f'<td dir="auto">{escape(word)}</td>' for word in grid.reference)
    body = "".join(
        f'<tr><th scope="row" dir="ltr">{escape(item.name)}</th>{_cells(cells)}</tr>'
        for item, cells in zip(systems, grid.rows, strict=True)
    )
    return (
        f'<div class="utterance"><h3>{errors} of {words} words wrong <span class="soft">{escape(row.utterance)} · '
        f'{row.duration:.1f} s</span></h3><div class="scroll" tabindex="0"{attributes}><table class="words">'
        f'<tbody><tr class="reference"><th scope="row" dir="ltr">reference</th>{head}</tr>{body}</tbody>'
        "</table></div></div>"
    )


def _cells(cells: Sequence[Cell]) -> str:
    return "".join(
        "<td></td>"
        if cell.edit == "none"
        else f'<td class="{cell.edit}" dir="auto">{"—" if cell.edit == "delete" else escape(cell.text)}</td>'
        for cell in cells
    )
