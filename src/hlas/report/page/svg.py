"""The little SVG that the figures need: elements, round ticks, marks that differ in shape and colour.

Widths are percentages and heights pixels, without a view box that would shrink the text on a phone. Colours come
from the page's style sheet.
"""

from collections.abc import Iterable, Sequence
from html import escape

from hlas.report.headline import percent

MARKS = 4  # series that can be told apart: s0 … s3 in the style sheet, each with its own shape


def element(tag: str, *children: str, **attributes: str | float) -> str:
    """An element; `children` are markup already, attribute values are escaped, '_' in their names stands for '-'."""
    written = "".join(f' {name.strip("_").replace("_", "-")}="{_value(value)}"' for name, value in attributes.items())
    return f"<{tag}{written}>{''.join(children)}</{tag}>" if children else f"<{tag}{written}/>"


def _value(value: str | float) -> str:
    return escape(value, quote=True) if isinstance(value, str) else f"{value:.6g}"


def text(content: str, **attributes: str | float) -> str:
    """A text element of plain text."""
    return element("text", escape(content), **attributes)


def figure(parts: Iterable[str], height: float, spoken: str, style: str) -> str:
    """A whole drawing as wide as its place; `spoken` is what a screen reader says instead of it."""
    return element(
        "svg", "\n".join(parts), class_=style, width="100%", height=f"{height:g}", role="img", aria_label=spoken
    )


def round_scale(top: float) -> tuple[float, int]:
    """A round step and a number of steps (at most 6) that reach `top`, a fraction."""
    for step in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0):
        count = max(1, -int(-top // step))
        if count <= 6:
            return step, count
    return top, 1


def at(value: float, scale: float) -> str:
    """Place of a value on an axis from 0 to `scale`, as a percentage of the width."""
    return f"{100 * value / scale:.3f}%"


def upright_grid(step: float, count: int, top_y: float, bottom_y: float, inner: str = "tick") -> list[str]:
    """Vertical lines from 0 to `step * count`, their percentages below; `inner` styles all labels but the last."""
    out = []
    for i in range(count + 1):
        x = at(i, count)
        anchor = "start" if i == 0 else "end" if i == count else "middle"
        out.append(element("line", class_="grid", x1=x, x2=x, y1=top_y, y2=bottom_y))
        style = "tick" if i == count else inner
        out.append(text(tick(i * step, step), class_=style, x=x, y=bottom_y + 18, text_anchor=anchor))
    return out


def tick(value: float, step: float) -> str:
    """A tick's label with as many digits as its step needs."""
    return percent(value, 0 if step >= 0.01 else 1)


def mark(series: int, x: str, y: float) -> str:
    """A series' own shape around a place: circle, square, triangle, diamond."""
    style = f"s{series}"
    if series == 0:
        return element("circle", class_=style, cx=x, cy=y, r=4.5)
    shapes = {1: "M-4,-4h8v8h-8z", 2: "M0,-5l5,9h-10z", 3: "M0,-5.5l5,5.5l-5,5.5l-5,-5.5z"}
    # an inner svg takes the percentage, as a path's own coordinates are pixels
    return element("svg", element("path", class_=style, d=shapes[series]), x=x, y=y)


def series_key(names: Sequence[str]) -> str:
    """A list that says which mark is whose."""
    items = []
    for series, name in enumerate(names[:MARKS]):
        sample = element("svg", mark(series, "7", 7), width="14", height="14", aria_hidden="true")
        items.append(f"<li>{sample}{escape(name)}</li>")
    return f'<ul class="series">{"".join(items)}</ul>'
