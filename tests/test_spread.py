"""How errors are spread over utterances: the bins by hand, and that page and Markdown say the same shares."""

import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from hlas.manifests.rows import Hypothesis
from hlas.report.markdown import markdown
from hlas.report.metrics import score
from hlas.report.page import PageOptions, page
from hlas.report.spread import BINS, wer_shares
from page_kit import made_report, row


def reference(words: int) -> str:
    return " ".join("word" for _ in range(words))


def heard(words: int, errors: int) -> str:
    """So many of the words wrong; what is beyond the words themselves is inserted."""
    return " ".join("x" if i < errors else "word" for i in range(max(words, errors)))


@pytest.mark.parametrize(
    ("words", "errors", "label"),
    [
        (5, 0, "0"),
        (100, 1, "10"),
        (10, 1, "10"),
        (30, 3, "10"),  # 0.1 but for rounding
        (1000, 101, "20"),
        (5, 1, "20"),
        (10, 3, "30"),
        (70, 21, "30"),
        (10, 4, "40"),
        (2, 1, "50"),
        (100, 51, "75"),
        (4, 3, "75"),
        (100, 76, "100"),
        (3, 3, "100"),
        (100, 101, ">"),
        (1, 7, ">"),
    ],
)
def test_an_edge_belongs_to_the_bin_that_it_ends(words: int, errors: int, label: str) -> None:
    result = score([reference(words)], [heard(words, errors)])
    assert result.utterance_errors.tolist() == [errors]
    assert wer_shares(result).tolist() == [float(label == each) for each in BINS]


def test_empty_references_are_in_no_bin() -> None:
    result = score(["", "a b", "a b", "a", ""], ["noise", "a b", "a", "x y z", ""])
    shares = dict(zip(BINS, wer_shares(result), strict=True))
    assert {label: share for label, share in shares.items() if share} == pytest.approx(
        {"0": 1 / 3, "50": 1 / 3, ">": 1 / 3}
    )


def test_the_figure_and_the_table_say_the_shares(tmp_path: Path) -> None:
    counts = {"some": (0, 0, 0, 2, 4, 4, 5, 9), "none": (0,) * 8, "lost": (4,) * 8}  # errors in each utterance
    rows = [row(tmp_path, i, reference(4)) for i in range(8)] + [row(tmp_path, 8, "")]
    texts = {name: [*(heard(4, errors) for errors in each), "noise"] for name, each in counts.items()}
    report = made_report(
        tmp_path, {name: [Hypothesis(r, t, t) for r, t in zip(rows, own, strict=True)] for name, own in texts.items()}
    )
    wanted = {
        "some": ("38", "0", "0", "0", "0", "12", "0", "25", "25"),
        "none": ("100", *("0",) * 8),
        "lost": (*("0",) * 7, "100", "0"),
    }
    html = unescape(page(report, PageOptions(tmp_path, "none", workers=1))).replace("\u00a0", " ")
    figures = dict(re.findall(r'aria-label="(\w+), share of utterances by their WER, up to: ([^"]*)"', html))
    text = markdown(report).replace("\u00a0", " ").replace("\\", "")
    start = text.index("## Share of the test utterances by their own WER")
    lines = [line.strip("| ").split(" | ") for line in text[start:].split("\n\n")[1].splitlines()]
    assert lines[0][:4] == ["system", "0 %", "> 0 to 10 %", "> 10 to 20 %"]
    assert lines[0][-3:] == ["> 50 to 75 %", "> 75 to 100 %", "> 100 %"]
    assert figures.keys() == {line[0] for line in lines[2:]} == wanted.keys()
    for name, *cells in lines[2:]:
        assert cells == [f"{share} %" for share in wanted[name]]
        assert figures[name] == "; ".join(f"{label} %: {s} %" for label, s in zip(BINS, wanted[name], strict=True))
    (figure,) = re.findall(r'<svg[^>]*aria-label="some, share.*?</svg>', html.replace("\n", " "))
    heights = [float(h) for h in re.findall(r'<rect[^>]* height="([^"]*)"', figure)]
    tallest = 90 * wer_shares(report.first.systems[0].score)  # beside a system with all of its utterances in one bin
    assert np.allclose(heights, tallest, atol=0.001)
