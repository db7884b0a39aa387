"""The ladder as bars with intervals, and the intervals of the answer's table."""

from collections.abc import Sequence
from html import escape

from hlas.report.headline import percent
from hlas.report.ladder import Rung
from hlas.report.page.svg import at, element, figure, round_scale, upright_grid

_ROW, _TOP, _BAR, _AXIS = 52, 26, 14, 30  # pixels: pitch of rows, bar below its label, bar height, room for the ticks
_CELL = 22  # pixels: height of an interval in a table row


def ladder_svg(rungs: Sequence[Rung], best: str, baseline: str) -> str:
    """Horizontal bars from 0; `best` and `baseline` name systems."""
    top = max([r.wer for r in rungs] + [r.wer_ci95[1] for r in rungs if r.wer_ci95] + [r.oov_share or 0 for r in rungs])
    step, ticks = round_scale(top)
    axis_y = len(rungs) * _ROW + 4
    parts = upright_grid(step, ticks, _TOP - 4, axis_y)
    for index, rung in enumerate(rungs):
        parts += _rung(rung, index * _ROW, step * ticks, best, baseline)
    spoken = "Word error rates: " + "; ".join(f"{rung.label} {percent(rung.wer)}" for rung in rungs)
    return figure(parts, len(rungs) * _ROW + _AXIS, spoken, "ladder")


def _rung(rung: Rung, y: int, scale: float, best: str, baseline: str) -> list[str]:
    is_best = rung.kind == "system" and rung.system == best
    is_baseline = rung.kind == "system" and rung.system == baseline
    style = "oracle" if rung.kind == "oracle" else "best" if is_best else "baseline" if is_baseline else "system"
    bar, middle = y + _TOP, y + _TOP + _BAR / 2
    label, value = escape(rung.label), percent(rung.wer)
    if is_baseline:
        label += _note("baseline")
    if rung.oov_share is not None:
        label += _note(f"{percent(rung.oov_share)} of the words unknown to its LM", "note long")
    if rung.wer_ci95:
        low, high = rung.wer_ci95
        value += _note(f"{100 * low:.1f}–{100 * high:.1f}")
    out = [
        element("text", label, class_=style, x=0, y=bar - 8),
        element("text", value, class_=f"value {style}", x="100%", y=bar - 8, text_anchor="end"),
        element("rect", class_=f"bar {style}", x=0, y=bar, width=at(rung.wer, scale), height=_BAR, rx=2),
    ]
    if rung.wer_ci95:
        out += _whisker(rung.wer_ci95, scale, middle, _BAR / 2 - 2)
    if rung.oov_share is not None:
        x = at(rung.oov_share, scale)
        title = element("title", f"{percent(rung.oov_share)} of the words are unknown to the LM")
        ends: dict[str, str | float] = {"x1": x, "x2": x, "y1": bar - 4, "y2": bar + _BAR + 4}
        out += [element("line", class_="halo", **ends), element("line", title, class_="floor", **ends)]
    return out


def _note(content: str, style: str = "note") -> str:
    return " " + element("tspan", escape(content), class_=style)


def _whisker(interval: tuple[float, float], scale: float, y: float, reach: float) -> list[str]:
    """An interval: a line with two ends."""
    low, high = (at(edge, scale) for edge in interval)
    ends = [element("line", class_="whisker", x1=x, x2=x, y1=y - reach, y2=y + reach) for x in (low, high)]
    return [element("line", class_="whisker", x1=low, x2=high, y1=y, y2=y), *ends]


def interval_svg(value: float, interval: tuple[float, float], scale: float, style: str) -> str:
    """One system's bar and interval for a table row; the row's own cells say the numbers."""
    parts = [element("rect", class_=f"bar {style}", x=0, y=4, width=at(value, scale), height=_BAR, rx=2)]
    parts += _whisker(interval, scale, _CELL / 2, _BAR / 2 - 2)
    return element("svg", *parts, width="100%", height=str(_CELL), aria_hidden="true")


def axis_svg(scale: float, step: float) -> str:
    """The axis of a column of `interval_svg`."""
    count = round(scale / step)
    return element(
        "svg", *upright_grid(step, count, 0, 5, inner="tick long"), width="100%", height="26", aria_hidden="true"
    )
