"""Inline SVG figures: the ladder (one bar a rung with its interval) and a training curve.

Widths are percentages and heights pixels, without a view box that would shrink the text on a phone. Colours come
from the page's style sheet.
"""

from collections.abc import Sequence
from html import escape

from hlas.report.headline import percent
from hlas.report.ladder import Rung
from hlas.report.provenance import Epoch

_ROW, _TOP, _BAR, _AXIS = 52, 26, 14, 30  # pixels: pitch of rows, bar below its label, bar height, room for the ticks

_CURVE, _CURVE_TOP = 140, 18  # pixels: height of the training curve, room above it for the top tick


def ladder_svg(rungs: Sequence[Rung], best: str, baseline: str) -> str:
    """Horizontal bars from 0; `best` and `baseline` name systems."""
    top = max([r.wer for r in rungs] + [r.wer_ci95[1] for r in rungs if r.wer_ci95] + [r.oov_share or 0 for r in rungs])
    step, ticks = _ticks(top)
    scale = step * ticks
    height = len(rungs) * _ROW + _AXIS
    axis_y = len(rungs) * _ROW + 4
    parts = [f'<svg class="ladder" width="100%" height="{height}" role="img" aria-label="{_spoken(rungs)}">']
    for i in range(ticks + 1):
        x = 100 * i / ticks
        anchor = "start" if i == 0 else "end" if i == ticks else "middle"
        parts.append(f'<line class="grid" x1="{x:.3f}%" x2="{x:.3f}%" y1="{_TOP - 4}" y2="{axis_y}"/>')
        parts.append(
            f'<text class="tick" x="{x:.3f}%" y="{axis_y + 18}" text-anchor="{anchor}">{percent(i * step, 0)}</text>'
        )
    for index, rung in enumerate(rungs):
        parts += _row(rung, index * _ROW, scale, best, baseline)
    return "\n".join([*parts, "</svg>"])


def _row(rung: Rung, y: int, scale: float, best: str, baseline: str) -> list[str]:
    is_best = rung.kind == "system" and rung.system == best
    is_baseline = rung.kind == "system" and rung.system == baseline
    style = "oracle" if rung.kind == "oracle" else "best" if is_best else "baseline" if is_baseline else "system"
    bar = y + _TOP
    label = escape(rung.label) + (' <tspan class="note">baseline</tspan>' if is_baseline else "")
    if rung.oov_share is not None:
        label += f' <tspan class="note wide">{percent(rung.oov_share)} of the words unknown to its LM</tspan>'
    value = percent(rung.wer)
    if rung.wer_ci95:
        low, high = rung.wer_ci95
        value += f' <tspan class="note">{100 * low:.1f}–{100 * high:.1f}</tspan>'
    out = [
        f'<text class="label {style}" x="0" y="{bar - 8}">{label}</text>',
        f'<text class="value {style}" x="100%" y="{bar - 8}" text-anchor="end">{value}</text>',
        f'<rect class="bar {style}" x="0" y="{bar}" width="{_at(rung.wer, scale)}" height="{_BAR}" rx="2"/>',
    ]
    if rung.wer_ci95:
        low_x, high_x = (_at(edge, scale) for edge in rung.wer_ci95)
        middle = bar + _BAR / 2
        out.append(f'<line class="whisker" x1="{low_x}" x2="{high_x}" y1="{middle}" y2="{middle}"/>')
        out += [
            f'<line class="whisker" x1="{x}" x2="{x}" y1="{bar + 2}" y2="{bar + _BAR - 2}"/>' for x in (low_x, high_x)
        ]
    if rung.oov_share is not None:
        x = _at(rung.oov_share, scale)
        place = f'x1="{x}" x2="{x}" y1="{bar - 4}" y2="{bar + _BAR + 4}"'
        title = f"<title>{percent(rung.oov_share)} of the words are unknown to the LM</title>"
        out += [f'<line class="halo" {place}/>', f'<line class="oov" {place}>{title}</line>']
    return out


def _at(value: float, scale: float) -> str:
    return f"{100 * value / scale:.3f}%"


def _ticks(top: float) -> tuple[float, int]:
    """A round step and a number of steps (3 to 6) that reach `top`."""
    for step in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0):
        count = max(1, -int(-top // step))
        if count <= 6:
            return step, count
    return top, 1


def curve_svg(epochs: Sequence[Epoch]) -> str:
    """Dev WER over the epochs of one training, from 0 at the bottom."""
    step, ticks = _ticks(max(e.dev_wer for e in epochs))
    scale, first, last = step * ticks, epochs[0].epoch, epochs[-1].epoch
    places = [
        (100 * (e.epoch - first) / max(1, last - first), _CURVE * (1 - e.dev_wer / scale) + _CURVE_TOP) for e in epochs
    ]
    best = min(range(len(epochs)), key=lambda i: epochs[i].dev_wer)
    x, y = places[best]
    spoken = f"Dev WER by epoch, best {percent(epochs[best].dev_wer)} at epoch {epochs[best].epoch + 1}"
    height = _CURVE_TOP + _CURVE + 26
    parts = [f'<svg class="curve" width="100%" height="{height}" role="img" aria-label="{escape(spoken)}">']
    for i in range(ticks + 1):
        line_y = _CURVE * (1 - i / ticks) + _CURVE_TOP
        parts.append(f'<line class="grid" x1="0" x2="100%" y1="{line_y:.1f}" y2="{line_y:.1f}"/>')
        parts.append(f'<text class="tick" x="-8" y="{line_y + 4:.1f}" text-anchor="end">{percent(i * step, 0)}</text>')
    # only the line is stretched to the width: its own view box, with strokes that keep their width
    line = " ".join(f"{px:.2f},{py - _CURVE_TOP:.2f}" for px, py in places)
    parts.append(
        f'<svg x="0" y="{_CURVE_TOP}" width="100%" height="{_CURVE}" viewBox="0 0 100 {_CURVE}" '
        f'preserveAspectRatio="none"><polyline class="line" points="{line}" vector-effect="non-scaling-stroke"/></svg>'
    )
    parts.append(f'<circle class="dot" cx="{x:.2f}%" cy="{y:.2f}" r="4"/>')
    label_y = _CURVE_TOP + _CURVE + 18
    parts.append(f'<text class="tick" x="0" y="{label_y}">epoch {first + 1}</text>')
    parts.append(f'<text class="tick" x="100%" y="{label_y}" text-anchor="end">epoch {last + 1}</text>')
    return "\n".join([*parts, "</svg>"])


def _spoken(rungs: Sequence[Rung]) -> str:
    return escape("Word error rates: " + "; ".join(f"{rung.label} {percent(rung.wer)}" for rung in rungs), quote=True)
