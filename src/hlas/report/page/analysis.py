"""What lies behind the totals: WER by group, fairness gaps, confused words, words that only one system gets right."""

from collections.abc import Sequence
from html import escape

from hlas.report.breakdown import Analysis, Breakdown, Confusion, Confusions
from hlas.report.evaluate import SplitResult
from hlas.report.headline import percent, points
from hlas.report.page.browser_data import shown_systems
from hlas.report.page.groups import groups_svg
from hlas.report.page.svg import MARKS, series_key
from hlas.report.page.tables import table

_LISTED = 12  # confusions of each kind in a cell


def groups_html(result: SplitResult, analysis: Analysis) -> str:
    """A card a breakdown: the figure for the foremost systems, the gap in words, all systems' numbers folded."""
    if not analysis.breakdowns:
        return ""
    names = [item.name for item in shown_systems(result)[:MARKS]]
    cards = "\n".join(_card(item, names) for item in analysis.breakdowns)
    left = len(result.systems) - len(names)
    rest = f" The numbers of the other {left} systems are in the tables." if left else ""
    return (
        f'<p class="caption">Dots are word error rates, lines their 95 % intervals.{rest}</p>\n{series_key(names)}\n'
        f'<div class="columns">\n{cards}\n</div>'
    )


def _card(breakdown: Breakdown, names: Sequence[str]) -> str:
    note = f'<p class="caption">{escape(breakdown.note)}</p>' if breakdown.note else ""
    gap = f'<p class="caption">{escape(_gap(breakdown, names[0]))}</p>' if breakdown.gaps else ""
    groups = breakdown.groups
    rows = [
        ["utterances", *(str(group.utterances) for group in groups)],
        ["words", *(str(group.words) for group in groups)],
    ]
    for place, score in enumerate(groups[0].scores):
        own = [group.scores[place] for group in groups]
        rows.append([score.system, *(_wer(item.wer, item.ci95) for item in own)])
    caption = f"WER in % by {breakdown.title.lower()}; intervals resample {breakdown.unit}s"
    head = ("", *(group.label for group in groups))
    numbers = table(caption, head, rows, numbers=range(1, len(head)), style="wide")
    return (
        f"<div><h3>{escape(breakdown.title)}</h3><figure>{groups_svg(breakdown, names)}</figure>{gap}{note}"
        f"<details><summary>Numbers of all systems</summary>{numbers}</details></div>"
    )


def _gap(breakdown: Breakdown, system: str) -> str:
    gap = next(item for item in breakdown.gaps if item.system == system)
    low, high = gap.ci95
    sure = "real" if gap.shown else "may be chance"
    return (
        f"{system}: {100 * gap.gap:.1f} points between {gap.worst} and {gap.best} "
        f"({points(low)} to {points(high)}): {sure}."
    )


def _wer(wer: float | None, interval: tuple[float, float] | None) -> str:
    if wer is None:
        return "–"
    return f"{100 * wer:.1f}" + (f" ({100 * interval[0]:.1f}–{100 * interval[1]:.1f})" if interval else "")


def words_html(analysis: Analysis) -> str:
    """Confusions of each system, folded; then what only one system gets right, and the words unknown to the LM."""
    out = [_confusions(item, is_open=place == 0) for place, item in enumerate(analysis.confusions)]
    if any(item.words for item in analysis.only_right):
        rows = [
            [item.system, str(item.words), str(item.utterances), ", ".join(f"{w} ({n})" for w, n in item.commonest)]
            for item in analysis.only_right
        ]
        head: tuple[str, ...] = ("system", "words", "in utterances", "the commonest (times)")
        caption = "Words of the references that one system alone gets right"
        out.append(table(caption, head, rows, numbers=(1, 2)))
    if analysis.vocabulary:
        rows = [
            [v.system, _share(v.known_right, v.known_words), _share(v.oov_right, v.oov_words)]
            for v in analysis.vocabulary
        ]
        head = ("system", "words that the LM knows, right", "words that it does not know, right")
        out.append(table(f"Words known to {analysis.lm} and unknown to it", head, rows, numbers=(1, 2)))
    return "\n".join(out)


def _share(right: int, words: int) -> str:
    return f"{percent(right / words)} of {words}" if words else "–"


def _confusions(item: Confusions, is_open: bool) -> str:
    kinds = (
        ("heard as another", item.substituted),
        ("missed", item.deleted),
        ("too many", item.inserted),
        ("characters", item.characters),
    )
    columns = [[_confusion(c) for c in some[:_LISTED]] for _, some in kinds]
    depth = max(map(len, columns))
    if not depth:
        return ""
    rows = "".join(
        "<tr>" + "".join(f"<td>{column[i] if i < len(column) else ''}</td>" for column in columns) + "</tr>"
        for i in range(depth)
    )
    head = "".join(f'<th scope="col">{name}</th>' for name, _ in kinds)
    return (
        f'<details class="line"{" open" if is_open else ""}><summary>{escape(item.system)}: what it takes for what'
        f'</summary><div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _confusion(item: Confusion) -> str:
    """'den → ten 3×, of 7'; texts may run right to left, so each is isolated."""
    said = f"<bdi>{escape(_visible(item.reference))}</bdi>" if item.reference else "nothing"
    heard = f"<bdi>{escape(_visible(item.hypothesis))}</bdi>" if item.hypothesis else "nothing"
    of = f" of {item.of}" if item.of else ""
    return f'{said} → {heard} <span class="soft">{item.count}×{of}</span>'


def _visible(text: str) -> str:
    return text.replace(" ", "␣")
