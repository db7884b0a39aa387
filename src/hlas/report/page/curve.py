"""Training curves: dev WER, CER and the losses of one training, or the dev WERs of several in one drawing."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from hlas.report.headline import percent
from hlas.report.page.svg import MARKS, element, figure, round_scale, text, tick
from hlas.report.provenance import Epoch

_HEIGHT, _TOP = 160, 18  # pixels: of the drawing, room above it for the top tick
_LABEL = 17  # pixels between labels at the lines' ends
_DASHES = ("", "7 4", "2 4")  # tell apart the series that share a colour
_NAME = 40  # letters of a name that fit beside a drawing
_LEAST_SPAN = 0.01  # of an axis that does not begin at 0: nearly equal rates are not blown up


@dataclass(frozen=True, slots=True)
class _Line:
    """One series, drawn from epoch to epoch and named at its end."""

    name: str
    points: Sequence[tuple[int, float]]  # (epoch from 0, value), at least one
    series: int  # its colour and dashes
    folded: bool = False  # a narrow screen shows the value at its end without the name


@dataclass(frozen=True, slots=True)
class _Scale:
    """A vertical axis."""

    step: float
    ticks: int
    tick: Callable[[float], str]
    value: Callable[[float], str]  # of a label
    first: int = 0  # steps below the axis

    def y(self, value: float, height: float) -> float:
        """Pixels from the top of the drawing."""
        return height * (1 - (value / self.step - self.first) / self.ticks)


@dataclass(frozen=True, slots=True)
class Training:
    """One training's curve, and the epoch that became its model."""

    epochs: Sequence[Epoch]  # at least one
    best: Epoch


def training(epochs: Sequence[Epoch], chosen: int | None) -> Training:
    """`chosen` is the epoch that the train stage names as its best; an older one names none.

    Then it is that with the lowest dev WER, of equal ones that with the lowest loss, as the stage chooses by default.
    """
    named = [e for e in epochs if e.epoch == chosen]
    lowest = min(epochs, key=lambda e: (e.dev_wer, math.inf if e.dev_loss is None else e.dev_loss, e.epoch))
    return Training(epochs, named[0] if named else lowest)


def rates_svg(shown: Training) -> str:
    """Dev WER over the epochs of one training, and CER where it was kept; the dot is the best epoch."""
    epochs, best = shown.epochs, shown.best
    lines = [_Line("WER", [(e.epoch, e.dev_wer) for e in epochs], 0)]
    if cer := [(e.epoch, e.dev_cer) for e in epochs if e.dev_cer is not None]:
        lines.append(_Line("CER", cer, 1))
    spoken = f"Dev WER by epoch, best {percent(best.dev_wer)} at epoch {best.epoch + 1}"
    return _drawing(lines, _rate_scale(lines), spoken, {0: best.epoch})


def losses_svg(epochs: Sequence[Epoch]) -> str:
    """Loss on train and dev over the epochs of one training; '' where none was kept."""
    train = [(e.epoch, e.train_loss) for e in epochs if e.train_loss is not None]
    dev = [(e.epoch, e.dev_loss) for e in epochs if e.dev_loss is not None]
    lines = [_Line(name, points, i) for i, (name, points) in enumerate((("dev", dev), ("train", train)), 2) if points]
    if not lines:
        return ""
    ends = ", ".join(f"{line.name} {line.points[0][1]:.3g} to {line.points[-1][1]:.3g}" for line in lines)
    return _drawing(lines, _loss_scale(lines), f"Loss by epoch, from first to last: {ends}", {})


def overlay_svg(trainings: Mapping[str, Training]) -> str:
    """Dev WER over the epochs of several trainings, each named at its end; the dots are the best epochs.

    Where all rates are high the axis begins below the lowest, and not at 0: the differences are what is looked for.
    """
    lines = [
        _Line(name, [(e.epoch, e.dev_wer) for e in shown.epochs], i, folded=True)
        for i, (name, shown) in enumerate(trainings.items())
    ]
    best = {name: shown.best for name, shown in trainings.items()}
    reached = "; ".join(f"{name} {percent(e.dev_wer)}" for name, e in best.items())
    spoken = f"Dev WER by epoch, best of each training: {reached}"
    return _drawing(lines, _rate_scale(lines, cut=True), spoken, {i: e.epoch for i, e in enumerate(best.values())})


def _rate_scale(lines: Sequence[_Line], cut: bool = False) -> _Scale:
    """From 0, or with `cut` from a round place under the lowest rate where that leaves out half of the height."""
    rates = [value for line in lines for _, value in line.points]
    step, ticks = round_scale(max(rates))
    first = 0
    if cut and 0 < max(rates) <= 2 * min(rates):
        step, _ = round_scale(max(max(rates) - min(rates), _LEAST_SPAN))
        first = math.floor(min(rates) / step)
        ticks = max(1, math.ceil(max(rates) / step) - first)
    return _Scale(step, ticks, lambda value: tick(value, step), percent, first)


