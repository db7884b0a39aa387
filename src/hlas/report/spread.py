"""How a system's errors are spread over the utterances: shares of them by their own WER, for page and Markdown.

Two systems of one WER can differ much: a few utterances lost altogether, or one error in each.
"""

import numpy as np
import numpy.typing as npt

from hlas.report.metrics import Score

BINS = ("0", "10", "20", "30", "40", "50", "75", "100", ">")  # WER in %, up to and with; ">" is above 100
_EDGES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)  # upper edges, inclusive; above the last is a bin of its own


def wer_shares(score: Score) -> npt.NDArray[np.float64]:
    """(bins,) share of the utterances in each bin of their own WER; those with an empty reference are left out."""
    scored = score.utterance_words > 0
    wer = score.utterance_errors[scored] / score.utterance_words[scored]
    # a tiny slack keeps 3 errors in 30 words, 0.1 but for rounding, in the bin up to 10 %
    bins = np.searchsorted(np.array(_EDGES) + 1e-9, wer, side="left")
    return np.bincount(bins, minlength=len(BINS)) / len(wer)
