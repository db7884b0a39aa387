"""WER by group as dots with intervals: one row a group, one mark a system."""

from collections.abc import Sequence

from hlas.report.breakdown import Breakdown, Group, GroupScore
from hlas.report.headline import percent
from hlas.report.page.svg import MARKS, at, element, figure, mark, round_scale, text, upright_grid

_LABEL, _LINE, _GAP, _AXIS = 20, 13, 10, 26  # pixels: a group's label, a system's line, space below, the ticks
_WIDEST = 1.5  # WER at which the axis ends: an interval of a few words may reach far beyond


def groups_svg(breakdown: Breakdown, systems: Sequence[str]) -> str:
    """The groups from top to bottom; `systems` are the (at most four) to show, in the order of their marks."""
    systems = systems[:MARKS]
    rows = [
        (group, [score for name in systems for score in group.scores if score.system == name])
        for group in breakdown.groups
    ]
    edges = [edge for _, scores in rows for score in scores for edge in (*(score.ci95 or ()), score.wer or 0.0)]
    step, count = round_scale(min(_WIDEST, max(edges, default=1.0)) or 1.0)
    scale = step * count
    pitch = _LABEL + _LINE * len(systems) + _GAP
    bottom = pitch * len(rows)
    parts = upright_grid(step, count, 0, bottom)
    for place, (group, scores) in enumerate(rows):
        parts += _group(group, scores, place * pitch, scale)
    spoken = "; ".join(f"{group.label}: {', '.join(map(_spoken, scores))}" for group, scores in rows)
    return figure(parts, bottom + _AXIS, f"Word error rate by {breakdown.title.lower()}. {spoken}", "groups")


def _group(group: Group, scores: Sequence[GroupScore], y: float, scale: float) -> list[str]:
    about = f"{group.words} words" + (" – few" if group.small else "")
    out = [
        text(group.label, class_="label", x=0, y=y + 15),
        text(about, class_="note", x="100%", y=y + 15, text_anchor="end"),
    ]
    for series, score in enumerate(scores):
        middle = y + _LABEL + _LINE * (series + 0.5)
        if score.wer is None:
            continue
        if score.ci95:
            low, high = (at(min(edge, scale), scale) for edge in score.ci95)
            out.append(element("line", class_=f"s{series}", x1=low, x2=high, y1=middle, y2=middle))
        out.append(mark(series, at(min(score.wer, scale), scale), middle))
    return out


def _spoken(score: GroupScore) -> str:
    return f"{score.system} {'no words' if score.wer is None else percent(score.wer)}"
