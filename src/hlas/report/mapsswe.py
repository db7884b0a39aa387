"""Matched-pairs sentence-segment word error test (MAPSSWE) between two systems.

L. Gillick and S. Cox, "Some statistical issues in the comparison of speech recognition algorithms", ICASSP 1989: cut
the utterances into segments whose errors can be taken as independent, and test whether the mean difference of the two
systems' errors in a segment is 0. As in NIST's sclite, a segment ends where both systems have two words right in a row,
or with the utterance; stretches without an error are no segments.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hlas.report.counts import DELETION, INSERTION, SUBSTITUTION, TextCounts

Ints = npt.NDArray[np.int64]

WORDS_BETWEEN = 2  # right in both systems: enough to take the errors on both sides of them as independent
ENOUGH_SEGMENTS = 50  # below, the normal distribution that p is read from is doubtful


@dataclass(frozen=True, slots=True)
class Mapsswe:
    """The outcome; a negative `z` says that the second system makes fewer errors."""

    segments: int
    mean: float  # errors of the second system minus errors of the first, in a segment
    z: float | None  # None where every segment has the same difference
    p_value: float  # two-sided
    p_holm: float  # corrected for all pairs of systems in the report

    @property
    def doubtful(self) -> bool:
        """Whether there are too few segments for the normal distribution."""
        return self.segments < ENOUGH_SEGMENTS

    def to_json(self) -> dict[str, Any]:
        """For metrics.json."""
        return {
            "segments": self.segments,
            "few_segments": self.doubtful,
            "mean": self.mean,
            "z": self.z,
            "p_value": self.p_value,
            "p_holm": self.p_holm,
        }


def smallest_p(differences: int) -> float:
    """Two-sided p of so many independent differences that all have one sign (sign test): no evidence is stronger."""
    return min(1.0, 2.0 ** (1 - differences))


def segment_differences(a: TextCounts, b: TextCounts) -> Ints:
    """Errors of `b` minus errors of `a` in each segment: (segments,). Both were counted on the same references."""
    words = a.column("reference_words")
    starts = np.concatenate(([0], np.cumsum(words)))
    # a place is a reference word (odd) or the gap before it (even); the last gap of an utterance follows its last word
    first_place = 2 * starts[:-1] + np.arange(len(words))
    places, signs = [], []
    for counts, sign in ((a, -1), (b, 1)):
        edits = counts.edits
        at_word = (edits.kind == SUBSTITUTION) | (edits.kind == DELETION)
        assert ((edits.kind == INSERTION) | at_word).all()
        places.append(first_place[edits.utterance] + 2 * edits.reference + at_word)
        signs.append(np.full(len(edits.kind), sign))
    place = np.concatenate(places)
    if not len(place):
        return np.zeros(0, np.int64)
    utterance = np.concatenate([a.edits.utterance, b.edits.utterance])
    order = np.argsort(place, kind="stable")
    place, utterance, sign = place[order], utterance[order], np.concatenate(signs)[order]
    inside = place - first_place[utterance]
    # words from the utterance's start up to and with the place, and before the place
    upto, before = (inside + 1) // 2, inside // 2
    right_between = before[1:] - upto[:-1]
    ends = (utterance[1:] != utterance[:-1]) | (right_between >= WORDS_BETWEEN)
    segment = np.concatenate(([0], np.cumsum(ends)))
    return np.asarray(np.bincount(segment, sign), np.float64).astype(np.int64)


def mapsswe(a: TextCounts, b: TextCounts) -> Mapsswe:
    """The test of `b` against `a`; `p_holm` is left at `p_value`."""
    differences = segment_differences(a, b)
    count = len(differences)
    mean = float(differences.mean()) if count else 0.0
    deviation = float(differences.std(ddof=1)) if count > 1 else 0.0
    if mean == 0:
        return Mapsswe(count, mean, 0.0, 1.0, 1.0)
    if deviation == 0:  # no variance to divide by: the sign test's p, as all signs agree
        p = smallest_p(count)
        return Mapsswe(count, mean, None, p, p)
    z = mean / (deviation / math.sqrt(count))
    p = math.erfc(abs(z) / math.sqrt(2))
    return Mapsswe(count, mean, z, p, p)