def _loss_scale(lines: Sequence[_Line]) -> _Scale:
    """Losses have no unit and any size: a step of 1, 2 or 5 times a power of ten."""
    top = max(max(value for line in lines for _, value in line.points), 1e-6)
    power = 10.0 ** math.floor(math.log10(top))
    step, ticks = round_scale(top / power)
    return _Scale(step * power, ticks, lambda value: f"{value:.3g}", lambda value: f"{value:.3g}")


def _drawing(lines: Sequence[_Line], scale: _Scale, spoken: str, dots: Mapping[int, int]) -> str:
    """`dots`: number of a line -> the epoch that is marked on it."""
    epochs = [epoch for line in lines for epoch, _ in line.points]
    first, last = min(epochs), max(epochs)
    height = max(_HEIGHT, _LABEL * len(lines))

    def place(epoch: int, value: float) -> tuple[float, float]:
        return 100 * (epoch - first) / max(1, last - first), scale.y(value, height)

    parts = []
    for i in range(scale.ticks + 1):
        y = height * (1 - i / scale.ticks) + _TOP
        parts.append(element("line", class_="grid", x1=0, x2="100%", y1=y, y2=y))
        parts.append(text(scale.tick((scale.first + i) * scale.step), class_="tick", x=-8, y=y + 4, text_anchor="end"))
    # only the lines are stretched to the width: their own view box, with strokes that keep their width
    drawn = [_polyline(line, [place(*point) for point in line.points]) for line in lines]
    box = {"viewBox": f"0 0 100 {height}", "preserveAspectRatio": "none"}
    parts.append(element("svg", *drawn, x=0, y=_TOP, width="100%", height=height, **box))
    for line in lines:  # one that was stopped early has its name at the right edge all the same
        x, y = place(*line.points[-1])
        if x < 100:
            style = f"line leader s{line.series % MARKS}"
            parts.append(element("line", class_=style, x1=f"{x:.2f}%", x2="100%", y1=y + _TOP, y2=y + _TOP))
    for number, epoch in dots.items():
        x, y = place(epoch, dict(lines[number].points)[epoch])
        parts.append(element("circle", class_=f"s{lines[number].series % MARKS}", cx=f"{x:.2f}%", cy=y + _TOP, r=4))
    parts += _labels(lines, scale, height)
    below = _TOP + height + 18
    parts.append(text(f"epoch {first + 1}", class_="tick", x=0, y=below))
    if last > first:
        parts.append(text(f"epoch {last + 1}", class_="tick", x="100%", y=below, text_anchor="end"))
    return figure(parts, _TOP + height + 26, spoken, "curve")


def _polyline(line: _Line, places: Sequence[tuple[float, float]]) -> str:
    points = " ".join(f"{x:.2f},{y:.2f}" for x, y in places)
    dashes = _DASHES[line.series // MARKS % len(_DASHES)]
    dashed = {"stroke_dasharray": dashes} if dashes else {}
    style = f"line s{line.series % MARKS}"
    return element("polyline", class_=style, points=points, vector_effect="non-scaling-stroke", **dashed)


def _labels(lines: Sequence[_Line], scale: _Scale, height: float) -> list[str]:
    """Each line's last value and name at its end, moved apart where they would lie on each other."""
    ends = {i: scale.y(line.points[-1][1], height) for i, line in enumerate(lines)}
    order = sorted(ends, key=lambda i: (ends[i], i))
    out = []
    for i, y in zip(order, _apart([ends[i] for i in order], height), strict=True):
        line = lines[i]
        to_label = _polyline(line, [(0, ends[i] + _TOP), (8, y + _TOP), (18, y + _TOP)])
        note = element("tspan", escape(f" {_fitting(line.name)}"), class_="note long" if line.folded else "note")
        value = escape(scale.value(line.points[-1][1]))
        words = element("text", value + note, class_="value label", x=22, y=y + _TOP + 5)
        # an inner svg takes the percentage, as what is inside it counts in pixels
        out.append(element("svg", to_label, words, x="100%", y=0, class_="ends"))
    return out


def _fitting(name: str) -> str:
    """A name cut in its middle where it is too long: variants differ at their ends."""
    kept = _NAME // 2
    return name if len(name) <= _NAME else f"{name[: kept - 1]}…{name[-kept:]}"


def _apart(ys: Sequence[float], height: float) -> list[float]:
    """The places, given from top to bottom, moved so that neighbours are _LABEL apart and the last is inside."""
    out: list[float] = []
    for y in ys:
        out.append(max(y, out[-1] + _LABEL) if out else y)
    limit = height
    for i in reversed(range(len(out))):
        out[i] = min(out[i], limit)
        limit = out[i] - _LABEL
    return out
