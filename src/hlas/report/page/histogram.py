"""Histograms of the utterances' own WERs: one small figure a system, all on the same scale.

Two systems of one WER can differ much: a few utterances lost altogether, or one error in each.
"""

import numpy as np
import numpy.typing as npt

from hlas.report.headline import percent
from hlas.report.metrics import Score
from hlas.report.page.svg import element, figure, text

_HEIGHT, _TOP = 90, 16  # pixels: tallest bar, room above it for its share
_BINS = ("0", "10", "20", "30", "40", "50", "75", "100", ">")  # WER in %, up to and with; ">" is above 100
_EDGES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)  # upper edges, inclusive; above the last is a bin of its own


def wer_shares(score: Score) -> npt.NDArray[np.float64]:
    """(bins,) share of the scored utterances in each bin of their own WER."""
    scored = score.utterance_words > 0
    wer = score.utterance_errors[scored] / score.utterance_words[scored]
    # a tiny slack keeps 3 errors in 30 words, 0.1 but for rounding, in the bin up to 10 %
    bins = np.searchsorted(np.array(_EDGES) + 1e-9, wer, side="left")
    return np.bincount(bins, minlength=len(_BINS)) / len(wer)


def histogram_svg(name: str, score: Score, tallest: float) -> str:
    """One system's histogram; `tallest` is the largest share of all the systems shown beside it."""
    shares = wer_shares(score)
    pitch = 100 / len(_BINS)
    base = _TOP + _HEIGHT
    parts = [element("line", class_="axis", x1=0, x2="100%", y1=base, y2=base)]
    for i, (share, label) in enumerate(zip(shares, _BINS, strict=True)):
        height = _HEIGHT * share / tallest
        middle = f"{pitch * (i + 0.5):.2f}%"
        style = "bar best" if i == 0 else "bar"
        x, width = f"{pitch * (i + 0.08):.2f}%", f"{pitch * 0.84:.2f}%"
        parts.append(element("rect", class_=style, x=x, y=base - height, width=width, height=height))
        if share >= 0.005:
            y = base - height - 4
            parts.append(text(f"{100 * share:.0f}", class_="tick", x=middle, y=y, text_anchor="middle"))
        parts.append(text(label, class_="tick", x=middle, y=base + 16, text_anchor="middle"))
    spoken = "; ".join(f"{label} %: {percent(share, 0)}" for label, share in zip(_BINS, shares, strict=True))
    return figure(parts, base + 24, f"{name}, share of utterances by their WER, up to: {spoken}", "histogram")
