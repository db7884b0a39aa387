"""The first screen: which system to use, by how much it is ahead, and whether that is real."""

import re
from html import escape

from hlas.report.content import Report, notes
from hlas.report.evaluate import SplitResult, SystemResult
from hlas.report.headline import headline, percent, points
from hlas.report.page.bars import axis_svg, interval_svg
from hlas.report.page.svg import round_scale
from hlas.report.significance import Comparison

_ROWS = 6  # systems in the table of the first screen; all are in the figures and tables below


def answer(report: Report) -> str:
    """The answer in one line, the evidence in sentences, the best systems as a table with intervals, the caveats."""
    result = report.first
    sentences = headline(result)
    remarks = "".join(f"<li>{escape(line)}</li>" for line in notes(report))
    return (
        f'<section id="answer" aria-labelledby="verdict">\n<h2 id="verdict">{_verdict(result)}</h2>\n'
        + "".join(f'<p class="lead">{escape(sentence)}</p>\n' for sentence in sentences)
        + _league(result)
        + (f'\n<ul class="notes">{remarks}</ul>' if remarks else "")
        + "\n</section>"
    )


def _verdict(result: SplitResult) -> str:
    """One line: a name, and whether the lead over the nearest rival is more than chance."""
    best, *others = result.ranked
    name = escape(best.name)
    if not others:
        return f"{name} gets {percent(best.score.wer)} of the words wrong"
    comparison = between(result, best, others[0])
    if comparison and comparison.significant:
        return f"Use {name}: it makes the fewest word errors, and its lead is real"
    return f"{name} or {escape(others[0].name)}: these clips cannot tell which is better"


def between(result: SplitResult, one: SystemResult, other: SystemResult) -> Comparison | None:
    """The comparison of the two, whichever way round it was made."""
    return result.comparison(one.name, other.name) or result.comparison(other.name, one.name)


def _league(result: SplitResult) -> str:
    """The best systems and the baseline, each with its interval drawn on one common scale."""
    ranked = result.ranked
    shown = ranked[:_ROWS]
    base = next((item for item in ranked if item.name == result.baseline), None)
    if base and base not in shown:
        shown = [*shown[:-1], base]
    step, count = round_scale(max(item.wer_ci95[1] for item in shown))
    scale = step * count
    rows = "".join(_row(result, item, scale) for item in shown)
    left = len(ranked) - len(shown)
    others = "other system is" if left == 1 else f"other {left} systems are"
    more = f' The {others} in <a href="#metrics">all metrics</a>.' if left else ""
    test = f"{escape(result.split)}, {ranked[0].score.utterances} utterances, {ranked[0].score.words} words"
    return (
        '<table class="league"><thead><tr><th scope="col">system</th><th scope="col" class="n">WER</th>'
        '<th scope="col"><span class="hear">95 % interval, drawn</span></th>'
        '<th scope="col"><span class="long">behind the best</span></th></tr></thead>'
        f"<tbody>{rows}</tbody>"
        f'<tfoot aria-hidden="true"><tr><td></td><td></td><td class="plot">{axis_svg(scale, step)}</td><td></td></tr>'
        "</tfoot></table>"
        f'<p class="caption">WER, word error rate: wrong, missing and superfluous words for 100 words said ({test}); '
        f"less is better. The thin lines are 95 % intervals.{more}</p>"
    )


def _row(result: SplitResult, item: SystemResult, scale: float) -> str:
    best = result.ranked[0]
    is_base = item.name == result.baseline
    style = "best" if item is best else "baseline" if is_base else ""
    note = ' <span class="soft">baseline</span>' if is_base else ""
    low, high = item.wer_ci95
    interval = f"{100 * low:.1f} to {percent(high)}"
    return (
        f'<tr class="{style}"><th scope="row">{_name(item)}{note}</th>'
        f'<td class="n wer">{percent(item.score.wer)}</td>'
        f'<td class="plot"><span class="hear">{interval}</span>'
        f"{interval_svg(item.score.wer, item.wer_ci95, scale, style)}</td>"
        f'<td class="behind">{_behind(result, best, item)}</td></tr>'
    )


def _name(item: SystemResult) -> str:
    """A long name may break after its underscores and the like."""
    return re.sub("([_./-])", r"\1<wbr>", escape(item.name))


def _behind(result: SplitResult, best: SystemResult, item: SystemResult) -> str:
    """How far behind the best, in points, and whether that is more than chance."""
    if item is best:
        return '<span class="long soft">the best</span>'
    gap = f'<span class="long">{points(item.score.wer - best.score.wer)} points </span>'
    comparison = between(result, best, item)
    if comparison is None:
        return gap
    mark = (
        '<span class="verdict real">real</span>'
        if comparison.significant
        else ('<span class="verdict open">cannot tell</span>')
    )
    return gap + mark
