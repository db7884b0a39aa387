"""The utterances of the headline's split, worst first, each as a word-aligned table of all systems."""

import unicodedata
from collections.abc import Sequence
from html import escape

import numpy as np

from hlas.report.content import Report
from hlas.report.diffs import Cell, word_grid
from hlas.report.evaluate import SplitResult

_OPEN_AT_FIRST = 8


def worst_first(result: SplitResult) -> list[int]:
    """Indices of the scored utterances: most errors of the best system first, then most errors of all systems."""
    best = result.ranked[0].score
    total = np.sum([item.score.utterance_errors for item in result.systems], axis=0)
    scored = [i for i, words in enumerate(best.utterance_words) if words]
    return sorted(scored, key=lambda i: (-best.utterance_errors[i], -total[i], i))


def utterances_html(report: Report) -> str:
    """A `details` element an utterance, at most `report.shown_utterances`; the first few are open."""
    result = report.first
    order = worst_first(result)
    shown = order[: report.shown_utterances]
    best = result.ranked[0].name
    intro = (
        f"{len(shown)} of the {len(order)} {result.split} utterances, those in which {best} makes the most errors first"
        if len(shown) < len(order)
        else f"All {len(order)} {result.split} utterances, those in which {best} makes the most errors first"
    )
    return (
        f'<p class="caption">{escape(intro)}. Every utterance is in hypotheses/SYSTEM.{escape(result.split)}.csv.</p>'
        '<p class="caption key"><span class="substitute">other word</span> <span class="delete">—</span> missing '
        '<span class="insert">word too many</span></p>'
        + "\n".join(
            _utterance(result, i, report.language.code if report.language else "", is_open=n < _OPEN_AT_FIRST)
            for n, i in enumerate(shown)
        )
    )


def _utterance(result: SplitResult, index: int, language: str, is_open: bool) -> str:
    hypotheses = [item.hypotheses[index] for item in result.systems]
    row = hypotheses[0].row
    words = int(result.systems[0].score.utterance_words[index])
    errors = int(result.ranked[0].score.utterance_errors[index])
    grid = word_grid(row.text, [h.pred_text for h in hypotheses])
    about = ", ".join(
        filter(
            None,
            (row.utterance, f"{row.duration:.1f} s", row.speaker[:8] and f"speaker {row.speaker[:8]}", row.accents),
        )
    )
    attributes = f' lang="{escape(language, quote=True)}"' if language else ""
    if _right_to_left(row.text):
        attributes += ' dir="rtl"'
    head = "".join(f"<td>{escape(word)}</td>" for word in grid.reference)
    body = "".join(
        f"<tr><th>{escape(item.name)}</th>{_cells(cells)}</tr>"
        for item, cells in zip(result.systems, grid.rows, strict=True)
    )
    return (
        f'<details{" open" if is_open else ""}><summary><span class="errors">{errors} of {words}</span> '
        f"<span{attributes}>{escape(row.text)}</span></summary>"
        f'<div class="who">{escape(about)}</div><div class="scroll" tabindex="0"><table class="words"{attributes}>'
        f"<thead><tr><th>reference</th>{head}</tr></thead><tbody>{body}</tbody></table></div></details>"
    )


def _cells(cells: Sequence[Cell]) -> str:
    return "".join(
        "<td></td>"
        if cell.edit == "none"
        else f'<td class="{cell.edit}">{"—" if cell.edit == "delete" else escape(cell.text)}</td>'
        for cell in cells
    )


def _right_to_left(text: str) -> bool:
    """Whether the first letter with a direction runs right to left, as a browser decides it."""
    directions = (unicodedata.bidirectional(character) for character in text)
    return next((d for d in directions if d in ("L", "R", "AL")), "L") != "L"
