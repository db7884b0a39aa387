"""Histograms of the utterances' own WERs: one small figure a system, all on the same scale."""

from hlas.report.headline import percent
from hlas.report.metrics import Score
from hlas.report.page.svg import element, figure, text
from hlas.report.spread import BINS, wer_shares

_HEIGHT, _TOP = 90, 16  # pixels: tallest bar, room above it for its share


def histogram_svg(name: str, score: Score, tallest: float) -> str:
    """One system's histogram; `tallest` is the largest share of all the systems shown beside it."""
    shares = wer_shares(score)
    pitch = 100 / len(BINS)
    base = _TOP + _HEIGHT
    parts = [element("line", class_="axis", x1=0, x2="100%", y1=base, y2=base)]
    for i, (share, label) in enumerate(zip(shares, BINS, strict=True)):
        height = _HEIGHT * share / tallest
        middle = f"{pitch * (i + 0.5):.2f}%"
        style = "bar best" if i == 0 else "bar"
        x, width = f"{pitch * (i + 0.08):.2f}%", f"{pitch * 0.84:.2f}%"
        parts.append(element("rect", class_=style, x=x, y=base - height, width=width, height=height))
        if share >= 0.005:
            y = base - height - 4
            parts.append(text(f"{100 * share:.0f}", class_="tick", x=middle, y=y, text_anchor="middle"))
        parts.append(text(label, class_="tick", x=middle, y=base + 16, text_anchor="middle"))
    spoken = "; ".join(f"{label} %: {percent(share, 0)}" for label, share in zip(BINS, shares, strict=True))
    return figure(parts, base + 24, f"{name}, share of utterances by their WER, up to: {spoken}", "histogram")
