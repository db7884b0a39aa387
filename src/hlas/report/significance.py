"""How far a WER is to be trusted: bootstrap intervals, and a paired test between two systems.

The formulas are those of M. Bisani and H. Ney, "Bootstrap estimates for confidence intervals in ASR performance
evaluation", ICASSP 2004: draw as many units as there are, with replacement, sum their errors and their words, divide.
All systems see the same draws, so the difference of two columns is the paired bootstrap of their difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SPEAKERS_NEEDED = 10  # with fewer, a bootstrap over speakers says little: utterances are drawn instead
SIGNIFICANT = 0.05
_WEIGHTS_AT_ONCE = 1 << 22  # elements of the weights matrix held at a time: 32 MiB


@dataclass(frozen=True, slots=True)
class Units:
    """What the bootstrap draws. Utterances without words belong to no unit, as they change no rate."""

    kind: Literal["speaker", "utterance"]
    of: Ints  # (utterances,) index of the utterance's unit, -1 for none
    count: int
    speakers: int  # distinct known speakers

    @property
    def note(self) -> str:
        """What the interval covers, in words."""
        if self.kind == "speaker":
            return f"95 % intervals resample the {self.count} speakers"
        return (
            f"95 % intervals resample the {self.count} utterances, as {self.speakers} speakers are known "
            f"(or not all are): they do not cover what new speakers would change"
        )


def choose_units(speakers: Sequence[str], words: Ints) -> Units:
    """Speakers if every utterance has one and there are at least 10, else utterances.

    `speakers` has a name ('' = unknown) and `words` the number of reference words of each utterance.
    """
    scored = np.flatnonzero(words)
    names = [speakers[i] for i in scored]
    known = sorted({name for name in names if name})
    of = np.full(len(words), -1, np.int64)
    if len(known) >= SPEAKERS_NEEDED and all(names):
        index = {name: i for i, name in enumerate(known)}
        of[scored] = [index[name] for name in names]
        return Units("speaker", of, len(known), len(known))
    of[scored] = np.arange(len(scored))
    return Units("utterance", of, len(scored), len(known))


def bootstrap_wer(errors: Sequence[Ints], words: Ints, units: Units, resamples: int, seed: int) -> Floats:
    """WER of every system on every resample: (resamples, systems).

    `errors` holds a (utterances,) array for each system, `words` is (utterances,). The same seed draws the same
    units whatever the number of systems.
    """
    inside = units.of >= 0
    sums = [np.bincount(units.of[inside], column[inside], units.count) for column in (*errors, words)]
    totals = np.stack(sums, axis=1)  # (units, systems + 1), the words last
    rng = np.random.default_rng(seed)
    rows = max(1, _WEIGHTS_AT_ONCE // units.count)
    parts = []
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = rng.integers(0, units.count, (size, units.count))
        drawn += np.arange(size)[:, None] * units.count
        weights = np.bincount(drawn.ravel(), minlength=size * units.count).reshape(size, units.count)
        parts.append(weights @ totals)
    drawn_totals = np.concatenate(parts)
    return np.asarray(drawn_totals[:, :-1] / drawn_totals[:, -1:], np.float64)


def interval95(values: Floats) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of a (resamples,) array."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def two_sided_p(differences: Floats) -> float:
    """Two-sided p of 'no difference': twice the rarer sign's share of the (resamples,) differences.

    A zero counts for both signs and one is added to each count, so identical systems have p = 1 and no p is 0: the
    smallest is 2 / (resamples + 1). One minus half of p is Bisani and Ney's probability of improvement, but for that.
    """
    rarer = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    return float(min(1.0, 2.0 * (rarer + 1) / (len(differences) + 1)))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two systems on the same utterances; a negative `wer_delta` says that `b` makes fewer errors."""

    a: str
    b: str
    split: str
    wer_delta: float  # WER of b minus WER of a
    wer_delta_ci95: tuple[float, float]
    p_value: float
    test: str

    @property
    def significant(self) -> bool:
        """Whether chance is an unlikely explanation (p < 0.05)."""
        return self.p_value < SIGNIFICANT


def describe_test(units: Units, resamples: int) -> str:
    """The test in words, for metrics.json and the page."""
    return f"paired bootstrap over {units.count} {units.kind}s, {resamples} resamples, two-sided"
