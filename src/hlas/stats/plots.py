"""Inline SVG plots of the statistics page: histograms and the growth of the vocabulary.

Drawn in a view box of fixed size, coloured by the page's style sheet; each carries its content as text for a reader
that does not see it.
"""

from collections.abc import Sequence
from html import escape

from hlas.stats.measure import Distribution, GrowthPoint

WIDTH, HEIGHT = 340, 150  # of the plotting area, in the view box's units
_LEFT, _TOP, _BELOW = 44, 14, 34  # room for ticks and the axis' name


def histogram_svg(name: str, unit: str, spread: Distribution) -> str:
    """Bars of one distribution; the tail above its last edge is told in words."""
    top = max(spread.counts) or 1
    low, high = spread.edges[0], spread.edges[-1]
    width = WIDTH / len(spread.counts)
    parts = [_count_axis(top)]
    for i, count in enumerate(spread.counts):
        if count:
            height = HEIGHT * count / top
            title = f"<title>{spread.edges[i]:.4g} to {spread.edges[i + 1]:.4g} {unit}: {count}</title>"
            box = f'x="{_LEFT + i * width:.1f}" y="{_TOP + HEIGHT - height:.1f}" width="{width - 1:.1f}"'
            parts.append(f'<rect class="bar" {box} height="{height:.1f}">{title}</rect>')
    median = _LEFT + WIDTH * _share(spread.quantiles["median"], low, high)
    parts.append(f'<line class="mark" x1="{median:.1f}" x2="{median:.1f}" y1="{_TOP}" y2="{_TOP + HEIGHT}"/>')
    beyond = f", {spread.beyond} above" if spread.beyond else ""
    parts.append(_horizontal_axis(low, high, f"{unit}{beyond}"))
    q = spread.quantiles
    spoken = f"{name}: median {q['median']:.4g} {unit}, 90 % between {q['p5']:.4g} and {q['p95']:.4g}"
    return _svg(spoken, parts)


def growth_svg(growth: Sequence[GrowthPoint]) -> str:
    """Different words against running words."""
    last = growth[-1]
    points = " ".join(
        f"{_LEFT + WIDTH * p.words / last.words:.1f},{_TOP + HEIGHT * (1 - p.types / last.types):.1f}" for p in growth
    )
    parts = [_count_axis(last.types), f'<polyline class="line" points="{points}"/>']
    parts.append(_horizontal_axis(0, last.words, "running words"))
    return _svg(f"Vocabulary: {last.types} different words in {last.words} running words", parts)


def _svg(spoken: str, parts: Sequence[str]) -> str:
    box = f"0 0 {_LEFT + WIDTH + 10} {_TOP + HEIGHT + _BELOW}"
    return "\n".join([f'<svg viewBox="{box}" role="img" aria-label="{escape(spoken)}">', *parts, "</svg>"])


def _count_axis(top: int) -> str:
    bottom = _TOP + HEIGHT
    return (
        f'<line class="axis" x1="{_LEFT}" x2="{_LEFT + WIDTH}" y1="{bottom}" y2="{bottom}"/>'
        f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + WIDTH}" y1="{_TOP}" y2="{_TOP}"/>'
        f'<text x="{_LEFT - 5}" y="{bottom + 4}" text-anchor="end">0</text>'
        f'<text x="{_LEFT - 5}" y="{_TOP + 4}" text-anchor="end">{top}</text>'
    )


def _horizontal_axis(low: float, high: float, name: str) -> str:
    y = _TOP + HEIGHT + 14
    places = ((0.0, low, "start"), (0.5, (low + high) / 2, "middle"), (1.0, high, "end"))
    ticks = "".join(
        f'<text x="{_LEFT + WIDTH * at:.1f}" y="{y}" text-anchor="{anchor}">{value:.4g}</text>'
        for at, value, anchor in places
    )
    return f'{ticks}<text class="name" x="{_LEFT + WIDTH / 2}" y="{y + 15}" text-anchor="middle">{escape(name)}</text>'


def _share(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.0
