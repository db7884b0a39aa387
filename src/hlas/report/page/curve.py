"""A training curve: greedy WER on dev after each epoch."""

from collections.abc import Sequence

from hlas.report.headline import percent
from hlas.report.page.svg import element, figure, round_scale, text, tick
from hlas.report.provenance import Epoch

_HEIGHT, _TOP = 140, 18  # pixels: of the drawing, room above it for the top tick


def curve_svg(epochs: Sequence[Epoch]) -> str:
    """Dev WER over the epochs of one training, from 0 at the bottom."""
    step, ticks = round_scale(max(e.dev_wer for e in epochs))
    scale, first, last = step * ticks, epochs[0].epoch, epochs[-1].epoch
    places = [(100 * (e.epoch - first) / max(1, last - first), _HEIGHT * (1 - e.dev_wer / scale)) for e in epochs]
    best = min(range(len(epochs)), key=lambda i: epochs[i].dev_wer)
    parts = []
    for i in range(ticks + 1):
        y = _HEIGHT * (1 - i / ticks) + _TOP
        parts.append(element("line", class_="grid", x1=0, x2="100%", y1=y, y2=y))
        parts.append(text(tick(i * step, step), class_="tick", x=-8, y=y + 4, text_anchor="end"))
    # only the line is stretched to the width: its own view box, with strokes that keep their width
    points = " ".join(f"{x:.2f},{y:.2f}" for x, y in places)
    line = element("polyline", class_="line", points=points, vector_effect="non-scaling-stroke")
    box = {"viewBox": f"0 0 100 {_HEIGHT}", "preserveAspectRatio": "none"}
    parts.append(element("svg", line, x=0, y=_TOP, width="100%", height=_HEIGHT, **box))
    x, y = places[best]
    parts.append(element("circle", class_="dot", cx=f"{x:.2f}%", cy=y + _TOP, r=4))
    below = _TOP + _HEIGHT + 18
    parts.append(text(f"epoch {first + 1}", class_="tick", x=0, y=below))
    parts.append(text(f"epoch {last + 1}", class_="tick", x="100%", y=below, text_anchor="end"))
    spoken = f"Dev WER by epoch, best {percent(epochs[best].dev_wer)} at epoch {epochs[best].epoch + 1}"
    return figure(parts, _TOP + _HEIGHT + 26, spoken, "curve")
